#include "writers.h"

#include "wire/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPTS = 8, CALL_MS = 3000, STUCK_MS = 30000, SAMPLE_SLOTS = 512 };

struct sample {
    struct fault_write write;
    uint8_t *reply;
    size_t size;
};

struct writer {
    pthread_t thread;
    unsigned number;
    struct forge_channel *channel;
    long versions, keys; /* acknowledged */
    struct sample samples[SAMPLE_SLOTS];
    unsigned sample_count;
    atomic_bool failed;
};

static const struct world *world;
static char prompts[PROMPTS][WORLD_ID_SIZE];
static struct writer writers[FAULT_WRITERS];
static atomic_long acknowledged, unknown;
static atomic_bool stopping;
static long sample_every;

static void keep_sample(struct writer *writer, const struct fault_write *write, const ProtobufCMessage *reply)
{
    if ((writer->versions + writer->keys) % sample_every != 0 || writer->sample_count == SAMPLE_SLOTS)
        return;
    struct sample *sample = &writer->samples[writer->sample_count++];
    sample->write = *write;
    sample->reply = fault_reply_pack(reply, &sample->size);
}

/* The same request_id until the outcome is known. False when the server gave a wrong answer or none. */
static bool write_once(struct writer *writer, enum fault_write_kind kind)
{
    struct fault_write write;
    struct forge_error error;
    struct forge_reply_info info;
    ProtobufCMessage *reply = NULL;
    fault_write_init(&write, kind, prompts[(writer->number + (unsigned)writer->versions) % PROMPTS]);
    forge_code code = fault_write_send(writer->channel, &write, CALL_MS, &reply, NULL, &error);
    if (code != FORGE_OK) {
        atomic_fetch_add(&unknown, 1);
        forge_error_free(&error);
        uint64_t give_up_ms = forge_clock_monotonic_ms() + (uint64_t)STUCK_MS * fault_time_factor();
        code = fault_write_finish(writer->channel, &write, CALL_MS, give_up_ms, &reply, &info, &error);
    }
    if (code != FORGE_OK) {
        fprintf(stderr, "write %s: %s: %s\n", write.request_id, forge_code_name(code), error.message);
        forge_error_free(&error);
        return false;
    }
    keep_sample(writer, &write, reply);
    protobuf_c_message_free_unpacked(reply, NULL);
    writer->versions += kind == FAULT_WRITE_VERSION;
    writer->keys += kind == FAULT_WRITE_KEY;
    atomic_fetch_add(&acknowledged, 1);
    return true;
}

static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    for (unsigned turn = writer->number; !atomic_load(&stopping) && !writer->failed; turn++)
        writer->failed = !write_once(writer, turn % 2 ? FAULT_WRITE_KEY : FAULT_WRITE_VERSION);
    return NULL;
}

static void make_prompts(void)
{
    struct forge_channel *channel = world_channel(world, 0, world->home.session_token);
    for (int i = 0; i < PROMPTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "written %d", i);
        world_create_prompt(world, channel, &world->home, name, "first version", prompts[i]);
    }
    forge_channel_close(channel);
}

void fault_writers_start(const struct world *the_world, long goal)
{
    char both[64];
    world = the_world;
    sample_every = goal / FAULT_SAMPLES;
    make_prompts();
    snprintf(both, sizeof both, "%s,%s", world_address(world, 0), world_address(world, 1));
    for (unsigned i = 0; i < FAULT_WRITERS; i++) {
        const char *addresses = i % 3 == 2 ? both : world_address(world, i % 3);
        writers[i].number = i;
        writers[i].channel = world_channel_to(world, addresses, world->home.session_token);
        if (pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]) != 0)
            world_fail(world, "no thread for a writer");
    }
}

static bool is_stuck(uint64_t since_ms)
{
    bool failed = forge_clock_monotonic_ms() - since_ms > (uint64_t)STUCK_MS * fault_time_factor();
    for (unsigned i = 0; i < FAULT_WRITERS; i++)
        failed |= writers[i].failed;
    return failed;
}

bool fault_writers_wait(long goal)
{
    uint64_t since_ms = forge_clock_monotonic_ms();
    long before = atomic_load(&acknowledged);
    while (atomic_load(&acknowledged) < goal) {
        world_sleep_ms(2);
        if (atomic_load(&acknowledged) != before) {
            before = atomic_load(&acknowledged);
            since_ms = forge_clock_monotonic_ms();
        }
        if (is_stuck(since_ms))
            return false;
    }
    return true;
}

/* Replies of samples that are not the same again. */
static long replay_samples(unsigned *out_replayed)
{
    struct forge_channel *channel = world_channel(world, 0, world->home.session_token);
    long different = 0;
    *out_replayed = 0;
    for (unsigned i = 0; i < FAULT_WRITERS * SAMPLE_SLOTS; i++) {
        struct writer *writer = &writers[i / SAMPLE_SLOTS];
        struct sample *sample = &writer->samples[i % SAMPLE_SLOTS];
        if (i % SAMPLE_SLOTS >= writer->sample_count)
            continue;
        struct forge_error error;
        struct forge_reply_info info;
        ProtobufCMessage *reply;
        size_t size;
        forge_code code = fault_write_send(channel, &sample->write, CALL_MS * fault_time_factor(), &reply, &info, &error);
        if (code != FORGE_OK) {
            fprintf(stderr, "replay of %s: %s: %s\n", sample->write.request_id, forge_code_name(code), error.message);
            different++;
        } else {
            uint8_t *packed = fault_reply_pack(reply, &size);
            different += !info.replayed || size != sample->size || memcmp(packed, sample->reply, size) != 0;
            protobuf_c_message_free_unpacked(reply, NULL);
            free(packed);
        }
        free(sample->reply);
        ++*out_replayed;
    }
    forge_channel_close(channel);
    return different;
}

void fault_writers_stop(struct fault_writers_outcome *out)
{
    *out = (struct fault_writers_outcome){.progress = true};
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < FAULT_WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        out->progress &= !writers[i].failed;
        forge_channel_close(writers[i].channel);
        out->versions += writers[i].versions;
        out->keys += writers[i].keys;
    }
    out->unknown = atomic_load(&unknown);
    if (!out->progress)
        return;
    out->different = replay_samples(&out->replayed);
    out->count = fault_count(world, out->versions, out->keys);
    bool at_rest = world_is_at_rest(world, 0, 5000) & world_is_at_rest(world, 1, 5000);
    out->leaked = fault_open_transactions(world) + !at_rest;
    out->ok = out->count.lost == 0 && out->count.duplicated == 0 && out->leaked == 0 && out->different == 0 &&
              out->replayed >= FAULT_SAMPLES - FAULT_WRITERS;
    out->count.duplicated += out->different;
    fprintf(stderr, "%ld versions and %ld keys acknowledged, %ld first answers unknown; %u replies repeated, %ld different\n",
            out->versions, out->keys, out->unknown, out->replayed, out->different);
}
