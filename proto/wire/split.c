#include "wire/split.h"

#include "wire/crypto.h"

#include <assert.h>
#include <string.h>

uint64_t forge_split_number(const char *prompt_id, const char *label, const char *subject)
{
    const char *const pieces[] = {prompt_id, "|", label, "|", subject};
    uint8_t digest[FORGE_SHA256_SIZE];
    uint64_t number = 0;
    struct forge_sha256_state *state = forge_sha256_new();
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++)
        forge_sha256_update(state, pieces[i], strlen(pieces[i]));
    forge_sha256_final(state, digest);
    for (size_t i = 0; i < sizeof number; i++)
        number = number << 8 | digest[i];
    return number;
}

int32_t forge_split_version(uint64_t number, const struct forge_split_target *targets, size_t count)
{
    uint64_t total = 0;
    assert(count > 0);
    for (size_t i = 0; i < count; i++)
        total += (uint64_t)targets[i].weight;
    uint64_t rest = number % total;
    size_t chosen = 0;
    while (rest >= (uint64_t)targets[chosen].weight)
        rest -= (uint64_t)targets[chosen++].weight;
    return targets[chosen].version;
}
