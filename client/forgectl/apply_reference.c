/* References between the prompts of a manifest: those that others refer to are applied first, with the labels that they are named by. */
#include "apply.h"

#include "wire/template.h"

#include <string.h>

enum { LABEL_PROMPT = 1 }; /* among the references of a label */
enum order { ORDER_NEW, ORDER_OPEN, ORDER_DONE };

/* A prompt with the prompts and labels that its texts name, or a label with its prompt. */
struct referring {
    struct apply_object *object;
    struct referring **needs;
    size_t need_count, next_need;
    enum order order;
};

/* Prompts, then labels: as they stand in the list. */
struct prompts {
    struct apply *apply;
    struct referring *list;
    size_t count;
};

/* ---- what a prompt refers to ---- */

static struct referring *find_referring(const struct prompts *prompts, const struct apply_object *object)
{
    for (size_t i = 0; i < prompts->count; i++)
        if (prompts->list[i].object == object)
            return &prompts->list[i];
    return NULL;
}

static bool is_label(const struct referring *referring)
{
    return referring->object->kind->style == MANIFEST_LABEL;
}

/* The label of a prompt, NULL when the manifest does not have it. */
static struct apply_object *find_label(const struct prompts *prompts, const struct apply_object *prompt, const char *name)
{
    for (size_t i = 0; i < prompts->count; i++) {
        struct apply_object *object = prompts->list[i].object;
        if (is_label(&prompts->list[i]) && object->references[LABEL_PROMPT] == prompt && !strcmp(object->name, name))
            return object;
    }
    return NULL;
}

/* What stays as it is needs nothing and keeps nobody waiting. */
static bool add_need(const struct prompts *prompts, struct referring *prompt, struct apply_object *target)
{
    struct referring *needed = target->action != APPLY_UNCHANGED ? find_referring(prompts, target) : NULL;
    for (size_t i = 0; needed && i < prompt->need_count; i++)
        if (prompt->needs[i] == needed)
            return true;
    if (!needed)
        return true;
    struct referring **needs = forge_arena_calloc(&prompts->apply->cli->arena, prompt->need_count + 1, sizeof(*needs));
    if (!needs)
        return false;
    if (prompt->need_count)
        memcpy(needs, prompt->needs, prompt->need_count * sizeof(*needs));
    needs[prompt->need_count++] = needed;
    prompt->needs = needs;
    return true;
}

static int take_reference(const struct prompts *prompts, struct referring *prompt, const struct forge_template_reference *reference)
{
    struct apply *apply = prompts->apply;
    const struct apply_object *object = prompt->object;
    struct apply_object *target;
    int code = apply_find(apply, object->kind, object->references, reference->name, &target);
    if (code != CLI_OK)
        return code;
    struct apply_object *label = target && reference->label ? find_label(prompts, target, reference->label) : NULL;
    if (!target)
        manifest_add_problem(&apply->manifest, &object->manifest->position, "prompt \"%.255s\" refers to {{> %s}}: there is no such prompt",
                             object->name, reference->text);
    else if (reference->label && !label && target->action == APPLY_CREATE)
        manifest_add_problem(&apply->manifest, &object->manifest->position, "prompt \"%.255s\" refers to {{> %s}}: there is no such label",
                             object->name, reference->text);
    bool ok = !target || (add_need(prompts, prompt, target) && (!label || add_need(prompts, prompt, label)));
    return ok ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

/* What is wrong with a template is the server's to say. */
static int take_text(const struct prompts *prompts, struct referring *prompt, const char *text)
{
    struct forge_template_names names;
    struct forge_error error;
    int code = CLI_OK;
    if (forge_template_scan(text, &prompts->apply->cli->arena, &names, &error) != FORGE_OK)
        return CLI_OK;
    for (size_t i = 0; i < names.reference_count && code == CLI_OK; i++)
        code = take_reference(prompts, prompt, &names.references[i]);
    return code;
}

static int take_versions(const struct prompts *prompts, struct referring *prompt)
{
    const struct manifest_object *manifest = prompt->object->manifest;
    int code = CLI_OK;
    for (size_t i = 0; i < manifest->part_count && code == CLI_OK; i++) {
        const Forge__V1__CreatePromptVersionRequest *version = (const Forge__V1__CreatePromptVersionRequest *)manifest->parts[i];
        code = take_text(prompts, prompt, version->content);
        if (code == CLI_OK)
            code = take_text(prompts, prompt, version->system_prompt);
        for (size_t j = 0; j < version->n_messages && code == CLI_OK; j++)
            code = take_text(prompts, prompt, version->messages[j]->content);
    }
    return code;
}

static int take_needs(const struct prompts *prompts, struct referring *referring)
{
    const struct apply_object *object = referring->object;
    if (!object->manifest || object->action == APPLY_UNCHANGED)
        return CLI_OK;
    if (!is_label(referring))
        return take_versions(prompts, referring);
    return add_need(prompts, referring, object->references[LABEL_PROMPT]) ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

/* ---- the order ---- */

/* The prompts from the one that is met again, to itself. */
static void add_cycle(const struct prompts *prompts, struct referring *const *open, size_t depth, const struct referring *again)
{
    struct apply *apply = prompts->apply;
    const char *way = NULL;
    for (size_t i = 0; i < depth; i++)
        if (way || open[i] == again)
            way = forge_arena_printf(&apply->cli->arena, "%s\"%s\" -> ", way ? way : "", open[i]->object->name);
    manifest_add_problem(&apply->manifest, &again->object->manifest->position, "prompts refer to each other in a circle: %s\"%s\"",
                         way ? way : "", again->object->name);
}

/* Links a prompt or label behind *end, after all that it needs. open has room for every prompt. */
static void place(const struct prompts *prompts, struct referring *first, struct referring **open, struct apply_object ***end)
{
    size_t depth = 0;
    if (first->order != ORDER_NEW)
        return;
    open[depth++] = first;
    first->order = ORDER_OPEN;
    while (depth > 0) {
        struct referring *prompt = open[depth - 1];
        if (prompt->next_need == prompt->need_count) {
            prompt->order = ORDER_DONE;
            **end = prompt->object;
            *end = &prompt->object->next;
            depth--;
            continue;
        }
        struct referring *needed = prompt->needs[prompt->next_need++];
        if (needed->order == ORDER_OPEN && !is_label(prompt)) /* who names a label names its prompt first: that one tells the circle */
            add_cycle(prompts, open, depth, needed);
        if (needed->order != ORDER_NEW)
            continue;
        needed->order = ORDER_OPEN;
        open[depth++] = needed;
    }
}

/* Prompts and labels stand together in the list, kind by kind. Those that are only looked up are part of it. */
static int order(const struct prompts *prompts)
{
    struct apply *apply = prompts->apply;
    struct referring **open = forge_arena_calloc(&apply->cli->arena, prompts->count, sizeof(struct referring *));
    if (!open)
        return cli_fail(CLI_FAILED, "no memory");
    struct apply_object **end = &apply->objects, *behind = prompts->list[prompts->count - 1].object->next;
    while (*end != prompts->list[0].object)
        end = &(*end)->next;
    for (size_t i = 0; i < prompts->count; i++)
        place(prompts, &prompts->list[i], open, &end);
    *end = behind;
    return CLI_OK;
}

static size_t collect(struct apply *apply, struct referring *list)
{
    size_t count = 0;
    for (struct apply_object *object = apply->objects; object; object = object->next)
        if (object->kind->style == MANIFEST_PROMPT || object->kind->style == MANIFEST_LABEL) {
            if (list)
                list[count].object = object;
            count++;
        }
    return count;
}

int apply_order_prompts(struct apply *apply)
{
    struct prompts prompts = {.apply = apply};
    int code = CLI_OK;
    prompts.count = collect(apply, NULL);
    if (apply->manifest.problem_count || !prompts.count)
        return CLI_OK;
    prompts.list = forge_arena_calloc(&apply->cli->arena, prompts.count, sizeof(*prompts.list));
    if (!prompts.list)
        return cli_fail(CLI_FAILED, "no memory");
    collect(apply, prompts.list);
    for (size_t i = 0; i < prompts.count && code == CLI_OK; i++)
        code = take_needs(&prompts, &prompts.list[i]);
    if (code != CLI_OK)
        return code;
    return order(&prompts);
}
