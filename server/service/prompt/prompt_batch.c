/* PromptService: many prompts in one call. */
#include "service/prompt/prompt.h"
#include "service/reply.h"

#include "rpc_table.h"

enum { REQUESTS_MAX = 100, REPLY_MARGIN_BYTES = 64 << 10 /* for codes and messages of the other items */ };

/* Does this code speak of the item, and not of the call, the server or the database? */
static bool is_verdict(forge_code code)
{
    return code == FORGE_INVALID_ARGUMENT || code == FORGE_NOT_FOUND || code == FORGE_PERMISSION_DENIED ||
           code == FORGE_FAILED_PRECONDITION || code == FORGE_DATA_LOSS;
}

static void verdict_set(struct rpc_call *call, forge_code code, Forge__V1__BatchGetPromptsResult *result)
{
    result->code = (Forge__V1__Code)code;
    result->message = forge_arena_strdup(call->arena, call->error.message);
    call->error = (struct forge_error){0};
}

/* One flight for each item, so that an item is answered by what answers GetPrompt. *used: bytes of the prompts so far. What no longer fits
 * is not even read. */
static forge_code item_answer(struct rpc_call *call, const Forge__V1__GetPromptRequest *in, size_t *used,
                              Forge__V1__BatchGetPromptsResult *result)
{
    const size_t reply_max = rpc_server_settings(call->server)->reply_max;
    Forge__V1__Prompt *prompt = reply_message(call, &forge__v1__prompt__descriptor);
    if (prompt == NULL)
        return FORGE_OK; /* rpc sees the overflow */
    forge_code rc = FORGE_OK;
    size_t size = 0;
    if (*used < PROMPT_REPLY_CONTENT_BYTES_MAX) {
        rc = prompt_answer(call, in, prompt);
        size = rc == FORGE_OK && !forge_arena_has_overflowed(call->arena) ? protobuf_c_message_get_packed_size(&prompt->base) : 0;
    }
    if (rc == FORGE_OK && (*used >= PROMPT_REPLY_CONTENT_BYTES_MAX || (*used > 0 && *used + size + REPLY_MARGIN_BYTES > reply_max)))
        rc = rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the reply is full: ask again for this prompt");
    else if (rc != FORGE_OK && !is_verdict(rc))
        return rc;
    if (rc != FORGE_OK) {
        verdict_set(call, rc, result);
        return FORGE_OK;
    }
    result->message = forge_arena_strdup(call->arena, "");
    result->prompt = prompt;
    prompt_count_read(call, prompt->project_id);
    *used += size;
    return FORGE_OK;
}

forge_code prompt_batch_get(struct rpc_call *call, const Forge__V1__BatchGetPromptsRequest *in, Forge__V1__BatchGetPromptsResponse *out)
{
    if (in->n_requests < 1 || in->n_requests > REQUESTS_MAX) {
        rpc_call_violation(call, "requests", "must be 1 to %d", REQUESTS_MAX);
        return rpc_call_invalid(call);
    }
    size_t used = 0;
    out->results = forge_arena_calloc(call->arena, in->n_requests, sizeof out->results[0]);
    for (size_t i = 0; out->results != NULL && i < in->n_requests; i++) {
        Forge__V1__BatchGetPromptsResult *result = reply_message(call, &forge__v1__batch_get_prompts_result__descriptor);
        if (result == NULL)
            return FORGE_OK; /* rpc sees the overflow */
        forge_code rc = item_answer(call, in->requests[i], &used, result);
        if (rc != FORGE_OK)
            return rc;
        out->results[out->n_results++] = result;
    }
    return FORGE_OK;
}
