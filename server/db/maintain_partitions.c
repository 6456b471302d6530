/* Partitions of idempotency: one per day of the request ids' time, made before any accepted id can reach them, dropped 48 h after their
 * day. The default partition takes what has none, so a missing day never refuses a write; that is also why a day's partition is only ever
 * made ahead: rows of a day that stand in the default partition would refuse its attachment. */
#include "db/maintain_private.h"

#include "wire/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DAY_S = 24 * 3600, DAYS_AHEAD = 3, REPLIES_KEPT_S = 48 * 3600, NAME_SIZE = 64, SQL_SIZE = 2048 };
/* An id may be 10 minutes ahead of a server's clock, and that clock of ours; a day that begins sooner than this is left out. */
enum { BEGINS_AFTER_S = 3600 };
static const char PREFIX[] = "idempotency_", lock_not_available[] = "55P03";

static void partition_name(int64_t day_s, char out[NAME_SIZE])
{
    time_t seconds = (time_t)day_s;
    struct tm day;
    gmtime_r(&seconds, &day);
    snprintf(out, NAME_SIZE, "%s%04d%02d%02d", PREFIX, day.tm_year + 1900, day.tm_mon + 1, day.tm_mday);
}

/* The smallest id of this time: UUIDv7 begins with the 48 bits of its milliseconds. */
static void uuid_bound(int64_t seconds, char out[FORGE_UUID_TEXT_SIZE])
{
    struct forge_uuid bound = {0};
    uint64_t ms = (uint64_t)seconds * 1000;
    for (int i = 0; i < 6; i++)
        bound.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    forge_uuid_format(&bound, out);
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

/* Made apart and attached: that waits for no writer of the other partitions, while CREATE .. PARTITION OF would. */
static forge_code make_partition(struct db_maintainer *maintainer, int64_t day_s, struct forge_error *error)
{
    char name[NAME_SIZE], from[FORGE_UUID_TEXT_SIZE], to[FORGE_UUID_TEXT_SIZE], sql[SQL_SIZE];
    PGresult *found;
    partition_name(day_s, name);
    uuid_bound(day_s, from);
    uuid_bound(day_s + DAY_S, to);
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
             "BEGIN; CREATE TABLE forge_partitions.%s (LIKE idempotency INCLUDING ALL);"
             " ALTER TABLE forge_partitions.%s ENABLE ROW LEVEL SECURITY; ALTER TABLE forge_partitions.%s FORCE ROW LEVEL SECURITY;"
             " CREATE POLICY tenant ON forge_partitions.%s USING (organization_id = current_setting('forge.organization_id')::uuid)"
             " WITH CHECK (organization_id = current_setting('forge.organization_id')::uuid);"
             " ALTER TABLE idempotency ATTACH PARTITION forge_partitions.%s FOR VALUES FROM ('%s') TO ('%s'); COMMIT",
             name, name, name, name, name, from, to);
    return run_ddl(maintainer, sql, "making a partition", &maintainer->report->partitions_made, error);
}

/* When the day of a partition ends, in seconds; 0 for a name that is none of a day's. */
static int64_t partition_end(const char *name)
{
    struct tm day = {0};
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 || strptime(name + strlen(PREFIX), "%Y%m%d", &day) == NULL)
        return 0;
    return (int64_t)timegm(&day) + DAY_S;
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
        int64_t end_s = partition_end(PQgetvalue(rows, i, 0));
        if (end_s == 0 || end_s + REPLIES_KEPT_S > now_s)
            continue;
        snprintf(sql, sizeof sql, "DROP TABLE forge_partitions.%s", PQgetvalue(rows, i, 0));
        rc = run_ddl(maintainer, sql, "dropping a partition", &maintainer->report->partitions_dropped, error);
    }
    PQclear(rows);
    return rc;
}

forge_code db_maintain_partitions(struct db_maintainer *maintainer, struct forge_error *error)
{
    int64_t now_s = maintainer->config->now_us / 1000000, today_s = now_s - now_s % DAY_S;
    forge_code rc = FORGE_OK;
    for (int day = 1; day <= DAYS_AHEAD && rc == FORGE_OK; day++)
        if (today_s + (int64_t)day * DAY_S > now_s + BEGINS_AFTER_S)
            rc = make_partition(maintainer, today_s + (int64_t)day * DAY_S, error);
    return rc == FORGE_OK ? drop_partitions(maintainer, error) : rc;
}
