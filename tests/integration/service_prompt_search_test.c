/* ListPrompts by words over TLS: what is found, after every way in which a prompt's words change. */
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

enum { WRITERS = 8, WORDS_MAX = 4096, WORD_CHARACTERS_MAX = 64 };

static struct service_tenant alpha, beta;

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__ListPromptsRequest listing(const char *project_id, const char *query)
{
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    request.project_id = TEXT(project_id);
    request.query = TEXT(query);
    return request;
}

static forge_code list(struct forge_channel *channel, const Forge__V1__ListPromptsRequest *request, Forge__V1__ListPromptsResponse **out)
{
    return forge_prompt_list(channel, NULL, request, out, &service_error);
}

/* The request finds these prompts: names in order, each with a comma behind it. */
static void finds_by(const struct service_tenant *tenant, const Forge__V1__ListPromptsRequest *request, const char *names)
{
    Forge__V1__ListPromptsResponse *page;
    char joined[1024] = "";
    service_ok(list(tenant->admin, request, &page));
    for (size_t i = 0; i < page->n_prompts; i++)
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s,", page->prompts[i]->name);
    assert_string_equal(joined, names);
    forge__v1__list_prompts_response__free_unpacked(page, NULL);
}

static void finds(const char *query, const char *names)
{
    Forge__V1__ListPromptsRequest request = listing(alpha.project_id, query);
    finds_by(&alpha, &request, names);
}

static void refuses(const char *query, const char *reason)
{
    Forge__V1__ListPromptsRequest request = listing(alpha.project_id, query);
    Forge__V1__ListPromptsResponse *page;
    service_violates(list(alpha.admin, &request, &page), "query", reason);
}

static void create(const char *name, const char *description, const char *content, char out_id[37])
{
    Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.project_id = alpha.project_id;
    request.name = TEXT(name);
    request.description = TEXT(description);
    request.content = TEXT(content);
    service_ok(forge_prompt_create(alpha.admin, NULL, &request, &prompt, &service_error));
    memcpy(out_id, prompt->id, 37);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void version_make(const char *prompt_id, const char *content, bool make_current)
{
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    request.prompt_id = TEXT(prompt_id);
    request.content = TEXT(content);
    request.make_current = make_current;
    service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
    forge__v1__prompt_version__free_unpacked(version, NULL);
}

static void current_set(const char *prompt_id, int32_t version)
{
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.prompt_id = TEXT(prompt_id);
    request.target_case =
        version > 0 ? FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION : FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_PREVIOUS;
    if (version > 0)
        request.version = version;
    else
        request.previous = true;
    service_ok(forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &service_error));
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static forge_code update(const char *id, const char *name, const char *description, const char *etag)
{
    Forge__V1__UpdatePromptRequest request = FORGE__V1__UPDATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.id = TEXT(id);
    request.name = TEXT(name);
    request.description = TEXT(description);
    request.etag = TEXT(etag);
    forge_code rc = forge_prompt_update(alpha.admin, NULL, &request, &prompt, &service_error);
    if (rc == FORGE_OK)
        forge__v1__prompt__free_unpacked(prompt, NULL);
    return rc;
}

/* The words of a prompt as they are stored, in order. */
static const char *stored(const char *prompt_id)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT string_agg(word, ' ' ORDER BY word) FROM prompt_words WHERE prompt_id = '%s'", prompt_id);
    return service_query(sql);
}

static void test_words_of_name_description_and_content_are_found(void **state)
{
    (void)state;
    char id[37];
    create("quokka-review", "Looks at wombats", "Judge the {{platypus}}, please", id);
    create("quokka-summary", "", "Sum up the platypus", id);
    finds("quokka", "quokka-review,quokka-summary,");
    finds("WOMBATS", "quokka-review,");
    finds("Quokka PlatyPus", "quokka-review,quokka-summary,");
    finds("platypus, wombats & quokka!", "quokka-review,");
    finds("quokka quokka QUOKKA", "quokka-review,quokka-summary,");
    finds("quokka missingword", "");
    finds("quok", ""); /* words, not parts of them */
    finds("", "quokka-review,quokka-summary,");
}

static void test_all_texts_of_a_chat_are_found(void **state)
{
    (void)state;
    service_ok(service_call(alpha.admin, "PromptService/CreatePrompt", NULL,
                            "{'projectId': '%s', 'name': 'chatting', 'systemPrompt': 'Echidna', 'messages': ["
                            "{'role': 'user', 'content': 'Numbat one'}, {'role': 'assistant', 'content': 'Bilby two'}]}",
                            alpha.project_id));
    finds("echidna numbat bilby chatting", "chatting,");
    finds("assistant", ""); /* roles are no text */
}

static void test_accents_count_and_case_does_not(void **state)
{
    (void)state;
    char id[37];
    create("accents",
           "Stra\xc3\x9f"
           "e",
           "CAF\xc3\x89 \xce\xa3\xce\x8a\xce\xa3\xce\xa5\xce\xa6\xce\x9f\xce\xa3 \xe5\x8c\x97\xe4\xba\xac", id);
    finds("caf\xc3\xa9", "accents,");
    finds("cafe\xcc\x81", "accents,"); /* the same letter in two code points */
    finds("cafe", "");
    finds("STRA\xe1\xba\x9e"
          "E",
          "accents,");
    finds("\xcf\x83\xce\xaf\xcf\x83\xcf\x85\xcf\x86\xce\xbf\xcf\x82", "accents,");
    finds("\xe4\xba\xac", "accents,");
}

static void test_wrong_queries_are_refused(void **state)
{
    (void)state;
    refuses("one two three four five six seven eight nine", "at most 8 words");
    refuses(
        service_repeat("\xe5\x8c\x97\xe4\xba\xac\xe4\xb8\x8a\xe6\xb5\xb7\xe5\xa4\xa9\xe6\xb4\xa5\xe9\x87\x8d\xe5\xba\x86\xe5\xb9\xbf", 1),
        "at most 8 words");
    refuses(" -!? ", "has no word");
    refuses(service_repeat("x", 1025), "at most 1024");
    finds("one two three four five six seven eight eight", "");
}

static void test_long_words_are_cut_on_both_sides(void **state)
{
    (void)state;
    char id[37], text[256];
    snprintf(text, sizeof text, "%sleft", service_repeat("\xc3\x89", WORD_CHARACTERS_MAX));
    create("long-words", "", text, id);
    finds(text, "long-words,");
    finds(service_repeat("\xc3\xa9", WORD_CHARACTERS_MAX), "long-words,");
    finds(service_repeat("\xc3\xa9", WORD_CHARACTERS_MAX - 1), "");
}

static void test_of_too_many_words_the_first_are_found(void **state)
{
    (void)state;
    char id[37];
    char *content = service_repeat("w123456 ", WORDS_MAX + 10);
    for (unsigned i = 0; i < WORDS_MAX + 10; i++) {
        char word[9];
        snprintf(word, sizeof word, "w%06u ", i);
        memcpy(content + (size_t)i * 8, word, 8);
    }
    create("verbose", "describing", content, id);
    finds("verbose describing w000000", "verbose,");
    finds("w004000", "verbose,");
    finds("w004105", "");
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM prompt_words WHERE prompt_id = '%s'", id);
    assert_int_equal(atoi(service_query(sql)), WORDS_MAX);
    version_make(id, "brief", true);
    assert_string_equal(stored(id), "brief describing verbose");
}

static void test_words_follow_every_change(void **state)
{
    (void)state;
    char id[37];
    create("changing", "first", "alder kept", id);
    assert_string_equal(stored(id), "alder changing first kept");
    service_ok(update(id, "", "second", ""));
    assert_string_equal(stored(id), "alder changing kept second");
    service_ok(update(id, "renamed", "", ""));
    assert_string_equal(stored(id), "alder kept renamed second");
    version_make(id, "birch kept", false);
    finds("birch", "");
    current_set(id, 2);
    finds("birch", "renamed,");
    finds("alder", "");
    version_make(id, "cedar kept", true);
    assert_string_equal(stored(id), "cedar kept renamed second");
    version_make(id, "alder kept", true); /* version 1 again */
    assert_string_equal(stored(id), "alder kept renamed second");
    current_set(id, 0);
    assert_string_equal(stored(id), "cedar kept renamed second");
    service_fails(update(id, "oak", "", "wrong"), FORGE_ABORTED, "etag");
    assert_string_equal(stored(id), "cedar kept renamed second");
    service_ok(service_call(alpha.admin, "PromptService/DeletePrompt", NULL, "{'id': '%s'}", id));
    assert_string_equal(stored(id), "");
    finds("cedar", "");
}

static void test_a_repeated_write_leaves_the_words(void **state)
{
    (void)state;
    char id[37], request_id[37];
    create("repeated", "", "elm", id);
    memcpy(request_id, service_request_id(), sizeof request_id);
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, "PromptService/CreatePromptVersion", request_id,
                                "{'promptId': '%s', 'content': 'fir', 'makeCurrent': true}", id));
        assert_int_equal(service_reply_is_stored(), i);
        assert_string_equal(stored(id), i == 0 ? "fir repeated" : "hazel repeated");
        version_make(id, "hazel", true);
    }
}

static void test_words_go_with_the_other_filters_and_pages(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__ListPromptsResponse *page, *none;
    service_ok(service_call(alpha.admin, "PromptService/CreateTag", NULL, "{'name': 'trees'}"));
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "paged-%d", i);
        create(name, "", "juniper", id);
        if (i % 2 == 0)
            service_ok(service_call(alpha.admin, "PromptService/TagPrompt", NULL, "{'promptId': '%s', 'tag': 'trees'}", id));
        if (i > 2)
            service_ok(service_call(alpha.admin, "PromptService/SetLabel", NULL, "{'promptId': '%s', 'label': 'live', 'version': 1}", id));
    }
    char *tags[] = {TEXT("trees")};
    Forge__V1__ListPromptsRequest request = listing(alpha.project_id, "juniper");
    request.tags = tags;
    request.n_tags = 1;
    finds_by(&alpha, &request, "paged-0,paged-2,paged-4,");
    request.label = TEXT("live");
    finds_by(&alpha, &request, "paged-4,");
    request.query = TEXT("missingword");
    finds_by(&alpha, &request, "");
    request = listing(alpha.project_id, "juniper");
    request.name_prefix = TEXT("paged-3");
    finds_by(&alpha, &request, "paged-3,");
    request = listing(alpha.project_id, "juniper");
    request.page_size = 3;
    service_ok(list(alpha.admin, &request, &page));
    assert_int_equal(page->n_prompts, 3);
    request.page_token = page->next_page_token;
    finds_by(&alpha, &request, "paged-3,paged-4,");
    request.query = TEXT("juniper paged");
    service_violates(list(alpha.admin, &request, &none), "page_token", "belongs to another query");
    forge__v1__list_prompts_response__free_unpacked(page, NULL);
}

static void test_words_of_others_are_not_found(void **state)
{
    (void)state;
    char id[37], other_project[37];
    Forge__V1__ListPromptsResponse *page;
    create("own", "", "sequoia", id);
    service_ok(service_call(alpha.admin, "ProjectService/CreateProject", NULL, "{'name': 'other'}"));
    service_reply_text("id", other_project, sizeof other_project);
    Forge__V1__ListPromptsRequest request = listing(other_project, "sequoia");
    finds_by(&alpha, &request, "");
    request = listing(beta.project_id, "sequoia");
    finds_by(&beta, &request, "");
    request = listing(alpha.project_id, "sequoia");
    finds_by(&alpha, &request, "own,");
    service_fails(list(beta.admin, &request, &page), FORGE_NOT_FOUND, "project");
}

struct writer {
    const char *prompt_id;
    int number;
    forge_code rc;
};

/* Half of them rename, half of them add a version: what the one changes the other reads. */
static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    struct forge_error error = {0};
    char text[32];
    if (writer->number % 2 == 0) {
        Forge__V1__UpdatePromptRequest request = FORGE__V1__UPDATE_PROMPT_REQUEST__INIT;
        Forge__V1__Prompt *prompt;
        snprintf(text, sizeof text, "described%d", writer->number);
        request.id = TEXT(writer->prompt_id);
        request.description = text;
        writer->rc = forge_prompt_update(alpha.admin, NULL, &request, &prompt, &error);
        if (writer->rc == FORGE_OK)
            forge__v1__prompt__free_unpacked(prompt, NULL);
    } else {
        Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
        Forge__V1__PromptVersion *version;
        snprintf(text, sizeof text, "content%d", writer->number);
        request.prompt_id = TEXT(writer->prompt_id);
        request.content = text;
        request.make_current = true;
        writer->rc = forge_prompt_create_version(alpha.admin, NULL, &request, &version, &error);
        if (writer->rc == FORGE_OK)
            forge__v1__prompt_version__free_unpacked(version, NULL);
    }
    forge_error_free(&error);
    return NULL;
}

static void test_concurrent_changes_leave_the_words_of_the_last(void **state)
{
    (void)state;
    char id[37], sql[256], expected[256];
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    create("contended", "nothing", "nothing", id);
    snprintf(sql, sizeof sql, "SELECT id FROM prompts WHERE id = '%s' FOR UPDATE", id);
    struct service_lock *lock = service_lock_take(sql);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.prompt_id = id, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, writer_main, &writers[i]), 0);
    }
    service_lock_wait(lock, WRITERS);
    service_lock_release(lock);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(writers[i].rc, FORGE_OK);
    }
    snprintf(sql, sizeof sql,
             "SELECT 'contended ' || v.content || ' ' || p.description FROM prompts p JOIN prompt_versions v ON v.prompt_id = p.id"
             " AND v.version = p.current_version WHERE p.id = '%s'",
             id);
    snprintf(expected, sizeof expected, "%s", service_query(sql));
    assert_string_equal(stored(id), expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_of_name_description_and_content_are_found),
        cmocka_unit_test(test_all_texts_of_a_chat_are_found),
        cmocka_unit_test(test_accents_count_and_case_does_not),
        cmocka_unit_test(test_wrong_queries_are_refused),
        cmocka_unit_test(test_long_words_are_cut_on_both_sides),
        cmocka_unit_test(test_of_too_many_words_the_first_are_found),
        cmocka_unit_test(test_words_follow_every_change),
        cmocka_unit_test(test_a_repeated_write_leaves_the_words),
        cmocka_unit_test(test_words_go_with_the_other_filters_and_pages),
        cmocka_unit_test(test_words_of_others_are_not_found),
        cmocka_unit_test(test_concurrent_changes_leave_the_words_of_the_last),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
