#include "wire/status.h"

#include "wire/utf8.h"

#include <stdarg.h>
#include <string.h>

static const struct {
    forge_code code;
    const char *name;
} code_names[] = {
    {FORGE_OK, "OK"},
    {FORGE_CANCELLED, "CANCELLED"},
    {FORGE_UNKNOWN, "UNKNOWN"},
    {FORGE_INVALID_ARGUMENT, "INVALID_ARGUMENT"},
    {FORGE_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"},
    {FORGE_NOT_FOUND, "NOT_FOUND"},
    {FORGE_ALREADY_EXISTS, "ALREADY_EXISTS"},
    {FORGE_PERMISSION_DENIED, "PERMISSION_DENIED"},
    {FORGE_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"},
    {FORGE_FAILED_PRECONDITION, "FAILED_PRECONDITION"},
    {FORGE_ABORTED, "ABORTED"},
    {FORGE_OUT_OF_RANGE, "OUT_OF_RANGE"},
    {FORGE_UNIMPLEMENTED, "UNIMPLEMENTED"},
    {FORGE_INTERNAL, "INTERNAL"},
    {FORGE_UNAVAILABLE, "UNAVAILABLE"},
    {FORGE_DATA_LOSS, "DATA_LOSS"},
    {FORGE_UNAUTHENTICATED, "UNAUTHENTICATED"},
};
enum { CODE_COUNT = sizeof code_names / sizeof code_names[0] };

const char *forge_code_name(forge_code code)
{
    for (int i = 0; i < CODE_COUNT; i++)
        if (code_names[i].code == code)
            return code_names[i].name;
    return "UNKNOWN";
}

forge_code forge_code_parse(const char *name, bool *out_found)
{
    for (int i = 0; i < CODE_COUNT; i++) {
        if (strcmp(code_names[i].name, name) == 0) {
            *out_found = true;
            return code_names[i].code;
        }
    }
    *out_found = false;
    return FORGE_UNKNOWN;
}

forge_code forge_error_set(struct forge_error *error, forge_code code, const char *format, ...)
{
    if (!error)
        return code;
    /* Through a copy: an argument may be error->message itself, to put something before it. */
    char message[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(message, sizeof message, format, arguments);
    va_end(arguments);
    error->code = code;
    memcpy(error->message, message, sizeof message);
    return code;
}
