#include "wire/link_buffer.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_FIRST = 2048, CAPACITY_KEPT = 512 << 10 };

static void move_to_front(struct forge_buffer *buffer)
{
    memmove(buffer->data, buffer->data + buffer->offset, forge_buffer_left(buffer));
    buffer->length -= buffer->offset;
    buffer->offset = 0;
}

bool forge_buffer_reserve(struct forge_buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->length >= more)
        return true;
    if (buffer->offset) {
        move_to_front(buffer);
        if (buffer->capacity - buffer->length >= more)
            return true;
    }
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : CAPACITY_FIRST;
    if (capacity - buffer->length < more) /* a large frame gets exactly what it needs */
        capacity = buffer->length + more;
    uint8_t *data = realloc(buffer->data, capacity);
    if (!data)
        return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

bool forge_buffer_append(struct forge_buffer *buffer, const void *data, size_t size)
{
    if (!forge_buffer_reserve(buffer, size))
        return false;
    memcpy(buffer->data + buffer->length, data, size);
    buffer->length += size;
    return true;
}

void forge_buffer_consume(struct forge_buffer *buffer, size_t size)
{
    buffer->offset += size;
    if (buffer->offset < buffer->length)
        return;
    buffer->offset = buffer->length = 0;
    if (buffer->capacity > CAPACITY_KEPT)
        forge_buffer_done(buffer);
}

void forge_buffer_done(struct forge_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct forge_buffer){0};
}

void forge_buffer_trim(struct forge_buffer *buffer)
{
    if (forge_buffer_left(buffer) == 0)
        forge_buffer_done(buffer);
}
