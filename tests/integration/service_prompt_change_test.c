/* PromptService over TLS: UpdatePrompt, DeletePrompt, GetPromptVersion, SetCurrentVersion. */
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

enum { MOVERS = 8, MOVES_EACH = 25 };

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

/* A prompt of alpha with this many versions, the first one current. */
static void prompt_make(const char *name, int versions, char out_id[37])
{
    service_prompt_make(alpha.admin, alpha.project_id, name, "version 1", out_id);
    for (int i = 2; i <= versions; i++) {
        Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
        Forge__V1__PromptVersion *version;
        char content[32];
        snprintf(content, sizeof content, "version %d", i);
        request.prompt_id = out_id;
        request.content = content;
        service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
        forge__v1__prompt_version__free_unpacked(version, NULL);
    }
}

static forge_code get(const char *id, Forge__V1__Prompt **out)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.id = TEXT(id);
    return forge_prompt_get(alpha.admin, NULL, &request, out, &service_error);
}

static int64_t __attribute__((format(printf, 1, 2))) number(const char *format, ...)
{
    char sql[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    return strtoll(service_query(sql), NULL, 10);
}

/* ---- UpdatePrompt ---- */

static Forge__V1__UpdatePromptRequest update_of(const char *id)
{
    Forge__V1__UpdatePromptRequest request = FORGE__V1__UPDATE_PROMPT_REQUEST__INIT;
    request.id = TEXT(id);
    return request;
}

static forge_code update(struct forge_channel *channel, const Forge__V1__UpdatePromptRequest *request, Forge__V1__Prompt **out)
{
    return forge_prompt_update(channel, NULL, request, out, &service_error);
}

static void updated(const Forge__V1__UpdatePromptRequest *request, const char *name, const char *description, const char *etag)
{
    Forge__V1__Prompt *prompt;
    service_ok(update(alpha.admin, request, &prompt));
    assert_string_equal(prompt->name, name);
    assert_string_equal(prompt->description, description);
    assert_string_equal(prompt->etag, etag);
    assert_string_equal(prompt->content, "version 1");
    assert_non_null(prompt->update_time);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_an_update_changes_what_the_mask_names(void **state)
{
    char id[37];
    char *description_path[] = {TEXT("description")}, *all[] = {TEXT("*")};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    prompt_make("masked", 2, id);
    Forge__V1__UpdatePromptRequest request = update_of(id);
    request.name = TEXT("masked again");
    updated(&request, "masked again", "", "2");
    request = update_of(id);
    request.description = TEXT("what it is for");
    request.etag = TEXT("2");
    updated(&request, "masked again", "what it is for", "3");
    request = update_of(id);
    request.update_mask = &mask;
    mask.n_paths = 1;
    mask.paths = description_path;
    request.name = TEXT("not named");
    updated(&request, "masked again", "", "4"); /* named and empty: taken away */
    mask.paths = all;
    request.name = TEXT("masked by all");
    request.description = TEXT("all");
    updated(&request, "masked by all", "all", "5");
    assert_int_equal(number("SELECT count(*) FROM changes WHERE kind = 'prompt' AND object_id = '%s'", id), 6);
    assert_int_equal(number("SELECT count(*) FROM prompt_versions WHERE prompt_id = '%s'", id), 2);
}

static void test_wrong_updates_change_nothing(void **state)
{
    char id[37], other[37];
    char *paths[] = {TEXT("content"), service_repeat("\u4e00", 30)}; /* only so many bytes of a path are told, between its letters */
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    Forge__V1__Prompt *prompt;
    prompt_make("wrong", 1, id);
    prompt_make("taken", 1, other);
    Forge__V1__UpdatePromptRequest request = update_of("x");
    mask.n_paths = 2;
    mask.paths = paths;
    request.update_mask = &mask;
    request.etag = service_repeat("1", 65);
    service_violates(update(alpha.admin, &request, &prompt), "id", "must be a UUID", "update_mask", "\"content\" is not a field",
                     "update_mask", "\"\u4e00", "etag", "64 bytes");
    request = update_of(id);
    request.name = TEXT("a\nb");
    request.description = service_repeat("x", 4097);
    service_violates(update(alpha.admin, &request, &prompt), "name", "1 to 255", "description", "4096");
    request = update_of(id);
    request.name = TEXT("taken");
    service_fails(update(alpha.admin, &request, &prompt), FORGE_ALREADY_EXISTS, "a prompt named \"taken\" exists already");
    request.name = TEXT("right");
    request.etag = TEXT("7");
    service_fails(update(alpha.admin, &request, &prompt), FORGE_ABORTED, "has changed since this etag was read");
    service_fails(update(beta.admin, &request, &prompt), FORGE_NOT_FOUND, "not found");
    service_fails(update(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), &request, &prompt), FORGE_PERMISSION_DENIED,
                  "developer");
    service_ok(get(id, &prompt));
    assert_string_equal(prompt->name, "wrong");
    assert_string_equal(prompt->etag, "1");
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

/* ---- replays ---- */

static void test_repeated_writes_get_the_stored_reply(void **state)
{
    char id[37], request_id[37];
    const struct forge_call_options options = {.request_id = request_id};
    Forge__V1__Prompt *first, *again;
    prompt_make("replayed", 2, id);
    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    Forge__V1__UpdatePromptRequest request = update_of(id);
    request.description = TEXT("once");
    service_ok(forge_prompt_update(alpha.admin, &options, &request, &first, &service_error));
    service_ok(forge_prompt_update(alpha.admin, &options, &request, &again, &service_error));
    assert_string_equal(first->etag, "2");
    assert_string_equal(again->etag, "2");
    forge__v1__prompt__free_unpacked(first, NULL);
    forge__v1__prompt__free_unpacked(again, NULL);
    request.description = TEXT("twice");
    service_fails(forge_prompt_update(alpha.admin, &options, &request, &first, &service_error), FORGE_INVALID_ARGUMENT,
                  "request_id was used before with another request");

    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    Forge__V1__SetCurrentVersionRequest move = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    move.prompt_id = id;
    move.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
    move.version = 2;
    move.expected_version = 1; /* true once only: a replay is not judged again */
    for (int time = 0; time < 2; time++) {
        service_ok(forge_prompt_set_current_version(alpha.admin, &options, &move, &first, &service_error));
        assert_int_equal(first->current_version, 2);
        forge__v1__prompt__free_unpacked(first, NULL);
    }

    snprintf(request_id, sizeof request_id, "%s", service_request_id());
    Forge__V1__DeletePromptRequest delete = FORGE__V1__DELETE_PROMPT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    delete.id = id;
    for (int time = 0; time < 2; time++) {
        service_ok(forge_prompt_delete(alpha.admin, &options, &delete, &empty, &service_error));
        google__protobuf__empty__free_unpacked(empty, NULL);
    }
}

/* ---- DeletePrompt ---- */

static forge_code delete_prompt(struct forge_channel *channel, const char *id, const char *etag)
{
    Forge__V1__DeletePromptRequest request = FORGE__V1__DELETE_PROMPT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = TEXT(id);
    request.etag = TEXT(etag);
    forge_code rc = forge_prompt_delete(channel, NULL, &request, &empty, &service_error);
    if (rc == FORGE_OK)
        google__protobuf__empty__free_unpacked(empty, NULL);
    return rc;
}

static void test_a_deleted_prompt_is_gone_with_what_belongs_to_it(void **state)
{
    char id[37], sql[512];
    Forge__V1__Prompt *prompt;
    prompt_make("deleted", 3, id);
    snprintf(sql, sizeof sql,
             "INSERT INTO executions (organization_id, prompt_id, version) SELECT organization_id, id, 1 FROM prompts WHERE id = '%s'", id);
    service_execute(sql);
    service_fails(delete_prompt(alpha.admin, id, "9"), FORGE_ABORTED, "has changed since this etag was read");
    service_fails(delete_prompt(beta.admin, id, ""), FORGE_NOT_FOUND, "not found");
    service_fails(delete_prompt(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), id, ""), FORGE_PERMISSION_DENIED,
                  "developer");
    service_violates(delete_prompt(alpha.admin, "x", ""), "id", "must be a UUID");
    service_ok(delete_prompt(alpha.admin, id, "1"));
    service_fails(get(id, &prompt), FORGE_NOT_FOUND, "not found");
    service_fails(delete_prompt(alpha.admin, id, ""), FORGE_NOT_FOUND, "not found");
    assert_int_equal(number("SELECT count(*) FROM prompt_versions WHERE prompt_id = '%s'", id), 0);
    assert_int_equal(number("SELECT count(*) FROM executions WHERE prompt_id = '%s'", id), 0);
    assert_int_equal(number("SELECT count(*) FROM label_history WHERE prompt_id = '%s'", id), 0);
    assert_int_equal(number("SELECT count(*) FROM changes WHERE kind = 'prompt_delete' AND object_id = '%s'", id), 1);
    prompt_make("deleted", 1, id); /* the name is free again */
}

static void test_a_prompt_in_use_stays(void **state)
{
    char id[37], user[37], sql[1024];
    prompt_make("referred to", 1, id);
    prompt_make("refers", 1, user);
    snprintf(sql, sizeof sql,
             "INSERT INTO prompt_references (organization_id, prompt_id, version, position, referenced_prompt_id) SELECT organization_id,"
             " '%s', 1, 0, id FROM prompts WHERE id = '%s'",
             user, id);
    service_execute(sql);
    service_fails(delete_prompt(alpha.admin, id, ""), FORGE_FAILED_PRECONDITION, "another prompt refers to this one");
    snprintf(sql, sizeof sql,
             "INSERT INTO evaluations (organization_id, id, project_id, name, prompt_id, prompt_version, prompt_content_hash,"
             " dataset_version, dataset_content_hash, evaluators, expected_result_count, created_by) SELECT organization_id,"
             " gen_random_uuid(), project_id, 'e', id, 1, '\\x00', 1, '\\x00', '[]', 1, id FROM prompts WHERE id = '%s'",
             user);
    service_execute(sql);
    service_fails(delete_prompt(alpha.admin, user, ""), FORGE_FAILED_PRECONDITION, "a running evaluation uses this prompt");
    service_execute("UPDATE evaluations SET state = 'completed'");
    service_ok(delete_prompt(alpha.admin, user, ""));
    /* The completed evaluation keeps the number of the version; nothing refers to the other prompt any more. */
    assert_string_equal(service_query("SELECT prompt_version FROM evaluations WHERE prompt_id IS NULL"), "1");
    service_ok(delete_prompt(alpha.admin, id, ""));
}

static void test_a_protected_label_asks_for_an_admin(void **state)
{
    char id[37], sql[1024];
    prompt_make("protected", 1, id);
    snprintf(sql, sizeof sql,
             "INSERT INTO labels (organization_id, project_id, prompt_id, name, updated_by) SELECT organization_id, project_id, id,"
             " 'production', id FROM prompts WHERE id = '%s'; INSERT INTO label_gates (organization_id, id, project_id, label, protected, "
             "updated_by) SELECT"
             " organization_id, gen_random_uuid(), project_id, 'production', true, id FROM prompts WHERE id = '%s'",
             id, id);
    service_execute(sql);
    service_fails(delete_prompt(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), id, ""), FORGE_PERMISSION_DENIED,
                  "protected label: role admin is required");
    service_ok(delete_prompt(alpha.admin, id, ""));
    service_execute("DELETE FROM label_gates");
}

/* ---- GetPromptVersion ---- */

static forge_code get_version(struct forge_channel *channel, const char *id, int version, Forge__V1__PromptVersion **out)
{
    Forge__V1__GetPromptVersionRequest request = FORGE__V1__GET_PROMPT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT(id);
    request.version = version;
    return forge_prompt_get_version(channel, NULL, &request, out, &service_error);
}

static void test_one_version(void **state)
{
    char id[37];
    Forge__V1__PromptVersion *version;
    prompt_make("versions", 2, id);
    service_ok(get_version(alpha.admin, id, 2, &version));
    assert_string_equal(version->content, "version 2");
    assert_string_equal(version->prompt_id, id);
    assert_int_equal(version->version, 2);
    assert_false(version->current);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    service_ok(get_version(alpha.admin, id, 1, &version));
    assert_true(version->current);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    service_violates(get_version(alpha.admin, "x", 0, &version), "prompt_id", "must be a UUID", "version", "1 or more");
    service_fails(get_version(alpha.admin, id, 3, &version), FORGE_NOT_FOUND, "the prompt has no version 3");
    service_fails(get_version(alpha.admin, nobody_has, 1, &version), FORGE_NOT_FOUND,
                  "prompt 01890000-0000-7000-8000-000000000000 not found");
    service_fails(get_version(beta.admin, id, 1, &version), FORGE_NOT_FOUND, "not found");
    service_fails(get_version(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_INGEST, NULL), id, 1, &version), FORGE_PERMISSION_DENIED,
                  "viewer");
}

/* ---- SetCurrentVersion ---- */

/* version 0: previous. */
static forge_code move(struct forge_channel *channel, const char *id, int version, int expected, Forge__V1__Prompt **out)
{
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT(id);
    request.expected_version = expected;
    request.target_case =
        version > 0 ? FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION : FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_PREVIOUS;
    if (version > 0)
        request.version = version;
    else
        request.previous = true;
    request.message = TEXT("moved");
    return forge_prompt_set_current_version(channel, NULL, &request, out, &service_error);
}

static void moved(const char *id, int version, int expected, int current)
{
    Forge__V1__Prompt *prompt;
    service_ok(move(alpha.admin, id, version, expected, &prompt));
    assert_int_equal(prompt->current_version, current);
    assert_int_equal(prompt->version, current);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void test_current_moves_and_rolls_back(void **state)
{
    char id[37];
    Forge__V1__Prompt *prompt;
    prompt_make("moved", 3, id);
    service_fails(move(alpha.admin, id, 0, 0, &prompt), FORGE_FAILED_PRECONDITION, "no version was current before version 1");
    moved(id, 3, 1, 3);
    moved(id, 3, 3, 3); /* it is already: nothing moves */
    moved(id, 2, 0, 2);
    moved(id, 0, 0, 3); /* back */
    moved(id, 0, 3, 2); /* and forth */
    service_fails(move(alpha.admin, id, 1, 3, &prompt), FORGE_ABORTED, "version 2 is current, not 3");
    service_fails(move(alpha.admin, id, 4, 0, &prompt), FORGE_NOT_FOUND, "the prompt has no version 4");
    assert_int_equal(number("SELECT current_version FROM prompts WHERE id = '%s'", id), 2);
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT string_agg(COALESCE(old_targets -> 0 ->> 'version', '-') || '>' || (new_targets -> 0 ->> 'version'), ' ' ORDER BY"
             " moved_at) FROM label_history WHERE prompt_id = '%s' AND label = 'current'",
             id);
    assert_string_equal(service_query(sql), "->1 1>3 3>2 2>3 3>2");
}

static void test_wrong_moves(void **state)
{
    char id[37];
    Forge__V1__Prompt *prompt;
    prompt_make("not moved", 2, id);
    Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.prompt_id = TEXT("x");
    request.expected_version = -1;
    request.message = service_repeat("x", 1025);
    service_violates(forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &service_error), "prompt_id", "must be a UUID",
                     "version", "exactly one", "expected_version", "0 or more", "message", "1024");
    request = (Forge__V1__SetCurrentVersionRequest)FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
    request.prompt_id = id;
    request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_PREVIOUS;
    service_violates(forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &service_error), "previous", "must be true");
    service_fails(move(alpha.admin, nobody_has, 1, 0, &prompt), FORGE_NOT_FOUND, "not found");
    service_fails(move(beta.admin, id, 2, 0, &prompt), FORGE_NOT_FOUND, "not found");
    service_fails(move(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, NULL), id, 2, 0, &prompt), FORGE_PERMISSION_DENIED,
                  "developer");
    assert_int_equal(number("SELECT current_version FROM prompts WHERE id = '%s'", id), 1);
}

/* CreatePromptVersion with make_current is such a move too. */
static void test_a_version_that_is_made_current_can_be_rolled_back(void **state)
{
    char id[37];
    Forge__V1__CreatePromptVersionRequest request = FORGE__V1__CREATE_PROMPT_VERSION_REQUEST__INIT;
    Forge__V1__PromptVersion *version;
    prompt_make("made current", 1, id);
    request.prompt_id = id;
    request.content = TEXT("version 2");
    request.make_current = true;
    service_ok(forge_prompt_create_version(alpha.admin, NULL, &request, &version, &service_error));
    assert_true(version->current);
    forge__v1__prompt_version__free_unpacked(version, NULL);
    moved(id, 0, 2, 1);
}

static char contended[37];
static int wins[MOVERS];

/* Moves from what it has read to the other version; only a move whose expectation holds may succeed. */
static void *mover(void *argument)
{
    int *won = argument;
    for (int i = 0; i < MOVES_EACH; i++) {
        struct forge_error error = {0};
        Forge__V1__SetCurrentVersionRequest request = FORGE__V1__SET_CURRENT_VERSION_REQUEST__INIT;
        Forge__V1__Prompt *prompt;
        int expected = 1 + (i % 2);
        request.prompt_id = contended;
        request.target_case = FORGE__V1__SET_CURRENT_VERSION_REQUEST__TARGET_VERSION;
        request.version = 3 - expected;
        request.expected_version = expected;
        forge_code rc = forge_prompt_set_current_version(alpha.admin, NULL, &request, &prompt, &error);
        if (rc == FORGE_OK) {
            ++*won;
            forge__v1__prompt__free_unpacked(prompt, NULL);
        } else if (rc != FORGE_ABORTED) {
            *won = -10000;
        }
        forge_error_free(&error);
    }
    return NULL;
}

/* The history holds each move that was acknowledged and they fit together: no move was lost under another. */
static void test_moves_compare_and_set_under_contention(void **state)
{
    pthread_t threads[MOVERS];
    int sum = 0;
    prompt_make("contended", 2, contended);
    for (int i = 0; i < MOVERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, mover, &wins[i]), 0);
    for (int i = 0; i < MOVERS; i++) {
        pthread_join(threads[i], NULL);
        sum += wins[i];
    }
    assert_true(sum > 0);
    assert_int_equal(number("SELECT count(*) - 1 FROM label_history WHERE prompt_id = '%s'", contended), sum);
    assert_int_equal(
        number("SELECT count(*) FROM (SELECT old_targets, lag(new_targets) OVER (ORDER BY moved_at) AS before FROM label_history"
               " WHERE prompt_id = '%s') h WHERE before IS NOT NULL AND before <> old_targets",
               contended),
        0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_update_changes_what_the_mask_names),
        cmocka_unit_test(test_wrong_updates_change_nothing),
        cmocka_unit_test(test_repeated_writes_get_the_stored_reply),
        cmocka_unit_test(test_a_deleted_prompt_is_gone_with_what_belongs_to_it),
        cmocka_unit_test(test_a_prompt_in_use_stays),
        cmocka_unit_test(test_a_protected_label_asks_for_an_admin),
        cmocka_unit_test(test_one_version),
        cmocka_unit_test(test_current_moves_and_rolls_back),
        cmocka_unit_test(test_wrong_moves),
        cmocka_unit_test(test_a_version_that_is_made_current_can_be_rolled_back),
        cmocka_unit_test(test_moves_compare_and_set_under_contention),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
