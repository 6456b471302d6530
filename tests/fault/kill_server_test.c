/* Fault 1: kill -9 of forged under load. Two servers share a database; one after the other is killed and started again while writers go on.
 * Every acknowledged write is there, none is there twice, and a repeat gives the same bytes. */
#include "writers.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct world world;

static void test_kill_server_loses_and_doubles_nothing(void **state)
{
    long kills = fault_is_full() ? 500 : 25, goal = fault_is_full() ? 200000 : 10000;
    struct fault_writers_outcome outcome;
    bool progress = true;
    fault_writers_start(&world, goal);
    for (long kill = 0; kill < kills && progress; kill++) {
        progress = fault_writers_wait((kill + 1) * goal / (kills + 1));
        world_sleep_ms((unsigned)(kill * 7 % 5)); /* not always right behind a reply */
        world_server_kill(&world, (unsigned)kill % 2);
        world_server_start(&world, (unsigned)kill % 2, false);
    }
    progress = progress && fault_writers_wait(goal);
    fault_writers_stop(&outcome);
    assert_true(progress && outcome.progress);
    fault_report("1", fault_is_full() ? "kill -9 of forged under load, 500 times" : "kill -9 of forged under load, 25 times",
                 outcome.versions + outcome.keys, outcome.count, outcome.leaked, "0 lost, 0 duplicated, replies repeated byte for byte",
                 outcome.ok);
    assert_true(outcome.ok);
}

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2};
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_server_loses_and_doubles_nothing)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
