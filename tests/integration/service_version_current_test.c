/* PromptService over TLS: GetPromptVersion, SetCurrentVersion and the history of the current version. */
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

enum { WRITERS = 16, MOVES_EACH = 20 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* A prompt of alpha with versions 1 to count. */
static void versions_make(const char *name, int count, char out_id[37])
{
    service_prompt_make(alpha.admin, alpha.project_id, name, "text 1", out_id);
    for (int i = 2; i <= count; i++) {
        char content[32];
        Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
        Forge__V1__PromptVersion *version;
        snprintf(content, sizeof content, "text %d", i);
        request.prompt_id = out_id;
        request.content = content;
        service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
}

/* version 0: the previous one. */
static forge_code set(struct forge_channel *channel, const char *id, int32_t version, int32_t expected, Forge__V1__Prompt **out)
{
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT(id);
    request.target_case =
        version != 0 ? FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION : FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_PREVIOUS;
    if (version != 0)
        request.version = version;
    else
        request.previous = 1;
    request.expected_version = expected;
    request.message = TEXT("why");
    return forge_prompt_set_current_version(channel, NULL, &request, out, &service_error);
}

static void set_to(const char *id, int32_t version, int32_t expected, int32_t current, const char *etag)
{
    Forge__V1__Prompt *prompt;
    service_ok(set(alpha.admin, id, version, expected, &prompt));
    assert_int_equal(prompt->version, current);
    assert_int_equal(prompt->current_version, current);
    assert_string_equal(prompt->etag, etag);
    char content[32];
    snprintf(content, sizeof content, "text %d", (int)current);
    assert_string_equal(prompt->content, content);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

/* The moves as "old>new" in the order of their times. */
static const char *history(const char *id)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT string_agg(COALESCE(old_targets -> 0 ->> 'version', '') || '>' || (new_targets -> 0 ->> 'version'), ' '"
             " ORDER BY moved_at, id) FROM label_history WHERE prompt_id = '%s' AND label = 'current'",
             id);
    return service_query(sql);
}

static void test_current_moves_and_goes_back(void **state)
{
    (void)state;
    char id[37], sql[512];
    versions_make("moved", 3, id);
    assert_string_equal(history(id), ">1");
    set_to(id, 3, 1, 3, "2");
    set_to(id, 2, 0, 2, "3");
    set_to(id, 2, 2, 2, "3"); /* it is there already: no move */
    set_to(id, 0, 2, 3, "4");
    set_to(id, 0, 0, 2, "5");
    assert_string_equal(history(id), ">1 1>3 3>2 2>3 3>2");
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM label_history WHERE prompt_id = '%s' AND message = 'why' AND actor_id IN (SELECT id FROM users)"
             " AND new_targets -> 0 ->> 'weight' = '1'",
             id);
    assert_string_equal(service_query(sql), "4");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'prompt' AND object_id = '%s'", id);
    assert_string_equal(service_query(sql), "7"); /* three versions, four moves */
}

static void test_a_new_version_that_becomes_current_is_a_move(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    versions_make("made current", 2, id);
    request.prompt_id = id;
    request.make_current = 1;
    static const char *const contents[] = {"text 3", "text 2", "text 2", "text 1"};
    for (size_t i = 0; i < 4; i++) {
        request.content = TEXT(contents[i]);
        service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
    assert_string_equal(history(id), ">1 1>3 3>2 2>1");
    set_to(id, 0, 1, 2, "5");
}

/* The server's clock may stand behind the time of the last move: of another server's clock, or of a request that came later. */
static void test_a_move_is_behind_the_move_before_it(void **state)
{
    (void)state;
    char id[37], sql[512];
    versions_make("late", 3, id);
    set_to(id, 2, 0, 2, "2");
    snprintf(
        sql, sizeof sql,
        "UPDATE label_history SET moved_at = now() + interval '1 hour' WHERE prompt_id = '%s' AND new_targets -> 0 ->> 'version' = '2'",
        id);
    service_execute(sql);
    set_to(id, 3, 0, 3, "3");
    assert_string_equal(history(id), ">1 1>2 2>3");
    set_to(id, 0, 0, 2, "4");
}

static void test_wrong_moves_are_refused(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Prompt *prompt;
    versions_make("refused", 2, id);
    service_fails(set(alpha.admin, id, 3, 0, &prompt), FORGE_NOT_FOUND, "has no version 3");
    service_fails(set(alpha.admin, id, 2, 2, &prompt), FORGE_ABORTED, "version 1 is current, not 2");
    service_fails(set(alpha.admin, id, 1, 2, &prompt), FORGE_ABORTED, "version 1 is current, not 2"); /* although it is there */
    service_fails(set(alpha.admin, id, 0, 0, &prompt), FORGE_FAILED_PRECONDITION, "no version was current before version 1");
    service_fails(set(alpha.admin, nobody_has, 1, 0, &prompt), FORGE_NOT_FOUND, "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(set(beta.admin, id, 2, 0, &prompt), FORGE_NOT_FOUND, "not found");
    service_fails(set(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), id, 2, 0, &prompt), FORGE_PERMISSION_DENIED,
                  "developer");
    assert_string_equal(history(id), ">1");
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.message = service_repeat("x", 1025);
    request.expected_version = -1;
    service_violates(forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &service_error), "prompt_id", "is required",
                     "version", "exactly one of", "expected_version", "0 or more", "message", "1024");
    request = (Forge__V1__SetCurrentVersionRequest)FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.prompt_id = id;
    request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_PREVIOUS;
    service_violates(forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &service_error), "previous", "must be true");
    request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
    service_violates(forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &service_error), "version", "1 or more");
}

static void test_a_repeated_move_gets_the_first_reply(void **state)
{
    (void)state;
    char id[37], request_id[37];
    Forge__V1__Prompt *prompt;
    versions_make("repeated", 2, id);
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.prompt_id = id;
    request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
    request.version = 2;
    request.expected_version = 1; /* only the first attempt finds it */
    for (int i = 0; i < 3; i++) {
        service_ok(forge_prompt_set_current_version(alpha.admin, &options, &request, &prompt, &service_error));
        assert_int_equal(prompt->current_version, 2);
        forge__v1__prompt__free_unpacked(prompt, NULL);
    }
    assert_string_equal(history(id), ">1 1>2");
    request.version = 1;
    service_fails(forge_prompt_set_current_version(alpha.admin, &options, &request, &prompt, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id");
}

/* --- as_of --- */

static forge_code get_at(const char *id, int32_t version, int64_t unix_us, Forge__V1__Prompt **out)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    request.id = TEXT(id);
    if (version > 0) {
        request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
        request.version = version;
    }
    time.seconds = unix_us / 1000000;
    time.nanos = (int32_t)(unix_us % 1000000) * 1000;
    request.as_of = &time;
    return forge_prompt_get(alpha.admin, NULL, &request, out, &service_error);
}

static void version_at(const char *id, int32_t version, int64_t unix_us, int32_t expected)
{
    Forge__V1__Prompt *prompt;
    service_ok(get_at(id, version, unix_us, &prompt));
    assert_int_equal(prompt->version, expected);
    assert_int_equal(prompt->current_version, 2); /* what is current now */
    char content[32];
    snprintf(content, sizeof content, "text %d", (int)expected);
    assert_string_equal(prompt->content, content);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

/* When the row of this prompt was made that the condition names, in microseconds. */
static int64_t time_of(const char *column, const char *table, const char *id, const char *condition)
{
    char sql[512];
    snprintf(sql, sizeof sql, "SELECT (extract(epoch FROM %s) * 1000000)::bigint FROM %s WHERE prompt_id = '%s' AND %s", column, table, id,
             condition);
    return strtoll(service_query(sql), NULL, 10);
}

static int64_t move_time(const char *id, int version)
{
    char condition[64];
    snprintf(condition, sizeof condition, "new_targets -> 0 ->> 'version' = '%d'", version);
    return time_of("moved_at", "label_history", id, condition);
}

static void test_current_is_told_as_it_was(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__Prompt *prompt;
    versions_make("as of", 3, id);
    set_to(id, 3, 0, 3, "2");
    set_to(id, 2, 0, 2, "3");
    int64_t made = move_time(id, 1), to_three = move_time(id, 3), to_two = move_time(id, 2);
    int64_t third = time_of("created_at", "prompt_versions", id, "version = 3");
    assert_true(made < third && third < to_three && to_three < to_two);
    version_at(id, 0, made, 1);
    version_at(id, 0, to_three - 1, 1);
    version_at(id, 0, to_three, 3);
    version_at(id, 0, to_two - 1, 3);
    version_at(id, 0, to_two, 2);
    version_at(id, 3, third, 3);
    service_fails(get_at(id, 0, made - 1, &prompt), FORGE_NOT_FOUND, "this prompt did not exist then");
    service_fails(get_at(id, 3, third - 1, &prompt), FORGE_NOT_FOUND, "version 3 of this prompt did not exist then");
    service_violates(get_at(id, 0, to_two + INT64_C(3600000000), &prompt), "as_of", "must not be in the future");
    service_violates(get_at(id, 0, INT64_C(300000000000) * 1000000, &prompt), "as_of", "years 1 to 9999");
}

/* --- compare and set under concurrent writers --- */

struct mover {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const char *prompt_id;
    unsigned moved, refused, failed;
};

/* Expects each of the versions in turn and moves to the next one. */
static void *mover_main(void *argument)
{
    struct mover *mover = argument;
    pthread_barrier_wait(mover->barrier);
    for (int32_t version = 1; version <= MOVES_EACH; version++) {
        Forge__V1__Prompt *prompt;
        Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
        struct forge_error error = {0};
        request.prompt_id = TEXT(mover->prompt_id);
        request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
        request.version = version + 1;
        request.expected_version = version;
        forge_code rc = forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &error);
        mover->moved += rc == FORGE_OK;
        mover->refused += rc == FORGE_ABORTED;
        mover->failed += rc != FORGE_OK && rc != FORGE_ABORTED;
        if (rc == FORGE_OK)
            forge__v1__prompt__free_unpacked(prompt, NULL);
        else
            forge_error_free(&error);
    }
    return NULL;
}

static void test_one_of_sixteen_movers_wins_each_version(void **state)
{
    (void)state;
    static struct mover movers[WRITERS];
    pthread_barrier_t barrier;
    char id[37], sql[512];
    unsigned moved = 0, refused = 0;
    versions_make("contended", MOVES_EACH + 1, id);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, WRITERS), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        movers[i] = (struct mover){.barrier = &barrier, .prompt_id = id};
        assert_int_equal(pthread_create(&movers[i].thread, NULL, mover_main, &movers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(movers[i].thread, NULL), 0);
        assert_int_equal(movers[i].failed, 0);
        moved += movers[i].moved;
        refused += movers[i].refused;
    }
    pthread_barrier_destroy(&barrier);
    assert_int_equal(moved, MOVES_EACH);
    assert_int_equal(refused, (WRITERS - 1) * MOVES_EACH);
    snprintf(sql, sizeof sql,
             "SELECT bool_and(old_targets -> 0 ->> 'version' = before -> 0 ->> 'version') AND count(*) = %d FROM (SELECT old_targets,"
             " lag(new_targets) OVER (ORDER BY moved_at, id) AS before FROM label_history WHERE prompt_id = '%s') AS moves"
             " WHERE old_targets IS NOT NULL",
             MOVES_EACH, id);
    assert_string_equal(service_query(sql), "t");
}

/* --- GetPromptVersion --- */

static forge_code get_version(struct forge_channel *channel, const char *id, int32_t number, Forge__V1__PromptVersion **out)
{
    Forge__V1__GetPromptVersionRequest request = FORGE__V1__GET_PROMPT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT(id);
    request.version = number;
    return forge_prompt_get_version(channel, NULL, &request, out, &service_error);
}

static void test_a_version_is_read(void **state)
{
    (void)state;
    char id[37];
    Forge__V1__PromptVersion *version;
    versions_make("read", 2, id);
    service_ok(get_version(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id), id, 2, &version));
    assert_string_equal(version->prompt_id, id);
    assert_int_equal(version->version, 2);
    assert_string_equal(version->content, "text 2");
    assert_int_equal(version->format, FORGE__V1__PROMPT_FORMAT__PROMPT_FORMAT_TEXT);
    assert_int_equal(strlen(version->content_hash), 64);
    assert_non_null(version->create_time);
    assert_false(version->current);
    assert_false(version->existing);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    service_ok(get_version(alpha.admin, id, 1, &version));
    assert_true(version->current);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    service_violates(get_version(alpha.admin, "x", 0, &version), "prompt_id", "must be a UUID", "version", "1 or more");
    service_fails(get_version(alpha.admin, id, 3, &version), FORGE_NOT_FOUND, "has no version 3");
    service_fails(get_version(alpha.admin, nobody_has, 1, &version), FORGE_NOT_FOUND,
                  "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(get_version(beta.admin, id, 1, &version), FORGE_NOT_FOUND, "prompt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_current_moves_and_goes_back),
        cmocka_unit_test(test_a_new_version_that_becomes_current_is_a_move),
        cmocka_unit_test(test_a_move_is_behind_the_move_before_it),
        cmocka_unit_test(test_wrong_moves_are_refused),
        cmocka_unit_test(test_a_repeated_move_gets_the_first_reply),
        cmocka_unit_test(test_current_is_told_as_it_was),
        cmocka_unit_test(test_one_of_sixteen_movers_wins_each_version),
        cmocka_unit_test(test_a_version_is_read),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
