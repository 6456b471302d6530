/* Health and metrics over plain HTTP on a port of its own, for probes and scrapers. Nothing secret is served and nothing is changed.
 *
 *   GET /healthz  200 while the process runs
 *   GET /readyz   200 when calls are answered, else 503; the body says why
 *   GET /metrics  Prometheus text
 */
#ifndef SERVER_HTTP_HTTP_H
#define SERVER_HTTP_HTTP_H

#include "base/metrics.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stdint.h>

struct http_server_config {
    const char *host; /* numeric address; "::" is every address, IPv4 included */
    uint16_t port;    /* 0 picks one */
    unsigned connections_max;
    struct base_metrics *metrics; /* must outlive the server */
    /* On the server's thread; must not block. *out_reason: what is in the way, or a remark when ready, or NULL; valid until the next
     * call on this thread. */
    bool (*is_ready)(void *user, const char **out_reason);
    void *user;
};

struct http_server;
/* Starts its thread. INVALID_ARGUMENT for a host that is no address, UNAVAILABLE when host and port are taken. */
forge_code http_server_new(const struct http_server_config *config, struct http_server **out, uint16_t *out_port,
                           struct forge_error *error) FORGE_MUST_CHECK;
/* Ends open requests and joins. Accepts NULL. */
void http_server_free(struct http_server *server);

#endif
