/* Fault 4: each write is sent one to five times at once, over two servers on one database. It has exactly one effect, every copy gets the
 * same reply, and the same request_id with another body is refused. */
#include "writes.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SENDERS = 8, COPIES_MAX = 5, PROMPTS = 8, CALL_MS = 30000, OTHER_EVERY = 10 };

static struct world world;
static struct forge_channel *channels[2];
static char prompts[PROMPTS][WORLD_ID_SIZE];

/* What the copies of one write were answered. */
struct answers {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    unsigned count;
    uint8_t *replies[COPIES_MAX]; /* NULL: the call failed */
    size_t sizes[COPIES_MAX];
};

struct sender {
    pthread_t thread;
    unsigned number;
    long goal, versions, keys, copies;
    long different; /* replies that are not those of the other copies, and failed calls */
    long accepted;  /* other bodies under a known request_id that were not refused */
};

static void on_done(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                    const struct forge_reply_info *info)
{
    struct answers *answers = user;
    size_t size = 0;
    if (code != FORGE_OK)
        fprintf(stderr, "%s: %s\n", forge_code_name(code), error->message);
    uint8_t *packed = reply ? fault_reply_pack(reply, &size) : NULL;
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    pthread_mutex_lock(&answers->lock);
    answers->replies[answers->count] = packed;
    answers->sizes[answers->count++] = size;
    pthread_cond_signal(&answers->arrived);
    pthread_mutex_unlock(&answers->lock);
}

/* Sends the copies, every other one to the other server, and waits for all answers. Answers that are not like the first. */
static long send_copies(const struct fault_write *write, unsigned copies, unsigned first_server)
{
    struct answers answers = {.lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER};
    long different = 0;
    for (unsigned i = 0; i < copies; i++) {
        struct forge_error error;
        forge_code code = fault_write_start(channels[(first_server + i) % 2], write, CALL_MS, on_done, &answers, &error);
        if (code != FORGE_OK)
            on_done(&answers, code, NULL, &error, NULL);
    }
    pthread_mutex_lock(&answers.lock);
    while (answers.count < copies)
        pthread_cond_wait(&answers.arrived, &answers.lock);
    pthread_mutex_unlock(&answers.lock);
    for (unsigned i = 0; i < copies; i++)
        different += !answers.replies[i] || !answers.replies[0] || answers.sizes[i] != answers.sizes[0] ||
                     memcmp(answers.replies[i], answers.replies[0], answers.sizes[0]) != 0;
    for (unsigned i = 0; i < copies; i++)
        free(answers.replies[i]);
    return different;
}

static bool other_body_is_refused(const struct fault_write *write, unsigned server)
{
    struct forge_error error;
    forge_code code = fault_write_send_other(channels[server], write, CALL_MS, &error);
    bool refused = code == FORGE_INVALID_ARGUMENT && strstr(error.message, "request_id was used before with another request");
    if (!refused)
        fprintf(stderr, "another body: %s: %s\n", forge_code_name(code), error.message);
    forge_error_free(&error);
    return refused;
}

static void *sender_main(void *argument)
{
    struct sender *sender = argument;
    for (long turn = 0; turn < sender->goal; turn++) {
        struct fault_write write;
        bool is_key = (turn + sender->number) % 2;
        unsigned copies = 1 + (unsigned)(turn * 7 + sender->number) % COPIES_MAX;
        fault_write_init(&write, is_key ? FAULT_WRITE_KEY : FAULT_WRITE_VERSION, prompts[(turn + sender->number) % PROMPTS]);
        sender->different += send_copies(&write, copies, (unsigned)turn % 2);
        sender->copies += copies;
        sender->keys += is_key;
        sender->versions += !is_key;
        if (turn % OTHER_EVERY == 0)
            sender->accepted += !other_body_is_refused(&write, (unsigned)turn / OTHER_EVERY % 2);
    }
    return NULL;
}

static void test_every_write_has_one_effect_and_one_reply(void **state)
{
    static struct sender senders[SENDERS];
    struct sender sum = {0};
    long goal = fault_is_full() ? 50000 : 5000;
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.number = i, .goal = goal / SENDERS};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]), 0);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
        sum.versions += senders[i].versions;
        sum.keys += senders[i].keys;
        sum.copies += senders[i].copies;
        sum.different += senders[i].different;
        sum.accepted += senders[i].accepted;
    }
    struct fault_count count = fault_count(&world, sum.versions, sum.keys);
    long leaked = fault_open_transactions(&world) + !world_is_at_rest(&world, 0, 5000) + !world_is_at_rest(&world, 1, 5000);
    fprintf(stderr, "%ld versions and %ld keys in %ld copies; %ld answers different, %ld other bodies accepted\n", sum.versions, sum.keys,
            sum.copies, sum.different, sum.accepted);
    count.duplicated += sum.different + sum.accepted;
    bool ok = count.lost == 0 && count.duplicated == 0 && leaked == 0;
    fault_report("4", "each write sent 1 to 5 times at once over two servers", sum.versions + sum.keys, count, leaked,
                 "one effect and one reply each, another body refused", ok);
    assert_true(ok);
}

static int set_up(void **state)
{
    const struct world_options options = {.servers = 2};
    world_open(&world, &options);
    for (unsigned i = 0; i < 2; i++)
        channels[i] = world_channel(&world, i, world.home.session_token);
    for (int i = 0; i < PROMPTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "written %d", i);
        world_create_prompt(&world, channels[0], &world.home, name, "first version", prompts[i]);
    }
    return 0;
}

static int tear_down(void **state)
{
    for (unsigned i = 0; i < 2; i++)
        forge_channel_close(channels[i]);
    world_close(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_write_has_one_effect_and_one_reply)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
