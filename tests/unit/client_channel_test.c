/* Channels of libforge as a whole: opening, closing, threads, fork. */
#include "client_test_support.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, CALLS_PER_THREAD = 1000 };

static void expect_not_opened(const struct forge_channel_options *options, forge_code code, const char *message)
{
    struct forge_channel *channel = NULL;
    struct forge_error error;
    assert_int_equal(forge_channel_open(options, &channel, &error), code);
    if (!strstr(error.message, message))
        fail_msg("\"%s\" instead of \"%s\"", error.message, message);
    assert_null(channel);
}

static void test_channel_open_checks_its_options(void **state)
{
    char text[400];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    expect_not_opened(&(struct forge_channel_options){.addresses = NULL}, FORGE_INVALID_ARGUMENT, "at least one server");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a:0"}, FORGE_INVALID_ARGUMENT, "addresses: entry 1");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .token = ""}, FORGE_INVALID_ARGUMENT, "token must have 1 to 256");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .token = text}, FORGE_INVALID_ARGUMENT, "token must have 1 to 256");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .token = "a b"}, FORGE_INVALID_ARGUMENT, "printable ASCII");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .client_info = text}, FORGE_INVALID_ARGUMENT,
                      "client_info has more");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .client_info = "\xff"}, FORGE_INVALID_ARGUMENT, "must be UTF-8");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .default_timeout_ms = 600001}, FORGE_INVALID_ARGUMENT,
                      "default_timeout_ms is 600001, the limit is 600000");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .threads = 65}, FORGE_INVALID_ARGUMENT, "threads is 65");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .connections_per_address = 65}, FORGE_INVALID_ARGUMENT,
                      "connections_per_address is 65");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .calls_in_flight_max = (1 << 20) + 1}, FORGE_INVALID_ARGUMENT,
                      "calls_in_flight_max");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .reply_bytes_max = (size_t)1 << 33}, FORGE_INVALID_ARGUMENT,
                      "reply_bytes_max");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .ca_file = "/no/such/file.pem"}, FORGE_FAILED_PRECONDITION,
                      "/no/such/file.pem");
    expect_not_opened(&(struct forge_channel_options){.addresses = "a", .ca_file = test_tls_file("garbage.pem")}, FORGE_FAILED_PRECONDITION,
                      "garbage.pem");
    struct forge_channel *channel = NULL;
    assert_int_equal(forge_channel_open(NULL, &channel, NULL), FORGE_INVALID_ARGUMENT);
}

static void test_channel_set_token_checks_it(void **state)
{
    struct forge_channel *channel = open_channel("127.0.0.1:1");
    struct forge_error error;
    assert_int_equal(forge_channel_set_token(channel, "", &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_channel_set_token(channel, "a\n", &error), FORGE_INVALID_ARGUMENT);
    assert_int_equal(forge_channel_set_token(channel, "pfk_good", &error), FORGE_OK);
    assert_int_equal(forge_channel_set_token(channel, NULL, NULL), FORGE_OK);
    assert_int_equal(forge_channel_set_token(NULL, NULL, NULL), FORGE_INVALID_ARGUMENT);
    forge_channel_close(channel);
    forge_channel_close(NULL);
}

/* ---- threads ---- */

static void *call_many(void *argument)
{
    struct forge_channel *channel = argument;
    uintptr_t failures = 0;
    for (int i = 0; i < CALLS_PER_THREAD; i++)
        failures += ping(channel, NULL) != FORGE_OK;
    return (void *)failures;
}

static void call_from_threads(struct forge_channel *channel)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, channel), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failures;
        pthread_join(threads[i], &failures);
        assert_int_equal((uintptr_t)failures, 0);
    }
}

static void test_channel_serves_many_threads(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    call_from_threads(channel);
    assert_int_equal(rpc_peer_links(peer), 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_channel_with_several_loops_and_connections(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel_options options = {
        .addresses = rpc_peer_address(peer), .threads = 2, .connections_per_address = 3, .token = "pfk_x"};
    struct forge_channel *channel = open_channel_with(&options);
    call_from_threads(channel);
    assert_int_equal(rpc_peer_links(peer), 6);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- limits ---- */

struct held {
    struct counter arrived;
    struct rpc_peer_call *calls[512];
};

static void hold(struct rpc_peer_call *call, void *user)
{
    struct held *held = user;
    held->calls[counter_get(&held->arrived)] = call;
    counter_add(&held->arrived);
}

static void test_channel_refuses_calls_over_its_limit(void **state)
{
    static struct held held = {.arrived = COUNTER_INIT};
    struct rpc_peer *peer = start_peer(hold, &held);
    struct forge_channel_options options = {.addresses = rpc_peer_address(peer), .calls_in_flight_max = 2};
    struct forge_channel *channel = open_channel_with(&options);
    struct outcome outcomes[2] = {OUTCOME_INIT, OUTCOME_INIT};
    ping_async(channel, NULL, &outcomes[0]);
    ping_async(channel, NULL, &outcomes[1]);
    counter_wait(&held.arrived, 2);
    struct forge_error error;
    assert_int_equal(ping(channel, &error), FORGE_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(error.message, "2 calls are in flight"));
    rpc_peer_echo(held.calls[0]);
    rpc_peer_echo(held.calls[1]);
    counter_wait(&outcomes[0].done, 1);
    counter_wait(&outcomes[1].done, 1);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

static void test_connection_sends_no_more_than_the_server_takes(void **state)
{
    enum { CALLS = 400, CONNECTION_MAX = 254 };
    static struct held held = {.arrived = COUNTER_INIT};
    static struct outcome outcomes[CALLS];
    struct rpc_peer *peer = start_peer(hold, &held);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    for (int i = 0; i < CALLS; i++) {
        outcomes[i] = (struct outcome)OUTCOME_INIT;
        ping_async(channel, NULL, &outcomes[i]);
    }
    counter_wait(&held.arrived, CONNECTION_MAX);
    for (unsigned i = 0; i < CALLS; i++) { /* each answer lets one more go */
        assert_true(counter_get(&held.arrived) <= CONNECTION_MAX + i);
        counter_wait(&held.arrived, i + 1);
        rpc_peer_echo(held.calls[i]);
        counter_wait(&outcomes[i].done, 1);
        assert_int_equal(outcomes[i].code, FORGE_OK);
    }
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

/* ---- closing ---- */

static void test_channel_close_cancels_calls_in_flight(void **state)
{
    static struct held held = {.arrived = COUNTER_INIT};
    struct rpc_peer *peer = start_peer(hold, &held);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    struct outcome sent = OUTCOME_INIT, waiting = OUTCOME_INIT;
    ping_async(channel, NULL, &sent);
    counter_wait(&held.arrived, 1);
    rpc_peer_close_links(peer); /* the call is repeated on the next link */
    counter_wait(&held.arrived, 2);
    ping_async(channel, NULL, &waiting);
    forge_channel_close(channel);
    assert_int_equal(counter_get(&sent.done), 1); /* callbacks ran before close returned */
    assert_int_equal(counter_get(&waiting.done), 1);
    assert_int_equal(sent.code, FORGE_CANCELLED);
    assert_true(sent.error.outcome_unknown);
    assert_int_equal(waiting.code, FORGE_CANCELLED);
    for (unsigned i = 0; i < counter_get(&held.arrived); i++)
        rpc_peer_drop(held.calls[i], false);
    rpc_peer_stop(peer);
}

static void test_channel_close_without_a_server(void **state)
{
    struct forge_channel *channel = open_channel("127.0.0.1:1,no-such-host.invalid");
    struct outcome outcome = OUTCOME_INIT;
    ping_async(channel, NULL, &outcome);
    forge_channel_close(channel);
    assert_int_equal(counter_get(&outcome.done), 1);
    assert_int_equal(outcome.code, FORGE_CANCELLED);
    assert_true(outcome.error.not_executed);
}

struct waiting_caller {
    struct forge_channel *channel;
    forge_code code;
};

static void *call_once(void *argument)
{
    struct waiting_caller *caller = argument;
    caller->code = ping(caller->channel, NULL);
    return NULL;
}

static void test_channel_close_wakes_synchronous_callers(void **state)
{
    static struct held held = {.arrived = COUNTER_INIT};
    struct rpc_peer *peer = start_peer(hold, &held);
    struct waiting_caller callers[4];
    pthread_t threads[4];
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    for (int i = 0; i < 4; i++) {
        callers[i].channel = channel;
        assert_int_equal(pthread_create(&threads[i], NULL, call_once, &callers[i]), 0);
    }
    counter_wait(&held.arrived, 4);
    forge_channel_close(channel);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].code, FORGE_CANCELLED);
        rpc_peer_drop(held.calls[i], false);
    }
    rpc_peer_stop(peer);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void test_channel_open_and_close_leave_nothing(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    unsigned before = open_descriptors();
    for (int i = 0; i < 50; i++) {
        struct forge_channel *channel = open_channel(rpc_peer_address(peer));
        if (i % 2)
            assert_int_equal(ping(channel, NULL), FORGE_OK);
        forge_channel_close(channel);
    }
    /* The peer's ends of the last connections close when it has read so. */
    for (int i = 0; i < 1000 && open_descriptors() > before; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(open_descriptors(), before);
    rpc_peer_stop(peer);
}

/* ---- fork ---- */

/* ThreadSanitizer keeps the parent's threads in its books: a thread of the child on one of their stacks ends it ("dup thread"). */
#ifdef __SANITIZE_THREAD__
enum { CHILD_STARTS_THREADS = 0 };
#else
enum { CHILD_STARTS_THREADS = 1 };
#endif

static int child_of(struct forge_channel *channel, const char *address)
{
    struct forge_error error;
    if (ping(channel, &error) != FORGE_FAILED_PRECONDITION || !strstr(error.message, "fork"))
        return 1;
    if (forge_channel_set_token(channel, "x", &error) != FORGE_FAILED_PRECONDITION)
        return 2;
    forge_channel_close(channel); /* harmless */
    if (!CHILD_STARTS_THREADS)
        return 0;
    struct forge_channel *own = open_channel(address);
    if (ping(own, NULL) != FORGE_OK)
        return 3;
    forge_channel_close(own);
    return 0;
}

static void test_channel_of_the_parent_is_refused_in_a_child(void **state)
{
    struct rpc_peer *peer = start_peer(echo, NULL);
    struct forge_channel *channel = open_channel(rpc_peer_address(peer));
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        _exit(child_of(channel, rpc_peer_address(peer)));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(ping(channel, NULL), FORGE_OK);
    forge_channel_close(channel);
    rpc_peer_stop(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channel_open_checks_its_options),
        cmocka_unit_test(test_channel_set_token_checks_it),
        cmocka_unit_test(test_channel_serves_many_threads),
        cmocka_unit_test(test_channel_with_several_loops_and_connections),
        cmocka_unit_test(test_channel_refuses_calls_over_its_limit),
        cmocka_unit_test(test_connection_sends_no_more_than_the_server_takes),
        cmocka_unit_test(test_channel_close_cancels_calls_in_flight),
        cmocka_unit_test(test_channel_close_without_a_server),
        cmocka_unit_test(test_channel_close_wakes_synchronous_callers),
        cmocka_unit_test(test_channel_open_and_close_leave_nothing),
        cmocka_unit_test(test_channel_of_the_parent_is_refused_in_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
