/* Rows of traces and spans as messages, the reverse of span_map.c and span_pack.c. Private to the trace service. */
#ifndef SERVER_SERVICE_TRACE_TRACE_REPLY_H
#define SERVER_SERVICE_TRACE_TRACE_REPLY_H

#include "service/trace/span.h"

/* From the columns of spans; input, output and details (NULL: left out) hold what only the full view shows. */
forge_code trace_span_reply(struct rpc_call *call, const struct db_row *row, Forge__V1__Span **out) FORGE_MUST_CHECK;
/* From the figures of a trace under the names of the columns of traces, and used: {"models": [...], "prompts": [...]}. */
forge_code trace_reply(struct rpc_call *call, const struct db_row *row, Forge__V1__Trace **out) FORGE_MUST_CHECK;
/* Nanoseconds since 1970 as a time. */
Google__Protobuf__Timestamp *trace_time(struct rpc_call *call, int64_t unix_ns);

/* What identifies the query of a page token: a request without its page fields. */
struct db_bytes trace_filter(struct rpc_call *call, const ProtobufCMessage *request);
/* Bytes of this call's reply that the items of a page may have. */
size_t trace_page_room(const struct rpc_call *call);
/* May this item be on the page too? left: bytes of the page's room, which it takes its own from. The first item always may: what is too
 * large alone rpc refuses. */
bool trace_page_takes(size_t item_count, const ProtobufCMessage *item, size_t *left);

#endif
