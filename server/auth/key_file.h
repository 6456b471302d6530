/* The key-encryption key: a file outside the database that all servers share.
 *
 * Text, one key a line, `<key id> <64 hexadecimal digits>`; the first line is the key in use, a second one the key before it (kept for 48 h
 * after a change, so that what was stored under it can still be read); lines that begin with # are comments. Mode 0600;
 * 0640 where it belongs to root and we run as somebody else (a mounted secret).
 * Keys for other uses are derived from it by HKDF-SHA256, never used directly. */
#ifndef SERVER_AUTH_KEY_FILE_H
#define SERVER_AUTH_KEY_FILE_H

#include "wire/crypto.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AUTH_KEY_FILE_BYTES_MAX = 4096 };

/* One key of the file and what is derived from it. */
struct auth_key {
    int32_t id;                           /* 1 to 2^31 - 1; stored beside whatever was made with it */
    uint8_t seal[FORGE_KEY_SIZE];         /* the key-encryption key itself: forge_seal of secrets */
    uint8_t request_hash[FORGE_KEY_SIZE]; /* HMAC of requests in idempotency */
    uint8_t page_token[FORGE_KEY_SIZE];
    uint8_t watch_token[FORGE_KEY_SIZE];
    uint8_t login_failures[FORGE_KEY_SIZE]; /* HMAC of e-mail and source address in login_failures */
    uint8_t check[FORGE_KEY_SIZE];          /* stored as it is in encryption_keys: tells keys with one id apart */
};
struct auth_keys {
    struct auth_key current, previous;
    bool has_previous;
};

/* Reads the file. FAILED_PRECONDITION names it and says what is wrong: missing, not a regular file, others may read it, not of this form,
 * two keys with one id. Blocks. */
forge_code auth_key_file_load(const char *path, struct auth_keys *out, struct forge_error *error) FORGE_MUST_CHECK;
/* The same from text; source is how errors call it. */
forge_code auth_key_file_parse(const char *source, const char *text, size_t length, struct auth_keys *out,
                               struct forge_error *error) FORGE_MUST_CHECK;
/* Makes a file with one fresh key, mode 0600, written to disk. ALREADY_EXISTS when there is one. For forged bootstrap roles. */
forge_code auth_key_file_create(const char *path, struct forge_error *error) FORGE_MUST_CHECK;
/* The key with this id, NULL when the file does not hold it (any more). */
const struct auth_key *auth_keys_find(const struct auth_keys *keys, int32_t id);
/* Cleanses. */
void auth_keys_done(struct auth_keys *keys);

#endif
