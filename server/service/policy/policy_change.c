/* PolicyService: changing, publishing and deleting policies. */
#include "db/stmt.h"
#include "service/policy/policy.h"
#include "service/policy/rules.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

/* --- UpdatePolicy ---------------------------------------------------------------------------------------------------- */

enum { UPDATES_NAME = 1, UPDATES_DESCRIPTION = 2, UPDATES_DISABLED = 4, UPDATES_MODE = 8, UPDATES_RULES = 16, UPDATES_ATTACHMENTS = 32 };

struct update {
    struct forge_uuid id;
    unsigned fields;
};

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdatePolicyRequest *in, struct update *update)
{
    static const char *const paths[] = {"name", "description", "disabled", "mode", "rules", "attachments"};
    unsigned given = (in->name[0] != '\0' ? UPDATES_NAME : 0u) | (in->description[0] != '\0' ? UPDATES_DESCRIPTION : 0u) |
                     (in->disabled ? UPDATES_DISABLED : 0u) | (in->mode != 0 ? UPDATES_MODE : 0u) | (in->n_rules > 0 ? UPDATES_RULES : 0u) |
                     (in->n_attachments > 0 ? UPDATES_ATTACHMENTS : 0u);
    forge_code rc = FORGE_OK;
    validate_uuid(call, "id", in->id, &update->id);
    update->fields = validate_update_mask(call, in->update_mask, paths, sizeof paths / sizeof paths[0], given);
    if ((update->fields & UPDATES_NAME) != 0)
        validate_name(call, "name", in->name);
    if ((update->fields & UPDATES_DESCRIPTION) != 0)
        validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    if ((update->fields & UPDATES_ATTACHMENTS) != 0)
        policy_attachments_check(call, in->attachments, in->n_attachments);
    validate_etag(call, "etag", in->etag);
    if ((update->fields & UPDATES_RULES) != 0)
        rc = policy_rules_check(call, in->rules, in->n_rules);
    return rc == FORGE_OK && rpc_call_has_violations(call) ? rpc_call_invalid(call) : rc;
}

/* The request against the policy as it is. */
static forge_code update_refuse(struct rpc_call *call, const Forge__V1__UpdatePolicyRequest *in, const struct update *update,
                                const Forge__V1__Policy *old)
{
    forge_code rc = policy_refuse_bound(call, old->project_id[0] != '\0');
    if (rc != FORGE_OK)
        return rc;
    if (in->etag[0] != '\0' && strcmp(in->etag, old->etag) != 0)
        return rpc_call_fail(call, FORGE_ABORTED, "the policy has changed since this etag was read");
    if ((update->fields & UPDATES_ATTACHMENTS) != 0)
        policy_attachments_check_place(call, in->attachments, in->n_attachments, old->project_id);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

/* Goes out with what is run next. Mode and rules that are not given are those of the draft: the hash is over both. */
static forge_code update_queue(struct rpc_call *call, const Forge__V1__UpdatePolicyRequest *in, const struct update *update,
                               const Forge__V1__Policy *old)
{
    bool has_rules = (update->fields & UPDATES_RULES) != 0;
    Forge__V1__PolicyMode mode = (update->fields & UPDATES_MODE) != 0 ? in->mode : old->draft->mode;
    const char *rules_json = has_rules ? policy_rules_write(call->arena, in->rules, in->n_rules) : NULL;
    const char *description = (update->fields & UPDATES_DESCRIPTION) != 0 ? in->description : old->description;
    uint8_t *hash = forge_arena_alloc(call->arena, FORGE_SHA256_SIZE);
    if (hash == NULL || (has_rules && rules_json == NULL) ||
        policy_rules_hash(call->arena, mode, has_rules ? in->rules : old->draft->rules, has_rules ? in->n_rules : old->draft->n_rules,
                          hash) != FORGE_OK)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the policy needs too much memory");
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &update->id);
    db_bind_text(q, (update->fields & UPDATES_NAME) != 0 ? in->name : old->name);
    db_bind_text(q, description[0] != '\0' ? description : NULL);
    db_bind_bool(q, (update->fields & UPDATES_DISABLED) != 0 ? in->disabled : old->disabled);
    db_bind_text(q, policy_mode_name(mode));
    db_bind_text(q, rules_json);
    db_bind_bytes(q, hash, FORGE_SHA256_SIZE);
    db_bind_time_us(q, call->now_us);
    db_queue(q);
    return FORGE_OK;
}

forge_code policy_update(struct rpc_call *call, const Forge__V1__UpdatePolicyRequest *in, Forge__V1__Policy *out)
{
    struct update update = {0};
    Forge__V1__Policy old = FORGE__V1__POLICY__INIT;
    forge_code rc = update_check(call, in, &update);
    if (rc != FORGE_OK)
        return rc;
    policy_queue_lock(call);
    rc = policy_read(call, &update.id, in->id, 0, &old);
    if (rc == FORGE_OK)
        rc = update_refuse(call, in, &update, &old);
    if (rc == FORGE_OK && (update.fields & UPDATES_ATTACHMENTS) != 0)
        rc = policy_attach(call, &update.id, in->attachments, in->n_attachments);
    if (rc == FORGE_OK)
        rc = update_queue(call, in, &update, &old);
    if (rc == FORGE_OK)
        rc = policy_read(call, &update.id, in->id, 0, out);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_policies_name"))
        return rpc_call_fail(call, rc, "a policy named \"%s\" exists already", in->name);
    if (rc == FORGE_OK && old.disabled && !out->disabled)
        rc = policy_refuse_in_force(call);
    if (rc == FORGE_OK)
        policy_announce(call, "policy.update", &update.id, &old, out);
    return rc;
}

/* --- PublishPolicy --------------------------------------------------------------------------------------------------- */

/* A draft that is in force already is no refusal: *out_published is false then. */
static forge_code publish_run(struct rpc_call *call, const Forge__V1__PublishPolicyRequest *in, const struct forge_uuid *id,
                              bool *out_published)
{
    struct db_row row;
    policy_queue_lock(call);
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_PUBLISH);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, in->message[0] != '\0' ? in->message : NULL);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    forge_code rc = reply_run_found(call, q, "policy", in->id, &row);
    if (rc == FORGE_OK)
        rc = policy_refuse_bound(call, !db_row_is_null(&row, "project_id"));
    if (rc != FORGE_OK)
        return rc;
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version")))
        return rpc_call_fail(call, FORGE_ABORTED, "the policy has changed since this etag was read");
    if (db_row_int32(&row, "rule_count") == 0)
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the draft has no rules");
    *out_published = db_row_bool(&row, "is_changed");
    return *out_published ? policy_refuse_in_force(call) : FORGE_OK;
}

forge_code policy_publish(struct rpc_call *call, const Forge__V1__PublishPolicyRequest *in, Forge__V1__Policy *out)
{
    struct forge_uuid id;
    bool is_published = false;
    validate_uuid(call, "id", in->id, &id);
    validate_text(call, "message", in->message, POLICY_MESSAGE_CHARACTERS_MAX);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = publish_run(call, in, &id, &is_published);
    if (rc == FORGE_OK)
        rc = policy_read(call, &id, in->id, 0, out);
    if (rc == FORGE_OK && is_published)
        policy_announce(call, "policy.publish", &id, NULL, out);
    return rc;
}

/* --- DeletePolicy ---------------------------------------------------------------------------------------------------- */

forge_code policy_delete(struct rpc_call *call, const Forge__V1__DeletePolicyRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid id;
    Forge__V1__Policy old = FORGE__V1__POLICY__INIT;
    validate_uuid(call, "id", in->id, &id);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    policy_queue_lock(call);
    forge_code rc = policy_read(call, &id, in->id, 0, &old);
    if (rc == FORGE_OK)
        rc = policy_refuse_bound(call, old.project_id[0] != '\0');
    if (rc == FORGE_OK && in->etag[0] != '\0' && strcmp(in->etag, old.etag) != 0)
        rc = rpc_call_fail(call, FORGE_ABORTED, "the policy has changed since this etag was read");
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    rc = db_run_command(q, NULL, &call->error);
    if (rc == FORGE_OK)
        policy_announce(call, "policy.delete", &id, &old, NULL);
    return rc;
}
