/* JSON Schema, draft 7 (https://json-schema.org/draft-07/json-schema-validation), on values read by jansson. A schema is prepared once and
 * is immutable then: any thread, many at once.
 *
 * Schemas and values come from strangers, so everything is bounded: steps and bytes walked by patterns (both counted, so that the same
 * value always ends the same way), schemas within schemas, errors' length. Formats and content encodings are annotations and not checked;
 * patterns are PCRE2's in a mode close to ECMA 262 (pattern.h). A reference names a part of the same document, by JSON Pointer, by $id or
 * by both; dot segments of URIs are not resolved. Nothing is ever fetched. */
#ifndef SERVER_EVALUATE_JSON_SCHEMA_H
#define SERVER_EVALUATE_JSON_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

enum {
    JSON_SCHEMA_BYTES_MAX = 64 * 1024,
    JSON_SCHEMA_COMPILED_BYTES_MAX = 16 << 20, /* of its patterns */
    JSON_SCHEMA_NESTING_MAX = 128,             /* schemas within schemas in the document */
    JSON_SCHEMA_DEPTH_MAX = 1000,              /* schemas being applied within schemas; an endless $ref ends here */
    JSON_SCHEMA_STEPS_MAX = 10 * 1000 * 1000   /* keywords applied and values looked at for one value */
};
enum json_schema_result {
    JSON_SCHEMA_FITS,
    JSON_SCHEMA_NOT_JSON,
    JSON_SCHEMA_DIFFERS,
    JSON_SCHEMA_LIMIT, /* one of the bounds was met */
    JSON_SCHEMA_NO_MEMORY
};

struct json_schema;
struct json_t;

/* Of size bytes, 1 to JSON_SCHEMA_BYTES_MAX; the caller frees it. NULL when it is no schema or there is no memory: out_message, with room
 * for message_size bytes, says what is wrong and where in the schema (JSON Pointer); it is empty when there is no memory. */
struct json_schema *json_schema_prepare(const char *text, size_t size, char *out_message, size_t message_size);
/* Accepts NULL. */
void json_schema_free(struct json_schema *schema);
size_t json_schema_compiled_bytes(const struct json_schema *schema); /* of its patterns */

/* Whether a text is a value that fits. Unless it fits, out_message says the first reason and where in the value (JSON Pointer). *out_work
 * (may be NULL): the steps and bytes that it cost. */
enum json_schema_result json_schema_apply(const struct json_schema *schema, const char *text, size_t size, char *out_message,
                                          size_t message_size, uint64_t *out_work);
/* The same of a value that is read already (json_value.h); adds to *out_work. */
enum json_schema_result json_schema_apply_value(const struct json_schema *schema, const struct json_t *value, char *out_message,
                                                size_t message_size, uint64_t *out_work);

#endif
