#include "evaluation_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ITEM_SIZE = 64, ITEMS_MAX = 1000 };

void evaluation_ground_make(const struct service_tenant *tenant, const char *name, int items, struct evaluation_ground *out)
{
    assert_in_range(items, 1, ITEMS_MAX);
    out->tenant = tenant;
    service_prompt_make(tenant->admin, tenant->project_id, name, "Answer {{question}}", out->prompt_id);
    service_ok(service_call(tenant->admin, "EvaluationService/CreateDataset", NULL, "{'project_id': '%s', 'name': '%s'}",
                            tenant->project_id, name));
    service_reply_text("id", out->dataset_id, sizeof out->dataset_id);
    char *json = calloc((size_t)items, ITEM_SIZE);
    size_t length = 0;
    for (int i = 1; i <= items; i++)
        length += (size_t)snprintf(json + length, ITEM_SIZE, "%s{'key': 'k%04d', 'expected_output': '%d'}", i > 1 ? ", " : "", i, i);
    service_ok(service_call(tenant->admin, "EvaluationService/AddDatasetItems", NULL, "{'dataset_id': '%s', 'items': [%s]}",
                            out->dataset_id, json));
    free(json);
}

void evaluation_make(const struct evaluation_ground *ground, const char *more, char out_id[37])
{
    const char *evaluators = strstr(more, "'evaluators'") != NULL ? "" : ", 'evaluators': [{'exact': {}}]";
    service_ok(service_call(ground->tenant->admin, "EvaluationService/CreateEvaluation", NULL,
                            "{'project_id': '%s', 'name': 'run', 'prompt_id': '%s', 'dataset_id': '%s'%s%s}", ground->tenant->project_id,
                            ground->prompt_id, ground->dataset_id, evaluators, more));
    service_reply_text("id", out_id, 37);
}

forge_code evaluation_add(const struct evaluation_ground *ground, const char *evaluation_id, const char *result)
{
    return service_call(ground->tenant->admin, "EvaluationService/AddResults", NULL, "{'evaluation_id': '%s', 'results': [{%s}]}",
                        evaluation_id, result);
}

void evaluation_complete(const struct evaluation_ground *ground, const char *evaluation_id)
{
    service_ok(service_call(ground->tenant->admin, "EvaluationService/CompleteEvaluation", NULL, "{'id': '%s', 'allow_incomplete': true}",
                            evaluation_id));
}
