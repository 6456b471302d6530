/* Rates of CheckPolicies, counted over all servers: sliding window counters over sub-windows (as in "How we built rate limiting capable of
 * scaling to millions of domains", Cloudflare 2017, and "An alternative approach to rate limiting", Figma 2017).
 *
 * A window is cut into 30 sub-windows by the wall clock, each a row of rate_windows that all servers add to. A sub-window counts until its
 * end has left the window, so never more than the limit passes in any window of one server, and at worst 1/30 less. Each server keeps what
 * it let pass since it last talked to the database in memory, at most 1/50 of the limit: what goes beyond is added and the others' counts
 * are read in the call itself, before it passes. So with s servers at most s/50 too many pass in a window: within 10 % for up to five
 * servers, and exact where the limit is below 50. Once a second all counts are exchanged by the thread of count.h. Clocks of the servers
 * must agree to a fraction of a sub-window.
 *
 * A call that is refused by a limit is not counted for it. */
#ifndef SERVER_SERVICE_POLICY_RATE_H
#define SERVER_SERVICE_POLICY_RATE_H

#include "base/metrics.h"
#include "db/pool.h"
#include "service/policy/book.h"

enum { POLICY_RATE_KEY_MAX = 300 /* bytes, as rate_windows.key has room for */ };

struct policy_rates;
struct policy_rates_config {
    struct db_pool *pool;
    struct forge_byte_budget *budget;
    struct base_metrics *metrics;
};
forge_code policy_rates_new(const struct policy_rates_config *config, struct policy_rates **out,
                            struct forge_error *error) FORGE_MUST_CHECK;
void policy_rates_free(struct policy_rates *rates); /* accepts NULL */

/* Counts a call with so many tokens under a key ("project:<id>"). *out_retry_after_ms: 0 = it passes; else it does not, and how long until
 * one like it may. Uses call->db where the database must be asked (rpc_call_connect); its failures are call->error's. */
forge_code policy_rate_take(struct policy_rates *rates, struct rpc_call *call, const struct forge_uuid *policy_id,
                            const struct policy_rate_rule *rule, const char *key, int64_t tokens,
                            int64_t *out_retry_after_ms) FORGE_MUST_CHECK;
/* Exchanges counts with the other servers, within until_ns. The thread of count.h. */
void policy_rates_flush(struct policy_rates *rates, uint64_t until_ns);

#endif
