/* forgectl: parse, run, say how it went. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 256 << 20 };

int command_version(struct cli *cli)
{
    printf("forgectl %s\n", forge_version());
    return CLI_OK;
}

static int run(struct cli *cli)
{
    if (cli->wants_help) {
        cli_print_help(stdout, cli->command, cli->path);
        return CLI_OK;
    }
    if (!cli->command->run) {
        cli_print_help(stderr, cli->command, cli->path);
        return CLI_USAGE;
    }
    if (!context_file_load(&cli->contexts))
        return CLI_FAILED;
    return cli->command->run(cli);
}

int main(int argc, char **argv)
{
    static struct cli cli;
    terminal_open(&cli.terminal);
    signal(SIGPIPE, SIG_DFL);
    forge_arena_init(&cli.arena, ARENA_BYTES, NULL);
    int code = cli_parse(&cli, argc, argv);
    if (code == CLI_OK)
        code = run(&cli);
    forge_channel_close(cli.channel);
    forge_arena_done(&cli.arena);
    explicit_bzero(&cli.contexts, sizeof cli.contexts);
    if (fflush(stdout) && code == CLI_OK)
        code = cli_fail(CLI_FAILED, "cannot write to standard output");
    return code;
}
