/* prompt create | get | render | diff | watch: what is more than one call, or prints texts. */
#include "resolve.h"
#include "view.h"

#include <google/protobuf/wrappers.pb-c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    const char *model = cli_option(cli, "model");
    int code = resolve_project_id(cli, &request.project_id);
    if (code == CLI_OK && model)
        code = resolve_model_id(cli, model, &request.model_id);
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

/* ---- diff ---- */

static bool take_version(const struct cli *cli, size_t index, int32_t *out)
{
    char *end;
    const char *text = cli->positional_count > index ? cli->positionals[index] : "0";
    long version = strtol(text, &end, 10);
    if (end == text || *end || version < (cli->positional_count > index ? 1 : 0) || version > INT32_MAX) {
        cli_fail(CLI_USAGE, "a version is a number from 1, not \"%s\"", text);
        return false;
    }
    *out = (int32_t)version;
    return true;
}

int command_prompt_diff(struct cli *cli)
{
    Forge__V1__DiffPromptVersionsRequest request = FORGE__V1__DIFF_PROMPT_VERSIONS_REQUEST__INIT;
    Google__Protobuf__Int32Value context = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    ProtobufCMessage *reply;
    long lines;
    if (!cli_option_number(cli, "context", 0, 100, 3, &lines) || !take_version(cli, 1, &request.base_version) ||
        !take_version(cli, 2, &request.target_version))
        return CLI_USAGE;
    context.value = (int32_t)lines;
    request.context_lines = &context;
    int code = resolve_prompt_id(cli, cli->positionals[0], &request.prompt_id);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_PROMPT_DIFF_VERSIONS], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__DiffPromptVersionsResponse *diff = (const Forge__V1__DiffPromptVersionsResponse *)reply;
    if (cli->format == CLI_FORMAT_TABLE)
        view_diff(stdout, &cli->terminal, diff);
    else if (cli->format == CLI_FORMAT_NAME)
        for (size_t i = 0; i < diff->n_diffs; i++)
            printf("%s\n", diff->diffs[i]->field);
    else
        code = output_message(cli, reply);
    cli_free(reply);
    return code;
}

/* ---- watch ---- */

enum { WATCH_WAIT_MS = 30000, WATCH_DEADLINE_MS = 35000, WATCH_PAUSE_S = 1 };

static void print_changes(struct cli *cli, const Forge__V1__WatchPromptsResponse *reply)
{
    for (size_t i = 0; i < reply->n_changes; i++) {
        const Forge__V1__PromptChange *change = reply->changes[i];
        bool deleted = change->kind == FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_DELETED;
        if (cli->format == CLI_FORMAT_NAME)
            printf("%s\n", change->prompt_id);
        else if (cli->format == CLI_FORMAT_TABLE)
            printf("%s  %s\n", deleted ? "deleted" : "changed", change->prompt_id);
        else
            output_message(cli, &change->base);
    }
    fflush(stdout);
}

/* The first reply is a listing, which is not printed: only what changes afterwards is. An unreachable server is asked again: the token
 * keeps its place. */
int command_prompt_watch(struct cli *cli)
{
    Forge__V1__WatchPromptsRequest request = FORGE__V1__WATCH_PROMPTS_REQUEST__INIT;
    bool listed = false, changed = false;
    int code = resolve_project_id(cli, &request.project_id);
    if (code == CLI_OK)
        code = cli_connect(cli);
    request.wait_ms = WATCH_WAIT_MS;
    cli->timeout_ms = WATCH_DEADLINE_MS;
    while (code == CLI_OK && !(changed && cli_option(cli, "once"))) {
        ProtobufCMessage *message;
        struct forge_error error;
        struct forge_reply_info info;
        forge_code rc = cli_try_call(cli, &forge_methods[FORGE_METHOD_PROMPT_WATCH], &request.base, 0, &message, &error, &info);
        if (rc == FORGE_UNAVAILABLE || rc == FORGE_DEADLINE_EXCEEDED) {
            forge_error_free(&error);
            sleep(WATCH_PAUSE_S);
            continue;
        }
        if (rc != FORGE_OK)
            return cli_print_error(&error, &info);
        const Forge__V1__WatchPromptsResponse *reply = (const Forge__V1__WatchPromptsResponse *)message;
        if (listed || !reply->listing)
            print_changes(cli, reply);
        changed = changed || ((listed || !reply->listing) && reply->n_changes > 0);
        listed = listed || !reply->more;
        request.resume_token = forge_arena_strdup(&cli->arena, reply->resume_token);
        cli_free(message);
        if (!request.resume_token)
            code = cli_fail(CLI_FAILED, "no memory");
    }
    return code;
}
