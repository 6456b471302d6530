/* PolicyService over TLS: CheckPolicies with each kind of rule and each way of being in force, and GetPolicyStats. That other servers
 * follow, and rates over several of them: policy_in_force_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy_fixture.h"
#include "service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLAG "'action': 'POLICY_ACTION_FLAG'"
#define MASK "'action': 'POLICY_ACTION_MASK'"
#define BLOCK "'action': 'POLICY_ACTION_BLOCK'"

static struct service_tenant alpha, beta;
static struct forge_channel *viewer;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    viewer = service_user_make(&alpha, "viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    return 0;
}

static void project_make(const char *name, char out_id[37])
{
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': '%s'}", name));
    service_reply_text("id", out_id, 37);
}

static void model_make(const char *name, char out_id[37])
{
    char provider_id[37];
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Provider of %s'}", name));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL,
                            "{'provider_id': '%s', 'name': '%s', 'aliases': ['%s-alias']}", provider_id, name, name));
    service_reply_text("id", out_id, 37);
}

/* A check; more: fields of the request. */
static forge_code check(struct forge_channel *channel, const char *project_id, const char *more)
{
    return service_call(channel, "PolicyService/CheckPolicies", NULL, "{'project_id': '%s'%s%s}", project_id, more[0] != '\0' ? ", " : "",
                        more);
}

/* Until a policy is evaluated in this version (0: not at all) on checks of this project; fails after 10 s. */
static void wait_in_force(const char *project_id, const char *more, const char *policy_id, int version)
{
    char reference[128], any[64];
    struct timespec begun, now;
    snprintf(reference, sizeof reference, "{\"policy_id\":\"%s\",\"policy_name\":\"", policy_id);
    snprintf(any, sizeof any, "\"version\":%d}", version);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        service_ok(check(viewer, project_id, more));
        const char *found = strstr(service_reply(), reference), *end = found != NULL ? strchr(found, '}') : NULL;
        if (version == 0 ? found == NULL : found != NULL && strncmp(end + 1 - strlen(any), any, strlen(any)) == 0)
            return;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begun.tv_sec < 10);
    fail_msg("policy %s is not in force in version %d: %s", policy_id, version, service_reply());
}

static void put(const char *project_id, const char *name, const char *mode, const char *attachments, const char *rules, char out_id[37])
{
    const struct policy_put policy = {.organization_id = alpha.organization_id,
                                      .project_id = project_id,
                                      .name = name,
                                      .mode = mode,
                                      .rules = rules,
                                      .attachments = attachments};
    policy_fixture_put(service_execute, &policy, out_id);
}

static void expect_rule(const char *project_id, const char *more, const char *rule, const char *stage)
{
    char found[128];
    service_ok(check(viewer, project_id, more));
    if (rule == NULL) {
        assert_null(strstr(service_reply(), "\"findings\""));
        service_shows("'allowed':true");
        return;
    }
    snprintf(found, sizeof found, "'rule':'%s','action':'POLICY_ACTION_FLAG','severity':'SEVERITY_MEDIUM','mode':'POLICY_MODE_ENFORCE'",
             rule);
    service_shows("'action':'POLICY_ACTION_FLAG','allowed':true", "'findings':[{", found, stage);
    const char *first = strstr(service_reply(), "\"rule\":");
    assert_null(strstr(first + 1, "\"rule\":")); /* and no other */
}

/* --- kinds --- */

static void test_each_kind_of_rule(void **state)
{
    static const char form[] =
        "[{'name': 'pattern', " FLAG ", 'pattern': {'patterns': ['order-[0-9]{4}']}},"
        " {'name': 'keyword', " FLAG ", 'keyword': {'keywords': ['confidential']}},"
        " {'name': 'pii', " FLAG ", 'pii': {'kinds': ['PII_KIND_EMAIL']}},"
        " {'name': 'secret', " FLAG ", 'secret': {'formats_only': true}},"
        " {'name': 'models', " FLAG ", 'allowed_models': {'model_ids': ['%s']}},"
        " {'name': 'tokens', " FLAG ", 'token_limit': {'input_tokens_max': '1000'}},"
        " {'name': 'cost', " FLAG ", 'cost_limit': {'cost_max_micros': '500'}},"
        " {'name': 'latency', " FLAG ", 'latency_limit': {'latency_max_ms': '2000'}},"
        " {'name': 'by_model', " FLAG ", 'rate_limit': {'key': 'RATE_LIMIT_KEY_MODEL', 'calls_max': '100'}},"
        " {'name': 'rate', " FLAG ", 'rate_limit': {'key': 'RATE_LIMIT_KEY_SUBJECT', 'window_s': '3600', 'calls_max': '1'}},"
        " {'name': 'tags', " FLAG ", 'required_tags': {'tags': ['reviewed']}},"
        " {'name': 'schema', " FLAG ", 'output_schema': {'schema': '{\\'type\\': \\'object\\'}'}}]";
    char project_id[37], allowed[37], other[37], policy_id[37], prompt_id[37], rules[4096], more[512];
    (void)state;
    project_make("kinds", project_id);
    model_make("kinds-allowed", allowed);
    model_make("kinds-other", other);
    service_prompt_make(alpha.admin, project_id, "tagged", "text", prompt_id);
    service_ok(service_call(
        alpha.admin, "OrganizationService/SetModelPrice", NULL,
        "{'model_id': '%s', 'usage_prices': [{'usage_type': 'USAGE_TYPE_INPUT', 'micros_per_million_tokens': '1000000'}]}", allowed));
    snprintf(rules, sizeof rules, form, allowed);
    put(project_id, "kinds", NULL, NULL, rules, policy_id);
    wait_in_force(project_id, "", policy_id, 1);
    expect_rule(project_id, "'input': 'all is well', 'output': '{}'", NULL, NULL);
    expect_rule(project_id, "'input': 'about order-1234'", "pattern", "'stage':'POLICY_STAGE_INPUT'");
    expect_rule(project_id, "'input': 'This is CONFIDENTIAL.'", "keyword", "'ranges':[{'start_byte':'8','end_byte':'20'}]");
    expect_rule(project_id, "'input': 'ask jane@example.org'", "pii",
                "'ranges':[{'start_byte':'4','end_byte':'20','pii_kind':'PII_KIND_EMAIL'}]");
    expect_rule(project_id, "'input': 'with AKIA" /* in two parts, so that nobody takes it for a key */ "Z7QW4RTY2UIOP9AS'", "secret",
                "'ranges':[{'start_byte':'5','end_byte':'25'}]");
    expect_rule(project_id, "'model': 'kinds-allowed-alias'", NULL, NULL);
    expect_rule(project_id, "'model': 'kinds-other'", "models", "'stage':'POLICY_STAGE_INPUT'");
    expect_rule(project_id, "'model': 'a name that no model has'", "models", "'stage':'POLICY_STAGE_INPUT'");
    snprintf(more, sizeof more, "'model_id': '%s'", allowed);
    expect_rule(project_id, more, NULL, NULL);
    snprintf(more, sizeof more, "'model_id': '%s', 'model': 'kinds-allowed'", other); /* the id counts */
    expect_rule(project_id, more, "models", "'stage':'POLICY_STAGE_INPUT'");
    expect_rule(project_id, "'usage': {'input_tokens': '900', 'cache_read_tokens': '101'}", "tokens", "'stage':'POLICY_STAGE_INPUT'");
    expect_rule(project_id, "'cost_micros': '500'", NULL, NULL);
    expect_rule(project_id, "'cost_micros': '501'", "cost", "'stage':'POLICY_STAGE_OUTPUT'");
    expect_rule(project_id, "'model': 'kinds-allowed', 'usage': {'input_tokens': '500'}", NULL, NULL);
    expect_rule(project_id, "'model': 'kinds-allowed', 'usage': {'input_tokens': '501'}", "cost", "'stage':'POLICY_STAGE_OUTPUT'");
    expect_rule(project_id, "'latency_ms': '2001'", "latency", "'stage':'POLICY_STAGE_OUTPUT'");
    expect_rule(project_id, "'subject': 'somebody'", NULL, NULL);
    expect_rule(project_id, "'subject': 'somebody'", "rate", "'stage':'POLICY_STAGE_INPUT'");
    expect_rule(project_id, "'subject': 'somebody else'", NULL, NULL);
    snprintf(more, sizeof more, "'prompt_id': '%s'", prompt_id);
    expect_rule(project_id, more, "tags", "'stage':'POLICY_STAGE_PROMPT'");
    service_ok(service_call(alpha.admin, "PromptService/CreateTag", NULL, "{'name': 'reviewed'}"));
    service_ok(service_call(alpha.admin, "PromptService/TagPrompt", NULL, "{'prompt_id': '%s', 'tag': 'reviewed'}", prompt_id));
    expect_rule(project_id, more, NULL, NULL);
    snprintf(more, sizeof more, "'prompt_id': '%s'", nobody_has);
    expect_rule(project_id, more, "tags", "'stage':'POLICY_STAGE_PROMPT'");
    expect_rule(project_id, "'output': 'not JSON'", "schema", "'stage':'POLICY_STAGE_OUTPUT'");
}

/* --- what is done --- */

static void test_the_strictest_action_of_those_that_enforce_is_taken(void **state)
{
    char project_id[37], flag[37], mask[37], dry[37];
    (void)state;
    project_make("actions", project_id);
    put(project_id, "flags", NULL, NULL, "[{'name': 'f', " FLAG ", 'description': 'Ask legal.', 'keyword': {'keywords': ['alpha']}}]",
        flag);
    put(project_id, "masks", NULL, NULL, "[{'name': 'm', " MASK ", 'keyword': {'keywords': ['alpha', 'beta']}}]", mask);
    put(project_id, "only watches", "dry_run", NULL,
        "[{'name': 'd', " BLOCK ", 'severity': 'SEVERITY_CRITICAL', 'keyword': {'keywords': ['alpha']}}]", dry);
    wait_in_force(project_id, "", flag, 1);
    wait_in_force(project_id, "", mask, 1);
    wait_in_force(project_id, "", dry, 1);
    service_ok(check(viewer, project_id, "'input': 'an alpha', 'output': 'and beta'"));
    service_shows("'decision_id':'", "'action':'POLICY_ACTION_MASK','allowed':true,'masked_input':'an [m]','masked_output':'and [m]'");
    service_shows("'rule':'f'", "'message':'A keyword occurs. Ask legal.'", "'rule':'m'", "'stage':'POLICY_STAGE_INPUT'", "'rule':'m'",
                  "'stage':'POLICY_STAGE_OUTPUT'",
                  "'rule':'d','action':'POLICY_ACTION_BLOCK','severity':'SEVERITY_CRITICAL','mode':'POLICY_MODE_DRY_RUN'", "'policies':[{",
                  "'policy_name':'flags','version':1}", "'policy_name':'masks','version':1}", "'policy_name':'only watches','version':1}");
    policy_fixture_publish(service_execute, alpha.organization_id, dry, 2, "enforce",
                           "[{'name': 'd', " BLOCK ", 'keyword': {'keywords': ['alpha']}}]");
    wait_in_force(project_id, "", dry, 2);
    service_ok(check(viewer, project_id, "'input': 'an alpha'"));
    service_shows("'action':'POLICY_ACTION_BLOCK'", "'masked_input':'an [m]'");
    assert_null(strstr(service_reply(), "\"allowed\":true"));
}

static void test_a_rule_looks_at_its_stages_only(void **state)
{
    char project_id[37], policy_id[37];
    (void)state;
    project_make("stages", project_id);
    put(project_id, "stages", NULL, NULL,
        "[{'name': 'o', " FLAG ", 'stages': ['POLICY_STAGE_OUTPUT'], 'keyword': {'keywords': ['alpha']}}]", policy_id);
    wait_in_force(project_id, "", policy_id, 1);
    expect_rule(project_id, "'input': 'alpha'", NULL, NULL);
    expect_rule(project_id, "'output': 'alpha'", "o", "'stage':'POLICY_STAGE_OUTPUT'");
}

static void test_a_rate_that_is_over_says_when_to_come_again(void **state)
{
    char project_id[37], policy_id[37];
    (void)state;
    project_make("rates", project_id);
    put(project_id, "rates", NULL, NULL,
        "[{'name': 'calls', " BLOCK ", 'rate_limit': {'key': 'RATE_LIMIT_KEY_SUBJECT', 'window_s': '3600', 'calls_max': '3'}},"
        " {'name': 'tokens', " BLOCK ", 'rate_limit': {'key': 'RATE_LIMIT_KEY_PROJECT', 'window_s': '3600', 'tokens_max': '100'}}]",
        policy_id);
    wait_in_force(project_id, "", policy_id, 1);
    for (int i = 0; i < 3; i++) {
        service_ok(check(viewer, project_id, "'subject': 'one'"));
        service_shows("'allowed':true");
        assert_null(strstr(service_reply(), "retry_after_ms"));
    }
    service_ok(check(viewer, project_id, "'subject': 'one'"));
    assert_null(strstr(service_reply(), "\"allowed\":true"));
    service_shows("'rule':'calls'", "'retry_after_ms':'3");
    service_ok(check(viewer, project_id, "'usage': {'input_tokens': '60', 'output_tokens': '40'}"));
    service_shows("'allowed':true");
    service_ok(check(viewer, project_id, "'usage': {'input_tokens': '1'}"));
    service_shows("'rule':'tokens'", "'retry_after_ms':'3");
    service_ok(check(viewer, project_id, "'subject': 'two'")); /* none of its tokens is too many */
    service_shows("'allowed':true");
}

/* Rates and other rules in one order, whatever the one they were written in. */
static void test_findings_are_told_by_rule(void **state)
{
    char project_id[37], policy_id[37];
    (void)state;
    project_make("order", project_id);
    put(project_id, "order", NULL, NULL,
        "[{'name': 'z', " FLAG ", 'rate_limit': {'calls_max': '1'}}, {'name': 'm', " FLAG ", 'keyword': {'keywords': ['alpha']}},"
        " {'name': 'b', " FLAG ", 'rate_limit': {'calls_max': '1'}}, {'name': 'a', " FLAG ", 'keyword': {'keywords': ['alpha']}}]",
        policy_id);
    wait_in_force(project_id, "", policy_id, 1);
    service_ok(check(viewer, project_id, "'input': 'alpha'"));
    service_shows("'rule':'a'", "'rule':'b'", "'rule':'m'", "'rule':'z'");
}

/* --- where --- */

static bool is_evaluated(const char *project_id, const char *more, const char *policy_id)
{
    service_ok(check(viewer, project_id, more));
    return strstr(service_reply(), policy_id) != NULL;
}

static void test_policies_are_in_force_where_they_are_attached(void **state)
{
    static const char rules[] = "[{'name': 'r', " FLAG ", 'keyword': {'keywords': ['x']}}]";
    char here[37], there[37], model_id[37], whole[37], named[37], in_project[37], labelled[37], for_model[37], two[37], attachment[256],
        more[128];
    (void)state;
    project_make("here", here);
    project_make("there", there);
    model_make("attached", model_id);
    put(NULL, "whole organization", NULL, "(1, 'organization', NULL, NULL, NULL)", rules, whole);
    snprintf(attachment, sizeof attachment, "(1, 'project', '%s', NULL, NULL)", here);
    put(NULL, "one project", NULL, attachment, rules, named);
    put(here, "of the project", NULL, NULL, rules, in_project);
    put(here, "of a label", NULL, "(1, 'label', NULL, 'production', NULL)", rules, labelled);
    snprintf(attachment, sizeof attachment, "(1, 'model', NULL, NULL, '%s')", model_id);
    put(here, "of a model", NULL, attachment, rules, for_model);
    snprintf(attachment, sizeof attachment, "(1, 'label', NULL, 'staging', NULL), (2, 'project', '%s', NULL, NULL)", there);
    put(NULL, "of two", NULL, attachment, rules, two);
    wait_in_force(there, "", two, 1);
    assert_true(is_evaluated(here, "", whole) && is_evaluated(there, "", whole));
    assert_true(is_evaluated(here, "", named) && !is_evaluated(there, "", named));
    assert_true(is_evaluated(here, "", in_project) && !is_evaluated(there, "", in_project));
    assert_true(is_evaluated(here, "'label': 'production'", labelled));
    assert_false(is_evaluated(here, "", labelled) || is_evaluated(here, "'label': 'staging'", labelled) ||
                 is_evaluated(there, "'label': 'production'", labelled));
    snprintf(more, sizeof more, "'model_id': '%s'", model_id);
    assert_true(is_evaluated(here, more, for_model) && is_evaluated(here, "'model': 'attached-alias'", for_model));
    assert_false(is_evaluated(here, "", for_model) || is_evaluated(here, "'model': 'another'", for_model) ||
                 is_evaluated(there, more, for_model));
    assert_true(is_evaluated(here, "'label': 'staging'", two) && !is_evaluated(here, "", two));
    service_ok(service_call(beta.admin, "PolicyService/CheckPolicies", NULL, "{'project_id': '%s', 'input': 'x'}", beta.project_id));
    assert_null(strstr(service_reply(), "policies")); /* another organization has none */
    service_execute("DELETE FROM policies WHERE name IN ('whole organization', 'one project', 'of two')");
    policy_fixture_tell(service_execute, alpha.organization_id, whole);
    wait_in_force(here, "", whole, 0);
}

static void test_policies_that_do_not_compile_let_nothing_pass(void **state)
{
    char project_id[37], policy_id[37];
    (void)state;
    service_ok(service_call(beta.admin, "ProjectService/CreateProject", NULL, "{'name': 'broken'}"));
    service_reply_text("id", project_id, sizeof project_id);
    const struct policy_put policy = {.organization_id = beta.organization_id,
                                      .project_id = project_id,
                                      .name = "broken",
                                      .rules = "[{'name': 'r', " FLAG ", 'pattern': {'patterns': ['(']}}]"};
    policy_fixture_put(service_execute, &policy, policy_id);
    while (check(beta.admin, project_id, "") == FORGE_OK)
        continue;
    service_fails(check(beta.admin, project_id, ""), FORGE_FAILED_PRECONDITION,
                  "the organization's policies do not compile, so nothing passes them: rules[0].pattern.patterns[0]: ");
    service_execute("DELETE FROM policies WHERE name = 'broken'");
    policy_fixture_tell(service_execute, beta.organization_id, policy_id);
    while (check(beta.admin, project_id, "") != FORGE_OK)
        forge_error_free(&service_error);
    service_shows("'allowed':true");
}

/* --- bad input --- */

static void test_wrong_checks_are_refused(void **state)
{
    (void)state;
    service_violates(
        service_call(
            viewer, "PolicyService/CheckPolicies", NULL,
            "{'model_id': 'm', 'label': '%s', 'prompt_id': 'p', 'prompt_version': -1, 'usage': {'input_tokens': '-1', 'reasoning_tokens': "
            "'-1'}, 'cost_micros': '-1', 'latency_ms': '-1', 'subject': '%s', 'model': '\\u0001'}",
            service_repeat("l", 65), service_repeat("s", 256)),
        "project_id", "is required", "model_id", "must be a UUID", "model", "", "label", "64", "prompt_id", "must be a UUID", "subject",
        "255", "prompt_version", "must not be negative", "usage.input_tokens", "must not be negative", "usage.reasoning_tokens",
        "must not be negative", "cost_micros", "must not be negative", "latency_ms", "must not be negative");
    service_fails(check(viewer, nobody_has, ""), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-000000000000 not found");
    service_fails(check(viewer, beta.project_id, ""), FORGE_NOT_FOUND, "not found");
    service_fails(check(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id), beta.project_id, ""),
                  FORGE_PERMISSION_DENIED, "");
    const char *half = service_repeat("a", 512 * 1024);
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    Forge__V1__CheckPoliciesResponse *reply;
    request.project_id = alpha.project_id;
    request.input = TEXT(half);
    request.output = TEXT(half);
    service_ok(forge_policy_check(viewer, NULL, &request, &reply, &service_error));
    forge__v1__check_policies_response__free_unpacked(reply, NULL);
    request.output = TEXT(service_repeat("a", 512 * 1024 + 1));
    service_fails(forge_policy_check(viewer, NULL, &request, &reply, &service_error), FORGE_RESOURCE_EXHAUSTED,
                  "input and output have 1048577 bytes together, at most 1048576");
}

/* A project that is deleted is not found any more, also by a server that has known it. */
static void test_a_deleted_project_is_not_found(void **state)
{
    char project_id[37];
    (void)state;
    project_make("deleted", project_id);
    service_ok(check(viewer, project_id, ""));
    service_ok(check(viewer, project_id, ""));
    service_ok(service_call(alpha.admin, "ProjectService/DeleteProject", NULL, "{'id': '%s', 'confirm_name': 'deleted'}", project_id));
    while (check(viewer, project_id, "") == FORGE_OK) /* until the change feed has told of it */
        continue;
    service_fails(check(viewer, project_id, ""), FORGE_NOT_FOUND, "not found");
}

/* --- statistics --- */

static forge_code stats(struct forge_channel *channel, const char *field, const char *id)
{
    return service_call(channel, "PolicyService/GetPolicyStats", NULL, "{'%s': '%s'}", field, id);
}

static void test_checks_are_counted_by_day_and_policy(void **state)
{
    char project_id[37], policy_id[37], day[11], expected[256], used[256];
    time_t now = time(NULL);
    (void)state;
    project_make("counted", project_id);
    put(project_id, "counted", NULL, NULL,
        "[{'name': 'b', " BLOCK ", 'keyword': {'keywords': ['black']}}, {'name': 'f', " FLAG ", 'keyword': {'keywords': ['red']}},"
        " {'name': 'm', " MASK ", 'keyword': {'keywords': ['grey']}}]",
        policy_id);
    wait_in_force(project_id, "'input': 'black and red and grey'", policy_id, 1); /* the one that is blocked */
    service_ok(check(viewer, project_id, "'input': 'white'"));
    service_ok(check(viewer, project_id, "'input': 'white'"));
    service_ok(check(viewer, project_id, "'input': 'red'"));
    service_ok(check(viewer, project_id, "'input': 'red and grey'"));
    do
        service_ok(stats(viewer, "policy_id", policy_id));
    while (strstr(service_reply(), "\"evaluated_count\":\"5\"") == NULL);
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&now));
    snprintf(expected, sizeof expected,
             "{'days':[{'date':'%s','policy_id':'%s','policy_name':'counted','evaluated_count':'5','passed_count':'2','flagged_count':'1',"
             "'masked_count':'1','blocked_count':'1'}]}",
             day, policy_id);
    service_shows(expected);
    service_ok(stats(viewer, "project_id", project_id));
    service_shows(expected);
    service_ok(stats(viewer, "project_id", alpha.project_id));
    assert_null(strstr(service_reply(), policy_id));
    service_ok(service_call(viewer, "PolicyService/GetPolicyStats", NULL, "{'start_date': '2020-01-01', 'end_date': '2020-12-31'}"));
    assert_string_equal(service_reply(), "{}");
    service_ok(service_call(beta.admin, "PolicyService/GetPolicyStats", NULL, "{}"));
    assert_null(strstr(service_reply(), policy_id));
    snprintf(used, sizeof used, "SELECT value FROM usage_daily WHERE metric = 'policy_checks' AND project_id = '%s'", project_id);
    while (strtol(service_query(used), NULL, 10) < 5)
        continue;
    service_ok(service_call(alpha.admin, "ProjectService/DeleteProject", NULL, "{'id': '%s', 'confirm_name': 'counted'}", project_id));
    service_ok(service_call(viewer, "PolicyService/GetPolicyStats", NULL, "{}"));
    assert_null(strstr(service_reply(), policy_id)); /* and the policy does not exist either */
}

static void test_wrong_questions_about_statistics_are_refused(void **state)
{
    char policy_id[37];
    (void)state;
    put(alpha.project_id, "asked about", NULL, NULL, "[]", policy_id);
    service_violates(service_call(viewer, "PolicyService/GetPolicyStats", NULL,
                                  "{'project_id': 'p', 'policy_id': 'q', 'start_date': '2026-02-30', 'end_date': 'today'}"),
                     "project_id", "must be a UUID", "policy_id", "must be a UUID", "end_date", "must be a date, YYYY-MM-DD", "start_date",
                     "must be a date, YYYY-MM-DD");
    service_violates(service_call(viewer, "PolicyService/GetPolicyStats", NULL, "{'start_date': '2024-01-01', 'end_date': '2025-01-01'}"),
                     "start_date", "must be at most 365 days before end_date");
    service_violates(service_call(viewer, "PolicyService/GetPolicyStats", NULL, "{'start_date': '2025-01-02', 'end_date': '2025-01-01'}"),
                     "start_date", "must not be after end_date");
    service_fails(stats(viewer, "project_id", beta.project_id), FORGE_NOT_FOUND, "project");
    service_fails(stats(viewer, "policy_id", nobody_has), FORGE_NOT_FOUND, "policy");
    service_fails(stats(beta.admin, "policy_id", policy_id), FORGE_NOT_FOUND, "policy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_rule),
        cmocka_unit_test(test_the_strictest_action_of_those_that_enforce_is_taken),
        cmocka_unit_test(test_a_rule_looks_at_its_stages_only),
        cmocka_unit_test(test_a_rate_that_is_over_says_when_to_come_again),
        cmocka_unit_test(test_findings_are_told_by_rule),
        cmocka_unit_test(test_policies_are_in_force_where_they_are_attached),
        cmocka_unit_test(test_policies_that_do_not_compile_let_nothing_pass),
        cmocka_unit_test(test_wrong_checks_are_refused),
        cmocka_unit_test(test_a_deleted_project_is_not_found),
        cmocka_unit_test(test_checks_are_counted_by_day_and_policy),
        cmocka_unit_test(test_wrong_questions_about_statistics_are_refused),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
