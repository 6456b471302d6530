/* Pieces of views: texts of others, made safe to look at, and what several views say in the same words. All in the arena; "" without
 * memory. */
#ifndef FORGECTL_VIEW_TEXT_H
#define FORGECTL_VIEW_TEXT_H

#include "forge/forge.h"
#include "wire/arena.h"

#include <stddef.h>

/* The first length bytes of a UTF-8 text with what would drive a terminal or turn the direction of writing written out: \n, \t, \x1b,
 * \u009b, \u202e. */
const char *view_text_visible(struct forge_arena *arena, const char *text, size_t length);
/* The same of a whole text. */
const char *view_text_line(struct forge_arena *arena, const char *text);
/* An enum's value for people: in lower case, without the prefix that all values have ("ROLE_"); "" for the one that stands for none. */
const char *view_text_enum(struct forge_arena *arena, const ProtobufCEnumDescriptor *type, int number);
/* "<id> version 3 label production" */
const char *view_text_prompt(struct forge_arena *arena, const Forge__V1__PromptUse *prompt);

#endif
