/* Flights: statements and one Sync sent together, their answers read up to a limit. Flush is never sent without Sync: only a
 * transaction that was given ReadyForQuery is ended by idle_in_transaction_session_timeout. */
#include "db/conn.h"
#include "db/sqlstate.h"

#include "wire/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TLS_LOOK_NS = 20000000 };

void db_result_done(struct db_result *result)
{
    PQclear(result->pg);
    result->pg = NULL;
    if (result->charged > 0)
        forge_byte_budget_give(result->arena->budget, result->charged);
    result->charged = 0;
}

static bool statement_send(struct db_conn *conn, struct db_stmt *stmt)
{
    const struct sql_statement *sql = &sql_statements[stmt->id];
    stmt->parse_sent = conn->prepared[stmt->id] == DB_PREPARE_NONE;
    if (stmt->parse_sent) {
        if (PQsendPrepare(conn->pg, sql->name, sql->text, 0, NULL) != 1)
            return false;
        conn->prepared[stmt->id] = DB_PREPARE_SENT;
    }
    return PQsendQueryPrepared(conn->pg, sql->name, (int)sql->parameter_count, stmt->values, stmt->lengths, stmt->formats,
                               DB_PARAMETER_BINARY) == 1;
}

/* Waits until libpq has a result or the limit is over. Sends what is still to be sent meanwhile. */
static bool wait_readable(struct db_conn *conn, uint64_t until_ns, struct db_failure *failure)
{
    while (!failure->lost && PQisBusy(conn->pg)) {
        int unsent = PQflush(conn->pg);
        uint64_t now = forge_clock_monotonic_ns();
        if (now >= until_ns) {
            failure->timed_out = true;
            return false;
        }
        uint64_t left = until_ns - now;
        if (PQsslInUse(conn->pg) && left > TLS_LOOK_NS) /* bytes may wait inside the TLS library, where poll() does not see them */
            left = TLS_LOOK_NS;
        struct timespec timeout = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
        struct pollfd ready = {.fd = PQsocket(conn->pg), .events = (short)(POLLIN | (unsent > 0 ? POLLOUT : 0))};
        if (unsent < 0 || (ppoll(&ready, 1, &timeout, NULL) < 0 && errno != EINTR))
            failure->lost = true;
        else if ((ready.revents != 0 || left == TLS_LOOK_NS) && PQconsumeInput(conn->pg) == 0)
            failure->lost = true; /* answers that came before the end are still read */
    }
    return true;
}

static void failure_note(struct db_failure *failure, const PGresult *result, int statement)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    bool is_error = sqlstate != NULL && severity != NULL && strcmp(severity, "ERROR") == 0;
    if (!is_error)
        failure->lost = true; /* libpq's own report of a lost connection, or FATAL, or PANIC */
    if (failure->happened)
        return;
    failure->happened = true;
    failure->refused = is_error;
    const char *constraint = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    failure->statement = sqlstate != NULL ? statement : -1;
    snprintf(failure->sqlstate, sizeof(failure->sqlstate), "%s", sqlstate != NULL ? sqlstate : "");
    snprintf(failure->constraint, sizeof(failure->constraint), "%s", constraint != NULL ? constraint : "");
    snprintf(failure->message, sizeof(failure->message), "%s", message != NULL ? message : PQresultErrorMessage(result));
}

/* The result of one command (a Parse or an execution) and the NULL behind it. NULL when the connection is of no more use. */
static PGresult *command_result(struct db_conn *conn, int statement, uint64_t until_ns, struct db_failure *failure)
{
    if (!wait_readable(conn, until_ns, failure))
        return NULL;
    PGresult *result = PQgetResult(conn->pg);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR) /* also of a NULL result */
        failure_note(failure, result, statement);
    if (result == NULL || (failure->lost && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)) {
        PQclear(result);
        failure->lost = true;
        return NULL;
    }
    if (!wait_readable(conn, until_ns, failure)) {
        PQclear(result);
        return NULL;
    }
    PGresult *behind = PQgetResult(conn->pg);
    if (behind != NULL) {
        PQclear(behind);
        PQclear(result);
        failure->lost = true;
        return NULL;
    }
    return result;
}

static bool parse_receive(struct db_conn *conn, enum sql_id id, uint64_t until_ns, struct db_failure *failure)
{
    PGresult *result = command_result(conn, (int)id, until_ns, failure);
    if (result == NULL)
        return false;
    /* Marked only by its own answer: one that was skipped behind an error is not prepared. */
    conn->prepared[id] = PQresultStatus(result) == PGRES_COMMAND_OK ? DB_PREPARE_DONE : DB_PREPARE_NONE;
    PQclear(result);
    return true;
}

static void result_keep(struct db_stmt *stmt, PGresult *result)
{
    stmt->result.pg = result;
    size_t size = PQresultMemorySize(result);
    if (forge_byte_budget_take(stmt->result.arena->budget, size))
        stmt->result.charged = size;
    else
        stmt->result.arena->overflowed = true; /* sticky: the session reports it */
}

static bool statement_receive(struct db_conn *conn, struct db_stmt *stmt, uint64_t until_ns, struct db_failure *failure)
{
    if (stmt->parse_sent && !parse_receive(conn, stmt->id, until_ns, failure))
        return false;
    PGresult *result = command_result(conn, (int)stmt->id, until_ns, failure);
    if (result == NULL)
        return false;
    ExecStatusType status = PQresultStatus(result);
    if (stmt->keeps_result && (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK))
        result_keep(stmt, result);
    else
        PQclear(result);
    return true;
}

static bool sync_receive(struct db_conn *conn, uint64_t until_ns, struct db_failure *failure)
{
    if (!wait_readable(conn, until_ns, failure))
        return false;
    PGresult *result = PQgetResult(conn->pg);
    bool is_sync = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
    if (!is_sync && result != NULL && PQresultStatus(result) == PGRES_FATAL_ERROR)
        failure_note(failure, result, -1);
    PQclear(result);
    if (!is_sync)
        failure->lost = true;
    return is_sync;
}

static bool flight_end(struct db_conn *conn, struct db_failure *failure)
{
    if (failure->lost || failure->timed_out || db_sqlstate_ends_connection(failure->sqlstate))
        conn->broken = true;
    failure->happened = failure->happened || failure->lost || failure->timed_out;
    return !failure->happened;
}

bool db_flight_run(struct db_conn *conn, struct db_stmt *first, uint64_t until_ns, struct db_failure *out)
{
    *out = (struct db_failure){.statement = -1};
    for (struct db_stmt *stmt = first; stmt != NULL && !out->lost; stmt = stmt->next)
        out->lost = !statement_send(conn, stmt);
    if (!out->lost && PQpipelineSync(conn->pg) != 1 && PQstatus(conn->pg) != CONNECTION_OK)
        out->lost = true;
    if (out->lost)
        return flight_end(conn, out);
    bool goes_on = true;
    for (struct db_stmt *stmt = first; stmt != NULL && goes_on; stmt = stmt->next)
        goes_on = statement_receive(conn, stmt, until_ns, out);
    if (goes_on)
        goes_on = sync_receive(conn, until_ns, out);
    return flight_end(conn, out);
}

/* Sends Parse for each unprepared statement from *next on and reads the answers. *next becomes the one behind the first refused one. */
static bool prepare_some(struct db_conn *conn, int *next, uint64_t until_ns)
{
    struct db_failure failure = {.statement = -1};
    bool sent[SQL_COUNT] = {false};
    for (int id = *next; id < SQL_COUNT; id++) {
        if (conn->prepared[id] != DB_PREPARE_NONE)
            continue;
        if (PQsendPrepare(conn->pg, sql_statements[id].name, sql_statements[id].text, 0, NULL) != 1)
            return false;
        sent[id] = true;
    }
    if (PQpipelineSync(conn->pg) != 1)
        return false;
    for (int id = *next; id < SQL_COUNT; id++)
        if (sent[id] && !parse_receive(conn, (enum sql_id)id, until_ns, &failure))
            return false;
    if (!sync_receive(conn, until_ns, &failure) || failure.lost)
        return false;
    *next = failure.happened ? failure.statement + 1 : SQL_COUNT;
    return true;
}

bool db_flight_prepare_all(struct db_conn *conn, uint64_t until_ns)
{
    for (int next = 0; next < SQL_COUNT;)
        if (!prepare_some(conn, &next, until_ns)) {
            conn->broken = true;
            return false;
        }
    conn->prepared_all = true;
    return true;
}
