#include "auth/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const enum auth_token_kind kinds[] = {AUTH_TOKEN_API_KEY, AUTH_TOKEN_SESSION, AUTH_TOKEN_OPERATOR};
static const char *const prefixes[] = {"pfk_", "pfs_", "pfo_"};

static struct forge_uuid organization_of(enum auth_token_kind kind)
{
    struct forge_uuid id = {{0}};
    if (kind != AUTH_TOKEN_OPERATOR)
        forge_uuid_v7(&id);
    return id;
}

static void test_token_round_trip(void **state)
{
    for (size_t i = 0; i < 3; i++) {
        for (int repeat = 0; repeat < 200; repeat++) {
            char text[AUTH_TOKEN_SIZE];
            enum auth_token_kind kind;
            struct forge_uuid organization_id = organization_of(kinds[i]), read;
            auth_token_make(kinds[i], &organization_id, text);
            assert_int_equal(strlen(text), AUTH_TOKEN_LENGTH);
            assert_memory_equal(text, prefixes[i], 4);
            assert_int_equal(strspn(text + 4, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"), AUTH_TOKEN_LENGTH - 4);
            assert_true(auth_token_parse(text, &kind, &read));
            assert_int_equal(kind, kinds[i]);
            assert_true(forge_uuid_equal(&read, &organization_id));
        }
    }
}

static void test_token_extreme_organizations(void **state)
{
    struct forge_uuid all_ones, read;
    enum auth_token_kind kind;
    char text[AUTH_TOKEN_SIZE];
    memset(all_ones.bytes, 0xFF, sizeof all_ones.bytes);
    auth_token_make(AUTH_TOKEN_API_KEY, &all_ones, text);
    assert_true(auth_token_parse(text, &kind, &read));
    assert_true(forge_uuid_equal(&read, &all_ones));
    struct forge_uuid one = {{[15] = 1}};
    auth_token_make(AUTH_TOKEN_SESSION, &one, text);
    assert_memory_equal(text, "pfs_0000000000000000000001", 26);
    assert_true(auth_token_parse(text, &kind, &read));
    assert_true(forge_uuid_equal(&read, &one));
}

static void test_token_refuses_every_changed_character(void **state)
{
    char text[AUTH_TOKEN_SIZE];
    enum auth_token_kind kind;
    struct forge_uuid organization_id = organization_of(AUTH_TOKEN_API_KEY), read;
    auth_token_make(AUTH_TOKEN_API_KEY, &organization_id, text);
    for (size_t i = 0; i < AUTH_TOKEN_LENGTH; i++) {
        char kept = text[i];
        for (int change = 1; change < 128; change += 13) {
            text[i] = (char)(kept ^ change);
            assert_false(auth_token_parse(text, &kind, &read));
        }
        text[i] = kept;
    }
    assert_true(auth_token_parse(text, &kind, &read));
}

static void test_token_refuses_other_text(void **state)
{
    static const char *const wrong[] = {"",
                                        "pfk_",
                                        "pfk",
                                        "Bearer pfk_",
                                        "pfx_0123456789012345678901",
                                        "\xff\xfe",
                                        "pfk_000000000000000000000000000000000000000000000000000000000000000000000000000000000000"};
    enum auth_token_kind kind = AUTH_TOKEN_SESSION;
    struct forge_uuid read = {{7}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(auth_token_parse(wrong[i], &kind, &read));
    assert_int_equal(kind, AUTH_TOKEN_SESSION);
    assert_int_equal(read.bytes[0], 7);
}

static void test_token_lengths_around_the_right_one(void **state)
{
    char text[AUTH_TOKEN_SIZE + 2];
    enum auth_token_kind kind;
    struct forge_uuid organization_id = organization_of(AUTH_TOKEN_SESSION), read;
    auth_token_make(AUTH_TOKEN_SESSION, &organization_id, text);
    text[AUTH_TOKEN_LENGTH] = '0';
    text[AUTH_TOKEN_LENGTH + 1] = '\0';
    assert_false(auth_token_parse(text, &kind, &read));
    text[AUTH_TOKEN_LENGTH - 1] = '\0';
    assert_false(auth_token_parse(text, &kind, &read));
}

/* Only operators are without an organization, and operators always are. */
static void test_token_kind_and_organization_agree(void **state)
{
    char text[AUTH_TOKEN_SIZE];
    enum auth_token_kind kind;
    struct forge_uuid nil = {{0}}, some, read;
    forge_uuid_v7(&some);
    auth_token_make(AUTH_TOKEN_API_KEY, &nil, text);
    assert_false(auth_token_parse(text, &kind, &read));
    auth_token_make(AUTH_TOKEN_OPERATOR, &some, text);
    assert_false(auth_token_parse(text, &kind, &read));
}

static void test_token_hash_is_of_the_whole_text(void **state)
{
    char text[AUTH_TOKEN_SIZE];
    uint8_t ours[FORGE_SHA256_SIZE], expected[FORGE_SHA256_SIZE];
    struct forge_uuid organization_id = organization_of(AUTH_TOKEN_API_KEY);
    auth_token_make(AUTH_TOKEN_API_KEY, &organization_id, text);
    auth_token_hash(text, ours);
    forge_sha256(text, AUTH_TOKEN_LENGTH, expected);
    assert_memory_equal(ours, expected, sizeof ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_round_trip),
        cmocka_unit_test(test_token_extreme_organizations),
        cmocka_unit_test(test_token_refuses_every_changed_character),
        cmocka_unit_test(test_token_refuses_other_text),
        cmocka_unit_test(test_token_lengths_around_the_right_one),
        cmocka_unit_test(test_token_kind_and_organization_agree),
        cmocka_unit_test(test_token_hash_is_of_the_whole_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
