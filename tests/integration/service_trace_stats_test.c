/* TraceService over TLS: GetTraceStats, against figures that are computed by hand. What it costs: score_plans_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_SIZE = 8192, HOUR_S = 3600 };
#define TRACE "0af7651916cd43dd8448eb211c8031"
#define PROMPT_A "01890000-0000-7000-8000-0000000000aa"
#define PROMPT_B "01890000-0000-7000-8000-0000000000bb"
static const int64_t second_ns = INT64_C(1000000000), millisecond_ns = 1000000;

static struct service_tenant alpha, beta;
static char project_id[37]; /* of alpha: what the spans below are in */
static int64_t base_s;      /* a full hour, three to four hours ago */

static void wait_for_partitions(void)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int i = 0; i < 3000 && strcmp(service_query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass"), "9") != 0;
         i++)
        nanosleep(&pause, NULL);
    assert_string_equal(service_query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass"), "9");
}

/* ---- requests ---- */

/* What a span is made of; all else is the same. at_s: seconds behind base_s. */
struct span {
    const char *trace; /* the last two digits of its id */
    unsigned number;
    int64_t at_ns, duration_ns;
    const char *model, *prompt_id, *label;
    int32_t version;
    int64_t tokens, cost_micros;
    bool has_failed;
    Forge__V1__SpanKind kind;
};

static void ingest_in(const char *project, struct span span)
{
    Forge__V1__Span message = FORGE__V1__SPAN__INIT, *list[] = {&message};
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    Google__Protobuf__Int64Value cost = GOOGLE__PROTOBUF__INT64_VALUE__INIT;
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__IngestSpansResponse *reply;
    char trace_id[33], span_id[17];
    snprintf(trace_id, sizeof trace_id, TRACE "%s", span.trace);
    snprintf(span_id, sizeof span_id, "%016x", span.number);
    message.trace_id = trace_id;
    message.span_id = span_id;
    message.name = TEXT("step");
    message.kind = span.kind;
    message.start_ns = base_s * second_ns + span.at_ns;
    message.end_ns = message.start_ns + span.duration_ns;
    message.status = span.has_failed ? FORGE__V1__SPAN_STATUS__SPAN_STATUS_ERROR : FORGE__V1__SPAN_STATUS__SPAN_STATUS_OK;
    message.model = TEXT(span.model != NULL ? span.model : "");
    message.prompt_id = TEXT(span.prompt_id != NULL ? span.prompt_id : "");
    message.prompt_label = TEXT(span.label != NULL ? span.label : "");
    message.prompt_version = span.version;
    usage.input_tokens = usage.cache_read_tokens = usage.cache_write_tokens = usage.output_tokens = usage.reasoning_tokens = span.tokens;
    usage.output_tokens *= 2;
    message.usage = &usage;
    cost.value = span.cost_micros;
    message.cost_micros = &cost;
    request.project_id = TEXT(project);
    request.n_spans = 1;
    request.spans = list;
    service_ok(forge_trace_ingest_spans(alpha.admin, NULL, &request, &reply, &service_error));
    assert_int_equal(reply->accepted_count, 1);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
}

static void ingest(struct span span)
{
    ingest_in(project_id, span);
}

static void project_make(const char *name, char out_id[37])
{
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': '%s'}", name));
    service_reply_text("id", out_id, 37);
}

static Forge__V1__GetTraceStatsRequest ask(int64_t bucket_s, Forge__V1__TraceStatsGroup group)
{
    static Google__Protobuf__Timestamp start, end;
    Forge__V1__GetTraceStatsRequest request = FORGE__V1__GET_TRACE_STATS_REQUEST__INIT;
    google__protobuf__timestamp__init(&start);
    google__protobuf__timestamp__init(&end);
    start.seconds = base_s;
    end.seconds = base_s + 2 * HOUR_S;
    request.project_id = project_id;
    request.start_time = &start;
    request.end_time = &end;
    request.bucket_s = bucket_s;
    request.group_by = group;
    return request;
}

static size_t write_bucket(const Forge__V1__TraceStatsBucket *bucket, char *text, size_t size)
{
    const Forge__V1__TokenUsage *usage = bucket->usage;
    size_t length = (size_t)snprintf(text, size, "%" PRId64 "/%" PRId64 " %" PRId64 ",%" PRId64 ",%" PRId64 "us %" PRId64 "t %" PRId64 "c",
                                     bucket->count, bucket->error_count, bucket->duration_p50_us, bucket->duration_p95_us,
                                     bucket->duration_p99_us, usage->input_tokens, bucket->cost_micros);
    assert_true(usage->cache_read_tokens == usage->input_tokens && usage->cache_write_tokens == usage->input_tokens &&
                usage->output_tokens == 2 * usage->input_tokens && usage->reasoning_tokens == usage->input_tokens);
    assert_int_equal(bucket->start_time->nanos, 0);
    for (size_t i = 0; i < bucket->n_scores; i++)
        length += (size_t)snprintf(text + length, size - length, " %s=%g*%" PRId64, bucket->scores[i]->name, bucket->scores[i]->average,
                                   bucket->scores[i]->count);
    return length;
}

/* The total of each series, and behind its begin in seconds from base_s each bucket:
 * "model prompt version label: spans/errors percentiles tokens cost scores; +0 ..."; kept until the next call. */
static const char *stats(Forge__V1__GetTraceStatsRequest request)
{
    static char text[TEXT_SIZE];
    Forge__V1__GetTraceStatsResponse *reply;
    size_t length = 0;
    text[0] = '\0';
    service_ok(forge_trace_get_stats(alpha.admin, NULL, &request, &reply, &service_error));
    for (size_t i = 0; i < reply->n_series; i++) {
        const Forge__V1__TraceStatsSeries *series = reply->series[i];
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", i > 0 ? "\n" : "", series->model);
        if (series->prompt != NULL)
            length += (size_t)snprintf(text + length, sizeof text - length, "%s %d %s",
                                       strcmp(series->prompt->prompt_id, PROMPT_A) == 0 ? "A" : "B", (int)series->prompt->version,
                                       series->prompt->label);
        length += (size_t)snprintf(text + length, sizeof text - length, ": ");
        length += write_bucket(series->total, text + length, sizeof text - length);
        for (size_t j = 0; j < series->n_buckets; j++) {
            length +=
                (size_t)snprintf(text + length, sizeof text - length, "; +%" PRId64 " ", series->buckets[j]->start_time->seconds - base_s);
            length += write_bucket(series->buckets[j], text + length, sizeof text - length);
        }
        assert_in_range(length, 0, sizeof text - 1);
    }
    forge__v1__get_trace_stats_response__free_unpacked(reply, NULL);
    return text;
}

/* {'trace_id': ..} or {'span': ..} and a value, both as members of a Score. */
static void score(const char *target, const char *name, const char *value)
{
    service_ok(service_call(alpha.admin, "TraceService/RecordScores", NULL,
                            "{'project_id': '%s', 'scores': [{%s, 'name': '%s', %s, 'source': 'SCORE_SOURCE_HUMAN'}]}", project_id, target,
                            name, value));
    service_shows("ACCEPTED");
}

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    wait_for_partitions(); /* the server makes them in its first pass */
    base_s = forge_clock_wall_us() / 1000000 / HOUR_S * HOUR_S - 3 * HOUR_S;
    return 0;
}

/* Each test has a project of its own. */
static int project_start(void **state)
{
    static unsigned number;
    char name[16];
    (void)state;
    snprintf(name, sizeof name, "project %u", ++number);
    project_make(name, project_id);
    return 0;
}

/* ---- traces ---- */

/* Twenty traces of 1 to 20 ms: the 10th, 19th and 20th of them. */
static void test_percentiles_are_the_nearest_rank(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 20; i++) {
        char trace[3];
        snprintf(trace, sizeof trace, "%02u", i);
        ingest((struct span){.trace = trace, .number = 1, .at_ns = i, .duration_ns = i * millisecond_ns, .tokens = i, .cost_micros = 2});
    }
    assert_string_equal(stats(ask(0, 0)), ": 20/0 10000,19000,20000us 210t 40c; +0 20/0 10000,19000,20000us 210t 40c");
    /* One more and the median is the 11th, in whole microseconds rounded down. */
    ingest((struct span){.trace = "21", .number = 1, .at_ns = 21, .duration_ns = 10 * millisecond_ns + 1999, .has_failed = true});
    assert_string_equal(stats(ask(0, 0)), ": 21/1 10001,19000,20000us 210t 40c; +0 21/1 10001,19000,20000us 210t 40c");
}

static void test_of_one_and_of_none(void **state)
{
    (void)state;
    assert_string_equal(stats(ask(0, 0)), ": 0/0 0,0,0us 0t 0c");
    assert_string_equal(stats(ask(60, 0)), ": 0/0 0,0,0us 0t 0c");
    assert_string_equal(stats(ask(60, FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_MODEL)), "");
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 7000, .model = "m"});
    assert_string_equal(stats(ask(0, 0)), ": 1/0 7,7,7us 0t 0c; +0 1/0 7,7,7us 0t 0c");
    assert_string_equal(stats(ask(0, FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_PROMPT_VERSION)), "");
}

/* A bucket holds what starts from its begin on and before the next; a trace starts with its first span and is as long as all of them. */
static void test_borders_of_buckets(void **state)
{
    (void)state;
    Forge__V1__GetTraceStatsRequest request = ask(HOUR_S, 0);
    ingest((struct span){.trace = "01", .number = 1, .at_ns = -1, .duration_ns = 1000});
    ingest((struct span){.trace = "02", .number = 1, .at_ns = 0, .duration_ns = 2000});
    ingest((struct span){.trace = "03", .number = 1, .at_ns = HOUR_S * second_ns - 1, .duration_ns = 3000});
    ingest((struct span){.trace = "03", .number = 2, .at_ns = HOUR_S * second_ns, .duration_ns = 5000, .has_failed = true});
    ingest((struct span){.trace = "04", .number = 1, .at_ns = HOUR_S * second_ns, .duration_ns = 4000});
    ingest((struct span){.trace = "05", .number = 1, .at_ns = 2 * HOUR_S * second_ns - 1, .duration_ns = 6000});
    ingest((struct span){.trace = "06", .number = 1, .at_ns = 2 * HOUR_S * second_ns, .duration_ns = 7000});
    assert_string_equal(stats(request), ": 4/1 4,6,6us 0t 0c; +0 2/1 2,5,5us 0t 0c; +3600 2/0 4,6,6us 0t 0c");
    /* A start inside of a bucket is taken back to its begin, an end is not moved. */
    request.start_time->seconds += HOUR_S / 2;
    request.end_time->seconds -= HOUR_S / 2;
    assert_string_equal(stats(request), ": 3/1 4,5,5us 0t 0c; +0 2/1 2,5,5us 0t 0c; +3600 1/0 4,4,4us 0t 0c");
    request.bucket_s = 0;
    assert_string_equal(stats(request), ": 2/1 4,5,5us 0t 0c; +1800 2/1 4,5,5us 0t 0c");
}

/* Buckets of a day begin at midnight UTC, and by default the range is the last 24 hours. */
static void test_days_and_defaults(void **state)
{
    (void)state;
    char sql[512];
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000});
    ingest((struct span){.trace = "02", .number = 1, .duration_ns = 1000});
    snprintf(
        sql, sizeof sql,
        "UPDATE traces SET started_at = started_at - interval '2 days', start_ns = start_ns - 172800000000000 WHERE project_id = '%s' AND"
        " trace_id = '\\x" TRACE "02'",
        project_id);
    service_execute(sql);
    service_ok(service_call(alpha.admin, "TraceService/GetTraceStats", NULL, "{'project_id': '%s'}", project_id));
    service_shows("'total':{'start_time':'", "'count':'1'", "'buckets':[{", "'count':'1'");
    service_ok(service_call(alpha.admin, "TraceService/GetTraceStats", NULL, "{'project_id': '%s', 'bucket_s': '86400'}", project_id));
    service_shows("T00:00:00Z", "'buckets':[{'start_time':'", "T00:00:00Z");
}

static void test_traces_with_such_a_span(void **state)
{
    (void)state;
    Forge__V1__GetTraceStatsRequest request = ask(0, 0);
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000, .model = "m", .prompt_id = PROMPT_A, .version = 1, .label = "l"});
    ingest((struct span){.trace = "01", .number = 2, .duration_ns = 1000, .model = "m", .prompt_id = PROMPT_A, .version = 1, .label = "l"});
    ingest((struct span){.trace = "02", .number = 1, .duration_ns = 2000, .model = "m", .prompt_id = PROMPT_A, .version = 2});
    ingest((struct span){.trace = "03", .number = 1, .duration_ns = 4000, .model = "n", .prompt_id = PROMPT_B, .version = 1});
    /* Its span of this model starts behind the range, and another span names the prompt. */
    ingest((struct span){.trace = "04", .number = 1, .at_ns = HOUR_S * second_ns, .duration_ns = 3000, .prompt_id = PROMPT_A});
    ingest((struct span){.trace = "04", .number = 2, .at_ns = (2 * HOUR_S + 1) * second_ns, .duration_ns = 3000, .model = "m"});
    request.model = TEXT("m");
    assert_string_equal(stats(request), ": 3/0 2,3601000003,3601000003us 0t 0c; +0 3/0 2,3601000003,3601000003us 0t 0c");
    request.prompt_id = TEXT(PROMPT_A);
    assert_string_equal(stats(request), ": 2/0 1,2,2us 0t 0c; +0 2/0 1,2,2us 0t 0c");
    request.prompt_version = 2;
    assert_string_equal(stats(request), ": 1/0 2,2,2us 0t 0c; +0 1/0 2,2,2us 0t 0c");
    request.model = TEXT("");
    request.prompt_version = 1;
    assert_string_equal(stats(request), ": 1/0 1,1,1us 0t 0c; +0 1/0 1,1,1us 0t 0c");
    request.prompt_version = 0;
    request.prompt_label = TEXT("l");
    assert_string_equal(stats(request), ": 1/0 1,1,1us 0t 0c; +0 1/0 1,1,1us 0t 0c");
    request.prompt_id = TEXT(PROMPT_B);
    assert_string_equal(stats(request), ": 0/0 0,0,0us 0t 0c");
}

/* Of traces their own scores count, of numbers and booleans only. */
static void test_scores_of_traces(void **state)
{
    (void)state;
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000});
    ingest((struct span){.trace = "02", .number = 1, .at_ns = HOUR_S * second_ns, .duration_ns = 2000});
    score("'trace_id': '" TRACE "01'", "quality", "'number': 1");
    score("'trace_id': '" TRACE "01'", "quality", "'number': 0.25"); /* replaces it */
    score("'trace_id': '" TRACE "02'", "quality", "'number': 0.75");
    score("'trace_id': '" TRACE "02'", "solved", "'boolean': true");
    score("'trace_id': '" TRACE "01'", "solved", "'boolean': false");
    score("'trace_id': '" TRACE "02'", "tone", "'category': 'polite'");
    score("'trace_id': '" TRACE "02'", "note", "'text': 'said'");
    score("'trace_id': '" TRACE "03'", "quality", "'number': 100");
    score("'span': {'trace_id': '" TRACE "01', 'span_id': '0000000000000001'}", "quality", "'number': 100");
    score("'session_id': '" TRACE "01'", "quality", "'number': 100");
    assert_string_equal(stats(ask(HOUR_S, 0)),
                        ": 2/0 1,2,2us 0t 0c quality=0.5*2 solved=0.5*2; +0 1/0 1,1,1us 0t 0c quality=0.25*1 solved=0*1;"
                        " +3600 1/0 2,2,2us 0t 0c quality=0.75*1 solved=1*1");
}

static void test_means_of_the_largest_numbers(void **state)
{
    (void)state;
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000});
    ingest((struct span){.trace = "02", .number = 1, .duration_ns = 1000});
    score("'trace_id': '" TRACE "01'", "x", "'number': 1.7976931348623157e308");
    score("'trace_id': '" TRACE "02'", "x", "'number': 1.7976931348623157e308");
    score("'trace_id': '" TRACE "01'", "y", "'number': -1e300");
    score("'trace_id': '" TRACE "02'", "y", "'number': 1e300");
    assert_string_equal(stats(ask(0, 0)), ": 2/0 1,1,1us 0t 0c x=1.79769e+308*2 y=0*2; +0 2/0 1,1,1us 0t 0c x=1.79769e+308*2 y=0*2");
}

/* Sums beyond an int64 stay at its end. */
static void test_sums_are_saturated(void **state)
{
    (void)state;
    Forge__V1__GetTraceStatsResponse *reply;
    Forge__V1__GetTraceStatsRequest request = ask(0, 0);
    char sql[256];
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000});
    ingest((struct span){.trace = "02", .number = 1, .duration_ns = 1000});
    snprintf(sql, sizeof sql,
             "UPDATE traces SET cost_micros = 9223372036854775807, input_tokens = 9223372036854775807 WHERE project_id = '%s'", project_id);
    service_execute(sql);
    service_ok(forge_trace_get_stats(alpha.admin, NULL, &request, &reply, &service_error));
    assert_true(reply->series[0]->total->cost_micros == INT64_MAX && reply->series[0]->total->usage->input_tokens == INT64_MAX);
    forge__v1__get_trace_stats_response__free_unpacked(reply, NULL);
}

/* ---- spans ---- */

static void test_by_model(void **state)
{
    (void)state;
    Forge__V1__GetTraceStatsRequest request = ask(HOUR_S, FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_MODEL);
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000, .model = "b", .tokens = 1, .cost_micros = 10});
    ingest((struct span){.trace = "01",
                         .number = 2,
                         .at_ns = HOUR_S * second_ns,
                         .duration_ns = 3000,
                         .model = "b",
                         .tokens = 2,
                         .cost_micros = 20,
                         .has_failed = true,
                         .kind = FORGE__V1__SPAN_KIND__SPAN_KIND_LLM});
    ingest((struct span){.trace = "01", .number = 3, .duration_ns = 5000, .model = "a", .kind = FORGE__V1__SPAN_KIND__SPAN_KIND_LLM});
    ingest((struct span){.trace = "01", .number = 4, .duration_ns = 9000}); /* names none */
    assert_string_equal(stats(request), "a: 1/0 5,5,5us 0t 0c; +0 1/0 5,5,5us 0t 0c\n"
                                        "b: 2/1 1,3,3us 3t 30c; +0 1/0 1,1,1us 1t 10c; +3600 1/1 3,3,3us 2t 20c");
    request.kind = FORGE__V1__SPAN_KIND__SPAN_KIND_LLM;
    assert_string_equal(stats(request), "a: 1/0 5,5,5us 0t 0c; +0 1/0 5,5,5us 0t 0c\nb: 1/1 3,3,3us 2t 20c; +3600 1/1 3,3,3us 2t 20c");
    request.model = TEXT("a");
    assert_string_equal(stats(request), "a: 1/0 5,5,5us 0t 0c; +0 1/0 5,5,5us 0t 0c");
}

static void test_by_prompt_version_and_label(void **state)
{
    (void)state;
    Forge__V1__GetTraceStatsRequest request = ask(0, FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_PROMPT_VERSION);
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000, .prompt_id = PROMPT_A, .version = 2, .label = "production"});
    ingest((struct span){.trace = "02", .number = 1, .duration_ns = 2000, .prompt_id = PROMPT_A, .version = 1, .label = "production"});
    ingest((struct span){.trace = "03", .number = 1, .duration_ns = 3000, .prompt_id = PROMPT_A, .label = "canary", .model = "m"});
    ingest((struct span){.trace = "04", .number = 1, .duration_ns = 4000, .prompt_id = PROMPT_B, .version = 1});
    ingest((struct span){.trace = "05", .number = 1, .duration_ns = 5000, .model = "m"});
    assert_string_equal(stats(request), "A 0 : 1/0 3,3,3us 0t 0c; +0 1/0 3,3,3us 0t 0c\nA 1 : 1/0 2,2,2us 0t 0c; +0 1/0 2,2,2us 0t 0c\n"
                                        "A 2 : 1/0 1,1,1us 0t 0c; +0 1/0 1,1,1us 0t 0c\nB 1 : 1/0 4,4,4us 0t 0c; +0 1/0 4,4,4us 0t 0c");
    request.prompt_id = TEXT(PROMPT_A);
    request.prompt_version = 2;
    assert_string_equal(stats(request), "A 2 : 1/0 1,1,1us 0t 0c; +0 1/0 1,1,1us 0t 0c");
    request.prompt_id = TEXT("");
    request.prompt_version = 0;
    request.group_by = FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_PROMPT_LABEL;
    assert_string_equal(stats(request),
                        "A 0 canary: 1/0 3,3,3us 0t 0c; +0 1/0 3,3,3us 0t 0c\n"
                        "A 0 production: 2/0 1,2,2us 0t 0c; +0 2/0 1,2,2us 0t 0c\nB 0 : 1/0 4,4,4us 0t 0c; +0 1/0 4,4,4us 0t 0c");
    request.model = TEXT("m");
    assert_string_equal(stats(request), "A 0 canary: 1/0 3,3,3us 0t 0c; +0 1/0 3,3,3us 0t 0c");
    request.model = TEXT("");
    request.prompt_id = TEXT(PROMPT_A);
    request.prompt_label = TEXT("production");
    assert_string_equal(stats(request), "A 0 production: 2/0 1,2,2us 0t 0c; +0 2/0 1,2,2us 0t 0c");
}

/* Two versions of a prompt on live traffic: what was said of the spans and of the traces they are in, of each trace once. */
static void test_versions_are_compared_by_scores(void **state)
{
    (void)state;
    Forge__V1__GetTraceStatsRequest request = ask(HOUR_S, FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_PROMPT_VERSION);
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000, .prompt_id = PROMPT_A, .version = 1});
    ingest((struct span){.trace = "01", .number = 2, .duration_ns = 1000, .prompt_id = PROMPT_A, .version = 1});
    ingest(
        (struct span){.trace = "01", .number = 3, .at_ns = HOUR_S * second_ns, .duration_ns = 1000, .prompt_id = PROMPT_A, .version = 1});
    ingest((struct span){.trace = "02", .number = 1, .duration_ns = 1000, .prompt_id = PROMPT_A, .version = 1});
    ingest((struct span){.trace = "03", .number = 1, .duration_ns = 1000, .prompt_id = PROMPT_A, .version = 2});
    score("'trace_id': '" TRACE "01'", "quality", "'number': 0.5");
    score("'trace_id': '" TRACE "02'", "quality", "'number': 0.25");
    score("'trace_id': '" TRACE "03'", "quality", "'number': 0.75");
    score("'span': {'trace_id': '" TRACE "01', 'span_id': '0000000000000002'}", "short", "'boolean': true");
    score("'span': {'trace_id': '" TRACE "01', 'span_id': '0000000000000003'}", "short", "'boolean': false");
    score("'span': {'trace_id': '" TRACE "04', 'span_id': '0000000000000003'}", "short", "'boolean': false");
    assert_string_equal(stats(request),
                        "A 1 : 4/0 1,1,1us 0t 0c quality=0.375*2 short=0.5*2; +0 3/0 1,1,1us 0t 0c quality=0.375*2 short=1*1;"
                        " +3600 1/0 1,1,1us 0t 0c quality=0.5*1 short=0*1\n"
                        "A 2 : 1/0 1,1,1us 0t 0c quality=0.75*1; +0 1/0 1,1,1us 0t 0c quality=0.75*1");
}

/* ---- refused ---- */

static void test_each_field_is_checked(void **state)
{
    (void)state;
    service_violates(service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                                  "{'project_id': '%s', 'bucket_s': '31622401', 'prompt_version': 1, 'kind': 'SPAN_KIND_LLM'}", project_id),
                     "bucket_s", "0 to 31622400", "prompt_version", "needs prompt_id", "kind", "needs group_by");
    service_violates(service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                                  "{'project_id': 'x', 'bucket_s': '-1', 'model': '%s', 'prompt_id': 'y', 'prompt_version': -1,"
                                  " 'prompt_label': '%s', 'kind': 'SPAN_KIND_LLM'}",
                                  service_repeat("m", 256), service_repeat("l", 65)),
                     "project_id", "UUID", "bucket_s", "0 to 31622400", "model", "255", "prompt_id", "UUID", "prompt_version", "0 or more",
                     "prompt_label", "64", "kind", "needs group_by");
    service_violates(service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                                  "{'project_id': '%s', 'start_time': '2026-01-01T00:00:00Z', 'end_time': '2026-01-01T00:00:00Z',"
                                  " 'prompt_label': 'l'}",
                                  project_id),
                     "end_time", "after start_time", "prompt_label", "needs prompt_id");
    service_violates(service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                                  "{'project_id': '%s', 'start_time': '2999-01-01T00:00:00Z', 'prompt_version': -1}", project_id),
                     "start_time", "before now", "prompt_version", "0 or more");
    service_violates(service_call(alpha.admin, "TraceService/GetTraceStats", NULL, "{}"), "project_id", "is required");
}

static void test_too_many_buckets(void **state)
{
    (void)state;
    char sql[512];
    service_fails(
        service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                     "{'project_id': '%s', 'start_time': '2026-01-01T00:00:00Z', 'end_time': '2026-01-01T02:46:41Z', 'bucket_s': '1'}",
                     project_id),
        FORGE_RESOURCE_EXHAUSTED, "10001 buckets");
    service_ok(service_call(
        alpha.admin, "TraceService/GetTraceStats", NULL,
        "{'project_id': '%s', 'start_time': '2026-01-01T00:00:00Z', 'end_time': '2026-01-01T02:46:40Z', 'bucket_s': '1'}", project_id));
    service_ok(service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                            "{'project_id': '%s', 'start_time': '0001-01-01T00:00:00Z', 'end_time': '9999-12-31T23:59:59Z'}", project_id));
    /* Few in the range, and one for each of many models. */
    snprintf(sql, sizeof sql,
             "INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, name, kind, start_ns, end_ns, status, model,"
             " content_hash) SELECT '%s', '%s', decode(md5(n::text), 'hex'), '\\x0000000000000001', to_timestamp(%" PRId64
             "), 'x', 1, %" PRId64 ", %" PRId64 ", 1, 'm' || n, '' FROM generate_series(1, 10001) n",
             alpha.organization_id, project_id, base_s, base_s * second_ns, base_s * second_ns);
    service_execute(sql);
    service_fails(service_call(alpha.admin, "TraceService/GetTraceStats", NULL,
                               "{'project_id': '%s', 'group_by': 'TRACE_STATS_GROUP_MODEL'}", project_id),
                  FORGE_RESOURCE_EXHAUSTED, "over 10000 buckets");
    snprintf(sql, sizeof sql, "DELETE FROM spans WHERE project_id = '%s' AND model = 'm1'", project_id);
    service_execute(sql);
    service_ok(service_call(alpha.admin, "TraceService/GetTraceStats", NULL, "{'project_id': '%s', 'group_by': 'TRACE_STATS_GROUP_MODEL'}",
                            project_id));
}

static void test_who_may_and_where(void **state)
{
    (void)state;
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000, .model = "m"});
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id),
                         *ingester = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL);
    service_fails(service_call(beta.admin, "TraceService/GetTraceStats", NULL, "{'project_id': '%s'}", project_id), FORGE_NOT_FOUND,
                  "project");
    service_fails(service_call(beta.admin, "TraceService/GetTraceStats", NULL, "{'project_id': '%s', 'group_by': 1}", project_id),
                  FORGE_NOT_FOUND, "project");
    service_fails(service_call(bound, "TraceService/GetTraceStats", NULL, "{'project_id': '%s'}", project_id), FORGE_PERMISSION_DENIED,
                  "bound to another project");
    service_fails(service_call(ingester, "TraceService/GetTraceStats", NULL, "{'project_id': '%s'}", project_id), FORGE_PERMISSION_DENIED,
                  "viewer");
    service_ok(service_call(bound, "TraceService/GetTraceStats", NULL, "{'project_id': '%s', 'group_by': 1}", alpha.project_id));
    assert_string_equal(service_reply(), "{}"); /* nothing of another project */
}

/* A call that is out of time says what to do, and its work ends with it. */
static void test_the_deadline_ends_the_work(void **state)
{
    (void)state;
    const struct forge_call_options options = {.timeout_ms = 1000};
    Forge__V1__GetTraceStatsRequest request = ask(0, 0);
    Forge__V1__GetTraceStatsResponse *reply;
    ingest((struct span){.trace = "01", .number = 1, .duration_ns = 1000});
    service_execute("CREATE POLICY slow ON traces AS RESTRICTIVE USING (pg_sleep(600)::text = '')");
    service_fails(forge_trace_get_stats(alpha.admin, &options, &request, &reply, &service_error), FORGE_DEADLINE_EXCEEDED,
                  "ask for a shorter range");
    service_execute("DROP POLICY slow ON traces");
    assert_string_equal(stats(ask(0, 0)), ": 1/0 1,1,1us 0t 0c; +0 1/0 1,1,1us 0t 0c");
}

#define TEST(function) cmocka_unit_test_setup(function, project_start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_percentiles_are_the_nearest_rank),
        TEST(test_of_one_and_of_none),
        TEST(test_borders_of_buckets),
        TEST(test_days_and_defaults),
        TEST(test_traces_with_such_a_span),
        TEST(test_scores_of_traces),
        TEST(test_means_of_the_largest_numbers),
        TEST(test_sums_are_saturated),
        TEST(test_by_model),
        TEST(test_by_prompt_version_and_label),
        TEST(test_versions_are_compared_by_scores),
        TEST(test_each_field_is_checked),
        TEST(test_too_many_buckets),
        TEST(test_who_may_and_where),
        TEST(test_the_deadline_ends_the_work),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
