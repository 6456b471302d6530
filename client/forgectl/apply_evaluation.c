/* Datasets with their items, and evaluations with their results. */
#include "apply.h"
#include "apply_fields.h"
#include "result_batch.h"

#include <string.h>

enum { PROJECT, PROMPT, DATASET, BATCH = RESULT_BATCH, BATCH_BYTES = 3 << 20 };

/* How many parts from first on go into one call. Those with is_wanted false are left out; NULL = all are wanted. */
static size_t gather(const struct apply_object *object, size_t first, const bool *is_wanted, ProtobufCMessage **out, size_t *out_count)
{
    size_t bytes = 0, i = first;
    *out_count = 0;
    for (; i < object->manifest->part_count && *out_count < BATCH; i++) {
        ProtobufCMessage *part = object->manifest->parts[i];
        if (is_wanted && !is_wanted[i])
            continue;
        bytes += protobuf_c_message_get_packed_size(part);
        if (*out_count && bytes > BATCH_BYTES)
            break;
        out[(*out_count)++] = part;
    }
    return i - first;
}

static bool set_count(struct apply *apply, struct apply_object *object, size_t count, const char *what)
{
    object->details = forge_arena_printf(&apply->cli->arena, "%zu %s%s", count, what, count == 1 ? "" : "s");
    return object->details != NULL;
}

/* ---- datasets ---- */

static const Forge__V1__DatasetItem *item_of(const struct apply_object *object, size_t index)
{
    return (const Forge__V1__DatasetItem *)object->manifest->parts[index];
}

static bool check_keys(struct apply *apply, const struct apply_object *object)
{
    size_t problems = apply->manifest.problem_count;
    for (size_t i = 0; i < object->manifest->part_count; i++)
        if (!*item_of(object, i)->key)
            manifest_add_problem(&apply->manifest, &object->manifest->position,
                                 "items[%zu]: key is missing: a manifest finds an item by it", i);
    return apply->manifest.problem_count == problems;
}

static bool is_same_item(const Forge__V1__DatasetItem *wanted, const Forge__V1__DatasetItem *found)
{
    return !strcmp(wanted->key, found->key) && field_is_same_json(wanted->input, found->input) &&
           !strcmp(wanted->expected_output, found->expected_output) && field_is_same_json(wanted->metadata, found->metadata) &&
           !strcmp(wanted->source_trace_id, found->source_trace_id) && !strcmp(wanted->source_span_id, found->source_span_id);
}

static const Forge__V1__DatasetItem *find_item(const char *key, ProtobufCMessage *const *items, size_t count)
{
    size_t low = 0, high = count; /* they are listed by key */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(field_text(items[middle], "key"), key);
        if (order == 0)
            return (const Forge__V1__DatasetItem *)items[middle];
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return NULL;
}

int apply_plan_dataset(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ListDatasetItemsRequest request = FORGE__V1__LIST_DATASET_ITEMS_REQUEST__INIT;
    const Forge__V1__Dataset *found = (const Forge__V1__Dataset *)object->found;
    size_t count = 0, missing = 0, wanted = object->manifest->part_count;
    ProtobufCMessage **items = NULL;
    int code = CLI_OK;
    object->is_missing = forge_arena_calloc(&apply->cli->arena, wanted + 1, sizeof(bool));
    if (!object->is_missing)
        return cli_fail(CLI_FAILED, "no memory");
    if (!wanted || (found && apply->is_create_only) || !check_keys(apply, object))
        return CLI_OK;
    field_set_text(&request.base, "dataset_id", object->id);
    if (found && found->latest_version > 0)
        code = apply_list(apply, FORGE_METHOD_EVALUATION_LIST_DATASET_ITEMS, &request.base, &items, &count);
    if (code != CLI_OK)
        return code;
    for (size_t i = 0; i < wanted; i++) {
        const Forge__V1__DatasetItem *item = find_item(item_of(object, i)->key, items, count);
        object->is_missing[i] = !item || !is_same_item(item_of(object, i), item);
        missing += object->is_missing[i];
    }
    if (found && missing)
        object->action = APPLY_UPDATE;
    return set_count(apply, object, missing ? missing : wanted, "item") ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

int apply_run_items(struct apply *apply, struct apply_object *object)
{
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    ProtobufCMessage *batch[BATCH], *reply;
    int code = CLI_OK;
    field_set_text(&request.base, "dataset_id", object->id);
    for (size_t first = 0; code == CLI_OK && first < object->manifest->part_count;) {
        first += gather(object, first, object->is_missing, batch, &request.n_items);
        request.items = (Forge__V1__DatasetItem **)batch;
        if (request.n_items)
            code = apply_call(apply, FORGE_METHOD_EVALUATION_ADD_DATASET_ITEMS, &request.base, &reply);
    }
    return code;
}

/* ---- evaluations ---- */

static const Forge__V1__CreateEvaluationRequest *evaluation_of(const struct apply_object *object)
{
    return (const Forge__V1__CreateEvaluationRequest *)object->manifest->request;
}

static int find_model(struct apply *apply, struct apply_object *object)
{
    const char *model_id = evaluation_of(object)->model_id;
    object->models = forge_arena_calloc(&apply->cli->arena, 1, sizeof(*object->models));
    if (!object->models)
        return cli_fail(CLI_FAILED, "no memory");
    return *model_id ? apply_find_model(apply, object, model_id, &object->models[0]) : CLI_OK;
}

static bool is_in_state(const ProtobufCMessage *evaluation, Forge__V1__EvaluationState state)
{
    return evaluation && ((const Forge__V1__Evaluation *)evaluation)->state == state;
}

/* Names need not be unique: of this name with the same prompt and dataset it is the newest that is completed, as in an export, or else the
 * newest that is running. */
static int find_evaluation(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ListEvaluationsRequest request = FORGE__V1__LIST_EVALUATIONS_REQUEST__INIT;
    ProtobufCMessage **found;
    for (size_t i = 0; object->kind->references[i].field; i++) {
        if (!object->references[i]->id)
            return CLI_OK; /* of something that does not exist yet */
        field_set_text(&request.base, object->kind->references[i].id_field, object->references[i]->id);
    }
    int code = apply_list(apply, object->kind->lookup, &request.base, &found, &object->found_count);
    for (size_t i = 0; code == CLI_OK && i < object->found_count; i++) {
        bool is_completed = is_in_state(found[i], FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_COMPLETED);
        bool is_running = is_in_state(found[i], FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_RUNNING);
        if (strcmp(field_text(found[i], "name"), object->name) != 0 || !(is_completed || (is_running && !object->found)))
            continue;
        object->found = found[i];
        if (is_completed)
            break;
    }
    return code;
}

int apply_plan_evaluation(struct apply *apply, struct apply_object *object)
{
    int code = find_model(apply, object);
    if (code == CLI_OK)
        code = find_evaluation(apply, object);
    if (code != CLI_OK)
        return code;
    const Forge__V1__Evaluation *found = (const Forge__V1__Evaluation *)object->found;
    size_t count = object->manifest->part_count;
    bool is_running = is_in_state(object->found, FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_RUNNING);
    object->id = found ? found->id : NULL;
    if (!found)
        object->action = APPLY_CREATE;
    else if (is_running && count && !apply->is_create_only)
        object->action = APPLY_UPDATE; /* an earlier run was interrupted, or somebody is at it */
    return !count || set_count(apply, object, count, "result") ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

static int create(struct apply *apply, struct apply_object *object)
{
    ProtobufCMessage *request = apply_create_request(apply, object), *reply;
    if (!request)
        return cli_fail(CLI_FAILED, "no memory");
    field_set_text(request, "model_id", object->models[0] ? object->models[0]->id : "");
    int code = apply_call_once(apply, object->kind->create, request, object->found_count, &reply);
    if (code == CLI_OK)
        object->id = field_text(reply, "id");
    return code;
}

struct settling {
    const struct apply_object *object;
    int rejection; /* exit code of a rejected result, CLI_OK = none */
};

static void settle(void *context, size_t place, const Forge__V1__AddResultsVerdict *result)
{
    struct settling *settling = context;
    char part[32];
    snprintf(part, sizeof part, "results[%zu]: ", place);
    int code = apply_check_verdict(&settling->object->manifest->position, part, result->verdict);
    settling->rejection = code != CLI_OK ? code : settling->rejection;
}

static int add_results(struct apply *apply, const struct apply_object *object)
{
    struct settling settling = {.object = object};
    struct result_batch batch;
    int code = CLI_OK;
    for (size_t first = 0; code == CLI_OK && first < object->manifest->part_count;) {
        size_t count = gather(object, first, NULL, batch.results, &batch.count);
        for (size_t i = 0; i < count; i++)
            batch.places[i] = first + i;
        first += count;
        code = result_batch_send(apply->cli, object->id, &batch, settle, &settling);
    }
    return code == CLI_OK ? settling.rejection : code;
}

int apply_run_evaluation(struct apply *apply, struct apply_object *object)
{
    Forge__V1__CompleteEvaluationRequest request = FORGE__V1__COMPLETE_EVALUATION_REQUEST__INIT;
    ProtobufCMessage *reply;
    int code = object->action == APPLY_CREATE ? create(apply, object) : CLI_OK;
    if (code != CLI_OK || !object->manifest->part_count)
        return code;
    code = add_results(apply, object);
    field_set_text(&request.base, "id", object->id);
    request.allow_incomplete = true; /* the manifest says what there is */
    return code == CLI_OK ? apply_call(apply, FORGE_METHOD_EVALUATION_COMPLETE, &request.base, &reply) : code;
}
