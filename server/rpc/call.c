#include "rpc/dispatch.h"
#include "rpc/state.h"
#include "rpc/write_private.h"
#include "wire/clock.h"
#include "wire/utf8.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FREE_CALLS_MAX = 1024 /* per loop */, PARK_MARGIN_MS = 200 };

/* --- life of a call -------------------------------------------------------------------------------------------------- */

static struct rpc_active *take_or_make(struct rpc_loop *loop)
{
    struct rpc_active *active = loop->free_calls;
    if (active) {
        loop->free_calls = active->next;
        loop->free_count--;
        return active;
    }
    active = calloc(1, sizeof *active);
    if (active)
        forge_arena_init(&active->arena, loop->server->config.call_bytes_max, loop->server->config.budget);
    return active;
}

static void count_in_flight(struct rpc_loop *loop, int delta)
{
    size_t count = atomic_load_explicit(&loop->in_flight, memory_order_relaxed) + (size_t)delta;
    atomic_store(&loop->in_flight, count); /* in one order with `draining`: the last call sees a drain, or the drain sees no call */
}

struct rpc_active *rpc_active_new(struct rpc_connection *connection, const struct rpc_message *message)
{
    struct rpc_loop *loop = connection->loop;
    struct rpc_active *active = take_or_make(loop);
    if (!active)
        return NULL;
    active->loop = loop;
    active->connection = connection;
    active->method = -1;
    active->reply_max = loop->server->config.reply_max;
    assert(message->stack_len <= sizeof active->stack);
    if (message->stack_len > 0)
        memcpy(active->stack, message->stack, message->stack_len);
    active->stack_len = message->stack_len;
    active->tag = message->tag;
    active->arrived_ns = forge_clock_monotonic_ns();
    active->call.arena = &active->arena;
    active->call.peer_address = connection->peer_address;
    active->call.server = loop->server;
    active->previous = NULL;
    active->next = connection->calls;
    if (active->next)
        active->next->previous = active;
    connection->calls = active;
    connection->in_flight++;
    count_in_flight(loop, 1);
    return active;
}

static void unlink_from_connection(struct rpc_active *active)
{
    struct rpc_connection *connection = active->connection;
    if (active->previous)
        active->previous->next = active->next;
    else
        connection->calls = active->next;
    if (active->next)
        active->next->previous = active->previous;
    connection->in_flight--;
}

/* Everything but the arena, which keeps its first chunk, and the end of the error's text, which nobody reads. */
static void clear(struct rpc_active *active)
{
    const size_t text_begin = offsetof(struct rpc_call, error.message), text_end = text_begin + FORGE_ERROR_MESSAGE_MAX;
    uint8_t *call = (uint8_t *)&active->call;
    forge_arena_reset(&active->arena);
    memset(call, 0, text_begin + 1);
    memset(call + text_end, 0, sizeof active->call - text_end);
    memset(&active->loop, 0, sizeof *active - offsetof(struct rpc_active, loop));
}

void rpc_active_free(struct rpc_active *active)
{
    struct rpc_loop *loop = active->loop;
    struct rpc_connection *connection = active->connection;
    struct rpc_server *server = loop->server;
    if (active->parked.key)
        rpc_parked_leave(server->parked, &active->parked);
    forge_timer_disarm(loop->loop, &active->timer);
    unlink_from_connection(active);
    rpc_connection_free_if_done(connection);
    count_in_flight(loop, -1);
    if (loop->free_count < FREE_CALLS_MAX) {
        clear(active);
        active->next = loop->free_calls;
        loop->free_calls = active;
        loop->free_count++;
    } else {
        forge_arena_done(&active->arena);
        free(active);
    }
    if (atomic_load(&server->draining)) {
        pthread_mutex_lock(&server->drain_lock);
        pthread_cond_broadcast(&server->drained);
        pthread_mutex_unlock(&server->drain_lock);
    }
}

static void handed_back(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct rpc_active *active = (struct rpc_active *)((char *)task - offsetof(struct rpc_active, task));
    active->place = RPC_ON_LOOP;
    rpc_dispatch_step(active);
}

void rpc_active_hand_back(struct rpc_active *active, enum rpc_step step)
{
    active->step = step;
    active->task.run = handed_back;
    forge_loop_post(active->loop->loop, &active->task);
}

forge_code rpc_active_refuse(struct rpc_active *active, forge_code code, const char *format, ...)
{
    char message[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(message, sizeof message, format, arguments);
    va_end(arguments);
    return forge_error_set(&active->call.error, code, "%s", message);
}

uint64_t rpc_active_left_ns(const struct rpc_active *active)
{
    uint64_t now_ns = forge_clock_monotonic_ns();
    return now_ns < active->call.deadline_ns ? active->call.deadline_ns - now_ns : 0;
}

/* --- what handlers call ---------------------------------------------------------------------------------------------- */

void rpc_call_violation(struct rpc_call *call, const char *field, const char *format, ...)
{
    char description[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(description, sizeof description, format, arguments);
    va_end(arguments);
    forge_error_add_violation(&call->error, call->arena, field, "%s", description);
}

bool rpc_call_has_violations(const struct rpc_call *call)
{
    return call->error.violation_count > 0;
}

forge_code rpc_call_invalid(struct rpc_call *call)
{
    const struct forge_violation *first = call->error.violations;
    if (!first)
        return forge_error_set(&call->error, FORGE_INVALID_ARGUMENT, "the request is invalid");
    if (call->error.violation_count == 1)
        return forge_error_set(&call->error, FORGE_INVALID_ARGUMENT, "%s: %s", first->field, first->description);
    return forge_error_set(&call->error, FORGE_INVALID_ARGUMENT, "%s: %s (and %u more)", first->field, first->description,
                           call->error.violation_count - 1);
}

forge_code rpc_call_fail(struct rpc_call *call, forge_code code, const char *format, ...)
{
    char message[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(message, sizeof message, format, arguments);
    va_end(arguments);
    return forge_error_set(&call->error, code, "%s", message);
}

forge_code rpc_call_fail_reason(struct rpc_call *call, forge_code code, const char *reason, const char *format, ...)
{
    char message[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(call->error.reason, sizeof call->error.reason, "%s", reason);
    return forge_error_set(&call->error, code, "%s", message);
}

void rpc_call_fact(struct rpc_call *call, const char *key, const char *format, ...)
{
    char value[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(value, sizeof value, format, arguments);
    va_end(arguments);
    forge_error_add_fact(&call->error, call->arena, key, "%s", value);
}

forge_code rpc_active_park(struct rpc_active *active, const char *key, uint64_t until_ms)
{
    struct rpc_call *call = &active->call;
    struct rpc_parked_entry *entry = &active->parked;
    *entry = (struct rpc_parked_entry){.call = active, .principal_id = call->principal.id};
    entry->connection_count = &active->connection->parked;
    entry->key = forge_arena_strdup(call->arena, key);
    if (!entry->key)
        return forge_error_set(&call->error, FORGE_RESOURCE_EXHAUSTED, "no memory for a waiting call");
    active->park_until_ms = until_ms;
    forge_code code = rpc_parked_enter(active->loop->server->parked, entry, &call->error);
    if (code != FORGE_OK)
        entry->key = NULL;
    return code;
}

forge_code rpc_call_park(struct rpc_call *call, const char *key, uint64_t until_ms)
{
    struct rpc_active *active = rpc_active_of(call);
    uint64_t deadline_ms = call->deadline_ns / 1000000, last_ms = deadline_ms > PARK_MARGIN_MS ? deadline_ms - PARK_MARGIN_MS : 0;
    if (call->woken && active->park_until_ms < last_ms)
        last_ms = active->park_until_ms;
    forge_code code = rpc_active_park(active, key, until_ms < last_ms ? until_ms : last_ms);
    /* Looked at once the call is in the table: a drain that began before woke everybody in it, a later one will. */
    if (code != FORGE_OK || !rpc_server_is_draining(call->server))
        return code;
    rpc_call_unpark(call);
    return forge_error_set(&call->error, FORGE_UNAVAILABLE, "the server is draining");
}

size_t rpc_call_reply_max(const struct rpc_call *call)
{
    return ((const struct rpc_active *)call)->reply_max;
}

forge_code rpc_call_join(struct rpc_call *call, const struct rpc_group_kind *kind, void *work, size_t weight)
{
    rpc_active_of(call)->join = (struct rpc_join){.kind = kind, .work = work, .weight = weight};
    return FORGE_PARKED;
}

void rpc_call_unpark(struct rpc_call *call)
{
    struct rpc_active *active = rpc_active_of(call);
    rpc_parked_leave(call->server->parked, &active->parked);
    active->parked.key = NULL;
}

static void wake(struct rpc_parked_entry *entry)
{
    while (entry) {
        struct rpc_parked_entry *next = entry->next;
        entry->call->call.woken = true;
        rpc_active_hand_back(entry->call, RPC_STEP_RESUME);
        entry = next;
    }
}

void rpc_wake(struct rpc_server *server, const char *key)
{
    wake(rpc_parked_take(server->parked, key));
}

void rpc_wake_all(struct rpc_server *server, const char *prefix)
{
    wake(rpc_parked_take_all(server->parked, prefix));
}

bool rpc_server_is_draining(const struct rpc_server *server)
{
    return atomic_load_explicit(&server->draining, memory_order_relaxed);
}

bool rpc_server_is_ready(const struct rpc_server *server, const char **out_reason)
{
    if (rpc_server_is_draining(server)) {
        *out_reason = "draining";
        return false;
    }
    return !server->config.is_ready || server->config.is_ready(server->config.user, out_reason);
}

const struct rpc_settings *rpc_server_settings(const struct rpc_server *server)
{
    return &server->settings;
}

/* A queued call may not be authenticated yet; it is the same principal when it came with the same token. */
static bool is_same_principal(const struct rpc_active *own, const struct rpc_active *other)
{
    if (other->has_credential && own->has_credential &&
        forge_equal_secret(own->credential.hash, other->credential.hash, sizeof own->credential.hash))
        return true;
    return !forge_uuid_is_nil(&other->caller_id) && forge_uuid_equal(&own->call.principal.id, &other->caller_id);
}

/* Gets a queued or parked call back from its queue or table; false when it is running or on its way. Loop thread. */
static bool take_back(struct rpc_active *active)
{
    bool taken = false;
    if (active->place == RPC_QUEUED)
        taken = base_queue_remove(active->queue, active->lane, &active->node);
    else if (active->place == RPC_PARKED)
        taken = rpc_parked_remove(active->loop->server->parked, &active->parked);
    if (taken)
        active->place = RPC_ON_LOOP;
    return taken;
}

bool rpc_call_cancel_other(struct rpc_call *call, const struct forge_uuid *request_id)
{
    struct rpc_active *own = rpc_active_of(call);
    for (struct rpc_active *other = own->connection->calls; other; other = other->next) {
        if (other == own || (other->place != RPC_QUEUED && other->place != RPC_PARKED))
            continue;
        if (!other->header || !forge_uuid_equal(&other->call.request_id, request_id) || !is_same_principal(own, other) || !take_back(other))
            continue;
        rpc_active_refuse(other, FORGE_CANCELLED, "cancelled by CancelCall");
        other->code = FORGE_CANCELLED;
        rpc_dispatch_finish(other);
        return true;
    }
    return false;
}

void rpc_active_drop_waiting(struct rpc_connection *connection)
{
    for (struct rpc_active *active = connection->calls, *next; active; active = next) {
        next = active->next;
        if (take_back(active))
            rpc_dispatch_drop(active);
    }
}
