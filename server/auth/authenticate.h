/* Looks a token or a client certificate up in the database: for worker threads. */
#ifndef SERVER_AUTH_AUTHENTICATE_H
#define SERVER_AUTH_AUTHENTICATE_H

#include "auth/principal.h"
#include "auth/token.h"
#include "db/stmt.h"
#include "wire/crypto.h"
#include "wire/status.h"
#include "wire/tls.h"

struct auth_credential {
    enum auth_token_kind kind;                /* of a token */
    const struct forge_tls_peer *certificate; /* NULL: a token. Must outlive the credential */
    struct forge_uuid organization_id;        /* nil for operators, and for certificates that were not found yet */
    struct forge_uuid service_account_id;     /* of a certificate that was found */
    uint8_t hash[FORGE_SHA256_SIZE];          /* what the principal is cached under */
};
/* Takes a token apart. UNAUTHENTICATED for text that is no token of ours; touches no database. */
forge_code auth_credential_read(const char *token, struct auth_credential *out, struct forge_error *error) FORGE_MUST_CHECK;

/* The credential that a verified client certificate is by itself. */
void auth_credential_of_certificate(const struct forge_tls_peer *peer, struct auth_credential *out);
/* Finds the service account that a certificate is mapped to, by its public key before its URI, in one flight without a tenant:
 * UNAUTHENTICATED when there is none. Nothing to do for tokens. Before auth_authenticate, and before the generation of the principal cache
 * is read: accounts never change, so one that was deleted between both flights is refused by the second. */
forge_code auth_certificate_find(struct db_session *session, struct auth_credential *credential,
                                 struct forge_error *error) FORGE_MUST_CHECK;

/* Binds the session to the credential's organization and reads the credential in one flight. Blocks up to the session's deadline.
 * UNAUTHENTICATED when it is unknown, expired or revoked, its user disabled, its project or organization deleted, or when
 * the account of a certificate needs a token; else errors of the database. */
forge_code auth_authenticate(struct db_session *session, const struct auth_credential *credential, int64_t now_us,
                             struct auth_principal *out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
