/* Users as rows and as messages. Private to the organization service. */
#ifndef SERVER_SERVICE_ORGANIZATION_USER_H
#define SERVER_SERVICE_ORGANIZATION_USER_H

#include "db/row.h"
#include "rpc/call.h"

#include "forge/v1/organization.pb-c.h"

/* Columns organization_id, id, email, name, role, disabled, created_at, updated_at, password_changed_at, last_login_at, row_version.
 * NULL after an arena overflow. */
Forge__V1__User *user_from_row(struct rpc_call *call, const struct db_row *row);

#endif
