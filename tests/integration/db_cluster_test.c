/* The throw-away PostgreSQL itself: nothing of it survives its program, however that ends. */
#include "support/pg_cluster.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static bool vanishes(const char *path)
{
    struct timespec pause = {.tv_nsec = 10000000};
    for (int i = 0; i < 3000; i++) {
        if (access(path, F_OK) != 0)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

/* Does no process work in the folder, which may be deleted? */
static bool is_deserted(const char *folder)
{
    bool deserted = true;
    DIR *processes = opendir("/proc");
    assert_non_null(processes);
    for (struct dirent *entry; (entry = readdir(processes)) != NULL;) {
        char path[300], target[300] = "";
        snprintf(path, sizeof(path), "/proc/%.20s/cwd", entry->d_name);
        if (readlink(path, target, sizeof(target) - 1) > 0 && strncmp(target, folder, strlen(folder)) == 0)
            deserted = false;
    }
    closedir(processes);
    return deserted;
}

/* A program that starts a cluster, tells folder and postmaster, and is killed. paused: while PostgreSQL stands still. */
static void crash(bool paused)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct pg_cluster *cluster = pg_cluster_new(NULL);
        char told[256];
        if (paused)
            pg_cluster_pause(cluster);
        int size = snprintf(told, sizeof(told), "%s", pg_cluster_folder(cluster));
        if (write(ends[1], told, (size_t)size + 1) > 0)
            pause();
        _exit(1);
    }
    close(ends[1]);
    char folder[256] = "";
    assert_true(read(ends[0], folder, sizeof(folder) - 1) > 0);
    close(ends[0]);
    char path[300];
    int postmaster = 0;
    snprintf(path, sizeof(path), "%s/data/postmaster.pid", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &postmaster), 1);
    fclose(file);
    assert_int_equal(kill(postmaster, 0), 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(vanishes(folder));
    snprintf(path, sizeof(path), "/proc/%d/fd/0", postmaster); /* gone, or a zombie of whoever reaps orphans here */
    assert_true(vanishes(path));
    assert_true(is_deserted(folder));
}

static void test_cluster_ends_with_its_program(void **state)
{
    crash(false);
}

static void test_cluster_ends_although_it_is_paused(void **state)
{
    crash(true);
}

static void test_cluster_keeps_data_over_stop_and_kill(void **state)
{
    struct pg_cluster_options options = {.durable = true, .checksums = true, .settings = "work_mem = '5MB'"};
    struct pg_cluster *cluster = pg_cluster_new(&options);
    const char *folder = pg_cluster_folder(cluster);
    char kept_folder[256];
    snprintf(kept_folder, sizeof(kept_folder), "%s", folder);
    pg_cluster_create_roles(cluster);
    const char *database = pg_cluster_create_database(cluster, "forge_owner");
    pg_cluster_execute(cluster, "forge_owner", database, "CREATE TABLE t (n integer); INSERT INTO t VALUES (1)");
    pg_cluster_stop(cluster);
    pg_cluster_start(cluster);
    pg_cluster_execute(cluster, "forge_owner", database, "INSERT INTO t VALUES (2)");
    pg_cluster_kill(cluster);
    pg_cluster_start(cluster);
    assert_string_equal(pg_cluster_query(cluster, "forge_owner", database, "SELECT sum(n) FROM t"), "3");
    assert_string_equal(pg_cluster_query(cluster, "forge_owner", database, "SHOW work_mem"), "5MB");
    assert_string_equal(pg_cluster_query(cluster, "forge_owner", database, "SHOW fsync"), "on");
    assert_string_equal(pg_cluster_query(cluster, "forge_owner", database, "SHOW data_checksums"), "on");
    assert_string_equal(pg_cluster_try(cluster, "forge_app", database, "SELECT n FROM t"), "42501");
    assert_string_equal(pg_cluster_try(cluster, "forge_owner", database, "SELECT n FROM t"), "00000");
    pg_cluster_free(cluster);
    assert_int_not_equal(access(kept_folder, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_ends_with_its_program),
        cmocka_unit_test(test_cluster_ends_although_it_is_paused),
        cmocka_unit_test(test_cluster_keeps_data_over_stop_and_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
