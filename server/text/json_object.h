/* JSON objects that callers send as text. Pure functions, any thread. */
#ifndef SERVER_TEXT_JSON_OBJECT_H
#define SERVER_TEXT_JSON_OBJECT_H

#include <stddef.h>

/* Writes the one text that all spellings of this object share: members sorted by name, no spaces. Returns its bytes; 0 when json is no JSON
 * object (RFC 8259; a member named twice is refused). out is written only when it has that much room; nothing is terminated. */
size_t text_json_object_canonical(const char *json, size_t size, char *out, size_t out_size);
/* The same object for people to read and compare: members sorted by name, one a line, indented by two spaces. */
size_t text_json_object_indented(const char *json, size_t size, char *out, size_t out_size);

#endif
