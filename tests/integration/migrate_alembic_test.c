/* Debian's alembic beside `forged migrate`: the same script of commands on the same chain of revisions gives the same current and history,
 * word by word, and fails at the same commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const REVISIONS[][2] = {{FIRST, "first step"}, {SECOND, "Second step, with words"}, {THIRD, "third"}};
enum { REVISION_COUNT = sizeof REVISIONS / sizeof REVISIONS[0] };

static void alembic(const char *const arguments[], struct child_output *out)
{
    child_run("/usr/bin/alembic", arguments, NULL, folder, out);
}

/* The text with its line `key = ...` saying value. */
static void set_line(const char *name, const char *key, const char *value)
{
    char command[512];
    snprintf(command, sizeof command, "sed -i 's|^%s = .*|%s = %s|' %s/%s", key, key, value, folder, name);
    assert_int_equal(system(command), 0);
}

/* The same three revisions for both: ids, order and messages; alembic's in a SQLite file. */
static void make_chains(void)
{
    struct child_output output;
    alembic((const char *[]){"init", "scripts", NULL}, &output);
    if (output.exit_code != 0)
        fail_msg("alembic init: %s", output.err);
    child_output_done(&output);
    set_line("alembic.ini", "sqlalchemy.url", "sqlite:///alembic.db");
    for (size_t i = 0; i < REVISION_COUNT; i++) {
        char name[64], text[512];
        alembic((const char *[]){"revision", "-m", REVISIONS[i][1], "--rev-id", REVISIONS[i][0], NULL}, &output);
        if (output.exit_code != 0)
            fail_msg("alembic revision: %s", output.err);
        child_output_done(&output);
        for (int half = 0; half < 2; half++) {
            snprintf(name, sizeof name, "%s_step.%s.sql", REVISIONS[i][0], half == 0 ? "up" : "down");
            snprintf(text, sizeof text, "-- revision: %s\n-- revises: %s\n-- created: x\n-- message: %s\nSELECT 1;\n", REVISIONS[i][0],
                     i > 0 ? REVISIONS[i - 1][0] : "", REVISIONS[i][1]);
            migrate_write_file(name, text);
        }
    }
}

/* Of --verbose only the lines that both write the same way. */
static void keep_common(char *text)
{
    char *out = text;
    for (char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        length += line[length] == '\n';
        if (strncmp(line, "Rev: ", 5) == 0 || strncmp(line, "Parent: ", 8) == 0) {
            memmove(out, line, length);
            out += length;
        }
        line += length;
    }
    *out = '\0';
}

/* What moves is judged by the exit code; what tells, by its words too. */
static void expect_same(const char *const words[])
{
    struct child_output theirs, ours;
    bool tells = strcmp(words[0], "current") == 0 || strcmp(words[0], "history") == 0;
    alembic(words, &theirs);
    migrate_run(words, &ours);
    if (tells && words[1] != NULL) {
        keep_common(theirs.out);
        keep_common(ours.out);
    }
    bool is_told = tells && theirs.exit_code == 0; /* it tells of failures on standard output too */
    if ((theirs.exit_code == 0) != (ours.exit_code == 0) || (is_told && strcmp(theirs.out, ours.out) != 0))
        fail_msg("%s %s\nalembic: exit code %d\n%s%s\nforged: exit code %d\n%s%s", words[0], words[1] != NULL ? words[1] : "",
                 theirs.exit_code, theirs.out, theirs.err, ours.exit_code, ours.out, ours.err);
    child_output_done(&theirs);
    child_output_done(&ours);
}

static void test_the_same_commands_give_the_same_current_and_history(void **state)
{
    (void)state;
    static const char *const script[][3] = {
        {"current"},
        {"history"},
        {"history", "--verbose"},
        {"downgrade", "-1"},
        {"upgrade", "+1"},
        {"current"},
        {"upgrade", "+3"},
        {"current"},
        {"upgrade", "head"},
        {"current"},
        {"current", "--verbose"},
        {"history"},
        {"upgrade", "head"},
        {"upgrade", "+1"},
        {"downgrade", "-1"},
        {"current"},
        {"downgrade", FIRST},
        {"current", "--verbose"},
        {"upgrade", "2222"},
        {"current"},
        {"downgrade", "base"},
        {"current"},
        {"stamp", "head"},
        {"current"},
        {"stamp", FIRST},
        {"current", "-v"},
        {"upgrade", "44444444"},
        {"downgrade", "-2"},
        {"current"},
        {"stamp", "base"},
        {"current"},
    };
    make_chains();
    for (size_t i = 0; i < sizeof script / sizeof script[0]; i++)
        expect_same(script[i]);
}

static void test_both_refuse_a_database_they_do_not_know(void **state)
{
    (void)state;
    make_chains();
    char command[256];
    expect_same((const char *[]){"stamp", "head", NULL});
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "rm %s/%s", folder, i == 0 ? "scripts/versions/" THIRD "_*" : THIRD "_*");
        assert_int_equal(system(command), 0);
    }
    expect_same((const char *[]){"current", NULL});
    expect_same((const char *[]){"upgrade", "head", NULL});
    expect_same((const char *[]){"downgrade", "-1", NULL});
    expect_same((const char *[]){"history", NULL});
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, migrate_fresh, migrate_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_the_same_commands_give_the_same_current_and_history),
        TEST(test_both_refuse_a_database_they_do_not_know),
    };
    return cmocka_run_group_tests(tests, migrate_start, migrate_end);
}
