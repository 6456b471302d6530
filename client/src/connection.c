#include "connection.h"

#include "channel_private.h"
#include "forge/v1/organization.pb-c.h"
#include "message.h"
#include "resolver.h"
#include "wire/envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The request id word of a call: bit 31 is set (the end of the SP stack), then 22 bits of generation and 9 bits of slot. */
enum { SLOT_BITS = 9, SLOT_MASK = (1 << SLOT_BITS) - 1, GENERATION_MASK = (1 << 22) - 1, NO_SLOT = UINT16_MAX };
enum { IDENTITY_SLOT = 510, PROBE_SLOT = 511 };

enum {
    HANDSHAKE_MS = 5000,
    BODY_MS = 10000,
    OWN_CALL_MS = 5000, /* WhoAmI and the probe */
    SETTLED_MS = 1000,  /* a link that lived this long was a good one: dial again at once */
    PENDING_BYTES_MAX = 32 << 20,
    FRAME_BYTES_MAX = 64 << 20
};

static const char who_am_i[] = "forge.v1.OrganizationService/WhoAmI";
static const char ping[] = "forge.v1.ControlService/Ping";

static void dial(struct forge__connection *connection);

#define CONNECTION_OF(timer, member) ((struct forge__connection *)((char *)(timer)-offsetof(struct forge__connection, member)))

static void write_stack(uint8_t stack[4], uint32_t generation, unsigned slot)
{
    uint32_t word = 0x80000000u | (generation & GENERATION_MASK) << SLOT_BITS | slot;
    stack[0] = (uint8_t)(word >> 24);
    stack[1] = (uint8_t)(word >> 16);
    stack[2] = (uint8_t)(word >> 8);
    stack[3] = (uint8_t)word;
}

/* ---- slots ---- */

static void slots_init(struct forge__connection *connection)
{
    for (unsigned i = 0; i < FORGE__CONNECTION_CALLS_MAX; i++)
        connection->slots[i].next_free = (uint16_t)(i + 1 < FORGE__CONNECTION_CALLS_MAX ? i + 1 : NO_SLOT);
}

static void slot_release(struct forge__connection *connection, unsigned index)
{
    struct forge__connection_slot *slot = &connection->slots[index];
    slot->call->connection = NULL;
    slot->call->state = FORGE__CALL_STARTING;
    slot->call = NULL;
    slot->generation++;
    slot->next_free = connection->first_free;
    connection->first_free = (uint16_t)index;
    connection->in_flight--;
    if (connection->state == FORGE__CONNECTION_DRAINING && !connection->in_flight && connection->link)
        forge_link_close(connection->link);
}

bool forge__connection_has_room(const struct forge__connection *connection, bool is_large)
{
    bool known = connection->identity == FORGE__IDENTITY_NONE || connection->identity == FORGE__IDENTITY_VERIFIED;
    return connection->in_flight < (known ? connection->calls_max : FORGE__CONNECTION_CALLS_UNVERIFIED) && (known || !is_large);
}

forge_code forge__connection_send(struct forge__connection *connection, struct forge__call *call)
{
    unsigned index = connection->first_free;
    struct forge__connection_slot *slot = &connection->slots[index];
    uint8_t stack[4];
    write_stack(stack, slot->generation, index);
    forge_code code = forge__message_send_call(connection->link, stack, call);
    if (code != FORGE_OK)
        return code;
    connection->first_free = slot->next_free;
    connection->in_flight++;
    slot->call = call;
    call->connection = connection;
    call->slot = index;
    call->state = FORGE__CALL_IN_FLIGHT;
    call->sent_at_ms = forge__shard_now_ms(connection->shard);
    call->attempts++;
    return FORGE_OK;
}

/* ---- failures ---- */

static void note_failure(const struct forge__connection *connection, const char *what)
{
    const struct forge__endpoint *endpoint = &connection->endpoint;
    char text[FORGE__FAILURE_TEXT_MAX];
    bool is_v6 = strchr(endpoint->ip, ':') != NULL;
    bool named = strcmp(endpoint->ip, endpoint->server_name) != 0;
    snprintf(text, sizeof text, "%.100s%s%s%s%s:%u%s: %s", named ? endpoint->server_name : "", named ? " (" : "", is_v6 ? "[" : "",
             endpoint->ip, is_v6 ? "]" : "", endpoint->port, named ? ")" : "", what);
    forge__channel_set_failure(connection->shard->channel, text);
}

/* ---- identity: WhoAmI before large messages ---- */

static bool has_credential(const struct forge__connection *connection)
{
    return connection->shard->token || connection->shard->channel->has_certificate;
}

static void ask_identity(struct forge__connection *connection)
{
    uint8_t stack[4];
    write_stack(stack, ++connection->identity_generation, IDENTITY_SLOT);
    forge_code code =
        forge__message_send_own(connection->link, stack, connection->shard->channel, who_am_i, connection->shard->token, OWN_CALL_MS);
    connection->identity = code == FORGE_OK ? FORGE__IDENTITY_ASKED : FORGE__IDENTITY_WAITING;
    forge_timer_arm(connection->shard->loop, &connection->identity_timer, forge__shard_now_ms(connection->shard) + OWN_CALL_MS);
}

/* The answer is overdue, or it is time to ask again. */
static void on_identity_timer(struct forge_loop *loop, struct forge_timer *timer)
{
    ask_identity(CONNECTION_OF(timer, identity_timer));
}

/* How many calls the server takes from this credential at once; two of them are ours. */
static void take_limits(struct forge__connection *connection, const struct forge__reply *reply)
{
    struct forge__shard *shard = connection->shard;
    const Forge__V1__WhoAmIResponse *limits =
        forge__message_read(&forge__v1__who_am_iresponse__descriptor, reply->payload, reply->payload_size, &shard->arena);
    connection->calls_max = FORGE__CONNECTION_CALLS_MAX;
    if (limits && limits->calls_in_flight_max > 2 && limits->calls_in_flight_max - 2 < FORGE__CONNECTION_CALLS_MAX)
        connection->calls_max = (unsigned)limits->calls_in_flight_max - 2;
}

static void on_identity_reply(struct forge__connection *connection, const struct forge__reply *reply)
{
    struct forge__shard *shard = connection->shard;
    forge_timer_disarm(shard->loop, &connection->identity_timer);
    switch (forge__message_code(reply->header)) {
    case FORGE_UNAUTHENTICATED:
        connection->identity = FORGE__IDENTITY_REFUSED;
        snprintf(connection->identity_message, sizeof connection->identity_message, "%.150s", reply->header->message);
        break;
    case FORGE_UNAVAILABLE:
    case FORGE_RESOURCE_EXHAUSTED:
    case FORGE_DEADLINE_EXCEEDED:
    case FORGE_CANCELLED:
    case FORGE_UNKNOWN:
    case FORGE_INTERNAL:
        connection->identity = FORGE__IDENTITY_WAITING;
        forge_timer_arm(shard->loop, &connection->identity_timer,
                        forge__shard_now_ms(shard) + forge__dial_delay_ms(++connection->identity_failures, forge__shard_random(shard)));
        return;
    case FORGE_OK:
    case FORGE_INVALID_ARGUMENT:
    case FORGE_NOT_FOUND:
    case FORGE_ALREADY_EXISTS:
    case FORGE_PERMISSION_DENIED: /* known, but not allowed to ask: the credential itself is good */
    case FORGE_FAILED_PRECONDITION:
    case FORGE_ABORTED:
    case FORGE_OUT_OF_RANGE:
    case FORGE_UNIMPLEMENTED:
    case FORGE_DATA_LOSS:
    case FORGE_PARKED:
        connection->identity = FORGE__IDENTITY_VERIFIED;
        connection->identity_failures = 0;
        take_limits(connection, reply);
        break;
    }
}

void forge__connection_token_changed(struct forge__connection *connection)
{
    if (connection->state != FORGE__CONNECTION_OPEN || connection->identity == FORGE__IDENTITY_VERIFIED)
        return;
    if (has_credential(connection)) {
        ask_identity(connection);
    } else {
        connection->identity = FORGE__IDENTITY_NONE;
        forge_timer_disarm(connection->shard->loop, &connection->identity_timer);
    }
}

/* ---- probe: is a server that left a call unanswered still there? ---- */

static void on_probe_timer(struct forge_loop *loop, struct forge_timer *timer)
{
    struct forge__connection *connection = CONNECTION_OF(timer, probe_timer);
    note_failure(connection, "the server does not answer");
    connection->probe_is_sent = false;
    if (connection->link)
        forge_link_close(connection->link);
}

static void probe(struct forge__connection *connection)
{
    uint8_t stack[4];
    if (connection->probe_is_sent || !connection->link)
        return;
    write_stack(stack, ++connection->probe_generation, PROBE_SLOT);
    if (forge__message_send_own(connection->link, stack, connection->shard->channel, ping, NULL, OWN_CALL_MS) != FORGE_OK)
        return;
    connection->probe_is_sent = true;
    forge_timer_arm(connection->shard->loop, &connection->probe_timer, forge__shard_now_ms(connection->shard) + OWN_CALL_MS);
}

void forge__connection_forget(struct forge__connection *connection, struct forge__call *call, bool unanswered)
{
    bool silent = connection->received_at_ms <= call->sent_at_ms;
    slot_release(connection, call->slot);
    if (unanswered && silent)
        probe(connection);
}

/* ---- frames ---- */

static void finish_answered(struct forge__connection *connection, struct forge__call *call, const struct forge__reply *reply)
{
    struct forge__shard *shard = connection->shard;
    struct forge_reply_info info;
    forge__call_info(call, &info);
    forge__message_info(reply->header, &info);
    ProtobufCMessage *message = NULL;
    struct forge_error error;
    if (forge__message_code(reply->header) != FORGE_OK) {
        struct forge__attempt attempt;
        forge__message_error(reply->header, &error);
        forge__message_attempt(reply->header, &error, call, &attempt);
        forge__shard_attempt_failed(shard, call, &attempt, &error, &info);
        return;
    }
    forge__retry_budget_success(&shard->channel->budget);
    if (forge__message_unpack(call, reply, &message, &error) == FORGE_OK)
        forge__shard_finish(shard, call, FORGE_OK, message, &shard->no_error, &info);
    else
        forge__shard_finish(shard, call, error.code, NULL, &error, &info);
}

static void finish_malformed(struct forge__shard *shard, struct forge__call *call, struct forge_error *error)
{
    struct forge_reply_info info;
    forge__call_info(call, &info);
    forge__shard_finish(shard, call, error->code, NULL, error, &info);
}

/* The call that a frame answers, taken out of its slot; NULL for the late reply to one that is gone. */
static struct forge__call *take_call(struct forge__connection *connection, uint32_t word)
{
    unsigned index = word & SLOT_MASK;
    if (index >= FORGE__CONNECTION_CALLS_MAX)
        return NULL;
    struct forge__connection_slot *slot = &connection->slots[index];
    if (!slot->call || (slot->generation & GENERATION_MASK) != (word >> SLOT_BITS & GENERATION_MASK))
        return NULL;
    struct forge__call *call = slot->call;
    slot_release(connection, index);
    return call;
}

static void on_own_reply(struct forge__connection *connection, uint32_t word, const struct forge__reply *reply)
{
    unsigned slot = word & SLOT_MASK;
    uint32_t generation = word >> SLOT_BITS & GENERATION_MASK;
    if (slot == IDENTITY_SLOT && generation == (connection->identity_generation & GENERATION_MASK) &&
        connection->identity == FORGE__IDENTITY_ASKED)
        on_identity_reply(connection, reply);
    if (slot == PROBE_SLOT && connection->probe_is_sent) {
        connection->probe_is_sent = false;
        forge_timer_disarm(connection->shard->loop, &connection->probe_timer);
    }
}

static bool connection_new(struct forge__shard *shard, const struct forge__endpoint *endpoint, unsigned after_failures);
static bool has_settled(const struct forge__connection *connection);

/* The server drains: its calls in flight end here, later ones go to other servers or to the next one at this address. */
static void on_goaway(struct forge__connection *connection)
{
    if (connection->state != FORGE__CONNECTION_OPEN)
        return;
    unsigned failures = has_settled(connection) ? 0 : connection->failures + 1;
    bool is_wanted = connection->is_wanted;
    forge__connection_drain(connection);
    if (is_wanted && !connection_new(connection->shard, &connection->endpoint, failures))
        note_failure(connection, "no memory for a connection");
    forge__resolver_hint(connection->shard->channel->resolver);
}

static void on_reply(struct forge__connection *connection, uint32_t word, const struct forge_frame *frame)
{
    struct forge__shard *shard = connection->shard;
    struct forge_error error = {.code = FORGE_OK};
    struct forge__reply reply;
    struct forge__call *call = take_call(connection, word);
    if (frame->truncated) {
        if (call) {
            forge_error_set(&error, FORGE_RESOURCE_EXHAUSTED, "the reply is longer than the limit of %u bytes", call->reply_bytes_max);
            finish_malformed(shard, call, &error);
        }
        return;
    }
    if (forge__message_parse_reply(frame, &shard->arena, &reply, &error) != FORGE_OK) {
        note_failure(connection, error.message);
        if (connection->link)
            forge_link_close(connection->link);
        if (call)
            finish_malformed(shard, call, &error);
        return;
    }
    if (!call)
        on_own_reply(connection, word, &reply);
    if (reply.header->goaway)
        on_goaway(connection);
    if (call)
        finish_answered(connection, call, &reply);
}

static void on_frame(struct forge_link *link, void *user, const struct forge_frame *frame)
{
    struct forge__connection *connection = user;
    struct forge__shard *shard = connection->shard;
    if (frame->stack_len != 4)
        return; /* we send stacks of one word: it answers nothing of ours */
    const uint8_t *s = frame->stack;
    connection->received_at_ms = forge__shard_now_ms(shard);
    connection->has_received = true;
    on_reply(connection, (uint32_t)s[0] << 24 | (uint32_t)s[1] << 16 | (uint32_t)s[2] << 8 | s[3], frame);
    forge_arena_reset(&shard->arena);
    if (shard->small.first || shard->large.first)
        forge__shard_pump(shard);
}

/* ---- opening and closing ---- */

static void on_opened(struct forge_link *link, void *user)
{
    struct forge__connection *connection = user;
    struct forge__shard *shard = connection->shard;
    connection->state = FORGE__CONNECTION_OPEN;
    connection->has_received = connection->probe_is_sent = false;
    connection->received_at_ms = connection->opened_at_ms = forge__shard_now_ms(shard);
    connection->identity = FORGE__IDENTITY_NONE;
    connection->calls_max = FORGE__CONNECTION_CALLS_MAX;
    if (!forge__shard_add_ready(shard, connection)) {
        forge_link_close(link);
        return;
    }
    if (has_credential(connection))
        ask_identity(connection);
    forge__shard_pump(shard);
}

static void unlink_and_free(struct forge__connection *connection)
{
    struct forge__shard *shard = connection->shard;
    struct forge__connection **at = &shard->connections;
    while (*at != connection)
        at = &(*at)->next;
    *at = connection->next;
    forge_timer_disarm(shard->loop, &connection->dial_timer);
    forge_timer_disarm(shard->loop, &connection->identity_timer);
    forge_timer_disarm(shard->loop, &connection->probe_timer);
    free(connection);
}

static void on_dial_timer(struct forge_loop *loop, struct forge_timer *timer)
{
    dial(CONNECTION_OF(timer, dial_timer));
}

static void dial_later(struct forge__connection *connection)
{
    struct forge__shard *shard = connection->shard;
    connection->state = FORGE__CONNECTION_WAITING;
    forge_timer_arm(shard->loop, &connection->dial_timer,
                    forge__shard_now_ms(shard) + forge__dial_delay_ms(++connection->failures, forge__shard_random(shard)));
}

static void lose_calls(struct forge__connection *connection)
{
    struct forge__shard *shard = connection->shard;
    if (connection->in_flight)
        forge__retry_budget_charge(&shard->channel->budget);
    for (unsigned i = 0; connection->in_flight && i < FORGE__CONNECTION_CALLS_MAX; i++) {
        struct forge__call *call = connection->slots[i].call;
        if (!call)
            continue;
        struct forge_error error = {.code = FORGE_OK};
        struct forge_reply_info info;
        struct forge__attempt attempt = {.end = FORGE__ATTEMPT_LINK_LOST, .is_repeatable = forge__method_is_repeatable(call->method)};
        slot_release(connection, i);
        forge_error_set(&error, FORGE_UNAVAILABLE, "the connection was lost before the answer came");
        forge__call_info(call, &info);
        forge__shard_attempt_failed(shard, call, &attempt, &error, &info);
    }
}

static bool has_settled(const struct forge__connection *connection)
{
    return connection->has_received && forge__shard_now_ms(connection->shard) - connection->opened_at_ms >= SETTLED_MS;
}

static void on_closed(struct forge_link *link, void *user, enum forge_link_why why)
{
    struct forge__connection *connection = user;
    struct forge__shard *shard = connection->shard;
    bool was_open = connection->state == FORGE__CONNECTION_OPEN || connection->state == FORGE__CONNECTION_DRAINING;
    if (why != FORGE_LINK_LOCAL)
        note_failure(connection, forge_link_why_text(why));
    forge__shard_remove_ready(shard, connection);
    forge_timer_disarm(shard->loop, &connection->identity_timer);
    forge_timer_disarm(shard->loop, &connection->probe_timer);
    forge_link_unref(connection->link);
    connection->link = NULL;
    bool is_wanted = connection->is_wanted && !shard->is_closing;
    if (is_wanted) {
        forge__resolver_hint(shard->channel->resolver);
        if (was_open && has_settled(connection)) {
            connection->failures = 0;
            dial(connection);
        } else {
            dial_later(connection);
        }
    }
    lose_calls(connection);
    if (!is_wanted)
        unlink_and_free(connection);
    forge__shard_pump(shard);
}

static const struct forge_link_callbacks callbacks = {.opened = on_opened, .frame = on_frame, .closed = on_closed};

static void dial(struct forge__connection *connection)
{
    struct forge_channel *channel = connection->shard->channel;
    size_t message_max = (size_t)channel->reply_bytes_max + FORGE_ENVELOPE_HEADER_MAX + FORGE_ENVELOPE_PREFIX;
    const struct forge_link_options options = {
        .tls = channel->tls,
        .callbacks = &callbacks,
        .user = connection,
        .server_name = connection->endpoint.server_name,
        .handshake_ms = HANDSHAKE_MS,
        .body_ms = BODY_MS,
        .message_max = message_max,
        .frame_max = message_max + FRAME_BYTES_MAX,
        .pending_max = PENDING_BYTES_MAX,
    };
    struct forge_error error = {.code = FORGE_OK};
    connection->state = FORGE__CONNECTION_DIALING;
    connection->identity = FORGE__IDENTITY_NONE;
    if (forge_link_dial(channel->loops, connection->shard->loop, connection->endpoint.ip, connection->endpoint.port, &options,
                        &connection->link, &error) == FORGE_OK)
        return;
    connection->link = NULL;
    note_failure(connection, error.message);
    dial_later(connection);
}

/* after_failures: 0 = dial now, else after the pause that many failures call for. */
static bool connection_new(struct forge__shard *shard, const struct forge__endpoint *endpoint, unsigned after_failures)
{
    struct forge__connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return false;
    connection->shard = shard;
    connection->endpoint = *endpoint;
    connection->is_wanted = true;
    connection->dial_timer.fire = on_dial_timer;
    connection->identity_timer.fire = on_identity_timer;
    connection->probe_timer.fire = on_probe_timer;
    slots_init(connection);
    connection->next = shard->connections;
    shard->connections = connection;
    connection->failures = after_failures;
    if (after_failures)
        dial_later(connection);
    else
        dial(connection);
    return true;
}

bool forge__connection_new(struct forge__shard *shard, const struct forge__endpoint *endpoint)
{
    return connection_new(shard, endpoint, 0);
}

void forge__connection_drain(struct forge__connection *connection)
{
    if (connection->state != FORGE__CONNECTION_OPEN) {
        forge__connection_end(connection);
        return;
    }
    connection->is_wanted = false;
    connection->state = FORGE__CONNECTION_DRAINING;
    forge__shard_remove_ready(connection->shard, connection);
    if (!connection->in_flight)
        forge_link_close(connection->link);
}

void forge__connection_end(struct forge__connection *connection)
{
    connection->is_wanted = false;
    if (connection->link)
        forge_link_close(connection->link);
    else
        unlink_and_free(connection);
}
