/* Evaluator regex, and patterns that were made to take for ever. */
#include "evaluator_test_support.h"

#include <stdlib.h>

static Forge__V1__RegexEvaluator config_of(const char *pattern, bool full_match, bool ignore_case)
{
    Forge__V1__RegexEvaluator config = FORGE__V1__REGEX_EVALUATOR__INIT;
    config.pattern = (char *)(uintptr_t)pattern;
    config.full_match = full_match;
    config.ignore_case = ignore_case;
    return config;
}

static double regex(const char *pattern, bool full_match, bool ignore_case, const char *output)
{
    Forge__V1__RegexEvaluator config = config_of(pattern, full_match, ignore_case);
    const Forge__V1__Evaluator evaluator = EVALUATOR(REGEX, regex, &config);
    return judge(&evaluator, output, NULL);
}

static const char *refused(const char *pattern)
{
    Forge__V1__RegexEvaluator config = config_of(pattern, false, false);
    const Forge__V1__Evaluator evaluator = EVALUATOR(REGEX, regex, &config);
    return refusal(&evaluator);
}

static void test_match(void **state)
{
    assert_true(regex("b+", false, false, "abbc") == 1);
    assert_string_equal(explanation, "");
    assert_true(regex("b+", true, false, "abbc") == 0);
    assert_string_equal(explanation, "the output has no match");
    assert_true(regex("a|abbc", true, false, "abbc") == 1); /* backtracks to the alternative that reaches the end */
    assert_true(regex("abbc", true, false, "abbc\n") == 0);
    assert_true(regex("^$", false, false, "") == 1);
    assert_true(regex("B", false, true, "abc") == 1);
    assert_true(regex("\u00C4RGER", false, true, "\u00E4rger") == 1);
    assert_true(regex("^.$", false, false, "\U0001F600") == 1);
    assert_true(regex("^\\w+$", false, false, "\u00E4rger") == 1);
    assert_true(regex("^(\\w+) \\1$", false, false, "so so") == 1);
    assert_true(regex("(?<!un)happy", false, false, "unhappy") == 0);
}

static void test_refusals(void **state)
{
    assert_string_equal(refused("a(b"), "evaluators[0].regex.pattern: missing closing parenthesis (at byte 3)");
    assert_string_equal(refused(""), "evaluators[0].regex.pattern: is required");
    assert_non_null(strstr(refused("\\C"), "\\C"));
    char pattern[4098];
    memset(pattern, 'a', 4097);
    pattern[4097] = '\0';
    assert_string_equal(refused(pattern), "evaluators[0].regex.pattern: must be at most 4096 bytes");
    pattern[4096] = '\0';
    assert_true(regex(pattern, false, false, "b") == 0);
}

static char *text_of(size_t size, char letter, const char *end)
{
    char *text = malloc(size + strlen(end) + 1);
    assert_non_null(text);
    memset(text, letter, size);
    memcpy(text + size, end, strlen(end) + 1);
    return text;
}

/* Each ends by a limit, in bounded time, and scores 0. */
static void test_bombs(void **state)
{
    static const char *const patterns[] = {
        "(a+)+$",
        "^(a|a)*$",
        "(a|aa)+$",
        "a*[bc]d",
        "^(.*?a){20}$",
        "^a*a*a*a*[bc]d",
        "(?=(a+))\\1+[bc]",
        "(a*)\\1[bc]d",
        "a{1,60000}[bc]d",
        "(?:a{30000}b|a)*c",
        "^(?:(a)|b)*\\1c",
        "(*NO_JIT)(a+)+$",
        "(*NO_JIT)(?:(?:a|aa)+)*c",
        "^((a)(?1)?)*$",
    };
    char *text = text_of((1 << 20) - 8, 'a', "!bx");
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        double before = thread_seconds();
        double score = regex(patterns[i], false, false, text);
        double took = thread_seconds() - before;
        print_message("%-26s %5.0f ms  %s\n", patterns[i], 1000 * took, explanation);
        assert_true(score == 0);
        assert_true(took < 10); /* unbounded, each would take minutes to ages; sanitizers are slow */
    }
    free(text);
    assert_true(regex("(a+)+$", false, false, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!") == 0);
    assert_non_null(strstr(explanation, "limit"));
}

/* What people write must not meet the limits on the longest output. */
static void test_long_outputs(void **state)
{
    static const char *const words = "It was the best of times, it was the worst of times, mail nobody@example to me. ";
    size_t size = (1 << 20) / strlen(words) * strlen(words);
    char *text = text_of(size, ' ', "someone@example.com\n");
    for (size_t at = 0; at < size; at += strlen(words))
        memcpy(text + at, words, strlen(words));
    static const char *const patterns[] = {"\\w+@\\w+\\.com", "(?i)SOMEONE", "(?s)best.*\\.com", "\\b(best|worst)\\b.*\\bcom\\b",
                                           "\\d+|\\.com$",    "^(?s).*com"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        double before = thread_seconds(), score = regex(patterns[i], false, false, text);
        print_message("%-30s %5.1f ms  %s\n", patterns[i], 1000 * (thread_seconds() - before), explanation);
        assert_true(i == 3 ? score >= 0 : score == 1);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_long_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
