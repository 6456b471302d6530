#include "address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool host_is_literal(const char *host)
{
    struct in6_addr address;
    char without_zone[FORGE__HOST_MAX];
    snprintf(without_zone, sizeof without_zone, "%s", host);
    char *zone = strchr(without_zone, '%');
    if (zone)
        *zone = '\0';
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, without_zone, &address) == 1;
}

static bool host_is_valid(const char *host, bool bracketed)
{
    if (!*host)
        return false;
    if (bracketed)
        return host_is_literal(host);
    for (const char *p = host; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
            return false;
    return true;
}

static bool parse_port(const char *text, uint16_t *out)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || port == 0 || port > UINT16_MAX)
        return false;
    *out = (uint16_t)port;
    return true;
}

/* entry is one element of the list; it is cut up. */
static bool parse_entry(char *entry, struct forge__address *out)
{
    bool bracketed = *entry == '[';
    char *host = bracketed ? entry + 1 : entry;
    char *end = strchr(host, bracketed ? ']' : ':');
    char *port = NULL;
    if (bracketed) {
        if (!end || (end[1] && end[1] != ':'))
            return false;
        port = end[1] ? end + 2 : NULL;
        *end = '\0';
    } else if (end) {
        port = end + 1;
        *end = '\0';
    }
    out->port = FORGE__PORT_DEFAULT;
    if (!host_is_valid(host, bracketed) || strlen(host) >= sizeof out->host || (port && !parse_port(port, &out->port)))
        return false;
    memcpy(out->host, host, strlen(host) + 1);
    out->is_literal = host_is_literal(host);
    return true;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

forge_code forge__address_list_parse(const char *text, struct forge__address_list *out, struct forge_error *error)
{
    if (!text || !*text)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "addresses must name at least one server, e.g. forge.example.com:7443");
    struct forge__address_list list = {.count = 0};
    while (text) {
        const char *comma = strchr(text, ',');
        size_t length = comma ? (size_t)(comma - text) : strlen(text);
        char entry[FORGE__HOST_MAX + 16];
        if (list.count == FORGE__ADDRESSES_MAX)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "addresses has more than %d entries", FORGE__ADDRESSES_MAX);
        snprintf(entry, sizeof entry, "%.*s", (int)(length < sizeof entry ? length : sizeof entry), text);
        struct forge__address *address = &list.items[list.count];
        if (length >= sizeof entry || !parse_entry(trim(entry), address))
            return forge_error_set(error, FORGE_INVALID_ARGUMENT,
                                   "addresses: entry %zu, \"%.*s\", must be host, host:port or [IPv6]:port with a port of 1 to 65535",
                                   list.count + 1, (int)(length < 64 ? length : 64), text);
        list.has_names |= !address->is_literal;
        list.count++;
        text = comma ? comma + 1 : NULL;
    }
    *out = list;
    return FORGE_OK;
}

bool forge__endpoint_equal(const struct forge__endpoint *a, const struct forge__endpoint *b)
{
    return a->port == b->port && !strcmp(a->ip, b->ip) && !strcmp(a->server_name, b->server_name);
}

bool forge__endpoint_list_add(struct forge__endpoint_list *list, const char *ip, uint16_t port, const char *server_name)
{
    struct forge__endpoint endpoint = {.port = port};
    snprintf(endpoint.ip, sizeof endpoint.ip, "%s", ip);
    snprintf(endpoint.server_name, sizeof endpoint.server_name, "%s", server_name);
    for (size_t i = 0; i < list->count; i++)
        if (forge__endpoint_equal(&list->items[i], &endpoint))
            return true;
    if (list->count == FORGE__ENDPOINTS_MAX)
        return false;
    list->items[list->count++] = endpoint;
    return true;
}
