/* What forgectl prints for people, with and without colour, in block characters and in ASCII, wide and narrow. */
#include "output.h"
#include "view.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GREEN "\033[32m"
#define RED "\033[31m"
#define CYAN "\033[36m"
#define YELLOW "\033[33m"
#define BOLD "\033[1m"
#define OFF "\033[0m"

static const struct terminal plain = {.has_blocks = true, .columns = 80}, coloured = {true, true, 80}, ascii = {.columns = 80},
                             narrow = {.has_blocks = true, .columns = 45}, tiny = {.has_blocks = true, .columns = 1};

/* ---- what a terminal can ---- */

static void test_colour_is_decided(void **state)
{
    static const struct {
        bool is_terminal;
        const char *term, *no_color;
        bool expected;
    } cases[] = {
        {true, "xterm", NULL, true},   {true, "xterm", "", true},   {true, "xterm", "1", false}, {true, "xterm", "0", false},
        {false, "xterm", NULL, false}, {true, "dumb", NULL, false}, {true, "", NULL, false},     {true, NULL, NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (terminal_decide_colour(cases[i].is_terminal, cases[i].term, cases[i].no_color) != cases[i].expected)
            fail_msg("case %zu", i);
}

static void test_colour_is_chosen(void **state)
{
    struct terminal terminal = {.columns = 80};
    setenv("NO_COLOR", "1", 1);
    assert_true(terminal_set_colour(&terminal, "always"));
    assert_true(terminal.has_colour);
    assert_true(terminal_set_colour(&terminal, "never"));
    assert_false(terminal.has_colour);
    assert_true(terminal_set_colour(&terminal, "auto"));
    assert_false(terminal.has_colour);
    assert_true(terminal_set_colour(&terminal, NULL));
    assert_false(terminal.has_colour);
    assert_false(terminal_set_colour(&terminal, "yes"));
    unsetenv("NO_COLOR");
}

static void test_columns_are_decided(void **state)
{
    static const struct {
        const char *variable;
        unsigned of_terminal, expected;
    } cases[] = {{NULL, 0, 80}, {NULL, 132, 132}, {"40", 132, 40},  {"", 132, 132},
                 {"0", 0, 80},  {"-5", 0, 80},    {"10000", 0, 80}, {"4x", 7, 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(terminal_decide_columns(cases[i].variable, cases[i].of_terminal), cases[i].expected);
}

/* ---- pieces ---- */

/* Opens a stream into *text, which end_text closes and compares. */
static char *text;
static size_t text_size;

static FILE *begin_text(void)
{
    FILE *out = open_memstream(&text, &text_size);
    assert_non_null(out);
    return out;
}

static void end_text(FILE *out, const char *expected)
{
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, expected);
    free(text);
}

static void test_bars(void **state)
{
    static const struct {
        const struct terminal *terminal;
        double share;
        unsigned width;
        const char *expected;
    } cases[] = {
        {&plain, 0, 4, "    "},
        {&plain, 1, 4, "████"},
        {&plain, 0.5, 4, "██  "},
        {&plain, 0.59375, 4, "██▍ "},
        {&plain, 0.0001, 4, "▏   "},
        {&plain, 7, 4, "████"},
        {&plain, -1, 4, "    "},
        {&plain, 1, 0, ""},
        {&ascii, 0, 4, "    "},
        {&ascii, 1, 4, "####"},
        {&ascii, 0.6, 4, "##  "},
        {&ascii, 0.0001, 4, "#   "},
        {&coloured, 0.5, 4, GREEN "██" OFF "  "},
        {&coloured, 0, 4, "    "},
        {&plain, 1, 1000, "████████████████████████████████████████"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FILE *out = begin_text();
        terminal_print_bar(cases[i].terminal, out, TERMINAL_GOOD, cases[i].share, cases[i].width);
        end_text(out, cases[i].expected);
    }
}

/* Styles take no columns. */
static void test_tables_with_styles(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 4096, NULL);
    struct table table = {.columns = 2};
    const char *const cells[][2] = {{"CHANGE", "ITEM"},
                                    {terminal_text(&coloured, &arena, TERMINAL_BAD, "broken"), "a"},
                                    {terminal_text(&coloured, &arena, TERMINAL_GOOD, "ok"), "b"},
                                    {terminal_text(&plain, &arena, TERMINAL_GOOD, "ok"), "c"}};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        memcpy(table_add_row(&table), cells[i], sizeof cells[i]);
    FILE *out = begin_text();
    table_print(&table, out);
    end_text(out, "CHANGE  ITEM\n" RED "broken" OFF "  a\n" GREEN "ok" OFF "      b\nok      c\n");
    table_free(&table);
    forge_arena_done(&arena);
}

/* ---- diff ---- */

static void test_diff(void **state)
{
    static char name[] = "content", other[] = "parameters", hunks[] = "@@ -1,2 +1,2 @@\n one\n-two\n+2\n", cut[] = "@@ -1 +1 @@\n-{}\n+[]";
    Forge__V1__FieldDiff content = FORGE__V1__FIELD_DIFF__INIT, parameters = FORGE__V1__FIELD_DIFF__INIT,
                         *fields[] = {&content, &parameters};
    Forge__V1__DiffPromptVersionsResponse diff = FORGE__V1__DIFF_PROMPT_VERSIONS_RESPONSE__INIT;
    content.field = name;
    content.unified_diff = hunks;
    parameters.field = other;
    parameters.unified_diff = cut;
    diff.base_version = 1;
    diff.target_version = 2;
    FILE *out = begin_text();
    view_diff(out, &coloured, &diff);
    end_text(out, "Versions 1 and 2 are the same.\n");
    diff.diffs = fields;
    diff.n_diffs = 2;
    out = begin_text();
    view_diff(out, &plain, &diff);
    end_text(out, "--- content (version 1)\n+++ content (version 2)\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
                  "--- parameters (version 1)\n+++ parameters (version 2)\n@@ -1 +1 @@\n-{}\n+[]\n");
    out = begin_text();
    view_diff(out, &coloured, &diff);
    end_text(out, BOLD "--- content (version 1)" OFF "\n" BOLD "+++ content (version 2)" OFF "\n" CYAN "@@ -1,2 +1,2 @@" OFF "\n one\n" RED
                       "-two" OFF "\n" GREEN "+2" OFF "\n" BOLD "--- parameters (version 1)" OFF "\n" BOLD "+++ parameters (version 2)" OFF
                       "\n" CYAN "@@ -1 +1 @@" OFF "\n" RED "-{}" OFF "\n" GREEN "+[]" OFF "\n");
}

/* ---- stats ---- */

static void test_stats(void **state)
{
    static int64_t none[5], ratings[] = {0, 0, 0, 1, 3};
    Forge__V1__PromptVersionStats first = FORGE__V1__PROMPT_VERSION_STATS__INIT, second = first, total = first,
                                  *versions[] = {&first, &second};
    Forge__V1__PromptStats stats = FORGE__V1__PROMPT_STATS__INIT;
    FILE *out = begin_text();
    view_stats(out, &plain, &stats); /* no total, no executions */
    stats.total = &total;
    view_stats(out, &plain, &stats);
    end_text(out, "");
    first = (Forge__V1__PromptVersionStats){.version = 1, .execution_count = 4, .success_count = 1, .success_rate = 0.25};
    second = (Forge__V1__PromptVersionStats){.version = 12, .execution_count = 4, .success_count = 4, .success_rate = 1};
    total.execution_count = 8;
    total.success_count = 5;
    total.success_rate = 0.625;
    total.rating_counts = none;
    total.n_rating_counts = 5;
    stats.versions = versions;
    stats.n_versions = 2;
    out = begin_text();
    view_stats(out, &ascii, &stats);
    end_text(out, "\nSuccesses by version\n"
                  "1      ##########                                 25%  1 of 4\n"
                  "12     ########################################  100%  4 of 4\n"
                  "all    #########################                  62%  5 of 8\n");
    total.rated_count = 4;
    total.rating_counts = ratings;
    out = begin_text();
    view_stats(out, &narrow, &stats);
    end_text(out, "\nSuccesses by version\n"
                  "1      ██▌          25%  1 of 4\n"
                  "12     ██████████  100%  4 of 4\n"
                  "all    ██████▎      62%  5 of 8\n"
                  "\nRatings of all versions\n"
                  "5      ███████▌     75%  3\n"
                  "4      ██▌          25%  1\n"
                  "3                    0%  0\n"
                  "2                    0%  0\n"
                  "1                    0%  0\n");
    stats.n_versions = 1;
    total.rated_count = 0;
    out = begin_text();
    view_stats(out, &tiny, &stats);
    end_text(out, "\nSuccesses by version\n1      █▎      25%  1 of 4\n");
    out = begin_text();
    view_stats(out, &coloured, &stats);
    end_text(out, "\nSuccesses by version\n1      " GREEN "██████████" OFF "                                 25%  1 of 4\n");
}

static void test_stats_tell_what_is_archived(void **state)
{
    Forge__V1__PromptVersionStats total = FORGE__V1__PROMPT_VERSION_STATS__INIT;
    Forge__V1__PromptStats stats = FORGE__V1__PROMPT_STATS__INIT;
    stats.total = &total;
    total.archived_left_out_count = 12;
    FILE *out = begin_text();
    view_stats(out, &plain, &stats);
    end_text(out, "\nNot counted: 12 archived executions, of which only a part can be in this range.\n");
}

/* ---- comparison ---- */

static const Forge__V1__PValueMethod EXACT = FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT,
                                     NORMAL = FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_NORMAL_APPROXIMATION,
                                     NONE = FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_UNSPECIFIED;

/* Prints the comparison and compares all of it. */
static void expect_comparison(const struct terminal *terminal, const Forge__V1__CompareEvaluationsResponse *comparison, double alpha,
                              const char *expected)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 16, NULL);
    FILE *out = begin_text();
    view_comparison(out, terminal, &arena, comparison, alpha);
    end_text(out, expected);
    forge_arena_done(&arena);
}

static void test_comparison_of_nothing(void **state)
{
    const Forge__V1__CompareEvaluationsResponse comparison = FORGE__V1__COMPARE_EVALUATIONS_RESPONSE__INIT;
    expect_comparison(&plain, &comparison, VIEW_ALPHA,
                      "Fixed              0\nBroken             0\nStill passing      0\nStill failing      0\n"
                      "Only in baseline   0\nOnly in candidate  0\nMean score         +0.000\n"
                      "Passing            no significant difference: no item fares otherwise\n"
                      "Scores             no significant difference: no score differs\n");
    assert_false(view_comparison_is_worse(&comparison, VIEW_ALPHA));
}

static void test_comparison(void **state)
{
    static char names[][16] = {"a", "b", "c", "d", "e", "f"};
    Forge__V1__ItemComparison items[6], *pointers[6];
    Forge__V1__CompareEvaluationsResponse comparison = FORGE__V1__COMPARE_EVALUATIONS_RESPONSE__INIT;
    Forge__V1__McNemarTest mcnemar = FORGE__V1__MC_NEMAR_TEST__INIT;
    Forge__V1__WilcoxonTest wilcoxon = FORGE__V1__WILCOXON_TEST__INIT;
    for (int i = 0; i < 6; i++) {
        forge__v1__item_comparison__init(&items[i]);
        items[i].item_key = names[i];
        items[i].change = (Forge__V1__ItemChange)(i + 1);
        items[i].baseline_score = 0.25;
        items[i].candidate_score = 1;
        pointers[i] = &items[i];
    }
    comparison = (Forge__V1__CompareEvaluationsResponse){.base = comparison.base,
                                                         .next_page_token = comparison.next_page_token,
                                                         .items = pointers,
                                                         .n_items = 6,
                                                         .fixed_count = 9,
                                                         .broken_count = 1,
                                                         .still_passing_count = 80,
                                                         .still_failing_count = 10,
                                                         .only_baseline_count = 2,
                                                         .only_candidate_count = 3,
                                                         .mean_score_difference = -0.0126,
                                                         .mcnemar = &mcnemar,
                                                         .wilcoxon = &wilcoxon,
                                                         .dataset_differs = true};
    mcnemar.candidate_only_count = 9;
    mcnemar.baseline_only_count = 1;
    mcnemar.p_value = 0.021484375;
    mcnemar.method = EXACT;
    wilcoxon.sample_size = 40;
    wilcoxon.rank_sum_positive = 100;
    wilcoxon.rank_sum_negative = 720;
    wilcoxon.p_value = 0.00003;
    wilcoxon.method = NORMAL;
    expect_comparison(&plain, &comparison, VIEW_ALPHA,
                      "Fixed              9\nBroken             1\nStill passing      80\nStill failing      10\n"
                      "Only in baseline   2\nOnly in candidate  3\nMean score         -0.013\n"
                      "Passing            better: 9 fixed, 1 broken, p = 0.021 (McNemar, exact)\n"
                      "Scores             worse: 40 differ, p < 0.001 (Wilcoxon, normal approximation)\n"
                      "Items of the same key have other contents in the two datasets: compare with care.\n"
                      "\n"
                      "CHANGE             BASELINE  CANDIDATE  ITEM\n"
                      "fixed              0.250     1.000      a\n"
                      "broken             0.250     1.000      b\n"
                      "still passing      0.250     1.000      c\n"
                      "still failing      0.250     1.000      d\n"
                      "only in baseline   0.250                e\n"
                      "only in candidate            1.000      f\n");
    assert_true(view_comparison_is_worse(&comparison, VIEW_ALPHA));
    assert_false(view_comparison_is_worse(&comparison, 0.00002));
    comparison.n_items = 2;
    expect_comparison(&coloured, &comparison, VIEW_ALPHA,
                      "Fixed              9\nBroken             1\nStill passing      80\nStill failing      10\n"
                      "Only in baseline   2\nOnly in candidate  3\nMean score         -0.013\n"
                      "Passing            " GREEN "better" OFF ": 9 fixed, 1 broken, p = 0.021 (McNemar, exact)\n"
                      "Scores             " RED "worse" OFF ": 40 differ, p < 0.001 (Wilcoxon, normal approximation)\n" YELLOW
                      "Items of the same key have other contents in the two datasets: compare with care." OFF "\n"
                      "\n"
                      "CHANGE  BASELINE  CANDIDATE  ITEM\n" GREEN "fixed" OFF "   0.250     1.000      a\n" RED "broken" OFF
                      "  0.250     1.000      b\n");
}

/* A p-value at alpha is not below it; equal rank sums favour neither. */
static void test_verdicts_at_a_level(void **state)
{
    const struct {
        double p_value, alpha, positive, negative;
        Forge__V1__PValueMethod method;
        bool is_worse;
    } cases[] = {
        {0.04, 0.05, 1, 2, EXACT, true},  {0.05, 0.05, 1, 2, EXACT, false}, {0.04, 0.04, 1, 2, EXACT, false},
        {0.04, 0.05, 2, 1, EXACT, false}, {0.04, 0.05, 2, 2, EXACT, false}, {0.04, 0.05, 1, 2, NONE, false},
        {0.04, 0.05, 1, 2, NORMAL, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Forge__V1__CompareEvaluationsResponse comparison = FORGE__V1__COMPARE_EVALUATIONS_RESPONSE__INIT;
        Forge__V1__WilcoxonTest wilcoxon = FORGE__V1__WILCOXON_TEST__INIT;
        Forge__V1__McNemarTest mcnemar = FORGE__V1__MC_NEMAR_TEST__INIT;
        wilcoxon.p_value = mcnemar.p_value = cases[i].p_value;
        wilcoxon.method = mcnemar.method = cases[i].method;
        wilcoxon.rank_sum_positive = cases[i].positive;
        wilcoxon.rank_sum_negative = cases[i].negative;
        mcnemar.candidate_only_count = (int64_t)cases[i].positive;
        mcnemar.baseline_only_count = (int64_t)cases[i].negative;
        comparison.wilcoxon = &wilcoxon;
        if (view_comparison_is_worse(&comparison, cases[i].alpha) != cases[i].is_worse)
            fail_msg("case %zu by scores", i);
        comparison.wilcoxon = NULL;
        comparison.mcnemar = &mcnemar;
        if (view_comparison_is_worse(&comparison, cases[i].alpha) != cases[i].is_worse)
            fail_msg("case %zu by passing", i);
    }
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_colour_is_decided),
        cmocka_unit_test(test_colour_is_chosen),
        cmocka_unit_test(test_columns_are_decided),
        cmocka_unit_test(test_bars),
        cmocka_unit_test(test_tables_with_styles),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_stats_tell_what_is_archived),
        cmocka_unit_test(test_comparison_of_nothing),
        cmocka_unit_test(test_comparison),
        cmocka_unit_test(test_verdicts_at_a_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
