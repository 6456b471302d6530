/* Metrics in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * A metric is registered before the threads that use it start, with every value its labels can take; so counting is an index into
 * memory of the calling thread's shard: no lock, no look-up, no contention. The registry sums the shards when it is read. */
#ifndef SERVER_BASE_METRICS_H
#define SERVER_BASE_METRICS_H

#include <stdint.h>

struct base_metrics; /* a registry */
struct base_metric;

/* A label and its possible values. Name and values must outlive the registry. */
struct base_metric_label {
    const char *name;
    const char *const *values;
    unsigned count;
};
enum { BASE_METRIC_LABELS_MAX = 2, BASE_METRIC_SHARDS = 16 };
enum base_metric_kind { BASE_METRIC_COUNTER, BASE_METRIC_GAUGE };

/* Allocation failures while registering abort: it happens at start-up only. */
struct base_metrics *base_metrics_new(void);
void base_metrics_free(struct base_metrics *metrics); /* nobody may count any more; accepts NULL */

/* name, e.g. "forged_calls_total", and help must outlive the registry; labels (up to BASE_METRIC_LABELS_MAX, may be NULL) are copied. */
struct base_metric *base_metric_new(struct base_metrics *metrics, enum base_metric_kind kind, const char *name, const char *help,
                                    const struct base_metric_label *labels, unsigned label_count);
/* A histogram of durations: buckets from 50 us to 10 s, shown in seconds. */
struct base_metric *base_metric_new_durations(struct base_metrics *metrics, const char *name, const char *help,
                                              const struct base_metric_label *labels, unsigned label_count);
/* A value that is read when somebody asks (queue lengths, pool connections): read() is called on the asking thread for each value of the
 * label (index 0 without one) and must not block. */
void base_metric_new_function(struct base_metrics *metrics, enum base_metric_kind kind, const char *name, const char *help,
                              const struct base_metric_label *label, double (*read)(void *user, unsigned index), void *user);

/* Any thread. first and second are indexes into the values of the labels; 0 for labels that are not there. A gauge also takes negative
 * deltas. */
void base_metric_add(struct base_metric *metric, unsigned first, unsigned second, int64_t delta);
/* Any thread; for a metric made by base_metric_new_durations. */
void base_metric_observe_ns(struct base_metric *metric, unsigned first, unsigned second, uint64_t duration_ns);
/* The present sum over all shards (a histogram: the number of observations). For tests and health. */
int64_t base_metric_value(const struct base_metric *metric, unsigned first, unsigned second);

/* The whole registry as text, NUL-terminated; the caller frees it. Series of labelled counters and histograms that never counted are left
 * out. NULL without memory. Any thread. */
char *base_metrics_text(struct base_metrics *metrics);

#endif
