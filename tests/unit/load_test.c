/* The arithmetic of forgeload: histogram error bound and arrival plans. */
#include "load/histogram.h"
#include "load/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct histogram *histogram;

static int setup(void **state)
{
    histogram = calloc(1, sizeof *histogram);
    return histogram ? 0 : -1;
}

static int teardown(void **state)
{
    free(histogram);
    return 0;
}

static void test_histogram_is_exact_for_small_values(void **state)
{
    for (uint64_t value = 1; value <= 2000; value++)
        histogram_record(histogram, value);
    assert_int_equal(histogram_count(histogram), 2000);
    assert_true(histogram_percentile_us(histogram, 50) == 1000);
    assert_true(histogram_percentile_us(histogram, 99) == 1980);
    assert_true(histogram_percentile_us(histogram, 100) == 2000);
    assert_true(histogram_mean_us(histogram) == 1000.5);
}

static void test_histogram_error_stays_below_a_thousandth(void **state)
{
    for (uint64_t value = 1; value < UINT64_C(3600000000); value = value * 21 / 20 + 1) {
        struct histogram *one = calloc(1, sizeof *one);
        assert_non_null(one);
        histogram_record(one, value);
        double read = histogram_percentile_us(one, 100);
        assert_true(fabs(read - (double)value) <= (double)value / 1000);
        free(one);
    }
}

static void test_histogram_keeps_the_exact_maximum_beyond_its_range(void **state)
{
    histogram_record(histogram, UINT64_C(1) << 60);
    assert_int_equal(histogram_count(histogram), 1);
    assert_int_equal(histogram_max_us(histogram), UINT64_C(1) << 60);
}

static void test_empty_histogram_reads_zero(void **state)
{
    assert_true(histogram_percentile_us(histogram, 99) == 0);
    assert_true(histogram_mean_us(histogram) == 0);
}

static void test_constant_plan_is_evenly_spaced(void **state)
{
    struct plan plan;
    plan_init(&plan, PLAN_CONSTANT, 1000, 1);
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t at = plan_next_ns(&plan), wanted = i * 1000000;
        assert_true(at + 1 >= wanted && at <= wanted + 1);
    }
}

static void test_poisson_plan_has_its_rate_and_exponential_gaps(void **state)
{
    enum { CALLS = 200000 };
    struct plan plan;
    plan_init(&plan, PLAN_POISSON, 1000, 7);
    uint64_t last = 0, longer_than_mean = 0;
    for (int i = 0; i < CALLS; i++) {
        uint64_t at = plan_next_ns(&plan);
        assert_true(at >= last);
        longer_than_mean += at - last > 1000000;
        last = at;
    }
    assert_true(fabs((double)last / 1e9 - CALLS / 1000.0) < 2);            /* four standard deviations are 1.8 s */
    assert_true(fabs((double)longer_than_mean / CALLS - exp(-1)) < 0.005); /* P(gap > mean) = 1/e */
}

static void test_same_seed_gives_the_same_plan(void **state)
{
    struct plan a, b;
    plan_init(&a, PLAN_POISSON, 500, 42);
    plan_init(&b, PLAN_POISSON, 500, 42);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(plan_next_ns(&a), plan_next_ns(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_histogram_is_exact_for_small_values, setup, teardown),
        cmocka_unit_test(test_histogram_error_stays_below_a_thousandth),
        cmocka_unit_test_setup_teardown(test_histogram_keeps_the_exact_maximum_beyond_its_range, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_histogram_reads_zero, setup, teardown),
        cmocka_unit_test(test_constant_plan_is_evenly_spaced),
        cmocka_unit_test(test_poisson_plan_has_its_rate_and_exponential_gaps),
        cmocka_unit_test(test_same_seed_gives_the_same_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
