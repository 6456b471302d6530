#include "writes.h"

#include "wire/clock.h"
#include "wire/uuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEAT_PAUSE_MS = 10 };

bool fault_is_full(void)
{
    const char *full = getenv("FORGE_FAULT_FULL");
    return full && strcmp(full, "1") == 0;
}

unsigned fault_time_factor(void)
{
#if defined(__SANITIZE_THREAD__)
    return 10;
#elif defined(__SANITIZE_ADDRESS__)
    return 4;
#else
    return 1;
#endif
}

void fault_write_init(struct fault_write *write, enum fault_write_kind kind, const char *prompt_id)
{
    struct forge_uuid id;
    *write = (struct fault_write){.kind = kind};
    forge_uuid_v7(&id);
    forge_uuid_format(&id, write->request_id);
    if (kind == FAULT_WRITE_VERSION)
        snprintf(write->prompt_id, sizeof write->prompt_id, "%s", prompt_id);
}

/* A request and what it points to. */
struct write_request {
    Forge__V1__CreatePromptVersionRequest version;
    Forge__V1__CreateApiKeyRequest key;
    Forge__V1__Scope scope;
    char text[64], prompt_id[WORLD_ID_SIZE];
};

static const ProtobufCMessage *request_make(struct write_request *request, const struct fault_write *write, const char *text)
{
    snprintf(request->text, sizeof request->text, "%s %s", text, write->request_id);
    if (write->kind == FAULT_WRITE_VERSION) {
        forge__v1__create_prompt_version_request__init(&request->version);
        memcpy(request->prompt_id, write->prompt_id, sizeof request->prompt_id);
        request->version.prompt_id = request->prompt_id;
        request->version.content = request->text;
        return &request->version.base;
    }
    forge__v1__create_api_key_request__init(&request->key);
    request->scope = FORGE__V1__SCOPE__SCOPE_READ;
    request->key.name = request->text;
    request->key.scopes = &request->scope;
    request->key.n_scopes = 1;
    return &request->key.base;
}

static const struct forge_method *method_of(const struct fault_write *write)
{
    return forge_method_find(write->kind == FAULT_WRITE_VERSION ? "forge.v1.PromptService/CreatePromptVersion"
                                                                : "forge.v1.OrganizationService/CreateApiKey");
}

static forge_code send_text(struct forge_channel *channel, const struct fault_write *write, const char *text, uint32_t timeout_ms,
                            ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error)
{
    const struct forge_call_options options = {.timeout_ms = timeout_ms, .request_id = write->request_id};
    struct write_request request;
    ProtobufCMessage *reply = NULL;
    *error = (struct forge_error){0};
    forge_code code =
        forge_channel_call_with_info(channel, method_of(write), &options, request_make(&request, write, text), &reply, info, error);
    if (code != FORGE_OK)
        return code;
    if (out_reply)
        *out_reply = reply;
    else
        protobuf_c_message_free_unpacked(reply, NULL);
    return code;
}

forge_code fault_write_send(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms,
                            ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error)
{
    return send_text(channel, write, "write", timeout_ms, out_reply, info, error);
}

forge_code fault_write_send_other(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms,
                                  struct forge_error *error)
{
    return send_text(channel, write, "other", timeout_ms, NULL, NULL, error);
}

forge_code fault_write_start(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms, forge_call_done done,
                             void *user, struct forge_error *error)
{
    const struct forge_call_options options = {.timeout_ms = timeout_ms, .request_id = write->request_id};
    struct write_request request;
    return forge_channel_call_async(channel, method_of(write), &options, request_make(&request, write, "write"), done, user, error);
}

static bool is_final(forge_code code)
{
    return code != FORGE_UNAVAILABLE && code != FORGE_DEADLINE_EXCEEDED && code != FORGE_RESOURCE_EXHAUSTED;
}

forge_code fault_write_finish(struct forge_channel *channel, const struct fault_write *write, uint32_t timeout_ms, uint64_t give_up_ms,
                              ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error)
{
    for (;;) {
        forge_code code = fault_write_send(channel, write, timeout_ms, out_reply, info, error);
        if (is_final(code) || forge_clock_monotonic_ms() >= give_up_ms)
            return code;
        forge_error_free(error);
        world_sleep_ms(REPEAT_PAUSE_MS);
    }
}

uint8_t *fault_reply_pack(const ProtobufCMessage *reply, size_t *out_size)
{
    *out_size = protobuf_c_message_get_packed_size(reply);
    uint8_t *packed = malloc(*out_size + 1);
    if (!packed)
        abort();
    protobuf_c_message_pack(reply, packed);
    return packed;
}

/* Rows of a write beyond its first are duplicates, acknowledged writes without a row are lost. */
static struct fault_count compare(const char *what, long rows, long distinct, long acknowledged)
{
    struct fault_count count = {.lost = acknowledged > distinct ? acknowledged - distinct : 0,
                                .duplicated = rows - distinct + (distinct > acknowledged ? distinct - acknowledged : 0)};
    if (count.lost != 0 || count.duplicated != 0)
        fprintf(stderr, "%s: %ld acknowledged, %ld rows of %ld writes\n", what, acknowledged, rows, distinct);
    return count;
}

struct fault_count fault_count(const struct world *world, long versions_acknowledged, long keys_acknowledged)
{
    static const char VERSIONS[] = "FROM prompt_versions WHERE content LIKE 'write %'", KEYS[] = "FROM api_keys WHERE name LIKE 'write %'";
    long versions = world_number(world, "SELECT count(*) %s", VERSIONS), keys = world_number(world, "SELECT count(*) %s", KEYS);
    struct fault_count by_version =
        compare("versions", versions, world_number(world, "SELECT count(DISTINCT content) %s", VERSIONS), versions_acknowledged);
    struct fault_count by_key = compare("keys", keys, world_number(world, "SELECT count(DISTINCT name) %s", KEYS), keys_acknowledged);
    long gaps = world_number(
        world, "SELECT coalesce(sum(newest), 0) FROM (SELECT max(v.version) - count(*) + abs(p.newest_version - max(v.version))"
               " AS newest FROM prompt_versions v JOIN prompts p ON p.id = v.prompt_id GROUP BY p.id, p.newest_version) q");
    long audited = world_number(world, "SELECT count(*) FROM audit_log a WHERE action = 'api_key.create'"),
         all_keys = world_number(world, "SELECT count(*) FROM api_keys");
    if (gaps != 0 || audited != all_keys)
        fprintf(stderr, "%ld gaps in version numbers; %ld audit rows for %ld keys\n", gaps, audited, all_keys);
    return (struct fault_count){.lost = by_version.lost + by_key.lost + (audited < all_keys ? all_keys - audited : 0),
                                .duplicated =
                                    by_version.duplicated + by_key.duplicated + gaps + (audited > all_keys ? audited - all_keys : 0)};
}

long fault_open_transactions(const struct world *world)
{
    return world_number(world, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'forge_app' AND state LIKE 'idle in transaction%%'");
}

void fault_report(const char *id, const char *what, long tried, struct fault_count count, long leaked, const char *bar, bool ok)
{
    printf("{\"id\":\"%s\",\"what\":\"%s\",\"tried\":%ld,\"lost\":%ld,\"duplicated\":%ld,\"leaked\":%ld,\"bar\":\"%s\",\"ok\":%s}\n", id,
           what, tried, count.lost, count.duplicated, leaked, bar, ok ? "true" : "false");
    fflush(stdout);
}
