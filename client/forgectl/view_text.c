#include "view_text.h"

#include <assert.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ESCAPE_SIZE = 8 /* "\u202e" */ };

/* The character that stands here when it is one of two or three bytes among those that are written out; its bytes, 0 = none of them. */
static size_t take_wide(const unsigned char *at, size_t left, unsigned *out)
{
    if (left >= 2 && at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f) { /* C1 controls */
        *out = at[1];
        return 2;
    }
    if (left < 3 || at[0] != 0xe2)
        return 0;
    *out = 0x2000u | (at[1] & 0x3fu) << 6 | (at[2] & 0x3fu);
    bool is_direction = (*out >= 0x202a && *out <= 0x202e) || (*out >= 0x2066 && *out <= 0x2069) || *out == 0x200e || *out == 0x200f;
    return is_direction ? 3 : 0;
}

/* What is written for the character at the beginning, and how many bytes that one has; 0 = it may stay. */
static size_t escape(const unsigned char *at, size_t left, char out[ESCAPE_SIZE])
{
    unsigned character;
    size_t used = take_wide(at, left, &character);
    if (used) {
        snprintf(out, ESCAPE_SIZE, "\\u%04x", character & 0xffffu);
        return used;
    }
    if (*at >= ' ' && *at != 0x7f)
        return 0;
    if (*at == '\n' || *at == '\t' || *at == '\r')
        snprintf(out, ESCAPE_SIZE, "\\%c", *at == '\n' ? 'n' : *at == '\t' ? 't' : 'r');
    else
        snprintf(out, ESCAPE_SIZE, "\\x%02x", *at);
    return 1;
}

/* The bytes it takes; out may be NULL to count them only. */
static size_t write_out(const char *text, size_t length, char *out)
{
    size_t size = 0;
    for (size_t i = 0; i < length;) {
        char with[ESCAPE_SIZE];
        size_t used = escape((const unsigned char *)text + i, length - i, with);
        size_t written = used ? strlen(with) : 1;
        if (out)
            memcpy(out + size, used ? with : text + i, written);
        size += written;
        i += used ? used : 1;
    }
    return size;
}

const char *view_text_visible(struct forge_arena *arena, const char *text, size_t length)
{
    size_t size = write_out(text, length, NULL);
    char *out = forge_arena_alloc(arena, size + 1);
    if (!out)
        return "";
    write_out(text, length, out);
    out[size] = '\0';
    return out;
}

const char *view_text_line(struct forge_arena *arena, const char *text)
{
    return view_text_visible(arena, text, strlen(text));
}

const char *view_text_prompt(struct forge_arena *arena, const Forge__V1__PromptUse *prompt)
{
    const char *version = prompt->version ? forge_arena_printf(arena, " version %d", (int)prompt->version) : "";
    const char *label = *prompt->label ? forge_arena_printf(arena, " label %s", view_text_line(arena, prompt->label)) : "";
    const char *text =
        version && label ? forge_arena_printf(arena, "%s%s%s", view_text_line(arena, prompt->prompt_id), version, label) : NULL;
    return text ? text : "";
}

const char *view_text_enum(struct forge_arena *arena, const ProtobufCEnumDescriptor *type, int number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(type, number);
    if (!value) {
        const char *text = forge_arena_printf(arena, "%d", number);
        return text ? text : "";
    }
    const ProtobufCEnumValue *zero = protobuf_c_enum_descriptor_get_value(type, 0);
    assert(zero); /* proto3: every enum begins with it */
    const char *unspecified = strstr(zero->name, "UNSPECIFIED");
    size_t prefix = unspecified ? (size_t)(unspecified - zero->name) : 0;
    if (value == zero && unspecified)
        return "";
    char *text = forge_arena_strdup(arena, value->name + (strncmp(value->name, zero->name, prefix) ? 0 : prefix));
    for (char *p = text; p && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return text ? text : "";
}
