/* Codes, their names, and texts that do not fit. */
#include "wire/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_code_name_roundtrip(void **state)
{
    for (int code = FORGE_OK; code <= FORGE_UNAUTHENTICATED; code++) {
        bool found = false;
        assert_int_equal(forge_code_parse(forge_code_name((forge_code)code), &found), code);
        assert_true(found);
    }
    assert_string_equal(forge_code_name(FORGE_INVALID_ARGUMENT), "INVALID_ARGUMENT");
    assert_string_equal(forge_code_name(FORGE_UNAUTHENTICATED), "UNAUTHENTICATED");
}

static void test_code_name_unknown(void **state)
{
    bool found = true;
    assert_string_equal(forge_code_name((forge_code)99), "UNKNOWN");
    assert_int_equal(forge_code_parse("not_found", &found), FORGE_UNKNOWN);
    assert_false(found);
    assert_int_equal(forge_code_parse("UNKNOWN", &found), FORGE_UNKNOWN);
    assert_true(found);
}

static void test_error_set_keeps_other_fields(void **state)
{
    struct forge_error error = {.retry_after_ms = 50, .not_executed = true};
    assert_int_equal(forge_error_set(&error, FORGE_NOT_FOUND, "prompt %d not found", 7), FORGE_NOT_FOUND);
    assert_int_equal(error.code, FORGE_NOT_FOUND);
    assert_string_equal(error.message, "prompt 7 not found");
    assert_int_equal(error.retry_after_ms, 50);
    assert_true(error.not_executed);
    assert_int_equal(forge_error_set(NULL, FORGE_ABORTED, "nobody reads this"), FORGE_ABORTED);
}

static void test_error_set_wraps_its_own_message(void **state)
{
    struct forge_error error = {0};
    forge_error_set(&error, FORGE_UNAVAILABLE, "connection refused");
    forge_error_set(&error, error.code, "database: %s", error.message);
    assert_string_equal(error.message, "database: connection refused");
}

/* Fills the message up to the limit with sequences of each length at each offset: the cut must never leave half a sequence. */
static void test_error_set_cuts_on_character_boundary(void **state)
{
    static const char *const sequences[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t s = 0; s < 4; s++) {
        for (size_t offset = 0; offset < 4; offset++) {
            size_t length = strlen(sequences[s]), used = offset;
            char text[2 * FORGE_ERROR_MESSAGE_MAX] = "abc";
            while (used + length < sizeof text) {
                memcpy(text + used, sequences[s], length);
                used += length;
            }
            text[used] = '\0';
            struct forge_error error = {0};
            forge_error_set(&error, FORGE_INTERNAL, "%s", text);
            size_t kept = strlen(error.message);
            assert_true(kept > FORGE_ERROR_MESSAGE_MAX - 1 - 4 && kept < FORGE_ERROR_MESSAGE_MAX);
            assert_int_equal((kept - offset) % length, 0);
            assert_memory_equal(error.message, text, kept);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code_name_roundtrip),
        cmocka_unit_test(test_code_name_unknown),
        cmocka_unit_test(test_error_set_keeps_other_fields),
        cmocka_unit_test(test_error_set_wraps_its_own_message),
        cmocka_unit_test(test_error_set_cuts_on_character_boundary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
