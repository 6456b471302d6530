/* Results of an evaluation on their way to the server. */
#ifndef FORGECTL_RESULT_BATCH_H
#define FORGECTL_RESULT_BATCH_H

#include "cli.h"

enum { RESULT_BATCH = 1000 }; /* of one call */

struct result_batch {
    ProtobufCMessage *results[RESULT_BATCH]; /* EvaluationResult */
    size_t places[RESULT_BATCH];             /* what the caller knows each by: its line, its index */
    size_t count;
};

/* Sends them, and those again that the server puts off because judging all of them is too much for one call. settle is called once for each
 * with what became of it. The batch is used up. CLI_OK, also where some are rejected, or an exit code after printing the error. */
int result_batch_send(struct cli *cli, const char *evaluation_id, struct result_batch *batch,
                      void (*settle)(void *context, size_t place, const Forge__V1__AddResultsVerdict *verdict), void *context);

#endif
