/* Exactly once: writes, their replays, duplicates on one and two servers, lost commits, refusals, sealed replies; on a real PostgreSQL. */
#include "support/rpc_fixture.h"

#include "db/tx.h"
#include "forge/v1/organization.pb-c.h"
#include "forge/v1/project.pb-c.h"
#include "rpc/write.h"
#include "rpc_table.h"
#include "support/fault_proxy.h"
#include "wire/clock.h"
#include "wire/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rpc_fixture fixture;
static struct rpc_fixture_server first, second;
static struct rpc_caller *caller, *other_caller; /* of first, of second */
static struct rpc_gate gate = RPC_GATE_INIT;
static atomic_uint runs;

/* CreateProject, which also does what the name asks for (the linker puts it before the real one). */
forge_code __real_project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out);
forge_code __wrap_project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out);

static bool asks(const Forge__V1__CreateProjectRequest *in, const char *what)
{
    return strncmp(in->name, what, strlen(what)) == 0;
}

forge_code __wrap_project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out)
{
    unsigned run = atomic_fetch_add(&runs, 1) + 1;
    if (asks(in, "refuse early"))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "refused before the first statement");
    forge_code code = __real_project_create(call, in, out);
    if (code != FORGE_OK)
        return code;
    if (asks(in, "wait"))
        rpc_gate_pass(&gate);
    if (asks(in, "wait and refuse") || asks(in, "refuse"))
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "refused after the effect, run %u", run);
    if (asks(in, "wait and give up once") && run == 1)
        return rpc_call_fail(call, FORGE_UNAVAILABLE, "gave up");
    if (asks(in, "secret")) {
        uint8_t secret[8];
        forge_random(secret, sizeof secret);
        out->description = forge_arena_printf(call->arena, "SECRET-%02x%02x%02x%02x", secret[0], secret[1], secret[2], secret[3]);
        rpc_write_seal_reply(call);
    }
    if (asks(in, "audited"))
        rpc_write_audit(call, "project.create", "project", &call->request_id, "{\"why\": \"test\"}");
    return FORGE_OK;
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
    rpc_gate_close(&gate);
    atomic_store(&runs, 0);
    atomic_store(&fixture.changes, 0);
    rpc_fixture_start(&fixture, &config, NULL, &first);
    rpc_fixture_start(&fixture, &config, NULL, &second);
    caller = rpc_caller_open(&first, 0);
    other_caller = rpc_caller_open(&second, 1);
    return caller && other_caller ? 0 : -1;
}

static int stop(void **state)
{
    rpc_gate_open(&gate);
    rpc_caller_close(caller);
    rpc_caller_close(other_caller);
    rpc_fixture_stop(&first);
    rpc_fixture_stop(&second);
    return 0;
}

static struct rpc_pending *send_create(struct rpc_caller *from, const char *token, const struct forge_uuid *request_id, const char *name,
                                       int64_t timeout_us)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    return rpc_caller_send(from, &(struct rpc_request){.method = "ProjectService/CreateProject",
                                                       .token = token,
                                                       .request_id = request_id,
                                                       .message = &request.base,
                                                       .timeout_us = timeout_us});
}

static const struct rpc_answer *create(const struct forge_uuid *request_id, const char *name)
{
    return rpc_pending_wait(send_create(caller, fixture.developer, request_id, name, 0));
}

static struct forge_uuid fresh_id(void)
{
    struct forge_uuid id;
    forge_uuid_v7(&id);
    return id;
}

static int projects_named(const char *name)
{
    return rpc_fixture_number(&fixture, "SELECT count(*) FROM projects WHERE name = '%s'", name);
}

static int claims_of(const struct forge_uuid *request_id)
{
    char text[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(request_id, text);
    return rpc_fixture_number(&fixture, "SELECT count(*) FROM idempotency WHERE request_id = '%s'", text);
}

static void expect_same(const struct rpc_answer *a, const struct rpc_answer *b)
{
    rpc_answer_expect(a, FORGE_OK, NULL);
    rpc_answer_expect(b, FORGE_OK, NULL);
    assert_int_equal(a->payload_len, b->payload_len);
    assert_memory_equal(a->payload, b->payload, a->payload_len);
}

/* --- one call after the other ---------------------------------------------------------------------------------------- */

static void test_write_and_replay(void **state)
{
    struct forge_uuid id = fresh_id();
    const struct rpc_answer *answer = create(&id, "one");
    rpc_answer_expect(answer, FORGE_OK, NULL);
    assert_false(answer->header->replayed);
    assert_true(answer->payload_len > 0);
    assert_int_equal(atomic_load(&fixture.changes), 1);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM changes WHERE kind = 'project'"), 1);
    for (int i = 0; i < 3; i++) {
        const struct rpc_answer *again = rpc_pending_wait(send_create(i == 2 ? other_caller : caller, fixture.developer, &id, "one", 0));
        expect_same(again, answer);
        assert_true(again->header->replayed);
        assert_false(again->header->not_executed);
    }
    assert_int_equal(projects_named("one"), 1);
    assert_int_equal(atomic_load(&fixture.changes), 1);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM changes WHERE kind = 'project'"), 1);
    assert_int_equal(claims_of(&id), 1);
}

/* The same user with another token: a retry may follow a new login. Another principal's id is another write. */
static void test_replay_belongs_to_the_principal(void **state)
{
    char token[AUTH_TOKEN_SIZE], text[FORGE_UUID_TEXT_SIZE];
    uint8_t hash[FORGE_SHA256_SIZE];
    struct forge_uuid id = fresh_id();
    const struct rpc_answer *answer = create(&id, "mine");
    rpc_answer_expect(answer, FORGE_OK, NULL);
    auth_token_make(AUTH_TOKEN_SESSION, &fixture.organization_id, token);
    auth_token_hash(token, hash);
    char hex[2 * FORGE_SHA256_SIZE + 1];
    for (int i = 0; i < FORGE_SHA256_SIZE; i++)
        sprintf(hex + 2 * i, "%02x", hash[i]);
    forge_uuid_format(&fixture.developer_id, text);
    rpc_fixture_execute(&fixture,
                        "INSERT INTO sessions (organization_id, id, user_id, token_hash, expires_at) SELECT organization_id, "
                        "gen_random_uuid(), id, '\\x%s', now() + interval '1 hour' FROM users WHERE id = '%s'",
                        hex, text);
    const struct rpc_answer *again = rpc_pending_wait(send_create(caller, token, &id, "mine", 0));
    expect_same(again, answer);
    assert_true(again->header->replayed);
    rpc_answer_expect(rpc_pending_wait(send_create(caller, fixture.admin, &id, "mine", 0)), FORGE_ALREADY_EXISTS, NULL);
    rpc_answer_expect(rpc_pending_wait(send_create(caller, fixture.admin, &id, "mine too", 0)), FORGE_OK, NULL);
}

static void test_same_id_with_another_request(void **state)
{
    struct forge_uuid id = fresh_id();
    rpc_answer_expect(create(&id, "body one"), FORGE_OK, NULL);
    rpc_answer_expect(create(&id, "body two"), FORGE_INVALID_ARGUMENT, "request_id was used before with another request");
    rpc_answer_expect(rpc_pending_wait(send_create(other_caller, fixture.developer, &id, "body two", 0)), FORGE_INVALID_ARGUMENT,
                      "request_id was used before with another request");
    assert_int_equal(projects_named("body two"), 0);
    /* the same bytes as a request of another method */
    Forge__V1__CreateProjectRequest bytes = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    char name[] = "body one";
    bytes.name = name;
    const struct rpc_answer *answer = rpc_caller_call(
        caller, &(struct rpc_request){
                    .method = "PromptService/CreatePrompt", .token = fixture.developer, .request_id = &id, .message = &bytes.base});
    rpc_answer_expect(answer, FORGE_INVALID_ARGUMENT, NULL);
}

static void expect_refused_id(const struct forge_uuid *id, const char *message)
{
    const struct rpc_answer *answer = create(id, "id");
    rpc_answer_expect(answer, FORGE_INVALID_ARGUMENT, message);
    assert_true(answer->header->not_executed);
}

static struct forge_uuid id_of_time(int64_t unix_ms)
{
    struct forge_uuid id = fresh_id();
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    return id;
}

static void test_request_ids_that_are_refused(void **state)
{
    int64_t now_ms = forge_clock_wall_us() / 1000, minute_ms = 60 * 1000;
    struct forge_uuid version_4 = fresh_id();
    version_4.bytes[6] = 0x40;
    expect_refused_id(NULL, "the header needs a request_id (UUID version 7)");
    expect_refused_id(&version_4, "request_id must be a UUID version 7");
    struct forge_uuid old = id_of_time(now_ms - 24 * 60 * minute_ms - 1000), ahead = id_of_time(now_ms + 11 * minute_ms);
    expect_refused_id(&old, "request_id is older than 24 hours");
    expect_refused_id(&ahead, "request_id is more than 10 minutes ahead of this server's clock");
    struct forge_uuid old_enough = id_of_time(now_ms - 23 * 60 * minute_ms), near = id_of_time(now_ms + 9 * minute_ms);
    rpc_answer_expect(create(&old_enough, "id 1"), FORGE_OK, NULL);
    rpc_answer_expect(create(&near, "id 2"), FORGE_OK, NULL);
    assert_int_equal(projects_named("id"), 0);
}

static void test_refusals_leave_nothing(void **state)
{
    struct forge_uuid id = fresh_id(), early = fresh_id();
    const struct rpc_answer *answer = create(&id, "refuse");
    rpc_answer_expect(answer, FORGE_FAILED_PRECONDITION, "refused after the effect, run 1");
    assert_false(answer->header->not_executed);
    assert_int_equal(projects_named("refuse"), 0);
    assert_int_equal(claims_of(&id), 0);
    assert_int_equal(atomic_load(&fixture.changes), 0);
    rpc_answer_expect(create(&id, "refuse"), FORGE_FAILED_PRECONDITION, "run 2"); /* evaluated anew */
    rpc_answer_expect(create(&id, "now fine"), FORGE_OK, NULL);                   /* the id was not used up */
    rpc_answer_expect(create(&early, "refuse early"), FORGE_FAILED_PRECONDITION, "before the first statement");
    assert_int_equal(claims_of(&early), 0);
}

static void test_replay_is_not_refused_by_the_present_state(void **state)
{
    struct forge_uuid id = fresh_id(), other = fresh_id();
    const struct rpc_answer *answer = create(&id, "taken");
    rpc_answer_expect(create(&other, "taken"), FORGE_ALREADY_EXISTS, "a project named");
    expect_same(create(&id, "taken"), answer); /* its own effect is in the way, and still it is a replay */
    rpc_fixture_execute(&fixture, "DELETE FROM projects WHERE name = 'taken'");
    expect_same(create(&id, "taken"), answer);
    assert_int_equal(projects_named("taken"), 0);
}

static void test_reply_too_large_for_the_caller_writes_nothing(void **state)
{
    struct forge_uuid id = fresh_id();
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    char name[] = "large reply";
    request.name = name;
    struct rpc_request call = {.method = "ProjectService/CreateProject",
                               .token = fixture.developer,
                               .request_id = &id,
                               .message = &request.base,
                               .max_reply_bytes = 20};
    rpc_answer_expect(rpc_caller_call(caller, &call), FORGE_RESOURCE_EXHAUSTED, "at most 20 are allowed");
    assert_int_equal(projects_named(name), 0);
    call.max_reply_bytes = 0;
    rpc_answer_expect(rpc_caller_call(caller, &call), FORGE_OK, NULL);
    call.max_reply_bytes = 20;
    rpc_answer_expect(rpc_caller_call(caller, &call), FORGE_RESOURCE_EXHAUSTED, "at most 20 are allowed");
    assert_int_equal(projects_named(name), 1);
}

/* --- secrets and keys ------------------------------------------------------------------------------------------------ */

static void test_sealed_reply(void **state)
{
    struct forge_uuid id = fresh_id();
    const struct rpc_answer *answer = create(&id, "secret");
    rpc_answer_expect(answer, FORGE_OK, NULL);
    assert_non_null(memmem(answer->payload, answer->payload_len, "SECRET-", 7));
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM idempotency WHERE response_sealed"), 1);
    assert_int_equal(
        rpc_fixture_number(&fixture, "SELECT count(*) FROM idempotency WHERE position('\\x5345435245542d'::bytea IN response) > 0"), 0);
    const struct rpc_answer *again = create(&id, "secret");
    expect_same(again, answer);
    assert_true(again->header->replayed);
    /* bound to its row: moved to another request it cannot be opened */
    struct forge_uuid other = fresh_id();
    rpc_answer_expect(create(&other, "secret 2"), FORGE_OK, NULL);
    char text[FORGE_UUID_TEXT_SIZE], other_text[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(&id, text);
    forge_uuid_format(&other, other_text);
    rpc_fixture_execute(&fixture,
                        "UPDATE idempotency SET response = (SELECT response FROM idempotency WHERE request_id = '%s') WHERE request_id = "
                        "'%s'",
                        text, other_text);
    rpc_answer_expect(create(&other, "secret 2"), FORGE_DATA_LOSS, "the stored reply cannot be unsealed");
}

static void use_keys(const char *lines)
{
    struct forge_error error = {0};
    rpc_caller_close(caller);
    rpc_fixture_stop(&first);
    assert_int_equal(auth_key_file_parse("test", lines, strlen(lines), &fixture.keys, &error), FORGE_OK);
    struct rpc_server_config config;
    rpc_fixture_config(&config);
    rpc_fixture_start(&fixture, &config, NULL, &first);
    caller = rpc_caller_open(&first, 0);
}

static void test_key_change(void **state)
{
    static const char key_1[] = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
                      key_2[] = "2 ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    char both[256];
    struct forge_uuid id = fresh_id(), later = fresh_id();
    const struct rpc_answer *stored = create(&id, "secret under key 1");
    rpc_answer_expect(stored, FORGE_OK, NULL);
    size_t size = stored->payload_len;
    uint8_t *payload = malloc(size);
    memcpy(payload, stored->payload, size);
    snprintf(both, sizeof both, "%s%s", key_2, key_1);
    use_keys(both);
    const struct rpc_answer *answer = create(&id, "secret under key 1");
    rpc_answer_expect(answer, FORGE_OK, NULL);
    assert_int_equal(answer->payload_len, size);
    assert_memory_equal(answer->payload, payload, size);
    free(payload);
    rpc_answer_expect(create(&id, "another body"), FORGE_INVALID_ARGUMENT, "request_id was used before");
    rpc_answer_expect(create(&later, "under key 2"), FORGE_OK, NULL);
    use_keys(key_2);
    answer = create(&id, "secret under key 1");
    rpc_answer_expect(answer, FORGE_INTERNAL, "internal error");
    rpc_answer_expect(create(&later, "under key 2"), FORGE_OK, NULL);
    use_keys(key_1);
}

/* --- changes and audit ----------------------------------------------------------------------------------------------- */

static void test_audit_chain(void **state)
{
    char name[32];
    for (int i = 0; i < 4; i++) {
        struct forge_uuid id = fresh_id();
        snprintf(name, sizeof name, "audited %d", i);
        rpc_answer_expect(create(&id, name), FORGE_OK, NULL);
        rpc_answer_expect(create(&id, name), FORGE_OK, NULL); /* a replay adds no row */
    }
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM audit_log"), 4);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT sequence FROM audit_heads"), 4);
    assert_int_equal(rpc_fixture_number(&fixture,
                                        "SELECT count(*) FROM audit_log a LEFT JOIN audit_log b ON b.sequence = a.sequence - 1 "
                                        "WHERE a.hash = sha256(coalesce(b.hash, decode(repeat('00', 32), 'hex')) || a.canonical)"),
                     4);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM audit_log JOIN audit_heads USING (organization_id, sequence) "
                                                  "WHERE audit_log.hash = audit_heads.hash"),
                     1);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM audit_log WHERE action = 'project.create' AND principal_kind = "
                                                  "'user' AND details ->> 'why' = 'test'"),
                     4);
    /* What was hashed tells all of the row, as JSON. */
    assert_int_equal(
        rpc_fixture_number(&fixture,
                           "SELECT count(*) FROM (SELECT audit_log, convert_from(canonical, 'UTF8')::jsonb AS j FROM audit_log) x "
                           "WHERE j - 'details' = jsonb_build_object('format', 'forge.audit.v1', 'organization_id', "
                           "(audit_log).organization_id, 'event_time_us', (extract(epoch FROM (audit_log).created_at) * 1000000)::bigint, "
                           "'actor_kind', 'user', 'actor_id', (audit_log).principal_id, 'actor_name', (SELECT email FROM users WHERE "
                           "id = (audit_log).principal_id), 'actor_role', 'developer', 'peer_address', (audit_log).peer_address, "
                           "'request_id', (audit_log).request_id, 'action', 'project.create', 'target_kind', 'project', 'target_id', "
                           "(audit_log).target_id) AND j -> 'details' = '{\"why\": \"test\"}' AND (audit_log).peer_address <> '' AND "
                           "(audit_log).request_id = (audit_log).target_id"),
        4);
}

/* Without request_id and stored reply, and the change is felt by this server's own cache at once. */
static void test_logout_ends_the_session(void **state)
{
    const struct rpc_request logout = {.method = "OrganizationService/Logout", .token = fixture.viewer};
    const struct rpc_request list = {.method = "ProjectService/ListProjects", .token = fixture.viewer};
    rpc_answer_expect(rpc_caller_call(caller, &list), FORGE_OK, NULL);
    rpc_answer_expect(rpc_caller_call(caller, &logout), FORGE_OK, NULL);
    rpc_answer_expect(rpc_caller_call(caller, &list), FORGE_UNAUTHENTICATED, "the credential is not known");
}

static void test_create_organization_is_bound_to_its_own_id(void **state)
{
    Forge__V1__CreateOrganizationRequest request = FORGE__V1__CREATE_ORGANIZATION_REQUEST__INIT;
    char name[] = "Second", slug[] = "second", email[] = "root@second.example", password[] = "a long enough password", person[] = "Root";
    char text[FORGE_UUID_TEXT_SIZE];
    struct forge_uuid id = fresh_id();
    request.name = name;
    request.slug = slug;
    request.admin_email = email;
    request.admin_password = password;
    request.admin_display_name = person;
    const struct rpc_request call = {
        .method = "OrganizationService/CreateOrganization", .token = fixture.operator_token, .request_id = &id, .message = &request.base};
    const struct rpc_answer *answer = rpc_caller_call(caller, &call);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    forge_uuid_format(&id, text);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM idempotency WHERE organization_id = '%s'", text), 1);
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM audit_log WHERE organization_id = '%s'", text), 1);
    const struct rpc_answer *again = rpc_caller_call(caller, &call);
    expect_same(again, answer);
    assert_true(again->header->replayed);
}

/* --- at the same time ------------------------------------------------------------------------------------------------ */

static void wait_until_parked(int calls)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + 10000;
    char line[64];
    snprintf(line, sizeof line, "\nforged_parked_calls %d\n", calls);
    for (bool found = false; !found;) {
        char *text = base_metrics_text(first.metrics);
        found = strstr(text, line) != NULL;
        free(text);
        assert_true(forge_clock_monotonic_ms() < until_ms);
    }
}

static void test_duplicates_on_one_server(void **state)
{
    enum { DUPLICATES = 6 };
    struct rpc_pending *calls[DUPLICATES];
    struct rpc_caller *third = rpc_caller_open(&first, 1);
    struct forge_uuid id = fresh_id();
    unsigned replayed = 0;
    for (int i = 0; i < DUPLICATES; i++)
        calls[i] = send_create(i % 2 ? third : caller, fixture.developer, &id, "wait one", 0);
    rpc_gate_wait_inside(&gate, 1);
    wait_until_parked(DUPLICATES - 1);
    rpc_gate_open(&gate);
    for (int i = 0; i < DUPLICATES; i++) {
        const struct rpc_answer *answer = rpc_pending_wait(calls[i]);
        expect_same(answer, rpc_pending_wait(calls[0]));
        replayed += answer->header->replayed;
    }
    assert_int_equal(replayed, DUPLICATES - 1);
    assert_int_equal(atomic_load(&runs), 1);
    assert_int_equal(projects_named("wait one"), 1);
    rpc_caller_close(third);
}

static void test_duplicate_with_another_body(void **state)
{
    struct forge_uuid id = fresh_id();
    struct rpc_pending *owner = send_create(caller, fixture.developer, &id, "wait a", 0);
    rpc_gate_wait_inside(&gate, 1);
    rpc_answer_expect(create(&id, "wait b"), FORGE_INVALID_ARGUMENT, "request_id was used before with another request");
    rpc_gate_open(&gate);
    rpc_answer_expect(rpc_pending_wait(owner), FORGE_OK, NULL);
}

static void test_duplicates_get_the_refusal(void **state)
{
    struct forge_uuid id = fresh_id();
    struct rpc_pending *owner = send_create(caller, fixture.developer, &id, "wait and refuse", 0);
    rpc_gate_wait_inside(&gate, 1);
    struct rpc_pending *duplicate = send_create(caller, fixture.developer, &id, "wait and refuse", 0);
    wait_until_parked(1);
    rpc_gate_open(&gate);
    rpc_answer_expect(rpc_pending_wait(owner), FORGE_FAILED_PRECONDITION, "refused after the effect, run 1");
    rpc_answer_expect(rpc_pending_wait(duplicate), FORGE_FAILED_PRECONDITION, "refused after the effect, run 1");
    assert_int_equal(atomic_load(&runs), 1);
}

/* The owner has no answer to give: one of those that wait becomes the owner. */
static void test_duplicate_takes_over(void **state)
{
    struct forge_uuid id = fresh_id();
    struct rpc_pending *duplicates[3], *owner = send_create(caller, fixture.developer, &id, "wait and give up once", 0);
    rpc_gate_wait_inside(&gate, 1);
    for (int i = 0; i < 3; i++)
        duplicates[i] = send_create(caller, fixture.developer, &id, "wait and give up once", 0);
    wait_until_parked(3);
    rpc_gate_open(&gate);
    rpc_answer_expect(rpc_pending_wait(owner), FORGE_UNAVAILABLE, "gave up");
    for (int i = 0; i < 3; i++)
        expect_same(rpc_pending_wait(duplicates[i]), rpc_pending_wait(duplicates[0]));
    assert_int_equal(projects_named("wait and give up once"), 1);
}

static void test_duplicate_of_a_closed_connection(void **state)
{
    struct rpc_caller *third = rpc_caller_open(&first, 1);
    struct forge_uuid id = fresh_id();
    send_create(third, fixture.developer, &id, "wait closed", 0);
    rpc_gate_wait_inside(&gate, 1);
    struct rpc_pending *duplicate = send_create(caller, fixture.developer, &id, "wait closed", 0);
    send_create(third, fixture.developer, &id, "wait closed", 0);
    wait_until_parked(2);
    struct rpc_pending *late = send_create(caller, fixture.developer, &id, "wait closed", 100000);
    const struct rpc_answer *answer = rpc_pending_wait(late);
    rpc_answer_expect(answer, FORGE_DEADLINE_EXCEEDED, "the deadline is over");
    assert_false(answer->header->not_executed); /* the owner may have done it */
    wait_until_parked(2);
    rpc_gate_open(&gate);
    rpc_caller_close(third);
    rpc_answer_expect(rpc_pending_wait(duplicate), FORGE_OK, NULL);
    assert_int_equal(projects_named("wait closed"), 1);
}

static void test_duplicate_on_another_server(void **state)
{
    struct forge_uuid id = fresh_id();
    struct rpc_pending *owner = send_create(caller, fixture.developer, &id, "wait two", 0);
    rpc_gate_wait_inside(&gate, 1);
    const struct rpc_answer *answer = rpc_pending_wait(send_create(other_caller, fixture.developer, &id, "wait two", 400000));
    rpc_answer_expect_reason(answer, FORGE_UNAVAILABLE, "CALL_IN_PROGRESS", "an earlier attempt with this request_id is in progress");
    assert_true(answer->header->not_executed);
    assert_int_equal(answer->header->retry_after_ms, 50);
    rpc_gate_open(&gate);
    const struct rpc_answer *done = rpc_pending_wait(owner);
    answer = rpc_pending_wait(send_create(other_caller, fixture.developer, &id, "wait two", 0));
    expect_same(answer, done);
    assert_true(answer->header->replayed);
    assert_int_equal(projects_named("wait two"), 1);
}

/* Another transaction holds what the effect needs: that is no duplicate, but worth another try. */
static void test_lock_that_the_effect_waits_for(void **state)
{
    struct forge_arena arena;
    struct db_session *session;
    struct forge_error error = {0};
    struct forge_uuid id = fresh_id(), project_id = fresh_id();
    struct db_row row;
    forge_arena_init(&arena, 1 << 20, NULL);
    assert_int_equal(db_pool_lease(second.pool, &arena, forge_clock_monotonic_ns() + 20000000000, &session, &error), FORGE_OK);
    db_session_bind_tenant(session, &fixture.organization_id);
    db_tx_begin(session);
    struct db_stmt *insert = db_stmt(session, SQL_PROJECT_CREATE);
    db_bind_uuid(insert, &fixture.organization_id);
    db_bind_uuid(insert, &project_id);
    db_bind_text(insert, "locked");
    db_bind_text(insert, NULL);
    db_bind_time_us(insert, forge_clock_wall_us());
    assert_int_equal(db_run_one(insert, &row, &error), FORGE_OK);
    const struct rpc_answer *answer = rpc_pending_wait(send_create(caller, fixture.developer, &id, "locked", 300000));
    rpc_answer_expect(answer, FORGE_UNAVAILABLE, NULL);
    assert_false(answer->header->not_executed);
    assert_int_equal(answer->header->retry_after_ms, 50);
    db_pool_release(session); /* rolls back */
    rpc_answer_expect(create(&id, "locked"), FORGE_OK, NULL);
    forge_arena_done(&arena);
}

/* Two of the six workers serve interactive calls alone: writes that hang cannot keep readers out. */
static void test_workers_kept_for_interactive_calls(void **state)
{
    struct rpc_pending *writes[6];
    char name[32];
    for (int i = 0; i < 6; i++) {
        struct forge_uuid id = fresh_id();
        snprintf(name, sizeof name, "wait class %d", i);
        writes[i] = send_create(caller, fixture.developer, &id, name, 0);
    }
    rpc_gate_wait_inside(&gate, 4);
    const struct rpc_request list = {.method = "ProjectService/ListProjects", .token = fixture.developer};
    for (int i = 0; i < 3; i++)
        rpc_answer_expect(rpc_caller_call(other_caller, &list), FORGE_OK, NULL);
    for (int i = 0; i < 3; i++)
        rpc_answer_expect(rpc_caller_call(caller, &list), FORGE_OK, NULL);
    rpc_gate_wait_inside(&gate, 4);
    rpc_gate_open(&gate);
    for (int i = 0; i < 6; i++)
        rpc_answer_expect(rpc_pending_wait(writes[i]), FORGE_OK, NULL);
}

enum { IDS = 60, COPIES = 4 };

/* Each request several times at once over two servers: one effect each, one reply for all. */
static void test_triplicates_everywhere(void **state)
{
    static struct rpc_pending *calls[IDS][COPIES];
    static struct forge_uuid ids[IDS];
    char name[32];
    for (int i = 0; i < IDS; i++) {
        ids[i] = fresh_id();
        snprintf(name, sizeof name, "many %d", i);
        for (int copy = 0; copy < COPIES; copy++)
            calls[i][copy] = send_create(copy % 2 ? other_caller : caller, fixture.developer, &ids[i], name, 0);
    }
    for (int i = 0; i < IDS; i++) {
        const struct rpc_answer *answers[COPIES];
        snprintf(name, sizeof name, "many %d", i);
        for (int copy = 0; copy < COPIES; copy++) {
            answers[copy] = rpc_pending_wait(calls[i][copy]);
            while (answers[copy]->header->retry_after_ms > 0) /* busy elsewhere: the same again, as a client does */
                answers[copy] = rpc_pending_wait(send_create(caller, fixture.developer, &ids[i], name, 0));
            expect_same(answers[copy], answers[0]);
        }
        assert_int_equal(claims_of(&ids[i]), 1);
    }
    assert_int_equal(rpc_fixture_number(&fixture, "SELECT count(*) FROM projects WHERE name LIKE 'many %%'"), IDS);
}

/* --- lost connections ------------------------------------------------------------------------------------------------ */

struct tally {
    unsigned cuts, settled, retried;
};

/* Repeats a write for as long as the database cannot be reached: after a cut, a connection that was being opened may have gone too. */
static const struct rpc_answer *repeat(struct rpc_caller *from, const struct forge_uuid *id, const char *name)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + 10000;
    const struct rpc_answer *answer;
    do
        answer = rpc_pending_wait(send_create(from, fixture.developer, id, name, 0));
    while (answer->header->code == FORGE__V1__CODE__CODE_UNAVAILABLE && forge_clock_monotonic_ms() < until_ms);
    return answer;
}

/* One write whose connection is cut after so many messages; whatever the caller is told, repeating the id ends in one effect. */
static void write_cut(struct rpc_caller *from, struct fault_proxy *proxy, enum fault_direction direction, unsigned messages,
                      struct tally *tally)
{
    static unsigned number;
    char name[32];
    struct forge_uuid id = fresh_id();
    snprintf(name, sizeof name, "cut %u", number++);
    fault_proxy_cut_after_messages(proxy, direction, messages);
    const struct rpc_answer *answer = rpc_pending_wait(send_create(from, fixture.developer, &id, name, 0));
    bool cut = fault_proxy_has_cut(proxy);
    fault_proxy_disarm(proxy);
    tally->cuts += cut;
    bool retries = answer->header->code == FORGE__V1__CODE__CODE_UNAVAILABLE;
    if (retries)
        answer = repeat(from, &id, name);
    rpc_answer_expect(answer, FORGE_OK, NULL);
    tally->retried += retries;
    tally->settled += cut && !retries;
    assert_int_equal(projects_named(name), 1);
    assert_int_equal(claims_of(&id), 1);
    expect_same(repeat(from, &id, name), answer);
}

static void test_connection_cut_at_every_message(void **state)
{
    struct fault_proxy *proxy = fault_proxy_new(pg_cluster_port(fixture.cluster), true);
    struct rpc_fixture_server through;
    struct rpc_server_config config;
    struct tally tally = {0};
    assert_non_null(proxy);
    rpc_fixture_config(&config);
    config.workers = 1;
    config.workers_interactive = 0;
    rpc_fixture_start(&fixture, &config, pg_cluster_tcp_url(fixture.cluster, "forge_app", fixture.database, fault_proxy_port(proxy)),
                      &through);
    struct rpc_caller *from = rpc_caller_open(&through, 0);
    for (int warm = 0; warm < 3; warm++) /* statements get prepared: later writes are alike */
        write_cut(from, proxy, FAULT_UPSTREAM, 100000, &tally);
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++)
        for (unsigned messages = 1; messages <= 40; messages++)
            write_cut(from, proxy, (enum fault_direction)direction, messages, &tally);
    printf("%u connections cut; %u writes settled by the server, %u repeated by the caller\n", tally.cuts, tally.settled, tally.retried);
    assert_true(tally.cuts >= 30);
    assert_true(tally.settled >= 1); /* COMMIT on its way: the server finds out by itself */
    rpc_caller_close(from);
    rpc_fixture_stop(&through);
    fault_proxy_free(proxy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_write_and_replay),
        TEST(test_replay_belongs_to_the_principal),
        TEST(test_same_id_with_another_request),
        TEST(test_request_ids_that_are_refused),
        TEST(test_refusals_leave_nothing),
        TEST(test_replay_is_not_refused_by_the_present_state),
        TEST(test_reply_too_large_for_the_caller_writes_nothing),
        TEST(test_sealed_reply),
        TEST(test_key_change),
        TEST(test_audit_chain),
        TEST(test_logout_ends_the_session),
        TEST(test_create_organization_is_bound_to_its_own_id),
        TEST(test_duplicates_on_one_server),
        TEST(test_duplicate_with_another_body),
        TEST(test_duplicates_get_the_refusal),
        TEST(test_duplicate_takes_over),
        TEST(test_duplicate_of_a_closed_connection),
        TEST(test_duplicate_on_another_server),
        TEST(test_lock_that_the_effect_waits_for),
        TEST(test_workers_kept_for_interactive_calls),
        TEST(test_triplicates_everywhere),
        TEST(test_connection_cut_at_every_message),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
