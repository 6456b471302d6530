#include "evaluate/significance.h"

#include <assert.h>
#include <math.h>

static double at_most_one(double p)
{
    return p < 1 ? p : 1;
}

double evaluate_mcnemar_p(int64_t baseline_only, int64_t candidate_only)
{
    double n = (double)baseline_only + (double)candidate_only;
    int64_t smaller = baseline_only < candidate_only ? baseline_only : candidate_only;
    if (n == 0 || baseline_only == candidate_only)
        return 1;
    /* From the largest term down, C(n, k-1) = C(n, k) * k / (n-k+1): no sum of numbers of very different size, and an end where terms no
     * longer count. */
    double term = exp(lgamma(n + 1) - lgamma((double)smaller + 1) - lgamma(n - (double)smaller + 1) - n * M_LN2), sum = term;
    for (int64_t k = smaller; k > 0 && term > sum * 1e-17; k--) {
        term *= (double)k / (n - (double)k + 1);
        sum += term;
    }
    return at_most_one(2 * sum);
}

double evaluate_wilcoxon_exact_p(const double *ranks, size_t count, double rank_sum)
{
    /* Twice the ranks are whole numbers. ways[s]: in how many ways ranks can be chosen whose doubled sum is s. */
    enum { SUM_MAX = EVALUATE_WILCOXON_EXACT_MAX * (EVALUATE_WILCOXON_EXACT_MAX + 1) };
    double ways[SUM_MAX + 1] = {1};
    long total = 0;
    assert(count <= EVALUATE_WILCOXON_EXACT_MAX);
    for (size_t i = 0; i < count; i++) {
        long doubled = lround(2 * ranks[i]);
        assert(doubled > 0 && total + doubled <= SUM_MAX);
        for (long sum = total; sum >= 0; sum--)
            ways[sum + doubled] += ways[sum];
        total += doubled;
    }
    long positive = lround(2 * rank_sum), smaller = positive < total - positive ? positive : total - positive;
    double below = 0;
    for (long sum = 0; sum <= smaller; sum++)
        below += ways[sum];
    return at_most_one(ldexp(2 * below, -(int)count));
}

double evaluate_wilcoxon_normal_p(int64_t count, double rank_sum, double tie_sum)
{
    double n = (double)count, mean = n * (n + 1) / 4, variance = n * (n + 1) * (2 * n + 1) / 24 - tie_sum / 48;
    return variance > 0 ? erfc(fabs(rank_sum - mean) / sqrt(variance) / M_SQRT2) : 1;
}
