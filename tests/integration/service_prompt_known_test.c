/* GetPrompt over TLS with known_etag: callers who have the answer already are told so and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ETAG_SIZE = 65 };

static struct service_tenant alpha, beta;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__GetPromptRequest by_id(const char *id)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.id = TEXT(id);
    return request;
}

static Forge__V1__GetPromptRequest by_label(const char *id, const char *subject)
{
    Forge__V1__GetPromptRequest request = by_id(id);
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
    request.label = TEXT("live");
    request.subject = TEXT(subject);
    return request;
}

static Forge__V1__Prompt *get(Forge__V1__GetPromptRequest request, const char *known)
{
    Forge__V1__Prompt *prompt;
    request.known_etag = TEXT(known);
    service_ok(forge_prompt_get(alpha.admin, NULL, &request, &prompt, &service_error));
    return prompt;
}

/* The whole prompt with another etag than the one known; that of the reply goes to known. */
static void expect_told(Forge__V1__GetPromptRequest request, const char *content, char known[ETAG_SIZE])
{
    Forge__V1__Prompt *prompt = get(request, known);
    assert_false(prompt->not_modified);
    assert_string_equal(prompt->content, content);
    assert_int_equal(strlen(prompt->reply_etag), ETAG_SIZE - 1);
    assert_string_not_equal(prompt->reply_etag, known);
    snprintf(known, ETAG_SIZE, "%s", prompt->reply_etag);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

/* Nothing but what says which prompt it is. */
static void expect_known(Forge__V1__GetPromptRequest request, const char *id, int32_t version, const char *known)
{
    Forge__V1__Prompt *prompt = get(request, known), only = FORGE__V1__PROMPT__INIT;
    assert_true(prompt->not_modified);
    only.id = TEXT(id);
    only.project_id = alpha.project_id;
    only.version = version;
    only.reply_etag = TEXT(known);
    only.not_modified = 1;
    assert_int_equal(forge__v1__prompt__get_packed_size(prompt), forge__v1__prompt__get_packed_size(&only));
    assert_string_equal(prompt->id, id);
    assert_int_equal(prompt->version, version);
    assert_string_equal(prompt->reply_etag, known);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void version_make(const char *id, const char *content)
{
    service_ok(service_call(alpha.admin, "PromptService/CreatePromptVersion", NULL, "{'prompt_id': '%s', 'content': '%s'}", id, content));
}

static void label_set(const char *id, const char *target)
{
    service_ok(service_call(alpha.admin, "PromptService/SetLabel", NULL, "{'prompt_id': '%s', 'label': 'live', %s}", id, target));
}

static void test_what_is_known_is_not_told_again(void **state)
{
    (void)state;
    char id[37], etag[ETAG_SIZE] = "";
    service_prompt_make(alpha.admin, alpha.project_id, "known", "text 1", id);
    Forge__V1__GetPromptRequest named = FORGE__V1__GET_PROMPT_REQUEST__INIT, second = by_id(id);
    named.project_id = alpha.project_id;
    named.name = TEXT("known");
    expect_told(by_id(id), "text 1", etag);
    expect_known(by_id(id), id, 1, etag);
    expect_known(named, id, 1, etag);
    service_ok(service_call(alpha.admin, "PromptService/UpdatePrompt", NULL,
                            "{'id': '%s', 'description': 'x', 'update_mask': 'description'}", id));
    expect_told(named, "text 1", etag);
    version_make(id, "text 2"); /* latest_version is told too */
    expect_told(by_id(id), "text 1", etag);
    expect_known(by_id(id), id, 1, etag);
    service_ok(service_call(alpha.admin, "PromptService/SetCurrentVersion", NULL, "{'prompt_id': '%s', 'version': 2}", id));
    expect_told(by_id(id), "text 2", etag);
    second.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    second.version = 2;
    expect_known(second, id, 2, etag); /* the same would be told */
    second.version = 1;
    expect_told(second, "text 1", etag);
}

static void test_a_label_is_known_with_its_weights(void **state)
{
    (void)state;
    char id[37], etag[ETAG_SIZE] = "";
    service_prompt_make(alpha.admin, alpha.project_id, "labelled", "text 1", id);
    version_make(id, "text 2");
    label_set(id, "'version': 1");
    expect_told(by_id(id), "text 1", etag);
    expect_told(by_label(id, ""), "text 1", etag); /* with a label more is told than without */
    expect_known(by_label(id, ""), id, 1, etag);
    expect_known(by_label(id, "anybody"), id, 1, etag);
    label_set(id, "'split': {'targets': [{'version': 1, 'weight': 1000000}, {'version': 2, 'weight': 1}]}");
    expect_told(by_label(id, "somebody"), "text 1", etag);
    expect_known(by_label(id, "somebody"), id, 1, etag);
    label_set(id, "'split': {'targets': [{'version': 1, 'weight': 900000}, {'version': 2, 'weight': 1}]}");
    expect_told(by_label(id, "somebody"), "text 1", etag);
    label_set(id, "'version': 2");
    expect_told(by_label(id, "somebody"), "text 2", etag);
}

/* Numbers are given again after that: to other texts perhaps. */
static void test_what_was_told_before_a_restore_is_not_known(void **state)
{
    (void)state;
    char id[37], sql[256], etag[ETAG_SIZE] = "";
    service_prompt_make(alpha.admin, alpha.project_id, "restored", "text 1", id);
    Forge__V1__GetPromptRequest second = by_id(id);
    second.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    second.version = 2;
    version_make(id, "text 2");
    expect_told(second, "text 2", etag);
    snprintf(sql, sizeof sql,
             "DELETE FROM prompt_versions WHERE prompt_id = '%s' AND version = 2;"
             "UPDATE prompts SET newest_version = 1, updated_at = NULL WHERE id = '%s'",
             id, id);
    service_execute(sql);
    version_make(id, "another text 2");
    expect_told(second, "another text 2", etag);
}

static void test_as_of_is_known_by_what_was_told_then(void **state)
{
    (void)state;
    char id[37], old[ETAG_SIZE] = "", new[ETAG_SIZE] = "";
    service_prompt_make(alpha.admin, alpha.project_id, "earlier", "text 1", id);
    version_make(id, "text 2");
    char sql[160];
    snprintf(sql, sizeof sql, "SELECT (extract(epoch FROM max(moved_at)) * 1000000)::bigint FROM label_history WHERE prompt_id = '%s'", id);
    int64_t made_us = strtoll(service_query(sql), NULL, 10);
    service_ok(service_call(alpha.admin, "PromptService/SetCurrentVersion", NULL, "{'prompt_id': '%s', 'version': 2}", id));
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    time.seconds = made_us / 1000000;
    time.nanos = (int32_t)(made_us % 1000000) * 1000;
    Forge__V1__GetPromptRequest then = by_id(id);
    then.as_of = &time;
    expect_told(by_id(id), "text 2", new);
    snprintf(old, sizeof old, "%s", new);
    expect_told(then, "text 1", old); /* what is known of now is not what was told then */
    expect_known(then, id, 1, old);
    expect_known(by_id(id), id, 2, new);
}

static void test_batches_know_and_rendering_does_not(void **state)
{
    (void)state;
    char id[37], etag[ETAG_SIZE] = "";
    service_prompt_make(alpha.admin, alpha.project_id, "batched", "text", id);
    expect_told(by_id(id), "text", etag);
    service_ok(service_call(alpha.admin, "PromptService/BatchGetPrompts", NULL,
                            "{'requests': [{'id': '%s', 'known_etag': '%s'}, {'id': '%s'}]}", id, etag, id));
    service_shows("'not_modified':true", "'content':'text'");
    service_ok(service_call(alpha.admin, "PromptService/RenderPrompt", NULL, "{'prompt': {'id': '%s', 'known_etag': '%s'}}", id, etag));
    service_shows("'content':'text'");
}

static void test_an_etag_opens_nothing(void **state)
{
    (void)state;
    char id[37], etag[ETAG_SIZE] = "";
    Forge__V1__Prompt *prompt;
    Forge__V1__GetPromptRequest request;
    service_prompt_make(alpha.admin, alpha.project_id, "closed", "text", id);
    expect_told(by_id(id), "text", etag);
    request = by_id(id);
    request.known_etag = etag;
    service_fails(forge_prompt_get(beta.admin, NULL, &request, &prompt, &service_error), FORGE_NOT_FOUND, "not found");
    service_fails(
        forge_prompt_get(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), NULL, &request, &prompt, &service_error),
        FORGE_PERMISSION_DENIED, "");
    request.known_etag = service_repeat("0", ETAG_SIZE);
    service_violates(forge_prompt_get(alpha.admin, NULL, &request, &prompt, &service_error), "known_etag", "at most 64 bytes");
    service_ok(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", id));
    request.known_etag = etag;
    service_fails(forge_prompt_get(alpha.admin, NULL, &request, &prompt, &service_error), FORGE_NOT_FOUND, "not found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_known_is_not_told_again),
        cmocka_unit_test(test_a_label_is_known_with_its_weights),
        cmocka_unit_test(test_what_was_told_before_a_restore_is_not_known),
        cmocka_unit_test(test_as_of_is_known_by_what_was_told_then),
        cmocka_unit_test(test_batches_know_and_rendering_does_not),
        cmocka_unit_test(test_an_etag_opens_nothing),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
