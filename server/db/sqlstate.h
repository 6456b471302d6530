/* PostgreSQL's SQLSTATE -> our status code (https://www.postgresql.org/docs/15/errcodes-appendix.html). */
#ifndef SERVER_DB_SQLSTATE_H
#define SERVER_DB_SQLSTATE_H

#include "wire/status.h"

#include <stdbool.h>

/* Fills error: code, sqlstate, a message that names no internals, retry_after_ms where trying again helps. Returns the code. */
forge_code db_sqlstate_to_error(const char *sqlstate, struct forge_error *error);
/* The connection is of no use afterwards: the server ended it, became a standby, or lost or outdated what was prepared on it. */
bool db_sqlstate_ends_connection(const char *sqlstate);

#endif
