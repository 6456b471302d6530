/* Statements: named in a .sql file, bound in order, sent in flights.
 *
 * A session is one leased connection serving one call, used by one thread. db_queue() keeps a statement; db_run_*() sends everything
 * queued, its own statement and a Sync in one flight and reads the answers up to the deadline. Outside a transaction a flight is
 * an implicit transaction of its own. The tenant, statement_timeout and lock_timeout are bound in the same flight by the session. */
#ifndef SERVER_DB_STMT_H
#define SERVER_DB_STMT_H

#include "db/row.h"
#include "wire/arena.h"
#include "wire/status.h"
#include "wire/uuid.h"

#include "sql_statements.h" /* generated from every .sql file: enum sql_id { SQL_PROMPT_CREATE, ... } */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db_session;
struct db_stmt;

/* Every later flight of this session runs as this tenant (row-level security). Sends nothing by itself. */
void db_session_bind_tenant(struct db_session *session, const struct forge_uuid *organization_id);

/* A statement of the call's arena, ready for its first parameter. Never NULL: a failure shows at db_run. */
struct db_stmt *db_stmt(struct db_session *session, enum sql_id id);

/* Each binds the next parameter. Text, bytes and uuids are not copied: they must live until the flight is sent, which for what a handler of
 * a write queues last is after it has returned. NULL means SQL NULL. A parameter has the type that PostgreSQL infers from the statement;
 * write $3::uuid, $3::timestamptz, ... where it would infer another. Integers travel as decimal text and text as it is, so that they fit
 * smallint to bigint, varchar, jsonb, xid8; all else is binary. */
void db_bind_uuid(struct db_stmt *stmt, const struct forge_uuid *value);
void db_bind_text(struct db_stmt *stmt, const char *value);
void db_bind_bytes(struct db_stmt *stmt, const void *value, size_t size);
void db_bind_bool(struct db_stmt *stmt, bool value);
void db_bind_int32(struct db_stmt *stmt, int32_t value);
void db_bind_int64(struct db_stmt *stmt, int64_t value);
void db_bind_double(struct db_stmt *stmt, double value);     /* double precision */
void db_bind_time_us(struct db_stmt *stmt, int64_t unix_us); /* timestamptz */
void db_bind_null(struct db_stmt *stmt);
void db_bind_text_array(struct db_stmt *stmt, const char *const *values, size_t count);
void db_bind_uuid_array(struct db_stmt *stmt, const struct forge_uuid *values, size_t count);

/* Queues without sending; its rows are not read (a command or a lock). An error of it fails the next db_run. */
void db_queue(struct db_stmt *stmt);
/* Sends the flight. The function must be the one of the statement's kind, with every parameter bound (asserted). What failed rolled the
 * flight back, or the whole explicit transaction, in which later runs then answer ABORTED. Less time than the deadline needs:
 * DEADLINE_EXCEEDED, not_executed when nothing of the session was sent. db_run_one: exactly one row, none = NOT_FOUND ("<noun> not found"
 * is the caller's to say), more = INTERNAL. SQLSTATE becomes a code in sqlstate.c: 23505 ALREADY_EXISTS, 23503 FAILED_PRECONDITION, 23514
 * INVALID_ARGUMENT, 57014 DEADLINE_EXCEEDED, 55P03 UNAVAILABLE, 40001 and 40P01 ABORTED, class 53 RESOURCE_EXHAUSTED, a lost connection
 * UNAVAILABLE, the rest INTERNAL. */
forge_code db_run_one(struct db_stmt *stmt, struct db_row *out_row, struct forge_error *error) FORGE_MUST_CHECK;
forge_code db_run_optional(struct db_stmt *stmt, struct db_row *out_row, bool *out_found, struct forge_error *error) FORGE_MUST_CHECK;
forge_code db_run_many(struct db_stmt *stmt, struct db_rows *out_rows, struct forge_error *error) FORGE_MUST_CHECK;
forge_code db_run_command(struct db_stmt *stmt, int64_t *out_affected,
                          struct forge_error *error) FORGE_MUST_CHECK; /* out_affected may be NULL */

/* About the error that failed the last flight: the violated constraint's name, NULL if none, so that a handler can name the field;
 * PostgreSQL's own sentence, "" if none, for logs only (it may quote values). Valid until the next flight. */
const char *db_session_failed_constraint(const struct db_session *session);
const char *db_session_failed_message(const struct db_session *session);

#endif
