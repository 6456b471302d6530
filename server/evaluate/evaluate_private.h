/* What preparing (prepare.c) and judging (evaluate.c) share. */
#ifndef SERVER_EVALUATE_EVALUATE_PRIVATE_H
#define SERVER_EVALUATE_EVALUATE_PRIVATE_H

#include "evaluate/evaluate.h"

struct evaluate_pattern;
struct json_schema;

struct evaluate_value {
    char *text; /* folded where case is ignored */
    size_t size;
};
struct evaluator {
    char name[EVALUATE_NAME_BYTES_MAX + 1];
    double weight, threshold;
    bool required;
    Forge__V1__Evaluator__ConfigCase kind;
    bool ignore_case, trim, any, negate;
    struct evaluate_value *values; /* of contains */
    size_t value_count;
    struct evaluate_pattern *pattern;
    double absolute_tolerance, relative_tolerance;
    struct json_schema *schema;
    int64_t latency_max_ms, cost_max_micros;
};
struct evaluate_set {
    size_t count;
    struct evaluator evaluators[EVALUATE_EVALUATORS_MAX];
};

#endif
