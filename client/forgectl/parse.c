/* The command line: global options anywhere, then the path of a command, its options and arguments. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static const struct cli_option *find_in(const struct cli_option *options, const char *name, size_t length, char letter)
{
    for (const struct cli_option *option = options; option && option->name; option++) {
        if (letter ? option->letter == letter : strlen(option->name) == length && !strncmp(option->name, name, length))
            return option;
    }
    return NULL;
}

static const struct cli_option *find_option(const struct cli *cli, const char *name, size_t length, char letter)
{
    const struct cli_option *option = find_in(cli->command->options, name, length, letter);
    return option ? option : find_in(cli_global_options, name, length, letter);
}

static int unknown_option(const struct cli *cli, const char *word)
{
    const char *names[64];
    size_t count = 0;
    for (const struct cli_option *o = cli->command->options; o && o->name && count < 64; o++)
        names[count++] = o->name;
    for (const struct cli_option *o = cli_global_options; o->name && count < 64; o++)
        names[count++] = o->name;
    const char *nearest = !strncmp(word, "--", 2) ? cli_nearest(word + 2, names, count) : NULL;
    if (nearest)
        return cli_fail(CLI_USAGE, "unknown option %s; did you mean --%s?", word, nearest);
    return cli_fail(CLI_USAGE, "unknown option %s; see %s --help", word, cli->path);
}

static int take_option(struct cli *cli, int argc, char **argv, int *index)
{
    const char *word = argv[*index];
    bool is_long = word[1] == '-';
    const char *name = is_long ? word + 2 : word + 1;
    size_t length = is_long ? strcspn(name, "=") : 1;
    const struct cli_option *option = find_option(cli, name, length, is_long ? '\0' : *name);
    if (!option)
        return unknown_option(cli, word);
    const char *value = name[length] ? name + length + (is_long ? 1 : 0) : NULL;
    if (!option->value && value)
        return cli_fail(CLI_USAGE, "--%s takes no value", option->name);
    if (option->value && !value) {
        if (*index + 1 >= argc)
            return cli_fail(CLI_USAGE, "--%s needs a value: %s", option->name, option->value);
        value = argv[++*index];
    }
    if (!option->is_repeated && cli_option(cli, option->name))
        return cli_fail(CLI_USAGE, "--%s is given twice", option->name);
    if (cli->given_count == CLI_OPTIONS_MAX)
        return cli_fail(CLI_USAGE, "more than %d options", CLI_OPTIONS_MAX);
    cli->given[cli->given_count++] = (struct cli_given){option, value ? value : ""};
    return CLI_OK;
}

static int unknown_command(const struct cli *cli, const char *word)
{
    const char *names[64];
    size_t count = 0;
    for (const struct cli_command *c = cli->command->commands; c->name && count < 64; c++)
        names[count++] = c->name;
    const char *nearest = cli_nearest(word, names, count);
    if (nearest)
        return cli_fail(CLI_USAGE, "unknown command \"%s %s\"; did you mean \"%s %s\"?", cli->path, word, cli->path, nearest);
    return cli_fail(CLI_USAGE, "unknown command \"%s %s\"; see %s --help", cli->path, word, cli->path);
}

static int take_word(struct cli *cli, const char *word)
{
    if (cli->command->commands) {
        for (const struct cli_command *c = cli->command->commands; c->name; c++) {
            if (strcmp(c->name, word) != 0)
                continue;
            cli->command = c;
            size_t length = strlen(cli->path);
            snprintf(cli->path + length, sizeof cli->path - length, " %s", word);
            return CLI_OK;
        }
        return unknown_command(cli, word);
    }
    if (cli->positional_count == cli->command->arguments_max)
        return cli_fail(CLI_USAGE, "unexpected argument \"%s\"; see %s --help", word, cli->path);
    cli->positionals[cli->positional_count++] = word;
    return CLI_OK;
}

static int take_globals(struct cli *cli)
{
    static const char *const names[] = {"table", "json", "yaml", "name"};
    const char *format = cli_option(cli, "output");
    cli->wants_help = cli_option(cli, "help") != NULL;
    cli->has_format = format != NULL;
    for (unsigned i = 0; format && i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(format, names[i])) {
            cli->format = (enum cli_format)i;
            format = NULL;
        }
    if (format)
        return cli_fail(CLI_USAGE, "--output must be table, json, yaml or name, not \"%s\"", format);
    if (!terminal_set_colour(&cli->terminal, cli_option(cli, "color")))
        return cli_fail(CLI_USAGE, "--color must be auto, always or never, not \"%s\"", cli_option(cli, "color"));
    long timeout_ms;
    if (!cli_option_number(cli, "timeout", 1, 600000, 10000, &timeout_ms))
        return CLI_USAGE;
    cli->timeout_ms = (uint32_t)timeout_ms;
    return CLI_OK;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    bool only_words = false;
    cli->command = &cli_root;
    snprintf(cli->path, sizeof cli->path, "%s", cli_root.name);
    for (int i = 1; i < argc; i++) {
        int code;
        if (!only_words && !strcmp(argv[i], "--")) {
            only_words = true;
            continue;
        }
        if (!only_words && argv[i][0] == '-' && argv[i][1])
            code = take_option(cli, argc, argv, &i);
        else
            code = take_word(cli, argv[i]);
        if (code != CLI_OK)
            return code;
    }
    int code = take_globals(cli);
    if (code != CLI_OK || cli->wants_help || !cli->command->run)
        return code;
    if (cli->positional_count < cli->command->arguments_min)
        return cli_fail(CLI_USAGE, "usage: %s %s", cli->path, cli->command->arguments);
    return CLI_OK;
}

const char *cli_option_at(const struct cli *cli, const char *name, size_t index)
{
    for (size_t i = 0; i < cli->given_count; i++)
        if (!strcmp(cli->given[i].option->name, name) && !index--)
            return cli->given[i].value;
    return NULL;
}

const char *cli_option(const struct cli *cli, const char *name)
{
    return cli_option_at(cli, name, 0);
}

size_t cli_option_count(const struct cli *cli, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < cli->given_count; i++)
        count += !strcmp(cli->given[i].option->name, name);
    return count;
}

bool cli_option_number(const struct cli *cli, const char *name, long least, long most, long otherwise, long *out)
{
    const char *text = cli_option(cli, name);
    char *end;
    *out = otherwise;
    if (!text)
        return true;
    long value = strtol(text, &end, 10);
    if (!*text || *end || value < least || value > most) {
        cli_fail(CLI_USAGE, "--%s must be a number from %ld to %ld, not \"%s\"", name, least, most, text);
        return false;
    }
    *out = value;
    return true;
}
