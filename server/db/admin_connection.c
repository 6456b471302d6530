#include "db/admin_connection.h"

#include "db/url.h"

#include <stdio.h>
#include <string.h>

enum { OPTIONS_MAX = 64 }; /* libpq knows about 40 */

static void notice_ignore(void *user, const char *message)
{
    (void)user;
    (void)message;
}

/* libpq's texts end in a newline and may hold several lines; an error message is one. */
static int first_line_length(const char *text)
{
    return (int)strcspn(text, "\n");
}

static forge_code code_of_sqlstate(const char *sqlstate)
{
    if (strcmp(sqlstate, "42501") == 0)
        return FORGE_PERMISSION_DENIED;
    if (strcmp(sqlstate, "55P03") == 0 || strcmp(sqlstate, "40P01") == 0 || strncmp(sqlstate, "57P", 3) == 0 ||
        strncmp(sqlstate, "08", 2) == 0 || sqlstate[0] == '\0')
        return FORGE_UNAVAILABLE;
    if (strncmp(sqlstate, "53", 2) == 0)
        return FORGE_RESOURCE_EXHAUSTED;
    if (strcmp(sqlstate, "23505") == 0)
        return FORGE_ALREADY_EXISTS;
    return FORGE_FAILED_PRECONDITION;
}

forge_code db_admin_open(const char *url, const char *database, PGconn **out, struct forge_error *error)
{
    PQconninfoOption *options;
    forge_code rc = db_url_parse(url, &options, error);
    if (rc != FORGE_OK)
        return rc;
    const char *keywords[OPTIONS_MAX + 5], *values[OPTIONS_MAX + 5];
    size_t count = 0;
    for (const PQconninfoOption *option = options; option->keyword != NULL && count < OPTIONS_MAX; option++) {
        if (option->val == NULL)
            continue;
        keywords[count] = option->keyword;
        values[count++] = option->val;
    }
    const char *const ours[][2] = {
        {"application_name", "forged admin"}, {"client_encoding", "UTF8"}, {"connect_timeout", "10"}, {"dbname", database}};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) { /* a later keyword replaces an earlier one */
        if (ours[i][1] == NULL)
            continue;
        keywords[count] = ours[i][0];
        values[count++] = ours[i][1];
    }
    keywords[count] = NULL;
    values[count] = NULL;
    PGconn *conn = PQconnectdbParams(keywords, values, 0);
    PQconninfoFree(options);
    if (PQstatus(conn) != CONNECTION_OK) { /* also of NULL */
        const char *text = PQerrorMessage(conn);
        rc = forge_error_set(error, FORGE_UNAVAILABLE, "PostgreSQL: %.*s", first_line_length(text), text);
        PQfinish(conn);
        return rc;
    }
    PQsetNoticeProcessor(conn, notice_ignore, NULL);
    *out = conn;
    return FORGE_OK;
}

forge_code db_admin_failed(PGconn *conn, PGresult *result, const char *what, struct forge_error *error)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (text == NULL)
        text = PQerrorMessage(conn);
    snprintf(error->sqlstate, sizeof error->sqlstate, "%s", sqlstate != NULL ? sqlstate : "");
    forge_code rc = forge_error_set(error, code_of_sqlstate(error->sqlstate), "%s: %.*s", what, first_line_length(text), text);
    PQclear(result);
    return rc;
}

forge_code db_admin_exec(PGconn *conn, const char *sql, const char *what, struct forge_error *error)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return db_admin_failed(conn, result, what, error);
    PQclear(result);
    return FORGE_OK;
}

forge_code db_admin_query(PGconn *conn, const char *sql, int count, const char *const *values, const char *what, PGresult **out_result,
                          struct forge_error *error)
{
    PGresult *result = PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return db_admin_failed(conn, result, what, error);
    *out_result = result;
    return FORGE_OK;
}

forge_code db_admin_become_owner(PGconn *conn, struct forge_error *error)
{
    forge_code rc = db_admin_exec(conn, "SET statement_timeout = '10s'; SET lock_timeout = '500ms'; SET ROLE forge_owner",
                                  "becoming forge_owner", error);
    if (rc == FORGE_OK || strcmp(error->sqlstate, "42501") != 0)
        return rc;
    return forge_error_set(
        error, FORGE_FAILED_PRECONDITION,
        "this role may not become forge_owner: DATABASE_MAINT_URL must name forge_maint; `forged bootstrap roles` makes it");
}

forge_code db_admin_begin(PGconn *conn, const char *organization_id, struct forge_error *error)
{
    PGresult *result = NULL;
    forge_code rc = db_admin_exec(conn, "BEGIN", "beginning", error);
    if (rc == FORGE_OK && organization_id != NULL)
        rc = db_admin_query(conn, "SELECT set_config('forge.organization_id', $1, true)", 1, &organization_id, "binding the organization",
                            &result, error);
    PQclear(result);
    return rc;
}

forge_code db_admin_end(PGconn *conn, forge_code rc, struct forge_error *error)
{
    if (rc == FORGE_OK)
        return db_admin_exec(conn, "COMMIT", "committing", error);
    PQclear(PQexec(conn, "ROLLBACK"));
    return rc;
}
