#include "auth/authenticate.h"

#include <string.h>

static forge_code refuse(struct forge_error *error, const char *why)
{
    return forge_error_set(error, FORGE_UNAUTHENTICATED, "%s", why);
}

forge_code auth_credential_read(const char *token, struct auth_credential *out, struct forge_error *error)
{
    struct auth_credential credential;
    if (!auth_token_parse(token, &credential.kind, &credential.organization_id))
        return refuse(error, "authorization is not a token of this server");
    auth_token_hash(token, credential.hash);
    *out = credential;
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

static forge_code read_api_key(const struct db_row *row, int64_t now_us, struct auth_principal *out, struct forge_error *error)
{
    forge_code code = check_alive(row, now_us, error);
    if (code != FORGE_OK)
        return code;
    if (!db_row_is_null(row, "revoked_at"))
        return refuse(error, "the API key was revoked");
    if (!db_row_is_null(row, "project_deleted_at"))
        return refuse(error, "the project of this API key was deleted");
    enum auth_role creator = role_read(db_row_text(row, "role"));
    out->kind = AUTH_API_KEY;
    out->scopes = (unsigned)db_row_int32(row, "scopes");
    /* Ingesting writes: a creator who may no longer write takes the scope along. */
    if (creator < AUTH_ROLE_DEVELOPER)
        out->scopes &= ~(unsigned)AUTH_SCOPE_INGEST;
    out->role = scopes_role(out->scopes) < creator ? scopes_role(out->scopes) : creator;
    db_row_uuid(row, "id", &out->id);
    db_row_uuid(row, "user_id", &out->user_id);
    if (!db_row_is_null(row, "project_id"))
        db_row_uuid(row, "project_id", &out->project_id);
    out->expires_us = db_row_is_null(row, "expires_at") ? 0 : db_row_time_us(row, "expires_at");
    return FORGE_OK;
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

forge_code auth_authenticate(struct db_session *session, const struct auth_credential *credential, int64_t now_us,
                             struct auth_principal *out, struct forge_error *error)
{
    static const enum sql_id statements[] = {
        [AUTH_TOKEN_API_KEY] = SQL_AUTH_API_KEY,
        [AUTH_TOKEN_SESSION] = SQL_AUTH_SESSION,
        [AUTH_TOKEN_OPERATOR] = SQL_AUTH_OPERATOR_TOKEN,
    };
    db_session_bind_tenant(session, &credential->organization_id);
    struct db_stmt *statement = db_stmt(session, statements[credential->kind]);
    if (credential->kind != AUTH_TOKEN_OPERATOR)
        db_bind_uuid(statement, &credential->organization_id);
    db_bind_bytes(statement, credential->hash, sizeof credential->hash);
    struct db_row row;
    bool found;
    forge_code code = db_run_optional(statement, &row, &found, error);
    if (code != FORGE_OK)
        return code;
    if (!found)
        return refuse(error, "the credential is not known");
    struct auth_principal principal = {.organization_id = credential->organization_id};
    switch (credential->kind) {
    case AUTH_TOKEN_API_KEY:
        code = read_api_key(&row, now_us, &principal, error);
        break;
    case AUTH_TOKEN_SESSION:
        code = read_session(&row, now_us, &principal, error);
        break;
    case AUTH_TOKEN_OPERATOR:
        code = read_operator_token(&row, now_us, &principal, error);
        break;
    }
    if (code == FORGE_OK)
        *out = principal;
    return code;
}
