/* TraceService: SetRetention. */
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <string.h>

enum { TRACE_DAYS_MAX = 3650 };

/* "" without a row. A row that was taken away and made again counts from 1, but from another time. */
static char *etag_of(struct rpc_call *call, const struct db_row *row, const char *created_column, const char *version_column)
{
    if (db_row_is_null(row, version_column))
        return forge_arena_strdup(call->arena, "");
    return forge_arena_printf(call->arena, "%" PRIx64 ".%" PRId64, (uint64_t)db_row_time_us(row, created_column),
                              db_row_int64(row, version_column));
}

static forge_code check(struct rpc_call *call, const Forge__V1__SetRetentionRequest *in, struct forge_uuid *project_id)
{
    validate_uuid(call, "project_id", in->project_id, project_id);
    if (in->trace_days < 0 || in->trace_days > TRACE_DAYS_MAX)
        rpc_call_violation(call, "trace_days", "must be 1 to %d, or 0 for the server's limit", TRACE_DAYS_MAX);
    validate_etag(call, "etag", in->etag);
    return validate_end_in_project(call, project_id);
}

/* The lock goes out in the same flight, before the statement that looks and changes. */
static struct db_stmt *statement(struct rpc_call *call, const Forge__V1__SetRetentionRequest *in, const struct forge_uuid *project_id)
{
    struct db_stmt *lock = db_stmt(call->db, SQL_RETENTION_LOCK);
    db_bind_uuid(lock, &call->principal.organization_id);
    db_bind_uuid(lock, project_id);
    db_queue(lock);
    struct db_stmt *q = db_stmt(call->db, SQL_RETENTION_SET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, project_id);
    if (in->trace_days > 0)
        db_bind_int32(q, in->trace_days);
    else
        db_bind_null(q);
    db_bind_time_us(q, call->now_us);
    return q;
}

static void from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Retention *out)
{
    out->project_id = db_row_uuid_text(row, "project_id");
    if (db_row_is_null(row, "trace_days"))
        return;
    out->trace_days = db_row_int32(row, "trace_days");
    out->update_time = reply_time(call, row, "changed_at");
    out->etag = etag_of(call, row, "created_at", "row_version");
}

forge_code trace_set_retention(struct rpc_call *call, const Forge__V1__SetRetentionRequest *in, Forge__V1__Retention *out)
{
    struct forge_uuid project_id;
    struct db_row row;
    forge_code rc = check(call, in, &project_id);
    if (rc == FORGE_OK)
        rc = reply_run_found(call, statement(call, in, &project_id), "project", in->project_id, &row);
    if (rc != FORGE_OK)
        return rc;
    const char *etag = etag_of(call, &row, "old_created_at", "old_row_version");
    if (in->etag[0] != '\0' && etag != NULL && strcmp(in->etag, etag) != 0)
        return rpc_call_fail(call, FORGE_ABORTED, "the retention has changed since this etag was read");
    from_row(call, &row, out);
    if (db_row_bool(&row, "is_changed"))
        rpc_write_audit(call, "retention.set", "project", &project_id,
                        forge_arena_printf(call->arena, "{\"old_trace_days\":%d,\"trace_days\":%d}",
                                           db_row_int32(&row, "old_trace_days") /* 0 without a row */, in->trace_days));
    return FORGE_OK;
}
