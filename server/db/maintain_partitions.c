/* Partitions by day, each made apart and attached, which waits for no writer of the other partitions.
 *
 * idempotency: days of the request ids' time, made before any accepted id can reach them, dropped 48 h after their day. The default
 * partition takes what has none, so a missing day never refuses a write; that is also why a day's partition is only ever made ahead: rows
 * of a day that stand in the default partition would refuse its attachment. spans: days of started_at, from the oldest that ingest accepts
 * to a week ahead. There is no default partition: a missing day refuses its spans, and may be made at any time. */
#include "db/maintain_private.h"

#include "wire/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DAY_S = 24 * 3600, REPLIES_KEPT_S = 48 * 3600, NAME_SIZE = 64, BOUND_SIZE = DB_MAINTAIN_BOUND_SIZE, SQL_SIZE = 2048 };
/* An id may be 10 minutes ahead of a server's clock, and that clock of ours; a day that begins sooner than this is left out. */
enum { BEGINS_AFTER_S = 3600 };
static const char lock_not_available[] = "55P03";

/* The smallest id of this time: UUIDv7 begins with the 48 bits of its milliseconds. */
static void uuid_bound(int64_t seconds, char out[BOUND_SIZE])
{
    struct forge_uuid bound = {0};
    uint64_t ms = (uint64_t)seconds * 1000;
    for (int i = 0; i < 6; i++)
        bound.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    forge_uuid_format(&bound, out);
}

static struct tm day_of(int64_t seconds)
{
    time_t time = (time_t)seconds;
    struct tm day;
    gmtime_r(&time, &day);
    return day;
}

void db_maintain_time_bound(int64_t seconds, char out[DB_MAINTAIN_BOUND_SIZE])
{
    const struct tm day = day_of(seconds);
    strftime(out, BOUND_SIZE, "%Y-%m-%d 00:00:00+00", &day);
}

/* A table that is partitioned by day. Days count from today; of spans also those before, back to the oldest that ingest accepts. */
struct parent {
    const char *table, *prefix;
    int first_day, last_day;
    void (*bound)(int64_t seconds, char out[BOUND_SIZE]);
};
static const struct parent idempotency = {"idempotency", "idempotency_", 1, 3, uuid_bound},
                           spans = {"spans", "spans_", -1, 7, db_maintain_time_bound};

static void partition_name(const struct parent *parent, int64_t day_s, char out[NAME_SIZE])
{
    const struct tm day = day_of(day_s);
    snprintf(out, NAME_SIZE, "%s%04d%02d%02d", parent->prefix, day.tm_year + 1900, day.tm_mon + 1, day.tm_mday);
}

/* Runs DDL; a lock that is not given leaves it to the next pass. */
static forge_code run_ddl(struct db_maintainer *maintainer, const char *sql, const char *what, int64_t *done, struct forge_error *error)
{
    struct forge_error failure = {0};
    forge_code rc = db_admin_exec(maintainer->conn, sql, what, &failure);
    if (rc == FORGE_OK) {
        ++*done;
        return rc;
    }
    PQclear(PQexec(maintainer->conn, "ROLLBACK"));
    if (strcmp(failure.sqlstate, lock_not_available) == 0)
        return FORGE_OK;
    *error = failure;
    return rc;
}

static forge_code make_partition(struct db_maintainer *maintainer, const struct parent *parent, int64_t day_s, struct forge_error *error)
{
    char name[NAME_SIZE], from[BOUND_SIZE], to[BOUND_SIZE], sql[SQL_SIZE];
    PGresult *found;
    partition_name(parent, day_s, name);
    parent->bound(day_s, from);
    parent->bound(day_s + DAY_S, to);
    const char *parameters[] = {name};
    forge_code rc = db_admin_query(maintainer->conn, "SELECT to_regclass('forge_partitions.' || $1) IS NOT NULL", 1, parameters,
                                   "looking for a partition", &found, error);
    if (rc != FORGE_OK)
        return rc;
    bool exists = PQgetvalue(found, 0, 0)[0] == 't';
    PQclear(found);
    if (exists)
        return FORGE_OK;
    snprintf(sql, sizeof sql,
             "BEGIN; CREATE TABLE forge_partitions.%s (LIKE %s INCLUDING ALL);"
             " ALTER TABLE forge_partitions.%s ENABLE ROW LEVEL SECURITY; ALTER TABLE forge_partitions.%s FORCE ROW LEVEL SECURITY;"
             " CREATE POLICY tenant ON forge_partitions.%s USING (organization_id = current_setting('forge.organization_id')::uuid)"
             " WITH CHECK (organization_id = current_setting('forge.organization_id')::uuid);"
             " ALTER TABLE %s ATTACH PARTITION forge_partitions.%s FOR VALUES FROM ('%s') TO ('%s'); COMMIT",
             name, parent->table, name, name, name, parent->table, name, from, to);
    return run_ddl(maintainer, sql, "making a partition", &maintainer->report->partitions_made, error);
}

int64_t db_maintain_spans_from(const struct db_maintain_config *config)
{
    int64_t from_s = config->now_us / 1000000 - (int64_t)config->trace_days * DAY_S;
    return config->trace_days > 0 ? from_s - from_s % DAY_S : INT64_MIN;
}

static bool is_wanted(const struct db_maintainer *maintainer, const struct parent *parent, int64_t day_s)
{
    if (parent == &idempotency)
        return day_s > maintainer->config->now_us / 1000000 + BEGINS_AFTER_S;
    return day_s >= db_maintain_spans_from(maintainer->config); /* else retention would drop it again */
}

static int first_day(const struct db_maintainer *maintainer, const struct parent *parent, int64_t today_s)
{
    int64_t oldest_s = (maintainer->config->now_us - maintainer->config->span_age_max_us) / 1000000;
    int day = (int)((oldest_s - oldest_s % DAY_S - today_s) / DAY_S);
    return parent == &spans && day < parent->first_day ? day : parent->first_day;
}

static forge_code make_partitions(struct db_maintainer *maintainer, const struct parent *parent, struct forge_error *error)
{
    int64_t now_s = maintainer->config->now_us / 1000000, today_s = now_s - now_s % DAY_S;
    forge_code rc = FORGE_OK;
    for (int day = first_day(maintainer, parent, today_s); day <= parent->last_day && rc == FORGE_OK; day++) {
        int64_t day_s = today_s + (int64_t)day * DAY_S;
        if (is_wanted(maintainer, parent, day_s))
            rc = make_partition(maintainer, parent, day_s, error);
    }
    return rc;
}

/* The day of a partition, in seconds; -1 for a name that is none of a day's. */
static int64_t partition_day(const struct parent *parent, const char *name)
{
    struct tm day = {0};
    if (strncmp(name, parent->prefix, strlen(parent->prefix)) != 0 || strptime(name + strlen(parent->prefix), "%Y%m%d", &day) == NULL)
        return -1;
    return (int64_t)timegm(&day);
}

int64_t db_maintain_span_day(const char *table)
{
    return partition_day(&spans, table);
}

static forge_code drop_partitions(struct db_maintainer *maintainer, struct forge_error *error)
{
    PGresult *rows;
    int64_t now_s = maintainer->config->now_us / 1000000;
    forge_code rc = db_admin_query(maintainer->conn,
                                   "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                                   " WHERE i.inhparent = 'public.idempotency'::regclass",
                                   0, NULL, "listing partitions", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK; i++) {
        char sql[SQL_SIZE];
        int64_t day_s = partition_day(&idempotency, PQgetvalue(rows, i, 0));
        if (day_s < 0 || day_s + DAY_S + REPLIES_KEPT_S > now_s)
            continue;
        snprintf(sql, sizeof sql, "DROP TABLE forge_partitions.%s", PQgetvalue(rows, i, 0));
        rc = run_ddl(maintainer, sql, "dropping a partition", &maintainer->report->partitions_dropped, error);
    }
    PQclear(rows);
    return rc;
}

forge_code db_maintain_partitions(struct db_maintainer *maintainer, struct forge_error *error)
{
    forge_code rc = make_partitions(maintainer, &spans, error);
    if (rc == FORGE_OK)
        rc = make_partitions(maintainer, &idempotency, error);
    return rc == FORGE_OK ? drop_partitions(maintainer, error) : rc;
}
