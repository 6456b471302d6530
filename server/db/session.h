/* Inside of a session. Private to server/db: everybody else sees stmt.h, tx.h and pool.h. */
#ifndef SERVER_DB_SESSION_H
#define SERVER_DB_SESSION_H

#include "db/conn.h"
#include "db/tx.h"

struct db_session {
    struct db_pool *pool; /* NULL for a connection outside a pool (change feed, serving check) */
    struct db_conn *conn; /* NULL after a lost connection was given up */
    struct forge_arena *arena;
    uint64_t deadline_ns;
    char tenant[FORGE_UUID_TEXT_SIZE]; /* the nil UUID while none is bound: row-level security then shows nothing */
    char statement_timeout[16], lock_timeout[16];
    struct db_stmt *first, *last; /* queued */
    struct db_result *results;    /* kept until the session ends */
    struct db_stmt begin, end;    /* BEGIN; COMMIT or ROLLBACK: no parameters, so no memory is needed to end a transaction */
    struct db_stmt nowhere;       /* what db_stmt() gives when the arena is full */
    bool begin_queued, begin_sent, transaction_failed;
    bool was_sent; /* any flight of this session left */
    bool out_of_memory;
    struct db_failure failure; /* of the last flight */
};

/* A session on a connection that the caller owns. */
void db_session_init(struct db_session *session, struct db_conn *conn, struct forge_arena *arena, uint64_t deadline_ns);
/* Frees the results; the connection stays the caller's. */
void db_session_done(struct db_session *session);
/* Sends BEGIN where one is queued, the bound settings, what is queued, and own (may be NULL); as one flight. */
forge_code db_session_fly(struct db_session *session, struct db_stmt *own, struct forge_error *error) FORGE_MUST_CHECK;
/* Forgets queued statements, transaction and tenant: the state a session begins with. */
void db_session_forget(struct db_session *session);

#endif
