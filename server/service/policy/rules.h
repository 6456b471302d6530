/* Rules of policies as messages, as the columns policies.draft_rules and policy_versions.rules hold them (a JSON array of protobuf JSON),
 * and the hash of a version. Private to the policy service. Everything is made in the arena. */
#ifndef SERVER_SERVICE_POLICY_RULES_H
#define SERVER_SERVICE_POLICY_RULES_H

#include "wire/arena.h"
#include "wire/crypto.h"
#include "wire/status.h"

#include "forge/v1/policy.pb-c.h"

#include <stddef.h>
#include <stdint.h>

/* The column's text; NULL when the arena overflowed. */
const char *policy_rules_write(struct forge_arena *arena, Forge__V1__PolicyRule *const *rules, size_t count) FORGE_MUST_CHECK;
/* RESOURCE_EXHAUSTED: the arena overflowed. DATA_LOSS: the text is none that policy_rules_write() makes. *out is an array, also of none. */
forge_code policy_rules_read(struct forge_arena *arena, const char *json, Forge__V1__PolicyRule ***out, size_t *count) FORGE_MUST_CHECK;

/* Fills in what a request may leave out where the contract names one value for it: severity, key and window of a rate limit. Empty lists of
 * stages and kinds stay, they stand for all. */
void policy_rules_fill_in(Forge__V1__PolicyRule *const *rules, size_t count);

/* SHA-256 over mode (unspecified is enforce) and rules: over the packed PolicyVersion that has only these. Not over the stored text, which
 * jsonb writes its own way.
 */
forge_code policy_rules_hash(struct forge_arena *arena, Forge__V1__PolicyMode mode, Forge__V1__PolicyRule *const *rules, size_t count,
                             uint8_t out[FORGE_SHA256_SIZE]) FORGE_MUST_CHECK;

/* A mode as its columns hold it; unspecified is enforce. */
const char *policy_mode_name(Forge__V1__PolicyMode mode);
/* Back; unspecified for a name that is none. */
Forge__V1__PolicyMode policy_mode_find(const char *name);

#endif
