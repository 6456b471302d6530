#include "evaluate/text.h"

#include "text/fold.h"

#include <stdlib.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

enum { REPLACEMENT = 0xFFFD, FOLDED_GROWTH_MAX = 3 }; /* a stray byte becomes three; folding alone makes two bytes three (U+023A) */

/* The code point at *at, which moves behind it. */
static UChar32 next_code_point(const char *text, size_t size, size_t *at)
{
    UChar32 point;
    U8_NEXT(text, *at, size, point);
    return point < 0 ? REPLACEMENT : point;
}

uint32_t evaluate_code_point(const char *text, size_t size, size_t *at)
{
    return (uint32_t)next_code_point(text, size, at);
}

uint32_t evaluate_fold_code_point(uint32_t point)
{
    return (uint32_t)u_foldCase((UChar32)point, U_FOLD_CASE_DEFAULT);
}

bool evaluate_is_word(uint32_t point)
{
    return point == '_' || (U_GET_GC_MASK((UChar32)point) & (U_GC_L_MASK | U_GC_N_MASK | U_GC_M_MASK)) != 0;
}

char *evaluate_fold(const char *text, size_t size, size_t *out_size)
{
    char *folded = malloc(size * FOLDED_GROWTH_MAX + 1);
    size_t length = 0;
    if (folded == NULL)
        return NULL;
    for (size_t at = 0; at < size;) {
        UChar32 point = text_fold(next_code_point(text, size, &at));
        U8_APPEND_UNSAFE((uint8_t *)folded, length, (uint32_t)point);
    }
    folded[length] = '\0';
    *out_size = length;
    return folded;
}

uint32_t *evaluate_code_points(const char *text, size_t size, bool fold, size_t *out_count)
{
    uint32_t *points = malloc((size + 1) * sizeof points[0]);
    size_t count = 0;
    if (points == NULL)
        return NULL;
    for (size_t at = 0; at < size; count++) {
        UChar32 point = next_code_point(text, size, &at);
        points[count] = (uint32_t)(fold ? text_fold(point) : point);
    }
    *out_count = count;
    return points;
}

void evaluate_trim(const char **text, size_t *size)
{
    size_t begin = 0, end = *size;
    for (size_t at = 0; at < end; begin = at)
        if (!u_isUWhiteSpace(next_code_point(*text, end, &at)))
            break;
    while (end > begin) {
        int32_t at = (int32_t)end; /* the macro takes its address */
        UChar32 point;
        U8_PREV((const uint8_t *)*text, (int32_t)begin, at, point);
        if (point < 0 || !u_isUWhiteSpace(point))
            break;
        end = (size_t)at;
    }
    *text += begin;
    *size = end - begin;
}

size_t evaluate_characters(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += !U8_IS_TRAIL(text[i]);
    return count;
}
