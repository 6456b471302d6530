#include "rpc/page.h"

#include "rpc/state.h"

#include <assert.h>
#include <string.h>

/* A token is base64url (RFC 4648, no padding) of: version 1, key id, seconds since the epoch when it was made, binding (what query it
 * belongs to), number, id, length of the name (0xFFFF = no name), name; and the first 16 bytes of an HMAC-SHA256 over all of it and the
 * organization. Integers are big-endian. */
enum {
    VERSION = 1,
    BINDING_SIZE = 8,
    MAC_SIZE = 16,
    FIXED_SIZE = 1 + 4 + 8 + BINDING_SIZE + 8 + 16 + 2,
    NO_NAME = 0xFFFF,
    RAW_MAX = FIXED_SIZE + RPC_PAGE_KEY_MAX + MAC_SIZE,
    TEXT_MAX = (RAW_MAX + 2) / 3 * 4,
    LIFETIME_S = 24 * 3600
};

static void put(uint8_t **at, uint64_t value, int bytes)
{
    while (bytes-- > 0)
        *(*at)++ = (uint8_t)(value >> (8 * bytes));
}

static uint64_t get(const uint8_t **at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | *(*at)++;
    return value;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *base64url_write(struct forge_arena *arena, const uint8_t *bytes, size_t size)
{
    char *text = forge_arena_alloc(arena, (size + 2) / 3 * 4 + 1), *at = text;
    if (!text)
        return NULL;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i < 3 ? size - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        for (size_t digit = 0; digit <= left; digit++)
            *at++ = alphabet[group >> (18 - 6 * digit) & 63];
    }
    *at = '\0';
    return text;
}

/* The number of bytes, 0 for text that is none. */
static size_t base64url_read(const char *text, uint8_t out[RAW_MAX])
{
    size_t length = strnlen(text, TEXT_MAX + 1), size = 0;
    uint32_t group = 0;
    if (length > TEXT_MAX || length % 4 == 1)
        return 0;
    for (size_t i = 0; i < length; i++) {
        const char *digit = strchr(alphabet, text[i]);
        if (!digit)
            return 0;
        group = group << 6 | (uint32_t)(digit - alphabet);
        if (i % 4 != 0)
            out[size++] = (uint8_t)(group >> (6 - 2 * (i % 4)));
    }
    return size;
}

/* Which query a token belongs to: method and filter. */
static void binding_of(const struct rpc_call *call, const void *filter, size_t filter_size, uint8_t out[BINDING_SIZE])
{
    const char *method = rpc_methods[((const struct rpc_active *)call)->method].name;
    uint8_t digest[FORGE_SHA256_SIZE];
    struct forge_sha256_state *state = forge_sha256_new();
    forge_sha256_update(state, method, strlen(method) + 1);
    forge_sha256_update(state, filter, filter_size);
    forge_sha256_final(state, digest);
    memcpy(out, digest, BINDING_SIZE);
}

static void mac_of(const struct rpc_call *call, const struct auth_key *key, const uint8_t *token, size_t size,
                   uint8_t out[FORGE_SHA256_SIZE])
{
    uint8_t text[16 + RAW_MAX];
    memcpy(text, call->principal.organization_id.bytes, 16);
    memcpy(text + 16, token, size);
    forge_hmac_sha256(key->page_token, text, 16 + size, out);
}

char *rpc_page_next(struct rpc_call *call, const void *filter, size_t filter_size, const char *name, int64_t number,
                    const struct forge_uuid *id)
{
    const struct auth_key *key = &rpc_server_settings(call->server)->keys->current;
    uint8_t raw[RAW_MAX], mac[FORGE_SHA256_SIZE], *at = raw;
    size_t name_length = name ? strlen(name) : 0;
    assert(name_length <= RPC_PAGE_KEY_MAX);
    put(&at, VERSION, 1);
    put(&at, (uint64_t)key->id, 4);
    put(&at, (uint64_t)(call->now_us / 1000000), 8);
    binding_of(call, filter, filter_size, at);
    at += BINDING_SIZE;
    put(&at, (uint64_t)number, 8);
    memcpy(at, id->bytes, sizeof id->bytes);
    at += sizeof id->bytes;
    put(&at, name ? name_length : NO_NAME, 2);
    memcpy(at, name ? name : "", name_length);
    at += name_length;
    mac_of(call, key, raw, (size_t)(at - raw), mac);
    memcpy(at, mac, MAC_SIZE);
    return base64url_write(call->arena, raw, (size_t)(at - raw) + MAC_SIZE);
}

/* NULL, or what is wrong with the token, whatever its age. */
static const char *token_read(struct rpc_call *call, const char *text, const void *filter, size_t filter_size, struct rpc_page *out,
                              int64_t *out_age_s)
{
    uint8_t raw[RAW_MAX], mac[FORGE_SHA256_SIZE], binding[BINDING_SIZE];
    size_t size = base64url_read(text, raw);
    if (size < FIXED_SIZE + MAC_SIZE || raw[0] != VERSION)
        return "is damaged";
    const uint8_t *at = raw + 1;
    const struct auth_key *key = auth_keys_find(rpc_server_settings(call->server)->keys, (int32_t)get(&at, 4));
    if (!key)
        return "has expired";
    mac_of(call, key, raw, size - MAC_SIZE, mac);
    if (!forge_equal_secret(mac, raw + size - MAC_SIZE, MAC_SIZE))
        return "is damaged";
    *out_age_s = call->now_us / 1000000 - (int64_t)get(&at, 8);
    binding_of(call, filter, filter_size, binding);
    if (memcmp(binding, at, BINDING_SIZE) != 0)
        return "belongs to another query";
    at += BINDING_SIZE;
    out->last_number = (int64_t)get(&at, 8);
    memcpy(out->last_id.bytes, at, sizeof out->last_id.bytes);
    at += sizeof out->last_id.bytes;
    out->last_name = get(&at, 2) == NO_NAME ? NULL : forge_arena_strndup(call->arena, (const char *)at, size - FIXED_SIZE - MAC_SIZE);
    out->has_key = true;
    return NULL;
}

void rpc_page_read(struct rpc_call *call, int32_t page_size, const char *page_token, const void *filter, size_t filter_size,
                   struct rpc_page *out)
{
    struct rpc_page page = {.size = page_size == 0 ? RPC_PAGE_SIZE_DEFAULT : page_size};
    if (page_size < 0)
        rpc_call_violation(call, "page_size", "must not be negative");
    if (page.size > RPC_PAGE_SIZE_MAX)
        page.size = RPC_PAGE_SIZE_MAX;
    if (page_token[0] != '\0') {
        int64_t age_s = 0;
        const char *problem = token_read(call, page_token, filter, filter_size, &page, &age_s);
        if (!problem && age_s > LIFETIME_S)
            problem = "has expired";
        if (problem)
            rpc_call_violation(call, "page_token", "page_token %s", problem);
    }
    *out = page;
}

bool rpc_page_token_read(struct rpc_call *call, const char *field, const char *token, const void *filter, size_t filter_size,
                         struct rpc_page *out, int64_t *out_age_s)
{
    struct rpc_page page = {.size = RPC_PAGE_SIZE_DEFAULT};
    const char *problem = token_read(call, token, filter, filter_size, &page, out_age_s);
    if (problem)
        rpc_call_violation(call, field, "%s %s", field, problem);
    else
        *out = page;
    return !problem;
}
