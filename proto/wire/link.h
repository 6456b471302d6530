/* One TLS-protected SP (REQ/REP) message stream on an event loop: listen, accept, dial, frames in, frames out.
 *
 * A link belongs to one loop for life. Its callbacks run on that loop's thread, never two at once, with no lock held; they must not block
 * and may call every function of this header except forge_link_listener_close. `closed` is the last callback and comes exactly once, also
 * after a failed dial. Memory of a link is freed after `closed` and the last forge_link_unref. */
#ifndef FORGE_WIRE_LINK_H
#define FORGE_WIRE_LINK_H

#include "wire/arena.h"
#include "wire/loop.h"
#include "wire/status.h"
#include "wire/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum forge_link_why {
    FORGE_LINK_LOCAL = 1, /* forge_link_close, or the loops ended */
    FORGE_LINK_EOF,       /* the peer closed */
    FORGE_LINK_IO,        /* reset, unreachable */
    FORGE_LINK_TLS,       /* handshake refused, bad certificate, bad record */
    FORGE_LINK_PROTOCOL,  /* not SP REQ/REP, a frame over frame_max, a bad stack, a flood of records without data */
    FORGE_LINK_TIMEOUT,   /* handshake_ms, body_ms or idle_ms */
    FORGE_LINK_DIAL,      /* connect failed */
    FORGE_LINK_RESOLVE,   /* no such name */
    FORGE_LINK_SLOW,      /* the peer does not read what we send */
    FORGE_LINK_MEMORY     /* no memory or descriptor */
};
const char *forge_link_why_text(enum forge_link_why why);

enum { FORGE_STACK_MAX = 32 /* bytes: 8 words */ };

struct forge_link;
struct forge_link_listener;

/* One received frame; the pointers are valid during the callback only. */
struct forge_frame {
    const uint8_t *stack; /* 1 to 8 big-endian words, the last with its high bit set */
    size_t stack_len;     /* bytes */
    const uint8_t *body;
    size_t body_len;
    bool truncated; /* over message_max (but not frame_max) or the byte budget: body holds the first 16 KiB
                       at most, the rest is read and thrown away within body_ms */
};

struct forge_link_callbacks {
    void (*accepted)(struct forge_link *link,
                     void *user); /* server side, optional: the socket is there, no byte read yet; forge_link_set_user allowed */
    void (*opened)(struct forge_link *link, void *user); /* handshake and SP header are done; forge_link_set_user allowed */
    void (*frame)(struct forge_link *link, void *user, const struct forge_frame *frame);
    void (*closed)(struct forge_link *link, void *user, enum forge_link_why why);
};

struct forge_link_options {
    struct forge_tls *tls;                        /* a reference is taken */
    const struct forge_link_callbacks *callbacks; /* must outlive the link */
    void *user;
    const char *server_name;       /* dial: the name the certificate must carry (and SNI, unless an IP address) where the host dialled is an
                                      address that was looked up from it; NULL = host. Copied. */
    unsigned handshake_ms;         /* TCP connect, TLS handshake and SP header together */
    unsigned body_ms;              /* an incomplete frame, or bytes the peer does not take */
    unsigned idle_ms;              /* without traffic and without calls in flight; 0 = never */
    size_t message_max;            /* a longer frame is delivered truncated; forge_link_set_message_max raises it */
    size_t frame_max;              /* a longer frame closes the link before anything is allocated */
    size_t pending_max;            /* bytes taken by sends and not yet by the kernel; reading stops above half of it */
    unsigned links_max;            /* listener: open links; later ones are closed at accept; 0 = unlimited */
    unsigned unproven_per_address; /* listener: open links per peer address (IPv6: per /64) that forge_link_set_proven was not called on; 0
                                      = unlimited */
    struct forge_byte_budget *budget; /* charged for receive buffers from the length prefix on; may be NULL */
};

/* host: name or address ("::" means every address, IPv4 included); port 0 picks one, out_port tells it. Blocks only for
 * the look-up of a name. UNAVAILABLE when the address is taken, INVALID_ARGUMENT when it does not exist. */
forge_code forge_link_listen(struct forge_loops *loops, const char *host, uint16_t port, const struct forge_link_options *options,
                             struct forge_link_listener **out, uint16_t *out_port, struct forge_error *error) FORGE_MUST_CHECK;
/* New links use these settings from now on (certificate reload). Any thread. */
void forge_link_listener_set_tls(struct forge_link_listener *listener, struct forge_tls *tls);
/* Stops accepting; open links stay. Blocks until no accept can happen any more. Not from a loop thread. */
void forge_link_listener_close(struct forge_link_listener *listener);

/* Starts a dial on the loop with the fewest links (loop NULL) or on the given one; *out holds a reference for the caller.
 * opened or closed follows in any case. Never blocks: names are looked up by two resolver threads of the process. */
forge_code forge_link_dial(struct forge_loops *loops, struct forge_loop *loop, const char *host, uint16_t port,
                           const struct forge_link_options *options, struct forge_link **out, struct forge_error *error) FORGE_MUST_CHECK;

/* Sending, any thread: begin gives room for a body of exactly body_len bytes, the caller fills frame->body, commit sends it. On the
 * loop's own thread the room is the send buffer itself: nothing else may be called on the link between begin and commit, and all
 * frames committed in one turn leave in one write. Other threads get a heap block that commit hands to the loop.
 * UNAVAILABLE when the link is closed or not open, RESOURCE_EXHAUSTED above pending_max. */
struct forge_link_send {
    struct forge_link *link;
    uint8_t *body;
    size_t body_len;
    size_t stack_len; /* private, like block */
    void *block;
};
forge_code forge_link_send_begin(struct forge_link *link, const uint8_t *stack, size_t stack_len, size_t body_len,
                                 struct forge_link_send *out) FORGE_MUST_CHECK;
void forge_link_send_commit(struct forge_link_send *send);
void forge_link_send_abort(struct forge_link_send *send);

/* Any thread, any number of times, does not block; what was committed before is still written if the peer takes it at once. */
void forge_link_close(struct forge_link *link);
void forge_link_ref(struct forge_link *link);
void forge_link_unref(struct forge_link *link); /* accepts NULL */

struct forge_loop *forge_link_loop(const struct forge_link *link);
/* Loop thread, inside accepted and opened only. */
void forge_link_set_user(struct forge_link *link, void *user);
/* Loop thread: after the first verified credential. */
void forge_link_set_message_max(struct forge_link *link, size_t message_max);
void forge_link_set_proven(struct forge_link *link);
/* Any thread: calls begun minus calls answered; a link with calls in flight is not idle. */
void forge_link_add_calls(struct forge_link *link, int delta);
/* Loop thread, after opened. */
const struct forge_tls_peer *forge_link_peer(const struct forge_link *link);
/* "192.0.2.1" or "2001:db8::1" of the peer; the port is left out. Valid as long as the link. */
const char *forge_link_peer_address(const struct forge_link *link);
/* Loop thread: would the peer's certificate verify under these settings? True for links without a client certificate. For reloads. */
bool forge_link_peer_verifies(const struct forge_link *link, struct forge_tls *tls);

/* Open links of all loops. Any thread. */
size_t forge_link_count(const struct forge_loops *loops);
/* Calls visit on every link of every loop, on its loop's thread, and returns when all were visited. Not from a loop thread. */
void forge_link_for_each(struct forge_loops *loops, void (*visit)(struct forge_link *link, void *user, void *argument), void *argument);

#endif
