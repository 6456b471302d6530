/* Hashes of content, of dataset items and results alike. */
#include "service/evaluation/evaluation.h"

#include <ctype.h>

void evaluation_hash_piece(struct forge_sha256_state *state, const void *data, size_t size)
{
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
    forge_sha256_update(state, length, sizeof length);
    forge_sha256_update(state, data, size);
}

const char *evaluation_lower_case(struct rpc_call *call, const char *text)
{
    char *copy = forge_arena_strdup(call->arena, text);
    for (size_t i = 0; copy != NULL && copy[i] != '\0'; i++)
        copy[i] = (char)tolower((unsigned char)copy[i]);
    return copy != NULL ? copy : "";
}
