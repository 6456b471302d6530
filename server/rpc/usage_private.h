/* Usage inside of server/rpc: counted on the loops, written by a thread.
 *
 * Each loop has a table of its own, so that its calls meet nobody at the lock but the writer, once per interval. The writer takes all
 * tables, merges them and adds them to usage_daily, one transaction per organization: at volume that is a few rows a second, where an
 * update in each call's transaction would make all calls of a project wait for one row. The price: a killed server loses what it counted
 * since its last flush (at most the interval); one that ends in order loses nothing. */
#ifndef SERVER_RPC_USAGE_PRIVATE_H
#define SERVER_RPC_USAGE_PRIVATE_H

#include "base/metrics.h"
#include "db/pool.h"
#include "rpc/usage.h"

#include <pthread.h>

struct rpc_active;

/* What a handler announced; in the arena of its call. */
struct rpc_usage_amount {
    struct rpc_usage_amount *next;
    Forge__V1__UsageMetric metric;
    struct forge_uuid project_id;
    int64_t value;
};

/* What is counted together. Compared as bytes: all of an organization stand together, in an order that is the same on every server. */
enum { RPC_USAGE_KEY_USE = -1, RPC_USAGE_ACCOUNT_USE = -2 }; /* kinds that are no metric: when a key or service account was used last */
struct rpc_usage_key {
    struct forge_uuid organization_id;
    int32_t kind;                 /* Forge__V1__UsageMetric, or one of the above */
    int32_t day;                  /* since the Unix epoch, in UTC; 0 for uses */
    struct forge_uuid subject_id; /* the project (nil = of none), the key or the account */
};
_Static_assert(sizeof(struct rpc_usage_key) == 40, "no padding between the bytes that are compared");
struct rpc_usage_entry {
    struct rpc_usage_key key;
    int64_t value; /* a sum; of uses the latest time, in microseconds since the Unix epoch */
};

struct rpc_usage_table {
    _Alignas(64) pthread_mutex_t lock;
    void *entries; /* tsearch(3) tree of struct rpc_usage_entry */
};

struct rpc_usage;
struct rpc_usage_config {
    struct db_pool *pool;
    struct forge_byte_budget *budget; /* may be NULL */
    struct base_metrics *metrics;
    unsigned tables; /* one per loop */
    unsigned interval_ms;
};
/* Starts the writer. RESOURCE_EXHAUSTED without memory or thread. */
forge_code rpc_usage_new(const struct rpc_usage_config *config, struct rpc_usage **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Writes what is left, for at most 2 s, and ends the writer. Nobody may count any more. Accepts NULL. */
void rpc_usage_free(struct rpc_usage *usage);
struct rpc_usage_table *rpc_usage_table(struct rpc_usage *usage, unsigned index);

/* Counts a call that has been answered. Thread of the table's loop. */
void rpc_usage_count(struct rpc_usage_table *table, const struct rpc_active *active);

/* usage_flush.c: adds count entries, sorted, all of one organization, to the database: in one transaction, within until_ns. *out_unknown:
 * it may have been committed although the outcome is an error. */
forge_code rpc_usage_write(const struct rpc_usage_config *config, struct rpc_usage_entry *const *entries, size_t count, uint64_t until_ns,
                           bool *out_unknown, struct forge_error *error) FORGE_MUST_CHECK;

#endif
