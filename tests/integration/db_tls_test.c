/* The same flights over TLS to PostgreSQL: what waits inside the TLS library must not be waited for. */
#include "support/db_fixture.h"

#include "support/tls_files.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* PostgreSQL wants a key that only its own user may read. */
static void copy_for_server(const char *from, const char *to, const char *folder)
{
    char path[512], text[16384];
    struct stat owner;
    snprintf(path, sizeof(path), "%s/%s", folder, to);
    FILE *source = fopen(from, "r"), *target = fopen(path, "w");
    assert_non_null(source);
    assert_non_null(target);
    size_t size = fread(text, 1, sizeof(text), source);
    assert_int_equal(fwrite(text, 1, size, target), size);
    fclose(source);
    assert_int_equal(fclose(target), 0);
    assert_int_equal(stat(folder, &owner), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chown(path, owner.st_uid, owner.st_gid), 0);
}

static struct pg_cluster *cluster_with_tls(void)
{
    struct tls_files *files = tls_files_new();
    struct pg_cluster *cluster = pg_cluster_new(NULL);
    const char *folder = pg_cluster_folder(cluster);
    char sql[512];
    copy_for_server(tls_files_path(files, "server.pem"), "server.pem", folder);
    copy_for_server(tls_files_path(files, "server.key"), "server.key", folder);
    const char *settings[][2] = {{"ssl_cert_file", "server.pem"}, {"ssl_key_file", "server.key"}};
    for (int i = 0; i < 2; i++) {
        snprintf(sql, sizeof(sql), "ALTER SYSTEM SET %s = '%s/%s'", settings[i][0], folder, settings[i][1]);
        pg_cluster_execute(cluster, "postgres", "postgres", sql);
    }
    pg_cluster_execute(cluster, "postgres", "postgres", "ALTER SYSTEM SET ssl = on");
    pg_cluster_stop(cluster);
    pg_cluster_start(cluster);
    tls_files_free(files);
    return cluster;
}

static int setup(void **state)
{
    struct db_fixture *f = calloc(1, sizeof(*f));
    char *url = malloc(256);
    struct pg_cluster *cluster = cluster_with_tls();
    pg_cluster_create_roles(cluster);
    db_fixture_init(f, cluster);
    snprintf(url, 256, "postgresql+driver://forge_app@127.0.0.1:%u/%s?sslmode=require", pg_cluster_port(cluster), f->database);
    f->url = url;
    db_fixture_pool(f, 2, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct db_fixture *f = *state;
    db_fixture_done(f);
    pg_cluster_free(f->cluster);
    free((char *)(uintptr_t)f->url);
    free(f);
    return 0;
}

static void test_tls_flights_of_every_size(void **state)
{
    struct db_fixture *f = *state;
    struct db_session *s = db_fixture_lease(f, 30000);
    const char *sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'db test'";
    assert_true(atoi(pg_cluster_query(f->cluster, "postgres", f->database, sql)) >= 1);
    uint64_t start = forge_clock_monotonic_ms();
    int sizes = 0;
    for (int rows_wanted = 1; rows_wanted <= 40; rows_wanted++) {
        struct db_stmt *series = db_stmt(s, SQL_TEST_SERIES);
        db_bind_int32(series, rows_wanted * 7);
        db_bind_int32(series, 1 + (rows_wanted * 613) % 5000);
        struct db_rows rows;
        assert_int_equal(db_run_many(series, &rows, &f->error), FORGE_OK);
        assert_int_equal(rows.count, rows_wanted * 7);
        sizes++;
    }
    uint64_t took = forge_clock_monotonic_ms() - start;
    print_message("%d results over TLS in %llu ms\n", sizes, (unsigned long long)took);
    assert_true(took < 5000);
    enum { SIZE = 4 << 20 };
    char *large = forge_arena_alloc(&f->arena, SIZE + 1);
    memset(large, 'y', SIZE);
    for (int i = 0; i < 2; i++) {
        struct db_stmt *echo = db_stmt(s, SQL_TEST_ECHO);
        db_bind_text(echo, large);
        db_queue(echo);
    }
    struct db_stmt *length = db_stmt(s, SQL_TEST_LENGTH);
    db_bind_text(length, large);
    struct db_row row;
    assert_int_equal(db_run_one(length, &row, &f->error), FORGE_OK);
    assert_int_equal(db_row_int32(&row, "length"), SIZE);
    db_pool_release(s);
}

static void test_tls_idle_connections_stay(void **state)
{
    struct db_fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        struct db_session *s = db_fixture_lease(f, 10000);
        struct db_row row;
        assert_int_equal(db_run_one(db_stmt(s, SQL_TEST_BACKEND), &row, &f->error), FORGE_OK);
        db_pool_release(s);
    }
    struct db_pool_status status;
    db_pool_get_status(f->pool, &status);
    assert_in_range(status.opened_total, 1, 2); /* none was taken for dead */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tls_flights_of_every_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tls_idle_connections_stay, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
