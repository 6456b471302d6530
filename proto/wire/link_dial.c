#include "wire/link_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void forge_link_dial_done(struct forge_link *link)
{
    if (link->lookup)
        forge_lookup_cancel(link->lookup);
    link->lookup = NULL;
    free(link->targets);
    link->targets = NULL;
}

static bool is_shortage(int failed)
{
    return failed == EMFILE || failed == ENFILE || failed == ENOBUFS || failed == ENOMEM;
}

/* Begins to connect to one address. 0, or errno. */
static int connect_to(struct forge_link *link, const struct sockaddr_storage *address, socklen_t length)
{
    link->watch.fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->watch.fd < 0)
        return errno;
    forge_link_socket_options(link->watch.fd);
    forge_link_set_address(link, address);
    if (connect(link->watch.fd, (const struct sockaddr *)(const void *)address, length) == 0) {
        forge_link_connected(link);
        return 0;
    }
    if (errno != EINPROGRESS)
        return errno;
    link->connecting = true;
    forge_link_update_watch(link);
    return 0;
}

/* Tries the addresses in getaddrinfo's order (RFC 6724) until one connects. */
static void connect_next(struct forge_link *link, int failed)
{
    while (link->target < link->targets->count) {
        unsigned i = link->target++;
        forge_watch_close_fd(link->loop, &link->watch);
        link->connecting = false;
        failed = connect_to(link, &link->targets->at[i].address, link->targets->at[i].length);
        if (failed == 0)
            return;
    }
    forge_link_doom(link, is_shortage(failed) ? FORGE_LINK_MEMORY : FORGE_LINK_DIAL);
}

void forge_link_connect_event(struct forge_link *link)
{
    int failed = 0;
    socklen_t length = sizeof failed;
    getsockopt(link->watch.fd, SOL_SOCKET, SO_ERROR, &failed, &length);
    if (failed)
        connect_next(link, failed);
    else
        forge_link_connected(link);
}

static void looked_up(void *owner, int error, const struct forge_addresses *addresses)
{
    struct forge_link *link = owner;
    link->lookup = NULL;
    if (link->doomed)
        return;
    if (error == 0)
        link->targets = malloc(sizeof *link->targets);
    if (!link->targets) {
        forge_link_doom(link, error == EAI_MEMORY || error == 0 ? FORGE_LINK_MEMORY : FORGE_LINK_RESOLVE);
        return;
    }
    *link->targets = *addresses;
    connect_next(link, 0);
}

static void dial_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop;
    struct forge_link *link = FORGE_LINK_OF(task, attach);
    forge_link_attach(link); /* the time limit runs while a name is looked up */
    if (!link->lookup)
        connect_next(link, 0);
    else if (!forge_lookup_start(link->lookup))
        forge_link_doom(link, FORGE_LINK_MEMORY);
}

/* An address is known now, a name will be. */
static bool find_target(struct forge_link *link, const char *host, uint16_t port)
{
    link->targets = malloc(sizeof *link->targets);
    if (!link->targets)
        return false;
    if (forge_addresses_find(host, port, AI_NUMERICHOST, link->targets) == 0)
        return true;
    free(link->targets);
    link->targets = NULL;
    link->lookup = forge_lookup_new(link->loop, host, port, looked_up, link);
    return link->lookup != NULL;
}

static forge_code check_arguments(const char *host, uint16_t port, const struct forge_link_options *options, struct forge_error *error)
{
    size_t length = strlen(host);
    if (length == 0 || length >= FORGE_HOST_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "host: must have 1 to %d characters", FORGE_HOST_MAX - 1);
    if (port == 0)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "port: must be 1 to 65535");
    if (forge_tls_is_server(options->tls))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "tls: a server's settings cannot dial");
    return FORGE_OK;
}

forge_code forge_link_dial(struct forge_loops *loops, struct forge_loop *loop, const char *host, uint16_t port,
                           const struct forge_link_options *options, struct forge_link **out, struct forge_error *error)
{
    forge_code code = check_arguments(host, port, options, error);
    if (code != FORGE_OK)
        return code;
    if (forge_loops_are_stopping(loops))
        return forge_error_set(error, FORGE_UNAVAILABLE, "the event loops are ending");
    if (loop)
        forge_loop_add_links(loop, 1);
    else
        loop = forge_loops_take_emptiest(loops);
    const char *server_name = options->server_name ? options->server_name : host;
    struct forge_link *link = forge_link_new(loop, options, options->tls, server_name);
    if (!link) {
        forge_loop_add_links(loop, -1);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "connection to %s: out of memory", host);
    }
    if (!find_target(link, host, port)) {
        forge_link_discard(link);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "connection to %s: out of memory", host);
    }
    link->attach.run = dial_run;
    forge_link_ref(link); /* the caller's */
    *out = link;
    forge_loop_post(loop, &link->attach);
    return FORGE_OK;
}
