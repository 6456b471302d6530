/* Fault 12: kill -9 of `forged maintain archive-executions`, and of restore-executions, and cuts of their connection, at random points.
 * Each execution is in the table or in one complete archive, as strangers read it; statistics never change; once all is restored the table
 * is the one from before. */
#include "maintain_run.h"
#include "writes.h"

#include "wire/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILL = 50000, VERSIONS = 5, KILL_MS = 200 };

static struct world world;
static const char archive[] = "archive-executions --rows-per-file 1000 --folder files";
static const char restore[] = "restore-executions files/*/*.zst";
static long recorded;
static int64_t recorded_hash; /* of every column of every execution; a sum, so that it does not matter when each was there */
static char *stats_before;

/* ---- what the database says ---- */

static int64_t table_hash(int64_t behind_id)
{
    return world_number(&world, "SELECT COALESCE(sum(hashtextextended(e::text, 0) %% 1000000007), 0) FROM executions e WHERE id > %lld",
                        (long long)behind_id);
}

/* Half of them at home, half in the foreign organization. */
static void fill(void)
{
    const struct world_tenant *const tenants[] = {&world.home, &world.foreign};
    int64_t last_id = world_number(&world, "SELECT last_value FROM executions_id_seq");
    for (int i = 0; i < 2; i++)
        world_execute(&world,
                      "INSERT INTO executions (organization_id, prompt_id, version, rating, success, notes, executed_at) SELECT '%s', '%s',"
                      " 1 + n %% %d, NULLIF(n %% 6, 0), n %% 4 <> 0, md5(n::text), now() - '200 d'::interval + n * '1 s'::interval"
                      " FROM generate_series(1, %d) n",
                      tenants[i]->organization_id, tenants[i]->prompt_id, VERSIONS, FILL / 2);
    recorded += FILL;
    recorded_hash += table_hash(recorded == FILL ? 0 : last_id);
}

static char *ask(const char *sql)
{
    return strdup(pg_cluster_query(world.cluster, "postgres", world.database, sql));
}

/* Of each version, what GetPromptStats adds up: the table and the archived sums. */
static char *stats(void)
{
    return ask(
        "SELECT string_agg(s::text, E'\\n' ORDER BY s::text) FROM (SELECT prompt_id, version, sum(n), sum(successes), sum(r1), sum(r2),"
        " sum(r3), sum(r4), sum(r5), min(first), max(last) FROM (SELECT prompt_id, version, count(*) AS n,"
        " count(*) FILTER (WHERE success) AS successes, count(*) FILTER (WHERE rating = 1) AS r1,"
        " count(*) FILTER (WHERE rating = 2) AS r2, count(*) FILTER (WHERE rating = 3) AS r3,"
        " count(*) FILTER (WHERE rating = 4) AS r4, count(*) FILTER (WHERE rating = 5) AS r5, min(executed_at) AS first,"
        " max(executed_at) AS last FROM executions GROUP BY 1, 2 UNION ALL SELECT prompt_id, version, execution_count, success_count,"
        " rating_counts[1], rating_counts[2], rating_counts[3], rating_counts[4], rating_counts[5], first_executed_at,"
        " last_executed_at FROM execution_totals) p GROUP BY 1, 2) s");
}

/* Free text that must be what it was. */
static bool is_same(char *now, const char *before)
{
    bool same = strcmp(now, before) == 0;
    if (!same)
        fprintf(stderr, "was:\n%s\nis:\n%s\n", before, now);
    free(now);
    return same;
}

/* ---- commands ---- */

static void wait_some(long ms_max)
{
    usleep((useconds_t)((uint64_t)rand() % ((uint64_t)ms_max * 1000 * fault_time_factor())));
}

/* True when it was through before. */
static bool run_killed(const char *command, long ms_max)
{
    pid_t child = fault_maintain_start(&world, command);
    wait_some(ms_max);
    kill(child, SIGKILL);
    int code = fault_maintain_end(&world, child);
    assert_true(code == 0 || code == 128 + SIGKILL);
    return code == 0;
}

/* Its connection to PostgreSQL is cut instead; true when it was through before, or went on because it had none yet. */
static bool run_cut(const char *command, long ms_max)
{
    pid_t child = fault_maintain_start(&world, command);
    wait_some(ms_max);
    world_execute(&world, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'forged admin'");
    int code = fault_maintain_end(&world, child);
    assert_in_range(code, 0, 1);
    return code == 0;
}

/* ---- the cases ---- */

/* Rows without which sums and table together are short, or over. */
static void count_rows(struct fault_count *count)
{
    long now = (long)world_number(&world, "SELECT (SELECT count(*) FROM executions) + (SELECT COALESCE(sum(execution_count), 0) FROM"
                                          " execution_totals)");
    count->lost += now < recorded ? recorded - now : 0;
    count->duplicated += now > recorded ? now - recorded : 0;
}

/* The files as zstdcat reads them beside the table. */
static void count_files(struct fault_count *count)
{
    const char *url = pg_cluster_url(world.cluster, "postgres", world.database);
    world_execute(&world, "CREATE TABLE found (id bigint)");
    fault_shell(&world,
                "zstdcat files/*/*.zst | grep -o '^{\"organization_id\":\"[^\"]*\",\"id\":[0-9]*' | grep -o '[0-9]*$' |"
                " ${PG_BINDIR:+$PG_BINDIR/}psql -q '%s' -c 'COPY found (id) FROM STDIN'",
                url);
    world_execute(&world, "INSERT INTO found (id) SELECT id FROM executions");
    long distinct = (long)world_number(&world, "SELECT count(DISTINCT id) FROM found");
    count->lost += recorded - distinct;
    count->duplicated += (long)world_number(&world, "SELECT count(*) FROM found") - distinct;
    world_execute(&world, "DROP TABLE found");
}

/* Rows that say writing, and files that no complete archive names. */
static long left_over(void)
{
    long files = 0;
    struct child_output output;
    const char *const words[] = {"-c", "find files -type f ! -name SHA256SUMS | wc -l", NULL};
    child_run("/bin/sh", words, NULL, forged_world_folder(world.files), &output);
    files = strtol(output.out, NULL, 10);
    child_output_done(&output);
    return files - (long)world_number(&world, "SELECT count(*) FROM archives WHERE state = 'complete'") +
           (long)world_number(&world, "SELECT count(*) FROM archives WHERE state = 'writing'");
}

static void test_a_killed_archiver_loses_and_doubles_nothing(void **state)
{
    long kills = fault_is_full() ? 200 : 25, landed = 0, unfinished = 0;
    struct fault_count count = {0};
    bool same = true;
    while (landed < kills) {
        bool through = landed % 3 == 2 ? run_cut(archive, KILL_MS) : run_killed(archive, KILL_MS);
        landed += !through;
        unfinished += world_number(&world, "SELECT count(*) FROM archives WHERE state = 'writing'") > 0;
        same &= is_same(stats(), stats_before);
        count_rows(&count);
        if (!through)
            continue;
        fill(); /* so that each kill meets something that runs */
        free(stats_before);
        stats_before = stats();
    }
    assert_int_equal(fault_maintain_end(&world, fault_maintain_start(&world, archive)), 0);
    same &= is_same(stats(), stats_before);
    count_rows(&count);
    count_files(&count);
    fault_shell(&world, "for folder in files/*; do (cd $folder && sha256sum --check --strict --quiet SHA256SUMS) || exit 1; done");
    fault_shell(&world, "zstd -q -t files/*/*.zst && test $(cat files/*/SHA256SUMS | wc -l) = $(ls files/*/*.zst | wc -l)");
    long leaked = left_over();
    fprintf(stderr, "%ld executions; %ld of the kills left an archive unfinished\n", recorded, unfinished);
    bool ok = same && count.lost == 0 && count.duplicated == 0 && leaked == 0 && unfinished > 0;
    fault_report("12", "kill -9 of archive-executions, and its connection cut, at random points", landed, count, leaked,
                 "each execution in the table or one complete archive; statistics the same after each kill", ok);
    assert_true(ok);
}

static void test_a_killed_restorer_loses_and_doubles_nothing(void **state)
{
    long landed = 0;
    struct fault_count count = {0};
    bool same = true;
    assert_true(world_number(&world, "SELECT count(*) FROM archives WHERE state = 'complete'") > 0);
    for (bool through = false; !through; landed += !through) {
        long ms_max = KILL_MS + 50 * landed; /* each has more files to look at before it finds one to restore */
        through = landed % 3 == 2 ? run_cut(restore, ms_max) : run_killed(restore, ms_max);
        same &= is_same(stats(), stats_before);
        count_rows(&count);
    }
    same &= table_hash(0) == recorded_hash;
    count.lost += recorded - (long)world_number(&world, "SELECT count(*) FROM executions");
    long leaked = (long)world_number(&world, "SELECT (SELECT count(*) FROM execution_totals) + (SELECT count(*) FROM archives WHERE"
                                             " state <> 'restored')");
    bool ok = same && count.lost == 0 && count.duplicated == 0 && leaked == 0 && landed > 0;
    fault_report("12-restore", "kill -9 of restore-executions, and its connection cut, at random points", landed, count, leaked,
                 "each file restored once; at the end the table of before", ok);
    assert_true(ok);
}

static int set_up(void **state)
{
    const struct world_options options = {.checksums = true};
    srand(12);
    world_open(&world, &options);
    world_execute(&world, "INSERT INTO prompt_versions (organization_id, prompt_id, version, content, content_hash, content_bytes)"
                          " SELECT organization_id, id, v, 'x', sha256((id::text || v)::bytea), 1 FROM prompts, generate_series(2, 5) v");
    fill();
    stats_before = stats();
    return 0;
}

static int tear_down(void **state)
{
    fault_shell(&world, "rm -rf files");
    free(stats_before);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_killed_archiver_loses_and_doubles_nothing),
        cmocka_unit_test(test_a_killed_restorer_loses_and_doubles_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
