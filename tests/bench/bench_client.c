/* bench_client ADDRESS CA_FILE ping|get_prompt CONNECTIONS IN_FLIGHT SECONDS: closed loop over libforge, one channel with so many
 * connections, IN_FLIGHT calls for each of them. Reads FORGE_TOKEN (a connection takes 64 calls only after a verified credential) and, for
 * get_prompt, FORGE_BENCH_PROJECT and FORGE_BENCH_PROMPT from the environment. Prints one JSON object:
 * {"calls_per_second":..,"p50_us":..,"p99_us":..}. The twin of peers/grpc/client.cc: same loop, same payload, same arithmetic. */
#include "forge/forge.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES_MAX = 8000000, REPLY_BYTES = 1024, WARM_UP_MS = 500, END_MS = 200, CONNECTIONS_MAX = 64 };

struct slot {
    struct forge_channel *channel;
    uint64_t begun_ns;
};

static atomic_size_t finished;
static atomic_bool stopping;
static float latencies_us[SAMPLES_MAX];
static bool fetches;
static Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
static Forge__V1__GetPromptRequest fetch = FORGE__V1__GET_PROMPT_REQUEST__INIT;

static void start(struct slot *slot);

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void fail(const char *what, forge_code code, const struct forge_error *error)
{
    fprintf(stderr, "bench_client: %s: %s: %s\n", what, forge_code_name(code), error ? error->message : "");
    _Exit(1);
}

static void done(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error, const struct forge_reply_info *info)
{
    struct slot *slot = user;
    if (stopping) {
        if (reply)
            protobuf_c_message_free_unpacked(reply, NULL);
        return;
    }
    if (code != FORGE_OK)
        fail("call", code, error);
    if (!fetches && ((Forge__V1__PingResponse *)reply)->payload.len != REPLY_BYTES)
        fail("reply of another size", FORGE_INTERNAL, NULL);
    protobuf_c_message_free_unpacked(reply, NULL);
    size_t index = atomic_fetch_add(&finished, 1);
    if (index < SAMPLES_MAX)
        latencies_us[index] = (float)(now_ns() - slot->begun_ns) / 1e3f;
    start(slot);
}

static void start(struct slot *slot)
{
    struct forge_error error = {0};
    slot->begun_ns = now_ns();
    forge_code code = fetches ? forge_prompt_get_async(slot->channel, NULL, &fetch, done, slot, &error)
                              : forge_control_ping_async(slot->channel, NULL, &ping, done, slot, &error);
    if (code != FORGE_OK)
        fail("start", code, &error);
}

static struct forge_channel *connect_to(const char *address, const char *ca_file, unsigned connections)
{
    struct forge_channel_options options = {
        .addresses = address, .ca_file = ca_file, .token = getenv("FORGE_TOKEN"), .connections_per_address = connections};
    struct forge_channel *channel = NULL;
    struct forge_error error = {0};
    forge_code code = forge_channel_open(&options, &channel, &error);
    if (code != FORGE_OK)
        fail("open", code, &error);
    Forge__V1__PingResponse *reply = NULL;
    code = forge_control_ping(channel, NULL, &ping, &reply, &error);
    if (code != FORGE_OK)
        fail("first call", code, &error);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    return channel;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int measure(double seconds)
{
    pause_ms(WARM_UP_MS);
    size_t first = finished;
    uint64_t begun_ns = now_ns();
    pause_ms((long)(seconds * 1000));
    size_t last = finished < SAMPLES_MAX ? finished : SAMPLES_MAX;
    double elapsed = (double)(now_ns() - begun_ns) / 1e9;
    stopping = true;
    pause_ms(END_MS); /* the calls still in flight end unmeasured */
    size_t count = last - first;
    if (count == 0) {
        fprintf(stderr, "bench_client: no call ended\n");
        return 1;
    }
    qsort(latencies_us + first, count, sizeof *latencies_us, compare);
    printf("{\"calls_per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", (double)count / elapsed, latencies_us[first + count / 2],
           latencies_us[first + count * 99 / 100]);
    return 0;
}

int main(int argc, char **argv)
{
    int connections = argc == 7 ? atoi(argv[4]) : 0, in_flight = argc == 7 ? atoi(argv[5]) : 0;
    double seconds = argc == 7 ? atof(argv[6]) : 0;
    fetches = argc == 7 && strcmp(argv[3], "get_prompt") == 0;
    if (connections < 1 || connections > CONNECTIONS_MAX || in_flight < 1 || seconds <= 0 || (!fetches && strcmp(argv[3], "ping") != 0)) {
        fprintf(stderr, "usage: bench_client ADDRESS CA_FILE ping|get_prompt CONNECTIONS IN_FLIGHT SECONDS\n");
        return 2;
    }
    ping.reply_bytes = REPLY_BYTES;
    fetch.project_id = getenv("FORGE_BENCH_PROJECT");
    fetch.name = getenv("FORGE_BENCH_PROMPT");
    if (!getenv("FORGE_TOKEN") || (fetches && (!fetch.project_id || !fetch.name))) {
        fprintf(stderr, "bench_client: needs FORGE_TOKEN, for get_prompt also FORGE_BENCH_PROJECT and FORGE_BENCH_PROMPT\n");
        return 2;
    }
    struct slot *slots = calloc((size_t)connections * (size_t)in_flight, sizeof *slots);
    if (!slots)
        return 1;
    struct forge_channel *channel = connect_to(argv[1], argv[2], (unsigned)connections);
    for (int i = 0; i < connections * in_flight; i++) {
        slots[i].channel = channel;
        start(&slots[i]);
    }
    int exit_code = measure(seconds);
    forge_channel_close(channel);
    free(slots);
    return exit_code;
}
