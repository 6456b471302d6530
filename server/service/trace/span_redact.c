/* TraceService: what policies take out of a span besides its input and output. Instrumentation writes the same texts into attributes and
 * events under many names and escaped, command lines stand in resources, and providers quote them in errors, so names alone do not tell
 * where they are. */
#include "service/trace/span.h"

#include "text/json_escape.h"
#include "text/json_object.h"

#include <stdlib.h>
#include <string.h>

static forge_code no_memory(struct rpc_call *call)
{
    return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
}

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

/* Those of the request where the span has none of its own. */
static bool source_copy(struct rpc_call *call, const struct trace_defaults *defaults, Forge__V1__Span *span)
{
    const Forge__V1__Resource *resource = span->resource != NULL ? span->resource : defaults->resource;
    const Forge__V1__InstrumentationScope *scope = span->scope != NULL ? span->scope : defaults->scope;
    span->resource = resource != NULL ? forge_arena_memdup(call->arena, resource, sizeof *resource) : NULL;
    span->scope = scope != NULL ? forge_arena_memdup(call->arena, scope, sizeof *scope) : NULL;
    if (span->resource != NULL)
        span->resource->attributes = attributes_copy(call, resource->attributes, resource->n_attributes);
    if (span->scope != NULL)
        span->scope->attributes = attributes_copy(call, scope->attributes, scope->n_attributes);
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

/* Of resource and scope what tells of the program and the machine stays; a command line, say, is not among it. */
static bool is_of_source(const Forge__V1__Attribute *attribute)
{
    static const char *const prefixes[] = {"cloud.", "container.", "deployment.",         "device.",          "faas.",    "host.",
                                           "k8s.",   "os.",        "process.executable.", "process.runtime.", "service.", "telemetry."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(attribute->key, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return is_harmless(attribute);
}

static size_t attributes_keep(Forge__V1__Attribute **attributes, size_t count, bool (*stays)(const Forge__V1__Attribute *attribute))
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (stays(attributes[i]))
            attributes[kept++] = attributes[i];
    return kept;
}

/* A span needs a name. It is none of the call's texts as a rule, and goes where a rule that blocks or masks finds something in it. */
static forge_code remove_name(const struct policy_review *review, struct trace_span *span)
{
    const size_t size = strlen(span->name);
    const struct policy_text texts[] = {{FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT, span->name, size},
                                        {FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, span->name, size}};
    const struct policy_subject subject = {.texts = texts, .text_count = sizeof texts / sizeof texts[0]};
    struct policy_decision decision;
    forge_code rc = policy_review_decide(review, &subject, &decision);
    for (size_t i = 0; rc == FORGE_OK && i < decision.finding_count; i++) {
        const struct policy_finding *finding = &decision.findings[i];
        if (finding->range_count > 0 && finding->mode == FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE &&
            finding->action != FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG)
            span->name = "[blocked]";
    }
    return rc;
}

forge_code trace_span_remove_content(const struct policy_review *review, const Forge__V1__Span *in, const struct trace_defaults *defaults,
                                     struct trace_span *span)
{
    struct rpc_call *call = review->call;
    Forge__V1__Span rest = *in;
    span->input = span->output = span->parameters = span->status_message = NULL;
    rest.n_events = 0;
    rest.attributes = attributes_copy(call, in->attributes, in->n_attributes);
    if (!links_copy(call, &rest) || !source_copy(call, defaults, &rest))
        return no_memory(call);
    rest.n_attributes = attributes_keep(rest.attributes, rest.n_attributes, is_harmless);
    for (size_t i = 0; i < rest.n_links; i++)
        rest.links[i]->n_attributes = attributes_keep(rest.links[i]->attributes, rest.links[i]->n_attributes, is_harmless);
    if (rest.resource != NULL)
        rest.resource->n_attributes = attributes_keep(rest.resource->attributes, rest.resource->n_attributes, is_of_source);
    if (rest.scope != NULL)
        rest.scope->n_attributes = attributes_keep(rest.scope->attributes, rest.scope->n_attributes, is_of_source);
    trace_details_pack(call, &rest, defaults, span);
    return remove_name(review, span);
}

/* --- masked ---------------------------------------------------------------------------------------------------------- */

/* A text of the span: where it stands, and the attribute it is the value of (NULL: of none). */
struct place {
    char **text; /* nothing is written through it */
    Forge__V1__Attribute *attribute;
    Forge__V1__PolicyStage stage; /* whose rules look at it; unspecified: of input and output */
};
struct places {
    struct place *list;
    size_t count;
};

static size_t texts_most(const Forge__V1__Span *span)
{
    size_t most = 5 + span->n_attributes;
    for (size_t i = 0; i < span->n_events; i++)
        most += 1 + span->events[i]->n_attributes;
    for (size_t i = 0; i < span->n_links; i++)
        most += span->links[i]->n_attributes;
    most += span->resource != NULL ? span->resource->n_attributes : 0;
    most += span->scope != NULL ? span->scope->n_attributes : 0;
    return most;
}

static void place_add(struct places *places, char **text, Forge__V1__Attribute *attribute)
{
    if (*text != NULL && (*text)[0] != '\0')
        places->list[places->count++] = (struct place){.text = text, .attribute = attribute};
}

static void places_of_attributes(struct places *places, Forge__V1__Attribute *const *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!is_harmless(attributes[i]))
            place_add(places, &attributes[i]->string_value, attributes[i]); /* where json_value stands too */
}

static void place_add_content(struct places *places, const char **text, Forge__V1__PolicyStage stage)
{
    size_t before = places->count;
    place_add(places, (char **)(uintptr_t)text, NULL);
    if (places->count > before)
        places->list[before].stage = stage;
}

static void places_find(struct trace_span *span, const Forge__V1__Span *rest, struct places *places)
{
    place_add_content(places, &span->input, FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT);
    place_add_content(places, &span->output, FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT);
    place_add(places, (char **)(uintptr_t)&span->name, NULL);
    place_add(places, (char **)(uintptr_t)&span->status_message, NULL);
    place_add(places, (char **)(uintptr_t)&span->parameters, NULL);
    places_of_attributes(places, rest->attributes, rest->n_attributes);
    for (size_t i = 0; i < rest->n_events; i++) {
        place_add(places, &rest->events[i]->name, NULL);
        places_of_attributes(places, rest->events[i]->attributes, rest->events[i]->n_attributes);
    }
    for (size_t i = 0; i < rest->n_links; i++)
        places_of_attributes(places, rest->links[i]->attributes, rest->links[i]->n_attributes);
    if (rest->resource != NULL)
        places_of_attributes(places, rest->resource->attributes, rest->resource->n_attributes);
    if (rest->scope != NULL)
        places_of_attributes(places, rest->scope->attributes, rest->scope->n_attributes);
}

/* What a text of this stage is masked to, by place: out has NULL where rules do not look, or mask nothing. from: the texts, by place. */
static forge_code mask_as(const struct policy_review *review, Forge__V1__PolicyStage stage, const struct places *places, char *const *from,
                          char **out)
{
    struct rpc_call *call = review->call;
    struct policy_text *texts = forge_arena_calloc(call->arena, places->count + 1, sizeof *texts);
    size_t *looked_at = forge_arena_calloc(call->arena, places->count + 1, sizeof *looked_at), count = 0;
    struct policy_decision decision;
    if (texts == NULL || looked_at == NULL)
        return no_memory(call);
    for (size_t i = 0; i < places->count; i++) {
        Forge__V1__PolicyStage of = places->list[i].stage;
        out[i] = NULL;
        if (from[i] == NULL || (of != stage && of != FORGE__V1__POLICY_STAGE__POLICY_STAGE_UNSPECIFIED))
            continue;
        looked_at[count] = i;
        texts[count++] = (struct policy_text){stage, from[i], strlen(from[i])};
    }
    const struct policy_subject subject = {.texts = texts, .text_count = count};
    forge_code rc = policy_review_decide(review, &subject, &decision);
    for (size_t i = 0; rc == FORGE_OK && i < count; i++)
        out[looked_at[i]] = (char *)(uintptr_t)decision.masked[i];
    return rc;
}

/* Masks what both stages mask. Where they differ, one works on what the other left; where they do not, the name of a rule that stands in
 * a mask must not be masked again. */
static forge_code mask_as_both(const struct policy_review *review, const struct places *places, char *const *from, char **out)
{
    char **other = forge_arena_calloc(review->call->arena, places->count + 1, sizeof(char *)),
         **differing = forge_arena_calloc(review->call->arena, places->count + 1, sizeof(char *));
    if (other == NULL || differing == NULL)
        return no_memory(review->call);
    forge_code rc = mask_as(review, FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT, places, from, out);
    if (rc == FORGE_OK)
        rc = mask_as(review, FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, places, from, other);
    for (size_t i = 0; rc == FORGE_OK && i < places->count; i++) {
        bool differ = out[i] != NULL && other[i] != NULL && strcmp(out[i], other[i]) != 0;
        differing[i] = differ ? out[i] : NULL;
        out[i] = out[i] != NULL ? out[i] : other[i];
    }
    if (rc == FORGE_OK)
        rc = mask_as(review, FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, places, differing, other);
    for (size_t i = 0; rc == FORGE_OK && i < places->count; i++)
        out[i] = other[i] != NULL ? other[i] : out[i];
    return rc;
}

/* Masks each place. Then what is behind the escapes of JSON, JSON within JSON included: a rule that does not know them would leave there
 * what it masks elsewhere. Where that shows more to mask, the place holds the text without its escapes. */
static forge_code mask_all(const struct policy_review *review, const struct places *places)
{
    enum { ESCAPES_MAX = 4 };
    struct forge_arena *arena = review->call->arena;
    char **plain = forge_arena_calloc(arena, places->count + 1, sizeof(char *)), /* as sent, without the escapes; NULL: seen already */
        **shown = forge_arena_calloc(arena, places->count + 1, sizeof(char *)),  /* as it will be stored, without them */
            **masked = forge_arena_calloc(arena, places->count + 1, sizeof(char *));
    bool any = plain != NULL && shown != NULL && masked != NULL;
    forge_code rc = any ? FORGE_OK : no_memory(review->call);
    for (size_t i = 0; any && i < places->count; i++)
        plain[i] = shown[i] = *places->list[i].text;
    for (int escapes = 0; rc == FORGE_OK && any && escapes <= ESCAPES_MAX; escapes++) {
        rc = mask_as_both(review, places, plain, masked);
        any = false;
        for (size_t i = 0; rc == FORGE_OK && i < places->count; i++) {
            if (masked[i] != NULL && strcmp(masked[i], shown[i]) != 0)
                *places->list[i].text = shown[i] = masked[i];
            plain[i] = plain[i] != NULL ? text_without_escapes(arena, plain[i]) : NULL;
            char *further = plain[i] != NULL ? text_without_escapes(arena, shown[i]) : NULL;
            shown[i] = further != NULL ? further : shown[i];
            any |= plain[i] != NULL;
        }
    }
    return rc;
}

/* A masked name may be too long for its column. */
static void name_cut(struct rpc_call *call, struct trace_span *span)
{
    size_t characters = 0, size = 0;
    while (span->name[size] != '\0') {
        characters += ((unsigned char)span->name[size] & 0xc0) != 0x80;
        if (characters > TRACE_NAME_CHARACTERS_MAX)
            break;
        size++;
    }
    if (span->name[size] != '\0') /* rpc sees an overflow */
        span->name = forge_arena_printf(call->arena, "%.*s", (int)size, span->name);
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

forge_code trace_span_mask_content(const struct policy_review *review, const Forge__V1__Span *in, const struct trace_defaults *defaults,
                                   struct trace_span *span)
{
    struct rpc_call *call = review->call;
    Forge__V1__Span rest = *in;
    rest.attributes = attributes_copy(call, in->attributes, in->n_attributes);
    if (!events_copy(call, &rest) || !links_copy(call, &rest) || !source_copy(call, defaults, &rest))
        return no_memory(call);
    struct places places = {.list = forge_arena_calloc(call->arena, texts_most(&rest), sizeof *places.list)};
    if (places.list == NULL)
        return no_memory(call);
    places_find(span, &rest, &places);
    forge_code rc = mask_all(review, &places);
    if (rc != FORGE_OK)
        return rc;
    settle(span, &places);
    name_cut(call, span);
    trace_details_pack(call, &rest, defaults, span);
    return FORGE_OK;
}
