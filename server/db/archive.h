/* Old executions are moved to files and back: `forged maintain archive-executions` and `restore-executions`.
 *
 * A file holds a batch of one organization's executions, the oldest first, as lines of JSON with every column. The file is whole and on the
 * disk before one transaction deletes exactly its rows, adds their sums to execution_totals and marks its row in archives complete. So a
 * kill at any point leaves each execution in the table or in one complete archive, and at most one row that says writing, which the next
 * run removes together with its file.
 *
 * Both hold one advisory lock, walk organization_names and bind one organization at a time. They block, beside running servers. */
#ifndef SERVER_DB_ARCHIVE_H
#define SERVER_DB_ARCHIVE_H

#include "wire/status.h"

#include <stdint.h>

enum { DB_ARCHIVE_ROWS_MAX = 100000 };

struct db_archive_config {
    const char *url;                            /* of forge_maint, which becomes forge_owner for it */
    int64_t now_us;                             /* wall clock */
    int64_t before_us;                          /* executions from before this are archived */
    const char *folder;                         /* gets a folder for each organization; made when only the last part of it is missing */
    unsigned rows_per_file;                     /* 1 to DB_ARCHIVE_ROWS_MAX; fewer where their notes are long */
    void (*tell)(const char *line, void *user); /* progress: a line for each file */
    void *user;
};

struct db_archive_report {
    int64_t executions, files;
};

/* Archives. *out counts what was done also when it fails. FAILED_PRECONDITION with the system's reason where a file cannot be written,
 * ABORTED while another run holds the lock. */
forge_code db_archive_executions(const struct db_archive_config *config, struct db_archive_report *out,
                                 struct forge_error *error) FORGE_MUST_CHECK;

struct db_restore_config {
    const char *url;
    int64_t now_us;
    const char *const *paths;
    int count;
    void (*tell)(const char *line, void *user);
    void *user;
};

struct db_restore_report {
    int64_t executions, files;
    int64_t skipped;  /* executions of prompts that were deleted since */
    int64_t restored; /* files that were restored before: nothing to do */
};

/* Puts the executions of these files back, each file in one transaction, once its SHA-256 is that of its archive. Stops at the first file
 * that fails; *out counts what was done before. The files stay. NOT_FOUND for a file that no archive of this database belongs to, DATA_LOSS
 * for a corrupted one. */
forge_code db_restore_executions(const struct db_restore_config *config, struct db_restore_report *out,
                                 struct forge_error *error) FORGE_MUST_CHECK;

#endif
