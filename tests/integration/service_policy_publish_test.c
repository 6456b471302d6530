/* PolicyService over TLS: published versions of policies, and what may be in force together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE "PolicyService/CreatePolicy"
#define GET "PolicyService/GetPolicy"
#define UPDATE "PolicyService/UpdatePolicy"
#define PUBLISH "PolicyService/PublishPolicy"
#define RULE(name) "{'name': '" name "', 'action': 'POLICY_ACTION_FLAG', 'pattern': {'patterns': ['a+']}}"

enum { PUBLISHERS = 16, PUBLICATIONS = 4, SQL_SIZE = 512 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* As alpha, in its project; rules: elements of a JSON array. */
static void make(const char *name, const char *rules, char out_id[37])
{
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': '%s', 'rules': [%s]}", alpha.project_id, name, rules));
    service_reply_text("id", out_id, 37);
}

__attribute__((format(printf, 2, 3))) static void expect_row(const char *expected, const char *format, ...)
{
    char sql[2 * SQL_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    assert_string_equal(service_query(sql), expected);
}

/* ---- versions ---- */

static void test_what_was_published_never_changes(void **state)
{
    (void)state;
    char id[37], hash[65], first[2048];
    make("versions", RULE("one"), id);
    service_reply_text("content_hash", hash, sizeof hash);
    service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s', 'message': 'first', 'etag': '1'}", id));
    service_shows("'draft':{'mode':'POLICY_MODE_ENFORCE','rules':[{'name':'one'",
                  "'published':{'version':1,'mode':'POLICY_MODE_ENFORCE','rules':[{'name':'one'", hash,
                  "'message':'first','publisher_id':'", "'publish_time'", "'published_version':1", "'update_time'", "'etag':'2'");
    assert_null(strstr(service_reply(), "draft_changed"));
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("two") "], 'mode': 'POLICY_MODE_DRY_RUN'}", id));
    service_shows("'draft':{'mode':'POLICY_MODE_DRY_RUN','rules':[{'name':'two'", "'published':{'version':1", "'rules':[{'name':'one'",
                  "'published_version':1,'draft_changed':true", "'etag':'3'");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s', 'version': 1}", id));
    snprintf(first, sizeof first, "%s", strstr(service_reply(), "\"published\":"));
    *strstr(first, "\"published_version\"") = '\0';
    service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    service_shows("'published':{'version':2,'mode':'POLICY_MODE_DRY_RUN','rules':[{'name':'two'", "'published_version':2");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s', 'version': 1}", id));
    assert_non_null(strstr(service_reply(), first));
    service_shows("'published_version':2");
    assert_null(strstr(service_reply(), "draft_changed"));
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s', 'version': 3}", id), FORGE_NOT_FOUND, "no version 3");
    expect_row("policy.publish 1,policy.publish 2",
               "SELECT string_agg(action || ' ' || (details->'published'->>'version'), ',' ORDER BY sequence) FROM audit_log"
               " WHERE target_id = '%s' AND action = 'policy.publish'",
               id);
    expect_row("4", "SELECT count(*) FROM changes WHERE object_id = '%s' AND kind = 'policy'", id);
}

static void test_a_draft_that_is_in_force_makes_no_version(void **state)
{
    (void)state;
    char id[37];
    make("unchanged", RULE("one"), id);
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s', 'message': '%d'}", id, i));
        service_shows("'published':{'version':1,", "'message':'0'", "'published_version':1", "'etag':'2'");
    }
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("two") "]}", id));
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("one") "]}", id)); /* back again */
    service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    service_shows("'published':{'version':1,");
    expect_row("1", "SELECT count(*) FROM audit_log WHERE target_id = '%s' AND action = 'policy.publish'", id);
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("two") "]}", id));
    service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("one") "]}", id));
    service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", id)); /* as version 1, which is not in force */
    service_shows("'published':{'version':3,");
    expect_row("1", "SELECT count(DISTINCT content_hash) FROM policy_versions WHERE version IN (1, 3) AND policy_id = '%s'", id);
}

static void test_what_cannot_be_published(void **state)
{
    (void)state;
    char id[37];
    make("empty", "", id);
    service_fails(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "the draft has no rules");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("one") "]}", id));
    service_fails(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s', 'etag': '1'}", id), FORGE_ABORTED, "has changed since this etag");
    service_fails(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", nobody_has), FORGE_NOT_FOUND, "policy 01890000");
    service_fails(service_call(beta.admin, PUBLISH, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "policy");
    service_violates(service_call(alpha.admin, PUBLISH, NULL, "{'id': 'x', 'message': '%s', 'etag': '%s'}", service_repeat("m", 1025),
                                  service_repeat("e", 65)),
                     "id", "must be a UUID", "message", "1024", "etag", "64");
    expect_row("0 2", "SELECT published_version || ' ' || row_version FROM policies WHERE id = '%s'", id);
    expect_row("0", "SELECT count(*) FROM policy_versions WHERE policy_id = '%s'", id);
}

static void test_a_repeat_publishes_once(void **state)
{
    (void)state;
    char id[37], request_id[37];
    make("repeated", RULE("one"), id);
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, PUBLISH, request_id, "{'id': '%s', 'etag': '1'}", id));
        assert_true(service_reply_is_stored() == (i == 1));
        service_shows("'published':{'version':1,");
        if (i == 0)
            service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" RULE("two") "]}", id));
    }
    expect_row("1", "SELECT count(*) FROM policy_versions WHERE policy_id = '%s'", id);
}

/* ---- publishers ---- */

struct publisher {
    pthread_t thread;
    const char *id;
    int number, failed;
};

/* Changes the draft and publishes it, or what another one has made of it meanwhile. */
static void *publish(void *argument)
{
    struct publisher *publisher = argument;
    for (int i = 0; i < PUBLICATIONS; i++) {
        char name[32];
        struct forge_error error;
        Forge__V1__PiiRule pii = FORGE__V1__PII_RULE__INIT;
        Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT, *rules[] = {&rule};
        Forge__V1__UpdatePolicyRequest update = FORGE__V1__UPDATE_POLICY_REQUEST__INIT;
        Forge__V1__PublishPolicyRequest request = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
        Forge__V1__Policy *policy;
        snprintf(name, sizeof name, "r%d.%d", publisher->number, i);
        rule.name = name;
        rule.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
        rule.kind_case = FORGE__V1__POLICY_RULE__KIND_PII;
        rule.pii = &pii;
        update.id = request.id = TEXT(publisher->id);
        update.n_rules = 1;
        update.rules = rules;
        bool is_done = forge_policy_update(alpha.admin, NULL, &update, &policy, &error) == FORGE_OK;
        if (is_done)
            forge__v1__policy__free_unpacked(policy, NULL);
        forge_error_free(&error);
        is_done = is_done && forge_policy_publish(alpha.admin, NULL, &request, &policy, &error) == FORGE_OK;
        if (is_done)
            forge__v1__policy__free_unpacked(policy, NULL);
        else
            publisher->failed++;
        forge_error_free(&error);
    }
    return NULL;
}

/* Every version has the rules of a draft that somebody wrote, and the one in force is the last draft. */
static void test_sixteen_publishers_leave_no_gap(void **state)
{
    (void)state;
    char id[37];
    struct publisher publishers[PUBLISHERS];
    make("publishers", RULE("one"), id);
    for (int i = 0; i < PUBLISHERS; i++) {
        publishers[i] = (struct publisher){.id = id, .number = i};
        assert_int_equal(pthread_create(&publishers[i].thread, NULL, publish, &publishers[i]), 0);
    }
    for (int i = 0; i < PUBLISHERS; i++) {
        pthread_join(publishers[i].thread, NULL);
        assert_int_equal(publishers[i].failed, 0);
    }
    expect_row("t",
               "SELECT min(version) = 1 AND max(version) = count(*) AND count(*) = count(DISTINCT content_hash) AND count(*) > 1"
               " AND count(*) = (SELECT count(*) FROM audit_log WHERE target_id = policy_id AND action = 'policy.publish')"
               " FROM policy_versions WHERE policy_id = '%s' GROUP BY policy_id",
               id);
    expect_row("t",
               "SELECT p.published_version = (SELECT max(version) FROM policy_versions WHERE policy_id = p.id) AND p.draft_rules = v.rules"
               " AND p.draft_hash = v.content_hash FROM policies p JOIN policy_versions v ON v.policy_id = p.id"
               " AND v.version = p.published_version WHERE p.id = '%s'",
               id);
}

/* Of the ones that read the same etag one succeeds: all of them wait behind a lock, so none has read what another wrote. */
struct rival {
    pthread_t thread;
    const char *id;
    forge_code code;
};

static void *publish_once(void *argument)
{
    struct rival *rival = argument;
    struct forge_error error;
    Forge__V1__PublishPolicyRequest request = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
    Forge__V1__Policy *policy;
    request.id = TEXT(rival->id);
    request.etag = TEXT("1");
    rival->code = forge_policy_publish(alpha.admin, NULL, &request, &policy, &error);
    if (rival->code == FORGE_OK)
        forge__v1__policy__free_unpacked(policy, NULL);
    forge_error_free(&error);
    return NULL;
}

static void test_an_etag_is_good_for_one_publisher(void **state)
{
    (void)state;
    enum { RIVALS = 4 };
    char id[37], sql[SQL_SIZE];
    struct rival rivals[RIVALS];
    int succeeded = 0;
    make("rivals", RULE("one"), id);
    snprintf(sql, sizeof sql, "SELECT FROM organizations WHERE organization_id = '%s' FOR UPDATE", alpha.organization_id);
    struct service_lock *lock = service_lock_take(sql);
    for (int i = 0; i < RIVALS; i++) {
        rivals[i] = (struct rival){.id = id};
        assert_int_equal(pthread_create(&rivals[i].thread, NULL, publish_once, &rivals[i]), 0);
    }
    service_lock_wait(lock, RIVALS);
    service_lock_release(lock);
    for (int i = 0; i < RIVALS; i++) {
        pthread_join(rivals[i].thread, NULL);
        succeeded += rivals[i].code == FORGE_OK;
        assert_true(rivals[i].code == FORGE_OK || rivals[i].code == FORGE_ABORTED);
    }
    assert_int_equal(succeeded, 1);
}

/* ---- what is in force together ---- */

/* A policy with rules of this kind as that tenant. */
static forge_code create_rules(struct service_tenant *tenant, const char *name, Forge__V1__PolicyRule *rule, size_t count, char out_id[37])
{
    static Forge__V1__PolicyRule rules[256], *list[256];
    static char names[256][24];
    Forge__V1__CreatePolicyRequest create = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    Forge__V1__Policy *policy;
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "r%zu", i);
        rules[i] = *rule;
        rules[i].name = names[i];
        rules[i].action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
        list[i] = &rules[i];
    }
    create.name = TEXT(name);
    create.n_rules = count;
    create.rules = list;
    forge_code rc = forge_policy_create(tenant->admin, NULL, &create, &policy, &service_error);
    if (rc != FORGE_OK)
        return rc;
    snprintf(out_id, 37, "%s", policy->id);
    forge__v1__policy__free_unpacked(policy, NULL);
    return rc;
}

/* The same, published. */
static forge_code publish_rules(struct service_tenant *tenant, const char *name, Forge__V1__PolicyRule *rule, size_t count, char out_id[37])
{
    Forge__V1__PublishPolicyRequest request = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
    Forge__V1__Policy *policy;
    service_ok(create_rules(tenant, name, rule, count, out_id));
    request.id = out_id;
    forge_code rc = forge_policy_publish(tenant->admin, NULL, &request, &policy, &service_error);
    if (rc == FORGE_OK)
        forge__v1__policy__free_unpacked(policy, NULL);
    return rc;
}

/* Few bytes of text that are many to compile. */
static void test_a_set_that_is_too_large_compiled_is_refused(void **state)
{
    (void)state;
    struct service_tenant tenant;
    char id[37];
    char *patterns[100];
    Forge__V1__PatternRule pattern = FORGE__V1__PATTERN_RULE__INIT;
    Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT;
    for (size_t i = 0; i < 100; i++)
        patterns[i] = TEXT("(?:(?<!ab)c?){0,500}");
    pattern.n_patterns = 60;
    pattern.patterns = patterns;
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND_PATTERN;
    rule.pattern = &pattern;
    service_tenant_make("compiled", &tenant);
    service_ok(publish_rules(&tenant, "most", &rule, 1, id));
    service_fails(publish_rules(&tenant, "over", &rule, 1, id), FORGE_RESOURCE_EXHAUSTED,
                  "of compiled patterns together, at most 67108864");
    pattern.n_patterns = 100;
    assert_int_equal(create_rules(&tenant, "draft", &rule, 40, id), FORGE_INVALID_ARGUMENT);
    assert_int_equal(service_error.violation_count, 1);
    assert_string_equal(service_error.violations->description, "the patterns up to this one take more than 83886080 bytes compiled");
    forge_error_free(&service_error);
    service_ok(service_call(tenant.admin, "PolicyService/CheckPolicies", NULL, "{'project_id': '%s', 'input': 'c'}", tenant.project_id));
}

static void test_a_set_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct service_tenant tenant;
    char full[37], over[37], more[37];
    char *patterns[100], *keywords[4];
    Forge__V1__PatternRule pattern = FORGE__V1__PATTERN_RULE__INIT;
    Forge__V1__KeywordRule keyword = FORGE__V1__KEYWORD_RULE__INIT;
    Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT, words = FORGE__V1__POLICY_RULE__INIT;
    for (size_t i = 0; i < 100; i++)
        patterns[i] = TEXT("a");
    pattern.n_patterns = 16;
    pattern.patterns = patterns;
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND_PATTERN;
    rule.pattern = &pattern;
    service_tenant_make("patterns", &tenant);
    service_ok(publish_rules(&tenant, "full", &rule, 256, full)); /* 4,096 patterns */
    pattern.n_patterns = 1;
    service_fails(publish_rules(&tenant, "over", &rule, 1, over), FORGE_RESOURCE_EXHAUSTED,
                  "policies in force would hold 4097 patterns together, at most 4096");
    keyword.n_keywords = 4;
    for (size_t i = 0; i < 4; i++)
        keywords[i] = service_repeat("k", 255);
    keyword.keywords = keywords;
    words.kind_case = FORGE__V1__POLICY_RULE__KIND_KEYWORD;
    words.keyword = &keyword;
    service_ok(publish_rules(&tenant, "keywords", &words, 1, more)); /* the others stay usable */
    /* What is disabled makes room; it cannot come back into that. Beta has a set of its own. */
    service_ok(service_call(tenant.admin, UPDATE, NULL, "{'id': '%s', 'disabled': true}", full));
    service_ok(service_call(tenant.admin, PUBLISH, NULL, "{'id': '%s'}", over));
    service_fails(service_call(tenant.admin, UPDATE, NULL, "{'id': '%s', 'update_mask': 'disabled'}", full), FORGE_RESOURCE_EXHAUSTED,
                  "4097 patterns");
    expect_row("t", "SELECT disabled FROM policies WHERE id = '%s'", full);
    service_ok(service_call(tenant.admin, "PolicyService/DeletePolicy", NULL, "{'id': '%s'}", over));
    service_ok(service_call(tenant.admin, UPDATE, NULL, "{'id': '%s', 'update_mask': 'disabled'}", full));
    service_ok(publish_rules(&beta, "of another organization", &rule, 1, more));
}

/* Each limit by the one rule that is too much. The policies are as PublishPolicy leaves them, without the calls that would take long. */
static void test_each_limit_of_what_is_in_force(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *said;
        int rules, policies;
    } cases[] = {
        {"{\"name\": \"r' || n || '\", \"pii\": {}}", "would hold 4097 rules together, at most 4096", 256, 16},
        {"{\"name\": \"r' || n || '\", \"pattern\": {\"patterns\": [\"' || repeat('p', 4096) || '\"]}}",
         "would hold 524289 bytes of patterns together, at most 524288", 128, 1},
        {"{\"name\": \"r' || n || '\", \"keyword\": {\"keywords\": [\"' || repeat('j', 255) || '\", \"' || repeat('k', 255) || '\", \"' || "
         "repeat('l', 255) || '\", \"kkk\", \"' || repeat('\u00e9', 128) || '\"]}}",
         "would hold 1048577 bytes of keywords together, at most 1048576", 128, 8},
        {"{\"name\": \"r' || n || '\", \"output_schema\": {\"schema\": \"{}' || repeat(' ', 65534) || '\"}}",
         "would hold 1048578 bytes of schemas together, at most 1048576", 16, 1},
        {"{\"name\": \"r' || n || '\", \"required_tags\": {\"tags\": [\"' || repeat('t', 4096) || '\"]}}",
         "bytes of rules together, at most "
         "8388608",
         230, 9},
    };
    static const char *const last_rules[] = {"'pii': {}", "'pattern': {'patterns': ['p']}", "'keyword': {'keywords': ['k']}",
                                             "'output_schema': {'schema': '{}'}", "'required_tags': {'tags': ['t']}"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct service_tenant tenant;
        char sql[4 * SQL_SIZE], name[32], id[37];
        snprintf(name, sizeof name, "limit-%zu", i);
        service_tenant_make(name, &tenant);
        snprintf(sql, sizeof sql,
                 "WITH p AS (INSERT INTO policies (organization_id, id, name, draft_hash, published_version, created_by)"
                 " SELECT '%s', gen_random_uuid(), 'p' || i, '', 1, gen_random_uuid() FROM generate_series(1, %d) i RETURNING id)"
                 " INSERT INTO policy_versions (organization_id, policy_id, version, mode, rules, content_hash, published_by)"
                 " SELECT '%s', p.id, 1, 'enforce', (SELECT jsonb_agg(('%s')::jsonb || '{\"action\": 1}') FROM generate_series(1, %d) n), "
                 "sha256(''), p.id FROM p",
                 tenant.organization_id, cases[i].policies, tenant.organization_id, cases[i].rule, cases[i].rules);
        service_execute(sql);
        service_ok(
            service_call(tenant.admin, CREATE, NULL, "{'name': 'one more', 'rules': [{'name': 'r', 'action': 1, %s}]}", last_rules[i]));
        service_reply_text("id", id, sizeof id);
        service_fails(service_call(tenant.admin, PUBLISH, NULL, "{'id': '%s'}", id), FORGE_RESOURCE_EXHAUSTED, cases[i].said);
        expect_row("0 1", "SELECT published_version || ' ' || row_version FROM policies WHERE id = '%s'", id);
        service_execute("DELETE FROM policies WHERE name = 'p1'");
        service_ok(service_call(tenant.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_published_never_changes),   cmocka_unit_test(test_a_draft_that_is_in_force_makes_no_version),
        cmocka_unit_test(test_what_cannot_be_published),           cmocka_unit_test(test_a_repeat_publishes_once),
        cmocka_unit_test(test_sixteen_publishers_leave_no_gap),    cmocka_unit_test(test_an_etag_is_good_for_one_publisher),
        cmocka_unit_test(test_a_set_that_is_too_large_is_refused), cmocka_unit_test(test_a_set_that_is_too_large_compiled_is_refused),
        cmocka_unit_test(test_each_limit_of_what_is_in_force),
    };
    return cmocka_run_group_tests_name("service_policy_publish", tests, start, service_end);
}
