/* OrganizationService over TLS: UpdateUser, DeleteUser, and the last enabled admin, who stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <pthread.h>
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

/* The id of a user, by e-mail. */
static void id_of(const char *email, char out_id[37])
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT id FROM users WHERE email = '%s'", email);
    snprintf(out_id, 37, "%s", service_query(sql));
}

static Forge__V1__UpdateUserRequest update_of(const char *id)
{
    Forge__V1__UpdateUserRequest request = FORGE__V1__UPDATE_USER_REQUEST__INIT;
    request.id = TEXT(id);
    return request;
}

static forge_code update(struct forge_channel *channel, const Forge__V1__UpdateUserRequest *request, Forge__V1__User **out)
{
    return forge_organization_update_user(channel, NULL, request, out, &service_error);
}

/* Updates as admin of alpha; the reply is checked by the caller's eyes: name, role, disabled, etag. */
static void updated(const Forge__V1__UpdateUserRequest *request, const char *name, Forge__V1__Role role, bool disabled, const char *etag)
{
    Forge__V1__User *user;
    service_ok(update(alpha.admin, request, &user));
    assert_string_equal(user->display_name, name);
    assert_int_equal(user->role, role);
    assert_int_equal(user->disabled, disabled);
    assert_string_equal(user->etag, etag);
    assert_non_null(user->update_time);
    forge__v1__user__free_unpacked(user, NULL);
}

static forge_code delete_with(struct forge_channel *channel, const char *id, const char *etag)
{
    Forge__V1__DeleteUserRequest request = FORGE__V1__DELETE_USER_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = TEXT(id);
    request.etag = TEXT(etag);
    forge_code rc = forge_organization_delete_user(channel, NULL, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

static void fails_as_last_admin(forge_code rc)
{
    assert_int_equal(rc, FORGE_FAILED_PRECONDITION);
    assert_string_equal(service_error.reason, "LAST_ADMIN");
    service_fails(rc, FORGE_FAILED_PRECONDITION, "is the last enabled admin");
}

/* --- UpdateUser --- */

static void test_an_update_changes_what_the_mask_names(void **state)
{
    (void)state;
    char id[37], sql[512];
    char *disabled_path[] = {TEXT("disabled")}, *name_path[] = {TEXT("display_name")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    service_user_make(&alpha, "masked@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    Forge__V1__UpdateUserRequest request = update_of(id);
    request.display_name = TEXT("Masked");
    request.role = FORGE__V1__ROLE__ROLE_DEVELOPER;
    updated(&request, "Masked", FORGE__V1__ROLE__ROLE_DEVELOPER, false, "2");
    request = update_of(id);
    request.disabled = 1;
    updated(&request, "Masked", FORGE__V1__ROLE__ROLE_DEVELOPER, true, "3");
    request.disabled = 0;
    request.role = FORGE__V1__ROLE__ROLE_ADMIN;
    request.update_mask = &mask;
    mask.n_paths = 1;
    mask.paths = disabled_path;
    request.etag = TEXT("3");
    updated(&request, "Masked", FORGE__V1__ROLE__ROLE_DEVELOPER, false, "4");
    mask.paths = name_path;
    request.etag = TEXT("");
    updated(&request, "masked@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, false, "5"); /* named and empty: the default */
    snprintf(sql, sizeof sql,
             "SELECT string_agg((details->'old'->>'role') || '>' || (details->'new'->>'role') || ' ' || COALESCE(details->'new'->>"
             "'disabled', 'false'), ', ' ORDER BY sequence) FROM audit_log WHERE action = 'user.update' AND target_id = '%s'",
             id);
    assert_string_equal(service_query(sql), "ROLE_VIEWER>ROLE_DEVELOPER false, ROLE_DEVELOPER>ROLE_DEVELOPER true,"
                                            " ROLE_DEVELOPER>ROLE_DEVELOPER false, ROLE_DEVELOPER>ROLE_DEVELOPER false");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'user' AND object_id = '%s'", id);
    assert_string_equal(service_query(sql), "5"); /* with the creation */
}

static void test_wrong_updates_are_named_and_change_nothing(void **state)
{
    (void)state;
    char id[37];
    char *paths[] = {TEXT("email"), TEXT("*")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    Forge__V1__User *user;
    struct forge_channel *developer = service_user_make(&alpha, "wrong@alpha.example", FORGE__V1__ROLE__ROLE_DEVELOPER, id);
    Forge__V1__UpdateUserRequest request = update_of("x");
    request.update_mask = &mask;
    mask.n_paths = 2;
    mask.paths = paths;
    request.display_name = TEXT("a\nb");
    request.etag = service_repeat("1", 65);
    service_violates(update(alpha.admin, &request, &user), "id", "must be a UUID", "update_mask", "\"email\" is not a field",
                     "display_name", "printable", "role", "must be ROLE_VIEWER", "password", "must be 1 to 128", "etag", "64 bytes");
    request = update_of(id);
    service_violates(update(alpha.admin, &request, &user), "update_mask", "names nothing to change");
    request.display_name = TEXT("changed");
    request.etag = TEXT("2");
    service_fails(update(alpha.admin, &request, &user), FORGE_ABORTED, "has changed since");
    request.etag = TEXT("");
    service_fails(update(beta.admin, &request, &user), FORGE_NOT_FOUND, "not found");
    service_fails(update(developer, &request, &user), FORGE_PERMISSION_DENIED, "admin");
    service_fails(update(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id), &request, &user),
                  FORGE_PERMISSION_DENIED, "bound to one project");
    request.id = TEXT(nobody_has);
    service_fails(update(alpha.admin, &request, &user), FORGE_NOT_FOUND, "user 01890000-0000-7000-8000-000000000000 not found");
    assert_string_equal(service_query("SELECT name || ' ' || row_version FROM users WHERE email = 'wrong@alpha.example'"),
                        "wrong@alpha.example 1");
}

static void test_a_repeated_update_gets_the_first_reply(void **state)
{
    (void)state;
    const struct forge_method *method = forge_method_find("forge.v1.OrganizationService/UpdateUser");
    char id[37], request_id[37];
    ProtobufCMessage *again;
    Forge__V1__User *user;
    struct forge_reply_info info;
    service_user_make(&alpha, "repeated@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__UpdateUserRequest request = update_of(id);
    request.password = TEXT("another one");
    request.etag = TEXT("1"); /* stale by the time of the repeat */
    service_ok(forge_organization_update_user(alpha.admin, &options, &request, &user, &service_error));
    forge__v1__user__free_unpacked(user, NULL);
    service_ok(forge_channel_call_with_info(alpha.admin, method, &options, &request.base, &again, &info, &service_error));
    assert_true(info.replayed);
    assert_string_equal(((Forge__V1__User *)again)->etag, "2");
    protobuf_c_message_free_unpacked(again, NULL);
    request.password = TEXT("yet another one");
    service_fails(forge_organization_update_user(alpha.admin, &options, &request, &user, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id");
}

static void test_a_new_password_and_disabling_end_sessions(void **state)
{
    (void)state;
    char id[37], token[128];
    Forge__V1__User *user;
    struct forge_channel *session = service_user_make(&alpha, "ended@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    service_ok(service_ask(session));
    Forge__V1__UpdateUserRequest request = update_of(id);
    request.password = TEXT("another one");
    service_ok(update(alpha.admin, &request, &user));
    assert_true(user->password_change_time->seconds > user->create_time->seconds ||
                user->password_change_time->nanos != user->create_time->nanos);
    forge__v1__user__free_unpacked(user, NULL);
    service_fails(service_ask(session), FORGE_UNAUTHENTICATED, "");
    service_fails(service_login("ended@alpha.example", "user1234", token), FORGE_UNAUTHENTICATED, "wrong password");
    service_ok(service_login("ended@alpha.example", "another one", token));
    session = service_channel(token);
    service_ok(service_ask(session));
    request = update_of(id);
    request.role = FORGE__V1__ROLE__ROLE_DEVELOPER;
    service_ok(update(alpha.admin, &request, &user));
    forge__v1__user__free_unpacked(user, NULL);
    service_ok(service_ask(session)); /* another role does not end it */
    request = update_of(id);
    request.disabled = 1;
    service_ok(update(alpha.admin, &request, &user));
    forge__v1__user__free_unpacked(user, NULL);
    service_fails(service_ask(session), FORGE_UNAUTHENTICATED, "");
    service_fails(service_login("ended@alpha.example", "another one", token), FORGE_UNAUTHENTICATED, "wrong password");
    assert_string_equal(service_query("SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id WHERE email ="
                                      " 'ended@alpha.example'"),
                        "0");
}

static void test_a_key_has_no_more_than_its_creator(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__User *user;
    Forge__V1__Project *project;
    Forge__V1__CreateProjectRequest create = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    struct service_tenant creator = alpha;
    creator.admin = service_user_make(&alpha, "creator@alpha.example", FORGE__V1__ROLE__ROLE_ADMIN, id);
    struct forge_channel *key = service_key_channel(&creator, FORGE__V1__SCOPE__SCOPE_WRITE, NULL);
    create.name = TEXT("by the key");
    service_ok(forge_project_create(key, NULL, &create, &project, &service_error));
    forge__v1__project__free_unpacked(project, NULL);
    Forge__V1__UpdateUserRequest request = update_of(id);
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    service_ok(update(alpha.admin, &request, &user));
    forge__v1__user__free_unpacked(user, NULL);
    create.name = TEXT("by the key again");
    service_fails(forge_project_create(key, NULL, &create, &project, &service_error), FORGE_PERMISSION_DENIED, "developer");
    service_ok(service_ask(key));
    request = update_of(id);
    request.disabled = 1;
    service_ok(update(alpha.admin, &request, &user));
    forge__v1__user__free_unpacked(user, NULL);
    service_fails(service_ask(key), FORGE_UNAUTHENTICATED, "disabled");
}

/* --- DeleteUser --- */

static void test_a_deleted_user_is_gone_and_the_work_stays(void **state)
{
    (void)state;
    char id[37], sql[512];
    Forge__V1__CreatePromptRequest create = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    Forge__V1__GetUserRequest get = FORGE__V1__GET_USER_REQUEST__INIT;
    Forge__V1__User *user;
    struct service_tenant author = alpha;
    author.admin = service_user_make(&alpha, "author@alpha.example", FORGE__V1__ROLE__ROLE_ADMIN, id);
    struct forge_channel *key = service_key_channel(&author, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_ok(service_ask(key));
    create.project_id = alpha.project_id;
    create.name = TEXT("authored");
    create.content = TEXT("one");
    service_ok(forge_prompt_create(author.admin, NULL, &create, &prompt, &service_error));
    service_violates(delete_with(alpha.admin, "", service_repeat("1", 65)), "id", "is required", "etag", "64 bytes");
    service_fails(delete_with(alpha.admin, id, "2"), FORGE_ABORTED, "has changed since");
    service_fails(delete_with(beta.admin, id, ""), FORGE_NOT_FOUND, "not found");
    service_fails(delete_with(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), id, ""), FORGE_PERMISSION_DENIED, "admin");
    service_fails(delete_with(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id), id, ""),
                  FORGE_PERMISSION_DENIED, "bound to one project");
    service_ok(service_ask(author.admin));
    service_ok(delete_with(alpha.admin, id, "1"));
    service_fails(service_ask(author.admin), FORGE_UNAUTHENTICATED, "");
    service_fails(service_ask(key), FORGE_UNAUTHENTICATED, "");
    get.id = id;
    service_fails(forge_organization_get_user(alpha.admin, NULL, &get, &user, &service_error), FORGE_NOT_FOUND, id);
    service_fails(delete_with(alpha.admin, id, ""), FORGE_NOT_FOUND, "not found");
    snprintf(sql, sizeof sql,
             "SELECT (SELECT count(*) FROM login_names WHERE user_id = '%1$s') || ' ' || (SELECT count(*) FROM api_keys WHERE created_by ="
             " '%1$s') || ' ' || (SELECT count(*) FROM prompt_versions WHERE prompt_id = '%2$s' AND author = '%1$s') || ' ' || (SELECT"
             " string_agg(details->>'email', ',') FROM audit_log WHERE action = 'user.delete' AND target_id = '%1$s')",
             id, prompt->id);
    assert_string_equal(service_query(sql), "0 0 1 author@alpha.example");
    forge__v1__prompt__free_unpacked(prompt, NULL);
    service_user_make(&beta, "author@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL); /* the e-mail is free */
}

static void test_a_repeated_deletion_gets_its_reply(void **state)
{
    (void)state;
    const struct forge_method *method = forge_method_find("forge.v1.OrganizationService/DeleteUser");
    Forge__V1__DeleteUserRequest request = FORGE__V1__DELETE_USER_REQUEST__INIT;
    char id[37], request_id[37];
    ProtobufCMessage *reply;
    struct forge_reply_info info;
    service_user_make(&alpha, "twice@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, id);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    request.id = id;
    for (int time = 0; time < 2; time++) {
        service_ok(forge_channel_call_with_info(alpha.admin, method, &options, &request.base, &reply, &info, &service_error));
        assert_int_equal(info.replayed, time == 1);
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    request.etag = TEXT("1");
    service_fails(forge_channel_call(alpha.admin, method, &options, &request.base, &reply, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id");
}

/* --- the last admin --- */

static void test_the_last_enabled_admin_stays(void **state)
{
    (void)state;
    char id[37], second_id[37];
    Forge__V1__User *user;
    struct service_tenant tenant;
    service_tenant_make("lonely", &tenant);
    id_of(tenant.email, id);
    Forge__V1__UpdateUserRequest demote = update_of(id), disable = update_of(id), rename = update_of(id);
    demote.role = FORGE__V1__ROLE__ROLE_DEVELOPER;
    disable.disabled = 1;
    rename.display_name = TEXT("Lonely");
    service_user_make(&tenant, "helper@lonely.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL);
    service_user_make(&tenant, "second@lonely.example", FORGE__V1__ROLE__ROLE_ADMIN, second_id);
    Forge__V1__UpdateUserRequest second = update_of(second_id);
    second.disabled = 1;
    service_ok(update(tenant.admin, &second, &user)); /* a disabled admin does not count */
    forge__v1__user__free_unpacked(user, NULL);
    fails_as_last_admin(update(tenant.admin, &demote, &user));
    fails_as_last_admin(update(tenant.admin, &disable, &user));
    fails_as_last_admin(delete_with(tenant.admin, id, ""));
    service_ok(update(tenant.admin, &rename, &user));
    assert_string_equal(user->etag, "2"); /* the refusals changed nothing */
    forge__v1__user__free_unpacked(user, NULL);
    service_ok(delete_with(tenant.admin, second_id, ""));
    service_user_make(&tenant, "third@lonely.example", FORGE__V1__ROLE__ROLE_ADMIN, NULL);
    service_ok(delete_with(tenant.admin, id, "")); /* there is another one */
    service_fails(service_ask(tenant.admin), FORGE_UNAUTHENTICATED, "");
}

struct demotion {
    struct forge_channel *channel;
    const char *id;
    bool by_deletion;
    forge_code rc;
    struct forge_error error;
};

static void *demote(void *user)
{
    struct demotion *demotion = user;
    if (demotion->by_deletion) {
        Forge__V1__DeleteUserRequest request = FORGE__V1__DELETE_USER_REQUEST__INIT;
        Google__Protobuf__Empty *empty;
        request.id = TEXT(demotion->id);
        demotion->rc = forge_organization_delete_user(demotion->channel, NULL, &request, &empty, &demotion->error);
        if (demotion->rc == FORGE_OK)
            google__protobuf__empty__free_unpacked(empty, NULL);
        return NULL;
    }
    Forge__V1__UpdateUserRequest request = update_of(demotion->id);
    Forge__V1__User *changed;
    request.role = FORGE__V1__ROLE__ROLE_VIEWER;
    demotion->rc = forge_organization_update_user(demotion->channel, NULL, &request, &changed, &demotion->error);
    if (demotion->rc == FORGE_OK)
        forge__v1__user__free_unpacked(changed, NULL);
    return NULL;
}

/* Holds the organization's row until both calls wait for it, so that neither has decided anything yet. */
static void run_at_once(const struct service_tenant *tenant, struct demotion demotions[2])
{
    pthread_t threads[2];
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT FROM organizations WHERE organization_id = '%s' FOR NO KEY UPDATE", tenant->organization_id);
    struct service_lock *lock = service_lock_take(sql);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, demote, &demotions[i]), 0);
    service_lock_wait(lock, 2);
    service_lock_release(lock);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* Each admin on a server of its own. */
static void demote_each_other(const char *name, bool by_deletion)
{
    struct service_tenant tenant;
    struct forge_channel *second;
    char first_id[37], second_id[37], email[64], token[128], sql[512];
    service_tenant_make(name, &tenant);
    id_of(tenant.email, first_id);
    snprintf(email, sizeof email, "second@%s.example", name);
    service_user_make(&tenant, email, FORGE__V1__ROLE__ROLE_ADMIN, second_id);
    service_ok(service_login(email, "user1234", token));
    struct forged_child *other = forged_world_serve(service_world(), NULL);
    const struct forge_channel_options options = {
        .addresses = forged_child_address(other), .token = token, .ca_file = tls_files_path(forged_world_tls(service_world()), "ca.pem")};
    service_ok(forge_channel_open(&options, &second, &service_error));
    service_ok(service_ask(second)); /* both credentials are known */
    struct demotion demotions[2] = {{.channel = tenant.admin, .id = second_id, .by_deletion = by_deletion},
                                    {.channel = second, .id = first_id}};
    run_at_once(&tenant, demotions);
    int refused = demotions[0].rc == FORGE_OK ? 1 : 0;
    assert_int_equal(demotions[!refused].rc, FORGE_OK);
    assert_int_equal(demotions[refused].rc, FORGE_FAILED_PRECONDITION);
    assert_string_equal(demotions[refused].error.reason, "LAST_ADMIN");
    forge_error_free(&demotions[0].error);
    forge_error_free(&demotions[1].error);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM users WHERE organization_id = '%s' AND role = 'admin' AND NOT disabled",
             tenant.organization_id);
    assert_string_equal(service_query(sql), "1");
    forge_channel_close(second);
    forged_child_stop(other);
}

static void test_two_admins_who_demote_each_other_at_once_leave_one(void **state)
{
    (void)state;
    demote_each_other("duel", false);
    demote_each_other("ambush", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_update_changes_what_the_mask_names),
        cmocka_unit_test(test_wrong_updates_are_named_and_change_nothing),
        cmocka_unit_test(test_a_repeated_update_gets_the_first_reply),
        cmocka_unit_test(test_a_new_password_and_disabling_end_sessions),
        cmocka_unit_test(test_a_key_has_no_more_than_its_creator),
        cmocka_unit_test(test_a_deleted_user_is_gone_and_the_work_stays),
        cmocka_unit_test(test_a_repeated_deletion_gets_its_reply),
        cmocka_unit_test(test_the_last_enabled_admin_stays),
        cmocka_unit_test(test_two_admins_who_demote_each_other_at_once_leave_one),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
