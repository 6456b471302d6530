#include "db/change_feed.h"

#include "db/session.h"

#include "wire/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    POLL_MS_MAX = 2000,        /* a poll that takes longer costs the connection */
    POLL_BYTES_MAX = 64 << 20, /* of changes in one poll; beyond, listeners are told to forget everything */
    BACKOFF_MS_MIN = 100,
    BACKOFF_MS_MAX = 1000
};

struct db_change_feed {
    struct db_pool_config config;
    unsigned interval_ms;
    struct db_change_listener listeners[DB_CHANGE_LISTENERS_MAX];
    unsigned listener_count;
    pthread_t thread;
    bool joined;          /* of whoever stops it */
    pthread_mutex_t lock; /* stopping, connected, position */
    pthread_cond_t stop;
    bool stopping, connected;
    struct db_change_position position;
    _Atomic uint64_t last_poll_ms;

    /* The thread's own. */
    struct db_conn *conn;
    struct forge_arena arena;           /* of one poll */
    char *snapshot;                     /* of the last poll on this connection, malloc'ed */
    bool has_polled;                    /* ever */
    struct db_change_position cluster;  /* where the connection leads; without floor */
    uint64_t floor;                     /* greatest xid of a told row below a snapshot's xmin */
    uint64_t candidate, next_candidate; /* the next floors; see floor_raise() */
};

/* --- rows ---------------------------------------------------------------------------------------- */

/* A told row is a candidate until every transaction below it is finished. Two are enough: the older one stands still until the
 * floor has reached it, so that the floor moves on however fast newer rows arrive. */
static void floor_note(struct db_change_feed *feed, uint64_t xid)
{
    if (feed->candidate == 0)
        feed->candidate = xid;
    if (xid > feed->next_candidate)
        feed->next_candidate = xid;
}

static void floor_raise(struct db_change_feed *feed, uint64_t xmin)
{
    while (feed->candidate != 0 && feed->candidate < xmin) {
        if (feed->candidate > feed->floor)
            feed->floor = feed->candidate;
        feed->candidate = feed->next_candidate > feed->candidate ? feed->next_candidate : 0;
        if (feed->candidate == 0)
            feed->next_candidate = 0;
    }
}

static void change_tell(struct db_change_feed *feed, const struct db_row *row)
{
    struct db_change change = {0};
    db_row_uuid(row, "organization_id", &change.organization_id);
    db_row_uuid(row, "object_id", &change.object_id);
    db_row_uuid(row, "parent_id", &change.parent_id);
    snprintf(change.kind, sizeof(change.kind), "%s", db_row_text_or_empty(row, "kind"));
    for (unsigned i = 0; i < feed->listener_count; i++)
        feed->listeners[i].changed(&change, feed->listeners[i].user);
}

static void reset_tell(struct db_change_feed *feed)
{
    for (unsigned i = 0; i < feed->listener_count; i++)
        feed->listeners[i].reset(feed->listeners[i].user);
}

/* Tells each row. *out_restored: there are rows from the future. */
static void rows_tell(struct db_change_feed *feed, const struct db_rows *rows, bool *out_restored)
{
    *out_restored = false;
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        if (db_row_is_null(&row, "change_id"))
            continue;
        if (db_row_bool(&row, "is_restored")) {
            *out_restored = true;
            continue;
        }
        change_tell(feed, &row);
        floor_note(feed, (uint64_t)db_row_int64(&row, "xid"));
    }
    struct db_row first = db_rows_at(rows, 0);
    floor_raise(feed, (uint64_t)db_row_int64(&first, "xmin"));
}

static forge_code snapshot_keep(struct db_change_feed *feed, const struct db_row *row)
{
    const char *text = db_row_text(row, "snapshot");
    char *copy = text == NULL ? NULL : strdup(text);
    if (copy == NULL)
        return FORGE_RESOURCE_EXHAUSTED;
    free(feed->snapshot);
    feed->snapshot = copy;
    return FORGE_OK;
}

/* --- polls --------------------------------------------------------------------------------------- */

/* The poll counts from its beginning on: what was committed while its answer was on the way is not in it. */
static void position_publish(struct db_change_feed *feed, uint64_t begun_ms)
{
    pthread_mutex_lock(&feed->lock);
    feed->position = feed->cluster;
    feed->position.floor_xid = feed->floor;
    feed->connected = true;
    pthread_mutex_unlock(&feed->lock);
    atomic_store(&feed->last_poll_ms, begun_ms);
}

static forge_code delete_restored(struct db_session *session, struct forge_error *error)
{
    return db_run_command(db_stmt(session, SQL_DB_CHANGES_DELETE_RESTORED), NULL, error);
}

/* The first poll of a connection. An older snapshot is worth nothing here: xids above the floor are used again after a crash. */
static forge_code poll_first(struct db_change_feed *feed, struct db_session *session, struct forge_error *error)
{
    char floor[24];
    snprintf(floor, sizeof(floor), "%" PRIu64, feed->floor);
    struct db_stmt *stmt = db_stmt(session, SQL_DB_CHANGES_FIRST);
    db_bind_text(stmt, feed->has_polled ? floor : NULL);
    struct db_rows rows;
    forge_code rc = db_run_many(stmt, &rows, error);
    if (rc != FORGE_OK)
        return rc;
    struct db_row first = db_rows_at(&rows, 0);
    rc = snapshot_keep(feed, &first);
    if (rc != FORGE_OK)
        return rc;
    const char *timeline = db_row_text_or_empty(&first, "timeline");
    feed->cluster = (struct db_change_position){.system_identifier = (uint64_t)db_row_int64(&first, "system_identifier"),
                                                .timeline = timeline == NULL ? 0 : (uint32_t)strtoul(timeline, NULL, 16)};
    feed->floor = (uint64_t)db_row_int64(&first, "floor");
    feed->candidate = feed->next_candidate = 0;
    reset_tell(feed);
    bool restored;
    rows_tell(feed, &rows, &restored);
    /* Always: without a floor no row of the future was looked for. */
    rc = delete_restored(session, error);
    feed->has_polled = feed->has_polled || rc == FORGE_OK;
    return rc;
}

static forge_code poll_next(struct db_change_feed *feed, struct db_session *session, struct forge_error *error)
{
    struct db_stmt *stmt = db_stmt(session, SQL_DB_CHANGES_POLL);
    db_bind_text(stmt, feed->snapshot);
    struct db_rows rows;
    forge_code rc = db_run_many(stmt, &rows, error);
    if (rc != FORGE_OK)
        return rc;
    struct db_row first = db_rows_at(&rows, 0);
    rc = snapshot_keep(feed, &first);
    if (rc != FORGE_OK)
        return rc;
    bool restored;
    rows_tell(feed, &rows, &restored);
    return restored ? delete_restored(session, error) : FORGE_OK;
}

static forge_code poll_once(struct db_change_feed *feed)
{
    struct forge_error error = {0};
    struct db_session session;
    uint64_t begun_ms = forge_clock_monotonic_ms();
    db_session_init(&session, feed->conn, &feed->arena, forge_clock_monotonic_ns() + POLL_MS_MAX * UINT64_C(1000000));
    forge_code rc = feed->snapshot == NULL ? poll_first(feed, &session, &error) : poll_next(feed, &session, &error);
    if (rc == FORGE_OK && forge_arena_has_overflowed(&feed->arena))
        rc = FORGE_RESOURCE_EXHAUSTED; /* some rows were told without their text */
    if (rc == FORGE_OK)
        position_publish(feed, begun_ms);
    db_session_done(&session);
    forge_arena_reset(&feed->arena);
    return rc;
}

/* --- thread -------------------------------------------------------------------------------------- */

static bool wait_ms(struct db_change_feed *feed, unsigned ms)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + (uint64_t)ms * 1000000;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    pthread_mutex_lock(&feed->lock);
    while (!feed->stopping && forge_clock_monotonic_ns() < until_ns)
        pthread_cond_timedwait(&feed->stop, &feed->lock, &until);
    bool goes_on = !feed->stopping;
    pthread_mutex_unlock(&feed->lock);
    return goes_on;
}

/* A new connection begins with a first poll: nothing of the old one's snapshot is kept. */
static void disconnect(struct db_change_feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    feed->connected = false;
    pthread_mutex_unlock(&feed->lock);
    db_conn_close(feed->conn);
    feed->conn = NULL;
    free(feed->snapshot);
    feed->snapshot = NULL;
}

static void *feed_run(void *argument)
{
    struct db_change_feed *feed = argument;
    unsigned backoff_ms = BACKOFF_MS_MIN;
    for (bool goes_on = true; goes_on;) {
        struct forge_error error = {0};
        forge_code rc = feed->conn != NULL ? FORGE_OK : db_conn_open(&feed->config, &feed->conn, &error);
        if (rc == FORGE_OK)
            rc = poll_once(feed);
        if (rc == FORGE_OK) {
            backoff_ms = BACKOFF_MS_MIN;
            goes_on = wait_ms(feed, feed->interval_ms);
            continue;
        }
        disconnect(feed);
        goes_on = wait_ms(feed, backoff_ms / 2 + arc4random_uniform(backoff_ms / 2 + 1));
        backoff_ms = backoff_ms * 2 < BACKOFF_MS_MAX ? backoff_ms * 2 : BACKOFF_MS_MAX;
    }
    disconnect(feed);
    return NULL;
}

static void feed_destroy(struct db_change_feed *feed)
{
    pthread_mutex_destroy(&feed->lock);
    pthread_cond_destroy(&feed->stop);
    forge_arena_done(&feed->arena);
    db_pool_config_done(&feed->config);
    free(feed);
}

forge_code db_change_feed_new(const struct db_pool_config *config, unsigned interval_ms, const struct db_change_listener *listeners,
                              unsigned listener_count, struct db_change_feed **out, struct forge_error *error)
{
    if (listener_count > DB_CHANGE_LISTENERS_MAX)
        db_bug("%u change listeners, at most %d", listener_count, DB_CHANGE_LISTENERS_MAX);
    struct db_pool_config copy;
    forge_code rc = db_pool_config_copy(config, &copy, error);
    if (rc != FORGE_OK)
        return rc;
    struct db_change_feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        db_pool_config_done(&copy);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the change feed");
    }
    feed->config = copy;
    feed->interval_ms = interval_ms;
    feed->listener_count = listener_count;
    if (listener_count > 0)
        memcpy(feed->listeners, listeners, listener_count * sizeof(*listeners));
    pthread_mutex_init(&feed->lock, NULL);
    db_condition_init(&feed->stop);
    forge_arena_init(&feed->arena, POLL_BYTES_MAX, NULL);
    if (pthread_create(&feed->thread, NULL, feed_run, feed) != 0) {
        feed_destroy(feed);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for the change feed");
    }
    pthread_setname_np(feed->thread, "db-changes");
    *out = feed;
    return FORGE_OK;
}

void db_change_feed_stop(struct db_change_feed *feed)
{
    if (feed == NULL || feed->joined)
        return;
    pthread_mutex_lock(&feed->lock);
    feed->stopping = true;
    pthread_cond_signal(&feed->stop);
    pthread_mutex_unlock(&feed->lock);
    pthread_join(feed->thread, NULL);
    feed->joined = true;
}

void db_change_feed_free(struct db_change_feed *feed)
{
    if (feed == NULL)
        return;
    db_change_feed_stop(feed);
    feed_destroy(feed);
}

uint64_t db_change_feed_last_poll_ms(const struct db_change_feed *feed)
{
    return atomic_load(&feed->last_poll_ms);
}

forge_code db_change_feed_position(const struct db_change_feed *feed, struct db_change_position *out)
{
    struct db_change_feed *writable = (struct db_change_feed *)(uintptr_t)feed; /* only for its lock */
    pthread_mutex_lock(&writable->lock);
    bool connected = feed->connected;
    if (connected)
        *out = feed->position;
    pthread_mutex_unlock(&writable->lock);
    return connected ? FORGE_OK : FORGE_UNAVAILABLE;
}
