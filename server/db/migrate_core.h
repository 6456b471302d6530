/* What the verbs of `forged migrate` share: a connection as the owner, alone, and one revision up or down. Private to server/db. */
#ifndef SERVER_DB_MIGRATE_CORE_H
#define SERVER_DB_MIGRATE_CORE_H

#include "db/admin_connection.h"
#include "db/migrate.h"
#include "db/migration_files.h"

/* "forgemig" as a number: the key of the advisory lock that keeps migrators apart. */
#define DB_MIGRATOR_LOCK "7381244102692399463"

/* The migrator's own table; no revision makes it. */
#define DB_SCHEMA_REVISIONS_SQL                                                                                                            \
    "CREATE TABLE IF NOT EXISTS public.schema_revisions (\n"                                                                               \
    "    revision varchar(12) COLLATE \"C\" NOT NULL,\n"                                                                                   \
    "    position integer NOT NULL,\n"                                                                                                     \
    "    sha256 bytea NOT NULL,\n"                                                                                                         \
    "    serves varchar(12) COLLATE \"C\",\n"                                                                                              \
    "    applied_at timestamptz NOT NULL DEFAULT now(),\n"                                                                                 \
    "    CONSTRAINT schema_revisions_pkey PRIMARY KEY (revision)\n"                                                                        \
    ");\n"                                                                                                                                 \
    "CREATE UNIQUE INDEX IF NOT EXISTS ix_schema_revisions_position ON public.schema_revisions (position);\n"                              \
    "GRANT SELECT ON public.schema_revisions TO forge_app;\n"

struct db_migrator {
    PGconn *conn;
    struct forge_arena arena;
    struct db_migration_chain chain;
    size_t applied; /* revisions of the chain that the database has */
    db_migrate_progress progress;
    void *user;
};

/* One line to progress. */
void db_migrator_tell(const struct db_migrator *m, const char *format, ...) FORGE_PRINTF(2, 3);

/* The steps of a verb, in this order; each fails with what db/migrate.h says. Close after any of them, also after a failed one. */
forge_code db_migrator_read_files(struct db_migrator *m, const char *folder, struct forge_error *error) FORGE_MUST_CHECK;
/* Connects as the owner and waits until it is the only migrator; makes schema_revisions. database: NULL = the one of url. */
forge_code db_migrator_open(struct db_migrator *m, const char *url, const char *database, struct forge_error *error) FORGE_MUST_CHECK;
/* How far along the chain the database is. changed_allowed: files may differ from what was applied. */
forge_code db_migrator_read_applied(struct db_migrator *m, bool changed_allowed, struct forge_error *error) FORGE_MUST_CHECK;
/* Runs one revision; waits for locks in short turns. */
forge_code db_migrator_run(struct db_migrator *m, size_t index, enum db_migration_direction direction,
                           struct forge_error *error) FORGE_MUST_CHECK;
/* The statements of one file, in the transaction that is open; the error names file and line. */
forge_code db_migrator_run_file(PGconn *conn, const char *name, const char *sql, struct forge_error *error) FORGE_MUST_CHECK;
/* Only the row of a revision in schema_revisions: written (up) or deleted (down). */
forge_code db_migrator_write_row(struct db_migrator *m, size_t index, enum db_migration_direction direction,
                                 struct forge_error *error) FORGE_MUST_CHECK;
void db_migrator_close(struct db_migrator *m);

/* Parts of the script of `upgrade --sql`: what comes first, and one revision up. */
void db_migrate_script_begin(FILE *out);
void db_migrate_script_revision(const struct db_migration_chain *chain, size_t index, FILE *out);

/* SHA-256 of the up file, as hexadecimal digits. */
enum { DB_SHA256_TEXT_SIZE = 2 * FORGE_SHA256_SIZE + 1 };
void db_migration_sha256_text(const struct db_migration *item, char out[DB_SHA256_TEXT_SIZE]);

#endif
