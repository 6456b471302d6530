/* One connection to PostgreSQL and the flights on it. Private to server/db.
 *
 * The connection is in libpq's pipeline mode from its first moment to its last, non-blocking, and used by one thread at a time. */
#ifndef SERVER_DB_CONN_H
#define SERVER_DB_CONN_H

#include "db/pool.h"
#include "sql_statements.h"
#include "wire/arena.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    DB_PARAMETER_TEXT = 0, /* formats of the wire protocol */
    DB_PARAMETER_BINARY = 1,
    /* The answer to an expired statement needs this long to come back: schema.md, rule 6. */
    DB_ANSWER_GRACE_MS = 50
};

enum db_prepare_state { DB_PREPARE_NONE, DB_PREPARE_SENT, DB_PREPARE_DONE };

struct db_conn {
    PGconn *pg;
    bool broken;                 /* silent, lost or outdated: must be closed, never used again */
    bool prepared_all;           /* the background preparation is through */
    unsigned generation;         /* of the pool when it was opened */
    uint8_t prepared[SQL_COUNT]; /* enum db_prepare_state */
    uint64_t idle_since_ns;
    struct db_conn *next; /* in the pool's list of idle connections */
};

/* A result kept for its rows. Lives in its statement. */
struct db_result {
    PGresult *pg;
    struct forge_arena *arena;
    size_t charged; /* bytes taken from the arena's budget for pg */
    struct db_result *next;
};

struct db_stmt {
    struct db_session *session;
    struct db_stmt *next; /* in its flight */
    enum sql_id id;
    bool keeps_result;
    bool parse_sent;
    bool is_used; /* queued or run: a statement serves once */
    unsigned bound;
    const char **values; /* one for each parameter */
    int *lengths;
    int *formats;
    char (*scratch)[24]; /* room for numbers */
    struct db_result result;
};

/* What went wrong in a flight. */
struct db_failure {
    bool happened;
    bool refused;   /* by an ERROR: the rest of the flight was skipped and its transaction is undone */
    bool lost;      /* the connection is gone; what was sent may have been executed */
    bool timed_out; /* the server was silent up to the limit; the connection is broken */
    int statement;  /* enum sql_id whose answer was an error, -1 if none */
    char sqlstate[6];
    char constraint[64]; /* NAMEDATALEN */
    char message[256];   /* PostgreSQL's own sentence, for logs only */
};

/* A copy with strings of its own, for who outlives the caller's. INVALID_ARGUMENT for its URL. */
forge_code db_pool_config_copy(const struct db_pool_config *config, struct db_pool_config *out, struct forge_error *error) FORGE_MUST_CHECK;
void db_pool_config_done(struct db_pool_config *config);
/* A condition variable whose times are monotonic. */
void db_condition_init(pthread_cond_t *condition);

/* Blocks up to the connect timeout for each address, and in the resolver. Sets what every connection has: application name, keepalives,
 * time limits of both ends, UTF-8, UTC. UNAVAILABLE with libpq's reason; INVALID_ARGUMENT for the URL. */
forge_code db_conn_open(const struct db_pool_config *config, struct db_conn **out, struct forge_error *error) FORGE_MUST_CHECK;
void db_conn_close(struct db_conn *conn); /* accepts NULL */
/* Has an idle connection neither ended nor been told anything? Does not block. */
bool db_conn_is_alive(struct db_conn *conn);

/* Sends the statements and a Sync, reads the answers up to the limit (monotonic ns). True when every statement succeeded. The results of
 * statements with keeps_result stay with them. */
bool db_flight_run(struct db_conn *conn, struct db_stmt *first, uint64_t until_ns, struct db_failure *out) FORGE_MUST_CHECK;
/* Prepares every statement that is not prepared yet; one that PostgreSQL refuses is left for its first use. False when the
 * connection broke. */
bool db_flight_prepare_all(struct db_conn *conn, uint64_t until_ns) FORGE_MUST_CHECK;
/* Frees a kept result and gives its bytes back to the budget. */
void db_result_done(struct db_result *result);

/* Our own mistake: says what and aborts, also in release builds. */
_Noreturn void db_bug(const char *format, ...) FORGE_PRINTF(1, 2);

#endif
