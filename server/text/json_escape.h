/* The escapes of JSON in any text. Pure functions, any thread. */
#ifndef SERVER_TEXT_JSON_ESCAPE_H
#define SERVER_TEXT_JSON_ESCAPE_H

#include "wire/arena.h"

/* A copy, in the arena, of a text of well-formed UTF-8 in which each escape of JSON has become what it means; what is none stays, and so do
 * those for NUL and for half of a surrogate pair, which UTF-8 of ours does not hold. NULL where there is nothing to change, and without
 * memory. */
char *text_without_escapes(struct forge_arena *arena, const char *text);

#endif
