/* TraceService over TLS: ListTraces and ListSessions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trace_fixture.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_SIZE = 4096, MANY = 2100, WALK_MAX = 20000 };
#define PROMPT "01890000-0000-7000-8000-00000000000"

static struct service_tenant alpha, beta, crowd;

static void send_to(const struct service_tenant *tenant, const char *trace, unsigned id, int64_t start_us, int64_t length_us,
                    const char *more)
{
    trace_send(tenant, (struct trace_span_sent){
                           .trace = trace, .id = id, .parent = id > 1, .start_us = start_us, .length_us = length_us, .more = more});
}

/* Traces 01 to 08 of alpha, a second apart; 05 and 06 start in the same microsecond. Span 1 is the root, the others its children. */
static void make_traces(void)
{
    static const int64_t second_us = 1000000;
    send_to(&alpha, "01", 1, second_us, 1000, "'session_id': 'talk', 'user_id': 'ann', 'input': 'question', 'output': 'answer'");
    send_to(&alpha, "01", 2, second_us + 5, 5000,
            "'model': 'large', 'prompt_id': '" PROMPT "1', 'prompt_version': 1, 'prompt_label': 'production'");
    send_to(&alpha, "01", 3, second_us + 6, 1000,
            "'model': 'small', 'usage': {'input_tokens': '5', 'output_tokens': '2'}, 'cost_micros': '7'");
    send_to(&alpha, "02", 1, 2 * second_us, 1000, "'session_id': 'talk', 'user_id': 'ann', 'status': 'SPAN_STATUS_ERROR'");
    send_to(&alpha, "02", 2, 2 * second_us + 5, 1000,
            "'model': 'large', 'prompt_id': '" PROMPT "1', 'prompt_version': 2, 'prompt_label': 'beta'");
    send_to(&alpha, "03", 1, 3 * second_us, 2000000, "'session_id': 'other', 'user_id': 'bob', 'status': 'SPAN_STATUS_OK'");
    send_to(&alpha, "03", 2, 3 * second_us + 5, 1000, "'prompt_id': '" PROMPT "1', 'prompt_label': 'production'");
    send_to(&alpha, "04", 1, 4 * second_us, 1000, "'user_id': 'ann', 'model': 'small', 'cost_micros': '3'");
    send_to(&alpha, "05", 1, 5 * second_us, 1000, "'session_id': 'x'");
    send_to(&alpha, "06", 1, 5 * second_us, 1000, "'session_id': 'a'");
    send_to(&alpha, "07", 1, 6 * second_us, 1000,
            "'session_id': 'talk', 'user_id': 'cid', 'usage': {'input_tokens': '1'}, 'cost_micros': '1'");
    send_to(&alpha, "08", 2, 7 * second_us, 1000, "'prompt_id': '" PROMPT "2', 'prompt_version': 1"); /* its root has not arrived */
}

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    service_tenant_make("crowd", &crowd);
    trace_wait_for_partitions();
    make_traces();
    return 0;
}

/* ---- reading lists ---- */

/* All items of a list in pages of so many: of each the text that this gives. filter: members of the request in JSON, ", 'model': 'x'". */
static const char *list(const char *method, const char *items, const char *field, int page_size, const char *filter)
{
    static char text[TEXT_SIZE];
    char token[2048] = "";
    text[0] = '\0';
    do {
        service_ok(service_call(alpha.admin, method, NULL, "{'project_id': '%s', 'page_size': %d, 'page_token': '%s'%s}", alpha.project_id,
                                page_size, token, filter));
        int found = 0;
        if (strstr(service_reply(), items) != NULL)
            for (const char *at = service_reply(); (at = strstr(at, field)) != NULL; found++) {
                at += strlen(field);
                size_t length = strlen(text), size = strcspn(at, "\"");
                snprintf(text + length, sizeof text - length, "%s%.*s", length == 0 ? "" : " ", (int)size, at);
            }
        assert_true(found <= page_size);
        service_reply_text("next_page_token", token, sizeof token);
        assert_true(token[0] == '\0' || found > 0);
    } while (token[0] != '\0');
    return text;
}

/* The last two digits of the trace ids, whatever the size of the pages. */
static void expect_traces(const char *expected, const char *filter)
{
    for (int size = 1; size <= 9; size++) {
        const char *found = list("TraceService/ListTraces", "\"traces\"", "\"trace_id\":\"" TRACE, size, filter);
        if (strcmp(found, expected) != 0)
            fail_msg("%s in pages of %d: %s, not %s", filter, size, found, expected);
    }
}

static void expect_sessions(const char *expected, const char *filter)
{
    for (int size = 1; size <= 5; size++) {
        const char *found = list("TraceService/ListSessions", "\"sessions\"", "\"session_id\":\"", size, filter);
        if (strcmp(found, expected) != 0)
            fail_msg("%s in pages of %d: %s, not %s", filter, size, found, expected);
    }
}

/* A time so many microseconds after the base, as RFC 3339. */
static const char *at_us(int64_t offset_us)
{
    static char texts[4][64];
    static unsigned next;
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT to_char(to_timestamp(0) AT TIME ZONE 'UTC' + %" PRId64 " * interval '1 us', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
             trace_base_ns() / 1000 + offset_us);
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%s", service_query(sql));
    return text;
}

/* ---- ListTraces ---- */

static void test_traces_newest_first(void **state)
{
    expect_traces("08 07 05 06 04 03 02 01", "");
}

static void test_each_filter(void **state)
{
    char filter[256];
    expect_traces("07 02 01", ", 'session_id': 'talk'");
    expect_traces("04 02 01", ", 'user_id': 'ann'");
    expect_traces("02", ", 'status': 'SPAN_STATUS_ERROR'");
    expect_traces("03", ", 'status': 'SPAN_STATUS_OK'");
    expect_traces("02 01", ", 'model': 'large'");
    expect_traces("04 01", ", 'model': 'small'");
    expect_traces("", ", 'model': 'none'");
    expect_traces("03", ", 'duration_min_ms': '2000'");
    expect_traces("03 01", ", 'duration_min_ms': '5'");
    expect_traces("", ", 'duration_min_ms': '2001'");
    expect_traces("03 02 01", ", 'prompt_id': '" PROMPT "1'");
    expect_traces("01", ", 'prompt_id': '" PROMPT "1', 'prompt_version': 1");
    expect_traces("02", ", 'prompt_id': '" PROMPT "1', 'prompt_version': 2");
    expect_traces("03 01", ", 'prompt_id': '" PROMPT "1', 'prompt_label': 'production'");
    expect_traces("", ", 'prompt_id': '" PROMPT "1', 'prompt_version': 2, 'prompt_label': 'production'");
    snprintf(filter, sizeof filter, ", 'start_time': '%s', 'end_time': '%s'", at_us(2000000), at_us(4000000));
    expect_traces("03 02", filter);
    snprintf(filter, sizeof filter, ", 'end_time': '%s'", at_us(2000001));
    expect_traces("02 01", filter);
    snprintf(filter, sizeof filter, ", 'start_time': '%s'", at_us(6000001));
    expect_traces("08", filter);
}

static void test_filters_together(void **state)
{
    char filter[256];
    expect_traces("02 01", ", 'session_id': 'talk', 'user_id': 'ann'");
    expect_traces("01", ", 'session_id': 'talk', 'model': 'small'");
    expect_traces("04 01", ", 'user_id': 'ann', 'model': 'small', 'duration_min_ms': '1'");
    expect_traces("02", ", 'status': 'SPAN_STATUS_ERROR', 'model': 'large', 'prompt_id': '" PROMPT "1'");
    expect_traces("", ", 'status': 'SPAN_STATUS_ERROR', 'model': 'small'");
    expect_traces("01", ", 'model': 'large', 'duration_min_ms': '5'");
    snprintf(filter, sizeof filter, ", 'model': 'large', 'start_time': '%s'", at_us(1500000));
    expect_traces("02", filter);
    snprintf(filter, sizeof filter, ", 'prompt_id': '" PROMPT "1', 'user_id': 'ann', 'end_time': '%s'", at_us(2000000));
    expect_traces("01", filter);
}

static void test_a_trace_in_the_list(void **state)
{
    char part[512];
    service_ok(service_call(alpha.admin, "TraceService/ListTraces", NULL,
                            "{'project_id': '%s', 'model': 'large', 'user_id': 'ann',"
                            " 'prompt_id': '" PROMPT "1', 'prompt_version': 1}",
                            alpha.project_id));
    snprintf(part, sizeof part,
             "'start_ns':'%" PRId64 "','end_ns':'%" PRId64 "','duration_ns':'5005000','span_count':'3','usage':{'input_tokens':'5',"
             "'output_tokens':'2'},'cost_micros':'7','session_id':'talk','user_id':'ann','models':['large','small'],"
             "'prompts':[{'prompt_id':'" PROMPT "1','version':1,'label':'production'}]}]}",
             trace_base_ns() + 1000000000, trace_base_ns() + 1005005000);
    service_shows(
        "'traces':[{'project_id':", "'trace_id':'" TRACE "01','name':'step 1','root_span_id':'0000000000000001','start_time':", part);
    service_ok(service_call(alpha.admin, "TraceService/ListTraces", NULL,
                            "{'project_id': '%s', 'session_id': 'talk', 'view': 'TRACE_VIEW_FULL'}", alpha.project_id));
    service_shows("'trace_id':'" TRACE "02'", "'status':'SPAN_STATUS_ERROR'", "'error_count':'1'", "'trace_id':'" TRACE "01'",
                  "'input':'question','output':'answer'");
    service_ok(
        service_call(alpha.admin, "TraceService/ListTraces", NULL, "{'project_id': '%s', 'prompt_id': '" PROMPT "2'}", alpha.project_id));
    service_shows("'trace_id':'" TRACE "08','start_time'"); /* neither name nor root */
}

/* GetTrace and the list tell the same of a trace, whatever order its spans came in. */
static void test_the_list_says_what_the_trace_says(void **state)
{
    Forge__V1__GetTraceRequest get = FORGE__V1__GET_TRACE_REQUEST__INIT;
    Forge__V1__ListTracesRequest request = FORGE__V1__LIST_TRACES_REQUEST__INIT;
    Forge__V1__ListTracesResponse *traces;
    request.project_id = get.project_id = alpha.project_id;
    request.view = get.view = FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL;
    service_ok(forge_trace_list(alpha.admin, NULL, &request, &traces, &service_error));
    assert_int_equal(traces->n_traces, 8);
    for (size_t i = 0; i < traces->n_traces; i++) {
        Forge__V1__GetTraceResponse *trace;
        uint8_t listed[4096], got[4096];
        get.trace_id = traces->traces[i]->trace_id;
        service_ok(forge_trace_get(alpha.admin, NULL, &get, &trace, &service_error));
        assert_in_range(forge__v1__trace__get_packed_size(trace->trace), 1, sizeof got);
        size_t size = forge__v1__trace__pack(trace->trace, got);
        assert_in_range(forge__v1__trace__get_packed_size(traces->traces[i]), size, size);
        forge__v1__trace__pack(traces->traces[i], listed);
        assert_memory_equal(listed, got, size);
        forge__v1__get_trace_response__free_unpacked(trace, NULL);
    }
    forge__v1__list_traces_response__free_unpacked(traces, NULL);
}

/* More than a filter is read whole for: the walk through all traces finds the same. */
static void test_filters_that_many_traces_pass(void **state)
{
    static const char sql[] =
        "WITH n AS (SELECT n, now() - interval '5 minutes' + n * interval '1 ms' AS at, int8send(n) || int8send(n) AS id FROM "
        "generate_series(1, %d)"
        " n), s AS (INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, name, kind, start_ns, end_ns, status, "
        "model,"
        " prompt_id, prompt_version, prompt_label, content_hash) SELECT '%s', '%s', id, int8send(n), at, 'n', 1,"
        " (extract(epoch FROM at) * 1000000)::bigint * 1000, (extract(epoch FROM at) * 1000000)::bigint * 1000 + n * 1000000, 1, 'm',"
        " '" PROMPT "1', 1 + n %% 2, CASE WHEN n %% 3 = 0 THEN 'beta' END, '' FROM n)"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, "
        "error_count)"
        " SELECT '%s', '%s', id, at, (extract(epoch FROM at) * 1000000)::bigint * 1000, (extract(epoch FROM at) * 1000000)::bigint * 1000"
        " + n * 1000000, n * 1000000, 1 + n %% 2, 1, n %% 2 FROM n";
    static const struct {
        const char *filter;
        size_t count;
    } filters[] = {
        {"", MANY},
        {", 'model': 'm'", MANY},
        {", 'prompt_id': '" PROMPT "1'", MANY},
        {", 'prompt_id': '" PROMPT "1', 'prompt_version': 2", MANY / 2},
        {", 'prompt_id': '" PROMPT "1', 'prompt_label': 'beta'", MANY / 3},
        {", 'status': 'SPAN_STATUS_ERROR', 'model': 'm'", MANY / 2},
        {", 'model': 'none', 'prompt_id': '" PROMPT "1'", 0},
        {", 'duration_min_ms': '2'", MANY - 1},
        {", 'duration_min_ms': '2000'", MANY - 1999},
        {", 'duration_min_ms': '50', 'prompt_id': '" PROMPT "1', 'model': 'm'", MANY - 49},
    };
    char text[4096];
    snprintf(text, sizeof text, sql, MANY, crowd.organization_id, crowd.project_id, crowd.organization_id, crowd.project_id);
    service_execute(text);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        char token[2048] = "", last[40] = "g";
        size_t count = 0;
        do {
            service_ok(service_call(crowd.admin, "TraceService/ListTraces", NULL,
                                    "{'project_id': '%s', 'page_size': 900, 'page_token': '%s'%s}", crowd.project_id, token,
                                    filters[i].filter));
            for (const char *at = service_reply(); (at = strstr(at, "\"trace_id\":\"")) != NULL; count++) {
                at += strlen("\"trace_id\":\"");
                assert_true(strncmp(at, last, 32) < 0); /* ids fall with their starts */
                snprintf(last, sizeof last, "%.32s", at);
            }
            service_reply_text("next_page_token", token, sizeof token);
        } while (token[0] != '\0');
        if (count != filters[i].count)
            fail_msg("%s: %zu, not %zu", filters[i].filter, count, filters[i].count);
    }
}

/* A model that only older traces have: a page looks at so many traces, and may end without any. */
static void test_a_page_without_traces(void **state)
{
    static const char sql[] =
        "INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, "
        "error_count)"
        " SELECT '%s', '%s', int8send(-1) || int8send(n), at, (extract(epoch FROM at) * 1000000)::bigint * 1000,"
        " (extract(epoch FROM at) * 1000000)::bigint * 1000, 0, 1, 0, 0 FROM (SELECT n, now() + n * interval '1 us' AS at"
        " FROM generate_series(1, %d) n) n";
    Forge__V1__ListTracesRequest request = FORGE__V1__LIST_TRACES_REQUEST__INIT;
    Forge__V1__ListTracesResponse *page, *next;
    char text[1024];
    snprintf(text, sizeof text, sql, crowd.organization_id, crowd.project_id, WALK_MAX);
    service_execute(text);
    request.project_id = crowd.project_id;
    request.model = TEXT("m");
    uint64_t begun_us = (uint64_t)forge_clock_wall_us();
    service_ok(forge_trace_list(crowd.admin, NULL, &request, &page, &service_error));
    print_message("%d traces without the model: %" PRIu64 " ms\n", WALK_MAX, ((uint64_t)forge_clock_wall_us() - begun_us) / 1000);
    assert_int_equal(page->n_traces, 0);
    request.page_token = page->next_page_token;
    service_ok(forge_trace_list(crowd.admin, NULL, &request, &next, &service_error));
    assert_int_equal(next->n_traces, 50);
    assert_string_not_equal(next->next_page_token, "");
    forge__v1__list_traces_response__free_unpacked(page, NULL);
    forge__v1__list_traces_response__free_unpacked(next, NULL);
}

/* Pages end where their traces have too many spans to look through, or too much content. */
static void test_pages_are_cut(void **state)
{
    static const char sql[] =
        "WITH n AS (SELECT n, now() - interval '5 minutes' + n * interval '1 ms' AS at, int8send(n) || int8send(n) AS id FROM "
        "generate_series(1, 9)"
        " n), s AS (INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, name, kind, start_ns, end_ns, status, "
        "input,"
        " output, content_hash) SELECT '%s', '%s', id, int8send(n), at, 'n', 1, (extract(epoch FROM at) * 1000000)::bigint * 1000,"
        " (extract(epoch FROM at) * 1000000)::bigint * 1000, 1, repeat('i', 500000), repeat('o', 500000), '' FROM n)"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, "
        "error_count,"
        " root_start_ns, root_span_id) SELECT '%s', '%s', id, at, (extract(epoch FROM at) * 1000000)::bigint * 1000, (extract(epoch FROM "
        "at)"
        " * 1000000)::bigint * 1000, 0, 1, 90000, 0, (extract(epoch FROM at) * 1000000)::bigint * 1000, int8send(n) FROM n";
    static const struct {
        Forge__V1__TraceView view;
        const char *spans;        /* that the rows say to have */
        uint32_t reply_bytes_max; /* of the caller */
        size_t pages;
    } cases[] = {{FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC, "90000", 0, 5}, /* two a page */
                 {FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC, "1", 0, 1},
                 {FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL, "1", 0, 3}, /* four of 1 MB a page */
                 {FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL, "1", 1500000, 9}};
    Forge__V1__ListTracesRequest request = FORGE__V1__LIST_TRACES_REQUEST__INIT;
    char text[4096];
    snprintf(text, sizeof text, sql, beta.organization_id, beta.project_id, beta.organization_id, beta.project_id);
    service_execute(text);
    request.project_id = beta.project_id;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct forge_call_options options = {.reply_bytes_max = cases[i].reply_bytes_max};
        char token[2048] = "";
        size_t traces = 0, pages = 0;
        snprintf(text, sizeof text, "UPDATE traces SET span_count = %s WHERE project_id = '%s'", cases[i].spans, beta.project_id);
        service_execute(text);
        request.view = cases[i].view;
        do {
            Forge__V1__ListTracesResponse *page;
            request.page_token = token;
            service_ok(forge_trace_list(beta.admin, &options, &request, &page, &service_error));
            traces += page->n_traces;
            pages++;
            if (request.view == FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL)
                assert_int_equal(strlen(page->traces[0]->input) + strlen(page->traces[0]->output), 1000000);
            snprintf(token, sizeof token, "%s", page->next_page_token);
            forge__v1__list_traces_response__free_unpacked(page, NULL);
        } while (token[0] != '\0');
        assert_int_equal(traces, 9);
        assert_int_equal(pages, cases[i].pages);
    }
}

/* ---- ListSessions ---- */

static void test_sessions_by_their_last_trace(void **state)
{
    char filter[256];
    expect_sessions("talk a x other", "");
    expect_sessions("talk", ", 'user_id': 'ann'");
    expect_sessions("talk", ", 'session_id': 'talk'");
    expect_sessions("", ", 'session_id': 'talk', 'user_id': 'bob'");
    expect_sessions("", ", 'session_id': 'none'");
    snprintf(filter, sizeof filter, ", 'end_time': '%s'", at_us(6000000));
    expect_sessions("a x other talk", filter); /* without its newest trace it stands where the one before does */
    snprintf(filter, sizeof filter, ", 'start_time': '%s', 'end_time': '%s'", at_us(2500000), at_us(5000000));
    expect_sessions("other", filter);
}

static void test_figures_of_a_session(void **state)
{
    char part[512];
    service_ok(
        service_call(alpha.admin, "TraceService/ListSessions", NULL, "{'project_id': '%s', 'session_id': 'talk'}", alpha.project_id));
    snprintf(part, sizeof part,
             "{'sessions':[{'project_id':'%s','session_id':'talk','start_time':", alpha.project_id); /* of several users */
    service_shows(part, "'end_time':",
                  "'trace_count':'3','error_trace_count':'1','usage':{'input_tokens':'6','output_tokens':'2'},'cost_micros':'8'}]}");
    snprintf(part, sizeof part, "{'project_id': '%s', 'user_id': 'ann', 'end_time': '%s'}", alpha.project_id, at_us(2000000));
    service_ok(service_call(alpha.admin, "TraceService/ListSessions", NULL, "%s", part));
    service_shows("'session_id':'talk','user_id':'ann'",
                  "'trace_count':'1','usage':{'input_tokens':'5','output_tokens':'2'},'cost_micros':'7'}]}");
    Forge__V1__ListSessionsRequest request = FORGE__V1__LIST_SESSIONS_REQUEST__INIT;
    Forge__V1__ListSessionsResponse *reply;
    request.project_id = alpha.project_id;
    request.session_id = TEXT("talk");
    service_ok(forge_trace_list_sessions(alpha.admin, NULL, &request, &reply, &service_error));
    const Forge__V1__Session *session = reply->sessions[0];
    assert_int_equal(session->start_time->seconds * 1000000000 + session->start_time->nanos, trace_base_ns() + 1000000000);
    assert_int_equal(session->end_time->seconds * 1000000000 + session->end_time->nanos, trace_base_ns() + 6001000000);
    forge__v1__list_sessions_response__free_unpacked(reply, NULL);
}

/* ---- refused ---- */

static forge_code call(struct forge_channel *channel, const char *method, const char *project_id, const char *more)
{
    return service_call(channel, method, NULL, "{'project_id': '%s'%s}", project_id, more);
}

static void test_requests_that_are_wrong(void **state)
{
    static const char traces[] = "TraceService/ListTraces", sessions[] = "TraceService/ListSessions";
    char more[2048], token[1024];
    service_violates(call(alpha.admin, traces, "",
                          ", 'page_size': -1, 'page_token': 'x', 'duration_min_ms': '-1', 'prompt_version': 1,"
                          " 'prompt_label': 'l', 'start_time': '2026-01-02T00:00:00Z', 'end_time': '2026-01-02T00:00:00Z'"),
                     "project_id", "is required", "page_size", "negative", "page_token", "is damaged", "end_time", "after start_time",
                     "duration_min_ms", "must be 0 to", "prompt_version", "needs prompt_id", "prompt_label", "needs prompt_id");
    snprintf(more, sizeof more,
             ", 'model': '%s', 'session_id': '%s', 'user_id': '%s', 'prompt_id': 'x', 'prompt_version': -1,"
             " 'prompt_label': '%s', 'duration_min_ms': '9223372036855'",
             service_repeat("m", 256), service_repeat("s", 256), service_repeat("u", 256), service_repeat("l", 65));
    service_violates(call(alpha.admin, traces, alpha.project_id, more), "model", "255 characters", "duration_min_ms", "must be 0 to",
                     "session_id", "255 characters", "user_id", "255 characters", "prompt_id", "UUID", "prompt_version", "0 or more",
                     "prompt_label", "64 characters");
    snprintf(more, sizeof more,
             ", 'page_size': -1, 'page_token': 'x', 'session_id': '%s', 'user_id': '%s', 'start_time':"
             " '2026-01-02T00:00:00Z', 'end_time': '2026-01-01T00:00:00Z'",
             service_repeat("s", 256), service_repeat("u", 256));
    service_violates(call(alpha.admin, sessions, "", more), "project_id", "is required", "page_size", "negative", "page_token",
                     "is damaged", "end_time", "after start_time", "session_id", "255 characters", "user_id", "255 characters");
    service_ok(call(alpha.admin, traces, alpha.project_id, ", 'page_size': 1, 'user_id': 'ann'"));
    service_reply_text("next_page_token", token, sizeof token);
    snprintf(more, sizeof more, ", 'page_token': '%s', 'user_id': 'bob'", token);
    service_violates(call(alpha.admin, traces, alpha.project_id, more), "page_token", "belongs to another query");
    service_violates(call(alpha.admin, sessions, alpha.project_id, more), "page_token", "belongs to another query");
    snprintf(more, sizeof more, ", 'page_token': '%s', 'user_id': 'ann', 'page_size': 7", token); /* the size is no part of the query */
    service_ok(call(alpha.admin, traces, alpha.project_id, more));
}

static void test_who_may_list(void **state)
{
    static const char *const methods[] = {"TraceService/ListTraces", "TraceService/ListSessions"};
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id);
    struct forge_channel *viewer = service_user_make(&alpha, "viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    char gone[64], sql[512];
    snprintf(gone, sizeof gone, "01890000-0000-7000-8000-0000000000dd");
    snprintf(sql, sizeof sql, "INSERT INTO projects (organization_id, id, name, deleted_at) VALUES ('%s', '%s', 'gone', now())",
             alpha.organization_id, gone);
    service_execute(sql);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        service_fails(call(beta.admin, methods[i], alpha.project_id, ""), FORGE_NOT_FOUND, "project");
        service_fails(call(alpha.admin, methods[i], gone, ""), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-0000000000dd not found");
        service_fails(call(bound, methods[i], beta.project_id, ""), FORGE_PERMISSION_DENIED, "bound to another project");
        service_ok(call(bound, methods[i], alpha.project_id, ""));
        service_ok(call(viewer, methods[i], alpha.project_id, ""));
    }
    char project_id[37];
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'empty'}"));
    service_reply_text("id", project_id, sizeof project_id);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        service_ok(call(alpha.admin, methods[i], project_id, ""));
        assert_string_equal(service_reply(), "{}");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traces_newest_first),
        cmocka_unit_test(test_each_filter),
        cmocka_unit_test(test_filters_together),
        cmocka_unit_test(test_a_trace_in_the_list),
        cmocka_unit_test(test_the_list_says_what_the_trace_says),
        cmocka_unit_test(test_filters_that_many_traces_pass),
        cmocka_unit_test(test_a_page_without_traces),
        cmocka_unit_test(test_pages_are_cut),
        cmocka_unit_test(test_sessions_by_their_last_trace),
        cmocka_unit_test(test_figures_of_a_session),
        cmocka_unit_test(test_requests_that_are_wrong),
        cmocka_unit_test(test_who_may_list),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
