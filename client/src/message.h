/* Between calls and the bytes of the protocol: headers of requests, replies and the errors in them. Loop thread. */
#ifndef FORGE_CLIENT_MESSAGE_H
#define FORGE_CLIENT_MESSAGE_H

#include "call.h"
#include "forge/v1/common.pb-c.h"
#include "retry.h"
#include "shard.h"
#include "wire/arena.h"
#include "wire/link.h"

/* Runs the channel's interceptor, then packs header and payload of the call's next attempt into a send on link. The codes of
 * forge_link_send_begin, or the interceptor's; nothing was sent then. */
forge_code forge__message_send_call(struct forge_link *link, const uint8_t stack[4], struct forge__call *call) FORGE_MUST_CHECK;
/* A request of the library itself with an empty payload. token may be NULL. */
forge_code forge__message_send_own(struct forge_link *link, const uint8_t stack[4], const struct forge_channel *channel, const char *method,
                                   const struct forge__token *token, unsigned timeout_ms) FORGE_MUST_CHECK;

struct forge__reply {
    const Forge__V1__ReplyHeader *header; /* in the arena */
    const uint8_t *payload;               /* in the frame */
    size_t payload_size;
};
/* Checks and unpacks a message of the server into the arena; NULL for one that is malformed. */
const void *forge__message_read(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t size, struct forge_arena *arena);
/* INTERNAL for bytes that are no reply. */
forge_code forge__message_parse_reply(const struct forge_frame *frame, struct forge_arena *arena, struct forge__reply *out,
                                      struct forge_error *error) FORGE_MUST_CHECK;
/* The reply's code, UNKNOWN for a number that is none. */
forge_code forge__message_code(const Forge__V1__ReplyHeader *header);
/* Unpacks the payload with malloc, for the caller. RESOURCE_EXHAUSTED over the call's limit, INTERNAL for a malformed one. */
forge_code forge__message_unpack(const struct forge__call *call, const struct forge__reply *reply, ProtobufCMessage **out,
                                 struct forge_error *error) FORGE_MUST_CHECK;
/* The error in a reply, its violations and facts allocated for forge_error_free; and what it means for a retry. */
void forge__message_error(const Forge__V1__ReplyHeader *header, struct forge_error *error);
void forge__message_attempt(const Forge__V1__ReplyHeader *header, const struct forge_error *error, const struct forge__call *call,
                            struct forge__attempt *out);
void forge__message_info(const Forge__V1__ReplyHeader *header, struct forge_reply_info *info);

#endif
