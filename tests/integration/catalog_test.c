/* The migrated schema against its rules and against migrations/README.md, by PostgreSQL's own catalog. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/migrate.h"
#include "support/pg_cluster.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 4000, LINE_SIZE = 256 };

static struct pg_cluster *cluster;
static const char *database;

/* Tables that hold a tenant's rows: all of ours but the lookup tables. */
#define TENANT_TABLES                                                                                                                      \
    "SELECT c.oid, c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"                                     \
    " WHERE n.nspname IN ('public', 'forge_partitions') AND c.relkind IN ('r', 'p') AND c.relname NOT IN ('organization_names',"           \
    " 'login_names', 'certificate_names', 'operator_tokens', 'login_failures', 'encryption_keys', 'changes', 'schema_revisions')"

static int setup(void **state)
{
    (void)state;
    struct forge_error error = {0};
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/migrations", getenv("FORGE_SOURCE_DIR"));
    cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(cluster);
    database = pg_cluster_create_database(cluster, "forge_owner");
    if (db_migrate_upgrade(pg_cluster_url(cluster, "forge_owner", database), folder, "head", NULL, NULL, &error) != FORGE_OK) {
        print_error("%s\n", error.message);
        return 1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pg_cluster_free(cluster);
    return 0;
}

static PGresult *query(const char *sql)
{
    PGconn *conn = PQconnectdb(pg_cluster_url(cluster, "postgres", database));
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQfinish(conn);
    return result;
}

/* Fails with the rows: each is something that breaks the rule. */
static void expect_no_rows(const char *sql)
{
    PGresult *result = query(sql);
    int count = PQntuples(result);
    for (int i = 0; i < count; i++)
        print_error("%s\n", PQgetvalue(result, i, 0));
    PQclear(result);
    assert_int_equal(count, 0);
}

static void test_tenant_tables_are_found(void **state)
{
    (void)state;
    PGresult *result = query("SELECT count(*) >= 45, count(*) FILTER (WHERE nspname = 'forge_partitions') >= 1 FROM (" TENANT_TABLES ") t");
    assert_string_equal(PQgetvalue(result, 0, 0), "t");
    assert_string_equal(PQgetvalue(result, 0, 1), "t");
    PQclear(result);
}

static void test_row_level_security_is_enabled_and_forced_on_every_tenant_table_and_partition(void **state)
{
    (void)state;
    expect_no_rows("SELECT t.nspname || '.' || t.relname FROM (" TENANT_TABLES ") t JOIN pg_class c ON c.oid = t.oid"
                   " WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)");
    expect_no_rows("SELECT t.nspname || '.' || t.relname FROM (" TENANT_TABLES ") t WHERE (SELECT count(*) FROM pg_policy p"
                   " WHERE p.polrelid = t.oid AND p.polname = 'tenant' AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}'"
                   " AND pg_get_expr(p.polqual, t.oid) = '(organization_id = (current_setting(''forge.organization_id''::text))::uuid)'"
                   " AND pg_get_expr(p.polwithcheck, t.oid) = pg_get_expr(p.polqual, t.oid)) <> 1"
                   " OR (SELECT count(*) FROM pg_policy p WHERE p.polrelid = t.oid) <> 1");
}

static void test_organization_id_leads_every_key_and_index_of_tenant_tables(void **state)
{
    (void)state;
    expect_no_rows("SELECT t.relname || ': column' FROM (" TENANT_TABLES ") t WHERE NOT EXISTS (SELECT FROM pg_attribute a"
                   " WHERE a.attrelid = t.oid AND a.attname = 'organization_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull)");
    expect_no_rows("SELECT i.indexrelid::regclass::text FROM (" TENANT_TABLES ") t JOIN pg_index i ON i.indrelid = t.oid"
                   " LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]"
                   " WHERE a.attname IS DISTINCT FROM 'organization_id'");
    expect_no_rows("SELECT k.conname FROM (" TENANT_TABLES ") t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'"
                   " JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.conkey[1]"
                   " JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]"
                   " WHERE a.attname <> 'organization_id' OR f.attname <> 'organization_id'");
    expect_no_rows("SELECT t.relname FROM (" TENANT_TABLES ") t WHERE NOT EXISTS (SELECT FROM pg_index i"
                   " WHERE i.indrelid = t.oid AND i.indisprimary)");
}

static void test_foreign_keys_have_an_index_that_begins_with_their_columns(void **state)
{
    (void)state;
    expect_no_rows("SELECT k.conname FROM (" TENANT_TABLES ") t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'"
                   " WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid"
                   " AND (i.indkey::int2[])[0:array_length(k.conkey, 1) - 1] = k.conkey)");
}

static void test_there_are_no_triggers_rules_or_identity_columns(void **state)
{
    (void)state;
    expect_no_rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal");
    expect_no_rows("SELECT r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace"
                   " WHERE n.nspname IN ('public', 'forge_partitions') AND c.relkind <> 'v'");
    expect_no_rows("SELECT a.attname FROM pg_attribute a JOIN (" TENANT_TABLES ") t ON t.oid = a.attrelid WHERE a.attidentity <> ''");
    /* Every text that is looked up or ordered by compares byte by byte. */
    expect_no_rows("SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
                   " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND a.attnum > 0"
                   " AND a.atttypid = 'varchar'::regtype AND a.attcollation <> '\"C\"'::regcollation");
}

static void test_forge_app_has_its_grants_on_parents_and_nobody_else_has_any(void **state)
{
    (void)state;
    expect_no_rows("SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                   " WHERE n.nspname = 'forge_partitions' AND c.relkind IN ('r', 'p')"
                   " AND has_table_privilege('forge_app', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')");
    expect_no_rows("SELECT 'forge_partitions' WHERE has_schema_privilege('forge_app', 'forge_partitions', 'USAGE')");
    expect_no_rows("SELECT 'public' WHERE has_schema_privilege('forge_app', 'public', 'CREATE')");
    expect_no_rows("SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                   " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT has_table_privilege('forge_app', c.oid, 'SELECT')");
    /* Operator tokens and revisions are the owner's, the audit log and the known keys only grow. */
    expect_no_rows("SELECT c.relname FROM pg_class c WHERE c.relname IN ('operator_tokens', 'schema_revisions')"
                   " AND has_table_privilege('forge_app', c.oid, 'INSERT, UPDATE, DELETE')");
    expect_no_rows("SELECT c.relname FROM pg_class c WHERE c.relname IN ('audit_log', 'encryption_keys')"
                   " AND has_table_privilege('forge_app', c.oid, 'UPDATE, DELETE')");
    expect_no_rows("SELECT c.relname || ' to ' || a.grantee::regrole FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
                   " aclexplode(c.relacl) a WHERE n.nspname IN ('public', 'forge_partitions')"
                   " AND a.grantee NOT IN ('forge_owner'::regrole, 'forge_app'::regrole)");
    expect_no_rows("SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public',"
                   " 'forge_partitions') AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> 'forge_owner'");
}

static void test_tenants_are_apart_without_any_filter(void **state)
{
    (void)state;
    const char *one = "00000000-0000-7000-8000-000000000001", *two = "00000000-0000-7000-8000-000000000002";
    char sql[1024];
    for (int i = 0; i < 2; i++) {
        snprintf(sql, sizeof sql,
                 "SET forge.organization_id = '%s'; INSERT INTO organizations (organization_id, name, slug) VALUES ('%s', 'n', 's%d')",
                 i == 0 ? one : two, i == 0 ? one : two, i);
        pg_cluster_execute(cluster, "forge_app", database, sql);
    }
    snprintf(sql, sizeof sql,
             "SET forge.organization_id = '%s'; INSERT INTO organizations (organization_id, name, slug) VALUES ('%s', 'n', 'x')", one,
             "00000000-0000-7000-8000-000000000003");
    assert_string_equal(pg_cluster_try(cluster, "forge_app", database, sql), "42501");
    snprintf(sql, sizeof sql, "SELECT set_config('forge.organization_id', '%s', false); UPDATE organizations SET name = 'mine'", one);
    pg_cluster_execute(cluster, "forge_app", database, sql);
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT string_agg(name, ',' ORDER BY slug) FROM organizations"),
                        "mine,n");
    /* Without a tenant nothing is seen: the setting does not exist, or is empty after a transaction that had it. */
    assert_string_not_equal(pg_cluster_try(cluster, "forge_app", database, "SELECT name FROM organizations"), "00000");
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* "### table" opens a table; "| `name` | type | meaning |" is a column, "| `name` | meaning |" a key, index or check. */
static int readme_lines(char lines[LINES_MAX][LINE_SIZE])
{
    char path[4096], text[2048], table[64] = "";
    snprintf(path, sizeof path, "%s/migrations/README.md", getenv("FORGE_SOURCE_DIR"));
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    int count = 0;
    bool is_about_tables = false;
    while (fgets(text, sizeof text, file) != NULL) {
        char name[64], second[512], meaning[1024];
        if (strncmp(text, "## ", 3) == 0) {
            table[0] = '\0';
            is_about_tables = strncmp(text, "## Tables ", 10) == 0;
        }
        if (!is_about_tables || sscanf(text, "### %63s", table) == 1 || table[0] == '\0' || strncmp(text, "| `", 3) != 0)
            continue;
        assert_in_range(count, 0, LINES_MAX - 1);
        int fields = sscanf(text, "| `%63[^`]` | %511[^|]| %1023[^|]", name, second, meaning);
        assert_true(fields >= 2);
        bool is_column = fields == 3 && meaning[0] != '\n';
        assert_true(strlen(is_column ? meaning : second) > 3); /* it says something */
        second[strcspn(second, "|\n")] = '\0';
        while (second[0] != '\0' && second[strlen(second) - 1] == ' ')
            second[strlen(second) - 1] = '\0';
        snprintf(lines[count++], LINE_SIZE, "%s.%s: %.80s", table, name, is_column ? second : "key, index or check");
    }
    fclose(file);
    return count;
}

static int catalog_lines(char lines[LINES_MAX][LINE_SIZE])
{
    PGresult *result =
        query("SELECT c.relname || '.' || a.attname || ': ' || replace(replace(format_type(a.atttypid, a.atttypmod), 'character varying',"
              " 'varchar'), 'timestamp with time zone', 'timestamptz') || CASE WHEN a.attnotnull THEN '' ELSE ' null' END"
              " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
              " AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped"
              " UNION SELECT c.relname || '.' || o.name || ': key, index or check' FROM pg_class c JOIN ("
              " SELECT conrelid AS relation, conname AS name FROM pg_constraint UNION SELECT i.indrelid, x.relname FROM pg_index i"
              " JOIN pg_class x ON x.oid = i.indexrelid) o ON o.relation = c.oid WHERE c.relnamespace = 'public'::regnamespace");
    int count = PQntuples(result);
    assert_in_range(count, 100, LINES_MAX);
    for (int i = 0; i < count; i++)
        snprintf(lines[i], LINE_SIZE, "%s", PQgetvalue(result, i, 0));
    PQclear(result);
    return count;
}

static void test_the_readme_says_what_the_catalog_says(void **state)
{
    (void)state;
    static char readme[LINES_MAX][LINE_SIZE], catalog[LINES_MAX][LINE_SIZE];
    int readme_count = readme_lines(readme), catalog_count = catalog_lines(catalog), faults = 0;
    qsort(readme, (size_t)readme_count, LINE_SIZE, compare_lines);
    qsort(catalog, (size_t)catalog_count, LINE_SIZE, compare_lines);
    for (int i = 0; i < readme_count; i++)
        if (bsearch(readme[i], catalog, (size_t)catalog_count, LINE_SIZE, compare_lines) == NULL && ++faults > 0)
            print_error("only in migrations/README.md: %s\n", readme[i]);
    for (int i = 0; i < catalog_count; i++)
        if (bsearch(catalog[i], readme, (size_t)readme_count, LINE_SIZE, compare_lines) == NULL && ++faults > 0)
            print_error("not in migrations/README.md: %s\n", catalog[i]);
    assert_int_equal(faults, 0);
    assert_int_equal(readme_count, catalog_count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenant_tables_are_found),
        cmocka_unit_test(test_row_level_security_is_enabled_and_forced_on_every_tenant_table_and_partition),
        cmocka_unit_test(test_organization_id_leads_every_key_and_index_of_tenant_tables),
        cmocka_unit_test(test_foreign_keys_have_an_index_that_begins_with_their_columns),
        cmocka_unit_test(test_there_are_no_triggers_rules_or_identity_columns),
        cmocka_unit_test(test_forge_app_has_its_grants_on_parents_and_nobody_else_has_any),
        cmocka_unit_test(test_tenants_are_apart_without_any_filter),
        cmocka_unit_test(test_the_readme_says_what_the_catalog_says),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
