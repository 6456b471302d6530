/* Running forgectl in tests: a home of its own, its output with ids and times replaced, so that it can be compared. */
#ifndef FORGECTL_TEST_SUPPORT_H
#define FORGECTL_TEST_SUPPORT_H

#include "support/forged_child.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { FORGECTL_ENVIRONMENT_MAX = 12 };

/* The environment of the next runs: FORGE_SERVER and so on, "NAME=value". */
static char *forgectl_environment[FORGECTL_ENVIRONMENT_MAX + 1];
static char forgectl_home[256];

static inline void forgectl_set(const char *name, const char *value)
{
    size_t i = 0, length = strlen(name);
    while (forgectl_environment[i] && (strncmp(forgectl_environment[i], name, length) != 0 || forgectl_environment[i][length] != '='))
        i++;
    assert_true(i < FORGECTL_ENVIRONMENT_MAX);
    free(forgectl_environment[i]);
    char text[4096];
    snprintf(text, sizeof text, "%s=%s", name, value ? value : "");
    forgectl_environment[i] = strdup(text);
}

static inline void forgectl_make_home(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(forgectl_home, sizeof forgectl_home, "%s/forgectl-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(forgectl_home));
    forgectl_set("HOME", forgectl_home);
}

static inline void forgectl_remove_home(void)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", forgectl_home);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < FORGECTL_ENVIRONMENT_MAX; i++) {
        free(forgectl_environment[i]);
        forgectl_environment[i] = NULL;
    }
}

/* Runs a shell line in the home; "forgectl" in it is the one of the build. */
static inline void forgectl_shell(struct child_output *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void forgectl_shell(struct child_output *out, const char *format, ...)
{
    char line[8192], command[8800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const char *build = getenv("FORGE_BINARY_DIR");
    snprintf(command, sizeof command, "PATH=\"%s/bin:$PATH\"; %s", build ? build : "build/dev", line);
    const char *const argv[] = {"-c", command, NULL};
    child_run("/bin/sh", argv, (const char *const *)forgectl_environment, forgectl_home, out);
}

static inline bool is_uuid(const char *text)
{
    for (size_t i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    return true;
}

/* "2026-11-23 14:31:31Z" or "2026-11-23T14:31:31.963501Z": its length, else 0. */
static inline size_t time_length(const char *text)
{
    static const char shape[] = "dddd-dd-dd?dd:dd:dd";
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == 'd' ? !isdigit((unsigned char)text[i]) : shape[i] == '?' ? !strchr("T ", text[i]) || !text[i] : text[i] != shape[i])
            return 0;
    size_t length = sizeof shape - 1 + strspn(text + sizeof shape - 1, ".0123456789");
    return text[length] == 'Z' ? length + 1 : 0;
}

/* Ids become <id>, times <time>; the text shrinks in place. */
static inline char *normalise(char *text)
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

static inline void expect_output(int exit_code, const char *out_text, const char *error_text, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Runs a line and compares all of it; NULL texts are not compared. */
static inline void expect_output(int exit_code, const char *out_text, const char *error_text, const char *format, ...)
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

#endif
