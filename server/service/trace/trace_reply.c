#include "service/trace/trace_reply.h"

#include "service/reply.h"
#include "wire/envelope.h"
#include "wire/json.h"

#include <string.h>

enum {
    NANOSECONDS = 1000000000,
    TAG_BYTES = 8,     /* of an item in its list: number and length */
    TOKEN_BYTES = 2048 /* for the page's token and for what is around its items */
};

Google__Protobuf__Timestamp *trace_time(struct rpc_call *call, int64_t unix_ns)
{
    Google__Protobuf__Timestamp *time = reply_message(call, &google__protobuf__timestamp__descriptor);
    if (time == NULL)
        return NULL;
    time->seconds = unix_ns / NANOSECONDS;
    time->nanos = (int32_t)(unix_ns % NANOSECONDS);
    return time;
}

static char *hex_or_empty(struct rpc_call *call, const struct db_row *row, const char *column)
{
    size_t size = 0;
    const uint8_t *bytes = db_row_bytes(row, column, &size);
    return reply_hex(call, bytes, bytes != NULL ? size : 0);
}

static char *uuid_or_empty(struct rpc_call *call, const struct db_row *row, const char *column)
{
    return db_row_is_null(row, column) ? forge_arena_strdup(call->arena, "") : db_row_uuid_text(row, column);
}

/* --- spans ----------------------------------------------------------------------------------------------------------- */

/* Not set where nothing was used: what was sent as zeros is the same. */
static Forge__V1__TokenUsage *usage_of(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__TokenUsage *usage = reply_usage(call, row);
    bool is_used = usage != NULL && (usage->input_tokens | usage->cache_read_tokens | usage->cache_write_tokens | usage->output_tokens |
                                     usage->reasoning_tokens) != 0;
    return is_used ? usage : NULL;
}

static Google__Protobuf__Int64Value *cost_of(struct rpc_call *call, const struct db_row *row)
{
    Google__Protobuf__Int64Value *cost = NULL;
    if (!db_row_is_null(row, "cost_micros"))
        cost = reply_message(call, &google__protobuf__int64_value__descriptor);
    if (cost != NULL)
        cost->value = db_row_int64(row, "cost_micros");
    return cost;
}

/* A span with only what no column holds; NULL where the call fails, with *out_rc. */
static Forge__V1__Span *details_read(struct rpc_call *call, const struct db_row *row, forge_code *out_rc)
{
    /* What a span of 1 MiB may need is bounded by the call's arena. */
    static const struct forge_message_limits limits = {.decoded_max = 64 << 20, .depth_max = 8};
    size_t size = 0;
    ProtobufCMessage *message;
    struct forge_error error = {0};
    const uint8_t *details = db_row_is_null(row, "details") ? (const uint8_t *)"" : db_row_bytes(row, "details", &size);
    forge_code rc = details == NULL
                        ? FORGE_RESOURCE_EXHAUSTED
                        : forge_message_unpack(&forge__v1__span__descriptor, details, size, &limits, call->arena, &message, &error);
    if (rc == FORGE_OK)
        return (Forge__V1__Span *)message;
    *out_rc = rc == FORGE_RESOURCE_EXHAUSTED ? rpc_call_fail(call, rc, "the spans need too much memory")
                                             : rpc_call_fail(call, FORGE_DATA_LOSS, "the stored attributes of a span cannot be read");
    return NULL;
}

static void identity_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Span *out)
{
    out->trace_id = hex_or_empty(call, row, "trace_id");
    out->span_id = hex_or_empty(call, row, "span_id");
    out->parent_span_id = hex_or_empty(call, row, "parent_span_id");
    out->name = db_row_text(row, "name");
    out->kind = (Forge__V1__SpanKind)db_row_int32(row, "kind");
    out->start_ns = db_row_int64(row, "start_ns");
    out->end_ns = db_row_int64(row, "end_ns");
    out->status = (Forge__V1__SpanStatus)db_row_int32(row, "status");
    out->status_message = db_row_text_or_empty(row, "status_message");
}

static void use_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Span *out)
{
    out->provider = db_row_text_or_empty(row, "provider");
    out->model = db_row_text_or_empty(row, "model");
    out->model_id = uuid_or_empty(call, row, "model_id");
    out->parameters = db_row_text_or_empty(row, "parameters");
    out->usage = usage_of(call, row);
    out->cost_micros = cost_of(call, row);
    out->price_id = uuid_or_empty(call, row, "price_id");
    out->time_to_first_token_us = db_row_int64(row, "time_to_first_token_us");
    out->prompt_id = uuid_or_empty(call, row, "prompt_id");
    out->prompt_version = db_row_int32(row, "prompt_version");
    out->prompt_label = db_row_text_or_empty(row, "prompt_label");
}

forge_code trace_span_reply(struct rpc_call *call, const struct db_row *row, Forge__V1__Span **out)
{
    forge_code rc = FORGE_OK;
    Forge__V1__Span *span = details_read(call, row, &rc);
    if (span == NULL)
        return rc;
    identity_from_row(call, row, span);
    use_from_row(call, row, span);
    span->session_id = db_row_text_or_empty(row, "session_id");
    span->user_id = db_row_text_or_empty(row, "user_id");
    span->input = db_row_text_or_empty(row, "input");
    span->output = db_row_text_or_empty(row, "output");
    span->policy_action = (Forge__V1__PolicyAction)db_row_int32(row, "policy_action");
    span->ingest_time = reply_time(call, row, "ingested_at");
    *out = span;
    return FORGE_OK;
}

/* --- traces ---------------------------------------------------------------------------------------------------------- */

static forge_code used_read(struct rpc_call *call, const struct db_row *row, Forge__V1__Trace *out)
{
    ProtobufCMessage *message;
    struct forge_error error = {0};
    const char *json = db_row_text(row, "used");
    forge_code rc = json == NULL ? FORGE_RESOURCE_EXHAUSTED
                                 : forge_json_to_message(json, strlen(json), &forge__v1__trace__descriptor, call->arena, &message, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the traces need too much memory");
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored models and prompts of a trace cannot be read");
    const Forge__V1__Trace *used = (const Forge__V1__Trace *)message;
    out->n_models = used->n_models;
    out->models = used->models;
    out->n_prompts = used->n_prompts;
    out->prompts = used->prompts;
    return FORGE_OK;
}

forge_code trace_reply(struct rpc_call *call, const struct db_row *row, Forge__V1__Trace **out)
{
    Forge__V1__Trace *trace = reply_message(call, &forge__v1__trace__descriptor);
    if (trace == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the traces need too much memory");
    trace->project_id = db_row_uuid_text(row, "project_id");
    trace->trace_id = hex_or_empty(call, row, "trace_id");
    trace->name = db_row_text_or_empty(row, "name");
    trace->root_span_id = hex_or_empty(call, row, "root_span_id");
    trace->status = (Forge__V1__SpanStatus)db_row_int32(row, "status");
    trace->start_ns = db_row_int64(row, "start_ns");
    trace->end_ns = db_row_int64(row, "end_ns");
    trace->start_time = trace_time(call, trace->start_ns);
    trace->end_time = trace_time(call, trace->end_ns);
    trace->duration_ns = trace->end_ns - trace->start_ns;
    trace->span_count = db_row_int64(row, "span_count");
    trace->error_count = db_row_int64(row, "error_count");
    trace->usage = reply_usage(call, row);
    trace->cost_micros = db_row_int64(row, "cost_micros");
    trace->session_id = db_row_text_or_empty(row, "session_id");
    trace->user_id = db_row_text_or_empty(row, "user_id");
    trace->input = db_row_text_or_empty(row, "input");
    trace->output = db_row_text_or_empty(row, "output");
    *out = trace;
    return used_read(call, row, trace);
}

/* --- pages ----------------------------------------------------------------------------------------------------------- */

struct db_bytes trace_filter(struct rpc_call *call, const ProtobufCMessage *request)
{
    size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = forge_arena_alloc(call->arena, size);
    if (bytes == NULL)
        return (struct db_bytes){0}; /* rpc sees the overflow */
    protobuf_c_message_pack(request, bytes);
    return (struct db_bytes){bytes, size};
}

size_t trace_page_room(const struct rpc_call *call)
{
    size_t reply_max = rpc_call_reply_max(call);
    return reply_max > TOKEN_BYTES ? reply_max - TOKEN_BYTES : 0;
}

bool trace_page_takes(size_t item_count, const ProtobufCMessage *item, size_t *left)
{
    size_t size = protobuf_c_message_get_packed_size(item) + TAG_BYTES;
    bool fits = size <= *left;
    *left -= fits ? size : *left;
    return fits || item_count == 0;
}
