#include "view.h"

enum { LABEL_WIDTH = 5, TAIL_WIDTH = 26, GAPS = 4, BAR_MIN = 5 };

/* What is left of a line beside its label and its numbers. */
static unsigned bar_width(const struct terminal *terminal)
{
    unsigned beside = LABEL_WIDTH + TAIL_WIDTH + GAPS;
    if (terminal->columns < beside + BAR_MIN)
        return BAR_MIN;
    return terminal->columns - beside < TERMINAL_BAR_MAX ? terminal->columns - beside : TERMINAL_BAR_MAX;
}

static void print_success(FILE *out, const struct terminal *terminal, const Forge__V1__PromptVersionStats *stats)
{
    if (stats->version)
        fprintf(out, "%-*d  ", LABEL_WIDTH, (int)stats->version);
    else
        fprintf(out, "%-*s  ", LABEL_WIDTH, "all");
    terminal_print_bar(terminal, out, TERMINAL_GOOD, stats->success_rate, bar_width(terminal));
    fprintf(out, "  %3.0f%%  %lld of %lld\n", stats->success_rate * 100, (long long)stats->success_count,
            (long long)stats->execution_count);
}

static void print_ratings(FILE *out, const struct terminal *terminal, const Forge__V1__PromptVersionStats *total)
{
    for (size_t rating = total->n_rating_counts; rating-- > 0;) {
        double share = total->rated_count ? (double)total->rating_counts[rating] / (double)total->rated_count : 0;
        fprintf(out, "%-*zu  ", LABEL_WIDTH, rating + 1);
        terminal_print_bar(terminal, out, TERMINAL_PLACE, share, bar_width(terminal));
        fprintf(out, "  %3.0f%%  %lld\n", share * 100, (long long)total->rating_counts[rating]);
    }
}

static void print_left_out(FILE *out, const Forge__V1__PromptVersionStats *total)
{
    if (total->archived_left_out_count)
        fprintf(out, "\nNot counted: %lld archived executions, of which only a part can be in this range.\n",
                (long long)total->archived_left_out_count);
}

static void print_bars(FILE *out, const struct terminal *terminal, const Forge__V1__PromptStats *stats)
{
    const Forge__V1__PromptVersionStats *total = stats->total;
    if (!total->execution_count)
        return;
    fprintf(out, "\nSuccesses by version\n");
    for (size_t i = 0; i < stats->n_versions; i++)
        print_success(out, terminal, stats->versions[i]);
    if (stats->n_versions != 1)
        print_success(out, terminal, total);
    if (!total->rated_count)
        return;
    fprintf(out, "\nRatings of all versions\n");
    print_ratings(out, terminal, total);
}

void view_stats(FILE *out, const struct terminal *terminal, const Forge__V1__PromptStats *stats)
{
    if (!stats->total)
        return;
    print_bars(out, terminal, stats);
    print_left_out(out, stats->total);
}
