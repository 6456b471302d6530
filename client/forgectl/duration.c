#include "duration.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    int64_t ns;
} units[] = {{"d", INT64_C(86400000000000)},
             {"h", INT64_C(3600000000000)},
             {"m", INT64_C(60000000000)},
             {"s", 1000000000},
             {"ms", 1000000},
             {"us", 1000},
             {"ns", 1}};
enum { UNITS = sizeof units / sizeof units[0] };

/* 0 when there is no such unit. */
static int64_t unit_ns(const char *text, size_t length)
{
    for (size_t i = 0; i < UNITS; i++)
        if (strlen(units[i].name) == length && strncmp(units[i].name, text, length) == 0)
            return units[i].ns;
    return 0;
}

/* "4.2s", exactly: digits behind the point that are less than a nanosecond do not count. */
static bool take_part(const char **at, int64_t *total)
{
    static const char digits[] = "0123456789";
    size_t whole = strspn(*at, digits), fraction = (*at)[whole] == '.' ? strspn(*at + whole + 1, digits) : 0;
    const char *behind = *at + whole + ((*at)[whole] == '.') + fraction;
    size_t letters = strspn(behind, "dhmsun");
    int64_t unit = unit_ns(behind, letters), number = 0, step = unit;
    if (!whole || !unit || ((*at)[whole] == '.' && !fraction))
        return false;
    for (size_t i = 0; i < whole; i++)
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, (*at)[i] - '0', &number))
            return false;
    if (__builtin_mul_overflow(number, unit, &number) || __builtin_add_overflow(*total, number, total))
        return false;
    for (size_t i = 0; i < fraction; i++) {
        step /= 10;
        if (__builtin_add_overflow(*total, ((*at)[whole + 1 + i] - '0') * step, total))
            return false;
    }
    *at = behind + letters;
    return true;
}

bool duration_parse(const char *text, int64_t *out_ns)
{
    bool is_negative = *text == '-';
    int64_t total = 0;
    const char *at = text + is_negative;
    do {
        if (!take_part(&at, &total))
            return false;
    } while (*at);
    *out_ns = is_negative ? -total : total;
    return true;
}
