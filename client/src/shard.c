#include "shard.h"

#include "channel_private.h"
#include "connection.h"
#include "wire/clock.h"
#include "wire/crypto.h"

#include <stdlib.h>
#include <string.h>

enum { NS_PER_MS = 1000000, ARENA_BYTES = 1 << 20, STALL_RETRY_MS = 20 };

uint64_t forge__shard_now_ms(const struct forge__shard *shard)
{
    return forge_loop_now_ms(shard->loop);
}

/* xorshift64* (Vigna 2016): jitter needs no better. */
uint32_t forge__shard_random(struct forge__shard *shard)
{
    uint64_t x = shard->random_state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    shard->random_state = x;
    return (uint32_t)((x * 0x2545F4914F6CDD1DULL) >> 32);
}

/* ---- lists ---- */

static void calls_add(struct forge__shard *shard, struct forge__call *call)
{
    call->previous = NULL;
    call->next = shard->calls;
    if (call->next)
        call->next->previous = call;
    shard->calls = call;
}

static void calls_remove(struct forge__shard *shard, struct forge__call *call)
{
    if (call->previous)
        call->previous->next = call->next;
    else
        shard->calls = call->next;
    if (call->next)
        call->next->previous = call->previous;
}

static bool call_is_large(const struct forge__call *call)
{
    /* What the header may add when there is no metadata; with metadata the call counts as large earlier than it must. */
    size_t header = 1024 + (call->context ? 9 << 10 : 0);
    return call->payload_size + header > FORGE__SMALL_REQUEST_BYTES;
}

static struct forge__call_queue *queue_of(struct forge__shard *shard, const struct forge__call *call)
{
    return call_is_large(call) ? &shard->large : &shard->small;
}

static void queue_add(struct forge__shard *shard, struct forge__call *call)
{
    struct forge__call_queue *queue = queue_of(shard, call);
    call->state = FORGE__CALL_QUEUED;
    call->is_fresh = false;
    call->queue_next = NULL;
    call->queue_previous = queue->last;
    if (queue->last)
        queue->last->queue_next = call;
    else
        queue->first = call;
    queue->last = call;
}

static void queue_remove(struct forge__shard *shard, struct forge__call *call)
{
    struct forge__call_queue *queue = queue_of(shard, call);
    if (call->queue_previous)
        call->queue_previous->queue_next = call->queue_next;
    else
        queue->first = call->queue_next;
    if (call->queue_next)
        call->queue_next->queue_previous = call->queue_previous;
    else
        queue->last = call->queue_previous;
    call->state = FORGE__CALL_STARTING;
}

static void token_release(struct forge__token *token)
{
    if (!token || --token->refs)
        return;
    forge_cleanse(token->text, strlen(token->text));
    free(token);
}

/* ---- time ---- */

static void wake_by(struct forge__shard *shard, uint64_t at_ms)
{
    if (!shard->sweep.armed || at_ms < shard->sweep.at_ms)
        forge_timer_arm(shard->loop, &shard->sweep, at_ms);
}

/* Rounded up: no call ends before its deadline. */
static uint64_t deadline_ms(const struct forge__call *call)
{
    return (call->deadline_ns + NS_PER_MS - 1) / NS_PER_MS;
}

static void expire(struct forge__shard *shard, struct forge__call *call)
{
    struct forge_error error = {.code = FORGE_OK};
    struct forge_reply_info info;
    if (call->state == FORGE__CALL_QUEUED)
        queue_remove(shard, call);
    if (call->state == FORGE__CALL_IN_FLIGHT) {
        call->outcome_unknown = true;
        forge__connection_forget(call->connection, call, true);
    }
    forge__call_deadline_error(call, &error);
    error.outcome_unknown = call->outcome_unknown;
    error.not_executed = !call->outcome_unknown;
    forge__call_info(call, &info);
    forge__shard_finish(shard, call, FORGE_DEADLINE_EXCEEDED, NULL, &error, &info);
}

static void dispatch(struct forge__shard *shard, struct forge__call *call);

static void on_sweep(struct forge_loop *loop, struct forge_timer *timer)
{
    struct forge__shard *shard = (struct forge__shard *)((char *)timer - offsetof(struct forge__shard, sweep));
    uint64_t now_ms = forge_loop_now_ms(loop);
    struct forge__call *next;
    /* A callback may add calls in front, and ends no other call than its own: next stays valid. */
    for (struct forge__call *call = shard->calls; call; call = next) {
        next = call->next;
        uint64_t at_ms = deadline_ms(call);
        if (at_ms <= now_ms) {
            expire(shard, call);
            continue;
        }
        if (call->state == FORGE__CALL_BACKING_OFF && call->retry_at_ms <= now_ms) {
            call->state = FORGE__CALL_STARTING;
            dispatch(shard, call);
            wake_by(shard, at_ms);
        } else {
            wake_by(shard, call->state == FORGE__CALL_BACKING_OFF && call->retry_at_ms < at_ms ? call->retry_at_ms : at_ms);
        }
    }
    forge__shard_pump(shard);
}

/* ---- choosing a connection ---- */

/* The least loaded one with room; those of equal load take turns. */
static struct forge__connection *pick(struct forge__shard *shard, bool is_large)
{
    struct forge__connection *best = NULL;
    size_t count = shard->ready_count;
    size_t at = shard->next_ready < count ? shard->next_ready : 0;
    shard->next_ready = at + 1;
    for (size_t left = count; left; left--) {
        struct forge__connection *connection = shard->ready[at];
        if (forge__connection_has_room(connection, is_large) && (!best || connection->in_flight < best->in_flight))
            best = connection;
        if (++at == count)
            at = 0;
    }
    return best;
}

bool forge__shard_add_ready(struct forge__shard *shard, struct forge__connection *connection)
{
    if (shard->ready_count == shard->ready_capacity) {
        size_t capacity = shard->ready_capacity ? shard->ready_capacity * 2 : 8;
        struct forge__connection **grown = realloc(shard->ready, capacity * sizeof(*grown));
        if (!grown)
            return false;
        shard->ready = grown;
        shard->ready_capacity = capacity;
    }
    shard->ready[shard->ready_count++] = connection;
    return true;
}

void forge__shard_remove_ready(struct forge__shard *shard, struct forge__connection *connection)
{
    for (size_t i = 0; i < shard->ready_count; i++)
        if (shard->ready[i] == connection) {
            shard->ready[i] = shard->ready[--shard->ready_count];
            return;
        }
}

/* Is there a connection, or an attempt at one? */
static bool has_prospect(const struct forge__shard *shard)
{
    if (!shard->was_resolved)
        return true;
    for (const struct forge__connection *c = shard->connections; c; c = c->next)
        if (c->state == FORGE__CONNECTION_DIALING || c->state == FORGE__CONNECTION_OPEN)
            return true;
    return false;
}

/* Why no connection will take a large call: every one that is open has had its credential refused. NULL if one may. */
static const char *large_refusal(const struct forge__shard *shard)
{
    const char *message = NULL;
    for (size_t i = 0; i < shard->ready_count; i++) {
        if (shard->ready[i]->identity != FORGE__IDENTITY_REFUSED)
            return NULL;
        message = shard->ready[i]->identity_message;
    }
    return message;
}

/* FORGE_OK: sent. UNAVAILABLE: it has to wait. Another code: refused by the interceptor. */
static forge_code try_send(struct forge__shard *shard, struct forge__call *call)
{
    struct forge__connection *connection = pick(shard, call_is_large(call));
    if (!connection)
        return FORGE_UNAVAILABLE;
    bool was_sent = atomic_load_explicit(&call->was_sent, memory_order_relaxed);
    /* Marked before the deadline is checked: a waiter that finds it unmarked after its deadline knows that it will not be sent. */
    atomic_store(&call->was_sent, true);
    forge_code code = FORGE_UNAVAILABLE;
    if (!call->is_sync || forge_clock_monotonic_ns() < call->deadline_ns)
        code = forge__connection_send(connection, call);
    if (code == FORGE_OK)
        return FORGE_OK;
    atomic_store(&call->was_sent, was_sent);
    if (code != FORGE_RESOURCE_EXHAUSTED)
        return code;
    wake_by(shard, forge__shard_now_ms(shard) + STALL_RETRY_MS); /* the link is full: no reply may come to tell us when it is not */
    return FORGE_UNAVAILABLE;
}

static void refuse(struct forge__shard *shard, struct forge__call *call, forge_code code, const char *message, const char *reason)
{
    struct forge_error error = {.not_executed = !call->outcome_unknown, .outcome_unknown = call->outcome_unknown};
    struct forge_reply_info info;
    forge_error_set(&error, code, "%s%s%s", message, reason[0] ? ": " : "", reason);
    forge__call_info(call, &info);
    forge__shard_finish(shard, call, code, NULL, &error, &info);
}

static void refuse_unconnected(struct forge__shard *shard, struct forge__call *call)
{
    char failure[FORGE__FAILURE_TEXT_MAX];
    forge__channel_get_failure(shard->channel, failure);
    refuse(shard, call, FORGE_UNAVAILABLE, "no connection", failure);
}

/* Sends the call, queues it or finishes it. */
static void dispatch(struct forge__shard *shard, struct forge__call *call)
{
    if (shard->is_closing) {
        refuse(shard, call, FORGE_CANCELLED, "the channel was closed", "");
        return;
    }
    forge_code code = queue_of(shard, call)->first ? FORGE_UNAVAILABLE : try_send(shard, call);
    if (code == FORGE_OK)
        return;
    if (code != FORGE_UNAVAILABLE) {
        refuse(shard, call, code, "refused by the channel's interceptor", "");
        return;
    }
    if (call->fail_fast && !has_prospect(shard)) {
        refuse_unconnected(shard, call);
        return;
    }
    const char *refusal = call_is_large(call) ? large_refusal(shard) : NULL;
    if (refusal)
        refuse(shard, call, FORGE_UNAUTHENTICATED, refusal, "");
    else
        queue_add(shard, call);
}

static void pump_queue(struct forge__shard *shard, struct forge__call_queue *queue, bool is_large)
{
    struct forge__call *call;
    while ((call = queue->first) && pick(shard, is_large)) {
        queue_remove(shard, call);
        forge_code code = try_send(shard, call);
        if (code == FORGE_UNAVAILABLE) {
            queue_add(shard, call);
            return;
        }
        if (code != FORGE_OK)
            refuse(shard, call, code, "refused by the channel's interceptor", "");
    }
}

/* A callback may queue more calls; those are behind the last one of now and wait for the next time. */
static void refuse_fail_fast(struct forge__shard *shard, struct forge__call_queue *queue)
{
    struct forge__call *next;
    for (struct forge__call *call = queue->first; call; call = next) {
        next = call->queue_next;
        if (!call->fail_fast)
            continue;
        queue_remove(shard, call);
        refuse_unconnected(shard, call);
    }
}

static void refuse_large(struct forge__shard *shard)
{
    struct forge__call *next;
    for (struct forge__call *call = shard->large.first; call; call = next) {
        const char *refusal = large_refusal(shard);
        if (!refusal)
            return;
        next = call->queue_next;
        queue_remove(shard, call);
        refuse(shard, call, FORGE_UNAUTHENTICATED, refusal, "");
    }
}

void forge__shard_pump(struct forge__shard *shard)
{
    if (shard->small.first)
        pump_queue(shard, &shard->small, false);
    if (shard->large.first)
        pump_queue(shard, &shard->large, true);
    if (!shard->small.first && !shard->large.first)
        return;
    if (!has_prospect(shard)) {
        refuse_fail_fast(shard, &shard->small);
        refuse_fail_fast(shard, &shard->large);
    }
    refuse_large(shard);
}

static void on_pump_task(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge__shard *shard = (struct forge__shard *)((char *)task - offsetof(struct forge__shard, pump_task));
    shard->pump_is_posted = false;
    forge__shard_pump(shard);
}

/* ---- life of a call ---- */

static void begin(struct forge__shard *shard, struct forge__call *call)
{
    calls_add(shard, call);
    call->token = shard->token;
    if (call->token)
        call->token->refs++;
    wake_by(shard, deadline_ms(call));
}

void forge__shard_start(struct forge__shard *shard, struct forge__call *call)
{
    begin(shard, call);
    dispatch(shard, call);
}

forge_code forge__shard_start_nested(struct forge__shard *shard, struct forge__call *call, struct forge_error *error)
{
    if (shard->is_closing)
        return forge_error_set(error, FORGE_CANCELLED, "the channel is being closed");
    begin(shard, call);
    forge_code code = queue_of(shard, call)->first ? FORGE_UNAVAILABLE : try_send(shard, call);
    if (code == FORGE_OK)
        return FORGE_OK;
    if (code == FORGE_UNAVAILABLE) {
        queue_add(shard, call);
        if (!shard->pump_is_posted) {
            shard->pump_is_posted = true;
            forge_loop_post(shard->loop, &shard->pump_task);
        }
        return FORGE_OK;
    }
    calls_remove(shard, call);
    token_release(call->token);
    return forge_error_set(error, code, "refused by the channel's interceptor");
}

static void error_free_lists(struct forge_error *error)
{
    if (error && (error->violations || error->facts))
        forge_error_free(error);
}

void forge__shard_finish(struct forge__shard *shard, struct forge__call *call, forge_code code, ProtobufCMessage *reply,
                         struct forge_error *error, const struct forge_reply_info *info)
{
    calls_remove(shard, call);
    token_release(call->token);
    call->token = NULL;
    if (call->is_sync) {
        forge__call_deliver(call, code, reply, error, info);
        error_free_lists(error);
        return;
    }
    call->done(call->user, code, reply, error, info);
    error_free_lists(error);
    forge__call_release(call);
}

static void back_off(struct forge__shard *shard, struct forge__call *call, uint32_t delay_ms)
{
    call->state = FORGE__CALL_BACKING_OFF;
    call->retry_at_ms = forge__shard_now_ms(shard) + delay_ms;
    wake_by(shard, call->retry_at_ms);
}

/* May the attempt have had an effect? Every other answer than these two says that it had none (proto/README.md, Exactly once). */
static bool may_have_happened(const struct forge__attempt *attempt)
{
    if (attempt->end == FORGE__ATTEMPT_ANSWERED)
        return !attempt->not_executed && (attempt->code == FORGE_UNAVAILABLE || attempt->code == FORGE_DEADLINE_EXCEEDED);
    return attempt->end == FORGE__ATTEMPT_LINK_LOST;
}

void forge__shard_attempt_failed(struct forge__shard *shard, struct forge__call *call, const struct forge__attempt *attempt,
                                 struct forge_error *error, const struct forge_reply_info *info)
{
    struct forge__retry_budget *budget = &shard->channel->budget;
    struct forge__retry_verdict verdict = forge__retry_judge(attempt);
    call->outcome_unknown |= may_have_happened(attempt);
    if (verdict.costs_token)
        forge__retry_budget_charge(budget);
    bool retry = verdict.retry && !shard->is_closing && (!verdict.needs_budget || forge__retry_budget_has_tokens(budget));
    uint32_t delay_ms = 0;
    if (retry && verdict.backs_off) {
        delay_ms = forge__retry_delay_ms(call->attempts ? call->attempts : 1, attempt->retry_after_ms, forge__shard_random(shard));
        retry = forge__shard_now_ms(shard) + delay_ms < deadline_ms(call); /* else waiting would only hide the reason */
    }
    if (!retry) {
        error->outcome_unknown = call->outcome_unknown;
        error->not_executed = error->not_executed && !call->outcome_unknown;
        forge__shard_finish(shard, call, error->code, NULL, error, info);
        return;
    }
    error_free_lists(error);
    if (verdict.backs_off)
        back_off(shard, call, delay_ms);
    else
        dispatch(shard, call);
}

/* ---- set-up and end ---- */

void forge__shard_init(struct forge__shard *shard, struct forge_channel *channel, struct forge_loop *loop)
{
    shard->channel = channel;
    shard->loop = loop;
    shard->sweep.fire = on_sweep;
    shard->pump_task.run = on_pump_task;
    forge_random(&shard->random_state, sizeof shard->random_state);
    shard->random_state |= 1; /* xorshift must not start at zero */
    forge_arena_init(&shard->arena, ARENA_BYTES, NULL);
}

void forge__shard_done(struct forge__shard *shard)
{
    struct forge__call *next;
    for (struct forge__call *call = shard->free_calls; call; call = next) {
        next = call->next;
        forge__call_destroy(call);
    }
    token_release(shard->token);
    free(shard->ready);
    forge_arena_done(&shard->arena);
}

forge_code forge__shard_set_token(struct forge__shard *shard, const char *text)
{
    struct forge__token *token = NULL;
    if (text) {
        size_t size = strlen(text) + 1;
        token = malloc(sizeof *token + size);
        if (!token)
            return FORGE_RESOURCE_EXHAUSTED;
        token->refs = 1;
        memcpy(token->text, text, size);
    }
    token_release(shard->token);
    shard->token = token;
    for (struct forge__connection *c = shard->connections; c; c = c->next)
        forge__connection_token_changed(c);
    return FORGE_OK;
}

static bool endpoint_is_listed(const struct forge__endpoint *endpoint, const struct forge__endpoint_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (forge__endpoint_equal(endpoint, &list->items[i]))
            return true;
    return false;
}

static unsigned connections_to(const struct forge__shard *shard, const struct forge__endpoint *endpoint)
{
    unsigned count = 0;
    for (const struct forge__connection *c = shard->connections; c; c = c->next)
        count += c->is_wanted && forge__endpoint_equal(&c->endpoint, endpoint);
    return count;
}

void forge__shard_set_endpoints(struct forge__shard *shard, const struct forge__endpoint_list *endpoints, const char *failure)
{
    if (shard->is_closing)
        return;
    shard->was_resolved = true;
    if (failure)
        forge__channel_set_failure(shard->channel, failure);
    /* A failed look-up says nothing about the addresses it does not name. */
    struct forge__connection *next;
    for (struct forge__connection *c = shard->connections; c && !failure; c = next) {
        next = c->next;
        if (c->is_wanted && !endpoint_is_listed(&c->endpoint, endpoints))
            forge__connection_drain(c);
    }
    for (size_t i = 0; i < endpoints->count; i++)
        for (unsigned n = connections_to(shard, &endpoints->items[i]); n < shard->channel->connections_per_address; n++)
            if (!forge__connection_new(shard, &endpoints->items[i]))
                forge__channel_set_failure(shard->channel, "no memory for a connection");
    forge__shard_pump(shard);
}

void forge__shard_close(struct forge__shard *shard)
{
    shard->is_closing = true;
    struct forge__call *call;
    while ((call = shard->calls)) {
        if (call->state == FORGE__CALL_QUEUED)
            queue_remove(shard, call);
        if (call->state == FORGE__CALL_IN_FLIGHT) {
            call->outcome_unknown = true;
            forge__connection_forget(call->connection, call, false);
        }
        refuse(shard, call, FORGE_CANCELLED, "the channel was closed", "");
    }
    struct forge__connection *next;
    for (struct forge__connection *c = shard->connections; c; c = next) {
        next = c->next;
        forge__connection_end(c);
    }
    forge_timer_disarm(shard->loop, &shard->sweep);
}
