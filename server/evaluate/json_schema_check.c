/* Applies a prepared schema to a value: the keywords that look at a value alone, and the walk. Those with schemas of their own are in
 * json_schema_children.c. */
#include "evaluate/json_schema_private.h"
#include "evaluate/json_value.h"
#include "evaluate/text.h"
#include "wire/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const json_schema_type_names[7] = {"null", "boolean", "object", "array", "number", "string", "integer"};

/* --- the walk --- */

bool json_schema_fail(struct validation *validation, const char *format, ...)
{
    if (validation->quiet > 0 || validation->message[0] != '\0')
        return false;
    char said[400];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(said, sizeof said, format, arguments);
    va_end(arguments);
    forge_utf8_print(validation->message, validation->message_size, "%s: %s", json_path_text(&validation->path), said);
    return false;
}

bool json_schema_take_steps(struct validation *validation, uint64_t count)
{
    if (validation->limit == NULL && validation->steps >= count) {
        validation->steps -= count;
        return true;
    }
    if (validation->limit == NULL)
        validation->limit = "limit of 10,000,000 steps";
    return false;
}

bool json_schema_matches(struct validation *validation, const struct evaluate_pattern *pattern, const char *text, size_t size)
{
    const char *limit = NULL;
    /* PCRE2 checks the text and looks for where to start: that is not free either. */
    if (!json_schema_take_steps(validation, 1 + size / 16))
        return false;
    enum evaluate_match match = evaluate_pattern_match(pattern, text, size, &validation->work, &limit);
    if (match == EVALUATE_MATCH_LIMIT)
        validation->limit = limit;
    validation->no_memory |= match == EVALUATE_MATCH_NO_MEMORY;
    return match == EVALUATE_MATCH_YES;
}

bool json_schema_fits_quietly(struct validation *validation, const struct schema_node *node, const json_t *value)
{
    validation->quiet++;
    bool fits = json_schema_check_node(validation, node, value);
    validation->quiet--;
    return fits;
}

bool json_schema_check_node(struct validation *validation, const struct schema_node *node, const json_t *value)
{
    if (!json_schema_take_steps(validation, 1) || validation->no_memory)
        return false;
    if (validation->depth == JSON_SCHEMA_DEPTH_MAX) {
        validation->limit = "limit of 1,000 schemas within schemas";
        return false;
    }
    validation->depth++;
    bool fits = !node->never || json_schema_fail(validation, "is not allowed");
    if (node->reference != NULL)
        fits = json_schema_check_node(validation, node->reference, value);
    for (size_t i = 0; fits && i < node->rule_count; i++)
        fits = json_schema_take_steps(validation, 1) && node->rules[i].check(validation, &node->rules[i], value);
    validation->depth--;
    return fits && validation->limit == NULL && !validation->no_memory;
}

/* --- any type --- */

static unsigned types_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return SCHEMA_TYPE_OBJECT;
    case JSON_ARRAY:
        return SCHEMA_TYPE_ARRAY;
    case JSON_STRING:
        return SCHEMA_TYPE_STRING;
    case JSON_INTEGER:
    case JSON_REAL:
        return SCHEMA_TYPE_NUMBER | (evaluate_json_is_integer(value) ? SCHEMA_TYPE_INTEGER : 0);
    case JSON_TRUE:
    case JSON_FALSE:
        return SCHEMA_TYPE_BOOLEAN;
    case JSON_NULL:
    default:
        return SCHEMA_TYPE_NULL;
    }
}

bool json_schema_check_type(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    if ((types_of(value) & rule->types) != 0)
        return true;
    char names[80] = "";
    for (unsigned i = 0; i < 7; i++)
        if (rule->types & 1u << i)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", names[0] != '\0' ? " or " : "",
                     json_schema_type_names[i]);
    return json_schema_fail(validation, "must be of type %s", names);
}

static bool equals(struct validation *validation, const json_t *a, const json_t *b)
{
    bool equal = evaluate_json_equal(a, b, &validation->steps);
    return json_schema_take_steps(validation, 1) && equal;
}

bool json_schema_check_enum(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    for (size_t i = 0; i < json_array_size(rule->value); i++)
        if (equals(validation, json_array_get(rule->value, i), value))
            return true;
    return json_schema_fail(validation, "must be one of the %zu values of enum", json_array_size(rule->value));
}

bool json_schema_check_const(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return equals(validation, rule->value, value) || json_schema_fail(validation, "must be the value of const");
}

/* --- numbers --- */

/* 0.0075 is a multiple of 0.0001 although neither is a double: the quotient, rounded to a double, tells. Integers are exact. */
static bool is_multiple(const json_t *value, const json_t *divisor)
{
    if (json_is_integer(value) && json_is_integer(divisor))
        return json_integer_value(value) % json_integer_value(divisor) == 0;
    double dividend = json_number_value(value), by = json_number_value(divisor), quotient = dividend / by;
    if (fabs(quotient) >= 0x1p53)
        return fmod(dividend, by) == 0;
    return trunc(quotient) == quotient;
}

bool json_schema_check_multiple_of(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    if (!json_is_number(value) || is_multiple(value, rule->value))
        return true;
    return json_schema_fail(validation, "must be a multiple of %.15Lg", evaluate_json_number(rule->value));
}

/* The number against the keyword's: negative when it is smaller. 0 for what is no number. */
static int compare_number(const struct schema_rule *rule, const json_t *value)
{
    if (!json_is_number(value))
        return 0;
    long double a = evaluate_json_number(value), b = evaluate_json_number(rule->value);
    return (a > b) - (a < b);
}

bool json_schema_check_maximum(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return compare_number(rule, value) <= 0 || json_schema_fail(validation, "must be at most %.15Lg", evaluate_json_number(rule->value));
}

bool json_schema_check_exclusive_maximum(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_number(value) || compare_number(rule, value) < 0 ||
           json_schema_fail(validation, "must be less than %.15Lg", evaluate_json_number(rule->value));
}

bool json_schema_check_minimum(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return compare_number(rule, value) >= 0 || json_schema_fail(validation, "must be at least %.15Lg", evaluate_json_number(rule->value));
}

bool json_schema_check_exclusive_minimum(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_number(value) || compare_number(rule, value) > 0 ||
           json_schema_fail(validation, "must be more than %.15Lg", evaluate_json_number(rule->value));
}

/* --- sizes --- */

static bool at_most(struct validation *validation, const struct schema_rule *rule, size_t count, const char *what)
{
    return (long double)count <= evaluate_json_number(rule->value) ||
           json_schema_fail(validation, "must have at most %.15Lg %s", evaluate_json_number(rule->value), what);
}

static bool at_least(struct validation *validation, const struct schema_rule *rule, size_t count, const char *what)
{
    return (long double)count >= evaluate_json_number(rule->value) ||
           json_schema_fail(validation, "must have at least %.15Lg %s", evaluate_json_number(rule->value), what);
}

static size_t characters(struct validation *validation, const json_t *string)
{
    json_schema_take_steps(validation, json_string_length(string) / 16);
    return evaluate_characters(json_string_value(string), json_string_length(string));
}

bool json_schema_check_max_length(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_string(value) || at_most(validation, rule, characters(validation, value), "characters");
}

bool json_schema_check_min_length(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_string(value) || at_least(validation, rule, characters(validation, value), "characters");
}

bool json_schema_check_max_items(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_array(value) || at_most(validation, rule, json_array_size(value), "items");
}

bool json_schema_check_min_items(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_array(value) || at_least(validation, rule, json_array_size(value), "items");
}

bool json_schema_check_max_properties(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_object(value) || at_most(validation, rule, json_object_size(value), "members");
}

bool json_schema_check_min_properties(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_object(value) || at_least(validation, rule, json_object_size(value), "members");
}

/* --- strings, arrays and objects as a whole --- */

bool json_schema_check_pattern(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_string(value) ||
           json_schema_matches(validation, rule->children[0].pattern, json_string_value(value), json_string_length(value)) ||
           json_schema_fail(validation, "must match the pattern \"%.*s\"", forge_utf8_precision(json_string_value(rule->value), 200),
                            json_string_value(rule->value));
}

struct hashed {
    uint64_t hash;
    size_t index;
};

static int compare_hashed(const void *left, const void *right)
{
    const struct hashed *a = left, *b = right;
    return a->hash != b->hash ? (a->hash > b->hash) - (a->hash < b->hash) : (a->index > b->index) - (a->index < b->index);
}

/* Compares the elements with the same hash only; who makes them the same on purpose pays in steps. */
static bool elements_are_unique(struct validation *validation, const json_t *array, const struct hashed *sorted, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count && sorted[j].hash == sorted[i].hash; j++) {
            if (equals(validation, json_array_get(array, sorted[i].index), json_array_get(array, sorted[j].index)))
                return json_schema_fail(validation, "items %zu and %zu must not be equal", sorted[i].index, sorted[j].index);
            if (validation->limit != NULL)
                return false;
        }
    return true;
}

bool json_schema_check_unique_items(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    size_t count = json_array_size(value);
    if (!json_is_true(rule->value) || !json_is_array(value) || count < 2)
        return true;
    struct hashed *sorted = malloc(count * sizeof sorted[0]);
    if (sorted == NULL) {
        validation->no_memory = true;
        return false;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct hashed){evaluate_json_hash(json_array_get(value, i), &validation->steps), i};
    bool unique = json_schema_take_steps(validation, count);
    if (unique) {
        qsort(sorted, count, sizeof sorted[0], compare_hashed);
        unique = elements_are_unique(validation, value, sorted, count);
    }
    free(sorted);
    return unique;
}

/* Whether all members are there that the list names; because: the member that asks for them, or "". */
static bool has_members(struct validation *validation, const json_t *object, const json_t *names, const char *because)
{
    for (size_t i = 0; i < json_array_size(names) && json_schema_take_steps(validation, 1); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (json_object_get(object, name) == NULL)
            return json_schema_fail(validation, "must have the member \"%.*s\"%s%.*s", forge_utf8_precision(name, 100), name,
                                    because[0] != '\0' ? " since it has " : "", forge_utf8_precision(because, 100), because);
    }
    return true;
}

bool json_schema_check_required(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    return !json_is_object(value) || has_members(validation, value, rule->value, "");
}

bool json_schema_check_dependencies(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    for (size_t i = 0; json_is_object(value) && i < rule->child_count; i++) {
        const struct schema_child *child = &rule->children[i];
        if (!json_schema_take_steps(validation, 1))
            return false;
        if (json_object_get(value, child->name) == NULL)
            continue;
        if (child->node != NULL ? !json_schema_check_node(validation, child->node, value)
                                : !has_members(validation, value, child->names, child->name))
            return false;
    }
    return true;
}
