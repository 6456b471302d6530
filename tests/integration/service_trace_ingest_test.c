/* TraceService over TLS: IngestSpans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trace_fixture.h"
#include "wire/arena.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 1000, WRITERS = 8, ROUNDS = 6 };
static const int64_t second_ns = INT64_C(1000000000);

static struct service_tenant alpha, beta;
static struct forge_arena kept; /* texts of requests */

static int start(void **state)
{
    forge_arena_init(&kept, 64 << 20, NULL);
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    /* How an installation writes dates is nothing to us. */
    service_execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German, DMY''', current_database()); END $$");
    service_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'forge_app'");
    trace_wait_for_partitions();
    return 0;
}

static int end(void **state)
{
    forge_arena_done(&kept);
    return service_end(state);
}

/* ---- requests ---- */

static int64_t now_ns(void)
{
    return forge_clock_wall_us() * 1000;
}

static char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Kept until the program ends. */
static char *text(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return forge_arena_strdup(&kept, line);
}

/* Span n (from 1) of a trace, a second long. trace: two digits that end its id. */
static Forge__V1__Span span_of(const char *trace, unsigned n)
{
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    span.trace_id = text(TRACE "%s", trace);
    span.span_id = text("%016x", n);
    span.name = text("step %u", n);
    span.start_ns = now_ns() - 60 * second_ns + n;
    span.end_ns = span.start_ns + second_ns;
    return span;
}

static forge_code ingest_in(struct forge_channel *channel, const char *project_id, Forge__V1__Span *spans, size_t count,
                            Forge__V1__IngestSpansResponse **out)
{
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__Span **list = calloc(count + 1, sizeof(Forge__V1__Span *));
    for (size_t i = 0; i < count; i++)
        list[i] = &spans[i];
    request.project_id = TEXT(project_id);
    request.n_spans = count;
    request.spans = list;
    forge_code code = forge_trace_ingest_spans(channel, NULL, &request, out, &service_error);
    free(list);
    return code;
}

/* The verdicts of a call that is answered, as one letter each: accepted, duplicate, rejected; kept until the next call. */
static const char *ingest(Forge__V1__Span *spans, size_t count)
{
    static char letters[BATCH + 1];
    Forge__V1__IngestSpansResponse *reply;
    service_ok(ingest_in(alpha.admin, alpha.project_id, spans, count, &reply));
    assert_int_equal(reply->n_verdicts, count);
    for (size_t i = 0; i < count; i++)
        letters[i] = " adr"[reply->verdicts[i]->verdict->outcome];
    letters[count] = '\0';
    assert_int_equal(reply->accepted_count + reply->duplicate_count + reply->rejected_count, count);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    return letters;
}

static void expect_rejected(Forge__V1__Span *span, Forge__V1__Code code, const char *part, bool retryable)
{
    Forge__V1__IngestSpansResponse *reply;
    service_ok(ingest_in(alpha.admin, alpha.project_id, span, 1, &reply));
    const Forge__V1__ItemVerdict *verdict = reply->verdicts[0]->verdict;
    if (verdict->code != code || strstr(verdict->message, part) == NULL)
        fail_msg("%d: %s", verdict->code, verdict->message);
    assert_int_equal(verdict->outcome, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED);
    assert_int_equal(verdict->retryable, retryable);
    assert_int_equal(reply->rejected_count, 1);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
}

/* A value of the trace's row, as text. */
static const char *of_trace(const char *trace, const char *column)
{
    char sql[512];
    snprintf(sql, sizeof sql, "SELECT %s FROM traces WHERE project_id = '%s' AND trace_id = '\\x" TRACE "%s'", column, alpha.project_id,
             trace);
    return service_query(sql);
}

static const char *of_spans(const char *trace, const char *column)
{
    char sql[512];
    snprintf(sql, sizeof sql, "SELECT %s FROM spans WHERE project_id = '%s' AND trace_id = '\\x" TRACE "%s'", column, alpha.project_id,
             trace);
    return service_query(sql);
}

/* ---- what is stored ---- */

static void test_spans_are_stored_with_their_columns(void **state)
{
    Forge__V1__Span spans[2] = {span_of("01", 1), span_of("01", 2)};
    Forge__V1__Attribute attribute = FORGE__V1__ATTRIBUTE__INIT, *attributes[] = {&attribute};
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    attribute.key = TEXT("session.id");
    attribute.value_case = FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE;
    attribute.string_value = TEXT("talk");
    usage.input_tokens = 7;
    usage.reasoning_tokens = 2;
    spans[1].parent_span_id = spans[0].span_id;
    spans[1].n_attributes = 1;
    spans[1].attributes = attributes;
    spans[1].usage = &usage;
    spans[1].status = FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR;
    spans[1].input = TEXT("in");
    spans[1].prompt_id = TEXT("01890000-0000-7000-8000-000000000001");
    spans[1].prompt_version = 3;
    spans[1].time_to_first_token_us = 12;
    assert_string_equal(ingest(spans, 2), "aa");
    assert_string_equal(of_spans("01",
                                 "string_agg(concat_ws(',', encode(span_id, 'hex'), encode(parent_span_id, 'hex'), name, kind, status,"
                                 " input_tokens, reasoning_tokens, cost_micros, input, prompt_version, session_id,"
                                 " time_to_first_token_us), ';' ORDER BY span_id)"),
                        "0000000000000001,step 1,4,0,0,0;0000000000000002,0000000000000001,step 2,4,2,7,2,in,3,talk,12");
    assert_string_equal(of_spans("01", "bool_and(started_at = timestamptz 'epoch' + (start_ns / 1000) * interval '1 microsecond'"
                                       " AND end_ns - start_ns = 1000000000 AND octet_length(content_hash) = 32)"),
                        "t");
    assert_string_equal(of_trace("01", "concat_ws(',', span_count, error_count, status, input_tokens, reasoning_tokens, name,"
                                       " encode(root_span_id, 'hex'), session_id, end_ns - start_ns = duration_ns)"),
                        "2,1,2,7,2,step 1,0000000000000001,talk,t");
}

/* Whatever the order and the number of calls, the trace is the same; the parent comes last. */
static void test_order_does_not_matter(void **state)
{
    static const char columns[] =
        "concat_ws(',', start_ns - (SELECT min(start_ns) FROM spans s WHERE s.trace_id = traces.trace_id), end_ns -"
        " start_ns, span_count, error_count, status, name, session_id, user_id, input_tokens)";
    char first[256];
    for (int order = 0; order < 2; order++) {
        const char *trace = order ? "03" : "02";
        Forge__V1__Span spans[5];
        int64_t base_ns = now_ns() - 60 * second_ns;
        for (unsigned i = 0; i < 5; i++) {
            spans[i] = span_of(trace, i + 1);
            spans[i].start_ns = base_ns + i * 1000;
            spans[i].end_ns = spans[i].start_ns + (i == 3 ? 5 : 2) * second_ns;
            if (i > 1)
                spans[i].parent_span_id = spans[i - 1].span_id;
            if (i > 0)
                spans[i].session_id = text("session %u", i);
        }
        spans[2].status = FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR;
        spans[4].user_id = TEXT("user");
        for (int i = 0; i < 5; i++)
            assert_string_equal(ingest(&spans[order ? 4 - i : i], 1), "a");
        if (order)
            assert_string_equal(of_trace(trace, columns), first);
        else
            snprintf(first, sizeof first, "%s", of_trace(trace, columns));
    }
    assert_string_equal(first, "0,5000003000,5,1,2,step 1,session 1,user,0");
}

static void test_one_bad_span_of_a_thousand(void **state)
{
    static Forge__V1__Span spans[BATCH + 1];
    Forge__V1__IngestSpansResponse *reply;
    for (unsigned i = 0; i <= BATCH; i++)
        spans[i] = span_of("04", i + 1);
    spans[500].end_ns = spans[500].start_ns - 1;
    service_ok(ingest_in(alpha.admin, alpha.project_id, spans, BATCH, &reply));
    assert_int_equal(reply->accepted_count, BATCH - 1);
    assert_int_equal(reply->rejected_count, 1);
    const Forge__V1__ItemVerdict *verdict = reply->verdicts[500]->verdict;
    assert_int_equal(verdict->code, FORGE__V1__CODE__CODE_INVALID_ARGUMENT);
    assert_false(verdict->retryable);
    assert_int_equal(verdict->n_field_violations, 1);
    assert_string_equal(verdict->field_violations[0]->field, "end_ns");
    assert_string_equal(verdict->field_violations[0]->description, "must not be before start_ns");
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    assert_string_equal(of_trace("04", "span_count"), "999");
    assert_string_equal(of_spans("04", "count(*)"), "999");
    service_violates(ingest_in(alpha.admin, alpha.project_id, spans, BATCH + 1, &reply), "spans", "must be 1 to 1000");
    service_violates(ingest_in(alpha.admin, alpha.project_id, spans, 0, &reply), "spans", "must be 1 to 1000");
}

/* ---- repeats ---- */

static void test_a_repeat_stores_nothing_twice(void **state)
{
    Forge__V1__Span spans[3] = {span_of("05", 1), span_of("05", 2), span_of("05", 3)};
    assert_string_equal(ingest(spans, 2), "aa");
    assert_string_equal(ingest(spans, 3), "dda");
    spans[0].trace_id = TEXT("0AF7651916CD43DD8448EB211C803105"); /* the same id */
    assert_string_equal(ingest(spans, 3), "ddd");
    assert_string_equal(of_spans("05", "count(*)"), "3");
    assert_string_equal(of_trace("05", "span_count"), "3");
}

static void test_other_content_under_one_identity_is_a_conflict(void **state)
{
    Forge__V1__Span span = span_of("06", 1);
    assert_string_equal(ingest(&span, 1), "a");
    span.output = TEXT("other");
    expect_rejected(&span, FORGE__V1__CODE__CODE_ALREADY_EXISTS, "other content is stored", false);
    assert_string_equal(of_spans("06", "count(output)"), "0");
    span.start_ns += 1000000; /* with another start it is another span */
    assert_string_equal(ingest(&span, 1), "a");
    assert_string_equal(of_trace("06", "span_count"), "2");
}

static void test_twins_in_one_call(void **state)
{
    Forge__V1__Span spans[4] = {span_of("07", 1), span_of("07", 2), span_of("07", 1), span_of("07", 1)};
    spans[2].start_ns = spans[3].start_ns = spans[0].start_ns;
    spans[2].end_ns = spans[3].end_ns = spans[0].end_ns;
    spans[3].input = TEXT("other");
    assert_string_equal(ingest(spans, 4), "aadr");
    assert_string_equal(ingest(spans, 4), "dddr");
    assert_string_equal(of_trace("07", "span_count"), "2");
}

/* ---- refused ---- */

static void test_outside_the_window(void **state)
{
    Forge__V1__Span span = span_of("08", 1);
    span.start_ns = now_ns() - (24 * 3600 + 5) * second_ns;
    expect_rejected(&span, FORGE__V1__CODE__CODE_OUT_OF_RANGE, "at most 1440 minutes ago", false);
    span.start_ns = now_ns() + 605 * second_ns;
    span.end_ns = span.start_ns;
    expect_rejected(&span, FORGE__V1__CODE__CODE_OUT_OF_RANGE, "at most 10 minutes ahead", false);
    span.start_ns = now_ns() - (24 * 3600 - 60) * second_ns;
    assert_string_equal(ingest(&span, 1), "a");
}

/* As many bytes as a request may have, in spans as large as they come. */
static void test_large_spans(void **state)
{
    Forge__V1__Span spans[7];
    Forge__V1__IngestSpansResponse *reply;
    for (unsigned i = 0; i < 7; i++) {
        spans[i] = span_of("15", i + 1);
        spans[i].input = service_repeat("i", i == 6 ? (512 << 10) + 1 : 256 << 10);
        spans[i].output = service_repeat("o", 256 << 10);
    }
    service_ok(ingest_in(alpha.admin, alpha.project_id, spans, 7, &reply));
    assert_int_equal(reply->accepted_count, 6);
    assert_string_equal(reply->verdicts[6]->verdict->field_violations[0]->field, "input");
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    assert_string_equal(of_spans("15", "sum(length(input) + length(output))"), "3145728");
}

static void test_a_day_without_storage_refuses_its_spans_only(void **state)
{
    Forge__V1__Span spans[4] = {span_of("09", 1), span_of("09", 2), span_of("09", 2), span_of("09", 3)};
    Forge__V1__IngestSpansResponse *reply;
    char today[32];
    spans[1].start_ns = now_ns() - (24 * 3600 - 60) * second_ns; /* yesterday, at most times of the day */
    spans[2].start_ns = spans[1].start_ns;
    spans[2].end_ns = spans[1].end_ns;
    snprintf(today, sizeof today, "%s", service_query("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"));
    char *detach = text("ALTER TABLE spans DETACH PARTITION forge_partitions.spans_%s", today);
    service_execute(detach);
    service_ok(ingest_in(alpha.admin, alpha.project_id, spans, 4, &reply));
    assert_int_equal(reply->rejected_count, 2);
    assert_int_equal(reply->verdicts[0]->verdict->code, FORGE__V1__CODE__CODE_FAILED_PRECONDITION);
    assert_true(reply->verdicts[0]->verdict->retryable);
    assert_int_equal(reply->verdicts[3]->verdict->code, FORGE__V1__CODE__CODE_FAILED_PRECONDITION);
    assert_int_equal(reply->verdicts[1]->verdict->outcome, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED);
    assert_int_equal(reply->verdicts[2]->verdict->outcome, FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    service_execute(text("ALTER TABLE spans ATTACH PARTITION forge_partitions.spans_%s FOR VALUES FROM (date_trunc('day', now(), 'UTC'))"
                         " TO (date_trunc('day', now(), 'UTC') + interval '1 day')",
                         today));
    assert_string_equal(ingest(spans, 4), "adda");
}

static void test_a_full_trace_takes_no_more(void **state)
{
    Forge__V1__Span spans[4] = {span_of("10", 1), span_of("10", 2), span_of("10", 3), span_of("11", 1)};
    Forge__V1__IngestSpansResponse *reply;
    assert_string_equal(ingest(spans, 1), "a");
    service_execute("UPDATE traces SET span_count = 99999 WHERE trace_id = '\\x" TRACE "10'");
    service_ok(ingest_in(alpha.admin, alpha.project_id, spans, 4, &reply));
    assert_int_equal(reply->duplicate_count, 1); /* what is there takes no room */
    assert_int_equal(reply->accepted_count, 2);
    assert_int_equal(reply->verdicts[2]->verdict->code, FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED);
    assert_string_equal(reply->verdicts[2]->verdict->message, "the trace holds 100000 spans");
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    assert_string_equal(of_trace("10", "span_count"), "100000");
    assert_string_equal(ingest(spans, 4), "ddrd");
}

static void test_who_may_and_where(void **state)
{
    Forge__V1__Span span = span_of("12", 1);
    Forge__V1__IngestSpansResponse *reply;
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, alpha.project_id);
    service_fails(ingest_in(beta.admin, alpha.project_id, &span, 1, &reply), FORGE_NOT_FOUND, "project");
    service_fails(ingest_in(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), alpha.project_id, &span, 1, &reply),
                  FORGE_PERMISSION_DENIED, "developer");
    service_fails(ingest_in(bound, beta.project_id, &span, 1, &reply), FORGE_PERMISSION_DENIED, "bound to another project");
    service_violates(ingest_in(alpha.admin, "", &span, 1, &reply), "project_id", "is required");
    assert_string_equal(of_spans("12", "count(*)"), "0");
    service_ok(ingest_in(bound, "", &span, 1, &reply));
    assert_int_equal(reply->accepted_count, 1);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    assert_string_equal(of_spans("12", "count(*)"), "1");
    service_execute(text("INSERT INTO projects (organization_id, id, name, deleted_at) VALUES ('%s',"
                         " '01890000-0000-7000-8000-0000000000dd', 'gone', now())",
                         alpha.organization_id));
    service_fails(ingest_in(alpha.admin, "01890000-0000-7000-8000-0000000000dd", &span, 1, &reply), FORGE_NOT_FOUND,
                  "project 01890000-0000-7000-8000-0000000000dd not found");
}

static void test_what_the_request_says_of_all_spans(void **state)
{
    Forge__V1__Span spans[2] = {span_of("13", 1), span_of("13", 2)}, *list[] = {&spans[0], &spans[1]};
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__Resource resource = FORGE__V1__RESOURCE__INIT, own = FORGE__V1__RESOURCE__INIT;
    Forge__V1__InstrumentationScope scope = FORGE__V1__INSTRUMENTATION_SCOPE__INIT;
    Forge__V1__IngestSpansResponse *reply;
    request.project_id = alpha.project_id;
    request.n_spans = 2;
    request.spans = list;
    request.resource = &resource;
    request.scope = &scope;
    resource.schema_url = TEXT("https://of.the.request");
    own.schema_url = TEXT("https://of.the.span");
    scope.name = TEXT("instrumentation");
    spans[1].resource = &own;
    service_ok(forge_trace_ingest_spans(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->accepted_count, 2);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    assert_string_equal(of_spans("13", "string_agg((position('of.the.request' in encode(details, 'escape')) > 0)::text || (position("
                                       "'of.the.span' in encode(details, 'escape')) > 0)::text || (position('instrumentation' in"
                                       " encode(details, 'escape')) > 0)::text, ' ' ORDER BY span_id)"),
                        "truefalsetrue falsetruetrue");
    scope.name = service_repeat("x", 256);
    resource.dropped_attribute_count = -1;
    service_violates(forge_trace_ingest_spans(alpha.admin, NULL, &request, &reply, &service_error), "resource.dropped_attribute_count",
                     "0 or more", "scope.name", "255 characters");
}

/* ---- cost ---- */

static void make_price(const char *model_id, const char *input_micros, const char *effective_time)
{
    service_ok(service_call(alpha.admin, "OrganizationService/SetModelPrice", NULL,
                            "{'model_id': '%s', 'effective_time': '%s', 'usage_prices': [{'usage_type': 'USAGE_TYPE_INPUT',"
                            " 'micros_per_million_tokens': '%s'}, {'usage_type': 'USAGE_TYPE_CACHE_READ', 'micros_per_million_tokens':"
                            " '1000000'}]}",
                            model_id, effective_time, input_micros));
}

static void test_cost_by_the_price_at_the_start(void **state)
{
    char provider_id[37], model_id[37], yesterday[64], half_hour_ago[64];
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'OpenAI', 'provider_key': 'openai'}"));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL,
                            "{'provider_id': '%s', 'name': 'gpt-4', 'aliases': ['gpt-4-0613']}", provider_id));
    service_reply_text("id", model_id, sizeof model_id);
    snprintf(yesterday, sizeof yesterday, "%s",
             service_query("SELECT to_char((now() - interval '1 d') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"));
    snprintf(half_hour_ago, sizeof half_hour_ago, "%s",
             service_query("SELECT to_char((now() - interval '30 min') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"));
    make_price(model_id, "2000000", yesterday);
    make_price(model_id, "3000000", half_hour_ago);
    Forge__V1__Span spans[6];
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    Google__Protobuf__Int64Value given = GOOGLE__PROTOBUF__INT64_VALUE__INIT;
    usage.input_tokens = 100;
    usage.cache_read_tokens = 10;
    given.value = 5;
    for (unsigned i = 0; i < 6; i++) {
        spans[i] = span_of("14", i + 1);
        spans[i].provider = TEXT("openai");
        spans[i].model = TEXT("gpt-4-0613");
        spans[i].usage = &usage;
    }
    spans[0].start_ns -= 3600 * second_ns; /* by the price before */
    spans[2].cost_micros = &given;
    spans[3].usage = NULL;
    spans[4].model = TEXT("unknown");
    spans[5].start_ns = now_ns() - (24 * 3600 - 10) * second_ns; /* the first price: from yesterday on */
    assert_string_equal(ingest(spans, 6), "aaaaaa");
    assert_string_equal(
        of_spans("14", "string_agg(concat_ws(',', cost_micros, price_id IS NOT NULL, model_id IS NOT NULL), ' ' ORDER BY span_id)"),
        "210,t,t 310,t,t 5,f,t f,t f,f 210,t,t");
    assert_string_equal(of_trace("14", "concat_ws(',', cost_micros, input_tokens, cache_read_tokens)"), "735,500,50");
    assert_string_equal(of_spans("14", "count(*) FILTER (WHERE price_id = (SELECT id FROM model_prices WHERE input_price = 2000000))"),
                        "2");
}

/* ---- together ---- */

static Forge__V1__Span shared[WRITERS * 10];
static struct forge_channel *channels[WRITERS];

/* Every writer sends the same spans of the same traces, each from another one on. */
static void *write_shared(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    Forge__V1__Span *list[WRITERS * 10];
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    intptr_t accepted = 0;
    request.project_id = alpha.project_id;
    request.spans = list;
    request.n_spans = WRITERS * 10;
    for (unsigned round = 0; round < ROUNDS; round++) {
        Forge__V1__IngestSpansResponse *reply;
        struct forge_error error = {0};
        for (unsigned i = 0; i < WRITERS * 10; i++)
            list[i] = &shared[(i + number * 10 + round * 3) % (WRITERS * 10)];
        forge_code code = forge_trace_ingest_spans(channels[number], NULL, &request, &reply, &error);
        if (code != FORGE_OK) {
            fprintf(stderr, "%s: %s\n", forge_code_name(code), error.message);
            forge_error_free(&error);
            return (void *)(intptr_t)-10000;
        }
        accepted += reply->accepted_count;
        accepted = reply->rejected_count > 0 ? -10000 : accepted;
        forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    }
    return (void *)accepted;
}

static void test_writers_of_the_same_spans(void **state)
{
    pthread_t threads[WRITERS];
    intptr_t accepted = 0;
    for (unsigned i = 0; i < WRITERS * 10; i++)
        shared[i] = span_of(i % 3 == 0 ? "20" : i % 3 == 1 ? "21" : "22", i + 1);
    for (int i = 0; i < WRITERS; i++)
        channels[i] = service_channel(alpha.token);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_shared, (void *)i), 0);
    for (int i = 0; i < WRITERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        accepted += (intptr_t)result;
    }
    assert_int_equal(accepted, WRITERS * 10);
    assert_string_equal(service_query("SELECT sum(span_count) FROM traces WHERE encode(trace_id, 'hex') ~ '^" TRACE "2[012]$'"), "80");
}

static void test_usage_is_counted(void **state)
{
    static const char sum[] = "SELECT COALESCE(sum(value), 0) FROM usage_daily WHERE metric = 'spans' AND project_id = '%s'";
    const struct timespec pause = {.tv_nsec = 50000000};
    char sql[256];
    snprintf(sql, sizeof sql, sum, beta.project_id);
    Forge__V1__Span spans[3] = {span_of("30", 1), span_of("30", 2), span_of("30", 3)};
    Forge__V1__IngestSpansResponse *reply;
    spans[2].name = TEXT("");
    service_ok(ingest_in(beta.admin, beta.project_id, spans, 3, &reply));
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    for (int i = 0; i < 600 && strcmp(service_query(sql), "0") == 0; i++)
        nanosleep(&pause, NULL);
    assert_string_equal(service_query(sql), "2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans_are_stored_with_their_columns),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_one_bad_span_of_a_thousand),
        cmocka_unit_test(test_a_repeat_stores_nothing_twice),
        cmocka_unit_test(test_other_content_under_one_identity_is_a_conflict),
        cmocka_unit_test(test_twins_in_one_call),
        cmocka_unit_test(test_outside_the_window),
        cmocka_unit_test(test_large_spans),
        cmocka_unit_test(test_a_day_without_storage_refuses_its_spans_only),
        cmocka_unit_test(test_a_full_trace_takes_no_more),
        cmocka_unit_test(test_who_may_and_where),
        cmocka_unit_test(test_what_the_request_says_of_all_spans),
        cmocka_unit_test(test_cost_by_the_price_at_the_start),
        cmocka_unit_test(test_writers_of_the_same_spans),
        cmocka_unit_test(test_usage_is_counted),
    };
    return cmocka_run_group_tests(tests, start, end);
}
