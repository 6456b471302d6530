#include "service/policy/count.h"

#include "base/log.h"
#include "db/column.h"
#include "db/tx.h"
#include "service/policy/book.h"
#include "service/policy/rate.h"
#include "wire/clock.h"

#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    INTERVAL_MS = 1000,
    FLUSH_MS = 5000,
    LAST_FLUSH_MS = 2000,
    GROUP_MAX = 1000 /* entries of one transaction */,
    ARENA_BYTES_MAX = 4 << 20
};
enum { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_UNKNOWN };
static const char *const outcomes[] = {"done", "failed", "unknown"};
static const int64_t day_us = INT64_C(86400) * 1000000;

/* Compared as bytes: all of an organization stand together, in an order that is the same on every server. */
struct key {
    struct forge_uuid organization_id, policy_id, project_id;
    int32_t day; /* since the Unix epoch, in UTC */
};
_Static_assert(sizeof(struct key) == 52, "no padding between the bytes that are compared");
struct day_count {
    struct key key;
    int64_t by_action[POLICY_ACTIONS];
};

struct policy_counts {
    struct policy_counts_config config;
    struct policy_rates *rates;
    struct base_metric *writes;
    pthread_mutex_t lock; /* of entries and stop */
    pthread_cond_t stopping;
    void *entries; /* tsearch(3) tree */
    bool stop, has_thread;
    pthread_t thread;
    void *pending; /* as entries: taken from there, not yet in the database. The thread's own */
};

/* --- counting -------------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct key));
}

/* Without memory for a new entry its numbers are lost: no call fails because it cannot be counted. */
static void put(void **entries, const struct day_count *entry)
{
    struct day_count **found = tfind(entry, entries, compare);
    struct day_count *added = found != NULL ? *found : calloc(1, sizeof *added);
    if (added == NULL)
        return;
    added->key = entry->key;
    for (int i = 0; i < POLICY_ACTIONS; i++)
        added->by_action[i] += entry->by_action[i];
    if (found == NULL && tsearch(added, entries, compare) == NULL)
        free(added);
}

void policy_counts_add(struct policy_counts *counts, const struct policy_review *review)
{
    struct day_count entry = {.key = {.organization_id = review->call->principal.organization_id,
                                      .project_id = review->project_id,
                                      .day = (int32_t)(review->call->now_us / day_us)}};
    pthread_mutex_lock(&counts->lock);
    for (size_t i = 0; i < review->policy_count; i++) {
        uint32_t evaluated = 0;
        entry.key.policy_id = review->book->policies[i].id;
        for (int action = 0; action < POLICY_ACTIONS; action++) {
            entry.by_action[action] = review->tally[i].by_action[action];
            evaluated += review->tally[i].by_action[action];
        }
        if (evaluated > 0)
            put(&counts->entries, &entry);
    }
    pthread_mutex_unlock(&counts->lock);
}

struct policy_rates *policy_counts_rates(struct policy_counts *counts)
{
    return counts->rates;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static void merge(const void *node, VISIT visit, void *pending)
{
    if (visit == postorder || visit == leaf)
        put(pending, *(struct day_count *const *)node);
}

static void take(struct policy_counts *counts)
{
    pthread_mutex_lock(&counts->lock);
    void *taken = counts->entries;
    counts->entries = NULL;
    pthread_mutex_unlock(&counts->lock);
    twalk_r(taken, merge, &counts->pending);
    tdestroy(taken, free);
}

/* Some of what is pending, all of one organization: the first that come after a key. */
struct group {
    struct key after;
    struct day_count *entries[GROUP_MAX];
    size_t count;
};

static void group_add(const void *node, VISIT visit, void *user)
{
    struct group *group = user;
    struct day_count *entry = *(struct day_count *const *)node;
    if ((visit != postorder && visit != leaf) || group->count == GROUP_MAX || compare(&entry->key, &group->after) <= 0)
        return;
    if (group->count == 0 || forge_uuid_equal(&entry->key.organization_id, &group->entries[0]->key.organization_id))
        group->entries[group->count++] = entry;
}

static void queue_stats(struct db_session *session, const struct group *group)
{
    const void *const *rows = (const void *const *)group->entries;
    struct db_stmt *q = db_stmt(session, SQL_POLICY_STATS_ADD);
    db_bind_uuid(q, &group->entries[0]->key.organization_id);
    db_bind_column(q, DB_MEMBER_UUID, offsetof(struct day_count, key.policy_id), rows, group->count);
    db_bind_column(q, DB_MEMBER_UUID, offsetof(struct day_count, key.project_id), rows, group->count);
    db_bind_column(q, DB_MEMBER_INT32, offsetof(struct day_count, key.day), rows, group->count);
    for (size_t i = 0; i < POLICY_ACTIONS; i++)
        db_bind_column(q, DB_MEMBER_INT64, offsetof(struct day_count, by_action) + i * sizeof(int64_t), rows, group->count);
    db_queue(q);
}

static forge_code write_group(struct policy_counts *counts, const struct group *group, uint64_t until_ns, bool *out_unknown,
                              struct forge_error *error)
{
    struct forge_arena arena;
    struct db_session *session = NULL;
    *out_unknown = false;
    forge_arena_init(&arena, ARENA_BYTES_MAX, counts->config.budget);
    forge_code code = db_pool_lease(counts->config.pool, &arena, until_ns, &session, error);
    if (code == FORGE_OK) {
        db_session_bind_tenant(session, &group->entries[0]->key.organization_id);
        db_tx_begin(session);
        queue_stats(session, group);
        code = db_tx_commit(session, out_unknown, error);
    }
    db_pool_release(session);
    forge_arena_done(&arena);
    return code;
}

static void forget(struct policy_counts *counts, const struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        tdelete(group->entries[i], &counts->pending, compare);
        free(group->entries[i]);
    }
}

/* False when the database is away. What was not written stays pending. */
static bool write_stats(struct policy_counts *counts, uint64_t until_ns)
{
    struct group group = {.after = {.day = 0}}; /* no organization has the nil id */
    for (;;) {
        struct forge_error error = {0};
        bool unknown;
        group.count = 0;
        twalk_r(counts->pending, group_add, &group);
        if (group.count == 0)
            return true;
        group.after = group.entries[group.count - 1]->key;
        forge_code code = write_group(counts, &group, until_ns, &unknown, &error);
        base_metric_add(counts->writes, code == FORGE_OK ? OUTCOME_DONE : unknown ? OUTCOME_UNKNOWN : OUTCOME_FAILED, 0, 1);
        if (unknown) /* rather not counted than counted twice */
            base_log_failure(BASE_LOG_WARNING, "checks of policies may not have been counted: the connection was lost in its COMMIT",
                             &error);
        else if (code != FORGE_OK)
            base_log_failure(BASE_LOG_WARNING, "checks of policies were not counted; they are kept for the next time", &error);
        if (code == FORGE_OK || unknown)
            forget(counts, &group);
        if (code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED)
            return false;
    }
}

static void flush(struct policy_counts *counts, unsigned timeout_ms)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    take(counts);
    if (write_stats(counts, until_ns))
        policy_rates_flush(counts->rates, until_ns);
}

/* True when the thread shall end. */
static bool wait_interval(struct policy_counts *counts)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + INTERVAL_MS * UINT64_C(1000000);
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    pthread_mutex_lock(&counts->lock);
    while (!counts->stop && pthread_cond_timedwait(&counts->stopping, &counts->lock, &until) == 0)
        continue;
    bool stop = counts->stop;
    pthread_mutex_unlock(&counts->lock);
    return stop;
}

static void *work(void *user)
{
    struct policy_counts *counts = user;
    while (!wait_interval(counts))
        flush(counts, FLUSH_MS);
    flush(counts, LAST_FLUSH_MS);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static void init_locks(struct policy_counts *counts)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&counts->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&counts->stopping, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void start(struct policy_counts *counts)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    counts->has_thread = pthread_create(&counts->thread, NULL, work, counts) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

forge_code policy_counts_new(const struct policy_counts_config *config, struct policy_counts **out, struct forge_error *error)
{
    static const struct base_metric_label outcome = {"outcome", outcomes, sizeof outcomes / sizeof outcomes[0]};
    const struct policy_rates_config rates = {.pool = config->pool, .budget = config->budget, .metrics = config->metrics};
    struct policy_counts *counts = calloc(1, sizeof *counts);
    if (counts == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for counts of policies");
    counts->config = *config;
    counts->writes = base_metric_new(config->metrics, BASE_METRIC_COUNTER, "forged_policy_count_writes_total",
                                     "Transactions that add counted checks of policies to the database.", &outcome, 1);
    init_locks(counts);
    forge_code code = policy_rates_new(&rates, &counts->rates, error);
    if (code == FORGE_OK)
        start(counts);
    if (code == FORGE_OK && !counts->has_thread)
        code = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for counts of policies");
    if (code != FORGE_OK) {
        policy_counts_free(counts);
        return code;
    }
    *out = counts;
    return FORGE_OK;
}

void policy_counts_free(struct policy_counts *counts)
{
    if (counts == NULL)
        return;
    pthread_mutex_lock(&counts->lock);
    counts->stop = true;
    pthread_cond_signal(&counts->stopping);
    pthread_mutex_unlock(&counts->lock);
    if (counts->has_thread)
        pthread_join(counts->thread, NULL);
    policy_rates_free(counts->rates);
    tdestroy(counts->entries, free);
    tdestroy(counts->pending, free);
    pthread_cond_destroy(&counts->stopping);
    pthread_mutex_destroy(&counts->lock);
    free(counts);
}
