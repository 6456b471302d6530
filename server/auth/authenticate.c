#include "auth/authenticate.h"

#include <string.h>

static forge_code refuse(struct forge_error *error, const char *why)
{
    return forge_error_set(error, FORGE_UNAUTHENTICATED, "%s", why);
}

forge_code auth_credential_read(const char *token, struct auth_credential *out, struct forge_error *error)
{
    struct auth_credential credential = {0};
    if (!auth_token_parse(token, &credential.kind, &credential.organization_id))
        return refuse(error, "authorization is not a token of this server");
    auth_token_hash(token, credential.hash);
    *out = credential;
    return FORGE_OK;
}

void auth_credential_of_certificate(const struct forge_tls_peer *peer, struct auth_credential *out)
{
    static const char label[] = "forge.certificate.v1";
    struct forge_sha256_state *state = forge_sha256_new();
    *out = (struct auth_credential){.certificate = peer};
    forge_sha256_update(state, label, sizeof label);
    forge_sha256_update(state, peer->key_sha256, sizeof peer->key_sha256);
    forge_sha256_update(state, peer->spiffe_id, strlen(peer->spiffe_id));
    forge_sha256_final(state, out->hash);
}

forge_code auth_certificate_find(struct db_session *session, struct auth_credential *credential, struct forge_error *error)
{
    static const char digits[] = "0123456789abcdef";
    const struct forge_tls_peer *peer = credential->certificate;
    char key[2 * sizeof peer->key_sha256 + 1] = "";
    struct db_row row;
    bool found;
    if (!peer)
        return FORGE_OK;
    for (size_t i = 0; i < sizeof peer->key_sha256; i++) {
        key[2 * i] = digits[peer->key_sha256[i] >> 4];
        key[2 * i + 1] = digits[peer->key_sha256[i] & 15];
    }
    struct db_stmt *statement = db_stmt(session, SQL_AUTH_CERTIFICATE);
    db_bind_text(statement, key);
    db_bind_text(statement, peer->spiffe_id);
    forge_code code = db_run_optional(statement, &row, &found, error);
    if (code != FORGE_OK)
        return code;
    if (!found)
        return refuse(error, "there is no token, and the client certificate is no service account's");
    db_row_uuid(&row, "organization_id", &credential->organization_id);
    db_row_uuid(&row, "service_account_id", &credential->service_account_id);
    return FORGE_OK;
}

static enum auth_role role_read(const char *text)
{
    if (strcmp(text, "admin") == 0)
        return AUTH_ROLE_ADMIN;
    if (strcmp(text, "developer") == 0)
        return AUTH_ROLE_DEVELOPER;
    return strcmp(text, "viewer") == 0 ? AUTH_ROLE_VIEWER : AUTH_ROLE_NONE;
}

static enum auth_role scopes_role(unsigned scopes)
{
    if (scopes & AUTH_SCOPE_ADMIN)
        return AUTH_ROLE_ADMIN;
    if (scopes & AUTH_SCOPE_WRITE)
        return AUTH_ROLE_DEVELOPER;
    return scopes & AUTH_SCOPE_READ ? AUTH_ROLE_VIEWER : AUTH_ROLE_NONE;
}

/* Expiry, user and organization: what sessions and keys have in common. */
static forge_code check_alive(const struct db_row *row, int64_t now_us, struct forge_error *error)
{
    if (!db_row_is_null(row, "expires_at") && db_row_time_us(row, "expires_at") <= now_us)
        return refuse(error, "the credential has expired");
    if (!db_row_is_null(row, "deleted_at"))
        return refuse(error, "the organization of this credential was deleted");
    if (db_row_bool(row, "disabled"))
        return refuse(error, "the user of this credential is disabled");
    return FORGE_OK;
}

static forge_code read_session(const struct db_row *row, int64_t now_us, struct auth_principal *out, struct forge_error *error)
{
    forge_code code = check_alive(row, now_us, error);
    if (code != FORGE_OK)
        return code;
    out->kind = AUTH_USER;
    out->role = role_read(db_row_text(row, "role"));
    db_row_uuid(row, "user_id", &out->id);
    out->user_id = out->id;
    db_row_uuid(row, "id", &out->session_id);
    out->expires_us = db_row_time_us(row, "expires_at");
    return FORGE_OK;
}

/* A key acts for its creator or for a service account: its role is the lower one of its scopes' and its owner's. */
static void read_scopes(const struct db_row *row, enum auth_role owner, struct auth_principal *out)
{
    out->kind = AUTH_API_KEY;
    out->scopes = (unsigned)db_row_int32(row, "scopes");
    /* Ingesting writes: an owner who may no longer write takes the scope along. */
    if (owner < AUTH_ROLE_DEVELOPER)
        out->scopes &= ~(unsigned)AUTH_SCOPE_INGEST;
    out->role = scopes_role(out->scopes) < owner ? scopes_role(out->scopes) : owner;
}

/* An API key, or a service account itself, which has no scopes. */
static forge_code read_program(const struct db_row *row, int64_t now_us, struct auth_principal *out, struct forge_error *error)
{
    forge_code code = check_alive(row, now_us, error);
    if (code != FORGE_OK)
        return code;
    bool is_account = db_row_is_null(row, "scopes");
    enum auth_role owner = role_read(db_row_text(row, "role"));
    if (!db_row_is_null(row, "revoked_at"))
        return refuse(error, "the API key was revoked");
    if (!db_row_is_null(row, "project_deleted_at"))
        return refuse(error, is_account ? "the project of this service account was deleted" : "the project of this API key was deleted");
    if (is_account) {
        out->kind = AUTH_SERVICE_ACCOUNT;
        out->role = owner;
    } else {
        read_scopes(row, owner, out);
    }
    db_row_uuid(row, "id", &out->id);
    if (!db_row_is_null(row, "user_id"))
        db_row_uuid(row, "user_id", &out->user_id);
    if (!db_row_is_null(row, "service_account_id"))
        db_row_uuid(row, "service_account_id", &out->service_account_id);
    if (!db_row_is_null(row, "project_id"))
        db_row_uuid(row, "project_id", &out->project_id);
    out->calls_in_flight_max = (unsigned)db_row_int32(row, "calls_in_flight_max");
    out->expires_us = db_row_is_null(row, "expires_at") ? 0 : db_row_time_us(row, "expires_at");
    return FORGE_OK;
}

static forge_code read_certificate(const struct db_row *row, int64_t now_us, struct auth_principal *out, struct forge_error *error)
{
    if (!db_row_bool(row, "certificate_login"))
        return refuse(error, "the service account of this client certificate needs a token");
    return read_program(row, now_us, out, error);
}

static forge_code read_operator_token(const struct db_row *row, int64_t now_us, struct auth_principal *out, struct forge_error *error)
{
    if (db_row_time_us(row, "expires_at") <= now_us)
        return refuse(error, "the operator token has expired; forged bootstrap token makes a new one");
    out->kind = AUTH_OPERATOR;
    db_row_uuid(row, "id", &out->id);
    out->expires_us = db_row_time_us(row, "expires_at");
    return FORGE_OK;
}

static struct db_stmt *find_statement(struct db_session *session, const struct auth_credential *credential)
{
    static const enum sql_id statements[] = {
        [AUTH_TOKEN_API_KEY] = SQL_AUTH_API_KEY,
        [AUTH_TOKEN_SESSION] = SQL_AUTH_SESSION,
        [AUTH_TOKEN_OPERATOR] = SQL_AUTH_OPERATOR_TOKEN,
    };
    struct db_stmt *statement = db_stmt(session, credential->certificate ? SQL_AUTH_SERVICE_ACCOUNT : statements[credential->kind]);
    if (credential->certificate || credential->kind != AUTH_TOKEN_OPERATOR)
        db_bind_uuid(statement, &credential->organization_id);
    if (credential->certificate)
        db_bind_uuid(statement, &credential->service_account_id);
    else
        db_bind_bytes(statement, credential->hash, sizeof credential->hash);
    return statement;
}

static forge_code read_token(const struct db_row *row, enum auth_token_kind kind, int64_t now_us, struct auth_principal *out,
                             struct forge_error *error)
{
    switch (kind) {
    case AUTH_TOKEN_API_KEY:
        return read_program(row, now_us, out, error);
    case AUTH_TOKEN_SESSION:
        return read_session(row, now_us, out, error);
    case AUTH_TOKEN_OPERATOR:
        break;
    }
    return read_operator_token(row, now_us, out, error);
}

forge_code auth_authenticate(struct db_session *session, const struct auth_credential *credential, int64_t now_us,
                             struct auth_principal *out, struct forge_error *error)
{
    struct db_row row;
    bool found;
    db_session_bind_tenant(session, &credential->organization_id);
    forge_code code = db_run_optional(find_statement(session, credential), &row, &found, error);
    if (code != FORGE_OK)
        return code;
    if (!found)
        return refuse(error, "the credential is not known");
    struct auth_principal principal = {.organization_id = credential->organization_id};
    if (credential->certificate)
        code = read_certificate(&row, now_us, &principal, error);
    else
        code = read_token(&row, credential->kind, now_us, &principal, error);
    if (code == FORGE_OK)
        *out = principal;
    return code;
}
