/* OrganizationService over TLS: CreateUser, GetUser, ListUsers. Changes: service_user_change_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__CreateUserRequest new_user(const char *email)
{
    Forge__V1__CreateUserRequest request = FORGE__V1__CREATE_USER_REQUEST__INIT;
    request.email = TEXT(email);
    request.role = FORGE__V1__ROLE__ROLE_DEVELOPER;
    request.password = TEXT("secret password");
    return request;
}

static forge_code create(struct forge_channel *channel, const Forge__V1__CreateUserRequest *request, Forge__V1__User **out)
{
    return forge_organization_create_user(channel, NULL, request, out, &service_error);
}

static forge_code get(struct forge_channel *channel, const char *id, const char *email, Forge__V1__User **out)
{
    Forge__V1__GetUserRequest request = FORGE__V1__GET_USER_REQUEST__INIT;
    request.id = TEXT(id);
    request.email = TEXT(email);
    return forge_organization_get_user(channel, NULL, &request, out, &service_error);
}

static void test_a_user_is_made_and_logs_in(void **state)
{
    (void)state;
    Forge__V1__CreateUserRequest request = new_user("Ada@Alpha.Example");
    Forge__V1__User *user;
    char token[128], sql[512];
    service_ok(create(alpha.admin, &request, &user));
    assert_string_equal(user->email, "ada@alpha.example");
    assert_string_equal(user->display_name, "ada@alpha.example");
    assert_string_equal(user->organization_id, alpha.organization_id);
    assert_int_equal(user->role, FORGE__V1__ROLE__ROLE_DEVELOPER);
    assert_false(user->disabled);
    assert_string_equal(user->etag, "1");
    assert_null(user->update_time);
    assert_null(user->last_login_time);
    assert_int_equal(user->create_time->seconds, user->password_change_time->seconds);
    service_ok(service_login("ADA@alpha.example", "secret password", token));
    service_ok(service_ask(service_channel(token)));
    snprintf(
        sql, sizeof sql,
        "SELECT action || '|' || (details->>'email') || '|' || (details->>'role') || '|' || (canonical::text LIKE '%%argon%%') || '|' ||"
        " (position('secret password'::bytea in canonical) > 0) FROM audit_log WHERE target_id = '%s'",
        user->id);
    assert_string_equal(service_query(sql), "user.create|ada@alpha.example|ROLE_DEVELOPER|false|false");
    snprintf(sql, sizeof sql, "SELECT password_hash LIKE '$argon2id$%%' FROM users WHERE id = '%s'", user->id);
    assert_string_equal(service_query(sql), "t");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'user' AND object_id = '%s'", user->id);
    assert_string_equal(service_query(sql), "1");
    forge__v1__user__free_unpacked(user, NULL);
}

static void test_an_e_mail_is_taken_in_the_whole_installation(void **state)
{
    (void)state;
    Forge__V1__CreateUserRequest request = new_user("taken@alpha.example");
    Forge__V1__User *user;
    service_ok(create(alpha.admin, &request, &user));
    forge__v1__user__free_unpacked(user, NULL);
    service_fails(create(alpha.admin, &request, &user), FORGE_ALREADY_EXISTS, "a user with e-mail taken@alpha.example exists already");
    request.email = TEXT("TAKEN@alpha.example");
    service_fails(create(beta.admin, &request, &user), FORGE_ALREADY_EXISTS, "a user with e-mail taken@alpha.example exists already");
    assert_string_equal(service_query("SELECT count(*) FROM users WHERE email = 'taken@alpha.example'"), "1");
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    Forge__V1__CreateUserRequest request = FORGE__V1__CREATE_USER_REQUEST__INIT;
    Forge__V1__User *user;
    request.display_name = TEXT("a\nb");
    service_violates(create(alpha.admin, &request, &user), "email", "must be an e-mail address", "display_name", "printable", "role",
                     "must be ROLE_VIEWER, ROLE_DEVELOPER or ROLE_ADMIN", "password", "must be 1 to 128 bytes");
    request = new_user("long@alpha.example");
    request.password = service_repeat("x", 129);
    service_violates(create(alpha.admin, &request, &user), "password", "128 bytes");
    request.role = (Forge__V1__Role)4;
    service_violates(create(alpha.admin, &request, &user), "role", "4 is not a value of Role");
}

static void test_production_mode_wants_long_passwords(void **state)
{
    (void)state;
    const char *const flags[] = {"--mode=production", NULL};
    struct forged_child *strict = forged_world_serve(service_world(), flags);
    const struct forge_channel_options options = {.addresses = forged_child_address(strict),
                                                  .token = alpha.token,
                                                  .ca_file = tls_files_path(forged_world_tls(service_world()), "ca.pem")};
    Forge__V1__CreateUserRequest request = new_user("strict@alpha.example");
    Forge__V1__UpdateUserRequest update = FORGE__V1__UPDATE_USER_REQUEST__INIT;
    Forge__V1__ChangePasswordRequest change = FORGE__V1__CHANGE_PASSWORD_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    Forge__V1__User *user;
    struct forge_channel *channel;
    service_ok(forge_channel_open(&options, &channel, &service_error));
    request.password = TEXT("eleven byte");
    service_violates(create(channel, &request, &user), "password", "must be 12 to 128 bytes");
    update.id = TEXT(nobody_has);
    update.password = TEXT("eleven byte");
    service_violates(forge_organization_update_user(channel, NULL, &update, &user, &service_error), "password", "must be 12 to 128 bytes");
    change.current_password = TEXT("admin123");
    change.new_password = TEXT("eleven byte");
    service_violates(forge_organization_change_password(channel, NULL, &change, &empty, &service_error), "new_password",
                     "must be 12 to 128 bytes");
    request.password = TEXT("twelve bytes");
    service_ok(create(channel, &request, &user));
    forge__v1__user__free_unpacked(user, NULL);
    forge_channel_close(channel);
    forged_child_stop(strict);
}

static void test_a_repeat_makes_one_user(void **state)
{
    (void)state;
    const struct forge_method *method = forge_method_find("forge.v1.OrganizationService/CreateUser");
    Forge__V1__CreateUserRequest request = new_user("repeated@alpha.example");
    ProtobufCMessage *again;
    Forge__V1__User *first, *second;
    struct forge_reply_info info;
    char request_id[37];
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    service_ok(forge_organization_create_user(alpha.admin, &options, &request, &first, &service_error));
    service_ok(forge_channel_call_with_info(alpha.admin, method, &options, &request.base, &again, &info, &service_error));
    second = (Forge__V1__User *)again;
    assert_true(info.replayed);
    assert_string_equal(first->id, second->id);
    request.password = TEXT("another password");
    forge__v1__user__free_unpacked(second, NULL);
    service_fails(forge_organization_create_user(alpha.admin, &options, &request, &second, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id");
    forge__v1__user__free_unpacked(first, NULL);
}

static void test_only_admins_of_the_whole_organization_make_users(void **state)
{
    (void)state;
    Forge__V1__CreateUserRequest request = new_user("refused@alpha.example");
    Forge__V1__User *user;
    service_fails(create(service_user_make(&alpha, "dev@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL), &request, &user),
                  FORGE_PERMISSION_DENIED, "admin");
    service_fails(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id), &request, &user),
                  FORGE_PERMISSION_DENIED, "bound to one project");
    service_fails(create(service_operator(), &request, &user), FORGE_PERMISSION_DENIED, "");
    service_fails(create(service_channel(NULL), &request, &user), FORGE_UNAUTHENTICATED, "");
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    request.display_name = TEXT("Made by a key");
    service_ok(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, NULL), &request, &user));
    assert_string_equal(user->display_name, "Made by a key");
    assert_int_equal(user->role, FORGE__V1__ROLE__ROLE_VIEWER);
    forge__v1__user__free_unpacked(user, NULL);
}

/* --- GetUser --- */

static void test_a_user_is_read_by_id_or_e_mail(void **state)
{
    (void)state;
    Forge__V1__User *user;
    char id[37];
    struct forge_channel *viewer = service_user_make(&alpha, "read@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    service_ok(get(viewer, id, "", &user));
    assert_string_equal(user->email, "read@alpha.example");
    assert_non_null(user->last_login_time); /* and a login is no change */
    assert_string_equal(user->etag, "1");
    assert_null(user->update_time);
    forge__v1__user__free_unpacked(user, NULL);
    service_ok(get(viewer, "", "Read@Alpha.Example", &user));
    assert_string_equal(user->id, id);
    forge__v1__user__free_unpacked(user, NULL);
    service_fails(get(beta.admin, id, "", &user), FORGE_NOT_FOUND, "not found");
    service_fails(get(beta.admin, "", "read@alpha.example", &user), FORGE_NOT_FOUND, "not found");
    service_fails(get(viewer, nobody_has, "", &user), FORGE_NOT_FOUND, "user 01890000-0000-7000-8000-000000000000 not found");
    service_violates(get(viewer, "", "", &user), "id", "either id or email is required, not both");
    service_violates(get(viewer, id, "read@alpha.example", &user), "id", "either id or email");
    service_violates(get(viewer, "x", "", &user), "id", "must be a UUID");
    service_violates(get(viewer, "", "x", &user), "email", "must be an e-mail address");
    service_fails(get(service_operator(), id, "", &user), FORGE_PERMISSION_DENIED, "");
}

/* --- ListUsers --- */

static struct service_tenant listing; /* an organization with users of its own: see list_setup */

/* The local parts of the e-mails of every page, "a b c". */
static const char *listed(Forge__V1__ListUsersRequest request)
{
    static char text[512];
    Forge__V1__ListUsersResponse *page;
    char token[2048] = "";
    size_t length = 0;
    text[0] = '\0';
    do {
        request.page_token = token;
        service_ok(forge_organization_list_users(listing.admin, NULL, &request, &page, &service_error));
        assert_true(request.page_size == 0 || page->n_users <= (size_t)request.page_size);
        for (size_t i = 0; i < page->n_users; i++)
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%.*s", length > 0 ? " " : "",
                                       (int)strcspn(page->users[i]->email, "@"), page->users[i]->email);
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_users_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    return text;
}

static void list_setup(void)
{
    static const char *const names[] = {"bob", "bea", "carl", "dora"};
    service_tenant_make("listing", &listing);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char email[64];
        snprintf(email, sizeof email, "%s@listing.example", names[i]);
        Forge__V1__CreateUserRequest request = new_user(email);
        Forge__V1__User *user;
        request.role = i % 2 == 0 ? FORGE__V1__ROLE__ROLE_VIEWER : FORGE__V1__ROLE__ROLE_DEVELOPER;
        service_ok(create(listing.admin, &request, &user));
        forge__v1__user__free_unpacked(user, NULL);
    }
    service_execute("UPDATE users SET disabled = true WHERE email IN ('bob@listing.example', 'dora@listing.example')");
}

static void test_users_are_listed_by_e_mail_with_filters(void **state)
{
    (void)state;
    Google__Protobuf__BoolValue disabled = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
    Forge__V1__ListUsersRequest request = FORGE__V1__LIST_USERS_REQUEST__INIT;
    list_setup();
    assert_string_equal(listed(request), "admin bea bob carl dora");
    request.page_size = 2;
    assert_string_equal(listed(request), "admin bea bob carl dora");
    request.email_prefix = TEXT("B");
    request.page_size = 1;
    assert_string_equal(listed(request), "bea bob");
    request.email_prefix = TEXT("bob@listing.example!");
    assert_string_equal(listed(request), "");
    request.email_prefix = TEXT("");
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    assert_string_equal(listed(request), "bob carl");
    request.disabled = &disabled;
    assert_string_equal(listed(request), "carl");
    request.role = FORGE__V1__ROLE__ROLE_UNSPECIFIED;
    assert_string_equal(listed(request), "admin bea carl");
    disabled.value = 1;
    assert_string_equal(listed(request), "bob dora");
}

static void test_wrong_lists_are_named(void **state)
{
    (void)state;
    Forge__V1__ListUsersRequest request = FORGE__V1__LIST_USERS_REQUEST__INIT;
    Forge__V1__ListUsersResponse *page, *none;
    struct forge_channel *viewer = service_user_make(&alpha, "lister@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    request.page_size = -1;
    request.email_prefix = service_repeat("x", 255);
    service_violates(forge_organization_list_users(viewer, NULL, &request, &page, &service_error), "email_prefix", "254", "page_size", "");
    request = (Forge__V1__ListUsersRequest)FORGE__V1__LIST_USERS_REQUEST__INIT;
    request.page_size = 1;
    service_ok(forge_organization_list_users(viewer, NULL, &request, &page, &service_error));
    request.page_token = page->next_page_token;
    request.role = FORGE__V1__ROLE__ROLE_ADMIN;
    service_violates(forge_organization_list_users(viewer, NULL, &request, &none, &service_error), "page_token", "another query");
    service_fails(forge_organization_list_users(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), NULL, &request, &none,
                                                &service_error),
                  FORGE_PERMISSION_DENIED, "");
    forge__v1__list_users_response__free_unpacked(page, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_user_is_made_and_logs_in),     cmocka_unit_test(test_an_e_mail_is_taken_in_the_whole_installation),
        cmocka_unit_test(test_every_wrong_field_is_named),     cmocka_unit_test(test_production_mode_wants_long_passwords),
        cmocka_unit_test(test_a_repeat_makes_one_user),        cmocka_unit_test(test_only_admins_of_the_whole_organization_make_users),
        cmocka_unit_test(test_a_user_is_read_by_id_or_e_mail), cmocka_unit_test(test_users_are_listed_by_e_mail_with_filters),
        cmocka_unit_test(test_wrong_lists_are_named),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
