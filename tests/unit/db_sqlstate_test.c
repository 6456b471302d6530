#include "db/sqlstate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static forge_code code_of(const char *sqlstate, uint32_t *out_retry_after_ms)
{
    struct forge_error error = {0};
    forge_code rc = db_sqlstate_to_error(sqlstate, &error);
    assert_int_equal(error.code, rc);
    assert_string_equal(error.sqlstate, sqlstate);
    assert_true(strlen(error.message) > 0);
    assert_false(error.not_executed); /* for rpc/write to say */
    *out_retry_after_ms = error.retry_after_ms;
    return rc;
}

static void test_sqlstate_codes(void **state)
{
    const struct {
        const char *sqlstate;
        forge_code code;
        uint32_t retry_after_ms;
    } cases[] = {
        {"23505", FORGE_ALREADY_EXISTS, 0},
        {"23503", FORGE_FAILED_PRECONDITION, 0},
        {"23514", FORGE_INVALID_ARGUMENT, 0},
        {"57014", FORGE_DEADLINE_EXCEEDED, 0},
        {"55P03", FORGE_UNAVAILABLE, 50},
        {"40001", FORGE_ABORTED, 0},
        {"40P01", FORGE_ABORTED, 0},
        {"53100", FORGE_RESOURCE_EXHAUSTED, 250},
        {"53300", FORGE_RESOURCE_EXHAUSTED, 250},
        {"08006", FORGE_UNAVAILABLE, 250},
        {"57P01", FORGE_UNAVAILABLE, 250},
        {"57P03", FORGE_UNAVAILABLE, 250},
        {"25006", FORGE_UNAVAILABLE, 250},
        {"0A000", FORGE_UNAVAILABLE, 50},
        {"25P03", FORGE_UNAVAILABLE, 250},
        {"42501", FORGE_INTERNAL, 0},
        {"42P01", FORGE_INTERNAL, 0},
        {"22P02", FORGE_INTERNAL, 0},
        {"XX000", FORGE_INTERNAL, 0},
        {"23502", FORGE_INTERNAL, 0},
        {"40003", FORGE_INTERNAL, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t retry_after_ms = 0;
        if (code_of(cases[i].sqlstate, &retry_after_ms) != cases[i].code || retry_after_ms != cases[i].retry_after_ms)
            fail_msg("%s", cases[i].sqlstate);
    }
}

static void test_sqlstate_that_ends_the_connection(void **state)
{
    const char *ends[] = {"08006", "57P01", "57P02", "57P03", "25006", "0A000", "26000", "25P03"};
    const char *stays[] = {"23505", "57014", "55P03", "40001", "53100", "42601", ""};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        assert_true(db_sqlstate_ends_connection(ends[i]));
    for (size_t i = 0; i < sizeof(stays) / sizeof(stays[0]); i++)
        assert_false(db_sqlstate_ends_connection(stays[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sqlstate_codes),
        cmocka_unit_test(test_sqlstate_that_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
