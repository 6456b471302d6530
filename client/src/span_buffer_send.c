/* The thread of a span buffer: makes batches, sends them, takes their answers, and sends again what may succeed later. All of it is the
 * thread's own, but for what the mutex guards. */
#include "channel_private.h"
#include "forge/calls.h"
#include "retry.h"
#include "span_buffer_private.h"
#include "thread.h"
#include "wire/clock.h"
#include "wire/crypto.h"

#include <stdlib.h>

enum { SPANS_FIELD = 2 /* of IngestSpansRequest */, OWN_RETRY_MS = 50 };

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- batches ---- */

static void batch_append(struct forge__span_batch **list, struct forge__span_batch *batch)
{
    while (*list)
        list = &(*list)->next;
    batch->next = NULL;
    *list = batch;
}

static void batch_remove(struct forge__span_batch **list, struct forge__span_batch *batch)
{
    while (*list != batch)
        list = &(*list)->next;
    *list = batch->next;
}

static struct forge__span_batch *batch_new(struct forge_span_buffer *buffer, uint64_t give_up_at_ms)
{
    struct forge__span_batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->buffer = buffer;
    batch->give_up_at_ms = give_up_at_ms;
    return batch;
}

/* ---- what becomes of spans ---- */

static void span_left(struct forge_span_buffer *buffer, struct forge__packed_span *span, uint64_t *count)
{
    buffer->counts.spans++;
    buffer->counts.bytes += forge__packed_span_cost(span);
    ++*count;
    free(span);
}

static void reject(struct forge_span_buffer *buffer, struct forge__packed_span *span, forge_code code, const char *message,
                   const Forge__V1__ItemVerdict *verdict)
{
    if (buffer->options.on_rejected) {
        Forge__V1__Span *unpacked = forge__v1__span__unpack(NULL, span->size - span->prefix, span->data + span->prefix);
        const struct forge_span_rejection rejection = {unpacked, code, message, verdict};
        buffer->options.on_rejected(buffer->options.user, &rejection);
        if (unpacked)
            forge__v1__span__free_unpacked(unpacked, NULL);
    }
    span_left(buffer, span, &buffer->counts.rejected);
}

static uint32_t pause_ms(unsigned failures, uint32_t retry_after_ms)
{
    uint32_t random;
    forge_random(&random, sizeof random);
    return forge__retry_delay_ms(failures, retry_after_ms, random);
}

/* Sends the batch again later, or gives it up. */
static void retry_later(struct forge_span_buffer *buffer, struct forge__span_batch *batch, uint32_t retry_after_ms)
{
    batch->retry_at_ms = forge_clock_monotonic_ms() + pause_ms(++batch->attempts, retry_after_ms);
    if (batch->retry_at_ms <= batch->give_up_at_ms) {
        batch_append(&buffer->waiting, batch);
        return;
    }
    while (batch->spans.first)
        span_left(buffer, forge__span_list_take(&batch->spans), &buffer->counts.gave_up);
    forge__span_batch_free(batch);
}

/* Nobody else is to be sent for a while. Several calls that fail at the same moment count once. */
static void hold_back(struct forge_span_buffer *buffer, uint32_t retry_after_ms)
{
    uint64_t now_ms = forge_clock_monotonic_ms();
    if (now_ms >= buffer->paused_until_ms)
        buffer->paused_until_ms = now_ms + pause_ms(++buffer->failures, retry_after_ms);
}

/* ---- answers ---- */

static bool has_verdicts(const struct forge__span_batch *batch)
{
    const Forge__V1__IngestSpansResponse *reply = batch->reply;
    if (!reply || reply->n_verdicts != batch->spans.count)
        return false;
    for (size_t i = 0; i < reply->n_verdicts; i++)
        if (!reply->verdicts[i]->verdict)
            return false;
    return true;
}

static void take_verdicts(struct forge_span_buffer *buffer, struct forge__span_batch *batch)
{
    struct forge__span_list spans = batch->spans;
    batch->spans = (struct forge__span_list){.first = NULL};
    for (size_t i = 0; spans.first; i++) {
        const Forge__V1__ItemVerdict *verdict = batch->reply->verdicts[i]->verdict;
        struct forge__packed_span *span = forge__span_list_take(&spans);
        if (verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED)
            span_left(buffer, span, &buffer->counts.accepted);
        else if (verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE)
            span_left(buffer, span, &buffer->counts.duplicate);
        else if (verdict->retryable)
            forge__span_list_add(&batch->spans, span);
        else
            reject(buffer, span, (forge_code)verdict->code, verdict->message, verdict);
    }
    forge__v1__ingest_spans_response__free_unpacked(batch->reply, NULL);
    batch->reply = NULL;
    buffer->failures = 0;
    buffer->paused_until_ms = 0;
    if (batch->spans.first)
        retry_later(buffer, batch, 0);
    else
        forge__span_batch_free(batch);
}

/* Half of the batch, its later one, becomes a batch of its own. Without memory the batch stays whole and is tried as it is. */
static void divide(struct forge_span_buffer *buffer, struct forge__span_batch *batch)
{
    struct forge__span_batch *half = batch_new(buffer, batch->give_up_at_ms);
    if (!half)
        return;
    struct forge__span_list spans = batch->spans;
    size_t first_half = spans.count / 2;
    batch->spans = (struct forge__span_list){.first = NULL};
    while (batch->spans.count < first_half)
        forge__span_list_add(&batch->spans, forge__span_list_take(&spans));
    half->spans = spans;
    half->attempts = batch->attempts;
    retry_later(buffer, half, 0);
}

static bool may_succeed_later(forge_code code)
{
    return code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED || code == FORGE_RESOURCE_EXHAUSTED || code == FORGE_ABORTED ||
           code == FORGE_CANCELLED || code == FORGE_INTERNAL || code == FORGE_UNKNOWN;
}

static void take_failure(struct forge_span_buffer *buffer, struct forge__span_batch *batch)
{
    const struct forge_error *error = &batch->error;
    bool is_too_large = error->code == FORGE_RESOURCE_EXHAUSTED && !error->retry_after_ms; /* overload says when to come again */
    buffer->counts.failed_calls++;
    if (!may_succeed_later(error->code) || (is_too_large && batch->spans.count == 1)) {
        while (batch->spans.first)
            reject(buffer, forge__span_list_take(&batch->spans), error->code, error->message, NULL);
        forge__span_batch_free(batch);
        return;
    }
    if (is_too_large)
        divide(buffer, batch);
    else if (error->code == FORGE_UNAVAILABLE || error->code == FORGE_DEADLINE_EXCEEDED || error->code == FORGE_RESOURCE_EXHAUSTED)
        hold_back(buffer, error->retry_after_ms);
    retry_later(buffer, batch, error->retry_after_ms);
}

static void take_answer(struct forge_span_buffer *buffer, struct forge__span_batch *batch)
{
    batch_remove(&buffer->in_flight, batch);
    buffer->in_flight_count--;
    if (has_verdicts(batch)) {
        take_verdicts(buffer, batch);
        return;
    }
    if (batch->reply) {
        forge_error_set(&batch->error, FORGE_INTERNAL, "the reply has not one verdict for each span");
        forge__v1__ingest_spans_response__free_unpacked(batch->reply, NULL);
        batch->reply = NULL;
    }
    take_failure(buffer, batch);
}

/* On a thread of the channel. After the buffer has been closed the batch was counted, and only its memory is left. */
static void on_reply(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                     const struct forge_reply_info *info)
{
    struct forge__span_batch *batch = user;
    struct forge_span_buffer *buffer = batch->buffer;
    batch->reply = (Forge__V1__IngestSpansResponse *)reply;
    batch->error = *error;
    batch->error.violations = NULL; /* they end with this callback */
    batch->error.violation_count = 0;
    pthread_mutex_lock(&buffer->mutex);
    bool is_closed = buffer->is_closed;
    if (!is_closed) {
        batch->next_answered = buffer->answered;
        buffer->answered = batch;
        forge__span_buffer_wake(buffer);
    }
    forge__span_buffer_unref(buffer);
    if (is_closed)
        forge__span_batch_free(batch);
}

/* ---- sending ---- */

/* The spans are packed already, and go into the request as fields that protobuf-c does not know, which it sends as they stand: unpacking
 * them for a list of messages would only be undone by packing them. */
static void start_call(struct forge_span_buffer *buffer, struct forge__span_batch *batch)
{
    const struct forge_call_options options = {.timeout_ms = buffer->options.call_timeout_ms};
    Forge__V1__IngestSpansRequest request = *buffer->head;
    struct forge_error error;
    request.base.n_unknown_fields = (unsigned)batch->spans.count;
    request.base.unknown_fields = buffer->fields;
    ProtobufCMessageUnknownField *field = buffer->fields;
    for (struct forge__packed_span *span = batch->spans.first; span; span = span->next)
        *field++ = (ProtobufCMessageUnknownField){SPANS_FIELD, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, span->size, span->data};
    batch_append(&buffer->in_flight, batch);
    buffer->in_flight_count++;
    buffer->counts.calls++;
    pthread_mutex_lock(&buffer->mutex);
    buffer->refs++;
    pthread_mutex_unlock(&buffer->mutex);
    if (forge_channel_call_async(buffer->channel, &forge_methods[FORGE_METHOD_TRACE_INGEST_SPANS], &options, &request.base, on_reply, batch,
                                 &error) == FORGE_OK)
        return;
    if (error.code == FORGE_RESOURCE_EXHAUSTED)
        error.retry_after_ms = OWN_RETRY_MS; /* what is missing is the process's, and no smaller batch would find it */
    on_reply(batch, error.code, NULL, &error, NULL);
}

static bool pending_is_due(const struct forge_span_buffer *buffer)
{
    const struct forge__span_list *pending = &buffer->pending;
    return pending->first && (pending->count >= buffer->options.batch_spans || pending->bytes >= buffer->batch_bytes ||
                              pending->first->sequence <= buffer->due_sequence);
}

/* NULL without memory. */
static struct forge__span_batch *cut_batch(struct forge_span_buffer *buffer, uint64_t now_ms)
{
    struct forge__span_list *pending = &buffer->pending;
    struct forge__span_batch *batch = batch_new(buffer, now_ms + buffer->options.retry_ms);
    if (!batch)
        return NULL;
    do
        forge__span_list_add(&batch->spans, forge__span_list_take(pending));
    while (pending->first && batch->spans.count < buffer->options.batch_spans &&
           batch->spans.bytes + forge__packed_span_cost(pending->first) <= FORGE__SPAN_BATCH_BYTES);
    return batch;
}

/* What is to be sent again comes first: it is older. NULL: nothing is due. */
static struct forge__span_batch *take_due(struct forge_span_buffer *buffer, uint64_t now_ms)
{
    for (struct forge__span_batch *batch = buffer->waiting; batch; batch = batch->next) {
        if (batch->retry_at_ms <= now_ms) {
            batch_remove(&buffer->waiting, batch);
            return batch;
        }
    }
    if (!pending_is_due(buffer))
        return NULL;
    struct forge__span_batch *batch = cut_batch(buffer, now_ms);
    if (!batch)
        buffer->paused_until_ms = now_ms + OWN_RETRY_MS; /* memory may come back */
    return batch;
}

static bool may_send(const struct forge_span_buffer *buffer, uint64_t now_ms)
{
    return buffer->in_flight_count < buffer->options.calls_max && now_ms >= buffer->paused_until_ms;
}

static void send_due(struct forge_span_buffer *buffer)
{
    struct forge__span_list *pending = &buffer->pending;
    struct forge__span_batch *batch;
    uint64_t now_ms = forge_clock_monotonic_ms();
    if (pending->first && now_ms >= pending->first->added_ms + buffer->options.flush_ms)
        buffer->due_sequence = pending->last->sequence;
    while (may_send(buffer, now_ms) && (batch = take_due(buffer, now_ms)))
        start_call(buffer, batch);
}

/* ---- the thread ---- */

static uint64_t oldest_in(const struct forge__span_batch *batches, uint64_t oldest)
{
    for (; batches; batches = batches->next)
        oldest = at_most(oldest, batches->spans.first->sequence);
    return oldest;
}

/* UINT64_MAX: it has no span. */
static uint64_t oldest_of_thread(const struct forge_span_buffer *buffer)
{
    uint64_t oldest = buffer->pending.first ? buffer->pending.first->sequence : UINT64_MAX;
    return oldest_in(buffer->waiting, oldest_in(buffer->in_flight, oldest));
}

/* Under the mutex: what the thread knows becomes known to all. */
static void publish(struct forge_span_buffer *buffer, uint64_t oldest)
{
    struct forge_span_buffer_stats *stats = &buffer->stats;
    const struct forge__span_counts *counts = &buffer->counts;
    stats->accepted += counts->accepted;
    stats->duplicate += counts->duplicate;
    stats->rejected += counts->rejected;
    stats->dropped_gave_up += counts->gave_up;
    stats->calls += counts->calls;
    stats->failed_calls += counts->failed_calls;
    stats->spans -= counts->spans;
    stats->bytes -= counts->bytes;
    buffer->counts = (struct forge__span_counts){.accepted = 0};
    uint64_t oldest_incoming = buffer->incoming.first ? buffer->incoming.first->sequence : buffer->last_sequence + 1;
    oldest = at_most(oldest, oldest_incoming);
    if (oldest != buffer->oldest_sequence) {
        buffer->oldest_sequence = oldest;
        pthread_cond_broadcast(&buffer->settled);
    }
}

/* When there is something to do without anybody saying so. */
static uint64_t next_turn_ms(const struct forge_span_buffer *buffer, uint64_t now_ms)
{
    bool has_any = buffer->pending.first || buffer->waiting;
    if (buffer->in_flight_count == buffer->options.calls_max || !has_any)
        return UINT64_MAX; /* an answer or a span comes first */
    if (now_ms < buffer->paused_until_ms)
        return buffer->paused_until_ms;
    if (pending_is_due(buffer))
        return now_ms;
    uint64_t at_ms = buffer->pending.first ? buffer->pending.first->added_ms + buffer->options.flush_ms : UINT64_MAX;
    for (const struct forge__span_batch *batch = buffer->waiting; batch; batch = batch->next)
        at_ms = at_most(at_ms, batch->retry_at_ms);
    return at_ms;
}

/* Under the mutex: how much has to come before the thread has to look again. The first span of all starts the time. */
static void set_wake(struct forge_span_buffer *buffer)
{
    const struct forge__span_list *pending = &buffer->pending;
    bool awaits_more = may_send(buffer, forge_clock_monotonic_ms()) && !pending_is_due(buffer);
    buffer->wake_spans = awaits_more ? buffer->options.batch_spans - pending->count : SIZE_MAX;
    buffer->wake_bytes = awaits_more ? buffer->batch_bytes - pending->bytes : SIZE_MAX;
    if (!pending->first)
        buffer->wake_spans = 1;
    buffer->is_woken |= buffer->incoming.count >= buffer->wake_spans || buffer->incoming.bytes >= buffer->wake_bytes;
}

/* Under the mutex. */
static struct forge__span_batch *take_work(struct forge_span_buffer *buffer)
{
    struct forge__span_batch *answered = buffer->answered;
    buffer->answered = NULL;
    buffer->is_woken = false;
    forge__span_list_move(&buffer->pending, &buffer->incoming);
    if (buffer->due_sequence < buffer->flush_sequence)
        buffer->due_sequence = buffer->flush_sequence;
    return answered;
}

/* Without the mutex, which those who hand over wait for: lists are walked here. Returns when the next turn is. */
static uint64_t work(struct forge_span_buffer *buffer, struct forge__span_batch *answered)
{
    struct forge__span_batch *next;
    for (struct forge__span_batch *batch = answered; batch; batch = next) {
        next = batch->next_answered;
        take_answer(buffer, batch);
    }
    send_due(buffer);
    return next_turn_ms(buffer, forge_clock_monotonic_ms());
}

void *forge__span_buffer_main(void *argument)
{
    struct forge_span_buffer *buffer = argument;
    pthread_mutex_lock(&buffer->mutex);
    while (!buffer->is_closed) {
        struct forge__span_batch *answered = take_work(buffer);
        pthread_mutex_unlock(&buffer->mutex);
        uint64_t until_ms = work(buffer, answered), oldest = oldest_of_thread(buffer);
        pthread_mutex_lock(&buffer->mutex);
        publish(buffer, oldest);
        set_wake(buffer);
        while (!buffer->is_woken && forge__wait_until(&buffer->work, &buffer->mutex, until_ms))
            continue;
    }
    pthread_mutex_unlock(&buffer->mutex);
    return NULL;
}
