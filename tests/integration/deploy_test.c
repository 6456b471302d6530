/* The scripts of deploy. local/backup, restore and reset: what they refuse, what they ask, and what they leave behind. That a restored
 * database is the same to the last row is fault.backup_test's. */
#include "support/forged_child.h"

#include <libpq-fe.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pg_cluster *cluster;
static struct forged_world *world;
static const char *database;

static int start(void **state)
{
    cluster = pg_cluster_new(NULL);
    return 0;
}

static int end(void **state)
{
    pg_cluster_free(cluster);
    return 0;
}

static void deploy(int exit_code, const char *text, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A shell line in the world's folder; expects its exit code and that its output or complaint has this text. $local is deploy/local of a
 * clone's folder `home` in there, whose built programs are those under test. */
static void deploy(int exit_code, const char *text, const char *format, ...)
{
    char line[2048], source[512], binaries[512], programs[512];
    const char *folder = getenv("PG_BINDIR");
    va_list arguments;
    va_start(arguments, format);
    size_t length = (size_t)snprintf(line, sizeof line, "local=$PWD/home/deploy/local; ");
    vsnprintf(line + length, sizeof line - length, format, arguments);
    va_end(arguments);
    snprintf(source, sizeof source, "SOURCE=%s", getenv("FORGE_SOURCE_DIR"));
    snprintf(binaries, sizeof binaries, "BINARIES=%s", getenv("FORGE_BINARY_DIR"));
    snprintf(programs, sizeof programs, "PG_BINDIR=%s", folder ? folder : "");
    const char *const words[] = {"-c", line, NULL}, *const environment[] = {source, binaries, programs, NULL};
    struct child_output output;
    child_run("/bin/sh", words, environment, forged_world_folder(world), &output);
    if (output.exit_code != exit_code || (!strstr(output.out, text) && !strstr(output.err, text)))
        fail_msg("%s\nended with %d, expected %d and \"%s\":\n%s%s", line, output.exit_code, exit_code, text, output.out, output.err);
    child_output_done(&output);
}

/* A database with one organization's name in it. */
static int make_world(void **state)
{
    world = forged_world_new(cluster);
    database = forged_world_database(world);
    deploy(0, "", "mkdir -p home/build/release && ln -s $SOURCE/deploy $SOURCE/migrations home && ln -s $BINARIES/bin home/build/release");
    pg_cluster_execute(
        cluster, "postgres", database,
        "INSERT INTO organization_names (organization_id, slug, name) VALUES ('0190a8f0-5a3e-7c40-9d2c-3f1d2f0a7b11', 'acme',"
        " 'Acme')");
    return 0;
}

static int remove_world(void **state)
{
    deploy(0, "", "rm -rf home dumps copy *.key.*");
    forged_world_free(world);
    return 0;
}

static void expect_organizations(const char *expected)
{
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT count(*) FROM organization_names"), expected);
}

static PGconn *connect_as_forged(void)
{
    PGconn *conn = PQconnectdb(pg_cluster_url(cluster, "forge_app", database));
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    return conn;
}

/* Ends the connection and waits until PostgreSQL has noticed. */
static void disconnect(PGconn *conn)
{
    PQfinish(conn);
    while (strcmp(pg_cluster_query(cluster, "postgres", database, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'forge_app'"),
                  "0") != 0)
        ;
}

static void test_help_and_mistakes(void **state)
{
    static const char *const names[] = {"backup", "restore", "reset", "up", "down"};
    char usage[64];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(usage, sizeof usage, "usage: deploy/local/%s", names[i]);
        deploy(0, usage, "$local/%s --help", names[i]);
        deploy(1, "error: unknown argument --wrong; see --help", "$local/%s --wrong", names[i]);
    }
    deploy(0, "They are two files because", "$local/backup --help");
    deploy(1, "error: restore needs the dump and the key file", "$local/restore only-one");
    deploy(1, "error: missing/.env cannot be read", "$local/reset --yes --env-file missing/.env");
    deploy(1, "error: --folder needs a value", "$local/backup --folder");
}

static void test_backup_writes_two_files_for_its_user_only(void **state)
{
    deploy(0, "dumps/promptforge-",
           "$local/backup --env-file .env --folder dumps && cmp forge.key dumps/*.key && grep -q acme dumps/*.sql");
    deploy(0, "-rw------- 2", "ls -l dumps | cut -c1-10 | grep -v total | sort | uniq -c | awk '{ print $2, $1 }'");
}

static void test_a_failed_backup_leaves_nothing(void **state)
{
    deploy(1, "does not exist",
           "mkdir copy && cp forge.key copy && sed 's|/%s|/nowhere|' .env > copy/.env && $local/backup --env-file copy/.env --folder dumps",
           database);
    deploy(0, "empty", "test -z \"$(ls -A dumps)\" && echo empty");
}

static void test_reset_asks(void **state)
{
    deploy(1, "error: nothing was changed", "echo no | $local/reset --env-file .env");
    deploy(1, "Type yes to go on", "$local/reset --env-file .env </dev/null");
    expect_organizations("1");
    deploy(0, "Type yes to go on", "echo yes | $local/reset --env-file .env");
    expect_organizations("0");
}

/* Also a database that no migration can go down from. */
static void test_reset_makes_the_schema_anew(void **state)
{
    pg_cluster_execute(cluster, "postgres", database,
                       "UPDATE schema_revisions SET sha256 = sha256('changed'); ALTER TABLE projects RENAME TO broken;"
                       "CREATE VIEW forge_partitions.mine AS SELECT FROM users; ALTER VIEW forge_partitions.mine OWNER TO forge_owner");
    deploy(0, "initial schema", "$local/reset --yes --env-file .env");
    expect_organizations("0");
    deploy(0, "(head)", "$BINARIES/bin/forged migrate current --migrations-folder $SOURCE/migrations");
    assert_string_equal(pg_cluster_query(cluster, "forge_app", database, "SELECT count(*) FROM organization_names"), "0");
    struct forged_child *child = forged_world_serve(world, NULL);
    forged_child_stop(child);
}

static void test_a_connected_server_is_in_the_way(void **state)
{
    deploy(0, "", "$local/backup --env-file .env --folder dumps");
    PGconn *conn = connect_as_forged();
    deploy(1, "error: forged is connected to this database (1 sessions): stop it first", "$local/reset --yes --env-file .env");
    deploy(1, "error: forged is connected to this database (1 sessions)", "$local/restore --yes --env-file .env dumps/*.sql dumps/*.key");
    expect_organizations("1");
    disconnect(conn);
    deploy(0, "Restored dumps/", "$local/restore --yes --env-file .env dumps/*.sql dumps/*.key");
    expect_organizations("1");
}

static void test_restore_asks_and_refuses_what_is_no_backup(void **state)
{
    deploy(0, "", "$local/backup --env-file .env --folder dumps && mv dumps/*.sql dumps/all.sql && mv dumps/*.key dumps/the.key");
    pg_cluster_execute(cluster, "postgres", database, "UPDATE organization_names SET slug = 'other'");
    deploy(1, "This replaces all data of database", "echo no | $local/restore --env-file .env dumps/all.sql dumps/the.key");
    deploy(1, "is no complete dump",
           "head -n 100 dumps/all.sql > dumps/cut.sql; $local/restore --yes --env-file .env dumps/cut.sql dumps/the.key");
    deploy(1, "must be readable files", "$local/restore --yes --env-file .env dumps/all.sql dumps/none.key");
    deploy(3, "ERROR",
           "sed 's/^COPY public.projects/COPY public.nothing/' dumps/all.sql > dumps/bad.sql;"
           " $local/restore --yes --env-file .env dumps/bad.sql dumps/the.key");
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT slug FROM organization_names"), "other");
    deploy(0, "Restored", "echo yes | $local/restore --env-file .env dumps/all.sql dumps/the.key");
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT slug FROM organization_names"), "acme");
}

static void test_restore_keeps_the_key_of_before(void **state)
{
    deploy(0, "", "$local/backup --env-file .env --folder dumps && cp forge.key dumps/old && printf '# other\\n' >> forge.key");
    deploy(0, "The key file of before is kept as", "$local/restore --yes --env-file .env dumps/*.sql dumps/*.key");
    deploy(0, "same", "cmp forge.key dumps/old && grep -q other forge.key.before-* && echo same");
}

/* deploy/image/healthcheck, which the container image and compose run. */
static void test_the_images_health_check(void **state)
{
    struct forged_child *child = forged_world_serve(world, NULL);
    unsigned port = forged_child_http_port(child);
    deploy(0, "", "FORGE_HTTP_PORT=%u $SOURCE/deploy/image/healthcheck", port);
    deploy(0, "", "FORGE_HTTP_PORT=%u $SOURCE/deploy/image/healthcheck /readyz", port);
    deploy(1, "", "FORGE_HTTP_PORT=%u $SOURCE/deploy/image/healthcheck /nothing", port);
    forged_child_stop(child);
    deploy(1, "Connection refused", "FORGE_HTTP_PORT=%u $SOURCE/deploy/image/healthcheck", port);
}

/* deploy/k8s/overlays/dev: the secrets it makes and the command of its bootstrap Job give a database that its servers can serve. */
static void test_the_secrets_of_kubernetes_fit_the_bootstrap_job(void **state)
{
    char secrets[512];
    deploy(0, "Secrets made",
           "mkdir copy && cp -r $SOURCE/deploy/k8s $SOURCE/deploy/make-certificates copy && rm -rf copy/k8s/overlays/dev/secrets &&"
           " copy/k8s/overlays/dev/make-secrets");
    deploy(0, "Role forge_owner",
           "cd copy/k8s/overlays/dev/secrets && sed -i 's/@postgres:5432/@127.0.0.1:%u/' *.env && export PATH=$BINARIES/bin:$PATH &&"
           " FORGE_KEY_FILE=$PWD/forge.key sh -c \"$(sed -n 's/.*command: .sh, -c, .\\(.*\\)..$/\\1/p' ../bootstrap.yaml |"
           " sed \"s|/tmp/.env|$PWD/.env|g; s|/etc/promptforge/bootstrap|$PWD|\")\"",
           pg_cluster_port(cluster));
    deploy(0, "same",
           "cd copy/k8s/overlays/dev/secrets && passwords() { grep -hv SUPERUSER \"$@\" | grep -o ':[0-9a-f]\\{48\\}@' | sort; } &&"
           " passwords *.env > given && passwords .env > kept && test $(wc -l < given) = 4 && cmp given kept && echo same");
    deploy(0, "initial schema",
           "cd copy/k8s/overlays/dev/secrets && $BINARIES/bin/forged migrate upgrade head --env-file migrate.env --migrations-folder"
           " $SOURCE/migrations");
    const char *const flags[] = {"serve",      "--env-file",
                                 "serve.env",  "--key-file",
                                 "forge.key",  "--listen-port",
                                 "0",          "--http-port",
                                 "0",          "--tls-certificate-file",
                                 "server.pem", "--tls-key-file",
                                 "server.key", NULL};
    snprintf(secrets, sizeof secrets, "%s/copy/k8s/overlays/dev/secrets", forged_world_folder(world));
    struct forged_child *child = forged_child_start(secrets, flags, NULL);
    forged_child_wait_ready(child);
    forged_child_stop(child);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, remove_world)
    const struct CMUnitTest tests[] = {
        TEST(test_help_and_mistakes),
        TEST(test_backup_writes_two_files_for_its_user_only),
        TEST(test_a_failed_backup_leaves_nothing),
        TEST(test_reset_asks),
        TEST(test_reset_makes_the_schema_anew),
        TEST(test_a_connected_server_is_in_the_way),
        TEST(test_restore_asks_and_refuses_what_is_no_backup),
        TEST(test_restore_keeps_the_key_of_before),
        TEST(test_the_images_health_check),
        TEST(test_the_secrets_of_kubernetes_fit_the_bootstrap_job),
    };
    return cmocka_run_group_tests(tests, start, end);
}
