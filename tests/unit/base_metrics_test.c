#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *const METHODS[] = {"Get", "Set"};
static const char *const CODES[] = {"OK", "NOT_FOUND", "INTERNAL"};
static const struct base_metric_label LABELS[] = {{"method", METHODS, 2}, {"code", CODES, 3}};

static void assert_text_has(struct base_metrics *metrics, const char *line)
{
    char *text = base_metrics_text(metrics);
    assert_non_null(text);
    if (strstr(text, line) == NULL)
        fail_msg("'%s' is not in:\n%s", line, text);
    free(text);
}

static void assert_text_lacks(struct base_metrics *metrics, const char *part)
{
    char *text = base_metrics_text(metrics);
    assert_non_null(text);
    assert_null(strstr(text, part));
    free(text);
}

static void test_metrics_counter_shows_type_help_and_labels(void **state)
{
    struct base_metrics *metrics = base_metrics_new();
    struct base_metric *calls = base_metric_new(metrics, BASE_METRIC_COUNTER, "calls_total", "Calls by method and code.", LABELS, 2);
    base_metric_add(calls, 1, 2, 3);
    base_metric_add(calls, 0, 0, 1);
    assert_text_has(metrics, "# HELP calls_total Calls by method and code.\n# TYPE calls_total counter\n");
    assert_text_has(metrics, "\ncalls_total{method=\"Set\",code=\"INTERNAL\"} 3\n");
    assert_text_has(metrics, "\ncalls_total{method=\"Get\",code=\"OK\"} 1\n");
    assert_text_lacks(metrics, "NOT_FOUND");
    assert_int_equal(base_metric_value(calls, 1, 2), 3);
    base_metrics_free(metrics);
}

static void test_metrics_gauge_goes_up_and_down(void **state)
{
    struct base_metrics *metrics = base_metrics_new();
    struct base_metric *open = base_metric_new(metrics, BASE_METRIC_GAUGE, "open", "Open.", NULL, 0);
    base_metric_add(open, 0, 0, 5);
    base_metric_add(open, 0, 0, -7);
    assert_text_has(metrics, "# TYPE open gauge\nopen -2\n");
    base_metrics_free(metrics);
}

static void test_metrics_histogram_is_cumulative_in_seconds(void **state)
{
    struct base_metrics *metrics = base_metrics_new();
    struct base_metric *seconds = base_metric_new_durations(metrics, "call_seconds", "Time.", LABELS, 1);
    base_metric_observe_ns(seconds, 0, 0, 50000); /* exactly the first bound: inside it */
    base_metric_observe_ns(seconds, 0, 0, 60000);
    base_metric_observe_ns(seconds, 0, 0, 11000000000ull); /* above the last bound */
    assert_text_has(metrics, "# TYPE call_seconds histogram\ncall_seconds_bucket{method=\"Get\",le=\"5e-05\"} 1\n");
    assert_text_has(metrics, "call_seconds_bucket{method=\"Get\",le=\"0.0001\"} 2\n");
    assert_text_has(metrics, "call_seconds_bucket{method=\"Get\",le=\"10\"} 2\n");
    assert_text_has(metrics, "call_seconds_bucket{method=\"Get\",le=\"+Inf\"} 3\n");
    assert_text_has(metrics, "call_seconds_sum{method=\"Get\"} 11.00011\ncall_seconds_count{method=\"Get\"} 3\n");
    assert_text_lacks(metrics, "method=\"Set\"");
    base_metrics_free(metrics);
}

static double read_index(void *user, unsigned index)
{
    return (double)(*(const unsigned *)user + index) / 2;
}

static void test_metrics_function_is_asked_for_each_label_value(void **state)
{
    struct base_metrics *metrics = base_metrics_new();
    unsigned base = 10;
    base_metric_new_function(metrics, BASE_METRIC_GAUGE, "length", "Length.", &LABELS[0], read_index, &base);
    base_metric_new_function(metrics, BASE_METRIC_COUNTER, "opened_total", "Opened.", NULL, read_index, &base);
    assert_text_has(metrics, "length{method=\"Get\"} 5\nlength{method=\"Set\"} 5.5\n");
    assert_text_has(metrics, "# TYPE opened_total counter\nopened_total 5\n");
    base_metrics_free(metrics);
}

static void test_metrics_label_values_are_escaped(void **state)
{
    static const char *const ODD[] = {"a\"b\\c\nd"};
    const struct base_metric_label label = {"odd", ODD, 1};
    struct base_metrics *metrics = base_metrics_new();
    base_metric_add(base_metric_new(metrics, BASE_METRIC_COUNTER, "x_total", "X.", &label, 1), 0, 0, 1);
    assert_text_has(metrics, "x_total{odd=\"a\\\"b\\\\c\\nd\"} 1\n");
    base_metrics_free(metrics);
}

enum { THREADS = 20, ADDS = 10000 }; /* more threads than shards: some share one */

static void *add_many(void *argument)
{
    for (int i = 0; i < ADDS; i++)
        base_metric_add(argument, i % 2, i % 3, 1);
    return NULL;
}

static void test_metrics_no_count_is_lost_between_threads(void **state)
{
    struct base_metrics *metrics = base_metrics_new();
    struct base_metric *calls = base_metric_new(metrics, BASE_METRIC_COUNTER, "calls_total", "Calls.", LABELS, 2);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, calls), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    int64_t sum = 0;
    for (unsigned i = 0; i < 6; i++)
        sum += base_metric_value(calls, i / 3, i % 3);
    assert_int_equal(sum, THREADS * ADDS);
    base_metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_counter_shows_type_help_and_labels),
        cmocka_unit_test(test_metrics_gauge_goes_up_and_down),
        cmocka_unit_test(test_metrics_histogram_is_cumulative_in_seconds),
        cmocka_unit_test(test_metrics_function_is_asked_for_each_label_value),
        cmocka_unit_test(test_metrics_label_values_are_escaped),
        cmocka_unit_test(test_metrics_no_count_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
