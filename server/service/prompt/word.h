/* The words by which prompts are found: those of name, description and current content. Private to the prompt service. */
#ifndef SERVER_SERVICE_PROMPT_WORD_H
#define SERVER_SERVICE_PROMPT_WORD_H

#include "rpc/call.h"
#include "text/words.h"

#include "forge/v1/prompt.pb-c.h"

enum { PROMPT_WORDS_MAX = 4096, PROMPT_QUERY_WORDS_MAX = 8, PROMPT_QUERY_CHARACTERS_MAX = 1024 };

/* What a prompt is told as from now on. */
struct prompt_word_texts {
    const char *prompt_id, *project_id, *name, *description;
    const char *content; /* of the current version, as the next three */
    size_t message_count;
    Forge__V1__ChatMessage **messages;
    const char *system_prompt;
};
/* Queues the words behind what the handler has done; they go out with COMMIT. The transaction holds the prompt's lock, and the texts were
 * read or written under it: so the words are those of the last change. */
forge_code prompt_words_store(struct rpc_call *call, const struct prompt_word_texts *texts) FORGE_MUST_CHECK;
/* The same for a prompt that is told as its current version. */
forge_code prompt_words_store_prompt(struct rpc_call *call, const Forge__V1__Prompt *prompt) FORGE_MUST_CHECK;

/* The words of the field query, none where it is empty. Notes what is wrong with it. */
void prompt_words_check(struct rpc_call *call, const char *query, struct text_words *out);

#endif
