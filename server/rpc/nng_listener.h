/* Calls from stock nng REQ sockets of the same host, over ipc://: same envelope, credentials, rules and limits as over TLS.
 *
 * nng_listener.c is the only file of the server that sees libnng. Other URL schemes are refused by name: nng 1.5.2 cannot bound a silent
 * TLS peer. A fixed number of contexts receives; a message goes to a loop's inbox and then takes the way of any call. */
#ifndef SERVER_RPC_NNG_LISTENER_H
#define SERVER_RPC_NNG_LISTENER_H

#include "rpc/server.h"

struct rpc_nng_listener_config {
    struct rpc_server *server;
    const char *url;             /* "ipc:///run/promptforge/forged.ipc"; the socket file gets mode 0660 */
    unsigned contexts;           /* calls in flight */
    unsigned pipes_max;          /* open connections */
    size_t message_max;          /* bytes; nng closes the connection of a longer message */
    size_t message_unproven_max; /* bytes before a connection's first verified credential; a longer message is refused */
};

struct rpc_nng_listener;
/* INVALID_ARGUMENT for another scheme, UNAVAILABLE when the address is taken or cannot be made. */
forge_code rpc_nng_listener_new(const struct rpc_nng_listener_config *config, struct rpc_nng_listener **out,
                                struct forge_error *error) FORGE_MUST_CHECK;
/* Accepts no more calls, waits until the last submitted one has ended (at its deadline at the latest) and removes the socket file. Not
 * from a loop thread; before rpc_server_free. Accepts NULL. */
void rpc_nng_listener_free(struct rpc_nng_listener *listener);

#endif
