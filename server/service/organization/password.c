/* OrganizationService: people change their own passwords. */
#include "auth/password.h"

#include "auth/lockout.h"
#include "db/tx.h"
#include "rpc/write.h"
#include "service/organization/user.h"
#include "service/reply.h"

#include "rpc_table.h"

#include <string.h>

static forge_code change_check(struct rpc_call *call, const Forge__V1__ChangePasswordRequest *in)
{
    size_t length = strlen(in->current_password);
    if (length < 1 || length > AUTH_PASSWORD_MAX)
        rpc_call_violation(call, "current_password", "must be 1 to %d bytes", AUTH_PASSWORD_MAX);
    user_password_check(call, "new_password", in->new_password);
    if (length > 0 && strcmp(in->current_password, in->new_password) == 0)
        rpc_call_violation(call, "new_password", "must differ from the current one");
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

/* The count of a wrong password must stay although the write is refused: it has a transaction of its own, after the write's is over. */
static forge_code refuse_wrong(struct rpc_call *call, const struct auth_lockout *lockout)
{
    bool unknown;
    db_tx_rollback(call->db);
    db_tx_begin(call->db);
    auth_lockout_queue_failure(lockout, call->db, call->now_us);
    forge_code rc = db_tx_commit(call->db, &unknown, &call->error);
    if (rc != FORGE_OK)
        return rc;
    return rpc_call_fail_reason(call, FORGE_PERMISSION_DENIED, "WRONG_PASSWORD", "current_password is wrong");
}

/* Reads the hash, which the caller's next statement compares again, and checks the password against it. The claim went out with the first
 * flight, so that a repeat of a change that was made gets its reply and not "wrong password"; the transaction holds nothing else meanwhile.
 * Failures count for the account as those of logins do. */
static forge_code verify(struct rpc_call *call, const char *password, struct auth_lockout *lockout, const char **out_hash)
{
    struct db_stmt *find = db_stmt(call->db, SQL_PASSWORD_FIND);
    db_bind_uuid(find, &call->principal.organization_id);
    db_bind_uuid(find, &call->principal.user_id);
    struct db_row row;
    bool found, matches = false;
    forge_code rc = db_run_optional(find, &row, &found, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (!found)
        return rpc_call_fail(call, FORGE_UNAUTHENTICATED, "the user of this session was deleted");
    *out_hash = db_row_text_or_empty(&row, "password_hash");
    auth_lockout_init(lockout, rpc_server_settings(call->server)->keys, db_row_text_or_empty(&row, "email"), call->peer_address);
    rc = auth_lockout_check(lockout, call->db, call->now_us, &call->error);
    if (rc == FORGE_OK)
        rc = auth_password_verify(password, *out_hash, &matches, &call->error);
    if (rc == FORGE_OK && !matches)
        rc = refuse_wrong(call, lockout);
    return rc;
}

static forge_code store(struct rpc_call *call, const char *new_hash, const char *old_hash)
{
    struct db_stmt *change = db_stmt(call->db, SQL_PASSWORD_CHANGE);
    db_bind_uuid(change, &call->principal.organization_id);
    db_bind_uuid(change, &call->principal.user_id);
    db_bind_text(change, new_hash);
    db_bind_time_us(change, call->now_us);
    db_bind_text(change, old_hash);
    struct db_row row;
    bool found;
    forge_code rc = db_run_optional(change, &row, &found, &call->error);
    if (rc == FORGE_OK && !found)
        return rpc_call_fail(call, FORGE_ABORTED, "the user was changed meanwhile");
    return rc;
}

forge_code organization_change_password(struct rpc_call *call, const Forge__V1__ChangePasswordRequest *in, Google__Protobuf__Empty *out)
{
    (void)out;
    const struct auth_principal *principal = &call->principal;
    struct auth_lockout *lockout = forge_arena_calloc(call->arena, 1, sizeof *lockout); /* what is queued outlives this function */
    char new_hash[AUTH_PASSWORD_HASH_SIZE];
    const char *old_hash = NULL;
    if (forge_uuid_is_nil(&principal->session_id))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the credential is not a session");
    forge_code rc = change_check(call, in);
    if (rc == FORGE_OK && lockout == NULL)
        rc = rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the call needs too much memory");
    if (rc == FORGE_OK)
        rc = auth_password_hash(in->new_password, new_hash, &call->error);
    if (rc == FORGE_OK)
        rc = verify(call, in->current_password, lockout, &old_hash);
    if (rc == FORGE_OK)
        rc = store(call, new_hash, old_hash);
    if (rc != FORGE_OK)
        return rc;
    auth_lockout_queue_success(lockout, call->db);
    user_queue_session_end(call, &principal->user_id, &principal->session_id);
    rpc_write_audit(call, "user.change_password", "user", &principal->user_id, NULL);
    rpc_write_change(call, "user", &principal->user_id, NULL);
    return FORGE_OK;
}
