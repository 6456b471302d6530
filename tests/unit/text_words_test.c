/* server/text/words: which words a text has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The words of the texts, joined by spaces. */
static void expect_of(const char *const *texts, size_t text_count, size_t count_max, const char *expected, bool has_more)
{
    struct forge_arena arena;
    struct text_words found;
    char joined[4096] = "";
    forge_arena_init(&arena, 1 << 20, NULL);
    assert_true(text_words(texts, text_count, count_max, &arena, &found));
    for (size_t i = 0; i < found.count; i++)
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i > 0 ? " " : "", found.words[i]);
    assert_string_equal(joined, expected);
    assert_int_equal(found.has_more, has_more);
    forge_arena_done(&arena);
}

static void expect(const char *text, const char *expected)
{
    expect_of(&text, 1, 100, expected, false);
}

static void test_words_are_runs_of_letters_and_digits(void **state)
{
    (void)state;
    expect("", "");
    expect(" \t\n.,;{}()--__''", "");
    expect("Review the diff, line by line.", "by diff line review the");
    expect("{{user_name}} code-review v2 don't 3.14", "14 3 code don name review t user v2");
    expect("a\xe2\x80\x8b"
           "b \xe2\x80\x9cquoted\xe2\x80\x9d \xc2\xbfqu\xc3\xa9?",
           "a b quoted qu\xc3\xa9");                                          /* U+200B is no letter */
    expect("\xd9\xa3\xd9\xa4 \xe2\x85\xab", "\xd9\xa3\xd9\xa4 \xe2\x85\xbb"); /* Arabic digits, the Roman number XII */
    expect("\xf0\x9f\x98\x80smile\xf0\x9f\x98\x80", "smile");                 /* an emoji is a symbol */
}

static void test_case_is_folded_one_code_point_for_one(void **state)
{
    (void)state;
    expect("HELLO Hello hello", "hello");
    expect("STRASSE Stra\xc3\x9f"
           "e",
           "strasse stra\xc3\x9f"
           "e");                                                                             /* full folding would make them one */
    expect("\xce\xa3\xce\x99\xce\xa3 \xcf\x83\xce\xb9\xcf\x82", "\xcf\x83\xce\xb9\xcf\x83"); /* final sigma */
    expect("\xc4\xb0", "\xc4\xb0");                                                          /* a dotted capital I has no simple folding */
    expect("\xe2\x84\xaa", "k");                                                             /* KELVIN SIGN */
    expect("\xc8\xba", "\xe2\xb1\xa5");                                                      /* U+023A becomes a byte longer */
    expect("\xf0\x90\x90\x80", "\xf0\x90\x90\xa8");                                          /* Deseret, beyond the first plane */
}

static void test_accents_are_kept_however_they_are_spelled(void **state)
{
    (void)state;
    expect("caf\xc3\xa9 CAFE\xcc\x81 cafe", "cafe caf\xc3\xa9");
    expect("I\xcc\x87 \xc4\xb0", "\xc4\xb0");                                    /* alone, the I would become an i */
    expect("\xce\xb1\xcd\x85 \xe1\xbe\xbc \xe1\xbe\xb3", "\xe1\xbe\xb3");        /* alone, an iota below would become one beside */
    expect("H\xcc\xb1 \xe1\xba\x96", "\xe1\xba\x96");                            /* one code point only as a small letter */
    expect("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab \xed\x95\x9c", "\xed\x95\x9c"); /* Hangul by letters and by syllable */
    expect("\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80",
           "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80");
    expect("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"); /* U+0958: two code points when composed */
}

static void test_scripts_without_spaces_are_taken_letter_by_letter(void **state)
{
    (void)state;
    expect("\xe5\x8c\x97\xe4\xba\xac GPT\xe5\x8c\x97", "gpt \xe4\xba\xac \xe5\x8c\x97");
    expect("\xe3\x81\xb2\xe3\x82\x89", "\xe3\x81\xb2 \xe3\x82\x89");
    expect("\xe3\x81\x8b\xe3\x82\x99x \xe3\x81\x8c", "x \xe3\x81\x8c"); /* a mark belongs to its letter */
    expect("\xe3\x82\xab\xe3\x83\x8a", "\xe3\x82\xab\xe3\x83\x8a");     /* Katakana stay together */
    expect("\xf0\xa0\x80\x80\xf0\xa0\x80\x81", "\xf0\xa0\x80\x80 \xf0\xa0\x80\x81");
}

static void test_long_words_are_cut_by_code_points(void **state)
{
    (void)state;
    char text[1024] = "", cut[1024] = "";
    for (int i = 0; i < TEXT_WORD_CHARACTERS_MAX; i++) {
        strcat(text, "\xc3\x89");
        strcat(cut, "\xc3\xa9");
    }
    expect(text, cut);
    strcat(text, "tail");
    expect(text, cut);
    text[0] = cut[0] = '\0';
    for (int i = 0; i < TEXT_WORD_CHARACTERS_MAX; i++) { /* each becomes two: the first half of them is left */
        strcat(text, "\xe0\xa5\x98");
        strcat(cut, i < TEXT_WORD_CHARACTERS_MAX / 2 ? "\xe0\xa4\x95\xe0\xa4\xbc" : "");
    }
    expect(text, cut);
}

static void test_words_of_several_texts_are_one_set(void **state)
{
    (void)state;
    const char *const texts[] = {"Zeta alpha", "ALPHA beta", "", "gamma zeta"};
    expect_of(texts, 4, 4, "alpha beta gamma zeta", false);
    expect_of(texts, 4, 3, "alpha beta zeta", true); /* the first ones in the order of the texts */
    expect_of(texts, 4, 0, "", true);
    expect_of(texts, 0, 4, "", false);
}

static void test_no_memory_is_told(void **state)
{
    (void)state;
    enum { WORDS = 10000, WORD_SIZE = 8 };
    struct forge_arena arena;
    struct text_words found;
    char *text = malloc((size_t)WORDS * WORD_SIZE + 1);
    assert_non_null(text);
    for (unsigned i = 0; i < WORDS; i++)
        snprintf(text + (size_t)i * WORD_SIZE, WORD_SIZE + 1, "%07u ", i);
    forge_arena_init(&arena, 16 << 10, NULL);
    assert_false(text_words((const char *const[]){text}, 1, WORDS, &arena, &found));
    forge_arena_done(&arena);
    forge_arena_init(&arena, 4 << 20, NULL);
    assert_true(text_words((const char *const[]){text}, 1, WORDS, &arena, &found));
    assert_int_equal(found.count, WORDS);
    assert_string_equal(found.words[WORDS - 1], "0009999");
    forge_arena_done(&arena);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_runs_of_letters_and_digits),
        cmocka_unit_test(test_case_is_folded_one_code_point_for_one),
        cmocka_unit_test(test_accents_are_kept_however_they_are_spelled),
        cmocka_unit_test(test_scripts_without_spaces_are_taken_letter_by_letter),
        cmocka_unit_test(test_long_words_are_cut_by_code_points),
        cmocka_unit_test(test_words_of_several_texts_are_one_set),
        cmocka_unit_test(test_no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
