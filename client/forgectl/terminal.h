/* What standard output can show: colours, block characters, how many columns. Decided once per invocation, so that everything that is
 * printed agrees. */
#ifndef FORGECTL_TERMINAL_H
#define FORGECTL_TERMINAL_H

#include "wire/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TERMINAL_COLUMNS = 80, TERMINAL_BAR_MAX = 40 };

struct terminal {
    bool has_colour;
    bool has_blocks;  /* its characters are UTF-8, else ASCII */
    unsigned columns; /* 80 when there is no terminal and COLUMNS does not say */
};

enum terminal_style {
    TERMINAL_PLAIN,
    TERMINAL_STRONG,   /* bold */
    TERMINAL_GOOD,     /* green */
    TERMINAL_BAD,      /* red */
    TERMINAL_WARN,     /* yellow */
    TERMINAL_PLACE,    /* cyan */
    TERMINAL_MARK_BAD, /* the same, underlined: places in a text */
    TERMINAL_MARK_WARN,
    TERMINAL_MARK_PLACE
};

/* Sets the locale of characters, and what follows from it and from the terminal; colour is left to terminal_set_colour. */
void terminal_open(struct terminal *terminal);
/* choice: "auto", "always" or "never" as --color has it; NULL = auto. False when it is none of these. */
bool terminal_set_colour(struct terminal *terminal, const char *choice);
/* Automatic colour: on a terminal that is not dumb, unless NO_COLOR is set to something (https://no-color.org). NULL = not set. */
bool terminal_decide_colour(bool is_terminal, const char *term, const char *no_color);
/* COLUMNS where it is a number from 1 to 9999, else those of the terminal, else 80. */
unsigned terminal_decide_columns(const char *columns_variable, unsigned of_terminal);

/* Prints a text in a style. A line break belongs behind it, not into it. */
void terminal_print(const struct terminal *terminal, FILE *out, enum terminal_style style, const char *text, size_t length);
/* The text in a style, in the arena; the text itself without colour, NULL without memory. */
const char *terminal_text(const struct terminal *terminal, struct forge_arena *arena, enum terminal_style style, const char *text);
/* Prints a bar of share (0 to 1) of width columns, then spaces up to width. Any share but 0 can be seen. */
void terminal_print_bar(const struct terminal *terminal, FILE *out, enum terminal_style style, double share, unsigned width);
/* Prints width columns with a bar from one share of them to another (each 0 to 1). It takes one column at least. */
void terminal_print_interval(const struct terminal *terminal, FILE *out, enum terminal_style style, double from, double to, unsigned width);

#endif
