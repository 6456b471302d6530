/* What is counted and logged about calls. Private to server/rpc. */
#ifndef SERVER_RPC_OBSERVE_H
#define SERVER_RPC_OBSERVE_H

#include "rpc/state.h"

/* Registers the metrics; before any thread of the server runs. */
forge_code rpc_observe_init(struct rpc_server *server, struct forge_error *error) FORGE_MUST_CHECK;
void rpc_observe_done(struct rpc_server *server);
/* Counts a call that has been answered, and logs it when it failed. */
void rpc_observe_call(const struct rpc_active *active);
void rpc_observe_handshake(struct rpc_server *server, bool succeeded);

#endif
