/* Is a difference between two evaluations of the same items more than chance? Tests for paired data, two-sided. Pure functions, any thread.
 */
#ifndef SERVER_EVALUATE_SIGNIFICANCE_H
#define SERVER_EVALUATE_SIGNIFICANCE_H

#include <stddef.h>
#include <stdint.h>

/* McNemar's test in its exact form: of the items whose outcome changed, as many as baseline_only passed only before and candidate_only pass
 * only now; under chance each goes either way with probability 1/2, so the p-value is min(1, 2 * P(X <= the smaller one)) with X binomial
 * (n, 1/2). 1 when nothing changed. Source: McNemar 1947, doi:10.1007/BF02295996; exact form: Fay 2010, doi:10.1093/biostatistics/kxp050.
 * Counts are not negative. */
double evaluate_mcnemar_p(int64_t baseline_only, int64_t candidate_only);

/* Wilcoxon's signed-rank test on differences without zeros. Source: Wilcoxon 1945, doi:10.2307/3001968. */
enum { EVALUATE_WILCOXON_EXACT_MAX = 25 };
/* Exact, for at most EVALUATE_WILCOXON_EXACT_MAX differences: over all 2^count ways to give the ranks signs. ranks are those of the
 * absolute differences, from 1, ties with their mean rank (so multiples of 1/2); rank_sum: of the positive differences. The p-value is
 * min(1, 2 * P(a rank sum <= the smaller of the two sums)). 1 for no differences. */
double evaluate_wilcoxon_exact_p(const double *ranks, size_t count, double rank_sum);
/* By normal approximation without continuity correction: mean n(n+1)/4, variance n(n+1)(2n+1)/24 - tie_sum/48, where tie_sum is the sum of
 * t^3 - t over the groups of t equal absolute differences. 1 when the variance is 0. */
double evaluate_wilcoxon_normal_p(int64_t count, double rank_sum, double tie_sum);

#endif
