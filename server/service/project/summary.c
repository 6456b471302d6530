/* ProjectService: how much a project holds and how its last 24 hours went. */
#include "db/stmt.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#define DAY_US (INT64_C(24) * 60 * 60 * 1000000)

static void recent_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__ProjectSummary *out)
{
    out->recent_trace_count = db_row_int64(row, "recent_trace_count");
    out->recent_error_trace_count = db_row_int64(row, "recent_error_count");
    out->recent_usage = reply_usage(call, row);
    out->recent_cost_micros = db_row_int64(row, "cost_micros");
}

static void summary_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__ProjectSummary *out)
{
    out->project_id = db_row_uuid_text(row, "id");
    out->prompt_count = db_row_int64(row, "prompt_count");
    out->prompt_version_count = db_row_int64(row, "version_count");
    out->execution_count = db_row_int64(row, "execution_count");
    out->success_count = db_row_int64(row, "success_count");
    out->rated_count = db_row_int64(row, "rated_count");
    if (out->rated_count > 0)
        out->average_rating = (double)db_row_int64(row, "rating_sum") / (double)out->rated_count;
    out->dataset_count = db_row_int64(row, "dataset_count");
    out->evaluation_count = db_row_int64(row, "evaluation_count");
    out->running_evaluation_count = db_row_int64(row, "running_count");
    out->trace_count = db_row_int64(row, "trace_count");
    out->policy_count = db_row_int64(row, "policy_count");
    out->open_violation_count = db_row_int64(row, "open_violation_count");
    recent_from_row(call, row, out);
    if (!db_row_is_null(row, "last_end_ns"))
        out->last_trace_time = reply_time_us(call, db_row_int64(row, "last_end_ns") / 1000);
    out->last_prompt_time = reply_time(call, row, "last_changed_at");
    out->trace_retention_days = db_row_int32(row, "trace_days");
}

forge_code project_get_summary(struct rpc_call *call, const Forge__V1__GetProjectSummaryRequest *in, Forge__V1__ProjectSummary *out)
{
    struct forge_uuid id;
    if (!validate_uuid(call, "id", in->id, &id))
        return rpc_call_invalid(call);
    if (!auth_principal_may_use_project(&call->principal, &id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to another project");
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_SUMMARY);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_time_us(q, call->now_us - DAY_US);
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "project", in->id, &row);
    if (rc == FORGE_OK)
        summary_from_row(call, &row, out);
    return rc;
}
