/* PolicyService over TLS: policies, their drafts and where they are attached; publishing is in service_policy_publish_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE "PolicyService/CreatePolicy"
#define GET "PolicyService/GetPolicy"
#define LIST "PolicyService/ListPolicies"
#define UPDATE "PolicyService/UpdatePolicy"
#define DELETE "PolicyService/DeletePolicy"
#define PUBLISH "PolicyService/PublishPolicy"
#define FLAG_A "{'name': 'a', 'action': 'POLICY_ACTION_FLAG', 'pattern': {'patterns': ['a+']}}"

enum { SQL_SIZE = 512 };

static struct service_tenant alpha, beta;
static char model_id[37], foreign_model_id[37], other_project_id[37];
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static void model_make(struct forge_channel *channel, char out_id[37])
{
    char provider_id[37];
    service_ok(service_call(channel, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Acme'}"));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(service_call(channel, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'acme-1'}", provider_id));
    service_reply_text("id", out_id, 37);
}

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    model_make(alpha.admin, model_id);
    model_make(beta.admin, foreign_model_id);
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'other'}"));
    service_reply_text("id", other_project_id, sizeof other_project_id);
    return 0;
}

/* As alpha: of this project ("" = the organization), members of the request besides project and name. */
static forge_code create(const char *project_id, const char *name, const char *more)
{
    return service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': '%s'%s}", project_id, name, more);
}

static void make(const char *project_id, const char *name, const char *more, char out_id[37])
{
    service_ok(create(project_id, name, more));
    service_reply_text("id", out_id, 37);
}

static long long count_of(const char *sql)
{
    return strtoll(service_query(sql), NULL, 10);
}

/* ---- CreatePolicy, GetPolicy ---- */

static void test_a_policy_is_made_and_found(void **state)
{
    (void)state;
    char id[37], shown_project[64], sql[SQL_SIZE];
    service_ok(create(alpha.project_id, "every field",
                      ", 'description': 'why', 'mode': 'POLICY_MODE_DRY_RUN', 'attachments': [{'label': 'production'}],"
                      " 'rules': [{'name': 'keys', 'description': 'no keys', 'action': 'POLICY_ACTION_MASK', 'severity': 'SEVERITY_HIGH',"
                      " 'stages': ['POLICY_STAGE_OUTPUT', 'POLICY_STAGE_INPUT'], 'secret': {'entropy_bits_min': 3.5}},"
                      " {'name': 'rate', 'action': 'POLICY_ACTION_BLOCK', 'rate_limit': {'calls_max': '9007199254740993'}}]"));
    service_reply_text("id", id, sizeof id);
    snprintf(shown_project, sizeof shown_project, "'project_id':'%s'", alpha.project_id);
    for (int i = 0; i < 2; i++) {
        service_shows(id, shown_project, "'name':'every field','description':'why','attachments':[{'label':'production'}]",
                      "'draft':{'mode':'POLICY_MODE_DRY_RUN','rules':[{'name':'keys','description':'no keys','action':'POLICY_ACTION_MASK',"
                      "'severity':'SEVERITY_HIGH','stages':['POLICY_STAGE_OUTPUT','POLICY_STAGE_INPUT'],'secret':{'entropy_bits_min':3.5}},"
                      "{'name':'rate','action':'POLICY_ACTION_BLOCK','severity':'SEVERITY_MEDIUM',"
                      "'rate_limit':{'key':'RATE_LIMIT_KEY_PROJECT','window_s':'60','calls_max':'9007199254740993'}}]",
                      "'content_hash':'", "'draft_changed':true", "'creator_id':'", "'create_time'", "'etag':'1'");
        assert_null(strstr(service_reply(), "published"));
        assert_null(strstr(service_reply(), "update_time"));
        service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    }
    snprintf(sql, sizeof sql, "SELECT action || ' ' || (details->'draft' ? 'rules')::text FROM audit_log WHERE target_id = '%s'", id);
    assert_string_equal(service_query(sql), "policy.create false");
    snprintf(sql, sizeof sql, "SELECT kind || ' ' || (parent_id = '%s') FROM changes WHERE object_id = '%s'", alpha.project_id, id);
    assert_string_equal(service_query(sql), "policy true");
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", nobody_has), FORGE_NOT_FOUND, "policy 01890000");
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s', 'version': 1}", id), FORGE_NOT_FOUND, "no version 1");
    service_violates(service_call(alpha.admin, GET, NULL, "{'id': 'x', 'version': -1}"), "id", "must be a UUID", "version", "0 or more");
}

/* Every target there is; ids in capital letters are the same ids. */
static void test_a_policy_of_the_organization_may_be_attached_to_anything(void **state)
{
    (void)state;
    char more[1024], capital[37], expected[1024];
    for (size_t i = 0; i < sizeof capital; i++)
        capital[i] = (char)(model_id[i] >= 'a' && model_id[i] <= 'f' ? model_id[i] - 'a' + 'A' : model_id[i]);
    snprintf(
        more, sizeof more,
        ", 'attachments': [{'organization': true}, {'model_id': '%s'}, {'label': 'not-yet'}, {'project_id': '%s'}, {'project_id': '%s'}]"
        ", 'rules': [{'name': 'models', 'action': 'POLICY_ACTION_BLOCK', 'allowed_models': {'model_ids': ['%s', '%s']}}]",
        capital, other_project_id, alpha.project_id, capital, nobody_has);
    service_ok(create("", "of the organization", more));
    snprintf(expected, sizeof expected,
             "'attachments':[{'organization':true},{'model_id':'%s'},{'label':'not-yet'},{'project_id':'%s'},{'project_id':'%s'}]",
             model_id, other_project_id, alpha.project_id);
    char models[256];
    snprintf(models, sizeof models, "'allowed_models':{'model_ids':['%s','%s']}", model_id, nobody_has);
    assert_null(strstr(service_reply(), "\"project_id\":\"\","));
    service_shows("'name':'of the organization'", expected, models);
}

static void test_targets_must_exist(void **state)
{
    (void)state;
    char more[256], gone[37], policy_id[37], sql[SQL_SIZE];
    snprintf(more, sizeof more, ", 'attachments': [{'label': 'x'}, {'project_id': '%s'}]", nobody_has);
    service_fails(create("", "nowhere", more), FORGE_NOT_FOUND, "attachments[1].project_id: project 01890000");
    snprintf(more, sizeof more, ", 'attachments': [{'project_id': '%s'}]", beta.project_id);
    service_fails(create("", "nowhere", more), FORGE_NOT_FOUND, "attachments[0].project_id: project");
    snprintf(more, sizeof more, ", 'attachments': [{'model_id': '%s'}]", foreign_model_id);
    service_fails(create(alpha.project_id, "nowhere", more), FORGE_NOT_FOUND, "attachments[0].model_id: model");
    service_fails(create(nobody_has, "nowhere", ""), FORGE_NOT_FOUND, "project 01890000");
    service_fails(create(beta.project_id, "nowhere", ""), FORGE_NOT_FOUND, "project");
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'gone'}"));
    service_reply_text("id", gone, sizeof gone);
    char in_gone[37];
    make(gone, "in what is deleted", "", in_gone);
    snprintf(more, sizeof more, ", 'attachments': [{'project_id': '%s'}]", gone);
    make("", "attached to what is deleted", more, policy_id);
    service_ok(service_call(alpha.admin, "ProjectService/DeleteProject", NULL, "{'id': '%s', 'confirm_name': 'gone'}", gone));
    service_fails(create("", "nowhere", more), FORGE_NOT_FOUND, "attachments[0].project_id: project");
    service_fails(create(gone, "nowhere", ""), FORGE_NOT_FOUND, "project");
    service_fails(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s'}", gone), FORGE_NOT_FOUND, "project");
    static const char *const methods[] = {GET, PUBLISH, DELETE};
    for (size_t i = 0; i < 3; i++)
        service_fails(service_call(alpha.admin, methods[i], NULL, "{'id': '%s'}", in_gone), FORGE_NOT_FOUND, "policy");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", in_gone), FORGE_NOT_FOUND, "policy");
    /* Without its attachment the policy would be in force everywhere. */
    snprintf(sql, sizeof sql, "DELETE FROM projects WHERE id = '%s'", gone);
    service_execute(sql);
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", policy_id));
    service_shows("'attachments':[{'project_id'", gone);
    assert_int_equal(count_of("SELECT count(*) FROM policies WHERE name = 'nowhere'"), 0);
}

static void test_a_deleted_model_leaves_its_attachment(void **state)
{
    (void)state;
    char provider_id[37], gone[37], more[128], policy_id[37];
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Short-lived'}"));
    service_reply_text("id", provider_id, sizeof provider_id);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'm'}", provider_id));
    service_reply_text("id", gone, sizeof gone);
    snprintf(more, sizeof more, ", 'attachments': [{'model_id': '%s'}]", gone);
    make("", "attached to a model", more, policy_id);
    service_ok(service_call(alpha.admin, "OrganizationService/DeleteAiModel", NULL, "{'id': '%s'}", gone));
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", policy_id));
    service_shows("'attachments':[{'model_id'", gone);
}

/* ---- what is refused ---- */

static void test_wrong_fields_are_named(void **state)
{
    (void)state;
    service_violates(create("x", "", ""), "project_id", "must be a UUID", "name", "1 to 255");
    service_violates(service_call(alpha.admin, CREATE, NULL, "{'name': 'x', 'description': '%s'}", service_repeat("d", 4097)),
                     "description", "4096");
    service_violates(create("", "x",
                            ", 'rules': [" FLAG_A ", " FLAG_A ", {'name': 'c', 'action': 'POLICY_ACTION_MASK', 'token_limit': {}},"
                            " {'name': 'd', 'action': 1}]"),
                     "rules[1].name", "is the name of rules[0] too", "rules[2].action", "mask is for", "rules[2].token_limit",
                     "needs a limit", "rules[3]", "needs a kind");
    service_violates(create("", "x",
                            ", 'rules': [{'name': 'a', 'action': 1, 'pattern': {'patterns': ['ok', 'a(b']}},"
                            " {'name': 'b', 'action': 1, 'output_schema': {'schema': '[]'}}]"),
                     "rules[0].pattern.patterns[1]", "parenthesis", "rules[1].output_schema.schema", "");
    service_violates(create("", "x", ", 'rules': [{'name': 'a', 'action': 3, 'allowed_models': {'model_ids': ['gpt-4', '']}}]"),
                     "rules[0].allowed_models.model_ids[1]", "must not be empty", "rules[0].allowed_models.model_ids[0]", "must be a UUID");
    assert_int_equal(count_of("SELECT count(*) FROM policies WHERE name = 'x'"), 0);
}

static void test_wrong_attachments_are_named(void **state)
{
    (void)state;
    char more[512];
    service_violates(create("", "x",
                            ", 'attachments': [{}, {'organization': false}, {'project_id': 'p'}, {'label': 'Big'}, {'model_id': ''},"
                            " {'label': 'current'}, {'label': 'a'}, {'label': 'a'}]"),
                     "attachments[0]", "exactly one", "attachments[1].organization", "must be true", "attachments[2].project_id", "UUID",
                     "attachments[3].label", "a-z", "attachments[4].model_id", "is required", "attachments[5].label", "reserved",
                     "attachments[7]", "is given twice");
    snprintf(more, sizeof more, ", 'attachments': [{'organization': true}, {'project_id': '%s'}, {'project_id': '%s'}, {'label': 'l'}]",
             other_project_id, alpha.project_id);
    service_violates(create(alpha.project_id, "x", more), "attachments[0].organization", "belongs to a project",
                     "attachments[1].project_id", "must be the project");
    char *many = service_repeat("{'label': 'l'},", 257);
    many[strlen(many) - 1] = '\0';
    service_violates(service_call(alpha.admin, CREATE, NULL, "{'name': 'x', 'attachments': [%s]}", many), "attachments", "at most 256");
    assert_int_equal(count_of("SELECT count(*) FROM policies WHERE name = 'x'"), 0);
}

/* A policy with so many of these rules, which differ by name. */
static forge_code create_of(struct forge_channel *channel, const char *name, const Forge__V1__PolicyRule *rule, size_t count)
{
    enum { RULES = 300 };
    static Forge__V1__PolicyRule rules[RULES], *list[RULES];
    static char names[RULES][24];
    Forge__V1__CreatePolicyRequest request = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    Forge__V1__Policy *policy;
    assert_true(count <= RULES);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "r%zu", i);
        rules[i] = *rule;
        rules[i].name = names[i];
        list[i] = &rules[i];
    }
    request.name = TEXT(name);
    request.n_rules = count;
    request.rules = list;
    forge_code rc = forge_policy_create(channel, NULL, &request, &policy, &service_error);
    if (rc == FORGE_OK)
        forge__v1__policy__free_unpacked(policy, NULL);
    return rc;
}

/* A rule for one tag of so many letters. */
static Forge__V1__PolicyRule tag_rule(size_t size)
{
    static char *tags[1];
    static Forge__V1__RequiredTagsRule required_tags;
    Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT;
    tags[0] = service_repeat("t", size);
    forge__v1__required_tags_rule__init(&required_tags);
    required_tags.n_tags = 1;
    required_tags.tags = tags;
    rule.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND_REQUIRED_TAGS;
    rule.required_tags = &required_tags;
    return rule;
}

/* Rules; more patterns than a set may have; more bytes than a policy may have. */
static void test_a_draft_has_a_size(void **state)
{
    (void)state;
    Forge__V1__PolicyRule rule = tag_rule(1), patterns = FORGE__V1__POLICY_RULE__INIT;
    Forge__V1__PatternRule pattern = FORGE__V1__PATTERN_RULE__INIT;
    char *texts[100];
    for (size_t i = 0; i < 100; i++)
        texts[i] = TEXT("p");
    pattern.n_patterns = 100;
    pattern.patterns = texts;
    patterns.action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG;
    patterns.kind_case = FORGE__V1__POLICY_RULE__KIND_PATTERN;
    patterns.pattern = &pattern;
    service_violates(create_of(alpha.admin, "x", &rule, 257), "rules", "at most 256");
    service_violates(create_of(alpha.admin, "x", &patterns, 41), "rules", "hold 4100 patterns together, at most 4096");
    rule = tag_rule((512 << 10) - 10);
    service_violates(create_of(alpha.admin, "x", &rule, 2), "rules", "at most 1048576 bytes together");
    assert_int_equal(count_of("SELECT count(*) FROM policies WHERE name = 'x'"), 0);
    rule = tag_rule((512 << 10) - 30);
    service_ok(create_of(alpha.admin, "as large as can be", &rule, 2));
}

static void test_names_are_unique_in_their_place(void **state)
{
    (void)state;
    char id[37];
    make("", "taken", "", id);
    make(alpha.project_id, "taken", "", id);
    make(other_project_id, "taken", "", id);
    service_fails(create("", "taken", ""), FORGE_ALREADY_EXISTS, "a policy named \"taken\" exists already");
    service_fails(create(other_project_id, "taken", ""), FORGE_ALREADY_EXISTS, "a policy named \"taken\" exists already");
    make(other_project_id, "free", "", id);
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'taken'}", id), FORGE_ALREADY_EXISTS, "\"taken\"");
}

static void test_an_organization_has_a_thousand_policies(void **state)
{
    (void)state;
    struct service_tenant full;
    char sql[SQL_SIZE];
    service_tenant_make("full", &full);
    snprintf(sql, sizeof sql,
             "INSERT INTO policies (organization_id, id, project_id, name, draft_hash, created_by) SELECT '%s', gen_random_uuid(),"
             " CASE WHEN n %% 2 = 0 THEN '%s'::uuid END, 'p' || n, '', gen_random_uuid() FROM generate_series(1, 1000) n",
             full.organization_id, full.project_id);
    service_execute(sql);
    service_fails(service_call(full.admin, CREATE, NULL, "{'name': 'one too many'}"), FORGE_RESOURCE_EXHAUSTED, "at most 1000 policies");
    snprintf(sql, sizeof sql, "DELETE FROM policies WHERE organization_id = '%s' AND name = 'p1'", full.organization_id);
    service_execute(sql);
    service_ok(service_call(full.admin, CREATE, NULL, "{'name': 'the last one'}"));
}

/* ---- UpdatePolicy ---- */

static void test_an_update_changes_what_the_mask_names(void **state)
{
    (void)state;
    char id[37], hash[65], other[65], sql[SQL_SIZE];
    make(alpha.project_id, "before", ", 'description': 'd', 'rules': [" FLAG_A "], 'attachments': [{'label': 'one'}, {'label': 'two'}]",
         id);
    service_reply_text("content_hash", hash, sizeof hash);
    service_ok(
        service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'after', 'attachments': [{'label': 'three'}], 'etag': '1'}", id));
    service_shows(
        "'name':'after','description':'d','attachments':[{'label':'three'}],'draft':{'mode':'POLICY_MODE_ENFORCE','rules':[{'name':'a'",
        hash, "'update_time'", "'etag':'2'");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'mode': 'POLICY_MODE_DRY_RUN', 'disabled': true}", id));
    service_shows("'disabled':true", "'mode':'POLICY_MODE_DRY_RUN','rules':[{'name':'a'", "'etag':'3'");
    service_reply_text("content_hash", other, sizeof other);
    assert_string_not_equal(other, hash);
    service_ok(service_call(alpha.admin, UPDATE, NULL,
                            "{'id': '%s', 'description': '', 'mode': 0, 'update_mask': 'description,disabled,mode,attachments'}", id));
    service_shows("'name':'after','draft':{'mode':'POLICY_MODE_ENFORCE','rules':[{'name':'a'", hash, "'etag':'4'");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'update_mask': 'rules'}", id));
    service_shows("'draft':{'mode':'POLICY_MODE_ENFORCE','content_hash'", "'etag':'5'");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'rules': [" FLAG_A "]}", id));
    service_shows("'rules':[{'name':'a','action':'POLICY_ACTION_FLAG','severity':'SEVERITY_MEDIUM','pattern':{'patterns':['a+']}}]", hash);
    snprintf(sql, sizeof sql,
             "SELECT count(*) || ' ' || max(details->'old'->>'name') || ' ' || max(details->'new'->>'name') FROM audit_log"
             " WHERE target_id = '%s' AND action = 'policy.update' AND details->'old'->>'etag' = '1'",
             id);
    assert_string_equal(service_query(sql), "1 before after");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE object_id = '%s' AND kind = 'policy'", id);
    assert_string_equal(service_query(sql), "6");
}

static void test_a_refused_update_changes_nothing(void **state)
{
    (void)state;
    char id[37], before[4096];
    make(alpha.project_id, "stays", ", 'rules': [" FLAG_A "], 'attachments': [{'label': 'one'}]", id);
    snprintf(before, sizeof before, "%s", service_reply());
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x', 'etag': '2'}", id), FORGE_ABORTED, "has changed");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", nobody_has), FORGE_NOT_FOUND, "policy");
    service_fails(
        service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'attachments': [{'label': 'two'}, {'model_id': '%s'}]}", id, nobody_has),
        FORGE_NOT_FOUND, "attachments[1].model_id: model 01890000");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'attachments': [{'project_id': '%s'}]}", id, other_project_id),
                     "attachments[0].project_id", "must be the project");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'attachments': [{'organization': true}]}", id),
                     "attachments[0].organization", "belongs to a project");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': 'x', 'etag': '%s'}", service_repeat("e", 65)), "id", "UUID",
                     "update_mask", "", "etag", "64");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'update_mask': 'project_id'}", id), "update_mask", "project_id");
    service_violates(
        service_call(alpha.admin, UPDATE, NULL,
                     "{'id': '%s', 'rules': [{'name': 'r', 'action': 1}], 'attachments': [{}], 'update_mask': 'name,rules,attachments'}",
                     id),
        "name", "1 to 255", "attachments[0]", "exactly one", "rules[0]", "needs a kind");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    assert_string_equal(service_reply(), before);
}

/* ---- DeletePolicy ---- */

static void test_a_deleted_policy_takes_all_but_its_violations(void **state)
{
    (void)state;
    char id[37], sql[2 * SQL_SIZE];
    make(alpha.project_id, "deleted", ", 'rules': [" FLAG_A "], 'attachments': [{'label': 'one'}]", id);
    service_ok(service_call(alpha.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    snprintf(
        sql, sizeof sql,
        "INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity,"
        " mode, stage, message, actor_id, finding_hash) VALUES ('%s', gen_random_uuid(), '%s', '%s', 1, 'deleted', 'a', 'flag', 2,"
        " 'enforce', 'input', 'Found.', gen_random_uuid(), sha256('deleted'))",
        alpha.organization_id, alpha.project_id, id);
    service_execute(sql);
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s', 'etag': '1'}", id), FORGE_ABORTED, "has changed");
    service_violates(service_call(alpha.admin, DELETE, NULL, "{'id': '', 'etag': '%s'}", service_repeat("e", 65)), "id", "is required",
                     "etag", "64");
    service_ok(service_call(alpha.admin, DELETE, NULL, "{'id': '%s', 'etag': '2'}", id));
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "policy");
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "policy");
    snprintf(sql, sizeof sql,
             "SELECT (SELECT count(*) FROM policy_versions WHERE policy_id = '%s') || ' ' ||"
             " (SELECT count(*) FROM policy_attachments WHERE policy_id = '%s') || ' ' ||"
             " (SELECT count(*) FROM policy_violations WHERE policy_id = '%s') || ' ' ||"
             " (SELECT max(details->>'name') FROM audit_log WHERE target_id = '%s' AND action = 'policy.delete') || ' ' ||"
             " (SELECT count(*) FROM changes WHERE object_id = '%s' AND kind = 'policy')",
             id, id, id, id, id);
    assert_string_equal(service_query(sql), "0 0 1 deleted 3");
}

/* ---- ListPolicies ---- */

static void test_lists_are_by_name_and_by_place(void **state)
{
    (void)state;
    struct service_tenant tenant;
    char second[37], id[37], token[512];
    service_tenant_make("lists", &tenant);
    service_ok(service_call(tenant.admin, "ProjectService/CreateProject", NULL, "{'name': 'second'}"));
    service_reply_text("id", second, sizeof second);
    service_ok(service_call(tenant.admin, LIST, NULL, "{}"));
    assert_string_equal(service_reply(), "{}");
    const struct {
        const char *name, *project_id, *more;
        bool is_published;
    } policies[] = {{"b anywhere", "", "", true},
                    {"a draft", "", "", false},
                    {"c first", tenant.project_id, "", true},
                    {"d second", second, "", false},
                    {"e label", "", ", 'attachments': [{'label': 'l'}]", true},
                    {"f other", "", ", 'attachments': [{'project_id': 'SECOND'}]", true},
                    {"g whole", "", ", 'attachments': [{'project_id': 'SECOND'}, {'organization': true}]", true}};
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        char more[256];
        snprintf(more, sizeof more, "%s", policies[i].more);
        for (char *at; (at = strstr(more, "SECOND")) != NULL;) {
            char rest[256];
            snprintf(rest, sizeof rest, "%s", at + strlen("SECOND"));
            snprintf(at, sizeof more - (size_t)(at - more), "%s%s", second, rest);
        }
        service_ok(service_call(tenant.admin, CREATE, NULL, "{'project_id': '%s', 'name': '%s', 'rules': [" FLAG_A "]%s}",
                                policies[i].project_id, policies[i].name, more));
        service_reply_text("id", id, sizeof id);
        if (policies[i].is_published)
            service_ok(service_call(tenant.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    }
    service_ok(service_call(tenant.admin, LIST, NULL, "{'view': 'POLICY_VIEW_FULL'}"));
    service_shows("a draft", "'rules':[", "b anywhere", "'rules':[", "'published':{'version':1", "'rules':[", "c first", "d second",
                  "e label", "'attachments':[{'label':'l'}]", "f other", "g whole");
    service_ok(service_call(tenant.admin, LIST, NULL, "{'project_id': '%s'}", tenant.project_id));
    service_shows("'policies':[{'id'", "c first", "'draft':{'mode':'POLICY_MODE_ENFORCE','content_hash'", "'published':{'version':1",
                  "'published_version':1");
    assert_null(strstr(service_reply(), "\"rules\""));
    assert_null(strstr(service_reply(), "anywhere"));
    service_ok(service_call(tenant.admin, LIST, NULL, "{'project_id': '%s', 'include_organization': true}", tenant.project_id));
    service_shows("b anywhere", "c first", "e label", "g whole");
    assert_null(strstr(service_reply(), "a draft"));
    assert_null(strstr(service_reply(), "f other"));
    service_ok(service_call(tenant.admin, LIST, NULL, "{'project_id': '%s', 'include_organization': true, 'name_prefix': 'f'}", second));
    service_shows("'policies':[{'id'", "f other");
    service_ok(service_call(tenant.admin, LIST, NULL, "{'page_size': 4}"));
    service_shows("a draft", "b anywhere", "c first", "d second", "'next_page_token'");
    service_reply_text("next_page_token", token, sizeof token);
    service_violates(service_call(tenant.admin, LIST, NULL, "{'page_size': 4, 'page_token': '%s', 'name_prefix': 'x'}", token),
                     "page_token", "another query");
    service_ok(service_call(tenant.admin, LIST, NULL, "{'page_size': 4, 'page_token': '%s'}", token));
    service_shows("'policies':[{'id'", "e label", "f other", "g whole");
    assert_null(strstr(service_reply(), "next_page_token"));
    service_violates(service_call(tenant.admin, LIST, NULL, "{'include_organization': true, 'page_size': -1, 'name_prefix': '\\n'}"),
                     "include_organization", "needs project_id", "name_prefix", "", "page_size", "");
    service_fails(service_call(tenant.admin, LIST, NULL, "{'project_id': '%s'}", nobody_has), FORGE_NOT_FOUND, "project 01890000");
    struct forge_channel *bound = service_key_channel(&tenant, FORGE__V1__SCOPE__SCOPE_READ, tenant.project_id);
    service_ok(service_call(bound, LIST, NULL, "{}"));
    service_shows("a draft", "b anywhere", "c first", "e label", "f other", "g whole");
    assert_null(strstr(service_reply(), "d second"));
    service_fails(service_call(bound, LIST, NULL, "{'project_id': '%s'}", second), FORGE_PERMISSION_DENIED, "another project");
}

/* Pages are cut where replies would become too large, and one policy always fits. */
static void test_full_pages_are_cut_by_size(void **state)
{
    (void)state;
    struct service_tenant tenant;
    char token[512] = "", id[37];
    int found = 0, pages = 0;
    const Forge__V1__PolicyRule rule = tag_rule((1 << 20) - 100);
    service_tenant_make("large", &tenant);
    for (int i = 0; i < 3; i++) {
        char name[24], sql[SQL_SIZE];
        snprintf(name, sizeof name, "large %d", i);
        service_ok(create_of(tenant.admin, name, &rule, 1));
        snprintf(sql, sizeof sql, "SELECT id FROM policies WHERE name = '%s'", name);
        snprintf(id, sizeof id, "%s", service_query(sql));
        service_ok(service_call(tenant.admin, PUBLISH, NULL, "{'id': '%s'}", id));
    }
    do {
        service_ok(service_call(tenant.admin, LIST, NULL, "{'view': 'POLICY_VIEW_FULL', 'page_token': '%s'}", token));
        for (const char *at = service_reply(); (at = strstr(at, "\"name\":\"large")) != NULL; at++)
            found++;
        service_reply_text("next_page_token", token, sizeof token);
        pages++;
    } while (token[0] != '\0');
    assert_int_equal(found, 3);
    assert_int_equal(pages, 3);
    service_ok(service_call(tenant.admin, LIST, NULL, "{}"));
    service_shows("large 0", "large 1", "large 2");
}

/* ---- who may ---- */

static void test_others_see_and_change_nothing(void **state)
{
    (void)state;
    char id[37], of_organization[37];
    make(alpha.project_id, "private", ", 'rules': [" FLAG_A "]", id);
    make("", "private", ", 'rules': [" FLAG_A "]", of_organization);
    static const char *const methods[] = {GET, PUBLISH, DELETE};
    struct forge_channel *viewer = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL);
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, other_project_id);
    for (size_t i = 0; i < 3; i++) {
        service_fails(service_call(beta.admin, methods[i], NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "policy");
        service_fails(service_call(bound, methods[i], NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "policy");
        if (i > 0) {
            service_fails(service_call(viewer, methods[i], NULL, "{'id': '%s'}", id), FORGE_PERMISSION_DENIED, "");
            service_fails(service_call(bound, methods[i], NULL, "{'id': '%s'}", of_organization), FORGE_PERMISSION_DENIED,
                          "bound to one project");
        }
    }
    service_fails(service_call(beta.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_NOT_FOUND, "policy");
    service_fails(service_call(bound, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_NOT_FOUND, "policy");
    service_fails(service_call(bound, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", of_organization), FORGE_PERMISSION_DENIED, "bound to one");
    service_fails(service_call(viewer, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_PERMISSION_DENIED, "");
    service_fails(service_call(viewer, CREATE, NULL, "{'name': 'x'}"), FORGE_PERMISSION_DENIED, "");
    service_fails(service_call(bound, CREATE, NULL, "{'name': 'x'}"), FORGE_PERMISSION_DENIED, "bound to one project");
    service_fails(service_call(bound, CREATE, NULL, "{'project_id': '%s', 'name': 'x'}", alpha.project_id), FORGE_PERMISSION_DENIED,
                  "another project");
    service_ok(service_call(viewer, GET, NULL, "{'id': '%s'}", id));
    service_ok(service_call(bound, GET, NULL, "{'id': '%s'}", of_organization));
    service_ok(service_call(bound, CREATE, NULL, "{'project_id': '%s', 'name': 'of the key'}", other_project_id));
    service_ok(service_call(beta.admin, LIST, NULL, "{}"));
    assert_string_equal(service_reply(), "{}");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    service_shows("'name':'private'", "'etag':'1'");
}

static void test_a_repeat_gets_the_stored_reply(void **state)
{
    (void)state;
    char id[37], request_id[37], first[4096], sql[SQL_SIZE];
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, CREATE, request_id, "{'name': 'repeated', 'attachments': [{'label': 'l'}]}"));
        assert_true(service_reply_is_stored() == (i == 1));
        if (i == 0)
            snprintf(first, sizeof first, "%s", service_reply());
        assert_string_equal(service_reply(), first);
    }
    service_reply_text("id", id, sizeof id);
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, UPDATE, request_id, "{'id': '%s', 'description': 'new', 'etag': '1'}", id));
        assert_true(service_reply_is_stored() == (i == 1));
        service_shows("'description':'new'", "'etag':'2'");
    }
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, DELETE, request_id, "{'id': '%s', 'etag': '2'}", id));
        assert_true(service_reply_is_stored() == (i == 1));
    }
    snprintf(sql, sizeof sql, "SELECT count(*) FROM audit_log WHERE target_id = '%s'", id);
    assert_string_equal(service_query(sql), "3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_policy_is_made_and_found),
        cmocka_unit_test(test_a_policy_of_the_organization_may_be_attached_to_anything),
        cmocka_unit_test(test_targets_must_exist),
        cmocka_unit_test(test_a_deleted_model_leaves_its_attachment),
        cmocka_unit_test(test_wrong_fields_are_named),
        cmocka_unit_test(test_wrong_attachments_are_named),
        cmocka_unit_test(test_a_draft_has_a_size),
        cmocka_unit_test(test_names_are_unique_in_their_place),
        cmocka_unit_test(test_an_organization_has_a_thousand_policies),
        cmocka_unit_test(test_an_update_changes_what_the_mask_names),
        cmocka_unit_test(test_a_refused_update_changes_nothing),
        cmocka_unit_test(test_a_deleted_policy_takes_all_but_its_violations),
        cmocka_unit_test(test_lists_are_by_name_and_by_place),
        cmocka_unit_test(test_full_pages_are_cut_by_size),
        cmocka_unit_test(test_others_see_and_change_nothing),
        cmocka_unit_test(test_a_repeat_gets_the_stored_reply),
    };
    return cmocka_run_group_tests_name("service_policy", tests, start, service_end);
}
