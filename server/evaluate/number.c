#include "evaluate/number.h"

#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool number_begins(const char *text)
{
    if (*text == '+' || *text == '-')
        text++;
    return is_digit(text[0]) || (text[0] == '.' && is_digit(text[1]));
}

enum evaluate_number evaluate_number_find(const char *text, double *out)
{
    while (*text != '\0' && !number_begins(text))
        text++;
    if (*text == '\0')
        return EVALUATE_NUMBER_NONE;
    const char *digits = *text == '+' || *text == '-' ? text + 1 : text;
    double value = 0;
    /* strtod reads just what the grammar says, but for hexadecimal, where the grammar ends with the zero. glibc has the C locale built in:
     * this newlocale() neither allocates nor fails. */
    if (digits[0] != '0' || (digits[1] != 'x' && digits[1] != 'X'))
        value = strtod_l(text, NULL, newlocale(LC_ALL_MASK, "C", (locale_t)0));
    *out = value;
    return isfinite(value) ? EVALUATE_NUMBER_FOUND : EVALUATE_NUMBER_TOO_LARGE;
}
