/* Files that rows are moved to: lines of text, compressed by zstd, known by the SHA-256 of the compressed bytes. `zstdcat` reads them,
 * `sha256sum -c` checks them. The only door to libzstd; nothing here knows what the lines mean. Everything blocks. */
#ifndef SERVER_DB_ARCHIVE_FILE_H
#define SERVER_DB_ARCHIVE_FILE_H

#include "wire/crypto.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DB_ARCHIVE_LINE_MAX = 64 << 20 }; /* bytes of a line; a longer one is no file of ours */

/* ---- writing: <path>.partial until it is whole and on the disk, then <path> ---- */

struct db_archive_writer;
/* Replaces a .partial that an earlier attempt has left. RESOURCE_EXHAUSTED without memory, FAILED_PRECONDITION with the system's reason. */
forge_code db_archive_writer_open(const char *path, struct db_archive_writer **out, struct forge_error *error) FORGE_MUST_CHECK;
/* line: without a newline in it. */
forge_code db_archive_writer_add(struct db_archive_writer *writer, const char *line, size_t size,
                                 struct forge_error *error) FORGE_MUST_CHECK;
/* Ends the file, makes it and its name durable, and frees the writer, whatever comes of it. After a failure there is no <path> that was not
 * there before, or one that is whole. */
forge_code db_archive_writer_close(struct db_archive_writer *writer, uint8_t out_sha256[FORGE_SHA256_SIZE],
                                   struct forge_error *error) FORGE_MUST_CHECK;
/* Deletes what was written and frees the writer. */
void db_archive_writer_abandon(struct db_archive_writer *writer);

/* Makes a folder that only its owner may enter, durably; OK when it is there. */
forge_code db_archive_make_folder(const char *path, struct forge_error *error) FORGE_MUST_CHECK;
/* Puts text in the place of the file at path in one step, durably. */
forge_code db_archive_replace(const char *path, const char *text, size_t size, struct forge_error *error) FORGE_MUST_CHECK;
/* Deletes a file and its .partial, where they are there. */
forge_code db_archive_delete(const char *path, struct forge_error *error) FORGE_MUST_CHECK;

/* ---- reading ---- */

struct db_archive_reader;
/* NOT_FOUND without the file, FAILED_PRECONDITION with the system's reason. */
forge_code db_archive_reader_open(const char *path, struct db_archive_reader **out, struct forge_error *error) FORGE_MUST_CHECK;
/* The hash of the whole file, which is then read from its first line. */
forge_code db_archive_reader_hash(struct db_archive_reader *reader, uint8_t out_sha256[FORGE_SHA256_SIZE],
                                  struct forge_error *error) FORGE_MUST_CHECK;
/* The next line, without its newline, NUL-terminated, valid until the next call; *out_line NULL at the end. DATA_LOSS when the file does
 * not decompress or ends in the middle. */
forge_code db_archive_reader_next(struct db_archive_reader *reader, char **out_line, size_t *out_size,
                                  struct forge_error *error) FORGE_MUST_CHECK;
/* Accepts NULL. */
void db_archive_reader_close(struct db_archive_reader *reader);

#endif
