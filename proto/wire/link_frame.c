#include "wire/link_frame.h"

#include <string.h>

enum head_state { HEAD_BROKEN, HEAD_INCOMPLETE, HEAD_COMPLETE };

/* Length prefix and stack of a frame. */
struct head {
    size_t needed;    /* incomplete: bytes after which to look again */
    size_t length;    /* complete: of stack and body */
    size_t stack_len; /* complete */
};

static uint64_t read_u64(const uint8_t *p)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | p[i];
    return value;
}

void forge_sp_header(uint16_t protocol, uint8_t out[FORGE_SP_HEADER_SIZE])
{
    const uint8_t header[FORGE_SP_HEADER_SIZE] = {0, 'S', 'P', 0, (uint8_t)(protocol >> 8), (uint8_t)protocol, 0, 0};
    memcpy(out, header, sizeof header);
}

/* Refuses what is wrong as soon as it can be seen. */
static enum head_state head_parse(const uint8_t *p, size_t size, size_t frame_max, struct head *head)
{
    head->needed = FORGE_FRAME_PREFIX;
    if (size < FORGE_FRAME_PREFIX)
        return HEAD_INCOMPLETE;
    uint64_t length = read_u64(p);
    if (length < 4 || length > frame_max)
        return HEAD_BROKEN;
    for (size_t end = 4; end <= FORGE_STACK_MAX && end <= length; end += 4) {
        head->needed = FORGE_FRAME_PREFIX + end;
        if (size < head->needed)
            return HEAD_INCOMPLETE;
        if (p[head->needed - 4] & 0x80) {
            head->length = (size_t)length;
            head->stack_len = end;
            return HEAD_COMPLETE;
        }
    }
    return HEAD_BROKEN;
}

void forge_frames_init(struct forge_frames *frames, uint16_t peer, size_t message_max, size_t frame_max, struct forge_byte_budget *budget)
{
    *frames = (struct forge_frames){.peer = peer, .message_max = message_max, .frame_max = frame_max, .budget = budget};
}

static void discharge(struct forge_frames *frames)
{
    if (frames->charged)
        forge_byte_budget_give(frames->budget, frames->charged);
    frames->charged = 0;
    frames->starved = false;
}

void forge_frames_done(struct forge_frames *frames)
{
    discharge(frames);
    forge_buffer_done(&frames->in);
}

void forge_frames_trim(struct forge_frames *frames)
{
    forge_buffer_trim(&frames->in);
}

bool forge_frames_is_partial(const struct forge_frames *frames)
{
    return frames->discard != 0 || (!frames->paused && forge_buffer_left(&frames->in) != 0);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Hands out the frame at p if enough of it is there. Returns the bytes used, 0 when more must come first. */
static size_t deliver(struct forge_frames *frames, const uint8_t *p, size_t size, const struct head *head,
                      const struct forge_frames_sink *sink, void *argument)
{
    bool limited = frames->starved || head->length > frames->message_max;
    size_t shown = limited ? smaller(head->length, head->stack_len + FORGE_TRUNCATED_BODY_MAX) : head->length;
    if (size - FORGE_FRAME_PREFIX < shown)
        return 0;
    struct forge_frame frame = {.stack = p + FORGE_FRAME_PREFIX, .stack_len = head->stack_len};
    frame.body = frame.stack + head->stack_len;
    frame.body_len = shown - head->stack_len;
    frame.truncated = shown < head->length || head->length > frames->message_max;
    frames->discard = head->length - shown;
    frames->starved = false;
    frames->paused = !sink->frame(argument, &frame);
    return FORGE_FRAME_PREFIX + shown;
}

/* Cuts what is complete. 0 with the bytes used, or why the link must close. */
static int cut(struct forge_frames *frames, const uint8_t *p, size_t size, const struct forge_frames_sink *sink, void *argument,
               size_t *out_used)
{
    size_t used = 0;
    while (!frames->paused && used < size) {
        size_t skipped = smaller(frames->discard, size - used);
        frames->discard -= skipped;
        used += skipped;
        struct head head;
        enum head_state state = head_parse(p + used, size - used, frames->frame_max, &head);
        if (state == HEAD_BROKEN)
            return FORGE_LINK_PROTOCOL;
        size_t taken = state == HEAD_COMPLETE ? deliver(frames, p + used, size - used, &head, sink, argument) : 0;
        if (taken == 0)
            break;
        used += taken;
    }
    *out_used = used;
    return 0;
}

/* The SP header; *out_used is 0 until all of it is there. */
static int greet(struct forge_frames *frames, const uint8_t *p, size_t size, const struct forge_frames_sink *sink, void *argument,
                 size_t *out_used)
{
    uint8_t expected[FORGE_SP_HEADER_SIZE];
    forge_sp_header(frames->peer, expected);
    if (memcmp(p, expected, smaller(size, sizeof expected)) != 0)
        return FORGE_LINK_PROTOCOL;
    *out_used = size >= sizeof expected ? sizeof expected : 0;
    if (*out_used) {
        frames->greeted = true;
        sink->greeted(argument);
    }
    return 0;
}

static int take_some(struct forge_frames *frames, const uint8_t *p, size_t size, const struct forge_frames_sink *sink, void *argument,
                     size_t *out_used)
{
    size_t used = 0, cut_off = 0;
    if (!frames->greeted) {
        int why = greet(frames, p, size, sink, argument, &used);
        if (why || !frames->greeted) {
            *out_used = 0;
            return why;
        }
    }
    int why = cut(frames, p + used, size - used, sink, argument, &cut_off);
    *out_used = used + cut_off;
    return why;
}

/* The frame at p is incomplete and is, or is going to be, at the front of `in`: says how much must come and makes room for it.
 * Truncated frames are short and bounded by the number of links, so they need no budget. */
static int expect(struct forge_frames *frames, const uint8_t *p, size_t size)
{
    struct head head;
    frames->needed = size + 1; /* of the SP header every byte is looked at */
    if (frames->greeted && head_parse(p, size, frames->frame_max, &head) != HEAD_COMPLETE) {
        frames->needed = head.needed;
    } else if (frames->greeted) {
        size_t whole = FORGE_FRAME_PREFIX + head.length;
        bool limited = head.length > frames->message_max;
        if (!limited && !frames->starved && !frames->charged) {
            frames->starved = !forge_byte_budget_take(frames->budget, whole);
            frames->charged = frames->starved ? 0 : whole;
        }
        if (limited || frames->starved)
            whole = FORGE_FRAME_PREFIX + smaller(head.length, head.stack_len + FORGE_TRUNCATED_BODY_MAX);
        frames->needed = whole;
    }
    size_t have = forge_buffer_left(&frames->in);
    return forge_buffer_reserve(&frames->in, frames->needed > have ? frames->needed - have : 0) ? 0 : FORGE_LINK_MEMORY;
}

/* Bytes that do not lie in `in`, which is empty: cut where they are, keep the rest. */
static int take_foreign(struct forge_frames *frames, const uint8_t *data, size_t size, const struct forge_frames_sink *sink, void *argument)
{
    size_t used = 0;
    int why = take_some(frames, data, size, sink, argument, &used);
    if (why || used == size)
        return why;
    why = frames->paused ? 0 : expect(frames, data + used, size - used);
    if (why == 0 && !forge_buffer_append(&frames->in, data + used, size - used))
        why = FORGE_LINK_MEMORY;
    return why;
}

int forge_frames_resume(struct forge_frames *frames, const struct forge_frames_sink *sink, void *argument)
{
    size_t used = 0;
    frames->paused = false;
    if (forge_buffer_left(&frames->in) == 0)
        return 0;
    int why = take_some(frames, forge_buffer_front(&frames->in), forge_buffer_left(&frames->in), sink, argument, &used);
    if (why)
        return why;
    if (used) {
        discharge(frames);
        forge_buffer_consume(&frames->in, used);
    }
    size_t left = forge_buffer_left(&frames->in);
    return frames->paused || left == 0 ? 0 : expect(frames, forge_buffer_front(&frames->in), left);
}

uint8_t *forge_frames_room(struct forge_frames *frames, size_t *out_size)
{
    size_t have = forge_buffer_left(&frames->in);
    if (frames->paused || have == 0 || have >= frames->needed)
        return NULL;
    *out_size = frames->needed - have;
    return frames->in.data + frames->in.length;
}

int forge_frames_take(struct forge_frames *frames, const uint8_t *data, size_t size, const struct forge_frames_sink *sink, void *argument)
{
    bool empty = forge_buffer_left(&frames->in) == 0;
    bool in_place = frames->in.length < frames->in.capacity && data == frames->in.data + frames->in.length;
    if (in_place)
        frames->in.length += size;
    else if (empty && !frames->paused)
        return take_foreign(frames, data, size, sink, argument);
    else if (!forge_buffer_append(&frames->in, data, size))
        return FORGE_LINK_MEMORY;
    bool ready = forge_buffer_left(&frames->in) >= frames->needed;
    return frames->paused || !ready ? 0 : forge_frames_resume(frames, sink, argument);
}
