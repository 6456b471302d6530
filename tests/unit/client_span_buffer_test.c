/* The span buffer of libforge against a peer that answers as the test says: when it sends, what it sends again, what it counts, what it
 * tells, and how it ends. */
#include "client_test_support.h"

#include "forge/calls.h"
#include "forge/span_buffer.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NEVER_MS = 3600000, WAIT_MS = 20000, CALLS_KEPT = 64, SPANS_SEEN = 16384, THREADS = 8, SPANS_OF_THREAD = 1000, NS_PER_MS = 1000000 };
#define TEXT(text) ((char *)(uintptr_t)(text))
#define PROJECT "0190a8f0-0000-7000-8000-000000000001"
#define TRACE "0af7651916cd43dd8448eb211c80319c"

/* ---- a server of spans ---- */

struct server {
    pthread_mutex_t mutex; /* guards the rest */
    unsigned calls, sizes[CALLS_KEPT];
    uint64_t at_ns[CALLS_KEPT];
    unsigned seen[SPANS_SEEN]; /* by span id */
    unsigned failures_left;    /* calls that are answered with code */
    Forge__V1__Code code;
    uint32_t retry_after_ms;
    size_t spans_max;         /* a call of more is too large; 0 = none is */
    unsigned verdicts_missed; /* replies without verdicts that are still to come */
    bool holds;
    struct rpc_peer_call *held[CALLS_KEPT];
    unsigned held_count;
    char resource_key[64], scope_name[64], project_id[64];
    struct counter arrived;
    struct rpc_peer *peer;
};
#define SERVER_INIT                                                                                                                        \
    {                                                                                                                                      \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .arrived = COUNTER_INIT                                                                        \
    }

static void fail_call(struct rpc_peer_call *call, Forge__V1__Code code, uint32_t retry_after_ms)
{
    Forge__V1__ReplyHeader header = FORGE__V1__REPLY_HEADER__INIT;
    header.code = code;
    header.message = TEXT("as the test says");
    header.retry_after_ms = retry_after_ms;
    rpc_peer_reply(call, &header, NULL);
}

/* The name of a span says what becomes of it; what is "later" is accepted when it comes again. */
static void judge(struct server *server, const Forge__V1__Span *span, Forge__V1__ItemVerdict *verdict)
{
    static Forge__V1__FieldViolation violation = FORGE__V1__FIELD_VIOLATION__INIT, *violations[] = {&violation};
    unsigned *seen = &server->seen[strtoul(span->span_id, NULL, 16) % SPANS_SEEN];
    verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
    if (strcmp(span->name, "duplicate") == 0)
        verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
    if (strcmp(span->name, "bad") == 0 || (strcmp(span->name, "later") == 0 && *seen == 0)) {
        verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED;
        verdict->retryable = *span->name == 'l';
        verdict->code = verdict->retryable ? FORGE__V1__CODE__CODE_ABORTED : FORGE__V1__CODE__CODE_INVALID_ARGUMENT;
        verdict->message = TEXT("not this one");
        violation.field = TEXT("end_ns");
        verdict->n_field_violations = 1;
        verdict->field_violations = violations;
    }
    ++*seen;
}

static void reply_verdicts(struct server *server, struct rpc_peer_call *call, const Forge__V1__IngestSpansRequest *request)
{
    Forge__V1__ReplyHeader header = FORGE__V1__REPLY_HEADER__INIT;
    Forge__V1__IngestSpansResponse response = FORGE__V1__INGEST_SPANS_RESPONSE__INIT;
    Forge__V1__SpanVerdict *verdicts = calloc(request->n_spans, sizeof *verdicts);
    Forge__V1__SpanVerdict **list = calloc(request->n_spans, sizeof(Forge__V1__SpanVerdict *));
    Forge__V1__ItemVerdict *items = calloc(request->n_spans, sizeof *items);
    response.verdicts = list;
    response.n_verdicts = server->verdicts_missed > 0 ? 0 : request->n_spans;
    server->verdicts_missed -= server->verdicts_missed > 0;
    for (size_t i = 0; i < response.n_verdicts; i++) {
        forge__v1__span_verdict__init(&verdicts[i]);
        forge__v1__item_verdict__init(&items[i]);
        judge(server, request->spans[i], &items[i]);
        verdicts[i].verdict = &items[i];
        list[i] = &verdicts[i];
    }
    rpc_peer_reply(call, &header, &response.base);
    free(items);
    free(list);
    free(verdicts);
}

static void note(struct server *server, const Forge__V1__IngestSpansRequest *request)
{
    server->sizes[server->calls % CALLS_KEPT] = (unsigned)request->n_spans;
    server->at_ns[server->calls % CALLS_KEPT] = forge_clock_monotonic_ns();
    server->calls++;
    snprintf(server->project_id, sizeof server->project_id, "%s", request->project_id);
    snprintf(server->scope_name, sizeof server->scope_name, "%s", request->scope ? request->scope->name : "");
    snprintf(server->resource_key, sizeof server->resource_key, "%s", request->resource ? request->resource->attributes[0]->key : "");
}

/* The mutex is held. */
static void answer(struct server *server, struct rpc_peer_call *call, const Forge__V1__IngestSpansRequest *request)
{
    if (server->failures_left > 0) {
        server->failures_left--;
        fail_call(call, server->code, server->retry_after_ms);
    } else if (server->spans_max > 0 && request->n_spans > server->spans_max) {
        fail_call(call, FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED, 0);
    } else {
        reply_verdicts(server, call, request);
    }
}

static Forge__V1__IngestSpansRequest *read_request(const struct rpc_peer_call *call)
{
    assert_string_equal(call->header->method, "forge.v1.TraceService/IngestSpans");
    Forge__V1__IngestSpansRequest *request = forge__v1__ingest_spans_request__unpack(NULL, call->payload_len, call->payload);
    assert_non_null(request);
    return request;
}

static void serve(struct rpc_peer_call *call, void *user)
{
    struct server *server = user;
    if (strcmp(call->header->method, ping_method.name) == 0) {
        rpc_peer_echo(call);
        return;
    }
    Forge__V1__IngestSpansRequest *request = read_request(call);
    pthread_mutex_lock(&server->mutex);
    note(server, request);
    if (server->holds)
        server->held[server->held_count++] = call;
    else
        answer(server, call, request);
    pthread_mutex_unlock(&server->mutex);
    forge__v1__ingest_spans_request__free_unpacked(request, NULL);
    counter_add(&server->arrived);
}

static void hold(struct server *server)
{
    pthread_mutex_lock(&server->mutex);
    server->holds = true;
    pthread_mutex_unlock(&server->mutex);
}

static void let_go(struct server *server)
{
    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < server->held_count; i++) {
        Forge__V1__IngestSpansRequest *request = read_request(server->held[i]);
        answer(server, server->held[i], request);
        forge__v1__ingest_spans_request__free_unpacked(request, NULL);
    }
    server->held_count = 0;
    server->holds = false;
    pthread_mutex_unlock(&server->mutex);
}

/* The next calls end with this code. */
static void fail_next(struct server *server, unsigned count, Forge__V1__Code code, uint32_t retry_after_ms)
{
    pthread_mutex_lock(&server->mutex);
    server->failures_left = count;
    server->code = code;
    server->retry_after_ms = retry_after_ms;
    pthread_mutex_unlock(&server->mutex);
}

static unsigned calls_of(struct server *server)
{
    return counter_get(&server->arrived);
}

/* Spans of call n, from 0. */
static unsigned size_of(struct server *server, unsigned n)
{
    pthread_mutex_lock(&server->mutex);
    unsigned size = server->sizes[n];
    pthread_mutex_unlock(&server->mutex);
    return size;
}

/* ---- a buffer of it ---- */

struct client {
    struct server server;
    struct forge_channel *channel;
    struct forge_span_buffer *buffer;
};

/* Big: not for the stack. */
static struct client *client_open(struct forge_span_buffer_options options)
{
    static const struct server empty = SERVER_INIT;
    struct client *client = calloc(1, sizeof *client);
    struct forge_error error;
    assert_non_null(client);
    client->server = empty;
    client->server.peer = start_peer(serve, &client->server);
    client->channel = open_channel(rpc_peer_address(client->server.peer));
    options.project_id = PROJECT;
    if (forge_span_buffer_open(client->channel, &options, &client->buffer, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    return client;
}

static void expect_sum(const struct forge_span_buffer_stats *stats)
{
    assert_int_equal(stats->added, stats->accepted + stats->duplicate + stats->rejected + stats->dropped_full + stats->dropped_too_large +
                                       stats->dropped_invalid + stats->dropped_gave_up + stats->dropped_closed + stats->spans);
}

static struct forge_span_buffer_stats stats_of(struct client *client)
{
    struct forge_span_buffer_stats stats;
    forge_span_buffer_get_stats(client->buffer, &stats);
    expect_sum(&stats);
    return stats;
}

/* Until the counter of the statistics is there: what it counts happens on the buffer's thread. */
#define wait_for_stat(client, field, count)                                                                                                \
    do {                                                                                                                                   \
        uint64_t until_ms = forge_clock_monotonic_ms() + WAIT_MS;                                                                          \
        while (stats_of(client).field < (count) && forge_clock_monotonic_ms() < until_ms)                                                  \
            sched_yield();                                                                                                                 \
        assert_int_equal(stats_of(client).field, count);                                                                                   \
    } while (0)

static void flush(struct client *client)
{
    struct forge_error error;
    if (forge_span_buffer_flush(client->buffer, WAIT_MS, &error) != FORGE_OK)
        fail_msg("%s", error.message);
}

static struct forge_span_buffer_stats client_close(struct client *client)
{
    struct forge_span_buffer_stats stats;
    forge_span_buffer_close(client->buffer, WAIT_MS, &stats);
    expect_sum(&stats);
    assert_int_equal(stats.spans, 0);
    assert_int_equal(stats.bytes, 0);
    forge_channel_close(client->channel);
    rpc_peer_stop(client->server.peer);
    free(client);
    return stats;
}

/* Hands over a span of this number and name; what it is made of is gone afterwards. */
static forge_code add_with(struct client *client, unsigned number, const char *name, char *input)
{
    char span_id[FORGE_SPAN_ID_SIZE], trace_id[] = TRACE, *own_name = strdup(name);
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    snprintf(span_id, sizeof span_id, "%016x", number);
    span.trace_id = trace_id;
    span.span_id = span_id;
    span.name = own_name;
    span.start_ns = 1;
    span.end_ns = 2;
    span.input = input ? input : span.input;
    forge_code code = forge_span_buffer_add(client->buffer, &span);
    memset(span_id, 'x', sizeof span_id - 1);
    memset(trace_id, 'x', sizeof trace_id - 1);
    memset(own_name, 'x', strlen(own_name));
    free(own_name);
    return code;
}

static void add(struct client *client, unsigned number, const char *name)
{
    assert_int_equal(add_with(client, number, name, NULL), FORGE_OK);
}

static void add_many(struct client *client, unsigned count)
{
    for (unsigned i = 1; i <= count; i++)
        add(client, i, "good");
}

static char *text_of(size_t length)
{
    char *text = malloc(length + 1);
    assert_non_null(text);
    memset(text, 'x', length);
    text[length] = '\0';
    return text;
}

/* ---- when it sends ---- */

static void test_full_batches_are_sent_at_once(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.batch_spans = 10, .flush_ms = NEVER_MS, .calls_max = 1});
    add_many(client, 25);
    wait_for_stat(client, accepted, 20);
    assert_int_equal(calls_of(&client->server), 2);
    assert_int_equal(stats_of(client).spans, 5);
    flush(client);
    assert_int_equal(size_of(&client->server, 0), 10);
    assert_int_equal(size_of(&client->server, 1), 10);
    assert_int_equal(size_of(&client->server, 2), 5);
    for (unsigned i = 1; i <= 25; i++)
        assert_int_equal(client->server.seen[i], 1);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, 25);
    assert_int_equal(stats.calls, 3);
    assert_int_equal(stats.failed_calls, 0);
}

static void test_a_batch_is_full_by_bytes_too(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.batch_spans = 1000, .flush_ms = NEVER_MS});
    char *text = text_of(300 << 10);
    for (unsigned i = 1; i <= 4; i++)
        assert_int_equal(add_with(client, i, "good", text), FORGE_OK);
    wait_for_stat(client, accepted, 3); /* four are more than 1 MiB */
    flush(client);
    assert_int_equal(size_of(&client->server, 0), 3);
    assert_int_equal(size_of(&client->server, 1), 1);
    free(text);
    assert_int_equal(client_close(client).accepted, 4);
}

static void test_the_longest_span_is_sent(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    char *text = text_of((1 << 20) - 100);
    for (unsigned i = 1; i <= 3; i++)
        assert_int_equal(add_with(client, i, "good", text), FORGE_OK);
    free(text);
    assert_int_equal(client_close(client).accepted, 3);
}

static void test_the_oldest_span_decides_when_to_send(void **state)
{
    const uint32_t flush_ms = 60;
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = flush_ms});
    uint64_t from_ns = forge_clock_monotonic_ns();
    add(client, 1, "good");
    counter_wait(&client->server.arrived, 1);
    assert_in_range(client->server.at_ns[0] - from_ns, (uint64_t)(flush_ms - 1) * NS_PER_MS, UINT64_MAX); /* counted in whole ms */
    wait_for_stat(client, accepted, 1);
    add(client, 2, "good"); /* and again */
    counter_wait(&client->server.arrived, 2);
    assert_int_equal(client_close(client).accepted, 2);
}

static void test_what_every_call_says(void **state)
{
    Forge__V1__Attribute attribute = FORGE__V1__ATTRIBUTE__INIT, *attributes[] = {&attribute};
    Forge__V1__Resource resource = FORGE__V1__RESOURCE__INIT;
    Forge__V1__InstrumentationScope scope = FORGE__V1__INSTRUMENTATION_SCOPE__INIT;
    char key[] = "service.name", name[] = "my-agent";
    attribute.key = key;
    attribute.value_case = FORGE__V1__ATTRIBUTE__VALUE_STRING_VALUE;
    attribute.string_value = TEXT("support");
    resource.n_attributes = 1;
    resource.attributes = attributes;
    scope.name = name;
    struct client *client = client_open((struct forge_span_buffer_options){.resource = &resource, .scope = &scope});
    memset(key, 'x', sizeof key - 1); /* it has copies */
    memset(name, 'x', sizeof name - 1);
    add(client, 1, "good");
    flush(client);
    assert_string_equal(client->server.project_id, PROJECT);
    assert_string_equal(client->server.resource_key, "service.name");
    assert_string_equal(client->server.scope_name, "my-agent");
    client_close(client);
}

/* ---- bounds ---- */

static void test_a_full_buffer_drops_and_does_not_wait(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.spans_max = 100, .batch_spans = 10, .calls_max = 2});
    hold(&client->server);
    for (unsigned i = 1; i <= 150; i++)
        assert_int_equal(add_with(client, i, "good", NULL), i <= 100 ? FORGE_OK : FORGE_RESOURCE_EXHAUSTED);
    assert_int_equal(stats_of(client).dropped_full, 50);
    assert_int_equal(stats_of(client).spans, 100);
    counter_wait(&client->server.arrived, 2);
    let_go(&client->server);
    flush(client);
    assert_int_equal(stats_of(client).accepted, 100);
    assert_int_equal(stats_of(client).spans, 0);
    assert_int_equal(stats_of(client).bytes, 0);
    add(client, 151, "good");
    assert_int_equal(client_close(client).accepted, 101);
}

static void test_no_more_calls_in_flight_than_allowed(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.batch_spans = 1, .calls_max = 2});
    hold(&client->server);
    add_many(client, 10);
    counter_wait(&client->server.arrived, 2);
    struct forge_error error;
    assert_int_equal(forge_span_buffer_flush(client->buffer, 50, &error), FORGE_DEADLINE_EXCEEDED); /* had its time to send more */
    assert_int_equal(calls_of(&client->server), 2);
    let_go(&client->server);
    assert_int_equal(client_close(client).accepted, 10);
}

static void test_bytes_are_bounded(void **state)
{
    const size_t bytes_max = 10 << 10;
    struct client *client = client_open((struct forge_span_buffer_options){.bytes_max = bytes_max, .flush_ms = NEVER_MS});
    char *text = text_of(1 << 10);
    unsigned taken = 0;
    hold(&client->server);
    while (add_with(client, taken + 1, "good", text) == FORGE_OK)
        taken++;
    free(text);
    assert_in_range(taken, 8, 9); /* 1 KiB and what else a span needs */
    assert_in_range(stats_of(client).bytes, 1, bytes_max);
    counter_wait(&client->server.arrived, 1); /* half of them are enough for a call */
    let_go(&client->server);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, taken);
    assert_int_equal(stats.dropped_full, 1);
}

static void test_what_cannot_be_sent_spoils_nothing(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    char *text = text_of(1 << 20);
    add(client, 1, "good");
    assert_int_equal(add_with(client, 2, "good", text), FORGE_INVALID_ARGUMENT);
    assert_int_equal(add_with(client, 3, "cut in the middle of a character: \xE2\x82", NULL), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_span_buffer_add(client->buffer, NULL), FORGE_INVALID_ARGUMENT);
    add(client, 4, "good");
    flush(client);
    assert_int_equal(size_of(&client->server, 0), 2);
    free(text);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.added, 4);
    assert_int_equal(stats.dropped_too_large, 1);
    assert_int_equal(stats.dropped_invalid, 1);
}

/* ---- what the server says ---- */

struct told {
    struct forge_span_buffer *buffer;
    unsigned count, with_verdict;
    char span_id[FORGE_SPAN_ID_SIZE], name[64], message[64], field[64];
    forge_code code, flush_code;
    bool hands_over; /* the rejected span again, under another name */
    forge_code add_code;
};

static void on_rejected(void *user, const struct forge_span_rejection *rejection)
{
    struct told *told = user;
    told->count++;
    told->code = rejection->code;
    snprintf(told->span_id, sizeof told->span_id, "%s", rejection->span->span_id);
    snprintf(told->name, sizeof told->name, "%s", rejection->span->name);
    snprintf(told->message, sizeof told->message, "%s", rejection->message);
    if (rejection->verdict) {
        told->with_verdict++;
        snprintf(told->field, sizeof told->field, "%s", rejection->verdict->field_violations[0]->field);
    }
    if (!told->hands_over)
        return;
    Forge__V1__Span again = *rejection->span;
    again.name = TEXT("good");
    told->add_code = forge_span_buffer_add(told->buffer, &again);
    told->flush_code = forge_span_buffer_flush(told->buffer, WAIT_MS, NULL);
}

static void test_verdicts_are_counted_and_rejections_told(void **state)
{
    struct told told = {.count = 0};
    struct client *client =
        client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .on_rejected = on_rejected, .user = &told});
    add(client, 1, "good");
    add(client, 2, "bad");
    add(client, 3, "duplicate");
    add(client, 4, "good");
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, 2);
    assert_int_equal(stats.duplicate, 1);
    assert_int_equal(stats.rejected, 1);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.with_verdict, 1);
    assert_int_equal(told.code, FORGE_INVALID_ARGUMENT);
    assert_string_equal(told.span_id, "0000000000000002");
    assert_string_equal(told.name, "bad");
    assert_string_equal(told.message, "not this one");
    assert_string_equal(told.field, "end_ns");
}

static void test_a_callback_may_hand_over_but_not_wait(void **state)
{
    struct told told = {.hands_over = true};
    struct client *client =
        client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .on_rejected = on_rejected, .user = &told});
    told.buffer = client->buffer;
    add(client, 1, "bad");
    flush(client);
    assert_int_equal(told.add_code, FORGE_OK);
    assert_int_equal(told.flush_code, FORGE_FAILED_PRECONDITION);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.rejected, 1);
    assert_int_equal(stats.accepted, 1);
}

static void test_only_the_retryable_item_is_sent_again(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    add(client, 1, "good");
    add(client, 2, "later");
    add(client, 3, "good");
    flush(client);
    assert_int_equal(calls_of(&client->server), 2);
    assert_int_equal(size_of(&client->server, 0), 3);
    assert_int_equal(size_of(&client->server, 1), 1);
    assert_int_equal(client->server.seen[2], 2);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, 3);
    assert_int_equal(stats.failed_calls, 0);
}

static void test_a_failed_call_is_made_again(void **state)
{
    static const Forge__V1__Code codes[] = {FORGE__V1__CODE__CODE_ABORTED, FORGE__V1__CODE__CODE_INTERNAL,
                                            FORGE__V1__CODE__CODE_DEADLINE_EXCEEDED};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
        fail_next(&client->server, 2, codes[i], 0);
        add_many(client, 3);
        flush(client);
        assert_int_equal(calls_of(&client->server), 3);
        assert_int_equal(size_of(&client->server, 2), 3);
        struct forge_span_buffer_stats stats = client_close(client);
        assert_int_equal(stats.accepted, 3);
        assert_int_equal(stats.calls, 3);
        assert_int_equal(stats.failed_calls, 2);
    }
}

static void test_an_overloaded_server_says_when_to_come_again(void **state)
{
    const uint32_t retry_after_ms = 120;
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .batch_spans = 1});
    fail_next(&client->server, 1, FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED, retry_after_ms);
    add(client, 1, "good");
    flush(client);
    assert_int_equal(calls_of(&client->server), 2);
    assert_in_range(client->server.at_ns[1] - client->server.at_ns[0], (uint64_t)(retry_after_ms - 21) * NS_PER_MS, UINT64_MAX);
    assert_int_equal(client_close(client).accepted, 1);
}

/* Two batches: the second one is not tried while the first one waits. */
static void test_a_server_that_is_away_is_left_alone(void **state)
{
    const uint64_t pause_ms = 40; /* 50, with jitter */
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .batch_spans = 1, .calls_max = 1});
    fail_next(&client->server, 1, FORGE__V1__CODE__CODE_DEADLINE_EXCEEDED, 0);
    add_many(client, 2);
    flush(client);
    assert_in_range(client->server.at_ns[1] - client->server.at_ns[0], (pause_ms - 1) * NS_PER_MS, UINT64_MAX);
    assert_int_equal(calls_of(&client->server), 3);
    assert_int_equal(client_close(client).accepted, 2);
}

static void test_a_reply_without_verdicts_is_no_answer(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    client->server.verdicts_missed = 1;
    add_many(client, 2);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, 2);
    assert_int_equal(stats.failed_calls, 1);
}

static void test_a_call_that_is_too_large_is_divided(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    client->server.spans_max = 3;
    add_many(client, 10);
    flush(client);
    for (unsigned i = 1; i <= 10; i++)
        assert_int_equal(client->server.seen[i], 1);
    assert_int_equal(size_of(&client->server, 0), 10);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, 10);
    assert_int_equal(stats.failed_calls, 3); /* 10, 5 and 5; then 2, 3, 2 and 3 */
    assert_int_equal(stats.calls, 7);
}

static void test_a_single_span_that_is_too_large_is_rejected(void **state)
{
    struct told told = {.count = 0};
    struct client *client =
        client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .on_rejected = on_rejected, .user = &told});
    fail_next(&client->server, 1, FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED, 0);
    add(client, 1, "good");
    assert_int_equal(client_close(client).rejected, 1);
    assert_int_equal(told.code, FORGE_RESOURCE_EXHAUSTED);
    assert_int_equal(told.with_verdict, 0);
}

static void test_a_refused_call_rejects_its_spans(void **state)
{
    struct told told = {.count = 0};
    struct client *client =
        client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .on_rejected = on_rejected, .user = &told});
    fail_next(&client->server, 1, FORGE__V1__CODE__CODE_PERMISSION_DENIED, 0);
    add_many(client, 3);
    flush(client);
    add(client, 4, "good");
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.rejected, 3);
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(told.count, 3);
    assert_int_equal(told.with_verdict, 0);
    assert_int_equal(told.code, FORGE_PERMISSION_DENIED);
    assert_string_equal(told.message, "as the test says");
}

static void test_what_cannot_be_delivered_in_time_is_given_up(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS, .retry_ms = 1});
    fail_next(&client->server, 1, FORGE__V1__CODE__CODE_ABORTED, 0);
    add_many(client, 3);
    flush(client); /* they are counted */
    assert_int_equal(stats_of(client).dropped_gave_up, 3);
    add(client, 4, "good");
    assert_int_equal(client_close(client).accepted, 1);
}

static void test_after_giving_up_it_goes_on_by_itself(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = 1, .retry_ms = 1});
    fail_next(&client->server, 1, FORGE__V1__CODE__CODE_DEADLINE_EXCEEDED, 0); /* holds everything back for a while */
    add(client, 1, "good");
    wait_for_stat(client, dropped_gave_up, 1);
    add(client, 2, "good");
    wait_for_stat(client, accepted, 1); /* nobody flushes */
    client_close(client);
}

/* ---- the end ---- */

static void test_close_sends_what_is_left(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    add_many(client, 7);
    struct forge_span_buffer_stats stats = client_close(client);
    assert_int_equal(stats.accepted, 7);
    assert_int_equal(stats.dropped_closed, 0);
}

static void test_close_ends_with_a_server_that_is_silent(void **state)
{
    const uint32_t timeout_ms = 100;
    struct client *client = client_open((struct forge_span_buffer_options){.batch_spans = 2, .flush_ms = NEVER_MS, .calls_max = 1});
    struct forge_span_buffer_stats stats;
    hold(&client->server);
    add_many(client, 7);
    counter_wait(&client->server.arrived, 1);
    uint64_t from_ns = forge_clock_monotonic_ns();
    forge_span_buffer_close(client->buffer, timeout_ms, &stats);
    assert_in_range(forge_clock_monotonic_ns() - from_ns, (uint64_t)(timeout_ms - 1) * NS_PER_MS, (uint64_t)WAIT_MS * NS_PER_MS);
    expect_sum(&stats);
    assert_int_equal(stats.dropped_closed, 7);
    assert_int_equal(stats.spans, 0);
    let_go(&client->server); /* an answer for a buffer that is closed */
    ping(client->channel, NULL);
    forge_channel_close(client->channel);
    rpc_peer_stop(client->server.peer);
    free(client);
}

static void test_close_of_a_channel_ends_the_calls_of_a_closed_buffer(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.batch_spans = 1, .flush_ms = NEVER_MS});
    hold(&client->server);
    add(client, 1, "good");
    counter_wait(&client->server.arrived, 1);
    forge_span_buffer_close(client->buffer, 0, NULL);
    forge_channel_close(client->channel); /* under ASan: nothing leaks */
    rpc_peer_drop(client->server.held[0], false);
    rpc_peer_stop(client->server.peer);
    free(client);
}

static void test_flush_without_waiting_sends(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    struct forge_error error;
    assert_int_equal(forge_span_buffer_flush(client->buffer, 0, &error), FORGE_OK); /* there is nothing */
    hold(&client->server);
    add(client, 1, "good");
    assert_int_equal(forge_span_buffer_flush(client->buffer, 0, &error), FORGE_DEADLINE_EXCEEDED);
    counter_wait(&client->server.arrived, 1);
    let_go(&client->server);
    flush(client);
    assert_int_equal(stats_of(client).accepted, 1);
    client_close(client);
}

struct in_callback {
    struct client *client;
    struct counter done;
    forge_code flush_code;
};

static void on_pong(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                    const struct forge_reply_info *info)
{
    struct in_callback *in = user;
    protobuf_c_message_free_unpacked(reply, NULL);
    add(in->client, 1, "good");
    in->flush_code = forge_span_buffer_flush(in->client->buffer, WAIT_MS, NULL);
    forge_span_buffer_close(in->client->buffer, WAIT_MS, NULL); /* does nothing here */
    counter_add(&in->done);
}

static void test_a_thread_of_the_channel_may_hand_over(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    struct in_callback in = {.client = client, .done = COUNTER_INIT};
    Forge__V1__PingRequest request;
    fill_ping(&request, "hello");
    assert_int_equal(forge_channel_call_async(client->channel, &ping_method, NULL, &request.base, on_pong, &in, NULL), FORGE_OK);
    counter_wait(&in.done, 1);
    assert_int_equal(in.flush_code, FORGE_FAILED_PRECONDITION);
    assert_int_equal(client_close(client).accepted, 1);
}

static int in_child(struct client *client)
{
    struct forge_span_buffer_stats stats;
    struct forge_span_buffer *another;
    struct forge_error error;
    Forge__V1__Span span = FORGE__V1__SPAN__INIT;
    forge_span_buffer_get_stats(client->buffer, &stats);
    bool ok = forge_span_buffer_add(client->buffer, &span) == FORGE_FAILED_PRECONDITION &&
              forge_span_buffer_flush(client->buffer, WAIT_MS, &error) == FORGE_FAILED_PRECONDITION && stats.added == 0 &&
              forge_span_buffer_open(client->channel, NULL, &another, &error) == FORGE_FAILED_PRECONDITION;
    forge_span_buffer_close(client->buffer, WAIT_MS, &stats);
    return ok ? 0 : 1;
}

static void test_a_child_of_fork_leaves_it_alone(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.flush_ms = NEVER_MS});
    int status = -1;
    add_many(client, 3);
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_child(client));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(client_close(client).accepted, 3);
}

/* ---- many threads ---- */

struct adder {
    struct client *client;
    unsigned number;
    pthread_barrier_t *start;
};

static void *add_all(void *argument)
{
    const struct adder *adder = argument;
    pthread_barrier_wait(adder->start);
    for (unsigned i = 0; i < SPANS_OF_THREAD; i++)
        add(adder->client, adder->number * SPANS_OF_THREAD + i, "good");
    return NULL;
}

static void test_threads_hand_over_at_once(void **state)
{
    struct client *client = client_open((struct forge_span_buffer_options){.batch_spans = 100, .calls_max = 4});
    struct adder adders[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        adders[i] = (struct adder){client, i, &start};
        assert_int_equal(pthread_create(&threads[i], NULL, add_all, &adders[i]), 0);
    }
    pthread_barrier_wait(&start);
    flush(client); /* while they go on */
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    flush(client);
    pthread_barrier_destroy(&start);
    for (unsigned i = 0; i < THREADS * SPANS_OF_THREAD; i++)
        assert_int_equal(client->server.seen[i], 1);
    assert_int_equal(client_close(client).accepted, THREADS * SPANS_OF_THREAD);
}

/* ---- options and ids ---- */

static void test_bad_options_are_refused(void **state)
{
    const struct forge_span_buffer_options bad[] = {
        {.project_id = "my project"}, {.batch_spans = 1001}, {.calls_max = 65}, {.call_timeout_ms = 600001}};
    struct forge_channel *channel = open_channel("127.0.0.1:1");
    struct forge_span_buffer *buffer = NULL;
    struct forge_error error;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(forge_span_buffer_open(channel, &bad[i], &buffer, &error), FORGE_INVALID_ARGUMENT);
    Forge__V1__InstrumentationScope scope = FORGE__V1__INSTRUMENTATION_SCOPE__INIT;
    scope.name = TEXT("\xFF");
    const struct forge_span_buffer_options with_scope = {.scope = &scope};
    assert_int_equal(forge_span_buffer_open(channel, &with_scope, &buffer, &error), FORGE_INVALID_ARGUMENT);
    assert_null(buffer);
    assert_int_equal(forge_span_buffer_open(channel, NULL, &buffer, NULL), FORGE_OK);
    forge_span_buffer_close(buffer, 0, NULL);
    forge_span_buffer_close(NULL, 0, NULL);
    forge_channel_close(channel);
}

static void test_ids_are_of_w3c_and_differ(void **state)
{
    char trace[2][FORGE_TRACE_ID_SIZE], span[2][FORGE_SPAN_ID_SIZE];
    for (int i = 0; i < 2; i++) {
        forge_trace_id_make(trace[i]);
        forge_span_id_make(span[i]);
        assert_int_equal(strspn(trace[i], "0123456789abcdef"), 32);
        assert_int_equal(strspn(span[i], "0123456789abcdef"), 16);
        assert_int_equal(trace[i][32] | span[i][16], '\0');
    }
    assert_string_not_equal(trace[0], trace[1]);
    assert_string_not_equal(span[0], span[1]);
    int64_t before_ns = forge_clock_wall_us() * 1000, now_ns = forge_now_ns();
    assert_in_range(now_ns, before_ns, (forge_clock_wall_us() + 1) * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_batches_are_sent_at_once),
        cmocka_unit_test(test_a_batch_is_full_by_bytes_too),
        cmocka_unit_test(test_the_longest_span_is_sent),
        cmocka_unit_test(test_the_oldest_span_decides_when_to_send),
        cmocka_unit_test(test_what_every_call_says),
        cmocka_unit_test(test_a_full_buffer_drops_and_does_not_wait),
        cmocka_unit_test(test_no_more_calls_in_flight_than_allowed),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_what_cannot_be_sent_spoils_nothing),
        cmocka_unit_test(test_verdicts_are_counted_and_rejections_told),
        cmocka_unit_test(test_a_callback_may_hand_over_but_not_wait),
        cmocka_unit_test(test_only_the_retryable_item_is_sent_again),
        cmocka_unit_test(test_a_failed_call_is_made_again),
        cmocka_unit_test(test_an_overloaded_server_says_when_to_come_again),
        cmocka_unit_test(test_a_server_that_is_away_is_left_alone),
        cmocka_unit_test(test_a_reply_without_verdicts_is_no_answer),
        cmocka_unit_test(test_a_call_that_is_too_large_is_divided),
        cmocka_unit_test(test_a_single_span_that_is_too_large_is_rejected),
        cmocka_unit_test(test_a_refused_call_rejects_its_spans),
        cmocka_unit_test(test_what_cannot_be_delivered_in_time_is_given_up),
        cmocka_unit_test(test_after_giving_up_it_goes_on_by_itself),
        cmocka_unit_test(test_close_sends_what_is_left),
        cmocka_unit_test(test_close_ends_with_a_server_that_is_silent),
        cmocka_unit_test(test_close_of_a_channel_ends_the_calls_of_a_closed_buffer),
        cmocka_unit_test(test_flush_without_waiting_sends),
        cmocka_unit_test(test_a_thread_of_the_channel_may_hand_over),
        cmocka_unit_test(test_a_child_of_fork_leaves_it_alone),
        cmocka_unit_test(test_threads_hand_over_at_once),
        cmocka_unit_test(test_bad_options_are_refused),
        cmocka_unit_test(test_ids_are_of_w3c_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
