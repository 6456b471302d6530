#include "result_batch.h"

static bool is_put_off(const Forge__V1__AddResultsVerdict *result)
{
    const Forge__V1__ItemVerdict *verdict = result->verdict;
    return verdict && verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED && verdict->retryable;
}

int result_batch_send(struct cli *cli, const char *evaluation_id, struct result_batch *batch,
                      void (*settle)(void *context, size_t place, const Forge__V1__AddResultsVerdict *verdict), void *context)
{
    Forge__V1__AddResultsRequest request = FORGE__V1__ADD_RESULTS_REQUEST__INIT;
    request.evaluation_id = forge_arena_strdup(&cli->arena, evaluation_id);
    for (bool goes_on = true; goes_on && batch->count;) {
        ProtobufCMessage *message;
        size_t left = 0, sent = batch->count;
        request.results = (Forge__V1__EvaluationResult **)batch->results;
        request.n_results = sent;
        int code = cli_call(cli, &forge_methods[FORGE_METHOD_EVALUATION_ADD_RESULTS], &request.base, &message);
        if (code != CLI_OK)
            return code;
        const Forge__V1__AddResultsResponse *reply = (const Forge__V1__AddResultsResponse *)message;
        for (size_t i = 0; i < sent && i < reply->n_verdicts; i++)
            left += is_put_off(reply->verdicts[i]);
        goes_on = left < sent; /* a call that settles none will not do so the next time */
        batch->count = 0;
        for (size_t i = 0; i < sent && i < reply->n_verdicts; i++) {
            if (!goes_on || !is_put_off(reply->verdicts[i])) {
                settle(context, batch->places[i], reply->verdicts[i]);
                continue;
            }
            batch->results[batch->count] = batch->results[i];
            batch->places[batch->count++] = batch->places[i];
        }
        cli_free(message);
    }
    return CLI_OK;
}
