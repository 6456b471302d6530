/* The migration files of a folder: found, read and put into one line.
 *
 * A revision is two files, <12 hex digits>_<slug>.up.sql and .down.sql, that open with the same header lines
 * `-- revision:`, `-- revises:` (empty for the first), `-- created:` and `-- message:`; `-- serves:` and `-- transaction: none` may follow.
 * Pure of the database. */
#ifndef SERVER_DB_MIGRATION_FILES_H
#define SERVER_DB_MIGRATION_FILES_H

#include "wire/arena.h"
#include "wire/crypto.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DB_REVISION_SIZE = 13,                 /* 12 hexadecimal digits and the NUL */
    DB_MIGRATION_FILE_BYTES_MAX = 4 << 20, /* one file */
    DB_MIGRATIONS_MAX = 1000
};

struct db_migration {
    char revision[DB_REVISION_SIZE];
    char revises[DB_REVISION_SIZE]; /* "" for the first */
    char serves[DB_REVISION_SIZE];  /* "" where the file has no such line */
    const char *created;
    const char *message;
    const char *up_name; /* file names without the folder */
    const char *down_name;
    const char *up_sql; /* whole text, NUL-terminated */
    const char *down_sql;
    bool up_is_alone; /* `-- transaction: none`: runs without one */
    bool down_is_alone;
    uint8_t sha256[FORGE_SHA256_SIZE]; /* of the up file's bytes: what the database remembers */
};

struct db_migration_chain {
    struct db_migration *items; /* the first revision first; in the arena */
    size_t count;
};

enum db_migration_direction { DB_MIGRATION_UP, DB_MIGRATION_DOWN };

/* A whole text file of at most DB_MIGRATION_FILE_BYTES_MAX bytes in the arena, NUL-terminated. Blocks on the file system. */
forge_code db_migration_file_read(const char *folder, const char *name, struct forge_arena *arena, char **out_text, size_t *out_size,
                                  struct forge_error *error) FORGE_MUST_CHECK;

/* Takes a file name apart. False for names that are no migration; *out_* untouched then. Fuzzed. */
bool db_migration_name_parse(const char *name, char out_revision[DB_REVISION_SIZE], enum db_migration_direction *out_direction);

/* Reads a folder and checks that its revisions are one line. Blocks on the file system. Errors name the files:
 * NOT_FOUND for the folder, INVALID_ARGUMENT for a bad header, a missing half, a duplicate, a branch, a revision that revises
 * one that is not there. */
forge_code db_migration_chain_read(const char *folder, struct forge_arena *arena, struct db_migration_chain *out,
                                   struct forge_error *error) FORGE_MUST_CHECK;

#endif
