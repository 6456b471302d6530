/* forgectl trace and forgectl session against a real forged: spans from a file, waterfalls in a pipe and on a terminal, scores, statistics,
 * and traces in manifests. */
#include "forgectl_test_support.h"

#include <inttypes.h>
#include <pthread.h>
#include <time.h>

#define TRACE_ID "0af7651916cd43dd8448eb211c80319c"
#define MISSING_ID "0af7651916cd43dd8448eb211c80319d"
#define WAITING_ID "0af7651916cd43dd8448eb211c80319e"

static const int64_t second_ns = 1000000000, millisecond_ns = 1000000;
static int64_t start_ns; /* of the sample trace */

/* ---- the sample ---- */

/* A line of a file of spans; more: fields that begin with a comma. */
static void add_span(FILE *out, const char *id, const char *parent, const char *name, const char *kind, int64_t from_ms, int64_t to_ms,
                     const char *more)
{
    fprintf(out,
            "{\"trace_id\": \"" TRACE_ID "\", \"span_id\": \"00f067aa0ba902%s\", \"parent_span_id\": \"%s%s\", \"name\": \"%s\", \"kind\": "
            "\"SPAN_KIND_%s\", \"start_ns\": %" PRId64 ", \"end_ns\": %" PRId64 "%s}\n",
            id, *parent ? "00f067aa0ba902" : "", parent, name, kind, start_ns + from_ms * millisecond_ns, start_ns + to_ms * millisecond_ns,
            more);
}

/* An agent that searches and asks a model, which fails; a span whose parent is not there, and two that are each other's parent. */
static void write_sample(void)
{
    char path[512];
    forgectl_home_path("sample.jsonl", path, sizeof path);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    add_span(out, "04", "01", "draft", "LLM", 1000, 3990,
             ", \"status\": \"SPAN_STATUS_ERROR\", \"status_message\": \"overloaded:\\n\\u001b[31mtry later\", \"model\": \"gpt-4\", "
             "\"usage\": {\"input_tokens\": 1000, \"output_tokens\": 234}, \"cost_micros\": 12300, \"input\": [{\"role\": \"user\", "
             "\"content\": \"x\"}], \"output\": \"one\\n\\u001b[2Jtwo\\n\"");
    add_span(out, "01", "", "answer", "AGENT", 0, 4000, ", \"status\": \"SPAN_STATUS_OK\", \"session_id\": \"s-1\", \"user_id\": \"u-1\"");
    add_span(out, "02", "01", "search the articles of the help centre", "RETRIEVER", 100, 1000, "");
    add_span(out, "03", "02", "embed", "EMBEDDING", 110, 120, "");
    add_span(out, "05", "99", "lost", "TOOL", 2000, 2000, "");
    add_span(out, "06", "07", "round", "CHAIN", 3000, 3500, "");
    add_span(out, "07", "06", "and round", "CHAIN", 3100, 3400, "");
    assert_int_equal(fclose(out), 0);
}

static int set_up(void **state)
{
    forgectl_open_world(state);
    forgectl_set("FORGE_PROJECT", world.home.project_id);
    forgectl_set("TERM", "xterm");
    start_ns = ((int64_t)time(NULL) - 600) * second_ns;
    write_sample();
    expect_output(0, "Accepted    7\nDuplicates  0\nRejected    0\nFlagged     0\nMasked      0\nBlocked     0\n", "",
                  "forgectl trace ingest -f sample.jsonl");
    return 0;
}

/* ---- ingest ---- */

static void test_ingest_tells_of_each_line(void **state)
{
    struct child_output output;
    expect_output(0, "Accepted    0\nDuplicates  7\nRejected    0\nFlagged     0\nMasked      0\nBlocked     0\n", "",
                  "forgectl trace ingest -f sample.jsonl");
    /* Other content under the same ids, no JSON, a field too many, an id that is none, long ago; and a blank line. */
    forgectl_shell(&output,
                   "(head -1 sample.jsonl | sed 's/draft/drift/'; echo; echo '{'; echo '{\"colour\": 1}'; sed -n 2p sample.jsonl | sed "
                   "'s/" TRACE_ID "/abc/'; sed -n 3p sample.jsonl | sed 's/\"start_ns\": [0-9]*/\"start_ns\": 5/'; cat sample.jsonl) > "
                   "mixed.jsonl; forgectl trace ingest -f mixed.jsonl");
    assert_string_equal(output.out, "Accepted    0\nDuplicates  7\nRejected    5\nFlagged     0\nMasked      0\nBlocked     0\n");
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:1: ALREADY_EXISTS: "));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:3: "));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:4: colour: Span has no such field\n"));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:5: INVALID_ARGUMENT: "));
    assert_non_null(strstr(output.err, "\n  trace_id: must be 32 hexadecimal digits, not all zero\n"));
    assert_non_null(strstr(output.err, "forgectl: mixed.jsonl:6: OUT_OF_RANGE: "));
    assert_int_equal(output.exit_code, 1); /* the first that is known to be wrong is one that cannot be read */
    child_output_done(&output);
    expect_output(70, NULL, NULL, "head -1 mixed.jsonl | forgectl trace ingest -f -");
    expect_output(0,
                  "{\n  \"accepted\": 0,\n  \"duplicates\": 1,\n  \"rejected\": 0,\n  \"flagged\": 0,\n  \"masked\": 0,\n"
                  "  \"blocked\": 0\n}\n",
                  "", "head -1 sample.jsonl | forgectl trace ingest -f - -o json");
    expect_output(1, "", "forgectl: /dev/null has no spans\n", "forgectl trace ingest -f /dev/null");
    expect_output(1, "", "forgectl: cannot read missing: No such file or directory\n", "forgectl trace ingest -f missing");
    expect_output(2, "", "forgectl: which spans? --file PATH (- for standard input)\n", "forgectl trace ingest");
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl trace ingest -f sample.jsonl", world.home.read_key);
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl trace ingest -f sample.jsonl", world.foreign.admin_key);
}

/* More spans than one call takes, and more than one page has: 2,500 under one root. */
static void test_many_spans(void **state)
{
    char line[256];
    snprintf(
        line, sizeof line,
        "{\\\"trace_id\\\": \\\"0000000000000000000000000000beef\\\", \\\"span_id\\\": \\\"%%016x\\\", \\\"name\\\": \\\"step %%d\\\", "
        "\\\"start_ns\\\": %" PRId64 "%%06d, \\\"end_ns\\\": %" PRId64 "%%06d%%s}\\n",
        start_ns / 1000000, start_ns / 1000000);
    expect_output(0, "Accepted    2500\nDuplicates  0\nRejected    0\nFlagged     0\nMasked      0\nBlocked     0\n", "",
                  "awk 'BEGIN {for (i = 1; i <= 2500; i++) printf \"%s\", i, i, i, i + 1, i == 1 ? \"\" : \", "
                  "\\\"parent_span_id\\\": \\\"0000000000000001\\\"\"}' > many.jsonl; forgectl trace ingest -f many.jsonl",
                  line);
    expect_output(0, "2500\n",
                  "Scores of spans are left out beyond 1000 spans: forgectl trace scores --span 0000000000000000000000000000beef/SPAN\n",
                  "forgectl trace show 0000000000000000000000000000beef | grep -c '^ *step '");
    expect_output(
        0, "2500 2500\n", "",
        "forgectl trace show 0000000000000000000000000000beef -o json > many.json; echo $(grep -c '\"placement\"' many.json) $(grep "
        "'\"span_id\"' many.json | sort -u | wc -l)");
    expect_output(0, "", "",
                  "grep next_page_token many.json; forgectl trace delete 0000000000000000000000000000beef --yes -o name >/dev/null");
}

static void *ingest_waiting(void *output)
{
    forgectl_shell(output, "sed 's/" TRACE_ID "/" WAITING_ID "/' sample.jsonl | forgectl trace ingest -f -");
    return NULL;
}

static double ingest_calls(void)
{
    return world_metric(&world, 0, "forged_calls_total{method=\"forge.v1.TraceService/IngestSpans\",code=\"OK\"}");
}

/* The day of the sample has no storage when the spans come, and gets it while forgectl waits. */
static void test_ingest_waits_for_storage(void **state)
{
    const time_t seconds = (time_t)(start_ns / second_ns);
    struct child_output output;
    struct tm parts;
    char day[16];
    pthread_t thread;
    strftime(day, sizeof day, "%Y%m%d", gmtime_r(&seconds, &parts));
    double calls = ingest_calls();
    world_execute(&world, "ALTER TABLE spans DETACH PARTITION forge_partitions.spans_%s", day);
    assert_int_equal(pthread_create(&thread, NULL, ingest_waiting, &output), 0);
    for (int waits = 0; ingest_calls() <= calls; waits++) {
        assert_in_range(waits, 0, 1000);
        world_sleep_ms(10);
    }
    world_execute(
        &world,
        "ALTER TABLE spans ATTACH PARTITION forge_partitions.spans_%s FOR VALUES FROM (timestamptz '%s 00:00+00') TO (timestamptz "
        "'%s 00:00+00' + interval '1 day')",
        day, day, day);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(output.exit_code, 0);
    assert_string_equal(output.out, "Accepted    7\nDuplicates  0\nRejected    0\nFlagged     0\nMasked      0\nBlocked     0\n");
    child_output_done(&output);
    expect_output(0, "Deleted " WAITING_ID "\n", "", "forgectl trace delete " WAITING_ID " --yes");
}

/* ---- show ---- */

static void test_show_in_a_pipe(void **state)
{
    expect_output(0,
                  "Trace     0af7651916cd43dd8448eb211c80319c\n"
                  "Name      answer\n"
                  "Status    error\n"
                  "Start     <time>\n"
                  "Duration  4.00 s\n"
                  "Spans     7, 1 with an error\n"
                  "Tokens    1234: input 1000, output 234\n"
                  "Cost      $0.012300\n"
                  "Session   s-1\n"
                  "User      u-1\n"
                  "Models    gpt-4\n"
                  "\n"
                  "SPAN                      0                  4.00 s  DURATION  TOKENS       COST\n"
                  "answer (agent)            █████████████████████████    4.00 s\n"
                  "  search th… (retriever)  ███████                      900 ms\n"
                  "    embed (embedding)     █                           10.0 ms\n"
                  "  draft (llm)                   ███████████████████    2.99 s    1234  $0.012300\n"
                  "    ! overloaded:\\n\\x1b[31mtry later\n"
                  "  lost (tool) orphan                  █                  0 ns\n"
                  "  round (chain) cycle                       ████       500 ms\n"
                  "  and rou… (chain) cycle                     ███       300 ms\n",
                  "", "forgectl trace show " TRACE_ID);
    expect_output(0,
                  "SPAN                      0    4.00 s  DURATION  TOKENS       COST\n"
                  "answer (agent)            ###########    4.00 s\n"
                  "  search ... (retriever)  ###            900 ms\n"
                  "    embed (embedding)     #             10.0 ms\n"
                  "  draft (llm)               #########    2.99 s    1234  $0.012300\n"
                  "    ! overloaded:\\n\\x1b[31mtry later\n"
                  "  lost (tool) orphan           #           0 ns\n"
                  "  round (chain) cycle             ##     500 ms\n"
                  "  and r... (chain) cycle          ##     300 ms\n",
                  "", "LC_ALL=C COLUMNS=66 forgectl trace show " TRACE_ID " | sed -n '/^SPAN/,$p'");
    expect_output(0,
                  "  draft (llm)                   ███████████████████    2.99 s    1234  $0.012300\n"
                  "    ! overloaded:\\n\\x1b[31mtry later\n"
                  "    input\n"
                  "      [{\"role\":\"user\",\"content\":\"x\"}]\n"
                  "    output\n"
                  "      one\n"
                  "      \\x1b[2Jtwo\n"
                  "  lost (tool) orphan                  █                  0 ns\n",
                  "", "forgectl trace show " TRACE_ID " --full | sed -n '/draft/,/lost/p'");
    expect_output(0, TRACE_ID "\n", "", "forgectl trace show " TRACE_ID " -o name");
    expect_output(0, "7\n0\n", "",
                  "forgectl trace show " TRACE_ID " -o json | grep -c '\"depth\"\\|PLACEMENT_ROOT'; forgectl trace show " TRACE_ID
                  " -o yaml | grep -c 'output:'; true");
    expect_output(0, "1\n", "", "forgectl trace show " TRACE_ID " --full -o yaml | grep -c 'output: '");
    expect_output(69, "", NULL, "forgectl trace show " MISSING_ID);
    expect_output(67, "", NULL, "forgectl trace show x");
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl trace show " TRACE_ID, world.foreign.admin_key);
    expect_output(2, "", NULL, "forgectl trace show");
}

/* A terminal of 80 columns, with colours. */
static void test_show_on_a_terminal(void **state)
{
    static const char *const line[] = {"forgectl", "trace", "show", TRACE_ID, NULL};
    static const char *const expected[] = {
        "\r\nStatus    \033[31merror\033[0m\r\n",
        "\r\n  \033[31mdraft\033[0m (llm)                   \033[31m███████████████████\033[0m    2.99 s    1234  $0.012300\r\n"
        "    ! \033[31moverloaded:\\n\\x1b[31mtry later\033[0m\r\n",
        "\r\n  \033[1mlost\033[0m (tool)\033[33m orphan\033[0m                  \033[36m█\033[0m                  0 ns\r\n",
    };
    char seen[8192];
    assert_int_equal(forgectl_on_terminal(line, seen, sizeof seen, NULL), 0);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!strstr(seen, expected[i]))
            fail_msg("%s\n%s", expected[i], seen);
}

/* ---- list and sessions ---- */

static void test_list(void **state)
{
    static const char
        *const found[] = {"--since 1h",        "--status error", "--model gpt-4",
                          "--min-duration 4s", "--session s-1",  "--user u-1",
                          "--view full",       "--until 1m",     "--since 2020-01-01T00:00:00Z --page-size 1"},
               *const others[] = {
                   "--since 1m", "--status ok", "--model gpt-5",     "--min-duration 4001ms",         "--session s-2",
                   "--user u-2", "--until 1h",  "--prompt greeting", "--prompt greeting --version 1", "--prompt greeting --label live"};
    expect_output(0,
                  "START                 NAME    STATUS  DURATION  SPANS  ERRORS  TOKENS  COST       SESSION  TRACE\n"
                  "<time>  answer  error   4.00 s    7      1       1234    $0.012300  s-1      0af7651916cd43dd8448eb211c80319c\n",
                  "", "forgectl trace list");
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++)
        expect_output(0, TRACE_ID "\n", "", "forgectl trace list %s -o name", found[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        expect_output(0, "", "", "forgectl trace list %s -o name", others[i]);
    expect_output(67, "", NULL, "forgectl trace list --version 1");
    expect_output(2, "", "forgectl: --status must be one of ok, error, not \"bad\"\n", "forgectl trace list --status bad");
    expect_output(2, "", NULL, "forgectl trace list --since yesterday");
    expect_output(2, "", "forgectl: --min-duration must be whole milliseconds, such as 90s, 15m or 1h, not \"5\"\n",
                  "forgectl trace list --min-duration 5");
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl trace list", world.foreign.admin_key);
}

static void test_sessions(void **state)
{
    expect_output(0,
                  "SESSION  USER  FIRST                 LAST                  TRACES  ERRORS  TOKENS  COST\n"
                  "s-1      u-1   <time>  <time>  1       1       1234    $0.012300\n",
                  "", "forgectl session list");
    expect_output(0, "s-1\n", "", "forgectl session list --session s-1 --user u-1 --since 1h -o name");
    expect_output(0, "", "", "forgectl session list --user u-2 -o name");
    expect_output(0, "      \"trace_count\": \"1\",\n", "", "forgectl session list -o json | grep '\"trace_count'");
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl session list", world.foreign.admin_key);
}

/* ---- scores ---- */

static void test_scores(void **state)
{
    expect_output(0, "Id       <id>\nOutcome  accepted\n", "",
                  "forgectl trace score --trace " TRACE_ID " --name helpfulness --number 0.5 --author judge-v3 --source model");
    expect_output(0, "<id>\n", "",
                  "forgectl trace score --span " TRACE_ID "/00f067aa0ba90204 --name tone --category cold --author ada -o name");
    expect_output(0, NULL, "", "forgectl trace score --session s-1 --name resolved --boolean false --author ada --comment 'no answer'");
    expect_output(0, "Outcome  duplicate\n", "",
                  "forgectl trace score --trace " TRACE_ID
                  " --name helpfulness --number 0.5 --author judge-v3 --source model | grep Outcome");
    expect_output(0, "Outcome  accepted\n", "",
                  "forgectl trace score --trace " TRACE_ID
                  " --name helpfulness --number 0.75 --author judge-v3 --source model | grep Outcome");
    expect_output(0, "      \"outcome\": \"ITEM_OUTCOME_DUPLICATE\"\n", "",
                  "forgectl trace score --trace " TRACE_ID
                  " --name helpfulness --number 0.75 --author judge-v3 --source model -o json | grep "
                  "outcome | sed 's/^ */      /; s/,$//'");
    expect_output(0,
                  "NAME         VALUE  SOURCE  AUTHOR    GIVEN                 TARGET                            SPAN              ID\n"
                  "helpfulness  0.75   model   judge-v3  <time>  0af7651916cd43dd8448eb211c80319c                    <id>\n"
                  "resolved     no     human   ada       <time>  s-1                                                 <id>\n"
                  "tone         cold   human   ada       <time>  0af7651916cd43dd8448eb211c80319c  00f067aa0ba90204  <id>\n",
                  "", "forgectl trace scores");
    expect_output(0, "0.75\n0.5\n", "", "forgectl trace scores --trace " TRACE_ID " --history | awk 'NR > 1 {print $2}'");
    expect_output(0, "1\n", "", "forgectl trace scores --span " TRACE_ID "/00f067aa0ba90204 --source human --since 1h -o name | wc -l");
    expect_output(0, "1\n", "", "forgectl trace scores --session s-1 --name resolved --author ada -o name | wc -l");
    expect_output(0,
                  "Models    gpt-4\n"
                  "Score     helpfulness 0.75 (model judge-v3)\n"
                  "--\n"
                  "    ! overloaded:\\n\\x1b[31mtry later\n"
                  "    = tone cold (human ada)\n",
                  "", "forgectl trace show " TRACE_ID " | grep -e Score -e '= ' -B1 | grep -v Session");
}

static void test_bad_scores(void **state)
{
    expect_output(67, "", NULL, "forgectl trace score --name x --number 1");
    expect_output(67, "", NULL, "forgectl trace score --trace " TRACE_ID " --name x");
    expect_output(67, "", NULL, "forgectl trace score --trace " TRACE_ID " --number 1");
    expect_output(67, "", NULL, "forgectl trace score --trace x --name x --number 1");
    expect_output(69, "", NULL, "forgectl trace score --execution 999999 --name x --number 1");
    expect_output(2, "", NULL, "forgectl trace score --trace " TRACE_ID " --session s --name x --number 1");
    expect_output(2, "", NULL, "forgectl trace score --trace " TRACE_ID " --name x --number 1 --text y");
    expect_output(2, "", "forgectl: --span must be trace id/span id, not \"x\"\n", "forgectl trace score --span x --name x --number 1");
    expect_output(2, "", "forgectl: --number must be a number, not \"x\"\n", "forgectl trace score --trace x --name x --number x");
    expect_output(2, "", "forgectl: --source must be one of human, code, model, not \"x\"\n",
                  "forgectl trace score --trace x --name x --number 1 --source x");
    expect_output(71, "", NULL, "FORGE_TOKEN=%s forgectl trace score --trace " TRACE_ID " --name x --number 1", world.home.read_key);
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl trace score --trace " TRACE_ID " --name x --number 1", world.foreign.admin_key);
    expect_output(0, NULL, "", "forgectl trace score --trace " TRACE_ID " --name gone --number 1 -o name > gone");
    expect_output(2, "", "forgectl: --yes is needed where nobody can be asked\n", "forgectl trace delete-score $(cat gone) </dev/null");
    expect_output(0, "Deleted <id>\n", "", "forgectl trace delete-score $(cat gone) --yes");
    expect_output(69, "", NULL, "forgectl trace delete-score $(cat gone) --yes");
}

/* ---- statistics ---- */

static void test_stats(void **state)
{
    expect_output(0,
                  "COUNT  ERRORS  P50     P95     P99     TOKENS  COST       SCORES\n"
                  "1      1       4.00 s  4.00 s  4.00 s  1234    $0.012300  helpfulness 0.75 of 1\n",
                  "", "forgectl trace stats --since 1h");
    expect_output(0,
                  "GROUP  COUNT  ERRORS  P50     P95     P99     TOKENS  COST       SCORES\n"
                  "gpt-4  1      1       2.99 s  2.99 s  2.99 s  1234    $0.012300  helpfulness 0.75 of 1\n",
                  "", "forgectl trace stats --since 1h --group-by model");
    expect_output(0, "gpt-4\n", "", "forgectl trace stats --group-by model --kind llm --model gpt-4 -o name");
    expect_output(0, "1\n", "", "forgectl trace stats --bucket 1m -o json | grep -c '\"buckets\"'");
    expect_output(2, "", "forgectl: --bucket must be whole seconds, such as 90s, 15m or 1h, not \"1.5s\"\n",
                  "forgectl trace stats --bucket 1.5s");
    expect_output(2, "", "forgectl: --group-by must be one of model, prompt_version, prompt_label, not \"x\"\n",
                  "forgectl trace stats --group-by x");
    expect_output(72, "", NULL, "forgectl trace stats --since 7d --bucket 1s");
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl trace stats", world.foreign.admin_key);
}

/* ---- manifests ---- */

static void test_bad_manifests(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"kind: trace\nstart: -1h\n", "forgectl: m.yaml:1:1: trace_id is missing: a manifest finds a trace by it\n"},
        {"kind: trace\ntrace_id: a\nstart: yesterday\n", "forgectl: m.yaml:3:8: start: must be a duration such as 4.2s, 250ms or -2h\n"},
        {"kind: trace\ntrace_id: a\nspans:\n- {name: x, start: 0s, duration: 1}\n",
         "forgectl: m.yaml:4:34: duration: must be a duration such as 4.2s, 250ms or -2h\n"},
        {"kind: trace\ntrace_id: a\nspans:\n- {name: x, start: 0s, start: 1s}\n",
         "forgectl: m.yaml:4:24: field \"start\" is there twice\n"},
        {"kind: trace\ntrace_id: a\nstart_ns: 5\n",
         "forgectl: m.yaml:3:1: unknown field \"start_ns\"; trace has project, prompt, trace_id, "},
        {"kind: trace\ntrace_id: a\nspans: []\n", "forgectl: m.yaml:3:8: spans: must be a list with at least one item\n"},
        {"kind: trace\ntrace_id: a\nspans:\n- {name: x, prompt: y}\n", "forgectl: m.yaml:4:13: unknown field \"prompt\"; Span has "},
        {"kind: trace\ntrace_id: a\nspans:\n- {trace_id: b}\n", "forgectl: m.yaml:4:4: unknown field \"trace_id\"; Span has "},
        {"kind: score\nexecution_id: 5\n",
         "forgectl: m.yaml:2:1: unknown field \"execution_id\"; score has project, trace_id, span, session_id, "},
        {"kind: score\nnumber: 1\nboolean: true\n", "forgectl: m.yaml:3:10: boolean: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_apply_refused(cases[i].text, cases[i].message);
}

static const char manifest[] =
    "kind: project\nname: Traced\n---\nkind: prompt\nproject: Traced\nname: p\ncontent: x\n---\n"
    "kind: trace\nproject: Traced\nprompt: p\ntrace_id: 5eed00000000000000000000000000aa\nstart: -2h\nsession_id: s\nspans:\n"
    "- {span_id: 5eed0000000000a1, name: a, kind: agent, start: 0s, duration: 4.25s, session_id: mine}\n"
    "- {span_id: 5eed0000000000a2, parent_span_id: 5eed0000000000a1, name: b, kind: llm, start: 1s, duration: 250ms,\n"
    "   prompt_version: 1, input: [{role: user, content: 0.1}], parameters: {temperature: 0.1}}\n---\n"
    "kind: score\nproject: Traced\ntrace_id: 5eed00000000000000000000000000aa\nname: n\nauthor: ada\nsource: human\nnumber: 0.5\n---\n"
    "kind: score\nproject: Traced\nspan: {trace_id: 5eed00000000000000000000000000aa, span_id: 5eed0000000000a2}\n"
    "name: n\nauthor: ada\nsource: human\ncategory: good\n---\n"
    "kind: score\nproject: Traced\nsession_id: mine\nname: n\nauthor: ada\nsource: code\nboolean: false\n";

static void test_manifests(void **state)
{
    forgectl_write_file("m.yaml", manifest);
    expect_output(0,
                  "+ project Traced\n"
                  "+ prompt p in Traced\n"
                  "+ trace 5eed00000000000000000000000000aa in Traced (2 spans)\n"
                  "+ score n by ada of 5eed00000000000000000000000000aa in Traced\n"
                  "+ score n by ada of 5eed00000000000000000000000000aa/5eed0000000000a2 in Traced\n"
                  "+ score n by ada of session mine in Traced\n"
                  "6 to create, 0 to update, 0 unchanged\n",
                  NULL, "forgectl apply -f m.yaml");
    expect_output(0, "0 to create, 0 to update, 6 unchanged\n", "", "forgectl apply -f m.yaml | tail -1");
    expect_output(0,
                  "Trace     5eed00000000000000000000000000aa\n"
                  "Name      a\n"
                  "Start     <time>\n"
                  "Duration  4.25 s\n"
                  "Spans     2\n"
                  "Session   mine\n"
                  "Prompt\n"
                  "Score     n 0.5 (human ada)\n"
                  "\n"
                  "SPAN          0                                                 4.25 s  DURATION\n"
                  "a (agent)     ████████████████████████████████████████████████████████    4.25 s\n"
                  "  b (llm)                  ████                                           250 ms\n"
                  "    = n good (human ada)\n"
                  "    input\n"
                  "      [{\"role\":\"user\",\"content\":0.1}]\n",
                  "", "forgectl trace show 5eed00000000000000000000000000aa --project Traced --full | sed 's/^Prompt .*/Prompt/'");
    expect_output(0, "1\n", "", "forgectl trace list --project Traced --prompt p --version 1 --since 4h --until 1h -o name | wc -l");
    expect_output(0, "mine\n", "", "forgectl session list --project Traced -o name");
    /* Another value, another comment. */
    expect_output(
        0,
        "~ score n by ada of 5eed00000000000000000000000000aa in Traced (value, comment)\n"
        "~ score n by ada of session mine in Traced (source)\n"
        "0 to create, 2 to update, 4 unchanged\n",
        NULL,
        "sed 's/^number: .*/number: 0.75\\ncomment: why/; s/source: code/source: model/' m.yaml > n.yaml; forgectl apply -f n.yaml "
        "--dry-run | grep -v '^  '");
    expect_output(0, NULL, NULL, "forgectl apply -f n.yaml");
    expect_output(0, "0 to create, 0 to update, 6 unchanged\n", "", "forgectl apply -f n.yaml | tail -1");
    expect_output(0, "0 to create, 0 to update, 6 unchanged\n", "", "forgectl apply -f m.yaml --create-only | tail -1");
}

/* Spans and scores that a server refuses are told with where they stand. */
static void test_refused_manifests(void **state)
{
    forgectl_write_file("m.yaml", "kind: trace\ntrace_id: 5eed00000000000000000000000000bb\nstart: -30h\nspans:\n"
                                  "- {span_id: 5eed0000000000b1, name: a, start: 0s, duration: 1s}\n");
    expect_output(75, NULL, NULL, "forgectl apply -f m.yaml");
    expect_output(0, "forgectl: m.yaml:1:1: spans[0]: OUT_OF_RANGE\n", "",
                  "forgectl apply -f m.yaml 2>&1 >/dev/null | sed -n 's/^\\(forgectl: .*OUT_OF_RANGE\\): .*/\\1/p'");
    forgectl_write_file("m.yaml", "kind: score\ntrace_id: 5eed\nname: n\nauthor: a\nnumber: 1\nsource: human\n");
    expect_output(67, "", NULL, "forgectl apply -f m.yaml");
}

/* ---- the end of a trace ---- */

static void test_delete(void **state)
{
    expect_output(2, "", "forgectl: --yes is needed where nobody can be asked\n", "forgectl trace delete " TRACE_ID " </dev/null");
    expect_output(69, "", NULL, "FORGE_TOKEN=%s forgectl trace delete " TRACE_ID " --yes", world.foreign.admin_key);
    expect_output(0, "Deleted " TRACE_ID "\n", "", "forgectl trace delete " TRACE_ID " --yes");
    expect_output(69, "", NULL, "forgectl trace show " TRACE_ID);
    expect_output(69, "", NULL, "forgectl trace delete " TRACE_ID " --yes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ingest_tells_of_each_line),
        cmocka_unit_test(test_ingest_waits_for_storage),
        cmocka_unit_test(test_many_spans),
        cmocka_unit_test(test_show_in_a_pipe),
        cmocka_unit_test(test_show_on_a_terminal),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_bad_scores),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_bad_manifests),
        cmocka_unit_test(test_manifests),
        cmocka_unit_test(test_refused_manifests),
        cmocka_unit_test(test_delete),
    };
    return cmocka_run_group_tests(tests, set_up, forgectl_close_world);
}
