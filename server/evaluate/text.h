/* Unicode text as evaluators see it. White space is ICU's (Unicode 15 in Debian 12). Pure functions, any thread.
 * Texts are well-formed UTF-8; a byte that is not counts as U+FFFD. */
#ifndef SERVER_EVALUATE_TEXT_H
#define SERVER_EVALUATE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The text with every code point folded (text/fold.h), as UTF-8, terminated. The caller frees it. NULL when there is no memory. */
char *evaluate_fold(const char *text, size_t size, size_t *out_size);

/* The text's code points, folded or as they are. The caller frees them; NULL when there is no memory, never for an empty text. */
uint32_t *evaluate_code_points(const char *text, size_t size, bool fold, size_t *out_count);

/* The code point at *at, which moves behind it. *at is below size. */
uint32_t evaluate_code_point(const char *text, size_t size, size_t *at);
uint32_t evaluate_fold_code_point(uint32_t point);
/* A letter, a number, a mark of one, or the low line: what words are made of. */
bool evaluate_is_word(uint32_t point);

/* Moves both ends inwards over characters with the property White_Space. Below 2 GiB. */
void evaluate_trim(const char **text, size_t *size);

/* Code points of a text. */
size_t evaluate_characters(const char *text, size_t size);

#endif
