/* Private to server/rpc: a call, its connection, its loop and the server.
 *
 * One owner. A call belongs to exactly one of its loop, a queue, a worker and the table of parked calls; only the owner touches it.
 * Every call is born, replied to and recycled on the loop of its connection; who else has it hands it back with rpc_call_hand_back().
 * So a connection and its list of calls are touched by one thread and need no lock.
 *
 *     loop -- put --> queue -- take --> worker -- hand back --> loop          (base_queue_remove on the loop: cancel, closed link)
 *     worker -- put --> group -- hand back --> loop
 *     loop -- settle --> parked -- wake, take (any thread) -- hand back --> loop      (remove on the loop: timer, cancel, closed link)
 */
#ifndef SERVER_RPC_STATE_H
#define SERVER_RPC_STATE_H

#include "auth/authenticate.h"
#include "auth/rules.h"
#include "base/queue.h"
#include "rpc/parked.h"
#include "rpc/server.h"
#include "rpc/usage_private.h"
#include "rpc_table.h"
#include "wire/link.h"

#include "forge/v1/common.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

/* Where a call is, as its loop knows it. Loop thread only. */
enum rpc_place { RPC_ON_LOOP, RPC_QUEUED, RPC_AWAY, RPC_PARKED };
/* What the loop shall do with a call that is handed back. */
enum rpc_step {
    RPC_STEP_FINISH, /* reply */
    RPC_STEP_INLINE, /* authenticated by a worker: run it here */
    RPC_STEP_SETTLE, /* its handler returned FORGE_PARKED */
    RPC_STEP_RESUME  /* woken: from the credential on */
};

struct rpc_loop;
struct rpc_write;

/* Of a call whose handler has joined a group. */
struct rpc_join {
    const struct rpc_group_kind *kind; /* NULL = it has not */
    void *work;
    size_t weight;
    struct rpc_active *next; /* that waits behind it */
};

/* One call. */
struct rpc_active {
    struct rpc_call call; /* first: what handlers see */
    struct forge_arena arena;
    struct rpc_loop *loop;
    struct rpc_connection *connection;
    struct rpc_active *previous, *next; /* of the connection, or the free list */

    int method; /* enum rpc_method_id, -1 = unknown */
    const struct auth_rule *rule;
    const Forge__V1__RequestHeader *header;
    const uint8_t *payload; /* into the frame until it leaves rpc_source_submit(), then into the arena */
    size_t payload_len;
    ProtobufCMessage *request; /* NULL = not unpacked yet */
    struct auth_credential credential;
    bool has_credential, authenticated;
    struct forge_uuid caller_id; /* the principal's, where the loop knows it. Loop thread only */
    size_t reply_max;
    uint8_t stack[FORGE_STACK_MAX];
    size_t stack_len;
    void *tag;

    uint64_t arrived_ns, queued_ns, queue_ns, finished_ns;
    bool handler_ran, replayed, counted_waiting;
    bool is_duplicate; /* of a call in progress: that one may have had an effect */
    bool payload_is_copied;
    const char *quota_subject; /* whose limit a RESOURCE_EXHAUSTED is about; NULL = the server's */
    forge_code code;
    ProtobufCMessage *reply;    /* of a handler that ran on the loop */
    const uint8_t *reply_bytes; /* of one that ran on a worker: packed */
    size_t reply_len;
    struct rpc_write *write;        /* writes only */
    struct rpc_usage_amount *usage; /* what its handler announced, the last first */

    struct db_pool *pool; /* of the worker that runs it, for rpc_call_connect() */
    enum rpc_place place;
    enum rpc_step step;
    unsigned lane; /* of the queue it waits in */
    struct base_queue *queue;
    struct base_queue_node node;
    struct forge_loop_task task;
    struct forge_timer timer;
    struct rpc_parked_entry parked;
    uint64_t park_until_ms;
    struct rpc_join join;
};

struct rpc_connection {
    struct rpc_server *server;
    struct rpc_loop *loop;
    const struct rpc_source_functions *functions;
    void *user;
    char peer_address[64];
    struct forge_tls_peer *peer;        /* NULL without a verified client certificate */
    struct auth_credential certificate; /* that it is: counts where a call carries no token */
    bool verified, closed, submitting;
    unsigned calls_max; /* in flight, once verified: of the credential that was the first */
    unsigned in_flight;
    struct rpc_active *calls;    /* in flight */
    unsigned parked;             /* under the lock of the table of parked calls */
    char token[AUTH_TOKEN_SIZE]; /* the last one that was well-formed, and what it says: spares its hash */
    struct auth_credential credential;
    struct rpc_connection *previous, *next; /* of the loop */
};

struct rpc_loop {
    _Alignas(64) struct rpc_server *server;
    struct forge_loop *loop;
    struct rpc_active *free_calls;
    unsigned free_count;
    struct rpc_connection *connections;
    uint64_t wall_read_ms; /* when, by the loop's own clock, wall_us was read */
    int64_t wall_us;
    struct rpc_usage_table *usage;
    atomic_size_t in_flight; /* written by this loop only */
};

struct rpc_metrics {
    const char **method_names; /* RPC_METHOD_COUNT + 1, the last "unknown" */
    struct base_metric *calls, *durations, *queue_waits, *handshakes;
};

struct rpc_workers;
struct rpc_groups;
struct rpc_duplicates;

struct rpc_server {
    struct rpc_server_config config;
    struct rpc_settings settings; /* of config, for handlers */
    char instance[64];
    const struct auth_rule *rules[RPC_METHOD_COUNT];
    struct forge_loops *loops;
    struct rpc_loop *loop_states;
    struct forge_link_listener *listener;
    struct rpc_workers *workers;
    struct rpc_groups *groups;
    struct rpc_parked *parked;
    struct rpc_duplicates *duplicates;
    struct rpc_usage *usage;
    struct rpc_metrics metrics;
    atomic_bool draining;
    atomic_bool stopping; /* running calls are the last: what is queued is refused */
    atomic_uint connections;
    pthread_mutex_t drain_lock;
    pthread_cond_t drained;
};

static inline struct rpc_active *rpc_active_of(struct rpc_call *call)
{
    return (struct rpc_active *)call;
}
static inline struct rpc_server *rpc_active_server(const struct rpc_active *active)
{
    return active->loop->server;
}

/* call.c. A call for this connection, off the free list where there is one; NULL without memory. Loop thread. */
struct rpc_active *rpc_active_new(struct rpc_connection *connection, const struct rpc_message *message);
/* Back to the free list: out of its connection, which is freed with its last call once it is closed. Loop thread. */
void rpc_active_free(struct rpc_active *active);
/* Any thread that owns the call: its loop does step next. */
void rpc_active_hand_back(struct rpc_active *active, enum rpc_step step);
/* Sets what the caller will be told; returns code. */
forge_code rpc_active_refuse(struct rpc_active *active, forge_code code, const char *format, ...) FORGE_PRINTF(3, 4);
uint64_t rpc_active_left_ns(const struct rpc_active *active); /* until the deadline, 0 = over */

/* connection.c: calls in flight on a connection whose first verified credential is this one's. Any thread. */
unsigned rpc_calls_in_flight_max(const struct rpc_server *server, const struct auth_principal *principal);

#endif
