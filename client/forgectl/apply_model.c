/* Models: a resource with prices, each found by the time it begins at. And models as versions of prompts name them. */
#include "apply.h"
#include "apply_fields.h"

#include <string.h>

typedef Forge__V1__SetModelPriceRequest price_request;

enum { KINDS = FORGE__V1__USAGE_TYPE__USAGE_TYPE_REASONING + 1 };

static const price_request *price_of(const struct apply_object *object, size_t index)
{
    return (const price_request *)object->manifest->parts[index];
}

/* The server keeps times to the microsecond. */
static bool is_same_time(const Google__Protobuf__Timestamp *a, const Google__Protobuf__Timestamp *b)
{
    return a->seconds == b->seconds && a->nanos / 1000 == b->nanos / 1000;
}

/* The prices by kind: one that is not given is zero. */
static void sum_up(size_t count, Forge__V1__UsagePrice *const *prices, int64_t out[KINDS])
{
    memset(out, 0, KINDS * sizeof out[0]);
    for (size_t i = 0; i < count; i++)
        if ((int)prices[i]->usage_type >= 0 && (int)prices[i]->usage_type < KINDS)
            out[prices[i]->usage_type] += prices[i]->micros_per_million_tokens;
}

static bool is_same_price(const price_request *wanted, const Forge__V1__ModelPrice *found)
{
    int64_t left[KINDS], right[KINDS];
    sum_up(wanted->n_usage_prices, wanted->usage_prices, left);
    sum_up(found->n_usage_prices, found->usage_prices, right);
    return (!*wanted->currency || !strcmp(wanted->currency, found->currency)) && memcmp(left, right, sizeof left) == 0;
}

/* ---- the plan ---- */

static bool check_times(struct apply *apply, const struct apply_object *object)
{
    const struct manifest_position *at = &object->manifest->position;
    size_t problems = apply->manifest.problem_count;
    for (size_t i = 0; i < object->manifest->part_count; i++) {
        const Google__Protobuf__Timestamp *time = price_of(object, i)->effective_time;
        if (!time)
            manifest_add_problem(&apply->manifest, at, "prices[%zu]: effective_time is missing: a manifest finds a price by it", i);
        for (size_t before = 0; time && before < i; before++)
            if (price_of(object, before)->effective_time && is_same_time(price_of(object, before)->effective_time, time))
                manifest_add_problem(&apply->manifest, at, "prices[%zu]: begins when prices[%zu] does", i, before);
    }
    return apply->manifest.problem_count == problems;
}

static void compare_prices(struct apply *apply, struct apply_object *object, ProtobufCMessage *const *prices, size_t count)
{
    for (size_t i = 0; i < object->manifest->part_count; i++) {
        const price_request *wanted = price_of(object, i);
        object->is_missing[i] = true;
        for (size_t j = 0; j < count && object->is_missing[i]; j++) {
            const Forge__V1__ModelPrice *found = (const Forge__V1__ModelPrice *)prices[j];
            if (!is_same_time(wanted->effective_time, found->effective_time))
                continue;
            object->is_missing[i] = false;
            if (!is_same_price(wanted, found))
                manifest_add_problem(&apply->manifest, &object->manifest->position,
                                     "prices[%zu]: the server has another price from this time on, and prices never change", i);
        }
    }
}

int apply_plan_prices(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ListModelPricesRequest request = FORGE__V1__LIST_MODEL_PRICES_REQUEST__INIT;
    size_t count = 0, missing = 0, wanted = object->manifest->part_count;
    ProtobufCMessage **prices = NULL;
    char text[64];
    int code = CLI_OK;
    object->is_missing = forge_arena_calloc(&apply->cli->arena, wanted + 1, sizeof(bool));
    if (!object->is_missing)
        return cli_fail(CLI_FAILED, "no memory");
    if (!wanted || (object->found && apply->is_create_only) || !check_times(apply, object))
        return CLI_OK;
    field_set_text(&request.base, "model_id", object->id);
    if (object->found)
        code = apply_list(apply, FORGE_METHOD_ORGANIZATION_LIST_MODEL_PRICES, &request.base, &prices, &count);
    if (code != CLI_OK)
        return code;
    compare_prices(apply, object, prices, count);
    for (size_t i = 0; i < wanted; i++)
        missing += object->is_missing[i];
    snprintf(text, sizeof text, "%zu new price%s", missing, missing == 1 ? "" : "s");
    return !object->found || !missing || apply_add_detail(apply, object, text) ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

int apply_find_model(struct apply *apply, const struct apply_object *object, const char *model_id, struct apply_object **out)
{
    size_t provider_length = strcspn(model_id, "\n");
    const char *provider_name = forge_arena_strndup(&apply->cli->arena, model_id, provider_length);
    const char *name = model_id + provider_length + (model_id[provider_length] != '\0');
    struct apply_object *provider;
    *out = NULL;
    if (!provider_name)
        return cli_fail(CLI_FAILED, "no memory");
    int code = apply_find(apply, manifest_kind_find("provider"), NULL, provider_name, &provider);
    if (code == CLI_OK && provider)
        code = apply_find(apply, manifest_kind_find("model"), &provider, name, out);
    if (code == CLI_OK && !*out)
        manifest_add_problem(&apply->manifest, &object->manifest->position,
                             "%s \"%.255s\": there is no model \"%.255s\" of provider \"%.255s\"", object->kind->name, object->name, name,
                             provider_name);
    return code;
}

/* ---- carrying it out ---- */

int apply_run_prices(struct apply *apply, struct apply_object *object)
{
    int code = CLI_OK;
    for (size_t i = 0; i < object->manifest->part_count && code == CLI_OK; i++) {
        price_request request = *price_of(object, i);
        ProtobufCMessage *reply;
        if (!object->is_missing[i])
            continue;
        field_set_text(&request.base, "model_id", object->id);
        code = apply_call(apply, FORGE_METHOD_ORGANIZATION_SET_MODEL_PRICE, &request.base, &reply);
    }
    return code;
}
