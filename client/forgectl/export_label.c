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

/* The gate of a rule, and the name of the dataset it asks for beside it. */
static int add_gate(struct apply *apply, json_t *object, const Forge__V1__LabelProtection *rule)
{
    Forge__V1__ProtectLabelRequest plain = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__PromotionGate gate = *rule->gate;
    Forge__V1__GetDatasetRequest request = FORGE__V1__GET_DATASET_REQUEST__INIT;
    ProtobufCMessage *dataset;
    field_set_text(&request.base, "id", gate.dataset_id);
    field_set_text(&gate.base, "dataset_id", "");
    plain.gate = &gate;
    bool ok = export_add_resource(apply, object, plain.base.descriptor, &plain.base);
    int code = *rule->gate->dataset_id ? apply_call(apply, FORGE_METHOD_EVALUATION_GET_DATASET, &request.base, &dataset) : CLI_OK;
    if (code == CLI_OK && *rule->gate->dataset_id)
        ok = export_add(object, "dataset", json_string(field_text(dataset, "name"))) && ok;
    return code == CLI_OK && !ok ? cli_fail(CLI_FAILED, "no memory") : code;
}

/* prompt: NULL for a rule of the project. */
static int print_rule(struct apply *apply, const Forge__V1__LabelProtection *rule, const char *prompt, const char *project)
{
    json_t *object = export_new_object("protection", project);
    bool ok = (!prompt || export_add(object, "prompt", json_string(prompt))) && export_add(object, "label", json_string(rule->label));
    int code = ok && rule->gate ? add_gate(apply, object, rule) : CLI_OK;
    if (code == CLI_OK)
        return export_print_object(apply, object, ok);
    json_decref(object);
    return code;
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
