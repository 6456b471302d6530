/* Labels and the rules that protect them as a manifest. */
#include "export.h"

#include "apply_fields.h"

#include <string.h>

static json_t *targets_json(const Forge__V1__Label *label)
{
    json_t *targets = json_array();
    for (size_t i = 0; targets && i < label->n_targets; i++)
        json_array_append_new(
            targets, json_pack("{s:i, s:i}", "version", (int)label->targets[i]->version, "weight", (int)label->targets[i]->weight));
    return targets;
}

static int print_label(struct apply *apply, const Forge__V1__Label *label, const char *prompt, const char *project)
{
    json_t *object = export_new_object("label", project);
    bool ok = export_add(object, "prompt", json_string(prompt)) && export_add(object, "label", json_string(label->name));
    if (ok && label->n_targets == 1)
        ok = export_add(object, "version", json_integer(label->targets[0]->version));
    else if (ok)
        ok = export_add(object, "split", json_pack("{s:o}", "targets", targets_json(label)));
    return export_print_object(apply, object, ok);
}

/* prompt: NULL for a rule of the project. */
static int print_rule(struct apply *apply, const Forge__V1__LabelProtection *rule, const char *prompt, const char *project)
{
    json_t *object = export_new_object("protection", project);
    bool ok = (!prompt || export_add(object, "prompt", json_string(prompt))) && export_add(object, "label", json_string(rule->label));
    return export_print_object(apply, object, ok);
}

/* The rules of the first page of labels that are for this prompt; "" = for all prompts of the project. */
static int export_rules(struct apply *apply, Forge__V1__ListLabelsRequest *request, const char *prompt_id, const char *prompt,
                        const char *project)
{
    ProtobufCMessage *reply;
    field_set_text(&request->base, "page_token", "");
    int code = apply_call(apply, FORGE_METHOD_PROMPT_LIST_LABELS, &request->base, &reply);
    const Forge__V1__ListLabelsResponse *list = code == CLI_OK ? (const Forge__V1__ListLabelsResponse *)reply : NULL;
    for (size_t i = 0; code == CLI_OK && i < list->n_protections; i++)
        if (list->protections[i]->protected_ && !strcmp(list->protections[i]->prompt_id, prompt_id))
            code = print_rule(apply, list->protections[i], prompt, project);
    return code;
}

int export_labels(struct apply *apply, const Forge__V1__Prompt *prompt, const char *project)
{
    Forge__V1__ListLabelsRequest request = FORGE__V1__LIST_LABELS_REQUEST__INIT;
    ProtobufCMessage **labels;
    size_t count;
    field_set_text(&request.base, "prompt_id", prompt->id);
    int code = apply_list(apply, FORGE_METHOD_PROMPT_LIST_LABELS, &request.base, &labels, &count);
    for (size_t i = 0; code == CLI_OK && i < count; i++)
        code = print_label(apply, (const Forge__V1__Label *)labels[i], prompt->name, project);
    return code == CLI_OK ? export_rules(apply, &request, prompt->id, prompt->name, project) : code;
}

int export_project_rules(struct apply *apply, const char *project_id, const char *project)
{
    Forge__V1__ListLabelsRequest request = FORGE__V1__LIST_LABELS_REQUEST__INIT;
    field_set_text(&request.base, "project_id", project_id);
    return export_rules(apply, &request, "", NULL, project);
}
