/* OrganizationService: sessions. */
#include "auth/lockout.h"
#include "auth/password.h"
#include "auth/token.h"
#include "db/tx.h"
#include "rpc/write.h"
#include "service/organization/user.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

static const int64_t SESSION_US = INT64_C(12) * 3600 * 1000000;

/* Login looks an e-mail up before it knows a tenant, checks the password outside any transaction, and writes session or failure in a
 * transaction of its own, which commits although the answer may be UNAUTHENTICATED. */
struct login {
    const char *email;
    struct auth_lockout lockout;
    bool found; /* an enabled user of an organization that is not deleted */
    struct db_row user;
    struct forge_uuid organization_id, user_id;
};

/* Both flights also for an e-mail that nobody has, so that the time of the answer does not tell. */
static forge_code login_find(struct rpc_call *call, struct login *login)
{
    struct db_row row;
    bool known;
    struct db_stmt *find = db_stmt(call->db, SQL_LOGIN_FIND);
    db_bind_text(find, login->email);
    forge_code rc = db_run_optional(find, &row, &known, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (known) {
        db_row_uuid(&row, "organization_id", &login->organization_id);
        db_row_uuid(&row, "user_id", &login->user_id);
    }
    db_session_bind_tenant(call->db, &login->organization_id);
    struct db_stmt *user = db_stmt(call->db, SQL_LOGIN_USER);
    db_bind_uuid(user, &login->organization_id);
    db_bind_uuid(user, &login->user_id);
    rc = db_run_optional(user, &login->user, &known, &call->error);
    if (rc == FORGE_OK)
        login->found = known && !db_row_bool(&login->user, "disabled") && db_row_is_null(&login->user, "deleted_at");
    return rc;
}

static forge_code login_refuse(struct rpc_call *call, struct login *login)
{
    bool unknown;
    db_tx_begin(call->db);
    auth_lockout_queue_failure(&login->lockout, call->db, call->now_us);
    forge_code rc = db_tx_commit(call->db, &unknown, &call->error);
    return rc == FORGE_OK ? rpc_call_fail(call, FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password") : rc;
}

static void session_queue(struct rpc_call *call, const struct login *login, const uint8_t hash[FORGE_SHA256_SIZE],
                          const struct forge_uuid *session_id)
{
    struct db_stmt *drop = db_stmt(call->db, SQL_LOGIN_DROP_EXPIRED_SESSIONS);
    db_bind_uuid(drop, &login->organization_id);
    db_bind_uuid(drop, &login->user_id);
    db_bind_time_us(drop, call->now_us);
    db_queue(drop);
    struct db_stmt *open = db_stmt(call->db, SQL_LOGIN_OPEN_SESSION);
    db_bind_uuid(open, &login->organization_id);
    db_bind_uuid(open, session_id);
    db_bind_uuid(open, &login->user_id);
    db_bind_bytes(open, hash, FORGE_SHA256_SIZE);
    db_bind_time_us(open, call->now_us);
    db_bind_time_us(open, call->now_us + SESSION_US);
    db_queue(open);
}

/* Writes the session; NOT_FOUND when the password was changed or the user disabled since it was checked. */
static forge_code session_write(struct rpc_call *call, const struct login *login, const uint8_t hash[FORGE_SHA256_SIZE])
{
    struct forge_uuid session_id;
    struct db_row row;
    bool unknown;
    forge_uuid_v7(&session_id);
    db_tx_begin(call->db);
    auth_lockout_queue_success(&login->lockout, call->db);
    session_queue(call, login, hash, &session_id);
    struct db_stmt *note = db_stmt(call->db, SQL_LOGIN_NOTE);
    db_bind_uuid(note, &login->organization_id);
    db_bind_uuid(note, &login->user_id);
    db_bind_time_us(note, call->now_us);
    db_bind_text(note, db_row_text(&login->user, "password_hash"));
    forge_code rc = db_run_one(note, &row, &call->error);
    if (rc == FORGE_OK)
        return db_tx_commit(call->db, &unknown, &call->error);
    db_tx_rollback(call->db);
    return rc;
}

static forge_code login_accept(struct rpc_call *call, const struct login *login, Forge__V1__LoginResponse *out)
{
    char token[AUTH_TOKEN_SIZE];
    uint8_t hash[FORGE_SHA256_SIZE];
    auth_token_make(AUTH_TOKEN_SESSION, &login->organization_id, token);
    auth_token_hash(token, hash);
    forge_code rc = session_write(call, login, hash);
    if (rc == FORGE_OK) {
        out->token = forge_arena_strdup(call->arena, token);
        out->expire_time = reply_time_us(call, call->now_us + SESSION_US);
        out->user = user_from_row(call, &login->user);
        if (out->user != NULL)
            out->user->last_login_time = reply_time_us(call, call->now_us);
    }
    forge_cleanse(token, sizeof token);
    return rc == FORGE_NOT_FOUND ? rpc_call_fail(call, FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password") : rc;
}

forge_code organization_login(struct rpc_call *call, const Forge__V1__LoginRequest *in, Forge__V1__LoginResponse *out)
{
    struct login login = {.email = validate_email(call, "email", in->email)};
    size_t length = strlen(in->password);
    if (length < 1 || length > AUTH_PASSWORD_MAX)
        rpc_call_violation(call, "password", "must be 1 to %d bytes", AUTH_PASSWORD_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (login.email == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the call needs too much memory");
    auth_lockout_init(&login.lockout, rpc_server_settings(call->server)->keys, login.email, call->peer_address);
    forge_code rc = auth_lockout_check(&login.lockout, call->db, call->now_us, &call->error);
    if (rc == FORGE_OK)
        rc = login_find(call, &login);
    bool matches = false;
    if (rc == FORGE_OK)
        rc = auth_password_verify(in->password, login.found ? db_row_text(&login.user, "password_hash") : NULL, &matches, &call->error);
    if (rc != FORGE_OK)
        return rc;
    return matches ? login_accept(call, &login, out) : login_refuse(call, &login);
}

forge_code organization_logout(struct rpc_call *call, const Forge__V1__LogoutRequest *in, Google__Protobuf__Empty *out)
{
    (void)out;
    const struct auth_principal *principal = &call->principal;
    if (forge_uuid_is_nil(&principal->session_id))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the credential is not a session");
    struct db_stmt *q = db_stmt(call->db, SQL_LOGOUT);
    db_bind_uuid(q, &principal->organization_id);
    db_bind_uuid(q, &principal->user_id);
    db_bind_uuid(q, in->all_sessions ? NULL : &principal->session_id);
    forge_code rc = db_run_command(q, NULL, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (in->all_sessions)
        rpc_write_change(call, "user", &principal->user_id, NULL);
    else
        rpc_write_change(call, "session", &principal->session_id, &principal->user_id);
    return FORGE_OK;
}
