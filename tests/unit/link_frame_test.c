/* SP framing without TLS: every way of cutting the same bytes gives the same frames, and every bound holds. */
#include "wire/link_frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { FRAME_MAX = 1 << 20, SEEN_MAX = 64 };
static const uint8_t req_header[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};

struct seen {
    size_t stack_len, body_len;
    uint8_t first_stack, last_body;
    bool truncated;
};

struct sink_state {
    struct seen seen[SEEN_MAX];
    int frames, greeted, allow; /* allow: frames before the sink says stop; -1 = all */
};

static void on_greeted(void *argument)
{
    ((struct sink_state *)argument)->greeted++;
}

static bool on_frame(void *argument, const struct forge_frame *frame)
{
    struct sink_state *s = argument;
    assert_true(s->frames < SEEN_MAX);
    s->seen[s->frames++] = (struct seen){.stack_len = frame->stack_len,
                                         .body_len = frame->body_len,
                                         .first_stack = frame->stack[0],
                                         .last_body = frame->body_len ? frame->body[frame->body_len - 1] : 0,
                                         .truncated = frame->truncated};
    return s->allow < 0 || s->frames < s->allow;
}

static const struct forge_frames_sink sink = {on_greeted, on_frame};

struct bytes {
    uint8_t *data;
    size_t size;
};

static void add(struct bytes *bytes, const void *data, size_t size)
{
    bytes->data = realloc(bytes->data, bytes->size + size);
    assert_non_null(bytes->data);
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void add_prefix(struct bytes *bytes, uint64_t length)
{
    uint8_t prefix[8];
    for (int i = 7; i >= 0; i--, length >>= 8)
        prefix[i] = (uint8_t)length;
    add(bytes, prefix, sizeof prefix);
}

/* words - 1 words without and one with the high bit, then the body. */
static void add_frame(struct bytes *bytes, size_t words, size_t body_len)
{
    uint8_t *body = malloc(body_len + 1);
    add_prefix(bytes, words * 4 + body_len);
    for (size_t i = 0; i < words; i++) {
        uint8_t word[4] = {i + 1 == words ? 0x80 : 0, 0, 0, (uint8_t)i};
        add(bytes, word, sizeof word);
    }
    for (size_t i = 0; i < body_len; i++)
        body[i] = (uint8_t)(i * 7 + words);
    add(bytes, body, body_len);
    free(body);
}

/* Feeds in pieces, in place where the framing offers room, as link_stream does; resumes when the sink stopped. */
static int feed(struct forge_frames *frames, struct sink_state *state, const uint8_t *data, size_t size, size_t piece)
{
    int why = 0;
    for (size_t at = 0; at < size && why == 0;) {
        size_t count = size - at < piece ? size - at : piece, room;
        uint8_t *in_place = forge_frames_room(frames, &room);
        if (in_place) {
            count = count < room ? count : room;
            memcpy(in_place, data + at, count);
            why = forge_frames_take(frames, in_place, count, &sink, state);
        } else {
            uint8_t *copy = malloc(count); /* so that a sanitizer sees every read beyond it */
            memcpy(copy, data + at, count);
            why = forge_frames_take(frames, copy, count, &sink, state);
            free(copy);
        }
        at += count;
        while (why == 0 && frames->paused) {
            state->allow += 1;
            why = forge_frames_resume(frames, &sink, state);
        }
    }
    return why;
}

static void start(struct forge_frames *frames, struct sink_state *state, struct forge_byte_budget *budget)
{
    forge_frames_init(frames, FORGE_SP_REQ, 64 << 10, FRAME_MAX, budget);
    *state = (struct sink_state){.allow = -1};
}

static void test_frames_are_the_same_however_the_bytes_come(void **state)
{
    (void)state;
    static const size_t bodies[] = {0, 1, 7, 16 << 10, 65528, 64 << 10, 100000, 0, 300};
    static const size_t pieces[] = {1, 2, 3, 7, 8, 9, 11, 12, 13, 100, 1000, 4096, 16384, 65536, SIZE_MAX};
    struct bytes all = {0};
    add(&all, req_header, sizeof req_header);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        add_frame(&all, i % 8 + 1, bodies[i]);
    struct sink_state expected;
    for (size_t i = 0; i < 2 * sizeof pieces / sizeof *pieces; i++) {
        struct forge_frames frames;
        struct sink_state got;
        struct forge_byte_budget budget = {.bytes_max = FRAME_MAX};
        start(&frames, &got, &budget);
        got.allow = i % 2 ? 1 : -1; /* every other time the sink stops after each frame */
        assert_int_equal(feed(&frames, &got, all.data, all.size, pieces[i / 2]), 0);
        assert_int_equal(got.frames, sizeof bodies / sizeof *bodies);
        assert_int_equal(got.greeted, 1);
        assert_false(forge_frames_is_partial(&frames));
        assert_int_equal(budget.used, 0);
        if (i == 0)
            expected = got;
        assert_memory_equal(got.seen, expected.seen, sizeof got.seen);
        forge_frames_done(&frames);
    }
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        bool over = bodies[i] + (i % 8 + 1) * 4 > 64 << 10;
        assert_int_equal(expected.seen[i].stack_len, (i % 8 + 1) * 4);
        assert_int_equal(expected.seen[i].truncated, over);
        assert_int_equal(expected.seen[i].body_len, over ? FORGE_TRUNCATED_BODY_MAX : bodies[i]);
    }
    free(all.data);
}

static int feed_tail(const uint8_t *tail, size_t size, size_t piece, struct sink_state *out)
{
    struct forge_frames frames;
    struct bytes all = {0};
    start(&frames, out, NULL);
    add(&all, req_header, sizeof req_header);
    add(&all, tail, size);
    int why = feed(&frames, out, all.data, all.size, piece);
    if (why)
        assert_true(frames.in.capacity <= 4096); /* closed without allocating for the frame */
    forge_frames_done(&frames);
    free(all.data);
    return why;
}

static void test_frames_that_are_broken_end_the_link_as_soon_as_it_shows(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t length;
        size_t words; /* without the high bit */
        bool ended;
        int why;
    } rows[] = {
        {"length 0", 0, 0, false, FORGE_LINK_PROTOCOL},
        {"length 3", 3, 0, false, FORGE_LINK_PROTOCOL},
        {"length 4 with a word that goes on", 4, 1, false, FORGE_LINK_PROTOCOL},
        {"stack longer than the frame", 7, 1, true, FORGE_LINK_PROTOCOL},
        {"8 words and an end", 1000, 7, true, 0},
        {"9 words", 1000, 8, true, FORGE_LINK_PROTOCOL},
        {"limit", FRAME_MAX, 0, true, 0},
        {"limit + 1", FRAME_MAX + 1, 0, true, FORGE_LINK_PROTOCOL},
        {"2^32", 1ull << 32, 0, true, FORGE_LINK_PROTOCOL},
        {"2^63", 1ull << 63, 0, true, FORGE_LINK_PROTOCOL},
        {"2^64 - 1", UINT64_MAX, 0, true, FORGE_LINK_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bytes tail = {0};
        add_prefix(&tail, rows[i].length);
        for (size_t w = 0; w < rows[i].words; w++)
            add(&tail, (const uint8_t[]){0, 0, 0, 1}, 4);
        if (rows[i].ended)
            add(&tail, (const uint8_t[]){0x80, 0, 0, 1}, 4);
        for (size_t piece = 1; piece < 64; piece = piece * 2 + 1) {
            struct sink_state seen;
            int why = feed_tail(tail.data, tail.size, piece, &seen);
            if (why != rows[i].why)
                fail_msg("%s in pieces of %zu: %d", rows[i].name, piece, why);
            assert_int_equal(seen.frames, 0);
        }
        free(tail.data);
    }
}

static void test_frames_need_the_right_sp_header(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof req_header; at++) {
        uint8_t header[8];
        memcpy(header, req_header, sizeof header);
        header[at] ^= 1;
        for (size_t piece = 1; piece <= 8; piece++) {
            struct forge_frames frames;
            struct sink_state seen;
            start(&frames, &seen, NULL);
            assert_int_equal(feed(&frames, &seen, header, sizeof header, piece), FORGE_LINK_PROTOCOL);
            assert_int_equal(seen.greeted, 0);
            forge_frames_done(&frames);
        }
    }
    uint8_t rep[8];
    forge_sp_header(FORGE_SP_REP, rep);
    assert_int_equal(rep[5], 0x31);
}

static void test_frame_over_message_max_shows_its_beginning_and_costs_no_more(void **state)
{
    (void)state;
    struct forge_frames frames;
    struct sink_state seen;
    struct bytes all = {0};
    struct forge_byte_budget budget = {.bytes_max = 1000};
    start(&frames, &seen, &budget);
    add(&all, req_header, sizeof req_header);
    add_frame(&all, 2, 900000);
    size_t first = all.size;
    add_frame(&all, 1, 5);
    for (size_t at = 0; at < all.size; at += 1000) {
        size_t count = all.size - at < 1000 ? all.size - at : 1000;
        assert_int_equal(feed(&frames, &seen, all.data + at, count, 333), 0);
        assert_true(frames.in.capacity <= FORGE_TRUNCATED_BODY_MAX + 4096);
        assert_int_equal(forge_frames_is_partial(&frames), at + count > 8 && at + count < first);
    }
    assert_int_equal(seen.frames, 2);
    assert_true(seen.seen[0].truncated);
    assert_int_equal(seen.seen[0].body_len, FORGE_TRUNCATED_BODY_MAX);
    assert_int_equal(seen.seen[0].last_body, (uint8_t)((FORGE_TRUNCATED_BODY_MAX - 1) * 7 + 2));
    assert_false(seen.seen[1].truncated);
    assert_int_equal(seen.seen[1].body_len, 5);
    forge_frames_done(&frames);

    start(&frames, &seen, &budget); /* shorter than what is shown, still over the limit */
    frames.message_max = 100;
    assert_int_equal(feed(&frames, &seen, all.data, 8, 8), 0);
    struct bytes small = {0};
    add_frame(&small, 1, 200);
    assert_int_equal(feed(&frames, &seen, small.data, small.size, 50), 0);
    assert_true(seen.seen[0].truncated);
    assert_int_equal(seen.seen[0].body_len, 200);
    forge_frames_done(&frames);
    free(small.data);
    free(all.data);
}

static void test_frame_is_charged_from_its_length_on_and_truncated_without_budget(void **state)
{
    (void)state;
    struct forge_frames frames;
    struct sink_state seen;
    struct bytes all = {0};
    struct forge_byte_budget budget = {.bytes_max = 50000};
    add(&all, req_header, sizeof req_header);
    add_frame(&all, 1, 40000);
    start(&frames, &seen, &budget);
    assert_int_equal(feed(&frames, &seen, all.data, 20, 20), 0); /* header, prefix and stack */
    assert_int_equal(budget.used, 40012);

    struct forge_frames second; /* no room for another one */
    struct sink_state second_seen;
    start(&second, &second_seen, &budget);
    assert_int_equal(feed(&second, &second_seen, all.data, all.size, 5000), 0);
    assert_int_equal(budget.used, 40012);
    assert_int_equal(second_seen.frames, 1);
    assert_true(second_seen.seen[0].truncated);
    assert_int_equal(second_seen.seen[0].body_len, FORGE_TRUNCATED_BODY_MAX);
    assert_false(forge_frames_is_partial(&second));

    assert_int_equal(feed(&frames, &seen, all.data + 20, all.size - 20, 5000), 0);
    assert_int_equal(budget.used, 0);
    assert_false(seen.seen[0].truncated);
    assert_int_equal(feed(&second, &second_seen, all.data + 8, all.size - 8, 5000), 0); /* there is room again */
    assert_false(second_seen.seen[1].truncated);
    assert_int_equal(feed(&second, &second_seen, all.data + 8, 100, 100), 0);
    assert_int_equal(budget.used, 40012);
    forge_frames_done(&second); /* in the middle of one */
    assert_int_equal(budget.used, 0);
    forge_frames_done(&frames);
    free(all.data);
}

static void test_frames_pass_a_raised_limit_within_one_piece(void **state)
{
    (void)state;
    struct forge_frames frames;
    struct sink_state seen;
    struct bytes all = {0};
    start(&frames, &seen, NULL);
    frames.message_max = 1000;
    add(&all, req_header, sizeof req_header);
    add_frame(&all, 1, 10);
    add_frame(&all, 1, 5000);
    seen.allow = 1; /* the first frame carries the credential */
    assert_int_equal(forge_frames_take(&frames, all.data, all.size, &sink, &seen), 0);
    assert_int_equal(seen.frames, 1);
    assert_true(frames.paused);
    frames.message_max = 64 << 10;
    seen.allow = -1;
    assert_int_equal(forge_frames_resume(&frames, &sink, &seen), 0);
    assert_int_equal(seen.frames, 2);
    assert_false(seen.seen[1].truncated);
    forge_frames_done(&frames);
    free(all.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_the_same_however_the_bytes_come),
        cmocka_unit_test(test_frames_that_are_broken_end_the_link_as_soon_as_it_shows),
        cmocka_unit_test(test_frames_need_the_right_sp_header),
        cmocka_unit_test(test_frame_over_message_max_shows_its_beginning_and_costs_no_more),
        cmocka_unit_test(test_frame_is_charged_from_its_length_on_and_truncated_without_budget),
        cmocka_unit_test(test_frames_pass_a_raised_limit_within_one_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
