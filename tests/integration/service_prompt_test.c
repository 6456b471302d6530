/* PromptService over TLS: CreatePrompt, GetPrompt, ListPrompts, RenderPrompt. Versions: service_version_test.c. */
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

static Forge__V1__CreatePromptRequest new_prompt(const char *name, const char *content)
{
    Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    request.project_id = alpha.project_id;
    request.name = TEXT(name);
    request.content = TEXT(content);
    return request;
}

static forge_code create(struct forge_channel *channel, const Forge__V1__CreatePromptRequest *request, Forge__V1__Prompt **out)
{
    return forge_prompt_create(channel, NULL, request, out, &service_error);
}

static Forge__V1__GetPromptRequest by_id(const char *id)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.id = TEXT(id);
    return request;
}

static Forge__V1__GetPromptRequest by_name(const char *project_id, const char *name)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.project_id = TEXT(project_id);
    request.name = TEXT(name);
    return request;
}

static forge_code get(struct forge_channel *channel, Forge__V1__GetPromptRequest request, Forge__V1__Prompt **out)
{
    return forge_prompt_get(channel, NULL, &request, out, &service_error);
}

static void test_a_text_prompt_is_made_and_read_by_id_and_by_name(void **state)
{
    (void)state;
    Forge__V1__Prompt *made, *read;
    Forge__V1__CreatePromptRequest request = new_prompt("Code review", "Review this {{language}} code:\n{{code}}");
    request.description = TEXT("Finds bugs");
    request.system_prompt = TEXT("You are {{role}}.");
    request.parameters = TEXT("{\"temperature\": 0.2}");
    request.message = TEXT("first");
    service_ok(create(alpha.admin, &request, &made));
    assert_int_equal(made->version, 1);
    assert_int_equal(made->current_version, 1);
    assert_int_equal(made->latest_version, 1);
    assert_int_equal(made->format, FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_TEXT);
    assert_int_equal(made->n_variables, 3);
    assert_string_equal(made->variables[0]->name, "code");
    assert_string_equal(made->variables[1]->name, "language");
    assert_string_equal(made->variables[2]->name, "role");
    assert_null(made->variables[0]->default_value);
    assert_int_equal(strlen(made->content_hash), 64);
    service_ok(get(alpha.admin, by_id(made->id), &read));
    assert_string_equal(read->name, "Code review");
    assert_string_equal(read->description, "Finds bugs");
    assert_string_equal(read->content, "Review this {{language}} code:\n{{code}}");
    assert_string_equal(read->system_prompt, "You are {{role}}.");
    assert_string_equal(read->parameters, "{\"temperature\": 0.2}");
    assert_string_equal(read->version_message, "first");
    assert_string_equal(read->project_id, alpha.project_id);
    assert_string_equal(read->content_hash, made->content_hash);
    assert_int_equal(strlen(read->version_author_id), 36);
    assert_int_equal(read->n_messages, 0);
    forge__v1__prompt__free_unpacked(read, NULL);
    service_ok(get(alpha.admin, by_name(alpha.project_id, "Code review"), &read));
    assert_string_equal(read->id, made->id);
    forge__v1__prompt__free_unpacked(read, NULL);
    forge__v1__prompt__free_unpacked(made, NULL);
}

static void test_a_chat_prompt_keeps_messages_and_declared_variables(void **state)
{
    (void)state;
    Forge__V1__ChatMessage messages[2] = {FORGE__V1__CHAT_MESSAGE__INIT, FORGE__V1__CHAT_MESSAGE__INIT},
                           *message_list[] = {&messages[0], &messages[1]};
    Forge__V1__PromptVariable variables[2] = {FORGE__V1__PROMPT_VARIABLE__INIT, FORGE__V1__PROMPT_VARIABLE__INIT};
    Forge__V1__PromptVariable *variable_list[] = {&variables[0], &variables[1]};
    Google__Protobuf__StringValue empty = GOOGLE__PROTOBUF__STRING_VALUE__INIT;
    Forge__V1__CreatePromptRequest request = new_prompt("Chat", "");
    messages[0].role = TEXT("system");
    messages[0].content = TEXT("Be \"kind\" \\ and {{tone}} \U0001F600");
    messages[1].role = TEXT("user");
    messages[1].content = TEXT("{{question}}");
    variables[0].name = TEXT("tone");
    variables[0].default_value = &empty;
    variables[1].name = TEXT("question");
    variables[1].description = TEXT("what is asked");
    request.n_messages = 2;
    request.messages = message_list;
    request.n_variables = 2;
    request.variables = variable_list;
    Forge__V1__Prompt *made, *read;
    service_ok(create(alpha.admin, &request, &made));
    service_ok(get(alpha.admin, by_id(made->id), &read));
    assert_int_equal(read->format, FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_CHAT);
    assert_string_equal(read->content, "");
    assert_int_equal(read->n_messages, 2);
    assert_string_equal(read->messages[0]->role, "system");
    assert_string_equal(read->messages[0]->content, "Be \"kind\" \\ and {{tone}} \U0001F600");
    assert_string_equal(read->messages[1]->content, "{{question}}");
    assert_int_equal(read->n_variables, 2);
    assert_string_equal(read->variables[0]->name, "question");
    assert_string_equal(read->variables[0]->description, "what is asked");
    assert_null(read->variables[0]->default_value);
    assert_non_null(read->variables[1]->default_value);
    assert_string_equal(read->variables[1]->default_value->value, "");
    forge__v1__prompt__free_unpacked(read, NULL);
    forge__v1__prompt__free_unpacked(made, NULL);
}

static void test_every_wrong_field_of_a_new_prompt_is_named(void **state)
{
    (void)state;
    Forge__V1__Prompt *made;
    Forge__V1__CreatePromptRequest request = new_prompt("", "");
    char *tag = TEXT("");
    request.project_id = TEXT("x");
    request.description = service_repeat("x", 4097);
    request.tags = &tag;
    request.n_tags = 1;
    request.system_prompt = service_repeat("x", (256 << 10) + 1);
    request.model_id = TEXT("m");
    request.parameters = TEXT("[1]");
    request.message = service_repeat("x", 1025);
    service_violates(create(alpha.admin, &request, &made), "project_id", "must be a UUID", "name", "must be 1 to 255 printable characters",
                     "description", "at most 4096 characters", "tags[0]", "1 to 100 printable", "content",
                     "exactly one of content and messages is required", "system_prompt", "must be at most 262144 bytes", "model_id",
                     "must be a UUID", "parameters", "must be a JSON object", "message", "at most 1024 characters");
}

static void test_wrong_messages_and_variables_are_named_one_by_one(void **state)
{
    (void)state;
    Forge__V1__Prompt *made;
    Forge__V1__ChatMessage message = FORGE__V1__CHAT_MESSAGE__INIT, *messages[] = {&message};
    Forge__V1__PromptVariable variables[3] = {FORGE__V1__PROMPT_VARIABLE__INIT, FORGE__V1__PROMPT_VARIABLE__INIT,
                                              FORGE__V1__PROMPT_VARIABLE__INIT};
    Forge__V1__PromptVariable *variable_list[] = {&variables[0], &variables[1], &variables[2]};
    Google__Protobuf__StringValue value = GOOGLE__PROTOBUF__STRING_VALUE__INIT;
    Forge__V1__CreatePromptRequest request = new_prompt("wrong", "both");
    message.role = TEXT("robot");
    message.content = TEXT("{{a}} {{b");
    value.value = service_repeat("x", (64 << 10) + 1);
    variables[0].name = TEXT("1st");
    variables[0].default_value = &value;
    variables[1].name = TEXT("twice");
    variables[1].description = service_repeat("x", 1025);
    variables[2].name = TEXT("twice");
    request.n_messages = 1;
    request.messages = messages;
    request.n_variables = 3;
    request.variables = variable_list;
    service_violates(create(alpha.admin, &request, &made), "content", "exactly one of content and messages", "messages[0].role",
                     "must be system, developer, user, assistant or tool", "variables[0].name", "must be a letter or _",
                     "variables[0].default_value", "must be at most 65536 bytes", "variables[1].description", "at most 1024 characters",
                     "variables", "\"twice\" is declared twice", "messages[0].content", "");
    request = new_prompt("undeclared", "{{a}} {{b}} {{a}}");
    variables[0] = (Forge__V1__PromptVariable)FORGE__V1__PROMPT_VARIABLE__INIT;
    variables[0].name = TEXT("b");
    request.n_variables = 1;
    request.variables = variable_list;
    service_violates(create(alpha.admin, &request, &made), "variables", "{{a}} is used and not declared");
    request = new_prompt("long", service_repeat("x", (1 << 20) + 1));
    service_violates(create(alpha.admin, &request, &made), "content", "must be at most 1048576 bytes");
    request = new_prompt("unterminated", "line one\n  {{name");
    service_violates(create(alpha.admin, &request, &made), "content", "line 2");
    request = new_prompt("duplicate member", "x");
    request.parameters = TEXT("{\"a\": 1, \"a\": 2}");
    service_violates(create(alpha.admin, &request, &made), "parameters", "each member once");
}

static void test_the_largest_prompt_is_kept_byte_for_byte(void **state)
{
    (void)state;
    Forge__V1__Prompt *made, *read;
    Forge__V1__CreatePromptRequest request = new_prompt("largest", service_repeat("0123456789abcdef", 1 << 16));
    request.system_prompt = service_repeat("fedcba9876543210", 1 << 14);
    service_ok(create(alpha.admin, &request, &made));
    service_ok(get(alpha.admin, by_id(made->id), &read));
    assert_string_equal(read->content, request.content);
    assert_string_equal(read->system_prompt, request.system_prompt);
    forge__v1__prompt__free_unpacked(read, NULL);
    forge__v1__prompt__free_unpacked(made, NULL);
}

static void test_names_are_unique_in_a_project_and_projects_must_exist(void **state)
{
    (void)state;
    Forge__V1__Prompt *made;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "unique", "x", id);
    Forge__V1__CreatePromptRequest request = new_prompt("unique", "y");
    service_fails(create(alpha.admin, &request, &made), FORGE_ALREADY_EXISTS, "a prompt named \"unique\" exists already in this project");
    request.project_id = TEXT(nobody_has);
    service_fails(create(alpha.admin, &request, &made), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-000000000000 not found");
    request.project_id = beta.project_id;
    service_fails(create(alpha.admin, &request, &made), FORGE_NOT_FOUND, "not found");
    assert_string_equal(service_query("SELECT count(*) FROM prompts WHERE name = 'unique'"), "1");
    assert_string_equal(
        service_query("SELECT count(*) FROM prompt_versions v LEFT JOIN prompts p ON p.id = v.prompt_id WHERE p.id IS NULL"), "0");
}

static void test_a_repeated_creation_is_answered_from_the_store(void **state)
{
    (void)state;
    Forge__V1__Prompt *first, *second;
    Forge__V1__CreatePromptRequest request = new_prompt("repeated", "x");
    char request_id[37];
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    service_ok(forge_prompt_create(alpha.admin, &options, &request, &first, &service_error));
    service_ok(forge_prompt_create(alpha.admin, &options, &request, &second, &service_error));
    assert_string_equal(first->id, second->id);
    assert_int_equal(protobuf_c_message_get_packed_size(&first->base), protobuf_c_message_get_packed_size(&second->base));
    forge__v1__prompt__free_unpacked(first, NULL);
    forge__v1__prompt__free_unpacked(second, NULL);
}

static void test_get_says_what_is_wrong(void **state)
{
    (void)state;
    Forge__V1__Prompt *read;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "selected", "x", id);
    service_violates(get(alpha.admin, by_id(""), &read), "id", "either id, or project_id and name, is required");
    Forge__V1__GetPromptRequest request = by_name(alpha.project_id, "selected");
    request.id = id;
    service_violates(get(alpha.admin, request, &read), "id", "either id, or project_id and name");
    service_violates(get(alpha.admin, by_name("", "selected"), &read), "project_id", "is required");
    service_violates(get(alpha.admin, by_name("zz", ""), &read), "project_id", "must be a UUID", "name", "1 to 255");
    request = by_id(id);
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    request.version = 0;
    service_violates(get(alpha.admin, request, &read), "version", "must be 1 or more");
    request.version = 2;
    service_fails(get(alpha.admin, request, &read), FORGE_NOT_FOUND, "version 2 of this prompt not found");
    request.version = 1;
    service_ok(get(alpha.admin, request, &read));
    forge__v1__prompt__free_unpacked(read, NULL);
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_CURRENT;
    request.current = 0;
    service_ok(get(alpha.admin, request, &read));
    forge__v1__prompt__free_unpacked(read, NULL);
    service_fails(get(alpha.admin, by_id(nobody_has), &read), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(get(alpha.admin, by_name(alpha.project_id, "nobody"), &read), FORGE_NOT_FOUND, "prompt \"nobody\" not found");
    service_fails(get(alpha.admin, by_name(nobody_has, "selected"), &read), FORGE_NOT_FOUND, "not found");
}

static void test_another_tenants_prompts_are_not_found(void **state)
{
    (void)state;
    Forge__V1__Prompt *read;
    Forge__V1__ListPromptsRequest list = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *listed;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "secret", "x", id);
    service_fails(get(beta.admin, by_id(id), &read), FORGE_NOT_FOUND, "not found");
    service_fails(get(beta.admin, by_name(alpha.project_id, "secret"), &read), FORGE_NOT_FOUND, "not found");
    list.project_id = alpha.project_id;
    service_fails(forge_prompt_list(beta.admin, NULL, &list, &listed, &service_error), FORGE_NOT_FOUND, "project");
}

static void test_roles_and_bound_keys(void **state)
{
    (void)state;
    struct forge_channel *viewer = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *other;
    Forge__V1__Prompt *prompt;
    Forge__V1__ListPromptsRequest list = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *listed;
    char id[37];
    project.name = TEXT("other");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &other, &service_error));
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, other->id);
    service_prompt_make(alpha.admin, alpha.project_id, "in main", "x", id);
    Forge__V1__CreatePromptRequest request = new_prompt("by viewer", "x");
    service_fails(create(viewer, &request, &prompt), FORGE_PERMISSION_DENIED, "developer");
    service_ok(get(viewer, by_id(id), &prompt));
    forge__v1__prompt__free_unpacked(prompt, NULL);
    /* A bound key: named project is denied, a prompt of another project does not exist for it. */
    service_fails(create(bound, &request, &prompt), FORGE_PERMISSION_DENIED, "this key is bound to another project");
    service_fails(get(bound, by_name(alpha.project_id, "in main"), &prompt), FORGE_PERMISSION_DENIED,
                  "this key is bound to another project");
    service_fails(get(bound, by_id(id), &prompt), FORGE_NOT_FOUND, "not found");
    list.project_id = alpha.project_id;
    service_fails(forge_prompt_list(bound, NULL, &list, &listed, &service_error), FORGE_PERMISSION_DENIED,
                  "this key is bound to another project");
    request.project_id = other->id;
    service_ok(create(bound, &request, &prompt));
    forge__v1__prompt__free_unpacked(prompt, NULL);
    service_fails(get(service_channel(NULL), by_id(id), &prompt), FORGE_UNAUTHENTICATED, "");
    forge__v1__project__free_unpacked(other, NULL);
}

static char *list_names(Forge__V1__ListPromptsRequest request, unsigned *out_pages)
{
    static char names[4096];
    char token[4096] = "";
    names[0] = '\0';
    *out_pages = 0;
    do {
        Forge__V1__ListPromptsResponse *page;
        request.page_token = token;
        service_ok(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error));
        for (size_t i = 0; i < page->n_prompts; i++)
            strcat(strcat(names, page->prompts[i]->name), "|");
        strcpy(token, page->next_page_token);
        forge__v1__list_prompts_response__free_unpacked(page, NULL);
        ++*out_pages;
    } while (token[0] != '\0');
    return names;
}

static void test_listing_goes_by_name_with_or_without_content(void **state)
{
    (void)state;
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *made;
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *page;
    unsigned pages;
    char id[37];
    project.name = TEXT("listing");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &made, &service_error));
    request.project_id = made->id;
    assert_string_equal(list_names(request, &pages), "");
    assert_int_equal(pages, 1);
    static const char *const names[] = {"d", "a/2", "a/1", "b", "a/10", "c"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        service_prompt_make(alpha.admin, made->id, names[i], "text of {{x}}", id);
    request.page_size = 2;
    assert_string_equal(list_names(request, &pages), "a/1|a/10|a/2|b|c|d|");
    assert_int_equal(pages, 3);
    request.name_prefix = TEXT("a/");
    assert_string_equal(list_names(request, &pages), "a/1|a/10|a/2|");
    request.page_size = 1;
    service_ok(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error));
    assert_string_equal(page->prompts[0]->content, "");
    assert_int_equal(page->prompts[0]->n_variables, 0);
    assert_int_equal(strlen(page->prompts[0]->content_hash), 64);
    forge__v1__list_prompts_response__free_unpacked(page, NULL);
    request.view = FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    service_ok(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error));
    assert_string_equal(page->prompts[0]->content, "text of {{x}}");
    assert_int_equal(page->prompts[0]->n_variables, 1);
    forge__v1__list_prompts_response__free_unpacked(page, NULL);
    forge__v1__project__free_unpacked(made, NULL);
}

static void test_a_page_is_cut_where_its_content_would_be_too_long(void **state)
{
    (void)state;
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *made;
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    unsigned pages;
    project.name = TEXT("long content");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &made, &service_error));
    const char *content = service_repeat("x", 1 << 20);
    for (int i = 0; i < 7; i++) {
        char id[37], name[2] = {(char)('a' + i), '\0'};
        service_prompt_make(alpha.admin, made->id, name, content, id);
    }
    request.project_id = made->id;
    request.view = FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_FULL;
    assert_string_equal(list_names(request, &pages), "a|b|c|d|e|f|g|");
    assert_int_equal(pages, 3);
    request.view = FORGE__V1__PROMPT_VIEW__PROMPT_VIEW_BASIC;
    assert_string_equal(list_names(request, &pages), "a|b|c|d|e|f|g|");
    assert_int_equal(pages, 1);
    forge__v1__project__free_unpacked(made, NULL);
}

static void test_listing_says_what_is_wrong(void **state)
{
    (void)state;
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *page;
    char *tag = TEXT("");
    request.project_id = TEXT("x");
    request.page_size = -5;
    request.page_token = TEXT("x");
    request.name_prefix = service_repeat("x", 256);
    request.query = TEXT("?!");
    request.tags = &tag;
    request.n_tags = 1;
    request.label = TEXT("current");
    request.model_id = TEXT("m");
    service_violates(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error), "project_id", "must be a UUID", "page_size",
                     "negative", "page_token", "", "name_prefix", "at most 255", "query", "has no word", "tags[0]", "1 to 100 printable",
                     "label", "is reserved", "model_id", "must be a UUID");
    request = (Forge__V1__ListPromptsRequest)FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    request.project_id = TEXT(nobody_has);
    service_fails(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error), FORGE_NOT_FOUND,
                  "project 01890000-0000-7000-8000-000000000000 not found");
}

/* --- RenderPrompt --- */

static forge_code render(struct forge_channel *channel, Forge__V1__GetPromptRequest *prompt, const char *const pairs[],
                         Forge__V1__RenderPromptResponse **out)
{
    Forge__V1__RenderPromptRequest request = FORGE__V1__RENDER_PROMPT_REQUEST__INIT;
    Forge__V1__VariableValue values[300], *list[300];
    request.prompt = prompt;
    request.variables = list;
    for (; pairs != NULL && pairs[2 * request.n_variables] != NULL; request.n_variables++) {
        values[request.n_variables] = (Forge__V1__VariableValue)FORGE__V1__VARIABLE_VALUE__INIT;
        values[request.n_variables].name = TEXT(pairs[2 * request.n_variables]);
        values[request.n_variables].value = TEXT(pairs[2 * request.n_variables + 1]);
        list[request.n_variables] = &values[request.n_variables];
    }
    return forge_prompt_render(channel, NULL, &request, out, &service_error);
}

static void test_rendering_substitutes_once(void **state)
{
    (void)state;
    Forge__V1__RenderPromptResponse *rendered;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "rendered", "Hello {{ name }}, \\{{name}} and {{other}}!", id);
    Forge__V1__GetPromptRequest prompt = by_name(alpha.project_id, "rendered");
    service_ok(render(alpha.admin, &prompt, (const char *const[]){"name", "{{other}}", "other", "", NULL}, &rendered));
    assert_string_equal(rendered->content, "Hello {{other}}, {{name}} and !");
    assert_string_equal(rendered->prompt_id, id);
    assert_int_equal(rendered->version, 1);
    assert_int_equal(strlen(rendered->content_hash), 64);
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
}

static void test_rendering_a_chat_uses_defaults(void **state)
{
    (void)state;
    Forge__V1__ChatMessage message = FORGE__V1__CHAT_MESSAGE__INIT, *messages[] = {&message};
    Forge__V1__PromptVariable variable = FORGE__V1__PROMPT_VARIABLE__INIT, *variables[] = {&variable};
    Google__Protobuf__StringValue value = GOOGLE__PROTOBUF__STRING_VALUE__INIT;
    Forge__V1__CreatePromptRequest request = new_prompt("chat with default", "");
    Forge__V1__Prompt *made;
    Forge__V1__RenderPromptResponse *rendered;
    message.role = TEXT("user");
    message.content = TEXT("{{who}}?");
    value.value = TEXT("me");
    variable.name = TEXT("who");
    variable.default_value = &value;
    request.n_messages = request.n_variables = 1;
    request.messages = messages;
    request.variables = variables;
    request.system_prompt = TEXT("for {{who}}");
    service_ok(create(alpha.admin, &request, &made));
    Forge__V1__GetPromptRequest prompt = by_id(made->id);
    service_ok(render(alpha.admin, &prompt, NULL, &rendered));
    assert_int_equal(rendered->format, FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_CHAT);
    assert_string_equal(rendered->messages[0]->content, "me?");
    assert_string_equal(rendered->messages[0]->role, "user");
    assert_string_equal(rendered->system_prompt, "for me");
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
    service_ok(render(alpha.admin, &prompt, (const char *const[]){"who", "you", NULL}, &rendered));
    assert_string_equal(rendered->messages[0]->content, "you?");
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
    forge__v1__prompt__free_unpacked(made, NULL);
}

static void test_missing_and_unknown_variables_are_all_named(void **state)
{
    (void)state;
    Forge__V1__RenderPromptResponse *rendered;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "variables", "{{a}}{{b}}{{c}}", id);
    Forge__V1__GetPromptRequest prompt = by_id(id);
    service_violates(render(alpha.admin, &prompt, (const char *const[]){"b", "x", "d", "", "e", "", NULL}, &rendered), "variables.a",
                     "is missing", "variables.c", "is missing", "variables.d", "no such variable", "variables.e", "no such variable");
    service_violates(
        render(alpha.admin, &prompt, (const char *const[]){"b", "x", "b", service_repeat("x", (1 << 20) + 1), NULL}, &rendered),
        "variables[1].name", "is given twice", "variables[1].value", "must be at most 1048576 bytes");
    service_violates(render(alpha.admin, NULL, NULL, &rendered), "prompt", "is required");
    prompt = by_id("zz");
    service_violates(render(alpha.admin, &prompt, NULL, &rendered), "prompt.id", "must be a UUID");
    prompt = by_id(nobody_has);
    service_fails(render(alpha.admin, &prompt, NULL, &rendered), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    prompt = by_id(id);
    service_fails(render(beta.admin, &prompt, NULL, &rendered), FORGE_NOT_FOUND, "not found");
    const char *pairs[2 * 258] = {0};
    for (int i = 0; i < 257; i++) {
        char name[32];
        snprintf(name, sizeof name, "v%d", i);
        pairs[2 * i] = i < 100 ? service_repeat(name, 1) : "v";
        pairs[2 * i + 1] = "";
    }
    service_violates(render(alpha.admin, &prompt, pairs, &rendered), "variables", "must be at most 256");
}

static void test_a_rendered_prompt_is_at_most_a_mebibyte(void **state)
{
    (void)state;
    Forge__V1__RenderPromptResponse *rendered;
    char id[37];
    service_prompt_make(alpha.admin, alpha.project_id, "grows", "{{a}}{{a}}", id);
    Forge__V1__GetPromptRequest prompt = by_id(id);
    service_ok(render(alpha.admin, &prompt, (const char *const[]){"a", service_repeat("x", 1 << 19), NULL}, &rendered));
    assert_int_equal(strlen(rendered->content), 1 << 20);
    forge__v1__render_prompt_response__free_unpacked(rendered, NULL);
    service_fails(render(alpha.admin, &prompt, (const char *const[]){"a", service_repeat("x", (1 << 19) + 1), NULL}, &rendered),
                  FORGE_RESOURCE_EXHAUSTED, "the rendered prompt is over 1048576 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_text_prompt_is_made_and_read_by_id_and_by_name),
        cmocka_unit_test(test_a_chat_prompt_keeps_messages_and_declared_variables),
        cmocka_unit_test(test_every_wrong_field_of_a_new_prompt_is_named),
        cmocka_unit_test(test_wrong_messages_and_variables_are_named_one_by_one),
        cmocka_unit_test(test_the_largest_prompt_is_kept_byte_for_byte),
        cmocka_unit_test(test_names_are_unique_in_a_project_and_projects_must_exist),
        cmocka_unit_test(test_a_repeated_creation_is_answered_from_the_store),
        cmocka_unit_test(test_get_says_what_is_wrong),
        cmocka_unit_test(test_another_tenants_prompts_are_not_found),
        cmocka_unit_test(test_roles_and_bound_keys),
        cmocka_unit_test(test_listing_goes_by_name_with_or_without_content),
        cmocka_unit_test(test_a_page_is_cut_where_its_content_would_be_too_long),
        cmocka_unit_test(test_listing_says_what_is_wrong),
        cmocka_unit_test(test_rendering_substitutes_once),
        cmocka_unit_test(test_rendering_a_chat_uses_defaults),
        cmocka_unit_test(test_missing_and_unknown_variables_are_all_named),
        cmocka_unit_test(test_a_rendered_prompt_is_at_most_a_mebibyte),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
