/* What a connection of a serving pool checks: role, grants and schema revision, with the real migrations. */
#include "support/db_fixture.h"

#include "db/migrate.h"
#include "wire/clock.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pg_cluster *cluster;
static const char *migrated; /* database that every test gets a copy of */

static void migrate(const char *database)
{
    struct forge_error error = {0};
    char folder[512];
    snprintf(folder, sizeof(folder), "%s/migrations", getenv("FORGE_SOURCE_DIR"));
    if (db_migrate_upgrade(pg_cluster_url(cluster, "forge_owner", database), folder, "head", NULL, NULL, &error) != FORGE_OK)
        fail_msg("migrate: %s", error.message);
}

static int cluster_setup(void **state)
{
    cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(cluster);
    migrated = pg_cluster_create_database(cluster, "forge_owner");
    migrate(migrated);
    return 0;
}

static int cluster_teardown(void **state)
{
    pg_cluster_free(cluster);
    return 0;
}

static struct db_pool *pool_start(const char *role, const char *database)
{
    struct forge_error error = {0};
    struct db_pool *pool = NULL;
    struct db_pool_config config = {.url = pg_cluster_url(cluster, role, database),
                                    .application_name = "serving test",
                                    .kept_max = 2,
                                    .extra_max = 2,
                                    .idle_ms = 60000,
                                    .connect_timeout_ms = 5000,
                                    .serves = true};
    assert_int_equal(db_pool_new(&config, &pool, &error), FORGE_OK);
    return pool;
}

/* Starts a pool, waits for its first connection and expects this state; reason must contain each of the texts (NULL at the end). */
static void expect_first(const char *role, const char *database, enum db_pool_state state, ...)
{
    struct db_pool *pool = pool_start(role, database);
    struct db_pool_status status;
    db_pool_wait_first(pool, 30000, &status);
    db_pool_free(pool);
    if (status.state != state)
        fail_msg("state %d, not %d: %s", (int)status.state, (int)state, status.reason);
    va_list texts;
    va_start(texts, state);
    for (const char *text; (text = va_arg(texts, const char *)) != NULL;)
        if (strstr(status.reason, text) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", text, status.reason);
    va_end(texts);
}

static void test_serving_migrated_database(void **state)
{
    expect_first("forge_app", migrated, DB_POOL_READY, NULL);
}

static void test_serving_refuses_roles_that_cross_tenants(void **state)
{
    expect_first("postgres", migrated, DB_POOL_REFUSED, "\"postgres\" is a superuser", "DATABASE_URL", "forged bootstrap roles", NULL);
    expect_first("forge_owner", migrated, DB_POOL_REFUSED, "\"forge_owner\" owns the tables", "DATABASE_OWNER_URL", NULL);
    expect_first("forge_maint", migrated, DB_POOL_REFUSED, "\"forge_maint\" owns the tables", NULL);
    expect_first("forge_backup", migrated, DB_POOL_REFUSED, "\"forge_backup\" bypasses row-level security", NULL);
}

static void test_serving_refuses_an_empty_database(void **state)
{
    const char *database = pg_cluster_create_database(cluster, "forge_owner");
    expect_first("forge_app", database, DB_POOL_REFUSED, "has no schema yet", "forged migrate upgrade head", NULL);
}

/* Takes every single grant of forge_app away and expects it to be missed: the list in serving.sql and the migrations stay equal. */
static void test_serving_names_every_missing_grant(void **state)
{
    const char *database = pg_cluster_copy_database(cluster, migrated, "forge_owner");
    const char *grants =
        pg_cluster_query(cluster, "postgres", database,
                         "SELECT string_agg(privilege_type || ' ON ' || table_name, ';' ORDER BY table_name, privilege_type)"
                         " FROM information_schema.role_table_grants WHERE grantee = 'forge_app'");
    char *copy = strdup(grants), *rest = copy;
    int count = 0;
    for (char *grant; (grant = strsep(&rest, ";")) != NULL; count++) {
        char sql[256], expected[256];
        snprintf(expected, sizeof(expected), "\"forge_app\" lacks grants: %s; as the owner run GRANT ... TO forge_app", grant);
        snprintf(sql, sizeof(sql), "REVOKE %s FROM forge_app", grant);
        pg_cluster_execute(cluster, "forge_owner", database, sql);
        expect_first("forge_app", database, DB_POOL_REFUSED, expected, NULL);
        snprintf(sql, sizeof(sql), "GRANT %s TO forge_app", grant);
        pg_cluster_execute(cluster, "forge_owner", database, sql);
    }
    free(copy);
    print_message("%d grants\n", count);
    assert_true(count > 180);
    expect_first("forge_app", database, DB_POOL_READY, NULL);
    pg_cluster_execute(cluster, "forge_owner", database, "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM forge_app");
    expect_first("forge_app", database, DB_POOL_REFUSED, "lacks grants: DELETE ON ai_model_names, INSERT ON ai_model_names, ",
                 ", ...; as the owner", NULL);
    pg_cluster_execute(cluster, "forge_owner", database, "REVOKE USAGE ON SCHEMA public FROM forge_app, PUBLIC");
    expect_first("forge_app", database, DB_POOL_REFUSED, "lacks USAGE ON SCHEMA public", "GRANT USAGE ON SCHEMA public TO forge_app", NULL);
}

static void revision_add(const char *database, const char *serves)
{
    char sql[256];
    snprintf(sql, sizeof(sql),
             "INSERT INTO schema_revisions (revision, position, sha256, serves) SELECT 'ffffffffffff', max(position) + 1, '', %s"
             " FROM schema_revisions",
             serves);
    pg_cluster_execute(cluster, "forge_owner", database, sql);
}

static void test_serving_schema_revisions(void **state)
{
    const char *database = pg_cluster_copy_database(cluster, migrated, "forge_owner");
    revision_add(database, "NULL");
    expect_first("forge_app", database, DB_POOL_REFUSED, "ahead of this server", "ffffffffffff", NULL);
    pg_cluster_execute(cluster, "forge_owner", database,
                       "UPDATE schema_revisions SET serves = 'eeeeeeeeeeee' WHERE revision = 'ffffffffffff'");
    expect_first("forge_app", database, DB_POOL_REFUSED, "ahead of this server", NULL);
    pg_cluster_execute(cluster, "forge_owner", database,
                       "UPDATE schema_revisions SET serves = (SELECT revision FROM schema_revisions ORDER BY position LIMIT 1)"
                       " WHERE revision = 'ffffffffffff'");
    expect_first("forge_app", database, DB_POOL_READY, NULL);
    pg_cluster_execute(cluster, "forge_owner", database, "DELETE FROM schema_revisions");
    expect_first("forge_app", database, DB_POOL_REFUSED, "behind this server: it is at no revision", "forged migrate upgrade head", NULL);
}

/* While refused, leases fail at once and say so; when the reason is gone the pool serves by itself. */
static void test_serving_heals_after_the_migration(void **state)
{
    const char *database = pg_cluster_create_database(cluster, "forge_owner");
    struct db_pool *pool = pool_start("forge_app", database);
    struct db_pool_status status;
    struct forge_error error = {0};
    struct db_session *session = NULL;
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    db_pool_wait_first(pool, 30000, &status);
    assert_int_equal(status.state, DB_POOL_REFUSED);
    assert_int_equal(db_pool_lease(pool, &arena, db_fixture_deadline(20000), &session, &error), FORGE_UNAVAILABLE);
    assert_true(error.not_executed);
    assert_int_equal(error.retry_after_ms, 250);
    migrate(database);
    uint64_t until = forge_clock_monotonic_ms() + 10000;
    while (db_pool_lease(pool, &arena, db_fixture_deadline(5000), &session, &error) != FORGE_OK)
        assert_true(forge_clock_monotonic_ms() < until);
    db_pool_release(session);
    forge_arena_done(&arena);
    db_pool_free(pool);
}

enum { LOOK_MS = 5 /* between two looks at what cannot be waited for */ };

/* Kept connections prepare in the background; what PostgreSQL refuses (here: the tests' own statements) is left for its first use. */
static void test_serving_prepares_all_statements(void **state)
{
    struct db_pool *pool = pool_start("forge_app", migrated);
    struct forge_error error = {0};
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    int refused = 0;
    for (int id = 0; id < SQL_COUNT; id++)
        refused += strstr(sql_statements[id].text, " items") != NULL || strstr(sql_statements[id].text, "no_such_table") != NULL ||
                   strstr(sql_statements[id].text, "raise_state") != NULL;
    int64_t prepared = 0;
    uint64_t until = forge_clock_monotonic_ms() + 20000;
    while (prepared < SQL_COUNT - refused && forge_clock_monotonic_ms() < until) {
        struct db_session *session;
        struct db_row row;
        assert_int_equal(db_pool_lease(pool, &arena, db_fixture_deadline(5000), &session, &error), FORGE_OK);
        assert_int_equal(db_run_one(db_stmt(session, SQL_TEST_PREPARED), &row, &error), FORGE_OK);
        prepared = db_row_int64(&row, "prepared");
        db_pool_release(session);
        forge_arena_reset(&arena);
        (void)poll(NULL, 0, LOOK_MS); /* an idle connection is prepared: one that is leased again at once never is */
    }
    print_message("%d of %d statements prepared\n", (int)prepared, SQL_COUNT);
    assert_int_equal(prepared, SQL_COUNT - refused);
    forge_arena_done(&arena);
    db_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serving_migrated_database),         cmocka_unit_test(test_serving_refuses_roles_that_cross_tenants),
        cmocka_unit_test(test_serving_refuses_an_empty_database), cmocka_unit_test(test_serving_names_every_missing_grant),
        cmocka_unit_test(test_serving_schema_revisions),          cmocka_unit_test(test_serving_heals_after_the_migration),
        cmocka_unit_test(test_serving_prepares_all_statements),
    };
    return cmocka_run_group_tests(tests, cluster_setup, cluster_teardown);
}
