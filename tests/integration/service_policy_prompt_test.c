/* PromptService over TLS: policies on new prompt versions, and on versions that a label is moved to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "enforcement_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYWORDS "'keyword': {'keywords': ['falcon']}"
static const char blocks[] = "[{'name': 'no-falcon', " BLOCK ", 'severity': 'SEVERITY_HIGH', " KEYWORDS "}]";

static struct service_tenant alpha, beta;
static struct forge_channel *developer;
static char developer_id[37];

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    developer = service_user_make(&alpha, "developer@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, developer_id);
    return 0;
}

static forge_code create(const char *project_id, const char *name, const char *request_id, const char *more)
{
    return service_call(developer, "PromptService/CreatePrompt", request_id, "{'project_id': '%s', 'name': '%s', %s}", project_id, name,
                        more);
}

static void prompt_make(const char *project_id, const char *name, const char *content, char out_id[37])
{
    service_prompt_make(developer, project_id, name, content, out_id);
}

static forge_code add_version(const char *prompt_id, const char *request_id, const char *more)
{
    return service_call(developer, "PromptService/CreatePromptVersion", request_id, "{'prompt_id': '%s', %s}", prompt_id, more);
}

static long versions_of(const char *prompt_id)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM prompt_versions WHERE prompt_id = '%s'", prompt_id);
    return strtol(service_query(sql), NULL, 10);
}

/* A fact of the last error; "" where there is none. */
static const char *fact(const char *key)
{
    for (const struct forge_fact *at = service_error.facts; at != NULL; at = at->next)
        if (strcmp(at->key, key) == 0)
            return at->value;
    return "";
}

static void blocked(forge_code rc, const char *policy_id, const char *rule)
{
    assert_int_equal(rc, FORGE_FAILED_PRECONDITION);
    assert_string_equal(service_error.reason, "POLICY_BLOCKED");
    assert_string_equal(fact("policy_id"), policy_id);
    assert_string_equal(fact("policy_version"), "1");
    assert_string_equal(fact("rule"), rule);
    assert_null(strstr(service_error.message, "falcon flies"));
    service_fails(rc, FORGE_FAILED_PRECONDITION, "blocks this version");
}

/* --- blocked --- */

static void test_a_blocked_version_is_refused_and_its_violation_stays(void **state)
{
    (void)state;
    char project_id[37], other_id[37], prompt_id[37], twin_id[37], policy_id[37], sql[512], expected[256];
    static const char chat[] = "'messages': [{'role': 'user', 'content': 'hello'}, {'role': 'user', 'content': 'the falcon flies'}],"
                               " 'system_prompt': 'Falcon'";
    enforcement_project_make(&alpha, "blocked", project_id);
    enforcement_project_make(&alpha, "blocked twin", other_id);
    prompt_make(project_id, "before", "a dove", prompt_id);
    enforcement_begin(&alpha, project_id, "no birds", NULL, NULL, "", blocks, policy_id);
    long changes = strtol(service_query("SELECT count(*) FROM changes WHERE kind = 'prompt'"), NULL, 10);
    blocked(add_version(prompt_id, NULL, chat), policy_id, "no-falcon");
    assert_int_equal(versions_of(prompt_id), 1);
    assert_int_equal(strtol(service_query("SELECT count(*) FROM changes WHERE kind = 'prompt'"), NULL, 10), changes);
    /* The same elsewhere is stored, and has the hash of what was refused. */
    prompt_make(other_id, "twin", "a dove", twin_id);
    service_ok(add_version(twin_id, NULL, chat));
    snprintf(expected, sizeof expected, "%s|no birds|1|no-falcon|block|3|enforce|prompt|open|%s|-|t|-|-|-|%s", project_id, prompt_id,
             developer_id);
    snprintf(
        sql, sizeof sql,
        "concat_ws('|', project_id, policy_name, policy_version, rule, action, severity, mode, stage, state, prompt_id,"
        " COALESCE(prompt_version::text, '-'), content_hash = (SELECT content_hash FROM prompt_versions WHERE prompt_id = '%s' AND version"
        " = 2), COALESCE(label, '-'), COALESCE(model, '-'), COALESCE(encode(span_id, 'hex'), '-'), actor_id)",
        twin_id);
    assert_string_equal(enforcement_violations(policy_id, sql), expected);
    assert_string_equal(enforcement_violations(policy_id, enforcement_ranges), "messages[1].content 4-10, system_prompt 0-6");
    assert_string_equal(enforcement_violations(policy_id, "message"), "A keyword occurs.");
    /* A prompt that would be new has no id to name. */
    blocked(create(project_id, "new", NULL, "'content': 'the falcon flies'"), policy_id, "no-falcon");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM policy_violations WHERE policy_id = '%s' AND prompt_id IS NULL", policy_id);
    assert_string_equal(service_query(sql), "1");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM prompts WHERE project_id = '%s'", project_id);
    assert_string_equal(service_query(sql), "1");
}

static void test_other_projects_and_organizations_are_left_alone(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], policy_id[37];
    enforcement_project_make(&alpha, "fenced", project_id);
    enforcement_begin(&alpha, project_id, "fence", NULL, NULL, "", blocks, policy_id);
    prompt_make(alpha.project_id, "falcon", "the falcon flies", prompt_id);
    service_prompt_make(beta.admin, beta.project_id, "falcon", "the falcon flies", prompt_id);
    blocked(create(project_id, "falcon", NULL, "'content': 'the falcon flies'"), policy_id, "no-falcon");
    service_fails(service_call(beta.admin, "PromptService/CreatePrompt", NULL,
                               "{'project_id': '%s', 'name': 'x', 'content': 'the falcon flies'}", project_id),
                  FORGE_NOT_FOUND, "project");
    assert_string_equal(enforcement_violations(policy_id, "'one'"), "one");
}

/* --- repeats --- */

static void test_a_refusal_is_decided_anew_and_notes_nothing_twice(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], policy_id[37], request_id[37];
    enforcement_project_make(&alpha, "again", project_id);
    prompt_make(project_id, "p", "a dove", prompt_id);
    enforcement_begin(&alpha, project_id, "again", NULL, NULL, "", blocks, policy_id);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    for (int i = 0; i < 2; i++)
        blocked(add_version(prompt_id, request_id, "'content': 'the falcon flies'"), policy_id, "no-falcon");
    assert_string_equal(enforcement_violations(policy_id, "'one'"), "one");
    blocked(add_version(prompt_id, NULL, "'content': 'the falcon flies'"), policy_id, "no-falcon"); /* another request */
    assert_string_equal(enforcement_violations(policy_id, "'one'"), "one; one");
    assert_string_equal(enforcement_counts(policy_id, 3), "3 0 0 0 3");
    enforcement_end(&alpha, project_id, policy_id, "");
    service_ok(add_version(prompt_id, request_id, "'content': 'the falcon flies'"));
    assert_false(service_reply_is_stored());
    assert_int_equal(versions_of(prompt_id), 2);
}

static void test_a_write_that_was_acknowledged_is_never_refused(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], policy_id[37], request_id[37], first[37], created[37];
    enforcement_project_make(&alpha, "replay", project_id);
    prompt_make(project_id, "p", "a dove", prompt_id);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    service_ok(add_version(prompt_id, request_id, "'content': 'the falcon flies'"));
    snprintf(created, sizeof created, "%s", service_request_id());
    service_ok(create(project_id, "q", created, "'content': 'the falcon flies'"));
    service_reply_text("id", first, sizeof first);
    enforcement_begin(&alpha, project_id, "replay", NULL, NULL, "", blocks, policy_id);
    service_ok(add_version(prompt_id, request_id, "'content': 'the falcon flies'"));
    assert_true(service_reply_is_stored());
    service_ok(create(project_id, "q", created, "'content': 'the falcon flies'"));
    assert_true(service_reply_is_stored());
    service_shows("'id'", first);
    /* Nor is what exists already: nothing is added. */
    service_ok(add_version(prompt_id, NULL, "'content': 'the falcon flies', 'make_current': true"));
    service_shows("'existing':true");
    assert_string_equal(enforcement_violations(policy_id, "'one'"), "");
    blocked(add_version(prompt_id, NULL, "'content': 'falcon flies too'"), policy_id, "no-falcon");
    assert_string_equal(enforcement_counts(policy_id, 1), "1 0 0 0 1");
}

/* --- let through --- */

static void test_what_is_let_through_is_stored_unchanged_and_noted(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], flag_id[37], dry_id[37], sql[256];
    enforcement_project_make(&alpha, "through", project_id);
    prompt_make(project_id, "p", "a dove", prompt_id);
    enforcement_begin(&alpha, project_id, "notes", NULL, NULL, "",
                      "[{'name': 'a-flag', " FLAG ", " KEYWORDS "}, {'name': 'b-mask', " MASK ", " KEYWORDS "}]", flag_id);
    enforcement_begin(&alpha, project_id, "tries", "dry_run", NULL, "", blocks, dry_id);
    service_ok(add_version(prompt_id, NULL, "'content': 'the falcon flies'"));
    service_shows("'version':2", "'content':'the falcon flies'");
    snprintf(sql, sizeof sql,
             "concat_ws('|', rule, action, mode, prompt_version, prompt_id = '%s', content_hash = (SELECT content_hash FROM "
             "prompt_versions WHERE"
             " prompt_id = '%s' AND version = 2))",
             prompt_id, prompt_id);
    assert_string_equal(enforcement_violations(flag_id, sql), "a-flag|flag|enforce|2|t|t; b-mask|mask|enforce|2|t|t");
    assert_string_equal(enforcement_violations(dry_id, sql), "no-falcon|block|dry_run|2|t|t");
    service_ok(add_version(prompt_id, NULL, "'content': 'an owl'"));
    service_ok(create(project_id, "q", NULL, "'content': 'the falcon flies'"));
    assert_string_equal(enforcement_violations(dry_id, "prompt_version::text"), "1; 2");
    assert_string_equal(enforcement_counts(flag_id, 3), "3 1 0 2 0");
    assert_string_equal(enforcement_counts(dry_id, 3), "3 1 0 0 2");
    /* What is rolled back for another reason leaves nothing. */
    service_fails(add_version(prompt_id, NULL, "'content': 'falcon again', 'make_current': true, 'expected_current': 9"), FORGE_ABORTED,
                  "is current");
    service_fails(create(project_id, "q", NULL, "'content': 'the falcon flies'"), FORGE_ALREADY_EXISTS, "exists already");
    assert_string_equal(enforcement_violations(dry_id, "prompt_version::text"), "1; 2");
}

/* --- facts --- */

static void test_models_and_tags_are_facts_too(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], policy_id[37], provider_id[37], good[37], bad[37], rules[512], more[256];
    enforcement_project_make(&alpha, "facts", project_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Acme'}"));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'good'}", provider_id));
    service_reply_text("id", good, sizeof good);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'bad'}", provider_id));
    service_reply_text("id", bad, sizeof bad);
    service_ok(service_call(alpha.admin, "PromptService/CreateTag", NULL, "{'name': 'reviewed'}"));
    snprintf(rules, sizeof rules,
             "[{'name': 'models', " BLOCK ", 'allowed_models': {'model_ids': ['%s']}},"
             " {'name': 'tags', " BLOCK ", 'required_tags': {'tags': ['reviewed']}}]",
             good);
    enforcement_begin(&alpha, project_id, "facts", NULL, NULL, "", rules, policy_id);
    blocked(create(project_id, "p", NULL, "'content': 'x'"), policy_id, "tags");
    service_ok(create(project_id, "p", NULL, "'content': 'x', 'tags': ['reviewed']"));
    service_reply_text("id", prompt_id, sizeof prompt_id);
    snprintf(more, sizeof more, "'content': 'y', 'model_id': '%s'", bad);
    blocked(add_version(prompt_id, NULL, more), policy_id, "models");
    assert_string_equal(enforcement_violations(policy_id, "rule || ' ' || COALESCE(model, '-')"), "models bad; tags -");
    snprintf(more, sizeof more, "'content': 'y', 'model_id': '%s'", good);
    service_ok(add_version(prompt_id, NULL, more));
    service_ok(service_call(developer, "PromptService/UntagPrompt", NULL, "{'prompt_id': '%s', 'tag': 'reviewed'}", prompt_id));
    blocked(add_version(prompt_id, NULL, "'content': 'z'"), policy_id, "tags");
    enforcement_end(&alpha, project_id, policy_id, "");
    /* In force for one model only. */
    snprintf(more, sizeof more, "(0, 'model', NULL, NULL, '%s')", bad);
    snprintf(rules, sizeof rules, "'model_id': '%s'", bad);
    enforcement_begin(&alpha, project_id, "attached", NULL, more, rules, blocks, policy_id);
    service_ok(add_version(prompt_id, NULL, "'content': 'the falcon flies'"));
    snprintf(more, sizeof more, "'content': 'the falcon flies', 'model_id': '%s'", bad);
    blocked(add_version(prompt_id, NULL, more), policy_id, "no-falcon");
}

/* --- labels --- */

static forge_code move(const char *prompt_id, const char *label, const char *target)
{
    return service_call(developer, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': '%s', %s}", prompt_id, label, target);
}

static void test_a_policy_of_a_label_looks_at_what_it_is_moved_to(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], block_id[37], flag_id[37], sql[256];
    static const char on_live[] = "(0, 'label', NULL, 'live', NULL)";
    enforcement_project_make(&alpha, "labels", project_id);
    prompt_make(project_id, "p", "a dove", prompt_id);
    service_ok(add_version(prompt_id, NULL, "'content': 'the falcon flies'"));
    service_ok(move(prompt_id, "live", "'version': 2")); /* before the policy */
    service_ok(move(prompt_id, "live", "'version': 1"));
    enforcement_begin(&alpha, project_id, "live birds", NULL, on_live, "'label': 'live'", blocks, block_id);
    enforcement_begin(&alpha, project_id, "seen birds", NULL, on_live, "'label': 'live'",
                      "[{'name': 'owls', " FLAG ", 'keyword': {'keywords': ['owl']}}]", flag_id);
    service_ok(add_version(prompt_id, NULL, "'content': 'falcon and owl'")); /* no label points at what is new */
    service_ok(add_version(prompt_id, NULL, "'content': 'an owl'"));
    service_ok(move(prompt_id, "test", "'version': 2")); /* another label */
    blocked(move(prompt_id, "live", "'version': 2"), block_id, "no-falcon");
    blocked(move(prompt_id, "live", "'previous': true"), block_id, "no-falcon");
    blocked(move(prompt_id, "live", "'split': {'targets': [{'version': 4, 'weight': 1}, {'version': 3, 'weight': 9}]}"), block_id,
            "no-falcon");
    snprintf(sql, sizeof sql, "SELECT string_agg(version::text, '+') FROM label_targets WHERE prompt_id = '%s' AND label = 'live'",
             prompt_id);
    assert_string_equal(service_query(sql), "1");
    assert_string_equal(enforcement_violations(block_id, "concat_ws('|', prompt_version, label, stage)"),
                        "2|live|prompt; 2|live|prompt; 3|live|prompt");
    assert_string_equal(enforcement_violations(flag_id, "concat_ws('|', prompt_version, label)"), "3|live"); /* of what was refused */
    service_ok(move(prompt_id, "live", "'split': {'targets': [{'version': 4, 'weight': 1}, {'version': 1, 'weight': 9}]}"));
    assert_string_equal(enforcement_violations(flag_id, "concat_ws('|', prompt_version, label)"), "3|live; 4|live");
    service_ok(move(prompt_id, "live", "'split': {'targets': [{'version': 4, 'weight': 5}, {'version': 1, 'weight': 5}]}"));
    assert_string_equal(enforcement_violations(flag_id, "concat_ws('|', prompt_version, label)"), "3|live; 4|live"); /* it was there */
    /* A move that is not refused elsewhere: 2 blocked alone, 2 by previous, 3 in the split; 4 alone passes the one that blocks. */
    assert_string_equal(enforcement_counts(block_id, 4), "4 1 0 0 3");
}

static void test_the_violation_of_a_move_closes_the_gate(void **state)
{
    (void)state;
    char project_id[37], prompt_id[37], policy_id[37], violation_id[37];
    enforcement_project_make(&alpha, "gate", project_id);
    prompt_make(project_id, "p", "the falcon flies", prompt_id);
    service_ok(service_call(alpha.admin, "PromptService/ProtectLabel", NULL,
                            "{'project_id': '%s', 'label': 'live', 'gate': {'require_no_open_blocking_violations': true}}", project_id));
    enforcement_begin(&alpha, project_id, "gate", NULL, "(0, 'label', NULL, 'live', NULL)", "'label': 'live'", blocks, policy_id);
    blocked(move(prompt_id, "live", "'version': 1"), policy_id, "no-falcon");
    enforcement_end(&alpha, project_id, policy_id, "'label': 'live'");
    snprintf(violation_id, sizeof violation_id, "%s", enforcement_violations(policy_id, "id::text"));
    assert_int_equal(move(prompt_id, "live", "'version': 1"), FORGE_FAILED_PRECONDITION);
    assert_string_equal(service_error.reason, "PROMOTION_GATE");
    assert_string_equal(fact("violation"), violation_id);
    forge_error_free(&service_error);
    service_execute("UPDATE policy_violations SET state = 'resolved'");
    service_ok(move(prompt_id, "live", "'version': 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_blocked_version_is_refused_and_its_violation_stays),
        cmocka_unit_test(test_other_projects_and_organizations_are_left_alone),
        cmocka_unit_test(test_a_refusal_is_decided_anew_and_notes_nothing_twice),
        cmocka_unit_test(test_a_write_that_was_acknowledged_is_never_refused),
        cmocka_unit_test(test_what_is_let_through_is_stored_unchanged_and_noted),
        cmocka_unit_test(test_models_and_tags_are_facts_too),
        cmocka_unit_test(test_a_policy_of_a_label_looks_at_what_it_is_moved_to),
        cmocka_unit_test(test_the_violation_of_a_move_closes_the_gate),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
