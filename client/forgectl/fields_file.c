#include "fields_file.h"

#include "manifest.h"
#include "policy_names.h"
#include "resolve.h"

#include <string.h>

static const struct manifest_shape evaluation_shape = {.type = &forge__v1__create_evaluation_request__descriptor,
                                                       .hidden = {"project_id", "prompt_id", "dataset_id", "model_id"}};
/* For UpdatePolicy too: what both take has the same names. */
static const struct manifest_shape policy_shape = {.type = &forge__v1__create_policy_request__descriptor, .hidden = {"project_id", "name"}};

static int find_project(void *context, const char *name, const char **out_id)
{
    char *id = NULL;
    int code = resolve_project_text(context, name, &id);
    *out_id = id;
    return code;
}

static int find_model(void *context, const char *provider_and_name, const char **out_id)
{
    struct cli *cli = context;
    const char *name = strchr(provider_and_name, '\n');
    const char *provider = forge_arena_strndup(&cli->arena, provider_and_name, (size_t)(name - provider_and_name));
    char *id = NULL;
    int code = provider ? resolve_model_of(cli, provider, name + 1, &id) : cli_fail(CLI_FAILED, "no memory");
    *out_id = id;
    return code;
}

static int name_ids(struct cli *cli, const Forge__V1__CreatePolicyRequest *policy)
{
    const struct policy_names names = {.project = find_project, .model = find_model, .context = cli};
    return policy_names_replace(&names, &cli->arena, policy->rules, policy->n_rules, policy->attachments, policy->n_attachments);
}

int fields_file_take(struct cli *cli, const ProtobufCMessageDescriptor *request, const char *path, json_t **out)
{
    static const struct forge_json_options options = {.pretty = false};
    bool is_evaluation = request == evaluation_shape.type;
    struct manifest manifest = {.arena = &cli->arena};
    size_t size;
    char *text = cli_read_file(cli, path, &size);
    if (!text)
        return CLI_FAILED;
    const ProtobufCMessage *message = manifest_read_message(&manifest, path, text, size, is_evaluation ? &evaluation_shape : &policy_shape);
    for (const struct manifest_problem *problem = manifest.problems; problem; problem = problem->next)
        cli_fail(CLI_FAILED, "%s", problem->text);
    if (!message)
        return CLI_FAILED;
    int code = is_evaluation ? CLI_OK : name_ids(cli, (const Forge__V1__CreatePolicyRequest *)message);
    if (code != CLI_OK)
        return code;
    const char *json = forge_json_from_message(message, &options, &cli->arena);
    *out = json ? json_loads(json, 0, NULL) : NULL;
    return *out ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}
