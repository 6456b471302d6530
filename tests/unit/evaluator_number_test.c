/* Evaluators numeric, latency and cost. */
#include "evaluator_test_support.h"

#include "evaluate/number.h"

#include <locale.h>
#include <math.h>

static double number_of(const char *text)
{
    double value = NAN;
    enum evaluate_number found = evaluate_number_find(text, &value);
    return found == EVALUATE_NUMBER_FOUND ? value : found == EVALUATE_NUMBER_TOO_LARGE ? INFINITY : NAN;
}

static void test_first_number(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"42", 42},         {"The answer is 42, not 43.", 42},
        {"-7", -7},         {"+7", 7},
        {"--7", -7},        {"x = -0.5e-3!", -0.0005},
        {".5", 0.5},        {"-.5", -0.5},
        {"5.", 5},          {"5.e1", 50},
        {"1.2.3", 1.2},     {"1,234.5", 1},
        {"1e5", 100000},    {"1e", 1},
        {"1e+", 1},         {"1E2x", 100},
        {"0x1F", 0},        {"-0x1F", 0},
        {"00x1", 0},        {"no. 3", 3},
        {"...5", 0.5},      {"- 5", 5},
        {"inf nan 6", 6},   {"1e-400", 0},
        {"0.1", 0.1},       {"9007199254740993", 9007199254740992},
        {"\u00BD or 2", 2}, {"\u0663 3", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (number_of(cases[i].text) != cases[i].value)
            fail_msg("\"%s\": %g", cases[i].text, number_of(cases[i].text));
    static const char *const none[] = {"", "none", "-", ".", "+.", "e5x", "inf", "NaN", "\u0663"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_true(i == 5 ? number_of(none[i]) == 5 : isnan(number_of(none[i])));
    assert_true(isinf(number_of("1e400")));
}

static void test_locale_does_not_matter(void **state)
{
    locale_t german = newlocale(LC_ALL_MASK, "de_DE.UTF-8", (locale_t)0);
    if (german == (locale_t)0)
        skip();
    locale_t before = uselocale(german);
    assert_true(number_of("1.5") == 1.5);
    uselocale(before);
    freelocale(german);
}

static double numeric(double absolute, double relative, const char *output, const char *expected)
{
    Forge__V1__NumericEvaluator config = FORGE__V1__NUMERIC_EVALUATOR__INIT;
    config.absolute_tolerance = absolute;
    config.relative_tolerance = relative;
    const Forge__V1__Evaluator evaluator = EVALUATOR(NUMERIC, numeric, &config);
    return judge(&evaluator, output, expected);
}

/* The cases of Python's test_math.py, IsCloseTests, as far as both formulas agree: ours is a share of the expected number alone. */
static void test_tolerance(void **state)
{
    assert_true(numeric(0, 0, "about 3.14 or so", "3.14") == 1);
    assert_true(numeric(0, 0, "3.15", "3.14") == 0);
    assert_true(numeric(0, 0, "1e15", "1000000000000000") == 1);
    assert_true(numeric(0, 0, "-0.0", "0") == 1);
    assert_true(numeric(0, 1e-8, "1e8", "100000001") == 1);
    assert_true(numeric(0, 1e-8, "-1e-8", "-1.000000009e-8") == 1);
    assert_true(numeric(0, 1e-9, "1e8", "100000001") == 0);
    assert_true(numeric(0, 0.9, "1e-9", "0") == 0); /* no share of 0 is anything */
    assert_true(numeric(1e-8, 0.9, "1e-9", "0") == 1);
    assert_true(numeric(0, 0.01, "101", "100") == 1);
    assert_true(numeric(0, 0.01, "101.5", "100") == 0);
    assert_true(numeric(5, 0.01, "105", "100") == 1); /* the larger one counts */
    assert_true(numeric(0.5, 0.1, "110", "100") == 1);
    assert_true(numeric(0, 0.1, "-100", "100") == 0);
    assert_true(numeric(0, 0.5, "10", "6") == 0); /* 4 > 3; math.isclose has 4 <= 5 */
    assert_string_equal(explanation, "10, expected 6: difference 4, tolerance 3");
    assert_true(numeric(0, 0.5, "6", "10") == 1);
    assert_true(numeric(0, 1e300, "1e308", "-1e308") == 1); /* both overflow, and the tolerance is the larger one anyway */
    assert_true(numeric(0, 1, "1e308", "-1e308") == 0);
}

static void test_no_number(void **state)
{
    assert_true(numeric(1, 1, "none", "3") == 0);
    assert_string_equal(explanation, "the output has no number");
    assert_true(numeric(1, 1, "3", "") == 0);
    assert_string_equal(explanation, "the expected output has no number");
    assert_true(numeric(1, 1, "1e999", "1e999") == 0);
    assert_string_equal(explanation, "the first number of the expected output is too large");
}

static void test_negative_tolerances(void **state)
{
    Forge__V1__NumericEvaluator config = FORGE__V1__NUMERIC_EVALUATOR__INIT;
    const Forge__V1__Evaluator evaluator = EVALUATOR(NUMERIC, numeric, &config);
    const double wrong[] = {-1, -1e-300, NAN, INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        config.absolute_tolerance = wrong[i];
        config.relative_tolerance = 0;
        assert_string_equal(refusal(&evaluator), "evaluators[0].numeric.absolute_tolerance: must be a number of 0 or more");
        config.absolute_tolerance = 0;
        config.relative_tolerance = wrong[i];
        assert_string_equal(refusal(&evaluator), "evaluators[0].numeric.relative_tolerance: must be a number of 0 or more");
    }
}

static void test_latency(void **state)
{
    Forge__V1__LatencyEvaluator config = FORGE__V1__LATENCY_EVALUATOR__INIT;
    const Forge__V1__Evaluator evaluator = EVALUATOR(LATENCY, latency, &config);
    assert_string_equal(refusal(&evaluator), "evaluators[0].latency.latency_max_ms: must be 1 or more");
    config.latency_max_ms = 250;
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.has_latency = true, .latency_us = 250000}) == 1);
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.has_latency = true, .latency_us = 250001}) == 0);
    assert_string_equal(explanation, "250001 of at most 250000 microseconds");
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.latency_us = 1}) == 0);
    assert_string_equal(explanation, "not given");
    config.latency_max_ms = INT64_MAX;
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.has_latency = true, .latency_us = INT64_MAX}) == 1);
}

static void test_cost(void **state)
{
    Forge__V1__CostEvaluator config = FORGE__V1__COST_EVALUATOR__INIT;
    const Forge__V1__Evaluator evaluator = EVALUATOR(COST, cost, &config);
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.has_cost = true, .cost_micros = 0}) == 1);
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.has_cost = true, .cost_micros = 1}) == 0);
    assert_true(judge_subject(&evaluator, &(struct evaluate_subject){.cost_micros = 0}) == 0);
    config.cost_max_micros = -1;
    assert_string_equal(refusal(&evaluator), "evaluators[0].cost.cost_max_micros: must be 0 or more");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_number), cmocka_unit_test(test_locale_does_not_matter), cmocka_unit_test(test_tolerance),
        cmocka_unit_test(test_no_number),    cmocka_unit_test(test_negative_tolerances),    cmocka_unit_test(test_latency),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
