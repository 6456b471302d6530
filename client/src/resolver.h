/* Looks up the names of a channel's addresses in the background: one thread, because getaddrinfo blocks for seconds. The thread
 * may outlive the channel while it is inside getaddrinfo; it then ends on its own. */
#ifndef FORGE_CLIENT_RESOLVER_H
#define FORGE_CLIENT_RESOLVER_H

#include "address.h"
#include "wire/status.h"

struct forge__resolver;

/* Called on the resolver's thread, never after forge__resolver_close has returned; must not block. failure is NULL unless
 * a name was not found; endpoints may then still hold those of other names. */
typedef void (*forge__resolver_found)(void *user, const struct forge__endpoint_list *endpoints, const char *failure);

/* Looks up at once, then every 30 s, and a second after a failure or forge__resolver_hint. RESOURCE_EXHAUSTED without memory or thread. */
forge_code forge__resolver_open(const struct forge__address_list *addresses, forge__resolver_found found, void *user,
                                struct forge__resolver **out, struct forge_error *error) FORGE_MUST_CHECK;
/* A connection was lost: look up soon (at most once a second). Any thread. Accepts NULL. */
void forge__resolver_hint(struct forge__resolver *resolver);
/* Does not wait for a look-up in progress. Accepts NULL. */
void forge__resolver_close(struct forge__resolver *resolver);

#endif
