/* kill -9 in the middle of ingest, of forged and of PostgreSQL by turns: two servers share a database; writers send batches of spans, each
 * again and again until it is acknowledged. Every acknowledged span is there once, and the traces have the sums of the spans that are. */
#include "writes.h"

#include "forge/calls.h"
#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { WRITERS = 12, BATCH = 20, TRACES_OF_A_BATCH = 3, CALL_MS = 3000, STUCK_MS = 30000, REPEAT_PAUSE_MS = 5 };
static const int64_t span_ns = 1000000;

struct writer {
    pthread_t thread;
    unsigned number;
    struct forge_channel *channel;
    long batches; /* acknowledged */
    long unknown; /* answers that did not tell the outcome */
    atomic_bool failed;
};

static struct world world;
static struct writer writers[WRITERS];
static atomic_long acknowledged;
static atomic_bool stopping;

/* ---- writers ---- */

/* A batch of its own ids; some traces of it are those of the next batch too, so that their sums are added to. */
struct batch {
    Forge__V1__IngestSpansRequest request;
    Forge__V1__Span spans[BATCH], *list[BATCH];
    char trace_ids[BATCH][33], span_ids[BATCH][17];
};

static void batch_make(struct batch *batch, const struct writer *writer)
{
    int64_t now_ns = forge_clock_wall_us() * 1000;
    batch->request = (Forge__V1__IngestSpansRequest)FORGE__V1__INGEST_SPANS_REQUEST__INIT;
    for (unsigned i = 0; i < BATCH; i++) {
        Forge__V1__Span *span = &batch->spans[i];
        snprintf(batch->trace_ids[i], sizeof batch->trace_ids[i], "%08x%024lx", writer->number + 1,
                 (unsigned long)writer->batches + i % TRACES_OF_A_BATCH);
        snprintf(batch->span_ids[i], sizeof batch->span_ids[i], "%014lx%02x", (unsigned long)writer->batches + 1, i);
        *span = (Forge__V1__Span)FORGE__V1__SPAN__INIT;
        span->trace_id = batch->trace_ids[i];
        span->span_id = batch->span_ids[i];
        span->name = span->model = batch->span_ids[i];
        span->start_ns = now_ns;
        span->end_ns = now_ns + span_ns;
        batch->list[i] = span;
    }
    batch->request.project_id = (char *)(uintptr_t)world.home.project_id;
    batch->request.spans = batch->list;
    batch->request.n_spans = BATCH;
}

static bool is_unknown(forge_code code)
{
    return code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED || code == FORGE_RESOURCE_EXHAUSTED || code == FORGE_ABORTED;
}

/* True when every span is stored. */
static bool batch_send(struct writer *writer, const struct batch *batch, bool *out_goes_on)
{
    const struct forge_call_options options = {.timeout_ms = CALL_MS};
    Forge__V1__IngestSpansResponse *reply;
    struct forge_error error = {0};
    forge_code code = forge_trace_ingest_spans(writer->channel, &options, &batch->request, &reply, &error);
    *out_goes_on = is_unknown(code);
    if (code != FORGE_OK) {
        if (!*out_goes_on)
            fprintf(stderr, "a batch: %s: %s\n", forge_code_name(code), error.message);
        forge_error_free(&error);
        return false;
    }
    bool stored = reply->accepted_count + reply->duplicate_count == BATCH;
    if (!stored)
        fprintf(stderr, "%d spans rejected: %s\n", reply->rejected_count, reply->verdicts[0]->verdict->message);
    forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
    return stored;
}

static bool batch_store(struct writer *writer)
{
    static _Thread_local struct batch batch;
    uint64_t give_up_ms = forge_clock_monotonic_ms() + (uint64_t)STUCK_MS * fault_time_factor();
    bool goes_on = true;
    batch_make(&batch, writer);
    while (!batch_send(writer, &batch, &goes_on)) {
        if (!goes_on || forge_clock_monotonic_ms() > give_up_ms)
            return false;
        writer->unknown++;
        world_sleep_ms(REPEAT_PAUSE_MS);
    }
    writer->batches++;
    atomic_fetch_add(&acknowledged, BATCH);
    return true;
}

static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    while (!atomic_load(&stopping) && !writer->failed)
        writer->failed = !batch_store(writer);
    return NULL;
}

static void writers_start(void)
{
    char both[64];
    snprintf(both, sizeof both, "%s,%s", world_address(&world, 0), world_address(&world, 1));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].number = i;
        writers[i].channel = world_channel_to(&world, i % 3 == 2 ? both : world_address(&world, i % 3), world.home.ingest_key);
        if (pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]) != 0)
            world_fail(&world, "no thread for a writer");
    }
}

static bool wait_acknowledged(long goal)
{
    uint64_t give_up_ms = forge_clock_monotonic_ms() + 2 * (uint64_t)STUCK_MS * fault_time_factor();
    bool failed = false;
    while (atomic_load(&acknowledged) < goal && !failed && forge_clock_monotonic_ms() < give_up_ms) {
        world_sleep_ms(2);
        for (unsigned i = 0; i < WRITERS; i++)
            failed |= writers[i].failed;
    }
    return atomic_load(&acknowledged) >= goal;
}

static bool writers_stop(long *out_unknown)
{
    bool all_well = true;
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        all_well &= !writers[i].failed;
        *out_unknown += writers[i].unknown;
        forge_channel_close(writers[i].channel);
    }
    return all_well;
}

/* ---- faults ---- */

static void kill_backend(void)
{
    int64_t pid = world_number(&world, "SELECT pid FROM pg_stat_activity WHERE usename = 'forge_app' AND state <> 'idle'"
                                       " UNION ALL SELECT pid FROM pg_stat_activity WHERE usename = 'forge_app' LIMIT 1");
    if (pid > 1) /* none while the servers are connecting again */
        kill((pid_t)pid, SIGKILL);
}

/* forged twice, a backend of PostgreSQL, forged twice, the postmaster. */
static void strike(long turn)
{
    if (turn % 3 != 2) {
        world_server_kill(&world, (unsigned)turn % 2);
        world_server_start(&world, (unsigned)turn % 2, false);
    } else if (turn % 6 == 2) {
        kill_backend();
    } else {
        pg_cluster_kill(world.cluster);
        pg_cluster_start(world.cluster);
    }
}

static struct fault_count count_spans(void)
{
    long stored = world_number(&world, "SELECT count(*) FROM spans"),
         distinct = world_number(&world, "SELECT count(*) FROM (SELECT DISTINCT trace_id, span_id FROM spans) s"),
         summed = world_number(&world, "SELECT sum(span_count) FROM traces"), wanted = atomic_load(&acknowledged);
    if (stored != wanted || distinct != wanted || summed != wanted)
        fprintf(stderr, "%ld spans acknowledged, %ld rows of %ld spans, %ld in the sums of traces\n", wanted, stored, distinct, summed);
    long lost = wanted > distinct ? wanted - distinct : 0, extra = stored - distinct + (distinct > wanted ? distinct - wanted : 0);
    return (struct fault_count){.lost = lost + (summed < stored ? stored - summed : 0),
                                .duplicated = extra + (summed > stored ? summed - stored : 0)};
}

static void test_kill_in_the_middle_of_ingest(void **state)
{
    long kills = fault_is_full() ? 100 : 12, goal = fault_is_full() ? 200000 : 12000, unknown = 0;
    bool progress = true;
    writers_start();
    for (long turn = 0; turn < kills && progress; turn++) {
        progress = wait_acknowledged((turn + 1) * goal / (kills + 1));
        world_sleep_ms((unsigned)(turn * 7 % 5)); /* not always right behind a reply */
        if (progress)
            strike(turn);
    }
    progress = progress && wait_acknowledged(goal);
    progress = writers_stop(&unknown) && progress;
    struct fault_count count = count_spans();
    bool at_rest = world_is_at_rest(&world, 0, 5000) & world_is_at_rest(&world, 1, 5000);
    long leaked = fault_open_transactions(&world) + !at_rest;
    fprintf(stderr, "%ld answers unknown\n", unknown);
    bool ok = progress && count.lost == 0 && count.duplicated == 0 && leaked == 0;
    fault_report("ingest",
                 fault_is_full() ? "kill -9 of forged and of PostgreSQL in the middle of ingest, 100 times"
                                 : "kill -9 of forged and of PostgreSQL in the middle of ingest, 12 times",
                 atomic_load(&acknowledged), count, leaked, "0 lost, 0 twice", ok);
    assert_true(ok);
}

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    while (world_number(&world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spans'::regclass") < 9)
        world_sleep_ms(10); /* made by the servers' first pass */
    return 0;
}

static int tear_down(void **state)
{
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_in_the_middle_of_ingest)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
