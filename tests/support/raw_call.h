/* Calls of the protocol byte by byte over real TLS, for requests that libforge would never send. Blocking, one connection each. */
#ifndef TESTS_SUPPORT_RAW_CALL_H
#define TESTS_SUPPORT_RAW_CALL_H

#include "forge/v1/common.pb-c.h"
#include "support/link_peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raw_peer {
    SSL_CTX *context;
    struct link_raw link;
};
/* Connects to localhost:port; the test ends when it cannot. Reads give up after 15 s. */
void raw_peer_open(struct raw_peer *peer, const struct tls_files *tls, uint16_t port);
void raw_peer_close(struct raw_peer *peer);

/* A request header with this method and token (NULL = none), a fresh request_id and no deadline of its own. */
struct raw_header {
    Forge__V1__RequestHeader header;
    uint8_t request_id[16];
};
void raw_header_init(struct raw_header *header, const char *method, const char *token);

/* Bytes that grow; free(data). */
struct raw_bytes {
    uint8_t *data;
    size_t size;
};
void raw_bytes_add(struct raw_bytes *bytes, const void *data, size_t size);
/* An envelope: prefix, packed header, payload (bytes, or a packed message). */
struct raw_bytes raw_envelope(const struct raw_header *header, const void *payload, size_t size);
struct raw_bytes raw_envelope_of(const struct raw_header *header, const ProtobufCMessage *payload);

/* Sends a body as one frame with the stack 80 00 00 01. */
bool raw_send(struct raw_peer *peer, const struct raw_bytes *body);
/* Any bytes, as they are. */
bool raw_send_bytes(struct raw_peer *peer, const void *data, size_t size);
/* The next reply's header, NULL when the connection ended; forge__v1__reply_header__free_unpacked(). */
Forge__V1__ReplyHeader *raw_receive(struct raw_peer *peer);

#endif
