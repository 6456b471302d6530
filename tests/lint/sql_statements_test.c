/* Every statement of the server's .sql files: it can be prepared and planned by forge_app on the migrated schema, and keeps the rules that
 * hold tenants apart and let the schema be distributed (migrations/README.md, "Rules of statements"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/migrate.h"
#include "support/pg_cluster.h"

#include "sql_statements.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UUID_OID = 2950, TABLES_MAX = 256, NAME_SIZE = 64 };

static struct pg_cluster *cluster;
static PGconn *app;
static char tenant_tables[TABLES_MAX][NAME_SIZE], updated_tables[TABLES_MAX][NAME_SIZE];
static int tenant_count, updated_count;
static unsigned fault_count;

static void fault(const struct sql_statement *statement, const char *what)
{
    print_error("%s: %s\n", statement->name, what);
    fault_count++;
}

static int names_read(PGconn *conn, const char *sql, char names[TABLES_MAX][NAME_SIZE])
{
    PGresult *result = PQexec(conn, sql);
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    int count = PQntuples(result);
    assert_in_range(count, 1, TABLES_MAX);
    for (int i = 0; i < count; i++)
        snprintf(names[i], NAME_SIZE, "%s", PQgetvalue(result, i, 0));
    PQclear(result);
    return count;
}

static int setup(void **state)
{
    (void)state;
    struct forge_error error = {0};
    cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(cluster);
    const char *database = pg_cluster_create_database(cluster, "forge_owner");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/migrations", getenv("FORGE_SOURCE_DIR"));
    if (db_migrate_upgrade(pg_cluster_url(cluster, "forge_owner", database), folder, "head", NULL, NULL, &error) != FORGE_OK) {
        print_error("%s\n", error.message);
        return 1;
    }
    app = PQconnectdb(pg_cluster_url(cluster, "forge_app", database));
    if (PQstatus(app) != CONNECTION_OK)
        return 1;
    PQclear(PQexec(app, "SET forge.organization_id = '00000000-0000-0000-0000-000000000000'"));
    tenant_count = names_read(app, "SELECT relname FROM pg_class WHERE relrowsecurity AND relkind IN ('r', 'p')", tenant_tables);
    updated_count = names_read(app,
                               "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                               " WHERE a.attname = 'updated_at' AND c.relkind IN ('r', 'p')",
                               updated_tables);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    PQfinish(app);
    pg_cluster_free(cluster);
    return 0;
}

static bool is_in(char names[TABLES_MAX][NAME_SIZE], int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Transaction control cannot be planned. */
static bool is_plannable(const struct sql_statement *statement)
{
    return strncmp(statement->text, "BEGIN", 5) != 0 && strncmp(statement->text, "COMMIT", 6) != 0 &&
           strncmp(statement->text, "ROLLBACK", 8) != 0;
}

static unsigned occurrences(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *found = text; (found = strstr(found, part)) != NULL; found += strlen(part))
        count++;
    return count;
}

static bool is_word_character(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Finds keyword as whole words from *cursor on, moves behind it and reads the identifier that follows. */
static bool name_behind(const char **cursor, const char *keyword, char name[NAME_SIZE])
{
    size_t length = strlen(keyword);
    for (const char *found = *cursor; (found = strstr(found, keyword)) != NULL; found += length) {
        if ((found > *cursor && is_word_character(found[-1])) || found[length] != ' ')
            continue;
        const char *word = found + length + strspn(found + length, " \n");
        size_t size = 0;
        while (is_word_character(word[size]) && size < NAME_SIZE - 1)
            size++;
        memcpy(name, word, size);
        name[size] = '\0';
        *cursor = word;
        return true;
    }
    return false;
}

/* How often a tenant table is read or changed (inserts name the tenant as a column, see below). */
static unsigned tenant_uses(const struct sql_statement *statement)
{
    static const char *const keywords[] = {"FROM", "JOIN", "UPDATE"};
    unsigned uses = 0;
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
        const char *cursor = statement->text;
        char name[NAME_SIZE];
        while (name_behind(&cursor, keywords[i], name))
            uses += is_in(tenant_tables, tenant_count, name);
    }
    return uses;
}

static void test_every_statement_can_be_prepared_and_planned_by_forge_app(void **state)
{
    (void)state;
    fault_count = 0;
    for (int i = 0; i < SQL_COUNT; i++) {
        const struct sql_statement *statement = &sql_statements[i];
        PGresult *prepared = PQprepare(app, statement->name, statement->text, 0, NULL);
        if (PQresultStatus(prepared) != PGRES_COMMAND_OK)
            fault(statement, PQresultErrorMessage(prepared));
        else if (is_plannable(statement)) {
            char sql[1024] = "EXPLAIN EXECUTE ";
            strcat(sql, statement->name);
            for (unsigned p = 0; p < statement->parameter_count; p++)
                strcat(sql, p == 0 ? "(NULL" : ", NULL");
            strcat(sql, statement->parameter_count > 0 ? ")" : "");
            PGresult *planned = PQexec(app, sql);
            if (PQresultStatus(planned) != PGRES_TUPLES_OK)
                fault(statement, PQresultErrorMessage(planned));
            PQclear(planned);
        }
        PQclear(prepared);
    }
    assert_int_equal(fault_count, 0);
}

static void test_every_statement_on_a_tenant_table_filters_by_its_first_parameter(void **state)
{
    (void)state;
    unsigned checked = 0;
    fault_count = 0;
    for (int i = 0; i < SQL_COUNT; i++) {
        const struct sql_statement *statement = &sql_statements[i];
        unsigned uses = tenant_uses(statement);
        if (uses == 0)
            continue;
        checked++;
        if (occurrences(statement->text, "organization_id = $1") == 0)
            fault(statement, "has no `organization_id = $1`");
        /* Each table by itself: in a join the filter of one does not reach the index of the other. */
        if (occurrences(statement->text, "organization_id = ") < uses)
            fault(statement, "reads more tenant tables than it has equalities on organization_id");
        PGresult *described = PQdescribePrepared(app, statement->name);
        if (PQparamtype(described, 0) != UUID_OID)
            fault(statement, "its first parameter is not the tenant");
        PQclear(described);
    }
    assert_true(checked >= 10);
    assert_int_equal(fault_count, 0);
}

static void test_every_insert_names_its_columns_and_the_tenant_first(void **state)
{
    (void)state;
    unsigned checked = 0;
    fault_count = 0;
    for (int i = 0; i < SQL_COUNT; i++) {
        const struct sql_statement *statement = &sql_statements[i];
        const char *cursor = statement->text;
        char table[NAME_SIZE];
        while (name_behind(&cursor, "INSERT INTO", table)) {
            const char *columns = cursor + strlen(table);
            checked++;
            if (strncmp(columns, " AS ", 4) == 0)
                columns = strchr(columns, '(') != NULL ? strchr(columns, '(') - 1 : columns;
            if (strncmp(columns, " (", 2) != 0)
                fault(statement, "inserts without naming columns");
            else if (is_in(tenant_tables, tenant_count, table) && strncmp(columns, " (organization_id,", 18) != 0)
                fault(statement, "inserts into a tenant table without organization_id first");
        }
    }
    assert_true(checked >= 5);
    assert_int_equal(fault_count, 0);
}

/* Time and ids come as parameters, paging goes by key, LIKE loses its index under row-level security, a collation in a statement too. */
static void test_no_statement_uses_what_the_rules_forbid(void **state)
{
    (void)state;
    static const char *const forbidden[] = {"SELECT *",        ".*",     "RETURNING *", "now()",   "CURRENT_TIMESTAMP", "clock_timestamp",
                                            "gen_random_uuid", "OFFSET", "LIKE",        "COLLATE", "nextval",           "NOTIFY"};
    fault_count = 0;
    for (int i = 0; i < SQL_COUNT; i++)
        for (size_t j = 0; j < sizeof forbidden / sizeof forbidden[0]; j++)
            if (strstr(sql_statements[i].text, forbidden[j]) != NULL)
                fault(&sql_statements[i], forbidden[j]);
    assert_int_equal(fault_count, 0);
}

static void test_every_update_sets_updated_at(void **state)
{
    (void)state;
    fault_count = 0;
    for (int i = 0; i < SQL_COUNT; i++) {
        const struct sql_statement *statement = &sql_statements[i];
        const char *cursor = statement->text;
        char table[NAME_SIZE];
        if (strcmp(statement->name, "login_note") == 0)
            continue; /* a login is no change of the user: updated_at and etag stay */
        while (name_behind(&cursor, "UPDATE", table))
            if (is_in(updated_tables, updated_count, table) && strstr(cursor, "updated_at = ") == NULL)
                fault(statement, "updates a table with updated_at and does not set it");
    }
    assert_int_equal(fault_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_statement_can_be_prepared_and_planned_by_forge_app),
        cmocka_unit_test(test_every_statement_on_a_tenant_table_filters_by_its_first_parameter),
        cmocka_unit_test(test_every_insert_names_its_columns_and_the_tenant_first),
        cmocka_unit_test(test_no_statement_uses_what_the_rules_forbid),
        cmocka_unit_test(test_every_update_sets_updated_at),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
