/* Differences of two texts by lines, in unified format. Pure functions, any thread. */
#ifndef SERVER_TEXT_DIFF_H
#define SERVER_TEXT_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One of the two texts: UTF-8 or any bytes, below 4 GiB. */
struct text_diff_text {
    const char *text;
    size_t size;
};
struct text_diff_counts {
    uint32_t added, removed; /* lines that only the new, only the old text has */
};
/* Takes the next piece of the result. */
typedef void text_diff_write(void *user, const char *bytes, size_t size);

/* Writes the hunks that turn old_text into new_text, each with up to `context` unchanged lines around its changes: "@@ -1,3 +1,4 @@" and
 * lines that begin with " ", "-" or "+", as `diff -u` has them below its two lines of file names. Nothing is written when the texts are
 * equal. A last line without a newline is a line like any other; where only one of two texts ends in a newline, it has an empty last line
 * more, so that the difference shows. The script is the shortest one up to 512 changed lines between lines that both texts have, and a good
 * one above. Time and memory are bounded by the number of lines: where more than 65,536 lines of one text are left between the first and
 * the last difference, they are replaced as a whole. False when there is no memory; nothing was written then. */
bool text_diff_unified(struct text_diff_text old_text, struct text_diff_text new_text, unsigned context, text_diff_write *write, void *user,
                       struct text_diff_counts *out_counts);

#endif
