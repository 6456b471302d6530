/* What bounds a link: time, bytes, numbers, and the share of a loop that one link may take. */
#include "support/link_peer.h"
#include "wire/clock.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WAIT_MS = 20000 };

static struct tls_files *files;
static struct forge_tls *server_tls, *client_tls;
static SSL_CTX *raw_tls;

static void start(struct link_server *server, struct forge_link_options options)
{
    options.tls = server_tls;
    link_server_start(server, "127.0.0.1", &options, 1);
}

static void stop(struct link_server *server)
{
    link_server_stop(server);
    assert_int_equal(server->closed, server->accepted);
}

static struct forge_link_options defaults(void)
{
    return link_test_options(server_tls);
}

/* ---- time ---- */

static void test_silent_peer_is_closed_after_handshake_ms(void **state)
{
    (void)state;
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.handshake_ms = 200;
    start(&server, options);
    struct link_raw silent = {.fd = link_tcp(server.port, 0)}, half = {0}, no_header = {0};
    uint64_t began_ms = forge_clock_monotonic_ms();
    half.fd = link_tcp(server.port, 0);
    assert_int_equal(send(half.fd, "\x16\x03\x01\x02\x00\x01", 6, 0), 6); /* the first bytes of a ClientHello */
    assert_true(link_raw_handshake(&no_header, raw_tls, server.port, 0)); /* TLS, but no SP header */
    assert_true(link_raw_is_closed(&silent, WAIT_MS));
    assert_true(link_raw_is_closed(&half, WAIT_MS));
    assert_true(link_raw_is_closed(&no_header, WAIT_MS));
    assert_true(forge_clock_monotonic_ms() - began_ms >= 190);
    assert_true(LINK_WAIT(server.why[FORGE_LINK_TIMEOUT] == 3, WAIT_MS));
    assert_int_equal(LINK_READ(server.opened), 0);
    link_raw_close(&silent);
    link_raw_close(&half);
    link_raw_close(&no_header);
    stop(&server);
}

/* Writes one byte every 10 ms until the server ends the connection. True when it did. */
static bool drip(struct link_raw *raw, bool below_tls, int bytes_max)
{
    for (int i = 0; i < bytes_max; i++) {
        char byte = 0x17; /* below TLS: the beginning of a record that never gets long enough */
        struct pollfd ready = {.fd = raw->fd, .events = POLLIN};
        if (below_tls ? send(raw->fd, i ? "\x03" : &byte, 1, MSG_NOSIGNAL) != 1 : SSL_write(raw->ssl, &byte, 1) != 1)
            return true;
        if (poll(&ready, 1, 10) == 1)
            return true;
    }
    return false;
}

static void test_frame_that_drips_in_is_closed_after_body_ms(void **state)
{
    (void)state;
    for (int below_tls = 0; below_tls < 2; below_tls++) {
        struct link_server server = {0};
        struct forge_link_options options = defaults();
        options.body_ms = 200;
        start(&server, options);
        struct link_raw raw;
        uint8_t request[112];
        assert_true(link_raw_open(&raw, raw_tls, server.port, 0));
        link_raw_request(request, 1, 10);
        if (!below_tls)
            assert_int_equal(SSL_write(raw.ssl, request, 20), 20);
        assert_true(drip(&raw, below_tls, 1000));
        ERR_clear_error();
        assert_true(LINK_WAIT(server.closed == 1, WAIT_MS));
        assert_int_equal(LINK_READ(server.why[FORGE_LINK_TIMEOUT]), 1);
        assert_int_equal(LINK_READ(server.frames), 0);
        link_raw_close(&raw);
        stop(&server);
    }
}

static void test_slow_frames_that_end_in_time_are_served(void **state)
{
    (void)state;
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.body_ms = 1500;
    start(&server, options);
    struct link_raw raw;
    uint8_t request[112], reply[12 + 10];
    assert_true(link_raw_open(&raw, raw_tls, server.port, 0));
    uint64_t until_ms = forge_clock_monotonic_ms() + 2000; /* longer than body_ms in all, each frame shorter */
    for (uint32_t i = 0; forge_clock_monotonic_ms() < until_ms; i++) {
        struct pollfd ready = {.fd = raw.fd, .events = POLLIN};
        link_raw_request(request, i, 10);
        assert_int_equal(SSL_write(raw.ssl, request, 50), 50);
        assert_int_equal(poll(&ready, 1, 100), 0);
        assert_int_equal(SSL_write(raw.ssl, request + 50, 62), 62);
        assert_int_equal(SSL_read(raw.ssl, reply, sizeof reply), sizeof reply);
    }
    link_raw_close(&raw);
    stop(&server);
}

static void test_idle_link_is_closed_but_not_while_calls_are_in_flight(void **state)
{
    (void)state;
    struct link_server idle = {0}, busy = {.calls = 1};
    struct forge_link_options options = defaults();
    struct forge_loops *loops = link_loops(1);
    options.idle_ms = 250;
    start(&idle, options);
    start(&busy, options);
    struct link_caller busy_caller = {0}, idle_caller = {0};
    assert_true(link_caller_dial(&busy_caller, loops, "127.0.0.1", busy.port, link_test_options(client_tls)));
    assert_true(LINK_WAIT(busy.opened == 1, WAIT_MS));
    for (int round = 0; round < 2; round++) { /* twice as long as the busy one would last */
        idle_caller = (struct link_caller){0};
        assert_true(link_caller_dial(&idle_caller, loops, "127.0.0.1", idle.port, link_test_options(client_tls)));
        assert_true(LINK_WAIT(idle_caller.closed, WAIT_MS));
        assert_int_equal(LINK_READ(idle_caller.why), FORGE_LINK_EOF); /* told in an orderly way */
        forge_link_unref(idle_caller.link);
    }
    assert_true(LINK_WAIT(idle.why[FORGE_LINK_TIMEOUT] == 2, WAIT_MS)); /* its peer may know first */
    assert_int_equal(LINK_READ(busy.closed), 0);
    forge_link_add_calls(LINK_READ(busy.last), -1); /* from another thread than the one that added it */
    assert_true(LINK_WAIT(busy.why[FORGE_LINK_TIMEOUT] == 1, WAIT_MS));
    assert_true(LINK_WAIT(busy_caller.closed, WAIT_MS));
    forge_link_unref(busy_caller.link);
    forge_loops_free(loops);
    stop(&idle);
    stop(&busy);
}

/* ---- bytes ---- */

static void test_slow_reader_is_bounded_and_then_closed(void **state)
{
    (void)state;
    enum { REQUESTS = 500, REPLY = 64 << 10, PENDING = 1 << 20 };
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.pending_max = PENDING;
    options.body_ms = 500;
    start(&server, options);
    struct link_raw raw;
    uint8_t request[112];
    assert_true(link_raw_open(&raw, raw_tls, server.port, 4096));
    long before = link_heap_bytes();
    for (uint32_t i = 0; i < REQUESTS; i++)
        assert_int_equal(SSL_write(raw.ssl, request, (int)link_raw_request(request, i, REPLY)), sizeof request);
    assert_true(LINK_WAIT(server.frames > 0, WAIT_MS));
    assert_true(LINK_WAIT(server.why[FORGE_LINK_SLOW] == 1, WAIT_MS));
    assert_int_equal(LINK_READ(server.unsent), 0);
    assert_true(LINK_READ(server.frames) < REQUESTS); /* the rest was not even read */
    assert_true(link_heap_bytes() - before < 4 * PENDING);
    link_raw_close(&raw);
    stop(&server);
}

static void test_reader_that_pauses_gets_everything(void **state)
{
    (void)state;
    enum { REQUESTS = 200, REPLY = 64 << 10 };
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.pending_max = 1 << 20;
    start(&server, options);
    struct link_raw raw;
    uint8_t request[112];
    static uint8_t reply[12 + REPLY];
    assert_true(link_raw_open(&raw, raw_tls, server.port, 4096));
    for (uint32_t i = 0; i < REQUESTS; i++)
        assert_int_equal(SSL_write(raw.ssl, request, (int)link_raw_request(request, i, REPLY)), sizeof request);
    assert_true(LINK_WAIT(server.frames >= 8, WAIT_MS)); /* it has stopped reading by then, or will soon */
    for (uint32_t i = 0; i < REQUESTS; i++) {
        for (int at = 0, got; at < (int)sizeof reply; at += got) {
            got = SSL_read(raw.ssl, reply + at, (int)sizeof reply - at);
            assert_true(got > 0);
        }
        assert_int_equal(link_get_u32(reply + 8), i | 0x80000000u);
        assert_memory_equal(reply + 12, link_pattern + (i & 255), REPLY);
    }
    assert_int_equal(LINK_READ(server.unsent), 0);
    link_raw_close(&raw);
    stop(&server);
}

static void put_prefix(uint8_t *out, uint64_t length)
{
    link_put_u32(out, (uint32_t)(length >> 32));
    link_put_u32(out + 4, (uint32_t)length);
}

static void test_frames_out_of_bounds_close_the_link(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        const char *rest;
        size_t rest_len;
    } rows[] = {{8u << 20 | 1, "", 0},
                {1ull << 32, "", 0},
                {1ull << 63, "", 0},
                {3, "", 0},
                {100, "\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\x80\0\0\1", 36}};
    struct link_server server = {0};
    start(&server, defaults());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct link_raw raw;
        uint8_t bytes[64];
        assert_true(link_raw_open(&raw, raw_tls, server.port, 0));
        put_prefix(bytes, rows[i].length);
        memcpy(bytes + 8, rows[i].rest, rows[i].rest_len);
        assert_int_equal(SSL_write(raw.ssl, bytes, (int)(8 + rows[i].rest_len)), 8 + rows[i].rest_len);
        assert_true(LINK_WAIT(server.why[FORGE_LINK_PROTOCOL] == (long)i + 1, WAIT_MS));
        assert_true(link_raw_is_closed(&raw, WAIT_MS));
        link_raw_close(&raw);
    }
    assert_int_equal(LINK_READ(server.frames), 0);

    struct link_raw raw; /* a REP socket, or no SP at all */
    assert_true(link_raw_handshake(&raw, raw_tls, server.port, 0));
    assert_int_equal(SSL_write(raw.ssl, "\0SP\0\0\x31\0\0", 8), 8);
    assert_true(LINK_WAIT(server.why[FORGE_LINK_PROTOCOL] == 6, WAIT_MS));
    link_raw_close(&raw);
    assert_true(link_raw_handshake(&raw, raw_tls, server.port, 0));
    assert_int_equal(SSL_write(raw.ssl, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    assert_true(LINK_WAIT(server.why[FORGE_LINK_PROTOCOL] == 7, WAIT_MS));
    link_raw_close(&raw);
    struct link_raw text = {.fd = link_tcp(server.port, 0)};
    assert_int_equal(send(text.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    assert_true(LINK_WAIT(server.why[FORGE_LINK_TLS] == 1, WAIT_MS));
    link_raw_close(&text);
    stop(&server);
}

static void test_frame_over_message_max_is_truncated_and_the_link_goes_on(void **state)
{
    (void)state;
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.message_max = 16 << 10;
    start(&server, options);
    struct link_raw raw;
    static uint8_t big[12 + 3000000];
    uint8_t request[112], reply[12 + 50];
    assert_true(link_raw_open(&raw, raw_tls, server.port, 0));
    put_prefix(big, sizeof big - 8);
    link_put_u32(big + 8, 0x80000009);
    assert_int_equal(SSL_write(raw.ssl, big, sizeof big), sizeof big);
    assert_int_equal(SSL_read(raw.ssl, reply, sizeof reply), 12); /* answered with an empty body */
    assert_int_equal(link_get_u32(reply + 8), 0x80000009);
    assert_int_equal(LINK_READ(server.truncated), 1);
    assert_int_equal(LINK_READ(server.last_body_len), 16 << 10);
    assert_int_equal(SSL_write(raw.ssl, request, (int)link_raw_request(request, 10, 50)), sizeof request);
    assert_int_equal(SSL_read(raw.ssl, reply, sizeof reply), sizeof reply);
    assert_memory_equal(reply + 12, link_pattern + 10, 50);
    assert_int_equal(LINK_READ(server.frames), 2);
    link_raw_close(&raw);

    assert_true(link_raw_open(&raw, raw_tls, server.port, 0)); /* announced, begun and never ended: body_ms applies */
    put_prefix(big, sizeof big - 8);
    assert_int_equal(SSL_write(raw.ssl, big, 50000), 50000);
    assert_true(LINK_WAIT(server.truncated == 2, WAIT_MS));
    link_raw_close(&raw);
    stop(&server);
}

static void test_discarded_rest_that_does_not_come_is_closed_after_body_ms(void **state)
{
    (void)state;
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.message_max = 16 << 10;
    options.body_ms = 200;
    start(&server, options);
    struct link_raw raw;
    static uint8_t big[50000];
    assert_true(link_raw_open(&raw, raw_tls, server.port, 0));
    put_prefix(big, 1000000);
    link_put_u32(big + 8, 0x80000009);
    assert_int_equal(SSL_write(raw.ssl, big, sizeof big), sizeof big);
    assert_true(LINK_WAIT(server.truncated == 1, WAIT_MS));
    assert_true(LINK_WAIT(server.why[FORGE_LINK_TIMEOUT] == 1, WAIT_MS));
    link_raw_close(&raw);
    stop(&server);
}

static void test_byte_budget_is_charged_and_given_back(void **state)
{
    (void)state;
    struct forge_byte_budget budget = {.bytes_max = 1500000};
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.budget = &budget;
    start(&server, options);
    struct link_raw first, second;
    static uint8_t big[1000012];
    uint8_t reply[12];
    put_prefix(big, sizeof big - 8);
    link_put_u32(big + 8, 0x80000001);
    assert_true(link_raw_open(&first, raw_tls, server.port, 0));
    assert_true(link_raw_open(&second, raw_tls, server.port, 0));
    assert_int_equal(SSL_write(first.ssl, big, 20), 20);
    for (int waits = 0; atomic_load(&budget.used) != sizeof big && waits < WAIT_MS; waits++)
        poll(NULL, 0, 1); /* the charge is announced by nobody */
    assert_int_equal(atomic_load(&budget.used), sizeof big);
    assert_int_equal(SSL_write(second.ssl, big, sizeof big), sizeof big); /* no room for it now */
    assert_int_equal(SSL_read(second.ssl, reply, sizeof reply), sizeof reply);
    assert_int_equal(LINK_READ(server.truncated), 1);
    link_raw_close(&first);
    assert_true(LINK_WAIT(server.closed == 1, WAIT_MS));
    assert_int_equal(atomic_load(&budget.used), 0);
    assert_int_equal(SSL_write(second.ssl, big, sizeof big), sizeof big);
    assert_int_equal(SSL_read(second.ssl, reply, sizeof reply), sizeof reply);
    assert_int_equal(LINK_READ(server.truncated), 1);
    assert_int_equal(LINK_READ(server.last_body_len), 1000000);
    link_raw_close(&second);
    stop(&server);
    assert_int_equal(atomic_load(&budget.used), 0);
}

/* ---- numbers ---- */

static void test_links_over_the_maximum_are_closed_at_accept(void **state)
{
    (void)state;
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    options.links_max = 3;
    start(&server, options);
    struct forge_loops *loops = link_loops(1);
    struct link_caller callers[4] = {0};
    for (int i = 0; i < 4; i++) {
        assert_true(link_caller_dial(&callers[i], loops, "127.0.0.1", server.port, link_test_options(client_tls)));
        assert_true(LINK_WAIT(callers[i].opened || callers[i].closed, WAIT_MS));
        assert_int_equal(LINK_READ(callers[i].opened), i < 3);
    }
    assert_int_equal(forge_link_count(server.loops), 3);
    assert_true(link_caller_finish(&callers[0]));
    assert_true(LINK_WAIT(server.closed == 1, WAIT_MS));
    struct link_caller late = {0};
    assert_true(link_caller_dial(&late, loops, "127.0.0.1", server.port, link_test_options(client_tls)));
    assert_true(LINK_WAIT(late.opened, WAIT_MS));
    assert_true(link_caller_finish(&late));
    for (int i = 1; i < 4; i++)
        assert_true(link_caller_finish(&callers[i]));
    forge_loops_free(loops);
    stop(&server);
}

static int connect_from(const char *address, uint16_t port)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, address, &from.sin_addr);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&to, sizeof to), 0);
    return fd;
}

static void test_unproven_links_are_counted_per_address(void **state)
{
    (void)state;
    struct link_server server = {.proven = true};
    struct forge_link_options options = defaults();
    options.unproven_per_address = 2;
    start(&server, options);
    struct forge_loops *loops = link_loops(1);
    struct link_caller proven[3] = {0};
    for (int i = 0; i < 3; i++) { /* these show a credential and do not count any more */
        assert_true(link_caller_dial(&proven[i], loops, "127.0.0.1", server.port, link_test_options(client_tls)));
        assert_true(LINK_WAIT(proven[i].opened, WAIT_MS));
    }
    struct link_raw same[3] = {0}, other = {0};
    for (int i = 0; i < 3; i++)
        same[i].fd = connect_from("127.0.0.1", server.port);
    assert_true(link_raw_is_closed(&same[2], WAIT_MS));
    other.fd = connect_from("127.0.0.2", server.port);
    assert_true(LINK_WAIT(server.accepted == 6, WAIT_MS));
    assert_string_equal(LINK_READ(server).last_address, "127.0.0.2");
    link_raw_close(&same[0]);
    assert_true(LINK_WAIT(server.closed == 1, WAIT_MS));
    struct link_raw again = {.fd = connect_from("127.0.0.1", server.port)};
    assert_true(LINK_WAIT(server.accepted == 7, WAIT_MS));
    link_raw_close(&same[1]);
    link_raw_close(&same[2]);
    link_raw_close(&other);
    link_raw_close(&again);
    for (int i = 0; i < 3; i++)
        assert_true(link_caller_finish(&proven[i]));
    forge_loops_free(loops);
    stop(&server);
}

/* ---- shares ---- */

static void test_link_with_much_to_do_does_not_keep_others_waiting(void **state)
{
    (void)state;
    enum { CALLS = 1000 };
    struct link_server server = {.burn_us = 100};
    start(&server, defaults()); /* one loop */
    struct forge_loops *loops = link_loops(1);
    struct link_caller greedy = {.calls = CALLS, .window = CALLS, .reply_size = 10}, modest = {.reply_size = 10};
    assert_true(link_caller_dial(&modest, loops, "127.0.0.1", server.port, link_test_options(client_tls)));
    assert_true(LINK_WAIT(modest.opened, WAIT_MS));
    assert_true(link_caller_dial(&greedy, loops, "127.0.0.1", server.port, link_test_options(client_tls)));
    for (int i = 1; i <= 10; i++) {
        assert_true(LINK_WAIT(greedy.frames >= 10 * i, WAIT_MS)); /* replies leave while the rest waits */
        assert_int_equal(link_caller_ask(&modest, (uint32_t)i), FORGE_OK);
        assert_true(LINK_WAIT(modest.frames == i, WAIT_MS));
    }
    long when_done = LINK_READ(greedy.frames);
    assert_true(LINK_WAIT(greedy.done, WAIT_MS));
    assert_int_equal(LINK_READ(greedy.wrong), 0);
    if (when_done >= CALLS)
        fail_msg("10 calls of one link took as long as %d calls of the other", CALLS);
    assert_true(link_caller_finish(&greedy));
    assert_true(link_caller_finish(&modest));
    forge_loops_free(loops);
    stop(&server);
}

static void test_accepted_links_spread_over_the_loops(void **state)
{
    (void)state;
    struct link_server server = {0};
    struct forge_link_options options = defaults();
    link_server_start(&server, "127.0.0.1", &options, 4);
    struct forge_loops *loops = link_loops(1);
    struct link_caller callers[8] = {0};
    int per_loop[4] = {0};
    for (int i = 0; i < 8; i++) {
        assert_true(link_caller_dial(&callers[i], loops, "127.0.0.1", server.port, link_test_options(client_tls)));
        assert_true(LINK_WAIT(server.opened == i + 1, WAIT_MS));
        per_loop[forge_loop_index(forge_link_loop(LINK_READ(server.last)))]++;
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(per_loop[i], 2);
    for (int i = 0; i < 8; i++)
        assert_true(link_caller_finish(&callers[i]));
    forge_loops_free(loops);
    stop(&server);
}

static int set_up(void **state)
{
    (void)state;
    files = tls_files_new();
    server_tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE);
    client_tls = link_client_tls(files, NULL);
    raw_tls = link_raw_context(files, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(raw_tls);
    forge_tls_unref(server_tls);
    forge_tls_unref(client_tls);
    tls_files_free(files);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_peer_is_closed_after_handshake_ms),
        cmocka_unit_test(test_frame_that_drips_in_is_closed_after_body_ms),
        cmocka_unit_test(test_slow_frames_that_end_in_time_are_served),
        cmocka_unit_test(test_idle_link_is_closed_but_not_while_calls_are_in_flight),
        cmocka_unit_test(test_slow_reader_is_bounded_and_then_closed),
        cmocka_unit_test(test_reader_that_pauses_gets_everything),
        cmocka_unit_test(test_frames_out_of_bounds_close_the_link),
        cmocka_unit_test(test_frame_over_message_max_is_truncated_and_the_link_goes_on),
        cmocka_unit_test(test_discarded_rest_that_does_not_come_is_closed_after_body_ms),
        cmocka_unit_test(test_byte_budget_is_charged_and_given_back),
        cmocka_unit_test(test_links_over_the_maximum_are_closed_at_accept),
        cmocka_unit_test(test_unproven_links_are_counted_per_address),
        cmocka_unit_test(test_link_with_much_to_do_does_not_keep_others_waiting),
        cmocka_unit_test(test_accepted_links_spread_over_the_loops),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
