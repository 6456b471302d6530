#include "policy_names.h"

#include "apply_fields.h"

static int replace_in_attachment(const struct policy_names *names, Forge__V1__PolicyAttachment *attachment)
{
    const char *id;
    int code = CLI_OK;
    if (attachment->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_PROJECT_ID) {
        code = names->project(names->context, attachment->project_id, &id);
        if (code == CLI_OK)
            field_set_text(&attachment->base, "project_id", id);
    } else if (attachment->target_case == FORGE__V1__POLICY_ATTACHMENT__TARGET_MODEL_ID) {
        code = names->model(names->context, attachment->model_id, &id);
        if (code == CLI_OK)
            field_set_text(&attachment->base, "model_id", id);
    }
    return code;
}

static int replace_in_list(const struct policy_names *names, struct forge_arena *arena, Forge__V1__AllowedModelsRule *rule)
{
    int code = CLI_OK;
    for (size_t i = 0; i < rule->n_model_ids && code == CLI_OK; i++) {
        const char *id;
        code = names->model(names->context, rule->model_ids[i], &id);
        char *copy = code == CLI_OK ? forge_arena_strdup(arena, id) : NULL;
        if (code == CLI_OK && !copy)
            code = cli_fail(CLI_FAILED, "no memory");
        if (copy)
            rule->model_ids[i] = copy;
    }
    return code;
}

int policy_names_replace(const struct policy_names *names, struct forge_arena *arena, Forge__V1__PolicyRule *const *rules,
                         size_t rule_count, Forge__V1__PolicyAttachment *const *attachments, size_t attachment_count)
{
    int code = CLI_OK;
    for (size_t i = 0; i < attachment_count && code == CLI_OK; i++)
        code = replace_in_attachment(names, attachments[i]);
    for (size_t i = 0; i < rule_count && code == CLI_OK; i++)
        if (rules[i]->kind_case == FORGE__V1__POLICY_RULE__KIND_ALLOWED_MODELS)
            code = replace_in_list(names, arena, rules[i]->allowed_models);
    return code;
}
