/* What the handlers of users and logins share. Private to the organization service. */
#ifndef SERVER_SERVICE_ORGANIZATION_USER_H
#define SERVER_SERVICE_ORGANIZATION_USER_H

#include "db/row.h"
#include "rpc/call.h"

#include "forge/v1/organization.pb-c.h"

/* Columns organization_id, id, email, name, role, disabled, created_at, updated_at, password_changed_at, last_login_at, row_version.
 * NULL after an arena overflow. */
Forge__V1__User *user_from_row(struct rpc_call *call, const struct db_row *row);
/* The same columns into a Forge__V1__User. */
void user_read_row(struct rpc_call *call, const struct db_row *row, void *message);

/* A password that may be set. Notes a violation. */
void user_password_check(struct rpc_call *call, const char *field, const char *password);
/* Queues the end of the user's sessions, except one (NULL = of all). After the statement that changed the user in the same transaction: a
 * login that was under way waits for that, so its session is seen here or refused there. */
void user_queue_session_end(struct rpc_call *call, const struct forge_uuid *user_id, const struct forge_uuid *except);

#endif
