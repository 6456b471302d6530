/* Policies as a manifest: their drafts, with names in place of ids. */
#include "export.h"

#include "apply_fields.h"

#include <string.h>

/* ---- names ---- */

static const Forge__V1__Policy *policy_at(const struct export_policies *all, size_t index)
{
    return (const Forge__V1__Policy *)all->policies[index];
}

/* {provider: P, name: N}; NULL without memory. */
static json_t *model_json(const struct export_policies *all, const char *id)
{
    const ProtobufCMessage *model = export_find(all->models, all->model_count, id);
    return json_pack("{s:s, s:s}", "provider", field_text(model, "provider_name"), "name", field_text(model, "name"));
}

static bool name_attachment(const struct export_policies *all, json_t *attachment)
{
    const char *project_id = json_string_value(json_object_get(attachment, "project_id"));
    const char *model_id = json_string_value(json_object_get(attachment, "model_id"));
    bool ok = true;
    if (project_id)
        ok = export_add(attachment, "project", json_string(field_text(export_find(all->projects, all->project_count, project_id), "name")));
    if (model_id)
        ok = export_add(attachment, "model", model_json(all, model_id));
    json_object_del(attachment, "project_id");
    json_object_del(attachment, "model_id");
    return ok;
}

static bool name_allowed_models(const struct export_policies *all, json_t *allowed)
{
    json_t *models = json_array(), *id;
    bool ok = models != NULL;
    size_t index;
    json_array_foreach(json_object_get(allowed, "model_ids"), index, id)
    {
        ok = ok && json_array_append_new(models, model_json(all, json_string_value(id))) == 0;
    }
    json_object_del(allowed, "model_ids");
    return json_object_set_new(allowed, "models", models) == 0 && ok;
}

static bool put_names(const struct export_policies *all, json_t *object)
{
    json_t *part;
    size_t index;
    bool ok = true;
    json_array_foreach(json_object_get(object, "attachments"), index, part)
    {
        ok = ok && name_attachment(all, part);
    }
    json_array_foreach(json_object_get(object, "rules"), index, part)
    {
        json_t *allowed = json_object_get(part, "allowed_models");
        ok = ok && (!allowed || name_allowed_models(all, allowed));
    }
    return ok;
}

/* ---- what a policy names ---- */

/* Calls visit with the id of each model that the policy names, until it returns another code. */
static int each_model(const Forge__V1__Policy *policy, int (*visit)(void *context, const char *id), void *context)
{
    int code = CLI_OK;
    for (size_t i = 0; i < policy->n_attachments && code == CLI_OK; i++)
        if (policy->attachments[i]->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_MODEL_ID)
            code = visit(context, policy->attachments[i]->model_id);
    for (size_t i = 0; i < policy->draft->n_rules; i++) {
        const Forge__V1__PolicyRule *rule = policy->draft->rules[i];
        bool has_models = rule->kind_case == FORGE__V1__POLICY_RULE__KIND_ALLOWED_MODELS;
        for (size_t j = 0; has_models && j < rule->allowed_models->n_model_ids && code == CLI_OK; j++)
            code = visit(context, rule->allowed_models->model_ids[j]);
    }
    return code;
}

static int fail_if_deleted(void *context, const char *id)
{
    const struct export_policies *all = context;
    return export_find(all->models, all->model_count, id) ? CLI_OK : CLI_FAILED;
}

/* Why it cannot be made again from a manifest; NULL when it can. */
static const char *why_not(struct export_policies *all, const Forge__V1__Policy *policy)
{
    for (size_t i = 0; i < policy->n_attachments; i++)
        if (policy->attachments[i]->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_PROJECT_ID &&
            !export_find(all->projects, all->project_count, policy->attachments[i]->project_id))
            return "it is attached to a project that is deleted";
    return each_model(policy, fail_if_deleted, all) == CLI_OK ? NULL : "it names a model that is deleted";
}

/* ---- a policy ---- */

/* In force is what was published: where that is not the draft, or is out of force, applying the manifest elsewhere must not change that. */
static bool is_published(const Forge__V1__Policy *policy)
{
    return policy->published_version > 0 && !policy->draft_changed && !policy->disabled;
}

static int print_policy(const struct export_policies *all, const Forge__V1__Policy *policy)
{
    const struct manifest_kind *kind = manifest_kind_find("policy");
    Forge__V1__CreatePolicyRequest plain = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    plain.name = policy->name;
    plain.description = policy->description;
    plain.mode = policy->draft->mode;
    plain.n_rules = policy->draft->n_rules;
    plain.rules = policy->draft->rules;
    plain.n_attachments = policy->n_attachments;
    plain.attachments = policy->attachments;
    json_t *object = export_new_object(kind->name, all->project);
    bool ok = object && export_add_resource(all->apply, object, kind->shape.type, &plain.base) && put_names(all, object) &&
              (is_published(policy) || export_add(object, kind->step, json_false()));
    if (policy->published_version > 0 && !is_published(policy))
        fprintf(stderr, "Policy %s is written with publish: false: %s.\n", policy->name,
                policy->disabled ? "it is disabled" : "its draft is not what is in force");
    return export_print_object(all->apply, object, ok);
}

/* ---- all of a project, or of the organization ---- */

/* A listing without a project is of all of them. */
static void keep_those_of(struct export_policies *all, const char *project_id)
{
    size_t kept = 0;
    for (size_t i = 0; i < all->policy_count; i++)
        if (!strcmp(policy_at(all, i)->project_id, project_id))
            all->policies[kept++] = all->policies[i];
    all->policy_count = kept;
}

struct adding {
    const struct export_policies *all;
    struct export_models *models;
};

static int add_model(void *context, const char *id)
{
    const struct adding *adding = context;
    return export_find(adding->all->models, adding->all->model_count, id) ? export_models_add(adding->all->apply, adding->models, id)
                                                                          : CLI_OK;
}

int export_policies_read(struct apply *apply, const char *project_id, struct export_models *models, struct export_policies *out)
{
    Forge__V1__ListPoliciesRequest request = FORGE__V1__LIST_POLICIES_REQUEST__INIT;
    Forge__V1__ListProjectsRequest project_request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    Forge__V1__ListAiModelsRequest model_request = FORGE__V1__LIST_AI_MODELS_REQUEST__INIT;
    struct adding adding = {out, models};
    out->apply = apply;
    field_set_text(&request.base, "project_id", project_id);
    request.view = FORGE__V1__POLICY_VIEW__POLICY_VIEW_FULL;
    int code = apply_list(apply, FORGE_METHOD_POLICY_LIST, &request.base, &out->policies, &out->policy_count);
    if (code == CLI_OK)
        keep_those_of(out, project_id);
    if (code != CLI_OK || !out->policy_count)
        return code;
    code = apply_list(apply, FORGE_METHOD_PROJECT_LIST, &project_request.base, &out->projects, &out->project_count);
    if (code == CLI_OK)
        code = apply_list(apply, FORGE_METHOD_ORGANIZATION_LIST_AI_MODELS, &model_request.base, &out->models, &out->model_count);
    for (size_t i = 0; code == CLI_OK && i < out->policy_count; i++)
        code = each_model(policy_at(out, i), add_model, &adding);
    return code;
}

int export_policies_print(struct export_policies *all)
{
    int code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < all->policy_count; i++) {
        const char *reason = why_not(all, policy_at(all, i));
        if (reason)
            fprintf(stderr, "Policy %s is left out: %s.\n", policy_at(all, i)->name, reason);
        else
            code = print_policy(all, policy_at(all, i));
    }
    return code;
}

int export_policies_all(struct apply *apply)
{
    struct export_models models = {0};
    struct export_policies policies = {.project = NULL};
    int code = export_policies_read(apply, "", &models, &policies);
    if (code == CLI_OK)
        code = export_models_print(apply, &models);
    return code == CLI_OK ? export_policies_print(&policies) : code;
}
