/* OrganizationService over TLS: service accounts, their tokens, API keys and client certificates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLENTY_S = 5 };

static struct service_tenant alpha, beta;
static struct forged_child *mutual[2]; /* two servers that look at client certificates */
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";
static const char *const alpha_uri = "spiffe://example.org/service/alpha"; /* of client.pem */

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    char authority[1024];
    snprintf(authority, sizeof authority, "--tls-ca-file=%s", tls_files_path(forged_world_tls(service_world()), "ca.pem"));
    for (int i = 0; i < 2; i++)
        mutual[i] = forged_world_serve(service_world(), (const char *[]){"--tls-client-auth=optional", authority, NULL});
    return 0;
}

static int end(void **state)
{
    for (int i = 0; i < 2; i++)
        forged_child_stop(mutual[i]);
    return service_end(state);
}

/* certificate: "client", ... or NULL. Closed by the caller. */
static struct forge_channel *open_mutual(int server, const char *certificate, const char *token)
{
    struct tls_files *files = forged_world_tls(service_world());
    char certificate_file[64], key_file[64];
    struct forge_channel_options options = {.addresses = forged_child_address(mutual[server]),
                                            .token = token,
                                            .ca_file = tls_files_path(files, "ca.pem"),
                                            .default_timeout_ms = 30000};
    if (certificate != NULL) {
        snprintf(certificate_file, sizeof certificate_file, "%s.pem", certificate);
        snprintf(key_file, sizeof key_file, "%s.key", certificate);
        options.certificate_file = tls_files_path(files, certificate_file);
        options.key_file = tls_files_path(files, key_file);
    }
    struct forge_channel *channel;
    service_ok(forge_channel_open(&options, &channel, &service_error));
    return channel;
}

/* SHA-256 of the public key of a certificate, as the API has it. */
static char *public_key(const char *certificate_file)
{
    static char text[65];
    unsigned char *encoded = NULL, digest[32];
    X509 *certificate = NULL;
    FILE *file = fopen(tls_files_path(forged_world_tls(service_world()), certificate_file), "r");
    assert_non_null(file);
    assert_non_null(PEM_read_X509(file, &certificate, NULL, NULL));
    fclose(file);
    int length = i2d_PUBKEY(X509_get0_pubkey(certificate), &encoded);
    assert_true(length > 0 && EVP_Digest(encoded, (size_t)length, digest, NULL, EVP_sha256(), NULL));
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    OPENSSL_free(encoded);
    X509_free(certificate);
    return text;
}

static Forge__V1__CreateServiceAccountRequest new_account(const char *name, Forge__V1__Role role)
{
    Forge__V1__CreateServiceAccountRequest request = FORGE__V1__CREATE_SERVICE_ACCOUNT_REQUEST__INIT;
    request.name = TEXT(name);
    request.role = role;
    return request;
}

static forge_code create(struct forge_channel *channel, const Forge__V1__CreateServiceAccountRequest *request,
                         Forge__V1__ServiceAccount **out)
{
    return forge_organization_create_service_account(channel, NULL, request, out, &service_error);
}

static forge_code delete_account(struct forge_channel *channel, const char *id)
{
    Forge__V1__DeleteServiceAccountRequest request = FORGE__V1__DELETE_SERVICE_ACCOUNT_REQUEST__INIT;
    Google__Protobuf__Empty *reply;
    request.id = TEXT(id);
    forge_code rc = forge_organization_delete_service_account(channel, NULL, &request, &reply, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(reply, NULL);
    return rc;
}

static void delete_and_free(Forge__V1__ServiceAccount *account)
{
    service_ok(delete_account(alpha.admin, account->id));
    forge__v1__service_account__free_unpacked(account, NULL);
}

static forge_code who(struct forge_channel *channel, Forge__V1__WhoAmIResponse **out)
{
    Forge__V1__WhoAmIRequest request = FORGE__V1__WHO_AM_IREQUEST__INIT;
    return forge_organization_who_am_i(channel, NULL, &request, out, &service_error);
}

static forge_code ask(struct forge_channel *channel)
{
    Forge__V1__WhoAmIResponse *reply;
    forge_code rc = who(channel, &reply);
    if (rc == FORGE_OK)
        forge__v1__who_am_iresponse__free_unpacked(reply, NULL);
    return rc;
}

/* Asks until it is refused, and how long that took. */
static double refused_after_s(struct forge_channel *channel)
{
    struct timespec began, now;
    forge_code rc;
    clock_gettime(CLOCK_MONOTONIC, &began);
    do {
        rc = ask(channel);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (rc == FORGE_OK && now.tv_sec - began.tv_sec < PLENTY_S);
    service_fails(rc, FORGE_UNAUTHENTICATED, "");
    return (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9;
}

/* Until both servers have heard that client.pem is nobody's any more: the next test gives it to another account. */
static void wait_forgotten(void)
{
    for (int i = 0; i < 2; i++) {
        struct forge_channel *channel = open_mutual(i, "client", NULL);
        refused_after_s(channel);
        forge_channel_close(channel);
    }
}

static forge_code make_project(struct forge_channel *channel, const char *name)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    request.name = TEXT(name);
    forge_code rc = forge_project_create(channel, NULL, &request, &project, &service_error);
    if (rc == FORGE_OK)
        forge__v1__project__free_unpacked(project, NULL);
    return rc;
}

static void test_an_account_is_made_and_its_token_works(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__WhoAmIResponse *me;
    Forge__V1__CreateServiceAccountRequest request = new_account("billing", FORGE__V1__ROLE__ROLE_DEVELOPER);
    Google__Protobuf__Timestamp expires = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    char sql[512];
    expires.seconds = time(NULL) + 3600;
    request.description = TEXT("invoices");
    request.san_uri = TEXT("spiffe://example.org/billing");
    request.public_key_sha256 = service_repeat("Ab", 32);
    request.calls_in_flight_max = 7;
    request.expire_time = &expires;
    service_ok(create(alpha.admin, &request, &account));
    assert_true(strncmp(account->token, "pfk_", 4) == 0);
    assert_true(strncmp(account->token, account->token_prefix, strlen(account->token_prefix)) == 0);
    assert_string_equal(account->description, "invoices");
    assert_int_equal(account->role, FORGE__V1__ROLE__ROLE_DEVELOPER);
    assert_string_equal(account->public_key_sha256, service_repeat("ab", 32));
    assert_int_equal(account->expire_time->seconds, expires.seconds);
    assert_int_equal(strlen(account->creator_id), 36);
    struct forge_channel *channel = service_channel(account->token);
    service_ok(who(channel, &me));
    assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_SERVICE_ACCOUNT);
    assert_string_equal(me->id, account->id);
    assert_string_equal(me->name, "billing");
    assert_int_equal(me->role, FORGE__V1__ROLE__ROLE_DEVELOPER);
    assert_int_equal(me->calls_in_flight_max, 7);
    assert_string_equal(me->user_id, "");
    service_ok(make_project(channel, "by an account"));
    service_fails(delete_account(channel, account->id), FORGE_PERMISSION_DENIED, "admin");
    snprintf(sql, sizeof sql,
             "SELECT (details->>'name') || '|' || (details ? 'token') || '|' || action FROM audit_log WHERE target_id = '%s'", account->id);
    assert_string_equal(service_query(sql), "billing|false|service_account.create");
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    delete_and_free(account);
    service_fails(ask(channel), FORGE_UNAUTHENTICATED, "");
    assert_string_equal(service_query("SELECT count(*) FROM certificate_names"), "0");
    assert_string_equal(service_query("SELECT count(*) FROM audit_log WHERE action = 'service_account.delete'"), "1");
}

static void test_a_repeat_gets_the_same_token(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *first, *second;
    Forge__V1__CreateServiceAccountRequest request = new_account("repeated", FORGE__V1__ROLE__ROLE_VIEWER);
    char request_id[37], sql[256];
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    service_ok(forge_organization_create_service_account(alpha.admin, &options, &request, &first, &service_error));
    service_ok(forge_organization_create_service_account(alpha.admin, &options, &request, &second, &service_error));
    assert_string_equal(first->token, second->token);
    assert_string_equal(first->id, second->id);
    snprintf(sql, sizeof sql,
             "SELECT response_sealed || ' ' || (position('pfk_'::bytea in response) = 0) FROM idempotency WHERE request_id = '%s'",
             request_id);
    assert_string_equal(service_query(sql), "true true");
    request.description = TEXT("another body");
    service_fails(forge_organization_create_service_account(alpha.admin, &options, &request, &second, &service_error),
                  FORGE_INVALID_ARGUMENT, "request_id");
    Forge__V1__DeleteServiceAccountRequest removal = FORGE__V1__DELETE_SERVICE_ACCOUNT_REQUEST__INIT;
    Google__Protobuf__Empty *reply;
    removal.id = first->id;
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(forge_organization_delete_service_account(alpha.admin, &options, &removal, &reply, &service_error));
        google__protobuf__empty__free_unpacked(reply, NULL);
    }
    service_fails(delete_account(alpha.admin, first->id), FORGE_NOT_FOUND, "not found");
    forge__v1__service_account__free_unpacked(first, NULL);
    forge__v1__service_account__free_unpacked(second, NULL);
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Google__Protobuf__Timestamp past = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__CreateServiceAccountRequest request = new_account("", FORGE__V1__ROLE__ROLE_UNSPECIFIED);
    past.seconds = 1000000000;
    request.description = service_repeat("x", 4097);
    request.project_id = TEXT("x");
    request.san_uri = TEXT("no uri");
    request.public_key_sha256 = TEXT("12");
    request.expire_time = &past;
    request.calls_in_flight_max = 4097;
    service_violates(create(alpha.admin, &request, &account), "name", "1 to 255", "description", "4096", "role", "must be ROLE_VIEWER",
                     "project_id", "must be a UUID", "san_uri", "must be a URI", "public_key_sha256", "64 hexadecimal digits",
                     "expire_time", "must be in the future", "calls_in_flight_max", "0 to 4096");
    request = new_account("x", FORGE__V1__ROLE__ROLE_VIEWER);
    request.calls_in_flight_max = -1;
    request.certificate_login = true;
    service_violates(create(alpha.admin, &request, &account), "certificate_login", "needs san_uri", "calls_in_flight_max", "0 to 4096");
    request = new_account("x", FORGE__V1__ROLE__ROLE_VIEWER);
    request.without_token = true;
    past.seconds = time(NULL) + 100;
    request.expire_time = &past;
    service_violates(create(alpha.admin, &request, &account), "without_token", "needs certificate_login", "expire_time", "is the token's");
    request = new_account("x", FORGE__V1__ROLE__ROLE_VIEWER);
    request.san_uri = service_repeat("a:", 1025);
    request.public_key_sha256 = service_repeat("xy", 32);
    service_violates(create(alpha.admin, &request, &account), "san_uri", "at most 2048 bytes", "public_key_sha256", "hexadecimal");
    service_violates(delete_account(alpha.admin, "x"), "id", "must be a UUID");
    service_fails(delete_account(alpha.admin, nobody_has), FORGE_NOT_FOUND, "not found");
}

static void test_what_exists_and_what_does_not(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account, *other;
    Forge__V1__CreateServiceAccountRequest request = new_account("unique", FORGE__V1__ROLE__ROLE_VIEWER);
    request.san_uri = TEXT("spiffe://example.org/unique");
    service_ok(create(alpha.admin, &request, &account));
    request.san_uri = TEXT("spiffe://example.org/another");
    service_fails(create(alpha.admin, &request, &other), FORGE_ALREADY_EXISTS, "named \"unique\"");
    request.san_uri = TEXT("spiffe://example.org/unique");
    service_fails(create(beta.admin, &request, &other), FORGE_ALREADY_EXISTS, "SAN URI or public key");
    service_fails(delete_account(beta.admin, account->id), FORGE_NOT_FOUND, "not found");
    request = new_account("project", FORGE__V1__ROLE__ROLE_VIEWER);
    request.project_id = beta.project_id;
    service_fails(create(alpha.admin, &request, &other), FORGE_NOT_FOUND, "project");
    request = new_account("role", FORGE__V1__ROLE__ROLE_VIEWER);
    service_fails(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), &request, &other), FORGE_PERMISSION_DENIED,
                  "admin");
    service_fails(create(service_channel(NULL), &request, &other), FORGE_UNAUTHENTICATED, "");
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id);
    service_fails(create(bound, &request, &other), FORGE_PERMISSION_DENIED, "bound to one project");
    service_fails(delete_account(bound, account->id), FORGE_NOT_FOUND, "not found");
    request.project_id = alpha.project_id;
    service_ok(create(bound, &request, &other));
    service_ok(delete_account(bound, other->id));
    forge__v1__service_account__free_unpacked(other, NULL);
    delete_and_free(account);
}

static void test_accounts_are_listed_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"list c", "list a", "list b"};
    Forge__V1__ServiceAccount *accounts[3];
    Forge__V1__ListServiceAccountsResponse *list;
    Forge__V1__ListServiceAccountsRequest request = FORGE__V1__LIST_SERVICE_ACCOUNTS_REQUEST__INIT;
    char token[1024];
    for (int i = 0; i < 3; i++) {
        Forge__V1__CreateServiceAccountRequest made = new_account(names[i], FORGE__V1__ROLE__ROLE_VIEWER);
        made.project_id = i == 0 ? alpha.project_id : TEXT("");
        service_ok(create(alpha.admin, &made, &accounts[i]));
    }
    request.name_prefix = TEXT("list ");
    request.page_size = 2;
    service_ok(forge_organization_list_service_accounts(alpha.admin, NULL, &request, &list, &service_error));
    assert_int_equal(list->n_service_accounts, 2);
    assert_string_equal(list->service_accounts[0]->name, "list a");
    assert_string_equal(list->service_accounts[0]->token, "");
    assert_string_equal(list->service_accounts[1]->name, "list b");
    snprintf(token, sizeof token, "%s", list->next_page_token);
    forge__v1__list_service_accounts_response__free_unpacked(list, NULL);
    request.page_token = token;
    service_ok(forge_organization_list_service_accounts(alpha.admin, NULL, &request, &list, &service_error));
    assert_int_equal(list->n_service_accounts, 1);
    assert_string_equal(list->service_accounts[0]->name, "list c");
    assert_string_equal(list->next_page_token, "");
    forge__v1__list_service_accounts_response__free_unpacked(list, NULL);
    request.page_token = TEXT("");
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id);
    service_ok(forge_organization_list_service_accounts(bound, NULL, &request, &list, &service_error));
    assert_int_equal(list->n_service_accounts, 1);
    forge__v1__list_service_accounts_response__free_unpacked(list, NULL);
    service_ok(forge_organization_list_service_accounts(beta.admin, NULL, &request, &list, &service_error));
    assert_int_equal(list->n_service_accounts, 0);
    forge__v1__list_service_accounts_response__free_unpacked(list, NULL);
    request.page_size = -1;
    request.name_prefix = TEXT("\x01");
    service_violates(forge_organization_list_service_accounts(alpha.admin, NULL, &request, &list, &service_error), "page_size", "negative",
                     "name_prefix", "printable");
    for (int i = 0; i < 3; i++)
        delete_and_free(accounts[i]);
}

static void test_keys_act_for_an_account_within_its_role_and_project(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__ApiKey *key;
    Forge__V1__WhoAmIResponse *me;
    Forge__V1__CreateServiceAccountRequest made = new_account("worker", FORGE__V1__ROLE__ROLE_DEVELOPER);
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_ADMIN;
    made.project_id = alpha.project_id;
    service_ok(create(alpha.admin, &made, &account));
    request.name = TEXT("of worker");
    request.scopes = &scope;
    request.n_scopes = 1;
    request.service_account_id = account->id;
    service_fails(forge_organization_create_api_key(alpha.admin, NULL, &request, &key, &service_error), FORGE_PERMISSION_DENIED,
                  "above the service account's role");
    scope = FORGE__V1__SCOPE__SCOPE_WRITE;
    service_fails(forge_organization_create_api_key(beta.admin, NULL, &request, &key, &service_error), FORGE_NOT_FOUND, "service account");
    service_ok(make_project(alpha.admin, "elsewhere"));
    request.project_id = TEXT(service_query("SELECT id FROM projects WHERE name = 'elsewhere'"));
    service_fails(forge_organization_create_api_key(alpha.admin, NULL, &request, &key, &service_error), FORGE_PERMISSION_DENIED,
                  "bound to another project");
    request.project_id = TEXT("");
    /* An admin key may: it makes no key of its own. */
    service_ok(forge_organization_create_api_key(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, NULL), NULL, &request, &key,
                                                 &service_error));
    assert_string_equal(key->service_account_id, account->id);
    assert_string_equal(key->project_id, alpha.project_id);
    struct forge_channel *channel = service_channel(key->token);
    service_ok(who(channel, &me));
    assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_API_KEY);
    assert_int_equal(me->role, FORGE__V1__ROLE__ROLE_DEVELOPER);
    assert_string_equal(me->project_id, alpha.project_id);
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    forge__v1__api_key__free_unpacked(key, NULL);
    delete_and_free(account);
    service_fails(ask(channel), FORGE_UNAUTHENTICATED, "");
}

static void test_a_certificate_is_enough_where_the_account_allows_it(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__WhoAmIResponse *me;
    Forge__V1__CreateServiceAccountRequest request = new_account("mutual", FORGE__V1__ROLE__ROLE_DEVELOPER);
    struct forge_channel *channel = open_mutual(0, "client", NULL), *plain = open_mutual(0, "client-plain", NULL);
    service_fails(ask(channel), FORGE_UNAUTHENTICATED, "no service account's");
    request.san_uri = TEXT(alpha_uri);
    request.certificate_login = true;
    request.without_token = true;
    request.calls_in_flight_max = 300;
    service_ok(create(alpha.admin, &request, &account));
    assert_string_equal(account->token, "");
    assert_string_equal(account->token_prefix, "");
    for (int i = 0; i < 2; i++) { /* looked up, then cached */
        service_ok(who(channel, &me));
        assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_SERVICE_ACCOUNT);
        assert_string_equal(me->id, account->id);
        assert_string_equal(me->organization_id, alpha.organization_id);
        assert_int_equal(me->calls_in_flight_max, 300);
        assert_int_equal(me->message_bytes_max, 4 << 20);
        forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    }
    service_ok(make_project(channel, "by a certificate"));
    service_fails(ask(plain), FORGE_UNAUTHENTICATED, "no service account's");
    struct forge_channel *none = open_mutual(0, NULL, NULL);
    service_fails(ask(none), FORGE_UNAUTHENTICATED, "needs a credential");
    assert_string_equal(
        service_query("SELECT principal_kind FROM audit_log WHERE action = 'service_account.create' ORDER BY created_at DESC"
                      " LIMIT 1"),
        "user");
    delete_and_free(account);
    forge_channel_close(channel);
    forge_channel_close(plain);
    forge_channel_close(none);
    wait_forgotten();
}

/* A proxy's certificate and its callers' tokens on one connection. */
static void test_a_token_counts_before_the_certificate(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__WhoAmIResponse *me;
    Forge__V1__CreateServiceAccountRequest request = new_account("proxy", FORGE__V1__ROLE__ROLE_VIEWER);
    request.san_uri = TEXT(alpha_uri);
    request.certificate_login = true;
    service_ok(create(alpha.admin, &request, &account));
    struct forge_channel *channel = open_mutual(0, "client", beta.token);
    service_ok(who(channel, &me));
    assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_USER);
    assert_string_equal(me->organization_id, beta.organization_id);
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    service_ok(forge_channel_set_token(channel, NULL, &service_error));
    service_ok(who(channel, &me));
    assert_string_equal(me->id, account->id);
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    delete_and_free(account);
    forge_channel_close(channel);
    wait_forgotten();
}

static void test_an_account_may_ask_for_its_token_all_the_same(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__CreateServiceAccountRequest request = new_account("strict", FORGE__V1__ROLE__ROLE_VIEWER);
    request.san_uri = TEXT(alpha_uri);
    service_ok(create(alpha.admin, &request, &account));
    struct forge_channel *channel = open_mutual(0, "client", NULL);
    service_fails(ask(channel), FORGE_UNAUTHENTICATED, "needs a token");
    service_ok(forge_channel_set_token(channel, account->token, &service_error));
    service_ok(ask(channel));
    delete_and_free(account);
    forge_channel_close(channel);
}

/* Also where the URI was another account's, which the server had in its cache. */
static void test_a_pinned_key_counts_before_the_uri(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *by_uri, *by_key;
    Forge__V1__WhoAmIResponse *me;
    Forge__V1__CreateServiceAccountRequest request = new_account("by uri", FORGE__V1__ROLE__ROLE_VIEWER);
    struct forge_channel *channel = open_mutual(0, "client", NULL);
    request.san_uri = TEXT(alpha_uri);
    request.certificate_login = true;
    service_ok(create(alpha.admin, &request, &by_uri));
    service_ok(ask(channel));
    request = new_account("by key", FORGE__V1__ROLE__ROLE_ADMIN);
    request.public_key_sha256 = public_key("client.pem");
    request.certificate_login = true;
    service_ok(create(alpha.admin, &request, &by_key));
    bool changed = false;
    for (time_t began = time(NULL); !changed && time(NULL) - began < PLENTY_S;) {
        service_ok(who(channel, &me));
        changed = strcmp(me->id, by_key->id) == 0;
        forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    }
    assert_true(changed);
    delete_and_free(by_uri);
    delete_and_free(by_key);
    forge_channel_close(channel);
    wait_forgotten();
}

static void test_a_deleted_account_is_refused_on_every_server_within_a_second(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__CreateServiceAccountRequest request = new_account("short-lived", FORGE__V1__ROLE__ROLE_VIEWER);
    request.san_uri = TEXT(alpha_uri);
    request.certificate_login = true;
    service_ok(create(alpha.admin, &request, &account));
    struct forge_channel *certificates[2], *token = open_mutual(1, NULL, account->token);
    for (int i = 0; i < 2; i++) {
        certificates[i] = open_mutual(i, "client", NULL);
        for (int times = 0; times < 3; times++)
            service_ok(ask(certificates[i]));
    }
    service_ok(ask(token));
    delete_and_free(account);
    for (int i = 0; i < 2; i++) {
        double waited_s = refused_after_s(certificates[i]);
        print_message("certificate refused by server %d after %.3f s\n", i, waited_s);
        assert_true(waited_s < 2); /* 1 s, and room for a loaded machine */
    }
    assert_true(refused_after_s(token) < 2);
    for (int i = 0; i < 2; i++)
        forge_channel_close(certificates[i]);
    forge_channel_close(token);
}

/* More than 16 KiB, without any token. */
static void test_a_mapped_certificate_verifies_the_connection(void **state)
{
    (void)state;
    Forge__V1__ServiceAccount *account;
    Forge__V1__CreateServiceAccountRequest request = new_account("large", FORGE__V1__ROLE__ROLE_DEVELOPER);
    char id[37];
    request.san_uri = TEXT(alpha_uri);
    request.certificate_login = true;
    service_ok(create(alpha.admin, &request, &account));
    struct forge_channel *channel = open_mutual(1, "client", NULL);
    service_prompt_make(channel, alpha.project_id, "large", service_repeat("0123456789abcdef", 4096), id);
    delete_and_free(account);
    forge_channel_close(channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_account_is_made_and_its_token_works),
        cmocka_unit_test(test_a_repeat_gets_the_same_token),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_what_exists_and_what_does_not),
        cmocka_unit_test(test_accounts_are_listed_by_name),
        cmocka_unit_test(test_keys_act_for_an_account_within_its_role_and_project),
        cmocka_unit_test(test_a_certificate_is_enough_where_the_account_allows_it),
        cmocka_unit_test(test_a_token_counts_before_the_certificate),
        cmocka_unit_test(test_an_account_may_ask_for_its_token_all_the_same),
        cmocka_unit_test(test_a_pinned_key_counts_before_the_uri),
        cmocka_unit_test(test_a_deleted_account_is_refused_on_every_server_within_a_second),
        cmocka_unit_test(test_a_mapped_certificate_verifies_the_connection),
    };
    return cmocka_run_group_tests(tests, start, end);
}
