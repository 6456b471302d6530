/* Places in a text, marked. */
#ifndef FORGECTL_VIEW_MARKS_H
#define FORGECTL_VIEW_MARKS_H

#include "forge/forge.h"
#include "terminal.h"

/* Rows of one text that are shown with marks; more are only counted. */
enum { VIEW_MARKS_ROWS = 20 };

/* Prints the lines of a UTF-8 text that the ranges are on, with the line before and behind each, and marks the ranges: in a style where
 * there are colours, else by a line of ^ below. Lines that do not fit the terminal are cut around the marks; control characters are written
 * out, a line break at an end of a range too. Ranges may overlap, be empty and end anywhere. Nothing without ranges. */
void view_marks(FILE *out, const struct terminal *terminal, struct forge_arena *arena, enum terminal_style style, const char *text,
                Forge__V1__TextRange *const *ranges, size_t count);

/* Where a byte stands: line and character in it, both from 1. */
void view_marks_position(const char *text, size_t byte, size_t *out_line, size_t *out_character);

#endif
