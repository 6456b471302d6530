/* The reads of the trace service at 100,000 traces over five days of partitions: their statements as forge_app plans and runs them under
 * row-level security. What is asserted is what is read, not time: a page costs about what it holds, and days that a trace does not touch
 * are not looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/plan_fixture.h"

#include <stdio.h>

#define PROJECT "'01890000-0000-7000-8000-0000000000b1'"
#define PROMPT "'01890000-0000-7000-8000-0000000000c1'"
#define PROMPT_RARE "'01890000-0000-7000-8000-0000000000c2'"

/* PAGE_ROWS: a page of 50 and whether there is more. FEW, LOOK_MAX: as service/trace/trace_list.c counts. SPANS: of a trace. */
enum { PAGE_ROWS = 51, FEW = 2000, LOOK_MAX = 20000, SPANS = 4 };

/* Ten days of which five have spans. */
static const char *const partitions_sql =
    "DO $$ DECLARE day date; name text; BEGIN FOR i IN 0..9 LOOP"
    " day := date '2026-01-01' + i; name := 'spans_' || to_char(day, 'YYYYMMDD');"
    " EXECUTE format('CREATE TABLE forge_partitions.%I (LIKE spans INCLUDING ALL)', name);"
    " EXECUTE format('ALTER TABLE forge_partitions.%I ENABLE ROW LEVEL SECURITY', name);"
    " EXECUTE format('ALTER TABLE forge_partitions.%I FORCE ROW LEVEL SECURITY', name);"
    " EXECUTE format('CREATE POLICY tenant ON forge_partitions.%I USING (organization_id ="
    " current_setting(''forge.organization_id'')::uuid)', name);"
    " EXECUTE format('ALTER TABLE spans ATTACH PARTITION forge_partitions.%I FOR VALUES FROM (%L) TO (%L)', name, day || ' 00:00:00+00',"
    " day + 1 || ' 00:00:00+00'); END LOOP; END $$";

/* Trace n starts 4.32 s after the one before and has four spans; every fiftieth is another tenant's. Half of them belong to sessions of
 * five. Superusers insert without looking at foreign keys. */
static const char *const data_sql =
    "SET session_replication_role = replica;"
    "INSERT INTO organizations (organization_id, name, slug) VALUES (" HOME ", 'home', 'home'), (" FOREIGN ", 'foreign', 'foreign');"
    "INSERT INTO projects (organization_id, id, name) VALUES (" HOME ", " PROJECT ", 'big'), (" FOREIGN ", " FOREIGN ", 'other');"
    "CREATE TEMPORARY TABLE t AS SELECT n, CASE WHEN n % 50 = 1 THEN " FOREIGN "::uuid ELSE " HOME " END AS organization_id,"
    " CASE WHEN n % 50 = 1 THEN " FOREIGN "::uuid ELSE " PROJECT " END AS project_id, int8send(0) || int8send(n) AS trace_id,"
    " timestamptz '2026-01-02 00:00:00+00' + n * interval '4.32 s' AS at,"
    " (extract(epoch FROM timestamptz '2026-01-02 00:00:00+00' + n * interval '4.32 s') * 1000000)::bigint * 1000 AS ns,"
    " CASE WHEN n % 20000 = 7 THEN 3600 WHEN n % 10 = 0 THEN 10 ELSE 1 END * 1000000000::bigint AS length FROM generate_series(0, 99999) "
    "n;"
    "INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, error_count,"
    " root_start_ns, root_span_id, name, session_id, user_id) SELECT organization_id, project_id, trace_id, at, ns, ns + length, length,"
    " CASE WHEN n % 5000 = 9 THEN 2 ELSE 1 END, 4, 0, ns, int8send(n * 10), 'root', CASE WHEN n % 2 = 0 THEN 'session ' || n / 10 END,"
    " 'user ' || n % 1000 FROM t;"
    "INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, status,"
    " model, prompt_id, prompt_version, prompt_label, input, content_hash)"
    " SELECT organization_id, project_id, trace_id, int8send(n * 10 + k), at + k * interval '1 ms', CASE WHEN k > 0 THEN int8send(n * 10) "
    "END,"
    " 'x', 1, ns + k * 1000000, ns + length, 1, CASE WHEN k = 1 THEN 'common' WHEN k = 2 AND n % 20000 = 7 THEN 'rare' END,"
    " CASE WHEN k = 1 THEN " PROMPT "::uuid WHEN k = 3 AND n % 20000 = 7 THEN " PROMPT_RARE " END, CASE WHEN k = 1 THEN 1 + n % 2"
    " WHEN k = 3 THEN 7 END, 'production', repeat('input ', 20), '' FROM t, generate_series(0, 3) k;";

/* A trace of 2,000 spans on the third. */
static const char *const large_sql =
    "INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, status, "
    "input,"
    " content_hash) SELECT " HOME ", " PROJECT
    ", int8send(1) || int8send(1), int8send(n), timestamptz '2026-01-03 12:00:00+00' + n * interval"
    " '1 us', CASE WHEN n > 1 THEN int8send(n - 1) END, 'x', 1, n, n, 1, 'input', '' FROM generate_series(1, 2000) n;"
    "INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, error_count,"
    " root_start_ns, root_span_id) VALUES (" HOME ", " PROJECT
    ", int8send(1) || int8send(1), '2026-01-03 12:00:00.000001+00', 1, 2000, 1999, 1,"
    " 2000, 0, 1, int8send(1))";

/* A session of 3,000 traces at the beginning of the second. */
static const char *const long_session_sql =
    "INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, error_count,"
    " session_id) SELECT " HOME ", " PROJECT ", int8send(2) || int8send(n), timestamptz '2026-01-02 00:00:00+00' + n * interval '1 ms', n,"
    " n, 0, 1, 0, 0, 'long' FROM generate_series(1, 3000) n";

/* The keys of fifty of them, as a page has, and fifty traces. */
static const char *const page_sql =
    "CREATE FUNCTION page_ids() RETURNS bytea[] LANGUAGE sql AS $$SELECT array_agg(int8send(n)) FROM generate_series(1001, 1050) n$$;"
    "CREATE FUNCTION page_times() RETURNS timestamptz[] LANGUAGE sql AS $$SELECT array_agg(timestamptz '2026-01-03 12:00:00+00' + n * "
    "interval"
    " '1 us') FROM generate_series(1001, 1050) n$$;"
    "CREATE FUNCTION listed_ids() RETURNS bytea[] LANGUAGE sql AS $$SELECT array_agg(int8send(0) || int8send(n)) FROM"
    " generate_series(50000, 50049) n$$;"
    "CREATE FUNCTION listed_starts() RETURNS timestamptz[] LANGUAGE sql AS $$SELECT array_agg(timestamptz '2026-01-02 00:00:00+00' +"
    " n * interval '4.32 s') FROM generate_series(50000, 50049) n$$;"
    "CREATE FUNCTION listed_ends() RETURNS timestamptz[] LANGUAGE sql AS $$SELECT array_agg(timestamptz '2026-01-02 00:00:00+00' +"
    " n * interval '4.32 s' + interval '10 s') FROM generate_series(50000, 50049) n$$";

static int setup(void **state)
{
    static const char *const commands[] = {partitions_sql, data_sql, large_sql, long_session_sql, page_sql, NULL};
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

/* ---- what a statement reads ---- */

static struct plan_reading read_project(enum plan_mode mode, enum sql_id id, const char *arguments)
{
    char all[2048];
    snprintf(all, sizeof all, PROJECT ", %s", arguments);
    return plan_read(mode, id, all);
}

/* day: of January, the only one that is looked into; 0 = any. */
static void expect(enum sql_id id, const char *arguments, unsigned day, unsigned found, unsigned rows_max, unsigned buffers_max)
{
    char table[32];
    snprintf(table, sizeof table, "spans_202601%02u", day);
    for (enum plan_mode mode = PLAN_CUSTOM; mode < PLAN_MODES; mode++) {
        const struct plan_reading reading = read_project(mode, id, arguments);
        if (reading.found != found || reading.rows > rows_max || reading.buffers > buffers_max)
            fail_msg("%s, %s (%s) finds %.0f (%u), reads %.0f rows (at most %u) and %.0f buffers (at most %u)", plan_mode_names[mode],
                     sql_statements[id].name, arguments, reading.found, found, reading.rows, rows_max, reading.buffers, buffers_max);
        if (day != 0) {
            assert_int_equal(reading.day_count, 1);
            assert_string_equal(reading.days[0], table);
        }
    }
}

/* ---- one trace ---- */

/* Trace 50000 starts at noon of the fourth. */
#define TRACE "int8send(0) || int8send(50000)"
#define TIMES "'2026-01-04 12:00:00+00', '2026-01-04 12:00:10+00'"

static void test_a_trace_touches_its_days_only(void **state)
{
    (void)state;
    expect(SQL_TRACE_FIND, TRACE, 0, 1, 2, 20);
    expect(SQL_TRACE_FIGURES, TRACE ", " TIMES ", true", 4, 1, 10, 50);
    expect(SQL_TRACE_SPANS,
           TRACE ", " TIMES ", array[int8send(500000), int8send(500002)],"
                 " array['2026-01-04 12:00:00+00', '2026-01-04 12:00:00.002+00']::timestamptz[], true, 4000000",
           4, 2, 4, 30);
}

/* Keys and figures of all spans, content of the root only; and of a page what is on it. */
static void test_content_is_read_of_the_page_only(void **state)
{
    (void)state;
    static const char times[] = "'2026-01-03 12:00:00.000001+00', '2026-01-03 12:00:00.002+00'";
    char arguments[512];
    snprintf(arguments, sizeof arguments, "int8send(1) || int8send(1), %s, true", times);
    expect(SQL_TRACE_FIGURES, arguments, 3, 1, 2000 + 5, 600);
    snprintf(arguments, sizeof arguments, "int8send(1) || int8send(1), %s, page_ids(), page_times(), true, 4000000", times);
    expect(SQL_TRACE_SPANS, arguments, 3, 50, 50, 300);
}

static void test_a_deletion_touches_its_days_only(void **state)
{
    (void)state;
    expect(SQL_TRACE_LOCK, TRACE, 0, 1, 2, 30);
    for (enum plan_mode mode = PLAN_CUSTOM; mode < PLAN_MODES; mode++) {
        plan_fixture_execute("BEGIN");
        const struct plan_reading reading = read_project(mode, SQL_TRACE_DELETE_SPANS, TRACE ", " TIMES);
        plan_fixture_execute("ROLLBACK");
        assert_true(reading.rows == SPANS && reading.buffers < 50 && reading.day_count == 1);
        assert_string_equal(reading.days[0], "spans_20260104");
    }
}

/* ---- lists ---- */

/* trace_walk by what it is asked for; unset texts are SQL. */
struct walk {
    const char *from, *to, *after, *status, *duration, *session, *user, *few;
};

static const char *or_else(const char *sql, const char *otherwise)
{
    return sql != NULL ? sql : otherwise;
}

static void expect_walk(struct walk walk, unsigned found, unsigned rows_max, unsigned buffers_max)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "%s, %s, %s, %s, %s, %s, %s, %s, %d, %d", or_else(walk.from, "'0001-01-01'"),
             or_else(walk.to, "'infinity'"), or_else(walk.after, "NULL"), or_else(walk.status, "NULL"), or_else(walk.duration, "0"),
             or_else(walk.session, "NULL"), or_else(walk.user, "NULL"), or_else(walk.few, "NULL"), PAGE_ROWS, FEW);
    expect(SQL_TRACE_WALK, arguments, 0, found, rows_max, buffers_max);
}

static void test_traces_by_time(void **state)
{
    (void)state;
    expect_walk((struct walk){0}, PAGE_ROWS, 60, 100);
    expect_walk((struct walk){.to = "'2026-01-04 12:00:00+00'", .after = TRACE}, PAGE_ROWS, 60, 100);
    expect_walk((struct walk){.from = "'2026-01-03 06:00:00+00'", .to = "'2026-01-03 06:00:30+00'"}, 6, 10, 50);
    expect_walk((struct walk){.to = "'2026-01-01 00:00:00+00'"}, 1, 2, 20); /* the row that tells the project is there */
}

static void test_traces_by_their_columns(void **state)
{
    (void)state;
    expect_walk((struct walk){.status = "2::smallint"}, 20, 30, 100);
    expect_walk((struct walk){.status = "1::smallint"}, PAGE_ROWS, 60, 100);
    expect_walk((struct walk){.session = "'session 5000'"}, 5, 10, 50);
    expect_walk((struct walk){.user = "'user 500'"}, PAGE_ROWS, 60, 200);
    expect_walk((struct walk){.user = "'user 500'", .to = "'2026-01-04 12:00:00+00'", .after = TRACE}, 50, 60, 200);
}

/* Where many last as long, one in ten is met on the walk: 510 for 51, after FEW index entries have told so. */
static void test_traces_that_last_long(void **state)
{
    (void)state;
    expect_walk((struct walk){.duration = "3600000000000"}, 5, 20, 100);
    expect_walk((struct walk){.duration = "10000000000"}, PAGE_ROWS, FEW + 11 * PAGE_ROWS, 500);
    expect_walk((struct walk){.duration = "3600000000000", .status = "1::smallint"}, 5, 20, 100);
    expect_walk((struct walk){.duration = "3600000000001"}, 1, 2, 20);
}

static void test_traces_that_are_given(void **state)
{
    (void)state;
    expect_walk((struct walk){.few = "array[" TRACE ", int8send(0) || int8send(7), int8send(0) || int8send(1)]"}, 2, 10, 50);
    expect_walk((struct walk){.few = "array[" TRACE "]", .status = "2::smallint"}, 1, 5, 50);
    expect_walk((struct walk){.few = "'{}'"}, 1, 2, 20);
}

static void test_traces_with_a_model_or_prompt(void **state)
{
    (void)state;
    expect(SQL_TRACE_WITH_MODEL, "'0001-01-01', 'rare', 2000", 0, 5, 5, 100);
    expect(SQL_TRACE_WITH_MODEL, "'0001-01-01', 'missing', 2000", 0, 0, 0, 100);
    expect(SQL_TRACE_WITH_MODEL, "'0001-01-01', 'common', 2000", 0, FEW, FEW + 100, 500);
    expect(SQL_TRACE_WITH_MODEL, "'2026-01-06 00:00:00+00', 'rare', 2000", 0, 1, 1, 100);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT_RARE ", 2000, 0, NULL, 2000", 0, 5, 5, 200);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT_RARE ", 2000, 7, NULL, 2000", 0, 5, 5, 200);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT_RARE ", 2000, 8, NULL, 2000", 0, 1, 0, 200);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT ", 2000, 0, NULL, 2000", 0, FEW, FEW + 100, 3000);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT ", 2000, 2, NULL, 2000", 0, FEW, FEW + 100, 3000);
}

/* Labels that few spans of the prompt were fetched by: of all its spans as many are looked at as traces for a page. */
static void test_traces_with_a_label(void **state)
{
    (void)state;
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT ", 2000, 0, 'production', 20000", 0, FEW, LOOK_MAX + 100, 3 * LOOK_MAX);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT ", 2000, 0, 'missing', 20000", 0, 1, LOOK_MAX + 100, 3 * LOOK_MAX);
    expect(SQL_TRACE_WITH_PROMPT, "'0001-01-01', " PROMPT ", 2000, 2, 'missing', 2000", 0, 1, FEW + 100, 3000);
}

/* Of fifty traces of one day. */
#define LISTED "'2026-01-04 12:00:00+00', '2026-01-04 12:04:00+00', listed_ids()"

static void test_spans_of_traces_that_were_met(void **state)
{
    (void)state;
    expect(SQL_TRACE_HAVING, LISTED ", listed_starts(), listed_ends(), 'common', NULL, 0, NULL", 4, 49, 120, 500);
    expect(SQL_TRACE_HAVING, LISTED ", listed_starts(), listed_ends(), 'rare', NULL, 0, NULL", 4, 0, 5, 500);
    expect(SQL_TRACE_HAVING, LISTED ", listed_starts(), listed_ends(), 'common', " PROMPT ", 1, 'production'", 4, 25, 50 * SPANS + 60,
           1000);
    expect(SQL_TRACE_HAVING, LISTED ", listed_starts(), listed_ends(), NULL, " PROMPT ", 0, NULL", 4, 49, 50 * SPANS, 500);
}

static void test_what_a_page_shows(void **state)
{
    (void)state;
    expect(SQL_TRACE_PAGE, LISTED ", false, 4000000, 200000", 4, 49, 49 * (SPANS + 1) + 5, 1000);
    expect(SQL_TRACE_PAGE, LISTED ", true, 4000000, 200000", 4, 49, 49 * (SPANS + 2) + 5, 1000);
    expect(SQL_TRACE_PAGE, LISTED ", false, 4000000, 40", 4, 10, 49 + 10 * SPANS + 5, 1000); /* cut, and the rest is not looked through */
}

static void expect_sessions(const char *arguments, unsigned found, unsigned rows_max, unsigned buffers_max)
{
    expect(SQL_SESSION_LIST, arguments, 0, found, rows_max, buffers_max);
}

/* Five traces a session: so many are walked by, each with one look for the newest of its session, and so many are added up. */
static void test_sessions(void **state)
{
    (void)state;
    expect_sessions("'0001-01-01', 'infinity', NULL, NULL, 'infinity', NULL, 51", PAGE_ROWS, 17 * PAGE_ROWS, 2500);
    expect_sessions("'0001-01-01', 'infinity', NULL, NULL, '2026-01-04 12:00:00+00', 'session 5000', 51", PAGE_ROWS, 17 * PAGE_ROWS, 2500);
    expect_sessions("'0001-01-01', '2026-01-04 12:00:00+00', NULL, NULL, '2026-01-04 12:00:00+00', NULL, 51", PAGE_ROWS, 17 * PAGE_ROWS,
                    2500);
    expect_sessions("'0001-01-01', 'infinity', NULL, 'user 500', 'infinity', NULL, 51", PAGE_ROWS, 15 * PAGE_ROWS, 2000);
    expect_sessions("'0001-01-01', 'infinity', 'session 5000', NULL, 'infinity', NULL, 51", 1, 30, 100);
    expect_sessions("'0001-01-01', 'infinity', 'long', NULL, 'infinity', NULL, 51", 1, 3000 + 10, 3500); /* added up, not walked */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_trace_touches_its_days_only),
        cmocka_unit_test(test_content_is_read_of_the_page_only),
        cmocka_unit_test(test_a_deletion_touches_its_days_only),
        cmocka_unit_test(test_traces_by_time),
        cmocka_unit_test(test_traces_by_their_columns),
        cmocka_unit_test(test_traces_that_last_long),
        cmocka_unit_test(test_traces_that_are_given),
        cmocka_unit_test(test_traces_with_a_model_or_prompt),
        cmocka_unit_test(test_traces_with_a_label),
        cmocka_unit_test(test_spans_of_traces_that_were_met),
        cmocka_unit_test(test_what_a_page_shows),
        cmocka_unit_test(test_sessions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
