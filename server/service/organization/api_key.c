/* OrganizationService: API keys. */
#include "auth/token.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <string.h>

static void api_key_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__ApiKey *out = message;
    out->id = db_row_uuid_text(row, "id");
    out->name = db_row_text(row, "name");
    reply_scopes(call, (unsigned)db_row_int32(row, "scopes"), &out->n_scopes, &out->scopes);
    out->project_id = db_row_uuid_text(row, "project_id");
    out->creator_user_id = db_row_uuid_text(row, "created_by");
    out->service_account_id = db_row_uuid_text(row, "service_account_id");
    out->token_prefix = db_row_text(row, "token_prefix");
    out->create_time = reply_time(call, row, "created_at");
    out->expire_time = reply_time(call, row, "expires_at");
    out->revoke_time = reply_time(call, row, "revoked_at");
    out->last_use_time = reply_time(call, row, "last_used_at");
}

/* What CreateApiKey stores, checked. */
struct creation {
    unsigned scopes;
    bool has_project, has_account, expires;
    struct forge_uuid id, project_id, account_id;
    int64_t expires_us;
};

static void scopes_check(struct rpc_call *call, const Forge__V1__CreateApiKeyRequest *in, unsigned *out)
{
    unsigned scopes = 0;
    if (in->n_scopes == 0)
        rpc_call_violation(call, "scopes", "at least one is required");
    for (size_t i = 0; i < in->n_scopes; i++) {
        if (in->scopes[i] < FORGE__V1__SCOPE__SCOPE_READ || in->scopes[i] > FORGE__V1__SCOPE__SCOPE_INGEST) {
            rpc_call_violation(call, "scopes", "must be SCOPE_READ, SCOPE_WRITE, SCOPE_ADMIN or SCOPE_INGEST");
            return;
        }
        unsigned bit = 1u << (in->scopes[i] - 1);
        if ((scopes & bit) != 0) {
            rpc_call_violation(call, "scopes", "each at most once");
            return;
        }
        scopes |= bit;
    }
    *out = scopes;
}

/* Whom all of them need; ingesting writes. */
static enum auth_role scopes_role(unsigned scopes)
{
    if ((scopes & AUTH_SCOPE_ADMIN) != 0)
        return AUTH_ROLE_ADMIN;
    return (scopes & (AUTH_SCOPE_WRITE | AUTH_SCOPE_INGEST)) != 0 ? AUTH_ROLE_DEVELOPER : AUTH_ROLE_VIEWER;
}

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateApiKeyRequest *in, struct creation *creation)
{
    validate_name(call, "name", in->name);
    scopes_check(call, in, &creation->scopes);
    creation->has_project = in->project_id[0] != '\0' && validate_uuid(call, "project_id", in->project_id, &creation->project_id);
    creation->has_account =
        in->service_account_id[0] != '\0' && validate_uuid(call, "service_account_id", in->service_account_id, &creation->account_id);
    creation->expires = in->expire_time != NULL && validate_time(call, "expire_time", in->expire_time, &creation->expires_us);
    /* Against the time in the request itself: a replay of a key that has expired meanwhile must get its reply. */
    if (creation->expires && creation->expires_us <= forge_uuid_v7_ms(&call->request_id) * 1000)
        rpc_call_violation(call, "expire_time", "must be in the future");
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (!auth_principal_may_use_project(&call->principal, &creation->project_id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to one project and creates keys of that one only");
    if (!creation->has_account && call->principal.kind != AUTH_USER)
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "only a user with a session creates keys that act for their creator");
    if (scopes_role(creation->scopes) > call->principal.role)
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "a scope is above the caller's own role");
    return FORGE_OK;
}

static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreateApiKeyRequest *in, const struct creation *creation,
                                        const char *prefix, const uint8_t hash[FORGE_SHA256_SIZE])
{
    struct db_stmt *q = db_stmt(call->db, SQL_API_KEY_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->id);
    db_bind_text(q, in->name);
    db_bind_uuid(q, forge_uuid_is_nil(&call->principal.user_id) ? &call->principal.id : &call->principal.user_id);
    db_bind_uuid(q, creation->has_account ? NULL : &call->principal.user_id);
    db_bind_uuid(q, creation->has_account ? &creation->account_id : NULL);
    db_bind_uuid(q, creation->has_project ? &creation->project_id : NULL);
    db_bind_int32(q, (int32_t)creation->scopes);
    db_bind_text(q, prefix);
    db_bind_bytes(q, hash, FORGE_SHA256_SIZE);
    db_bind_time_us(q, call->now_us);
    if (creation->expires)
        db_bind_time_us(q, creation->expires_us);
    else
        db_bind_null(q);
    db_bind_int32(q, (int32_t)scopes_role(creation->scopes));
    return q;
}

/* Why there is no key. */
static forge_code create_refuse(struct rpc_call *call, const Forge__V1__CreateApiKeyRequest *in, const struct creation *creation,
                                const struct db_row *row)
{
    if (creation->has_account && !db_row_bool(row, "account_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "service account %s not found", in->service_account_id);
    if (!db_row_bool(row, "project_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    if (!db_row_bool(row, "role_suffices"))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "a scope is above the service account's role");
    return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "the service account is bound to another project");
}

static forge_code create_store(struct rpc_call *call, const Forge__V1__CreateApiKeyRequest *in, const struct creation *creation,
                               const char *token, Forge__V1__ApiKey *out)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    auth_token_hash(token, hash);
    const char *prefix = forge_arena_strndup(call->arena, token, AUTH_TOKEN_SHOWN_LENGTH);
    struct db_row row;
    forge_code rc = db_run_one(create_statement(call, in, creation, prefix, hash), &row, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "id"))
        return create_refuse(call, in, creation, &row);
    api_key_from_row(call, &row, out);
    return FORGE_OK;
}

/* The audit log shows the key as it was made or revoked, never its token. */
static void api_key_announce(struct rpc_call *call, const char *action, const struct forge_uuid *id, const Forge__V1__ApiKey *key)
{
    const struct forge_json_options options = {0};
    rpc_write_audit(call, action, "api_key", id, forge_json_from_message(&key->base, &options, call->arena));
    rpc_write_change(call, "api_key", id, NULL);
}

forge_code organization_create_api_key(struct rpc_call *call, const Forge__V1__CreateApiKeyRequest *in, Forge__V1__ApiKey *out)
{
    struct creation creation = {0};
    forge_code rc = create_check(call, in, &creation);
    if (rc != FORGE_OK)
        return rc;
    char token[AUTH_TOKEN_SIZE];
    forge_uuid_v7(&creation.id);
    auth_token_make(AUTH_TOKEN_API_KEY, &call->principal.organization_id, token);
    rpc_write_seal_reply(call);
    rc = create_store(call, in, &creation, token, out);
    if (rc == FORGE_OK) {
        api_key_announce(call, "api_key.create", &creation.id, out);
        out->token = forge_arena_strdup(call->arena, token);
    }
    forge_cleanse(token, sizeof token);
    return rc;
}

forge_code organization_revoke_api_key(struct rpc_call *call, const Forge__V1__RevokeApiKeyRequest *in, Forge__V1__ApiKey *out)
{
    struct forge_uuid id;
    if (!validate_uuid(call, "id", in->id, &id))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_API_KEY_REVOKE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "API key", in->id, &row);
    if (rc != FORGE_OK)
        return rc;
    api_key_from_row(call, &row, out);
    if (db_row_time_us(&row, "revoked_at") == call->now_us)
        api_key_announce(call, "api_key.revoke", &id, out);
    return FORGE_OK;
}

/* --- ListApiKeys --- */

/* What ListApiKeys filters by, checked; "" in the request is any. */
struct filter {
    struct forge_uuid project_id, creator_user_id, service_account_id;
    const char *text; /* all of it, for page tokens */
};

static void filter_check(struct rpc_call *call, const Forge__V1__ListApiKeysRequest *in, struct filter *filter)
{
    if (in->project_id[0] != '\0')
        validate_uuid(call, "project_id", in->project_id, &filter->project_id);
    if (in->creator_user_id[0] != '\0')
        validate_uuid(call, "creator_user_id", in->creator_user_id, &filter->creator_user_id);
    if (in->service_account_id[0] != '\0')
        validate_uuid(call, "service_account_id", in->service_account_id, &filter->service_account_id);
    filter->text =
        forge_arena_printf(call->arena, "%s|%s|%s|%d", in->project_id, in->creator_user_id, in->service_account_id, in->show_revoked != 0);
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListApiKeysRequest *in, const struct filter *filter,
                           const struct rpc_page *page, struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, SQL_API_KEY_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, page->has_key ? &page->last_id : NULL);
    db_bind_uuid(q, in->project_id[0] != '\0' ? &filter->project_id : NULL);
    db_bind_uuid(q, in->creator_user_id[0] != '\0' ? &filter->creator_user_id : NULL);
    db_bind_uuid(q, in->service_account_id[0] != '\0' ? &filter->service_account_id : NULL);
    if (in->show_revoked)
        db_bind_null(q);
    else
        db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, page->size + 1);
    return db_run_many(q, rows, &call->error);
}

/* A key that is bound to a project sees the keys of that one, as it may revoke those only. */
forge_code organization_list_api_keys(struct rpc_call *call, const Forge__V1__ListApiKeysRequest *in, Forge__V1__ListApiKeysResponse *out)
{
    struct filter filter = {0};
    struct rpc_page page;
    struct db_rows rows;
    struct forge_uuid last = {0};
    filter_check(call, in, &filter);
    size_t filter_size = filter.text != NULL ? strlen(filter.text) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter.text, filter_size, &page);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = list_run(call, in, &filter, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->api_keys = reply_list(call, &rows, page.size, &forge__v1__api_key__descriptor, api_key_from_row, &out->n_api_keys);
    if (rows.count > page.size && out->n_api_keys > 0 && forge_uuid_parse(out->api_keys[out->n_api_keys - 1]->id, &last))
        out->next_page_token = rpc_page_next(call, filter.text, filter_size, NULL, 0, &last);
    return FORGE_OK;
}
