/* Database URLs as people write them -> what libpq takes. */
#ifndef SERVER_DB_URL_H
#define SERVER_DB_URL_H

#include "wire/arena.h"
#include "wire/status.h"

#include <libpq-fe.h>

/* postgresql://, postgres://, postgresql+<driver>:// (as other tools write it) and libpq's keyword strings. Gives libpq's options
 * with their values (free with PQconninfoFree). INVALID_ARGUMENT names another scheme; no message repeats any of the rest, which may
 * hold a password. */
forge_code db_url_parse(const char *url, PQconninfoOption **out, struct forge_error *error) FORGE_MUST_CHECK;

/* A path as the value of a URL's parameter (RFC 3986, section 2.1). NULL without memory. */
char *db_url_encode(struct forge_arena *arena, const char *path);
/* URL of an open connection, without its password. NULL without memory. */
char *db_url_of(const PGconn *conn, struct forge_arena *arena);

#endif
