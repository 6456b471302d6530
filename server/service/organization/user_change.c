/* OrganizationService: changes and deletion of users by an admin. */
#include "auth/password.h"
#include "db/stmt.h"
#include "rpc/write.h"
#include "service/organization/organization.h"
#include "service/organization/user.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

void user_queue_session_end(struct rpc_call *call, const struct forge_uuid *user_id, const struct forge_uuid *except)
{
    struct db_stmt *end = db_stmt(call->db, SQL_USER_END_SESSIONS);
    struct forge_uuid *ids = forge_arena_calloc(call->arena, 2, sizeof *ids); /* sent after the handler has returned */
    if (ids == NULL)
        return; /* sticky: seen before the commit */
    ids[0] = *user_id;
    if (except != NULL)
        ids[1] = *except;
    db_bind_uuid(end, &call->principal.organization_id);
    db_bind_uuid(end, &ids[0]);
    db_bind_uuid(end, except != NULL ? &ids[1] : NULL);
    db_queue(end);
}

static bool administers(const Forge__V1__User *user)
{
    return user->role == FORGE__V1__ROLE__ROLE_ADMIN && !user->disabled;
}

/* The organization must not be left without an enabled admin: row says who else there is. */
static forge_code check_admins(struct rpc_call *call, const struct db_row *row, const Forge__V1__User *before, bool still_administers)
{
    if (!administers(before) || still_administers || db_row_bool(row, "others_administer"))
        return FORGE_OK;
    return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "LAST_ADMIN", "%s is the last enabled admin of the organization",
                                before->email);
}

/* Runs a change of one user under the organization's lock: two admins who demote each other come one after the other. */
static forge_code run_locked(struct rpc_call *call, struct db_stmt *q, const char *id_text, struct db_row *out_row)
{
    organization_lock(call);
    return reply_run_found(call, q, "user", id_text, out_row);
}

/* --- UpdateUser --- */

enum { UPDATES_NAME = 1, UPDATES_ROLE = 2, UPDATES_DISABLED = 4, UPDATES_PASSWORD = 8 };

/* What UpdateUser stores, checked. */
struct update {
    struct forge_uuid id;
    unsigned fields;
    const char *role; /* NULL: as it is */
    char password_hash[AUTH_PASSWORD_HASH_SIZE];
};

static unsigned update_given(const Forge__V1__UpdateUserRequest *in)
{
    return (in->display_name[0] != '\0' ? UPDATES_NAME : 0u) | (in->role != FORGE__V1__ROLE__ROLE_UNSPECIFIED ? UPDATES_ROLE : 0u) |
           (in->disabled ? UPDATES_DISABLED : 0u) | (in->password[0] != '\0' ? UPDATES_PASSWORD : 0u);
}

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdateUserRequest *in, struct update *update)
{
    static const char *const paths[] = {"display_name", "role", "disabled", "password"};
    validate_uuid(call, "id", in->id, &update->id);
    update->fields = validate_update_mask(call, in->update_mask, paths, 4, update_given(in));
    if ((update->fields & UPDATES_NAME) != 0)
        validate_name_or_empty(call, "display_name", in->display_name);
    if ((update->fields & UPDATES_ROLE) != 0)
        update->role = validate_role(call, "role", in->role);
    if ((update->fields & UPDATES_PASSWORD) != 0)
        user_password_check(call, "password", in->password);
    validate_etag(call, "etag", in->etag);
    return organization_check_end(call);
}

static struct db_stmt *update_statement(struct rpc_call *call, const Forge__V1__UpdateUserRequest *in, const struct update *update)
{
    struct db_stmt *q = db_stmt(call->db, SQL_USER_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &update->id);
    db_bind_bool(q, (update->fields & UPDATES_NAME) != 0);
    db_bind_text(q, in->display_name[0] != '\0' ? in->display_name : NULL);
    db_bind_text(q, update->role);
    if ((update->fields & UPDATES_DISABLED) != 0)
        db_bind_bool(q, in->disabled);
    else
        db_bind_null(q);
    db_bind_text(q, (update->fields & UPDATES_PASSWORD) != 0 ? update->password_hash : NULL);
    db_bind_time_us(q, call->now_us);
    return q;
}

/* What the audit row shows of the user before; a new password shows as another password_change_time. */
static void before_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__User *before)
{
    before->email = db_row_text_or_empty(row, "email");
    before->display_name = db_row_text_or_empty(row, "old_name");
    before->role = reply_role(db_row_text(row, "old_role"));
    before->disabled = db_row_bool(row, "old_disabled");
    before->password_change_time = reply_time(call, row, "old_password_changed_at");
}

forge_code organization_update_user(struct rpc_call *call, const Forge__V1__UpdateUserRequest *in, Forge__V1__User *out)
{
    struct update update = {0};
    struct db_row row;
    forge_code rc = update_check(call, in, &update);
    if (rc == FORGE_OK && (update.fields & UPDATES_PASSWORD) != 0)
        rc = auth_password_hash(in->password, update.password_hash, &call->error);
    if (rc == FORGE_OK)
        rc = run_locked(call, update_statement(call, in, &update), in->id, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__User before = FORGE__V1__USER__INIT;
    before_from_row(call, &row, &before);
    user_read_row(call, &row, out);
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the user has changed since this etag was read");
    rc = check_admins(call, &row, &before, administers(out));
    if (rc != FORGE_OK)
        return rc;
    if ((update.fields & UPDATES_PASSWORD) != 0 || out->disabled)
        user_queue_session_end(call, &update.id, NULL);
    organization_audit_change(call, "user.update", "user", &update.id, &before.base, &out->base);
    rpc_write_change(call, "user", &update.id, NULL);
    return FORGE_OK;
}

/* --- DeleteUser --- */

forge_code organization_delete_user(struct rpc_call *call, const Forge__V1__DeleteUserRequest *in, Google__Protobuf__Empty *out)
{
    (void)out;
    struct forge_uuid id;
    struct db_row row;
    validate_uuid(call, "id", in->id, &id);
    validate_etag(call, "etag", in->etag);
    forge_code rc = organization_check_end(call);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_USER_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    rc = run_locked(call, q, in->id, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__User deleted = FORGE__V1__USER__INIT;
    user_read_row(call, &row, &deleted);
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version")))
        return rpc_call_fail(call, FORGE_ABORTED, "the user has changed since this etag was read");
    rc = check_admins(call, &row, &deleted, false);
    if (rc != FORGE_OK)
        return rc;
    organization_audit(call, "user.delete", "user", &id, &deleted.base);
    rpc_write_change(call, "user", &id, NULL);
    return FORGE_OK;
}
