/* Spans on their way to the server. */
#ifndef FORGECTL_SPAN_BATCH_H
#define FORGECTL_SPAN_BATCH_H

#include "cli.h"

enum { SPAN_BATCH = 1000 }; /* of one call */

struct span_batch {
    Forge__V1__Span *spans[SPAN_BATCH];
    size_t places[SPAN_BATCH]; /* what the caller knows each by: its line, its index */
    size_t count;
};

/* Of one command: zero it, then set the project. */
struct span_sender {
    struct cli *cli;
    char *project_id;
    unsigned waits; /* how often it has waited for a server that is not ready for some spans */
};

/* Sends them, and those again that the server may accept later: one that has just been started is still making the storage for the day.
 * settle is called once for each with what became of it. The batch is used up. CLI_OK, also where some are rejected, or an exit code after
 * printing the error. */
int span_batch_send(struct span_sender *sender, struct span_batch *batch,
                    void (*settle)(void *context, size_t place, const Forge__V1__SpanVerdict *verdict), void *context);

#endif
