/* Text templates with {{variable}} placeholders, the same on server and client.
 *
 * A placeholder is "{{", optional spaces, a name ([A-Za-z_][A-Za-z0-9_.-]{0,63}), optional spaces, "}}". "\{{" stands for
 * a literal "{{". Substituted values are not scanned again, so a value can never inject a placeholder. */
#ifndef FORGE_WIRE_TEMPLATE_H
#define FORGE_WIRE_TEMPLATE_H

#include "wire/arena.h"
#include "wire/status.h"

#include <stddef.h>

enum { FORGE_TEMPLATE_NAMES_MAX = 1000 }; /* different names in one template */

struct forge_template_variable {
    const char *name;
    const char *value;
};
struct forge_template_names {
    const char **names; /* in the arena, each once, in order of first appearance */
    size_t count;
};

/* Collects the names a template uses. INVALID_ARGUMENT (message names line and column) for an unterminated or malformed
 * placeholder, and above FORGE_TEMPLATE_NAMES_MAX. */
forge_code forge_template_scan(const char *text, struct forge_arena *arena, struct forge_template_names *names,
                               struct forge_error *error) FORGE_MUST_CHECK;

/* Substitutes. A name without a value is a violation "variables.<name>" on error; so is an unknown variable where names of
 * several templates are checked together by the caller. RESOURCE_EXHAUSTED when the result would exceed result_max bytes. */
forge_code forge_template_render(const char *text, const struct forge_template_variable *variables, size_t variable_count,
                                 size_t result_max, struct forge_arena *arena, char **out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
