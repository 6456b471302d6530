/* Private to json_print.c and json_read.c: the types that have a form of their own in JSON, and names. */
#ifndef FORGE_WIRE_JSON_TYPES_H
#define FORGE_WIRE_JSON_TYPES_H

#include "wire/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_form {
    JSON_FORM_OBJECT,
    JSON_FORM_TIMESTAMP,  /* "2026-03-01T12:00:00.250Z" (RFC 3339) */
    JSON_FORM_FIELD_MASK, /* "name,userDescription" */
    JSON_FORM_WRAPPER     /* the value of its only field */
};
enum json_form json_form_of(const ProtobufCMessageDescriptor *type);

/* Bytes of one value in a message, and from one element of an array to the next. */
size_t json_value_size(ProtobufCType type);

enum { JSON_TIMESTAMP_SIZE = 32, JSON_NAME_MAX = 128 };

/* False for a time outside the years 1 to 9999, which RFC 3339 cannot write. */
bool json_format_timestamp(int64_t seconds, int32_t nanos, char out[JSON_TIMESTAMP_SIZE]);
/* RFC 3339 with any offset and up to 9 digits of fraction. */
bool json_parse_timestamp(const char *text, int64_t *out_seconds, int32_t *out_nanos);

/* snake_case to lowerCamelCase and back; a name that would not fit is cut off. */
void json_to_camel(const char *name, size_t length, char out[JSON_NAME_MAX]);
void json_to_snake(const char *name, size_t length, char out[JSON_NAME_MAX]);

/* Base64 (RFC 4648): standard alphabet with padding out, standard or URL-safe with or without padding in. encode writes
 * 4 * ((size + 2) / 3) bytes without a NUL; decode needs room for length bytes. */
size_t json_base64_encode(const uint8_t *data, size_t size, char *out);
bool json_base64_decode(const char *text, size_t length, uint8_t *out, size_t *out_size);

#endif
