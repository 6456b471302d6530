/* OrganizationService: users. What changes them: user_change.c; their own passwords: password.c. */
#include "service/organization/user.h"

#include "auth/password.h"
#include "db/stmt.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/organization/organization.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <ctype.h>
#include <string.h>

void user_read_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__User *user = message;
    user->id = db_row_uuid_text(row, "id");
    user->organization_id = db_row_uuid_text(row, "organization_id");
    user->email = db_row_text(row, "email");
    user->display_name = db_row_text(row, "name");
    user->role = reply_role(db_row_text(row, "role"));
    user->disabled = db_row_bool(row, "disabled");
    user->create_time = reply_time(call, row, "created_at");
    user->update_time = reply_time(call, row, "updated_at");
    user->password_change_time = reply_time(call, row, "password_changed_at");
    user->last_login_time = reply_time(call, row, "last_login_at");
    user->etag = reply_etag(call, row);
}

Forge__V1__User *user_from_row(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__User *user = reply_message(call, &forge__v1__user__descriptor);
    if (user != NULL)
        user_read_row(call, row, user);
    return user;
}

void user_password_check(struct rpc_call *call, const char *field, const char *password)
{
    const char *problem = auth_password_problem(password, rpc_server_settings(call->server)->development);
    if (problem != NULL)
        rpc_call_violation(call, field, "%s", problem);
}

/* --- CreateUser --- */

/* What CreateUser stores, checked. */
struct creation {
    struct forge_uuid id;
    const char *email, *name, *role;
    char password_hash[AUTH_PASSWORD_HASH_SIZE];
};

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateUserRequest *in, struct creation *creation)
{
    creation->email = validate_email(call, "email", in->email);
    validate_name_or_empty(call, "display_name", in->display_name);
    creation->name = in->display_name[0] != '\0' ? in->display_name : creation->email;
    creation->role = validate_role(call, "role", in->role);
    user_password_check(call, "password", in->password);
    return organization_check_end(call);
}

static struct db_stmt *create_statement(struct rpc_call *call, const struct creation *creation)
{
    struct db_stmt *q = db_stmt(call->db, SQL_USER_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->id);
    db_bind_text(q, creation->email);
    db_bind_text(q, creation->name);
    db_bind_text(q, creation->role);
    db_bind_text(q, creation->password_hash);
    db_bind_time_us(q, call->now_us);
    return q;
}

forge_code organization_create_user(struct rpc_call *call, const Forge__V1__CreateUserRequest *in, Forge__V1__User *out)
{
    struct creation creation = {0};
    struct db_row row;
    forge_code rc = create_check(call, in, &creation);
    if (rc == FORGE_OK)
        rc = auth_password_hash(in->password, creation.password_hash, &call->error);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&creation.id);
    rc = db_run_one(create_statement(call, &creation), &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS && (reply_violates(call, "login_names_pkey") || reply_violates(call, "ix_users_email")))
        return rpc_call_fail(call, rc, "a user with e-mail %s exists already", creation.email);
    if (rc != FORGE_OK)
        return rc;
    user_read_row(call, &row, out);
    organization_audit(call, "user.create", "user", &creation.id, &out->base);
    rpc_write_change(call, "user", &creation.id, NULL);
    return FORGE_OK;
}

/* --- GetUser --- */

forge_code organization_get_user(struct rpc_call *call, const Forge__V1__GetUserRequest *in, Forge__V1__User *out)
{
    bool by_id = in->id[0] != '\0', by_email = in->email[0] != '\0';
    const char *email = NULL;
    struct forge_uuid id;
    if (by_id == by_email)
        rpc_call_violation(call, "id", "either id or email is required, not both");
    else if (by_id)
        validate_uuid(call, "id", in->id, &id);
    else
        email = validate_email(call, "email", in->email);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);

    struct db_stmt *q = db_stmt(call->db, SQL_USER_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, by_id ? &id : NULL);
    db_bind_text(q, email);
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "user", by_id ? in->id : in->email, &row);
    if (rc != FORGE_OK)
        return rc;
    user_read_row(call, &row, out);
    return FORGE_OK;
}

/* --- ListUsers --- */

/* What ListUsers filters by, checked. */
struct filter {
    const char *prefix, *role; /* role NULL: all */
    const char *text;          /* all of it, for page tokens */
};

static void filter_check(struct rpc_call *call, const Forge__V1__ListUsersRequest *in, struct filter *filter)
{
    char *prefix = forge_arena_strdup(call->arena, in->email_prefix);
    for (char *c = prefix; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    filter->prefix = prefix != NULL ? prefix : "";
    filter->text =
        forge_arena_printf(call->arena, "%d|%d|%s", (int)in->role, in->disabled == NULL ? 2 : in->disabled->value != 0, filter->prefix);
    if (validate_characters(in->email_prefix) > VALIDATE_EMAIL_CHARACTERS_MAX)
        rpc_call_violation(call, "email_prefix", "must be at most %d characters", VALIDATE_EMAIL_CHARACTERS_MAX);
    if (in->role != FORGE__V1__ROLE__ROLE_UNSPECIFIED)
        filter->role = validate_role(call, "role", in->role);
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListUsersRequest *in, const struct filter *filter,
                           const struct rpc_page *page, struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, SQL_USER_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, filter->prefix);
    db_bind_text(q, validate_prefix_end(filter->prefix, call->arena));
    db_bind_text(q, page->has_key ? page->last_name : "");
    db_bind_text(q, filter->role);
    if (in->disabled != NULL)
        db_bind_bool(q, in->disabled->value);
    else
        db_bind_null(q);
    db_bind_int32(q, page->size + 1);
    return db_run_many(q, rows, &call->error);
}

forge_code organization_list_users(struct rpc_call *call, const Forge__V1__ListUsersRequest *in, Forge__V1__ListUsersResponse *out)
{
    struct filter filter = {0};
    struct rpc_page page;
    struct db_rows rows;
    filter_check(call, in, &filter);
    size_t filter_size = filter.text != NULL ? strlen(filter.text) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter.text, filter_size, &page);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = list_run(call, in, &filter, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->users = reply_list(call, &rows, page.size, &forge__v1__user__descriptor, user_read_row, &out->n_users);
    if (rows.count > page.size && out->n_users > 0)
        out->next_page_token =
            rpc_page_next(call, filter.text, filter_size, out->users[out->n_users - 1]->email, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}
