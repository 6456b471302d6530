/* PolicyService: policies as callers see them; creating and reading them. */
#include "service/policy/policy.h"

#include "db/stmt.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/policy/rules.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <string.h>

enum { LIST_BYTES_MAX = 2 << 20 /* of what callers wrote: the rest of 1,000 policies has room in the 4 MiB of a reply too */ };

/* --- rows ------------------------------------------------------------------------------------------------------------ */

/* What a rules or attachments column is read with. */
static forge_code read_refuse(struct rpc_call *call, forge_code rc, const char *what)
{
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the policy needs too much memory");
    return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored %s of this policy cannot be read", what);
}

static char *hash_text(struct rpc_call *call, const struct db_row *row, const char *column)
{
    size_t size = 0;
    const uint8_t *hash = db_row_bytes(row, column, &size);
    return reply_hex(call, hash, size);
}

/* Mode, hash and rules of a version from these columns; rules that were not asked for are NULL. */
static forge_code version_read(struct rpc_call *call, const struct db_row *row, const char *mode, const char *hash, const char *rules,
                               Forge__V1__PolicyVersion *out)
{
    out->mode = policy_mode_find(db_row_text_or_empty(row, mode));
    out->content_hash = hash_text(call, row, hash);
    if (db_row_is_null(row, rules))
        return FORGE_OK;
    const char *json = db_row_text(row, rules);
    forge_code rc = json == NULL ? FORGE_RESOURCE_EXHAUSTED : policy_rules_read(call->arena, json, &out->rules, &out->n_rules);
    return rc == FORGE_OK ? rc : read_refuse(call, rc, "rules");
}

static forge_code versions_read(struct rpc_call *call, const struct db_row *row, Forge__V1__Policy *out)
{
    Forge__V1__PolicyVersion *draft = reply_message(call, &forge__v1__policy_version__descriptor);
    Forge__V1__PolicyVersion *published = reply_message(call, &forge__v1__policy_version__descriptor);
    if (draft == NULL || published == NULL)
        return read_refuse(call, FORGE_RESOURCE_EXHAUSTED, "");
    out->draft = draft;
    forge_code rc = version_read(call, row, "draft_mode", "draft_hash", "draft_rules", draft);
    if (rc != FORGE_OK || db_row_is_null(row, "version"))
        return rc;
    out->published = published;
    published->version = db_row_int32(row, "version");
    published->message = db_row_text_or_empty(row, "message");
    published->publisher_id = db_row_uuid_text(row, "published_by");
    published->publish_time = reply_time(call, row, "published_at");
    return version_read(call, row, "mode", "content_hash", "rules", published);
}

static forge_code attachments_read(struct rpc_call *call, const struct db_row *row, Forge__V1__Policy *out)
{
    const char *text = db_row_text(row, "attachments");
    ProtobufCMessage *message;
    struct forge_error error = {0};
    if (text == NULL)
        return FORGE_OK;
    char *json = forge_arena_printf(call->arena, "{\"attachments\":%s}", text);
    forge_code rc = json == NULL ? FORGE_RESOURCE_EXHAUSTED
                                 : forge_json_to_message(json, strlen(json), &forge__v1__policy__descriptor, call->arena, &message, &error);
    if (rc != FORGE_OK)
        return read_refuse(call, rc, "attachments");
    const Forge__V1__Policy *policy = (const Forge__V1__Policy *)message;
    out->n_attachments = policy->n_attachments;
    out->attachments = policy->attachments;
    return FORGE_OK;
}

forge_code policy_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Policy *out)
{
    out->id = db_row_uuid_text(row, "id");
    out->project_id = db_row_is_null(row, "project_id") ? forge_arena_strdup(call->arena, "") : db_row_uuid_text(row, "project_id");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->disabled = db_row_bool(row, "disabled");
    out->published_version = db_row_int32(row, "published_version");
    out->draft_changed = db_row_bool(row, "draft_changed");
    out->creator_id = db_row_uuid_text(row, "created_by");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
    forge_code rc = attachments_read(call, row, out);
    return rc == FORGE_OK ? versions_read(call, row, out) : rc;
}

forge_code policy_read(struct rpc_call *call, const struct forge_uuid *id, const char *id_text, int32_t version, Forge__V1__Policy *out)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, version);
    forge_code rc = reply_run_found(call, q, "policy", id_text, &row);
    if (rc == FORGE_OK && version > 0 && db_row_is_null(&row, "version"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the policy has no version %d", version);
    return rc == FORGE_OK ? policy_from_row(call, &row, out) : rc;
}

/* --- CreatePolicy ---------------------------------------------------------------------------------------------------- */

struct creation {
    struct forge_uuid id, project_id;
    bool has_project;
    const char *rules_json;
    uint8_t hash[FORGE_SHA256_SIZE];
};

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreatePolicyRequest *in, struct creation *creation)
{
    creation->has_project = in->project_id[0] != '\0';
    if (creation->has_project)
        validate_uuid(call, "project_id", in->project_id, &creation->project_id);
    validate_name(call, "name", in->name);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    policy_attachments_check(call, in->attachments, in->n_attachments);
    policy_attachments_check_place(call, in->attachments, in->n_attachments, in->project_id);
    forge_code rc = policy_rules_check(call, in->rules, in->n_rules);
    if (rc != FORGE_OK)
        return rc;
    if (creation->has_project)
        return validate_end_in_project(call, &creation->project_id);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : policy_refuse_bound(call, false);
}

static forge_code create_run(struct rpc_call *call, const Forge__V1__CreatePolicyRequest *in, const struct creation *creation)
{
    struct db_row row;
    policy_queue_lock(call);
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->id);
    db_bind_uuid(q, creation->has_project ? &creation->project_id : NULL);
    db_bind_text(q, in->name);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_text(q, policy_mode_name(in->mode));
    db_bind_text(q, creation->rules_json);
    db_bind_bytes(q, creation->hash, sizeof creation->hash);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    db_bind_int32(q, POLICIES_MAX);
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_policies_name"))
        return rpc_call_fail(call, rc, "a policy named \"%s\" exists already", in->name);
    if (rc != FORGE_OK)
        return rc;
    if (!db_row_bool(&row, "project_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    if (!db_row_bool(&row, "has_room"))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "an organization has at most %d policies", POLICIES_MAX);
    return FORGE_OK;
}

forge_code policy_create(struct rpc_call *call, const Forge__V1__CreatePolicyRequest *in, Forge__V1__Policy *out)
{
    struct creation creation = {0};
    char id_text[FORGE_UUID_TEXT_SIZE];
    forge_code rc = create_check(call, in, &creation);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&creation.id);
    forge_uuid_format(&creation.id, id_text);
    creation.rules_json = policy_rules_write(call->arena, in->rules, in->n_rules);
    if (creation.rules_json == NULL || policy_rules_hash(call->arena, in->mode, in->rules, in->n_rules, creation.hash) != FORGE_OK)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the policy needs too much memory");
    rc = create_run(call, in, &creation);
    if (rc == FORGE_OK && in->n_attachments > 0)
        rc = policy_attach(call, &creation.id, in->attachments, in->n_attachments);
    if (rc == FORGE_OK)
        rc = policy_read(call, &creation.id, id_text, 0, out);
    if (rc == FORGE_OK)
        policy_announce(call, "policy.create", &creation.id, NULL, out);
    return rc;
}

/* --- GetPolicy, ListPolicies ----------------------------------------------------------------------------------------- */

forge_code policy_get(struct rpc_call *call, const Forge__V1__GetPolicyRequest *in, Forge__V1__Policy *out)
{
    struct forge_uuid id;
    validate_uuid(call, "id", in->id, &id);
    if (in->version < 0)
        rpc_call_violation(call, "version", "must be 0 or more");
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : policy_read(call, &id, in->id, in->version, out);
}

/* What ListPolicies is asked for, checked. */
struct listing {
    struct forge_uuid project_id;
    bool has_project, has_rules;
    char *filter;
    size_t filter_size;
    struct rpc_page page;
};

static forge_code list_check(struct rpc_call *call, const Forge__V1__ListPoliciesRequest *in, struct listing *listing)
{
    listing->has_project = in->project_id[0] != '\0';
    if (listing->has_project)
        validate_uuid(call, "project_id", in->project_id, &listing->project_id);
    else if (in->include_organization)
        rpc_call_violation(call, "include_organization", "needs project_id");
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    listing->has_rules = in->view == FORGE__V1__POLICY_VIEW__POLICY_VIEW_FULL;
    listing->filter = forge_arena_printf(call->arena, "%s|%d|%s", in->project_id, in->include_organization, in->name_prefix);
    listing->filter_size = listing->filter != NULL ? strlen(listing->filter) : 0;
    rpc_page_read(call, in->page_size, in->page_token, listing->filter, listing->filter_size, &listing->page);
    if (listing->has_project)
        return validate_end_in_project(call, &listing->project_id);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListPoliciesRequest *in, const struct listing *listing,
                           struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, listing->has_project ? &listing->project_id : NULL);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_bool(q, in->include_organization);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, listing->page.has_key ? listing->page.last_name : "");
    db_bind_uuid(q, &listing->page.last_id);
    db_bind_bool(q, listing->has_rules);
    db_bind_int32(q, listing->page.size + 1);
    db_bind_int32(q, LIST_BYTES_MAX);
    return db_run_many(q, rows, &call->error);
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListPoliciesResponse *out)
{
    out->policies = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->policies[0]);
    for (int i = 0; out->policies != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Policy *policy = reply_message(call, &forge__v1__policy__descriptor);
        if (policy == NULL || db_row_is_null(&row, "id"))
            return FORGE_OK; /* rpc sees an overflow; or the one row of a list of none */
        forge_code rc = policy_from_row(call, &row, policy);
        if (rc != FORGE_OK)
            return rc;
        out->policies[out->n_policies++] = policy;
    }
    return FORGE_OK;
}

forge_code policy_list(struct rpc_call *call, const Forge__V1__ListPoliciesRequest *in, Forge__V1__ListPoliciesResponse *out)
{
    struct listing listing = {0};
    struct db_rows rows;
    struct forge_uuid last;
    forge_code rc = list_check(call, in, &listing);
    if (rc == FORGE_OK)
        rc = list_run(call, in, &listing, &rows);
    if (rc != FORGE_OK)
        return rc;
    struct db_row first = db_rows_at(&rows, 0);
    if (!db_row_bool(&first, "is_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    rc = list_fill(call, &rows, rows.count < listing.page.size ? rows.count : listing.page.size, out);
    if (rc != FORGE_OK || out->n_policies == 0 || db_row_int64(&first, "found") <= (int64_t)out->n_policies)
        return rc;
    const Forge__V1__Policy *end = out->policies[out->n_policies - 1];
    if (forge_uuid_parse(end->id, &last))
        out->next_page_token = rpc_page_next(call, listing.filter, listing.filter_size, end->name, 0, &last);
    return FORGE_OK;
}
