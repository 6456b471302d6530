#include "rpc/dispatch.h"
#include "rpc/group.h"
#include "rpc/observe.h"
#include "rpc/workers.h"
#include "rpc/write_private.h"

#include "wire/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void rpc_server_config_init(struct rpc_server_config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = cores < 1 ? 1 : cores > FORGE_LOOPS_MAX ? FORGE_LOOPS_MAX : (unsigned)cores;
    *config = (struct rpc_server_config){
        .loops = threads,
        .workers = 15,
        .workers_interactive = 2,
        .auth_threads = threads > 1 ? threads - 1 : 1,
        .group_threads = 4,
        .queue_interactive = 1024,
        .queue_write = 1024,
        .queue_ingest = 256,
        .queue_batch = 128,
        .queue_slow = 16,
        .handshake_ms = 5000,
        .body_ms = 10000,
        .idle_ms = 300000,
        .connections_max = 4096,
        .unproven_per_address = 64,
        .calls_per_connection = 256,
        .calls_unproven = 4,
        .parked_per_connection = 64,
        .parked_per_principal = 256,
        .parked_total = 16384,
        .usage_flush_ms = 10000,
        .span_age_max_ms = 24 * 3600 * 1000,
        .span_ahead_max_ms = 10 * 60 * 1000,
        .message_unproven_max = 16 << 10,
        .message_max = 4 << 20,
        .reply_max = 4 << 20,
        .pending_max = 16 << 20,
        .decoded_max = 32 << 20,
        .call_bytes_max = 64 << 20,
    };
}

/* --- links as sources ------------------------------------------------------------------------------------------------ */

/* The user of an accepted link. */
struct link_source {
    struct rpc_server *server;
    struct forge_link *link;
    struct rpc_connection *connection; /* NULL until the handshake is done */
};

static forge_code link_reply_begin(void *user, struct rpc_reply_room *room)
{
    const struct link_source *source = user;
    struct forge_link_send send;
    _Static_assert(sizeof send <= sizeof room->private_data, "a send fits the room");
    forge_code code = forge_link_send_begin(source->link, room->stack, room->stack_len, room->body_len, &send);
    if (code != FORGE_OK) {
        /* A reply that cannot be sent would leave its caller waiting: better a lost connection, which it notices. */
        forge_link_close(source->link);
        return code;
    }
    room->body = send.body;
    memcpy(room->private_data, &send, sizeof send);
    return FORGE_OK;
}

static void link_reply_commit(void *user, struct rpc_reply_room *room)
{
    struct forge_link_send send;
    memcpy(&send, room->private_data, sizeof send);
    forge_link_send_commit(&send);
}

static void link_verified(void *user)
{
    const struct link_source *source = user;
    forge_link_set_proven(source->link);
    forge_link_set_message_max(source->link, source->server->config.message_max);
}

static void link_waiting(void *user, int delta)
{
    const struct link_source *source = user;
    forge_link_add_calls(source->link, delta);
}

static const struct rpc_source_functions link_functions = {
    .reply_begin = link_reply_begin,
    .reply_commit = link_reply_commit,
    .verified = link_verified,
    .waiting = link_waiting,
};

static void link_accepted(struct forge_link *link, void *user)
{
    struct link_source *source = malloc(sizeof *source);
    if (source)
        *source = (struct link_source){.server = user, .link = link};
    else
        forge_link_close(link);
    forge_link_set_user(link, source);
}

static void link_opened(struct forge_link *link, void *user)
{
    struct link_source *source = user;
    if (!source)
        return;
    const struct rpc_source description = {
        .functions = &link_functions, .user = source, .peer_address = forge_link_peer_address(link), .peer = forge_link_peer(link)};
    rpc_observe_handshake(source->server, true);
    source->connection = rpc_source_open(source->server, forge_link_loop(link), &description);
    if (!source->connection)
        forge_link_close(link);
}

static void link_frame(struct forge_link *link, void *user, const struct forge_frame *frame)
{
    const struct link_source *source = user;
    const struct rpc_message message = {.stack = frame->stack,
                                        .stack_len = frame->stack_len,
                                        .body = frame->body,
                                        .body_len = frame->body_len,
                                        .truncated = frame->truncated};
    if (source && source->connection)
        rpc_source_submit(source->connection, &message);
}

static void link_closed(struct forge_link *link, void *user, enum forge_link_why why)
{
    struct link_source *source = user;
    if (!source)
        return;
    if (source->connection)
        rpc_source_close(source->connection);
    else
        rpc_observe_handshake(source->server, false);
    free(source);
}

static const struct forge_link_callbacks link_callbacks = {
    .accepted = link_accepted, .opened = link_opened, .frame = link_frame, .closed = link_closed};

/* --- life of the server ---------------------------------------------------------------------------------------------- */

static forge_code check_config(const struct rpc_server_config *config, struct forge_error *error)
{
    const struct {
        const char *name;
        uint64_t value, least, most;
    } limits[] = {
        {"loops", config->loops, 1, FORGE_LOOPS_MAX},
        {"workers", config->workers, 1, 1024},
        {"auth threads", config->auth_threads, 1, 256},
        {"group threads", config->group_threads, 1, 256},
        {"workers kept for interactive calls", config->workers_interactive, 0, config->workers - 1},
        {"queue for interactive calls", config->queue_interactive, 1, UINT32_MAX},
        {"queue for write calls", config->queue_write, 1, UINT32_MAX},
        {"queue for ingest calls", config->queue_ingest, 1, UINT32_MAX},
        {"queue for batch calls", config->queue_batch, 1, UINT32_MAX},
        {"queue for slow calls", config->queue_slow, 1, UINT32_MAX},
        {"calls per connection", config->calls_per_connection, 1, UINT32_MAX},
        {"calls before a credential", config->calls_unproven, 1, config->calls_per_connection},
        {"bytes of a message", config->message_max, 1024, UINT32_MAX},
        {"bytes of a message before a credential", config->message_unproven_max, 1024, config->message_max},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (limits[i].value < limits[i].least || limits[i].value > limits[i].most)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s: %llu is not in %llu to %llu", limits[i].name,
                                   (unsigned long long)limits[i].value, (unsigned long long)limits[i].least,
                                   (unsigned long long)limits[i].most);
    return FORGE_OK;
}

/* Default deny: a method without a row, or a row without a method, stops the server. */
static forge_code match_rules(struct rpc_server *server, struct forge_error *error)
{
    for (int method = 0; method < RPC_METHOD_COUNT; method++) {
        const struct auth_rule *rule = auth_rule_find(rpc_methods[method].name);
        if (!rule)
            return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s has no row in auth/rules.c", rpc_methods[method].name);
        if (rule->way == AUTH_WAY_INLINE && (rule->write != AUTH_READ || rule->slow))
            return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s cannot write or be slow on a loop", rpc_methods[method].name);
        server->rules[method] = rule;
    }
    for (size_t i = 0; i < auth_rules_count; i++)
        if (rpc_method_find(auth_rules[i].method, strlen(auth_rules[i].method)) < 0)
            return forge_error_set(error, FORGE_FAILED_PRECONDITION, "auth/rules.c has a row for %s, which does not exist",
                                   auth_rules[i].method);
    return FORGE_OK;
}

static forge_code start_loops(struct rpc_server *server, struct forge_error *error)
{
    unsigned count = server->config.loops;
    server->loop_states = aligned_alloc(_Alignof(struct rpc_loop), count * sizeof *server->loop_states);
    server->parked = rpc_parked_new(server->config.parked_total, server->config.parked_per_connection, server->config.parked_per_principal);
    server->duplicates = rpc_duplicates_new();
    if (!server->loop_states || !server->parked || !server->duplicates)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the server");
    memset(server->loop_states, 0, count * sizeof *server->loop_states);
    forge_code code = forge_loops_new((int)count, &server->loops, error);
    for (unsigned i = 0; code == FORGE_OK && i < count; i++) {
        server->loop_states[i].server = server;
        server->loop_states[i].loop = forge_loops_at(server->loops, (int)i);
    }
    return code;
}

static forge_code start_usage(struct rpc_server *server, struct forge_error *error)
{
    const struct rpc_usage_config usage = {.pool = server->config.pool,
                                           .budget = server->config.budget,
                                           .metrics = server->config.metrics,
                                           .tables = server->config.loops,
                                           .interval_ms = server->config.usage_flush_ms};
    forge_code code = rpc_usage_new(&usage, &server->usage, error);
    for (unsigned i = 0; code == FORGE_OK && i < usage.tables; i++)
        server->loop_states[i].usage = rpc_usage_table(server->usage, i);
    return code;
}

static void init_locks(struct rpc_server *server)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&server->drain_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->drained, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

forge_code rpc_server_new(const struct rpc_server_config *config, struct rpc_server **out, struct forge_error *error)
{
    forge_code code = check_config(config, error);
    if (code != FORGE_OK)
        return code;
    struct rpc_server *server = calloc(1, sizeof *server);
    if (!server)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the server");
    server->config = *config;
    strncpy(server->instance, config->instance ? config->instance : "", sizeof server->instance - 1);
    server->config.instance = server->instance;
    server->settings = (struct rpc_settings){.keys = config->keys,
                                             .development = config->development,
                                             .message_max = config->message_max,
                                             .reply_max = config->reply_max,
                                             .span_age_max_ms = config->span_age_max_ms,
                                             .span_ahead_max_ms = config->span_ahead_max_ms,
                                             .policies = config->policies};
    init_locks(server);
    code = match_rules(server, error);
    if (code == FORGE_OK)
        code = start_loops(server, error);
    if (code == FORGE_OK)
        code = rpc_observe_init(server, error);
    if (code == FORGE_OK)
        code = start_usage(server, error);
    if (code == FORGE_OK)
        code = rpc_groups_new(server, &server->groups, error);
    if (code == FORGE_OK)
        code = rpc_workers_new(server, &server->workers, error);
    if (code != FORGE_OK) {
        rpc_server_free(server);
        return code;
    }
    *out = server;
    return FORGE_OK;
}

forge_code rpc_server_listen(struct rpc_server *server, const char *host, uint16_t port, struct forge_tls *tls, uint16_t *out_port,
                             struct forge_error *error)
{
    const struct rpc_server_config *config = &server->config;
    const struct forge_link_options options = {
        .tls = tls,
        .callbacks = &link_callbacks,
        .user = server,
        .handshake_ms = config->handshake_ms,
        .body_ms = config->body_ms,
        .idle_ms = config->idle_ms,
        .message_max = config->message_unproven_max,
        .frame_max = 2 * config->message_max, /* up to here it is answered and thrown away, above it the link is closed */
        .pending_max = config->pending_max,
        .links_max = config->connections_max,
        .unproven_per_address = config->unproven_per_address,
        .budget = config->budget,
    };
    return forge_link_listen(server->loops, host, port, &options, &server->listener, out_port, error);
}

static void close_unverified(struct forge_link *link, void *user, void *argument)
{
    if (!forge_link_peer_verifies(link, argument))
        forge_link_close(link);
}

void rpc_server_set_tls(struct rpc_server *server, struct forge_tls *tls)
{
    if (server->listener)
        forge_link_listener_set_tls(server->listener, tls);
    forge_link_for_each(server->loops, close_unverified, tls);
}

static void stop_accepting(struct rpc_server *server)
{
    if (server->listener)
        forge_link_listener_close(server->listener);
    server->listener = NULL;
}

static unsigned calls_left(const struct rpc_server *server)
{
    size_t count = 0;
    for (unsigned i = 0; i < server->config.loops; i++)
        count += atomic_load(&server->loop_states[i].in_flight);
    return (unsigned)count;
}

void rpc_server_drain(struct rpc_server *server, unsigned timeout_ms, unsigned *out_left)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    atomic_store(&server->draining, true);
    stop_accepting(server);
    rpc_wake_all(server, ""); /* every watch is answered now; duplicates look again and wait on */
    pthread_mutex_lock(&server->drain_lock);
    while (calls_left(server) > 0 && forge_clock_monotonic_ns() < until_ns)
        pthread_cond_timedwait(&server->drained, &server->drain_lock, &until);
    if (out_left)
        *out_left = calls_left(server);
    pthread_mutex_unlock(&server->drain_lock);
}

static void free_calls(struct rpc_server *server)
{
    for (unsigned i = 0; server->loop_states && i < server->config.loops; i++) {
        struct rpc_active *next;
        for (struct rpc_active *active = server->loop_states[i].free_calls; active; active = next) {
            next = active->next;
            forge_arena_done(&active->arena);
            free(active);
        }
    }
}

void rpc_server_free(struct rpc_server *server)
{
    if (!server)
        return;
    stop_accepting(server);
    if (server->workers)
        rpc_workers_stop(server->workers);
    if (server->groups)
        rpc_groups_stop(server->groups); /* behind the workers, who give it calls, and before the loops, who get them back */
    forge_loops_free(server->loops);
    free_calls(server);
    rpc_workers_free(server->workers);
    rpc_groups_free(server->groups);
    rpc_usage_free(server->usage);
    rpc_parked_free(server->parked);
    rpc_duplicates_free(server->duplicates);
    rpc_observe_done(server);
    free(server->loop_states);
    pthread_mutex_destroy(&server->drain_lock);
    pthread_cond_destroy(&server->drained);
    free(server);
}

struct forge_loops *rpc_server_loops(struct rpc_server *server)
{
    return server->loops;
}
