/* The server over real TLS: limits before and after the first credential, certificates, reload, drain; and what an inline call costs. */
#include "support/rpc_fixture.h"

#include "forge/v1/control.pb-c.h"
#include "support/link_peer.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rpc_fixture fixture;
static struct rpc_fixture_server server;
static struct tls_files *files;
static struct forge_loops *loops; /* of the callers */
static uint16_t port;

/* A caller over TLS; what happens is guarded by link_lock(). */
struct tls_caller {
    struct forge_link *link;
    bool opened, closed;
    enum forge_link_why why;
    unsigned replies;
    Forge__V1__ReplyHeader *reply; /* the newest */
    size_t payload_len;
    uint32_t next_id;
};

static void caller_opened(struct forge_link *link, void *user)
{
    struct tls_caller *caller = user;
    link_lock();
    caller->opened = true;
    link_announce();
    link_unlock();
}

static void caller_frame(struct forge_link *link, void *user, const struct forge_frame *frame)
{
    struct tls_caller *caller = user;
    struct forge_envelope envelope;
    struct forge_error error = {0};
    assert_int_equal(forge_envelope_parse(frame->body, frame->body_len, FORGE_ENVELOPE_HEADER_MAX, &envelope, &error), FORGE_OK);
    link_lock();
    if (caller->reply)
        forge__v1__reply_header__free_unpacked(caller->reply, NULL);
    caller->reply = forge__v1__reply_header__unpack(NULL, envelope.header_len, envelope.header);
    caller->payload_len = envelope.payload_len;
    caller->replies++;
    link_announce();
    link_unlock();
}

static void caller_closed(struct forge_link *link, void *user, enum forge_link_why why)
{
    struct tls_caller *caller = user;
    link_lock();
    caller->closed = true;
    caller->why = why;
    link_announce();
    link_unlock();
}

static const struct forge_link_callbacks caller_callbacks = {.opened = caller_opened, .frame = caller_frame, .closed = caller_closed};

static void dial(struct tls_caller *caller, const char *certificate)
{
    struct forge_error error = {0};
    struct forge_tls *tls = link_client_tls(files, certificate);
    struct forge_link_options options = link_test_options(tls);
    *caller = (struct tls_caller){0};
    options.callbacks = &caller_callbacks;
    options.user = caller;
    assert_int_equal(forge_link_dial(loops, NULL, "localhost", port, &options, &caller->link, &error), FORGE_OK);
    forge_tls_unref(tls);
}

static void dial_and_open(struct tls_caller *caller, const char *certificate)
{
    dial(caller, certificate);
    assert_true(LINK_WAIT(caller->opened, 10000));
}

static void hang_up(struct tls_caller *caller)
{
    forge_link_close(caller->link);
    assert_true(LINK_WAIT(caller->closed, 10000));
    forge_link_unref(caller->link);
    if (caller->reply)
        forge__v1__reply_header__free_unpacked(caller->reply, NULL);
}

static void send_call(struct tls_caller *caller, const char *method, const char *token, size_t payload_len)
{
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
    struct forge_link_send send;
    uint8_t stack[4], *bytes = calloc(1, payload_len + 1);
    header.method = (char *)(uintptr_t)method;
    header.authorization = (char *)(uintptr_t)(token ? token : "");
    ping.payload = (ProtobufCBinaryData){.len = payload_len, .data = bytes};
    link_put_u32(stack, 0x80000000 | caller->next_id++);
    size_t packed = protobuf_c_message_get_packed_size(&ping.base);
    assert_int_equal(forge_link_send_begin(caller->link, stack, sizeof stack, forge_envelope_size(&header.base, packed), &send), FORGE_OK);
    protobuf_c_message_pack(&ping.base, forge_envelope_pack_header(&header.base, send.body));
    forge_link_send_commit(&send);
    free(bytes);
}

static void expect_reply(struct tls_caller *caller, unsigned replies, forge_code code, const char *message)
{
    assert_true(LINK_WAIT(caller->replies >= replies || caller->closed, 10000));
    assert_int_equal(LINK_READ(caller->replies), replies);
    if (caller->reply->code != (Forge__V1__Code)code || (message && !strstr(caller->reply->message, message)))
        fail_msg("%s \"%s\"", forge_code_name((forge_code)caller->reply->code), caller->reply->message);
}

static int open_fixture(void **state)
{
    rpc_fixture_open(&fixture);
    files = tls_files_new();
    loops = link_loops(1);
    return 0;
}

static int close_fixture(void **state)
{
    forge_loops_free(loops);
    tls_files_free(files);
    rpc_fixture_close(&fixture);
    return 0;
}

static int start(void **state)
{
    struct rpc_server_config config;
    struct forge_error error = {0};
    struct forge_tls *tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_OPTIONAL);
    rpc_fixture_config(&config);
    config.unproven_per_address = 3;
    rpc_fixture_start(&fixture, &config, NULL, &server);
    if (rpc_server_listen(server.server, "::", 0, tls, &port, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    forge_tls_unref(tls);
    return 0;
}

static int stop(void **state)
{
    rpc_fixture_stop(&server);
    return 0;
}

static double metric(const char *name)
{
    char *text = base_metrics_text(server.metrics), *line = strstr(text, name);
    double value = line ? strtod(line + strlen(name), NULL) : 0;
    free(text);
    return value;
}

static void test_ping_over_tls(void **state)
{
    struct tls_caller caller;
    dial_and_open(&caller, NULL);
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 100);
    expect_reply(&caller, 1, FORGE_OK, NULL);
    assert_int_equal(caller.payload_len, 102);
    assert_string_equal(caller.reply->server_instance, "test-instance");
    assert_true(metric("forged_tls_handshakes_total{result=\"ok\"} ") == 1);
    assert_true(metric("forged_calls_total{method=\"forge.v1.ControlService/Ping\",code=\"OK\"} ") == 1);
    assert_true(metric("\nforged_connections ") == 1);
    hang_up(&caller);
}

static void test_message_limit_rises_with_the_first_credential(void **state)
{
    struct tls_caller caller;
    dial_and_open(&caller, NULL);
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 20000);
    expect_reply(&caller, 1, FORGE_RESOURCE_EXHAUSTED, "the message is larger than 16384 bytes");
    assert_true(caller.reply->not_executed);
    send_call(&caller, "forge.v1.OrganizationService/WhoAmI", "pfk_nonsense", 0);
    expect_reply(&caller, 2, FORGE_UNAUTHENTICATED, NULL);
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 20000);
    expect_reply(&caller, 3, FORGE_RESOURCE_EXHAUSTED, "the message is larger than 16384 bytes");
    send_call(&caller, "forge.v1.OrganizationService/WhoAmI", fixture.read_key, 0);
    expect_reply(&caller, 4, FORGE_OK, NULL);
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 1 << 20);
    expect_reply(&caller, 5, FORGE_OK, NULL);
    assert_true(caller.payload_len > 1 << 20);
    hang_up(&caller);
}

static void test_frame_over_every_limit(void **state)
{
    struct tls_caller caller;
    dial_and_open(&caller, NULL);
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 5 << 20); /* answered, the rest is thrown away */
    expect_reply(&caller, 1, FORGE_RESOURCE_EXHAUSTED, "the message is larger than");
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 10);
    expect_reply(&caller, 2, FORGE_OK, NULL);
    send_call(&caller, "forge.v1.ControlService/Ping", NULL, 9 << 20);
    assert_true(LINK_WAIT(caller.closed, 10000));
    hang_up(&caller);
}

/* One address may hold only so many connections that have shown no credential. */
static void test_connections_without_a_credential(void **state)
{
    struct tls_caller callers[4], refused;
    for (int i = 0; i < 3; i++)
        dial_and_open(&callers[i], NULL);
    dial(&refused, NULL);
    assert_true(LINK_WAIT(refused.closed, 10000));
    send_call(&callers[0], "forge.v1.OrganizationService/WhoAmI", fixture.read_key, 0);
    expect_reply(&callers[0], 1, FORGE_OK, NULL);
    dial_and_open(&callers[3], NULL); /* one has proven itself: there is room again */
    for (int i = 0; i < 4; i++)
        hang_up(&callers[i]);
    hang_up(&refused);
}

static void test_new_certificate_without_dropping_a_call(void **state)
{
    struct tls_caller before, after;
    struct forge_tls *fresh = link_server_tls(files, "server-new", FORGE_TLS_CLIENT_OPTIONAL);
    dial_and_open(&before, NULL);
    send_call(&before, "forge.v1.OrganizationService/WhoAmI", fixture.read_key, 0);
    rpc_server_set_tls(server.server, fresh);
    forge_tls_unref(fresh);
    expect_reply(&before, 1, FORGE_OK, NULL);
    dial_and_open(&after, NULL);
    assert_memory_not_equal(forge_link_peer(before.link)->key_sha256, forge_link_peer(after.link)->key_sha256, 32);
    send_call(&before, "forge.v1.ControlService/Ping", NULL, 1);
    expect_reply(&before, 2, FORGE_OK, NULL);
    hang_up(&before);
    hang_up(&after);
}

/* Under a new revocation list the connection of a revoked client ends, the others stay. */
static void test_reload_closes_links_of_revoked_clients(void **state)
{
    struct tls_caller good, revoked;
    struct forge_error error = {0};
    struct forge_tls *strict;
    const struct forge_tls_config config = {.server = true,
                                            .certificate_file = tls_files_path(files, "server.pem"),
                                            .key_file = tls_files_path(files, "server.key"),
                                            .ca_file = tls_files_path(files, "ca.pem"),
                                            .crl_file = tls_files_path(files, "crl.pem"),
                                            .client_auth = FORGE_TLS_CLIENT_OPTIONAL};
    dial_and_open(&good, "client");
    dial_and_open(&revoked, "client-revoked");
    assert_int_equal(forge_tls_new(&config, &strict, &error), FORGE_OK);
    rpc_server_set_tls(server.server, strict);
    forge_tls_unref(strict);
    assert_true(LINK_WAIT(revoked.closed, 10000));
    send_call(&good, "forge.v1.ControlService/Ping", NULL, 1);
    expect_reply(&good, 1, FORGE_OK, NULL);
    hang_up(&good);
    hang_up(&revoked);
}

static void test_drain_refuses_new_connections(void **state)
{
    struct tls_caller open, late;
    unsigned left = 99;
    dial_and_open(&open, NULL);
    rpc_server_drain(server.server, 5000, &left);
    assert_int_equal(left, 0);
    send_call(&open, "forge.v1.ControlService/Ping", NULL, 1);
    expect_reply(&open, 1, FORGE_OK, NULL);
    assert_true(open.reply->goaway);
    dial(&late, NULL);
    assert_true(LINK_WAIT(late.closed, 10000));
    hang_up(&open);
    hang_up(&late);
}

static void test_port_taken(void **state)
{
    struct rpc_fixture_server another;
    struct rpc_server_config config;
    struct forge_error error = {0};
    uint16_t got;
    struct forge_tls *tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE);
    rpc_fixture_config(&config);
    rpc_fixture_start(&fixture, &config, NULL, &another);
    assert_int_equal(rpc_server_listen(another.server, "::", port, tls, &got, &error), FORGE_UNAVAILABLE);
    forge_tls_unref(tls);
    rpc_fixture_stop(&another);
}

static void test_limits_that_make_no_sense(void **state)
{
    struct rpc_server_config config;
    struct rpc_server *made = NULL;
    struct forge_error error = {0};
    rpc_fixture_config(&config);
    config.workers_interactive = config.workers;
    assert_int_equal(rpc_server_new(&config, &made, &error), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "workers kept for interactive calls: 6 is not in 0 to 5");
    rpc_fixture_config(&config);
    config.queue_slow = 0;
    assert_int_equal(rpc_server_new(&config, &made, &error), FORGE_INVALID_ARGUMENT);
    assert_null(made);
}

/* --- cost of an inline call: everything but TLS and sockets ---------------------------------------------------------- */

struct cost {
    struct forge_loop_task task;
    uint8_t body[2048], reply[4096];
    size_t body_len;
    unsigned replies;
    uint64_t best_ns;
    bool done;
};

static forge_code cost_begin(void *user, struct rpc_reply_room *room)
{
    struct cost *cost = user;
    assert_true(room->body_len <= sizeof cost->reply);
    room->body = cost->reply;
    return FORGE_OK;
}

static void cost_commit(void *user, struct rpc_reply_room *room)
{
    ((struct cost *)user)->replies++;
}

static const struct rpc_source_functions cost_functions = {.reply_begin = cost_begin, .reply_commit = cost_commit};

enum { COST_CALLS = 20000, COST_ROUNDS = 5 };

static void measure(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct cost *cost = (struct cost *)(void *)((char *)task - offsetof(struct cost, task));
    const struct rpc_source source = {.functions = &cost_functions, .user = cost, .peer_address = ""};
    const struct rpc_message message = {.body = cost->body, .body_len = cost->body_len};
    struct rpc_connection *connection = rpc_source_open(server.server, loop, &source);
    for (int round = 0; round < COST_ROUNDS; round++) {
        uint64_t begin_ns = forge_clock_monotonic_ns();
        for (int i = 0; i < COST_CALLS; i++)
            rpc_source_submit(connection, &message);
        uint64_t each_ns = (forge_clock_monotonic_ns() - begin_ns) / COST_CALLS;
        if (round == 0 || each_ns < cost->best_ns)
            cost->best_ns = each_ns;
    }
    rpc_source_close(connection);
    link_lock();
    cost->done = true;
    link_announce();
    link_unlock();
}

static void test_cost_of_an_inline_call(void **state)
{
    static struct cost cost;
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
    char method[] = "forge.v1.ControlService/Ping", info[] = "bench/1 libforge/0.1.0";
    header.method = method;
    header.timeout_us = 5000000;
    header.attempt = 1;
    header.client_info = info;
    ping.reply_bytes = 1024;
    uint8_t *payload = forge_envelope_pack_header(&header.base, cost.body);
    cost.body_len = (size_t)(payload - cost.body) + protobuf_c_message_pack(&ping.base, payload);
    cost.task.run = measure;
    forge_loop_post(forge_loops_at(rpc_server_loops(server.server), 0), &cost.task);
    assert_true(LINK_WAIT(cost.done, 60000));
    assert_int_equal(cost.replies, COST_CALLS * COST_ROUNDS);
    printf("an inline Ping with 1 KiB reply takes %llu ns in dispatch\n", (unsigned long long)cost.best_ns);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ping_over_tls),
        TEST(test_message_limit_rises_with_the_first_credential),
        TEST(test_frame_over_every_limit),
        TEST(test_connections_without_a_credential),
        TEST(test_new_certificate_without_dropping_a_call),
        TEST(test_reload_closes_links_of_revoked_clients),
        TEST(test_drain_refuses_new_connections),
        TEST(test_port_taken),
        TEST(test_limits_that_make_no_sense),
        TEST(test_cost_of_an_inline_call),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
