/* Prompts: a resource with versions, a current one among them, and tags. */
#include "apply.h"
#include "apply_fields.h"

#include <string.h>

typedef Forge__V1__CreatePromptVersionRequest version_request;

static const Forge__V1__CreatePromptRequest *request_of(const struct apply_object *object)
{
    return (const Forge__V1__CreatePromptRequest *)object->manifest->request;
}

static version_request *version_of(const struct apply_object *object, size_t index)
{
    return (version_request *)object->manifest->parts[index];
}

/* The version that is to be current: the one with make_current, else the last. */
static size_t wanted_current(const struct apply_object *object)
{
    size_t count = object->manifest->part_count;
    for (size_t i = 0; i < count; i++)
        if (version_of(object, i)->make_current)
            return i;
    return count - 1;
}

/* ---- is a version what the manifest wants? As content_hash sees it. ---- */

static bool has_same_messages(const version_request *wanted, const Forge__V1__PromptVersion *version)
{
    if (wanted->n_messages != version->n_messages)
        return false;
    for (size_t i = 0; i < wanted->n_messages; i++)
        if (strcmp(wanted->messages[i]->role, version->messages[i]->role) != 0 ||
            strcmp(wanted->messages[i]->content, version->messages[i]->content) != 0)
            return false;
    return true;
}

/* The text of a default value, NULL without one. */
static const char *default_of(const Forge__V1__PromptVariable *variable)
{
    return variable->default_value ? variable->default_value->value : NULL;
}

static bool is_same_variable(const Forge__V1__PromptVariable *a, const Forge__V1__PromptVariable *b)
{
    const char *left = default_of(a), *right = default_of(b);
    return !strcmp(a->name, b->name) && !strcmp(a->description, b->description) && !left == !right && (!left || !strcmp(left, right));
}

/* Where nothing is declared the server declares the placeholders it finds, without description and default. */
static bool has_same_variables(const version_request *wanted, const Forge__V1__PromptVersion *version)
{
    if (wanted->n_variables && wanted->n_variables != version->n_variables)
        return false;
    for (size_t i = 0; i < version->n_variables; i++) {
        const Forge__V1__PromptVariable *variable = version->variables[i];
        bool is_there = !wanted->n_variables && !*variable->description && !variable->default_value;
        for (size_t j = 0; j < wanted->n_variables && !is_there; j++)
            is_there = is_same_variable(wanted->variables[j], variable);
        if (!is_there)
            return false;
    }
    return true;
}

/* A model that is yet to be made is no version's. */
static bool has_same_model(const struct apply_object *model, const Forge__V1__PromptVersion *version)
{
    return model ? model->id && !strcmp(model->id, version->model_id) : !*version->model_id;
}

static bool is_same_version(const version_request *wanted, const struct apply_object *model, const Forge__V1__PromptVersion *version)
{
    return !strcmp(wanted->content, version->content) && !strcmp(wanted->system_prompt, version->system_prompt) &&
           has_same_model(model, version) && field_is_same_json(wanted->parameters, version->parameters) &&
           has_same_messages(wanted, version) && has_same_variables(wanted, version);
}

/* ---- the plan ---- */

static int compare_versions(struct apply *apply, struct apply_object *object, ProtobufCMessage *const *versions, size_t count)
{
    size_t missing = 0, current = wanted_current(object);
    for (size_t i = 0; i < object->manifest->part_count; i++) {
        const Forge__V1__PromptVersion *found = NULL;
        for (size_t j = 0; j < count && !found; j++)
            if (is_same_version(version_of(object, i), object->models[i], (const Forge__V1__PromptVersion *)versions[j]))
                found = (const Forge__V1__PromptVersion *)versions[j];
        object->is_missing[i] = !found;
        missing += !found;
        if (i == current && found)
            object->is_other_current = !found->current;
    }
    char text[64];
    snprintf(text, sizeof text, "%zu new version%s", missing, missing == 1 ? "" : "s");
    if ((missing && !apply_add_detail(apply, object, text)) ||
        (object->is_other_current && !apply_add_detail(apply, object, "current version")))
        return cli_fail(CLI_FAILED, "no memory");
    return CLI_OK;
}

static int plan_versions(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ListPromptVersionsRequest request = FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    ProtobufCMessage **versions;
    size_t count;
    field_set_text(&request.base, "prompt_id", object->id);
    request.view = FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    int code = apply_list(apply, FORGE_METHOD_PROMPT_LIST_VERSIONS, &request.base, &versions, &count);
    object->is_missing = forge_arena_calloc(&apply->cli->arena, object->manifest->part_count, sizeof(bool));
    if (code != CLI_OK || !object->is_missing)
        return code != CLI_OK ? code : cli_fail(CLI_FAILED, "no memory");
    return compare_versions(apply, object, versions, count);
}

static bool is_among(const char *name, char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(names[i], name))
            return true;
    return false;
}

/* Those of names that are not among others, ended by NULL. */
static const char **names_without(struct apply *apply, char *const names[], size_t count, char *const others[], size_t other_count)
{
    const char **out = forge_arena_calloc(&apply->cli->arena, count + 1, sizeof(*out));
    size_t kept = 0;
    for (size_t i = 0; out && i < count; i++)
        if (!is_among(names[i], others, other_count))
            out[kept++] = names[i];
    return out;
}

static int plan_tags(struct apply *apply, struct apply_object *object)
{
    const Forge__V1__CreatePromptRequest *wanted = request_of(object);
    const Forge__V1__Prompt *found = (const Forge__V1__Prompt *)object->found;
    if (!wanted->n_tags)
        return CLI_OK;
    object->tags = names_without(apply, wanted->tags, wanted->n_tags, found->tags, found->n_tags);
    object->no_tags = names_without(apply, found->tags, found->n_tags, wanted->tags, wanted->n_tags);
    if (!object->tags || !object->no_tags || ((*object->tags || *object->no_tags) && !apply_add_detail(apply, object, "tags")))
        return cli_fail(CLI_FAILED, "no memory");
    return CLI_OK;
}

/* A tag is created by its own document: the same word misspelled must not become another one. */
static int check_tags(struct apply *apply, const struct apply_object *object)
{
    const Forge__V1__CreatePromptRequest *wanted = request_of(object);
    for (size_t i = 0; i < wanted->n_tags; i++) {
        struct apply_object *tag;
        int code = apply_find(apply, manifest_kind_find("tag"), NULL, wanted->tags[i], &tag);
        if (code != CLI_OK)
            return code;
        if (!tag)
            manifest_add_problem(&apply->manifest, &object->manifest->position, "prompt \"%.255s\": there is no tag \"%.100s\"",
                                 object->name, wanted->tags[i]);
    }
    return CLI_OK;
}

static int find_models(struct apply *apply, struct apply_object *object)
{
    int code = CLI_OK;
    object->models = forge_arena_calloc(&apply->cli->arena, object->manifest->part_count, sizeof(*object->models));
    if (!object->models)
        return cli_fail(CLI_FAILED, "no memory");
    for (size_t i = 0; i < object->manifest->part_count && code == CLI_OK; i++)
        if (*version_of(object, i)->model_id)
            code = apply_find_model(apply, object, version_of(object, i)->model_id, &object->models[i]);
    return code;
}

int apply_plan_prompt(struct apply *apply, struct apply_object *object)
{
    if (object->found && apply->is_create_only)
        return CLI_OK;
    int code = check_tags(apply, object);
    if (code == CLI_OK)
        code = find_models(apply, object);
    if (code != CLI_OK || !object->found)
        return code;
    code = plan_tags(apply, object);
    return code == CLI_OK ? plan_versions(apply, object) : code;
}

/* ---- carrying it out ---- */

static int create_version(struct apply *apply, const struct apply_object *object, size_t index)
{
    version_request request = *version_of(object, index);
    ProtobufCMessage *reply;
    field_set_text(&request.base, "prompt_id", object->id);
    field_set_text(&request.base, "model_id", object->models[index] ? object->models[index]->id : "");
    request.make_current = index == wanted_current(object);
    return apply_call(apply, FORGE_METHOD_PROMPT_CREATE_VERSION, &request.base, &reply);
}

static int create(struct apply *apply, struct apply_object *object)
{
    ProtobufCMessage *request = apply_create_request(apply, object), *reply;
    if (!request)
        return cli_fail(CLI_FAILED, "no memory");
    field_copy_all(request, object->manifest->parts[0]);
    field_set_text(request, "model_id", object->models[0] ? object->models[0]->id : "");
    int code = apply_call(apply, object->kind->create, request, &reply);
    if (code != CLI_OK)
        return code;
    object->id = field_text(reply, "id");
    for (size_t i = 1; code == CLI_OK && i < object->manifest->part_count; i++)
        code = create_version(apply, object, i);
    return code;
}

static int change_tags(struct apply *apply, const struct apply_object *object, int method, const char *const *tags)
{
    int code = CLI_OK;
    for (; tags && *tags && code == CLI_OK; tags++) {
        ProtobufCMessage *request = field_message_new(&apply->cli->arena, forge_methods[method].input), *reply;
        if (!request)
            return cli_fail(CLI_FAILED, "no memory");
        field_set_text(request, "prompt_id", object->id);
        field_set_text(request, "tag", *tags);
        code = apply_call(apply, method, request, &reply);
    }
    return code;
}

int apply_run_prompt(struct apply *apply, struct apply_object *object)
{
    ProtobufCMessage *reply;
    if (object->action == APPLY_CREATE)
        return create(apply, object);
    int code = object->update ? apply_call(apply, object->kind->update, object->update, &reply) : CLI_OK;
    if (code == CLI_OK)
        code = change_tags(apply, object, FORGE_METHOD_PROMPT_TAG, object->tags);
    if (code == CLI_OK)
        code = change_tags(apply, object, FORGE_METHOD_PROMPT_UNTAG, object->no_tags);
    for (size_t i = 0; code == CLI_OK && i < object->manifest->part_count; i++)
        if (object->is_missing[i] || (object->is_other_current && i == wanted_current(object)))
            code = create_version(apply, object, i);
    return code;
}
