#include "auth/password.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_password_round_trip(void **state)
{
    char hash[AUTH_PASSWORD_HASH_SIZE], other[AUTH_PASSWORD_HASH_SIZE];
    struct forge_error error = {0};
    bool matches = false;
    assert_int_equal(auth_password_hash("correct horse battery", hash, &error), FORGE_OK);
    assert_memory_equal(hash, "$argon2id$v=19$m=19456,t=2,p=1$", 31);
    assert_int_equal(auth_password_verify("correct horse battery", hash, &matches, &error), FORGE_OK);
    assert_true(matches);
    assert_int_equal(auth_password_verify("correct horse batterz", hash, &matches, &error), FORGE_OK);
    assert_false(matches);
    assert_int_equal(auth_password_hash("correct horse battery", other, &error), FORGE_OK);
    assert_string_not_equal(hash, other); /* salted */
}

static void test_password_of_nobody_never_matches(void **state)
{
    struct forge_error error = {0};
    bool matches = true;
    assert_int_equal(auth_password_verify("", NULL, &matches, &error), FORGE_OK);
    assert_false(matches);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static uint64_t median_ns(const char *hash)
{
    uint64_t times[9];
    struct forge_error error = {0};
    for (size_t i = 0; i < 9; i++) {
        bool matches;
        uint64_t begin_ns = forge_clock_monotonic_ns();
        assert_int_equal(auth_password_verify("guess", hash, &matches, &error), FORGE_OK);
        times[i] = forge_clock_monotonic_ns() - begin_ns;
    }
    qsort(times, 9, sizeof times[0], compare);
    return times[4];
}

/* The work is the same by construction; a factor of two would show a look-up that skips the hash (which is 1000x). */
static void test_password_unknown_user_takes_as_long(void **state)
{
    char hash[AUTH_PASSWORD_HASH_SIZE];
    struct forge_error error = {0};
    assert_int_equal(auth_password_hash("a password of someone", hash, &error), FORGE_OK);
    uint64_t known_ns = median_ns(hash), unknown_ns = median_ns(NULL);
    printf("known user %.1f ms, unknown user %.1f ms\n", (double)known_ns / 1e6, (double)unknown_ns / 1e6);
    assert_in_range(unknown_ns, known_ns / 4, known_ns * 4);
}

static void test_password_damaged_hash(void **state)
{
    struct forge_error error = {0};
    bool matches = true;
    assert_int_equal(auth_password_verify("x", "$argon2id$damaged", &matches, &error), FORGE_INTERNAL);
    assert_true(matches);
    assert_non_null(strstr(error.message, "stored password hash is damaged"));
}

static void test_password_lengths(void **state)
{
    char text[AUTH_PASSWORD_MAX + 2];
    memset(text, 'x', sizeof text);
    text[AUTH_PASSWORD_MAX + 1] = '\0';
    assert_string_equal(auth_password_problem(text, false), "must be 12 to 128 bytes");
    assert_string_equal(auth_password_problem(text, true), "must be 1 to 128 bytes");
    text[AUTH_PASSWORD_MAX] = '\0';
    assert_null(auth_password_problem(text, false));
    assert_null(auth_password_problem("123456789012", false));
    assert_string_equal(auth_password_problem("12345678901", false), "must be 12 to 128 bytes");
    assert_null(auth_password_problem("dev123", true));
    assert_string_equal(auth_password_problem("", true), "must be 1 to 128 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_password_round_trip),
        cmocka_unit_test(test_password_of_nobody_never_matches),
        cmocka_unit_test(test_password_unknown_user_takes_as_long),
        cmocka_unit_test(test_password_damaged_hash),
        cmocka_unit_test(test_password_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
