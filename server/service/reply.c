#include "service/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MICROSECONDS = 1000000, VERDICT_VIOLATIONS_MAX = 8 };

Google__Protobuf__Timestamp *reply_time_us(struct rpc_call *call, int64_t unix_us)
{
    Google__Protobuf__Timestamp *time = reply_message(call, &google__protobuf__timestamp__descriptor);
    if (time == NULL)
        return NULL;
    int64_t microseconds = unix_us % MICROSECONDS;
    if (microseconds < 0)
        microseconds += MICROSECONDS;
    time->seconds = (unix_us - microseconds) / MICROSECONDS;
    time->nanos = (int32_t)microseconds * 1000;
    return time;
}

Google__Protobuf__Timestamp *reply_time(struct rpc_call *call, const struct db_row *row, const char *column)
{
    return db_row_is_null(row, column) ? NULL : reply_time_us(call, db_row_time_us(row, column));
}

char *reply_uuid(struct rpc_call *call, const struct forge_uuid *id)
{
    char text[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(id, text);
    return forge_arena_strdup(call->arena, text);
}

char *reply_hex(struct rpc_call *call, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char *text = forge_arena_alloc(call->arena, 2 * size + 1);
    for (size_t i = 0; text != NULL && bytes != NULL && i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    return text;
}

char *reply_etag(struct rpc_call *call, const struct db_row *row)
{
    return forge_arena_printf(call->arena, "%" PRId64, db_row_int64(row, "row_version"));
}

bool reply_etag_matches(const char *etag, int64_t row_version)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, row_version);
    return etag[0] == '\0' || strcmp(etag, text) == 0;
}

void reply_scopes(struct rpc_call *call, unsigned scopes, size_t *out_count, Forge__V1__Scope **out_scopes)
{
    Forge__V1__Scope *list = forge_arena_calloc(call->arena, FORGE__V1__SCOPE__SCOPE_INGEST, sizeof *list);
    size_t count = 0;
    for (int scope = FORGE__V1__SCOPE__SCOPE_READ; list != NULL && scope <= FORGE__V1__SCOPE__SCOPE_INGEST; scope++)
        if ((scopes & 1u << (scope - 1)) != 0)
            list[count++] = (Forge__V1__Scope)scope;
    *out_count = count;
    *out_scopes = list;
}

Forge__V1__Role reply_role(const char *role)
{
    if (role == NULL)
        return FORGE__V1__ROLE__ROLE_UNSPECIFIED;
    if (strcmp(role, "admin") == 0)
        return FORGE__V1__ROLE__ROLE_ADMIN;
    return strcmp(role, "developer") == 0 ? FORGE__V1__ROLE__ROLE_DEVELOPER : FORGE__V1__ROLE__ROLE_VIEWER;
}

void *reply_message(struct rpc_call *call, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = forge_arena_alloc(call->arena, type->sizeof_message);
    if (message != NULL)
        type->message_init(message);
    return message;
}

void *reply_list(struct rpc_call *call, const struct db_rows *rows, int count_max, const ProtobufCMessageDescriptor *type, reply_fill *fill,
                 size_t *out_count)
{
    int count = rows->count < count_max ? rows->count : count_max;
    void **list = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof *list);
    *out_count = 0;
    for (int i = 0; list != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        void *message = reply_message(call, type);
        if (message == NULL)
            break;
        fill(call, &row, message);
        list[(*out_count)++] = message;
    }
    return list;
}

forge_code reply_run_found(struct rpc_call *call, struct db_stmt *statement, const char *noun, const char *id, struct db_row *out_row)
{
    struct db_row row;
    bool found;
    forge_code rc = db_run_optional(statement, &row, &found, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (!found)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "%s %s not found", noun, id);
    *out_row = row;
    return FORGE_OK;
}

bool reply_violates(const struct rpc_call *call, const char *constraint)
{
    const char *failed = db_session_failed_constraint(call->db);
    return failed != NULL && strcmp(failed, constraint) == 0;
}

void reply_reject(Forge__V1__ItemVerdict *verdict, forge_code code, char *message)
{
    verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED;
    verdict->code = (Forge__V1__Code)code;
    if (message != NULL)
        verdict->message = message;
}

void reply_reject_invalid(struct rpc_call *call, Forge__V1__ItemVerdict *verdict)
{
    const struct forge_violation *violation = call->error.violations;
    reply_reject(verdict, FORGE_INVALID_ARGUMENT, forge_arena_printf(call->arena, "%s: %s", violation->field, violation->description));
    verdict->field_violations = forge_arena_calloc(call->arena, VERDICT_VIOLATIONS_MAX, sizeof verdict->field_violations[0]);
    for (; verdict->field_violations != NULL && violation != NULL && verdict->n_field_violations < VERDICT_VIOLATIONS_MAX;
         violation = violation->next) {
        Forge__V1__FieldViolation *field = reply_message(call, &forge__v1__field_violation__descriptor);
        if (field == NULL)
            break;
        field->field = forge_arena_strdup(call->arena, violation->field);
        field->description = forge_arena_strdup(call->arena, violation->description);
        verdict->field_violations[verdict->n_field_violations++] = field;
    }
    call->error = (struct forge_error){0};
}

Forge__V1__TokenUsage *reply_usage(struct rpc_call *call, const struct db_row *row)
{
    Forge__V1__TokenUsage *usage = reply_message(call, &forge__v1__token_usage__descriptor);
    if (usage == NULL)
        return NULL;
    usage->input_tokens = db_row_int64(row, "input_tokens");
    usage->cache_read_tokens = db_row_int64(row, "cache_read_tokens");
    usage->cache_write_tokens = db_row_int64(row, "cache_write_tokens");
    usage->output_tokens = db_row_int64(row, "output_tokens");
    usage->reasoning_tokens = db_row_int64(row, "reasoning_tokens");
    return usage;
}
