/* Server addresses as users write them, and the endpoints they stand for. Pure functions, any thread. */
#ifndef FORGE_CLIENT_ADDRESS_H
#define FORGE_CLIENT_ADDRESS_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FORGE__PORT_DEFAULT = 7443,
    FORGE__ADDRESSES_MAX = 32, /* entries of an address list */
    FORGE__ENDPOINTS_MAX = 64, /* IP addresses that a channel connects to at once */
    FORGE__HOST_MAX = 254      /* bytes of a host name and its NUL (RFC 1035) */
};

struct forge__address {
    char host[FORGE__HOST_MAX]; /* a name, or an IP address without brackets */
    uint16_t port;
    bool is_literal; /* an IP address: needs no look-up */
};

struct forge__address_list {
    struct forge__address items[FORGE__ADDRESSES_MAX];
    size_t count;
    bool has_names; /* at least one entry needs a look-up */
};

/* One IP address to connect to, and the name its certificate must carry. */
struct forge__endpoint {
    char ip[64]; /* "192.0.2.1", "2001:db8::1" or "fe80::1%eth0" */
    uint16_t port;
    char server_name[FORGE__HOST_MAX];
};

struct forge__endpoint_list {
    struct forge__endpoint items[FORGE__ENDPOINTS_MAX];
    size_t count;
};

/* "host[:port][,host[:port]...]", "[::1]:7443" for IPv6. INVALID_ARGUMENT names the entry that is wrong. */
forge_code forge__address_list_parse(const char *text, struct forge__address_list *out, struct forge_error *error) FORGE_MUST_CHECK;

/* Adds an endpoint once; false when the list is full (the endpoint is left out). */
bool forge__endpoint_list_add(struct forge__endpoint_list *list, const char *ip, uint16_t port, const char *server_name);
bool forge__endpoint_equal(const struct forge__endpoint *a, const struct forge__endpoint *b);

#endif
