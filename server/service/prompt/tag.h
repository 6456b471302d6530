/* Tags where other requests of the prompt service name them. Private to the prompt service. */
#ifndef SERVER_SERVICE_PROMPT_TAG_H
#define SERVER_SERVICE_PROMPT_TAG_H

#include "rpc/call.h"

#include <stddef.h>

enum { PROMPT_TAGS_MAX = 64, TAG_NAME_CHARACTERS_MAX = 100 };

/* The field tags of a request: at most so many names, each of them well formed and given once. */
void prompt_tags_check(struct rpc_call *call, size_t count, char **names, size_t count_max);
/* NOT_FOUND that names the first tag asked for that is not among those that exist. */
forge_code prompt_tags_require(struct rpc_call *call, size_t count, char **names, size_t existing_count, char **existing) FORGE_MUST_CHECK;

#endif
