/* One link to one server address, dialled again whenever it is lost, and the table of its calls in flight.
 * Loop thread of its shard only. */
#ifndef FORGE_CLIENT_CONNECTION_H
#define FORGE_CLIENT_CONNECTION_H

#include "address.h"
#include "shard.h"
#include "wire/link.h"

enum {
    /* The server answers 256 calls at once on a connection, 4 before the first verified credential; two of ours are WhoAmI and the probe.
     */
    FORGE__CONNECTION_CALLS_MAX = 254,
    FORGE__CONNECTION_CALLS_UNVERIFIED = 3
};

enum forge__connection_state {
    FORGE__CONNECTION_WAITING, /* for the time of its next dial */
    FORGE__CONNECTION_DIALING,
    FORGE__CONNECTION_OPEN,
    FORGE__CONNECTION_DRAINING /* takes no more calls and closes after the last reply */
};

/* What the server said to our credential. */
enum forge__connection_identity {
    FORGE__IDENTITY_NONE,    /* there is no credential to show */
    FORGE__IDENTITY_ASKED,   /* WhoAmI is in flight */
    FORGE__IDENTITY_WAITING, /* the server could not tell; it is asked again */
    FORGE__IDENTITY_VERIFIED,
    FORGE__IDENTITY_REFUSED
};

struct forge__connection_slot {
    struct forge__call *call; /* NULL = free */
    uint32_t generation;      /* part of the request id: the late reply to a call that is gone meets another one */
    uint16_t next_free;
};

struct forge__connection {
    struct forge__shard *shard;
    struct forge__connection *next;
    struct forge__endpoint endpoint;
    enum forge__connection_state state;
    enum forge__connection_identity identity;
    bool is_wanted;    /* dial again after a loss */
    bool has_received; /* a frame came since the link was opened */
    bool probe_is_sent;
    struct forge_link *link;
    unsigned failures; /* dials in a row that came to nothing */
    unsigned identity_failures;
    char identity_message[160]; /* why the credential was refused */
    struct forge_timer dial_timer, identity_timer, probe_timer;
    uint64_t opened_at_ms, received_at_ms;
    unsigned in_flight, calls_max;
    uint16_t first_free;
    uint32_t identity_generation, probe_generation;
    struct forge__connection_slot slots[FORGE__CONNECTION_CALLS_MAX];
};

/* Adds a connection to its shard and begins to dial. False without memory. */
bool forge__connection_new(struct forge__shard *shard, const struct forge__endpoint *endpoint);
/* Takes no more calls, closes after the last reply and goes away. */
void forge__connection_drain(struct forge__connection *connection);
/* Goes away as soon as its link is closed; the calls in it must have ended. */
void forge__connection_end(struct forge__connection *connection);
/* After the shard's credential changed. */
void forge__connection_token_changed(struct forge__connection *connection);

/* Room for a call, of more than FORGE__SMALL_REQUEST_BYTES if is_large. */
bool forge__connection_has_room(const struct forge__connection *connection, bool is_large);
/* Hands the call to the link. UNAVAILABLE: the link is closing. RESOURCE_EXHAUSTED: too much is waiting to be written. Other codes: the
 * interceptor's refusal. */
forge_code forge__connection_send(struct forge__connection *connection, struct forge__call *call) FORGE_MUST_CHECK;
/* Takes a call that ends without a reply out of its slot. unanswered: its deadline is over; the connection then finds out whether the
 * server still lives. */
void forge__connection_forget(struct forge__connection *connection, struct forge__call *call, bool unanswered);

#endif
