/* `forged migrate check` and `revision`: drift between schema.sql, the migrations and a database, and new revisions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A table with a bit of everything that is compared. */
#define SCHEMA                                                                                                                             \
    "CREATE SCHEMA forge_partitions;\nCREATE TABLE one (organization_id uuid NOT NULL, id bigint NOT NULL DEFAULT 7,\n"                    \
    "  name varchar(20) COLLATE \"C\", CONSTRAINT one_pkey PRIMARY KEY (organization_id, id), CONSTRAINT valid_name CHECK (name <> "       \
    "''));\n"                                                                                                                              \
    "CREATE INDEX ix_one_name ON one (organization_id, name);\nCREATE SEQUENCE one_id_seq OWNED BY one.id;\n"                              \
    "CREATE VIEW names AS SELECT name FROM one;\nALTER TABLE one ENABLE ROW LEVEL SECURITY;\nALTER TABLE one FORCE ROW LEVEL SECURITY;\n"  \
    "CREATE POLICY tenant ON one USING (id > 0);\nGRANT SELECT ON one TO forge_app;\n"
#define DOWN "DROP VIEW names; DROP TABLE one; DROP SCHEMA forge_partitions CASCADE;"

static forge_code check(void)
{
    lines[0] = '\0';
    return db_migrate_check(url, NULL, folder, migrate_note, NULL, &error);
}

static void expect_told(const char *part)
{
    if (strstr(lines, part) == NULL)
        fail_msg("not told: %s\ntold:\n%s", part, lines);
}

static void expect_no_drift(void)
{
    if (check() != FORGE_OK)
        fail_msg("%s\n%s", error.message, lines);
    assert_string_equal(lines, "No drift: schema.sql, migrations and database are the same\n");
}

/* Chain, schema.sql and database are the same. */
static int fresh_schema(void **state)
{
    migrate_fresh(state);
    migrate_write_revision(FIRST, "", SCHEMA, DOWN);
    migrate_write_file("schema.sql", SCHEMA);
    assert_int_equal(migrate_up("head"), FORGE_OK);
    return 0;
}

static void test_schema_sql_is_what_up_down_up_makes(void **state)
{
    (void)state;
    assert_int_equal(db_migrate_upgrade(url, real_folder, "head", NULL, NULL, &error), FORGE_OK);
    assert_int_equal(db_migrate_downgrade(url, real_folder, "base", NULL, NULL, &error), FORGE_OK);
    assert_int_equal(db_migrate_upgrade(url, real_folder, "head", NULL, NULL, &error), FORGE_OK);
    lines[0] = '\0';
    if (db_migrate_check(url, NULL, real_folder, migrate_note, NULL, &error) != FORGE_OK)
        fail_msg("%s\n%s\nmigrations/schema.sql is the wanted state: a change of a revision is made there too", error.message, lines);
}

static void test_each_kind_of_change_in_the_database_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *change, *told, *undo;
    } cases[] = {
        {"ALTER TABLE one ADD COLUMN note text DEFAULT 'x'",
         "  column note\n    schema.sql  (none)\n    migrations  (none)\n    database    text default 'x'::text\n",
         "ALTER TABLE one DROP COLUMN note"},
        {"ALTER TABLE one ALTER COLUMN name SET NOT NULL", "database    character varying(20) collate \"C\" not null\n",
         "ALTER TABLE one ALTER COLUMN name DROP NOT NULL"},
        {"ALTER TABLE one ALTER COLUMN id SET DEFAULT 8",
         "migrations  bigint not null default 7\n    database    bigint not null default 8\n",
         "ALTER TABLE one ALTER COLUMN id SET DEFAULT 7"},
        {"ALTER TABLE one DROP CONSTRAINT valid_name", "  constraint valid_name\n",
         "ALTER TABLE one ADD CONSTRAINT valid_name CHECK (name <> '')"},
        {"DROP INDEX ix_one_name", "  index ix_one_name\n", "CREATE INDEX ix_one_name ON one (organization_id, name)"},
        {"ALTER POLICY tenant ON one USING (id > 1)", "database    permissive for * to public using (id > 1)\n",
         "ALTER POLICY tenant ON one USING (id > 0)"},
        {"ALTER TABLE one NO FORCE ROW LEVEL SECURITY", "  row-level security\n    schema.sql  enabled, forced\n",
         "ALTER TABLE one FORCE ROW LEVEL SECURITY"},
        {"GRANT DELETE ON one TO forge_app",
         "  grant to forge_app\n    schema.sql  SELECT\n    migrations  SELECT\n    database    DELETE, SELECT\n",
         "REVOKE DELETE ON one FROM forge_app"},
        {"GRANT SELECT ON one TO PUBLIC", "  grant to public\n", "REVOKE SELECT ON one FROM PUBLIC"},
        {"GRANT UPDATE (name) ON one TO forge_app", "  grant on column name to forge_app\n", "REVOKE UPDATE (name) ON one FROM forge_app"},
        {"GRANT USAGE ON SCHEMA forge_partitions TO forge_app", "schema forge_partitions\n  grant to forge_app\n",
         "REVOKE USAGE ON SCHEMA forge_partitions FROM forge_app"},
        {"ALTER SEQUENCE one_id_seq INCREMENT 2", "sequence one_id_seq\n  sequence\n", "ALTER SEQUENCE one_id_seq INCREMENT 1"},
        {"CREATE OR REPLACE VIEW names AS SELECT upper(name)::varchar(20) COLLATE \"C\" AS name FROM one", "view names\n  definition\n",
         "CREATE OR REPLACE VIEW names AS SELECT name FROM one"},
        {"ALTER VIEW names SET (security_invoker = true)",
         "  kind\n    schema.sql  v\n    migrations  v\n    database    v security_invoker=true\n",
         "ALTER VIEW names RESET (security_invoker)"},
        {"CREATE TABLE two (a integer)", "table two\n", "DROP TABLE two"},
        {"CREATE FUNCTION twice(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * a'", "function twice(integer)\n",
         "DROP FUNCTION twice"},
        {"CREATE TYPE mood AS ENUM ('well')", "type mood\n", "DROP TYPE mood"},
    };
    expect_no_drift();
    size_t count = sizeof cases / sizeof cases[0];
    for (size_t i = 0; i < count; i++)
        pg_cluster_execute(cluster, "forge_owner", database, cases[i].change);
    migrate_expect_error(check(), FORGE_FAILED_PRECONDITION, "drift: ");
    for (size_t i = 0; i < count; i++)
        expect_told(cases[i].told);
    for (size_t i = count; i > 0; i--)
        pg_cluster_execute(cluster, "forge_owner", database, cases[i - 1].undo);
    expect_no_drift();
}

static void test_what_others_own_is_told(void **state)
{
    (void)state;
    pg_cluster_execute(cluster, "postgres", database, "ALTER TABLE one OWNER TO postgres");
    migrate_expect_error(check(), FORGE_FAILED_PRECONDITION, "drift: ");
    expect_told("table one\n");
    expect_told("  owner\n");
}

static void test_a_schema_file_that_wants_more_is_told(void **state)
{
    (void)state;
    migrate_write_file("schema.sql", SCHEMA "ALTER TABLE one ADD COLUMN note text;\n");
    migrate_expect_error(check(), FORGE_FAILED_PRECONDITION, "drift: 1 differences in 1 objects");
    assert_string_equal(lines, "table one\n  column note\n    schema.sql  text\n    migrations  (none)\n    database    (none)\n");
}

static void test_neither_column_order_nor_partitions_count(void **state)
{
    (void)state;
    pg_cluster_execute(cluster, "forge_owner", database,
                       "DROP VIEW names; ALTER TABLE one DROP COLUMN name; ALTER TABLE one ADD COLUMN extra integer;"
                       "ALTER TABLE one ADD COLUMN name varchar(20) COLLATE \"C\"; ALTER TABLE one DROP COLUMN extra;"
                       "ALTER TABLE one ADD CONSTRAINT valid_name CHECK (name <> '');"
                       "CREATE INDEX ix_one_name ON one (organization_id, name); CREATE VIEW names AS SELECT name FROM one;"
                       "CREATE TABLE forge_partitions.spans_20260101 (a integer)");
    expect_no_drift();
}

static void test_a_database_behind_the_chain_is_told(void **state)
{
    (void)state;
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer);", "DROP TABLE two;");
    migrate_write_file("schema.sql", SCHEMA "CREATE TABLE two (a integer);");
    migrate_expect_error(check(), FORGE_FAILED_PRECONDITION, "drift: the database has 1 of 2 revisions: `forged migrate upgrade head`");
    assert_string_equal(lines, "");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    expect_no_drift();
}

static void test_what_cannot_be_checked_says_why(void **state)
{
    (void)state;
    char path[128];
    migrate_write_file("schema.sql", "CREATE TABLE one (a integer);\nCREATE TABEL two ();\n");
    migrate_expect_error(check(), FORGE_FAILED_PRECONDITION, "schema.sql line 2: syntax error at or near \"TABEL\"");
    snprintf(path, sizeof path, "%s/schema.sql", folder);
    assert_int_equal(remove(path), 0);
    migrate_expect_error(check(), FORGE_NOT_FOUND, "schema.sql: No such file or directory");
    migrate_write_file("schema.sql", SCHEMA);
    pg_cluster_execute(cluster, "postgres", "postgres", "ALTER ROLE forge_owner NOCREATEDB");
    migrate_expect_error(check(), FORGE_FAILED_PRECONDITION, "role forge_owner may not create the scratch databases");
    lines[0] = '\0';
    const char *scratch_url = pg_cluster_url(cluster, "postgres", "postgres");
    forge_code rc = db_migrate_check(url, scratch_url, folder, migrate_note, NULL, &error);
    pg_cluster_execute(cluster, "postgres", "postgres", "ALTER ROLE forge_owner CREATEDB");
    if (rc != FORGE_OK)
        fail_msg("%s\n%s", error.message, lines);
}

static const char SCRATCH_COUNT[] = "SELECT count(*) FROM pg_database WHERE datname LIKE '%forged_scratch%'";

static void test_scratch_databases_are_dropped_leftovers_too(void **state)
{
    (void)state;
    char sql[128];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s_forged_scratch_chain", database);
    pg_cluster_execute(cluster, "forge_owner", database, sql);
    expect_no_drift();
    assert_string_equal(migrate_query(SCRATCH_COUNT), "0");
    migrate_write_file("schema.sql", "nonsense");
    assert_int_not_equal(check(), FORGE_OK);
    assert_string_equal(migrate_query(SCRATCH_COUNT), "0");
}

static void *check_thread(void *argument)
{
    struct forge_error failed = {0};
    forge_code *rc = argument;
    *rc = db_migrate_check(url, NULL, folder, NULL, NULL, &failed);
    return NULL;
}

static void test_two_checks_at_once_wait_for_each_other(void **state)
{
    (void)state;
    pthread_t threads[2];
    forge_code codes[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, check_thread, &codes[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(codes[i], FORGE_OK);
    }
    assert_string_equal(migrate_query(SCRATCH_COUNT), "0");
}

/* ---- revision ---- */

static struct db_migrate_revision request(const char *message)
{
    return (struct db_migrate_revision){.folder = folder, .message = message, .scratch_url = url};
}

static forge_code revision(const struct db_migrate_revision *made)
{
    lines[0] = '\0';
    return db_migrate_revision(made, migrate_note, NULL, &error);
}

static int count_files(void)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, NULL);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return count;
}

static void copy_template(void)
{
    char command[4400];
    snprintf(command, sizeof command, "cp %s/template.sql %s", real_folder, folder);
    assert_int_equal(system(command), 0);
}

static void test_a_revision_is_two_files_behind_the_newest(void **state)
{
    (void)state;
    copy_template();
    const struct db_migrate_revision made = request("Add notes (2), at last: what we always wanted to have and more");
    assert_int_equal(revision(&made), FORGE_OK);
    expect_told("_add_notes_2_at_last_what_we_always_wante.up.sql ...  done\n");
    expect_told(".down.sql ...  done\n");
    assert_int_equal(db_migrate_history(folder, false, migrate_note, NULL, &error), FORGE_OK);
    expect_told(FIRST " -> ");
    expect_told(" (head), Add notes (2), at last: what we always wanted to have and more\n");
    assert_int_equal(migrate_up("head"), FORGE_OK);
    assert_int_equal(migrate_down("-1"), FORGE_OK);
    assert_int_equal(revision(&made), FORGE_OK); /* another id */
    assert_int_equal(migrate_up("+2"), FORGE_OK);
}

static void test_a_revision_that_cannot_be_made_leaves_nothing(void **state)
{
    (void)state;
    struct db_migrate_revision made = request("notes");
    int before = count_files();
    migrate_expect_error(revision(&made), FORGE_NOT_FOUND, "template.sql: No such file or directory");
    made.message = NULL;
    migrate_expect_error(revision(&made), FORGE_INVALID_ARGUMENT, "a revision needs a message");
    made.message = "  ";
    migrate_expect_error(revision(&made), FORGE_INVALID_ARGUMENT, "a revision needs a message");
    made.message = "one\nDROP TABLE two";
    migrate_expect_error(revision(&made), FORGE_INVALID_ARGUMENT, "one line without control characters");
    made.message = "notes";
    made.autogenerate = true;
    migrate_expect_error(revision(&made), FORGE_FAILED_PRECONDITION, "npm install --global @pgkit/migra");
    made.autogenerate = false;
    assert_int_equal(count_files(), before);
    migrate_write_file("template.sql", "-- ${revision} $5 ${revison}");
    migrate_expect_error(revision(&made), FORGE_INVALID_ARGUMENT, "template.sql: ${revison} is not known");
    assert_int_equal(count_files(), before + 1);
}

/* A program that compares columns only: those of table one that the second database has beyond the first, and the other way round. */
static const char *write_diff_command(void)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/diff", folder);
    migrate_write_file("diff", "#!/bin/sh -e\ncolumns() { psql \"$1\" -XAtc \"SELECT column_name FROM information_schema.columns WHERE"
                               " table_name = 'one' ORDER BY 1\"; }\nfrom=$(columns \"$1\")\nto=$(columns \"$2\")\nstatus=0\n"
                               "for c in $to; do case \" $(echo $from) \" in *\" $c \"*) ;; *) echo \"ALTER TABLE one ADD COLUMN $c"
                               " text;\"; status=2 ;; esac; done\n"
                               "for c in $from; do case \" $(echo $to) \" in *\" $c \"*) ;; *) echo \"ALTER TABLE one DROP COLUMN $c;\";"
                               " status=2 ;; esac; done\nexit $status\n");
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static void test_a_draft_leads_to_what_schema_sql_wants(void **state)
{
    (void)state;
    copy_template();
    struct db_migrate_revision made = request("notes");
    made.autogenerate = true;
    made.diff_command = write_diff_command();
    int before = count_files();
    assert_int_equal(revision(&made), FORGE_OK);
    assert_string_equal(lines, "Nothing to do: the migrations make what schema.sql wants\n");
    assert_int_equal(count_files(), before);
    migrate_write_file("schema.sql", SCHEMA "ALTER TABLE one ADD COLUMN note text;\n");
    if (revision(&made) != FORGE_OK)
        fail_msg("%s", error.message);
    assert_int_equal(count_files(), before + 2);
    assert_int_equal(migrate_up("head"), FORGE_OK);
    expect_no_drift();
    assert_int_equal(migrate_down("-1"), FORGE_OK);
    assert_int_equal(migrate_up("head"), FORGE_OK);
    expect_no_drift();
    made.diff_command = "exit 3;";
    migrate_expect_error(revision(&made), FORGE_FAILED_PRECONDITION, "schema_diff_command failed (exit code 3): exit 3;");
    assert_string_equal(migrate_query(SCRATCH_COUNT), "0");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh_schema, migrate_remove_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_schema_sql_is_what_up_down_up_makes, migrate_fresh, migrate_remove_folder),
        TEST(test_each_kind_of_change_in_the_database_is_told),
        TEST(test_what_others_own_is_told),
        TEST(test_a_schema_file_that_wants_more_is_told),
        TEST(test_neither_column_order_nor_partitions_count),
        TEST(test_a_database_behind_the_chain_is_told),
        TEST(test_what_cannot_be_checked_says_why),
        TEST(test_scratch_databases_are_dropped_leftovers_too),
        TEST(test_two_checks_at_once_wait_for_each_other),
        TEST(test_a_revision_is_two_files_behind_the_newest),
        TEST(test_a_revision_that_cannot_be_made_leaves_nothing),
        TEST(test_a_draft_leads_to_what_schema_sql_wants),
    };
    return cmocka_run_group_tests(tests, migrate_start, migrate_end);
}
