/* Figures of traces over time and by group. */
#include "amount.h"
#include "output.h"
#include "view.h"
#include "view_text.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { COLUMNS = 10, DURATION = 8, GAP = 2, BAR_LEAST = 5, NS_PER_US = 1000 };

/* What the rows are divided by. */
struct shape {
    bool has_groups, has_times;
};

static int64_t start_of(const Forge__V1__TraceStatsBucket *bucket)
{
    return bucket && bucket->start_time ? bucket->start_time->seconds : 0;
}

/* One interval that is the whole range divides nothing. */
static struct shape shape_of(const Forge__V1__GetTraceStatsResponse *stats)
{
    struct shape shape = {false, false};
    for (size_t i = 0; i < stats->n_series; i++) {
        const Forge__V1__TraceStatsSeries *series = stats->series[i];
        shape.has_groups |= *series->model || series->prompt;
        for (size_t j = 0; j < series->n_buckets; j++)
            shape.has_times |= j > 0 || start_of(series->buckets[j]) != start_of(series->total);
    }
    return shape;
}

/* ---- texts ---- */

static const char *group_text(struct forge_arena *arena, const Forge__V1__TraceStatsSeries *series)
{
    return series->prompt ? view_text_prompt(arena, series->prompt) : view_text_line(arena, series->model);
}

static const char *start_text(struct forge_arena *arena, const Forge__V1__TraceStatsBucket *bucket)
{
    time_t seconds = (time_t)start_of(bucket);
    struct tm parts;
    char text[32];
    if (!gmtime_r(&seconds, &parts) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts))
        return "";
    const char *copy = forge_arena_strdup(arena, text);
    return copy ? copy : "";
}

static const char *number_text(struct forge_arena *arena, int64_t number)
{
    const char *text = forge_arena_printf(arena, "%" PRId64, number);
    return text ? text : "";
}

static const char *duration_text(struct forge_arena *arena, int64_t us)
{
    char text[AMOUNT_SIZE];
    amount_duration(us * NS_PER_US, text);
    const char *copy = forge_arena_strdup(arena, text);
    return copy ? copy : "";
}

static const char *cost_text(struct forge_arena *arena, int64_t micros)
{
    char text[AMOUNT_SIZE];
    amount_cost(micros, text);
    const char *copy = forge_arena_strdup(arena, text);
    return copy ? copy : "";
}

/* "helpfulness 0.91 of 12, correct 1 of 3" */
static const char *scores_text(struct forge_arena *arena, const Forge__V1__TraceStatsBucket *bucket)
{
    const char *text = "";
    for (size_t i = 0; text && i < bucket->n_scores; i++) {
        const Forge__V1__ScoreAverage *score = bucket->scores[i];
        text = forge_arena_printf(arena, "%s%s%s %.3g of %" PRId64, text, i ? ", " : "", view_text_line(arena, score->name), score->average,
                                  score->count);
    }
    return text ? text : "";
}

/* ---- the table ---- */

static void add_row(struct table *table, struct forge_arena *arena, struct shape shape, const char *group, const char *start,
                    const Forge__V1__TraceStatsBucket *bucket)
{
    const char **cell = table_add_row(table);
    if (!cell)
        return;
    if (shape.has_groups)
        *cell++ = group;
    if (shape.has_times)
        *cell++ = start;
    *cell++ = number_text(arena, bucket->count);
    *cell++ = number_text(arena, bucket->error_count);
    *cell++ = duration_text(arena, bucket->duration_p50_us);
    *cell++ = duration_text(arena, bucket->duration_p95_us);
    *cell++ = duration_text(arena, bucket->duration_p99_us);
    *cell++ = number_text(arena, amount_tokens(bucket->usage));
    *cell++ = cost_text(arena, bucket->cost_micros);
    *cell++ = scores_text(arena, bucket);
}

static void add_head(struct table *table, struct shape shape)
{
    static const char *const titles[COLUMNS] = {"GROUP", "START", "COUNT", "ERRORS", "P50", "P95", "P99", "TOKENS", "COST", "SCORES"};
    const char **cell = table_add_row(table);
    for (size_t i = 0; cell && i < COLUMNS; i++)
        if ((i > 0 || shape.has_groups) && (i != 1 || shape.has_times))
            *cell++ = titles[i];
}

static void print_table(FILE *out, struct forge_arena *arena, struct shape shape, const Forge__V1__GetTraceStatsResponse *stats)
{
    struct table table = {.columns = COLUMNS - !shape.has_groups - !shape.has_times};
    add_head(&table, shape);
    for (size_t i = 0; i < stats->n_series; i++) {
        const Forge__V1__TraceStatsSeries *series = stats->series[i];
        const char *group = group_text(arena, series);
        for (size_t j = 0; shape.has_times && j < series->n_buckets; j++)
            add_row(&table, arena, shape, group, start_text(arena, series->buckets[j]), series->buckets[j]);
        if (series->total)
            add_row(&table, arena, shape, group, "all", series->total);
    }
    table_print(&table, out);
    table_free(&table);
}

/* ---- bars ---- */

struct bars {
    const char **labels; /* NULL: only counted and measured */
    int64_t *values;
    size_t count, label_width;
    int64_t greatest;
};

static void add_bar(struct bars *bars, struct forge_arena *arena, struct shape shape, const Forge__V1__TraceStatsSeries *series,
                    const Forge__V1__TraceStatsBucket *bucket)
{
    const char *group = shape.has_groups ? group_text(arena, series) : "", *start = shape.has_times ? start_text(arena, bucket) : "";
    const char *label = forge_arena_printf(arena, "%s%s%s", group, *group && *start ? "  " : "", start);
    bars->labels[bars->count] = label ? label : "";
    bars->values[bars->count++] = bucket->duration_p95_us;
    size_t width = label ? text_width(label) : 0;
    bars->label_width = width > bars->label_width ? width : bars->label_width;
    bars->greatest = bucket->duration_p95_us > bars->greatest ? bucket->duration_p95_us : bars->greatest;
}

/* A bar for each interval, or without intervals for each group. False without memory. */
static bool collect(struct bars *bars, struct forge_arena *arena, struct shape shape, const Forge__V1__GetTraceStatsResponse *stats)
{
    size_t most = stats->n_series;
    for (size_t i = 0; i < stats->n_series; i++)
        most += stats->series[i]->n_buckets;
    bars->labels = forge_arena_calloc(arena, most + 1, sizeof(*bars->labels));
    bars->values = forge_arena_calloc(arena, most + 1, sizeof(*bars->values));
    if (!bars->labels || !bars->values)
        return false;
    for (size_t i = 0; i < stats->n_series; i++) {
        const Forge__V1__TraceStatsSeries *series = stats->series[i];
        for (size_t j = 0; shape.has_times && j < series->n_buckets; j++)
            add_bar(bars, arena, shape, series, series->buckets[j]);
        if (!shape.has_times && series->total)
            add_bar(bars, arena, shape, series, series->total);
    }
    return true;
}

static unsigned bar_width(const struct terminal *terminal, const struct bars *bars)
{
    size_t beside = bars->label_width + GAP + GAP + DURATION;
    if (terminal->columns < beside + BAR_LEAST)
        return BAR_LEAST;
    return terminal->columns - beside < TERMINAL_BAR_MAX ? (unsigned)(terminal->columns - beside) : TERMINAL_BAR_MAX;
}

void view_trace_stats(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const Forge__V1__GetTraceStatsResponse *stats)
{
    struct shape shape = shape_of(stats);
    struct bars bars = {.count = 0};
    print_table(out, arena, shape, stats);
    if (!collect(&bars, arena, shape, stats) || bars.count < 2 || bars.greatest == 0)
        return;
    fprintf(out, "\n95th percentile of duration\n");
    for (size_t i = 0; i < bars.count; i++) {
        char duration[AMOUNT_SIZE];
        amount_duration(bars.values[i] * NS_PER_US, duration);
        fprintf(out, "%s%*s", bars.labels[i], (int)(bars.label_width - text_width(bars.labels[i]) + GAP), "");
        terminal_print_bar(terminal, out, TERMINAL_PLACE, (double)bars.values[i] / (double)bars.greatest, bar_width(terminal, &bars));
        fprintf(out, "%*s%*s\n", GAP, "", DURATION, duration);
    }
}
