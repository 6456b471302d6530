#include "db/admin_connection.h"

#include <stdio.h>
#include <string.h>

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
    const char *keywords[] = {"dbname", "dbname", "connect_timeout", "application_name", "client_encoding", NULL};
    const char *values[] = {url, database, "10", "forged admin", "UTF8", NULL};
    if (database == NULL) {
        keywords[1] = "fallback_application_name";
        values[1] = "forged";
    }
    PGconn *conn = PQconnectdbParams(keywords, values, 1);
    if (conn == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a connection to PostgreSQL");
    if (PQstatus(conn) != CONNECTION_OK) {
        const char *text = PQerrorMessage(conn);
        forge_code rc = forge_error_set(error, FORGE_UNAVAILABLE, "PostgreSQL: %.*s", first_line_length(text), text);
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
