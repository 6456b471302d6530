/* The generator, run as the build runs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/forge-gen-sql-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static const char *const files[] = {"a.sql", "b.sql", "out.h", "out.c", "log"};

static char *path_of(const char *name)
{
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        unlink(path_of(files[i]));
    return rmdir(folder);
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static char *read_text(const char *name)
{
    static char text[16384];
    FILE *file = fopen(path_of(name), "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* Runs gen_sql on a.sql and, if given, b.sql; gives its exit status. */
static int generate(const char *a, const char *b)
{
    char command[1024];
    write_file("a.sql", a);
    if (b != NULL)
        write_file("b.sql", b);
    snprintf(command, sizeof(command), "%s/bin/gen_sql %s/out.h %s/out.c %s/a.sql %s%s 2>%s/log", getenv("FORGE_BINARY_DIR"), folder,
             folder, folder, b != NULL ? folder : "", b != NULL ? "/b.sql" : "", folder);
    int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_text(const char *name, const char *expected)
{
    const char *text = read_text(name);
    if (strstr(text, expected) == NULL)
        fail_msg("\"%s\" is not in %s: %s", expected, name, text);
}

static void expect_mistake(const char *sql, const char *expected)
{
    unlink(path_of("out.h"));
    assert_int_equal(generate(sql, NULL), 1);
    expect_text("log", expected);
    assert_int_not_equal(access(path_of("out.h"), F_OK), 0); /* nothing half-done is left */
}

static void test_gen_sql_writes_enum_and_table(void **state)
{
    assert_int_equal(generate("-- about this file\n\n-- name: first :one\nSELECT $1::text AS a, -- not this: $9\n    '$8; \"\\' AS b;\n"
                              "-- a comment line\n-- name: second :command\nDELETE FROM t;\n",
                              "-- name: third :optional\nSELECT $2, $1\n-- name: fourth :many\nSELECT 1 AS \"$7;\", $x$;$3$x$\n"),
                     0);
    expect_text("out.h", "enum sql_id {\n    SQL_FIRST,\n    SQL_SECOND,\n    SQL_THIRD,\n    SQL_FOURTH,\n    SQL_COUNT\n};");
    expect_text("out.c",
                "[SQL_FIRST] = {\"first\",\n        \"SELECT $1::text AS a, -- not this: $9\\n\"\n        \"    '$8; \\\"\\\\' AS b\",\n"
                "        SQL_KIND_ONE, 1},");
    expect_text("out.c", "\"DELETE FROM t\",\n        SQL_KIND_COMMAND, 0},");
    expect_text("out.c", "\"SELECT $2, $1\",\n        SQL_KIND_OPTIONAL, 2},");
    expect_text("out.c", "SQL_KIND_MANY, 0},");
}

static void test_gen_sql_leaves_unchanged_files_alone(void **state)
{
    struct stat before, after;
    assert_int_equal(generate("-- name: a :one\nSELECT 1\n", NULL), 0);
    struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(0, path_of("out.h"), past, 0), 0);
    assert_int_equal(stat(path_of("out.h"), &before), 0);
    assert_int_equal(generate("-- name: a :one\nSELECT 2\n", NULL), 0); /* another text, the same names */
    assert_int_equal(stat(path_of("out.h"), &after), 0);
    assert_int_equal(before.st_mtime, after.st_mtime);
    expect_text("out.c", "SELECT 2");
}

static void test_gen_sql_mistakes(void **state)
{
    expect_mistake("SELECT 1\n", "a.sql:1: SQL before the first");
    expect_mistake("-- name: a :one\nSELECT 1\n-- name: a :one\nSELECT 1\n", "a.sql:3: statement a exists already at ");
    expect_mistake("-- name: a :some\nSELECT 1\n", "a.sql:1: unknown kind \":some\" of statement a");
    expect_mistake("-- name: a\nSELECT 1\n", "a.sql:1: expected `-- name: <name> :one");
    expect_mistake("-- name: a :one more\nSELECT 1\n", "a.sql:1: expected");
    expect_mistake("-- name: Upper :one\nSELECT 1\n", "statement name \"Upper\"");
    expect_mistake("-- name: count :one\nSELECT 1\n", "statement name \"count\"");
    expect_mistake("-- name: kind_one :one\nSELECT 1\n", "statement name \"kind_one\"");
    expect_mistake("\n-- name: a :one\nSELECT $1, $3\n", "a.sql:2: statement a uses $3 but not $2");
    expect_mistake("-- name: a :one\nSELECT $0\n", "parameters are $1 to $64");
    expect_mistake("-- name: a :one\nSELECT $65\n", "parameters are $1 to $64");
    expect_mistake("-- name: a :one\n;\n", "a.sql:1: statement a is empty");
    expect_mistake("-- name: a :one\n-- nothing\n-- name: b :one\nSELECT 1\n", "a.sql:1: statement a is empty");
    expect_mistake("-- name: a :one\nSELECT 1; SELECT 2;\n", "statement a holds more than one SQL statement");
    expect_mistake("-- only comments\n", "no statement in 1 files");
    expect_mistake("-- name: aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg :one\nSELECT 1\n", "at most 63");
}

static void test_gen_sql_duplicate_in_another_file(void **state)
{
    assert_int_equal(generate("-- name: a :one\nSELECT 1\n", "\n-- name: a :many\nSELECT 1\n"), 1);
    expect_text("log", "b.sql:2: statement a exists already at ");
    expect_text("log", "a.sql:1");
}

static void test_gen_sql_missing_file(void **state)
{
    char command[1024];
    snprintf(command, sizeof(command), "%s/bin/gen_sql %s/out.h %s/out.c %s/absent.sql 2>%s/log", getenv("FORGE_BINARY_DIR"), folder,
             folder, folder, folder);
    assert_int_equal(WEXITSTATUS(system(command)), 1);
    expect_text("log", "absent.sql:0: cannot be read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gen_sql_writes_enum_and_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gen_sql_leaves_unchanged_files_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gen_sql_mistakes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gen_sql_duplicate_in_another_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gen_sql_missing_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
