/* PromptService: versions of prompts, immutable and numbered without gaps. */
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/prompt/content.h"
#include "service/prompt/policy.h"
#include "service/prompt/prompt.h"
#include "service/prompt/reference.h"
#include "service/prompt/word.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

static forge_code version_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__PromptVersion *out)
{
    struct prompt_content_row content;
    forge_code rc = prompt_content_read(call, row, &content);
    if (rc != FORGE_OK)
        return rc;
    out->prompt_id = db_row_uuid_text(row, "prompt_id");
    out->version = db_row_int32(row, "version");
    out->format = content.format;
    out->content = content.content;
    out->n_messages = content.message_count;
    out->messages = content.messages;
    out->system_prompt = content.system_prompt;
    out->n_variables = content.variable_count;
    out->variables = content.variables;
    out->model_id = content.model_id;
    out->model_name = content.model_name;
    out->parameters = content.parameters;
    out->content_hash = content.content_hash;
    out->message = db_row_text_or_empty(row, "version_message");
    out->author_id = db_row_uuid_text(row, "version_author");
    out->create_time = reply_time(call, row, "version_created_at");
    out->current = out->version == db_row_int32(row, "current_version");
    out->labels = db_row_text_array(row, "labels", &out->n_labels);
    return FORGE_OK;
}

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreatePromptVersionRequest *in, struct forge_uuid *prompt_id,
                               struct prompt_content *content)
{
    const struct prompt_content_input input = {in->content,   in->n_messages, in->messages,   in->system_prompt, in->n_variables,
                                               in->variables, in->model_id,   in->parameters, in->message};
    validate_uuid(call, "prompt_id", in->prompt_id, prompt_id);
    prompt_content_check(call, &input, content);
    if (in->expected_current < 0)
        rpc_call_violation(call, "expected_current", "must be 0 or more");
    else if (in->expected_current > 0 && !in->make_current)
        rpc_call_violation(call, "expected_current", "needs make_current");
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    return prompt_content_make(call, &input, content);
}

/* The lock goes out in the same flight, before the statement that numbers the version. history_id: of the move, should there be one. */
static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreatePromptVersionRequest *in,
                                        const struct forge_uuid *prompt_id, const struct prompt_content *content,
                                        const struct forge_uuid *history_id)
{
    prompt_queue_by_id(call, SQL_PROMPT_LOCK, prompt_id);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_CREATE_VERSION);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, &call->principal.id);
    prompt_content_bind(q, content);
    db_bind_bool(q, in->make_current);
    db_bind_uuid(q, history_id);
    prompt_content_bind_model(q, content);
    return q;
}

/* Of a version that has become the current one. row: of prompt_create_version, which names the prompt under its lock. */
static forge_code words_store(struct rpc_call *call, const struct db_row *row, const Forge__V1__PromptVersion *version)
{
    const struct prompt_word_texts texts = {version->prompt_id,
                                            db_row_uuid_text(row, "project_id"),
                                            db_row_text(row, "prompt_name"),
                                            db_row_text_or_empty(row, "prompt_description"),
                                            version->content,
                                            version->n_messages,
                                            version->messages,
                                            version->system_prompt};
    return prompt_words_store(call, &texts);
}

forge_code prompt_create_version(struct rpc_call *call, const Forge__V1__CreatePromptVersionRequest *in, Forge__V1__PromptVersion *out)
{
    struct forge_uuid prompt_id, project_id, history_id;
    struct prompt_content content;
    forge_code rc = create_check(call, in, &prompt_id, &content);
    if (rc != FORGE_OK)
        return rc;
    struct db_row row;
    forge_uuid_v7(&history_id);
    rc = reply_run_found(call, create_statement(call, in, &prompt_id, &content, &history_id), "prompt", in->prompt_id, &row);
    rc = prompt_content_check_model(call, in->model_id, rc, &row);
    if (rc != FORGE_OK)
        return rc;
    int32_t previous = db_row_int32(&row, "previous_version");
    if (in->expected_current > 0 && previous != in->expected_current)
        return rpc_call_fail(call, FORGE_ABORTED, "version %d is current, not %d", previous, in->expected_current);
    out->existing = db_row_bool(&row, "existing");
    rc = out->existing ? FORGE_OK : prompt_references_store(call, &prompt_id, db_row_int32(&row, "version"), &content);
    if (rc != FORGE_OK)
        return rc;
    db_row_uuid(&row, "project_id", &project_id);
    bool is_moved = db_row_int32(&row, "current_version") != previous;
    if (!out->existing || is_moved)
        rpc_write_change(call, "prompt", &prompt_id, &project_id);
    rc = version_from_row(call, &row, out);
    if (rc == FORGE_OK && is_moved)
        rc = words_store(call, &row, out);
    return rc == FORGE_OK && !out->existing ? prompt_policy_check_version(call, &project_id, &prompt_id, &content, out) : rc;
}

forge_code prompt_get_version(struct rpc_call *call, const Forge__V1__GetPromptVersionRequest *in, Forge__V1__PromptVersion *out)
{
    struct forge_uuid prompt_id;
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    if (in->version < 1)
        rpc_call_violation(call, "version", "must be 1 or more");
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_GET_VERSION);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, in->version);
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "prompt", in->prompt_id, &row);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "version"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the prompt has no version %d", in->version);
    return version_from_row(call, &row, out);
}

static struct db_stmt *list_statement(struct rpc_call *call, const Forge__V1__ListPromptVersionsRequest *in,
                                      const struct forge_uuid *prompt_id, const struct forge_uuid *author, const struct rpc_page *page)
{
    bool full = in->view == FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_LIST_VERSIONS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, page->has_key ? (int32_t)page->last_number : INT32_MAX);
    db_bind_uuid(q, author);
    db_bind_int32(q, page->size + 1);
    db_bind_bool(q, full);
    db_bind_int64(q, full ? PROMPT_REPLY_CONTENT_BYTES_MAX : INT64_MAX);
    return q;
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListPromptVersionsResponse *out)
{
    out->versions = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->versions[0]);
    for (int i = 0; out->versions != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__PromptVersion *version = reply_message(call, &forge__v1__prompt_version__descriptor);
        if (version == NULL)
            return FORGE_OK; /* rpc sees the overflow */
        forge_code rc = version_from_row(call, &row, version);
        if (rc != FORGE_OK)
            return rc;
        out->versions[out->n_versions++] = version;
    }
    return FORGE_OK;
}

forge_code prompt_list_versions(struct rpc_call *call, const Forge__V1__ListPromptVersionsRequest *in,
                                Forge__V1__ListPromptVersionsResponse *out)
{
    struct forge_uuid prompt_id, author;
    struct rpc_page page;
    const char *filter = forge_arena_printf(call->arena, "%s|%d|%s", in->prompt_id, (int)in->view, in->author_id);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    bool by_author = in->author_id[0] != '\0';
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    if (by_author)
        validate_uuid(call, "author_id", in->author_id, &author);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_rows rows;
    forge_code rc = db_run_many(list_statement(call, in, &prompt_id, by_author ? &author : NULL, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", in->prompt_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "version"))
        return FORGE_OK;
    int count = rows.count < page.size ? rows.count : page.size;
    rc = list_fill(call, &rows, count, out);
    if (rc == FORGE_OK && db_row_int64(&first, "found") > count && out->n_versions > 0)
        out->next_page_token =
            rpc_page_next(call, filter, filter_size, NULL, out->versions[out->n_versions - 1]->version, &(struct forge_uuid){0});
    return rc;
}
