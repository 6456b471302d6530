/* Calls that wait for an event: they hold an entry in this table and no thread. Private to server/rpc.
 *
 * enter -> the handler looks at what it waits for -> leave, or settle -> wake or remove. Between enter and settle the call is still its
 * handler's: a wake-up then only marks the entry, and settle tells. From settle on it belongs to the table, and to whoever takes
 * it out under the table's lock. Any thread unless said otherwise; nothing blocks longer than that lock. */
#ifndef SERVER_RPC_PARKED_H
#define SERVER_RPC_PARKED_H

#include "wire/status.h"
#include "wire/uuid.h"

#include <stdbool.h>
#include <stdint.h>

struct rpc_active;
struct rpc_parked;

enum rpc_parked_state { RPC_PARKED_OUT, RPC_PARKED_ENTERED, RPC_PARKED_WOKEN /* entered, and an event came */, RPC_PARKED_WAITING };
struct rpc_parked_entry {
    struct rpc_parked_entry *previous, *next; /* of the bucket; of a list that was taken */
    struct rpc_active *call;
    const char *key; /* in the call's arena */
    uint64_t key_hash;
    struct forge_uuid principal_id;
    unsigned *connection_count; /* entries of its connection */
    enum rpc_parked_state state;
};

/* NULL without memory. */
struct rpc_parked *rpc_parked_new(unsigned total_max, unsigned connection_max, unsigned principal_max);
void rpc_parked_free(struct rpc_parked *parked); /* must be empty; accepts NULL */

/* call, key, principal_id (nil = counted for its connection only) and connection_count are set by the caller. RESOURCE_EXHAUSTED above a
 * maximum. */
forge_code rpc_parked_enter(struct rpc_parked *parked, struct rpc_parked_entry *entry, struct forge_error *error) FORGE_MUST_CHECK;
/* Out of the table; harmless when it is not in. For the owner of a call that has not settled. */
void rpc_parked_leave(struct rpc_parked *parked, struct rpc_parked_entry *entry);
/* True: it waits now and is not the caller's any more. False: an event came in between; the entry is out and the call the caller's. */
bool rpc_parked_settle(struct rpc_parked *parked, struct rpc_parked_entry *entry) FORGE_MUST_CHECK;
/* Takes a waiting call out. False when somebody else has taken it. */
bool rpc_parked_remove(struct rpc_parked *parked, struct rpc_parked_entry *entry) FORGE_MUST_CHECK;
/* Takes every waiting call of this key out (oldest first, linked by next) and marks those that are not settled. */
struct rpc_parked_entry *rpc_parked_take(struct rpc_parked *parked, const char *key);
/* The same for every key that begins with prefix ("" = every key). */
struct rpc_parked_entry *rpc_parked_take_all(struct rpc_parked *parked, const char *prefix);

/* Calls that wait: settled and not yet woken. */
unsigned rpc_parked_count(struct rpc_parked *parked);

#endif
