/* Evaluators (proto/forge/v1/evaluation.proto, messages Evaluator and those of its config) as pure functions: an output is judged by
 * itself, the expected output, latency and cost. Nothing here waits or has state; the worst cost of one call is in evaluation.proto and in
 * the headers of this folder, which say the source of each algorithm. */
#ifndef SERVER_EVALUATE_EVALUATE_H
#define SERVER_EVALUATE_EVALUATE_H

#include "wire/arena.h"
#include "wire/status.h"

#include "forge/v1/evaluation.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EVALUATE_EVALUATORS_MAX = 32,
    EVALUATE_NAME_BYTES_MAX = 64,
    EVALUATE_WEIGHT_MAX = 1000,
    EVALUATE_VALUES_MAX = 64,
    EVALUATE_VALUE_CHARACTERS_MAX = 4096,
    EVALUATE_DESCRIPTION_CHARACTERS_MAX = 1024,
    EVALUATE_EXPLANATION_CHARACTERS_MAX = 4096
};

/* The evaluators of one evaluation with what they need (compiled patterns, schemas). Immutable: any thread, many at once. */
struct evaluate_set;

/* What an output is judged by. Texts are terminated, well-formed UTF-8; NULL stands for the empty text. */
struct evaluate_subject {
    const char *output, *expected;
    bool has_latency, has_cost;
    int64_t latency_us, cost_micros;
};
struct evaluate_score {
    double score; /* 0 to 1 */
    bool passed;  /* score >= the evaluator's threshold */
    const char *explanation;
    uint64_t work; /* what judging cost: bytes looked at and steps taken, at most some 3 ns of a core each; the same for the same output */
};
struct evaluate_total {
    double score; /* weighted mean of the scores, 0 to 1 */
    bool passed;  /* score >= pass_threshold, and every required evaluator passed */
};

/* Checks the evaluators and prepares them; the messages are not needed afterwards. INVALID_ARGUMENT: each fault is added to *error as a
 * violation in the arena, with a path such as "evaluators[2].regex.pattern"; code and message of *error stay as they are.
 * RESOURCE_EXHAUSTED: no memory. The caller frees *out, which is NULL after a failure. Compiling costs up to some 10 ms for each pattern
 * and schema. */
forge_code evaluate_prepare(const Forge__V1__Evaluator *const *evaluators, size_t count, struct forge_arena *arena,
                            struct forge_error *error, struct evaluate_set **out) FORGE_MUST_CHECK;
/* Accepts NULL. */
void evaluate_set_free(struct evaluate_set *set);

size_t evaluate_count(const struct evaluate_set *set);
/* As given, or the name of its kind. Lives as long as the set. */
const char *evaluate_name(const struct evaluate_set *set, size_t index);
/* Whether the caller judges: its score comes with the result. */
bool evaluate_is_external(const struct evaluate_set *set, size_t index);

/* Judges by the evaluator at index, which is not external. The explanation lives in the arena, at most 4,096 characters; "" where a full
 * score says it all. RESOURCE_EXHAUSTED: no memory; *out is untouched. */
forge_code evaluate_output(const struct evaluate_set *set, size_t index, const struct evaluate_subject *subject, struct forge_arena *arena,
                           struct evaluate_score *out) FORGE_MUST_CHECK;
/* Whether a score that the caller gave, 0 to 1, passes. */
bool evaluate_external_passes(const struct evaluate_set *set, size_t index, double score);

/* Of evaluate_count() scores, in their order. pass_threshold: 0 to 1. */
struct evaluate_total evaluate_total(const struct evaluate_set *set, const struct evaluate_score *scores, double pass_threshold);

#endif
