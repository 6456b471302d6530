#include "span_batch.h"

#include <time.h>

enum { WAITS_MAX = 20, WAIT_NS = 250000000 };

static bool is_put_off(const Forge__V1__SpanVerdict *span)
{
    const Forge__V1__ItemVerdict *verdict = span->verdict;
    return verdict && verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED && verdict->retryable;
}

/* Settles what is decided; the rest is the batch. */
static void sift(struct span_batch *batch, const Forge__V1__IngestSpansResponse *reply, bool settles_all,
                 void (*settle)(void *context, size_t place, const Forge__V1__SpanVerdict *verdict), void *context)
{
    size_t sent = batch->count;
    batch->count = 0;
    for (size_t i = 0; i < sent && i < reply->n_verdicts; i++) {
        if (settles_all || !is_put_off(reply->verdicts[i])) {
            settle(context, batch->places[i], reply->verdicts[i]);
            continue;
        }
        batch->spans[batch->count] = batch->spans[i];
        batch->places[batch->count++] = batch->places[i];
    }
}

int span_batch_send(struct span_sender *sender, struct span_batch *batch,
                    void (*settle)(void *context, size_t place, const Forge__V1__SpanVerdict *verdict), void *context)
{
    static const struct timespec wait = {.tv_nsec = WAIT_NS};
    Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    request.project_id = sender->project_id;
    while (batch->count) {
        ProtobufCMessage *message;
        request.spans = batch->spans;
        request.n_spans = batch->count;
        int code = cli_call(sender->cli, &forge_methods[FORGE_METHOD_TRACE_INGEST_SPANS], &request.base, &message);
        if (code != CLI_OK)
            return code;
        sift(batch, (const Forge__V1__IngestSpansResponse *)message, sender->waits == WAITS_MAX, settle, context);
        cli_free(message);
        if (!batch->count)
            break;
        sender->waits++;
        nanosleep(&wait, NULL);
    }
    return CLI_OK;
}
