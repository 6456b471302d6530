/* The books of organizations and the projects that are known, where there is room for one organization only. */
#include "service/policy/book.h"
#include "service/policy/engine.h"
#include "support/rpc_fixture.h"

#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CALL_BYTES_MAX = 4 << 20, DEADLINE_S = 30 };

static struct rpc_fixture fixture;
static struct rpc_fixture_server server; /* for its pool */
static struct base_metrics *metrics;
static struct policy_engine *engine;
static struct forge_uuid stranger;

static uint64_t feed_is_fresh(void *user)
{
    (void)user;
    return forge_clock_monotonic_ms();
}

static int open_fixture(void **state)
{
    struct rpc_server_config config;
    struct forge_error error = {0};
    (void)state;
    rpc_fixture_open(&fixture);
    rpc_fixture_config(&config);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    metrics = base_metrics_new();
    forge_uuid_v7(&stranger);
    const struct policy_engine_config engine_config = {
        .pool = server.pool, .metrics = metrics, .organizations_max = 1, .feed_last_poll_ms = feed_is_fresh};
    assert_int_equal(policy_engine_new(&engine_config, &engine, &error), FORGE_OK);
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    policy_engine_free(engine);
    base_metrics_free(metrics);
    rpc_fixture_stop(&server);
    rpc_fixture_close(&fixture);
    return 0;
}

/* A call of this organization that asks for its policies. */
static void look(const struct forge_uuid *organization_id)
{
    struct forge_arena arena;
    struct rpc_call call = {.arena = &arena, .deadline_ns = forge_clock_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000)};
    struct policy_book *book;
    call.principal.organization_id = *organization_id;
    forge_arena_init(&arena, CALL_BYTES_MAX, NULL);
    assert_int_equal(db_pool_lease(server.pool, &arena, call.deadline_ns, &call.db, &call.error), FORGE_OK);
    db_session_bind_tenant(call.db, organization_id);
    assert_int_equal(policy_engine_book(engine, &call, &book), FORGE_OK);
    policy_book_unref(book);
    db_pool_release(call.db);
    forge_arena_done(&arena);
}

static bool knows(uint64_t *out_changes)
{
    return policy_engine_knows_project(engine, &fixture.organization_id, &fixture.project_id, out_changes);
}

static void note(uint64_t changes)
{
    policy_engine_note_project(engine, &fixture.organization_id, &fixture.project_id, changes);
}

static void delete_project(void)
{
    const struct db_change change = {.organization_id = fixture.organization_id, .kind = "project", .object_id = fixture.project_id};
    policy_engine_changed(&change, engine);
}

static void test_a_project_is_known_until_projects_change(void **state)
{
    uint64_t changes;
    (void)state;
    look(&fixture.organization_id);
    assert_false(knows(&changes));
    note(changes);
    assert_true(knows(&changes));
    delete_project();
    assert_false(knows(&changes));
}

/* A call read the project before it was deleted, and notes it after; its organization made room for another one meanwhile and came back. */
static void test_what_was_deleted_meanwhile_is_not_known(void **state)
{
    uint64_t before_all, before, without;
    (void)state;
    look(&stranger);
    look(&fixture.organization_id);
    assert_false(knows(&before_all));
    delete_project();
    note(before_all);
    assert_false(knows(&before));
    look(&stranger);
    delete_project(); /* nobody hears of it */
    assert_false(knows(&without));
    look(&fixture.organization_id);
    note(before_all);
    note(before);
    note(without);
    assert_false(knows(&before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_project_is_known_until_projects_change),
        cmocka_unit_test(test_what_was_deleted_meanwhile_is_not_known),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
