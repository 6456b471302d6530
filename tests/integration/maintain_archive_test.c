/* `forged maintain archive-executions` and `restore-executions`: what statistics, files and tables say before, between and after, and what
 * is refused. Killed runs: tests/fault/archive_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/archive.h"
#include "support/world.h"
#include "wire/clock.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OLD = 2500, RECENT = 100, LINE_SIZE = 2048, PROMPTS = 3, LATE_BATCHES = 40, LATE_ITEMS = 50 };
static const char no_archive[] = "00000000-0000-7000-8000-0000000000a1";

static struct world world;
static char prompts[PROMPTS][WORLD_ID_SIZE]; /* two at home, one of the foreign organization */
static char *hash_before;

/* ---- helpers ---- */

static struct child_output shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Runs a shell line in the folder of the world; free with child_output_done. */
static struct child_output shell(const char *format, ...)
{
    char line[LINE_SIZE], path[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "PATH=%s/bin:%s", getenv("FORGE_BINARY_DIR"), getenv("PATH"));
    const char *const words[] = {"-c", line, NULL}, *const environment[] = {path, NULL};
    struct child_output output;
    child_run("/bin/sh", words, environment, forged_world_folder(world.files), &output);
    return output;
}

static void ends_with(struct child_output output, int exit_code, const char *out, const char *err)
{
    if (output.exit_code != exit_code || strstr(output.out, out) == NULL || strstr(output.err, err) == NULL)
        fail_msg("ended with %d, not %d \"%s\" \"%s\":\n%s%s", output.exit_code, exit_code, out, err, output.out, output.err);
    child_output_done(&output);
}

static void fill_prompt(const char *organization_id, const char *prompt_id)
{
    world_execute(
        &world,
        "INSERT INTO prompt_versions (organization_id, prompt_id, version, content, content_hash, content_bytes) SELECT '%s', '%s',"
        " v, 'x', sha256(('%s' || v)::bytea), 1 FROM generate_series(2, 3) v;"
        " UPDATE prompts SET newest_version = 3 WHERE id = '%s'",
        organization_id, prompt_id, prompt_id, prompt_id);
    world_execute(
        &world,
        "INSERT INTO executions (organization_id, prompt_id, version, rating, success, notes, executed_at) SELECT '%s', '%s',"
        " 1 + n %% 3, NULLIF(n %% 6, 0), n %% 4 <> 0, CASE n %% 5 WHEN 0 THEN E'a \"note\" \\\\ of\\n\\ttwo lines, \\u00e9 ' || n END,"
        " now() - '200 d'::interval + n * '61.000001 s'::interval FROM generate_series(1, %d) n",
        organization_id, prompt_id, OLD);
    world_execute(&world,
                  "INSERT INTO executions (organization_id, prompt_id, version, rating, executed_at) SELECT '%s', '%s', 1 + n %% 2, 5,"
                  " now() - n * '1 m'::interval FROM generate_series(1, %d) n",
                  organization_id, prompt_id, RECENT);
}

/* Of every column of every execution. */
static char *table_hash(void)
{
    return strdup(pg_cluster_query(world.cluster, "postgres", world.database,
                                   "SELECT count(*) || ' ' || encode(sha256(convert_to(string_agg(e::text, E'\\n' ORDER BY organization_id,"
                                   " id), 'UTF8')), 'hex') FROM executions e"));
}

static void assert_table_is_as_before(void)
{
    char *now = table_hash();
    assert_string_equal(now, hash_before);
    free(now);
}

static int64_t rows_of(const char *table)
{
    return world_number(&world, "SELECT count(*) FROM %s", table);
}

/* ---- statistics ---- */

struct stats {
    uint8_t *bytes[PROMPTS];
    size_t sizes[PROMPTS];
};

static Forge__V1__PromptStats *stats_of(int prompt, int64_t start_s, int64_t end_s)
{
    struct forge_error error;
    Forge__V1__PromptStats *reply;
    Forge__V1__GetPromptStatsRequest request = FORGE__V1__GET_PROMPT_STATS_REQUEST__INIT;
    Google__Protobuf__Timestamp start = GOOGLE__PROTOBUF__TIMESTAMP__INIT, end = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    struct forge_channel *channel = world_channel(&world, 0, prompt < 2 ? world.home.session_token : world.foreign.session_token);
    start.seconds = start_s;
    end.seconds = end_s;
    request.prompt_id = prompts[prompt];
    request.start_time = start_s != 0 ? &start : NULL;
    request.end_time = end_s != 0 ? &end : NULL;
    world_check(&world, "GetPromptStats", forge_prompt_get_stats(channel, NULL, &request, &reply, &error), &error);
    forge_channel_close(channel);
    return reply;
}

static struct stats stats_take(void)
{
    struct stats stats;
    for (int i = 0; i < PROMPTS; i++) {
        Forge__V1__PromptStats *reply = stats_of(i, 0, 0);
        assert_int_equal(reply->n_versions, 3);
        stats.sizes[i] = forge__v1__prompt_stats__get_packed_size(reply);
        stats.bytes[i] = malloc(stats.sizes[i]);
        forge__v1__prompt_stats__pack(reply, stats.bytes[i]);
        forge__v1__prompt_stats__free_unpacked(reply, NULL);
    }
    return stats;
}

static void stats_free(struct stats *stats)
{
    for (int i = 0; i < PROMPTS; i++)
        free(stats->bytes[i]);
}

/* Every figure of every version, byte for byte. */
static void assert_stats_are(const struct stats *before)
{
    struct stats now = stats_take();
    for (int i = 0; i < PROMPTS; i++) {
        assert_int_equal(now.sizes[i], before->sizes[i]);
        assert_memory_equal(now.bytes[i], before->bytes[i], before->sizes[i]);
    }
    stats_free(&now);
}

static void assert_stats_of_range(int prompt, int64_t start_s, int64_t end_s, int64_t execution_count, int64_t left_out_count)
{
    Forge__V1__PromptStats *stats = stats_of(prompt, start_s, end_s);
    assert_int_equal(stats->total->execution_count, execution_count);
    assert_int_equal(stats->total->archived_left_out_count, left_out_count);
    int64_t sum = 0;
    for (size_t i = 0; i < stats->n_versions; i++)
        sum += stats->versions[i]->archived_left_out_count;
    assert_int_equal(sum, left_out_count);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
}

static void assert_list_is_recent(void)
{
    struct forge_error error;
    Forge__V1__ListExecutionsRequest request = FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    Forge__V1__ListExecutionsResponse *reply;
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    request.prompt_id = prompts[0];
    request.page_size = 1000;
    world_check(&world, "ListExecutions", forge_prompt_list_executions(channel, NULL, &request, &reply, &error), &error);
    assert_int_equal(reply->n_executions, RECENT);
    forge__v1__list_executions_response__free_unpacked(reply, NULL);
    forge_channel_close(channel);
}

/* ---- archived, checked, restored ---- */

static void test_statistics_stay_and_strangers_read_the_files(void **state)
{
    struct stats before = stats_take();
    ends_with(shell("forged maintain archive-executions --older-than 90d --rows-per-file 1000 --folder files"), 0,
              "Archived 7500 executions in 8 files", "");
    assert_int_equal(rows_of("executions"), PROMPTS * RECENT);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE state = 'complete' AND kind = 'executions'"), 8);
    assert_int_equal(world_number(&world, "SELECT sum(row_count) FROM archives"), PROMPTS * OLD);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE organization_id = '%s'", world.foreign.organization_id), 3);
    assert_stats_are(&before);
    assert_list_is_recent();
    ends_with(shell("for sums in files/*/SHA256SUMS; do (cd \"${sums%%/*}\" && sha256sum --check --strict SHA256SUMS); done"), 0, "OK", "");
    ends_with(shell("cat files/*/SHA256SUMS | wc -l; zstd -t files/*/*.jsonl.zst && find files ! -perm 600 -type f | wc -l"), 0, "8\n0\n",
              "");
    ends_with(shell("zstdcat files/%s/*.jsonl.zst | grep -c '^{\"organization_id\":\"%s\",\"id\":[0-9]*,.*}$'", world.home.organization_id,
                    world.home.organization_id),
              0, "5000\n", "");
    ends_with(
        shell("zstdcat files/*/*.jsonl.zst | python3 -c 'import json, sys; print(sum(\"a \\\"note\\\"\" in (json.loads(line)[\"notes\"] or"
              " \"\") for line in sys.stdin))'"),
        0, "1500\n", "");
    ends_with(shell("forged maintain archive-executions --older-than 90d --folder files"), 0, "Archived 0 executions in 0 files", "");
    stats_free(&before);
}

/* After the test above. */
static void test_a_range_is_exact_or_says_what_it_left_out(void **state)
{
    int64_t now_s = time(NULL), day_s = 86400;
    assert_stats_of_range(0, now_s - 10 * day_s, 0, RECENT, 0);
    assert_stats_of_range(0, 0, now_s - 10 * day_s, OLD, 0);
    assert_stats_of_range(0, now_s - 300 * day_s, now_s - 100 * day_s, OLD, 0);
    assert_stats_of_range(0, now_s - 199 * day_s, 0, RECENT, OLD);
    assert_stats_of_range(0, 0, now_s - 199 * day_s, 0, OLD);
    assert_stats_of_range(0, 0, now_s - 300 * day_s, 0, 0);
}

static void test_restored_executions_are_as_they_were(void **state)
{
    struct stats before = stats_take();
    ends_with(shell("forged maintain restore-executions $(ls files/%s/*.zst | sed -n 2p)", world.home.organization_id), 0,
              "Restored 1000 executions of 1 files, skipped 0 of deleted prompts; 0 files were restored before", "");
    assert_int_equal(rows_of("executions"), PROMPTS * RECENT + 1000);
    assert_stats_are(&before);
    ends_with(shell("forged maintain restore-executions files/*/*.zst"), 0,
              "Restored 6500 executions of 7 files, skipped 0 of deleted prompts; 1 files were restored before", "");
    assert_table_is_as_before();
    assert_stats_are(&before);
    assert_int_equal(rows_of("execution_totals"), 0);
    ends_with(shell("forged maintain restore-executions files/*/*.zst"), 0, "Restored 0 executions of 0 files", "");
    assert_table_is_as_before();
    stats_free(&before);
}

static void archive_to(const char *folder)
{
    ends_with(shell("forged maintain archive-executions --rows-per-file 2000 --folder %s", folder), 0,
              "Archived 7500 executions in 5 files", "");
}

static void test_a_corrupted_file_is_refused(void **state)
{
    struct stats before = stats_take();
    archive_to("corrupted");
    int64_t left = rows_of("executions");
    ends_with(shell("cd corrupted/%s && for f in *.zst; do cp $f $f.good; done; set -- *.zst; printf '\\377' | dd of=$1 bs=1 seek=5000"
                    " conv=notrunc status=none; truncate -s -1 $2; : > $3",
                    world.home.organization_id),
              0, "", "");
    ends_with(
        shell("cd corrupted/%s && for f in *.zst; do forged maintain restore-executions --env-file ../../.env $f && exit 3; done; true",
              world.home.organization_id),
        0, "", "corrupted: its SHA-256 is");
    assert_int_equal(rows_of("executions"), left);
    assert_stats_are(&before);
    ends_with(shell("cd corrupted/%s && for f in *.zst; do mv $f.good $f; done; sha256sum --check --status SHA256SUMS",
                    world.home.organization_id),
              0, "", "");
    ends_with(shell("forged maintain restore-executions corrupted/*/*.zst"), 0, "Restored 7500 executions of 5 files", "");
    assert_table_is_as_before();
    stats_free(&before);
}

static void test_other_files_are_refused(void **state)
{
    ends_with(shell("forged maintain restore-executions"), 1, "", "name the files to restore");
    ends_with(shell("forged maintain restore-executions missing.jsonl.zst"), 1, "", "opening missing.jsonl.zst: No such file or directory");
    ends_with(shell("echo x > x.jsonl.zst; forged maintain restore-executions x.jsonl.zst"), 1, "",
              "an archive is called executions-<day>-<id>.jsonl.zst");
    ends_with(shell("mv x.jsonl.zst executions-2026-01-01-%s.jsonl.zst; forged maintain restore-executions executions-*.zst", no_archive),
              1, "", "no archive of this database has the id");
    ends_with(shell("rm executions-*.zst"), 0, "", "");
}

static void test_executions_of_a_deleted_prompt_are_skipped(void **state)
{
    char deleted[WORLD_ID_SIZE];
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    world_create_prompt(&world, channel, &world.home, "deleted", "x", deleted);
    world_execute(
        &world,
        "INSERT INTO executions (organization_id, prompt_id, version, executed_at) SELECT '%s', '%s', 1, now() - '300 d'::interval"
        " FROM generate_series(1, 10)",
        world.home.organization_id, deleted);
    ends_with(shell("forged maintain archive-executions --older-than 250d --folder deleted"), 0, "Archived 10 executions in 1 files", "");
    world_execute(&world, "DELETE FROM prompts WHERE id = '%s'", deleted);
    ends_with(shell("forged maintain restore-executions deleted/*/*.zst"), 0, "Restored 0 executions of 1 files, skipped 10", "");
    assert_table_is_as_before();
    forge_channel_close(channel);
}

/* ---- what goes wrong ---- */

static void test_wrong_words_and_folders_are_refused(void **state)
{
    ends_with(shell("forged maintain archive-executions --older-than 90x"), 1, "",
              "older_than: \"90x\" (from --older-than) is not allowed: it"
              " must be 1h to 36500d (with h or d)");
    ends_with(shell("forged maintain archive-executions --older-than 0d"), 1, "", "older_than: \"0d\"");
    ends_with(shell("forged maintain archive-executions --older-than"), 1, "", "--older-than needs a value");
    ends_with(shell("forged maintain archive-executions all"), 1, "", "unexpected word \"all\"");
    ends_with(shell("forged maintain archive-executions --folder .env"), 1, "", "/.env/");
    ends_with(shell("forged maintain archive-executions --folder no/such"), 1, "", "making the folder no/such: No such file or directory");
    assert_table_is_as_before();
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE state <> 'restored'"), 0);
}

/* As a full disk does, a limit on the size of files ends a write half-way. */
static void test_a_file_that_cannot_be_written_loses_nothing(void **state)
{
    ends_with(shell("trap '' XFSZ; ulimit -f 8; exec forged maintain archive-executions --folder full"), 1, "", ".partial: File too large");
    assert_table_is_as_before();
    assert_int_equal(rows_of("execution_totals"), 0);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE state = 'writing'"), 0);
    ends_with(shell("find full -type f | wc -l"), 0, "0\n", "");
    archive_to("full");
    ends_with(shell("forged maintain restore-executions full/*/*.zst"), 0, "Restored 7500 executions", "");
}

/* A row that says writing, of an archive at this path in the folder of the world. */
static void insert_unfinished(const char *id, const char *kind, const char *path)
{
    world_execute(&world,
                  "INSERT INTO archives (organization_id, id, kind, state, path, row_count, first_at, last_at) VALUES ('%s', '%s', '%s',"
                  " 'writing', '%s/%s', 1, now(), now())",
                  world.foreign.organization_id, id, kind, forged_world_folder(world.files), path);
}

/* What a killed run has left goes; what is of another kind, or of a run into another folder, is not touched. */
static void test_what_a_killed_run_has_left_goes(void **state)
{
    char left[LINE_SIZE];
    snprintf(left, sizeof left, "archives/%s/executions-2026-01-01-%s.jsonl.zst", world.foreign.organization_id, no_archive);
    ends_with(shell("mkdir -p archives/%s; touch %s %s.partial other.jsonl.zst", world.foreign.organization_id, left, left), 0, "", "");
    insert_unfinished(no_archive, "executions", left);
    insert_unfinished("00000000-0000-7000-8000-0000000000a2", "spans", left);
    insert_unfinished("00000000-0000-7000-8000-0000000000a3", "executions", "other.jsonl.zst");
    ends_with(shell("forged maintain restore-executions %s", left), 1, "", "was never completed");
    ends_with(shell("forged maintain archive-executions --older-than 300d; find archives -type f | wc -l; ls other*"), 0,
              "0\nother.jsonl.zst\n", "");
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE state = 'writing'"), 2);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM archives WHERE id = '%s'", no_archive), 0);
    world_execute(&world, "DELETE FROM archives WHERE state = 'writing'");
    ends_with(shell("rm other.jsonl.zst"), 0, "", "");
}

/* ---- beside others ---- */

static PGconn *session(const char *role, const char *sql)
{
    PGconn *conn = PQconnectdb(pg_cluster_url(world.cluster, role, world.database));
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQclear(result);
    return conn;
}

static void test_of_two_runs_one_is_refused(void **state)
{
    PGconn *other = session("forge_maint", "SELECT pg_advisory_lock(7382076407442270326)");
    ends_with(shell("forged maintain archive-executions"), 1, "", "archived or restored by another run");
    PQfinish(other);
    assert_table_is_as_before();
}

static void ignore_line(const char *line, void *user)
{
    (void)line;
    (void)user;
}

struct run {
    char *url, *folder;
    int64_t before_us;
    struct db_archive_report report;
    struct forge_error error;
    forge_code code;
};

static void *run_archive(void *argument)
{
    struct run *run = argument;
    const struct db_archive_config config = {.url = run->url,
                                             .now_us = forge_clock_wall_us(),
                                             .before_us = run->before_us,
                                             .folder = run->folder,
                                             .rows_per_file = 100,
                                             .tell = ignore_line};
    run->code = db_archive_executions(&config, &run->report, &run->error);
    return NULL;
}

static void run_start(struct run *run, pthread_t *thread, const char *folder, int age_days)
{
    *run = (struct run){.url = strdup(pg_cluster_url(world.cluster, "forge_maint", world.database)),
                        .before_us = forge_clock_wall_us() - age_days * INT64_C(86400000000)};
    assert_true(asprintf(&run->folder, "%s/%s", forged_world_folder(world.files), folder) > 0);
    assert_int_equal(pthread_create(thread, NULL, run_archive, run), 0);
}

static void run_join(struct run *run, pthread_t thread)
{
    pthread_join(thread, NULL);
    if (run->code != FORGE_OK)
        fail_msg("%s", run->error.message);
    free(run->url);
    free(run->folder);
}

/* A row of the file is deleted between its writing and the end of its transaction: the file is written again without it. */
static void test_a_row_deleted_meanwhile_is_in_no_file(void **state)
{
    struct run run;
    pthread_t thread;
    char id[WORLD_ID_SIZE];
    struct forge_channel *channel = world_channel(&world, 0, world.foreign.session_token);
    world_create_prompt(&world, channel, &world.foreign, "meanwhile", "x", id);
    forge_channel_close(channel);
    world_execute(
        &world,
        "INSERT INTO executions (organization_id, prompt_id, version, executed_at) SELECT '%s', '%s', 1, now() - '300 d'::interval"
        " FROM generate_series(1, 50)",
        world.foreign.organization_id, id);
    PGconn *other = session("postgres", "BEGIN; DELETE FROM executions WHERE id = (SELECT max(id) FROM executions)");
    run_start(&run, &thread, "meanwhile", 250);
    while (world_number(&world, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'") == 0)
        world_sleep_ms(1);
    PQclear(PQexec(other, "COMMIT"));
    PQfinish(other);
    run_join(&run, thread);
    assert_int_equal(run.report.executions, 49);
    ends_with(shell("zstdcat meanwhile/*/*.zst | wc -l; cat meanwhile/*/SHA256SUMS | wc -l; ls meanwhile/*/*.zst* | wc -l"), 0,
              "49\n1\n1\n", "");
    assert_int_equal(world_number(&world, "SELECT execution_count FROM execution_totals WHERE prompt_id = '%s'", id), 49);
    world_execute(&world, "DELETE FROM prompts WHERE id = '%s'", id);
    assert_table_is_as_before();
}

/* Long notes make files of fewer rows; PostgreSQL puts nothing on disk to find out how many. */
static void test_long_notes_are_read_once(void **state)
{
    static const char temporary[] = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()";
    char id[WORLD_ID_SIZE];
    struct forge_channel *channel = world_channel(&world, 0, world.foreign.session_token);
    world_create_prompt(&world, channel, &world.foreign, "long", "x", id);
    forge_channel_close(channel);
    world_execute(&world,
                  "INSERT INTO executions (organization_id, prompt_id, version, notes, executed_at) SELECT '%s', '%s', 1,"
                  " repeat('x', 60000), now() - '300 d'::interval + n * '1 s'::interval FROM generate_series(1, 800) n",
                  world.foreign.organization_id, id);
    int64_t before = world_number(&world, "%s", temporary);
    ends_with(shell("forged maintain archive-executions --older-than 250d --folder long"), 0, "Archived 800 executions in 3 files", "");
    ends_with(shell("zstdcat long/*/*.zst | grep -c '\"notes\":\"x*\",\"executed_at\":\"20[^ ]*\"}$'"), 0, "800\n", "");
    assert_int_equal(world_number(&world, "%s", temporary), before);
    world_execute(&world, "DELETE FROM prompts WHERE id = '%s'", id);
    assert_table_is_as_before();
}

/* Each batch is 200 days old when it is recorded. */
static void *record_late(void *argument)
{
    struct forge_channel *channel = argument;
    Forge__V1__RecordExecutionRequest items[LATE_ITEMS], *pointers[LATE_ITEMS];
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    when.seconds = time(NULL) - INT64_C(200) * 86400;
    for (int i = 0; i < LATE_ITEMS; i++) {
        items[i] = (Forge__V1__RecordExecutionRequest)FORGE__V1__RECORD_EXECUTION_REQUEST__INIT;
        items[i].prompt_id = prompts[0];
        items[i].rating = 1 + i % 5;
        items[i].execute_time = &when;
        pointers[i] = &items[i];
    }
    for (int batch = 0; batch < LATE_BATCHES; batch++) {
        struct forge_error error;
        Forge__V1__RecordExecutionsResponse *reply;
        Forge__V1__RecordExecutionsRequest request = FORGE__V1__RECORD_EXECUTIONS_REQUEST__INIT;
        request.requests = pointers;
        request.n_requests = LATE_ITEMS;
        world_check(&world, "RecordExecutions", forge_prompt_record_executions(channel, NULL, &request, &reply, &error), &error);
        forge__v1__record_executions_response__free_unpacked(reply, NULL);
    }
    return NULL;
}

static void test_late_executions_are_archived_or_stay(void **state)
{
    struct run run;
    pthread_t recorder, thread;
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    int64_t before = rows_of("executions");
    assert_int_equal(pthread_create(&recorder, NULL, record_late, channel), 0);
    run_start(&run, &thread, "late", 90);
    pthread_join(recorder, NULL);
    run_join(&run, thread);
    assert_int_equal(rows_of("executions") + run.report.executions, before + LATE_BATCHES * LATE_ITEMS);
    assert_true(run.report.executions >= PROMPTS * OLD);
    Forge__V1__PromptStats *stats = stats_of(0, 0, 0);
    assert_int_equal(stats->total->execution_count, OLD + RECENT + LATE_BATCHES * LATE_ITEMS);
    forge__v1__prompt_stats__free_unpacked(stats, NULL);
    forge_channel_close(channel);
}

static int open_world(void **state)
{
    world_open(&world, NULL);
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    strcpy(prompts[0], world.home.prompt_id);
    world_create_prompt(&world, channel, &world.home, "second", "x", prompts[1]);
    strcpy(prompts[2], world.foreign.prompt_id);
    forge_channel_close(channel);
    for (int i = 0; i < PROMPTS; i++)
        fill_prompt(i < 2 ? world.home.organization_id : world.foreign.organization_id, prompts[i]);
    hash_before = table_hash();
    return 0;
}

static int close_world(void **state)
{
    ends_with(shell("rm -rf files corrupted deleted full archives meanwhile long late"), 0, "", "");
    free(hash_before);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics_stay_and_strangers_read_the_files),
        cmocka_unit_test(test_a_range_is_exact_or_says_what_it_left_out),
        cmocka_unit_test(test_restored_executions_are_as_they_were),
        cmocka_unit_test(test_a_corrupted_file_is_refused),
        cmocka_unit_test(test_other_files_are_refused),
        cmocka_unit_test(test_executions_of_a_deleted_prompt_are_skipped),
        cmocka_unit_test(test_wrong_words_and_folders_are_refused),
        cmocka_unit_test(test_a_file_that_cannot_be_written_loses_nothing),
        cmocka_unit_test(test_what_a_killed_run_has_left_goes),
        cmocka_unit_test(test_of_two_runs_one_is_refused),
        cmocka_unit_test(test_a_row_deleted_meanwhile_is_in_no_file),
        cmocka_unit_test(test_long_notes_are_read_once),
        cmocka_unit_test(test_late_executions_are_archived_or_stay),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
