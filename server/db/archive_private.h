/* What archiving and restoring share. Private to db/archive*.c and db/maintain*.c. */
#ifndef SERVER_DB_ARCHIVE_PRIVATE_H
#define SERVER_DB_ARCHIVE_PRIVATE_H

#include "db/admin_connection.h"
#include "db/archive.h"
#include "wire/crypto.h"

enum { DB_ARCHIVE_NUMBER_SIZE = 24, DB_ARCHIVE_TELL_SIZE = 1024, DB_ARCHIVE_SHA256_TEXT_SIZE = 2 * FORGE_SHA256_SIZE + 1 };
#define DB_ARCHIVE_SUFFIX ".jsonl.zst"

/* A connection as forge_owner that holds the lock which keeps runs apart, until it is closed. What it prints of times is UTC. ABORTED when
 * another run goes on holding the lock. */
forge_code db_archive_connect(const char *url, PGconn **out, struct forge_error *error) FORGE_MUST_CHECK;

/* The folder of all archives as an absolute path; made when only the last part of it is missing. free() *out. */
forge_code db_archive_open_root(const char *folder, char **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Lower-case hexadecimal digits. */
void db_archive_format_sha256(const uint8_t sha256[FORGE_SHA256_SIZE], char out[DB_ARCHIVE_SHA256_TEXT_SIZE]);

/* Removes the archives of this kind that a killed run has left half-way, with their files. We hold the lock, so whoever wrote them has
 * ended: their rows are still in the table. Only in this folder (of the organization): a copy of the database, restored from a dump that
 * was taken during a run, must not delete the files of its original. */
forge_code db_archive_remove_unfinished(PGconn *conn, const char *organization_id, const char *folder, const char *kind,
                                        struct forge_error *error) FORGE_MUST_CHECK;
/* Writes SHA256SUMS, for sha256sum -c, of the complete archives in the organization's folder: from the table, so that a run which was
 * killed before this is made up for by the next one. */
forge_code db_archive_write_sums(PGconn *conn, const char *organization_id, const char *folder, struct forge_error *error) FORGE_MUST_CHECK;

#endif
