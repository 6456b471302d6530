#include "db/maintain.h"

#include "db/admin_connection.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR_S = 3600, CHANGES_KEPT_S = HOUR_S, IDEMPOTENCY_KEPT_S = 48 * HOUR_S };

struct clock_text {
    char now[40], changes_before[40], idempotency_before[40]; /* seconds since the Unix epoch, for to_timestamp() */
};

static void clock_format(struct clock_text *clock, int64_t now_us)
{
    int64_t now_s = now_us / 1000000;
    snprintf(clock->now, sizeof clock->now, "%" PRId64, now_s);
    snprintf(clock->changes_before, sizeof clock->changes_before, "%" PRId64, now_s - CHANGES_KEPT_S);
    snprintf(clock->idempotency_before, sizeof clock->idempotency_before, "%" PRId64, now_s - IDEMPOTENCY_KEPT_S);
}

/* Runs a DELETE and adds what it deleted. */
static forge_code delete_rows(PGconn *conn, const char *sql, int count, const char *const *values, const char *what, int64_t *total,
                              struct forge_error *error)
{
    PGresult *result;
    forge_code rc = db_admin_query(conn, sql, count, values, what, &result, error);
    if (rc != FORGE_OK)
        return rc;
    *total += strtoll(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return FORGE_OK;
}

static forge_code become_owner(PGconn *conn, struct forge_error *error)
{
    forge_code rc =
        db_admin_exec(conn, "SET statement_timeout = '60s'; SET lock_timeout = '1s'; SET ROLE forge_owner", "becoming forge_owner", error);
    if (rc == FORGE_OK || strcmp(error->sqlstate, "42501") != 0)
        return rc;
    return forge_error_set(
        error, FORGE_FAILED_PRECONDITION,
        "this role may not become forge_owner: DATABASE_MAINT_URL must name forge_maint; `forged bootstrap roles` makes it");
}

static forge_code maintain_shared(PGconn *conn, const struct clock_text *clock, struct db_maintain_report *out, struct forge_error *error)
{
    const char *changes_before[] = {clock->changes_before}, *now[] = {clock->now};
    forge_code rc = delete_rows(conn, "DELETE FROM changes WHERE created_at < to_timestamp($1::bigint)", 1, changes_before,
                                "deleting changes", &out->changes, error);
    if (rc == FORGE_OK)
        rc = delete_rows(conn, "DELETE FROM operator_tokens WHERE expires_at < to_timestamp($1::bigint)", 1, now,
                         "deleting operator tokens", &out->operator_tokens, error);
    return rc;
}

/* One organization, in one transaction bound to it. */
static forge_code maintain_organization(PGconn *conn, const char *organization_id, const struct clock_text *clock,
                                        struct db_maintain_report *out, struct forge_error *error)
{
    const char *tenant[] = {organization_id}, *stored[] = {organization_id, clock->idempotency_before},
               *expired[] = {organization_id, clock->now};
    int64_t idempotency = 0, sessions = 0;
    PGresult *result = NULL;
    forge_code rc = db_admin_exec(conn, "BEGIN", "beginning", error);
    if (rc == FORGE_OK)
        rc = db_admin_query(conn, "SELECT set_config('forge.organization_id', $1, true)", 1, tenant, "binding the organization", &result,
                            error);
    if (rc == FORGE_OK)
        rc = delete_rows(conn, "DELETE FROM idempotency WHERE organization_id = $1 AND created_at < to_timestamp($2::bigint)", 2, stored,
                         "deleting stored replies", &idempotency, error);
    if (rc == FORGE_OK)
        rc = delete_rows(conn, "DELETE FROM sessions WHERE organization_id = $1 AND expires_at < to_timestamp($2::bigint)", 2, expired,
                         "deleting sessions", &sessions, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(conn, "COMMIT", "committing", error);
    PQclear(result);
    if (rc != FORGE_OK) {
        PQclear(PQexec(conn, "ROLLBACK"));
        return rc;
    }
    out->idempotency += idempotency;
    out->sessions += sessions;
    return FORGE_OK;
}

static forge_code maintain_organizations(PGconn *conn, const struct clock_text *clock, struct db_maintain_report *out,
                                         struct forge_error *error)
{
    PGresult *organizations;
    forge_code rc =
        db_admin_query(conn, "SELECT organization_id FROM organization_names", 0, NULL, "listing organizations", &organizations, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(organizations) && rc == FORGE_OK; i++)
        rc = maintain_organization(conn, PQgetvalue(organizations, i, 0), clock, out, error);
    PQclear(organizations);
    return rc;
}

forge_code db_maintain(const char *url, int64_t now_us, struct db_maintain_report *out, struct forge_error *error)
{
    struct clock_text clock;
    PGconn *conn;
    forge_code rc = db_admin_open(url, NULL, &conn, error);
    if (rc != FORGE_OK)
        return rc;
    memset(out, 0, sizeof *out);
    clock_format(&clock, now_us);
    rc = become_owner(conn, error);
    if (rc == FORGE_OK)
        rc = maintain_shared(conn, &clock, out, error);
    if (rc == FORGE_OK)
        rc = maintain_organizations(conn, &clock, out, error);
    PQfinish(conn);
    return rc;
}
