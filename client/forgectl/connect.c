/* The connection of an invocation: settings, calls, errors. */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int cli_fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("forgectl: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return code;
}

const struct context *cli_context(struct cli *cli)
{
    static const struct context none;
    const char *name = cli_option(cli, "context");
    const struct context *context = context_file_find(&cli->contexts, name ? name : cli->contexts.current);
    return context ? context : &none;
}

const char *cli_setting(struct cli *cli, const char *option, const char *variable, const char *in_context)
{
    const char *value = option ? cli_option(cli, option) : NULL;
    if (!value && variable)
        value = getenv(variable);
    if ((!value || !*value) && in_context)
        value = in_context;
    return value && *value ? value : NULL;
}

int cli_connect_as(struct cli *cli, const char *token)
{
    const struct context *context = cli_context(cli);
    const char *name = cli_option(cli, "context");
    if (name && !context->name[0] && strcmp(cli->path, "forgectl login") != 0)
        return cli_fail(CLI_FAILED, "there is no context \"%s\"; see forgectl context list", name);
    const char *server = cli_setting(cli, "server", "FORGE_SERVER", context->server);
    struct forge_channel_options options = {
        .addresses = server ? server : "localhost:7443",
        .ca_file = cli_setting(cli, "ca", "FORGE_CA", context->ca),
        .token = token,
        .client_info = "forgectl",
        .reply_bytes_max = 16 << 20,
    };
    struct forge_error error;
    forge_channel_close(cli->channel);
    cli->channel = NULL;
    if (forge_channel_open(&options, &cli->channel, &error) == FORGE_OK)
        return CLI_OK;
    return cli_fail(error.code == FORGE_INVALID_ARGUMENT ? CLI_USAGE : CLI_FAILED, "%s", error.message);
}

int cli_connect(struct cli *cli)
{
    return cli->channel ? CLI_OK : cli_connect_as(cli, cli_setting(cli, "token", "FORGE_TOKEN", cli_context(cli)->token));
}

forge_code cli_try_call(struct cli *cli, const struct forge_method *method, const ProtobufCMessage *request, uint32_t timeout_ms,
                        ProtobufCMessage **out_reply, struct forge_error *error, struct forge_reply_info *info)
{
    const struct forge_call_options options = {
        .timeout_ms = timeout_ms ? timeout_ms : cli->timeout_ms, .fail_fast = true, .request_id = cli_option(cli, "request-id")};
    return forge_channel_call_with_info(cli->channel, method, &options, request, out_reply, info, error);
}

int cli_call(struct cli *cli, const struct forge_method *method, const ProtobufCMessage *request, ProtobufCMessage **out_reply)
{
    struct forge_error error;
    struct forge_reply_info info;
    int code = cli_connect(cli);
    if (code != CLI_OK)
        return code;
    if (cli_try_call(cli, method, request, 0, out_reply, &error, &info) == FORGE_OK)
        return CLI_OK;
    return cli_print_error(&error, &info);
}

int cli_print_error(struct forge_error *error, const struct forge_reply_info *info)
{
    int code = CLI_STATUS + (int)error->code;
    fprintf(stderr, "forgectl: %s: %s\n", forge_code_name(error->code), error->message);
    unsigned shown = 0;
    for (const struct forge_violation *violation = error->violations; violation; violation = violation->next, shown++)
        fprintf(stderr, "  %s: %s\n", violation->field, violation->description);
    if (error->violation_count > shown)
        fprintf(stderr, "  and %u more\n", error->violation_count - shown);
    if (error->outcome_unknown)
        fprintf(stderr, "  It is not known whether it took effect. To learn, repeat it with --request-id %s\n", info->request_id);
    if (error->retry_after_ms)
        fprintf(stderr, "  Try again in %u ms.\n", error->retry_after_ms);
    if (error->code == FORGE_UNAUTHENTICATED)
        fprintf(stderr, "  Log in with forgectl login, or give --token or FORGE_TOKEN.\n");
    forge_error_free(error);
    return code;
}

int cli_print_verdict(const char *where, const Forge__V1__ItemVerdict *verdict)
{
    cli_fail(CLI_FAILED, "%s%s: %s", where, forge_code_name((forge_code)verdict->code), verdict->message);
    for (size_t i = 0; i < verdict->n_field_violations; i++)
        fprintf(stderr, "  %s: %s\n", verdict->field_violations[i]->field, verdict->field_violations[i]->description);
    return CLI_STATUS + (int)verdict->code;
}

void cli_free(void *reply)
{
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
}
