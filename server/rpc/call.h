/* One RPC while it is answered: what a handler sees.
 *
 * A handler is `forge_code <service>_<verb>(struct rpc_call *call, const Request *request, Reply *reply)`: validate, bind, run,
 * map. It runs on one thread from start to end, allocates in call->arena only, frees nothing and returns the code; on failure
 * call->error says why. It is called with the caller authenticated and authorised and the payload checked and unpacked.
 * For a write (rules.c) rpc/write.c has put the claim before it and puts change, audit and stored reply after it (rpc/write.h). */
#ifndef SERVER_RPC_CALL_H
#define SERVER_RPC_CALL_H

#include "auth/key_file.h"
#include "auth/principal.h"
#include "db/stmt.h"
#include "wire/arena.h"
#include "wire/status.h"
#include "wire/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_server;    /* private to rpc */
struct policy_engine; /* the policy service's */

/* What handlers need to know of the server's settings; the same for the life of the server. */
struct rpc_settings {
    const struct auth_keys *keys;                /* for auth/lockout.h and auth/secret.h */
    bool development;                            /* mode=development: short passwords are allowed */
    size_t message_max;                          /* bytes of a message after the connection's first verified credential */
    size_t reply_max;                            /* bytes of a reply's payload */
    unsigned span_age_max_ms, span_ahead_max_ms; /* how long ago and how far ahead a span may start */
    struct policy_engine *policies;              /* for service/policy/in_force.h */
};

struct rpc_call {
    struct forge_arena *arena;
    struct db_session *db;           /* leased for worker methods; NULL for inline methods, and until rpc_call_connect() */
    struct auth_principal principal; /* kind AUTH_NOBODY for methods that need no credential */
    struct forge_error error;
    struct forge_uuid request_id; /* nil where the header has none */
    int64_t now_us;               /* the request's wall clock: every time a handler stores comes from here */
    uint64_t deadline_ns;         /* monotonic */
    const char *peer_address;     /* of the connection, "" over ipc */
    unsigned calls_in_flight_max; /* on this connection, as it is or as this credential makes it */
    bool woken;                   /* parked before and run again */
    bool waited;                  /* and because its wait was over */
    struct rpc_server *server;
};

/* Bytes that the payload of this call's reply may have: the server's limit, or the caller's where that is less. */
size_t rpc_call_reply_max(const struct rpc_call *call);
/* Notes a wrong field; rpc_call_invalid() then refuses with INVALID_ARGUMENT and every violation. field: path in the request. */
void rpc_call_violation(struct rpc_call *call, const char *field, const char *format, ...) FORGE_PRINTF(3, 4);
bool rpc_call_has_violations(const struct rpc_call *call);
forge_code rpc_call_invalid(struct rpc_call *call);
/* return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", id); */
forge_code rpc_call_fail(struct rpc_call *call, forge_code code, const char *format, ...) FORGE_PRINTF(3, 4);
/* The same with the stable name of the cause that the method's contract gives (ErrorInfo.reason), such as "IN_USE". */
forge_code rpc_call_fail_reason(struct rpc_call *call, forge_code code, const char *reason, const char *format, ...) FORGE_PRINTF(4, 5);
/* A fact that belongs to the reason (ErrorInfo.metadata); the contract of the method names the keys. */
void rpc_call_fact(struct rpc_call *call, const char *key, const char *format, ...) FORGE_PRINTF(3, 4);

/* For methods that seldom need the database (AUTH_WAY_COMPUTE): leases call->db where there is none yet, until the deadline. Without it
 * their calls hold no connection while they compute, and are answered while the database is away. */
forge_code rpc_call_connect(struct rpc_call *call) FORGE_MUST_CHECK;

/* For handlers that wait for an event, in this order: rpc_call_park() enters the call in the parked table under key (so that no
 * wake-up is lost), then the handler looks at the state it waits for; when there is something to answer it calls
 * rpc_call_unpark() and answers, otherwise it returns FORGE_PARKED. A wake-up (rpc_wake) or until_ms (monotonic; taken down to
 * 200 ms before the deadline) runs the handler again from its start with call->woken set, and call->waited in the latter case. One that was
 * woken for nothing may park again: its wait goes on to the time it first gave. RESOURCE_EXHAUSTED when
 * connection or principal have too many parked calls. While the server drains nothing parks: FORGE_UNAVAILABLE. */
forge_code rpc_call_park(struct rpc_call *call, const char *key, uint64_t until_ms) FORGE_MUST_CHECK;
void rpc_call_unpark(struct rpc_call *call);
/* Ends the wait of every call parked under key; under every key that begins with prefix ("" = every call). Any thread. */
void rpc_wake(struct rpc_server *server, const char *key);
void rpc_wake_all(struct rpc_server *server, const char *prefix);

/* For handlers whose calls are cheaper together (rpc/group.h): return rpc_call_join(...) is the last act, and makes the call one of a group
 * of the same organization and kind, or alone. Then run does the work of all of them in one transaction of the session, which is bound to
 * the organization; what it fails with is told to each, after each was tried alone. After it succeeded, finish fills each call's reply; the
 * call has no session any more. Both run on another thread, with the call and its arena as the handler left them. */
struct rpc_group_kind {
    size_t weight_max; /* of a group of several */
    forge_code (*run)(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id, void *const *works,
                      size_t count, struct forge_error *error);
    forge_code (*finish)(struct rpc_call *call, void *work, ProtobufCMessage *reply);
    void (*end)(struct rpc_call *call, void *work); /* the last thing, whatever became of the call; NULL = nothing is to be done */
};
forge_code rpc_call_join(struct rpc_call *call, const struct rpc_group_kind *kind, void *work, size_t weight) FORGE_MUST_CHECK;

/* For control's handlers: the state of this server, and the queued or parked call of the same principal on the same connection. */
bool rpc_server_is_draining(const struct rpc_server *server);
bool rpc_server_is_ready(const struct rpc_server *server,
                         const char **out_reason); /* reason: static or call's lifetime; never NULL when false */
bool rpc_call_cancel_other(struct rpc_call *call, const struct forge_uuid *request_id);
const struct rpc_settings *rpc_server_settings(const struct rpc_server *server);

#endif
