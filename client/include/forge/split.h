/* Labels that split: which version another subject than the one asked for gets. A cache keeps the prompt with its weights, never the
 * choice, and so asks the server once for all subjects (proto/README.md, Splits). */
#ifndef FORGE_SPLIT_H
#define FORGE_SPLIT_H

#include "forge/api.h"
#include "forge/v1/prompt.pb-c.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version that the server gives this subject (NULL = "") while the label of this reply points where it did. prompt->version when the
 * prompt was not selected by a label. Any thread; does not block. */
FORGE_API int32_t forge_prompt_version_for(const Forge__V1__Prompt *prompt, const char *subject);

#ifdef __cplusplus
}
#endif

#endif
