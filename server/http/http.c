#include "http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_SECONDS_MAX = 10, REQUEST_BYTES_MAX = 16 << 10, BACKLOG = 64 };

struct http_server {
    struct http_server_config config;
    struct MHD_Daemon *daemon;
};

/* Takes text over (it was allocated with malloc). */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, char *text)
{
    if (text == NULL)
        return MHD_NO;
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    enum MHD_Result result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (result == MHD_YES)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (result == MHD_YES && status == MHD_HTTP_METHOD_NOT_ALLOWED)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (result == MHD_YES)
        result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
    return answer(connection, status, "text/plain; charset=utf-8", strdup(text));
}

static enum MHD_Result answer_ready(struct http_server *server, struct MHD_Connection *connection)
{
    const char *reason = NULL;
    char text[1024];
    bool ready = server->config.is_ready(server->config.user, &reason);
    snprintf(text, sizeof text, "%s%s%s\n", ready ? "ready" : "not ready", reason != NULL ? ": " : "", reason != NULL ? reason : "");
    return answer_text(connection, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **request)
{
    struct http_server *server = user;
    static int header_seen;
    if (*request == NULL) { /* the first call is for the header only: answering then would close the connection */
        *request = &header_seen;
        return MHD_YES;
    }
    if (*upload_size > 0) { /* read and forgotten; the refusal follows */
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    if (strcmp(url, "/healthz") == 0)
        return answer_text(connection, MHD_HTTP_OK, "ok\n");
    if (strcmp(url, "/readyz") == 0)
        return answer_ready(server, connection);
    if (strcmp(url, "/metrics") == 0)
        return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", base_metrics_text(server->config.metrics));
    return answer_text(connection, MHD_HTTP_NOT_FOUND, "there is /healthz, /readyz and /metrics\n");
}

/* Own listening socket: libmicrohttpd says no more than "failed", and a port that is taken must be named. */
static forge_code socket_listen(const struct http_server_config *config, int *out_socket, uint16_t *out_port, struct forge_error *error)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    socklen_t size = sizeof address;
    if (inet_pton(AF_INET, config->host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(config->port);
        size = sizeof *v4;
    } else if (inet_pton(AF_INET6, config->host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(config->port);
        size = sizeof *v6;
    } else {
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "http_host: \"%s\" is not an IP address", config->host);
    }
    int one = 1, off = 0, fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (address.ss_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        forge_code rc =
            forge_error_set(error, FORGE_UNAVAILABLE, "http: cannot listen on %s port %u: %s", config->host, config->port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    *out_socket = fd;
    *out_port = ntohs(address.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
    return FORGE_OK;
}

forge_code http_server_new(const struct http_server_config *config, struct http_server **out, uint16_t *out_port, struct forge_error *error)
{
    int listening = -1;
    uint16_t port = 0;
    forge_code rc = socket_listen(config, &listening, &port, error);
    if (rc != FORGE_OK)
        return rc;
    struct http_server *server = calloc(1, sizeof *server);
    if (server != NULL) {
        server->config = *config;
        server->daemon =
            MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle, server, MHD_OPTION_LISTEN_SOCKET, listening,
                             MHD_OPTION_CONNECTION_LIMIT, config->connections_max, MHD_OPTION_CONNECTION_TIMEOUT,
                             (unsigned)REQUEST_SECONDS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES_MAX, MHD_OPTION_END);
    }
    if (server == NULL || server->daemon == NULL) {
        close(listening);
        free(server);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "http: no thread or memory for the HTTP server");
    }
    *out = server;
    *out_port = port;
    return FORGE_OK;
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    MHD_stop_daemon(server->daemon); /* closes the listening socket too */
    free(server);
}
