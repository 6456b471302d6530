/* Credentials of every kind and state, against a real PostgreSQL: who gets in, who is refused and how, and how fast a revocation is felt.
 */
#include "support/rpc_fixture.h"

#include "auth/lockout.h"
#include "forge/v1/organization.pb-c.h"
#include "forge/v1/project.pb-c.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct rpc_fixture fixture;
static struct rpc_fixture_server server;
static struct rpc_caller *caller;
static char text[FORGE_UUID_TEXT_SIZE];

static const char *uuid_text(const struct forge_uuid *id)
{
    forge_uuid_format(id, text);
    return text;
}

static int open_fixture(void **state)
{
    rpc_fixture_open(&fixture);
    return 0;
}

static int close_fixture(void **state)
{
    rpc_fixture_close(&fixture);
    return 0;
}

static int start(void **state)
{
    struct rpc_server_config config;
    rpc_fixture_config(&config);
    atomic_store(&fixture.feed_is_fresh, true);
    auth_principal_cache_reset(fixture.principals);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    caller = rpc_caller_open(&server, 0);
    return caller ? 0 : -1;
}

static int stop(void **state)
{
    rpc_caller_close(caller);
    rpc_fixture_stop(&server);
    return 0;
}

static const struct rpc_answer *list(const char *token)
{
    return rpc_caller_call(caller, &(struct rpc_request){.method = "ProjectService/ListProjects", .token = token});
}

static const struct rpc_answer *create(const char *token)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    struct forge_uuid request_id;
    char name[64];
    forge_uuid_v7(&request_id);
    snprintf(name, sizeof name, "made %s", uuid_text(&request_id));
    request.name = name;
    return rpc_caller_call(
        caller, &(struct rpc_request){
                    .method = "ProjectService/CreateProject", .token = token, .request_id = &request_id, .message = &request.base});
}

static void expect_refused(const struct rpc_answer *answer, forge_code code, const char *message)
{
    rpc_answer_expect(answer, code, message);
    assert_true(answer->header->not_executed);
}

static void test_no_credential(void **state)
{
    expect_refused(list(NULL), FORGE_UNAUTHENTICATED, "this method needs a credential");
    expect_refused(list(""), FORGE_UNAUTHENTICATED, "this method needs a credential");
    assert_false(rpc_caller_is_verified(caller));
}

static void test_text_that_is_no_token(void **state)
{
    expect_refused(list("Bearer something"), FORGE_UNAUTHENTICATED, "authorization is not a token of this server");
    char changed[AUTH_TOKEN_SIZE];
    memcpy(changed, fixture.admin, sizeof changed);
    changed[40] = changed[40] == 'a' ? 'b' : 'a';
    expect_refused(list(changed), FORGE_UNAUTHENTICATED, "authorization is not a token of this server");
    assert_false(rpc_caller_is_verified(caller));
}

/* Nothing tells an organization that exists from one that does not. */
static void test_tokens_that_were_never_given_out(void **state)
{
    char guess[AUTH_TOKEN_SIZE];
    struct forge_uuid other, nil = {{0}};
    forge_uuid_v7(&other);
    const enum auth_token_kind kinds[] = {AUTH_TOKEN_API_KEY, AUTH_TOKEN_SESSION};
    for (size_t i = 0; i < 2; i++) {
        auth_token_make(kinds[i], &fixture.organization_id, guess);
        expect_refused(list(guess), FORGE_UNAUTHENTICATED, "the credential is not known");
        auth_token_make(kinds[i], &other, guess);
        expect_refused(list(guess), FORGE_UNAUTHENTICATED, "the credential is not known");
    }
    auth_token_make(AUTH_TOKEN_OPERATOR, &nil, guess);
    expect_refused(list(guess), FORGE_UNAUTHENTICATED, "the credential is not known");
    assert_int_equal(auth_principal_cache_count(fixture.principals), 0);
}

static void test_roles_and_scopes(void **state)
{
    rpc_answer_expect(list(fixture.viewer), FORGE_OK, NULL);
    expect_refused(create(fixture.viewer), FORGE_PERMISSION_DENIED, "needs the role developer; the credential has the role viewer");
    rpc_answer_expect(create(fixture.developer), FORGE_OK, NULL);
    rpc_answer_expect(create(fixture.admin), FORGE_OK, NULL);
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL);
    expect_refused(create(fixture.read_key), FORGE_PERMISSION_DENIED, "needs the role developer");
    rpc_answer_expect(create(fixture.write_key), FORGE_OK, NULL);
    expect_refused(list(fixture.ingest_key), FORGE_PERMISSION_DENIED, "needs the role viewer; the credential has the role none");
    expect_refused(list(fixture.operator_token), FORGE_PERMISSION_DENIED, "operator tokens may not call this method");
    assert_true(rpc_caller_is_verified(caller));
}

static void test_who_am_i_for_every_credential(void **state)
{
    const char *const tokens[] = {fixture.admin,     fixture.developer,  fixture.viewer,        fixture.read_key,
                                  fixture.write_key, fixture.ingest_key, fixture.operator_token};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        const struct rpc_answer *answer =
            rpc_caller_call(caller, &(struct rpc_request){.method = "OrganizationService/WhoAmI", .token = tokens[i]});
        rpc_answer_expect(answer, FORGE_OK, NULL);
    }
}

/* A key is worth the lower of its scope and its creator's present role. */
static void test_key_follows_its_creator(void **state)
{
    char key[AUTH_TOKEN_SIZE], ingest[AUTH_TOKEN_SIZE];
    struct forge_uuid id;
    forge_uuid_v7(&id);
    rpc_fixture_add_api_key(&fixture, &id, &fixture.developer_id, AUTH_SCOPE_ADMIN | AUTH_SCOPE_WRITE, "", "", key);
    forge_uuid_v7(&id);
    rpc_fixture_add_api_key(&fixture, &id, &fixture.developer_id, AUTH_SCOPE_INGEST, "", "", ingest);
    rpc_answer_expect(create(key), FORGE_OK, NULL);
    rpc_fixture_execute(&fixture, "UPDATE users SET role = 'viewer' WHERE id = '%s'", uuid_text(&fixture.developer_id));
    auth_principal_cache_reset(fixture.principals);
    expect_refused(create(key), FORGE_PERMISSION_DENIED, "needs the role developer; the credential has the role viewer");
    rpc_answer_expect(list(key), FORGE_OK, NULL);
    rpc_fixture_execute(&fixture, "UPDATE users SET disabled = true WHERE id = '%s'", uuid_text(&fixture.developer_id));
    auth_principal_cache_reset(fixture.principals);
    expect_refused(list(key), FORGE_UNAUTHENTICATED, "the user of this credential is disabled");
    expect_refused(list(fixture.developer), FORGE_UNAUTHENTICATED, "the user of this credential is disabled");
    rpc_fixture_execute(&fixture, "UPDATE users SET disabled = false, role = 'developer' WHERE id = '%s'",
                        uuid_text(&fixture.developer_id));
    auth_principal_cache_reset(fixture.principals);
    rpc_answer_expect(create(key), FORGE_OK, NULL);
}

static void test_expired_and_revoked(void **state)
{
    char key[AUTH_TOKEN_SIZE];
    struct forge_uuid id;
    forge_uuid_v7(&id);
    rpc_fixture_add_api_key(&fixture, &id, &fixture.admin_id, AUTH_SCOPE_READ, ", expires_at", ", now() - interval '1 second'", key);
    expect_refused(list(key), FORGE_UNAUTHENTICATED, "the credential has expired");
    forge_uuid_v7(&id);
    rpc_fixture_add_api_key(&fixture, &id, &fixture.admin_id, AUTH_SCOPE_READ, ", revoked_at", ", now()", key);
    expect_refused(list(key), FORGE_UNAUTHENTICATED, "the API key was revoked");
    rpc_fixture_execute(&fixture, "UPDATE operator_tokens SET expires_at = now() - interval '1 second'");
    expect_refused(list(fixture.operator_token), FORGE_UNAUTHENTICATED, "the operator token has expired");
    rpc_fixture_execute(&fixture, "UPDATE operator_tokens SET expires_at = now() + interval '1 hour'");
    rpc_fixture_execute(&fixture, "UPDATE sessions SET expires_at = now() - interval '1 second' WHERE id = '%s'",
                        uuid_text(&fixture.session_id));
    expect_refused(list(fixture.admin), FORGE_UNAUTHENTICATED, "the credential has expired");
    rpc_fixture_execute(&fixture, "UPDATE sessions SET expires_at = now() + interval '1 hour'");
}

static void test_deleted_project_and_organization(void **state)
{
    char key[AUTH_TOKEN_SIZE], value[64];
    struct forge_uuid id;
    forge_uuid_v7(&id);
    snprintf(value, sizeof value, ", '%s'", uuid_text(&fixture.project_id));
    rpc_fixture_add_api_key(&fixture, &id, &fixture.admin_id, AUTH_SCOPE_READ, ", project_id", value, key);
    rpc_answer_expect(list(key), FORGE_OK, NULL);
    rpc_fixture_execute(&fixture, "UPDATE projects SET deleted_at = now() WHERE id = '%s'", uuid_text(&fixture.project_id));
    auth_principal_cache_reset(fixture.principals);
    expect_refused(list(key), FORGE_UNAUTHENTICATED, "the project of this API key was deleted");
    rpc_fixture_execute(&fixture, "UPDATE projects SET deleted_at = NULL");
    rpc_fixture_execute(&fixture, "UPDATE organizations SET deleted_at = now()");
    expect_refused(list(key), FORGE_UNAUTHENTICATED, "the organization of this credential was deleted");
    expect_refused(list(fixture.admin), FORGE_UNAUTHENTICATED, "the organization of this credential was deleted");
    rpc_fixture_execute(&fixture, "UPDATE organizations SET deleted_at = NULL");
}

static void revoke(const struct forge_uuid *id, const char *when)
{
    rpc_fixture_execute(&fixture, "UPDATE api_keys SET revoked_at = %s WHERE id = '%s'", when, uuid_text(id));
}

static void test_revocation_reaches_the_cache(void **state)
{
    struct db_change change = {.organization_id = fixture.organization_id, .kind = "api_key", .object_id = fixture.api_key_id};
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL);
    revoke(&fixture.api_key_id, "now()");
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL); /* nobody told this server yet */
    auth_principal_cache_changed(&change, fixture.principals);
    expect_refused(list(fixture.read_key), FORGE_UNAUTHENTICATED, "the API key was revoked");
    revoke(&fixture.api_key_id, "NULL");
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL); /* refusals are not kept */
}

static void test_cache_is_not_believed_while_the_feed_is_late(void **state)
{
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL);
    revoke(&fixture.api_key_id, "now()");
    atomic_store(&fixture.feed_is_fresh, false);
    expect_refused(list(fixture.read_key), FORGE_UNAUTHENTICATED, "the API key was revoked");
    revoke(&fixture.api_key_id, "NULL");
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL);
}

/* RevokeApiKey through the API: this server's own cache hears of it at the commit. */
static void test_revoke_api_key_is_felt_at_once(void **state)
{
    Forge__V1__RevokeApiKeyRequest request = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    struct forge_uuid request_id;
    char id[FORGE_UUID_TEXT_SIZE];
    forge_uuid_v7(&request_id);
    forge_uuid_format(&fixture.api_key_id, id);
    request.id = id;
    rpc_answer_expect(list(fixture.read_key), FORGE_OK, NULL);
    rpc_answer_expect(rpc_caller_call(caller, &(struct rpc_request){.method = "OrganizationService/RevokeApiKey",
                                                                    .token = fixture.admin,
                                                                    .request_id = &request_id,
                                                                    .message = &request.base}),
                      FORGE_OK, NULL);
    expect_refused(list(fixture.read_key), FORGE_UNAUTHENTICATED, "the API key was revoked");
    revoke(&fixture.api_key_id, "NULL");
}

static void test_database_away(void **state)
{
    rpc_answer_expect(list(fixture.viewer), FORGE_OK, NULL);
    pg_cluster_stop(fixture.cluster);
    const struct rpc_answer *answer = list(fixture.viewer);
    rpc_answer_expect(answer, FORGE_UNAVAILABLE, NULL); /* the connection breaks under it */
    do                                                  /* then the pool knows, and says so at once */
        answer = list(fixture.viewer);
    while (!answer->header->not_executed);
    rpc_answer_expect(answer, FORGE_UNAVAILABLE, NULL);
    assert_int_equal(answer->header->retry_after_ms, 250);
    rpc_answer_expect(rpc_caller_call(caller, &(struct rpc_request){.method = "ControlService/Ping"}), FORGE_OK, NULL);
    pg_cluster_start(fixture.cluster);
    uint64_t until_ms = forge_clock_monotonic_ms() + 20000;
    do
        answer = list(fixture.viewer);
    while (answer->header->code == FORGE__V1__CODE__CODE_UNAVAILABLE && forge_clock_monotonic_ms() < until_ms);
    rpc_answer_expect(answer, FORGE_OK, NULL);
}

static void test_database_stopped(void **state)
{
    rpc_answer_expect(list(fixture.viewer), FORGE_OK, NULL);
    pg_cluster_pause(fixture.cluster);
    uint64_t begin_ms = forge_clock_monotonic_ms();
    rpc_answer_expect(
        rpc_caller_call(caller,
                        &(struct rpc_request){.method = "ProjectService/ListProjects", .token = fixture.viewer, .timeout_us = 300000}),
        FORGE_DEADLINE_EXCEEDED, NULL);
    assert_in_range(forge_clock_monotonic_ms() - begin_ms, 250, 2000);
    pg_cluster_resume(fixture.cluster);
    rpc_answer_expect(list(fixture.viewer), FORGE_OK, NULL);
}

/* --- lockout --------------------------------------------------------------------------------------------------------- */

struct step {
    struct forge_arena arena;
    struct db_session *session;
    struct forge_error error;
};

static void step_begin(struct step *step)
{
    *step = (struct step){0};
    forge_arena_init(&step->arena, 1 << 20, NULL);
    assert_int_equal(db_pool_lease(server.pool, &step->arena, forge_clock_monotonic_ns() + 5000000000, &step->session, &step->error),
                     FORGE_OK);
}

static void step_end(struct step *step)
{
    db_pool_release(step->session);
    forge_arena_done(&step->arena);
}

/* The lock that is found, in ms; 0 = none. */
static uint32_t locked_ms(const struct auth_lockout *lockout, int64_t now_us)
{
    struct step step;
    step_begin(&step);
    forge_code code = auth_lockout_check(lockout, step.session, now_us, &step.error);
    uint32_t wait_ms = step.error.retry_after_ms;
    assert_true((code == FORGE_OK && wait_ms == 0) || (code == FORGE_RESOURCE_EXHAUSTED && wait_ms > 0));
    if (code != FORGE_OK)
        assert_non_null(strstr(step.error.message, "too many failed logins; try again in "));
    step_end(&step);
    return wait_ms;
}

static void fail_once(const struct auth_lockout *lockout, int64_t now_us)
{
    struct step step;
    step_begin(&step);
    auth_lockout_queue_failure(lockout, step.session, now_us);
    assert_int_equal(auth_lockout_check(lockout, step.session, 0, &step.error) == FORGE_OK || step.error.retry_after_ms > 0, true);
    step_end(&step);
}

static void test_lockout_of_an_account(void **state)
{
    struct auth_lockout lockout, elsewhere, other;
    int64_t now_us = forge_clock_wall_us();
    auth_lockout_init(&lockout, &fixture.keys, "ada@example.com", "192.0.2.1");
    auth_lockout_init(&elsewhere, &fixture.keys, "ada@example.com", "192.0.2.2");
    auth_lockout_init(&other, &fixture.keys, "bob@example.com", "192.0.2.1");
    for (int i = 0; i < AUTH_LOCKOUT_ACCOUNT_FREE; i++) {
        fail_once(&lockout, now_us);
        assert_int_equal(locked_ms(&lockout, now_us), 0);
    }
    uint32_t expected_ms = 1000;
    for (int i = 0; i < 12; i++, expected_ms = expected_ms < 450000 ? 2 * expected_ms : AUTH_LOCKOUT_SECONDS_MAX * 1000) {
        fail_once(&lockout, now_us);
        assert_int_equal(locked_ms(&lockout, now_us), expected_ms);
    }
    assert_int_equal(locked_ms(&lockout, now_us), AUTH_LOCKOUT_SECONDS_MAX * 1000);
    assert_int_equal(locked_ms(&elsewhere, now_us), AUTH_LOCKOUT_SECONDS_MAX * 1000);
    assert_int_equal(locked_ms(&other, now_us), 0);
    assert_int_equal(locked_ms(&lockout, now_us + AUTH_LOCKOUT_SECONDS_MAX * 1000000LL), 0);
    fail_once(&lockout, now_us + 2 * 3600 * 1000000LL); /* an hour without failures is forgotten */
    assert_int_equal(locked_ms(&lockout, now_us + 2 * 3600 * 1000000LL), 0);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM login_failures WHERE key::text LIKE '%%ada%%'"), 0);
    rpc_fixture_execute(&fixture, "DELETE FROM login_failures");
}

static void test_lockout_of_a_source(void **state)
{
    int64_t now_us = forge_clock_wall_us();
    for (int i = 0; i <= AUTH_LOCKOUT_SOURCE_FREE; i++) {
        struct auth_lockout lockout;
        char email[64];
        snprintf(email, sizeof email, "guess%d@example.com", i);
        auth_lockout_init(&lockout, &fixture.keys, email, "192.0.2.9");
        assert_int_equal(locked_ms(&lockout, now_us), 0);
        fail_once(&lockout, now_us);
    }
    struct auth_lockout another, same_account;
    auth_lockout_init(&another, &fixture.keys, "new@example.com", "192.0.2.9");
    auth_lockout_init(&same_account, &fixture.keys, "guess1@example.com", "192.0.2.10");
    assert_int_equal(locked_ms(&another, now_us), 1000);
    assert_int_equal(locked_ms(&same_account, now_us), 0);
    rpc_fixture_execute(&fixture, "DELETE FROM login_failures");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_credential),
        TEST(test_text_that_is_no_token),
        TEST(test_tokens_that_were_never_given_out),
        TEST(test_roles_and_scopes),
        TEST(test_who_am_i_for_every_credential),
        TEST(test_key_follows_its_creator),
        TEST(test_expired_and_revoked),
        TEST(test_deleted_project_and_organization),
        TEST(test_revocation_reaches_the_cache),
        TEST(test_cache_is_not_believed_while_the_feed_is_late),
        TEST(test_revoke_api_key_is_felt_at_once),
        TEST(test_database_away),
        TEST(test_database_stopped),
        TEST(test_lockout_of_an_account),
        TEST(test_lockout_of_a_source),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
