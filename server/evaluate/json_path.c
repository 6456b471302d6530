#include "evaluate/json_schema_private.h"

#include <stdio.h>
#include <string.h>

enum { LEFT_OUT_SIZE = sizeof "/..." };

size_t json_path_enter(struct json_path *path, const char *name)
{
    char step[JSON_SCHEMA_PATH_MAX];
    size_t size = 0, before = path->size;
    step[size++] = '/';
    /* RFC 6901, section 3 */
    for (; *name != '\0' && size + 2 < sizeof step; name++) {
        bool escaped = *name == '~' || *name == '/';
        step[size++] = escaped ? '~' : *name;
        if (escaped)
            step[size++] = *name == '~' ? '0' : '1';
    }
    if (path->left_out > 0 || *name != '\0' || before + size + LEFT_OUT_SIZE > sizeof path->text) {
        path->left_out++;
        return SIZE_MAX;
    }
    memcpy(path->text + before, step, size);
    path->size += size;
    path->text[path->size] = '\0';
    return before;
}

size_t json_path_enter_index(struct json_path *path, size_t index)
{
    char step[24];
    snprintf(step, sizeof step, "%zu", index);
    return json_path_enter(path, step);
}

void json_path_leave(struct json_path *path, size_t size_before)
{
    if (size_before == SIZE_MAX) {
        path->left_out--;
        return;
    }
    path->size = size_before;
    path->text[size_before] = '\0';
}

const char *json_path_text(struct json_path *path)
{
    if (path->left_out > 0)
        memcpy(path->text + path->size, "/...", LEFT_OUT_SIZE);
    else
        path->text[path->size] = '\0';
    return path->text[0] != '\0' ? path->text : "the root";
}
