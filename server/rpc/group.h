/* Group commit: calls of one organization that wait for the database at the same time are done in one transaction, so that they share its
 * round trips and its flush to disk. Private to server/rpc; handlers join by rpc_call_join() (call.h).
 *
 * A few threads of their own, each with one database connection, take what waits: the call that has waited longest and those behind it that
 * go together with it. Nobody waits for company: with a thread free a call is done at once and alone, and what comes while all are busy
 * is the next group. A group that fails is done again call by call, each until its own deadline. */
#ifndef SERVER_RPC_GROUP_H
#define SERVER_RPC_GROUP_H

#include "rpc/state.h"

struct rpc_groups;

/* Starts the threads. RESOURCE_EXHAUSTED without memory or threads. */
forge_code rpc_groups_new(struct rpc_server *server, struct rpc_groups **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Takes a call that joined, from the thread that ran its handler and has let go of it; answers it where there is no room. */
void rpc_groups_put(struct rpc_groups *groups, struct rpc_active *active);
/* No more calls come: does those that wait and ends the threads. */
void rpc_groups_stop(struct rpc_groups *groups);
void rpc_groups_free(struct rpc_groups *groups); /* stops first; accepts NULL */
/* Calls that wait for a thread. Any thread. */
unsigned rpc_groups_waiting(struct rpc_groups *groups);

#endif
