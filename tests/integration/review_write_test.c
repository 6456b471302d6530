/* Exactly once where attempts meet in the worst order: what happens between two looks at the table of writes in progress, and replies
 * that cannot be given. */
#include "support/rpc_fixture.h"

#include "forge/v1/project.pb-c.h"
#include "rpc/parked.h"
#include "rpc_table.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rpc_fixture fixture;
static struct rpc_fixture_server server;
static struct rpc_caller *caller;
static struct rpc_gate handlers = RPC_GATE_INIT, parking = RPC_GATE_INIT;
static atomic_uint runs;

/* CreateProject that waits, and gives up in its first run (the linker puts it before the real one). */
forge_code __real_project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out);
forge_code __wrap_project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out);
forge_code __wrap_project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out)
{
    unsigned run = atomic_fetch_add(&runs, 1) + 1;
    forge_code code = __real_project_create(call, in, out);
    if (code != FORGE_OK)
        return code;
    rpc_gate_pass(&handlers);
    return run == 1 ? rpc_call_fail(call, FORGE_UNAVAILABLE, "gave up") : FORGE_OK;
}

/* A call that is about to wait stands at a gate first. */
forge_code __real_rpc_parked_enter(struct rpc_parked *parked, struct rpc_parked_entry *entry, struct forge_error *error);
forge_code __wrap_rpc_parked_enter(struct rpc_parked *parked, struct rpc_parked_entry *entry, struct forge_error *error);
forge_code __wrap_rpc_parked_enter(struct rpc_parked *parked, struct rpc_parked_entry *entry, struct forge_error *error)
{
    rpc_gate_pass(&parking);
    return __real_rpc_parked_enter(parked, entry, error);
}

static int open_fixture(void **state)
{
    rpc_fixture_open(&fixture);
    return 0;
}

static int close_fixture(void **state)
{
    rpc_fixture_close(&fixture);
    return 0;
}

static void start(unsigned parked_per_connection)
{
    struct rpc_server_config config;
    rpc_fixture_config(&config);
    config.parked_per_connection = parked_per_connection;
    rpc_gate_close(&handlers);
    rpc_gate_close(&parking);
    atomic_store(&runs, 0);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    caller = rpc_caller_open(&server, 0);
    assert_non_null(caller);
}

static int stop(void **state)
{
    rpc_gate_open(&handlers);
    rpc_gate_open(&parking);
    rpc_caller_close(caller);
    rpc_fixture_stop(&server);
    return 0;
}

static struct rpc_pending *send_create(const struct forge_uuid *request_id, const char *name)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    return rpc_caller_send(caller, &(struct rpc_request){.method = "ProjectService/CreateProject",
                                                         .token = fixture.developer,
                                                         .request_id = request_id,
                                                         .message = &request.base});
}

static void wait_until_parked(int calls)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + 10000;
    char line[64];
    snprintf(line, sizeof line, "\nforged_parked_calls %d\n", calls);
    for (bool found = false; !found;) {
        char *text = base_metrics_text(server.metrics);
        found = strstr(text, line) != NULL;
        free(text);
        assert_true(forge_clock_monotonic_ms() < until_ms);
    }
}

/* A duplicate that was compared with one owner and waits for the next one, which has another body: it must not get that one's reply. */
static void test_duplicate_of_an_earlier_owner(void **state)
{
    struct forge_uuid id;
    start(64);
    forge_uuid_v7(&id);
    struct rpc_pending *owner = send_create(&id, "earlier owner");
    rpc_gate_wait_inside(&handlers, 1);
    struct rpc_pending *duplicate = send_create(&id, "earlier owner");
    rpc_gate_wait_inside(&parking, 1); /* compared, not waiting yet */
    rpc_gate_open(&handlers);
    rpc_answer_expect(rpc_pending_wait(owner), FORGE_UNAVAILABLE, "gave up");
    rpc_gate_wait_inside(&handlers, 0);
    rpc_gate_close(&handlers);
    struct rpc_pending *other = send_create(&id, "another body");
    rpc_gate_wait_inside(&handlers, 1);
    rpc_gate_open(&parking);
    wait_until_parked(1);
    rpc_gate_open(&handlers);
    rpc_answer_expect(rpc_pending_wait(other), FORGE_OK, NULL);
    rpc_answer_expect(rpc_pending_wait(duplicate), FORGE_INVALID_ARGUMENT, "request_id was used before with another request");
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM projects WHERE name = 'earlier owner'"), 0);
}

/* No room to wait: the duplicate is sent away with the reason that proto/README.md promises. */
static void test_duplicate_without_room_to_wait(void **state)
{
    struct forge_uuid id;
    start(0);
    rpc_gate_open(&parking);
    forge_uuid_v7(&id);
    struct rpc_pending *owner = send_create(&id, "no room");
    rpc_gate_wait_inside(&handlers, 1);
    const struct rpc_answer *answer = rpc_pending_wait(send_create(&id, "no room"));
    rpc_answer_expect_reason(answer, FORGE_UNAVAILABLE, "CALL_IN_PROGRESS", "an earlier attempt with this request_id is in progress");
    assert_true(answer->header->not_executed);
    assert_int_equal(answer->header->retry_after_ms, 50);
    rpc_gate_open(&handlers);
    rpc_answer_expect(rpc_pending_wait(owner), FORGE_UNAVAILABLE, "gave up");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_duplicate_of_an_earlier_owner, stop),
        cmocka_unit_test_teardown(test_duplicate_without_room_to_wait, stop),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
