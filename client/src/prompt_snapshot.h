/* Answers of a prompt cache as a file. The file: 8 bytes magic, version (4 bytes, big-endian), then the records sealed (AES-256-GCM) with
 * these 12 bytes as associated data. A record: size of request and of prompt (4 bytes each), when the server confirmed it (8 bytes,
 * microseconds since the Unix epoch), then both messages; numbers are big-endian. */
#ifndef FORGE_CLIENT_PROMPT_SNAPSHOT_H
#define FORGE_CLIENT_PROMPT_SNAPSHOT_H

#include "forge/v1/prompt.pb-c.h"
#include "wire/crypto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct forge__snapshot_bytes {
    uint8_t *data; /* NULL when there was no memory */
    size_t size, capacity;
    bool has_failed;
};
/* Adds a record. */
void forge__snapshot_add(struct forge__snapshot_bytes *bytes, const Forge__V1__GetPromptRequest *request, const Forge__V1__Prompt *prompt,
                         int64_t confirmed_us);
void forge__snapshot_free(struct forge__snapshot_bytes *bytes);

/* Takes what it is given: free_unpacked. */
typedef void (*forge__snapshot_take)(void *user, Forge__V1__GetPromptRequest *request, Forge__V1__Prompt *prompt, int64_t confirmed_us);
/* Gives every record to take. False when the bytes are no records; those before the fault have been given. */
bool forge__snapshot_parse(const uint8_t *data, size_t size, forge__snapshot_take take, void *user) FORGE_MUST_CHECK;

/* Writes beside the file, then puts it in its place: whoever reads sees the old or the new one, also after a power cut. Mode 0600. Blocks.
 */
bool forge__snapshot_write(const char *path, const uint8_t key[FORGE_KEY_SIZE], const struct forge__snapshot_bytes *bytes) FORGE_MUST_CHECK;
enum forge__snapshot_end { FORGE__SNAPSHOT_READ, FORGE__SNAPSHOT_MISSING, FORGE__SNAPSHOT_REFUSED };
/* Refused: over size_max, not sealed under this key, of another version, or no records. Blocks. */
enum forge__snapshot_end forge__snapshot_read(const char *path, const uint8_t key[FORGE_KEY_SIZE], size_t size_max,
                                              forge__snapshot_take take, void *user) FORGE_MUST_CHECK;

#endif
