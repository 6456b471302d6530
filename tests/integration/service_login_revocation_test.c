/* What takes a credential's power away on one server is seen on another one within a second, although that has the credential in its cache:
 * a revoked key, a disabled or deleted user, a lower role, a new password, a deleted organization. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct forged_child *other; /* the second server, on the same database */

static int start(void **state)
{
    service_start(state);
    other = forged_world_serve(service_world(), NULL);
    return 0;
}

static int end(void **state)
{
    forged_child_stop(other);
    return service_end(state);
}

static struct forge_channel *channel_to_other(const char *token)
{
    const struct forge_channel_options options = {.addresses = forged_child_address(other),
                                                  .token = token,
                                                  .ca_file = tls_files_path(forged_world_tls(service_world()), "ca.pem"),
                                                  .default_timeout_ms = 30000};
    struct forge_channel *channel;
    service_ok(forge_channel_open(&options, &channel, &service_error));
    return channel;
}

/* A call that only admins may make and that changes nothing. */
static forge_code ask_as_admin(struct forge_channel *channel)
{
    Forge__V1__ListApiKeysRequest request = FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    Forge__V1__ListApiKeysResponse *reply;
    forge_code rc = forge_organization_list_api_keys(channel, NULL, &request, &reply, &service_error);
    if (rc == FORGE_OK)
        forge__v1__list_api_keys_response__free_unpacked(reply, NULL);
    return rc;
}

/* Asks the other server until it refuses, with this code. */
static void refused_soon(struct forge_channel *channel, forge_code code, const char *what)
{
    struct timespec began, now;
    forge_code rc;
    double waited_s;
    clock_gettime(CLOCK_MONOTONIC, &began);
    do {
        rc = ask_as_admin(channel);
        clock_gettime(CLOCK_MONOTONIC, &now);
        waited_s = (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9;
    } while (rc == FORGE_OK && waited_s < 5);
    service_fails(rc, code, "");
    print_message("%s: seen by the other server after %.3f s\n", what, waited_s);
    assert_true(waited_s < 2); /* 1 s, and room for a loaded machine */
    forge_channel_close(channel);
}

/* An organization with a second admin, and channels of that one to the other server, which knows both credentials. */
struct suspect {
    struct service_tenant tenant;
    char user_id[37], key_id[37];
    struct forge_channel *session, *key;
};

static void suspect_make(const char *name, struct suspect *out)
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_ADMIN;
    Forge__V1__ApiKey *key;
    char email[64], token[128];
    service_tenant_make(name, &out->tenant);
    snprintf(email, sizeof email, "second@%s.example", name);
    struct forge_channel *second = service_user_make(&out->tenant, email, FORGE__V1__ROLE__ROLE_ADMIN, out->user_id);
    service_ok(service_login(email, "user1234", token));
    out->session = channel_to_other(token);
    request.name = TEXT("suspect");
    request.scopes = &scope;
    request.n_scopes = 1;
    service_ok(forge_organization_create_api_key(second, NULL, &request, &key, &service_error));
    snprintf(out->key_id, sizeof out->key_id, "%s", key->id);
    out->key = channel_to_other(key->token);
    forge__v1__api_key__free_unpacked(key, NULL);
    for (int time = 0; time < 2; time++) {
        service_ok(ask_as_admin(out->session));
        service_ok(ask_as_admin(out->key));
    }
}

static void update(const struct suspect *suspect, const Forge__V1__UpdateUserRequest *what)
{
    Forge__V1__UpdateUserRequest request = *what;
    Forge__V1__User *user;
    request.id = TEXT(suspect->user_id);
    service_ok(forge_organization_update_user(suspect->tenant.admin, NULL, &request, &user, &service_error));
    forge__v1__user__free_unpacked(user, NULL);
}

static void test_a_revoked_key(void **state)
{
    (void)state;
    struct suspect suspect;
    Forge__V1__RevokeApiKeyRequest request = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    Forge__V1__ApiKey *key;
    suspect_make("revoked", &suspect);
    request.id = suspect.key_id;
    service_ok(forge_organization_revoke_api_key(suspect.tenant.admin, NULL, &request, &key, &service_error));
    forge__v1__api_key__free_unpacked(key, NULL);
    refused_soon(suspect.key, FORGE_UNAUTHENTICATED, "a revoked key");
    service_ok(ask_as_admin(suspect.session));
    forge_channel_close(suspect.session);
}

static void test_a_disabled_user(void **state)
{
    (void)state;
    struct suspect suspect;
    Forge__V1__UpdateUserRequest request = FORGE__V1__UPDATE_USER_REQUEST__INIT;
    suspect_make("disabled", &suspect);
    request.disabled = 1;
    update(&suspect, &request);
    refused_soon(suspect.key, FORGE_UNAUTHENTICATED, "a disabled user, key");
    refused_soon(suspect.session, FORGE_UNAUTHENTICATED, "a disabled user, session");
}

static void test_a_lower_role(void **state)
{
    (void)state;
    struct suspect suspect;
    Forge__V1__UpdateUserRequest request = FORGE__V1__UPDATE_USER_REQUEST__INIT;
    suspect_make("lowered", &suspect);
    request.role = FORGE__V1__ROLE__ROLE_DEVELOPER;
    update(&suspect, &request);
    refused_soon(suspect.session, FORGE_PERMISSION_DENIED, "a lower role, session");
    refused_soon(suspect.key, FORGE_PERMISSION_DENIED, "a lower role, key");
}

static void test_a_new_password(void **state)
{
    (void)state;
    struct suspect suspect;
    Forge__V1__UpdateUserRequest request = FORGE__V1__UPDATE_USER_REQUEST__INIT;
    suspect_make("repassworded", &suspect);
    request.password = TEXT("another one");
    update(&suspect, &request);
    refused_soon(suspect.session, FORGE_UNAUTHENTICATED, "a new password");
    service_ok(ask_as_admin(suspect.key)); /* it has a secret of its own */
    forge_channel_close(suspect.key);
}

static void test_a_deleted_user(void **state)
{
    (void)state;
    struct suspect suspect;
    Forge__V1__DeleteUserRequest request = FORGE__V1__DELETE_USER_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    suspect_make("deleted", &suspect);
    request.id = suspect.user_id;
    service_ok(forge_organization_delete_user(suspect.tenant.admin, NULL, &request, &empty, &service_error));
    google__protobuf__empty__free_unpacked(empty, NULL);
    refused_soon(suspect.session, FORGE_UNAUTHENTICATED, "a deleted user, session");
    refused_soon(suspect.key, FORGE_UNAUTHENTICATED, "a deleted user, key");
}

static void test_a_deleted_organization(void **state)
{
    (void)state;
    struct suspect suspect, bystander;
    Forge__V1__DeleteOrganizationRequest request = FORGE__V1__DELETE_ORGANIZATION_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    suspect_make("dissolved", &suspect);
    suspect_make("bystander", &bystander);
    request.confirm_name = TEXT("dissolved");
    service_ok(forge_organization_delete(suspect.tenant.admin, NULL, &request, &empty, &service_error));
    google__protobuf__empty__free_unpacked(empty, NULL);
    refused_soon(suspect.key, FORGE_UNAUTHENTICATED, "a deleted organization, key");
    refused_soon(suspect.session, FORGE_UNAUTHENTICATED, "a deleted organization, session");
    service_ok(ask_as_admin(bystander.session));
    service_ok(ask_as_admin(bystander.key));
    forge_channel_close(bystander.session);
    forge_channel_close(bystander.key);
}

/* --- a login that is under way --- */

struct attempt {
    struct forge_channel *channel;
    const char *email;
    forge_code rc;
    struct forge_error error;
    char token[128];
};

static void *log_in(void *user)
{
    struct attempt *attempt = user;
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    Forge__V1__LoginResponse *reply;
    request.email = TEXT(attempt->email);
    request.password = TEXT("user1234");
    attempt->rc = forge_organization_login(attempt->channel, NULL, &request, &reply, &attempt->error);
    if (attempt->rc == FORGE_OK) {
        snprintf(attempt->token, sizeof attempt->token, "%s", reply->token);
        forge__v1__login_response__free_unpacked(reply, NULL);
    }
    return NULL;
}

struct replacement {
    struct forge_channel *channel;
    const char *user_id;
    forge_code rc;
    struct forge_error error;
};

static void *replace_password(void *user)
{
    struct replacement *replacement = user;
    Forge__V1__UpdateUserRequest request = FORGE__V1__UPDATE_USER_REQUEST__INIT;
    Forge__V1__User *changed;
    request.id = TEXT(replacement->user_id);
    request.password = TEXT("another one");
    replacement->rc = forge_organization_update_user(replacement->channel, NULL, &request, &changed, &replacement->error);
    if (replacement->rc == FORGE_OK)
        forge__v1__user__free_unpacked(changed, NULL);
    return NULL;
}

/* The session is written but not committed, and login and new password wait for the user's row. Whichever comes first, no session of the
 * old password is left: either the login is refused or its session ended. */
static void test_a_login_with_the_old_password_that_is_under_way(void **state)
{
    (void)state;
    struct service_tenant tenant;
    char id[37], sql[256];
    pthread_t threads[2];
    service_tenant_make("underway", &tenant);
    service_user_make(&tenant, "user@underway.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    struct attempt attempt = {.channel = channel_to_other(NULL), .email = "user@underway.example"};
    struct replacement replacement = {.channel = tenant.admin, .user_id = id};
    snprintf(sql, sizeof sql, "SELECT FROM users WHERE id = '%s' FOR NO KEY UPDATE", id);
    struct service_lock *lock = service_lock_take(sql);
    assert_int_equal(pthread_create(&threads[0], NULL, log_in, &attempt), 0);
    service_lock_wait(lock, 1);
    assert_int_equal(pthread_create(&threads[1], NULL, replace_password, &replacement), 0);
    service_lock_wait(lock, 2);
    service_lock_release(lock);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    forge_channel_close(attempt.channel);
    assert_int_equal(replacement.rc, FORGE_OK);
    if (attempt.rc == FORGE_OK)
        refused_soon(channel_to_other(attempt.token), FORGE_UNAUTHENTICATED, "a session of the old password");
    else
        assert_int_equal(attempt.rc, FORGE_UNAUTHENTICATED);
    forge_error_free(&attempt.error);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM sessions WHERE user_id = '%s'", id);
    assert_string_equal(service_query(sql), "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_revoked_key),
        cmocka_unit_test(test_a_disabled_user),
        cmocka_unit_test(test_a_lower_role),
        cmocka_unit_test(test_a_new_password),
        cmocka_unit_test(test_a_deleted_user),
        cmocka_unit_test(test_a_deleted_organization),
        cmocka_unit_test(test_a_login_with_the_old_password_that_is_under_way),
    };
    return cmocka_run_group_tests(tests, start, end);
}
