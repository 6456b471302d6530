/* A migrations folder and an empty database for each test of `forged migrate`, and shorthands that end the test when something fails.
 * The names are short because every line of those tests uses them. */
#ifndef TESTS_INTEGRATION_MIGRATE_FIXTURE_H
#define TESTS_INTEGRATION_MIGRATE_FIXTURE_H

#include "db/migrate.h"
#include "support/forged_child.h"
#include "support/pg_cluster.h"

#define FIRST "111111111111"
#define SECOND "222222222222"
#define THIRD "333333333333"

extern struct pg_cluster *cluster;
extern char folder[64], real_folder[4096]; /* of this test; of the source */
extern const char *database, *url;         /* url: as forge_owner */
extern struct forge_error error;
extern char lines[65536]; /* what progress told */

/* cmocka's: a cluster for the program, folder and database for each test. */
int migrate_start(void **state);
int migrate_end(void **state);
int migrate_fresh(void **state);
int migrate_remove_folder(void **state);

/* A db_migrate_progress that adds to lines. */
void migrate_note(const char *line, void *user);

void migrate_write_file(const char *name, const char *text);
/* Both files of a revision. */
void migrate_write_revision(const char *revision, const char *revises, const char *up, const char *down);
/* FIRST makes table one, SECOND table two. */
void migrate_write_two(void);
/* The migration files of the source, schema.sql and template.sql included. */
void migrate_copy_real(void);

forge_code migrate_up(const char *target);
forge_code migrate_down(const char *target);
void migrate_expect_current(const char *expected);
void migrate_expect_error(forge_code rc, forge_code expected, const char *part);
/* As the superuser, in the test's database. */
const char *migrate_query(const char *sql);
/* `forged migrate <words>` on this test's folder and database; words end with NULL. child_output_done. */
void migrate_run(const char *const words[], struct child_output *out);
/* Waits until the database answers true. */
void migrate_await(const char *sql);

#endif
