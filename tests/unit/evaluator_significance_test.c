/* McNemar's and Wilcoxon's tests against published tables and figures of other implementations. */
#include "evaluate/significance.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void expect_p(double p, double expected, double tolerance)
{
    if (!(fabs(p - expected) <= tolerance))
        fail_msg("p = %.12g, not %.12g", p, expected);
}

static void test_mcnemar_is_the_binomial_test(void **state)
{
    (void)state;
    expect_p(evaluate_mcnemar_p(0, 0), 1, 0);
    expect_p(evaluate_mcnemar_p(7, 7), 1, 0);
    expect_p(evaluate_mcnemar_p(0, 1), 1, 1e-15);
    expect_p(evaluate_mcnemar_p(0, 5), 0.0625, 1e-15);
    expect_p(evaluate_mcnemar_p(5, 0), 0.0625, 1e-15);
    expect_p(evaluate_mcnemar_p(1, 9), 22.0 / 1024, 1e-15);   /* 2 * (1 + 10) / 2^10 */
    expect_p(evaluate_mcnemar_p(2, 8), 112.0 / 1024, 1e-14);  /* 2 * (1 + 10 + 45) / 2^10 */
    expect_p(evaluate_mcnemar_p(8, 12), 0.5034446716, 1e-10); /* 2 * 263950 / 2^20 */
    expect_p(evaluate_mcnemar_p(6, 16), 0.0524787903, 1e-10); /* 2 * 110056 / 2^22 */
}

/* A sum by hand, term by term, for counts where the large terms no longer fit a double's exponent. */
static void test_mcnemar_with_many_items(void **state)
{
    (void)state;
    long double log_term = -2000 * logl(2), sum = 0;
    for (int k = 0; k <= 950; k++) {
        sum += expl(log_term);
        log_term += logl(2000 - k) - logl(k + 1);
    }
    expect_p(evaluate_mcnemar_p(950, 1050), (double)(2 * sum), 1e-11);
    assert_true(evaluate_mcnemar_p(0, 100000) >= 0);
    assert_true(evaluate_mcnemar_p(0, 100000) < 1e-300);
    assert_true(evaluate_mcnemar_p(49999, 50001) > 0.99);
}

static double exact_p(size_t count, double rank_sum)
{
    double ranks[EVALUATE_WILCOXON_EXACT_MAX];
    for (size_t i = 0; i < count; i++)
        ranks[i] = (double)i + 1;
    return evaluate_wilcoxon_exact_p(ranks, count, rank_sum);
}

/* Critical values of the table for two-sided alpha = 0.05 (Wilcoxon and Wilcox 1964; in every text book): at the value the test is
 * significant, one above it is not. */
static void test_wilcoxon_has_the_critical_values_of_the_table(void **state)
{
    (void)state;
    static const int critical[] = {
        [6] = 0,   [7] = 2,   [8] = 3,   [9] = 5,   [10] = 8,  [11] = 10, [12] = 13, [13] = 17, [14] = 21, [15] = 25,
        [16] = 29, [17] = 34, [18] = 40, [19] = 46, [20] = 52, [21] = 58, [22] = 65, [23] = 73, [24] = 81, [25] = 89};
    for (size_t n = 6; n <= EVALUATE_WILCOXON_EXACT_MAX; n++) {
        assert_true(exact_p(n, critical[n]) <= 0.05);
        assert_true(exact_p(n, critical[n] + 1) > 0.05);
        /* the other sum says the same */
        expect_p(exact_p(n, (double)(n * (n + 1)) / 2 - critical[n]), exact_p(n, critical[n]), 1e-15);
    }
}

static void test_wilcoxon_exact_values(void **state)
{
    (void)state;
    expect_p(evaluate_wilcoxon_exact_p(NULL, 0, 0), 1, 0);
    expect_p(exact_p(1, 1), 1, 0);
    expect_p(exact_p(5, 0), 2.0 / 32, 1e-15);
    expect_p(exact_p(5, 1), 4.0 / 32, 1e-15);
    expect_p(exact_p(10, 8), 0.048828125, 1e-15); /* 2 * 25 / 1024 */
    expect_p(exact_p(4, 5), 1, 0);
}

/* Two ties with mean ranks: of {1.5, 1.5, 3} the sums are 0, 1.5 (twice), 3 (twice), 4.5 (twice) and 6. */
static void test_wilcoxon_with_ties(void **state)
{
    (void)state;
    static const double ranks[] = {1.5, 1.5, 3};
    expect_p(evaluate_wilcoxon_exact_p(ranks, 3, 0), 2.0 / 8, 1e-15);
    expect_p(evaluate_wilcoxon_exact_p(ranks, 3, 6), 2.0 / 8, 1e-15);
    expect_p(evaluate_wilcoxon_exact_p(ranks, 3, 1.5), 6.0 / 8, 1e-15);
    expect_p(evaluate_wilcoxon_exact_p(ranks, 3, 3), 1, 1e-15);
}

static void test_wilcoxon_normal_approximation(void **state)
{
    (void)state;
    /* z = (0 - 52.5) / sqrt(253.75) without ties for n = 14 and a rank sum of 0 */
    expect_p(evaluate_wilcoxon_normal_p(14, 0, 0), erfc(52.5 / sqrt(253.75) / sqrt(2)), 1e-15);
    expect_p(evaluate_wilcoxon_normal_p(30, 232.5, 0), 1, 0);
    /* n = 30, W = 137: the critical value of the exact table at 0.05 (two-sided) */
    expect_p(evaluate_wilcoxon_normal_p(30, 137, 0), 0.0495, 0.0005);
    /* all 30 differences equal: variance 30 * 31^2 / 16 = n (n+1)^2 / 4 / 4 */
    expect_p(evaluate_wilcoxon_normal_p(30, 20 * 15.5, 30.0 * 30 * 30 - 30), erfc(77.5 / sqrt(30 * 961.0 / 16) / sqrt(2)), 1e-15);
    expect_p(evaluate_wilcoxon_normal_p(0, 0, 0), 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mcnemar_is_the_binomial_test),
        cmocka_unit_test(test_mcnemar_with_many_items),
        cmocka_unit_test(test_wilcoxon_has_the_critical_values_of_the_table),
        cmocka_unit_test(test_wilcoxon_exact_values),
        cmocka_unit_test(test_wilcoxon_with_ties),
        cmocka_unit_test(test_wilcoxon_normal_approximation),
    };
    return cmocka_run_group_tests_name("evaluator_significance", tests, NULL, NULL);
}
