/* `forged migrate` as a library, on a real PostgreSQL: the chain of files, targets, locks, and what a killed migrator leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/migration_files.h"
#include "migrate_fixture.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void test_up_down_up_gives_the_same_dump(void **state)
{
    (void)state;
    assert_int_equal(db_migrate_upgrade(url, real_folder, "head", NULL, NULL, &error), FORGE_OK);
    char *first = pg_cluster_dump_schema(cluster, database);
    assert_int_equal(db_migrate_downgrade(url, real_folder, "base", NULL, NULL, &error), FORGE_OK);
    assert_string_equal(
        migrate_query("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public',"
                      " 'forge_partitions') AND relname NOT LIKE '%schema_revisions%'"),
        "0");
    assert_int_equal(db_migrate_upgrade(url, real_folder, "head", NULL, NULL, &error), FORGE_OK);
    char *second = pg_cluster_dump_schema(cluster, database);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static void test_targets_move_as_people_know_them_from_alembic(void **state)
{
    (void)state;
    migrate_write_two();
    migrate_write_revision(THIRD, SECOND, "CREATE TABLE three (a integer);", "DROP TABLE three;");
    migrate_expect_current("");
    assert_int_equal(migrate_up("+1"), FORGE_OK);
    assert_string_equal(lines, "Running upgrade  -> " FIRST ", step\n");
    migrate_expect_current(FIRST "\n");
    assert_int_equal(migrate_up("2222"), FORGE_OK);
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_expect_current(THIRD " (head)\n");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    assert_string_equal(lines, "Nothing to do: revision " THIRD " is applied\n");
    assert_int_equal(migrate_down("-1"), FORGE_OK);
    assert_string_equal(lines, "Running downgrade " THIRD " -> " SECOND ", step\n");
    assert_int_equal(migrate_down(FIRST), FORGE_OK);
    migrate_expect_current(FIRST "\n");
    assert_string_equal(migrate_query("SELECT string_agg(revision || position, ',') FROM schema_revisions"), FIRST "1");
    assert_int_equal(migrate_down("base"), FORGE_OK);
    migrate_expect_current("");
    assert_string_equal(migrate_query("SELECT to_regclass('one') IS NULL"), "t");
}

static void test_verbose_current_tells_where_and_what(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(migrate_up("head"), FORGE_OK);
    lines[0] = '\0';
    assert_int_equal(db_migrate_current(url, folder, true, migrate_note, NULL, &error), FORGE_OK);
    assert_non_null(strstr(lines, database));
    assert_non_null(strstr(lines, "Rev: " SECOND " (head)\nParent: " FIRST "\nPath: " SECOND "_step.up.sql\n"));
}

static void test_wrong_targets_say_what_is_there(void **state)
{
    (void)state;
    migrate_write_two();
    migrate_expect_error(migrate_up("+3"), FORGE_INVALID_ARGUMENT, "target +3: only 2 revisions are left to apply");
    migrate_expect_error(migrate_up("+0"), FORGE_INVALID_ARGUMENT, "target \"+0\": not head, base, +N, -N or a revision");
    migrate_expect_error(migrate_up("tail"), FORGE_INVALID_ARGUMENT, "target \"tail\": not head");
    migrate_expect_error(migrate_up("4444"), FORGE_INVALID_ARGUMENT, "no revision 4444 in the migrations folder");
    migrate_expect_error(migrate_down("-1"), FORGE_INVALID_ARGUMENT, "target -1: only 0 revisions are applied");
    migrate_expect_error(migrate_down(FIRST), FORGE_INVALID_ARGUMENT, "that revision is not applied");
    migrate_expect_error(migrate_down("head"), FORGE_INVALID_ARGUMENT, "not head");
    migrate_expect_current("");
}

static void test_an_ambiguous_revision_is_refused(void **state)
{
    (void)state;
    migrate_write_revision("abcd00000000", "", "SELECT 1;", "SELECT 1;");
    migrate_write_revision("abcd11111111", "abcd00000000", "SELECT 1;", "SELECT 1;");
    migrate_expect_error(migrate_up("abcd"), FORGE_INVALID_ARGUMENT, "target abcd: abcd00000000 and abcd11111111 begin with it");
}

static void test_broken_folders_are_named(void **state)
{
    (void)state;
    char text[512];
    migrate_expect_error(migrate_up("head"), FORGE_NOT_FOUND, "no migrations in ");
    migrate_write_two();
    migrate_write_revision(THIRD, FIRST, "SELECT 1;", "SELECT 1;");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT,
                         "the chain branches: " SECOND "_step.up.sql and " THIRD "_step.up.sql both revise " FIRST);
    migrate_write_revision(THIRD, "444444444444", "SELECT 1;", "SELECT 1;");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, THIRD "_step.up.sql revises 444444444444, which is not in the folder");
    migrate_write_revision(THIRD, SECOND, "SELECT 1;", "COMMIT ;");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, THIRD "_step.down.sql line 6: COMMIT is the migrator's to say");
    migrate_write_revision(THIRD, SECOND, "SELECT 1;", "SELECT 1;");
    snprintf(text, sizeof text, "-- revision: %s\n-- revises: %s\n-- created: x\n-- message: x\n", THIRD, SECOND);
    migrate_write_file(THIRD "_other.up.sql", text);
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT,
                         "revision " THIRD " is there twice: " THIRD "_other.up.sql and " THIRD "_step.up.sql");
    char path[128];
    snprintf(path, sizeof path, "%s/" THIRD "_step.up.sql", folder);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/" THIRD "_step.down.sql", folder);
    assert_int_equal(unlink(path), 0);
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, THIRD "_other.up.sql has no .down.sql file");
    migrate_write_file(THIRD "_other.up.sql", "-- revision: " THIRD "\n-- message: x\n");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, THIRD "_other.up.sql: line 2 must be \"-- revises: ...\"");
    migrate_write_file(THIRD "_other.up.sql", "-- revision: " FIRST "\n-- revises: 12\n-- created: x\n-- message: x\n");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, "\"-- revises:\" must hold 12 lower-case hexadecimal digits");
    migrate_write_file(THIRD "_other.up.sql", "-- revision: " FIRST "\n-- revises:\n-- created: x\n-- message: x\n");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, THIRD "_other.up.sql: its header names revision " FIRST);
    snprintf(path, sizeof path, "%s/" THIRD "_other.up.sql", folder);
    assert_int_equal(unlink(path), 0);
    migrate_write_file("3.up.sql", "");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT,
                         "3.up.sql: a migration is named <12 hexadecimal digits>_<slug>.up.sql or .down.sql");
    migrate_expect_error(db_migrate_upgrade(url, "/nowhere", "head", NULL, NULL, &error), FORGE_NOT_FOUND,
                         "cannot read the migrations folder /nowhere");
}

static void test_a_circle_of_revisions_is_refused(void **state)
{
    (void)state;
    migrate_write_revision(FIRST, SECOND, "SELECT 1;", "SELECT 1;");
    migrate_write_revision(SECOND, FIRST, "SELECT 1;", "SELECT 1;");
    migrate_expect_error(migrate_up("head"), FORGE_INVALID_ARGUMENT, "the chain is broken");
}

static void test_names_are_taken_apart(void **state)
{
    (void)state;
    char revision[DB_REVISION_SIZE];
    enum db_migration_direction direction;
    assert_true(db_migration_name_parse("0123456789ab_a_slug.down.sql", revision, &direction));
    assert_string_equal(revision, "0123456789ab");
    assert_int_equal(direction, DB_MIGRATION_DOWN);
    static const char *const wrong[] = {"",
                                        "0123456789ab",
                                        "0123456789ab_.up.sql",
                                        "0123456789a_x.up.sql",
                                        "0123456789AB_x.up.sql",
                                        "0123456789ab_x.up.sql.bak",
                                        "0123456789ab_X.up.sql",
                                        "0123456789ab-x.up.sql",
                                        "0123456789ab_x.sql"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(db_migration_name_parse(wrong[i], revision, &direction));
}

static void test_a_changed_file_is_refused_until_the_database_is_reset(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a bigint);", "DROP TABLE one;");
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION,
                         FIRST "_step.up.sql was changed after it was applied: reset this development database");
    assert_int_equal(migrate_down("base"), FORGE_OK);
    assert_int_equal(migrate_up("head"), FORGE_OK);
}

static void test_a_database_ahead_of_the_folder_is_refused(void **state)
{
    (void)state;
    migrate_write_two();
    assert_int_equal(migrate_up("head"), FORGE_OK);
    assert_int_equal(migrate_remove_folder(NULL), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer);", "DROP TABLE one;");
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION,
                         "the database has revision " SECOND ", which this migrations folder does not have at that place");
    migrate_expect_error(migrate_down("base"), FORGE_FAILED_PRECONDITION, "the database has revision " SECOND);
    migrate_expect_error(db_migrate_current(url, folder, false, NULL, NULL, &error), FORGE_FAILED_PRECONDITION, SECOND);
}

static void test_a_failing_revision_leaves_the_one_before_it(void **state)
{
    (void)state;
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer);", "DROP TABLE one;");
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer);\n-- ä\nCREATE TABEL three ();", "DROP TABLE two;");
    migrate_expect_error(migrate_up("head"), FORGE_FAILED_PRECONDITION, SECOND "_step.up.sql line 8: syntax error at or near \"TABEL\"");
    migrate_expect_current(FIRST "\n");
    assert_string_equal(migrate_query("SELECT to_regclass('two') IS NULL"), "t");
}

static void test_other_roles_are_sent_to_the_owners_url(void **state)
{
    (void)state;
    migrate_write_two();
    migrate_expect_error(db_migrate_upgrade(pg_cluster_url(cluster, "forge_app", database), folder, "head", NULL, NULL, &error),
                         FORGE_FAILED_PRECONDITION, "role forge_app does not own database");
    migrate_expect_error(db_migrate_upgrade(pg_cluster_url(cluster, "postgres", database), folder, "head", NULL, NULL, &error),
                         FORGE_FAILED_PRECONDITION, "migrate by DATABASE_OWNER_URL, not by DATABASE_URL");
    migrate_expect_error(db_migrate_upgrade("mysql://a@b/c", folder, "head", NULL, NULL, &error), FORGE_INVALID_ARGUMENT, "mysql");
    migrate_expect_error(db_migrate_upgrade("postgresql://x@127.0.0.1:1/x", folder, "head", NULL, NULL, &error), FORGE_UNAVAILABLE,
                         "Connection refused");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    lines[0] = '\0'; /* whoever serves may look */
    assert_int_equal(db_migrate_current(pg_cluster_url(cluster, "forge_app", database), folder, false, migrate_note, NULL, &error),
                     FORGE_OK);
    assert_string_equal(lines, SECOND " (head)\n");
}

struct migrator {
    pthread_barrier_t *barrier;
    forge_code rc;
    struct forge_error error;
};

static void *migrate_thread(void *argument)
{
    struct migrator *migrator = argument;
    pthread_barrier_wait(migrator->barrier);
    migrator->rc = db_migrate_upgrade(url, folder, "head", NULL, NULL, &migrator->error);
    return NULL;
}

static void test_of_two_migrators_one_waits_and_finds_nothing_to_do(void **state)
{
    (void)state;
    enum { MIGRATORS = 4 };
    pthread_barrier_t barrier;
    pthread_t threads[MIGRATORS];
    struct migrator migrators[MIGRATORS];
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer); SELECT pg_sleep(0.05);", "DROP TABLE one;");
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer);", "DROP TABLE two;");
    assert_int_equal(pthread_barrier_init(&barrier, NULL, MIGRATORS), 0);
    for (int i = 0; i < MIGRATORS; i++) {
        migrators[i] = (struct migrator){.barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, migrate_thread, &migrators[i]), 0);
    }
    for (int i = 0; i < MIGRATORS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        if (migrators[i].rc != FORGE_OK)
            fail_msg("migrator %d: %s", i, migrators[i].error.message);
    }
    pthread_barrier_destroy(&barrier);
    assert_string_equal(migrate_query("SELECT string_agg(revision, ',' ORDER BY position) FROM schema_revisions"), FIRST "," SECOND);
}

/* A session that holds a lock on table one. */
static PGconn *lock_table_one(void)
{
    PGconn *conn = PQconnectdb(url);
    PGresult *result = PQexec(conn, "BEGIN; LOCK TABLE one IN ACCESS SHARE MODE");
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    return conn;
}

/* Lets go of the lock as soon as the migrator has said that it waits. */
static void release_lock(const char *line, void *user)
{
    PGconn **holder = user;
    migrate_note(line, NULL);
    if (strstr(line, "Waiting for a lock") != NULL) {
        PQfinish(*holder);
        *holder = NULL;
    }
}

static void test_a_lock_that_others_hold_is_waited_for_in_short_turns(void **state)
{
    (void)state;
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer);", "DROP TABLE one;");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_write_revision(SECOND, FIRST, "ALTER TABLE one ADD COLUMN b integer;", "ALTER TABLE one DROP COLUMN b;");
    PGconn *holder = lock_table_one();
    lines[0] = '\0';
    assert_int_equal(db_migrate_upgrade(url, folder, "head", release_lock, &holder, &error), FORGE_OK);
    assert_null(holder);
    assert_non_null(strstr(lines, "Waiting for a lock, attempt 1 of 10 failed"));
    migrate_expect_current(SECOND " (head)\n");
}

static void test_a_lock_that_is_never_given_ends_the_migration_unchanged(void **state)
{
    (void)state;
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer);", "DROP TABLE one;");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer); ALTER TABLE one ADD COLUMN b integer;", "DROP TABLE two;");
    PGconn *holder = lock_table_one();
    migrate_expect_error(migrate_up("head"), FORGE_UNAVAILABLE, "canceling statement due to lock timeout");
    assert_non_null(strstr(lines, "attempt 9 of 10"));
    PQfinish(holder);
    migrate_expect_current(FIRST "\n");
    assert_string_equal(migrate_query("SELECT to_regclass('two') IS NULL"), "t");
}

static void test_a_killed_migrator_leaves_whole_revisions(void **state)
{
    (void)state;
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer);", "DROP TABLE one;");
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer); SELECT pg_sleep(60);", "DROP TABLE two;");
    for (int round = 0; round < 3; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct forge_error failed = {0};
            _exit(db_migrate_upgrade(url, folder, "head", NULL, NULL, &failed) == FORGE_OK ? 0 : 1);
        }
        migrate_await("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')");
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_string_equal(migrate_query("SELECT string_agg(revision, ',') FROM schema_revisions"), FIRST);
        assert_string_equal(migrate_query("SELECT to_regclass('two') IS NULL"), "t");
        /* PostgreSQL finds out within a second that nobody waits for the sleep any more. */
        migrate_await("SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')");
    }
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer);", "DROP TABLE two;");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    migrate_expect_current(SECOND " (head)\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, migrate_fresh, migrate_remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_up_down_up_gives_the_same_dump),
        TEST(test_targets_move_as_people_know_them_from_alembic),
        TEST(test_verbose_current_tells_where_and_what),
        TEST(test_wrong_targets_say_what_is_there),
        TEST(test_an_ambiguous_revision_is_refused),
        TEST(test_broken_folders_are_named),
        TEST(test_a_circle_of_revisions_is_refused),
        TEST(test_names_are_taken_apart),
        TEST(test_a_changed_file_is_refused_until_the_database_is_reset),
        TEST(test_a_database_ahead_of_the_folder_is_refused),
        TEST(test_a_failing_revision_leaves_the_one_before_it),
        TEST(test_other_roles_are_sent_to_the_owners_url),
        TEST(test_of_two_migrators_one_waits_and_finds_nothing_to_do),
        TEST(test_a_lock_that_others_hold_is_waited_for_in_short_turns),
        TEST(test_a_lock_that_is_never_given_ends_the_migration_unchanged),
        TEST(test_a_killed_migrator_leaves_whole_revisions),
    };
    return cmocka_run_group_tests(tests, migrate_start, migrate_end);
}
