#include "resolver.h"

#include "thread.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { LOOKUP_PERIOD_S = 30, LOOKUP_PAUSE_S = 1 };

struct forge__resolver {
    struct forge__address_list addresses;
    forge__resolver_found found;
    void *user;
    pthread_mutex_t mutex; /* guards the fields below, and is held while found runs */
    pthread_cond_t changed;
    bool is_hinted;
    bool is_closed; /* the thread frees the resolver */
};

static void add_name(const struct forge__address *address, struct forge__endpoint_list *out, char *failure, size_t failure_size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(address->host, NULL, &hints, &found);
    if (rc) {
        snprintf(failure, failure_size, "%s: %s", address->host, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        return;
    }
    for (const struct addrinfo *a = found; a; a = a->ai_next) {
        char ip[64];
        if (!getnameinfo(a->ai_addr, a->ai_addrlen, ip, sizeof ip, NULL, 0, NI_NUMERICHOST))
            forge__endpoint_list_add(out, ip, address->port, address->host);
    }
    freeaddrinfo(found);
}

static void look_up(const struct forge__address_list *addresses, struct forge__endpoint_list *out, char *failure, size_t failure_size)
{
    out->count = 0;
    failure[0] = '\0';
    for (size_t i = 0; i < addresses->count; i++) {
        const struct forge__address *address = &addresses->items[i];
        if (address->is_literal)
            forge__endpoint_list_add(out, address->host, address->port, address->host);
        else
            add_name(address, out, failure, failure_size);
    }
}

/* Returns when it is time to look up again; false when the resolver is closed. The mutex is held. */
static bool wait_for_turn(struct forge__resolver *resolver)
{
    struct timespec at, soon;
    clock_gettime(CLOCK_MONOTONIC, &at);
    soon = at;
    at.tv_sec += LOOKUP_PERIOD_S;
    soon.tv_sec += LOOKUP_PAUSE_S;
    int rc = 0;
    while (!resolver->is_closed && rc != ETIMEDOUT)
        rc = pthread_cond_clockwait(&resolver->changed, &resolver->mutex, CLOCK_MONOTONIC, resolver->is_hinted ? &soon : &at);
    resolver->is_hinted = false;
    return !resolver->is_closed;
}

static void *resolver_main(void *argument)
{
    struct forge__resolver *resolver = argument;
    struct forge__endpoint_list endpoints;
    char failure[FORGE__HOST_MAX + 128];
    bool goes_on;
    do {
        look_up(&resolver->addresses, &endpoints, failure, sizeof failure);
        pthread_mutex_lock(&resolver->mutex);
        if (!resolver->is_closed)
            resolver->found(resolver->user, &endpoints, failure[0] ? failure : NULL);
        resolver->is_hinted |= failure[0] != '\0';
        goes_on = wait_for_turn(resolver);
        pthread_mutex_unlock(&resolver->mutex);
    } while (goes_on);
    pthread_cond_destroy(&resolver->changed);
    pthread_mutex_destroy(&resolver->mutex);
    free(resolver);
    return NULL;
}

static int start_thread(struct forge__resolver *resolver)
{
    pthread_t thread;
    int rc = forge__thread_start(&thread, resolver_main, resolver);
    if (!rc)
        pthread_detach(thread);
    return rc;
}

forge_code forge__resolver_open(const struct forge__address_list *addresses, forge__resolver_found found, void *user,
                                struct forge__resolver **out, struct forge_error *error)
{
    struct forge__resolver *resolver = calloc(1, sizeof *resolver);
    if (!resolver)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the name resolver");
    resolver->addresses = *addresses;
    resolver->found = found;
    resolver->user = user;
    pthread_mutex_init(&resolver->mutex, NULL);
    pthread_cond_init(&resolver->changed, NULL);
    *out = resolver; /* before the thread finds anything: who is told may hint at once */
    int rc = start_thread(resolver);
    if (rc) {
        *out = NULL;
        pthread_cond_destroy(&resolver->changed);
        pthread_mutex_destroy(&resolver->mutex);
        free(resolver);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "cannot start the resolver thread: %s", strerror(rc));
    }
    return FORGE_OK;
}

void forge__resolver_hint(struct forge__resolver *resolver)
{
    if (!resolver)
        return;
    pthread_mutex_lock(&resolver->mutex);
    if (!resolver->is_hinted) {
        resolver->is_hinted = true;
        pthread_cond_signal(&resolver->changed);
    }
    pthread_mutex_unlock(&resolver->mutex);
}

void forge__resolver_close(struct forge__resolver *resolver)
{
    if (!resolver)
        return;
    pthread_mutex_lock(&resolver->mutex);
    resolver->is_closed = true;
    pthread_cond_signal(&resolver->changed);
    pthread_mutex_unlock(&resolver->mutex);
}
