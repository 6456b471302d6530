/* Spans on their way to the server: a service hands them over where they end, at the cost of packing them, and a thread sends them
 * (TraceService.IngestSpans) by size and by time. From any number of threads; who hands over never waits: no call, no file, no lock that is
 * held for longer than it takes to link a list.
 *
 * What becomes of each span is counted (forge_span_buffer_get_stats):
 *   - accepted, or duplicate: it is stored. A duplicate was stored by an earlier attempt whose answer was lost, or handed over twice;
 *   - rejected: the server will not have it, as it is told (on_rejected);
 *   - dropped: there was no room for it (full), it has more than 1 MiB packed (too_large), it cannot be sent (invalid: text that is not
 *     UTF-8, an unknown enum), it could not be delivered in time (gave_up), or it was still here at the end (closed).
 * added = accepted + duplicate + rejected + dropped_* + spans, where spans is what is in the buffer.
 *
 * What may succeed later is sent again: single spans that the server marks as retryable, and calls that end with UNAVAILABLE,
 * DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, CANCELLED, INTERNAL or UNKNOWN, after a pause (50 ms, growing to 2 s, or what the server
 * asks for), for retry_ms. That is safe: the server stores a span once, however often it is sent. Every other code rejects the spans of its
 * call. A call that is too large for the server is divided. While the server is away the buffer fills up, and keeps what came first. Spans
 * may overtake each other. A process that ends without forge_span_buffer_close loses what is in the buffer.
 *
 * After fork() the buffer stays the parent's, with all that is in it: in the child forge_span_buffer_add answers FAILED_PRECONDITION, close
 * does nothing, and the child opens a channel and a buffer of its own. */
#ifndef FORGE_SPAN_BUFFER_H
#define FORGE_SPAN_BUFFER_H

#include "forge/api.h"
#include "forge/channel.h"
#include "forge/v1/trace.pb-c.h"
#include "wire/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; from forge_span_buffer_open to forge_span_buffer_close. */
struct forge_span_buffer;

/* A span that the server will not have. Everything lives until the callback returns. */
struct forge_span_rejection {
    const Forge__V1__Span *span; /* as it was handed over; NULL where there is no memory for it */
    forge_code code;
    const char *message;
    const Forge__V1__ItemVerdict *verdict; /* the server's, with the fields that are wrong; NULL where it refused the whole call */
};
/* Runs on the thread of the buffer, one at a time, before the span is counted. It may block (nothing is sent meanwhile), call, and hand
 * over spans; it must not close the buffer, and forge_span_buffer_flush is refused in it. */
typedef void (*forge_span_rejected)(void *user, const struct forge_span_rejection *rejection);

/* Zero it, then set what differs from the default given in parentheses. All that it points to is copied by forge_span_buffer_open. */
struct forge_span_buffer_options {
    const char *project_id;                       /* NULL: a key that is bound to one */
    const Forge__V1__Resource *resource;          /* of all spans that have none of their own (NULL) */
    const Forge__V1__InstrumentationScope *scope; /* of all spans that have none of their own (NULL) */
    size_t spans_max;                             /* in the buffer, those being sent included (20,000) */
    size_t bytes_max;                             /* of these, packed (64 MiB); each call in flight has a copy of its own */
    size_t batch_spans;                           /* so many are sent at once, without waiting; so are 1 MiB (500); at most 1,000 */
    uint32_t flush_ms;                            /* fewer are sent when the oldest of them is so old (1,000) */
    unsigned calls_max;                           /* in flight at the same time (2); at most 64 */
    uint32_t call_timeout_ms;                     /* of each (10,000); at most 600,000 */
    uint32_t retry_ms;               /* from the first attempt on: a span that has not been delivered by then is dropped (300,000) */
    forge_span_rejected on_rejected; /* NULL = rejections are only counted */
    void *user;                      /* for on_rejected */
};

/* Starts the thread; waits for no server. The channel must stay open as long as the buffer. options may be NULL. INVALID_ARGUMENT,
 * FAILED_PRECONDITION (after fork), RESOURCE_EXHAUSTED (memory, a thread). */
FORGE_API forge_code forge_span_buffer_open(struct forge_channel *channel, const struct forge_span_buffer_options *options,
                                            struct forge_span_buffer **out, struct forge_error *error) FORGE_MUST_CHECK;

/* Hands a span over. It is packed before this returns, and remains the caller's. Any thread, a callback's too; never waits. What is not OK
 * is counted as dropped, so the code may be ignored: RESOURCE_EXHAUSTED (full, or no memory), INVALID_ARGUMENT (too large, or invalid),
 * FAILED_PRECONDITION (after fork: not counted). */
FORGE_API forge_code forge_span_buffer_add(struct forge_span_buffer *buffer, const Forge__V1__Span *span);

/* Sends what was handed over before without waiting for more, and waits until each of these spans is counted, at most timeout_ms (0 = not
 * at all). Any thread. OK, DEADLINE_EXCEEDED (some are still here, and remain), FAILED_PRECONDITION (inside a callback; after fork). error
 * may be NULL. */
FORGE_API forge_code forge_span_buffer_flush(struct forge_span_buffer *buffer, uint32_t timeout_ms, struct forge_error *error);

/* Since the buffer was opened, but for spans and bytes: now. Calls are IngestSpans calls as the channel's user sees them: the channel may
 * have sent one several times. */
struct forge_span_buffer_stats {
    uint64_t added; /* handed over */
    uint64_t accepted, duplicate, rejected;
    uint64_t dropped_full, dropped_too_large, dropped_invalid, dropped_gave_up, dropped_closed;
    uint64_t spans, bytes;
    uint64_t calls, failed_calls;
};
/* Zeros in a child of fork(). */
FORGE_API void forge_span_buffer_get_stats(struct forge_span_buffer *buffer, struct forge_span_buffer_stats *out);

/* Flushes for at most timeout_ms, drops what is left (dropped_closed: it may have arrived all the same, where a call was in flight) and
 * ends the thread, for which it waits for a callback that runs. *out (may be NULL) gets the last counts. To be called when nobody hands
 * over spans any more, and before forge_channel_close. Does nothing inside a callback and in a child of fork(). Accepts NULL. */
FORGE_API void forge_span_buffer_close(struct forge_span_buffer *buffer, uint32_t timeout_ms, struct forge_span_buffer_stats *out);

/* ---- what a span is made of; any thread ---- */

enum { FORGE_TRACE_ID_SIZE = 33, FORGE_SPAN_ID_SIZE = 17 }; /* hexadecimal digits and the NUL */

/* A fresh random id of W3C trace context, in lower case; never all zero. */
FORGE_API void forge_trace_id_make(char out_text[FORGE_TRACE_ID_SIZE]);
FORGE_API void forge_span_id_make(char out_text[FORGE_SPAN_ID_SIZE]);
/* Nanoseconds since 1970-01-01 UTC, for start_ns and end_ns. */
FORGE_API int64_t forge_now_ns(void);

#ifdef __cplusplus
}
#endif

#endif
