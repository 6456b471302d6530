/* May this connection serve? Role, grants and schema revision, checked in its first flight. Private to server/db. */
#ifndef SERVER_DB_SERVING_H
#define SERVER_DB_SERVING_H

#include "db/conn.h"

/* FAILED_PRECONDITION with what is wrong and the command or setting that mends it; otherwise why the check could not be made. */
forge_code db_serving_check(struct db_conn *conn, uint64_t deadline_ns, struct forge_error *error) FORGE_MUST_CHECK;

#endif
