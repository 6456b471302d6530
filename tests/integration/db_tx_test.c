/* Transactions against a real PostgreSQL: commit, rollback, failed statements, and a COMMIT whose answer never came. */
#include "support/db_fixture.h"

#include "db/tx.h"
#include "support/fault_proxy.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct db_stmt *insert_new(struct db_session *s, struct db_fixture *f, const char *name)
{
    struct forge_uuid *id = forge_arena_alloc(&f->arena, sizeof(*id));
    forge_uuid_v7(id);
    return db_fixture_insert(s, f, id, name, 1);
}

static void test_tx_commit_stores_all(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    bool unknown = true;
    assert_false(db_tx_is_open(s));
    db_tx_begin(s);
    assert_true(db_tx_is_open(s));
    assert_false(db_tx_was_sent(s));
    assert_int_equal(db_run_command(insert_new(s, f, "one"), NULL, &f->error), FORGE_OK);
    assert_true(db_tx_was_sent(s));
    assert_int_equal(db_fixture_items(f), 0);
    db_queue(insert_new(s, f, "two"));
    db_queue(insert_new(s, f, "three"));
    assert_int_equal(db_tx_commit(s, &unknown, &f->error), FORGE_OK);
    assert_false(unknown);
    assert_false(db_tx_is_open(s));
    assert_int_equal(db_fixture_items(f), 3);
    /* A second one in the same session, all in one flight. */
    db_tx_begin(s);
    db_queue(insert_new(s, f, "four"));
    assert_int_equal(db_tx_commit(s, &unknown, &f->error), FORGE_OK);
    assert_int_equal(db_fixture_items(f), 4);
    db_pool_release(s);
}

static void test_tx_nothing_in_it_sends_nothing(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    bool unknown = true;
    db_tx_begin(s);
    assert_int_equal(db_tx_commit(s, &unknown, &f->error), FORGE_OK);
    db_tx_begin(s);
    db_queue(insert_new(s, f, "never"));
    db_tx_rollback(s);
    db_tx_rollback(s); /* harmless */
    struct db_row row;
    assert_int_equal(db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error), FORGE_OK);
    assert_int_equal(db_fixture_items(f), 0);
    db_pool_release(s);
}

static void test_tx_rollback_undoes(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    db_tx_begin(s);
    assert_int_equal(db_run_command(insert_new(s, f, "one"), NULL, &f->error), FORGE_OK);
    db_tx_rollback(s);
    assert_false(db_tx_is_open(s));
    assert_int_equal(db_fixture_items(f), 0);
    /* Released in the middle: the same, and the connection serves on. */
    db_tx_begin(s);
    assert_int_equal(db_run_command(insert_new(s, f, "two"), NULL, &f->error), FORGE_OK);
    db_pool_release(s);
    assert_int_equal(db_fixture_items(f), 0);
    struct db_pool_status status;
    db_pool_get_status(f->pool, &status);
    assert_int_equal(status.opened_total, 1);
    assert_int_equal(status.open, 1);
}

static void test_tx_failed_statement_fails_the_rest(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 5000);
    bool unknown = true;
    db_tx_begin(s);
    assert_int_equal(db_run_command(insert_new(s, f, "one"), NULL, &f->error), FORGE_OK);
    assert_int_equal(db_run_command(insert_new(s, f, "one"), NULL, &f->error), FORGE_ALREADY_EXISTS);
    assert_string_equal(db_session_failed_constraint(s), "ix_items_name");
    assert_int_equal(db_run_command(insert_new(s, f, "two"), NULL, &f->error), FORGE_ABORTED);
    assert_int_equal(db_tx_commit(s, &unknown, &f->error), FORGE_ABORTED);
    assert_false(unknown);
    assert_int_equal(db_fixture_items(f), 0);
    /* The session goes on: rpc/write reads the stored reply after a failed claim. */
    db_tx_begin(s);
    db_queue(insert_new(s, f, "first"));
    struct db_stmt *twice = insert_new(s, f, "first");
    assert_int_equal(db_run_command(twice, NULL, &f->error), FORGE_ALREADY_EXISTS);
    db_tx_rollback(s);
    assert_int_equal(db_session_failed_statement(s), SQL_TEST_INSERT); /* still known */
    assert_int_equal(db_run_command(insert_new(s, f, "three"), NULL, &f->error), FORGE_OK);
    assert_int_equal(db_fixture_items(f), 1);
    db_pool_release(s);
}

static void test_tx_commit_that_postgresql_refuses(void **state)
{
    struct db_fixture *f = *state;
    pg_cluster_execute(f->cluster, "forge_owner", f->database,
                       "ALTER TABLE items ADD CONSTRAINT deferred UNIQUE (organization_id, position) DEFERRABLE INITIALLY DEFERRED");
    struct db_session *s = db_fixture_lease(f, 5000);
    bool unknown = true;
    db_tx_begin(s);
    assert_int_equal(db_run_command(insert_new(s, f, "one"), NULL, &f->error), FORGE_OK);
    assert_int_equal(db_run_command(insert_new(s, f, "two"), NULL, &f->error), FORGE_OK);
    assert_int_equal(db_tx_commit(s, &unknown, &f->error), FORGE_ALREADY_EXISTS);
    assert_false(unknown);
    assert_int_equal(db_session_failed_statement(s), SQL_DB_TX_COMMIT);
    assert_string_equal(db_session_failed_constraint(s), "deferred");
    assert_int_equal(db_fixture_items(f), 0);
    db_tx_begin(s);
    db_queue(insert_new(s, f, "one"));
    assert_int_equal(db_tx_commit(s, &unknown, &f->error), FORGE_OK);
    db_pool_release(s);
}

static void test_tx_commit_to_a_silent_server_is_unknown(void **state)
{
    struct db_fixture *f = *state;
    uint64_t start = forge_clock_monotonic_ms();
    struct db_session *s = db_fixture_lease(f, 400);
    bool unknown = false;
    db_tx_begin(s);
    db_queue(insert_new(s, f, "one"));
    pg_cluster_pause(f->cluster);
    forge_code rc = db_tx_commit(s, &unknown, &f->error);
    db_pool_release(s);
    uint64_t took = forge_clock_monotonic_ms() - start;
    pg_cluster_resume(f->cluster);
    assert_int_equal(rc, FORGE_DEADLINE_EXCEEDED);
    assert_true(unknown);
    assert_true(f->error.outcome_unknown);
    assert_in_range(took, 300, 5000); /* at the deadline; a busy machine may be late to notice */
}

/* One write over the proxy that is cut after `message` messages; then, as rpc/write does it, settled on a new connection: the same insert
 * waits for the old transaction; a conflict means that it committed, success that it never happened. */
struct settled {
    int acknowledged, refused, unknown_committed, unknown_undone;
};

static void write_cut(struct db_fixture *f, struct fault_proxy *proxy, enum fault_direction direction, unsigned message,
                      struct settled *out)
{
    struct forge_uuid id;
    forge_uuid_v7(&id);
    char name[20], text[FORGE_UUID_TEXT_SIZE];
    snprintf(name, sizeof(name), "%d %u", (int)direction, message);
    bool unknown = false;
    struct db_session *s = db_fixture_lease(f, 20000);
    if (message > 0)
        fault_proxy_cut_after_messages(proxy, direction, message);
    else
        fault_proxy_disarm(proxy);
    db_tx_begin(s);
    forge_code rc = db_run_command(db_fixture_insert(s, f, &id, name, 1), NULL, &f->error);
    if (rc == FORGE_OK)
        rc = db_tx_commit(s, &unknown, &f->error);
    bool cut = fault_proxy_has_cut(proxy);
    if (message > 0)
        fault_proxy_disarm(proxy);
    out->acknowledged += rc == FORGE_OK;
    if (rc != FORGE_OK) {
        assert_int_equal(rc, FORGE_UNAVAILABLE);
        assert_true(cut);
        assert_int_equal(db_session_reconnect(s, &f->error), FORGE_OK);
        assert_false(db_tx_is_open(s));
        db_session_bind_tenant(s, &f->organization_id);
        forge_code again = db_run_command(db_fixture_insert(s, f, &id, name, 1), NULL, &f->error);
        if (!unknown)
            assert_int_equal(again, FORGE_OK);
        out->refused += !unknown;
        out->unknown_committed += unknown && again == FORGE_ALREADY_EXISTS;
        out->unknown_undone += unknown && again == FORGE_OK;
    }
    db_pool_release(s);
    forge_uuid_format(&id, text);
    char sql[128];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM items WHERE id = '%s'", text);
    assert_string_equal(pg_cluster_query(f->cluster, "postgres", f->database, sql), "1");
}

static void test_tx_connection_cut_at_each_message(void **state)
{
    struct db_fixture *f = *state;
    db_pool_free(f->pool);
    struct fault_proxy *proxy = fault_proxy_new(pg_cluster_port(f->cluster), true);
    assert_non_null(proxy);
    f->url = pg_cluster_tcp_url(f->cluster, "forge_app", f->database, fault_proxy_port(proxy));
    db_fixture_pool(f, 1, 1);
    struct settled settled = {0};
    write_cut(f, proxy, FAULT_UPSTREAM, 0, &settled); /* statements get prepared: the next writes are alike */
    write_cut(f, proxy, FAULT_DOWNSTREAM, 0, &settled);
    assert_int_equal(settled.acknowledged, 2);
    unsigned messages[FAULT_DIRECTIONS]; /* of the last write */
    messages[FAULT_UPSTREAM] = fault_proxy_messages(proxy, FAULT_UPSTREAM);
    messages[FAULT_DOWNSTREAM] = fault_proxy_messages(proxy, FAULT_DOWNSTREAM);
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++) {
        assert_true(messages[direction] > 5);
        for (unsigned message = 1; message <= messages[direction]; message++)
            write_cut(f, proxy, (enum fault_direction)direction, message, &settled);
    }
    print_message("acknowledged %d, certainly undone %d, unknown: committed %d, undone %d\n", settled.acknowledged, settled.refused,
                  settled.unknown_committed, settled.unknown_undone);
    assert_true(settled.refused > 0);
    assert_true(settled.unknown_committed > 0);
    assert_true(settled.unknown_undone > 0);
    db_pool_free(f->pool);
    f->pool = NULL;
    fault_proxy_free(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tx_commit_stores_all, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_tx_nothing_in_it_sends_nothing, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_tx_rollback_undoes, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_tx_failed_statement_fails_the_rest, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_tx_commit_that_postgresql_refuses, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_tx_commit_to_a_silent_server_is_unknown, db_fixture_start_with_pool, db_fixture_stop),
        cmocka_unit_test_setup_teardown(test_tx_connection_cut_at_each_message, db_fixture_start_with_pool, db_fixture_stop),
    };
    return cmocka_run_group_tests(tests, db_fixture_cluster_start, db_fixture_cluster_stop);
}
