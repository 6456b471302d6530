/* A comparison of two evaluations: what the tests say in words, then the items. */
#include "output.h"
#include "view.h"

#include <string.h>

enum { CHANGES = FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_CANDIDATE + 1 };

enum verdict { VERDICT_NONE, VERDICT_BETTER, VERDICT_WORSE };

static const struct {
    const char *name;
    enum terminal_style style;
} changes[CHANGES] = {
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_UNSPECIFIED] = {"", TERMINAL_PLAIN},
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_FIXED] = {"fixed", TERMINAL_GOOD},
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_BROKEN] = {"broken", TERMINAL_BAD},
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_STILL_PASSING] = {"still passing", TERMINAL_PLAIN},
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_STILL_FAILING] = {"still failing", TERMINAL_PLAIN},
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_BASELINE] = {"only in baseline", TERMINAL_WARN},
    [FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_CANDIDATE] = {"only in candidate", TERMINAL_WARN},
};

/* ---- verdicts ---- */

static enum verdict judge(Forge__V1__PValueMethod method, double p_value, double alpha, double better, double worse)
{
    if (method == FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_UNSPECIFIED || p_value >= alpha || better == worse)
        return VERDICT_NONE;
    return better > worse ? VERDICT_BETTER : VERDICT_WORSE;
}

static enum verdict judge_passing(const Forge__V1__McNemarTest *test, double alpha)
{
    return test ? judge(test->method, test->p_value, alpha, (double)test->candidate_only_count, (double)test->baseline_only_count)
                : VERDICT_NONE;
}

static enum verdict judge_scores(const Forge__V1__WilcoxonTest *test, double alpha)
{
    return test ? judge(test->method, test->p_value, alpha, test->rank_sum_positive, test->rank_sum_negative) : VERDICT_NONE;
}

bool view_comparison_is_worse(const Forge__V1__CompareEvaluationsResponse *comparison, double alpha)
{
    return judge_passing(comparison->mcnemar, alpha) == VERDICT_WORSE || judge_scores(comparison->wilcoxon, alpha) == VERDICT_WORSE;
}

static void print_verdict(FILE *out, const struct terminal *terminal, enum verdict verdict)
{
    static const struct {
        const char *words;
        enum terminal_style style;
    } verdicts[] = {{"no significant difference", TERMINAL_STRONG}, {"better", TERMINAL_GOOD}, {"worse", TERMINAL_BAD}};
    terminal_print(terminal, out, verdicts[verdict].style, verdicts[verdict].words, strlen(verdicts[verdict].words));
}

/* "p = 0.021 (McNemar, exact)" */
static void print_p_value(FILE *out, double p_value, const char *test, Forge__V1__PValueMethod method)
{
    bool is_exact = method == FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT;
    if (p_value < 0.001)
        fprintf(out, "p < 0.001");
    else
        fprintf(out, "p = %.3f", p_value);
    fprintf(out, " (%s, %s)\n", test, is_exact ? "exact" : "normal approximation");
}

static void print_tests(FILE *out, const struct terminal *terminal, const Forge__V1__CompareEvaluationsResponse *comparison, double alpha)
{
    const Forge__V1__McNemarTest *mcnemar = comparison->mcnemar;
    const Forge__V1__WilcoxonTest *wilcoxon = comparison->wilcoxon;
    fprintf(out, "Passing            ");
    print_verdict(out, terminal, judge_passing(mcnemar, alpha));
    if (mcnemar && mcnemar->method != FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_UNSPECIFIED) {
        fprintf(out, ": %lld fixed, %lld broken, ", (long long)mcnemar->candidate_only_count, (long long)mcnemar->baseline_only_count);
        print_p_value(out, mcnemar->p_value, "McNemar", mcnemar->method);
    } else {
        fprintf(out, ": no item fares otherwise\n");
    }
    fprintf(out, "Scores             ");
    print_verdict(out, terminal, judge_scores(wilcoxon, alpha));
    if (wilcoxon && wilcoxon->method != FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_UNSPECIFIED) {
        fprintf(out, ": %lld differ, ", (long long)wilcoxon->sample_size);
        print_p_value(out, wilcoxon->p_value, "Wilcoxon", wilcoxon->method);
    } else {
        fprintf(out, ": no score differs\n");
    }
}

/* ---- items ---- */

static const char *score_text(struct forge_arena *arena, const Forge__V1__ItemComparison *item, Forge__V1__ItemChange missing, double score)
{
    const char *text = item->change == missing ? "" : forge_arena_printf(arena, "%.3f", score);
    return text ? text : "";
}

static void fill_row(const char **row, const struct terminal *terminal, struct forge_arena *arena, const Forge__V1__ItemComparison *item)
{
    unsigned change = (unsigned)item->change < CHANGES ? (unsigned)item->change : 0;
    const char *word = terminal_text(terminal, arena, changes[change].style, changes[change].name);
    row[0] = word ? word : "";
    row[1] = score_text(arena, item, FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_CANDIDATE, item->baseline_score);
    row[2] = score_text(arena, item, FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_BASELINE, item->candidate_score);
    row[3] = item->item_key;
}

static void print_items(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                        const Forge__V1__CompareEvaluationsResponse *comparison)
{
    static const char *const heads[] = {"CHANGE", "BASELINE", "CANDIDATE", "ITEM"};
    struct table table = {.columns = sizeof heads / sizeof heads[0]};
    if (!comparison->n_items)
        return;
    const char **head = table_add_row(&table);
    if (head)
        memcpy(head, heads, sizeof heads);
    for (size_t i = 0; i < comparison->n_items; i++) {
        const char **row = table_add_row(&table);
        if (row)
            fill_row(row, terminal, arena, comparison->items[i]);
    }
    fputc('\n', out);
    table_print(&table, out);
    table_free(&table);
}

/* ---- all of it ---- */

static void print_counts(FILE *out, const Forge__V1__CompareEvaluationsResponse *comparison)
{
    fprintf(out,
            "Fixed              %lld\nBroken             %lld\nStill passing      %lld\nStill failing      %lld\n"
            "Only in baseline   %lld\nOnly in candidate  %lld\nMean score         %+.3f\n",
            (long long)comparison->fixed_count, (long long)comparison->broken_count, (long long)comparison->still_passing_count,
            (long long)comparison->still_failing_count, (long long)comparison->only_baseline_count,
            (long long)comparison->only_candidate_count, comparison->mean_score_difference);
}

void view_comparison(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                     const Forge__V1__CompareEvaluationsResponse *comparison, double alpha)
{
    static const char warning[] = "Items of the same key have other contents in the two datasets: compare with care.";
    print_counts(out, comparison);
    print_tests(out, terminal, comparison, alpha);
    if (comparison->dataset_differs) {
        terminal_print(terminal, out, TERMINAL_WARN, warning, sizeof warning - 1);
        fputc('\n', out);
    }
    print_items(out, terminal, arena, comparison);
}
