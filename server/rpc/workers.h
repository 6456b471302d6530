/* Threads that run calls: the workers with a bounded queue per class, and the auth threads for methods marked slow. Private to server/rpc.
 */
#ifndef SERVER_RPC_WORKERS_H
#define SERVER_RPC_WORKERS_H

#include "rpc/state.h"

forge_code rpc_workers_new(struct rpc_server *server, struct rpc_workers **out, struct forge_error *error) FORGE_MUST_CHECK;
/* What is running ends; what is queued is refused. Joins. The queues stay until free: calls may still be looked for in them. */
void rpc_workers_stop(struct rpc_workers *workers);
void rpc_workers_free(struct rpc_workers *workers); /* stops first; accepts NULL */

/* Queues the call, which is not the caller's any more then. RESOURCE_EXHAUSTED with retry_after when the queue of its class is full.
 * Loop thread. */
forge_code rpc_workers_put(struct rpc_workers *workers, struct rpc_active *active) FORGE_MUST_CHECK;

enum { RPC_QUEUE_SLOW = AUTH_CLASS_COUNT, RPC_QUEUES };
extern const char *const rpc_queue_names[RPC_QUEUES];
unsigned rpc_workers_queued(struct rpc_workers *workers, unsigned queue);

/* How long a caller shall stay away from a queue that has been full for so long: 50 ms, doubled as that goes on, at most 1 s. */
uint32_t rpc_workers_retry_after_ms(uint64_t full_for_ms);

#endif
