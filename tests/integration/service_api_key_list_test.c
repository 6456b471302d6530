/* OrganizationService over TLS: ListApiKeys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

static struct service_tenant alpha, beta;
static struct forge_channel *second; /* another admin of alpha */
static char second_id[37];
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static void key_make(struct forge_channel *channel, const char *name, const char *project_id)
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_READ;
    Forge__V1__ApiKey *key;
    request.name = TEXT(name);
    request.scopes = &scope;
    request.n_scopes = 1;
    request.project_id = TEXT(project_id);
    service_ok(forge_organization_create_api_key(channel, NULL, &request, &key, &service_error));
    forge__v1__api_key__free_unpacked(key, NULL);
}

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    second = service_user_make(&alpha, "second@alpha.example", FORGE__V1__ROLE__ROLE_ADMIN, second_id);
    key_make(alpha.admin, "a", "");
    key_make(second, "b", "");
    key_make(alpha.admin, "c", alpha.project_id);
    key_make(second, "d", alpha.project_id);
    key_make(alpha.admin, "expired", "");
    key_make(alpha.admin, "revoked", "");
    key_make(beta.admin, "foreign", "");
    service_execute("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE name = 'expired';"
                    "UPDATE api_keys SET revoked_at = now() WHERE name = 'revoked'");
    return 0;
}

/* The names on every page, "a b c". */
static const char *listed(struct forge_channel *channel, Forge__V1__ListApiKeysRequest request)
{
    static char text[512];
    Forge__V1__ListApiKeysResponse *page;
    char token[2048] = "";
    size_t length = 0;
    text[0] = '\0';
    do {
        request.page_token = token;
        service_ok(forge_organization_list_api_keys(channel, NULL, &request, &page, &service_error));
        assert_true(request.page_size == 0 || page->n_api_keys <= (size_t)request.page_size);
        for (size_t i = 0; i < page->n_api_keys; i++) {
            assert_string_equal(page->api_keys[i]->token, "");
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", length > 0 ? " " : "", page->api_keys[i]->name);
        }
        snprintf(token, sizeof token, "%s", page->next_page_token);
        forge__v1__list_api_keys_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    return text;
}

static void test_keys_are_listed_newest_first_with_filters(void **state)
{
    (void)state;
    Forge__V1__ListApiKeysRequest request = FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    assert_string_equal(listed(alpha.admin, request), "d c b a");
    request.page_size = 1;
    assert_string_equal(listed(alpha.admin, request), "d c b a");
    request.page_size = 0;
    request.project_id = alpha.project_id;
    assert_string_equal(listed(alpha.admin, request), "d c");
    request.creator_user_id = second_id;
    assert_string_equal(listed(alpha.admin, request), "d");
    request.project_id = TEXT("");
    assert_string_equal(listed(alpha.admin, request), "d b");
    request.service_account_id = TEXT(nobody_has);
    assert_string_equal(listed(alpha.admin, request), "");
    request = (Forge__V1__ListApiKeysRequest)FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    request.show_revoked = 1;
    request.page_size = 2;
    assert_string_equal(listed(alpha.admin, request), "revoked expired d c b a");
    assert_string_equal(listed(beta.admin, request), "foreign");
    request.project_id = alpha.project_id;
    assert_string_equal(listed(beta.admin, request), "");
}

/* Last: it makes a key that shows in lists. */
static void test_a_bound_key_sees_the_keys_of_its_project(void **state)
{
    (void)state;
    Forge__V1__ListApiKeysRequest request = FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id);
    assert_string_equal(listed(bound, request), "test d c");
}

static void test_a_key_shows_what_it_is(void **state)
{
    (void)state;
    Forge__V1__ListApiKeysRequest request = FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    Forge__V1__ListApiKeysResponse *page;
    request.show_revoked = 1;
    request.page_size = 1;
    service_execute("UPDATE api_keys SET last_used_at = created_at WHERE name = 'revoked'");
    service_ok(forge_organization_list_api_keys(alpha.admin, NULL, &request, &page, &service_error));
    const Forge__V1__ApiKey *key = page->api_keys[0];
    assert_string_equal(key->name, "revoked");
    assert_int_equal(strlen(key->token_prefix), 30);
    assert_int_equal(key->n_scopes, 1);
    assert_int_equal(strlen(key->creator_user_id), 36);
    assert_string_equal(key->project_id, "");
    assert_non_null(key->revoke_time);
    assert_int_equal(key->last_use_time->seconds, key->create_time->seconds);
    forge__v1__list_api_keys_response__free_unpacked(page, NULL);
}

static void test_wrong_lists_are_named_and_others_are_refused(void **state)
{
    (void)state;
    Forge__V1__ListApiKeysRequest request = FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    Forge__V1__ListApiKeysResponse *page, *none;
    request.page_size = -1;
    request.project_id = TEXT("x");
    request.creator_user_id = TEXT("y");
    request.service_account_id = TEXT("z");
    service_violates(forge_organization_list_api_keys(alpha.admin, NULL, &request, &page, &service_error), "project_id", "must be a UUID",
                     "creator_user_id", "must be a UUID", "service_account_id", "must be a UUID", "page_size", "");
    request = (Forge__V1__ListApiKeysRequest)FORGE__V1__LIST_API_KEYS_REQUEST__INIT;
    request.page_size = 1;
    service_ok(forge_organization_list_api_keys(alpha.admin, NULL, &request, &page, &service_error));
    request.page_token = page->next_page_token;
    request.show_revoked = 1;
    service_violates(forge_organization_list_api_keys(alpha.admin, NULL, &request, &none, &service_error), "page_token", "another query");
    request.show_revoked = 0;
    service_violates(forge_organization_list_api_keys(beta.admin, NULL, &request, &none, &service_error), "page_token", "");
    forge__v1__list_api_keys_response__free_unpacked(page, NULL);
    request.page_token = TEXT("");
    struct forge_channel *developer = service_user_make(&beta, "dev@beta.example", FORGE__V1__ROLE__ROLE_DEVELOPER, NULL);
    service_fails(forge_organization_list_api_keys(developer, NULL, &request, &none, &service_error), FORGE_PERMISSION_DENIED, "admin");
    service_fails(forge_organization_list_api_keys(service_operator(), NULL, &request, &none, &service_error), FORGE_PERMISSION_DENIED, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_are_listed_newest_first_with_filters),
        cmocka_unit_test(test_a_key_shows_what_it_is),
        cmocka_unit_test(test_wrong_lists_are_named_and_others_are_refused),
        cmocka_unit_test(test_a_bound_key_sees_the_keys_of_its_project),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
