/* ProjectService over TLS: CreateProject, GetProject, ListProjects. */
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
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static forge_code create(struct forge_channel *channel, const char *request_id, const char *name, const char *description,
                         Forge__V1__Project **out)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    const struct forge_call_options options = {.request_id = request_id};
    request.name = TEXT(name);
    request.description = TEXT(description);
    return forge_project_create(channel, &options, &request, out, &service_error);
}

static forge_code get(struct forge_channel *channel, const char *id, const char *name, Forge__V1__Project **out)
{
    Forge__V1__GetProjectRequest request = FORGE__V1__GET_PROJECT_REQUEST__INIT;
    request.id = TEXT(id);
    request.name = TEXT(name);
    return forge_project_get(channel, NULL, &request, out, &service_error);
}

static forge_code list(struct forge_channel *channel, const char *prefix, int32_t size, const char *token,
                       Forge__V1__ListProjectsResponse **out)
{
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    request.name_prefix = TEXT(prefix);
    request.page_size = size;
    request.page_token = TEXT(token);
    return forge_project_list(channel, NULL, &request, out, &service_error);
}

static void test_a_project_is_made_and_read_by_id_and_by_name(void **state)
{
    (void)state;
    Forge__V1__Project *made, *read;
    service_ok(create(alpha.admin, NULL, "Größe", "what it is for", &made));
    assert_string_equal(made->name, "Größe");
    assert_string_equal(made->description, "what it is for");
    assert_string_equal(made->organization_id, alpha.organization_id);
    assert_string_equal(made->etag, "1");
    assert_non_null(made->create_time);
    assert_null(made->update_time);
    service_ok(get(alpha.admin, made->id, "", &read));
    assert_string_equal(read->name, "Größe");
    assert_int_equal(read->create_time->seconds, made->create_time->seconds);
    assert_int_equal(read->create_time->nanos, made->create_time->nanos);
    forge__v1__project__free_unpacked(read, NULL);
    service_ok(get(alpha.admin, "", "Größe", &read));
    assert_string_equal(read->id, made->id);
    forge__v1__project__free_unpacked(read, NULL);
    forge__v1__project__free_unpacked(made, NULL);
}

static void test_every_wrong_field_of_a_new_project_is_named(void **state)
{
    (void)state;
    Forge__V1__Project *made;
    service_violates(create(alpha.admin, NULL, "", service_repeat("x", 4097), &made), "name", "must be 1 to 255 printable characters",
                     "description", "must be at most 4096 characters");
    service_violates(create(alpha.admin, NULL, service_repeat("ä", 256), "", &made), "name", "1 to 255");
    service_violates(create(alpha.admin, NULL, "a\nb", "", &made), "name", "printable");
    service_violates(create(alpha.admin, NULL, "a\u202e\u2028", "", &made), "name", "printable");
    service_ok(create(alpha.admin, NULL, service_repeat("ä", 255), service_repeat("ö", 4096), &made));
    forge__v1__project__free_unpacked(made, NULL);
}

static void test_a_name_is_unique_in_its_organization(void **state)
{
    (void)state;
    Forge__V1__Project *made;
    service_fails(create(alpha.admin, NULL, "main", "", &made), FORGE_ALREADY_EXISTS, "a project named \"main\" exists already");
    service_fails(create(beta.admin, NULL, "main", "", &made), FORGE_ALREADY_EXISTS, "exists already");
}

static void test_a_repeat_gets_the_stored_reply_and_another_body_is_refused(void **state)
{
    (void)state;
    Forge__V1__Project *first, *second;
    char request_id[37];
    strcpy(request_id, service_request_id());
    service_ok(create(alpha.admin, request_id, "replayed", "", &first));
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    const struct forge_call_options options = {.request_id = request_id};
    struct forge_reply_info info;
    ProtobufCMessage *reply;
    request.name = TEXT("replayed");
    service_ok(forge_channel_call_with_info(alpha.admin, forge_method_find("forge.v1.ProjectService/CreateProject"), &options,
                                            &request.base, &reply, &info, &service_error));
    second = (Forge__V1__Project *)reply;
    assert_true(info.replayed);
    assert_string_equal(first->id, second->id);
    forge__v1__project__free_unpacked(first, NULL);
    forge__v1__project__free_unpacked(second, NULL);
    service_fails(create(alpha.admin, request_id, "replayed differently", "", &first), FORGE_INVALID_ARGUMENT, "request_id");
    assert_string_equal(service_query("SELECT count(*) FROM projects WHERE name LIKE 'replayed%'"), "1");
}

static void test_a_write_is_told_to_other_servers(void **state)
{
    (void)state;
    Forge__V1__Project *made;
    char sql[256];
    service_ok(create(alpha.admin, NULL, "announced", "", &made));
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'project' AND object_id = '%s' AND organization_id = '%s'",
             made->id, alpha.organization_id);
    assert_string_equal(service_query(sql), "1");
    forge__v1__project__free_unpacked(made, NULL);
}

static void test_get_says_what_is_wrong(void **state)
{
    (void)state;
    Forge__V1__Project *read;
    service_violates(get(alpha.admin, "", "", &read), "id", "either id or name is required, not both");
    service_violates(get(alpha.admin, alpha.project_id, "main", &read), "id", "not both");
    service_violates(get(alpha.admin, "not-a-uuid", "", &read), "id", "must be a UUID");
    service_fails(get(alpha.admin, nobody_has, "", &read), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-000000000000 not found");
    service_fails(get(alpha.admin, "", "nowhere", &read), FORGE_NOT_FOUND, "project \"nowhere\" not found");
}

static void test_another_tenants_project_is_not_found(void **state)
{
    (void)state;
    Forge__V1__Project *read;
    service_fails(get(alpha.admin, beta.project_id, "", &read), FORGE_NOT_FOUND, "not found");
    service_fails(get(beta.admin, alpha.project_id, "", &read), FORGE_NOT_FOUND, "not found");
}

static void test_roles_and_bound_keys(void **state)
{
    (void)state;
    Forge__V1__Project *made;
    Forge__V1__ListProjectsResponse *listed;
    struct forge_channel *viewer = service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    struct forge_channel *developer = service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_WRITE, NULL);
    struct forge_channel *ingest = service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_INGEST, NULL);
    service_fails(create(viewer, NULL, "by viewer", "", &made), FORGE_PERMISSION_DENIED, "developer");
    service_fails(get(ingest, beta.project_id, "", &made), FORGE_PERMISSION_DENIED, "");
    service_fails(get(service_channel(NULL), beta.project_id, "", &made), FORGE_UNAUTHENTICATED, "");
    service_fails(get(service_operator(), beta.project_id, "", &made), FORGE_PERMISSION_DENIED, "");
    service_ok(create(developer, NULL, "by developer", "", &made));
    struct forge_channel *bound = service_key_channel(&beta, FORGE__V1__SCOPE__SCOPE_WRITE, made->id);
    char bound_id[37];
    strcpy(bound_id, made->id);
    forge__v1__project__free_unpacked(made, NULL);
    service_fails(create(bound, NULL, "by bound", "", &made), FORGE_PERMISSION_DENIED,
                  "this key is bound to one project and cannot create another");
    service_fails(get(bound, beta.project_id, "", &made), FORGE_PERMISSION_DENIED, "this key is bound to another project");
    service_fails(get(bound, "", "main", &made), FORGE_PERMISSION_DENIED, "this key is bound to another project");
    service_fails(get(bound, "", "nowhere", &made), FORGE_PERMISSION_DENIED, "this key is bound to another project");
    service_ok(get(bound, "", "by developer", &made));
    assert_string_equal(made->id, bound_id);
    forge__v1__project__free_unpacked(made, NULL);
    service_ok(list(bound, "", 0, "", &listed));
    assert_int_equal(listed->n_projects, 1);
    assert_string_equal(listed->projects[0]->id, bound_id);
    forge__v1__list_projects_response__free_unpacked(listed, NULL);
}

static void test_listing_goes_through_every_project_once_in_order(void **state)
{
    (void)state;
    struct service_tenant tenant;
    char names[2048] = "", token[4096] = "";
    service_tenant_make("listing", &tenant);
    static const char *const made_names[] = {"b", "a\U0001F600", "a", "aé", "B", "a b", "c"};
    for (size_t i = 0; i < sizeof made_names / sizeof made_names[0]; i++) {
        Forge__V1__Project *made;
        service_ok(create(tenant.admin, NULL, made_names[i], "", &made));
        forge__v1__project__free_unpacked(made, NULL);
    }
    unsigned pages = 0;
    do {
        Forge__V1__ListProjectsResponse *page;
        service_ok(list(tenant.admin, "", 3, token, &page));
        assert_in_range(page->n_projects, 1, 3);
        for (size_t i = 0; i < page->n_projects; i++)
            strcat(strcat(names, page->projects[i]->name), "|");
        strcpy(token, page->next_page_token);
        forge__v1__list_projects_response__free_unpacked(page, NULL);
        pages++;
    } while (token[0] != '\0');
    assert_int_equal(pages, 3);
    assert_string_equal(names, "B|a|a b|aé|a\U0001F600|b|c|main|");
}

static void test_prefixes_end_where_they_should(void **state)
{
    (void)state;
    struct service_tenant tenant;
    Forge__V1__ListProjectsResponse *page;
    service_tenant_make("prefixes", &tenant);
    static const char *const made_names[] = {"a\uD7FF-b", "a\uE000-b", "ab", "b", "\U0010FFFDx"};
    for (size_t i = 0; i < sizeof made_names / sizeof made_names[0]; i++) {
        Forge__V1__Project *made;
        service_ok(create(tenant.admin, NULL, made_names[i], "", &made));
        forge__v1__project__free_unpacked(made, NULL);
    }
    const struct {
        const char *prefix;
        size_t count;
    } cases[] = {{"a", 3}, {"a\uD7FF", 1}, {"a\uE000", 1}, {"ab", 1}, {"abc", 0}, {"\U0010FFFD", 1}, {"", 6}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        service_ok(list(tenant.admin, cases[i].prefix, 0, "", &page));
        if (page->n_projects != cases[i].count)
            fail_msg("prefix \"%s\": %zu projects", cases[i].prefix, page->n_projects);
        forge__v1__list_projects_response__free_unpacked(page, NULL);
    }
}

static void test_page_tokens_belong_to_their_query(void **state)
{
    (void)state;
    Forge__V1__ListProjectsResponse *page, *other;
    service_violates(list(alpha.admin, service_repeat("x", 256), -1, "garbage", &page), "page_size", "negative", "page_token", "",
                     "name_prefix", "at most 255");
    service_ok(list(alpha.admin, "", 1, "", &page));
    assert_string_not_equal(page->next_page_token, "");
    service_violates(list(alpha.admin, "m", 1, page->next_page_token, &other), "page_token", "another query");
    service_violates(list(beta.admin, "", 1, page->next_page_token, &other), "page_token", "damaged");
    page->next_page_token[strlen(page->next_page_token) / 2] ^= 1;
    service_violates(list(alpha.admin, "", 1, page->next_page_token, &other), "page_token", "");
    forge__v1__list_projects_response__free_unpacked(page, NULL);
    service_ok(list(alpha.admin, "", 100000, "", &page)); /* taken as 1,000 */
    forge__v1__list_projects_response__free_unpacked(page, NULL);
}

/* A page that ends with the longest name there is. */
static void test_a_page_can_end_with_the_longest_name(void **state)
{
    (void)state;
    struct service_tenant tenant;
    Forge__V1__Project *made;
    Forge__V1__ListProjectsResponse *page, *next;
    service_tenant_make("longest", &tenant);
    service_ok(create(tenant.admin, NULL, service_repeat("\U0001F600", 255), "", &made));
    forge__v1__project__free_unpacked(made, NULL);
    service_ok(create(tenant.admin, NULL, "\U0001F601", "", &made));
    forge__v1__project__free_unpacked(made, NULL);
    service_ok(list(tenant.admin, "\U0001F600", 1, "", &page));
    assert_int_equal(page->n_projects, 1);
    assert_string_equal(page->next_page_token, "");
    forge__v1__list_projects_response__free_unpacked(page, NULL);
    service_ok(list(tenant.admin, "", 2, "", &page));
    service_ok(list(tenant.admin, "", 2, page->next_page_token, &next));
    assert_int_equal(next->n_projects, 1);
    assert_string_equal(next->projects[0]->name, "\U0001F601");
    forge__v1__list_projects_response__free_unpacked(page, NULL);
    forge__v1__list_projects_response__free_unpacked(next, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_project_is_made_and_read_by_id_and_by_name),
        cmocka_unit_test(test_every_wrong_field_of_a_new_project_is_named),
        cmocka_unit_test(test_a_name_is_unique_in_its_organization),
        cmocka_unit_test(test_a_repeat_gets_the_stored_reply_and_another_body_is_refused),
        cmocka_unit_test(test_a_write_is_told_to_other_servers),
        cmocka_unit_test(test_get_says_what_is_wrong),
        cmocka_unit_test(test_another_tenants_project_is_not_found),
        cmocka_unit_test(test_roles_and_bound_keys),
        cmocka_unit_test(test_listing_goes_through_every_project_once_in_order),
        cmocka_unit_test(test_prefixes_end_where_they_should),
        cmocka_unit_test(test_page_tokens_belong_to_their_query),
        cmocka_unit_test(test_a_page_can_end_with_the_longest_name),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
