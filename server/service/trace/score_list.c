/* TraceService: ListScores. */
#include "service/trace/score.h"

#include "rpc/page.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES_MAX = 3 << 20 /* of what callers wrote; a reply has 4 MiB */, TRACE_ID_DIGITS = 32, SPAN_ID_DIGITS = 16 };
/* The years that timestamp.proto has: 0001 to 9999. */
static const int64_t first_time_us = INT64_C(-62135596800) * 1000000, end_time_us = INT64_C(253402300800) * 1000000;
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

static void score_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__Score *score = message;
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
}

/* --- ListScores ------------------------------------------------------------------------------------------------------ */

/* Checked; NULL is any. */
struct filter {
    struct forge_uuid project_id;
    struct score_target target;
    const char *name, *author, *source;
    int64_t start_us, end_us;
    const char *text; /* of all of it, for page tokens */
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

static void range_check(struct rpc_call *call, const Forge__V1__ListScoresRequest *in, struct filter *filter)
{
    filter->start_us = first_time_us;
    filter->end_us = end_time_us;
    bool is_valid = in->start_time == NULL || validate_time(call, "start_time", in->start_time, &filter->start_us);
    if (in->end_time != NULL && validate_time(call, "end_time", in->end_time, &filter->end_us) && is_valid &&
        filter->end_us <= filter->start_us)
        rpc_call_violation(call, "end_time", "must be after start_time");
}

static void filter_check(struct rpc_call *call, const Forge__V1__ListScoresRequest *in, struct filter *filter)
{
    *filter = (struct filter){.name = in->name[0] != '\0' ? in->name : NULL, .author = in->author[0] != '\0' ? in->author : NULL};
    validate_uuid(call, "project_id", in->project_id, &filter->project_id);
    target_check(call, in, &filter->target);
    if (filter->name != NULL)
        validate_name_of(call, "name", in->name, SCORE_NAME_CHARACTERS_MAX);
    validate_name_or_empty(call, "author", in->author);
    filter->source = score_source(in->source);
    range_check(call, in, filter);
    const char *target = filter->target.text != NULL ? filter->target.text : "";
    filter->text = forge_arena_printf(call->arena, "%s|%d|%zu:%s|%zu:%s|%zu:%s|%d|%" PRId64 "|%" PRId64 "|%d", in->project_id,
                                      (int)in->target_case, strlen(target), target, strlen(in->name), in->name, strlen(in->author),
                                      in->author, (int)in->source, filter->start_us, filter->end_us, in->show_history);
}

static struct db_stmt *list_statement(struct rpc_call *call, const struct filter *filter, bool show_history, const struct rpc_page *page)
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
    db_bind_bool(q, show_history);
    db_bind_int32(q, page->size + 1);
    db_bind_int32(q, PAGE_BYTES_MAX);
    return q;
}

forge_code trace_list_scores(struct rpc_call *call, const Forge__V1__ListScoresRequest *in, Forge__V1__ListScoresResponse *out)
{
    struct filter filter;
    struct rpc_page page;
    struct db_rows rows;
    struct forge_uuid last_id;
    filter_check(call, in, &filter);
    size_t filter_size = filter.text != NULL ? strlen(filter.text) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter.text, filter_size, &page);
    forge_code rc = validate_end_in_project(call, &filter.project_id);
    if (rc == FORGE_OK)
        rc = db_run_many(list_statement(call, &filter, in->show_history, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "id"))
        return FORGE_OK;
    int count = rows.count < page.size ? rows.count : page.size;
    out->scores = reply_list(call, &rows, count, &forge__v1__score__descriptor, score_from_row, &out->n_scores);
    if (db_row_int64(&first, "found") > count) {
        struct db_row last = db_rows_at(&rows, count - 1);
        db_row_uuid(&last, "id", &last_id);
        out->next_page_token = rpc_page_next(call, filter.text, filter_size, NULL, db_row_time_us(&last, "changed_at"), &last_id);
    }
    return FORGE_OK;
}
