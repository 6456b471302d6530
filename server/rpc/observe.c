#include "rpc/observe.h"

#include "base/log.h"
#include "rpc/group.h"
#include "rpc/workers.h"

#include <stdlib.h>

enum { CODES = FORGE_UNAUTHENTICATED + 1, UNKNOWN_METHOD = RPC_METHOD_COUNT };

static const char *const code_names[CODES] = {
    "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
};
static const char *const handshake_results[] = {"ok", "failed"};

static double read_queued(void *user, unsigned index)
{
    const struct rpc_server *server = user;
    return server->workers ? rpc_workers_queued(server->workers, index) : 0;
}

static double read_joined(void *user, unsigned index)
{
    const struct rpc_server *server = user;
    return server->groups ? rpc_groups_waiting(server->groups) : 0;
}

static double read_parked(void *user, unsigned index)
{
    const struct rpc_server *server = user;
    return rpc_parked_count(server->parked);
}

static double read_connections(void *user, unsigned index)
{
    const struct rpc_server *server = user;
    return atomic_load(&server->connections);
}

static double read_in_flight(void *user, unsigned index)
{
    const struct rpc_server *server = user;
    size_t count = 0;
    for (unsigned i = 0; i < server->config.loops; i++)
        count += atomic_load_explicit(&server->loop_states[i].in_flight, memory_order_relaxed);
    return (double)count;
}

static double read_budget(void *user, unsigned index)
{
    const struct rpc_server *server = user;
    return (double)atomic_load_explicit(&server->config.budget->used, memory_order_relaxed);
}

forge_code rpc_observe_init(struct rpc_server *server, struct forge_error *error)
{
    struct rpc_metrics *metrics = &server->metrics;
    struct base_metrics *registry = server->config.metrics;
    metrics->method_names = calloc(RPC_METHOD_COUNT + 1, sizeof *metrics->method_names);
    if (!metrics->method_names)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for metrics");
    for (int i = 0; i < RPC_METHOD_COUNT; i++)
        metrics->method_names[i] = rpc_methods[i].name;
    metrics->method_names[UNKNOWN_METHOD] = "unknown";
    const struct base_metric_label by_method[] = {{"method", metrics->method_names, RPC_METHOD_COUNT + 1}, {"code", code_names, CODES}};
    const struct base_metric_label by_queue = {"queue", rpc_queue_names, RPC_QUEUES};
    const struct base_metric_label by_result = {"result", handshake_results, 2};
    metrics->calls =
        base_metric_new(registry, BASE_METRIC_COUNTER, "forged_calls_total", "Calls answered, by method and code.", by_method, 2);
    metrics->durations = base_metric_new_durations(registry, "forged_call_duration_seconds",
                                                   "From the arrival of a call to its reply, waiting included.", by_method, 1);
    metrics->queue_waits =
        base_metric_new_durations(registry, "forged_queue_wait_seconds", "Time that calls waited for a worker.", &by_queue, 1);
    metrics->handshakes =
        base_metric_new(registry, BASE_METRIC_COUNTER, "forged_tls_handshakes_total", "TLS handshakes, by result.", &by_result, 1);
    base_metric_new_function(registry, BASE_METRIC_GAUGE, "forged_queue_length", "Calls that wait for a worker.", &by_queue, read_queued,
                             server);
    base_metric_new_function(registry, BASE_METRIC_GAUGE, "forged_joined_calls", "Calls that wait to be committed.", NULL, read_joined,
                             server);
    base_metric_new_function(registry, BASE_METRIC_GAUGE, "forged_parked_calls", "Calls that wait for an event.", NULL, read_parked,
                             server);
    base_metric_new_function(registry, BASE_METRIC_GAUGE, "forged_connections", "Open connections.", NULL, read_connections, server);
    base_metric_new_function(registry, BASE_METRIC_GAUGE, "forged_calls_in_flight", "Calls not answered yet.", NULL, read_in_flight,
                             server);
    if (server->config.budget)
        base_metric_new_function(registry, BASE_METRIC_GAUGE, "forged_request_memory_bytes",
                                 "Bytes of the memory budget for requests and replies in use.", NULL, read_budget, server);
    return FORGE_OK;
}

void rpc_observe_done(struct rpc_server *server)
{
    free(server->metrics.method_names);
}

/* What somebody should look at, against what callers did wrong. */
static enum base_log_level level_of(forge_code code)
{
    return code == FORGE_INTERNAL || code == FORGE_DATA_LOSS || code == FORGE_UNKNOWN ? BASE_LOG_ERROR
           : code == FORGE_UNAVAILABLE                                                ? BASE_LOG_WARNING
                                                                                      : BASE_LOG_INFO;
}

static void log_failure(const struct rpc_active *active, uint64_t duration_ns)
{
    const struct rpc_call *call = &active->call;
    enum base_log_level level = level_of(active->code);
    if (!base_log_is_enabled(level))
        return;
    char request_id[FORGE_UUID_TEXT_SIZE], organization_id[FORGE_UUID_TEXT_SIZE], principal_id[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&call->request_id, request_id);
    forge_uuid_format(&call->principal.organization_id, organization_id);
    forge_uuid_format(&call->principal.id, principal_id);
    bool traced = active->header && active->header->traceparent[0] != '\0';
    base_log(level, "call failed", base_log_text("method", active->method >= 0 ? rpc_methods[active->method].name : "unknown"),
             base_log_text("code", forge_code_name(active->code)), base_log_text("error", call->error.message),
             base_log_text("sqlstate", call->error.sqlstate[0] ? call->error.sqlstate : NULL),
             base_log_text("request_id", forge_uuid_is_nil(&call->request_id) ? NULL : request_id),
             base_log_text("organization", active->authenticated ? organization_id : NULL),
             base_log_text("principal", active->authenticated ? principal_id : NULL),
             base_log_text("peer", call->peer_address[0] ? call->peer_address : NULL),
             base_log_text("traceparent", traced ? active->header->traceparent : NULL),
             base_log_int("attempt", active->header && active->header->attempt > 0 ? active->header->attempt : 1),
             base_log_ms("duration_ms", duration_ns), base_log_ms("queue_ms", active->queue_ns),
             base_log_bool("executed", active->handler_ran));
}

void rpc_observe_call(const struct rpc_active *active)
{
    const struct rpc_metrics *metrics = &rpc_active_server(active)->metrics;
    uint64_t duration_ns = active->finished_ns - active->arrived_ns;
    unsigned method = active->method >= 0 ? (unsigned)active->method : UNKNOWN_METHOD;
    base_metric_add(metrics->calls, method, active->code, 1);
    base_metric_observe_ns(metrics->durations, method, 0, duration_ns);
    if (active->queue_ns > 0)
        base_metric_observe_ns(metrics->queue_waits, active->rule->slow ? (unsigned)RPC_QUEUE_SLOW : active->rule->queue_class, 0,
                               active->queue_ns);
    if (active->code != FORGE_OK)
        log_failure(active, duration_ns);
}

void rpc_observe_handshake(struct rpc_server *server, bool succeeded)
{
    base_metric_add(server->metrics.handshakes, succeeded ? 0 : 1, 0, 1);
}
