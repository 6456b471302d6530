/* OrganizationService over TLS: UpdateOrganization, DeleteOrganization, ListOrganizations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

static struct service_tenant alpha, beta;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* --- UpdateOrganization --- */

static forge_code update(struct forge_channel *channel, const Forge__V1__UpdateOrganizationRequest *request, Forge__V1__Organization **out)
{
    return forge_organization_update(channel, NULL, request, out, &service_error);
}

/* Updates alpha, checks slug, name, description and etag of the reply. */
static void updated(const Forge__V1__UpdateOrganizationRequest *request, const char *slug, const char *name, const char *description,
                    const char *etag)
{
    Forge__V1__Organization *reply;
    service_ok(update(alpha.admin, request, &reply));
    assert_string_equal(reply->id, alpha.organization_id);
    assert_string_equal(reply->slug, slug);
    assert_string_equal(reply->name, name);
    assert_string_equal(reply->description, description);
    assert_string_equal(reply->etag, etag);
    assert_non_null(reply->update_time);
    forge__v1__organization__free_unpacked(reply, NULL);
}

static void test_an_update_changes_what_the_mask_names(void **state)
{
    (void)state;
    char *slug_path[] = {TEXT("slug")}, *description_path[] = {TEXT("description")}, *all[] = {TEXT("*")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    Forge__V1__UpdateOrganizationRequest request = FORGE__V1__UPDATE_ORGANIZATION_REQUEST__INIT;
    request.name = TEXT("Alpha GmbH"); /* without a mask: what is not at its default */
    request.description = TEXT("first");
    updated(&request, "alpha", "Alpha GmbH", "first", "2");
    request.id = alpha.organization_id;
    request.update_mask = &mask;
    mask.n_paths = 1;
    mask.paths = slug_path;
    request.slug = TEXT("alpha-gmbh");
    request.name = TEXT("not named");
    updated(&request, "alpha-gmbh", "Alpha GmbH", "first", "3");
    mask.paths = description_path;
    request.description = TEXT("");
    request.etag = TEXT("3");
    updated(&request, "alpha-gmbh", "Alpha GmbH", "", "4");
    mask.paths = all;
    request.slug = TEXT("alpha");
    request.name = TEXT("alpha");
    request.etag = TEXT("");
    updated(&request, "alpha", "alpha", "", "5");
    assert_string_equal(service_query("SELECT slug || '|' || name FROM organization_names WHERE slug LIKE 'alpha%'"), "alpha|alpha");
    assert_string_equal(service_query("SELECT string_agg((details->'old'->>'slug') || '>' || (details->'new'->>'slug'), ',' ORDER BY"
                                      " sequence) FROM audit_log WHERE action = 'organization.update'"),
                        "alpha>alpha,alpha>alpha-gmbh,alpha-gmbh>alpha-gmbh,alpha-gmbh>alpha");
    assert_string_equal(service_query("SELECT count(*) FROM changes c JOIN organization_names n USING (organization_id) WHERE kind ="
                                      " 'organization' AND slug = 'alpha'"),
                        "5"); /* with its creation */
}

static void test_wrong_updates_are_named_and_change_nothing(void **state)
{
    (void)state;
    char *paths[] = {TEXT("name"), TEXT("etag"), TEXT("slug"), TEXT("description")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    Forge__V1__UpdateOrganizationRequest request = FORGE__V1__UPDATE_ORGANIZATION_REQUEST__INIT;
    Forge__V1__Organization *reply;
    request.id = TEXT("x");
    request.update_mask = &mask;
    mask.n_paths = 4;
    mask.paths = paths;
    request.slug = TEXT("Not A Slug");
    request.description = service_repeat("x", 4097);
    request.etag = service_repeat("1", 65);
    service_violates(update(beta.admin, &request, &reply), "id", "must be a UUID", "update_mask", "\"etag\" is not a field", "name",
                     "1 to 255", "slug", "must be 1 to 63 of a-z, 0-9 and -", "description", "4096", "etag", "64 bytes");
    request = (Forge__V1__UpdateOrganizationRequest)FORGE__V1__UPDATE_ORGANIZATION_REQUEST__INIT;
    service_violates(update(beta.admin, &request, &reply), "update_mask", "names nothing to change");
    request.slug = TEXT("alpha");
    service_fails(update(beta.admin, &request, &reply), FORGE_ALREADY_EXISTS, "an organization with slug \"alpha\" exists already");
    request.slug = TEXT("other");
    request.etag = TEXT("7");
    service_fails(update(beta.admin, &request, &reply), FORGE_ABORTED, "has changed since");
    request.etag = TEXT("");
    request.id = alpha.organization_id;
    service_fails(update(beta.admin, &request, &reply), FORGE_NOT_FOUND, "not found");
    request.id = TEXT("");
    service_fails(update(service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), &request, &reply), FORGE_PERMISSION_DENIED,
                  "admin");
    service_fails(update(service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_ADMIN, beta.project_id), &request, &reply),
                  FORGE_PERMISSION_DENIED, "bound to one project");
    assert_string_equal(service_query("SELECT o.slug || ' ' || n.slug || ' ' || row_version FROM organizations o JOIN organization_names n"
                                      " USING (organization_id) WHERE o.name = 'beta'"),
                        "beta beta 1");
}

static void test_a_repeated_update_gets_the_first_reply(void **state)
{
    (void)state;
    const struct forge_method *method = forge_method_find("forge.v1.OrganizationService/UpdateOrganization");
    Forge__V1__UpdateOrganizationRequest request = FORGE__V1__UPDATE_ORGANIZATION_REQUEST__INIT;
    struct service_tenant tenant;
    ProtobufCMessage *again;
    Forge__V1__Organization *reply;
    struct forge_reply_info info;
    char request_id[37];
    service_tenant_make("replaying", &tenant);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    request.name = TEXT("first");
    request.etag = TEXT("1"); /* stale by the time of the repeat */
    service_ok(forge_organization_update(tenant.admin, &options, &request, &reply, &service_error));
    forge__v1__organization__free_unpacked(reply, NULL);
    service_ok(forge_channel_call_with_info(tenant.admin, method, &options, &request.base, &again, &info, &service_error));
    assert_true(info.replayed);
    assert_string_equal(((Forge__V1__Organization *)again)->etag, "2");
    protobuf_c_message_free_unpacked(again, NULL);
    request.name = TEXT("second");
    service_fails(forge_organization_update(tenant.admin, &options, &request, &reply, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id");
}

/* --- DeleteOrganization --- */

static forge_code delete_with(struct forge_channel *channel, const char *id, const char *confirm_name, const char *etag)
{
    Forge__V1__DeleteOrganizationRequest request = FORGE__V1__DELETE_ORGANIZATION_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = TEXT(id);
    request.confirm_name = TEXT(confirm_name);
    request.etag = TEXT(etag);
    forge_code rc = forge_organization_delete(channel, NULL, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

static void test_a_deletion_needs_the_name_and_an_admin(void **state)
{
    (void)state;
    struct service_tenant guarded;
    service_tenant_make("guarded", &guarded);
    service_violates(delete_with(guarded.admin, "x", "", service_repeat("1", 65)), "id", "must be a UUID", "confirm_name", "is required",
                     "etag", "64 bytes");
    service_fails(delete_with(guarded.admin, "", "Guarded", ""), FORGE_FAILED_PRECONDITION, "confirm_name is not the name");
    service_fails(delete_with(guarded.admin, "", "guarded", "2"), FORGE_ABORTED, "has changed since");
    service_fails(delete_with(beta.admin, guarded.organization_id, "guarded", ""), FORGE_NOT_FOUND, "not found");
    service_fails(delete_with(service_user_make(&guarded, "dev@guarded.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL), "", "guarded", ""),
                  FORGE_PERMISSION_DENIED, "admin");
    service_fails(delete_with(service_key_channel(&guarded, FORGE__V1__SCOPE__SCOPE_ADMIN, guarded.project_id), "", "guarded", ""),
                  FORGE_PERMISSION_DENIED, "bound to one project");
    service_fails(delete_with(service_operator(), guarded.organization_id, "guarded", ""), FORGE_PERMISSION_DENIED, "");
    service_ok(service_ask(guarded.admin));
    assert_string_equal(service_query("SELECT count(*) FROM organization_names WHERE deleted_at IS NOT NULL"), "0");
}

static void test_a_deleted_organization_is_only_marked_and_all_its_credentials_are_refused(void **state)
{
    (void)state;
    struct service_tenant doomed;
    char token[128], prompt_id[37], sql[512];
    service_tenant_make("doomed", &doomed);
    service_prompt_make(doomed.admin, doomed.project_id, "kept", "one", prompt_id);
    struct forge_channel *user = service_user_make(&doomed, "user@doomed.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    struct forge_channel *key = service_key_channel(&doomed, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    struct forge_channel *unused = service_key_channel(&doomed, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_ok(service_ask(user));
    service_ok(service_ask(key));
    service_ok(delete_with(doomed.admin, doomed.organization_id, "doomed", "1"));
    service_fails(service_ask(doomed.admin), FORGE_UNAUTHENTICATED, "deleted");
    service_fails(service_ask(user), FORGE_UNAUTHENTICATED, "deleted");
    service_fails(service_ask(key), FORGE_UNAUTHENTICATED, "deleted");
    service_fails(service_ask(unused), FORGE_UNAUTHENTICATED, "deleted");
    service_fails(delete_with(doomed.admin, "", "doomed", ""), FORGE_UNAUTHENTICATED, "deleted");
    service_fails(service_login("user@doomed.example", "user1234", token), FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password");
    snprintf(sql, sizeof sql,
             "SELECT (o.deleted_at = n.deleted_at) || ' ' || (SELECT count(*) FROM prompts WHERE id = '%s') || ' ' || (SELECT count(*) FROM"
             " audit_log a WHERE a.organization_id = o.organization_id AND action = 'organization.delete' AND details->>'slug' = 'doomed')"
             " FROM organizations o JOIN organization_names n USING (organization_id) WHERE o.organization_id = '%s'",
             prompt_id, doomed.organization_id);
    assert_string_equal(service_query(sql), "true 1 1"); /* its rows are maintenance's to remove */
    service_ok(service_ask(beta.admin));
}

/* --- ListOrganizations --- */

/* The slugs of every page, "a b c"; deleted ones in brackets. */
static const char *listed(Forge__V1__ListOrganizationsRequest request)
{
    static char text[512];
    Forge__V1__ListOrganizationsResponse *page;
    char token[2048] = "";
    size_t length = 0;
    text[0] = '\0';
    do {
        request.page_token = token;
        service_ok(forge_organization_list(service_operator(), NULL, &request, &page, &service_error));
        assert_true(request.page_size == 0 || page->n_organizations <= (size_t)request.page_size);
        for (size_t i = 0; i < page->n_organizations; i++)
            length += (size_t)snprintf(text + length, sizeof text - length, page->organizations[i]->delete_time != NULL ? "[%s]" : "%s ",
                                       page->organizations[i]->slug);
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_organizations_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    return text;
}

static void test_operators_list_organizations_by_slug(void **state)
{
    (void)state;
    Forge__V1__ListOrganizationsRequest request = FORGE__V1__LIST_ORGANIZATIONS_REQUEST__INIT;
    Forge__V1__ListOrganizationsResponse *page;
    struct service_tenant tenant;
    static const char *const slugs[] = {"list-c", "list-a", "list-b", "list"};
    for (size_t i = 0; i < sizeof slugs / sizeof slugs[0]; i++)
        service_tenant_make(slugs[i], &tenant);
    service_ok(delete_with(tenant.admin, "", "list", ""));
    request.slug_prefix = TEXT("list");
    assert_string_equal(listed(request), "list-a list-b list-c ");
    request.page_size = 1;
    request.show_deleted = 1;
    assert_string_equal(listed(request), "[list]list-a list-b list-c ");
    request.slug_prefix = TEXT("list-b");
    assert_string_equal(listed(request), "list-b ");
    request.page_size = 0;
    service_ok(forge_organization_list(service_operator(), NULL, &request, &page, &service_error));
    assert_string_equal(page->organizations[0]->name, "list-b");
    assert_int_equal(strlen(page->organizations[0]->id), 36);
    assert_non_null(page->organizations[0]->create_time);
    forge__v1__list_organizations_response__free_unpacked(page, NULL);
}

static void test_wrong_lists_are_named(void **state)
{
    (void)state;
    Forge__V1__ListOrganizationsRequest request = FORGE__V1__LIST_ORGANIZATIONS_REQUEST__INIT;
    Forge__V1__ListOrganizationsResponse *page, *none;
    request.page_size = -1;
    request.slug_prefix = TEXT("Alpha");
    service_violates(forge_organization_list(service_operator(), NULL, &request, &page, &service_error), "page_size", "", "slug_prefix",
                     "must be at most 63 of a-z, 0-9 and -");
    request.page_size = 1;
    request.slug_prefix = TEXT("");
    service_ok(forge_organization_list(service_operator(), NULL, &request, &page, &service_error));
    request.page_token = page->next_page_token;
    request.show_deleted = 1;
    service_violates(forge_organization_list(service_operator(), NULL, &request, &none, &service_error), "page_token", "another query");
    service_fails(forge_organization_list(alpha.admin, NULL, &request, &none, &service_error), FORGE_PERMISSION_DENIED, "operator");
    forge__v1__list_organizations_response__free_unpacked(page, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_update_changes_what_the_mask_names),
        cmocka_unit_test(test_wrong_updates_are_named_and_change_nothing),
        cmocka_unit_test(test_a_repeated_update_gets_the_first_reply),
        cmocka_unit_test(test_a_deletion_needs_the_name_and_an_admin),
        cmocka_unit_test(test_a_deleted_organization_is_only_marked_and_all_its_credentials_are_refused),
        cmocka_unit_test(test_operators_list_organizations_by_slug),
        cmocka_unit_test(test_wrong_lists_are_named),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
