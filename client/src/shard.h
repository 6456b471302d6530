/* One event loop of a channel with its own connections, queues and calls. Nothing of it is shared with other loops, so it has no
 * lock: other threads hand calls over with forge_loop_post. Every function here runs on the loop's thread unless it says otherwise. */
#ifndef FORGE_CLIENT_SHARD_H
#define FORGE_CLIENT_SHARD_H

#include "address.h"
#include "call.h"
#include "retry.h"
#include "wire/arena.h"
#include "wire/loop.h"

/* A credential of one shard; counted by the calls that were started under it. Loop thread only. */
struct forge__token {
    unsigned refs;
    char text[];
};

struct forge__call_queue {
    struct forge__call *first, *last;
};

struct forge__shard {
    struct forge_channel *channel;
    struct forge_loop *loop;
    struct forge__connection *connections; /* all of them */
    struct forge__connection **ready;      /* those that take calls */
    size_t ready_count, ready_capacity;
    size_t next_ready;              /* where the search for the least loaded one begins, so that equals take turns */
    struct forge__call *calls;      /* started and not finished */
    struct forge__call_queue small; /* waiting for any connection */
    struct forge__call_queue large; /* waiting for a connection that takes large messages */
    struct forge__call *free_calls; /* of this thread */
    struct forge__token *token;     /* NULL = none */
    struct forge_timer sweep;       /* deadlines and retries of all calls */
    struct forge_loop_task pump_task;
    bool pump_is_posted;
    bool was_resolved; /* the addresses are known, or the first look-up has failed */
    bool is_closing;
    bool is_closed; /* guarded by the channel's mutex */
    uint64_t random_state;
    struct forge_arena arena;    /* of the reply being handled */
    struct forge_error no_error; /* zeroed: what callbacks of successful calls see */
};

/* shard is zeroed. Any thread, before the loop has seen it. */
void forge__shard_init(struct forge__shard *shard, struct forge_channel *channel, struct forge_loop *loop);
/* Any thread, after the loops have ended. */
void forge__shard_done(struct forge__shard *shard);

/* Begins a call; it will end with forge__shard_finish. */
void forge__shard_start(struct forge__shard *shard, struct forge__call *call);
/* The same inside a callback: never runs done before it returns. An error means that the call was refused and not begun. */
forge_code forge__shard_start_nested(struct forge__shard *shard, struct forge__call *call, struct forge_error *error) FORGE_MUST_CHECK;

/* Connects to these and no others. failure: why there may be none, or NULL. */
void forge__shard_set_endpoints(struct forge__shard *shard, const struct forge__endpoint_list *endpoints, const char *failure);
/* text NULL = no credential. RESOURCE_EXHAUSTED without memory. */
forge_code forge__shard_set_token(struct forge__shard *shard, const char *text) FORGE_MUST_CHECK;
/* Ends every call with CANCELLED and closes the connections. */
void forge__shard_close(struct forge__shard *shard);

/* For connections. False without memory. */
bool forge__shard_add_ready(struct forge__shard *shard, struct forge__connection *connection);
void forge__shard_remove_ready(struct forge__shard *shard, struct forge__connection *connection);
/* Sends what waits and can go; refuses fail-fast calls when nothing is being tried any more. */
void forge__shard_pump(struct forge__shard *shard);
/* An attempt ended without success: retries the call or finishes it with error. Takes the lists of error. */
void forge__shard_attempt_failed(struct forge__shard *shard, struct forge__call *call, const struct forge__attempt *attempt,
                                 struct forge_error *error, const struct forge_reply_info *info);
/* Runs done, frees the lists of error and releases the call. reply goes to the callback. */
void forge__shard_finish(struct forge__shard *shard, struct forge__call *call, forge_code code, ProtobufCMessage *reply,
                         struct forge_error *error, const struct forge_reply_info *info);
uint32_t forge__shard_random(struct forge__shard *shard);
uint64_t forge__shard_now_ms(const struct forge__shard *shard);

#endif
