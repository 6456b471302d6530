/* The verbs of `forged migrate` that look, stamp and print, files without a transaction, and the command line: as people run it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/migrate_statement.h"
#include "migrate_fixture.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `forged migrate <words>` on this test's folder and database; checks exit code and a part of its output (of both streams). */
static void run(int exit_code, const char *part, const char *const words[])
{
    struct child_output output;
    migrate_run(words, &output);
    if (output.exit_code != exit_code || (strstr(output.out, part) == NULL && strstr(output.err, part) == NULL))
        fail_msg("migrate %s: exit code %d, wanted %d and \"%s\"\n%s\n%s", words[0], output.exit_code, exit_code, part, output.out,
                 output.err);
    child_output_done(&output);
}
#define RUN(exit_code, part, ...) run(exit_code, part, (const char *[]){__VA_ARGS__, NULL})

static void test_history_is_told_newest_first(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(db_migrate_history(folder, false, migrate_note, NULL, &error), FORGE_OK);
    assert_string_equal(lines, FIRST " -> " SECOND " (head), step\n<base> -> " FIRST ", step\n");
    lines[0] = '\0';
    assert_int_equal(db_migrate_history(folder, true, migrate_note, NULL, &error), FORGE_OK);
    assert_non_null(strstr(lines, "Rev: " SECOND " (head)\nParent: " FIRST "\nPath: " SECOND "_step.up.sql\n"));
    assert_non_null(strstr(lines, "\n\nRev: " FIRST "\nParent: <base>\n"));
    migrate_expect_error(db_migrate_history("/nowhere", false, NULL, NULL, &error), FORGE_NOT_FOUND, "/nowhere");
}

static forge_code stamp(const char *target)
{
    lines[0] = '\0';
    return db_migrate_stamp(url, folder, target, migrate_note, NULL, &error);
}

static void test_stamp_moves_without_running(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(stamp("head"), FORGE_OK);
    assert_string_equal(lines, "Running stamp_revision  -> " SECOND "\n");
    migrate_expect_current(SECOND " (head)\n");
    assert_string_equal(migrate_query("SELECT to_regclass('one') IS NULL"), "t");
    assert_int_equal(stamp("1111"), FORGE_OK);
    migrate_expect_current(FIRST "\n");
    assert_int_equal(stamp("base"), FORGE_OK);
    migrate_expect_current("");
    migrate_expect_error(stamp("4444"), FORGE_INVALID_ARGUMENT, "no revision 4444");
    migrate_expect_error(stamp("+1"), FORGE_INVALID_ARGUMENT, "target \"+1\"");
}

static void test_stamp_mends_changed_files_and_unknown_revisions(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a bigint);", "DROP TABLE one;");
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION, "was changed after it was applied");
    assert_int_equal(stamp("head"), FORGE_OK);
    assert_int_equal(migrate_up("head"), FORGE_OK);
    pg_cluster_execute(cluster, "forge_owner", database, "UPDATE schema_revisions SET revision = 'aaaaaaaaaaaa' WHERE position = 2");
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION, "the database has revision aaaaaaaaaaaa");
    assert_int_equal(stamp(SECOND), FORGE_OK);
    migrate_expect_current(SECOND " (head)\n");
}

/* The script of a target into a file of the folder; NULL error: it must succeed. */
static const char *write_script(const char *of_folder, const char *target)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/script.txt", folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    forge_code rc = db_migrate_upgrade_script(of_folder, target, file, &error);
    assert_int_equal(fclose(file), 0);
    if (rc != FORGE_OK)
        fail_msg("%s", error.message);
    return path;
}

/* psql's exit code: 0 done, 3 a statement failed. */
static int run_script(const char *path, const char *of_database)
{
    char command[1024];
    snprintf(command, sizeof command, "psql '%s' --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file %s >/dev/null 2>%s/errors.txt",
             pg_cluster_url(cluster, "forge_owner", of_database), path, folder);
    int status = system(command);
    return WEXITSTATUS(status);
}

static void test_the_script_does_what_upgrade_does(void **state)
{
    (void)state;
    const char *rows = "SELECT string_agg(concat_ws(' ', revision, position, encode(sha256, 'hex'), serves), ',' ORDER BY position)"
                       " FROM schema_revisions";
    assert_int_equal(db_migrate_upgrade(url, real_folder, "head", NULL, NULL, &error), FORGE_OK);
    const char *offline = pg_cluster_create_database(cluster, "forge_owner");
    assert_int_equal(run_script(write_script(real_folder, "head"), offline), 0);
    char *first = pg_cluster_dump_schema(cluster, database), *second = pg_cluster_dump_schema(cluster, offline);
    assert_string_equal(first, second);
    free(first);
    free(second);
    assert_string_equal(pg_cluster_query(cluster, "postgres", offline, rows), migrate_query(rows));
    /* Once more: it is not there any more. */
    assert_int_equal(run_script(write_script(real_folder, "head"), offline), 3);
}

static void test_the_script_of_a_range_wants_its_beginning(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(run_script(write_script(folder, "1111:head"), database), 3);
    assert_string_equal(migrate_query("SELECT count(*) FROM schema_revisions"), "0");
    assert_int_equal(migrate_up("+1"), FORGE_OK);
    assert_int_equal(run_script(write_script(folder, FIRST ":+1"), database), 0);
    migrate_expect_current(SECOND " (head)\n");
    assert_int_equal(run_script(write_script(folder, "base:1111"), database), 3);
    migrate_expect_error(db_migrate_upgrade_script(folder, "2222:1111", stderr, &error), FORGE_INVALID_ARGUMENT, "comes before");
    migrate_expect_error(db_migrate_upgrade_script(folder, "4444:head", stderr, &error), FORGE_INVALID_ARGUMENT, "no revision 4444");
}

static void write_concurrent_revision(const char *header, const char *sql)
{
    char text[1024];
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, "-- revision: " THIRD "\n-- revises: " SECOND "\n-- created: x\n-- message: an index\n%s\n%s\n", header,
                 i == 0 ? sql : "DROP INDEX CONCURRENTLY IF EXISTS ix_a;");
        migrate_write_file(i == 0 ? THIRD "_index.up.sql" : THIRD "_index.down.sql", text);
    }
}

static void test_a_marked_file_runs_without_a_transaction(void **state)
{
    (void)state;
    const char *index = "DROP INDEX CONCURRENTLY IF EXISTS ix_a;\n/* ; */ CREATE INDEX CONCURRENTLY ix_a ON two (a); -- ;";
    migrate_write_two();
    write_concurrent_revision("", index);
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION, "mark the file with `-- transaction: none`");
    migrate_expect_current(SECOND "\n");
    write_concurrent_revision("-- transaction: none", index);
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_expect_current(THIRD " (head)\n");
    assert_string_equal(migrate_query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_a'::regclass"), "t");
    assert_int_equal(migrate_down("-1"), FORGE_OK);
    assert_int_equal(run_script(write_script(folder, SECOND ":head"), database), 0);
    migrate_expect_current(THIRD " (head)\n");
    write_concurrent_revision("-- transaction: some", index);
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, "\"-- transaction:\" may only say none");
}

static void test_a_marked_file_that_fails_names_the_line_and_runs_again(void **state)
{
    (void)state;
    migrate_write_two();
    write_concurrent_revision("-- transaction: none",
                              "CREATE TABLE IF NOT EXISTS three (a integer);\nSET search_path = nowhere;\n\nSELECT nothing;");
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION, THIRD "_index.up.sql line 9: column \"nothing\" does not exist");
    migrate_expect_current(SECOND "\n");
    write_concurrent_revision("-- transaction: none", "CREATE TABLE IF NOT EXISTS three (a integer);");
    assert_int_equal(migrate_up("head"), FORGE_OK);
}

static void test_statements_are_taken_apart(void **state)
{
    (void)state;
    static const char *const statements[] = {"SELECT ';', E'\\';', \"a;b\";",
                                             " SELECT $$;$$, $a$;$$;$a$, $1;",
                                             "-- ;\nSELECT 1 /* ; /* ; */ ; */ ;",
                                             "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
                                             "SELECT a$b$c FROM d;",
                                             "SELECT 'it''s;' ;",
                                             "SELECT 'the last"};
    char text[1024] = "";
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        strcat(text, statements[i]);
    const char *rest = text;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        const char *end = db_statement_end(rest);
        assert_int_equal(end - rest, strlen(statements[i]));
        rest = end;
    }
    assert_string_equal(rest, "");
}

static void test_the_command_line_takes_the_verbs_and_their_flags(void **state)
{
    (void)state;
    migrate_write_two();
    RUN(0, "", "current");
    RUN(0, "Running upgrade  -> " FIRST ", step", "upgrade", "+1");
    RUN(0, "Rev: " FIRST "\nParent: <base>", "current", "--verbose");
    RUN(0, "Rev: " FIRST "\nParent: <base>", "current", "-v");
    RUN(0, "Rev: " SECOND " (head)", "history", "--verbose");
    RUN(0, "CREATE TABLE two", "upgrade", "1111:head", "--sql");
    RUN(0, FIRST "\n", "current");
    RUN(0, "Running stamp_revision  -> " SECOND, "stamp", "head");
    RUN(0, "Running stamp_revision  -> " FIRST, "stamp", "1111");
    RUN(0, "Running downgrade " FIRST " -> , step", "downgrade", "-1");
    RUN(1, "migrate upgrade does not take --verbose", "upgrade", "head", "--verbose");
    RUN(1, "migrate downgrade does not take --sql", "downgrade", "-1", "--sql");
    RUN(1, "migrate current does not take --message", "current", "-m", "x");
    RUN(2, "Usage: forged migrate", "upgrade");
    RUN(2, "Usage: forged migrate", "current", "verbose");
    RUN(2, "Usage: forged migrate", "sidegrade", "head");
    RUN(1, "unknown flag --head", "upgrade", "--head");
}

static void test_what_touches_no_database_needs_no_url(void **state)
{
    (void)state;
    migrate_write_two();
    struct child_output output;
    child_run("forged", (const char *[]){"migrate", "upgrade", "head", "--sql", "--migrations-folder", ".", NULL}, NULL, folder, &output);
    assert_int_equal(output.exit_code, 0);
    assert_non_null(strstr(output.out, "CREATE TABLE one"));
    child_output_done(&output);
    child_run("forged", (const char *[]){"migrate", "history", "--migrations-folder", ".", NULL}, NULL, folder, &output);
    assert_int_equal(output.exit_code, 0);
    child_output_done(&output);
    child_run("forged", (const char *[]){"migrate", "current", "--migrations-folder", ".", NULL}, NULL, folder, &output);
    assert_int_equal(output.exit_code, 1);
    assert_non_null(strstr(output.err, "database_owner_url is not set"));
    child_output_done(&output);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, migrate_fresh, migrate_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_history_is_told_newest_first),
        TEST(test_stamp_moves_without_running),
        TEST(test_stamp_mends_changed_files_and_unknown_revisions),
        TEST(test_the_script_does_what_upgrade_does),
        TEST(test_the_script_of_a_range_wants_its_beginning),
        TEST(test_a_marked_file_runs_without_a_transaction),
        TEST(test_a_marked_file_that_fails_names_the_line_and_runs_again),
        cmocka_unit_test(test_statements_are_taken_apart),
        TEST(test_the_command_line_takes_the_verbs_and_their_flags),
        TEST(test_what_touches_no_database_needs_no_url),
    };
    return cmocka_run_group_tests(tests, migrate_start, migrate_end);
}
