/* TraceService over TLS: GetTrace and DeleteTrace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trace_fixture.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPANS_MAX = 100000, TEXT_SIZE = 8192, DELETE_MS_MAX = 5000 };

static struct service_tenant alpha, beta;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    trace_wait_for_partitions();
    return 0;
}

static void send(const char *trace, unsigned id, unsigned parent, int64_t start_us, const char *more)
{
    trace_send(&alpha, (struct trace_span_sent){.trace = trace, .id = id, .parent = parent, .start_us = start_us, .more = more});
}

/* ---- pages ---- */

static Forge__V1__GetTraceResponse *get(const char *trace, int32_t page_size, const char *token, Forge__V1__TraceView view)
{
    Forge__V1__GetTraceRequest request = FORGE__V1__GET_TRACE_REQUEST__INIT;
    Forge__V1__GetTraceResponse *reply;
    char trace_id[64];
    snprintf(trace_id, sizeof trace_id, TRACE "%s", trace);
    request.project_id = alpha.project_id;
    request.trace_id = trace_id;
    request.page_size = page_size;
    request.page_token = TEXT(token);
    request.view = view;
    service_ok(forge_trace_get(alpha.admin, NULL, &request, &reply, &service_error));
    return reply;
}

static void done(Forge__V1__GetTraceResponse *reply)
{
    forge__v1__get_trace_response__free_unpacked(reply, NULL);
}

static void append_nodes(const Forge__V1__GetTraceResponse *page, char text[TEXT_SIZE])
{
    for (size_t i = 0; i < page->n_spans; i++) {
        const Forge__V1__SpanNode *node = page->spans[i];
        size_t length = strlen(text);
        snprintf(text + length, TEXT_SIZE - length, "%s%lu%c%d/%d", length == 0 ? "" : " ", strtoul(node->span->span_id, NULL, 16),
                 "?RCOY"[node->placement], node -> depth, node -> child_count);
    }
}

/* "id placement depth/children" of each span, read in pages of this size; none may be longer. */
static const char *tree(const char *trace, int32_t page_size)
{
    static char text[TEXT_SIZE];
    char token[256] = "";
    text[0] = '\0';
    do {
        Forge__V1__GetTraceResponse *page = get(trace, page_size, token, FORGE__V1__TRACE_VIEW__TRACE_VIEW_UNSPECIFIED);
        assert_true(page->n_spans <= (size_t)page_size);
        assert_true(page->next_page_token[0] == '\0' || page->n_spans > 0);
        append_nodes(page, text);
        snprintf(token, sizeof token, "%s", page->next_page_token);
        done(page);
    } while (token[0] != '\0');
    return text;
}

static void expect_tree(const char *trace, const char *expected)
{
    for (int32_t size = 1; size <= 12; size++)
        assert_string_equal(tree(trace, size), expected);
}

/* ---- trees ---- */

static void test_a_tree(void **state)
{
    send("01", 1, 0, 0, NULL);
    send("01", 2, 1, 10, NULL);
    send("01", 3, 2, 20, NULL);
    send("01", 4, 1, 30, NULL);
    send("01", 5, 4, 5, NULL); /* before its parent */
    send("01", 7, 1, 30, NULL);
    expect_tree("01", "1R0/3 2C1/1 3C2/0 4C1/1 5C2/0 7C1/0");
}

static void test_orphans_stand_under_the_first_root(void **state)
{
    send("02", 9, 8, 0, NULL);
    send("02", 10, 9, 10, NULL);
    expect_tree("02", "9O0/1 10C1/0"); /* no root has arrived */
    send("02", 2, 0, 40, NULL);
    send("02", 1, 0, 30, NULL);
    send("02", 3, 1, 50, NULL);
    expect_tree("02", "1R0/2 9O1/1 10C2/0 3C1/0 2R0/0");
    send("02", 8, 1, 60, NULL); /* the parent comes later */
    expect_tree("02", "1R0/2 3C1/0 8C1/1 9C2/1 10C3/0 2R0/0");
}

static void test_cycles_stand_under_the_root(void **state)
{
    send("03", 2, 2, 10, NULL); /* its own parent */
    expect_tree("03", "2Y0/0");
    send("03", 1, 0, 0, NULL);
    send("03", 3, 4, 20, NULL);
    send("03", 4, 3, 30, NULL);
    send("03", 5, 4, 40, NULL); /* hangs on the cycle and is none of it */
    send("03", 6, 5, 50, NULL);
    expect_tree("03", "1R0/3 2Y1/0 3Y1/0 4Y1/1 5C2/1 6C3/0");
}

/* The same span with several starts: the first is shown and counted, whatever came first. */
static void test_a_span_with_other_starts(void **state)
{
    send("04", 1, 0, 100, NULL);
    send("04", 2, 1, 300, "'usage': {'input_tokens': '100'}, 'status': 'SPAN_STATUS_ERROR', 'model': 'late'");
    send("04", 2, 1, 200, "'usage': {'input_tokens': '1'}");
    send("04", 1, 2, 400, NULL);
    expect_tree("04", "1R0/1 2C1/0");
    Forge__V1__GetTraceResponse *reply = get("04", 0, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    assert_int_equal(reply->trace->span_count, 2);
    assert_int_equal(reply->trace->error_count, 0);
    assert_int_equal(reply->trace->usage->input_tokens, 1);
    assert_int_equal(reply->trace->n_models, 0);
    assert_int_equal(reply->spans[1]->span->start_ns, trace_base_ns() + 200000);
    done(reply);
}

/* ---- figures and content ---- */

static void test_figures_are_those_of_all_spans(void **state)
{
    char more[512], trace_text[4096];
    send("05", 1, 0, 0, "'session_id': 'talk', 'user_id': 'ann', 'input': 'question', 'output': 'answer'");
    for (unsigned i = 2; i <= 19; i++) {
        snprintf(more, sizeof more,
                 "'model': 'model %02u', 'usage': {'input_tokens': '10', 'cache_read_tokens': '2', 'cache_write_tokens': '3',"
                 " 'output_tokens': '4', 'reasoning_tokens': '5'}, 'cost_micros': '7', 'prompt_id': "
                 "'01890000-0000-7000-8000-0000000000%02u', 'prompt_version': %u, 'prompt_label': 'production'%s",
                 21 - i, 40 - i / 2, i / 2, i == 19 ? ", 'status': 'SPAN_STATUS_ERROR'" : "");
        send("05", i, 1, i, more);
    }
    trace_send(&alpha, (struct trace_span_sent){.trace = "05", .id = 20, .parent = 1, .start_us = 20, .length_us = 5000000});
    service_ok(service_call(alpha.admin, "TraceService/GetTrace", NULL,
                            "{'project_id': '%s', 'trace_id': '0AF7651916CD43DD8448EB211C803105', 'page_size': 1}", alpha.project_id));
    snprintf(
        trace_text, sizeof trace_text,
        "'start_ns':'%" PRId64 "','end_ns':'%" PRId64 "','duration_ns':'5000020000','span_count':'20','error_count':'1',"
        "'usage':{'input_tokens':'180','cache_read_tokens':'36','cache_write_tokens':'54','output_tokens':'72','reasoning_tokens':'90'}"
        ",'cost_micros':'126','session_id':'talk','user_id':'ann','models':['model 02','model 03'",
        trace_base_ns(), trace_base_ns() + INT64_C(5000020000));
    service_shows("'trace_id':'" TRACE "05','name':'step 1','root_span_id':'0000000000000001','status':'SPAN_STATUS_ERROR','start_time':",
                  trace_text, "'model 16','model 17'],'prompts':[{'prompt_id':'01890000-0000-7000-8000-000000000031','version':9",
                  "{'prompt_id':'01890000-0000-7000-8000-000000000039','version':1,'label':'production'}]}", "'next_page_token':");
    assert_null(strstr(service_reply(), "model 18"));
    assert_null(strstr(service_reply(), "question"));
    Forge__V1__GetTraceResponse *reply = get("05", 2, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
    Forge__V1__GetTraceResponse *next = get("05", 2, reply->next_page_token, FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
    assert_string_equal(next->trace->input, "question"); /* on every page */
    assert_string_equal(next->trace->output, "answer");
    assert_int_equal(next->trace->span_count, 20);
    assert_string_equal(next->spans[0]->span->span_id, "0000000000000003");
    assert_int_equal((int64_t)next->trace->end_time->seconds * 1000000000 + next->trace->end_time->nanos, next->trace->end_ns);
    done(reply);
    done(next);
}

/* In the order in which a reply has them. */
static const char kept[] =
    "'attributes':[{'key':'a','string_value':'text'},{'key':'b','bool_value':true},{'key':'c','int_value':'-7'},"
    "{'key':'d','double_value':0.5},{'key':'e','json_value':'[1]'}],"
    "'events':[{'time_ns':'5','name':'exception','attributes':[{'key':'k','string_value':'v'}],'dropped_attribute_count':1}],"
    "'links':[{'trace_id':'0af7651916cd43dd8448eb211c803199','span_id':'00000000000000aa','trace_state':'s=1','flags':1}],"
    "'resource':{'attributes':[{'key':'service.name','string_value':'shop'}],'schema_url':'https://schema'},"
    "'scope':{'name':'library','version':'1.2'},'input':'in','output':'out'";
static const char columns[] =
    "'provider':'acme','model':'large','parameters':'{\\\"temperature\\\":1}','usage':{'input_tokens':'3'},'cost_micros':'9',"
    "'time_to_first_token_us':'11','prompt_id':'01890000-0000-7000-8000-000000000001','prompt_version':2,'prompt_label':'beta',"
    "'session_id':'talk','user_id':'ann'";
static const char rest[] = "'trace_state':'t=2','flags':1,'otel_span_kind':3,'dropped_attribute_count':4,'dropped_event_count':5,"
                           "'dropped_link_count':6";

static void test_a_span_comes_back_as_it_was_sent(void **state)
{
    char more[4096];
    snprintf(more, sizeof more, "'kind':'SPAN_KIND_LLM','status':'SPAN_STATUS_ERROR','status_message':'broken',%s,%s,%s", kept, columns,
             rest);
    send("06", 1, 2, 0, more);
    service_ok(service_call(alpha.admin, "TraceService/GetTrace", NULL,
                            "{'project_id': '%s', 'trace_id': '" TRACE "06', 'view': 'TRACE_VIEW_FULL'}", alpha.project_id));
    service_shows("'spans':[{'span':{'trace_id':'" TRACE "06','span_id':'0000000000000001','parent_span_id':'0000000000000002',"
                  "'name':'step 1','kind':'SPAN_KIND_LLM','start_ns':",
                  "'status':'SPAN_STATUS_ERROR','status_message':'broken',", kept, columns, rest,
                  "'ingest_time':", "'placement':'SPAN_PLACEMENT_ORPHAN'");
    service_ok(
        service_call(alpha.admin, "TraceService/GetTrace", NULL, "{'project_id': '%s', 'trace_id': '" TRACE "06'}", alpha.project_id));
    service_shows("'status_message':'broken'", columns, "'ingest_time':");
    for (size_t i = 0; i < 4; i++)
        assert_null(strstr(service_reply(), ((const char *[]){"\"attributes\"", "\"input\":", "\"flags\"", "\"scope\""})[i]));
}

static void test_what_is_not_told_is_left_out(void **state)
{
    send("07", 1, 0, 0, NULL);
    Forge__V1__GetTraceResponse *reply = get("07", 0, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
    const Forge__V1__Span *span = reply->spans[0]->span;
    assert_null(span->usage);
    assert_null(span->cost_micros);
    assert_null(span->resource);
    assert_string_equal(span->parent_span_id, "");
    assert_string_equal(span->model_id, "");
    assert_string_equal(span->prompt_id, "");
    assert_int_equal(span->policy_action, 0);
    assert_string_equal(reply->trace->session_id, "");
    assert_int_equal(reply->trace->usage->input_tokens, 0);
    assert_string_equal(reply->next_page_token, "");
    done(reply);
}

static void test_details_that_are_damaged(void **state)
{
    send("12", 1, 0, 0, NULL);
    service_execute("UPDATE spans SET details = '\\xff' WHERE trace_id = '\\x" TRACE "12'");
    service_fails(service_call(alpha.admin, "TraceService/GetTrace", NULL,
                               "{'project_id': '%s', 'trace_id': '" TRACE "12', 'view': 'TRACE_VIEW_FULL'}", alpha.project_id),
                  FORGE_DATA_LOSS, "cannot be read");
    expect_tree("12", "1R0/0"); /* what columns hold is there */
}

/* What is left where the days of its spans were dropped before it. */
static void test_a_trace_without_spans(void **state)
{
    send("11", 1, 0, 0, "'session_id': 'talk'");
    service_execute("DELETE FROM spans WHERE trace_id = '\\x" TRACE "11'");
    Forge__V1__GetTraceResponse *reply = get("11", 0, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
    assert_int_equal(reply->n_spans, 0);
    assert_int_equal(reply->trace->span_count, 0);
    assert_int_equal(reply->trace->start_ns, trace_base_ns());
    assert_int_equal(reply->trace->duration_ns, 1000000);
    assert_string_equal(reply->trace->root_span_id, "");
    assert_string_equal(reply->next_page_token, "");
    done(reply);
}

/* ---- pages of a trace that grows, and large ones ---- */

static void test_spans_that_arrive_between_pages(void **state)
{
    char token[256];
    for (unsigned i = 1; i <= 4; i++)
        send("08", i, i == 1 ? 0 : 1, i * 10, NULL);
    Forge__V1__GetTraceResponse *page = get("08", 2, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    snprintf(token, sizeof token, "%s", page->next_page_token);
    done(page);
    send("08", 5, 1, 15, NULL); /* before what was shown last: the rest stays as it was */
    send("08", 6, 1, 35, NULL);
    page = get("08", 10, token, FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    assert_int_equal(page->n_spans, 3);
    assert_string_equal(page->spans[0]->span->span_id, "0000000000000003");
    assert_string_equal(page->spans[1]->span->span_id, "0000000000000006");
    assert_int_equal(page->spans[0]->depth, 1);
    done(page);
    service_execute("DELETE FROM spans WHERE trace_id = '\\x" TRACE "08' AND span_id = '\\x0000000000000002'");
    page = get("08", 10, token, FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC); /* behind as many as were before: 1 and 5 */
    assert_int_equal(page->n_spans, 3);
    assert_string_equal(page->spans[0]->span->span_id, "0000000000000003");
    done(page);
}

static void test_a_page_is_cut_at_the_reply_limit(void **state)
{
    static const char sql[] =
        "WITH n AS (SELECT n, now() - interval '5 minutes' + n * interval '1 ms' AS at FROM generate_series(1, 20) n), s AS ("
        " INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, "
        "status,"
        " input, output, content_hash) SELECT '%s', '%s', '\\x" TRACE "09', int8send(n), at, CASE WHEN n > 1 THEN int8send(1) END, 'n', 1,"
        " (extract(epoch FROM at) * 1000000)::bigint * 1000, (extract(epoch FROM at) * 1000000)::bigint * 1000, 1, repeat('i', 400000),"
        " repeat('o', 300000), '' FROM n)"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, "
        "error_count)"
        " SELECT '%s', '%s', '\\x" TRACE "09', min(at), (extract(epoch FROM min(at)) * 1000000)::bigint * 1000,"
        " (extract(epoch FROM max(at)) * 1000000)::bigint * 1000, 19000000, 1, 20, 0 FROM n";
    char text[2048], token[256] = "";
    unsigned pages = 0, spans = 0;
    snprintf(text, sizeof text, sql, alpha.organization_id, alpha.project_id, alpha.organization_id, alpha.project_id);
    service_execute(text);
    do {
        Forge__V1__GetTraceResponse *page = get("09", 1000, token, FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL);
        assert_int_equal(strlen(page->trace->input) + strlen(page->trace->output), 700000);
        assert_in_range(forge__v1__get_trace_response__get_packed_size(page), 700000, 4 << 20);
        for (size_t i = 0; i < page->n_spans; i++)
            assert_int_equal(strtoul(page->spans[i]->span->span_id, NULL, 16), ++spans);
        snprintf(token, sizeof token, "%s", page->next_page_token);
        done(page);
        pages++;
    } while (token[0] != '\0');
    assert_int_equal(spans, 20);
    assert_int_equal(pages, 5); /* four spans and the root's content are 3.5 MB, one more were above 4 MiB */
    const struct forge_call_options options = {.reply_bytes_max = 1500000};
    Forge__V1__GetTraceRequest request = FORGE__V1__GET_TRACE_REQUEST__INIT;
    Forge__V1__GetTraceResponse *small;
    request.project_id = alpha.project_id;
    request.trace_id = TEXT(TRACE "09");
    request.view = FORGE__V1__TRACE_VIEW__TRACE_VIEW_FULL;
    service_ok(forge_trace_get(alpha.admin, &options, &request, &small, &service_error));
    assert_int_equal(small->n_spans, 1); /* where the caller takes less, that is the limit */
    assert_string_not_equal(small->next_page_token, "");
    done(small);
    Forge__V1__GetTraceResponse *basic = get("09", 1000, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    assert_int_equal(basic->n_spans, 20);
    done(basic);
}

/* A trace as large and deep as one may be: a chain, each span the child of the one before. */
static void make_chain(const char *trace)
{
    static const char sql[] =
        "WITH n AS (SELECT n, now() - interval '5 minutes' + n * interval '1 us' AS at FROM generate_series(1, %d) n), s AS ("
        " INSERT INTO spans (organization_id, project_id, trace_id, span_id, started_at, parent_span_id, name, kind, start_ns, end_ns, "
        "status,"
        " input, details, content_hash) SELECT '%s', '%s', '\\x" TRACE
        "%s', int8send(n), at, CASE WHEN n > 1 THEN int8send(n - 1) END, 'n',"
        " 1, (extract(epoch FROM at) * 1000000)::bigint * 1000, (extract(epoch FROM at) * 1000000)::bigint * 1000, 1, repeat('input ', "
        "100),"
        " convert_to(repeat('detail', 100), 'UTF8'), '' FROM n)"
        " INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count, "
        "error_count)"
        " SELECT '%s', '%s', '\\x" TRACE "%s', min(at), (extract(epoch FROM min(at)) * 1000000)::bigint * 1000,"
        " (extract(epoch FROM max(at)) * 1000000)::bigint * 1000, (%d - 1) * 1000, 1, %d, 0 FROM n";
    char text[2048];
    snprintf(text, sizeof text, sql, SPANS_MAX, alpha.organization_id, alpha.project_id, trace, alpha.organization_id, alpha.project_id,
             trace, SPANS_MAX, SPANS_MAX);
    service_execute(text);
}

static uint64_t now_ms(void)
{
    return (uint64_t)forge_clock_wall_us() / 1000;
}

static void test_as_many_spans_as_a_trace_may_have(void **state)
{
    make_chain("10");
    uint64_t begun_ms = now_ms();
    Forge__V1__GetTraceResponse *page = get("10", 1000, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    print_message("first page of %d spans: %" PRIu64 " ms\n", SPANS_MAX, now_ms() - begun_ms);
    assert_int_equal(page->trace->span_count, SPANS_MAX);
    assert_int_equal(page->n_spans, 1000);
    assert_int_equal(page->spans[999]->depth, 999);
    Forge__V1__GetTraceResponse *next = get("10", 1000, page->next_page_token, FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    assert_int_equal(next->spans[0]->depth, 1000);
    assert_int_equal(next->spans[0]->child_count, 1);
    done(page);
    done(next);
}

/* ---- refused ---- */

static forge_code get_as(struct forge_channel *channel, const char *project_id, const char *trace_id, const char *more)
{
    return service_call(channel, "TraceService/GetTrace", NULL, "{'project_id': '%s', 'trace_id': '%s'%s}", project_id, trace_id, more);
}

static void test_requests_that_are_wrong(void **state)
{
    static const char trace_id[] = TRACE "01";
    char more[512];
    service_violates(get_as(alpha.admin, "", "", ", 'page_size': -1, 'page_token': 'x'"), "page_size", "negative", "page_token",
                     "is damaged", "project_id", "is required", "trace_id", "is required");
    service_violates(get_as(alpha.admin, "no id", "0af7", ""), "project_id", "UUID", "trace_id", "32 hexadecimal digits");
    service_violates(get_as(alpha.admin, alpha.project_id, "00000000000000000000000000000000", ""), "trace_id", "not all zero");
    service_fails(get_as(alpha.admin, alpha.project_id, TRACE "ff", ""), FORGE_NOT_FOUND, "trace " TRACE "ff not found");
    Forge__V1__GetTraceResponse *page = get("01", 1, "", FORGE__V1__TRACE_VIEW__TRACE_VIEW_BASIC);
    snprintf(more, sizeof more, ", 'page_token': '%s'", page->next_page_token);
    service_violates(get_as(alpha.admin, alpha.project_id, TRACE "02", more), "page_token", "belongs to another query");
    service_violates(get_as(alpha.admin, alpha.project_id, trace_id, more), "page_token", "belongs to another query"); /* another view */
    done(page);
}

static void test_who_may_read(void **state)
{
    static const char trace_id[] = TRACE "01";
    service_fails(get_as(beta.admin, alpha.project_id, trace_id, ""), FORGE_NOT_FOUND, "trace");
    service_fails(get_as(beta.admin, beta.project_id, trace_id, ""), FORGE_NOT_FOUND, "trace");
    service_fails(get_as(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id), beta.project_id, trace_id, ""),
                  FORGE_PERMISSION_DENIED, "bound to another project");
    service_ok(
        get_as(service_user_make(&alpha, "viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL), alpha.project_id, trace_id, ""));
    service_fails(get_as(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), alpha.project_id, trace_id, ""),
                  FORGE_PERMISSION_DENIED, "");
}

/* ---- DeleteTrace ---- */

static forge_code delete_as(struct forge_channel *channel, const char *request_id, const char *project_id, const char *trace_id)
{
    return service_call(channel, "TraceService/DeleteTrace", request_id, "{'project_id': '%s', 'trace_id': '%s'}", project_id, trace_id);
}

/* Rows of traces and spans that a trace has. */
static const char *rows_of(const char *trace)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT (SELECT count(*) FROM traces WHERE trace_id = '\\x" TRACE "%s') || ',' || (SELECT count(*) FROM spans WHERE trace_id ="
             " '\\x" TRACE "%s')",
             trace, trace);
    return service_query(sql);
}

static void test_a_trace_is_deleted_with_its_spans(void **state)
{
    char request_id[37], sql[512];
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    for (unsigned i = 1; i <= 3; i++) {
        send("20", i, 0, i, NULL);
        send("21", i, 0, i, NULL);
    }
    snprintf(sql, sizeof sql,
             "INSERT INTO scores (organization_id, id, project_id, target_kind, target, name, author, source, number) VALUES ('%s',"
             " gen_random_uuid(), '%s', 'trace', '" TRACE "20', 'n', 'a', 'human', 1)",
             alpha.organization_id, alpha.project_id);
    service_execute(sql);
    service_fails(delete_as(beta.admin, NULL, alpha.project_id, TRACE "20"), FORGE_NOT_FOUND, "trace " TRACE "20 not found");
    service_fails(delete_as(service_user_make(&alpha, "reader@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL), NULL, alpha.project_id,
                            TRACE "20"),
                  FORGE_PERMISSION_DENIED, "");
    assert_string_equal(rows_of("20"), "1,3");
    service_ok(delete_as(alpha.admin, request_id, alpha.project_id, TRACE "20"));
    assert_string_equal(rows_of("20"), "0,0");
    assert_string_equal(rows_of("21"), "1,3");
    assert_string_equal(service_query("SELECT count(*) FROM scores WHERE target = '" TRACE "20'"), "1");
    service_fails(get_as(alpha.admin, alpha.project_id, TRACE "20", ""), FORGE_NOT_FOUND, "trace");
    service_ok(delete_as(alpha.admin, request_id, alpha.project_id, TRACE "20"));
    assert_true(service_reply_is_stored());
    service_fails(delete_as(alpha.admin, NULL, alpha.project_id, TRACE "20"), FORGE_NOT_FOUND, "trace");
    send("20", 4, 0, 0, NULL); /* it may begin anew */
    service_ok(delete_as(alpha.admin, request_id, alpha.project_id, TRACE "20"));
    assert_string_equal(rows_of("20"), "1,1"); /* a repeat deletes nothing more */
    service_violates(delete_as(alpha.admin, NULL, "", ""), "project_id", "is required", "trace_id", "is required");
}

static void test_the_largest_trace_is_deleted_in_time(void **state)
{
    make_chain("22");
    uint64_t begun_ms = now_ms();
    service_ok(delete_as(alpha.admin, NULL, alpha.project_id, TRACE "22"));
    uint64_t taken_ms = now_ms() - begun_ms;
    print_message("%d spans deleted: %" PRIu64 " ms\n", SPANS_MAX, taken_ms);
    assert_true(taken_ms < DELETE_MS_MAX);
    assert_string_equal(rows_of("22"), "0,0");
}

/* ---- deleting what is being written ---- */

static struct forge_channel *writer_channel, *deleter_channel;

static void *write_one(void *argument)
{
    const char *trace = argument;
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__Span span = FORGE__V1__SPAN__INIT, *list[] = {&span};
    Forge__V1__IngestSpansResponse *reply;
    struct forge_error error = {0};
    char trace_id[64];
    snprintf(trace_id, sizeof trace_id, TRACE "%s", trace);
    request.project_id = alpha.project_id;
    request.spans = list;
    request.n_spans = 1;
    span.trace_id = trace_id;
    span.span_id = TEXT("00000000000000aa");
    span.name = TEXT("late");
    span.start_ns = span.end_ns = trace_base_ns();
    forge_code code = forge_trace_ingest_spans(writer_channel, NULL, &request, &reply, &error);
    intptr_t accepted = code == FORGE_OK ? reply->accepted_count : -1;
    if (code == FORGE_OK)
        forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    forge_error_free(&error);
    return (void *)accepted;
}

static void *delete_one(void *argument)
{
    const char *trace = argument;
    Forge__V1__DeleteTraceRequest request = FORGE__V1__DELETE_TRACE_REQUEST__INIT;
    Google__Protobuf__Empty *reply;
    struct forge_error error = {0};
    char trace_id[64];
    snprintf(trace_id, sizeof trace_id, TRACE "%s", trace);
    request.project_id = alpha.project_id;
    request.trace_id = trace_id;
    forge_code code = forge_trace_delete(deleter_channel, NULL, &request, &reply, &error);
    if (code == FORGE_OK)
        google__protobuf__empty__free_unpacked(reply, NULL);
    forge_error_free(&error);
    return (void *)(intptr_t)code;
}

/* Both wait for the trace's row, in either order. The span is stored before the deletion and goes with it, or begins the trace anew. */
static void test_a_span_comes_while_its_trace_is_deleted(void **state)
{
    static const char *const traces[] = {"30", "31"};
    writer_channel = service_channel(alpha.token);
    deleter_channel = service_channel(alpha.token);
    for (int order = 0; order < 2; order++) {
        const char *trace = traces[order];
        char sql[256];
        pthread_t threads[2];
        void *accepted, *code;
        send(trace, 1, 0, 0, NULL);
        snprintf(sql, sizeof sql, "SELECT FROM traces WHERE trace_id = '\\x" TRACE "%s' FOR UPDATE", trace);
        struct service_lock *lock = service_lock_take(sql);
        assert_int_equal(pthread_create(&threads[0], NULL, order == 0 ? write_one : delete_one, TEXT(trace)), 0);
        service_lock_wait(lock, 1);
        assert_int_equal(pthread_create(&threads[1], NULL, order == 0 ? delete_one : write_one, TEXT(trace)), 0);
        service_lock_wait(lock, 2);
        service_lock_release(lock);
        pthread_join(threads[order], &accepted);
        pthread_join(threads[1 - order], &code);
        assert_int_equal((intptr_t)code, FORGE_OK);
        assert_int_equal((intptr_t)accepted, 1);
        assert_string_equal(rows_of(trace), order == 0 ? "0,0" : "1,1");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tree),
        cmocka_unit_test(test_orphans_stand_under_the_first_root),
        cmocka_unit_test(test_cycles_stand_under_the_root),
        cmocka_unit_test(test_a_span_with_other_starts),
        cmocka_unit_test(test_figures_are_those_of_all_spans),
        cmocka_unit_test(test_a_span_comes_back_as_it_was_sent),
        cmocka_unit_test(test_what_is_not_told_is_left_out),
        cmocka_unit_test(test_details_that_are_damaged),
        cmocka_unit_test(test_a_trace_without_spans),
        cmocka_unit_test(test_spans_that_arrive_between_pages),
        cmocka_unit_test(test_a_page_is_cut_at_the_reply_limit),
        cmocka_unit_test(test_as_many_spans_as_a_trace_may_have),
        cmocka_unit_test(test_requests_that_are_wrong),
        cmocka_unit_test(test_who_may_read),
        cmocka_unit_test(test_a_trace_is_deleted_with_its_spans),
        cmocka_unit_test(test_the_largest_trace_is_deleted_in_time),
        cmocka_unit_test(test_a_span_comes_while_its_trace_is_deleted),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
