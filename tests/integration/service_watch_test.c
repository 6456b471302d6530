/* WatchPrompts over TLS with two servers on one database: what a watcher at one of them is told of changes at the other, and that its token
 * outlives the server that made it. */
#include "support/world.h"

#include "wire/clock.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CHANGES = 9, WAIT_MS = 20000, TOKEN_SIZE = 2048 };
#define TEXT(text) ((char *)(uintptr_t)(text)) /* protobuf-c has char * for what it only reads */

static struct world world;
static struct forge_channel *here, *there; /* a server each */
static struct forge_error error;

static int open_world(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    here = world_channel(&world, 0, world.home.session_token);
    there = world_channel(&world, 1, world.home.session_token);
    return 0;
}

static int close_world(void **state)
{
    forge_channel_close(here);
    forge_channel_close(there);
    world_close(&world);
    return 0;
}

/* ---- changes ---- */

static void project_make(const char *name, char out_id[WORLD_ID_SIZE])
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    request.name = TEXT(name);
    world_check(&world, "CreateProject", forge_project_create(there, NULL, &request, &project, &error), &error);
    snprintf(out_id, WORLD_ID_SIZE, "%s", project->id);
    forge__v1__project__free_unpacked(project, NULL);
}

static void prompt_make(const char *project_id, const char *name, char out_id[WORLD_ID_SIZE])
{
    struct world_tenant tenant = world.home;
    memcpy(tenant.project_id, project_id, WORLD_ID_SIZE);
    world_create_prompt(&world, there, &tenant, name, "x", out_id);
}

static void prompt_change(const char *id, const char *description)
{
    Forge__V1__UpdatePromptRequest request = FORGE__V1__UPDATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.id = TEXT(id);
    request.description = TEXT(description);
    world_check(&world, "UpdatePrompt", forge_prompt_update(there, NULL, &request, &prompt, &error), &error);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static void prompt_delete(const char *id)
{
    Forge__V1__DeletePromptRequest request = FORGE__V1__DELETE_PROMPT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    request.id = TEXT(id);
    world_check(&world, "DeletePrompt", forge_prompt_delete(there, NULL, &request, &empty, &error), &error);
    google__protobuf__empty__free_unpacked(empty, NULL);
}

/* ---- watches ---- */

struct watcher {
    const char *project_id;
    char *prompt_ids[4];
    size_t prompt_count;
    char token[TOKEN_SIZE];
};

static forge_code watch(struct forge_channel *channel, struct watcher *watcher, int64_t wait_ms, Forge__V1__WatchPromptsResponse **out)
{
    const struct forge_call_options options = {.timeout_ms = WAIT_MS + 10000};
    Forge__V1__WatchPromptsRequest request = FORGE__V1__WATCH_PROMPTS_REQUEST__INIT;
    request.project_id = TEXT(watcher->project_id);
    request.prompt_ids = watcher->prompt_ids;
    request.n_prompt_ids = watcher->prompt_count;
    request.resume_token = watcher->token;
    request.wait_ms = wait_ms;
    forge_code rc = forge_prompt_watch(channel, &options, &request, out, &error);
    if (rc == FORGE_OK)
        snprintf(watcher->token, sizeof watcher->token, "%s", (*out)->resume_token);
    return rc;
}

static Forge__V1__WatchPromptsResponse *watched(struct forge_channel *channel, struct watcher *watcher, int64_t wait_ms)
{
    Forge__V1__WatchPromptsResponse *reply;
    world_check(&world, "WatchPrompts", watch(channel, watcher, wait_ms, &reply), &error);
    assert_true(strlen(reply->resume_token) > 0);
    return reply;
}

/* Exactly this change is told. */
static void expect_change(Forge__V1__WatchPromptsResponse *reply, const char *prompt_id, Forge__V1__PromptChangeKind kind)
{
    assert_false(reply->listing);
    assert_int_equal(reply->n_changes, 1);
    assert_string_equal(reply->changes[0]->prompt_id, prompt_id);
    assert_int_equal(reply->changes[0]->kind, kind);
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
}

static void expect_nothing(Forge__V1__WatchPromptsResponse *reply)
{
    assert_false(reply->listing);
    assert_int_equal(reply->n_changes, 0);
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
}

#define CHANGED FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_CHANGED
#define DELETED FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_DELETED

/* A call that waits at the first server while the test goes on. */
struct waiting {
    pthread_t thread;
    struct watcher *watcher;
    Forge__V1__WatchPromptsResponse *reply;
    forge_code rc;
    uint64_t answered_ms;
};

static void *wait_for_change(void *argument)
{
    struct waiting *waiting = argument;
    const struct forge_call_options options = {.timeout_ms = WAIT_MS + 10000};
    Forge__V1__WatchPromptsRequest request = FORGE__V1__WATCH_PROMPTS_REQUEST__INIT;
    struct forge_error own = {0};
    request.project_id = TEXT(waiting->watcher->project_id);
    request.resume_token = waiting->watcher->token;
    request.wait_ms = WAIT_MS;
    waiting->rc = forge_prompt_watch(here, &options, &request, &waiting->reply, &own);
    waiting->answered_ms = forge_clock_monotonic_ms();
    forge_error_free(&own);
    return NULL;
}

/* Returns when the call is parked. */
static void start_waiting(struct waiting *waiting, struct watcher *watcher)
{
    *waiting = (struct waiting){.watcher = watcher};
    assert_int_equal(pthread_create(&waiting->thread, NULL, wait_for_change, waiting), 0);
    while (world_metric(&world, 0, "forged_parked_calls") < 1)
        world_sleep_ms(1);
}

static Forge__V1__WatchPromptsResponse *end_waiting(struct waiting *waiting)
{
    pthread_join(waiting->thread, NULL);
    assert_int_equal(waiting->rc, FORGE_OK);
    snprintf(waiting->watcher->token, TOKEN_SIZE, "%s", waiting->reply->resume_token);
    return waiting->reply;
}

/* ---- tests ---- */

static void test_a_watch_begins_with_a_listing(void **state)
{
    char project_id[WORLD_ID_SIZE], ids[3][WORLD_ID_SIZE];
    project_make("listed", project_id);
    struct watcher watcher = {.project_id = project_id};
    Forge__V1__WatchPromptsResponse *reply = watched(here, &watcher, 0);
    assert_true(reply->listing);
    assert_false(reply->more);
    assert_int_equal(reply->n_changes, 0);
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "prompt %d", i);
        prompt_make(project_id, name, ids[i]);
    }
    watcher.token[0] = '\0';
    reply = watched(here, &watcher, 0);
    assert_true(reply->listing);
    assert_int_equal(reply->n_changes, 3);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(reply->changes[i]->prompt_id, ids[i]);
        assert_int_equal(reply->changes[i]->kind, CHANGED);
    }
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
    expect_nothing(watched(here, &watcher, 200)); /* the wait ends without a change */
    prompt_change(ids[1], "changed");
    expect_change(watched(here, &watcher, WAIT_MS), ids[1], CHANGED); /* made before the call: no waiting */
    prompt_delete(ids[2]);
    expect_change(watched(here, &watcher, WAIT_MS), ids[2], DELETED);
    expect_nothing(watched(here, &watcher, 200));
}

static void project_change(const char *id, const char *description)
{
    Forge__V1__UpdateProjectRequest request = FORGE__V1__UPDATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    request.id = TEXT(id);
    request.description = TEXT(description);
    world_check(&world, "UpdateProject", forge_project_update(here, NULL, &request, &project, &error), &error);
    forge__v1__project__free_unpacked(project, NULL);
}

/* A change of the project wakes its watches, and is no change of a prompt. */
static void test_a_watch_woken_for_nothing_waits_on(void **state)
{
    char project_id[WORLD_ID_SIZE], id[WORLD_ID_SIZE];
    struct waiting waiting;
    project_make("woken", project_id);
    prompt_make(project_id, "p", id);
    struct watcher watcher = {.project_id = project_id};
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &watcher, 0), NULL);
    start_waiting(&waiting, &watcher);
    project_change(project_id, "none of the prompts"); /* at the server of the watch, which is woken at once */
    prompt_change(id, "what it waits for");
    expect_change(end_waiting(&waiting), id, CHANGED);
}

static int compare_ms(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* From the reply of the write at the other server to that of the watch. */
static void test_a_change_at_the_other_server_is_told_within_a_second(void **state)
{
    char project_id[WORLD_ID_SIZE], id[WORLD_ID_SIZE];
    uint64_t took_ms[CHANGES];
    project_make("fast", project_id);
    prompt_make(project_id, "p", id);
    struct watcher watcher = {.project_id = project_id};
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &watcher, 0), NULL);
    for (int i = 0; i < CHANGES; i++) {
        struct waiting waiting;
        char description[32];
        snprintf(description, sizeof description, "change %d", i);
        start_waiting(&waiting, &watcher);
        prompt_change(id, description);
        uint64_t written_ms = forge_clock_monotonic_ms();
        expect_change(end_waiting(&waiting), id, CHANGED);
        took_ms[i] = waiting.answered_ms > written_ms ? waiting.answered_ms - written_ms : 0;
    }
    qsort(took_ms, CHANGES, sizeof took_ms[0], compare_ms);
    fprintf(stderr, "a change was told after %llu ms (median), %llu ms at most\n", (unsigned long long)took_ms[CHANGES / 2],
            (unsigned long long)took_ms[CHANGES - 1]);
    assert_true(took_ms[CHANGES / 2] < 1000);
}

static void test_only_the_prompts_asked_for_are_told(void **state)
{
    char project_id[WORLD_ID_SIZE], ids[2][WORLD_ID_SIZE];
    project_make("some", project_id);
    prompt_make(project_id, "wanted", ids[0]);
    prompt_make(project_id, "not wanted", ids[1]);
    struct watcher watcher = {.project_id = project_id, .prompt_ids = {ids[0]}, .prompt_count = 1};
    Forge__V1__WatchPromptsResponse *reply = watched(here, &watcher, 0);
    assert_int_equal(reply->n_changes, 1);
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
    prompt_change(ids[1], "nobody hears");
    expect_nothing(watched(here, &watcher, 300));
    prompt_change(ids[0], "heard");
    expect_change(watched(here, &watcher, WAIT_MS), ids[0], CHANGED);
    /* A token belongs to its project and prompts. */
    struct watcher other = {.project_id = project_id};
    snprintf(other.token, sizeof other.token, "%s", watcher.token);
    assert_int_equal(watch(here, &other, 0, &reply), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.violations->field, "resume_token");
    forge_error_free(&error);
}

static void test_the_token_outlives_its_server(void **state)
{
    char project_id[WORLD_ID_SIZE], ids[2][WORLD_ID_SIZE];
    project_make("outlived", project_id);
    prompt_make(project_id, "kept", ids[0]);
    struct watcher watcher = {.project_id = project_id};
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &watcher, 0), NULL);
    world_server_kill(&world, 0);
    prompt_make(project_id, "made meanwhile", ids[1]);
    expect_change(watched(there, &watcher, WAIT_MS), ids[1], CHANGED);
    world_server_start(&world, 0, true);
    prompt_change(ids[0], "again");
    expect_change(watched(here, &watcher, WAIT_MS), ids[0], CHANGED);
}

/* A transaction that stays open holds the floor down; what was told above it is remembered and not told again. */
static void test_an_open_transaction_does_not_repeat_changes(void **state)
{
    char project_id[WORLD_ID_SIZE], id[WORLD_ID_SIZE];
    project_make("held down", project_id);
    prompt_make(project_id, "p", id);
    struct watcher watcher = {.project_id = project_id};
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &watcher, 0), NULL);
    PGconn *held = PQconnectdb(pg_cluster_url(world.cluster, "postgres", world.database));
    PGresult *result = PQexec(held, "BEGIN; SELECT pg_current_xact_id()");
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    PQclear(result);
    for (int i = 0; i < 3; i++) {
        char description[32];
        snprintf(description, sizeof description, "change %d", i);
        prompt_change(id, description);
        expect_change(watched(here, &watcher, WAIT_MS), id, CHANGED);
        expect_nothing(watched(here, &watcher, 100));
    }
    PQfinish(held);
}

static void test_wrong_watches(void **state)
{
    char project_id[WORLD_ID_SIZE];
    Forge__V1__WatchPromptsResponse *reply;
    project_make("wrong", project_id);
    struct watcher watcher = {.project_id = "x", .prompt_ids = {TEXT("y")}, .prompt_count = 1};
    snprintf(watcher.token, sizeof watcher.token, "not a token");
    assert_int_equal(watch(here, &watcher, 300001, &reply), FORGE_INVALID_ARGUMENT);
    static const char *const fields[] = {"project_id", "prompt_ids[0]", "resume_token", "wait_ms"};
    const struct forge_violation *violation = error.violations;
    for (size_t i = 0; i < 4; i++, violation = violation->next)
        assert_string_equal(violation->field, fields[i]);
    forge_error_free(&error);
    struct watcher foreign = {.project_id = project_id};
    struct forge_channel *stranger = world_channel(&world, 0, world.foreign.session_token);
    assert_int_equal(watch(stranger, &foreign, 0, &reply), FORGE_NOT_FOUND);
    forge_error_free(&error);
    /* Nor does a token of this organization open anything there. */
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &foreign, 0), NULL);
    assert_int_equal(watch(stranger, &foreign, 0, &reply), FORGE_INVALID_ARGUMENT);
    forge_error_free(&error);
    forge_channel_close(stranger);
}

static void test_a_deleted_project_ends_its_watches(void **state)
{
    char project_id[WORLD_ID_SIZE];
    struct waiting waiting;
    Forge__V1__DeleteProjectRequest request = FORGE__V1__DELETE_PROJECT_REQUEST__INIT;
    Google__Protobuf__Empty *empty;
    project_make("short-lived", project_id);
    struct watcher watcher = {.project_id = project_id};
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &watcher, 0), NULL);
    start_waiting(&waiting, &watcher);
    request.id = project_id;
    request.confirm_name = TEXT("short-lived");
    world_check(&world, "DeleteProject", forge_project_delete(there, NULL, &request, &empty, &error), &error);
    google__protobuf__empty__free_unpacked(empty, NULL);
    pthread_join(waiting.thread, NULL);
    assert_int_equal(waiting.rc, FORGE_NOT_FOUND);
}

/* A draining server answers at once, with the same place to go on from. */
static void test_a_draining_server_lets_watches_go(void **state)
{
    char project_id[WORLD_ID_SIZE], id[WORLD_ID_SIZE];
    struct waiting waiting;
    project_make("drained", project_id);
    prompt_make(project_id, "p", id);
    struct watcher watcher = {.project_id = project_id};
    forge__v1__watch_prompts_response__free_unpacked(watched(here, &watcher, 0), NULL);
    start_waiting(&waiting, &watcher);
    world_server_stop(&world, 0);
    expect_nothing(end_waiting(&waiting));
    prompt_change(id, "after the drain");
    expect_change(watched(there, &watcher, WAIT_MS), id, CHANGED);
    world_server_start(&world, 0, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_watch_begins_with_a_listing),
        cmocka_unit_test(test_a_watch_woken_for_nothing_waits_on),
        cmocka_unit_test(test_a_change_at_the_other_server_is_told_within_a_second),
        cmocka_unit_test(test_only_the_prompts_asked_for_are_told),
        cmocka_unit_test(test_the_token_outlives_its_server),
        cmocka_unit_test(test_an_open_transaction_does_not_repeat_changes),
        cmocka_unit_test(test_wrong_watches),
        cmocka_unit_test(test_a_deleted_project_ends_its_watches),
        cmocka_unit_test(test_a_draining_server_lets_watches_go),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
