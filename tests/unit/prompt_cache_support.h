/* What the tests of the prompt cache share: a peer that answers as the test says, a cache of it, and a clock that the test moves. */
#ifndef PROMPT_CACHE_SUPPORT_H
#define PROMPT_CACHE_SUPPORT_H

#include "client_test_support.h"

#include "forge/prompt_cache.h"
#include "forge/split.h"
#include "prompt_cache_private.h"

#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 16, TTL_MS = 60000, STALE_MS = 300000, AWAY_MS = 3600000, CHECK_MS = 600000, BACKOFF_MS = 40000 };
#define TEXT(text) ((char *)(uintptr_t)(text))
#define PROJECT "0190a8f0-0000-7000-8000-000000000001"
#define PROJECT_IN_CAPITALS "0190A8F0-0000-7000-8000-000000000001"
#define PROMPT "018f3b1c-7a2e-7c4d-9b1a-2f6e5d4c3b2a"

/* ---- time ---- */

static atomic_uint_fast64_t passed_ms;

static inline uint64_t clock_ms(void)
{
    return forge_clock_monotonic_ms() + atomic_load(&passed_ms);
}

static inline void pass(uint64_t ms)
{
    atomic_fetch_add(&passed_ms, ms);
}

/* ---- a server of one prompt ---- */

struct server {
    pthread_mutex_t mutex; /* guards the rest */
    int32_t version;       /* current */
    int32_t weights[2];    /* of versions 7 and 8, which labels point at; 0 = of the current one alone */
    size_t content_bytes;  /* 0 = a short text */
    Forge__V1__Code code;  /* of every call, unless OK */
    unsigned calls, calls_known, listings;
    bool holds; /* keeps calls until let go */
    struct rpc_peer_call *held[THREADS];
    unsigned held_count;
    struct counter arrived;
    struct rpc_peer *peer;
};
#define SERVER_INIT                                                                                                                        \
    {                                                                                                                                      \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .version = 1, .arrived = COUNTER_INIT                                                          \
    }

static inline int32_t version_told(const struct server *server, const Forge__V1__GetPromptRequest *request, const Forge__V1__Prompt *prompt)
{
    if (request->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION)
        return request->version;
    return prompt->n_label_targets ? forge_prompt_version_for(prompt, request->subject) : server->version;
}

static inline void reply_prompt(const struct server *server, struct rpc_peer_call *call, const Forge__V1__GetPromptRequest *request,
                                bool *was_known)
{
    Forge__V1__ReplyHeader header = FORGE__V1__REPLY_HEADER__INIT;
    Forge__V1__Prompt prompt = FORGE__V1__PROMPT__INIT;
    Forge__V1__LabelTarget targets[2] = {FORGE__V1__LABEL_TARGET__INIT, FORGE__V1__LABEL_TARGET__INIT},
                           *list[] = {&targets[0], &targets[1]};
    char etag[64], content[64], *long_content = NULL;
    prompt.id = TEXT(PROMPT);
    prompt.project_id = TEXT(PROJECT);
    prompt.name = TEXT("greeting");
    prompt.current_version = server->version;
    if (request->selector_case == FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL) {
        prompt.label = request->label;
        for (int i = 0; i < 2 && server->weights[i]; i++, prompt.n_label_targets++) {
            targets[i].version = 7 + i;
            targets[i].weight = server->weights[i];
        }
        prompt.label_targets = list;
    }
    prompt.version = version_told(server, request, &prompt);
    snprintf(etag, sizeof etag, "%s-%d-%d-%d", prompt.label, (int)prompt.version, (int)server->weights[0], (int)server->version);
    snprintf(content, sizeof content, "text %d", (int)prompt.version);
    prompt.reply_etag = etag;
    *was_known = strcmp(etag, request->known_etag) == 0;
    if (server->content_bytes) {
        long_content = malloc(server->content_bytes + 1);
        memset(long_content, 'x', server->content_bytes);
        long_content[server->content_bytes] = '\0';
    }
    if (*was_known)
        prompt.not_modified = 1;
    else
        prompt.content = long_content ? long_content : content;
    rpc_peer_reply(call, &header, &prompt.base);
    free(long_content);
}

/* The mutex is held. */
static inline void answer(struct server *server, struct rpc_peer_call *call)
{
    bool was_known = false;
    Forge__V1__GetPromptRequest *request = forge__v1__get_prompt_request__unpack(NULL, call->payload_len, call->payload);
    assert_non_null(request);
    if (server->code != FORGE__V1__CODE__CODE_OK)
        rpc_peer_fail(call, server->code, "as the test says");
    else
        reply_prompt(server, call, request, &was_known);
    server->calls_known += was_known;
    forge__v1__get_prompt_request__free_unpacked(request, NULL);
}

/* The first call of a watch is told of the prompt, the next ones wait for ever. */
static inline void answer_watch(struct server *server, struct rpc_peer_call *call)
{
    Forge__V1__ReplyHeader header = FORGE__V1__REPLY_HEADER__INIT;
    Forge__V1__PromptChange change = FORGE__V1__PROMPT_CHANGE__INIT, *changes[] = {&change};
    Forge__V1__WatchPromptsResponse response = FORGE__V1__WATCH_PROMPTS_RESPONSE__INIT;
    Forge__V1__WatchPromptsRequest *request = forge__v1__watch_prompts_request__unpack(NULL, call->payload_len, call->payload);
    assert_non_null(request);
    bool is_first = *request->resume_token == '\0';
    forge__v1__watch_prompts_request__free_unpacked(request, NULL);
    change.prompt_id = TEXT(PROMPT);
    change.kind = FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_CHANGED;
    response.listing = true;
    response.n_changes = 1;
    response.changes = changes;
    response.resume_token = TEXT("listed");
    server->listings += is_first;
    if (is_first)
        rpc_peer_reply(call, &header, &response.base);
    else
        rpc_peer_drop(call, false);
}

static inline void serve(struct rpc_peer_call *call, void *user)
{
    struct server *server = user;
    pthread_mutex_lock(&server->mutex);
    if (strcmp(call->header->method, "forge.v1.PromptService/WatchPrompts") == 0) {
        answer_watch(server, call);
        pthread_mutex_unlock(&server->mutex);
        return;
    }
    server->calls++;
    if (server->holds)
        server->held[server->held_count++] = call;
    else
        answer(server, call);
    pthread_mutex_unlock(&server->mutex);
    counter_add(&server->arrived);
}

static inline void server_start(struct server *server, uint16_t port)
{
    const struct rpc_peer_options options = {.handler = serve, .user = server, .port = port};
    server->peer = rpc_peer_start(&options);
}

static inline void hold(struct server *server)
{
    pthread_mutex_lock(&server->mutex);
    server->holds = true;
    pthread_mutex_unlock(&server->mutex);
}

/* Answers the call that came first. */
static inline void let_first_go(struct server *server, Forge__V1__Code code)
{
    pthread_mutex_lock(&server->mutex);
    server->code = code;
    answer(server, server->held[0]);
    server->code = FORGE__V1__CODE__CODE_OK;
    memmove(server->held, server->held + 1, --server->held_count * sizeof server->held[0]);
    pthread_mutex_unlock(&server->mutex);
}

static inline void let_go(struct server *server)
{
    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < server->held_count; i++)
        answer(server, server->held[i]);
    server->held_count = 0;
    server->holds = false;
    pthread_mutex_unlock(&server->mutex);
}

static inline void set_code(struct server *server, Forge__V1__Code code)
{
    pthread_mutex_lock(&server->mutex);
    server->code = code;
    pthread_mutex_unlock(&server->mutex);
}

static inline void set_version(struct server *server, int32_t version)
{
    pthread_mutex_lock(&server->mutex);
    server->version = version;
    pthread_mutex_unlock(&server->mutex);
}

static inline unsigned calls_of(struct server *server)
{
    pthread_mutex_lock(&server->mutex);
    unsigned calls = server->calls;
    pthread_mutex_unlock(&server->mutex);
    return calls;
}

/* ---- a cache of it ---- */

struct client {
    struct forge_channel *channel;
    struct forge_prompt_cache *cache;
};

static inline struct client client_open_with(const char *address, const char *token, struct forge_prompt_cache_options options)
{
    struct client client;
    struct forge_error error;
    struct forge_channel_options channel_options = {.addresses = address, .token = token};
    client.channel = open_channel_with(&channel_options);
    atomic_store(&passed_ms, 0); /* the snapshot is read by the clock of the machine */
    options.ttl_ms = TTL_MS;
    options.stale_ms = STALE_MS;
    options.away_ms = AWAY_MS;
    options.check_ms = CHECK_MS;
    if (forge_prompt_cache_open(client.channel, &options, &client.cache, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    client.cache->now_ms = clock_ms;
    return client;
}

static inline struct client client_open(const struct server *server)
{
    return client_open_with(rpc_peer_address(server->peer), "pfk_one", (struct forge_prompt_cache_options){.bytes_max = 0});
}

static inline void client_close(struct client *client)
{
    forge_prompt_cache_close(client->cache);
    forge_channel_close(client->channel);
}

static inline struct forge_prompt_cache_stats stats_of(struct client *client)
{
    struct forge_prompt_cache_stats stats;
    forge_prompt_cache_get_stats(client->cache, &stats);
    return stats;
}

/* Until the counter of the statistics is there: what it counts happens on other threads. */
#define wait_for_stat(client, field, count)                                                                                                \
    do {                                                                                                                                   \
        uint64_t until_ms = forge_clock_monotonic_ms() + 1000 * EVENT_WAIT_S;                                                              \
        while (stats_of(client).field < (count) && forge_clock_monotonic_ms() < until_ms)                                                  \
            sched_yield();                                                                                                                 \
        assert_int_equal(stats_of(client).field, count);                                                                                   \
    } while (0)

static inline Forge__V1__GetPromptRequest current(void)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.project_id = TEXT(PROJECT);
    request.name = TEXT("greeting");
    return request;
}

static inline Forge__V1__GetPromptRequest version(int32_t number)
{
    Forge__V1__GetPromptRequest request = current();
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    request.version = number;
    return request;
}

static inline Forge__V1__GetPromptRequest label(const char *name, const char *subject)
{
    Forge__V1__GetPromptRequest request = current();
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    request.label = TEXT(name);
    request.subject = TEXT(subject);
    return request;
}

static inline struct forge_cached_prompt get(struct client *client, Forge__V1__GetPromptRequest request)
{
    struct forge_cached_prompt prompt = {.prompt = NULL};
    struct forge_error error;
    if (forge_prompt_cache_get(client->cache, 0, &request, &prompt, &error) != FORGE_OK)
        fail_msg("%s: %s", forge_code_name(error.code), error.message);
    return prompt;
}

static inline void expect(struct client *client, Forge__V1__GetPromptRequest request, const char *content, bool is_stale)
{
    struct forge_cached_prompt prompt = get(client, request);
    assert_string_equal(prompt.prompt->content, content);
    assert_int_equal(prompt.is_stale, is_stale);
    forge_cached_prompt_release(&prompt);
    assert_null(prompt.prompt);
}

static inline void expect_error(struct client *client, Forge__V1__GetPromptRequest request, forge_code code)
{
    struct forge_cached_prompt prompt = {.prompt = NULL};
    struct forge_error error;
    assert_int_equal(forge_prompt_cache_get(client->cache, 2000, &request, &prompt, &error), code);
    assert_int_equal(error.code, code);
    assert_null(prompt.prompt);
}

#endif
