#include "wire/link_resolve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RESOLVERS_MAX = 2, RESOLVER_LINGER_S = 5 };

struct forge_lookup {
    struct forge_lookup *next;
    struct forge_loop_task finished;
    struct forge_loop *loop;
    forge_lookup_done *done;
    void *owner; /* NULL: cancelled. Loop thread, and under the lock while started and not posted */
    bool started;
    char host[FORGE_HOST_MAX];
    uint16_t port;
    int error;
    struct forge_addresses addresses;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct forge_lookup *head, **tail;
    int threads, idle, waiting; /* waiting: look-ups nobody has taken */
} resolver = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .tail = &resolver.head};

/* A child has none of the threads, and its copies of look-ups belong to loops that do not run in it. */
static void before_fork(void)
{
    pthread_mutex_lock(&resolver.mutex);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&resolver.mutex);
}

static void after_fork_in_child(void)
{
    pthread_mutex_init(&resolver.mutex, NULL);
    pthread_cond_init(&resolver.work, NULL);
    resolver.head = NULL;
    resolver.tail = &resolver.head;
    resolver.threads = resolver.idle = resolver.waiting = 0;
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int forge_addresses_find(const char *host, uint16_t port, int flags, struct forge_addresses *out)
{
    char service[8];
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV}, *found = NULL;
    snprintf(service, sizeof service, "%u", port);
    int error = getaddrinfo(host, service, &hint, &found);
    if (error)
        return error;
    out->count = 0;
    for (struct addrinfo *info = found; info && out->count < FORGE_ADDRESSES_MAX; info = info->ai_next) {
        memcpy(&out->at[out->count].address, info->ai_addr, info->ai_addrlen);
        out->at[out->count++].length = info->ai_addrlen;
    }
    freeaddrinfo(found);
    return 0;
}

static void lookup_finished(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop;
    struct forge_lookup *lookup = (struct forge_lookup *)(void *)((char *)task - offsetof(struct forge_lookup, finished));
    if (lookup->owner)
        lookup->done(lookup->owner, lookup->error, &lookup->addresses);
    free(lookup);
}

/* The next look-up, or NULL when there was none for a while. Under the lock. */
static struct forge_lookup *take_work(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += RESOLVER_LINGER_S;
    resolver.idle++;
    while (!resolver.head && pthread_cond_timedwait(&resolver.work, &resolver.mutex, &until) == 0)
        ;
    resolver.idle--;
    struct forge_lookup *lookup = resolver.head;
    if (!lookup)
        return NULL;
    if (!(resolver.head = lookup->next))
        resolver.tail = &resolver.head;
    resolver.waiting--;
    return lookup;
}

static void *resolver_main(void *argument)
{
    (void)argument;
    struct forge_lookup *lookup;
    pthread_mutex_lock(&resolver.mutex);
    while ((lookup = take_work())) {
        if (lookup->owner) {
            pthread_mutex_unlock(&resolver.mutex);
            lookup->error = forge_addresses_find(lookup->host, lookup->port, AI_ADDRCONFIG, &lookup->addresses);
            pthread_mutex_lock(&resolver.mutex);
        }
        if (!lookup->owner) { /* cancelled: its loop may be gone */
            free(lookup);
            continue;
        }
        forge_loop_post(lookup->loop, &lookup->finished); /* under the lock: cancel, and so the end of the loop, waits for it */
    }
    resolver.threads--;
    pthread_mutex_unlock(&resolver.mutex);
    return NULL;
}

static bool start_thread(void)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, NULL, resolver_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started)
        return false;
    pthread_setname_np(thread, "forge-resolver");
    pthread_detach(thread);
    return true;
}

struct forge_lookup *forge_lookup_new(struct forge_loop *loop, const char *host, uint16_t port, forge_lookup_done *done, void *owner)
{
    struct forge_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return NULL;
    lookup->finished.run = lookup_finished;
    lookup->loop = loop;
    lookup->done = done;
    lookup->owner = owner;
    lookup->port = port;
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    return lookup;
}

bool forge_lookup_start(struct forge_lookup *lookup)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&resolver.mutex);
    if (resolver.idle <= resolver.waiting && resolver.threads < RESOLVERS_MAX && start_thread())
        resolver.threads++;
    bool ok = resolver.threads > 0;
    if (ok) {
        lookup->started = true;
        lookup->next = NULL;
        *resolver.tail = lookup;
        resolver.tail = &lookup->next;
        resolver.waiting++;
        pthread_cond_signal(&resolver.work);
    }
    pthread_mutex_unlock(&resolver.mutex);
    return ok;
}

void forge_lookup_cancel(struct forge_lookup *lookup)
{
    if (!lookup->started) {
        free(lookup);
        return;
    }
    pthread_mutex_lock(&resolver.mutex);
    lookup->owner = NULL; /* the thread, or the task when it is posted already, frees it */
    pthread_mutex_unlock(&resolver.mutex);
}
