/* The table archives, and the folders that its paths name. */
#include "db/archive_private.h"

#include "db/archive_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

forge_code db_archive_connect(const char *url, PGconn **out, struct forge_error *error)
{
    PGconn *conn;
    forge_code rc = db_admin_open(url, NULL, &conn, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_admin_become_owner(conn, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(conn, "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'", "setting up", error);
    /* Any number that nobody else uses ("frgarchv"). The session of a killed run ends with its statement: that is worth waiting for. */
    if (rc == FORGE_OK)
        rc = db_admin_exec(conn, "SET lock_timeout = '5s'; SELECT pg_advisory_lock(7382076407442270326); SET lock_timeout = '500ms'",
                           "taking the lock of archives", error);
    if (rc == FORGE_OK) {
        *out = conn;
        return rc;
    }
    PQfinish(conn);
    return strcmp(error->sqlstate, "55P03") == 0
               ? forge_error_set(error, FORGE_ABORTED, "rows are being archived or restored by another run: wait until it has ended")
               : rc;
}

forge_code db_archive_open_root(const char *folder, char **out, struct forge_error *error)
{
    forge_code rc = db_archive_make_folder(folder, error);
    if (rc != FORGE_OK)
        return rc;
    *out = realpath(folder, NULL);
    if (*out == NULL)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "looking for the folder %.300s: %s", folder, strerror(errno));
    return FORGE_OK;
}

void db_archive_format_sha256(const uint8_t sha256[FORGE_SHA256_SIZE], char out[DB_ARCHIVE_SHA256_TEXT_SIZE])
{
    for (size_t i = 0; i < FORGE_SHA256_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", sha256[i]);
}

static forge_code forget(PGconn *conn, const char *organization_id, const char *archive_id, struct forge_error *error)
{
    const char *parameters[] = {organization_id, archive_id};
    PGresult *result = NULL;
    forge_code rc = db_admin_begin(conn, organization_id, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(conn, "DELETE FROM archives WHERE organization_id = $1 AND id = $2::uuid AND state = 'writing'", 2, parameters,
                            "removing an unfinished archive", &result, error);
    PQclear(result);
    return db_admin_end(conn, rc, error);
}

/* In a transaction bound to the organization, which is the first parameter. */
static forge_code list_archives(PGconn *conn, const char *sql, int count, const char *const *parameters, PGresult **out,
                                struct forge_error *error)
{
    PGresult *rows = NULL;
    forge_code rc = db_admin_begin(conn, parameters[0], error);
    if (rc == FORGE_OK)
        rc = db_admin_query(conn, sql, count, parameters, "listing archives", &rows, error);
    rc = db_admin_end(conn, rc, error);
    if (rc == FORGE_OK)
        *out = rows;
    else
        PQclear(rows);
    return rc;
}

forge_code db_archive_remove_unfinished(PGconn *conn, const char *organization_id, const char *folder, const char *kind,
                                        struct forge_error *error)
{
    const char *parameters[] = {organization_id, folder, kind};
    PGresult *rows;
    forge_code rc = list_archives(conn,
                                  "SELECT id, path FROM archives WHERE organization_id = $1 AND kind = $3 AND state = 'writing'"
                                  " AND starts_with(path, $2 || '/')",
                                  3, parameters, &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK; i++) {
        rc = db_archive_delete(PQgetvalue(rows, i, 1), error);
        if (rc == FORGE_OK)
            rc = forget(conn, organization_id, PQgetvalue(rows, i, 0), error);
    }
    PQclear(rows);
    return rc;
}

forge_code db_archive_write_sums(PGconn *conn, const char *organization_id, const char *folder, struct forge_error *error)
{
    const char *parameters[] = {organization_id, folder};
    PGresult *rows;
    char *path = NULL, *text = NULL;
    size_t size = 0;
    forge_code rc = list_archives(conn,
                                  "SELECT encode(sha256, 'hex'), substr(path, length($2) + 2) FROM archives WHERE organization_id = $1"
                                  " AND state = 'complete' AND starts_with(path, $2 || '/') ORDER BY path",
                                  2, parameters, &rows, error);
    if (rc != FORGE_OK)
        return rc;
    FILE *stream = PQntuples(rows) > 0 ? open_memstream(&text, &size) : NULL;
    for (int i = 0; stream != NULL && i < PQntuples(rows); i++)
        fprintf(stream, "%s  %s\n", PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1));
    if (PQntuples(rows) > 0 && (stream == NULL || fclose(stream) != 0 || asprintf(&path, "%s/SHA256SUMS", folder) < 0)) {
        path = NULL;
        rc = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for SHA256SUMS");
    }
    if (rc == FORGE_OK && path != NULL && access(folder, F_OK) == 0) /* it may have been moved away, with all that is in it */
        rc = db_archive_replace(path, text, size, error);
    free(path);
    free(text);
    PQclear(rows);
    return rc;
}
