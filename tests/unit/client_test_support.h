/* What the tests of libforge share: method descriptions, a way to wait for callbacks, clocks. */
#ifndef CLIENT_TEST_SUPPORT_H
#define CLIENT_TEST_SUPPORT_H

#include "forge/channel.h"
#include "forge/v1/control.pb-c.h"
#include "forge/v1/organization.pb-c.h"
#include "support/rpc_peer.h"
#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const struct forge_method ping_method = {
    .name = "forge.v1.ControlService/Ping", .input = &forge__v1__ping_request__descriptor, .output = &forge__v1__ping_response__descriptor};
static const struct forge_method login_method __attribute__((unused)) = {.name = "forge.v1.OrganizationService/Login",
                                                                         .input = &forge__v1__ping_request__descriptor,
                                                                         .output = &forge__v1__ping_response__descriptor,
                                                                         .writes = true};

enum { EVENT_WAIT_S = 20 };

/* Counts events; tests wait for a number of them. */
struct counter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned count;
};
#define COUNTER_INIT                                                                                                                       \
    {                                                                                                                                      \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0                                                                             \
    }

static inline void counter_add(struct counter *counter)
{
    pthread_mutex_lock(&counter->mutex);
    counter->count++;
    pthread_cond_broadcast(&counter->changed);
    pthread_mutex_unlock(&counter->mutex);
}

static inline unsigned counter_get(struct counter *counter)
{
    pthread_mutex_lock(&counter->mutex);
    unsigned count = counter->count;
    pthread_mutex_unlock(&counter->mutex);
    return count;
}

static inline void counter_wait(struct counter *counter, unsigned count)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += EVENT_WAIT_S;
    int rc = 0;
    pthread_mutex_lock(&counter->mutex);
    while (counter->count < count && !rc)
        rc = pthread_cond_clockwait(&counter->changed, &counter->mutex, CLOCK_MONOTONIC, &until);
    unsigned have = counter->count;
    pthread_mutex_unlock(&counter->mutex);
    if (have < count)
        fail_msg("only %u of %u events within %d s", have, count, EVENT_WAIT_S);
}

static inline struct forge_channel *open_channel_with(struct forge_channel_options *options)
{
    struct forge_channel *channel = NULL;
    struct forge_error error;
    options->ca_file = test_tls_file("ca.pem");
    if (forge_channel_open(options, &channel, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    return channel;
}

static inline struct forge_channel *open_channel(const char *addresses)
{
    struct forge_channel_options options = {.addresses = addresses};
    return open_channel_with(&options);
}

static inline void fill_ping(Forge__V1__PingRequest *request, const char *text)
{
    forge__v1__ping_request__init(request);
    union {
        const char *from;
        uint8_t *to;
    } cast = {.from = text};
    request->payload.data = cast.to;
    request->payload.len = strlen(text);
}

/* A synchronous Ping-shaped call; checks that an OK reply is an echo. info and error may be NULL. */
static inline forge_code ping_with(struct forge_channel *channel, const struct forge_method *method,
                                   const struct forge_call_options *options, struct forge_reply_info *info, struct forge_error *error)
{
    Forge__V1__PingRequest request;
    ProtobufCMessage *reply = NULL;
    fill_ping(&request, "hello");
    forge_code code = forge_channel_call_with_info(channel, method, options, &request.base, &reply, info, error);
    if (code != FORGE_OK) {
        assert_null(reply);
        return code;
    }
    const Forge__V1__PingResponse *response = (const Forge__V1__PingResponse *)reply;
    assert_int_equal(response->payload.len, 5);
    assert_memory_equal(response->payload.data, "hello", 5);
    protobuf_c_message_free_unpacked(reply, NULL);
    return code;
}

static inline forge_code ping(struct forge_channel *channel, struct forge_error *error)
{
    return ping_with(channel, &ping_method, NULL, NULL, error);
}

static inline void echo(struct rpc_peer_call *call, void *user)
{
    rpc_peer_echo(call);
}

static inline struct rpc_peer *start_peer(rpc_peer_handler handler, void *user)
{
    const struct rpc_peer_options options = {.handler = handler, .user = user};
    return rpc_peer_start(&options);
}

/* The outcome of one asynchronous call. */
struct outcome {
    struct counter done;
    forge_code code;
    uint64_t at_ns;
    struct forge_error error; /* without violations */
    struct forge_reply_info info;
};
#define OUTCOME_INIT                                                                                                                       \
    {                                                                                                                                      \
        .done = COUNTER_INIT                                                                                                               \
    }

static inline void take_outcome(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                                const struct forge_reply_info *info)
{
    struct outcome *outcome = user;
    outcome->code = code;
    outcome->at_ns = forge_clock_monotonic_ns();
    outcome->error = *error;
    outcome->error.violations = NULL;
    outcome->info = *info;
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    counter_add(&outcome->done);
}

static inline void ping_async(struct forge_channel *channel, const struct forge_call_options *options, struct outcome *outcome)
{
    Forge__V1__PingRequest request;
    struct forge_error error;
    fill_ping(&request, "hello");
    if (forge_channel_call_async(channel, &ping_method, options, &request.base, take_outcome, outcome, &error) != FORGE_OK)
        fail_msg("%s", error.message);
}

#endif
