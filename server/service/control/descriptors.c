#include "service/control/descriptors.h"

#include <string.h>

/* The file of protoc, as it is, between two symbols of ours. */
__asm__(".section .rodata\n"
        ".balign 16\n"
        ".global forge_descriptors_begin\n"
        "forge_descriptors_begin:\n"
        ".incbin \"" FORGE_DESCRIPTORS_FILE "\"\n"
        ".global forge_descriptors_end\n"
        "forge_descriptors_end:\n"
        ".byte 0\n"
        ".previous\n");
extern const uint8_t forge_descriptors_begin[], forge_descriptors_end[];

/* Field numbers of descriptor.proto. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_DEPENDENCY = 3,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    MESSAGE_NAME = 1,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    ENUM_NAME = 1,
    SERVICE_NAME = 1,
    SERVICE_METHOD = 2,
    METHOD_NAME = 1
};
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct slice {
    const uint8_t *data;
    size_t size;
};
/* One field of a packed message; value is empty but for WIRE_BYTES. */
struct field {
    uint32_t number;
    struct slice value;
    const uint8_t *start; /* of the field, tag included */
};

static bool varint_read(struct slice *rest, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; rest->size > 0 && shift < 64; shift += 7) {
        uint8_t byte = *rest->data++;
        rest->size--;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if ((byte & 0x80) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* The next field of a message; false at its end or where it is malformed. */
static bool field_next(struct slice *rest, struct field *out)
{
    uint64_t tag, size = 0;
    out->start = rest->data;
    if (!varint_read(rest, &tag))
        return false;
    unsigned type = tag & 7;
    bool well_formed = type == WIRE_VARINT ? varint_read(rest, &size) : type != WIRE_BYTES || varint_read(rest, &size);
    if (type == WIRE_VARINT)
        size = 0;
    else if (type == WIRE_FIXED64 || type == WIRE_FIXED32)
        size = type == WIRE_FIXED64 ? 8 : 4;
    else if (type != WIRE_BYTES)
        return false;
    if (!well_formed || size > rest->size)
        return false;
    out->number = (uint32_t)(tag >> 3);
    out->value = (struct slice){rest->data, type == WIRE_BYTES ? (size_t)size : 0};
    rest->data += size;
    rest->size -= (size_t)size;
    return true;
}

/* The first field of this number; an empty slice when there is none. */
static struct slice field_get(struct slice message, uint32_t number)
{
    struct field field;
    while (field_next(&message, &field))
        if (field.number == number)
            return field.value;
    return (struct slice){NULL, 0};
}

static bool slices_are_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Takes name off the front of *symbol where it stands there whole: at the end, or before one of these separators and more. */
static bool symbol_take(struct slice *symbol, struct slice name, const char *separators)
{
    if (name.size == 0 || symbol->size < name.size || memcmp(symbol->data, name.data, name.size) != 0)
        return false;
    size_t taken = name.size;
    if (symbol->size > name.size) {
        taken++;
        if (symbol->size == taken || strchr(separators, symbol->data[name.size]) == NULL)
            return false;
    }
    symbol->data += taken;
    symbol->size -= taken;
    return true;
}

static bool enum_defines(struct slice definition, struct slice symbol)
{
    return symbol_take(&symbol, field_get(definition, ENUM_NAME), "") && symbol.size == 0;
}

/* forge.v1 nests no types; map entries and the like of imported files are one level deep, so depth is bounded. */
static bool message_defines(struct slice definition, struct slice symbol, unsigned depth)
{
    if (depth == 0 || !symbol_take(&symbol, field_get(definition, MESSAGE_NAME), "."))
        return false;
    if (symbol.size == 0)
        return true;
    struct field field;
    while (field_next(&definition, &field)) {
        if (field.number == MESSAGE_NESTED && message_defines(field.value, symbol, depth - 1))
            return true;
        if (field.number == MESSAGE_ENUM && enum_defines(field.value, symbol))
            return true;
    }
    return false;
}

static bool service_defines(struct slice definition, struct slice symbol)
{
    if (!symbol_take(&symbol, field_get(definition, SERVICE_NAME), "./"))
        return false;
    if (symbol.size == 0)
        return true;
    struct field field;
    while (field_next(&definition, &field))
        if (field.number == SERVICE_METHOD && slices_are_equal(field_get(field.value, METHOD_NAME), symbol))
            return true;
    return false;
}

static bool file_defines(struct slice file, struct slice symbol)
{
    enum { NESTED_MAX = 8 };
    if (!symbol_take(&symbol, field_get(file, FILE_PACKAGE), "."))
        return false;
    struct field field;
    while (field_next(&file, &field)) {
        if (field.number == FILE_MESSAGE && message_defines(field.value, symbol, NESTED_MAX))
            return true;
        if (field.number == FILE_ENUM && enum_defines(field.value, symbol))
            return true;
        if (field.number == FILE_SERVICE && service_defines(field.value, symbol))
            return true;
    }
    return false;
}

/* The files of a set, in its order: protoc puts imports before the files that import them. */
struct files {
    struct field items[DESCRIPTOR_FILES_MAX];
    size_t ends[DESCRIPTOR_FILES_MAX]; /* bytes of each field, tag included */
    bool wanted[DESCRIPTOR_FILES_MAX];
    size_t count;
};

static void files_read(struct slice set, struct files *out)
{
    out->count = 0;
    while (out->count < DESCRIPTOR_FILES_MAX && field_next(&set, &out->items[out->count])) {
        if (out->items[out->count].number != SET_FILE)
            continue;
        out->ends[out->count] = (size_t)(set.data - out->items[out->count].start);
        out->wanted[out->count] = false;
        out->count++;
    }
}

/* Wants every import of file `index`; since imports stand before it, one pass from back to front wants theirs too. */
static void imports_want(struct files *files, size_t index)
{
    struct slice file = files->items[index].value;
    struct field field;
    while (field_next(&file, &field))
        for (size_t i = 0; field.number == FILE_DEPENDENCY && i < index; i++)
            if (slices_are_equal(field_get(files->items[i].value, FILE_NAME), field.value))
                files->wanted[i] = true;
}

static void wanted_copy(const struct files *files, struct forge_arena *arena, uint8_t **out, size_t *out_size)
{
    size_t size = 0;
    for (size_t i = 0; i < files->count; i++)
        size += files->wanted[i] ? files->ends[i] : 0;
    uint8_t *bytes = forge_arena_alloc(arena, size);
    *out = bytes;
    *out_size = bytes != NULL ? size : 0;
    for (size_t i = 0; bytes != NULL && i < files->count; i++) {
        if (!files->wanted[i])
            continue;
        memcpy(bytes, files->items[i].start, files->ends[i]);
        bytes += files->ends[i];
    }
}

bool descriptors_find_in(const uint8_t *set, size_t set_size, const char *symbol, struct forge_arena *arena, uint8_t **out,
                         size_t *out_size)
{
    struct files files;
    struct slice wanted = {(const uint8_t *)symbol, strlen(symbol)};
    files_read((struct slice){set, set_size}, &files);
    for (size_t found = 0; found < files.count; found++) {
        if (!file_defines(files.items[found].value, wanted))
            continue;
        files.wanted[found] = true;
        for (size_t i = found + 1; i > 0; i--)
            if (files.wanted[i - 1])
                imports_want(&files, i - 1);
        wanted_copy(&files, arena, out, out_size);
        return true;
    }
    return false;
}

bool descriptors_find(const char *symbol, struct forge_arena *arena, uint8_t **out, size_t *out_size)
{
    return descriptors_find_in(forge_descriptors_begin, (size_t)(forge_descriptors_end - forge_descriptors_begin), symbol, arena, out,
                               out_size);
}
