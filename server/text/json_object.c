#include "text/json_object.h"

#include <jansson.h>

size_t text_json_object_canonical(const char *json, size_t size, char *out, size_t out_size)
{
    json_t *value = json_loadb(json, size, JSON_REJECT_DUPLICATES, NULL);
    size_t needed = json_is_object(value) ? json_dumpb(value, out, out_size, JSON_COMPACT | JSON_SORT_KEYS) : 0;
    json_decref(value);
    return needed;
}
