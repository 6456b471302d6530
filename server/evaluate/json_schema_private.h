/* What preparing (json_schema.c, json_schema_reference.c) and applying a schema (json_schema_check.c) share. */
#ifndef SERVER_EVALUATE_JSON_SCHEMA_PRIVATE_H
#define SERVER_EVALUATE_JSON_SCHEMA_PRIVATE_H

#include "evaluate/json_schema.h"
#include "evaluate/pattern.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_SCHEMA_PATH_MAX = 256 };

/* A JSON Pointer for messages. Where it would become too long, it ends in "/...". */
struct json_path {
    char text[JSON_SCHEMA_PATH_MAX];
    size_t size;
    unsigned left_out; /* steps that had no room */
};
/* Appends a step; returns the path's size before, for leave. */
size_t json_path_enter(struct json_path *path, const char *name);
size_t json_path_enter_index(struct json_path *path, size_t index);
void json_path_leave(struct json_path *path, size_t size_before);
/* "" for the root is given as "the root". */
const char *json_path_text(struct json_path *path);

struct schema_node;

/* A schema or list that a keyword holds for a member name, for names that match a pattern, or for an element. */
struct schema_child {
    const char *name;
    struct evaluate_pattern *pattern;
    const struct schema_node *node;
    const json_t *names; /* of "dependencies": the members that must be there too */
};

struct validation;
struct schema_rule;
/* Whether value fits; notes why not. */
typedef bool schema_check(struct validation *validation, const struct schema_rule *rule, const json_t *value);

/* A keyword of a schema, ready to be checked. */
struct schema_rule {
    schema_check *check;
    const json_t *value;           /* of the keyword */
    unsigned types;                /* of "type": bits, see SCHEMA_TYPE_... */
    struct schema_child *children; /* those with a name first, sorted by it */
    size_t child_count, named_count;
    const struct schema_node *rest; /* "additionalItems" of items, "additionalProperties" of properties */
};
enum schema_type {
    SCHEMA_TYPE_NULL = 1,
    SCHEMA_TYPE_BOOLEAN = 2,
    SCHEMA_TYPE_OBJECT = 4,
    SCHEMA_TYPE_ARRAY = 8,
    SCHEMA_TYPE_NUMBER = 16,
    SCHEMA_TYPE_STRING = 32,
    SCHEMA_TYPE_INTEGER = 64
};
/* By bit, lowest first. */
extern const char *const json_schema_type_names[7];

struct schema_node {
    struct schema_node *next; /* all of a schema, for its end */
    const json_t *source;
    bool never; /* the schema `false` */
    struct schema_rule *rules;
    size_t rule_count;
    const struct schema_node *reference; /* of "$ref": stands for this one */
};
struct json_schema {
    json_t *document;
    struct schema_node *nodes;
    const struct schema_node *root;
    size_t compiled_bytes; /* of its patterns */
};

/* --- preparing --- */

/* A (sub)schema with a URI of its own. */
struct schema_resource {
    struct schema_resource *next;
    char *uri;
    const json_t *source;
};
struct schema_reference {
    struct schema_reference *next;
    struct schema_node *from;
    const char *text; /* of "$ref" */
    char *base;       /* URI that it is relative to */
};
struct schema_compiler {
    struct json_schema *schema;
    void *nodes_by_source; /* tsearch(3) */
    struct schema_resource *resources;
    struct schema_reference *references; /* that are not resolved yet */
    struct json_path path;
    unsigned nesting;
    bool no_memory;
    char *message; /* empty until something is wrong */
    size_t message_size;
};
/* Notes what is wrong, with the present path; the first one stays. Returns false. */
bool schema_compiler_fail(struct schema_compiler *compiler, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool schema_compiler_no_memory(struct schema_compiler *compiler);
/* The node of a schema, new or the one it has already; NULL when something is wrong. base: URI that its references are relative to. */
const struct schema_node *schema_compile_node(struct schema_compiler *compiler, const json_t *source, const char *base);

/* $id: the URI of source, of which *out_base (to be freed) is the new base. */
bool schema_resource_add(struct schema_compiler *compiler, const json_t *source, const char *id, const char *base, char **out_base);
bool schema_reference_add(struct schema_compiler *compiler, struct schema_node *from, const char *text, const char *base);
/* Gives all nodes with a $ref the one it means. */
bool schema_references_resolve(struct schema_compiler *compiler);
void schema_compiler_done(struct schema_compiler *compiler);

/* --- applying --- */

struct validation {
    uint64_t steps, work;
    unsigned depth;
    unsigned quiet; /* within a schema whose failing is no failure yet: nothing is noted */
    struct json_path path;
    const char *limit; /* the bound that was met; everything ends then */
    bool no_memory;
    char *message;
    size_t message_size;
};
bool json_schema_check_node(struct validation *validation, const struct schema_node *node, const json_t *value);

/* Of each keyword. */
schema_check json_schema_check_type, json_schema_check_enum, json_schema_check_const, json_schema_check_multiple_of,
    json_schema_check_maximum, json_schema_check_exclusive_maximum, json_schema_check_minimum, json_schema_check_exclusive_minimum,
    json_schema_check_max_length, json_schema_check_min_length, json_schema_check_pattern, json_schema_check_items,
    json_schema_check_max_items, json_schema_check_min_items, json_schema_check_unique_items, json_schema_check_contains,
    json_schema_check_max_properties, json_schema_check_min_properties, json_schema_check_required, json_schema_check_properties,
    json_schema_check_dependencies, json_schema_check_property_names, json_schema_check_if, json_schema_check_all_of,
    json_schema_check_any_of, json_schema_check_one_of, json_schema_check_not;

/* Shared by the files that apply. */
bool json_schema_fail(struct validation *validation, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes steps; false, and the limit is noted, when they are not there. */
bool json_schema_take_steps(struct validation *validation, uint64_t count);
/* Whether text matches; false too when a limit was met, which is noted. */
bool json_schema_matches(struct validation *validation, const struct evaluate_pattern *pattern, const char *text, size_t size);
/* Whether value fits the node; nothing is noted when it does not. */
bool json_schema_fits_quietly(struct validation *validation, const struct schema_node *node, const json_t *value);

#endif
