/* Bearer tokens: prefix, organization, secret, checksum.
 *
 *     pfk_<22 characters: organization id><43 characters: 256 secret bits><6 characters: checksum>
 *
 * All three in base62 (0-9A-Za-z) of fixed width, most significant digit first. The prefix tells the kind: pfk_ API key or service account,
 * pfs_ session, pfo_ operator (nil organization). The checksum is the CRC-32 (ISO 3309) of everything before it: a mistyped token is
 * refused without a look at the database, and a leaked one is recognised by secret scanners. Only the SHA-256 of the whole text is stored.
 * Pure functions, any thread. */
#ifndef SERVER_AUTH_TOKEN_H
#define SERVER_AUTH_TOKEN_H

#include "wire/crypto.h"
#include "wire/status.h"
#include "wire/uuid.h"

#include <stdbool.h>
#include <stdint.h>

enum auth_token_kind { AUTH_TOKEN_API_KEY, AUTH_TOKEN_SESSION, AUTH_TOKEN_OPERATOR };
enum {
    AUTH_TOKEN_LENGTH = 4 + 22 + 43 + 6,
    AUTH_TOKEN_SIZE = AUTH_TOKEN_LENGTH + 1,
    /* So many first characters may be shown: with 4 of the secret they tell the tokens of one organization apart. */
    AUTH_TOKEN_SHOWN_LENGTH = 4 + 22 + 4
};

/* A fresh token. organization_id: nil for operators. Cleanse out_text when done with it. */
void auth_token_make(enum auth_token_kind kind, const struct forge_uuid *organization_id, char out_text[AUTH_TOKEN_SIZE]);
/* True for well-formed tokens; says nothing about whether they were ever given out. Outputs may not be NULL. */
bool auth_token_parse(const char *text, enum auth_token_kind *out_kind, struct forge_uuid *out_organization_id) FORGE_MUST_CHECK;
/* SHA-256 of the whole text: what the database holds. */
void auth_token_hash(const char *text, uint8_t out[FORGE_SHA256_SIZE]);

#endif
