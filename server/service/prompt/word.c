#include "service/prompt/word.h"

#include "db/stmt.h"
#include "service/validate.h"

enum { TEXTS_BESIDE_MESSAGES = 4 };

static forge_code no_memory(struct rpc_call *call)
{
    return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the prompt needs too much memory");
}

/* Name and description first: of a prompt with too many words they are found. */
static bool words_of(struct rpc_call *call, const struct prompt_word_texts *in, struct text_words *out)
{
    const char **texts = forge_arena_calloc(call->arena, in->message_count + TEXTS_BESIDE_MESSAGES, sizeof texts[0]);
    size_t count = 0;
    if (texts == NULL)
        return false;
    texts[count++] = in->name;
    texts[count++] = in->description;
    texts[count++] = in->system_prompt;
    texts[count++] = in->content;
    for (size_t i = 0; i < in->message_count; i++)
        texts[count++] = in->messages[i]->content;
    return text_words(texts, count, PROMPT_WORDS_MAX, call->arena, out);
}

forge_code prompt_words_store(struct rpc_call *call, const struct prompt_word_texts *texts)
{
    struct text_words found;
    struct forge_uuid *ids = forge_arena_calloc(call->arena, 2, sizeof ids[0]); /* live until COMMIT is sent */
    if (ids == NULL || !words_of(call, texts, &found) || !forge_uuid_parse(texts->prompt_id, &ids[0]) ||
        !forge_uuid_parse(texts->project_id, &ids[1]))
        return no_memory(call);
    struct db_stmt *q = db_stmt(call->db, SQL_PROMPT_WORDS_STORE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &ids[0]);
    db_bind_uuid(q, &ids[1]);
    db_bind_text_array(q, (const char *const *)found.words, found.count);
    db_queue(q);
    return FORGE_OK;
}

forge_code prompt_words_store_prompt(struct rpc_call *call, const Forge__V1__Prompt *prompt)
{
    const struct prompt_word_texts texts = {prompt->id,      prompt->project_id, prompt->name,     prompt->description,
                                            prompt->content, prompt->n_messages, prompt->messages, prompt->system_prompt};
    return prompt_words_store(call, &texts);
}

void prompt_words_check(struct rpc_call *call, const char *query, struct text_words *out)
{
    *out = (struct text_words){.count = 0};
    if (query[0] == '\0' || !validate_text(call, "query", query, PROMPT_QUERY_CHARACTERS_MAX) ||
        !text_words(&query, 1, PROMPT_QUERY_WORDS_MAX, call->arena, out)) /* rpc sees an overflow */
        return;
    if (out->has_more)
        rpc_call_violation(call, "query", "must be at most %d words", PROMPT_QUERY_WORDS_MAX);
    else if (out->count == 0)
        rpc_call_violation(call, "query", "has no word");
}
