/* Where calls come from and where their replies go: what dispatch sees of a TLS link or of a stock nng socket.
 *
 * Life of a source: rpc_source_open() when a peer is there, rpc_source_submit() for each message, rpc_source_close() when the peer has
 * gone. All three on the thread of the loop it was opened on, and on no other; it belongs to that loop for life. Every submitted
 * call ends in exactly one of reply (reply_begin + reply_commit) or dropped, also on the loop's thread, possibly inside
 * rpc_source_submit() or rpc_source_close(). Nothing here blocks. */
#ifndef SERVER_RPC_SOURCE_H
#define SERVER_RPC_SOURCE_H

#include "wire/loop.h"
#include "wire/status.h"
#include "wire/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_server;
struct rpc_connection; /* one open source */

/* One message and how to answer it. stack and body are read before rpc_source_submit() returns. */
struct rpc_message {
    const uint8_t *stack; /* SP stack, repeated in the reply; NULL and 0 when the source keeps it itself (nng does) */
    size_t stack_len;     /* at most FORGE_STACK_MAX */
    const uint8_t *body;
    size_t body_len;
    bool truncated; /* over the message limit: the body holds its beginning only */
    void *tag;      /* the source's own mark on this call, handed back with its reply (nng: the context); may be NULL */
};

/* Room for one reply body. */
struct rpc_reply_room {
    uint8_t *body; /* body_len bytes to fill */
    size_t body_len;
    const uint8_t *stack;
    size_t stack_len;
    void *tag;
    uintptr_t private_data[6]; /* the source's own, e.g. its struct forge_link_send or nng_msg */
};

struct rpc_source_functions {
    /* Gives room for body_len bytes (body, private_data; the rest is filled in). On failure the call counts as dropped, without a
     * call of dropped(). */
    forge_code (*reply_begin)(void *user, struct rpc_reply_room *room);
    /* Sends what was filled. */
    void (*reply_commit)(void *user, struct rpc_reply_room *room);
    /* The call with this tag ends without a reply because its source was closed. May be NULL. */
    void (*dropped)(void *user, void *tag);
    /* The first credential of this peer was verified: its messages may now be large. May be NULL. */
    void (*verified)(void *user);
    /* Calls that wait for a worker or an event: a source with such calls is not idle. May be NULL. */
    void (*waiting)(void *user, int delta);
};

struct rpc_source {
    const struct rpc_source_functions *functions; /* must outlive the connection */
    void *user;
    const char *peer_address;          /* copied; "" over ipc */
    const struct forge_tls_peer *peer; /* of the client's certificate; copied; NULL = none */
};

/* NULL without memory, or when the server has as many connections as it may have. The connection is freed after rpc_source_close() and
 * the end of its last call. */
struct rpc_connection *rpc_source_open(struct rpc_server *server, struct forge_loop *loop, const struct rpc_source *source);
void rpc_source_submit(struct rpc_connection *connection, const struct rpc_message *message);
/* Queued and parked calls are dropped; running ones end and their replies are discarded (dropped() is called for them then, so user must
 * live until the last submitted call has ended). */
void rpc_source_close(struct rpc_connection *connection);

#endif
