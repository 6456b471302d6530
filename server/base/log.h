/* Log lines on standard error: logfmt (https://brandur.org/logfmt) or JSON, one write() per line, keys and typed values.
 *
 *     base_log(BASE_LOG_INFO, "listening", base_log_text("address", "::"), base_log_int("port", port));
 *
 * Every function may be called from any thread. Until base_log_start_writer() a line is written by the caller and may block; after it a
 * writer thread writes and no caller ever waits for a slow reader of the log: what does not fit is counted, and the count is logged.
 * Text that looks like one of our tokens, or a password inside a URL, is masked; passing secrets is still a bug. */
#ifndef SERVER_BASE_LOG_H
#define SERVER_BASE_LOG_H

#include "wire/status.h"

#include <stdbool.h>
#include <stdint.h>

enum base_log_level { BASE_LOG_DEBUG, BASE_LOG_INFO, BASE_LOG_WARNING, BASE_LOG_ERROR };
enum base_log_format { BASE_LOG_LOGFMT, BASE_LOG_JSON };
enum { BASE_LOG_LINE_MAX = 4096 /* bytes of a line; a longer one loses the end of its last values */ };

struct base_log_field {
    const char *key; /* [a-z_]+; NULL ends a list */
    enum { BASE_LOG_FIELD_TEXT, BASE_LOG_FIELD_INT, BASE_LOG_FIELD_BOOL, BASE_LOG_FIELD_MILLISECONDS } kind;
    const char *text;
    int64_t number;
};
struct base_log_field base_log_text(const char *key, const char *value); /* NULL value: the field is left out */
struct base_log_field base_log_int(const char *key, int64_t value);
struct base_log_field base_log_bool(const char *key, bool value);
struct base_log_field base_log_ms(const char *key, uint64_t nanoseconds); /* written as milliseconds with three decimals */

/* message: a constant sentence part without values ("call failed"); what varies goes into fields. */
#define base_log(level, message, ...) base_log_write((level), (message), (const struct base_log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}})
void base_log_write(enum base_log_level level, const char *message, const struct base_log_field *fields);
/* One line for a failure: message, code, the error's text and SQLSTATE. */
void base_log_failure(enum base_log_level level, const char *message, const struct forge_error *error);
bool base_log_is_enabled(enum base_log_level level);

/* Before other threads run (or any time, for the level and format alone). Defaults: INFO, LOGFMT, descriptor 2. */
void base_log_configure(enum base_log_level level, enum base_log_format format, int descriptor);
/* RESOURCE_EXHAUSTED when there is no thread or memory. */
forge_code base_log_start_writer(void) FORGE_MUST_CHECK;
/* Writes what is left and joins; later lines are written by their callers again. Harmless without a writer. */
void base_log_stop_writer(void);

#endif
