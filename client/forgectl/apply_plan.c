/* The plan: what the manifest wants beside what the server has. */
#include "apply.h"
#include "apply_fields.h"
#include "resolve.h"

#include <string.h>
#include <strings.h>

static char default_project_name[] = "Prompt Library";

/* ---- the list of objects ---- */

/* Behind the last of its kind and of the kinds that come before. */
static void insert(struct apply *apply, struct apply_object *object)
{
    struct apply_object **at = &apply->objects;
    while (*at && (*at)->kind <= object->kind)
        at = &(*at)->next;
    object->next = *at;
    *at = object;
}

static struct apply_object *add_object(struct apply *apply, const struct manifest_kind *kind, const char *name)
{
    struct apply_object *object = forge_arena_alloc(&apply->cli->arena, sizeof(*object));
    if (!object)
        return NULL;
    object->kind = kind;
    object->name = name;
    object->details = "";
    insert(apply, object);
    return object;
}

static bool is_same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

/* The executions of one prompt are one object. */
static struct apply_object *find_executions(struct apply *apply, const struct manifest_object *execution)
{
    for (struct apply_object *object = apply->objects; object; object = object->next)
        if (object->kind == execution->kind && is_same_text(object->manifest->references[0], execution->references[0]) &&
            is_same_text(object->manifest->references[1], execution->references[1]))
            return object;
    return NULL;
}

/* What the object of a plan is called; NULL without memory. */
static const char *name_of(struct apply *apply, const struct manifest_object *wanted)
{
    if (wanted->kind->style == MANIFEST_EXECUTION)
        return wanted->references[1];
    return wanted->kind->style == MANIFEST_SCORE ? apply_score_name(apply, wanted) : wanted->name;
}

static bool add_from_manifest(struct apply *apply, const struct manifest_object *wanted)
{
    bool is_execution = wanted->kind->style == MANIFEST_EXECUTION;
    struct apply_object *object = is_execution ? find_executions(apply, wanted) : NULL;
    if (!object) {
        const char *name = name_of(apply, wanted);
        object = name ? add_object(apply, wanted->kind, name) : NULL;
        if (!object)
            return false;
        object->manifest = wanted;
        if (is_execution)
            object->members = forge_arena_calloc(&apply->cli->arena, apply->manifest.object_count, sizeof(const struct manifest_object *));
    }
    if (is_execution && object->members)
        object->members[object->member_count++] = wanted;
    return !is_execution || object->members;
}

/* ---- looking for one ---- */

/* E-mails are kept in lower case. */
static bool is_same_name(const char *a, const char *b, const struct manifest_kind *kind)
{
    if (!kind->key)
        return !strcmp(a, b);
    return strcmp(kind->key, "email") ? !strcmp(a, b) : !strcasecmp(a, b);
}

static struct apply_object *find_known(struct apply *apply, const struct manifest_kind *kind, struct apply_object *const references[],
                                       const char *name)
{
    for (struct apply_object *object = apply->objects; object; object = object->next) {
        bool is_it = object->kind == kind && is_same_name(object->name, name, kind);
        for (size_t i = 0; is_it && kind->references[i].field; i++)
            is_it = object->references[i] == references[i];
        if (is_it)
            return object;
    }
    return NULL;
}

/* The server's object of this name, NULL if there is none. Names are listed in order, so it is the first with this beginning. */
static int look_up(struct apply *apply, const struct manifest_kind *kind, struct apply_object *const references[], const char *name,
                   ProtobufCMessage **out)
{
    *out = NULL;
    if (apply->is_new_organization && kind->style != MANIFEST_ORGANIZATION)
        return CLI_OK;
    ProtobufCMessage *request = field_message_new(&apply->cli->arena, forge_methods[kind->lookup].input), *reply;
    if (!request)
        return cli_fail(CLI_FAILED, "no memory");
    for (size_t i = 0; kind->references[i].field; i++) {
        if (!references[i]->id)
            return CLI_OK; /* inside something that does not exist yet */
        field_set_text(request, kind->references[i].id_field, references[i]->id);
    }
    field_set_text(request, kind->prefix, name);
    field_set_number(request, "page_size", 1);
    int code = apply_call(apply, kind->lookup, request, &reply);
    if (code != CLI_OK)
        return code;
    size_t count;
    ProtobufCMessage *const *items = field_list(reply, NULL, &count);
    if (count && is_same_name(field_text(items[0], kind->key), name, kind))
        *out = items[0];
    return CLI_OK;
}

static const char *id_of(const ProtobufCMessage *found)
{
    return found ? field_text(found, "id") : NULL; /* a tag's number is of no use: tags go by name */
}

int apply_find(struct apply *apply, const struct manifest_kind *kind, struct apply_object *const references[], const char *name,
               struct apply_object **out)
{
    ProtobufCMessage *found;
    *out = find_known(apply, kind, references, name);
    if (*out)
        return CLI_OK;
    int code = look_up(apply, kind, references, name, &found);
    if (code != CLI_OK || !found)
        return code;
    *out = add_object(apply, kind, name);
    if (!*out)
        return cli_fail(CLI_FAILED, "no memory");
    for (size_t i = 0; kind->references[i].field; i++)
        (*out)->references[i] = references[i];
    (*out)->found = found;
    (*out)->id = id_of(found);
    return CLI_OK;
}

/* ---- the project of what names none ---- */

/* The one in --project, FORGE_PROJECT or the context. A context says nothing of an organization that the manifest brings. */
static int find_set_project(struct apply *apply, const char *setting)
{
    const struct manifest_kind *kind = manifest_kind_find("project");
    ProtobufCMessage *reply;
    if (!resolve_is_id(setting)) {
        int code = apply_find(apply, kind, NULL, setting, &apply->default_project);
        if (code == CLI_OK && !apply->default_project)
            return cli_fail(CLI_STATUS + FORGE_NOT_FOUND, "there is no project \"%s\"", setting);
        return code;
    }
    int code = resolve_project(apply->cli, setting, &reply);
    if (code != CLI_OK)
        return code;
    const char *name = forge_arena_strdup(&apply->cli->arena, field_text(reply, "name"));
    cli_free(reply);
    return name ? apply_find(apply, kind, NULL, name, &apply->default_project) : cli_fail(CLI_FAILED, "no memory");
}

static int add_default_project(struct apply *apply, const struct manifest_kind *kind, const struct manifest_object *why)
{
    struct manifest_object *wanted = forge_arena_alloc(&apply->cli->arena, sizeof(*wanted));
    ProtobufCMessage *request = field_message_new(&apply->cli->arena, kind->shape.type);
    apply->default_project = add_object(apply, kind, default_project_name);
    if (!wanted || !request || !apply->default_project)
        return cli_fail(CLI_FAILED, "no memory");
    field_set_text(request, kind->key, default_project_name);
    *wanted = (struct manifest_object){.kind = kind, .position = why->position, .name = default_project_name, .request = request};
    apply->default_project->manifest = wanted;
    apply->default_project->action = APPLY_CREATE;
    return CLI_OK;
}

/* The first by name, of the server and of those that the manifest brings; without any, one of our own. */
static int find_first_project(struct apply *apply, const struct manifest_object *why)
{
    const struct manifest_kind *kind = manifest_kind_find("project");
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    ProtobufCMessage *reply;
    const char *first = NULL;
    request.page_size = 1;
    if (!apply->is_new_organization) {
        int code = apply_call(apply, kind->lookup, &request.base, &reply);
        if (code != CLI_OK)
            return code;
        size_t count;
        ProtobufCMessage *const *items = field_list(reply, NULL, &count);
        first = count ? field_text(items[0], kind->key) : NULL;
    }
    for (const struct apply_object *object = apply->objects; object; object = object->next)
        if (object->kind == kind && (!first || strcmp(object->name, first) < 0))
            first = object->name;
    if (!first)
        return add_default_project(apply, kind, why);
    return apply_find(apply, kind, NULL, first, &apply->default_project);
}

static int find_default_project(struct apply *apply, const struct manifest_object *why)
{
    if (apply->default_project)
        return CLI_OK;
    bool is_ours = apply->objects->kind->style != MANIFEST_ORGANIZATION;
    const char *setting = cli_option(apply->cli, "project");
    if (!setting && is_ours)
        setting = cli_setting(apply->cli, "project", "FORGE_PROJECT", cli_context(apply->cli)->project);
    return setting ? find_set_project(apply, setting) : find_first_project(apply, why);
}

/* ---- what an object refers to ---- */

/* False in *out_ok after a problem. */
static int find_references(struct apply *apply, struct apply_object *object, bool *out_ok)
{
    const struct manifest_object *wanted = object->manifest;
    *out_ok = true;
    for (size_t i = 0; *out_ok && object->kind->references[i].field; i++) {
        const struct manifest_reference *reference = &object->kind->references[i];
        const struct manifest_kind *kind = manifest_kind_find(reference->kind);
        int code = CLI_OK;
        if (!wanted->references[i] && reference->is_optional)
            continue;
        if (wanted->references[i]) {
            /* What a reference itself lies in (a prompt's project) stands before it. */
            code = apply_find(apply, kind, object->references, wanted->references[i], &object->references[i]);
        } else {
            code = find_default_project(apply, wanted);
            object->references[i] = apply->default_project;
        }
        if (code != CLI_OK)
            return code;
        *out_ok = object->references[i] != NULL;
        if (!*out_ok)
            manifest_add_problem(&apply->manifest, &wanted->reference_positions[i], "there is no %s \"%.255s\"", reference->kind,
                                 wanted->references[i]);
    }
    return CLI_OK;
}

/* ---- the plan ---- */

bool apply_add_detail(struct apply *apply, struct apply_object *object, const char *detail)
{
    object->details = forge_arena_printf(&apply->cli->arena, "%s%s%s", object->details, *object->details ? ", " : "", detail);
    if (object->action == APPLY_UNCHANGED)
        object->action = APPLY_UPDATE;
    return object->details != NULL;
}

static int plan_resource(struct apply *apply, struct apply_object *object)
{
    struct forge_arena *arena = &apply->cli->arena;
    int code = look_up(apply, object->kind, object->references, object->name, &object->found);
    if (code != CLI_OK)
        return code;
    object->id = id_of(object->found);
    object->action = object->found ? APPLY_UNCHANGED : APPLY_CREATE;
    if (!object->found || object->kind->update < 0 || apply->is_create_only)
        return CLI_OK;
    object->update = field_message_new(arena, forge_methods[object->kind->update].input);
    const char *details = object->update ? field_difference(arena, object->update, object->manifest->request, object->found) : NULL;
    if (!details)
        return cli_fail(CLI_FAILED, "no memory");
    object->details = details;
    if (!*details) {
        object->update = NULL;
        return CLI_OK;
    }
    object->action = APPLY_UPDATE;
    field_set_text(object->update, "id", object->id);
    field_set_text(object->update, "etag", field_text(object->found, "etag"));
    return CLI_OK;
}

static int plan_named(struct apply *apply, struct apply_object *object)
{
    enum manifest_style style = object->kind->style;
    if (style == MANIFEST_LABEL)
        return apply_plan_label(apply, object);
    if (style == MANIFEST_PROTECTION)
        return apply_plan_protection(apply, object);
    if (style == MANIFEST_EVALUATION)
        return apply_plan_evaluation(apply, object);
    if (style == MANIFEST_POLICY)
        return apply_plan_policy(apply, object);
    if (style == MANIFEST_TRACE)
        return apply_plan_trace(apply, object);
    if (style == MANIFEST_SCORE)
        return apply_plan_score(apply, object);
    int code = plan_resource(apply, object);
    if (code == CLI_OK && style == MANIFEST_MODEL)
        code = apply_plan_prices(apply, object);
    if (code == CLI_OK && style == MANIFEST_DATASET)
        code = apply_plan_dataset(apply, object);
    return code == CLI_OK && style == MANIFEST_PROMPT ? apply_plan_prompt(apply, object) : code;
}

static int plan_object(struct apply *apply, struct apply_object *object)
{
    bool ok;
    if (object->kind->style == MANIFEST_ORGANIZATION)
        return apply_plan_organization(apply, object);
    int code = find_references(apply, object, &ok);
    if (code != CLI_OK || !ok)
        return code;
    if (object->kind->style == MANIFEST_EXECUTION)
        return apply_plan_executions(apply, object);
    const struct apply_object *known = find_known(apply, object->kind, object->references, object->name);
    if (known != object) {
        manifest_add_problem(&apply->manifest, &object->manifest->position, "%s \"%.255s\" is there already, under another spelling",
                             object->kind->name, object->name);
        return CLI_OK;
    }
    return plan_named(apply, object);
}

int apply_plan(struct apply *apply)
{
    for (const struct manifest_object *wanted = apply->manifest.objects; wanted; wanted = wanted->next)
        if (!add_from_manifest(apply, wanted))
            return cli_fail(CLI_FAILED, "no memory");
    for (struct apply_object *object = apply->objects; object; object = object->next) {
        if (!object->manifest)
            continue; /* only referred to */
        int code = plan_object(apply, object);
        if (code != CLI_OK)
            return code;
    }
    return apply_order_prompts(apply);
}
