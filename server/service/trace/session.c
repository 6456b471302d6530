/* TraceService: ListSessions. */
#include "rpc/page.h"
#include "service/reply.h"
#include "service/trace/trace_reply.h"
#include "service/validate.h"

#include "rpc_table.h"

enum { NAME_CHARACTERS_MAX = 255 };

struct listing {
    struct forge_uuid project_id;
    int64_t start_us, end_us;
    struct rpc_page page;
    struct db_bytes filter;
};

static forge_code listing_check(struct rpc_call *call, const Forge__V1__ListSessionsRequest *in, struct listing *listing)
{
    Forge__V1__ListSessionsRequest filter = *in;
    filter.page_size = 0;
    filter.page_token = (char *)(uintptr_t) "";
    listing->filter = trace_filter(call, &filter.base);
    validate_uuid(call, "project_id", in->project_id, &listing->project_id);
    rpc_page_read(call, in->page_size, in->page_token, listing->filter.data, listing->filter.size, &listing->page);
    validate_time_range(call, in->start_time, in->end_time, &listing->start_us, &listing->end_us);
    validate_text(call, "session_id", in->session_id, NAME_CHARACTERS_MAX);
    validate_text(call, "user_id", in->user_id, NAME_CHARACTERS_MAX);
    return validate_end_in_project(call, &listing->project_id);
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListSessionsRequest *in, const struct listing *listing,
                           struct db_rows *rows)
{
    const struct rpc_page *page = &listing->page;
    struct db_stmt *q = db_stmt(call->db, SQL_SESSION_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &listing->project_id);
    db_bind_time_us(q, listing->start_us);
    db_bind_time_us(q, listing->end_us);
    db_bind_text(q, in->session_id[0] != '\0' ? in->session_id : NULL);
    db_bind_text(q, in->user_id[0] != '\0' ? in->user_id : NULL);
    db_bind_time_us(q, page->has_key ? page->last_number : listing->end_us);
    db_bind_text(q, page->has_key ? page->last_name : NULL);
    db_bind_int32(q, page->size + 1);
    return db_run_many(q, rows, &call->error);
}

static Forge__V1__Session *session_reply(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__Session *session = reply_message(call, &forge__v1__session__descriptor);
    if (session == NULL)
        return NULL;
    session->project_id = db_row_uuid_text(row, "project_id");
    session->session_id = db_row_text(row, "session_id");
    session->user_id = db_row_text_or_empty(row, "user_id");
    session->start_time = trace_time(call, db_row_int64(row, "start_ns"));
    session->end_time = trace_time(call, db_row_int64(row, "end_ns"));
    session->trace_count = db_row_int64(row, "trace_count");
    session->error_trace_count = db_row_int64(row, "error_trace_count");
    session->usage = reply_usage(call, row);
    session->cost_micros = db_row_int64(row, "cost_micros");
    return session;
}

static void list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListSessionsResponse *out)
{
    size_t left = trace_page_room(call);
    out->sessions = forge_arena_calloc(call->arena, (size_t)count, sizeof out->sessions[0]);
    for (int i = 0; out->sessions != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Session *session = session_reply(call, &row);
        if (session == NULL || !trace_page_takes(out->n_sessions, &session->base, &left))
            break; /* rpc sees an overflow */
        out->sessions[out->n_sessions++] = session;
    }
}

forge_code trace_list_sessions(struct rpc_call *call, const Forge__V1__ListSessionsRequest *in, Forge__V1__ListSessionsResponse *out)
{
    struct listing listing = {0};
    struct db_rows rows;
    forge_code rc = listing_check(call, in, &listing);
    if (rc == FORGE_OK)
        rc = list_run(call, in, &listing, &rows);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "session_id"))
        return FORGE_OK;
    list_fill(call, &rows, rows.count < listing.page.size ? rows.count : listing.page.size, out);
    if (out->n_sessions > 0 && (size_t)rows.count > out->n_sessions) {
        struct db_row last = db_rows_at(&rows, (int)out->n_sessions - 1);
        out->next_page_token = rpc_page_next(call, listing.filter.data, listing.filter.size, db_row_text(&last, "session_id"),
                                             db_row_time_us(&last, "last_started_at"), &(struct forge_uuid){0});
    }
    return FORGE_OK;
}
