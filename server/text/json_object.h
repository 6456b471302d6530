/* JSON objects that callers send as text. Pure functions, any thread. */
#ifndef SERVER_TEXT_JSON_OBJECT_H
#define SERVER_TEXT_JSON_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes the one text that all spellings of this object share: members sorted by name, no spaces. Returns its bytes; 0 when json is no JSON
 * object (RFC 8259; a member named twice is refused). out is written only when it has that much room; nothing is terminated. */
size_t text_json_object_canonical(const char *json, size_t size, char *out, size_t out_size);
/* The same object for people to read and compare: members sorted by name, one a line, indented by two spaces. */
size_t text_json_object_indented(const char *json, size_t size, char *out, size_t out_size);

/* Is this one JSON object (a member named twice is refused); is it one JSON value of any kind? */
bool text_json_is_object(const char *json, size_t size);
bool text_json_is_value(const char *json, size_t size);

/* A member of an object that is put together. Numbers that JSON does not have (NaN) and a text that is no JSON become null. */
struct text_json_member {
    const char *name;
    enum text_json_kind { TEXT_JSON_STRING, TEXT_JSON_BOOLEAN, TEXT_JSON_INTEGER, TEXT_JSON_REAL, TEXT_JSON_VALUE } kind;
    const char *text; /* of a string, or the JSON of a value */
    bool boolean;
    int64_t integer;
    double real;
};
/* Writes the object of these members in the canonical form above; of several members of one name the last counts. */
size_t text_json_object_of(const struct text_json_member *members, size_t count, char *out, size_t out_size);

#endif
