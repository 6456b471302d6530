#include "wire/link_private.h"

#include "wire/clock.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TRIM_AFTER_MS = 1000, KEEPALIVE_IDLE_S = 30, KEEPALIVE_INTERVAL_S = 10, KEEPALIVE_COUNT = 3, LAST_READS_MAX = 4 };

/* A frame that another thread sends: prefix, stack and body wait here for the loop. */
struct send_block {
    struct forge_loop_task task;
    struct forge_link *link; /* holds a reference */
    size_t size;
    uint8_t bytes[];
};

static void link_ready(struct forge_loop *loop, struct forge_watch *watch, unsigned events);

const char *forge_link_why_text(enum forge_link_why why)
{
    switch (why) {
    case FORGE_LINK_LOCAL:
        return "closed on this side";
    case FORGE_LINK_EOF:
        return "closed by the peer";
    case FORGE_LINK_IO:
        return "connection reset or unreachable";
    case FORGE_LINK_TLS:
        return "TLS refused";
    case FORGE_LINK_PROTOCOL:
        return "not the protocol, or a frame over its limit";
    case FORGE_LINK_TIMEOUT:
        return "time limit passed";
    case FORGE_LINK_DIAL:
        return "cannot connect";
    case FORGE_LINK_RESOLVE:
        return "no such host name";
    case FORGE_LINK_SLOW:
        return "the peer does not read";
    case FORGE_LINK_MEMORY:
        return "out of memory or descriptors";
    }
    return "unknown";
}

/* ---- references ---- */

void forge_link_ref(struct forge_link *link)
{
    atomic_fetch_add_explicit(&link->references, 1, memory_order_relaxed);
}

void forge_link_unref(struct forge_link *link)
{
    if (!link || atomic_fetch_sub_explicit(&link->references, 1, memory_order_acq_rel) != 1)
        return;
    free(link->peer);
    free(link);
}

/* ---- time limits ---- */

static void check_by(struct forge_link *link, uint64_t at_ms)
{
    if (!link->timer.armed || at_ms < link->timer.at_ms)
        forge_timer_arm(link->loop, &link->timer, at_ms);
}

static void note_traffic(struct forge_link *link)
{
    link->traffic_ms = forge_loop_now_ms(link->loop);
    if (!link->trimmed)
        return;
    link->trimmed = false;
    check_by(link, link->traffic_ms + TRIM_AFTER_MS);
}

static int calls_in_flight(const struct forge_link *link)
{
    return link->calls + atomic_load_explicit(&link->calls_elsewhere, memory_order_relaxed);
}

struct limit {
    uint64_t at_ms;
    enum forge_link_why why;
};

static void earlier(struct limit *limit, uint64_t at_ms, enum forge_link_why why)
{
    if (at_ms < limit->at_ms)
        *limit = (struct limit){at_ms, why};
}

static struct limit earliest_limit(const struct forge_link *link, uint64_t now_ms)
{
    const struct forge_link_options *o = &link->options;
    struct limit limit = {UINT64_MAX, FORGE_LINK_TIMEOUT};
    if (!atomic_load_explicit(&link->opened, memory_order_relaxed))
        earlier(&limit, link->started_ms + o->handshake_ms, FORGE_LINK_TIMEOUT);
    else if (o->idle_ms)
        earlier(&limit, (calls_in_flight(link) ? now_ms + 1 : link->traffic_ms) + o->idle_ms, FORGE_LINK_TIMEOUT);
    if (link->partial_since_ms && link->reading && !link->again_queued) /* else it is we who do not read */
        earlier(&limit, link->partial_since_ms + o->body_ms, FORGE_LINK_TIMEOUT);
    if (link->blocked_since_ms)
        earlier(&limit, link->blocked_since_ms + o->body_ms, FORGE_LINK_SLOW);
    return limit;
}

static void check_limits(struct forge_loop *loop, struct forge_timer *timer)
{
    struct forge_link *link = FORGE_LINK_OF(timer, timer);
    uint64_t now_ms = forge_loop_now_ms(loop);
    struct limit limit = earliest_limit(link, now_ms);
    if (limit.at_ms <= now_ms) {
        forge_link_doom(link, limit.why);
        return;
    }
    if (!link->trimmed && now_ms >= link->traffic_ms + TRIM_AFTER_MS) {
        forge_stream_trim(&link->stream);
        link->trimmed = true;
    } else if (!link->trimmed) {
        earlier(&limit, link->traffic_ms + TRIM_AFTER_MS, FORGE_LINK_TIMEOUT);
    }
    if (limit.at_ms != UINT64_MAX)
        check_by(link, limit.at_ms);
}

/* ---- sending ---- */

static size_t unsent_bytes(const struct forge_link *link)
{
    return forge_stream_unsent(&link->stream) + atomic_load_explicit(&link->queued, memory_order_relaxed);
}

static bool wants_input(const struct forge_link *link)
{
    return unsent_bytes(link) <= link->options.pending_max / 2;
}

static void queue_flush(struct forge_link *link)
{
    if (link->flush_queued || link->doomed)
        return;
    link->flush_queued = true;
    forge_loop_at_phase(link->loop, FORGE_PHASE_FLUSH, &link->flush);
}

static void queue_again(struct forge_link *link)
{
    if (link->again_queued || link->doomed)
        return;
    link->again_queued = true;
    forge_loop_at_phase(link->loop, FORGE_PHASE_AGAIN, &link->again);
}

static void queue_end(struct forge_link *link)
{
    if (link->end_queued)
        return;
    link->end_queued = true;
    forge_loop_at_phase(link->loop, FORGE_PHASE_END, &link->end);
}

void forge_link_doom(struct forge_link *link, enum forge_link_why why)
{
    if (link->doomed)
        return;
    link->doomed = true;
    atomic_store(&link->closing, true);
    link->why = why;
    queue_end(link);
}

void forge_link_update_watch(struct forge_link *link)
{
    unsigned interest = link->connecting || forge_buffer_left(&link->stream.sealed) ? FORGE_WATCH_WRITE : 0;
    bool was_reading = link->reading;
    link->reading = wants_input(link);
    if (!link->connecting && link->reading)
        interest |= FORGE_WATCH_READ;
    if (!was_reading && link->reading && link->partial_since_ms) /* the peer could not go on meanwhile */
        link->partial_since_ms = forge_loop_now_ms(link->loop);
    if (link->reading && link->stream.frames.paused)
        queue_again(link);
    if (forge_watch_set(link->loop, &link->watch, interest) != FORGE_OK)
        forge_link_doom(link, FORGE_LINK_MEMORY);
}

/* True when all of it went. */
static bool send_sealed(struct forge_link *link)
{
    struct forge_buffer *sealed = &link->stream.sealed;
    size_t size = forge_buffer_left(sealed);
    ssize_t sent = size ? send(link->watch.fd, forge_buffer_front(sealed), size, MSG_NOSIGNAL) : 0;
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            forge_link_doom(link, FORGE_LINK_IO);
        return false;
    }
    if (sent == 0)
        return true;
    forge_buffer_consume(sealed, (size_t)sent);
    note_traffic(link);
    link->blocked_since_ms = 0;
    return (size_t)sent == size;
}

/* Seals and sends until nothing is left or the kernel takes no more. */
static bool send_all(struct forge_link *link)
{
    do {
        int why = forge_stream_seal(&link->stream);
        if (why)
            forge_link_doom(link, (enum forge_link_why)why);
        if (why || !send_sealed(link))
            return false;
    } while (forge_stream_unsent(&link->stream) && link->stream.handshaken);
    return true;
}

static void flush_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge_link *link = FORGE_LINK_OF(task, flush);
    link->flush_queued = false;
    if (link->doomed) {
        queue_end(link);
        return;
    }
    bool done = send_all(link);
    if (!done && !link->doomed && !link->blocked_since_ms) {
        link->blocked_since_ms = forge_loop_now_ms(loop);
        check_by(link, link->blocked_since_ms + link->options.body_ms);
    }
    atomic_store_explicit(&link->unsent, forge_stream_unsent(&link->stream), memory_order_relaxed);
    if (!link->doomed)
        forge_link_update_watch(link);
}

static void send_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop;
    struct send_block *block = (struct send_block *)(void *)task;
    struct forge_link *link = block->link;
    atomic_fetch_sub_explicit(&link->queued, block->size, memory_order_relaxed);
    if (!link->doomed && atomic_load_explicit(&link->opened, memory_order_relaxed)) {
        if (forge_buffer_append(&link->stream.out, block->bytes, block->size))
            queue_flush(link);
        else
            forge_link_doom(link, FORGE_LINK_MEMORY);
    }
    forge_link_unref(link);
    free(block);
}

static forge_code begin_on_loop(struct forge_link *link, const uint8_t *stack, size_t stack_len, size_t body_len,
                                struct forge_link_send *out)
{
    if (unsent_bytes(link) + body_len > link->options.pending_max)
        return FORGE_RESOURCE_EXHAUSTED;
    uint8_t *body = forge_stream_begin(&link->stream, stack, stack_len, body_len);
    if (!body)
        return FORGE_RESOURCE_EXHAUSTED;
    *out = (struct forge_link_send){.link = link, .body = body, .body_len = body_len, .stack_len = stack_len};
    return FORGE_OK;
}

static forge_code begin_elsewhere(struct forge_link *link, const uint8_t *stack, size_t stack_len, size_t body_len,
                                  struct forge_link_send *out)
{
    size_t size = FORGE_FRAME_PREFIX + stack_len + body_len;
    size_t pending = atomic_load_explicit(&link->queued, memory_order_relaxed) + atomic_load_explicit(&link->unsent, memory_order_relaxed);
    if (pending + body_len > link->options.pending_max)
        return FORGE_RESOURCE_EXHAUSTED;
    struct send_block *block = malloc(sizeof *block + size);
    if (!block)
        return FORGE_RESOURCE_EXHAUSTED;
    block->task.run = send_run;
    block->link = link;
    block->size = size;
    forge_frame_head(block->bytes, stack, stack_len, body_len);
    forge_link_ref(link);
    *out = (struct forge_link_send){.link = link, .body_len = body_len, .stack_len = stack_len, .block = block};
    out->body = block->bytes + FORGE_FRAME_PREFIX + stack_len;
    return FORGE_OK;
}

forge_code forge_link_send_begin(struct forge_link *link, const uint8_t *stack, size_t stack_len, size_t body_len,
                                 struct forge_link_send *out)
{
    assert(stack_len >= 4 && stack_len <= FORGE_STACK_MAX && stack_len % 4 == 0);
    if (atomic_load_explicit(&link->closing, memory_order_relaxed) || !atomic_load_explicit(&link->opened, memory_order_acquire))
        return FORGE_UNAVAILABLE;
    if (body_len > link->options.pending_max)
        return FORGE_RESOURCE_EXHAUSTED;
    if (forge_loop_current() == link->loop)
        return begin_on_loop(link, stack, stack_len, body_len, out);
    return begin_elsewhere(link, stack, stack_len, body_len, out);
}

void forge_link_send_commit(struct forge_link_send *send)
{
    struct send_block *block = send->block;
    if (block) {
        /* Counted from here on only, so that a flush follows whatever reading was stopped for. */
        atomic_fetch_add_explicit(&block->link->queued, block->size, memory_order_relaxed);
        forge_loop_post(block->link->loop, &block->task);
    } else {
        forge_stream_commit(&send->link->stream, send->stack_len, send->body_len);
        queue_flush(send->link);
    }
}

void forge_link_send_abort(struct forge_link_send *send)
{
    struct send_block *block = send->block;
    if (!block)
        return;
    forge_link_unref(block->link);
    free(block);
}

/* ---- receiving ---- */

struct input {
    struct forge_link *link;
    uint64_t clock_ns; /* when the last frame callback ended; 0 = none yet */
};

static void on_greeted(void *argument)
{
    struct forge_link *link = ((struct input *)argument)->link;
    if (link->doomed)
        return;
    if (SSL_get0_peer_certificate(link->stream.ssl)) {
        link->peer = malloc(sizeof *link->peer);
        if (!link->peer) {
            forge_link_doom(link, FORGE_LINK_MEMORY);
            return;
        }
        forge_tls_peer_read(link->stream.ssl, link->peer);
    }
    forge_link_dial_done(link);
    atomic_store_explicit(&link->opened, true, memory_order_release);
    link->options.callbacks->opened(link, link->options.user);
}

static bool on_frame(void *argument, const struct forge_frame *frame)
{
    struct input *input = argument;
    struct forge_link *link = input->link;
    if (link->doomed)
        return false;
    if (!input->clock_ns)
        input->clock_ns = forge_clock_monotonic_ns();
    link->partial_since_ms = 0;
    link->options.callbacks->frame(link, link->options.user, frame);
    uint64_t now_ns = forge_clock_monotonic_ns();
    forge_loop_spend(link->loop, now_ns - input->clock_ns);
    input->clock_ns = now_ns;
    return !link->doomed && !forge_loop_has_spent_budget(link->loop) && wants_input(link);
}

static const struct forge_frames_sink sink = {on_greeted, on_frame};

static void input_done(struct forge_link *link, int why)
{
    if (why)
        forge_link_doom(link, (enum forge_link_why)why);
    if (link->doomed)
        return;
    if (!forge_stream_is_partial(&link->stream)) {
        link->partial_since_ms = 0;
    } else if (!link->partial_since_ms) {
        link->partial_since_ms = forge_loop_now_ms(link->loop);
        check_by(link, link->partial_since_ms + link->options.body_ms);
    }
    if (link->stream.frames.paused && wants_input(link))
        queue_again(link);
    if (forge_stream_unsent(&link->stream))
        queue_flush(link);
}

static void receive(struct forge_link *link)
{
    uint8_t *received = forge_loop_received(link->loop);
    ssize_t size = recv(link->watch.fd, received, FORGE_LOOP_RECEIVED_SIZE, 0);
    if (size <= 0) {
        if (size == 0 || (errno != EAGAIN && errno != EINTR))
            forge_link_doom(link, size == 0 ? FORGE_LINK_EOF : FORGE_LINK_IO);
        return;
    }
    note_traffic(link);
    struct input input = {.link = link};
    input_done(link, forge_stream_feed(&link->stream, received, (size_t)size, forge_loop_plain(link->loop), &sink, &input));
}

static void again_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop;
    struct forge_link *link = FORGE_LINK_OF(task, again);
    link->again_queued = false;
    if (link->doomed) {
        queue_end(link);
    } else if (link->stream.frames.paused) {
        struct input input = {.link = link};
        input_done(link, forge_frames_resume(&link->stream.frames, &sink, &input));
    } else {
        receive(link);
    }
}

static void link_ready(struct forge_loop *loop, struct forge_watch *watch, unsigned events)
{
    struct forge_link *link = forge_link_of_watch(watch);
    if (link->doomed)
        return;
    if (link->connecting) {
        forge_link_connect_event(link);
        return;
    }
    if (events & FORGE_WATCH_READ && !link->again_queued) {
        if (forge_loop_has_spent_budget(loop))
            queue_again(link); /* others come first next turn */
        else
            receive(link);
    }
    if (events & FORGE_WATCH_WRITE)
        queue_flush(link);
}

void forge_link_connected(struct forge_link *link)
{
    link->connecting = false;
    int why = forge_stream_start(&link->stream);
    if (why)
        forge_link_doom(link, (enum forge_link_why)why);
    queue_flush(link);
}

/* ---- beginning and end ---- */

void forge_link_socket_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {{IPPROTO_TCP, TCP_NODELAY, 1},
                   {SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
                   {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
                   {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

void forge_link_set_address(struct forge_link *link, const struct sockaddr_storage *address)
{
    const void *at = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    int family = address->ss_family;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (family == AF_INET6) {
        at = in6;
        if (IN6_IS_ADDR_V4MAPPED(in6)) {
            family = AF_INET;
            at = in6->s6_addr + 12;
        }
    }
    inet_ntop(family, at, link->address, sizeof link->address);
}

static void link_stop(struct forge_loop *loop, struct forge_watch *watch)
{
    (void)loop;
    forge_link_doom(forge_link_of_watch(watch), FORGE_LINK_LOCAL);
}

/* What was committed goes out if the kernel takes it at once, and an alert in any case. Unread input would turn our close into a reset that
 * overtakes it, so some is read away. */
static void last_words(struct forge_link *link)
{
    if (link->watch.fd < 0 || link->connecting || link->why == FORGE_LINK_IO || link->why == FORGE_LINK_SLOW)
        return;
    bool orderly = link->why == FORGE_LINK_LOCAL || link->why == FORGE_LINK_TIMEOUT;
    if (orderly && send_all(link))
        forge_stream_goodbye(&link->stream);
    send_sealed(link);
    shutdown(link->watch.fd, SHUT_WR);
    for (int i = 0; i < LAST_READS_MAX; i++)
        if (recv(link->watch.fd, forge_loop_received(link->loop), FORGE_LOOP_RECEIVED_SIZE, 0) <= 0)
            break;
}

static void end_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge_link *link = FORGE_LINK_OF(task, end);
    link->end_queued = false;
    if (link->flush_queued || link->again_queued)
        return; /* that list still names us: its turn brings us back here */
    last_words(link);
    forge_timer_disarm(loop, &link->timer);
    forge_link_dial_done(link);
    forge_watch_close(loop, &link->watch);
    if (link->acceptor)
        forge_acceptor_link_closed(link);
    forge_stream_done(&link->stream);
    link->options.callbacks->closed(link, link->options.user, link->why);
    forge_loop_add_links(loop, -1);
    forge_link_unref(link);
}

static void close_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop;
    struct forge_link *link = FORGE_LINK_OF(task, close);
    forge_link_doom(link, FORGE_LINK_LOCAL);
    forge_link_unref(link);
}

void forge_link_close(struct forge_link *link)
{
    if (atomic_exchange(&link->closing, true))
        return;
    if (forge_loop_current() == link->loop && link->watch.open) {
        forge_link_doom(link, FORGE_LINK_LOCAL);
    } else {
        forge_link_ref(link);
        forge_loop_post(link->loop, &link->close);
    }
}

struct forge_link *forge_link_new(struct forge_loop *loop, const struct forge_link_options *options, struct forge_tls *tls,
                                  const char *host)
{
    struct forge_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    if (!forge_stream_init(&link->stream, tls, host, options)) {
        free(link);
        return NULL;
    }
    link->watch.fd = -1;
    link->watch.ready = link_ready;
    link->watch.stop = link_stop;
    link->loop = loop;
    link->flush.run = flush_run;
    link->again.run = again_run;
    link->end.run = end_run;
    link->close.run = close_run;
    link->timer.fire = check_limits;
    link->options = *options;
    link->options.tls = NULL; /* the stream holds it */
    link->trimmed = link->reading = true;
    atomic_init(&link->references, 1);
    return link;
}

void forge_link_discard(struct forge_link *link)
{
    forge_loop_add_links(link->loop, -1);
    forge_link_dial_done(link);
    forge_stream_done(&link->stream);
    free(link);
}

void forge_link_attach(struct forge_link *link)
{
    forge_watch_open(link->loop, &link->watch);
    link->started_ms = link->traffic_ms = forge_loop_now_ms(link->loop);
    check_by(link, link->started_ms + link->options.handshake_ms);
}

/* ---- small things ---- */

struct forge_loop *forge_link_loop(const struct forge_link *link)
{
    return link->loop;
}

void forge_link_set_user(struct forge_link *link, void *user)
{
    link->options.user = user;
}

void forge_link_set_message_max(struct forge_link *link, size_t message_max)
{
    link->stream.frames.message_max = message_max;
}

void forge_link_set_proven(struct forge_link *link)
{
    if (link->acceptor)
        forge_acceptor_link_proven(link);
}

void forge_link_add_calls(struct forge_link *link, int delta)
{
    if (forge_loop_current() == link->loop)
        link->calls += delta;
    else
        atomic_fetch_add_explicit(&link->calls_elsewhere, delta, memory_order_relaxed);
}

const struct forge_tls_peer *forge_link_peer(const struct forge_link *link)
{
    static const struct forge_tls_peer nobody;
    return link->peer ? link->peer : &nobody;
}

const char *forge_link_peer_address(const struct forge_link *link)
{
    return link->address;
}

bool forge_link_peer_verifies(const struct forge_link *link, struct forge_tls *tls)
{
    return !link->stream.ssl || forge_tls_peer_verifies(link->stream.ssl, tls);
}

size_t forge_link_count(const struct forge_loops *loops)
{
    size_t count = 0;
    for (int i = 0; i < forge_loops_count(loops); i++)
        count += forge_loop_links(forge_loops_at((struct forge_loops *)(uintptr_t)loops, i));
    return count;
}

/* ---- a visit to every link ---- */

struct visit {
    struct visit_loop {
        struct forge_loop_task task;
        struct visit *visit;
    } loops[FORGE_LOOPS_MAX];
    void (*run)(struct forge_link *link, void *user, void *argument);
    void *argument;
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int left;
};

static void visit_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct visit *visit = ((struct visit_loop *)(void *)task)->visit;
    for (struct forge_watch *watch = forge_loop_watches(loop), *next; watch; watch = next) {
        next = watch->next;
        struct forge_link *link = forge_link_of_watch(watch);
        if (watch->ready == link_ready && !link->doomed)
            visit->run(link, link->options.user, visit->argument);
    }
    pthread_mutex_lock(&visit->mutex);
    if (--visit->left == 0)
        pthread_cond_signal(&visit->done);
    pthread_mutex_unlock(&visit->mutex);
}

void forge_link_for_each(struct forge_loops *loops, void (*visit_link)(struct forge_link *link, void *user, void *argument), void *argument)
{
    assert(!forge_loop_current());
    struct visit visit = {.run = visit_link, .argument = argument, .left = forge_loops_count(loops)};
    pthread_mutex_init(&visit.mutex, NULL);
    pthread_cond_init(&visit.done, NULL);
    int count = visit.left;
    for (int i = 0; i < count; i++) {
        visit.loops[i] = (struct visit_loop){.task = {.run = visit_run}, .visit = &visit};
        forge_loop_post(forge_loops_at(loops, i), &visit.loops[i].task);
    }
    pthread_mutex_lock(&visit.mutex);
    while (visit.left)
        pthread_cond_wait(&visit.done, &visit.mutex);
    pthread_mutex_unlock(&visit.mutex);
    pthread_cond_destroy(&visit.done);
    pthread_mutex_destroy(&visit.mutex);
}
