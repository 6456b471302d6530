/* Strangers call the server: libnng's own REQ sockets over ipc and over its mbedTLS, and Debian's nngcat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "forge/v1/common.pb-c.h"
#include "forge/v1/control.pb-c.h"
#include "support/forged_child.h"
#include "wire/envelope.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>
#include <nng/transport/tls/tls.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CALLS = 10000, CONTEXTS = 8, CALL_MS = 30000 };

static struct pg_cluster *cluster;
static struct forged_world *world;
static struct forged_child *child;
static char ipc_url[128], ipc_path[96];

/* On every address: what "localhost" stands for differs from machine to machine, and nng tries its first address only. */
static struct forged_child *serve(void)
{
    return forged_world_serve(world, (const char *[]){"--listen-host", "::", "--tls-min-version", "1.2", "--ipc-url", ipc_url, NULL});
}

static int open_world(void **state)
{
    cluster = pg_cluster_new(NULL);
    world = forged_world_new(cluster);
    snprintf(ipc_path, sizeof ipc_path, "/tmp/forged-interop-%d.ipc", (int)getpid());
    snprintf(ipc_url, sizeof ipc_url, "ipc://%s", ipc_path);
    child = serve();
    return 0;
}

static int close_world(void **state)
{
    forged_child_stop(child);
    forged_world_free(world);
    pg_cluster_free(cluster);
    return access(ipc_path, F_OK) == 0; /* the server removes its socket */
}

/* The body of a request without a credential; the caller frees it. */
static uint8_t *request_make(const char *method, const ProtobufCMessage *message, size_t *out_size)
{
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    header.method = (char *)(uintptr_t)method;
    header.client_info = (char *)(uintptr_t) "interop";
    size_t payload = protobuf_c_message_get_packed_size(message);
    *out_size = forge_envelope_size(&header.base, payload);
    uint8_t *body = malloc(*out_size);
    assert_non_null(body);
    protobuf_c_message_pack(message, forge_envelope_pack_header(&header.base, body));
    return body;
}

static uint8_t *ping_make(uint32_t number, size_t *out_size)
{
    Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
    ping.payload.data = (uint8_t *)&number;
    ping.payload.len = sizeof number;
    return request_make("forge.v1.ControlService/Ping", &ping.base, out_size);
}

/* Splits a reply; the code, and the payload as this type when it is OK (freed by the caller). */
static Forge__V1__Code reply_read(const uint8_t *body, size_t size, const ProtobufCMessageDescriptor *type, ProtobufCMessage **out_message)
{
    struct forge_envelope envelope;
    struct forge_error error;
    assert_int_equal(forge_envelope_parse(body, size, FORGE_ENVELOPE_HEADER_MAX, &envelope, &error), FORGE_OK);
    Forge__V1__ReplyHeader *header = forge__v1__reply_header__unpack(NULL, envelope.header_len, envelope.header);
    assert_non_null(header);
    Forge__V1__Code code = header->code;
    forge__v1__reply_header__free_unpacked(header, NULL);
    if (code == FORGE__V1__CODE__CODE_OK) {
        *out_message = protobuf_c_message_unpack(type, NULL, envelope.payload_len, envelope.payload);
        assert_non_null(*out_message);
    }
    return code;
}

static void assert_pong(const uint8_t *body, size_t size, uint32_t number)
{
    ProtobufCMessage *message = NULL;
    assert_int_equal(reply_read(body, size, &forge__v1__ping_response__descriptor, &message), FORGE__V1__CODE__CODE_OK);
    Forge__V1__PingResponse *pong = (Forge__V1__PingResponse *)message;
    assert_int_equal(pong->payload.len, sizeof number);
    assert_memory_equal(pong->payload.data, &number, sizeof number);
    protobuf_c_message_free_unpacked(message, NULL);
}

static nng_socket dial(const char *url)
{
    nng_socket socket;
    nng_dialer dialer;
    assert_int_equal(nng_req0_open(&socket), 0);
    assert_int_equal(nng_dialer_create(&dialer, socket, url), 0);
    if (strncmp(url, "tls+", 4) == 0) {
        nng_tls_config *tls;
        assert_int_equal(nng_tls_config_alloc(&tls, NNG_TLS_MODE_CLIENT), 0);
        assert_int_equal(nng_tls_config_ca_file(tls, tls_files_path(forged_world_tls(world), "ca.pem")), 0);
        assert_int_equal(nng_tls_config_auth_mode(tls, NNG_TLS_AUTH_MODE_REQUIRED), 0);
        assert_int_equal(nng_tls_config_server_name(tls, "localhost"), 0);
        assert_int_equal(nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, tls), 0);
        nng_tls_config_free(tls);
    }
    int result = nng_dialer_start(dialer, 0);
    if (result != 0)
        fail_msg("cannot dial %s: %s", url, nng_strerror(result));
    return socket;
}

/* One context: sends its share of the calls one after another. */
struct caller {
    nng_ctx ctx;
    nng_aio *send, *receive;
    uint32_t number;
};

static void caller_send(struct caller *caller)
{
    size_t size;
    nng_msg *message;
    uint8_t *body = ping_make(caller->number, &size);
    assert_int_equal(nng_msg_alloc(&message, size), 0);
    memcpy(nng_msg_body(message), body, size);
    free(body);
    nng_aio_set_msg(caller->send, message);
    nng_ctx_send(caller->ctx, caller->send);
}

static void caller_receive(struct caller *caller)
{
    nng_aio_wait(caller->send);
    assert_int_equal(nng_aio_result(caller->send), 0);
    nng_ctx_recv(caller->ctx, caller->receive);
    nng_aio_wait(caller->receive);
    int result = nng_aio_result(caller->receive);
    if (result != 0)
        fail_msg("call %u: %s", caller->number, nng_strerror(result));
    nng_msg *message = nng_aio_get_msg(caller->receive);
    assert_pong(nng_msg_body(message), nng_msg_len(message), caller->number);
    nng_msg_free(message);
}

static void make_calls(const char *url)
{
    struct caller callers[CONTEXTS];
    nng_socket socket = dial(url);
    for (int i = 0; i < CONTEXTS; i++) {
        assert_int_equal(nng_ctx_open(&callers[i].ctx, socket), 0);
        assert_int_equal(nng_aio_alloc(&callers[i].send, NULL, NULL), 0);
        assert_int_equal(nng_aio_alloc(&callers[i].receive, NULL, NULL), 0);
        nng_aio_set_timeout(callers[i].receive, CALL_MS);
    }
    for (uint32_t number = 0; number < CALLS; number += CONTEXTS) {
        for (unsigned i = 0; i < CONTEXTS; i++) {
            callers[i].number = number + i;
            caller_send(&callers[i]);
        }
        for (unsigned i = 0; i < CONTEXTS; i++)
            caller_receive(&callers[i]);
    }
    for (int i = 0; i < CONTEXTS; i++) {
        nng_aio_free(callers[i].send);
        nng_aio_free(callers[i].receive);
        nng_ctx_close(callers[i].ctx);
    }
    nng_close(socket);
    print_message("%d calls over %.6s, each answered with its own payload\n", CALLS, url);
}

static void test_nng_sockets_make_10000_calls_over_ipc(void **state)
{
    struct stat file;
    assert_int_equal(stat(ipc_path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0660);
    make_calls(ipc_url);
}

static void test_nng_sockets_make_10000_calls_over_tls(void **state)
{
    char url[64];
    snprintf(url, sizeof url, "tls+tcp://localhost:%u", forged_child_port(child));
    make_calls(url);
}

static void test_nngcat_pings_over_tls(void **state)
{
    char url[64], path[512];
    size_t size;
    uint8_t *body = ping_make(4711, &size);
    snprintf(url, sizeof url, "tls+tcp://localhost:%u", forged_child_port(child));
    snprintf(path, sizeof path, "%s/ping.bin", forged_world_folder(world));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(body, 1, size, file), size);
    fclose(file);
    free(body);
    const char *arguments[] = {"--req0", "--dial", url,  "--cacert", tls_files_path(forged_world_tls(world), "ca.pem"),
                               "--raw",  "--file", path, NULL};
    char reply_path[512], command[2048];
    snprintf(reply_path, sizeof reply_path, "%s/pong.bin", forged_world_folder(world));
    int len = snprintf(command, sizeof command, "exec nngcat");
    for (size_t i = 0; arguments[i] != NULL; i++)
        len += snprintf(command + len, sizeof command - (size_t)len, " '%s'", arguments[i]);
    snprintf(command + len, sizeof command - (size_t)len, " > '%s'", reply_path);
    struct child_output output;
    child_run("/bin/sh", (const char *[]){"-c", command, NULL}, NULL, NULL, &output);
    if (output.exit_code != 0)
        fail_msg("nngcat ended with %d: %s", output.exit_code, output.err);
    child_output_done(&output);
    uint8_t reply[4096];
    file = fopen(reply_path, "r");
    assert_non_null(file);
    size_t got = fread(reply, 1, sizeof reply, file);
    fclose(file);
    assert_pong(reply, got, 4711);
    unlink(path);
    unlink(reply_path);
}

/* Sends one body over a fresh ipc socket and gives the reply's code; -1 when there is none within the time. */
static int call_over_ipc(const uint8_t *body, size_t size, int timeout_ms)
{
    nng_socket socket = dial(ipc_url);
    nng_msg *message;
    int code = -1;
    assert_int_equal(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, timeout_ms), 0);
    assert_int_equal(nng_msg_alloc(&message, size), 0);
    memcpy(nng_msg_body(message), body, size);
    assert_int_equal(nng_sendmsg(socket, message, 0), 0);
    if (nng_recvmsg(socket, &message, 0) == 0) {
        ProtobufCMessage *reply = NULL;
        code = (int)reply_read(nng_msg_body(message), nng_msg_len(message), &forge__v1__ping_response__descriptor, &reply);
        if (reply != NULL)
            protobuf_c_message_free_unpacked(reply, NULL);
        nng_msg_free(message);
    }
    nng_close(socket);
    return code;
}

/* The same rules as over TLS. */
static void test_nng_bad_calls_over_ipc_get_their_status(void **state)
{
    size_t size;
    Forge__V1__PingRequest ping = FORGE__V1__PING_REQUEST__INIT;
    uint8_t *body = request_make("forge.v1.ControlService/NoSuchMethod", &ping.base, &size);
    assert_int_equal(call_over_ipc(body, size, CALL_MS), FORGE__V1__CODE__CODE_UNIMPLEMENTED);
    free(body);
    body = request_make("forge.v1.ProjectService/ListProjects", &ping.base, &size);
    assert_int_equal(call_over_ipc(body, size, CALL_MS), FORGE__V1__CODE__CODE_UNAUTHENTICATED);
    free(body);
    assert_int_equal(call_over_ipc((const uint8_t *)"garbage", 7, CALL_MS), FORGE__V1__CODE__CODE_INVALID_ARGUMENT);
    static uint8_t zeros[64 << 10];
    ping.payload.data = zeros;
    ping.payload.len = sizeof zeros;
    body = request_make("forge.v1.ControlService/Ping", &ping.base, &size);
    assert_int_equal(call_over_ipc(body, size, CALL_MS), FORGE__V1__CODE__CODE_RESOURCE_EXHAUSTED); /* over 16 KiB without a credential */
    free(body);
}

/* nng closes the connection of a message over its limit, and the others are served on. */
/* By hand, because a stock REQ socket sends such a message again at each reconnect, and nng 1.5.2 may then hang in its own nng_close.
 * nng's ipc framing: the SP header both ways, then per message a byte 1 and the length as 64 bits, big-endian. */
static void test_nng_message_over_the_limit_ends_its_connection(void **state)
{
    const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0}, head[9] = {1, 0, 0, 0, 0, 0, 0x40, 0x04, 0}; /* 4 MiB + 1 KiB */
    const struct timeval limit = {.tv_sec = CALL_MS / 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t answer[8];
    assert_true(strlen(ipc_path) < sizeof address.sun_path);
    strcpy(address.sun_path, ipc_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(send(fd, hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    assert_int_equal(send(fd, head, sizeof head, MSG_NOSIGNAL), sizeof head);
    ssize_t got = recv(fd, answer, sizeof answer, 0);
    assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
    close(fd);

    size_t size;
    uint8_t *body = ping_make(1, &size);
    assert_int_equal(call_over_ipc(body, size, CALL_MS), FORGE__V1__CODE__CODE_OK);
    free(body);
}

/* Calls that hang in the air when the server goes: it still ends in time, and a new one takes the address over. */
static void test_nng_server_ends_with_clients_connected(void **state)
{
    nng_socket socket = dial(ipc_url);
    size_t size;
    uint8_t *body = ping_make(2, &size);
    forged_child_stop(child);
    child = serve();
    assert_int_equal(call_over_ipc(body, size, CALL_MS), FORGE__V1__CODE__CODE_OK);
    free(body);
    nng_close(socket);
}

/* After kill -9 the socket file is still there: the next server takes it over. */
static void test_nng_stale_socket_file_is_taken_over(void **state)
{
    size_t size;
    uint8_t *body = ping_make(3, &size);
    forged_child_kill(child);
    assert_int_equal(access(ipc_path, F_OK), 0);
    child = serve();
    assert_int_equal(call_over_ipc(body, size, CALL_MS), FORGE__V1__CODE__CODE_OK);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nng_sockets_make_10000_calls_over_ipc),
        cmocka_unit_test(test_nng_sockets_make_10000_calls_over_tls),
        cmocka_unit_test(test_nngcat_pings_over_tls),
        cmocka_unit_test(test_nng_bad_calls_over_ipc_get_their_status),
        cmocka_unit_test(test_nng_message_over_the_limit_ends_its_connection),
        cmocka_unit_test(test_nng_server_ends_with_clients_connected),
        cmocka_unit_test(test_nng_stale_socket_file_is_taken_over),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
