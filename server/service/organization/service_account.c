/* OrganizationService: service accounts. How their tokens and certificates are checked: auth/authenticate.c. */
#include "auth/token.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"
#include "wire/tls.h"

#include "rpc_table.h"

#include <string.h>

enum { CALLS_IN_FLIGHT_MAX = 4096 };

static void service_account_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__ServiceAccount *out = message;
    size_t key_size = 0;
    const uint8_t *key = db_row_bytes(row, "public_key_sha256", &key_size);
    out->id = db_row_uuid_text(row, "id");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->role = reply_role(db_row_text(row, "role"));
    out->project_id = db_row_uuid_text(row, "project_id");
    out->san_uri = db_row_text_or_empty(row, "san_uri");
    out->public_key_sha256 = key != NULL ? reply_hex(call, key, key_size) : NULL;
    out->certificate_login = db_row_bool(row, "certificate_login");
    out->calls_in_flight_max = db_row_int32(row, "calls_in_flight_max");
    out->token_prefix = db_row_text_or_empty(row, "token_prefix");
    out->expire_time = reply_time(call, row, "expires_at");
    out->creator_id = db_row_uuid_text(row, "created_by");
    out->create_time = reply_time(call, row, "created_at");
    out->last_use_time = reply_time(call, row, "last_used_at");
}

/* What CreateServiceAccount stores, checked. */
struct creation {
    const char *role;
    bool has_project, has_key, expires;
    struct forge_uuid id, project_id;
    uint8_t public_key[FORGE_SHA256_SIZE];
    int64_t expires_us;
};

/* A scheme and what a certificate can hold: the bytes of RFC 3986. It is compared byte by byte. */
static void uri_check(struct rpc_call *call, const char *uri)
{
    size_t length = strlen(uri), scheme = strspn(uri, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    bool valid = length <= FORGE_TLS_URI_MAX && scheme > 0 && uri[scheme] == ':' && uri[scheme + 1] != '\0';
    for (size_t i = 0; valid && i < length; i++)
        valid = uri[i] > 0x20 && uri[i] < 0x7f;
    if (length > 0 && !valid)
        rpc_call_violation(call, "san_uri", "must be a URI of at most %d bytes", FORGE_TLS_URI_MAX);
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

static void key_check(struct rpc_call *call, const char *text, struct creation *creation)
{
    bool valid = strlen(text) == 2 * sizeof creation->public_key;
    for (size_t i = 0; valid && i < sizeof creation->public_key; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        valid = high >= 0 && low >= 0;
        creation->public_key[i] = (uint8_t)(valid ? high << 4 | low : 0);
    }
    creation->has_key = text[0] != '\0';
    if (creation->has_key && !valid)
        rpc_call_violation(call, "public_key_sha256", "must be %zu hexadecimal digits", 2 * sizeof creation->public_key);
}

static void credentials_check(struct rpc_call *call, const Forge__V1__CreateServiceAccountRequest *in, struct creation *creation)
{
    uri_check(call, in->san_uri);
    key_check(call, in->public_key_sha256, creation);
    if (in->certificate_login && in->san_uri[0] == '\0' && !creation->has_key)
        rpc_call_violation(call, "certificate_login", "needs san_uri or public_key_sha256");
    if (in->without_token && !in->certificate_login)
        rpc_call_violation(call, "without_token", "needs certificate_login: nothing could use the account");
    creation->expires = in->expire_time != NULL && validate_time(call, "expire_time", in->expire_time, &creation->expires_us);
    if (creation->expires && in->without_token)
        rpc_call_violation(call, "expire_time", "is the token's, and none is made");
    else if (creation->expires && creation->expires_us <= forge_uuid_v7_ms(&call->request_id) * 1000)
        rpc_call_violation(call, "expire_time", "must be in the future"); /* of the request itself: a replay must get its reply */
}

/* The role needs no look at the caller's: only admins come here. */
static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateServiceAccountRequest *in, struct creation *creation)
{
    validate_name(call, "name", in->name);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    creation->role = validate_role(call, "role", in->role);
    creation->has_project = in->project_id[0] != '\0' && validate_uuid(call, "project_id", in->project_id, &creation->project_id);
    credentials_check(call, in, creation);
    if (in->calls_in_flight_max < 0 || in->calls_in_flight_max > CALLS_IN_FLIGHT_MAX)
        rpc_call_violation(call, "calls_in_flight_max", "must be 0 to %d", CALLS_IN_FLIGHT_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (!auth_principal_may_use_project(&call->principal, &creation->project_id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to one project and creates accounts of that one only");
    return FORGE_OK;
}

/* token NULL: none. hash is its room. */
static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreateServiceAccountRequest *in,
                                        const struct creation *creation, const char *token, uint8_t hash[FORGE_SHA256_SIZE])
{
    struct db_stmt *q = db_stmt(call->db, SQL_SERVICE_ACCOUNT_CREATE);
    if (token != NULL)
        auth_token_hash(token, hash);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->id);
    db_bind_text(q, in->name);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_text(q, creation->role);
    db_bind_uuid(q, creation->has_project ? &creation->project_id : NULL);
    db_bind_text(q, in->san_uri[0] != '\0' ? in->san_uri : NULL);
    db_bind_bytes(q, creation->has_key ? creation->public_key : NULL, sizeof creation->public_key);
    db_bind_bool(q, in->certificate_login);
    db_bind_int32(q, in->calls_in_flight_max);
    db_bind_text(q, token != NULL ? forge_arena_strndup(call->arena, token, AUTH_TOKEN_SHOWN_LENGTH) : NULL);
    db_bind_bytes(q, token != NULL ? hash : NULL, FORGE_SHA256_SIZE);
    if (creation->expires)
        db_bind_time_us(q, creation->expires_us);
    else
        db_bind_null(q);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    return q;
}

/* A certificate belongs to one account of the whole installation, so this may tell of another organization's, as an e-mail may. */
static forge_code create_conflict(struct rpc_call *call, forge_code rc, const Forge__V1__CreateServiceAccountRequest *in)
{
    if (reply_violates(call, "ix_service_accounts_name"))
        return rpc_call_fail(call, rc, "a service account named \"%s\" exists already", in->name);
    if (reply_violates(call, "certificate_names_pkey"))
        return rpc_call_fail(call, rc, "a service account with this SAN URI or public key exists already");
    return rc; /* the claim: rpc/write answers what is stored */
}

static forge_code create_store(struct rpc_call *call, const Forge__V1__CreateServiceAccountRequest *in, const struct creation *creation,
                               const char *token, Forge__V1__ServiceAccount *out)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    struct db_row row;
    bool found;
    forge_code rc = db_run_optional(create_statement(call, in, creation, token, hash), &row, &found, &call->error);
    if (rc == FORGE_ALREADY_EXISTS)
        return create_conflict(call, rc, in);
    if (rc != FORGE_OK)
        return rc;
    if (!found)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    service_account_from_row(call, &row, out);
    return FORGE_OK;
}

/* The audit log shows the account, never its token. */
static void audit(struct rpc_call *call, const char *action, const struct forge_uuid *id, const Forge__V1__ServiceAccount *account)
{
    const struct forge_json_options options = {0};
    rpc_write_audit(call, action, "service_account", id, forge_json_from_message(&account->base, &options, call->arena));
}

forge_code organization_create_service_account(struct rpc_call *call, const Forge__V1__CreateServiceAccountRequest *in,
                                               Forge__V1__ServiceAccount *out)
{
    struct creation creation = {0};
    forge_code rc = create_check(call, in, &creation);
    if (rc != FORGE_OK)
        return rc;
    char token[AUTH_TOKEN_SIZE];
    forge_uuid_v7(&creation.id);
    auth_token_make(AUTH_TOKEN_API_KEY, &call->principal.organization_id, token);
    rpc_write_seal_reply(call);
    rc = create_store(call, in, &creation, in->without_token ? NULL : token, out);
    if (rc == FORGE_OK) {
        audit(call, "service_account.create", &creation.id, out);
        /* A key counts before a URI: a certificate that another account's URI let in until now may be this account's. */
        if (creation.has_key)
            rpc_write_change(call, "service_account", NULL, NULL);
        if (!in->without_token)
            out->token = forge_arena_strdup(call->arena, token);
    }
    forge_cleanse(token, sizeof token);
    return rc;
}

forge_code organization_list_service_accounts(struct rpc_call *call, const Forge__V1__ListServiceAccountsRequest *in,
                                              Forge__V1__ListServiceAccountsResponse *out)
{
    struct rpc_page page;
    size_t prefix_size = strlen(in->name_prefix);
    rpc_page_read(call, in->page_size, in->page_token, in->name_prefix, prefix_size, &page);
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);

    struct db_stmt *q = db_stmt(call->db, SQL_SERVICE_ACCOUNT_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page.has_key ? page.last_name : "");
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, page.size + 1);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->service_accounts =
        reply_list(call, &rows, page.size, &forge__v1__service_account__descriptor, service_account_from_row, &out->n_service_accounts);
    if (rows.count > page.size && out->n_service_accounts > 0)
        out->next_page_token = rpc_page_next(call, in->name_prefix, prefix_size, out->service_accounts[out->n_service_accounts - 1]->name,
                                             0, &(struct forge_uuid){0});
    return FORGE_OK;
}

forge_code organization_delete_service_account(struct rpc_call *call, const Forge__V1__DeleteServiceAccountRequest *in,
                                               Google__Protobuf__Empty *out)
{
    (void)out;
    struct forge_uuid id;
    if (!validate_uuid(call, "id", in->id, &id))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_SERVICE_ACCOUNT_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "service account", in->id, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__ServiceAccount account = FORGE__V1__SERVICE_ACCOUNT__INIT;
    service_account_from_row(call, &row, &account);
    audit(call, "service_account.delete", &id, &account);
    rpc_write_change(call, "service_account", &id, NULL);
    return FORGE_OK;
}
