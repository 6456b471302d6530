/* A trace: its figures, and its spans as a waterfall. */
#include "amount.h"
#include "output.h"
#include "view.h"
#include "view_text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum {
    INDENT = 2,   /* columns of a level */
    DURATION = 8, /* columns: amount_duration */
    GAP = 2,      /* between columns */
    LABEL_LEAST = 12,
    LABEL_ENOUGH = 24, /* what bars leave to names where they need it and there is room for both */
    LABEL_CUT = 16,    /* ... and else */
    NAME_LEAST = 8,    /* a name that would get less takes the place of the kind */
    BAR_LEAST = 10,
    TOKENS_TITLE = sizeof "TOKENS" - 1,
    COST_TITLE = sizeof "COST" - 1
};

static const int64_t second_ns = 1000000000, millisecond_ns = 1000000;

/* ---- words ---- */

static const char *const kinds[] = {"?", "llm", "agent", "tool", "chain", "retriever", "embedding", "evaluator", "guardrail"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };
static const char *const statuses[] = {"", "ok", "error"};
enum { STATUSES = sizeof statuses / sizeof statuses[0] };
static const char *const sources[] = {"?", "human", "code", "model"};
enum { SOURCES = sizeof sources / sizeof sources[0] };

/* A later server may know more. */
static const char *word(const char *const *words, size_t count, int number)
{
    return number >= 0 && (size_t)number < count ? words[number] : "?";
}

static const char *placement_word(Forge__V1__SpanPlacement placement)
{
    return placement == FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ORPHAN  ? " orphan"
           : placement == FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CYCLE ? " cycle"
                                                                          : "";
}

static const char *policy_word(Forge__V1__PolicyAction action)
{
    return action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG    ? " flagged"
           : action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK  ? " masked"
           : action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK ? " blocked"
                                                                     : "";
}

static bool has_error(const Forge__V1__Span *span)
{
    return span->status == FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR;
}

static const char *value_text(struct forge_arena *arena, const Forge__V1__Score *score)
{
    switch (score->value_case) {
    case FORGE__V1__SCORE__VALUE_NUMBER:
        return forge_arena_printf(arena, "%g", score->number);
    case FORGE__V1__SCORE__VALUE_CATEGORY:
        return view_text_line(arena, score->category);
    case FORGE__V1__SCORE__VALUE_BOOLEAN:
        return score->boolean ? "yes" : "no";
    case FORGE__V1__SCORE__VALUE_TEXT:
        return forge_arena_printf(arena, "\"%s\"", view_text_line(arena, score->text));
    case FORGE__V1__SCORE__VALUE__NOT_SET:
    case _FORGE__V1__SCORE__VALUE__CASE_IS_INT_SIZE:
        break;
    }
    return "?";
}

/* "helpfulness 0.9 (model judge-v3)" */
static const char *score_text(struct forge_arena *arena, const Forge__V1__Score *score)
{
    const char *value = value_text(arena, score);
    const char *text = forge_arena_printf(arena, "%s %s (%s %s)", view_text_line(arena, score->name), value ? value : "",
                                          word(sources, SOURCES, (int)score->source), view_text_line(arena, score->author));
    return text ? text : "";
}

/* ---- figures of the trace ---- */

static void add_row(struct table *table, const char *title, const char *text)
{
    const char **row = text && *text ? table_add_row(table) : NULL;
    if (row) {
        row[0] = title;
        row[1] = text;
    }
}

static const char *time_text(struct forge_arena *arena, int64_t ns)
{
    time_t seconds = (time_t)(ns / second_ns);
    struct tm parts;
    char text[32];
    if (!gmtime_r(&seconds, &parts) || !strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts))
        return "";
    return forge_arena_printf(arena, "%s.%03dZ", text, (int)(ns % second_ns / millisecond_ns));
}

static const char *usage_text(struct forge_arena *arena, const Forge__V1__TokenUsage *usage)
{
    const struct {
        const char *name;
        int64_t tokens;
    } parts[] = {{"input", usage->input_tokens},
                 {"cache read", usage->cache_read_tokens},
                 {"cache write", usage->cache_write_tokens},
                 {"output", usage->output_tokens},
                 {"reasoning", usage->reasoning_tokens}};
    const char *text = forge_arena_printf(arena, "%" PRId64, amount_tokens(usage)), *separator = ": ";
    for (size_t i = 0; text && i < sizeof parts / sizeof parts[0]; i++) {
        if (!parts[i].tokens)
            continue;
        text = forge_arena_printf(arena, "%s%s%s %" PRId64, text, separator, parts[i].name, parts[i].tokens);
        separator = ", ";
    }
    return text;
}

static const char *models_text(struct forge_arena *arena, const Forge__V1__Trace *trace)
{
    const char *text = "";
    for (size_t i = 0; text && i < trace->n_models; i++)
        text = forge_arena_printf(arena, "%s%s%s", text, i ? ", " : "", view_text_line(arena, trace->models[i]));
    return text;
}

static const char *spans_text(struct forge_arena *arena, const Forge__V1__Trace *trace)
{
    if (!trace->error_count)
        return forge_arena_printf(arena, "%" PRId64, trace->span_count);
    return forge_arena_printf(arena, "%" PRId64 ", %" PRId64 " with an error", trace->span_count, trace->error_count);
}

static void add_figures(struct table *table, const struct terminal *terminal, struct forge_arena *arena, const Forge__V1__Trace *trace)
{
    bool is_error = trace->status == FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR;
    const char *status = word(statuses, STATUSES, (int)trace->status);
    char duration[AMOUNT_SIZE], cost[AMOUNT_SIZE];
    amount_duration(trace->duration_ns, duration);
    amount_cost(trace->cost_micros, cost);
    add_row(table, "Trace", view_text_line(arena, trace->trace_id));
    add_row(table, "Name", view_text_line(arena, trace->name));
    add_row(table, "Status", is_error ? terminal_text(terminal, arena, TERMINAL_BAD, status) : status);
    add_row(table, "Start", time_text(arena, trace->start_ns));
    add_row(table, "Duration", forge_arena_strdup(arena, duration));
    add_row(table, "Spans", spans_text(arena, trace));
    if (amount_tokens(trace->usage))
        add_row(table, "Tokens", usage_text(arena, trace->usage));
    if (trace->cost_micros)
        add_row(table, "Cost", forge_arena_strdup(arena, cost));
    add_row(table, "Session", view_text_line(arena, trace->session_id));
    add_row(table, "User", view_text_line(arena, trace->user_id));
    add_row(table, "Models", models_text(arena, trace));
    for (size_t i = 0; i < trace->n_prompts; i++)
        add_row(table, "Prompt", view_text_prompt(arena, trace->prompts[i]));
}

void view_trace(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const Forge__V1__Trace *trace,
                Forge__V1__Score *const *scores, size_t score_count)
{
    struct table table = {.columns = 2};
    add_figures(&table, terminal, arena, trace);
    for (size_t i = 0; i < score_count; i++)
        add_row(&table, "Score", score_text(arena, scores[i]));
    table_print(&table, out);
    table_free(&table);
}

/* ---- the columns of a waterfall ---- */

/* A level is shown until half of the label is used up. */
static unsigned indent_of(const struct view_waterfall *waterfall, const Forge__V1__SpanNode *node)
{
    unsigned depth = node->depth > 0 ? (unsigned)node->depth : 0, most = waterfall->label / INDENT / 2;
    return INDENT * (depth < most ? depth : most);
}

/* " (llm)" */
static unsigned kind_width(const Forge__V1__Span *span)
{
    return (unsigned)(strlen(" ()") + strlen(word(kinds, KINDS, (int)span->kind)));
}

/* Of the marks behind the name, which are never cut off. */
static unsigned marks_width(const Forge__V1__SpanNode *node)
{
    return (unsigned)(strlen(placement_word(node->placement)) + strlen(policy_word(node->span->policy_action)));
}

static unsigned longest_label(const Forge__V1__GetTraceResponse *page)
{
    unsigned longest = LABEL_LEAST;
    for (size_t i = 0; i < page->n_spans; i++) {
        const Forge__V1__SpanNode *node = page->spans[i];
        unsigned depth = node->depth > 0 ? (unsigned)node->depth : 0;
        unsigned width = INDENT * depth + (unsigned)text_width(node->span->name) + kind_width(node->span) + marks_width(node);
        longest = width > longest ? width : longest;
    }
    return longest;
}

static unsigned figures_width(const struct view_waterfall *waterfall)
{
    return GAP + DURATION + (waterfall->tokens ? GAP + waterfall->tokens : 0) + (waterfall->cost ? GAP + waterfall->cost : 0);
}

static unsigned left_beside_figures(const struct view_waterfall *waterfall)
{
    unsigned figures = figures_width(waterfall);
    return waterfall->columns > figures ? waterfall->columns - figures : 0;
}

/* On a narrow terminal first names are cut, then bars go, then cost and tokens. */
static void divide(struct view_waterfall *waterfall, unsigned longest)
{
    if (left_beside_figures(waterfall) < LABEL_LEAST)
        waterfall->cost = 0;
    if (left_beside_figures(waterfall) < LABEL_LEAST)
        waterfall->tokens = 0;
    unsigned left = left_beside_figures(waterfall), two_fifths = left * 2 / 5;
    unsigned most = two_fifths > LABEL_ENOUGH ? two_fifths : LABEL_ENOUGH;
    if (left >= LABEL_CUT + GAP + BAR_LEAST && left < most + GAP + BAR_LEAST)
        most = left - GAP - BAR_LEAST;
    waterfall->label = longest < most ? longest : most;
    if (left >= waterfall->label + GAP + BAR_LEAST) {
        waterfall->bar = left - waterfall->label - GAP;
        return;
    }
    waterfall->bar = 0;
    waterfall->label = longest < left ? longest : left < LABEL_LEAST ? LABEL_LEAST : left;
}

static unsigned widest(unsigned title, const char *figure)
{
    unsigned width = (unsigned)strlen(figure);
    return width > title ? width : title;
}

static void print_axis(FILE *out, const struct view_waterfall *waterfall)
{
    char duration[AMOUNT_SIZE];
    if (!waterfall->bar)
        return;
    amount_duration(waterfall->duration_ns, duration);
    fprintf(out, "%*s%-*s%s", GAP, "", (int)(waterfall->bar - strlen(duration)), "0", duration);
}

static void print_figure(FILE *out, unsigned width, const char *text)
{
    if (width)
        fprintf(out, "%*s%*s", GAP, "", (int)width, text);
}

void view_waterfall_begin(FILE *out, const struct terminal *terminal, const Forge__V1__GetTraceResponse *first_page, bool is_full,
                          struct view_waterfall *waterfall)
{
    const Forge__V1__Trace *trace = first_page->trace;
    char tokens[AMOUNT_SIZE], cost[AMOUNT_SIZE];
    snprintf(tokens, sizeof tokens, "%" PRId64, amount_tokens(trace->usage));
    amount_cost(trace->cost_micros, cost);
    *waterfall = (struct view_waterfall){.start_ns = trace->start_ns,
                                         .duration_ns = trace->duration_ns,
                                         .columns = terminal->columns,
                                         .tokens = amount_tokens(trace->usage) ? widest(TOKENS_TITLE, tokens) : 0,
                                         .cost = trace->cost_micros ? widest(COST_TITLE, cost) : 0,
                                         .is_full = is_full};
    divide(waterfall, longest_label(first_page));
    fprintf(out, "\n%-*s", (int)waterfall->label, "SPAN");
    print_axis(out, waterfall);
    print_figure(out, DURATION, "DURATION");
    print_figure(out, waterfall->tokens, "TOKENS");
    print_figure(out, waterfall->cost, "COST");
    fputc('\n', out);
}

/* ---- a span ---- */

/* The text, cut where it would take more columns than there are. The columns it takes. */
static unsigned print_cut(FILE *out, const struct terminal *terminal, enum terminal_style style, const char *text, unsigned columns)
{
    const char *dots = terminal->has_blocks ? "…" : "...";
    unsigned dots_width = (unsigned)text_width(dots);
    size_t used, length = text_fit(text, columns, &used);
    if (!text[length] || columns < dots_width) {
        terminal_print(terminal, out, style, text, length);
        return (unsigned)used;
    }
    length = text_fit(text, columns - dots_width, &used);
    terminal_print(terminal, out, style, text, length);
    fputs(dots, out);
    return (unsigned)used + dots_width;
}

static void print_label(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const struct view_waterfall *waterfall,
                        const Forge__V1__SpanNode *node)
{
    const Forge__V1__Span *span = node->span;
    const char *name = view_text_line(arena, span->name), *marks[] = {placement_word(node->placement), policy_word(span->policy_action)};
    unsigned indent = indent_of(waterfall, node), beside = indent + marks_width(node), kind = kind_width(span);
    unsigned left = waterfall->label > beside ? waterfall->label - beside : 0;
    bool has_kind = left >= kind + NAME_LEAST || left >= kind + text_width(name);
    fprintf(out, "%*s", (int)indent, "");
    unsigned used =
        beside + print_cut(out, terminal, has_error(span) ? TERMINAL_BAD : TERMINAL_STRONG, name, has_kind ? left - kind : left);
    if (has_kind)
        used += (unsigned)fprintf(out, " (%s)", word(kinds, KINDS, (int)span->kind));
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        terminal_print(terminal, out, TERMINAL_WARN, marks[i], strlen(marks[i]));
    if (used < waterfall->label)
        fprintf(out, "%*s", (int)(waterfall->label - used), "");
}

static void print_bar(FILE *out, const struct terminal *terminal, const struct view_waterfall *waterfall, const Forge__V1__Span *span)
{
    double whole = waterfall->duration_ns > 0 ? (double)waterfall->duration_ns : 1;
    double from = (double)(span->start_ns - waterfall->start_ns) / whole, to = (double)(span->end_ns - waterfall->start_ns) / whole;
    if (!waterfall->bar)
        return;
    fprintf(out, "%*s", GAP, "");
    terminal_print_interval(terminal, out, has_error(span) ? TERMINAL_BAD : TERMINAL_PLACE, from, to, waterfall->bar);
}

static void print_figures(FILE *out, const struct view_waterfall *waterfall, const Forge__V1__Span *span)
{
    char duration[AMOUNT_SIZE], tokens[AMOUNT_SIZE] = "", cost[AMOUNT_SIZE] = "";
    amount_duration(span->end_ns - span->start_ns, duration);
    if (amount_tokens(span->usage))
        snprintf(tokens, sizeof tokens, "%" PRId64, amount_tokens(span->usage));
    if (span->cost_micros)
        amount_cost(span->cost_micros->value, cost);
    print_figure(out, DURATION, duration);
    if (*tokens || *cost)
        print_figure(out, waterfall->tokens, tokens);
    if (*cost)
        print_figure(out, waterfall->cost, cost);
    fputc('\n', out);
}

/* A line below a span, cut to the terminal's width unless all is wanted. */
static void print_note(FILE *out, const struct terminal *terminal, const struct view_waterfall *waterfall, unsigned indent,
                       enum terminal_style style, const char *sign, const char *text)
{
    unsigned before = indent + INDENT + (unsigned)strlen(sign);
    unsigned left = waterfall->columns > before ? waterfall->columns - before : 1;
    fprintf(out, "%*s%s", (int)(indent + INDENT), "", sign);
    print_cut(out, terminal, style, text, waterfall->is_full ? (unsigned)text_width(text) : left);
    fputc('\n', out);
}

/* Line by line; a line break at the end begins no line. */
static void print_content(FILE *out, struct forge_arena *arena, unsigned indent, const char *title, const char *text)
{
    if (!*text)
        return;
    fprintf(out, "%*s%s\n", (int)(indent + INDENT), "", title);
    do {
        size_t length = strcspn(text, "\n");
        const char *line = view_text_visible(arena, text, length);
        fprintf(out, "%*s%s\n", (int)(indent + 2 * INDENT), "", line);
        text += length + (text[length] == '\n');
    } while (*text);
}

void view_waterfall_span(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const struct view_waterfall *waterfall,
                         const Forge__V1__SpanNode *node, Forge__V1__Score *const *scores, size_t score_count)
{
    const Forge__V1__Span *span = node->span;
    unsigned indent = indent_of(waterfall, node);
    print_label(out, terminal, arena, waterfall, node);
    print_bar(out, terminal, waterfall, span);
    print_figures(out, waterfall, span);
    if (has_error(span))
        print_note(out, terminal, waterfall, indent, TERMINAL_BAD, "! ",
                   *span->status_message ? view_text_line(arena, span->status_message) : "error");
    for (size_t i = 0; i < score_count; i++)
        print_note(out, terminal, waterfall, indent, TERMINAL_PLAIN, "= ", score_text(arena, scores[i]));
    if (!waterfall->is_full)
        return;
    print_content(out, arena, indent, "input", span->input);
    print_content(out, arena, indent, "output", span->output);
}
