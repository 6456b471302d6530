/* Traces that are too old: those of projects which keep them for a shorter time than the server, with their spans, and the rows of traces
 * whose spans went with their partitions. */
#include "db/maintain_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_SIZE = 24 };
static const int64_t DAY_US = INT64_C(86400000000), SECOND_NS = INT64_C(1000000000);

/* ---- by the days of their projects ---- */

struct old_traces {
    const char *organization_id, *project_id;
    char before_us[NUMBER_SIZE]; /* those that started before go */
};

/* In a transaction: takes some traces for it, at most a thousand and, but for the first, with at most 5,000 spans together. A trace that a
 * call is just adding to is left to the next pass. One row: their ids (NULL: none), from when to when their spans start. */
static forge_code take_traces(struct db_maintainer *maintainer, const struct old_traces *traces, PGresult **out, struct forge_error *error)
{
    const char *parameters[] = {traces->organization_id, traces->project_id, traces->before_us};
    return db_admin_query(maintainer->conn,
                          "SELECT array_agg(trace_id), min(started_at), timestamptz 'epoch' + (max(end_ns) / 1000 + 1) * interval"
                          " '1 microsecond' FROM (SELECT trace_id, started_at, end_ns, sum(span_count) OVER (ORDER BY started_at, trace_id"
                          " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS spans_before FROM (SELECT trace_id, started_at, end_ns,"
                          " span_count FROM traces WHERE organization_id = $1 AND project_id = $2 AND started_at < timestamptz 'epoch'"
                          " + $3::bigint * interval '1 microsecond' ORDER BY started_at, trace_id LIMIT 1000 FOR UPDATE SKIP LOCKED) t) t"
                          " WHERE COALESCE(spans_before, 0) < 5000",
                          3, parameters, "looking for old traces", out, error);
}

/* The times are parameters, so that only the partitions of these days are planned for and locked. */
static forge_code delete_spans(struct db_maintainer *maintainer, const struct old_traces *traces, const PGresult *taken,
                               struct forge_error *error)
{
    const char *parameters[] = {traces->organization_id, traces->project_id, PQgetvalue(taken, 0, 0), PQgetvalue(taken, 0, 1),
                                PQgetvalue(taken, 0, 2)};
    PGresult *result = NULL;
    forge_code rc = db_admin_query(maintainer->conn,
                                   "DELETE FROM spans WHERE organization_id = $1 AND project_id = $2 AND trace_id = ANY ($3::bytea[])"
                                   " AND started_at >= $4::timestamptz AND started_at <= $5::timestamptz",
                                   5, parameters, "deleting old spans", &result, error);
    if (rc == FORGE_OK)
        maintainer->report->spans_deleted += strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return rc;
}

static forge_code delete_rows(struct db_maintainer *maintainer, const struct old_traces *traces, const PGresult *taken, int64_t *out_count,
                              struct forge_error *error)
{
    const char *parameters[] = {traces->organization_id, traces->project_id, PQgetvalue(taken, 0, 0)};
    PGresult *result = NULL;
    forge_code rc = db_admin_query(maintainer->conn,
                                   "DELETE FROM traces WHERE organization_id = $1 AND project_id = $2 AND trace_id = ANY ($3::bytea[])", 3,
                                   parameters, "deleting old traces", &result, error);
    *out_count = rc == FORGE_OK ? strtoll(PQcmdTuples(result), NULL, 10) : 0;
    PQclear(result);
    return rc;
}

/* *out_count: how many traces it deleted. */
static forge_code delete_batch(struct db_maintainer *maintainer, const struct old_traces *traces, int64_t *out_count,
                               struct forge_error *error)
{
    PGresult *taken = NULL;
    *out_count = 0;
    forge_code rc = db_admin_begin(maintainer->conn, traces->organization_id, error);
    if (rc == FORGE_OK)
        rc = take_traces(maintainer, traces, &taken, error);
    if (rc == FORGE_OK && !PQgetisnull(taken, 0, 0)) {
        rc = delete_spans(maintainer, traces, taken, error);
        if (rc == FORGE_OK)
            rc = delete_rows(maintainer, traces, taken, out_count, error);
    }
    PQclear(taken);
    rc = db_admin_end(maintainer->conn, rc, error);
    if (rc == FORGE_OK)
        maintainer->report->traces_deleted += *out_count;
    return rc;
}

static forge_code delete_of_project(struct db_maintainer *maintainer, const struct old_traces *traces, struct forge_error *error)
{
    int64_t deleted = 1;
    forge_code rc = FORGE_OK;
    while (rc == FORGE_OK && deleted > 0 && !db_maintain_is_stopped(maintainer))
        rc = delete_batch(maintainer, traces, &deleted, error);
    return rc;
}

forge_code db_maintain_traces_of_projects(struct db_maintainer *maintainer, const char *organization_id, struct forge_error *error)
{
    PGresult *rows;
    forge_code rc =
        db_maintain_query(maintainer, organization_id, "SELECT project_id, trace_days FROM retention_settings WHERE organization_id = $1",
                          "listing retention settings", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK && !db_maintain_is_stopped(maintainer); i++) {
        struct old_traces traces = {.organization_id = organization_id, .project_id = PQgetvalue(rows, i, 0)};
        int64_t days = strtoll(PQgetvalue(rows, i, 1), NULL, 10);
        snprintf(traces.before_us, sizeof traces.before_us, "%" PRId64, maintainer->config->now_us - days * DAY_US);
        rc = delete_of_project(maintainer, &traces, error);
    }
    PQclear(rows);
    return rc;
}

/* ---- by the server's limit ---- */

/* Project by project, so that the index by start of each tells which they are. A trace that is added to just now has another end: the
 * DELETE looks again. */
forge_code db_maintain_traces_before(struct db_maintainer *maintainer, const char *organization_id, int64_t before_s,
                                     struct forge_error *error)
{
    char seconds[NUMBER_SIZE], nanoseconds[NUMBER_SIZE];
    snprintf(seconds, sizeof seconds, "%" PRId64, before_s);
    snprintf(nanoseconds, sizeof nanoseconds, "%" PRId64, before_s * SECOND_NS);
    const struct db_maintain_batch batch = {
        "deleting old traces",
        "DELETE FROM traces WHERE organization_id = $1 AND started_at < to_timestamp($2::bigint) AND end_ns < $3::bigint AND ctid = ANY ("
        "ARRAY(SELECT t.ctid FROM projects p CROSS JOIN LATERAL (SELECT ctid FROM traces WHERE organization_id = $1 AND project_id = p.id"
        " AND started_at < to_timestamp($2::bigint) AND end_ns < $3::bigint LIMIT 5000) t WHERE p.organization_id = $1 LIMIT 5000))",
        {organization_id, seconds, nanoseconds},
        3};
    return db_maintain_delete(maintainer, organization_id, &batch, &maintainer->report->traces_deleted, error);
}
