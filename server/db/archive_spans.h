/* Moves the spans of a detached partition to files (maintain_retention.c). Private to db. */
#ifndef SERVER_DB_ARCHIVE_SPANS_H
#define SERVER_DB_ARCHIVE_SPANS_H

#include "wire/status.h"

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdint.h>

struct db_span_archive {
    PGconn *conn;            /* of db_archive_connect(), without a statement_timeout: a file's rows go in one statement */
    const char *table;       /* in schema forge_partitions; its name ends in the day as YYYYMMDD */
    const char *root;        /* gets a folder for each organization */
    unsigned trace_days;     /* the server's limit: spans of projects with a shorter one are deleted */
    unsigned rows_per_file;  /* 1 or more; fewer where spans are long */
    int64_t now_us;          /* wall clock */
    const atomic_bool *stop; /* looked at between two reads; may be NULL */
    void (*tell)(const char *line, void *user); /* a line for each file; may be NULL */
    void *user;
};

struct db_span_archive_report {
    int64_t spans, files;
};

/* OK: the table holds no span any more that is to be kept, every file is on the disk and complete. *out is added to, also when it fails.
 * Whatever it returns, the next call goes on. CANCELLED when it was stopped, FAILED_PRECONDITION with the system's reason where a file
 * cannot be written, UNAVAILABLE for a lock that was not given. */
forge_code db_archive_spans(const struct db_span_archive *config, struct db_span_archive_report *out,
                            struct forge_error *error) FORGE_MUST_CHECK;

#endif
