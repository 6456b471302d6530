#include "forge/split.h"

#include "wire/split.h"

enum { TARGETS_MAX = 16 };

int32_t forge_prompt_version_for(const Forge__V1__Prompt *prompt, const char *subject)
{
    struct forge_split_target targets[TARGETS_MAX];
    size_t count = prompt->n_label_targets;
    if (count == 0 || count > TARGETS_MAX)
        return prompt->version;
    for (size_t i = 0; i < count; i++) {
        targets[i] = (struct forge_split_target){prompt->label_targets[i]->version, prompt->label_targets[i]->weight};
        if (targets[i].weight < 1)
            return prompt->version; /* no server says so */
    }
    return forge_split_version(forge_split_number(prompt->id, prompt->label, subject != NULL ? subject : ""), targets, count);
}
