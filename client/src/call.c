#include "call.h"

#include "channel_private.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <stdlib.h>
#include <string.h>

enum { CLOCK_NS_PER_MS = 1000000 };

static struct forge__call *call_allocate(struct forge_channel *channel)
{
    struct forge__call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->channel = channel;
    pthread_mutex_init(&call->waiter.mutex, NULL);
    pthread_cond_init(&call->waiter.answered, NULL);
    return call;
}

void forge__call_destroy(struct forge__call *call)
{
    pthread_cond_destroy(&call->waiter.answered);
    pthread_mutex_destroy(&call->waiter.mutex);
    free(call->payload);
    free(call);
}

/* An object that was used before, or a new one. local: the shard whose thread this is, or NULL. */
static struct forge__call *call_take(struct forge_channel *channel, struct forge__shard *local)
{
    struct forge__call *call;
    if (local) {
        if ((call = local->free_calls))
            local->free_calls = call->next;
    } else {
        pthread_mutex_lock(&channel->mutex);
        if ((call = channel->free_calls))
            channel->free_calls = call->next;
        pthread_mutex_unlock(&channel->mutex);
    }
    if (!call && !(call = call_allocate(channel)))
        return NULL;
    call->is_local = local != NULL;
    return call;
}

void forge__call_release(struct forge__call *call)
{
    struct forge_channel *channel = call->channel;
    free(call->context);
    call->context = NULL;
    if (call->payload_capacity > FORGE__BUFFER_KEPT_BYTES) {
        free(call->payload);
        call->payload = NULL;
        call->payload_capacity = 0;
    }
    if (call->is_local) {
        call->next = call->shard->free_calls;
        call->shard->free_calls = call;
    } else {
        pthread_mutex_lock(&channel->mutex);
        call->next = channel->free_calls;
        channel->free_calls = call;
        pthread_mutex_unlock(&channel->mutex);
    }
    atomic_fetch_sub(&channel->calls_in_flight, 1); /* the last access: forge_channel_close waits for zero */
}

static forge_code check_texts(const struct forge_call_options *options, struct forge_error *error)
{
    if (options->traceparent && strlen(options->traceparent) > 128)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "traceparent has more than 128 bytes");
    if (options->tracestate && strlen(options->tracestate) > 512)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "tracestate has more than 512 bytes");
    size_t bytes = 0;
    for (size_t i = 0; i < options->metadata_count; i++) {
        const char *key = options->metadata[i].key, *value = options->metadata[i].value;
        if (!key || !*key || key[strspn(key, "0123456789abcdefghijklmnopqrstuvwxyz_.-")])
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "metadata[%zu].key must match [0-9a-z_.-]+", i);
        if (!value || !forge_utf8_is_valid((const uint8_t *)value, strlen(value)))
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "metadata[%zu].value must be UTF-8", i);
        bytes += strlen(key) + strlen(value);
    }
    if (bytes > FORGE_METADATA_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "metadata has %zu bytes, the limit is %d", bytes, FORGE_METADATA_MAX);
    return FORGE_OK;
}

static char *append_text(char **at, const char *text)
{
    char *copy = *at;
    size_t size = text ? strlen(text) + 1 : 1;
    memcpy(copy, text ? text : "", size);
    *at += size;
    return copy;
}

/* One block: the struct, the pointers, the pairs, the texts. */
static forge_code copy_context(const struct forge_call_options *options, struct forge__call *call, struct forge_error *error)
{
    if (!options->metadata_count && !options->traceparent && !options->tracestate)
        return FORGE_OK;
    forge_code code = check_texts(options, error);
    if (code != FORGE_OK)
        return code;
    size_t count = options->metadata_count;
    size_t texts = (options->traceparent ? strlen(options->traceparent) : 0) + (options->tracestate ? strlen(options->tracestate) : 0) + 2;
    for (size_t i = 0; i < count; i++)
        texts += strlen(options->metadata[i].key) + strlen(options->metadata[i].value) + 2;
    struct forge__call_context *context =
        malloc(sizeof *context + count * (sizeof(Forge__V1__KeyValue *) + sizeof(Forge__V1__KeyValue)) + texts);
    if (!context)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the call's metadata");
    context->metadata = (Forge__V1__KeyValue **)(context + 1);
    context->metadata_count = count;
    Forge__V1__KeyValue *pairs = (Forge__V1__KeyValue *)(context->metadata + count);
    char *at = (char *)(pairs + count);
    context->traceparent = append_text(&at, options->traceparent);
    context->tracestate = append_text(&at, options->tracestate);
    for (size_t i = 0; i < count; i++) {
        forge__v1__key_value__init(&pairs[i]);
        pairs[i].key = append_text(&at, options->metadata[i].key);
        pairs[i].value = append_text(&at, options->metadata[i].value);
        context->metadata[i] = &pairs[i];
    }
    call->context = context;
    return FORGE_OK;
}

static forge_code pack_request(const ProtobufCMessage *request, struct forge__call *call, struct forge_error *error)
{
    if (!request || request->descriptor != call->method->input)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the request of %s must be a %s", call->method->name,
                               call->method->input->name);
    size_t size = protobuf_c_message_get_packed_size(request);
    if (size > FORGE__REQUEST_BYTES_MAX - FORGE_ENVELOPE_HEADER_MAX)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the request has %zu bytes, the limit is %d", size,
                               FORGE__REQUEST_BYTES_MAX - FORGE_ENVELOPE_HEADER_MAX);
    if (size > call->payload_capacity) {
        size_t capacity = size < 512 ? 512 : size;
        uint8_t *grown = realloc(call->payload, capacity);
        if (!grown)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a request of %zu bytes", size);
        call->payload = grown;
        call->payload_capacity = capacity;
    }
    call->payload_size = protobuf_c_message_pack(request, call->payload);
    return FORGE_OK;
}

static const struct forge_call_options default_options;

static forge_code take_options(const struct forge_call_options *options, struct forge__call *call, struct forge_error *error)
{
    const struct forge_channel *channel = call->channel;
    if (options->timeout_ms > FORGE__TIMEOUT_MS_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "timeout_ms is over the limit of %d", FORGE__TIMEOUT_MS_MAX);
    if (options->reply_bytes_max > channel->reply_bytes_max)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "reply_bytes_max is over the channel's %u", channel->reply_bytes_max);
    if (!options->request_id)
        forge_uuid_v7(&call->request_id);
    else if (!forge_uuid_parse(options->request_id, &call->request_id) || !forge_uuid_is_v7(&call->request_id))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "request_id must be a UUID of version 7");
    uint32_t timeout_ms = options->timeout_ms ? options->timeout_ms : channel->default_timeout_ms;
    call->started_ns = forge_clock_monotonic_ns();
    call->deadline_ns = call->started_ns + (uint64_t)timeout_ms * CLOCK_NS_PER_MS;
    call->fail_fast = options->fail_fast;
    call->reply_bytes_max = options->reply_bytes_max ? options->reply_bytes_max : channel->reply_bytes_max;
    return copy_context(options, call, error);
}

static void call_reset(struct forge__call *call, const struct forge_method *method, struct forge__shard *shard)
{
    call->shard = shard;
    call->state = FORGE__CALL_STARTING;
    call->method = method;
    call->is_sync = call->outcome_unknown = false;
    call->is_fresh = call->is_local;
    call->attempts = 0;
    call->connection = NULL;
    call->token = NULL;
    call->retry_at_ms = 0;
    atomic_store_explicit(&call->was_sent, false, memory_order_relaxed);
}

/* Counts the call in: afterwards forge_channel_close waits for its release. */
static forge_code admit(struct forge_channel *channel, struct forge_error *error)
{
    if (channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the channel was opened before fork(): a child must open its own");
    unsigned before = atomic_fetch_add(&channel->calls_in_flight, 1);
    forge_code code = FORGE_OK;
    if (atomic_load(&channel->is_closing))
        code = forge_error_set(error, FORGE_CANCELLED, "the channel is being closed");
    else if (before >= channel->calls_in_flight_max)
        code = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "%u calls are in flight, the channel's limit", before);
    if (code != FORGE_OK)
        atomic_fetch_sub(&channel->calls_in_flight, 1);
    return code;
}

forge_code forge__call_new(struct forge_channel *channel, const struct forge_method *method, const struct forge_call_options *options,
                           const ProtobufCMessage *request, struct forge__call **out, struct forge_error *error)
{
    if (!channel || !method)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s is NULL", channel ? "method" : "channel");
    forge_code code = admit(channel, error);
    if (code != FORGE_OK)
        return code;
    struct forge__shard *local = forge__channel_current_shard(channel);
    struct forge__shard *shard = local;
    if (!shard)
        shard = &channel->shards[channel->shard_count == 1 ? 0 : atomic_fetch_add(&channel->next_shard, 1) % channel->shard_count];
    struct forge__call *call = call_take(channel, local);
    if (!call) {
        atomic_fetch_sub(&channel->calls_in_flight, 1);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a call");
    }
    call_reset(call, method, shard);
    code = take_options(options ? options : &default_options, call, error);
    if (code == FORGE_OK)
        code = pack_request(request, call, error);
    if (code != FORGE_OK) {
        forge__call_release(call);
        return code;
    }
    *out = call;
    return FORGE_OK;
}

void forge__call_info(const struct forge__call *call, struct forge_reply_info *info)
{
    memset(info, 0, sizeof *info);
    info->attempts = call->attempts;
    forge_uuid_format(&call->request_id, info->request_id);
}

unsigned forge__call_timeout_ms(const struct forge__call *call)
{
    return (unsigned)((call->deadline_ns - call->started_ns) / CLOCK_NS_PER_MS);
}
