/* libforge against real forged processes: typed calls, exactly-once, draining and dying servers, from many threads. */
#include "support/world.h"

#include "wire/uuid.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 8, CALLS = 250 };

static struct world world;

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    return 0;
}

static int tear_down(void **state)
{
    world_close(&world);
    return 0;
}

static struct forge_channel *channel_to_both(const char *token)
{
    char addresses[256];
    snprintf(addresses, sizeof addresses, "%s,%s", world_address(&world, 0), world_address(&world, 1));
    return world_channel_to(&world, addresses, token);
}

static forge_code get_greeting(struct forge_channel *channel, const struct forge_call_options *options, struct forge_error *error)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    char name[] = "greeting";
    request.project_id = world.home.project_id;
    request.name = name;
    Forge__V1__Prompt *prompt;
    forge_code code = forge_prompt_get(channel, options, &request, &prompt, error);
    if (code != FORGE_OK)
        return code;
    assert_string_equal(prompt->id, world.home.prompt_id);
    forge__v1__prompt__free_unpacked(prompt, NULL);
    return code;
}

static void test_typed_call_and_its_errors(void **state)
{
    struct forge_channel *channel = world_channel(&world, 0, world.home.read_key);
    struct forge_error error;
    world_check(&world, "get", get_greeting(channel, NULL, &error), &error);
    Forge__V1__CreateProjectRequest create = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project = NULL;
    assert_int_equal(forge_project_create(channel, NULL, &create, &project, &error), FORGE_PERMISSION_DENIED);
    assert_true(error.not_executed);
    assert_null(project);
    forge_error_free(&error);
    assert_int_equal(forge_channel_set_token(channel, world.home.write_key, &error), FORGE_OK);
    assert_int_equal(forge_project_create(channel, NULL, &create, &project, &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(error.violation_count, 1);
    assert_string_equal(error.violations->field, "name");
    forge_error_free(&error);
    forge_channel_close(channel);
}

static void test_same_request_id_has_one_effect(void **state)
{
    struct forge_channel *channel = channel_to_both(world.home.write_key);
    Forge__V1__CreateProjectRequest create = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    char name[] = "made once", id[37] = "", request_id[37];
    struct forge_uuid uuid;
    forge_uuid_v7(&uuid);
    forge_uuid_format(&uuid, request_id);
    create.name = name;
    const struct forge_call_options options = {.request_id = request_id};
    for (int i = 0; i < 6; i++) {
        ProtobufCMessage *reply;
        struct forge_reply_info info;
        struct forge_error error;
        forge_code code = forge_channel_call_with_info(channel, &forge_methods[FORGE_METHOD_PROJECT_CREATE], &options, &create.base, &reply,
                                                       &info, &error);
        world_check(&world, "create", code, &error);
        const char *made = ((const Forge__V1__Project *)reply)->id;
        assert_int_equal(info.replayed, i > 0);
        assert_string_equal(info.request_id, request_id);
        if (i)
            assert_string_equal(made, id);
        snprintf(id, sizeof id, "%s", made);
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    forge_channel_close(channel);
}

/* A message over 16 KiB needs the limit that a verified credential brings: the library waits for it. */
static void test_large_request_as_the_first_call(void **state)
{
    struct forge_channel *channel = world_channel(&world, 0, world.home.write_key);
    Forge__V1__CreatePromptRequest create = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    char name[] = "large";
    create.project_id = world.home.project_id;
    create.name = name;
    create.content = malloc(500001);
    memset(create.content, 'x', 500000);
    create.content[500000] = '\0';
    Forge__V1__Prompt *prompt;
    struct forge_error error;
    world_check(&world, "create", forge_prompt_create(channel, NULL, &create, &prompt, &error), &error);
    assert_int_equal(strlen(prompt->content), 500000);
    forge__v1__prompt__free_unpacked(prompt, NULL);
    free(create.content);
    forge_channel_close(channel);
}

struct caller {
    struct forge_channel *channel;
    atomic_uint *done;
    unsigned failures;
    char message[256];
};

static void *call_often(void *argument)
{
    struct caller *caller = argument;
    const struct forge_call_options options = {.timeout_ms = 20000};
    for (int i = 0; i < CALLS; i++) {
        struct forge_error error;
        forge_code code = get_greeting(caller->channel, &options, &error);
        atomic_fetch_add(caller->done, 1);
        if (code == FORGE_OK)
            continue;
        caller->failures++;
        snprintf(caller->message, sizeof caller->message, "%s: %.200s", forge_code_name(code), error.message);
        forge_error_free(&error);
    }
    return NULL;
}

/* Threads read through both servers while disturb does something to the first one; no call may fail. */
static void read_while(void (*disturb)(void))
{
    struct forge_channel *channel = channel_to_both(world.home.read_key);
    struct caller callers[THREADS];
    pthread_t threads[THREADS];
    atomic_uint done = 0;
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (struct caller){.channel = channel, .done = &done};
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    while (atomic_load(&done) < THREADS * CALLS / 4)
        world_sleep_ms(1);
    disturb();
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (callers[i].failures)
            fail_msg("%u calls failed, the last with %s", callers[i].failures, callers[i].message);
    }
    forge_channel_close(channel);
}

static void leave_alone(void) {}

static void drain(void)
{
    world_server_stop(&world, 0);
}

static void kill_server(void)
{
    world_server_kill(&world, 0);
}

static void test_many_threads(void **state)
{
    read_while(leave_alone);
}

static void test_draining_server_fails_no_call(void **state)
{
    read_while(drain);
    world_server_start(&world, 0, true);
}

static void test_killed_server_fails_no_read(void **state)
{
    read_while(kill_server);
    world_server_start(&world, 0, true);
}

static void test_reconnects_to_a_restarted_server(void **state)
{
    struct forge_channel *channel = world_channel(&world, 0, world.home.read_key);
    const struct forge_call_options options = {.timeout_ms = 20000};
    struct forge_error error;
    world_check(&world, "before", get_greeting(channel, &options, &error), &error);
    world_server_kill(&world, 0);
    world_server_start(&world, 0, true);
    world_check(&world, "after", get_greeting(channel, &options, &error), &error);
    forge_channel_close(channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typed_call_and_its_errors),        cmocka_unit_test(test_same_request_id_has_one_effect),
        cmocka_unit_test(test_large_request_as_the_first_call),  cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_draining_server_fails_no_call),    cmocka_unit_test(test_killed_server_fails_no_read),
        cmocka_unit_test(test_reconnects_to_a_restarted_server),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
