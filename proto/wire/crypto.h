/* The only door to libcrypto for everyone but tls.c and link.c. Every function is thread safe and does not block.
 * Algorithms are fetched once per process: EVP_sha256() looked up at each call costs ten times the hash of a token. */
#ifndef FORGE_WIRE_CRYPTO_H
#define FORGE_WIRE_CRYPTO_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FORGE_SHA256_SIZE = 32,
    FORGE_KEY_SIZE = 32,     /* AES-256 and HMAC keys */
    FORGE_SEAL_OVERHEAD = 28 /* 12 bytes nonce before, 16 bytes tag behind the ciphertext */
};

void forge_sha256(const void *data, size_t size, uint8_t out[FORGE_SHA256_SIZE]);

/* Incremental SHA-256, for hashing several pieces without joining them. new never returns NULL (aborts without memory). */
struct forge_sha256_state;
struct forge_sha256_state *forge_sha256_new(void);
void forge_sha256_update(struct forge_sha256_state *state, const void *data, size_t size);
/* A piece behind its length as 8 bytes, big-endian: no two lists of pieces have the same bytes. */
void forge_sha256_piece(struct forge_sha256_state *state, const void *data, size_t size);
void forge_sha256_final(struct forge_sha256_state *state, uint8_t out[FORGE_SHA256_SIZE]); /* frees the state */

void forge_hmac_sha256(const uint8_t key[FORGE_KEY_SIZE], const void *data, size_t size, uint8_t out[FORGE_SHA256_SIZE]);
/* HKDF-SHA256 (RFC 5869) with an empty salt and label as info. */
void forge_hkdf_sha256(const uint8_t key[FORGE_KEY_SIZE], const char *label, uint8_t *out, size_t out_size);

/* AES-256-GCM with a random nonce. out must have room for size + FORGE_SEAL_OVERHEAD bytes. */
void forge_seal(const uint8_t key[FORGE_KEY_SIZE], const void *associated, size_t associated_size, const void *plain, size_t size,
                uint8_t *out);
/* False when the text was not sealed under this key with this associated data; out (sealed_size - FORGE_SEAL_OVERHEAD
 * bytes) is then cleansed. */
bool forge_unseal(const uint8_t key[FORGE_KEY_SIZE], const void *associated, size_t associated_size, const uint8_t *sealed,
                  size_t sealed_size, uint8_t *out) FORGE_MUST_CHECK;

/* Fills out from the system's generator; aborts when there is none (nothing may go on with predictable secrets). */
void forge_random(void *out, size_t size);
/* Overwrites a secret; never optimised away. */
void forge_cleanse(void *secret, size_t size);
/* Constant time. */
bool forge_equal_secret(const void *a, const void *b, size_t size);

#endif
