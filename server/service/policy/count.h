/* What is counted about policies: how often each was evaluated and what came of it (GetPolicyStats), and rates (rate.h). Both are counted
 * in memory; once a second a thread adds them to the database, and a last time when the server ends. A killed server loses that second. */
#ifndef SERVER_SERVICE_POLICY_COUNT_H
#define SERVER_SERVICE_POLICY_COUNT_H

#include "base/metrics.h"
#include "db/pool.h"
#include "service/policy/in_force.h"

enum { POLICY_ACTIONS = FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK + 1 };

/* What a review found by one policy: by the strictest action of its findings, 0 = none. */
struct policy_tally {
    uint32_t by_action[POLICY_ACTIONS];
};

struct policy_counts;
struct policy_rates;

struct policy_counts_config {
    struct db_pool *pool;             /* one connection */
    struct forge_byte_budget *budget; /* may be NULL */
    struct base_metrics *metrics;
};
/* Starts the thread. RESOURCE_EXHAUSTED without memory or thread. */
forge_code policy_counts_new(const struct policy_counts_config *config, struct policy_counts **out,
                             struct forge_error *error) FORGE_MUST_CHECK;
/* Writes what is left, for at most 2 s, and ends the thread. Nobody counts any more. Accepts NULL. */
void policy_counts_free(struct policy_counts *counts);

/* Adds what a review found, on the day of its call. Any thread. */
void policy_counts_add(struct policy_counts *counts, const struct policy_review *review);
struct policy_rates *policy_counts_rates(struct policy_counts *counts);

#endif
