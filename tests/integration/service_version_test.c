/* PromptService over TLS: CreatePromptVersion and ListPromptVersions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITERS = 16, VERSIONS_EACH = 12 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__CreatePromptVersionRequest new_version(const char *prompt_id, const char *content)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT(prompt_id);
    request.content = TEXT(content);
    return request;
}

static forge_code create(struct forge_channel *channel, const Forge__V1__CreatePromptVersionRequest *request,
                         Forge__V1__PromptVersion **out)
{
    return forge_prompt_create_version(channel, NULL, request, out, &service_error);
}

/* Creates and frees; the version's number, its sign is that of existing. */
static int create_number(const Forge__V1__CreatePromptVersionRequest *request)
{
    Forge__V1__PromptVersion *version;
    service_ok(create(alpha.admin, request, &version));
    int number = version->existing ? -version->version : version->version;
    forge__v1__prompt_version__free_unpacked(version, NULL);
    return number;
}

static Forge__V1__Prompt *get(const char *id)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.id = TEXT(id);
    service_ok(forge_prompt_get(alpha.admin, NULL, &request, &prompt, &service_error));
    return prompt;
}

static void test_a_version_is_added_and_current_stays(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__PromptVersion *version;
    service_prompt_make(alpha.admin, alpha.project_id, "added", "one", id);
    Forge__V1__CreatePromptVersionRequest request = new_version(id, "two {{x}}");
    request.message = TEXT("why");
    request.parameters = TEXT("{\"top_p\":1}");
    service_ok(create(alpha.admin, &request, &version));
    assert_int_equal(version->version, 2);
    assert_false(version->existing);
    assert_false(version->current);
    assert_string_equal(version->prompt_id, id);
    assert_string_equal(version->content, "two {{x}}");
    assert_string_equal(version->message, "why");
    assert_int_equal(version->n_variables, 1);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    Forge__V1__Prompt *prompt = get(id);
    assert_int_equal(prompt->version, 1);
    assert_int_equal(prompt->current_version, 1);
    assert_int_equal(prompt->latest_version, 2);
    assert_string_equal(prompt->etag, "1"); /* a new version alone does not change it */
    assert_non_null(prompt->update_time);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_identical_content_gives_the_version_that_has_it(void **state)
{
    (void)state;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "identical", "one", id);
    Forge__V1__CreatePromptVersionRequest two = new_version(id, "two"), one = new_version(id, "one"), spelled = two;
    assert_int_equal(create_number(&two), 2);
    assert_int_equal(create_number(&two), -2);
    assert_int_equal(create_number(&one), -1);
    two.message = TEXT("message and author do not count");
    assert_int_equal(create_number(&two), -2);
    /* Parameters count by what they say, not by how they are spelled. */
    spelled.parameters = TEXT("{\"a\":1,\"b\":[true,null]}");
    assert_int_equal(create_number(&spelled), 3);
    spelled.parameters = TEXT(" { \"b\" : [ true, null ], \"a\" : 1 } ");
    assert_int_equal(create_number(&spelled), -3);
    spelled.parameters = TEXT("{\"a\":2,\"b\":[true,null]}");
    assert_int_equal(create_number(&spelled), 4);
    /* What is content in one field is not the same in another. */
    two.system_prompt = TEXT("s");
    assert_int_equal(create_number(&two), 5);
    two.system_prompt = TEXT("");
    two.content = TEXT("twos");
    assert_int_equal(create_number(&two), 6);
    Forge__V1__Prompt *prompt = get(id);
    assert_int_equal(prompt->latest_version, 6);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_make_current_compares_and_sets(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__PromptVersion *version;
    service_prompt_make(alpha.admin, alpha.project_id, "current", "one", id);
    Forge__V1__CreatePromptVersionRequest request = new_version(id, "two");
    request.make_current = 1;
    request.expected_current = 7;
    service_fails(create(alpha.admin, &request, &version), FORGE_ABORTED, "version 1 is current, not 7");
    Forge__V1__Prompt *prompt = get(id);
    assert_int_equal(prompt->latest_version, 1); /* the refusal left nothing */
    forge__v1__prompt__free_unpacked(prompt, NULL);
    request.expected_current = 1;
    service_ok(create(alpha.admin, &request, &version));
    assert_true(version->current);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    prompt = get(id);
    assert_int_equal(prompt->current_version, 2);
    assert_string_equal(prompt->content, "two");
    assert_string_equal(prompt->etag, "2");
    forge__v1__prompt__free_unpacked(prompt, NULL);
    request = new_version(id, "one"); /* an existing version becomes current too */
    request.make_current = 1;
    service_ok(create(alpha.admin, &request, &version));
    assert_true(version->existing);
    assert_true(version->current);
    assert_int_equal(version->version, 1);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    prompt = get(id);
    assert_int_equal(prompt->current_version, 1);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__PromptVersion *version;
    service_prompt_make(alpha.admin, alpha.project_id, "wrong", "one", id);
    Forge__V1__CreatePromptVersionRequest request = new_version("x", "{{");
    request.expected_current = 1;
    request.parameters = TEXT("{");
    service_violates(create(alpha.admin, &request, &version), "prompt_id", "must be a UUID", "parameters", "must be a JSON object",
                     "content", "line 1", "expected_current", "needs make_current");
    request = new_version(id, "");
    request.expected_current = -1;
    service_violates(create(alpha.admin, &request, &version), "content", "exactly one of", "expected_current", "must be 0 or more");
    request = new_version(nobody_has, "x");
    service_fails(create(alpha.admin, &request, &version), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    request = new_version(id, "x");
    service_fails(create(beta.admin, &request, &version), FORGE_NOT_FOUND, "not found");
    service_fails(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), &request, &version), FORGE_PERMISSION_DENIED,
                  "developer");
    assert_int_equal(create_number(&request), 2); /* none of the refusals took a number */
}

static void test_a_bound_key_writes_in_its_project_only(void **state)
{
    (void)state;
    char inside[37], outside[37];
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *other;
    Forge__V1__PromptVersion *version;
    project.name = TEXT("bound");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &other, &service_error));
    service_prompt_make(alpha.admin, other->id, "inside", "one", inside);
    service_prompt_make(alpha.admin, alpha.project_id, "outside", "one", outside);
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, other->id);
    Forge__V1__CreatePromptVersionRequest request = new_version(outside, "two");
    service_fails(create(bound, &request, &version), FORGE_NOT_FOUND, "not found");
    request.content = TEXT("one"); /* not even the one that exists */
    service_fails(create(bound, &request, &version), FORGE_NOT_FOUND, "not found");
    request = new_version(inside, "two");
    service_ok(create(bound, &request, &version));
    assert_int_equal(version->version, 2);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    forge__v1__project__free_unpacked(other, NULL);
}

static void test_a_repeat_adds_nothing(void **state)
{
    (void)state;
    char id[37], request_id[37];
    Forge__V1__PromptVersion *version;
    service_prompt_make(alpha.admin, alpha.project_id, "repeat", "one", id);
    Forge__V1__CreatePromptVersionRequest request = new_version(id, "two");
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    for (int i = 0; i < 3; i++) {
        service_ok(forge_prompt_create_version(alpha.admin, &options, &request, &version, &service_error));
        assert_int_equal(version->version, 2);
        assert_false(version->existing); /* the first answer, not a new one */
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
    request.content = TEXT("three");
    service_fails(forge_prompt_create_version(alpha.admin, &options, &request, &version, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id");
}

/* --- numbers without gaps under concurrent writers --- */

struct writer {
    pthread_barrier_t *barrier;
    struct forge_channel *channel;
    const char *prompt_id;
    unsigned number;
    int versions[VERSIONS_EACH]; /* as answered */
    forge_code rc;
    struct forge_error error;
};

static void *write_versions(void *argument)
{
    struct writer *writer = argument;
    pthread_barrier_wait(writer->barrier);
    for (int i = 0; i < VERSIONS_EACH && writer->rc == FORGE_OK; i++) {
        char content[64];
        Forge__V1__PromptVersion *version;
        snprintf(content, sizeof content, "writer %u, text %d", writer->number, i);
        Forge__V1__CreatePromptVersionRequest request = new_version(writer->prompt_id, content);
        request.make_current = i % 3 == 0;
        writer->rc = forge_prompt_create_version(writer->channel, NULL, &request, &version, &writer->error);
        if (writer->rc == FORGE_OK) {
            writer->versions[i] = version->version;
            forge__v1__prompt_version__free_unpacked(version, NULL);
        }
    }
    return NULL;
}

static void run_writers(struct writer writers[WRITERS], void *(*run)(void *))
{
    pthread_barrier_t barrier;
    pthread_t threads[WRITERS];
    assert_int_equal(pthread_barrier_init(&barrier, NULL, WRITERS), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].barrier = &barrier;
        writers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, run, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&barrier);
    for (unsigned i = 0; i < WRITERS; i++)
        if (writers[i].rc != FORGE_OK)
            fail_msg("writer %u: %s: %s", i, forge_code_name(writers[i].rc), writers[i].error.message);
}

static void test_sixteen_writers_number_without_gaps(void **state)
{
    (void)state;
    static struct writer writers[WRITERS];
    static unsigned seen[WRITERS * VERSIONS_EACH + 2];
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "contended", "one", id);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].channel = i % 2 == 0 ? alpha.admin : service_channel(alpha.token);
        writers[i].prompt_id = id;
    }
    run_writers(writers, write_versions);
    for (unsigned i = 0; i < WRITERS; i++)
        for (int j = 0; j < VERSIONS_EACH; j++) {
            assert_in_range(writers[i].versions[j], 2, WRITERS * VERSIONS_EACH + 1);
            seen[writers[i].versions[j]]++;
        }
    for (int version = 2; version <= WRITERS * VERSIONS_EACH + 1; version++)
        assert_int_equal(seen[version], 1);
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT count(*) = max(version) AND max(version) = %d AND (SELECT newest_version FROM prompts WHERE id = '%s') = max(version)"
             " FROM prompt_versions WHERE prompt_id = '%s'",
             WRITERS * VERSIONS_EACH + 1, id, id);
    assert_string_equal(service_query(sql), "t");
}

static void *write_the_same(void *argument)
{
    struct writer *writer = argument;
    Forge__V1__PromptVersion *version;
    Forge__V1__CreatePromptVersionRequest request = new_version(writer->prompt_id, "everybody's");
    pthread_barrier_wait(writer->barrier);
    writer->rc = forge_prompt_create_version(writer->channel, NULL, &request, &version, &writer->error);
    if (writer->rc == FORGE_OK) {
        writer->versions[0] = version->existing ? -version->version : version->version;
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
    return NULL;
}

static void test_sixteen_writers_of_one_content_make_one_version(void **state)
{
    (void)state;
    static struct writer writers[WRITERS];
    char id[37];
    unsigned made = 0;
    service_prompt_make(alpha.admin, alpha.project_id, "same content", "one", id);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].channel = alpha.admin;
        writers[i].prompt_id = id;
    }
    run_writers(writers, write_the_same);
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(abs(writers[i].versions[0]), 2);
        made += writers[i].versions[0] > 0;
    }
    assert_int_equal(made, 1);
}

/* --- ListPromptVersions --- */

static void test_versions_are_listed_newest_first(void **state)
{
    (void)state;
    char id[37], numbers[256] = "", token[2048] = "";
    Forge__V1__ListPromptVersionsRequest request = FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    Forge__V1__ListPromptVersionsResponse *page;
    service_prompt_make(alpha.admin, alpha.project_id, "listed", "text 1", id);
    for (int i = 2; i <= 7; i++) {
        char content[32];
        snprintf(content, sizeof content, "text %d", i);
        Forge__V1__CreatePromptVersionRequest version = new_version(id, content);
        version.make_current = i == 4;
        assert_int_equal(create_number(&version), i);
    }
    request.prompt_id = id;
    request.page_size = 3;
    do {
        request.page_token = token;
        service_ok(forge_prompt_list_versions(alpha.admin, NULL, &request, &page, &service_error));
        for (size_t i = 0; i < page->n_versions; i++) {
            size_t length = strlen(numbers);
            snprintf(numbers + length, sizeof numbers - length, "%d%s ", page->versions[i]->version, page->versions[i]->current ? "*" : "");
            assert_string_equal(page->versions[i]->content, "");
        }
        strcpy(token, page->next_page_token);
        forge__v1__list_prompt_versions_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    assert_string_equal(numbers, "7 6 5 4* 3 2 1 ");
    request.page_token = TEXT("");
    request.page_size = 0;
    request.view = FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    service_ok(forge_prompt_list_versions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_versions, 7);
    assert_string_equal(page->versions[6]->content, "text 1");
    request.author_id = TEXT(nobody_has);
    forge__v1__list_prompt_versions_response__free_unpacked(page, NULL);
    service_ok(forge_prompt_list_versions(alpha.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_versions, 0);
    assert_string_equal(page->next_page_token, "");
    forge__v1__list_prompt_versions_response__free_unpacked(page, NULL);
}

static void test_listing_says_what_is_wrong(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__ListPromptVersionsRequest request = FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    Forge__V1__ListPromptVersionsResponse *page;
    service_prompt_make(alpha.admin, alpha.project_id, "listing", "x", id);
    request.page_size = -1;
    request.author_id = TEXT("x");
    service_violates(forge_prompt_list_versions(alpha.admin, NULL, &request, &page, &service_error), "prompt_id", "is required",
                     "page_size", "negative", "author_id", "must be a UUID");
    request = (Forge__V1__ListPromptVersionsRequest)FORGE__V1__LIST_PROMPT_VERSIONS_REQUEST__INIT;
    request.prompt_id = TEXT(nobody_has);
    service_fails(forge_prompt_list_versions(alpha.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND,
                  "prompt 01890000-0000-7000-8000-000000000000 not found");
    request.prompt_id = id;
    service_fails(forge_prompt_list_versions(beta.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND, "not found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_version_is_added_and_current_stays),
        cmocka_unit_test(test_identical_content_gives_the_version_that_has_it),
        cmocka_unit_test(test_make_current_compares_and_sets),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_a_bound_key_writes_in_its_project_only),
        cmocka_unit_test(test_a_repeat_adds_nothing),
        cmocka_unit_test(test_sixteen_writers_number_without_gaps),
        cmocka_unit_test(test_sixteen_writers_of_one_content_make_one_version),
        cmocka_unit_test(test_versions_are_listed_newest_first),
        cmocka_unit_test(test_listing_says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
