/* TraceService: ListScores. */
#include "service/trace/score.h"

#include "rpc/page.h"
#include "service/reply.h"
#include "service/trace/trace_reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <stdlib.h>
#include <string.h>

enum { TRACE_ID_DIGITS = 2 * TRACE_ID_BYTES, SPAN_ID_DIGITS = 2 * TRACE_SPAN_ID_BYTES };
static const struct forge_uuid before_all_ids;

/* --- rows ------------------------------------------------------------------------------------------------------------ */

static void span_from_text(struct rpc_call *call, const char *text, Forge__V1__Score *out)
{
    Forge__V1__SpanReference *span = reply_message(call, &forge__v1__span_reference__descriptor);
    if (span == NULL || strlen(text) != TRACE_ID_DIGITS + 1 + SPAN_ID_DIGITS)
        return;
    span->trace_id = forge_arena_strndup(call->arena, text, TRACE_ID_DIGITS);
    span->span_id = forge_arena_strdup(call->arena, text + TRACE_ID_DIGITS + 1);
    out->target_case = FORGE__V1__SCORE__TARGET_SPAN;
    out->span = span;
}

static void target_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Score *out)
{
    const char *kind = db_row_text_or_empty(row, "target_kind");
    char *text = db_row_text(row, "target");
    if (kind == NULL || text == NULL)
        return; /* rpc sees the overflow */
    if (strcmp(kind, "trace") == 0) {
        out->target_case = FORGE__V1__SCORE__TARGET_TRACE_ID;
        out->trace_id = text;
    } else if (strcmp(kind, "span") == 0)
        span_from_text(call, text, out);
    else if (strcmp(kind, "session") == 0) {
        out->target_case = FORGE__V1__SCORE__TARGET_SESSION_ID;
        out->session_id = text;
    } else {
        out->target_case = FORGE__V1__SCORE__TARGET_EXECUTION_ID;
        out->execution_id = strtoll(text, NULL, 10);
    }
}

static void value_from_row(const struct db_row *row, Forge__V1__Score *out)
{
    if (!db_row_is_null(row, "number")) {
        out->value_case = FORGE__V1__SCORE__VALUE_NUMBER;
        out->number = db_row_double(row, "number");
    } else if (!db_row_is_null(row, "category")) {
        out->value_case = FORGE__V1__SCORE__VALUE_CATEGORY;
        out->category = db_row_text(row, "category");
    } else if (!db_row_is_null(row, "flag")) {
        out->value_case = FORGE__V1__SCORE__VALUE_BOOLEAN;
        out->boolean = db_row_bool(row, "flag");
    } else {
        out->value_case = FORGE__V1__SCORE__VALUE_TEXT;
        out->text = db_row_text(row, "body");
    }
}

static Forge__V1__ScoreSource source_find(const char *name)
{
    return strcmp(name, "human") == 0  ? FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN
           : strcmp(name, "code") == 0 ? FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_CODE
                                       : FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_MODEL;
}

static Forge__V1__Score *score_from_row(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__Score *score = reply_message(call, &forge__v1__score__descriptor);
    if (score == NULL)
        return NULL;
    const char *source = db_row_text_or_empty(row, "source");
    score->id = db_row_uuid_text(row, "id");
    score->project_id = db_row_uuid_text(row, "project_id");
    target_from_row(call, row, score);
    score->name = db_row_text(row, "name");
    value_from_row(row, score);
    score->source = source != NULL ? source_find(source) : FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_UNSPECIFIED;
    score->author = db_row_text(row, "author");
    score->comment = db_row_text_or_empty(row, "comment");
    score->create_time = reply_time(call, row, "created_at");
    if (db_row_time_us(row, "changed_at") != db_row_time_us(row, "created_at"))
        score->update_time = reply_time(call, row, "changed_at");
    score->replaced = db_row_bool(row, "replaced");
    return score;
}

/* --- ListScores ------------------------------------------------------------------------------------------------------ */

/* Checked; NULL is any. */
struct filter {
    struct forge_uuid project_id;
    struct score_target target;
    const char *name, *author, *source;
    int64_t start_us, end_us;
    bool show_history;
};

static void target_check(struct rpc_call *call, const Forge__V1__ListScoresRequest *in, struct score_target *out)
{
    switch (in->target_case) {
    case FORGE__V1__LIST_SCORES_REQUEST__TARGET_TRACE_ID:
        score_target_trace(call, in->trace_id, out);
        return;
    case FORGE__V1__LIST_SCORES_REQUEST__TARGET_SPAN:
        score_target_span(call, in->span, out);
        return;
    case FORGE__V1__LIST_SCORES_REQUEST__TARGET_SESSION_ID:
        score_target_session(call, in->session_id, out);
        return;
    case FORGE__V1__LIST_SCORES_REQUEST__TARGET_EXECUTION_ID:
        score_target_execution(call, in->execution_id, out);
        return;
    case FORGE__V1__LIST_SCORES_REQUEST__TARGET__NOT_SET:
    case _FORGE__V1__LIST_SCORES_REQUEST__TARGET__CASE_IS_INT_SIZE:
        *out = (struct score_target){0};
    }
}

static void filter_check(struct rpc_call *call, const Forge__V1__ListScoresRequest *in, struct filter *filter)
{
    *filter = (struct filter){.name = in->name[0] != '\0' ? in->name : NULL,
                              .author = in->author[0] != '\0' ? in->author : NULL,
                              .show_history = in->show_history};
    validate_uuid(call, "project_id", in->project_id, &filter->project_id);
    target_check(call, in, &filter->target);
    if (filter->name != NULL)
        validate_name_of(call, "name", in->name, SCORE_NAME_CHARACTERS_MAX);
    validate_name_or_empty(call, "author", in->author);
    filter->source = score_source(in->source);
    validate_time_range(call, in->start_time, in->end_time, &filter->start_us, &filter->end_us);
}

static forge_code list_run(struct rpc_call *call, const struct filter *filter, const struct rpc_page *page, struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, SQL_SCORE_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &filter->project_id);
    db_bind_text(q, filter->target.kind);
    db_bind_text(q, filter->target.text);
    db_bind_text(q, filter->name);
    db_bind_text(q, filter->author);
    db_bind_text(q, filter->source);
    db_bind_time_us(q, filter->start_us);
    db_bind_time_us(q, page->has_key ? page->last_number : filter->end_us);
    db_bind_uuid(q, page->has_key ? &page->last_id : &before_all_ids);
    db_bind_bool(q, filter->show_history);
    db_bind_int32(q, page->size + 1);
    db_bind_int64(q, (int64_t)trace_page_room(call));
    return db_run_many(q, rows, &call->error);
}

static void list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListScoresResponse *out)
{
    size_t left = trace_page_room(call);
    out->scores = forge_arena_calloc(call->arena, (size_t)count, sizeof out->scores[0]);
    for (int i = 0; out->scores != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Score *score = score_from_row(call, &row);
        if (score == NULL || !trace_page_takes(out->n_scores, &score->base, &left))
            break; /* rpc sees an overflow */
        out->scores[out->n_scores++] = score;
    }
}

forge_code trace_list_scores(struct rpc_call *call, const Forge__V1__ListScoresRequest *in, Forge__V1__ListScoresResponse *out)
{
    struct filter filter;
    struct rpc_page page;
    struct db_rows rows;
    struct forge_uuid last_id;
    Forge__V1__ListScoresRequest query = *in;
    query.page_size = 0;
    query.page_token = (char *)(uintptr_t) "";
    const struct db_bytes binding = trace_filter(call, &query.base);
    filter_check(call, in, &filter);
    rpc_page_read(call, in->page_size, in->page_token, binding.data, binding.size, &page);
    forge_code rc = validate_end_in_project(call, &filter.project_id);
    if (rc == FORGE_OK)
        rc = list_run(call, &filter, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "id"))
        return FORGE_OK;
    list_fill(call, &rows, rows.count < page.size ? rows.count : page.size, out);
    if (out->n_scores > 0 && db_row_int64(&first, "found") > (int64_t)out->n_scores) {
        struct db_row last = db_rows_at(&rows, (int)out->n_scores - 1);
        db_row_uuid(&last, "id", &last_id);
        out->next_page_token = rpc_page_next(call, binding.data, binding.size, NULL, db_row_time_us(&last, "changed_at"), &last_id);
    }
    return FORGE_OK;
}
