#include "apply.h"
#include "apply_fields.h"

#include <string.h>
#include <time.h>

enum { PAGE_SIZE = 1000, HALF_DAY_S = 12 * 3600, WHERE_SIZE = 4352 /* a path and a place in it */ };

/* The reply in the arena; frees it. */
static int keep(struct apply *apply, ProtobufCMessage *reply, ProtobufCMessage **out_reply)
{
    *out_reply = field_message_copy(&apply->cli->arena, reply);
    cli_free(reply);
    return *out_reply ? CLI_OK : cli_fail(CLI_FAILED, "no memory for the answer");
}

int apply_call(struct apply *apply, int method, const ProtobufCMessage *request, ProtobufCMessage **out_reply)
{
    ProtobufCMessage *reply;
    int code = cli_call(apply->cli, &forge_methods[method], request, &reply);
    return code == CLI_OK ? keep(apply, reply, out_reply) : code;
}

int apply_call_optional(struct apply *apply, int method, const ProtobufCMessage *request, ProtobufCMessage **out_reply)
{
    ProtobufCMessage *reply = NULL;
    struct forge_error error;
    struct forge_reply_info info;
    int code = cli_connect(apply->cli);
    *out_reply = NULL;
    if (code != CLI_OK)
        return code;
    if (cli_try_call(apply->cli, &forge_methods[method], request, 0, &reply, &error, &info) == FORGE_OK)
        return keep(apply, reply, out_reply);
    if (error.code != FORGE_NOT_FOUND)
        return cli_print_error(&error, &info);
    forge_error_free(&error);
    return CLI_OK;
}

/* FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv */
static uint64_t hash(uint64_t seed, const uint8_t *data, size_t size)
{
    uint64_t value = seed;
    for (size_t i = 0; i < size; i++)
        value = (value ^ data[i]) * 0x100000001b3;
    return value;
}

/* A UUID version 7 (RFC 9562) from the half day and what is asked: the server takes ids of the last 24 hours. */
static bool derive_request_id(struct apply *apply, const ProtobufCMessage *request, uint64_t salt, char out[37])
{
    size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *packed = forge_arena_alloc(&apply->cli->arena, size);
    if (!packed)
        return false;
    protobuf_c_message_pack(request, packed);
    uint64_t time_ms = (uint64_t)time(NULL) / HALF_DAY_S * HALF_DAY_S * 1000;
    uint64_t high = hash(0xcbf29ce484222325 ^ salt, packed, size), low = hash(high, packed, size);
    snprintf(out, 37, "%08x-%04x-7%03x-%04x-%012llx", (unsigned)(time_ms >> 16), (unsigned)(time_ms & 0xffff), (unsigned)(high & 0xfff),
             (unsigned)(0x8000 | (high >> 12 & 0x3fff)), (unsigned long long)(low & 0xffffffffffff));
    return true;
}

int apply_call_once(struct apply *apply, int method, const ProtobufCMessage *request, uint64_t salt, ProtobufCMessage **out_reply)
{
    ProtobufCMessage *reply = NULL;
    struct forge_error error;
    struct forge_reply_info info;
    char request_id[37];
    if (!derive_request_id(apply, request, salt, request_id))
        return cli_fail(CLI_FAILED, "no memory");
    const struct forge_call_options options = {.timeout_ms = apply->cli->timeout_ms, .fail_fast = true, .request_id = request_id};
    if (forge_channel_call_with_info(apply->cli->channel, &forge_methods[method], &options, request, &reply, &info, &error) != FORGE_OK)
        return cli_print_error(&error, &info);
    return keep(apply, reply, out_reply);
}

int apply_check_verdict(const struct manifest_position *at, const char *part, const Forge__V1__ItemVerdict *verdict)
{
    if (!verdict || verdict->outcome != FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED)
        return CLI_OK;
    char where[WHERE_SIZE];
    snprintf(where, sizeof where, "%s:%lu:%lu: %s", at->file, at->line, at->column, part);
    return cli_print_verdict(where, verdict);
}

int apply_list(struct apply *apply, int method, ProtobufCMessage *request, ProtobufCMessage ***out_items, size_t *out_count)
{
    ProtobufCMessage **items = NULL, *reply;
    size_t total = 0;
    field_set_number(request, "page_size", PAGE_SIZE);
    do {
        int code = apply_call(apply, method, request, &reply);
        if (code != CLI_OK)
            return code;
        size_t count;
        ProtobufCMessage *const *page = field_list(reply, NULL, &count);
        ProtobufCMessage **grown = forge_arena_calloc(&apply->cli->arena, total + count + 1, sizeof(*grown));
        if (!grown)
            return cli_fail(CLI_FAILED, "no memory for the answer");
        if (total)
            memcpy(grown, items, total * sizeof(*grown));
        if (count)
            memcpy(grown + total, page, count * sizeof(*grown));
        items = grown;
        total += count;
        field_set_text(request, "page_token", field_text(reply, "next_page_token"));
    } while (*field_text(request, "page_token"));
    *out_items = items;
    *out_count = total;
    return CLI_OK;
}
