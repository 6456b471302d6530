/* Fault 2: kill -9 of PostgreSQL under load, one backend of forged (which takes the others along: shared memory may be damaged), then the
 * postmaster, again and again. Every acknowledged write is there afterwards and none is there twice. */
#include "writers.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

static struct world world;

static void kill_backend(void)
{
    int64_t pid = world_number(&world, "SELECT pid FROM pg_stat_activity WHERE usename = 'forge_app' AND state <> 'idle'"
                                       " UNION ALL SELECT pid FROM pg_stat_activity WHERE usename = 'forge_app' LIMIT 1");
    assert_true(pid > 1);
    kill((pid_t)pid, SIGKILL);
}

static void kill_postmaster(void)
{
    pg_cluster_kill(world.cluster);
    pg_cluster_start(world.cluster);
}

static void test_kill_database_loses_and_doubles_nothing(void **state)
{
    long loops = fault_is_full() ? 50 : 3, goal = fault_is_full() ? 100000 : 6000;
    struct fault_writers_outcome outcome;
    bool progress = true;
    fault_writers_start(&world, goal);
    for (long kill = 0; kill < 2 * loops && progress; kill++) {
        progress = fault_writers_wait((kill + 1) * goal / (2 * loops + 1));
        world_sleep_ms((unsigned)(kill * 7 % 5)); /* not always right behind a reply */
        if (!progress)
            break;
        if (kill % 2 == 0)
            kill_backend();
        else
            kill_postmaster();
    }
    progress = progress && fault_writers_wait(goal);
    fault_writers_stop(&outcome);
    assert_true(progress && outcome.progress);
    fault_report("2",
                 fault_is_full() ? "kill -9 of a PostgreSQL backend, then of the postmaster, 50 times"
                                 : "kill -9 of a PostgreSQL backend, then of the postmaster, 3 times",
                 outcome.versions + outcome.keys, outcome.count, outcome.leaked, "0 lost, 0 duplicated", outcome.ok);
    assert_true(outcome.ok);
}

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2, .checksums = fault_is_full()};
    world_open(&world, &options);
    return 0;
}

static int tear_down(void **state)
{
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_database_loses_and_doubles_nothing)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
