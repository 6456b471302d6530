/* Text templates with {{variable}} placeholders and {{> prompt}} references, the same on server and client.
 *
 * A placeholder is "{{", optional spaces, a name ([A-Za-z_][A-Za-z0-9_.-]{0,63}), optional spaces, "}}". "\{{" stands for
 * a literal "{{". A reference is "{{", optional spaces, ">", optional spaces, the name of a prompt (1 to 255 characters without control
 * characters and "}}"), what may follow it of "@3" (a version), "@production" (a label) and "@current" (as without), optional spaces, "}}".
 * What follows the last @ selects: a prompt with an @ in its name is named with "@current". Substituted values are not scanned again,
 * so a value can never inject a placeholder or a reference. */
#ifndef FORGE_WIRE_TEMPLATE_H
#define FORGE_WIRE_TEMPLATE_H

#include "wire/arena.h"
#include "wire/status.h"

#include <stddef.h>
#include <stdint.h>

enum {
    FORGE_TEMPLATE_NAMES_MAX = 1000,     /* different names in one template */
    FORGE_TEMPLATE_REFERENCES_MAX = 1000 /* different references in one template */
};

struct forge_template_variable {
    const char *name;
    const char *value;
};
struct forge_template_reference {
    const char *text;  /* as it stands there, without what surrounds it: what tells two of them apart */
    const char *name;  /* of the prompt */
    int32_t version;   /* 0 = by label, or current */
    const char *label; /* NULL = by version, or current */
};
struct forge_template_names {
    const char **names; /* in the arena, as are the references; each once, in order of first appearance */
    size_t count;
    struct forge_template_reference *references;
    size_t reference_count;
};

/* What stands for the placeholders of a template, and by their text for its references. */
struct forge_template_values {
    const struct forge_template_variable *variables, *references;
    size_t variable_count, reference_count;
};

/* Collects the names and references a template uses. INVALID_ARGUMENT (message names line and column) for an unterminated or malformed
 * one, and above FORGE_TEMPLATE_NAMES_MAX or FORGE_TEMPLATE_REFERENCES_MAX. */
forge_code forge_template_scan(const char *text, struct forge_arena *arena, struct forge_template_names *names,
                               struct forge_error *error) FORGE_MUST_CHECK;

/* Substitutes. A name without a value is a violation "variables.<name>" on error, a reference without one INVALID_ARGUMENT; an unknown
 * variable is one where names of several templates are checked together by the caller. RESOURCE_EXHAUSTED when the result would exceed
 * result_max bytes. */
forge_code forge_template_render(const char *text, const struct forge_template_values *values, size_t result_max, struct forge_arena *arena,
                                 char **out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
