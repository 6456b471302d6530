#include "rpc/workers.h"

#include "rpc/run.h"
#include "wire/clock.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 1000 };
enum { ALL_LANES = (1 << AUTH_CLASS_COUNT) - 1, SLOW_LANE_MASK = 1 };

const char *const rpc_queue_names[RPC_QUEUES] = {"interactive", "write", "ingest", "batch", "slow"};

struct worker {
    pthread_t thread;
    struct base_queue *queue;
    unsigned lane_mask;
    struct db_pool *pool;
};
struct rpc_workers {
    struct rpc_server *server;
    struct base_queue *queue, *slow_queue;
    atomic_uint_fast64_t full_since_ms[RPC_QUEUES]; /* 0 = not full */
    struct worker *threads;
    unsigned thread_count;
    bool stopped;
};

uint32_t rpc_workers_retry_after_ms(uint64_t full_for_ms)
{
    uint32_t wait_ms = RETRY_FIRST_MS;
    while (full_for_ms >= wait_ms && wait_ms < RETRY_MAX_MS) {
        full_for_ms -= wait_ms;
        wait_ms *= 2;
    }
    return wait_ms < RETRY_MAX_MS ? wait_ms : RETRY_MAX_MS;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct base_queue_node *node;
    while ((node = base_queue_take(worker->queue, worker->lane_mask)) != NULL)
        rpc_run_on_worker((struct rpc_active *)((char *)node - offsetof(struct rpc_active, node)), worker->pool);
    return NULL;
}

static bool start(struct rpc_workers *workers, struct base_queue *queue, unsigned lane_mask, struct db_pool *pool)
{
    struct worker *worker = &workers->threads[workers->thread_count];
    *worker = (struct worker){.queue = queue, .lane_mask = lane_mask, .pool = pool};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool started = pthread_create(&worker->thread, NULL, work, worker) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (started)
        workers->thread_count++;
    return started;
}

static bool start_all(struct rpc_workers *workers)
{
    const struct rpc_server_config *config = &workers->server->config;
    for (unsigned i = 0; i < config->workers; i++)
        if (!start(workers, workers->queue, i < config->workers_interactive ? 1 << AUTH_CLASS_INTERACTIVE : ALL_LANES, config->pool))
            return false;
    for (unsigned i = 0; i < config->auth_threads; i++)
        if (!start(workers, workers->slow_queue, SLOW_LANE_MASK, config->slow_pool ? config->slow_pool : config->pool))
            return false;
    return true;
}

forge_code rpc_workers_new(struct rpc_server *server, struct rpc_workers **out, struct forge_error *error)
{
    const struct rpc_server_config *config = &server->config;
    const unsigned capacities[AUTH_CLASS_COUNT] = {
        [AUTH_CLASS_INTERACTIVE] = config->queue_interactive,
        [AUTH_CLASS_WRITE] = config->queue_write,
        [AUTH_CLASS_INGEST] = config->queue_ingest,
        [AUTH_CLASS_BATCH] = config->queue_batch,
    };
    struct rpc_workers *workers = calloc(1, sizeof *workers);
    if (workers) {
        workers->server = server;
        workers->queue = base_queue_new(AUTH_CLASS_COUNT, capacities);
        workers->slow_queue = base_queue_new(1, &config->queue_slow);
        workers->threads = calloc(config->workers + config->auth_threads, sizeof *workers->threads);
    }
    if (!workers || !workers->queue || !workers->slow_queue || !workers->threads || !start_all(workers)) {
        rpc_workers_free(workers);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "could not start %u workers and %u auth threads", config->workers,
                               config->auth_threads);
    }
    *out = workers;
    return FORGE_OK;
}

void rpc_workers_stop(struct rpc_workers *workers)
{
    if (workers->stopped)
        return;
    workers->stopped = true;
    atomic_store(&workers->server->stopping, true);
    if (workers->queue)
        base_queue_close(workers->queue);
    if (workers->slow_queue)
        base_queue_close(workers->slow_queue);
    for (unsigned i = 0; i < workers->thread_count; i++)
        pthread_join(workers->threads[i].thread, NULL);
}

void rpc_workers_free(struct rpc_workers *workers)
{
    if (!workers)
        return;
    rpc_workers_stop(workers);
    base_queue_free(workers->queue);
    base_queue_free(workers->slow_queue);
    free(workers->threads);
    free(workers);
}

static uint32_t note_full(struct rpc_workers *workers, unsigned queue)
{
    uint64_t now_ms = forge_clock_monotonic_ms();
    uint_fast64_t since_ms = 0;
    if (atomic_compare_exchange_strong(&workers->full_since_ms[queue], &since_ms, now_ms))
        since_ms = now_ms;
    return rpc_workers_retry_after_ms(now_ms > since_ms ? now_ms - since_ms : 0);
}

forge_code rpc_workers_put(struct rpc_workers *workers, struct rpc_active *active)
{
    unsigned queue = active->rule->slow ? (unsigned)RPC_QUEUE_SLOW : (unsigned)active->rule->queue_class;
    active->queue = active->rule->slow ? workers->slow_queue : workers->queue;
    active->lane = active->rule->slow ? 0 : active->rule->queue_class;
    active->queued_ns = forge_clock_monotonic_ns();
    active->place = RPC_QUEUED;
    if (base_queue_put(active->queue, active->lane, &active->node)) {
        if (atomic_load_explicit(&workers->full_since_ms[queue], memory_order_relaxed) != 0)
            atomic_store_explicit(&workers->full_since_ms[queue], 0, memory_order_relaxed);
        return FORGE_OK;
    }
    active->place = RPC_ON_LOOP;
    if (atomic_load(&workers->server->stopping))
        return rpc_active_refuse(active, FORGE_UNAVAILABLE, "the server is stopping");
    active->call.error.retry_after_ms = note_full(workers, queue);
    return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the queue for %s calls is full", rpc_queue_names[queue]);
}

unsigned rpc_workers_queued(struct rpc_workers *workers, unsigned queue)
{
    return queue == RPC_QUEUE_SLOW ? base_queue_length(workers->slow_queue, 0) : base_queue_length(workers->queue, queue);
}
