/* What requests say about policies, checked, and what stands in the way of their changes. */
#include "db/stmt.h"
#include "policy/policy.h"
#include "rpc/write.h"
#include "service/policy/book.h"
#include "service/policy/policy.h"
#include "service/policy/rules.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { FIELD_SIZE = 96 };

/* --- rules ----------------------------------------------------------------------------------------------------------- */

/* Ids of models in the one spelling that they are compared in. A model need not exist: a list may outlive it, and a name in place of an id
 * would let no model pass. */
static void models_check(struct rpc_call *call, const Forge__V1__AllowedModelsRule *rule, size_t index)
{
    for (size_t i = 0; i < rule->n_model_ids; i++) {
        char field[FIELD_SIZE], text[FORGE_UUID_TEXT_SIZE];
        struct forge_uuid id;
        snprintf(field, sizeof field, "rules[%zu].allowed_models.model_ids[%zu]", index, i);
        if (rule->model_ids[i][0] == '\0' || !validate_uuid(call, field, rule->model_ids[i], &id))
            continue; /* the first is refused with what a rule has to look like */
        forge_uuid_format(&id, text);
        char *copy = forge_arena_strdup(call->arena, text);
        rule->model_ids[i] = copy != NULL ? copy : rule->model_ids[i]; /* rpc sees the overflow */
    }
}

forge_code policy_rules_check(struct rpc_call *call, Forge__V1__PolicyRule *const *rules, size_t count)
{
    const struct policy_source source = {.id = "", .rules = (const Forge__V1__PolicyRule *const *)rules, .rule_count = count};
    struct policy_set *set = NULL;
    forge_code rc = policy_set_prepare(&source, 1, call->arena, &call->error, &set);
    policy_set_free(set);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the rules need too much memory");
    policy_rules_fill_in(rules, count);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (rules[i]->kind_case == FORGE__V1__POLICY_RULE__KIND_ALLOWED_MODELS)
            models_check(call, rules[i]->allowed_models, i);
        bytes += forge__v1__policy_rule__get_packed_size(rules[i]);
    }
    if (bytes > POLICY_RULES_BYTES_MAX)
        rpc_call_violation(call, "rules", "must be at most %d bytes together, packed", POLICY_RULES_BYTES_MAX);
    return FORGE_OK;
}

/* --- attachments ----------------------------------------------------------------------------------------------------- */

/* "" for the organization. */
static const char *target_of(const Forge__V1__PolicyAttachment *attachment)
{
    switch (attachment->target_case) {
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_PROJECT_ID:
        return attachment->project_id;
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_LABEL:
        return attachment->label;
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_MODEL_ID:
        return attachment->model_id;
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_ORGANIZATION:
    case FORGE__V1__POLICY_ATTACHMENT__TARGET__NOT_SET:
    case _FORGE__V1__POLICY_ATTACHMENT__TARGET__CASE_IS_INT_SIZE:
        break;
    }
    return "";
}

/* Labels have no capital letters, so that ids alone may be spelled two ways. */
static bool is_given_before(Forge__V1__PolicyAttachment *const *attachments, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (attachments[i]->target_case == attachments[index]->target_case &&
            strcasecmp(target_of(attachments[i]), target_of(attachments[index])) == 0)
            return true;
    return false;
}

static bool attachment_check(struct rpc_call *call, const Forge__V1__PolicyAttachment *attachment, size_t index)
{
    char field[FIELD_SIZE];
    struct forge_uuid id;
    switch (attachment->target_case) {
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_ORGANIZATION:
        snprintf(field, sizeof field, "attachments[%zu].organization", index);
        if (!attachment->organization)
            rpc_call_violation(call, field, "must be true");
        return attachment->organization;
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_PROJECT_ID:
        snprintf(field, sizeof field, "attachments[%zu].project_id", index);
        return validate_uuid(call, field, attachment->project_id, &id);
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_LABEL:
        snprintf(field, sizeof field, "attachments[%zu].label", index);
        return validate_label(call, field, attachment->label);
    case FORGE__V1__POLICY_ATTACHMENT__TARGET_MODEL_ID:
        snprintf(field, sizeof field, "attachments[%zu].model_id", index);
        return validate_uuid(call, field, attachment->model_id, &id);
    case FORGE__V1__POLICY_ATTACHMENT__TARGET__NOT_SET:
    case _FORGE__V1__POLICY_ATTACHMENT__TARGET__CASE_IS_INT_SIZE:
        break;
    }
    snprintf(field, sizeof field, "attachments[%zu]", index);
    rpc_call_violation(call, field, "exactly one of organization, project_id, label and model_id is required");
    return false;
}

void policy_attachments_check(struct rpc_call *call, Forge__V1__PolicyAttachment *const *attachments, size_t count)
{
    if (count > POLICY_ATTACHMENTS_MAX) {
        rpc_call_violation(call, "attachments", "must be at most %d", POLICY_ATTACHMENTS_MAX);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        char field[FIELD_SIZE];
        snprintf(field, sizeof field, "attachments[%zu]", i);
        if (attachment_check(call, attachments[i], i) && is_given_before(attachments, i))
            rpc_call_violation(call, field, "is given twice");
    }
}

void policy_attachments_check_place(struct rpc_call *call, Forge__V1__PolicyAttachment *const *attachments, size_t count,
                                    const char *project_id)
{
    if (project_id[0] == '\0')
        return;
    for (size_t i = 0; i < count && i < POLICY_ATTACHMENTS_MAX; i++) {
        char field[FIELD_SIZE];
        if (attachments[i]->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_ORGANIZATION) {
            snprintf(field, sizeof field, "attachments[%zu].organization", i);
            rpc_call_violation(call, field, "is for policies of the organization, this one belongs to a project");
        } else if (attachments[i]->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_PROJECT_ID &&
                   strcasecmp(attachments[i]->project_id, project_id) != 0) {
            snprintf(field, sizeof field, "attachments[%zu].project_id", i);
            rpc_call_violation(call, field, "must be the project that the policy belongs to");
        }
    }
}

forge_code policy_attach(struct rpc_call *call, const struct forge_uuid *id, Forge__V1__PolicyAttachment *const *attachments, size_t count)
{
    const struct forge_json_options options = {.with_defaults = false};
    Forge__V1__Policy policy = FORGE__V1__POLICY__INIT;
    struct db_row row;
    policy.n_attachments = count;
    policy.attachments = (Forge__V1__PolicyAttachment **)(uintptr_t)attachments; /* only read */
    const char *json = forge_json_from_message(&policy.base, &options, call->arena);
    if (json == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the attachments need too much memory");
    struct db_stmt *clear = db_stmt(call->db, SQL_POLICY_CLEAR_ATTACHMENTS);
    db_bind_uuid(clear, &call->principal.organization_id);
    db_bind_uuid(clear, id);
    db_queue(clear);
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_ATTACH);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_text(q, json);
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc != FORGE_OK || db_row_is_null(&row, "position"))
        return rc;
    int32_t position = db_row_int32(&row, "position");
    bool is_model = attachments[position]->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_MODEL_ID;
    return rpc_call_fail(call, FORGE_NOT_FOUND, "attachments[%d].%s: %s %s not found", position, is_model ? "model_id" : "project_id",
                         is_model ? "model" : "project", target_of(attachments[position]));
}

/* --- what stands in the way ------------------------------------------------------------------------------------------ */

void policy_queue_lock(struct rpc_call *call)
{
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_LOCK);
    db_bind_uuid(q, &call->principal.organization_id);
    db_queue(q);
}

forge_code policy_refuse_bound(struct rpc_call *call, bool has_project)
{
    if (has_project || auth_principal_bound_project(&call->principal) == NULL)
        return FORGE_OK;
    return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to one project and cannot change policies of the organization");
}

/* Compiles what is in force now, as every server will: how large that is no statement can tell. */
static forge_code refuse_compiled(struct rpc_call *call)
{
    struct policy_book *book;
    forge_code rc = policy_book_load(call, NULL, &book);
    if (rc != FORGE_OK)
        return rc;
    if (book->set == NULL)
        rc = rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the organization's policies in force would not compile together: %s",
                           book->failure.message);
    else if (policy_set_compiled_bytes(book->set) > POLICY_IN_FORCE_COMPILED_BYTES_MAX)
        rc =
            rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED,
                          "the organization's policies in force would hold %zu bytes of compiled patterns together, at most %d are allowed",
                          policy_set_compiled_bytes(book->set), POLICY_IN_FORCE_COMPILED_BYTES_MAX);
    policy_book_unref(book);
    return rc;
}

forge_code policy_refuse_in_force(struct rpc_call *call)
{
    static const struct {
        const char *column, *what;
        int64_t most;
    } limits[] = {
        {"rule_count", "rules", POLICY_IN_FORCE_RULES_MAX},
        {"pattern_count", "patterns", POLICY_SET_PATTERNS_MAX},
        {"pattern_bytes", "bytes of patterns", POLICY_SET_PATTERN_BYTES_MAX},
        {"keyword_bytes", "bytes of keywords", POLICY_SET_KEYWORD_BYTES_MAX},
        {"schema_bytes", "bytes of schemas", POLICY_SET_SCHEMA_BYTES_MAX},
        {"rule_bytes", "bytes of rules", POLICY_IN_FORCE_BYTES_MAX},
    };
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_IN_FORCE_SIZES);
    db_bind_uuid(q, &call->principal.organization_id);
    forge_code rc = db_run_one(q, &row, &call->error);
    for (size_t i = 0; rc == FORGE_OK && i < sizeof limits / sizeof limits[0]; i++) {
        int64_t size = db_row_int64(&row, limits[i].column);
        if (size > limits[i].most)
            rc = rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED,
                               "the organization's policies in force would hold %lld %s together, at most %lld are allowed",
                               (long long)size, limits[i].what, (long long)limits[i].most);
    }
    return rc == FORGE_OK ? refuse_compiled(call) : rc;
}

/* --- what was done --------------------------------------------------------------------------------------------------- */

/* A version without its rules: there may be a megabyte of them, and the hash tells which they were. */
static Forge__V1__PolicyVersion *without_rules(const Forge__V1__PolicyVersion *version, Forge__V1__PolicyVersion *copy)
{
    if (version == NULL)
        return NULL;
    *copy = *version;
    copy->n_rules = 0;
    return copy;
}

static const char *audit_json(struct rpc_call *call, const Forge__V1__Policy *policy)
{
    const struct forge_json_options options = {.with_defaults = false};
    Forge__V1__PolicyVersion draft, published;
    Forge__V1__Policy copy = *policy;
    copy.draft = without_rules(policy->draft, &draft);
    copy.published = without_rules(policy->published, &published);
    return forge_json_from_message(&copy.base, &options, call->arena);
}

void policy_announce(struct rpc_call *call, const char *action, const struct forge_uuid *id, const Forge__V1__Policy *before,
                     const Forge__V1__Policy *after)
{
    const char *project_text = (after != NULL ? after : before)->project_id;
    struct forge_uuid project_id;
    bool has_project = forge_uuid_parse(project_text, &project_id);
    rpc_write_change(call, "policy", id, has_project ? &project_id : NULL);
    const char *old_json = before != NULL ? audit_json(call, before) : NULL, *new_json = after != NULL ? audit_json(call, after) : NULL;
    const char *details = old_json != NULL && new_json != NULL
                              ? forge_arena_printf(call->arena, "{\"old\": %s, \"new\": %s}", old_json, new_json)
                          : new_json != NULL ? new_json
                                             : old_json;
    rpc_write_audit(call, action, "policy", id, details);
}
