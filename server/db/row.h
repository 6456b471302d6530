/* Rows of a result, read by column name. Text and bytes are copied into the session's arena, so they outlive the connection.
 * A column that does not exist or has another type is our bug and asserts; SQL NULL reads as NULL, 0, false (ask db_row_is_null). */
#ifndef SERVER_DB_ROW_H
#define SERVER_DB_ROW_H

#include "wire/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db_result; /* owned by the session */
struct db_row {
    const struct db_result *result;
    int index;
};
struct db_rows {
    const struct db_result *result;
    int count;
};
struct db_row db_rows_at(const struct db_rows *rows, int index);

bool db_row_is_null(const struct db_row *row, const char *column);
char *db_row_text(const struct db_row *row, const char *column); /* text, varchar, json, jsonb, name; NULL for SQL NULL */
char *db_row_text_or_empty(const struct db_row *row, const char *column);
void db_row_uuid(const struct db_row *row, const char *column, struct forge_uuid *out);
char *db_row_uuid_text(const struct db_row *row, const char *column); /* 36 characters, NULL for SQL NULL */
bool db_row_bool(const struct db_row *row, const char *column);
int32_t db_row_int32(const struct db_row *row, const char *column);   /* smallint, integer */
int64_t db_row_int64(const struct db_row *row, const char *column);   /* also integer and smallint */
double db_row_double(const struct db_row *row, const char *column);   /* double precision */
int64_t db_row_time_us(const struct db_row *row, const char *column); /* timestamptz as microseconds since the Unix epoch */
uint8_t *db_row_bytes(const struct db_row *row, const char *column, size_t *out_size);
char **db_row_text_array(const struct db_row *row, const char *column, size_t *out_count); /* text[]; no NULL members */

#endif
