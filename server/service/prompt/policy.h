/* Policies on prompt versions: on new ones, and on those that a label is moved to. Private to the prompt service.
 *
 * Both are decided behind what the handler has written, in its transaction, so that the replay of a write that was acknowledged is never
 * refused. A version is never rewritten: where a rule says mask it is stored as it is and a violation notes it. */
#ifndef SERVER_SERVICE_PROMPT_POLICY_H
#define SERVER_SERVICE_PROMPT_POLICY_H

#include "service/prompt/content.h"

#include "forge/v1/prompt.pb-c.h"

/* Of a prompt, or a version, that the handler has just made, as its reply tells it. FAILED_PRECONDITION, POLICY_BLOCKED: what the handler
 * wrote is rolled back, and the violation is written in a transaction of its own. Block. */
forge_code prompt_policy_check_new(struct rpc_call *call, const struct forge_uuid *project_id, const struct forge_uuid *prompt_id,
                                   const struct prompt_content *content, const Forge__V1__Prompt *prompt) FORGE_MUST_CHECK;
forge_code prompt_policy_check_version(struct rpc_call *call, const struct forge_uuid *project_id, const struct forge_uuid *prompt_id,
                                       const struct prompt_content *content, const Forge__V1__PromptVersion *version) FORGE_MUST_CHECK;
/* Of the versions that a label points at which it did not before, by the policies that are attached to it. As above. */
forge_code prompt_policy_check_label(struct rpc_call *call, const struct forge_uuid *project_id, const struct forge_uuid *prompt_id,
                                     const Forge__V1__LabelMove *move) FORGE_MUST_CHECK;

#endif
