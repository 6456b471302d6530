/* Does the key file belong to this database? Another file with the same key id would make replays and sealed secrets unreadable.
 *
 * The table encryption_keys holds a check value, derived one way, of each key that a server of this database was given. */
#ifndef SERVER_AUTH_KEY_CHECK_H
#define SERVER_AUTH_KEY_CHECK_H

#include "auth/key_file.h"
#include "db/stmt.h"
#include "wire/status.h"

/* FAILED_PRECONDITION naming source (the file) and the key when the database knows another key by that id; nothing is recorded then. A key
 * id it does not know yet is recorded. Blocks for one flight a key, one more for a key that is recorded. */
forge_code auth_key_check(struct db_session *session, const struct auth_keys *keys, const char *source,
                          struct forge_error *error) FORGE_MUST_CHECK;

#endif
