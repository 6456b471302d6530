#include "forge/span_buffer.h"

#include "channel_private.h"
#include "span_buffer_private.h"
#include "thread.h"
#include "wire/arena.h"
#include "wire/clock.h"
#include "wire/crypto.h"
#include "wire/envelope.h"
#include "wire/uuid.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SPANS_DEFAULT = 20000,
    BYTES_DEFAULT = 64 << 20,
    BATCH_SPANS_DEFAULT = 500,
    FLUSH_DEFAULT_MS = 1000,
    CALLS_DEFAULT = 2,
    CALLS_MOST = 64,
    CALL_TIMEOUT_DEFAULT_MS = 10000,
    RETRY_DEFAULT_MS = 300000,
    PREFIX_BYTES_MAX = 4,   /* of a length up to FORGE__SPAN_BYTES_MAX */
    CHECK_BYTES = 16 << 10, /* for what is wrong with a span */
    DEPTH_MAX = 16,         /* of messages in a span, as on the server */
    UNKNOWN_MAX = 64,       /* bytes of fields that are none: of 1,000 spans as much as the server takes */
    NS_PER_S = 1000000000
};

/* ---- lists ---- */

size_t forge__packed_span_cost(const struct forge__packed_span *span)
{
    return sizeof *span + span->size;
}

void forge__span_list_add(struct forge__span_list *list, struct forge__packed_span *span)
{
    span->next = NULL;
    if (list->last)
        list->last->next = span;
    else
        list->first = span;
    list->last = span;
    list->count++;
    list->bytes += forge__packed_span_cost(span);
}

struct forge__packed_span *forge__span_list_take(struct forge__span_list *list)
{
    struct forge__packed_span *span = list->first;
    list->first = span->next;
    if (!list->first)
        list->last = NULL;
    list->count--;
    list->bytes -= forge__packed_span_cost(span);
    return span;
}

void forge__span_list_move(struct forge__span_list *list, struct forge__span_list *from)
{
    if (!from->first)
        return;
    if (list->last)
        list->last->next = from->first;
    else
        list->first = from->first;
    list->last = from->last;
    list->count += from->count;
    list->bytes += from->bytes;
    *from = (struct forge__span_list){.first = NULL};
}

void forge__span_list_free(struct forge__span_list *list)
{
    while (list->first)
        free(forge__span_list_take(list));
}

void forge__span_batch_free(struct forge__span_batch *batch)
{
    forge__span_list_free(&batch->spans);
    if (batch->reply)
        forge__v1__ingest_spans_response__free_unpacked(batch->reply, NULL);
    free(batch);
}

/* ---- the buffer itself ---- */

/* What is here and not in flight: after the thread has ended. */
static void drop_all(struct forge_span_buffer *buffer)
{
    struct forge__span_batch *next;
    for (struct forge__span_batch *batch = buffer->answered; batch; batch = next) {
        next = batch->next_answered;
        forge__span_batch_free(batch);
    }
    for (struct forge__span_batch *batch = buffer->waiting; batch; batch = next) {
        next = batch->next;
        forge__span_batch_free(batch);
    }
    forge__span_list_free(&buffer->pending);
    forge__span_list_free(&buffer->incoming);
}

static void buffer_free(struct forge_span_buffer *buffer)
{
    if (buffer->head)
        forge__v1__ingest_spans_request__free_unpacked(buffer->head, NULL);
    pthread_cond_destroy(&buffer->settled);
    pthread_cond_destroy(&buffer->work);
    pthread_mutex_destroy(&buffer->mutex);
    free(buffer);
}

void forge__span_buffer_unref(struct forge_span_buffer *buffer)
{
    bool is_last = --buffer->refs == 0;
    pthread_mutex_unlock(&buffer->mutex);
    if (is_last)
        buffer_free(buffer);
}

void forge__span_buffer_wake(struct forge_span_buffer *buffer)
{
    buffer->is_woken = true;
    pthread_cond_signal(&buffer->work);
}

static bool is_of_parent(const struct forge_span_buffer *buffer)
{
    return buffer->channel->fork_generation != forge__fork_generation();
}

/* ---- add ---- */

static forge_code refuse(struct forge_span_buffer *buffer, uint64_t *count, forge_code code)
{
    pthread_mutex_lock(&buffer->mutex);
    buffer->stats.added++;
    ++*count;
    pthread_mutex_unlock(&buffer->mutex);
    return code;
}

/* Room for a span is taken before it is packed: while the buffer is full a span costs no more than this. */
static bool reserve(struct forge_span_buffer *buffer, size_t cost)
{
    struct forge_span_buffer_stats *stats = &buffer->stats;
    pthread_mutex_lock(&buffer->mutex);
    bool fits = stats->spans < buffer->options.spans_max && stats->bytes + cost <= buffer->options.bytes_max;
    stats->added++;
    stats->spans += fits;
    stats->bytes += fits ? cost : 0;
    stats->dropped_full += !fits;
    pthread_mutex_unlock(&buffer->mutex);
    return fits;
}

static forge_code give_back(struct forge_span_buffer *buffer, size_t cost, uint64_t *count, forge_code code)
{
    pthread_mutex_lock(&buffer->mutex);
    buffer->stats.spans--;
    buffer->stats.bytes -= cost;
    ++*count;
    pthread_mutex_unlock(&buffer->mutex);
    return code;
}

static size_t pack_length(size_t length, uint8_t out[PREFIX_BYTES_MAX])
{
    size_t size = 0;
    for (; length >= 0x80; length >>= 7)
        out[size++] = (uint8_t)(length | 0x80);
    out[size++] = (uint8_t)length;
    return size;
}

/* One text that is not UTF-8 would have the whole call refused, with the spans of everybody else. */
static bool is_sendable(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t size)
{
    const struct forge_message_limits limits = {.decoded_max = SIZE_MAX, .depth_max = DEPTH_MAX, .unknown_max = UNKNOWN_MAX};
    struct forge_error unused = {.code = FORGE_OK};
    struct forge_arena arena;
    forge_arena_init(&arena, CHECK_BYTES, NULL);
    bool ok = forge_message_check(type, bytes, size, &limits, &arena, &unused) == FORGE_OK;
    forge_arena_done(&arena);
    return ok;
}

static void append(struct forge_span_buffer *buffer, struct forge__packed_span *span)
{
    span->added_ms = forge_clock_monotonic_ms();
    pthread_mutex_lock(&buffer->mutex);
    span->sequence = ++buffer->last_sequence;
    forge__span_list_add(&buffer->incoming, span);
    if (!buffer->is_woken && (buffer->incoming.count >= buffer->wake_spans || buffer->incoming.bytes >= buffer->wake_bytes))
        forge__span_buffer_wake(buffer);
    pthread_mutex_unlock(&buffer->mutex);
}

forge_code forge_span_buffer_add(struct forge_span_buffer *buffer, const Forge__V1__Span *span)
{
    uint8_t prefix[PREFIX_BYTES_MAX];
    if (!buffer || !span)
        return FORGE_INVALID_ARGUMENT;
    if (is_of_parent(buffer))
        return FORGE_FAILED_PRECONDITION; /* before the mutex: it may be held for ever here */
    size_t length = forge__v1__span__get_packed_size(span);
    if (length > FORGE__SPAN_BYTES_MAX)
        return refuse(buffer, &buffer->stats.dropped_too_large, FORGE_INVALID_ARGUMENT);
    size_t prefix_size = pack_length(length, prefix), size = prefix_size + length, cost = sizeof(struct forge__packed_span) + size;
    if (!reserve(buffer, cost))
        return FORGE_RESOURCE_EXHAUSTED;
    struct forge__packed_span *packed = malloc(cost);
    if (!packed)
        return give_back(buffer, cost, &buffer->stats.dropped_full, FORGE_RESOURCE_EXHAUSTED);
    packed->prefix = prefix_size;
    packed->size = size;
    memcpy(packed->data, prefix, prefix_size);
    forge__v1__span__pack(span, packed->data + prefix_size);
    if (!is_sendable(&forge__v1__span__descriptor, packed->data + prefix_size, length)) {
        free(packed);
        return give_back(buffer, cost, &buffer->stats.dropped_invalid, FORGE_INVALID_ARGUMENT);
    }
    append(buffer, packed);
    return FORGE_OK;
}

/* ---- open ---- */

static forge_code check_options(const struct forge_span_buffer_options *options, struct forge_error *error)
{
    struct forge_uuid project_id;
    const char *text = options->project_id ? options->project_id : "";
    if (*text && !forge_uuid_parse(text, &project_id))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "project_id must be a UUID");
    if (options->batch_spans > FORGE__SPANS_PER_CALL_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "batch_spans is %zu, the limit is %d", options->batch_spans,
                               FORGE__SPANS_PER_CALL_MAX);
    if (options->calls_max > CALLS_MOST)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "calls_max is %u, the limit is %d", options->calls_max, CALLS_MOST);
    if (options->call_timeout_ms > FORGE__TIMEOUT_MS_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "call_timeout_ms is %u, the limit is %d", options->call_timeout_ms,
                               FORGE__TIMEOUT_MS_MAX);
    return FORGE_OK;
}

/* A batch that is awaited must fit into the buffer. */
static void take_options(struct forge_span_buffer *buffer, const struct forge_span_buffer_options *options)
{
    struct forge_span_buffer_options *own = &buffer->options;
    *own = *options;
    own->project_id = NULL;
    own->resource = NULL;
    own->scope = NULL;
    own->spans_max = own->spans_max ? own->spans_max : SPANS_DEFAULT;
    own->bytes_max = own->bytes_max ? own->bytes_max : BYTES_DEFAULT;
    own->batch_spans = own->batch_spans ? own->batch_spans : BATCH_SPANS_DEFAULT;
    own->batch_spans = own->batch_spans < own->spans_max ? own->batch_spans : own->spans_max;
    own->flush_ms = own->flush_ms ? own->flush_ms : FLUSH_DEFAULT_MS;
    own->calls_max = own->calls_max ? own->calls_max : CALLS_DEFAULT;
    own->call_timeout_ms = own->call_timeout_ms ? own->call_timeout_ms : CALL_TIMEOUT_DEFAULT_MS;
    own->retry_ms = own->retry_ms ? own->retry_ms : RETRY_DEFAULT_MS;
    buffer->batch_bytes = own->bytes_max / 2 < FORGE__SPAN_BATCH_BYTES ? own->bytes_max / 2 : FORGE__SPAN_BATCH_BYTES;
}

/* What each call says beside its spans: a copy of the caller's, by way of its bytes. */
static forge_code copy_head(const struct forge_span_buffer_options *options, Forge__V1__IngestSpansRequest **out, struct forge_error *error)
{
    Forge__V1__IngestSpansRequest head = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    /* protobuf-c's fields are not const, and packing does not write to them. */
    head.project_id = options->project_id ? (char *)(uintptr_t)options->project_id : head.project_id;
    head.resource = (Forge__V1__Resource *)(uintptr_t)options->resource;
    head.scope = (Forge__V1__InstrumentationScope *)(uintptr_t)options->scope;
    size_t size = forge__v1__ingest_spans_request__get_packed_size(&head);
    if (size > FORGE__SPAN_HEAD_BYTES_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "resource and scope have %zu bytes, the limit is %d", size,
                               FORGE__SPAN_HEAD_BYTES_MAX);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the span buffer");
    forge__v1__ingest_spans_request__pack(&head, bytes);
    forge_code code = FORGE_OK;
    if (!is_sendable(&forge__v1__ingest_spans_request__descriptor, bytes, size))
        code = forge_error_set(error, FORGE_INVALID_ARGUMENT, "resource and scope must be UTF-8");
    else if (!(*out = forge__v1__ingest_spans_request__unpack(NULL, size, bytes)))
        code = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the span buffer");
    free(bytes);
    return code;
}

static struct forge_span_buffer *buffer_new(struct forge_channel *channel, const struct forge_span_buffer_options *options)
{
    struct forge_span_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return NULL;
    buffer->channel = channel;
    buffer->refs = 1;
    buffer->wake_spans = buffer->wake_bytes = SIZE_MAX; /* until the thread has looked */
    buffer->oldest_sequence = 1;
    pthread_mutex_init(&buffer->mutex, NULL);
    pthread_cond_init(&buffer->work, NULL);
    pthread_cond_init(&buffer->settled, NULL);
    take_options(buffer, options);
    return buffer;
}

static const struct forge_span_buffer_options default_options;

forge_code forge_span_buffer_open(struct forge_channel *channel, const struct forge_span_buffer_options *options,
                                  struct forge_span_buffer **out, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    options = options ? options : &default_options;
    if (!channel || !out)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "channel or out is NULL");
    if (channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the channel was opened before fork(): a child must open its own");
    forge_code code = check_options(options, error);
    if (code != FORGE_OK)
        return code;
    struct forge_span_buffer *buffer = buffer_new(channel, options);
    if (!buffer)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the span buffer");
    code = copy_head(options, &buffer->head, error);
    if (code == FORGE_OK && forge__thread_start(&buffer->thread, forge__span_buffer_main, buffer))
        code = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for the span buffer");
    if (code != FORGE_OK) {
        buffer_free(buffer);
        return code;
    }
    *out = buffer;
    return FORGE_OK;
}

/* ---- flush, close, statistics ---- */

/* In a callback of this buffer or of a channel, waiting would wait for itself. */
static bool is_in_callback(const struct forge_span_buffer *buffer)
{
    return forge_loop_current() || pthread_equal(pthread_self(), buffer->thread);
}

/* False: some are still here. */
static bool flush(struct forge_span_buffer *buffer, uint32_t timeout_ms)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + timeout_ms;
    pthread_mutex_lock(&buffer->mutex);
    uint64_t sequence = buffer->last_sequence;
    if (buffer->flush_sequence < sequence) {
        buffer->flush_sequence = sequence;
        forge__span_buffer_wake(buffer);
    }
    while (buffer->oldest_sequence <= sequence && timeout_ms && forge__wait_until(&buffer->settled, &buffer->mutex, until_ms))
        continue;
    bool is_settled = buffer->oldest_sequence > sequence;
    pthread_mutex_unlock(&buffer->mutex);
    return is_settled;
}

forge_code forge_span_buffer_flush(struct forge_span_buffer *buffer, uint32_t timeout_ms, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    if (!buffer)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "buffer is NULL");
    if (is_of_parent(buffer))
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the buffer was opened before fork(): a child must open its own");
    if (is_in_callback(buffer))
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "waiting inside a callback would wait for itself");
    if (!flush(buffer, timeout_ms))
        return forge_error_set(error, FORGE_DEADLINE_EXCEEDED, "not every span was delivered within %u ms", timeout_ms);
    return FORGE_OK;
}

void forge_span_buffer_close(struct forge_span_buffer *buffer, uint32_t timeout_ms, struct forge_span_buffer_stats *out)
{
    struct forge_span_buffer_stats unused;
    out = out ? out : &unused;
    *out = (struct forge_span_buffer_stats){.added = 0};
    if (!buffer || is_of_parent(buffer) || is_in_callback(buffer))
        return;
    flush(buffer, timeout_ms);
    pthread_mutex_lock(&buffer->mutex);
    buffer->is_closed = true;
    forge__span_buffer_wake(buffer);
    pthread_mutex_unlock(&buffer->mutex);
    pthread_join(buffer->thread, NULL);
    pthread_mutex_lock(&buffer->mutex);
    *out = buffer->stats;
    out->dropped_closed = out->spans;
    out->spans = out->bytes = 0;
    drop_all(buffer);
    forge__span_buffer_unref(buffer);
}

void forge_span_buffer_get_stats(struct forge_span_buffer *buffer, struct forge_span_buffer_stats *out)
{
    *out = (struct forge_span_buffer_stats){.added = 0};
    if (is_of_parent(buffer))
        return;
    pthread_mutex_lock(&buffer->mutex);
    *out = buffer->stats;
    pthread_mutex_unlock(&buffer->mutex);
}

/* ---- what a span is made of ---- */

/* All zero is no id. */
static void make_id(uint8_t *id, size_t size, char *out_text)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t any;
    do {
        forge_random(id, size);
        any = 0;
        for (size_t i = 0; i < size; i++)
            any |= id[i];
    } while (!any);
    for (size_t i = 0; i < size; i++) {
        out_text[2 * i] = digits[id[i] >> 4];
        out_text[2 * i + 1] = digits[id[i] & 15];
    }
    out_text[2 * size] = '\0';
}

void forge_trace_id_make(char out_text[FORGE_TRACE_ID_SIZE])
{
    uint8_t id[FORGE_TRACE_ID_SIZE / 2];
    make_id(id, sizeof id, out_text);
}

void forge_span_id_make(char out_text[FORGE_SPAN_ID_SIZE])
{
    uint8_t id[FORGE_SPAN_ID_SIZE / 2];
    make_id(id, sizeof id, out_text);
}

int64_t forge_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}
