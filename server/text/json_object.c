#include "text/json_object.h"

#include <jansson.h>
#include <string.h>

static size_t dump(const char *json, size_t size, char *out, size_t out_size, size_t flags)
{
    json_t *value = json_loadb(json, size, JSON_REJECT_DUPLICATES, NULL);
    size_t needed = json_is_object(value) ? json_dumpb(value, out, out_size, flags | JSON_SORT_KEYS) : 0;
    json_decref(value);
    return needed;
}

size_t text_json_object_canonical(const char *json, size_t size, char *out, size_t out_size)
{
    return dump(json, size, out, out_size, JSON_COMPACT);
}

size_t text_json_object_indented(const char *json, size_t size, char *out, size_t out_size)
{
    return dump(json, size, out, out_size, JSON_INDENT(2));
}

static bool is_json(const char *json, size_t size, bool object)
{
    json_t *value = json_loadb(json, size, JSON_REJECT_DUPLICATES | (object ? 0 : JSON_DECODE_ANY), NULL);
    bool valid = object ? json_is_object(value) : value != NULL;
    json_decref(value);
    return valid;
}

bool text_json_is_object(const char *json, size_t size)
{
    return is_json(json, size, true);
}

bool text_json_is_value(const char *json, size_t size)
{
    return is_json(json, size, false);
}

static json_t *member_value(const struct text_json_member *member)
{
    switch (member->kind) {
    case TEXT_JSON_STRING:
        return json_string(member->text);
    case TEXT_JSON_BOOLEAN:
        return json_boolean(member->boolean);
    case TEXT_JSON_INTEGER:
        return json_integer(member->integer);
    case TEXT_JSON_REAL:
        return json_real(member->real);
    case TEXT_JSON_VALUE:
        return json_loadb(member->text, strlen(member->text), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    }
    return NULL;
}

size_t text_json_object_of(const struct text_json_member *members, size_t count, char *out, size_t out_size)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        json_t *value = member_value(&members[i]);
        json_object_set_new(object, members[i].name, value != NULL ? value : json_null());
    }
    size_t needed = json_dumpb(object, out, out_size, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    return needed;
}
