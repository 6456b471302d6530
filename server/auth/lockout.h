/* Failed logins slow down further ones: per account and per source address, each lock twice as long as the one before, at most 15 minutes.
 *
 * An account may fail 5 times and a source 20 times before the first lock of one second; an hour without failures is forgotten. The table
 * login_failures has no tenant and holds HMACs only, so neither addresses of unknown people nor of callers can be read from it. */
#ifndef SERVER_AUTH_LOCKOUT_H
#define SERVER_AUTH_LOCKOUT_H

#include "auth/key_file.h"
#include "db/stmt.h"
#include "wire/status.h"

enum { AUTH_LOCKOUT_SECONDS_MAX = 900, AUTH_LOCKOUT_ACCOUNT_FREE = 5, AUTH_LOCKOUT_SOURCE_FREE = 20 };

struct auth_lockout {
    uint8_t account[FORGE_SHA256_SIZE], source[FORGE_SHA256_SIZE]; /* keys of the two rows */
};
/* email in lower case; source_address "" (a caller over ipc) counts as one source. */
void auth_lockout_init(struct auth_lockout *lockout, const struct auth_keys *keys, const char *email, const char *source_address);

/* One flight. RESOURCE_EXHAUSTED with retry_after_ms while account or source is locked. */
forge_code auth_lockout_check(const struct auth_lockout *lockout, struct db_session *session, int64_t now_us,
                              struct forge_error *error) FORGE_MUST_CHECK;
/* Queue the statements that count a failure of both, or forget those of the account. The lockout must live until they are sent. */
void auth_lockout_queue_failure(const struct auth_lockout *lockout, struct db_session *session, int64_t now_us);
void auth_lockout_queue_success(const struct auth_lockout *lockout, struct db_session *session);

#endif
