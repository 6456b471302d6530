/* PromptService over TLS: BatchGetPrompts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <string.h>

enum { REQUESTS_MAX = 100, LARGE = 6 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__GetPromptRequest items[REQUESTS_MAX + 1], *item_pointers[REQUESTS_MAX + 1];

static Forge__V1__GetPromptRequest *item(size_t index, const char *id)
{
    items[index] = (Forge__V1__GetPromptRequest)FORGE__V1__GET_PROMPT_REQUEST__INIT;
    items[index].id = TEXT(id);
    item_pointers[index] = &items[index];
    return &items[index];
}

static forge_code batch(struct forge_channel *channel, size_t count, Forge__V1__BatchGetPromptsResponse **out)
{
    Forge__V1__BatchGetPromptsRequest request = FORGE__V1__BATCH_GET_PROMPTS_REQUEST__INIT;
    request.n_requests = count;
    request.requests = item_pointers;
    return forge_prompt_batch_get(channel, NULL, &request, out, &service_error);
}

static void refused(const Forge__V1__BatchGetPromptsResult *result, forge_code code, const char *part)
{
    assert_int_equal(result->code, code);
    assert_null(result->prompt);
    assert_non_null(strstr(result->message, part));
}

static void test_each_item_is_answered_as_get_prompt_would(void **state)
{
    (void)state;
    char one[37], two[37], foreign[37];
    Forge__V1__BatchGetPromptsResponse *out;
    service_prompt_make(alpha.admin, alpha.project_id, "one", "text one", one);
    service_prompt_make(alpha.admin, alpha.project_id, "two", "text two", two);
    service_prompt_make(beta.admin, beta.project_id, "foreign", "text", foreign);
    item(0, two);
    item(1, nobody_has);
    item(2, "");
    Forge__V1__GetPromptRequest *by_name = item(3, ""), *version = item(4, one);
    by_name->project_id = alpha.project_id;
    by_name->name = TEXT("one");
    version->selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    version->version = 2;
    item(5, foreign);
    item(6, two); /* once more */
    service_ok(batch(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), 7, &out));
    assert_int_equal(out->n_results, 7);
    assert_int_equal(out->results[0]->code, FORGE__V1__CODE__CODE_OK);
    assert_string_equal(out->results[0]->message, "");
    assert_string_equal(out->results[0]->prompt->content, "text two");
    refused(out->results[1], FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    refused(out->results[2], FORGE_INVALID_ARGUMENT, "id: either id, or project_id and name, is required");
    assert_string_equal(out->results[3]->prompt->id, one);
    assert_string_equal(out->results[3]->prompt->name, "one");
    refused(out->results[4], FORGE_NOT_FOUND, "version 2");
    refused(out->results[5], FORGE_NOT_FOUND, "not found");
    assert_string_equal(out->results[6]->prompt->id, two);
    forge__v1__batch_get_prompts_response__free_unpacked(out, NULL);
}

static void test_a_bound_key_gets_its_project_only(void **state)
{
    (void)state;
    char outside[37], inside[37];
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *other;
    Forge__V1__BatchGetPromptsResponse *out;
    project.name = TEXT("bound");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &other, &service_error));
    service_prompt_make(alpha.admin, alpha.project_id, "outside", "text", outside);
    service_prompt_make(alpha.admin, other->id, "inside", "text", inside);
    item(0, outside);
    item(1, inside);
    Forge__V1__GetPromptRequest *by_name = item(2, "");
    by_name->project_id = alpha.project_id;
    by_name->name = TEXT("outside");
    service_ok(batch(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, other->id), 3, &out));
    refused(out->results[0], FORGE_NOT_FOUND, "not found");
    assert_string_equal(out->results[1]->prompt->id, inside);
    refused(out->results[2], FORGE_PERMISSION_DENIED, "bound to another project");
    forge__v1__batch_get_prompts_response__free_unpacked(out, NULL);
    forge__v1__project__free_unpacked(other, NULL);
}

static void test_a_full_reply_leaves_the_rest_for_the_next_call(void **state)
{
    (void)state;
    char large[LARGE][37], name[32];
    Forge__V1__BatchGetPromptsResponse *out;
    for (int i = 0; i < LARGE; i++) {
        snprintf(name, sizeof name, "large %d", i);
        service_prompt_make(alpha.admin, alpha.project_id, name, service_repeat("x", 900000), large[i]);
        item((size_t)i, large[i]);
    }
    service_ok(batch(alpha.admin, LARGE, &out));
    for (int i = 0; i < LARGE; i++) {
        if (i < 4)
            assert_string_equal(out->results[i]->prompt->id, large[i]);
        else
            refused(out->results[i], FORGE_RESOURCE_EXHAUSTED, "the reply is full");
    }
    forge__v1__batch_get_prompts_response__free_unpacked(out, NULL);
    item(0, large[4]);
    item(1, large[5]);
    service_ok(batch(alpha.admin, 2, &out));
    assert_string_equal(out->results[1]->prompt->id, large[5]);
    forge__v1__batch_get_prompts_response__free_unpacked(out, NULL);
}

static void test_a_hundred_are_answered_and_one_more_is_not(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__BatchGetPromptsResponse *out;
    service_prompt_make(alpha.admin, alpha.project_id, "hundred", "text", id);
    for (size_t i = 0; i <= REQUESTS_MAX; i++)
        item(i, id);
    service_ok(batch(alpha.admin, REQUESTS_MAX, &out));
    assert_int_equal(out->n_results, REQUESTS_MAX);
    for (size_t i = 0; i < REQUESTS_MAX; i++)
        assert_string_equal(out->results[i]->prompt->id, id);
    forge__v1__batch_get_prompts_response__free_unpacked(out, NULL);
    service_violates(batch(alpha.admin, REQUESTS_MAX + 1, &out), "requests", "1 to 100");
    service_violates(batch(alpha.admin, 0, &out), "requests", "1 to 100");
    service_fails(batch(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), 1, &out), FORGE_PERMISSION_DENIED, "");
    service_fails(batch(service_channel(NULL), 1, &out), FORGE_UNAUTHENTICATED, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_item_is_answered_as_get_prompt_would),
        cmocka_unit_test(test_a_bound_key_gets_its_project_only),
        cmocka_unit_test(test_a_full_reply_leaves_the_rest_for_the_next_call),
        cmocka_unit_test(test_a_hundred_are_answered_and_one_more_is_not),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
