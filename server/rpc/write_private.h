/* Writes inside of server/rpc: what a handler announced, who else is doing the same, and the transaction around it. */
#ifndef SERVER_RPC_WRITE_PRIVATE_H
#define SERVER_RPC_WRITE_PRIVATE_H

#include "rpc/state.h"
#include "rpc/write.h"

struct rpc_write_change {
    struct rpc_write_change *next;
    const char *kind;
    struct forge_uuid id;                   /* of its row; here because statements refer to what they bind until they are sent */
    struct forge_uuid object_id, parent_id; /* nil = none */
};
struct rpc_write_audit {
    const char *action, *target_kind, *details_json;
    struct forge_uuid target_id; /* nil = none */
};
/* In the arena of its call. */
struct rpc_write {
    struct forge_uuid organization_id; /* claim, effect, changes, audit and stored reply are bound to it */
    uint8_t request_hash[FORGE_SHA256_SIZE];
    bool seals_reply, has_audit;
    struct rpc_write_change *changes, **changes_end;
    struct rpc_write_audit audit;
    void (*ended)(void *user, bool committed); /* NULL = none */
    void *ended_user;
    /* the table of writes in progress */
    struct rpc_write *next;
    struct rpc_active *owner;
};

/* Runs the handler of a write in its transaction and packs the reply; on a worker, the session leased and bound. FORGE_PARKED for a
 * duplicate of a write in progress. */
forge_code rpc_write_run(struct rpc_active *active) FORGE_MUST_CHECK;

/* write_audit.c: queues the audit row. */
void rpc_write_queue_audit(struct rpc_active *active);

/* duplicates.c: writes in progress on this server, by tenant, principal and request id. */
struct rpc_duplicates *rpc_duplicates_new(void); /* NULL without memory */
void rpc_duplicates_free(struct rpc_duplicates *duplicates);
/* FORGE_OK: the call is the owner and must call leave. FORGE_PARKED: another call has this id; it waits for that. INVALID_ARGUMENT: another
 * call has this id and another body. Else there is no room to wait. */
forge_code rpc_duplicates_enter(struct rpc_active *active) FORGE_MUST_CHECK;
/* UNAVAILABLE with the reason CALL_IN_PROGRESS: the call is a duplicate that cannot wait here. */
forge_code rpc_duplicates_refuse(struct rpc_active *active);
/* The owner is done: those that wait get its outcome (OK or its handler's refusal), or begin anew when it has none to give. */
void rpc_duplicates_leave(struct rpc_active *active, forge_code code);

#endif
