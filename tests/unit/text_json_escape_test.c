/* server/text/json_escape: texts without the escapes of JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/json_escape.h"

/* NULL: there is nothing to change. */
static void expect(const char *text, const char *expected)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    const char *found = text_without_escapes(&arena, text);
    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found, expected);
    forge_arena_done(&arena);
}

static void test_escapes_become_what_they_mean(void **state)
{
    (void)state;
    expect("a\\nb\\tc\\r\\b\\f\\\"\\\\\\/", "a\nb\tc\r\b\f\"\\/");
    expect("\\u0041\\u00fc\\u20ac\\u20AC", "A\u00fc\u20ac\u20ac");
    expect("\\ud83d\\ude00!", "\U0001F600!");
    expect("\u00fc {\"a\":\"\\u00fc\"}", "\u00fc {\"a\":\"\u00fc\"}");
    expect("\\\\u00fc", "\\u00fc"); /* one level at a time */
}

static void test_what_is_no_escape_stays(void **state)
{
    (void)state;
    expect("", NULL);
    expect("no escape", NULL);
    expect("at the end \\", NULL);
    expect("\\x \\q \\1", NULL);
    expect("\\u \\u1 \\u12 \\u123 \\u123g \\uuuuu", NULL);
    expect("\\u0000", NULL); /* no text of ours holds it */
    expect("\\ud83d", NULL); /* half a pair */
    expect("\\ude00", NULL); /* the other half */
    expect("\\ud83d\\u0041", "\\ud83dA");
    expect("\\ud83d\\ud83d", NULL);
    expect("\\q\\n", "\\q\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escapes_become_what_they_mean),
        cmocka_unit_test(test_what_is_no_escape_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
