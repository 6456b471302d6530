/* Answers that are more than a table, as people look at them. Each prints to out as the terminal allows and keeps nothing. */
#ifndef FORGECTL_VIEW_H
#define FORGECTL_VIEW_H

#include "forge/forge.h"
#include "terminal.h"

/* The unified differences of two versions: what was added green, what was removed red. */
void view_diff(FILE *out, const struct terminal *terminal, const Forge__V1__DiffPromptVersionsResponse *diff);
/* Bars: the share of successes of each version and of all, then how often each rating was given. Nothing without executions, but for
 * how many archived ones a range leaves out. */
void view_stats(FILE *out, const struct terminal *terminal, const Forge__V1__PromptStats *stats);

/* Figures of a trace and the scores of the trace itself. */
void view_trace(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const Forge__V1__Trace *trace,
                Forge__V1__Score *const *scores, size_t score_count);

/* The columns of a waterfall: what the first page of spans and the figures of the trace ask for, in what the terminal has. */
struct view_waterfall {
    int64_t start_ns, duration_ns;     /* of the trace: what the bars are laid along */
    unsigned columns;                  /* of the terminal */
    unsigned label, bar, tokens, cost; /* columns of each; 0 = left out */
    bool is_full;                      /* with inputs and outputs, and nothing cut off but names */
};
void view_waterfall_begin(FILE *out, const struct terminal *terminal, const Forge__V1__GetTraceResponse *first_page, bool is_full,
                          struct view_waterfall *waterfall);
/* A span in its place: name and kind, bar, figures; below it what went wrong, its scores and, in full, its input and output. */
void view_waterfall_span(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const struct view_waterfall *waterfall,
                         const Forge__V1__SpanNode *node, Forge__V1__Score *const *scores, size_t score_count);

/* A table of counts, percentiles, tokens, cost and scores by group and interval, then a bar for each 95th percentile. */
void view_trace_stats(FILE *out, const struct terminal *terminal, struct forge_arena *arena, const Forge__V1__GetTraceStatsResponse *stats);

/* What policies say of a text: what to do, each finding with its places marked, the masked texts. */
void view_policy_check(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                       const Forge__V1__CheckPoliciesRequest *request, const Forge__V1__CheckPoliciesResponse *answer);

/* Level of significance where none is given. */
#define VIEW_ALPHA 0.05

/* Counts of a comparison, the verdict of each test at level alpha, and the items of the page. */
void view_comparison(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                     const Forge__V1__CompareEvaluationsResponse *comparison, double alpha);
/* Does one of the tests say that the candidate is worse, at level alpha? */
bool view_comparison_is_worse(const Forge__V1__CompareEvaluationsResponse *comparison, double alpha);

#endif
