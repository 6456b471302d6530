/* PromptService: prompts as callers see them, each told as one of its versions. Versions themselves: version.c. */
#include "service/prompt/prompt.h"

#include "rpc/page.h"
#include "rpc/usage.h"
#include "rpc/write.h"
#include "service/prompt/content.h"
#include "service/prompt/label.h"
#include "service/prompt/policy.h"
#include "service/prompt/reference.h"
#include "service/prompt/tag.h"
#include "service/prompt/word.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <stdio.h>
#include <string.h>

/* LIST_FEW_MAX: up to so many prompts that pass a filter of ListPrompts are looked at one by one. */
enum { LIST_TAGS_MAX = 8, LIST_FEW_MAX = 1000, SUBJECT_BYTES_MAX = 255, ETAG_BYTES_MAX = 64 };

forge_code prompt_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Prompt *out)
{
    struct prompt_content_row content;
    forge_code rc = prompt_content_read(call, row, &content);
    if (rc != FORGE_OK)
        return rc;
    out->id = db_row_uuid_text(row, "id");
    out->project_id = db_row_uuid_text(row, "project_id");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->tags = db_row_text_array(row, "tags", &out->n_tags);
    out->version = db_row_int32(row, "version");
    out->current_version = db_row_int32(row, "current_version");
    out->latest_version = db_row_int32(row, "newest_version");
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
    out->version_message = db_row_text_or_empty(row, "version_message");
    out->version_author_id = db_row_uuid_text(row, "version_author");
    out->version_create_time = reply_time(call, row, "version_created_at");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
    return FORGE_OK;
}

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreatePromptRequest *in, struct forge_uuid *project_id,
                               struct prompt_content *content)
{
    const struct prompt_content_input input = {in->content,   in->n_messages, in->messages,   in->system_prompt, in->n_variables,
                                               in->variables, in->model_id,   in->parameters, in->message};
    validate_uuid(call, "project_id", in->project_id, project_id);
    validate_name(call, "name", in->name);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    prompt_tags_check(call, in->n_tags, in->tags, PROMPT_TAGS_MAX);
    prompt_content_check(call, &input, content);
    forge_code rc = validate_end_in_project(call, project_id);
    return rc == FORGE_OK ? prompt_content_make(call, &input, content) : rc;
}

forge_code prompt_create(struct rpc_call *call, const Forge__V1__CreatePromptRequest *in, Forge__V1__Prompt *out)
{
    struct forge_uuid project_id, id, history_id;
    struct prompt_content content;
    forge_code rc = create_check(call, in, &project_id, &content);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&id);
    forge_uuid_v7(&history_id);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &project_id);
    db_bind_uuid(q, &id);
    db_bind_text(q, in->name);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, &call->principal.id);
    prompt_content_bind(q, &content);
    db_bind_uuid(q, &history_id);
    db_bind_text_array(q, (const char *const *)in->tags, in->n_tags);
    prompt_content_bind_model(q, &content);
    struct db_row row;
    rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_prompts_name"))
        return rpc_call_fail(call, rc, "a prompt named \"%s\" exists already in this project", in->name);
    if (rc == FORGE_NOT_FOUND)
        return rpc_call_fail(call, rc, "project %s not found", in->project_id);
    rc = prompt_content_check_model(call, in->model_id, rc, &row);
    if (rc == FORGE_OK)
        rc = prompt_from_row(call, &row, out);
    if (rc == FORGE_OK)
        rc = prompt_tags_require(call, in->n_tags, in->tags, out->n_tags, out->tags);
    if (rc == FORGE_OK)
        rc = prompt_references_store(call, &id, out->version, &content);
    if (rc == FORGE_OK)
        rc = prompt_words_store_prompt(call, out);
    if (rc == FORGE_OK)
        rc = prompt_policy_check_new(call, &project_id, &id, &content, out);
    if (rc == FORGE_OK)
        rpc_write_change(call, "prompt", &id, &project_id);
    return rc;
}

void prompt_queue_by_id(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_queue(q);
}

static const char *path(struct rpc_call *call, const char *prefix, const char *field)
{
    const char *joined = forge_arena_printf(call->arena, "%s%s", prefix, field);
    return joined != NULL ? joined : field;
}

static void selector_check(struct rpc_call *call, const char *prefix, const Forge__V1__GetPromptRequest *in, struct prompt_selection *out)
{
    switch (in->selector_case) {
    case FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION:
        if (in->version < 1)
            rpc_call_violation(call, path(call, prefix, "version"), "must be 1 or more");
        out->version = in->version;
        break;
    case FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL:
        validate_label(call, path(call, prefix, "label"), in->label);
        out->label = in->label;
        break;
    case FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_CURRENT:
    case FORGE__V1__GET_PROMPT_REQUEST__SELECTOR__NOT_SET:
    case _FORGE__V1__GET_PROMPT_REQUEST__SELECTOR__CASE_IS_INT_SIZE:
        break;
    }
    out->is_as_of = in->as_of != NULL && validate_time(call, path(call, prefix, "as_of"), in->as_of, &out->as_of_us);
    if (out->is_as_of && out->as_of_us > call->now_us)
        rpc_call_violation(call, path(call, prefix, "as_of"), "must not be in the future");
    out->subject = in->subject;
    if (strlen(in->subject) > SUBJECT_BYTES_MAX)
        rpc_call_violation(call, path(call, prefix, "subject"), "must be at most %d bytes", SUBJECT_BYTES_MAX);
}

void prompt_selection_check(struct rpc_call *call, const char *prefix, const Forge__V1__GetPromptRequest *in, struct prompt_selection *out)
{
    bool has_id = in->id[0] != '\0', has_name = in->name[0] != '\0' || in->project_id[0] != '\0';
    *out = (struct prompt_selection){.by_name = has_name, .name = in->name};
    if (has_id == has_name)
        rpc_call_violation(call, path(call, prefix, "id"), "either id, or project_id and name, is required");
    else if (has_id)
        validate_uuid(call, path(call, prefix, "id"), in->id, &out->id);
    else {
        validate_uuid(call, path(call, prefix, "project_id"), in->project_id, &out->project_id);
        validate_name(call, path(call, prefix, "name"), in->name);
    }
    selector_check(call, prefix, in, out);
}

/* Of a selection by label: everything in one statement, as of a time too. */
static struct db_stmt *label_statement(struct rpc_call *call, const struct prompt_selection *selection)
{
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_GET_BY_LABEL);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, selection->by_name ? NULL : &selection->id);
    db_bind_uuid(q, selection->by_name ? &selection->project_id : NULL);
    db_bind_text(q, selection->by_name ? selection->name : NULL);
    db_bind_text(q, selection->label);
    db_bind_text(q, selection->subject);
    if (selection->is_as_of)
        db_bind_time_us(q, selection->as_of_us);
    else
        db_bind_null(q);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, selection->known_etag);
    return q;
}

static struct db_stmt *selection_statement(struct rpc_call *call, const struct prompt_selection *selection)
{
    if (selection->label != NULL)
        return label_statement(call, selection);
    struct db_stmt *q = db_stmt(call->db, selection->by_name ? SQL_PROMPT_GET_BY_NAME : SQL_PROMPT_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, selection->by_name ? &selection->project_id : &selection->id);
    if (selection->by_name)
        db_bind_text(q, selection->name);
    if (selection->version > 0)
        db_bind_int32(q, selection->version);
    else
        db_bind_null(q);
    if (!selection->by_name)
        db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, selection->known_etag);
    return q;
}

forge_code prompt_selection_run(struct rpc_call *call, const struct prompt_selection *selection, struct db_row *out_row)
{
    if (selection->by_name && !auth_principal_may_use_project(&call->principal, &selection->project_id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to another project");
    struct db_row row;
    bool found;
    forge_code rc = db_run_optional(selection_statement(call, selection), &row, &found, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (!found && selection->by_name)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt \"%s\" not found", selection->name);
    if (!found) {
        char id[FORGE_UUID_TEXT_SIZE];
        forge_uuid_format(&selection->id, id);
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", id);
    }
    if (db_row_is_null(&row, "version") && selection->label != NULL)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "label \"%s\" of this prompt %s", selection->label,
                             selection->is_as_of ? "did not exist then" : "not found");
    if (db_row_is_null(&row, "version"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "version %d of this prompt not found", selection->version);
    rc = selection->is_as_of && selection->label == NULL ? prompt_selection_go_back(call, selection, &row) : FORGE_OK;
    if (rc == FORGE_OK)
        *out_row = row;
    return rc;
}

void prompt_count_read(struct rpc_call *call, const char *project_id)
{
    struct forge_uuid id;
    if (forge_uuid_parse(project_id, &id))
        rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_PROMPT_READS, &id, 1);
}

/* For a caller who has the rest already. */
static forge_code not_modified_answer(const struct db_row *row, Forge__V1__Prompt *out)
{
    out->id = db_row_uuid_text(row, "id");
    out->project_id = db_row_uuid_text(row, "project_id");
    out->version = db_row_int32(row, "version");
    out->reply_etag = db_row_text(row, "reply_etag");
    out->not_modified = 1;
    return FORGE_OK;
}

forge_code prompt_answer(struct rpc_call *call, const Forge__V1__GetPromptRequest *in, Forge__V1__Prompt *out)
{
    struct prompt_selection selection;
    prompt_selection_check(call, "", in, &selection);
    if (strlen(in->known_etag) > ETAG_BYTES_MAX)
        rpc_call_violation(call, "known_etag", "must be at most %d bytes", ETAG_BYTES_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_row row;
    selection.known_etag = in->known_etag;
    forge_code rc = prompt_selection_run(call, &selection, &row);
    if (rc == FORGE_OK && strcmp(in->known_etag, db_row_text(&row, "reply_etag")) == 0)
        return not_modified_answer(&row, out);
    if (rc == FORGE_OK)
        rc = prompt_from_row(call, &row, out);
    if (rc != FORGE_OK)
        return rc;
    out->reply_etag = db_row_text(&row, "reply_etag");
    if (selection.label == NULL)
        return FORGE_OK;
    out->label = in->label;
    return prompt_label_targets(call, &row, "targets", &out->n_label_targets, &out->label_targets);
}

forge_code prompt_get(struct rpc_call *call, const Forge__V1__GetPromptRequest *in, Forge__V1__Prompt *out)
{
    forge_code rc = prompt_answer(call, in, out);
    if (rc == FORGE_OK)
        prompt_count_read(call, out->project_id);
    return rc;
}

/* What ListPrompts looks for, beside what stands in its request as it is needed. */
struct listing {
    struct forge_uuid project_id, model_id;
    struct text_words words;
    struct rpc_page page;
};

static void list_check_filters(struct rpc_call *call, const Forge__V1__ListPromptsRequest *in, struct listing *out)
{
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    prompt_words_check(call, in->query, &out->words);
    prompt_tags_check(call, in->n_tags, in->tags, LIST_TAGS_MAX);
    if (in->label[0] != '\0')
        validate_label(call, "label", in->label);
    if (in->model_id[0] != '\0')
        validate_uuid(call, "model_id", in->model_id, &out->model_id);
}

static void bind_names(struct db_stmt *q, size_t count, char **names)
{
    if (count > 0)
        db_bind_text_array(q, (const char *const *)names, count);
    else
        db_bind_null(q);
}

static struct db_stmt *list_statement(struct rpc_call *call, const Forge__V1__ListPromptsRequest *in, const struct listing *listing)
{
    const struct rpc_page *page = &listing->page;
    bool full = in->view == FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &listing->project_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page->has_key ? page->last_name : "");
    db_bind_int32(q, page->size + 1);
    db_bind_bool(q, full);
    db_bind_int64(q, full ? PROMPT_REPLY_CONTENT_BYTES_MAX : INT64_MAX);
    bind_names(q, in->n_tags, in->tags);
    db_bind_uuid(q, in->model_id[0] != '\0' ? &listing->model_id : NULL);
    db_bind_text(q, in->label[0] != '\0' ? in->label : NULL);
    bind_names(q, listing->words.count, listing->words.words);
    db_bind_int32(q, LIST_FEW_MAX + 1);
    return q;
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListPromptsResponse *out)
{
    out->prompts = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->prompts[0]);
    for (int i = 0; out->prompts != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Prompt *prompt = reply_message(call, &forge__v1__prompt__descriptor);
        if (prompt == NULL)
            return FORGE_OK; /* rpc sees the overflow */
        forge_code rc = prompt_from_row(call, &row, prompt);
        if (rc != FORGE_OK)
            return rc;
        out->prompts[out->n_prompts++] = prompt;
    }
    return FORGE_OK;
}

forge_code prompt_list(struct rpc_call *call, const Forge__V1__ListPromptsRequest *in, Forge__V1__ListPromptsResponse *out)
{
    struct listing listing = {.page = {0}};
    /* The view is part of the filter: a page cut by content goes on with content. */
    const char *filter =
        forge_arena_printf(call->arena, "%s|%d|%s|%s|%s", in->project_id, (int)in->view, in->model_id, in->label, in->name_prefix);
    for (size_t i = 0; filter != NULL && i < in->n_tags && i < LIST_TAGS_MAX; i++) /* names hold no line breaks */
        filter = forge_arena_printf(call->arena, "%s\n%s", filter, in->tags[i]);
    if (filter != NULL) /* last: it may hold line breaks */
        filter = forge_arena_printf(call->arena, "%s\n\n%s", filter, in->query);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    validate_uuid(call, "project_id", in->project_id, &listing.project_id);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &listing.page);
    list_check_filters(call, in, &listing);
    forge_code rc = validate_end_in_project(call, &listing.project_id);
    if (rc != FORGE_OK)
        return rc;
    struct db_rows rows;
    rc = db_run_many(list_statement(call, in, &listing), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "id"))
        return FORGE_OK;
    int count = rows.count < listing.page.size ? rows.count : listing.page.size;
    rc = list_fill(call, &rows, count, out);
    if (rc == FORGE_OK && db_row_int64(&first, "found") > count && out->n_prompts > 0)
        out->next_page_token = rpc_page_next(call, filter, filter_size, out->prompts[out->n_prompts - 1]->name, 0, &(struct forge_uuid){0});
    return rc;
}
