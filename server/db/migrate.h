/* Schema migrations: the verbs of `forged migrate`, with Alembic's names and meaning.
 *
 * Each revision runs in one transaction with its row in schema_revisions, under a session advisory lock, so that of two
 * migrators one waits and a killed one leaves whole revisions. A file marked `-- transaction: none` runs statement by statement
 * and its row is written last. Lock waits are short (1 s) and tried again, so that a queue of waiting readers never builds up
 * behind an ALTER TABLE. Every function opens a connection of its own and blocks.
 *
 * url: what libpq takes, as the owner of the database; another role is refused with FAILED_PRECONDITION naming DATABASE_OWNER_URL.
 * folder: of the migration files. progress: one line for people per step; may be NULL. */
#ifndef SERVER_DB_MIGRATE_H
#define SERVER_DB_MIGRATE_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef void (*db_migrate_progress)(const char *line, void *user);

/* target: "head", "+N", a revision or its first digits (at least 4) when they are unique.
 * INVALID_ARGUMENT: bad target or files. FAILED_PRECONDITION: an applied file was changed, the database has a revision the folder
 * lacks, wrong role. UNAVAILABLE: no connection, or a lock was not given within the attempts. */
forge_code db_migrate_upgrade(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                              struct forge_error *error) FORGE_MUST_CHECK;

/* target: "base", "-N", or a revision (which then is the current one). Deletes data. Changed up files are no hindrance here: going
 * down to base is how a development database is reset. */
forge_code db_migrate_downgrade(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                                struct forge_error *error) FORGE_MUST_CHECK;

/* Tells the current revision to progress: "3f6b1c9d2a70 (head)", nothing when no revision is applied. verbose: several lines. */
forge_code db_migrate_current(const char *url, const char *folder, bool verbose, db_migrate_progress progress, void *user,
                              struct forge_error *error) FORGE_MUST_CHECK;

/* Tells the chain, the newest first: "<from> -> <to> (head), message", or as current --verbose does. Touches no database. */
forge_code db_migrate_history(const char *folder, bool verbose, db_migrate_progress progress, void *user,
                              struct forge_error *error) FORGE_MUST_CHECK;

/* Says that the database is at target ("head", "base" or a revision) and runs nothing. For databases that were migrated by other
 * means, or whose revisions the folder does not have. */
forge_code db_migrate_stamp(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                            struct forge_error *error) FORGE_MUST_CHECK;

/* Writes what upgrade would run as a script for psql, from the base or from the first part of "<from>:<to>". Touches no database; the
 * script itself refuses one that is somewhere else. */
forge_code db_migrate_upgrade_script(const char *folder, const char *target, FILE *out, struct forge_error *error) FORGE_MUST_CHECK;

/* Drift: loads schema.sql and the chain into two scratch databases and compares their catalogs and the one of url (which is left out
 * while it is not at head). Tells what differs, object by object; FAILED_PRECONDITION then. scratch_url: where databases may be
 * created; NULL = url. */
forge_code db_migrate_check(const char *url, const char *scratch_url, const char *folder, db_migrate_progress progress, void *user,
                            struct forge_error *error) FORGE_MUST_CHECK;

struct db_migrate_revision {
    const char *folder;
    const char *message;      /* one line */
    bool autogenerate;        /* draft it: needs scratch_url and diff_command */
    const char *scratch_url;  /* of a role that may create databases */
    const char *diff_command; /* shell command; gets two URLs, prints the SQL that leads from the first database to the second */
};
/* Writes the two files of a new revision behind the newest one, from template.sql. With autogenerate and nothing to do it writes none.
 * Sets PGPASSWORD of this process for the command. */
forge_code db_migrate_revision(const struct db_migrate_revision *request, db_migrate_progress progress, void *user,
                               struct forge_error *error) FORGE_MUST_CHECK;

#endif
