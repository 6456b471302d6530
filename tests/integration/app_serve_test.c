/* forged as a process: start, refusals, signals, certificates, the database coming and going. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/forged_child.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pg_cluster *cluster;
static struct forged_world *world;

static int open_world(void **state)
{
    cluster = pg_cluster_new(NULL);
    world = forged_world_new(cluster);
    return 0;
}

static int close_world(void **state)
{
    forged_world_free(world);
    pg_cluster_free(cluster);
    return 0;
}

/* "forged serve" that cannot start: exit code 1, and this on standard error. */
static void assert_serve_refuses(const char *const flags[], const char *message)
{
    const char *arguments[64] = {
        "serve",
        "--listen-port",
        "0",
        "--http-port",
        "0",
        "--key-file",
        "forge.key",
        "--tls-certificate-file",
        tls_files_path(forged_world_tls(world), "server.pem"),
        "--tls-key-file",
        tls_files_path(forged_world_tls(world), "server.key"),
    };
    size_t count = 0;
    while (arguments[count] != NULL)
        count++;
    for (size_t i = 0; flags[i] != NULL; i++)
        arguments[count++] = flags[i];
    struct child_output output;
    child_run("forged", arguments, NULL, forged_world_folder(world), &output);
    if (output.exit_code != 1 || strstr(output.err, message) == NULL)
        fail_msg("exit code %d, expected 1 and \"%s\", standard error:\n%s", output.exit_code, message, output.err);
    child_output_done(&output);
}

static void assert_http(struct forged_child *child, const char *path, int status, const char *text)
{
    char *body;
    int got = forged_child_http(child, path, &body);
    if (got != status || strstr(body, text) == NULL)
        fail_msg("%s: expected %d and \"%s\", got %d and \"%s\"", path, status, text, got, body);
    free(body);
}

static bool http_becomes(struct forged_child *child, const char *path, int status)
{
    for (int attempt = 0; attempt < 2000; attempt++) {
        if (forged_child_http(child, path, NULL) == status)
            return true;
        usleep(5000);
    }
    return false;
}

/* ---- start ---- */

static void test_serve_is_ready_with_metrics_and_health(void **state)
{
    struct forged_child *child = forged_world_serve(world, NULL);
    assert_http(child, "/healthz", 200, "ok\n");
    assert_true(http_becomes(child, "/readyz", 200));
    assert_http(child, "/metrics", 200, "forged_build_info{version=\"");
    assert_http(child, "/metrics", 200, "\nforged_ready 1\n");
    assert_http(child, "/metrics", 200, "# TYPE forged_database_connections gauge\nforged_database_connections{state=\"open\"} ");
    assert_http(child, "/metrics", 200, "\nforged_connections 0\n");
    assert_http(child, "/metrics", 200, "# TYPE forged_calls_total counter\n");
    assert_http(child, "/metrics", 200, "# TYPE forged_call_duration_seconds histogram\n");
    assert_http(child, "/metrics", 200, "# TYPE forged_queue_length gauge\n");
    forged_child_stop(child);
}

static void test_serve_starts_without_postgresql_and_recovers(void **state)
{
    pg_cluster_stop(cluster);
    struct forged_child *child = forged_world_listen(world, NULL);
    assert_http(child, "/healthz", 200, "ok\n");
    assert_true(forged_child_wait_log(child, "listening"));
    assert_http(child, "/readyz", 503, "not ready: database: ");
    pg_cluster_start(cluster);
    forged_child_wait_ready(child);
    assert_true(http_becomes(child, "/readyz", 200));
    pg_cluster_kill(cluster);
    assert_true(http_becomes(child, "/readyz", 503));
    assert_http(child, "/healthz", 200, "ok\n");
    pg_cluster_start(cluster);
    assert_true(http_becomes(child, "/readyz", 200));
    forged_child_stop(child);
}

static void test_serve_refuses_superuser_and_owner(void **state)
{
    const char *database = forged_world_database(world);
    assert_serve_refuses((const char *[]){"--database-url", pg_cluster_url(cluster, "postgres", database), NULL},
                         "role \"postgres\" is a superuser");
    assert_serve_refuses((const char *[]){"--database-url", pg_cluster_url(cluster, "forge_owner", database), NULL}, "DATABASE_OWNER_URL");
}

static void test_serve_refuses_schema_behind_and_ahead(void **state)
{
    const char *empty = pg_cluster_create_database(cluster, "forge_owner");
    assert_serve_refuses((const char *[]){"--database-url", pg_cluster_url(cluster, "forge_app", empty), NULL},
                         "forged migrate upgrade head");
    const char *database = forged_world_database(world);
    char *chain = strdup(pg_cluster_query(cluster, "forge_owner", database, "SELECT revision FROM schema_revisions"));
    char insert[256];
    pg_cluster_execute(
        cluster, "forge_owner", database,
        "BEGIN; CREATE TABLE kept AS TABLE schema_revisions; UPDATE schema_revisions SET revision = 'ffffffffffff', serves = NULL; COMMIT");
    assert_serve_refuses((const char *[]){NULL}, "the schema is ahead of this server: it has revision ffffffffffff");
    snprintf(insert, sizeof insert,
             "BEGIN; DELETE FROM schema_revisions; INSERT INTO schema_revisions SELECT * FROM kept; DROP TABLE kept; COMMIT");
    pg_cluster_execute(cluster, "forge_owner", database, insert);
    assert_string_equal(pg_cluster_query(cluster, "forge_owner", database, "SELECT revision FROM schema_revisions"), chain);
    free(chain);
}

static void test_serve_names_bad_certificate_files(void **state)
{
    struct tls_files *tls = forged_world_tls(world);
    assert_serve_refuses((const char *[]){"--tls-certificate-file", "absent.pem", NULL}, "absent.pem");
    assert_serve_refuses((const char *[]){"--tls-key-file", "absent.key", NULL}, "absent.key");
    assert_serve_refuses((const char *[]){"--tls-key-file", tls_files_path(tls, "other-ca.key"), NULL}, "does not match");
    assert_serve_refuses((const char *[]){"--tls-certificate-file", tls_files_path(tls, "garbage.pem"), NULL}, "garbage.pem");
    assert_serve_refuses((const char *[]){"--tls-key-file", tls_files_path(tls, "encrypted.key"), NULL}, "encrypted");
    assert_serve_refuses((const char *[]){"--key-file", "absent.key", NULL}, "key file absent.key: No such file");
}

/* Writes <folder>/<name> anew, as the key file must be: for its owner only. */
static void key_file_write(const char *name, const char *lines)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", forged_world_folder(world), name);
    unlink(path);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, lines, strlen(lines)), strlen(lines));
    close(descriptor);
}

static const char *known_keys(void)
{
    return pg_cluster_query(cluster, "postgres", forged_world_database(world),
                            "SELECT COALESCE(string_agg(key_id::text, ',' ORDER BY key_id), 'none') FROM encryption_keys");
}

#define KEY_DIGITS(digit) digit digit digit digit digit digit digit digit
#define KEY(digit) KEY_DIGITS(digit) KEY_DIGITS(digit) KEY_DIGITS(digit) KEY_DIGITS(digit) "\n"

/* Begins with what a fresh database knows; the world's own key 1 is forgotten again at the end of the next test. */
static void test_serve_knows_the_keys_of_its_database(void **state)
{
    const char *const flags[] = {"--key-file", "keys", NULL};
    pg_cluster_execute(cluster, "postgres", forged_world_database(world), "DELETE FROM encryption_keys");
    assert_string_equal(known_keys(), "none");
    key_file_write("keys", "1 " KEY("aa"));
    forged_child_stop(forged_world_serve(world, flags)); /* recorded */
    assert_string_equal(known_keys(), "1");
    forged_child_stop(forged_world_serve(world, flags)); /* compared */

    key_file_write("keys", "1 " KEY("bb"));
    assert_serve_refuses(flags,
                         "key file keys: key 1 is not the key 1 this database was written with; restore the right file (see README)");
    key_file_write("keys", "2 " KEY("cc") "1 " KEY("bb")); /* the previous key is wrong: the new one is not recorded */
    assert_serve_refuses(flags, "key file keys: key 1 is not the key 1 this database was written with");
    assert_string_equal(known_keys(), "1");

    key_file_write("keys", "2 " KEY("cc") "1 " KEY("aa")); /* a rotation */
    forged_child_stop(forged_world_serve(world, flags));
    assert_string_equal(known_keys(), "1,2");
    key_file_write("keys", "2 " KEY("cc")); /* 48 h later */
    forged_child_stop(forged_world_serve(world, flags));
    key_file_write("keys", "2 " KEY("dd"));
    assert_serve_refuses(flags, "key file keys: key 2 is not the key 2 this database was written with");
}

static void test_serve_checks_the_key_file_when_postgresql_comes(void **state)
{
    key_file_write("keys", "2 " KEY("ee"));
    pg_cluster_execute(cluster, "postgres", forged_world_database(world),
                       "INSERT INTO encryption_keys (key_id, check_value) VALUES (2, sha256('')) ON CONFLICT DO NOTHING");
    pg_cluster_stop(cluster);
    struct forged_child *child = forged_world_listen(world, (const char *[]){"--key-file", "keys", NULL});
    assert_http(child, "/readyz", 503, "not ready: database: ");
    pg_cluster_start(cluster);
    assert_int_equal(forged_child_wait(child, 25000), 1);
    char *log = forged_child_log(child);
    assert_non_null(strstr(log, "key file keys: key 2 is not the key 2 this database was written with"));
    free(log);
    forged_child_kill(child);
    pg_cluster_execute(cluster, "postgres", forged_world_database(world), "DELETE FROM encryption_keys");
}

static void test_serve_names_a_taken_port(void **state)
{
    struct forged_child *child = forged_world_serve(world, NULL);
    char port[16], http_port[16], message[64];
    snprintf(port, sizeof port, "%u", forged_child_port(child));
    snprintf(http_port, sizeof http_port, "%u", forged_child_http_port(child));
    snprintf(message, sizeof message, "port %s: Address already in use", port);
    assert_serve_refuses((const char *[]){"--listen-host", "127.0.0.1", "--listen-port", port, NULL}, message);
    snprintf(message, sizeof message, "port %s: Address already in use", http_port);
    assert_serve_refuses((const char *[]){"--http-port", http_port, NULL}, message);
    forged_child_stop(child);
}

static void test_serve_names_other_bad_settings(void **state)
{
    assert_serve_refuses((const char *[]){"--listen-port", "70000", NULL},
                         "listen_port: \"70000\" (from --listen-port) is not allowed: it must be 0 to 65535");
    assert_serve_refuses((const char *[]){"--database-url", "mysql://u@h/d", NULL}, "mysql");
    assert_serve_refuses((const char *[]){"--ipc-url", "tcp://127.0.0.1:1", NULL}, "only ipc:// is served");
    assert_serve_refuses((const char *[]){"--ipc-url", "ipc:///nonexistent/folder/x", NULL},
                         "cannot listen on ipc:///nonexistent/folder/x");
    assert_serve_refuses((const char *[]){"now", NULL}, "unexpected word \"now\"");
}

/* ---- signals ---- */

static void test_serve_ends_with_0_after_sigterm(void **state)
{
    struct forged_child *child = forged_world_serve(world, NULL);
    forged_child_signal(child, SIGTERM);
    assert_int_equal(forged_child_wait(child, 25000), 0);
    char *log = forged_child_log(child);
    assert_non_null(strstr(log, "msg=draining"));
    assert_non_null(strstr(log, "msg=ended"));
    free(log);
    forged_child_kill(child);
}

static void test_serve_production_allows_no_core_dump(void **state)
{
    char path[64], *limits = NULL;
    size_t size = 0;
    struct forged_child *child = forged_world_serve(world, (const char *[]){"--mode", "production", NULL});
    snprintf(path, sizeof path, "/proc/%d/limits", (int)forged_child_pid(child));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(getdelim(&limits, &size, '\0', file) > 0);
    fclose(file);
    assert_non_null(strstr(limits, "Max core file size        0                    0 "));
    free(limits);
    forged_child_stop(child);
}

static bool copy_file(const char *from, const char *to)
{
    char temporary[600], buffer[65536];
    snprintf(temporary, sizeof temporary, "%s.new", to);
    FILE *in = fopen(from, "r"), *out = fopen(temporary, "w");
    assert_non_null(in);
    assert_non_null(out);
    size_t len = fread(buffer, 1, sizeof buffer, in);
    bool ok = fwrite(buffer, 1, len, out) == len;
    fclose(in);
    return fclose(out) == 0 && ok && rename(temporary, to) == 0;
}

static void test_serve_reloads_certificates_that_changed(void **state)
{
    struct tls_files *tls = forged_world_tls(world);
    char certificate[512], key[512];
    snprintf(certificate, sizeof certificate, "%s/live.pem", forged_world_folder(world));
    snprintf(key, sizeof key, "%s/live.key", forged_world_folder(world));
    assert_true(copy_file(tls_files_path(tls, "server.pem"), certificate));
    assert_true(copy_file(tls_files_path(tls, "server.key"), key));
    struct forged_child *child =
        forged_world_serve(world, (const char *[]){"--tls-certificate-file", certificate, "--tls-key-file", key, NULL});

    assert_true(copy_file(tls_files_path(tls, "server-new.pem"), certificate)); /* without its key: the old ones stay */
    assert_true(forged_child_wait_log(child, "reload failed, the old settings and certificates stay"));
    assert_true(copy_file(tls_files_path(tls, "server-new.key"), key));
    assert_true(forged_child_wait_log(child, "certificates reloaded"));
    assert_http(child, "/metrics", 200, "forged_tls_reloads_total{outcome=\"ok\"} 1\n");
    assert_http(child, "/metrics", 200, "forged_tls_reloads_total{outcome=\"failed\"} 1\n");
    forged_child_stop(child);
    unlink(certificate);
    unlink(key);
}

static void test_serve_sighup_reads_reloadable_settings(void **state)
{
    char path[512], *log;
    snprintf(path, sizeof path, "%s/reload.env", forged_world_folder(world));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    char own[512];
    snprintf(own, sizeof own, "%s/.env", forged_world_folder(world));
    FILE *env = fopen(own, "r");
    assert_non_null(env);
    for (int c; (c = fgetc(env)) != EOF;)
        fputc(c, file);
    fclose(env);
    fclose(file);
    struct forged_child *child = forged_world_serve(world, (const char *[]){"--env-file", path, NULL});
    file = fopen(path, "a");
    assert_non_null(file);
    fputs("FORGE_LOG_FORMAT=json\nFORGE_WORKERS=3\n", file);
    fclose(file);
    forged_child_signal(child, SIGHUP);
    assert_true(forged_child_wait_log(child, "msg=\"setting changed\" setting=log_format"));
    assert_true(forged_child_wait_log(child, "\"msg\":\"certificates reloaded\""));
    log = forged_child_log(child);
    assert_non_null(strstr(log, "restart to use it\" setting=workers"));
    free(log);
    forged_child_stop(child);
    unlink(path);
}

/* A call in progress: a login that waits for a stopped PostgreSQL. */
struct login {
    pthread_t thread;
    struct forged_child *child;
    struct child_output output;
};

static void *log_in(void *argument)
{
    struct login *login = argument;
    char command[1024];
    snprintf(command, sizeof command,
             "echo secret | %s/bin/forgectl login nobody@example.com --password-stdin --server 127.0.0.1:%u --ca %s",
             getenv("FORGE_BINARY_DIR"), forged_child_port(login->child), tls_files_path(forged_world_tls(world), "ca.pem"));
    char config[512];
    snprintf(config, sizeof config, "XDG_CONFIG_HOME=%s/config", forged_world_folder(world));
    child_run("/bin/sh", (const char *[]){"-c", command, NULL}, (const char *[]){config, NULL}, NULL, &login->output);
    return NULL;
}

/* Returns when the server has the call and cannot answer it. */
static void login_start(struct login *login, struct forged_child *child)
{
    login->child = child;
    pg_cluster_pause(cluster);
    assert_int_equal(pthread_create(&login->thread, NULL, log_in, login), 0);
    bool in_flight = false;
    for (int attempt = 0; attempt < 2000 && !in_flight; attempt++) {
        char *body;
        forged_child_http(child, "/metrics", &body);
        in_flight = strstr(body, "\nforged_calls_in_flight 1\n") != NULL;
        free(body);
        usleep(5000);
    }
    assert_true(in_flight);
}

static void test_serve_drain_answers_the_calls_in_progress(void **state)
{
    struct forged_child *child = forged_world_serve(world, NULL);
    struct login login;
    login_start(&login, child);
    forged_child_signal(child, SIGTERM);
    assert_true(forged_child_wait_log(child, "msg=draining"));
    assert_http(child, "/healthz", 200, "ok\n");
    assert_http(child, "/readyz", 503, "not ready: draining\n");
    pg_cluster_resume(cluster);
    pthread_join(login.thread, NULL);
    if (login.output.exit_code != 80) /* 64 + UNAUTHENTICATED: the server looked it up */
        fail_msg("forgectl ended with %d: %s", login.output.exit_code, login.output.err);
    child_output_done(&login.output);
    assert_int_equal(forged_child_wait(child, 25000), 0);
    forged_child_kill(child);
}

static void test_serve_second_sigterm_ends_at_once(void **state)
{
    struct forged_child *child = forged_world_serve(world, NULL);
    struct login login;
    login_start(&login, child);
    forged_child_signal(child, SIGTERM);
    assert_true(forged_child_wait_log(child, "msg=draining"));
    assert_int_equal(forged_child_wait(child, 50), -1); /* it waits for the login */
    forged_child_signal(child, SIGTERM);
    assert_int_equal(forged_child_wait(child, 5000), 1);
    pg_cluster_resume(cluster);
    pthread_join(login.thread, NULL);
    assert_int_equal(login.output.exit_code, 78); /* 64 + UNAVAILABLE */
    child_output_done(&login.output);
    forged_child_kill(child);
}

/* ---- command line ---- */

static void assert_command(const char *const arguments[], int exit_code, const char *out, const char *err)
{
    struct child_output output;
    char migrations[512];
    snprintf(migrations, sizeof migrations, "FORGE_MIGRATIONS_FOLDER=%s/migrations", getenv("FORGE_SOURCE_DIR"));
    child_run("forged", arguments, (const char *[]){migrations, NULL}, forged_world_folder(world), &output);
    if (output.exit_code != exit_code || strstr(output.out, out) == NULL || strstr(output.err, err) == NULL)
        fail_msg("forged %s: exit code %d, out \"%s\", err \"%s\"", arguments[0] != NULL ? arguments[0] : "", output.exit_code, output.out,
                 output.err);
    child_output_done(&output);
}

static void test_command_line_helps_and_refuses(void **state)
{
    assert_command((const char *[]){NULL}, 2, "", "Usage: forged <command>");
    assert_command((const char *[]){"help", NULL}, 0, "Usage: forged <command>", "");
    assert_command((const char *[]){"--version", NULL}, 0, "forged 0.", "");
    assert_command((const char *[]){"sreve", NULL}, 2, "", "unknown command \"sreve\"");
    assert_command((const char *[]){"serve", "--help", NULL}, 0, "--listen-port, FORGE_LISTEN_PORT", "");
    assert_command((const char *[]){"migrate", "--help", NULL}, 0, "DATABASE_OWNER_URL", "");
    assert_command((const char *[]){"migrate", "sideways", NULL}, 2, "", "Usage: forged migrate");
    assert_command((const char *[]){"bootstrap", NULL}, 0, "Usage: forged bootstrap", "");
    assert_command((const char *[]){"bootstrap", "rolls", NULL}, 2, "", "Usage: forged bootstrap");
    assert_command((const char *[]){"bootstrap", "token", "--help", NULL}, 0, "--ttl, FORGE_OPERATOR_TOKEN_TTL", "");
    assert_command((const char *[]){"bootstrap", "token", "--ttl", "1s", NULL}, 1, "",
                   "ttl: \"1s\" (from --ttl) is not allowed: it must be 1m to 24h");
}

static void test_migrate_and_bootstrap_refuse_the_wrong_role(void **state)
{
    const char *url = pg_cluster_url(cluster, "forge_app", forged_world_database(world));
    assert_command((const char *[]){"migrate", "upgrade", "head", "--database-owner-url", url, NULL}, 1, "", "DATABASE_OWNER_URL");
    assert_command((const char *[]){"bootstrap", "roles", "--database-superuser-url", url, NULL}, 1, "", "superuser");
    assert_command((const char *[]){"bootstrap", "roles", NULL}, 1, "", "database_superuser_url is not set");
}

static void test_bootstrap_is_repeatable_and_tokens_are_fresh(void **state)
{
    char first[128];
    assert_command((const char *[]){"bootstrap", "roles", "--database-superuser-url", pg_cluster_url(cluster, "postgres", "postgres"),
                                    "--database-name", forged_world_database(world), "--key-file", "forge.key", NULL},
                   0, "", "");
    assert_command((const char *[]){"migrate", "current", NULL}, 0, "(head)", "");
    snprintf(first, sizeof first, "%s", forged_world_operator_token(world));
    assert_int_equal(strncmp(first, "pfo_", 4), 0);
    assert_string_not_equal(first, forged_world_operator_token(world));
    assert_string_equal(
        pg_cluster_query(
            cluster, "postgres", forged_world_database(world),
            "SELECT count(*) FROM operator_tokens WHERE expires_at BETWEEN now() + interval '14 min' AND now() + interval '16 min'"),
        "2");
}

/* Old rows go, young ones and those of other organizations' present stay; without the right role nothing happens. */
static void test_maintain_deletes_only_what_is_over(void **state)
{
    const char *database = forged_world_database(world);
    pg_cluster_execute(
        cluster, "postgres", database,
        "INSERT INTO changes (change_id, organization_id, kind, created_at) SELECT gen_random_uuid(), gen_random_uuid(), 'prompt', "
        "now() - age FROM unnest(ARRAY['59 min', '61 min', '2 days']::interval[]) AS age;"
        "INSERT INTO organizations (organization_id, name, slug) VALUES ('00000000-0000-7000-8000-000000000001', 'a', 'a');"
        "INSERT INTO organization_names (organization_id, name, slug) VALUES ('00000000-0000-7000-8000-000000000001', 'a', 'a');"
        "INSERT INTO idempotency (organization_id, principal_id, request_id, method, key_id, request_hash, created_at) SELECT "
        "'00000000-0000-7000-8000-000000000001', gen_random_uuid(), gen_random_uuid(), 'm', 1, '\\x00', now() - age "
        "FROM unnest(ARRAY['47 h', '49 h']::interval[]) AS age");
    assert_command((const char *[]){"maintain", "--database-maint-url", pg_cluster_url(cluster, "forge_app", database), NULL}, 1, "",
                   "DATABASE_MAINT_URL must name forge_maint");
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT count(*) FROM changes"), "3");
    assert_command((const char *[]){"maintain", NULL}, 0, "Deleted 2 changes, 1 stored replies, 0 sessions", "");
    assert_command((const char *[]){"maintain", NULL}, 0, "Deleted 0 changes, 0 stored replies, 0 sessions", "");
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT count(*) FROM changes"), "1");
    assert_string_equal(pg_cluster_query(cluster, "postgres", database, "SELECT count(*) FROM idempotency"), "1");
    pg_cluster_execute(cluster, "postgres", database, "DELETE FROM changes; DELETE FROM idempotency");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serve_is_ready_with_metrics_and_health),
        cmocka_unit_test(test_serve_starts_without_postgresql_and_recovers),
        cmocka_unit_test(test_serve_refuses_superuser_and_owner),
        cmocka_unit_test(test_serve_refuses_schema_behind_and_ahead),
        cmocka_unit_test(test_serve_names_bad_certificate_files),
        cmocka_unit_test(test_serve_knows_the_keys_of_its_database),
        cmocka_unit_test(test_serve_checks_the_key_file_when_postgresql_comes),
        cmocka_unit_test(test_serve_names_a_taken_port),
        cmocka_unit_test(test_serve_names_other_bad_settings),
        cmocka_unit_test(test_serve_ends_with_0_after_sigterm),
        cmocka_unit_test(test_serve_production_allows_no_core_dump),
        cmocka_unit_test(test_serve_reloads_certificates_that_changed),
        cmocka_unit_test(test_serve_sighup_reads_reloadable_settings),
        cmocka_unit_test(test_serve_drain_answers_the_calls_in_progress),
        cmocka_unit_test(test_serve_second_sigterm_ends_at_once),
        cmocka_unit_test(test_command_line_helps_and_refuses),
        cmocka_unit_test(test_migrate_and_bootstrap_refuse_the_wrong_role),
        cmocka_unit_test(test_bootstrap_is_repeatable_and_tokens_are_fresh),
        cmocka_unit_test(test_maintain_deletes_only_what_is_over),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
