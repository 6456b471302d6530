#include "service/organization/user.h"

#include "service/reply.h"

#include <string.h>

static Forge__V1__Role role_from_text(const char *role)
{
    if (role != NULL && strcmp(role, "admin") == 0)
        return FORGE__V1__ROLE__ROLE_ADMIN;
    if (role != NULL && strcmp(role, "developer") == 0)
        return FORGE__V1__ROLE__ROLE_DEVELOPER;
    return FORGE__V1__ROLE__ROLE_VIEWER;
}

Forge__V1__User *user_from_row(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__User *user = reply_message(call, &forge__v1__user__descriptor);
    if (user == NULL)
        return NULL;
    user->id = db_row_uuid_text(row, "id");
    user->organization_id = db_row_uuid_text(row, "organization_id");
    user->email = db_row_text(row, "email");
    user->display_name = db_row_text(row, "name");
    user->role = role_from_text(db_row_text(row, "role"));
    user->disabled = db_row_bool(row, "disabled");
    user->create_time = reply_time(call, row, "created_at");
    user->update_time = reply_time(call, row, "updated_at");
    user->password_change_time = reply_time(call, row, "password_changed_at");
    user->last_login_time = reply_time(call, row, "last_login_at");
    user->etag = reply_etag(call, row);
    return user;
}
