#include "db/archive_private.h"

#include "db/archive_file.h"
#include "wire/uuid.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A batch that meets a lock or loses a row is read again, so often in a row. */
enum { ATTEMPTS_MAX = 10, DAY_LENGTH = 10, TIME_SIZE = 64 };

struct archiver {
    PGconn *conn;
    const struct db_archive_config *config;
    struct db_archive_report *report;
    char *root; /* the folder, absolute */
    /* The organization whose turn it is. */
    const char *organization_id;
    char *folder;         /* of its files */
    char from[TIME_SIZE]; /* where the next batch begins: what is before was archived, or came too late for this run */
    char now_us[DB_ARCHIVE_NUMBER_SIZE], before_us[DB_ARCHIVE_NUMBER_SIZE], rows_per_file[DB_ARCHIVE_NUMBER_SIZE];
};

/* Rows on their way to a file. */
struct batch {
    PGresult *rows; /* id, line, executed_at */
    int count;
    char id[FORGE_UUID_TEXT_SIZE]; /* of the archive */
    char *path;
    char sha256[DB_ARCHIVE_SHA256_TEXT_SIZE];
};

/* ---- one batch ---- */

/* The oldest rows from where the batch before ended: the index still holds what was deleted before that, and each batch would walk it.
 * Fewer than asked for when they are together longer than about 16 MiB: rows are cut off by the length of their notes, which PostgreSQL
 * knows without reading them, before they become lines. Else each batch would read, and put on disk, the long notes of many batches behind
 * it. */
static forge_code read_rows(struct archiver *archiver, struct batch *batch, struct forge_error *error)
{
    const char *parameters[] = {archiver->organization_id, archiver->before_us, archiver->rows_per_file, archiver->from};
    forge_code rc = db_admin_query(archiver->conn,
                                   "SELECT o.id, row_to_json(r)::text AS line, o.executed_at FROM (SELECT e.*,"
                                   " sum(256 + COALESCE(octet_length(notes), 0)) OVER before_it AS bytes_before"
                                   " FROM (SELECT organization_id, id, prompt_id, version, rating, success, notes, executed_at"
                                   " FROM executions WHERE organization_id = $1"
                                   " AND executed_at < timestamptz 'epoch' + $2::bigint * interval '1 microsecond'"
                                   " AND executed_at >= $4::timestamptz ORDER BY executed_at, id LIMIT $3::integer) e"
                                   " WINDOW before_it AS (ORDER BY executed_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) o"
                                   " CROSS JOIN LATERAL (SELECT o.organization_id, o.id, o.prompt_id, o.version, o.rating, o.success,"
                                   " o.notes, o.executed_at) r WHERE COALESCE(o.bytes_before, 0) < 16777216 ORDER BY o.executed_at, o.id",
                                   4, parameters, "reading executions", &batch->rows, error);
    batch->count = rc == FORGE_OK ? PQntuples(batch->rows) : 0;
    return rc;
}

/* The archive's row, before its file is there: whatever becomes of us, the next run finds the file by it. */
static forge_code announce(struct archiver *archiver, struct batch *batch, struct forge_error *error)
{
    struct forge_uuid id;
    char count[DB_ARCHIVE_NUMBER_SIZE];
    PGresult *result = NULL;
    const char *first_at = PQgetvalue(batch->rows, 0, 2), *last_at = PQgetvalue(batch->rows, batch->count - 1, 2);
    forge_uuid_v7(&id);
    forge_uuid_format(&id, batch->id);
    snprintf(count, sizeof count, "%d", batch->count);
    if (asprintf(&batch->path, "%s/executions-%.*s-%s" DB_ARCHIVE_SUFFIX, archiver->folder, DAY_LENGTH, first_at, batch->id) < 0) {
        batch->path = NULL;
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    }
    const char *parameters[] = {archiver->organization_id, batch->id, batch->path, count, first_at, last_at, archiver->now_us};
    forge_code rc = db_admin_query(
        archiver->conn,
        "INSERT INTO archives (organization_id, id, kind, state, path, row_count, first_at, last_at, created_at)"
        " VALUES ($1, $2, 'executions', 'writing', $3, $4, $5, $6, timestamptz 'epoch' + $7::bigint * interval '1 microsecond')",
        7, parameters, "announcing an archive", &result, error);
    PQclear(result);
    return rc;
}

static forge_code write_file(struct batch *batch, struct forge_error *error)
{
    struct db_archive_writer *writer;
    uint8_t sha256[FORGE_SHA256_SIZE];
    forge_code rc = db_archive_writer_open(batch->path, &writer, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < batch->count && rc == FORGE_OK; i++)
        rc = db_archive_writer_add(writer, PQgetvalue(batch->rows, i, 1), (size_t)PQgetlength(batch->rows, i, 1), error);
    if (rc != FORGE_OK) {
        db_archive_writer_abandon(writer);
        return rc;
    }
    rc = db_archive_writer_close(writer, sha256, error);
    if (rc == FORGE_OK)
        db_archive_format_sha256(sha256, batch->sha256);
    return rc;
}

/* "{1,2,3}"; free(). NULL without memory. */
static char *ids_of(const struct batch *batch)
{
    size_t room = (size_t)batch->count * DB_ARCHIVE_NUMBER_SIZE + 3, len = 0;
    char *text = malloc(room);
    for (int i = 0; text != NULL && i < batch->count; i++)
        len += (size_t)snprintf(text + len, room - len, "%c%s", i == 0 ? '{' : ',', PQgetvalue(batch->rows, i, 0));
    if (text != NULL)
        snprintf(text + len, room - len, "}");
    return text;
}

/* In a transaction: none of the prompts is deleted meanwhile (locked in the order of whoever else locks several). */
static forge_code lock_prompts(struct archiver *archiver, const char *ids, struct forge_error *error)
{
    const char *parameters[] = {archiver->organization_id, ids};
    PGresult *result = NULL;
    forge_code rc = db_admin_query(archiver->conn,
                                   "SELECT id FROM prompts WHERE organization_id = $1 AND id IN (SELECT prompt_id FROM executions"
                                   " WHERE organization_id = $1 AND id = ANY ($2::bigint[])) ORDER BY id FOR KEY SHARE",
                                   2, parameters, "locking prompts", &result, error);
    PQclear(result);
    return rc;
}

/* In a transaction: the rows of the file, and no others, become sums. ABORTED when one of them is gone: then the file is one too long. */
static forge_code exchange(struct archiver *archiver, const struct batch *batch, const char *ids, struct forge_error *error)
{
    static const char sql[] =
        "WITH gone AS (DELETE FROM executions WHERE organization_id = $1 AND id = ANY ($2::bigint[])"
        " RETURNING prompt_id, version, rating, success, executed_at),"
        " added AS (INSERT INTO execution_totals AS t (organization_id, prompt_id, version, execution_count, success_count, rating_counts,"
        " first_executed_at, last_executed_at) SELECT $1, prompt_id, version, count(*), count(*) FILTER (WHERE success),"
        " ARRAY[count(*) FILTER (WHERE rating = 1), count(*) FILTER (WHERE rating = 2), count(*) FILTER (WHERE rating = 3),"
        " count(*) FILTER (WHERE rating = 4), count(*) FILTER (WHERE rating = 5)], min(executed_at), max(executed_at)"
        " FROM gone GROUP BY prompt_id, version"
        " ON CONFLICT (organization_id, prompt_id, version) DO UPDATE SET"
        " execution_count = t.execution_count + excluded.execution_count, success_count = t.success_count + excluded.success_count,"
        " rating_counts = ARRAY[t.rating_counts[1] + excluded.rating_counts[1], t.rating_counts[2] + excluded.rating_counts[2],"
        " t.rating_counts[3] + excluded.rating_counts[3], t.rating_counts[4] + excluded.rating_counts[4],"
        " t.rating_counts[5] + excluded.rating_counts[5]],"
        " first_executed_at = LEAST(t.first_executed_at, excluded.first_executed_at),"
        " last_executed_at = GREATEST(t.last_executed_at, excluded.last_executed_at))"
        " UPDATE archives SET state = 'complete', sha256 = decode($4, 'hex'),"
        " updated_at = timestamptz 'epoch' + $5::bigint * interval '1 microsecond'"
        " WHERE organization_id = $1 AND id = $3::uuid AND state = 'writing' AND row_count = (SELECT count(*) FROM gone)";
    const char *parameters[] = {archiver->organization_id, ids, batch->id, batch->sha256, archiver->now_us};
    PGresult *result = NULL;
    forge_code rc = db_admin_query(archiver->conn, sql, 5, parameters, "archiving executions", &result, error);
    bool is_whole = rc == FORGE_OK && strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    if (rc == FORGE_OK && !is_whole)
        rc = forge_error_set(error, FORGE_ABORTED, "archiving executions: some were deleted meanwhile");
    return rc;
}

static forge_code settle(struct archiver *archiver, const struct batch *batch, struct forge_error *error)
{
    char *ids = ids_of(batch);
    if (ids == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    forge_code rc = db_admin_begin(archiver->conn, archiver->organization_id, error);
    if (rc == FORGE_OK)
        rc = lock_prompts(archiver, ids, error);
    if (rc == FORGE_OK)
        rc = exchange(archiver, batch, ids, error);
    free(ids);
    return db_admin_end(archiver->conn, rc, error);
}

static void tell_file(const struct archiver *archiver, const struct batch *batch)
{
    char line[DB_ARCHIVE_TELL_SIZE];
    snprintf(line, sizeof line, "Archived %d executions of organization %s until %s: %.600s", batch->count, archiver->organization_id,
             PQgetvalue(batch->rows, batch->count - 1, 2), batch->path);
    archiver->config->tell(line, archiver->config->user);
}

/* *out_count: how many it took, 0 when nothing old enough is left. */
static forge_code archive_batch(struct archiver *archiver, int *out_count, struct forge_error *error)
{
    struct batch batch = {0};
    forge_code rc = db_admin_begin(archiver->conn, archiver->organization_id, error);
    if (rc == FORGE_OK)
        rc = read_rows(archiver, &batch, error);
    if (rc == FORGE_OK && batch.count > 0)
        rc = announce(archiver, &batch, error);
    rc = db_admin_end(archiver->conn, rc, error);
    if (rc == FORGE_OK && batch.count > 0)
        rc = db_archive_make_folder(archiver->folder, error);
    if (rc == FORGE_OK && batch.count > 0)
        rc = write_file(&batch, error);
    if (rc == FORGE_OK && batch.count > 0)
        rc = settle(archiver, &batch, error);
    if (rc == FORGE_OK && batch.count > 0) {
        archiver->report->executions += batch.count;
        archiver->report->files++;
        snprintf(archiver->from, sizeof archiver->from, "%s", PQgetvalue(batch.rows, batch.count - 1, 2));
        tell_file(archiver, &batch);
    }
    *out_count = batch.count;
    free(batch.path);
    PQclear(batch.rows);
    return rc;
}

/* ---- an organization ---- */

static forge_code remove_unfinished(struct archiver *archiver, struct forge_error *error)
{
    return db_archive_remove_unfinished(archiver->conn, archiver->organization_id, archiver->folder, "executions", error);
}

/* What met a lock (UNAVAILABLE) or a deletion (ABORTED) is worth another look. */
static bool is_passing(forge_code rc)
{
    return rc == FORGE_ABORTED || rc == FORGE_UNAVAILABLE;
}

/* What a failed batch has left goes at once, where the outcome is known: a full disk then has room again. */
static forge_code archive_batches(struct archiver *archiver, struct forge_error *error)
{
    int failures = 0, count = 1;
    while (count > 0) {
        struct forge_error ignored = {0};
        forge_code rc = archive_batch(archiver, &count, error);
        failures = rc == FORGE_OK ? 0 : failures + 1;
        if (rc == FORGE_OK)
            continue;
        if (PQstatus(archiver->conn) != CONNECTION_OK || remove_unfinished(archiver, &ignored) != FORGE_OK || !is_passing(rc) ||
            failures == ATTEMPTS_MAX)
            return rc;
        count = 1;
    }
    return FORGE_OK;
}

static forge_code archive_organization(struct archiver *archiver, const char *organization_id, struct forge_error *error)
{
    struct forge_error failure = {0};
    archiver->organization_id = organization_id;
    strcpy(archiver->from, "-infinity");
    if (asprintf(&archiver->folder, "%s/%s", archiver->root, organization_id) < 0)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    forge_code rc = remove_unfinished(archiver, error);
    if (rc == FORGE_OK)
        rc = archive_batches(archiver, error);
    if (PQstatus(archiver->conn) == CONNECTION_OK &&
        db_archive_write_sums(archiver->conn, organization_id, archiver->folder, &failure) != FORGE_OK && rc == FORGE_OK) {
        *error = failure;
        rc = failure.code;
    }
    free(archiver->folder);
    return rc;
}

static forge_code archive_organizations(struct archiver *archiver, struct forge_error *error)
{
    PGresult *rows;
    forge_code rc =
        db_admin_query(archiver->conn, "SELECT organization_id FROM organization_names WHERE deleted_at IS NULL ORDER BY organization_id",
                       0, NULL, "listing organizations", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK; i++)
        rc = archive_organization(archiver, PQgetvalue(rows, i, 0), error);
    PQclear(rows);
    return rc;
}

forge_code db_archive_executions(const struct db_archive_config *config, struct db_archive_report *out, struct forge_error *error)
{
    struct archiver archiver = {.config = config, .report = out};
    assert(config->rows_per_file >= 1 && config->rows_per_file <= DB_ARCHIVE_ROWS_MAX);
    *out = (struct db_archive_report){0};
    snprintf(archiver.now_us, sizeof archiver.now_us, "%" PRId64, config->now_us);
    snprintf(archiver.before_us, sizeof archiver.before_us, "%" PRId64, config->before_us);
    snprintf(archiver.rows_per_file, sizeof archiver.rows_per_file, "%u", config->rows_per_file);
    forge_code rc = db_archive_open_root(config->folder, &archiver.root, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_archive_connect(config->url, &archiver.conn, error);
    if (rc == FORGE_OK) {
        rc = archive_organizations(&archiver, error);
        PQfinish(archiver.conn);
    }
    free(archiver.root);
    return rc;
}
