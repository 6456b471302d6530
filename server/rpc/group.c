#include "rpc/group.h"

#include "rpc/reply.h"
#include "rpc/workers.h"
#include "wire/clock.h"

#include <signal.h>
#include <stdlib.h>

enum { CALLS_MAX = 256 /* of one group */, GROUP_BYTES_MAX = 256 << 20 };
enum { OUTCOME_ALONE, OUTCOME_TOGETHER, OUTCOME_REDONE };
static const char *const outcomes[] = {"alone", "together", "redone"};

struct rpc_groups {
    struct rpc_server *server;
    struct base_metric *done;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rpc_active *first, *last; /* that wait, by join.next */
    unsigned waiting;
    uint64_t full_since_ms; /* 0 = not full */
    bool stop;
    unsigned thread_count;
    pthread_t threads[];
};

/* Some calls, taken out of those that wait. */
struct group {
    struct rpc_active *calls[CALLS_MAX];
    void *works[CALLS_MAX];
    size_t count;
};

/* --- waiting --------------------------------------------------------------------------------------------------------- */

static void finish(struct rpc_active *active, forge_code code)
{
    active->code = code;
    if (active->join.kind->end != NULL)
        active->join.kind->end(&active->call, active->join.work);
    rpc_active_hand_back(active, RPC_STEP_FINISH);
}

static bool append(struct rpc_groups *groups, struct rpc_active *active, uint32_t *out_retry_after_ms)
{
    uint64_t now_ms = forge_clock_monotonic_ms();
    pthread_mutex_lock(&groups->lock);
    bool has_room = groups->waiting < groups->server->config.queue_ingest;
    if (has_room) {
        active->join.next = NULL;
        if (groups->last != NULL)
            groups->last->join.next = active;
        else
            groups->first = active;
        groups->last = active;
        groups->waiting++;
        pthread_cond_signal(&groups->changed);
    } else if (groups->full_since_ms == 0) {
        groups->full_since_ms = now_ms;
    }
    *out_retry_after_ms = has_room ? 0 : rpc_workers_retry_after_ms(now_ms - groups->full_since_ms);
    pthread_mutex_unlock(&groups->lock);
    return has_room;
}

void rpc_groups_put(struct rpc_groups *groups, struct rpc_active *active)
{
    uint32_t retry_after_ms;
    if (append(groups, active, &retry_after_ms))
        return;
    active->call.error.retry_after_ms = retry_after_ms;
    active->call.error.not_executed = true;
    finish(active, rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "too many calls wait for the database"));
}

static bool goes_together(const struct rpc_active *a, const struct rpc_active *b)
{
    return a->join.kind == b->join.kind && forge_uuid_equal(&a->call.principal.organization_id, &b->call.principal.organization_id);
}

/* The call that has waited longest and those that go with it, up to the kind's weight. Under the lock; somebody waits. */
static void take(struct rpc_groups *groups, struct group *out)
{
    struct rpc_active *head = groups->first, *before = NULL, **link = &groups->first;
    size_t weight = 0;
    out->count = 0;
    while (*link != NULL && out->count < CALLS_MAX) {
        struct rpc_active *active = *link;
        bool fits = active == head || weight + active->join.weight <= head->join.kind->weight_max;
        if (!goes_together(head, active) || !fits) {
            before = active;
            link = &active->join.next;
            continue;
        }
        *link = active->join.next;
        if (groups->last == active)
            groups->last = before;
        weight += active->join.weight;
        out->calls[out->count++] = active;
    }
    groups->waiting -= (unsigned)out->count;
    groups->full_since_ms = 0;
}

/* --- doing ----------------------------------------------------------------------------------------------------------- */

/* Those whose deadline is over are answered now; the others move up. Returns the deadline of the one that has the least time. */
static uint64_t drop_late(struct group *group)
{
    uint64_t deadline_ns = UINT64_MAX;
    size_t count = 0;
    for (size_t i = 0; i < group->count; i++) {
        struct rpc_active *active = group->calls[i];
        if (rpc_active_left_ns(active) == 0) {
            active->call.error.not_executed = true;
            finish(active, rpc_active_refuse(active, FORGE_DEADLINE_EXCEEDED, "the deadline was over before the database had time"));
            continue;
        }
        deadline_ns = active->call.deadline_ns < deadline_ns ? active->call.deadline_ns : deadline_ns;
        group->calls[count] = active;
        group->works[count++] = active->join.work;
    }
    group->count = count;
    return deadline_ns;
}

static forge_code run(struct rpc_groups *groups, struct group *group, uint64_t deadline_ns, struct forge_arena *arena,
                      struct forge_error *error)
{
    const struct rpc_server_config *config = &groups->server->config;
    const struct rpc_active *head = group->calls[0];
    struct db_session *session = NULL;
    forge_code code = db_pool_lease(config->group_pool != NULL ? config->group_pool : config->pool, arena, deadline_ns, &session, error);
    if (code != FORGE_OK)
        return code;
    db_session_bind_tenant(session, &head->call.principal.organization_id);
    code = head->join.kind->run(session, arena, &head->call.principal.organization_id, group->works, group->count, error);
    db_pool_release(session);
    if (code == FORGE_OK && forge_arena_has_overflowed(arena))
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the call needs too much memory");
    return code;
}

/* Its handler's second half, and the reply. */
static void answer(struct rpc_active *active)
{
    forge_code code = active->join.kind->finish(&active->call, active->join.work, active->reply);
    if (code == FORGE_OK && forge_arena_has_overflowed(&active->arena))
        code = rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the call needs more than %zu bytes", active->arena.bytes_max);
    finish(active, code == FORGE_OK ? rpc_reply_pack(active) : code);
}

static void do_one(struct rpc_groups *groups, struct rpc_active *active, struct forge_arena *arena)
{
    struct group one = {.calls = {active}, .count = 1};
    uint64_t deadline_ns = drop_late(&one);
    if (one.count == 0)
        return;
    forge_code code = run(groups, &one, deadline_ns, arena, &active->call.error);
    if (code == FORGE_OK)
        answer(active);
    else
        finish(active, code);
    forge_arena_reset(arena);
}

static void do_group(struct rpc_groups *groups, struct group *group, struct forge_arena *arena)
{
    struct forge_error error = {0};
    uint64_t deadline_ns = drop_late(group);
    if (group->count <= 1) {
        base_metric_add(groups->done, OUTCOME_ALONE, 0, group->count);
        for (size_t i = 0; i < group->count; i++)
            do_one(groups, group->calls[i], arena);
        return;
    }
    forge_code code = run(groups, group, deadline_ns, arena, &error);
    forge_arena_reset(arena);
    base_metric_add(groups->done, code == FORGE_OK ? OUTCOME_TOGETHER : OUTCOME_REDONE, 0, group->count);
    for (size_t i = 0; i < group->count; i++) {
        if (code == FORGE_OK)
            answer(group->calls[i]);
        else
            do_one(groups, group->calls[i], arena); /* what is wrong with one call is nobody else's */
    }
}

static void *work(void *user)
{
    struct rpc_groups *groups = user;
    struct forge_arena arena;
    struct group group;
    forge_arena_init(&arena, GROUP_BYTES_MAX, groups->server->config.budget);
    pthread_mutex_lock(&groups->lock);
    for (;;) {
        while (groups->first == NULL && !groups->stop)
            pthread_cond_wait(&groups->changed, &groups->lock);
        if (groups->first == NULL)
            break;
        take(groups, &group);
        pthread_mutex_unlock(&groups->lock);
        do_group(groups, &group, &arena);
        pthread_mutex_lock(&groups->lock);
    }
    pthread_mutex_unlock(&groups->lock);
    forge_arena_done(&arena);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

static bool start(struct rpc_groups *groups)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    unsigned wanted = groups->server->config.group_threads;
    while (groups->thread_count < wanted && pthread_create(&groups->threads[groups->thread_count], NULL, work, groups) == 0)
        groups->thread_count++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return groups->thread_count == wanted;
}

forge_code rpc_groups_new(struct rpc_server *server, struct rpc_groups **out, struct forge_error *error)
{
    static const struct base_metric_label outcome = {"outcome", outcomes, sizeof outcomes / sizeof outcomes[0]};
    struct rpc_groups *groups = calloc(1, sizeof *groups + server->config.group_threads * sizeof groups->threads[0]);
    if (groups == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for group commit");
    groups->server = server;
    groups->done = base_metric_new(server->config.metrics, BASE_METRIC_COUNTER, "forged_grouped_calls_total",
                                   "Calls by how they were committed; redone: together with others first, which failed.", &outcome, 1);
    pthread_mutex_init(&groups->lock, NULL);
    pthread_cond_init(&groups->changed, NULL);
    if (!start(groups)) {
        rpc_groups_free(groups);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "could not start %u threads for group commit",
                               server->config.group_threads);
    }
    *out = groups;
    return FORGE_OK;
}

void rpc_groups_stop(struct rpc_groups *groups)
{
    pthread_mutex_lock(&groups->lock);
    groups->stop = true;
    pthread_cond_broadcast(&groups->changed);
    pthread_mutex_unlock(&groups->lock);
    for (; groups->thread_count > 0; groups->thread_count--)
        pthread_join(groups->threads[groups->thread_count - 1], NULL);
}

void rpc_groups_free(struct rpc_groups *groups)
{
    if (groups == NULL)
        return;
    rpc_groups_stop(groups);
    pthread_mutex_destroy(&groups->lock);
    pthread_cond_destroy(&groups->changed);
    free(groups);
}

unsigned rpc_groups_waiting(struct rpc_groups *groups)
{
    pthread_mutex_lock(&groups->lock);
    unsigned waiting = groups->waiting;
    pthread_mutex_unlock(&groups->lock);
    return waiting;
}
