/* The body of an SP message: 'FRG1' | header length (u32, big-endian) | packed header | payload.
 * The only parser of raw RPC bytes; fuzzed (tests/fuzz). Pure functions, any thread. */
#ifndef FORGE_WIRE_ENVELOPE_H
#define FORGE_WIRE_ENVELOPE_H

#include "wire/arena.h"
#include "wire/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FORGE_ENVELOPE_PREFIX = 8,            /* magic and header length */
    FORGE_ENVELOPE_HEADER_MAX = 16 << 10, /* bytes of a packed header, metadata (<= 8 KiB) included */
    FORGE_METADATA_MAX = 8 << 10          /* bytes of all metadata keys and values of one header */
};

struct forge_envelope {
    const uint8_t *header; /* into the parsed bytes, as is payload */
    size_t header_len;
    const uint8_t *payload;
    size_t payload_len;
};

/* Splits a body. INVALID_ARGUMENT with a message for a wrong magic, a header cut off or over header_max. */
forge_code forge_envelope_parse(const uint8_t *body, size_t len, size_t header_max, struct forge_envelope *out,
                                struct forge_error *error) FORGE_MUST_CHECK;

/* Bytes that pack below will write. */
size_t forge_envelope_size(const ProtobufCMessage *header, size_t payload_len);
/* Writes prefix and header to out and returns where the payload (payload_len bytes by the caller) begins. */
uint8_t *forge_envelope_pack_header(const ProtobufCMessage *header, uint8_t *out);

struct forge_message_limits {
    size_t decoded_max; /* bytes the decoded message may need (estimated from the wire before anything is allocated) */
    unsigned depth_max; /* nested messages */
    size_t unknown_max; /* bytes of fields that the descriptor does not know */
    bool open_enums;    /* enum values that the descriptor does not know are allowed: replies of newer servers */
};

/* Walks the wire bytes of a message by its descriptor before anything is allocated: well-formed, depth, estimated
 * decoded size, unknown field bytes; strings are UTF-8 without NUL; enums hold known values; no
 * message field that is not repeated comes twice (protobuf-c 1.4.1 corrupts memory when it merges them). protobuf-c checks
 * none of these and cannot see an embedded NUL after unpacking. Errors: INVALID_ARGUMENT with the field path as a
 * violation (text and enum faults) or as message; RESOURCE_EXHAUSTED over decoded_max. */
forge_code forge_message_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                               const struct forge_message_limits *limits, struct forge_arena *arena,
                               struct forge_error *error) FORGE_MUST_CHECK;

/* forge_message_check, then unpack into the arena. *out lives as long as the arena. */
forge_code forge_message_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                                const struct forge_message_limits *limits, struct forge_arena *arena, ProtobufCMessage **out,
                                struct forge_error *error) FORGE_MUST_CHECK;

/* True for well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms) without NUL. */
bool forge_utf8_is_valid(const uint8_t *text, size_t len);

#endif
