/* TraceService: GetTrace and DeleteTrace. */
#include "rpc/page.h"
#include "service/reply.h"
#include "service/trace/trace_reply.h"
#include "service/trace/tree.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

enum { NANOSECONDS = 1000 /* of a microsecond */ };

/* Which trace, and from when to when its spans start. */
struct range {
    struct forge_uuid project_id;
    struct db_bytes trace_id;
    int64_t start_us, end_us;
};

static forge_code range_check(struct rpc_call *call, const char *project_id, const char *trace_id, struct range *out)
{
    *out = (struct range){0};
    validate_uuid(call, "project_id", project_id, &out->project_id);
    trace_id_check(call, "", trace_id);
    forge_code rc = validate_end_in_project(call, &out->project_id);
    if (rc != FORGE_OK)
        return rc;
    out->trace_id = trace_id_bytes(call, trace_id);
    return FORGE_OK;
}

static struct db_stmt *statement(struct rpc_call *call, enum sql_id id, const struct range *range)
{
    struct db_stmt *q = db_stmt(call->db, id);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &range->project_id);
    db_bind_bytes(q, range->trace_id.data, range->trace_id.size);
    return q;
}

static struct db_stmt *statement_in_range(struct rpc_call *call, enum sql_id id, const struct range *range)
{
    struct db_stmt *q = statement(call, id, range);
    db_bind_time_us(q, range->start_us);
    db_bind_time_us(q, range->end_us);
    return q;
}

/* Reads the range from the trace's row, by one of the statements that find it. */
static forge_code range_read(struct rpc_call *call, enum sql_id id, const char *trace_id, struct range *range)
{
    struct db_row row;
    forge_code rc = reply_run_found(call, statement(call, id, range), "trace", trace_id, &row);
    if (rc != FORGE_OK)
        return rc;
    range->start_us = db_row_time_us(&row, "started_at");
    range->end_us = db_row_time_us(&row, "ended_at");
    return FORGE_OK;
}

/* --- GetTrace -------------------------------------------------------------------------------------------------------- */

struct reading {
    struct range range;
    struct rpc_page page;
    struct db_bytes filter;
    bool is_full;
    const struct trace_node *nodes;
    size_t count, begin, end; /* of all nodes; the page, before it is cut */
};

static forge_code reading_check(struct rpc_call *call, const Forge__V1__GetTraceRequest *in, struct reading *reading)
{
    Forge__V1__GetTraceRequest filter = *in;
    filter.page_size = 0;
    filter.page_token = (char *)(uintptr_t) "";
    reading->filter = trace_filter(call, &filter.base);
    reading->is_full = in->view == FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL;
    rpc_page_read(call, in->page_size, in->page_token, reading->filter.data, reading->filter.size, &reading->page);
    return range_check(call, in->project_id, in->trace_id, &reading->range);
}

/* Behind the span that the page before ended with; where that is gone, behind as many spans as were before. */
static size_t page_begin(struct rpc_call *call, const struct reading *reading)
{
    if (!reading->page.has_key)
        return 0;
    struct db_bytes last = trace_id_bytes(call, reading->page.last_name);
    for (size_t i = 0; last.data != NULL && i < reading->count; i++)
        if (memcmp(reading->nodes[i].span_id, last.data, TRACE_SPAN_ID_BYTES) == 0)
            return i + 1;
    size_t before = (size_t)reading->page.last_number;
    return before < reading->count ? before : reading->count;
}

/* The figures, and the order of all spans. */
static forge_code tree_read(struct rpc_call *call, const char *trace_id, struct reading *reading, Forge__V1__Trace **out)
{
    struct db_row row;
    size_t size = 0;
    struct db_stmt *q = statement_in_range(call, SQL_TRACE_FIGURES, &reading->range);
    db_bind_bool(q, reading->is_full);
    forge_code rc = reply_run_found(call, q, "trace", trace_id, &row);
    if (rc == FORGE_OK)
        rc = trace_reply(call, &row, out);
    if (rc != FORGE_OK)
        return rc;
    const uint8_t *keys = db_row_is_null(&row, "keys") ? (const uint8_t *)"" : db_row_bytes(&row, "keys", &size);
    reading->count = size / TRACE_KEY_BYTES;
    reading->nodes = keys != NULL ? trace_tree(call->arena, keys, reading->count) : NULL;
    if (reading->nodes == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the trace needs too much memory");
    size_t left = reading->count - (reading->begin = page_begin(call, reading));
    reading->end = reading->begin + (left < (size_t)reading->page.size ? left : (size_t)reading->page.size);
    return FORGE_OK;
}

/* The key of a span's row. */
struct span_key {
    struct db_bytes span_id;
    int64_t started_us;
};

static forge_code spans_run(struct rpc_call *call, const struct reading *reading, size_t bytes_max, struct db_rows *rows)
{
    size_t count = reading->end - reading->begin;
    struct span_key *keys = forge_arena_calloc(call->arena, count, sizeof *keys);
    const void **list = forge_arena_calloc(call->arena, count, sizeof *list);
    if (keys == NULL || list == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the trace needs too much memory");
    for (size_t i = 0; i < count; i++) {
        const struct trace_node *node = &reading->nodes[reading->begin + i];
        keys[i] = (struct span_key){{node->span_id, TRACE_SPAN_ID_BYTES}, node->start_ns / NANOSECONDS};
        list[i] = &keys[i];
    }
    struct db_stmt *q = statement_in_range(call, SQL_TRACE_SPANS, &reading->range);
    db_bind_column(q, DB_MEMBER_BYTES, offsetof(struct span_key, span_id), list, count);
    db_bind_column(q, DB_MEMBER_TIME_US, offsetof(struct span_key, started_us), list, count);
    db_bind_bool(q, reading->is_full);
    db_bind_int64(q, (int64_t)bytes_max);
    return db_run_many(q, rows, &call->error);
}

static forge_code node_reply(struct rpc_call *call, const struct trace_node *node, const struct db_row *row, Forge__V1__SpanNode **out)
{
    Forge__V1__SpanNode *message = reply_message(call, &forge__v1__span_node__descriptor);
    if (message == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    message->depth = node->depth;
    message->placement = node->placement;
    message->child_count = node->child_count;
    *out = message;
    return trace_span_reply(call, row, &message->span);
}

/* Where the page ends that has these spans of the rows. */
static size_t page_end(const struct reading *reading, const struct db_rows *rows, size_t span_count)
{
    if (span_count == 0)
        return reading->end; /* they were deleted meanwhile */
    struct db_row first = db_rows_at(rows, 0), last = db_rows_at(rows, (int)span_count - 1);
    bool is_cut = (int64_t)span_count < db_row_int64(&first, "found");
    return is_cut ? reading->begin + (size_t)db_row_int64(&last, "ordinal") : reading->end;
}

static forge_code spans_fill(struct rpc_call *call, const struct reading *reading, size_t left, Forge__V1__GetTraceResponse *out)
{
    struct db_rows rows;
    forge_code rc = spans_run(call, reading, left, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->spans = forge_arena_calloc(call->arena, (size_t)rows.count, sizeof out->spans[0]);
    for (int i = 0; out->spans != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        Forge__V1__SpanNode *node = NULL;
        rc = node_reply(call, &reading->nodes[reading->begin + (size_t)db_row_int64(&row, "ordinal") - 1], &row, &node);
        if (rc != FORGE_OK)
            return rc;
        if (!trace_page_takes(out->n_spans, &node->base, &left))
            break;
        out->spans[out->n_spans++] = node;
    }
    size_t end = page_end(reading, &rows, out->n_spans);
    if (end < reading->count) {
        const char *last = reply_hex(call, reading->nodes[end - 1].span_id, TRACE_SPAN_ID_BYTES);
        out->next_page_token = rpc_page_next(call, reading->filter.data, reading->filter.size, last, (int64_t)end, &(struct forge_uuid){0});
    }
    return FORGE_OK;
}

forge_code trace_get(struct rpc_call *call, const Forge__V1__GetTraceRequest *in, Forge__V1__GetTraceResponse *out)
{
    struct reading reading = {0};
    forge_code rc = reading_check(call, in, &reading);
    if (rc == FORGE_OK)
        rc = range_read(call, SQL_TRACE_FIND, in->trace_id, &reading.range);
    if (rc == FORGE_OK)
        rc = tree_read(call, in->trace_id, &reading, &out->trace);
    if (rc != FORGE_OK || reading.begin == reading.end)
        return rc;
    size_t left = trace_page_room(call);
    trace_page_takes(0, &out->trace->base, &left);
    return spans_fill(call, &reading, left, out);
}

/* --- DeleteTrace ----------------------------------------------------------------------------------------------------- */

forge_code trace_delete(struct rpc_call *call, const Forge__V1__DeleteTraceRequest *in, Google__Protobuf__Empty *out)
{
    struct range *range = forge_arena_alloc(call->arena, sizeof *range); /* bound until rpc sends the last flight */
    if (range == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the call needs too much memory");
    forge_code rc = range_check(call, in->project_id, in->trace_id, range);
    if (rc == FORGE_OK)
        rc = range_read(call, SQL_TRACE_LOCK, in->trace_id, range);
    if (rc != FORGE_OK)
        return rc;
    db_queue(statement_in_range(call, SQL_TRACE_DELETE_SPANS, range));
    db_queue(statement(call, SQL_TRACE_DELETE, range));
    return FORGE_OK;
}
