/* Many rows in one statement: each member of a struct becomes a binary array, and unnest() makes rows of them again. One such statement
 * costs a tenth of as many inserts. */
#ifndef SERVER_DB_COLUMN_H
#define SERVER_DB_COLUMN_H

#include "db/stmt.h"

/* A bytea; data NULL = SQL NULL. */
struct db_bytes {
    const uint8_t *data;
    size_t size;
};

/* What a member is, and the type its array has: write $3::bigint[] where PostgreSQL would infer another. */
enum db_member {
    DB_MEMBER_INT32,   /* int32_t; integer[] */
    DB_MEMBER_INT64,   /* int64_t; bigint[] */
    DB_MEMBER_DOUBLE,  /* double; double precision[] */
    DB_MEMBER_TIME_US, /* int64_t, microseconds since the Unix epoch; timestamptz[] */
    DB_MEMBER_UUID,    /* struct forge_uuid, the nil one is NULL; uuid[] */
    DB_MEMBER_TEXT,    /* const char *, NULL is NULL; text[] */
    DB_MEMBER_BYTES    /* struct db_bytes; bytea[] */
};

/* Binds the member at this offset of every row as the next parameter, in the order of rows. Copies. */
void db_bind_column(struct db_stmt *stmt, enum db_member member, size_t offset, const void *const *rows, size_t count);

#endif
