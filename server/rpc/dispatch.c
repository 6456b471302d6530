#include "rpc/dispatch.h"

#include "rpc/observe.h"
#include "rpc/reply.h"
#include "rpc/run.h"
#include "rpc/workers.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <assert.h>
#include <string.h>

enum {
    METHOD_MAX = 128,
    AUTHORIZATION_MAX = 256,
    TRACESTATE_MAX = 512,
    CLIENT_INFO_MAX = 128,
    TIMEOUT_MAX_S = 600,
    FEED_STALE_MS = 1000, /* without a good poll of the change feed for so long no cache is believed */
    RETRY_MS = 50
};

/* --- what can be checked before it is known who calls ---------------------------------------------------------------- */

static forge_code check_metadata(struct rpc_active *active)
{
    const Forge__V1__RequestHeader *header = active->header;
    size_t bytes = 0;
    for (size_t i = 0; i < header->n_metadata; i++) {
        const Forge__V1__KeyValue *pair = header->metadata[i];
        if (pair->key[0] == '\0' || pair->key[strspn(pair->key, "0123456789abcdefghijklmnopqrstuvwxyz_.-")] != '\0')
            return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "metadata[%zu].key must match [0-9a-z_.-]+", i);
        bytes += strlen(pair->key) + strlen(pair->value);
    }
    if (bytes > FORGE_METADATA_MAX)
        return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "metadata has %zu bytes, at most %d", bytes, FORGE_METADATA_MAX);
    return FORGE_OK;
}

static forge_code check_text(struct rpc_active *active, const char *field, const char *text, size_t bytes_max)
{
    if (strnlen(text, bytes_max + 1) <= bytes_max)
        return FORGE_OK;
    return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "header: %s has more than %zu bytes", field, bytes_max);
}

static forge_code check_header(struct rpc_active *active)
{
    const Forge__V1__RequestHeader *header = active->header;
    forge_code code = check_text(active, "method", header->method, METHOD_MAX);
    if (code == FORGE_OK)
        code = check_text(active, "authorization", header->authorization, AUTHORIZATION_MAX);
    if (code == FORGE_OK)
        code = check_text(active, "tracestate", header->tracestate, TRACESTATE_MAX);
    if (code == FORGE_OK)
        code = check_text(active, "client_info", header->client_info, CLIENT_INFO_MAX);
    if (code == FORGE_OK && header->timeout_us < 0)
        code = rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "header: timeout_us must not be negative");
    if (code == FORGE_OK && header->max_reply_bytes < 0)
        code = rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "header: max_reply_bytes must not be negative");
    if (code == FORGE_OK && header->request_id.len != 0 && header->request_id.len != sizeof active->call.request_id.bytes)
        code = rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "header: request_id must have 16 bytes, not %zu", header->request_id.len);
    return code == FORGE_OK && header->n_metadata > 0 ? check_metadata(active) : code;
}

static forge_code read_header(struct rpc_active *active, const struct rpc_message *message)
{
    static const struct forge_message_limits limits = {.decoded_max = 512 << 10, .depth_max = 2, .unknown_max = 1024};
    struct forge_envelope envelope;
    ProtobufCMessage *header = NULL;
    struct forge_error *error = &active->call.error;
    forge_code code = forge_envelope_parse(message->body, message->body_len, FORGE_ENVELOPE_HEADER_MAX, &envelope, error);
    if (code == FORGE_OK)
        code = forge_message_unpack(&forge__v1__request_header__descriptor, envelope.header, envelope.header_len, &limits, &active->arena,
                                    &header, error);
    if (code != FORGE_OK)
        return code;
    active->header = (const Forge__V1__RequestHeader *)header;
    active->payload = envelope.payload;
    active->payload_len = envelope.payload_len;
    code = check_header(active);
    if (code != FORGE_OK)
        return code;
    if (active->header->request_id.len > 0)
        memcpy(active->call.request_id.bytes, active->header->request_id.data, sizeof active->call.request_id.bytes);
    if (active->header->max_reply_bytes > 0 && (uint64_t)active->header->max_reply_bytes < active->reply_max)
        active->reply_max = (size_t)active->header->max_reply_bytes;
    return FORGE_OK;
}

static forge_code find_method(struct rpc_active *active)
{
    const char *name = active->header->method;
    int method = rpc_method_find(name, strlen(name));
    if (method < 0)
        return rpc_active_refuse(active, FORGE_UNIMPLEMENTED, "unknown method \"%s\"", name);
    active->method = method;
    active->rule = rpc_active_server(active)->rules[method];
    return FORGE_OK;
}

static forge_code check_draining(struct rpc_active *active)
{
    if (active->rule->while_draining || !atomic_load_explicit(&rpc_active_server(active)->draining, memory_order_relaxed))
        return FORGE_OK;
    return rpc_active_refuse(active, FORGE_UNAVAILABLE, "the server is draining: call another one");
}

/* It counts from the arrival, so it cannot be over yet: dequeuing and waking look at it. */
static void set_deadline(struct rpc_active *active)
{
    uint64_t timeout_us = (uint64_t)active->header->timeout_us, most_us = (uint64_t)TIMEOUT_MAX_S * 1000000;
    if (timeout_us == 0)
        timeout_us = (uint64_t)active->rule->timeout_ms * 1000;
    active->call.deadline_ns = active->arrived_ns + (timeout_us < most_us ? timeout_us : most_us) * 1000;
}

static forge_code check_truncated(struct rpc_active *active, const struct rpc_message *message)
{
    const struct rpc_server_config *config = &rpc_active_server(active)->config;
    if (!message->truncated)
        return FORGE_OK;
    active->quota_subject = "connection";
    if (!active->connection->verified)
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED,
                                 "the message is larger than %zu bytes, the limit before the first verified credential of a connection",
                                 config->message_unproven_max);
    return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the message is larger than %zu bytes, or the server has no room for it",
                             config->message_max);
}

static forge_code admit(struct rpc_active *active, const struct rpc_message *message)
{
    forge_code code = read_header(active, message);
    if (code == FORGE_OK)
        code = find_method(active);
    if (code == FORGE_OK)
        code = check_draining(active);
    if (code != FORGE_OK)
        return code;
    set_deadline(active);
    return check_truncated(active, message);
}

/* --- who calls ------------------------------------------------------------------------------------------------------- */

/* A connection mostly repeats one token: its hash is kept. A token counts before the client certificate, which may be a proxy's. */
static forge_code read_credential(struct rpc_active *active)
{
    struct rpc_connection *connection = active->connection;
    const char *token = active->header->authorization;
    if (token[0] == '\0' && !connection->peer)
        return rpc_active_refuse(active, FORGE_UNAUTHENTICATED, "this method needs a credential");
    if (token[0] == '\0') {
        active->credential = connection->certificate;
        active->has_credential = true;
        return FORGE_OK;
    }
    if (strcmp(token, connection->token) != 0) {
        forge_code code = auth_credential_read(token, &connection->credential, &active->call.error);
        if (code != FORGE_OK)
            return code;
        memcpy(connection->token, token, AUTH_TOKEN_SIZE);
    }
    forge_cleanse(active->header->authorization, AUTH_TOKEN_LENGTH);
    active->credential = connection->credential;
    active->has_credential = true;
    return FORGE_OK;
}

static bool caches_are_fresh(const struct rpc_server *server)
{
    if (!server->config.feed_last_poll_ms)
        return false;
    uint64_t last_ms = server->config.feed_last_poll_ms(server->config.user);
    return last_ms != 0 && forge_clock_monotonic_ms() < last_ms + FEED_STALE_MS;
}

/* *out_known false: a worker must look the credential up. */
static forge_code identify(struct rpc_active *active, bool *out_known)
{
    const struct rpc_server *server = rpc_active_server(active);
    *out_known = true;
    if (active->rule->access == AUTH_ACCESS_PUBLIC)
        return FORGE_OK;
    if (!active->has_credential) {
        forge_code code = read_credential(active);
        if (code != FORGE_OK)
            return code;
    }
    struct auth_principal *principal = &active->call.principal;
    active->authenticated = caches_are_fresh(server) &&
                            auth_principal_cache_get(server->config.principals, active->credential.hash, active->call.now_us, principal);
    *out_known = active->authenticated;
    if (!active->authenticated)
        return FORGE_OK;
    active->caller_id = principal->id;
    rpc_connection_set_verified(active->connection, principal);
    active->call.calls_in_flight_max = active->connection->calls_max;
    return auth_rule_check(active->rule, principal, &active->call.error);
}

static forge_code check_limits(struct rpc_active *active)
{
    const struct rpc_connection *connection = active->connection;
    const struct rpc_server_config *config = &connection->server->config;
    unsigned calls_max = connection->verified ? connection->calls_max : config->calls_unproven;
    if (connection->in_flight > calls_max) {
        active->quota_subject = "connection";
        active->call.error.retry_after_ms = RETRY_MS;
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the connection has %u calls in flight, at most %u%s",
                                 connection->in_flight - 1, calls_max, connection->verified ? "" : " before its first verified credential");
    }
    if (active->payload_len > active->rule->request_max)
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the request has %zu bytes, at most %u for this method",
                                 active->payload_len, (unsigned)active->rule->request_max);
    return FORGE_OK;
}

/* --- three ways to an answer ----------------------------------------------------------------------------------------- */

static void finish_with(struct rpc_active *active, forge_code code)
{
    active->code = code;
    rpc_dispatch_finish(active);
}

static void count_waiting(struct rpc_active *active)
{
    const struct rpc_connection *connection = active->connection;
    if (active->counted_waiting || connection->closed || !connection->functions->waiting)
        return;
    active->counted_waiting = true;
    connection->functions->waiting(connection->user, 1);
}

static void enqueue(struct rpc_active *active)
{
    if (!active->request && !active->payload_is_copied) {
        active->payload = forge_arena_memdup(&active->arena, active->payload, active->payload_len);
        active->payload_is_copied = true;
        if (!active->payload) {
            active->call.error.retry_after_ms = RETRY_MS;
            finish_with(active,
                        rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "no memory for a request of %zu bytes", active->payload_len));
            return;
        }
    }
    count_waiting(active);
    forge_code code = rpc_workers_put(rpc_active_server(active)->workers, active);
    if (code != FORGE_OK)
        finish_with(active, code);
}

static void resume(struct rpc_active *active);

static void park_timer_fired(struct forge_loop *loop, struct forge_timer *timer)
{
    struct rpc_active *active = (struct rpc_active *)((char *)timer - offsetof(struct rpc_active, timer));
    if (!rpc_parked_remove(rpc_active_server(active)->parked, &active->parked))
        return; /* woken at the same moment: it is on its way here */
    active->place = RPC_ON_LOOP;
    active->call.woken = active->call.waited = true;
    resume(active);
}

/* The handler returned FORGE_PARKED. */
static void settle(struct rpc_active *active)
{
    assert(active->parked.key);
    if (active->connection->closed) {
        rpc_dispatch_drop(active);
        return;
    }
    count_waiting(active);
    active->timer.fire = park_timer_fired;
    forge_timer_arm(active->loop->loop, &active->timer, active->park_until_ms);
    active->place = RPC_PARKED;
    if (rpc_parked_settle(rpc_active_server(active)->parked, &active->parked))
        return;
    active->place = RPC_ON_LOOP;
    active->call.woken = true;
    resume(active);
}

static void run_inline(struct rpc_active *active)
{
    forge_code code = rpc_run_prepare(active);
    if (code == FORGE_OK)
        code = rpc_run_handler(active);
    if (code == FORGE_PARKED)
        settle(active);
    else
        finish_with(active, code);
}

/* Read once a turn: a clock costs as much as the look-up of a method. */
static int64_t wall_us(struct rpc_loop *loop)
{
    uint64_t now_ms = forge_loop_now_ms(loop->loop);
    if (loop->wall_read_ms != now_ms || loop->wall_us == 0) {
        loop->wall_read_ms = now_ms;
        loop->wall_us = forge_clock_wall_us();
    }
    return loop->wall_us;
}

/* From the credential on: at first, and again after each wait, because the credential may have been revoked meanwhile. */
static void resume(struct rpc_active *active)
{
    bool known = false;
    forge_timer_disarm(active->loop->loop, &active->timer);
    active->parked.key = NULL;
    active->call.now_us = wall_us(active->loop);
    active->call.calls_in_flight_max = active->connection->verified ? active->connection->calls_max : 0;
    if (active->connection->closed) {
        rpc_dispatch_drop(active);
        return;
    }
    forge_code code = FORGE_OK;
    if (active->call.woken && rpc_active_left_ns(active) == 0)
        code = rpc_active_refuse(active, FORGE_DEADLINE_EXCEEDED, "the deadline is over");
    if (code == FORGE_OK)
        code = identify(active, &known);
    if (code == FORGE_OK && !active->call.woken)
        code = check_limits(active);
    if (code != FORGE_OK)
        finish_with(active, code);
    else if (known && active->rule->way == AUTH_WAY_INLINE)
        run_inline(active);
    else
        enqueue(active);
}

void rpc_dispatch_message(struct rpc_connection *connection, const struct rpc_message *message)
{
    struct rpc_active *active = rpc_active_new(connection, message);
    if (!active) {
        if (connection->functions->dropped)
            connection->functions->dropped(connection->user, message->tag);
        return;
    }
    forge_code code = admit(active, message);
    if (code == FORGE_OK)
        resume(active);
    else
        finish_with(active, code);
}

void rpc_dispatch_step(struct rpc_active *active)
{
    switch (active->step) {
    case RPC_STEP_FINISH:
        rpc_dispatch_finish(active);
        break;
    case RPC_STEP_INLINE:
        active->caller_id = active->call.principal.id;
        rpc_connection_set_verified(active->connection, &active->call.principal);
        run_inline(active);
        break;
    case RPC_STEP_SETTLE:
        settle(active);
        break;
    case RPC_STEP_RESUME:
        resume(active);
        break;
    }
}

void rpc_dispatch_drop(struct rpc_active *active)
{
    const struct rpc_connection *connection = active->connection;
    if (connection->functions->dropped)
        connection->functions->dropped(connection->user, active->tag);
    rpc_active_free(active);
}

void rpc_dispatch_finish(struct rpc_active *active)
{
    struct rpc_connection *connection = active->connection;
    struct forge_error *error = &active->call.error;
    active->finished_ns = forge_clock_monotonic_ns();
    rpc_usage_count(active->loop->usage, active);
    if (connection->closed) {
        rpc_observe_call(active);
        rpc_dispatch_drop(active);
        return;
    }
    if (active->authenticated)
        rpc_connection_set_verified(connection, &active->call.principal);
    if (active->code != FORGE_OK && !active->handler_ran && !active->is_duplicate)
        error->not_executed = true;
    if (active->counted_waiting)
        connection->functions->waiting(connection->user, -1);
    rpc_reply_send(active);
    rpc_observe_call(active);
    rpc_active_free(active);
}
