/* Checks of request fields that several services share. Each notes a violation on the call (rpc_call_violation) and returns false
 * when the value is wrong; the handler goes on, so that every wrong field is named, and refuses with rpc_call_invalid() at the end.
 * Text is well-formed UTF-8 without NUL already (the wire checks that). */
#ifndef SERVER_SERVICE_VALIDATE_H
#define SERVER_SERVICE_VALIDATE_H

#include "rpc/call.h"

#include "forge/v1/common.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    VALIDATE_NAME_CHARACTERS_MAX = 255,
    VALIDATE_DESCRIPTION_CHARACTERS_MAX = 4096,
    VALIDATE_EMAIL_CHARACTERS_MAX = 254,
    VALIDATE_LABEL_BYTES_MAX = 64,
    VALIDATE_ETAG_BYTES_MAX = 64
};

/* Unicode code points of a UTF-8 text. */
size_t validate_characters(const char *text);

/* A required id. *out untouched when it is wrong. */
bool validate_uuid(struct rpc_call *call, const char *field, const char *text, struct forge_uuid *out);
/* 1 to 255 printable characters: no control characters, no noncharacters. */
bool validate_name(struct rpc_call *call, const char *field, const char *text);
/* A shorter name: 1 to so many printable characters. */
bool validate_name_of(struct rpc_call *call, const char *field, const char *text, size_t characters_max);
/* As a name, or empty. */
bool validate_name_or_empty(struct rpc_call *call, const char *field, const char *text);
/* A required name of a label: well formed, and not the reserved one. It need not exist. */
bool validate_label(struct rpc_call *call, const char *field, const char *name);
/* Free text of at most so many characters. */
bool validate_text(struct rpc_call *call, const char *field, const char *text, size_t characters_max);
/* Free text of at most so many bytes. */
bool validate_bytes(struct rpc_call *call, const char *field, const char *text, size_t bytes_max);
/* So many hexadecimal digits in either case, or nothing. */
bool validate_hex_digits(struct rpc_call *call, const char *field, const char *text, size_t digits);
/* A required role, as its column holds it; NULL when it is wrong. */
const char *validate_role(struct rpc_call *call, const char *field, Forge__V1__Role role);
/* An e-mail address (the part of RFC 5321 that mail systems accept). Returns it in lower case in the arena, NULL when it is wrong. */
char *validate_email(struct rpc_call *call, const char *field, const char *text);

/* An absolute https URL of at most so many bytes (RFC 3986), without user name and password: those are secrets. */
bool validate_https_url(struct rpc_call *call, const char *field, const char *text, size_t bytes_max);

/* What ends the checks of a request about a project: INVALID_ARGUMENT for what was noted, PERMISSION_DENIED for a key that is bound to
 * another project. */
forge_code validate_end_in_project(struct rpc_call *call, const struct forge_uuid *project_id) FORGE_MUST_CHECK;

/* A well-formed time of the years 1 to 9999 as microseconds since the Unix epoch. */
bool validate_time(struct rpc_call *call, const char *field, const Google__Protobuf__Timestamp *time, int64_t *out_unix_us);

/* The range of a listing: from start up to before end, by default the years 1 to 9999. */
void validate_time_range(struct rpc_call *call, const Google__Protobuf__Timestamp *start, const Google__Protobuf__Timestamp *end,
                         int64_t *out_start_us, int64_t *out_end_us);

/* The fields start_date and end_date, "YYYY-MM-DD" or empty, of a request that asks for days, as days since the Unix epoch in UTC: at most
 * 366, the last 30 to today without them. */
bool validate_days(struct rpc_call *call, const char *start_date, const char *end_date, int32_t *out_first, int32_t *out_last);

/* Which fields an Update request changes: bit i stands for fields[i]. Each path that is none of them is a violation, "*" names all; without
 * a mask it is those in given (bits of the fields that are not at their default). A request that names nothing is a violation too. */
unsigned validate_update_mask(struct rpc_call *call, const Google__Protobuf__FieldMask *mask, const char *const *fields, size_t field_count,
                              unsigned given);
/* The etag a caller has read, at most 64 bytes; whether it is still the one in store only the row can tell (reply_etag_matches). */
bool validate_etag(struct rpc_call *call, const char *field, const char *etag);

/* The keys of names that begin with prefix are prefix <= name < the returned text, in code point order: prefix with its last code point
 * incremented, surrogates skipped, U+10FFFF dropped and carried. Where nothing is left it is U+10FFFF itself, which no name holds. */
char *validate_prefix_end(const char *prefix, struct forge_arena *arena);

#endif
