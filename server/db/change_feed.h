/* The change feed: what other servers (and this one) committed that caches and watchers care about.
 *
 * One thread with a connection of its own polls the table changes every interval_ms (250). Each row is told once, as soon
 * as it is visible (snapshot arithmetic, see change_feed.sql); after a reconnect listeners are told to forget everything. */
#ifndef SERVER_DB_CHANGE_FEED_H
#define SERVER_DB_CHANGE_FEED_H

#include "db/pool.h"
#include "wire/status.h"
#include "wire/uuid.h"

#include <stdint.h>

struct db_change {
    struct forge_uuid organization_id;
    char kind[32];               /* "api_key", "session", "user", "organization", "project", "prompt", "policy", ... */
    struct forge_uuid object_id; /* nil when the change is about the whole organization */
    struct forge_uuid parent_id; /* e.g. the project of a prompt; nil if there is none */
};
struct db_change_listener {
    void (*changed)(const struct db_change *change, void *user); /* on the feed's thread; must not block */
    void (*reset)(void *user);                                   /* everything may have changed */
    void *user;
};
enum { DB_CHANGE_LISTENERS_MAX = 8 };

struct db_change_feed;
/* Starts the thread. Listeners are copied. */
forge_code db_change_feed_new(const struct db_pool_config *config, unsigned interval_ms, const struct db_change_listener *listeners,
                              unsigned listener_count, struct db_change_feed **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Ends and joins the thread: no listener is called any more, what the feed knows can still be asked. Accepts NULL; may be repeated. */
void db_change_feed_stop(struct db_change_feed *feed);
void db_change_feed_free(struct db_change_feed *feed); /* stops first; accepts NULL */
/* Monotonic ms of the last good poll's beginning, 0 before the first. Any thread. Caches are bypassed while it is older than 1 s. */
uint64_t db_change_feed_last_poll_ms(const struct db_change_feed *feed);
/* Opaque position for watch tokens: system identifier, timeline and floor. UNAVAILABLE while not connected. */
struct db_change_position {
    uint64_t system_identifier, floor_xid;
    uint32_t timeline;
};
forge_code db_change_feed_position(const struct db_change_feed *feed, struct db_change_position *out) FORGE_MUST_CHECK;

#endif
