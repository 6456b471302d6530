/* Providers, models and prices as a manifest. Credentials are never part of it: the server does not tell them. */
#include "export.h"

#include "apply_fields.h"

#include <string.h>

struct export_model {
    struct export_model *next;
    const Forge__V1__AiModel *model;
};

const Forge__V1__AiModel *export_models_find(const struct export_models *models, const char *id)
{
    for (const struct export_model *known = models->first; known; known = known->next)
        if (!strcmp(known->model->id, id))
            return known->model;
    return NULL;
}

/* By provider, then by name. */
static int compare(const Forge__V1__AiModel *a, const Forge__V1__AiModel *b)
{
    int order = strcmp(a->provider_name, b->provider_name);
    return order ? order : strcmp(a->name, b->name);
}

int export_models_add(struct apply *apply, struct export_models *models, const char *id)
{
    Forge__V1__GetAiModelRequest request = FORGE__V1__GET_AI_MODEL_REQUEST__INIT;
    ProtobufCMessage *model;
    if (!*id || export_models_find(models, id))
        return CLI_OK;
    field_set_text(&request.base, "id", id);
    int code = apply_call(apply, FORGE_METHOD_ORGANIZATION_GET_AI_MODEL, &request.base, &model);
    struct export_model *added = code == CLI_OK ? forge_arena_alloc(&apply->cli->arena, sizeof(*added)) : NULL;
    if (!added)
        return code != CLI_OK ? code : cli_fail(CLI_FAILED, "no memory");
    added->model = (const Forge__V1__AiModel *)model;
    struct export_model **at = &models->first;
    while (*at && compare((*at)->model, added->model) < 0)
        at = &(*at)->next;
    added->next = *at;
    *at = added;
    return CLI_OK;
}

static int print_provider(struct apply *apply, const ProtobufCMessage *provider)
{
    const struct manifest_kind *kind = manifest_kind_find("provider");
    json_t *object = export_new_object(kind->name, NULL);
    return export_print_object(apply, object, object && export_add_resource(apply, object, kind->shape.type, provider));
}

/* The oldest first, as they are set again. */
static bool add_prices(struct apply *apply, json_t *object, ProtobufCMessage *const *newest_first, size_t count)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = count; ok && i-- > 0;) {
        json_t *price = json_object();
        ok = price && export_add_resource(apply, price, &forge__v1__set_model_price_request__descriptor, newest_first[i]) &&
             (json_object_get(price, "usage_prices") ||
              export_add(price, "usage_prices", json_pack("[{s:s}]", "usage_type", "USAGE_TYPE_INPUT")));
        ok = json_array_append_new(list, price) == 0 && ok;
    }
    if (ok && count)
        ok = json_object_set(object, "prices", list) == 0;
    json_decref(list);
    return ok;
}

static int print_model(struct apply *apply, const Forge__V1__AiModel *model)
{
    const struct manifest_kind *kind = manifest_kind_find("model");
    Forge__V1__ListModelPricesRequest request = FORGE__V1__LIST_MODEL_PRICES_REQUEST__INIT;
    ProtobufCMessage **prices;
    size_t count;
    field_set_text(&request.base, "model_id", model->id);
    int code = apply_list(apply, FORGE_METHOD_ORGANIZATION_LIST_MODEL_PRICES, &request.base, &prices, &count);
    if (code != CLI_OK)
        return code;
    json_t *object = export_new_object(kind->name, NULL);
    bool ok = export_add(object, "provider", json_string(model->provider_name)) &&
              export_add_resource(apply, object, kind->shape.type, &model->base) && add_prices(apply, object, prices, count);
    return export_print_object(apply, object, ok);
}

/* Its provider, unless a model behind it has the same one and prints it. */
static int print_provider_of(struct apply *apply, const struct export_model *known)
{
    Forge__V1__GetModelProviderRequest request = FORGE__V1__GET_MODEL_PROVIDER_REQUEST__INIT;
    ProtobufCMessage *provider;
    for (const struct export_model *other = known->next; other; other = other->next)
        if (!strcmp(other->model->provider_id, known->model->provider_id))
            return CLI_OK;
    field_set_text(&request.base, "id", known->model->provider_id);
    int code = apply_call(apply, FORGE_METHOD_ORGANIZATION_GET_MODEL_PROVIDER, &request.base, &provider);
    return code == CLI_OK ? print_provider(apply, provider) : code;
}

int export_models_print(struct apply *apply, const struct export_models *models)
{
    int code = CLI_OK;
    for (const struct export_model *known = models->first; known && code == CLI_OK; known = known->next)
        code = print_provider_of(apply, known);
    for (const struct export_model *known = models->first; known && code == CLI_OK; known = known->next)
        code = print_model(apply, known->model);
    return code;
}

int export_models_all(struct apply *apply)
{
    Forge__V1__ListModelProvidersRequest provider_request = FORGE__V1__LIST_MODEL_PROVIDERS_REQUEST__INIT;
    Forge__V1__ListAiModelsRequest request = FORGE__V1__LIST_AI_MODELS_REQUEST__INIT;
    ProtobufCMessage **items;
    size_t count;
    int code = apply_list(apply, FORGE_METHOD_ORGANIZATION_LIST_MODEL_PROVIDERS, &provider_request.base, &items, &count);
    for (size_t i = 0; code == CLI_OK && i < count; i++)
        code = print_provider(apply, items[i]);
    if (code == CLI_OK)
        code = apply_list(apply, FORGE_METHOD_ORGANIZATION_LIST_AI_MODELS, &request.base, &items, &count);
    for (size_t i = 0; code == CLI_OK && i < count; i++)
        code = print_model(apply, (const Forge__V1__AiModel *)items[i]);
    return code;
}
