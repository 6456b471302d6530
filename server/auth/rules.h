/* One hand-written row per RPC: who may call it and how it is run. What has no row is refused. The rows equal the table of methods in
 * proto/README.md (a lint test compares them) and the generated table of methods (rpc_server_new and a unit test compare those). */
#ifndef SERVER_AUTH_RULES_H
#define SERVER_AUTH_RULES_H

#include "auth/principal.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum auth_access {
    AUTH_ACCESS_PUBLIC,   /* no credential is looked at */
    AUTH_ACCESS_OPERATOR, /* operator tokens only */
    AUTH_ACCESS_ANY,      /* every valid credential: WhoAmI */
    AUTH_ACCESS_SESSION,  /* users, with the token of a session */
    AUTH_ACCESS_VIEWER,   /* users, keys and service accounts of at least this role */
    AUTH_ACCESS_DEVELOPER,
    AUTH_ACCESS_ADMIN
};
enum auth_write {
    AUTH_READ,
    AUTH_WRITE_ONCE,       /* exactly once under its request_id, in one transaction with changes, audit and stored reply (rpc/write.h) */
    AUTH_WRITE_REPEATABLE, /* the same without request_id and stored reply: doing it twice is harmless */
    AUTH_WRITE_OWN         /* the handler makes its transactions itself */
};
enum auth_class { AUTH_CLASS_INTERACTIVE, AUTH_CLASS_WRITE, AUTH_CLASS_INGEST, AUTH_CLASS_BATCH, AUTH_CLASS_COUNT };
enum auth_way {
    AUTH_WAY_INLINE, /* on the loop: memory only, microseconds */
    AUTH_WAY_WORKER, /* on a worker with a database connection */
    AUTH_WAY_COMPUTE /* on a worker, with a connection only when its handler asks for one (rpc_call_connect) */
};

struct auth_rule {
    const char *method; /* "forge.v1.PromptService/GetPrompt" */
    enum auth_access access;
    bool ingest; /* API keys with scope ingest may call it too */
    enum auth_write write;
    enum auth_class queue_class;
    enum auth_way way;
    bool slow;            /* hashes passwords: on the auth threads */
    bool while_draining;  /* answered while the server drains */
    uint32_t timeout_ms;  /* deadline where the request names none */
    uint32_t request_max; /* bytes of its payload */
};

extern const struct auth_rule auth_rules[];
extern const size_t auth_rules_count;

/* NULL when there is no row. Linear: for start-up. */
const struct auth_rule *auth_rule_find(const char *method);
/* Does this credential satisfy the rule? UNAUTHENTICATED for AUTH_NOBODY, PERMISSION_DENIED with what is missing. */
forge_code auth_rule_check(const struct auth_rule *rule, const struct auth_principal *principal,
                           struct forge_error *error) FORGE_MUST_CHECK;

#endif
