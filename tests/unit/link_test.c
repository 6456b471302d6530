/* One link, or a few: opening, calling, closing, refusing. Limits of time and size are in link_limits_test.c. */
#include "support/link_peer.h"
#include "wire/clock.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WAIT_MS = 20000 };

static struct tls_files *files;

struct pair {
    struct link_server server;
    struct forge_loops *loops; /* the client's */
    struct forge_tls *server_tls, *client_tls;
};

static void pair_start(struct pair *pair, const char *certificate, enum forge_tls_client_auth client_auth, const char *client_certificate)
{
    pair->server_tls = link_server_tls(files, certificate, client_auth);
    pair->client_tls = link_client_tls(files, client_certificate);
    struct forge_link_options options = link_test_options(pair->server_tls);
    link_server_start(&pair->server, "127.0.0.1", &options, 2);
    pair->loops = link_loops(1);
}

static void pair_stop(struct pair *pair)
{
    forge_loops_free(pair->loops);
    link_server_stop(&pair->server);
    assert_int_equal(pair->server.closed, pair->server.accepted); /* every accepted link told its end */
    forge_tls_unref(pair->server_tls);
    forge_tls_unref(pair->client_tls);
}

/* Dials once and returns how it ended. */
static struct link_caller attempt(struct pair *pair, const char *host)
{
    struct link_caller caller = {.calls = 3, .reply_size = 100};
    assert_true(link_caller_dial(&caller, pair->loops, host, pair->server.port, link_test_options(pair->client_tls)));
    assert_true(LINK_WAIT(caller.done || caller.closed, WAIT_MS));
    assert_true(link_caller_finish(&caller));
    assert_int_equal(caller.closed, 1);
    return caller;
}

/* ---- calling ---- */

static void test_link_echoes_by_address_and_by_name(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    static const char *hosts[] = {"127.0.0.1", "localhost", "localhost"}; /* localhost may be ::1 first, where nobody listens */
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct link_caller caller = attempt(&pair, hosts[i]);
        assert_int_equal(caller.frames, 3);
        assert_int_equal(caller.wrong, 0);
        assert_int_equal(caller.why, FORGE_LINK_LOCAL);
        assert_true(caller.peer.verified);
        assert_string_equal(caller.peer.common_name, "localhost");
    }
    assert_string_equal(LINK_READ(pair.server).last_address, "127.0.0.1");
    pair_stop(&pair);
}

static void test_link_every_address_means_ipv4_and_ipv6(void **state)
{
    (void)state;
    struct pair pair = {.server_tls = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE), .client_tls = link_client_tls(files, NULL)};
    struct forge_link_options options = link_test_options(pair.server_tls);
    link_server_start(&pair.server, "::", &options, 1);
    pair.loops = link_loops(1);
    assert_int_equal(attempt(&pair, "127.0.0.1").frames, 3);
    assert_string_equal(LINK_READ(pair.server).last_address, "127.0.0.1");
    if (access("/proc/net/if_inet6", F_OK) == 0) {
        assert_int_equal(attempt(&pair, "::1").frames, 3);
        assert_string_equal(LINK_READ(pair.server).last_address, "::1");
    }
    pair_stop(&pair);
}

static void test_link_many_calls_of_every_size_come_back_byte_for_byte(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 100, 16371, 16372, 16373, 70000, 1 << 20};
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct link_caller caller = {.calls = sizes[i] > 100000 ? 20 : 500, .window = 64, .reply_size = sizes[i]};
        assert_true(link_caller_dial(&caller, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
        assert_true(LINK_WAIT(caller.done, WAIT_MS));
        assert_true(link_caller_finish(&caller));
        assert_int_equal(caller.wrong, 0);
        assert_int_equal(caller.unsent, 0);
    }
    pair_stop(&pair);
}

struct sender {
    pthread_t thread;
    struct link_caller *caller;
    int first, count, failed;
};

static void *send_some(void *argument)
{
    struct sender *sender = argument;
    for (int i = 0; i < sender->count; i++)
        sender->failed += link_caller_ask(sender->caller, (uint32_t)(sender->first + i)) != FORGE_OK;
    return NULL;
}

static void test_link_sends_from_many_threads_are_all_answered(void **state)
{
    (void)state;
    enum { THREADS = 4, EACH = 500 };
    struct pair pair = {0};
    struct sender senders[THREADS];
    struct link_caller caller = {.reply_size = 300};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    assert_true(link_caller_dial(&caller, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    assert_true(LINK_WAIT(caller.opened, WAIT_MS));
    for (int i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){.caller = &caller, .first = i * EACH, .count = EACH};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_some, &senders[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(senders[i].thread, NULL);
        assert_int_equal(senders[i].failed, 0);
    }
    assert_true(LINK_WAIT(caller.frames == THREADS * EACH, WAIT_MS));
    assert_int_equal(LINK_READ(caller.wrong), 0);
    assert_true(link_caller_finish(&caller));
    pair_stop(&pair);
}

static void test_link_send_before_opened_after_close_and_over_the_bound_is_refused(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(silent, (struct sockaddr *)(void *)&address, length), 0);
    assert_int_equal(listen(silent, 1), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)(void *)&address, &length), 0);

    struct link_caller never = {0}, caller = {0};
    assert_true(link_caller_dial(&never, pair.loops, "127.0.0.1", ntohs(address.sin_port), link_test_options(pair.client_tls)));
    assert_int_equal(link_caller_ask(&never, 1), FORGE_UNAVAILABLE);
    assert_true(link_caller_finish(&never));
    close(silent);

    struct forge_link_options options = link_test_options(pair.client_tls);
    options.pending_max = 1000;
    assert_true(link_caller_dial(&caller, pair.loops, "127.0.0.1", pair.server.port, options));
    assert_true(LINK_WAIT(caller.opened, WAIT_MS));
    const uint8_t stack[4] = {0x80, 0, 0, 1};
    struct forge_link_send send;
    assert_int_equal(forge_link_send_begin(caller.link, stack, 4, 1001, &send), FORGE_RESOURCE_EXHAUSTED);
    assert_int_equal(forge_link_send_begin(caller.link, stack, 4, SIZE_MAX, &send), FORGE_RESOURCE_EXHAUSTED);
    assert_int_equal(forge_link_send_begin(caller.link, stack, 4, 1000, &send), FORGE_OK);
    forge_link_send_abort(&send);
    forge_link_close(caller.link);
    assert_int_equal(link_caller_ask(&caller, 1), FORGE_UNAVAILABLE);
    assert_true(link_caller_finish(&caller));
    assert_int_equal(LINK_READ(pair.server.frames), 0); /* what was aborted never left */
    pair_stop(&pair);
}

static void test_link_reply_committed_before_close_arrives(void **state)
{
    (void)state;
    struct pair pair = {.server.close_on_frame = true};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    for (int i = 0; i < 50; i++) {
        struct link_caller caller = {.calls = 1, .reply_size = 5000};
        assert_true(link_caller_dial(&caller, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
        assert_true(LINK_WAIT(caller.closed, WAIT_MS));
        assert_int_equal(caller.frames, 1);
        assert_int_equal(caller.wrong, 0);
        assert_int_equal(caller.why, FORGE_LINK_EOF); /* an orderly end, not a reset */
        assert_true(link_caller_finish(&caller));
    }
    pair_stop(&pair);
}

/* ---- certificates ---- */

static void test_link_refuses_servers_that_are_not_who_was_dialled(void **state)
{
    (void)state;
    static const char *certificates[] = {"wrong-name", "wrong-ca", "expired", "self-signed"};
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    for (size_t i = 0; i < sizeof certificates / sizeof *certificates; i++) {
        struct forge_tls *tls = link_server_tls(files, certificates[i], FORGE_TLS_CLIENT_NONE);
        forge_link_listener_set_tls(pair.server.listener, tls);
        forge_tls_unref(tls);
        static const char *hosts[] = {"127.0.0.1", "localhost"};
        for (size_t h = 0; h < sizeof hosts / sizeof *hosts; h++) {
            struct link_caller caller = attempt(&pair, hosts[h]);
            if (caller.opened || caller.why != FORGE_LINK_TLS)
                fail_msg("%s by %s: opened %d, %s", certificates[i], hosts[h], caller.opened, forge_link_why_text(caller.why));
        }
    }
    assert_int_equal(LINK_READ(pair.server.opened), 0);
    pair_stop(&pair);
}

static void test_link_accepts_a_chain_with_an_intermediate(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server-chain", FORGE_TLS_CLIENT_NONE, NULL);
    assert_int_equal(attempt(&pair, "localhost").frames, 3);
    pair_stop(&pair);
}

static void test_link_checks_the_server_name_of_a_dialled_address(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "wrong-name", FORGE_TLS_CLIENT_NONE, NULL);
    struct forge_link_options options = link_test_options(pair.client_tls);
    static const char *names[] = {"other.example", "another.example"};
    for (int i = 0; i < 2; i++) {
        struct link_caller caller = {.calls = 1, .reply_size = 10};
        options.server_name = names[i];
        assert_true(link_caller_dial(&caller, pair.loops, "127.0.0.1", pair.server.port, options));
        assert_true(LINK_WAIT(caller.done || caller.closed, WAIT_MS));
        assert_int_equal(LINK_READ(caller.opened), i == 0);
        assert_true(link_caller_finish(&caller));
    }
    pair_stop(&pair);
}

static struct forge_tls *with_revocations(bool server, enum forge_tls_client_auth client_auth)
{
    struct forge_tls_config config = {.server = server,
                                      .ca_file = tls_files_path(files, "ca.pem"),
                                      .crl_file = tls_files_path(files, "crl.pem"),
                                      .client_auth = client_auth};
    if (server) {
        config.certificate_file = tls_files_path(files, "server.pem");
        config.key_file = tls_files_path(files, "server.key");
    }
    struct forge_tls *tls = NULL;
    struct forge_error error = {0};
    assert_int_equal(forge_tls_new(&config, &tls, &error), FORGE_OK);
    return tls;
}

static void test_link_refuses_a_revoked_server_when_given_the_list(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "revoked", FORGE_TLS_CLIENT_NONE, NULL);
    assert_int_equal(attempt(&pair, "localhost").frames, 3);
    forge_tls_unref(pair.client_tls);
    pair.client_tls = with_revocations(false, FORGE_TLS_CLIENT_NONE);
    struct link_caller caller = attempt(&pair, "localhost");
    assert_int_equal(caller.opened, 0);
    assert_int_equal(caller.why, FORGE_LINK_TLS);
    forge_link_listener_set_tls(pair.server.listener, pair.server_tls);
    struct forge_tls *good = link_server_tls(files, "server", FORGE_TLS_CLIENT_NONE);
    forge_link_listener_set_tls(pair.server.listener, good);
    forge_tls_unref(good);
    assert_int_equal(attempt(&pair, "localhost").frames, 3);
    pair_stop(&pair);
}

static void test_link_optional_client_certificate_gives_the_peers_identity(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_OPTIONAL, "client");
    assert_int_equal(attempt(&pair, "127.0.0.1").frames, 3);
    struct forge_tls_peer peer = LINK_READ(pair.server.last_peer);
    assert_true(peer.verified);
    assert_string_equal(peer.spiffe_id, "spiffe://example.org/service/alpha");
    assert_string_equal(peer.common_name, "alpha");

    X509 *certificate = NULL;
    FILE *file = fopen(tls_files_path(files, "client.pem"), "r");
    assert_non_null(file);
    assert_non_null(PEM_read_X509(file, &certificate, NULL, NULL));
    fclose(file);
    unsigned char *encoded = NULL;
    uint8_t digest[32];
    int length = i2d_PUBKEY(X509_get0_pubkey(certificate), &encoded);
    assert_true(length > 0 && EVP_Digest(encoded, (size_t)length, digest, NULL, EVP_sha256(), NULL));
    assert_memory_equal(peer.key_sha256, digest, 32);
    OPENSSL_free(encoded);
    X509_free(certificate);

    forge_tls_unref(pair.client_tls);
    pair.client_tls = link_client_tls(files, "client-plain");
    assert_int_equal(attempt(&pair, "127.0.0.1").frames, 3);
    peer = LINK_READ(pair.server.last_peer);
    assert_true(peer.verified);
    assert_string_equal(peer.spiffe_id, "");
    assert_string_equal(peer.common_name, "plain");

    forge_tls_unref(pair.client_tls);
    pair.client_tls = link_client_tls(files, NULL);
    assert_int_equal(attempt(&pair, "127.0.0.1").frames, 3);
    assert_false(LINK_READ(pair.server.last_peer.verified));
    pair_stop(&pair);
}

static void test_link_refuses_client_certificates_that_do_not_verify(void **state)
{
    (void)state;
    static const struct {
        enum forge_tls_client_auth client_auth;
        const char *certificate;
    } rows[] = {{FORGE_TLS_CLIENT_REQUIRED, NULL},
                {FORGE_TLS_CLIENT_REQUIRED, "client-wrong-ca"},
                {FORGE_TLS_CLIENT_REQUIRED, "client-expired"},
                {FORGE_TLS_CLIENT_REQUIRED, "client-revoked"},
                {FORGE_TLS_CLIENT_OPTIONAL, "client-wrong-ca"},
                {FORGE_TLS_CLIENT_OPTIONAL, "client-expired"},
                {FORGE_TLS_CLIENT_OPTIONAL, "client-revoked"}};
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct forge_tls *tls = with_revocations(true, rows[i].client_auth);
        forge_link_listener_set_tls(pair.server.listener, tls);
        forge_tls_unref(tls);
        forge_tls_unref(pair.client_tls);
        pair.client_tls = link_client_tls(files, rows[i].certificate);
        struct link_caller caller = attempt(&pair, "127.0.0.1");
        /* The alert may be overtaken by a reset, but nothing opens. */
        if (caller.opened || caller.why == FORGE_LINK_LOCAL)
            fail_msg("row %zu: opened %d, %s", i, caller.opened, forge_link_why_text(caller.why));
    }
    assert_true(LINK_WAIT(pair.server.why[FORGE_LINK_TLS] == sizeof rows / sizeof *rows, WAIT_MS));
    assert_int_equal(LINK_READ(pair.server.opened), 0);
    pair_stop(&pair);
}

static void test_link_tls12_is_refused_unless_allowed(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    SSL_CTX *old = link_raw_context(files, NULL);
    assert_int_equal(SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION), 1);
    struct link_raw raw;
    assert_false(link_raw_open(&raw, old, pair.server.port, 0));
    link_raw_close(&raw);
    assert_true(LINK_WAIT(pair.server.why[FORGE_LINK_TLS] == 1, WAIT_MS));

    struct forge_tls_config config = {.server = true,
                                      .certificate_file = tls_files_path(files, "server.pem"),
                                      .key_file = tls_files_path(files, "server.key"),
                                      .allow_tls12 = true};
    struct forge_tls *tls = NULL;
    struct forge_error error = {0};
    assert_int_equal(forge_tls_new(&config, &tls, &error), FORGE_OK);
    forge_link_listener_set_tls(pair.server.listener, tls);
    forge_tls_unref(tls);
    assert_true(link_raw_open(&raw, old, pair.server.port, 0));
    assert_string_equal(SSL_get_version(raw.ssl), "TLSv1.2");
    uint8_t request[112], reply[12 + 50];
    assert_int_equal(SSL_write(raw.ssl, request, (int)link_raw_request(request, 7, 50)), sizeof request);
    assert_int_equal(SSL_read(raw.ssl, reply, sizeof reply), sizeof reply);
    assert_memory_equal(reply + 12, link_pattern + 7, 50);
    assert_int_equal(SSL_renegotiate(raw.ssl), 1);
    assert_int_not_equal(SSL_do_handshake(raw.ssl), 1); /* refused with an alert */
    link_raw_close(&raw);
    SSL_CTX_free(old);
    assert_int_equal(attempt(&pair, "127.0.0.1").frames, 3); /* TLS 1.3 goes on */
    pair_stop(&pair);
}

struct verify_count {
    struct forge_tls *tls;
    int yes, no;
};

static void verifies(struct forge_link *link, void *user, void *argument)
{
    (void)user;
    struct verify_count *count = argument;
    bool ok = forge_link_peer_verifies(link, count->tls);
    link_lock();
    count->yes += ok;
    count->no += !ok;
    link_unlock();
}

static void test_link_reload_changes_new_links_and_judges_old_ones(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_OPTIONAL, "client-revoked");
    struct link_caller old = {.reply_size = 10}, young = {.reply_size = 10}, none = {0};
    assert_true(link_caller_dial(&old, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    struct forge_tls *bare = link_client_tls(files, NULL);
    assert_true(link_caller_dial(&none, pair.loops, "127.0.0.1", pair.server.port, link_test_options(bare)));
    forge_tls_unref(bare); /* the link has its own reference */
    assert_true(LINK_WAIT(pair.server.opened == 2 && old.opened && none.opened, WAIT_MS));

    struct forge_tls *fresh = link_server_tls(files, "server-new", FORGE_TLS_CLIENT_OPTIONAL);
    forge_link_listener_set_tls(pair.server.listener, fresh);
    forge_tls_unref(fresh);
    assert_true(link_caller_dial(&young, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    assert_true(LINK_WAIT(young.opened && pair.server.opened == 3, WAIT_MS));
    assert_memory_not_equal(LINK_READ(young.peer).key_sha256, LINK_READ(old.peer).key_sha256, 32);
    assert_int_equal(link_caller_ask(&old, 5), FORGE_OK);
    assert_true(LINK_WAIT(old.frames == 1, WAIT_MS)); /* the old one goes on */
    assert_int_equal(LINK_READ(old.wrong), 0);

    struct verify_count count = {.tls = with_revocations(true, FORGE_TLS_CLIENT_OPTIONAL)};
    forge_link_for_each(pair.server.loops, verifies, &count);
    assert_int_equal(count.yes, 1); /* the one without a certificate */
    assert_int_equal(count.no, 2);
    forge_tls_unref(count.tls);
    assert_int_equal(forge_link_count(pair.server.loops), 3);
    assert_true(link_caller_finish(&old));
    assert_true(link_caller_finish(&young));
    assert_true(link_caller_finish(&none));
    pair_stop(&pair);
}

/* ---- dialling and listening ---- */

static void test_link_failed_dials_say_why(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    uint16_t port = pair.server.port;
    forge_link_listener_close(pair.server.listener);
    pair.server.listener = NULL;
    pair.server.port = port;
    assert_int_equal(attempt(&pair, "127.0.0.1").why, FORGE_LINK_DIAL);
    assert_int_equal(attempt(&pair, "localhost").why, FORGE_LINK_DIAL);
    assert_int_equal(attempt(&pair, "nosuch.invalid").why, FORGE_LINK_RESOLVE);
    assert_int_equal(attempt(&pair, "bad..name").why, FORGE_LINK_RESOLVE);
    pair_stop(&pair);
}

static void test_link_dial_refuses_bad_arguments(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    char long_name[300];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    const struct {
        const char *host;
        uint16_t port;
        struct forge_tls *tls;
        const char *message;
    } rows[] = {{"", 1, pair.client_tls, "host: must have 1 to 253"},
                {long_name, 1, pair.client_tls, "host: must have 1 to 253"},
                {"127.0.0.1", 0, pair.client_tls, "port: must be 1 to 65535"},
                {"127.0.0.1", 1, pair.server_tls, "tls: a server's"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct forge_link_options options = link_test_options(rows[i].tls);
        struct forge_link *link = NULL;
        struct forge_error error = {0};
        options.callbacks = &link_caller_callbacks;
        assert_int_equal(forge_link_dial(pair.loops, NULL, rows[i].host, rows[i].port, &options, &link, &error), FORGE_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, rows[i].message));
        assert_null(link);
    }
    assert_int_equal(forge_link_count(pair.loops), 0);
    pair_stop(&pair);
}

static void test_link_listen_says_what_is_wrong_with_the_address(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    const struct {
        const char *host;
        uint16_t port;
        struct forge_tls *tls;
        forge_code code;
        const char *message;
    } rows[] = {{"127.0.0.1", pair.server.port, pair.server_tls, FORGE_UNAVAILABLE, "Address already in use"},
                {"192.0.2.1", 0, pair.server_tls, FORGE_INVALID_ARGUMENT, "Cannot assign requested address"},
                {"nosuch.invalid", 0, pair.server_tls, FORGE_INVALID_ARGUMENT, "listen address nosuch.invalid"},
                {"127.0.0.1", 0, pair.client_tls, FORGE_INVALID_ARGUMENT, "tls: a client's"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct forge_link_options options = link_test_options(rows[i].tls);
        struct forge_link_listener *listener = NULL;
        struct forge_error error = {0};
        uint16_t port = 0;
        forge_code code = forge_link_listen(pair.loops, rows[i].host, rows[i].port, &options, &listener, &port, &error);
        assert_int_equal(code, rows[i].code);
        if (!strstr(error.message, rows[i].message))
            fail_msg("\"%s\" does not say \"%s\"", error.message, rows[i].message);
        assert_null(listener);
    }
    pair_stop(&pair);
}

static void test_link_open_links_stay_when_the_listener_closes(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    struct link_caller caller = {.reply_size = 10};
    assert_true(link_caller_dial(&caller, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    assert_true(LINK_WAIT(caller.opened, WAIT_MS));
    forge_link_listener_close(pair.server.listener);
    pair.server.listener = NULL;
    assert_int_equal(link_caller_ask(&caller, 1), FORGE_OK);
    assert_true(LINK_WAIT(caller.frames == 1, WAIT_MS));
    assert_true(link_caller_finish(&caller));
    pair_stop(&pair);
}

static void test_link_loops_free_ends_dials_links_and_listeners(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    struct link_caller open = {0}, resolving = {0}, dialling = {0};
    assert_true(link_caller_dial(&open, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    assert_true(LINK_WAIT(open.opened, WAIT_MS));
    assert_true(link_caller_dial(&resolving, pair.loops, "nosuch.invalid", 1, link_test_options(pair.client_tls)));
    assert_true(link_caller_dial(&dialling, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    forge_loops_free(pair.loops);
    pair.loops = NULL;
    assert_int_equal(LINK_READ(open.closed + resolving.closed + dialling.closed), 3);
    assert_int_equal(LINK_READ(open.why), FORGE_LINK_LOCAL);
    forge_link_unref(open.link);
    forge_link_unref(resolving.link);
    forge_link_unref(dialling.link);
    pair.server.listener = NULL; /* not closed by us: the loops do it */
    pair_stop(&pair);
}

static void test_link_survives_a_fork_with_it_open(void **state)
{
    (void)state;
    struct pair pair = {0};
    pair_start(&pair, "server", FORGE_TLS_CLIENT_NONE, NULL);
    struct link_caller first = {.reply_size = 10}, second = {.reply_size = 10};
    assert_true(link_caller_dial(&first, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    assert_true(link_caller_dial(&second, pair.loops, "127.0.0.1", pair.server.port, link_test_options(pair.client_tls)));
    assert_true(LINK_WAIT(first.opened && second.opened, WAIT_MS));
    int hold[2];
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    if (child == 0) { /* holds every descriptor until the parent is done; frees what is not its own, which must do nothing */
        char byte;
        close(hold[1]);
        forge_loops_free(pair.loops);
        _exit(read(hold[0], &byte, 1) == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    close(hold[0]);
    assert_true(link_caller_finish(&first)); /* its socket lives on in the child */
    for (int i = 0; i < 100; i++)
        assert_int_equal(link_caller_ask(&second, (uint32_t)i), FORGE_OK);
    assert_true(LINK_WAIT(second.frames == 100, WAIT_MS));
    assert_int_equal(LINK_READ(second.wrong), 0);
    struct link_caller third = attempt(&pair, "localhost"); /* the resolver too */
    assert_int_equal(third.frames, 3);
    assert_true(link_caller_finish(&second));
    close(hold[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pair_stop(&pair);
}

static void test_link_reasons_have_texts(void **state)
{
    (void)state;
    for (int why = FORGE_LINK_LOCAL; why <= FORGE_LINK_MEMORY; why++)
        assert_string_not_equal(forge_link_why_text((enum forge_link_why)why), "unknown");
}

static int set_up(void **state)
{
    (void)state;
    files = tls_files_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_files_free(files);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link_echoes_by_address_and_by_name),
        cmocka_unit_test(test_link_every_address_means_ipv4_and_ipv6),
        cmocka_unit_test(test_link_many_calls_of_every_size_come_back_byte_for_byte),
        cmocka_unit_test(test_link_sends_from_many_threads_are_all_answered),
        cmocka_unit_test(test_link_send_before_opened_after_close_and_over_the_bound_is_refused),
        cmocka_unit_test(test_link_reply_committed_before_close_arrives),
        cmocka_unit_test(test_link_refuses_servers_that_are_not_who_was_dialled),
        cmocka_unit_test(test_link_accepts_a_chain_with_an_intermediate),
        cmocka_unit_test(test_link_checks_the_server_name_of_a_dialled_address),
        cmocka_unit_test(test_link_refuses_a_revoked_server_when_given_the_list),
        cmocka_unit_test(test_link_optional_client_certificate_gives_the_peers_identity),
        cmocka_unit_test(test_link_refuses_client_certificates_that_do_not_verify),
        cmocka_unit_test(test_link_tls12_is_refused_unless_allowed),
        cmocka_unit_test(test_link_reload_changes_new_links_and_judges_old_ones),
        cmocka_unit_test(test_link_failed_dials_say_why),
        cmocka_unit_test(test_link_dial_refuses_bad_arguments),
        cmocka_unit_test(test_link_listen_says_what_is_wrong_with_the_address),
        cmocka_unit_test(test_link_open_links_stay_when_the_listener_closes),
        cmocka_unit_test(test_link_loops_free_ends_dials_links_and_listeners),
        cmocka_unit_test(test_link_survives_a_fork_with_it_open),
        cmocka_unit_test(test_link_reasons_have_texts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
