#include "service/policy/rules.h"

#include "wire/json.h"

#include <stdbool.h>
#include <string.h>

enum { RATE_WINDOW_S_DEFAULT = 60 };

/* The version that has nothing but these. */
static Forge__V1__PolicyVersion version_of(Forge__V1__PolicyMode mode, Forge__V1__PolicyRule *const *rules, size_t count)
{
    Forge__V1__PolicyVersion version = FORGE__V1__POLICY_VERSION__INIT;
    version.mode = mode;
    version.n_rules = count;
    version.rules = (Forge__V1__PolicyRule **)(uintptr_t)rules; /* only read */
    return version;
}

const char *policy_rules_write(struct forge_arena *arena, Forge__V1__PolicyRule *const *rules, size_t count)
{
    static const char before[] = "{\"rules\":", after[] = "}";
    const struct forge_json_options options = {0};
    if (count == 0)
        return "[]"; /* an empty list is left out of JSON */
    const Forge__V1__PolicyVersion version = version_of(FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED, rules, count);
    char *json = forge_json_from_message(&version.base, &options, arena);
    if (json == NULL)
        return NULL;
    json[strlen(json) - (sizeof after - 1)] = '\0';
    return json + sizeof before - 1;
}

forge_code policy_rules_read(struct forge_arena *arena, const char *json, Forge__V1__PolicyRule ***out, size_t *count)
{
    ProtobufCMessage *message;
    struct forge_error error = {0};
    *out = NULL;
    *count = 0;
    char *whole = forge_arena_printf(arena, "{\"rules\":%s}", json);
    if (whole == NULL)
        return FORGE_RESOURCE_EXHAUSTED;
    forge_code rc = forge_json_to_message(whole, strlen(whole), &forge__v1__policy_version__descriptor, arena, &message, &error);
    if (rc != FORGE_OK)
        return rc == FORGE_RESOURCE_EXHAUSTED ? rc : FORGE_DATA_LOSS;
    const Forge__V1__PolicyVersion *version = (const Forge__V1__PolicyVersion *)message;
    *out = version->rules;
    *count = version->n_rules;
    return FORGE_OK;
}

void policy_rules_fill_in(Forge__V1__PolicyRule *const *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Forge__V1__PolicyRule *rule = rules[i];
        if (rule->severity == FORGE__V1__SEVERITY__SEVERITY_UNSPECIFIED)
            rule->severity = FORGE__V1__SEVERITY__SEVERITY_MEDIUM;
        if (rule->kind_case != FORGE__V1__POLICY_RULE__KIND_RATE_LIMIT)
            continue;
        if (rule->rate_limit->key == FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_UNSPECIFIED)
            rule->rate_limit->key = FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_PROJECT;
        if (rule->rate_limit->window_s == 0)
            rule->rate_limit->window_s = RATE_WINDOW_S_DEFAULT;
    }
}

forge_code policy_rules_hash(struct forge_arena *arena, Forge__V1__PolicyMode mode, Forge__V1__PolicyRule *const *rules, size_t count,
                             uint8_t out[FORGE_SHA256_SIZE])
{
    bool is_left_out = mode == FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED;
    const Forge__V1__PolicyVersion version = version_of(is_left_out ? FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE : mode, rules, count);
    size_t size = forge__v1__policy_version__get_packed_size(&version);
    uint8_t *packed = forge_arena_alloc(arena, size);
    if (packed == NULL)
        return FORGE_RESOURCE_EXHAUSTED;
    forge__v1__policy_version__pack(&version, packed);
    forge_sha256(packed, size, out);
    return FORGE_OK;
}

static const char *const mode_names[] = {
    [FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED] = "enforce",
    [FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE] = "enforce",
    [FORGE__V1__POLICY_MODE__POLICY_MODE_DRY_RUN] = "dry_run",
};
enum { MODES = sizeof mode_names / sizeof mode_names[0] };

const char *policy_mode_name(Forge__V1__PolicyMode mode)
{
    return mode_names[mode];
}

Forge__V1__PolicyMode policy_mode_find(const char *name)
{
    for (unsigned i = FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE; i < MODES; i++)
        if (strcmp(mode_names[i], name) == 0)
            return (Forge__V1__PolicyMode)i;
    return FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED;
}
