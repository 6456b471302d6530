/* Datasets and completed evaluations as a manifest. */
#include "export.h"

#include "apply_fields.h"

#include <string.h>

/* ---- datasets ---- */

/* A part of an object: a copy without what the server has set. */
static json_t *item_json(struct apply *apply, const ProtobufCMessage *item)
{
    json_t *object = json_object();
    ProtobufCMessage *copy = field_message_copy(&apply->cli->arena, item);
    if (copy)
        field_set_text(copy, "id", "");
    if (object && copy && export_add_resource(apply, object, item->descriptor, copy))
        return object;
    json_decref(object);
    return NULL;
}

static int print_dataset(const struct export_evaluations *all, const Forge__V1__Dataset *dataset)
{
    const struct manifest_kind *kind = manifest_kind_find("dataset");
    struct apply *apply = all->apply;
    Forge__V1__ListDatasetItemsRequest request = FORGE__V1__LIST_DATASET_ITEMS_REQUEST__INIT;
    ProtobufCMessage **items = NULL;
    size_t count = 0;
    int code = CLI_OK;
    field_set_text(&request.base, "dataset_id", dataset->id);
    if (dataset->latest_version > 0)
        code = apply_list(apply, FORGE_METHOD_EVALUATION_LIST_DATASET_ITEMS, &request.base, &items, &count);
    if (code != CLI_OK)
        return code;
    json_t *object = export_new_object(kind->name, all->project), *list = json_array();
    bool ok = object && list && export_add_resource(apply, object, kind->shape.type, &dataset->base);
    for (size_t i = 0; ok && i < count; i++)
        ok = json_array_append_new(list, item_json(apply, items[i])) == 0;
    if (ok && count)
        ok = json_object_set(object, kind->list, list) == 0;
    json_decref(list);
    return export_print_object(apply, object, ok);
}

/* ---- evaluations ---- */

static bool is_external(const Forge__V1__Evaluation *evaluation, const char *name)
{
    for (size_t i = 0; i < evaluation->n_evaluators; i++)
        if (!strcmp(evaluation->evaluators[i]->name, name))
            return evaluation->evaluators[i]->config_case == FORGE__V1__EVALUATOR__CONFIG_EXTERNAL;
    return false;
}

/* Scores that the caller gives; the server computes the others again. */
static void keep_external_scores(const Forge__V1__Evaluation *evaluation, Forge__V1__EvaluationResult *result)
{
    size_t kept = 0;
    for (size_t i = 0; i < result->n_evaluator_scores; i++) {
        if (!is_external(evaluation, result->evaluator_scores[i]->evaluator))
            continue;
        result->evaluator_scores[kept] = result->evaluator_scores[i];
        result->evaluator_scores[kept++]->passed = false;
    }
    result->n_evaluator_scores = kept;
}

static json_t *result_json(struct apply *apply, const Forge__V1__Evaluation *evaluation, const ProtobufCMessage *found)
{
    json_t *object = json_object();
    Forge__V1__EvaluationResult *result = (Forge__V1__EvaluationResult *)field_message_copy(&apply->cli->arena, found);
    if (result) {
        field_set_text(&result->base, "item_id", "");
        result->score = 0;
        result->passed = false;
        result->create_time = NULL;
        keep_external_scores(evaluation, result);
    }
    if (object && result && export_add_resource(apply, object, result->base.descriptor, &result->base))
        return object;
    json_decref(object);
    return NULL;
}

static bool add_fields(const struct export_evaluations *all, const struct export_models *models, json_t *object,
                       const Forge__V1__Evaluation *evaluation)
{
    const ProtobufCMessage *prompt = export_find(all->prompts, all->prompt_count, evaluation->prompt_id);
    const ProtobufCMessage *dataset = export_find(all->datasets, all->dataset_count, evaluation->dataset_id);
    const Forge__V1__AiModel *model = export_models_find(models, evaluation->model_id);
    Forge__V1__Evaluation plain = *evaluation;
    plain.dataset_version = 0; /* items are written as the dataset's only version */
    field_set_text(&plain.base, "dataset_id", "");
    return export_add(object, "prompt", json_string(field_text(prompt, "name"))) &&
           export_add(object, "dataset", json_string(field_text(dataset, "name"))) &&
           export_add_resource(all->apply, object, manifest_kind_find("evaluation")->shape.type, &plain.base) &&
           export_add(object, "pass_threshold", json_real(evaluation->pass_threshold)) &&
           (!model || export_add(object, "model", json_pack("{s:s, s:s}", "provider", model->provider_name, "name", model->name)));
}

static int print_evaluation(const struct export_evaluations *all, const struct export_models *models,
                            const Forge__V1__Evaluation *evaluation)
{
    const struct manifest_kind *kind = manifest_kind_find("evaluation");
    struct apply *apply = all->apply;
    Forge__V1__ListResultsRequest request = FORGE__V1__LIST_RESULTS_REQUEST__INIT;
    ProtobufCMessage **results;
    size_t count;
    field_set_text(&request.base, "evaluation_id", evaluation->id);
    int code = apply_list(apply, FORGE_METHOD_EVALUATION_LIST_RESULTS, &request.base, &results, &count);
    if (code != CLI_OK)
        return code;
    json_t *object = export_new_object(kind->name, all->project), *list = json_array();
    bool ok = object && list && add_fields(all, models, object, evaluation);
    for (size_t i = 0; ok && i < count; i++)
        ok = json_array_append_new(list, result_json(apply, evaluation, results[i])) == 0;
    if (ok && count)
        ok = json_object_set(object, kind->list, list) == 0;
    json_decref(list);
    return export_print_object(apply, object, ok);
}

/* A manifest tells evaluations apart by name, prompt and dataset. Newer ones stand before it. */
static bool has_newer_namesake(const struct export_evaluations *all, const Forge__V1__Evaluation *evaluation)
{
    for (size_t i = 0; i < all->evaluation_count && all->evaluations[i] != &evaluation->base; i++) {
        const Forge__V1__Evaluation *newer = (const Forge__V1__Evaluation *)all->evaluations[i];
        if (!strcmp(newer->name, evaluation->name) && !strcmp(newer->prompt_id, evaluation->prompt_id) &&
            !strcmp(newer->dataset_id, evaluation->dataset_id))
            return true;
    }
    return false;
}

/* Why it cannot be made again from a manifest; NULL when it can. */
static const char *why_not(const struct export_evaluations *all, const Forge__V1__Evaluation *evaluation)
{
    const Forge__V1__Dataset *dataset = (const Forge__V1__Dataset *)export_find(all->datasets, all->dataset_count, evaluation->dataset_id);
    if (!export_find(all->prompts, all->prompt_count, evaluation->prompt_id))
        return "its prompt is deleted";
    if (!dataset)
        return "its dataset is deleted";
    if (evaluation->dataset_version != dataset->latest_version)
        return "its dataset has a newer version";
    return has_newer_namesake(all, evaluation) ? "a newer one has the same name, prompt and dataset" : NULL;
}

/* ---- all of a project ---- */

int export_evaluations_read(struct apply *apply, const char *project_id, struct export_models *models, struct export_evaluations *out)
{
    Forge__V1__ListDatasetsRequest dataset_request = FORGE__V1__LIST_DATASETS_REQUEST__INIT;
    Forge__V1__ListEvaluationsRequest request = FORGE__V1__LIST_EVALUATIONS_REQUEST__INIT;
    out->apply = apply;
    field_set_text(&dataset_request.base, "project_id", project_id);
    field_set_text(&request.base, "project_id", project_id);
    request.state = FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_COMPLETED;
    int code = apply_list(apply, FORGE_METHOD_EVALUATION_LIST_DATASETS, &dataset_request.base, &out->datasets, &out->dataset_count);
    if (code == CLI_OK)
        code = apply_list(apply, FORGE_METHOD_EVALUATION_LIST, &request.base, &out->evaluations, &out->evaluation_count);
    for (size_t i = 0; code == CLI_OK && i < out->evaluation_count; i++)
        code = export_models_add(apply, models, field_text(out->evaluations[i], "model_id"));
    return code;
}

int export_evaluations_print(const struct export_evaluations *all, const struct export_models *models)
{
    int code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < all->dataset_count; i++)
        code = print_dataset(all, (const Forge__V1__Dataset *)all->datasets[i]);
    for (size_t i = all->evaluation_count; code == CLI_OK && i-- > 0;) { /* newest first: turned round */
        const Forge__V1__Evaluation *evaluation = (const Forge__V1__Evaluation *)all->evaluations[i];
        const char *reason = why_not(all, evaluation);
        if (reason)
            fprintf(stderr, "Evaluation %s (%s) is left out: %s.\n", evaluation->name, evaluation->id, reason);
        else
            code = print_evaluation(all, models, evaluation);
    }
    return code;
}
