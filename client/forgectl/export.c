/* export: a project, or one of its prompts, as a manifest that apply takes as it is. */
#include "export.h"

#include "apply_fields.h"
#include "json_text.h"
#include "output.h"
#include "resolve.h"

#include <stdlib.h>
#include <string.h>

bool export_add(json_t *object, const char *name, json_t *value)
{
    return object && json_object_set_new(object, name, value) == 0;
}

/* Adds the fields of a message that are not at their defaults. */
static bool add_fields(struct cli *cli, json_t *object, const ProtobufCMessage *message)
{
    static const struct forge_json_options options = {.pretty = false};
    const char *text = forge_json_from_message(message, &options, &cli->arena);
    json_t *fields = text ? json_loads(text, 0, NULL) : NULL;
    bool ok = fields && json_object_update(object, fields) == 0;
    json_decref(fields);
    return ok;
}

bool export_add_resource(struct apply *apply, json_t *object, const ProtobufCMessageDescriptor *type, const ProtobufCMessage *resource)
{
    ProtobufCMessage *request = field_message_new(&apply->cli->arena, type);
    if (!request)
        return false;
    field_copy_all(request, resource);
    field_set_text(request, "project_id", ""); /* names stand for ids */
    field_set_text(request, "prompt_id", "");
    field_set_text(request, "provider_id", "");
    field_set_text(request, "model_id", "");
    return add_fields(apply->cli, object, request);
}

json_t *export_new_object(const char *kind, const char *project)
{
    json_t *object = json_object();
    if (export_add(object, "kind", json_string(kind)) && (!project || export_add(object, "project", json_string(project))))
        return object;
    json_decref(object);
    return NULL;
}

int export_print_object(struct apply *apply, json_t *object, bool is_whole)
{
    char *text = object && is_whole ? json_text(object) : NULL;
    json_decref(object);
    bool ok =
        text && (apply->cli->format == CLI_FORMAT_JSON ? printf("%s\n", text) > 0 : puts("---") >= 0 && yaml_print_json(text, stdout));
    free(text);
    return ok ? CLI_OK : cli_fail(CLI_FAILED, "cannot print the manifest");
}

const ProtobufCMessage *export_find(ProtobufCMessage *const *messages, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(field_text(messages[i], "id"), id))
            return messages[i];
    return NULL;
}

/* A prompt with its versions, newest first. */
struct exported {
    const Forge__V1__Prompt *prompt;
    ProtobufCMessage **versions;
    size_t version_count;
};

static json_t *version_json(struct apply *apply, const struct export_models *models, const Forge__V1__PromptVersion *version, bool is_last)
{
    const Forge__V1__AiModel *model = export_models_find(models, version->model_id);
    json_t *object = json_object();
    bool ok = object && export_add_resource(apply, object, &forge__v1__create_prompt_version_request__descriptor, &version->base);
    if (ok && version->current && !is_last)
        ok = export_add(object, "make_current", json_true());
    if (ok && model)
        ok = export_add(object, "model", json_pack("{s:s, s:s}", "provider", model->provider_name, "name", model->name));
    if (ok)
        return object;
    json_decref(object);
    return NULL;
}

/* The oldest first, as they are made again. A single one stands beside the prompt's name. */
static bool add_versions(struct apply *apply, const struct export_models *models, json_t *object, const struct exported *exported)
{
    size_t count = exported->version_count;
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = count; ok && i-- > 0;)
        ok = json_array_append_new(list, version_json(apply, models, (const Forge__V1__PromptVersion *)exported->versions[i], i == 0)) == 0;
    if (ok)
        ok = count == 1 ? json_object_update(object, json_array_get(list, 0)) == 0 : json_object_set(object, "versions", list) == 0;
    json_decref(list);
    return ok;
}

/* A listing has no texts; a prompt that was fetched has those of its current version, which stand in the versions. */
static int export_prompt(struct apply *apply, const struct export_models *models, const struct exported *exported, const char *project)
{
    const struct manifest_kind *kind = manifest_kind_find("prompt");
    Forge__V1__Prompt plain = FORGE__V1__PROMPT__INIT;
    plain.name = exported->prompt->name;
    plain.description = exported->prompt->description;
    plain.n_tags = exported->prompt->n_tags;
    plain.tags = exported->prompt->tags;
    json_t *object = export_new_object(kind->name, project);
    bool ok = object && export_add_resource(apply, object, kind->shape.type, &plain.base) && add_versions(apply, models, object, exported);
    return export_print_object(apply, object, ok);
}

static int export_executions(struct apply *apply, const ProtobufCMessage *prompt, const char *project)
{
    const struct manifest_kind *kind = manifest_kind_find("execution");
    Forge__V1__ListExecutionsRequest request = FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    ProtobufCMessage **executions;
    size_t count;
    field_set_text(&request.base, "prompt_id", field_text(prompt, "id"));
    int code = apply_list(apply, kind->lookup, &request.base, &executions, &count);
    for (size_t i = count; code == CLI_OK && i-- > 0;) { /* newest first: turned round */
        const Forge__V1__Execution *execution = (const Forge__V1__Execution *)executions[i];
        json_t *object = export_new_object(kind->name, project);
        bool ok = export_add(object, "prompt", json_string(field_text(prompt, "name"))) &&
                  export_add_resource(apply, object, kind->shape.type, &execution->base);
        if (ok && !execution->success)
            ok = export_add(object, "success", json_false());
        code = export_print_object(apply, object, ok);
    }
    return code;
}

/* The tags that these prompts have, each once, in the order of their names. */
static int export_tags(struct apply *apply, ProtobufCMessage *const *prompts, size_t count)
{
    json_t *seen = json_object();
    int code = seen ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
    for (size_t i = 0; i < count; i++) {
        const Forge__V1__Prompt *prompt = (const Forge__V1__Prompt *)prompts[i];
        for (size_t j = 0; j < prompt->n_tags && code == CLI_OK; j++) {
            if (json_object_get(seen, prompt->tags[j]))
                continue;
            json_object_set_new(seen, prompt->tags[j], json_true());
            json_t *object = export_new_object("tag", NULL);
            code = export_print_object(apply, object, export_add(object, "name", json_string(prompt->tags[j])));
        }
    }
    json_decref(seen);
    return code;
}

static int export_project(struct apply *apply, const char *id, const char **out_name)
{
    const struct manifest_kind *kind = manifest_kind_find("project");
    Forge__V1__GetProjectRequest request = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    ProtobufCMessage *project;
    field_set_text(&request.base, "id", id);
    int code = apply_call(apply, FORGE_METHOD_PROJECT_GET, &request.base, &project);
    if (code != CLI_OK)
        return code;
    *out_name = field_text(project, "name");
    json_t *object = export_new_object(kind->name, NULL);
    return export_print_object(apply, object, object && export_add_resource(apply, object, kind->shape.type, project));
}

static int find_prompts(struct apply *apply, char *project_id, ProtobufCMessage ***out, size_t *out_count)
{
    if (!apply->cli->positional_count) {
        Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
        request.project_id = project_id;
        return apply_list(apply, FORGE_METHOD_PROMPT_LIST, &request.base, out, out_count);
    }
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    int code = resolve_prompt(apply->cli, apply->cli->positionals[0], &request);
    *out = forge_arena_calloc(&apply->cli->arena, 1, sizeof(**out));
    *out_count = 1;
    if (code != CLI_OK || !*out)
        return code != CLI_OK ? code : cli_fail(CLI_FAILED, "no memory");
    return apply_call(apply, FORGE_METHOD_PROMPT_GET, &request.base, *out);
}

/* The versions of a prompt and the models that they are for. */
static int read_versions(struct apply *apply, struct export_models *models, struct exported *exported)
{
    Forge__V1__ListPromptVersionsRequest request = FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    field_set_text(&request.base, "prompt_id", exported->prompt->id);
    request.view = FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    int code = apply_list(apply, FORGE_METHOD_PROMPT_LIST_VERSIONS, &request.base, &exported->versions, &exported->version_count);
    for (size_t i = 0; i < exported->version_count && code == CLI_OK; i++)
        code = export_models_add(apply, models, ((const Forge__V1__PromptVersion *)exported->versions[i])->model_id);
    return code;
}

/* project_id and project are NULL for a single prompt. */
static int export_all(struct apply *apply, ProtobufCMessage *const *prompts, size_t count, const char *project_id, const char *project)
{
    struct exported *exported = forge_arena_calloc(&apply->cli->arena, count + 1, sizeof(*exported));
    struct export_models models = {0};
    struct export_policies policies = {.project = project};
    struct export_evaluations evaluations = {.apply = apply, .project = project, .prompts = prompts, .prompt_count = count};
    int code = exported ? export_tags(apply, prompts, count) : cli_fail(CLI_FAILED, "no memory");
    for (size_t i = 0; i < count && code == CLI_OK; i++) {
        exported[i].prompt = (const Forge__V1__Prompt *)prompts[i];
        code = read_versions(apply, &models, &exported[i]);
    }
    if (code == CLI_OK && cli_option(apply->cli, "evaluations"))
        code = export_evaluations_read(apply, project_id, &models, &evaluations);
    if (code == CLI_OK && project_id)
        code = export_policies_read(apply, project_id, &models, &policies);
    if (code == CLI_OK)
        code = export_models_print(apply, &models);
    for (size_t i = 0; i < count && code == CLI_OK; i++) {
        code = export_prompt(apply, &models, &exported[i], project);
        if (code == CLI_OK)
            code = export_labels(apply, exported[i].prompt, project);
        if (code == CLI_OK && cli_option(apply->cli, "executions"))
            code = export_executions(apply, &exported[i].prompt->base, project);
    }
    if (code == CLI_OK)
        code = export_evaluations_print(&evaluations, &models);
    return code == CLI_OK ? export_policies_print(&policies) : code;
}

/* What exclude each other. */
static int check_options(const struct cli *cli)
{
    bool has_parts = cli_option(cli, "executions") || cli_option(cli, "evaluations");
    bool is_of_all = cli_option(cli, "models") || cli_option(cli, "policies");
    if (cli->has_format && cli->format != CLI_FORMAT_YAML && cli->format != CLI_FORMAT_JSON)
        return cli_fail(CLI_USAGE, "export prints yaml (or json, an object a line)");
    if (is_of_all && (cli->positional_count || has_parts || (cli_option(cli, "models") && cli_option(cli, "policies"))))
        return cli_fail(CLI_USAGE, "--%s is for all %s of the organization: no prompt and no other option of this kind with it",
                        cli_option(cli, "models") ? "models" : "policies", cli_option(cli, "models") ? "models" : "policies");
    if (cli_option(cli, "evaluations") && cli->positional_count)
        return cli_fail(CLI_USAGE, "--evaluations is for a whole project: no prompt with it");
    return CLI_OK;
}

int command_export(struct cli *cli)
{
    struct apply apply = {.cli = cli};
    char *project_id = NULL;
    const char *project = NULL;
    ProtobufCMessage **prompts;
    size_t count;
    int code = check_options(cli);
    if (code != CLI_OK)
        return code;
    if (cli_option(cli, "models"))
        return export_models_all(&apply);
    if (cli_option(cli, "policies"))
        return export_policies_all(&apply);
    code = cli->positional_count ? CLI_OK : resolve_project_id(cli, &project_id);
    if (code == CLI_OK)
        code = find_prompts(&apply, project_id, &prompts, &count);
    if (code == CLI_OK && project_id)
        code = export_project(&apply, project_id, &project);
    if (code == CLI_OK)
        code = export_all(&apply, prompts, count, project_id, project);
    return code == CLI_OK && project_id ? export_project_rules(&apply, project_id, project) : code;
}
