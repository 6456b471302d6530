#include "db/column.h"

#include "db/session.h"

#include <endian.h>
#include <string.h>

enum { HEADER_SIZE = 20, LENGTH_SIZE = 4 };

/* pg_type.dat */
enum { BYTEA_OID = 17, INT8_OID = 20, INT4_OID = 23, TEXT_OID = 25, FLOAT8_OID = 701, TIMESTAMPTZ_OID = 1184, UUID_OID = 2950 };

/* 2000-01-01, PostgreSQL's epoch, in microseconds since the Unix epoch. */
static const int64_t postgres_epoch_us = INT64_C(946684800000000);

static const uint32_t element_oids[] = {
    [DB_MEMBER_INT32] = INT4_OID, [DB_MEMBER_INT64] = INT8_OID, [DB_MEMBER_DOUBLE] = FLOAT8_OID, [DB_MEMBER_TIME_US] = TIMESTAMPTZ_OID,
    [DB_MEMBER_UUID] = UUID_OID,  [DB_MEMBER_TEXT] = TEXT_OID,  [DB_MEMBER_BYTES] = BYTEA_OID,
};

/* An element as it travels: numbers are put into the scratch, all else stays where it is. */
struct element {
    const void *data; /* NULL = SQL NULL */
    size_t size;
};

static struct element element_read(enum db_member member, const void *at, uint64_t *scratch)
{
    switch (member) {
    case DB_MEMBER_INT32: {
        uint32_t number = htobe32(*(const uint32_t *)at);
        memcpy(scratch, &number, sizeof number);
        return (struct element){scratch, sizeof number};
    }
    case DB_MEMBER_INT64:
    case DB_MEMBER_DOUBLE: /* IEEE 754, in the order of an integer's bytes */
        memcpy(scratch, at, sizeof *scratch);
        *scratch = htobe64(*scratch);
        return (struct element){scratch, sizeof *scratch};
    case DB_MEMBER_TIME_US:
        *scratch = htobe64((uint64_t)(*(const int64_t *)at - postgres_epoch_us));
        return (struct element){scratch, sizeof *scratch};
    case DB_MEMBER_UUID: {
        const struct forge_uuid *id = at;
        return (struct element){forge_uuid_is_nil(id) ? NULL : id->bytes, sizeof id->bytes};
    }
    case DB_MEMBER_TEXT: {
        const char *text = *(const char *const *)at;
        return (struct element){text, text != NULL ? strlen(text) : 0};
    }
    case DB_MEMBER_BYTES: {
        const struct db_bytes *bytes = at;
        return (struct element){bytes->data, bytes->size};
    }
    }
    db_bug("a member of no known type");
}

static uint8_t *put_number(uint8_t *at, uint32_t number)
{
    uint32_t wire = htobe32(number);
    memcpy(at, &wire, sizeof wire);
    return at + sizeof wire;
}

/* array_recv() in PostgreSQL's arrayfuncs.c: dimensions, whether there are NULLs, type; then for the one dimension its length and first
 * index. An empty array has no dimension. */
static uint8_t *put_header(uint8_t *at, enum db_member member, size_t count)
{
    at = put_number(at, count > 0 ? 1 : 0);
    at = put_number(at, 1); /* may hold NULLs */
    at = put_number(at, element_oids[member]);
    if (count == 0)
        return at;
    at = put_number(at, (uint32_t)count);
    return put_number(at, 1);
}

static size_t column_size(enum db_member member, size_t offset, const void *const *rows, size_t count)
{
    size_t size = HEADER_SIZE;
    uint64_t scratch;
    for (size_t i = 0; i < count; i++) {
        struct element element = element_read(member, (const char *)rows[i] + offset, &scratch);
        size += LENGTH_SIZE + (element.data != NULL ? element.size : 0);
    }
    return size;
}

void db_bind_column(struct db_stmt *stmt, enum db_member member, size_t offset, const void *const *rows, size_t count)
{
    uint64_t scratch;
    size_t size = column_size(member, offset, rows, count);
    uint8_t *bytes = size <= INT32_MAX ? forge_arena_alloc(stmt->session->arena, size) : NULL, *at = bytes;
    if (bytes == NULL) {
        stmt->session->out_of_memory = true;
        db_bind_null(stmt);
        return;
    }
    at = put_header(at, member, count);
    for (size_t i = 0; i < count; i++) {
        struct element element = element_read(member, (const char *)rows[i] + offset, &scratch);
        at = put_number(at, element.data != NULL ? (uint32_t)element.size : UINT32_MAX); /* -1 = NULL */
        if (element.data == NULL || element.size == 0)
            continue;
        memcpy(at, element.data, element.size);
        at += element.size;
    }
    db_bind_bytes(stmt, bytes, (size_t)(at - bytes));
}
