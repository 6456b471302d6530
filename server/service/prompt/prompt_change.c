/* PromptService: changing what a prompt is called, and deleting it. */
#include "rpc/write.h"
#include "service/prompt/prompt.h"
#include "service/prompt/word.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

enum { UPDATES_NAME = 1, UPDATES_DESCRIPTION = 2 };

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdatePromptRequest *in, unsigned *fields, struct forge_uuid *id)
{
    static const char *const paths[] = {"name", "description"};
    unsigned given = (in->name[0] != '\0' ? UPDATES_NAME : 0u) | (in->description[0] != '\0' ? UPDATES_DESCRIPTION : 0u);
    validate_uuid(call, "id", in->id, id);
    *fields = validate_update_mask(call, in->update_mask, paths, 2, given);
    if ((*fields & UPDATES_NAME) != 0)
        validate_name(call, "name", in->name);
    if ((*fields & UPDATES_DESCRIPTION) != 0)
        validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    validate_etag(call, "etag", in->etag);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

static void update_queue(struct rpc_call *call, const Forge__V1__UpdatePromptRequest *in, unsigned fields, const struct forge_uuid *id)
{
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_bool(q, (fields & UPDATES_NAME) != 0);
    db_bind_text(q, in->name);
    db_bind_bool(q, (fields & UPDATES_DESCRIPTION) != 0);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    db_queue(q);
}

forge_code prompt_update(struct rpc_call *call, const Forge__V1__UpdatePromptRequest *in, Forge__V1__Prompt *out)
{
    struct prompt_selection current = {0};
    struct forge_uuid project_id;
    unsigned fields;
    forge_code rc = update_check(call, in, &fields, &current.id);
    if (rc != FORGE_OK)
        return rc;
    update_queue(call, in, fields, &current.id);
    struct db_row row;
    rc = prompt_selection_run(call, &current, &row);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_prompts_name"))
        return rpc_call_fail(call, rc, "a prompt named \"%s\" exists already in this project", in->name);
    if (rc != FORGE_OK)
        return rc;
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the prompt has changed since this etag was read");
    db_row_uuid(&row, "project_id", &project_id);
    rpc_write_change(call, "prompt", &current.id, &project_id);
    rc = prompt_from_row(call, &row, out);
    return rc == FORGE_OK ? prompt_words_store_prompt(call, out) : rc;
}

/* What keeps this caller from deleting the prompt of this row. */
static forge_code delete_refuse(struct rpc_call *call, const Forge__V1__DeletePromptRequest *in, const struct db_row *row)
{
    if (db_row_bool(row, "is_protected") && call->principal.role < AUTH_ROLE_ADMIN)
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "the prompt has a protected label: role admin is required");
    if (!reply_etag_matches(in->etag, db_row_int64(row, "row_version")))
        return rpc_call_fail(call, FORGE_ABORTED, "the prompt has changed since this etag was read");
    if (db_row_bool(row, "is_referred_to"))
        return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "IN_USE", "another prompt refers to this one");
    if (db_row_bool(row, "is_evaluated"))
        return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "IN_USE", "a running evaluation uses this prompt");
    return FORGE_OK;
}

forge_code prompt_delete(struct rpc_call *call, const Forge__V1__DeletePromptRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid id, project_id;
    validate_uuid(call, "id", in->id, &id);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    prompt_queue_by_id(call, SQL_LABEL_LOCK_RULES, &id);
    prompt_queue_by_id(call, SQL_PROMPT_LOCK_WHOLE, &id);
    prompt_queue_by_id(call, SQL_PROMPT_LOCK_VERSIONS, &id);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "prompt", in->id, &row);
    if (rc == FORGE_OK)
        rc = delete_refuse(call, in, &row);
    if (rc != FORGE_OK)
        return rc;
    db_row_uuid(&row, "project_id", &project_id);
    rpc_write_change(call, "prompt_delete", &id, &project_id);
    return FORGE_OK;
}
