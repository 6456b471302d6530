/* ListScores at 100,000 scores and as many earlier values, and GetTraceStats at 90,000 spans of fifteen days: their statements as forge_app
 * plans and runs them under row-level security. What is asserted is what is read, not time: no table is walked, a page costs about what it
 * holds, and only the days of a range are opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/plan_fixture.h"

#include <stdio.h>

#define BIG "'01890000-0000-7000-8000-0000000000b1'"
#define SMALL "'01890000-0000-7000-8000-000000000051'"
#define PROMPT "'01890000-0000-7000-8000-0000000000c1'"
#define FIRST_ID "'00000000-0000-0000-0000-000000000000'"

enum { PAGE_ROWS = 51 /* a page of 50 and whether there is more */, DAY_SPANS = 1000 /* of the project BIG */ };

/* Of the home organization all scores but every thousandth belong to the project BIG, those to SMALL; another organization has a fifth as
 * many. Score n is given at second n of 2026 and has replaced a value half a second before. Superusers insert without looking at foreign
 * keys. */
static const char *const scores_sql =
    "SET session_replication_role = replica;"
    "INSERT INTO organizations (organization_id, name, slug) VALUES (" HOME ", 'home', 'home'), (" FOREIGN ", 'foreign', 'foreign');"
    "INSERT INTO projects (organization_id, id, name) VALUES (" HOME ", " BIG ", 'big'), (" HOME ", " SMALL ", 'small'),"
    " (" FOREIGN ", " FOREIGN ", 'all');"
    "CREATE TEMPORARY TABLE n AS SELECT o.organization_id, CASE WHEN n % 1000 = 0 THEN o.other ELSE o.project END AS project_id,"
    " format('0189%s-0000-7000-8000-%s', o.prefix, lpad(to_hex(n), 12, '0'))::uuid AS id, n,"
    " timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second' AS changed_at,"
    " CASE WHEN n % 5000 = 7 THEN 'rare' ELSE 'common' END AS name, CASE WHEN n % 5000 = 8 THEN 'seldom' ELSE 'judge' END AS author,"
    " CASE WHEN n % 5000 = 9 THEN 'human' ELSE 'code' END AS source"
    " FROM (VALUES (" HOME "::uuid, 'aaaa', " BIG "::uuid, " SMALL "::uuid, 100000),"
    " (" FOREIGN ", 'bbbb', " FOREIGN ", " FOREIGN ", 20000)) o (organization_id, prefix, project, other, scores),"
    " generate_series(1, o.scores) n;"
    "INSERT INTO scores (organization_id, id, project_id, target_kind, target, name, author, source, number, created_at, changed_at)"
    " SELECT organization_id, id, project_id, 'trace', md5(n::text), name, author, source, n % 2, changed_at, changed_at FROM n;"
    "INSERT INTO score_history (organization_id, id, score_id, project_id, name, author, source, number, changed_at, replaced_at)"
    " SELECT organization_id, id, id, project_id, name, author, source, n % 2, changed_at - interval '0.5 second', changed_at FROM n;"
    "INSERT INTO scores (organization_id, id, project_id, target_kind, target, name, author, source, number, created_at, changed_at)"
    " SELECT " HOME ", gen_random_uuid(), " BIG ", 'session', 'talk', 'common', 'user ' || n, 'human', n, '2025-01-01',"
    " timestamptz '2025-01-01' + n * interval '1 second' FROM generate_series(1, 200) n;";

/* Fifteen days. Each has 1,000 spans of BIG, every tenth of a prompt, and five times as many of the other organization. Of the traces of
 * the first day each has one span, and a score. */
static const char *const spans_sql =
    "SET session_replication_role = replica;"
    "DO $$ BEGIN FOR d IN 0..14 LOOP EXECUTE format('CREATE TABLE forge_partitions.spans_202601%s PARTITION OF spans FOR VALUES FROM (%L) "
    "TO"
    " (%L)', lpad((d + 1)::text, 2, '0'), timestamptz '2026-01-01 00:00:00+00' + d * interval '1 day',"
    " timestamptz '2026-01-02 00:00:00+00' + d * interval '1 day'); END LOOP; END $$;"
    "INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, name, kind, start_ns, end_ns, status, model, prompt_id,"
    " prompt_version, prompt_label, content_hash)"
    " SELECT o.organization_id, o.project_id, decode(md5((d * 1000 + n)::text), 'hex'), decode(lpad(to_hex(n), 16, '0'), 'hex'), "
    "t.started_at,"
    " 'step', 1, extract(epoch FROM t.started_at)::bigint * 1000000000, extract(epoch FROM t.started_at)::bigint * 1000000000 + n::bigint "
    "* "
    "1000000,"
    " 1, CASE WHEN n % 100 = 7 THEN 'rare' ELSE 'common' END, CASE WHEN n % 10 = 0 THEN o.prompt_id END, CASE WHEN n % 10 = 0 THEN n %"
    " 20 / 10 END, NULL, sha256(n::text::bytea) FROM (VALUES (" HOME "::uuid, " BIG "::uuid, " PROMPT "::uuid, 1000), (" FOREIGN
    ", " FOREIGN ", " FOREIGN ", 5000)) o (organization_id, project_id, prompt_id, spans), generate_series(0, 14) d, generate_series(1, "
    "o.spans) n, LATERAL (SELECT timestamptz"
    " '2026-01-01 00:00:00+00' + d * interval '1 day' + n * interval '8 seconds' AS started_at) t;"
    "INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, error_count)"
    " SELECT organization_id, project_id, trace_id, min(started_at), min(start_ns), max(end_ns), max(end_ns) - min(start_ns), 1, count(*), "
    "0"
    " FROM spans GROUP BY organization_id, project_id, trace_id;";

/* Of BIG, in ids that ascend from 1. */
static const char *const executions_sql =
    "SET session_replication_role = replica;"
    "INSERT INTO prompts (organization_id, id, project_id, name, current_version, newest_version) SELECT " HOME
    ", CASE WHEN n = 1 THEN " PROMPT "::uuid ELSE gen_random_uuid() END, " BIG ", 'p' || n, 1, 1 FROM generate_series(1, 5000) n;"
    "INSERT INTO executions (organization_id, id, prompt_id, version) SELECT " HOME ", n, " PROMPT ", 1 FROM generate_series(1, 100000) n;";

/* A batch of a thousand scores, the first of an execution. */
static const char *const batch_sql =
    "CREATE FUNCTION batch_targets() RETURNS text[] LANGUAGE sql AS $$SELECT array_agg(md5(n::text)) FROM generate_series(1, 1000) n$$;"
    "CREATE FUNCTION batch_ids() RETURNS uuid[] LANGUAGE sql AS $$SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 1000) n$$;"
    "CREATE FUNCTION batch_executions() RETURNS bigint[] LANGUAGE sql AS $$SELECT array_agg(CASE WHEN n = 1 THEN 50000 ELSE 0 END)"
    " FROM generate_series(1, 1000) n$$";

static int setup(void **state)
{
    static const char *const commands[] = {scores_sql, spans_sql, executions_sql, batch_sql, NULL};
    (void)state;
    plan_fixture_open(commands);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    plan_fixture_close();
    return 0;
}

/* ---- scores ---- */

/* score_list by what it is asked for; unset texts are SQL. */
struct listing {
    const char *project, *kind, *target, *name, *author, *source, *from, *to, *id;
};

static const char *or_else(const char *sql, const char *otherwise)
{
    return sql != NULL ? sql : otherwise;
}

static void expect_list(struct listing listing, bool show_history, unsigned found, unsigned rows_max)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %d, 3145728", or_else(listing.project, BIG),
             or_else(listing.kind, "NULL"), or_else(listing.target, "NULL"), or_else(listing.name, "NULL"), or_else(listing.author, "NULL"),
             or_else(listing.source, "NULL"), or_else(listing.from, "'-infinity'"), or_else(listing.to, "'infinity'"),
             or_else(listing.id, FIRST_ID), show_history ? "true" : "false", PAGE_ROWS);
    plan_expect(SQL_SCORE_LIST, arguments, found, rows_max, 10 * rows_max, 0);
}

static void test_scores_by_time(void **state)
{
    (void)state;
    expect_list((struct listing){0}, false, PAGE_ROWS, 400);
    expect_list((struct listing){0}, true, PAGE_ROWS, 500);
    expect_list((struct listing){.to = "'2026-01-01 12:00:00+00'", .id = "'0189aaaa-0000-7000-8000-00000000a8c0'"}, true, PAGE_ROWS, 500);
    expect_list((struct listing){.from = "'2026-01-01 12:00:00+00'", .to = "'2026-01-01 12:00:10+00'"}, false, 10, 100);
    expect_list((struct listing){.from = "'2026-01-01 12:00:00+00'", .to = "'2026-01-01 12:00:10+00'"}, true, 20, 200);
    expect_list((struct listing){.project = SMALL}, true, PAGE_ROWS, 500);
}

static void test_scores_by_target(void **state)
{
    (void)state;
    expect_list((struct listing){.kind = "'trace'", .target = "md5('77')"}, false, 1, 20);
    expect_list((struct listing){.kind = "'trace'", .target = "md5('77')"}, true, 2, 20);
    expect_list((struct listing){.kind = "'trace'", .target = "md5('77')", .name = "'rare'"}, true, 1, 20);
    expect_list((struct listing){.kind = "'session'", .target = "'talk'"}, true, PAGE_ROWS, 800);
    expect_list((struct listing){.kind = "'session'", .target = "'talk'", .author = "'user 17'", .name = "'common'"}, true, 1, 500);
}

static void test_scores_by_name_author_and_source(void **state)
{
    (void)state;
    expect_list((struct listing){.name = "'common'"}, true, PAGE_ROWS, 500);
    expect_list((struct listing){.name = "'rare'"}, false, 20, 200);
    expect_list((struct listing){.name = "'rare'"}, true, 40, 300);
    expect_list((struct listing){.author = "'judge'"}, true, PAGE_ROWS, 500);
    expect_list((struct listing){.author = "'seldom'"}, false, 20, 200);
    expect_list((struct listing){.author = "'seldom'"}, true, 40, 300);
    expect_list((struct listing){.source = "'code'"}, true, PAGE_ROWS, 500);
    expect_list((struct listing){.source = "'human'", .from = "'2026-01-01 00:00:00+00'"}, false, 20, 200);
    expect_list((struct listing){.source = "'human'", .from = "'2026-01-01 00:00:00+00'"}, true, 40, 300);
    expect_list((struct listing){.author = "'seldom'", .name = "'common'", .source = "'code'"}, true, 40, 300);
    expect_list((struct listing){.name = "'rare'", .to = "'2026-01-01 12:00:00+00'"}, true, 18, 200);
}

/* What RecordScores looks up of a batch. */
static void test_scores_by_identity(void **state)
{
    (void)state;
    plan_expect(SQL_SCORE_LOCK,
                BIG ", array_fill('trace'::text, '{1000}'), batch_targets(),"
                    " array_fill('common'::text, '{1000}'), array_fill('judge'::text, '{1000}'), array_fill('code'::text, '{1000}'),"
                    " array_fill(1, '{1000}'), array_fill(1::double precision, '{1000}'), array_fill(NULL::text, '{1000}'),"
                    " array_fill(NULL::text, '{1000}')",
                997, 1000, 20000, 0);
}

/* All of the batch but three are stored already; of the executions only the one that is scored is looked at. */
static void test_a_batch_that_is_recorded(void **state)
{
    (void)state;
    plan_fixture_execute("BEGIN");
    plan_expect(SQL_SCORE_INSERT,
                BIG ", now(), batch_ids(), batch_executions(), array_fill('trace'::text, '{1000}'), batch_targets(),"
                    " array_fill('common'::text, '{1000}'), array_fill('judge'::text, '{1000}'), array_fill('code'::text, '{1000}'),"
                    " array_fill(1, '{1000}'), array_fill(1::double precision, '{1000}'), array_fill(NULL::text, '{1000}'),"
                    " array_fill(NULL::text, '{1000}')",
                1000, 50, 20000, 0);
    plan_fixture_execute("ROLLBACK");
}

/* ---- statistics ---- */

/* Two days and a half, by the hour. */
#define RANGE BIG ", '2026-01-10 00:00:00+00', '2026-01-12 12:00:00+00'"
#define BUCKETS "1768003200000000, 3600000000"
#define ROWS_MAX "20001"

static void test_only_the_days_of_a_range_are_read(void **state)
{
    (void)state;
    /* A span each 8 s for 8,000 s: hours 0 to 2 of a day, 449 + 450 + 101 spans; a total, and 3 buckets a day of each of two models. */
    plan_expect(SQL_TRACE_STATS_SPANS, RANGE ", " BUCKETS ", 1, NULL, NULL, 0, NULL, 0, " ROWS_MAX, 2 + 2 * 9, 4 * DAY_SPANS, 20000, 3);
    plan_expect(SQL_TRACE_STATS_SPANS, RANGE ", " BUCKETS ", 1, 'rare', NULL, 0, NULL, 0, " ROWS_MAX, 1 + 9, 100, 1000, 3);
    plan_expect(SQL_TRACE_STATS_SPANS, RANGE ", " BUCKETS ", 2, NULL, " PROMPT ", 0, NULL, 0, " ROWS_MAX, 2 + 2 * 9, 500, 3000, 3);
    plan_expect(SQL_TRACE_STATS_SPANS, RANGE ", " BUCKETS ", 2, NULL, " PROMPT ", 1, NULL, 1, " ROWS_MAX, 1 + 9, 500, 3000, 3);
    plan_expect(SQL_TRACE_STATS_SPANS,
                BIG
                ", '2026-01-10 00:00:00+00', '2026-01-10 00:00:10+00', 1768003200000000, 10000000, 1, NULL, NULL, 0, NULL, 0, " ROWS_MAX,
                2, 2 * DAY_SPANS, 5000, 1);
    plan_expect(SQL_TRACE_STATS_SPANS,
                BIG
                ", '2027-01-10 00:00:00+00', '2027-01-12 00:00:00+00', 1768003200000000, 3600000000, 1, NULL, NULL, 0, NULL, 0, " ROWS_MAX,
                0, 0, 100, 0);
}

static void test_traces_of_a_range(void **state)
{
    (void)state;
    plan_expect(SQL_TRACE_STATS_EXTENT, RANGE ", false", 1, 3, 50, 0);
    plan_expect(SQL_TRACE_STATS_EXTENT, RANGE ", true", 1, 4 * DAY_SPANS, 5000, 0);
    plan_expect(SQL_TRACE_STATS_TRACES, RANGE ", " BUCKETS ", false, '2026-01-12 12:00:00+00', NULL, NULL, 0, NULL, " ROWS_MAX, 1 + 9,
                4 * DAY_SPANS, 5000, 0);
    plan_expect(SQL_TRACE_STATS_TRACES, RANGE ", " BUCKETS ", true, '2026-01-13 01:00:00+00', 'rare', NULL, 0, NULL, " ROWS_MAX, 1 + 9, 300,
                3000, 4);
    plan_expect(SQL_TRACE_STATS_TRACES, RANGE ", " BUCKETS ", true, '2026-01-12 12:00:00+00', NULL, " PROMPT ", 1, NULL, " ROWS_MAX, 1 + 9,
                1000, 5000, 3);
}

/* The traces of the first day have scores; a score is looked up by its target, or those of the project are read once. */
static void test_scores_of_a_range(void **state)
{
    (void)state;
    static const char day[] = BIG ", '2026-01-01 00:00:00+00', '2026-01-02 00:00:00+00', 1767225600000000, 3600000000";
    char arguments[512];
    snprintf(arguments, sizeof arguments, "%s, false, '2026-01-02 00:00:00+00', NULL, NULL, 0, NULL, 100001", day);
    plan_expect(SQL_TRACE_STATS_TRACE_SCORES, arguments, 2 + 4, 4 * DAY_SPANS, 20000, 0);
    snprintf(arguments, sizeof arguments, "%s, true, '2026-01-02 00:00:00+00', 'rare', NULL, 0, NULL, 100001", day);
    plan_expect(SQL_TRACE_STATS_TRACE_SCORES, arguments, 2 + 4, 100, 1000, 2);
    snprintf(arguments, sizeof arguments, "%s, 1, 'rare', NULL, 0, NULL, 0, 100001", day);
    plan_expect(SQL_TRACE_STATS_SPAN_SCORES, arguments, 2 + 4, 100, 1000, 1);
    snprintf(arguments, sizeof arguments, "%s, 2, NULL, " PROMPT ", 0, NULL, 0, 100001", day);
    plan_expect(SQL_TRACE_STATS_SPAN_SCORES, arguments, 8, 1000, 5000, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_by_time),
        cmocka_unit_test(test_scores_by_target),
        cmocka_unit_test(test_scores_by_name_author_and_source),
        cmocka_unit_test(test_scores_by_identity),
        cmocka_unit_test(test_a_batch_that_is_recorded),
        cmocka_unit_test(test_only_the_days_of_a_range_are_read),
        cmocka_unit_test(test_traces_of_a_range),
        cmocka_unit_test(test_scores_of_a_range),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
