#include "db/archive_private.h"

#include "db/archive_file.h"
#include "wire/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 1000, CHUNK_BYTES = 4 << 20 };

struct restorer {
    PGconn *conn;
    const struct db_restore_config *config;
    struct db_restore_report *report;
    PGresult *organizations;
    char now_us[DB_ARCHIVE_NUMBER_SIZE];
};

/* A file, and the archive that it is. */
struct restored {
    const char *path;
    struct db_archive_reader *reader;
    char archive_id[FORGE_UUID_TEXT_SIZE];
    const char *organization_id;
    char state[16], sha256[DB_ARCHIVE_SHA256_TEXT_SIZE];
    int64_t row_count, added, skipped;
};

/* ---- which archive is it? ---- */

/* executions-<day>-<id>.jsonl.zst */
static forge_code read_name(struct restored *file, struct forge_error *error)
{
    struct forge_uuid id;
    size_t length = strlen(file->path), tail = strlen(DB_ARCHIVE_SUFFIX) + FORGE_UUID_TEXT_SIZE - 1;
    if (length >= tail && strcmp(file->path + length - strlen(DB_ARCHIVE_SUFFIX), DB_ARCHIVE_SUFFIX) == 0) {
        snprintf(file->archive_id, sizeof file->archive_id, "%s", file->path + length - tail);
        if (forge_uuid_parse(file->archive_id, &id))
            return FORGE_OK;
    }
    return forge_error_set(error, FORGE_INVALID_ARGUMENT,
                           "%.300s: an archive is called executions-<day>-<id>" DB_ARCHIVE_SUFFIX ", and needs its name to be found",
                           file->path);
}

static forge_code look_up(struct restorer *restorer, struct restored *file, const char *organization_id, struct forge_error *error)
{
    const char *parameters[] = {organization_id, file->archive_id};
    PGresult *rows = NULL;
    forge_code rc = db_admin_begin(restorer->conn, organization_id, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(restorer->conn,
                            "SELECT state, COALESCE(encode(sha256, 'hex'), ''), row_count FROM archives WHERE organization_id = $1"
                            " AND id = $2::uuid AND kind = 'executions'",
                            2, parameters, "looking for the archive", &rows, error);
    if (rc == FORGE_OK && PQntuples(rows) == 1) {
        file->organization_id = organization_id;
        snprintf(file->state, sizeof file->state, "%s", PQgetvalue(rows, 0, 0));
        snprintf(file->sha256, sizeof file->sha256, "%s", PQgetvalue(rows, 0, 1));
        file->row_count = strtoll(PQgetvalue(rows, 0, 2), NULL, 10);
    }
    PQclear(rows);
    return db_admin_end(restorer->conn, rc, error);
}

static forge_code find_archive(struct restorer *restorer, struct restored *file, struct forge_error *error)
{
    forge_code rc = read_name(file, error);
    for (int i = 0; rc == FORGE_OK && file->organization_id == NULL && i < PQntuples(restorer->organizations); i++)
        rc = look_up(restorer, file, PQgetvalue(restorer->organizations, i, 0), error);
    if (rc == FORGE_OK && file->organization_id == NULL)
        rc = forge_error_set(error, FORGE_NOT_FOUND, "%.300s: no archive of this database has the id %s", file->path, file->archive_id);
    if (rc == FORGE_OK && strcmp(file->state, "writing") == 0)
        rc = forge_error_set(error, FORGE_FAILED_PRECONDITION, "%.300s: was never completed, its executions are still in the database",
                             file->path);
    return rc;
}

static forge_code check_hash(struct restored *file, struct forge_error *error)
{
    uint8_t sha256[FORGE_SHA256_SIZE];
    char hex[DB_ARCHIVE_SHA256_TEXT_SIZE];
    forge_code rc = db_archive_reader_hash(file->reader, sha256, error);
    if (rc != FORGE_OK)
        return rc;
    db_archive_format_sha256(sha256, hex);
    if (strcmp(hex, file->sha256) == 0)
        return FORGE_OK;
    return forge_error_set(error, FORGE_DATA_LOSS, "%.200s: corrupted: its SHA-256 is %s, it was written as %s", file->path, hex,
                           file->sha256);
}

/* ---- back into the table ---- */

/* The next lines as one JSON array; free(). *out_rows 0 at the end of the file. */
static forge_code read_chunk(struct restored *file, char **out_json, int64_t *out_rows, struct forge_error *error)
{
    char *line, *json = NULL;
    size_t size, json_size = 0, bytes = 0;
    forge_code rc = FORGE_OK;
    FILE *stream = open_memstream(&json, &json_size);
    *out_rows = 0;
    while (stream != NULL && *out_rows < CHUNK_ROWS && bytes < CHUNK_BYTES) {
        rc = db_archive_reader_next(file->reader, &line, &size, error);
        if (rc != FORGE_OK || line == NULL)
            break;
        fprintf(stream, "%c%s", *out_rows == 0 ? '[' : ',', line);
        bytes += size;
        ++*out_rows;
    }
    if (stream != NULL)
        fputc(']', stream);
    if (stream == NULL || fclose(stream) != 0)
        rc = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    if (rc == FORGE_OK)
        *out_json = json;
    else
        free(json);
    return rc;
}

static forge_code lock_prompts(struct restorer *restorer, const char *const parameters[2], struct forge_error *error)
{
    PGresult *result = NULL;
    forge_code rc = db_admin_query(restorer->conn,
                                   "SELECT id FROM prompts WHERE organization_id = $1 AND id IN (SELECT r.prompt_id FROM"
                                   " json_to_recordset($2::json) AS r (prompt_id uuid)) ORDER BY id FOR KEY SHARE",
                                   2, parameters, "locking prompts", &result, error);
    PQclear(result);
    return rc;
}

/* Rows of prompts that are still there are inserted as they were, and their sums taken out of the totals. */
static forge_code insert_chunk(struct restorer *restorer, struct restored *file, const char *json, int64_t rows, struct forge_error *error)
{
    static const char sql[] =
        "WITH added AS (INSERT INTO executions (organization_id, id, prompt_id, version, rating, success, notes, executed_at)"
        " SELECT $1, r.id, r.prompt_id, r.version, r.rating, r.success, r.notes, r.executed_at FROM json_to_recordset($2::json) AS r"
        " (id bigint, prompt_id uuid, version integer, rating smallint, success boolean, notes text, executed_at timestamptz)"
        " JOIN prompts p ON p.organization_id = $1 AND p.id = r.prompt_id RETURNING prompt_id, version, rating, success),"
        " sums AS (SELECT prompt_id, version, count(*) AS execution_count, count(*) FILTER (WHERE success) AS success_count,"
        " ARRAY[count(*) FILTER (WHERE rating = 1), count(*) FILTER (WHERE rating = 2), count(*) FILTER (WHERE rating = 3),"
        " count(*) FILTER (WHERE rating = 4), count(*) FILTER (WHERE rating = 5)] AS rating_counts FROM added GROUP BY prompt_id, version),"
        " lowered AS (UPDATE execution_totals t SET execution_count = t.execution_count - s.execution_count,"
        " success_count = t.success_count - s.success_count, rating_counts = ARRAY[t.rating_counts[1] - s.rating_counts[1],"
        " t.rating_counts[2] - s.rating_counts[2], t.rating_counts[3] - s.rating_counts[3], t.rating_counts[4] - s.rating_counts[4],"
        " t.rating_counts[5] - s.rating_counts[5]] FROM sums s WHERE t.organization_id = $1 AND t.prompt_id = s.prompt_id"
        " AND t.version = s.version AND t.execution_count >= s.execution_count RETURNING t.version)"
        " SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM sums) = (SELECT count(*) FROM lowered)";
    const char *parameters[] = {file->organization_id, json};
    PGresult *result = NULL;
    forge_code rc = lock_prompts(restorer, parameters, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(restorer->conn, sql, 2, parameters, "restoring executions", &result, error);
    if (rc == FORGE_OK && PQgetvalue(result, 0, 1)[0] != 't')
        rc = forge_error_set(error, FORGE_DATA_LOSS, "%.300s: the sums of its executions are not in execution_totals", file->path);
    if (rc == FORGE_OK) {
        int64_t added = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        file->added += added;
        file->skipped += rows - added;
    }
    PQclear(result);
    return rc;
}

static forge_code insert_rows(struct restorer *restorer, struct restored *file, struct forge_error *error)
{
    int64_t rows = 1;
    forge_code rc = FORGE_OK;
    while (rc == FORGE_OK && rows > 0) {
        char *json = NULL;
        rc = read_chunk(file, &json, &rows, error);
        if (rc == FORGE_OK && rows > 0)
            rc = insert_chunk(restorer, file, json, rows, error);
        free(json);
    }
    if (rc == FORGE_OK && file->added + file->skipped != file->row_count)
        rc = forge_error_set(error, FORGE_DATA_LOSS, "%.300s: holds %" PRId64 " executions, not %" PRId64, file->path,
                             file->added + file->skipped, file->row_count);
    return rc;
}

/* Takes the archive for this transaction; nobody but us changes archives, but its organization may be removed. */
static forge_code mark_restored(struct restorer *restorer, const struct restored *file, struct forge_error *error)
{
    const char *parameters[] = {file->organization_id, file->archive_id, restorer->now_us};
    PGresult *result = NULL;
    forge_code rc = db_admin_query(restorer->conn,
                                   "UPDATE archives SET state = 'restored', updated_at = timestamptz 'epoch' + $3::bigint * interval"
                                   " '1 microsecond' WHERE organization_id = $1 AND id = $2::uuid AND state = 'complete'",
                                   3, parameters, "marking the archive", &result, error);
    if (rc == FORGE_OK && strcmp(PQcmdTuples(result), "1") != 0)
        rc = forge_error_set(error, FORGE_NOT_FOUND, "%.300s: its organization was removed meanwhile", file->path);
    PQclear(result);
    return rc;
}

static forge_code remove_empty_totals(struct restorer *restorer, const struct restored *file, struct forge_error *error)
{
    PGresult *result = NULL;
    forge_code rc = db_admin_query(restorer->conn, "DELETE FROM execution_totals WHERE organization_id = $1 AND execution_count = 0", 1,
                                   &file->organization_id, "removing empty totals", &result, error);
    PQclear(result);
    return rc;
}

static forge_code restore_rows(struct restorer *restorer, struct restored *file, struct forge_error *error)
{
    forge_code rc = db_admin_begin(restorer->conn, file->organization_id, error);
    if (rc == FORGE_OK)
        rc = mark_restored(restorer, file, error);
    if (rc == FORGE_OK)
        rc = insert_rows(restorer, file, error);
    if (rc == FORGE_OK)
        rc = remove_empty_totals(restorer, file, error);
    return db_admin_end(restorer->conn, rc, error);
}

/* ---- files ---- */

static void tell_file(struct restorer *restorer, const struct restored *file, bool was_restored)
{
    char line[DB_ARCHIVE_TELL_SIZE];
    if (was_restored)
        snprintf(line, sizeof line, "Was restored before: %.600s", file->path);
    else
        snprintf(line, sizeof line, "Restored %" PRId64 " executions of organization %s, %" PRId64 " of deleted prompts skipped: %.600s",
                 file->added, file->organization_id, file->skipped, file->path);
    restorer->config->tell(line, restorer->config->user);
}

static forge_code restore_file(struct restorer *restorer, const char *path, struct forge_error *error)
{
    struct restored file = {.path = path};
    forge_code rc = db_archive_reader_open(path, &file.reader, error);
    if (rc == FORGE_OK)
        rc = find_archive(restorer, &file, error);
    bool was_restored = rc == FORGE_OK && strcmp(file.state, "restored") == 0;
    if (rc == FORGE_OK && !was_restored)
        rc = check_hash(&file, error);
    if (rc == FORGE_OK && !was_restored)
        rc = restore_rows(restorer, &file, error);
    db_archive_reader_close(file.reader);
    if (rc != FORGE_OK)
        return rc;
    restorer->report->files += !was_restored;
    restorer->report->restored += was_restored;
    restorer->report->executions += file.added;
    restorer->report->skipped += file.skipped;
    tell_file(restorer, &file, was_restored);
    return FORGE_OK;
}

forge_code db_restore_executions(const struct db_restore_config *config, struct db_restore_report *out, struct forge_error *error)
{
    struct restorer restorer = {.config = config, .report = out};
    *out = (struct db_restore_report){0};
    snprintf(restorer.now_us, sizeof restorer.now_us, "%" PRId64, config->now_us);
    forge_code rc = db_archive_connect(config->url, &restorer.conn, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_admin_query(restorer.conn, "SELECT organization_id FROM organization_names WHERE deleted_at IS NULL ORDER BY organization_id",
                        0, NULL, "listing organizations", &restorer.organizations, error);
    for (int i = 0; i < config->count && rc == FORGE_OK; i++)
        rc = restore_file(&restorer, config->paths[i], error);
    PQclear(restorer.organizations);
    PQfinish(restorer.conn);
    return rc;
}
