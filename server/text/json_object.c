#include "text/json_object.h"

#include <jansson.h>

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
