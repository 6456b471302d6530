/* Fault 9: migrations. Up, down and up again gives the same dump; a migrator killed at any point leaves whole revisions; of several
 * migrators at once each revision is run by one; and servers under load go on while the schema changes, without a lock wait over a second.
 */
#include "writers.h"

#include "wire/clock.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { STEPS = 6, MIGRATORS = 4, PATH_SIZE = 512, WAIT_MS_MAX = 1000, SETTLE_MS = 10000 };

static struct world world;
static char folder[64], forged[PATH_SIZE];
static const char *database, *url; /* of the cases without load */
static char *dumps[STEPS + 1];     /* of each revision, 0 = base */

/* ---- the chain: the real one, then steps that lock, fill and check; servers of the first revision serve them all ----
 * Locks are taken in the order of the servers' writes, parents first: in another order each attempt would meet a writer the other way. */

static const char *const STEP_SQL[STEPS][2] = {
    {NULL, NULL}, /* the real initial revision */
    {"ALTER TABLE prompts ADD COLUMN note text; ALTER TABLE prompt_versions ADD COLUMN note text;",
     "ALTER TABLE prompts DROP COLUMN note; ALTER TABLE prompt_versions DROP COLUMN note;"},
    {"CREATE TABLE fault_notes (id integer PRIMARY KEY, note text); INSERT INTO fault_notes (id, note) SELECT n, md5(n::text) FROM"
     " generate_series(1, 20000) n;",
     "DROP TABLE fault_notes;"},
    {"CREATE INDEX ix_fault_notes_note ON fault_notes (note);", "DROP INDEX ix_fault_notes_note;"},
    {"ALTER TABLE prompts ADD CONSTRAINT valid_note CHECK (note <> '') NOT VALID; ALTER TABLE prompts VALIDATE CONSTRAINT valid_note;",
     "ALTER TABLE prompts DROP CONSTRAINT valid_note;"},
    {"DROP INDEX CONCURRENTLY IF EXISTS ix_fault_prompts_note;\n"
     "CREATE INDEX CONCURRENTLY ix_fault_prompts_note ON prompts (organization_id, note);",
     "DROP INDEX CONCURRENTLY IF EXISTS ix_fault_prompts_note;"},
};

static void write_step(int step)
{
    char path[PATH_SIZE];
    for (int half = 0; half < 2; half++) {
        snprintf(path, sizeof path, "%s/00000000000%d_step.%s.sql", folder, step, half == 0 ? "up" : "down");
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        fprintf(file, "-- revision: 00000000000%d\n-- revises: ", step);
        fprintf(file, step == 1 ? "3f6b1c9d2a70" : "00000000000%d", step - 1);
        fprintf(file, "\n-- created: x\n-- message: step %d\n-- serves: 3f6b1c9d2a70\n%s%s\n", step,
                step == STEPS - 1 ? "-- transaction: none\n" : "", STEP_SQL[step][half]);
        assert_int_equal(fclose(file), 0);
    }
}

static void write_folder(void)
{
    char command[2 * PATH_SIZE];
    strcpy(folder, "/tmp/forge-fault-migrate-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "cp %s/migrations/3f6b1c9d2a70_* %s", getenv("FORGE_SOURCE_DIR"), folder);
    assert_int_equal(system(command), 0);
    for (int step = 1; step < STEPS; step++)
        write_step(step);
}

/* ---- forged migrate ---- */

static pid_t migrator_start(const char *of_url, const char *verb, const char *target)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child;
    if (setenv("DATABASE_OWNER_URL", of_url, 1) != 0 || freopen("/dev/null", "w", stdout) == NULL)
        _exit(125);
    execl(forged, "forged", "migrate", verb, target, "--migrations-folder", folder, (char *)NULL);
    _exit(126);
}

/* 0 when it ended well. */
static int migrator_end(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int migrate(const char *of_url, const char *verb, const char *target)
{
    return migrator_end(migrator_start(of_url, verb, target));
}

static char *dump(const char *of_database)
{
    return pg_cluster_dump_schema(world.cluster, of_database);
}

static bool dump_is(const char *of_database, const char *expected)
{
    char *text = dump(of_database);
    bool is_same = strcmp(text, expected) == 0;
    free(text);
    return is_same;
}

static int revisions(void)
{
    return atoi(pg_cluster_query(world.cluster, "postgres", database, "SELECT count(*) FROM schema_revisions"));
}

/* Nothing of a killed migrator is left: no session, no lock. */
static bool is_settled(void)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_stat_activity WHERE datname = '%s'", database);
    for (uint64_t until = forge_clock_monotonic_ms() + SETTLE_MS; forge_clock_monotonic_ms() < until; world_sleep_ms(5))
        if (strcmp(pg_cluster_query(world.cluster, "postgres", "postgres", sql), "0") == 0)
            return true;
    return false;
}

/* ---- the cases ---- */

static void test_up_down_up_gives_the_same_dumps(void **state)
{
    char target[32];
    struct fault_count count = {0};
    assert_int_equal(migrate(url, "upgrade", "head"), 0);
    assert_int_equal(migrate(url, "downgrade", "base"), 0);
    dumps[0] = dump(database);
    for (int step = 1; step <= STEPS; step++) {
        assert_int_equal(migrate(url, "upgrade", "+1"), 0);
        dumps[step] = dump(database);
    }
    for (int step = STEPS - 1; step >= 0; step--) {
        assert_int_equal(migrate(url, "downgrade", "-1"), 0);
        count.lost += !dump_is(database, dumps[step]);
    }
    for (int step = 1; step <= STEPS; step++) {
        snprintf(target, sizeof target, "+%d", step);
        assert_int_equal(migrate(url, "upgrade", target), 0);
        count.lost += !dump_is(database, dumps[step]);
        assert_int_equal(migrate(url, "downgrade", "base"), 0);
    }
    bool ok = count.lost == 0;
    fault_report("9", "migrations up, down, up, each revision", 2 * STEPS, count, 0, "the same dump at each revision", ok);
    assert_true(ok);
}

/* Of an upgrade to the last step that runs in a transaction, in microseconds. */
static uint64_t measure_upgrade(void)
{
    uint64_t since_ns = forge_clock_monotonic_ns();
    assert_int_equal(migrate(url, "upgrade", "000000000004"), 0);
    return (forge_clock_monotonic_ns() - since_ns) / 1000;
}

static void test_a_killed_migrator_leaves_whole_revisions(void **state)
{
    long kills = fault_is_full() ? 200 : 20, leaked = 0, ended = 0;
    int seen[STEPS + 1] = {0};
    struct fault_count count = {0};
    uint64_t whole_us = measure_upgrade();
    srand(9);
    for (long kill_number = 0; kill_number < kills; kill_number++) {
        bool up = revisions() < 3; /* to the other end, so that each kill meets something that runs */
        pid_t child = up ? migrator_start(url, "upgrade", "000000000004") : migrator_start(url, "downgrade", "base");
        usleep((useconds_t)((uint64_t)rand() % (whole_us * 7 / 10 + 1)));
        kill(child, SIGKILL);
        ended += migrator_end(child) == 0;
        leaked += !is_settled();
        int at = revisions();
        seen[at]++;
        count.lost += !dump_is(database, dumps[at]);
    }
    count.lost += migrate(url, "upgrade", "head") != 0 || !dump_is(database, dumps[STEPS]);
    fprintf(stderr, "%ld kills, %ld came too late; left at revision", kills, ended);
    for (int i = 0; i <= STEPS; i++)
        fprintf(stderr, " %d: %d times", i, seen[i]);
    fprintf(stderr, "\n");
    bool ok = count.lost == 0 && leaked == 0 && ended <= kills * 3 / 4;
    fault_report("9", "kill -9 of the migrator at random points", kills, count, leaked, "whole revisions only, the next one goes on", ok);
    assert_true(ok);
}

static void test_of_migrators_at_once_one_runs_each_revision(void **state)
{
    int rounds = fault_is_full() ? 50 : 5;
    struct fault_count count = {0};
    for (int round = 0; round < rounds; round++) {
        pid_t children[MIGRATORS];
        assert_int_equal(migrate(url, "downgrade", "base"), 0);
        for (int i = 0; i < MIGRATORS; i++)
            children[i] = migrator_start(url, "upgrade", "head");
        for (int i = 0; i < MIGRATORS; i++)
            count.lost += migrator_end(children[i]) != 0;
        count.duplicated += revisions() != STEPS;
        count.lost += !dump_is(database, dumps[STEPS]);
    }
    bool ok = count.lost == 0 && count.duplicated == 0;
    fault_report("9", "four migrators at once", (long)rounds * MIGRATORS, count, 0, "each ends well, each revision is run once", ok);
    assert_true(ok);
}

/* ---- under load ---- */

static atomic_bool stopping;
static atomic_long longest_ms;

static PGresult *must(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        world_fail(&world, "%s: %s", sql, PQerrorMessage(conn));
    return result;
}

/* How long anybody has waited for a lock. An index that is made CONCURRENTLY waits for older transactions, and nobody waits for it. */
static void *watch_locks(void *argument)
{
    PGconn *conn = PQconnectdb(world.superuser_url);
    while (!atomic_load(&stopping)) {
        PGresult *result = must(conn, "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart) * 1000), 0)::bigint FROM"
                                      " pg_locks WHERE NOT granted AND locktype <> 'virtualxid'");
        long ms = atol(PQgetvalue(result, 0, 0));
        if (ms > atomic_load(&longest_ms))
            atomic_store(&longest_ms, ms);
        PQclear(result);
        world_sleep_ms(2);
    }
    PQfinish(conn);
    return NULL;
}

/* A report that reads prompts for longer than a migrator waits: its ALTER TABLE must give up, or everybody queues behind it. */
static void *read_slowly(void *argument)
{
    PGconn *conn = PQconnectdb(world.superuser_url);
    while (!atomic_load(&stopping)) {
        PQclear(must(conn, "BEGIN; SELECT count(*) FROM prompts, pg_sleep(1.3); COMMIT"));
        world_sleep_ms(700);
    }
    PQfinish(conn);
    return NULL;
}

static void test_servers_go_on_while_the_schema_changes(void **state)
{
    int rounds = fault_is_full() ? 20 : 2, failed = 0;
    pthread_t watcher, reader;
    struct fault_writers_outcome outcome;
    const char *live = pg_cluster_url(world.cluster, "forge_owner", world.database);
    fault_writers_start(&world, 4000);
    bool progress = fault_writers_wait(200);
    assert_int_equal(pthread_create(&watcher, NULL, watch_locks, NULL), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_slowly, NULL), 0);
    for (int round = 0; round < rounds; round++) {
        failed += migrate(live, "upgrade", "head") != 0;
        failed += migrate(live, "downgrade", "3f6b1c9d2a70") != 0;
    }
    failed += migrate(live, "upgrade", "head") != 0;
    atomic_store(&stopping, true);
    pthread_join(watcher, NULL);
    pthread_join(reader, NULL);
    fault_writers_stop(&outcome);
    long waited = atomic_load(&longest_ms);
    fprintf(stderr, "%d passes, %d failed; %ld versions and %ld keys meanwhile; longest lock wait %ld ms\n", 2 * rounds + 1, failed,
            outcome.versions, outcome.keys, waited);
    outcome.count.lost += failed;
    bool ok = progress && failed == 0 && outcome.progress && outcome.count.lost == 0 && outcome.count.duplicated == 0 &&
              outcome.leaked == 0 && waited <= (long)WAIT_MS_MAX * fault_time_factor();
    fault_report("9", "upgrade and downgrade under load", outcome.versions + outcome.keys, outcome.count, outcome.leaked,
                 "0 lost, 0 duplicated, no lock wait over 1 s", ok);
    assert_true(ok);
}

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    write_folder();
    snprintf(forged, sizeof forged, "%s/bin/forged", getenv("FORGE_BINARY_DIR"));
    database = pg_cluster_create_database(world.cluster, "forge_owner");
    url = pg_cluster_url(world.cluster, "forge_owner", database);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    for (int i = 0; i <= STEPS; i++)
        free(dumps[i]);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    world_close(&world);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_up_down_up_gives_the_same_dumps),
        cmocka_unit_test(test_a_killed_migrator_leaves_whole_revisions),
        cmocka_unit_test(test_of_migrators_at_once_one_runs_each_revision),
        cmocka_unit_test(test_servers_go_on_while_the_schema_changes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
