/* context list | use | set | delete: on this machine only. */
#include "output.h"

#include <string.h>

int command_context_list(struct cli *cli)
{
    if (cli->format == CLI_FORMAT_JSON || cli->format == CLI_FORMAT_YAML)
        return cli_fail(CLI_USAGE, "context list prints a table or names; the contexts are YAML already: %s", cli->contexts.path);
    struct table table = {.columns = 6};
    static const char *const titles[] = {"", "NAME", "SERVER", "USER", "PROJECT", "CREDENTIAL"};
    const char **row = table_add_row(&table);
    if (row)
        memcpy(row, titles, sizeof titles);
    for (size_t i = 0; i < cli->contexts.count; i++) {
        const struct context *context = &cli->contexts.contexts[i];
        if (cli->format == CLI_FORMAT_NAME) {
            printf("%s\n", context->name);
            continue;
        }
        row = table_add_row(&table);
        if (!row)
            break;
        row[0] = strcmp(context->name, cli->contexts.current) == 0 ? "*" : "";
        row[1] = context->name;
        row[2] = context->server;
        row[3] = context->user;
        row[4] = context->project;
        row[5] = !context->token[0] ? "none" : !strncmp(context->token, "pfs_", 4) ? "session" : "key";
    }
    if (cli->format != CLI_FORMAT_NAME)
        table_print(&table, stdout);
    table_free(&table);
    return CLI_OK;
}

int command_context_use(struct cli *cli)
{
    const struct context *context = context_file_find(&cli->contexts, cli->positionals[0]);
    if (!context)
        return cli_fail(CLI_FAILED, "there is no context \"%s\"; see forgectl context list", cli->positionals[0]);
    memcpy(cli->contexts.current, context->name, sizeof context->name);
    return context_file_save(&cli->contexts) ? CLI_OK : CLI_FAILED;
}

static bool set_value(const struct cli *cli, const char *option, char value[CONTEXT_VALUE_MAX])
{
    const char *given = cli_option(cli, option);
    if (!given)
        return true;
    if (strlen(given) >= CONTEXT_VALUE_MAX) {
        cli_fail(CLI_USAGE, "--%s has more than %d bytes", option, CONTEXT_VALUE_MAX - 1);
        return false;
    }
    memcpy(value, given, strlen(given) + 1);
    return true;
}

int command_context_set(struct cli *cli)
{
    struct context *context = context_file_add(&cli->contexts, cli->positionals[0]);
    if (!context)
        return cli_fail(CLI_USAGE, "a name is 1 to 63 of [A-Za-z0-9._-], and there are at most %d contexts", CONTEXTS_MAX);
    if (!set_value(cli, "server", context->server) || !set_value(cli, "token", context->token) ||
        !set_value(cli, "project", context->project))
        return CLI_USAGE;
    if (cli_option(cli, "ca") && !context_set_ca(context, cli_option(cli, "ca")))
        return CLI_FAILED;
    if (cli_option(cli, "token"))
        context->user[0] = '\0';
    if (!cli->contexts.current[0])
        memcpy(cli->contexts.current, context->name, sizeof context->name);
    return context_file_save(&cli->contexts) ? CLI_OK : CLI_FAILED;
}

int command_context_delete(struct cli *cli)
{
    if (!context_file_remove(&cli->contexts, cli->positionals[0]))
        return cli_fail(CLI_FAILED, "there is no context \"%s\"; see forgectl context list", cli->positionals[0]);
    return context_file_save(&cli->contexts) ? CLI_OK : CLI_FAILED;
}
