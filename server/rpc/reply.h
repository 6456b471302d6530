/* Packs a reply and sends it. Private to server/rpc. */
#ifndef SERVER_RPC_REPLY_H
#define SERVER_RPC_REPLY_H

#include "rpc/state.h"

/* Packs the handler's reply into the arena, for calls that run on a worker: reply_bytes, reply_len. RESOURCE_EXHAUSTED when it is larger
 * than server or caller allow. */
forge_code rpc_reply_pack(struct rpc_active *active) FORGE_MUST_CHECK;
/* Header and payload straight into the source's room. Loop thread; the connection is open. False when there was no room: the call ends
 * without a reply. */
bool rpc_reply_send(struct rpc_active *active);

#endif
