/* What a run measured, for people and for programs. */
#ifndef TESTS_LOAD_REPORT_H
#define TESTS_LOAD_REPORT_H

#include "load/options.h"
#include "load/run.h"

#include <stdio.h>

/* A table of the corrected and uncorrected latencies with the failures by status. */
void report_text(FILE *out, const struct options *options, const struct run_result *result);
/* One JSON object; latencies in microseconds. */
void report_json(FILE *out, const struct options *options, const struct run_result *result);

#endif
