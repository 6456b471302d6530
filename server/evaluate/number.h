/* The first number in a text. Pure function, any thread, any locale. */
#ifndef SERVER_EVALUATE_NUMBER_H
#define SERVER_EVALUATE_NUMBER_H

enum evaluate_number { EVALUATE_NUMBER_FOUND, EVALUATE_NUMBER_NONE, EVALUATE_NUMBER_TOO_LARGE };

/* Finds the leftmost [+-]? ([0-9]+ (\. [0-9]*)? | \. [0-9]+) ([eE] [+-]? [0-9]+)? and takes it as long as it goes, rounded to the nearest
 * double (one too small for a double is 0). text is terminated. No hexadecimal, no infinity, no NaN, no thousands separators: "1,234"
 * begins with 1, "0x10" with 0. *out is set when found. */
enum evaluate_number evaluate_number_find(const char *text, double *out);

#endif
