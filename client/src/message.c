#include "message.h"

#include "channel_private.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NS_PER_US = 1000,
    DECODED_FACTOR = 64, /* decoded bytes per packed byte of a reply: an ItemVerdict of 4 bytes takes 88 */
    DECODED_SPARE = 64 << 10,
    DEPTH_MAX = 16
};

static char empty_text[] = "";

/* ---- interceptor ---- */

struct forge_interceptor_context {
    struct forge_arena *arena;
    Forge__V1__KeyValue **metadata;
    size_t count, capacity;
    size_t bytes;
};

static size_t pair_bytes(const char *key, const char *value)
{
    return strlen(key) + strlen(value);
}

static bool make_room(struct forge_interceptor_context *context)
{
    if (context->count < context->capacity)
        return true;
    size_t capacity = context->capacity ? context->capacity * 2 : 8;
    Forge__V1__KeyValue **grown = forge_arena_calloc(context->arena, capacity, sizeof(*grown));
    if (!grown)
        return false;
    if (context->count)
        memcpy(grown, context->metadata, context->count * sizeof(*grown));
    context->metadata = grown;
    context->capacity = capacity;
    return true;
}

forge_code forge_interceptor_add_metadata(struct forge_interceptor_context *context, const char *key, const char *value)
{
    if (!key || !*key || key[strspn(key, "0123456789abcdefghijklmnopqrstuvwxyz_.-")] || !value ||
        !forge_utf8_is_valid((const uint8_t *)value, strlen(value)))
        return FORGE_INVALID_ARGUMENT;
    if (context->bytes + pair_bytes(key, value) > FORGE_METADATA_MAX)
        return FORGE_RESOURCE_EXHAUSTED;
    Forge__V1__KeyValue *pair = forge_arena_alloc(context->arena, sizeof *pair);
    if (!pair || !make_room(context))
        return FORGE_RESOURCE_EXHAUSTED;
    forge__v1__key_value__init(pair);
    pair->key = forge_arena_strdup(context->arena, key);
    pair->value = forge_arena_strdup(context->arena, value);
    if (forge_arena_has_overflowed(context->arena))
        return FORGE_RESOURCE_EXHAUSTED;
    context->bytes += pair_bytes(key, value);
    context->metadata[context->count++] = pair;
    return FORGE_OK;
}

static forge_code intercept(const struct forge__call *call, struct forge_arena *arena, Forge__V1__RequestHeader *header)
{
    const struct forge_channel *channel = call->channel;
    struct forge_interceptor_context context = {.arena = arena};
    for (size_t i = 0; i < header->n_metadata; i++) {
        if (!make_room(&context))
            return FORGE_RESOURCE_EXHAUSTED;
        context.bytes += pair_bytes(header->metadata[i]->key, header->metadata[i]->value);
        context.metadata[context.count++] = header->metadata[i];
    }
    forge_code code = channel->interceptor(channel->interceptor_user, call->method, &context);
    header->metadata = context.metadata;
    header->n_metadata = context.count;
    return code;
}

/* ---- requests ---- */

static void put_text(char **field, const char *text)
{
    union { /* protobuf-c's fields are not const, and packing does not write to them */
        const char *from;
        char *to;
    } cast = {.from = text ? text : empty_text};
    *field = cast.to;
}

static forge_code send_packed(struct forge_link *link, const uint8_t stack[4], const Forge__V1__RequestHeader *header,
                              const uint8_t *payload, size_t payload_size)
{
    struct forge_link_send send;
    forge_code code = forge_link_send_begin(link, stack, 4, forge_envelope_size(&header->base, payload_size), &send);
    if (code != FORGE_OK)
        return code;
    uint8_t *at = forge_envelope_pack_header(&header->base, send.body);
    if (payload_size)
        memcpy(at, payload, payload_size);
    forge_link_send_commit(&send);
    return FORGE_OK;
}

static void fill_header(const struct forge__call *call, Forge__V1__RequestHeader *header)
{
    uint64_t now_ns = call->is_fresh && !call->attempts ? call->started_ns : forge_clock_monotonic_ns();
    forge__v1__request_header__init(header);
    put_text(&header->method, call->method->name);
    header->timeout_us = call->deadline_ns > now_ns ? (int64_t)((call->deadline_ns - now_ns + NS_PER_US - 1) / NS_PER_US) : 1;
    header->attempt = (int32_t)call->attempts + 1;
    header->request_id.len = sizeof call->request_id.bytes;
    union {
        const uint8_t *from;
        uint8_t *to;
    } cast = {.from = call->request_id.bytes};
    header->request_id.data = cast.to;
    put_text(&header->authorization, call->token ? call->token->text : NULL);
    put_text(&header->client_info, call->channel->client_info);
    header->max_reply_bytes = call->reply_bytes_max;
    if (call->context) {
        header->traceparent = call->context->traceparent;
        header->tracestate = call->context->tracestate;
        header->n_metadata = call->context->metadata_count;
        header->metadata = call->context->metadata;
    }
}

forge_code forge__message_send_call(struct forge_link *link, const uint8_t stack[4], struct forge__call *call)
{
    Forge__V1__RequestHeader header;
    fill_header(call, &header);
    if (!call->channel->interceptor)
        return send_packed(link, stack, &header, call->payload, call->payload_size);
    struct forge_arena arena;
    forge_arena_init(&arena, 64 << 10, NULL);
    forge_code code = intercept(call, &arena, &header);
    if (code == FORGE_OK)
        code = send_packed(link, stack, &header, call->payload, call->payload_size);
    forge_arena_done(&arena);
    return code;
}

forge_code forge__message_send_own(struct forge_link *link, const uint8_t stack[4], const struct forge_channel *channel, const char *method,
                                   const struct forge__token *token, unsigned timeout_ms)
{
    Forge__V1__RequestHeader header;
    forge__v1__request_header__init(&header);
    put_text(&header.method, method);
    header.timeout_us = (int64_t)timeout_ms * 1000;
    header.attempt = 1;
    put_text(&header.authorization, token ? token->text : NULL);
    put_text(&header.client_info, channel->client_info);
    return send_packed(link, stack, &header, NULL, 0);
}

/* ---- replies ---- */

/* Replies are checked like requests before protobuf-c sees them, only that a newer server may send fields and enum values that this
 * library does not know. What a reply may cost is bounded. */
static forge_code check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t size, struct forge_arena *arena)
{
    const struct forge_message_limits limits = {
        .decoded_max = size * DECODED_FACTOR + DECODED_SPARE, .depth_max = DEPTH_MAX, .unknown_max = size, .open_enums = true};
    struct forge_error unused = {.code = FORGE_OK};
    return forge_message_check(type, bytes, size, &limits, arena, &unused);
}

const void *forge__message_read(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t size, struct forge_arena *arena)
{
    return check(type, bytes, size, arena) == FORGE_OK ? protobuf_c_message_unpack(type, forge_arena_allocator(arena), size, bytes) : NULL;
}

struct capped {
    size_t left;
};

/* Zeroed: protobuf-c 1.4.1 frees unknown fields that it has not read yet when a message is malformed. */
static void *capped_alloc(void *data, size_t size)
{
    struct capped *capped = data;
    if (size > capped->left)
        return NULL;
    capped->left -= size;
    return calloc(1, size ? size : 1);
}

static void capped_free(void *data, void *memory)
{
    free(memory);
}

/* The message is freed with malloc's free, so the caller needs no allocator for it. */
static ProtobufCMessage *unpack_capped(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t size)
{
    struct capped capped = {.left = size * DECODED_FACTOR + DECODED_SPARE};
    ProtobufCAllocator allocator = {.alloc = capped_alloc, .free = capped_free, .allocator_data = &capped};
    return protobuf_c_message_unpack(type, &allocator, size, bytes);
}

forge_code forge__message_parse_reply(const struct forge_frame *frame, struct forge_arena *arena, struct forge__reply *out,
                                      struct forge_error *error)
{
    struct forge_envelope envelope;
    struct forge_error cause = {.code = FORGE_OK};
    if (forge_envelope_parse(frame->body, frame->body_len, FORGE_ENVELOPE_HEADER_MAX, &envelope, &cause) != FORGE_OK)
        return forge_error_set(error, FORGE_INTERNAL, "the server sent a malformed reply: %s", cause.message);
    const Forge__V1__ReplyHeader *header =
        forge__message_read(&forge__v1__reply_header__descriptor, envelope.header, envelope.header_len, arena);
    if (!header)
        return forge_error_set(error, FORGE_INTERNAL, "the server sent a malformed reply: its header cannot be read");
    out->header = header;
    out->payload = envelope.payload;
    out->payload_size = envelope.payload_len;
    return FORGE_OK;
}

forge_code forge__message_code(const Forge__V1__ReplyHeader *header)
{
    int code = (int)header->code;
    return code >= FORGE_OK && code <= FORGE_UNAUTHENTICATED ? (forge_code)code : FORGE_UNKNOWN;
}

forge_code forge__message_unpack(const struct forge__call *call, const struct forge__reply *reply, ProtobufCMessage **out,
                                 struct forge_error *error)
{
    const ProtobufCMessageDescriptor *type = call->method->output;
    ProtobufCMessage *message = NULL;
    if (reply->payload_size <= call->reply_bytes_max && check(type, reply->payload, reply->payload_size, &call->shard->arena) == FORGE_OK)
        message = unpack_capped(type, reply->payload, reply->payload_size);
    if (message) {
        *out = message;
        return FORGE_OK;
    }
    memset(error, 0, sizeof *error);
    if (reply->payload_size > call->reply_bytes_max)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the reply has %zu bytes, the limit is %u", reply->payload_size,
                               call->reply_bytes_max);
    return forge_error_set(error, FORGE_INTERNAL, "the server sent a malformed %s", type->name);
}

/* A block of so many bytes and two texts behind it; NULL without memory. */
static void *pair_new(size_t size, const char *first, const char *second, const char **out_first, const char **out_second)
{
    size_t first_size = strlen(first) + 1, second_size = strlen(second) + 1;
    char *block = malloc(size + first_size + second_size);
    if (!block)
        return NULL;
    *out_first = memcpy(block + size, first, first_size);
    *out_second = memcpy(block + size + first_size, second, second_size);
    return block;
}

static struct forge_violation *violation_new(const char *field, const char *description)
{
    struct forge_violation from = {0}, *violation = pair_new(sizeof from, field, description, &from.field, &from.description);
    if (violation)
        *violation = from;
    return violation;
}

static struct forge_fact *fact_new(const char *key, const char *value)
{
    struct forge_fact from = {0}, *fact = pair_new(sizeof from, key, value, &from.key, &from.value);
    if (fact)
        *fact = from;
    return fact;
}

static void add_violations(const Forge__V1__BadRequest *bad, struct forge_error *error)
{
    struct forge_violation **tail = &error->violations;
    while (*tail)
        tail = &(*tail)->next;
    for (size_t i = 0; i < bad->n_field_violations; i++) {
        error->violation_count++;
        if (error->violation_count > FORGE_VIOLATIONS_MAX)
            continue;
        *tail = violation_new(bad->field_violations[i]->field, bad->field_violations[i]->description);
        if (!*tail)
            return;
        tail = &(*tail)->next;
    }
}

static void add_info(const Forge__V1__ErrorInfo *info, struct forge_error *error)
{
    struct forge_fact **tail = &error->facts;
    snprintf(error->reason, sizeof error->reason, "%s", info->reason);
    while (*tail)
        tail = &(*tail)->next;
    for (size_t i = 0; i < info->n_metadata && i < FORGE_FACTS_MAX; i++) {
        *tail = fact_new(info->metadata[i]->key, info->metadata[i]->value);
        if (!*tail)
            return;
        tail = &(*tail)->next;
    }
}

void forge__message_error(const Forge__V1__ReplyHeader *header, struct forge_error *error)
{
    memset(error, 0, sizeof *error);
    forge_error_set(error, forge__message_code(header), "%s", header->message);
    if (header->retry_after_ms > 0)
        error->retry_after_ms = header->retry_after_ms < UINT32_MAX ? (uint32_t)header->retry_after_ms : UINT32_MAX;
    error->not_executed = header->not_executed;
    for (size_t i = 0; i < header->n_details; i++) {
        const Forge__V1__ErrorDetail *detail = header->details[i];
        if (detail->detail_case == FORGE__V1__ERROR_DETAIL__DETAIL_BAD_REQUEST)
            add_violations(detail->bad_request, error);
        if (detail->detail_case == FORGE__V1__ERROR_DETAIL__DETAIL_ERROR_INFO)
            add_info(detail->error_info, error);
    }
}

void forge__message_attempt(const Forge__V1__ReplyHeader *header, const struct forge_error *error, const struct forge__call *call,
                            struct forge__attempt *out)
{
    *out = (struct forge__attempt){.end = FORGE__ATTEMPT_ANSWERED,
                                   .code = error->code,
                                   .retry_after_ms = error->retry_after_ms,
                                   .not_executed = error->not_executed,
                                   .goaway = header->goaway,
                                   .duplicate = strcmp(error->reason, "CALL_IN_PROGRESS") == 0,
                                   .is_repeatable = forge__method_is_repeatable(call->method)};
}

void forge__message_info(const Forge__V1__ReplyHeader *header, struct forge_reply_info *info)
{
    info->replayed = header->replayed;
    info->server_elapsed_us = header->server_elapsed_us > 0 ? (uint64_t)header->server_elapsed_us : 0;
    info->queue_us = header->queue_us > 0 ? (uint64_t)header->queue_us : 0;
    size_t length = strnlen(header->server_instance, sizeof info->server_instance - 1);
    memcpy(info->server_instance, header->server_instance, length);
    info->server_instance[length] = '\0';
}
