/* JSON values as JSON Schema compares them: 1 and 1.0 are equal, members have no order. Pure functions, any thread. */
#ifndef SERVER_EVALUATE_JSON_VALUE_H
#define SERVER_EVALUATE_JSON_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum evaluate_json { EVALUATE_JSON_READ, EVALUATE_JSON_WRONG, EVALUATE_JSON_NO_MEMORY };

/* Reads exactly one value (RFC 8259), white space around it allowed. Of members with the same name the last counts. Bounds: 2,048 levels,
 * numbers in the range of a double; integers that do not fit 64 bits are taken as doubles, and then so are all in this text. A member name
 * with a NUL is refused. Texts that are wrong get a message with the line. *out is the caller's to json_decref(). */
enum evaluate_json evaluate_json_read(const char *text, size_t size, json_t **out, char *out_message, size_t message_size);

/* The number of an integer or real, without loss: a long double holds every int64 and every double on the machines we build for. */
long double evaluate_json_number(const json_t *value);
/* An integer as JSON Schema has it: a number without a fraction. */
bool evaluate_json_is_integer(const json_t *value);

/* Both take 1 from *steps for each value they look at, and stop early, with any result, where none are left. */
bool evaluate_json_equal(const json_t *a, const json_t *b, uint64_t *steps);
/* Equal values have equal hashes. */
uint64_t evaluate_json_hash(const json_t *value, uint64_t *steps);

#endif
