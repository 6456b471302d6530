/* High dynamic range histogram of latencies: relative error below 0.1 % from 1 us to an hour in 200 kB.
 *
 * Log-linear buckets as in Gil Tene's HdrHistogram (http://hdrhistogram.org, 3 significant digits): values below 2,048 units have a
 * bucket each, every doubling above is split into 1,024 equal buckets. The unit is a microsecond. Recording is one relaxed atomic
 * addition: any number of threads record while another reads. */
#ifndef TESTS_LOAD_HISTOGRAM_H
#define TESTS_LOAD_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_SUB_BUCKETS = 2048,
    HISTOGRAM_DOUBLINGS = 21, /* 2^(11 + 21) us: more than an hour */
    HISTOGRAM_BUCKETS = HISTOGRAM_SUB_BUCKETS + HISTOGRAM_DOUBLINGS * (HISTOGRAM_SUB_BUCKETS / 2)
};

struct histogram {
    atomic_uint_least64_t counts[HISTOGRAM_BUCKETS];
    atomic_uint_least64_t sum_us, max_us;
};

/* Zeroed memory is an empty histogram. A value over the range counts in the last bucket; max stays exact. */
void histogram_record(struct histogram *histogram, uint64_t value_us);
uint64_t histogram_count(const struct histogram *histogram);
/* The value that percentile % (0 to 100) of the recorded values do not exceed: the middle of its bucket; 0 when empty. */
double histogram_percentile_us(const struct histogram *histogram, double percentile);
double histogram_mean_us(const struct histogram *histogram);
uint64_t histogram_max_us(const struct histogram *histogram);

#endif
