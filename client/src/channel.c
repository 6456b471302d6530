#include "forge/channel.h"

#include "channel_private.h"
#include "resolver.h"
#include "wire/crypto.h"
#include "wire/envelope.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TIMEOUT_DEFAULT_MS = 5000,
    CALLS_IN_FLIGHT_DEFAULT = 4096,
    CALLS_IN_FLIGHT_MOST = 1 << 20,
    REPLY_BYTES_DEFAULT = 4 << 20,
    REPLY_BYTES_MOST = 256 << 20,
    CONNECTIONS_MOST = 64,
    TOKEN_BYTES_MAX = 256,
    CLIENT_INFO_BYTES_MAX = 128 /* of the whole text, the library's own part included */
};

const char *forge_version(void)
{
    return FORGE_VERSION_TEXT;
}

/* ---- fork ---- */

static atomic_uint forks;

static void count_fork(void)
{
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

unsigned forge__fork_generation(void)
{
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

/* ---- what the other files ask a channel ---- */

struct forge__shard *forge__channel_current_shard(struct forge_channel *channel)
{
    struct forge_loop *loop = forge_loop_current();
    if (!loop)
        return NULL;
    unsigned index = (unsigned)forge_loop_index(loop);
    return index < channel->shard_count && channel->shards[index].loop == loop ? &channel->shards[index] : NULL;
}

void forge__channel_set_failure(struct forge_channel *channel, const char *text)
{
    pthread_mutex_lock(&channel->mutex);
    snprintf(channel->failure, sizeof channel->failure, "%s", text);
    pthread_mutex_unlock(&channel->mutex);
}

void forge__channel_get_failure(struct forge_channel *channel, char out[FORGE__FAILURE_TEXT_MAX])
{
    pthread_mutex_lock(&channel->mutex);
    memcpy(out, channel->failure, sizeof channel->failure);
    pthread_mutex_unlock(&channel->mutex);
}

/* ---- what stands for the credential ---- */

unsigned forge__channel_credential_epoch(const struct forge_channel *channel)
{
    return atomic_load(&channel->credential_epoch);
}

void forge__channel_credential_key(struct forge_channel *channel, uint8_t out[FORGE_KEY_SIZE])
{
    pthread_mutex_lock(&channel->mutex);
    memcpy(out, channel->credential_key, FORGE_KEY_SIZE);
    pthread_mutex_unlock(&channel->mutex);
}

static void set_credential_key(struct forge_channel *channel, const char *token)
{
    uint8_t digest[FORGE_SHA256_SIZE], key[FORGE_KEY_SIZE];
    struct forge_sha256_state *state = forge_sha256_new();
    forge_sha256_update(state, channel->credential_base, sizeof channel->credential_base);
    forge_sha256_update(state, token ? token : "", token ? strlen(token) : 0);
    forge_sha256_final(state, digest);
    forge_hkdf_sha256(digest, "forge credential", key, sizeof key);
    pthread_mutex_lock(&channel->mutex);
    memcpy(channel->credential_key, key, sizeof key);
    pthread_mutex_unlock(&channel->mutex);
    forge_cleanse(digest, sizeof digest);
    forge_cleanse(key, sizeof key);
}

/* The file was readable a moment ago, for TLS; if it is no more, the key is one that nobody makes again. */
static void set_credential_base(struct forge_channel *channel, const struct forge_channel_options *options)
{
    char piece[1024];
    size_t length;
    struct forge_sha256_state *state = forge_sha256_new();
    forge_sha256_update(state, options->addresses, strlen(options->addresses) + 1);
    FILE *file = options->key_file ? fopen(options->key_file, "re") : NULL;
    if (options->key_file && !file) {
        forge_random(piece, sizeof piece);
        forge_sha256_update(state, piece, sizeof piece);
    }
    while (file && (length = fread(piece, 1, sizeof piece, file)) > 0)
        forge_sha256_update(state, piece, length);
    if (file)
        fclose(file);
    forge_sha256_final(state, channel->credential_base);
    forge_cleanse(piece, sizeof piece);
}

/* ---- tasks that bring something to a shard ---- */

struct shard_task {
    struct forge_loop_task task;
    struct forge__shard *shard;
    bool has_token;
    char token[TOKEN_BYTES_MAX + 1];
    bool has_failure;
    char failure[FORGE__FAILURE_TEXT_MAX];
    struct forge__endpoint_list endpoints;
};

static struct shard_task *shard_task_new(struct forge__shard *shard, void (*run)(struct forge_loop *, struct forge_loop_task *))
{
    struct shard_task *task = calloc(1, sizeof *task);
    if (!task)
        return NULL;
    task->shard = shard;
    task->task.run = run;
    return task;
}

static void run_endpoints(struct forge_loop *loop, struct forge_loop_task *base)
{
    struct shard_task *task = (struct shard_task *)base;
    forge__shard_set_endpoints(task->shard, &task->endpoints, task->has_failure ? task->failure : NULL);
    free(task);
}

static void on_found(void *user, const struct forge__endpoint_list *endpoints, const char *failure)
{
    struct forge_channel *channel = user;
    for (unsigned i = 0; i < channel->shard_count; i++) {
        struct shard_task *task = shard_task_new(&channel->shards[i], run_endpoints);
        if (!task)
            continue; /* the next look-up tries again */
        task->endpoints = *endpoints;
        task->has_failure = failure != NULL;
        snprintf(task->failure, sizeof task->failure, "%s", failure ? failure : "");
        forge_loop_post(channel->shards[i].loop, &task->task);
    }
}

static void run_token(struct forge_loop *loop, struct forge_loop_task *base)
{
    struct shard_task *task = (struct shard_task *)base;
    if (forge__shard_set_token(task->shard, task->has_token ? task->token : NULL) != FORGE_OK)
        forge__channel_set_failure(task->shard->channel, "no memory for the new credential");
    forge_cleanse(task->token, sizeof task->token);
    free(task);
}

static void run_close(struct forge_loop *loop, struct forge_loop_task *base)
{
    struct shard_task *task = (struct shard_task *)base;
    struct forge__shard *shard = task->shard;
    forge__shard_close(shard);
    free(task);
    pthread_mutex_lock(&shard->channel->mutex);
    shard->is_closed = true;
    pthread_cond_signal(&shard->channel->shard_closed);
    pthread_mutex_unlock(&shard->channel->mutex);
}

/* ---- open ---- */

static forge_code check_token(const char *token, struct forge_error *error)
{
    if (!token)
        return FORGE_OK;
    size_t length = strlen(token);
    if (!length || length > TOKEN_BYTES_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "token must have 1 to %d bytes", TOKEN_BYTES_MAX);
    for (const char *p = token; *p; p++)
        if (*p <= ' ' || *p > '~')
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "token must be printable ASCII without spaces");
    return FORGE_OK;
}

static forge_code check_number(const char *name, size_t value, size_t most, struct forge_error *error)
{
    return value <= most ? FORGE_OK : forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s is %zu, the limit is %zu", name, value, most);
}

static forge_code check_options(const struct forge_channel_options *options, struct forge_error *error)
{
    forge_code code = check_token(options->token, error);
    if (code == FORGE_OK)
        code = check_number("default_timeout_ms", options->default_timeout_ms, FORGE__TIMEOUT_MS_MAX, error);
    if (code == FORGE_OK)
        code = check_number("calls_in_flight_max", options->calls_in_flight_max, CALLS_IN_FLIGHT_MOST, error);
    if (code == FORGE_OK)
        code = check_number("reply_bytes_max", options->reply_bytes_max, REPLY_BYTES_MOST, error);
    if (code == FORGE_OK)
        code = check_number("threads", options->threads, FORGE_LOOPS_MAX, error);
    if (code == FORGE_OK)
        code = check_number("connections_per_address", options->connections_per_address, CONNECTIONS_MOST, error);
    const char *info = options->client_info ? options->client_info : "";
    if (code == FORGE_OK && strlen(info) > CLIENT_INFO_BYTES_MAX - sizeof " libforge/" FORGE_VERSION_TEXT + 1)
        code = forge_error_set(error, FORGE_INVALID_ARGUMENT, "client_info has more than %zu bytes",
                               CLIENT_INFO_BYTES_MAX - sizeof " libforge/" FORGE_VERSION_TEXT + 1);
    if (code == FORGE_OK && !forge_utf8_is_valid((const uint8_t *)info, strlen(info)))
        code = forge_error_set(error, FORGE_INVALID_ARGUMENT, "client_info must be UTF-8");
    return code;
}

static void take_options(struct forge_channel *channel, const struct forge_channel_options *options)
{
    channel->calls_in_flight_max = options->calls_in_flight_max ? options->calls_in_flight_max : CALLS_IN_FLIGHT_DEFAULT;
    channel->default_timeout_ms = options->default_timeout_ms ? options->default_timeout_ms : TIMEOUT_DEFAULT_MS;
    channel->reply_bytes_max = options->reply_bytes_max ? (uint32_t)options->reply_bytes_max : REPLY_BYTES_DEFAULT;
    channel->connections_per_address = options->connections_per_address ? options->connections_per_address : 1;
    channel->shard_count = options->threads ? options->threads : 1;
    const char *info = options->client_info ? options->client_info : "";
    snprintf(channel->client_info, sizeof channel->client_info, "%s%slibforge/%s", info, *info ? " " : "", FORGE_VERSION_TEXT);
}

static forge_code open_shards(struct forge_channel *channel, const char *token, struct forge_error *error)
{
    channel->shards = calloc(channel->shard_count, sizeof *channel->shards);
    if (!channel->shards)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the channel");
    forge_code code = forge_loops_new((int)channel->shard_count, &channel->loops, error);
    if (code != FORGE_OK)
        return code;
    for (unsigned i = 0; i < channel->shard_count; i++) {
        forge__shard_init(&channel->shards[i], channel, forge_loops_at(channel->loops, (int)i));
        code = forge__shard_set_token(&channel->shards[i], token);
        if (code != FORGE_OK)
            return forge_error_set(error, code, "no memory for the credential");
    }
    return FORGE_OK;
}

/* Begins to connect: with IP addresses alone at once, else after the look-up. */
static forge_code start_connecting(struct forge_channel *channel, struct forge_error *error)
{
    if (channel->addresses.has_names)
        return forge__resolver_open(&channel->addresses, on_found, channel, &channel->resolver, error);
    struct forge__endpoint_list endpoints = {.count = 0};
    for (size_t i = 0; i < channel->addresses.count; i++) {
        const struct forge__address *address = &channel->addresses.items[i];
        forge__endpoint_list_add(&endpoints, address->host, address->port, address->host);
    }
    for (unsigned i = 0; i < channel->shard_count; i++) {
        struct shard_task *task = shard_task_new(&channel->shards[i], run_endpoints);
        if (!task)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the channel");
        task->endpoints = endpoints;
        forge_loop_post(channel->shards[i].loop, &task->task);
    }
    return FORGE_OK;
}

static void channel_free(struct forge_channel *channel)
{
    forge_loops_free(channel->loops);
    for (unsigned i = 0; channel->shards && i < channel->shard_count; i++)
        forge__shard_done(&channel->shards[i]);
    free(channel->shards);
    struct forge__call *next;
    for (struct forge__call *call = channel->free_calls; call; call = next) {
        next = call->next;
        forge__call_destroy(call);
    }
    forge_tls_unref(channel->tls);
    forge_cleanse(channel->credential_base, sizeof channel->credential_base);
    forge_cleanse(channel->credential_key, sizeof channel->credential_key);
    pthread_mutex_destroy(&channel->token_mutex);
    pthread_cond_destroy(&channel->shard_closed);
    pthread_mutex_destroy(&channel->mutex);
    free(channel);
}

static forge_code channel_fill(struct forge_channel *channel, const struct forge_channel_options *options, struct forge_error *error)
{
    const struct forge_tls_config tls = {
        .certificate_file = options->certificate_file, .key_file = options->key_file, .ca_file = options->ca_file};
    take_options(channel, options);
    channel->has_certificate = options->certificate_file != NULL;
    forge_code code = forge__address_list_parse(options->addresses, &channel->addresses, error);
    if (code == FORGE_OK)
        code = forge_tls_new(&tls, &channel->tls, error);
    if (code == FORGE_OK) {
        set_credential_base(channel, options);
        set_credential_key(channel, options->token);
    }
    if (code == FORGE_OK)
        code = open_shards(channel, options->token, error);
    if (code == FORGE_OK)
        code = start_connecting(channel, error);
    return code;
}

forge_code forge_channel_open(const struct forge_channel_options *options, struct forge_channel **out, struct forge_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    pthread_once(&once, watch_forks);
    if (!options || !out)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "%s is NULL", options ? "out" : "options");
    forge_code code = check_options(options, error);
    if (code != FORGE_OK)
        return code;
    struct forge_channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the channel");
    channel->fork_generation = forge__fork_generation();
    pthread_mutex_init(&channel->mutex, NULL);
    pthread_mutex_init(&channel->token_mutex, NULL);
    pthread_cond_init(&channel->shard_closed, NULL);
    forge__retry_budget_init(&channel->budget);
    code = channel_fill(channel, options, error);
    if (code != FORGE_OK) {
        channel_free(channel);
        return code;
    }
    *out = channel;
    return FORGE_OK;
}

/* ---- close ---- */

static void close_shards(struct forge_channel *channel)
{
    for (unsigned i = 0; i < channel->shard_count; i++) {
        struct shard_task *task;
        while (!(task = shard_task_new(&channel->shards[i], run_close)))
            sched_yield(); /* closing cannot fail, and it gives memory back */
        forge_loop_post(channel->shards[i].loop, &task->task);
    }
    pthread_mutex_lock(&channel->mutex);
    for (unsigned i = 0; i < channel->shard_count; i++)
        while (!channel->shards[i].is_closed)
            pthread_cond_wait(&channel->shard_closed, &channel->mutex);
    pthread_mutex_unlock(&channel->mutex);
}

void forge_channel_close(struct forge_channel *channel)
{
    /* In a child of fork() the threads do not exist and the locks may be held for ever; in a callback we would wait for ourselves. */
    if (!channel || channel->fork_generation != forge__fork_generation() || forge__channel_current_shard(channel))
        return;
    atomic_store(&channel->is_closing, true);
    close_shards(channel); /* first: connections that are lost meanwhile ask the resolver for another look-up */
    forge__resolver_close(channel->resolver);
    /* What is left are callers on their last instructions: every call has ended. */
    while (atomic_load(&channel->calls_in_flight))
        sched_yield();
    channel_free(channel);
}

/* ---- credential and interceptor ---- */

static forge_code post_token(struct forge_channel *channel, const char *token, struct forge_error *error)
{
    const struct forge__shard *current = forge__channel_current_shard(channel);
    for (unsigned i = 0; i < channel->shard_count; i++) {
        struct shard_task *task = shard_task_new(&channel->shards[i], run_token);
        if (!task)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the credential");
        task->has_token = token != NULL;
        snprintf(task->token, sizeof task->token, "%s", token ? token : "");
        if (current == &channel->shards[i])
            run_token(channel->shards[i].loop, &task->task); /* in force before the callback makes its next call */
        else
            forge_loop_post(channel->shards[i].loop, &task->task);
    }
    return FORGE_OK;
}

forge_code forge_channel_set_token(struct forge_channel *channel, const char *token, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    if (!channel)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "channel is NULL");
    if (channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the channel was opened before fork(): a child must open its own");
    forge_code code = check_token(token, error);
    if (code != FORGE_OK)
        return code;
    pthread_mutex_lock(&channel->token_mutex);
    atomic_fetch_add(&channel->credential_epoch, 1);
    code = post_token(channel, token, error);
    set_credential_key(channel, token); /* also where not every shard got it: what was kept is not to be told then either */
    atomic_fetch_add(&channel->credential_epoch, 1);
    pthread_mutex_unlock(&channel->token_mutex);
    return code;
}

void forge_channel_set_interceptor(struct forge_channel *channel, forge_interceptor interceptor, void *user)
{
    channel->interceptor_user = user;
    channel->interceptor = interceptor;
}

/* ---- calls ---- */

static void run_start(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge__call *call = (struct forge__call *)task;
    forge__shard_start(call->shard, call);
}

forge_code forge_channel_call_async(struct forge_channel *channel, const struct forge_method *method,
                                    const struct forge_call_options *options, const ProtobufCMessage *request, forge_call_done done,
                                    void *user, struct forge_error *error)
{
    struct forge_error unused;
    struct forge__call *call;
    if (error)
        memset(error, 0, sizeof *error);
    error = error ? error : &unused;
    if (!done)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "done is NULL");
    forge_code code = forge__call_new(channel, method, options, request, &call, error);
    if (code != FORGE_OK)
        return code;
    call->done = done;
    call->user = user;
    if (call->is_local) {
        code = forge__shard_start_nested(call->shard, call, error);
        if (code != FORGE_OK)
            forge__call_release(call);
        return code;
    }
    call->task.run = run_start;
    forge_loop_post(call->shard->loop, &call->task);
    return FORGE_OK;
}

/* ---- synchronous calls ---- */

forge_code forge_channel_call_with_info(struct forge_channel *channel, const struct forge_method *method,
                                        const struct forge_call_options *options, const ProtobufCMessage *request,
                                        ProtobufCMessage **out_reply, struct forge_reply_info *info, struct forge_error *error)
{
    struct forge_error unused_error;
    struct forge_reply_info unused_info;
    struct forge__call *call;
    bool drop_error = !error;
    error = error ? error : &unused_error;
    info = info ? info : &unused_info;
    memset(error, 0, sizeof *error);
    memset(info, 0, sizeof *info);
    if (forge_loop_current())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "a synchronous call inside a callback would wait for itself");
    forge_code code = forge__call_new(channel, method, options, request, &call, error);
    if (code != FORGE_OK)
        return code;
    forge__call_prepare_wait(call, out_reply, info, error);
    call->task.run = run_start;
    forge_loop_post(call->shard->loop, &call->task);
    code = forge__call_wait(call);
    if (drop_error)
        forge_error_free(error);
    return code;
}

forge_code forge_channel_call(struct forge_channel *channel, const struct forge_method *method, const struct forge_call_options *options,
                              const ProtobufCMessage *request, ProtobufCMessage **out_reply, struct forge_error *error)
{
    return forge_channel_call_with_info(channel, method, options, request, out_reply, NULL, error);
}
