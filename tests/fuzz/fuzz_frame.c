/* Plain bytes of one direction as a peer sends them, cut into frames: in one piece and in many, with and without pauses and a byte
 * budget. Byte 0: size of a piece; byte 1: bits for the limits; the rest is the stream. */
#include "fuzz.h"

#include "wire/link_frame.h"

#include <string.h>

enum { FRAME_MAX = 40000 };

struct outcome {
    int why;
    uint64_t frames, greeted, hash; /* hash: FNV-1a over everything handed out */
    bool stop;                      /* the sink stops after every frame */
};

static void mix(struct outcome *outcome, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        outcome->hash = (outcome->hash ^ ((const uint8_t *)data)[i]) * 1099511628211u;
}

static void on_greeted(void *argument)
{
    ((struct outcome *)argument)->greeted++;
}

static bool on_frame(void *argument, const struct forge_frame *frame)
{
    struct outcome *outcome = argument;
    FUZZ_REQUIRE(frame->stack_len >= 4 && frame->stack_len <= FORGE_STACK_MAX && frame->stack_len % 4 == 0);
    FUZZ_REQUIRE(frame->stack[frame->stack_len - 4] & 0x80);
    FUZZ_REQUIRE(frame->body_len <= FRAME_MAX);
    FUZZ_REQUIRE(!frame->truncated || frame->body_len <= FORGE_TRUNCATED_BODY_MAX);
    mix(outcome, frame->stack, frame->stack_len);
    mix(outcome, frame->body, frame->body_len);
    mix(outcome, &frame->truncated, sizeof frame->truncated);
    outcome->frames++;
    return !outcome->stop;
}

static const struct forge_frames_sink sink = {on_greeted, on_frame};

static void feed(struct forge_frames *frames, const uint8_t *data, size_t size, size_t piece, struct outcome *outcome)
{
    for (size_t at = 0; at < size && !outcome->why;) {
        size_t count = size - at < piece ? size - at : piece, room;
        uint8_t *in_place = forge_frames_room(frames, &room);
        if (in_place) {
            count = count < room ? count : room;
            memcpy(in_place, data + at, count);
            outcome->why = forge_frames_take(frames, in_place, count, &sink, outcome);
        } else {
            outcome->why = forge_frames_take(frames, data + at, count, &sink, outcome);
        }
        at += count;
        while (!outcome->why && frames->paused)
            outcome->why = forge_frames_resume(frames, &sink, outcome);
        FUZZ_REQUIRE(frames->in.capacity <= 2 * (FORGE_FRAME_PREFIX + FRAME_MAX + piece) + 4096);
    }
}

static struct outcome run(const uint8_t *data, size_t size, size_t piece, size_t message_max, struct forge_byte_budget *budget, bool stop)
{
    struct forge_frames frames;
    struct outcome outcome = {.hash = 14695981039346656037u, .stop = stop};
    forge_frames_init(&frames, FORGE_SP_REQ, message_max, FRAME_MAX, budget);
    feed(&frames, data, size, piece, &outcome);
    FUZZ_REQUIRE(outcome.why == 0 || outcome.why == FORGE_LINK_PROTOCOL);
    forge_frames_done(&frames);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t piece = (size_t)data[0] * data[0] + 1;
    size_t message_max = data[1] & 1 ? 100 : FRAME_MAX;
    struct forge_byte_budget budget = {.bytes_max = data[1] & 2 ? 0 : 1000};
    data += 2;
    size -= 2;
    struct outcome whole = run(data, size, size + 1, message_max, NULL, false);
    for (int stop = 0; stop < 2; stop++) {
        struct outcome cut = run(data, size, piece, message_max, NULL, stop);
        FUZZ_REQUIRE(cut.why == whole.why && cut.frames == whole.frames && cut.greeted == whole.greeted && cut.hash == whole.hash);
    }
    struct outcome poor = run(data, size, piece, message_max, &budget, data[-1] & 4);
    /* Without budget the beginning of a frame is shown before its end came: the last one, when the stream ends in it. */
    FUZZ_REQUIRE(poor.why == whole.why && (poor.frames == whole.frames || poor.frames == whole.frames + 1));
    FUZZ_REQUIRE(budget.used == 0);
    return 0;
}
