/* Prepares a schema: every keyword's value is checked and becomes a rule. */
#include "evaluate/json_schema.h"
#include "evaluate/json_schema_private.h"
#include "evaluate/json_value.h"
#include "wire/utf8.h"

#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_WORK = 8 }; /* what a step costs, in bytes walked by a pattern */

/* --- failing --- */

bool schema_compiler_fail(struct schema_compiler *compiler, const char *format, ...)
{
    if (compiler->message[0] != '\0' || compiler->no_memory)
        return false;
    char said[400];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(said, sizeof said, format, arguments);
    va_end(arguments);
    forge_utf8_print(compiler->message, compiler->message_size, "at %s: %s", json_path_text(&compiler->path), said);
    return false;
}

bool schema_compiler_no_memory(struct schema_compiler *compiler)
{
    compiler->no_memory = true;
    compiler->message[0] = '\0';
    return false;
}

/* --- what keywords may hold --- */

/* The keyword being compiled: its schema, the rule to fill and the base of references below. */
struct keyword_place {
    struct schema_compiler *compiler;
    const json_t *schema, *value;
    struct schema_rule *rule;
    const char *base;
    size_t path_before; /* of the schema, see json_path_leave() */
};
typedef bool keyword_compile(const struct keyword_place *place);

static bool children_reserve(const struct keyword_place *place, size_t count)
{
    place->rule->children = calloc(count + 1, sizeof place->rule->children[0]);
    return place->rule->children != NULL || schema_compiler_no_memory(place->compiler);
}

static bool compile_child(const struct keyword_place *place, const json_t *source, struct schema_child child)
{
    child.node = schema_compile_node(place->compiler, source, place->base);
    place->rule->children[place->rule->child_count++] = child;
    return child.node != NULL;
}

static bool compile_any(const struct keyword_place *place)
{
    (void)place;
    return true;
}

static bool compile_number(const struct keyword_place *place)
{
    return json_is_number(place->value) || schema_compiler_fail(place->compiler, "must be a number");
}

static bool compile_divisor(const struct keyword_place *place)
{
    return (json_is_number(place->value) && evaluate_json_number(place->value) > 0) ||
           schema_compiler_fail(place->compiler, "must be a number over 0");
}

static bool compile_count(const struct keyword_place *place)
{
    return (json_is_number(place->value) && evaluate_json_is_integer(place->value) && evaluate_json_number(place->value) >= 0) ||
           schema_compiler_fail(place->compiler, "must be an integer of 0 or more");
}

static bool compile_boolean(const struct keyword_place *place)
{
    return json_is_boolean(place->value) || schema_compiler_fail(place->compiler, "must be true or false");
}

static bool compile_array(const struct keyword_place *place)
{
    return json_is_array(place->value) || schema_compiler_fail(place->compiler, "must be an array");
}

static bool is_list_of_names(const json_t *value)
{
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!json_is_string(json_array_get(value, i)))
            return false;
    return json_is_array(value);
}

static bool compile_names(const struct keyword_place *place)
{
    return is_list_of_names(place->value) || schema_compiler_fail(place->compiler, "must be an array of strings");
}

static unsigned type_bit(const json_t *name)
{
    for (unsigned i = 0; json_is_string(name) && i < 7; i++)
        if (strcmp(json_string_value(name), json_schema_type_names[i]) == 0)
            return 1u << i;
    return 0;
}

static bool compile_type(const struct keyword_place *place)
{
    bool known = !json_is_array(place->value) || json_array_size(place->value) > 0;
    if (!json_is_array(place->value))
        place->rule->types = type_bit(place->value);
    for (size_t i = 0; known && i < json_array_size(place->value); i++) {
        unsigned bit = type_bit(json_array_get(place->value, i));
        known = bit != 0;
        place->rule->types |= bit;
    }
    return (known && place->rule->types != 0) ||
           schema_compiler_fail(place->compiler, "must be null, boolean, object, array, number, string or integer, or an array of them");
}

static bool add_pattern(const struct keyword_place *place, const char *text, struct schema_child *child)
{
    char said[200];
    if (strlen(text) > EVALUATE_PATTERN_BYTES_MAX)
        return schema_compiler_fail(place->compiler, "a pattern must be at most %d bytes", EVALUATE_PATTERN_BYTES_MAX);
    child->pattern = evaluate_pattern_compile(text, EVALUATE_PATTERN_ECMA, said, sizeof said);
    if (child->pattern == NULL)
        return said[0] == '\0' ? schema_compiler_no_memory(place->compiler)
                               : schema_compiler_fail(place->compiler, "is no pattern: %s", said);
    struct json_schema *schema = place->compiler->schema;
    schema->compiled_bytes += evaluate_pattern_bytes(child->pattern);
    return schema->compiled_bytes <= JSON_SCHEMA_COMPILED_BYTES_MAX ||
           schema_compiler_fail(place->compiler, "the patterns up to this one take more than %d bytes compiled",
                                JSON_SCHEMA_COMPILED_BYTES_MAX);
}

static bool compile_pattern(const struct keyword_place *place)
{
    if (!json_is_string(place->value) || strlen(json_string_value(place->value)) != json_string_length(place->value))
        return schema_compiler_fail(place->compiler, "must be a string without NUL");
    if (!children_reserve(place, 1))
        return false;
    place->rule->child_count = 1;
    return add_pattern(place, json_string_value(place->value), &place->rule->children[0]);
}

static bool compile_schema(const struct keyword_place *place)
{
    return children_reserve(place, 1) && compile_child(place, place->value, (struct schema_child){0});
}

static bool compile_list(const struct keyword_place *place)
{
    bool compiled = children_reserve(place, json_array_size(place->value));
    for (size_t i = 0; compiled && i < json_array_size(place->value); i++) {
        size_t before = json_path_enter_index(&place->compiler->path, i);
        compiled = compile_child(place, json_array_get(place->value, i), (struct schema_child){0});
        json_path_leave(&place->compiler->path, before);
    }
    return compiled;
}

static bool compile_schemas(const struct keyword_place *place)
{
    if (json_array_size(place->value) == 0)
        return schema_compiler_fail(place->compiler, "must be an array of at least one schema");
    return compile_list(place);
}

/* The schema of a keyword beside the present one. NULL when it is missing or wrong; see *ok. */
static const struct schema_node *compile_beside(const struct keyword_place *place, const char *keyword, bool *ok)
{
    const json_t *source = json_object_get(place->schema, keyword);
    if (source == NULL || !*ok)
        return NULL;
    const struct json_path path = place->compiler->path;
    json_path_leave(&place->compiler->path, place->path_before);
    json_path_enter(&place->compiler->path, keyword);
    const struct schema_node *node = schema_compile_node(place->compiler, source, place->base);
    place->compiler->path = path;
    *ok = node != NULL;
    return node;
}

static bool compile_items(const struct keyword_place *place)
{
    if (!json_is_array(place->value))
        return compile_schema(place);
    bool ok = compile_list(place);
    place->rule->rest = compile_beside(place, "additionalItems", &ok);
    return ok;
}

static bool compile_if(const struct keyword_place *place)
{
    bool ok = children_reserve(place, 3) && compile_child(place, place->value, (struct schema_child){0});
    if (ok) {
        place->rule->children[1].node = compile_beside(place, "then", &ok);
        place->rule->children[2].node = compile_beside(place, "else", &ok);
        place->rule->child_count = 3;
    }
    return ok;
}

static bool compile_dependencies(const struct keyword_place *place)
{
    const char *name;
    json_t *member;
    if (!json_is_object(place->value))
        return schema_compiler_fail(place->compiler, "must be an object");
    bool compiled = children_reserve(place, json_object_size(place->value));
    json_object_foreach((json_t *)(uintptr_t)place->value, name, member)
    {
        size_t before = json_path_enter(&place->compiler->path, name);
        if (compiled && is_list_of_names(member))
            place->rule->children[place->rule->child_count++] = (struct schema_child){.name = name, .names = member};
        else if (compiled && json_is_array(member))
            compiled = schema_compiler_fail(place->compiler, "must be a schema or an array of strings");
        else if (compiled)
            compiled = compile_child(place, member, (struct schema_child){.name = name});
        json_path_leave(&place->compiler->path, before);
    }
    return compiled;
}

static int compare_children(const void *left, const void *right)
{
    return strcmp(((const struct schema_child *)left)->name, ((const struct schema_child *)right)->name);
}

/* The schemas of an object's members; names are patterns or names. */
static bool compile_members(const struct keyword_place *place, const json_t *object, bool are_patterns)
{
    const char *name;
    json_t *member;
    bool compiled = true;
    json_object_foreach((json_t *)(uintptr_t)object, name, member)
    {
        struct schema_child child = {.name = name};
        size_t before = json_path_enter(&place->compiler->path, name);
        compiled = !are_patterns || add_pattern(place, name, &child);
        compiled = compiled && compile_child(place, member, child);
        json_path_leave(&place->compiler->path, before);
        if (!compiled)
            break;
    }
    return compiled;
}

/* One rule for "properties", "patternProperties" and "additionalProperties", made where the first of them is met. */
static bool compile_properties(const struct keyword_place *place)
{
    const json_t *named = json_object_get(place->schema, "properties"), *patterns = json_object_get(place->schema, "patternProperties");
    if ((named != NULL && !json_is_object(named)) || (patterns != NULL && !json_is_object(patterns)))
        return schema_compiler_fail(place->compiler, "properties and patternProperties must be objects");
    bool ok = children_reserve(place, json_object_size(named) + json_object_size(patterns)) && compile_members(place, named, false);
    place->rule->named_count = place->rule->child_count;
    if (ok && place->rule->named_count > 0)
        qsort(place->rule->children, place->rule->named_count, sizeof place->rule->children[0], compare_children);
    ok = ok && compile_members(place, patterns, true);
    place->rule->rest = compile_beside(place, "additionalProperties", &ok);
    return ok;
}

static bool compile_definitions(const struct keyword_place *place)
{
    if (!json_is_object(place->value))
        return schema_compiler_fail(place->compiler, "must be an object");
    return children_reserve(place, json_object_size(place->value)) && compile_members(place, place->value, false);
}

/* --- keywords --- */

/* Ascending by name. Without a check: the value must be right, and is used by another keyword or by none. */
static const struct keyword {
    const char *name;
    keyword_compile *compile;
    schema_check *check;
} keywords[] = {
    {"additionalItems", compile_schema, NULL},
    {"additionalProperties", compile_properties, json_schema_check_properties},
    {"allOf", compile_schemas, json_schema_check_all_of},
    {"anyOf", compile_schemas, json_schema_check_any_of},
    {"const", compile_any, json_schema_check_const},
    {"contains", compile_schema, json_schema_check_contains},
    {"definitions", compile_definitions, NULL},
    {"dependencies", compile_dependencies, json_schema_check_dependencies},
    {"else", compile_schema, NULL},
    {"enum", compile_array, json_schema_check_enum},
    {"exclusiveMaximum", compile_number, json_schema_check_exclusive_maximum},
    {"exclusiveMinimum", compile_number, json_schema_check_exclusive_minimum},
    {"if", compile_if, json_schema_check_if},
    {"items", compile_items, json_schema_check_items},
    {"maxItems", compile_count, json_schema_check_max_items},
    {"maxLength", compile_count, json_schema_check_max_length},
    {"maxProperties", compile_count, json_schema_check_max_properties},
    {"maximum", compile_number, json_schema_check_maximum},
    {"minItems", compile_count, json_schema_check_min_items},
    {"minLength", compile_count, json_schema_check_min_length},
    {"minProperties", compile_count, json_schema_check_min_properties},
    {"minimum", compile_number, json_schema_check_minimum},
    {"multipleOf", compile_divisor, json_schema_check_multiple_of},
    {"not", compile_schema, json_schema_check_not},
    {"oneOf", compile_schemas, json_schema_check_one_of},
    {"pattern", compile_pattern, json_schema_check_pattern},
    {"patternProperties", compile_properties, json_schema_check_properties},
    {"properties", compile_properties, json_schema_check_properties},
    {"propertyNames", compile_schema, json_schema_check_property_names},
    {"required", compile_names, json_schema_check_required},
    {"then", compile_schema, NULL},
    {"type", compile_type, json_schema_check_type},
    {"uniqueItems", compile_boolean, json_schema_check_unique_items},
};

static int compare_keyword(const void *name, const void *keyword)
{
    return strcmp(name, ((const struct keyword *)keyword)->name);
}

static const struct keyword *keyword_find(const char *name)
{
    return bsearch(name, keywords, sizeof keywords / sizeof keywords[0], sizeof keywords[0], compare_keyword);
}

static bool has_rule(const struct schema_node *node, schema_check *check)
{
    for (size_t i = 0; i < node->rule_count; i++)
        if (node->rules[i].check == check)
            return true;
    return false;
}

/* A rule that checks nothing keeps what it holds, for the end. */
static bool check_nothing(struct validation *validation, const struct schema_rule *rule, const json_t *value)
{
    (void)validation, (void)rule, (void)value;
    return true;
}

/* --- schemas --- */

/* In a schema with "$ref" all other keywords are ignored, but its definitions may be what is referred to. */
static bool compile_keywords(struct schema_compiler *compiler, struct schema_node *node, const char *base, bool has_reference)
{
    const char *name;
    json_t *value;
    bool compiled = true;
    json_object_foreach((json_t *)(uintptr_t)node->source, name, value)
    {
        const struct keyword *keyword = keyword_find(name);
        if (keyword == NULL || (has_reference && keyword->compile != compile_definitions))
            continue;
        if (keyword->compile == compile_properties && has_rule(node, json_schema_check_properties))
            continue;
        struct schema_rule *rule = &node->rules[node->rule_count++];
        *rule = (struct schema_rule){.check = keyword->check != NULL ? keyword->check : check_nothing, .value = value};
        size_t before = json_path_enter(&compiler->path, name);
        const struct keyword_place place = {compiler, node->source, value, rule, base, before};
        compiled = keyword->compile(&place);
        json_path_leave(&compiler->path, before);
        if (!compiled)
            break;
    }
    return compiled;
}

static bool compile_object(struct schema_compiler *compiler, struct schema_node *node, const char *base)
{
    const json_t *reference = json_object_get(node->source, "$ref"), *id = json_object_get(node->source, "$id");
    char *own_base = NULL;
    if ((reference != NULL && !json_is_string(reference)) || (id != NULL && !json_is_string(id)))
        return schema_compiler_fail(compiler, "$ref and $id must be strings");
    if (id != NULL && reference == NULL && !schema_resource_add(compiler, node->source, json_string_value(id), base, &own_base))
        return false;
    if (own_base != NULL)
        base = own_base;
    node->rules = calloc(json_object_size(node->source) + 1, sizeof node->rules[0]);
    bool compiled = node->rules != NULL || schema_compiler_no_memory(compiler);
    if (compiled && reference != NULL)
        compiled = schema_reference_add(compiler, node, json_string_value(reference), base);
    compiled = compiled && compile_keywords(compiler, node, base, reference != NULL);
    free(own_base);
    return compiled;
}

static int compare_sources(const void *left, const void *right)
{
    uintptr_t a = (uintptr_t)((const struct schema_node *)left)->source, b = (uintptr_t)((const struct schema_node *)right)->source;
    return (a > b) - (a < b);
}

/* The node of the source, which is new where *out_is_new. Part of the schema from the start: its end frees it, whatever happens. */
static struct schema_node *node_of(struct schema_compiler *compiler, const json_t *source, bool *out_is_new)
{
    struct schema_node *node = calloc(1, sizeof *node);
    *out_is_new = false;
    if (node == NULL) {
        schema_compiler_no_memory(compiler);
        return NULL;
    }
    node->source = source;
    struct schema_node **found = tsearch(node, &compiler->nodes_by_source, compare_sources);
    if (found == NULL || *found != node) {
        free(node);
        if (found == NULL)
            schema_compiler_no_memory(compiler);
        return found != NULL ? *found : NULL;
    }
    node->next = compiler->schema->nodes;
    compiler->schema->nodes = node;
    *out_is_new = true;
    return node;
}

const struct schema_node *schema_compile_node(struct schema_compiler *compiler, const json_t *source, const char *base)
{
    bool is_new;
    if (!json_is_object(source) && !json_is_boolean(source)) {
        schema_compiler_fail(compiler, "must be a schema, which is an object, true or false");
        return NULL;
    }
    if (compiler->nesting == JSON_SCHEMA_NESTING_MAX) {
        schema_compiler_fail(compiler, "there may be at most %d schemas within schemas", JSON_SCHEMA_NESTING_MAX);
        return NULL;
    }
    struct schema_node *node = node_of(compiler, source, &is_new);
    if (node == NULL || !is_new)
        return node;
    node->never = json_is_false(source);
    compiler->nesting++;
    bool compiled = json_is_boolean(source) || compile_object(compiler, node, base);
    compiler->nesting--;
    return compiled ? node : NULL;
}

struct json_schema *json_schema_prepare(const char *text, size_t size, char *out_message, size_t message_size)
{
    out_message[0] = '\0';
    if (size < 1 || size > JSON_SCHEMA_BYTES_MAX) {
        snprintf(out_message, message_size, size < 1 ? "is required" : "must be at most %d bytes", JSON_SCHEMA_BYTES_MAX);
        return NULL;
    }
    struct json_schema *schema = calloc(1, sizeof *schema);
    if (schema == NULL)
        return NULL;
    struct schema_compiler compiler = {.schema = schema, .message = out_message, .message_size = message_size};
    enum evaluate_json read = evaluate_json_read(text, size, &schema->document, out_message, message_size);
    if (read == EVALUATE_JSON_READ)
        schema->root = schema_compile_node(&compiler, schema->document, "");
    if (schema->root == NULL || !schema_references_resolve(&compiler)) {
        json_schema_free(schema);
        schema = NULL;
    }
    schema_compiler_done(&compiler);
    return schema;
}

static void rule_done(struct schema_rule *rule)
{
    for (size_t i = 0; rule->children != NULL && i < rule->child_count; i++)
        evaluate_pattern_free(rule->children[i].pattern);
    free(rule->children);
}

size_t json_schema_compiled_bytes(const struct json_schema *schema)
{
    return schema->compiled_bytes;
}

void json_schema_free(struct json_schema *schema)
{
    if (schema == NULL)
        return;
    for (struct schema_node *node = schema->nodes, *next; node != NULL; node = next) {
        next = node->next;
        for (size_t i = 0; i < node->rule_count; i++)
            rule_done(&node->rules[i]);
        free(node->rules);
        free(node);
    }
    json_decref(schema->document);
    free(schema);
}

/* --- applying --- */

enum json_schema_result json_schema_apply_value(const struct json_schema *schema, const json_t *value, char *out_message,
                                                size_t message_size, uint64_t *out_work)
{
    struct validation validation = {
        .steps = JSON_SCHEMA_STEPS_MAX, .work = EVALUATE_PATTERN_WORK, .message = out_message, .message_size = message_size};
    out_message[0] = '\0';
    bool fits = json_schema_check_node(&validation, schema->root, value);
    if (out_work != NULL)
        *out_work += STEP_WORK * (JSON_SCHEMA_STEPS_MAX - validation.steps) + EVALUATE_PATTERN_WORK - validation.work;
    if (validation.no_memory)
        return JSON_SCHEMA_NO_MEMORY;
    if (validation.limit != NULL) {
        snprintf(out_message, message_size, "checking it met the %s", validation.limit);
        return JSON_SCHEMA_LIMIT;
    }
    return fits ? JSON_SCHEMA_FITS : JSON_SCHEMA_DIFFERS;
}

enum json_schema_result json_schema_apply(const struct json_schema *schema, const char *text, size_t size, char *out_message,
                                          size_t message_size, uint64_t *out_work)
{
    json_t *value = NULL;
    out_message[0] = '\0';
    if (out_work != NULL)
        *out_work = size;
    switch (evaluate_json_read(text, size, &value, out_message, message_size)) {
    case EVALUATE_JSON_WRONG:
        return JSON_SCHEMA_NOT_JSON;
    case EVALUATE_JSON_NO_MEMORY:
        return JSON_SCHEMA_NO_MEMORY;
    case EVALUATE_JSON_READ:
        break;
    }
    enum json_schema_result result = json_schema_apply_value(schema, value, out_message, message_size, out_work);
    json_decref(value);
    return result;
}
