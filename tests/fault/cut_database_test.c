/* Fault 3: the connection between forged and PostgreSQL is cut at every message of a write, in both directions, above all after COMMIT has
 * been sent; and forged is stopped in the middle of a write. Each write ends OK under its request_id and has one effect. */
#include "writes.h"

#include "wire/clock.h"
#include "wire/uuid.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    MEASURED = 5,
    CALL_MS = 5000,
    COMMIT_MESSAGES = 4,
    COMMIT_REPEATS = 8,
    LOCKS_GONE_MS = 15000,
    STOPS_MAX = 10,
    HOLD_LATENCY_MS = 20 /* each of about 15 replies */
};

static struct world world;
static struct forge_channel *channel;
static long versions, keys, tried, cuts, wrong, replays;

/* The reply says what is in the database. */
static bool reply_is_true(const struct fault_write *write, const ProtobufCMessage *reply)
{
    if (write->kind == FAULT_WRITE_VERSION) {
        const Forge__V1__PromptVersion *version = (const Forge__V1__PromptVersion *)reply;
        return world_number(&world, "SELECT count(*) FROM prompt_versions WHERE content = 'write %s' AND version = %d", write->request_id,
                            version->version) == 1;
    }
    const Forge__V1__ApiKey *key = (const Forge__V1__ApiKey *)reply;
    return key->token[0] != '\0' &&
           world_number(&world, "SELECT count(*) FROM api_keys WHERE name = 'write %s' AND id = '%s'", write->request_id, key->id) == 1;
}

static void take_reply(const struct fault_write *write, forge_code code, ProtobufCMessage *reply, const struct forge_reply_info *info,
                       struct forge_error *error)
{
    tried++;
    if (code != FORGE_OK) {
        fprintf(stderr, "write %s: %s: %s\n", write->request_id, forge_code_name(code), error->message);
        forge_error_free(error);
        wrong++;
        return;
    }
    versions += write->kind == FAULT_WRITE_VERSION;
    keys += write->kind == FAULT_WRITE_KEY;
    replays += info->replayed;
    if (!reply_is_true(write, reply)) {
        fprintf(stderr, "write %s: the reply is not what is in the database\n", write->request_id);
        wrong++;
    }
    protobuf_c_message_free_unpacked(reply, NULL);
}

/* One write to its end. */
static void write_through(enum fault_write_kind kind)
{
    struct fault_write write;
    struct forge_error error;
    struct forge_reply_info info;
    ProtobufCMessage *reply = NULL;
    fault_write_init(&write, kind, world.home.prompt_id);
    uint64_t give_up_ms = forge_clock_monotonic_ms() + (uint64_t)4 * CALL_MS * fault_time_factor();
    forge_code code = fault_write_finish(channel, &write, CALL_MS * fault_time_factor(), give_up_ms, &reply, &info, &error);
    take_reply(&write, code, reply, &info, &error);
}

/* Messages that a write takes at least: the change feed polls in between, so the least of several. */
static void measure(enum fault_write_kind kind, unsigned out_messages[FAULT_DIRECTIONS])
{
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++)
        out_messages[direction] = 1000;
    for (int i = 0; i < MEASURED; i++) {
        fault_proxy_disarm(world.database_proxy);
        write_through(kind);
        for (int direction = 0; direction < FAULT_DIRECTIONS; direction++) {
            unsigned count = fault_proxy_messages(world.database_proxy, (enum fault_direction)direction);
            if (count < out_messages[direction])
                out_messages[direction] = count;
        }
    }
}

static void cut_after(enum fault_write_kind kind, enum fault_direction direction, unsigned message)
{
    assert_true(world_wait_ready(&world, 0, 5000 * fault_time_factor()));
    fault_proxy_cut_after_messages(world.database_proxy, direction, message);
    write_through(kind);
    cuts += fault_proxy_has_cut(world.database_proxy);
    fault_proxy_disarm(world.database_proxy);
}

static void cut_everywhere(enum fault_write_kind kind)
{
    unsigned messages[FAULT_DIRECTIONS];
    measure(kind, messages);
    fprintf(stderr, "kind %d: %u messages to PostgreSQL, %u back\n", kind, messages[FAULT_UPSTREAM], messages[FAULT_DOWNSTREAM]);
    assert_true(messages[FAULT_UPSTREAM] > COMMIT_MESSAGES && messages[FAULT_UPSTREAM] < 200);
    for (int direction = 0; direction < FAULT_DIRECTIONS; direction++) {
        for (unsigned message = 1; message <= messages[direction]; message++)
            cut_after(kind, (enum fault_direction)direction, message);
    }
    /* the last messages to PostgreSQL are COMMIT and Sync: from the first of them on it may have happened */
    for (unsigned repeat = 0; repeat < COMMIT_REPEATS; repeat++) {
        for (unsigned back = 0; back < COMMIT_MESSAGES; back++)
            cut_after(kind, FAULT_UPSTREAM, messages[FAULT_UPSTREAM] - back);
        cut_after(kind, FAULT_DOWNSTREAM, messages[FAULT_DOWNSTREAM]);
    }
}

static void report(const char *id, const char *what, const char *bar, bool ok)
{
    struct fault_count count = fault_count(&world, versions, keys);
    long leaked = fault_open_transactions(&world) + !world_is_at_rest(&world, 0, 5000);
    ok = ok && count.lost == 0 && count.duplicated == 0 && leaked == 0 && wrong == 0;
    fault_report(id, what, tried, count, leaked, bar, ok);
    assert_true(ok);
}

static void test_cut_at_every_message_has_one_effect(void **state)
{
    uint64_t begun_ms = forge_clock_monotonic_ms();
    cut_everywhere(FAULT_WRITE_VERSION);
    cut_everywhere(FAULT_WRITE_KEY);
    fprintf(stderr, "%ld writes, %ld cuts, %ld wrong, %ld answered from the stored reply, %ld ms\n", tried, cuts, wrong, replays,
            (long)(forge_clock_monotonic_ms() - begun_ms));
    report("3", "the connection to PostgreSQL cut at each message of a write", "each OK, one effect, 0 wrong answers",
           cuts >= tried / 2 && replays > 0);
}

/* ---- forged stopped in the middle ---- */

struct stopped_call {
    struct fault_write write;
    forge_code code;
};

static void *call_main(void *argument)
{
    struct stopped_call *call = argument;
    struct forge_error error;
    call->code = fault_write_send(channel, &call->write, 2000, NULL, NULL, &error);
    forge_error_free(&error);
    return NULL;
}

static long locks_held(void)
{
    return world_number(&world, "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'forge_app'"
                                " AND a.state = 'idle in transaction' AND l.locktype IN ('relation', 'transactionid', 'tuple')");
}

/* Replies of PostgreSQL travel slowly, then not at all, so the transaction stays open: forged is stopped in it. False when it had ended
 * before replies were held back. */
static bool stop_in_a_write(struct stopped_call *call, pthread_t *out_thread)
{
    const struct fault_settings slow = {.latency_ms = HOLD_LATENCY_MS}, stalled = {.stall = true}, normal = {0};
    uint64_t until_ms = forge_clock_monotonic_ms() + 5000 * fault_time_factor();
    fault_proxy_set(world.database_proxy, FAULT_DOWNSTREAM, &slow);
    bool created = pthread_create(out_thread, NULL, call_main, call) == 0;
    assert_true(created);
    while (locks_held() == 0 && forge_clock_monotonic_ms() < until_ms)
        world_sleep_ms(1);
    fault_proxy_set(world.database_proxy, FAULT_DOWNSTREAM, &stalled);
    world_server_pause(&world, 0);
    bool caught = locks_held() > 0;
    fault_proxy_set(world.database_proxy, FAULT_DOWNSTREAM, &normal);
    return caught;
}

/* One write, with forged stopped in its transaction; false when it could not be caught there. The write ends OK either way. */
static bool write_stopped(enum fault_write_kind kind, uint64_t *out_held_ms)
{
    struct stopped_call call;
    pthread_t thread;
    struct forge_error error;
    struct forge_reply_info info;
    ProtobufCMessage *reply = NULL;
    fault_write_init(&call.write, kind, world.home.prompt_id);
    assert_true(world_wait_ready(&world, 0, 5000 * fault_time_factor()));
    bool caught = stop_in_a_write(&call, &thread);
    uint64_t stopped_ms = forge_clock_monotonic_ms();
    while (locks_held() > 0 && forge_clock_monotonic_ms() - stopped_ms < 2 * LOCKS_GONE_MS)
        world_sleep_ms(20);
    *out_held_ms = forge_clock_monotonic_ms() - stopped_ms;
    world_server_resume(&world, 0);
    pthread_join(thread, NULL);
    uint64_t give_up_ms = forge_clock_monotonic_ms() + (uint64_t)2 * CALL_MS * fault_time_factor();
    forge_code code = fault_write_finish(channel, &call.write, CALL_MS, give_up_ms, &reply, &info, &error);
    fprintf(stderr, "stopped %s a write: locks were held %u ms longer; first answer %s, then %s\n", caught ? "in" : "behind",
            (unsigned)*out_held_ms, forge_code_name(call.code), forge_code_name(code));
    take_reply(&call.write, code, reply, &info, &error);
    return caught;
}

/* On a busy machine a transaction may be over before this program runs again: then another write is tried. */
static void check_stopped(enum fault_write_kind kind)
{
    uint64_t held_ms = 0;
    bool caught = false;
    for (int i = 0; i < STOPS_MAX && !caught; i++)
        caught = write_stopped(kind, &held_ms);
    assert_true(caught);
    assert_true(held_ms <= LOCKS_GONE_MS);
}

static void test_stopped_server_gives_up_its_locks(void **state)
{
    long before = tried;
    check_stopped(FAULT_WRITE_VERSION);
    check_stopped(FAULT_WRITE_KEY);
    tried -= before;
    report("3-stop", "forged stopped in the middle of a write", "locks gone within 15 s, one effect", true);
}

static int set_up(void **state)
{
    static const char *const flags[] = {"--change-poll-interval", "900ms", "--database-connections-kept", "1", NULL};
    const struct world_options options = {.database_proxy = true, .flags = flags};
    world_open(&world, &options);
    channel = world_channel(&world, 0, world.home.session_token);
    return 0;
}

static int tear_down(void **state)
{
    forge_channel_close(channel);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_at_every_message_has_one_effect),
        cmocka_unit_test(test_stopped_server_gives_up_its_locks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
