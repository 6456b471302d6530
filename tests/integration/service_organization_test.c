/* OrganizationService over TLS: CreateOrganization, GetOrganization, WhoAmI, Login, Logout. API keys: service_api_key_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct service_tenant alpha, beta;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* --- CreateOrganization, GetOrganization --- */

static Forge__V1__CreateOrganizationRequest new_organization(const char *name, const char *email)
{
    Forge__V1__CreateOrganizationRequest request = FORGE__V1__CREATE_ORGANIZATION_REQUEST__INIT;
    request.name = TEXT(name);
    request.admin_email = TEXT(email);
    request.admin_password = TEXT("admin123");
    return request;
}

static forge_code create(const char *request_id, const Forge__V1__CreateOrganizationRequest *request, Forge__V1__Organization **out)
{
    const struct forge_call_options options = {.request_id = request_id};
    return forge_organization_create(service_operator(), &options, request, out, &service_error);
}

static void test_an_organization_is_made_with_its_admin(void **state)
{
    (void)state;
    Forge__V1__Organization *made;
    char request_id[37], sql[1024];
    Forge__V1__CreateOrganizationRequest request = new_organization("  Acme & Söhne, Inc.  ", "Boss@Acme.Example");
    request.description = TEXT("what they do");
    strcpy(request_id, service_request_id());
    service_ok(create(request_id, &request, &made));
    assert_string_equal(made->id, request_id);
    assert_string_equal(made->name, "  Acme & Söhne, Inc.  ");
    assert_string_equal(made->slug, "acme-s-hne-inc");
    assert_string_equal(made->description, "what they do");
    assert_string_equal(made->etag, "1");
    snprintf(
        sql, sizeof sql,
        "SELECT u.email || ' ' || u.name || ' ' || u.role || ' ' || (u.password_hash LIKE '$argon2id$v=19$m=19456,t=2,p=1$%%') || ' ' ||"
        " (l.user_id = u.id) FROM users u JOIN login_names l ON l.email = u.email WHERE u.organization_id = '%s'",
        made->id);
    assert_string_equal(service_query(sql), "boss@acme.example boss@acme.example admin true true");
    snprintf(sql, sizeof sql,
             "SELECT action || ' ' || principal_kind || ' ' || target_kind || ' ' || (target_id = organization_id) || ' ' || "
             "(details->>'slug') || ' ' ||"
             " (hash = sha256(decode(repeat('00', 32), 'hex') || canonical)) FROM audit_log WHERE organization_id = '%s' AND sequence = 1",
             made->id);
    assert_string_equal(service_query(sql), "organization.create operator organization true acme-s-hne-inc true");
    forge__v1__organization__free_unpacked(made, NULL);
}

static void test_a_repeated_creation_makes_one_organization(void **state)
{
    (void)state;
    Forge__V1__Organization *first, *second;
    char request_id[37];
    Forge__V1__CreateOrganizationRequest request = new_organization("Repeated", "admin@repeated.example");
    strcpy(request_id, service_request_id());
    service_ok(create(request_id, &request, &first));
    service_ok(create(request_id, &request, &second));
    assert_string_equal(first->id, second->id);
    assert_int_equal(first->create_time->nanos, second->create_time->nanos);
    assert_string_equal(service_query("SELECT count(*) FROM organizations WHERE slug = 'repeated'"), "1");
    request.name = TEXT("Repeated differently");
    forge__v1__organization__free_unpacked(second, NULL);
    service_fails(create(request_id, &request, &second), FORGE_INVALID_ARGUMENT, "request_id");
    forge__v1__organization__free_unpacked(first, NULL);
}

static void test_slug_email_and_id_are_unique_in_the_installation(void **state)
{
    (void)state;
    Forge__V1__Organization *made;
    Forge__V1__CreateOrganizationRequest request = new_organization("Alpha", "new@alpha.example");
    service_fails(create(NULL, &request, &made), FORGE_ALREADY_EXISTS, "an organization with slug \"alpha\" exists already");
    request = new_organization("Another", "ADMIN@alpha.example");
    service_fails(create(NULL, &request, &made), FORGE_ALREADY_EXISTS, "a user with e-mail admin@alpha.example exists already");
    struct forge_channel *other_operator = service_channel(forged_world_operator_token(service_world()));
    const struct forge_call_options options = {.request_id = alpha.organization_id};
    request = new_organization("Taken id", "admin@taken.example");
    service_fails(forge_organization_create(other_operator, &options, &request, &made, &service_error), FORGE_ALREADY_EXISTS,
                  "the request_id is the id of an organization already");
    assert_string_equal(service_query("SELECT count(*) FROM login_names WHERE email IN ('new@alpha.example', 'admin@taken.example')"), "0");
}

static void test_every_wrong_field_of_a_new_organization_is_named(void **state)
{
    (void)state;
    Forge__V1__Organization *made;
    Forge__V1__CreateOrganizationRequest request = new_organization("", "nobody");
    request.slug = TEXT("-Bad");
    request.description = service_repeat("x", 4097);
    request.admin_password = TEXT("");
    request.admin_display_name = TEXT("a\tb");
    service_violates(create(NULL, &request, &made), "name", "1 to 255 printable characters", "slug", "must be 1 to 63 of a-z, 0-9 and -",
                     "description", "at most 4096 characters", "admin_email", "must be an e-mail address", "admin_password", "",
                     "admin_display_name", "printable characters");
    request = new_organization("日本", "admin@nihon.example");
    service_violates(create(NULL, &request, &made), "slug", "none can be made from this name");
    static const char *const bad[] = {"a@b",          "@b.example",     "a@",           "a@@b.example", "a b@c.example", "a.@b.example",
                                      ".a@b.example", "a..b@c.example", "a@-b.example", "a@b..example", "a@b.ex_ample",  "ä@b.example"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        request = new_organization("Mail", bad[i]);
        service_violates(create(NULL, &request, &made), "admin_email", "must be an e-mail address of at most 254 characters");
    }
    char longest[300];
    snprintf(longest, sizeof longest, "a@%s.example", service_repeat("b", 250));
    request = new_organization("Mail", longest);
    service_violates(create(NULL, &request, &made), "admin_email", "at most 254");
    request = new_organization("Password", "admin@password.example");
    request.admin_password = service_repeat("x", 129);
    service_violates(create(NULL, &request, &made), "admin_password", "128 bytes");
}

static void test_only_operators_create_organizations_and_nothing_else(void **state)
{
    (void)state;
    Forge__V1__Organization *made;
    Forge__V1__GetOrganizationRequest get = FORGE__V1__GET_ORGANIZATION_REQUEST__INIT;
    Forge__V1__CreateOrganizationRequest request = new_organization("Not allowed", "a@notallowed.example");
    service_fails(forge_organization_create(alpha.admin, NULL, &request, &made, &service_error), FORGE_PERMISSION_DENIED, "operator");
    service_fails(forge_organization_create(service_channel(NULL), NULL, &request, &made, &service_error), FORGE_UNAUTHENTICATED, "");
    service_fails(forge_organization_get(service_operator(), NULL, &get, &made, &service_error), FORGE_PERMISSION_DENIED, "");
    struct forge_channel *expired = service_channel(forged_world_operator_token(service_world()));
    service_execute("UPDATE operator_tokens SET expires_at = created_at WHERE created_at = (SELECT max(created_at) FROM operator_tokens)");
    service_fails(forge_organization_create(expired, NULL, &request, &made, &service_error), FORGE_UNAUTHENTICATED, "");
}

static void test_production_mode_wants_long_passwords(void **state)
{
    (void)state;
    Forge__V1__Organization *made;
    Forge__V1__CreateOrganizationRequest request = new_organization("Strict", "admin@strict.example");
    const char *const flags[] = {"--mode=production", NULL};
    struct forged_child *strict = forged_world_serve(service_world(), flags);
    const struct forge_channel_options options = {.addresses = forged_child_address(strict),
                                                  .token = forged_world_operator_token(service_world()),
                                                  .ca_file = tls_files_path(forged_world_tls(service_world()), "ca.pem")};
    struct forge_channel *channel;
    service_ok(forge_channel_open(&options, &channel, &service_error));
    service_violates(forge_organization_create(channel, NULL, &request, &made, &service_error), "admin_password",
                     "must be 12 to 128 bytes");
    forge_channel_close(channel);
    forged_child_stop(strict);
}

static void test_get_tells_the_callers_organization_only(void **state)
{
    (void)state;
    Forge__V1__Organization *read;
    Forge__V1__GetOrganizationRequest request = FORGE__V1__GET_ORGANIZATION_REQUEST__INIT;
    service_ok(forge_organization_get(alpha.admin, NULL, &request, &read, &service_error));
    assert_string_equal(read->id, alpha.organization_id);
    assert_string_equal(read->slug, "alpha");
    forge__v1__organization__free_unpacked(read, NULL);
    request.id = alpha.organization_id;
    service_ok(
        forge_organization_get(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), NULL, &request, &read, &service_error));
    forge__v1__organization__free_unpacked(read, NULL);
    request.id = beta.organization_id;
    service_fails(forge_organization_get(alpha.admin, NULL, &request, &read, &service_error), FORGE_NOT_FOUND, beta.organization_id);
    request.id = TEXT("x");
    service_violates(forge_organization_get(alpha.admin, NULL, &request, &read, &service_error), "id", "must be a UUID");
}

/* --- WhoAmI --- */

static Forge__V1__WhoAmIResponse *who_am_i(struct forge_channel *channel)
{
    Forge__V1__WhoAmIRequest request = FORGE__V1__WHO_AM_IREQUEST__INIT;
    Forge__V1__WhoAmIResponse *reply;
    service_ok(forge_organization_who_am_i(channel, NULL, &request, &reply, &service_error));
    return reply;
}

static void test_who_am_i_tells_user_key_and_operator(void **state)
{
    (void)state;
    Forge__V1__WhoAmIResponse *me = who_am_i(alpha.admin);
    assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_USER);
    assert_string_equal(me->name, "admin@alpha.example");
    assert_string_equal(me->id, me->user_id);
    assert_int_equal(me->role, FORGE__V1__ROLE__ROLE_ADMIN);
    assert_string_equal(me->organization_id, alpha.organization_id);
    assert_string_equal(me->organization_name, "alpha");
    assert_string_equal(me->project_id, "");
    assert_non_null(me->expire_time);
    assert_int_equal(me->n_scopes, 0);
    assert_int_equal(me->message_bytes_max, 4 << 20);
    assert_int_equal(me->reply_bytes_max, 4 << 20);
    assert_int_equal(me->calls_in_flight_max, 256);
    assert_string_equal(me->server_version, forge_version());
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    me = who_am_i(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, alpha.project_id));
    assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_API_KEY);
    assert_string_equal(me->name, "test");
    assert_int_equal(me->role, FORGE__V1__ROLE__ROLE_DEVELOPER);
    assert_int_equal(me->n_scopes, 1);
    assert_int_equal(me->scopes[0], FORGE__V1__SCOPE__SCOPE_WRITE);
    assert_string_equal(me->project_id, alpha.project_id);
    assert_null(me->expire_time);
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    me = who_am_i(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL));
    assert_int_equal(me->role, FORGE__V1__ROLE__ROLE_UNSPECIFIED);
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
    me = who_am_i(service_operator());
    assert_int_equal(me->kind, FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_OPERATOR);
    assert_string_equal(me->organization_id, "");
    assert_int_equal(me->role, FORGE__V1__ROLE__ROLE_UNSPECIFIED);
    assert_non_null(me->expire_time);
    forge__v1__who_am_iresponse__free_unpacked(me, NULL);
}

/* --- Login, Logout --- */

static forge_code login(const char *email, const char *password, Forge__V1__LoginResponse **out)
{
    static struct forge_channel *nobody;
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    if (nobody == NULL)
        nobody = service_channel(NULL);
    request.email = TEXT(email);
    request.password = TEXT(password);
    return forge_organization_login(nobody, NULL, &request, out, &service_error);
}

static struct forge_channel *logged_in(const char *email)
{
    char token[128];
    service_ok(service_login(email, "admin123", token));
    return service_channel(token);
}

static void test_login_opens_a_session(void **state)
{
    (void)state;
    Forge__V1__LoginResponse *reply;
    service_ok(login("Admin@Alpha.Example", "admin123", &reply));
    assert_true(strncmp(reply->token, "pfs_", 4) == 0);
    assert_string_equal(reply->user->email, "admin@alpha.example");
    assert_int_equal(reply->user->role, FORGE__V1__ROLE__ROLE_ADMIN);
    assert_string_equal(reply->user->organization_id, alpha.organization_id);
    assert_non_null(reply->user->last_login_time);
    assert_non_null(reply->user->password_change_time);
    assert_true(reply->expire_time->seconds > reply->user->last_login_time->seconds);
    service_ok(service_ask(service_channel(reply->token)));
    /* The token itself is nowhere in the database. */
    assert_string_equal(service_query("SELECT count(*) FROM sessions WHERE encode(token_hash, 'escape') LIKE '%pfs_%'"), "0");
    forge__v1__login_response__free_unpacked(reply, NULL);
}

static void test_wrong_logins_are_not_told_apart(void **state)
{
    (void)state;
    Forge__V1__LoginResponse *reply;
    service_fails(login("admin@beta.example", "wrong", &reply), FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password");
    service_fails(login("nobody@beta.example", "wrong", &reply), FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password");
    service_violates(login("", "", &reply), "email", "must be an e-mail address", "password", "must be 1 to 128 bytes");
    service_violates(login("a@b.example", service_repeat("x", 129), &reply), "password", "must be 1 to 128 bytes");
    struct service_tenant tenant;
    service_tenant_make("disabled", &tenant);
    service_execute("UPDATE users SET disabled = true WHERE email = 'admin@disabled.example'");
    service_fails(login("admin@disabled.example", "admin123", &reply), FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password");
    service_execute("UPDATE users SET disabled = false WHERE email = 'admin@disabled.example';"
                    "UPDATE organizations SET deleted_at = now() WHERE slug = 'disabled'");
    service_fails(login("admin@disabled.example", "admin123", &reply), FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password");
    service_execute("DELETE FROM login_failures");
}

static void test_failures_lock_an_account_and_a_success_forgets_them(void **state)
{
    (void)state;
    Forge__V1__LoginResponse *reply;
    struct service_tenant tenant;
    service_tenant_make("locked", &tenant);
    for (int i = 0; i < 5; i++)
        service_fails(login("admin@locked.example", "wrong", &reply), FORGE_UNAUTHENTICATED, "");
    service_ok(login("admin@locked.example", "admin123", &reply));
    forge__v1__login_response__free_unpacked(reply, NULL);
    for (int i = 0; i < 6; i++)
        service_fails(login("admin@locked.example", "wrong", &reply), FORGE_UNAUTHENTICATED, "");
    /* Far enough ahead that the client's retry does not outlast it. */
    service_execute("UPDATE login_failures SET locked_until = now() + interval '10 minutes' WHERE locked_until IS NOT NULL");
    service_fails(login("admin@locked.example", "admin123", &reply), FORGE_RESOURCE_EXHAUSTED, "too many failed logins");
    service_execute("DELETE FROM login_failures");
    service_ok(login("admin@locked.example", "admin123", &reply));
    forge__v1__login_response__free_unpacked(reply, NULL);
}

static void test_logout_ends_one_session_or_all(void **state)
{
    (void)state;
    Forge__V1__LogoutRequest request = FORGE__V1__LOGOUT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    struct service_tenant tenant;
    service_tenant_make("leaving", &tenant);
    struct forge_channel *first = logged_in(tenant.email), *second = logged_in(tenant.email), *third = logged_in(tenant.email);
    service_ok(service_ask(first));
    service_ok(service_ask(second));
    service_ok(service_ask(third));
    service_ok(forge_organization_logout(first, NULL, &request, &empty, &service_error));
    google__protobuf__empty__free_unpacked(empty, NULL);
    service_fails(service_ask(first), FORGE_UNAUTHENTICATED, "");
    service_ok(service_ask(second));
    request.all_sessions = 1;
    service_ok(forge_organization_logout(second, NULL, &request, &empty, &service_error));
    google__protobuf__empty__free_unpacked(empty, NULL);
    service_fails(service_ask(second), FORGE_UNAUTHENTICATED, "");
    service_fails(service_ask(third), FORGE_UNAUTHENTICATED, "");
    service_fails(service_ask(tenant.admin), FORGE_UNAUTHENTICATED, "");
    service_ok(service_ask(beta.admin));
    struct forge_channel *key = service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_ADMIN, NULL);
    forge_code rc = forge_organization_logout(key, NULL, &request, &empty, &service_error);
    assert_true(rc == FORGE_FAILED_PRECONDITION || rc == FORGE_PERMISSION_DENIED);
    assert_non_null(strstr(service_error.message, "session"));
    forge_error_free(&service_error);
}

static void test_a_session_ends_by_its_time(void **state)
{
    (void)state;
    struct service_tenant tenant;
    Forge__V1__LoginResponse *reply;
    char sql[256];
    service_tenant_make("timed", &tenant);
    service_ok(login(tenant.email, "admin123", &reply));
    snprintf(sql, sizeof sql, "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE organization_id = '%s'",
             tenant.organization_id);
    service_execute(sql);
    service_fails(service_ask(service_channel(reply->token)), FORGE_UNAUTHENTICATED, "");
    forge__v1__login_response__free_unpacked(reply, NULL);
    logged_in(tenant.email); /* and the next login removes it */
    snprintf(sql, sizeof sql, "SELECT count(*) FROM sessions WHERE organization_id = '%s'", tenant.organization_id);
    assert_string_equal(service_query(sql), "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_organization_is_made_with_its_admin),
        cmocka_unit_test(test_a_repeated_creation_makes_one_organization),
        cmocka_unit_test(test_slug_email_and_id_are_unique_in_the_installation),
        cmocka_unit_test(test_every_wrong_field_of_a_new_organization_is_named),
        cmocka_unit_test(test_only_operators_create_organizations_and_nothing_else),
        cmocka_unit_test(test_production_mode_wants_long_passwords),
        cmocka_unit_test(test_get_tells_the_callers_organization_only),
        cmocka_unit_test(test_who_am_i_tells_user_key_and_operator),
        cmocka_unit_test(test_login_opens_a_session),
        cmocka_unit_test(test_wrong_logins_are_not_told_apart),
        cmocka_unit_test(test_failures_lock_an_account_and_a_success_forgets_them),
        cmocka_unit_test(test_logout_ends_one_session_or_all),
        cmocka_unit_test(test_a_session_ends_by_its_time),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
