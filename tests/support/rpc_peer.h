/* A server for tests of the client: real TLS, real frames, answers by the test's own handler. */
#ifndef TEST_RPC_PEER_H
#define TEST_RPC_PEER_H

#include "forge/v1/common.pb-c.h"
#include "wire/link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_peer;

/* One request. It belongs to the handler until it is answered or dropped, from any thread. */
struct rpc_peer_call {
    struct rpc_peer *peer;
    struct forge_link *link; /* holds a reference */
    uint8_t stack[FORGE_STACK_MAX];
    size_t stack_len;
    Forge__V1__RequestHeader *header;
    uint8_t *payload;
    size_t payload_len;
    unsigned number; /* of all calls of this peer but WhoAmI, from 1 */
};

/* Runs on the peer's loop thread for every call but WhoAmI (unless rpc_peer_options.sees_who_am_i). */
typedef void (*rpc_peer_handler)(struct rpc_peer_call *call, void *user);

struct rpc_peer_options {
    rpc_peer_handler handler;
    void *user;
    bool sees_who_am_i;
    uint16_t port;           /* 0 = any free one */
    const char *certificate; /* a name of tls_files.h; NULL = "server" */
};

/* Fails the test when it cannot start. */
struct rpc_peer *rpc_peer_start(const struct rpc_peer_options *options);
/* Closes every connection and the port. Unanswered calls must have been dropped. */
void rpc_peer_stop(struct rpc_peer *peer);
uint16_t rpc_peer_port(const struct rpc_peer *peer);
/* "127.0.0.1:port", valid as long as the peer. */
const char *rpc_peer_address(const struct rpc_peer *peer);
/* Links that were opened, and WhoAmI calls that were answered, since the start. */
unsigned rpc_peer_links(const struct rpc_peer *peer);
unsigned rpc_peer_who_am_i(const struct rpc_peer *peer);
/* Closes every open connection. Not from the handler. */
void rpc_peer_close_links(struct rpc_peer *peer);

/* Answer and free the call. message may be NULL (no payload). */
void rpc_peer_reply(struct rpc_peer_call *call, const Forge__V1__ReplyHeader *header, const ProtobufCMessage *message);
/* OK with the request's payload as it came. */
void rpc_peer_echo(struct rpc_peer_call *call);
/* An error with code and message; the rest of the header at its defaults. */
void rpc_peer_fail(struct rpc_peer_call *call, Forge__V1__Code code, const char *message);
/* Answers with bytes instead of an envelope. */
void rpc_peer_reply_raw(struct rpc_peer_call *call, const void *body, size_t body_len);
/* Frees the call without an answer; closes its connection if close_link. */
void rpc_peer_drop(struct rpc_peer_call *call, bool close_link);

/* A file of tls_files.h, made once per process: "ca.pem" is the authority of the peers. */
const char *test_tls_file(const char *name);

#endif
