#include "db/pool.h"

#include "db/serving.h"
#include "db/session.h"

#include "wire/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BACKOFF_MS_MIN = 100,
    BACKOFF_MS_MAX = 1000,
    SWEEP_MS = 1000, /* dead idle connections are found at the latest after this */
    PREPARE_MS_MAX = 5000,
    CHECK_BYTES_MAX = 1 << 20,
    RETRY_AFTER_MS = 250 /* told to callers while there is no database */
};

/* A lease that waits, on the stack of its thread. */
struct waiter {
    pthread_cond_t woken;
    struct db_conn *conn; /* given; leased already */
    bool failed;          /* an open failed: ask again what state the pool is in */
    struct waiter *next;
};

/* Lock order: only one lock. libpq is never called under it, but for poll() on idle sockets. */
struct db_pool {
    struct db_pool_config config; /* with strings of its own */
    pthread_mutex_t lock;
    pthread_cond_t opener_wakes; /* something to do for the opener, or stop */
    pthread_cond_t state_changed;
    pthread_t opener;
    struct db_conn *idle; /* the most recently used first, so that extra ones fall idle */
    struct waiter *first_waiter, *last_waiter;
    unsigned open, leased, waiting;
    unsigned generation; /* raised when the schema was refused: older connections are closed at their release */
    bool failing;        /* the last open failed, and no connection has answered since */
    bool is_wanted;      /* a lease was refused while failing: the opener tries although nobody waits */
    bool stopping;
    enum db_pool_state state;
    char reason[FORGE_ERROR_MESSAGE_MAX];
    uint64_t opened_total, failed_total;
    uint64_t next_open_ns; /* backoff */
    unsigned backoff_ms;
};

/* --- small helpers, under the lock --------------------------------------------------------------- */

static struct timespec timespec_of(uint64_t monotonic_ns)
{
    return (struct timespec){.tv_sec = (time_t)(monotonic_ns / 1000000000), .tv_nsec = (long)(monotonic_ns % 1000000000)};
}

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until_ns)
{
    struct timespec until = timespec_of(until_ns);
    pthread_cond_timedwait(condition, lock, &until);
}

static void state_set(struct db_pool *pool, enum db_pool_state state, const char *reason)
{
    pool->state = state;
    snprintf(pool->reason, sizeof(pool->reason), "%s", reason);
    pthread_cond_broadcast(&pool->state_changed);
}

static void waiter_add(struct db_pool *pool, struct waiter *waiter)
{
    if (pool->last_waiter == NULL)
        pool->first_waiter = waiter;
    else
        pool->last_waiter->next = waiter;
    pool->last_waiter = waiter;
    pool->waiting++;
}

static void waiter_remove(struct db_pool *pool, struct waiter *waiter)
{
    struct waiter *previous = NULL;
    struct waiter **link = &pool->first_waiter;
    while (*link != waiter) {
        previous = *link;
        link = &previous->next;
    }
    *link = waiter->next;
    if (pool->last_waiter == waiter)
        pool->last_waiter = previous;
    pool->waiting--;
}

/* To the waiter that came first, or to the idle ones. */
static void conn_give(struct db_pool *pool, struct db_conn *conn)
{
    struct waiter *waiter = pool->first_waiter;
    if (waiter != NULL) {
        waiter_remove(pool, waiter);
        waiter->conn = conn;
        pool->leased++;
        pthread_cond_signal(&waiter->woken);
        return;
    }
    conn->idle_since_ns = forge_clock_monotonic_ns();
    conn->next = pool->idle;
    pool->idle = conn;
}

static void waiters_fail(struct db_pool *pool)
{
    while (pool->first_waiter != NULL) {
        struct waiter *waiter = pool->first_waiter;
        waiter_remove(pool, waiter);
        waiter->failed = true;
        pthread_cond_signal(&waiter->woken);
    }
}

/* Takes the idle connections for which drop() says so out of the list; the caller closes them without the lock. */
static struct db_conn *idle_take(struct db_pool *pool, bool (*drop)(struct db_pool *pool, struct db_conn *conn))
{
    struct db_conn *taken = NULL;
    for (struct db_conn **link = &pool->idle; *link != NULL;) {
        struct db_conn *conn = *link;
        if (!drop(pool, conn)) {
            link = &conn->next;
            continue;
        }
        *link = conn->next;
        conn->next = taken;
        taken = conn;
        pool->open--;
    }
    return taken;
}

static void close_list(struct db_conn *conn)
{
    while (conn != NULL) {
        struct db_conn *next = conn->next;
        db_conn_close(conn);
        conn = next;
    }
}

/* --- opener thread ------------------------------------------------------------------------------- */

static bool wants_connection(const struct db_pool *pool)
{
    if (pool->open < pool->config.kept_max)
        return true;
    return (pool->waiting > 0 || pool->is_wanted) && pool->open < pool->config.kept_max + pool->config.extra_max;
}

static bool is_dead(struct db_pool *pool, struct db_conn *conn)
{
    return !db_conn_is_alive(conn);
}

static bool is_superfluous(struct db_pool *pool, struct db_conn *conn)
{
    uint64_t idle_ns = (uint64_t)pool->config.idle_ms * 1000000;
    return pool->open > pool->config.kept_max && forge_clock_monotonic_ns() - conn->idle_since_ns >= idle_ns;
}

static bool is_any(struct db_pool *pool, struct db_conn *conn)
{
    return true;
}

static void open_succeeded(struct db_pool *pool, struct db_conn *conn)
{
    pool->open++;
    pool->opened_total++;
    pool->failing = pool->is_wanted = false;
    pool->backoff_ms = 0;
    state_set(pool, DB_POOL_READY, "");
    conn_give(pool, conn);
}

/* Doubles from 100 ms to 1 s; each wait is 50 to 100 % of that, so that servers do not come back in step. */
static void open_failed(struct db_pool *pool, const struct forge_error *error)
{
    pool->failed_total++;
    pool->failing = true;
    pool->backoff_ms = pool->backoff_ms == 0 ? BACKOFF_MS_MIN : pool->backoff_ms * 2;
    if (pool->backoff_ms > BACKOFF_MS_MAX)
        pool->backoff_ms = BACKOFF_MS_MAX;
    uint64_t wait_ms = pool->backoff_ms / 2 + arc4random_uniform(pool->backoff_ms / 2 + 1);
    pool->next_open_ns = forge_clock_monotonic_ns() + wait_ms * 1000000;
    pool->is_wanted = false;
    bool refused = error->code == FORGE_FAILED_PRECONDITION;
    if (refused)
        pool->generation++;
    state_set(pool, refused ? DB_POOL_REFUSED : DB_POOL_UNAVAILABLE, error->message);
    waiters_fail(pool);
}

static forge_code check_one(struct db_pool *pool, struct db_conn *conn, struct forge_error *error)
{
    uint64_t deadline_ns = forge_clock_monotonic_ns() + (uint64_t)pool->config.connect_timeout_ms * 1000000;
    forge_code rc = pool->config.serves ? db_serving_check(conn, deadline_ns, error) : FORGE_OK;
    if (rc != FORGE_OK || pool->config.check == NULL)
        return rc;
    struct forge_arena arena;
    struct db_session session;
    forge_arena_init(&arena, CHECK_BYTES_MAX, NULL);
    db_session_init(&session, conn, &arena, deadline_ns);
    rc = pool->config.check(&session, pool->config.check_user, error);
    db_session_done(&session);
    forge_arena_done(&arena);
    return rc;
}

static void open_one(struct db_pool *pool)
{
    unsigned generation = pool->generation;
    pthread_mutex_unlock(&pool->lock);
    struct forge_error error = {0};
    struct db_conn *conn = NULL;
    forge_code rc = db_conn_open(&pool->config, &conn, &error);
    if (rc == FORGE_OK)
        rc = check_one(pool, conn, &error);
    if (rc != FORGE_OK)
        db_conn_close(conn);
    pthread_mutex_lock(&pool->lock);
    if (rc != FORGE_OK) {
        open_failed(pool, &error);
        return;
    }
    conn->generation = generation;
    open_succeeded(pool, conn);
}

static void close_idle(struct db_pool *pool, bool (*drop)(struct db_pool *pool, struct db_conn *conn))
{
    struct db_conn *taken = idle_take(pool, drop);
    if (taken == NULL)
        return;
    pthread_mutex_unlock(&pool->lock);
    close_list(taken);
    pthread_mutex_lock(&pool->lock);
}

/* Takes one idle connection that is to be kept and not prepared yet. NULL if there is none or somebody waits. */
static struct db_conn *unprepared_take(struct db_pool *pool)
{
    if (!pool->config.serves || pool->waiting > 0 || pool->open > pool->config.kept_max)
        return NULL;
    for (struct db_conn **link = &pool->idle; *link != NULL; link = &(*link)->next)
        if (!(*link)->prepared_all) {
            struct db_conn *conn = *link;
            *link = conn->next;
            return conn;
        }
    return NULL;
}

static void prepare_one(struct db_pool *pool, struct db_conn *conn)
{
    pthread_mutex_unlock(&pool->lock);
    bool ok = db_conn_is_alive(conn) && db_flight_prepare_all(conn, forge_clock_monotonic_ns() + PREPARE_MS_MAX * UINT64_C(1000000));
    if (!ok)
        db_conn_close(conn);
    pthread_mutex_lock(&pool->lock);
    if (ok)
        conn_give(pool, conn);
    else
        pool->open--;
}

static void *opener_run(void *argument)
{
    struct db_pool *pool = argument;
    uint64_t next_sweep_ns = 0;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        uint64_t now = forge_clock_monotonic_ns();
        if (pool->state == DB_POOL_REFUSED)
            close_idle(pool, is_any);
        if (now >= next_sweep_ns) {
            next_sweep_ns = now + SWEEP_MS * UINT64_C(1000000);
            close_idle(pool, is_dead);
            close_idle(pool, is_superfluous);
        }
        bool wants = wants_connection(pool);
        struct db_conn *unprepared;
        if (wants && now >= pool->next_open_ns)
            open_one(pool);
        else if ((unprepared = unprepared_take(pool)) != NULL)
            prepare_one(pool, unprepared);
        else
            wait_until(&pool->opener_wakes, &pool->lock, wants && pool->next_open_ns < next_sweep_ns ? pool->next_open_ns : next_sweep_ns);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* --- pool ---------------------------------------------------------------------------------------- */

static void pool_destroy(struct db_pool *pool)
{
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->opener_wakes);
    pthread_cond_destroy(&pool->state_changed);
    db_pool_config_done(&pool->config);
    free(pool);
}

forge_code db_pool_new(const struct db_pool_config *config, struct db_pool **out, struct forge_error *error)
{
    struct db_pool_config copy;
    forge_code rc = db_pool_config_copy(config, &copy, error);
    if (rc != FORGE_OK)
        return rc;
    struct db_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        db_pool_config_done(&copy);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the connection pool");
    }
    pool->config = copy;
    pthread_mutex_init(&pool->lock, NULL);
    db_condition_init(&pool->opener_wakes);
    db_condition_init(&pool->state_changed);
    if (pthread_create(&pool->opener, NULL, opener_run, pool) != 0) {
        pool_destroy(pool);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for the connection pool");
    }
    pthread_setname_np(pool->opener, "db-opener");
    *out = pool;
    return FORGE_OK;
}

void db_pool_free(struct db_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    if (pool->leased > 0 || pool->waiting > 0)
        db_bug("the pool is freed with %u sessions and %u waiting", pool->leased, pool->waiting);
    pool->stopping = true;
    pthread_cond_signal(&pool->opener_wakes);
    pthread_mutex_unlock(&pool->lock);
    pthread_join(pool->opener, NULL);
    close_list(pool->idle);
    pool_destroy(pool);
}

static void status_read(const struct db_pool *pool, struct db_pool_status *out)
{
    *out = (struct db_pool_status){.state = pool->state,
                                   .open = pool->open,
                                   .leased = pool->leased,
                                   .waiting = pool->waiting,
                                   .opened_total = pool->opened_total,
                                   .failed_total = pool->failed_total};
    memcpy(out->reason, pool->reason, sizeof(out->reason));
}

void db_pool_get_status(struct db_pool *pool, struct db_pool_status *out)
{
    pthread_mutex_lock(&pool->lock);
    status_read(pool, out);
    pthread_mutex_unlock(&pool->lock);
}

void db_pool_wait_first(struct db_pool *pool, unsigned timeout_ms, struct db_pool_status *out)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    pthread_mutex_lock(&pool->lock);
    while (pool->state == DB_POOL_CONNECTING && forge_clock_monotonic_ns() < until_ns)
        wait_until(&pool->state_changed, &pool->lock, until_ns);
    status_read(pool, out);
    pthread_mutex_unlock(&pool->lock);
}

/* --- lease and release --------------------------------------------------------------------------- */

static forge_code lease_refused(struct forge_error *error, forge_code code, const char *message)
{
    error->not_executed = true;
    error->retry_after_ms = code == FORGE_UNAVAILABLE ? RETRY_AFTER_MS : 0;
    return forge_error_set(error, code, "%s", message);
}

/* Why no lease can be had at once, or FORGE_OK. */
static forge_code pool_check(struct db_pool *pool, struct forge_error *error)
{
    if (pool->state == DB_POOL_REFUSED)
        return lease_refused(error, FORGE_UNAVAILABLE, "the database is not ready for this server");
    if (!pool->failing || pool->idle != NULL)
        return FORGE_OK;
    pool->is_wanted = true;
    pthread_cond_signal(&pool->opener_wakes);
    return lease_refused(error, FORGE_UNAVAILABLE, "the database cannot be reached");
}

/* Waits in line. True with *out, false when the deadline passed or an open failed. */
static bool wait_in_line(struct db_pool *pool, uint64_t deadline_ns, struct db_conn **out)
{
    struct waiter waiter = {0};
    db_condition_init(&waiter.woken);
    waiter_add(pool, &waiter);
    pthread_cond_signal(&pool->opener_wakes);
    while (waiter.conn == NULL && !waiter.failed && forge_clock_monotonic_ns() < deadline_ns)
        wait_until(&waiter.woken, &pool->lock, deadline_ns);
    if (waiter.conn == NULL && !waiter.failed)
        waiter_remove(pool, &waiter);
    pthread_cond_destroy(&waiter.woken);
    *out = waiter.conn;
    return waiter.conn != NULL;
}

static struct db_conn *idle_pop(struct db_pool *pool)
{
    struct db_conn *conn = pool->idle;
    if (conn != NULL) {
        pool->idle = conn->next;
        pool->leased++;
    }
    return conn;
}

static void conn_drop(struct db_pool *pool, struct db_conn *conn)
{
    pthread_mutex_lock(&pool->lock);
    pool->leased--;
    pool->open--;
    pthread_cond_signal(&pool->opener_wakes);
    pthread_mutex_unlock(&pool->lock);
    db_conn_close(conn);
}

static forge_code acquire(struct db_pool *pool, uint64_t deadline_ns, struct db_conn **out, struct forge_error *error)
{
    for (;;) {
        if (forge_clock_monotonic_ns() >= deadline_ns)
            return lease_refused(error, FORGE_DEADLINE_EXCEEDED, "the deadline passed while waiting for a database connection");
        pthread_mutex_lock(&pool->lock);
        forge_code rc = pool_check(pool, error);
        if (rc != FORGE_OK) {
            pthread_mutex_unlock(&pool->lock);
            return rc;
        }
        struct db_conn *conn = idle_pop(pool);
        bool waited = conn == NULL && wait_in_line(pool, deadline_ns, &conn);
        pthread_mutex_unlock(&pool->lock);
        if (conn != NULL && (waited || db_conn_is_alive(conn))) {
            *out = conn;
            return FORGE_OK;
        }
        if (conn != NULL)
            conn_drop(pool, conn);
    }
}

forge_code db_pool_lease(struct db_pool *pool, struct forge_arena *arena, uint64_t deadline_ns, struct db_session **out,
                         struct forge_error *error)
{
    struct db_session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return lease_refused(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a database session");
    struct db_conn *conn = NULL;
    forge_code rc = acquire(pool, deadline_ns, &conn, error);
    if (rc != FORGE_OK) {
        free(session);
        return rc;
    }
    db_session_init(session, conn, arena, deadline_ns);
    session->pool = pool;
    *out = session;
    return FORGE_OK;
}

static void conn_release(struct db_pool *pool, struct db_conn *conn)
{
    bool usable = !conn->broken && PQtransactionStatus(conn->pg) == PQTRANS_IDLE;
    pthread_mutex_lock(&pool->lock);
    if (usable && conn->generation == pool->generation) {
        pool->leased--;
        conn_give(pool, conn);
        if (pool->failing && pool->state == DB_POOL_UNAVAILABLE) { /* it answers after all: wait for it again */
            pool->failing = false;
            state_set(pool, DB_POOL_READY, "");
        }
        pthread_mutex_unlock(&pool->lock);
        return;
    }
    pthread_mutex_unlock(&pool->lock);
    conn_drop(pool, conn);
}

void db_pool_release(struct db_session *session)
{
    if (session == NULL)
        return;
    db_tx_rollback(session);
    db_session_done(session);
    if (session->conn != NULL)
        conn_release(session->pool, session->conn);
    free(session);
}

forge_code db_session_reconnect(struct db_session *session, struct forge_error *error)
{
    db_session_forget(session);
    if (session->conn != NULL)
        conn_drop(session->pool, session->conn);
    session->conn = NULL;
    struct db_conn *conn = NULL;
    forge_code rc = acquire(session->pool, session->deadline_ns, &conn, error);
    if (rc == FORGE_OK)
        session->conn = conn;
    return rc;
}
