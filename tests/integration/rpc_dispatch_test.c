/* The way of a call through the server, and every way to be refused: real handlers on a real PostgreSQL, called through a source. */
#include "support/rpc_fixture.h"

#include "forge/v1/control.pb-c.h"
#include "forge/v1/organization.pb-c.h"
#include "forge/v1/project.pb-c.h"
#include "rpc_table.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE_SIZE_THAT_BLOCKS = 777 };

static struct rpc_fixture fixture;
static struct rpc_fixture_server server;
static struct rpc_caller *caller;
static struct rpc_gate gate = RPC_GATE_INIT;

/* ListProjects waits at the gate when it is asked for a certain page size (the linker puts it before the real one). */
forge_code __real_project_list(struct rpc_call *call, const Forge__V1__ListProjectsRequest *in, Forge__V1__ListProjectsResponse *out);
forge_code __wrap_project_list(struct rpc_call *call, const Forge__V1__ListProjectsRequest *in, Forge__V1__ListProjectsResponse *out);
forge_code __wrap_project_list(struct rpc_call *call, const Forge__V1__ListProjectsRequest *in, Forge__V1__ListProjectsResponse *out)
{
    if (in->page_size == PAGE_SIZE_THAT_BLOCKS)
        rpc_gate_pass(&gate);
    return __real_project_list(call, in, out);
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

static int start(void **state)
{
    struct rpc_server_config config;
    rpc_fixture_config(&config);
    config.workers = 3;
    config.workers_interactive = 1;
    config.queue_interactive = 4;
    config.parked_per_connection = 8;
    config.connections_max = 2;
    config.calls_per_connection = 16;
    atomic_store(&fixture.feed_is_fresh, true);
    rpc_gate_close(&gate);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    caller = rpc_caller_open(&server, 0);
    return caller ? 0 : -1;
}

static int stop(void **state)
{
    rpc_gate_open(&gate);
    if (caller)
        rpc_caller_close(caller);
    rpc_fixture_stop(&server);
    return 0;
}

static const struct rpc_answer *call(const char *method, const char *token, const ProtobufCMessage *message)
{
    return rpc_caller_call(caller, &(struct rpc_request){.method = method, .token = token, .message = message});
}

static const struct rpc_answer *list_projects(const char *token)
{
    return call("ProjectService/ListProjects", token, NULL);
}

static void expect_refused(const struct rpc_answer *answer, forge_code code, const char *text)
{
    rpc_answer_expect(answer, code, text);
    assert_true(answer->header->not_executed);
}

/* --- answers --------------------------------------------------------------------------------------------------------- */

static void test_ping(void **state)
{
    char hello[] = "hello";
    Forge__V1__PingRequest request = FORGE__V1__PING_REQUEST__INIT;
    request.payload = (ProtobufCBinaryData){.len = 5, .data = (uint8_t *)hello};
    const struct rpc_answer *answer = call("ControlService/Ping", NULL, &request.base);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    Forge__V1__PingResponse *reply = (Forge__V1__PingResponse *)rpc_answer_unpack(answer, &forge__v1__ping_response__descriptor);
    assert_int_equal(reply->payload.len, 5);
    assert_memory_equal(reply->payload.data, "hello", 5);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    assert_false(answer->header->goaway);
    assert_false(answer->header->replayed);
    assert_false(rpc_caller_is_verified(caller));
}

static void test_ping_ignores_a_credential(void **state)
{
    rpc_answer_expect(call("ControlService/Ping", "not a token", NULL), FORGE_OK, NULL);
}

static void test_read_on_a_worker_and_from_the_cache(void **state)
{
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    assert_true(rpc_caller_is_verified(caller));
    assert_int_equal(auth_principal_cache_count(fixture.principals), 1);
    const struct rpc_answer *answer = list_projects(fixture.viewer);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    Forge__V1__ListProjectsResponse *reply =
        (Forge__V1__ListProjectsResponse *)rpc_answer_unpack(answer, &forge__v1__list_projects_response__descriptor);
    assert_int_equal(reply->n_projects, 1);
    assert_string_equal(reply->projects[0]->name, "first");
    protobuf_c_message_free_unpacked(&reply->base, NULL);
}

/* A method that answers from memory, with a credential nobody knows yet: a worker looks it up and hands the call back. */
static void test_inline_method_with_a_credential(void **state)
{
    auth_principal_cache_reset(fixture.principals);
    rpc_answer_expect(call("ControlService/Reflect", fixture.viewer, NULL), FORGE_OK, NULL);
    rpc_answer_expect(call("ControlService/Reflect", fixture.viewer, NULL), FORGE_OK, NULL);
    expect_refused(call("ControlService/Reflect", fixture.ingest_key, NULL), FORGE_PERMISSION_DENIED, "needs the role viewer");
}

/* --- bytes that are no call ------------------------------------------------------------------------------------------ */

static void test_wrong_envelopes(void **state)
{
    static const struct {
        const char *body;
        size_t size;
        const char *message;
    } cases[] = {
        {"", 0, "envelope: 0 bytes"},
        {"FRG1\0\0", 6, "envelope: 6 bytes, shorter than its 8 byte prefix"},
        {"HTTP/1.1", 8, "envelope: does not begin with FRG1"},
        {"FRG1\0\0\1\0abc", 11, "envelope: header of 256 bytes is cut off after 3"},
        {"FRG1\xff\xff\xff\xff", 8, "envelope: header of 4294967295 bytes, at most 16384"},
        {"FRG1\0\0\0\2\x0a\x7f", 10, "message is malformed"},
        {"FRG1\0\0\0\3\x0a\1\xff", 11, "method: must be valid UTF-8"},
        {"FRG1\0\0\0\3\x0a\1\0", 11, "method: must not contain a NUL character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refused(rpc_pending_wait(rpc_caller_send_raw(caller, cases[i].body, cases[i].size)), FORGE_INVALID_ARGUMENT,
                       cases[i].message);
    rpc_answer_expect(call("ControlService/Ping", NULL, NULL), FORGE_OK, NULL); /* the connection lives on */
}

static const struct rpc_answer *call_with_header(const Forge__V1__RequestHeader *header)
{
    return rpc_caller_call(caller, &(struct rpc_request){.header = header});
}

static char *text_of(size_t length)
{
    char *text = malloc(length + 1);
    memset(text, 'x', length);
    text[length] = '\0';
    return text;
}

static void test_header_fields_over_their_limits(void **state)
{
    char ping[] = "forge.v1.ControlService/Ping", *text = text_of(513);
    Forge__V1__RequestHeader good = FORGE__V1__REQUEST_HEADER__INIT, header;
    good.method = ping;
    rpc_answer_expect(call_with_header(&good), FORGE_OK, NULL);
    header = good;
    header.method = text;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: method has more than 128 bytes");
    header = good;
    header.authorization = text;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: authorization has more than 256 bytes");
    header = good;
    header.tracestate = text;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: tracestate has more than 512 bytes");
    header = good;
    header.client_info = text;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: client_info has more than 128 bytes");
    header = good;
    header.timeout_us = -1;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: timeout_us must not be negative");
    header = good;
    header.max_reply_bytes = -1;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: max_reply_bytes must not be negative");
    header = good;
    header.request_id = (ProtobufCBinaryData){.len = 5, .data = (uint8_t *)text};
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "header: request_id must have 16 bytes, not 5");
    free(text);
}

static void test_header_metadata(void **state)
{
    char ping[] = "forge.v1.ControlService/Ping", key[] = "x-tenant.id_1", wrong[] = "X-Tenant", empty[] = "", *long_value = text_of(8200);
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    Forge__V1__KeyValue pair = FORGE__V1__KEY_VALUE__INIT, *pairs[] = {&pair};
    header.method = ping;
    header.metadata = pairs;
    header.n_metadata = 1;
    pair.key = key;
    pair.value = key;
    rpc_answer_expect(call_with_header(&header), FORGE_OK, NULL);
    pair.key = wrong;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "metadata[0].key must match [0-9a-z_.-]+");
    pair.key = empty;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "metadata[0].key must match [0-9a-z_.-]+");
    pair.key = key;
    pair.value = long_value;
    expect_refused(call_with_header(&header), FORGE_INVALID_ARGUMENT, "metadata has 8213 bytes, at most 8192");
    free(long_value);
}

static void test_unknown_methods(void **state)
{
    expect_refused(call("ControlService/Nothing", NULL, NULL), FORGE_UNIMPLEMENTED, "unknown method \"forge.v1.ControlService/Nothing\"");
    expect_refused(call("", NULL, NULL), FORGE_UNIMPLEMENTED, "unknown method");
}

static void test_payload_that_is_no_message(void **state)
{
    Forge__V1__GetProjectRequest request = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    char not_utf8[] = "caf\xe9";
    request.name = not_utf8;
    const struct rpc_answer *answer = call("ProjectService/GetProject", fixture.viewer, &request.base);
    expect_refused(answer, FORGE_INVALID_ARGUMENT, "name: must be valid UTF-8");
    assert_int_equal(answer->header->n_details, 2);
    assert_string_equal(answer->header->details[1]->bad_request->field_violations[0]->field, "name");
    Forge__V1__CheckHealthRequest health = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    health.last_known_status = (Forge__V1__ServingStatus)99;
    expect_refused(call("ControlService/CheckHealth", NULL, &health.base), FORGE_INVALID_ARGUMENT,
                   "last_known_status: 99 is not a value of ServingStatus");
}

static void test_payload_with_a_nul(void **state)
{
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    char method[] = "forge.v1.ProjectService/GetProject";
    header.method = method;
    header.authorization = fixture.viewer;
    uint8_t body[512], *payload = forge_envelope_pack_header(&header.base, body);
    memcpy(payload,
           "\x12\x03"
           "a\0b",
           5);
    expect_refused(rpc_pending_wait(rpc_caller_send_raw(caller, body, (size_t)(payload - body) + 5)), FORGE_INVALID_ARGUMENT,
                   "name: must not contain a NUL character");
    expect_refused(rpc_pending_wait(rpc_caller_send_raw(caller, body, (size_t)(payload - body) + 3)), FORGE_INVALID_ARGUMENT,
                   "message is malformed: name: cut off");
}

static void test_handler_violations_reach_the_caller(void **state)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    struct forge_uuid request_id;
    char *name = text_of(256);
    forge_uuid_v7(&request_id);
    request.name = name;
    const struct rpc_answer *answer = rpc_caller_call(caller, &(struct rpc_request){.method = "ProjectService/CreateProject",
                                                                                    .token = fixture.developer,
                                                                                    .request_id = &request_id,
                                                                                    .message = &request.base});
    rpc_answer_expect(answer, FORGE_INVALID_ARGUMENT, "name:");
    assert_string_equal(answer->header->details[1]->bad_request->field_violations[0]->field, "name");
    free(name);
}

/* --- limits ---------------------------------------------------------------------------------------------------------- */

static void test_message_that_was_cut_off_by_its_limit(void **state)
{
    const struct rpc_request request = {.method = "ControlService/Ping", .truncated = true};
    const struct rpc_answer *answer = rpc_caller_call(caller, &request);
    expect_refused(answer, FORGE_RESOURCE_EXHAUSTED, "the message is larger than 16384 bytes, the limit before the first verified");
    assert_string_equal(answer->header->details[1]->quota_failure->violations[0]->subject, "connection");
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    expect_refused(rpc_caller_call(caller, &request), FORGE_RESOURCE_EXHAUSTED, "the message is larger than 4194304 bytes");
}

static void test_request_over_the_limit_of_its_method(void **state)
{
    Forge__V1__GetProjectRequest request = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    request.name = text_of(70000);
    expect_refused(call("ProjectService/GetProject", fixture.viewer, &request.base), FORGE_RESOURCE_EXHAUSTED,
                   "at most 65536 for this method");
    free(request.name);
}

static void test_reply_over_its_limit(void **state)
{
    Forge__V1__PingRequest request = FORGE__V1__PING_REQUEST__INIT;
    request.reply_bytes = 1000;
    struct rpc_request ping = {.method = "ControlService/Ping", .message = &request.base, .max_reply_bytes = 1003};
    rpc_answer_expect(rpc_caller_call(caller, &ping), FORGE_OK, NULL);
    ping.max_reply_bytes = 1002;
    rpc_answer_expect(rpc_caller_call(caller, &ping), FORGE_RESOURCE_EXHAUSTED, "the reply has 1003 bytes, at most 1002 are allowed");
    rpc_answer_expect(
        rpc_caller_call(caller,
                        &(struct rpc_request){.method = "ProjectService/ListProjects", .token = fixture.viewer, .max_reply_bytes = 10}),
        FORGE_RESOURCE_EXHAUSTED, "at most 10 are allowed");
}

static void test_deadline_that_is_over(void **state)
{
    expect_refused(
        rpc_caller_call(caller, &(struct rpc_request){.method = "ProjectService/ListProjects", .token = fixture.viewer, .timeout_us = 1}),
        FORGE_DEADLINE_EXCEEDED, "the deadline");
}

static struct rpc_pending *send_blocking(void)
{
    static Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    request.page_size = PAGE_SIZE_THAT_BLOCKS;
    return rpc_caller_send(
        caller, &(struct rpc_request){.method = "ProjectService/ListProjects", .token = fixture.viewer, .message = &request.base});
}

static struct rpc_pending *send_anonymous_watch(void)
{
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    request.last_known_status = FORGE__V1__SERVING_STATUS__SERVING_STATUS_SERVING;
    return rpc_caller_send(caller, &(struct rpc_request){.method = "ControlService/CheckHealth", .message = &request.base});
}

static void test_calls_in_flight_before_a_credential(void **state)
{
    struct rpc_pending *watches[4];
    for (int i = 0; i < 4; i++)
        watches[i] = send_anonymous_watch();
    const struct rpc_answer *answer = call("ControlService/Ping", NULL, NULL);
    expect_refused(answer, FORGE_RESOURCE_EXHAUSTED,
                   "the connection has 4 calls in flight, at most 4 before its first verified credential");
    assert_int_equal(answer->header->retry_after_ms, 50);
    rpc_wake(server.server, "health");
    for (int i = 0; i < 4; i++)
        rpc_answer_expect(rpc_pending_wait(watches[i]), FORGE_OK, NULL);
    rpc_answer_expect(call("ControlService/Ping", NULL, NULL), FORGE_OK, NULL);
}

static void test_calls_in_flight_and_waiting_after_a_credential(void **state)
{
    struct rpc_pending *watches[8];
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    for (int i = 0; i < 8; i++)
        watches[i] = send_anonymous_watch();
    rpc_answer_expect(rpc_pending_wait(send_anonymous_watch()), FORGE_RESOURCE_EXHAUSTED, "the connection has 8 waiting calls, at most 8");
    rpc_wake(server.server, "health");
    for (int i = 0; i < 8; i++)
        rpc_answer_expect(rpc_pending_wait(watches[i]), FORGE_OK, NULL);
}

static void test_queue_full(void **state)
{
    struct rpc_pending *running[3], *queued[4], *refused;
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        running[i] = send_blocking();
    rpc_gate_wait_inside(&gate, 3);
    for (int i = 0; i < 4; i++)
        queued[i] = send_blocking();
    refused = send_blocking();
    const struct rpc_answer *answer = rpc_pending_wait(refused);
    expect_refused(answer, FORGE_RESOURCE_EXHAUSTED, "the queue for interactive calls is full");
    assert_int_equal(answer->header->retry_after_ms, 50);
    assert_int_equal(answer->header->details[1]->retry_info->retry_delay_ms, 50);
    rpc_answer_expect(call("ControlService/Ping", NULL, NULL), FORGE_OK, NULL); /* memory only: needs no queue */
    rpc_gate_open(&gate);
    for (int i = 0; i < 3; i++)
        rpc_answer_expect(rpc_pending_wait(running[i]), FORGE_OK, NULL);
    for (int i = 0; i < 4; i++)
        rpc_answer_expect(rpc_pending_wait(queued[i]), FORGE_OK, NULL);
}

static void test_deadline_over_in_the_queue(void **state)
{
    struct rpc_pending *running[3];
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        running[i] = send_blocking();
    rpc_gate_wait_inside(&gate, 3);
    struct rpc_pending *late = rpc_caller_send(
        caller, &(struct rpc_request){.method = "ProjectService/ListProjects", .token = fixture.viewer, .timeout_us = 20000});
    uint64_t until_ns = forge_clock_monotonic_ns() + 40000000;
    while (forge_clock_monotonic_ns() < until_ns)
        rpc_answer_expect(call("ControlService/Ping", NULL, NULL), FORGE_OK, NULL);
    rpc_gate_open(&gate);
    expect_refused(rpc_pending_wait(late), FORGE_DEADLINE_EXCEEDED, "ms in the queue");
    for (int i = 0; i < 3; i++)
        rpc_answer_expect(rpc_pending_wait(running[i]), FORGE_OK, NULL);
}

static void test_connections_are_bounded(void **state)
{
    struct rpc_caller *second = rpc_caller_open(&server, 1);
    assert_non_null(second);
    assert_null(rpc_caller_open(&server, 1));
    rpc_caller_close(second);
    second = rpc_caller_open(&server, 0);
    assert_non_null(second);
    rpc_caller_close(second);
}

/* --- waiting --------------------------------------------------------------------------------------------------------- */

static struct rpc_pending *send_watch(const struct forge_uuid *request_id, int64_t wait_ms)
{
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    request.last_known_status = FORGE__V1__SERVING_STATUS__SERVING_STATUS_SERVING;
    request.wait_ms = wait_ms;
    return rpc_caller_send(
        caller, &(struct rpc_request){
                    .method = "ControlService/CheckHealth", .token = fixture.viewer, .request_id = request_id, .message = &request.base});
}

static void wait_until_parked(int64_t calls)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + 10000;
    char line[64];
    snprintf(line, sizeof line, "\nforged_parked_calls %lld\n", (long long)calls);
    for (;;) {
        char *text = base_metrics_text(server.metrics);
        bool found = strstr(text, line) != NULL;
        free(text);
        if (found)
            return;
        assert_true(forge_clock_monotonic_ms() < until_ms);
    }
}

static void test_watch_ends_by_its_time(void **state)
{
    uint64_t begin_ms = forge_clock_monotonic_ms();
    rpc_answer_expect(rpc_pending_wait(send_watch(NULL, 60)), FORGE_OK, NULL);
    assert_in_range(forge_clock_monotonic_ms() - begin_ms, 50, 5000);
}

static void test_watch_ends_before_its_deadline(void **state)
{
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    request.last_known_status = FORGE__V1__SERVING_STATUS__SERVING_STATUS_SERVING;
    rpc_answer_expect(
        rpc_caller_call(caller,
                        &(struct rpc_request){.method = "ControlService/CheckHealth", .message = &request.base, .timeout_us = 260000}),
        FORGE_OK, NULL);
}

static Forge__V1__CancelCallResponse *cancel(const char *token, const struct forge_uuid *request_id)
{
    Forge__V1__CancelCallRequest request = FORGE__V1__CANCEL_CALL_REQUEST__INIT;
    char text[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(request_id, text);
    request.request_id = text;
    const struct rpc_answer *answer = call("ControlService/CancelCall", token, &request.base);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    return (Forge__V1__CancelCallResponse *)rpc_answer_unpack(answer, &forge__v1__cancel_call_response__descriptor);
}

static void expect_cancel(const char *token, const struct forge_uuid *request_id, bool cancelled)
{
    Forge__V1__CancelCallResponse *reply = cancel(token, request_id);
    assert_int_equal(reply->cancelled, cancelled);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
}

static struct rpc_pending *send_list(const struct forge_uuid *request_id)
{
    return rpc_caller_send(
        caller, &(struct rpc_request){.method = "ProjectService/ListProjects", .token = fixture.viewer, .request_id = request_id});
}

static void test_cancel_a_queued_call(void **state)
{
    struct rpc_pending *running[3];
    struct forge_uuid request_id, other_id;
    forge_uuid_v7(&request_id);
    forge_uuid_v7(&other_id);
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    rpc_answer_expect(list_projects(fixture.admin), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        running[i] = send_blocking();
    rpc_gate_wait_inside(&gate, 3);
    struct rpc_pending *queued = send_list(&request_id);
    expect_cancel(fixture.viewer, &other_id, false);
    expect_cancel(fixture.admin, &request_id, false); /* another principal */
    assert_false(rpc_pending_is_answered(queued));
    expect_cancel(fixture.viewer, &request_id, true);
    expect_refused(rpc_pending_wait(queued), FORGE_CANCELLED, "cancelled by CancelCall");
    expect_cancel(fixture.viewer, &request_id, false);
    rpc_gate_open(&gate);
    for (int i = 0; i < 3; i++)
        rpc_answer_expect(rpc_pending_wait(running[i]), FORGE_OK, NULL);
}

static void test_cancel_from_another_connection_finds_nothing(void **state)
{
    struct rpc_pending *running[3];
    struct forge_uuid request_id;
    forge_uuid_v7(&request_id);
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        running[i] = send_blocking();
    rpc_gate_wait_inside(&gate, 3);
    struct rpc_pending *queued = send_list(&request_id);
    rpc_answer_expect(call("ControlService/Ping", NULL, NULL), FORGE_OK, NULL); /* it is queued by now */
    struct rpc_caller *first = caller, *second = rpc_caller_open(&server, 1);
    caller = second;
    expect_cancel(fixture.viewer, &request_id, false);
    caller = first;
    rpc_caller_close(second);
    rpc_gate_open(&gate);
    rpc_answer_expect(rpc_pending_wait(queued), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        rpc_answer_expect(rpc_pending_wait(running[i]), FORGE_OK, NULL);
}

static void test_closed_connection_drops_its_calls(void **state)
{
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        send_blocking();
    rpc_gate_wait_inside(&gate, 3);
    send_list(NULL);
    send_watch(NULL, 20000);
    wait_until_parked(1);
    struct rpc_caller *closing = caller;
    caller = rpc_caller_open(&server, 1);
    rpc_gate_open(&gate); /* the running ones end, their replies go nowhere */
    rpc_caller_close(closing);
    wait_until_parked(0);
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
}

static void test_drain(void **state)
{
    unsigned left = 99;
    struct rpc_pending *watches[2];
    for (int i = 0; i < 2; i++)
        watches[i] = send_watch(NULL, 20000);
    wait_until_parked(2);
    rpc_server_drain(server.server, 10000, &left);
    assert_int_equal(left, 0);
    for (int i = 0; i < 2; i++) {
        const struct rpc_answer *answer = rpc_pending_wait(watches[i]);
        rpc_answer_expect(answer, FORGE_OK, NULL);
        assert_true(answer->header->goaway);
        Forge__V1__CheckHealthResponse *reply =
            (Forge__V1__CheckHealthResponse *)rpc_answer_unpack(answer, &forge__v1__check_health_response__descriptor);
        assert_int_equal(reply->status, FORGE__V1__SERVING_STATUS__SERVING_STATUS_NOT_SERVING);
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    const struct rpc_answer *answer = list_projects(fixture.viewer);
    expect_refused(answer, FORGE_UNAVAILABLE, "the server is draining");
    assert_true(answer->header->goaway);
    answer = call("ControlService/Ping", NULL, NULL);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    assert_true(answer->header->goaway);
    rpc_answer_expect(rpc_pending_wait(send_watch(NULL, 20000)), FORGE_OK, NULL); /* nothing parks any more */
}

static void test_drain_waits_for_running_calls_up_to_its_time(void **state)
{
    unsigned left = 0;
    rpc_answer_expect(list_projects(fixture.viewer), FORGE_OK, NULL);
    struct rpc_pending *running = send_blocking();
    rpc_gate_wait_inside(&gate, 1);
    rpc_server_drain(server.server, 50, &left);
    assert_int_equal(left, 1);
    rpc_gate_open(&gate);
    rpc_server_drain(server.server, 10000, &left);
    assert_int_equal(left, 0);
    rpc_answer_expect(rpc_pending_wait(running), FORGE_OK, NULL);
}

/* --- lists ----------------------------------------------------------------------------------------------------------- */

static const struct rpc_answer *list_page(const char *prefix, const char *page_token, int32_t page_size)
{
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    request.name_prefix = (char *)(uintptr_t)prefix;
    request.page_token = (char *)(uintptr_t)page_token;
    request.page_size = page_size;
    return call("ProjectService/ListProjects", fixture.viewer, &request.base);
}

static void test_page_tokens(void **state)
{
    rpc_fixture_execute(&fixture,
                        "INSERT INTO projects (organization_id, id, name) SELECT organization_id, gen_random_uuid(), 'page ' || n "
                        "FROM organizations, generate_series(1, 5) n");
    char page_token[512] = "";
    unsigned seen = 0;
    do {
        const struct rpc_answer *answer = list_page("page", page_token, 2);
        rpc_answer_expect(answer, FORGE_OK, NULL);
        Forge__V1__ListProjectsResponse *reply =
            (Forge__V1__ListProjectsResponse *)rpc_answer_unpack(answer, &forge__v1__list_projects_response__descriptor);
        seen += (unsigned)reply->n_projects;
        if (reply->next_page_token[0])
            snprintf(page_token, sizeof page_token, "%s", reply->next_page_token);
        else if (seen == 5)
            seen += 100;
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    } while (seen < 5);
    assert_int_equal(seen, 105);
    rpc_answer_expect(list_page("page", page_token, 2), FORGE_OK, NULL);
    rpc_answer_expect(list_page("other", page_token, 2), FORGE_INVALID_ARGUMENT, "page_token belongs to another query");
    page_token[10] ^= 1;
    rpc_answer_expect(list_page("page", page_token, 2), FORGE_INVALID_ARGUMENT, "page_token is damaged");
    rpc_answer_expect(list_page("page", "!", 2), FORGE_INVALID_ARGUMENT, "page_token is damaged");
    rpc_answer_expect(list_page("page", "", -1), FORGE_INVALID_ARGUMENT, "page_size: must not be negative");
    rpc_fixture_execute(&fixture, "DELETE FROM projects WHERE name LIKE 'page %%'");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ping),
        TEST(test_ping_ignores_a_credential),
        TEST(test_read_on_a_worker_and_from_the_cache),
        TEST(test_inline_method_with_a_credential),
        TEST(test_wrong_envelopes),
        TEST(test_header_fields_over_their_limits),
        TEST(test_header_metadata),
        TEST(test_unknown_methods),
        TEST(test_payload_that_is_no_message),
        TEST(test_payload_with_a_nul),
        TEST(test_handler_violations_reach_the_caller),
        TEST(test_message_that_was_cut_off_by_its_limit),
        TEST(test_request_over_the_limit_of_its_method),
        TEST(test_reply_over_its_limit),
        TEST(test_deadline_that_is_over),
        TEST(test_calls_in_flight_before_a_credential),
        TEST(test_calls_in_flight_and_waiting_after_a_credential),
        TEST(test_queue_full),
        TEST(test_deadline_over_in_the_queue),
        TEST(test_connections_are_bounded),
        TEST(test_watch_ends_by_its_time),
        TEST(test_watch_ends_before_its_deadline),
        TEST(test_cancel_a_queued_call),
        TEST(test_cancel_from_another_connection_finds_nothing),
        TEST(test_closed_connection_drops_its_calls),
        TEST(test_drain),
        TEST(test_drain_waits_for_running_calls_up_to_its_time),
        TEST(test_page_tokens),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
