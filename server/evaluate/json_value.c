#include "evaluate/json_value.h"

#include "wire/utf8.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

_Static_assert(LDBL_MANT_DIG >= 64, "a long double must hold every int64");

enum evaluate_json evaluate_json_read(const char *text, size_t size, json_t **out, char *out_message, size_t message_size)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t error;
    *out = json_loadb(text, size, flags, &error);
    if (*out == NULL && json_error_code(&error) == json_error_numeric_overflow)
        *out = json_loadb(text, size, flags | JSON_DECODE_INT_AS_REAL, &error);
    if (*out != NULL)
        return EVALUATE_JSON_READ;
    if (json_error_code(&error) == json_error_out_of_memory)
        return EVALUATE_JSON_NO_MEMORY;
    forge_utf8_print(out_message, message_size, "line %d: %s", error.line, error.text);
    return EVALUATE_JSON_WRONG;
}

long double evaluate_json_number(const json_t *value)
{
    return json_is_integer(value) ? (long double)json_integer_value(value) : (long double)json_real_value(value);
}

bool evaluate_json_is_integer(const json_t *value)
{
    return json_is_integer(value) || (json_is_real(value) && trunc(json_real_value(value)) == json_real_value(value));
}

static bool take_step(uint64_t *steps)
{
    if (*steps == 0)
        return false;
    --*steps;
    return true;
}

static bool arrays_are_equal(const json_t *a, const json_t *b, uint64_t *steps)
{
    size_t size = json_array_size(a);
    if (size != json_array_size(b))
        return false;
    for (size_t i = 0; i < size; i++)
        if (!evaluate_json_equal(json_array_get(a, i), json_array_get(b, i), steps))
            return false;
    return true;
}

static bool objects_are_equal(const json_t *a, const json_t *b, uint64_t *steps)
{
    const char *name;
    json_t *member;
    if (json_object_size(a) != json_object_size(b))
        return false;
    json_object_foreach((json_t *)(uintptr_t)a, name, member)
    {
        const json_t *other = json_object_get(b, name);
        if (other == NULL || !evaluate_json_equal(member, other, steps))
            return false;
    }
    return true;
}

bool evaluate_json_equal(const json_t *a, const json_t *b, uint64_t *steps)
{
    if (!take_step(steps))
        return false;
    if (json_is_number(a) && json_is_number(b))
        return evaluate_json_number(a) == evaluate_json_number(b);
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_string(a))
        return json_string_length(a) == json_string_length(b) &&
               memcmp(json_string_value(a), json_string_value(b), json_string_length(a)) == 0;
    if (json_is_array(a))
        return arrays_are_equal(a, b, steps);
    return !json_is_object(a) || objects_are_equal(a, b, steps);
}

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001B3);
    return hash;
}

static uint64_t hash_number(uint64_t hash, const json_t *value)
{
    /* Neighbouring integers above 2^53 share a double, and so a hash; -0 is 0. */
    double number = (double)evaluate_json_number(value) + 0.0;
    return hash_bytes(hash, &number, sizeof number);
}

uint64_t evaluate_json_hash(const json_t *value, uint64_t *steps)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325), inner;
    const char *name;
    json_t *member;
    if (!take_step(steps))
        return 0;
    if (json_is_number(value))
        return hash_number(hash_bytes(hash, "n", 1), value);
    uint8_t type = (uint8_t)json_typeof(value);
    hash = hash_bytes(hash, &type, 1);
    if (json_is_string(value))
        return hash_bytes(hash, json_string_value(value), json_string_length(value));
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        inner = evaluate_json_hash(json_array_get(value, i), steps);
        hash = hash_bytes(hash, &inner, sizeof inner);
    }
    if (json_is_object(value))
        json_object_foreach((json_t *)(uintptr_t)value, name, member)
        {
            inner = evaluate_json_hash(member, steps);
            hash += hash_bytes(inner, name, strlen(name)); /* in any order */
        }
    return hash;
}
