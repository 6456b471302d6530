/* The descriptors of forge.v1, embedded at build time, and look-ups in them that read the packed bytes without unpacking: the whole set
 * holds every comment and would need megabytes. Private to the control service. Pure, any thread. */
#ifndef SERVER_SERVICE_CONTROL_DESCRIPTORS_H
#define SERVER_SERVICE_CONTROL_DESCRIPTORS_H

#include "wire/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DESCRIPTOR_FILES_MAX = 64 };

/* Finds the file that defines a service, method ("<service>/<method>" or with "."), message, enum or nested type by its full name, and
 * gives a packed google.protobuf.FileDescriptorSet of it and all its imports, each before the files that import it. False when nothing
 * has this name. out_size is 0 when the arena is full. */
bool descriptors_find(const char *symbol, struct forge_arena *arena, uint8_t **out, size_t *out_size);

/* The same in any packed FileDescriptorSet. Exposed for tests. */
bool descriptors_find_in(const uint8_t *set, size_t set_size, const char *symbol, struct forge_arena *arena, uint8_t **out,
                         size_t *out_size);

#endif
