/* One measured run: calls sent at planned times, answers counted as they come. */
#ifndef TESTS_LOAD_RUN_H
#define TESTS_LOAD_RUN_H

#include "load/histogram.h"
#include "load/options.h"
#include "wire/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RUN_CODES = 17 }; /* status codes 0 to 16 */

struct run_result {
    struct histogram corrected;             /* from the planned time of a call to its answer */
    struct histogram uncorrected;           /* from the moment it was sent */
    atomic_uint_least64_t codes[RUN_CODES]; /* answers of the measured time by status */
    atomic_uint_least64_t sent;             /* measured calls handed to the library */
    uint64_t planned;                       /* calls that were due in the measured time */
    uint64_t late_ns_max;                   /* the most that sending fell behind the plan */
    double seconds;                         /* measured time as it was */
};

/* Connects, warms up, measures. Blocks for the duration, or until *stop becomes true. FORGE_OK also when calls failed: they are counted.
 * On failure error says why nothing was measured. */
forge_code run_load(const struct options *options, const atomic_bool *stop, struct run_result *result,
                    struct forge_error *error) FORGE_MUST_CHECK;

#endif
