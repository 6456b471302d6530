#include "wire/utf8.h"

#include <stdio.h>
#include <string.h>

size_t forge_utf8_cut(const char *text, size_t size, size_t size_max)
{
    if (size <= size_max)
        return size;
    while (size_max > 0 && ((unsigned char)text[size_max] & 0xC0) == 0x80)
        size_max--;
    return size_max;
}

int forge_utf8_precision(const char *text, int bytes_max)
{
    return (int)forge_utf8_cut(text, strlen(text), (size_t)bytes_max);
}

/* The bytes of a text, which was cut off at length bytes, without a character that is not whole. */
static size_t without_cut_character(const char *text, size_t length)
{
    size_t start = length;
    while (start > 0 && length - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return length;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return length - (start - 1) < wanted ? start - 1 : length;
}

size_t forge_utf8_vprint(char *out, size_t out_size, const char *format, va_list arguments)
{
    int wanted = vsnprintf(out, out_size, format, arguments);
    size_t length = wanted < 0 ? 0 : (size_t)wanted;
    if (length >= out_size)
        length = without_cut_character(out, out_size - 1);
    out[length] = '\0';
    return length;
}

size_t forge_utf8_print(char *out, size_t out_size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t length = forge_utf8_vprint(out, out_size, format, arguments);
    va_end(arguments);
    return length;
}
