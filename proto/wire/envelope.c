#include "wire/envelope.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const uint8_t magic[4] = {'F', 'R', 'G', '1'};

static uint32_t read_u32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

forge_code forge_envelope_parse(const uint8_t *body, size_t len, size_t header_max, struct forge_envelope *out, struct forge_error *error)
{
    if (len < FORGE_ENVELOPE_PREFIX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "envelope: %zu bytes, shorter than its %d byte prefix", len,
                               FORGE_ENVELOPE_PREFIX);
    if (memcmp(body, magic, sizeof magic) != 0)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "envelope: does not begin with FRG1");
    size_t header_len = read_u32(body + sizeof magic);
    if (header_len > header_max)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "envelope: header of %zu bytes, at most %zu", header_len, header_max);
    if (header_len > len - FORGE_ENVELOPE_PREFIX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "envelope: header of %zu bytes is cut off after %zu", header_len,
                               len - FORGE_ENVELOPE_PREFIX);
    out->header = body + FORGE_ENVELOPE_PREFIX;
    out->header_len = header_len;
    out->payload = out->header + header_len;
    out->payload_len = len - FORGE_ENVELOPE_PREFIX - header_len;
    return FORGE_OK;
}

size_t forge_envelope_size(const ProtobufCMessage *header, size_t payload_len)
{
    return FORGE_ENVELOPE_PREFIX + protobuf_c_message_get_packed_size(header) + payload_len;
}

uint8_t *forge_envelope_pack_header(const ProtobufCMessage *header, uint8_t *out)
{
    size_t header_len = protobuf_c_message_pack(header, out + FORGE_ENVELOPE_PREFIX);
    memcpy(out, magic, sizeof magic);
    for (int i = 0; i < 4; i++)
        out[sizeof magic + (size_t)i] = (uint8_t)(header_len >> (24 - 8 * i));
    return out + FORGE_ENVELOPE_PREFIX + header_len;
}

/* Length of the well-formed sequence (2 to 4 bytes) at text, 0 if there is none; the ranges are table 3-7 of the Unicode Standard. */
static size_t utf8_sequence_length(const uint8_t *text, size_t left)
{
    uint8_t lead = text[0], low = 0x80, high = 0xBF;
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || left < length)
        return 0;
    if (lead == 0xE0)
        low = 0xA0; /* below: overlong */
    else if (lead == 0xED)
        high = 0x9F; /* above: surrogates */
    else if (lead == 0xF0)
        low = 0x90; /* below: overlong */
    else if (lead == 0xF4)
        high = 0x8F; /* above: beyond U+10FFFF */
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

bool forge_utf8_is_valid(const uint8_t *text, size_t len)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        if (len - i >= sizeof word) {
            memcpy(&word, text + i, sizeof word);
            /* Eight bytes of ASCII without NUL: no top bit is set, and none appears when 1 is taken from each byte. */
            if (((word | (word - ones)) & tops) == 0) {
                i += sizeof word;
                continue;
            }
        }
        if (text[i] == 0)
            return false;
        size_t length = text[i] < 0x80 ? 1 : utf8_sequence_length(text + i, len - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

/* --- forge_message_check ---------------------------------------------------------------------------------------------
 * At least as strict as protobuf_c_message_unpack() of protobuf-c 1.4.1, so that what passes here can be unpacked. The
 * decoded size counts what that function takes from its allocator: structs, arrays, texts and its own scan tables. */

enum wire_type { WIRE_VARINT = 0, WIRE_64BIT = 1, WIRE_LENGTH = 2, WIRE_START_GROUP = 3, WIRE_END_GROUP = 4, WIRE_32BIT = 5 };

enum {
    VARINT_MAX = 10, /* bytes of a 64-bit varint */
    KEY_MAX = 5,     /* bytes of a field key or a length */
    FIELD_NUMBER_MAX = (1 << 29) - 1,
    ALLOCATION_UNIT = 16,  /* of the arena */
    SCANNED_ON_STACK = 16, /* fields of one message that protobuf-c scans without allocating */
    SCANNED_SIZE = 32,     /* bytes it needs for each more */
    PATH_MAX_BYTES = 256,
    SEEN_FIELDS_MAX = 256 /* fields of one message type */
};

static const struct {
    uint8_t wire_type;
    uint8_t element_size; /* in a repeated field's array */
} type_traits[] = {
    [PROTOBUF_C_TYPE_INT32] = {WIRE_VARINT, 4},
    [PROTOBUF_C_TYPE_SINT32] = {WIRE_VARINT, 4},
    [PROTOBUF_C_TYPE_SFIXED32] = {WIRE_32BIT, 4},
    [PROTOBUF_C_TYPE_INT64] = {WIRE_VARINT, 8},
    [PROTOBUF_C_TYPE_SINT64] = {WIRE_VARINT, 8},
    [PROTOBUF_C_TYPE_SFIXED64] = {WIRE_64BIT, 8},
    [PROTOBUF_C_TYPE_UINT32] = {WIRE_VARINT, 4},
    [PROTOBUF_C_TYPE_FIXED32] = {WIRE_32BIT, 4},
    [PROTOBUF_C_TYPE_UINT64] = {WIRE_VARINT, 8},
    [PROTOBUF_C_TYPE_FIXED64] = {WIRE_64BIT, 8},
    [PROTOBUF_C_TYPE_FLOAT] = {WIRE_32BIT, 4},
    [PROTOBUF_C_TYPE_DOUBLE] = {WIRE_64BIT, 8},
    [PROTOBUF_C_TYPE_BOOL] = {WIRE_VARINT, sizeof(protobuf_c_boolean)},
    [PROTOBUF_C_TYPE_ENUM] = {WIRE_VARINT, 4},
    [PROTOBUF_C_TYPE_STRING] = {WIRE_LENGTH, sizeof(char *)},
    [PROTOBUF_C_TYPE_BYTES] = {WIRE_LENGTH, sizeof(ProtobufCBinaryData)},
    [PROTOBUF_C_TYPE_MESSAGE] = {WIRE_LENGTH, sizeof(ProtobufCMessage *)},
};

struct check {
    const struct forge_message_limits *limits;
    struct forge_arena *arena;
    struct forge_error *error;
    size_t decoded;  /* estimated bytes so far */
    size_t unknown;  /* bytes of unknown fields so far */
    unsigned faults; /* violations so far */
};

/* The message that is walked, and where in it: enough to name the field when it turns out to be wrong. */
struct frame {
    const struct frame *parent;
    const uint8_t *data, *end;
    const uint8_t *key;                    /* where the current field begins */
    uint32_t number;                       /* its number, 0 = not read yet */
    const ProtobufCFieldDescriptor *field; /* NULL = unknown */
    size_t packed_index;                   /* elements of the current packed value before the one looked at */
};

static inline bool read_varint(const uint8_t **at, const uint8_t *end, int bytes_max, uint64_t *out)
{
    const uint8_t *p = *at;
    if (p < end && *p < 0x80) {
        *out = *p;
        *at = p + 1;
        return true;
    }
    uint64_t value = 0;
    for (int i = 0; i < bytes_max && p < end; i++) {
        uint8_t byte = *p++;
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            *at = p;
            return true;
        }
    }
    return false;
}

/* A length and as many bytes behind it. */
static inline bool read_length(const uint8_t **at, const uint8_t *end, size_t *out)
{
    uint64_t length;
    if (!read_varint(at, end, KEY_MAX, &length) || length > INT_MAX || length > (size_t)(end - *at))
        return false;
    *out = length;
    return true;
}

static bool skip_value(const uint8_t **at, const uint8_t *end, unsigned wire_type)
{
    uint64_t value;
    size_t length;
    switch (wire_type) {
    case WIRE_VARINT:
        return read_varint(at, end, VARINT_MAX, &value);
    case WIRE_64BIT:
        length = 8;
        break;
    case WIRE_LENGTH:
        if (!read_length(at, end, &length))
            return false;
        break;
    case WIRE_32BIT:
        length = 4;
        break;
    default: /* a number from the peer */
        return false;
    }
    if (length > (size_t)(end - *at))
        return false;
    *at += length;
    return true;
}

static bool type_is_packable(ProtobufCType type)
{
    return type_traits[type].wire_type != WIRE_LENGTH;
}

static size_t count_packed(ProtobufCType type, const uint8_t *data, size_t length)
{
    if (type_traits[type].wire_type != WIRE_VARINT)
        return length / type_traits[type].element_size;
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += data[i] < 0x80;
    return count;
}

/* Index of the current element of a repeated field. Counted only when an error needs it: what lies before is well-formed. */
static size_t element_index(const struct frame *frame)
{
    size_t count = frame->packed_index;
    const uint8_t *at = frame->data;
    while (at < frame->key) {
        uint64_t key;
        if (!read_varint(&at, frame->key, KEY_MAX, &key))
            break;
        const uint8_t *value = at;
        if (!skip_value(&at, frame->key, key & 7))
            break;
        if (key >> 3 != frame->number)
            continue;
        size_t length;
        if ((key & 7) == WIRE_LENGTH && type_is_packable(frame->field->type) && read_length(&value, at, &length))
            count += count_packed(frame->field->type, value, length);
        else
            count++;
    }
    return count;
}

/* Appends to a path of PATH_MAX_BYTES; a path that gets too long is cut off. */
static FORGE_PRINTF(3, 4) void path_append(char *path, size_t *length, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int added = vsnprintf(path + *length, PATH_MAX_BYTES - *length, format, arguments);
    va_end(arguments);
    *length += added < 0 ? 0 : (size_t)added;
    if (*length >= PATH_MAX_BYTES)
        *length = PATH_MAX_BYTES - 1;
}

static void path_write(const struct frame *frame, char *path, size_t *length)
{
    if (frame->parent)
        path_write(frame->parent, path, length);
    if (frame->number == 0)
        return;
    const char *dot = *length ? "." : "";
    if (!frame->field)
        path_append(path, length, "%sfield %u", dot, frame->number);
    else
        path_append(path, length, "%s%s", dot, frame->field->name);
    if (frame->field && frame->field->label == PROTOBUF_C_LABEL_REPEATED)
        path_append(path, length, "[%zu]", element_index(frame));
}

static forge_code malformed(struct check *check, const struct frame *frame, const char *what)
{
    char path[PATH_MAX_BYTES] = "";
    size_t length = 0;
    path_write(frame, path, &length);
    return forge_error_set(check->error, FORGE_INVALID_ARGUMENT, "message is malformed: %s%s%s", path, length ? ": " : "", what);
}

/* Notes a wrong value; the walk goes on, so that the caller learns of all of them. */
static void fault(struct check *check, const struct frame *frame, const char *what)
{
    char path[PATH_MAX_BYTES] = "";
    if (check->faults < FORGE_VIOLATIONS_MAX) {
        size_t length = 0;
        path_write(frame, path, &length);
    }
    if (check->faults++ == 0)
        forge_error_set(check->error, FORGE_INVALID_ARGUMENT, "%s: %s", path, what);
    forge_error_add_violation(check->error, check->arena, path, "%s", what);
}

static inline size_t allocated(size_t size)
{
    return (size + ALLOCATION_UNIT - 1) & ~(size_t)(ALLOCATION_UNIT - 1);
}

static forge_code grow_decoded(struct check *check, size_t bytes)
{
    check->decoded += bytes;
    if (check->decoded <= check->limits->decoded_max)
        return FORGE_OK;
    return forge_error_set(check->error, FORGE_RESOURCE_EXHAUSTED, "message needs more than %zu bytes when decoded",
                           check->limits->decoded_max);
}

static void check_text(struct check *check, const struct frame *frame, const uint8_t *text, size_t length)
{
    if (!forge_utf8_is_valid(text, length))
        fault(check, frame, memchr(text, 0, length) ? "must not contain a NUL character" : "must be valid UTF-8");
}

static void check_enum(struct check *check, const struct frame *frame, uint64_t value)
{
    const ProtobufCEnumDescriptor *type = frame->field->descriptor;
    if (!check->limits->open_enums && !protobuf_c_enum_descriptor_get_value(type, (int)(uint32_t)value)) {
        char what[96];
        snprintf(what, sizeof what, "%d is not a value of %.64s", (int)(uint32_t)value, type->short_name);
        fault(check, frame, what);
    }
}

static forge_code check_packed(struct check *check, struct frame *frame, const uint8_t *data, size_t length)
{
    ProtobufCType type = frame->field->type;
    size_t element_size = type_traits[type].element_size, count = count_packed(type, data, length);
    forge_code code = grow_decoded(check, count * element_size);
    if (code != FORGE_OK)
        return code;
    if (type_traits[type].wire_type != WIRE_VARINT)
        return length % element_size == 0 ? FORGE_OK : malformed(check, frame, "packed values are cut off");
    frame->packed_index = 0;
    for (const uint8_t *at = data, *end = data + length; at < end; frame->packed_index++) {
        uint64_t value;
        if (!read_varint(&at, end, type == PROTOBUF_C_TYPE_BOOL ? 1 : VARINT_MAX, &value))
            return malformed(check, frame, "packed values are cut off");
        if (type == PROTOBUF_C_TYPE_BOOL && value > 1)
            return malformed(check, frame, "not a boolean");
        if (type == PROTOBUF_C_TYPE_ENUM)
            check_enum(check, frame, value);
    }
    frame->packed_index = 0;
    return FORGE_OK;
}

static forge_code check_message(struct check *check, const struct frame *parent, const ProtobufCMessageDescriptor *type,
                                const uint8_t *data, size_t length, unsigned depth);

static forge_code check_length_delimited(struct check *check, struct frame *frame, const uint8_t *data, size_t length, unsigned depth)
{
    ProtobufCType type = frame->field->type;
    if (type == PROTOBUF_C_TYPE_STRING) {
        check_text(check, frame, data, length);
        return grow_decoded(check, allocated(length + 1));
    }
    if (type == PROTOBUF_C_TYPE_BYTES)
        return grow_decoded(check, allocated(length));
    if (type != PROTOBUF_C_TYPE_MESSAGE)
        return check_packed(check, frame, data, length);
    if (depth == check->limits->depth_max)
        return malformed(check, frame, "messages are nested too deeply");
    return check_message(check, frame, frame->field->descriptor, data, length, depth + 1);
}

static forge_code check_known(struct check *check, struct frame *frame, unsigned wire_type, const uint8_t **at, unsigned depth)
{
    const ProtobufCFieldDescriptor *field = frame->field;
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    bool packed = wire_type == WIRE_LENGTH && repeated && type_is_packable(field->type);
    if (wire_type != type_traits[field->type].wire_type && !packed)
        return malformed(check, frame, "wrong wire type");
    if (repeated && !packed) {
        forge_code code = grow_decoded(check, type_traits[field->type].element_size);
        if (code != FORGE_OK)
            return code;
    }
    if (wire_type == WIRE_LENGTH) {
        size_t length;
        if (!read_length(at, frame->end, &length))
            return malformed(check, frame, "cut off");
        const uint8_t *data = *at;
        *at += length;
        return check_length_delimited(check, frame, data, length, depth);
    }
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        uint64_t value;
        if (!read_varint(at, frame->end, VARINT_MAX, &value))
            return malformed(check, frame, "cut off");
        check_enum(check, frame, value);
        return FORGE_OK;
    }
    return skip_value(at, frame->end, wire_type) ? FORGE_OK : malformed(check, frame, "cut off");
}

static forge_code check_unknown(struct check *check, const struct frame *frame, unsigned wire_type, const uint8_t **at)
{
    const uint8_t *value = *at;
    if (!skip_value(at, frame->end, wire_type))
        return malformed(check, frame, "cut off");
    check->unknown += (size_t)(*at - frame->key);
    if (check->unknown > check->limits->unknown_max)
        return forge_error_set(check->error, FORGE_INVALID_ARGUMENT, "message has more than %zu bytes of unknown fields",
                               check->limits->unknown_max);
    return grow_decoded(check, allocated(sizeof(ProtobufCMessageUnknownField)) + allocated((size_t)(*at - value)));
}

/* Fields mostly come in the order of their numbers: look at the same and at the next one first. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *previous,
                                                  uint32_t number)
{
    if (type->n_fields == 0)
        return NULL;
    const ProtobufCFieldDescriptor *guess = previous ? previous : type->fields;
    if (guess->id == number)
        return guess;
    if (guess + 1 < type->fields + type->n_fields && guess[1].id == number)
        return guess + 1;
    return protobuf_c_message_descriptor_get_field(type, number);
}

static forge_code read_key(struct check *check, struct frame *frame, const uint8_t **at, unsigned *out_wire_type)
{
    uint64_t key;
    frame->key = *at;
    frame->number = 0;
    if (!read_varint(at, frame->end, KEY_MAX, &key))
        return malformed(check, frame, "a field key is cut off");
    if (key >> 3 == 0 || key >> 3 > FIELD_NUMBER_MAX)
        return malformed(check, frame, "a field number is out of range");
    *out_wire_type = key & 7;
    if (*out_wire_type == WIRE_START_GROUP || *out_wire_type == WIRE_END_GROUP)
        return malformed(check, frame, "groups are not supported");
    if (*out_wire_type > WIRE_32BIT)
        return malformed(check, frame, "unknown wire type");
    frame->number = (uint32_t)(key >> 3);
    return FORGE_OK;
}

/* Bytes of the tables in which protobuf-c notes the fields of one message: 16 on its stack, then each twice the one before. */
static size_t scan_table_size(size_t fields)
{
    size_t size = 0, in_table = SCANNED_ON_STACK;
    while (fields > in_table) {
        fields -= in_table;
        in_table *= 2;
        size += in_table * SCANNED_SIZE;
    }
    return size;
}

/* The message fields of one message that were seen. A second one would be merged into the first, and merge_messages() of
 * protobuf-c 1.4.1 reads outside its tables when both leave a oneof unset, and loses scalars: it must never run. */
struct seen_fields {
    uint64_t words[SEEN_FIELDS_MAX / 64];
};

static bool is_second(struct seen_fields *seen, const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED)
        return false;
    size_t index = (size_t)(field - type->fields);
    assert(index < SEEN_FIELDS_MAX);
    uint64_t bit = (uint64_t)1 << (index % 64), *word = &seen->words[index / 64];
    bool second = (*word & bit) != 0;
    *word |= bit;
    return second;
}

static forge_code check_message(struct check *check, const struct frame *parent, const ProtobufCMessageDescriptor *type,
                                const uint8_t *data, size_t length, unsigned depth)
{
    struct seen_fields seen = {{0}};
    struct frame frame = {.parent = parent, .data = data, .end = data + length};
    const ProtobufCFieldDescriptor *known = NULL;
    size_t fields = 0;
    forge_code code = grow_decoded(check, allocated(type->sizeof_message));
    for (const uint8_t *at = data; code == FORGE_OK && at < frame.end; fields++) {
        unsigned wire_type = 0;
        code = read_key(check, &frame, &at, &wire_type);
        if (code != FORGE_OK)
            break;
        frame.field = find_field(type, known, frame.number);
        if (!frame.field) {
            code = check_unknown(check, &frame, wire_type, &at);
            continue;
        }
        if (frame.field != known && frame.field->label == PROTOBUF_C_LABEL_REPEATED)
            code = grow_decoded(check, ALLOCATION_UNIT); /* its array is rounded up */
        known = frame.field;
        if (is_second(&seen, type, known))
            code = malformed(check, &frame, "given twice");
        if (code == FORGE_OK)
            code = check_known(check, &frame, wire_type, &at, depth);
    }
    return code == FORGE_OK && fields > SCANNED_ON_STACK ? grow_decoded(check, scan_table_size(fields)) : code;
}

forge_code forge_message_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                               const struct forge_message_limits *limits, struct forge_arena *arena, struct forge_error *error)
{
    struct check check = {.limits = limits, .arena = arena, .error = error};
    forge_code code = check_message(&check, NULL, type, data, len, 0);
    return code == FORGE_OK && check.faults ? FORGE_INVALID_ARGUMENT : code;
}

forge_code forge_message_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                                const struct forge_message_limits *limits, struct forge_arena *arena, ProtobufCMessage **out,
                                struct forge_error *error)
{
    forge_code code = forge_message_check(type, data, len, limits, arena, error);
    if (code != FORGE_OK)
        return code;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, forge_arena_allocator(arena), len, data);
    if (forge_arena_has_overflowed(arena))
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory to decode a message of %zu bytes", len);
    if (!message)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "message is malformed");
    *out = message;
    return FORGE_OK;
}
