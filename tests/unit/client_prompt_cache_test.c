/* The prompt cache of libforge in memory: what is answered when, what is asked for, who shares a call, what is dropped. */
#include "prompt_cache_support.h"

#include <sys/wait.h>
#include <unistd.h>

/* ---- hits ---- */

static void test_a_hit_makes_no_call_and_no_copy(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    struct forge_cached_prompt first = get(&client, current()), second = get(&client, current());
    assert_ptr_equal(first.prompt, second.prompt);
    assert_false(first.is_stale);
    expect(&client, version(3), "text 3", false);
    expect(&client, version(3), "text 3", false);
    expect(&client, label("live", ""), "text 1", false);
    assert_int_equal(calls_of(&server), 3); /* selectors are kept apart */
    struct forge_prompt_cache_stats stats = stats_of(&client);
    assert_int_equal(stats.hits, 2);
    assert_int_equal(stats.misses, 3);
    assert_int_equal(stats.calls, 3);
    assert_int_equal(stats.entries, 3);
    client_close(&client);
    rpc_peer_stop(server.peer);
    assert_string_equal(first.prompt->content, "text 1"); /* outlives the cache */
    forge_cached_prompt_release(&first);
    forge_cached_prompt_release(&second);
}

static void *get_once(void *argument)
{
    expect(argument, current(), "text 1", false);
    return NULL;
}

static void test_many_who_ask_at_once_make_one_call(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    pthread_t threads[THREADS];
    hold(&server);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_once, &client), 0);
    wait_for_stat(&client, joined, THREADS - 1);
    counter_wait(&server.arrived, 1);
    let_go(&server);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(calls_of(&server), 1);
    assert_int_equal(stats_of(&client).misses, THREADS);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* Whatever the server says of such a version, it is not what it says of the current one. */
static void test_version_0_is_not_the_current_one(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, current(), "text 1", false);
    expect(&client, version(0), "text 0", false);
    assert_int_equal(calls_of(&server), 2);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- age ---- */

static void test_an_old_answer_is_told_while_it_is_asked_for_again(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, current(), "text 1", false);
    pass(TTL_MS - 1000);
    expect(&client, current(), "text 1", false);
    assert_int_equal(calls_of(&server), 1);
    pass(1000);
    expect(&client, current(), "text 1", true);
    wait_for_stat(&client, not_modified, 1);
    expect(&client, current(), "text 1", false);
    set_version(&server, 2);
    pass(TTL_MS);
    expect(&client, current(), "text 1", true);
    counter_wait(&server.arrived, 3);
    pass(TTL_MS + STALE_MS); /* whether that answer has come or not: too old to be told */
    expect(&client, current(), "text 2", false);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void test_a_version_stays_and_is_checked(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, version(4), "text 4", false);
    pass(CHECK_MS - 1000);
    expect(&client, version(4), "text 4", false);
    assert_int_equal(calls_of(&server), 1);
    pass(1000 * UINT64_C(86400000)); /* however old it is, nobody waits */
    hold(&server);
    expect(&client, version(4), "text 4", true);
    expect(&client, version(4), "text 4", true);
    counter_wait(&server.arrived, 2);
    let_go(&server);
    wait_for_stat(&client, not_modified, 1);
    expect(&client, version(4), "text 4", false);
    assert_int_equal(calls_of(&server), 2);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- the server is away ---- */

static void test_the_last_good_answer_while_the_server_is_away(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    uint16_t port = rpc_peer_port(server.peer);
    struct client client = client_open(&server);
    expect(&client, current(), "text 1", false);
    expect(&client, version(5), "text 5", false);
    rpc_peer_stop(server.peer);
    pass(TTL_MS + STALE_MS);
    expect(&client, current(), "text 1", true);
    uint64_t calls = stats_of(&client).calls;
    expect(&client, current(), "text 1", true); /* within the pause nobody waits again */
    assert_int_equal(stats_of(&client).calls, calls);
    assert_int_equal(stats_of(&client).failures, 1);
    expect_error(&client, version(6), FORGE_DEADLINE_EXCEEDED); /* nothing is known of it */
    pass(AWAY_MS);
    expect_error(&client, current(), FORGE_DEADLINE_EXCEEDED);
    expect(&client, version(5), "text 5", true); /* no limit: it cannot be wrong */
    server_start(&server, port);
    pass(BACKOFF_MS);
    expect(&client, current(), "text 1", false);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void test_trouble_of_the_server_is_not_asked_for_all_the_time(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, current(), "text 1", false);
    set_code(&server, FORGE__V1__CODE__CODE_INTERNAL);
    pass(TTL_MS + STALE_MS);
    expect(&client, current(), "text 1", true);
    for (int i = 0; i < 100; i++)
        expect(&client, current(), "text 1", true);
    assert_int_equal(calls_of(&server), 2);
    expect_error(&client, version(2), FORGE_INTERNAL); /* others are asked for */
    set_code(&server, FORGE__V1__CODE__CODE_OK);
    pass(BACKOFF_MS);
    expect(&client, current(), "text 1", false);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* A caller's own deadline is shorter than the call's: it gets what is there. */
static void test_a_deadline_ends_with_the_last_good_answer(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    Forge__V1__GetPromptRequest request = current();
    struct forge_cached_prompt prompt;
    struct forge_error error;
    expect(&client, current(), "text 1", false);
    pass(TTL_MS + STALE_MS);
    hold(&server);
    assert_int_equal(forge_prompt_cache_get(client.cache, 50, &request, &prompt, &error), FORGE_OK);
    assert_true(prompt.is_stale);
    forge_cached_prompt_release(&prompt);
    request = version(9);
    assert_int_equal(forge_prompt_cache_get(client.cache, 50, &request, &prompt, &error), FORGE_DEADLINE_EXCEEDED);
    assert_null(client.cache->table.newest->waiters); /* nothing of the caller is left */
    counter_wait(&server.arrived, 3);
    let_go(&server);
    expect(&client, version(9), "text 9", false); /* the call went on */
    assert_int_equal(calls_of(&server), 3);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- the server says no ---- */

static void expect_dropped(Forge__V1__Code code, forge_code expected, bool drops_others)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, current(), "text 1", false);
    expect(&client, version(2), "text 2", false);
    set_code(&server, code);
    pass(TTL_MS);
    expect(&client, current(), "text 1", true); /* asks behind the caller's back */
    wait_for_stat(&client, failures, 1);
    assert_int_equal(stats_of(&client).entries, drops_others ? 0 : 1);
    expect_error(&client, current(), expected);
    expect_error(&client, current(), expected); /* failures are not kept */
    assert_int_equal(calls_of(&server), 5);
    if (drops_others)
        expect_error(&client, version(2), expected);
    else
        expect(&client, version(2), "text 2", false);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void test_a_deleted_prompt_is_told_no_more(void **state)
{
    expect_dropped(FORGE__V1__CODE__CODE_NOT_FOUND, FORGE_NOT_FOUND, false);
}

static void test_a_refused_credential_ends_all(void **state)
{
    expect_dropped(FORGE__V1__CODE__CODE_UNAUTHENTICATED, FORGE_UNAUTHENTICATED, true);
    expect_dropped(FORGE__V1__CODE__CODE_PERMISSION_DENIED, FORGE_PERMISSION_DENIED, true);
}

/* A server takes ids in capitals too, and tells them in small letters. */
static void test_a_refused_project_in_capitals_is_the_same(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    Forge__V1__GetPromptRequest request = current();
    request.project_id = TEXT(PROJECT_IN_CAPITALS);
    expect(&client, version(2), "text 2", false);
    set_code(&server, FORGE__V1__CODE__CODE_PERMISSION_DENIED);
    expect_error(&client, request, FORGE_PERMISSION_DENIED);
    assert_int_equal(stats_of(&client).entries, 0);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void test_another_credential_begins_with_nothing(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    struct forge_error error;
    expect(&client, current(), "text 1", false);
    assert_int_equal(forge_channel_set_token(client.channel, "pfk_two", &error), FORGE_OK);
    expect(&client, current(), "text 1", false);
    assert_int_equal(calls_of(&server), 2);
    assert_int_equal(stats_of(&client).entries, 1);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- watches ---- */

static void watch(struct client *client, const char *project_id)
{
    struct forge_error error;
    if (forge_prompt_cache_watch(client->cache, project_id, &error) != FORGE_OK)
        fail_msg("%s", error.message);
}

static void test_a_project_is_watched_once(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, current(), "text 1", false);
    watch(&client, PROJECT);
    wait_for_stat(&client, invalidated, 1);
    watch(&client, PROJECT);
    watch(&client, PROJECT_IN_CAPITALS);
    expect(&client, current(), "text 1", false); /* on the same connection: what was called before has come */
    pthread_mutex_lock(&server.mutex);
    assert_int_equal(server.listings, 1);
    pthread_mutex_unlock(&server.mutex);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* The prompt may have been deleted while nobody told of it. */
static void test_a_listing_has_versions_checked(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    expect(&client, version(4), "text 4", false);
    watch(&client, PROJECT);
    wait_for_stat(&client, invalidated, 1);
    expect(&client, version(4), "text 4", true); /* nobody waits for it */
    wait_for_stat(&client, not_modified, 1);
    expect(&client, version(4), "text 4", false);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- splits ---- */

static void test_of_a_split_the_weights_are_kept(void **state)
{
    struct server server = SERVER_INIT;
    server.weights[0] = 90;
    server.weights[1] = 10;
    server_start(&server, 0);
    struct client client = client_open(&server);
    int count[2] = {0, 0};
    for (int i = 0; i < 2000; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "user-%d", i % 1000);
        struct forge_cached_prompt prompt = get(&client, label("production", subject));
        char content[32];
        int32_t chosen = forge_prompt_version_for(prompt.prompt, subject);
        snprintf(content, sizeof content, "text %d", (int)chosen);
        assert_int_equal(prompt.prompt->version, chosen);
        assert_string_equal(prompt.prompt->content, content);
        assert_string_equal(prompt.prompt->label, "production");
        assert_int_equal(prompt.prompt->n_label_targets, 2);
        assert_string_equal(prompt.prompt->id, PROMPT);
        count[chosen - 7]++;
        forge_cached_prompt_release(&prompt);
    }
    assert_in_range(count[1], 2 * 70, 2 * 130); /* 10 % of 1,000 subjects, three standard deviations; each twice the same */
    assert_int_equal(calls_of(&server), 2);     /* the label, and the version that it did not tell */
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- space ---- */

static void test_what_was_not_used_for_longest_goes_first(void **state)
{
    enum { KIB = 1024, VERSIONS = 8 };
    struct server server = SERVER_INIT;
    server.content_bytes = 100 * KIB;
    server_start(&server, 0);
    struct client client =
        client_open_with(rpc_peer_address(server.peer), "pfk_one", (struct forge_prompt_cache_options){.bytes_max = 450 * KIB});
    for (int i = 1; i <= VERSIONS; i++) {
        struct forge_cached_prompt first = get(&client, version(1)), other = get(&client, version(i));
        forge_cached_prompt_release(&first);
        forge_cached_prompt_release(&other);
    }
    struct forge_prompt_cache_stats stats = stats_of(&client);
    assert_int_equal(stats.entries, 4);
    assert_int_equal(stats.evicted, VERSIONS - 4);
    assert_in_range(stats.bytes, 400 * KIB, 450 * KIB);
    assert_int_equal(calls_of(&server), VERSIONS); /* version 1 was always there */
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* ---- callbacks ---- */

struct asynchronous {
    struct counter done;
    struct client *client;
    forge_code code, nested_code;
    char content[64];
};

static void take_prompt(void *user, forge_code code, struct forge_cached_prompt *prompt, const struct forge_error *error)
{
    struct asynchronous *get = user;
    get->code = code;
    snprintf(get->content, sizeof get->content, "%.63s", prompt ? prompt->prompt->content : error->message);
    forge_cached_prompt_release(prompt);
    if (get->client) { /* on a thread of the channel: what is there is given, nothing is waited for */
        struct forge_cached_prompt there;
        Forge__V1__GetPromptRequest request = current();
        assert_int_equal(forge_prompt_cache_get(get->client->cache, 0, &request, &there, NULL), FORGE_OK);
        forge_cached_prompt_release(&there);
        request = version(2);
        get->nested_code = forge_prompt_cache_get(get->client->cache, 0, &request, &there, NULL);
        forge_prompt_cache_close(get->client->cache); /* does nothing */
    }
    counter_add(&get->done);
}

static void test_asynchronous_gets(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    Forge__V1__GetPromptRequest request = current();
    struct asynchronous first = {.done = COUNTER_INIT, .client = &client}, second = {.done = COUNTER_INIT};
    struct forge_error error;
    assert_int_equal(forge_prompt_cache_get_async(client.cache, &request, take_prompt, &first, &error), FORGE_OK);
    counter_wait(&first.done, 1);
    assert_string_equal(first.content, "text 1");
    assert_int_equal(first.nested_code, FORGE_FAILED_PRECONDITION);
    assert_int_equal(forge_prompt_cache_get_async(client.cache, &request, take_prompt, &second, &error), FORGE_OK);
    assert_int_equal(counter_get(&second.done), 1); /* at once */
    client_close(&client);
    rpc_peer_stop(server.peer);
}

/* The server gave the second answer before it refused the first one, perhaps. */
static void expect_not_kept_behind(Forge__V1__Code refusal, forge_code expected)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    Forge__V1__GetPromptRequest requests[] = {current(), version(2)};
    struct asynchronous gets[] = {{.done = COUNTER_INIT}, {.done = COUNTER_INIT}};
    hold(&server);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(forge_prompt_cache_get_async(client.cache, &requests[i], take_prompt, &gets[i], NULL), FORGE_OK);
        counter_wait(&server.arrived, i + 1);
    }
    let_first_go(&server, refusal);
    counter_wait(&gets[0].done, 1);
    assert_int_equal(gets[0].code, expected);
    let_go(&server);
    counter_wait(&gets[1].done, 1);
    assert_int_equal(gets[1].code, FORGE_OK); /* it asked before */
    assert_int_equal(stats_of(&client).entries, 0);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

static void test_an_answer_behind_a_refusal_is_not_kept(void **state)
{
    expect_not_kept_behind(FORGE__V1__CODE__CODE_UNAUTHENTICATED, FORGE_UNAUTHENTICATED);
    expect_not_kept_behind(FORGE__V1__CODE__CODE_PERMISSION_DENIED, FORGE_PERMISSION_DENIED);
}

static void test_closing_ends_those_who_wait(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    Forge__V1__GetPromptRequest request = current();
    struct asynchronous get = {.done = COUNTER_INIT};
    struct forge_error error;
    hold(&server);
    assert_int_equal(forge_prompt_cache_get_async(client.cache, &request, take_prompt, &get, &error), FORGE_OK);
    counter_wait(&server.arrived, 1);
    forge_prompt_cache_close(client.cache);
    assert_int_equal(counter_get(&get.done), 1);
    assert_int_equal(get.code, FORGE_CANCELLED);
    let_go(&server); /* the answer finds nobody */
    forge_channel_close(client.channel);
    rpc_peer_stop(server.peer);
}

static void watch_again(void *user, forge_code code, struct forge_cached_prompt *prompt, const struct forge_error *error)
{
    struct asynchronous *get = user;
    get->code = code;
    get->nested_code = forge_prompt_cache_watch(get->client->cache, PROJECT, NULL);
    forge_cached_prompt_release(prompt);
}

static void test_a_cache_that_closes_begins_no_watch(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    Forge__V1__GetPromptRequest request = current();
    struct asynchronous get = {.client = &client};
    hold(&server);
    assert_int_equal(forge_prompt_cache_get_async(client.cache, &request, watch_again, &get, NULL), FORGE_OK);
    counter_wait(&server.arrived, 1);
    forge_prompt_cache_close(client.cache);
    assert_int_equal(get.code, FORGE_CANCELLED);
    assert_int_equal(get.nested_code, FORGE_CANCELLED);
    let_go(&server);
    forge_channel_close(client.channel);
    rpc_peer_stop(server.peer);
}

static void test_wrong_arguments_and_children(void **state)
{
    struct server server = SERVER_INIT;
    server_start(&server, 0);
    struct client client = client_open(&server);
    struct forge_cached_prompt prompt;
    struct forge_error error;
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__GetPromptRequest request = current();
    request.as_of = &time;
    assert_int_equal(forge_prompt_cache_get(client.cache, 0, &request, &prompt, &error), FORGE_INVALID_ARGUMENT);
    request = current();
    request.known_etag = TEXT("x");
    assert_int_equal(forge_prompt_cache_get(client.cache, 0, &request, &prompt, &error), FORGE_INVALID_ARGUMENT);
    request = current();
    assert_int_equal(forge_prompt_cache_get(client.cache, 600001, &request, &prompt, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_prompt_cache_get(NULL, 0, &request, &prompt, NULL), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_prompt_cache_get_async(client.cache, &request, NULL, NULL, NULL), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_prompt_cache_open(NULL, NULL, &client.cache, NULL), FORGE_INVALID_ARGUMENT);
    char name[4096];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    request.name = name;
    expect_error(&client, request, FORGE_INVALID_ARGUMENT);
    assert_int_equal(calls_of(&server), 0);
    expect(&client, current(), "text 1", false);
    pthread_mutex_lock(&client.cache->mutex); /* as another thread may when the process forks */
    pid_t child = fork();
    if (child == 0) {
        struct forge_prompt_cache_stats stats;
        alarm(EVENT_WAIT_S);
        forge_prompt_cache_get_stats(client.cache, &stats);
        request = current();
        forge_code code = forge_prompt_cache_get(client.cache, 0, &request, &prompt, NULL);
        forge_prompt_cache_close(client.cache);
        _exit(code == FORGE_FAILED_PRECONDITION && stats.calls == 0 ? 0 : 1);
    }
    pthread_mutex_unlock(&client.cache->mutex);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    client_close(&client);
    rpc_peer_stop(server.peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hit_makes_no_call_and_no_copy),
        cmocka_unit_test(test_many_who_ask_at_once_make_one_call),
        cmocka_unit_test(test_version_0_is_not_the_current_one),
        cmocka_unit_test(test_an_old_answer_is_told_while_it_is_asked_for_again),
        cmocka_unit_test(test_a_version_stays_and_is_checked),
        cmocka_unit_test(test_the_last_good_answer_while_the_server_is_away),
        cmocka_unit_test(test_trouble_of_the_server_is_not_asked_for_all_the_time),
        cmocka_unit_test(test_a_deadline_ends_with_the_last_good_answer),
        cmocka_unit_test(test_a_deleted_prompt_is_told_no_more),
        cmocka_unit_test(test_a_refused_credential_ends_all),
        cmocka_unit_test(test_a_refused_project_in_capitals_is_the_same),
        cmocka_unit_test(test_another_credential_begins_with_nothing),
        cmocka_unit_test(test_a_project_is_watched_once),
        cmocka_unit_test(test_a_listing_has_versions_checked),
        cmocka_unit_test(test_of_a_split_the_weights_are_kept),
        cmocka_unit_test(test_what_was_not_used_for_longest_goes_first),
        cmocka_unit_test(test_asynchronous_gets),
        cmocka_unit_test(test_an_answer_behind_a_refusal_is_not_kept),
        cmocka_unit_test(test_closing_ends_those_who_wait),
        cmocka_unit_test(test_a_cache_that_closes_begins_no_watch),
        cmocka_unit_test(test_wrong_arguments_and_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
