#include "db/row.h"

#include "db/conn.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Types of PostgreSQL's catalog (pg_type.dat); their numbers never change. */
enum {
    BOOL_OID = 16,
    BYTEA_OID = 17,
    NAME_OID = 19,
    INT8_OID = 20,
    INT2_OID = 21,
    INT4_OID = 23,
    TEXT_OID = 25,
    JSON_OID = 114,
    FLOAT8_OID = 701,
    TEXT_ARRAY_OID = 1009,
    VARCHAR_ARRAY_OID = 1015,
    BPCHAR_OID = 1042,
    VARCHAR_OID = 1043,
    TIMESTAMPTZ_OID = 1184,
    UUID_OID = 2950,
    JSONB_OID = 3802,
    XID8_OID = 5069
};

static const int64_t postgres_epoch_us = INT64_C(946684800000000); /* 2000-01-01 */

/* One value as it came over the wire. data is NULL for SQL NULL. */
struct value {
    const char *data;
    size_t size;
    Oid type;
};

struct db_row db_rows_at(const struct db_rows *rows, int index)
{
    if (index < 0 || index >= rows->count)
        db_bug("row %d of %d", index, rows->count);
    return (struct db_row){.result = rows->result, .index = index};
}

static struct value value_get(const struct db_row *row, const char *column)
{
    const PGresult *pg = row->result->pg;
    int number = PQfnumber(pg, column);
    if (number < 0)
        db_bug("the result has no column %s", column);
    struct value value = {.type = PQftype(pg, number)};
    if (!PQgetisnull(pg, row->index, number)) {
        value.data = PQgetvalue(pg, row->index, number);
        value.size = (size_t)PQgetlength(pg, row->index, number);
    }
    return value;
}

static struct value value_get_typed(const struct db_row *row, const char *column, Oid type)
{
    struct value value = value_get(row, column);
    if (value.type != type)
        db_bug("column %s has type %u, not %u", column, value.type, type);
    return value;
}

static uint32_t read_int32(const char *data)
{
    uint32_t wire;
    memcpy(&wire, data, sizeof(wire));
    return be32toh(wire);
}

static uint64_t read_int64(const char *data)
{
    uint64_t wire;
    memcpy(&wire, data, sizeof(wire));
    return be64toh(wire);
}

bool db_row_is_null(const struct db_row *row, const char *column)
{
    return value_get(row, column).data == NULL;
}

char *db_row_text(const struct db_row *row, const char *column)
{
    struct value value = value_get(row, column);
    switch (value.type) {
    case TEXT_OID:
    case VARCHAR_OID:
    case BPCHAR_OID:
    case NAME_OID:
    case JSON_OID:
        break;
    case JSONB_OID: /* a version byte, then the text (jsonb_send() in jsonb.c) */
        if (value.data != NULL) {
            value.data++;
            value.size--;
        }
        break;
    default:
        db_bug("column %s has type %u, which is no text", column, value.type);
    }
    return value.data == NULL ? NULL : forge_arena_strndup(row->result->arena, value.data, value.size);
}

char *db_row_text_or_empty(const struct db_row *row, const char *column)
{
    char *text = db_row_text(row, column);
    return text != NULL ? text : forge_arena_strdup(row->result->arena, "");
}

void db_row_uuid(const struct db_row *row, const char *column, struct forge_uuid *out)
{
    struct value value = value_get_typed(row, column, UUID_OID);
    if (value.data == NULL)
        memset(out, 0, sizeof(*out));
    else
        memcpy(out->bytes, value.data, sizeof(out->bytes));
}

char *db_row_uuid_text(const struct db_row *row, const char *column)
{
    if (db_row_is_null(row, column))
        return NULL;
    struct forge_uuid uuid;
    db_row_uuid(row, column, &uuid);
    char text[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&uuid, text);
    return forge_arena_strdup(row->result->arena, text);
}

bool db_row_bool(const struct db_row *row, const char *column)
{
    struct value value = value_get_typed(row, column, BOOL_OID);
    return value.data != NULL && value.data[0] != 0;
}

int64_t db_row_int64(const struct db_row *row, const char *column)
{
    struct value value = value_get(row, column);
    switch (value.type) {
    case INT2_OID:
        return value.data == NULL ? 0 : (int16_t)(((uint8_t)value.data[0] << 8) | (uint8_t)value.data[1]);
    case INT4_OID:
        return value.data == NULL ? 0 : (int32_t)read_int32(value.data);
    case INT8_OID:
    case XID8_OID:
        return value.data == NULL ? 0 : (int64_t)read_int64(value.data);
    default:
        db_bug("column %s has type %u, which is no integer", column, value.type);
    }
}

int32_t db_row_int32(const struct db_row *row, const char *column)
{
    struct value value = value_get(row, column);
    if (value.type != INT4_OID && value.type != INT2_OID)
        db_bug("column %s has type %u, which is no integer or smallint", column, value.type);
    return (int32_t)db_row_int64(row, column);
}

double db_row_double(const struct db_row *row, const char *column)
{
    struct value value = value_get_typed(row, column, FLOAT8_OID);
    uint64_t bits = value.data == NULL ? 0 : read_int64(value.data);
    double number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

int64_t db_row_time_us(const struct db_row *row, const char *column)
{
    struct value value = value_get_typed(row, column, TIMESTAMPTZ_OID);
    if (value.data == NULL)
        return 0;
    int64_t us = (int64_t)read_int64(value.data);
    /* -infinity and infinity are the smallest and the greatest number on both sides. */
    return us == INT64_MIN || us == INT64_MAX ? us : us + postgres_epoch_us;
}

uint8_t *db_row_bytes(const struct db_row *row, const char *column, size_t *out_size)
{
    struct value value = value_get_typed(row, column, BYTEA_OID);
    *out_size = value.size;
    return value.data == NULL ? NULL : forge_arena_memdup(row->result->arena, value.data, value.size);
}

/* Binary array: dimensions, flag, element type, then length and lower bound of each dimension, then length and bytes of each member
 * (array_send() in arrayfuncs.c). */
char **db_row_text_array(const struct db_row *row, const char *column, size_t *out_count)
{
    struct value value = value_get(row, column);
    if (value.type != TEXT_ARRAY_OID && value.type != VARCHAR_ARRAY_OID)
        db_bug("column %s has type %u, which is no array of text", column, value.type);
    *out_count = 0;
    if (value.data == NULL)
        return NULL;
    uint32_t dimensions = read_int32(value.data);
    if (dimensions > 1)
        db_bug("column %s has %u dimensions, not one", column, dimensions);
    size_t count = dimensions == 0 ? 0 : read_int32(value.data + 12);
    char **texts = forge_arena_calloc(row->result->arena, count + 1, sizeof(*texts)); /* NULL behind the last */
    if (texts == NULL)
        return NULL;
    const char *at = value.data + 20;
    for (size_t i = 0; i < count; i++) {
        int32_t length = (int32_t)read_int32(at);
        if (length < 0)
            db_bug("column %s has a NULL member", column);
        texts[i] = forge_arena_strndup(row->result->arena, at + 4, (size_t)length);
        if (texts[i] == NULL)
            return NULL;
        at += 4 + length;
    }
    *out_count = count;
    return texts;
}
