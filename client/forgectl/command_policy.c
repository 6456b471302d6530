/* policy check: a text in, what policies say out. */
#include "duration.h"
#include "output.h"
#include "resolve.h"
#include "view.h"

#include <string.h>

enum { NS_PER_MS = 1000000 };

/* ---- the request ---- */

/* A text by an option, or the content of a file by another one. */
static int take_text(struct cli *cli, const char *option, const char *file_option, char **out)
{
    const char *text = cli_option(cli, option), *path = cli_option(cli, file_option);
    size_t size;
    if (text && path)
        return cli_fail(CLI_USAGE, "--%s and --%s exclude each other", option, file_option);
    if (!text && !path)
        return CLI_OK;
    *out = text ? forge_arena_strdup(&cli->arena, text) : cli_read_file(cli, path, &size);
    if (!*out)
        return text ? cli_fail(CLI_FAILED, "no memory") : CLI_FAILED;
    return path && strlen(*out) != size ? cli_fail(CLI_FAILED, "%s holds a NUL character", path) : CLI_OK;
}

static int take_texts(struct cli *cli, Forge__V1__CheckPoliciesRequest *request)
{
    const char *input = cli_option(cli, "input-file"), *output = cli_option(cli, "output-file");
    if (input && output && !strcmp(input, "-") && !strcmp(output, "-"))
        return cli_fail(CLI_USAGE, "standard input is either the input or the output");
    int code = take_text(cli, "input", "input-file", &request->input);
    return code == CLI_OK ? take_text(cli, "output-text", "output-file", &request->output) : code;
}

static bool take_count(const struct cli *cli, const char *option, int64_t *out, bool *any)
{
    long number;
    if (!cli_option_number(cli, option, 0, INT32_MAX, 0, &number))
        return false;
    *out = number;
    *any |= cli_option(cli, option) != NULL;
    return true;
}

static int take_usage(const struct cli *cli, Forge__V1__CheckPoliciesRequest *request, Forge__V1__TokenUsage *usage)
{
    bool any = false;
    if (!take_count(cli, "input-tokens", &usage->input_tokens, &any) ||
        !take_count(cli, "cache-read-tokens", &usage->cache_read_tokens, &any) ||
        !take_count(cli, "cache-write-tokens", &usage->cache_write_tokens, &any) ||
        !take_count(cli, "output-tokens", &usage->output_tokens, &any) ||
        !take_count(cli, "reasoning-tokens", &usage->reasoning_tokens, &any))
        return CLI_USAGE;
    request->usage = any ? usage : NULL;
    return CLI_OK;
}

static int take_figures(const struct cli *cli, Forge__V1__CheckPoliciesRequest *request)
{
    const char *latency = cli_option(cli, "latency");
    long cost, version;
    int64_t ns = 0;
    if (!cli_option_number(cli, "cost-micros", 1, INT32_MAX, 0, &cost) || !cli_option_number(cli, "version", 1, INT32_MAX, 0, &version))
        return CLI_USAGE;
    if (latency && (!duration_parse(latency, &ns) || ns < NS_PER_MS))
        return cli_fail(CLI_USAGE, "--latency must be a duration of 1ms or more, such as 850ms or 2s, not \"%s\"", latency);
    request->cost_micros = cost;
    request->prompt_version = (int32_t)version;
    request->latency_ms = ns / NS_PER_MS;
    return CLI_OK;
}

static int take_names(struct cli *cli, Forge__V1__CheckPoliciesRequest *request)
{
    const char *model = cli_option(cli, "model"), *label = cli_option(cli, "label"), *subject = cli_option(cli, "subject");
    const char *prompt = cli_option(cli, "prompt");
    if (model && resolve_is_id(model))
        request->model_id = forge_arena_strdup(&cli->arena, model);
    else if (model)
        request->model = forge_arena_strdup(&cli->arena, model);
    if (label)
        request->label = forge_arena_strdup(&cli->arena, label);
    if (subject)
        request->subject = forge_arena_strdup(&cli->arena, subject);
    int code = resolve_project_id(cli, &request->project_id);
    return code == CLI_OK && prompt ? resolve_prompt_id(cli, prompt, &request->prompt_id) : code;
}

/* ---- the command ---- */

static int print_answer(struct cli *cli, const Forge__V1__CheckPoliciesRequest *request, const Forge__V1__CheckPoliciesResponse *answer)
{
    if (cli->format == CLI_FORMAT_TABLE)
        view_policy_check(stdout, &cli->terminal, &cli->arena, request, answer);
    else if (cli->format == CLI_FORMAT_NAME)
        printf("%s\n", answer->allowed ? "allowed" : "blocked");
    else
        return output_message(cli, &answer->base);
    return CLI_OK;
}

int command_policy_check(struct cli *cli)
{
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    ProtobufCMessage *reply;
    int code = take_usage(cli, &request, &usage);
    if (code == CLI_OK)
        code = take_figures(cli, &request);
    if (code == CLI_OK)
        code = take_texts(cli, &request);
    if (code == CLI_OK)
        code = take_names(cli, &request);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_POLICY_CHECK], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    const Forge__V1__CheckPoliciesResponse *answer = (const Forge__V1__CheckPoliciesResponse *)reply;
    code = print_answer(cli, &request, answer);
    if (code == CLI_OK && !answer->allowed)
        code = CLI_BLOCKED;
    cli_free(reply);
    return code;
}
