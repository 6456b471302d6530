/* What archiving and restoring share. Private to db/archive*.c. */
#ifndef SERVER_DB_ARCHIVE_PRIVATE_H
#define SERVER_DB_ARCHIVE_PRIVATE_H

#include "db/admin_connection.h"
#include "db/archive.h"

enum { DB_ARCHIVE_NUMBER_SIZE = 24, DB_ARCHIVE_TELL_SIZE = 1024 };
#define DB_ARCHIVE_SUFFIX ".jsonl.zst"

/* A connection as forge_owner that holds the lock which keeps runs apart, until it is closed. What it prints of times is UTC. ABORTED when
 * another run goes on holding the lock. */
forge_code db_archive_connect(const char *url, PGconn **out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
