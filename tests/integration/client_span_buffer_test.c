/* The span buffer of libforge against a real server over TLS: what arrives there, counted in SQL, whatever becomes of the server. */
#include "support/world.h"

#include "forge/span_buffer.h"
#include "wire/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 8, SPANS_OF_THREAD = 6250, SPANS_OF_TRACE = 50, KILLS = 3, WAIT_MS = 120000, LOOK_MS = 2, PARTITIONS = 9 };
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */
static const int64_t second_ns = INT64_C(1000000000);

static struct world world;
static struct forge_error error;

static int open_world(void **state)
{
    world_open(&world, NULL);
    uint64_t until_ms = forge_clock_monotonic_ms() + WAIT_MS;
    while (world_number(&world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass") < PARTITIONS) {
        if (forge_clock_monotonic_ms() > until_ms)
            world_fail(&world, "the server has made no partitions");
        world_sleep_ms(LOOK_MS);
    }
    return 0;
}

static int close_world(void **state)
{
    world_close(&world);
    return 0;
}

/* ---- buffers ---- */

struct client {
    struct forge_channel *channel;
    struct forge_span_buffer *buffer;
};

static struct client client_open(const char *token, struct forge_span_buffer_options options)
{
    struct client client = {.channel = world_channel(&world, 0, token)};
    options.project_id = world.home.project_id;
    world_check(&world, "open", forge_span_buffer_open(client.channel, &options, &client.buffer, &error), &error);
    return client;
}

static struct forge_span_buffer_stats stats_of(const struct client *client)
{
    struct forge_span_buffer_stats stats;
    forge_span_buffer_get_stats(client->buffer, &stats);
    return stats;
}

static struct forge_span_buffer_stats client_close(struct client *client, uint32_t timeout_ms)
{
    struct forge_span_buffer_stats stats;
    forge_span_buffer_close(client->buffer, timeout_ms, &stats);
    forge_channel_close(client->channel);
    assert_int_equal(stats.added, stats.accepted + stats.duplicate + stats.rejected + stats.dropped_full + stats.dropped_too_large +
                                      stats.dropped_invalid + stats.dropped_gave_up + stats.dropped_closed);
    return stats;
}

static void wait_accepted(const struct client *client, uint64_t count)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + WAIT_MS;
    while (stats_of(client).accepted < count && forge_clock_monotonic_ms() < until_ms)
        world_sleep_ms(LOOK_MS);
    assert_in_range(stats_of(client).accepted, count, UINT64_MAX);
}

/* ---- spans ---- */

/* ids are the caller's to keep until the span is handed over. */
static Forge__V1__Span span_of(const char *name, const char *trace_id, const char *span_id)
{
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    span.trace_id = TEXT(trace_id);
    span.span_id = TEXT(span_id);
    span.name = TEXT(name);
    span.end_ns = forge_now_ns();
    span.start_ns = span.end_ns - second_ns;
    return span;
}

static forge_code add(const struct client *client, const char *name)
{
    char trace_id[FORGE_TRACE_ID_SIZE], span_id[FORGE_SPAN_ID_SIZE];
    forge_trace_id_make(trace_id);
    forge_span_id_make(span_id);
    Forge__V1__Span span = span_of(name, trace_id, span_id);
    return forge_span_buffer_add(client->buffer, &span);
}

/* Rows of this name are there, each span once, and the traces add them up. */
static void expect_stored(const char *name, int64_t count)
{
    assert_int_equal(world_number(&world, "SELECT count(*) FROM spans WHERE name = '%s'", name), count);
    assert_int_equal(world_number(&world, "SELECT count(DISTINCT (trace_id, span_id)) FROM spans WHERE name = '%s'", name), count);
    assert_int_equal(world_number(&world,
                                  "SELECT coalesce(sum(span_count), 0)::bigint FROM traces t WHERE EXISTS (SELECT FROM spans s WHERE "
                                  "s.name = '%s' AND s.trace_id = t.trace_id AND s.project_id = t.project_id)",
                                  name),
                     count);
}

struct adder {
    const struct client *client;
    const char *name;
    pthread_barrier_t *start;
    unsigned spans;
};

static void *add_traces(void *argument)
{
    const struct adder *adder = argument;
    char trace_id[FORGE_TRACE_ID_SIZE] = "", span_id[FORGE_SPAN_ID_SIZE];
    pthread_barrier_wait(adder->start);
    for (unsigned i = 0; i < adder->spans; i++) {
        if (i % SPANS_OF_TRACE == 0)
            forge_trace_id_make(trace_id);
        forge_span_id_make(span_id);
        Forge__V1__Span span = span_of(adder->name, trace_id, span_id);
        assert_int_equal(forge_span_buffer_add(adder->client->buffer, &span), FORGE_OK);
    }
    return NULL;
}

/* From all threads at once; meanwhile runs on the caller's, may be NULL. */
static void add_from_threads(const struct client *client, const char *name, unsigned spans_of_thread,
                             void (*meanwhile)(const struct client *client))
{
    pthread_barrier_t start;
    pthread_t threads[THREADS];
    struct adder adder = {client, name, &start, spans_of_thread};
    pthread_barrier_init(&start, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_traces, &adder), 0);
    pthread_barrier_wait(&start);
    if (meanwhile)
        meanwhile(client);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
}

/* ---- tests ---- */

static void test_spans_of_many_threads_arrive_once(void **state)
{
    struct client client = client_open(world.home.ingest_key, (struct forge_span_buffer_options){.spans_max = THREADS * SPANS_OF_THREAD});
    uint64_t from_ms = forge_clock_monotonic_ms();
    add_from_threads(&client, "many", SPANS_OF_THREAD, NULL);
    uint64_t added_ms = forge_clock_monotonic_ms() - from_ms;
    struct forge_span_buffer_stats stats = client_close(&client, WAIT_MS);
    printf("%d spans handed over in %u ms, stored after %u ms by %u calls\n", THREADS * SPANS_OF_THREAD, (unsigned)added_ms,
           (unsigned)(forge_clock_monotonic_ms() - from_ms), (unsigned)stats.calls);
    assert_int_equal(stats.accepted + stats.duplicate, THREADS * SPANS_OF_THREAD);
    expect_stored("many", THREADS * SPANS_OF_THREAD);
}

/* Each time the server has answered for some more, but by far not for all. */
static void kill_servers(const struct client *client)
{
    for (unsigned i = 1; i <= KILLS; i++) {
        wait_accepted(client, i * THREADS * SPANS_OF_THREAD / 50);
        world_server_kill(&world, 0);
        assert_in_range(stats_of(client).accepted, 1, THREADS * SPANS_OF_THREAD / 5 - 1);
        world_server_start(&world, 0, false);
    }
}

static void test_a_killed_server_costs_nothing(void **state)
{
    const unsigned spans = THREADS * SPANS_OF_THREAD / 5;
    struct client client =
        client_open(world.home.ingest_key,
                    (struct forge_span_buffer_options){.spans_max = spans, .batch_spans = 50, .calls_max = 4, .call_timeout_ms = 500});
    add_from_threads(&client, "killed", spans / THREADS, kill_servers);
    struct forge_span_buffer_stats stats = client_close(&client, WAIT_MS);
    printf("%u spans past %d kills: %u accepted, %u duplicate, %u of %u calls failed\n", spans, KILLS, (unsigned)stats.accepted,
           (unsigned)stats.duplicate, (unsigned)stats.failed_calls, (unsigned)stats.calls);
    assert_int_equal(stats.accepted + stats.duplicate, spans);
    expect_stored("killed", spans);
    assert_true(world_wait_ready(&world, 0, WAIT_MS));
}

static void test_a_stopped_server_makes_nobody_wait(void **state)
{
    const unsigned spans_max = 1000, handed_over = 5000;
    struct client client =
        client_open(world.home.ingest_key, (struct forge_span_buffer_options){.spans_max = spans_max, .batch_spans = 100, .flush_ms = 1});
    assert_int_equal(add(&client, "stopped"), FORGE_OK); /* so that it is connected */
    wait_accepted(&client, 1);
    world_server_pause(&world, 0);
    unsigned taken = 0;
    for (unsigned i = 0; i < handed_over; i++) {
        forge_code code = add(&client, "stopped");
        assert_true(code == FORGE_OK || code == FORGE_RESOURCE_EXHAUSTED);
        taken += code == FORGE_OK;
    }
    struct forge_span_buffer_stats stats = stats_of(&client); /* every one has returned, and no answer came */
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(taken, spans_max);
    assert_int_equal(stats.spans, spans_max);
    assert_int_equal(stats.dropped_full, handed_over - spans_max);
    world_server_resume(&world, 0);
    world_check(&world, "flush", forge_span_buffer_flush(client.buffer, WAIT_MS, &error), &error);
    stats = client_close(&client, WAIT_MS);
    assert_int_equal(stats.accepted + stats.duplicate, 1 + spans_max);
    expect_stored("stopped", 1 + spans_max);
}

struct told {
    unsigned end_before_start, too_old, conflicts, others;
};

static void on_rejected(void *user, const struct forge_span_rejection *rejection)
{
    struct told *told = user;
    const char *field = rejection->verdict && rejection->verdict->n_field_violations ? rejection->verdict->field_violations[0]->field : "";
    if (rejection->code == FORGE_INVALID_ARGUMENT && strcmp(field, "end_ns") == 0)
        told->end_before_start++;
    else if (rejection->code == FORGE_OUT_OF_RANGE && strstr(rejection->message, "start_ns"))
        told->too_old++;
    else if (rejection->code == FORGE_ALREADY_EXISTS && strcmp(rejection->span->output, "another") == 0)
        told->conflicts++;
    else
        told->others++;
}

static void test_what_the_server_refuses_is_told(void **state)
{
    struct told told = {.others = 0};
    struct client client =
        client_open(world.home.ingest_key, (struct forge_span_buffer_options){.on_rejected = on_rejected, .user = &told});
    char trace_id[FORGE_TRACE_ID_SIZE];
    forge_trace_id_make(trace_id);
    Forge__V1__Span good = span_of("told", trace_id, "0000000000000001"), backwards = span_of("told", trace_id, "0000000000000002"),
                    old = span_of("told", trace_id, "0000000000000003"), other = good;
    backwards.end_ns = backwards.start_ns - 1;
    old.start_ns -= 48 * 3600 * second_ns;
    other.output = TEXT("another");
    forge_span_buffer_add(client.buffer, &good);
    forge_span_buffer_add(client.buffer, &backwards);
    forge_span_buffer_add(client.buffer, &old);
    world_check(&world, "flush", forge_span_buffer_flush(client.buffer, WAIT_MS, &error), &error);
    forge_span_buffer_add(client.buffer, &other);
    forge_span_buffer_add(client.buffer, &good);
    struct forge_span_buffer_stats stats = client_close(&client, WAIT_MS);
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(stats.duplicate, 1);
    assert_int_equal(stats.rejected, 3);
    assert_int_equal(told.end_before_start, 1);
    assert_int_equal(told.too_old, 1);
    assert_int_equal(told.conflicts, 1);
    assert_int_equal(told.others, 0);
    expect_stored("told", 1);
}

static void test_a_key_without_the_scope_stores_nothing(void **state)
{
    struct told told = {.others = 0};
    struct client client = client_open(world.home.read_key, (struct forge_span_buffer_options){.on_rejected = on_rejected, .user = &told});
    assert_int_equal(add(&client, "denied"), FORGE_OK);
    assert_int_equal(client_close(&client, WAIT_MS).rejected, 1);
    assert_int_equal(told.others, 1);
    expect_stored("denied", 0);
}

static void test_close_sends_what_is_left(void **state)
{
    struct client client = client_open(world.home.ingest_key, (struct forge_span_buffer_options){.flush_ms = 3600000});
    for (int i = 0; i < 10; i++)
        assert_int_equal(add(&client, "closed"), FORGE_OK);
    assert_int_equal(client_close(&client, WAIT_MS).accepted, 10);
    expect_stored("closed", 10);
}

static void test_close_ends_without_a_server(void **state)
{
    const uint32_t timeout_ms = 200;
    world_server_kill(&world, 0);
    struct client client = client_open(world.home.ingest_key, (struct forge_span_buffer_options){.flush_ms = 1});
    for (int i = 0; i < 10; i++)
        assert_int_equal(add(&client, "dead"), FORGE_OK);
    uint64_t from_ms = forge_clock_monotonic_ms();
    assert_int_equal(client_close(&client, timeout_ms).dropped_closed, 10);
    assert_in_range(forge_clock_monotonic_ms() - from_ms, timeout_ms, WAIT_MS / 10);
    world_server_start(&world, 0, true);
    expect_stored("dead", 0);
}

static void point_label(const char *label)
{
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    Forge__V1__Label *reply;
    request.prompt_id = world.home.prompt_id;
    request.label = TEXT(label);
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = 1;
    world_check(&world, "SetLabel", forge_prompt_set_label(channel, NULL, &request, &reply, &error), &error);
    forge__v1__label__free_unpacked(reply, NULL);
    forge_channel_close(channel);
}

/* The example, as people run it. */
static void test_the_support_bot_sends_its_trace(void **state)
{
    char line[2048], server[128], token[128], authority[512], snapshot[512];
    snprintf(server, sizeof server, "FORGE_SERVER=%s", world_address(&world, 0));
    snprintf(token, sizeof token, "FORGE_TOKEN=%s", world.home.session_token);
    snprintf(authority, sizeof authority, "FORGE_CA=%s", tls_files_path(forged_world_tls(world.files), "ca.pem"));
    snprintf(snapshot, sizeof snapshot, "%s/prompts", forged_world_folder(world.files));
    snprintf(line, sizeof line, "printf 'ann how are you?\\nbob what now?\\n' | '%s/bin/support_bot' %s greeting live '%s'",
             getenv("FORGE_BINARY_DIR"), world.home.project_id, snapshot);
    const char *const arguments[] = {"-c", line, NULL}, *const environment[] = {server, token, authority, NULL};
    struct child_output output;
    point_label("live");
    child_run("/bin/sh", arguments, environment, forged_world_folder(world.files), &output);
    if (output.exit_code)
        fail_msg("%d: %s%s", output.exit_code, output.out, output.err);
    child_output_done(&output);
    expect_stored("answer a question", 2);
    assert_int_equal(
        world_number(&world,
                     "SELECT count(*) FROM spans WHERE prompt_id = '%s' AND prompt_version = 1 AND prompt_label = 'live' AND user_id IN "
                     "('ann', 'bob') AND input IN ('how are you?', 'what now?')",
                     world.home.prompt_id),
        2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans_of_many_threads_arrive_once),
        cmocka_unit_test(test_a_killed_server_costs_nothing),
        cmocka_unit_test(test_a_stopped_server_makes_nobody_wait),
        cmocka_unit_test(test_what_the_server_refuses_is_told),
        cmocka_unit_test(test_a_key_without_the_scope_stores_nothing),
        cmocka_unit_test(test_close_sends_what_is_left),
        cmocka_unit_test(test_close_ends_without_a_server),
        cmocka_unit_test(test_the_support_bot_sends_its_trace),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
