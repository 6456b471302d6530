#include "load/histogram.h"

#include <stddef.h>

static size_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_SUB_BUCKETS)
        return (size_t)value;
    int shift = 63 - __builtin_clzll(value) - 10; /* brings value into 1,024 .. 2,047 */
    size_t bucket =
        HISTOGRAM_SUB_BUCKETS + (size_t)(shift - 1) * (HISTOGRAM_SUB_BUCKETS / 2) + (size_t)(value >> shift) - HISTOGRAM_SUB_BUCKETS / 2;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static double middle_of(size_t bucket)
{
    if (bucket < HISTOGRAM_SUB_BUCKETS)
        return (double)bucket;
    size_t above = bucket - HISTOGRAM_SUB_BUCKETS, half = HISTOGRAM_SUB_BUCKETS / 2;
    double width = (double)((uint64_t)1 << (above / half + 1));
    return ((double)(above % half + half) + 0.5) * width;
}

void histogram_record(struct histogram *histogram, uint64_t value_us)
{
    atomic_fetch_add_explicit(&histogram->counts[bucket_of(value_us)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, value_us, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&histogram->max_us, memory_order_relaxed);
    while (value_us > max &&
           !atomic_compare_exchange_weak_explicit(&histogram->max_us, &max, value_us, memory_order_relaxed, memory_order_relaxed))
        ;
}

uint64_t histogram_count(const struct histogram *histogram)
{
    uint64_t count = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
    return count;
}

double histogram_percentile_us(const struct histogram *histogram, double percentile)
{
    uint64_t total = histogram_count(histogram), seen = 0;
    double wanted = percentile / 100 * (double)total;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        seen += count;
        if (count > 0 && (double)seen >= wanted)
            return middle_of(i);
    }
    return (double)histogram_max_us(histogram);
}

double histogram_mean_us(const struct histogram *histogram)
{
    uint64_t count = histogram_count(histogram);
    return count == 0 ? 0 : (double)atomic_load_explicit(&histogram->sum_us, memory_order_relaxed) / (double)count;
}

uint64_t histogram_max_us(const struct histogram *histogram)
{
    return atomic_load_explicit(&histogram->max_us, memory_order_relaxed);
}
