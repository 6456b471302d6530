/* Address lists as users write them. */
#include "address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *text, size_t index, const char *host, uint16_t port, bool is_literal)
{
    struct forge__address_list list;
    struct forge_error error = {.code = FORGE_OK};
    assert_int_equal(forge__address_list_parse(text, &list, &error), FORGE_OK);
    assert_true(index < list.count);
    assert_string_equal(list.items[index].host, host);
    assert_int_equal(list.items[index].port, port);
    assert_int_equal(list.items[index].is_literal, is_literal);
}

static void test_address_forms(void **state)
{
    expect("forge.example.com", 0, "forge.example.com", 7443, false);
    expect("forge.example.com:1", 0, "forge.example.com", 1, false);
    expect("127.0.0.1:65535", 0, "127.0.0.1", 65535, true);
    expect("[::1]", 0, "::1", 7443, true);
    expect("[2001:db8::1]:80", 0, "2001:db8::1", 80, true);
    expect("[fe80::1%eth0]:80", 0, "fe80::1%eth0", 80, true);
    expect("a:1, b:2 ,127.0.0.1", 1, "b", 2, false);
    expect("a:1, b:2 ,127.0.0.1", 2, "127.0.0.1", 7443, true);
}

static void test_address_list_knows_whether_names_need_a_look_up(void **state)
{
    struct forge__address_list list;
    struct forge_error error = {.code = FORGE_OK};
    assert_int_equal(forge__address_list_parse("127.0.0.1,[::1]:5", &list, &error), FORGE_OK);
    assert_false(list.has_names);
    assert_int_equal(forge__address_list_parse("127.0.0.1,localhost", &list, &error), FORGE_OK);
    assert_true(list.has_names);
}

static void test_address_refuses_malformed_entries(void **state)
{
    static const char *const wrong[] = {"a:",    "a:0", "a:65536", "a:-1",   "a:1x",   ":7443",    ",",   "a,,b",
                                        "a,",    "::1", "[::1",    "[]",     "[::1]x", "[name]:1", "a b", "ftp://a",
                                        "a:1:2", " ",   "[::1]:",  "a/path", "a:+1",   "a@b:443",  "a: 1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct forge__address_list list = {.count = 77};
        struct forge_error error = {.code = FORGE_OK};
        if (forge__address_list_parse(wrong[i], &list, &error) != FORGE_INVALID_ARGUMENT)
            fail_msg("\"%s\" was accepted", wrong[i]);
        assert_non_null(strstr(error.message, "addresses: entry"));
        assert_int_equal(list.count, 77);
    }
}

static void test_address_refuses_nothing(void **state)
{
    struct forge__address_list list;
    struct forge_error error = {.code = FORGE_OK};
    assert_int_equal(forge__address_list_parse(NULL, &list, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge__address_list_parse("", &list, &error), FORGE_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "at least one server"));
}

static void test_address_limits(void **state)
{
    char text[8192] = "";
    struct forge__address_list list;
    struct forge_error error = {.code = FORGE_OK};
    for (int i = 0; i < FORGE__ADDRESSES_MAX; i++)
        strcat(text, i ? ",a" : "a");
    assert_int_equal(forge__address_list_parse(text, &list, &error), FORGE_OK);
    assert_int_equal(list.count, FORGE__ADDRESSES_MAX);
    strcat(text, ",a");
    assert_int_equal(forge__address_list_parse(text, &list, &error), FORGE_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "more than 32 entries"));
    memset(text, 'a', FORGE__HOST_MAX - 1);
    text[FORGE__HOST_MAX - 1] = '\0';
    assert_int_equal(forge__address_list_parse(text, &list, &error), FORGE_OK);
    memset(text, 'a', FORGE__HOST_MAX);
    text[FORGE__HOST_MAX] = '\0';
    assert_int_equal(forge__address_list_parse(text, &list, &error), FORGE_INVALID_ARGUMENT);
}

static void test_endpoint_list_keeps_each_once(void **state)
{
    struct forge__endpoint_list list = {.count = 0};
    assert_true(forge__endpoint_list_add(&list, "127.0.0.1", 1, "a"));
    assert_true(forge__endpoint_list_add(&list, "127.0.0.1", 1, "a"));
    assert_int_equal(list.count, 1);
    assert_true(forge__endpoint_list_add(&list, "127.0.0.1", 1, "b"));
    assert_true(forge__endpoint_list_add(&list, "127.0.0.1", 2, "a"));
    assert_int_equal(list.count, 3);
    for (int port = 10; list.count < FORGE__ENDPOINTS_MAX; port++)
        assert_true(forge__endpoint_list_add(&list, "127.0.0.1", (uint16_t)port, "a"));
    assert_false(forge__endpoint_list_add(&list, "127.0.0.1", 9, "a"));
    assert_int_equal(list.count, FORGE__ENDPOINTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_forms),
        cmocka_unit_test(test_address_list_knows_whether_names_need_a_look_up),
        cmocka_unit_test(test_address_refuses_malformed_entries),
        cmocka_unit_test(test_address_refuses_nothing),
        cmocka_unit_test(test_address_limits),
        cmocka_unit_test(test_endpoint_list_keeps_each_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
