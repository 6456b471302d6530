/* OrganizationService over TLS: ChangePassword. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

static struct service_tenant alpha;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    return 0;
}

static forge_code change(struct forge_channel *channel, const char *request_id, const char *current, const char *fresh)
{
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__ChangePasswordRequest request = FORGE__V1__CHANGE_PASSWORD_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.current_password = TEXT(current);
    request.new_password = TEXT(fresh);
    forge_code rc = forge_organization_change_password(channel, &options, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

static void fails_as_wrong(forge_code rc)
{
    assert_int_equal(rc, FORGE_PERMISSION_DENIED);
    assert_string_equal(service_error.reason, "WRONG_PASSWORD");
    service_fails(rc, FORGE_PERMISSION_DENIED, "current_password is wrong");
}

/* Another session of a user of alpha. */
static struct forge_channel *logged_in(const char *email, const char *password)
{
    char token[128];
    service_ok(service_login(email, password, token));
    return service_channel(token);
}

static void test_a_change_ends_the_other_sessions(void **state)
{
    (void)state;
    char id[37], token[128], sql[512];
    struct forge_channel *first = service_user_make(&alpha, "changer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    struct forge_channel *second = logged_in("changer@alpha.example", "user1234");
    service_ok(service_ask(first));
    service_ok(service_ask(second));
    service_ok(change(first, NULL, "user1234", "user5678"));
    service_ok(service_ask(first));
    service_fails(service_ask(second), FORGE_UNAUTHENTICATED, "");
    service_fails(service_login("changer@alpha.example", "user1234", token), FORGE_UNAUTHENTICATED, "wrong password");
    service_ok(service_ask(logged_in("changer@alpha.example", "user5678")));
    snprintf(sql, sizeof sql,
             "SELECT (u.row_version = 2 AND u.updated_at = u.password_changed_at AND u.updated_at > u.created_at) || ' ' || (SELECT"
             " string_agg(action || ' ' || details::text, ',') FROM audit_log WHERE target_id = '%1$s' AND action <> 'user.create') || ' '"
             " || (SELECT count(*) FROM changes WHERE kind = 'user' AND object_id = '%1$s') FROM users u WHERE id = '%1$s'",
             id);
    assert_string_equal(service_query(sql), "true user.change_password {} 2"); /* changes: with the creation */
}

static void test_a_repeat_gets_its_reply_although_the_password_is_another_one_now(void **state)
{
    (void)state;
    char request_id[37];
    struct forge_channel *channel = service_user_make(&alpha, "repeat@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    strcpy(request_id, service_request_id());
    service_ok(change(channel, request_id, "user1234", "user5678"));
    service_ok(change(channel, request_id, "user1234", "user5678"));
    service_fails(change(channel, request_id, "user1234", "user9999"), FORGE_INVALID_ARGUMENT, "request_id");
    assert_string_equal(service_query("SELECT row_version FROM users WHERE email = 'repeat@alpha.example'"), "2");
}

static void test_wrong_fields_are_named(void **state)
{
    (void)state;
    service_violates(change(alpha.admin, NULL, "", ""), "current_password", "must be 1 to 128 bytes", "new_password",
                     "must be 1 to 128 bytes");
    service_violates(change(alpha.admin, NULL, service_repeat("x", 129), service_repeat("y", 129)), "current_password", "128 bytes",
                     "new_password", "128 bytes");
    service_violates(change(alpha.admin, NULL, "admin123", "admin123"), "new_password", "must differ from the current one");
}

static void test_wrong_passwords_are_counted_and_lock_the_account(void **state)
{
    (void)state;
    char token[128];
    struct forge_channel *channel = service_user_make(&alpha, "guesser@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    service_execute("DELETE FROM login_failures");
    for (int i = 0; i < 5; i++)
        fails_as_wrong(change(channel, NULL, "guess", "user5678"));
    service_ok(change(channel, NULL, "user1234", "user5678"));                                                /* and forgets them */
    assert_string_equal(service_query("SELECT max(failures) || ' ' || count(*) FROM login_failures"), "5 1"); /* the source's */
    for (int i = 0; i < 6; i++)
        fails_as_wrong(change(channel, NULL, "guess", "user1234"));
    /* Far enough ahead that the client's retry does not outlast it. */
    service_execute("UPDATE login_failures SET locked_until = now() + interval '10 minutes' WHERE failures = 6");
    service_fails(change(channel, NULL, "user5678", "user1234"), FORGE_RESOURCE_EXHAUSTED, "too many failed");
    service_fails(service_login("guesser@alpha.example", "user5678", token), FORGE_RESOURCE_EXHAUSTED, "too many failed");
    assert_string_equal(service_query("SELECT row_version FROM users WHERE email = 'guesser@alpha.example'"), "2");
    service_execute("DELETE FROM login_failures");
    service_ok(change(channel, NULL, "user5678", "user1234"));
}

static void test_only_sessions_change_passwords(void **state)
{
    (void)state;
    struct forge_channel *key = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, NULL);
    forge_code rc = change(key, NULL, "admin123", "admin456");
    assert_true(rc == FORGE_FAILED_PRECONDITION || rc == FORGE_PERMISSION_DENIED);
    assert_non_null(strstr(service_error.message, "session"));
    forge_error_free(&service_error);
    service_fails(change(service_channel(NULL), NULL, "admin123", "admin456"), FORGE_UNAUTHENTICATED, "");
    service_fails(change(service_operator(), NULL, "admin123", "admin456"), FORGE_PERMISSION_DENIED, "");
    service_ok(service_ask(logged_in(alpha.email, "admin123")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_change_ends_the_other_sessions),
        cmocka_unit_test(test_a_repeat_gets_its_reply_although_the_password_is_another_one_now),
        cmocka_unit_test(test_wrong_fields_are_named),
        cmocka_unit_test(test_wrong_passwords_are_counted_and_lock_the_account),
        cmocka_unit_test(test_only_sessions_change_passwords),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
