/* TLS and SP framing between two streams in memory: no sockets, no loop. */
#include "support/link_peer.h"
#include "wire/link_stream.h"
#include "wire/loop_watch.h"

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct tls_files *files;
static uint8_t plain[FORGE_LOOP_PLAIN_SIZE];

struct end {
    struct forge_stream stream;
    int greeted, frames;
    size_t bytes;
    uint32_t checksum;
    bool stop; /* the sink says stop after each frame */
};

static void on_greeted(void *argument)
{
    ((struct end *)argument)->greeted++;
}

static bool on_frame(void *argument, const struct forge_frame *frame)
{
    struct end *end = argument;
    end->frames++;
    end->bytes += frame->body_len;
    for (size_t i = 0; i < frame->body_len; i++)
        end->checksum = end->checksum * 31 + frame->body[i];
    return !end->stop;
}

static const struct forge_frames_sink sink = {on_greeted, on_frame};

/* Moves what one end sealed to the other, in pieces. */
static int move(struct end *from, struct end *to, size_t piece)
{
    int why = forge_stream_seal(&from->stream);
    struct forge_buffer *sealed = &from->stream.sealed;
    while (why == 0 && forge_buffer_left(sealed)) {
        size_t size = forge_buffer_left(sealed) < piece ? forge_buffer_left(sealed) : piece;
        uint8_t *copy = malloc(size);
        memcpy(copy, forge_buffer_front(sealed), size);
        forge_buffer_consume(sealed, size);
        why = forge_stream_feed(&to->stream, copy, size, plain, &sink, to);
        free(copy);
        while (why == 0 && to->stream.frames.paused)
            why = forge_frames_resume(&to->stream.frames, &sink, to);
        if (why == 0)
            why = forge_stream_seal(&from->stream);
    }
    return why;
}

struct ends {
    struct end client, server;
    struct forge_tls *client_tls, *server_tls;
};

static void ends_start(struct ends *ends, size_t piece)
{
    memset(ends, 0, sizeof *ends);
    ends->client_tls = link_client_tls(files, NULL);
    ends->server_tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE);
    struct forge_link_options options = link_test_options(NULL);
    assert_true(forge_stream_init(&ends->client.stream, ends->client_tls, "localhost", &options));
    assert_true(forge_stream_init(&ends->server.stream, ends->server_tls, NULL, &options));
    assert_null(ends->server.stream.ssl); /* made at the first byte */
    assert_int_equal(forge_stream_start(&ends->client.stream), 0);
    assert_int_equal(forge_stream_start(&ends->server.stream), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(move(&ends->client, &ends->server, piece), 0);
        assert_int_equal(move(&ends->server, &ends->client, piece), 0);
    }
    assert_int_equal(ends->client.greeted, 1);
    assert_int_equal(ends->server.greeted, 1);
}

static void ends_stop(struct ends *ends)
{
    forge_stream_done(&ends->client.stream);
    forge_stream_done(&ends->server.stream);
    forge_tls_unref(ends->client_tls);
    forge_tls_unref(ends->server_tls);
}

static void put(struct end *end, size_t body_len)
{
    static const uint8_t stack[4] = {0x80, 1, 2, 3};
    uint8_t *body = forge_stream_begin(&end->stream, stack, sizeof stack, body_len);
    assert_non_null(body);
    memcpy(body, link_pattern, body_len);
    forge_stream_commit(&end->stream, sizeof stack, body_len);
}

static void test_stream_passes_frames_whatever_the_pieces(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 5, 1000, 16384, 65536};
    static const size_t bodies[] = {0, 1, 1000, 16380, 200000, 50};
    uint32_t expected = 0;
    for (size_t p = 0; p < 2 * sizeof pieces / sizeof *pieces; p++) {
        struct ends ends;
        ends_start(&ends, pieces[p / 2]);
        ends.server.stop = p % 2;
        for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
            put(&ends.client, bodies[i]);
        assert_int_equal(move(&ends.client, &ends.server, pieces[p / 2]), 0);
        assert_int_equal(ends.server.frames, sizeof bodies / sizeof *bodies);
        assert_false(forge_stream_is_partial(&ends.server.stream));
        if (p == 0)
            expected = ends.server.checksum;
        assert_int_equal(ends.server.checksum, expected);
        ends_stop(&ends);
    }
}

static void test_stream_partial_record_counts_as_partial(void **state)
{
    (void)state;
    struct ends ends;
    ends_start(&ends, 65536);
    put(&ends.client, 100);
    assert_int_equal(forge_stream_seal(&ends.client.stream), 0);
    assert_int_equal(forge_stream_feed(&ends.server.stream, forge_buffer_front(&ends.client.stream.sealed), 50, plain, &sink, &ends.server),
                     0);
    assert_int_equal(ends.server.frames, 0);
    assert_true(forge_stream_is_partial(&ends.server.stream));
    forge_buffer_consume(&ends.client.stream.sealed, 50);
    assert_int_equal(move(&ends.client, &ends.server, 65536), 0);
    assert_int_equal(ends.server.frames, 1);
    assert_false(forge_stream_is_partial(&ends.server.stream));
    ends_stop(&ends);
}

static void test_stream_renews_its_key_in_time(void **state)
{
    (void)state;
    assert_int_equal(FORGE_KEY_UPDATE_RECORDS, 8388608);
    struct ends ends;
    ends_start(&ends, 65536);
    ends.client.stream.records_max = 10;
    for (int i = 0; i < 100; i++) {
        put(&ends.client, 20000);
        assert_int_equal(move(&ends.client, &ends.server, 65536), 0);
        assert_true(ends.client.stream.records < 10);
    }
    assert_int_equal(ends.server.frames, 100);
    assert_int_equal(ends.server.bytes, 100 * 20000);
    ends_stop(&ends);
}

static void test_stream_ends_a_flood_without_data_and_serves_key_updates_with_data(void **state)
{
    (void)state;
    struct ends ends;
    ends_start(&ends, 65536);
    for (int i = 0; i < 5000; i++) { /* one call with each */
        assert_int_equal(SSL_key_update(ends.client.stream.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(ends.client.stream.ssl), 1);
        put(&ends.client, 10);
        assert_int_equal(move(&ends.client, &ends.server, 65536), 0);
        put(&ends.server, 10);
        assert_int_equal(move(&ends.server, &ends.client, 65536), 0);
    }
    assert_int_equal(ends.server.frames, 5000);
    int why = 0, sent = 0;
    for (; sent < 20000 && why == 0; sent++) {
        SSL_key_update(ends.client.stream.ssl, SSL_KEY_UPDATE_REQUESTED);
        SSL_do_handshake(ends.client.stream.ssl);
        why = move(&ends.client, &ends.server, 65536);
    }
    assert_int_equal(why, FORGE_LINK_PROTOCOL);
    assert_true(sent < 5000);
    assert_true(ends.server.stream.sealed.capacity < 256 << 10); /* the answers it owes stay bounded */
    ends_stop(&ends);
}

static void test_stream_tells_an_orderly_end_from_a_bad_record(void **state)
{
    (void)state;
    struct ends ends;
    ends_start(&ends, 65536);
    put(&ends.client, 10);
    assert_int_equal(forge_stream_seal(&ends.client.stream), 0);
    forge_stream_goodbye(&ends.client.stream);
    assert_int_equal(move(&ends.client, &ends.server, 65536), FORGE_LINK_EOF);
    assert_int_equal(ends.server.frames, 1); /* what came before the end is not lost */
    ends_stop(&ends);

    ends_start(&ends, 65536);
    put(&ends.client, 10);
    assert_int_equal(forge_stream_seal(&ends.client.stream), 0);
    forge_buffer_front(&ends.client.stream.sealed)[20] ^= 1;
    assert_int_equal(move(&ends.client, &ends.server, 65536), FORGE_LINK_TLS);
    assert_int_equal(ends.server.frames, 0);
    assert_true(forge_buffer_left(&ends.server.stream.sealed) > 0); /* the alert */
    ends_stop(&ends);
}

static void test_stream_seals_no_more_than_its_bound_at_once(void **state)
{
    (void)state;
    struct ends ends;
    ends_start(&ends, 65536);
    put(&ends.server, 4 << 20);
    assert_int_equal(forge_stream_seal(&ends.server.stream), 0);
    assert_true(forge_buffer_left(&ends.server.stream.sealed) < FORGE_SEALED_HIGH + FORGE_SEAL_CHUNK + 1024);
    assert_int_equal(move(&ends.server, &ends.client, 65536), 0);
    assert_int_equal(ends.client.bytes, 4 << 20);
    forge_stream_trim(&ends.server.stream);
    assert_null(ends.server.stream.out.data);
    assert_null(ends.server.stream.sealed.data);
    ends_stop(&ends);
}

static int set_up(void **state)
{
    (void)state;
    files = tls_files_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_files_free(files);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_passes_frames_whatever_the_pieces),
        cmocka_unit_test(test_stream_partial_record_counts_as_partial),
        cmocka_unit_test(test_stream_renews_its_key_in_time),
        cmocka_unit_test(test_stream_ends_a_flood_without_data_and_serves_key_updates_with_data),
        cmocka_unit_test(test_stream_tells_an_orderly_end_from_a_bad_record),
        cmocka_unit_test(test_stream_seals_no_more_than_its_bound_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
