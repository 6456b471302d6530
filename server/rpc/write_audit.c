#include "rpc/write_private.h"

#include <stdio.h>
#include <string.h>

/* Canonical bytes of an audit row: "forge.audit.v1" and its fields, each as a 32-bit big-endian length and that many bytes, in this order:
 * organization id, principal kind, principal id, action, target kind, target id (empty if there is none), details as they were given,
 * time in microseconds since the Unix epoch as decimal digits. Ids are 36 characters. Who verifies the chain needs only these bytes. */
static const char format_name[] = "forge.audit.v1";
enum { FIELDS = 8 };

static const char *principal_kind(enum auth_kind kind)
{
    switch (kind) {
    case AUTH_NOBODY:
        return "nobody";
    case AUTH_USER:
        return "user";
    case AUTH_API_KEY:
        return "api_key";
    case AUTH_SERVICE_ACCOUNT:
        return "service_account";
    case AUTH_OPERATOR:
        return "operator";
    }
    return "nobody";
}

static uint8_t *put(uint8_t *at, const char *text)
{
    size_t length = strlen(text);
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(length >> shift);
    memcpy(at, text, length);
    return at + length;
}

static uint8_t *canonical_bytes(struct forge_arena *arena, const char *const fields[FIELDS], size_t *out_size)
{
    size_t size = sizeof format_name - 1;
    for (int i = 0; i < FIELDS; i++)
        size += 4 + strlen(fields[i]);
    uint8_t *bytes = forge_arena_alloc(arena, size), *at = bytes;
    if (!bytes)
        return NULL;
    memcpy(at, format_name, sizeof format_name - 1);
    at += sizeof format_name - 1;
    for (int i = 0; i < FIELDS; i++)
        at = put(at, fields[i]);
    *out_size = size;
    return bytes;
}

void rpc_write_queue_audit(struct rpc_active *active)
{
    struct rpc_call *call = &active->call;
    const struct rpc_write_audit *audit = &active->write->audit;
    char organization_id[FORGE_UUID_TEXT_SIZE], principal_id[FORGE_UUID_TEXT_SIZE], target_id[FORGE_UUID_TEXT_SIZE] = "", time[24];
    forge_uuid_format(&active->write->organization_id, organization_id);
    forge_uuid_format(&call->principal.id, principal_id);
    if (!forge_uuid_is_nil(&audit->target_id))
        forge_uuid_format(&audit->target_id, target_id);
    snprintf(time, sizeof time, "%lld", (long long)call->now_us);
    const char *fields[FIELDS] = {organization_id,     principal_kind(call->principal.kind),
                                  principal_id,        audit->action,
                                  audit->target_kind,  target_id,
                                  audit->details_json, time};
    size_t size = 0;
    const uint8_t *canonical = canonical_bytes(call->arena, fields, &size);
    if (!canonical)
        return; /* the arena has overflowed: rpc_write_run() looks before it commits */
    struct db_stmt *statement = db_stmt(call->db, SQL_WRITE_AUDIT);
    db_bind_uuid(statement, &active->write->organization_id);
    db_bind_bytes(statement, canonical, size);
    db_bind_text(statement, fields[1]);
    db_bind_uuid(statement, &call->principal.id);
    db_bind_text(statement, audit->action);
    db_bind_text(statement, audit->target_kind);
    if (target_id[0])
        db_bind_uuid(statement, &audit->target_id);
    else
        db_bind_null(statement);
    db_bind_text(statement, audit->details_json);
    db_bind_time_us(statement, call->now_us);
    db_queue(statement);
}
