/* Projects and models that a policy names: manifests and files have names where requests have ids. */
#ifndef FORGECTL_POLICY_NAMES_H
#define FORGECTL_POLICY_NAMES_H

#include "cli.h"

/* How a name becomes an id. Each returns CLI_OK with an id, or an exit code after printing what is wrong. */
struct policy_names {
    int (*project)(void *context, const char *name, const char **out_id);
    int (*model)(void *context, const char *provider_and_name, const char **out_id); /* "P\nN", as manifest.h reads it */
    void *context;
};

/* Replaces the names in rules and attachments. */
int policy_names_replace(const struct policy_names *names, struct forge_arena *arena, Forge__V1__PolicyRule *const *rules,
                         size_t rule_count, Forge__V1__PolicyAttachment *const *attachments, size_t attachment_count);

#endif
