#include "support/rpc_peer.h"

#include "support/tls_files.h"
#include "wire/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct rpc_peer {
    struct rpc_peer_options options;
    struct forge_loops *loops;
    struct forge_link_listener *listener;
    struct forge_tls *tls;
    uint16_t port;
    char address[32];
    atomic_uint links, who_am_i, calls;
};

static struct tls_files *files;

static void free_files(void)
{
    tls_files_free(files);
}

const char *test_tls_file(const char *name)
{
    if (!files) {
        files = tls_files_new();
        atexit(free_files);
    }
    return tls_files_path(files, name);
}

static void free_call(struct rpc_peer_call *call)
{
    forge_link_unref(call->link);
    forge__v1__request_header__free_unpacked(call->header, NULL);
    free(call->payload);
    free(call);
}

static void send_body(struct rpc_peer_call *call, const Forge__V1__ReplyHeader *header, const uint8_t *payload, size_t payload_len)
{
    struct forge_link_send send;
    if (forge_link_send_begin(call->link, call->stack, call->stack_len, forge_envelope_size(&header->base, payload_len), &send) ==
        FORGE_OK) {
        uint8_t *at = forge_envelope_pack_header(&header->base, send.body);
        if (payload_len)
            memcpy(at, payload, payload_len);
        forge_link_send_commit(&send);
    }
    free_call(call);
}

void rpc_peer_reply(struct rpc_peer_call *call, const Forge__V1__ReplyHeader *header, const ProtobufCMessage *message)
{
    size_t size = message ? protobuf_c_message_get_packed_size(message) : 0;
    uint8_t *payload = malloc(size + 1);
    assert_non_null(payload);
    if (message)
        protobuf_c_message_pack(message, payload);
    send_body(call, header, payload, size);
    free(payload);
}

void rpc_peer_echo(struct rpc_peer_call *call)
{
    Forge__V1__ReplyHeader header;
    forge__v1__reply_header__init(&header);
    send_body(call, &header, call->payload, call->payload_len);
}

void rpc_peer_fail(struct rpc_peer_call *call, Forge__V1__Code code, const char *message)
{
    Forge__V1__ReplyHeader header;
    char text[FORGE_ERROR_MESSAGE_MAX];
    forge__v1__reply_header__init(&header);
    snprintf(text, sizeof text, "%s", message);
    header.code = code;
    header.message = text;
    rpc_peer_reply(call, &header, NULL);
}

void rpc_peer_reply_raw(struct rpc_peer_call *call, const void *body, size_t body_len)
{
    struct forge_link_send send;
    if (forge_link_send_begin(call->link, call->stack, call->stack_len, body_len, &send) == FORGE_OK) {
        memcpy(send.body, body, body_len);
        forge_link_send_commit(&send);
    }
    free_call(call);
}

void rpc_peer_drop(struct rpc_peer_call *call, bool close_link)
{
    if (close_link)
        forge_link_close(call->link);
    free_call(call);
}

static void on_opened(struct forge_link *link, void *user)
{
    struct rpc_peer *peer = user;
    atomic_fetch_add(&peer->links, 1);
}

static void on_frame(struct forge_link *link, void *user, const struct forge_frame *frame)
{
    struct rpc_peer *peer = user;
    struct forge_envelope envelope;
    struct forge_error error = {.code = FORGE_OK};
    if (forge_envelope_parse(frame->body, frame->body_len, FORGE_ENVELOPE_HEADER_MAX, &envelope, &error) != FORGE_OK) {
        forge_link_close(link);
        return;
    }
    struct rpc_peer_call *call = calloc(1, sizeof *call);
    call->peer = peer;
    call->link = link;
    forge_link_ref(link);
    memcpy(call->stack, frame->stack, frame->stack_len);
    call->stack_len = frame->stack_len;
    call->header = forge__v1__request_header__unpack(NULL, envelope.header_len, envelope.header);
    call->payload = malloc(envelope.payload_len + 1);
    memcpy(call->payload, envelope.payload, envelope.payload_len);
    call->payload_len = envelope.payload_len;
    if (!peer->options.sees_who_am_i && !strcmp(call->header->method, "forge.v1.OrganizationService/WhoAmI")) {
        atomic_fetch_add(&peer->who_am_i, 1);
        rpc_peer_echo(call);
        return;
    }
    call->number = atomic_fetch_add(&peer->calls, 1) + 1;
    peer->options.handler(call, peer->options.user);
}

static void on_closed(struct forge_link *link, void *user, enum forge_link_why why) {}

static const struct forge_link_callbacks callbacks = {.opened = on_opened, .frame = on_frame, .closed = on_closed};

struct rpc_peer *rpc_peer_start(const struct rpc_peer_options *options)
{
    struct forge_error error = {.code = FORGE_OK};
    struct rpc_peer *peer = calloc(1, sizeof *peer);
    assert_non_null(peer);
    peer->options = *options;
    const char *name = options->certificate ? options->certificate : "server";
    char certificate[32], key[32];
    snprintf(certificate, sizeof certificate, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    const struct forge_tls_config tls = {.server = true, .certificate_file = test_tls_file(certificate), .key_file = test_tls_file(key)};
    if (forge_tls_new(&tls, &peer->tls, &error) != FORGE_OK || forge_loops_new(1, &peer->loops, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    const struct forge_link_options link_options = {.tls = peer->tls,
                                                    .callbacks = &callbacks,
                                                    .user = peer,
                                                    .handshake_ms = 10000,
                                                    .body_ms = 20000,
                                                    .message_max = 16 << 20,
                                                    .frame_max = 32 << 20,
                                                    .pending_max = 64 << 20};
    if (forge_link_listen(peer->loops, "127.0.0.1", options->port, &link_options, &peer->listener, &peer->port, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    snprintf(peer->address, sizeof peer->address, "127.0.0.1:%u", peer->port);
    return peer;
}

void rpc_peer_stop(struct rpc_peer *peer)
{
    if (!peer)
        return;
    forge_link_listener_close(peer->listener);
    forge_loops_free(peer->loops);
    forge_tls_unref(peer->tls);
    free(peer);
}

uint16_t rpc_peer_port(const struct rpc_peer *peer)
{
    return peer->port;
}

const char *rpc_peer_address(const struct rpc_peer *peer)
{
    return peer->address;
}

unsigned rpc_peer_links(const struct rpc_peer *peer)
{
    return atomic_load(&peer->links);
}

unsigned rpc_peer_who_am_i(const struct rpc_peer *peer)
{
    return atomic_load(&peer->who_am_i);
}

static void close_link(struct forge_link *link, void *user, void *argument)
{
    forge_link_close(link);
}

void rpc_peer_close_links(struct rpc_peer *peer)
{
    forge_link_for_each(peer->loops, close_link, NULL);
}
