/* prompt create | get | list | render. */
#include "resolve.h"

#include <string.h>

enum { VARIABLES_MAX = 256, TAGS_MAX = 64 };

static const struct output_column prompt_columns[] = {{"Id", "id"},
                                                      {"Name", "name"},
                                                      {"Description", "description"},
                                                      {"Project", "project_id"},
                                                      {"Tags", "tags"},
                                                      {"Version", "version"},
                                                      {"Label", "label"},
                                                      {"Current version", "current_version"},
                                                      {"Latest version", "latest_version"},
                                                      {"Format", "format"},
                                                      {"Model", "model_name"},
                                                      {"Parameters", "parameters"},
                                                      {"Message", "version_message"},
                                                      {"Created", "create_time"},
                                                      {"Version created", "version_create_time"},
                                                      {NULL, NULL}};
static const struct output_column prompt_list_columns[] = {{"NAME", "name"}, {"CURRENT", "current_version"}, {"LATEST", "latest_version"},
                                                           {"TAGS", "tags"}, {"CREATED", "create_time"},     {"ID", "id"},
                                                           {NULL, NULL}};

/* Text from --<name> or from the file in --<name>-file; "" if neither is given. NULL after printing what is wrong. */
static char *text_or_file(struct cli *cli, const char *name, const char *file_name)
{
    const char *text = cli_option(cli, name), *path = cli_option(cli, file_name);
    size_t size;
    if (text && path) {
        cli_fail(CLI_USAGE, "--%s and --%s exclude each other", name, file_name);
        return NULL;
    }
    return path ? cli_read_file(cli, path, &size) : forge_arena_strdup(&cli->arena, text ? text : "");
}

/* The messages of a chat or the text of a prompt, for people. The text is the answer, so it is printed as it is. */
static void print_texts(const char *system_prompt, const char *content, size_t message_count, Forge__V1__ChatMessage *const *messages,
                        bool with_heads)
{
    if (*system_prompt)
        printf("%s%s\n", with_heads || message_count || *content ? "--- system\n" : "", system_prompt);
    if (*content)
        printf("%s%s%s", with_heads || *system_prompt ? "--- content\n" : "", content, content[strlen(content) - 1] == '\n' ? "" : "\n");
    for (size_t i = 0; i < message_count; i++)
        printf("--- %s\n%s\n", messages[i]->role, messages[i]->content);
}

static int print_prompt(struct cli *cli, const ProtobufCMessage *reply)
{
    const Forge__V1__Prompt *prompt = (const Forge__V1__Prompt *)reply;
    int code = output_resource(cli, reply, prompt_columns, "id");
    if (code == CLI_OK && cli->format == CLI_FORMAT_TABLE)
        print_texts(prompt->system_prompt, prompt->content, prompt->n_messages, prompt->messages, true);
    return code;
}

static void take_tags(struct cli *cli, size_t *out_count, char ***out_tags)
{
    size_t count = cli_option_count(cli, "tag");
    char **tags = forge_arena_calloc(&cli->arena, count ? count : 1, sizeof(*tags));
    for (size_t i = 0; tags && i < count; i++)
        tags[i] = forge_arena_strdup(&cli->arena, cli_option_at(cli, "tag", i));
    *out_count = tags ? count : 0;
    *out_tags = tags;
}

int command_prompt_create(struct cli *cli)
{
    Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.name = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    request.content = text_or_file(cli, "content", "file");
    request.system_prompt = text_or_file(cli, "system", "system-file");
    request.description = text_or_file(cli, "description", "");
    request.message = text_or_file(cli, "message", "");
    if (!request.content || !request.system_prompt || !request.description || !request.message)
        return CLI_FAILED;
    if (!*request.content)
        return cli_fail(CLI_USAGE, "the prompt needs a text: --content TEXT or --file PATH (- for standard input)");
    take_tags(cli, &request.n_tags, &request.tags);
    int code = resolve_project_id(cli, &request.project_id);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_PROMPT_CREATE], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, prompt_columns, "id");
    cli_free(reply);
    return code;
}

int command_prompt_get(struct cli *cli)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    ProtobufCMessage *reply;
    int code = resolve_prompt(cli, cli->positionals[0], &request);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_PROMPT_GET], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = print_prompt(cli, reply);
    cli_free(reply);
    return code;
}

static int print_pages(struct cli *cli, Forge__V1__ListPromptsRequest *request)
{
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_PROMPT_LIST], &request->base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_list(cli, reply, "prompts", prompt_list_columns, "name");
    resolve_next_page(cli, ((const Forge__V1__ListPromptsResponse *)reply)->next_page_token);
    cli_free(reply);
    return code;
}

int command_prompt_list(struct cli *cli)
{
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    long page_size;
    if (!cli_option_number(cli, "page-size", 1, 1000, 0, &page_size))
        return CLI_USAGE;
    request.page_size = (int32_t)page_size;
    request.page_token = text_or_file(cli, "page-token", "");
    request.name_prefix = text_or_file(cli, "prefix", "");
    request.query = text_or_file(cli, "query", "");
    take_tags(cli, &request.n_tags, &request.tags);
    int code = resolve_project_id(cli, &request.project_id);
    return code == CLI_OK ? print_pages(cli, &request) : code;
}

/* name=value and name=@file. */
static int take_variable(struct cli *cli, const char *given, Forge__V1__VariableValue *variable)
{
    const char *equals = strchr(given, '=');
    if (!equals || equals == given)
        return cli_fail(CLI_USAGE, "--var must be name=value or name=@file, not \"%s\"", given);
    size_t size;
    forge__v1__variable_value__init(variable);
    variable->name = forge_arena_strndup(&cli->arena, given, (size_t)(equals - given));
    variable->value = equals[1] == '@' ? cli_read_file(cli, equals + 2, &size) : forge_arena_strdup(&cli->arena, equals + 1);
    return variable->value ? CLI_OK : CLI_FAILED;
}

static int take_variables(struct cli *cli, Forge__V1__RenderPromptRequest *request)
{
    size_t count = cli_option_count(cli, "var");
    if (count > VARIABLES_MAX)
        return cli_fail(CLI_USAGE, "more than %d variables", VARIABLES_MAX);
    Forge__V1__VariableValue *values = forge_arena_calloc(&cli->arena, count + 1, sizeof(*values));
    request->variables = forge_arena_calloc(&cli->arena, count + 1, sizeof(*request->variables));
    for (size_t i = 0; i < count; i++) {
        int code = take_variable(cli, cli_option_at(cli, "var", i), &values[i]);
        if (code != CLI_OK)
            return code;
        request->variables[request->n_variables++] = &values[i];
    }
    return CLI_OK;
}

int command_prompt_render(struct cli *cli)
{
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__GetPromptRequest prompt = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.prompt = &prompt;
    int code = take_variables(cli, &request);
    if (code == CLI_OK)
        code = resolve_prompt(cli, cli->positionals[0], &prompt);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_PROMPT_RENDER], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__RenderPromptResponse *rendered = (const Forge__V1__RenderPromptResponse *)reply;
    if (cli->format == CLI_FORMAT_TABLE)
        print_texts(rendered->system_prompt, rendered->content, rendered->n_messages, rendered->messages, false);
    else if (cli->format == CLI_FORMAT_NAME)
        printf("%s\n", rendered->prompt_id);
    else
        code = output_message(cli, reply);
    cli_free(reply);
    return code;
}
