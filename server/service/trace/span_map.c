/* TraceService: what the attributes of a span say, in columns. Names are those of OpenTelemetry's semantic conventions for generative AI
 * (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, and its registry of attributes), the older names that instrumentation
 * still sends, those of OpenInference where the contract names them, and forge.* for what only we have. */
#include "service/trace/span.h"

#include "service/validate.h"
#include "text/json_object.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* In the order of their names: found by bsearch(). */
enum key {
    ENDUSER_ID,
    PROMPT_ID,
    PROMPT_LABEL,
    PROMPT_VERSION,
    COMPLETION,
    CONVERSATION_ID,
    INPUT_MESSAGES,
    OPERATION_NAME,
    OUTPUT_MESSAGES,
    PROMPT,
    PROVIDER_NAME,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    SYSTEM,
    CACHE_CREATION_TOKENS,
    CACHE_CREATION_TOKENS_OLD,
    CACHE_READ_TOKENS,
    CACHE_READ_TOKENS_OLD,
    COMPLETION_TOKENS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    REASONING_TOKENS,
    REASONING_TOKENS_OLD,
    INPUT_VALUE,
    SPAN_KIND,
    OUTPUT_VALUE,
    SESSION_ID,
    USER_ID,
    KEYS
};
static const char *const key_names[KEYS] = {
    [ENDUSER_ID] = "enduser.id",
    [PROMPT_ID] = "forge.prompt.id",
    [PROMPT_LABEL] = "forge.prompt.label",
    [PROMPT_VERSION] = "forge.prompt.version",
    [COMPLETION] = "gen_ai.completion",
    [CONVERSATION_ID] = "gen_ai.conversation.id",
    [INPUT_MESSAGES] = "gen_ai.input.messages",
    [OPERATION_NAME] = "gen_ai.operation.name",
    [OUTPUT_MESSAGES] = "gen_ai.output.messages",
    [PROMPT] = "gen_ai.prompt",
    [PROVIDER_NAME] = "gen_ai.provider.name",
    [REQUEST_MODEL] = "gen_ai.request.model",
    [RESPONSE_MODEL] = "gen_ai.response.model",
    [SYSTEM] = "gen_ai.system",
    [CACHE_CREATION_TOKENS] = "gen_ai.usage.cache_creation.input_tokens",
    [CACHE_CREATION_TOKENS_OLD] = "gen_ai.usage.cache_creation_input_tokens",
    [CACHE_READ_TOKENS] = "gen_ai.usage.cache_read.input_tokens",
    [CACHE_READ_TOKENS_OLD] = "gen_ai.usage.cache_read_input_tokens",
    [COMPLETION_TOKENS] = "gen_ai.usage.completion_tokens",
    [INPUT_TOKENS] = "gen_ai.usage.input_tokens",
    [OUTPUT_TOKENS] = "gen_ai.usage.output_tokens",
    [PROMPT_TOKENS] = "gen_ai.usage.prompt_tokens",
    [REASONING_TOKENS] = "gen_ai.usage.reasoning.output_tokens",
    [REASONING_TOKENS_OLD] = "gen_ai.usage.reasoning_tokens",
    [INPUT_VALUE] = "input.value",
    [SPAN_KIND] = "openinference.span.kind",
    [OUTPUT_VALUE] = "output.value",
    [SESSION_ID] = "session.id",
    [USER_ID] = "user.id",
};
static const char parameter_prefix[] = "gen_ai.request.";
static const double tokens_max = 1e12; /* what a count of tokens may be (span_check.c); a larger one is a mistake and not counted */

/* --- finding --------------------------------------------------------------------------------------------------------- */

/* The attribute of each key, the last of several; NULL = none. */
struct found {
    const Forge__V1__Attribute *of[KEYS];
};

static int compare_key(const void *key, const void *name)
{
    return strcmp(key, *(const char *const *)name);
}

static void find_all(const Forge__V1__Span *in, struct found *out)
{
    *out = (struct found){0};
    for (size_t i = 0; i < in->n_attributes; i++) {
        const char *const *name = bsearch(in->attributes[i]->key, key_names, KEYS, sizeof key_names[0], compare_key);
        if (name != NULL)
            out->of[name - key_names] = in->attributes[i];
    }
}

/* A text or a JSON value; NULL for none, an empty one and any other kind. */
static const char *text_at(const struct found *found, enum key key)
{
    const Forge__V1__Attribute *attribute = found->of[key];
    const char *text = attribute == NULL                                                   ? NULL
                       : attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE ? attribute->string_value
                       : attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_JSON_VALUE   ? attribute->json_value
                                                                                           : NULL;
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* The field where it is set, else the first of these attributes that is there; keys end with KEYS. */
static const char *text_of(const struct found *found, const char *field, const enum key *keys)
{
    const char *text = field[0] != '\0' ? field : NULL;
    for (; text == NULL && *keys != KEYS; keys++)
        text = text_at(found, *keys);
    return text;
}
#define FROM(...) ((const enum key[]){__VA_ARGS__, KEYS})

/* A count: a whole number of at least 0, also as a double, which is all that JavaScript has. -1 for anything else. */
static int64_t count_at(const struct found *found, enum key key)
{
    const Forge__V1__Attribute *attribute = found->of[key];
    if (attribute == NULL)
        return -1;
    if (attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_INT_VALUE)
        return attribute->int_value >= 0 && (double)attribute->int_value <= tokens_max ? attribute->int_value : -1;
    double number = attribute->value_case == FORGE__V1__ATTRIBUTE__VALUE_DOUBLE_VALUE ? attribute->double_value : -1;
    return number >= 0 && number <= tokens_max && number == trunc(number) ? (int64_t)number : -1;
}

static int64_t count_of(const struct found *found, enum key key, enum key older)
{
    int64_t count = count_at(found, key);
    return count >= 0 ? count : count_at(found, older);
}

/* --- columns --------------------------------------------------------------------------------------------------------- */

struct kind_name {
    const char *name;
    Forge__V1__SpanKind kind;
};

static Forge__V1__SpanKind kind_named(const struct kind_name *names, size_t count, const char *name)
{
    for (size_t i = 0; name != NULL && i < count; i++)
        if (strcasecmp(names[i].name, name) == 0)
            return names[i].kind;
    return FORGE__V1__SPAN_KIND__SPAN_KIND_UNSPECIFIED;
}

static Forge__V1__SpanKind kind_of(const struct found *found, Forge__V1__SpanKind kind)
{
    static const struct kind_name kinds[] = {
        {"LLM", FORGE__V1__SPAN_KIND__SPAN_KIND_LLM},
        {"AGENT", FORGE__V1__SPAN_KIND__SPAN_KIND_AGENT},
        {"TOOL", FORGE__V1__SPAN_KIND__SPAN_KIND_TOOL},
        {"CHAIN", FORGE__V1__SPAN_KIND__SPAN_KIND_CHAIN},
        {"RETRIEVER", FORGE__V1__SPAN_KIND__SPAN_KIND_RETRIEVER},
        {"EMBEDDING", FORGE__V1__SPAN_KIND__SPAN_KIND_EMBEDDING},
        {"EVALUATOR", FORGE__V1__SPAN_KIND__SPAN_KIND_EVALUATOR},
        {"GUARDRAIL", FORGE__V1__SPAN_KIND__SPAN_KIND_GUARDRAIL},
    };
    static const struct kind_name operations[] = {
        {"chat", FORGE__V1__SPAN_KIND__SPAN_KIND_LLM},
        {"generate_content", FORGE__V1__SPAN_KIND__SPAN_KIND_LLM},
        {"text_completion", FORGE__V1__SPAN_KIND__SPAN_KIND_LLM},
        {"embeddings", FORGE__V1__SPAN_KIND__SPAN_KIND_EMBEDDING},
        {"retrieval", FORGE__V1__SPAN_KIND__SPAN_KIND_RETRIEVER},
        {"create_agent", FORGE__V1__SPAN_KIND__SPAN_KIND_AGENT},
        {"invoke_agent", FORGE__V1__SPAN_KIND__SPAN_KIND_AGENT},
        {"execute_tool", FORGE__V1__SPAN_KIND__SPAN_KIND_TOOL},
    };
    if (kind == FORGE__V1__SPAN_KIND__SPAN_KIND_UNSPECIFIED)
        kind = kind_named(kinds, sizeof kinds / sizeof kinds[0], text_at(found, SPAN_KIND));
    if (kind == FORGE__V1__SPAN_KIND__SPAN_KIND_UNSPECIFIED)
        kind = kind_named(operations, sizeof operations / sizeof operations[0], text_at(found, OPERATION_NAME));
    return kind != FORGE__V1__SPAN_KIND__SPAN_KIND_UNSPECIFIED ? kind : FORGE__V1__SPAN_KIND__SPAN_KIND_CHAIN;
}

/* What is left of a total without its parts. The conventions put cached and reasoning tokens into the totals; where the parts are more
 * than the total, the sender has left them out of it. */
static int64_t rest_of(int64_t total, int64_t parts)
{
    return total >= parts ? total - parts : total > 0 ? total : 0;
}

static int64_t at_least_0(int64_t count)
{
    return count > 0 ? count : 0;
}

static void usage_from_attributes(const struct found *found, struct trace_span *out)
{
    int64_t input = count_of(found, INPUT_TOKENS, PROMPT_TOKENS), output = count_of(found, OUTPUT_TOKENS, COMPLETION_TOKENS),
            cache_read = count_of(found, CACHE_READ_TOKENS, CACHE_READ_TOKENS_OLD),
            cache_write = count_of(found, CACHE_CREATION_TOKENS, CACHE_CREATION_TOKENS_OLD),
            reasoning = count_of(found, REASONING_TOKENS, REASONING_TOKENS_OLD);
    out->has_usage = input >= 0 || output >= 0 || cache_read >= 0 || cache_write >= 0 || reasoning >= 0;
    out->cache_read_tokens = at_least_0(cache_read);
    out->cache_write_tokens = at_least_0(cache_write);
    out->reasoning_tokens = at_least_0(reasoning);
    out->input_tokens = rest_of(input, out->cache_read_tokens + out->cache_write_tokens);
    out->output_tokens = rest_of(output, out->reasoning_tokens);
}

static void usage_map(const struct found *found, const Forge__V1__Span *in, struct trace_span *out)
{
    if (in->usage == NULL) {
        usage_from_attributes(found, out);
        return;
    }
    out->has_usage = true;
    out->input_tokens = in->usage->input_tokens;
    out->cache_read_tokens = in->usage->cache_read_tokens;
    out->cache_write_tokens = in->usage->cache_write_tokens;
    out->output_tokens = in->usage->output_tokens;
    out->reasoning_tokens = in->usage->reasoning_tokens;
}

static struct text_json_member member_of(const Forge__V1__Attribute *attribute)
{
    struct text_json_member member = {.name = attribute->key + strlen(parameter_prefix)};
    switch (attribute->value_case) {
    case FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE:
        member.kind = TEXT_JSON_STRING;
        member.text = attribute->string_value;
        break;
    case FORGE__V1__ATTRIBUTE__VALUE_BOOL_VALUE:
        member.kind = TEXT_JSON_BOOLEAN;
        member.boolean = attribute->bool_value;
        break;
    case FORGE__V1__ATTRIBUTE__VALUE_INT_VALUE:
        member.kind = TEXT_JSON_INTEGER;
        member.integer = attribute->int_value;
        break;
    case FORGE__V1__ATTRIBUTE__VALUE_DOUBLE_VALUE:
        member.kind = TEXT_JSON_REAL;
        member.real = attribute->double_value;
        break;
    case FORGE__V1__ATTRIBUTE__VALUE_JSON_VALUE:
    case FORGE__V1__ATTRIBUTE__VALUE__NOT_SET:
    case _FORGE__V1__ATTRIBUTE__VALUE__CASE_IS_INT_SIZE:
        member.kind = TEXT_JSON_VALUE;
        member.text = attribute->json_value;
        break;
    }
    return member;
}

/* gen_ai.request.temperature and so on as {"temperature":...}; the model has a column of its own. */
static const char *parameters_of(struct rpc_call *call, const Forge__V1__Span *in)
{
    if (in->parameters[0] != '\0')
        return in->parameters;
    size_t count = 0;
    struct text_json_member *members = NULL;
    for (size_t i = 0; i < in->n_attributes; i++) {
        const Forge__V1__Attribute *attribute = in->attributes[i];
        if (strncmp(attribute->key, parameter_prefix, strlen(parameter_prefix)) != 0 ||
            strcmp(attribute->key, key_names[REQUEST_MODEL]) == 0)
            continue;
        if (members == NULL)
            members = forge_arena_calloc(call->arena, in->n_attributes - i, sizeof *members);
        if (members == NULL)
            return NULL; /* rpc sees the overflow */
        members[count++] = member_of(attribute);
    }
    size_t size = count > 0 ? text_json_object_of(members, count, NULL, 0) : 0;
    char *json = size > 0 ? forge_arena_alloc(call->arena, size + 1) : NULL;
    if (json != NULL)
        text_json_object_of(members, count, json, size);
    return json;
}

static void prompt_map(struct rpc_call *call, const struct found *found, const Forge__V1__Span *in, struct trace_span *out)
{
    const char *id = text_of(found, in->prompt_id, FROM(PROMPT_ID));
    if (id != NULL)
        validate_uuid(call, "prompt_id", id, &out->prompt_id);
    int64_t version = in->prompt_version > 0 ? in->prompt_version : count_at(found, PROMPT_VERSION);
    out->prompt_version = version > 0 && version <= INT32_MAX ? (int32_t)version : 0;
    out->prompt_label = text_of(found, in->prompt_label, FROM(PROMPT_LABEL));
}

static int digit_of(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

struct db_bytes trace_id_bytes(struct rpc_call *call, const char *digits)
{
    size_t size = strlen(digits) / 2;
    uint8_t *bytes = size > 0 ? forge_arena_alloc(call->arena, size) : NULL;
    for (size_t i = 0; bytes != NULL && i < size; i++)
        bytes[i] = (uint8_t)(digit_of(digits[2 * i]) << 4 | digit_of(digits[2 * i + 1]));
    return (struct db_bytes){bytes, size};
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

void trace_span_map(struct rpc_call *call, const Forge__V1__Span *in, struct trace_span *out)
{
    enum { NANOSECONDS = 1000 };
    struct found found;
    find_all(in, &found);
    out->trace_id = trace_id_bytes(call, in->trace_id);
    out->span_id = trace_id_bytes(call, in->span_id);
    out->parent_span_id = trace_id_bytes(call, in->parent_span_id);
    out->start_ns = in->start_ns;
    out->end_ns = in->end_ns;
    out->started_us = in->start_ns / NANOSECONDS;
    out->name = in->name;
    out->kind = kind_of(&found, in->kind);
    out->status = in->status;
    out->status_message = or_null(in->status_message);
    out->provider = text_of(&found, in->provider, FROM(PROVIDER_NAME, SYSTEM));
    out->model = text_of(&found, in->model, FROM(RESPONSE_MODEL, REQUEST_MODEL));
    out->parameters = parameters_of(call, in);
    usage_map(&found, in, out);
    out->cost_is_given = in->cost_micros != NULL;
    out->cost_micros = in->cost_micros != NULL ? in->cost_micros->value : TRACE_NO_COST;
    out->time_to_first_token_us = in->time_to_first_token_us;
    prompt_map(call, &found, in, out);
    out->session_id = text_of(&found, in->session_id, FROM(SESSION_ID, CONVERSATION_ID));
    out->user_id = text_of(&found, in->user_id, FROM(USER_ID, ENDUSER_ID));
    out->input = text_of(&found, in->input, FROM(INPUT_MESSAGES, PROMPT, INPUT_VALUE));
    out->output = text_of(&found, in->output, FROM(OUTPUT_MESSAGES, COMPLETION, OUTPUT_VALUE));
}
