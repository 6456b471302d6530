/* PromptService: moving the current version, and which one it was at a time. */
#include "rpc/write.h"
#include "service/prompt/content.h"
#include "service/prompt/prompt.h"
#include "service/prompt/word.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

static forge_code set_check(struct rpc_call *call, const Forge__V1__SetCurrentVersionRequest *in, struct forge_uuid *prompt_id)
{
    validate_uuid(call, "prompt_id", in->prompt_id, prompt_id);
    switch (in->target_case) {
    case FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION:
        if (in->version < 1)
            rpc_call_violation(call, "version", "must be 1 or more");
        break;
    case FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_PREVIOUS:
        if (!in->previous)
            rpc_call_violation(call, "previous", "must be true");
        break;
    case FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET__NOT_SET:
    case _FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET__CASE_IS_INT_SIZE:
        rpc_call_violation(call, "version", "exactly one of version and previous is required");
        break;
    }
    if (in->expected_version < 0)
        rpc_call_violation(call, "expected_version", "must be 0 or more");
    validate_text(call, "message", in->message, PROMPT_NOTE_CHARACTERS_MAX);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

/* The lock goes out in the same flight, before the statement that looks and moves. */
static struct db_stmt *set_statement(struct rpc_call *call, const Forge__V1__SetCurrentVersionRequest *in,
                                     const struct forge_uuid *prompt_id, const struct forge_uuid *history_id)
{
    prompt_queue_by_id(call, SQL_PROMPT_LOCK, prompt_id);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_SET_CURRENT);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    if (in->target_case == FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION)
        db_bind_int32(q, in->version);
    else
        db_bind_null(q);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, history_id);
    db_bind_uuid(q, &call->principal.id);
    db_bind_text(q, in->message[0] != '\0' ? in->message : NULL);
    return q;
}

static forge_code set_refuse(struct rpc_call *call, const Forge__V1__SetCurrentVersionRequest *in, const struct db_row *row)
{
    int32_t before = db_row_int32(row, "previous_version");
    if (in->expected_version > 0 && before != in->expected_version)
        return rpc_call_fail(call, FORGE_ABORTED, "version %d is current, not %d", before, in->expected_version);
    if (!db_row_is_null(row, "target_version"))
        return FORGE_OK;
    if (in->target_case == FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the prompt has no version %d", in->version);
    return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "no version was current before version %d", before);
}

/* The prompt is read in a flight of its own: it has the columns of GetPrompt, and such moves are rare. */
forge_code prompt_set_current_version(struct rpc_call *call, const Forge__V1__SetCurrentVersionRequest *in, Forge__V1__Prompt *out)
{
    struct prompt_selection current = {0};
    struct forge_uuid project_id, history_id;
    forge_code rc = set_check(call, in, &current.id);
    if (rc != FORGE_OK)
        return rc;
    struct db_row row;
    forge_uuid_v7(&history_id);
    rc = reply_run_found(call, set_statement(call, in, &current.id, &history_id), "prompt", in->prompt_id, &row);
    if (rc == FORGE_OK)
        rc = set_refuse(call, in, &row);
    if (rc != FORGE_OK)
        return rc;
    db_row_uuid(&row, "project_id", &project_id);
    bool is_moved = db_row_int32(&row, "target_version") != db_row_int32(&row, "previous_version");
    if (is_moved)
        rpc_write_change(call, "prompt", &current.id, &project_id);
    rc = prompt_selection_run(call, &current, &row);
    if (rc == FORGE_OK)
        rc = prompt_from_row(call, &row, out);
    return rc == FORGE_OK && is_moved ? prompt_words_store_prompt(call, out) : rc;
}

forge_code prompt_selection_go_back(struct rpc_call *call, const struct prompt_selection *selection, struct db_row *row)
{
    struct prompt_selection then = {.known_etag = selection->known_etag};
    struct db_row at;
    bool found;
    if (selection->version > 0)
        return db_row_time_us(row, "version_created_at") <= selection->as_of_us
                   ? FORGE_OK
                   : rpc_call_fail(call, FORGE_NOT_FOUND, "version %d of this prompt did not exist then", selection->version);
    db_row_uuid(row, "id", &then.id);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_CURRENT_AT);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &then.id);
    db_bind_time_us(q, selection->as_of_us);
    forge_code rc = db_run_optional(q, &at, &found, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (!found)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "this prompt did not exist then");
    then.version = db_row_int32(&at, "version");
    return then.version == db_row_int32(row, "version") ? FORGE_OK : prompt_selection_run(call, &then, row);
}
