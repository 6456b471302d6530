/* Connections to PostgreSQL: a few kept open, more on demand, opened by one opener thread because name look-up blocks.
 *
 * While the last open failed, leases fail at once with UNAVAILABLE, not_executed and retry_after 250 ms. The pool survives a
 * restarted and a stopped PostgreSQL: a connection that missed its deadline is thrown away, the opener makes new ones. */
#ifndef SERVER_DB_POOL_H
#define SERVER_DB_POOL_H

#include "wire/arena.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stdint.h>

struct db_pool;
struct db_session;

struct db_pool_config {
    const char *url; /* postgresql:// URI or libpq keyword string */
    const char *application_name;
    unsigned kept_max;  /* connections kept open (5) */
    unsigned extra_max; /* opened on demand beyond those (10) */
    unsigned idle_ms;   /* an extra one is closed after this long unused (60,000) */
    unsigned connect_timeout_ms;
    bool serves; /* check role, grants and schema revision on each new connection (forged serve) */
    /* Runs on each new connection after that check, before anybody can lease it, on the opener's thread; may be NULL. What it returns is
     * the outcome of the open: FAILED_PRECONDITION makes the pool REFUSED. */
    forge_code (*check)(struct db_session *session, void *user, struct forge_error *error);
    void *check_user;
};

enum db_pool_state { DB_POOL_CONNECTING, DB_POOL_READY, DB_POOL_UNAVAILABLE, DB_POOL_REFUSED };
struct db_pool_status {
    enum db_pool_state state; /* REFUSED: connected, but role, grants, schema or keys are wrong (reason says what mends it) */
    char reason[FORGE_ERROR_MESSAGE_MAX];
    unsigned open, leased, waiting;
    uint64_t opened_total, failed_total;
};

/* Starts the opener thread; does not wait for a connection. INVALID_ARGUMENT for a URL whose scheme is not ours (named). */
forge_code db_pool_new(const struct db_pool_config *config, struct db_pool **out, struct forge_error *error) FORGE_MUST_CHECK;
void db_pool_free(struct db_pool *pool); /* every session must be released; accepts NULL */
void db_pool_get_status(struct db_pool *pool, struct db_pool_status *out);
/* Blocks until the state is no longer CONNECTING or the time is over. */
void db_pool_wait_first(struct db_pool *pool, unsigned timeout_ms, struct db_pool_status *out);

/* Blocks up to the deadline (monotonic ns) for a connection and begins a session on it (db/stmt.h). Row text and results go to the
 * arena. UNAVAILABLE, DEADLINE_EXCEEDED, both not_executed. */
forge_code db_pool_lease(struct db_pool *pool, struct forge_arena *arena, uint64_t deadline_ns, struct db_session **out,
                         struct forge_error *error) FORGE_MUST_CHECK;
/* Ends the session: an open transaction is rolled back (or the connection dropped when it does not answer in time). Accepts NULL. */
void db_pool_release(struct db_session *session);
/* Throws the session's connection away and continues the same session on a new one, nothing bound or queued. For a lost COMMIT. */
forge_code db_session_reconnect(struct db_session *session, struct forge_error *error) FORGE_MUST_CHECK;

#endif
