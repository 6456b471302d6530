/* Spans between the wire and the database: what is allowed, what attributes become, which bytes count as the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/cost.h"
#include "service/trace/span.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

static struct forge_arena arena;
static struct rpc_call call;

static int open_call(void **state)
{
    forge_arena_init(&arena, 64 << 20, NULL);
    call = (struct rpc_call){.arena = &arena};
    return 0;
}

static int close_call(void **state)
{
    forge_arena_done(&arena);
    return 0;
}

static Forge__V1__Span span_of(void)
{
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    span.trace_id = TEXT("0af7651916cd43dd8448eb211c80319c");
    span.span_id = TEXT("b7ad6b7169203331");
    span.name = TEXT("chat");
    span.start_ns = INT64_C(1764000000123456789);
    span.end_ns = INT64_C(1764000001000000000);
    return span;
}

static Forge__V1__Attribute text_attribute(const char *key, const char *value)
{
    Forge__V1__Attribute attribute = FORGE__V1__ATTRIBUTE__INIT;
    attribute.key = TEXT(key);
    attribute.value_case = FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE;
    attribute.string_value = TEXT(value);
    return attribute;
}

static Forge__V1__Attribute number_attribute(const char *key, int64_t value)
{
    Forge__V1__Attribute attribute = FORGE__V1__ATTRIBUTE__INIT;
    attribute.key = TEXT(key);
    attribute.value_case = FORGE__V1__ATTRIBUTE__VALUE_INT_VALUE;
    attribute.int_value = value;
    return attribute;
}

static Forge__V1__Attribute real_attribute(const char *key, double value)
{
    Forge__V1__Attribute attribute = FORGE__V1__ATTRIBUTE__INIT;
    attribute.key = TEXT(key);
    attribute.value_case = FORGE__V1__ATTRIBUTE__VALUE_DOUBLE_VALUE;
    attribute.double_value = value;
    return attribute;
}

static Forge__V1__Attribute json_attribute(const char *key, const char *value)
{
    Forge__V1__Attribute attribute = FORGE__V1__ATTRIBUTE__INIT;
    attribute.key = TEXT(key);
    attribute.value_case = FORGE__V1__ATTRIBUTE__VALUE_JSON_VALUE;
    attribute.json_value = TEXT(value);
    return attribute;
}

/* The list that protobuf-c wants, of an array. */
static Forge__V1__Attribute **list_of(Forge__V1__Attribute *attributes, size_t count)
{
    Forge__V1__Attribute **list = forge_arena_calloc(&arena, count, sizeof(Forge__V1__Attribute *));
    for (size_t i = 0; i < count; i++)
        list[i] = &attributes[i];
    return list;
}
#define SET_ATTRIBUTES(owner, array)                                                                                                       \
    ((owner).n_attributes = sizeof(array) / sizeof(array)[0], (owner).attributes = list_of(array, (owner).n_attributes))

/* ---- checks ---- */

/* Exactly these violations: field, part of the description, ..., NULL. */
static void expect_violations(const Forge__V1__Span *span, ...)
{
    va_list expected;
    struct trace_span columns = {0};
    call.error = (struct forge_error){0};
    trace_span_check(&call, span);
    if (!rpc_call_has_violations(&call)) {
        trace_span_map(&call, span, &columns);
        trace_columns_check(&call, &columns);
    }
    const struct forge_violation *violation = call.error.violations;
    va_start(expected, span);
    for (const char *field; (field = va_arg(expected, const char *)) != NULL;) {
        const char *part = va_arg(expected, const char *);
        if (violation == NULL || strcmp(violation->field, field) != 0 || strstr(violation->description, part) == NULL)
            fail_msg("%s: %s expected, found %s: %s", field, part, violation ? violation->field : "nothing",
                     violation ? violation->description : "");
        violation = violation->next;
    }
    va_end(expected);
    if (violation != NULL)
        fail_msg("unexpected: %s: %s", violation->field, violation->description);
}

static void test_a_small_span_is_good(void **state)
{
    Forge__V1__Span span = span_of();
    expect_violations(&span, NULL);
    span.end_ns = span.start_ns;
    expect_violations(&span, NULL);
}

static void test_what_is_required(void **state)
{
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    expect_violations(&span, "trace_id", "is required", "span_id", "is required", "name", "is required", "start_ns", "is required", NULL);
}

static void test_wrong_ids_times_and_kinds(void **state)
{
    Forge__V1__Span span = span_of();
    span.trace_id = TEXT("00000000000000000000000000000000");
    span.span_id = TEXT("b7ad6b716920333g");
    span.parent_span_id = TEXT("0000000000000000");
    span.end_ns = span.start_ns - 1;
    span.kind = (Forge__V1__SpanKind)9;
    span.status = (Forge__V1__SpanStatus)3;
    span.otel_span_kind = 6;
    span.flags = span.dropped_event_count = -1;
    span.prompt_version = -1;
    expect_violations(&span, "trace_id", "not all zero", "span_id", "16 hexadecimal", "parent_span_id", "not all zero", "end_ns",
                      "before start_ns", "kind", "SpanKind", "status", "SpanStatus", "otel_span_kind", "0 to 5", "prompt_version",
                      "0 or more", "flags", "0 or more", "dropped_event_count", "0 or more", NULL);
}

static char *repeated(char c, size_t count)
{
    char *text = forge_arena_alloc(&arena, count + 1);
    memset(text, c, count);
    return text;
}

static void test_limits_of_texts(void **state)
{
    Forge__V1__Span span = span_of();
    span.name = repeated('n', 255);
    span.status_message = repeated('s', 4096);
    span.trace_state = repeated('t', 512);
    span.provider = repeated('p', 64);
    span.model = repeated('m', 255);
    span.session_id = repeated('i', 255);
    span.input = repeated('x', 512 << 10);
    span.parameters = TEXT("{\"a\": 1}");
    expect_violations(&span, NULL);
    span.name = repeated('n', 256);
    span.status_message = repeated('s', 4097);
    span.trace_state = repeated('t', 513);
    expect_violations(&span, "name", "255 characters", "status_message", "4096", "trace_state", "512 bytes", NULL);
    span = span_of();
    span.provider = repeated('p', 65);
    span.model = repeated('m', 256);
    span.prompt_label = repeated('l', 65);
    span.user_id = repeated('u', 256);
    span.output = repeated('x', (512 << 10) + 1);
    span.parameters = TEXT("[1]");
    expect_violations(&span, "provider", "64", "model", "255", "prompt_label", "64", "user_id", "255", "output", "524288 bytes",
                      "parameters", "JSON object", NULL);
}

static void test_wrong_figures(void **state)
{
    Forge__V1__Span span = span_of();
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    Google__Protobuf__Int64Value cost = GOOGLE__PROTOBUF__INT64_VALUE__INIT;
    span.usage = &usage;
    span.cost_micros = &cost;
    expect_violations(&span, NULL);
    usage.cache_read_tokens = -1;
    usage.output_tokens = INT64_C(1000000000001);
    cost.value = -1;
    span.time_to_first_token_us = -1;
    expect_violations(&span, "usage.cache_read_tokens", "must be 0 to 1000000000000", "usage.output_tokens", "must be 0 to", "cost_micros",
                      "must be 0 to", "time_to_first_token_us", "0 or more", NULL);
}

static void test_wrong_attributes_have_their_place(void **state)
{
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {text_attribute("", "x"), FORGE__V1__ATTRIBUTE__INIT, json_attribute("j", "{\"a\": }"),
                                         text_attribute(repeated('k', 256), "x")};
    Forge__V1__SpanEvent event = FORGE__V1__SPAN_EVENT__INIT, *events[] = {&event};
    Forge__V1__SpanLink link = FORGE__V1__SPAN_LINK__INIT, *links[] = {&link};
    Forge__V1__Resource resource = FORGE__V1__RESOURCE__INIT;
    attributes[1].key = TEXT("unset");
    SET_ATTRIBUTES(span, attributes);
    expect_violations(&span, "attributes[0].key", "1 to 255 bytes", "attributes[1].value", "required", "attributes[2].json_value", "JSON",
                      "attributes[3].key", "1 to 255 bytes", NULL);
    span = span_of();
    event.time_ns = -1;
    event.n_attributes = 1;
    event.attributes = list_of(&attributes[0], 1);
    link.span_id = TEXT("b7ad6b7169203331");
    resource.n_attributes = 1;
    resource.attributes = list_of(&attributes[1], 1);
    span.n_events = span.n_links = 1;
    span.events = events;
    span.links = links;
    span.resource = &resource;
    expect_violations(&span, "events[0].time_ns", "0 or more", "events[0].name", "required", "events[0].attributes[0].key", "1 to 255",
                      "links[0].trace_id", "required", "resource.attributes[0].value", "required", NULL);
    Forge__V1__Attribute many[257];
    for (int i = 0; i < 257; i++)
        many[i] = text_attribute("k", "v");
    span = span_of();
    span.n_attributes = 257;
    span.attributes = list_of(many, 257);
    expect_violations(&span, "attributes", "at most 256", NULL);
}

/* ---- attributes become columns ---- */

static struct trace_span map(const Forge__V1__Span *span)
{
    struct trace_span columns = {0};
    call.error = (struct forge_error){0};
    trace_span_map(&call, span, &columns);
    assert_false(rpc_call_has_violations(&call));
    return columns;
}

static void test_fields_become_columns(void **state)
{
    Forge__V1__Span span = span_of();
    span.parent_span_id = TEXT("B7AD6B7169203332");
    struct trace_span columns = map(&span);
    assert_int_equal(columns.trace_id.size, 16);
    assert_memory_equal(columns.trace_id.data, "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c", 16);
    assert_memory_equal(columns.span_id.data, "\xb7\xad\x6b\x71\x69\x20\x33\x31", 8);
    assert_memory_equal(columns.parent_span_id.data, "\xb7\xad\x6b\x71\x69\x20\x33\x32", 8);
    assert_int_equal(columns.started_us, INT64_C(1764000000123456));
    assert_int_equal(columns.kind, FORGE__V1__SPAN_KIND__SPAN_KIND_CHAIN);
    assert_null(columns.model);
    assert_null(columns.input);
    assert_null(columns.parameters);
    assert_false(columns.has_usage);
    assert_int_equal(columns.cost_micros, TRACE_NO_COST);
    span.parent_span_id = TEXT("");
    assert_null(map(&span).parent_span_id.data);
}

/* As an instrumentation of today sends them. */
static void test_attributes_become_columns(void **state)
{
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {text_attribute("gen_ai.operation.name", "chat"),
                                         text_attribute("gen_ai.provider.name", "openai"),
                                         text_attribute("gen_ai.request.model", "gpt-4"),
                                         text_attribute("gen_ai.response.model", "gpt-4-0613"),
                                         real_attribute("gen_ai.request.temperature", 0.5),
                                         number_attribute("gen_ai.request.max_tokens", 100),
                                         json_attribute("gen_ai.request.stop_sequences", "[\"a\", \"b\"]"),
                                         real_attribute("gen_ai.request.top_p", NAN),
                                         json_attribute("gen_ai.input.messages", "[{\"role\":\"user\"}]"),
                                         text_attribute("gen_ai.output.messages", "[{\"role\":\"assistant\"}]"),
                                         text_attribute("gen_ai.conversation.id", "talk"),
                                         text_attribute("user.id", "somebody"),
                                         text_attribute("forge.prompt.id", "01890000-0000-7000-8000-000000000001"),
                                         number_attribute("forge.prompt.version", 7),
                                         text_attribute("forge.prompt.label", "production")};
    SET_ATTRIBUTES(span, attributes);
    struct trace_span columns = map(&span);
    char id[FORGE_UUID_TEXT_SIZE];
    assert_int_equal(columns.kind, FORGE__V1__SPAN_KIND__SPAN_KIND_LLM);
    assert_string_equal(columns.provider, "openai");
    assert_string_equal(columns.model, "gpt-4-0613");
    assert_string_equal(columns.parameters, "{\"max_tokens\":100,\"stop_sequences\":[\"a\",\"b\"],\"temperature\":0.5,\"top_p\":null}");
    assert_string_equal(columns.input, "[{\"role\":\"user\"}]");
    assert_string_equal(columns.output, "[{\"role\":\"assistant\"}]");
    assert_string_equal(columns.session_id, "talk");
    assert_string_equal(columns.user_id, "somebody");
    forge_uuid_format(&columns.prompt_id, id);
    assert_string_equal(id, "01890000-0000-7000-8000-000000000001");
    assert_int_equal(columns.prompt_version, 7);
    assert_string_equal(columns.prompt_label, "production");
}

static void test_what_the_caller_sets_counts(void **state)
{
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {text_attribute("openinference.span.kind", "TOOL"),
                                         text_attribute("gen_ai.system", "openai"),
                                         text_attribute("session.id", "one"),
                                         text_attribute("session.id", "two"),
                                         text_attribute("gen_ai.conversation.id", "three"),
                                         number_attribute("gen_ai.usage.input_tokens", 10),
                                         text_attribute("gen_ai.response.model", "theirs")};
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    SET_ATTRIBUTES(span, attributes);
    span.model = TEXT("ours");
    span.usage = &usage;
    usage.output_tokens = 3;
    struct trace_span columns = map(&span);
    assert_int_equal(columns.kind, FORGE__V1__SPAN_KIND__SPAN_KIND_TOOL);
    assert_string_equal(columns.provider, "openai");
    assert_string_equal(columns.session_id, "two"); /* of several the last counts */
    assert_string_equal(columns.model, "ours");
    assert_int_equal(columns.input_tokens, 0);
    assert_int_equal(columns.output_tokens, 3);
    span.kind = FORGE__V1__SPAN_KIND__SPAN_KIND_GUARDRAIL;
    assert_int_equal(map(&span).kind, FORGE__V1__SPAN_KIND__SPAN_KIND_GUARDRAIL);
}

static void test_a_prompt_that_is_none_is_refused(void **state)
{
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {text_attribute("forge.prompt.id", "greeting")};
    SET_ATTRIBUTES(span, attributes);
    expect_violations(&span, "prompt_id", "must be a UUID", NULL);
}

/* The numbers of each row: total in, cached, written, total out, reasoning; -1 = not sent. Then what is stored of the five. */
static void test_no_token_is_counted_twice(void **state)
{
    static const int64_t rows[]
                             [10] = {
                                 {100, -1, -1, 20, -1, 100, 0, 0, 20, 0},  {100, 60, -1, 20, 15, 40, 60, 0, 5, 15},
                                 {100, 60, 30, 20, 20, 10, 60, 30, 0, 20}, {100, 100, -1, -1, -1, 0, 100, 0, 0, 0},
                                 {10, 60, 30, 5, 15, 10, 60, 30, 5, 15}, /* parts that the sender has left out of the total */
                                 {-1, 60, -1, -1, 15, 0, 60, 0, 0, 15},
                             };
    static const char *const names[2][5] = {
        {"gen_ai.usage.input_tokens", "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens",
         "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning.output_tokens"},
        {"gen_ai.usage.prompt_tokens", "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cache_creation_input_tokens",
         "gen_ai.usage.completion_tokens", "gen_ai.usage.reasoning_tokens"}};
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const int64_t *row = rows[i / 2];
        Forge__V1__Span span = span_of();
        Forge__V1__Attribute attributes[5];
        for (int kind = 0; kind < 5; kind++)
            if (row[kind] >= 0)
                attributes[span.n_attributes++] =
                    i % 2 ? real_attribute(names[1][kind], (double)row[kind]) : number_attribute(names[0][kind], row[kind]);
        span.attributes = list_of(attributes, span.n_attributes);
        struct trace_span columns = map(&span);
        assert_true(columns.has_usage);
        assert_int_equal(columns.input_tokens, row[5]);
        assert_int_equal(columns.cache_read_tokens, row[6]);
        assert_int_equal(columns.cache_write_tokens, row[7]);
        assert_int_equal(columns.output_tokens, row[8]);
        assert_int_equal(columns.reasoning_tokens, row[9]);
    }
}

static void test_counts_that_are_none_are_not_counted(void **state)
{
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {
        number_attribute("gen_ai.usage.input_tokens", -5), real_attribute("gen_ai.usage.output_tokens", 1.5),
        text_attribute("gen_ai.usage.reasoning_tokens", "7"), number_attribute("gen_ai.usage.prompt_tokens", INT64_MAX)};
    SET_ATTRIBUTES(span, attributes);
    assert_false(map(&span).has_usage);
}

/* ---- which bytes count as the same ---- */

static struct trace_span packed(const Forge__V1__Span *span, const struct trace_defaults *defaults)
{
    struct trace_span columns = {0};
    call.error = (struct forge_error){0};
    trace_span_pack(&call, span, defaults, &columns);
    assert_false(forge_arena_has_overflowed(&arena));
    assert_int_equal(columns.content_hash.size, FORGE_SHA256_SIZE);
    return columns;
}

static bool same(const Forge__V1__Span *a, const Forge__V1__Span *b)
{
    static const struct trace_defaults none;
    struct trace_span x = packed(a, &none), y = packed(b, &none);
    return memcmp(x.content_hash.data, y.content_hash.data, FORGE_SHA256_SIZE) == 0;
}

static void test_spelling_does_not_count(void **state)
{
    Forge__V1__Span a = span_of(), b = span_of();
    Forge__V1__Attribute in_order[] = {text_attribute("a", "1"), text_attribute("b", "2")},
                         mixed[] = {text_attribute("b", "0"), text_attribute("a", "1"), text_attribute("b", "2")};
    SET_ATTRIBUTES(a, in_order);
    SET_ATTRIBUTES(b, mixed);
    b.trace_id = TEXT("0AF7651916CD43DD8448EB211C80319C");
    b.model_id = TEXT("output only");
    b.policy_action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK;
    assert_true(same(&a, &b));
    SET_ATTRIBUTES(b, ((Forge__V1__Attribute[]){text_attribute("b", "2"), text_attribute("a", "1"), text_attribute("b", "0")}));
    assert_false(same(&a, &b));
}

static void test_every_field_counts(void **state)
{
    Forge__V1__Span a = span_of(), b = span_of();
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    Google__Protobuf__Int64Value cost = GOOGLE__PROTOBUF__INT64_VALUE__INIT;
    Forge__V1__SpanEvent event = FORGE__V1__SPAN_EVENT__INIT, *events[] = {&event};
    Forge__V1__Resource resource = FORGE__V1__RESOURCE__INIT;
    const struct trace_defaults none = {0}, with_resource = {.resource = &resource};
    assert_true(same(&a, &b));
#define COUNTS(member, value)                                                                                                              \
    do {                                                                                                                                   \
        b = a;                                                                                                                             \
        b.member = value;                                                                                                                  \
        if (same(&a, &b))                                                                                                                  \
            fail_msg("%s does not count", #member);                                                                                        \
    } while (0)
    COUNTS(parent_span_id, TEXT("b7ad6b7169203332"));
    COUNTS(name, TEXT("other"));
    COUNTS(kind, FORGE__V1__SPAN_KIND__SPAN_KIND_LLM);
    COUNTS(end_ns, a.end_ns + 1);
    COUNTS(status, FORGE__V1__SPAN_STATUS__SPAN_STATUS_OK);
    COUNTS(status_message, TEXT("x"));
    COUNTS(input, TEXT("x"));
    COUNTS(output, TEXT("x"));
    COUNTS(provider, TEXT("x"));
    COUNTS(model, TEXT("x"));
    COUNTS(parameters, TEXT("{}"));
    COUNTS(usage, &usage);
    COUNTS(cost_micros, &cost);
    COUNTS(time_to_first_token_us, 1);
    COUNTS(prompt_id, TEXT("x"));
    COUNTS(prompt_version, 1);
    COUNTS(prompt_label, TEXT("x"));
    COUNTS(session_id, TEXT("x"));
    COUNTS(user_id, TEXT("x"));
    COUNTS(trace_state, TEXT("x"));
    COUNTS(flags, 1);
    COUNTS(otel_span_kind, 1);
    COUNTS(dropped_attribute_count, 1);
    COUNTS(dropped_event_count, 1);
    COUNTS(dropped_link_count, 1);
    b = a;
    b.n_events = 1;
    b.events = events;
    assert_false(same(&a, &b));
    b = a;
    b.resource = &resource;
    assert_false(same(&a, &b));
    /* Given by the request or by the span: the same. */
    assert_memory_equal(packed(&b, &none).content_hash.data, packed(&a, &with_resource).content_hash.data, FORGE_SHA256_SIZE);
}

static void test_details_hold_the_rest(void **state)
{
    static const struct trace_defaults none;
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {text_attribute("b", "2"), json_attribute("a", "[1, 2]")};
    Forge__V1__SpanLink link = FORGE__V1__SPAN_LINK__INIT, *links[] = {&link};
    SET_ATTRIBUTES(span, attributes);
    link.trace_id = TEXT("0AF7651916CD43DD8448EB211C80319C");
    span.n_links = 1;
    span.links = links;
    span.trace_state = TEXT("vendor=1");
    span.input = TEXT("in its column");
    struct trace_span columns = packed(&span, &none);
    Forge__V1__Span *details = forge__v1__span__unpack(NULL, columns.details.size, columns.details.data);
    assert_non_null(details);
    assert_int_equal(details->n_attributes, 2);
    assert_string_equal(details->attributes[0]->key, "a");
    assert_string_equal(details->attributes[0]->json_value, "[1, 2]");
    assert_string_equal(details->links[0]->trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(details->trace_state, "vendor=1");
    assert_string_equal(details->input, "");
    assert_string_equal(details->name, "");
    forge__v1__span__free_unpacked(details, NULL);
    assert_string_equal(attributes[0].key, "b"); /* the request itself stays as it is */
}

static void test_a_span_is_at_most_a_mebibyte(void **state)
{
    static const struct trace_defaults none;
    Forge__V1__Span span = span_of();
    Forge__V1__Attribute attributes[] = {text_attribute("a", repeated('x', 1 << 20))};
    SET_ATTRIBUTES(span, attributes);
    packed(&span, &none);
    assert_int_equal(call.error.violation_count, 1);
    assert_non_null(strstr(call.error.violations->description, "at most 1048576 bytes"));
}

/* ---- cost ---- */

static void test_cost_is_exact_and_rounded_once(void **state)
{
    const struct cost_price price = {
        .input = 2500000, .cache_read = 1250000, .cache_write = 3125000, .output = 10000000, .reasoning = 10000000};
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    assert_int_equal(cost_of_usage(&price, &usage), 0);
    usage.input_tokens = 1000;
    usage.cache_read_tokens = 1000;
    usage.cache_write_tokens = 1000;
    usage.output_tokens = 1000;
    usage.reasoning_tokens = 1000;
    assert_int_equal(cost_of_usage(&price, &usage), 2500 + 1250 + 3125 + 10000 + 10000);
    const struct cost_price cheap = {.input = 250000, .output = 250000};
    usage = (Forge__V1__TokenUsage)FORGE__V1__TOKEN_USAGE__INIT;
    usage.input_tokens = 1;
    assert_int_equal(cost_of_usage(&cheap, &usage), 0); /* a quarter */
    usage.output_tokens = 1;
    assert_int_equal(cost_of_usage(&cheap, &usage), 1); /* two quarters: not 0 and 0 */
    const struct cost_price dear = {.input = INT64_MAX};
    usage.input_tokens = INT64_MAX;
    assert_true(cost_of_usage(&dear, &usage) == INT64_MAX);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_call, close_call)
    const struct CMUnitTest tests[] = {
        TEST(test_a_small_span_is_good),
        TEST(test_what_is_required),
        TEST(test_wrong_ids_times_and_kinds),
        TEST(test_limits_of_texts),
        TEST(test_wrong_figures),
        TEST(test_wrong_attributes_have_their_place),
        TEST(test_fields_become_columns),
        TEST(test_attributes_become_columns),
        TEST(test_what_the_caller_sets_counts),
        TEST(test_a_prompt_that_is_none_is_refused),
        TEST(test_no_token_is_counted_twice),
        TEST(test_counts_that_are_none_are_not_counted),
        TEST(test_spelling_does_not_count),
        TEST(test_every_field_counts),
        TEST(test_details_hold_the_rest),
        TEST(test_a_span_is_at_most_a_mebibyte),
        TEST(test_cost_is_exact_and_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
