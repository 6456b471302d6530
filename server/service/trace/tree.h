/* The order in which the spans of a trace are shown. Pure; private to the trace service. */
#ifndef SERVER_SERVICE_TRACE_TREE_H
#define SERVER_SERVICE_TRACE_TREE_H

#include "service/trace/span.h"

/* What a span is placed by: span_id, parent (zeros: none) and start in nanoseconds, big-endian. */
enum { TRACE_KEY_BYTES = 2 * TRACE_SPAN_ID_BYTES + 8 };

struct trace_node {
    const uint8_t *span_id; /* in its key */
    int64_t start_ns;
    int32_t depth, child_count;
    Forge__V1__SpanPlacement placement;
};

/* Each span before its children, children in the order of the keys: by start, then span_id, each span_id once. Spans whose parent is not
 * there and those that are their own ancestors stand under the first root, or beside each other where there is none. Time and memory grow
 * with the number of spans, however deep they are nested. NULL without memory. */
struct trace_node *trace_tree(struct forge_arena *arena, const uint8_t *keys, size_t count);

#endif
