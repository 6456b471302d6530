#include "text/json_escape.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Four hexadecimal digits; -1 where there are none. */
static int32_t hex4(const char *digits)
{
    char copy[5] = "";
    if (strspn(strncpy(copy, digits, 4), "0123456789abcdefABCDEF") != 4)
        return -1;
    return (int32_t)strtol(copy, NULL, 16);
}

static char *utf8_put(char *to, int32_t character)
{
    const int more = character < 0x80 ? 0 : character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    static const int first[] = {0, 0xc0, 0xe0, 0xf0};
    *to++ = (char)(first[more] | character >> 6 * more);
    for (int i = more - 1; i >= 0; i--)
        *to++ = (char)(0x80 | (character >> 6 * i & 0x3f));
    return to;
}

/* Writes what the escape at from (a backslash) means, which is shorter. Returns its length; 0 for one that stays. */
static size_t escape_read(const char *from, char **to)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter = from[1] != '\0' ? strchr(letters, from[1]) : NULL;
    if (letter != NULL) {
        *(*to)++ = meanings[letter - letters];
        return 2;
    }
    int32_t character = from[1] == 'u' ? hex4(from + 2) : -1;
    size_t length = 6;
    if (character >= 0xd800 && character < 0xdc00 && from[6] == '\\' && from[7] == 'u') {
        int32_t second = hex4(from + 8);
        if (second >= 0xdc00 && second < 0xe000) {
            character = 0x10000 + ((character - 0xd800) << 10) + (second - 0xdc00);
            length = 12;
        }
    }
    if (character <= 0 || (character >= 0xd800 && character < 0xe000))
        return 0;
    *to = utf8_put(*to, character);
    return length;
}

char *text_without_escapes(struct forge_arena *arena, const char *text)
{
    const char *from = strchr(text, '\\');
    char *copy = from != NULL ? forge_arena_strdup(arena, text) : NULL;
    if (copy == NULL)
        return NULL;
    char *to = copy + (from - text);
    while (*from != '\0') {
        size_t length = *from == '\\' ? escape_read(from, &to) : 0;
        if (length == 0)
            *to++ = *from;
        from += length > 0 ? length : 1;
    }
    *to = '\0';
    return to - copy < from - text ? copy : NULL;
}
