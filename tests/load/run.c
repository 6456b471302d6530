#include "load/run.h"

#include "forge/forge.h"
#include "load/plan.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct runner {
    const struct options *options;
    struct run_result *result;
    struct forge_channel **channels;
    sem_t room; /* calls that may still be in flight */
    uint64_t start_ns, measure_from_ns;
};

struct call {
    struct runner *runner;
    uint64_t planned_ns, sent_ns;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool is_measured(const struct runner *runner, uint64_t planned_ns)
{
    return planned_ns >= runner->measure_from_ns;
}

static void answered(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                     const struct forge_reply_info *info)
{
    struct call *call = user;
    struct runner *runner = call->runner;
    if (is_measured(runner, call->planned_ns)) {
        uint64_t now = now_ns();
        atomic_fetch_add_explicit(&runner->result->codes[(unsigned)code < RUN_CODES ? code : FORGE_UNKNOWN], 1, memory_order_relaxed);
        if (code == FORGE_OK) {
            histogram_record(&runner->result->corrected, (now - call->planned_ns) / 1000);
            histogram_record(&runner->result->uncorrected, (now - call->sent_ns) / 1000);
        }
    }
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    free(call);
    sem_post(&runner->room);
}

static forge_code send_call(struct runner *runner, struct forge_channel *channel, struct call *call, struct forge_error *error)
{
    const struct options *options = runner->options;
    const struct forge_call_options call_options = {.timeout_ms = options->timeout_ms};
    switch (options->workload) {
    case WORKLOAD_PING: {
        Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
        ping.reply_bytes = options->reply_bytes;
        return forge_control_ping_async(channel, &call_options, &ping, answered, call, error);
    }
    case WORKLOAD_FETCH: {
        Forge__V1__GetPromptRequest fetch = FORGE__V1__GET_PROMPT_REQUEST__INIT;
        fetch.project_id = (char *)(uintptr_t)options->project_id;
        fetch.name = (char *)(uintptr_t)options->prompt;
        return forge_prompt_get_async(channel, &call_options, &fetch, answered, call, error);
    }
    }
    return FORGE_INTERNAL;
}

/* Sends the call that was due at planned_ns; one that the library refuses counts as its answer. */
static void issue(struct runner *runner, uint64_t index, uint64_t planned_ns)
{
    struct call *call = malloc(sizeof *call);
    if (!call)
        abort();
    *call = (struct call){.runner = runner, .planned_ns = planned_ns, .sent_ns = now_ns()};
    bool measured = is_measured(runner, planned_ns);
    if (measured) {
        atomic_fetch_add_explicit(&runner->result->sent, 1, memory_order_relaxed);
        uint64_t late = call->sent_ns > planned_ns ? call->sent_ns - planned_ns : 0;
        if (late > runner->result->late_ns_max)
            runner->result->late_ns_max = late;
    }
    struct forge_error error = {0};
    forge_code code = send_call(runner, runner->channels[index % runner->options->channels], call, &error);
    if (code != FORGE_OK) {
        answered(call, code, NULL, &error, NULL);
        forge_error_free(&error);
    }
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000), .tv_nsec = (long)(at_ns % 1000000000)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL); /* a signal cuts it short: the loop looks again */
}

/* Waits for room and for the planned time; false when the run was stopped. */
static bool wait_for_turn(struct runner *runner, uint64_t planned_ns, const atomic_bool *stop)
{
    while (!atomic_load(stop) && now_ns() < planned_ns)
        sleep_until(planned_ns);
    while (!atomic_load(stop)) {
        if (sem_wait(&runner->room) == 0)
            return true;
        if (errno != EINTR)
            abort();
    }
    return false;
}

static void send_plan(struct runner *runner, const atomic_bool *stop)
{
    const struct options *options = runner->options;
    uint64_t end_ns = runner->measure_from_ns + (uint64_t)(options->duration_s * 1e9);
    struct plan plan;
    plan_init(&plan, options->arrival, options->rate, options->seed);
    for (;;) {
        uint64_t index = plan.index, planned_ns = runner->start_ns + plan_next_ns(&plan);
        if (planned_ns >= end_ns)
            break;
        if (!wait_for_turn(runner, planned_ns, stop))
            break;
        if (is_measured(runner, planned_ns))
            runner->result->planned++;
        issue(runner, index, planned_ns);
    }
    if (!atomic_load(stop))
        while (now_ns() < end_ns && !atomic_load(stop))
            sleep_until(end_ns);
    uint64_t now = now_ns();
    runner->result->seconds = now > runner->measure_from_ns ? (double)(now - runner->measure_from_ns) / 1e9 : 0;
}

struct live {
    const struct runner *runner;
    atomic_bool over;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
};

static void print_live(const struct runner *runner, uint64_t *last_count)
{
    const struct run_result *r = runner->result;
    uint64_t count = histogram_count(&r->corrected), failed = 0;
    for (int code = 1; code < RUN_CODES; code++)
        failed += atomic_load_explicit(&r->codes[code], memory_order_relaxed);
    uint64_t now = now_ns();
    double at = now > runner->measure_from_ns ? (double)(now - runner->measure_from_ns) / 1e9 : 0;
    fprintf(stderr, "%s%5.0f s  %8llu calls/s  p50 %.2f ms  p99 %.2f ms  max %.1f ms  failed %llu%s", isatty(STDERR_FILENO) ? "\r" : "", at,
            (unsigned long long)(count - *last_count), histogram_percentile_us(&r->corrected, 50) / 1e3,
            histogram_percentile_us(&r->corrected, 99) / 1e3, (double)histogram_max_us(&r->corrected) / 1e3, (unsigned long long)failed,
            isatty(STDERR_FILENO) ? "\033[K" : "\n");
    *last_count = count;
}

static void *live_main(void *argument)
{
    struct live *live = argument;
    uint64_t last_count = 0;
    struct timespec next;
    clock_gettime(CLOCK_REALTIME, &next);
    pthread_mutex_lock(&live->mutex);
    while (!live->over) {
        next.tv_sec++;
        if (pthread_cond_timedwait(&live->ended, &live->mutex, &next) == ETIMEDOUT)
            print_live(live->runner, &last_count);
    }
    pthread_mutex_unlock(&live->mutex);
    if (isatty(STDERR_FILENO))
        fputc('\n', stderr);
    return NULL;
}

static void send_plan_with_live_line(struct runner *runner, const atomic_bool *stop)
{
    struct live live = {.runner = runner, .mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    bool shown = !runner->options->quiet && pthread_create(&thread, NULL, live_main, &live) == 0;
    send_plan(runner, stop);
    if (shown) {
        pthread_mutex_lock(&live.mutex);
        live.over = true;
        pthread_cond_signal(&live.ended);
        pthread_mutex_unlock(&live.mutex);
        pthread_join(thread, NULL);
    }
}

/* One call per channel shows that it works before anything is planned. */
static forge_code connect_channels(struct runner *runner, struct forge_error *error)
{
    const struct options *options = runner->options;
    struct forge_channel_options channel_options = {.addresses = options->server,
                                                    .ca_file = options->ca_file,
                                                    .token = options->token,
                                                    .client_info = "forgeload",
                                                    .calls_in_flight_max = options->in_flight_max + 1};
    for (unsigned i = 0; i < options->channels; i++) {
        forge_code code = forge_channel_open(&channel_options, &runner->channels[i], error);
        if (code != FORGE_OK)
            return code;
        Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
        Forge__V1__PingResponse *reply = NULL;
        code = forge_control_ping(runner->channels[i], NULL, &ping, &reply, error);
        if (code != FORGE_OK)
            return code;
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    return FORGE_OK;
}

forge_code run_load(const struct options *options, const atomic_bool *stop, struct run_result *result, struct forge_error *error)
{
    struct runner runner = {.options = options, .result = result};
    runner.channels = calloc(options->channels, sizeof(struct forge_channel *));
    if (!runner.channels || sem_init(&runner.room, 0, options->in_flight_max))
        abort();
    forge_code code = connect_channels(&runner, error);
    if (code == FORGE_OK) {
        runner.start_ns = now_ns();
        runner.measure_from_ns = runner.start_ns + (uint64_t)(options->warm_up_s * 1e9);
        send_plan_with_live_line(&runner, stop);
        for (unsigned i = 0; i < options->in_flight_max; i++) /* every call is answered by its deadline */
            while (sem_wait(&runner.room) && errno == EINTR)
                ;
    }
    for (unsigned i = 0; i < options->channels; i++)
        forge_channel_close(runner.channels[i]);
    sem_destroy(&runner.room);
    free(runner.channels);
    return code;
}
