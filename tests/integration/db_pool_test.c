/* The pool against a real PostgreSQL: lines, deadlines, contention, a stopped, killed, restarted and silent server. */
#include "support/db_fixture.h"

#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HEAL_MS = 5000, THREADS = 12, CALLS = 100 };

static struct db_pool_status status_of(struct db_fixture *f)
{
    struct db_pool_status status;
    db_pool_get_status(f->pool, &status);
    return status;
}

/* Waits for an event of another thread that only the pool's counters show. */
static bool becomes(struct db_fixture *f, bool (*holds)(const struct db_pool_status *status, unsigned number), unsigned number, unsigned ms)
{
    uint64_t until = forge_clock_monotonic_ms() + ms;
    do {
        struct db_pool_status status = status_of(f);
        if (holds(&status, number))
            return true;
        sched_yield();
    } while (forge_clock_monotonic_ms() < until);
    return false;
}

static bool waiting_is(const struct db_pool_status *status, unsigned number)
{
    return status->waiting == number;
}

static bool open_is(const struct db_pool_status *status, unsigned number)
{
    return status->open == number;
}

static bool state_is(const struct db_pool_status *status, unsigned number)
{
    return (unsigned)status->state == number;
}

/* One small statement on a lease; the arena is the caller's. */
static forge_code call_once(struct db_pool *pool, struct forge_arena *arena, unsigned ms, int64_t *out_backend, struct forge_error *error)
{
    struct db_session *s;
    struct db_row row;
    forge_code rc = db_pool_lease(pool, arena, db_fixture_deadline(ms), &s, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, error);
    if (rc == FORGE_OK && out_backend != NULL)
        *out_backend = db_row_int64(&row, "backend");
    db_pool_release(s);
    return rc;
}

static uint64_t ms_until_healed(struct db_fixture *f)
{
    uint64_t start = forge_clock_monotonic_ms();
    while (call_once(f->pool, &f->arena, 1000, NULL, &f->error) != FORGE_OK)
        if (forge_clock_monotonic_ms() - start > 4 * HEAL_MS)
            break;
    return forge_clock_monotonic_ms() - start;
}

/* --- lines ------------------------------------------------------------------------------------- */

struct in_line {
    pthread_t thread;
    struct db_fixture *fixture;
    struct forge_arena arena;
    atomic_int *served;
    int place;
    forge_code rc;
};

static void *line_run(void *argument)
{
    struct in_line *me = argument;
    struct forge_error error = {0};
    struct db_session *s;
    forge_arena_init(&me->arena, 1 << 20, NULL);
    me->rc = db_pool_lease(me->fixture->pool, &me->arena, db_fixture_deadline(20000), &s, &error);
    if (me->rc == FORGE_OK) {
        me->place = atomic_fetch_add(me->served, 1);
        db_pool_release(s);
    }
    forge_arena_done(&me->arena);
    return NULL;
}

static void test_pool_serves_in_the_order_of_asking(void **state)
{
    struct db_fixture *f = *state;
    enum { IN_LINE = 8 };
    struct in_line line[IN_LINE];
    atomic_int served = 0;
    db_fixture_pool(f, 1, 0);
    struct db_session *holder = db_fixture_lease(f, 30000);
    for (int i = 0; i < IN_LINE; i++) {
        line[i] = (struct in_line){.fixture = f, .served = &served, .place = -1};
        assert_int_equal(pthread_create(&line[i].thread, NULL, line_run, &line[i]), 0);
        assert_true(becomes(f, waiting_is, (unsigned)i + 1, 10000));
    }
    db_pool_release(holder);
    for (int i = 0; i < IN_LINE; i++) {
        pthread_join(line[i].thread, NULL);
        assert_int_equal(line[i].rc, FORGE_OK);
        assert_int_equal(line[i].place, i);
    }
    assert_int_equal(status_of(f).open, 1);
    assert_int_equal(status_of(f).leased, 0);
}

static void test_pool_lease_ends_at_its_deadline(void **state)
{
    struct db_fixture *f = *state;
    db_fixture_pool(f, 1, 0);
    struct db_session *holder = db_fixture_lease(f, 30000), *late = NULL;
    uint64_t start = forge_clock_monotonic_ms();
    assert_int_equal(db_pool_lease(f->pool, &f->arena, db_fixture_deadline(150), &late, &f->error), FORGE_DEADLINE_EXCEEDED);
    assert_in_range(forge_clock_monotonic_ms() - start, 150, 250);
    assert_true(f->error.not_executed);
    assert_null(late);
    assert_int_equal(status_of(f).waiting, 0);
    assert_int_equal(db_pool_lease(f->pool, &f->arena, db_fixture_deadline(0), &late, &f->error), FORGE_DEADLINE_EXCEEDED);
    db_pool_release(holder);
    assert_int_equal(call_once(f->pool, &f->arena, 5000, NULL, &f->error), FORGE_OK);
}

struct caller {
    pthread_t thread;
    struct db_fixture *fixture;
    unsigned deadline_ms;
    atomic_bool *stop; /* NULL: CALLS calls */
    int succeeded, failed;
    uint64_t slowest_ms;
};

static void *caller_run(void *argument)
{
    struct caller *me = argument;
    struct forge_arena arena;
    struct forge_error error = {0};
    forge_arena_init(&arena, 1 << 20, NULL);
    for (int i = 0; me->stop == NULL ? i < CALLS : !atomic_load(me->stop); i++) {
        uint64_t start = forge_clock_monotonic_ms();
        forge_code rc = call_once(me->fixture->pool, &arena, me->deadline_ms, NULL, &error);
        uint64_t took = forge_clock_monotonic_ms() - start;
        me->slowest_ms = took > me->slowest_ms ? took : me->slowest_ms;
        me->succeeded += rc == FORGE_OK;
        me->failed += rc != FORGE_OK;
        forge_arena_reset(&arena);
        if (rc != FORGE_OK)
            sched_yield();
    }
    forge_arena_done(&arena);
    return NULL;
}

static void callers_start(struct caller *callers, struct db_fixture *f, unsigned deadline_ms, atomic_bool *stop)
{
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){.fixture = f, .deadline_ms = deadline_ms, .stop = stop};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_run, &callers[i]), 0);
    }
}

static struct caller callers_join(struct caller *callers)
{
    struct caller sum = {0};
    for (int i = 0; i < THREADS; i++) {
        pthread_join(callers[i].thread, NULL);
        sum.succeeded += callers[i].succeeded;
        sum.failed += callers[i].failed;
        sum.slowest_ms = callers[i].slowest_ms > sum.slowest_ms ? callers[i].slowest_ms : sum.slowest_ms;
    }
    return sum;
}

static void test_pool_many_threads_share_few_connections(void **state)
{
    struct db_fixture *f = *state;
    struct caller callers[THREADS];
    db_fixture_pool(f, 2, 2);
    callers_start(callers, f, 30000, NULL);
    struct caller sum = callers_join(callers);
    assert_int_equal(sum.succeeded, THREADS * CALLS);
    assert_int_equal(sum.failed, 0);
    struct db_pool_status status = status_of(f);
    assert_in_range(status.open, 2, 4);
    assert_in_range(status.opened_total, 2, 4);
    assert_int_equal(status.leased, 0);
    assert_int_equal(status.waiting, 0);
}

static void test_pool_closes_extra_connections_that_fall_idle(void **state)
{
    struct db_fixture *f = *state;
    struct db_pool_config config = {
        .url = f->url, .application_name = "db test", .kept_max = 1, .extra_max = 3, .idle_ms = 200, .connect_timeout_ms = 5000};
    assert_int_equal(db_pool_new(&config, &f->pool, &f->error), FORGE_OK);
    struct db_session *s[4];
    for (int i = 0; i < 4; i++)
        s[i] = db_fixture_lease(f, 10000);
    assert_int_equal(status_of(f).open, 4);
    assert_int_equal(status_of(f).leased, 4);
    for (int i = 0; i < 4; i++)
        db_pool_release(s[i]);
    assert_true(becomes(f, open_is, 1, 10000));
    assert_int_equal(call_once(f->pool, &f->arena, 5000, NULL, &f->error), FORGE_OK);
}

/* --- a server that goes away ------------------------------------------------------------------- */

static void test_pool_idle_connection_that_died_is_not_given(void **state)
{
    struct db_fixture *f = *state;
    db_fixture_pool(f, 1, 0);
    for (int i = 0; i < 5; i++) {
        int64_t backend = 0, other = 0;
        assert_int_equal(call_once(f->pool, &f->arena, 5000, &backend, &f->error), FORGE_OK);
        pg_cluster_execute(f->cluster, "postgres", f->database,
                           "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'db test'");
        assert_int_equal(call_once(f->pool, &f->arena, 5000, &other, &f->error), FORGE_OK);
        assert_int_not_equal(backend, other);
    }
}

static void test_pool_starts_without_a_server_and_finds_it(void **state)
{
    struct db_fixture *f = *state;
    pg_cluster_stop(f->cluster);
    db_fixture_pool(f, 1, 1);
    struct db_pool_status status;
    db_pool_wait_first(f->pool, 10000, &status);
    assert_int_equal(status.state, DB_POOL_UNAVAILABLE);
    assert_true(strncmp(status.reason, "no connection to PostgreSQL: ", 29) == 0);
    assert_null(strchr(status.reason, '\n'));
    uint64_t start = forge_clock_monotonic_ms();
    assert_int_equal(call_once(f->pool, &f->arena, 10000, NULL, &f->error), FORGE_UNAVAILABLE);
    assert_true(forge_clock_monotonic_ms() - start < 1000); /* at once, not at the deadline */
    assert_true(f->error.not_executed);
    assert_int_equal(f->error.retry_after_ms, 250);
    pg_cluster_start(f->cluster);
    uint64_t healed = ms_until_healed(f);
    print_message("healed %llu ms after the start\n", (unsigned long long)healed);
    assert_true(healed <= HEAL_MS);
    assert_true(status_of(f).failed_total > 0);
    assert_int_equal(status_of(f).state, DB_POOL_READY);
    assert_string_equal(status_of(f).reason, "");
}

static void restart_under_load(struct db_fixture *f, void (*stop)(struct pg_cluster *cluster))
{
    struct caller callers[THREADS];
    atomic_bool over = false;
    db_fixture_pool(f, 2, 2);
    assert_int_equal(call_once(f->pool, &f->arena, 5000, NULL, &f->error), FORGE_OK);
    callers_start(callers, f, 2000, &over);
    stop(f->cluster);
    assert_true(becomes(f, state_is, DB_POOL_UNAVAILABLE, 10000));
    pg_cluster_start(f->cluster);
    uint64_t healed = ms_until_healed(f);
    atomic_store(&over, true);
    struct caller sum = callers_join(callers);
    print_message("healed after %llu ms; calls: %d good, %d failed, slowest %llu ms\n", (unsigned long long)healed, sum.succeeded,
                  sum.failed, (unsigned long long)sum.slowest_ms);
    assert_true(healed <= HEAL_MS);
    assert_true(sum.slowest_ms <= 2000 + 100);
    assert_true(sum.failed > 0);
    assert_int_equal(status_of(f).leased, 0);
    assert_int_equal(status_of(f).waiting, 0);
}

static void test_pool_restart_heals(void **state)
{
    restart_under_load(*state, pg_cluster_stop);
}

static void test_pool_kill_heals(void **state)
{
    restart_under_load(*state, pg_cluster_kill);
}

static void test_pool_silent_server_costs_no_more_than_the_deadline(void **state)
{
    struct db_fixture *f = *state;
    struct caller callers[THREADS];
    atomic_bool over = false;
    db_fixture_pool(f, 2, 2);
    assert_int_equal(call_once(f->pool, &f->arena, 5000, NULL, &f->error), FORGE_OK);
    callers_start(callers, f, 400, &over);
    pg_cluster_pause(f->cluster);
    int good = 0;
    uint64_t slowest_ms = 0;
    for (int i = 0; i < 3; i++) { /* some deadlines long */
        uint64_t start = forge_clock_monotonic_ms();
        good += call_once(f->pool, &f->arena, 400, NULL, &f->error) == FORGE_OK;
        uint64_t took = forge_clock_monotonic_ms() - start;
        slowest_ms = took > slowest_ms ? took : slowest_ms;
    }
    pg_cluster_resume(f->cluster);
    uint64_t healed = ms_until_healed(f);
    atomic_store(&over, true);
    struct caller sum = callers_join(callers);
    print_message("healed after %llu ms; calls: %d good, %d failed, slowest %llu ms\n", (unsigned long long)healed, sum.succeeded,
                  sum.failed, (unsigned long long)sum.slowest_ms);
    assert_int_equal(good, 0);
    assert_true(slowest_ms <= 400 + 100);
    assert_true(healed <= HEAL_MS);
    assert_true(sum.slowest_ms <= 400 + 100);
    assert_int_equal(status_of(f).leased, 0);
}

static void test_pool_session_goes_on_with_a_new_connection(void **state)
{
    struct db_fixture *f = *state;
    db_fixture_pool(f, 1, 1);
    struct db_session *s = db_fixture_lease(f, 10000);
    struct db_row row, kept;
    assert_int_equal(db_run_one(db_stmt(s, SQL_TEST_SETTINGS), &kept, &f->error), FORGE_OK);
    int64_t backend = db_row_int64(&kept, "backend");
    assert_int_equal(db_session_reconnect(s, &f->error), FORGE_OK);
    assert_int_equal(db_run_one(db_stmt(s, SQL_TEST_SETTINGS), &row, &f->error), FORGE_OK);
    assert_int_not_equal(db_row_int64(&row, "backend"), backend);
    assert_string_equal(db_row_text(&row, "tenant"), "00000000-0000-0000-0000-000000000000");
    assert_int_equal(db_row_int64(&kept, "backend"), backend); /* earlier rows stay readable */
    assert_int_equal(status_of(f).leased, 1);
    pg_cluster_stop(f->cluster);
    assert_int_equal(db_session_reconnect(s, &f->error), FORGE_UNAVAILABLE);
    assert_int_equal(db_run_one(db_stmt(s, SQL_TEST_SETTINGS), &row, &f->error), FORGE_UNAVAILABLE);
    db_pool_release(s);
    assert_int_equal(status_of(f).leased, 0);
    pg_cluster_start(f->cluster);
    assert_true(ms_until_healed(f) <= HEAL_MS);
}

static void test_pool_more_connections_than_the_server_has(void **state)
{
    struct db_fixture *f = *state;
    pg_cluster_execute(f->cluster, "postgres", "postgres", "ALTER ROLE forge_app CONNECTION LIMIT 2");
    db_fixture_pool(f, 2, 4);
    struct caller callers[THREADS];
    callers_start(callers, f, 20000, NULL);
    struct caller sum = callers_join(callers);
    pg_cluster_execute(f->cluster, "postgres", "postgres", "ALTER ROLE forge_app CONNECTION LIMIT -1");
    print_message("with 2 of 6 connections: %d good, %d refused at once\n", sum.succeeded, sum.failed);
    assert_true(sum.succeeded > 0);
    assert_int_equal(status_of(f).open, 2);
    assert_int_equal(call_once(f->pool, &f->arena, 5000, NULL, &f->error), FORGE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pool_serves_in_the_order_of_asking, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_lease_ends_at_its_deadline, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_many_threads_share_few_connections, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_closes_extra_connections_that_fall_idle, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_idle_connection_that_died_is_not_given, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_starts_without_a_server_and_finds_it, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_restart_heals, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_kill_heals, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_silent_server_costs_no_more_than_the_deadline, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_session_goes_on_with_a_new_connection, db_fixture_start, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_pool_more_connections_than_the_server_has, db_fixture_start, db_fixture_stop),
    };
    return cmocka_run_group_tests(tests, db_fixture_cluster_start, db_fixture_cluster_stop);
}
