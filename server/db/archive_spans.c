/* Spans of a partition that was detached are moved to files, an organization at a time, in the order of their primary key. A file is whole
 * and on the disk before one transaction deletes exactly its rows and completes its row in archives: so each span is in the table or in one
 * complete archive, and a pass that was killed goes on where it was. Nobody else uses the table; its rows go with it where nobody wants
 * them any more. */
#include "db/archive_private.h"

#include "db/archive_file.h"
#include "db/archive_spans.h"
#include "wire/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_ROWS = 1000, KEY_SIZE = 96, SQL_SIZE = 4096, DAY_DIGITS = 8 };
/* Before compression. A file is what a killed pass writes anew. */
static const int64_t FILE_BYTES = INT64_C(256) << 20;

#define KEY "project_id, trace_id, span_id, started_at"
#define KEY_COUNT 4
#define COLUMNS                                                                                                                            \
    "organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, status, status_message,"    \
    " provider, model, model_id, parameters, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens,"        \
    " cost_micros, price_id, time_to_first_token_us, prompt_id, prompt_version, prompt_label, session_id, user_id, input, output, "        \
    "details,"                                                                                                                             \
    " policy_action, content_hash, ingested_at"

/* The key of the last row that was read, as PostgreSQL writes it. */
struct key {
    char parts[KEY_COUNT][KEY_SIZE];
};
static const struct key before_all = {{"00000000-0000-0000-0000-000000000000", "\\x", "\\x", "-infinity"}};

struct archiver {
    const struct db_span_archive *config;
    struct db_span_archive_report *report;
    char organization_id[FORGE_UUID_TEXT_SIZE]; /* whose turn it is */
    char *folder;                               /* of its files */
    struct key from;                            /* what its last file ended with: an index still holds what was deleted before */
    char now_us[DB_ARCHIVE_NUMBER_SIZE];
};

/* Rows on their way to a file. */
struct file {
    char id[FORGE_UUID_TEXT_SIZE]; /* of the archive */
    char *path;
    struct db_archive_writer *writer;
    struct key last;
    int64_t count, bytes;
    char sha256[DB_ARCHIVE_SHA256_TEXT_SIZE];
};

static bool is_stopped(const struct archiver *archiver)
{
    return archiver->config->stop != NULL && atomic_load(archiver->config->stop);
}

/* A statement: what stands in it before and behind the name of the table. */
static forge_code query(const struct archiver *archiver, const char *head, const char *tail, int count, const char *const *parameters,
                        const char *what, PGresult **out, struct forge_error *error)
{
    char sql[SQL_SIZE];
    snprintf(sql, sizeof sql, "%sforge_partitions.%s%s", head, archiver->config->table, tail);
    return db_admin_query(archiver->config->conn, sql, count, parameters, what, out, error);
}

/* ---- one file ---- */

/* The next rows behind the last key: fewer than asked for when they are together longer than about 8 MiB. They are cut off by the lengths
 * of their texts, which PostgreSQL knows without reading them, before they become lines. */
static forge_code read_rows(const struct archiver *archiver, const struct key *behind, PGresult **out, struct forge_error *error)
{
    static const char head[] =
        "SELECT o.project_id, o.trace_id, o.span_id, o.started_at, row_to_json(r)::text FROM (SELECT s.*, sum(1024"
        " + COALESCE(octet_length(input), 0) + COALESCE(octet_length(output), 0) + 2 * COALESCE(octet_length(details), 0)"
        " + COALESCE(octet_length(parameters), 0) + COALESCE(octet_length(status_message), 0)) OVER before_it AS bytes_before"
        " FROM (SELECT " COLUMNS " FROM ";
    static const char tail[] = " WHERE organization_id = $1 AND (" KEY ") > ($2::uuid, $3::bytea, $4::bytea, $5::timestamptz) ORDER BY " KEY
                               " LIMIT $6::integer) s"
                               " WINDOW before_it AS (ORDER BY " KEY " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) o"
                               " CROSS JOIN LATERAL (SELECT " COLUMNS ") r WHERE COALESCE(o.bytes_before, 0) < 8388608"
                               " ORDER BY o.project_id, o.trace_id, o.span_id, o.started_at";
    char rows[DB_ARCHIVE_NUMBER_SIZE];
    snprintf(rows, sizeof rows, "%u", archiver->config->rows_per_file < READ_ROWS ? archiver->config->rows_per_file : READ_ROWS);
    const char *parameters[] = {archiver->organization_id, behind->parts[0], behind->parts[1], behind->parts[2], behind->parts[3], rows};
    return query(archiver, head, tail, 6, parameters, "reading spans", out, error);
}

static void take_key(struct key *key, const PGresult *rows, int row)
{
    for (int i = 0; i < KEY_COUNT; i++)
        snprintf(key->parts[i], KEY_SIZE, "%s", PQgetvalue(rows, row, i));
}

/* The archive's row, before its file is there: whatever becomes of us, the next pass finds the file by it. How many spans from when to when
 * is told when it is complete. */
static forge_code announce(struct archiver *archiver, struct file *file, const char *first_at, struct forge_error *error)
{
    struct forge_uuid id;
    PGresult *result = NULL;
    forge_uuid_v7(&id);
    forge_uuid_format(&id, file->id);
    const char *day = archiver->config->table + strlen(archiver->config->table) - DAY_DIGITS;
    if (asprintf(&file->path, "%s/spans-%.4s-%.2s-%.2s-%s" DB_ARCHIVE_SUFFIX, archiver->folder, day, day + 4, day + 6, file->id) < 0) {
        file->path = NULL;
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    }
    const char *parameters[] = {archiver->organization_id, file->id, file->path, first_at, archiver->now_us};
    forge_code rc = db_admin_begin(archiver->config->conn, archiver->organization_id, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(
            archiver->config->conn,
            "INSERT INTO archives (organization_id, id, kind, state, path, row_count, first_at, last_at, created_at)"
            " VALUES ($1, $2, 'spans', 'writing', $3, 0, $4, $4, timestamptz 'epoch' + $5::bigint * interval '1 microsecond')",
            5, parameters, "announcing an archive", &result, error);
    PQclear(result);
    return db_admin_end(archiver->config->conn, rc, error);
}

static forge_code open_file(struct archiver *archiver, struct file *file, const PGresult *rows, struct forge_error *error)
{
    forge_code rc = announce(archiver, file, PQgetvalue(rows, 0, 3), error);
    if (rc == FORGE_OK)
        rc = db_archive_make_folder(archiver->folder, error);
    return rc == FORGE_OK ? db_archive_writer_open(file->path, &file->writer, error) : rc;
}

static forge_code add_rows(const struct archiver *archiver, struct file *file, const PGresult *rows, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK && file->count < archiver->config->rows_per_file; i++) {
        rc = db_archive_writer_add(file->writer, PQgetvalue(rows, i, KEY_COUNT), (size_t)PQgetlength(rows, i, KEY_COUNT), error);
        file->count++;
        file->bytes += PQgetlength(rows, i, KEY_COUNT);
        take_key(&file->last, rows, i);
    }
    return rc;
}

/* Writes rows until the file is full or none are left; nothing at all without rows. */
static forge_code write_rows(struct archiver *archiver, struct file *file, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    bool more = true;
    while (rc == FORGE_OK && more && file->count < archiver->config->rows_per_file && file->bytes < FILE_BYTES) {
        PGresult *rows = NULL;
        if (is_stopped(archiver))
            return forge_error_set(error, FORGE_CANCELLED, "asked to stop");
        rc = read_rows(archiver, &file->last, &rows, error);
        more = rc == FORGE_OK && PQntuples(rows) > 0;
        if (more && file->writer == NULL)
            rc = open_file(archiver, file, rows, error);
        if (rc == FORGE_OK && more)
            rc = add_rows(archiver, file, rows, error);
        PQclear(rows);
    }
    return rc;
}

static forge_code write_file(struct archiver *archiver, struct file *file, struct forge_error *error)
{
    uint8_t sha256[FORGE_SHA256_SIZE];
    forge_code rc = write_rows(archiver, file, error);
    if (file->writer == NULL)
        return rc;
    if (rc != FORGE_OK) {
        db_archive_writer_abandon(file->writer);
        return rc;
    }
    rc = db_archive_writer_close(file->writer, sha256, error);
    if (rc == FORGE_OK)
        db_archive_format_sha256(sha256, file->sha256);
    return rc;
}

/* In one transaction: what is in the file leaves the table, and the archive is complete. */
static forge_code exchange(const struct archiver *archiver, const struct file *file, struct forge_error *error)
{
    static const char tail[] =
        " WHERE organization_id = $1 AND (" KEY ") > ($2::uuid, $3::bytea, $4::bytea, $5::timestamptz) AND (" KEY
        ") <= ($6::uuid, $7::bytea, $8::bytea, $9::timestamptz) RETURNING started_at)"
        " UPDATE archives SET state = 'complete', sha256 = decode($11, 'hex'), row_count = $12::bigint,"
        " first_at = (SELECT min(started_at) FROM gone), last_at = (SELECT max(started_at) FROM gone),"
        " updated_at = timestamptz 'epoch' + $13::bigint * interval '1 microsecond'"
        " WHERE organization_id = $1 AND id = $10::uuid AND state = 'writing' AND (SELECT count(*) FROM gone) = $12::bigint";
    char count[DB_ARCHIVE_NUMBER_SIZE];
    PGresult *result = NULL;
    snprintf(count, sizeof count, "%" PRId64, file->count);
    const struct key *from = &archiver->from, *to = &file->last;
    const char *parameters[] = {archiver->organization_id,
                                from->parts[0],
                                from->parts[1],
                                from->parts[2],
                                from->parts[3],
                                to->parts[0],
                                to->parts[1],
                                to->parts[2],
                                to->parts[3],
                                file->id,
                                file->sha256,
                                count,
                                archiver->now_us};
    forge_code rc = db_admin_begin(archiver->config->conn, archiver->organization_id, error);
    if (rc == FORGE_OK)
        rc = query(archiver, "WITH gone AS (DELETE FROM ", tail, 13, parameters, "archiving spans", &result, error);
    bool is_whole = rc == FORGE_OK && strcmp(PQcmdTuples(result), "1") == 0;
    PQclear(result);
    if (rc == FORGE_OK && !is_whole)
        rc = forge_error_set(error, FORGE_ABORTED, "archiving spans: forge_partitions.%s was changed meanwhile", archiver->config->table);
    return db_admin_end(archiver->config->conn, rc, error);
}

static void tell_file(const struct archiver *archiver, const struct file *file)
{
    char line[DB_ARCHIVE_TELL_SIZE];
    snprintf(line, sizeof line, "Archived %" PRId64 " spans of organization %s: %.600s", file->count, archiver->organization_id,
             file->path);
    if (archiver->config->tell != NULL)
        archiver->config->tell(line, archiver->config->user);
}

/* *out_count: how many spans it took, 0 when none are left. */
static forge_code archive_file(struct archiver *archiver, int64_t *out_count, struct forge_error *error)
{
    struct file file = {.last = archiver->from};
    forge_code rc = write_file(archiver, &file, error);
    if (rc == FORGE_OK && file.count > 0)
        rc = exchange(archiver, &file, error);
    if (rc == FORGE_OK && file.count > 0) {
        archiver->report->spans += file.count;
        archiver->report->files++;
        archiver->from = file.last;
        tell_file(archiver, &file);
    }
    *out_count = file.count;
    free(file.path);
    return rc;
}

/* ---- an organization ---- */

/* Not archived: spans of projects that are deleted or are to keep them for a shorter time, left by a deletion that came too late. */
static forge_code delete_unwanted(const struct archiver *archiver, struct forge_error *error)
{
    static const char tail[] = " WHERE organization_id = $1 AND project_id <> ALL (ARRAY(SELECT p.id FROM projects p LEFT JOIN"
                               " retention_settings r ON r.organization_id = $1 AND r.project_id = p.id WHERE p.organization_id = $1"
                               " AND p.deleted_at IS NULL AND (r.trace_days IS NULL OR r.trace_days >= $2::integer)))";
    char days[DB_ARCHIVE_NUMBER_SIZE];
    PGresult *result = NULL;
    snprintf(days, sizeof days, "%u", archiver->config->trace_days);
    const char *parameters[] = {archiver->organization_id, days};
    forge_code rc = db_admin_begin(archiver->config->conn, archiver->organization_id, error);
    if (rc == FORGE_OK)
        rc = query(archiver, "DELETE FROM ", tail, 2, parameters, "deleting spans that nobody is to keep", &result, error);
    PQclear(result);
    return db_admin_end(archiver->config->conn, rc, error);
}

/* What a failed file has left goes at once, where the outcome is known: a full disk then has room again. */
static forge_code archive_files(struct archiver *archiver, struct forge_error *error)
{
    struct forge_error ignored = {0};
    int64_t count = 1;
    forge_code rc = FORGE_OK;
    while (rc == FORGE_OK && count > 0)
        rc = archive_file(archiver, &count, error);
    if (rc != FORGE_OK && PQstatus(archiver->config->conn) == CONNECTION_OK &&
        db_archive_remove_unfinished(archiver->config->conn, archiver->organization_id, archiver->folder, "spans", &ignored) != FORGE_OK)
        return rc; /* the next pass does it */
    return rc;
}

static forge_code archive_organization(struct archiver *archiver, struct forge_error *error)
{
    struct forge_error failure = {0};
    PGconn *conn = archiver->config->conn;
    archiver->from = before_all;
    if (asprintf(&archiver->folder, "%s/%s", archiver->config->root, archiver->organization_id) < 0)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for an archive");
    forge_code rc = db_archive_remove_unfinished(conn, archiver->organization_id, archiver->folder, "spans", error);
    if (rc == FORGE_OK)
        rc = delete_unwanted(archiver, error);
    if (rc == FORGE_OK)
        rc = archive_files(archiver, error);
    if (PQstatus(conn) == CONNECTION_OK && db_archive_write_sums(conn, archiver->organization_id, archiver->folder, &failure) != FORGE_OK &&
        rc == FORGE_OK) {
        *error = failure;
        rc = failure.code;
    }
    free(archiver->folder);
    return rc;
}

/* The next organization, behind the last one, that has spans in the table and is not deleted; *out_found false: there is none. */
static forge_code next_organization(struct archiver *archiver, bool *out_found, struct forge_error *error)
{
    static const char head[] = "SELECT n.organization_id FROM organization_names n WHERE n.deleted_at IS NULL AND n.organization_id > $1"
                               " AND EXISTS (SELECT FROM ",
                      tail[] = " s WHERE s.organization_id = n.organization_id) ORDER BY n.organization_id LIMIT 1";
    const char *parameters[] = {archiver->organization_id};
    PGresult *rows = NULL;
    forge_code rc = query(archiver, head, tail, 1, parameters, "looking for an organization with spans", &rows, error);
    *out_found = rc == FORGE_OK && PQntuples(rows) == 1;
    if (*out_found)
        snprintf(archiver->organization_id, sizeof archiver->organization_id, "%s", PQgetvalue(rows, 0, 0));
    PQclear(rows);
    return rc;
}

/* Only of a detached partition: it is ours alone, and which organizations it has spans of stands nowhere else. Without statistics each read
 * might sort all that is left. */
static forge_code open_table(const struct archiver *archiver, struct forge_error *error)
{
    PGresult *result = NULL;
    forge_code rc =
        query(archiver, "ALTER TABLE ", " NO FORCE ROW LEVEL SECURITY", 0, NULL, "opening a detached partition", &result, error);
    PQclear(result);
    result = NULL;
    if (rc == FORGE_OK)
        rc = query(archiver, "ANALYZE ", "", 0, NULL, "analyzing a detached partition", &result, error);
    PQclear(result);
    return rc;
}

/* *out_any: there was one. */
static forge_code archive_organizations(struct archiver *archiver, bool *out_any, struct forge_error *error)
{
    bool found = true;
    forge_code rc = FORGE_OK;
    *out_any = false;
    snprintf(archiver->organization_id, sizeof archiver->organization_id, "%s", before_all.parts[0]);
    while (rc == FORGE_OK && found) {
        rc = next_organization(archiver, &found, error);
        if (rc == FORGE_OK && found)
            rc = archive_organization(archiver, error);
        *out_any |= found;
    }
    return rc;
}

/* The last round finds none: that is what the caller relies on. */
forge_code db_archive_spans(const struct db_span_archive *config, struct db_span_archive_report *out, struct forge_error *error)
{
    struct archiver archiver = {.config = config, .report = out};
    bool any = true;
    snprintf(archiver.now_us, sizeof archiver.now_us, "%" PRId64, config->now_us);
    forge_code rc = open_table(&archiver, error);
    while (rc == FORGE_OK && any)
        rc = archive_organizations(&archiver, &any, error);
    return rc;
}
