#include "migrate_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct pg_cluster *cluster;
char folder[64], real_folder[4096];
const char *database, *url;
struct forge_error error;
char lines[65536];

void migrate_note(const char *line, void *user)
{
    (void)user;
    size_t length = strlen(lines);
    snprintf(lines + length, sizeof lines - length, "%s\n", line);
}

int migrate_start(void **state)
{
    (void)state;
    snprintf(real_folder, sizeof real_folder, "%s/migrations", getenv("FORGE_SOURCE_DIR"));
    cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(cluster);
    return 0;
}

int migrate_end(void **state)
{
    (void)state;
    pg_cluster_free(cluster);
    return 0;
}

int migrate_fresh(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/forge-migrate-XXXXXX");
    assert_non_null(mkdtemp(folder));
    database = pg_cluster_create_database(cluster, "forge_owner");
    url = pg_cluster_url(cluster, "forge_owner", database);
    lines[0] = '\0';
    error = (struct forge_error){0};
    return 0;
}

int migrate_remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

void migrate_write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void migrate_write_revision(const char *revision, const char *revises, const char *up, const char *down)
{
    char name[64], text[2048];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s_step.%s.sql", revision, i == 0 ? "up" : "down");
        snprintf(text, sizeof text, "-- revision: %s\n-- revises: %s\n-- created: 2026-01-01T00:00:00Z\n-- message: step\n\n%s\n", revision,
                 revises, i == 0 ? up : down);
        migrate_write_file(name, text);
    }
}

void migrate_write_two(void)
{
    migrate_write_revision(FIRST, "", "CREATE TABLE one (a integer);", "DROP TABLE one;");
    migrate_write_revision(SECOND, FIRST, "CREATE TABLE two (a integer);", "DROP TABLE two;");
}

void migrate_copy_real(void)
{
    char command[4400];
    snprintf(command, sizeof command, "cp %s/*.sql %s", real_folder, folder);
    assert_int_equal(system(command), 0);
}

forge_code migrate_up(const char *target)
{
    lines[0] = '\0';
    return db_migrate_upgrade(url, folder, target, migrate_note, NULL, &error);
}

forge_code migrate_down(const char *target)
{
    lines[0] = '\0';
    return db_migrate_downgrade(url, folder, target, migrate_note, NULL, &error);
}

void migrate_expect_current(const char *expected)
{
    lines[0] = '\0';
    assert_int_equal(db_migrate_current(url, folder, false, migrate_note, NULL, &error), FORGE_OK);
    assert_string_equal(lines, expected);
}

void migrate_expect_error(forge_code rc, forge_code expected, const char *part)
{
    if (rc != expected || strstr(error.message, part) == NULL)
        fail_msg("got %s: %s; expected %s: ..%s..", forge_code_name(rc), error.message, forge_code_name(expected), part);
    error = (struct forge_error){0};
}

const char *migrate_query(const char *sql)
{
    return pg_cluster_query(cluster, "postgres", database, sql);
}

void migrate_run(const char *const words[], struct child_output *out)
{
    enum { WORDS_MAX = 16 };
    const char *arguments[WORDS_MAX + 4] = {"migrate"};
    size_t count = 1;
    for (; words[count - 1] != NULL && count < WORDS_MAX; count++)
        arguments[count] = words[count - 1];
    arguments[count++] = "--migrations-folder";
    arguments[count] = folder;
    char variable[512];
    snprintf(variable, sizeof variable, "DATABASE_OWNER_URL=%s", url);
    child_run("forged", arguments, (const char *[]){variable, NULL}, folder, out);
}

void migrate_await(const char *sql)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (strcmp(migrate_query(sql), "t") == 0)
            return;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fail_msg("never true: %s", sql);
}
