/* The change feed: overlapping transactions, none missed and none told twice; reset, floor and position; rows from a restored dump. */
#include "support/db_fixture.h"

#include "db/change_feed.h"
#include "db/tx.h"
#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { INTERVAL_MS = 20, WAIT_MS = 20000, TOLD_MAX = 4096, WRITERS = 4, WRITES = 60 };

/* What the listener heard. */
struct heard {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct db_change changes[TOLD_MAX];
    int count, resets;
};

struct feed_fixture {
    struct db_fixture db;
    struct heard heard;
    struct db_change_feed *feed;
};

static void on_changed(const struct db_change *change, void *user)
{
    struct heard *heard = user;
    pthread_mutex_lock(&heard->lock);
    if (heard->count < TOLD_MAX)
        heard->changes[heard->count++] = *change;
    pthread_cond_broadcast(&heard->news);
    pthread_mutex_unlock(&heard->lock);
}

static void on_reset(void *user)
{
    struct heard *heard = user;
    pthread_mutex_lock(&heard->lock);
    heard->resets++;
    pthread_cond_broadcast(&heard->news);
    pthread_mutex_unlock(&heard->lock);
}

static void wait_for(struct heard *heard, const int *number, int least)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&heard->lock);
    while (*number < least)
        if (pthread_cond_timedwait(&heard->news, &heard->lock, &until) != 0)
            break;
    int reached = *number;
    pthread_mutex_unlock(&heard->lock);
    if (reached < least)
        fail_msg("heard %d of %d within %d ms", reached, least, WAIT_MS);
}

static int times_told(struct heard *heard, const struct forge_uuid *object_id)
{
    int times = 0;
    pthread_mutex_lock(&heard->lock);
    for (int i = 0; i < heard->count; i++)
        times += forge_uuid_equal(&heard->changes[i].object_id, object_id);
    pthread_mutex_unlock(&heard->lock);
    return times;
}

static void feed_start(struct feed_fixture *f)
{
    struct db_pool_config config = {.url = f->db.url, .application_name = "feed test", .connect_timeout_ms = 2000};
    struct db_change_listener listener = {on_changed, on_reset, &f->heard};
    assert_int_equal(db_change_feed_new(&config, INTERVAL_MS, &listener, 1, &f->feed, &f->db.error), FORGE_OK);
}

static int setup(void **state)
{
    struct feed_fixture *f = calloc(1, sizeof(*f));
    pthread_mutex_init(&f->heard.lock, NULL);
    pthread_cond_init(&f->heard.news, NULL);
    db_fixture_init(&f->db, *state);
    db_fixture_pool(&f->db, 2, WRITERS);
    feed_start(f);
    wait_for(&f->heard, &f->heard.resets, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct feed_fixture *f = *state;
    db_change_feed_free(f->feed);
    db_fixture_done(&f->db);
    free(f);
    return 0;
}

static struct db_stmt *change(struct db_session *session, const struct feed_fixture *f, struct forge_uuid *out_object)
{
    struct forge_uuid *id = forge_arena_alloc(&((struct feed_fixture *)(uintptr_t)f)->db.arena, sizeof(*id));
    forge_uuid_v7(id);
    *out_object = *id;
    struct db_stmt *stmt = db_stmt(session, SQL_TEST_CHANGE);
    db_bind_uuid(stmt, id);
    db_bind_uuid(stmt, &f->db.organization_id);
    db_bind_text(stmt, "prompt");
    db_bind_uuid(stmt, id);
    db_bind_null(stmt);
    return stmt;
}

static void commit(struct db_session *session, struct forge_error *error)
{
    bool unknown;
    assert_int_equal(db_tx_commit(session, &unknown, error), FORGE_OK);
}

/* A committed change in a transaction of its own. */
static struct forge_uuid change_now(struct feed_fixture *f)
{
    struct forge_uuid object;
    struct db_session *s = db_fixture_lease(&f->db, 10000);
    assert_int_equal(db_run_command(change(s, f, &object), NULL, &f->db.error), FORGE_OK);
    db_pool_release(s);
    return object;
}

static void test_feed_tells_what_is_in_a_row(void **state)
{
    struct feed_fixture *f = *state;
    struct forge_uuid object = change_now(f);
    wait_for(&f->heard, &f->heard.count, 1);
    assert_true(forge_uuid_equal(&f->heard.changes[0].object_id, &object));
    assert_true(forge_uuid_equal(&f->heard.changes[0].organization_id, &f->db.organization_id));
    assert_true(forge_uuid_is_nil(&f->heard.changes[0].parent_id));
    assert_string_equal(f->heard.changes[0].kind, "prompt");
    assert_true(db_change_feed_last_poll_ms(f->feed) > 0);
}

static void test_feed_overlapping_transactions(void **state)
{
    struct feed_fixture *f = *state;
    struct forge_uuid early, late, undone;
    struct db_session *first = db_fixture_lease(&f->db, 60000), *second = db_fixture_lease(&f->db, 60000);
    struct db_session *third = db_fixture_lease(&f->db, 60000);
    db_tx_begin(first);
    assert_int_equal(db_run_command(change(first, f, &early), NULL, &f->db.error), FORGE_OK);
    db_tx_begin(third);
    assert_int_equal(db_run_command(change(third, f, &undone), NULL, &f->db.error), FORGE_OK);
    db_tx_begin(second);
    assert_int_equal(db_run_command(change(second, f, &late), NULL, &f->db.error), FORGE_OK);
    commit(second, &f->db.error);
    wait_for(&f->heard, &f->heard.count, 1); /* although an older transaction is open */
    assert_int_equal(times_told(&f->heard, &late), 1);
    for (int i = 1; i <= 3; i++) { /* further ones pass by as well */
        change_now(f);
        wait_for(&f->heard, &f->heard.count, 1 + i);
    }
    assert_int_equal(times_told(&f->heard, &early), 0);
    commit(first, &f->db.error);
    wait_for(&f->heard, &f->heard.count, 5);
    db_tx_rollback(third);
    change_now(f);
    wait_for(&f->heard, &f->heard.count, 6);
    assert_int_equal(times_told(&f->heard, &early), 1);
    assert_int_equal(times_told(&f->heard, &late), 1);
    assert_int_equal(times_told(&f->heard, &undone), 0);
    assert_int_equal(f->heard.count, 6);
    db_pool_release(first);
    db_pool_release(second);
    db_pool_release(third);
}

struct writer {
    pthread_t thread;
    struct feed_fixture *fixture;
    unsigned seed;
    struct forge_arena arena;
    struct forge_uuid told[WRITES], undone[WRITES];
    int told_count, undone_count;
    forge_code failed;
};

static struct db_stmt *writer_change(struct writer *w, struct db_session *session, struct forge_uuid *id)
{
    forge_uuid_v7(id);
    struct db_stmt *stmt = db_stmt(session, SQL_TEST_CHANGE);
    db_bind_uuid(stmt, id);
    db_bind_uuid(stmt, &w->fixture->db.organization_id);
    db_bind_text(stmt, "prompt");
    db_bind_uuid(stmt, id);
    db_bind_null(stmt);
    return stmt;
}

/* Random transactions: some hold their xid over several trips, one in five is rolled back. */
static forge_code write_one(struct writer *w, int number)
{
    struct forge_error error = {0};
    struct db_session *s;
    bool unknown;
    forge_code rc = db_pool_lease(w->fixture->db.pool, &w->arena, db_fixture_deadline(60000), &s, &error);
    if (rc != FORGE_OK)
        return rc;
    struct forge_uuid *id = forge_arena_alloc(&w->arena, sizeof(*id));
    db_tx_begin(s);
    rc = db_run_command(writer_change(w, s, id), NULL, &error);
    for (int trips = rand_r(&w->seed) % 30; rc == FORGE_OK && trips > 0; trips--) {
        struct db_row row;
        rc = db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &error);
    }
    if (rc == FORGE_OK && number % 5 == 0) {
        db_tx_rollback(s);
        w->undone[w->undone_count++] = *id;
    } else if (rc == FORGE_OK) {
        rc = db_tx_commit(s, &unknown, &error);
        w->told[w->told_count++] = *id;
    }
    db_pool_release(s);
    return rc;
}

static void *writer_run(void *argument)
{
    struct writer *w = argument;
    forge_arena_init(&w->arena, 64 << 20, NULL);
    for (int i = 0; i < WRITES && w->failed == FORGE_OK; i++)
        w->failed = write_one(w, i);
    forge_arena_done(&w->arena);
    return NULL;
}

static void test_feed_none_missed_none_twice(void **state)
{
    struct feed_fixture *f = *state;
    static struct writer writers[WRITERS];
    memset(writers, 0, sizeof(writers));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].fixture = f;
        writers[i].seed = i + 1;
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_run, &writers[i]), 0);
    }
    int expected = 0, missed = 0, twice = 0, undone = 0;
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_int_equal(writers[i].failed, FORGE_OK);
        expected += writers[i].told_count;
    }
    wait_for(&f->heard, &f->heard.count, expected);
    change_now(f); /* one poll more, so that a second telling would be heard */
    wait_for(&f->heard, &f->heard.count, expected + 1);
    for (int i = 0; i < WRITERS; i++) {
        for (int j = 0; j < writers[i].told_count; j++) {
            int times = times_told(&f->heard, &writers[i].told[j]);
            missed += times == 0;
            twice += times > 1;
        }
        for (int j = 0; j < writers[i].undone_count; j++)
            undone += times_told(&f->heard, &writers[i].undone[j]);
    }
    print_message("changes %d, missed %d, twice %d, undone but told %d\n", expected, missed, twice, undone);
    assert_int_equal(missed, 0);
    assert_int_equal(twice, 0);
    assert_int_equal(undone, 0);
    assert_int_equal(f->heard.count, expected + 1);
    assert_int_equal(f->heard.resets, 1);
}

static void test_feed_reconnect_resets_and_tells_what_happened_between(void **state)
{
    struct feed_fixture *f = *state;
    struct forge_uuid before = change_now(f);
    wait_for(&f->heard, &f->heard.count, 1);
    /* An open transaction across the cut: it is below no snapshot's xmin, so the floor must not pass it. */
    struct forge_uuid across;
    struct db_session *s = db_fixture_lease(&f->db, 60000);
    db_tx_begin(s);
    assert_int_equal(db_run_command(change(s, f, &across), NULL, &f->db.error), FORGE_OK);
    struct forge_uuid later = change_now(f);
    wait_for(&f->heard, &f->heard.count, 2);
    pg_cluster_execute(f->db.cluster, "postgres", f->db.database,
                       "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'feed test'");
    wait_for(&f->heard, &f->heard.resets, 2);
    commit(s, &f->db.error);
    db_pool_release(s);
    struct forge_uuid after = change_now(f);
    while (times_told(&f->heard, &after) == 0)
        wait_for(&f->heard, &f->heard.count, f->heard.count + 1);
    assert_int_equal(times_told(&f->heard, &across), 1);
    assert_true(times_told(&f->heard, &before) >= 1);
    assert_true(times_told(&f->heard, &later) >= 1);
}

static void test_feed_survives_a_killed_cluster(void **state)
{
    struct feed_fixture *f = *state;
    change_now(f);
    wait_for(&f->heard, &f->heard.count, 1);
    pg_cluster_kill(f->db.cluster);
    struct db_change_position position;
    uint64_t until = forge_clock_monotonic_ms() + 10000;
    while (db_change_feed_position(f->feed, &position) == FORGE_OK && forge_clock_monotonic_ms() < until)
        sched_yield();
    assert_int_equal(db_change_feed_position(f->feed, &position), FORGE_UNAVAILABLE);
    uint64_t polled = db_change_feed_last_poll_ms(f->feed);
    pg_cluster_start(f->db.cluster);
    wait_for(&f->heard, &f->heard.resets, 2);
    struct forge_uuid object;
    struct db_session *s = NULL;
    while (db_pool_lease(f->db.pool, &f->db.arena, db_fixture_deadline(5000), &s, &f->db.error) != FORGE_OK)
        assert_true(forge_clock_monotonic_ms() < until + 20000);
    db_session_bind_tenant(s, &f->db.organization_id);
    assert_int_equal(db_run_command(change(s, f, &object), NULL, &f->db.error), FORGE_OK);
    db_pool_release(s);
    while (times_told(&f->heard, &object) == 0)
        wait_for(&f->heard, &f->heard.count, f->heard.count + 1);
    assert_true(db_change_feed_last_poll_ms(f->feed) > polled);
}

/* Changes that are committed while a poll's answer is on its way are not in it, so it must not count as news of its end. */
static void test_feed_counts_a_poll_from_its_beginning(void **state)
{
    struct feed_fixture *f = *state;
    struct db_session *s = db_fixture_lease(&f->db, 60000);
    static const char waiting[] = "SELECT count(*) FROM pg_locks WHERE relation = 'changes'::regclass AND NOT granted";
    db_tx_begin(s);
    assert_int_equal(db_run_command(db_stmt(s, SQL_TEST_LOCK_CHANGES), NULL, &f->db.error), FORGE_OK);
    uint64_t until_ms = forge_clock_monotonic_ms() + WAIT_MS;
    while (strcmp(pg_cluster_query(f->db.cluster, "postgres", f->db.database, waiting), "0") == 0)
        assert_true(forge_clock_monotonic_ms() < until_ms);
    uint64_t before_ms = db_change_feed_last_poll_ms(f->feed), end_ms = forge_clock_monotonic_ms() + 1;
    while (forge_clock_monotonic_ms() <= end_ms)
        sched_yield();
    db_pool_release(s); /* rolls back: the poll goes on */
    uint64_t polled_ms;
    while ((polled_ms = db_change_feed_last_poll_ms(f->feed)) == before_ms)
        assert_true(forge_clock_monotonic_ms() < until_ms);
    assert_true(polled_ms <= end_ms);
}

static void test_feed_position(void **state)
{
    struct feed_fixture *f = *state;
    struct db_change_position position;
    change_now(f);
    wait_for(&f->heard, &f->heard.count, 1);
    assert_int_equal(db_change_feed_position(f->feed, &position), FORGE_OK);
    const char *identifier =
        pg_cluster_query(f->db.cluster, "postgres", f->db.database, "SELECT system_identifier FROM pg_control_system()");
    assert_true(position.system_identifier == strtoull(identifier, NULL, 10));
    assert_int_equal(position.timeline, 1);

    /* An open transaction holds the floor below its xid, however many commit after it. */
    struct forge_uuid held;
    struct db_session *s = db_fixture_lease(&f->db, 60000);
    db_tx_begin(s);
    assert_int_equal(db_run_command(change(s, f, &held), NULL, &f->db.error), FORGE_OK);
    for (int i = 0; i < 5; i++) {
        change_now(f);
        wait_for(&f->heard, &f->heard.count, 2 + i);
    }
    uint64_t held_xid =
        strtoull(pg_cluster_query(f->db.cluster, "postgres", f->db.database,
                                  "SELECT min(backend_xid::text::bigint) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"),
                 NULL, 10);
    assert_int_equal(db_change_feed_position(f->feed, &position), FORGE_OK);
    assert_true(position.floor_xid < held_xid);
    commit(s, &f->db.error);
    db_pool_release(s);
    uint64_t until = forge_clock_monotonic_ms() + WAIT_MS;
    while (position.floor_xid <= held_xid && forge_clock_monotonic_ms() < until)
        assert_int_equal(db_change_feed_position(f->feed, &position), FORGE_OK);
    assert_true(position.floor_xid > held_xid);
}

static void test_feed_rows_of_a_restored_dump_are_deleted(void **state)
{
    struct feed_fixture *f = *state;
    pg_cluster_execute(
        f->db.cluster, "forge_owner", f->db.database,
        "INSERT INTO changes (change_id, xid, organization_id, kind) VALUES (gen_random_uuid(), '900000000', gen_random_uuid(), 'x')");
    struct forge_uuid object = change_now(f);
    wait_for(&f->heard, &f->heard.count, 1);
    assert_int_equal(times_told(&f->heard, &object), 1);
    assert_int_equal(f->heard.count, 1);
    const char *sql = "SELECT count(*) FROM changes WHERE xid = '900000000'";
    uint64_t until = forge_clock_monotonic_ms() + WAIT_MS;
    while (strcmp(pg_cluster_query(f->db.cluster, "forge_owner", f->db.database, sql), "0") != 0 && forge_clock_monotonic_ms() < until)
        ;
    assert_string_equal(pg_cluster_query(f->db.cluster, "forge_owner", f->db.database, sql), "0");
    struct forge_uuid next = change_now(f);
    wait_for(&f->heard, &f->heard.count, 2);
    assert_int_equal(times_told(&f->heard, &next), 1);
}

static void test_feed_refuses_a_foreign_scheme(void **state)
{
    struct forge_error error = {0};
    struct db_change_feed *feed = NULL;
    struct db_pool_config config = {.url = "mysql://h/d", .application_name = "feed test", .connect_timeout_ms = 2000};
    assert_int_equal(db_change_feed_new(&config, 250, NULL, 0, &feed, &error), FORGE_INVALID_ARGUMENT);
    assert_null(feed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_feed_tells_what_is_in_a_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_overlapping_transactions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_none_missed_none_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_reconnect_resets_and_tells_what_happened_between, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_survives_a_killed_cluster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_counts_a_poll_from_its_beginning, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_position, setup, teardown),
        cmocka_unit_test_setup_teardown(test_feed_rows_of_a_restored_dump_are_deleted, setup, teardown),
        cmocka_unit_test(test_feed_refuses_a_foreign_scheme),
    };
    return cmocka_run_group_tests(tests, db_fixture_cluster_start, db_fixture_cluster_stop);
}
