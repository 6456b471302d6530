/* How old spans and traces go, in passes at times of the test's choice: whole days to files, projects with fewer days in batches; what
 * goes on meanwhile, and what goes wrong. Killed passes: tests/fault/retention_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/maintain.h"
#include "support/world.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_SIZE = 2048, SPANS_OF_TRACE = 3, LIMIT_DAYS = 30, DAY_NAME_SIZE = 9, WAITS = 3000 };
static const int64_t SECOND_US = INT64_C(1000000), DAY_US = INT64_C(86400000000);

static struct world world;

static int open_world(void **state)
{
    static const char *const flags[] = {"--database-maint-url", "", NULL}; /* passes are the tests' to make */
    const struct world_options options = {.flags = flags};
    world_open(&world, &options);
    return 0;
}

static int close_world(void **state)
{
    world_close(&world);
    return 0;
}

/* ---- passes ---- */

/* Midnight of the day so many days from now. */
static int64_t midnight(int days)
{
    int64_t now_us = forge_clock_wall_us();
    return now_us - now_us % DAY_US + days * DAY_US;
}

static struct db_maintain_config config_at(int64_t now_us)
{
    return (struct db_maintain_config){.url = pg_cluster_url(world.cluster, "forge_maint", world.database), .now_us = now_us};
}

static char told[8192]; /* the lines of the last pass */

static void keep_line(const char *line, void *user)
{
    (void)user;
    size_t length = strlen(told);
    snprintf(told + length, sizeof told - length, "%s\n", line);
}

static struct db_maintain_report pass(struct db_maintain_config config)
{
    struct db_maintain_report report;
    struct forge_error error = {0};
    told[0] = '\0';
    config.tell = keep_line;
    if (db_maintain(&config, &report, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    assert_true(report.is_leader);
    return report;
}

/* A path in the folder of the world; kept until 4 calls later. */
static char *path_of(const char *folder)
{
    static char paths[4][LINE_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, LINE_SIZE, "%s/%s", forged_world_folder(world.files), folder);
    return path;
}

/* With a limit of 30 days, archived to this folder of the world (NULL: not at all). */
static struct db_maintain_config limited(int64_t now_us, const char *folder)
{
    struct db_maintain_config config = config_at(now_us);
    config.trace_days = LIMIT_DAYS;
    config.archive_folder = folder != NULL ? path_of(folder) : NULL;
    return config;
}

/* ---- the database ---- */

/* "20260102"; kept until 4 calls later. */
static const char *day_name(int64_t day_us)
{
    static char names[4][DAY_NAME_SIZE];
    static int next;
    char *name = names[next++ % 4];
    time_t seconds = (time_t)(day_us / SECOND_US);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(name, DAY_NAME_SIZE, "%Y%m%d", &tm);
    return name;
}

/* So many traces of three spans each, a minute apart from 01:00 of the day on; every column has a value in some of the spans. */
static void fill(const struct world_tenant *tenant, const char *project_id, int64_t day_us, int traces)
{
    world_execute(
        &world,
        "WITH s AS (INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns,"
        " end_ns, status, status_message, provider, model, model_id, parameters, input_tokens, cache_read_tokens, cache_write_tokens,"
        " output_tokens, reasoning_tokens, cost_micros, price_id, time_to_first_token_us, prompt_id, prompt_version, prompt_label,"
        " session_id, user_id, input, output, details, policy_action, content_hash, ingested_at)"
        " SELECT '%1$s', '%2$s', t.id, decode(lpad(to_hex(n * 8 + i), 16, '0'), 'hex'), timestamptz 'epoch' + at_us * interval"
        " '1 microsecond', CASE WHEN i > 0 THEN decode(lpad(to_hex(n * 8), 16, '0'), 'hex') END, 'step ' || i, 1, at_us * 1000 + 123,"
        " at_us * 1000 + 1000000123, 1 + (n %% 7 = 0)::int, E'a \"message\"\\n' || n, 'openai', 'gpt-4', gen_random_uuid(),"
        " '{\"temperature\": 0.5}', 10, 1, 2, 20, 3, 4000 + n, gen_random_uuid(), 250, gen_random_uuid(), 3, 'live', 'session', 'user',"
        " E'in \\\\ \\u00e9 \\t' || n, NULLIF(repeat('out ', n %% 50), ''), sha256(n::text::bytea), 0, sha256(n::text::bytea), now()"
        " FROM generate_series(1, %4$d) n, generate_series(0, %5$d) i, LATERAL (SELECT substr(sha256((n || '%2$s%3$lld')::bytea), 1, 16)"
        " AS id, %3$lld + 3600000000 + n * bigint '60000000' + i AS at_us) t"
        " RETURNING organization_id, project_id, trace_id, started_at, start_ns, end_ns, status, input_tokens)"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count,"
        " error_count, input_tokens) SELECT organization_id, project_id, trace_id, min(started_at), min(start_ns), max(end_ns),"
        " max(end_ns) - min(start_ns), max(status), count(*), 0, sum(input_tokens) FROM s GROUP BY 1, 2, 3",
        tenant->organization_id, project_id, (long long)day_us, traces, SPANS_OF_TRACE - 1);
}

/* attached, detaching, detached or gone. */
static const char *state_of(int64_t day_us)
{
    static char state[16];
    char sql[LINE_SIZE];
    snprintf(sql, sizeof sql,
             "SELECT COALESCE((SELECT CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'detaching' ELSE"
             " 'attached' END FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.relname = 'spans_%s'), 'gone')",
             day_name(day_us));
    snprintf(state, sizeof state, "%s", pg_cluster_query(world.cluster, "postgres", world.database, sql));
    return state;
}

/* Of every column of every span in it. */
static char *hash_of(const char *table)
{
    char sql[LINE_SIZE];
    snprintf(sql, sizeof sql,
             "SELECT count(*) || ' ' || COALESCE(encode(sha256(convert_to(string_agg(s::text, E'\\n' ORDER BY organization_id, project_id,"
             " trace_id, span_id), 'UTF8')), 'hex'), '-') FROM %s s",
             table);
    return strdup(pg_cluster_query(world.cluster, "postgres", world.database, sql));
}

static char *hash_of_day(int64_t day_us)
{
    char table[64];
    snprintf(table, sizeof table, "forge_partitions.spans_%s", day_name(day_us));
    return hash_of(table);
}

static int64_t span_days(void)
{
    return world_number(&world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass");
}

static int64_t traces_of(const char *project_id)
{
    return world_number(&world, "SELECT count(*) FROM traces WHERE project_id = '%s'", project_id);
}

static int64_t spans_of(const char *project_id)
{
    return world_number(&world, "SELECT count(*) FROM spans WHERE project_id = '%s'", project_id);
}

static void make_project(const char *project_id)
{
    world_execute(&world, "INSERT INTO projects (organization_id, id, name) VALUES ('%s', '%s', '%s')", world.home.organization_id,
                  project_id, project_id);
}

static void set_days(const char *project_id, int days)
{
    world_execute(&world, "INSERT INTO retention_settings (organization_id, project_id, trace_days) VALUES ('%s', '%s', %d)",
                  world.home.organization_id, project_id, days);
}

/* A session of another program; PQfinish ends it. */
static PGconn *session(const char *role, const char *sql)
{
    PGconn *conn = PQconnectdb(pg_cluster_url(world.cluster, role, world.database));
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

/* ---- commands ---- */

/* Runs a shell line in the folder of the world: its exit code and parts of what it prints are as expected. */
static void shell(const char *line, int exit_code, const char *out, const char *err)
{
    char path[LINE_SIZE], url[LINE_SIZE];
    struct child_output output;
    snprintf(path, sizeof path, "PATH=%s/bin:%s%s%s", getenv("FORGE_BINARY_DIR"), getenv("PG_BINDIR") ? getenv("PG_BINDIR") : "",
             getenv("PG_BINDIR") ? ":" : "", getenv("PATH"));
    snprintf(url, sizeof url, "DATABASE_OWNER_URL=%s", pg_cluster_url(world.cluster, "forge_owner", world.database));
    const char *const words[] = {"-c", line, NULL}, *const environment[] = {path, url, NULL};
    child_run("/bin/sh", words, environment, forged_world_folder(world.files), &output);
    if (output.exit_code != exit_code || strstr(output.out, out) == NULL || strstr(output.err, err) == NULL)
        fail_msg("%s\nended with %d, not %d \"%s\" \"%s\":\n%s%s", line, output.exit_code, exit_code, out, err, output.out, output.err);
    child_output_done(&output);
}

/* ---- days ---- */

enum { REPLY_DAYS = 3, SPAN_DAYS = 9 /* yesterday to a week ahead */ };

static void test_the_days_back_to_the_oldest_span_are_made(void **state)
{
    struct db_maintain_config config = config_at(midnight(0) + DAY_US / 2);
    config.span_age_max_us = DAY_US;
    assert_int_equal(pass(config).partitions_made, REPLY_DAYS + SPAN_DAYS);
    config.span_age_max_us = 5 * DAY_US;
    assert_int_equal(pass(config).partitions_made, 4);
    assert_int_equal(span_days(), SPAN_DAYS + 4);
    assert_string_equal(state_of(midnight(-5)), "attached");
    assert_string_equal(state_of(midnight(-6)), "gone");
    /* A limit within the window: what it drops is not made again. */
    config.trace_days = 3;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pass(config).partitions_made, 0);
        assert_int_equal(span_days(), SPAN_DAYS + 2);
        assert_string_equal(state_of(midnight(-3)), "attached");
        assert_string_equal(state_of(midnight(-4)), "gone");
    }
}

/* Attached days from so many days ago on. */
static void make_days_back(int days)
{
    struct db_maintain_config config = config_at(forge_clock_wall_us());
    config.span_age_max_us = days * DAY_US;
    pass(config);
}

/* ---- while others are at work ---- */

enum { CALLS = 20, SPANS_OF_CALL = 10 };

static void ingest(struct forge_channel *channel, unsigned call)
{
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__IngestSpansResponse *reply;
    Forge__V1__Span spans[SPANS_OF_CALL], *list[SPANS_OF_CALL];
    char trace_id[33], span_ids[SPANS_OF_CALL][17], name[] = "meanwhile";
    struct forge_error error = {0};
    snprintf(trace_id, sizeof trace_id, "%032x", 0xabc000 + call);
    for (unsigned i = 0; i < SPANS_OF_CALL; i++) {
        snprintf(span_ids[i], sizeof span_ids[i], "%016x", i + 1);
        spans[i] = (Forge__V1__Span)FORGE__V1__SPAN__INIT;
        spans[i].trace_id = trace_id;
        spans[i].span_id = span_ids[i];
        spans[i].name = name;
        spans[i].start_ns = forge_clock_wall_us() * 1000;
        spans[i].end_ns = spans[i].start_ns + 1;
        list[i] = &spans[i];
    }
    request.project_id = world.home.project_id;
    request.spans = list;
    request.n_spans = SPANS_OF_CALL;
    world_check(&world, "IngestSpans", forge_trace_ingest_spans(channel, NULL, &request, &reply, &error), &error);
    assert_int_equal(reply->accepted_count, SPANS_OF_CALL);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
}

struct run {
    struct db_maintain_config config;
    struct db_maintain_report report;
    struct forge_error error;
    forge_code code;
    pthread_t thread;
    atomic_bool stop;
};

static void *run_main(void *argument)
{
    struct run *run = argument;
    run->code = db_maintain(&run->config, &run->report, &run->error);
    return NULL;
}

/* Returns when the pass waits for others who use a partition. */
static void run_until_it_waits(struct run *run, struct db_maintain_config config)
{
    *run = (struct run){.config = config};
    run->config.url = strdup(config.url);
    run->config.stop = &run->stop;
    assert_int_equal(pthread_create(&run->thread, NULL, run_main, run), 0);
    while (world_number(&world, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%% DETACH PARTITION %%' AND wait_event_type ="
                                " 'Lock' AND state = 'active'") == 0)
        world_sleep_ms(1);
}

static void run_join(struct run *run)
{
    pthread_join(run->thread, NULL);
    free((char *)(uintptr_t)run->config.url);
    if (run->code != FORGE_OK)
        fail_msg("%s", run->error.message);
}

/* Somebody reads spans in a long transaction: detaching waits for it, and nobody for the detaching. */
static void test_spans_are_ingested_while_a_day_is_detached(void **state)
{
    struct run run;
    make_days_back(LIMIT_DAYS + 1);
    fill(&world.home, world.home.project_id, midnight(-LIMIT_DAYS - 1), 10);
    PGconn *reader = session("postgres", "BEGIN; SELECT count(*) FROM spans");
    run_until_it_waits(&run, limited(forge_clock_wall_us(), "meanwhile"));
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    for (unsigned call = 0; call < CALLS; call++)
        ingest(channel, call);
    assert_string_equal(state_of(midnight(-LIMIT_DAYS - 1)), "detaching");
    PQfinish(reader);
    run_join(&run);
    forge_channel_close(channel);
    assert_int_equal(run.report.spans_archived, 10 * SPANS_OF_TRACE);
    assert_string_equal(state_of(midnight(-LIMIT_DAYS - 1)), "gone");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM spans WHERE name = 'meanwhile'"), CALLS * SPANS_OF_CALL);
    assert_int_equal(world_number(&world, "SELECT sum(span_count) FROM traces t WHERE EXISTS (SELECT FROM spans s WHERE s.trace_id ="
                                          " t.trace_id AND s.name = 'meanwhile')"),
                     CALLS * SPANS_OF_CALL);
}

/* A server that is to end does not wait for them; the next pass ends what was cut off. */
static void test_a_pass_that_waits_can_be_stopped(void **state)
{
    struct run run;
    int64_t day_us = midnight(-LIMIT_DAYS - 1);
    make_days_back(LIMIT_DAYS + 1);
    fill(&world.home, world.home.project_id, day_us, 10);
    PGconn *reader = session("postgres", "BEGIN; SELECT count(*) FROM spans");
    run_until_it_waits(&run, limited(forge_clock_wall_us(), "stopped"));
    atomic_store(&run.stop, true);
    run_join(&run);
    assert_int_equal(run.report.spans_archived, 0);
    assert_string_equal(state_of(day_us), "detaching");
    PQfinish(reader);
    assert_int_equal(pass(limited(forge_clock_wall_us(), "stopped")).spans_archived, 10 * SPANS_OF_TRACE);
    assert_string_equal(state_of(day_us), "gone");
}

/* Nor does the rest of maintenance wait for ever. */
static void test_a_forgotten_session_holds_up_its_partition_only(void **state)
{
    int64_t day_us = midnight(-LIMIT_DAYS - 1);
    struct db_maintain_config config = limited(forge_clock_wall_us(), "forgotten");
    make_days_back(LIMIT_DAYS + 1);
    PGconn *reader = session("postgres", "BEGIN; SELECT count(*) FROM spans");
    config.detach_wait_ms = 100;
    for (int i = 0; i < 2; i++) { /* the second time it is FINALIZE that waits */
        pass(config);
        assert_non_null(strstr(told, "Old partitions are left to the next pass: detaching a partition: canceling statement"));
        assert_string_equal(state_of(day_us), "detaching");
    }
    PQfinish(reader);
    pass(config);
    assert_string_equal(state_of(day_us), "gone");
}

/* ---- days of projects ---- */

/* By the start of the trace, to the microsecond, in batches, a trace that is in use later; no lock on other days than theirs. */
static void test_a_project_with_fewer_days_loses_its_old_traces(void **state)
{
    static const char short_id[] = "00000000-0000-7000-8000-0000000000d1", other_id[] = "00000000-0000-7000-8000-0000000000d2";
    char lock[LINE_SIZE];
    struct db_maintain_config config = config_at(midnight(0) + DAY_US / 2);
    make_days_back(3);
    make_project(short_id);
    make_project(other_id);
    set_days(short_id, 2);
    fill(&world.home, short_id, midnight(-3), 1200);
    fill(&world.home, short_id, midnight(-2), 700); /* the 660th begins at noon */
    fill(&world.home, short_id, midnight(-1), 10);
    fill(&world.home, other_id, midnight(-3), 10);
    PGconn *writer = session("postgres", "BEGIN; SELECT FROM traces WHERE project_id = '00000000-0000-7000-8000-0000000000d1'"
                                         " ORDER BY started_at LIMIT 1 FOR NO KEY UPDATE");
    snprintf(lock, sizeof lock, "BEGIN; LOCK TABLE forge_partitions.spans_%s, forge_partitions.spans_%s, forge_partitions.spans_%s",
             day_name(midnight(-1)), day_name(midnight(0)), day_name(midnight(1)));
    PGconn *holder = session("postgres", lock);
    struct db_maintain_report report = pass(config);
    PQfinish(holder);
    assert_int_equal(report.traces_deleted, 1199 + 659);
    assert_int_equal(report.spans_deleted, (1199 + 659) * SPANS_OF_TRACE);
    assert_int_equal(traces_of(short_id), 1 + 41 + 10);
    assert_int_equal(spans_of(short_id), (1 + 41 + 10) * SPANS_OF_TRACE);
    PQfinish(writer);
    assert_int_equal(pass(config).traces_deleted, 1);
    assert_int_equal(traces_of(short_id), 41 + 10);
    assert_int_equal(spans_of(short_id), (41 + 10) * SPANS_OF_TRACE);
    assert_int_equal(traces_of(other_id), 10);
    assert_int_equal(spans_of(other_id), 10 * SPANS_OF_TRACE);
    assert_int_equal(pass(config).traces_deleted, 0);
}

static void test_old_rate_windows_go(void **state)
{
    static const char policy_id[] = "00000000-0000-7000-8000-0000000000e1";
    world_execute(
        &world,
        "INSERT INTO policies (organization_id, id, name, draft_hash, created_by) VALUES ('%1$s', '%2$s', 'limit', '\\x00', '%2$s');"
        " INSERT INTO rate_windows (organization_id, policy_id, rule, key, window_start) SELECT '%1$s', '%2$s', 'r', 'k',"
        " now() - '30 min'::interval - n * '1 h'::interval FROM generate_series(1, 100) n",
        world.home.organization_id, policy_id);
    assert_int_equal(pass(config_at(forge_clock_wall_us())).rate_windows, 100 - 47);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM rate_windows WHERE window_start > now() - '48 h'::interval"), 47);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM rate_windows"), 47);
}

/* ---- commands and servers ---- */

static void test_the_command_says_what_it_does(void **state)
{
    make_days_back(43);
    fill(&world.home, world.home.project_id, midnight(-42), 10);
    fill(&world.foreign, world.foreign.project_id, midnight(-42), 5);
    world_execute(
        &world,
        "INSERT INTO executions (organization_id, prompt_id, version, executed_at) VALUES ('%s', '%s', 1, now() - '200 d'::interval)",
        world.home.organization_id, world.home.prompt_id);
    shell("forged maintain", 0, "Deleted 0 traces with 0 spans, archived 0 spans in 0 files", "");
    shell("forged maintain --trace-retention-days 40 --trace-archive-folder files", 0, "Archived 30 spans of organization ", "");
    assert_string_equal(state_of(midnight(-42)), "gone");
    assert_string_equal(state_of(midnight(-40)), "attached");
    /* Archives of both kinds may share a folder. */
    shell("forged maintain archive-executions --folder files", 0, "Archived 1 executions in 1 files", "");
    shell("for sums in files/*/SHA256SUMS; do (cd \"${sums%/*}\" && sha256sum --check --strict --quiet SHA256SUMS) || exit 1; done;"
          " cat files/*/SHA256SUMS | wc -l; ls files/*/*.zst | wc -l; find files -type f ! -perm 600 | wc -l",
          0, "3\n3\n0\n", "");
}

static void test_settings_that_contradict_each_other_are_refused(void **state)
{
    shell("forged maintain --trace-retention-days 40", 1, "", "trace_retention_days needs trace_archive_folder");
    shell("forged maintain --trace-retention-days 9 --trace-archive-folder none --span-age-max 240h", 1, "",
          "trace_retention_days: 9 must not be less than span_age_max (240 hours)");
    shell("forged maintain --trace-retention-days 10 --trace-archive-folder none --span-age-max 240h --help", 0, "trace-archive-folder",
          "");
    shell("forged maintain --trace-retention-days -1", 1, "", "trace_retention_days: \"-1\"");
}

static void test_a_server_keeps_the_limit(void **state)
{
    static const char *const flags[] = {
        "--maintenance-interval", "100ms", "--trace-retention-days", "35", "--trace-archive-folder", "by-server", NULL};
    make_days_back(38);
    fill(&world.home, world.home.project_id, midnight(-37), 10);
    struct forged_child *child = forged_world_serve(world.files, flags);
    for (int waits = 0; waits < WAITS && strcmp(state_of(midnight(-37)), "gone") != 0; waits++)
        world_sleep_ms(10);
    assert_string_equal(state_of(midnight(-37)), "gone");
    forged_child_stop(child);
    assert_int_equal(world_number(&world, "SELECT row_count FROM archives WHERE path LIKE '%%/by-server/%%' AND state = 'complete'"),
                     10 * SPANS_OF_TRACE);
}

/* ---- the limit of the server, in days to come ---- */

/* By the commands that deploy/README.md tells, as they stand there but for the files. */
static void load_archives(const char *folder)
{
    char line[LINE_SIZE];
    snprintf(line, sizeof line,
             "grep '^    .*archived' '%s/deploy/README.md' | grep -v DROP | sed 's,spans-2026-03-,%s/*/spans-2,' > load.sh"
             " && test $(wc -l < load.sh) = 3 && sh -e load.sh",
             getenv("FORGE_SOURCE_DIR"), folder);
    shell(line, 0, "COPY ", "");
}

static void assert_archives_hold(const char *folder, const char *hash)
{
    load_archives(folder);
    char *loaded = hash_of("archived.spans");
    assert_string_equal(loaded, hash);
    free(loaded);
    world_execute(&world, "DROP SCHEMA archived CASCADE");
}

static void test_an_old_day_is_archived_and_dropped(void **state)
{
    int64_t day_us = midnight(60), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    pass(limited(day_us, NULL)); /* what the tests before have left goes */
    fill(&world.home, world.home.project_id, day_us, 100);
    fill(&world.foreign, world.foreign.project_id, day_us, 10);
    fill(&world.home, world.home.project_id, day_us + DAY_US, 5);
    world_execute(&world, /* one goes on into the next day */
                  "UPDATE traces SET end_ns = %lld WHERE trace_id = (SELECT trace_id FROM traces WHERE project_id = '%s' AND end_ns <"
                  " %lld AND start_ns > %lld ORDER BY trace_id LIMIT 1)",
                  (long long)(day_us + DAY_US + 1) * 1000, world.home.project_id, (long long)(day_us + DAY_US) * 1000,
                  (long long)day_us * 1000);
    char *before = hash_of_day(day_us);
    struct db_maintain_config config = limited(over_us - 1, "days");
    config.spans_per_file = 100;
    pass(config);
    assert_string_equal(state_of(day_us), "attached"); /* a microsecond before it is over */
    int64_t traces = world_number(&world, "SELECT count(*) FROM traces");
    config.now_us = over_us;
    struct db_maintain_report report = pass(config);
    assert_int_equal(report.spans_archived, 330);
    assert_int_equal(report.archive_files, 4);
    assert_int_equal(report.traces_deleted, 109);
    assert_int_equal(report.spans_deleted, 0);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM traces"), traces - 109);
    assert_string_equal(state_of(day_us), "gone");
    assert_string_equal(state_of(day_us + DAY_US), "attached");
    assert_non_null(strstr(told, "Detached forge_partitions.spans_"));
    assert_non_null(strstr(told, "Archived 30 spans of organization "));
    assert_non_null(strstr(told, "Dropped forge_partitions.spans_"));
    assert_int_equal(world_number(&world,
                                  "SELECT count(*) FROM archives WHERE kind = 'spans' AND state = 'complete' AND path LIKE '%%/days/%%' AND"
                                  " first_at >= timestamptz 'epoch' + %lld * interval '1 microsecond' AND last_at >= first_at AND last_at <"
                                  " timestamptz 'epoch' + %lld * interval '1 microsecond'",
                                  (long long)day_us, (long long)(day_us + DAY_US)),
                     4);
    assert_int_equal(world_number(&world, "SELECT sum(row_count) FROM archives WHERE path LIKE '%%/days/%%'"), 330);
    shell("for sums in days/*/SHA256SUMS; do (cd \"${sums%/*}\" && sha256sum --check --strict --quiet SHA256SUMS) || exit 1; done;"
          " cat days/*/SHA256SUMS | wc -l; zstdcat days/*/spans-2*.jsonl.zst | wc -l; find days -type f ! -perm 600 | wc -l",
          0, "4\n330\n0\n", "");
    assert_archives_hold("days", before);
    report = pass(config);
    assert_int_equal(report.spans_archived + report.traces_deleted, 0);
    assert_string_equal(told, "");
    /* The next day without a folder: "none". */
    report = pass(limited(over_us + DAY_US, NULL));
    assert_int_equal(report.spans_archived, 0);
    assert_int_equal(report.traces_deleted, 6);
    assert_string_equal(state_of(day_us + DAY_US), "gone");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE path LIKE '%%/days/%%'"), 4);
    free(before);
}

/* A column that is added to spans is archived too. */
static void test_a_line_has_every_column(void **state)
{
    char line[LINE_SIZE], *columns;
    columns = strdup(pg_cluster_query(world.cluster, "postgres", world.database,
                                      "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'spans'::regclass"
                                      " AND attnum > 0 AND NOT attisdropped"));
    snprintf(
        line, sizeof line,
        "zstdcat days/*/spans-*.jsonl.zst | python3 -c 'import json, sys; print(*dict.fromkeys(\" \".join(json.loads(line)) for line in"
        " sys.stdin), sep=\"\\n\", end=\".\")'");
    char *expected;
    assert_true(asprintf(&expected, "%s.", columns) > 0);
    shell(line, 0, expected, "");
    free(expected);
    free(columns);
}

static void test_without_a_limit_nothing_goes(void **state)
{
    int64_t day_us = midnight(110);
    pass(config_at(day_us));
    fill(&world.home, world.home.project_id, day_us, 10);
    struct db_maintain_report report = pass(config_at(day_us + 20 * 365 * DAY_US));
    assert_int_equal(report.traces_deleted + report.spans_deleted + report.spans_archived, 0);
    assert_string_equal(state_of(day_us), "attached");
    pass(limited(day_us + 20 * 365 * DAY_US, NULL));
    assert_string_equal(state_of(day_us), "gone");
}

static void expect_failure(struct db_maintain_config config, const char *part)
{
    struct db_maintain_report report;
    struct forge_error error = {0};
    config.tell = keep_line;
    assert_int_equal(db_maintain(&config, &report, &error), FORGE_FAILED_PRECONDITION);
    if (strstr(error.message, part) == NULL)
        fail_msg("%s", error.message);
}

/* Nothing is detached for a folder that is not there; a file that cannot be written loses nothing, and what was detached for it comes back
 * when the limit is taken away. */
static void test_a_folder_that_cannot_be_written_loses_nothing(void **state)
{
    int64_t day_us = midnight(20 * 365 + 200), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    char line[LINE_SIZE];
    pass(config_at(day_us));
    fill(&world.home, world.home.project_id, day_us, 20);
    fill(&world.foreign, world.foreign.project_id, day_us, 20);
    char *before = hash_of_day(day_us);
    expect_failure(limited(over_us, "no/such"), "making the folder");
    assert_string_equal(state_of(day_us), "attached");
    snprintf(line, sizeof line, "mkdir broken && touch broken/%s broken/%s", world.home.organization_id, world.foreign.organization_id);
    shell(line, 0, "", "");
    expect_failure(limited(over_us, "broken"), "Not a directory");
    assert_string_equal(state_of(day_us), "detached");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE state = 'writing'"), 0);
    assert_int_equal(world_number(&world,
                                  "SELECT count(*) FROM spans WHERE started_at >= timestamptz 'epoch' + %lld * interval"
                                  " '1 microsecond'",
                                  (long long)day_us),
                     0);
    pass(config_at(over_us));
    assert_string_equal(state_of(day_us), "attached");
    assert_non_null(strstr(told, "again: it is not too old"));
    assert_int_equal(world_number(&world,
                                  "SELECT count(*) FROM pg_class WHERE relname = 'spans_%s' AND relrowsecurity AND"
                                  " relforcerowsecurity",
                                  day_name(day_us)),
                     1);
    char *attached = hash_of_day(day_us);
    assert_string_equal(attached, before);
    free(attached);
    shell("rm -r broken", 0, "", "");
    assert_int_equal(pass(limited(over_us, "broken")).spans_archived, 40 * SPANS_OF_TRACE);
    assert_string_equal(state_of(day_us), "gone");
    assert_archives_hold("broken", before);
    free(before);
}

/* A pass that was killed between the last file of an organization and its SHA256SUMS is made up for, though no span is left to archive. */
static void test_checksums_are_made_up_for(void **state)
{
    int64_t day_us = midnight(20 * 365 + 250), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    pass(config_at(day_us));
    fill(&world.home, world.home.project_id, day_us, 10);
    world_execute(&world, "CREATE FUNCTION keep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept' USING ERRCODE ="
                          " '55P03'; END $$; CREATE EVENT TRIGGER keep ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION"
                          " keep()");
    assert_int_equal(pass(limited(over_us, "sums")).spans_archived, 10 * SPANS_OF_TRACE);
    world_execute(&world, "DROP EVENT TRIGGER keep; DROP FUNCTION keep()");
    assert_string_equal(state_of(day_us), "detached");
    shell("rm sums/*/SHA256SUMS", 0, "", "");
    assert_int_equal(pass(limited(over_us, "sums")).spans_archived, 0);
    assert_string_equal(state_of(day_us), "gone");
    shell("cd sums/* && sha256sum --check --strict --quiet SHA256SUMS && wc -l < SHA256SUMS", 0, "1\n", "");
}

/* What fails for one organization keeps nobody else's old days. */
static void test_a_failure_of_one_organization_holds_up_no_day(void **state)
{
    int64_t day_us = midnight(20 * 365 + 270), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    pass(config_at(day_us));
    fill(&world.home, world.home.project_id, day_us, 10);
    world_execute(&world, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;"
                          " CREATE TRIGGER refuse BEFORE DELETE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION refuse()");
    expect_failure(limited(over_us, "others"), "deleting sessions: refused");
    world_execute(&world, "DROP TRIGGER refuse ON sessions; DROP FUNCTION refuse()");
    assert_string_equal(state_of(day_us), "gone");
}

/* What came too late for its deletion is in no file. */
static void test_what_nobody_is_to_keep_is_not_archived(void **state)
{
    static const char deleted_id[] = "00000000-0000-7000-8000-0000000000f1", short_id[] = "00000000-0000-7000-8000-0000000000f2",
                      longer_id[] = "00000000-0000-7000-8000-0000000000f3";
    int64_t day_us = midnight(20 * 365 + 300), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    make_project(deleted_id);
    make_project(short_id);
    make_project(longer_id);
    set_days(short_id, LIMIT_DAYS - 1);
    set_days(longer_id, LIMIT_DAYS + 1);
    pass(config_at(day_us));
    fill(&world.home, deleted_id, day_us, 10);
    fill(&world.home, short_id, day_us, 10);
    fill(&world.home, longer_id, day_us, 10);
    fill(&world.home, world.home.project_id, day_us, 10);
    world_execute(&world,
                  "ALTER TABLE spans DETACH PARTITION forge_partitions.spans_%s; UPDATE projects SET deleted_at = now() WHERE id = '%s'",
                  day_name(day_us), deleted_id);
    assert_int_equal(pass(limited(over_us, "wanted")).spans_archived, 20 * SPANS_OF_TRACE);
    assert_string_equal(state_of(day_us), "gone");
    shell("zstdcat wanted/*/*.zst | grep -c -e 0000000000f1 -e 0000000000f2; zstdcat wanted/*/*.zst | grep -c 0000000000f3", 0, "0\n30\n",
          "");
}

/* They are read some at a time, as their texts are long. */
static void test_long_spans_are_archived_whole(void **state)
{
    int64_t day_us = midnight(20 * 365 + 350), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    pass(config_at(day_us));
    fill(&world.home, world.home.project_id, day_us, 10);
    world_execute(&world, "UPDATE forge_partitions.spans_%s SET output = repeat(encode(span_id, 'hex'), 100000)", day_name(day_us));
    char *before = hash_of_day(day_us);
    struct db_maintain_report report = pass(limited(over_us, "long"));
    assert_int_equal(report.spans_archived, 10 * SPANS_OF_TRACE);
    assert_int_equal(report.archive_files, 1);
    assert_archives_hold("long", before);
    free(before);
}

/* Executions are being archived: there is time. */
static void test_another_archiver_is_left_alone(void **state)
{
    int64_t day_us = midnight(20 * 365 + 400), over_us = day_us + (LIMIT_DAYS + 1) * DAY_US;
    pass(config_at(day_us));
    PGconn *other = session("forge_maint", "SELECT pg_advisory_lock(7382076407442270326)");
    pass(limited(over_us, "later"));
    assert_non_null(strstr(told, "Old partitions are left to the next pass: rows are being archived or restored by another run"));
    assert_string_equal(state_of(day_us), "attached");
    PQfinish(other);
    pass(limited(over_us, "later"));
    assert_string_equal(state_of(day_us), "gone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_days_back_to_the_oldest_span_are_made),
        cmocka_unit_test(test_spans_are_ingested_while_a_day_is_detached),
        cmocka_unit_test(test_a_pass_that_waits_can_be_stopped),
        cmocka_unit_test(test_a_forgotten_session_holds_up_its_partition_only),
        cmocka_unit_test(test_a_project_with_fewer_days_loses_its_old_traces),
        cmocka_unit_test(test_old_rate_windows_go),
        cmocka_unit_test(test_the_command_says_what_it_does),
        cmocka_unit_test(test_settings_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_a_server_keeps_the_limit),
        cmocka_unit_test(test_an_old_day_is_archived_and_dropped),
        cmocka_unit_test(test_a_line_has_every_column),
        cmocka_unit_test(test_without_a_limit_nothing_goes),
        cmocka_unit_test(test_a_folder_that_cannot_be_written_loses_nothing),
        cmocka_unit_test(test_checksums_are_made_up_for),
        cmocka_unit_test(test_a_failure_of_one_organization_holds_up_no_day),
        cmocka_unit_test(test_what_nobody_is_to_keep_is_not_archived),
        cmocka_unit_test(test_long_spans_are_archived_whole),
        cmocka_unit_test(test_another_archiver_is_left_alone),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
