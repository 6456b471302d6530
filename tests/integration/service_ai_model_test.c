/* OrganizationService over TLS: models, their names, and the versions of prompts that use them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

#define CREATE_PROVIDER "OrganizationService/CreateModelProvider"
#define CREATE "OrganizationService/CreateAiModel"
#define GET "OrganizationService/GetAiModel"
#define LIST "OrganizationService/ListAiModels"
#define UPDATE "OrganizationService/UpdateAiModel"
#define DELETE "OrganizationService/DeleteAiModel"

enum { ALIASES = 65 };

static struct service_tenant alpha, beta;
static char openai[37], anthropic[37], foreign[37]; /* providers, the last one of beta */
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    service_ok(service_call(alpha.admin, CREATE_PROVIDER, NULL, "{'name': 'OpenAI'}"));
    service_reply_text("id", openai, sizeof openai);
    service_ok(service_call(alpha.admin, CREATE_PROVIDER, NULL, "{'name': 'Anthropic'}"));
    service_reply_text("id", anthropic, sizeof anthropic);
    service_ok(service_call(beta.admin, CREATE_PROVIDER, NULL, "{'name': 'OpenAI'}"));
    service_reply_text("id", foreign, sizeof foreign);
    return 0;
}

static void make(const char *name, const char *aliases, char out_id[37])
{
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': '%s', 'aliases': [%s]}", openai, name, aliases));
    service_reply_text("id", out_id, 37);
}

static const char *query(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *query(const char *format, ...)
{
    char sql[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    return service_query(sql);
}

/* Every name spans may report the model by. */
static void named(const char *id, const char *names)
{
    assert_string_equal(query("SELECT string_agg(name, ',' ORDER BY name) FROM ai_model_names WHERE model_id = '%s'", id), names);
}

static void test_a_model_is_made_under_all_its_names(void **state)
{
    (void)state;
    char id[37];
    service_ok(service_call(alpha.admin, CREATE, NULL,
                            "{'provider_id': '%s', 'name': 'gpt-4', 'display_name': 'GPT-4', 'aliases': ['gpt-4-0613', 'gpt-4-0314'],"
                            " 'description': 'chat', 'context_window_tokens': 8192, 'max_output_tokens': 4096}",
                            openai));
    service_reply_text("id", id, sizeof id);
    service_shows(openai, "'provider_name':'OpenAI','name':'gpt-4','display_name':'GPT-4','aliases':['gpt-4-0613','gpt-4-0314'],",
                  "'description':'chat','context_window_tokens':'8192','max_output_tokens':'4096','create_time'", "'etag':'1'}");
    named(id, "gpt-4,gpt-4-0314,gpt-4-0613");
    assert_string_equal(query("SELECT action || '|' || (details->>'name') FROM audit_log WHERE target_id = '%s'", id),
                        "ai_model.create|gpt-4");
    assert_string_equal(query("SELECT count(*) FROM changes WHERE kind = 'ai_model' AND object_id = '%s' AND parent_id = '%s'", id, openai),
                        "1");
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'plain'}", openai));
    service_shows("'name':'plain','display_name':'plain','create_time'");
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    char aliases[ALIASES * 8] = "";
    for (int i = 0; i < ALIASES; i++)
        snprintf(aliases + strlen(aliases), sizeof aliases - strlen(aliases), "%s'a%d'", i > 0 ? "," : "", i);
    service_violates(service_call(alpha.admin, CREATE, NULL,
                                  "{'display_name': '%s', 'description': '%s', 'context_window_tokens': -1, 'max_output_tokens': -1}",
                                  service_repeat("x", 256), service_repeat("x", 4097)),
                     "provider_id", "is required", "name", "1 to 255", "display_name", "255", "description", "4096",
                     "context_window_tokens", "0 or more", "max_output_tokens", "0 or more");
    service_violates(service_call(alpha.admin, CREATE, NULL, "{'provider_id': 'x', 'name': 'n', 'aliases': ['a', 'n', '', 'a', 'b']}"),
                     "provider_id", "must be a UUID", "aliases[1]", "is the name itself", "aliases[2]", "1 to 255", "aliases[3]",
                     "is given twice");
    service_violates(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'n', 'aliases': [%s]}", openai, aliases),
                     "aliases", "at most 64");
    service_violates(service_call(alpha.admin, GET, NULL, "{}"), "id", "is required");
    service_violates(
        service_call(alpha.admin, LIST, NULL, "{'page_size': -1, 'provider_id': 'x', 'name_prefix': '%s'}", service_repeat("x", 256)),
        "page_size", "", "provider_id", "must be a UUID", "name_prefix", "255");
    service_violates(service_call(alpha.admin, DELETE, NULL, "{'id': 'x', 'etag': '%s'}", service_repeat("x", 65)), "id", "must be a UUID",
                     "etag", "64");
}

static void test_a_name_means_one_model_of_its_provider(void **state)
{
    (void)state;
    char id[37];
    make("one", "'uno', 'eins'", id);
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'one'}", openai), FORGE_ALREADY_EXISTS,
                  "the provider has a model named or aliased \"one\" already");
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'uno'}", openai), FORGE_ALREADY_EXISTS, "\"uno\"");
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'new', 'aliases': ['newer', 'eins']}", openai),
                  FORGE_ALREADY_EXISTS, "\"eins\"");
    assert_string_equal(query("SELECT count(*) FROM ai_model_names WHERE name IN ('new', 'newer')"), "0");
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'one', 'aliases': ['uno']}", anthropic));
    service_ok(service_call(beta.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'one'}", foreign));
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'one'}", foreign), FORGE_NOT_FOUND, foreign);
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'one'}", nobody_has), FORGE_NOT_FOUND,
                  "provider 01890000-0000-7000-8000-000000000000 not found");
}

static void test_a_repeat_gets_the_first_reply(void **state)
{
    (void)state;
    char request_id[37], id[37], first[1024];
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, CREATE, request_id, "{'provider_id': '%s', 'name': 'repeated', 'aliases': ['r']}", openai));
        assert_int_equal(service_reply_is_stored(), i);
        if (i == 0)
            snprintf(first, sizeof first, "%s", service_reply());
        assert_string_equal(service_reply(), first);
    }
    service_reply_text("id", id, sizeof id);
    service_fails(service_call(alpha.admin, CREATE, request_id, "{'provider_id': '%s', 'name': 'repeated'}", openai),
                  FORGE_INVALID_ARGUMENT, "request_id");
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++)
        service_ok(service_call(alpha.admin, UPDATE, request_id, "{'id': '%s', 'deprecated': true, 'etag': '1'}", id));
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++)
        service_ok(service_call(alpha.admin, DELETE, request_id, "{'id': '%s', 'etag': '2'}", id));
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "not found");
}

/* Two models of one name at two providers stand beside each other; a page may end between them. */
static void test_models_are_listed_by_name_and_provider(void **state)
{
    (void)state;
    char ids[3][37], token[1024];
    struct forge_channel *viewer = service_user_make(&alpha, "viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    make("list b", "", ids[1]);
    make("list a", "", ids[0]);
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'provider_id': '%s', 'name': 'list b'}", anthropic));
    service_reply_text("id", ids[2], 37);
    service_ok(service_call(viewer, GET, NULL, "{'id': '%s'}", ids[2]));
    service_shows("'provider_name':'Anthropic','name':'list b'");
    service_ok(service_call(viewer, LIST, NULL, "{'name_prefix': 'list ', 'page_size': 2}"));
    service_shows(ids[0], ids[1], "next_page_token");
    service_reply_text("next_page_token", token, sizeof token);
    service_ok(service_call(viewer, LIST, NULL, "{'name_prefix': 'list ', 'page_size': 2, 'page_token': '%s'}", token));
    service_shows(ids[2]);
    assert_null(strstr(service_reply(), "next_page_token"));
    service_ok(service_call(viewer, LIST, NULL, "{'provider_id': '%s', 'name_prefix': 'list ', 'page_size': 1}", openai));
    service_shows(ids[0], "next_page_token");
    service_reply_text("next_page_token", token, sizeof token);
    service_ok(service_call(viewer, LIST, NULL, "{'provider_id': '%s', 'name_prefix': 'list ', 'page_size': 1, 'page_token': '%s'}", openai,
                            token));
    service_shows(ids[1]);
    assert_null(strstr(service_reply(), "next_page_token"));
    service_violates(service_call(viewer, LIST, NULL, "{'provider_id': '%s', 'page_token': '%s'}", anthropic, token), "page_token",
                     "belongs to another query");
    service_ok(service_call(viewer, LIST, NULL, "{'provider_id': '%s'}", nobody_has));
    assert_string_equal(service_reply(), "{}");
    service_ok(service_call(beta.admin, LIST, NULL, "{'provider_id': '%s'}", openai));
    assert_string_equal(service_reply(), "{}");
    service_fails(service_call(beta.admin, GET, NULL, "{'id': '%s'}", ids[0]), FORGE_NOT_FOUND, "not found");
}

static void test_an_update_changes_what_is_named(void **state)
{
    (void)state;
    char id[37], other[37];
    make("before", "'b1', 'b2'", id);
    make("occupied", "'o1'", other);
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'aliases': ['b2', 'b3'], 'deprecated': true, 'etag': '1'}", id));
    service_shows("'name':'before','display_name':'before','aliases':['b2','b3'],'deprecated':true", "'update_time'", "'etag':'2'");
    named(id, "b2,b3,before");
    service_ok(service_call(alpha.admin, UPDATE, NULL,
                            "{'id': '%s', 'name': 'after', 'display_name': 'After', 'context_window_tokens': 10, 'max_output_tokens': 5,"
                            " 'description': 'new'}",
                            id));
    named(id, "after,b2,b3");
    service_shows("'name':'after','display_name':'After','aliases':['b2','b3'],'description':'new','context_window_tokens':'10',"
                  "'max_output_tokens':'5','deprecated':true");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'b2', 'aliases': ['after'], 'update_mask': '*'}", id));
    service_shows("'name':'b2','display_name':'b2','aliases':['after'],'create_time'", "'etag':'4'");
    named(id, "after,b2");
    assert_string_equal(query("SELECT (details->'old'->>'name') || '|' || (details->'new'->>'name') || '|' || (details->'old'->>'aliases')"
                              " FROM audit_log WHERE target_id = '%s' ORDER BY sequence DESC LIMIT 1",
                              id),
                        "after|b2|[\"b2\", \"b3\"]");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'o1'}", id), FORGE_ALREADY_EXISTS, "\"o1\"");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'aliases': ['x', 'occupied']}", id), FORGE_ALREADY_EXISTS,
                  "\"occupied\"");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'after'}", id), "name", "is one of the aliases");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'aliases': ['b2']}", id), "aliases", "is one of the aliases");
    named(id, "after,b2");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'update_mask': 'aliases,deprecated'}", id));
    named(id, "b2");
    make("after", "", other); /* the name is free */
}

static void test_wrong_updates_are_named_and_change_nothing(void **state)
{
    (void)state;
    char id[37];
    make("steady", "", id);
    service_violates(
        service_call(alpha.admin, UPDATE, NULL,
                     "{'id': 'x', 'display_name': '%s', 'aliases': ['y', 'y'], 'description': '%s', 'context_window_tokens': -1,"
                     " 'max_output_tokens': -1, 'etag': '%s', 'update_mask':"
                     " 'name,display_name,aliases,provider_id,description,context_window_tokens,max_output_tokens'}",
                     service_repeat("x", 256), service_repeat("x", 4097), service_repeat("1", 65)),
        "id", "must be a UUID", "update_mask", "\"provider_id\" is not a field", "name", "1 to 255", "display_name", "255", "aliases[1]",
        "is given twice", "description", "4096", "context_window_tokens", "0 or more", "max_output_tokens", "0 or more", "etag", "64");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s'}", id), "update_mask", "names nothing");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x', 'etag': '7'}", id), FORGE_ABORTED,
                  "the model has changed since this etag was read");
    service_fails(service_call(beta.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_NOT_FOUND, "not found");
    service_fails(service_call(beta.admin, DELETE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "not found");
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s', 'etag': '2'}", id), FORGE_ABORTED, "etag");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", nobody_has), FORGE_NOT_FOUND, nobody_has);
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    service_shows("'name':'steady'", "'etag':'1'");
}

static void test_only_admins_of_the_whole_organization_change_models(void **state)
{
    (void)state;
    char id[37];
    make("guarded", "", id);
    struct forge_channel *refused[] = {service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL),
                                       service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id)};
    static const char *const why[] = {"admin", "bound to one project"};
    for (size_t i = 0; i < 2; i++) {
        service_fails(service_call(refused[i], CREATE, NULL, "{'provider_id': '%s', 'name': 'refused'}", openai), FORGE_PERMISSION_DENIED,
                      why[i]);
        service_fails(service_call(refused[i], UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_PERMISSION_DENIED, why[i]);
        service_fails(service_call(refused[i], DELETE, NULL, "{'id': '%s'}", id), FORGE_PERMISSION_DENIED, why[i]);
    }
    service_ok(service_call(refused[1], GET, NULL, "{'id': '%s'}", id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_is_made_under_all_its_names),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_a_name_means_one_model_of_its_provider),
        cmocka_unit_test(test_a_repeat_gets_the_first_reply),
        cmocka_unit_test(test_models_are_listed_by_name_and_provider),
        cmocka_unit_test(test_an_update_changes_what_is_named),
        cmocka_unit_test(test_wrong_updates_are_named_and_change_nothing),
        cmocka_unit_test(test_only_admins_of_the_whole_organization_change_models),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
