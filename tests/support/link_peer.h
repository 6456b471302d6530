/* Both ends of links for tests: a server that answers as the request asks, a client that checks every byte of the answers, and hostile
 * peers on plain sockets with OpenSSL.
 *
 * A request body is reply size u32, seed u32 (both big-endian) and filler; the reply is that many bytes of link_pattern from the
 * seed's place. Everything that callbacks count is guarded by one lock and announced, so tests wait for it with LINK_WAIT. */
#ifndef FORGE_TEST_LINK_PEER_H
#define FORGE_TEST_LINK_PEER_H

#include "support/tls_files.h"
#include "wire/link.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LINK_PATTERN_MAX = 4 << 20, LINK_REQUEST_SIZE = 100, LINK_WHY_COUNT = FORGE_LINK_MEMORY + 1 };
extern uint8_t link_pattern[LINK_PATTERN_MAX + 256];

void link_lock(void);
void link_unlock(void);
/* Under the lock: waits for the next announcement; false when the deadline (monotonic ms) is over. */
bool link_wait(uint64_t until_ms);
void link_announce(void); /* under the lock */

/* True as soon as the condition holds, false after timeout_ms. */
#define LINK_WAIT(condition, timeout_ms)                                                                                                   \
    __extension__({                                                                                                                        \
        uint64_t until_ms_ = forge_clock_monotonic_ms() + (timeout_ms);                                                                    \
        link_lock();                                                                                                                       \
        while (!(condition) && link_wait(until_ms_))                                                                                       \
            ;                                                                                                                              \
        bool held_ = (condition);                                                                                                          \
        link_unlock();                                                                                                                     \
        held_;                                                                                                                             \
    })
#define LINK_READ(expression)                                                                                                              \
    __extension__({                                                                                                                        \
        link_lock();                                                                                                                       \
        __typeof__(expression) got_ = (expression);                                                                                        \
        link_unlock();                                                                                                                     \
        got_;                                                                                                                              \
    })

/* ---- settings ---- */

/* Aborts when the files are wrong. client: certificate may be NULL. */
struct forge_tls *link_server_tls(const struct tls_files *files, const char *certificate, enum forge_tls_client_auth client_auth);
struct forge_tls *link_client_tls(const struct tls_files *files, const char *certificate);
/* 30 s handshake, 30 s body (a busy machine is no fault), no idle limit, 8 MiB frames, 24 MiB pending. */
struct forge_link_options link_test_options(struct forge_tls *tls);
struct forge_loops *link_loops(int count); /* aborts when there are none to be had */

/* ---- the server ---- */

struct link_server {
    struct forge_loops *loops;
    struct forge_link_listener *listener;
    uint16_t port;
    /* what its frames do */
    unsigned burn_us;    /* work per frame */
    bool close_on_frame; /* close the link in the frame callback, after the reply */
    bool proven;         /* set_proven when opened */
    int calls;           /* add_calls when opened */
    /* what happened, under the lock */
    long accepted, opened, frames, truncated, unsent, closed, why[LINK_WHY_COUNT];
    size_t last_body_len, last_stack_len;
    struct forge_tls_peer last_peer;
    char last_address[64];
    struct forge_link *last; /* a reference to the newest opened link */
};
/* Listens on host, port 0. Set the fields above first; the rest zeroed. Aborts when it cannot. */
void link_server_start(struct link_server *server, const char *host, const struct forge_link_options *options, int loops);
void link_server_stop(struct link_server *server);

/* ---- the client ---- */

struct link_caller {
    int calls;  /* how many to make once open */
    int window; /* at once; 0 = 16 */
    uint32_t reply_size;
    struct forge_link *link;
    /* what happened, under the lock */
    int opened, closed, done;
    enum forge_link_why why;
    long frames, wrong, unsent;
    struct forge_tls_peer peer;
    int sent;
};
extern const struct forge_link_callbacks link_caller_callbacks;
/* options.user and callbacks are filled in. False when the dial is refused at once. */
bool link_caller_dial(struct link_caller *caller, struct forge_loops *loops, const char *host, uint16_t port,
                      struct forge_link_options options);
/* One more call, any thread. */
forge_code link_caller_ask(struct link_caller *caller, uint32_t id);
/* Closes, waits for closed and drops the reference. False when closed did not come. */
bool link_caller_finish(struct link_caller *caller);
/* Dial, make the calls, check the bytes, close. */
bool link_good_calls(struct forge_loops *loops, uint16_t port, struct forge_tls *tls, int calls, unsigned timeout_ms);

/* ---- hostile peers: blocking sockets ---- */

int link_tcp(uint16_t port, int receive_buffer); /* to 127.0.0.1; -1 on failure; receive_buffer 0 = the default */
void link_reset(int fd);                         /* closes with RST */
SSL_CTX *link_raw_context(const struct tls_files *files, const char *certificate);

struct link_raw {
    int fd;
    SSL *ssl;
};
/* TCP, TLS and the SP header both ways. False leaves something that link_raw_close takes. */
bool link_raw_open(struct link_raw *raw, SSL_CTX *context, uint16_t port, int receive_buffer);
/* TCP and TLS only. */
bool link_raw_handshake(struct link_raw *raw, SSL_CTX *context, uint16_t port, int receive_buffer);
void link_raw_close(struct link_raw *raw);
/* True when the server ends the connection within timeout_ms; reads and drops what comes before. */
bool link_raw_is_closed(struct link_raw *raw, unsigned timeout_ms);
/* A whole request frame of 112 bytes. */
size_t link_raw_request(uint8_t *out, uint32_t id, uint32_t reply_size);

void link_put_u32(uint8_t *out, uint32_t value);
uint32_t link_get_u32(const uint8_t *in);

/* ---- what a process holds ---- */

int link_count_entries(const char *path);
int link_count_fds(void);
int link_count_threads(void);
long link_heap_bytes(void);
double link_cpu_seconds(void); /* of this process */

#endif
