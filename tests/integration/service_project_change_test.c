/* ProjectService over TLS: UpdateProject, DeleteProject, GetProjectSummary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* A project of alpha; its id. */
static void project_make(const char *name, const char *description, char out_id[37])
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *made;
    request.name = TEXT(name);
    request.description = TEXT(description);
    service_ok(forge_project_create(alpha.admin, NULL, &request, &made, &service_error));
    strcpy(out_id, made->id);
    forge__v1__project__free_unpacked(made, NULL);
}

static forge_code get(const char *id, Forge__V1__Project **out)
{
    Forge__V1__GetProjectRequest request = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    request.id = TEXT(id);
    return forge_project_get(alpha.admin, NULL, &request, out, &service_error);
}

static Forge__V1__UpdateProjectRequest update_of(const char *id)
{
    Forge__V1__UpdateProjectRequest request = FORGE__V1__UPDATE_PROJECT_REQUEST__INIT;
    request.id = TEXT(id);
    return request;
}

static forge_code update(struct forge_channel *channel, const Forge__V1__UpdateProjectRequest *request, Forge__V1__Project **out)
{
    return forge_project_update(channel, NULL, request, out, &service_error);
}

/* Updates, checks name, description and etag of the reply. */
static void updated(const Forge__V1__UpdateProjectRequest *request, const char *name, const char *description, const char *etag)
{
    Forge__V1__Project *project;
    service_ok(update(alpha.admin, request, &project));
    assert_string_equal(project->name, name);
    assert_string_equal(project->description, description);
    assert_string_equal(project->etag, etag);
    assert_non_null(project->update_time);
    forge__v1__project__free_unpacked(project, NULL);
}

static void test_an_update_changes_what_the_mask_names(void **state)
{
    (void)state;
    char id[37];
    char *name_path[] = {TEXT("name")}, *description_path[] = {TEXT("description")}, *all[] = {TEXT("*")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    project_make("masked", "before", id);
    Forge__V1__UpdateProjectRequest request = update_of(id);
    request.name = TEXT("masked again"); /* without a mask: what is not at its default */
    updated(&request, "masked again", "before", "2");
    request.description = TEXT("after");
    request.update_mask = &mask;
    mask.n_paths = 1;
    mask.paths = description_path;
    request.name = TEXT("not named");
    updated(&request, "masked again", "after", "3");
    mask.paths = name_path;
    request.name = TEXT("masked");
    request.description = TEXT("not named");
    updated(&request, "masked", "after", "4");
    mask.paths = description_path;
    request.description = TEXT("");
    updated(&request, "masked", "", "5"); /* named and empty: taken away */
    mask.paths = all;
    request.description = TEXT("all");
    request.name = TEXT("masked by all");
    updated(&request, "masked by all", "all", "6");
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'project' AND object_id = '%s'", id);
    assert_string_equal(service_query(sql), "6");
}

static void test_wrong_updates_are_named_and_change_nothing(void **state)
{
    (void)state;
    char id[37];
    char *paths[] = {TEXT("name"), TEXT("id"), TEXT("create_time"), TEXT("description")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    Forge__V1__Project *project;
    project_make("wrong", "", id);
    Forge__V1__UpdateProjectRequest request = update_of("x");
    mask.n_paths = 4;
    mask.paths = paths;
    request.update_mask = &mask;
    request.name = TEXT("a\nb");
    request.description = service_repeat("x", 4097);
    request.etag = service_repeat("1", 65);
    service_violates(update(alpha.admin, &request, &project), "id", "must be a UUID", "update_mask", "\"id\" is not a field", "update_mask",
                     "\"create_time\"", "name", "1 to 255", "description", "4096", "etag", "64 bytes");
    request = update_of(id);
    service_violates(update(alpha.admin, &request, &project), "update_mask", "names nothing to change");
    mask.n_paths = 1;
    request.update_mask = &mask;
    service_violates(update(alpha.admin, &request, &project), "name", "1 to 255"); /* a name cannot be taken away */
    request = update_of(id);
    request.name = TEXT("main");
    service_fails(update(alpha.admin, &request, &project), FORGE_ALREADY_EXISTS, "a project named \"main\" exists already");
    request.name = TEXT("right");
    request.etag = TEXT("7");
    service_fails(update(alpha.admin, &request, &project), FORGE_ABORTED, "has changed since this etag was read");
    service_fails(update(beta.admin, &request, &project), FORGE_NOT_FOUND, "not found");
    service_fails(update(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), &request, &project), FORGE_PERMISSION_DENIED,
                  "developer");
    service_fails(update(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, alpha.project_id), &request, &project),
                  FORGE_PERMISSION_DENIED, "bound to another project");
    request.id = TEXT(nobody_has);
    service_fails(update(alpha.admin, &request, &project), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-000000000000 not found");
    service_ok(get(id, &project));
    assert_string_equal(project->name, "wrong");
    assert_string_equal(project->etag, "1");
    assert_null(project->update_time);
    forge__v1__project__free_unpacked(project, NULL);
    request = update_of(id);
    request.name = TEXT("right");
    request.etag = TEXT("1");
    updated(&request, "right", "", "2");
}

static void test_a_repeated_update_gets_the_first_reply(void **state)
{
    (void)state;
    char id[37], request_id[37];
    Forge__V1__Project *project;
    project_make("repeated", "", id);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__UpdateProjectRequest request = update_of(id);
    request.description = TEXT("once");
    request.etag = TEXT("1"); /* only the first attempt finds it */
    for (int i = 0; i < 3; i++) {
        service_ok(forge_project_update(alpha.admin, &options, &request, &project, &service_error));
        assert_string_equal(project->etag, "2");
        forge__v1__project__free_unpacked(project, NULL);
    }
    request.description = TEXT("twice");
    service_fails(forge_project_update(alpha.admin, &options, &request, &project, &service_error), FORGE_INVALID_ARGUMENT, "request_id");
}

/* --- DeleteProject --- */

static forge_code delete_with(struct forge_channel *channel, const char *request_id, const char *id, const char *name, const char *etag)
{
    Forge__V1__DeleteProjectRequest request = FORGE__V1__DELETE_PROJECT_REQUEST__INIT;
    const struct forge_call_options options = {.request_id = request_id};
    Google__Protobuf__Empty *empty;
    request.id = TEXT(id);
    request.confirm_name = TEXT(name);
    request.etag = TEXT(etag);
    forge_code rc = forge_project_delete(channel, &options, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

/* Every read and write of prompts that goes by id or name of one in a project that is gone. */
static void prompt_is_gone(const char *project_id, const char *prompt_id)
{
    Forge__V1__GetPromptRequest by_id = FORGE__V1__GET_PROMPT_REQUEST__INIT, by_name = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__ListPromptsRequest list = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptVersionsRequest versions = FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    Forge__V1__CreatePromptVersionRequest version = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__CreatePromptRequest create = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__RenderPromptRequest render = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    Forge__V1__ListPromptsResponse *prompts;
    Forge__V1__ListPromptVersionsResponse *version_list;
    Forge__V1__PromptVersion *made;
    Forge__V1__RenderPromptResponse *rendered;
    by_id.id = versions.prompt_id = version.prompt_id = TEXT(prompt_id);
    by_name.project_id = list.project_id = create.project_id = TEXT(project_id);
    by_name.name = create.name = TEXT("kept");
    version.content = create.content = TEXT("new");
    render.prompt = &by_id;
    service_fails(forge_prompt_get(alpha.admin, NULL, &by_id, &prompt, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(forge_prompt_get(alpha.admin, NULL, &by_name, &prompt, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(forge_prompt_list(alpha.admin, NULL, &list, &prompts, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(forge_prompt_list_versions(alpha.admin, NULL, &versions, &version_list, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(forge_prompt_create_version(alpha.admin, NULL, &version, &made, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(forge_prompt_create(alpha.admin, NULL, &create, &prompt, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(forge_prompt_render(alpha.admin, NULL, &render, &rendered, &service_error), FORGE_NOT_FOUND, "not found");
}

static void test_a_deleted_project_and_its_prompts_and_keys_are_gone_at_once(void **state)
{
    (void)state;
    char id[37], prompt_id[37], sql[256], request_id[37], again[37];
    Forge__V1__Project *project;
    Forge__V1__ListProjectsRequest list = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    Forge__V1__ListProjectsResponse *listed;
    Forge__V1__WhoAmIRequest who = FORGE__V1__WHO_AM_IREQUEST__INIT;
    Forge__V1__WhoAmIResponse *answer;
    project_make("doomed", "", id);
    service_prompt_make(alpha.admin, id, "kept", "one", prompt_id);
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, id);
    service_ok(forge_organization_who_am_i(bound, NULL, &who, &answer, &service_error)); /* the server knows the key now */
    forge__v1__who_am_iresponse__free_unpacked(answer, NULL);
    strcpy(request_id, service_request_id());
    service_ok(delete_with(alpha.admin, request_id, id, "doomed", "1"));
    service_fails(forge_organization_who_am_i(bound, NULL, &who, &answer, &service_error), FORGE_UNAUTHENTICATED, "deleted");
    service_fails(get(id, &project), FORGE_NOT_FOUND, "not found");
    service_fails(delete_with(alpha.admin, NULL, id, "doomed", ""), FORGE_NOT_FOUND, "not found");
    service_ok(delete_with(alpha.admin, request_id, id, "doomed", "1")); /* a repeat gets the stored reply */
    service_fails(delete_with(alpha.admin, request_id, id, "doom", "1"), FORGE_INVALID_ARGUMENT, "request_id");
    prompt_is_gone(id, prompt_id);
    list.name_prefix = TEXT("doomed");
    service_ok(forge_project_list(alpha.admin, NULL, &list, &listed, &service_error));
    assert_int_equal(listed->n_projects, 0);
    forge__v1__list_projects_response__free_unpacked(listed, NULL);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM audit_log WHERE action = 'project.delete' AND target_id = '%s'", id);
    assert_string_equal(service_query(sql), "1");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM prompts WHERE id = '%s'", prompt_id);
    assert_string_equal(service_query(sql), "1"); /* its rows are maintenance's to remove */
    project_make("doomed", "", again);            /* the name is free */
    service_prompt_make(alpha.admin, again, "kept", "one", prompt_id);
}

static void test_a_deletion_needs_the_name_and_an_admin(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Project *project;
    project_make("guarded", "", id);
    service_violates(delete_with(alpha.admin, NULL, "", "", service_repeat("1", 65)), "id", "is required", "confirm_name", "is required",
                     "etag", "64 bytes");
    service_fails(delete_with(alpha.admin, NULL, id, "Guarded", ""), FORGE_FAILED_PRECONDITION, "confirm_name");
    service_fails(delete_with(alpha.admin, NULL, id, "guarded", "2"), FORGE_ABORTED, "etag");
    service_fails(delete_with(beta.admin, NULL, id, "guarded", ""), FORGE_NOT_FOUND, "not found");
    service_fails(delete_with(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), NULL, id, "guarded", ""),
                  FORGE_PERMISSION_DENIED, "admin");
    service_fails(delete_with(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id), NULL, id, "guarded", ""),
                  FORGE_PERMISSION_DENIED, "bound to another project");
    service_ok(get(id, &project));
    assert_string_equal(project->etag, "1");
    forge__v1__project__free_unpacked(project, NULL);
}

/* --- GetProjectSummary --- */

static forge_code summary(struct forge_channel *channel, const char *id, Forge__V1__ProjectSummary **out)
{
    Forge__V1__GetProjectSummaryRequest request = FORGE__V1__GET_PROJECT_SUMMARY_REQUEST__INIT;
    request.id = TEXT(id);
    return forge_project_get_summary(channel, NULL, &request, out, &service_error);
}

static void test_an_empty_project_is_all_zero(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__ProjectSummary *out;
    project_make("empty", "", id);
    service_ok(summary(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, id), id, &out));
    assert_string_equal(out->project_id, id);
    assert_int_equal(out->prompt_count + out->prompt_version_count + out->execution_count + out->dataset_count + out->evaluation_count +
                         out->trace_count + out->policy_count + out->open_violation_count + out->recent_trace_count +
                         out->recent_cost_micros + out->trace_retention_days,
                     0);
    assert_true(out->average_rating == 0.0);
    assert_non_null(out->recent_usage);
    assert_null(out->last_trace_time);
    assert_null(out->last_prompt_time);
    forge__v1__project_summary__free_unpacked(out, NULL);
}

/* Rows that no method of this server writes yet stand in the tables as they will be. */
static void fill(const char *project_id, const char *prompt_id)
{
    char sql[8192];
    snprintf(
        sql, sizeof sql,
        "INSERT INTO executions (organization_id, prompt_id, version, rating, success) SELECT '%1$s', '%3$s', 1, rating, success FROM"
        " (VALUES (5, true), (4, true), (NULL, false)) AS x (rating, success);"
        "INSERT INTO execution_totals (organization_id, prompt_id, version, execution_count, success_count, rating_counts,"
        " first_executed_at, last_executed_at) VALUES ('%1$s', '%3$s', 1, 10, 7, '{1,0,2,0,3}', now(), now());"
        "INSERT INTO datasets (organization_id, id, project_id, name) VALUES ('%1$s', gen_random_uuid(), '%2$s', 'd');"
        "INSERT INTO evaluations (organization_id, id, project_id, name, state, prompt_version, prompt_content_hash, dataset_version,"
        " dataset_content_hash, evaluators, expected_result_count, created_by) SELECT '%1$s', gen_random_uuid(), '%2$s', state, state,"
        " 1, sha256(''), 1, sha256(''), '[]', 1, '%2$s' FROM unnest(ARRAY['running', 'completed', 'cancelled']) AS state;"
        "INSERT INTO policies (organization_id, id, project_id, name, draft_hash, created_by) SELECT '%1$s', gen_random_uuid(),"
        " project, 'p', sha256(''), '%2$s' FROM unnest(ARRAY['%2$s', NULL]::uuid[]) AS project;"
        "INSERT INTO policy_violations (organization_id, id, project_id, policy_id, policy_version, policy_name, rule, action, severity,"
        " mode, stage, state, message, actor_id, finding_hash) SELECT '%1$s', gen_random_uuid(), '%2$s', '%2$s', 1, 'p', 'r', 'block',"
        " 1, 'enforce', 'prompt', state, 'm', '%2$s', sha256(state::bytea) FROM unnest(ARRAY['open', 'acknowledged', 'resolved']) AS"
        " state;"
        "INSERT INTO traces (organization_id, project_id, trace_id, started_at, start_ns, end_ns, duration_ns, status, span_count,"
        " error_count, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_micros)"
        " SELECT '%1$s', '%2$s', substr(sha256(hours::text::bytea), 1, 16), now() - hours * interval '1 hour', 0,"
        " (1000000 - hours) * 1000000000::bigint, 1, CASE WHEN hours %% 2 = 0 THEN 2 ELSE 1 END, 1, 0, 10, 20, 30, 40, 50, 7"
        " FROM unnest(ARRAY[1, 2, 23, 25]) AS hours;"
        "INSERT INTO retention_settings (organization_id, project_id, trace_days) VALUES ('%1$s', '%2$s', 30)",
        alpha.organization_id, project_id, prompt_id);
    service_execute(sql);
}

static void test_a_summary_counts_what_the_project_holds(void **state)
{
    (void)state;
    char id[37], other[37], prompt_id[37], second[37];
    Forge__V1__CreatePromptVersionRequest version = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *made;
    Forge__V1__ProjectSummary *out;
    project_make("full", "", id);
    project_make("beside it", "", other);
    service_prompt_make(alpha.admin, id, "first", "one", prompt_id);
    version.prompt_id = prompt_id;
    version.content = TEXT("two");
    service_ok(forge_prompt_create_version(alpha.admin, NULL, &version, &made, &service_error));
    service_prompt_make(alpha.admin, other, "not counted", "one", second);
    service_prompt_make(alpha.admin, id, "second", "one", second);
    fill(id, prompt_id);
    service_ok(summary(alpha.admin, id, &out));
    assert_int_equal(out->prompt_count, 2);
    assert_int_equal(out->prompt_version_count, 3);
    assert_int_equal(out->execution_count, 13);
    assert_int_equal(out->success_count, 9);
    assert_int_equal(out->rated_count, 8);
    assert_true(out->average_rating == (5.0 + 4 + 1 + 2 * 3 + 3 * 5) / 8);
    assert_int_equal(out->dataset_count, 1);
    assert_int_equal(out->evaluation_count, 3);
    assert_int_equal(out->running_evaluation_count, 1);
    assert_int_equal(out->trace_count, 4);
    assert_int_equal(out->policy_count, 1);
    assert_int_equal(out->open_violation_count, 2);
    assert_int_equal(out->recent_trace_count, 3);
    assert_int_equal(out->recent_error_trace_count, 1);
    assert_int_equal(out->recent_usage->input_tokens, 30);
    assert_int_equal(out->recent_usage->cache_read_tokens, 60);
    assert_int_equal(out->recent_usage->cache_write_tokens, 90);
    assert_int_equal(out->recent_usage->output_tokens, 120);
    assert_int_equal(out->recent_usage->reasoning_tokens, 150);
    assert_int_equal(out->recent_cost_micros, 21);
    assert_int_equal(out->last_trace_time->seconds, 999999);
    assert_true(out->last_prompt_time->seconds >= made->create_time->seconds);
    assert_int_equal(out->trace_retention_days, 30);
    forge__v1__project_summary__free_unpacked(out, NULL);
    forge__v1__prompt_version__free_unpacked(made, NULL);
}

static void test_a_summary_says_what_is_wrong(void **state)
{
    (void)state;
    Forge__V1__ProjectSummary *out;
    service_violates(summary(alpha.admin, "", &out), "id", "is required");
    service_fails(summary(alpha.admin, nobody_has, &out), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-000000000000 not found");
    service_fails(summary(beta.admin, alpha.project_id, &out), FORGE_NOT_FOUND, "not found");
    service_fails(summary(service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_READ, beta.project_id), alpha.project_id, &out),
                  FORGE_PERMISSION_DENIED, "bound to another project");
    service_fails(summary(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), alpha.project_id, &out),
                  FORGE_PERMISSION_DENIED, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_update_changes_what_the_mask_names),
        cmocka_unit_test(test_wrong_updates_are_named_and_change_nothing),
        cmocka_unit_test(test_a_repeated_update_gets_the_first_reply),
        cmocka_unit_test(test_a_deleted_project_and_its_prompts_and_keys_are_gone_at_once),
        cmocka_unit_test(test_a_deletion_needs_the_name_and_an_admin),
        cmocka_unit_test(test_an_empty_project_is_all_zero),
        cmocka_unit_test(test_a_summary_counts_what_the_project_holds),
        cmocka_unit_test(test_a_summary_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
