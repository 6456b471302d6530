/* kill -9 of `forged maintain` while it detaches, archives and drops days of spans, and cuts of its connections. Each span is in the table,
 * in a detached partition or in one complete archive, as strangers read it. */
#include "maintain_run.h"
#include "writes.h"

#include "wire/clock.h"

#include <libpq-fe.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { OLD_DAYS = 8, LIMIT_DAYS = 20, OLD_TRACES = 100, KEPT_TRACES = 20, SPANS_OF_TRACE = 3, RANDOM_MS = 500, WAITS = 60000 };
static const char pass[] = "--trace-retention-days 20 --trace-archive-folder files", make_days[] = "--span-age-max 720h";
/* Partitions of spans that are in the table no more. */
#define DETACHED                                                                                                                           \
    "FROM pg_class c WHERE c.relnamespace = 'forge_partitions'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^spans_[0-9]{8}$'"       \
    " AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending)"

static struct world world;
static PGconn *watcher; /* looks often: a process for each look would come too late */
static long recorded;
static unsigned fills;

/* ---- what the database says ---- */

static long number(const char *sql)
{
    PGresult *result = PQexec(watcher, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(watcher));
    long value = strtol(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

/* Traces of three spans for a tenant, on the day so many days ago; which spans they are is also kept apart. */
static void fill_day(const struct world_tenant *tenant, int days_ago, int traces)
{
    world_execute(
        &world,
        "WITH s AS (INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, name, kind, start_ns, end_ns, status,"
        " input, details, content_hash) SELECT '%1$s', '%2$s', t.id, decode(lpad(to_hex(i), 16, '0'), 'hex'), t.at, 'step', 1,"
        " extract(epoch FROM t.at)::bigint * 1000000000, extract(epoch FROM t.at)::bigint * 1000000000 + 1, 1, md5(n::text),"
        " sha256(n::text::bytea), sha256(n::text::bytea) FROM generate_series(1, %4$d) n, generate_series(1, %5$d) i, LATERAL (SELECT"
        " substr(sha256((n || '%2$s.%3$d.%6$u')::bytea), 1, 16) AS id, date_trunc('day', now(), 'UTC') - %3$d * '1 day'::interval"
        " + n * '1 min'::interval AS at) t RETURNING *), kept AS (INSERT INTO recorded SELECT * FROM s)"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count,"
        " error_count) SELECT organization_id, project_id, trace_id, min(started_at), min(start_ns), max(end_ns), 1, 1, count(*), 0 FROM s"
        " GROUP BY 1, 2, 3",
        tenant->organization_id, tenant->project_id, days_ago, traces, SPANS_OF_TRACE, fills);
    recorded += (long)traces * SPANS_OF_TRACE;
}

static int run(const char *flags);

/* Old days in both organizations, and one that stays. */
static void fill(void)
{
    const struct world_tenant *const tenants[] = {&world.home, &world.foreign};
    fills++;
    assert_int_equal(run(make_days), 0);
    for (int i = 0; i < 2; i++) {
        for (int day = 0; day < OLD_DAYS; day++)
            fill_day(tenants[i], LIMIT_DAYS + 1 + day, OLD_TRACES);
        fill_day(tenants[i], LIMIT_DAYS - 1, KEPT_TRACES);
    }
}

/* Spans in the table, in detached partitions and in complete archives, as their rows say. */
static void count_rows(struct fault_count *count)
{
    long now = (long)world_number(
        &world, "SELECT (SELECT count(*) FROM spans) + (SELECT COALESCE(sum(row_count), 0) FROM archives WHERE state = 'complete') +"
                " (SELECT COALESCE(sum((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %%s', c.oid::regclass),"
                " false, true, '')))[1]::text::bigint), 0) " DETACHED ")");
    count->lost += now < recorded ? recorded - now : 0;
    count->duplicated += now > recorded ? now - recorded : 0;
}

/* ---- commands ---- */

static int run(const char *flags)
{
    return fault_maintain_end(&world, fault_maintain_start(&world, flags));
}

static bool has_ended(pid_t child)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child;
}

/* ---- kills ---- */

/* A pass is killed when one of these has just changed: a partition is detached or dropped, a file is begun or complete, traces are gone. */
static const char *const steps[] = {
    "SELECT count(*) " DETACHED,
    "SELECT count(*) FROM archives WHERE state = 'writing'",
    "SELECT count(*) FROM archives WHERE state = 'complete'",
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'forge_partitions'::regnamespace AND relname LIKE 'spans%' AND relkind = 'r'",
    "SELECT count(*) FROM traces",
};
enum { STEPS = sizeof steps / sizeof steps[0] };
static long found[STEPS + 1]; /* how many kills have left a partition being detached, one detached, an unfinished archive, ... */
enum { DETACHING, DETACHED_WHOLE, DETACHED_PARTLY, UNFINISHED };

/* A killed pass's statement may go on for a moment: its connection is looked at every second. */
static void wait_for_its_end(void)
{
    for (int i = 0; i < WAITS && number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forged admin'") > 0; i++)
        world_sleep_ms(1);
    assert_int_equal(number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forged admin'"), 0);
}

static void wait_for_step(pid_t child, const char *step)
{
    long before = number(step);
    while (!has_ended(child) && number(step) == before)
        continue;
}

static void wait_at_random(void)
{
    usleep((useconds_t)((uint64_t)rand() % ((uint64_t)RANDOM_MS * 1000 * fault_time_factor())));
}

/* The connections of every third are cut instead. True when it was through before. */
static bool run_killed(long landed)
{
    pid_t child = fault_maintain_start(&world, pass);
    if (landed % (STEPS + 1) < STEPS)
        wait_for_step(child, steps[landed % (STEPS + 1)]);
    else
        wait_at_random();
    if (landed % 3 == 2)
        number("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'forged admin'");
    else
        kill(child, SIGKILL);
    int code = fault_maintain_end(&world, child);
    assert_true(code == 0 || code == 1 || code == 128 + SIGKILL);
    wait_for_its_end();
    return code == 0;
}

/* Somebody reads spans in a long transaction: the pass waits for it, and is killed there. */
static void run_killed_while_it_detaches(void)
{
    if (number(
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'spans'::regclass AND c.relname"
            " < 'spans_' || to_char(now() AT TIME ZONE 'UTC' - '20 d'::interval, 'YYYYMMDD')") == 0)
        fill(); /* nothing was left to detach */
    PGconn *reader = PQconnectdb(pg_cluster_url(world.cluster, "postgres", world.database));
    PQclear(PQexec(reader, "BEGIN"));
    PQclear(PQexec(reader, "SELECT count(*) FROM spans"));
    assert_int_equal(PQtransactionStatus(reader), PQTRANS_INTRANS);
    pid_t child = fault_maintain_start(&world, pass);
    while (number("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '% DETACH PARTITION %' AND wait_event_type = 'Lock'") == 0)
        assert_false(has_ended(child));
    kill(child, SIGKILL);
    assert_int_equal(fault_maintain_end(&world, child), 128 + SIGKILL);
    wait_for_its_end();
    PQfinish(reader);
}

static void note_what_was_left(void)
{
    found[DETACHING] += number("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") > 0;
    found[UNFINISHED] += number(steps[1]) > 0;
    bool detached = number(steps[0]) > 0, partly = number("SELECT count(*) FROM archives WHERE state = 'complete'") % (2 * OLD_DAYS) != 0;
    found[detached && partly ? DETACHED_PARTLY : DETACHED_WHOLE] += detached;
}

/* ---- the case ---- */

/* The files as strangers read them, and the table, against what was recorded: every column. */
static void count_files(struct fault_count *count)
{
    const char *url = pg_cluster_url(world.cluster, "postgres", world.database);
    world_execute(&world,
                  "CREATE SCHEMA archived; CREATE TABLE archived.spans (LIKE public.spans); CREATE TABLE archived.lines (line json)");
    fault_shell(&world,
                "zstdcat files/*/*.zst | ${PG_BINDIR:+$PG_BINDIR/}psql -q '%s'"
                " -c \"COPY archived.lines FROM STDIN (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')\"",
                url);
    world_execute(&world,
                  "INSERT INTO archived.spans SELECT s.* FROM archived.lines, json_populate_record(NULL::archived.spans, line) AS s;"
                  " INSERT INTO archived.spans SELECT * FROM spans");
    count->lost +=
        (long)world_number(&world, "SELECT count(*) FROM (SELECT r::text FROM recorded r EXCEPT SELECT s::text FROM archived.spans"
                                   " s) missing");
    count->duplicated += (long)world_number(&world, "SELECT (SELECT count(*) FROM archived.spans) - (SELECT count(*) FROM (SELECT DISTINCT"
                                                    " s::text FROM archived.spans s) d)");
    world_execute(&world, "DROP SCHEMA archived CASCADE");
}

/* Unfinished archives, files that no complete archive names, old partitions, and traces without a span. */
static long left_over(void)
{
    struct child_output output;
    const char *const words[] = {"-c", "find files -type f ! -name SHA256SUMS | wc -l", NULL};
    child_run("/bin/sh", words, NULL, forged_world_folder(world.files), &output);
    long files = strtol(output.out, NULL, 10);
    child_output_done(&output);
    return files - number(steps[2]) + number(steps[1]) + number(steps[0]) +
           number("SELECT count(*) FROM traces t WHERE NOT EXISTS (SELECT FROM spans s WHERE s.trace_id = t.trace_id)");
}

static void test_a_killed_pass_loses_and_doubles_nothing(void **state)
{
    long kills = fault_is_full() ? 200 : 25, landed = 0, detaching = 0;
    struct fault_count count = {0};
    while (landed < kills) {
        bool through = false;
        if (landed % 8 == 0 && detaching == landed / 8) {
            run_killed_while_it_detaches();
            detaching++;
        } else {
            through = run_killed(landed);
        }
        landed += !through;
        note_what_was_left();
        count_rows(&count);
        if (through)
            fill(); /* so that each kill meets something that runs */
    }
    assert_int_equal(run(pass), 0);
    count_rows(&count);
    count_files(&count);
    fault_shell(&world, "for folder in files/*; do (cd $folder && sha256sum --check --strict --quiet SHA256SUMS) || exit 1; done");
    fault_shell(&world, "zstd -q -t files/*/*.zst && test $(cat files/*/SHA256SUMS | wc -l) = $(ls files/*/*.zst | wc -l)");
    long leaked = left_over();
    fprintf(stderr, "%ld spans; kills left a partition being detached %ld, whole %ld, archived in part %ld times, a file unfinished %ld\n",
            recorded, found[DETACHING], found[DETACHED_WHOLE], found[DETACHED_PARTLY], found[UNFINISHED]);
    bool all_steps = found[DETACHING] > 0 && found[DETACHED_WHOLE] > 0 && found[DETACHED_PARTLY] > 0 && found[UNFINISHED] > 0;
    bool ok = count.lost == 0 && count.duplicated == 0 && leaked == 0 && all_steps;
    fault_report("retention", "kill -9 of forged maintain, and its connections cut, at each step of retention and at random", landed, count,
                 leaked, "each span in the table, a detached partition or one complete archive", ok);
    assert_true(ok);
}

static int set_up(void **state)
{
    static const char *const flags[] = {"--database-maint-url", "", NULL}; /* passes are the test's to make */
    const struct world_options options = {.checksums = true, .flags = flags};
    srand(14);
    world_open(&world, &options);
    watcher = PQconnectdb(pg_cluster_url(world.cluster, "postgres", world.database));
    world_execute(&world, "CREATE TABLE recorded (LIKE spans)");
    fill();
    return 0;
}

static int tear_down(void **state)
{
    fault_shell(&world, "rm -rf files");
    PQfinish(watcher);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_killed_pass_loses_and_doubles_nothing)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
