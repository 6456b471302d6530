#include "support/raw_call.h"

#include "wire/envelope.h"
#include "wire/uuid.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cmocka.h>

enum { REPLY_MAX = 8 << 20, READ_SECONDS = 15 };

void raw_peer_open(struct raw_peer *peer, const struct tls_files *tls, uint16_t port)
{
    const struct timeval limit = {.tv_sec = READ_SECONDS};
    signal(SIGPIPE, SIG_IGN); /* the server may close while we write */
    peer->context = link_raw_context(tls, NULL);
    if (!link_raw_open(&peer->link, peer->context, port, 0))
        fail_msg("no connection to port %u", port);
    setsockopt(peer->link.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

void raw_peer_close(struct raw_peer *peer)
{
    link_raw_close(&peer->link);
    SSL_CTX_free(peer->context);
}

void raw_header_init(struct raw_header *header, const char *method, const char *token)
{
    struct forge_uuid id;
    forge_uuid_v7(&id);
    memcpy(header->request_id, id.bytes, sizeof header->request_id);
    forge__v1__request_header__init(&header->header);
    header->header.method = (char *)(uintptr_t)method;
    header->header.authorization = (char *)(uintptr_t)(token ? token : "");
    header->header.attempt = 1;
    header->header.request_id = (ProtobufCBinaryData){.len = sizeof header->request_id, .data = header->request_id};
}

void raw_bytes_add(struct raw_bytes *bytes, const void *data, size_t size)
{
    bytes->data = realloc(bytes->data, bytes->size + size + 1);
    assert_non_null(bytes->data);
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

struct raw_bytes raw_envelope(const struct raw_header *header, const void *payload, size_t size)
{
    struct raw_bytes body = {.size = forge_envelope_size(&header->header.base, 0)};
    body.data = malloc(body.size + 1);
    assert_non_null(body.data);
    forge_envelope_pack_header(&header->header.base, body.data);
    raw_bytes_add(&body, payload, size);
    return body;
}

struct raw_bytes raw_envelope_of(const struct raw_header *header, const ProtobufCMessage *payload)
{
    size_t size = protobuf_c_message_get_packed_size(payload);
    uint8_t *packed = malloc(size + 1);
    assert_non_null(packed);
    protobuf_c_message_pack(payload, packed);
    struct raw_bytes body = raw_envelope(header, packed, size);
    free(packed);
    return body;
}

bool raw_send_bytes(struct raw_peer *peer, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        int sent = SSL_write(peer->link.ssl, at, size > 1 << 20 ? 1 << 20 : (int)size);
        if (sent <= 0)
            return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

bool raw_send(struct raw_peer *peer, const struct raw_bytes *body)
{
    uint8_t head[12] = {0};
    link_put_u32(head + 4, (uint32_t)(body->size + 4));
    link_put_u32(head + 8, 0x80000001);
    return raw_send_bytes(peer, head, sizeof head) && raw_send_bytes(peer, body->data, body->size);
}

static bool read_all(struct raw_peer *peer, uint8_t *out, size_t size)
{
    while (size > 0) {
        int got = SSL_read(peer->link.ssl, out, (int)size);
        if (got <= 0)
            return false;
        out += got;
        size -= (size_t)got;
    }
    return true;
}

Forge__V1__ReplyHeader *raw_receive(struct raw_peer *peer)
{
    uint8_t head[12];
    if (!read_all(peer, head, sizeof head))
        return NULL;
    size_t size = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];
    assert_in_range(size, 4 + FORGE_ENVELOPE_PREFIX, REPLY_MAX);
    uint8_t *body = malloc(size);
    struct forge_envelope envelope;
    struct forge_error error = {0};
    assert_non_null(body);
    assert_true(read_all(peer, body, size - 4));
    assert_int_equal(forge_envelope_parse(body, size - 4, FORGE_ENVELOPE_HEADER_MAX, &envelope, &error), FORGE_OK);
    Forge__V1__ReplyHeader *header = forge__v1__reply_header__unpack(NULL, envelope.header_len, envelope.header);
    free(body);
    assert_non_null(header);
    return header;
}
