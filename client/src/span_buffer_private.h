/* What the files of the span buffer share. */
#ifndef FORGE_CLIENT_SPAN_BUFFER_PRIVATE_H
#define FORGE_CLIENT_SPAN_BUFFER_PRIVATE_H

#include "forge/span_buffer.h"

#include <pthread.h>
#include <stdbool.h>

enum {
    FORGE__SPANS_PER_CALL_MAX = 1000, /* of IngestSpans, as is the next */
    FORGE__SPAN_BYTES_MAX = 1 << 20,
    FORGE__SPAN_BATCH_BYTES = 1 << 20,   /* a call takes no further span beyond it; with the longest one it stays far below 4 MiB */
    FORGE__SPAN_HEAD_BYTES_MAX = 1 << 20 /* project, resource and scope */
};

/* A span as it stands in an IngestSpansRequest, behind the tag: its length, then its bytes. */
struct forge__packed_span {
    struct forge__packed_span *next;
    uint64_t sequence; /* in the order of arrival, from 1 */
    uint64_t added_ms;
    size_t prefix; /* bytes of the length */
    size_t size;   /* of data */
    uint8_t data[];
};
/* What a span counts for in bytes_max. */
size_t forge__packed_span_cost(const struct forge__packed_span *span);

struct forge__span_list {
    struct forge__packed_span *first, *last;
    size_t count, bytes;
};
void forge__span_list_add(struct forge__span_list *list, struct forge__packed_span *span);
/* The first one; the list is not empty. */
struct forge__packed_span *forge__span_list_take(struct forge__span_list *list);
/* Moves all of from behind those of list. */
void forge__span_list_move(struct forge__span_list *list, struct forge__span_list *from);
void forge__span_list_free(struct forge__span_list *list);

/* The spans of a call. Belongs to the thread, but to the call while that is in flight. */
struct forge__span_batch {
    struct forge__span_batch *next;          /* waiting or in flight; of the thread */
    struct forge__span_batch *next_answered; /* under the mutex */
    struct forge_span_buffer *buffer;
    struct forge__span_list spans;
    unsigned attempts; /* that ended */
    uint64_t retry_at_ms, give_up_at_ms;
    Forge__V1__IngestSpansResponse *reply; /* NULL: error */
    struct forge_error error;              /* without violations */
};

void forge__span_batch_free(struct forge__span_batch *batch);

/* What the thread found out since it last took the mutex. */
struct forge__span_counts {
    uint64_t accepted, duplicate, rejected, gave_up, calls, failed_calls;
    size_t spans, bytes; /* that left the buffer */
};

struct forge_span_buffer {
    struct forge_channel *channel;
    struct forge_span_buffer_options options; /* with the defaults filled in; nothing behind its pointers but user */
    size_t batch_bytes;
    Forge__V1__IngestSpansRequest *head; /* project, resource and scope; owned */
    pthread_t thread;

    /* Of the thread. */
    struct forge__span_list pending; /* not yet in a batch */
    struct forge__span_batch *waiting, *in_flight;
    unsigned in_flight_count;
    uint64_t due_sequence; /* up to here no further span is waited for */
    unsigned failures;     /* of calls that found no server, or one with too much to do, since the last one that did better */
    uint64_t paused_until_ms;
    struct forge__span_counts counts;
    ProtobufCMessageUnknownField fields[FORGE__SPANS_PER_CALL_MAX]; /* of the call being started */

    pthread_mutex_t mutex; /* guards the rest; held for a few instructions, and never while anything else is called */
    pthread_cond_t work;   /* is_woken */
    pthread_cond_t settled;
    unsigned refs; /* the owner, and calls in flight */
    bool is_closed;
    bool is_woken;
    size_t wake_spans, wake_bytes; /* so many in incoming wake the thread */
    struct forge__span_list incoming;
    uint64_t last_sequence;
    uint64_t flush_sequence;  /* the greatest that somebody waits for */
    uint64_t oldest_sequence; /* all before it are counted */
    struct forge__span_batch *answered;
    struct forge_span_buffer_stats stats; /* spans and bytes: in the buffer, those that are being packed included */
};

/* Wakes the thread. Under the mutex. */
void forge__span_buffer_wake(struct forge_span_buffer *buffer);
/* Under the mutex, which it releases; frees the buffer with the last reference. */
void forge__span_buffer_unref(struct forge_span_buffer *buffer);
/* What the thread runs. */
void *forge__span_buffer_main(void *buffer);

#endif
