/* Looks a token up in the database: for worker threads. */
#ifndef SERVER_AUTH_AUTHENTICATE_H
#define SERVER_AUTH_AUTHENTICATE_H

#include "auth/principal.h"
#include "auth/token.h"
#include "db/stmt.h"
#include "wire/crypto.h"
#include "wire/status.h"

struct auth_credential {
    enum auth_token_kind kind;
    struct forge_uuid organization_id; /* nil for operators */
    uint8_t hash[FORGE_SHA256_SIZE];
};
/* Takes a token apart. UNAUTHENTICATED for text that is no token of ours; touches no database. */
forge_code auth_credential_read(const char *token, struct auth_credential *out, struct forge_error *error) FORGE_MUST_CHECK;

/* Binds the session to the token's organization and reads the credential in one flight. Blocks up to the session's deadline.
 * UNAUTHENTICATED when it is unknown, expired or revoked, its user disabled, its project or organization deleted; else errors
 * of the database. */
forge_code auth_authenticate(struct db_session *session, const struct auth_credential *credential, int64_t now_us,
                             struct auth_principal *out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
