#include "support/tls_files.h"
#include "wire/tls.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct row {
    const char *certificate, *key, *ca, *crl; /* names in the directory; NULL = not set */
    bool server;
    enum forge_tls_client_auth client_auth;
    const char *message; /* part of it; NULL = loads */
};

static const char *path_or_null(const struct tls_files *files, const char *name)
{
    return name ? tls_files_path(files, name) : NULL;
}

static void check_row(const struct tls_files *files, const struct row *row)
{
    struct forge_tls_config config = {.server = row->server,
                                      .certificate_file = path_or_null(files, row->certificate),
                                      .key_file = path_or_null(files, row->key),
                                      .ca_file = path_or_null(files, row->ca),
                                      .crl_file = path_or_null(files, row->crl),
                                      .client_auth = row->client_auth};
    struct forge_tls *tls = NULL;
    struct forge_error error = {0};
    forge_code code = forge_tls_new(&config, &tls, &error);
    if (!row->message) {
        assert_string_equal(error.message, "");
        assert_int_equal(code, FORGE_OK);
        assert_non_null(tls);
        assert_ptr_equal(forge_tls_ref(tls), tls);
        forge_tls_unref(tls);
        forge_tls_unref(tls);
        return;
    }
    assert_int_equal(code, FORGE_FAILED_PRECONDITION);
    assert_null(tls);
    if (!strstr(error.message, row->message))
        fail_msg("\"%s\" does not say \"%s\"", error.message, row->message);
}

static void test_tls_files_good(void **state)
{
    static const struct row rows[] = {
        {.server = true, .certificate = "server.pem", .key = "server.key"},
        {.server = true, .certificate = "server-chain.pem", .key = "server-chain.key"},
        {.server = true, .certificate = "server.pem", .key = "server.key", .ca = "ca.pem", .client_auth = FORGE_TLS_CLIENT_OPTIONAL},
        {.server = true,
         .certificate = "server.pem",
         .key = "server.key",
         .ca = "ca.pem",
         .crl = "crl.pem",
         .client_auth = FORGE_TLS_CLIENT_REQUIRED},
        {.server = false},
        {.server = false, .ca = "ca.pem"},
        {.server = false, .ca = "ca.pem", .crl = "crl-empty.pem", .certificate = "client.pem", .key = "client.key"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(*state, &rows[i]);
}

static void test_tls_files_bad_are_named_with_the_reason(void **state)
{
    static const struct row rows[] = {
        {.server = true, .message = "certificate file: required for a server"},
        {.server = true, .certificate = "server.pem", .message = "key file: required with a certificate file"},
        {.server = true, .certificate = "none.pem", .key = "server.key", .message = "none.pem: No such file or directory"},
        {.server = true, .certificate = "server.pem", .key = "none.key", .message = "none.key: No such file or directory"},
        {.server = true, .certificate = "empty.pem", .key = "server.key", .message = "empty.pem: the file is empty"},
        {.server = true, .certificate = "garbage.pem", .key = "server.key", .message = "certificate file "},
        {.server = true, .certificate = "server.key", .key = "server.key", .message = "server.key: no start line"},
        {.server = true, .certificate = "server.pem", .key = "garbage.pem", .message = "key file "},
        {.server = true,
         .certificate = "server.pem",
         .key = "expired.key",
         .message = "expired.key: the key does not match the certificate"},
        {.server = true, .certificate = "server.pem", .key = "encrypted.key", .message = "encrypted.key: the key is encrypted"},
        {.server = true,
         .certificate = "server.pem",
         .key = "server.key",
         .client_auth = FORGE_TLS_CLIENT_REQUIRED,
         .message = "CA file: required to verify client certificates"},
        {.server = true,
         .certificate = "server.pem",
         .key = "server.key",
         .crl = "crl.pem",
         .message = "CA file: required with a CRL file"},
        {.server = true, .certificate = "server.pem", .key = "server.key", .ca = "none.pem", .message = "CA file "},
        {.server = true, .certificate = "server.pem", .key = "server.key", .ca = "garbage.pem", .message = "garbage.pem: "},
        {.server = true, .certificate = "server.pem", .key = "server.key", .ca = "ca.pem", .crl = "none.pem", .message = "CRL file "},
        {.server = true, .certificate = "server.pem", .key = "server.key", .ca = "ca.pem", .crl = "ca.pem", .message = "CRL file "},
        {.server = false, .ca = "empty.pem", .message = "empty.pem: the file is empty"},
        {.server = false, .certificate = "client.pem", .message = "key file: required with a certificate file"},
        {.server = false,
         .certificate = "client.pem",
         .key = "server.key",
         .message = "server.key: the key does not match the certificate"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(*state, &rows[i]);
}

static void test_tls_directory_instead_of_a_file_is_refused(void **state)
{
    const struct tls_files *files = *state;
    struct forge_tls_config config = {
        .server = true, .certificate_file = tls_files_directory(files), .key_file = tls_files_path(files, "server.key")};
    struct forge_tls *tls = NULL;
    struct forge_error error = {0};
    assert_int_equal(forge_tls_new(&config, &tls, &error), FORGE_FAILED_PRECONDITION);
    assert_non_null(strstr(error.message, "Is a directory"));
    forge_tls_unref(NULL);
}

static int set_up(void **state)
{
    *state = tls_files_new();
    return 0;
}

static int tear_down(void **state)
{
    tls_files_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_files_good),
        cmocka_unit_test(test_tls_files_bad_are_named_with_the_reason),
        cmocka_unit_test(test_tls_directory_instead_of_a_file_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
