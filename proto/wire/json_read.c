#include "wire/json.h"
#include "wire/json_types.h"

#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, PATH_SIZE = 256 };

struct reader {
    struct forge_arena *arena;
    struct forge_error *error;
    unsigned depth;
    size_t path_length;
    char path[PATH_SIZE]; /* of the value that is read, e.g. "messages[2].role" */
};

/* Appends to the path and returns its length before, for path_cut. A path that gets too long ends with what fits. */
static FORGE_PRINTF(2, 3) size_t path_append(struct reader *reader, const char *format, ...)
{
    size_t before = reader->path_length;
    va_list arguments;
    va_start(arguments, format);
    int added = vsnprintf(reader->path + before, PATH_SIZE - before, format, arguments);
    va_end(arguments);
    reader->path_length += added > 0 ? (size_t)added : 0;
    if (reader->path_length >= PATH_SIZE)
        reader->path_length = PATH_SIZE - 1;
    return before;
}

static void path_cut(struct reader *reader, size_t length)
{
    reader->path_length = length;
    reader->path[length] = '\0';
}

static FORGE_PRINTF(2, 3) bool fail(struct reader *reader, const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    forge_error_set(reader->error, FORGE_INVALID_ARGUMENT, "%s%s%s", reader->path, reader->path_length ? ": " : "", what);
    if (reader->path_length)
        forge_error_add_violation(reader->error, reader->arena, reader->path, "%s", what);
    return false;
}

/* A whole number: 7, 7.0 or "7". */
static bool read_signed(struct reader *reader, const json_t *json, int64_t min, int64_t max, int64_t *out)
{
    int64_t value = 0;
    bool ok = true, in_range = true;
    if (json_is_integer(json)) {
        value = json_integer_value(json);
    } else if (json_is_real(json)) {
        double real = json_real_value(json);
        in_range = real >= -0x1p63 && real < 0x1p63;
        ok = real == trunc(real);
        value = in_range ? (int64_t)real : 0;
    } else if (json_is_string(json)) {
        const char *text = json_string_value(json);
        char *end;
        errno = 0;
        value = strtoll(text, &end, 10);
        in_range = errno != ERANGE;
        ok = *end == '\0' && (*text == '-' || (*text >= '0' && *text <= '9'));
    } else {
        ok = false;
    }
    if (!ok)
        return fail(reader, "must be a whole number");
    if (!in_range || value < min || value > max)
        return fail(reader, "must be from %lld to %lld", (long long)min, (long long)max);
    *out = value;
    return true;
}

static bool read_unsigned_64(struct reader *reader, const json_t *json, uint64_t *out)
{
    if (json_is_string(json)) {
        const char *text = json_string_value(json);
        char *end;
        errno = 0;
        uint64_t value = strtoull(text, &end, 10);
        if (*end != '\0' || *text < '0' || *text > '9')
            return fail(reader, "must be a whole number of 0 or more");
        if (errno == ERANGE)
            return fail(reader, "must be from 0 to 18446744073709551615");
        *out = value;
        return true;
    }
    int64_t value = 0;
    if (!read_signed(reader, json, 0, INT64_MAX, &value))
        return false;
    *out = (uint64_t)value;
    return true;
}

static bool read_real(struct reader *reader, const json_t *json, double *out)
{
    static const char what[] = "must be a number, \"NaN\", \"Infinity\" or \"-Infinity\"";
    if (json_is_number(json)) {
        *out = json_number_value(json);
        return true;
    }
    const char *text = json_string_value(json); /* NULL if it is none */
    if (!text)
        return fail(reader, what);
    if (strcmp(text, "NaN") == 0)
        *out = (double)NAN;
    else if (strcmp(text, "Infinity") == 0)
        *out = (double)INFINITY;
    else if (strcmp(text, "-Infinity") == 0)
        *out = (double)-INFINITY;
    else {
        char *end;
        *out = strtod(text, &end);
        /* strtod also takes hexadecimal, names and spaces; JSON's numbers have none of them. */
        if (*end || end == text || text[strspn(text, "0123456789+-.eE")] || !isfinite(*out))
            return fail(reader, what);
    }
    return true;
}

static bool read_enum(struct reader *reader, const json_t *json, const ProtobufCEnumDescriptor *type, int *out)
{
    const char *name = json_string_value(json);
    const ProtobufCEnumValue *known = NULL;
    if (name) {
        known = protobuf_c_enum_descriptor_get_value_by_name(type, name);
        if (!known)
            return fail(reader, "\"%.64s\" is not a value of %s", name, type->short_name);
    } else {
        int64_t number = 0;
        if (!json_is_integer(json))
            return fail(reader, "must be the name of a value of %s", type->short_name);
        if (!read_signed(reader, json, INT32_MIN, INT32_MAX, &number))
            return false;
        known = protobuf_c_enum_descriptor_get_value(type, (int)number);
        if (!known)
            return fail(reader, "%lld is not a value of %s", (long long)number, type->short_name);
    }
    *out = known->value;
    return true;
}

static bool read_text(struct reader *reader, const json_t *json, char **out)
{
    if (!json_is_string(json))
        return fail(reader, "must be a string");
    char *copy = forge_arena_strdup(reader->arena, json_string_value(json));
    if (copy)
        *out = copy;
    return copy != NULL;
}

static bool read_bytes(struct reader *reader, const json_t *json, ProtobufCBinaryData *out)
{
    if (!json_is_string(json))
        return fail(reader, "must be a string in base64");
    size_t size = 0, length = json_string_length(json);
    uint8_t *data = forge_arena_alloc(reader->arena, length);
    if (!data)
        return false;
    if (!json_base64_decode(json_string_value(json), length, data, &size))
        return fail(reader, "must be a string in base64");
    *out = (ProtobufCBinaryData){.len = size, .data = data};
    return true;
}

static bool read_message(struct reader *reader, const json_t *json, const ProtobufCMessageDescriptor *type, ProtobufCMessage **out);

/* Whole numbers and reals of all sizes. */
static bool read_number(struct reader *reader, const json_t *json, ProtobufCType type, void *out)
{
    int64_t whole = 0;
    double real = 0;
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        if (!read_signed(reader, json, INT32_MIN, INT32_MAX, &whole))
            return false;
        *(int32_t *)out = (int32_t)whole;
        return true;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (!read_signed(reader, json, 0, UINT32_MAX, &whole))
            return false;
        *(uint32_t *)out = (uint32_t)whole;
        return true;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_signed(reader, json, INT64_MIN, INT64_MAX, out);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_unsigned_64(reader, json, out);
    case PROTOBUF_C_TYPE_FLOAT:
        if (!read_real(reader, json, &real))
            return false;
        if (isfinite(real) && isinf((float)real))
            return fail(reader, "is out of the range of a 32-bit number");
        *(float *)out = (float)real;
        return true;
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_real(reader, json, out);
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    abort(); /* read_value calls this for numbers only */
}

static bool read_value(struct reader *reader, const json_t *json, const ProtobufCFieldDescriptor *field, void *out)
{
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return read_text(reader, json, out);
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return read_bytes(reader, json, out);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return read_message(reader, json, field->descriptor, out);
    if (field->type == PROTOBUF_C_TYPE_ENUM)
        return read_enum(reader, json, field->descriptor, out);
    if (field->type != PROTOBUF_C_TYPE_BOOL)
        return read_number(reader, json, field->type, out);
    if (!json_is_boolean(json))
        return fail(reader, "must be true or false");
    *(protobuf_c_boolean *)out = json_is_true(json);
    return true;
}

static bool read_array(struct reader *reader, const json_t *json, const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
    if (!json_is_array(json))
        return fail(reader, "must be an array");
    size_t count = json_array_size(json), size = json_value_size(field->type);
    char *elements = forge_arena_calloc(reader->arena, count, size);
    if (!elements)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t before = path_append(reader, "[%zu]", i);
        if (!read_value(reader, json_array_get(json, i), field, elements + i * size))
            return false;
        path_cut(reader, before);
    }
    char *base = (char *)message;
    *(void **)(base + field->offset) = elements;
    *(size_t *)(base + field->quantifier_offset) = count;
    return true;
}

static const ProtobufCFieldDescriptor *field_by_number(const ProtobufCMessageDescriptor *type, uint32_t number)
{
    return protobuf_c_message_descriptor_get_field(type, number);
}

static bool read_field(struct reader *reader, const json_t *json, const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
    char *base = (char *)message;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return read_array(reader, json, field, message);
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t *chosen = (uint32_t *)(void *)(base + field->quantifier_offset);
        if (*chosen)
            return fail(reader, "cannot be given together with %s", field_by_number(message->descriptor, *chosen)->name);
        *chosen = field->id;
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset) {
        *(protobuf_c_boolean *)(void *)(base + field->quantifier_offset) = 1;
    }
    return read_value(reader, json, field, base + field->offset);
}

/* By the name in the .proto file, or by that name in lowerCamelCase. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, const char *name)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(type, name);
    if (field)
        return field;
    char snake[JSON_NAME_MAX], camel[JSON_NAME_MAX];
    json_to_snake(name, strlen(name), snake);
    field = protobuf_c_message_descriptor_get_field_by_name(type, snake);
    if (!field)
        return NULL;
    json_to_camel(field->name, strlen(field->name), camel);
    return strcmp(camel, name) == 0 ? field : NULL;
}

static bool read_object(struct reader *reader, json_t *json, ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (!json_is_object(json))
        return fail(reader, "must be an object (%s)", type->short_name);
    bool *seen = forge_arena_calloc(reader->arena, type->n_fields, sizeof *seen);
    if (!seen)
        return false;
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value)
    {
        const ProtobufCFieldDescriptor *field = find_field(type, name);
        size_t before = path_append(reader, "%s%s", reader->path_length ? "." : "", field ? field->name : name);
        if (!field)
            return fail(reader, "%s has no such field", type->short_name);
        if (seen[field - type->fields])
            return fail(reader, "given twice, by both of its names");
        seen[field - type->fields] = true;
        if (!json_is_null(value) && !read_field(reader, value, field, message))
            return false;
        path_cut(reader, before);
    }
    return true;
}

static bool read_timestamp(struct reader *reader, const json_t *json, ProtobufCMessage *message)
{
    Google__Protobuf__Timestamp *time = (Google__Protobuf__Timestamp *)message;
    const char *text = json_string_value(json);
    if (!text || !json_parse_timestamp(text, &time->seconds, &time->nanos))
        return fail(reader, "must be a time such as \"2026-03-01T12:00:00.250Z\" (RFC 3339)");
    return true;
}

static bool read_field_mask(struct reader *reader, const json_t *json, ProtobufCMessage *message)
{
    Google__Protobuf__FieldMask *mask = (Google__Protobuf__FieldMask *)message;
    static const char path_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
    const char *text = json_string_value(json);
    if (!text)
        return fail(reader, "must be a string of field names separated by commas");
    if (!*text)
        return true;
    size_t count = 1;
    for (const char *c = text; *c; c++)
        count += *c == ',';
    mask->paths = forge_arena_calloc(reader->arena, count, sizeof *mask->paths);
    if (!mask->paths)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(text, ",");
        char name[JSON_NAME_MAX];
        bool everything = length == 1 && *text == '*';
        if (!everything && (!isalpha((unsigned char)*text) || length > JSON_NAME_MAX / 2 || strspn(text, path_characters) < length))
            return fail(reader, "a path is not of field names joined by dots, at most %d characters", JSON_NAME_MAX / 2);
        json_to_snake(text, length, name);
        mask->paths[i] = forge_arena_strdup(reader->arena, name);
        if (!mask->paths[i])
            return false;
        text += length + 1;
    }
    mask->n_paths = count;
    return true;
}

static bool read_form(struct reader *reader, json_t *json, ProtobufCMessage *message)
{
    switch (json_form_of(message->descriptor)) {
    case JSON_FORM_OBJECT:
        return read_object(reader, json, message);
    case JSON_FORM_TIMESTAMP:
        return read_timestamp(reader, json, message);
    case JSON_FORM_FIELD_MASK:
        return read_field_mask(reader, json, message);
    case JSON_FORM_WRAPPER:
        return read_field(reader, json, &message->descriptor->fields[0], message);
    }
    abort();
}

static bool read_message(struct reader *reader, const json_t *json, const ProtobufCMessageDescriptor *type, ProtobufCMessage **out)
{
    if (reader->depth == DEPTH_MAX)
        return fail(reader, "nested deeper than %d levels", DEPTH_MAX);
    ProtobufCMessage *message = forge_arena_alloc(reader->arena, type->sizeof_message);
    if (!message)
        return false;
    protobuf_c_message_init(type, message);
    reader->depth++;
    /* jansson's iteration wants a pointer it could write through, although it does not. */
    bool ok = read_form(reader, (json_t *)(uintptr_t)json, message);
    reader->depth--;
    if (ok)
        *out = message;
    return ok;
}

forge_code forge_json_to_message(const char *json, size_t len, const ProtobufCMessageDescriptor *type, struct forge_arena *arena,
                                 ProtobufCMessage **out, struct forge_error *error)
{
    struct reader reader = {.arena = arena, .error = error};
    json_error_t fault;
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (!root && json_error_code(&fault) == json_error_out_of_memory)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory to read %zu bytes of JSON", len);
    if (!root)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "JSON: line %d, column %d: %s", fault.line, fault.column, fault.text);
    /* Numbers have a point and letters are ASCII, whatever the process's locale. */
    locale_t neutral = newlocale(LC_NUMERIC_MASK | LC_CTYPE_MASK, "C", (locale_t)0), before = (locale_t)0;
    if (neutral)
        before = uselocale(neutral);
    bool ok = neutral && read_message(&reader, root, type, out);
    if (neutral) {
        uselocale(before);
        freelocale(neutral);
    }
    json_decref(root);
    if (ok)
        return FORGE_OK;
    if (!neutral || forge_arena_has_overflowed(arena))
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory to read %zu bytes of JSON", len);
    return FORGE_INVALID_ARGUMENT;
}
