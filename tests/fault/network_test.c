/* Fault 5: a network that misbehaves, between client and server and between server and PostgreSQL, in each direction; and a PostgreSQL that
 * is stopped for 30 s. Every call ends by its deadline, nothing stays stuck, and soon after the fault all is well again. */
#include "writes.h"

#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    CALLERS = 6,
    FAULT_MS = 600,    /* how long a case lasts */
    CUT_EVERY_MS = 60, /* of the case reset */
    OVERRUN_MS = 100,  /* that a call may end behind its deadline, beside what the machine itself stalled meanwhile */
    NAP_MS = 5,        /* of the thread that measures such stalls */
    RECOVERY_MS = 5000,
    STOPPED_MS = 30000, /* PostgreSQL */
    UNREADY_MS = 5000,  /* until /readyz tells of it */
    PING_MS = 1000
};

struct fault_case {
    const char *name;
    struct fault_settings settings;
    bool resets;
    bool breaks; /* bad enough that calls must fail: otherwise the case shows nothing */
};
static const struct fault_case cases[] = {
    {.name = "latency", .settings = {.latency_ms = 120}},
    {.name = "jitter", .settings = {.latency_ms = 5, .jitter_ms = 60}},
    {.name = "bandwidth", .settings = {.bytes_per_second = 8000}},
    {.name = "slow close", .settings = {.close_delay_ms = 400}},
    {.name = "timeout", .settings = {.stall = true}, .breaks = true},
    {.name = "reset", .resets = true},
    {.name = "slicer", .settings = {.slice_bytes = 3}},
    {.name = "limit", .settings = {.limit_bytes = 3000}},
};
enum { CASES = sizeof cases / sizeof cases[0] };

enum caller_kind { CALLER_PING, CALLER_READ, CALLER_WRITE, CALLER_KINDS };
struct caller {
    pthread_t thread;
    enum caller_kind kind;
    unsigned number;
    struct forge_channel *channel;
    uint32_t timeout_ms;
    long calls, ok, written[2]; /* written: acknowledged, by kind of write */
    long overrun_ms;            /* the worst */
    bool wrong;
};

static struct world world;
static struct fault_proxy *client_proxy;
static struct forge_channel *direct; /* past client_proxy */
static atomic_bool stopping;
static pthread_t stall_thread;
static atomic_long stall_ms; /* longest time a thread of this program that only sleeps was not woken */
static long versions, keys, tried, failed, late, worst_overrun_ms, worst_recovery_ms, wrong;

static forge_code ping(struct forge_channel *channel, uint32_t timeout_ms, struct forge_error *error)
{
    const struct forge_call_options options = {.timeout_ms = timeout_ms};
    Forge__V1__PingRequest request = FORGE__V1__PING_REQUEST__INIT;
    Forge__V1__PingResponse *reply;
    request.reply_bytes = 200;
    forge_code code = forge_control_ping(channel, &options, &request, &reply, error);
    if (code == FORGE_OK)
        forge__v1__ping_response__free_unpacked(reply, NULL);
    return code;
}

/* DATA_LOSS when the prompt is not the one that was made. */
static forge_code read_prompt(struct forge_channel *channel, uint32_t timeout_ms, struct forge_error *error)
{
    const struct forge_call_options options = {.timeout_ms = timeout_ms};
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.id = world.home.prompt_id;
    forge_code code = forge_prompt_get(channel, &options, &request, &prompt, error);
    if (code != FORGE_OK)
        return code;
    bool right = strcmp(prompt->content, "Hello {{name}}!") == 0;
    forge__v1__prompt__free_unpacked(prompt, NULL);
    return right ? FORGE_OK : forge_error_set(error, FORGE_DATA_LOSS, "another prompt was read");
}

static bool may_happen(forge_code code)
{
    return code == FORGE_OK || code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED || code == FORGE_RESOURCE_EXHAUSTED;
}

static forge_code time_call(struct caller *caller, const struct fault_write *write)
{
    struct forge_error error = {0};
    forge_code code = FORGE_INTERNAL;
    uint64_t begun_ns = forge_clock_monotonic_ns();
    switch (caller->kind) {
    case CALLER_PING:
        code = ping(caller->channel, caller->timeout_ms, &error);
        break;
    case CALLER_READ:
        code = read_prompt(caller->channel, caller->timeout_ms, &error);
        break;
    case CALLER_WRITE:
        code = fault_write_send(caller->channel, write, caller->timeout_ms, NULL, NULL, &error);
        break;
    case CALLER_KINDS:
        break;
    }
    long overrun_ms = (long)((forge_clock_monotonic_ns() - begun_ns) / 1000000) - (long)caller->timeout_ms;
    if (overrun_ms > caller->overrun_ms)
        caller->overrun_ms = overrun_ms;
    if (!may_happen(code)) {
        fprintf(stderr, "caller %u: %s: %s\n", caller->number, forge_code_name(code), error.message);
        caller->wrong = true;
    }
    caller->calls++;
    caller->ok += code == FORGE_OK;
    forge_error_free(&error);
    return code;
}

/* A write that is not acknowledged while the fault lasts is repeated afterwards. */
static void finish_write(struct caller *caller, const struct fault_write *write)
{
    struct forge_error error;
    uint64_t give_up_ms = forge_clock_monotonic_ms() + (uint64_t)2 * RECOVERY_MS * fault_time_factor();
    forge_code code = fault_write_finish(direct, write, 2000, give_up_ms, NULL, NULL, &error);
    if (code != FORGE_OK) {
        fprintf(stderr, "write %s: %s: %s\n", write->request_id, forge_code_name(code), error.message);
        caller->wrong = true;
    }
    forge_error_free(&error);
}

static void *caller_main(void *argument)
{
    struct caller *caller = argument;
    struct fault_write write;
    bool pending = false;
    while (!atomic_load(&stopping)) {
        if (caller->kind == CALLER_WRITE && !pending) {
            enum fault_write_kind kind = caller->calls % 2 ? FAULT_WRITE_KEY : FAULT_WRITE_VERSION;
            fault_write_init(&write, kind, world.home.prompt_id);
        }
        forge_code code = time_call(caller, &write);
        pending = caller->kind == CALLER_WRITE && code != FORGE_OK;
        if (caller->kind == CALLER_WRITE && code == FORGE_OK)
            caller->written[write.kind]++;
        world_sleep_ms(code == FORGE_OK ? 2 : 20);
    }
    if (pending) {
        finish_write(caller, &write);
        caller->written[write.kind]++;
    }
    return NULL;
}

/* A shared machine stops all of us now and then: no server can answer in such a time. */
static void *stall_main(void *argument)
{
    while (!atomic_load(&stopping)) {
        uint64_t begun_ms = forge_clock_monotonic_ms();
        world_sleep_ms(NAP_MS);
        long over_ms = (long)(forge_clock_monotonic_ms() - begun_ms) - NAP_MS;
        if (over_ms > atomic_load(&stall_ms))
            atomic_store(&stall_ms, over_ms);
    }
    return NULL;
}

static void start_callers(struct caller callers[CALLERS], struct forge_channel *channel, uint32_t timeout_ms)
{
    atomic_store(&stopping, false);
    atomic_store(&stall_ms, 0);
    assert_int_equal(pthread_create(&stall_thread, NULL, stall_main, NULL), 0);
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.kind = (enum caller_kind)(i % CALLER_KINDS), .number = i, .channel = channel, .overrun_ms = -1000000};
        callers[i].timeout_ms = timeout_ms * (1 + i % 2);
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
    }
}

/* After the fault has ended: writes that were not acknowledged are repeated until they are. */
static void join_callers(struct caller callers[CALLERS], long *out_ok, long *out_overrun_ms)
{
    *out_ok = 0;
    *out_overrun_ms = -1000000;
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < CALLERS; i++) {
        struct caller *caller = &callers[i];
        pthread_join(caller->thread, NULL);
        tried += caller->calls;
        failed += caller->calls - caller->ok;
        *out_ok += caller->ok;
        versions += caller->written[FAULT_WRITE_VERSION];
        keys += caller->written[FAULT_WRITE_KEY];
        wrong += caller->wrong;
        if (caller->overrun_ms > *out_overrun_ms)
            *out_overrun_ms = caller->overrun_ms;
    }
    pthread_join(stall_thread, NULL);
    late += *out_overrun_ms > (long)(OVERRUN_MS * fault_time_factor()) + atomic_load(&stall_ms);
    if (*out_overrun_ms > worst_overrun_ms)
        worst_overrun_ms = *out_overrun_ms;
}

/* How long it took until the server says that it is ready and answers reads; more than RECOVERY_MS when it does not. */
static long recover(struct forge_channel *channel)
{
    uint64_t begun_ms = forge_clock_monotonic_ms();
    uint64_t limit_ms = RECOVERY_MS * fault_time_factor();
    bool ready = world_wait_ready(&world, 0, (unsigned)limit_ms), answers = false;
    while (ready && !answers && forge_clock_monotonic_ms() - begun_ms <= limit_ms) {
        struct forge_error error = {0};
        answers = read_prompt(channel, 500 * fault_time_factor(), &error) == FORGE_OK;
        forge_error_free(&error);
    }
    long took_ms = (long)(forge_clock_monotonic_ms() - begun_ms);
    if (took_ms > worst_recovery_ms)
        worst_recovery_ms = took_ms;
    return answers ? took_ms : (long)limit_ms + 1;
}

static void misbehave(struct fault_proxy *proxy, enum fault_direction direction, const struct fault_case *fault)
{
    const struct fault_settings normal = {0};
    fault_proxy_set(proxy, direction, &fault->settings);
    if (fault->settings.close_delay_ms > 0)
        fault_proxy_cut(proxy); /* something has to close */
    for (unsigned ms = 0; ms < FAULT_MS; ms += CUT_EVERY_MS) {
        world_sleep_ms(CUT_EVERY_MS);
        if (fault->resets)
            fault_proxy_cut(proxy);
    }
    fault_proxy_set(proxy, direction, &normal);
    if (fault->settings.limit_bytes > 0)
        fault_proxy_cut(proxy); /* connections that are just below it */
}

static void run_case(const char *where, struct fault_proxy *proxy, enum fault_direction direction, const struct fault_case *fault)
{
    struct caller callers[CALLERS];
    char address[32];
    long ok, overrun_ms;
    snprintf(address, sizeof address, "localhost:%u", fault_proxy_port(client_proxy));
    struct forge_channel *channel = world_channel_to(&world, address, world.home.session_token);
    assert_true(recover(channel) <= (long)(RECOVERY_MS * fault_time_factor()));
    long failed_before = failed;
    start_callers(callers, channel, 200);
    misbehave(proxy, direction, fault);
    long recovery_ms = recover(direct);
    join_callers(callers, &ok, &overrun_ms);
    long channel_ms = recover(channel);
    forge_channel_close(channel);
    bool at_rest = world_is_at_rest(&world, 0, RECOVERY_MS * fault_time_factor());
    fprintf(stderr,
            "%-8s %-4s %-10s %5ld OK, worst overrun %4ld ms (machine stalled %3ld), server well after %4ld ms, channel after %4ld ms%s\n",
            where, direction == FAULT_UPSTREAM ? "to" : "from", fault->name, ok, overrun_ms, atomic_load(&stall_ms), recovery_ms,
            channel_ms, at_rest ? "" : ", NOT AT REST");
    assert_true(recovery_ms <= (long)(RECOVERY_MS * fault_time_factor()));
    assert_true(channel_ms <= (long)(RECOVERY_MS * fault_time_factor()));
    assert_true(at_rest);
    assert_true(!fault->breaks || failed > failed_before);
}

static void report(const char *id, const char *what, const char *bar)
{
    struct fault_count count = fault_count(&world, versions, keys);
    long leaked = fault_open_transactions(&world) + !world_is_at_rest(&world, 0, RECOVERY_MS);
    bool ok = count.lost == 0 && count.duplicated == 0 && leaked == 0 && late == 0 && wrong == 0;
    fprintf(stderr, "%ld calls, worst overrun %ld ms (bar %d), worst recovery %ld ms (bar %d)\n", tried, worst_overrun_ms,
            OVERRUN_MS * (int)fault_time_factor(), worst_recovery_ms, RECOVERY_MS * (int)fault_time_factor());
    fault_report(id, what, tried, count, leaked, bar, ok);
    assert_true(ok);
}

/* Figures of one test; what was acknowledged adds up over the whole world. */
static void clear_figures(void)
{
    tried = late = worst_overrun_ms = worst_recovery_ms = wrong = 0;
}

static void run_cases(const char *where, struct fault_proxy *proxy)
{
    clear_figures();
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++) {
        for (int i = 0; i < CASES; i++)
            run_case(where, proxy, (enum fault_direction)direction, &cases[i]);
    }
}

static void test_bad_network_to_clients_ends_calls_in_time(void **state)
{
    run_cases("client", client_proxy);
    report("5-client", "bad network between client and server: 8 faults, 2 directions",
           "each call ends within deadline + 100 ms, well after 5 s");
}

static void test_bad_network_to_postgresql_ends_calls_in_time(void **state)
{
    run_cases("database", world.database_proxy);
    report("5-database", "bad network between server and PostgreSQL: 8 faults, 2 directions",
           "each call ends within deadline + 100 ms, well after 5 s");
}

/* ---- PostgreSQL stopped ---- */

static bool wait_unready(void)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + UNREADY_MS * fault_time_factor();
    while (forged_child_http(world.servers[0].child, "/readyz", NULL) != 503) {
        if (forge_clock_monotonic_ms() >= until_ms)
            return false;
        world_sleep_ms(20);
    }
    return true;
}

/* Pings that failed, and times that /readyz said anything but 503. */
static long watch_stopped(uint64_t until_ms)
{
    long bad = 0;
    while (forge_clock_monotonic_ms() < until_ms) {
        struct forge_error error = {0};
        bad += ping(direct, PING_MS, &error) != FORGE_OK;
        bad += forged_child_http(world.servers[0].child, "/readyz", NULL) != 503;
        forge_error_free(&error);
        world_sleep_ms(200);
    }
    return bad;
}

static void test_stopped_postgresql_ends_calls_in_time(void **state)
{
    struct caller callers[CALLERS];
    long ok, overrun_ms;
    clear_figures();
    assert_true(recover(direct) <= (long)(RECOVERY_MS * fault_time_factor()));
    long failed_before = failed;
    start_callers(callers, direct, 1000);
    uint64_t until_ms = forge_clock_monotonic_ms() + STOPPED_MS;
    pg_cluster_pause(world.cluster);
    bool unready = wait_unready();
    long bad = watch_stopped(until_ms);
    pg_cluster_resume(world.cluster);
    long recovery_ms = recover(direct);
    join_callers(callers, &ok, &overrun_ms);
    fprintf(stderr, "PostgreSQL stopped for %d s: worst overrun %ld ms, %ld bad pings and /readyz, well after %ld ms\n", STOPPED_MS / 1000,
            overrun_ms, bad, recovery_ms);
    wrong += bad;
    assert_true(failed > failed_before);
    report("5-stop", "PostgreSQL stopped for 30 s", "each call ends within deadline + 100 ms, /readyz 503, Ping OK, well after 5 s");
    assert_true(unready);
    assert_true(recovery_ms <= (long)(RECOVERY_MS * fault_time_factor()));
}

static int set_up(void **state)
{
    const struct world_options options = {.database_proxy = true};
    world_open(&world, &options);
    client_proxy = fault_proxy_new(world.servers[0].port, false);
    direct = world_channel(&world, 0, world.home.session_token);
    return client_proxy ? 0 : -1;
}

static int tear_down(void **state)
{
    forge_channel_close(direct);
    fault_proxy_free(client_proxy);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_network_to_clients_ends_calls_in_time),
        cmocka_unit_test(test_bad_network_to_postgresql_ends_calls_in_time),
        cmocka_unit_test(test_stopped_postgresql_ends_calls_in_time),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
