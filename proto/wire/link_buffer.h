/* Private to link*.c: a growing byte buffer that is filled at its end and emptied at its front. Not thread safe. */
#ifndef FORGE_WIRE_LINK_BUFFER_H
#define FORGE_WIRE_LINK_BUFFER_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct forge_buffer { /* zeroed = empty; what is in it: [offset, length) */
    uint8_t *data;
    size_t offset, length, capacity;
};

static inline size_t forge_buffer_left(const struct forge_buffer *buffer)
{
    return buffer->length - buffer->offset;
}
static inline uint8_t *forge_buffer_front(const struct forge_buffer *buffer)
{
    return buffer->data + buffer->offset;
}

/* Room for more bytes behind the end; false without memory, and then nothing has changed. */
bool forge_buffer_reserve(struct forge_buffer *buffer, size_t more) FORGE_MUST_CHECK;
bool forge_buffer_append(struct forge_buffer *buffer, const void *data, size_t size) FORGE_MUST_CHECK;
/* Takes size bytes from the front. An empty buffer that has grown large is freed. */
void forge_buffer_consume(struct forge_buffer *buffer, size_t size);
void forge_buffer_done(struct forge_buffer *buffer);
/* Frees the memory when nothing is in it. */
void forge_buffer_trim(struct forge_buffer *buffer);

#endif
