/* The RPC server: event loops, TLS listener, dispatch, workers, parked calls.
 *
 * Life: new, listen, drain, free. Those and set_tls block and are for the thread that owns the server, never for a loop. */
#ifndef SERVER_RPC_SERVER_H
#define SERVER_RPC_SERVER_H

#include "auth/key_file.h"
#include "auth/principal_cache.h"
#include "base/metrics.h"
#include "db/pool.h"
#include "rpc/call.h"
#include "rpc/source.h"
#include "wire/arena.h"
#include "wire/loop.h"
#include "wire/status.h"
#include "wire/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A change that a write of this server committed, for its own caches (other servers learn it from the change feed). */
typedef void (*rpc_changed)(void *user, const struct forge_uuid *organization_id, const char *kind, const struct forge_uuid *object_id,
                            const struct forge_uuid *parent_id);

/* rpc_server_config_init() fills in the defaults given in parentheses; the pointers of the first block are the caller's to set and
 * must outlive the server. Strings are copied. */
struct rpc_server_config {
    struct db_pool *pool;       /* for workers */
    struct db_pool *slow_pool;  /* for the auth threads (kept_max = their number); NULL = pool */
    struct db_pool *group_pool; /* for the group threads, likewise */
    const struct auth_keys *keys;
    struct auth_principal_cache *principals;
    struct policy_engine *policies; /* for handlers */
    struct base_metrics *metrics;
    struct forge_byte_budget *budget;                      /* of the whole process; may be NULL */
    rpc_changed changed;                                   /* any worker thread; must not block; may be NULL */
    uint64_t (*feed_last_poll_ms)(void *user);             /* db_change_feed_last_poll_ms; NULL = the cache is never used */
    bool (*is_ready)(void *user, const char **out_reason); /* NULL = always */
    void *user;                                            /* of the three functions */
    bool development;                                      /* mode=development: handlers allow short passwords (false) */
    const char *instance;                                  /* server_instance in replies, at most 63 bytes */

    unsigned loops;                          /* event loops (number of cores) */
    unsigned workers;                        /* threads (15) */
    unsigned workers_interactive;            /* of these, kept for interactive calls (2) */
    unsigned auth_threads;                   /* threads for methods marked slow (cores - 1, at least 1) */
    unsigned group_threads;                  /* threads that commit what handlers of ingest leave to them (4) */
    unsigned queue_interactive, queue_write; /* calls that may wait per class (1,024, 1,024) */
    unsigned queue_ingest, queue_batch;      /* (256, 128) */
    unsigned queue_slow;                     /* (16) */
    unsigned handshake_ms, body_ms, idle_ms; /* (5,000, 10,000, 300,000) */
    unsigned connections_max;                /* links and other sources together (4,096) */
    unsigned unproven_per_address;           /* connections without a verified credential (64) */
    unsigned calls_per_connection;           /* in flight (256) */
    unsigned calls_unproven;                 /* in flight without a verified credential (4) */
    unsigned parked_per_connection;          /* (64) */
    unsigned parked_per_principal;           /* (256) */
    unsigned parked_total;                   /* (16,384) */
    unsigned usage_flush_ms;                 /* how often counted usage is written (10,000) */
    unsigned span_age_max_ms;                /* how long ago an ingested span may start (24 h) */
    unsigned span_ahead_max_ms;              /* how far ahead (10 min) */
    size_t message_unproven_max;             /* bytes of a message before the first verified credential (16 KiB) */
    size_t message_max;                      /* bytes of a message after it (4 MiB) */
    size_t reply_max;                        /* bytes of a reply's payload (4 MiB) */
    size_t pending_max;                      /* bytes of replies a slow reader may leave undelivered (16 MiB) */
    size_t decoded_max;                      /* bytes of a decoded request (32 MiB) */
    size_t call_bytes_max;                   /* bytes of one call's arena: request, rows and reply (64 MiB) */
};
void rpc_server_config_init(struct rpc_server_config *config);

/* Checks that rules.c and the generated table name the same methods, starts loops, workers and auth threads. FAILED_PRECONDITION names
 * the method when they do not, INVALID_ARGUMENT a limit that makes no sense, RESOURCE_EXHAUSTED when threads or memory are missing. */
forge_code rpc_server_new(const struct rpc_server_config *config, struct rpc_server **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Starts the TLS listener; at most one. Errors as of forge_link_listen. */
forge_code rpc_server_listen(struct rpc_server *server, const char *host, uint16_t port, struct forge_tls *tls, uint16_t *out_port,
                             struct forge_error *error) FORGE_MUST_CHECK;
/* New links use these settings; links whose client certificate does not verify under them are closed. */
void rpc_server_set_tls(struct rpc_server *server, struct forge_tls *tls);
/* Stops accepting, tells every caller to go elsewhere, answers what waits for events, and returns when no call is left or the time is
 * over (then *out_left calls, may be NULL, are still there). Afterwards only rpc_server_free makes sense. */
void rpc_server_drain(struct rpc_server *server, unsigned timeout_ms, unsigned *out_left);
/* Ends everything: links are closed, running calls end first (at their deadline at the latest). Other sources must be closed or
 * their loops' tasks done: rpc_server_loops() end here. Accepts NULL. */
void rpc_server_free(struct rpc_server *server);

/* The loops, for sources other than links (nng_listener.h). */
struct forge_loops *rpc_server_loops(struct rpc_server *server);

#endif
