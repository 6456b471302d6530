/* The table of retries of the wire protocol, row by row, and the budget. */
#include "retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { NO = 0, YES = 1 };

/* One row: what the client saw, and what follows. */
struct row {
    const char *what;
    struct forge__attempt saw;
    int retry, costs_token, needs_budget, backs_off;
};

#define ANSWER(...)                                                                                                                        \
    {                                                                                                                                      \
        .end = FORGE__ATTEMPT_ANSWERED, __VA_ARGS__                                                                                        \
    }

static const struct row rows[] = {
    {"never handed to the link", {.end = FORGE__ATTEMPT_NOT_SENT}, YES, NO, NO, NO},
    {"never handed to the link, not repeatable", {.end = FORGE__ATTEMPT_NOT_SENT, .is_repeatable = false}, YES, NO, NO, NO},
    {"link lost, repeatable", {.end = FORGE__ATTEMPT_LINK_LOST, .is_repeatable = true}, YES, NO, YES, YES},
    {"link lost, not repeatable", {.end = FORGE__ATTEMPT_LINK_LOST, .is_repeatable = false}, NO, NO, YES, YES},
    {"refused with goaway", ANSWER(.code = FORGE_UNAVAILABLE, .not_executed = true, .goaway = true), YES, NO, NO, NO},
    {"refused with goaway and a full queue",
     ANSWER(.code = FORGE_RESOURCE_EXHAUSTED, .retry_after_ms = 50, .not_executed = true, .goaway = true), YES, NO, NO, NO},
    {"goaway, but it may have run", ANSWER(.code = FORGE_UNAVAILABLE, .goaway = true, .is_repeatable = false), NO, YES, YES, YES},
    {"its own duplicate in progress", ANSWER(.code = FORGE_UNAVAILABLE, .retry_after_ms = 50, .not_executed = true, .duplicate = true), YES,
     NO, NO, YES},
    {"unavailable, not executed", ANSWER(.code = FORGE_UNAVAILABLE, .not_executed = true), YES, YES, YES, YES},
    {"unavailable, repeatable", ANSWER(.code = FORGE_UNAVAILABLE, .is_repeatable = true), YES, YES, YES, YES},
    {"unavailable, may have run, not repeatable", ANSWER(.code = FORGE_UNAVAILABLE), NO, YES, YES, YES},
    {"full queue", ANSWER(.code = FORGE_RESOURCE_EXHAUSTED, .retry_after_ms = 50, .not_executed = true), YES, YES, YES, YES},
    {"full queue, repeatable", ANSWER(.code = FORGE_RESOURCE_EXHAUSTED, .retry_after_ms = 50, .is_repeatable = true), YES, YES, YES, YES},
    {"a limit without retry_after", ANSWER(.code = FORGE_RESOURCE_EXHAUSTED, .not_executed = true, .is_repeatable = true), NO, NO, NO, NO},
};

static void test_retry_table(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct forge__retry_verdict verdict = forge__retry_judge(&rows[i].saw);
        if (verdict.retry != rows[i].retry || verdict.costs_token != rows[i].costs_token)
            fail_msg("%s: retry %d, costs %d", rows[i].what, verdict.retry, verdict.costs_token);
        if (rows[i].retry && (verdict.needs_budget != rows[i].needs_budget || verdict.backs_off != rows[i].backs_off))
            fail_msg("%s: needs budget %d, backs off %d", rows[i].what, verdict.needs_budget, verdict.backs_off);
    }
}

static void test_retry_no_other_code_even_when_not_executed(void **state)
{
    for (int code = FORGE_CANCELLED; code <= FORGE_UNAUTHENTICATED; code++) {
        if (code == FORGE_UNAVAILABLE || code == FORGE_RESOURCE_EXHAUSTED)
            continue;
        const struct forge__attempt saw = {.end = FORGE__ATTEMPT_ANSWERED,
                                           .code = (forge_code)code,
                                           .retry_after_ms = 50,
                                           .not_executed = true,
                                           .goaway = true,
                                           .is_repeatable = true};
        struct forge__retry_verdict verdict = forge__retry_judge(&saw);
        assert_false(verdict.retry);
        assert_false(verdict.costs_token);
    }
}

static void test_retry_budget_stops_at_five_tokens(void **state)
{
    struct forge__retry_budget budget;
    forge__retry_budget_init(&budget);
    for (int charged = 0; charged < 5; charged++) {
        assert_true(forge__retry_budget_has_tokens(&budget));
        forge__retry_budget_charge(&budget);
    }
    assert_false(forge__retry_budget_has_tokens(&budget)); /* 5 left */
    forge__retry_budget_success(&budget);
    assert_true(forge__retry_budget_has_tokens(&budget)); /* 5.1 */
}

static void test_retry_budget_has_a_floor_and_a_ceiling(void **state)
{
    struct forge__retry_budget budget;
    forge__retry_budget_init(&budget);
    for (int i = 0; i < 20; i++)
        forge__retry_budget_success(&budget);
    for (int i = 0; i < 5; i++)
        forge__retry_budget_charge(&budget);
    assert_false(forge__retry_budget_has_tokens(&budget)); /* successes did not add to the ten */
    for (int i = 0; i < 20; i++)
        forge__retry_budget_charge(&budget);
    for (int i = 0; i < 50; i++)
        forge__retry_budget_success(&budget);
    assert_false(forge__retry_budget_has_tokens(&budget)); /* 0 + 50 x 0.1 */
    forge__retry_budget_success(&budget);
    assert_true(forge__retry_budget_has_tokens(&budget));
}

static void test_retry_delay_grows_with_jitter(void **state)
{
    assert_int_equal(forge__retry_delay_ms(1, 0, 0), 40);
    assert_int_equal(forge__retry_delay_ms(1, 0, UINT32_MAX), 59);
    assert_int_equal(forge__retry_delay_ms(2, 0, 0), 64);
    assert_int_equal(forge__retry_delay_ms(3, 0, 0), 102);
    assert_int_equal(forge__retry_delay_ms(100, 0, 0), 1600);
    assert_in_range(forge__retry_delay_ms(100, 0, UINT32_MAX), 2000, 2400);
}

static void test_retry_delay_is_never_shorter_than_asked(void **state)
{
    assert_int_equal(forge__retry_delay_ms(1, 250, 0), 250);
    assert_in_range(forge__retry_delay_ms(7, 250, UINT32_MAX), 250, 300);
    assert_int_equal(forge__retry_delay_ms(1, 50, 0), 50);
}

static void test_dial_delay_is_one_to_thirty_seconds(void **state)
{
    assert_int_equal(forge__dial_delay_ms(1, 0), 800);
    assert_in_range(forge__dial_delay_ms(1, UINT32_MAX), 1100, 1200);
    assert_int_equal(forge__dial_delay_ms(2, 0), 1280);
    assert_int_equal(forge__dial_delay_ms(50, 0), 24000);
    assert_in_range(forge__dial_delay_ms(50, UINT32_MAX), 30000, 36000);
}

static void test_login_and_logout_are_not_repeatable(void **state)
{
    const struct forge_method login = {.name = "forge.v1.OrganizationService/Login"};
    const struct forge_method logout = {.name = "forge.v1.OrganizationService/Logout"};
    const struct forge_method ingest = {.name = "forge.v1.TraceService/IngestSpans", .writes = true};
    const struct forge_method get = {.name = "forge.v1.PromptService/GetPrompt"};
    assert_false(forge__method_is_repeatable(&login));
    assert_false(forge__method_is_repeatable(&logout));
    assert_true(forge__method_is_repeatable(&ingest));
    assert_true(forge__method_is_repeatable(&get));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retry_table),
        cmocka_unit_test(test_retry_no_other_code_even_when_not_executed),
        cmocka_unit_test(test_retry_budget_stops_at_five_tokens),
        cmocka_unit_test(test_retry_budget_has_a_floor_and_a_ceiling),
        cmocka_unit_test(test_retry_delay_grows_with_jitter),
        cmocka_unit_test(test_retry_delay_is_never_shorter_than_asked),
        cmocka_unit_test(test_dial_delay_is_one_to_thirty_seconds),
        cmocka_unit_test(test_login_and_logout_are_not_repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
