/* What forgectl reads besides its command line. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { PASSWORD_MAX = 512 };

char *cli_read_file(struct cli *cli, const char *path, size_t *out_size)
{
    bool is_stdin = !strcmp(path, "-");
    FILE *input = is_stdin ? stdin : fopen(path, "re");
    if (!input) {
        cli_fail(CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    char *whole = malloc(CLI_DATA_MAX + 1); /* the arena gets only what the file has */
    size_t size = whole ? fread(whole, 1, CLI_DATA_MAX + 1, input) : 0;
    bool failed = ferror(input) != 0;
    char *text = whole ? forge_arena_alloc(&cli->arena, size + 1) : NULL;
    if (text)
        memcpy(text, whole, size);
    if (whole)
        explicit_bzero(whole, size);
    free(whole);
    if (!is_stdin)
        fclose(input);
    if (!text || failed || size > CLI_DATA_MAX) {
        if (size > CLI_DATA_MAX)
            cli_fail(CLI_FAILED, "%s has more than %d bytes", path, CLI_DATA_MAX);
        else
            cli_fail(CLI_FAILED, "cannot read %s: %s", path, text ? strerror(EIO) : "no memory");
        return NULL;
    }
    *out_size = size;
    return text;
}

char *cli_ask(struct cli *cli, const char *question)
{
    char line[1024];
    if (!isatty(STDIN_FILENO))
        return NULL;
    fputs(question, stderr);
    if (!fgets(line, sizeof line, stdin))
        return NULL;
    return forge_arena_strndup(&cli->arena, line, strcspn(line, "\n"));
}

static struct termios terminal_before;
static int terminal = -1;

static void restore_terminal(int number)
{
    if (terminal >= 0)
        tcsetattr(terminal, TCSAFLUSH, &terminal_before);
    if (number) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

/* A program that is interrupted must not leave the terminal without echo. */
static bool stop_echo(int descriptor)
{
    struct termios silent;
    if (tcgetattr(descriptor, &terminal_before))
        return false;
    terminal = descriptor;
    silent = terminal_before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    signal(SIGINT, restore_terminal);
    signal(SIGTERM, restore_terminal);
    return tcsetattr(descriptor, TCSAFLUSH, &silent) == 0;
}

char *cli_read_password(struct cli *cli, const char *prompt)
{
    char line[PASSWORD_MAX + 2];
    bool is_terminal = isatty(STDIN_FILENO);
    if (is_terminal) {
        fprintf(stderr, "%s: ", prompt);
        if (!stop_echo(STDIN_FILENO)) {
            cli_fail(CLI_FAILED, "cannot turn off the terminal's echo: %s", strerror(errno));
            return NULL;
        }
    }
    char *got = fgets(line, sizeof line, stdin);
    if (is_terminal) {
        restore_terminal(0);
        terminal = -1;
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        fputc('\n', stderr);
    }
    size_t length = got ? strcspn(line, "\n") : 0;
    if (!length || length > PASSWORD_MAX) {
        cli_fail(CLI_FAILED, "the password must have 1 to %d bytes", PASSWORD_MAX);
        return NULL;
    }
    char *password = forge_arena_strndup(&cli->arena, line, length);
    explicit_bzero(line, sizeof line);
    return password;
}
