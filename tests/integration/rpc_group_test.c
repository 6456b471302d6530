/* Group commit: which calls are done together, and what each of them is told. ListProjects joins a group of the test's (the linker puts it
 * before the real one), on a real server with one thread for groups. */
#include "support/rpc_fixture.h"

#include "forge/v1/project.pb-c.h"
#include "rpc/group.h"
#include "rpc_table.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { WEIGHT_MAX = 1000, RUNS_MAX = 64, CALLS = 6, QUEUE = 8, SHORT_US = 300000 };

static struct rpc_fixture fixture, other; /* other: a second organization in the same database */
static char other_key[AUTH_TOKEN_SIZE];
static struct rpc_fixture_server server;
static struct rpc_caller *caller;
static struct rpc_gate gate = RPC_GATE_INIT;

/* What the groups were. One thread writes it; read when it has answered. */
static struct run {
    struct forge_uuid organization_id;
    size_t count;
} runs[RUNS_MAX];
static size_t run_count;

/* A page token of "bad" makes the transaction of its group fail, "heavy" is one that weighs as much as a group may. */
static forge_code run(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id, void *const *works,
                      size_t count, struct forge_error *error)
{
    rpc_gate_pass(&gate);
    runs[run_count++] = (struct run){*organization_id, count};
    assert_non_null(forge_arena_alloc(arena, 1));
    for (size_t i = 0; i < count; i++)
        if (strcmp(works[i], "bad") == 0)
            return forge_error_set(error, FORGE_FAILED_PRECONDITION, "one of %zu is bad", count);
    return FORGE_OK;
}

static forge_code finish(struct rpc_call *call, void *work, ProtobufCMessage *reply)
{
    Forge__V1__ListProjectsResponse *out = (Forge__V1__ListProjectsResponse *)reply;
    assert_null(call->db);
    out->next_page_token = forge_arena_printf(call->arena, "done %s", (const char *)work);
    return FORGE_OK;
}

static const struct rpc_group_kind kind = {.weight_max = WEIGHT_MAX, .run = run, .finish = finish},
                                   another_kind = {.weight_max = WEIGHT_MAX, .run = run, .finish = finish};

forge_code __wrap_project_list(struct rpc_call *call, const Forge__V1__ListProjectsRequest *in, Forge__V1__ListProjectsResponse *out);
forge_code __wrap_project_list(struct rpc_call *call, const Forge__V1__ListProjectsRequest *in, Forge__V1__ListProjectsResponse *out)
{
    bool is_other = strcmp(in->page_token, "another kind") == 0, is_heavy = strcmp(in->page_token, "heavy") == 0;
    return rpc_call_join(call, is_other ? &another_kind : &kind, in->page_token, is_heavy ? WEIGHT_MAX : WEIGHT_MAX / 4);
}

static int open_fixture(void **state)
{
    char id[FORGE_UUID_TEXT_SIZE];
    struct forge_uuid user_id, key_id;
    rpc_fixture_open(&fixture);
    other = fixture;
    forge_uuid_v7(&other.organization_id);
    forge_uuid_v7(&user_id);
    forge_uuid_v7(&key_id);
    forge_uuid_format(&other.organization_id, id);
    rpc_fixture_execute(&other, "INSERT INTO organizations (organization_id, name, slug) VALUES ('%s', 'Other', 'other')", id);
    char user[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&user_id, user);
    rpc_fixture_execute(&other,
                        "INSERT INTO users (organization_id, id, email, name, role, password_hash) VALUES ('%s', '%s',"
                        " 'other@example.com', 'Other', 'admin', 'none')",
                        id, user);
    rpc_fixture_add_api_key(&other, &key_id, &user_id, AUTH_SCOPE_READ, "", "", other_key);
    return 0;
}

static int close_fixture(void **state)
{
    rpc_fixture_close(&fixture);
    return 0;
}

static int start(void **state)
{
    struct rpc_server_config config;
    rpc_fixture_config(&config);
    config.group_threads = 1;
    config.queue_ingest = QUEUE;
    config.calls_per_connection = 64;
    run_count = 0;
    rpc_gate_close(&gate);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    caller = rpc_caller_open(&server, 0);
    return caller ? 0 : -1;
}

static int stop(void **state)
{
    rpc_gate_open(&gate);
    rpc_caller_close(caller);
    rpc_fixture_stop(&server);
    return 0;
}

/* ---- calls ---- */

static struct rpc_pending *send_as(const char *token, const char *word, int64_t timeout_us)
{
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    request.page_token = (char *)(uintptr_t)word;
    return rpc_caller_send(
        caller,
        &(struct rpc_request){.method = "ProjectService/ListProjects", .token = token, .message = &request.base, .timeout_us = timeout_us});
}

static struct rpc_pending *send(const char *word)
{
    return send_as(fixture.viewer, word, 0);
}

static void wait_joined(unsigned count)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < 30000 && rpc_groups_waiting(server.server->groups) != count; i++)
        nanosleep(&pause, NULL);
    assert_int_equal(rpc_groups_waiting(server.server->groups), count);
}

/* The thread is busy with a call until the gate opens, so that what is sent now waits. */
static struct rpc_pending *occupy(void)
{
    struct rpc_pending *first = send("first");
    rpc_gate_wait_inside(&gate, 1);
    return first;
}

static void expect_done(struct rpc_pending *pending, const char *text)
{
    const struct rpc_answer *answer = rpc_pending_wait(pending);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    Forge__V1__ListProjectsResponse *reply =
        (Forge__V1__ListProjectsResponse *)rpc_answer_unpack(answer, &forge__v1__list_projects_response__descriptor);
    assert_string_equal(reply->next_page_token, text);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
}

static void expect_runs(size_t count, ...)
{
    va_list expected;
    va_start(expected, count);
    assert_int_equal(run_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(runs[i].count, va_arg(expected, int));
    va_end(expected);
}

/* ---- tests ---- */

static void test_nobody_waits_for_company(void **state)
{
    rpc_gate_open(&gate);
    for (int i = 0; i < 3; i++)
        expect_done(send("alone"), "done alone");
    expect_runs(3, 1, 1, 1);
}

static void test_what_comes_meanwhile_is_done_together(void **state)
{
    struct rpc_pending *first = occupy(), *more[4];
    for (int i = 0; i < 4; i++)
        more[i] = send("more");
    wait_joined(4);
    rpc_gate_open(&gate);
    expect_done(first, "done first");
    for (int i = 0; i < 4; i++)
        expect_done(more[i], "done more");
    expect_runs(2, 1, 4);
}

static void test_a_group_has_its_weight(void **state)
{
    struct rpc_pending *first = occupy(), *more[CALLS], *heavy;
    for (int i = 0; i < CALLS; i++)
        more[i] = send("more");
    wait_joined(CALLS);
    heavy = send("heavy");
    wait_joined(CALLS + 1);
    rpc_gate_open(&gate);
    expect_done(first, "done first");
    expect_done(heavy, "done heavy");
    for (int i = 0; i < CALLS; i++)
        expect_done(more[i], "done more");
    expect_runs(4, 1, 4, 2, 1);
}

static void test_tenants_and_kinds_stay_apart(void **state)
{
    struct rpc_pending *first = occupy(), *more[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        more[i] = i % 3 == 2 ? send("another kind") : send_as(i % 3 == 0 ? fixture.viewer : other_key, "more", 0);
        wait_joined(i + 1);
    }
    rpc_gate_open(&gate);
    expect_done(first, "done first");
    for (int i = 0; i < CALLS; i++)
        expect_done(more[i], i % 3 == 2 ? "done another kind" : "done more");
    expect_runs(4, 1, 2, 2, 2);
    assert_true(forge_uuid_equal(&runs[1].organization_id, &fixture.organization_id));
    assert_true(forge_uuid_equal(&runs[2].organization_id, &other.organization_id));
    assert_true(forge_uuid_equal(&runs[3].organization_id, &fixture.organization_id));
}

static void test_what_is_wrong_with_one_is_nobody_elses(void **state)
{
    struct rpc_pending *first = occupy(), *good, *bad, *better;
    good = send("good");
    bad = send("bad");
    better = send("better");
    wait_joined(3);
    rpc_gate_open(&gate);
    expect_done(first, "done first");
    expect_done(good, "done good");
    rpc_answer_expect(rpc_pending_wait(bad), FORGE_FAILED_PRECONDITION, "one of 1 is bad");
    expect_done(better, "done better");
    expect_runs(5, 1, 3, 1, 1, 1);
}

static void test_a_full_queue_refuses_at_once(void **state)
{
    struct rpc_pending *first = occupy(), *more[QUEUE];
    for (int i = 0; i < QUEUE; i++)
        more[i] = send("more");
    wait_joined(QUEUE);
    const struct rpc_answer *answer = rpc_pending_wait(send("too much"));
    rpc_answer_expect(answer, FORGE_RESOURCE_EXHAUSTED, "too many calls wait");
    assert_true(answer->header->not_executed);
    assert_in_range(answer->header->retry_after_ms, 50, 1000);
    rpc_gate_open(&gate);
    expect_done(first, "done first");
    for (int i = 0; i < QUEUE; i++)
        expect_done(more[i], "done more");
}

static void test_a_deadline_that_is_over(void **state)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct rpc_pending *first = occupy(), *late = send_as(fixture.viewer, "late", SHORT_US), *patient = send("patient");
    uint64_t over_ms = forge_clock_monotonic_ms() + SHORT_US / 1000 + 1;
    wait_joined(2);
    while (forge_clock_monotonic_ms() < over_ms)
        nanosleep(&pause, NULL);
    rpc_gate_open(&gate);
    expect_done(first, "done first");
    const struct rpc_answer *answer = rpc_pending_wait(late);
    rpc_answer_expect(answer, FORGE_DEADLINE_EXCEEDED, "deadline was over");
    assert_true(answer->header->not_executed);
    expect_done(patient, "done patient");
    expect_runs(2, 1, 1);
}

/* Nobody takes their answers: the calls are done and forgotten. */
static void test_callers_that_went_away(void **state)
{
    struct rpc_pending *first = occupy();
    for (int i = 0; i < CALLS; i++)
        send("more");
    wait_joined(CALLS);
    rpc_gate_open(&gate);
    expect_done(first, "done first");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_nobody_waits_for_company),
        TEST(test_what_comes_meanwhile_is_done_together),
        TEST(test_a_group_has_its_weight),
        TEST(test_tenants_and_kinds_stay_apart),
        TEST(test_what_is_wrong_with_one_is_nobody_elses),
        TEST(test_a_full_queue_refuses_at_once),
        TEST(test_a_deadline_that_is_over),
        TEST(test_callers_that_went_away),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
