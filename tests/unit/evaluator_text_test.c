/* Evaluators exact, contains and levenshtein; folding and white space against the Unicode Character Database (package unicode-data). */
#include "evaluator_test_support.h"

#include "evaluate/edit_distance.h"
#include "evaluate/text.h"

#include <stdlib.h>

static double exact(bool ignore_case, bool trim, const char *output, const char *expected)
{
    Forge__V1__ExactEvaluator config = FORGE__V1__EXACT_EVALUATOR__INIT;
    config.ignore_case = ignore_case;
    config.trim = trim;
    const Forge__V1__Evaluator evaluator = EVALUATOR(EXACT, exact, &config);
    return judge(&evaluator, output, expected);
}

static void test_exact(void **state)
{
    assert_true(exact(false, false, "same", "same") == 1);
    assert_string_equal(explanation, "");
    assert_true(exact(false, false, "", "") == 1);
    assert_true(exact(false, false, NULL, NULL) == 1);
    assert_true(exact(false, false, "same", "Same") == 0);
    assert_string_equal(explanation, "differs from the expected output from character 1 on");
    assert_true(exact(false, false, "gr\u00FCn", "gr\u00FBn") == 0);
    assert_string_equal(explanation, "differs from the expected output from character 3 on");
    assert_true(exact(false, false, "one", "one two") == 0);
    assert_string_equal(explanation, "the output ends after 3 characters, the expected one goes on");
    assert_true(exact(false, false, "one two", "one") == 0);
    assert_true(exact(false, false, "same ", "same") == 0);
    assert_true(exact(false, true, " \t\r\nsame\u00A0\u2003\u3000\xC2\x85", "\u2028same") == 1);
    assert_true(exact(false, true, " \u2003 ", "") == 1);
    assert_true(exact(false, true, "\u200Bsame", "same") == 0); /* ZERO WIDTH SPACE is no White_Space */
    assert_true(exact(false, true, "a b", "ab") == 0);
}

static void test_exact_ignores_case(void **state)
{
    assert_true(exact(true, false, "\u00C4RGER \u03A3\u03AF\u03C3\u03C5\u03C6\u03BF\u03C2",
                      "\u00E4rger \u03C3\u038A\u03A3\u03A5\u03A6\u039F\u03A3") == 1);
    assert_true(exact(true, false, "\u212Aelvin", "kelvin") == 1);  /* KELVIN SIGN */
    assert_true(exact(true, false, "Stra\u00DFe", "STRASSE") == 0); /* that would be full case folding */
    assert_true(exact(true, false, "Stra\u00DFe", "STRA\u1E9EE") == 1);
    assert_true(exact(true, false, "\u0130", "i") == 0); /* Turkish rules are not asked */
    assert_true(exact(true, true, " YES\n", "yes") == 1);
}

/* CaseFolding.txt: "0041; C; 0061; # LATIN CAPITAL LETTER A". */
static void test_folding_is_that_of_unicode(void **state)
{
    FILE *file = fopen("/usr/share/unicode/CaseFolding.txt", "r");
    assert_non_null(file);
    char line[512];
    unsigned count = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned from, to;
        char status;
        if (sscanf(line, "%x; %c; %x;", &from, &status, &to) != 3 || (status != 'C' && status != 'S'))
            continue;
        char text[5] = {0};
        size_t length = 0, size;
        if (from < 0x80)
            text[length++] = (char)from;
        else if (from < 0x800)
            text[length++] = (char)(0xC0 | from >> 6);
        else if (from < 0x10000)
            text[length++] = (char)(0xE0 | from >> 12), text[length++] = (char)(0x80 | (from >> 6 & 0x3F));
        else
            text[length++] = (char)(0xF0 | from >> 18), text[length++] = (char)(0x80 | (from >> 12 & 0x3F)),
            text[length++] = (char)(0x80 | (from >> 6 & 0x3F));
        if (from >= 0x80)
            text[length++] = (char)(0x80 | (from & 0x3F));
        uint32_t *folded = evaluate_code_points(text, length, true, &size);
        assert_int_equal(size, 1);
        assert_int_equal(folded[0], to);
        free(folded);
        count++;
    }
    fclose(file);
    assert_true(count > 1400);
}

static double contains(const char *const *values, size_t count, bool any, bool ignore_case, bool negate, const char *output,
                       const char *expected)
{
    Forge__V1__ContainsEvaluator config = FORGE__V1__CONTAINS_EVALUATOR__INIT;
    config.values = (char **)(uintptr_t)values;
    config.n_values = count;
    config.any = any;
    config.ignore_case = ignore_case;
    config.negate = negate;
    const Forge__V1__Evaluator evaluator = EVALUATOR(CONTAINS, contains, &config);
    return judge(&evaluator, output, expected);
}

static void test_contains(void **state)
{
    static const char *const fruits[] = {"apple", "pear", "PLUM", "fig"};
    assert_true(contains(fruits, 4, false, false, false, "apple pear PLUM fig", NULL) == 1);
    assert_true(contains(fruits, 4, false, false, false, "an apple, a plum", NULL) == 0.25);
    assert_string_equal(explanation, "the output holds 1 of 4 texts");
    assert_true(contains(fruits, 4, false, true, false, "an APPLE, a plum", NULL) == 0.5);
    assert_true(contains(fruits, 4, true, false, false, "a fig", NULL) == 1);
    assert_true(contains(fruits, 4, true, false, false, "a nut", NULL) == 0);
    assert_true(contains(fruits, 4, true, false, true, "a nut", NULL) == 1);
    assert_true(contains(fruits, 4, true, false, true, "a fig", NULL) == 0);
    assert_true(contains(fruits, 4, false, false, true, "a fig", NULL) == 0.75);
    assert_string_equal(explanation, "the output holds 1 of 4 texts that it should not hold");
    assert_true(contains(fruits, 4, false, false, false, "", NULL) == 0);
    assert_true(contains(NULL, 0, false, false, false, "the answer is 42.", "42") == 1);
    assert_true(contains(NULL, 0, false, false, false, "the answer is 41.", "42") == 0);
    assert_true(contains(NULL, 0, false, true, false, "DIE ANTWORT: \u00DCBER", "\u00FCber") == 1);
    assert_true(contains(NULL, 0, false, false, false, "anything", "") == 1);
}

static double similarity(bool ignore_case, const char *output, const char *expected)
{
    Forge__V1__LevenshteinEvaluator config = FORGE__V1__LEVENSHTEIN_EVALUATOR__INIT;
    config.ignore_case = ignore_case;
    const Forge__V1__Evaluator evaluator = EVALUATOR(LEVENSHTEIN, levenshtein, &config);
    return judge(&evaluator, output, expected);
}

static void test_levenshtein(void **state)
{
    assert_true(similarity(false, "kitten", "sitting") == 4.0 / 7);
    assert_string_equal(explanation, "edit distance 3 of 7");
    assert_true(similarity(false, "Saturday", "Sunday") == 5.0 / 8);
    assert_true(similarity(false, "", "") == 1);
    assert_true(similarity(false, "", "abc") == 0);
    assert_true(similarity(false, "abc", "") == 0);
    assert_true(similarity(false, "ABC", "abc") == 0);
    assert_true(similarity(true, "ABC\u00C9", "abc\u00E9") == 1);
    /* Code points, neither bytes nor UTF-16 units. */
    assert_true(similarity(false, "\U0001F600\u00FC", "\U0001F601\u00FC") == 0.5);
    assert_true(similarity(false, "na\u00EFve", "naive") == 0.8);
}

/* The textbook's table. */
static size_t distance_by_table(const uint32_t *a, size_t n, const uint32_t *b, size_t m)
{
    size_t *row = malloc((m + 1) * sizeof row[0]);
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    size_t distance = row[m];
    free(row);
    return distance;
}

static void test_distance_equals_the_table(void **state)
{
    static uint32_t a[400], b[400];
    unsigned seed = 1;
    struct edit_distance found;
    for (int round = 0; round < 1500; round++) {
        unsigned letters = 1 + rand_r(&seed) % (round % 3 == 0 ? 2 : 300), most = round % 2 ? 70 : 400;
        size_t n = rand_r(&seed) % most, m = rand_r(&seed) % most;
        for (size_t i = 0; i < n; i++)
            a[i] = 0x3B1 + rand_r(&seed) % letters;
        for (size_t i = 0; i < m; i++) /* half of the time like a, with changes */
            b[i] = round % 4 < 2 && i < n && rand_r(&seed) % 10 ? a[i] : 0x3B1 + rand_r(&seed) % letters;
        assert_true(edit_distance(a, n, b, m, &found));
        assert_true(found.exact);
        assert_int_equal(found.distance, distance_by_table(a, n, b, m));
    }
}

/* Beyond the product of 2^30: by diagonals, exactly up to their limit, and a bound above. */
static void test_distance_of_long_texts(void **state)
{
    enum { SIZE = 1 << 20, MOST = EDIT_DISTANCE_DIAGONAL_WORK / SIZE };
    uint32_t *a = malloc(SIZE * sizeof a[0]), *b = malloc(SIZE * sizeof b[0]);
    assert_true(a != NULL && b != NULL);
    unsigned seed = 7;
    struct edit_distance found;
    for (size_t i = 0; i < SIZE; i++)
        a[i] = b[i] = (uint32_t)rand_r(&seed) % 1000;
    for (size_t i = 0; i < 100; i++) /* far apart: substitutions of a letter that occurs nowhere else */
        b[1000 + i * 10000] = 5000;
    assert_true(edit_distance(a, SIZE, b, SIZE, &found));
    assert_true(found.exact);
    assert_int_equal(found.distance, 100);
    assert_true(edit_distance(a, SIZE, b + 3, SIZE - 3, &found)); /* and three deletions */
    assert_true(found.exact);
    assert_int_equal(found.distance, 103);

    double before = thread_seconds();
    for (size_t i = 0; i < SIZE; i++)
        b[i] = 5000 + (uint32_t)rand_r(&seed) % 1000;
    b[0] = a[0];
    assert_true(edit_distance(a, SIZE, b, SIZE, &found));
    assert_false(found.exact);
    assert_int_equal(found.distance, SIZE - 1);
    for (size_t i = 0; i < SIZE; i++) /* the worst case of diagonals: everything matches for long */
        a[i] = b[i] = 1;
    a[0] = a[SIZE - 1] = 2;
    for (size_t i = 0; i < 2 * MOST; i++)
        b[SIZE / 2 + i * 100] = 3;
    assert_true(edit_distance(a, SIZE, b, SIZE, &found));
    assert_false(found.exact);
    print_message("two texts of 2^20 code points beyond all limits, twice: %.0f ms\n", 1000 * (thread_seconds() - before));
    before = thread_seconds();
    for (size_t i = 0; i < 1 << 15; i++)
        a[i] = (uint32_t)rand_r(&seed) % 5000, b[i] = (uint32_t)rand_r(&seed) % 5000;
    assert_true(edit_distance(a, 1 << 15, b, 1 << 15, &found));
    assert_true(found.exact);
    print_message("two texts of 2^15 code points: %.0f ms\n", 1000 * (thread_seconds() - before));
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_exact_ignores_case),
        cmocka_unit_test(test_folding_is_that_of_unicode),
        cmocka_unit_test(test_contains),
        cmocka_unit_test(test_levenshtein),
        cmocka_unit_test(test_distance_equals_the_table),
        cmocka_unit_test(test_distance_of_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
