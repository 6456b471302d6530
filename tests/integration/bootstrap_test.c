/* `forged bootstrap roles` and `token` as a library, on a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "db/bootstrap.h"
#include "db/env_file.h"
#include "db/migrate.h"
#include "support/pg_cluster.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pg_cluster *cluster;
static char folder[64], env_path[128], key_path[128], superuser[512];
static struct forge_error error;
static unsigned keys_made;

static forge_code key_create(const char *path, struct forge_error *failed)
{
    FILE *file = fopen(path, "wxe");
    if (file == NULL)
        return forge_error_set(failed, FORGE_ALREADY_EXISTS, "%s exists", path);
    fclose(file);
    keys_made++;
    return FORGE_OK;
}

static struct db_bootstrap_roles config(void)
{
    return (struct db_bootstrap_roles){superuser, "promptforge", true, env_path, "FORGE_KEY_FILE", key_path, key_create};
}

static int start(void **state)
{
    (void)state;
    cluster = pg_cluster_new(NULL);
    snprintf(superuser, sizeof superuser, "%s", pg_cluster_url(cluster, "postgres", "postgres"));
    return 0;
}

static int end(void **state)
{
    (void)state;
    pg_cluster_free(cluster);
    return 0;
}

static int fresh(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/forge-bootstrap-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(env_path, sizeof env_path, "%s/.env", folder);
    snprintf(key_path, sizeof key_path, "%s/forge.key", folder);
    error = (struct forge_error){0};
    keys_made = 0;
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void expect_error(forge_code rc, forge_code expected, const char *part)
{
    if (rc != expected || strstr(error.message, part) == NULL)
        fail_msg("got %s: %s; expected %s: ..%s..", forge_code_name(rc), error.message, forge_code_name(expected), part);
    error = (struct forge_error){0};
}

static char *read_env(void)
{
    FILE *file = fopen(env_path, "re");
    assert_non_null(file);
    char *text = NULL;
    size_t capacity = 0;
    assert_true(getdelim(&text, &capacity, '\0', file) > 0);
    fclose(file);
    return text;
}

static void write_env(const char *text)
{
    FILE *file = fopen(env_path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static void bootstrap(void)
{
    struct db_bootstrap_roles roles = config();
    if (db_bootstrap_roles(&roles, NULL, NULL, &error) != FORGE_OK)
        fail_msg("%s", error.message);
}

static const char *query(const char *database, const char *sql)
{
    return pg_cluster_query(cluster, "postgres", database, sql);
}

static void expect_env(const char *name, char *out, size_t size)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    char *text = read_env();
    const char *value = db_env_file_get(text, name, &arena);
    if (value == NULL)
        fail_msg("%s is not in the .env file", name);
    else
        snprintf(out, size, "%s", value);
    free(text);
    forge_arena_done(&arena);
}

static void test_roles_database_and_settings_are_made(void **state)
{
    (void)state;
    char url[512];
    bootstrap();
    assert_string_equal(
        query("postgres", "SELECT string_agg(rolname || ' ' || rolsuper || rolbypassrls || rolinherit || rolcanlogin, ', ' ORDER BY"
                          " rolname) FROM pg_roles WHERE rolname LIKE 'forge%'"),
        "forge_app falsefalsetruetrue, forge_backup falsetruetruetrue, forge_maint falsefalsefalsetrue, forge_owner falsefalsetruetrue");
    assert_string_equal(query("postgres",
                              "SELECT pg_get_userbyid(datdba) || ' ' || has_database_privilege('forge_app', oid, 'CONNECT') ||"
                              " has_database_privilege('forge_app', oid, 'CREATE') FROM pg_database WHERE datname = 'promptforge'"),
                        "forge_owner truefalse");
    /* PUBLIC has nothing. */
    assert_string_equal(
        query("postgres", "SELECT count(*) FROM pg_database d, aclexplode(d.datacl) a WHERE datname = 'promptforge' AND grantee = 0"), "0");
    assert_string_equal(
        query("promptforge", "SELECT count(*) FROM pg_namespace n, aclexplode(n.nspacl) a WHERE nspname = 'public' AND grantee = 0"), "0");
    assert_string_equal(query("postgres", "SELECT pg_has_role('forge_maint', 'forge_owner', 'MEMBER') || '' || pg_has_role('forge_backup',"
                                          " 'pg_read_all_data', 'USAGE')"),
                        "truetrue");
    expect_env("DATABASE_URL", url, sizeof url);
    assert_non_null(strstr(url, "postgresql://forge_app:"));
    expect_env("DATABASE_MAINT_URL", url, sizeof url);
    expect_env("DATABASE_BACKUP_URL", url, sizeof url);
    expect_env("FORGE_KEY_FILE", url, sizeof url);
    assert_string_equal(url, key_path);
    assert_int_equal(keys_made, 1);
    struct stat status;
    assert_int_equal(stat(env_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_a_second_time_changes_nothing(void **state)
{
    (void)state;
    write_env("# mine\nFORGE_MODE=development\nDATABASE_URL=\"to be replaced\"");
    bootstrap();
    char *first = read_env();
    assert_non_null(strstr(first, "# mine\nFORGE_MODE=development\nDATABASE_URL=postgresql://forge_app:"));
    const char *verifiers =
        "SELECT string_agg(rolname || coalesce(rolpassword, ''), ',' ORDER BY rolname) FROM pg_authid WHERE rolname LIKE 'forge%'";
    assert_non_null(strstr(query("postgres", verifiers), "SCRAM-SHA-256"));
    bootstrap();
    char *second = read_env();
    assert_string_equal(first, second);
    assert_int_equal(keys_made, 1);
    free(first);
    free(second);
}

static void test_a_key_file_that_is_named_is_kept(void **state)
{
    (void)state;
    char text[256];
    snprintf(text, sizeof text, "FORGE_KEY_FILE=%s/other.key\n", folder);
    write_env(text);
    snprintf(text, sizeof text, "%s/other.key", folder);
    assert_int_equal(key_create(text, &error), FORGE_OK);
    bootstrap();
    assert_int_equal(keys_made, 1);
    assert_int_equal(access(key_path, F_OK), -1);
}

static void test_without_passwords_the_urls_have_none(void **state)
{
    (void)state;
    char url[512];
    struct db_bootstrap_roles roles = config();
    roles.passwords = false;
    assert_int_equal(db_bootstrap_roles(&roles, NULL, NULL, &error), FORGE_OK);
    expect_env("DATABASE_URL", url, sizeof url);
    assert_non_null(strstr(url, "postgresql://forge_app@/promptforge?host="));
}

static void test_bad_settings_say_what_is_wrong(void **state)
{
    (void)state;
    struct db_bootstrap_roles roles = config();
    roles.database = "Prompt-Forge";
    expect_error(db_bootstrap_roles(&roles, NULL, NULL, &error), FORGE_INVALID_ARGUMENT,
                 "database name \"Prompt-Forge\": 1 to 63 of a-z, 0-9 and _");
    roles.database = "1st";
    expect_error(db_bootstrap_roles(&roles, NULL, NULL, &error), FORGE_INVALID_ARGUMENT, "no digit first");
    roles = config();
    roles.env_path = "/nowhere/.env";
    expect_error(db_bootstrap_roles(&roles, NULL, NULL, &error), FORGE_FAILED_PRECONDITION,
                 "cannot write /nowhere/.env: No such file or directory");
    bootstrap();
    roles = config();
    roles.superuser_url = pg_cluster_url(cluster, "forge_owner", "promptforge");
    expect_error(db_bootstrap_roles(&roles, NULL, NULL, &error), FORGE_PERMISSION_DENIED, "role forge_owner is no superuser");
    roles.superuser_url = "postgresql://postgres@127.0.0.1:1/postgres";
    expect_error(db_bootstrap_roles(&roles, NULL, NULL, &error), FORGE_UNAVAILABLE, "Connection refused");
}

static forge_code token(const char *url)
{
    struct forge_uuid id;
    uint8_t hash[FORGE_SHA256_SIZE];
    forge_uuid_v7(&id);
    forge_random(hash, sizeof hash);
    return db_bootstrap_token(url, &id, hash, INT64_C(1700000000123456), INT64_C(1700000900123456), &error);
}

static void test_a_token_is_stored_by_the_owner_of_a_migrated_schema(void **state)
{
    (void)state;
    char migrations[4096], owner[512];
    bootstrap();
    snprintf(migrations, sizeof migrations, "%s/migrations", getenv("FORGE_SOURCE_DIR"));
    snprintf(owner, sizeof owner, "%s", pg_cluster_url(cluster, "forge_owner", "promptforge"));
    expect_error(token(owner), FORGE_FAILED_PRECONDITION, "the schema is not migrated: run `forged migrate upgrade head` first");
    assert_int_equal(db_migrate_upgrade(owner, migrations, "head", NULL, NULL, &error), FORGE_OK);
    assert_int_equal(token(owner), FORGE_OK);
    assert_int_equal(token(owner), FORGE_OK);
    assert_string_equal(query("promptforge", "SELECT count(*) || ' ' || bool_and(expires_at - created_at = '15 minutes'::interval AND"
                                             " extract(epoch FROM created_at) = 1700000000.123456) FROM operator_tokens"),
                        "2 true");
    expect_error(token(pg_cluster_url(cluster, "forge_app", "promptforge")), FORGE_FAILED_PRECONDITION,
                 "this role may not write operator_tokens: bootstrap token connects by DATABASE_OWNER_URL");
}

static void test_env_lines_are_read_and_set(void **state)
{
    (void)state;
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    const char *text = "A=1\nAB=2\r\nA=\"3 4\"\nB='x'";
    assert_string_equal(db_env_file_get(text, "A", &arena), "3 4");
    assert_string_equal(db_env_file_get(text, "AB", &arena), "2");
    assert_string_equal(db_env_file_get(text, "B", &arena), "x");
    assert_null(db_env_file_get(text, "C", &arena));
    assert_string_equal(db_env_file_set(text, "A", "5", &arena), "A=1\nAB=2\r\nA=5\nB='x'");
    assert_string_equal(db_env_file_set(text, "C", "6", &arena), "A=1\nAB=2\r\nA=\"3 4\"\nB='x'\nC=6\n");
    assert_string_equal(db_env_file_set("", "C", "6", &arena), "C=6\n");
    forge_arena_done(&arena);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_roles_database_and_settings_are_made), TEST(test_a_second_time_changes_nothing),
        TEST(test_a_key_file_that_is_named_is_kept),     TEST(test_without_passwords_the_urls_have_none),
        TEST(test_bad_settings_say_what_is_wrong),       TEST(test_a_token_is_stored_by_the_owner_of_a_migrated_schema),
        TEST(test_env_lines_are_read_and_set),
    };
    return cmocka_run_group_tests(tests, start, end);
}
