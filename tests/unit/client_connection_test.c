/* Connections of libforge against real TLS peers: retries, lost links, draining servers, several addresses, credentials. */
#include "client_test_support.h"

#include "wire/envelope.h"

#include <stdatomic.h>

enum { REMEMBERED_MAX = 64 };

/* What a peer saw of one attempt. */
struct seen {
    uint8_t request_id[16];
    int attempt;
    uint8_t payload[16];
    size_t payload_len;
};

/* A peer that answers the first calls with what the test says and echoes the rest. */
struct script {
    unsigned failures; /* first calls that are not echoed */
    Forge__V1__Code code;
    int64_t retry_after_ms;
    bool not_executed, goaway, close_link;
    const char *reason;
    atomic_uint calls;
    struct seen seen[REMEMBERED_MAX];
};

static void answer_with_error(struct rpc_peer_call *call, const struct script *script)
{
    Forge__V1__ReplyHeader header;
    Forge__V1__ErrorDetail detail, *details[] = {&detail};
    Forge__V1__ErrorInfo info;
    char message[] = "as the script says", reason[64];
    forge__v1__reply_header__init(&header);
    forge__v1__error_detail__init(&detail);
    forge__v1__error_info__init(&info);
    snprintf(reason, sizeof reason, "%s", script->reason ? script->reason : "");
    info.reason = reason;
    detail.detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_ERROR_INFO;
    detail.error_info = &info;
    header.details = details;
    header.n_details = 1;
    header.code = script->code;
    header.message = message;
    header.retry_after_ms = script->retry_after_ms;
    header.not_executed = script->not_executed;
    header.goaway = script->goaway;
    rpc_peer_reply(call, &header, NULL);
}

static void follow(struct rpc_peer_call *call, void *user)
{
    struct script *script = user;
    unsigned index = atomic_fetch_add(&script->calls, 1);
    if (index < REMEMBERED_MAX) {
        struct seen *seen = &script->seen[index];
        assert_int_equal(call->header->request_id.len, sizeof seen->request_id);
        memcpy(seen->request_id, call->header->request_id.data, sizeof seen->request_id);
        seen->attempt = call->header->attempt;
        seen->payload_len = call->payload_len;
        memcpy(seen->payload, call->payload, call->payload_len < sizeof seen->payload ? call->payload_len : sizeof seen->payload);
    }
    if (index >= script->failures)
        rpc_peer_echo(call);
    else if (script->close_link)
        rpc_peer_drop(call, true);
    else
        answer_with_error(call, script);
}

/* ---- retries ---- */

static void test_retry_sends_the_same_bytes_and_request_id(void **state)
{
    struct script script = {.failures = 3, .code = FORGE__V1__CODE__CODE_UNAVAILABLE, .not_executed = true};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info info;
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, &error), FORGE_OK);
    assert_int_equal(info.attempts, 4);
    assert_int_equal(script.calls, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(script.seen[i].attempt, i + 1);
        assert_memory_equal(script.seen[i].request_id, script.seen[0].request_id, 16);
        assert_int_equal(script.seen[i].payload_len, script.seen[0].payload_len);
        assert_memory_equal(script.seen[i].payload, script.seen[0].payload, script.seen[0].payload_len);
    }
    assert_int_equal(rpc_peer_links(peer), 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_retry_waits_as_long_as_the_server_asks(void **state)
{
    struct script script = {.failures = 1, .code = FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED, .retry_after_ms = 250, .not_executed = true};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    uint64_t begin = forge_clock_monotonic_ms();
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    assert_in_range(forge_clock_monotonic_ms() - begin, 250, 1000);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_retry_not_of_other_codes(void **state)
{
    struct script script = {.failures = 2, .code = FORGE__V1__CODE__CODE_ABORTED, .not_executed = true, .retry_after_ms = 10};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info info;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_ABORTED);
    assert_int_equal(info.attempts, 1);
    script.code = FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED;
    script.retry_after_ms = 0;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_RESOURCE_EXHAUSTED);
    assert_int_equal(info.attempts, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_retry_gives_up_when_the_wait_would_pass_the_deadline(void **state)
{
    struct script script = {
        .failures = 1, .code = FORGE__V1__CODE__CODE_UNAVAILABLE, .retry_after_ms = 5000, .not_executed = true, .reason = "DATABASE"};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    const struct forge_call_options options = {.timeout_ms = 2000};
    struct forge_error error;
    uint64_t begin = forge_clock_monotonic_ms();
    assert_int_equal(ping_with(channel, &ping_method, &options, NULL, &error), FORGE_UNAVAILABLE);
    assert_true(forge_clock_monotonic_ms() - begin < 1000);
    assert_int_equal(error.retry_after_ms, 5000);
    assert_string_equal(error.message, "as the script says");
    assert_string_equal(error.reason, "DATABASE");
    assert_true(error.not_executed);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_retry_budget_ends_retries(void **state)
{
    struct script script = {.failures = 1000, .code = FORGE__V1__CODE__CODE_UNAVAILABLE, .not_executed = true, .retry_after_ms = 1};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info info;
    /* Ten tokens: attempts 1 to 5 cost one each, at five there are no more retries. */
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_UNAVAILABLE);
    assert_int_equal(info.attempts, 5);
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_UNAVAILABLE);
    assert_int_equal(info.attempts, 1);
    /* Four tokens are left; successes earn the right back: 4 + 11 x 0.1. */
    script.failures = 0;
    for (int i = 0; i < 21; i++)
        assert_int_equal(ping(channel, NULL), FORGE_OK);
    script.failures = script.calls + 1;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_OK);
    assert_int_equal(info.attempts, 2);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_retry_of_a_duplicate_costs_nothing(void **state)
{
    struct script script = {
        .failures = 12, .code = FORGE__V1__CODE__CODE_UNAVAILABLE, .not_executed = true, .retry_after_ms = 5, .reason = "CALL_IN_PROGRESS"};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info info;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_OK);
    assert_int_equal(info.attempts, 13);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- lost links ---- */

static void test_lost_link_is_retried_and_costs_one_token(void **state)
{
    struct script script = {.failures = 1, .close_link = true};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info info;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_OK);
    assert_int_equal(info.attempts, 2);
    assert_memory_equal(script.seen[0].request_id, script.seen[1].request_id, 16);
    assert_int_equal(rpc_peer_links(peer), 2);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_lost_link_leaves_the_outcome_of_a_login_unknown(void **state)
{
    struct script script = {.failures = 1, .close_link = true};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_error error;
    struct forge_reply_info info;
    assert_int_equal(ping_with(channel, &login_method, NULL, &info, &error), FORGE_UNAVAILABLE);
    assert_true(error.outcome_unknown);
    assert_false(error.not_executed);
    assert_int_equal(info.attempts, 1);
    assert_non_null(strstr(error.message, "connection was lost"));
    assert_int_equal(script.calls, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

struct gather {
    struct counter arrived;
    struct rpc_peer_call *calls[REMEMBERED_MAX];
    bool echo_later; /* echo everything that comes after the first wanted calls */
    unsigned wanted;
};

static void gather_calls(struct rpc_peer_call *call, void *user)
{
    struct gather *gather = user;
    if (counter_get(&gather->arrived) >= gather->wanted) {
        rpc_peer_echo(call);
        return;
    }
    gather->calls[counter_get(&gather->arrived)] = call;
    counter_add(&gather->arrived);
}

static void test_lost_link_with_many_calls_costs_one_token(void **state)
{
    struct gather gather = {.arrived = COUNTER_INIT, .wanted = 20};
    struct rpc_peer *peer = start_peer(gather_calls, &gather);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct outcome outcomes[20];
    for (int i = 0; i < 20; i++) {
        outcomes[i] = (struct outcome)OUTCOME_INIT;
        ping_async(channel, NULL, &outcomes[i]);
    }
    counter_wait(&gather.arrived, 20);
    for (int i = 1; i < 20; i++)
        rpc_peer_drop(gather.calls[i], false);
    rpc_peer_drop(gather.calls[0], true);
    for (int i = 0; i < 20; i++) { /* were each of them charged, the budget would have ended after five */
        counter_wait(&outcomes[i].done, 1);
        assert_int_equal(outcomes[i].code, FORGE_OK);
        assert_int_equal(outcomes[i].info.attempts, 2);
    }
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_idle_link_is_dialled_again(void **state)
{
    struct script script = {.failures = 0};
    struct rpc_peer *peer = start_peer(follow, &script);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(ping(channel, NULL), FORGE_OK);
        assert_int_equal(rpc_peer_links(peer), i);
        rpc_peer_close_links(peer);
    }
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_waits_for_a_server_that_comes_later(void **state)
{
    struct script script = {.failures = 0};
    struct rpc_peer *peer = start_peer(follow, &script);
    uint16_t port = rpc_peer_port(peer);
    char address[64];
    snprintf(address, sizeof address, "%s", rpc_peer_address(peer));
    rpc_peer_stop(peer);
    struct forge_channel *channel = open_channel(address);
    struct outcome first = OUTCOME_INIT, second = OUTCOME_INIT;
    const struct forge_call_options fail_fast = {.fail_fast = true}, waits = {.timeout_ms = 15000};
    ping_async(channel, &waits, &second);
    ping_async(channel, &fail_fast, &first);
    counter_wait(&first.done, 1);
    assert_int_equal(first.code, FORGE_UNAVAILABLE);
    assert_true(first.error.not_executed);
    assert_non_null(strstr(first.error.message, "no connection: 127.0.0.1:"));
    assert_int_equal(counter_get(&second.done), 0);
    const struct rpc_peer_options options = {.handler = follow, .user = &script, .port = port};
    peer = rpc_peer_start(&options);
    counter_wait(&second.done, 1);
    assert_int_equal(second.code, FORGE_OK);
    assert_int_equal(second.info.attempts, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void swallow(struct rpc_peer_call *call, void *user)
{
    const atomic_bool *silent = user;
    if (atomic_load(silent))
        rpc_peer_drop(call, false);
    else
        rpc_peer_echo(call);
}

static void test_silent_server_is_left(void **state)
{
    atomic_bool silent = true;
    struct rpc_peer *peer = start_peer(swallow, &silent);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    const struct forge_call_options options = {.timeout_ms = 100}, patient = {.timeout_ms = 15000};
    assert_int_equal(ping_with(channel, &ping_method, &options, NULL, NULL), FORGE_DEADLINE_EXCEEDED);
    struct outcome outcome = OUTCOME_INIT;
    ping_async(channel, &patient, &outcome); /* not answered either, until the probe has found out and another link is there */
    for (unsigned i = 0; rpc_peer_links(peer) < 2 && i < 1500; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(rpc_peer_links(peer), 2);
    atomic_store(&silent, false);
    forge_channel_close(channel);
    counter_wait(&outcome.done, 1);
    rpc_peer_stop(peer);
}

/* ---- several addresses ---- */

static void test_two_addresses_share_the_load(void **state)
{
    struct gather gathers[2] = {{.arrived = COUNTER_INIT, .wanted = 10}, {.arrived = COUNTER_INIT, .wanted = 10}};
    struct rpc_peer *peers[2] = {start_peer(gather_calls, &gathers[0]), start_peer(gather_calls, &gathers[1])};
    char addresses[128];
    snprintf(addresses, sizeof addresses, "%s,%s", rpc_peer_address(peers[0]), rpc_peer_address(peers[1]));
    struct forge_channel *channel = open_channel(addresses);
    while (!rpc_peer_links(peers[0]) || !rpc_peer_links(peers[1]))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    struct outcome outcomes[40];
    unsigned started = 0;
    /* The client learns a little later than the peer that a link is open: calls until then may all go to the other one. */
    for (; started < 40 && (counter_get(&gathers[0].arrived) < 10 || counter_get(&gathers[1].arrived) < 10); started++) {
        outcomes[started] = (struct outcome)OUTCOME_INIT;
        ping_async(channel, NULL, &outcomes[started]);
        if (started % 20 == 19)
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    counter_wait(&gathers[0].arrived, 10);
    counter_wait(&gathers[1].arrived, 10);
    for (int peer = 0; peer < 2; peer++)
        for (int i = 0; i < 10; i++)
            rpc_peer_echo(gathers[peer].calls[i]);
    for (unsigned i = 0; i < started; i++) {
        counter_wait(&outcomes[i].done, 1);
        assert_int_equal(outcomes[i].code, FORGE_OK);
    }
    forge_channel_close(channel);
    rpc_peer_stop(peers[0]);
    rpc_peer_stop(peers[1]);
}

static void test_two_addresses_one_dead(void **state)
{
    struct script script = {.failures = 0};
    struct rpc_peer *peer = start_peer(follow, &script), *dead = start_peer(follow, &script);
    char addresses[128];
    snprintf(addresses, sizeof addresses, "%s,%s", rpc_peer_address(dead), rpc_peer_address(peer));
    rpc_peer_stop(dead);
    struct forge_channel *channel = open_channel(addresses);
    const struct forge_call_options options = {.fail_fast = true, .timeout_ms = 2000};
    for (int i = 0; i < 50; i++) {
        struct forge_reply_info info;
        assert_int_equal(ping_with(channel, &ping_method, &options, &info, NULL), FORGE_OK);
        assert_int_equal(info.attempts, 1);
    }
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_two_addresses_one_dies(void **state)
{
    struct script scripts[2] = {{.failures = 0}, {.failures = 0}};
    struct rpc_peer *peers[2] = {start_peer(follow, &scripts[0]), start_peer(follow, &scripts[1])};
    char addresses[128];
    snprintf(addresses, sizeof addresses, "%s,%s", rpc_peer_address(peers[0]), rpc_peer_address(peers[1]));
    struct forge_channel *channel = open_channel(addresses);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ping(channel, NULL), FORGE_OK);
    rpc_peer_stop(peers[0]);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ping(channel, NULL), FORGE_OK);
    assert_true(scripts[1].calls >= 20);
    forge_channel_close(channel);
    rpc_peer_stop(peers[1]);
}

static void test_name_is_resolved_and_verified(void **state)
{
    struct script script = {.failures = 0};
    struct rpc_peer *peer = start_peer(follow, &script);
    char address[64];
    snprintf(address, sizeof address, "localhost:%u", rpc_peer_port(peer));
    struct forge_channel *channel = open_channel(address);
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
    const struct rpc_peer_options options = {.handler = follow, .user = &script, .certificate = "wrong-name"};
    peer = rpc_peer_start(&options);
    snprintf(address, sizeof address, "localhost:%u", rpc_peer_port(peer));
    channel = open_channel(address);
    const struct forge_call_options fail_fast = {.fail_fast = true};
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, &fail_fast, NULL, &error), FORGE_UNAVAILABLE);
    assert_non_null(strstr(error.message, "no connection: localhost ("));
    assert_int_equal(rpc_peer_links(peer), 0);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_name_that_does_not_exist(void **state)
{
    struct forge_channel *channel = open_channel("no-such-host.invalid");
    const struct forge_call_options fail_fast = {.fail_fast = true, .timeout_ms = 20000};
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, &fail_fast, NULL, &error), FORGE_UNAVAILABLE);
    assert_non_null(strstr(error.message, "no connection: no-such-host.invalid: "));
    assert_true(error.not_executed);
    forge_channel_close(channel);
}

/* ---- draining ---- */

static void test_goaway_moves_refused_calls_without_failure_or_cost(void **state)
{
    struct script draining = {.failures = 1000, .code = FORGE__V1__CODE__CODE_UNAVAILABLE, .not_executed = true, .goaway = true};
    struct script healthy = {.failures = 0};
    struct rpc_peer *peers[2] = {start_peer(follow, &draining), start_peer(follow, &healthy)};
    char addresses[128];
    snprintf(addresses, sizeof addresses, "%s,%s", rpc_peer_address(peers[0]), rpc_peer_address(peers[1]));
    struct forge_channel *channel = open_channel(addresses);
    for (int i = 0; i < 100; i++) {
        struct forge_reply_info info;
        assert_int_equal(ping_with(channel, &ping_method, NULL, &info, NULL), FORGE_OK);
        assert_in_range(info.attempts, 1, 2);
    }
    assert_int_equal(healthy.calls, 100);
    forge_channel_close(channel);
    rpc_peer_stop(peers[0]);
    rpc_peer_stop(peers[1]);
}

struct drain {
    struct counter arrived;
    struct rpc_peer_call *slow;
};

/* Keeps the first call, says goaway with the second one, echoes the rest. */
static void drain_after_second(struct rpc_peer_call *call, void *user)
{
    struct drain *drain = user;
    Forge__V1__ReplyHeader header;
    Forge__V1__PingResponse response;
    if (call->number == 1) {
        drain->slow = call;
        counter_add(&drain->arrived);
    } else if (call->number == 2) {
        char hello[] = "hello";
        forge__v1__reply_header__init(&header);
        forge__v1__ping_response__init(&response);
        header.goaway = true;
        response.payload.data = (uint8_t *)hello;
        response.payload.len = 5;
        rpc_peer_reply(call, &header, &response.base);
    } else {
        rpc_peer_echo(call);
    }
}

static void test_goaway_lets_calls_in_flight_finish(void **state)
{
    struct drain drain = {.arrived = COUNTER_INIT};
    struct rpc_peer *peer = start_peer(drain_after_second, &drain);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct outcome slow = OUTCOME_INIT;
    ping_async(channel, NULL, &slow);
    counter_wait(&drain.arrived, 1);
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    assert_int_equal(ping(channel, NULL), FORGE_OK); /* over a second link: the first takes no more calls */
    assert_int_equal(rpc_peer_links(peer), 2);
    assert_int_equal(counter_get(&slow.done), 0);
    rpc_peer_echo(drain.slow);
    counter_wait(&slow.done, 1);
    assert_int_equal(slow.code, FORGE_OK);
    assert_int_equal(slow.info.attempts, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- credentials ---- */

/* Answers WhoAmI only when the test says so. */
struct gate {
    struct counter who_am_i, small, large;
    struct rpc_peer_call *asked;
    atomic_int code; /* of the answer, once open */
    atomic_bool open;
    char token[32];
};

static void guard(struct rpc_peer_call *call, void *user)
{
    struct gate *gate = user;
    if (strcmp(call->header->method, "forge.v1.OrganizationService/WhoAmI") != 0) {
        snprintf(gate->token, sizeof gate->token, "%s", call->header->authorization);
        counter_add(call->payload_len > 16384 ? &gate->large : &gate->small);
        rpc_peer_echo(call);
        return;
    }
    if (atomic_load(&gate->open))
        rpc_peer_fail(call, (Forge__V1__Code)atomic_load(&gate->code), "who are you");
    else
        gate->asked = call;
    counter_add(&gate->who_am_i);
}

static void start_large(struct forge_channel *channel, struct outcome *outcome)
{
    Forge__V1__PingRequest request;
    forge__v1__ping_request__init(&request);
    request.payload.len = 100000;
    request.payload.data = calloc(1, request.payload.len);
    assert_int_equal(forge_channel_call_async(channel, &ping_method, NULL, &request.base, take_outcome, outcome, NULL), FORGE_OK);
    free(request.payload.data);
}

static struct rpc_peer *start_gate(struct gate *gate, struct forge_channel **out_channel)
{
    const struct rpc_peer_options options = {.handler = guard, .user = gate, .sees_who_am_i = true};
    struct rpc_peer *peer = rpc_peer_start(&options);
    struct forge_channel_options channel_options = {.addresses = rpc_peer_address(peer), .token = "pfk_one"};
    *out_channel = open_channel_with(&channel_options);
    return peer;
}

static void test_large_call_waits_for_who_am_i_and_small_ones_do_not(void **state)
{
    struct gate gate = {.who_am_i = COUNTER_INIT, .small = COUNTER_INIT, .large = COUNTER_INIT};
    struct forge_channel *channel;
    struct rpc_peer *peer = start_gate(&gate, &channel);
    struct outcome large = OUTCOME_INIT;
    start_large(channel, &large);
    counter_wait(&gate.who_am_i, 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ping(channel, NULL), FORGE_OK);
    assert_string_equal(gate.token, "pfk_one");
    assert_int_equal(counter_get(&gate.large), 0);
    rpc_peer_echo(gate.asked);
    counter_wait(&large.done, 1);
    assert_int_equal(large.code, FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_large_call_under_a_refused_credential(void **state)
{
    struct gate gate = {.who_am_i = COUNTER_INIT,
                        .small = COUNTER_INIT,
                        .large = COUNTER_INIT,
                        .open = true,
                        .code = FORGE__V1__CODE__CODE_UNAUTHENTICATED};
    struct forge_channel *channel;
    struct rpc_peer *peer = start_gate(&gate, &channel);
    struct outcome refused = OUTCOME_INIT, accepted = OUTCOME_INIT;
    start_large(channel, &refused);
    counter_wait(&refused.done, 1);
    assert_int_equal(refused.code, FORGE_UNAUTHENTICATED);
    assert_string_equal(refused.error.message, "who are you");
    assert_true(refused.error.not_executed);
    /* Another credential is asked about at once. */
    gate.code = FORGE__V1__CODE__CODE_OK;
    assert_int_equal(forge_channel_set_token(channel, "pfk_two", NULL), FORGE_OK);
    start_large(channel, &accepted);
    counter_wait(&accepted.done, 1);
    assert_int_equal(accepted.code, FORGE_OK);
    assert_string_equal(gate.token, "pfk_two");
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_who_am_i_is_repeated_while_unavailable(void **state)
{
    struct gate gate = {
        .who_am_i = COUNTER_INIT, .small = COUNTER_INIT, .large = COUNTER_INIT, .open = true, .code = FORGE__V1__CODE__CODE_UNAVAILABLE};
    struct forge_channel *channel;
    struct rpc_peer *peer = start_gate(&gate, &channel);
    struct outcome large = OUTCOME_INIT;
    start_large(channel, &large);
    counter_wait(&gate.who_am_i, 1);
    gate.code = FORGE__V1__CODE__CODE_PERMISSION_DENIED; /* the credential is good, it may only not ask */
    counter_wait(&gate.who_am_i, 2);
    counter_wait(&large.done, 1);
    assert_int_equal(large.code, FORGE_OK);
    assert_int_equal(rpc_peer_links(peer), 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_retry_keeps_the_credential_it_began_with(void **state)
{
    struct gate gate = {.who_am_i = COUNTER_INIT, .small = COUNTER_INIT, .large = COUNTER_INIT};
    struct forge_channel *channel;
    struct rpc_peer *peer = start_gate(&gate, &channel);
    struct outcome large = OUTCOME_INIT;
    start_large(channel, &large); /* waits for WhoAmI, so that it is sent after the change */
    counter_wait(&gate.who_am_i, 1);
    struct rpc_peer_call *first = gate.asked;
    assert_int_equal(forge_channel_set_token(channel, "pfk_two", NULL), FORGE_OK);
    counter_wait(&gate.who_am_i, 2);
    rpc_peer_drop(first, false);
    rpc_peer_echo(gate.asked);
    counter_wait(&large.done, 1);
    assert_string_equal(gate.token, "pfk_one");
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    assert_string_equal(gate.token, "pfk_two");
    assert_int_equal(forge_channel_set_token(channel, NULL, NULL), FORGE_OK);
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    assert_string_equal(gate.token, "");
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retry_sends_the_same_bytes_and_request_id),
        cmocka_unit_test(test_retry_waits_as_long_as_the_server_asks),
        cmocka_unit_test(test_retry_not_of_other_codes),
        cmocka_unit_test(test_retry_gives_up_when_the_wait_would_pass_the_deadline),
        cmocka_unit_test(test_retry_budget_ends_retries),
        cmocka_unit_test(test_retry_of_a_duplicate_costs_nothing),
        cmocka_unit_test(test_lost_link_is_retried_and_costs_one_token),
        cmocka_unit_test(test_lost_link_leaves_the_outcome_of_a_login_unknown),
        cmocka_unit_test(test_lost_link_with_many_calls_costs_one_token),
        cmocka_unit_test(test_idle_link_is_dialled_again),
        cmocka_unit_test(test_call_waits_for_a_server_that_comes_later),
        cmocka_unit_test(test_silent_server_is_left),
        cmocka_unit_test(test_two_addresses_share_the_load),
        cmocka_unit_test(test_two_addresses_one_dead),
        cmocka_unit_test(test_two_addresses_one_dies),
        cmocka_unit_test(test_name_is_resolved_and_verified),
        cmocka_unit_test(test_name_that_does_not_exist),
        cmocka_unit_test(test_goaway_moves_refused_calls_without_failure_or_cost),
        cmocka_unit_test(test_goaway_lets_calls_in_flight_finish),
        cmocka_unit_test(test_large_call_waits_for_who_am_i_and_small_ones_do_not),
        cmocka_unit_test(test_large_call_under_a_refused_credential),
        cmocka_unit_test(test_who_am_i_is_repeated_while_unavailable),
        cmocka_unit_test(test_retry_keeps_the_credential_it_began_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
