/* TraceService: what a span may hold. */
#include "service/trace/span.h"

#include "service/validate.h"
#include "text/json_object.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    STATUS_MESSAGE_CHARACTERS_MAX = 4096,
    SPAN_ATTRIBUTES_MAX = 256,
    ATTRIBUTES_MAX = 128, /* of anything else */
    EVENTS_MAX = 128,
    LINKS_MAX = 128,
    KEY_BYTES_MAX = 255,
    URL_BYTES_MAX = 255,
    TRACE_STATE_BYTES_MAX = 512,
    CONTENT_BYTES_MAX = 512 << 10,
    PARAMETERS_BYTES_MAX = 64 << 10,
    PROVIDER_CHARACTERS_MAX = 64,
    LABEL_CHARACTERS_MAX = 64,
    OTEL_SPAN_KIND_MAX = 5,
    FIELD_SIZE = 96
};
/* A trace of the most spans adds them up within an int64. */
static const int64_t tokens_max = INT64_C(1000000000000), cost_micros_max = INT64_C(10000000000000);

/* --- pieces. prefix: of the field's path, such as "events[2]."; paths are made only where something is wrong. -------------- */

static void note(struct rpc_call *call, const char *prefix, const char *field, const char *description)
{
    const char *path = forge_arena_printf(call->arena, "%s%s", prefix, field);
    if (path != NULL) /* else rpc sees the overflow */
        rpc_call_violation(call, path, "%s", description);
}

static void note_at(struct rpc_call *call, const char *prefix, size_t index, const char *field, const char *description)
{
    char path[FIELD_SIZE];
    snprintf(path, sizeof path, "attributes[%zu].%s", index, field);
    note(call, prefix, path, description);
}

static bool is_hex_id(const char *text, size_t bytes)
{
    return strlen(text) == 2 * bytes && strspn(text, "0123456789abcdefABCDEF") == 2 * bytes && strspn(text, "0") != 2 * bytes;
}

void trace_id_check(struct rpc_call *call, const char *prefix, const char *text)
{
    if (!is_hex_id(text, TRACE_ID_BYTES))
        note(call, prefix, "trace_id", text[0] == '\0' ? "is required" : "must be 32 hexadecimal digits, not all zero");
}

static void span_id_check(struct rpc_call *call, const char *prefix, const char *field, const char *text)
{
    if (!is_hex_id(text, TRACE_SPAN_ID_BYTES))
        note(call, prefix, field, text[0] == '\0' ? "is required" : "must be 16 hexadecimal digits, not all zero");
}

void trace_span_id_check(struct rpc_call *call, const char *prefix, const char *text)
{
    span_id_check(call, prefix, "span_id", text);
}

static void not_negative(struct rpc_call *call, const char *prefix, const char *field, int64_t number)
{
    if (number < 0)
        note(call, prefix, field, "must be 0 or more");
}

static void characters_check(struct rpc_call *call, const char *prefix, const char *field, const char *text)
{
    if (validate_characters(text) > TRACE_NAME_CHARACTERS_MAX)
        note(call, prefix, field, "must be at most 255 characters");
}

static void name_check(struct rpc_call *call, const char *prefix, const char *name)
{
    if (name[0] == '\0')
        note(call, prefix, "name", "is required");
    characters_check(call, prefix, "name", name);
}

static void attributes_check(struct rpc_call *call, const char *prefix, Forge__V1__Attribute *const *attributes, size_t count,
                             size_t count_max)
{
    if (count > count_max) {
        char description[FIELD_SIZE];
        snprintf(description, sizeof description, "must be at most %zu", count_max);
        note(call, prefix, "attributes", description);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const Forge__V1__Attribute *attribute = attributes[i];
        size_t key = strlen(attribute->key);
        if (key == 0 || key > KEY_BYTES_MAX)
            note_at(call, prefix, i, "key", "must be 1 to 255 bytes");
        if (attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE__NOT_SET)
            note_at(call, prefix, i, "value", "is required");
        if (attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_JSON_VALUE &&
            !text_json_is_value(attribute->json_value, strlen(attribute->json_value)))
            note_at(call, prefix, i, "json_value", "must be a JSON value");
    }
}

static void schema_url_check(struct rpc_call *call, const char *prefix, const char *url)
{
    if (strlen(url) > URL_BYTES_MAX)
        note(call, prefix, "schema_url", "must be at most 255 bytes");
}

static void trace_state_check(struct rpc_call *call, const char *prefix, const char *state)
{
    if (strlen(state) > TRACE_STATE_BYTES_MAX)
        note(call, prefix, "trace_state", "must be at most 512 bytes");
}

static void resource_check(struct rpc_call *call, const Forge__V1__Resource *resource)
{
    attributes_check(call, "resource.", resource->attributes, resource->n_attributes, ATTRIBUTES_MAX);
    not_negative(call, "resource.", "dropped_attribute_count", resource->dropped_attribute_count);
    schema_url_check(call, "resource.", resource->schema_url);
}

static void scope_check(struct rpc_call *call, const Forge__V1__InstrumentationScope *scope)
{
    characters_check(call, "scope.", "name", scope->name);
    characters_check(call, "scope.", "version", scope->version);
    attributes_check(call, "scope.", scope->attributes, scope->n_attributes, ATTRIBUTES_MAX);
    not_negative(call, "scope.", "dropped_attribute_count", scope->dropped_attribute_count);
    schema_url_check(call, "scope.", scope->schema_url);
}

static void events_check(struct rpc_call *call, const Forge__V1__Span *in)
{
    if (in->n_events > EVENTS_MAX)
        rpc_call_violation(call, "events", "must be at most %d", EVENTS_MAX);
    for (size_t i = 0; i < in->n_events && i < EVENTS_MAX; i++) {
        const Forge__V1__SpanEvent *event = in->events[i];
        char prefix[FIELD_SIZE];
        snprintf(prefix, sizeof prefix, "events[%zu].", i);
        not_negative(call, prefix, "time_ns", event->time_ns);
        name_check(call, prefix, event->name);
        attributes_check(call, prefix, event->attributes, event->n_attributes, ATTRIBUTES_MAX);
        not_negative(call, prefix, "dropped_attribute_count", event->dropped_attribute_count);
    }
}

static void links_check(struct rpc_call *call, const Forge__V1__Span *in)
{
    if (in->n_links > LINKS_MAX)
        rpc_call_violation(call, "links", "must be at most %d", LINKS_MAX);
    for (size_t i = 0; i < in->n_links && i < LINKS_MAX; i++) {
        const Forge__V1__SpanLink *link = in->links[i];
        char prefix[FIELD_SIZE];
        snprintf(prefix, sizeof prefix, "links[%zu].", i);
        trace_id_check(call, prefix, link->trace_id);
        trace_span_id_check(call, prefix, link->span_id);
        trace_state_check(call, prefix, link->trace_state);
        attributes_check(call, prefix, link->attributes, link->n_attributes, ATTRIBUTES_MAX);
        not_negative(call, prefix, "dropped_attribute_count", link->dropped_attribute_count);
    }
}

/* --- the span ------------------------------------------------------------------------------------------------------- */

static void identity_check(struct rpc_call *call, const Forge__V1__Span *in)
{
    trace_id_check(call, "", in->trace_id);
    trace_span_id_check(call, "", in->span_id);
    if (in->parent_span_id[0] != '\0')
        span_id_check(call, "", "parent_span_id", in->parent_span_id);
    name_check(call, "", in->name);
    if (in->start_ns <= 0)
        rpc_call_violation(call, "start_ns", in->start_ns == 0 ? "is required" : "must be nanoseconds since 1970");
    if (in->end_ns < in->start_ns)
        rpc_call_violation(call, "end_ns", in->end_ns == 0 ? "is required" : "must not be before start_ns");
}

static void enums_check(struct rpc_call *call, const Forge__V1__Span *in)
{
    if (protobuf_c_enum_descriptor_get_value(&forge__v1__span_kind__descriptor, (int)in->kind) == NULL)
        rpc_call_violation(call, "kind", "must be a SpanKind");
    if (protobuf_c_enum_descriptor_get_value(&forge__v1__span_status__descriptor, (int)in->status) == NULL)
        rpc_call_violation(call, "status", "must be a SpanStatus");
    if (in->otel_span_kind < 0 || in->otel_span_kind > OTEL_SPAN_KIND_MAX)
        rpc_call_violation(call, "otel_span_kind", "must be 0 to %d", OTEL_SPAN_KIND_MAX);
}

static void tokens_check(struct rpc_call *call, const char *field, int64_t tokens)
{
    char path[FIELD_SIZE];
    snprintf(path, sizeof path, "usage.%s", field);
    if (tokens < 0 || tokens > tokens_max)
        rpc_call_violation(call, path, "must be 0 to %" PRId64, tokens_max);
}

static void figures_check(struct rpc_call *call, const Forge__V1__Span *in)
{
    if (in->usage != NULL) {
        tokens_check(call, "input_tokens", in->usage->input_tokens);
        tokens_check(call, "cache_read_tokens", in->usage->cache_read_tokens);
        tokens_check(call, "cache_write_tokens", in->usage->cache_write_tokens);
        tokens_check(call, "output_tokens", in->usage->output_tokens);
        tokens_check(call, "reasoning_tokens", in->usage->reasoning_tokens);
    }
    if (in->cost_micros != NULL && (in->cost_micros->value < 0 || in->cost_micros->value > cost_micros_max))
        rpc_call_violation(call, "cost_micros", "must be 0 to %" PRId64, cost_micros_max);
    not_negative(call, "", "time_to_first_token_us", in->time_to_first_token_us);
    not_negative(call, "", "prompt_version", in->prompt_version);
    not_negative(call, "", "flags", in->flags);
    not_negative(call, "", "dropped_attribute_count", in->dropped_attribute_count);
    not_negative(call, "", "dropped_event_count", in->dropped_event_count);
    not_negative(call, "", "dropped_link_count", in->dropped_link_count);
}

void trace_span_check(struct rpc_call *call, const Forge__V1__Span *in)
{
    identity_check(call, in);
    enums_check(call, in);
    figures_check(call, in);
    validate_text(call, "status_message", in->status_message, STATUS_MESSAGE_CHARACTERS_MAX);
    trace_state_check(call, "", in->trace_state);
    attributes_check(call, "", in->attributes, in->n_attributes, SPAN_ATTRIBUTES_MAX);
    events_check(call, in);
    links_check(call, in);
    if (in->resource != NULL)
        resource_check(call, in->resource);
    if (in->scope != NULL)
        scope_check(call, in->scope);
}

void trace_columns_check(struct rpc_call *call, const struct trace_span *span)
{
    const struct {
        const char *field, *text;
        size_t characters_max;
    } texts[] = {{"provider", span->provider, PROVIDER_CHARACTERS_MAX},
                 {"model", span->model, TRACE_NAME_CHARACTERS_MAX},
                 {"prompt_label", span->prompt_label, LABEL_CHARACTERS_MAX},
                 {"session_id", span->session_id, TRACE_NAME_CHARACTERS_MAX},
                 {"user_id", span->user_id, TRACE_NAME_CHARACTERS_MAX}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].text != NULL)
            validate_text(call, texts[i].field, texts[i].text, texts[i].characters_max);
    if (span->input != NULL)
        validate_bytes(call, "input", span->input, CONTENT_BYTES_MAX);
    if (span->output != NULL)
        validate_bytes(call, "output", span->output, CONTENT_BYTES_MAX);
    if (span->parameters != NULL && validate_bytes(call, "parameters", span->parameters, PARAMETERS_BYTES_MAX) &&
        !text_json_is_object(span->parameters, strlen(span->parameters)))
        rpc_call_violation(call, "parameters", "must be a JSON object, each member once");
}

void trace_defaults_check(struct rpc_call *call, const Forge__V1__IngestSpansRequest *in, struct trace_defaults *out)
{
    const struct forge_uuid *bound = auth_principal_bound_project(&call->principal);
    *out = (struct trace_defaults){.resource = in->resource, .scope = in->scope};
    if (in->project_id[0] == '\0' && bound != NULL)
        out->project_id = *bound;
    else
        validate_uuid(call, "project_id", in->project_id, &out->project_id);
    if (in->resource != NULL)
        resource_check(call, in->resource);
    if (in->scope != NULL)
        scope_check(call, in->scope);
}
