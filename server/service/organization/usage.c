/* OrganizationService: what was used on each day, and how much of the quotas is. Counted by rpc/usage.c. */
#include "rpc/usage.h"

#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

enum { METRICS_MAX = 64, ROWS_MAX = 20000, DAY_SECONDS = 86400 };

/* What is asked for, checked. */
struct usage_query {
    int32_t first_day, last_day, today; /* since the Unix epoch, in UTC */
    bool has_project;
    struct forge_uuid project_id;
    const char **metrics;
    size_t metric_count;
};

static void metrics_check(struct rpc_call *call, const Forge__V1__GetUsageRequest *in, struct usage_query *query)
{
    if (in->n_metrics > METRICS_MAX) {
        rpc_call_violation(call, "metrics", "must be at most %d", METRICS_MAX);
        return;
    }
    query->metrics = forge_arena_calloc(call->arena, in->n_metrics + 1, sizeof *query->metrics);
    for (size_t i = 0; query->metrics != NULL && i < in->n_metrics; i++) {
        const char *name = rpc_usage_metric_name(in->metrics[i]);
        if (name == NULL) {
            rpc_call_violation(call, "metrics", "there is no metric %d", (int)in->metrics[i]);
            return;
        }
        query->metrics[query->metric_count++] = name;
    }
}

static forge_code query_check(struct rpc_call *call, const Forge__V1__GetUsageRequest *in, struct usage_query *query)
{
    *query = (struct usage_query){.has_project = in->project_id[0] != '\0'};
    query->today = (int32_t)(call->now_us / 1000000 / DAY_SECONDS);
    validate_days(call, in->start_date, in->end_date, &query->first_day, &query->last_day);
    metrics_check(call, in, query);
    if (query->has_project)
        validate_uuid(call, "project_id", in->project_id, &query->project_id);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (!auth_principal_may_use_project(&call->principal, &query->project_id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to one project: name it in project_id");
    return FORGE_OK;
}

static forge_code project_find(struct rpc_call *call, const Forge__V1__GetUsageRequest *in, const struct usage_query *query)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_USAGE_PROJECT_IS_KNOWN);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &query->project_id);
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_OK && !db_row_bool(&row, "is_known"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    return rc;
}

static void usage_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    (void)call;
    Forge__V1__UsageRow *usage = message;
    usage->date = db_row_text(row, "date");
    if (!db_row_is_null(row, "project_id"))
        usage->project_id = db_row_uuid_text(row, "project_id");
    usage->metric = rpc_usage_metric_find(db_row_text_or_empty(row, "metric"));
    usage->value = db_row_int64(row, "value");
}

static forge_code rows_read(struct rpc_call *call, const Forge__V1__GetUsageRequest *in, const struct usage_query *query,
                            Forge__V1__GetUsageResponse *out)
{
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_USAGE_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_int32(q, query->first_day);
    db_bind_int32(q, query->last_day);
    db_bind_uuid(q, query->has_project ? &query->project_id : NULL);
    if (query->metric_count > 0)
        db_bind_text_array(q, query->metrics, query->metric_count);
    else
        db_bind_null(q);
    db_bind_bool(q, in->by_project || query->has_project);
    db_bind_int32(q, ROWS_MAX + 1);
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count > ROWS_MAX)
        return rpc_call_fail(call, FORGE_OUT_OF_RANGE, "more than %d rows: ask for fewer days or metrics, or for one project", ROWS_MAX);
    out->rows = reply_list(call, &rows, ROWS_MAX, &forge__v1__usage_row__descriptor, usage_from_row, &out->n_rows);
    return FORGE_OK;
}

static Forge__V1__QuotaPeriod period_find(const char *name)
{
    return strcmp(name, "total") == 0   ? FORGE__V1__QUOTA_PERIOD__QUOTA_PERIOD_TOTAL
           : strcmp(name, "day") == 0   ? FORGE__V1__QUOTA_PERIOD__QUOTA_PERIOD_DAY
           : strcmp(name, "month") == 0 ? FORGE__V1__QUOTA_PERIOD__QUOTA_PERIOD_MONTH
                                        : FORGE__V1__QUOTA_PERIOD__QUOTA_PERIOD_UNSPECIFIED;
}

static void quota_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    (void)call;
    Forge__V1__Quota *quota = message;
    quota->metric = rpc_usage_metric_find(db_row_text_or_empty(row, "metric"));
    quota->period = period_find(db_row_text_or_empty(row, "period"));
    if (!db_row_is_null(row, "project_id"))
        quota->project_id = db_row_uuid_text(row, "project_id");
    quota->limit = db_row_int64(row, "limit_value");
    quota->used = db_row_int64(row, "used");
}

static forge_code quotas_read(struct rpc_call *call, const struct usage_query *query, Forge__V1__GetUsageResponse *out)
{
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_USAGE_QUOTAS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_int32(q, query->today);
    db_bind_uuid(q, query->has_project ? &query->project_id : NULL);
    db_bind_bool(q, auth_principal_bound_project(&call->principal) == NULL);
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->quotas = reply_list(call, &rows, rows.count, &forge__v1__quota__descriptor, quota_from_row, &out->n_quotas);
    return FORGE_OK;
}

forge_code organization_get_usage(struct rpc_call *call, const Forge__V1__GetUsageRequest *in, Forge__V1__GetUsageResponse *out)
{
    struct usage_query query;
    forge_code rc = query_check(call, in, &query);
    if (rc == FORGE_OK && query.has_project)
        rc = project_find(call, in, &query);
    if (rc == FORGE_OK)
        rc = rows_read(call, in, &query, out);
    return rc == FORGE_OK ? quotas_read(call, &query, out) : rc;
}
