#include "rpc/write_private.h"

static const char *principal_kind(enum auth_kind kind)
{
    switch (kind) {
    case AUTH_NOBODY:
        break;
    case AUTH_USER:
        return "user";
    case AUTH_API_KEY:
        return "api_key";
    case AUTH_SERVICE_ACCOUNT:
        return "service_account";
    case AUTH_OPERATOR:
        return "operator";
    }
    return "nobody";
}

/* Operator tokens and nobody have none. */
static const char *principal_role(enum auth_role role)
{
    switch (role) {
    case AUTH_ROLE_NONE:
        break;
    case AUTH_ROLE_VIEWER:
        return "viewer";
    case AUTH_ROLE_DEVELOPER:
        return "developer";
    case AUTH_ROLE_ADMIN:
        return "admin";
    }
    return "";
}

static const struct forge_uuid *uuid_or_null(const struct forge_uuid *id)
{
    return forge_uuid_is_nil(id) ? NULL : id;
}

void rpc_write_queue_audit(struct rpc_active *active)
{
    const struct rpc_call *call = &active->call;
    const struct rpc_write_audit *audit = &active->write->audit;
    struct db_stmt *statement = db_stmt(call->db, SQL_WRITE_AUDIT);
    db_bind_uuid(statement, &active->write->organization_id);
    db_bind_time_us(statement, call->now_us);
    db_bind_text(statement, principal_kind(call->principal.kind));
    db_bind_uuid(statement, &call->principal.id);
    db_bind_text(statement, principal_role(call->principal.role));
    db_bind_text(statement, call->peer_address);
    db_bind_uuid(statement, uuid_or_null(&call->request_id));
    db_bind_text(statement, audit->action);
    db_bind_text(statement, audit->target_kind);
    db_bind_uuid(statement, uuid_or_null(&audit->target_id));
    db_bind_text(statement, audit->details_json);
    db_queue(statement);
}
