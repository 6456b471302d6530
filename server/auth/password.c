#include "auth/password.h"

#include "wire/crypto.h"

#include <argon2.h>
#include <string.h>

enum { MEMORY_KIB = 19456, PASSES = 2, LANES = 1, SALT_SIZE = 16, HASH_SIZE = 32 };

/* Of a random password that nobody knows; the same parameters, so the same work. */
static const char nobody_hash[] = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$FYgDLhqsDTaaaFSPSYtcsIM2JUdTJjBWMD7cFPnzIkM";

const char *auth_password_problem(const char *password, bool development)
{
    size_t length = strnlen(password, AUTH_PASSWORD_MAX + 1);
    if (development)
        return length >= 1 && length <= AUTH_PASSWORD_MAX ? NULL : "must be 1 to 128 bytes";
    return length >= AUTH_PASSWORD_MIN && length <= AUTH_PASSWORD_MAX ? NULL : "must be 12 to 128 bytes";
}

forge_code auth_password_hash(const char *password, char out_hash[AUTH_PASSWORD_HASH_SIZE], struct forge_error *error)
{
    uint8_t salt[SALT_SIZE];
    forge_random(salt, sizeof salt);
    int result = argon2id_hash_encoded(PASSES, MEMORY_KIB, LANES, password, strlen(password), salt, sizeof salt, HASH_SIZE, out_hash,
                                       AUTH_PASSWORD_HASH_SIZE);
    if (result == ARGON2_OK)
        return FORGE_OK;
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the password could not be hashed: %s", argon2_error_message(result));
}

forge_code auth_password_verify(const char *password, const char *hash, bool *out_matches, struct forge_error *error)
{
    int result = argon2id_verify(hash ? hash : nobody_hash, password, strlen(password));
    if (result == ARGON2_OK || result == ARGON2_VERIFY_MISMATCH) {
        *out_matches = hash && result == ARGON2_OK;
        return FORGE_OK;
    }
    if (result == ARGON2_MEMORY_ALLOCATION_ERROR)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory to check a password");
    return forge_error_set(error, FORGE_INTERNAL, "a stored password hash is damaged: %s", argon2_error_message(result));
}
