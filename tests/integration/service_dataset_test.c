/* EvaluationService over TLS: datasets, their versions and items. */
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

enum { WRITERS = 16, WRITES = 8 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static forge_code create(struct forge_channel *channel, const char *project_id, const char *name, Forge__V1__Dataset **out)
{
    Forge__V1__CreateDatasetRequest request = FORGE__V1__CREATE_DATASET_REQUEST__INIT;
    request.project_id = TEXT(project_id);
    request.name = TEXT(name);
    request.description = TEXT("cases of support");
    return forge_evaluation_create_dataset(channel, NULL, &request, out, &service_error);
}

static void make(const char *name, char out_id[37])
{
    Forge__V1__Dataset *dataset;
    service_ok(create(alpha.admin, alpha.project_id, name, &dataset));
    snprintf(out_id, 37, "%s", dataset->id);
    forge__v1__dataset__free_unpacked(dataset, NULL);
}

static Forge__V1__DatasetItem item_of(const char *key, const char *expected)
{
    Forge__V1__DatasetItem item = FORGE__V1__DATASET_ITEM__INIT;
    item.key = TEXT(key);
    item.input = TEXT("{\"question\": \"why\"}");
    item.expected_output = TEXT(expected);
    return item;
}

static forge_code add(struct forge_channel *channel, const Forge__V1__AddDatasetItemsRequest *request, Forge__V1__DatasetVersion **out)
{
    return forge_evaluation_add_dataset_items(channel, NULL, request, out, &service_error);
}

/* One item more, or in place of the one with this key: the version it made. */
static int put(const char *dataset_id, const char *key, const char *expected)
{
    Forge__V1__DatasetItem item = item_of(key, expected), *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    request.dataset_id = TEXT(dataset_id);
    request.n_items = 1;
    request.items = items;
    service_ok(add(alpha.admin, &request, &version));
    int number = version->version;
    forge__v1__dataset_version__free_unpacked(version, NULL);
    return number;
}

static Forge__V1__ListDatasetItemsRequest list_of(const char *dataset_id, int version)
{
    Forge__V1__ListDatasetItemsRequest request = FORGE__V1__LIST_DATASET_ITEMS_REQUEST__INIT;
    request.dataset_id = TEXT(dataset_id);
    request.version = version;
    return request;
}

static forge_code list_items(struct forge_channel *channel, const Forge__V1__ListDatasetItemsRequest *request,
                             Forge__V1__ListDatasetItemsResponse **out)
{
    return forge_evaluation_list_dataset_items(channel, NULL, request, out, &service_error);
}

/* The items of a version as "key=expected ". */
static void expect_items(const char *dataset_id, int version, const char *expected)
{
    char text[512] = "";
    Forge__V1__ListDatasetItemsRequest request = list_of(dataset_id, version);
    Forge__V1__ListDatasetItemsResponse *reply;
    service_ok(list_items(alpha.admin, &request, &reply));
    for (size_t i = 0; i < reply->n_items; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%s ", reply->items[i]->key, reply->items[i]->expected_output);
    assert_string_equal(text, expected);
    if (version > 0)
        assert_int_equal(reply->version, version);
    forge__v1__list_dataset_items_response__free_unpacked(reply, NULL);
}

/* ---- datasets ---- */

static void test_a_dataset_is_made_found_and_listed(void **state)
{
    (void)state;
    Forge__V1__Dataset *made, *found;
    Forge__V1__GetDatasetRequest get = FORGE__V1__GET_DATASET_REQUEST__INIT;
    Forge__V1__ListDatasetsRequest list = FORGE__V1__LIST_DATASETS_REQUEST__INIT;
    Forge__V1__ListDatasetsResponse *reply;
    char other[37];
    service_ok(create(alpha.admin, alpha.project_id, "list a", &made));
    make("list b", other);
    assert_string_equal(made->project_id, alpha.project_id);
    assert_string_equal(made->description, "cases of support");
    assert_int_equal(made->latest_version, 0);
    assert_int_equal(made->item_count, 0);
    assert_null(made->update_time);
    assert_string_equal(made->etag, "1");
    get.project_id = alpha.project_id;
    get.name = TEXT("list a");
    service_ok(forge_evaluation_get_dataset(alpha.admin, NULL, &get, &found, &service_error));
    assert_string_equal(found->id, made->id);
    forge__v1__dataset__free_unpacked(found, NULL);
    get = (Forge__V1__GetDatasetRequest)FORGE__V1__GET_DATASET_REQUEST__INIT;
    get.id = made->id;
    service_ok(forge_evaluation_get_dataset(alpha.admin, NULL, &get, &found, &service_error));
    assert_string_equal(found->name, "list a");
    forge__v1__dataset__free_unpacked(found, NULL);
    list.project_id = alpha.project_id;
    list.name_prefix = TEXT("list");
    list.page_size = 1;
    service_ok(forge_evaluation_list_datasets(alpha.admin, NULL, &list, &reply, &service_error));
    assert_int_equal(reply->n_datasets, 1);
    assert_string_equal(reply->datasets[0]->name, "list a");
    char *token = strdup(reply->next_page_token);
    forge__v1__list_datasets_response__free_unpacked(reply, NULL);
    list.page_token = token;
    service_ok(forge_evaluation_list_datasets(alpha.admin, NULL, &list, &reply, &service_error));
    assert_int_equal(reply->n_datasets, 1);
    assert_string_equal(reply->datasets[0]->id, other);
    assert_string_equal(reply->next_page_token, "");
    forge__v1__list_datasets_response__free_unpacked(reply, NULL);
    list.name_prefix = TEXT("");
    service_violates(forge_evaluation_list_datasets(alpha.admin, NULL, &list, &reply, &service_error), "page_token", "another query");
    free(token);
    list.page_token = TEXT("");
    list.name_prefix = TEXT("no such");
    service_ok(forge_evaluation_list_datasets(alpha.admin, NULL, &list, &reply, &service_error));
    assert_int_equal(reply->n_datasets, 0);
    forge__v1__list_datasets_response__free_unpacked(reply, NULL);
    forge__v1__dataset__free_unpacked(made, NULL);
}

static void test_names_are_unique_and_fields_are_checked(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Dataset *dataset;
    Forge__V1__GetDatasetRequest get = FORGE__V1__GET_DATASET_REQUEST__INIT;
    make("taken", id);
    service_fails(create(alpha.admin, alpha.project_id, "taken", &dataset), FORGE_ALREADY_EXISTS,
                  "a dataset named \"taken\" exists already");
    /* the message has no room for this name and ends between two of its letters, each of three bytes */
    char *longest = service_repeat("\u4e00", 254);
    make(longest, id);
    service_fails(create(alpha.admin, alpha.project_id, longest, &dataset), FORGE_ALREADY_EXISTS, "a dataset named \"\u4e00");
    service_violates(create(alpha.admin, "x", "", &dataset), "project_id", "must be a UUID", "name", "1 to 255");
    service_violates(create(alpha.admin, alpha.project_id, service_repeat("n", 256), &dataset), "name", "1 to 255");
    service_fails(create(alpha.admin, nobody_has, "x", &dataset), FORGE_NOT_FOUND, "project");
    service_violates(forge_evaluation_get_dataset(alpha.admin, NULL, &get, &dataset, &service_error), "id",
                     "either id, or project_id and name");
    get.id = TEXT(nobody_has);
    service_fails(forge_evaluation_get_dataset(alpha.admin, NULL, &get, &dataset, &service_error), FORGE_NOT_FOUND, "dataset");
}

static void test_others_see_no_dataset(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Dataset *dataset;
    Forge__V1__DatasetVersion *version;
    Forge__V1__ListDatasetItemsResponse *reply;
    Forge__V1__GetDatasetRequest get = FORGE__V1__GET_DATASET_REQUEST__INIT;
    Forge__V1__DatasetItem item = item_of("a", "1"), *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    make("private", id);
    Forge__V1__ListDatasetItemsRequest list = list_of(id, 0);
    request.dataset_id = get.id = id;
    request.n_items = 1;
    request.items = items;
    struct forge_channel *viewer = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL);
    service_fails(create(beta.admin, alpha.project_id, "x", &dataset), FORGE_NOT_FOUND, "project");
    service_fails(forge_evaluation_get_dataset(beta.admin, NULL, &get, &dataset, &service_error), FORGE_NOT_FOUND, "dataset");
    service_fails(add(beta.admin, &request, &version), FORGE_NOT_FOUND, "dataset");
    service_fails(list_items(beta.admin, &list, &reply), FORGE_NOT_FOUND, "dataset");
    service_fails(create(viewer, alpha.project_id, "x", &dataset), FORGE_PERMISSION_DENIED, "");
    service_fails(add(viewer, &request, &version), FORGE_PERMISSION_DENIED, "");
    service_ok(list_items(viewer, &list, &reply));
    forge__v1__list_dataset_items_response__free_unpacked(reply, NULL);
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *other;
    project.name = TEXT("other");
    service_ok(forge_project_create(alpha.admin, NULL, &project, &other, &service_error));
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, other->id);
    service_fails(create(bound, alpha.project_id, "x", &dataset), FORGE_PERMISSION_DENIED, "another project");
    service_fails(add(bound, &request, &version), FORGE_NOT_FOUND, "dataset");
    service_fails(list_items(bound, &list, &reply), FORGE_NOT_FOUND, "dataset");
    forge__v1__project__free_unpacked(other, NULL);
}

/* ---- versions ---- */

static void test_versions_keep_what_they_held(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__DatasetItem b = item_of("b", "2"), c = item_of("c", "3"), *items[] = {&b, &c};
    char *removed[] = {TEXT("a")};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    make("versions", id);
    expect_items(id, 0, "");
    assert_int_equal(put(id, "a", "1"), 1);
    assert_int_equal(put(id, "b", "1"), 2);
    request.dataset_id = id;
    request.n_items = 2;
    request.items = items;
    request.n_remove_keys = 1;
    request.remove_keys = removed;
    request.message = TEXT("a was wrong");
    service_ok(add(alpha.admin, &request, &version));
    assert_int_equal(version->version, 3);
    assert_int_equal(version->item_count, 2);
    assert_int_equal(strlen(version->content_hash), 64);
    assert_string_equal(version->message, "a was wrong");
    assert_int_equal(strlen(version->author_id), 36);
    assert_false(version->existing);
    forge__v1__dataset_version__free_unpacked(version, NULL);
    expect_items(id, 1, "a=1 ");
    expect_items(id, 2, "a=1 b=1 ");
    expect_items(id, 3, "b=2 c=3 ");
    expect_items(id, 0, "b=2 c=3 ");
    Forge__V1__ListDatasetItemsRequest list = list_of(id, 4);
    Forge__V1__ListDatasetItemsResponse *reply;
    service_fails(list_items(alpha.admin, &list, &reply), FORGE_NOT_FOUND, "the dataset has no version 4");
    Forge__V1__GetDatasetVersionRequest get = FORGE__V1__GET_DATASET_VERSION_REQUEST__INIT;
    get.dataset_id = id;
    get.version = 2;
    service_ok(forge_evaluation_get_dataset_version(alpha.admin, NULL, &get, &version, &service_error));
    assert_int_equal(version->item_count, 2);
    forge__v1__dataset_version__free_unpacked(version, NULL);
    get.version = 4;
    service_fails(forge_evaluation_get_dataset_version(alpha.admin, NULL, &get, &version, &service_error), FORGE_NOT_FOUND, "no version 4");
    get.version = -1;
    service_violates(forge_evaluation_get_dataset_version(alpha.admin, NULL, &get, &version, &service_error), "version", "0 or more");
}

static void test_the_same_content_makes_no_version(void **state)
{
    (void)state;
    char first[37], second[37], sql[256];
    Forge__V1__DatasetItem item = item_of("a", "1"), *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    make("same", first);
    make("same content elsewhere", second);
    put(first, "a", "1");
    put(first, "b", "1");
    put(second, "b", "1");
    put(second, "a", "1");
    request.dataset_id = first;
    request.n_items = 1;
    request.items = items;
    item.input = TEXT("{ \"question\" : \"why\" }"); /* another spelling */
    service_ok(add(alpha.admin, &request, &version));
    assert_int_equal(version->version, 2);
    assert_true(version->existing);
    forge__v1__dataset_version__free_unpacked(version, NULL);
    snprintf(sql, sizeof sql, "SELECT count(DISTINCT content_hash) FROM dataset_versions WHERE version = 2 AND dataset_id IN ('%s', '%s')",
             first, second);
    assert_string_equal(service_query(sql), "1");
    put(first, "a", "other");
    assert_string_equal(service_query(sql), "1");
    assert_int_equal(put(first, "a", "1"), 4); /* as version 2, which is not the latest */
    snprintf(sql, sizeof sql, "SELECT count(DISTINCT content_hash) FROM dataset_versions WHERE version IN (2, 4) AND dataset_id = '%s'",
             first);
    assert_string_equal(service_query(sql), "1");
}

static void test_an_item_keeps_all_its_fields(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__DatasetItem item = FORGE__V1__DATASET_ITEM__INIT, *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    Forge__V1__ListDatasetItemsResponse *reply;
    make("fields", id);
    item.input = TEXT("{\"a\": [1, 2.5], \"b\": \"\xc3\xa9\"}");
    item.expected_output = TEXT("line one\nline two");
    item.metadata = TEXT("{\"from\": \"ticket 7\"}");
    item.source_trace_id = TEXT("0AF7651916CD43DD8448EB211C80319C");
    item.source_span_id = TEXT("b7ad6b7169203331");
    request.dataset_id = id;
    request.n_items = 1;
    request.items = items;
    service_ok(add(alpha.admin, &request, &version));
    forge__v1__dataset_version__free_unpacked(version, NULL);
    Forge__V1__ListDatasetItemsRequest list = list_of(id, 0);
    service_ok(list_items(alpha.admin, &list, &reply));
    assert_int_equal(reply->n_items, 1);
    assert_string_equal(reply->items[0]->key, reply->items[0]->id); /* none was given */
    assert_string_equal(reply->items[0]->input, item.input);
    assert_string_equal(reply->items[0]->expected_output, item.expected_output);
    assert_string_equal(reply->items[0]->metadata, item.metadata);
    assert_string_equal(reply->items[0]->source_trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(reply->items[0]->source_span_id, "b7ad6b7169203331");
    forge__v1__list_dataset_items_response__free_unpacked(reply, NULL);
}

static void test_wrong_items_are_named_and_nothing_is_added(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__DatasetItem good = item_of("a", "1"), bad = item_of("a", "2"), *items[] = {&good, &bad};
    char *removed[] = {TEXT("a"), TEXT("")};
    Google__Protobuf__Int32Value expected = GOOGLE__PROTOBUF__INT32_VALUE__INIT;
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    make("wrong", id);
    request.dataset_id = id;
    service_violates(add(alpha.admin, &request, &version), "items", "items or remove_keys are required");
    request.n_items = 2;
    request.items = items;
    service_violates(add(alpha.admin, &request, &version), "items[1].key", "is given twice");
    bad.key = TEXT("b");
    bad.input = TEXT("[1]");
    bad.metadata = TEXT("{\"a\": 1, \"a\": 2}");
    bad.source_trace_id = TEXT("xyz");
    bad.source_span_id = TEXT("0123");
    request.n_remove_keys = 2;
    request.remove_keys = removed;
    request.message = service_repeat("m", 1025);
    expected.value = -1;
    request.expected_version = &expected;
    service_violates(add(alpha.admin, &request, &version), "message", "1024", "expected_version", "0 or more", "items[1].input",
                     "a JSON object", "items[1].metadata", "each member once", "items[1].source_trace_id", "32 hexadecimal digits",
                     "items[1].source_span_id", "16 hexadecimal digits", "remove_keys[1]", "1 to 255", "remove_keys[0]", "is given twice");
    request = (Forge__V1__AddDatasetItemsRequest)FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    request.dataset_id = id;
    request.n_items = 1;
    request.items = items;
    good.input = service_repeat(" ", (256 << 10) + 1);
    good.expected_output = good.input;
    good.metadata = service_repeat(" ", (64 << 10) + 1);
    service_violates(add(alpha.admin, &request, &version), "items[0].input", "at most 262144 bytes", "items[0].expected_output",
                     "at most 262144 bytes", "items[0].metadata", "at most 65536 bytes");
    good = item_of("a", "1");
    request.n_remove_keys = 1;
    removed[0] = TEXT("no such");
    request.remove_keys = removed;
    service_fails(add(alpha.admin, &request, &version), FORGE_NOT_FOUND, "no item \"no such\" to remove");
    request.n_remove_keys = 0;
    expected.value = 1;
    request.expected_version = &expected;
    service_fails(add(alpha.admin, &request, &version), FORGE_ABORTED, "version 0 is the latest, not 1");
    expect_items(id, 0, "");
    expected.value = 0;
    service_ok(add(alpha.admin, &request, &version));
    assert_int_equal(version->version, 1);
    forge__v1__dataset_version__free_unpacked(version, NULL);
}

static void test_a_repeat_gets_the_same_version(void **state)
{
    (void)state;
    char id[37], request_id[37];
    Forge__V1__DatasetItem item = item_of("a", "1"), *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    make("repeat", id);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    request.dataset_id = id;
    request.n_items = 1;
    request.items = items;
    for (int i = 0; i < 2; i++) {
        service_ok(forge_evaluation_add_dataset_items(alpha.admin, &options, &request, &version, &service_error));
        assert_int_equal(version->version, 1);
        assert_false(version->existing);
        forge__v1__dataset_version__free_unpacked(version, NULL);
        if (i == 0)
            put(id, "b", "1");
    }
    expect_items(id, 0, "a=1 b=1 ");
}

struct writer {
    pthread_t thread;
    struct forge_channel *channel;
    const char *dataset_id;
    int number, failed;
};

static void *write_items(void *argument)
{
    struct writer *writer = argument;
    for (int i = 0; i < WRITES; i++) {
        char key[32];
        struct forge_error error;
        snprintf(key, sizeof key, "%02d %02d", writer->number, i);
        Forge__V1__DatasetItem item = item_of(key, "1"), *items[] = {&item};
        Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
        Forge__V1__DatasetVersion *version;
        request.dataset_id = TEXT(writer->dataset_id);
        request.n_items = 1;
        request.items = items;
        if (forge_evaluation_add_dataset_items(writer->channel, NULL, &request, &version, &error) == FORGE_OK)
            forge__v1__dataset_version__free_unpacked(version, NULL);
        else
            writer->failed++;
        forge_error_free(&error);
    }
    return NULL;
}

static void test_sixteen_writers_leave_no_gap(void **state)
{
    (void)state;
    char id[37], sql[512], expected[64];
    struct writer writers[WRITERS];
    make("writers", id);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.channel = alpha.admin, .dataset_id = id, .number = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_items, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        assert_int_equal(writers[i].failed, 0);
    }
    snprintf(sql, sizeof sql,
             "SELECT count(*) || ' ' || min(version) || ' ' || max(version) || ' ' || bool_and(item_count = version)"
             " FROM dataset_versions WHERE dataset_id = '%s'",
             id);
    snprintf(expected, sizeof expected, "%d 1 %d true", WRITERS * WRITES, WRITERS * WRITES);
    assert_string_equal(service_query(sql), expected);
}

/* ---- lists and limits ---- */

static void test_pages_stay_with_their_version_and_are_cut_by_size(void **state)
{
    (void)state;
    char id[37];
    char *large = service_repeat("x", 200 << 10);
    Forge__V1__DatasetItem made[20], *items[20];
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    Forge__V1__ListDatasetItemsResponse *reply;
    static char keys[20][16];
    make("pages", id);
    for (int i = 0; i < 20; i++) {
        snprintf(keys[i], sizeof keys[i], "k%02d", i);
        made[i] = item_of(keys[i], large);
        items[i] = &made[i];
    }
    request.dataset_id = id;
    request.items = items;
    for (int half = 0; half < 2; half++) {
        request.n_items = 10;
        request.items = items + 10 * half;
        service_ok(add(alpha.admin, &request, &version));
        forge__v1__dataset_version__free_unpacked(version, NULL);
    }
    Forge__V1__ListDatasetItemsRequest list = list_of(id, 0);
    size_t found = 0, pages = 0;
    char *token = NULL;
    do {
        list.page_token = TEXT(token != NULL ? token : "");
        service_ok(list_items(alpha.admin, &list, &reply));
        assert_true(reply->n_items > 0 && reply->n_items < 20);
        for (size_t i = 0; i < reply->n_items; i++)
            assert_string_equal(reply->items[i]->key, keys[found + i]);
        assert_int_equal(reply->version, 2);
        found += reply->n_items;
        free(token);
        token = strdup(reply->next_page_token);
        forge__v1__list_dataset_items_response__free_unpacked(reply, NULL);
        if (pages++ == 0)
            put(id, "k99", "later");
    } while (token[0] != '\0');
    free(token);
    assert_int_equal(found, 20);
    assert_int_equal(pages, 2);
    list.page_token = TEXT("");
    list.key_prefix = TEXT("k9");
    service_ok(list_items(alpha.admin, &list, &reply));
    assert_int_equal(reply->n_items, 1);
    assert_int_equal(reply->version, 3);
    forge__v1__list_dataset_items_response__free_unpacked(reply, NULL);
}

static void test_a_dataset_holds_a_hundred_thousand_items(void **state)
{
    (void)state;
    char id[37], sql[1024];
    Forge__V1__DatasetItem item = item_of("one too many", "1"), *items[] = {&item};
    Forge__V1__AddDatasetItemsRequest request = FORGE__V1__ADD_DATASET_ITEMS_REQUEST__INIT;
    Forge__V1__DatasetVersion *version;
    make("full", id);
    put(id, "k1", "1");
    snprintf(sql, sizeof sql,
             "INSERT INTO dataset_items (organization_id, id, dataset_id, key, first_version, input, expected_output, content_hash, "
             "content_bytes)"
             " SELECT '%s', gen_random_uuid(), '%s', 'k' || n, 1, '', '', sha256(n::text::bytea), 0 FROM generate_series(2, 100000) n",
             alpha.organization_id, id);
    service_execute(sql);
    request.dataset_id = id;
    request.n_items = 1;
    request.items = items;
    service_fails(add(alpha.admin, &request, &version), FORGE_RESOURCE_EXHAUSTED, "at most 100000 items");
    assert_int_equal(put(id, "k7", "in its place"), 2);
    Forge__V1__GetDatasetVersionRequest get = FORGE__V1__GET_DATASET_VERSION_REQUEST__INIT;
    get.dataset_id = id;
    service_ok(forge_evaluation_get_dataset_version(alpha.admin, NULL, &get, &version, &service_error));
    assert_int_equal(version->item_count, 100000);
    forge__v1__dataset_version__free_unpacked(version, NULL);
}

/* ---- deletion ---- */

static forge_code delete_dataset(struct forge_channel *channel, const char *id, const char *etag)
{
    Forge__V1__DeleteDatasetRequest request = FORGE__V1__DELETE_DATASET_REQUEST__INIT;
    Google__Protobuf__Empty *reply;
    request.id = TEXT(id);
    request.etag = TEXT(etag);
    forge_code rc = forge_evaluation_delete_dataset(channel, NULL, &request, &reply, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(reply, NULL);
    return rc;
}

static void test_deletion_takes_all_of_it_but_not_what_is_in_use(void **state)
{
    (void)state;
    char id[37], sql[1024];
    make("deleted", id);
    put(id, "a", "1");
    service_fails(delete_dataset(beta.admin, id, ""), FORGE_NOT_FOUND, "dataset");
    service_fails(delete_dataset(alpha.admin, id, "1"), FORGE_ABORTED, "has changed since this etag was read");
    snprintf(
        sql, sizeof sql,
        "INSERT INTO evaluations (organization_id, id, project_id, name, prompt_version, prompt_content_hash, dataset_id, dataset_version,"
        " dataset_content_hash, evaluators, expected_result_count, created_by)"
        " VALUES ('%s', gen_random_uuid(), '%s', 'running', 1, '', '%s', 1, '', '[]', 1, gen_random_uuid())",
        alpha.organization_id, alpha.project_id, id);
    service_execute(sql);
    service_fails(delete_dataset(alpha.admin, id, "2"), FORGE_FAILED_PRECONDITION, "a running evaluation uses this dataset");
    service_execute("UPDATE evaluations SET state = 'completed' WHERE name = 'running'");
    service_ok(delete_dataset(alpha.admin, id, "2"));
    service_fails(delete_dataset(alpha.admin, id, ""), FORGE_NOT_FOUND, "dataset");
    snprintf(sql, sizeof sql,
             "SELECT (SELECT count(*) FROM dataset_items WHERE dataset_id = '%s') || ' ' || (SELECT count(*) FROM dataset_versions WHERE"
             " dataset_id = '%s') || ' ' || (SELECT count(*) FROM evaluations WHERE dataset_id IS NULL AND dataset_version = 1)",
             id, id);
    assert_string_equal(service_query(sql), "0 0 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dataset_is_made_found_and_listed),
        cmocka_unit_test(test_names_are_unique_and_fields_are_checked),
        cmocka_unit_test(test_others_see_no_dataset),
        cmocka_unit_test(test_versions_keep_what_they_held),
        cmocka_unit_test(test_the_same_content_makes_no_version),
        cmocka_unit_test(test_an_item_keeps_all_its_fields),
        cmocka_unit_test(test_wrong_items_are_named_and_nothing_is_added),
        cmocka_unit_test(test_a_repeat_gets_the_same_version),
        cmocka_unit_test(test_sixteen_writers_leave_no_gap),
        cmocka_unit_test(test_pages_stay_with_their_version_and_are_cut_by_size),
        cmocka_unit_test(test_a_dataset_holds_a_hundred_thousand_items),
        cmocka_unit_test(test_deletion_takes_all_of_it_but_not_what_is_in_use),
    };
    return cmocka_run_group_tests_name("service_dataset", tests, start, service_end);
}
