#include "db/maintain_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOUR_S = 3600,
    CHANGES_KEPT_S = HOUR_S,
    REPLIES_KEPT_S = 48 * HOUR_S,
    FAILURES_KEPT_S = 24 * HOUR_S,
    WINDOWS_KEPT_S = 48 * HOUR_S,
    SECONDS_SIZE = 24
};

/* A pass holds this session lock; the number is any that nobody else uses in this database ("frgmaint"). */
static const char LOCK[] = "SELECT pg_try_advisory_lock(7382052301653666420)";
static const char UNLOCK[] = "SELECT pg_advisory_unlock(7382052301653666420)";

bool db_maintain_is_stopped(const struct db_maintainer *maintainer)
{
    return maintainer->config->stop != NULL && atomic_load(maintainer->config->stop);
}

forge_code db_maintain_delete(struct db_maintainer *maintainer, const char *organization_id, const struct db_maintain_batch *batch,
                              int64_t *total, struct forge_error *error)
{
    int64_t deleted = 1;
    while (deleted > 0 && !db_maintain_is_stopped(maintainer)) {
        PGresult *result = NULL;
        forge_code rc = db_admin_begin(maintainer->conn, organization_id, error);
        if (rc == FORGE_OK)
            rc = db_admin_query(maintainer->conn, batch->sql, batch->parameter_count, batch->parameters, batch->what, &result, error);
        deleted = rc == FORGE_OK ? strtoll(PQcmdTuples(result), NULL, 10) : 0;
        PQclear(result);
        rc = db_admin_end(maintainer->conn, rc, error);
        if (rc != FORGE_OK)
            return rc;
        *total += deleted;
    }
    return FORGE_OK;
}

forge_code db_maintain_query(struct db_maintainer *maintainer, const char *organization_id, const char *sql, const char *what,
                             PGresult **out_rows, struct forge_error *error)
{
    PGresult *rows = NULL;
    forge_code rc = db_admin_begin(maintainer->conn, organization_id, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(maintainer->conn, sql, 1, &organization_id, what, &rows, error);
    rc = db_admin_end(maintainer->conn, rc, error);
    if (rc == FORGE_OK)
        *out_rows = rows;
    else
        PQclear(rows);
    return rc;
}

static forge_code become_leader(struct db_maintainer *maintainer, struct forge_error *error)
{
    PGresult *result;
    forge_code rc = db_admin_query(maintainer->conn, LOCK, 0, NULL, "taking the maintenance lock", &result, error);
    if (rc != FORGE_OK)
        return rc;
    maintainer->report->is_leader = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return FORGE_OK;
}

/* Seconds since the Unix epoch, for to_timestamp(). */
static void seconds_before(const struct db_maintainer *maintainer, int64_t age_s, char out[SECONDS_SIZE])
{
    snprintf(out, SECONDS_SIZE, "%" PRId64, maintainer->config->now_us / 1000000 - age_s);
}

static forge_code delete_shared(struct db_maintainer *maintainer, struct forge_error *error)
{
    char changes_before[SECONDS_SIZE], failures_before[SECONDS_SIZE], now[SECONDS_SIZE];
    seconds_before(maintainer, CHANGES_KEPT_S, changes_before);
    seconds_before(maintainer, FAILURES_KEPT_S, failures_before);
    seconds_before(maintainer, 0, now);
    const struct db_maintain_batch changes = {"deleting changes",
                                              "DELETE FROM changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM changes"
                                              " WHERE created_at < to_timestamp($1::bigint) LIMIT 5000))",
                                              {changes_before},
                                              1};
    const struct db_maintain_batch tokens = {
        "deleting operator tokens", "DELETE FROM operator_tokens WHERE expires_at < to_timestamp($1::bigint)", {now}, 1};
    const struct db_maintain_batch failures = {"deleting login failures",
                                               "DELETE FROM login_failures WHERE ctid = ANY (ARRAY(SELECT ctid FROM login_failures"
                                               " WHERE last_failure_at < to_timestamp($1::bigint) AND (locked_until IS NULL"
                                               " OR locked_until < to_timestamp($2::bigint)) LIMIT 5000))",
                                               {failures_before, now},
                                               2};
    forge_code rc = db_maintain_delete(maintainer, NULL, &changes, &maintainer->report->changes, error);
    if (rc == FORGE_OK)
        rc = db_maintain_delete(maintainer, NULL, &tokens, &maintainer->report->operator_tokens, error);
    if (rc == FORGE_OK)
        rc = db_maintain_delete(maintainer, NULL, &failures, &maintainer->report->login_failures, error);
    return rc;
}

/* Partitions of stored replies go as a whole (maintain_partitions.c); the default one holds the first day, and whatever came when none had
 * been made. */
static forge_code delete_of_organization(struct db_maintainer *maintainer, const char *organization_id, struct forge_error *error)
{
    char replies_before[SECONDS_SIZE], windows_before[SECONDS_SIZE], now[SECONDS_SIZE];
    seconds_before(maintainer, REPLIES_KEPT_S, replies_before);
    seconds_before(maintainer, WINDOWS_KEPT_S, windows_before);
    seconds_before(maintainer, 0, now);
    const struct db_maintain_batch replies = {
        "deleting stored replies",
        "DELETE FROM forge_partitions.idempotency_default WHERE organization_id = $1 AND ctid = ANY (ARRAY("
        "SELECT ctid FROM forge_partitions.idempotency_default"
        " WHERE organization_id = $1 AND created_at < to_timestamp($2::bigint) LIMIT 5000))",
        {organization_id, replies_before},
        2};
    const struct db_maintain_batch sessions = {"deleting sessions",
                                               "DELETE FROM sessions WHERE organization_id = $1 AND ctid = ANY (ARRAY("
                                               "SELECT ctid FROM sessions WHERE organization_id = $1"
                                               " AND expires_at < to_timestamp($2::bigint) LIMIT 5000))",
                                               {organization_id, now},
                                               2};
    const struct db_maintain_batch windows = {"deleting rate windows",
                                              "DELETE FROM rate_windows WHERE organization_id = $1 AND ctid = ANY (ARRAY("
                                              "SELECT ctid FROM rate_windows WHERE organization_id = $1"
                                              " AND window_start < to_timestamp($2::bigint) LIMIT 5000))",
                                              {organization_id, windows_before},
                                              2};
    forge_code rc = db_maintain_delete(maintainer, organization_id, &replies, &maintainer->report->stored_replies, error);
    if (rc == FORGE_OK)
        rc = db_maintain_delete(maintainer, organization_id, &sessions, &maintainer->report->sessions, error);
    if (rc == FORGE_OK)
        rc = db_maintain_delete(maintainer, organization_id, &windows, &maintainer->report->rate_windows, error);
    return rc;
}

static forge_code maintain_organization(struct db_maintainer *maintainer, const char *organization_id, bool is_deleted,
                                        struct forge_error *error)
{
    forge_code rc = delete_of_organization(maintainer, organization_id, error);
    if (rc == FORGE_OK && is_deleted)
        return db_maintain_remove_organization(maintainer, organization_id, error);
    if (rc == FORGE_OK)
        rc = db_maintain_remove_projects(maintainer, organization_id, error);
    return rc == FORGE_OK ? db_maintain_traces_of_projects(maintainer, organization_id, error) : rc;
}

/* The first error is told, after every organization had its turn. */
static forge_code maintain_organizations(struct db_maintainer *maintainer, struct forge_error *error)
{
    PGresult *rows;
    forge_code first = FORGE_OK;
    forge_code rc = db_admin_query(maintainer->conn, "SELECT organization_id, deleted_at IS NOT NULL FROM organization_names", 0, NULL,
                                   "listing organizations", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && !db_maintain_is_stopped(maintainer); i++) {
        struct forge_error failure = {0};
        rc = maintain_organization(maintainer, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1)[0] == 't', &failure);
        if (rc == FORGE_OK || first != FORGE_OK)
            continue;
        first = rc;
        *error = failure;
        if (PQstatus(maintainer->conn) != CONNECTION_OK)
            break;
    }
    PQclear(rows);
    return first;
}

/* Retention last: it may take long. It goes on whatever failed before, or one organization's rows would fill the disk for all; the first
 * error is told. */
static forge_code delete_old(struct db_maintainer *maintainer, struct forge_error *error)
{
    struct forge_error failure = {0};
    forge_code rc = delete_shared(maintainer, error);
    if (rc == FORGE_OK)
        rc = maintain_organizations(maintainer, error);
    if (db_maintain_is_stopped(maintainer) || PQstatus(maintainer->conn) != CONNECTION_OK)
        return rc;
    forge_code kept = db_maintain_retention(maintainer, &failure);
    if (rc == FORGE_OK && kept != FORGE_OK)
        *error = failure;
    return rc != FORGE_OK ? rc : kept;
}

forge_code db_maintain(const struct db_maintain_config *config, struct db_maintain_report *out, struct forge_error *error)
{
    struct db_maintainer maintainer = {.config = config, .report = out};
    *out = (struct db_maintain_report){0};
    forge_code rc = db_admin_open(config->url, NULL, &maintainer.conn, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_admin_become_owner(maintainer.conn, error);
    if (rc == FORGE_OK)
        rc = become_leader(&maintainer, error);
    if (rc == FORGE_OK && out->is_leader)
        rc = db_maintain_partitions(&maintainer, error);
    out->is_ahead = rc == FORGE_OK && out->is_leader;
    if (out->is_ahead)
        rc = delete_old(&maintainer, error);
    if (out->is_leader)
        PQclear(PQexec(maintainer.conn, UNLOCK)); /* the end of a connection would release it a moment after we have returned */
    PQfinish(maintainer.conn);
    return rc;
}
