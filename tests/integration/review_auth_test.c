/* Credentials: what an answer's work may tell a stranger, and replays of keys that have expired. */
#include "support/rpc_fixture.h"

#include "auth/password.h"
#include "db/stmt.h"
#include "forge/v1/organization.pb-c.h"
#include "rpc_table.h"
#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct rpc_fixture fixture;
static struct rpc_fixture_server server;
static struct rpc_caller *caller;
static atomic_uint look_ups;

/* Counts (the linker puts it before the real one). */
forge_code __real_db_run_optional(struct db_stmt *stmt, struct db_row *out_row, bool *out_found, struct forge_error *error);
forge_code __wrap_db_run_optional(struct db_stmt *stmt, struct db_row *out_row, bool *out_found, struct forge_error *error);
forge_code __wrap_db_run_optional(struct db_stmt *stmt, struct db_row *out_row, bool *out_found, struct forge_error *error)
{
    atomic_fetch_add(&look_ups, 1);
    return __real_db_run_optional(stmt, out_row, out_found, error);
}

static int start(void **state)
{
    struct rpc_server_config config;
    rpc_fixture_open(&fixture);
    rpc_fixture_config(&config);
    rpc_fixture_start(&fixture, &config, NULL, &server);
    caller = rpc_caller_open(&server, 0);
    return caller ? 0 : -1;
}

static int stop(void **state)
{
    rpc_caller_close(caller);
    rpc_fixture_stop(&server);
    rpc_fixture_close(&fixture);
    return 0;
}

static unsigned look_ups_of_login(const char *email)
{
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    request.email = (char *)(uintptr_t)email;
    request.password = (char *)(uintptr_t) "a wrong password";
    atomic_store(&look_ups, 0);
    rpc_answer_expect(rpc_caller_call(caller, &(struct rpc_request){.method = "OrganizationService/Login", .message = &request.base}),
                      FORGE_UNAUTHENTICATED, "unknown e-mail or wrong password");
    return atomic_load(&look_ups);
}

/* A trip to the database more for e-mails that somebody has would tell them from others. */
static void test_login_works_as_much_for_nobody(void **state)
{
    char organization_id[FORGE_UUID_TEXT_SIZE], user_id[FORGE_UUID_TEXT_SIZE], hash[AUTH_PASSWORD_HASH_SIZE];
    struct forge_error error = {0};
    forge_uuid_format(&fixture.organization_id, organization_id);
    forge_uuid_format(&fixture.viewer_id, user_id);
    assert_int_equal(auth_password_hash("the right password", hash, &error), FORGE_OK);
    rpc_fixture_execute(&fixture, "UPDATE users SET password_hash = '%s' WHERE id = '%s'", hash, user_id);
    rpc_fixture_execute(&fixture, "INSERT INTO login_names (email, organization_id, user_id) VALUES ('known@example.com', '%s', '%s')",
                        organization_id, user_id);
    unsigned known = look_ups_of_login("known@example.com");
    assert_true(known > 0);
    assert_int_equal(look_ups_of_login("nobody@example.com"), known);
}

/* An acknowledged write is never refused when it is sent again, also when the key that it made has expired. */
static void test_replay_of_a_key_that_has_expired(void **state)
{
    enum { LIFE_MS = 1500 };
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Google__Protobuf__Timestamp expires = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__Scope scope = FORGE__V1__SCOPE__SCOPE_READ;
    int64_t expires_us = forge_clock_wall_us() + LIFE_MS * 1000;
    struct forge_uuid id;
    forge_uuid_v7(&id);
    expires.seconds = expires_us / 1000000;
    expires.nanos = (int32_t)(expires_us % 1000000) * 1000;
    request.name = (char *)(uintptr_t) "short life";
    request.scopes = &scope;
    request.n_scopes = 1;
    request.expire_time = &expires;
    const struct rpc_request call = {
        .method = "OrganizationService/CreateApiKey", .token = fixture.admin, .request_id = &id, .message = &request.base};
    const struct rpc_answer *answer = rpc_caller_call(caller, &call);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    while (forge_clock_wall_us() <= expires_us) {
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
    const struct rpc_answer *again = rpc_caller_call(caller, &call);
    rpc_answer_expect(again, FORGE_OK, NULL);
    assert_true(again->header->replayed);
    assert_int_equal(again->payload_len, answer->payload_len);
    assert_memory_equal(again->payload, answer->payload, answer->payload_len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_login_works_as_much_for_nobody),
        cmocka_unit_test(test_replay_of_a_key_that_has_expired),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
