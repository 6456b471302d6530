#include "forgectl_test_support.h"

#include <ctype.h>
#include <pty.h>
#include <sys/wait.h>

enum { ENVIRONMENT_MAX = 12, TERMINAL_COLUMNS = 80, TERMINAL_ROWS = 24 };

/* The environment of the next runs: FORGE_SERVER and so on, "NAME=value". */
static char *environment[ENVIRONMENT_MAX + 1];
static char home[256];

void forgectl_set(const char *name, const char *value)
{
    size_t i = 0, length = strlen(name);
    while (environment[i] && (strncmp(environment[i], name, length) != 0 || environment[i][length] != '='))
        i++;
    assert_true(i < ENVIRONMENT_MAX);
    free(environment[i]);
    char text[4096];
    snprintf(text, sizeof text, "%s=%s", name, value ? value : "");
    environment[i] = strdup(text);
}

void forgectl_make_home(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(home, sizeof home, "%s/forgectl-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(home));
    forgectl_set("HOME", home);
}

void forgectl_remove_home(void)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < ENVIRONMENT_MAX; i++) {
        free(environment[i]);
        environment[i] = NULL;
    }
}

void forgectl_home_path(const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", home, name);
}

void forgectl_write_file(const char *name, const char *text)
{
    char path[512];
    forgectl_home_path(name, path, sizeof path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

void forgectl_shell(struct child_output *out, const char *format, ...)
{
    char line[8192], command[8800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const char *build = getenv("FORGE_BINARY_DIR");
    snprintf(command, sizeof command, "PATH=\"%s/bin:$PATH\"; %s", build ? build : "build/dev", line);
    const char *const argv[] = {"-c", command, NULL};
    child_run("/bin/sh", argv, (const char *const *)environment, home, out);
}

void expect_apply_refused(const char *manifest, const char *message)
{
    struct child_output output;
    forgectl_write_file("m.yaml", manifest);
    forgectl_shell(&output, "forgectl apply -f m.yaml");
    if (output.exit_code != 1 || !strstr(output.err, message) || *output.out)
        fail_msg("%s\nended with %d:\n%s%s", manifest, output.exit_code, output.out, output.err);
    child_output_done(&output);
}

static bool is_uuid(const char *text)
{
    for (size_t i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    return true;
}

/* "2026-11-23 14:31:31Z" or "2026-11-23T14:31:31.963501Z": its length, else 0. */
static size_t time_length(const char *text)
{
    static const char shape[] = "dddd-dd-dd?dd:dd:dd";
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == 'd' ? !isdigit((unsigned char)text[i]) : shape[i] == '?' ? !strchr("T ", text[i]) || !text[i] : text[i] != shape[i])
            return 0;
    size_t length = sizeof shape - 1 + strspn(text + sizeof shape - 1, ".0123456789");
    return text[length] == 'Z' ? length + 1 : 0;
}

char *normalise(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        size_t length = is_uuid(from) ? 36 : time_length(from);
        const char *with = is_uuid(from) ? "<id>" : "<time>";
        if (length) {
            memcpy(to, with, strlen(with));
            to += strlen(with);
            from += length;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return text;
}

void expect_output(int exit_code, const char *out_text, const char *error_text, const char *format, ...)
{
    char line[8192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    struct child_output output;
    forgectl_shell(&output, "%s", line);
    if (output.exit_code != exit_code)
        fail_msg("%s\nended with %d:\n%s%s", line, output.exit_code, output.out, output.err);
    if (out_text)
        assert_string_equal(normalise(output.out), out_text);
    if (error_text)
        assert_string_equal(normalise(output.err), error_text);
    child_output_done(&output);
}

/* In the child: becomes forgectl. */
static void run_forgectl(const char *const arguments[])
{
    char program[512];
    for (char **variable = environment; *variable; variable++)
        putenv(*variable);
    snprintf(program, sizeof program, "%s/bin/forgectl", getenv("FORGE_BINARY_DIR"));
    execv(program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

int forgectl_on_terminal(const char *const arguments[], char *seen, size_t size, void (*on_output)(int terminal, const char *seen))
{
    const struct winsize window = {.ws_row = TERMINAL_ROWS, .ws_col = TERMINAL_COLUMNS};
    int terminal, status;
    size_t length = 0;
    ssize_t got;
    pid_t child = forkpty(&terminal, NULL, NULL, &window);
    assert_true(child >= 0);
    if (!child)
        run_forgectl(arguments);
    seen[0] = '\0';
    while (length < size - 1 && (got = read(terminal, seen + length, size - 1 - length)) > 0) {
        length += (size_t)got;
        seen[length] = '\0';
        if (on_output)
            on_output(terminal, seen);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    close(terminal);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
