/* What forgectl prints of a policy check: places in texts marked, on any terminal. */
#include "view.h"
#include "view_marks.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RED "\033[31m"
#define GREEN "\033[32m"
#define CYAN "\033[36m"
#define MARK_RED "\033[4;31m"
#define MARK_CYAN "\033[4;36m"
#define OFF "\033[0m"
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

enum { RANGES_MAX = 128, ARENA_BYTES = 16 << 20 };

static const struct terminal plain = {.has_blocks = true, .columns = 80}, coloured = {true, true, 80},
                             narrow = {.has_blocks = true, .columns = 40}, ascii = {.columns = 40};
static struct forge_arena arena;

static int set_up(void **state)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    return 0;
}

static int tear_down(void **state)
{
    forge_arena_done(&arena);
    return 0;
}

/* ---- marks ---- */

struct place {
    int64_t from, to;
};

static void expect_marks(const struct terminal *terminal, const char *text, const struct place *places, size_t count, const char *expected)
{
    Forge__V1__TextRange ranges[RANGES_MAX], *pointers[RANGES_MAX];
    char *printed;
    size_t size;
    FILE *out = open_memstream(&printed, &size);
    assert_non_null(out);
    assert_true(count <= RANGES_MAX);
    for (size_t i = 0; i < count; i++) {
        forge__v1__text_range__init(&ranges[i]);
        ranges[i].start_byte = places[i].from;
        ranges[i].end_byte = places[i].to;
        pointers[i] = &ranges[i];
    }
    view_marks(out, terminal, &arena, TERMINAL_MARK_BAD, text, pointers, count);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(printed, expected);
    free(printed);
}

#define EXPECT_MARKS(terminal, text, expected, ...)                                                                                        \
    do {                                                                                                                                   \
        static const struct place places[] = {__VA_ARGS__};                                                                                \
        expect_marks(terminal, text, places, sizeof places / sizeof places[0], expected);                                                  \
    } while (0)

static void test_a_range_in_a_line(void **state)
{
    EXPECT_MARKS(&plain, "my key is K1", "  1 | my key is K1\n    |           ^^\n", {10, 12});
    EXPECT_MARKS(&coloured, "my key is K1", "  1 | my key is " MARK_RED "K1" OFF "\n", {10, 12});
    EXPECT_MARKS(&plain, "K1", "  1 | K1\n    | ^^\n", {0, 2});
    EXPECT_MARKS(&plain, "a b c", "  1 | a b c\n    | ^   ^\n", {4, 5}, {0, 1});
    expect_marks(&plain, "nothing here", NULL, 0, "");
}

/* Bytes are not characters, and characters are not columns. */
static void test_columns_of_characters(void **state)
{
    EXPECT_MARKS(&plain, "für K1", "  1 | für K1\n    |     ^^\n", {5, 7});
    EXPECT_MARKS(&plain, "鍵は K1 です", "  1 | 鍵は K1 です\n    |      ^^\n", {7, 9});
    EXPECT_MARKS(&plain, "秘密", "  1 | 秘密\n    |   ^^\n", {3, 6});
    EXPECT_MARKS(&coloured, "秘密", "  1 | 秘" MARK_RED "密" OFF "\n", {3, 6});
    /* e and an accent: one column. A mark on the accent alone stands below the e. */
    EXPECT_MARKS(&plain, "e\xcc\x81x", "  1 | e\xcc\x81x\n    | ^\n", {0, 3});
    EXPECT_MARKS(&plain, "e\xcc\x81x", "  1 | e\xcc\x81x\n    | ^\n", {1, 3});
    /* A range that ends within a character takes all of it. */
    EXPECT_MARKS(&plain, "aéb", "  1 | aéb\n    |  ^\n", {2, 3});
}

static void test_ranges_that_overlap(void **state)
{
    EXPECT_MARKS(&plain, "abcdefgh", "  1 | abcdefgh\n    |  ^^^^^\n", {3, 6}, {1, 4});
    EXPECT_MARKS(&coloured, "abcdefgh", "  1 | a" MARK_RED "bcdef" OFF "gh\n", {3, 6}, {1, 4});
    EXPECT_MARKS(&plain, "abcdefgh", "  1 | abcdefgh\n    | ^^^^^^^^\n", {0, 8}, {2, 3}, {2, 3});
    EXPECT_MARKS(&plain, "abcd", "  1 | abcd\n    | ^^^^\n", {0, 2}, {2, 4});
}

static void test_ranges_at_ends_of_lines(void **state)
{
    EXPECT_MARKS(&plain, "one\ntwo\nthree", "  1 | one\n    | ^^^\n  2 | two\n", {0, 3});
    EXPECT_MARKS(&plain, "one\ntwo\nthree", "  1 | one\n  2 | two\n    | ^^^\n  3 | three\n", {4, 7});
    /* With the line break: it is written out where the range ends or begins with it. */
    EXPECT_MARKS(&plain, "one\ntwo", "  1 | one\\n\n    |  ^^^^\n  2 | two\n", {1, 4});
    EXPECT_MARKS(&plain, "one\ntwo", "  1 | one\\n\n    |    ^^\n  2 | two\n", {3, 4});
    EXPECT_MARKS(&coloured, "one\ntwo", "  1 | one" MARK_RED "\\n" OFF "\n  2 | two\n", {3, 4});
    /* Over lines, an empty one too. */
    EXPECT_MARKS(&plain, "one\n\ntwo", "  1 | one\n    |   ^\n  2 | \n  3 | two\n    | ^\n", {2, 6});
    EXPECT_MARKS(&coloured, "one\n\ntwo", "  1 | on" MARK_RED "e" OFF "\n  2 | \n  3 | " MARK_RED "t" OFF "wo\n", {2, 6});
    EXPECT_MARKS(&plain, "one\n", "  1 | one\n    |   ^\n", {2, 3});
    EXPECT_MARKS(&plain, "one\r\ntwo", "  1 | one\\r\\n\n    |    ^^^^\n  2 | two\n", {3, 5});
}

/* Whatever a server says, nothing outside of the text is read. */
static void test_ranges_that_are_empty_or_outside(void **state)
{
    EXPECT_MARKS(&plain, "", "  1 | \n    | ^\n", {0, 0});
    EXPECT_MARKS(&coloured, "", "  1 | " MARK_RED " " OFF "\n", {0, 0});
    EXPECT_MARKS(&plain, "", "  1 | \n    | ^\n", {0, 9});
    EXPECT_MARKS(&plain, "abc", "  1 | abc\n    |  ^\n", {1, 1});
    EXPECT_MARKS(&plain, "abc", "  1 | abc\n    |    ^\n", {3, 3});
    EXPECT_MARKS(&plain, "abc", "  1 | abc\n    |   ^^\n", {2, 3}, {3, 3});
    EXPECT_MARKS(&plain, "abc", "  1 | abc\n    |  ^^\n", {1, INT64_MAX});
    EXPECT_MARKS(&plain, "abc", "", {-1, 2}, {4, 5}, {2, 1}, {INT64_MAX, INT64_MAX});
    EXPECT_MARKS(&plain, "abc\n", "  1 | abc\n  2 | \n    | ^\n", {4, 4});
}

static void test_control_characters_are_written_out(void **state)
{
    EXPECT_MARKS(&plain, "a\tb\033[2Jc", "  1 | a\\tb\\x1b[2Jc\n    |          ^^^\n", {5, 8});
    EXPECT_MARKS(&plain, "\033K", "  1 | \\x1bK\n    |     ^\n", {1, 2});
    EXPECT_MARKS(&plain, "a\xe2\x80\xaez", "  1 | a\\u202ez\n    |  ^^^^^^\n", {1, 4});
    EXPECT_MARKS(&coloured, "a\033z", "  1 | a" MARK_RED "\\x1b" OFF "z\n", {1, 2});
}

/* Lines around the ranges only, each once. */
static void test_lines_of_a_long_text(void **state)
{
    static const char text[] = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
    EXPECT_MARKS(&plain, text, "   4 | 4\n   5 | 5\n     | ^\n   6 | 6\n  11 | 11\n  12 | 12\n     | ^^\n", {8, 9}, {24, 26});
    EXPECT_MARKS(&plain, text, "  1 | 1\n    | ^\n  2 | 2\n  3 | 3\n    | ^\n  4 | 4\n", {0, 1}, {4, 5});
}

/* Cut around the marks, on both sides. */
static void test_long_lines(void **state)
{
    static const char text[] = "0123456789012345678901234567890123456789 KEY 0123456789012345678901234567890123456789\nend";
    EXPECT_MARKS(&narrow, text, "  1 | …567890123456789 KEY 012345678901…\n    |                  ^^^\n  2 | end\n", {41, 44});
    EXPECT_MARKS(&ascii, text, "  1 | ...567890123456789 KEY 01234567...\n    |                    ^^^\n  2 | end\n", {41, 44});
    EXPECT_MARKS(&narrow, text, "  1 | 01234567890123456789012345678901…\n    | ^^\n  2 | end\n", {0, 2});
    EXPECT_MARKS(&narrow, text,
                 "  1 | 01234567890123456789012345678901…\n    | ^\n  1 | …34567890123456789\n    |                  ^\n"
                 "  2 | end\n",
                 {0, 1}, {84, 85});
    /* Lines around marks are cut too. */
    EXPECT_MARKS(&narrow, "0123456789012345678901234567890123456789\nKEY",
                 "  1 | 012345678901234567890123456789012…\n  2 | KEY\n    | ^^^\n", {41, 44});
}

/* Not more rows than a person looks at. */
static void test_many_marks(void **state)
{
    char text[4 * 60 + 1] = "", expected[4096] = "";
    struct place places[60];
    for (int i = 0; i < 60; i++) {
        strcat(text, "K.\n");
        places[i] = (struct place){3 * i, 3 * i + 1};
    }
    for (int i = 0; i < VIEW_MARKS_ROWS; i++)
        sprintf(expected + strlen(expected), "  %2d | K.\n     | ^\n", i + 1);
    strcat(expected, "  and 40 more lines with marks\n");
    expect_marks(&plain, text, places, 60, expected);
}

/* A mark of a megabyte in one line takes no more than its rows. */
static void test_a_mark_without_end(void **state)
{
    enum { SIZE = 1 << 20 };
    static char text[SIZE + 1];
    Forge__V1__TextRange range = FORGE__V1__TEXT_RANGE__INIT, *ranges[] = {&range};
    char *printed;
    size_t size, rows = 0;
    FILE *out = open_memstream(&printed, &size);
    assert_non_null(out);
    memset(text, 'x', SIZE);
    range.end_byte = SIZE;
    view_marks(out, &coloured, &arena, TERMINAL_MARK_BAD, text, ranges, 1);
    assert_int_equal(fclose(out), 0);
    for (const char *at = printed; (at = strchr(at, '\n')); at++)
        rows++;
    assert_int_equal(rows, VIEW_MARKS_ROWS + 1);
    assert_non_null(strstr(printed, "\n  and 1 more line with marks\n"));
    free(printed);
}

static void test_positions(void **state)
{
    static const struct {
        const char *text;
        size_t byte, line, character;
    } cases[] = {{"", 0, 1, 1},         {"abc", 2, 1, 3}, {"é\n秘密x", 3, 2, 1}, {"é\n秘密x", 6, 2, 2},
                 {"é\n秘密x", 9, 2, 3}, {"a\n", 2, 2, 1}, {"ab", 9, 1, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t line, character;
        view_marks_position(cases[i].text, cases[i].byte, &line, &character);
        assert_int_equal(line, cases[i].line);
        assert_int_equal(character, cases[i].character);
    }
}

/* ---- an answer ---- */

static Forge__V1__CheckPoliciesRequest request;
static Forge__V1__CheckPoliciesResponse answer;
static Forge__V1__PolicyReference secrets, pii, *policies[] = {&secrets, &pii};
static Forge__V1__TextRange key_place, mail_place, *key_places[] = {&key_place}, *mail_places[] = {&mail_place};
static Forge__V1__PolicyFinding key, mail, limit, *findings[] = {&key, &mail, &limit};

/* A key in the input, an address in the output, too many tokens. */
static void make_answer(void)
{
    forge__v1__check_policies_request__init(&request);
    forge__v1__check_policies_response__init(&answer);
    forge__v1__policy_reference__init(&secrets);
    forge__v1__policy_reference__init(&pii);
    forge__v1__text_range__init(&key_place);
    forge__v1__text_range__init(&mail_place);
    forge__v1__policy_finding__init(&key);
    forge__v1__policy_finding__init(&mail);
    forge__v1__policy_finding__init(&limit);
    request.input = TEXT("use K1");
    request.output = TEXT("hello\nwrite to a@b.example");
    answer.decision_id = TEXT("d-1");
    answer.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;
    secrets = (Forge__V1__PolicyReference){secrets.base, TEXT("p-1"), TEXT("secrets"), 2};
    pii = (Forge__V1__PolicyReference){pii.base, TEXT("p-2"), TEXT("personal data"), 1};
    answer.n_policies = 2;
    answer.policies = policies;
    key.policy_id = TEXT("p-1");
    key.policy_version = 2;
    key.rule = TEXT("keys");
    key.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;
    key.severity = FORGE__V1__SEVERITY__SEVERITY_CRITICAL;
    key.mode = FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE;
    key.stage = FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT;
    key.message = TEXT("a key was found");
    key_place.start_byte = 4;
    key_place.end_byte = 6;
    key.n_ranges = 1;
    key.ranges = key_places;
    mail = key;
    mail.policy_id = TEXT("p-2");
    mail.policy_version = 1;
    mail.rule = TEXT("addresses");
    mail.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    mail.severity = FORGE__V1__SEVERITY__SEVERITY_LOW;
    mail.mode = FORGE__V1__POLICY_MODE__POLICY_MODE_DRY_RUN;
    mail.stage = FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT;
    mail.message = TEXT("an address was found");
    mail_place.start_byte = 15;
    mail_place.end_byte = 26;
    mail_place.pii_kind = FORGE__V1__PII_KIND__PII_KIND_EMAIL;
    mail.ranges = mail_places;
    limit = key;
    limit.rule = TEXT("tokens");
    limit.message = TEXT("too many\033[2J tokens");
    limit.n_ranges = 0;
    answer.n_findings = 3;
    answer.findings = findings;
}

static void expect_answer(const struct terminal *terminal, const char *expected)
{
    char *printed;
    size_t size;
    FILE *out = open_memstream(&printed, &size);
    assert_non_null(out);
    view_policy_check(out, terminal, &arena, &request, &answer);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(printed, expected);
    free(printed);
}

static void test_an_answer(void **state)
{
    make_answer();
    expect_answer(&plain, "Blocked (decision d-1)\n"
                          "Evaluated: secrets 2, personal data 1\n"
                          "\n"
                          "block  secrets 2, rule keys, critical: a key was found\n"
                          "  input at 1:5\n"
                          "  1 | use K1\n"
                          "    |     ^^\n"
                          "\n"
                          "flag  personal data 1, rule addresses, low, dry run: not taken: an address was found\n"
                          "  output at 2:10 (email)\n"
                          "  1 | hello\n"
                          "  2 | write to a@b.example\n"
                          "    |          ^^^^^^^^^^^\n"
                          "\n"
                          "block  secrets 2, rule tokens, critical: too many\\x1b[2J tokens\n");
    answer.n_findings = 2;
    expect_answer(&coloured, RED "Blocked" OFF " (decision d-1)\n"
                                 "Evaluated: secrets 2, personal data 1\n"
                                 "\n" RED "block" OFF "  secrets 2, rule keys, critical: a key was found\n"
                                 "  input at 1:5\n"
                                 "  1 | use " MARK_RED "K1" OFF "\n"
                                 "\n" CYAN "flag" OFF "  personal data 1, rule addresses, low, dry run: not taken: an address was found\n"
                                 "  output at 2:10 (email)\n"
                                 "  1 | hello\n"
                                 "  2 | write to " MARK_CYAN "a@b.example" OFF "\n");
}

static void test_an_answer_that_allows(void **state)
{
    make_answer();
    answer.n_findings = 0;
    answer.allowed = true;
    answer.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_UNSPECIFIED;
    expect_answer(&coloured, GREEN "Allowed" OFF " (decision d-1)\nEvaluated: secrets 2, personal data 1\n");
    answer.n_policies = 0;
    expect_answer(&plain, "Allowed (decision d-1)\nNo policy is in force here.\n");
    answer.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    expect_answer(&plain, "Allowed, flagged (decision d-1)\nNo policy is in force here.\n");
    answer.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK;
    answer.masked_input = TEXT("to [addresses]\n\nand\tmore\n");
    answer.masked_output = TEXT("[keys]");
    answer.findings_truncated = true;
    expect_answer(&plain, "Allowed, masked (decision d-1)\nNo policy is in force here.\n\nThere were more findings than are told.\n"
                          "\nMasked input:\n  to [addresses]\n  \n  and\\tmore\n\nMasked output:\n  [keys]\n");
}

/* So many places that only the first are told by number. */
static void test_an_answer_with_many_places(void **state)
{
    Forge__V1__TextRange *places[7];
    make_answer();
    for (size_t i = 0; i < 7; i++)
        places[i] = &key_place;
    key.ranges = places;
    key.n_ranges = 7;
    answer.n_findings = 1;
    answer.retry_after_ms = 1500;
    expect_answer(&plain, "Blocked (decision d-1)\n"
                          "Evaluated: secrets 2, personal data 1\n"
                          "Too often: again in 1.50 s\n"
                          "\n"
                          "block  secrets 2, rule keys, critical: a key was found\n"
                          "  input at 1:5, 1:5, 1:5, 1:5, 1:5 and 2 more\n"
                          "  1 | use K1\n"
                          "    |     ^^\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_range_in_a_line),
        cmocka_unit_test(test_columns_of_characters),
        cmocka_unit_test(test_ranges_that_overlap),
        cmocka_unit_test(test_ranges_at_ends_of_lines),
        cmocka_unit_test(test_ranges_that_are_empty_or_outside),
        cmocka_unit_test(test_control_characters_are_written_out),
        cmocka_unit_test(test_lines_of_a_long_text),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_many_marks),
        cmocka_unit_test(test_a_mark_without_end),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_an_answer),
        cmocka_unit_test(test_an_answer_that_allows),
        cmocka_unit_test(test_an_answer_with_many_places),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
