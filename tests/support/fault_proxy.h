/* A TCP proxy on loopback that misbehaves on command, for tests of what happens between client and server and between server and
 * PostgreSQL. Two threads a connection; every function may be called from any thread while traffic flows. */
#ifndef TESTS_SUPPORT_FAULT_PROXY_H
#define TESTS_SUPPORT_FAULT_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fault_direction { FAULT_UPSTREAM, FAULT_DOWNSTREAM, FAULT_DIRECTIONS }; /* towards the target; back to the client */

/* What happens to the bytes of one direction; zeroed = they pass. */
struct fault_settings {
    unsigned latency_ms;     /* each piece waits this long */
    unsigned jitter_ms;      /* and up to this much longer */
    size_t bytes_per_second; /* 0 = unlimited */
    size_t slice_bytes;      /* pieces of at most this size, each in a segment of its own; 0 = whole */
    size_t limit_bytes;      /* the connection ends after this many bytes; 0 = never */
    bool stall;              /* nothing passes, nothing closes */
    unsigned close_delay_ms; /* an end of stream is passed on this much later */
};

struct fault_proxy;

/* Listens on a free loopback port and forwards to 127.0.0.1:target_port. postgresql: the bytes are PostgreSQL's protocol without TLS;
 * messages then pass one by one and are counted. NULL when it cannot. */
struct fault_proxy *fault_proxy_new(uint16_t target_port, bool postgresql);
/* Cuts every connection, ends the threads. Accepts NULL. */
void fault_proxy_free(struct fault_proxy *proxy);
uint16_t fault_proxy_port(const struct fault_proxy *proxy);

void fault_proxy_set(struct fault_proxy *proxy, enum fault_direction direction, const struct fault_settings *settings);
/* Every open connection ends with a reset. */
void fault_proxy_cut(struct fault_proxy *proxy);

/* Counts anew from 0 over all connections and, when `count` (> 0) messages of this direction have passed, resets every connection once. */
void fault_proxy_cut_after_messages(struct fault_proxy *proxy, enum fault_direction direction, unsigned count);
/* Counts anew from 0 and cuts nothing. */
void fault_proxy_disarm(struct fault_proxy *proxy);
bool fault_proxy_has_cut(struct fault_proxy *proxy);
unsigned fault_proxy_messages(struct fault_proxy *proxy, enum fault_direction direction);

#endif
