/* From the sample data to a release, with two servers on one database: a team tries a new version of the demo's prompt on live traffic,
 * evaluates both versions, lets a promotion gate decide, and meets a policy on the way. Services speak libforge over TLS, people use
 * forgectl; every step is taken at one server and seen at the other. */
#include "forgectl_test_support.h"

#include "forge/prompt_watch.h"
#include "forge/span_buffer.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

enum {
    TRACES = 1000,
    SPANS_PER_TRACE = 10,
    SPANS = TRACES * SPANS_PER_TRACE,
    CALLS_PER_TRACE = SPANS_PER_TRACE - 2, /* of a model; the others are the agent and its search */
    INPUT_TOKENS = 400,
    OUTPUT_TOKENS = 60,
    FLUSH_MS = 60000,
    WAIT_S = 20
};
/* By the demo's price of Claude 3: 15 and 75 US dollars a million tokens. */
enum { CALL_COST_MICROS = INPUT_TOKENS * 15 + OUTPUT_TOKENS * 75 };
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

static const char *const PROMPT = "ticket-reply";
static const char *const PRODUCTION = "production", *const TRIAL = "trial";
static const char *const EXTRA_LINE = "\nName the article in the first sentence.";

static struct forge_channel *here, *there; /* a server each, as the demo's developer */
static struct forge_channel *admin;        /* at the first, as its admin */
static struct forge_error error;
static char project_id[WORLD_ID_SIZE], prompt_id[WORLD_ID_SIZE], policy_id[WORLD_ID_SIZE], violation_id[WORLD_ID_SIZE];

static int open_world(void **state)
{
    const struct world_options options = {.servers = 2};
    char seeds[512];
    world_open(&world, &options);
    snprintf(seeds, sizeof seeds, "%s/seeds", getenv("FORGE_SOURCE_DIR"));
    forgectl_make_home();
    forgectl_set("LC_ALL", "C.UTF-8");
    forgectl_set("SEEDS", seeds);
    forgectl_set("FORGE_SERVER", world_address(&world, 0));
    forgectl_set("FORGE_CA", tls_files_path(forged_world_tls(world.files), "ca.pem"));
    forgectl_set("FORGE_OPERATOR_TOKEN", world.operator_token);
    forgectl_set("FORGE_PROJECT", "Customer Support");
    return 0;
}

static int close_world(void **state)
{
    forge_channel_close(here);
    forge_channel_close(there);
    forge_channel_close(admin);
    forgectl_remove_home();
    world_close(&world);
    return 0;
}

static void check(const char *what, forge_code code)
{
    world_check(&world, what, code, &error);
}

/* ---- the sample data ---- */

static struct forge_channel *log_in(unsigned server, const char *email, const char *password)
{
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    Forge__V1__LoginResponse *session;
    struct forge_channel *nobody = world_channel(&world, server, NULL);
    request.email = TEXT(email);
    request.password = TEXT(password);
    check("Login", forge_organization_login(nobody, NULL, &request, &session, &error));
    struct forge_channel *channel = world_channel(&world, server, session->token);
    forge__v1__login_response__free_unpacked(session, NULL);
    forge_channel_close(nobody);
    return channel;
}

static Forge__V1__Prompt *prompt_get(struct forge_channel *channel, const char *label)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.project_id = project_id;
    request.name = TEXT(PROMPT);
    if (label != NULL) {
        request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
        request.label = TEXT(label);
    }
    check("GetPrompt", forge_prompt_get(channel, NULL, &request, &prompt, &error));
    return prompt;
}

static void find_project(void)
{
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    Forge__V1__ListProjectsResponse *reply;
    request.name_prefix = TEXT("Customer Support");
    check("ListProjects", forge_project_list(there, NULL, &request, &reply, &error));
    assert_int_equal(reply->n_projects, 1);
    snprintf(project_id, sizeof project_id, "%s", reply->projects[0]->id);
    forge__v1__list_projects_response__free_unpacked(reply, NULL);
}

static void test_the_sample_data(void **state)
{
    expect_output(0, NULL, NULL, "forgectl apply -f $SEEDS/promptforge_demo.yaml");
    expect_output(0, "", NULL, "printf 'admin123\n' | forgectl login admin@promptforge.com --password-stdin");
    here = log_in(0, "developer@promptforge.com", "dev123");
    there = log_in(1, "developer@promptforge.com", "dev123");
    admin = log_in(0, "admin@promptforge.com", "admin123");
    find_project();
    Forge__V1__Prompt *prompt = prompt_get(there, NULL);
    snprintf(prompt_id, sizeof prompt_id, "%s", prompt->id);
    assert_int_equal(prompt->version, 1);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

/* ---- a second version, rendered and used ---- */

static forge_code set_label(struct forge_channel *channel, const char *label, int version)
{
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Forge__V1__Label *reply;
    request.prompt_id = prompt_id;
    request.label = TEXT(label);
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = version;
    forge_code code = forge_prompt_set_label(channel, NULL, &request, &reply, &error);
    if (code == FORGE_OK)
        forge__v1__label__free_unpacked(reply, NULL);
    return code;
}

static void test_a_second_version(void **state)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    Forge__V1__Prompt *prompt = prompt_get(here, NULL);
    size_t size = strlen(prompt->content) + strlen(EXTRA_LINE) + 1;
    char *content = malloc(size);
    assert_non_null(content);
    snprintf(content, size, "%s%s", prompt->content, EXTRA_LINE);
    request.prompt_id = prompt_id;
    request.content = content;
    request.system_prompt = prompt->system_prompt;
    request.variables = prompt->variables;
    request.n_variables = prompt->n_variables;
    request.model_id = prompt->model_id;
    request.parameters = prompt->parameters;
    check("CreatePromptVersion", forge_prompt_create_version(here, NULL, &request, &version, &error));
    assert_int_equal(version->version, 2);
    check("SetLabel", set_label(there, TRIAL, 2));
    forge__v1__prompt_version__free_unpacked(version, NULL);
    forge__v1__prompt__free_unpacked(prompt, NULL);
    free(content);
}

static void test_it_is_rendered(void **state)
{
    static const char *const names[] = {"articles", "customer_name", "ticket"}, *const texts[] = {"Exports", "Ines", "Where is my export?"};
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__GetPromptRequest prompt = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__VariableValue values[3], *list[3];
    Forge__V1__RenderPromptResponse *reply;
    for (int i = 0; i < 3; i++) {
        list[i] = &values[i];
        forge__v1__variable_value__init(&values[i]);
        values[i].name = TEXT(names[i]);
        values[i].value = TEXT(texts[i]);
    }
    prompt.id = prompt_id;
    prompt.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    prompt.label = TEXT(TRIAL);
    request.prompt = &prompt;
    request.variables = list;
    request.n_variables = 3;
    check("RenderPrompt", forge_prompt_render(here, NULL, &request, &reply, &error));
    assert_non_null(strstr(reply->content, "Where is my export?"));
    assert_non_null(strstr(reply->content, EXTRA_LINE));
    forge__v1__render_prompt_response__free_unpacked(reply, NULL);
}

static void test_its_use_is_recorded(void **state)
{
    Forge__V1__RecordExecutionRequest request = FORGE__V1__RECORD_EXECUTION_REQUEST__INIT;
    Forge__V1__Execution *execution;
    request.prompt_id = prompt_id;
    request.version = 2;
    request.rating = 5;
    check("RecordExecution", forge_prompt_record_execution(there, NULL, &request, &execution, &error));
    assert_true(execution->success);
    forge__v1__execution__free_unpacked(execution, NULL);
    expect_output(0, "5\n", "", "forgectl execution list %s --version 2 -o json | sed -n 's/.*\"rating\": \\([0-9]\\).*/\\1/p'", PROMPT);
}

/* ---- 10,000 spans of live traffic, half with each version ---- */

/* A trace of an agent that searches and then calls the model, over and over. Even ones use the first version, odd ones the second. */
static void send_trace(struct forge_span_buffer *buffer, int number)
{
    char trace_id[FORGE_TRACE_ID_SIZE], root_id[FORGE_SPAN_ID_SIZE], span_id[FORGE_SPAN_ID_SIZE];
    int64_t start_ns = forge_now_ns() - (int64_t)1000000000;
    forge_trace_id_make(trace_id);
    forge_span_id_make(root_id);
    for (int i = 0; i < SPANS_PER_TRACE; i++) {
        Forge__V1__Span span = FORGE__V1__SPAN__INIT;
        Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
        forge_span_id_make(span_id);
        span.trace_id = trace_id;
        span.span_id = i == 0 ? root_id : span_id;
        span.parent_span_id = i == 0 ? span.parent_span_id : root_id;
        span.start_ns = start_ns + (int64_t)i * 1000000;
        span.end_ns = start_ns + (i == 0 ? (int64_t)SPANS_PER_TRACE : (int64_t)i + 1) * 1000000;
        span.kind = i == 0 ? FORGE__V1__SPAN_KIND__SPAN_KIND_AGENT : FORGE__V1__SPAN_KIND__SPAN_KIND_RETRIEVER;
        span.name = TEXT(i == 0 ? "answer ticket" : "search articles");
        if (i >= SPANS_PER_TRACE - CALLS_PER_TRACE) {
            span.kind = FORGE__V1__SPAN_KIND__SPAN_KIND_LLM;
            span.name = TEXT("draft");
            span.provider = TEXT("anthropic");
            span.model = TEXT("claude-3-opus-20240229");
            span.prompt_id = prompt_id;
            span.prompt_version = number % 2 + 1;
            span.prompt_label = TEXT(TRIAL);
            usage.input_tokens = INPUT_TOKENS;
            usage.output_tokens = OUTPUT_TOKENS;
            span.usage = &usage;
        }
        assert_int_equal(forge_span_buffer_add(buffer, &span), FORGE_OK);
    }
}

static int64_t spans_stored(void)
{
    return world_number(&world, "SELECT count(*) FROM spans WHERE project_id = '%s'", project_id);
}

static void test_ten_thousand_spans(void **state)
{
    const struct forge_span_buffer_options options = {.project_id = project_id, .spans_max = SPANS};
    struct forge_span_buffer *buffers[2];
    struct forge_channel *const channels[] = {here, there};
    uint64_t accepted = 0;
    int64_t before = spans_stored();
    for (int i = 0; i < 2; i++)
        check("span buffer", forge_span_buffer_open(channels[i], &options, &buffers[i], &error));
    for (int i = 0; i < TRACES; i++)
        send_trace(buffers[i % 2], i);
    for (int i = 0; i < 2; i++) {
        struct forge_span_buffer_stats stats;
        forge_span_buffer_close(buffers[i], FLUSH_MS, &stats);
        assert_int_equal(stats.accepted + stats.duplicate, SPANS / 2);
        accepted += stats.accepted;
    }
    print_message("%d spans through two servers: %llu accepted\n", SPANS, (unsigned long long)accepted);
    assert_int_equal(spans_stored() - before, SPANS);
}

static void test_both_versions_are_compared_on_it(void **state)
{
    Forge__V1__GetTraceStatsRequest request = FORGE__V1__GET_TRACE_STATS_REQUEST__INIT;
    Forge__V1__GetTraceStatsResponse *reply;
    request.project_id = project_id;
    request.group_by = FORGE__V1__TRACE_STATS_GROUP__TRACE_STATS_GROUP_PROMPT_VERSION;
    request.prompt_id = prompt_id;
    request.prompt_label = TEXT(TRIAL);
    check("GetTraceStats", forge_trace_get_stats(there, NULL, &request, &reply, &error));
    assert_int_equal(reply->n_series, 2);
    for (int i = 0; i < 2; i++) {
        const Forge__V1__TraceStatsBucket *total = reply->series[i]->total;
        const int64_t calls = (int64_t)TRACES / 2 * CALLS_PER_TRACE;
        assert_int_equal(reply->series[i]->prompt->version, i + 1);
        assert_int_equal(total->count, calls);
        assert_int_equal(total->error_count, 0);
        assert_int_equal(total->duration_p50_us, 1000);
        assert_int_equal(total->usage->input_tokens, calls * INPUT_TOKENS);
        assert_int_equal(total->usage->output_tokens, calls * OUTPUT_TOKENS);
        assert_int_equal(total->cost_micros, calls * CALL_COST_MICROS);
    }
    forge__v1__get_trace_stats_response__free_unpacked(reply, NULL);
}

/* ---- evaluated, compared, gated ---- */

/* The first version finds two of the five answers, the second all. */
static void evaluate(int version, const char *results)
{
    expect_output(0, "", "",
                  "forgectl eval create 'version %d' --prompt %s --version %d --dataset 'Tickets of March' --evaluator contains -o name "
                  "> v%d",
                  version, PROMPT, version, version);
    forgectl_write_file("results.jsonl", results);
    expect_output(0, NULL, "", "forgectl eval add $(cat v%d) -f results.jsonl && forgectl eval complete $(cat v%d)", version, version);
}

static void test_both_versions_are_evaluated(void **state)
{
    evaluate(1, "{\"item_key\": \"card-declined\", \"output\": \"Open Billing > Payment methods.\"}\n"
                "{\"item_key\": \"close-account\", \"output\": \"Soon.\"}\n"
                "{\"item_key\": \"export-late\", \"output\": \"Tomorrow.\"}\n"
                "{\"item_key\": \"no-article\", \"output\": \"Articles: none\"}\n"
                "{\"item_key\": \"reset-password\", \"output\": \"Try again.\"}\n");
    evaluate(2, "{\"item_key\": \"card-declined\", \"output\": \"Open Billing > Payment methods.\"}\n"
                "{\"item_key\": \"close-account\", \"output\": \"After 30 days.\"}\n"
                "{\"item_key\": \"export-late\", \"output\": \"Within 24 hours.\"}\n"
                "{\"item_key\": \"no-article\", \"output\": \"Articles: none\"}\n"
                "{\"item_key\": \"reset-password\", \"output\": \"Look in the spam folder.\"}\n");
}

static void read_id(const char *file, char out[WORLD_ID_SIZE])
{
    struct child_output output;
    forgectl_shell(&output, "cat %s", file);
    snprintf(out, WORLD_ID_SIZE, "%.36s", output.out);
    child_output_done(&output);
}

static void test_the_second_fixes_three(void **state)
{
    Forge__V1__CompareEvaluationsRequest request = FORGE__V1__COMPARE_EVALUATIONS_REQUEST__INIT;
    Forge__V1__CompareEvaluationsResponse *reply;
    char baseline[WORLD_ID_SIZE], candidate[WORLD_ID_SIZE];
    read_id("v1", baseline);
    read_id("v2", candidate);
    request.baseline_id = baseline;
    request.candidate_id = candidate;
    check("CompareEvaluations", forge_evaluation_compare(there, NULL, &request, &reply, &error));
    assert_int_equal(reply->fixed_count, 3);
    assert_int_equal(reply->broken_count, 0);
    assert_true(fabs(reply->mcnemar->p_value - 0.25) < 1e-12); /* 2 / 2^3 */
    forge__v1__compare_evaluations_response__free_unpacked(reply, NULL);
}

/* The gate says no, and what of it (key) the version has not. */
static void expect_gate(struct forge_channel *channel, int version, const char *key)
{
    assert_int_equal(set_label(channel, PRODUCTION, version), FORGE_FAILED_PRECONDITION);
    assert_string_equal(error.reason, "PROMOTION_GATE");
    const struct forge_fact *fact = error.facts;
    while (fact != NULL && strcmp(fact->key, key) != 0)
        fact = fact->next;
    if (fact == NULL)
        fail_msg("the gate does not name \"%s\": %s", key, error.message);
    forge_error_free(&error);
}

static void test_a_gate_lets_no_weak_version_through(void **state)
{
    Forge__V1__ProtectLabelRequest request = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__PromotionGate gate = FORGE__V1__PROMOTION_GATE__INIT;
    Forge__V1__LabelProtection *rule;
    gate.require_evaluation = true;
    gate.min_score = 0.9;
    gate.require_no_open_blocking_violations = true;
    request.project_id = project_id;
    request.label = TEXT(PRODUCTION);
    request.gate = &gate;
    check("ProtectLabel", forge_prompt_protect_label(admin, NULL, &request, &rule, &error));
    forge__v1__label_protection__free_unpacked(rule, NULL);
    expect_gate(there, 1, "score");
}

/* ---- a policy and a violation of it ---- */

static void publish_policy(void)
{
    Forge__V1__CreatePolicyRequest create = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    Forge__V1__PublishPolicyRequest publish = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
    Forge__V1__KeywordRule keyword = FORGE__V1__KEYWORD_RULE__INIT;
    Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT, *rules[] = {&rule};
    Forge__V1__PolicyStage stage = FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT;
    char *words[] = {TEXT("nightingale")};
    Forge__V1__Policy *policy;
    keyword.keywords = words;
    keyword.n_keywords = 1;
    rule.name = TEXT("code-names");
    rule.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;
    rule.severity = FORGE__V1__SEVERITY__SEVERITY_CRITICAL;
    rule.stages = &stage;
    rule.n_stages = 1;
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND_KEYWORD;
    rule.keyword = &keyword;
    create.project_id = project_id;
    create.name = TEXT("No code names in replies");
    create.rules = rules;
    create.n_rules = 1;
    check("CreatePolicy", forge_policy_create(admin, NULL, &create, &policy, &error));
    snprintf(policy_id, sizeof policy_id, "%s", policy->id);
    forge__v1__policy__free_unpacked(policy, NULL);
    publish.id = policy_id;
    check("PublishPolicy", forge_policy_publish(admin, NULL, &publish, &policy, &error));
    assert_int_equal(policy->published_version, 1);
    forge__v1__policy__free_unpacked(policy, NULL);
}

static const char *const INDISCREET = "This will be easier with Nightingale, which we release in May.";

static bool is_blocked(struct forge_channel *channel, const char *output)
{
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    Forge__V1__CheckPoliciesResponse *reply;
    request.project_id = project_id;
    request.output = TEXT(output);
    check("CheckPolicies", forge_policy_check(channel, NULL, &request, &reply, &error));
    bool is_blocked = !reply->allowed;
    forge__v1__check_policies_response__free_unpacked(reply, NULL);
    return is_blocked;
}

static void test_a_policy_is_in_force_everywhere(void **state)
{
    assert_false(is_blocked(here, INDISCREET));
    assert_false(is_blocked(there, INDISCREET));
    publish_policy();
    struct forge_channel *const channels[] = {here, there};
    for (int i = 0; i < 2; i++)
        for (int tries = 0; !is_blocked(channels[i], INDISCREET); tries++) {
            if (tries == WAIT_S * 100)
                fail_msg("the policy is not in force at server %d after %d s", i, WAIT_S);
            world_sleep_ms(10);
        }
    assert_false(is_blocked(there, "Open Billing > Payment methods."));
}

/* A draft of the second version tells too much. */
static void test_a_span_violates_it(void **state)
{
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    Forge__V1__Span span = FORGE__V1__SPAN__INIT, *spans[] = {&span};
    Forge__V1__IngestSpansResponse *reply;
    char trace_id[FORGE_TRACE_ID_SIZE], span_id[FORGE_SPAN_ID_SIZE];
    forge_trace_id_make(trace_id);
    forge_span_id_make(span_id);
    span.trace_id = trace_id;
    span.span_id = span_id;
    span.name = TEXT("draft");
    span.kind = FORGE__V1__SPAN_KIND__SPAN_KIND_LLM;
    span.start_ns = span.end_ns = forge_now_ns();
    span.output = TEXT(INDISCREET);
    span.prompt_id = prompt_id;
    span.prompt_version = 2;
    request.project_id = project_id;
    request.spans = spans;
    request.n_spans = 1;
    check("IngestSpans", forge_trace_ingest_spans(there, NULL, &request, &reply, &error));
    assert_int_equal(reply->accepted_count, 1);
    assert_int_equal(reply->verdicts[0]->policy_action, FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);

    Forge__V1__ListViolationsRequest list = FORGE__V1__LIST_VIOLATIONS_REQUEST__INIT;
    Forge__V1__ListViolationsResponse *violations;
    list.project_id = project_id;
    list.policy_id = policy_id;
    check("ListViolations", forge_policy_list_violations(here, NULL, &list, &violations, &error));
    assert_int_equal(violations->n_violations, 1);
    const Forge__V1__Violation *violation = violations->violations[0];
    assert_int_equal(violation->state, FORGE__V1__VIOLATION_STATE__VIOLATION_STATE_OPEN);
    assert_string_equal(violation->rule, "code-names");
    assert_int_equal(violation->policy_version, 1);
    assert_string_equal(violation->prompt_id, prompt_id);
    assert_int_equal(violation->prompt_version, 2);
    assert_string_equal(violation->trace_id, trace_id);
    assert_string_equal(violation->span_id, span_id);
    snprintf(violation_id, sizeof violation_id, "%s", violation->id);
    forge__v1__list_violations_response__free_unpacked(violations, NULL);
    assert_int_equal(world_number(&world, "SELECT count(*) FROM spans WHERE span_id = decode('%s', 'hex') AND output IS NULL", span_id), 1);
}

/* ---- promoted when it is resolved, and everybody is told ---- */

static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_changed = PTHREAD_COND_INITIALIZER;
static bool is_listed, is_told;

static void on_event(void *user, const struct forge_prompt_event *event)
{
    pthread_mutex_lock(&told_lock);
    is_told |= is_listed && event->kind == FORGE_PROMPT_CHANGED && strcmp(event->prompt_id, prompt_id) == 0;
    is_listed |= event->kind == FORGE_PROMPT_LISTED;
    pthread_cond_broadcast(&told_changed);
    pthread_mutex_unlock(&told_lock);
}

static void await(const char *what, const bool *condition)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&told_lock);
    int rc = 0;
    while (!*condition && rc == 0)
        rc = pthread_cond_timedwait(&told_changed, &told_lock, &until);
    bool is_met = *condition;
    pthread_mutex_unlock(&told_lock);
    if (!is_met)
        fail_msg("%s: not within %d s", what, WAIT_S);
}

static void acknowledge(void)
{
    Forge__V1__AcknowledgeViolationRequest request = FORGE__V1__ACKNOWLEDGE_VIOLATION_REQUEST__INIT;
    Forge__V1__Violation *violation;
    request.id = violation_id;
    request.comment = TEXT("looking at it");
    check("AcknowledgeViolation", forge_policy_acknowledge_violation(there, NULL, &request, &violation, &error));
    forge__v1__violation__free_unpacked(violation, NULL);
}

static void resolve(void)
{
    Forge__V1__ResolveViolationRequest request = FORGE__V1__RESOLVE_VIOLATION_REQUEST__INIT;
    Forge__V1__Violation *violation;
    request.id = violation_id;
    request.resolution = FORGE__V1__VIOLATION_RESOLUTION__VIOLATION_RESOLUTION_FIXED;
    request.comment = TEXT("the name is gone from the article");
    check("ResolveViolation", forge_policy_resolve_violation(here, NULL, &request, &violation, &error));
    assert_int_equal(violation->state, FORGE__V1__VIOLATION_STATE__VIOLATION_STATE_RESOLVED);
    forge__v1__violation__free_unpacked(violation, NULL);
}

static void test_it_is_promoted_when_the_violation_is_resolved(void **state)
{
    struct forge_prompt_watch *watch;
    check("watch", forge_prompt_watch_open(there, project_id, on_event, NULL, &watch, &error));
    await("listing", &is_listed);
    expect_gate(here, 2, "violation");
    acknowledge();
    expect_gate(there, 2, "violation");
    resolve();
    check("SetLabel", set_label(here, PRODUCTION, 2));
    await("watch", &is_told);
    forge_prompt_watch_close(watch);
    Forge__V1__Prompt *prompt = prompt_get(there, PRODUCTION);
    assert_int_equal(prompt->version, 2);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_the_audit_log_tells_of_it(void **state)
{
    assert_int_equal(world_number(&world, "SELECT count(*) FROM audit_log WHERE target_id = '%s'", violation_id), 2);
    expect_output(0, NULL, "", "forgectl audit verify");
}

/* One story: a chapter goes on where the one before ended. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_sample_data),
        cmocka_unit_test(test_a_second_version),
        cmocka_unit_test(test_it_is_rendered),
        cmocka_unit_test(test_its_use_is_recorded),
        cmocka_unit_test(test_ten_thousand_spans),
        cmocka_unit_test(test_both_versions_are_compared_on_it),
        cmocka_unit_test(test_both_versions_are_evaluated),
        cmocka_unit_test(test_the_second_fixes_three),
        cmocka_unit_test(test_a_gate_lets_no_weak_version_through),
        cmocka_unit_test(test_a_policy_is_in_force_everywhere),
        cmocka_unit_test(test_a_span_violates_it),
        cmocka_unit_test(test_it_is_promoted_when_the_violation_is_resolved),
        cmocka_unit_test(test_the_audit_log_tells_of_it),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
