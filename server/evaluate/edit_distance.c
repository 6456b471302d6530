#include "evaluate/edit_distance.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 64, INCREASES = 1, DECREASES = 2, CELLS_PER_WORK = 8 };

struct sequence {
    const uint32_t *points;
    size_t count;
};

/* --- bit vectors: 64 rows of the matrix at a time, column by column --- */

/* The matrix has a row per code point of the pattern and a column per code point of the text. */
struct matrix {
    struct sequence pattern, text;
    uint32_t *alphabet; /* distinct code points of the pattern, ascending */
    size_t alphabet_count;
    uint32_t *pattern_symbols, *text_symbols; /* 1 + place in the alphabet; 0 = not in the pattern */
    uint64_t *rows_of_symbol;                 /* per symbol: which of the 64 rows have it */
    uint8_t *deltas;                          /* per column: how the row above changes from the column before to this one */
};

static int compare_points(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static uint32_t symbol_of(const struct matrix *matrix, uint32_t point)
{
    const uint32_t *found = bsearch(&point, matrix->alphabet, matrix->alphabet_count, sizeof point, compare_points);
    return found != NULL ? (uint32_t)(found - matrix->alphabet) + 1 : 0;
}

static bool matrix_make(struct matrix *matrix)
{
    size_t rows = matrix->pattern.count, columns = matrix->text.count;
    matrix->alphabet = malloc(rows * sizeof(uint32_t));
    matrix->pattern_symbols = malloc(rows * sizeof(uint32_t));
    matrix->text_symbols = malloc(columns * sizeof(uint32_t));
    matrix->rows_of_symbol = calloc(rows + 1, sizeof(uint64_t));
    matrix->deltas = malloc(columns);
    if (!matrix->alphabet || !matrix->pattern_symbols || !matrix->text_symbols || !matrix->rows_of_symbol || !matrix->deltas)
        return false;
    memcpy(matrix->alphabet, matrix->pattern.points, rows * sizeof(uint32_t));
    qsort(matrix->alphabet, rows, sizeof(uint32_t), compare_points);
    for (size_t i = 0; i < rows; i++)
        if (i == 0 || matrix->alphabet[i] != matrix->alphabet[i - 1])
            matrix->alphabet[matrix->alphabet_count++] = matrix->alphabet[i];
    for (size_t i = 0; i < rows; i++)
        matrix->pattern_symbols[i] = symbol_of(matrix, matrix->pattern.points[i]);
    for (size_t i = 0; i < columns; i++)
        matrix->text_symbols[i] = symbol_of(matrix, matrix->text.points[i]);
    /* Above the first row, each column is one more insertion. */
    memset(matrix->deltas, INCREASES, columns);
    return true;
}

static void matrix_free(struct matrix *matrix)
{
    free(matrix->alphabet);
    free(matrix->pattern_symbols);
    free(matrix->text_symbols);
    free(matrix->rows_of_symbol);
    free(matrix->deltas);
}

/* Takes the deltas above these rows to those of their last one. The names are those of the articles: vertical and horizontal differences,
 * positive and negative. */
static void rows_compute(struct matrix *matrix, unsigned row_count)
{
    uint64_t pv = UINT64_MAX, mv = 0;
    unsigned last = row_count - 1;
    for (size_t i = 0; i < matrix->text.count; i++) {
        uint64_t eq = matrix->rows_of_symbol[matrix->text_symbols[i]];
        uint64_t plus_in = matrix->deltas[i] & INCREASES, minus_in = matrix->deltas[i] >> 1;
        uint64_t xv = eq | mv;
        eq |= minus_in;
        uint64_t xh = (((eq & pv) + pv) ^ pv) | eq;
        uint64_t ph = mv | ~(xh | pv), mh = pv & xh;
        matrix->deltas[i] = (uint8_t)((ph >> last & 1) | (mh >> last & 1) << 1);
        ph = ph << 1 | plus_in;
        mh = mh << 1 | minus_in;
        pv = mh | ~(xv | ph);
        mv = ph & xv;
    }
}

static bool distance_by_bit_vectors(struct sequence pattern, struct sequence text, size_t *out)
{
    struct matrix matrix = {.pattern = pattern, .text = text};
    bool made = matrix_make(&matrix);
    for (size_t first = 0; made && first < pattern.count; first += WORD_BITS) {
        const uint32_t *symbols = matrix.pattern_symbols + first;
        unsigned rows = pattern.count - first < WORD_BITS ? (unsigned)(pattern.count - first) : WORD_BITS;
        for (unsigned row = 0; row < rows; row++)
            matrix.rows_of_symbol[symbols[row]] |= UINT64_C(1) << row;
        rows_compute(&matrix, rows);
        for (unsigned row = 0; row < rows; row++)
            matrix.rows_of_symbol[symbols[row]] = 0;
    }
    size_t distance = pattern.count;
    for (size_t i = 0; made && i < text.count; i++)
        distance += (matrix.deltas[i] & INCREASES) - (size_t)(matrix.deltas[i] >> 1);
    *out = distance;
    matrix_free(&matrix);
    return made;
}

/* --- diagonals: how far each is reached with 0, 1, 2 ... edits --- */

enum { UNREACHED = -2 };

/* The furthest i on diagonal k (where b is at i + k) with one edit more than `before` tells, before equal code points are walked. */
static int64_t diagonal_step(const int64_t *before, int64_t k, struct sequence a, struct sequence b)
{
    int64_t i = before[k] + 1; /* substitution */
    if (before[k + 1] + 1 > i) /* deletion */
        i = before[k + 1] + 1;
    if (before[k - 1] > i) /* insertion */
        i = before[k - 1];
    if (i > (int64_t)a.count)
        i = (int64_t)a.count;
    if (i + k > (int64_t)b.count)
        i = (int64_t)b.count - k;
    return i;
}

static int64_t walk_equal(int64_t i, int64_t k, struct sequence a, struct sequence b)
{
    while (i < (int64_t)a.count && i + k < (int64_t)b.count && a.points[i] == b.points[i + k])
        i++;
    return i;
}

/* Sets *out to the distance, or to most + 1 when it is larger. */
static bool distance_by_diagonals(struct sequence a, struct sequence b, int64_t most, size_t *out)
{
    int64_t goal = (int64_t)b.count - (int64_t)a.count, width = 2 * most + 5;
    *out = (size_t)most + 1;
    if (llabs(goal) > most)
        return true;
    int64_t *rows = malloc(2 * (size_t)width * sizeof rows[0]);
    if (rows == NULL)
        return false;
    for (int64_t i = 0; i < 2 * width; i++)
        rows[i] = UNREACHED;
    int64_t *before = rows + most + 2, *now = before + width;
    now[0] = walk_equal(0, 0, a, b);
    for (int64_t edits = 0; edits <= most; edits++) {
        for (int64_t k = -edits; edits > 0 && k <= edits; k++) {
            int64_t i = diagonal_step(before, k, a, b);
            now[k] = i < 0 || i + k < 0 ? UNREACHED : walk_equal(i, k, a, b);
        }
        if (llabs(goal) <= edits && now[goal] == (int64_t)a.count) {
            *out = (size_t)edits;
            break;
        }
        int64_t *swap = before;
        before = now;
        now = swap;
    }
    free(rows);
    return true;
}

/* --- both --- */

static void strip_common_ends(struct sequence *a, struct sequence *b)
{
    while (a->count > 0 && b->count > 0 && a->points[0] == b->points[0]) {
        *a = (struct sequence){a->points + 1, a->count - 1};
        *b = (struct sequence){b->points + 1, b->count - 1};
    }
    while (a->count > 0 && b->count > 0 && a->points[a->count - 1] == b->points[b->count - 1]) {
        a->count--;
        b->count--;
    }
}

bool edit_distance(const uint32_t *a, size_t a_count, const uint32_t *b, size_t b_count, struct edit_distance *out)
{
    struct sequence shorter = {a, a_count}, longer = {b, b_count};
    if (a_count > b_count)
        shorter = (struct sequence){b, b_count}, longer = (struct sequence){a, a_count};
    strip_common_ends(&shorter, &longer);
    *out = (struct edit_distance){.distance = longer.count, .exact = true};
    if (shorter.count == 0)
        return true;
    if ((uint64_t)shorter.count * longer.count <= EDIT_DISTANCE_PRODUCT_MAX) {
        out->work = (uint64_t)shorter.count * longer.count / CELLS_PER_WORK;
        return distance_by_bit_vectors(shorter, longer, &out->distance);
    }
    size_t distance, most = EDIT_DISTANCE_DIAGONAL_WORK / longer.count;
    if (!distance_by_diagonals(shorter, longer, (int64_t)most, &distance))
        return false;
    out->exact = distance <= most;
    out->work = (uint64_t)(out->exact ? distance : most) * longer.count;
    if (out->exact)
        out->distance = distance;
    return true;
}
