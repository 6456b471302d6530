/* Private to link*.c and the fuzz target: SP framing of one direction without I/O and without TLS. Plain bytes in, frames out.
 * Not thread safe.
 *
 * Memory: a frame that is complete in what was just received is handed out where it lies. One that is not is kept in `in`, which gets
 * its whole size at once, charged to the byte budget from the length prefix on. */
#ifndef FORGE_WIRE_LINK_FRAME_H
#define FORGE_WIRE_LINK_FRAME_H

#include "wire/link.h"
#include "wire/link_buffer.h"

enum {
    FORGE_SP_HEADER_SIZE = 8,
    FORGE_SP_REQ = 0x0030, /* protocol numbers of nng's REQ/REP, nng include/nng/protocol/reqrep0 */
    FORGE_SP_REP = 0x0031,
    FORGE_FRAME_PREFIX = 8,             /* 64-bit big-endian length */
    FORGE_TRUNCATED_BODY_MAX = 16 << 10 /* what a truncated frame still shows of its body */
};

struct forge_frames {
    struct forge_buffer in; /* an incomplete frame, or, while paused, frames that wait for a later turn */
    size_t needed;          /* bytes `in` must hold before cutting makes sense again */
    size_t message_max, frame_max;
    struct forge_byte_budget *budget;
    size_t charged;
    size_t discard; /* bytes of a truncated frame still to come */
    uint16_t peer;  /* FORGE_SP_REQ or FORGE_SP_REP: what the peer's header must say */
    bool greeted;   /* it came */
    bool starved;   /* the budget had no room for the frame at the front of `in` */
    bool paused;    /* the sink stopped; forge_frames_resume goes on */
};

struct forge_frames_sink {
    void (*greeted)(void *argument);
    bool (*frame)(void *argument, const struct forge_frame *frame); /* false: no more in this turn */
};

/* zeroes first */
void forge_frames_init(struct forge_frames *frames, uint16_t peer, size_t message_max, size_t frame_max, struct forge_byte_budget *budget);
void forge_frames_done(struct forge_frames *frames);
void forge_frames_trim(struct forge_frames *frames);

/* Where the next bytes can go without a copy: the rest of the incomplete frame, or NULL: wherever the caller likes. */
uint8_t *forge_frames_room(struct forge_frames *frames, size_t *out_size);
/* size bytes came, at forge_frames_room's address or anywhere else. 0, or the forge_link_why to close with (PROTOCOL, MEMORY). */
int forge_frames_take(struct forge_frames *frames, const uint8_t *data, size_t size, const struct forge_frames_sink *sink,
                      void *argument) FORGE_MUST_CHECK;
/* Goes on after the sink said false. Same result. */
int forge_frames_resume(struct forge_frames *frames, const struct forge_frames_sink *sink, void *argument) FORGE_MUST_CHECK;
/* A frame has begun and its end has not come. */
bool forge_frames_is_partial(const struct forge_frames *frames);

void forge_sp_header(uint16_t protocol, uint8_t out[FORGE_SP_HEADER_SIZE]);

#endif
