/* TraceService: ListTraces. */
#include "rpc/page.h"
#include "service/reply.h"
#include "service/trace/trace_reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

enum {
    FEW = 2000,                /* spans or traces, up to which a filter is read whole instead of walking all traces */
    PAGE_SPANS_MAX = 200000,   /* looked through for the models and prompts of a page */
    NAME_CHARACTERS_MAX = 255, /* of models, sessions and users */
    LABEL_CHARACTERS_MAX = 64,
    NANOSECONDS = 1000000 /* of a millisecond */
};

struct listing {
    struct forge_uuid project_id, prompt_id;
    int64_t start_us, end_us, duration_min_ns;
    struct rpc_page page;
    struct db_bytes filter;
};

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

static void prompt_check(struct rpc_call *call, const Forge__V1__ListTracesRequest *in, struct listing *listing)
{
    bool has_prompt = in->prompt_id[0] != '\0';
    if (has_prompt)
        validate_uuid(call, "prompt_id", in->prompt_id, &listing->prompt_id);
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must be 0 or more");
    else if (in->prompt_version > 0 && !has_prompt)
        rpc_call_violation(call, "prompt_version", "needs prompt_id");
    if (validate_text(call, "prompt_label", in->prompt_label, LABEL_CHARACTERS_MAX) && in->prompt_label[0] != '\0' && !has_prompt)
        rpc_call_violation(call, "prompt_label", "needs prompt_id");
}

static forge_code listing_check(struct rpc_call *call, const Forge__V1__ListTracesRequest *in, struct listing *listing)
{
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
    prompt_check(call, in, listing);
    return validate_end_in_project(call, &listing->project_id);
}

/* --- the page -------------------------------------------------------------------------------------------------------- */

static void bind_filters(struct db_stmt *q, const Forge__V1__ListTracesRequest *in, const struct listing *listing)
{
    if (in->status != FORGE__V1__SPAN_STATUS__SPAN_STATUS_UNSPECIFIED)
        db_bind_int32(q, in->status);
    else
        db_bind_null(q);
    db_bind_int64(q, listing->duration_min_ns);
    db_bind_text(q, or_null(in->session_id));
    db_bind_text(q, or_null(in->user_id));
    db_bind_text(q, or_null(in->model));
    db_bind_uuid(q, in->prompt_id[0] != '\0' ? &listing->prompt_id : NULL);
    db_bind_int32(q, in->prompt_version);
    db_bind_text(q, or_null(in->prompt_label));
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListTracesRequest *in, const struct listing *listing, size_t bytes_max,
                           struct db_rows *rows)
{
    const struct rpc_page *page = &listing->page;
    struct db_stmt *q = db_stmt(call->db, SQL_TRACE_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &listing->project_id);
    db_bind_time_us(q, listing->start_us);
    db_bind_time_us(q, page->has_key ? page->last_number : listing->end_us);
    db_bind_bytes(q, page->has_key ? page->last_id.bytes : NULL, sizeof page->last_id.bytes);
    bind_filters(q, in, listing);
    db_bind_int32(q, page->size + 1);
    db_bind_int32(q, FEW);
    db_bind_bool(q, in->view == FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
    db_bind_int64(q, (int64_t)bytes_max);
    db_bind_int32(q, PAGE_SPANS_MAX);
    return db_run_many(q, rows, &call->error);
}

/* The page after this row: behind its start and its trace_id, which has the size of a UUID. */
static char *list_next(struct rpc_call *call, const struct listing *listing, const struct db_row *last)
{
    size_t size = 0;
    struct forge_uuid trace_id = {0};
    const uint8_t *bytes = db_row_bytes(last, "trace_id", &size);
    if (bytes != NULL)
        memcpy(trace_id.bytes, bytes, sizeof trace_id.bytes);
    return rpc_page_next(call, listing->filter.data, listing->filter.size, NULL, db_row_time_us(last, "started_at"), &trace_id);
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, size_t left, Forge__V1__ListTracesResponse *out)
{
    out->traces = forge_arena_calloc(call->arena, (size_t)count, sizeof out->traces[0]);
    for (int i = 0; out->traces != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Trace *trace = NULL;
        forge_code rc = trace_reply(call, &row, &trace);
        if (rc != FORGE_OK)
            return rc;
        if (!trace_page_takes(out->n_traces, &trace->base, &left))
            break;
        out->traces[out->n_traces++] = trace;
    }
    return FORGE_OK;
}

forge_code trace_list(struct rpc_call *call, const Forge__V1__ListTracesRequest *in, Forge__V1__ListTracesResponse *out)
{
    struct listing listing = {0};
    struct db_rows rows;
    size_t left = rpc_server_settings(call->server)->reply_max - TRACE_REPLY_TOKEN_BYTES;
    forge_code rc = listing_check(call, in, &listing);
    if (rc == FORGE_OK)
        rc = list_run(call, in, &listing, left, &rows);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "trace_id"))
        return FORGE_OK;
    rc = list_fill(call, &rows, rows.count < listing.page.size ? rows.count : listing.page.size, left, out);
    if (rc == FORGE_OK && out->n_traces > 0 && db_row_int64(&first, "found") > (int64_t)out->n_traces) {
        struct db_row last = db_rows_at(&rows, (int)out->n_traces - 1);
        out->next_page_token = list_next(call, &listing, &last);
    }
    return rc;
}
