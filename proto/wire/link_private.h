/* Private to link*.c: what a link is made of. Fields without a remark belong to the loop's thread. */
#ifndef FORGE_WIRE_LINK_PRIVATE_H
#define FORGE_WIRE_LINK_PRIVATE_H

#include "wire/link_resolve.h"
#include "wire/link_stream.h"
#include "wire/loop_watch.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* Counts of a listener's open links; outlives the listener until the last of them is gone. link_listen.c. */
struct forge_acceptor;

struct forge_link {
    struct forge_watch watch;
    struct forge_loop *loop; /* for life */
    struct forge_loop_task attach, flush, again, end, close;
    struct forge_timer timer; /* the earliest time limit, or earlier */
    struct forge_stream stream;
    struct forge_link_options options;
    struct forge_tls_peer *peer; /* NULL: none or not read yet */
    char address[INET6_ADDRSTRLEN];

    struct forge_acceptor *acceptor; /* server side; holds a reference */
    bool unproven;                   /* counted as such by the acceptor */
    uint8_t address_key[16];         /* by which it is counted */
    struct forge_lookup *lookup;     /* client side: a look-up under way */
    struct forge_addresses *targets; /* client side: where to connect to, until connected */
    unsigned target;                 /* the next one */

    bool connecting, doomed, flush_queued, again_queued, end_queued, trimmed;
    bool reading; /* false: too much is unsent */
    enum forge_link_why why;
    uint64_t started_ms, traffic_ms; /* monotonic, like all below */
    uint64_t partial_since_ms;       /* a frame or record has begun; 0 = none */
    uint64_t blocked_since_ms;       /* the kernel takes no more; 0 = it does */
    int calls;                       /* counted on the loop's thread; with calls_elsewhere the calls in flight */

    atomic_int references, calls_elsewhere;
    atomic_bool closing; /* no more sends are taken */
    atomic_bool opened;
    atomic_size_t queued; /* bytes committed by other threads and still in the inbox */
    atomic_size_t unsent; /* bytes in stream, as other threads may know it */
};

static inline struct forge_link *forge_link_of_watch(struct forge_watch *watch)
{
    return (struct forge_link *)(void *)watch;
}
#define FORGE_LINK_OF(pointer, member) ((struct forge_link *)(void *)((char *)(pointer)-offsetof(struct forge_link, member)))

/* link.c */
/* A link with one reference (the loop's) that no loop knows yet; host NULL = server side. The loop's count was raised by the caller. */
struct forge_link *forge_link_new(struct forge_loop *loop, const struct forge_link_options *options, struct forge_tls *tls,
                                  const char *host);
/* Undoes forge_link_new for a link that never was attached: no callback runs. */
void forge_link_discard(struct forge_link *link);
/* Puts the link on its loop and starts the time limits. */
void forge_link_attach(struct forge_link *link);
/* The link ends at the end of this turn; the first reason counts. */
void forge_link_doom(struct forge_link *link, enum forge_link_why why);
/* A connected socket from now on: TLS begins. */
void forge_link_connected(struct forge_link *link);
/* Tells epoll what the link waits for. */
void forge_link_update_watch(struct forge_link *link);
/* Options both ends want on a socket. */
void forge_link_socket_options(int fd);
void forge_link_set_address(struct forge_link *link, const struct sockaddr_storage *address);

/* link_dial.c */
void forge_link_connect_event(struct forge_link *link);
void forge_link_dial_done(struct forge_link *link); /* frees what only dialling needs */

/* link_listen.c */
void forge_acceptor_link_closed(struct forge_link *link);
void forge_acceptor_link_proven(struct forge_link *link);

#endif
