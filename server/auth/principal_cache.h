/* Verified credentials, by the hash of their token or certificate, so that a known caller costs no database access.
 *
 * Sharded by hash, one short lock each; bounded, the least recently used entry of a shard makes room. Entries go with their
 * credential's expiry and are dropped by the change feed. A credential that was read while a change of its organization arrived is
 * not kept: take auth_principal_cache_generation() before the read and hand it to put. Operator tokens are never kept (the
 * feed does not tell of them). Any thread; nothing blocks longer than a shard's lock. */
#ifndef SERVER_AUTH_PRINCIPAL_CACHE_H
#define SERVER_AUTH_PRINCIPAL_CACHE_H

#include "auth/principal.h"
#include "db/change_feed.h"
#include "wire/crypto.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stdint.h>

struct auth_principal_cache;

/* entries_max: of all shards together, at least 16. RESOURCE_EXHAUSTED without memory. */
forge_code auth_principal_cache_new(unsigned entries_max, struct auth_principal_cache **out, struct forge_error *error) FORGE_MUST_CHECK;
void auth_principal_cache_free(struct auth_principal_cache *cache); /* accepts NULL */

bool auth_principal_cache_get(struct auth_principal_cache *cache, const uint8_t token_hash[FORGE_SHA256_SIZE], int64_t now_us,
                              struct auth_principal *out) FORGE_MUST_CHECK;
/* Moves with every change of this organization that could touch one of its credentials. */
uint64_t auth_principal_cache_generation(struct auth_principal_cache *cache, const struct forge_uuid *organization_id);
void auth_principal_cache_put(struct auth_principal_cache *cache, const uint8_t token_hash[FORGE_SHA256_SIZE],
                              const struct auth_principal *principal, uint64_t generation);

/* A change of kind api_key, session, user, service_account, project or organization drops what it concerns; others are ignored. Have the
 * signature of struct db_change_listener, user = the cache. */
void auth_principal_cache_changed(const struct db_change *change, void *cache);
void auth_principal_cache_reset(void *cache);

unsigned auth_principal_cache_count(struct auth_principal_cache *cache);

#endif
