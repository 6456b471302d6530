#include "db/stmt.h"

#include "db/session.h"
#include "db/sqlstate.h"

#include "wire/clock.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOCK_TIMEOUT_MS_MAX = 1000,
    STATEMENT_TIMEOUT_MS_MAX = 24 * 3600 * 1000, /* also of a session without a deadline */
    TEXT_OID = 25,                               /* pg_type.dat */
    UUID_OID = 2950
};

/* 2000-01-01, PostgreSQL's epoch, in microseconds since the Unix epoch. */
static const int64_t postgres_epoch_us = INT64_C(946684800000000);

/* --- session ------------------------------------------------------------------------------------ */

static void control_init(struct db_stmt *stmt, struct db_session *session, enum sql_id id, bool keeps_result)
{
    *stmt = (struct db_stmt){.session = session, .id = id, .keeps_result = keeps_result, .result = {.arena = session->arena}};
}

void db_session_forget(struct db_session *session)
{
    static const struct forge_uuid nil;
    forge_uuid_format(&nil, session->tenant);
    session->first = session->last = NULL;
    session->begin_queued = session->begin_sent = session->transaction_failed = false;
    session->failure = (struct db_failure){.statement = -1};
}

void db_session_init(struct db_session *session, struct db_conn *conn, struct forge_arena *arena, uint64_t deadline_ns)
{
    *session = (struct db_session){.conn = conn, .arena = arena, .deadline_ns = deadline_ns};
    db_session_forget(session);
}

void db_session_done(struct db_session *session)
{
    while (session->results != NULL) {
        struct db_result *result = session->results;
        session->results = result->next;
        db_result_done(result);
    }
}

void db_session_bind_tenant(struct db_session *session, const struct forge_uuid *organization_id)
{
    forge_uuid_format(organization_id, session->tenant);
}

int db_session_failed_statement(const struct db_session *session)
{
    return session->failure.statement;
}

const char *db_session_failed_constraint(const struct db_session *session)
{
    return session->failure.constraint[0] != '\0' ? session->failure.constraint : NULL;
}

const char *db_session_failed_message(const struct db_session *session)
{
    return session->failure.message;
}

/* --- statements and parameters ------------------------------------------------------------------ */

struct db_stmt *db_stmt(struct db_session *session, enum sql_id id)
{
    unsigned count = sql_statements[id].parameter_count;
    size_t each = sizeof(char *) + 2 * sizeof(int) + sizeof(((struct db_stmt *)NULL)->scratch[0]);
    struct db_stmt *stmt = forge_arena_alloc(session->arena, sizeof(*stmt) + count * each);
    if (stmt == NULL) {
        session->out_of_memory = true;
        session->nowhere.session = session;
        return &session->nowhere;
    }
    control_init(stmt, session, id, false);
    stmt->values = (const char **)(stmt + 1);
    stmt->lengths = (int *)(stmt->values + count);
    stmt->formats = stmt->lengths + count;
    stmt->scratch = (char(*)[24])(stmt->formats + count);
    return stmt;
}

static void bind(struct db_stmt *stmt, const void *value, size_t size, int format)
{
    if (stmt == &stmt->session->nowhere)
        return;
    const struct sql_statement *sql = &sql_statements[stmt->id];
    if (stmt->bound == sql->parameter_count)
        db_bug("statement %s has %u parameters, one more was bound", sql->name, sql->parameter_count);
    if (size > INT32_MAX) {
        stmt->session->out_of_memory = true;
        return;
    }
    stmt->values[stmt->bound] = value;
    stmt->lengths[stmt->bound] = (int)size;
    stmt->formats[stmt->bound++] = format;
}

/* Room for the next parameter's few bytes, NULL in the statement that goes nowhere. */
static char *bind_scratch(struct db_stmt *stmt)
{
    bool has_room = stmt != &stmt->session->nowhere && stmt->bound < sql_statements[stmt->id].parameter_count;
    return has_room ? stmt->scratch[stmt->bound] : NULL;
}

void db_bind_uuid(struct db_stmt *stmt, const struct forge_uuid *value)
{
    bind(stmt, value == NULL ? NULL : value->bytes, sizeof(value->bytes), DB_PARAMETER_BINARY);
}

void db_bind_text(struct db_stmt *stmt, const char *value)
{
    bind(stmt, value, 0, DB_PARAMETER_TEXT);
}

void db_bind_bytes(struct db_stmt *stmt, const void *value, size_t size)
{
    bind(stmt, value, size, DB_PARAMETER_BINARY);
}

void db_bind_bool(struct db_stmt *stmt, bool value)
{
    bind(stmt, value ? "\1" : "\0", 1, DB_PARAMETER_BINARY);
}

void db_bind_int32(struct db_stmt *stmt, int32_t value)
{
    db_bind_int64(stmt, value);
}

void db_bind_int64(struct db_stmt *stmt, int64_t value)
{
    char *text = bind_scratch(stmt);
    if (text != NULL)
        snprintf(text, sizeof(stmt->scratch[0]), "%" PRId64, value);
    bind(stmt, text, 0, DB_PARAMETER_TEXT);
}

/* Eight bytes, in network order. */
static void bind_word(struct db_stmt *stmt, uint64_t value)
{
    uint64_t wire = htobe64(value);
    char *bytes = bind_scratch(stmt);
    if (bytes != NULL)
        memcpy(bytes, &wire, sizeof(wire));
    bind(stmt, bytes, sizeof(wire), DB_PARAMETER_BINARY);
}

/* INT64_MIN and INT64_MAX are -infinity and infinity on both sides. */
void db_bind_time_us(struct db_stmt *stmt, int64_t unix_us)
{
    int64_t value = unix_us;
    if (unix_us != INT64_MAX && __builtin_sub_overflow(unix_us, postgres_epoch_us, &value))
        value = INT64_MIN;
    bind_word(stmt, (uint64_t)value);
}

void db_bind_double(struct db_stmt *stmt, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    bind_word(stmt, bits);
}

void db_bind_null(struct db_stmt *stmt)
{
    bind(stmt, NULL, 0, DB_PARAMETER_TEXT);
}

static uint8_t *put_int32(uint8_t *at, uint32_t value)
{
    uint32_t wire = htobe32(value);
    memcpy(at, &wire, sizeof(wire));
    return at + sizeof(wire);
}

/* Header of a one-dimensional array without NULL members (array_recv() in PostgreSQL's arrayfuncs.c). An empty one has no dimension. */
static uint8_t *put_array_header(uint8_t *at, uint32_t element_oid, size_t count)
{
    at = put_int32(at, count > 0 ? 1 : 0);
    at = put_int32(at, 0);
    at = put_int32(at, element_oid);
    if (count == 0)
        return at;
    at = put_int32(at, (uint32_t)count);
    return put_int32(at, 1);
}

static uint8_t *array_alloc(struct db_stmt *stmt, size_t size)
{
    uint8_t *bytes = size <= INT32_MAX ? forge_arena_alloc(stmt->session->arena, size) : NULL;
    if (bytes == NULL)
        stmt->session->out_of_memory = true;
    return bytes;
}

void db_bind_text_array(struct db_stmt *stmt, const char *const *values, size_t count)
{
    size_t size = 20;
    for (size_t i = 0; i < count; i++)
        size += 4 + strlen(values[i]);
    uint8_t *bytes = array_alloc(stmt, size);
    if (bytes != NULL) {
        uint8_t *at = put_array_header(bytes, TEXT_OID, count);
        for (size_t i = 0; i < count; i++) {
            size_t length = strlen(values[i]);
            at = put_int32(at, (uint32_t)length);
            memcpy(at, values[i], length);
            at += length;
        }
        size = (size_t)(at - bytes);
    }
    bind(stmt, bytes, size, DB_PARAMETER_BINARY);
}

void db_bind_uuid_array(struct db_stmt *stmt, const struct forge_uuid *values, size_t count)
{
    size_t size = count <= INT32_MAX / 32 ? 20 + count * 20 : SIZE_MAX;
    uint8_t *bytes = array_alloc(stmt, size);
    if (bytes != NULL) {
        uint8_t *at = put_array_header(bytes, UUID_OID, count);
        for (size_t i = 0; i < count; i++) {
            at = put_int32(at, sizeof(values[i].bytes));
            memcpy(at, values[i].bytes, sizeof(values[i].bytes));
            at += sizeof(values[i].bytes);
        }
        size = (size_t)(at - bytes);
    }
    bind(stmt, bytes, size, DB_PARAMETER_BINARY);
}

/* --- flights ------------------------------------------------------------------------------------ */

static void check_bound(struct db_stmt *stmt)
{
    const struct sql_statement *sql = &sql_statements[stmt->id];
    if (stmt->is_used)
        db_bug("statement %s is queued or run a second time", sql->name);
    stmt->is_used = true;
    if (stmt->bound != sql->parameter_count)
        db_bug("statement %s has %u parameters, %u are bound", sql->name, sql->parameter_count, stmt->bound);
}

void db_queue(struct db_stmt *stmt)
{
    struct db_session *session = stmt->session;
    if (stmt == &session->nowhere)
        return;
    check_bound(stmt);
    if (session->last == NULL)
        session->first = stmt;
    else
        session->last->next = stmt;
    session->last = stmt;
}

/* The limit of the poll in C, or 0 when no time is left. With little time left the statement gets half of it. */
static uint64_t limits_make(struct db_session *session)
{
    uint64_t now = forge_clock_monotonic_ns();
    if (session->deadline_ns <= now)
        return 0;
    uint64_t left_ms = (session->deadline_ns - now) / 1000000;
    uint64_t statement_ms = left_ms > 2 * DB_ANSWER_GRACE_MS ? left_ms - DB_ANSWER_GRACE_MS : left_ms / 2;
    if (statement_ms > STATEMENT_TIMEOUT_MS_MAX)
        statement_ms = STATEMENT_TIMEOUT_MS_MAX;
    if (statement_ms == 0)
        return 0;
    /* Shorter than statement_timeout, which otherwise is the only one that fires; 0 would mean none. */
    uint64_t lock_ms = statement_ms * 9 / 10 < LOCK_TIMEOUT_MS_MAX ? statement_ms * 9 / 10 : LOCK_TIMEOUT_MS_MAX;
    snprintf(session->statement_timeout, sizeof(session->statement_timeout), "%" PRIu64, statement_ms);
    snprintf(session->lock_timeout, sizeof(session->lock_timeout), "%" PRIu64, lock_ms > 0 ? lock_ms : 1);
    return now + (statement_ms + DB_ANSWER_GRACE_MS) * 1000000;
}

static struct db_stmt *settings_make(struct db_session *session)
{
    struct db_stmt *settings = db_stmt(session, SQL_DB_SESSION_BIND);
    db_bind_text(settings, session->tenant);
    db_bind_text(settings, session->statement_timeout);
    db_bind_text(settings, session->lock_timeout);
    return settings;
}

static void error_clear(struct forge_error *error)
{
    error->sqlstate[0] = '\0';
    error->retry_after_ms = 0;
    error->not_executed = error->outcome_unknown = false;
}

static forge_code refuse(struct db_session *session, forge_code code, const char *message, struct forge_error *error)
{
    session->first = session->last = NULL;
    error_clear(error);
    error->not_executed = !session->was_sent;
    return forge_error_set(error, code, "%s", message);
}

static forge_code refuse_memory(struct db_session *session, struct forge_error *error)
{
    return refuse(session, FORGE_RESOURCE_EXHAUSTED, "the call needs more memory than one call may use", error);
}

/* What must be so before anything is sent. *out_until_ns: see limits_make(). */
static forge_code flight_check(struct db_session *session, uint64_t *out_until_ns, struct forge_error *error)
{
    session->failure = (struct db_failure){.statement = -1};
    if (session->conn == NULL || session->conn->broken)
        return refuse(session, FORGE_UNAVAILABLE, "the connection to the database was lost", error);
    if (session->transaction_failed)
        return refuse(session, FORGE_ABORTED, "the transaction had failed already", error);
    if (session->out_of_memory || forge_arena_has_overflowed(session->arena))
        return refuse_memory(session, error);
    uint64_t until_ns = limits_make(session);
    if (until_ns == 0)
        return refuse(session, FORGE_DEADLINE_EXCEEDED, "the deadline passed before the database was asked", error);
    *out_until_ns = until_ns;
    return FORGE_OK;
}

static forge_code flight_failed(struct db_session *session, struct forge_error *error)
{
    const struct db_failure *failure = &session->failure;
    session->transaction_failed = session->begin_sent;
    error_clear(error);
    if (failure->sqlstate[0] != '\0')
        return db_sqlstate_to_error(failure->sqlstate, error);
    if (failure->timed_out)
        return forge_error_set(error, FORGE_DEADLINE_EXCEEDED, "the database did not answer before the deadline");
    return forge_error_set(error, FORGE_UNAVAILABLE, "the connection to the database was lost");
}

/* Hands kept results to the session, which frees them at its end. */
static void results_take(struct db_session *session, struct db_stmt *first)
{
    for (struct db_stmt *stmt = first; stmt != NULL; stmt = stmt->next)
        if (stmt->result.pg != NULL && stmt != &session->end) { /* COMMIT's is read and freed by tx.c */
            stmt->result.next = session->results;
            session->results = &stmt->result;
        }
}

forge_code db_session_fly(struct db_session *session, struct db_stmt *own, struct forge_error *error)
{
    uint64_t until_ns = 0;
    forge_code rc = flight_check(session, &until_ns, error);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *settings = settings_make(session);
    if (session->out_of_memory)
        return refuse_memory(session, error);
    struct db_stmt *first = settings;
    settings->next = session->first != NULL ? session->first : own;
    if (session->last != NULL)
        session->last->next = own;
    if (session->begin_queued) {
        control_init(&session->begin, session, SQL_DB_TX_BEGIN, false);
        session->begin.next = first;
        first = &session->begin;
        session->begin_queued = false;
        session->begin_sent = true;
    }
    session->first = session->last = NULL;
    session->was_sent = true;
    bool succeeded = db_flight_run(session->conn, first, until_ns, &session->failure);
    results_take(session, first);
    return succeeded ? FORGE_OK : flight_failed(session, error);
}

static forge_code run(struct db_stmt *stmt, bool kind_fits, struct db_rows *out, struct forge_error *error)
{
    struct db_session *session = stmt->session;
    if (stmt == &session->nowhere)
        return refuse_memory(session, error);
    check_bound(stmt);
    if (!kind_fits)
        db_bug("statement %s is run by the function of another kind", sql_statements[stmt->id].name);
    stmt->keeps_result = true;
    forge_code rc = db_session_fly(session, stmt, error);
    if (rc == FORGE_OK && forge_arena_has_overflowed(session->arena))
        rc = refuse_memory(session, error);
    if (rc != FORGE_OK)
        return rc;
    out->result = &stmt->result;
    out->count = PQntuples(stmt->result.pg);
    return FORGE_OK;
}

forge_code db_run_many(struct db_stmt *stmt, struct db_rows *out_rows, struct forge_error *error)
{
    return run(stmt, sql_statements[stmt->id].kind == SQL_KIND_MANY, out_rows, error);
}

static forge_code run_at_most_one(struct db_stmt *stmt, enum sql_kind kind, struct db_rows *out, struct forge_error *error)
{
    forge_code rc = run(stmt, sql_statements[stmt->id].kind == kind, out, error);
    if (rc == FORGE_OK && out->count > 1)
        rc = forge_error_set(error, FORGE_INTERNAL, "the database found more than one row where one was asked for");
    return rc;
}

forge_code db_run_one(struct db_stmt *stmt, struct db_row *out_row, struct forge_error *error)
{
    struct db_rows rows;
    forge_code rc = run_at_most_one(stmt, SQL_KIND_ONE, &rows, error);
    if (rc == FORGE_OK && rows.count == 0)
        rc = forge_error_set(error, FORGE_NOT_FOUND, "not found");
    if (rc == FORGE_OK)
        *out_row = db_rows_at(&rows, 0);
    return rc;
}

forge_code db_run_optional(struct db_stmt *stmt, struct db_row *out_row, bool *out_found, struct forge_error *error)
{
    struct db_rows rows;
    forge_code rc = run_at_most_one(stmt, SQL_KIND_OPTIONAL, &rows, error);
    if (rc != FORGE_OK)
        return rc;
    *out_found = rows.count == 1;
    if (*out_found)
        *out_row = db_rows_at(&rows, 0);
    return FORGE_OK;
}

forge_code db_run_command(struct db_stmt *stmt, int64_t *out_affected, struct forge_error *error)
{
    struct db_rows rows;
    forge_code rc = run(stmt, sql_statements[stmt->id].kind == SQL_KIND_COMMAND, &rows, error);
    if (rc == FORGE_OK && out_affected != NULL)
        *out_affected = strtoll(PQcmdTuples(rows.result->pg), NULL, 10);
    return rc;
}
