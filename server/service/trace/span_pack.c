/* TraceService: the bytes of a span that are compared and kept. */
#include "service/trace/span.h"

#include "service/reply.h"

#include <ctype.h>
#include <string.h>

enum { SPAN_BYTES_MAX = 1 << 20 };

/* --- one form for every spelling ------------------------------------------------------------------------------------- */

/* A copy in the order of the keys, the last of several only. Insertion: the lists are short and mostly in order already. */
static Forge__V1__Attribute **attributes_ordered(struct rpc_call *call, Forge__V1__Attribute *const *from, size_t *count)
{
    Forge__V1__Attribute **list = forge_arena_calloc(call->arena, *count, sizeof(Forge__V1__Attribute *));
    size_t used = 0;
    for (size_t i = 0; list != NULL && i < *count; i++) {
        size_t at = used;
        while (at > 0 && strcmp(list[at - 1]->key, from[i]->key) > 0)
            at--;
        if (at > 0 && strcmp(list[at - 1]->key, from[i]->key) == 0) {
            list[at - 1] = from[i];
            continue;
        }
        memmove(list + at + 1, list + at, (used - at) * sizeof list[0]);
        list[at] = from[i];
        used++;
    }
    *count = used;
    return list;
}

static void events_order(struct rpc_call *call, Forge__V1__Span *span)
{
    Forge__V1__SpanEvent **list = forge_arena_calloc(call->arena, span->n_events, sizeof(Forge__V1__SpanEvent *)),
                         *events = forge_arena_calloc(call->arena, span->n_events, sizeof *events);
    for (size_t i = 0; list != NULL && events != NULL && i < span->n_events; i++) {
        events[i] = *span->events[i];
        events[i].attributes = attributes_ordered(call, events[i].attributes, &events[i].n_attributes);
        list[i] = &events[i];
    }
    span->events = list;
}

static char *lower_case(struct rpc_call *call, const char *digits)
{
    char *copy = forge_arena_strdup(call->arena, digits);
    for (char *c = copy; c != NULL && *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

static void links_order(struct rpc_call *call, Forge__V1__Span *span)
{
    Forge__V1__SpanLink **list = forge_arena_calloc(call->arena, span->n_links, sizeof(Forge__V1__SpanLink *)),
                        *links = forge_arena_calloc(call->arena, span->n_links, sizeof *links);
    for (size_t i = 0; list != NULL && links != NULL && i < span->n_links; i++) {
        links[i] = *span->links[i];
        links[i].trace_id = lower_case(call, links[i].trace_id);
        links[i].span_id = lower_case(call, links[i].span_id);
        links[i].attributes = attributes_ordered(call, links[i].attributes, &links[i].n_attributes);
        list[i] = &links[i];
    }
    span->links = list;
}

static Forge__V1__Resource *resource_ordered(struct rpc_call *call, const Forge__V1__Resource *from)
{
    Forge__V1__Resource *resource = forge_arena_memdup(call->arena, from, sizeof *from);
    if (resource != NULL)
        resource->attributes = attributes_ordered(call, from->attributes, &resource->n_attributes);
    return resource;
}

static Forge__V1__InstrumentationScope *scope_ordered(struct rpc_call *call, const Forge__V1__InstrumentationScope *from)
{
    Forge__V1__InstrumentationScope *scope = forge_arena_memdup(call->arena, from, sizeof *from);
    if (scope != NULL)
        scope->attributes = attributes_ordered(call, from->attributes, &scope->n_attributes);
    return scope;
}

/* What no column holds. */
static Forge__V1__Span details_of(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults)
{
    const Forge__V1__Resource *resource = in->resource != NULL ? in->resource : defaults->resource;
    const Forge__V1__InstrumentationScope *scope = in->scope != NULL ? in->scope : defaults->scope;
    Forge__V1__Span details = FORGE__V1__SPAN__INIT;
    details.n_attributes = in->n_attributes;
    details.attributes = attributes_ordered(call, in->attributes, &details.n_attributes);
    details.n_events = in->n_events;
    details.events = in->events;
    if (in->n_events > 0)
        events_order(call, &details);
    details.n_links = in->n_links;
    details.links = in->links;
    if (in->n_links > 0)
        links_order(call, &details);
    details.resource = resource != NULL ? resource_ordered(call, resource) : NULL;
    details.scope = scope != NULL ? scope_ordered(call, scope) : NULL;
    details.trace_state = in->trace_state;
    details.flags = in->flags;
    details.otel_span_kind = in->otel_span_kind;
    details.dropped_attribute_count = in->dropped_attribute_count;
    details.dropped_event_count = in->dropped_event_count;
    details.dropped_link_count = in->dropped_link_count;
    return details;
}

/* What columns are made of. */
static Forge__V1__Span fields_of(struct rpc_call *call, const Forge__V1__Span *in)
{
    Forge__V1__Span fields = FORGE__V1__SPAN__INIT;
    fields.trace_id = lower_case(call, in->trace_id);
    fields.span_id = lower_case(call, in->span_id);
    fields.parent_span_id = lower_case(call, in->parent_span_id);
    fields.name = in->name;
    fields.kind = in->kind;
    fields.start_ns = in->start_ns;
    fields.end_ns = in->end_ns;
    fields.status = in->status;
    fields.status_message = in->status_message;
    fields.input = in->input;
    fields.output = in->output;
    fields.provider = in->provider;
    fields.model = in->model;
    fields.parameters = in->parameters;
    fields.usage = in->usage;
    fields.cost_micros = in->cost_micros;
    fields.time_to_first_token_us = in->time_to_first_token_us;
    fields.prompt_id = lower_case(call, in->prompt_id);
    fields.prompt_version = in->prompt_version;
    fields.prompt_label = in->prompt_label;
    fields.session_id = in->session_id;
    fields.user_id = in->user_id;
    return fields;
}

/* --- bytes ----------------------------------------------------------------------------------------------------------- */

static struct db_bytes pack(struct rpc_call *call, const Forge__V1__Span *span)
{
    size_t size = forge__v1__span__get_packed_size(span);
    uint8_t *bytes = forge_arena_alloc(call->arena, size);
    if (bytes != NULL)
        forge__v1__span__pack(span, bytes);
    return (struct db_bytes){bytes, bytes != NULL ? size : 0};
}

void trace_details_pack(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults, struct trace_span *out)
{
    const Forge__V1__Span details = details_of(call, in, defaults);
    if (!forge_arena_has_overflowed(call->arena)) /* else rpc sees it */
        out->details = pack(call, &details);
}

void trace_span_pack(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults, struct trace_span *out)
{
    const Forge__V1__Span details = details_of(call, in, defaults), fields = fields_of(call, in);
    uint8_t *hash = forge_arena_alloc(call->arena, FORGE_SHA256_SIZE);
    if (forge_arena_has_overflowed(call->arena))
        return; /* rpc sees it */
    out->details = pack(call, &details);
    struct db_bytes rest = pack(call, &fields);
    if (forge_arena_has_overflowed(call->arena))
        return;
    out->packed_bytes = out->details.size + rest.size;
    if (out->packed_bytes > SPAN_BYTES_MAX)
        rpc_call_violation(call, "attributes", "the span must be at most %d bytes packed", SPAN_BYTES_MAX);
    /* Fields in two messages, each in the order of its numbers: where one ends is part of what is hashed. */
    uint64_t end = out->details.size;
    uint8_t size[sizeof end];
    for (size_t i = 0; i < sizeof size; i++)
        size[i] = (uint8_t)(end >> (56 - 8 * i));
    struct forge_sha256_state *state = forge_sha256_new();
    forge_sha256_update(state, size, sizeof size);
    forge_sha256_update(state, out->details.data, out->details.size);
    forge_sha256_update(state, rest.data, rest.size);
    forge_sha256_final(state, hash);
    out->content_hash = (struct db_bytes){hash, FORGE_SHA256_SIZE};
}
