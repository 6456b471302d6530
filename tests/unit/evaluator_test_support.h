/* What the tests of evaluators share: one evaluator is prepared and judges once. */
#ifndef TESTS_UNIT_EVALUATOR_TEST_SUPPORT_H
#define TESTS_UNIT_EVALUATOR_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "evaluate/evaluate.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define EVALUATOR(kind_case, field, ...)                                                                                                   \
    {                                                                                                                                      \
        .base = PROTOBUF_C_MESSAGE_INIT(&forge__v1__evaluator__descriptor), .name = (char *)(uintptr_t) "",                                \
        .config_case = FORGE__V1__EVALUATOR__CONFIG_##kind_case, .field = (__VA_ARGS__)                                                    \
    }

enum { ARENA_BYTES = 1 << 20 };

/* What the last call of judge() explained; valid until the next one. */
static char explanation[4097];

static double judge_subject(const Forge__V1__Evaluator *evaluator, const struct evaluate_subject *subject)
{
    struct forge_arena arena;
    struct forge_error error = {0};
    struct evaluate_set *set;
    struct evaluate_score score = {0};
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    forge_code code = evaluate_prepare(&evaluator, 1, &arena, &error, &set);
    if (code != FORGE_OK && error.violations != NULL)
        print_error("%s: %s\n", error.violations->field, error.violations->description);
    assert_int_equal(code, FORGE_OK);
    assert_int_equal(evaluate_output(set, 0, subject, &arena, &score), FORGE_OK);
    assert_int_equal(score.passed, score.score >= (evaluator->threshold > 0 ? evaluator->threshold : 1));
    snprintf(explanation, sizeof explanation, "%s", score.explanation);
    evaluate_set_free(set);
    forge_arena_done(&arena);
    return score.score;
}

static inline double judge(const Forge__V1__Evaluator *evaluator, const char *output, const char *expected)
{
    return judge_subject(evaluator, &(struct evaluate_subject){.output = output, .expected = expected});
}

/* The only violation of an evaluator: "field: description". */
static inline const char *refusal(const Forge__V1__Evaluator *evaluator)
{
    static char said[1024];
    struct forge_arena arena;
    struct forge_error error = {0};
    struct evaluate_set *set;
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    assert_int_equal(evaluate_prepare(&evaluator, 1, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_null(set);
    assert_int_equal(error.violation_count, 1);
    snprintf(said, sizeof said, "%s: %s", error.violations->field, error.violations->description);
    forge_arena_done(&arena);
    return said;
}

static inline double thread_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
