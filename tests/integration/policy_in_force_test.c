/* Two servers on one database: what is published, attached, disabled or deleted is in force on both within a second, also when the
 * connection that tells them is lost; and a rate is one rate, whichever server is called. */
#include "policy_fixture.h"
#include "support/world.h"

#include "forge/calls.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

enum { SERVERS = 2, IN_FORCE_MS = 1000, READY_MS = 30000, CALLERS = 4, COLD_CALLERS = 8 };
static const char FLAGS_SECRET[] = "[{'name': 'secret', 'action': 'POLICY_ACTION_FLAG', 'keyword': {'keywords': ['secret']}}]";
static const char BLOCKS_SECRET[] = "[{'name': 'secret', 'action': 'POLICY_ACTION_BLOCK', 'keyword': {'keywords': ['secret']}}]";

static struct world world;
static struct forge_channel *channels[SERVERS];

static int open_world(void **state)
{
    static const char *const flags[] = {"--policy-organizations-max", "1", NULL};
    const struct world_options options = {.servers = SERVERS, .database_proxy = true, .flags = flags};
    (void)state;
    world_open(&world, &options);
    for (unsigned i = 0; i < SERVERS; i++)
        channels[i] = world_channel(&world, i, world.home.read_key);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SERVERS; i++)
        forge_channel_close(channels[i]);
    world_close(&world);
    return 0;
}

static void execute(const char *sql)
{
    world_execute(&world, "%s", sql);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static Forge__V1__CheckPoliciesResponse *check(unsigned server, const char *input, const char *subject)
{
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    Forge__V1__CheckPoliciesResponse *reply;
    struct forge_error error = {0};
    request.project_id = world.home.project_id;
    request.input = TEXT(input);
    request.subject = TEXT(subject);
    world_check(&world, "CheckPolicies", forge_policy_check(channels[server], NULL, &request, &reply, &error), &error);
    return reply;
}

/* The action that a server takes on the word, and by which version. */
struct taken {
    Forge__V1__PolicyAction action;
    int version;
};
static struct taken take(unsigned server)
{
    struct taken taken = {0};
    Forge__V1__CheckPoliciesResponse *reply = check(server, "a secret", "");
    taken.action = reply->action;
    if (reply->n_policies > 0)
        taken.version = reply->policies[0]->version;
    forge__v1__check_policies_response__free_unpacked(reply, NULL);
    return taken;
}

/* Each server follows within a second of what was just committed, and from then on every answer does. */
static void expect_within_a_second(Forge__V1__PolicyAction action, int version)
{
    uint64_t committed_ms = now_ms();
    for (unsigned i = 0; i < SERVERS; i++) {
        uint64_t asked_ms;
        struct taken taken;
        do {
            asked_ms = now_ms();
            taken = take(i);
        } while ((taken.action != action || taken.version != version) && asked_ms <= committed_ms + IN_FORCE_MS);
        assert_int_equal(taken.action, action);
        assert_int_equal(taken.version, version);
        assert_int_equal(take(i).version, version);
    }
}

static const Forge__V1__PolicyAction NOTHING = FORGE__V1__POLICY_ACTION__POLICY_ACTION_UNSPECIFIED,
                                     FLAG = FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG,
                                     BLOCK = FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;

static void put(char out_id[WORLD_ID_SIZE])
{
    const struct policy_put policy = {
        .organization_id = world.home.organization_id, .project_id = world.home.project_id, .name = "changing", .rules = FLAGS_SECRET};
    policy_fixture_put(execute, &policy, out_id);
}

static void change(const char *id, const char *sql)
{
    world_execute(&world, "%s", sql);
    policy_fixture_tell(execute, world.home.organization_id, id);
}

static void test_every_change_is_in_force_on_every_server_within_a_second(void **state)
{
    char id[WORLD_ID_SIZE], sql[512];
    (void)state;
    expect_within_a_second(NOTHING, 0);
    put(id);
    expect_within_a_second(FLAG, 1);
    policy_fixture_publish(execute, world.home.organization_id, id, 2, "enforce", BLOCKS_SECRET);
    expect_within_a_second(BLOCK, 2);
    policy_fixture_publish(execute, world.home.organization_id, id, 3, "dry_run", BLOCKS_SECRET);
    expect_within_a_second(NOTHING, 3);
    change(id, "UPDATE policies SET disabled = true WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 0);
    change(id, "UPDATE policies SET disabled = false WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 3);
    snprintf(
        sql, sizeof sql,
        "INSERT INTO policy_attachments (organization_id, policy_id, position, target_kind, label) VALUES ('%s', '%s', 1, 'label', 'l')",
        world.home.organization_id, id);
    change(id, sql);
    expect_within_a_second(NOTHING, 0);
    change(id, "DELETE FROM policy_attachments");
    expect_within_a_second(NOTHING, 3);
    change(id, "DELETE FROM policies WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 0);
}

/* The server that was asked for a change knows at once, the other one within a second of the reply. */
static void expect_after_reply(Forge__V1__PolicyAction action, int version)
{
    struct taken taken = take(0);
    assert_int_equal(taken.action, action);
    assert_int_equal(taken.version, version);
    expect_within_a_second(action, version);
}

static void test_what_admins_change_by_calls_is_in_force_at_once(void **state)
{
    Forge__V1__CreatePolicyRequest create = FORGE__V1__CREATE_POLICY_REQUEST__INIT;
    Forge__V1__PublishPolicyRequest publish = FORGE__V1__PUBLISH_POLICY_REQUEST__INIT;
    Forge__V1__UpdatePolicyRequest disable = FORGE__V1__UPDATE_POLICY_REQUEST__INIT;
    Forge__V1__DeletePolicyRequest delete = FORGE__V1__DELETE_POLICY_REQUEST__INIT;
    Forge__V1__KeywordRule keyword = FORGE__V1__KEYWORD_RULE__INIT;
    Forge__V1__PolicyRule rule = FORGE__V1__POLICY_RULE__INIT, *rules[] = {&rule};
    char *keywords[] = {TEXT("secret")}, id[WORLD_ID_SIZE];
    struct forge_channel *admin = world_channel(&world, 0, world.home.admin_key);
    Forge__V1__Policy *policy;
    Google__Protobuf__Empty *empty;
    struct forge_error error = {0};
    (void)state;
    keyword.n_keywords = 1;
    keyword.keywords = keywords;
    rule.name = TEXT("secret");
    rule.action = BLOCK;
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND_KEYWORD;
    rule.keyword = &keyword;
    create.project_id = world.home.project_id;
    create.name = TEXT("by calls");
    create.n_rules = 1;
    create.rules = rules;
    world_check(&world, "CreatePolicy", forge_policy_create(admin, NULL, &create, &policy, &error), &error);
    snprintf(id, sizeof id, "%s", policy->id);
    forge__v1__policy__free_unpacked(policy, NULL);
    expect_after_reply(NOTHING, 0); /* a draft */
    publish.id = disable.id = delete.id = id;
    world_check(&world, "PublishPolicy", forge_policy_publish(admin, NULL, &publish, &policy, &error), &error);
    forge__v1__policy__free_unpacked(policy, NULL);
    expect_after_reply(BLOCK, 1);
    disable.disabled = true;
    world_check(&world, "UpdatePolicy", forge_policy_update(admin, NULL, &disable, &policy, &error), &error);
    forge__v1__policy__free_unpacked(policy, NULL);
    expect_after_reply(NOTHING, 0);
    world_check(&world, "DeletePolicy", forge_policy_delete(admin, NULL, &delete, &empty, &error), &error);
    google__protobuf__empty__free_unpacked(empty, NULL);
    expect_after_reply(NOTHING, 0);
    forge_channel_close(admin);
}

/* The connections on which servers hear of changes are cut in the moment a policy is published. */
static void test_a_lost_change_feed_hides_no_policy(void **state)
{
    char id[WORLD_ID_SIZE];
    (void)state;
    put(id);
    expect_within_a_second(FLAG, 1);
    for (int version = 2; version <= 4; version++) {
        assert_true(world_number(&world, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                         " WHERE query LIKE '%%changes%%' AND pid <> pg_backend_pid()") >= SERVERS);
        policy_fixture_publish(execute, world.home.organization_id, id, version, "enforce",
                               version % 2 == 0 ? BLOCKS_SECRET : FLAGS_SECRET);
        expect_within_a_second(version % 2 == 0 ? BLOCK : FLAG, version);
    }
    change(id, "DELETE FROM policies WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 0);
}

static int64_t compiled(unsigned server)
{
    double count = world_metric(&world, server, "forged_policy_compile_seconds_count{for=\"pcre2\"}");
    return count < 0 ? 0 : (int64_t)count;
}

/* Nobody tells the servers of anything. Later than a second after it was published no answer is by the old version. */
static void test_without_the_database_no_old_policy_is_believed(void **state)
{
    static const struct fault_settings stalled = {.stall = true}, normal = {0};
    static const struct forge_call_options options = {.timeout_ms = 400};
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    char id[WORLD_ID_SIZE];
    int refused = 0;
    (void)state;
    put(id);
    expect_within_a_second(FLAG, 1);
    request.project_id = world.home.project_id;
    request.input = TEXT("a secret");
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++)
        fault_proxy_set(world.database_proxy, (enum fault_direction)direction, &stalled);
    policy_fixture_publish(execute, world.home.organization_id, id, 2, "enforce", BLOCKS_SECRET);
    uint64_t committed_ms = now_ms(), begun_ms;
    while ((begun_ms = now_ms()) < committed_ms + 3 * IN_FORCE_MS) {
        Forge__V1__CheckPoliciesResponse *reply;
        struct forge_error error = {0};
        forge_code code = forge_policy_check(channels[0], &options, &request, &reply, &error);
        if (code == FORGE_OK) {
            assert_true(begun_ms <= committed_ms + IN_FORCE_MS || reply->action == BLOCK);
            forge__v1__check_policies_response__free_unpacked(reply, NULL);
        } else {
            assert_true(code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED);
            refused++;
        }
        forge_error_free(&error);
    }
    assert_true(refused > 0);
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++)
        fault_proxy_set(world.database_proxy, (enum fault_direction)direction, &normal);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_true(world_wait_ready(&world, i, READY_MS));
    expect_within_a_second(BLOCK, 2);
    change(id, "DELETE FROM policies WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 0);
}

/* There is room for one organization: whose turn it is has its policies, all the same. */
static void test_the_organization_used_longest_ago_makes_room(void **state)
{
    Forge__V1__CheckPoliciesRequest request = FORGE__V1__CHECK_POLICIES_REQUEST__INIT;
    struct forge_channel *stranger = world_channel(&world, 0, world.foreign.read_key);
    char id[WORLD_ID_SIZE];
    (void)state;
    put(id);
    expect_within_a_second(FLAG, 1);
    int64_t before = compiled(0);
    request.project_id = world.foreign.project_id;
    request.input = TEXT("a secret");
    for (int i = 0; i < 3; i++) {
        Forge__V1__CheckPoliciesResponse *reply;
        struct forge_error error = {0};
        world_check(&world, "CheckPolicies", forge_policy_check(stranger, NULL, &request, &reply, &error), &error);
        assert_int_equal(reply->n_policies, 0);
        forge__v1__check_policies_response__free_unpacked(reply, NULL);
        assert_int_equal(take(0).action, FLAG);
        assert_int_equal((int)world_metric(&world, 0, "forged_policy_organizations"), 1);
    }
    assert_int_equal(compiled(0) - before, 6);
    forge_channel_close(stranger);
    change(id, "DELETE FROM policies WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 0);
}

/* --- many calls at once --- */

struct caller {
    pthread_t thread;
    pthread_barrier_t *barrier;
    unsigned server;
    int calls, passed;
    const char *subject;
};

static void *call_often(void *user)
{
    struct caller *caller = user;
    pthread_barrier_wait(caller->barrier);
    for (int i = 0; i < caller->calls; i++) {
        Forge__V1__CheckPoliciesResponse *reply = check(caller->server, "a secret", caller->subject);
        caller->passed += reply->allowed;
        forge__v1__check_policies_response__free_unpacked(reply, NULL);
    }
    return NULL;
}

/* So many callers at once, each server has as many; how many calls passed. */
static int call_from(int callers, int calls, const char *subject)
{
    struct caller *all = calloc((size_t)callers, sizeof *all);
    pthread_barrier_t barrier;
    int passed = 0;
    pthread_barrier_init(&barrier, NULL, (unsigned)callers);
    for (int i = 0; i < callers; i++) {
        all[i] = (struct caller){.barrier = &barrier, .server = (unsigned)i % SERVERS, .calls = calls, .subject = subject};
        assert_int_equal(pthread_create(&all[i].thread, NULL, call_often, &all[i]), 0);
    }
    for (int i = 0; i < callers; i++) {
        pthread_join(all[i].thread, NULL);
        passed += all[i].passed;
    }
    pthread_barrier_destroy(&barrier);
    free(all);
    return passed;
}

static void test_many_calls_at_once_compile_once(void **state)
{
    char id[WORLD_ID_SIZE];
    (void)state;
    int64_t before[SERVERS];
    for (unsigned i = 0; i < SERVERS; i++)
        before[i] = compiled(i);
    put(id);
    assert_int_equal(call_from(COLD_CALLERS, 50, ""), COLD_CALLERS * 50);
    expect_within_a_second(FLAG, 1);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_int_equal(compiled(i) - before[i], 1);
    change(id, "UPDATE policies SET description = 'told of, and nothing else' WHERE name = 'changing'");
    assert_int_equal(call_from(COLD_CALLERS, 50, ""), COLD_CALLERS * 50);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_int_equal(compiled(i) - before[i], 1); /* read again, and found to be the same */
    change(id, "DELETE FROM policies WHERE name = 'changing'");
    expect_within_a_second(NOTHING, 0);
}

static void put_rate(const char *name, int calls_max, char out_id[WORLD_ID_SIZE])
{
    char rules[256];
    snprintf(rules, sizeof rules,
             "[{'name': 'rate', 'action': 'POLICY_ACTION_BLOCK', 'rate_limit': {'key': 'RATE_LIMIT_KEY_SUBJECT', 'window_s': '3600', "
             "'calls_max': "
             "'%d'}}]",
             calls_max);
    const struct policy_put policy = {
        .organization_id = world.home.organization_id, .project_id = world.home.project_id, .name = name, .rules = rules};
    policy_fixture_put(execute, &policy, out_id);
    expect_within_a_second(NOTHING, 1);
}

/* The worst that can come: all at once, at both servers, more than fits. */
static void test_a_rate_is_one_rate_on_two_servers(void **state)
{
    enum { LARGE = 1000, SMALL = 5 };
    char id[WORLD_ID_SIZE];
    (void)state;
    put_rate("rate", LARGE, id);
    int passed = call_from(CALLERS, LARGE / 2, "large"); /* twice as many as may pass */
    print_message("%d of %d calls passed, at most %d may: %+.1f %%\n", passed, CALLERS * LARGE / 2, LARGE,
                  100.0 * (passed - LARGE) / LARGE);
    assert_in_range(passed, LARGE * 9 / 10, LARGE * 11 / 10);
    change(id, "DELETE FROM policies WHERE name = 'rate'");
    expect_within_a_second(NOTHING, 0);
    put_rate("small rate", SMALL, id);
    for (int round = 0; round < 3; round++) {
        char subject[32];
        snprintf(subject, sizeof subject, "small %d", round);
        assert_int_equal(call_from(CALLERS, SMALL, subject), SMALL); /* exactly */
    }
    world_server_stop(&world, 1); /* writes what it still has */
    uint64_t stopped_ms = now_ms();
    while (world_number(&world, "SELECT sum(calls) FROM rate_windows WHERE key LIKE 'subject:small%%'") != 3 * SMALL)
        assert_true(now_ms() < stopped_ms + 10 * 1000); /* the other one writes once a second */
    world_server_start(&world, 1, true);
    Forge__V1__CheckPoliciesResponse *reply = check(1, "", "small 0"); /* a server that has just begun knows, too */
    assert_false(reply->allowed);
    forge__v1__check_policies_response__free_unpacked(reply, NULL);
    change(id, "DELETE FROM policies WHERE name = 'small rate'");
    expect_within_a_second(NOTHING, 0);
}

static void test_a_server_that_ends_writes_what_it_counted(void **state)
{
    char id[WORLD_ID_SIZE];
    (void)state;
    put(id);
    expect_within_a_second(FLAG, 1);
    world_execute(&world, "UPDATE policies SET description = 'still' WHERE id = '%s'", id);
    int64_t checks = 0;
    assert_int_equal(call_from(CALLERS, 100, ""), CALLERS * 100);
    for (unsigned i = 0; i < SERVERS; i++) {
        checks += (int64_t)world_metric(&world, i, "forged_policy_checks_total{action=\"flag\"}");
        world_server_stop(&world, i);
    }
    assert_true(checks >= CALLERS * 100);
    int64_t counted = world_number(&world, "SELECT sum(flagged_count) FROM policy_daily_stats WHERE policy_id = '%s'", id);
    assert_in_range(counted, CALLERS * 100, checks);
    for (unsigned i = 0; i < SERVERS; i++)
        world_server_start(&world, i, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_change_is_in_force_on_every_server_within_a_second),
        cmocka_unit_test(test_what_admins_change_by_calls_is_in_force_at_once),
        cmocka_unit_test(test_a_lost_change_feed_hides_no_policy),
        cmocka_unit_test(test_without_the_database_no_old_policy_is_believed),
        cmocka_unit_test(test_the_organization_used_longest_ago_makes_room),
        cmocka_unit_test(test_many_calls_at_once_compile_once),
        cmocka_unit_test(test_a_rate_is_one_rate_on_two_servers),
        cmocka_unit_test(test_a_server_that_ends_writes_what_it_counted),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
