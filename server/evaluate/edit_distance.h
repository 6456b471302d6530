/* Levenshtein distance of two sequences of code points: insertions, deletions and substitutions at 1 each. Pure function, any thread. */
#ifndef SERVER_EVALUATE_EDIT_DISTANCE_H
#define SERVER_EVALUATE_EDIT_DISTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* What is left of the two texts between their common beginning and end is compared exactly when the product of its lengths is at most
     * this: two texts of 32,768 code points, or one of 1,048,576 and one of 1,024. */
    EDIT_DISTANCE_PRODUCT_MAX = 1 << 30,
    /* Above, exactly when the distance is at most this divided by the longer one's length: 256 edits in 1,048,576 code points. */
    EDIT_DISTANCE_DIAGONAL_WORK = 1 << 28
};

struct edit_distance {
    size_t distance;
    /* False: the distance was beyond the limits; `distance` is then the most that it can be, the length of the longer one without the
     * common beginning and end. */
    bool exact;
    /* What it cost: about 3 ns of a core each. */
    uint64_t work;
};

/* Lengths below 2^31. False when there is no memory. Work is bounded by the limits above: less than half a second of one core, memory by
 * about 30 bytes per code point. Algorithms: G. Myers, "A fast bit-vector algorithm for approximate string matching based on dynamic
 * programming", JACM 46 (1999), 395-415, for the distance as by H. Hyyrö, "A bit-vector algorithm for computing Levenshtein and Damerau
 * edit distances", Nordic J. Computing 10 (2003), 29-39; where that is too much, E. Ukkonen, "Algorithms for approximate string matching",
 * Information and Control 64 (1985), 100-118. */
bool edit_distance(const uint32_t *a, size_t a_count, const uint32_t *b, size_t b_count, struct edit_distance *out);

#endif
