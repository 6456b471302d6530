#include "manifest.h"
#include "duration.h"
#include "json_text.h"
#include "wire/json.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

/* One document that is read. */
struct reader {
    struct manifest *manifest;
    const char *file;
    yaml_document_t *document;
    size_t nodes, text; /* so far, aliases followed: a few lines can stand for gigabytes */
    bool is_too_large;
};

static const char *copy_text(const struct manifest *manifest, const char *text)
{
    const char *copy = forge_arena_strdup(manifest->arena, text);
    return copy ? copy : "";
}

void manifest_add_problem(struct manifest *manifest, const struct manifest_position *position, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    struct manifest_problem *problem = NULL;
    if (manifest->problem_count++ < MANIFEST_PROBLEMS_MAX)
        problem = forge_arena_alloc(manifest->arena, sizeof(*problem));
    if (!problem)
        return;
    if (position->line)
        problem->text = forge_arena_printf(manifest->arena, "%s:%lu:%lu: %s", position->file, position->line, position->column, what);
    else
        problem->text = forge_arena_printf(manifest->arena, "%s: %s", position->file, what);
    if (!problem->text)
        problem->text = "no memory";
    if (!manifest->problems_end)
        manifest->problems_end = &manifest->problems;
    *manifest->problems_end = problem;
    manifest->problems_end = &problem->next;
}

static struct manifest_position position_of(const struct reader *reader, const yaml_node_t *node)
{
    return (struct manifest_position){reader->file, node->start_mark.line + 1, node->start_mark.column + 1};
}

#define PROBLEM(reader, node, ...)                                                                                                         \
    do {                                                                                                                                   \
        struct manifest_position at = position_of(reader, node);                                                                           \
        manifest_add_problem((reader)->manifest, &at, __VA_ARGS__);                                                                        \
    } while (0)

static const yaml_node_t *node_at(const struct reader *reader, int index)
{
    return yaml_document_get_node(reader->document, index);
}

/* Text of a scalar without NUL; NULL for anything else. */
static const char *scalar_text(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || memchr(node->data.scalar.value, 0, node->data.scalar.length))
        return NULL;
    return (const char *)node->data.scalar.value;
}

static const yaml_node_t *find_value(const struct reader *reader, const yaml_node_t *mapping, const char *name)
{
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top; pair++) {
        const char *key = scalar_text(node_at(reader, pair->key));
        if (key && !strcmp(key, name))
            return node_at(reader, pair->value);
    }
    return NULL;
}

/* ---- fields ---- */

static bool is_hidden(const struct manifest_shape *shape, const char *name)
{
    for (size_t i = 0; i < MANIFEST_HIDDEN_MAX && shape->hidden[i]; i++)
        if (!strcmp(shape->hidden[i], name))
            return true;
    return false;
}

static const struct manifest_reference *find_reference(const struct manifest_kind *kind, const char *name)
{
    for (const struct manifest_reference *reference = kind->references; reference->field; reference++)
        if (!strcmp(reference->field, name))
            return reference;
    return NULL;
}

static bool is_id_of_reference(const struct manifest_kind *kind, const char *name)
{
    for (const struct manifest_reference *reference = kind->references; reference->field; reference++)
        if (!strcmp(reference->id_field, name))
            return true;
    return false;
}

/* A field of the document that is not one of the request: kind, a reference, the list of parts, whether there is a last step. */
static bool is_special(const struct manifest_kind *kind, const char *name)
{
    return kind && (!strcmp(name, "kind") || (kind->list && !strcmp(name, kind->list)) || (kind->step && !strcmp(name, kind->step)) ||
                    find_reference(kind, name));
}

static const ProtobufCFieldDescriptor *find_field(const struct manifest_shape *shape, const struct manifest_kind *kind, const char *name)
{
    if (is_hidden(shape, name) || (kind && is_id_of_reference(kind, name)))
        return NULL;
    return protobuf_c_message_descriptor_get_field_by_name(shape->type, name);
}

static void list_word(char *out, size_t size, const char *word)
{
    size_t length = strlen(out);
    snprintf(out + length, size - length, "%s%s", length ? ", " : "", word);
}

/* kind is NULL for messages inside an object. */
static void unknown_field(struct reader *reader, const yaml_node_t *key, const struct manifest_shape *shape,
                          const struct manifest_kind *kind)
{
    char names[320] = "";
    for (const struct manifest_reference *reference = kind ? kind->references : NULL; reference && reference->field; reference++)
        list_word(names, sizeof names, reference->field);
    for (unsigned i = 0; i < shape->type->n_fields; i++)
        if (find_field(shape, kind, shape->type->fields[i].name))
            list_word(names, sizeof names, shape->type->fields[i].name);
    if (shape->has_model)
        list_word(names, sizeof names, "model");
    if (shape->has_models)
        list_word(names, sizeof names, "models");
    if (shape->has_project)
        list_word(names, sizeof names, "project");
    if (shape->has_interval) {
        list_word(names, sizeof names, "start");
        list_word(names, sizeof names, "duration");
    }
    if (kind && kind->list)
        list_word(names, sizeof names, kind->list);
    if (kind && kind->step)
        list_word(names, sizeof names, kind->step);
    PROBLEM(reader, key, "unknown field \"%.64s\"; %s has %s", (const char *)key->data.scalar.value,
            kind ? kind->name : shape->type->short_name, names);
}

/* ---- YAML to JSON, which the protobuf descriptors then check ---- */

static json_t *value_json(struct reader *reader, const yaml_node_t *node, const ProtobufCFieldDescriptor *field, unsigned depth);

static bool take_size(struct reader *reader, const yaml_node_t *node)
{
    reader->nodes++;
    if (node->type == YAML_SCALAR_NODE)
        reader->text += node->data.scalar.length;
    if (reader->nodes <= MANIFEST_NODES_MAX && reader->text <= MANIFEST_TEXT_MAX)
        return true;
    if (!reader->is_too_large)
        PROBLEM(reader, node, "with its aliases followed the document has more than %d values or %d bytes", MANIFEST_NODES_MAX,
                MANIFEST_TEXT_MAX);
    reader->is_too_large = true;
    return false;
}

/* "developer" for ROLE_DEVELOPER, as forgectl prints it; NULL when it is none. */
static const char *enum_name(const ProtobufCEnumDescriptor *type, const char *text)
{
    const ProtobufCEnumValue *zero = protobuf_c_enum_descriptor_get_value(type, 0);
    const char *unspecified = zero ? strstr(zero->name, "UNSPECIFIED") : NULL;
    size_t prefix = unspecified ? (size_t)(unspecified - zero->name) : 0;
    for (unsigned i = 0; i < type->n_values; i++)
        if (strlen(type->values[i].name) > prefix && !strcasecmp(type->values[i].name + prefix, text))
            return type->values[i].name;
    return NULL;
}

/* Unquoted words that JSON reads as a number, a truth value or null are that, everything else is text. */
static json_t *scalar_json(struct reader *reader, const yaml_node_t *node, const ProtobufCFieldDescriptor *field)
{
    const char *text = scalar_text(node);
    if (!text) {
        PROBLEM(reader, node, "must not hold a NUL character");
        return NULL;
    }
    if (field && field->type == PROTOBUF_C_TYPE_ENUM) {
        const char *name = enum_name(field->descriptor, text);
        return json_string(name ? name : text);
    }
    if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (!*text || !strcmp(text, "~"))
            return json_null();
        json_error_t error;
        json_t *value = *text == '"' ? NULL : json_loads(text, JSON_DECODE_ANY, &error);
        if (value)
            return value;
    }
    json_t *value = json_stringn(text, node->data.scalar.length);
    if (!value)
        PROBLEM(reader, node, "must be UTF-8 text");
    return value;
}

static json_t *sequence_json(struct reader *reader, const yaml_node_t *node, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    json_t *array = json_array();
    for (const yaml_node_item_t *item = node->data.sequence.items.start; array && item < node->data.sequence.items.top; item++) {
        json_t *value = value_json(reader, node_at(reader, *item), field, depth + 1);
        if (!value || json_array_append_new(array, value)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* {provider: P, name: N} as "P\nN"; NULL after a problem. */
static json_t *model_json(struct reader *reader, const yaml_node_t *node)
{
    static const char *const fields[] = {"provider", "name"};
    const char *texts[2] = {NULL, NULL};
    bool is_mapping = take_size(reader, node) && node->type == YAML_MAPPING_NODE;
    for (size_t i = 0; is_mapping && i < 2; i++) {
        const yaml_node_t *value = find_value(reader, node, fields[i]);
        texts[i] = value && take_size(reader, value) ? scalar_text(value) : NULL;
    }
    bool has_both = texts[0] && *texts[0] && texts[1] && *texts[1] && !strchr(texts[0], '\n') && !strchr(texts[1], '\n');
    if (!has_both || node->data.mapping.pairs.top - node->data.mapping.pairs.start != 2) {
        PROBLEM(reader, node, "model: must be {provider: its provider's name, name: its name}");
        return NULL;
    }
    json_t *json = json_sprintf("%s\n%s", texts[0], texts[1]);
    if (!json)
        PROBLEM(reader, node, "must be UTF-8 text");
    return json;
}

/* [{provider: P, name: N}] as ["P\nN"]; NULL after a problem. */
static json_t *models_json(struct reader *reader, const yaml_node_t *node)
{
    json_t *array = json_array();
    bool is_list = take_size(reader, node) && node->type == YAML_SEQUENCE_NODE;
    if (!is_list && !reader->is_too_large)
        PROBLEM(reader, node, "models: must be a list of {provider: its provider's name, name: its name}");
    for (const yaml_node_item_t *item = is_list ? node->data.sequence.items.start : NULL; item && item < node->data.sequence.items.top;
         item++) {
        json_t *model = model_json(reader, node_at(reader, *item));
        if (model)
            json_array_append_new(array, model);
    }
    return array;
}

/* The name of a project; NULL after a problem. */
static json_t *project_json(struct reader *reader, const yaml_node_t *node)
{
    const char *text = take_size(reader, node) ? scalar_text(node) : NULL;
    json_t *json = text && *text ? json_string(text) : NULL;
    if (!json && !reader->is_too_large)
        PROBLEM(reader, node, "project: must be the name of a project");
    return json;
}

/* "4.2s" in nanoseconds; NULL after a problem. */
static json_t *duration_json(struct reader *reader, const yaml_node_t *node, const char *name)
{
    const char *text = take_size(reader, node) ? scalar_text(node) : NULL;
    int64_t ns;
    if (text && duration_parse(text, &ns))
        return json_integer(ns);
    if (!reader->is_too_large)
        PROBLEM(reader, node, "%s: must be a duration such as 4.2s, 250ms or -2h", name);
    return NULL;
}

/* A field that a message does not have, whose value stands in another one: that one's name, NULL = it is none of these. */
static const char *substitute_of(const struct manifest_shape *shape, const char *name)
{
    if (shape && shape->has_model && !strcmp(name, "model"))
        return "model_id";
    if (shape && shape->has_models && !strcmp(name, "models"))
        return "model_ids";
    if (shape && shape->has_project && !strcmp(name, "project"))
        return "project_id";
    if (shape && shape->has_interval && !strcmp(name, "start"))
        return "start_ns";
    return shape && shape->has_interval && !strcmp(name, "duration") ? "end_ns" : NULL;
}

static json_t *substitute_json(struct reader *reader, const yaml_node_t *value, const char *name)
{
    if (!strcmp(name, "model"))
        return model_json(reader, value);
    if (!strcmp(name, "models"))
        return models_json(reader, value);
    return !strcmp(name, "project") ? project_json(reader, value) : duration_json(reader, value, name);
}

static void take_substitute(struct reader *reader, const yaml_node_t *key, const yaml_node_t *value, json_t *object, const char *field)
{
    const char *name = scalar_text(key);
    if (json_object_get(object, field))
        PROBLEM(reader, key, "field \"%.64s\" is there twice", name);
    json_object_set_new(object, field, substitute_json(reader, value, name));
}

/* A mapping or list where the API takes JSON as text: that text. Takes value over. */
static json_t *value_as_text(const struct manifest_shape *shape, const char *name, json_t *value)
{
    for (size_t i = 0; shape && (json_is_object(value) || json_is_array(value)) && i < MANIFEST_HIDDEN_MAX && shape->texts[i]; i++) {
        char *text = strcmp(shape->texts[i], name) ? NULL : json_text(value);
        if (!text)
            continue;
        json_decref(value);
        value = json_string(text);
        free(text);
    }
    return value;
}

/* The key's text when it is new in the object; NULL after a problem. */
static const char *take_key(struct reader *reader, const yaml_node_t *key, const json_t *object)
{
    const char *name = scalar_text(key);
    if (!name)
        PROBLEM(reader, key, "a field's name must be text");
    else if (json_object_get(object, name))
        PROBLEM(reader, key, "field \"%.64s\" is there twice", name);
    else
        return name;
    return NULL;
}

/* A mapping as the message of a shape (NULL: of no known one), without what is special in an object of kind (NULL: nothing). Reads on
 * after a problem, so that all of them are told; what has one is left out. */
static json_t *mapping_json(struct reader *reader, const yaml_node_t *node, const struct manifest_shape *shape,
                            const struct manifest_kind *kind, unsigned depth)
{
    json_t *object = json_object();
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; object && pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_at(reader, pair->key);
        const char *name = take_size(reader, key) ? take_key(reader, key, object) : NULL;
        if (reader->is_too_large)
            break;
        if (!name)
            continue;
        if (is_special(kind, name)) {
            if (find_value(reader, node, name) != node_at(reader, pair->value))
                PROBLEM(reader, key, "field \"%.64s\" is there twice", name);
            continue;
        }
        const char *substitute = substitute_of(shape, name);
        if (substitute) {
            take_substitute(reader, key, node_at(reader, pair->value), object, substitute);
            continue;
        }
        const ProtobufCFieldDescriptor *field = shape ? find_field(shape, kind, name) : NULL;
        if (shape && !field) {
            unknown_field(reader, key, shape, kind);
            continue;
        }
        json_t *value = value_as_text(shape, name, value_json(reader, node_at(reader, pair->value), field, depth + 1));
        if (value && json_object_set_new(object, name, value))
            PROBLEM(reader, key, "a field's name must be UTF-8 text");
    }
    return object;
}

/* Times, wrappers and so on have forms of their own. */
static bool is_plain_message(const ProtobufCFieldDescriptor *field)
{
    if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *type = field->descriptor;
    return strncmp(type->name, "google.protobuf.", strlen("google.protobuf.")) != 0;
}

static json_t *value_json(struct reader *reader, const yaml_node_t *node, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    static const char *const defaults[] = {YAML_STR_TAG, YAML_SEQ_TAG, YAML_MAP_TAG};
    if (!take_size(reader, node))
        return NULL;
    if (depth > MANIFEST_DEPTH_MAX) {
        PROBLEM(reader, node, "nested deeper than %d levels", MANIFEST_DEPTH_MAX);
        return NULL;
    }
    const char *tag = (const char *)node->tag;
    if (tag && strcmp(tag, defaults[0]) != 0 && strcmp(tag, defaults[1]) != 0 && strcmp(tag, defaults[2]) != 0) {
        PROBLEM(reader, node, "the tag \"%.64s\" is not known here", tag);
        return NULL;
    }
    if (node->type == YAML_SCALAR_NODE)
        return scalar_json(reader, node, field);
    if (node->type == YAML_SEQUENCE_NODE)
        return sequence_json(reader, node, field, depth);
    const struct manifest_shape plain = {.type = is_plain_message(field) ? field->descriptor : NULL};
    const struct manifest_shape *nested = plain.type ? manifest_nested_shape(plain.type) : NULL;
    return mapping_json(reader, node, nested ? nested : plain.type ? &plain : NULL, NULL, depth);
}

/* ---- where a field path of the JSON reader stands, such as "variables[1].name" ---- */

static const yaml_node_t *step_into_mapping(const struct reader *reader, const yaml_node_t *node, const char **path)
{
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        const char *name = scalar_text(node_at(reader, pair->key));
        size_t length = name ? strlen(name) : 0;
        if (!name || strncmp(*path, name, length) != 0 || ((*path)[length] && !strchr(".[", (*path)[length])))
            continue;
        *path += length;
        return node_at(reader, pair->value);
    }
    return NULL;
}

static const yaml_node_t *find_position(const struct reader *reader, const yaml_node_t *node, const char *path)
{
    while (*path) {
        const yaml_node_t *next = NULL;
        if (*path == '.')
            path++;
        if (*path == '[' && node->type == YAML_SEQUENCE_NODE) {
            char *end;
            size_t index = strtoul(path + 1, &end, 10);
            size_t count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
            next = index < count ? node_at(reader, node->data.sequence.items.start[index]) : NULL;
            path = *end ? end + 1 : end;
        } else if (node->type == YAML_MAPPING_NODE) {
            next = step_into_mapping(reader, node, &path);
        }
        if (!next)
            return node;
        node = next;
    }
    return node;
}

/* NULL after a problem. */
static ProtobufCMessage *read_message(struct reader *reader, const yaml_node_t *node, const struct manifest_shape *shape,
                                      const struct manifest_kind *kind)
{
    struct manifest *manifest = reader->manifest;
    size_t problems = manifest->problem_count;
    json_t *object = mapping_json(reader, node, shape, kind, 1);
    char *text = object && manifest->problem_count == problems ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    ProtobufCMessage *message = NULL;
    struct forge_error error = {.code = FORGE_OK};
    if (text && forge_json_to_message(text, strlen(text), shape->type, manifest->arena, &message, &error) != FORGE_OK) {
        message = NULL;
        const struct forge_violation *violation = error.violations;
        if (violation)
            PROBLEM(reader, find_position(reader, node, violation->field), "%s: %s", violation->field, violation->description);
        else
            PROBLEM(reader, node, "%s", error.message);
    }
    if (!message && manifest->problem_count == problems)
        PROBLEM(reader, node, "no memory");
    free(text);
    return message;
}

/* ---- an object ---- */

static void read_references(struct reader *reader, const yaml_node_t *root, struct manifest_object *object)
{
    for (size_t i = 0; object->kind->references[i].field; i++) {
        const struct manifest_reference *reference = &object->kind->references[i];
        const yaml_node_t *value = find_value(reader, root, reference->field);
        if (!value) {
            if (reference->is_required)
                PROBLEM(reader, root, "%s is missing: the %s's name", reference->field, reference->kind);
            continue;
        }
        const char *text = scalar_text(value);
        if (!text || !*text)
            PROBLEM(reader, value, "%s: must be the name of a %s", reference->field, reference->kind);
        else
            object->references[i] = copy_text(reader->manifest, text);
        object->reference_positions[i] = position_of(reader, value);
    }
}

static void read_step(struct reader *reader, const yaml_node_t *root, struct manifest_object *object)
{
    const yaml_node_t *value = object->kind->step ? find_value(reader, root, object->kind->step) : NULL;
    const char *text = value ? scalar_text(value) : "true";
    object->is_without_step = text && !strcmp(text, "false");
    if (!text || (strcmp(text, "true") != 0 && !object->is_without_step))
        PROBLEM(reader, value, "%s: must be true or false", object->kind->step);
}

static void read_parts(struct reader *reader, const yaml_node_t *root, struct manifest_object *object)
{
    const yaml_node_t *list = object->kind->list ? find_value(reader, root, object->kind->list) : NULL;
    if (!list)
        return;
    if (list->type != YAML_SEQUENCE_NODE || list->data.sequence.items.start == list->data.sequence.items.top) {
        PROBLEM(reader, list, "%s: must be a list with at least one item", object->kind->list);
        return;
    }
    size_t count = (size_t)(list->data.sequence.items.top - list->data.sequence.items.start);
    object->parts = forge_arena_calloc(reader->manifest->arena, count, sizeof(*object->parts));
    for (size_t i = 0; object->parts && i < count && !reader->is_too_large; i++) {
        const yaml_node_t *item = node_at(reader, list->data.sequence.items.start[i]);
        if (item->type != YAML_MAPPING_NODE) {
            PROBLEM(reader, item, "%s[%zu]: must be a mapping", object->kind->list, i);
            continue;
        }
        ProtobufCMessage *part = read_message(reader, item, &object->kind->list_shape, NULL);
        if (part)
            object->parts[object->part_count++] = part;
    }
}

static void read_name(struct reader *reader, const yaml_node_t *root, struct manifest_object *object)
{
    object->name = "";
    if (!object->kind->key)
        return;
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(object->kind->shape.type, object->kind->key);
    object->name = *(const char *const *)((const char *)object->request + field->offset);
    if (!*object->name)
        PROBLEM(reader, root, "%s is missing: a manifest finds a %s by it", object->kind->key, object->kind->name);
}

/* A prompt's text stands in its versions, or, when it has only one, beside its name. */
static void settle_versions(struct reader *reader, const yaml_node_t *root, struct manifest_object *object)
{
    Forge__V1__CreatePromptRequest *request = (Forge__V1__CreatePromptRequest *)object->request;
    bool has_text = *request->content || request->n_messages || *request->system_prompt || request->n_variables || *request->model_id ||
                    *request->parameters || *request->message;
    if (find_value(reader, root, object->kind->list)) {
        size_t current = 0;
        for (size_t i = 0; i < object->part_count; i++)
            current += ((const Forge__V1__CreatePromptVersionRequest *)object->parts[i])->make_current ? 1 : 0;
        if (current > 1)
            PROBLEM(reader, root, "versions: only one can have make_current");
        if (has_text)
            PROBLEM(reader, root, "a prompt has either versions or a text of its own");
        return;
    }
    Forge__V1__CreatePromptVersionRequest *version = forge_arena_alloc(reader->manifest->arena, sizeof(*version));
    object->parts = forge_arena_calloc(reader->manifest->arena, 1, sizeof(*object->parts));
    if (!has_text || !version || !object->parts) {
        PROBLEM(reader, root, "content, messages or versions is missing");
        return;
    }
    forge__v1__create_prompt_version_request__init(version);
    version->content = request->content;
    version->n_messages = request->n_messages;
    version->messages = request->messages;
    version->system_prompt = request->system_prompt;
    version->n_variables = request->n_variables;
    version->variables = request->variables;
    version->model_id = request->model_id;
    version->parameters = request->parameters;
    version->message = request->message;
    object->parts[object->part_count++] = &version->base;
}

static void add_object(struct manifest *manifest, struct manifest_object *object)
{
    if (!manifest->end)
        manifest->end = &manifest->objects;
    *manifest->end = object;
    manifest->end = &object->next;
    object->number = manifest->object_count++;
}

static const struct manifest_kind *read_kind(struct reader *reader, const yaml_node_t *root)
{
    const yaml_node_t *node = find_value(reader, root, "kind");
    const char *name = node ? scalar_text(node) : NULL;
    const struct manifest_kind *kind = name ? manifest_kind_find(name) : NULL;
    if (kind)
        return kind;
    char kinds[160] = "";
    for (const struct manifest_kind *known = manifest_kinds; known->name; known++)
        list_word(kinds, sizeof kinds, known->name);
    if (node)
        PROBLEM(reader, node, "unknown kind \"%.64s\"; there are %s", name ? name : "", kinds);
    else
        PROBLEM(reader, root, "kind is missing; there are %s", kinds);
    return NULL;
}

static void read_object(struct reader *reader, const yaml_node_t *root)
{
    struct manifest *manifest = reader->manifest;
    if (root->type == YAML_SCALAR_NODE && !root->data.scalar.length)
        return; /* "---" and nothing behind it */
    if (root->type != YAML_MAPPING_NODE) {
        PROBLEM(reader, root, "a document must be a mapping with kind and the fields of that kind");
        return;
    }
    const struct manifest_kind *kind = read_kind(reader, root);
    struct manifest_object *object = kind ? forge_arena_alloc(manifest->arena, sizeof(*object)) : NULL;
    if (!object)
        return;
    object->kind = kind;
    object->position = position_of(reader, root);
    object->request = read_message(reader, root, &kind->shape, kind);
    read_references(reader, root, object);
    read_step(reader, root, object);
    read_parts(reader, root, object);
    if (!object->request)
        return;
    read_name(reader, root, object);
    if (kind->style == MANIFEST_PROMPT)
        settle_versions(reader, root, object);
    add_object(manifest, object);
}

/* ---- a file ---- */

/* libyaml tells no line when the bytes themselves are wrong. */
static void syntax_problem(struct manifest *manifest, const char *file, const char *text, size_t size, const yaml_parser_t *parser)
{
    struct manifest_position at = {file, parser->problem_mark.line + 1, parser->problem_mark.column + 1};
    const char *problem = parser->problem ? parser->problem : "cannot be read";
    if (parser->error == YAML_READER_ERROR) {
        at.line = at.column = 1;
        for (size_t i = 0; i < parser->problem_offset && i < size; i++) {
            at.line += text[i] == '\n';
            at.column = text[i] == '\n' ? 1 : at.column + 1;
        }
    }
    manifest_add_problem(manifest, &at, "YAML: %s%s%s", parser->context ? parser->context : "", parser->context ? ": " : "", problem);
}

/* libyaml looks through all anchors at each one, and follows an alias into itself: too many and too deep are refused before. */
static void check_events(struct manifest *manifest, const char *file, const char *text, size_t size, yaml_parser_t *parser)
{
    unsigned anchors = 0;
    for (bool is_end = false; !is_end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            syntax_problem(manifest, file, text, size, parser);
            return;
        }
        is_end = event.type == YAML_STREAM_END_EVENT;
        anchors += (event.type == YAML_SCALAR_EVENT && event.data.scalar.anchor) ||
                   (event.type == YAML_SEQUENCE_START_EVENT && event.data.sequence_start.anchor) ||
                   (event.type == YAML_MAPPING_START_EVENT && event.data.mapping_start.anchor);
        struct manifest_position at = {file, event.start_mark.line + 1, event.start_mark.column + 1};
        yaml_event_delete(&event);
        if (anchors > MANIFEST_ANCHORS_MAX) {
            manifest_add_problem(manifest, &at, "more than %d anchors", MANIFEST_ANCHORS_MAX);
            return;
        }
    }
}

static bool read_document(struct manifest *manifest, const char *file, const char *text, size_t size, yaml_parser_t *parser)
{
    yaml_document_t document;
    if (!yaml_parser_load(parser, &document)) {
        syntax_problem(manifest, file, text, size, parser);
        return false;
    }
    struct reader reader = {.manifest = manifest, .file = file, .document = &document};
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (root && manifest->object_count == MANIFEST_OBJECTS_MAX)
        PROBLEM(&reader, root, "more than %d objects", MANIFEST_OBJECTS_MAX);
    else if (root)
        read_object(&reader, root);
    bool goes_on = root != NULL && manifest->object_count < MANIFEST_OBJECTS_MAX;
    yaml_document_delete(&document);
    return goes_on;
}

static void read_documents(struct manifest *manifest, const char *file, const char *text, size_t size, yaml_parser_t *parser)
{
    while (read_document(manifest, file, text, size, parser))
        ;
}

/* Runs a parser over the whole text. */
static void run_parser(struct manifest *manifest, const char *file, const char *text, size_t size,
                       void (*run)(struct manifest *, const char *, const char *, size_t, yaml_parser_t *))
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    run(manifest, file, text, size, &parser);
    yaml_parser_delete(&parser);
}

/* Is it YAML that can be read without harm? */
static bool check_text(struct manifest *manifest, const struct manifest_position *at, const char *text, size_t size)
{
    size_t problems = manifest->problem_count;
    if (size > MANIFEST_FILE_BYTES_MAX)
        manifest_add_problem(manifest, at, "more than %d bytes", MANIFEST_FILE_BYTES_MAX);
    else
        run_parser(manifest, at->file, text, size, check_events);
    return manifest->problem_count == problems;
}

void manifest_read(struct manifest *manifest, const char *file, const char *text, size_t size)
{
    size_t problems = manifest->problem_count, objects = manifest->object_count;
    const struct manifest_position at = {.file = copy_text(manifest, file)};
    if (check_text(manifest, &at, text, size))
        run_parser(manifest, at.file, text, size, read_documents);
    if (manifest->problem_count == problems && manifest->object_count == objects)
        manifest_add_problem(manifest, &at, "holds no object");
}

/* The first document as a message. */
static ProtobufCMessage *load_message(struct manifest *manifest, const struct manifest_position *at, const char *text, size_t size,
                                      yaml_parser_t *parser, const struct manifest_shape *shape)
{
    yaml_document_t document;
    ProtobufCMessage *message = NULL;
    if (!yaml_parser_load(parser, &document)) {
        syntax_problem(manifest, at->file, text, size, parser);
        return NULL;
    }
    struct reader reader = {.manifest = manifest, .file = at->file, .document = &document};
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (root && root->type == YAML_MAPPING_NODE)
        message = read_message(&reader, root, shape, NULL);
    else
        manifest_add_problem(manifest, at, "must be a mapping with fields of %s", shape->type->short_name);
    yaml_document_delete(&document);
    return message;
}

ProtobufCMessage *manifest_read_message(struct manifest *manifest, const char *file, const char *text, size_t size,
                                        const struct manifest_shape *shape)
{
    const struct manifest_position at = {.file = copy_text(manifest, file)};
    yaml_parser_t parser;
    if (!check_text(manifest, &at, text, size) || !yaml_parser_initialize(&parser))
        return NULL;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    ProtobufCMessage *message = load_message(manifest, &at, text, size, &parser, shape);
    yaml_parser_delete(&parser);
    return message;
}

/* ---- all files together ---- */

static int compare_texts(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

/* Of the same kind and name in the same scope? */
static int compare_identity(const struct manifest_object *left, const struct manifest_object *right)
{
    if (left->kind != right->kind)
        return left->kind < right->kind ? -1 : 1;
    int order = 0;
    for (size_t i = 0; i < MANIFEST_REFERENCES_MAX && !order; i++)
        order = compare_texts(left->references[i], right->references[i]);
    return order ? order : compare_texts(left->name, right->name);
}

static int compare_objects(const void *a, const void *b)
{
    const struct manifest_object *left = *(const struct manifest_object *const *)a, *right = *(const struct manifest_object *const *)b;
    int order = compare_identity(left, right);
    return order ? order : (left->number > right->number) - (left->number < right->number);
}

static void check_duplicates(struct manifest *manifest, const struct manifest_object **sorted)
{
    for (size_t i = 1; i < manifest->object_count; i++) {
        const struct manifest_object *first = sorted[i - 1], *second = sorted[i];
        if (!first->kind->key || compare_identity(first, second) != 0)
            continue;
        manifest_add_problem(manifest, &second->position, "%s \"%.255s\" is there already, at %s:%lu:%lu", second->kind->name, second->name,
                             first->position.file, first->position.line, first->position.column);
    }
}

void manifest_check(struct manifest *manifest)
{
    const struct manifest_object **sorted = forge_arena_calloc(manifest->arena, manifest->object_count + 1, sizeof(*sorted));
    const struct manifest_object *organization = NULL;
    size_t count = 0;
    for (const struct manifest_object *object = manifest->objects; sorted && object; object = object->next) {
        sorted[count++] = object;
        if (object->kind->style != MANIFEST_ORGANIZATION)
            continue;
        if (organization)
            manifest_add_problem(manifest, &object->position, "a second organization: one can be applied at a time");
        organization = object;
    }
    if (!sorted || forge_arena_has_overflowed(manifest->arena)) {
        const struct manifest_position nowhere = {.file = "the manifest"};
        manifest_add_problem(manifest, &nowhere, "needs too much memory");
        return;
    }
    qsort(sorted, count, sizeof(*sorted), compare_objects);
    check_duplicates(manifest, sorted);
}
