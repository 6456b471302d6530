/* The server's limit for spans: a partition that is wholly older is detached, archived and dropped.
 *
 * Each step leaves what the next pass can tell from the catalog: a partition is attached, being detached (a pass ended in the middle of
 * it), or detached, which means that it is to be archived and dropped. What the limit spares again, because it was raised meanwhile, is
 * attached again. Nothing is dropped before all its archives are complete (db/archive_spans.c). */
#include "db/maintain_private.h"

#include "db/archive_private.h"
#include "db/archive_spans.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY_S = 24 * 3600, SQL_SIZE = 512, STOP_LOOK_MS = 100, DETACH_WAIT_MS = 600000, FILE_ROWS = 100000 };
static const char lock_not_available[] = "55P03", query_canceled[] = "57014";

struct keeper {
    struct db_maintainer *maintainer;
    PGconn *conn; /* holds the lock of archives */
    char *root;   /* of archives; NULL: dropped without */
};

static void tell(const struct keeper *keeper, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(const struct keeper *keeper, const char *format, ...)
{
    const struct db_maintain_config *config = keeper->maintainer->config;
    char line[DB_ARCHIVE_TELL_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (config->tell != NULL)
        config->tell(line, config->user);
}

/* Rows: name, state (attached, detaching, detached), the oldest first. */
static forge_code list_tables(struct db_maintainer *maintainer, PGresult **out, struct forge_error *error)
{
    return db_admin_query(maintainer->conn,
                          "SELECT c.relname, CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'detaching'"
                          " ELSE 'attached' END FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i"
                          " ON i.inhrelid = c.oid AND i.inhparent = 'public.spans'::regclass WHERE n.nspname = 'forge_partitions'"
                          " AND c.relkind = 'r' AND c.relname ~ '^spans_[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$'"
                          " ORDER BY c.relname",
                          0, NULL, "listing partitions", out, error);
}

static bool is_over(const struct keeper *keeper, const char *table)
{
    return db_maintain_span_day(table) < db_maintain_spans_from(keeper->maintainer->config);
}

/* ---- detaching ---- */

static bool is_to_give_up(const struct keeper *keeper, uint64_t since_ms)
{
    unsigned wait_ms = keeper->maintainer->config->detach_wait_ms;
    return db_maintain_is_stopped(keeper->maintainer) || forge_clock_monotonic_ms() - since_ms > (wait_ms > 0 ? wait_ms : DETACH_WAIT_MS);
}

/* Waits for the end of a statement, which may be that of another program's transaction. When it has waited for long, or is asked to stop,
 * it cancels the statement, whose error then tells. */
static forge_code run_unhurried(const struct keeper *keeper, const char *sql, const char *what, struct forge_error *error)
{
    uint64_t since_ms = forge_clock_monotonic_ms();
    bool is_cancelled = false;
    forge_code rc = FORGE_OK;
    if (PQsendQuery(keeper->conn, sql) != 1)
        return db_admin_failed(keeper->conn, NULL, what, error);
    while (PQisBusy(keeper->conn) && PQstatus(keeper->conn) == CONNECTION_OK) {
        struct pollfd readable = {.fd = PQsocket(keeper->conn), .events = POLLIN};
        if (!is_cancelled && is_to_give_up(keeper, since_ms)) {
            char reason[256];
            PGcancel *cancel = PQgetCancel(keeper->conn);
            is_cancelled = PQcancel(cancel, reason, sizeof reason) == 1;
            PQfreeCancel(cancel);
        }
        if (poll(&readable, 1, STOP_LOOK_MS) != 0 && PQconsumeInput(keeper->conn) != 1)
            return db_admin_failed(keeper->conn, NULL, what, error);
    }
    for (PGresult *result; (result = PQgetResult(keeper->conn)) != NULL;) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK)
            PQclear(result);
        else
            rc = db_admin_failed(keeper->conn, result, what, error);
    }
    return rc;
}

/* how: CONCURRENTLY, and FINALIZE for one that was cut off, wait for everybody who may still be using the
 * partition and let everybody else go on, so a lock_timeout would end it for the sake of nobody. But the rest of maintenance must not wait
 * for a session that somebody has forgotten: after ten minutes it is the next pass's. */
static forge_code detach(const struct keeper *keeper, const char *table, const char *how, struct forge_error *error)
{
    char sql[SQL_SIZE];
    snprintf(sql, sizeof sql, "ALTER TABLE public.spans DETACH PARTITION forge_partitions.%s %s", table, how);
    forge_code rc = db_admin_exec(keeper->conn, "SET lock_timeout = 0", "setting up", error);
    if (rc == FORGE_OK)
        rc = run_unhurried(keeper, sql, "detaching a partition", error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(keeper->conn, "SET lock_timeout = '500ms'", "setting up", error);
    if (rc == FORGE_OK)
        tell(keeper, "Detached forge_partitions.%s", table);
    return rc;
}

/* Before any other is detached. */
static forge_code finish_detaching(const struct keeper *keeper, const PGresult *tables, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (int i = 0; i < PQntuples(tables) && rc == FORGE_OK; i++)
        if (strcmp(PQgetvalue(tables, i, 1), "detaching") == 0)
            rc = detach(keeper, PQgetvalue(tables, i, 0), "FINALIZE", error);
    return rc;
}

/* What was archived of it already stays in its archives. The constraint that detaching has left saves the look at every row. */
static forge_code attach(const struct keeper *keeper, const char *table, struct forge_error *error)
{
    char from[DB_MAINTAIN_BOUND_SIZE], to[DB_MAINTAIN_BOUND_SIZE], sql[SQL_SIZE];
    int64_t day_s = db_maintain_span_day(table);
    db_maintain_time_bound(day_s, from);
    db_maintain_time_bound(day_s + DAY_S, to);
    snprintf(sql, sizeof sql,
             "BEGIN; ALTER TABLE forge_partitions.%s FORCE ROW LEVEL SECURITY;"
             " ALTER TABLE public.spans ATTACH PARTITION forge_partitions.%s FOR VALUES FROM ('%s') TO ('%s'); COMMIT",
             table, table, from, to);
    forge_code rc = db_admin_exec(keeper->conn, sql, "attaching a partition again", error);
    if (rc == FORGE_OK)
        tell(keeper, "Attached forge_partitions.%s again: it is not too old", table);
    else
        PQclear(PQexec(keeper->conn, "ROLLBACK"));
    return rc;
}

/* ---- archiving and dropping ---- */

static forge_code archive(const struct keeper *keeper, const char *table, struct forge_error *error)
{
    const struct db_maintain_config *config = keeper->maintainer->config;
    const struct db_span_archive archive = {.conn = keeper->conn,
                                            .table = table,
                                            .root = keeper->root,
                                            .trace_days = config->trace_days,
                                            .rows_per_file = config->spans_per_file > 0 ? config->spans_per_file : FILE_ROWS,
                                            .now_us = config->now_us,
                                            .stop = config->stop,
                                            .tell = config->tell,
                                            .user = config->user};
    struct db_span_archive_report report = {0};
    forge_code rc = db_archive_spans(&archive, &report, error);
    keeper->maintainer->report->spans_archived += report.spans;
    keeper->maintainer->report->archive_files += report.files;
    return rc;
}

static forge_code drop(const struct keeper *keeper, const char *table, struct forge_error *error)
{
    char sql[SQL_SIZE];
    forge_code rc = keeper->root != NULL ? archive(keeper, table, error) : FORGE_OK;
    snprintf(sql, sizeof sql, "DROP TABLE forge_partitions.%s", table);
    if (rc == FORGE_OK)
        rc = db_admin_exec(keeper->conn, sql, "dropping a partition", error);
    if (rc != FORGE_OK)
        return rc;
    keeper->maintainer->report->partitions_dropped++;
    tell(keeper, "Dropped forge_partitions.%s", table);
    return FORGE_OK;
}

static forge_code settle_table(const struct keeper *keeper, const char *table, bool is_attached, struct forge_error *error)
{
    const bool over = is_over(keeper, table);
    forge_code rc = FORGE_OK;
    if (over && is_attached)
        rc = detach(keeper, table, "CONCURRENTLY", error);
    if (rc == FORGE_OK && over)
        rc = drop(keeper, table, error);
    else if (rc == FORGE_OK && !is_attached)
        rc = attach(keeper, table, error);
    return rc;
}

/* A lock that is not given leaves its table to the next pass. */
static forge_code settle_each(const struct keeper *keeper, const PGresult *tables, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (int i = 0; i < PQntuples(tables) && rc == FORGE_OK && !db_maintain_is_stopped(keeper->maintainer); i++) {
        struct forge_error failure = {0};
        rc = settle_table(keeper, PQgetvalue(tables, i, 0), strcmp(PQgetvalue(tables, i, 1), "attached") == 0, &failure);
        if (rc != FORGE_OK && strcmp(failure.sqlstate, lock_not_available) == 0)
            rc = FORGE_OK;
        if (rc != FORGE_OK)
            *error = failure;
    }
    return rc;
}

/* A partition that is still being detached keeps all others waiting: PostgreSQL detaches one at a time. */
static forge_code settle_tables(const struct keeper *keeper, const PGresult *tables, struct forge_error *error)
{
    forge_code rc = finish_detaching(keeper, tables, error);
    if (rc == FORGE_OK)
        rc = settle_each(keeper, tables, error);
    if (rc == FORGE_OK || strcmp(error->sqlstate, query_canceled) != 0)
        return rc;
    tell(keeper, "Old partitions are left to the next pass: %s", error->message);
    *error = (struct forge_error){0};
    return FORGE_OK;
}

/* ---- a pass ---- */

/* Whether there is a table that is not as it is to be. */
static bool has_work(const struct keeper *keeper, const PGresult *tables)
{
    for (int i = 0; i < PQntuples(tables); i++)
        if (strcmp(PQgetvalue(tables, i, 1), "attached") != 0 || is_over(keeper, PQgetvalue(tables, i, 0)))
            return true;
    return false;
}

/* A file's rows leave the table in one statement, however long it takes; the backend of a killed pass ends with us and not with its wait.
 * keeper->conn stays NULL while executions are archived or restored: there is time. */
static forge_code open_connection(struct keeper *keeper, struct forge_error *error)
{
    forge_code rc = db_archive_connect(keeper->maintainer->config->url, &keeper->conn, error);
    if (rc == FORGE_ABORTED) {
        tell(keeper, "Old partitions are left to the next pass: %s", error->message);
        *error = (struct forge_error){0};
        return FORGE_OK;
    }
    if (rc == FORGE_OK)
        rc = db_admin_exec(keeper->conn, "SET statement_timeout = 0; SET client_connection_check_interval = '1s'; SET jit = off",
                           "setting up", error);
    return rc;
}

/* What a killed pass may have left in the folder of an organization: a file half-way, checksums that lack the last file. */
static forge_code settle_folder(const struct keeper *keeper, const char *organization_id, struct forge_error *error)
{
    char *folder;
    if (asprintf(&folder, "%s/%s", keeper->root, organization_id) < 0)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    forge_code rc = db_archive_remove_unfinished(keeper->conn, organization_id, folder, "spans", error);
    if (rc == FORGE_OK)
        rc = db_archive_write_sums(keeper->conn, organization_id, folder, error);
    free(folder);
    return rc;
}

/* Also of organizations that have no span in the table any more, and where it is attached again now: nobody would look at them otherwise.
 */
static forge_code settle_folders(const struct keeper *keeper, const PGresult *organizations, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (int i = 0; i < PQntuples(organizations) && rc == FORGE_OK; i++)
        rc = settle_folder(keeper, PQgetvalue(organizations, i, 0), error);
    return rc;
}

static forge_code keep_limit(struct keeper *keeper, const PGresult *tables, const PGresult *organizations, struct forge_error *error)
{
    const char *folder = keeper->maintainer->config->archive_folder;
    forge_code rc = folder != NULL ? db_archive_open_root(folder, &keeper->root, error) : FORGE_OK;
    if (rc == FORGE_OK)
        rc = open_connection(keeper, error);
    if (rc == FORGE_OK && keeper->conn != NULL && keeper->root != NULL)
        rc = settle_folders(keeper, organizations, error);
    if (rc == FORGE_OK && keeper->conn != NULL)
        rc = settle_tables(keeper, tables, error);
    PQfinish(keeper->conn);
    free(keeper->root);
    return rc != FORGE_OK && db_maintain_is_stopped(keeper->maintainer) ? FORGE_OK : rc;
}

/* Traces that ended before the oldest day that still has a table: none of their spans is left. */
static forge_code delete_traces(struct db_maintainer *maintainer, const PGresult *organizations, struct forge_error *error)
{
    int64_t before_s = db_maintain_spans_from(maintainer->config);
    PGresult *tables;
    forge_code rc = list_tables(maintainer, &tables, error);
    if (rc != FORGE_OK)
        return rc;
    if (PQntuples(tables) > 0 && db_maintain_span_day(PQgetvalue(tables, 0, 0)) < before_s)
        before_s = db_maintain_span_day(PQgetvalue(tables, 0, 0));
    PQclear(tables);
    for (int i = 0; i < PQntuples(organizations) && rc == FORGE_OK && !db_maintain_is_stopped(maintainer); i++)
        rc = db_maintain_traces_before(maintainer, PQgetvalue(organizations, i, 0), before_s, error);
    return rc;
}

forge_code db_maintain_retention(struct db_maintainer *maintainer, struct forge_error *error)
{
    struct keeper keeper = {.maintainer = maintainer};
    PGresult *organizations, *tables = NULL;
    forge_code rc =
        db_admin_query(maintainer->conn, "SELECT organization_id FROM organization_names WHERE deleted_at IS NULL ORDER BY organization_id",
                       0, NULL, "listing organizations", &organizations, error);
    if (rc != FORGE_OK)
        return rc;
    rc = list_tables(maintainer, &tables, error);
    if (rc == FORGE_OK && has_work(&keeper, tables))
        rc = keep_limit(&keeper, tables, organizations, error);
    if (rc == FORGE_OK && maintainer->config->trace_days > 0)
        rc = delete_traces(maintainer, organizations, error);
    PQclear(tables);
    PQclear(organizations);
    return rc;
}
