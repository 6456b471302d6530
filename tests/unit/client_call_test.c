/* One call of libforge against a real TLS peer: what goes out, what comes back, deadlines and limits. */
#include "client_test_support.h"

#include "wire/uuid.h"

#include <stdatomic.h>

/* ---- what is sent ---- */

static void check_header(struct rpc_peer_call *call, void *user)
{
    const Forge__V1__RequestHeader *header = call->header;
    assert_string_equal(header->method, "forge.v1.ControlService/Ping");
    assert_in_range(header->timeout_us, 1, 3000000);
    assert_int_equal(header->attempt, 1);
    assert_int_equal(header->request_id.len, 16);
    assert_string_equal(header->authorization, "");
    assert_string_equal(header->traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_string_equal(header->tracestate, "a=b");
    assert_int_equal(header->n_metadata, 2);
    assert_string_equal(header->metadata[0]->key, "team");
    assert_string_equal(header->metadata[0]->value, "search");
    assert_string_equal(header->metadata[1]->key, "x.y_z-1");
    assert_string_equal(header->metadata[1]->value, "");
    char client_info[64];
    snprintf(client_info, sizeof client_info, "test/1 libforge/%s", forge_version());
    assert_string_equal(header->client_info, client_info);
    assert_int_equal(header->max_reply_bytes, 1000);
    rpc_peer_echo(call);
}

static void test_call_sends_its_options(void **state)
{
    struct rpc_peer *peer = start_peer(check_header, NULL);
    struct forge_channel_options channel_options = {.addresses = rpc_peer_address(peer), .client_info = "test/1"};
    struct forge_channel *channel = open_channel_with(&channel_options);
    const struct forge_metadata metadata[] = {{"team", "search"}, {"x.y_z-1", ""}};
    const struct forge_call_options options = {.timeout_ms = 3000,
                                               .request_id = "0190163d-8694-739b-aea5-966c26f8ad91",
                                               .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                               .tracestate = "a=b",
                                               .metadata = metadata,
                                               .metadata_count = 2,
                                               .reply_bytes_max = 1000};
    struct forge_reply_info info;
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, &options, &info, &error), FORGE_OK);
    assert_int_equal(error.code, FORGE_OK);
    assert_string_equal(info.request_id, options.request_id);
    assert_int_equal(info.attempts, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_makes_a_fresh_request_id(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info first, second;
    struct forge_uuid id;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &first, NULL), FORGE_OK);
    assert_int_equal(ping_with(channel, &ping_method, NULL, &second, NULL), FORGE_OK);
    assert_true(forge_uuid_parse(first.request_id, &id) && forge_uuid_is_v7(&id));
    assert_string_not_equal(first.request_id, second.request_id);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void expect_refused(struct forge_channel *channel, const struct forge_call_options *options, const char *message)
{
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, options, NULL, &error), FORGE_INVALID_ARGUMENT);
    if (!strstr(error.message, message))
        fail_msg("\"%s\" instead of \"%s\"", error.message, message);
}

static void test_call_refuses_bad_options(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    char long_text[10000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    const struct forge_metadata upper = {"Team", "a"}, empty = {"", "a"}, binary = {"a", "\xff"}, null = {"a", NULL},
                                big = {"a", long_text};
    expect_refused(channel, &(struct forge_call_options){.request_id = "1"}, "request_id must be a UUID of version 7");
    expect_refused(channel, &(struct forge_call_options){.request_id = "9f3e0b9e-6a4c-4a5e-9e1c-000000000000"}, "version 7");
    expect_refused(channel, &(struct forge_call_options){.timeout_ms = 600001}, "timeout_ms is over the limit of 600000");
    expect_refused(channel, &(struct forge_call_options){.reply_bytes_max = (4 << 20) + 1}, "reply_bytes_max is over the channel's");
    expect_refused(channel, &(struct forge_call_options){.metadata = &upper, .metadata_count = 1}, "metadata[0].key must match");
    expect_refused(channel, &(struct forge_call_options){.metadata = &empty, .metadata_count = 1}, "metadata[0].key must match");
    expect_refused(channel, &(struct forge_call_options){.metadata = &binary, .metadata_count = 1}, "metadata[0].value must be UTF-8");
    expect_refused(channel, &(struct forge_call_options){.metadata = &null, .metadata_count = 1}, "metadata[0].value must be UTF-8");
    expect_refused(channel, &(struct forge_call_options){.metadata = &big, .metadata_count = 1}, "the limit is 8192");
    expect_refused(channel, &(struct forge_call_options){.traceparent = long_text}, "traceparent has more than 128 bytes");
    expect_refused(channel, &(struct forge_call_options){.tracestate = long_text}, "tracestate has more than 512 bytes");
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_refuses_another_message_type(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    Forge__V1__CheckHealthRequest wrong;
    forge__v1__check_health_request__init(&wrong);
    ProtobufCMessage *reply = NULL;
    struct forge_error error;
    assert_int_equal(forge_channel_call(channel, &ping_method, NULL, &wrong.base, &reply, &error), FORGE_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "must be a forge.v1.PingRequest"));
    assert_int_equal(forge_channel_call(channel, &ping_method, NULL, NULL, &reply, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_channel_call(channel, NULL, NULL, &wrong.base, &reply, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_channel_call(NULL, &ping_method, NULL, &wrong.base, &reply, &error), FORGE_INVALID_ARGUMENT);
    assert_null(reply);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_refuses_a_request_over_the_limit(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    Forge__V1__PingRequest request;
    forge__v1__ping_request__init(&request);
    request.payload.len = 4 << 20;
    request.payload.data = calloc(1, request.payload.len);
    ProtobufCMessage *reply = NULL;
    struct forge_error error;
    assert_int_equal(forge_channel_call(channel, &ping_method, NULL, &request.base, &reply, &error), FORGE_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(error.message, "the request has 4194309 bytes"));
    free(request.payload.data);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- what comes back ---- */

static void reply_with_details(struct rpc_peer_call *call, void *user)
{
    const unsigned *violations = user;
    Forge__V1__ReplyHeader header;
    Forge__V1__ErrorDetail detail;
    Forge__V1__BadRequest bad;
    Forge__V1__FieldViolation items[64];
    Forge__V1__FieldViolation *pointers[64];
    Forge__V1__ErrorDetail *details[] = {&detail};
    forge__v1__reply_header__init(&header);
    forge__v1__error_detail__init(&detail);
    forge__v1__bad_request__init(&bad);
    char fields[64][16], description[] = "must be shorter", message[] = "2 fields are wrong", instance[] = "forged-7";
    for (unsigned i = 0; i < *violations; i++) {
        snprintf(fields[i], sizeof fields[i], "field%u", i);
        forge__v1__field_violation__init(&items[i]);
        items[i].field = fields[i];
        items[i].description = description;
        pointers[i] = &items[i];
    }
    bad.n_field_violations = *violations;
    bad.field_violations = pointers;
    detail.detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_BAD_REQUEST;
    detail.bad_request = &bad;
    header.code = FORGE__V1__CODE__CODE_INVALID_ARGUMENT;
    header.message = message;
    header.details = details;
    header.n_details = 1;
    header.not_executed = true;
    header.server_instance = instance;
    header.server_elapsed_us = 42;
    header.queue_us = 7;
    rpc_peer_reply(call, &header, NULL);
}

static void test_call_error_carries_every_violation(void **state)
{
    unsigned violations = 2;
    struct rpc_peer *peer = start_peer(reply_with_details, &violations);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_reply_info info;
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, NULL, &info, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(error.code, FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "2 fields are wrong");
    assert_true(error.not_executed);
    assert_false(error.outcome_unknown);
    assert_int_equal(error.violation_count, 2);
    assert_string_equal(error.violations->field, "field0");
    assert_string_equal(error.violations->next->field, "field1");
    assert_string_equal(error.violations->next->description, "must be shorter");
    assert_null(error.violations->next->next);
    assert_string_equal(info.server_instance, "forged-7");
    assert_int_equal(info.server_elapsed_us, 42);
    assert_int_equal(info.queue_us, 7);
    forge_error_free(&error);
    assert_null(error.violations);
    /* Without an error to fill nothing leaks. */
    assert_int_equal(ping(channel, NULL), FORGE_INVALID_ARGUMENT);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_error_keeps_32_violations_and_counts_the_rest(void **state)
{
    unsigned violations = 40, kept = 0;
    struct rpc_peer *peer = start_peer(reply_with_details, &violations);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_error error;
    assert_int_equal(ping(channel, &error), FORGE_INVALID_ARGUMENT);
    for (const struct forge_violation *violation = error.violations; violation; violation = violation->next)
        kept++;
    assert_int_equal(kept, FORGE_VIOLATIONS_MAX);
    assert_int_equal(error.violation_count, 40);
    forge_error_free(&error);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void reply_with_every_code(struct rpc_peer_call *call, void *user)
{
    rpc_peer_fail(call, (Forge__V1__Code)call->number, "text");
}

static void test_call_passes_every_code(void **state)
{
    struct rpc_peer *peer = start_peer(reply_with_every_code, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    for (int number = 1; number <= FORGE_UNAUTHENTICATED; number++) {
        struct forge_error error;
        if (number == FORGE_UNAVAILABLE) { /* is retried: the next number answers it */
            assert_int_equal(ping(channel, &error), FORGE_DATA_LOSS);
            number++;
            continue;
        }
        assert_int_equal(ping(channel, &error), number);
        assert_string_equal(error.message, "text");
    }
    /* 17 is none */
    assert_int_equal(ping(channel, NULL), FORGE_UNKNOWN);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void reply_of_size(struct rpc_peer_call *call, void *user)
{
    const size_t *size = user;
    Forge__V1__PingResponse response;
    Forge__V1__ReplyHeader header;
    forge__v1__ping_response__init(&response);
    forge__v1__reply_header__init(&header);
    response.payload.len = *size;
    response.payload.data = calloc(1, *size);
    rpc_peer_reply(call, &header, &response.base);
    free(response.payload.data);
}

static void test_call_refuses_a_reply_over_its_limit(void **state)
{
    size_t size = 2000;
    struct rpc_peer *peer = start_peer(reply_of_size, &size);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    const struct forge_call_options options = {.reply_bytes_max = 1000};
    struct forge_error error;
    assert_int_equal(ping_with(channel, &ping_method, &options, NULL, &error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(error.message, "the reply has 2003 bytes, the limit is 1000");
    assert_false(error.not_executed);
    size = 5 << 20; /* over the channel's limit: the link throws the rest away and lives on */
    assert_int_equal(ping(channel, &error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(error.message, "the reply is longer than the limit of 4194304 bytes");
    size = 5;
    ProtobufCMessage *reply = NULL;
    Forge__V1__PingRequest request;
    fill_ping(&request, "x");
    assert_int_equal(forge_channel_call(channel, &ping_method, NULL, &request.base, &reply, &error), FORGE_OK);
    protobuf_c_message_free_unpacked(reply, NULL);
    assert_int_equal(rpc_peer_links(peer), 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void reply_with_bytes(struct rpc_peer_call *call, void *user)
{
    /* A body that is no envelope, a header that is no message, a payload that is no PingResponse. */
    static const uint8_t garbage[] = "garbage!", bad_header[] = "FRG1\0\0\0\2\xff\xff", bad_payload[] = "FRG1\0\0\0\0\x0a\x05xx";
    switch (call->number) {
    case 1:
        rpc_peer_reply_raw(call, garbage, sizeof garbage - 1);
        break;
    case 2:
        rpc_peer_reply_raw(call, bad_header, sizeof bad_header - 1);
        break;
    case 3:
        rpc_peer_reply_raw(call, bad_payload, sizeof bad_payload - 1);
        break;
    default:
        rpc_peer_echo(call);
    }
}

static void test_call_survives_malformed_replies(void **state)
{
    struct rpc_peer *peer = start_peer(reply_with_bytes, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_error error;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ping(channel, &error), FORGE_INTERNAL);
        assert_non_null(strstr(error.message, "the server sent a malformed reply"));
    }
    assert_int_equal(ping(channel, &error), FORGE_INTERNAL);
    assert_non_null(strstr(error.message, "the server sent a malformed forge.v1.PingResponse"));
    assert_int_equal(ping(channel, &error), FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- deadlines ---- */

static void keep(struct rpc_peer_call *call, void *user)
{
    rpc_peer_drop(call, false);
}

static void test_call_sync_ends_at_its_deadline(void **state)
{
    struct rpc_peer *peer = start_peer(keep, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    const struct forge_call_options options = {.timeout_ms = 150};
    for (int i = 0; i < 3; i++) {
        struct forge_error error;
        uint64_t begin = forge_clock_monotonic_ns();
        assert_int_equal(ping_with(channel, &ping_method, &options, NULL, &error), FORGE_DEADLINE_EXCEEDED);
        uint64_t took_us = (forge_clock_monotonic_ns() - begin) / 1000;
        assert_in_range(took_us, 150000, 250000);
        assert_string_equal(error.message, "no answer within 150 ms");
        assert_true(error.outcome_unknown);
        assert_false(error.not_executed);
    }
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_async_ends_at_its_deadline(void **state)
{
    struct rpc_peer *peer = start_peer(keep, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct outcome outcomes[4] = {OUTCOME_INIT, OUTCOME_INIT, OUTCOME_INIT, OUTCOME_INIT};
    uint64_t begin = forge_clock_monotonic_ns();
    for (unsigned i = 0; i < 4; i++) {
        const struct forge_call_options options = {.timeout_ms = 200 - 50 * i}; /* the last ends first */
        ping_async(channel, &options, &outcomes[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        counter_wait(&outcomes[i].done, 1);
        assert_int_equal(outcomes[i].code, FORGE_DEADLINE_EXCEEDED);
        assert_true(outcomes[i].error.outcome_unknown);
        assert_int_equal(outcomes[i].info.attempts, 1);
        assert_in_range((outcomes[i].at_ns - begin) / 1000000, 200 - 50 * i, 300 - 50 * i);
    }
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_call_without_connection_ends_at_its_deadline(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    char address[64];
    snprintf(address, sizeof address, "%s", rpc_peer_address(peer));
    rpc_peer_stop(peer); /* nobody listens there now */
    struct forge_channel *channel = open_channel(address);
    const struct forge_call_options options = {.timeout_ms = 200};
    struct outcome outcome = OUTCOME_INIT;
    struct forge_error error;
    ping_async(channel, &options, &outcome);
    assert_int_equal(ping_with(channel, &ping_method, &options, NULL, &error), FORGE_DEADLINE_EXCEEDED);
    assert_non_null(strstr(error.message, "no connection within 200 ms; last failure: 127.0.0.1:"));
    assert_false(error.outcome_unknown);
    assert_true(error.not_executed);
    counter_wait(&outcome.done, 1);
    assert_int_equal(outcome.code, FORGE_DEADLINE_EXCEEDED);
    assert_non_null(strstr(outcome.error.message, "no connection within 200 ms; last failure: 127.0.0.1:"));
    assert_true(outcome.error.not_executed);
    assert_int_equal(outcome.info.attempts, 0);
    forge_channel_close(channel);
}

struct late {
    struct counter arrived;
    struct rpc_peer_call *first;
};

static void keep_first(struct rpc_peer_call *call, void *user)
{
    struct late *late = user;
    if (call->number > 1) {
        rpc_peer_echo(call);
        return;
    }
    late->first = call;
    counter_add(&late->arrived);
}

static void test_call_ignores_a_late_reply(void **state)
{
    struct late late = {.arrived = COUNTER_INIT};
    struct rpc_peer *peer = start_peer(keep_first, &late);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    const struct forge_call_options options = {.timeout_ms = 100};
    assert_int_equal(ping_with(channel, &ping_method, &options, NULL, NULL), FORGE_DEADLINE_EXCEEDED);
    counter_wait(&late.arrived, 1);
    /* The slot of the first call is free and used again; its answer must not be taken for another call's. */
    rpc_peer_fail(late.first, FORGE__V1__CODE__CODE_NOT_FOUND, "late");
    for (int i = 0; i < 20; i++)
        assert_int_equal(ping(channel, NULL), FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- callbacks ---- */

struct chain {
    struct forge_channel *channel;
    struct counter done;
    unsigned left;
    forge_code sync_code;
    struct forge_error sync_error;
};

static void start_link_of_chain(struct chain *chain);

static void on_link_of_chain(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                             const struct forge_reply_info *info)
{
    struct chain *chain = user;
    assert_int_equal(code, FORGE_OK);
    protobuf_c_message_free_unpacked(reply, NULL);
    if (--chain->left)
        start_link_of_chain(chain);
    else
        counter_add(&chain->done);
}

static void start_link_of_chain(struct chain *chain)
{
    Forge__V1__PingRequest request;
    fill_ping(&request, "again");
    assert_int_equal(forge_channel_call_async(chain->channel, &ping_method, NULL, &request.base, on_link_of_chain, chain, NULL), FORGE_OK);
}

static void test_call_from_callbacks(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct chain chains[8];
    for (unsigned i = 0; i < 8; i++) {
        chains[i] = (struct chain){.channel = channel, .done = COUNTER_INIT, .left = 500};
        start_link_of_chain(&chains[i]);
    }
    for (unsigned i = 0; i < 8; i++)
        counter_wait(&chains[i].done, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void call_synchronously(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                               const struct forge_reply_info *info)
{
    struct chain *chain = user;
    protobuf_c_message_free_unpacked(reply, NULL);
    chain->sync_code = ping(chain->channel, &chain->sync_error);
    forge_channel_close(chain->channel); /* is ignored here: the test closes it later */
    counter_add(&chain->done);
}

static void test_call_sync_in_a_callback_is_refused(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct chain chain = {.channel = open_channel(rpc_peer_address(peer)), .done = COUNTER_INIT};
    Forge__V1__PingRequest request;
    fill_ping(&request, "x");
    assert_int_equal(forge_channel_call_async(chain.channel, &ping_method, NULL, &request.base, call_synchronously, &chain, NULL),
                     FORGE_OK);
    counter_wait(&chain.done, 1);
    assert_int_equal(chain.sync_code, FORGE_FAILED_PRECONDITION);
    assert_non_null(strstr(chain.sync_error.message, "inside a callback"));
    assert_int_equal(ping(chain.channel, NULL), FORGE_OK);
    forge_channel_close(chain.channel);
    rpc_peer_stop(peer);
}

/* Holds the calls it is given until the test lets them go; remembers the deadline of the last. */
struct keeper {
    struct counter arrived;
    struct rpc_peer_call *held[300];
    int64_t timeout_us;
};

static void keep_all(struct rpc_peer_call *call, void *user)
{
    struct keeper *keeper = user;
    keeper->timeout_us = call->header->timeout_us;
    if (call->number == 1 || call->number > 255)
        rpc_peer_echo(call);
    else
        keeper->held[call->number - 2] = call;
    counter_add(&keeper->arrived);
}

struct late_start {
    struct forge_channel *channel;
    struct outcome *outcomes;
};

/* Runs on the loop's thread: the connection is full, so the last of these calls waits. */
static void start_many(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                       const struct forge_reply_info *info)
{
    struct late_start *start = user;
    const struct forge_call_options options = {.timeout_ms = 20000};
    protobuf_c_message_free_unpacked(reply, NULL);
    for (int i = 0; i < 255; i++)
        ping_async(start->channel, &options, &start->outcomes[i]);
}

static void test_call_that_waited_tells_what_is_left_of_its_deadline(void **state)
{
    static struct keeper keeper = {.arrived = COUNTER_INIT};
    static struct outcome outcomes[255];
    struct rpc_peer *peer = start_peer(keep_all, &keeper);
    struct late_start start = {.channel = open_channel(rpc_peer_address(peer)), .outcomes = outcomes};
    for (int i = 0; i < 255; i++)
        outcomes[i] = (struct outcome)OUTCOME_INIT;
    Forge__V1__PingRequest request;
    fill_ping(&request, "x");
    assert_int_equal(forge_channel_call_async(start.channel, &ping_method, NULL, &request.base, start_many, &start, NULL), FORGE_OK);
    counter_wait(&keeper.arrived, 255);                        /* the first one and 254 that fill the connection */
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* what the waiting call must not promise the server again */
    rpc_peer_echo(keeper.held[0]);
    counter_wait(&keeper.arrived, 256);
    assert_in_range(keeper.timeout_us, 1, 19700000);
    for (int i = 1; i < 254; i++)
        rpc_peer_echo(keeper.held[i]);
    for (int i = 0; i < 255; i++)
        counter_wait(&outcomes[i].done, 1);
    forge_channel_close(start.channel);
    rpc_peer_stop(peer);
}

/* ---- interceptor ---- */

static forge_code add_tenant(void *user, const struct forge_method *method, struct forge_interceptor_context *context)
{
    assert_string_equal(method->name, ping_method.name);
    assert_int_equal(forge_interceptor_add_metadata(context, "Bad", "x"), FORGE_INVALID_ARGUMENT);
    char big[9000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(forge_interceptor_add_metadata(context, "big", big), FORGE_RESOURCE_EXHAUSTED);
    for (int i = 0; i < 20; i++)
        assert_int_equal(forge_interceptor_add_metadata(context, "tenant", "t1"), FORGE_OK);
    return FORGE_OK;
}

static void check_metadata(struct rpc_peer_call *call, void *user)
{
    assert_int_equal(call->header->n_metadata, 21);
    assert_string_equal(call->header->metadata[0]->key, "own");
    assert_string_equal(call->header->metadata[20]->key, "tenant");
    assert_string_equal(call->header->metadata[20]->value, "t1");
    rpc_peer_echo(call);
}

static void test_interceptor_adds_metadata(void **state)
{
    struct rpc_peer *peer = start_peer(check_metadata, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    const struct forge_metadata own = {"own", "1"};
    const struct forge_call_options options = {.metadata = &own, .metadata_count = 1};
    forge_channel_set_interceptor(channel, add_tenant, NULL);
    assert_int_equal(ping_with(channel, &ping_method, &options, NULL, NULL), FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static forge_code refuse_all(void *user, const struct forge_method *method, struct forge_interceptor_context *context)
{
    return FORGE_PERMISSION_DENIED;
}

static void test_interceptor_refuses(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_error error;
    forge_channel_set_interceptor(channel, refuse_all, NULL);
    assert_int_equal(ping(channel, &error), FORGE_PERMISSION_DENIED);
    assert_true(error.not_executed);
    assert_non_null(strstr(error.message, "interceptor"));
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call_sends_its_options),
        cmocka_unit_test(test_call_makes_a_fresh_request_id),
        cmocka_unit_test(test_call_refuses_bad_options),
        cmocka_unit_test(test_call_refuses_another_message_type),
        cmocka_unit_test(test_call_refuses_a_request_over_the_limit),
        cmocka_unit_test(test_call_error_carries_every_violation),
        cmocka_unit_test(test_call_error_keeps_32_violations_and_counts_the_rest),
        cmocka_unit_test(test_call_passes_every_code),
        cmocka_unit_test(test_call_refuses_a_reply_over_its_limit),
        cmocka_unit_test(test_call_survives_malformed_replies),
        cmocka_unit_test(test_call_sync_ends_at_its_deadline),
        cmocka_unit_test(test_call_async_ends_at_its_deadline),
        cmocka_unit_test(test_call_without_connection_ends_at_its_deadline),
        cmocka_unit_test(test_call_ignores_a_late_reply),
        cmocka_unit_test(test_call_from_callbacks),
        cmocka_unit_test(test_call_sync_in_a_callback_is_refused),
        cmocka_unit_test(test_call_that_waited_tells_what_is_left_of_its_deadline),
        cmocka_unit_test(test_interceptor_adds_metadata),
        cmocka_unit_test(test_interceptor_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
