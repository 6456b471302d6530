/* The proxy that fault tests trust: what it passes, cuts and counts. The target is a plain echo server. */
#include "support/fault_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int echo_listener;
static uint16_t echo_port;
static pthread_t echo_thread;
static struct fault_proxy *proxy;

static void *echo_connection(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char data[4096];
    ssize_t n;
    while ((n = recv(fd, data, sizeof data, 0)) > 0)
        if (send(fd, data, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    close(fd);
    return NULL;
}

static void *echo_main(void *argument)
{
    pthread_t thread;
    for (int fd; (fd = accept(echo_listener, NULL, NULL)) >= 0;) {
        assert_int_equal(pthread_create(&thread, NULL, echo_connection, (void *)(intptr_t)fd), 0);
        pthread_detach(thread);
    }
    return NULL;
}

static int start_echo(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    echo_listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(echo_listener, (struct sockaddr *)&address, size) || listen(echo_listener, 16) ||
        getsockname(echo_listener, (struct sockaddr *)&address, &size))
        return -1;
    echo_port = ntohs(address.sin_port);
    return pthread_create(&echo_thread, NULL, echo_main, NULL);
}

static int stop_echo(void **state)
{
    shutdown(echo_listener, SHUT_RDWR);
    pthread_join(echo_thread, NULL);
    close(echo_listener);
    return 0;
}

static int plain_proxy(void **state)
{
    proxy = fault_proxy_new(echo_port, false);
    return proxy ? 0 : -1;
}

static int postgresql_proxy(void **state)
{
    proxy = fault_proxy_new(echo_port, true);
    return proxy ? 0 : -1;
}

static int free_proxy(void **state)
{
    fault_proxy_free(proxy);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(fault_proxy_port(proxy)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void exchange(int fd, size_t size)
{
    char sent[8192], received[8192];
    for (size_t i = 0; i < size; i++)
        sent[i] = (char)(i * 7);
    assert_int_equal(send(fd, sent, size, MSG_NOSIGNAL), size);
    assert_int_equal(recv(fd, received, size, MSG_WAITALL), size);
    assert_memory_equal(sent, received, size);
}

static void test_bytes_pass_unchanged(void **state)
{
    int fd = dial();
    exchange(fd, 8192);
    close(fd);
}

static void test_sliced_and_slow_bytes_pass_unchanged(void **state)
{
    struct fault_settings settings = {.slice_bytes = 100, .jitter_ms = 1, .bytes_per_second = 1 << 20};
    fault_proxy_set(proxy, FAULT_DOWNSTREAM, &settings);
    int fd = dial();
    exchange(fd, 4096);
    close(fd);
}

static void test_cut_resets_both_sides(void **state)
{
    char byte;
    int fd = dial();
    exchange(fd, 10);
    fault_proxy_cut(proxy);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
}

static void test_limit_ends_the_connection(void **state)
{
    struct fault_settings settings = {.limit_bytes = 100};
    char data[200] = {0};
    fault_proxy_set(proxy, FAULT_DOWNSTREAM, &settings);
    int fd = dial();
    assert_int_equal(send(fd, data, sizeof data, MSG_NOSIGNAL), sizeof data);
    ssize_t total = 0, n;
    while ((n = recv(fd, data, sizeof data, 0)) > 0)
        total += n;
    assert_true(total <= 100);
    close(fd);
}

static void test_stall_holds_bytes_until_it_ends(void **state)
{
    struct fault_settings stall = {.stall = true}, none = {0};
    const struct timeval soon = {.tv_usec = 100000}, limit = {.tv_sec = 10};
    char byte = 1;
    fault_proxy_set(proxy, FAULT_UPSTREAM, &stall);
    int fd = dial();
    assert_int_equal(send(fd, &byte, 1, MSG_NOSIGNAL), 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    fault_proxy_set(proxy, FAULT_UPSTREAM, &none);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(recv(fd, &byte, 1, 0), 1);
    close(fd);
}

/* A startup message of 8 bytes, then messages of type Q; the echo's bytes are not messages, so only the way up is counted. */
static void test_messages_are_counted_and_cut(void **state)
{
    const char startup[8] = {0, 0, 0, 8, 0, 3, 0, 0}, query[7] = {'Q', 0, 0, 0, 6, 'x', 0};
    char byte;
    int fd = dial();
    assert_int_equal(send(fd, startup, sizeof startup, MSG_NOSIGNAL), sizeof startup);
    assert_int_equal(send(fd, query, 3, MSG_NOSIGNAL), 3);
    assert_int_equal(send(fd, query + 3, 4, MSG_NOSIGNAL), 4);
    char echoed[sizeof startup + sizeof query];
    assert_int_equal(recv(fd, echoed, sizeof echoed, MSG_WAITALL), sizeof echoed);
    assert_int_equal(fault_proxy_messages(proxy, FAULT_UPSTREAM), 2);
    assert_false(fault_proxy_has_cut(proxy));

    fault_proxy_cut_after_messages(proxy, FAULT_UPSTREAM, 2);
    for (int i = 0; i < 3; i++)
        (void)!send(fd, query, sizeof query, MSG_NOSIGNAL);
    while (recv(fd, &byte, 1, 0) > 0)
        ;
    assert_int_equal(errno, ECONNRESET);
    assert_true(fault_proxy_has_cut(proxy));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_pass_unchanged, plain_proxy, free_proxy),
        cmocka_unit_test_setup_teardown(test_sliced_and_slow_bytes_pass_unchanged, plain_proxy, free_proxy),
        cmocka_unit_test_setup_teardown(test_cut_resets_both_sides, plain_proxy, free_proxy),
        cmocka_unit_test_setup_teardown(test_limit_ends_the_connection, plain_proxy, free_proxy),
        cmocka_unit_test_setup_teardown(test_stall_holds_bytes_until_it_ends, plain_proxy, free_proxy),
        cmocka_unit_test_setup_teardown(test_messages_are_counted_and_cut, postgresql_proxy, free_proxy),
    };
    return cmocka_run_group_tests(tests, start_echo, stop_echo);
}
