/* Exactly-once writes: what a handler of a write announces. Nothing here sends anything; it goes out in the last flight. */
#ifndef SERVER_RPC_WRITE_H
#define SERVER_RPC_WRITE_H

#include "rpc/call.h"

/* A row for `changes`: caches and watchers on every server hear of it. kind: see db/change_feed.h. parent may be NULL. */
void rpc_write_change(struct rpc_call *call, const char *kind, const struct forge_uuid *object_id, const struct forge_uuid *parent_id);
/* The audit row of this write, at most one: action such as "api_key.create", what it was done to, and details as JSON text (NULL = {}). */
void rpc_write_audit(struct rpc_call *call, const char *action, const char *target_kind, const struct forge_uuid *target_id,
                     const char *details_json);
/* The reply carries a secret: it is sealed under the key-encryption key before it is stored for replays. */
void rpc_write_seal_reply(struct rpc_call *call);
/* The tenant of a write whose credential has none (CreateOrganization): claim, effect, audit and stored reply are bound to it.
 * Before the first db_run. */
void rpc_write_set_organization(struct rpc_call *call, const struct forge_uuid *organization_id);
/* What has to be done when this attempt of the write is over, whichever way, on its thread: ended(user, whether it was committed for
 * certain). Once in an attempt. */
void rpc_write_when_ended(struct rpc_call *call, void (*ended)(void *user, bool committed), void *user);

#endif
