/* Labels and the rules that protect them. Both are found by their name in a prompt or project; versions are the server's numbers. */
#include "apply.h"
#include "apply_fields.h"

#include <string.h>

enum { PROJECT, PROMPT, DATASET }; /* among the references of both kinds; labels have no dataset */

static const Forge__V1__SetLabelRequest *label_of(const struct apply_object *object)
{
    return (const Forge__V1__SetLabelRequest *)object->manifest->request;
}

static const char *id_of(const struct apply_object *reference)
{
    return reference && reference->id ? reference->id : "";
}

/* The labels of this name in a prompt or, without one, in a project; with the rules that apply there. NULL in *out while that is yet to be
 * made. */
static int list(struct apply *apply, const struct apply_object *object, const Forge__V1__ListLabelsResponse **out)
{
    Forge__V1__ListLabelsRequest request = FORGE__V1__LIST_LABELS_REQUEST__INIT;
    const struct apply_object *in = object->references[PROMPT] ? object->references[PROMPT] : object->references[PROJECT];
    ProtobufCMessage *reply;
    *out = NULL;
    if (!in->id)
        return CLI_OK;
    field_set_text(&request.base, in == object->references[PROMPT] ? "prompt_id" : "project_id", in->id);
    field_set_text(&request.base, "label", object->name);
    int code = apply_call(apply, FORGE_METHOD_PROMPT_LIST_LABELS, &request.base, &reply);
    if (code == CLI_OK)
        *out = (const Forge__V1__ListLabelsResponse *)reply;
    return code;
}

/* ---- labels ---- */

static int32_t weight_of(const Forge__V1__LabelTarget *target)
{
    return target->weight ? target->weight : 1;
}

static bool has_target(const Forge__V1__LabelSplit *split, const Forge__V1__LabelTarget *target)
{
    for (size_t i = 0; i < split->n_targets; i++)
        if (split->targets[i]->version == target->version)
            return weight_of(split->targets[i]) == weight_of(target);
    return false;
}

static bool points_there(const Forge__V1__SetLabelRequest *wanted, const Forge__V1__Label *found)
{
    if (wanted->target_case == FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION)
        return found->n_targets == 1 && found->targets[0]->version == wanted->version;
    bool is_same = found->n_targets == wanted->split->n_targets;
    for (size_t i = 0; i < found->n_targets && is_same; i++)
        is_same = has_target(wanted->split, found->targets[i]);
    return is_same;
}

/* "code-review at 2=90, 3=10"; NULL without memory. */
static const char *describe(struct apply *apply, const struct apply_object *object)
{
    const Forge__V1__SetLabelRequest *wanted = label_of(object);
    struct forge_arena *arena = &apply->cli->arena;
    const char *prompt = object->references[PROMPT]->name;
    if (wanted->target_case == FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION)
        return forge_arena_printf(arena, "%s at %d", prompt, (int)wanted->version);
    const char *text = forge_arena_printf(arena, "%s at", prompt);
    for (size_t i = 0; i < wanted->split->n_targets && text; i++)
        text = forge_arena_printf(arena, "%s%s %d=%d", text, i ? "," : "", (int)wanted->split->targets[i]->version,
                                  (int)weight_of(wanted->split->targets[i]));
    return text;
}

int apply_plan_label(struct apply *apply, struct apply_object *object)
{
    const Forge__V1__ListLabelsResponse *listed;
    const Forge__V1__SetLabelRequest *wanted = label_of(object);
    if (wanted->target_case == FORGE__V1__SET_LABEL_REQUEST__TARGET__NOT_SET) {
        manifest_add_problem(&apply->manifest, &object->manifest->position, "version or split is missing");
        return CLI_OK;
    }
    int code = list(apply, object, &listed);
    if (code != CLI_OK)
        return code;
    object->details = describe(apply, object);
    object->found = listed && listed->n_labels ? &listed->labels[0]->base : NULL;
    if (!object->found)
        object->action = APPLY_CREATE;
    else if (!apply->is_create_only && !points_there(wanted, listed->labels[0]))
        object->action = APPLY_UPDATE;
    return object->details ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

int apply_run_label(struct apply *apply, struct apply_object *object)
{
    Forge__V1__SetLabelRequest request = *label_of(object);
    ProtobufCMessage *reply;
    field_set_text(&request.base, "prompt_id", id_of(object->references[PROMPT]));
    if (object->found)
        field_set_text(&request.base, "etag", field_text(object->found, "etag"));
    return apply_call(apply, object->kind->create, &request.base, &reply);
}

/* ---- rules ---- */

static const Forge__V1__PromotionGate *gate_of(const struct apply_object *object)
{
    return ((const Forge__V1__ProtectLabelRequest *)object->manifest->request)->gate;
}

static bool check_gate(struct apply *apply, const struct apply_object *object)
{
    const Forge__V1__PromotionGate *gate = gate_of(object);
    size_t problems = apply->manifest.problem_count;
    if (gate && *gate->dataset_id)
        manifest_add_problem(&apply->manifest, &object->manifest->position, "gate.dataset_id: name the dataset in a field \"dataset\"");
    if (object->references[DATASET] && !gate)
        manifest_add_problem(&apply->manifest, &object->manifest->position, "dataset: there is no gate that asks for it");
    return apply->manifest.problem_count == problems;
}

/* A gate that the manifest does not have stays as it is. */
static bool is_same_gate(const struct apply_object *object, const Forge__V1__PromotionGate *found)
{
    const Forge__V1__PromotionGate *wanted = gate_of(object);
    if (!wanted || !found)
        return !wanted;
    return wanted->require_evaluation == found->require_evaluation && wanted->min_score == found->min_score &&
           wanted->min_result_count == found->min_result_count && !strcmp(id_of(object->references[DATASET]), found->dataset_id) &&
           (!object->references[DATASET] || object->references[DATASET]->id) &&
           wanted->require_no_open_blocking_violations == found->require_no_open_blocking_violations;
}

int apply_plan_protection(struct apply *apply, struct apply_object *object)
{
    const Forge__V1__ListLabelsResponse *listed;
    const struct apply_object *prompt = object->references[PROMPT];
    if (!check_gate(apply, object))
        return CLI_OK;
    int code = list(apply, object, &listed);
    if (code != CLI_OK)
        return code;
    object->details = prompt ? prompt->name : "all prompts";
    object->action = APPLY_CREATE;
    for (size_t i = 0; listed && i < listed->n_protections; i++)
        if (!strcmp(listed->protections[i]->prompt_id, id_of(prompt)))
            object->found = &listed->protections[i]->base;
    const Forge__V1__LabelProtection *found = (const Forge__V1__LabelProtection *)object->found;
    if (found) /* one with a gate need not protect */
        object->action = (found->protected_ && is_same_gate(object, found->gate)) || apply->is_create_only ? APPLY_UNCHANGED : APPLY_UPDATE;
    return CLI_OK;
}

int apply_run_protection(struct apply *apply, struct apply_object *object)
{
    Forge__V1__ProtectLabelRequest request = FORGE__V1__PROTECT_LABEL_REQUEST__INIT;
    Forge__V1__PromotionGate gate = FORGE__V1__PROMOTION_GATE__INIT;
    ProtobufCMessage *reply;
    if (object->found) /* the call sets the whole rule: its gate stays */
        field_copy_all(&request.base, object->found);
    if (gate_of(object)) {
        gate = *gate_of(object);
        field_set_text(&gate.base, "dataset_id", id_of(object->references[DATASET]));
        request.gate = &gate;
    }
    field_set_text(&request.base, "project_id", id_of(object->references[PROJECT]));
    field_set_text(&request.base, "prompt_id", id_of(object->references[PROMPT]));
    field_set_text(&request.base, "label", object->name);
    request.protected_ = true;
    return apply_call(apply, object->kind->create, &request.base, &reply);
}
