/* One call of a channel from its start to its end, over all attempts.
 *
 * A call belongs to the thread that starts it until it is handed to a shard, then to the shard's loop thread until that has run
 * done. Call objects are kept by the channel and used again with their buffers; their memory ends with the channel. */
#ifndef FORGE_CLIENT_CALL_H
#define FORGE_CLIENT_CALL_H

#include "forge/channel.h"
#include "forge/v1/common.pb-c.h"
#include "wire/loop.h"
#include "wire/uuid.h"

#include <pthread.h>
#include <stdatomic.h>

struct forge__connection;
struct forge__shard;

enum {
    FORGE__REQUEST_BYTES_MAX = 4 << 20,    /* an SP message of ours: the server's default limit after authentication */
    FORGE__SMALL_REQUEST_BYTES = 16 << 10, /* and before it: up to here a call does not wait for WhoAmI */
    FORGE__TIMEOUT_MS_MAX = 600000,        /* the server takes no longer deadline */
    FORGE__BUFFER_KEPT_BYTES = 64 << 10    /* a larger request buffer is not kept for the next call */
};

/* The rarely used parts of a call's header, in one block. */
struct forge__call_context {
    char *traceparent, *tracestate; /* "" when not given */
    size_t metadata_count;
    Forge__V1__KeyValue **metadata;
};

/* A caller of the synchronous API waits here. */
struct forge__call_waiter {
    pthread_mutex_t mutex; /* guards the fields below */
    pthread_cond_t answered;
    bool is_done;
    bool is_abandoned; /* the caller has left at its deadline: its pointers are gone */
    forge_code code;
    ProtobufCMessage **out_reply;
    struct forge_reply_info *info;
    struct forge_error *error;
};

enum forge__call_state {
    FORGE__CALL_STARTING,
    FORGE__CALL_QUEUED,     /* waits for a connection with room */
    FORGE__CALL_IN_FLIGHT,  /* in a slot of a connection */
    FORGE__CALL_BACKING_OFF /* waits for retry_at_ms */
};

struct forge__token;

struct forge__call {
    struct forge_loop_task task; /* first: hands the call to its loop */
    struct forge_channel *channel;
    struct forge__shard *shard;
    struct forge__call *next, *previous;             /* all calls of the shard, or the list of free ones */
    struct forge__call *queue_next, *queue_previous; /* its queue while FORGE__CALL_QUEUED */
    enum forge__call_state state;
    bool is_local; /* started on its loop's thread */
    bool is_fresh; /* started in this turn of the loop: its clock need not be read again */
    bool is_sync;
    bool fail_fast;
    bool outcome_unknown; /* an attempt was handed over, and no answer says that it had no effect */
    const struct forge_method *method;
    forge_call_done done;
    void *user;
    uint64_t started_ns, deadline_ns; /* monotonic */
    uint64_t retry_at_ms;
    uint64_t sent_at_ms;
    struct forge__connection *connection; /* while in flight */
    unsigned slot;
    uint32_t attempts; /* handed to a link */
    uint32_t reply_bytes_max;
    struct forge_uuid request_id;
    struct forge__token *token; /* the credential that was in force when the call started */
    struct forge__call_context *context;
    uint8_t *payload; /* packed once, sent by every attempt */
    size_t payload_size, payload_capacity;
    atomic_bool was_sent; /* read by a synchronous caller whose deadline is over */
    struct forge__call_waiter waiter;
};

/* Takes a free call object, checks the options and packs the request. INVALID_ARGUMENT, RESOURCE_EXHAUSTED, CANCELLED (the
 * channel is closing), FAILED_PRECONDITION (forked). The shard is chosen: on a loop thread of the channel its own. */
forge_code forge__call_new(struct forge_channel *channel, const struct forge_method *method, const struct forge_call_options *options,
                           const ProtobufCMessage *request, struct forge__call **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Gives the object back. Loop thread, or the starting thread while the call is not handed over or was waited for. */
void forge__call_release(struct forge__call *call);
/* Frees the object itself: only when the channel ends. */
void forge__call_destroy(struct forge__call *call);

/* Makes the call a synchronous one, before it is handed over. */
void forge__call_prepare_wait(struct forge__call *call, ProtobufCMessage **out_reply, struct forge_reply_info *info,
                              struct forge_error *error);
/* Waits for the answer, to the exact deadline and no longer (the sweep of the loop is too coarse for that), and gives the call up. */
forge_code forge__call_wait(struct forge__call *call);
/* Loop thread: hands the outcome to the waiter, the reply and the lists of the error with it, or frees both when it has left. */
void forge__call_deliver(struct forge__call *call, forge_code code, ProtobufCMessage *reply, struct forge_error *error,
                         const struct forge_reply_info *info);

/* DEADLINE_EXCEEDED with the reason: no connection, or no answer. Any thread that may read the call. */
forge_code forge__call_deadline_error(struct forge__call *call, struct forge_error *error);
/* Fills what a reply_info can hold without a reply. */
void forge__call_info(const struct forge__call *call, struct forge_reply_info *info);
/* Milliseconds of the deadline, for messages. */
unsigned forge__call_timeout_ms(const struct forge__call *call);

#endif
