/* The way of a call through its loop: checks in the order of proto/README.md, then inline, to a worker, or parked. Private to server/rpc;
 * loop thread only. Every refusal ends in rpc_dispatch_finish(), the one place that answers and releases. */
#ifndef SERVER_RPC_DISPATCH_H
#define SERVER_RPC_DISPATCH_H

#include "rpc/state.h"

/* A message of a connection, from its first byte on. */
void rpc_dispatch_message(struct rpc_connection *connection, const struct rpc_message *message);
/* A call that was handed back: does its step. */
void rpc_dispatch_step(struct rpc_active *active);
/* Answers with code, error and reply of the call, counts, logs and frees it. */
void rpc_dispatch_finish(struct rpc_active *active);
/* Frees it without an answer: its connection is closed. */
void rpc_dispatch_drop(struct rpc_active *active);

/* connection.c */
void rpc_connection_free_if_done(struct rpc_connection *connection);
/* principal: whose credential was verified on it; the first one decides how many calls may be in flight. */
void rpc_connection_set_verified(struct rpc_connection *connection, const struct auth_principal *principal);
/* call.c: takes the connection's queued and parked calls back and drops them. */
void rpc_active_drop_waiting(struct rpc_connection *connection);
/* As rpc_call_park(), also while draining, and up to the deadline itself. For duplicates. */
forge_code rpc_active_park(struct rpc_active *active, const char *key, uint64_t until_ms) FORGE_MUST_CHECK;

#endif
