/* Evaluators as people write them on a command line and in files. */
#ifndef FORGECTL_EVALUATOR_H
#define FORGECTL_EVALUATOR_H

#include "cli.h"

#include <jansson.h>

/* "exact", "regex=^OK": an Evaluator. CLI_OK or an exit code after printing what is wrong. */
int evaluator_take(struct cli *cli, const char *text, json_t **out);
/* A YAML (or JSON) file with fields of a CreateEvaluationRequest other than names and ids. CLI_OK or an exit code after printing. */
int evaluator_take_file(struct cli *cli, const char *path, json_t **out);

#endif
