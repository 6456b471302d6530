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

/* Level of significance where none is given. */
#define VIEW_ALPHA 0.05

/* Counts of a comparison, the verdict of each test at level alpha, and the items of the page. */
void view_comparison(FILE *out, const struct terminal *terminal, struct forge_arena *arena,
                     const Forge__V1__CompareEvaluationsResponse *comparison, double alpha);
/* Does one of the tests say that the candidate is worse, at level alpha? */
bool view_comparison_is_worse(const Forge__V1__CompareEvaluationsResponse *comparison, double alpha);

#endif
