/* UUIDs (RFC 9562). Ids are version 7, made in C: ordered by time, so indexes grow at their end. */
#ifndef FORGE_WIRE_UUID_H
#define FORGE_WIRE_UUID_H

#include "wire/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { FORGE_UUID_TEXT_SIZE = 37 }; /* 36 characters and the NUL */

struct forge_uuid {
    uint8_t bytes[16];
};

/* Canonical form only: 8-4-4-4-12 hexadecimal digits, either case. NULL text is not a UUID. *out untouched on failure. */
bool forge_uuid_parse(const char *text, struct forge_uuid *out) FORGE_MUST_CHECK;
/* Writes 36 lower-case characters and a NUL. */
void forge_uuid_format(const struct forge_uuid *uuid, char out_text[FORGE_UUID_TEXT_SIZE]);
/* A fresh version 7 UUID, monotonic within the process (RFC 9562 method 3: the sub-millisecond fraction in rand_a). Any thread. */
void forge_uuid_v7(struct forge_uuid *out);
bool forge_uuid_is_v7(const struct forge_uuid *uuid);
bool forge_uuid_is_nil(const struct forge_uuid *uuid);
/* Milliseconds since the Unix epoch of a version 7 UUID. */
int64_t forge_uuid_v7_ms(const struct forge_uuid *uuid);
bool forge_uuid_equal(const struct forge_uuid *a, const struct forge_uuid *b);

#endif
