/* Running a handler: payload, request id, handler, packed reply. Private to server/rpc. */
#ifndef SERVER_RPC_RUN_H
#define SERVER_RPC_RUN_H

#include "rpc/state.h"

/* Unpacks the payload (once) and checks the request id where the rule wants one. Any thread that owns the call. */
forge_code rpc_run_prepare(struct rpc_active *active) FORGE_MUST_CHECK;
/* A fresh reply, then the handler. */
forge_code rpc_run_handler(struct rpc_active *active) FORGE_MUST_CHECK;
/* Worker: everything from the queue on, then hands the call back. pool: where its connection comes from. */
void rpc_run_on_worker(struct rpc_active *active, struct db_pool *pool);

#endif
