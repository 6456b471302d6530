/* migrations/README.md, "Working with it": its commands are run as they stand there, one after the other, but for those of systemd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate_fixture.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char file_path[4200];

/* The path of a file of this test's folder. */
static const char *path_of(const char *name)
{
    snprintf(file_path, sizeof file_path, "%s/%s", folder, name);
    return file_path;
}

/* The lines of the README's sh blocks into the file commands; how many, and how many of systemd were left out. */
static unsigned extract(unsigned *out_systemd)
{
    char readme[4200], line[1024];
    snprintf(readme, sizeof readme, "%s/README.md", real_folder);
    FILE *from = fopen(readme, "re"), *to = fopen(path_of("commands"), "we");
    assert_true(from != NULL && to != NULL);
    unsigned count = 0;
    bool inside = false;
    *out_systemd = 0;
    while (fgets(line, sizeof line, from) != NULL) {
        if (strncmp(line, "```", 3) == 0) {
            inside = !inside && strcmp(line, "```sh\n") == 0;
        } else if (inside && (strncmp(line, "systemctl ", 10) == 0 || strncmp(line, "journalctl ", 11) == 0)) {
            ++*out_systemd;
        } else if (inside) {
            assert_true(fprintf(to, "%s", line) > 0);
            count++;
        }
    }
    fclose(from);
    assert_int_equal(fclose(to), 0);
    return count;
}

/* Stands for the person who edits: schema.sql gets a column, drafts are fine as they are. */
static const char EDITOR[] = "#!/bin/sh -e\ncase $1 in */schema.sql) echo 'ALTER TABLE prompts ADD COLUMN notes text;' >> \"$1\" ;; esac\n"
                             "test -e \"$1\"\n";
/* Stands for the program that compares databases. */
static const char DIFF[] = "#!/bin/sh -e\n"
                           "count() { psql \"$1\" -XAtc \"SELECT count(*) FROM information_schema.columns WHERE table_name = 'prompts'"
                           " AND column_name = 'notes'\"; }\n"
                           "case $(count \"$1\")$(count \"$2\") in 01) echo 'ALTER TABLE prompts ADD COLUMN notes text;' ;;"
                           " 10) echo 'ALTER TABLE prompts DROP COLUMN notes;' ;; esac\n";

static void write_program(const char *name, const char *text)
{
    migrate_write_file(name, text);
    assert_int_equal(chmod(path_of(name), 0755), 0);
}

static char *read_output(void)
{
    FILE *file = fopen(path_of("output"), "re");
    assert_non_null(file);
    char *text = NULL;
    size_t capacity = 0;
    if (getdelim(&text, &capacity, '\0', file) < 0)
        fail_msg("no output");
    fclose(file);
    return text;
}

static void test_the_commands_of_the_readme_work(void **state)
{
    (void)state;
    char command[16384];
    unsigned systemd;
    assert_true(extract(&systemd) >= 25);
    assert_int_equal(systemd, 2);
    write_program("editor", EDITOR);
    write_program("diff", DIFF);
    snprintf(command, sizeof command,
             "cd %s && mkdir migrations && cp %s/*.sql migrations && git init --quiet . && env -u DATABASE_URL PATH=\"%s/bin:$PATH\""
             " HOME=%s EDITOR=%s/editor FORGE_SCHEMA_DIFF_COMMAND=%s/diff DATABASE_SUPERUSER_URL='%s' GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t"
             " GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t sh -ex commands > output 2>&1",
             folder, real_folder, getenv("FORGE_BINARY_DIR"), folder, folder, folder, pg_cluster_url(cluster, "postgres", "postgres"));
    int status = system(command);
    char *output = read_output();
    if (status != 0)
        fail_msg("%s", output);
    static const char *const told[] = {"Rev: 3f6b1c9d2a70 (head)",
                                       "_notes_of_prompts.down.sql ...  done",
                                       "accepting connections",
                                       "No drift: schema.sql, migrations and database are the same",
                                       "Running stamp_revision  -> ",
                                       "-> 3f6b1c9d2a70, initial schema",
                                       "pfo_"};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        if (strstr(output, told[i]) == NULL)
            fail_msg("not told: %s\n%s", told[i], output);
    free(output);
    assert_string_equal(pg_cluster_query(cluster, "postgres", "promptforge", "SELECT count(*) FROM schema_revisions"), "2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_commands_of_the_readme_work, migrate_fresh, migrate_remove_folder),
    };
    return cmocka_run_group_tests(tests, migrate_start, migrate_end);
}
