/* The kinds of objects a manifest can hold. A new kind is a row here when it is listed by name, created and updated like the others. */
#include "manifest.h"

#include <string.h>

#define IN_PROJECT                                                                                                                         \
    {                                                                                                                                      \
        .field = "project", .id_field = "project_id", .kind = "project", .is_scope = true                                                  \
    }

#define OF_PROMPT                                                                                                                          \
    {                                                                                                                                      \
        .field = "prompt", .id_field = "prompt_id", .kind = "prompt", .is_scope = true, .is_required = true                                \
    }

/* Events and links have times and ids of their own, which would not move with the trace. */
#define SPAN_HIDDEN "start_ns", "end_ns", "events", "links", "prompt_id", "model_id", "price_id", "policy_action", "ingest_time"
#define SPAN_TEXTS                                                                                                                         \
    {                                                                                                                                      \
        "input", "output", "parameters"                                                                                                    \
    }

const struct manifest_kind manifest_kinds[] = {
    {.name = "organization",
     .style = MANIFEST_ORGANIZATION,
     .shape = {.type = &forge__v1__create_organization_request__descriptor},
     .key = "slug",
     .create = FORGE_METHOD_ORGANIZATION_CREATE,
     .lookup = FORGE_METHOD_ORGANIZATION_LIST,
     .update = FORGE_METHOD_ORGANIZATION_UPDATE,
     .prefix = "slug_prefix"},
    {.name = "user",
     .shape = {.type = &forge__v1__create_user_request__descriptor},
     .key = "email",
     .create = FORGE_METHOD_ORGANIZATION_CREATE_USER,
     .lookup = FORGE_METHOD_ORGANIZATION_LIST_USERS,
     .update = FORGE_METHOD_ORGANIZATION_UPDATE_USER,
     .prefix = "email_prefix"},
    {.name = "project",
     .shape = {.type = &forge__v1__create_project_request__descriptor},
     .key = "name",
     .create = FORGE_METHOD_PROJECT_CREATE,
     .lookup = FORGE_METHOD_PROJECT_LIST,
     .update = FORGE_METHOD_PROJECT_UPDATE,
     .prefix = "name_prefix"},
    {.name = "tag",
     .shape = {.type = &forge__v1__create_tag_request__descriptor},
     .key = "name",
     .create = FORGE_METHOD_PROMPT_CREATE_TAG,
     .lookup = FORGE_METHOD_PROMPT_LIST_TAGS,
     .update = -1,
     .prefix = "name_prefix"},
    /* Its credential is no part of a manifest: those are files that people keep and share. */
    {.name = "provider",
     .shape = {.type = &forge__v1__create_model_provider_request__descriptor, .hidden = {"credential"}},
     .key = "name",
     .create = FORGE_METHOD_ORGANIZATION_CREATE_MODEL_PROVIDER,
     .lookup = FORGE_METHOD_ORGANIZATION_LIST_MODEL_PROVIDERS,
     .update = FORGE_METHOD_ORGANIZATION_UPDATE_MODEL_PROVIDER,
     .prefix = "name_prefix"},
    {.name = "model",
     .style = MANIFEST_MODEL,
     .shape = {.type = &forge__v1__create_ai_model_request__descriptor},
     .key = "name",
     .references = {{.field = "provider", .id_field = "provider_id", .kind = "provider", .is_scope = true, .is_required = true}},
     .list = "prices",
     .list_shape = {.type = &forge__v1__set_model_price_request__descriptor, .hidden = {"model_id"}},
     .create = FORGE_METHOD_ORGANIZATION_CREATE_AI_MODEL,
     .lookup = FORGE_METHOD_ORGANIZATION_LIST_AI_MODELS,
     .update = FORGE_METHOD_ORGANIZATION_UPDATE_AI_MODEL,
     .prefix = "name_prefix"},
    {.name = "prompt",
     .style = MANIFEST_PROMPT,
     .shape = {.type = &forge__v1__create_prompt_request__descriptor, .hidden = {"model_id"}, .has_model = true},
     .key = "name",
     .references = {IN_PROJECT},
     .list = "versions",
     .list_shape = {.type = &forge__v1__create_prompt_version_request__descriptor,
                    .hidden = {"prompt_id", "expected_current", "model_id"},
                    .has_model = true},
     .create = FORGE_METHOD_PROMPT_CREATE,
     .lookup = FORGE_METHOD_PROMPT_LIST,
     .update = FORGE_METHOD_PROMPT_UPDATE,
     .prefix = "name_prefix"},
    {.name = "label",
     .style = MANIFEST_LABEL,
     .shape = {.type = &forge__v1__set_label_request__descriptor, .hidden = {"previous", "expected_version", "etag"}},
     .key = "label",
     .references = {IN_PROJECT, OF_PROMPT},
     .create = FORGE_METHOD_PROMPT_SET_LABEL,
     .lookup = FORGE_METHOD_PROMPT_LIST_LABELS,
     .update = -1},
    {.name = "execution",
     .style = MANIFEST_EXECUTION,
     .shape = {.type = &forge__v1__record_execution_request__descriptor},
     .references = {IN_PROJECT, OF_PROMPT},
     .create = FORGE_METHOD_PROMPT_RECORD_EXECUTIONS,
     .lookup = FORGE_METHOD_PROMPT_LIST_EXECUTIONS,
     .update = -1},
    {.name = "dataset",
     .style = MANIFEST_DATASET,
     .shape = {.type = &forge__v1__create_dataset_request__descriptor},
     .key = "name",
     .references = {IN_PROJECT},
     .list = "items",
     .list_shape = {.type = &forge__v1__dataset_item__descriptor, .hidden = {"id"}, .texts = {"input", "metadata"}},
     .create = FORGE_METHOD_EVALUATION_CREATE_DATASET,
     .lookup = FORGE_METHOD_EVALUATION_LIST_DATASETS,
     .update = -1,
     .prefix = "name_prefix"},
    {.name = "evaluation",
     .style = MANIFEST_EVALUATION,
     .shape = {.type = &forge__v1__create_evaluation_request__descriptor, .hidden = {"model_id"}, .has_model = true},
     .key = "name",
     .references = {IN_PROJECT,
                    OF_PROMPT,
                    {.field = "dataset", .id_field = "dataset_id", .kind = "dataset", .is_scope = true, .is_required = true}},
     .list = "results",
     .list_shape = {.type = &forge__v1__evaluation_result__descriptor,
                    .hidden = {"item_id", "score", "passed", "create_time"},
                    .texts = {"output"}},
     .create = FORGE_METHOD_EVALUATION_CREATE,
     .lookup = FORGE_METHOD_EVALUATION_LIST,
     .update = -1},
    /* Behind what a gate may ask for. A manifest names the dataset of its gate beside it. */
    {.name = "protection",
     .style = MANIFEST_PROTECTION,
     .shape = {.type = &forge__v1__protect_label_request__descriptor, .hidden = {"protected", "etag"}},
     .key = "label",
     .references = {IN_PROJECT,
                    {.field = "prompt", .id_field = "prompt_id", .kind = "prompt", .is_scope = true, .is_optional = true},
                    {.field = "dataset", .id_field = "dataset_id", .kind = "dataset", .is_optional = true}},
     .create = FORGE_METHOD_PROMPT_PROTECT_LABEL,
     .lookup = FORGE_METHOD_PROMPT_LIST_LABELS,
     .update = -1},
    /* Behind prompts: versions that were there before a policy can be made again beside it. Before traces, which it judges. */
    {.name = "policy",
     .style = MANIFEST_POLICY,
     .shape = {.type = &forge__v1__create_policy_request__descriptor},
     .key = "name",
     .references = {{.field = "project", .id_field = "project_id", .kind = "project", .is_scope = true, .is_optional = true}},
     .create = FORGE_METHOD_POLICY_CREATE,
     .lookup = FORGE_METHOD_POLICY_LIST,
     .update = FORGE_METHOD_POLICY_UPDATE,
     .prefix = "name_prefix",
     .step = "publish"},
    /* What stands beside spans holds for all of them. Start: from now, and of a span from the start of its trace. */
    {.name = "trace",
     .style = MANIFEST_TRACE,
     .shape = {.type = &forge__v1__span__descriptor, .hidden = {SPAN_HIDDEN}, .texts = SPAN_TEXTS, .has_interval = true},
     .key = "trace_id",
     .references = {IN_PROJECT, {.field = "prompt", .id_field = "prompt_id", .kind = "prompt", .is_optional = true}},
     .list = "spans",
     .list_shape = {.type = &forge__v1__span__descriptor, .hidden = {SPAN_HIDDEN, "trace_id"}, .texts = SPAN_TEXTS, .has_interval = true},
     .create = FORGE_METHOD_TRACE_INGEST_SPANS,
     .lookup = FORGE_METHOD_TRACE_GET,
     .update = -1},
    {.name = "score",
     .style = MANIFEST_SCORE,
     .shape = {.type = &forge__v1__score__descriptor, .hidden = {"id", "execution_id", "create_time", "update_time", "replaced"}},
     .references = {IN_PROJECT},
     .create = FORGE_METHOD_TRACE_RECORD_SCORES,
     .lookup = FORGE_METHOD_TRACE_LIST_SCORES,
     .update = -1},
    {.name = NULL},
};

static const struct manifest_shape nested_shapes[] = {
    {.type = &forge__v1__policy_attachment__descriptor, .hidden = {"project_id", "model_id"}, .has_model = true, .has_project = true},
    {.type = &forge__v1__allowed_models_rule__descriptor, .hidden = {"model_ids"}, .has_models = true},
    {.type = &forge__v1__output_schema_rule__descriptor, .texts = {"schema"}},
};

const struct manifest_shape *manifest_nested_shape(const ProtobufCMessageDescriptor *type)
{
    for (size_t i = 0; i < sizeof nested_shapes / sizeof nested_shapes[0]; i++)
        if (nested_shapes[i].type == type)
            return &nested_shapes[i];
    return NULL;
}

const struct manifest_kind *manifest_kind_find(const char *name)
{
    for (const struct manifest_kind *kind = manifest_kinds; kind->name; kind++)
        if (!strcmp(kind->name, name))
            return kind;
    return NULL;
}
