/* PromptService over TLS: the model a version is written for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CREATE "PromptService/CreatePrompt"
#define CREATE_VERSION "PromptService/CreatePromptVersion"
#define LIST "PromptService/ListPrompts"
#define CREATE_MODEL "OrganizationService/CreateAiModel"
#define UPDATE_MODEL "OrganizationService/UpdateAiModel"
#define DELETE_MODEL "OrganizationService/DeleteAiModel"
#define DELETE_PROVIDER "OrganizationService/DeleteModelProvider"

static struct service_tenant alpha, beta;
static char provider[37], gpt[37], claude[37], foreign[37]; /* models of alpha, and one of beta */
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static void model_make(const struct service_tenant *tenant, const char *provider_id, const char *name, char out_id[37])
{
    service_ok(service_call(tenant->admin, CREATE_MODEL, NULL, "{'provider_id': '%s', 'name': '%s'}", provider_id, name));
    service_reply_text("id", out_id, 37);
}

static int start(void **state)
{
    char foreign_provider[37];
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Provider'}"));
    service_reply_text("id", provider, sizeof provider);
    model_make(&alpha, provider, "gpt-4", gpt);
    model_make(&alpha, provider, "claude-3", claude);
    service_ok(service_call(beta.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Provider'}"));
    service_reply_text("id", foreign_provider, sizeof foreign_provider);
    model_make(&beta, foreign_provider, "gpt-4", foreign);
    return 0;
}

static void prompt_make(const char *name, const char *model_id, char out_id[37])
{
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': '%s', 'content': 'text', 'model_id': '%s'}",
                            alpha.project_id, name, model_id));
    service_reply_text("id", out_id, 37);
}

static void test_a_version_tells_its_model(void **state)
{
    (void)state;
    char id[37], shown[128];
    snprintf(shown, sizeof shown, "'model_id':'%s','model_name':'gpt-4'", gpt);
    prompt_make("told", gpt, id);
    service_shows(shown);
    service_ok(service_call(alpha.admin, "PromptService/GetPrompt", NULL, "{'id': '%s'}", id));
    service_shows(shown);
    service_ok(service_call(alpha.admin, "PromptService/GetPrompt", NULL, "{'project_id': '%s', 'name': 'told'}", alpha.project_id));
    service_shows(shown);
    service_ok(service_call(alpha.admin, "PromptService/BatchGetPrompts", NULL, "{'requests': [{'id': '%s'}]}", id));
    service_shows(shown);
    service_ok(service_call(alpha.admin, "PromptService/RenderPrompt", NULL, "{'prompt': {'id': '%s'}}", id));
    service_shows(shown);
    service_ok(service_call(alpha.admin, "PromptService/GetPromptVersion", NULL, "{'prompt_id': '%s', 'version': 1}", id));
    service_shows(shown);
    service_ok(service_call(alpha.admin, "PromptService/ListPromptVersions", NULL, "{'prompt_id': '%s'}", id));
    service_shows(shown);
    service_ok(service_call(alpha.admin, UPDATE_MODEL, NULL, "{'id': '%s', 'name': 'gpt-4o'}", gpt));
    service_ok(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'name_prefix': 'told'}", alpha.project_id));
    service_shows("'model_name':'gpt-4o'");
    service_ok(service_call(alpha.admin, UPDATE_MODEL, NULL, "{'id': '%s', 'name': 'gpt-4'}", gpt));
}

/* The model counts in content_hash, its spelling does not. */
static void test_another_model_is_another_version(void **state)
{
    (void)state;
    char id[37], upper[37];
    prompt_make("hashed", "", id);
    service_ok(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'text', 'model_id': '%s'}", id, gpt));
    service_shows("'version':2,", gpt);
    for (int i = 0; i < 37; i++)
        upper[i] = (char)toupper((unsigned char)gpt[i]);
    service_ok(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'text', 'model_id': '%s'}", id, upper));
    service_shows("'version':2,", gpt, "'existing':true");
    service_ok(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'text', 'model_id': '%s'}", id, claude));
    service_shows("'version':3,", "'model_name':'claude-3'");
    service_ok(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'text'}", id));
    service_shows("'version':1,", "'existing':true");
    service_ok(service_call(alpha.admin, "PromptService/DiffPromptVersions", NULL,
                            "{'prompt_id': '%s', 'base_version': 1, 'target_version': 2}", id));
    service_shows("'field':'model_id','change':'FIELD_CHANGE_ADDED'", gpt);
}

static void test_a_model_that_does_not_exist_is_refused(void **state)
{
    (void)state;
    char id[37];
    const char *const missing[] = {nobody_has, foreign};
    prompt_make("refused", "", id);
    for (size_t i = 0; i < 2; i++) {
        service_fails(service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': 'x', 'content': 'x', 'model_id': '%s'}",
                                   alpha.project_id, missing[i]),
                      FORGE_NOT_FOUND, missing[i]);
        service_fails(
            service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'x', 'model_id': '%s'}", id, missing[i]),
            FORGE_NOT_FOUND, missing[i]);
    }
    service_violates(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'x', 'model_id': 'gpt-4'}", id),
                     "model_id", "must be a UUID");
    service_violates(
        service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': 'x', 'content': 'x', 'model_id': 'gpt-4'}", alpha.project_id),
        "model_id", "must be a UUID");
    service_violates(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'model_id': 'gpt-4'}", alpha.project_id), "model_id",
                     "must be a UUID");
    service_fails(
        service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': 'x', 'content': 'x', 'model_id': '%s'}", nobody_has, gpt),
        FORGE_NOT_FOUND, "project");
}

/* What exists goes on: also an identical version is answered. */
static void test_a_deprecated_model_gets_no_new_versions(void **state)
{
    (void)state;
    char id[37], old[37];
    model_make(&alpha, provider, "old", old);
    prompt_make("deprecated", old, id);
    service_ok(service_call(alpha.admin, UPDATE_MODEL, NULL, "{'id': '%s', 'deprecated': true}", old));
    service_fails(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'new', 'model_id': '%s'}", id, old),
                  FORGE_FAILED_PRECONDITION, "is deprecated");
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': 'new', 'content': 'x', 'model_id': '%s'}",
                               alpha.project_id, old),
                  FORGE_FAILED_PRECONDITION, "is deprecated");
    service_ok(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'text', 'model_id': '%s'}", id, old));
    service_shows("'version':1,", "'existing':true");
    service_ok(service_call(alpha.admin, "PromptService/ListPromptVersions", NULL, "{'prompt_id': '%s'}", id));
    assert_null(strstr(service_reply(), "\"version\":2"));
}

static void test_a_model_in_use_cannot_be_deleted(void **state)
{
    (void)state;
    char id[37], used[37], provider_id[37];
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Used'}"));
    service_reply_text("id", provider_id, sizeof provider_id);
    model_make(&alpha, provider_id, "used", used);
    prompt_make("in use", used, id);
    forge_code rc = service_call(alpha.admin, DELETE_MODEL, NULL, "{'id': '%s'}", used);
    assert_string_equal(service_error.reason, "IN_USE");
    service_fails(rc, FORGE_FAILED_PRECONDITION, "a version of a prompt uses this model");
    rc = service_call(alpha.admin, DELETE_PROVIDER, NULL, "{'id': '%s'}", provider_id);
    assert_string_equal(service_error.reason, "IN_USE");
    service_fails(rc, FORGE_FAILED_PRECONDITION, "a version of a prompt uses this provider");
    service_ok(service_call(alpha.admin, "OrganizationService/GetAiModel", NULL, "{'id': '%s'}", used));
    service_ok(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", id));
    service_ok(service_call(alpha.admin, DELETE_PROVIDER, NULL, "{'id': '%s'}", provider_id));
    service_fails(service_call(alpha.admin, DELETE_MODEL, NULL, "{'id': '%s'}", used), FORGE_NOT_FOUND, "not found");
}

/* The names of all pages. */
static void listed(const char *filter, const char *expected)
{
    char token[1024] = "", found[256] = "", name[64];
    do {
        service_ok(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_size': 1, 'page_token': '%s'%s}", alpha.project_id,
                                token, filter));
        service_reply_text("name", name, sizeof name);
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", *found != '\0' ? "," : "", name);
        service_reply_text("next_page_token", token, sizeof token);
    } while (*token != '\0');
    assert_string_equal(found, expected);
}

static void test_prompts_are_listed_by_model(void **state)
{
    (void)state;
    char ids[4][37], filter[256], token[1024], model[37];
    model_make(&alpha, provider, "listed", model);
    prompt_make("l2", model, ids[1]);
    prompt_make("l1", model, ids[0]);
    prompt_make("l3", claude, ids[2]);
    prompt_make("l4", "", ids[3]);
    service_ok(service_call(alpha.admin, CREATE_VERSION, NULL, "{'prompt_id': '%s', 'content': 'text', 'model_id': '%s'}", ids[3], model));
    snprintf(filter, sizeof filter, ", 'model_id': '%s'", model);
    listed(filter, "l1,l2"); /* of l4 another version is current */
    service_ok(service_call(alpha.admin, "PromptService/SetCurrentVersion", NULL, "{'prompt_id': '%s', 'version': 2}", ids[3]));
    listed(filter, "l1,l2,l4");
    snprintf(filter, sizeof filter, ", 'model_id': '%s', 'name_prefix': 'l2'", model);
    listed(filter, "l2");
    service_ok(service_call(alpha.admin, "PromptService/CreateTag", NULL, "{'name': 'tagged'}"));
    service_ok(service_call(alpha.admin, "PromptService/TagPrompt", NULL, "{'prompt_id': '%s', 'tag': 'tagged'}", ids[1]));
    service_ok(service_call(alpha.admin, "PromptService/TagPrompt", NULL, "{'prompt_id': '%s', 'tag': 'tagged'}", ids[2]));
    snprintf(filter, sizeof filter, ", 'model_id': '%s', 'tags': ['tagged']", model);
    listed(filter, "l2");
    listed(", 'tags': ['tagged']", "l2,l3");
    snprintf(filter, sizeof filter, ", 'model_id': '%s'", nobody_has);
    listed(filter, "");
    service_ok(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_size': 1, 'model_id': '%s'}", alpha.project_id, model));
    service_reply_text("next_page_token", token, sizeof token);
    service_violates(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s', 'page_token': '%s'}", alpha.project_id, token),
                     "page_token", "belongs to another query");
}

struct deletion {
    char model_id[37];
    forge_code rc;
    struct forge_error error;
};

static void *delete_model(void *argument)
{
    struct deletion *deletion = argument;
    Forge__V1__DeleteAiModelRequest request = FORGE__V1__DELETE_AI_MODEL_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = deletion->model_id;
    deletion->rc = forge_organization_delete_ai_model(alpha.admin, NULL, &request, &empty, &deletion->error);
    if (deletion->rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return NULL;
}

/* The version is written and not committed when the deletion looks. */
static void test_a_version_that_is_just_written_counts(void **state)
{
    (void)state;
    char id[37], sql[512];
    struct deletion deletion = {.rc = FORGE_OK};
    pthread_t thread;
    model_make(&alpha, provider, "raced", deletion.model_id);
    prompt_make("raced", "", id);
    snprintf(sql, sizeof sql,
             "INSERT INTO prompt_versions (organization_id, prompt_id, version, content, content_hash, content_bytes, model_id)"
             " VALUES ('%s', '%s', 2, 'x', sha256('x'), 1, '%s')",
             alpha.organization_id, id, deletion.model_id);
    struct service_lock *lock = service_lock_take(sql);
    assert_int_equal(pthread_create(&thread, NULL, delete_model, &deletion), 0);
    service_lock_wait(lock, 1);
    service_lock_release(lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(deletion.rc, FORGE_FAILED_PRECONDITION);
    assert_string_equal(deletion.error.reason, "IN_USE");
    forge_error_free(&deletion.error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_version_tells_its_model),
        cmocka_unit_test(test_another_model_is_another_version),
        cmocka_unit_test(test_a_model_that_does_not_exist_is_refused),
        cmocka_unit_test(test_a_deprecated_model_gets_no_new_versions),
        cmocka_unit_test(test_a_model_in_use_cannot_be_deleted),
        cmocka_unit_test(test_prompts_are_listed_by_model),
        cmocka_unit_test(test_a_version_that_is_just_written_counts),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
