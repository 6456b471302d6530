#include "wire/status.h"

#include <stdarg.h>
#include <stdio.h>
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

/* Shortens a text that was cut off at length bytes so that it does not end within a UTF-8 sequence. */
static void trim_cut_sequence(char *text, size_t length)
{
    size_t start = length;
    while (start > 0 && length - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (length - (start - 1) < wanted)
        text[start - 1] = '\0';
}

forge_code forge_error_set(struct forge_error *error, forge_code code, const char *format, ...)
{
    if (!error)
        return code;
    /* Through a copy: an argument may be error->message itself, to put something before it. */
    char message[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (length < 0)
        message[0] = '\0';
    else if ((size_t)length >= sizeof message)
        trim_cut_sequence(message, sizeof message - 1);
    error->code = code;
    memcpy(error->message, message, sizeof message);
    return code;
}
