/* What WatchPrompts waits for: whoever learns of a change of a project's prompts wakes its key (rpc_wake). */
#ifndef SERVER_SERVICE_PROMPT_WATCH_H
#define SERVER_SERVICE_PROMPT_WATCH_H

#include "wire/uuid.h"

#define PROMPT_WATCH_KEY_PREFIX "prompts "
enum { PROMPT_WATCH_KEY_SIZE = 48 };
/* Of changes of kind "prompt" and "prompt_delete" by their parent, of kind "project" by their object. */
void prompt_watch_key(const struct forge_uuid *project_id, char out_key[PROMPT_WATCH_KEY_SIZE]);

#endif
