/* Private to link*.c: names to addresses without blocking a loop.
 *
 * getaddrinfo blocks for seconds, so at most two threads of the process do it for all loops. They start at the first name and
 * end after some seconds without work. Look-ups outlive a closed channel; their result then goes nowhere. */
#ifndef FORGE_WIRE_LINK_RESOLVE_H
#define FORGE_WIRE_LINK_RESOLVE_H

#include "wire/loop.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { FORGE_ADDRESSES_MAX = 8, FORGE_HOST_MAX = 254 /* bytes with the NUL: RFC 1035, section 2.3.4 */ };

struct forge_addresses {
    unsigned count;
    struct {
        struct sockaddr_storage address;
        socklen_t length;
    } at[FORGE_ADDRESSES_MAX];
};

/* Fills out at once when host is an address (does not block) or flags has AI_PASSIVE for an address to listen on. Returns getaddrinfo's
 * result; blocks for a name unless flags has AI_NUMERICHOST. */
int forge_addresses_find(const char *host, uint16_t port, int flags, struct forge_addresses *out);

struct forge_lookup;
/* On the loop's thread: error is 0 or getaddrinfo's, addresses are valid during the call only. */
typedef void forge_lookup_done(void *owner, int error, const struct forge_addresses *addresses);

/* NULL without memory. */
struct forge_lookup *forge_lookup_new(struct forge_loop *loop, const char *host, uint16_t port, forge_lookup_done *done, void *owner);
/* Loop thread. False when no thread can be started: the look-up is still the caller's (forge_lookup_cancel). */
bool forge_lookup_start(struct forge_lookup *lookup) FORGE_MUST_CHECK;
/* Loop thread: done will not be called any more. Also frees a look-up that was not started. Not after done. */
void forge_lookup_cancel(struct forge_lookup *lookup);

#endif
