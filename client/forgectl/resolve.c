#include "resolve.h"

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

int resolve_project_id(struct cli *cli, char **out_id)
{
    const char *project = cli_setting(cli, "project", "FORGE_PROJECT", cli_context(cli)->project);
    if (!project)
        return cli_fail(CLI_USAGE, "which project? --project, FORGE_PROJECT, or forgectl context set <name> --project");
    if (resolve_is_id(project)) {
        *out_id = forge_arena_strdup(&cli->arena, project);
        return CLI_OK;
    }
    ProtobufCMessage *reply;
    int code = resolve_project(cli, project, &reply);
    if (code != CLI_OK)
        return code;
    *out_id = forge_arena_strdup(&cli->arena, ((const Forge__V1__Project *)reply)->id);
    cli_free(reply);
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
    return CLI_OK;
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
