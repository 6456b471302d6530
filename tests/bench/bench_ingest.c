/* bench_ingest ADDRESS CA_FILE CLIENTS SPANS SECONDS: so many threads, each sending calls of so many spans, one after the other, as a model
 * call of today is instrumented: a dozen gen_ai.* attributes, four spans to a trace. Reads FORGE_TOKEN and FORGE_BENCH_PROJECT from the
 * environment. Prints {"rows_per_second":..,"calls_per_second":..,"p50_us":..}. */
#include "forge/forge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 256, SPANS_MAX = 1000, ATTRIBUTES = 12, SPANS_OF_A_TRACE = 4, SAMPLES_MAX = 1000000, CONNECTIONS = 4 };
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

static struct forge_channel *channel;
static size_t span_count;
static atomic_bool stopping;
static atomic_size_t calls;
static float latencies_us[SAMPLES_MAX];

/* The spans of a client; only ids and times change from call to call. */
struct client {
    pthread_t thread;
    unsigned number;
    uint64_t sent;
    Forge__V1__Span spans[SPANS_MAX], *list[SPANS_MAX];
    char trace_ids[SPANS_MAX][33], span_ids[SPANS_MAX][17];
    Forge__V1__Attribute attributes[ATTRIBUTES], *attribute_list[ATTRIBUTES];
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void fail(const char *what, forge_code code, const struct forge_error *error)
{
    fprintf(stderr, "bench_ingest: %s: %s: %s\n", what, forge_code_name(code), error->message);
    _Exit(1);
}

static void attribute_text(struct client *client, int at, const char *key, const char *value)
{
    Forge__V1__Attribute *attribute = &client->attributes[at];
    *attribute = (Forge__V1__Attribute)FORGE__V1__ATTRIBUTE__INIT;
    attribute->key = TEXT(key);
    attribute->value_case = FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE;
    attribute->string_value = TEXT(value);
}

static void attribute_number(struct client *client, int at, const char *key, int64_t value)
{
    attribute_text(client, at, key, NULL);
    client->attributes[at].value_case = FORGE__V1__ATTRIBUTE__VALUE_INT_VALUE;
    client->attributes[at].int_value = value;
}

static void make_attributes(struct client *client)
{
    attribute_text(client, 0, "gen_ai.operation.name", "chat");
    attribute_text(client, 1, "gen_ai.provider.name", "openai");
    attribute_text(client, 2, "gen_ai.request.model", "gpt-4o-mini");
    attribute_text(client, 3, "gen_ai.response.model", "gpt-4o-mini-2024-07-18");
    attribute_text(client, 4, "gen_ai.response.id", "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx");
    attribute_number(client, 5, "gen_ai.request.max_tokens", 1024);
    attribute_number(client, 6, "gen_ai.usage.input_tokens", 1532);
    attribute_number(client, 7, "gen_ai.usage.output_tokens", 211);
    attribute_number(client, 8, "gen_ai.usage.cache_read.input_tokens", 1024);
    attribute_text(client, 9, "gen_ai.conversation.id", "conv_5j66UpCpwteGg4YSxUnt7lPY");
    attribute_text(client, 10, "server.address", "api.openai.com");
    attribute_number(client, 11, "server.port", 443);
    for (int i = 0; i < ATTRIBUTES; i++)
        client->attribute_list[i] = &client->attributes[i];
}

static void next_batch(struct client *client)
{
    uint64_t now = clock_ns(CLOCK_REALTIME);
    for (size_t i = 0; i < span_count; i++) {
        Forge__V1__Span *span = &client->spans[i];
        uint64_t number = client->sent++;
        *span = (Forge__V1__Span)FORGE__V1__SPAN__INIT;
        /* Random for the index, as trace ids are: the number's digits, multiplied into all of them. */
        snprintf(client->trace_ids[i], sizeof client->trace_ids[i], "%016llx%016llx",
                 (unsigned long long)((number / SPANS_OF_A_TRACE + 1) * 0x9E3779B97F4A7C15 + client->number),
                 (unsigned long long)((uint64_t)getpid() << 32 | client->number));
        snprintf(client->span_ids[i], sizeof client->span_ids[i], "%016llx", (unsigned long long)number + 1);
        span->trace_id = client->trace_ids[i];
        span->span_id = client->span_ids[i];
        span->parent_span_id = i % SPANS_OF_A_TRACE > 0 ? client->span_ids[i - 1] : TEXT("");
        span->name = TEXT("chat gpt-4o-mini");
        span->start_ns = (int64_t)now + (int64_t)i * 1000;
        span->end_ns = span->start_ns + 850000000;
        span->status = FORGE__V1__SPAN_STATUS__SPAN_STATUS_OK;
        span->n_attributes = ATTRIBUTES;
        span->attributes = client->attribute_list;
        client->list[i] = span;
    }
}

static void *send_calls(void *argument)
{
    struct client *client = argument;
    make_attributes(client);
    while (!atomic_load(&stopping)) {
        Forge__V1__IngestSpansRequest request = FORGE__V1__INGEST_SPANS_REQUEST__INIT;
        Forge__V1__IngestSpansResponse *reply;
        struct forge_error error = {0};
        next_batch(client);
        request.project_id = getenv("FORGE_BENCH_PROJECT");
        request.n_spans = span_count;
        request.spans = client->list;
        uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
        forge_code code = forge_trace_ingest_spans(channel, NULL, &request, &reply, &error);
        if (code != FORGE_OK)
            fail("call", code, &error);
        if ((size_t)reply->accepted_count != span_count) {
            fprintf(stderr, "bench_ingest: %d of %zu accepted: %s\n", reply->accepted_count, span_count,
                    reply->verdicts[0]->verdict->message);
            _Exit(1);
        }
        forge__v1__ingest_spans_response__free_unpacked(reply, NULL);
        size_t index = atomic_fetch_add(&calls, 1);
        if (index < SAMPLES_MAX)
            latencies_us[index] = (float)(clock_ns(CLOCK_MONOTONIC) - begun_ns) / 1e3f;
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void measure(double seconds)
{
    const struct timespec warm_up = {.tv_nsec = 500000000},
                          duration = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&warm_up, NULL);
    size_t first = atomic_load(&calls);
    uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
    nanosleep(&duration, NULL);
    size_t last = atomic_load(&calls);
    double elapsed = (double)(clock_ns(CLOCK_MONOTONIC) - begun_ns) / 1e9;
    atomic_store(&stopping, true);
    size_t count = (last < SAMPLES_MAX ? last : SAMPLES_MAX) - first;
    qsort(latencies_us + first, count, sizeof *latencies_us, compare);
    printf("{\"rows_per_second\":%.0f,\"calls_per_second\":%.1f,\"p50_us\":%.0f}\n", (double)(last - first) * (double)span_count / elapsed,
           (double)(last - first) / elapsed, count > 0 ? latencies_us[first + count / 2] : 0);
}

int main(int argc, char **argv)
{
    int clients = argc == 6 ? atoi(argv[3]) : 0, spans = argc == 6 ? atoi(argv[4]) : 0;
    double seconds = argc == 6 ? atof(argv[5]) : 0;
    if (clients < 1 || clients > CLIENTS_MAX || spans < 1 || spans > SPANS_MAX || seconds <= 0 || !getenv("FORGE_TOKEN") ||
        !getenv("FORGE_BENCH_PROJECT")) {
        fprintf(stderr, "usage: FORGE_TOKEN=.. FORGE_BENCH_PROJECT=.. bench_ingest ADDRESS CA_FILE CLIENTS SPANS SECONDS\n");
        return 2;
    }
    struct forge_channel_options options = {
        .addresses = argv[1], .ca_file = argv[2], .token = getenv("FORGE_TOKEN"), .connections_per_address = CONNECTIONS};
    struct forge_error error = {0};
    forge_code code = forge_channel_open(&options, &channel, &error);
    if (code != FORGE_OK)
        fail("open", code, &error);
    span_count = (size_t)spans;
    struct client *all = calloc((size_t)clients, sizeof *all);
    for (int i = 0; i < clients; i++) {
        all[i].number = (unsigned)i;
        if (pthread_create(&all[i].thread, NULL, send_calls, &all[i]) != 0)
            return 1;
    }
    measure(seconds);
    for (int i = 0; i < clients; i++)
        pthread_join(all[i].thread, NULL);
    forge_channel_close(channel);
    free(all);
    return 0;
}
