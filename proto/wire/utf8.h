/* UTF-8 in rooms of a fixed size: what does not fit is cut off between characters, never within one. */
#ifndef FORGE_WIRE_UTF8_H
#define FORGE_WIRE_UTF8_H

#include <stdarg.h>
#include <stddef.h>

/* The longest size of at most size_max at which text[0, size) does not end within a character. */
size_t forge_utf8_cut(const char *text, size_t size, size_t size_max);

/* The precision with which "%.*s" prints at most so many bytes of a text. */
int forge_utf8_precision(const char *text, int bytes_max);

/* As vsnprintf(), of texts that are well-formed. Returns the bytes of what was written, without the NUL. */
size_t forge_utf8_vprint(char *out, size_t out_size, const char *format, va_list arguments) __attribute__((format(printf, 3, 0)));
size_t forge_utf8_print(char *out, size_t out_size, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
