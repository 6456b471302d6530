#include "auth/secret.h"

/* The associated data: where the secret stands. */
struct place {
    struct forge_uuid organization_id, row_id;
};

void auth_secret_seal(const struct auth_key *key, const struct forge_uuid *organization_id, const struct forge_uuid *row_id,
                      const uint8_t *secret, size_t size, uint8_t *out)
{
    const struct place place = {*organization_id, *row_id};
    forge_seal(key->seal, &place, sizeof place, secret, size, out);
}

bool auth_secret_unseal(const struct auth_key *key, const struct forge_uuid *organization_id, const struct forge_uuid *row_id,
                        const uint8_t *sealed, size_t sealed_size, uint8_t *out)
{
    const struct place place = {*organization_id, *row_id};
    return sealed_size >= FORGE_SEAL_OVERHEAD && forge_unseal(key->seal, &place, sizeof place, sealed, sealed_size, out);
}
