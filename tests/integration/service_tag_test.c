/* PromptService over TLS: CreateTag, ListTags, DeleteTag, TagPrompt, UntagPrompt, and the tags of prompts. */
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

enum { TAGS_MAX = 64, TAGGERS = 8 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static forge_code create(struct forge_channel *channel, const char *name, Forge__V1__Tag **out)
{
    Forge__V1__CreateTagRequest request = FORGE__V1__CREATE_TAG_REQUEST__INIT;
    request.name = TEXT(name);
    return forge_prompt_create_tag(channel, NULL, &request, out, &service_error);
}

static int64_t create_id(struct forge_channel *channel, const char *name)
{
    Forge__V1__Tag *tag;
    service_ok(create(channel, name, &tag));
    int64_t id = tag->id;
    forge__v1__tag__free_unpacked(tag, NULL);
    return id;
}

/* The tags of the reply, each with a comma behind it. */
static void join(size_t count, char **names, char out[1024])
{
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(out + length, 1024 - length, "%s,", names[i]);
}

static forge_code link_tag(struct forge_channel *channel, const char *prompt_id, const char *name, char out[1024])
{
    Forge__V1__TagPromptRequest request = FORGE__V1__TAG_PROMPT_REQUEST__INIT;
    Forge__V1__TagPromptResponse *reply;
    request.prompt_id = TEXT(prompt_id);
    request.tag = TEXT(name);
    forge_code rc = forge_prompt_tag(channel, NULL, &request, &reply, &service_error);
    if (rc == FORGE_OK) {
        join(reply->n_tags, reply->tags, out);
        forge__v1__tag_prompt_response__free_unpacked(reply, NULL);
    }
    return rc;
}

static forge_code unlink_tag(struct forge_channel *channel, const char *prompt_id, const char *name, char out[1024])
{
    Forge__V1__UntagPromptRequest request = FORGE__V1__UNTAG_PROMPT_REQUEST__INIT;
    Forge__V1__UntagPromptResponse *reply;
    request.prompt_id = TEXT(prompt_id);
    request.tag = TEXT(name);
    forge_code rc = forge_prompt_untag(channel, NULL, &request, &reply, &service_error);
    if (rc == FORGE_OK) {
        join(reply->n_tags, reply->tags, out);
        forge__v1__untag_prompt_response__free_unpacked(reply, NULL);
    }
    return rc;
}

static forge_code delete_tag(struct forge_channel *channel, int64_t id, const char *name)
{
    Forge__V1__DeleteTagRequest request = FORGE__V1__DELETE_TAG_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = id;
    request.name = TEXT(name);
    forge_code rc = forge_prompt_delete_tag(channel, NULL, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

/* As GetPrompt tells them; the etag goes to etag unless NULL. */
static void tags_of(const char *prompt_id, char out[1024], char *etag)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.id = TEXT(prompt_id);
    service_ok(forge_prompt_get(alpha.admin, NULL, &request, &prompt, &service_error));
    join(prompt->n_tags, prompt->tags, out);
    if (etag != NULL)
        strcpy(etag, prompt->etag);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static unsigned changes_of(const char *prompt_id)
{
    char sql[1024];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'prompt' AND object_id = '%s' AND parent_id IS NOT NULL",
             prompt_id);
    return (unsigned)strtoul(service_query(sql), NULL, 10);
}

static void test_a_tag_is_made_once(void **state)
{
    (void)state;
    Forge__V1__Tag *tag;
    service_ok(create(alpha.admin, "made", &tag));
    assert_true(tag->id > 0);
    assert_string_equal(tag->name, "made");
    assert_int_equal(tag->prompt_count, 0);
    forge__v1__tag__free_unpacked(tag, NULL);
    service_fails(create(alpha.admin, "made", &tag), FORGE_ALREADY_EXISTS, "a tag named \"made\" exists already");
    create_id(beta.admin, "made"); /* another organization's name is its own */
    create_id(alpha.admin, service_repeat("\xc3\xa9", 100));
    service_violates(create(alpha.admin, service_repeat("x", 101), &tag), "name", "1 to 100 printable characters");
    service_violates(create(alpha.admin, "", &tag), "name", "1 to 100 printable characters");
    service_violates(create(alpha.admin, "two\nlines", &tag), "name", "1 to 100 printable characters");
    service_fails(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), "viewer's", &tag), FORGE_PERMISSION_DENIED,
                  "developer");
}

static void test_a_repeat_creates_nothing(void **state)
{
    (void)state;
    char request_id[37];
    Forge__V1__CreateTagRequest request = FORGE__V1__CREATE_TAG_REQUEST__INIT;
    Forge__V1__Tag *tag;
    int64_t id = 0;
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    request.name = TEXT("repeated");
    for (int i = 0; i < 3; i++) {
        service_ok(forge_prompt_create_tag(alpha.admin, &options, &request, &tag, &service_error));
        assert_true(i == 0 || tag->id == id);
        id = tag->id;
        forge__v1__tag__free_unpacked(tag, NULL);
    }
    request.name = TEXT("another");
    service_fails(forge_prompt_create_tag(alpha.admin, &options, &request, &tag, &service_error), FORGE_INVALID_ARGUMENT, "request_id");
}

static void test_a_prompt_is_tagged_and_untagged(void **state)
{
    (void)state;
    char id[37], tags[1024], etag[64];
    service_prompt_make(alpha.admin, alpha.project_id, "tagged", "x", id);
    create_id(alpha.admin, "link b");
    create_id(alpha.admin, "link A");
    tags_of(id, tags, NULL);
    assert_string_equal(tags, "");
    unsigned changes = changes_of(id);
    service_ok(link_tag(alpha.admin, id, "link b", tags));
    service_ok(link_tag(alpha.admin, id, "link A", tags));
    assert_string_equal(tags, "link A,link b,"); /* by code point */
    assert_int_equal(changes_of(id), changes + 2);
    service_ok(link_tag(alpha.admin, id, "link A", tags)); /* it is there already */
    assert_string_equal(tags, "link A,link b,");
    tags_of(id, tags, etag);
    assert_string_equal(tags, "link A,link b,");
    assert_string_equal(etag, "3");
    service_ok(unlink_tag(alpha.admin, id, "link b", tags));
    assert_string_equal(tags, "link A,");
    service_ok(unlink_tag(alpha.admin, id, "link b", tags)); /* it is gone already */
    assert_string_equal(tags, "link A,");
    assert_int_equal(changes_of(id), changes + 3);
    tags_of(id, tags, etag);
    assert_string_equal(tags, "link A,");
    assert_string_equal(etag, "4");
}

static void test_what_cannot_be_tagged(void **state)
{
    (void)state;
    char id[37], tags[1024];
    service_prompt_make(alpha.admin, alpha.project_id, "refused", "x", id);
    create_id(alpha.admin, "refused");
    service_violates(link_tag(alpha.admin, "x", "", tags), "prompt_id", "must be a UUID", "tag", "1 to 100 printable characters");
    service_violates(unlink_tag(alpha.admin, "", service_repeat("x", 101), tags), "prompt_id", "is required", "tag",
                     "1 to 100 printable characters");
    service_fails(link_tag(alpha.admin, nobody_has, "refused", tags), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000");
    service_fails(unlink_tag(alpha.admin, nobody_has, "refused", tags), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000");
    service_fails(link_tag(alpha.admin, id, "no such tag", tags), FORGE_NOT_FOUND, "tag \"no such tag\" not found");
    service_fails(unlink_tag(alpha.admin, id, "no such tag", tags), FORGE_NOT_FOUND, "tag \"no such tag\" not found");
    create_id(beta.admin, "refused");
    service_fails(link_tag(beta.admin, id, "refused", tags), FORGE_NOT_FOUND, "prompt");
    service_fails(unlink_tag(beta.admin, id, "refused", tags), FORGE_NOT_FOUND, "prompt");
    service_fails(link_tag(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), id, "refused", tags), FORGE_PERMISSION_DENIED,
                  "developer");
    tags_of(id, tags, NULL);
    assert_string_equal(tags, "");
}

static void test_prompts_are_created_with_tags(void **state)
{
    (void)state;
    Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    char *names[TAGS_MAX + 1] = {TEXT("with b"), TEXT("with a")}, tags[1024];
    create_id(alpha.admin, "with a");
    create_id(alpha.admin, "with b");
    request.project_id = alpha.project_id;
    request.name = TEXT("with tags");
    request.content = TEXT("x");
    request.tags = names;
    request.n_tags = 2;
    service_ok(forge_prompt_create(alpha.admin, NULL, &request, &prompt, &service_error));
    join(prompt->n_tags, prompt->tags, tags);
    assert_string_equal(tags, "with a,with b,");
    tags_of(prompt->id, tags, NULL);
    assert_string_equal(tags, "with a,with b,");
    forge__v1__prompt__free_unpacked(prompt, NULL);
    request.name = TEXT("with a tag that is not there");
    names[1] = TEXT("missing");
    service_fails(forge_prompt_create(alpha.admin, NULL, &request, &prompt, &service_error), FORGE_NOT_FOUND, "tag \"missing\" not found");
    names[1] = names[0];
    service_violates(forge_prompt_create(alpha.admin, NULL, &request, &prompt, &service_error), "tags[1]", "is given twice");
    names[1] = service_repeat("x", 101);
    service_violates(forge_prompt_create(alpha.admin, NULL, &request, &prompt, &service_error), "tags[1]", "1 to 100 printable");
    for (size_t i = 0; i <= TAGS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%zu", i);
        names[i] = service_repeat(name, 1);
    }
    request.n_tags = TAGS_MAX + 1;
    service_violates(forge_prompt_create(alpha.admin, NULL, &request, &prompt, &service_error), "tags", "at most 64");
    assert_string_equal(service_query("SELECT count(*) FROM prompts WHERE name = 'with a tag that is not there'"), "0");
}

static void test_tags_are_listed_with_counts(void **state)
{
    (void)state;
    char first[37], second[37], tags[1024], found[1024] = "", token[2048] = "";
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *other;
    Forge__V1__ListTagsRequest request = FORGE__V1__LIST_TAGS_REQUEST__INIT;
    Forge__V1__ListTagsResponse *page;
    project.name = TEXT("counted");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &other, &service_error));
    service_prompt_make(alpha.admin, alpha.project_id, "counted 1", "x", first);
    service_prompt_make(alpha.admin, other->id, "counted 2", "x", second);
    create_id(alpha.admin, "count/c");
    create_id(alpha.admin, "count/a");
    create_id(alpha.admin, "count/b");
    service_ok(link_tag(alpha.admin, first, "count/a", tags));
    service_ok(link_tag(alpha.admin, second, "count/a", tags));
    service_ok(link_tag(alpha.admin, first, "count/c", tags));
    request.name_prefix = TEXT("count/");
    request.page_size = 2;
    do {
        request.page_token = token;
        service_ok(forge_prompt_list_tags(alpha.admin, NULL, &request, &page, &service_error));
        for (size_t i = 0; i < page->n_tags; i++) {
            size_t length = strlen(found);
            snprintf(found + length, sizeof found - length, "%s=%d ", page->tags[i]->name, (int)page->tags[i]->prompt_count);
        }
        strcpy(token, page->next_page_token);
        forge__v1__list_tags_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
    assert_string_equal(found, "count/a=2 count/b=0 count/c=1 ");
    /* A bound key counts what it may use. */
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, other->id);
    request.page_token = TEXT("");
    service_ok(forge_prompt_list_tags(bound, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_tags, 2);
    assert_int_equal(page->tags[0]->prompt_count, 1);
    forge__v1__list_tags_response__free_unpacked(page, NULL);
    service_fails(link_tag(bound, first, "count/b", tags), FORGE_NOT_FOUND, "prompt");
    service_ok(link_tag(bound, second, "count/b", tags));
    service_fails(delete_tag(bound, 0, "count/a"), FORGE_PERMISSION_DENIED, "bound to one project");
    /* Nothing of it is seen from elsewhere. */
    service_ok(forge_prompt_list_tags(beta.admin, NULL, &request, &page, &service_error));
    assert_int_equal(page->n_tags, 0);
    forge__v1__list_tags_response__free_unpacked(page, NULL);
    request.page_size = -1;
    request.page_token = TEXT("damaged");
    request.name_prefix = TEXT("\n");
    service_violates(forge_prompt_list_tags(alpha.admin, NULL, &request, &page, &service_error), "page_size", "negative", "page_token",
                     "damaged", "name_prefix", "printable");
    forge__v1__project__free_unpacked(other, NULL);
}

static void test_a_deleted_tag_is_off_all_prompts(void **state)
{
    (void)state;
    enum { PROMPTS = 6 };
    char ids[PROMPTS][37], tags[1024], etag[64];
    unsigned changes[PROMPTS];
    int64_t id = create_id(alpha.admin, "deleted");
    create_id(alpha.admin, "kept");
    for (int i = 0; i < PROMPTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "with deleted %d", i);
        service_prompt_make(alpha.admin, alpha.project_id, name, "x", ids[i]);
        service_ok(link_tag(alpha.admin, ids[i], "kept", tags));
        if (i > 0)
            service_ok(link_tag(alpha.admin, ids[i], "deleted", tags));
        changes[i] = changes_of(ids[i]);
    }
    service_violates(delete_tag(alpha.admin, 0, ""), "id", "either id or name");
    service_violates(delete_tag(alpha.admin, id, "deleted"), "id", "either id or name");
    service_violates(delete_tag(alpha.admin, -1, ""), "id", "positive");
    service_violates(delete_tag(alpha.admin, 0, service_repeat("x", 101)), "name", "1 to 100 printable characters");
    service_fails(delete_tag(beta.admin, id, ""), FORGE_NOT_FOUND, "not found");
    service_fails(delete_tag(beta.admin, 0, "deleted"), FORGE_NOT_FOUND, "tag \"deleted\" not found");
    service_fails(delete_tag(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), id, ""), FORGE_PERMISSION_DENIED,
                  "developer");
    service_ok(delete_tag(alpha.admin, id, ""));
    service_fails(delete_tag(alpha.admin, id, ""), FORGE_NOT_FOUND, "not found");
    for (int i = 0; i < PROMPTS; i++) {
        tags_of(ids[i], tags, etag);
        assert_string_equal(tags, "kept,");
        assert_string_equal(etag, i > 0 ? "4" : "2");
        assert_int_equal(changes_of(ids[i]), changes[i] + (i > 0)); /* each that had it is told */
    }
    create_id(alpha.admin, "deleted"); /* the name is free */
    service_ok(delete_tag(alpha.admin, 0, "deleted"));
    service_fails(delete_tag(alpha.admin, 0, "deleted"), FORGE_NOT_FOUND, "tag \"deleted\" not found");
}

static void list_by_tags(const char *project_id, size_t count, char **names, int page_size, char out[1024])
{
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *page;
    char token[2048] = "";
    size_t length = 0;
    request.project_id = TEXT(project_id);
    request.tags = names;
    request.n_tags = count;
    request.page_size = page_size;
    out[0] = '\0';
    do {
        request.page_token = token;
        service_ok(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error));
        for (size_t i = 0; i < page->n_prompts; i++) {
            assert_true(page->prompts[i]->n_tags >= count);
            length += (size_t)snprintf(out + length, 1024 - length, "%s,", page->prompts[i]->name);
        }
        strcpy(token, page->next_page_token);
        forge__v1__list_prompts_response__free_unpacked(page, NULL);
    } while (token[0] != '\0');
}

static void test_prompts_are_listed_by_tags(void **state)
{
    (void)state;
    char id[37], tags[1024], found[1024];
    char *names[9] = {TEXT("by even"), TEXT("by three")};
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *own;
    project.name = TEXT("by tags");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &own, &service_error));
    create_id(alpha.admin, "by even");
    create_id(alpha.admin, "by three");
    for (int i = 0; i < 13; i++) {
        char name[32];
        snprintf(name, sizeof name, "p%02d", i);
        service_prompt_make(alpha.admin, own->id, name, "x", id);
        if (i % 2 == 0)
            service_ok(link_tag(alpha.admin, id, "by even", tags));
        if (i % 3 == 0)
            service_ok(link_tag(alpha.admin, id, "by three", tags));
    }
    service_prompt_make(alpha.admin, alpha.project_id, "by even elsewhere", "x", id);
    service_ok(link_tag(alpha.admin, id, "by even", tags));
    list_by_tags(own->id, 1, names, 2, found);
    assert_string_equal(found, "p00,p02,p04,p06,p08,p10,p12,");
    list_by_tags(own->id, 2, names, 2, found);
    assert_string_equal(found, "p00,p06,p12,");
    list_by_tags(own->id, 0, NULL, 5, found);
    assert_string_equal(found, "p00,p01,p02,p03,p04,p05,p06,p07,p08,p09,p10,p11,p12,");
    names[1] = TEXT("no such tag");
    list_by_tags(own->id, 2, names, 2, found);
    assert_string_equal(found, "");
    Forge__V1__ListPromptsRequest request = FORGE__V1__LIST_PROMPTS_REQUEST__INIT;
    Forge__V1__ListPromptsResponse *page;
    for (int i = 0; i < 9; i++)
        names[i] = service_repeat("x", (size_t)i + 1);
    request.project_id = own->id;
    request.tags = names;
    request.n_tags = 9;
    service_violates(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error), "tags", "at most 8");
    /* A page goes on with the filter it began with. */
    names[0] = TEXT("by even");
    request.n_tags = 1;
    request.page_size = 2;
    service_ok(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error));
    request.page_token = service_repeat(page->next_page_token, 1);
    forge__v1__list_prompts_response__free_unpacked(page, NULL);
    names[0] = TEXT("by three");
    service_violates(forge_prompt_list(alpha.admin, NULL, &request, &page, &service_error), "page_token", "belongs to another query");
    forge__v1__project__free_unpacked(own, NULL);
}

/* --- the limit under concurrent writers --- */

struct tagger {
    pthread_barrier_t *barrier;
    struct forge_channel *channel;
    const char *prompt_id;
    unsigned number;
    forge_code rc;
};

static void *tag_once(void *argument)
{
    struct tagger *tagger = argument;
    Forge__V1__TagPromptRequest request = FORGE__V1__TAG_PROMPT_REQUEST__INIT;
    Forge__V1__TagPromptResponse *reply;
    struct forge_error error = {0};
    char name[32];
    snprintf(name, sizeof name, "limit %u", tagger->number);
    request.prompt_id = TEXT(tagger->prompt_id);
    request.tag = name;
    pthread_barrier_wait(tagger->barrier);
    tagger->rc = forge_prompt_tag(tagger->channel, NULL, &request, &reply, &error);
    if (tagger->rc == FORGE_OK)
        forge__v1__tag_prompt_response__free_unpacked(reply, NULL);
    forge_error_free(&error);
    return NULL;
}

static void test_the_limit_holds_under_concurrent_writers(void **state)
{
    (void)state;
    enum { FREE = 3 };
    char id[37], sql[1024], tags[1024];
    struct tagger taggers[TAGGERS];
    pthread_barrier_t barrier;
    pthread_t threads[TAGGERS];
    unsigned linked = 0, refused = 0;
    service_prompt_make(alpha.admin, alpha.project_id, "limited", "x", id);
    snprintf(
        sql, sizeof sql,
        "WITH t AS (INSERT INTO tags (organization_id, name) SELECT '%s', 'limit ' || n FROM generate_series(0, 99) n RETURNING id, name)"
        " INSERT INTO prompt_tags (organization_id, prompt_id, tag_id) SELECT '%s', '%s', id FROM t WHERE substr(name, 7)::int >= %d",
        alpha.organization_id, alpha.organization_id, id, 100 - TAGS_MAX + FREE);
    service_execute(sql);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, TAGGERS), 0);
    for (unsigned i = 0; i < TAGGERS; i++) {
        taggers[i] = (struct tagger){&barrier, alpha.admin, id, i, FORGE_OK};
        assert_int_equal(pthread_create(&threads[i], NULL, tag_once, &taggers[i]), 0);
    }
    for (unsigned i = 0; i < TAGGERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        linked += taggers[i].rc == FORGE_OK;
        refused += taggers[i].rc == FORGE_RESOURCE_EXHAUSTED;
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(linked, FREE);
    assert_int_equal(refused, TAGGERS - FREE);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM prompt_tags WHERE prompt_id = '%s'", id);
    assert_string_equal(service_query(sql), "64");
    service_fails(link_tag(alpha.admin, id, "limit 20", tags), FORGE_RESOURCE_EXHAUSTED, "at most 64 tags");
    service_ok(link_tag(alpha.admin, id, "limit 99", tags)); /* it is there already */
    service_ok(unlink_tag(alpha.admin, id, "limit 99", tags));
    service_ok(link_tag(alpha.admin, id, "limit 20", tags));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tag_is_made_once),
        cmocka_unit_test(test_a_repeat_creates_nothing),
        cmocka_unit_test(test_a_prompt_is_tagged_and_untagged),
        cmocka_unit_test(test_what_cannot_be_tagged),
        cmocka_unit_test(test_prompts_are_created_with_tags),
        cmocka_unit_test(test_tags_are_listed_with_counts),
        cmocka_unit_test(test_a_deleted_tag_is_off_all_prompts),
        cmocka_unit_test(test_prompts_are_listed_by_tags),
        cmocka_unit_test(test_the_limit_holds_under_concurrent_writers),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
