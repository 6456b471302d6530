/* Evaluators as people write them on a command line. */
#ifndef FORGECTL_EVALUATOR_H
#define FORGECTL_EVALUATOR_H

#include "cli.h"

#include <jansson.h>

/* "exact", "regex=^OK": an Evaluator. CLI_OK or an exit code after printing what is wrong. */
int evaluator_take(struct cli *cli, const char *text, json_t **out);

#endif
