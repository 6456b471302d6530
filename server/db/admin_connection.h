/* Connections for migrate, bootstrap, maintain and rewrap: one at a time, blocking, outside the pool. Private to those. */
#ifndef SERVER_DB_ADMIN_CONNECTION_H
#define SERVER_DB_ADMIN_CONNECTION_H

#include "wire/status.h"

#include <libpq-fe.h>

/* database: NULL = the one of url. INVALID_ARGUMENT for a URL libpq does not take, UNAVAILABLE without a connection. */
forge_code db_admin_open(const char *url, const char *database, PGconn **out, struct forge_error *error) FORGE_MUST_CHECK;

/* Error of a failed result (code by SQLSTATE, message "<what>: <the server's sentence>"); clears the result. */
forge_code db_admin_failed(PGconn *conn, PGresult *result, const char *what, struct forge_error *error);

/* Runs statements without a result. what: for the error. */
forge_code db_admin_exec(PGconn *conn, const char *sql, const char *what, struct forge_error *error) FORGE_MUST_CHECK;
/* One statement with text parameters; *out_result is the caller's to clear. */
forge_code db_admin_query(PGconn *conn, const char *sql, int count, const char *const *values, const char *what, PGresult **out_result,
                          struct forge_error *error) FORGE_MUST_CHECK;

/* For upkeep beside running servers: this connection (of forge_maint) is forge_owner from now on, with short waits for locks (500 ms:
 * whoever queues behind us waits as long as we do) and statements of at most 10 s. FAILED_PRECONDITION when the role may not. */
forge_code db_admin_become_owner(PGconn *conn, struct forge_error *error) FORGE_MUST_CHECK;
/* Begins a transaction and binds it to an organization like any tenant's (NULL = none). */
forge_code db_admin_begin(PGconn *conn, const char *organization_id, struct forge_error *error) FORGE_MUST_CHECK;
/* Ends it: commits when rc is OK, else rolls back and returns rc. */
forge_code db_admin_end(PGconn *conn, forge_code rc, struct forge_error *error) FORGE_MUST_CHECK;

#endif
