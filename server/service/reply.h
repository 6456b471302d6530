/* What handlers build replies with. Everything lives in the call's arena; after an overflow values are left out and rpc answers
 * RESOURCE_EXHAUSTED once, so nothing here fails. */
#ifndef SERVER_SERVICE_REPLY_H
#define SERVER_SERVICE_REPLY_H

#include "db/row.h"
#include "rpc/call.h"

#include "forge/v1/common.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL when the column is NULL. */
Google__Protobuf__Timestamp *reply_time(struct rpc_call *call, const struct db_row *row, const char *column);
Google__Protobuf__Timestamp *reply_time_us(struct rpc_call *call, int64_t unix_us);
/* 36 characters. */
char *reply_uuid(struct rpc_call *call, const struct forge_uuid *id);
/* Lower-case hexadecimal digits. */
char *reply_hex(struct rpc_call *call, const uint8_t *bytes, size_t size);
/* The etag of a row_version column. */
char *reply_etag(struct rpc_call *call, const struct db_row *row);
/* Is this the etag of a row with that row_version? An empty one is not checked: true. */
bool reply_etag_matches(const char *etag, int64_t row_version);
/* enum auth_scope bits as the API has them. */
void reply_scopes(struct rpc_call *call, unsigned scopes, size_t *out_count, Forge__V1__Scope **out_scopes);
/* A role as its column holds it; NULL is unspecified. */
Forge__V1__Role reply_role(const char *role);
/* An initialised message of this type; NULL after an overflow. */
void *reply_message(struct rpc_call *call, const ProtobufCMessageDescriptor *type);
/* From the columns input_tokens, cache_read_tokens and so on, none of them NULL; NULL after an overflow. */
Forge__V1__TokenUsage *reply_usage(struct rpc_call *call, const struct db_row *row);

/* Fills a message of one type from a row. */
typedef void reply_fill(struct rpc_call *call, const struct db_row *row, void *message);
/* The list of a List reply: a message of this type for each of the first count_max rows, as an array of pointers to them. */
void *reply_list(struct rpc_call *call, const struct db_rows *rows, int count_max, const ProtobufCMessageDescriptor *type, reply_fill *fill,
                 size_t *out_count);

/* Runs a statement of kind :optional for the one thing that an id names; without a row NOT_FOUND, "<noun> <id> not found". */
forge_code reply_run_found(struct rpc_call *call, struct db_stmt *statement, const char *noun, const char *id,
                           struct db_row *out_row) FORGE_MUST_CHECK;
/* The verdict on one item of a batch that is refused; message NULL (no memory): none. */
void reply_reject(Forge__V1__ItemVerdict *verdict, forge_code code, char *message);
/* The same for what the checks of one item noted on the call, which is free for the next item then. */
void reply_reject_invalid(struct rpc_call *call, Forge__V1__ItemVerdict *verdict);
/* Did the last flight fail by this constraint or unique index? */
bool reply_violates(const struct rpc_call *call, const char *constraint);

#endif
