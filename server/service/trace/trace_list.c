/* TraceService: ListTraces. */
#include "rpc/page.h"
#include "service/reply.h"
#include "service/trace/trace_reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

enum {
    FEW = 2000,              /* spans or traces, up to which those that pass a filter are read whole instead of walking all traces */
    CHUNK = 1000,            /* traces that are looked up together for a span with a model or prompt */
    WALK_MAX = 20000,        /* traces that are looked at for one page, and spans for a label */
    PAGE_SPANS_MAX = 200000, /* looked through for the models and prompts of a page */
    NAME_CHARACTERS_MAX = 255,
    LABEL_CHARACTERS_MAX = 64,
    NANOSECONDS = 1000000 /* of a millisecond */
};

/* A trace as the walk meets it, and the times its spans start between. */
struct met {
    struct db_bytes trace_id;
    int64_t start_us, end_us;
};

struct listing {
    const Forge__V1__ListTracesRequest *in;
    struct forge_uuid project_id, prompt_id;
    int64_t start_us, end_us, duration_min_ns;
    struct rpc_page page;
    struct db_bytes filter;
    bool needs_span;  /* a model or prompt is asked for */
    const void **few; /* struct met: all traces that can pass; NULL = not known */
    size_t few_count;
    struct met last;     /* behind this one the walk goes on; without a trace_id at the first */
    const void **passed; /* struct met: of the page, and one more where there is */
    size_t passed_count, walked_count;
    bool is_over; /* the walk has met all */
};

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static forge_code no_memory(struct rpc_call *call)
{
    return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the traces need too much memory");
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

static void prompt_check(struct rpc_call *call, struct listing *listing)
{
    const Forge__V1__ListTracesRequest *in = listing->in;
    bool has_prompt = in->prompt_id[0] != '\0';
    if (has_prompt)
        validate_uuid(call, "prompt_id", in->prompt_id, &listing->prompt_id);
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must be 0 or more");
    else if (in->prompt_version > 0 && !has_prompt)
        rpc_call_violation(call, "prompt_version", "needs prompt_id");
    if (validate_text(call, "prompt_label", in->prompt_label, LABEL_CHARACTERS_MAX) && in->prompt_label[0] != '\0' && !has_prompt)
        rpc_call_violation(call, "prompt_label", "needs prompt_id");
    listing->needs_span = has_prompt || in->model[0] != '\0';
}

static forge_code listing_check(struct rpc_call *call, struct listing *listing)
{
    const Forge__V1__ListTracesRequest *in = listing->in;
    Forge__V1__ListTracesRequest filter = *in;
    filter.page_size = 0;
    filter.page_token = (char *)(uintptr_t) "";
    listing->filter = trace_filter(call, &filter.base);
    validate_uuid(call, "project_id", in->project_id, &listing->project_id);
    rpc_page_read(call, in->page_size, in->page_token, listing->filter.data, listing->filter.size, &listing->page);
    validate_time_range(call, in->start_time, in->end_time, &listing->start_us, &listing->end_us);
    validate_text(call, "model", in->model, NAME_CHARACTERS_MAX);
    if (in->duration_min_ms < 0 || in->duration_min_ms > INT64_MAX / NANOSECONDS)
        rpc_call_violation(call, "duration_min_ms", "must be 0 to %lld", (long long)(INT64_MAX / NANOSECONDS));
    else
        listing->duration_min_ns = in->duration_min_ms * NANOSECONDS;
    validate_text(call, "session_id", in->session_id, NAME_CHARACTERS_MAX);
    validate_text(call, "user_id", in->user_id, NAME_CHARACTERS_MAX);
    prompt_check(call, listing);
    return validate_end_in_project(call, &listing->project_id);
}

/* --- which traces ---------------------------------------------------------------------------------------------------- */

static struct db_stmt *statement(struct rpc_call *call, enum sql_id id, const struct listing *listing)
{
    struct db_stmt *q = db_stmt(call->db, id);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &listing->project_id);
    return q;
}

static void bind_status(struct db_stmt *q, Forge__V1__SpanStatus status)
{
    if (status != FORGE__V1__SPAN_STATUS__SPAN_STATUS_UNSPECIFIED)
        db_bind_int32(q, (int32_t)status);
    else
        db_bind_null(q);
}

static void bind_prompt(struct db_stmt *q, const struct listing *listing)
{
    db_bind_int32(q, listing->in->prompt_version);
    db_bind_text(q, or_null(listing->in->prompt_label));
}

/* Ids of traces from the first column of rows. */
static struct met *met_list(struct rpc_call *call, const struct db_rows *rows, const void ***out_list)
{
    struct met *met = forge_arena_calloc(call->arena, (size_t)rows->count, sizeof *met);
    const void **list = forge_arena_calloc(call->arena, (size_t)rows->count, sizeof *list);
    for (int i = 0; met != NULL && list != NULL && i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        met[i].trace_id.data = db_row_bytes(&row, "trace_id", &met[i].trace_id.size);
        list[i] = &met[i];
    }
    *out_list = list;
    return list != NULL ? met : NULL;
}

static forge_code few_take(struct rpc_call *call, struct listing *listing, const struct db_rows *rows)
{
    listing->few_count = (size_t)rows->count;
    return met_list(call, rows, &listing->few) != NULL ? FORGE_OK : no_memory(call);
}

/* Where the model that is asked for has few spans, their traces are all that can pass. */
static forge_code few_of_model(struct rpc_call *call, struct listing *listing)
{
    struct db_rows rows;
    struct db_stmt *q = statement(call, SQL_TRACE_WITH_MODEL, listing);
    db_bind_time_us(q, listing->start_us);
    db_bind_text(q, listing->in->model);
    db_bind_int32(q, FEW);
    forge_code rc = db_run_many(q, &rows, &call->error);
    return rc == FORGE_OK && rows.count < FEW ? few_take(call, listing, &rows) : rc;
}

/* The same of the prompt. Without a label each span that is looked at fits, and no more than FEW need be. */
static forge_code few_of_prompt(struct rpc_call *call, struct listing *listing)
{
    const int32_t look_max = listing->in->prompt_label[0] != '\0' ? WALK_MAX : FEW;
    struct db_rows rows;
    struct db_stmt *q = statement(call, SQL_TRACE_WITH_PROMPT, listing);
    db_bind_time_us(q, listing->start_us);
    db_bind_uuid(q, &listing->prompt_id);
    db_bind_int32(q, FEW);
    bind_prompt(q, listing);
    db_bind_int32(q, look_max);
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    struct db_row first = db_rows_at(&rows, 0);
    if (rows.count == FEW || db_row_int64(&first, "looked") >= look_max)
        return FORGE_OK;
    if (db_row_is_null(&first, "trace_id"))
        rows.count = 0;
    return few_take(call, listing, &rows);
}

/* Not for traces of a session or user, which are few themselves. */
static forge_code few_find(struct rpc_call *call, struct listing *listing)
{
    const Forge__V1__ListTracesRequest *in = listing->in;
    forge_code rc = FORGE_OK;
    if (in->session_id[0] != '\0' || in->user_id[0] != '\0')
        return rc;
    if (in->prompt_id[0] != '\0')
        rc = few_of_prompt(call, listing);
    if (rc == FORGE_OK && listing->few == NULL && in->model[0] != '\0')
        rc = few_of_model(call, listing);
    return rc;
}

static forge_code walk_run(struct rpc_call *call, const struct listing *listing, int32_t limit, struct db_rows *rows)
{
    const Forge__V1__ListTracesRequest *in = listing->in;
    struct db_stmt *q = statement(call, SQL_TRACE_WALK, listing);
    db_bind_time_us(q, listing->start_us);
    db_bind_time_us(q, listing->last.start_us);
    db_bind_bytes(q, listing->last.trace_id.data, listing->last.trace_id.size);
    bind_status(q, in->status);
    db_bind_int64(q, listing->duration_min_ns);
    db_bind_text(q, or_null(in->session_id));
    db_bind_text(q, or_null(in->user_id));
    if (listing->few != NULL)
        db_bind_column(q, DB_MEMBER_BYTES, offsetof(struct met, trace_id), listing->few, listing->few_count);
    else
        db_bind_null(q);
    db_bind_int32(q, limit);
    db_bind_int32(q, FEW);
    forge_code rc = db_run_many(q, rows, &call->error);
    if (rc == FORGE_OK && rows->count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    return rc;
}

/* Binds the days that these traces touch. */
static void bind_days(struct db_stmt *q, const void *const *list, size_t count)
{
    const struct met *first = list[0];
    int64_t start_us = first->start_us, end_us = first->end_us;
    for (size_t i = 1; i < count; i++) {
        const struct met *met = list[i];
        start_us = met->start_us < start_us ? met->start_us : start_us;
        end_us = met->end_us > end_us ? met->end_us : end_us;
    }
    db_bind_time_us(q, start_us);
    db_bind_time_us(q, end_us);
}

static void pass(struct listing *listing, const void *met)
{
    if (listing->passed_count <= (size_t)listing->page.size)
        listing->passed[listing->passed_count++] = met;
}

/* Passes those that have such a span. */
static forge_code having_run(struct rpc_call *call, struct listing *listing, const void *const *list, size_t count)
{
    const Forge__V1__ListTracesRequest *in = listing->in;
    struct db_rows rows;
    struct db_stmt *q = statement(call, SQL_TRACE_HAVING, listing);
    bind_days(q, list, count);
    db_bind_column(q, DB_MEMBER_BYTES, offsetof(struct met, trace_id), list, count);
    db_bind_column(q, DB_MEMBER_TIME_US, offsetof(struct met, start_us), list, count);
    db_bind_column(q, DB_MEMBER_TIME_US, offsetof(struct met, end_us), list, count);
    db_bind_text(q, or_null(in->model));
    db_bind_uuid(q, in->prompt_id[0] != '\0' ? &listing->prompt_id : NULL);
    bind_prompt(q, listing);
    forge_code rc = db_run_many(q, &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        pass(listing, list[db_row_int64(&row, "ordinal") - 1]);
    }
    return rc;
}

/* One step of the walk: the traces behind the last one. */
static forge_code step(struct rpc_call *call, struct listing *listing)
{
    int32_t limit = listing->needs_span ? CHUNK : listing->page.size + 1;
    struct db_rows rows;
    const void **list;
    forge_code rc = walk_run(call, listing, limit, &rows);
    if (rc != FORGE_OK)
        return rc;
    struct db_row first = db_rows_at(&rows, 0);
    listing->is_over = rows.count < limit;
    if (db_row_is_null(&first, "trace_id"))
        return FORGE_OK;
    struct met *met = met_list(call, &rows, &list);
    if (met == NULL)
        return no_memory(call);
    for (int i = 0; i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        met[i].start_us = db_row_time_us(&row, "started_at");
        met[i].end_us = db_row_time_us(&row, "ended_at");
        if (!listing->needs_span)
            pass(listing, &met[i]);
    }
    listing->last = met[rows.count - 1];
    listing->walked_count += (size_t)rows.count;
    return listing->needs_span ? having_run(call, listing, list, (size_t)rows.count) : FORGE_OK;
}

/* Finds the traces of the page, and one more where there is. */
static forge_code walk(struct rpc_call *call, struct listing *listing)
{
    const struct rpc_page *page = &listing->page;
    listing->last.start_us = page->has_key ? page->last_number : listing->end_us;
    if (page->has_key)
        listing->last.trace_id = (struct db_bytes){page->last_id.bytes, sizeof page->last_id.bytes};
    listing->passed = forge_arena_calloc(call->arena, (size_t)page->size + 1, sizeof listing->passed[0]);
    if (listing->passed == NULL)
        return no_memory(call);
    forge_code rc = few_find(call, listing);
    while (rc == FORGE_OK && !listing->is_over && listing->passed_count <= (size_t)page->size && listing->walked_count < WALK_MAX)
        rc = step(call, listing);
    return rc;
}

/* --- the page -------------------------------------------------------------------------------------------------------- */

static forge_code page_run(struct rpc_call *call, const struct listing *listing, size_t count, size_t bytes_max, struct db_rows *rows)
{
    struct db_stmt *q = statement(call, SQL_TRACE_PAGE, listing);
    bind_days(q, listing->passed, count);
    db_bind_column(q, DB_MEMBER_BYTES, offsetof(struct met, trace_id), listing->passed, count);
    db_bind_bool(q, listing->in->view == FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
    db_bind_int64(q, (int64_t)bytes_max);
    db_bind_int32(q, PAGE_SPANS_MAX);
    return db_run_many(q, rows, &call->error);
}

/* Behind this trace; its id has the size of a UUID. */
static char *token_behind(struct rpc_call *call, const struct listing *listing, const struct met *met)
{
    struct forge_uuid trace_id = {0};
    if (met->trace_id.data != NULL && met->trace_id.size == sizeof trace_id.bytes)
        memcpy(trace_id.bytes, met->trace_id.data, sizeof trace_id.bytes);
    return rpc_page_next(call, listing->filter.data, listing->filter.size, NULL, met->start_us, &trace_id);
}

static forge_code page_fill(struct rpc_call *call, const struct listing *listing, size_t count, Forge__V1__ListTracesResponse *out)
{
    size_t left = trace_page_room(call);
    struct db_rows rows;
    forge_code rc = page_run(call, listing, count, left, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->traces = forge_arena_calloc(call->arena, count, sizeof out->traces[0]);
    for (int i = 0; out->traces != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        Forge__V1__Trace *trace = NULL;
        rc = trace_reply(call, &row, &trace);
        if (rc != FORGE_OK)
            return rc;
        if (!trace_page_takes(out->n_traces, &trace->base, &left))
            break;
        out->traces[out->n_traces++] = trace;
    }
    if (out->n_traces == 0)
        return FORGE_OK; /* they were deleted meanwhile */
    struct db_row last = db_rows_at(&rows, (int)out->n_traces - 1);
    if (db_row_int64(&last, "found") > (int64_t)out->n_traces) {
        struct met met = {.start_us = db_row_time_us(&last, "started_at")};
        met.trace_id.data = db_row_bytes(&last, "trace_id", &met.trace_id.size);
        out->next_page_token = token_behind(call, listing, &met);
    }
    return FORGE_OK;
}

forge_code trace_list(struct rpc_call *call, const Forge__V1__ListTracesRequest *in, Forge__V1__ListTracesResponse *out)
{
    struct listing listing = {.in = in};
    forge_code rc = listing_check(call, &listing);
    if (rc == FORGE_OK)
        rc = walk(call, &listing);
    if (rc != FORGE_OK)
        return rc;
    size_t count = listing.passed_count < (size_t)listing.page.size ? listing.passed_count : (size_t)listing.page.size;
    if (count < listing.passed_count)
        out->next_page_token = token_behind(call, &listing, listing.passed[count - 1]);
    else if (!listing.is_over)
        out->next_page_token = token_behind(call, &listing, &listing.last);
    return count > 0 ? page_fill(call, &listing, count, out) : FORGE_OK;
}
