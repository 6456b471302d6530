#include "wire/link_private.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 4096, ACCEPT_PER_TURN = 64, ACCEPT_RETRY_MS = 100, ADDRESS_BUCKETS = 1024, ADDRESS_KEY_SIZE = 16 };

/* Links per peer address that have shown no credential. */
struct address_count {
    struct address_count *next;
    uint8_t key[ADDRESS_KEY_SIZE];
    unsigned links;
};

struct forge_acceptor {
    atomic_int references;
    pthread_mutex_t mutex; /* guards what follows */
    unsigned links, links_max;
    unsigned unproven_max;
    struct address_count *buckets[ADDRESS_BUCKETS];
};

struct forge_link_listener {
    struct forge_watch watch;
    struct forge_loops *loops;
    struct forge_loop *loop;
    struct forge_timer retry;
    struct forge_loop_task open, close, end;
    struct forge_link_options options;
    struct forge_acceptor *acceptor;
    bool ending;     /* loop thread */
    bool has_waiter; /* loop thread: forge_link_listener_close waits and frees */

    pthread_mutex_t mutex; /* guards what follows */
    struct forge_tls *tls;
    pthread_cond_t ended;
    bool has_ended;
};

/* ---- who may still come in ---- */

/* IPv4 addresses count one by one, IPv6 ones by their /64, which one host commonly has to itself (RFC 6177). */
static void address_key(const struct sockaddr_storage *address, uint8_t key[ADDRESS_KEY_SIZE])
{
    memset(key, 0, ADDRESS_KEY_SIZE);
    if (address->ss_family == AF_INET) { /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): accept4 filled it in */
        memcpy(key + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
        return;
    }
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(in6))
        memcpy(key + 12, in6->s6_addr + 12, 4);
    else
        memcpy(key, in6->s6_addr, 8);
}

static struct address_count **address_find(struct forge_acceptor *acceptor, const uint8_t key[ADDRESS_KEY_SIZE])
{
    uint32_t hash = 2166136261u; /* FNV-1a; the number of entries is bounded by links_max, so long chains cannot be provoked */
    for (int i = 0; i < ADDRESS_KEY_SIZE; i++)
        hash = (hash ^ key[i]) * 16777619u;
    struct address_count **at = &acceptor->buckets[hash % ADDRESS_BUCKETS];
    while (*at && memcmp((*at)->key, key, ADDRESS_KEY_SIZE) != 0)
        at = &(*at)->next;
    return at;
}

/* Under the lock. */
static bool address_take(struct forge_acceptor *acceptor, const uint8_t key[ADDRESS_KEY_SIZE])
{
    struct address_count **at = address_find(acceptor, key);
    if (!*at) {
        struct address_count *fresh = calloc(1, sizeof *fresh);
        if (!fresh)
            return false;
        memcpy(fresh->key, key, ADDRESS_KEY_SIZE);
        *at = fresh;
    }
    if ((*at)->links >= acceptor->unproven_max)
        return false;
    (*at)->links++;
    return true;
}

/* Under the lock. */
static void address_give(struct forge_acceptor *acceptor, const uint8_t key[ADDRESS_KEY_SIZE])
{
    struct address_count **at = address_find(acceptor, key), *entry = *at;
    if (--entry->links == 0) {
        *at = entry->next;
        free(entry);
    }
}

static bool acceptor_admit(struct forge_acceptor *acceptor, const uint8_t key[ADDRESS_KEY_SIZE])
{
    pthread_mutex_lock(&acceptor->mutex);
    bool ok = acceptor->links_max == 0 || acceptor->links < acceptor->links_max;
    if (ok && acceptor->unproven_max)
        ok = address_take(acceptor, key);
    if (ok)
        acceptor->links++;
    pthread_mutex_unlock(&acceptor->mutex);
    return ok;
}

static void acceptor_leave(struct forge_acceptor *acceptor, const uint8_t *unproven_key)
{
    pthread_mutex_lock(&acceptor->mutex);
    acceptor->links--;
    if (unproven_key && acceptor->unproven_max)
        address_give(acceptor, unproven_key);
    pthread_mutex_unlock(&acceptor->mutex);
}

static struct forge_acceptor *acceptor_new(const struct forge_link_options *options)
{
    struct forge_acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor)
        return NULL;
    atomic_init(&acceptor->references, 1);
    pthread_mutex_init(&acceptor->mutex, NULL);
    acceptor->links_max = options->links_max;
    acceptor->unproven_max = options->unproven_per_address;
    return acceptor;
}

static void acceptor_unref(struct forge_acceptor *acceptor)
{
    if (atomic_fetch_sub_explicit(&acceptor->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&acceptor->mutex);
    free(acceptor);
}

void forge_acceptor_link_closed(struct forge_link *link)
{
    acceptor_leave(link->acceptor, link->unproven ? link->address_key : NULL);
    acceptor_unref(link->acceptor);
    link->acceptor = NULL;
}

void forge_acceptor_link_proven(struct forge_link *link)
{
    struct forge_acceptor *acceptor = link->acceptor;
    if (!link->unproven)
        return;
    link->unproven = false;
    if (!acceptor->unproven_max)
        return;
    pthread_mutex_lock(&acceptor->mutex);
    address_give(acceptor, link->address_key);
    pthread_mutex_unlock(&acceptor->mutex);
}

/* ---- accepting ---- */

static void accepted_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop;
    struct forge_link *link = FORGE_LINK_OF(task, attach);
    forge_link_attach(link);
    if (link->options.callbacks->accepted)
        link->options.callbacks->accepted(link, link->options.user);
    if (!link->doomed)
        forge_link_update_watch(link);
}

static struct forge_link *link_for(struct forge_link_listener *listener, const struct sockaddr_storage *peer)
{
    struct forge_loop *loop = forge_loops_take_emptiest(listener->loops);
    pthread_mutex_lock(&listener->mutex);
    struct forge_link *link = forge_link_new(loop, &listener->options, listener->tls, NULL);
    pthread_mutex_unlock(&listener->mutex);
    if (!link) {
        forge_loop_add_links(loop, -1);
        return NULL;
    }
    link->acceptor = listener->acceptor;
    atomic_fetch_add_explicit(&link->acceptor->references, 1, memory_order_relaxed);
    link->unproven = true;
    address_key(peer, link->address_key);
    forge_link_set_address(link, peer);
    link->attach.run = accepted_run;
    return link;
}

static void take_socket(struct forge_link_listener *listener, int fd, const struct sockaddr_storage *peer)
{
    uint8_t key[ADDRESS_KEY_SIZE];
    address_key(peer, key);
    if (!acceptor_admit(listener->acceptor, key)) {
        close(fd);
        return;
    }
    struct forge_link *link = link_for(listener, peer);
    if (!link) {
        acceptor_leave(listener->acceptor, key);
        close(fd);
        return;
    }
    forge_link_socket_options(fd);
    link->watch.fd = fd;
    forge_loop_post(link->loop, &link->attach);
}

/* No descriptors or memory: the kernel keeps the connections in its queue; look again soon instead of spinning. */
static void pause_accepting(struct forge_link_listener *listener)
{
    if (forge_watch_set(listener->loop, &listener->watch, 0) == FORGE_OK)
        forge_timer_arm(listener->loop, &listener->retry, forge_loop_now_ms(listener->loop) + ACCEPT_RETRY_MS);
}

static void listener_ready(struct forge_loop *loop, struct forge_watch *watch, unsigned events)
{
    (void)loop, (void)events;
    struct forge_link_listener *listener = (struct forge_link_listener *)(void *)watch;
    for (int i = 0; i < ACCEPT_PER_TURN && !listener->ending; i++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        int fd = accept4(watch->fd, (struct sockaddr *)(void *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_socket(listener, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener);
            return;
        } else if (errno == EAGAIN) {
            return;
        } /* anything else is that connection's own failure (accept(2)) */
    }
}

static void retry_fire(struct forge_loop *loop, struct forge_timer *timer)
{
    struct forge_link_listener *listener = (void *)((char *)timer - offsetof(struct forge_link_listener, retry));
    if (!listener->ending && forge_watch_set(loop, &listener->watch, FORGE_WATCH_READ) != FORGE_OK)
        forge_timer_arm(loop, timer, forge_loop_now_ms(loop) + ACCEPT_RETRY_MS);
}

/* ---- opening and closing ---- */

static void listener_free(struct forge_link_listener *listener)
{
    if (listener->watch.fd >= 0)
        close(listener->watch.fd);
    if (listener->acceptor)
        acceptor_unref(listener->acceptor);
    forge_tls_unref(listener->tls);
    pthread_cond_destroy(&listener->ended);
    pthread_mutex_destroy(&listener->mutex);
    free(listener);
}

static void end_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge_link_listener *listener = (void *)((char *)task - offsetof(struct forge_link_listener, end));
    forge_timer_disarm(loop, &listener->retry);
    forge_watch_close(loop, &listener->watch);
    if (!listener->has_waiter) {
        listener_free(listener);
        return;
    }
    pthread_mutex_lock(&listener->mutex);
    listener->has_ended = true;
    pthread_cond_signal(&listener->ended);
    pthread_mutex_unlock(&listener->mutex);
}

static void listener_stop(struct forge_loop *loop, struct forge_watch *watch)
{
    struct forge_link_listener *listener = (struct forge_link_listener *)(void *)watch;
    if (!listener->ending)
        forge_loop_at_phase(loop, FORGE_PHASE_END, &listener->end);
    listener->ending = true;
}

static void close_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge_link_listener *listener = (void *)((char *)task - offsetof(struct forge_link_listener, close));
    listener->has_waiter = true;
    listener_stop(loop, &listener->watch);
}

static void open_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct forge_link_listener *listener = (void *)((char *)task - offsetof(struct forge_link_listener, open));
    forge_watch_open(loop, &listener->watch);
    retry_fire(loop, &listener->retry);
}

static struct forge_link_listener *listener_new(struct forge_loops *loops, const struct forge_link_options *options)
{
    struct forge_link_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return NULL;
    pthread_mutex_init(&listener->mutex, NULL);
    pthread_cond_init(&listener->ended, NULL);
    listener->watch.fd = -1;
    listener->watch.ready = listener_ready;
    listener->watch.stop = listener_stop;
    listener->loops = loops;
    listener->loop = forge_loops_at(loops, 0);
    listener->retry.fire = retry_fire;
    listener->open.run = open_run;
    listener->close.run = close_run;
    listener->end.run = end_run;
    listener->options = *options;
    listener->tls = forge_tls_ref(options->tls);
    listener->acceptor = acceptor_new(options);
    if (listener->acceptor)
        return listener;
    listener_free(listener);
    return NULL;
}

/* A listening socket in *out_fd, or errno. */
static int listen_on(const struct sockaddr_storage *address, socklen_t length, int *out_fd)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (const struct sockaddr *)(const void *)address, length) == 0 && listen(fd, LISTEN_BACKLOG) == 0) {
        *out_fd = fd;
        return 0;
    }
    int failed = errno;
    close(fd);
    return failed;
}

static forge_code listen_code(int failed)
{
    switch (failed) {
    case EADDRINUSE:
        return FORGE_UNAVAILABLE;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EINVAL:
        return FORGE_INVALID_ARGUMENT;
    case EACCES:
    case EPERM:
        return FORGE_PERMISSION_DENIED;
    default:
        return FORGE_RESOURCE_EXHAUSTED;
    }
}

static forge_code open_socket(const char *host, uint16_t port, int *out_fd, struct forge_error *error)
{
    struct forge_addresses found;
    int unknown = forge_addresses_find(host, port, AI_PASSIVE, &found);
    if (unknown)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "listen address %s: %s", host, gai_strerror(unknown));
    int failed = listen_on(&found.at[0].address, found.at[0].length, out_fd);
    bool no_ipv6 = failed == EAFNOSUPPORT || failed == EADDRNOTAVAIL;
    if (no_ipv6 && strcmp(host, "::") == 0 && forge_addresses_find("0.0.0.0", port, AI_PASSIVE, &found) == 0)
        failed = listen_on(&found.at[0].address, found.at[0].length, out_fd); /* "::" means every address there is */
    if (failed)
        return forge_error_set(error, listen_code(failed), "cannot listen on %s port %u: %s", host, port, strerror(failed));
    return FORGE_OK;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    getsockname(fd, (struct sockaddr *)(void *)&address, &length);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port);
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): it loses sight of the initialisation in the casts */
    return ntohs(((struct sockaddr_in *)(void *)&address)->sin_port);
}

forge_code forge_link_listen(struct forge_loops *loops, const char *host, uint16_t port, const struct forge_link_options *options,
                             struct forge_link_listener **out, uint16_t *out_port, struct forge_error *error)
{
    if (!forge_tls_is_server(options->tls))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "tls: a client's settings cannot listen");
    struct forge_link_listener *listener = listener_new(loops, options);
    if (!listener)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "listener: out of memory");
    forge_code code = open_socket(host, port, &listener->watch.fd, error);
    if (code != FORGE_OK) {
        listener_free(listener);
        return code;
    }
    *out_port = port_of(listener->watch.fd);
    *out = listener;
    forge_loop_post(listener->loop, &listener->open);
    return FORGE_OK;
}

void forge_link_listener_set_tls(struct forge_link_listener *listener, struct forge_tls *tls)
{
    pthread_mutex_lock(&listener->mutex);
    struct forge_tls *before = listener->tls;
    listener->tls = forge_tls_ref(tls);
    pthread_mutex_unlock(&listener->mutex);
    forge_tls_unref(before);
}

void forge_link_listener_close(struct forge_link_listener *listener)
{
    forge_loop_post(listener->loop, &listener->close);
    pthread_mutex_lock(&listener->mutex);
    while (!listener->has_ended)
        pthread_cond_wait(&listener->ended, &listener->mutex);
    pthread_mutex_unlock(&listener->mutex);
    listener_free(listener);
}
