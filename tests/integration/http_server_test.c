#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct base_metrics *metrics;
static struct http_server *server;
static uint16_t port;
static atomic_bool ready;

static bool is_ready(void *user, const char **out_reason)
{
    *out_reason = atomic_load(&ready) ? NULL : "database: connection refused";
    return atomic_load(&ready);
}

static struct http_server_config config_for(const char *host, uint16_t wanted_port)
{
    return (struct http_server_config){.host = host, .port = wanted_port, .connections_max = 4, .metrics = metrics, .is_ready = is_ready};
}

static int start(void **state)
{
    struct forge_error error;
    metrics = base_metrics_new();
    base_metric_add(base_metric_new(metrics, BASE_METRIC_COUNTER, "calls_total", "Calls.", NULL, 0), 0, 0, 7);
    const struct http_server_config config = config_for("127.0.0.1", 0);
    return http_server_new(&config, &server, &port, &error) != FORGE_OK;
}

static int stop(void **state)
{
    http_server_free(server);
    base_metrics_free(metrics);
    return 0;
}

static int connect_to_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends a request and reads until the server closes; the reply stays valid until the next call. */
static const char *exchange(const char *request)
{
    static char reply[16384];
    size_t len = 0;
    int fd = connect_to_server();
    assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    for (ssize_t got; len + 1 < sizeof reply && (got = read(fd, reply + len, sizeof reply - 1 - len)) > 0;)
        len += (size_t)got;
    close(fd);
    reply[len] = '\0';
    return reply;
}

static const char *get(const char *path)
{
    char request[256];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    return exchange(request);
}

static void assert_starts(const char *reply, const char *status_line)
{
    if (strncmp(reply, status_line, strlen(status_line)) != 0)
        fail_msg("expected %s, got %.200s", status_line, reply);
}

static void test_http_healthz_is_ok_whatever_the_readiness(void **state)
{
    atomic_store(&ready, false);
    const char *reply = get("/healthz");
    assert_starts(reply, "HTTP/1.1 200 ");
    assert_non_null(strstr(reply, "\r\n\r\nok\n"));
}

static void test_http_readyz_tells_the_reason(void **state)
{
    atomic_store(&ready, false);
    const char *reply = get("/readyz");
    assert_starts(reply, "HTTP/1.1 503 ");
    assert_non_null(strstr(reply, "\r\n\r\nnot ready: database: connection refused\n"));
    atomic_store(&ready, true);
    reply = get("/readyz");
    assert_starts(reply, "HTTP/1.1 200 ");
    assert_non_null(strstr(reply, "\r\n\r\nready\n"));
}

static void test_http_metrics_are_prometheus_text(void **state)
{
    const char *reply = get("/metrics");
    assert_starts(reply, "HTTP/1.1 200 ");
    assert_non_null(strstr(reply, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(reply, "# TYPE calls_total counter\ncalls_total 7\n"));
}

static void test_http_other_paths_and_methods_are_refused(void **state)
{
    assert_starts(get("/"), "HTTP/1.1 404 ");
    assert_starts(get("/metrics/../etc/passwd"), "HTTP/1.1 404 ");
    const char *reply = exchange("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody");
    assert_starts(reply, "HTTP/1.1 405 ");
    assert_non_null(strstr(reply, "Allow: GET, HEAD\r\n"));
}

static void test_http_head_has_no_body(void **state)
{
    const char *reply = exchange("HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_starts(reply, "HTTP/1.1 200 ");
    assert_string_equal(strstr(reply, "\r\n\r\n"), "\r\n\r\n");
}

static void test_http_header_over_the_limit_is_refused(void **state)
{
    static char request[40000];
    int len = snprintf(request, sizeof request, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ");
    memset(request + len, 'a', 30000);
    snprintf(request + len + 30000, 100, "\r\nConnection: close\r\n\r\n");
    const char *reply = exchange(request);
    assert_true(reply[0] == '\0' || strncmp(reply, "HTTP/1.1 4", 10) == 0);
    assert_starts(get("/healthz"), "HTTP/1.1 200 ");
}

/* Four silent connections take all room: the fifth waits, and is served when one of them goes. */
static void test_http_connections_are_bounded(void **state)
{
    static const char REQUEST[] = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    const struct timeval short_time = {.tv_usec = 300000}, long_time = {.tv_sec = 20};
    int silent[4];
    char text[512];
    for (int i = 0; i < 4; i++) {
        silent[i] = connect_to_server();
        assert_int_equal(write(silent[i], "GET ", 4), 4);
    }
    int fifth = connect_to_server();
    assert_int_equal(write(fifth, REQUEST, sizeof REQUEST - 1), sizeof REQUEST - 1);
    setsockopt(fifth, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time);
    assert_int_equal(read(fifth, text, sizeof text), -1);
    close(silent[0]);
    setsockopt(fifth, SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof long_time);
    assert_true(read(fifth, text, sizeof text) > 0);
    assert_starts(text, "HTTP/1.1 200 ");
    close(fifth);
    for (int i = 1; i < 4; i++)
        close(silent[i]);
}

static void test_http_taken_port_and_bad_host_are_named(void **state)
{
    struct http_server *second = NULL;
    struct forge_error error = {0};
    uint16_t second_port;
    struct http_server_config config = config_for("127.0.0.1", port);
    char expected[128];
    assert_int_equal(http_server_new(&config, &second, &second_port, &error), FORGE_UNAVAILABLE);
    snprintf(expected, sizeof expected, "http: cannot listen on 127.0.0.1 port %u: Address already in use", port);
    assert_string_equal(error.message, expected);
    config.host = "nowhere";
    assert_int_equal(http_server_new(&config, &second, &second_port, &error), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, "http_host: \"nowhere\" is not an IP address");
    assert_null(second);
}

static void test_http_listens_on_every_address(void **state)
{
    struct http_server *second;
    struct forge_error error = {0};
    uint16_t first_port = port;
    const struct http_server_config config = config_for("::", 0);
    assert_int_equal(http_server_new(&config, &second, &port, &error), FORGE_OK);
    assert_starts(get("/healthz"), "HTTP/1.1 200 ");
    http_server_free(second);
    port = first_port;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_healthz_is_ok_whatever_the_readiness),
        cmocka_unit_test(test_http_readyz_tells_the_reason),
        cmocka_unit_test(test_http_metrics_are_prometheus_text),
        cmocka_unit_test(test_http_other_paths_and_methods_are_refused),
        cmocka_unit_test(test_http_head_has_no_body),
        cmocka_unit_test(test_http_header_over_the_limit_is_refused),
        cmocka_unit_test(test_http_connections_are_bounded),
        cmocka_unit_test(test_http_taken_port_and_bad_host_are_named),
        cmocka_unit_test(test_http_listens_on_every_address),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
