/* Private to link*.c: TLS and SP framing of one connection without any I/O: bytes in, frames out; frames in, bytes out. Not thread safe. */
#ifndef FORGE_WIRE_LINK_STREAM_H
#define FORGE_WIRE_LINK_STREAM_H

#include "wire/link_frame.h"
#include "wire/tls_private.h"

enum {
    FORGE_SEALED_HIGH = 256 << 10,      /* sealing stops above: what the kernel does not take stays plain */
    FORGE_NO_DATA_MAX = 64 << 10,       /* received bytes in a row that carried no data: a flood of KeyUpdates or empty records */
    FORGE_KEY_UPDATE_RECORDS = 1 << 23, /* half of the 2^24.5 records one AES-GCM key may seal (RFC 8446, section 5.5) */
    FORGE_SEAL_CHUNK = 64 << 10
};

struct forge_stream {
    struct forge_tls *tls;   /* holds a reference */
    SSL *ssl;                /* a server makes it at the first byte: silent peers cost little and accepting stays fast */
    const uint8_t *received; /* what OpenSSL has not taken yet, during forge_stream_feed */
    size_t received_left;
    size_t no_data;
    struct forge_frames frames;
    struct forge_buffer out;       /* plain frames that are not sealed yet */
    struct forge_buffer sealed;    /* records that the kernel has not taken yet */
    uint32_t records, records_max; /* sealed under the present key */
    bool handshaken;
};

/* host: what a client's server must be called; NULL for a server. False without memory, and then nothing is held. */
bool forge_stream_init(struct forge_stream *stream, struct forge_tls *tls, const char *host,
                       const struct forge_link_options *options) FORGE_MUST_CHECK;
void forge_stream_done(struct forge_stream *stream);
/* The client's first flight into sealed. 0 or a forge_link_why, like all below. */
int forge_stream_start(struct forge_stream *stream) FORGE_MUST_CHECK;
/* Received bytes; plain is a work area of FORGE_LOOP_PLAIN_SIZE. Whatever comes of it, sealed may have grown. */
int forge_stream_feed(struct forge_stream *stream, const uint8_t *data, size_t size, uint8_t *plain, const struct forge_frames_sink *sink,
                      void *argument) FORGE_MUST_CHECK;
/* Room for one frame at the end of out with its prefix and stack written; NULL without memory. It counts after commit. */
uint8_t *forge_stream_begin(struct forge_stream *stream, const uint8_t *stack, size_t stack_len, size_t body_len);
void forge_stream_commit(struct forge_stream *stream, size_t stack_len, size_t body_len);
/* Seals what waits in out while sealed is below FORGE_SEALED_HIGH. */
int forge_stream_seal(struct forge_stream *stream) FORGE_MUST_CHECK;
void forge_stream_goodbye(struct forge_stream *stream); /* close_notify into sealed */
void forge_stream_trim(struct forge_stream *stream);
/* Frame or record begun and not ended. */
bool forge_stream_is_partial(const struct forge_stream *stream);

static inline size_t forge_stream_unsent(const struct forge_stream *stream)
{
    return forge_buffer_left(&stream->out) + forge_buffer_left(&stream->sealed);
}

/* Prefix and stack of a frame; out has room for FORGE_FRAME_PREFIX + stack_len bytes. */
void forge_frame_head(uint8_t *out, const uint8_t *stack, size_t stack_len, size_t body_len);

#endif
