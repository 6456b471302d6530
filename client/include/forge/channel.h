/* libforge: calls to forged. One channel per process and set of credentials; use it from as many threads as you like.
 *
 * A channel holds one TLS connection per server address, retries what is safe to retry inside the caller's deadline and
 * moves calls away from servers that drain. forge/calls.h has one typed function per RPC. Errors: forge_code, with details
 * in struct forge_error (wire/status.h). After fork() a child must open its own channel: the parent's answers FAILED_PRECONDITION. */
#ifndef FORGE_CHANNEL_H
#define FORGE_CHANNEL_H

#include "forge/api.h"
#include "wire/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; from forge_channel_open to forge_channel_close. */
struct forge_channel;

/* Zero it, then set what differs from the default given in parentheses. Strings are copied by forge_channel_open. */
struct forge_channel_options {
    const char *addresses;            /* "host[:port][,host[:port]...]"; port 7443 when left out; "[::1]:7443" for IPv6. Required. */
    const char *token;                /* pfk_, pfs_ or pfo_ credential; NULL = calls without a credential */
    const char *ca_file;              /* PEM; NULL = the system's roots */
    const char *certificate_file;     /* PEM client certificate for mTLS; NULL = none */
    const char *key_file;             /* its key */
    const char *client_info;          /* "my-service/1.2", shown in the server's log; at most 128 bytes */
    uint32_t default_timeout_ms;      /* of a call, all attempts together (5,000) */
    uint32_t calls_in_flight_max;     /* more are refused with RESOURCE_EXHAUSTED (4,096) */
    size_t reply_bytes_max;           /* a longer reply is refused (4 MiB) */
    unsigned threads;                 /* event loops, each with connections of its own (1); at most 64 */
    unsigned connections_per_address; /* of each event loop to each server address (1); at most 64 */
};

/* Checks options and files and starts connecting in the background; does not wait for a server. INVALID_ARGUMENT, FAILED_PRECONDITION
 * (a file), RESOURCE_EXHAUSTED. *out untouched on failure. */
FORGE_API forge_code forge_channel_open(const struct forge_channel_options *options, struct forge_channel **out,
                                        struct forge_error *error) FORGE_MUST_CHECK;
/* Ends the channel: calls in flight end with CANCELLED (callbacks run), then the connections close. Blocks until that is done. Does nothing
 * inside a callback and in a child of fork(). Accepts NULL. */
FORGE_API void forge_channel_close(struct forge_channel *channel);
/* Replaces the credential for later calls (after a login, before a key expires). NULL = none. Retries of earlier calls keep the one they
 * began with. Any thread, does not block. INVALID_ARGUMENT for a token that cannot be one. */
FORGE_API forge_code forge_channel_set_token(struct forge_channel *channel, const char *token, struct forge_error *error) FORGE_MUST_CHECK;

/* A pair for interceptors and logs of the server. All pairs of a call together have at most 8 KiB. */
struct forge_metadata {
    const char *key; /* [0-9a-z_.-]+ */
    const char *value;
};

/* Zero it (or pass NULL) for the defaults. */
struct forge_call_options {
    uint32_t timeout_ms; /* 0 = the channel's default; the deadline spans all attempts; at most 600,000 */
    bool fail_fast; /* UNAVAILABLE as soon as no server is connected and none is being dialled; else the call waits until its deadline */
    const char *request_id;  /* UUIDv7 text; NULL = a fresh one per call. Give the same again to repeat a write whose outcome is unknown. */
    const char *traceparent; /* W3C trace context, passed on */
    const char *tracestate;
    const struct forge_metadata *metadata;
    size_t metadata_count;
    uint32_t reply_bytes_max; /* 0 = the channel's, which it cannot exceed */
};

/* What came with the reply besides the message. */
struct forge_reply_info {
    bool replayed;              /* the stored answer of an earlier attempt */
    uint32_t attempts;          /* that were sent */
    uint64_t server_elapsed_us; /* from the arrival of the request to the reply, on the server */
    uint64_t queue_us;          /* of these, waiting for a worker */
    char server_instance[64];   /* name of the server process */
    char request_id[37];        /* UUID text: give it again to repeat a write whose outcome is unknown */
};

/* Static description of an RPC; forge/calls.h holds one per method. */
struct forge_method {
    const char *name; /* "forge.v1.PromptService/GetPrompt" */
    const ProtobufCMessageDescriptor *input, *output;
    bool writes; /* carries a request_id and changes something */
    bool needs_credential;
};

/* Calls and waits, at most until the deadline. Any thread. *out_reply belongs to the caller: protobuf_c_message_free_unpacked(reply, NULL)
 * or the typed free. error may be NULL; its violations and facts, if any, belong to the error: forge_error_free(). A call inside a callback
 * is refused with FAILED_PRECONDITION. */
FORGE_API forge_code forge_channel_call(struct forge_channel *channel, const struct forge_method *method,
                                        const struct forge_call_options *options, const ProtobufCMessage *request,
                                        ProtobufCMessage **out_reply, struct forge_error *error);
/* As above, and tells what came beside the reply (info may be NULL). */
FORGE_API forge_code forge_channel_call_with_info(struct forge_channel *channel, const struct forge_method *method,
                                                  const struct forge_call_options *options, const ProtobufCMessage *request,
                                                  ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error);

/* Runs once, on a thread of the channel; must not block: it holds up every other call of that thread. It may start calls. reply belongs to
 * the callback (NULL on failure); error and info live until it returns. */
typedef void (*forge_call_done)(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                                const struct forge_reply_info *info);
/* Starts a call; any thread, does not wait. When this returns an error, done is never called; the request is packed before it returns. */
FORGE_API forge_code forge_channel_call_async(struct forge_channel *channel, const struct forge_method *method,
                                              const struct forge_call_options *options, const ProtobufCMessage *request,
                                              forge_call_done done, void *user, struct forge_error *error);

/* Sees every attempt before it is sent: may add metadata (copied) or refuse the call by returning another code than OK (not UNAVAILABLE or
 * RESOURCE_EXHAUSTED: those mean "later" here). Runs on a thread of the channel and must not block. */
struct forge_interceptor_context;
typedef forge_code (*forge_interceptor)(void *user, const struct forge_method *method, struct forge_interceptor_context *context);
/* One per channel; set before the first call. NULL = none. */
FORGE_API void forge_channel_set_interceptor(struct forge_channel *channel, forge_interceptor interceptor, void *user);
/* Inside an interceptor. INVALID_ARGUMENT (key or value), RESOURCE_EXHAUSTED (over 8 KiB together). */
FORGE_API forge_code forge_interceptor_add_metadata(struct forge_interceptor_context *context, const char *key, const char *value);

/* Frees violations and facts of an error that a call filled, and zeroes it. Accepts NULL. */
FORGE_API void forge_error_free(struct forge_error *error);
/* The method of such a full name, NULL if there is none; and the whole table, by name. For tools that call by name. */
FORGE_API const struct forge_method *forge_method_find(const char *name);
FORGE_API const struct forge_method *forge_method_at(size_t index); /* NULL behind the last */
/* Version of the library: "0.1.0". Static storage, as above. */
FORGE_API const char *forge_version(void);

#ifdef __cplusplus
}
#endif
#endif
