/* Help of every command, and the same as Markdown, from the command tree. */
#include "cli.h"

#include <string.h>

static size_t option_text(const struct cli_option *option, char *out, size_t size)
{
    char letter[8] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    return (size_t)snprintf(out, size, "%s--%s%s%s", letter, option->name, option->value ? " " : "", option->value ? option->value : "");
}

static void print_options(FILE *out, const char *title, const struct cli_option *options)
{
    char text[128];
    size_t width = 0;
    if (!options || !options->name)
        return;
    for (const struct cli_option *o = options; o->name; o++) {
        size_t length = option_text(o, text, sizeof text);
        width = length > width ? length : width;
    }
    fprintf(out, "\n%s\n", title);
    for (const struct cli_option *o = options; o->name; o++) {
        option_text(o, text, sizeof text);
        fprintf(out, "  %-*s  %s%s\n", (int)width, text, o->help, o->is_repeated ? " (repeatable)" : "");
    }
}

static void print_commands(FILE *out, const struct cli_command *commands)
{
    size_t width = 0;
    for (const struct cli_command *c = commands; c->name; c++)
        width = strlen(c->name) > width ? strlen(c->name) : width;
    fprintf(out, "\nCommands\n");
    for (const struct cli_command *c = commands; c->name; c++)
        fprintf(out, "  %-*s  %s\n", (int)width, c->name, c->summary);
}

void cli_print_help(FILE *out, const struct cli_command *command, const char *path)
{
    fprintf(out, "%s\n", command->summary);
    if (command->description)
        fprintf(out, "\n%s\n", command->description);
    fprintf(out, "\nUsage\n  %s%s%s%s\n", path, command->commands ? " <command>" : "", command->arguments ? " " : "",
            command->arguments ? command->arguments : "");
    if (command->commands)
        print_commands(out, command->commands);
    print_options(out, "Options", command->options);
    print_options(out, "Global options", cli_global_options);
    if (command->examples && command->examples[0])
        fprintf(out, "\nExamples\n");
    for (const char *const *example = command->examples; example && *example; example++)
        fprintf(out, "  %s\n", *example);
}

/* ---- Markdown ---- */

static void print_markdown_options(FILE *out, const struct cli_option *options)
{
    for (const struct cli_option *o = options; o && o->name; o++) {
        if (o->letter)
            fprintf(out, "- `-%c`, ", o->letter);
        else
            fprintf(out, "- ");
        fprintf(out, "`--%s%s%s`: %s%s\n", o->name, o->value ? " " : "", o->value ? o->value : "", o->help,
                o->is_repeated ? " (repeatable)" : "");
    }
    if (options && options->name)
        fputc('\n', out);
}

static void print_markdown_command(FILE *out, const struct cli_command *command, const char *path)
{
    fprintf(out, "## %s\n\n%s.\n\n", path, command->summary);
    if (command->description)
        fprintf(out, "%s\n\n", command->description);
    fprintf(out, "    %s%s%s\n\n", path, command->arguments ? " " : "", command->arguments ? command->arguments : "");
    print_markdown_options(out, command->options);
    if (command->examples && command->examples[0])
        fprintf(out, "Examples:\n\n");
    for (const char *const *example = command->examples; example && *example; example++)
        fprintf(out, "    %s\n", *example);
    if (command->examples && command->examples[0])
        fputc('\n', out);
}

static void print_markdown_tree(FILE *out, const struct cli_command *group, const char *path)
{
    for (const struct cli_command *command = group->commands; command->name; command++) {
        char below[128];
        snprintf(below, sizeof below, "%s %s", path, command->name);
        if (command->commands)
            print_markdown_tree(out, command, below);
        else
            print_markdown_command(out, command, below);
    }
}

void cli_print_markdown(FILE *out)
{
    fprintf(out,
            "title: FORGECTL\nsection: 1\nsource: PromptForge\nvolume: User commands\n\n"
            "# NAME\n\nforgectl - %s\n\n# SYNOPSIS\n\n    forgectl [global options] <command> [options] [arguments]\n\n"
            "# DESCRIPTION\n\n%s\n\n# GLOBAL OPTIONS\n\n",
            cli_root.summary, cli_root.description);
    print_markdown_options(out, cli_global_options);
    fprintf(out, "# COMMANDS\n\n");
    print_markdown_tree(out, &cli_root, cli_root.name);
    fprintf(out, "# EXIT STATUS\n\n"
                 "- 0: done\n"
                 "- 1: something on this machine failed: a file, the terminal, the contexts\n"
                 "- 2: the command line is wrong\n"
                 "- 64 + code: the server's answer, with the codes of gRPC: 67 INVALID_ARGUMENT, 68 DEADLINE_EXCEEDED, 69 NOT_FOUND,\n"
                 "  70 ALREADY_EXISTS, 71 PERMISSION_DENIED, 72 RESOURCE_EXHAUSTED, 73 FAILED_PRECONDITION, 74 ABORTED,\n"
                 "  76 UNIMPLEMENTED, 77 INTERNAL, 78 UNAVAILABLE, 80 UNAUTHENTICATED\n\n"
                 "# FILES\n\n"
                 "`$XDG_CONFIG_HOME/promptforge/contexts.yaml` (default `~/.config`): servers and credentials, mode 0600.\n\n"
                 "# ENVIRONMENT\n\n"
                 "- `FORGE_SERVER`, `FORGE_CA`, `FORGE_TOKEN`: as `--server`, `--ca` and `--token`; they win over the context\n"
                 "- `FORGE_PROJECT`: as `--project`\n"
                 "- `FORGE_OPERATOR_TOKEN`: credential of `organization create`\n"
                 "- `NO_COLOR`: not empty: no colours, unless `--color always`\n"
                 "- `COLUMNS`: width of bars, where it is not the terminal's\n");
}

/* ---- the nearest name ---- */

/* Levenshtein distance, words of at most 31 bytes. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[32];
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > 31 || b_length > 31)
        return 99;
    for (size_t j = 0; j <= b_length; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_length; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned shifted = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[b_length];
}

const char *cli_nearest(const char *word, const char *const names[], size_t count)
{
    const char *best = NULL;
    unsigned best_distance = 4; /* at most 3 edits, and fewer than the word has letters */
    for (size_t i = 0; i < count; i++) {
        unsigned d = distance(word, names[i]);
        if (d < best_distance && d < strlen(word)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

int command_help(struct cli *cli)
{
    if (cli_option(cli, "markdown")) {
        cli_print_markdown(stdout);
        return CLI_OK;
    }
    const struct cli_command *command = &cli_root;
    char path[128];
    size_t length = (size_t)snprintf(path, sizeof path, "%s", cli_root.name);
    for (size_t i = 0; i < cli->positional_count; i++) {
        const struct cli_command *next = command->commands;
        while (next && next->name && strcmp(next->name, cli->positionals[i]) != 0)
            next++;
        if (!next || !next->name)
            return cli_fail(CLI_USAGE, "no command \"%s %s\"", path, cli->positionals[i]);
        command = next;
        length += (size_t)snprintf(path + length, sizeof path - length, " %s", command->name);
    }
    cli_print_help(stdout, command, path);
    return CLI_OK;
}
