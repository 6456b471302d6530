/* TraceService: what policies take out of a span besides its input and output. Instrumentation writes the same texts into attributes and
 * events under many names, and providers quote them in errors, so names alone do not tell where they are. */
#include "service/trace/span.h"

#include "text/json_object.h"

#include <stdlib.h>
#include <string.h>

/* --- copies that may be changed -------------------------------------------------------------------------------------- */

static Forge__V1__Attribute **attributes_copy(struct rpc_call *call, Forge__V1__Attribute *const *from, size_t count)
{
    Forge__V1__Attribute **list = forge_arena_calloc(call->arena, count + 1, sizeof(Forge__V1__Attribute *)),
                         *attributes = forge_arena_calloc(call->arena, count + 1, sizeof *attributes);
    for (size_t i = 0; list != NULL && attributes != NULL && i < count; i++) {
        attributes[i] = *from[i];
        list[i] = &attributes[i];
    }
    return list;
}

static bool events_copy(struct rpc_call *call, Forge__V1__Span *span)
{
    Forge__V1__SpanEvent **list = forge_arena_calloc(call->arena, span->n_events + 1, sizeof(Forge__V1__SpanEvent *)),
                         *events = forge_arena_calloc(call->arena, span->n_events + 1, sizeof *events);
    for (size_t i = 0; list != NULL && events != NULL && i < span->n_events; i++) {
        events[i] = *span->events[i];
        events[i].attributes = attributes_copy(call, events[i].attributes, events[i].n_attributes);
        list[i] = &events[i];
    }
    span->events = list;
    return !forge_arena_has_overflowed(call->arena);
}

static bool links_copy(struct rpc_call *call, Forge__V1__Span *span)
{
    Forge__V1__SpanLink **list = forge_arena_calloc(call->arena, span->n_links + 1, sizeof(Forge__V1__SpanLink *)),
                        *links = forge_arena_calloc(call->arena, span->n_links + 1, sizeof *links);
    for (size_t i = 0; list != NULL && links != NULL && i < span->n_links; i++) {
        links[i] = *span->links[i];
        links[i].attributes = attributes_copy(call, links[i].attributes, links[i].n_attributes);
        list[i] = &links[i];
    }
    span->links = list;
    return !forge_arena_has_overflowed(call->arena);
}

/* --- blocked --------------------------------------------------------------------------------------------------------- */

static int compare_key(const void *key, const void *name)
{
    return strcmp(key, *(const char *const *)name);
}

/* Numbers hold no text; of texts the ids and names of the operation stay. */
static bool is_harmless(const Forge__V1__Attribute *attribute)
{
    static const char *const keys[] = {"enduser.id",
                                       "error.type",
                                       "forge.prompt.id",
                                       "forge.prompt.label",
                                       "gen_ai.agent.id",
                                       "gen_ai.agent.name",
                                       "gen_ai.conversation.id",
                                       "gen_ai.operation.name",
                                       "gen_ai.provider.name",
                                       "gen_ai.request.model",
                                       "gen_ai.response.id",
                                       "gen_ai.response.model",
                                       "gen_ai.system",
                                       "gen_ai.tool.name",
                                       "openinference.span.kind",
                                       "session.id",
                                       "user.id"}; /* in the order of bsearch() */
    if (attribute->value_case != FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE &&
        attribute->value_case != FORGE__V1__ATTRIBUTE__VALUE_JSON_VALUE)
        return true;
    return attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE &&
           bsearch(attribute->key, keys, sizeof keys / sizeof keys[0], sizeof keys[0], compare_key) != NULL;
}

static size_t attributes_keep_harmless(Forge__V1__Attribute **attributes, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (is_harmless(attributes[i]))
            attributes[kept++] = attributes[i];
    return kept;
}

void trace_span_remove_content(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults,
                               struct trace_span *span)
{
    Forge__V1__Span rest = *in;
    span->input = span->output = span->parameters = span->status_message = NULL;
    rest.n_events = 0;
    rest.attributes = attributes_copy(call, in->attributes, in->n_attributes);
    if (!links_copy(call, &rest))
        return; /* rpc sees the overflow */
    rest.n_attributes = attributes_keep_harmless(rest.attributes, rest.n_attributes);
    for (size_t i = 0; i < rest.n_links; i++)
        rest.links[i]->n_attributes = attributes_keep_harmless(rest.links[i]->attributes, rest.links[i]->n_attributes);
    trace_details_pack(call, &rest, defaults, span);
}

/* --- masked ---------------------------------------------------------------------------------------------------------- */

/* A text of the span: where it stands, and the attribute it is the value of (NULL: of none). */
struct place {
    char **text; /* nothing is written through it */
    Forge__V1__Attribute *attribute;
};
struct places {
    struct place *list;
    size_t count;
};

static size_t texts_most(const Forge__V1__Span *span)
{
    size_t most = 2 + span->n_attributes;
    for (size_t i = 0; i < span->n_events; i++)
        most += 1 + span->events[i]->n_attributes;
    for (size_t i = 0; i < span->n_links; i++)
        most += span->links[i]->n_attributes;
    return most;
}

static void place_add(struct places *places, char **text, Forge__V1__Attribute *attribute)
{
    if (*text != NULL && (*text)[0] != '\0')
        places->list[places->count++] = (struct place){text, attribute};
}

static void places_of_attributes(struct places *places, Forge__V1__Attribute *const *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!is_harmless(attributes[i]))
            place_add(places, &attributes[i]->string_value, attributes[i]); /* where json_value stands too */
}

static void places_find(struct trace_span *span, const Forge__V1__Span *rest, struct places *places)
{
    place_add(places, (char **)(uintptr_t)&span->status_message, NULL);
    place_add(places, (char **)(uintptr_t)&span->parameters, NULL);
    places_of_attributes(places, rest->attributes, rest->n_attributes);
    for (size_t i = 0; i < rest->n_events; i++) {
        place_add(places, &rest->events[i]->name, NULL);
        places_of_attributes(places, rest->events[i]->attributes, rest->events[i]->n_attributes);
    }
    for (size_t i = 0; i < rest->n_links; i++)
        places_of_attributes(places, rest->links[i]->attributes, rest->links[i]->n_attributes);
}

/* What a text of this stage would be masked to, in each place. */
static forge_code mask_as(struct policy_review *review, Forge__V1__PolicyStage stage, const struct places *places)
{
    struct rpc_call *call = review->call;
    struct policy_text *texts = forge_arena_calloc(call->arena, places->count + 1, sizeof *texts);
    struct policy_decision decision;
    if (texts == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    for (size_t i = 0; i < places->count; i++)
        texts[i] = (struct policy_text){stage, *places->list[i].text, strlen(*places->list[i].text)};
    const struct policy_subject subject = {.texts = texts, .text_count = places->count};
    forge_code rc = policy_review_decide(review, &subject, &decision);
    for (size_t i = 0; rc == FORGE_OK && i < places->count; i++)
        if (decision.masked[i] != NULL)
            *places->list[i].text = (char *)(uintptr_t)decision.masked[i];
    return rc;
}

/* A mask may have cut through JSON. */
static void settle(struct trace_span *span, const struct places *places)
{
    for (size_t i = 0; i < places->count; i++) {
        Forge__V1__Attribute *attribute = places->list[i].attribute;
        if (attribute != NULL && attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_JSON_VALUE &&
            !text_json_is_value(attribute->json_value, strlen(attribute->json_value)))
            attribute->value_case = FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE;
    }
    if (span->parameters != NULL && !text_json_is_object(span->parameters, strlen(span->parameters)))
        span->parameters = NULL;
}

forge_code trace_span_mask_content(struct policy_review *review, const Forge__V1__Span *in, const struct trace_defaults *defaults,
                                   struct trace_span *span)
{
    struct rpc_call *call = review->call;
    Forge__V1__Span rest = *in;
    struct places places = {.list = forge_arena_calloc(call->arena, texts_most(in), sizeof *places.list)};
    rest.attributes = attributes_copy(call, in->attributes, in->n_attributes);
    if (places.list == NULL || !events_copy(call, &rest) || !links_copy(call, &rest))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    places_find(span, &rest, &places);
    forge_code rc = mask_as(review, FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT, &places);
    if (rc == FORGE_OK)
        rc = mask_as(review, FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, &places);
    if (rc != FORGE_OK)
        return rc;
    settle(span, &places);
    trace_details_pack(call, &rest, defaults, span);
    return FORGE_OK;
}
