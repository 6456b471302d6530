/* Secrets of rows (a provider's credential, say), sealed under the key-encryption key with AES-256-GCM. What is sealed is bound to the row
 * it stands in: moved to another row or organization it does not open. */
#ifndef SERVER_AUTH_SECRET_H
#define SERVER_AUTH_SECRET_H

#include "auth/key_file.h"
#include "wire/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* out: size + FORGE_SEAL_OVERHEAD bytes. Store key->id beside it. */
void auth_secret_seal(const struct auth_key *key, const struct forge_uuid *organization_id, const struct forge_uuid *row_id,
                      const uint8_t *secret, size_t size, uint8_t *out);
/* out: sealed_size - FORGE_SEAL_OVERHEAD bytes, for the caller to cleanse. False when it was sealed under another key, for another row, or
 * changed since. */
bool auth_secret_unseal(const struct auth_key *key, const struct forge_uuid *organization_id, const struct forge_uuid *row_id,
                        const uint8_t *sealed, size_t sealed_size, uint8_t *out) FORGE_MUST_CHECK;

#endif
