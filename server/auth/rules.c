#include "auth/rules.h"

#include <string.h>

/* Short names, so that a row fits one line and the table can be read as one. */
#define PUBLIC AUTH_ACCESS_PUBLIC
#define OPERATOR AUTH_ACCESS_OPERATOR
#define ANY AUTH_ACCESS_ANY
#define SESSION AUTH_ACCESS_SESSION
#define VIEWER AUTH_ACCESS_VIEWER
#define DEVELOPER AUTH_ACCESS_DEVELOPER
#define ADMIN AUTH_ACCESS_ADMIN
#define READ AUTH_READ
#define ONCE AUTH_WRITE_ONCE
#define REPEAT AUTH_WRITE_REPEATABLE
#define OWN AUTH_WRITE_OWN
#define INTERACTIVE AUTH_CLASS_INTERACTIVE
#define WRITE AUTH_CLASS_WRITE
#define INGEST AUTH_CLASS_INGEST
#define BATCH AUTH_CLASS_BATCH
#define INLINE AUTH_WAY_INLINE
#define WORKER AUTH_WAY_WORKER
#define COMPUTE AUTH_WAY_COMPUTE
#define YES true
#define NO false
enum { SMALL = 64 << 10, LARGE = 4 << 20 };

/* clang-format off */
const struct auth_rule auth_rules[] = {
    /* method                                             access     ingest write   class        way     slow drain ms     bytes */
    {"forge.v1.ControlService/Ping",                     PUBLIC,    NO,    READ,   INTERACTIVE, INLINE, NO,  YES,  5000,  LARGE},
    {"forge.v1.ControlService/CheckHealth",              PUBLIC,    NO,    READ,   INTERACTIVE, INLINE, NO,  YES,  35000, SMALL},
    {"forge.v1.ControlService/Reflect",                  VIEWER,    NO,    READ,   INTERACTIVE, INLINE, NO,  YES,  5000,  SMALL},
    {"forge.v1.ControlService/CancelCall",               VIEWER,    NO,    READ,   INTERACTIVE, INLINE, NO,  YES,  5000,  SMALL},

    {"forge.v1.OrganizationService/CreateOrganization",  OPERATOR,  NO,    ONCE,   WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/GetOrganization",     VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateOrganization",  ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteOrganization",  ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListOrganizations",   OPERATOR,  NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateUser",          ADMIN,     NO,    ONCE,   WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/GetUser",             VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListUsers",           VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateUser",          ADMIN,     NO,    ONCE,   WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/DeleteUser",          ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/Login",               PUBLIC,    NO,    OWN,    INTERACTIVE, WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/Logout",              SESSION,   NO,    REPEAT, WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ChangePassword",      SESSION,   NO,    ONCE,   WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/WhoAmI",              ANY,       NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateApiKey",        ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/RevokeApiKey",        ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateServiceAccount", ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteServiceAccount", ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateModelProvider", ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateModelProvider", ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteModelProvider", ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateAiModel",       ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateAiModel",       ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteAiModel",       ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/SetModelPrice",       ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListApiKeys",         ADMIN,     NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListServiceAccounts", ADMIN,     NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListAuditEvents",     ADMIN,     NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/GetModelProvider",    VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListModelProviders",  VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/GetAiModel",          VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListAiModels",        VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListModelPrices",     VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/VerifyAuditLog",      ADMIN,     NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},
    {"forge.v1.OrganizationService/GetUsage",            ADMIN,     NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.ProjectService/CreateProject",            DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/GetProject",               VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/ListProjects",             VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/UpdateProject",            DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/DeleteProject",            ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/GetProjectSummary",        VIEWER,    NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.PromptService/CreatePrompt",              DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/GetPrompt",                 VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListPrompts",               VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/UpdatePrompt",              DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DeletePrompt",              DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/BatchGetPrompts",           VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/CreatePromptVersion",       DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/GetPromptVersion",          VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListPromptVersions",        VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DiffPromptVersions",        VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/SetCurrentVersion",         DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/RenderPrompt",              VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/WatchPrompts",              VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   35000, SMALL},
    {"forge.v1.PromptService/SetLabel",                  DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DeleteLabel",               DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListLabels",                VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListLabelHistory",          VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ProtectLabel",              ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/CreateTag",                 DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListTags",                  VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DeleteTag",                 DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/TagPrompt",                 DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/UntagPrompt",               DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/RecordExecution",           DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/RecordExecutions",          DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.PromptService/ListExecutions",            VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/GetPromptStats",            VIEWER,    NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.EvaluationService/CreateDataset",         DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/GetDataset",            VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/ListDatasets",          VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/DeleteDataset",         DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/AddDatasetItems",       DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.EvaluationService/GetDatasetVersion",     VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/ListDatasetItems",      VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CreateEvaluation",      DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.EvaluationService/GetEvaluation",         VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/ListEvaluations",       VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/AddResults",            DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.EvaluationService/ListResults",           VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CompleteEvaluation",    DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CancelEvaluation",      DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/DeleteEvaluation",      DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CompareEvaluations",    VIEWER,    NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.TraceService/IngestSpans",                DEVELOPER, YES,   OWN,    INGEST,      WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.TraceService/GetTrace",                   VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/ListTraces",                 VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/ListSessions",               VIEWER,    NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},
    {"forge.v1.TraceService/GetTraceStats",              VIEWER,    NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},
    {"forge.v1.TraceService/RecordScores",               DEVELOPER, YES,   ONCE,   INGEST,      WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.TraceService/ListScores",                 VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/DeleteScore",                DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/DeleteTrace",                DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/SetRetention",               ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},

    {"forge.v1.PolicyService/CreatePolicy",              ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PolicyService/GetPolicy",                 VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/ListPolicies",              VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/UpdatePolicy",              ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PolicyService/PublishPolicy",             ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/DeletePolicy",              ADMIN,     NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/CheckPolicies",             VIEWER,    NO,    READ,   INTERACTIVE, COMPUTE, NO,  NO,   5000,  LARGE},
    {"forge.v1.PolicyService/ListViolations",            VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/GetViolation",              VIEWER,    NO,    READ,   INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/AcknowledgeViolation",      DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/ResolveViolation",          DEVELOPER, NO,    ONCE,   WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/GetPolicyStats",            VIEWER,    NO,    READ,   BATCH,       WORKER, NO,  NO,   30000, SMALL},
};
/* clang-format on */
const size_t auth_rules_count = sizeof auth_rules / sizeof auth_rules[0];

const struct auth_rule *auth_rule_find(const char *method)
{
    for (size_t i = 0; i < auth_rules_count; i++)
        if (strcmp(auth_rules[i].method, method) == 0)
            return &auth_rules[i];
    return NULL;
}

static const char *role_name(enum auth_role role)
{
    static const char *const names[] = {"none", "viewer", "developer", "admin"};
    return names[role];
}

static enum auth_role needed_role(enum auth_access access)
{
    switch (access) {
    case AUTH_ACCESS_PUBLIC:
    case AUTH_ACCESS_OPERATOR:
    case AUTH_ACCESS_ANY:
    case AUTH_ACCESS_SESSION:
        break;
    case AUTH_ACCESS_VIEWER:
        return AUTH_ROLE_VIEWER;
    case AUTH_ACCESS_DEVELOPER:
        return AUTH_ROLE_DEVELOPER;
    case AUTH_ACCESS_ADMIN:
        return AUTH_ROLE_ADMIN;
    }
    return AUTH_ROLE_NONE;
}

forge_code auth_rule_check(const struct auth_rule *rule, const struct auth_principal *principal, struct forge_error *error)
{
    if (rule->access == AUTH_ACCESS_PUBLIC)
        return FORGE_OK;
    if (principal->kind == AUTH_NOBODY)
        return forge_error_set(error, FORGE_UNAUTHENTICATED, "this method needs a credential");
    if (rule->access == AUTH_ACCESS_ANY)
        return FORGE_OK;
    if ((rule->access == AUTH_ACCESS_OPERATOR) != (principal->kind == AUTH_OPERATOR))
        return forge_error_set(error, FORGE_PERMISSION_DENIED,
                               rule->access == AUTH_ACCESS_OPERATOR ? "this method needs an operator token"
                                                                    : "operator tokens may not call this method");
    if (rule->access == AUTH_ACCESS_SESSION && forge_uuid_is_nil(&principal->session_id))
        return forge_error_set(error, FORGE_PERMISSION_DENIED, "this method needs the session of a user");
    if (rule->ingest && (principal->scopes & AUTH_SCOPE_INGEST))
        return FORGE_OK;
    enum auth_role needed = needed_role(rule->access);
    if (principal->role >= needed)
        return FORGE_OK;
    return forge_error_set(error, FORGE_PERMISSION_DENIED, "this method needs the role %s; the credential has the role %s",
                           role_name(needed), role_name(principal->role));
}
