#include "rpc/usage_private.h"

#include "base/log.h"
#include "rpc/state.h"
#include "wire/clock.h"

#include <search.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GROUP_MAX = 1000 /* entries of one transaction */, FLUSH_MS = 5000, LAST_FLUSH_MS = 2000 };
static const int64_t day_us = INT64_C(86400) * 1000000;

static const char *const metric_names[] = {
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_CALLS] = "calls",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_PROMPT_READS] = "prompt_reads",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_EXECUTIONS] = "executions",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_SPANS] = "spans",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_SPAN_BYTES] = "span_bytes",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_SCORES] = "scores",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_EVALUATION_RESULTS] = "evaluation_results",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_POLICY_CHECKS] = "policy_checks",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_TOKENS] = "tokens",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_COST_MICROS] = "cost_micros",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_PROMPTS] = "prompts",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_PROJECTS] = "projects",
    [FORGE__V1__USAGE_METRIC__USAGE_METRIC_USERS] = "users",
};
enum { METRIC_NAMES = sizeof metric_names / sizeof metric_names[0] };

const char *rpc_usage_metric_name(Forge__V1__UsageMetric metric)
{
    return metric > 0 && (size_t)metric < METRIC_NAMES ? metric_names[metric] : NULL;
}

Forge__V1__UsageMetric rpc_usage_metric_find(const char *name)
{
    for (int i = 1; i < (int)METRIC_NAMES; i++)
        if (strcmp(metric_names[i], name) == 0)
            return (Forge__V1__UsageMetric)i;
    return FORGE__V1__USAGE_METRIC__USAGE_METRIC_UNSPECIFIED;
}

/* --- counting -------------------------------------------------------------------------------------------------------- */

void rpc_usage_add(struct rpc_call *call, Forge__V1__UsageMetric metric, const struct forge_uuid *project_id, int64_t amount)
{
    struct rpc_active *active = rpc_active_of(call);
    struct rpc_usage_amount *last = active->usage;
    if (last && last->metric == metric && forge_uuid_equal(&last->project_id, project_id)) {
        last->value += amount;
        return;
    }
    struct rpc_usage_amount *added = forge_arena_alloc(call->arena, sizeof *added);
    if (!added)
        return; /* the arena has overflowed: the call is not going to be answered OK */
    *added = (struct rpc_usage_amount){.next = last, .metric = metric, .project_id = *project_id, .value = amount};
    active->usage = added;
}

static int compare(const void *a, const void *b)
{
    return memcmp(&((const struct rpc_usage_entry *)a)->key, &((const struct rpc_usage_entry *)b)->key, sizeof(struct rpc_usage_key));
}

/* Without memory for a new entry its number is lost: no call fails because it cannot be counted. */
static void put(void **entries, const struct rpc_usage_entry *entry)
{
    struct rpc_usage_entry **found = tfind(entry, entries, compare);
    if (found) {
        if (entry->key.kind >= 0)
            (*found)->value += entry->value;
        else if (entry->value > (*found)->value)
            (*found)->value = entry->value;
        return;
    }
    struct rpc_usage_entry *added = malloc(sizeof *added);
    if (!added)
        return;
    *added = *entry;
    if (!tsearch(added, entries, compare))
        free(added);
}

static void put_of(struct rpc_usage_table *table, const struct forge_uuid *organization_id, int32_t kind, int32_t day,
                   const struct forge_uuid *subject_id, int64_t value)
{
    const struct rpc_usage_entry entry = {.key = {.organization_id = *organization_id, .kind = kind, .day = day, .subject_id = *subject_id},
                                          .value = value};
    put(&table->entries, &entry);
}

void rpc_usage_count(struct rpc_usage_table *table, const struct rpc_active *active)
{
    const struct auth_principal *principal = &active->call.principal;
    const struct forge_uuid *organization_id = &principal->organization_id;
    if (!active->authenticated || forge_uuid_is_nil(organization_id))
        return; /* public methods, and operators: they belong to no tenant */
    int64_t now_us = active->call.now_us;
    int32_t day = (int32_t)(now_us / day_us);
    pthread_mutex_lock(&table->lock);
    put_of(table, organization_id, FORGE__V1__USAGE_METRIC__USAGE_METRIC_CALLS, day, &principal->project_id, 1);
    if (principal->kind == AUTH_API_KEY)
        put_of(table, organization_id, RPC_USAGE_KEY_USE, 0, &principal->id, now_us);
    if (!forge_uuid_is_nil(&principal->service_account_id))
        put_of(table, organization_id, RPC_USAGE_ACCOUNT_USE, 0, &principal->service_account_id, now_us);
    for (const struct rpc_usage_amount *amount = active->usage; amount && active->code == FORGE_OK; amount = amount->next)
        put_of(table, organization_id, (int32_t)amount->metric, day, &amount->project_id, amount->value);
    pthread_mutex_unlock(&table->lock);
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

enum { OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_UNKNOWN };
static const char *const outcomes[] = {"done", "failed", "unknown"};

struct rpc_usage {
    struct rpc_usage_config config;
    struct rpc_usage_table *tables;
    void *pending; /* as a table's: taken from them, not yet in the database. The writer's own */
    struct base_metric *flushes;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* of stop */
    pthread_cond_t stopping;
    bool stop;
};

static void merge(const void *node, VISIT visit, void *pending)
{
    if (visit == postorder || visit == leaf)
        put(pending, *(struct rpc_usage_entry *const *)node);
}

static void take_tables(struct rpc_usage *usage)
{
    for (unsigned i = 0; i < usage->config.tables; i++) {
        struct rpc_usage_table *table = &usage->tables[i];
        pthread_mutex_lock(&table->lock);
        void *taken = table->entries;
        table->entries = NULL;
        pthread_mutex_unlock(&table->lock);
        twalk_r(taken, merge, &usage->pending);
        tdestroy(taken, free);
    }
}

/* What is pending as an array in the order of its keys. */
struct list {
    struct rpc_usage_entry **entries; /* NULL: count only */
    size_t count;
};

static void list_add(const void *node, VISIT visit, void *user)
{
    struct list *list = user;
    if (visit != postorder && visit != leaf)
        return;
    if (list->entries)
        list->entries[list->count] = *(struct rpc_usage_entry *const *)node;
    list->count++;
}

static struct list list_of(const void *entries)
{
    struct list list = {0};
    twalk_r(entries, list_add, &list);
    list.entries = list.count > 0 ? malloc(list.count * sizeof *list.entries) : NULL;
    list.count = 0;
    if (list.entries)
        twalk_r(entries, list_add, &list);
    return list;
}

/* How many entries from the first on belong together: to one organization, in one transaction. */
static size_t group_size(const struct list *list, size_t first)
{
    size_t end = first + 1;
    while (end < list->count && end - first < GROUP_MAX &&
           forge_uuid_equal(&list->entries[end]->key.organization_id, &list->entries[first]->key.organization_id))
        end++;
    return end - first;
}

static void forget(struct rpc_usage *usage, struct rpc_usage_entry **entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tdelete(entries[i], &usage->pending, compare);
        free(entries[i]);
    }
}

/* False when the database is away. What was not written stays pending. */
static bool write_group(struct rpc_usage *usage, struct rpc_usage_entry **entries, size_t count, uint64_t until_ns)
{
    struct forge_error error = {0};
    bool unknown;
    forge_code code = rpc_usage_write(&usage->config, entries, count, until_ns, &unknown, &error);
    base_metric_add(usage->flushes, code == FORGE_OK ? OUTCOME_DONE : unknown ? OUTCOME_UNKNOWN : OUTCOME_FAILED, 0, 1);
    if (unknown) /* rather not counted than counted twice */
        base_log_failure(BASE_LOG_WARNING, "usage may not have been counted: the connection was lost in its COMMIT", &error);
    else if (code != FORGE_OK)
        base_log_failure(BASE_LOG_WARNING, "usage was not written; it is kept for the next time", &error);
    if (code == FORGE_OK || unknown)
        forget(usage, entries, count);
    return code != FORGE_UNAVAILABLE && code != FORGE_DEADLINE_EXCEEDED;
}

static void flush(struct rpc_usage *usage, unsigned timeout_ms)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    take_tables(usage);
    struct list list = list_of(usage->pending);
    bool goes_on = true;
    for (size_t first = 0, count; first < list.count && goes_on; first += count) {
        count = group_size(&list, first);
        goes_on = write_group(usage, list.entries + first, count, until_ns);
    }
    free(list.entries);
}

/* True when the writer shall end. */
static bool wait_interval(struct rpc_usage *usage)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + (uint64_t)usage->config.interval_ms * 1000000;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    pthread_mutex_lock(&usage->lock);
    while (!usage->stop && pthread_cond_timedwait(&usage->stopping, &usage->lock, &until) == 0)
        continue;
    bool stop = usage->stop;
    pthread_mutex_unlock(&usage->lock);
    return stop;
}

static void *work(void *user)
{
    struct rpc_usage *usage = user;
    while (!wait_interval(usage))
        flush(usage, FLUSH_MS);
    flush(usage, LAST_FLUSH_MS);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static void init_locks(struct rpc_usage *usage)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&usage->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&usage->stopping, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (unsigned i = 0; i < usage->config.tables; i++)
        pthread_mutex_init(&usage->tables[i].lock, NULL);
}

static void start(struct rpc_usage *usage)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    usage->has_thread = pthread_create(&usage->thread, NULL, work, usage) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

forge_code rpc_usage_new(const struct rpc_usage_config *config, struct rpc_usage **out, struct forge_error *error)
{
    static const struct base_metric_label outcome = {"outcome", outcomes, sizeof outcomes / sizeof outcomes[0]};
    struct rpc_usage *usage = calloc(1, sizeof *usage);
    struct rpc_usage_table *tables = aligned_alloc(_Alignof(struct rpc_usage_table), config->tables * sizeof *tables);
    if (!usage || !tables) {
        free(usage);
        free(tables);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for usage");
    }
    memset(tables, 0, config->tables * sizeof *tables);
    *usage = (struct rpc_usage){.config = *config, .tables = tables};
    usage->flushes = base_metric_new(config->metrics, BASE_METRIC_COUNTER, "forged_usage_writes_total",
                                     "Transactions that add counted usage to the database.", &outcome, 1);
    init_locks(usage);
    start(usage);
    if (!usage->has_thread) {
        rpc_usage_free(usage);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for usage");
    }
    *out = usage;
    return FORGE_OK;
}

void rpc_usage_free(struct rpc_usage *usage)
{
    if (!usage)
        return;
    pthread_mutex_lock(&usage->lock);
    usage->stop = true;
    pthread_cond_signal(&usage->stopping);
    pthread_mutex_unlock(&usage->lock);
    if (usage->has_thread)
        pthread_join(usage->thread, NULL);
    for (unsigned i = 0; i < usage->config.tables; i++) {
        tdestroy(usage->tables[i].entries, free);
        pthread_mutex_destroy(&usage->tables[i].lock);
    }
    tdestroy(usage->pending, free);
    pthread_cond_destroy(&usage->stopping);
    pthread_mutex_destroy(&usage->lock);
    free(usage->tables);
    free(usage);
}

struct rpc_usage_table *rpc_usage_table(struct rpc_usage *usage, unsigned index)
{
    return &usage->tables[index];
}
