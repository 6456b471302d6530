#include "rpc/nng_listener.h"

#include "rpc/source.h"
#include "wire/loop.h"

#include <assert.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKET_MODE = 0660, SEND_MS_MAX = 10000 };
static const char SCHEME[] = "ipc://";

struct context;

/* One peer. Made in nng's callback before its first message can come; what follows happens on its loop's thread, in posting order: opened,
 * messages, closed. References: one until closed has run, one per message on its way or in progress. */
struct pipe {
    struct rpc_nng_listener *listener;
    int id;
    unsigned slot;
    unsigned references; /* under the listener's lock */
    struct forge_loop *loop;
    struct rpc_connection *connection; /* loop thread; NULL when the server has no room for it */
    bool verified;                     /* loop thread */
    struct forge_loop_task open_task, close_task;
};

/* One call at a time: receives, waits for its answer, sends, receives again. */
struct context {
    struct rpc_nng_listener *listener;
    nng_ctx ctx;
    nng_aio *aio;
    bool sending;
    nng_msg *message;  /* received, on its way to the loop */
    struct pipe *pipe; /* where it came from */
    struct forge_loop_task task;
};

struct rpc_nng_listener {
    struct rpc_nng_listener_config config;
    nng_socket socket;
    bool has_socket;
    pthread_mutex_t lock;
    pthread_cond_t quiet; /* signalled when live or pipe_count falls to 0 */
    unsigned live;        /* contexts whose aio will call back again */
    unsigned pipe_count, next_loop;
    struct pipe **pipes; /* pipes_max slots */
    struct context *contexts;
};

/* ---- pipes ---- */

static void pipe_unref(struct pipe *pipe)
{
    struct rpc_nng_listener *listener = pipe->listener;
    pthread_mutex_lock(&listener->lock);
    bool last = --pipe->references == 0;
    if (last && --listener->pipe_count == 0)
        pthread_cond_signal(&listener->quiet);
    pthread_mutex_unlock(&listener->lock);
    if (last)
        free(pipe);
}

/* The open pipe with this id, with a reference; NULL when it has gone. */
static struct pipe *pipe_find(struct rpc_nng_listener *listener, int id)
{
    struct pipe *found = NULL;
    pthread_mutex_lock(&listener->lock);
    for (unsigned i = 0; i < listener->config.pipes_max && found == NULL; i++) {
        if (listener->pipes[i] != NULL && listener->pipes[i]->id == id)
            found = listener->pipes[i];
    }
    if (found != NULL)
        found->references++;
    pthread_mutex_unlock(&listener->lock);
    return found;
}

/* Takes a free slot; false when there are pipes_max already. */
static bool pipe_register(struct rpc_nng_listener *listener, struct pipe *pipe)
{
    bool registered = false;
    pthread_mutex_lock(&listener->lock);
    for (unsigned i = 0; i < listener->config.pipes_max && !registered; i++) {
        if (listener->pipes[i] != NULL)
            continue;
        listener->pipes[i] = pipe;
        listener->pipe_count++;
        pipe->slot = i;
        struct forge_loops *loops = rpc_server_loops(listener->config.server);
        pipe->loop = forge_loops_at(loops, (int)(listener->next_loop++ % (unsigned)forge_loops_count(loops)));
        registered = true;
    }
    pthread_mutex_unlock(&listener->lock);
    return registered;
}

static void on_dropped(void *user, void *tag);
static forge_code on_reply_begin(void *user, struct rpc_reply_room *room);
static void on_reply_commit(void *user, struct rpc_reply_room *room);

static void on_verified(void *user)
{
    ((struct pipe *)user)->verified = true;
}

static const struct rpc_source_functions SOURCE_FUNCTIONS = {
    .reply_begin = on_reply_begin,
    .reply_commit = on_reply_commit,
    .dropped = on_dropped,
    .verified = on_verified,
};

static void pipe_open_on_loop(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct pipe *pipe = (struct pipe *)((char *)task - offsetof(struct pipe, open_task));
    const struct rpc_source source = {.functions = &SOURCE_FUNCTIONS, .user = pipe, .peer_address = "", .peer = NULL};
    pipe->connection = rpc_source_open(pipe->listener->config.server, loop, &source);
    if (pipe->connection == NULL)
        nng_pipe_close((nng_pipe){.id = (uint32_t)pipe->id});
}

static void pipe_close_on_loop(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct pipe *pipe = (struct pipe *)((char *)task - offsetof(struct pipe, close_task));
    if (pipe->connection != NULL)
        rpc_source_close(pipe->connection);
    pipe->connection = NULL;
    pipe_unref(pipe);
}

static void pipe_added(nng_pipe nng, struct rpc_nng_listener *listener)
{
    struct pipe *pipe = calloc(1, sizeof *pipe);
    if (pipe != NULL) {
        pipe->listener = listener;
        pipe->id = nng_pipe_id(nng);
        pipe->references = 1;
        pipe->open_task.run = pipe_open_on_loop;
        pipe->close_task.run = pipe_close_on_loop;
    }
    if (pipe == NULL || !pipe_register(listener, pipe)) {
        free(pipe);
        nng_pipe_close(nng);
        return;
    }
    forge_loop_post(pipe->loop, &pipe->open_task);
}

static void pipe_removed(nng_pipe nng, struct rpc_nng_listener *listener)
{
    struct pipe *pipe = pipe_find(listener, nng_pipe_id(nng));
    if (pipe == NULL)
        return; /* it was refused */
    pthread_mutex_lock(&listener->lock);
    listener->pipes[pipe->slot] = NULL;
    pthread_mutex_unlock(&listener->lock);
    forge_loop_post(pipe->loop, &pipe->close_task);
    pipe_unref(pipe);
}

static void on_pipe(nng_pipe nng, nng_pipe_ev event, void *user)
{
    if (event == NNG_PIPE_EV_ADD_PRE)
        pipe_added(nng, user);
    else
        pipe_removed(nng, user);
}

/* ---- calls ---- */

static void context_receive(struct context *context)
{
    context->sending = false;
    nng_aio_set_timeout(context->aio, NNG_DURATION_INFINITE);
    nng_ctx_recv(context->ctx, context->aio);
}

static void submit_on_loop(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct context *context = (struct context *)((char *)task - offsetof(struct context, task));
    struct pipe *pipe = context->pipe;
    nng_msg *message = context->message;
    size_t len = nng_msg_len(message), unproven_max = pipe->listener->config.message_unproven_max;
    bool truncated = !pipe->verified && len > unproven_max;
    const struct rpc_message call = {
        .body = nng_msg_body(message),
        .body_len = truncated ? unproven_max : len,
        .truncated = truncated,
        .tag = context,
    };
    if (pipe->connection != NULL)
        rpc_source_submit(pipe->connection, &call); /* context may serve the next call already when this returns */
    else
        on_dropped(pipe, context);
    nng_msg_free(message);
}

static void context_received(struct context *context)
{
    context->message = nng_aio_get_msg(context->aio);
    context->pipe = pipe_find(context->listener, nng_pipe_id(nng_msg_get_pipe(context->message)));
    if (context->pipe == NULL) {
        nng_msg_free(context->message);
        context_receive(context);
        return;
    }
    context->task.run = submit_on_loop;
    forge_loop_post(context->pipe->loop, &context->task);
}

static void context_ended(struct context *context)
{
    struct rpc_nng_listener *listener = context->listener;
    pthread_mutex_lock(&listener->lock);
    if (--listener->live == 0)
        pthread_cond_signal(&listener->quiet);
    pthread_mutex_unlock(&listener->lock);
}

/* nng's threads: must not block. */
static void on_aio(void *user)
{
    struct context *context = user;
    int result = nng_aio_result(context->aio);
    if (result != 0 && context->sending)
        nng_msg_free(nng_aio_get_msg(context->aio)); /* not taken: the reply is lost with its peer */
    if (result == NNG_ECLOSED)
        context_ended(context);
    else if (result != 0 || context->sending)
        context_receive(context);
    else
        context_received(context);
}

static void on_dropped(void *user, void *tag)
{
    struct context *context = tag;
    context_receive(context);
    pipe_unref(user);
}

static forge_code on_reply_begin(void *user, struct rpc_reply_room *room)
{
    nng_msg *reply;
    if (nng_msg_alloc(&reply, room->body_len) != 0) {
        on_dropped(user, room->tag);
        return FORGE_RESOURCE_EXHAUSTED;
    }
    room->body = nng_msg_body(reply);
    room->private_data[0] = (uintptr_t)reply;
    return FORGE_OK;
}

static void on_reply_commit(void *user, struct rpc_reply_room *room)
{
    struct context *context = room->tag;
    context->sending = true;
    nng_aio_set_timeout(context->aio, SEND_MS_MAX);
    nng_aio_set_msg(context->aio, (nng_msg *)room->private_data[0]);
    nng_ctx_send(context->ctx, context->aio);
    pipe_unref(user);
}

/* ---- life ---- */

static forge_code refuse(const struct rpc_nng_listener *listener, int result, struct forge_error *error)
{
    forge_code code = result == NNG_ENOMEM ? FORGE_RESOURCE_EXHAUSTED : FORGE_UNAVAILABLE;
    return forge_error_set(error, code, "ipc_url: cannot listen on %s: %s", listener->config.url, nng_strerror(result));
}

static int open_socket(struct rpc_nng_listener *listener)
{
    int result = nng_rep0_open(&listener->socket);
    if (result != 0)
        return result;
    listener->has_socket = true;
    result = nng_socket_set_size(listener->socket, NNG_OPT_RECVMAXSZ, listener->config.message_max);
    if (result == 0)
        result = nng_pipe_notify(listener->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, listener);
    if (result == 0)
        result = nng_pipe_notify(listener->socket, NNG_PIPE_EV_REM_POST, on_pipe, listener);
    return result;
}

static int open_contexts(struct rpc_nng_listener *listener)
{
    for (unsigned i = 0; i < listener->config.contexts; i++) {
        struct context *context = &listener->contexts[i];
        context->listener = listener;
        int result = nng_aio_alloc(&context->aio, on_aio, context);
        if (result == 0)
            result = nng_ctx_open(&context->ctx, listener->socket);
        if (result != 0)
            return result;
    }
    return 0;
}

static int start_listening(struct rpc_nng_listener *listener)
{
    nng_listener nng;
    int result = nng_listener_create(&nng, listener->socket, listener->config.url);
    if (result == 0)
        result = nng_listener_set_int(nng, NNG_OPT_IPC_PERMISSIONS, SOCKET_MODE);
    return result == 0 ? nng_listener_start(nng, 0) : result;
}

static struct rpc_nng_listener *allocate(const struct rpc_nng_listener_config *config)
{
    struct rpc_nng_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        return NULL;
    listener->config = *config;
    pthread_mutex_init(&listener->lock, NULL);
    pthread_cond_init(&listener->quiet, NULL);
    listener->pipes = calloc(config->pipes_max, sizeof *listener->pipes);
    listener->contexts = calloc(config->contexts, sizeof *listener->contexts);
    if (listener->pipes == NULL || listener->contexts == NULL) {
        rpc_nng_listener_free(listener);
        return NULL;
    }
    return listener;
}

forge_code rpc_nng_listener_new(const struct rpc_nng_listener_config *config, struct rpc_nng_listener **out, struct forge_error *error)
{
    assert(config->contexts > 0 && config->pipes_max > 0);
    if (strncmp(config->url, SCHEME, strlen(SCHEME)) != 0)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT,
                               "ipc_url: \"%.64s\" is refused: only ipc:// is served; over the network use the TLS port", config->url);
    struct rpc_nng_listener *listener = allocate(config);
    if (listener == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "ipc_url: no memory");
    int result = open_socket(listener);
    if (result == 0)
        result = open_contexts(listener);
    if (result == 0)
        result = start_listening(listener);
    if (result != 0) {
        forge_code rc = refuse(listener, result, error);
        rpc_nng_listener_free(listener);
        return rc;
    }
    listener->live = config->contexts;
    for (unsigned i = 0; i < config->contexts; i++)
        context_receive(&listener->contexts[i]);
    *out = listener;
    return FORGE_OK;
}

void rpc_nng_listener_free(struct rpc_nng_listener *listener)
{
    if (listener == NULL)
        return;
    if (listener->has_socket)
        nng_close(listener->socket); /* every aio and every call in progress ends; each pipe is told to its loop */
    pthread_mutex_lock(&listener->lock);
    while (listener->live > 0 || listener->pipe_count > 0)
        pthread_cond_wait(&listener->quiet, &listener->lock);
    pthread_mutex_unlock(&listener->lock);
    for (unsigned i = 0; listener->contexts != NULL && i < listener->config.contexts; i++) {
        if (listener->contexts[i].aio == NULL)
            continue;
        nng_aio_stop(listener->contexts[i].aio); /* waits for the end of its last callback */
        nng_aio_free(listener->contexts[i].aio);
    }
    pthread_cond_destroy(&listener->quiet);
    pthread_mutex_destroy(&listener->lock);
    free(listener->contexts);
    free(listener->pipes);
    free(listener);
}
