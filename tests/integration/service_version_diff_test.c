/* PromptService over TLS: DiffPromptVersions. */
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

static void version_add(const Forge__V1__CreatePromptVersionRequest *request)
{
    Forge__V1__PromptVersion *version;
    service_ok(forge_prompt_create_version(alpha.admin, NULL, request, &version, &service_error));
    assert_false(version->existing);
    forge__v1__prompt_version__free_unpacked(version, NULL);
}

static void text_add(const char *id, const char *content)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT(id);
    request.content = TEXT(content);
    version_add(&request);
}

static forge_code diff(struct forge_channel *channel, const char *id, int32_t base, int32_t target, int32_t context,
                       Forge__V1__DiffPromptVersionsResponse **out)
{
    Forge__V1__DiffPromptVersionsRequest request = FORGE__V1__DIFF_PROMPT_VERSIONS_REQUEST__INIT;
    Google__Protobuf__Int32Value lines = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    request.prompt_id = TEXT(id);
    request.base_version = base;
    request.target_version = target;
    lines.value = context;
    if (context != 3)
        request.context_lines = &lines;
    return forge_prompt_diff_versions(channel, NULL, &request, out, &service_error);
}

/* A field, how it changed ('A'dded, 'R'emoved, 'M'odified) and its hunks. */
struct expected {
    const char *field;
    char change;
    const char *hunks;
    int added, removed;
};

static void expect(const char *id, int32_t base, int32_t target, const struct expected *fields, size_t count)
{
    Forge__V1__DiffPromptVersionsResponse *out;
    service_ok(diff(alpha.admin, id, base, target, 3, &out));
    for (size_t i = 0; i < count && i < out->n_diffs; i++) {
        assert_string_equal(out->diffs[i]->field, fields[i].field);
        assert_int_equal(" ARM"[out->diffs[i]->change], fields[i].change);
        assert_string_equal(out->diffs[i]->unified_diff, fields[i].hunks);
        assert_int_equal(out->diffs[i]->added_lines, fields[i].added);
        assert_int_equal(out->diffs[i]->removed_lines, fields[i].removed);
    }
    assert_int_equal(out->n_diffs, count);
    forge__v1__diff_prompt_versions_response__free_unpacked(out, NULL);
}

static void test_the_content_of_two_texts(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__DiffPromptVersionsResponse *out;
    service_prompt_make(alpha.admin, alpha.project_id, "texts", "a\nb\nc\nd\ne\nf\n", id);
    text_add(id, "a\nb\nc\nd\nE\nf\n");
    text_add(id, "a\nb\nd\nE\nf\ng\n");
    expect(id, 1, 2, &(struct expected){"content", 'M', "@@ -2,5 +2,5 @@\n b\n c\n d\n-e\n+E\n f\n", 1, 1}, 1);
    expect(id, 2, 1, &(struct expected){"content", 'M', "@@ -2,5 +2,5 @@\n b\n c\n d\n-E\n+e\n f\n", 1, 1}, 1);
    expect(id, 0, 3, &(struct expected){"content", 'M', "@@ -1,6 +1,6 @@\n a\n b\n-c\n d\n E\n f\n+g\n", 1, 1}, 1);
    expect(id, 3, 0, &(struct expected){"content", 'M', "@@ -1,6 +1,6 @@\n a\n b\n+c\n d\n-E\n+e\n f\n-g\n", 2, 2}, 1);
    expect(id, 2, 2, NULL, 0);
    service_ok(diff(alpha.admin, id, 1, 3, 0, &out));
    assert_int_equal(out->base_version, 1);
    assert_int_equal(out->target_version, 3);
    assert_string_equal(out->diffs[0]->unified_diff, "@@ -3 +2,0 @@\n-c\n@@ -5 +4 @@\n-e\n+E\n@@ -6,0 +6 @@\n+g\n");
    forge__v1__diff_prompt_versions_response__free_unpacked(out, NULL);
}

/* Version 2 is a chat with everything; version 3 differs from it in each part. */
static void test_every_field_in_its_order(void **state)
{
    (void)state;
    char id[37];
    Google__Protobuf__StringValue english = GOOGLE__PROTOBUF__STRING_VALUE__INIT, french = english;
    Forge__V1__PromptVariable language = FORGE__V1__PROMPT_VARIABLE__INIT, old_only = language, new_only = language;
    Forge__V1__ChatMessage first = FORGE__V1__CHAT_MESSAGE__INIT, second = first, third = first;
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__ChatMessage *messages[] = {&first, &second, &third};
    Forge__V1__PromptVariable *variables[] = {&language, &old_only};
    service_prompt_make(alpha.admin, alpha.project_id, "fields", "plain", id);
    english.value = TEXT("English");
    french.value = TEXT("French");
    language.name = TEXT("language");
    language.description = TEXT("of the answer");
    language.default_value = &english;
    old_only.name = TEXT("a_gone");
    new_only.name = TEXT("z_new");
    first.role = TEXT("system");
    first.content = TEXT("Be brief.");
    second.role = TEXT("user");
    second.content = TEXT("Hello {{language}}");
    third.role = TEXT("assistant");
    request.prompt_id = id;
    request.messages = messages;
    request.n_messages = 2;
    request.variables = variables;
    request.n_variables = 2;
    request.system_prompt = TEXT("rules");
    request.parameters = TEXT("{\"top_p\": 1, \"a\": {\"b\": [1]}}");
    version_add(&request);
    const struct expected from_text[] = {
        {"format", 'M', "@@ -1 +1 @@\n-PROMPT_FORMAT_TEXT\n+PROMPT_FORMAT_CHAT\n", 1, 1},
        {"content", 'R', "@@ -1 +0,0 @@\n-plain\n", 0, 1},
        {"messages[0].role", 'A', "@@ -0,0 +1 @@\n+system\n", 1, 0},
        {"messages[0].content", 'A', "@@ -0,0 +1 @@\n+Be brief.\n", 1, 0},
        {"messages[1].role", 'A', "@@ -0,0 +1 @@\n+user\n", 1, 0},
        {"messages[1].content", 'A', "@@ -0,0 +1 @@\n+Hello {{language}}\n", 1, 0},
        {"system_prompt", 'A', "@@ -0,0 +1 @@\n+rules\n", 1, 0},
        {"variables.a_gone", 'A', "@@ -0,0 +1 @@\n+name: a_gone\n", 1, 0},
        {"variables.language", 'A', "@@ -0,0 +1,3 @@\n+name: language\n+description: of the answer\n+default_value: English\n", 3, 0},
        {"parameters", 'A', "@@ -0,0 +1,8 @@\n+{\n+  \"a\": {\n+    \"b\": [\n+      1\n+    ]\n+  },\n+  \"top_p\": 1\n+}\n", 8, 0},
    };
    expect(id, 1, 2, from_text, sizeof from_text / sizeof from_text[0]);
    language.default_value = &french;
    variables[1] = &new_only;
    first.role = TEXT("developer");
    second.content = TEXT("Hello\n{{language}}");
    request.n_messages = 3; /* the third has no content */
    request.system_prompt = TEXT("");
    request.parameters = TEXT("{\"a\":{\"b\":[1]},\"top_p\":0.5}");
    version_add(&request);
    const struct expected changed[] = {
        {"messages[0].role", 'M', "@@ -1 +1 @@\n-system\n+developer\n", 1, 1},
        {"messages[1].content", 'M', "@@ -1 +1,2 @@\n-Hello {{language}}\n+Hello\n+{{language}}\n", 2, 1},
        {"messages[2].role", 'A', "@@ -0,0 +1 @@\n+assistant\n", 1, 0},
        {"system_prompt", 'R', "@@ -1 +0,0 @@\n-rules\n", 0, 1},
        {"variables.a_gone", 'R', "@@ -1 +0,0 @@\n-name: a_gone\n", 0, 1},
        {"variables.language", 'M',
         "@@ -1,3 +1,3 @@\n name: language\n description: of the answer\n-default_value: English\n+default_value: French\n", 1, 1},
        {"variables.z_new", 'A', "@@ -0,0 +1 @@\n+name: z_new\n", 1, 0},
        {"parameters", 'M', "@@ -4,5 +4,5 @@\n       1\n     ]\n   },\n-  \"top_p\": 1\n+  \"top_p\": 0.5\n }\n", 1, 1},
    };
    expect(id, 2, 3, changed, sizeof changed / sizeof changed[0]);
}

static void test_large_versions_are_compared(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__DiffPromptVersionsResponse *out;
    const char *half = service_repeat("0123456 789 abcde\n", 29000); /* 0.5 MiB */
    service_prompt_make(alpha.admin, alpha.project_id, "large", half, id);
    text_add(id, service_repeat("x y z\n", 90000));
    service_ok(diff(alpha.admin, id, 1, 2, 3, &out));
    assert_int_equal(out->diffs[0]->removed_lines, 29000);
    assert_int_equal(out->diffs[0]->added_lines, 90000);
    forge__v1__diff_prompt_versions_response__free_unpacked(out, NULL);
}

static void test_what_is_wrong_is_said(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__DiffPromptVersionsResponse *out;
    service_prompt_make(alpha.admin, alpha.project_id, "wrong", "one", id);
    service_violates(diff(alpha.admin, "x", -1, -1, 101, &out), "prompt_id", "must be a UUID", "base_version", "0 or more",
                     "target_version", "0 or more", "context_lines", "0 to 100");
    service_violates(diff(alpha.admin, id, 1, 1, -1, &out), "context_lines", "0 to 100");
    service_fails(diff(alpha.admin, id, 0, 0, 3, &out), FORGE_NOT_FOUND, "version 1 of this prompt has no version before it");
    service_fails(diff(alpha.admin, id, 2, 1, 3, &out), FORGE_NOT_FOUND, "version 2 of this prompt not found");
    service_fails(diff(alpha.admin, id, 1, 3, 3, &out), FORGE_NOT_FOUND, "version 3 of this prompt not found");
    service_fails(diff(alpha.admin, nobody_has, 1, 1, 3, &out), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(diff(beta.admin, id, 1, 1, 3, &out), FORGE_NOT_FOUND, "prompt");
    service_fails(diff(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), id, 1, 1, 3, &out), FORGE_PERMISSION_DENIED, "");
    service_ok(diff(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id), id, 1, 1, 3, &out));
    forge__v1__diff_prompt_versions_response__free_unpacked(out, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_content_of_two_texts),
        cmocka_unit_test(test_every_field_in_its_order),
        cmocka_unit_test(test_large_versions_are_compared),
        cmocka_unit_test(test_what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
