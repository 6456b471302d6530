#include "auth/rules.h"

#include <string.h>

/* Short names, so that a row fits one line and the table can be read as one. */
enum { PUBLIC = AUTH_ACCESS_PUBLIC, OPERATOR = AUTH_ACCESS_OPERATOR, PRINCIPAL = AUTH_ACCESS_PRINCIPAL, ANY = AUTH_ACCESS_ANY };
enum { NO_ROLE = AUTH_ROLE_NONE, VIEWER = AUTH_ROLE_VIEWER, DEVELOPER = AUTH_ROLE_DEVELOPER, ADMIN = AUTH_ROLE_ADMIN };
enum { READ = AUTH_READ, ONCE = AUTH_WRITE_ONCE, REPEATABLE = AUTH_WRITE_REPEATABLE, OWN = AUTH_WRITE_OWN };
enum { INTERACTIVE = AUTH_CLASS_INTERACTIVE, WRITE = AUTH_CLASS_WRITE, INGEST = AUTH_CLASS_INGEST, BATCH = AUTH_CLASS_BATCH };
enum { INLINE = AUTH_WAY_INLINE, WORKER = AUTH_WAY_WORKER };
enum { NO = false, YES = true };
enum { SMALL = 64 << 10, LARGE = 4 << 20 };

/* clang-format off */
const struct auth_rule auth_rules[] = {
    /* method                                                access     role       ingest write       class        way     slow drain ms     bytes */
    {"forge.v1.ControlService/Ping",                        PUBLIC,    NO_ROLE,   NO,    READ,       INTERACTIVE, INLINE, NO,  YES,  5000,  LARGE},
    {"forge.v1.ControlService/CheckHealth",                 PUBLIC,    NO_ROLE,   NO,    READ,       INTERACTIVE, INLINE, NO,  YES,  35000, SMALL},
    {"forge.v1.ControlService/Reflect",                     PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, INLINE, NO,  YES,  5000,  SMALL},
    {"forge.v1.ControlService/CancelCall",                  PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, INLINE, NO,  YES,  5000,  SMALL},

    {"forge.v1.OrganizationService/CreateOrganization",     OPERATOR,  NO_ROLE,   NO,    ONCE,       WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/GetOrganization",        PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateOrganization",     PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteOrganization",     PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListOrganizations",      OPERATOR,  NO_ROLE,   NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateUser",             PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/GetUser",                PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListUsers",              PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateUser",             PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/DeleteUser",             PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/Login",                  PUBLIC,    NO_ROLE,   NO,    OWN,        INTERACTIVE, WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/Logout",                 PRINCIPAL, VIEWER,    NO,    REPEATABLE, WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ChangePassword",         PRINCIPAL, VIEWER,    NO,    ONCE,       WRITE,       WORKER, YES, NO,   10000, SMALL},
    {"forge.v1.OrganizationService/WhoAmI",                 ANY,       NO_ROLE,   NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateApiKey",           PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/RevokeApiKey",           PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateServiceAccount",   PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteServiceAccount",   PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateModelProvider",    PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateModelProvider",    PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteModelProvider",    PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/CreateAiModel",          PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/UpdateAiModel",          PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/DeleteAiModel",          PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/SetModelPrice",          PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListApiKeys",            PRINCIPAL, ADMIN,     NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListServiceAccounts",    PRINCIPAL, ADMIN,     NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListAuditEvents",        PRINCIPAL, ADMIN,     NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/GetModelProvider",       PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListModelProviders",     PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/GetAiModel",             PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListAiModels",           PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/ListModelPrices",        PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.OrganizationService/VerifyAuditLog",         PRINCIPAL, ADMIN,     NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},
    {"forge.v1.OrganizationService/GetUsage",               PRINCIPAL, ADMIN,     NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.ProjectService/CreateProject",               PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/GetProject",                  PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/ListProjects",                PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/UpdateProject",               PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/DeleteProject",               PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.ProjectService/GetProjectSummary",           PRINCIPAL, VIEWER,    NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.PromptService/CreatePrompt",                 PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/GetPrompt",                    PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListPrompts",                  PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/UpdatePrompt",                 PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DeletePrompt",                 PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/BatchGetPrompts",              PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/CreatePromptVersion",          PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/GetPromptVersion",             PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListPromptVersions",           PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DiffPromptVersions",           PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/SetCurrentVersion",            PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/RenderPrompt",                 PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PromptService/WatchPrompts",                 PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   35000, SMALL},
    {"forge.v1.PromptService/SetLabel",                     PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DeleteLabel",                  PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListLabels",                   PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListLabelHistory",             PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ProtectLabel",                 PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/CreateTag",                    PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/ListTags",                     PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/DeleteTag",                    PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/TagPrompt",                    PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/UntagPrompt",                  PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/RecordExecution",              PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/RecordExecutions",             PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.PromptService/ListExecutions",               PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PromptService/GetPromptStats",               PRINCIPAL, VIEWER,    NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.EvaluationService/CreateDataset",            PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/GetDataset",               PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/ListDatasets",             PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/DeleteDataset",            PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/AddDatasetItems",          PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.EvaluationService/GetDatasetVersion",        PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/ListDatasetItems",         PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CreateEvaluation",         PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.EvaluationService/GetEvaluation",            PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/ListEvaluations",          PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/AddResults",               PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.EvaluationService/ListResults",              PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CompleteEvaluation",       PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CancelEvaluation",         PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/DeleteEvaluation",         PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.EvaluationService/CompareEvaluations",       PRINCIPAL, VIEWER,    NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},

    {"forge.v1.TraceService/IngestSpans",                   PRINCIPAL, DEVELOPER, YES,   OWN,        INGEST,      WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.TraceService/GetTrace",                      PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/ListTraces",                    PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/ListSessions",                  PRINCIPAL, VIEWER,    NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},
    {"forge.v1.TraceService/GetTraceStats",                 PRINCIPAL, VIEWER,    NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},
    {"forge.v1.TraceService/RecordScores",                  PRINCIPAL, DEVELOPER, YES,   ONCE,       INGEST,      WORKER, NO,  NO,   10000, LARGE},
    {"forge.v1.TraceService/ListScores",                    PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/DeleteScore",                   PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/DeleteTrace",                   PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.TraceService/SetRetention",                  PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},

    {"forge.v1.PolicyService/CreatePolicy",                 PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PolicyService/GetPolicy",                    PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/ListPolicies",                 PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/UpdatePolicy",                 PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PolicyService/PublishPolicy",                PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/DeletePolicy",                 PRINCIPAL, ADMIN,     NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/CheckPolicies",                PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  LARGE},
    {"forge.v1.PolicyService/ListViolations",               PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/GetViolation",                 PRINCIPAL, VIEWER,    NO,    READ,       INTERACTIVE, WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/AcknowledgeViolation",         PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/ResolveViolation",             PRINCIPAL, DEVELOPER, NO,    ONCE,       WRITE,       WORKER, NO,  NO,   5000,  SMALL},
    {"forge.v1.PolicyService/GetPolicyStats",               PRINCIPAL, VIEWER,    NO,    READ,       BATCH,       WORKER, NO,  NO,   30000, SMALL},
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
    switch (role) {
    case AUTH_ROLE_NONE:
        return "none";
    case AUTH_ROLE_VIEWER:
        return "viewer";
    case AUTH_ROLE_DEVELOPER:
        return "developer";
    case AUTH_ROLE_ADMIN:
        return "admin";
    }
    return "none";
}

static forge_code check_role(const struct auth_rule *rule, const struct auth_principal *principal, struct forge_error *error)
{
    if (principal->kind == AUTH_OPERATOR)
        return forge_error_set(error, FORGE_PERMISSION_DENIED, "operator tokens may not call this method");
    if (principal->role >= rule->role || (rule->ingest && (principal->scopes & AUTH_SCOPE_INGEST)))
        return FORGE_OK;
    return forge_error_set(error, FORGE_PERMISSION_DENIED, "this method needs the role %s; the credential has %s", role_name(rule->role),
                           role_name(principal->role));
}

forge_code auth_rule_check(const struct auth_rule *rule, const struct auth_principal *principal, struct forge_error *error)
{
    if (rule->access == AUTH_ACCESS_PUBLIC)
        return FORGE_OK;
    if (principal->kind == AUTH_NOBODY)
        return forge_error_set(error, FORGE_UNAUTHENTICATED, "this method needs a credential");
    if (rule->access == AUTH_ACCESS_PRINCIPAL)
        return check_role(rule, principal, error);
    if (rule->access == AUTH_ACCESS_OPERATOR && principal->kind != AUTH_OPERATOR)
        return forge_error_set(error, FORGE_PERMISSION_DENIED, "this method needs an operator token");
    return FORGE_OK;
}
