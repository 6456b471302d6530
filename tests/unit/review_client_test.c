/* libforge against a server that lies: what protobuf-c would not survive is refused before it sees it, what a newer server may send is not.
 */
#include "client_test_support.h"

struct forge__resolver;

static const struct forge_method health_method = {.name = "forge.v1.ControlService/CheckHealth",
                                                  .input = &forge__v1__check_health_request__descriptor,
                                                  .output = &forge__v1__check_health_response__descriptor};

struct body {
    const void *bytes;
    size_t size;
};

static void reply_with_body(struct rpc_peer_call *call, void *user)
{
    const struct body *body = user;
    rpc_peer_reply_raw(call, body->bytes, body->size);
}

/* The code of a CheckHealth that is answered with these bytes; *out_reply only when it is OK. */
static forge_code check_health(const void *bytes, size_t size, Forge__V1__CheckHealthResponse **out_reply, struct forge_error *error)
{
    struct body body = {bytes, size};
    struct rpc_peer *peer = start_peer(reply_with_body, &body);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    Forge__V1__CheckHealthRequest request = FORGE__V1__CHECK_HEALTH_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    forge_code code = forge_channel_call(channel, &health_method, NULL, &request.base, &reply, error);
    *out_reply = (Forge__V1__CheckHealthResponse *)reply;
    forge_channel_close(channel);
    rpc_peer_stop(peer);
    return code;
}

#define CHECK_HEALTH(bytes, reply, error) check_health(bytes, sizeof(bytes) - 1, reply, error)

static void test_reply_with_a_message_given_twice(void **state)
{
    /* server_time (field 3) twice: protobuf-c 1.4.1 would merge them. */
    static const char body[] = "FRG1\0\0\0\0\x1a\x02\x08\x01\x1a\x02\x10\x01";
    Forge__V1__CheckHealthResponse *reply;
    struct forge_error error;
    assert_int_equal(CHECK_HEALTH(body, &reply, &error), FORGE_INTERNAL);
    assert_non_null(strstr(error.message, "malformed forge.v1.CheckHealthResponse"));
    assert_null(reply);
}

static void test_reply_with_text_that_is_none(void **state)
{
    static const char with_nul[] = "FRG1\0\0\0\0\x12\x03"
                                   "a\0b",
                      no_utf8[] = "FRG1\0\0\0\0\x12\x02\xc3\x28";
    Forge__V1__CheckHealthResponse *reply;
    struct forge_error error;
    assert_int_equal(CHECK_HEALTH(with_nul, &reply, &error), FORGE_INTERNAL);
    assert_int_equal(CHECK_HEALTH(no_utf8, &reply, &error), FORGE_INTERNAL);
}

static void test_reply_header_with_a_message_given_twice(void **state)
{
    /* details (field 3) holds one ErrorDetail whose error_info (field 1) comes twice. */
    static const char body[] = "FRG1\0\0\0\x0c\x08\x0e\x1a\x08\x0a\x02\x0a\x00\x0a\x02\x0a\x00";
    Forge__V1__CheckHealthResponse *reply;
    struct forge_error error;
    assert_int_equal(CHECK_HEALTH(body, &reply, &error), FORGE_INTERNAL);
    assert_non_null(strstr(error.message, "its header cannot be read"));
}

static void test_reply_of_a_newer_server(void **state)
{
    /* status (field 1) has the unknown value 77, field 100 is unknown. */
    static const char body[] = "FRG1\0\0\0\0\x08\x4d\xa0\x06\x01";
    Forge__V1__CheckHealthResponse *reply;
    struct forge_error error;
    assert_int_equal(CHECK_HEALTH(body, &reply, &error), FORGE_OK);
    assert_int_equal(reply->status, 77);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
}

static void refuse_with_reason(struct rpc_peer_call *call, void *user)
{
    char reason[] = "LAST_ADMIN", message[] = "no";
    Forge__V1__ErrorInfo info = FORGE__V1__ERROR_INFO__INIT;
    Forge__V1__ErrorDetail detail = FORGE__V1__ERROR_DETAIL__INIT, *details[] = {&detail};
    Forge__V1__ReplyHeader header = FORGE__V1__REPLY_HEADER__INIT;
    info.reason = reason;
    detail.detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_ERROR_INFO;
    detail.error_info = &info;
    header.code = FORGE__V1__CODE__CODE_FAILED_PRECONDITION;
    header.message = message;
    header.details = details;
    header.n_details = 1;
    rpc_peer_reply(call, &header, NULL);
}

static void test_error_has_the_reason_of_the_server(void **state)
{
    struct rpc_peer *peer = start_peer(refuse_with_reason, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct forge_error error;
    assert_int_equal(ping(channel, &error), FORGE_FAILED_PRECONDITION);
    assert_string_equal(error.reason, "LAST_ADMIN");
    forge_error_free(&error);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void answer_that_tells_nothing(struct rpc_peer_call *call, void *user)
{
    const Forge__V1__Code *code = user;
    rpc_peer_fail(call, *code, "the database was lost while committing");
}

/* UNAVAILABLE and DEADLINE_EXCEEDED without not_executed: the write may be there, and the caller must hear that. */
static void test_answer_that_leaves_the_outcome_unknown(void **state)
{
    Forge__V1__Code codes[] = {FORGE__V1__CODE__CODE_UNAVAILABLE, FORGE__V1__CODE__CODE_DEADLINE_EXCEEDED, FORGE__V1__CODE__CODE_ABORTED};
    for (int i = 0; i < 3; i++) {
        struct rpc_peer *peer = start_peer(answer_that_tells_nothing, &codes[i]);
        struct forge_channel *channel = open_channel(rpc_peer_address(peer));
        const struct forge_call_options options = {.timeout_ms = 1000};
        struct forge_error error;
        assert_int_equal(ping_with(channel, &login_method, &options, NULL, &error), codes[i]);
        assert_int_equal(error.outcome_unknown, codes[i] != FORGE__V1__CODE__CODE_ABORTED);
        assert_false(error.not_executed);
        forge_channel_close(channel);
        rpc_peer_stop(peer);
    }
}

static struct rpc_peer *peer_to_cut;

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

/* A connection is lost just after the resolver has ended (the linker puts this before the real one). */
void __real_forge__resolver_close(struct forge__resolver *resolver);
void __wrap_forge__resolver_close(struct forge__resolver *resolver);
void __wrap_forge__resolver_close(struct forge__resolver *resolver)
{
    __real_forge__resolver_close(resolver);
    if (!peer_to_cut)
        return;
    pause_ms(200); /* its thread frees it; nothing tells when */
    rpc_peer_close_links(peer_to_cut);
    pause_ms(200);
}

/* What AddressSanitizer sees: a lost connection must not ask a resolver that is gone for another look-up. */
static void test_connection_lost_while_the_channel_closes(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    char address[32];
    struct forge_error error;
    snprintf(address, sizeof address, "localhost:%u", rpc_peer_port(peer));
    struct forge_channel *channel = open_channel(address);
    assert_int_equal(ping(channel, &error), FORGE_OK);
    peer_to_cut = peer;
    forge_channel_close(channel);
    peer_to_cut = NULL;
    rpc_peer_stop(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_with_a_message_given_twice),         cmocka_unit_test(test_reply_with_text_that_is_none),
        cmocka_unit_test(test_reply_header_with_a_message_given_twice),  cmocka_unit_test(test_reply_of_a_newer_server),
        cmocka_unit_test(test_error_has_the_reason_of_the_server),       cmocka_unit_test(test_answer_that_leaves_the_outcome_unknown),
        cmocka_unit_test(test_connection_lost_while_the_channel_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
