#include "base/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Upper bounds of the duration buckets in nanoseconds; the last bucket is +Inf. Close enough together that a p99 read from them is
 * off by 2.5x at most, from an answer out of memory to the server's longest deadline but one. */
static const uint64_t BUCKET_NS[] = {50000,    100000,    250000,    500000,    1000000,    2500000,    5000000,    10000000,   25000000,
                                     50000000, 100000000, 250000000, 500000000, 1000000000, 2500000000, 5000000000, 10000000000};
enum { BUCKETS = sizeof BUCKET_NS / sizeof BUCKET_NS[0] + 1, HISTOGRAM_CELLS = BUCKETS + 1 /* the sum of nanoseconds */, CACHE_LINE = 64 };

struct base_metric {
    struct base_metric *next;
    const char *name, *help;
    enum base_metric_kind kind;
    bool is_histogram;
    unsigned label_count;
    struct base_metric_label labels[BASE_METRIC_LABELS_MAX];
    double (*read)(void *user, unsigned index); /* functions only */
    void *user;
    unsigned series, cells_per_series;
    atomic_int_fast64_t *shards[BASE_METRIC_SHARDS]; /* series * cells_per_series cells each, on cache lines of their own */
};

struct base_metrics {
    pthread_mutex_t lock; /* guards the list while it grows; metrics themselves never move */
    struct base_metric *first, *last;
};

/* Threads are numbered at their first count; shards repeat only in processes with more threads than shards. */
static unsigned thread_shard(void)
{
    static atomic_uint threads;
    static _Thread_local unsigned shard = BASE_METRIC_SHARDS;
    if (shard == BASE_METRIC_SHARDS)
        shard = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % BASE_METRIC_SHARDS;
    return shard;
}

static void *allocate_or_abort(size_t alignment, size_t size)
{
    size_t rounded = (size + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc(alignment, rounded);
    if (memory == NULL)
        abort();
    return memset(memory, 0, rounded);
}

struct base_metrics *base_metrics_new(void)
{
    struct base_metrics *metrics = allocate_or_abort(CACHE_LINE, sizeof *metrics);
    pthread_mutex_init(&metrics->lock, NULL);
    return metrics;
}

void base_metrics_free(struct base_metrics *metrics)
{
    if (metrics == NULL)
        return;
    for (struct base_metric *metric = metrics->first, *next; metric != NULL; metric = next) {
        next = metric->next;
        for (unsigned i = 0; i < BASE_METRIC_SHARDS; i++)
            free(metric->shards[i]);
        free(metric);
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static struct base_metric *metric_new(enum base_metric_kind kind, const char *name, const char *help,
                                      const struct base_metric_label *labels, unsigned label_count)
{
    assert(label_count <= BASE_METRIC_LABELS_MAX);
    struct base_metric *metric = allocate_or_abort(CACHE_LINE, sizeof *metric);
    metric->name = name;
    metric->help = help;
    metric->kind = kind;
    metric->label_count = label_count;
    metric->series = 1;
    for (unsigned i = 0; i < label_count; i++) {
        assert(labels[i].count > 0);
        metric->labels[i] = labels[i];
        metric->series *= labels[i].count;
    }
    return metric;
}

static void metric_publish(struct base_metrics *metrics, struct base_metric *metric)
{
    pthread_mutex_lock(&metrics->lock);
    if (metrics->last == NULL)
        metrics->first = metric;
    else
        metrics->last->next = metric;
    metrics->last = metric;
    pthread_mutex_unlock(&metrics->lock);
}

static void metric_allocate_cells(struct base_metric *metric, unsigned cells_per_series)
{
    metric->cells_per_series = cells_per_series;
    for (unsigned i = 0; i < BASE_METRIC_SHARDS; i++)
        metric->shards[i] = allocate_or_abort(CACHE_LINE, (size_t)metric->series * cells_per_series * sizeof *metric->shards[i]);
}

struct base_metric *base_metric_new(struct base_metrics *metrics, enum base_metric_kind kind, const char *name, const char *help,
                                    const struct base_metric_label *labels, unsigned label_count)
{
    struct base_metric *metric = metric_new(kind, name, help, labels, label_count);
    metric_allocate_cells(metric, 1);
    metric_publish(metrics, metric);
    return metric;
}

struct base_metric *base_metric_new_durations(struct base_metrics *metrics, const char *name, const char *help,
                                              const struct base_metric_label *labels, unsigned label_count)
{
    struct base_metric *metric = metric_new(BASE_METRIC_COUNTER, name, help, labels, label_count);
    metric->is_histogram = true;
    metric_allocate_cells(metric, HISTOGRAM_CELLS);
    metric_publish(metrics, metric);
    return metric;
}

void base_metric_new_function(struct base_metrics *metrics, enum base_metric_kind kind, const char *name, const char *help,
                              const struct base_metric_label *label, double (*read)(void *user, unsigned index), void *user)
{
    struct base_metric *metric = metric_new(kind, name, help, label, label == NULL ? 0 : 1);
    metric->read = read;
    metric->user = user;
    metric_publish(metrics, metric);
}

static size_t series_index(const struct base_metric *metric, unsigned first, unsigned second)
{
    unsigned seconds = metric->label_count == 2 ? metric->labels[1].count : 1;
    size_t series = (size_t)first * seconds + second;
    assert(second < seconds && series < metric->series);
    return series;
}

void base_metric_add(struct base_metric *metric, unsigned first, unsigned second, int64_t delta)
{
    assert(!metric->is_histogram && metric->read == NULL);
    atomic_fetch_add_explicit(&metric->shards[thread_shard()][series_index(metric, first, second)], delta, memory_order_relaxed);
}

void base_metric_observe_ns(struct base_metric *metric, unsigned first, unsigned second, uint64_t duration_ns)
{
    assert(metric->is_histogram);
    unsigned bucket = 0;
    while (bucket < BUCKETS - 1 && duration_ns > BUCKET_NS[bucket])
        bucket++;
    atomic_int_fast64_t *cells = metric->shards[thread_shard()] + series_index(metric, first, second) * HISTOGRAM_CELLS;
    atomic_fetch_add_explicit(&cells[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells[BUCKETS], (int_fast64_t)duration_ns, memory_order_relaxed);
}

static int64_t cell_sum(const struct base_metric *metric, size_t cell)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < BASE_METRIC_SHARDS; i++)
        sum += atomic_load_explicit(&metric->shards[i][cell], memory_order_relaxed);
    return sum;
}

int64_t base_metric_value(const struct base_metric *metric, unsigned first, unsigned second)
{
    size_t cell = series_index(metric, first, second) * metric->cells_per_series;
    if (!metric->is_histogram)
        return cell_sum(metric, cell);
    int64_t count = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        count += cell_sum(metric, cell + i);
    return count;
}

/* Label values are ours (method names, code names, classes), but the format's escapes are cheap to keep right. */
static void print_label_value(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"')
            fputc('\\', out);
        if (*value == '\n')
            fputs("\\n", out);
        else
            fputc(*value, out);
    }
}

/* {a="x",b="y",le="0.1"}, or nothing when there is no label at all. */
static void print_labels(FILE *out, const struct base_metric *metric, unsigned series, const char *le)
{
    const char *separator = "{";
    unsigned remaining = metric->series;
    for (unsigned i = 0; i < metric->label_count; i++) {
        remaining /= metric->labels[i].count;
        fprintf(out, "%s%s=\"", separator, metric->labels[i].name);
        print_label_value(out, metric->labels[i].values[series / remaining % metric->labels[i].count]);
        fputc('"', out);
        separator = ",";
    }
    if (le != NULL) {
        fprintf(out, "%sle=\"%s\"", separator, le);
        separator = ",";
    }
    if (*separator == ',')
        fputc('}', out);
}

static void print_histogram(FILE *out, const struct base_metric *metric, unsigned series)
{
    size_t cell = (size_t)series * HISTOGRAM_CELLS;
    int64_t cumulative = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        char le[32] = "+Inf";
        if (i < BUCKETS - 1)
            snprintf(le, sizeof le, "%g", (double)BUCKET_NS[i] / 1e9);
        cumulative += cell_sum(metric, cell + i);
        fprintf(out, "%s_bucket", metric->name);
        print_labels(out, metric, series, le);
        fprintf(out, " %lld\n", (long long)cumulative);
    }
    fprintf(out, "%s_sum", metric->name);
    print_labels(out, metric, series, NULL);
    fprintf(out, " %.9g\n%s_count", (double)cell_sum(metric, cell + BUCKETS) / 1e9, metric->name);
    print_labels(out, metric, series, NULL);
    fprintf(out, " %lld\n", (long long)cumulative);
}

static void print_series(FILE *out, const struct base_metric *metric, unsigned series)
{
    if (metric->read != NULL) {
        fputs(metric->name, out);
        print_labels(out, metric, series, NULL);
        fprintf(out, " %.15g\n", metric->read(metric->user, series));
        return;
    }
    bool may_leave_out = metric->label_count > 0 && metric->kind == BASE_METRIC_COUNTER;
    unsigned seconds = metric->label_count == 2 ? metric->labels[1].count : 1;
    int64_t value = base_metric_value(metric, series / seconds, series % seconds);
    if (value == 0 && may_leave_out)
        return;
    if (metric->is_histogram) {
        print_histogram(out, metric, series);
        return;
    }
    fputs(metric->name, out);
    print_labels(out, metric, series, NULL);
    fprintf(out, " %lld\n", (long long)value);
}

static void print_metric(FILE *out, const struct base_metric *metric)
{
    const char *type = metric->is_histogram ? "histogram" : metric->kind == BASE_METRIC_COUNTER ? "counter" : "gauge";
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name, type);
    for (unsigned series = 0; series < metric->series; series++)
        print_series(out, metric, series);
}

char *base_metrics_text(struct base_metrics *metrics)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    pthread_mutex_lock(&metrics->lock);
    struct base_metric *metric = metrics->first, *last = metrics->last;
    pthread_mutex_unlock(&metrics->lock);
    while (metric != NULL) { /* read without the lock: a metric up to last never changes its place */
        print_metric(out, metric);
        metric = metric == last ? NULL : metric->next;
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
