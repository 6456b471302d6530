/* The prompt cache and watches of libforge against two real servers on one database: what is counted there, what is told of changes at the
 * other one, and what becomes of it when servers stop and keys are revoked. */
#include "support/world.h"

#include "prompt_cache_private.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TTL_MS = 60000, STALE_MS = 300000, SUBJECTS = 60, WAIT_MS = 20000, TOLD_WITHIN_MS = 1000, MARGIN_MS = 1000 };
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

static struct world world;
static struct forge_channel *admin; /* at the second server */
static struct forge_error error;
static char file[64] = "/tmp/forge-prompts-XXXXXX";

static int open_world(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    admin = world_channel(&world, 1, world.home.session_token);
    int made = mkstemp(file);
    return made < 0 || close(made) || unlink(file) ? -1 : 0;
}

static int close_world(void **state)
{
    unlink(file);
    forge_channel_close(admin);
    world_close(&world);
    return 0;
}

/* ---- time ---- */

static atomic_uint_fast64_t passed_ms;

static uint64_t clock_ms(void)
{
    return forge_clock_monotonic_ms() + atomic_load(&passed_ms);
}

/* ---- caches ---- */

struct client {
    struct forge_channel *channel;
    struct forge_prompt_cache *cache;
};

static struct client client_open(const char *addresses, const char *token, const char *snapshot_file)
{
    const struct forge_prompt_cache_options options = {.ttl_ms = TTL_MS, .stale_ms = STALE_MS, .snapshot_file = snapshot_file};
    struct client client = {.channel = world_channel_to(&world, addresses, token)};
    atomic_store(&passed_ms, 0);
    world_check(&world, "open", forge_prompt_cache_open(client.channel, &options, &client.cache, &error), &error);
    client.cache->now_ms = clock_ms;
    return client;
}

static void client_close(struct client *client)
{
    forge_prompt_cache_close(client->cache);
    forge_channel_close(client->channel);
}

static struct forge_prompt_cache_stats stats_of(const struct client *client)
{
    struct forge_prompt_cache_stats stats;
    forge_prompt_cache_get_stats(client->cache, &stats);
    return stats;
}

/* Until a counter of the statistics is there; returns how long that took. */
#define wait_for_stat(client, field, count)                                                                                                \
    ({                                                                                                                                     \
        uint64_t from_ms = forge_clock_monotonic_ms();                                                                                     \
        while (stats_of(client).field < (count) && forge_clock_monotonic_ms() < from_ms + WAIT_MS)                                         \
            world_sleep_ms(1);                                                                                                             \
        assert_in_range(stats_of(client).field, count, UINT64_MAX);                                                                        \
        forge_clock_monotonic_ms() - from_ms;                                                                                              \
    })

static Forge__V1__GetPromptRequest request_of(const char *name, const char *label, const char *subject)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.project_id = world.home.project_id;
    request.name = TEXT(name);
    request.subject = TEXT(subject);
    if (label) {
        request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_LABEL;
        request.label = TEXT(label);
    }
    return request;
}

static Forge__V1__GetPromptRequest version_of(const char *name, int32_t version)
{
    Forge__V1__GetPromptRequest request = request_of(name, NULL, "");
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    request.version = version;
    return request;
}

static void expect(const struct client *client, Forge__V1__GetPromptRequest request, const char *content, bool is_stale)
{
    struct forge_cached_prompt prompt;
    world_check(&world, "get", forge_prompt_cache_get(client->cache, WAIT_MS, &request, &prompt, &error), &error);
    assert_string_equal(prompt.prompt->content, content);
    assert_int_equal(prompt.is_stale, is_stale);
    forge_cached_prompt_release(&prompt);
}

static void expect_error(const struct client *client, Forge__V1__GetPromptRequest request, forge_code code)
{
    struct forge_cached_prompt prompt;
    assert_int_equal(forge_prompt_cache_get(client->cache, WAIT_MS, &request, &prompt, &error), code);
}

/* ---- prompts, changed at the second server ---- */

/* Version n of it says "<name> n"; "live" points at version 1. */
static void set_label(const char *id, int32_t version);
static void prompt_make(const char *name, int versions, char out_id[WORLD_ID_SIZE])
{
    char content[64];
    snprintf(content, sizeof content, "%s 1", name);
    world_create_prompt(&world, admin, &world.home, name, content, out_id);
    for (int i = 2; i <= versions; i++) {
        Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
        Forge__V1__PromptVersion *version;
        snprintf(content, sizeof content, "%s %d", name, i);
        request.prompt_id = out_id;
        request.content = content;
        world_check(&world, "CreatePromptVersion", forge_prompt_create_version(admin, NULL, &request, &version, &error), &error);
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
    set_label(out_id, 1);
}

static void send_label(Forge__V1__SetLabelRequest *request, const char *id)
{
    Forge__V1__Label *label;
    request->prompt_id = TEXT(id);
    request->label = TEXT("live");
    world_check(&world, "SetLabel", forge_prompt_set_label(admin, NULL, request, &label, &error), &error);
    forge__v1__label__free_unpacked(label, NULL);
}

static void set_label(const char *id, int32_t version)
{
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_VERSION;
    request.version = version;
    send_label(&request, id);
}

static void split_label(const char *id, int32_t first_weight, int32_t second_weight)
{
    Forge__V1__LabelTarget targets[2] = {FORGE__V1__LABEL_TARGET__INIT, FORGE__V1__LABEL_TARGET__INIT},
                           *list[] = {&targets[0], &targets[1]};
    Forge__V1__LabelSplit split = FORGE__V1__LABEL_SPLIT__INIT;
    Forge__V1__SetLabelRequest request = FORGE__V1__SET_LABEL_REQUEST__INIT;
    targets[0].version = 1;
    targets[0].weight = first_weight;
    targets[1].version = 2;
    targets[1].weight = second_weight;
    split.n_targets = 2;
    split.targets = list;
    request.target_case = FORGE__V1__SET_LABEL_REQUEST__TARGET_SPLIT;
    request.split = &split;
    send_label(&request, id);
}

static void prompt_delete(const char *id)
{
    Forge__V1__DeletePromptRequest request = FORGE__V1__DELETE_PROMPT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = TEXT(id);
    world_check(&world, "DeletePrompt", forge_prompt_delete(admin, NULL, &request, &empty, &error), &error);
    google__protobuf__empty__free_unpacked(empty, NULL);
}

/* GetPrompt calls that the first server has answered. */
static int gets_of_server(void)
{
    double count = world_metric(&world, 0, "forged_calls_total{method=\"forge.v1.PromptService/GetPrompt\",code=\"OK\"}");
    return count < 0 ? 0 : (int)count;
}

/* ---- tests ---- */

static void test_hits_make_no_call_and_what_is_known_is_not_sent(void **state)
{
    char id[WORLD_ID_SIZE];
    prompt_make("hit", 2, id);
    struct client client = client_open(world_address(&world, 0), world.home.read_key, NULL);
    int before = gets_of_server();
    for (int i = 0; i < 100; i++) {
        expect(&client, request_of("hit", NULL, ""), "hit 1", false);
        expect(&client, version_of("hit", 2), "hit 2", false);
        expect(&client, request_of("hit", "live", ""), "hit 1", false);
    }
    assert_int_equal(gets_of_server() - before, 3);
    atomic_fetch_add(&passed_ms, TTL_MS);
    expect(&client, request_of("hit", "live", ""), "hit 1", true);
    wait_for_stat(&client, not_modified, 1);
    expect(&client, request_of("hit", "live", ""), "hit 1", false);
    set_label(id, 2); /* nobody tells: its age does */
    atomic_fetch_add(&passed_ms, TTL_MS + STALE_MS);
    expect(&client, request_of("hit", "live", ""), "hit 2", false);
    client_close(&client);
}

static void test_a_watch_makes_changes_seen_within_a_second(void **state)
{
    char moved[WORLD_ID_SIZE], deleted[WORLD_ID_SIZE];
    prompt_make("moved", 2, moved);
    prompt_make("deleted", 1, deleted);
    struct client client = client_open(world_address(&world, 0), world.home.read_key, NULL);
    expect(&client, request_of("moved", "live", ""), "moved 1", false);
    expect(&client, version_of("deleted", 1), "deleted 1", false);
    world_check(&world, "watch", forge_prompt_cache_watch(client.cache, world.home.project_id, &error), &error);
    world_check(&world, "watch again", forge_prompt_cache_watch(client.cache, world.home.project_id, &error), &error);
    wait_for_stat(&client, invalidated, 2); /* the listing: from here on changes are told */
    expect(&client, request_of("moved", "live", ""), "moved 1", false);
    set_label(moved, 2);
    uint64_t moved_ms = wait_for_stat(&client, invalidated, 3);
    expect(&client, request_of("moved", "live", ""), "moved 2", false);
    prompt_delete(deleted);
    uint64_t deleted_ms = wait_for_stat(&client, invalidated, 4);
    expect_error(&client, version_of("deleted", 1), FORGE_NOT_FOUND);
    printf("told after %u and %u ms\n", (unsigned)moved_ms, (unsigned)deleted_ms);
    assert_in_range(moved_ms, 0, TOLD_WITHIN_MS + MARGIN_MS); /* the margin is for machines with other work */
    assert_in_range(deleted_ms, 0, TOLD_WITHIN_MS + MARGIN_MS);
    client_close(&client);
}

static void test_a_watch_outlives_its_server(void **state)
{
    char id[WORLD_ID_SIZE], addresses[128];
    prompt_make("outlived", 3, id);
    snprintf(addresses, sizeof addresses, "%s,%s", world_address(&world, 0), world_address(&world, 1));
    struct client client = client_open(addresses, world.home.read_key, NULL);
    expect(&client, request_of("outlived", "live", ""), "outlived 1", false);
    world_check(&world, "watch", forge_prompt_cache_watch(client.cache, world.home.project_id, &error), &error);
    wait_for_stat(&client, invalidated, 1);
    expect(&client, request_of("outlived", "live", ""), "outlived 1", false);
    world_server_kill(&world, 0);
    set_label(id, 2);
    wait_for_stat(&client, invalidated, 2);
    expect(&client, request_of("outlived", "live", ""), "outlived 2", false);
    world_server_start(&world, 0, true);
    world_server_stop(&world, 0); /* a draining server answers its watches */
    set_label(id, 3);
    wait_for_stat(&client, invalidated, 3);
    expect(&client, request_of("outlived", "live", ""), "outlived 3", false);
    world_server_start(&world, 0, true);
    client_close(&client);
}

static void test_a_split_is_chosen_as_the_server_does(void **state)
{
    char id[WORLD_ID_SIZE];
    int of_second = 0;
    prompt_make("split", 2, id);
    split_label(id, 60, 40);
    struct client client = client_open(world_address(&world, 0), world.home.read_key, NULL);
    for (int i = 0; i < SUBJECTS; i++) {
        char subject[32];
        struct forge_cached_prompt cached;
        Forge__V1__Prompt *prompt;
        snprintf(subject, sizeof subject, "user-%d", i);
        Forge__V1__GetPromptRequest request = request_of("split", "live", subject);
        world_check(&world, "cache", forge_prompt_cache_get(client.cache, 0, &request, &cached, &error), &error);
        world_check(&world, "GetPrompt", forge_prompt_get(client.channel, NULL, &request, &prompt, &error), &error);
        free(prompt->reply_etag); /* the label's in the cache: it depends on the subject */
        prompt->reply_etag = strdup(cached.prompt->reply_etag);
        size_t size = forge__v1__prompt__get_packed_size(prompt);
        uint8_t told[4096], kept[4096];
        assert_in_range(size, 1, sizeof told);
        assert_int_equal(forge__v1__prompt__get_packed_size(cached.prompt), size);
        forge__v1__prompt__pack(prompt, told);
        forge__v1__prompt__pack(cached.prompt, kept);
        assert_memory_equal(told, kept, size); /* every field */
        of_second += prompt->version == 2;
        forge__v1__prompt__free_unpacked(prompt, NULL);
        forge_cached_prompt_release(&cached);
    }
    assert_in_range(of_second, 1, SUBJECTS - 1);
    assert_int_equal(stats_of(&client).calls, 2);
    client_close(&client);
}

static void test_a_start_while_the_server_is_away(void **state)
{
    char id[WORLD_ID_SIZE], address[64];
    prompt_make("kept", 1, id);
    snprintf(address, sizeof address, "%s", world_address(&world, 0));
    struct client client = client_open(address, world.home.read_key, file);
    expect(&client, request_of("kept", "live", ""), "kept 1", false);
    client_close(&client);
    world_server_stop(&world, 0);
    client = client_open(address, world.home.read_key, file);
    assert_int_equal(stats_of(&client).snapshot_entries, 1);
    atomic_fetch_add(&passed_ms, TTL_MS + STALE_MS);
    expect(&client, request_of("kept", "live", ""), "kept 1", true);
    client_close(&client);
    client = client_open(address, world.home.write_key, file); /* of the same organization, and yet another credential */
    assert_int_equal(stats_of(&client).snapshot_entries, 0);
    assert_int_equal(stats_of(&client).snapshots_refused, 1);
    client_close(&client);
    world_server_start(&world, 0, true);
}

static void test_another_tenant_gets_nothing(void **state)
{
    char id[WORLD_ID_SIZE];
    prompt_make("secret", 1, id);
    struct client client = client_open(world_address(&world, 0), world.home.read_key, NULL);
    expect(&client, request_of("secret", "live", ""), "secret 1", false);
    assert_int_equal(forge_channel_set_token(client.channel, world.foreign.read_key, &error), FORGE_OK);
    expect_error(&client, request_of("secret", "live", ""), FORGE_NOT_FOUND);
    assert_int_equal(stats_of(&client).entries, 0);
    client_close(&client);
}

static void test_a_revoked_key_ends_all(void **state)
{
    char id[WORLD_ID_SIZE], key_id[WORLD_ID_SIZE];
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_READ;
    Forge__V1__CreateApiKeyRequest create = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__RevokeApiKeyRequest revoke = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    Forge__V1__ApiKey *key;
    create.name = TEXT("to be revoked");
    create.n_scopes = 1;
    create.scopes = &scope;
    world_check(&world, "CreateApiKey", forge_organization_create_api_key(admin, NULL, &create, &key, &error), &error);
    snprintf(key_id, sizeof key_id, "%s", key->id);
    prompt_make("revoked", 1, id);
    unlink(file);
    struct client client = client_open(world_address(&world, 0), key->token, file);
    expect(&client, request_of("revoked", "live", ""), "revoked 1", false);
    expect(&client, version_of("revoked", 1), "revoked 1", false);
    revoke.id = key_id;
    forge__v1__api_key__free_unpacked(key, NULL);
    struct forge_channel *here = world_channel(&world, 0, world.home.session_token); /* whose server knows of it at once */
    world_check(&world, "RevokeApiKey", forge_organization_revoke_api_key(here, NULL, &revoke, &key, &error), &error);
    forge_channel_close(here);
    forge__v1__api_key__free_unpacked(key, NULL);
    world_check(&world, "watch", forge_prompt_cache_watch(client.cache, world.home.project_id, &error), &error);
    wait_for_stat(&client, invalidated, 2); /* the watch is refused */
    expect_error(&client, version_of("revoked", 1), FORGE_UNAUTHENTICATED);
    assert_int_equal(stats_of(&client).entries, 0);
    client_close(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits_make_no_call_and_what_is_known_is_not_sent),
        cmocka_unit_test(test_a_watch_makes_changes_seen_within_a_second),
        cmocka_unit_test(test_a_watch_outlives_its_server),
        cmocka_unit_test(test_a_split_is_chosen_as_the_server_does),
        cmocka_unit_test(test_a_start_while_the_server_is_away),
        cmocka_unit_test(test_another_tenant_gets_nothing),
        cmocka_unit_test(test_a_revoked_key_ends_all),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
