/* PolicyService/GetPolicyStats: what count.c counted. */
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

enum { ROWS_MAX = 20000 };

/* What is asked for, checked. */
struct stats_query {
    int32_t first_day, last_day; /* since the Unix epoch, in UTC */
    bool has_project, has_policy;
    struct forge_uuid project_id, policy_id;
};

static forge_code query_check(struct rpc_call *call, const Forge__V1__GetPolicyStatsRequest *in, struct stats_query *query)
{
    *query = (struct stats_query){.has_project = in->project_id[0] != '\0', .has_policy = in->policy_id[0] != '\0'};
    if (query->has_project)
        validate_uuid(call, "project_id", in->project_id, &query->project_id);
    if (query->has_policy)
        validate_uuid(call, "policy_id", in->policy_id, &query->policy_id);
    validate_days(call, in->start_date, in->end_date, &query->first_day, &query->last_day);
    if (query->has_project)
        return validate_end_in_project(call, &query->project_id);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

static forge_code named_find(struct rpc_call *call, const Forge__V1__GetPolicyStatsRequest *in, const struct stats_query *query)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_STATS_FIND);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, query->has_project ? &query->project_id : NULL);
    db_bind_uuid(q, query->has_policy ? &query->policy_id : NULL);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_OK && !db_row_bool(&row, "project_exists"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    if (rc == FORGE_OK && !db_row_bool(&row, "policy_exists"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "policy %s not found", in->policy_id);
    return rc;
}

static void stats_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__PolicyDailyStats *stats = message;
    stats->date = db_row_text(row, "date");
    stats->policy_id = db_row_uuid_text(row, "policy_id");
    stats->policy_name = db_row_text(row, "policy_name");
    stats->evaluated_count = db_row_int64(row, "evaluated_count");
    stats->passed_count = db_row_int64(row, "passed_count");
    stats->flagged_count = db_row_int64(row, "flagged_count");
    stats->masked_count = db_row_int64(row, "masked_count");
    stats->blocked_count = db_row_int64(row, "blocked_count");
}

forge_code policy_get_stats(struct rpc_call *call, const Forge__V1__GetPolicyStatsRequest *in, Forge__V1__GetPolicyStatsResponse *out)
{
    struct stats_query query;
    struct db_rows rows;
    forge_code rc = query_check(call, in, &query);
    if (rc == FORGE_OK)
        rc = named_find(call, in, &query);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_STATS_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_int32(q, query.first_day);
    db_bind_int32(q, query.last_day);
    db_bind_uuid(q, query.has_project ? &query.project_id : auth_principal_bound_project(&call->principal));
    db_bind_uuid(q, query.has_policy ? &query.policy_id : NULL);
    db_bind_int32(q, ROWS_MAX + 1);
    rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count > ROWS_MAX)
        return rpc_call_fail(call, FORGE_OUT_OF_RANGE, "more than %d rows: ask for fewer days, or for one policy", ROWS_MAX);
    out->days = reply_list(call, &rows, ROWS_MAX, &forge__v1__policy_daily_stats__descriptor, stats_from_row, &out->n_days);
    return FORGE_OK;
}
