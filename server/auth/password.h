/* Passwords: argon2id with 19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet), in the encoded form
 * $argon2id$v=19$m=19456,t=2,p=1$salt$hash that the reference library defines. Each of these takes about 20 ms of one core: for
 * auth threads only. Any thread. */
#ifndef SERVER_AUTH_PASSWORD_H
#define SERVER_AUTH_PASSWORD_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { AUTH_PASSWORD_MIN = 12, AUTH_PASSWORD_MAX = 128 /* bytes */, AUTH_PASSWORD_HASH_SIZE = 128 /* NUL included */ };

/* NULL when the password may be set, else what is wrong with it ("must be 12 to 128 bytes"). development allows short ones (not empty). */
const char *auth_password_problem(const char *password, bool development);
/* RESOURCE_EXHAUSTED without memory for the hash. */
forge_code auth_password_hash(const char *password, char out_hash[AUTH_PASSWORD_HASH_SIZE], struct forge_error *error) FORGE_MUST_CHECK;
/* *out_matches: is this the password? hash NULL = no such user: as much work for nothing, so that a caller cannot tell unknown users from
 * known ones by the time it takes; never matches. RESOURCE_EXHAUSTED without memory, INTERNAL for a hash that is none. */
forge_code auth_password_verify(const char *password, const char *hash, bool *out_matches, struct forge_error *error) FORGE_MUST_CHECK;

#endif
