/* What is said about each of many spans. */
#ifndef FORGECTL_SPAN_SCORES_H
#define FORGECTL_SPAN_SCORES_H

#include "cli.h"

/* Lists the scores of each span of a page, many calls at a time; the channel must be open. out_replies gets a ListScoresResponse for each
 * span, which the caller frees with cli_free; NULL where it failed. CLI_OK, or an exit code after printing the first error. */
int span_scores_list(struct cli *cli, const char *project_id, const Forge__V1__GetTraceResponse *page, ProtobufCMessage **out_replies);

#endif
