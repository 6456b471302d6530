#include "rpc/reply.h"

#include "wire/envelope.h"

#include <string.h>

/* The details of an error, on the stack of whoever packs the header. Kinds of ErrorDetail in the order they are sent. */
enum { DETAIL_INFO, DETAIL_BAD_REQUEST, DETAIL_RETRY, DETAIL_QUOTA, DETAILS_MAX };
struct details {
    Forge__V1__ErrorDetail detail[DETAILS_MAX], *list[DETAILS_MAX];
    Forge__V1__ErrorInfo info;
    Forge__V1__KeyValue metadata[FORGE_FACTS_MAX], *metadata_list[FORGE_FACTS_MAX];
    Forge__V1__BadRequest bad_request;
    Forge__V1__FieldViolation violation[FORGE_VIOLATIONS_MAX], *violations[FORGE_VIOLATIONS_MAX];
    Forge__V1__RetryInfo retry;
    Forge__V1__QuotaFailure quota;
    Forge__V1__QuotaViolation quota_violation, *quota_violations[1];
    size_t count;
};

/* protobuf-c has char * where nothing is written through it. */
static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text;
}

static Forge__V1__ErrorDetail *detail_add(struct details *details)
{
    Forge__V1__ErrorDetail *detail = &details->detail[details->count];
    forge__v1__error_detail__init(detail);
    details->list[details->count++] = detail;
    return detail;
}

static void add_info(struct details *details, forge_code code, const struct forge_error *error)
{
    Forge__V1__ErrorDetail *detail = detail_add(details);
    forge__v1__error_info__init(&details->info);
    details->info.reason = text_of(error->reason[0] ? error->reason : forge_code_name(code));
    details->info.domain = text_of("promptforge");
    details->info.metadata = details->metadata_list;
    for (const struct forge_fact *from = error->facts; from && details->info.n_metadata < FORGE_FACTS_MAX; from = from->next) {
        size_t index = details->info.n_metadata++;
        forge__v1__key_value__init(&details->metadata[index]);
        details->metadata[index].key = text_of(from->key);
        details->metadata[index].value = text_of(from->value);
        details->metadata_list[index] = &details->metadata[index];
    }
    detail->detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_ERROR_INFO;
    detail->error_info = &details->info;
}

static void add_bad_request(struct details *details, const struct forge_error *error)
{
    Forge__V1__ErrorDetail *detail = detail_add(details);
    forge__v1__bad_request__init(&details->bad_request);
    for (const struct forge_violation *from = error->violations; from && details->bad_request.n_field_violations < FORGE_VIOLATIONS_MAX;
         from = from->next) {
        size_t index = details->bad_request.n_field_violations++;
        Forge__V1__FieldViolation *to = &details->violation[index];
        forge__v1__field_violation__init(to);
        to->field = text_of(from->field);
        to->description = text_of(from->description);
        details->violations[index] = to;
    }
    details->bad_request.field_violations = details->violations;
    detail->detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_BAD_REQUEST;
    detail->bad_request = &details->bad_request;
}

static void add_retry(struct details *details, uint32_t retry_after_ms)
{
    Forge__V1__ErrorDetail *detail = detail_add(details);
    forge__v1__retry_info__init(&details->retry);
    details->retry.retry_delay_ms = retry_after_ms;
    detail->detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_RETRY_INFO;
    detail->retry_info = &details->retry;
}

static void add_quota(struct details *details, const char *subject, const char *message)
{
    Forge__V1__ErrorDetail *detail = detail_add(details);
    forge__v1__quota_failure__init(&details->quota);
    forge__v1__quota_violation__init(&details->quota_violation);
    details->quota_violation.subject = text_of(subject ? subject : "server");
    details->quota_violation.description = text_of(message);
    details->quota_violations[0] = &details->quota_violation;
    details->quota.n_violations = 1;
    details->quota.violations = details->quota_violations;
    detail->detail_case = FORGE__V1__ERROR_DETAIL__DETAIL_QUOTA_FAILURE;
    detail->quota_failure = &details->quota;
}

static void describe_error(struct rpc_active *active, Forge__V1__ReplyHeader *header, struct details *details)
{
    const struct forge_error *error = &active->call.error;
    /* What went wrong inside stands in the log; callers get no text of the database. */
    const char *message = active->code == FORGE_INTERNAL ? "internal error" : error->message;
    details->count = 0;
    header->message = text_of(message[0] ? message : forge_code_name(active->code));
    header->retry_after_ms = error->retry_after_ms;
    header->not_executed = error->not_executed;
    add_info(details, active->code, error);
    if (active->code == FORGE_INVALID_ARGUMENT && error->violations)
        add_bad_request(details, error);
    if (error->retry_after_ms)
        add_retry(details, error->retry_after_ms);
    if (active->code == FORGE_RESOURCE_EXHAUSTED)
        add_quota(details, active->quota_subject, header->message);
    header->n_details = details->count;
    header->details = details->list;
}

static forge_code check_size(struct rpc_active *active, size_t size)
{
    if (size <= active->reply_max)
        return FORGE_OK;
    return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the reply has %zu bytes, at most %zu are allowed", size, active->reply_max);
}

forge_code rpc_reply_pack(struct rpc_active *active)
{
    size_t size = protobuf_c_message_get_packed_size(active->reply);
    forge_code code = check_size(active, size);
    if (code != FORGE_OK)
        return code;
    uint8_t *bytes = forge_arena_alloc(&active->arena, size);
    if (!bytes)
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "no memory for a reply of %zu bytes", size);
    protobuf_c_message_pack(active->reply, bytes);
    active->reply_bytes = bytes;
    active->reply_len = size;
    return FORGE_OK;
}

static size_t payload_size(struct rpc_active *active)
{
    if (active->code == FORGE_OK && active->reply_bytes)
        return active->reply_len;
    if (active->code != FORGE_OK || !active->reply)
        return 0;
    size_t size = protobuf_c_message_get_packed_size(active->reply);
    active->code = check_size(active, size);
    return active->code == FORGE_OK ? size : 0;
}

static void write_payload(const struct rpc_active *active, uint8_t *out, size_t size)
{
    if (size == 0)
        return;
    if (active->reply_bytes)
        memcpy(out, active->reply_bytes, size);
    else
        protobuf_c_message_pack(active->reply, out);
}

bool rpc_reply_send(struct rpc_active *active)
{
    const struct rpc_server *server = rpc_active_server(active);
    const struct rpc_connection *connection = active->connection;
    Forge__V1__ReplyHeader header = FORGE__V1__REPLY_HEADER__INIT;
    struct details details;
    size_t payload_len = payload_size(active);
    header.code = (Forge__V1__Code)active->code;
    if (active->code != FORGE_OK)
        describe_error(active, &header, &details);
    header.goaway = atomic_load_explicit(&server->draining, memory_order_relaxed);
    header.replayed = active->replayed;
    header.server_instance = text_of(server->instance);
    header.server_elapsed_us = (int64_t)((active->finished_ns - active->arrived_ns) / 1000);
    header.queue_us = (int64_t)(active->queue_ns / 1000);
    struct rpc_reply_room room = {.body_len = forge_envelope_size(&header.base, payload_len),
                                  .stack = active->stack,
                                  .stack_len = active->stack_len,
                                  .tag = active->tag};
    if (connection->functions->reply_begin(connection->user, &room) != FORGE_OK)
        return false;
    write_payload(active, forge_envelope_pack_header(&header.base, room.body), payload_len);
    connection->functions->reply_commit(connection->user, &room);
    return true;
}
