/* EvaluationService over TLS: evaluations themselves; their results are in service_evaluation_result_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "evaluation_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE "EvaluationService/CreateEvaluation"
#define GET "EvaluationService/GetEvaluation"
#define LIST "EvaluationService/ListEvaluations"
#define COMPLETE "EvaluationService/CompleteEvaluation"
#define CANCEL "EvaluationService/CancelEvaluation"
#define DELETE "EvaluationService/DeleteEvaluation"

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* CreateEvaluation as alpha: members of the request besides project and name. */
static forge_code create(const char *prompt_id, const char *dataset_id, const char *more)
{
    return service_call(alpha.admin, CREATE, NULL, "{'project_id': '%s', 'name': 'run', 'prompt_id': '%s', 'dataset_id': '%s'%s}",
                        alpha.project_id, prompt_id, dataset_id, more);
}

/* ---- CreateEvaluation, GetEvaluation ---- */

static void test_an_evaluation_pins_prompt_and_dataset(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], dataset_hash[65], prompt_hash[65], sql[256];
    evaluation_ground_make(&alpha, "pinned", 3, &ground);
    snprintf(sql, sizeof sql, "SELECT encode(content_hash, 'hex') FROM prompt_versions WHERE prompt_id = '%s'", ground.prompt_id);
    snprintf(prompt_hash, sizeof prompt_hash, "%s", service_query(sql));
    snprintf(sql, sizeof sql, "SELECT encode(content_hash, 'hex') FROM dataset_versions WHERE dataset_id = '%s'", ground.dataset_id);
    snprintf(dataset_hash, sizeof dataset_hash, "%s", service_query(sql));
    service_ok(create(ground.prompt_id, ground.dataset_id,
                      ", 'description': 'why', 'repetitions': 2, 'pass_threshold': 0.7, 'metadata': [{'key': 'commit', 'value': 'abc'}],"
                      " 'evaluators': [{'regex': {'pattern': '^[0-9]+$'}, 'weight': 2, 'required': true},"
                      " {'name': 'near', 'levenshtein': {}, 'threshold': 0.8}, {'cost': {}}]"));
    service_reply_text("id", id, sizeof id);
    for (int i = 0; i < 2; i++) {
        service_shows(id, alpha.project_id, "'name':'run','description':'why','state':'EVALUATION_STATE_RUNNING'", ground.prompt_id,
                      "'prompt_version':1", prompt_hash, ground.dataset_id, "'dataset_version':1", dataset_hash,
                      "'evaluators':[{'name':'regex','weight':2,'threshold':1,'required':true,'regex':{'pattern':'^[0-9]+$'}},"
                      "{'name':'near','weight':1,'threshold':0.8,'levenshtein':{}},{'name':'cost','weight':1,'threshold':1,'cost':{}}]",
                      "'repetitions':2,'pass_threshold':0.7,'metadata':[{'key':'commit','value':'abc'}]",
                      "'summary':{'expected_result_count':'6',", "'evaluators':[{'name':'regex'},{'name':'near'},{'name':'cost'}]",
                      "'creator_id'", "'create_time'", "'etag':'1'");
        assert_null(strstr(service_reply(), "end_time"));
        service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    }
    service_ok(service_call(alpha.admin, "EvaluationService/AddDatasetItems", NULL, "{'dataset_id': '%s', 'items': [{'key': 'more'}]}",
                            ground.dataset_id));
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    service_shows("'dataset_version':1", dataset_hash, "'expected_result_count':'6'");
    service_ok(create(ground.prompt_id, ground.dataset_id, ", 'dataset_version': 1, 'prompt_version': 1, 'evaluators': [{'exact': {}}]"));
    service_shows("'dataset_version':1", "'repetitions':1,'pass_threshold':1", "'expected_result_count':'3'");
    service_fails(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", nobody_has), FORGE_NOT_FOUND, "evaluation");
    service_violates(service_call(alpha.admin, GET, NULL, "{'id': 'x'}"), "id", "must be a UUID");
}

static void test_the_model_is_given_or_that_of_the_prompt(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char provider[37], model[37], expected[64];
    evaluation_ground_make(&alpha, "model", 1, &ground);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateModelProvider", NULL, "{'name': 'Acme'}"));
    service_reply_text("id", provider, sizeof provider);
    service_ok(service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'acme-1'}", provider));
    service_reply_text("id", model, sizeof model);
    snprintf(expected, sizeof expected, "'model_id':'%s'", model);
    char more[128];
    snprintf(more, sizeof more, ", 'evaluators': [{'exact': {}}], 'model_id': '%s'", model);
    service_ok(create(ground.prompt_id, ground.dataset_id, more));
    service_shows(expected);
    service_ok(service_call(alpha.admin, "PromptService/CreatePromptVersion", NULL,
                            "{'prompt_id': '%s', 'content': 'x', 'model_id': '%s', 'make_current': true}", ground.prompt_id, model));
    service_ok(create(ground.prompt_id, ground.dataset_id, ", 'evaluators': [{'exact': {}}]"));
    service_shows("'prompt_version':2", expected);
    snprintf(more, sizeof more, ", 'evaluators': [{'exact': {}}], 'model_id': '%s'", nobody_has);
    service_fails(create(ground.prompt_id, ground.dataset_id, more), FORGE_NOT_FOUND, "model 01890000");
}

static void test_what_is_missing_is_named(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char empty[37];
    static const char exact[] = ", 'evaluators': [{'exact': {}}]";
    evaluation_ground_make(&alpha, "missing", 1, &ground);
    service_ok(
        service_call(alpha.admin, "EvaluationService/CreateDataset", NULL, "{'project_id': '%s', 'name': 'no items'}", alpha.project_id));
    service_reply_text("id", empty, sizeof empty);
    service_fails(create(nobody_has, ground.dataset_id, exact), FORGE_NOT_FOUND, "prompt 01890000");
    service_fails(create(ground.prompt_id, nobody_has, exact), FORGE_NOT_FOUND, "dataset 01890000");
    service_fails(create(ground.prompt_id, ground.dataset_id, ", 'prompt_version': 2, 'evaluators': [{'exact': {}}]"), FORGE_NOT_FOUND,
                  "the prompt has no version 2");
    service_fails(create(ground.prompt_id, ground.dataset_id, ", 'dataset_version': 2, 'evaluators': [{'exact': {}}]"), FORGE_NOT_FOUND,
                  "the dataset has no version 2");
    service_fails(create(ground.prompt_id, empty, exact), FORGE_FAILED_PRECONDITION, "no items");
    service_fails(service_call(beta.admin, CREATE, NULL,
                               "{'project_id': '%s', 'name': 'run', 'prompt_id': '%s', 'dataset_id': '%s', 'evaluators': [{'exact': {}}]}",
                               beta.project_id, ground.prompt_id, ground.dataset_id),
                  FORGE_NOT_FOUND, "prompt");
    service_fails(service_call(beta.admin, CREATE, NULL,
                               "{'project_id': '%s', 'name': 'run', 'prompt_id': '%s', 'dataset_id': '%s', 'evaluators': [{'exact': {}}]}",
                               alpha.project_id, ground.prompt_id, ground.dataset_id),
                  FORGE_NOT_FOUND, "project");
}

static void test_wrong_fields_are_named(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    evaluation_ground_make(&alpha, "wrong", 1, &ground);
    service_violates(service_call(alpha.admin, CREATE, NULL,
                                  "{'project_id': 'x', 'prompt_version': -1, 'dataset_version': -1, 'repetitions': 101,"
                                  " 'pass_threshold': 1.5, 'model_id': 'x', 'metadata': [{'key': 'a'}, {'key': 'a'}, {}]}"),
                     "project_id", "must be a UUID", "name", "1 to 255", "prompt_id", "is required", "prompt_version", "0 or more",
                     "dataset_id", "is required", "dataset_version", "0 or more", "repetitions", "0 to 100", "pass_threshold", "0 to 1",
                     "model_id", "must be a UUID", "metadata[1].key", "is given twice", "metadata[2].key", "1 to 128 bytes", "evaluators",
                     "must be 1 to 32");
    service_violates(create(ground.prompt_id, ground.dataset_id,
                            ", 'pass_threshold': 'NaN', 'evaluators': [{'exact': {}}, {'exact': {}}, {'regex': {'pattern': '(a'}},"
                            " {'name': 'Upper', 'json_valid': {}}, {'json_schema': {'schema': '{\\'type\\': 7}'}},"
                            " {'name': 'w', 'latency': {'latency_max_ms': 5}, 'weight': -1, 'threshold': 2}, {'name': 'none'}]"),
                     "pass_threshold", "0 to 1", "evaluators[1].name", "evaluators[0]", "evaluators[2].regex.pattern", "",
                     "evaluators[3].name", "must be 1 to 64", "evaluators[4].json_schema.schema", "type", "evaluators[5].weight", "over 0",
                     "evaluators[5].threshold", "at most 1", "evaluators[6]", "needs a config");
}

static void test_a_repeat_makes_no_second_one(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char request_id[37], id[37], again[37], sql[160];
    evaluation_ground_make(&alpha, "repeat", 1, &ground);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, CREATE, request_id,
                                "{'project_id': '%s', 'name': 'run', 'prompt_id': '%s', 'dataset_id': '%s', 'evaluators': [{'exact': {}}]}",
                                alpha.project_id, ground.prompt_id, ground.dataset_id));
        service_reply_text("id", i == 0 ? id : again, 37);
    }
    assert_true(service_reply_is_stored());
    assert_string_equal(id, again);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM evaluations WHERE dataset_id = '%s'", ground.dataset_id);
    assert_string_equal(service_query(sql), "1");
}

/* ---- ListEvaluations ---- */

static void test_a_list_is_newest_first_and_filtered(void **state)
{
    (void)state;
    struct evaluation_ground ground, other;
    char first[37], second[37], third[37], token[512], *project_id = beta.project_id;
    evaluation_ground_make(&beta, "list", 2, &ground);
    evaluation_ground_make(&beta, "other", 1, &other);
    service_ok(service_call(beta.admin, LIST, NULL, "{'project_id': '%s'}", project_id));
    assert_string_equal(service_reply(), "{}");
    evaluation_make(&ground, "", first);
    evaluation_make(&ground, "", second);
    evaluation_make(&other, "", third);
    service_ok(evaluation_add(&ground, first, "'item_key': 'k0001', 'output': '1'"));
    service_ok(service_call(beta.admin, CANCEL, NULL, "{'id': '%s'}", second));
    service_ok(service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'page_size': 2}", project_id));
    service_shows(third, second);
    assert_null(strstr(service_reply(), first));
    service_reply_text("next_page_token", token, sizeof token);
    service_ok(service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'page_size': 2, 'page_token': '%s'}", project_id, token));
    service_shows(first, "'summary':{'expected_result_count':'2','result_count':'1','passed_count':'1'");
    assert_null(strstr(service_reply(), "next_page_token"));
    service_violates(service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'state': 1, 'page_token': '%s'}", project_id, token),
                     "page_token", "another query");
    service_ok(service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'state': 'EVALUATION_STATE_CANCELLED'}", project_id));
    service_shows(second);
    assert_null(strstr(service_reply(), third));
    service_ok(service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'dataset_id': '%s'}", project_id, other.dataset_id));
    service_shows(third);
    assert_null(strstr(service_reply(), first));
    service_ok(
        service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'prompt_id': '%s', 'prompt_version': 1}", project_id, ground.prompt_id));
    service_shows(second, first);
    assert_null(strstr(service_reply(), third));
    service_ok(
        service_call(beta.admin, LIST, NULL, "{'project_id': '%s', 'prompt_id': '%s', 'prompt_version': 2}", project_id, ground.prompt_id));
    assert_string_equal(service_reply(), "{}");
    service_violates(service_call(beta.admin, LIST, NULL, "{'project_id': 'x', 'prompt_version': 1, 'dataset_id': 'x', 'page_size': -1}"),
                     "project_id", "must be a UUID", "prompt_version", "needs prompt_id", "dataset_id", "must be a UUID", "page_size", "");
    service_fails(service_call(alpha.admin, LIST, NULL, "{'project_id': '%s'}", project_id), FORGE_NOT_FOUND, "project");
}

/* Three evaluations of 900 KiB each: more than a page may hold of them. */
static void test_a_page_is_cut_by_size(void **state)
{
    (void)state;
    enum { EVALUATIONS = 3, EVALUATORS = 15, SCHEMA_BYTES = 60000 };
    struct evaluation_ground ground;
    Forge__V1__CreateEvaluationRequest request = FORGE__V1__CREATE_EVALUATION_REQUEST__INIT;
    Forge__V1__Evaluator evaluators[EVALUATORS], *pointers[EVALUATORS];
    Forge__V1__JsonSchemaEvaluator schema = FORGE__V1__JSON_SCHEMA_EVALUATOR__INIT;
    Forge__V1__ListEvaluationsRequest list = FORGE__V1__LIST_EVALUATIONS_REQUEST__INIT;
    char names[EVALUATORS][16];
    evaluation_ground_make(&beta, "large", 1, &ground);
    schema.schema = service_repeat(" ", SCHEMA_BYTES);
    memcpy(schema.schema, "true", 4);
    for (int i = 0; i < EVALUATORS; i++) {
        forge__v1__evaluator__init(&evaluators[i]);
        snprintf(names[i], sizeof names[i], "s%d", i);
        evaluators[i].name = names[i];
        evaluators[i].config_case = FORGE__V1__EVALUATOR__CONFIG_JSON_SCHEMA;
        evaluators[i].json_schema = &schema;
        pointers[i] = &evaluators[i];
    }
    request.project_id = list.project_id = beta.project_id;
    request.name = TEXT("large");
    request.prompt_id = ground.prompt_id;
    request.dataset_id = list.dataset_id = ground.dataset_id;
    request.n_evaluators = EVALUATORS;
    request.evaluators = pointers;
    for (int i = 0; i < EVALUATIONS; i++) {
        Forge__V1__Evaluation *made;
        service_ok(forge_evaluation_create(beta.admin, NULL, &request, &made, &service_error));
        forge__v1__evaluation__free_unpacked(made, NULL);
    }
    char token[512] = "";
    for (int i = 0; i < EVALUATIONS; i++) {
        Forge__V1__ListEvaluationsResponse *page;
        list.page_token = token;
        service_ok(forge_evaluation_list(beta.admin, NULL, &list, &page, &service_error));
        assert_int_equal(page->n_evaluations, 1);
        assert_string_equal(page->evaluations[0]->evaluators[EVALUATORS - 1]->json_schema->schema, schema.schema);
        snprintf(token, sizeof token, "%s", page->next_page_token);
        assert_int_equal(token[0] == '\0', i == EVALUATIONS - 1);
        forge__v1__list_evaluations_response__free_unpacked(page, NULL);
    }
}

/* ---- ending ---- */

static void test_complete_needs_all_results_or_leave(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], request_id[37];
    evaluation_ground_make(&alpha, "complete", 2, &ground);
    evaluation_make(&ground, "", id);
    service_ok(evaluation_add(&ground, id, "'item_key': 'k0001', 'output': '1'"));
    service_fails(service_call(alpha.admin, COMPLETE, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "1 results are missing");
    service_fails(service_call(alpha.admin, COMPLETE, NULL, "{'id': '%s', 'allow_incomplete': true, 'etag': '7'}", id), FORGE_ABORTED,
                  "has changed");
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, COMPLETE, request_id, "{'id': '%s', 'allow_incomplete': true, 'etag': '1'}", id));
        service_shows("'state':'EVALUATION_STATE_COMPLETED'", "'result_count':'1','passed_count':'1'", "'update_time'", "'end_time'",
                      "'etag':'2'");
        assert_int_equal(service_reply_is_stored(), i);
    }
    service_fails(service_call(alpha.admin, COMPLETE, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "is completed already");
    service_fails(service_call(alpha.admin, CANCEL, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "is completed already");
    service_fails(evaluation_add(&ground, id, "'item_key': 'k0002', 'output': '2'"), FORGE_FAILED_PRECONDITION,
                  "the evaluation is completed: it takes no more results");
    evaluation_make(&ground, "", id);
    service_ok(evaluation_add(&ground, id, "'item_key': 'k0001'"));
    service_ok(evaluation_add(&ground, id, "'item_key': 'k0002'"));
    service_ok(service_call(alpha.admin, COMPLETE, NULL, "{'id': '%s'}", id));
    service_shows("'result_count':'2','failed_count':'2'");
    service_violates(service_call(alpha.admin, COMPLETE, NULL, "{'id': 'x', 'etag': '%s'}", service_repeat("e", 65)), "id",
                     "must be a UUID", "etag", "64 bytes");
}

static void test_cancel_and_delete(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], sql[160], request_id[37];
    evaluation_ground_make(&alpha, "cancel", 2, &ground);
    evaluation_make(&ground, "", id);
    service_ok(evaluation_add(&ground, id, "'item_key': 'k0001', 'output': '1'"));
    service_fails(service_call(alpha.admin, CANCEL, NULL, "{'id': '%s', 'etag': '2'}", id), FORGE_ABORTED, "has changed");
    service_ok(service_call(alpha.admin, CANCEL, NULL, "{'id': '%s', 'etag': '1'}", id));
    service_shows("'state':'EVALUATION_STATE_CANCELLED'", "'result_count':'1'", "'end_time'");
    service_fails(service_call(alpha.admin, CANCEL, NULL, "{'id': '%s'}", id), FORGE_FAILED_PRECONDITION, "is cancelled already");
    service_ok(service_call(alpha.admin, "EvaluationService/ListResults", NULL, "{'evaluation_id': '%s'}", id));
    service_shows("'item_key':'k0001'");
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s', 'etag': '1'}", id), FORGE_ABORTED, "has changed");
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    service_ok(service_call(alpha.admin, DELETE, request_id, "{'id': '%s', 'etag': '2'}", id));
    service_ok(service_call(alpha.admin, DELETE, request_id, "{'id': '%s', 'etag': '2'}", id));
    assert_true(service_reply_is_stored());
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "evaluation");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM evaluation_results WHERE evaluation_id = '%s'", id);
    assert_string_equal(service_query(sql), "0");
}

static void test_a_running_evaluation_keeps_prompt_and_dataset(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37];
    evaluation_ground_make(&alpha, "kept", 1, &ground);
    evaluation_make(&ground, "", id);
    service_fails(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", ground.prompt_id),
                  FORGE_FAILED_PRECONDITION, "a running evaluation uses this prompt");
    service_fails(service_call(alpha.admin, "EvaluationService/DeleteDataset", NULL, "{'id': '%s'}", ground.dataset_id),
                  FORGE_FAILED_PRECONDITION, "a running evaluation uses this dataset");
    evaluation_complete(&ground, id);
    service_ok(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", ground.prompt_id));
    service_ok(service_call(alpha.admin, "EvaluationService/DeleteDataset", NULL, "{'id': '%s'}", ground.dataset_id));
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    assert_null(strstr(service_reply(), "\"prompt_id\""));
    assert_null(strstr(service_reply(), "\"dataset_id\""));
    service_shows("'prompt_version':1,'prompt_content_hash':'", "'dataset_version':1,'dataset_content_hash':'");
}

static void test_others_see_nothing(void **state)
{
    (void)state;
    struct evaluation_ground ground;
    char id[37], project[37];
    evaluation_ground_make(&alpha, "private", 1, &ground);
    evaluation_make(&ground, "", id);
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'elsewhere'}"));
    service_reply_text("id", project, sizeof project);
    struct forge_channel *strangers[] = {beta.admin, service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, project)};
    static const char *const methods[] = {GET, COMPLETE, CANCEL, DELETE};
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < sizeof methods / sizeof methods[0]; j++)
            service_fails(service_call(strangers[i], methods[j], NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "evaluation");
    service_fails(service_call(strangers[1], LIST, NULL, "{'project_id': '%s'}", alpha.project_id), FORGE_PERMISSION_DENIED, "project");
    struct forge_channel *viewer = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_ok(service_call(viewer, GET, NULL, "{'id': '%s'}", id));
    for (size_t j = 1; j < sizeof methods / sizeof methods[0]; j++)
        service_fails(service_call(viewer, methods[j], NULL, "{'id': '%s'}", id), FORGE_PERMISSION_DENIED, "developer");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    service_shows("'state':'EVALUATION_STATE_RUNNING'", "'etag':'1'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_evaluation_pins_prompt_and_dataset),
        cmocka_unit_test(test_the_model_is_given_or_that_of_the_prompt),
        cmocka_unit_test(test_what_is_missing_is_named),
        cmocka_unit_test(test_wrong_fields_are_named),
        cmocka_unit_test(test_a_repeat_makes_no_second_one),
        cmocka_unit_test(test_a_list_is_newest_first_and_filtered),
        cmocka_unit_test(test_a_page_is_cut_by_size),
        cmocka_unit_test(test_complete_needs_all_results_or_leave),
        cmocka_unit_test(test_cancel_and_delete),
        cmocka_unit_test(test_a_running_evaluation_keeps_prompt_and_dataset),
        cmocka_unit_test(test_others_see_nothing),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
