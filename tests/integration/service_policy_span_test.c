/* TraceService over TLS: policies on ingested spans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "enforcement_fixture.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CALLS = 8, GROUP_THREADS = 4 /* the default */ };
#define TRACE "0af7651916cd43dd8448eb211c8031"
#define SECRET "white falcon at dawn"
#define KEYWORDS "'keyword': {'keywords': ['falcon']}"
static const char blocks[] = "[{'name': 'no-falcon', " BLOCK ", " KEYWORDS "}]";

static struct service_tenant alpha, beta;
static const char *const some_prompt = "01890000-0000-7000-8000-00000000000a";

static void wait_for_partitions(void)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    for (int i = 0; i < 3000 && strcmp(service_query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass"), "9") != 0;
         i++)
        nanosleep(&pause, NULL);
    assert_string_equal(service_query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass"), "9");
}

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    wait_for_partitions(); /* the server makes them in its first pass */
    return 0;
}

/* A span in JSON, a second long and a minute old; more: its other fields. trace: two digits that end its id. Kept until the next but three.
 */
static const char *span(const char *trace, unsigned n, const char *more)
{
    static char texts[4][4096];
    static unsigned turn;
    static int64_t start_ns;
    char *text = texts[turn++ % 4];
    if (start_ns == 0)
        start_ns = (forge_clock_wall_us() / 1000000 - 60) * 1000000000;
    snprintf(text, sizeof texts[0],
             "{'trace_id': '" TRACE "%s', 'span_id': '%016x', 'start_ns': '%" PRId64 "', 'end_ns': '%" PRId64 "'%s%s%s}", trace, n,
             start_ns + n * 1000, start_ns + n * 1000 + 1000000000, strstr(more, "'name': ") == more ? "" : ", 'name': 'step'",
             more[0] != '\0' ? ", " : "", more);
    return text;
}

static void ingest(const char *project_id, const char *spans)
{
    service_ok(service_call(alpha.admin, "TraceService/IngestSpans", NULL, "{'project_id': '%s', 'spans': [%s]}", project_id, spans));
}

static const char *of_spans(const char *project_id, const char *trace, const char *expression)
{
    char sql[2048];
    snprintf(sql, sizeof sql,
             "SELECT string_agg(%s, '; ' ORDER BY span_id) FROM spans WHERE project_id = '%s' AND trace_id = '\\x" TRACE "%s'", expression,
             project_id, trace);
    return service_query(sql);
}

/* How many spans of the project hold this text in any column, whichever way. */
static long holding(const char *project_id, const char *text)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM spans s WHERE project_id = '%s' AND (position(convert_to('%s', 'UTF8') IN COALESCE(details, '')) > 0 OR"
             " position('%s' IN s::text) > 0)",
             project_id, text, text);
    return strtol(service_query(sql), NULL, 10);
}

/* Every place in which instrumentation puts the texts of a call. */
#define EVERYWHERE                                                                                                                         \
    "'input': 'see the " SECRET "', 'output': 'I saw the " SECRET "', 'status_message': 'bad input: " SECRET "', 'provider': 'acme',"      \
    " 'model': 'm1', 'parameters': '{\\'messages\\':\\'" SECRET "\\'}', 'attributes': ["                                                   \
    "{'key': 'gen_ai.input.messages', 'json_value': '[{\\'content\\':\\'" SECRET "\\'}]'},"                                                \
    "{'key': 'gen_ai.prompt', 'string_value': '" SECRET "'}, {'key': 'gen_ai.prompt.0.content', 'string_value': '" SECRET "'},"            \
    "{'key': 'input.value', 'string_value': '" SECRET "'}, {'key': 'gen_ai.completion', 'string_value': '" SECRET "'},"                    \
    "{'key': 'llm.output_messages.0.message.content', 'string_value': '" SECRET "'}, {'key': 'gen_ai.tool.name', 'string_value': 'tool'}," \
    "{'key': 'gen_ai.request.top_k', 'int_value': '7'}, {'key': 'cached', 'bool_value': true}],"                                           \
    " 'events': [{'time_ns': '1', 'name': 'gen_ai.user.message', 'attributes': [{'key': 'content', 'string_value': '" SECRET "'}]},"       \
    "{'time_ns': '2', 'name': '" SECRET "'}],"                                                                                             \
    " 'links': [{'trace_id': '" TRACE "ff', 'span_id': '00000000000000ff', 'attributes': [{'key': 'why', 'string_value': '" SECRET "'}]}]"

/* --- what is done to a span --- */

static void test_nothing_of_a_blocked_text_is_stored(void **state)
{
    (void)state;
    char project_id[37], policy_id[37], expected[512], fields[2048];
    enforcement_project_make(&alpha, "blocked", project_id);
    ingest(project_id, span("01", 1, EVERYWHERE));
    assert_int_equal(holding(project_id, SECRET), 1); /* found where it is */
    enforcement_begin(&alpha, project_id, "no birds", NULL, NULL, "", blocks, policy_id);
    snprintf(fields, sizeof fields, "%s, 'prompt_id': '%s', 'prompt_version': 3, 'prompt_label': 'live'", EVERYWHERE, some_prompt);
    ingest(project_id, span("01", 2, fields));
    service_shows("'outcome':'ITEM_OUTCOME_ACCEPTED'", "'policy_action':'POLICY_ACTION_BLOCK'", "'accepted_count':1");
    assert_int_equal(holding(project_id, SECRET), 1);
    assert_int_equal(holding(project_id, "falcon"), 1);
    assert_string_equal(of_spans(project_id, "01",
                                 "concat_ws('|', policy_action, input IS NULL, output IS NULL, status_message IS NULL, parameters IS NULL,"
                                 " model, prompt_version, octet_length(content_hash))"),
                        "0|f|f|f|f|m1|32; 3|t|t|t|t|m1|3|32");
    assert_int_equal(holding(project_id, "gen_ai.request.top_k"), 2); /* numbers and names of things stay */
    assert_int_equal(holding(project_id, "gen_ai.tool.name"), 2);
    assert_int_equal(holding(project_id, "gen_ai.prompt"), 1);
    snprintf(expected, sizeof expected, "%s|no birds|1|no-falcon|block|enforce|input|open|%s|3|live|m1|" TRACE "01|0000000000000002|-|t",
             project_id, some_prompt);
    assert_string_equal(enforcement_violations(policy_id,
                                               "concat_ws('|', project_id, policy_name, policy_version, rule, action, mode, stage, state,"
                                               " prompt_id, prompt_version, label, model, encode(trace_id, 'hex'), encode(span_id, 'hex'),"
                                               " COALESCE(encode(content_hash, 'hex'), '-'), actor_id IS NOT NULL)"),
                        expected);
    assert_string_equal(enforcement_violations(policy_id, enforcement_ranges), "input 14-20, output 16-22");
    assert_string_equal(enforcement_violations(policy_id, "message"), "A keyword occurs.");
}

static void test_a_masked_span_holds_the_masked_texts_only(void **state)
{
    (void)state;
    char project_id[37], policy_id[37];
    enforcement_project_make(&alpha, "masked", project_id);
    enforcement_begin(&alpha, project_id, "masks", NULL, NULL, "", "[{'name': 'bird', " MASK ", " KEYWORDS "}]", policy_id);
    ingest(project_id, span("02", 1, EVERYWHERE));
    service_shows("'policy_action':'POLICY_ACTION_MASK'");
    assert_int_equal(holding(project_id, "falcon"), 0);
    assert_int_equal(holding(project_id, "white [bird] at dawn"), 1);
    assert_string_equal(of_spans(project_id, "02", "concat_ws('|', policy_action, input, output, status_message, parameters)"),
                        "2|see the white [bird] at dawn|I saw the white [bird] at dawn|bad input: white [bird] at dawn|"
                        "{\"messages\":\"white [bird] at dawn\"}");
    assert_int_equal(holding(project_id, "[{\"content\":\"white [bird] at dawn\"}]"), 1); /* the attribute is JSON as before */
    assert_int_equal(holding(project_id, "gen_ai.user.message"), 1);
    assert_string_equal(enforcement_violations(policy_id, "action"), "mask");
    /* Taken from an attribute. */
    ingest(project_id, span("02", 2, "'attributes': [{'key': 'gen_ai.prompt', 'string_value': 'falcon'}]"));
    assert_string_equal(of_spans(project_id, "02", "input"), "see the white [bird] at dawn; [bird]");
    assert_int_equal(holding(project_id, "falcon"), 0);
}

/* "Füchse sind rot" as Python writes it into JSON, once and within JSON; C has \\\\ for the \\ of the request, which is \ in the span. */
#define ESCAPED "F\\\\u00fcchse\\\\nsind rot"
#define ESCAPED_TWICE "F\\\\\\\\u00fcchse\\\\\\\\nsind rot"

static void test_masks_look_behind_the_escapes_of_json(void **state)
{
    (void)state;
    char project_id[37], policy_id[37];
    enforcement_project_make(&alpha, "escaped", project_id);
    enforcement_begin(&alpha, project_id, "escaped", NULL, NULL, "",
                      "[{'name': 'fox', " MASK ", 'pattern': {'patterns': ['F\\u00fcchse\\\\s+sind']}}]", policy_id);
    ingest(project_id,
           span("08", 1,
                "'input': 'F\\u00fcchse\\nsind rot', 'output': '{\\'echo\\':\\'" ESCAPED "\\'}', 'status_message': '" ESCAPED "',"
                " 'parameters': '{\\'stop\\':\\'" ESCAPED "\\'}', 'attributes': [{'key': 'a', 'json_value': '[\\'" ESCAPED
                "\\']'}, {'key': 'b', 'string_value': '" ESCAPED_TWICE "'}, {'key': 'c', 'string_value': 'C:\\\\new\\\\u12'}],"
                " 'events': [{'time_ns': '1', 'name': '" ESCAPED "'}]"));
    service_shows("'policy_action':'POLICY_ACTION_MASK'");
    assert_string_equal(of_spans(project_id, "08", "concat_ws('|', input, output, status_message, parameters)"),
                        "[fox] rot|{\"echo\":\"[fox] rot\"}|[fox] rot|{\"stop\":\"[fox] rot\"}");
    assert_int_equal(holding(project_id, "u00fcchse"), 0);
    assert_int_equal(holding(project_id, "sind"), 0);
    assert_int_equal(holding(project_id, "[\"[fox] rot\"]"), 1);
    assert_int_equal(holding(project_id, "C:\\new\\u12"), 1); /* what holds nothing to mask stays as it was sent */
}

/* A mask names its rule, which may be the very word. */
static void test_a_mask_is_not_masked(void **state)
{
    (void)state;
    char project_id[37], policy_id[37];
    enforcement_project_make(&alpha, "named", project_id);
    enforcement_begin(&alpha, project_id, "named", NULL, NULL, "", "[{'name': 'falcon', " MASK ", " KEYWORDS "}]", policy_id);
    ingest(project_id, span("09", 1, "'input': 'one falcon\\\\n', 'status_message': 'one falcon\\\\n'"));
    assert_string_equal(of_spans(project_id, "09", "concat_ws('|', input, status_message)"), "one [falcon]\\n|one [falcon]\\n");
}

/* Command lines stand in the resource, and somebody names spans by what was asked. */
static void test_names_and_resources_hold_none_of_it(void **state)
{
    (void)state;
    char project_id[37], policy_id[37];
    enforcement_project_make(&alpha, "around", project_id);
#define AROUND                                                                                                                             \
    "'resource': {'attributes': [{'key': 'service.name', 'string_value': 'birds'}, {'key': 'process.command_line', 'string_value':"        \
    " 'ask " SECRET "'}]}, 'scope': {'name': 'lib', 'attributes': [{'key': 'why', 'string_value': '" SECRET "'}]}"
    enforcement_begin(&alpha, project_id, "around", NULL, NULL, "", "[{'name': 'bird', " MASK ", " KEYWORDS "}]", policy_id);
    service_ok(service_call(alpha.admin, "TraceService/IngestSpans", NULL, "{'project_id': '%s', 'spans': [%s], " AROUND "}", project_id,
                            span("0a", 1, "'name': 'ask the falcon', 'input': 'a falcon'")));
    assert_string_equal(of_spans(project_id, "0a", "name"), "ask the [bird]");
    assert_int_equal(holding(project_id, "ask white [bird] at dawn"), 1);
    assert_int_equal(holding(project_id, "falcon"), 0);
    enforcement_end(&alpha, project_id, policy_id, "");
    enforcement_begin(&alpha, project_id, "around it", NULL, NULL, "", blocks, policy_id);
    service_ok(service_call(alpha.admin, "TraceService/IngestSpans", NULL, "{'project_id': '%s', 'spans': [%s, %s], " AROUND "}",
                            project_id, span("0a", 2, "'name': 'ask the falcon', 'input': 'a falcon'"),
                            span("0a", 3, "'input': 'a falcon'")));
    assert_string_equal(of_spans(project_id, "0a", "name"), "ask the [bird]; [blocked]; step");
    assert_int_equal(holding(project_id, "falcon"), 0);
    assert_int_equal(holding(project_id, "dawn"), 1);
    assert_int_equal(holding(project_id, "birds"), 3); /* the service */
    assert_string_equal(service_query("SELECT name FROM traces WHERE encode(trace_id, 'hex') = '" TRACE "0a'"), "ask the [bird]");
}

/* A mask may be longer than what it hides. */
static void test_a_masked_name_has_room(void **state)
{
    (void)state;
    char project_id[37], policy_id[37], more[512], name[256] = "";
    enforcement_project_make(&alpha, "long", project_id);
    enforcement_begin(&alpha, project_id, "long", NULL, NULL, "",
                      "[{'name': 'a-name-that-is-longer', " MASK ", 'pattern': {'patterns': ['x']}}]", policy_id);
    memset(name, 'x', 10);
    memset(name + 10, 'y', 245);
    snprintf(more, sizeof more, "'name': '%s', 'input': 'x'", name);
    ingest(project_id, span("0b", 1, more));
    service_shows("'accepted_count':1");
    assert_string_equal(of_spans(project_id, "0b", "concat_ws(' ', length(name), substr(name, 1, 24), right(name, 1))"),
                        "255 [a-name-that-is-longer]y y");
}

static void test_flags_and_dry_runs_change_nothing(void **state)
{
    (void)state;
    char project_id[37], flag_id[37], dry_id[37];
    enforcement_project_make(&alpha, "flagged", project_id);
    enforcement_begin(&alpha, project_id, "flags", NULL, NULL, "", "[{'name': 'bird', " FLAG ", " KEYWORDS "}]", flag_id);
    ingest(project_id, span("03", 1, EVERYWHERE));
    service_shows("'policy_action':'POLICY_ACTION_FLAG'");
    enforcement_end(&alpha, project_id, flag_id, "");
    enforcement_begin(&alpha, project_id, "tries", "dry_run", NULL, "", blocks, dry_id);
    ingest(project_id, span("03", 2, EVERYWHERE));
    assert_null(strstr(service_reply(), "policy_action"));
    assert_string_equal(of_spans(project_id, "03", "concat_ws('|', policy_action, input, output)"),
                        "1|see the " SECRET "|I saw the " SECRET "; 0|see the " SECRET "|I saw the " SECRET);
    assert_string_equal(of_spans(project_id, "03",
                                 "(details = (SELECT details FROM spans x WHERE x.project_id = spans.project_id AND"
                                 " x.trace_id = spans.trace_id LIMIT 1))::text"),
                        "true; true");
    assert_string_equal(enforcement_violations(flag_id, "concat_ws('|', action, mode, encode(span_id, 'hex'))"),
                        "flag|enforce|0000000000000001");
    assert_string_equal(enforcement_violations(dry_id, "concat_ws('|', action, mode, encode(span_id, 'hex'))"),
                        "block|dry_run|0000000000000002");
    assert_string_equal(enforcement_counts(flag_id, 1), "1 0 1 0 0");
    assert_string_equal(enforcement_counts(dry_id, 1), "1 0 0 0 1");
}

/* --- repeats --- */

static void test_a_span_that_is_not_stored_adds_nothing(void **state)
{
    (void)state;
    char project_id[37], policy_id[37], two[8192];
    enforcement_project_make(&alpha, "again", project_id);
    ingest(project_id, span("04", 1, "'input': 'a falcon'")); /* before there was a policy */
    enforcement_begin(&alpha, project_id, "again", NULL, NULL, "", blocks, policy_id);
    ingest(project_id, span("04", 1, "'input': 'a falcon'"));
    service_shows("'outcome':'ITEM_OUTCOME_DUPLICATE'");
    assert_null(strstr(service_reply(), "policy_action"));
    assert_string_equal(of_spans(project_id, "04", "input"), "a falcon");
    assert_string_equal(enforcement_violations(policy_id, "'one'"), "");
    /* Twice in one call, then again: one span, one violation. Its hash is that of what was sent. */
    snprintf(two, sizeof two, "%s, %s", span("04", 2, "'input': 'a falcon'"), span("04", 2, "'input': 'a falcon'"));
    ingest(project_id, two);
    service_shows("'accepted_count':1", "'duplicate_count':1");
    ingest(project_id, span("04", 2, "'input': 'a falcon'"));
    service_shows("'duplicate_count':1");
    ingest(project_id, span("04", 2, "'input': 'another falcon'"));
    service_shows("'code':'CODE_ALREADY_EXISTS'");
    ingest(project_id, span("04", 3, "'input': 'a falcon', 'prompt_id': 'x'"));
    service_shows("'rejected_count':1");
    assert_string_equal(enforcement_violations(policy_id, "encode(span_id, 'hex')"), "0000000000000002");
    assert_string_equal(enforcement_counts(policy_id, 1), "1 0 0 0 1");
    enforcement_end(&alpha, project_id, policy_id, "");
    ingest(project_id, span("04", 2, "'input': 'a falcon'")); /* also after the policy has gone */
    service_shows("'duplicate_count':1");
    ingest(project_id, span("04", 4, "'input': 'a falcon'"));
    assert_string_equal(of_spans(project_id, "04", "COALESCE(input, '-')"), "a falcon; -; a falcon");
}

struct caller {
    pthread_t thread;
    const char *project_id;
    unsigned number;
    forge_code rc;
};

static void *caller_main(void *argument)
{
    struct caller *caller = argument;
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__IngestSpansResponse *reply;
    Forge__V1__Span one = FORGE__V1__SPAN__INIT, *list[] = {&one};
    struct forge_error error = {0};
    char trace_id[33], span_id[17];
    snprintf(trace_id, sizeof trace_id, TRACE "%02x", 0x50 + caller->number);
    snprintf(span_id, sizeof span_id, "%016x", caller->number + 1);
    one.trace_id = trace_id;
    one.span_id = span_id;
    one.name = TEXT("step");
    one.start_ns = (forge_clock_wall_us() - 60000000) * 1000;
    one.end_ns = one.start_ns + 1;
    one.input = TEXT("a falcon");
    request.project_id = TEXT(caller->project_id);
    request.n_spans = 1;
    request.spans = list;
    caller->rc = forge_trace_ingest_spans(alpha.admin, NULL, &request, &reply, &error);
    if (caller->rc == FORGE_OK)
        forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    forge_error_free(&error);
    return NULL;
}

static long metric(const char *name)
{
    char *text, line[128];
    assert_int_equal(forged_child_http(service_child(), "/metrics", &text), 200);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(text, line);
    long value = at != NULL ? strtol(at + strlen(line), NULL, 10) : 0;
    free(text);
    return value;
}

/* Calls that meet in one transaction, which fails: each is done again by itself, and each span has its violation once. */
static void test_a_group_that_is_done_again_writes_each_violation_once(void **state)
{
    (void)state;
    char project_id[37], policy_id[37], sql[256];
    static struct caller callers[CALLS];
    enforcement_project_make(&alpha, "together", project_id);
    enforcement_begin(&alpha, project_id, "together", NULL, NULL, "", blocks, policy_id);
    service_execute("CREATE FUNCTION refuse_several() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT count(*) FROM fresh) > 1 THEN"
                    " RAISE EXCEPTION 'several at once'; END IF; RETURN NULL; END $$;"
                    " CREATE TRIGGER refuse_several AFTER INSERT ON policy_violations REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT"
                    " EXECUTE FUNCTION refuse_several()");
    /* As many as there are threads for it wait for the lock, each with one call; the others come together behind them. */
    struct service_lock *lock = service_lock_take("LOCK TABLE policy_violations IN ACCESS EXCLUSIVE MODE");
    for (unsigned i = 0; i < CALLS; i++) {
        callers[i] = (struct caller){.project_id = project_id, .number = i};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
        if (i < GROUP_THREADS)
            service_lock_wait(lock, (int)i + 1);
    }
    for (time_t latest = time(NULL) + 30; metric("forged_joined_calls") < CALLS - GROUP_THREADS;)
        assert_true(time(NULL) < latest);
    service_lock_release(lock);
    for (unsigned i = 0; i < CALLS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_int_equal(callers[i].rc, FORGE_OK);
    }
    service_execute("DROP TRIGGER refuse_several ON policy_violations; DROP FUNCTION refuse_several");
    assert_true(metric("forged_grouped_calls_total{outcome=\"redone\"}") > 0);
    snprintf(sql, sizeof sql, "SELECT concat_ws(' ', count(*), count(DISTINCT span_id)) FROM policy_violations WHERE policy_id = '%s'",
             policy_id);
    assert_string_equal(service_query(sql), "8 8");
    assert_string_equal(enforcement_counts(policy_id, CALLS), "8 0 0 0 8");
}

/* --- facts --- */

static void test_models_tokens_cost_and_time_are_facts_too(void **state)
{
    (void)state;
    char project_id[37], policy_id[37], provider_id[37], model_id[37], rules[1024];
    enforcement_project_make(&alpha, "facts", project_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Acme', 'provider_key': 'acme'}"));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL,
                            "{'provider_id': '%s', 'name': 'm1', 'aliases': ['m1-new']}", provider_id));
    service_reply_text("id", model_id, sizeof model_id);
    service_ok(
        service_call(alpha.admin, "OrganizationService/SetModelPrice", NULL,
                     "{'model_id': '%s', 'usage_prices': [{'usage_type': 'USAGE_TYPE_INPUT', 'micros_per_million_tokens': '1000000'}],"
                     " 'effective_time': '2020-01-01T00:00:00Z'}",
                     model_id));
    snprintf(rules, sizeof rules,
             "[{'name': 'a-model', " FLAG ", 'allowed_models': {'model_ids': ['%s']}},"
             " {'name': 'b-cost', " FLAG ", 'cost_limit': {'cost_max_micros': '100'}},"
             " {'name': 'c-tokens', " FLAG ", 'token_limit': {'output_tokens_max': '10'}},"
             " {'name': 'd-time', " BLOCK ", 'latency_limit': {'latency_max_ms': '1000'}}]",
             model_id);
    enforcement_begin(&alpha, project_id, "facts", NULL, NULL, "", rules, policy_id);
    ingest(project_id, span("06", 1, "'provider': 'acme', 'model': 'm1-new', 'usage': {'input_tokens': '100', 'output_tokens': '10'}"));
    ingest(project_id, span("06", 2, "'provider': 'acme', 'model': 'm1', 'usage': {'input_tokens': '101'}")); /* by its price */
    ingest(project_id, span("06", 3, "'provider': 'acme', 'model': 'm2', 'usage': {'output_tokens': '11'}")); /* a model nobody has */
    ingest(project_id, span("06", 4, "'cost_micros': '101'"));                                                /* given */
    ingest(project_id, span("06", 5, ""));                                                                    /* nothing is known */
    assert_string_equal(enforcement_violations(policy_id, "concat_ws(' ', rule, encode(substr(span_id, 8), 'hex'), stage)"),
                        "a-model 03 input; b-cost 02 output; b-cost 04 output; c-tokens 03 output");
    assert_string_equal(of_spans(project_id, "06", "COALESCE(cost_micros::text, '-')"), "100; 101; -; 101; -");
    assert_string_equal(enforcement_counts(policy_id, 5), "5 2 3 0 0");
    /* A nanosecond too long. */
    char text[512];
    int64_t start_ns = (forge_clock_wall_us() - 60000000) * 1000;
    snprintf(text, sizeof text,
             "{'trace_id': '" TRACE "06', 'span_id': '0000000000000009', 'name': 'slow', 'start_ns': '%" PRId64 "', 'end_ns': '%" PRId64
             "', 'input': 'x'}",
             start_ns, start_ns + 1000000001);
    ingest(project_id, text);
    service_shows("'policy_action':'POLICY_ACTION_BLOCK'");
}

static void test_labels_and_models_decide_what_is_in_force(void **state)
{
    (void)state;
    char project_id[37], policy_id[37];
    enforcement_project_make(&alpha, "attached", project_id);
    enforcement_begin(&alpha, project_id, "attached", NULL, "(0, 'label', NULL, 'live', NULL)", "'label': 'live'", blocks, policy_id);
    ingest(project_id, span("07", 1, "'input': 'a falcon'"));
    ingest(project_id, span("07", 2, "'input': 'a falcon', 'prompt_label': 'test'"));
    ingest(project_id, span("07", 3, "'input': 'a falcon', 'attributes': [{'key': 'forge.prompt.label', 'string_value': 'live'}]"));
    assert_string_equal(of_spans(project_id, "07", "policy_action::text"), "0; 0; 3");
    assert_string_equal(enforcement_counts(policy_id, 1), "1 0 0 0 1");
    /* Nobody else's spans. */
    service_ok(service_call(alpha.admin, "TraceService/IngestSpans", NULL, "{'project_id': '%s', 'spans': [%s]}", alpha.project_id,
                            span("07", 4, "'input': 'a falcon', 'prompt_label': 'live'")));
    service_ok(service_call(beta.admin, "TraceService/IngestSpans", NULL, "{'project_id': '%s', 'spans': [%s]}", beta.project_id,
                            span("07", 4, "'input': 'a falcon', 'prompt_label': 'live'")));
    service_fails(service_call(beta.admin, "TraceService/IngestSpans", NULL, "{'project_id': '%s', 'spans': [%s]}", project_id,
                               span("07", 5, "'input': 'a falcon', 'prompt_label': 'live'")),
                  FORGE_NOT_FOUND, "project");
    assert_string_equal(enforcement_violations(policy_id, "encode(substr(span_id, 8), 'hex')"), "03");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_of_a_blocked_text_is_stored),
        cmocka_unit_test(test_a_masked_span_holds_the_masked_texts_only),
        cmocka_unit_test(test_masks_look_behind_the_escapes_of_json),
        cmocka_unit_test(test_a_mask_is_not_masked),
        cmocka_unit_test(test_names_and_resources_hold_none_of_it),
        cmocka_unit_test(test_a_masked_name_has_room),
        cmocka_unit_test(test_flags_and_dry_runs_change_nothing),
        cmocka_unit_test(test_a_span_that_is_not_stored_adds_nothing),
        cmocka_unit_test(test_a_group_that_is_done_again_writes_each_violation_once),
        cmocka_unit_test(test_models_tokens_cost_and_time_are_facts_too),
        cmocka_unit_test(test_labels_and_models_decide_what_is_in_force),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
