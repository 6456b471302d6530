#include "wire/json.h"
#include "wire/json_types.h"

#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct printer {
    FILE *out;
    bool pretty, with_defaults;
    unsigned level; /* open objects and arrays */
};

static void print_break(struct printer *printer)
{
    if (!printer->pretty)
        return;
    fputc('\n', printer->out);
    for (unsigned i = 0; i < printer->level; i++)
        fputs("  ", printer->out);
}

static void open_group(struct printer *printer, char bracket)
{
    fputc(bracket, printer->out);
    printer->level++;
}

static void next_member(struct printer *printer, bool *first)
{
    if (!*first)
        fputc(',', printer->out);
    *first = false;
    print_break(printer);
}

static void close_group(struct printer *printer, char bracket, bool empty)
{
    printer->level--;
    if (!empty)
        print_break(printer);
    fputc(bracket, printer->out);
}

static void print_escaped(struct printer *printer, const char *text)
{
    static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* what is escaped, and the letter that stands for it */
    for (const char *c = text; *c; c++) {
        const char *escape = NULL;
        for (const char *e = escapes; *e && !escape; e += 2)
            escape = *e == *c ? e : NULL;
        if (escape)
            fprintf(printer->out, "\\%c", escape[1]);
        else if ((unsigned char)*c < 0x20 || *c == 0x7F)
            fprintf(printer->out, "\\u%04x", (unsigned char)*c);
        else
            fputc(*c, printer->out);
    }
}

static void print_text(struct printer *printer, const char *text)
{
    fputc('"', printer->out);
    print_escaped(printer, text);
    fputc('"', printer->out);
}

static void print_bytes(struct printer *printer, const ProtobufCBinaryData *bytes)
{
    char block[1024];
    enum { STEP = 3 * sizeof block / 4 };
    fputc('"', printer->out);
    for (size_t i = 0; i < bytes->len; i += STEP) {
        size_t size = bytes->len - i < STEP ? bytes->len - i : STEP;
        fwrite(block, 1, json_base64_encode(bytes->data + i, size, block), printer->out);
    }
    fputc('"', printer->out);
}

/* Decimal text that reads back as the same number, without digits that only show how binary rounds. */
static void print_real(struct printer *printer, double value, bool single)
{
    if (isnan(value)) {
        fputs("\"NaN\"", printer->out);
    } else if (isinf(value)) {
        fputs(value < 0 ? "\"-Infinity\"" : "\"Infinity\"", printer->out);
    } else if (value == 0 && signbit(value)) {
        fputs("-0.0", printer->out); /* readers take -0 for a whole number and lose its sign */
    } else {
        char text[40];
        int digits_max = single ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
        for (int digits = single ? FLT_DIG : DBL_DIG; digits <= digits_max; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, value);
            if (single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
                break;
        }
        fputs(text, printer->out);
    }
}

static void print_enum(struct printer *printer, const ProtobufCEnumDescriptor *type, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);
    if (known)
        print_text(printer, known->name);
    else
        fprintf(printer->out, "%d", value);
}

static void print_message(struct printer *printer, const ProtobufCMessage *message);

static void print_value(struct printer *printer, const ProtobufCFieldDescriptor *field, const void *value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        fprintf(printer->out, "%" PRId32, *(const int32_t *)value);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        fprintf(printer->out, "%" PRIu32, *(const uint32_t *)value);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        fprintf(printer->out, "\"%" PRId64 "\"", *(const int64_t *)value);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        fprintf(printer->out, "\"%" PRIu64 "\"", *(const uint64_t *)value);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        print_real(printer, (double)*(const float *)value, true);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        print_real(printer, *(const double *)value, false);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        fputs(*(const protobuf_c_boolean *)value ? "true" : "false", printer->out);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        print_enum(printer, field->descriptor, *(const int *)value);
        break;
    case PROTOBUF_C_TYPE_STRING:
        print_text(printer, *(char *const *)value ? *(char *const *)value : "");
        break;
    case PROTOBUF_C_TYPE_BYTES:
        print_bytes(printer, value);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        print_message(printer, *(ProtobufCMessage *const *)value);
        break;
    }
}

/* Does the field hold a value that is printed? */
static bool is_present(const struct printer *printer, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message, *value = base + field->offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return printer->with_defaults || *(const size_t *)(base + field->quantifier_offset) > 0;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)(base + field->quantifier_offset) == field->id;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(ProtobufCMessage *const *)value != NULL;
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset)
        return *(const protobuf_c_boolean *)(base + field->quantifier_offset);
    if (printer->with_defaults)
        return true;
    if (field->type == PROTOBUF_C_TYPE_STRING)
        return *(char *const *)value && **(char *const *)value;
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)(const void *)value)->len > 0;
    static const char zeros[8];
    return memcmp(value, zeros, json_value_size(field->type)) != 0;
}

static void print_field(struct printer *printer, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        print_value(printer, field, base + field->offset);
        return;
    }
    size_t count = *(const size_t *)(base + field->quantifier_offset);
    const char *elements = *(const char *const *)(base + field->offset);
    bool first = true;
    open_group(printer, '[');
    for (size_t i = 0; i < count; i++) {
        next_member(printer, &first);
        print_value(printer, field, elements + i * json_value_size(field->type));
    }
    close_group(printer, ']', first);
}

static void print_object(struct printer *printer, const ProtobufCMessage *message)
{
    bool first = true;
    open_group(printer, '{');
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!is_present(printer, message, field))
            continue;
        next_member(printer, &first);
        fprintf(printer->out, printer->pretty ? "\"%s\": " : "\"%s\":", field->name);
        print_field(printer, message, field);
    }
    close_group(printer, '}', first);
}

static void print_timestamp(struct printer *printer, const Google__Protobuf__Timestamp *time)
{
    char text[JSON_TIMESTAMP_SIZE];
    if (json_format_timestamp(time->seconds, time->nanos, text))
        print_text(printer, text);
    else
        fputs("null", printer->out); /* a time that RFC 3339 has no text for */
}

static void print_field_mask(struct printer *printer, const Google__Protobuf__FieldMask *mask)
{
    fputc('"', printer->out);
    for (size_t i = 0; i < mask->n_paths; i++) {
        char name[JSON_NAME_MAX];
        json_to_camel(mask->paths[i], strlen(mask->paths[i]), name);
        if (i > 0)
            fputc(',', printer->out);
        print_escaped(printer, name);
    }
    fputc('"', printer->out);
}

static void print_message(struct printer *printer, const ProtobufCMessage *message)
{
    switch (json_form_of(message->descriptor)) {
    case JSON_FORM_OBJECT:
        print_object(printer, message);
        break;
    case JSON_FORM_TIMESTAMP:
        print_timestamp(printer, (const Google__Protobuf__Timestamp *)message);
        break;
    case JSON_FORM_FIELD_MASK:
        print_field_mask(printer, (const Google__Protobuf__FieldMask *)message);
        break;
    case JSON_FORM_WRAPPER: {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[0];
        print_value(printer, field, (const char *)message + field->offset);
        break;
    }
    }
}

char *forge_json_from_message(const ProtobufCMessage *message, const struct forge_json_options *options, struct forge_arena *arena)
{
    char *text = NULL, *copy = NULL;
    size_t size = 0;
    struct printer printer = {.out = open_memstream(&text, &size), .pretty = options->pretty, .with_defaults = options->with_defaults};
    if (printer.out) {
        /* Numbers have a point and letters are ASCII, whatever the process's locale. */
        locale_t neutral = newlocale(LC_NUMERIC_MASK | LC_CTYPE_MASK, "C", (locale_t)0);
        locale_t before = neutral ? uselocale(neutral) : (locale_t)0;
        print_message(&printer, message);
        if (neutral) {
            uselocale(before);
            freelocale(neutral);
        }
        bool complete = neutral && !ferror(printer.out);
        if (fclose(printer.out) == 0 && complete)
            copy = forge_arena_memdup(arena, text, size + 1);
    }
    free(text);
    return copy;
}
