/* What forgectl prints of traces: amounts, safe texts, waterfalls and statistics, wide and narrow, with and without colour. */
#include "amount.h"
#include "duration.h"
#include "output.h"
#include "view.h"
#include "view_text.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <google/protobuf/wrappers.pb-c.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RED "\033[31m"
#define CYAN "\033[36m"
#define YELLOW "\033[33m"
#define BOLD "\033[1m"
#define OFF "\033[0m"

static const struct terminal plain = {.has_blocks = true, .columns = 80}, coloured = {true, true, 60}, ascii = {.columns = 80};

static const int64_t second = 1000000000, millisecond = 1000000;

/* ---- amounts ---- */

static void test_durations_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"0s", 0},
                {"1h30m", INT64_C(5400000000000)},
                {"-2h", INT64_C(-7200000000000)},
                {"4.2s", INT64_C(4200000000)},
                {"0.5ms", 500000},
                {"250ms", 250000000},
                {"12us7ns", 12007},
                {"1.0000000019s", 1000000001},
                {"106751d", INT64_C(9223286400000000000)}};
    static const char *const bad[] = {
        "", "-", "1", "1x", "h", "1.s", ".5s", "1h 30m", "1h-30m", "+1h", "1S", "106752d", "99999999999999999999s"};
    int64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(duration_parse(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (duration_parse(bad[i], &ns))
            fail_msg("\"%s\" is %lld", bad[i], (long long)ns);
}

static void test_durations_are_written(void **state)
{
    static const struct {
        int64_t ns;
        const char *expected;
    } cases[] = {{0, "0 ns"},
                 {999, "999 ns"},
                 {1000, "1.00 us"},
                 {9994, "9.99 us"},
                 {9996, "10.0 us"},
                 {99960, "100 us"},
                 {999499, "999 us"},
                 {999500, "1.00 ms"},
                 {INT64_C(1234000000), "1.23 s"},
                 {INT64_C(99949000000), "99.9 s"},
                 {INT64_C(99960000000), "1m39s"},
                 {INT64_C(125000000000), "2m05s"},
                 {INT64_C(3599999000000), "59m59s"},
                 {INT64_C(12000000000000), "3h20m"},
                 {INT64_C(349200000000000), "4d01h"}};
    char text[AMOUNT_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        amount_duration(cases[i].ns, text);
        assert_string_equal(text, cases[i].expected);
    }
}

static void test_costs_are_exact(void **state)
{
    char text[AMOUNT_SIZE];
    amount_cost(1, text);
    assert_string_equal(text, "$0.000001");
    amount_cost(INT64_C(12345678), text);
    assert_string_equal(text, "$12.345678");
}

/* ---- texts ---- */

static void test_texts_cannot_drive_the_terminal(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"plain é 漢 🙂", "plain é 漢 🙂"},
        {"a\nb\tc\r", "a\\nb\\tc\\r"},
        {"\033[31mred", "\\x1b[31mred"},
        {"\xc2\x9b"
         "2J",
         "\\u009b2J"},
        {"safe\xe2\x80\xae"
         "txet\xe2\x81\xa9.",
         "safe\\u202etxet\\u2069."},
        {"\x7f\x01", "\\x7f\\x01"},
        {"cut \xe2\x80", "cut \xe2\x80"},
    };
    struct forge_arena arena;
    forge_arena_init(&arena, 4096, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(view_text_line(&arena, cases[i][0]), cases[i][1]);
    assert_string_equal(view_text_visible(&arena, "ab\ncd", 3), "ab\\n");
    forge_arena_done(&arena);
}

static void test_texts_are_fitted(void **state)
{
    static const struct {
        const char *text;
        size_t columns, bytes, used;
    } cases[] = {{"abc", 2, 2, 2}, {"abc", 9, 3, 3}, {"漢字", 3, 3, 2}, {"漢字", 4, 6, 4}, {"éa", 1, 2, 1}, {"", 4, 0, 0}, {"a", 0, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t used;
        assert_int_equal(text_fit(cases[i].text, cases[i].columns, &used), cases[i].bytes);
        assert_int_equal(used, cases[i].used);
    }
}

/* ---- intervals ---- */

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

static void test_intervals(void **state)
{
    static const struct {
        const struct terminal *terminal;
        double from, to;
        unsigned width;
        const char *expected;
    } cases[] = {
        {&plain, 0, 1, 4, "████"},   {&plain, 0.25, 0.5, 4, " █  "}, {&plain, 0.25, 0.51, 4, " ██ "},
        {&plain, 0, 0, 4, "█   "},   {&plain, 1, 1, 4, "   █"},      {&plain, 0.999, 0.999, 4, "   █"},
        {&ascii, 0.5, 7, 4, "  ##"}, {&ascii, -3, 0.5, 4, "##  "},   {&plain, 0.9, 0.1, 4, "   █"},
        {&plain, 0, 1, 0, ""},       {&ascii, 0.3, 0.6, 1, "#"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FILE *out = begin_text();
        terminal_print_interval(cases[i].terminal, out, TERMINAL_PLACE, cases[i].from, cases[i].to, cases[i].width);
        end_text(out, cases[i].expected);
    }
    FILE *out = begin_text();
    terminal_print_interval(&coloured, out, TERMINAL_BAD, 0.25, 0.75, 4);
    end_text(out, " " RED "██" OFF " ");
}

/* ---- a trace ---- */

enum { SPANS = 6 };

/* An agent that searches, asks a model which fails, and two spans whose places are not what they say. */
struct sample {
    Forge__V1__Trace trace;
    Forge__V1__TokenUsage usage, span_usage;
    Forge__V1__PromptUse prompt, *prompts[1];
    char *models[2];
    Forge__V1__Span spans[SPANS];
    Forge__V1__SpanNode nodes[SPANS], *node_pointers[SPANS];
    Google__Protobuf__Int64Value cost;
    Forge__V1__GetTraceResponse page;
    Forge__V1__Score number, category, flag, words, *scores[4];
};

static void set_span(struct sample *sample, size_t index, const char *name, Forge__V1__SpanKind kind, int32_t depth, int64_t start_ms,
                     int64_t end_ms)
{
    Forge__V1__Span *span = &sample->spans[index];
    forge__v1__span__init(span);
    forge__v1__span_node__init(&sample->nodes[index]);
    span->name = (char *)(uintptr_t)name;
    span->kind = kind;
    span->start_ns = sample->trace.start_ns + start_ms * millisecond;
    span->end_ns = sample->trace.start_ns + end_ms * millisecond;
    sample->nodes[index].span = span;
    sample->nodes[index].depth = depth;
    sample->nodes[index].placement =
        depth ? FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CHILD : FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ROOT;
    sample->node_pointers[index] = &sample->nodes[index];
}

static void set_score(struct sample *sample, size_t index, Forge__V1__Score *score, const char *name, const char *author)
{
    forge__v1__score__init(score);
    score->name = (char *)(uintptr_t)name;
    score->author = (char *)(uintptr_t)author;
    score->source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_MODEL;
    sample->scores[index] = score;
}

static void set_scores(struct sample *sample)
{
    static char good[] = "good", why[] = "two\nlines";
    set_score(sample, 0, &sample->number, "helpfulness", "judge-v3");
    sample->number.value_case = FORGE__V1__SCORE__VALUE_NUMBER;
    sample->number.number = 0.9;
    set_score(sample, 1, &sample->category, "tone", "judge-v3");
    sample->category.value_case = FORGE__V1__SCORE__VALUE_CATEGORY;
    sample->category.category = good;
    set_score(sample, 2, &sample->flag, "correct", "ada");
    sample->flag.value_case = FORGE__V1__SCORE__VALUE_BOOLEAN;
    sample->flag.boolean = true;
    sample->flag.source = FORGE__V1__SCORE_SOURCE__SCORE_SOURCE_HUMAN;
    set_score(sample, 3, &sample->words, "note", "ada");
    sample->words.value_case = FORGE__V1__SCORE__VALUE_TEXT;
    sample->words.text = why;
}

static void set_trace(struct sample *sample)
{
    static char trace_id[] = "0af7651916cd43dd8448eb211c80319c", name[] = "answer\033[2J", session[] = "s-1", user[] = "u-1",
                gpt[] = "gpt-4", claude[] = "claude-3-opus-20240229", prompt_id[] = "p", label[] = "live";
    forge__v1__trace__init(&sample->trace);
    forge__v1__token_usage__init(&sample->usage);
    forge__v1__prompt_use__init(&sample->prompt);
    sample->usage.input_tokens = 1000;
    sample->usage.cache_read_tokens = 100;
    sample->usage.output_tokens = 134;
    sample->prompt.prompt_id = prompt_id;
    sample->prompt.version = 3;
    sample->prompt.label = label;
    sample->prompts[0] = &sample->prompt;
    sample->models[0] = claude;
    sample->models[1] = gpt;
    sample->trace = (Forge__V1__Trace){.base = sample->trace.base,
                                       .trace_id = trace_id,
                                       .name = name,
                                       .project_id = trace_id,
                                       .root_span_id = trace_id,
                                       .input = sample->trace.input,
                                       .output = sample->trace.output,
                                       .status = FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR,
                                       .start_ns = INT64_C(1795867200123456789),
                                       .duration_ns = 4 * second,
                                       .span_count = SPANS,
                                       .error_count = 1,
                                       .usage = &sample->usage,
                                       .cost_micros = 12300,
                                       .session_id = session,
                                       .user_id = user,
                                       .models = sample->models,
                                       .n_models = 2,
                                       .prompts = sample->prompts,
                                       .n_prompts = 1};
}

static void make_sample(struct sample *sample)
{
    static char wrong[] = "overloaded:\ntry later", question[] = "What\tis it?\nTell \033[1mme\n", answer[] = "No idea";
    set_trace(sample);
    set_scores(sample);
    set_span(sample, 0, "answer\033[2J", FORGE__V1__SPAN_KIND__SPAN_KIND_AGENT, 0, 0, 4000);
    set_span(sample, 1, "search the articles of the help centre", FORGE__V1__SPAN_KIND__SPAN_KIND_RETRIEVER, 1, 100, 1000);
    set_span(sample, 2, "embed", FORGE__V1__SPAN_KIND__SPAN_KIND_EMBEDDING, 2, 110, 120);
    set_span(sample, 3, "draft", FORGE__V1__SPAN_KIND__SPAN_KIND_LLM, 1, 1000, 3990);
    set_span(sample, 4, "lost", FORGE__V1__SPAN_KIND__SPAN_KIND_TOOL, 1, 2000, 2000);
    set_span(sample, 5, "round", (Forge__V1__SpanKind)99, 1, 3000, 9000);
    forge__v1__token_usage__init(&sample->span_usage);
    sample->span_usage.input_tokens = 1234;
    google__protobuf__int64_value__init(&sample->cost);
    sample->cost.value = 12300;
    sample->spans[3].usage = &sample->span_usage;
    sample->spans[3].cost_micros = &sample->cost;
    sample->spans[3].status = FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR;
    sample->spans[3].status_message = wrong;
    sample->spans[3].input = question;
    sample->spans[3].output = answer;
    sample->spans[3].policy_action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK;
    sample->nodes[4].placement = FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ORPHAN;
    sample->nodes[5].placement = FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CYCLE;
    forge__v1__get_trace_response__init(&sample->page);
    sample->page.trace = &sample->trace;
    sample->page.spans = sample->node_pointers;
    sample->page.n_spans = SPANS;
}

static void test_trace_figures(void **state)
{
    struct sample sample;
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 16, NULL);
    make_sample(&sample);
    FILE *out = begin_text();
    view_trace(out, &plain, &arena, &sample.trace, sample.scores, 4);
    end_text(out, "Trace     0af7651916cd43dd8448eb211c80319c\n"
                  "Name      answer\\x1b[2J\n"
                  "Status    error\n"
                  "Start     2026-11-28 12:00:00.123Z\n"
                  "Duration  4.00 s\n"
                  "Spans     6, 1 with an error\n"
                  "Tokens    1234: input 1000, cache read 100, output 134\n"
                  "Cost      $0.012300\n"
                  "Session   s-1\n"
                  "User      u-1\n"
                  "Models    claude-3-opus-20240229, gpt-4\n"
                  "Prompt    p version 3 label live\n"
                  "Score     helpfulness 0.9 (model judge-v3)\n"
                  "Score     tone good (model judge-v3)\n"
                  "Score     correct yes (human ada)\n"
                  "Score     note \"two\\nlines\" (model ada)\n");
    forge__v1__trace__init(&sample.trace);
    sample.trace.span_count = 1;
    out = begin_text();
    view_trace(out, &coloured, &arena, &sample.trace, NULL, 0);
    end_text(out, "Start     1970-01-01 00:00:00.000Z\nDuration  0 ns\nSpans     1\n");
    forge_arena_done(&arena);
}

/* Prints the head and all spans, the fourth with two scores, and compares. */
static void expect_waterfall(const struct terminal *terminal, struct sample *sample, bool is_full, const char *expected)
{
    struct forge_arena arena;
    struct view_waterfall waterfall;
    forge_arena_init(&arena, 1 << 16, NULL);
    FILE *out = begin_text();
    view_waterfall_begin(out, terminal, &sample->page, is_full, &waterfall);
    for (size_t i = 0; i < sample->page.n_spans; i++)
        view_waterfall_span(out, terminal, &arena, &waterfall, sample->page.spans[i], sample->scores, i == 3 ? 2 : 0);
    end_text(out, expected);
    forge_arena_done(&arena);
}

static void test_waterfall(void **state)
{
    static const struct terminal wide = {.has_blocks = true, .columns = 120};
    struct sample sample;
    make_sample(&sample);
    expect_waterfall(
        &wide, &sample, false,
        "\n"
        "SPAN                                  0                                              4.00 s  DURATION  TOKENS       COST\n"
        "answer\\x1b[2J (agent)                 █████████████████████████████████████████████████████    4.00 s\n"
        "  search the articles o… (retriever)   █████████████                                           900 ms\n"
        "    embed (embedding)                  █                                                      10.0 ms\n"
        "  draft (llm) masked                               ████████████████████████████████████████    2.99 s    1234  $0.012300\n"
        "    ! overloaded:\\ntry later\n"
        "    = helpfulness 0.9 (model judge-v3)\n"
        "    = tone good (model judge-v3)\n"
        "  lost (tool) orphan                                            █                                0 ns\n"
        "  round (?) cycle                                                            ██████████████    6.00 s\n");
}

static void test_waterfall_on_less(void **state)
{
    static const struct terminal small = {.columns = 66}, smaller = {.columns = 50}, tiny = {.columns = 24}, one = {.columns = 1};
    struct sample sample;
    make_sample(&sample);
    expect_waterfall(&small, &sample, false,
                     "\n"
                     "SPAN                      0    4.00 s  DURATION  TOKENS       COST\n"
                     "answer\\x1b[2J (agent)     ###########    4.00 s\n"
                     "  search ... (retriever)  ###            900 ms\n"
                     "    embed (embedding)     #             10.0 ms\n"
                     "  draft (llm) masked        #########    2.99 s    1234  $0.012300\n"
                     "    ! overloaded:\\ntry later\n"
                     "    = helpfulness 0.9 (model judge-v3)\n"
                     "    = tone good (model judge-v3)\n"
                     "  lost (tool) orphan           #           0 ns\n"
                     "  round (?) cycle                 ###    6.00 s\n");
    expect_waterfall(&smaller, &sample, false,
                     "\n"
                     "SPAN                   DURATION  TOKENS       COST\n"
                     "answer\\x1b[2J (agent)    4.00 s\n"
                     "  search the artic...    900 ms\n"
                     "    embed (embedding)   10.0 ms\n"
                     "  draft (llm) masked     2.99 s    1234  $0.012300\n"
                     "    ! overloaded:\\ntry later\n"
                     "    = helpfulness 0.9 (model judge-v3)\n"
                     "    = tone good (model judge-v3)\n"
                     "  lost (tool) orphan       0 ns\n"
                     "  round (?) cycle        6.00 s\n");
    expect_waterfall(&tiny, &sample, false,
                     "\n"
                     "SPAN            DURATION\n"
                     "answer\\x1b[2J     4.00 s\n"
                     "  search th...    900 ms\n"
                     "    embed        10.0 ms\n"
                     "  draft masked    2.99 s\n"
                     "    ! overloaded:\\ntr...\n"
                     "    = helpfulness 0.9...\n"
                     "    = tone good (mode...\n"
                     "  lost orphan       0 ns\n"
                     "  round cycle     6.00 s\n");
    expect_waterfall(&one, &sample, false,
                     "\n"
                     "SPAN          DURATION\n"
                     "answer\\x1...    4.00 s\n"
                     "  search ...    900 ms\n"
                     "    embed      10.0 ms\n"
                     "  ... masked    2.99 s\n"
                     "    ! o\n"
                     "    = h\n"
                     "    = t\n"
                     "  ... orphan      0 ns\n"
                     "  r... cycle    6.00 s\n");
}

static void test_waterfall_in_colour(void **state)
{
    struct sample sample;
    make_sample(&sample);
    sample.page.n_spans = 5;
    expect_waterfall(&coloured, &sample, false,
                     "\n"
                     "SPAN                 0   4.00 s  DURATION  TOKENS       COST\n" BOLD "answer\\x1b" OFF "… (agent)  " CYAN
                     "██████████" OFF "    4.00 s\n"
                     "  " BOLD "search the artic" OFF "…  " CYAN "███" OFF "           900 ms\n"
                     "    " BOLD "embed" OFF "            " CYAN "█" OFF "            10.0 ms\n"
                     "  " RED "draft" OFF YELLOW " masked" OFF "         " RED "████████" OFF "    2.99 s    1234  $0.012300\n"
                     "    ! " RED "overloaded:\\ntry later" OFF "\n"
                     "    = helpfulness 0.9 (model judge-v3)\n"
                     "    = tone good (model judge-v3)\n"
                     "  " BOLD "lost" OFF YELLOW " orphan" OFF "             " CYAN "█" OFF "          0 ns\n");
}

static void test_waterfall_in_full(void **state)
{
    static const struct terminal small = {.columns = 46};
    struct sample sample;
    make_sample(&sample);
    sample.page.n_spans = 4;
    expect_waterfall(&small, &sample, true,
                     "\n"
                     "SPAN               DURATION  TOKENS       COST\n"
                     "answer... (agent)    4.00 s\n"
                     "  search the a...    900 ms\n"
                     "    embed           10.0 ms\n"
                     "  draft masked       2.99 s    1234  $0.012300\n"
                     "    ! overloaded:\\ntry later\n"
                     "    = helpfulness 0.9 (model judge-v3)\n"
                     "    = tone good (model judge-v3)\n"
                     "    input\n"
                     "      What\\tis it?\n"
                     "      Tell \\x1b[1mme\n"
                     "    output\n"
                     "      No idea\n");
}

/* Without tokens and cost there are no columns for them; many levels leave room for names; and a trace of no length has bars. */
static void test_waterfall_of_little(void **state)
{
    struct sample sample;
    make_sample(&sample);
    sample.trace.usage = NULL;
    sample.trace.cost_micros = 0;
    sample.trace.duration_ns = 0;
    sample.page.n_spans = 2;
    sample.nodes[1].depth = 1000;
    expect_waterfall(&ascii, &sample, false,
                     "\n"
                     "SPAN                          0                                   0 ns  DURATION\n"
                     "answer\\x1b[2J (agent)         ########################################    4.00 s\n"
                     "              search the ...                                         #    900 ms\n");
}

/* ---- statistics ---- */

struct figures {
    Forge__V1__TraceStatsBucket total, buckets[2], *bucket_pointers[2];
    Google__Protobuf__Timestamp times[3];
    Forge__V1__TokenUsage usage;
    Forge__V1__ScoreAverage score, *scores[1];
    Forge__V1__TraceStatsSeries series;
};

static void set_bucket(struct figures *figures, Forge__V1__TraceStatsBucket *bucket, size_t time, int64_t seconds, int64_t p95_us)
{
    forge__v1__trace_stats_bucket__init(bucket);
    google__protobuf__timestamp__init(&figures->times[time]);
    figures->times[time].seconds = seconds;
    bucket->start_time = &figures->times[time];
    bucket->count = 12;
    bucket->error_count = 1;
    bucket->duration_p50_us = 1000;
    bucket->duration_p95_us = p95_us;
    bucket->duration_p99_us = 2 * p95_us;
    bucket->usage = &figures->usage;
    bucket->cost_micros = 45;
}

static void make_figures(struct figures *figures, int64_t p95_us)
{
    static char name[] = "helpfulness";
    forge__v1__token_usage__init(&figures->usage);
    forge__v1__score_average__init(&figures->score);
    forge__v1__trace_stats_series__init(&figures->series);
    figures->usage.output_tokens = 77;
    figures->score.name = name;
    figures->score.count = 3;
    figures->score.average = 2.0 / 3;
    figures->scores[0] = &figures->score;
    set_bucket(figures, &figures->total, 0, 1795867200, p95_us);
    set_bucket(figures, &figures->buckets[0], 1, 1795867200, p95_us);
    set_bucket(figures, &figures->buckets[1], 2, 1795870800, p95_us / 2);
    figures->total.scores = figures->scores;
    figures->total.n_scores = 1;
    for (size_t i = 0; i < 2; i++)
        figures->bucket_pointers[i] = &figures->buckets[i];
    figures->series.total = &figures->total;
    figures->series.buckets = figures->bucket_pointers;
    figures->series.n_buckets = 1;
}

static void expect_stats(const struct terminal *terminal, Forge__V1__TraceStatsSeries **series, size_t count, const char *expected)
{
    Forge__V1__GetTraceStatsResponse stats = FORGE__V1__GET_TRACE_STATS_RESPONSE__INIT;
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 16, NULL);
    stats.series = series;
    stats.n_series = count;
    FILE *out = begin_text();
    view_trace_stats(out, terminal, &arena, &stats);
    end_text(out, expected);
    forge_arena_done(&arena);
}

static void test_stats(void **state)
{
    struct figures first, second_one;
    Forge__V1__TraceStatsSeries *series[] = {&first.series, &second_one.series};
    make_figures(&first, 1200000);
    make_figures(&second_one, 300000);
    expect_stats(&plain, NULL, 0, "COUNT  ERRORS  P50  P95  P99  TOKENS  COST  SCORES\n");
    expect_stats(&plain, series, 1,
                 "COUNT  ERRORS  P50      P95     P99     TOKENS  COST       SCORES\n"
                 "12     1       1.00 ms  1.20 s  2.40 s  77      $0.000045  helpfulness 0.667 of 3\n");
    first.series.n_buckets = 2;
    expect_stats(&plain, series, 1,
                 "START                 COUNT  ERRORS  P50      P95     P99     TOKENS  COST       SCORES\n"
                 "2026-11-28 12:00:00Z  12     1       1.00 ms  1.20 s  2.40 s  77      $0.000045  \n"
                 "2026-11-28 13:00:00Z  12     1       1.00 ms  600 ms  1.20 s  77      $0.000045  \n"
                 "all                   12     1       1.00 ms  1.20 s  2.40 s  77      $0.000045  helpfulness 0.667 of 3\n"
                 "\n"
                 "95th percentile of duration\n"
                 "2026-11-28 12:00:00Z  ████████████████████████████████████████    1.20 s\n"
                 "2026-11-28 13:00:00Z  ████████████████████                        600 ms\n");
}

static void test_stats_by_group(void **state)
{
    static char gpt[] = "gpt-4", claude[] = "claude-3-opus-20240229", prompt_id[] = "p", label[] = "live";
    struct figures first, second_one;
    Forge__V1__TraceStatsSeries *series[] = {&first.series, &second_one.series};
    Forge__V1__PromptUse one = FORGE__V1__PROMPT_USE__INIT, other = FORGE__V1__PROMPT_USE__INIT;
    make_figures(&first, 1200000);
    make_figures(&second_one, 300000);
    first.series.model = gpt;
    second_one.series.model = claude;
    expect_stats(&coloured, series, 2,
                 "GROUP                   COUNT  ERRORS  P50      P95     P99     TOKENS  COST       SCORES\n"
                 "gpt-4                   12     1       1.00 ms  1.20 s  2.40 s  77      $0.000045  helpfulness 0.667 of 3\n"
                 "claude-3-opus-20240229  12     1       1.00 ms  300 ms  600 ms  77      $0.000045  helpfulness 0.667 of 3\n"
                 "\n"
                 "95th percentile of duration\n"
                 "gpt-4                   " CYAN "██████████████████████████" OFF "    1.20 s\n"
                 "claude-3-opus-20240229  " CYAN "██████▌" OFF "                       300 ms\n");
    one.prompt_id = other.prompt_id = prompt_id;
    one.version = 3;
    other.label = label;
    first.series.prompt = &one;
    second_one.series.prompt = &other;
    first.series.n_buckets = 2;
    expect_stats(&ascii, series, 2,
                 "GROUP         START                 COUNT  ERRORS  P50      P95     P99     TOKENS  COST       SCORES\n"
                 "p version 3   2026-11-28 12:00:00Z  12     1       1.00 ms  1.20 s  2.40 s  77      $0.000045  \n"
                 "p version 3   2026-11-28 13:00:00Z  12     1       1.00 ms  600 ms  1.20 s  77      $0.000045  \n"
                 "p version 3   all                   12     1       1.00 ms  1.20 s  2.40 s  77      $0.000045  helpfulness 0.667 of 3\n"
                 "p label live  2026-11-28 12:00:00Z  12     1       1.00 ms  300 ms  600 ms  77      $0.000045  \n"
                 "p label live  all                   12     1       1.00 ms  300 ms  600 ms  77      $0.000045  helpfulness 0.667 of 3\n"
                 "\n"
                 "95th percentile of duration\n"
                 "p version 3  2026-11-28 12:00:00Z   ##################################    1.20 s\n"
                 "p version 3  2026-11-28 13:00:00Z   #################                     600 ms\n"
                 "p label live  2026-11-28 12:00:00Z  #########                             300 ms\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations_are_read),
        cmocka_unit_test(test_durations_are_written),
        cmocka_unit_test(test_costs_are_exact),
        cmocka_unit_test(test_texts_cannot_drive_the_terminal),
        cmocka_unit_test(test_texts_are_fitted),
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_trace_figures),
        cmocka_unit_test(test_waterfall),
        cmocka_unit_test(test_waterfall_on_less),
        cmocka_unit_test(test_waterfall_in_colour),
        cmocka_unit_test(test_waterfall_in_full),
        cmocka_unit_test(test_waterfall_of_little),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_stats_by_group),
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
