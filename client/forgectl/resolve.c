#include "resolve.h"

#include "apply_fields.h"

#include <ctype.h>
#include <string.h>

bool resolve_is_id(const char *text)
{
    if (strlen(text) != 36)
        return false;
    for (size_t i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    return true;
}

int resolve_project(struct cli *cli, const char *id_or_name, ProtobufCMessage **out_reply)
{
    Forge__V1__GetProjectRequest request = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    char *text = forge_arena_strdup(&cli->arena, id_or_name);
    if (resolve_is_id(id_or_name))
        request.id = text;
    else
        request.name = text;
    return cli_call(cli, &forge_methods[FORGE_METHOD_PROJECT_GET], &request.base, out_reply);
}

/* The "id" of a reply, in the arena; frees the reply. */
static int take_reply_id(struct cli *cli, ProtobufCMessage *reply, char **out_id)
{
    *out_id = forge_arena_strdup(&cli->arena, output_field_text(cli, reply, "id"));
    cli_free(reply);
    return *out_id ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

/* Is it an id already? Then it is taken as it is. */
static bool take_id(struct cli *cli, const char *text, char **out_id)
{
    bool is_id = resolve_is_id(text);
    if (is_id)
        *out_id = forge_arena_strdup(&cli->arena, text);
    return is_id;
}

int resolve_project_text(struct cli *cli, const char *id_or_name, char **out_id)
{
    ProtobufCMessage *reply;
    if (take_id(cli, id_or_name, out_id))
        return CLI_OK;
    int code = resolve_project(cli, id_or_name, &reply);
    return code == CLI_OK ? take_reply_id(cli, reply, out_id) : code;
}

int resolve_project_id(struct cli *cli, char **out_id)
{
    const char *project = cli_setting(cli, "project", "FORGE_PROJECT", cli_context(cli)->project);
    if (!project)
        return cli_fail(CLI_USAGE, "which project? --project, FORGE_PROJECT, or forgectl context set <name> --project");
    return resolve_project_text(cli, project, out_id);
}

/* The id of what has a name in --project: the method's request has name and project_id, its reply has id. */
static int resolve_in_project(struct cli *cli, int method, const char *id_or_name, char **out_id)
{
    ProtobufCMessage *request = field_message_new(&cli->arena, forge_methods[method].input), *reply;
    char *project_id, *name = forge_arena_strdup(&cli->arena, id_or_name);
    if (take_id(cli, id_or_name, out_id))
        return CLI_OK;
    if (!request || !name)
        return cli_fail(CLI_FAILED, "no memory");
    int code = resolve_project_id(cli, &project_id);
    if (code != CLI_OK)
        return code;
    field_set_text(request, "name", name);
    field_set_text(request, "project_id", project_id);
    code = cli_call(cli, &forge_methods[method], request, &reply);
    return code == CLI_OK ? take_reply_id(cli, reply, out_id) : code;
}

int resolve_prompt_id(struct cli *cli, const char *id_or_name, char **out_id)
{
    return resolve_in_project(cli, FORGE_METHOD_PROMPT_GET, id_or_name, out_id);
}

int resolve_dataset_id(struct cli *cli, const char *id_or_name, char **out_id)
{
    return resolve_in_project(cli, FORGE_METHOD_EVALUATION_GET_DATASET, id_or_name, out_id);
}

int resolve_user_id(struct cli *cli, const char *id_or_email, char **out_id)
{
    Forge__V1__GetUserRequest request = FORGE__V1__GET_USER_REQUEST__INIT;
    ProtobufCMessage *reply;
    if (take_id(cli, id_or_email, out_id))
        return CLI_OK;
    request.email = forge_arena_strdup(&cli->arena, id_or_email);
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_GET_USER], &request.base, &reply);
    return code == CLI_OK ? take_reply_id(cli, reply, out_id) : code;
}

/* The API has no look-up of accounts by name; the list by prefix begins with the name itself. */
int resolve_account_id(struct cli *cli, const char *id_or_name, char **out_id)
{
    Forge__V1__ListServiceAccountsRequest request = FORGE__V1__LIST_SERVICE_ACCOUNTS_REQUEST__INIT;
    ProtobufCMessage *reply;
    if (take_id(cli, id_or_name, out_id))
        return CLI_OK;
    request.name_prefix = forge_arena_strdup(&cli->arena, id_or_name);
    request.page_size = 1;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_LIST_SERVICE_ACCOUNTS], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__ListServiceAccountsResponse *list = (const Forge__V1__ListServiceAccountsResponse *)reply;
    bool found = list->n_service_accounts == 1 && strcmp(list->service_accounts[0]->name, id_or_name) == 0;
    *out_id = found ? forge_arena_strdup(&cli->arena, list->service_accounts[0]->id) : NULL;
    cli_free(reply);
    return found ? CLI_OK : cli_fail(CLI_STATUS + FORGE_NOT_FOUND, "NOT_FOUND: there is no service account \"%s\"", id_or_name);
}

int resolve_provider_id(struct cli *cli, const char *id_or_name, char **out_id)
{
    Forge__V1__GetModelProviderRequest request = FORGE__V1__GET_MODEL_PROVIDER_REQUEST__INIT;
    ProtobufCMessage *reply;
    if (take_id(cli, id_or_name, out_id))
        return CLI_OK;
    request.name = forge_arena_strdup(&cli->arena, id_or_name);
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_GET_MODEL_PROVIDER], &request.base, &reply);
    return code == CLI_OK ? take_reply_id(cli, reply, out_id) : code;
}

/* Takes the one model of the list that is named so; those come first. */
static int take_model(struct cli *cli, const Forge__V1__ListAiModelsResponse *list, const char *name, char **out_id)
{
    size_t count = 0;
    while (count < list->n_ai_models && !strcmp(list->ai_models[count]->name, name))
        count++;
    if (count == 0)
        return cli_fail(CLI_STATUS + FORGE_NOT_FOUND, "NOT_FOUND: there is no model \"%s\"", name);
    if (count > 1)
        return cli_fail(CLI_USAGE, "%s and %s both have a model \"%s\": give its id, or --provider where the command has it",
                        list->ai_models[0]->provider_name, list->ai_models[1]->provider_name, name);
    *out_id = forge_arena_strdup(&cli->arena, list->ai_models[0]->id);
    return *out_id ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

int resolve_model_id(struct cli *cli, const char *id_or_name, char **out_id)
{
    return take_id(cli, id_or_name, out_id) ? CLI_OK : resolve_model_of(cli, cli_option(cli, "provider"), id_or_name, out_id);
}

int resolve_model_of(struct cli *cli, const char *provider, const char *name, char **out_id)
{
    Forge__V1__ListAiModelsRequest request = FORGE__V1__LIST_AI_MODELS_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.name_prefix = forge_arena_strdup(&cli->arena, name);
    request.page_size = 2;
    int code = provider ? resolve_provider_id(cli, provider, &request.provider_id) : CLI_OK;
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_LIST_AI_MODELS], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = take_model(cli, (const Forge__V1__ListAiModelsResponse *)reply, name, out_id);
    cli_free(reply);
    return code;
}

/* Takes the one policy that is named so; those come first. In a project its own one goes before the organization's. */
static int take_policy(struct cli *cli, const Forge__V1__ListPoliciesResponse *list, const char *name, bool is_in_project, char **out_id)
{
    const Forge__V1__Policy *found = NULL;
    size_t count = 0;
    for (; count < list->n_policies && !strcmp(list->policies[count]->name, name); count++)
        if (!found || *list->policies[count]->project_id)
            found = list->policies[count];
    if (!found)
        return cli_fail(CLI_STATUS + FORGE_NOT_FOUND, "NOT_FOUND: there is no policy \"%s\"", name);
    if (count > 1 && !is_in_project)
        return cli_fail(CLI_USAGE, "there are several policies \"%s\": give its id, or --project", name);
    *out_id = forge_arena_strdup(&cli->arena, found->id);
    return *out_id ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

int resolve_policy_id(struct cli *cli, const char *id_or_name, char **out_id)
{
    Forge__V1__ListPoliciesRequest request = FORGE__V1__LIST_POLICIES_REQUEST__INIT;
    const char *project = cli_option(cli, "project");
    ProtobufCMessage *reply;
    if (take_id(cli, id_or_name, out_id))
        return CLI_OK;
    request.name_prefix = forge_arena_strdup(&cli->arena, id_or_name);
    request.page_size = 2;
    request.include_organization = project != NULL;
    int code = project ? resolve_project_text(cli, project, &request.project_id) : CLI_OK;
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_POLICY_LIST], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = take_policy(cli, (const Forge__V1__ListPoliciesResponse *)reply, id_or_name, project != NULL, out_id);
    cli_free(reply);
    return code;
}

/* --as-of, read as the API reads times in JSON. */
static int take_as_of(struct cli *cli, Forge__V1__GetPromptRequest *request)
{
    const char *text = cli_option(cli, "as-of");
    ProtobufCMessage *read;
    struct forge_error error = {0};
    if (!text)
        return CLI_OK;
    bool plain = strspn(text, "0123456789-:.+TZtz") == strlen(text);
    char *json = plain ? forge_arena_printf(&cli->arena, "{\"as_of\":\"%s\"}", text) : NULL;
    if (!json || forge_json_to_message(json, strlen(json), request->base.descriptor, &cli->arena, &read, &error) != FORGE_OK)
        return cli_fail(CLI_USAGE, "--as-of must be a time such as 2026-11-28T12:00:00Z, not \"%s\"", text);
    request->as_of = ((const Forge__V1__GetPromptRequest *)read)->as_of;
    return CLI_OK;
}

static int take_selector(struct cli *cli, Forge__V1__GetPromptRequest *request)
{
    const char *label = cli_option(cli, "label"), *subject = cli_option(cli, "subject");
    long version;
    if (!cli_option_number(cli, "version", 1, INT32_MAX, 0, &version))
        return CLI_USAGE;
    if (label && version)
        return cli_fail(CLI_USAGE, "--version and --label exclude each other");
    if (version) {
        request->selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
        request->version = (int32_t)version;
    }
    if (label) {
        request->selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
        request->label = forge_arena_strdup(&cli->arena, label);
    }
    if (subject)
        request->subject = forge_arena_strdup(&cli->arena, subject);
    return take_as_of(cli, request);
}

int resolve_prompt(struct cli *cli, const char *id_or_name, Forge__V1__GetPromptRequest *request)
{
    int code = take_selector(cli, request);
    if (code != CLI_OK)
        return code;
    if (resolve_is_id(id_or_name)) {
        request->id = forge_arena_strdup(&cli->arena, id_or_name);
        return CLI_OK;
    }
    request->name = forge_arena_strdup(&cli->arena, id_or_name);
    return resolve_project_id(cli, &request->project_id);
}

void resolve_next_page(const struct cli *cli, const char *next_page_token)
{
    if (*next_page_token && (cli->format == CLI_FORMAT_TABLE || cli->format == CLI_FORMAT_NAME))
        fprintf(stderr, "There is more: --page-token %s\n", next_page_token);
}
