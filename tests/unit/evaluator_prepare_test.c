/* What evaluators have in common: what is refused and where, names, weights, thresholds, and the result's score. */
#include "evaluator_test_support.h"

#include <math.h>
#include <stdlib.h>

static Forge__V1__ExactEvaluator exact_config = FORGE__V1__EXACT_EVALUATOR__INIT;
static Forge__V1__JsonValidEvaluator json_valid_config = FORGE__V1__JSON_VALID_EVALUATOR__INIT;
static Forge__V1__ExternalEvaluator external_config = FORGE__V1__EXTERNAL_EVALUATOR__INIT;

static Forge__V1__Evaluator exact(const char *name, double weight, double threshold, bool required)
{
    Forge__V1__Evaluator evaluator = EVALUATOR(EXACT, exact, &exact_config);
    evaluator.name = (char *)(uintptr_t)name;
    evaluator.weight = weight;
    evaluator.threshold = threshold;
    evaluator.required = required;
    return evaluator;
}

static void test_weight_and_threshold(void **state)
{
    const double weights[] = {-1, 1000.5, NAN, INFINITY}, thresholds[] = {-0.1, 1.1, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        Forge__V1__Evaluator evaluator = exact("", weights[i], 0, false);
        assert_string_equal(refusal(&evaluator), "evaluators[0].weight: must be over 0 and at most 1000, or 0 for 1");
        evaluator = exact("", 1000, thresholds[i], false);
        assert_string_equal(refusal(&evaluator), "evaluators[0].threshold: must be over 0 and at most 1, or 0 for 1");
    }
}

static void test_config_and_limits(void **state)
{
    Forge__V1__Evaluator evaluator = FORGE__V1__EVALUATOR__INIT;
    evaluator.name = (char *)(uintptr_t) "x";
    assert_string_equal(refusal(&evaluator), "evaluators[0]: needs a config, such as exact");

    Forge__V1__ContainsEvaluator contains = FORGE__V1__CONTAINS_EVALUATOR__INIT;
    char *values[65], long_value[2 * 4097 + 1];
    for (size_t i = 0; i < 65; i++)
        values[i] = (char *)(uintptr_t) "a";
    contains.values = values;
    contains.n_values = 65;
    evaluator = (Forge__V1__Evaluator)EVALUATOR(CONTAINS, contains, &contains);
    assert_string_equal(refusal(&evaluator), "evaluators[0].contains.values: must be at most 64 texts");
    contains.n_values = 64;
    values[63] = (char *)(uintptr_t) "";
    assert_string_equal(refusal(&evaluator), "evaluators[0].contains.values[63]: must be 1 to 4096 characters");
    for (size_t i = 0; i < 4097; i++)
        memcpy(long_value + 2 * i, "\u00E9", 2);
    long_value[2 * 4097] = '\0';
    values[63] = long_value;
    assert_string_equal(refusal(&evaluator), "evaluators[0].contains.values[63]: must be 1 to 4096 characters");
    long_value[2 * 4096] = '\0';
    assert_true(judge(&evaluator, "a", NULL) == 63.0 / 64);

    char description[1026];
    memset(description, 'x', 1025);
    description[1025] = '\0';
    Forge__V1__ExternalEvaluator external = external_config;
    external.description = description;
    evaluator = (Forge__V1__Evaluator)EVALUATOR(EXTERNAL, external, &external);
    assert_string_equal(refusal(&evaluator), "evaluators[0].external.description: must be at most 1024 characters");
}

/* Several evaluators at once: every fault is named. */
static void test_names(void **state)
{
    struct forge_arena arena;
    struct forge_error error = {0};
    struct evaluate_set *set;
    char long_name[66];
    memset(long_name, 'n', 65);
    long_name[65] = '\0';
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    Forge__V1__Evaluator list[] = {exact("", 0, 0, false), exact("Upper", 0, 0, false), exact("a b", 0, 0, false),
                                   exact(long_name, 0, 0, false), exact("exact", 0, 0, false)};
    const Forge__V1__Evaluator *pointers[33];
    for (size_t i = 0; i < 33; i++)
        pointers[i] = &list[i % 5];
    assert_int_equal(evaluate_prepare(pointers, 5, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_int_equal(error.violation_count, 4);
    const struct forge_violation *violation = error.violations;
    assert_string_equal(violation->field, "evaluators[1].name");
    assert_string_equal(violation->description, "must be 1 to 64 of a-z, 0-9, _, . and -");
    while (violation->next != NULL)
        violation = violation->next;
    assert_string_equal(violation->field, "evaluators[4].name");
    assert_string_equal(violation->description, "\"exact\" is the name of evaluators[0] too");

    error = (struct forge_error){0};
    assert_int_equal(evaluate_prepare(pointers, 33, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.violations->field, "evaluators");
    error = (struct forge_error){0};
    assert_int_equal(evaluate_prepare(pointers, 0, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.violations->description, "must be 1 to 32");

    const Forge__V1__Evaluator json = EVALUATOR(JSON_VALID, json_valid, &json_valid_config);
    const Forge__V1__Evaluator external = EVALUATOR(EXTERNAL, external, &external_config);
    const Forge__V1__Evaluator named = exact("exact_2.b-c", 0, 0, false);
    const Forge__V1__Evaluator *good[] = {&list[0], &json, &external, &named};
    assert_int_equal(evaluate_prepare(good, 4, &arena, &error, &set), FORGE_OK);
    assert_int_equal(evaluate_count(set), 4);
    assert_string_equal(evaluate_name(set, 0), "exact");
    assert_string_equal(evaluate_name(set, 1), "json_valid");
    assert_string_equal(evaluate_name(set, 2), "external");
    assert_string_equal(evaluate_name(set, 3), "exact_2.b-c");
    assert_false(evaluate_is_external(set, 1));
    assert_true(evaluate_is_external(set, 2));
    evaluate_set_free(set);
    evaluate_set_free(NULL);
    forge_arena_done(&arena);
}

static struct evaluate_total total_of(const Forge__V1__Evaluator *list, const double *scores, size_t count, double pass_threshold)
{
    struct forge_arena arena;
    struct forge_error error = {0};
    struct evaluate_set *set;
    const Forge__V1__Evaluator *pointers[8];
    struct evaluate_score judged[8] = {0};
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    for (size_t i = 0; i < count; i++)
        pointers[i] = &list[i];
    assert_int_equal(evaluate_prepare(pointers, count, &arena, &error, &set), FORGE_OK);
    for (size_t i = 0; i < count; i++)
        judged[i] = (struct evaluate_score){.score = scores[i], .passed = evaluate_external_passes(set, i, scores[i])};
    struct evaluate_total total = evaluate_total(set, judged, pass_threshold);
    evaluate_set_free(set);
    forge_arena_done(&arena);
    return total;
}

static void test_total(void **state)
{
    const Forge__V1__Evaluator list[] = {exact("a", 3, 0.5, false), exact("b", 0, 0, true), exact("c", 0, 0, false)};
    struct evaluate_total total = total_of(list, (double[]){0.5, 1, 0}, 3, 0.5);
    assert_true(total.score == 0.5); /* (3 * 0.5 + 1 + 0) / 5 */
    assert_true(total.passed);
    assert_false(total_of(list, (double[]){0.5, 1, 0}, 3, 0.51).passed);
    total = total_of(list, (double[]){1, 0.9, 1}, 3, 0.5); /* b is required and fails at its threshold of 1 */
    assert_true(total.score > 0.97);
    assert_false(total.passed);
    assert_true(total_of(list, (double[]){1, 1, 1}, 3, 1).passed);
    assert_true(total_of(list, (double[]){0, 1, 0}, 3, 0).passed);
    for (int tenths = 1; tenths <= 10; tenths++) { /* the mean of equal scores is that score, not a rounding below */
        double score = tenths / 10.0;
        total = total_of(list, (double[]){score, score, score}, 3, score);
        assert_true(total.score == score);
    }
}

/* What does not fit into the arena is no crash and no score. */
static void test_no_memory(void **state)
{
    struct forge_arena arena;
    struct forge_error error = {0};
    struct evaluate_set *set;
    struct evaluate_score score = {.score = 0.5};
    const Forge__V1__Evaluator evaluator = exact("", 0, 0, false), *pointer = &evaluator;
    forge_arena_init(&arena, 1, NULL);
    assert_int_equal(evaluate_prepare(&pointer, 1, &arena, &error, &set), FORGE_OK);
    assert_int_equal(evaluate_output(set, 0, &(struct evaluate_subject){.output = "a"}, &arena, &score), FORGE_RESOURCE_EXHAUSTED);
    assert_true(score.score == 0.5);
    evaluate_set_free(set);
    forge_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weight_and_threshold),
        cmocka_unit_test(test_config_and_limits),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_total),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
