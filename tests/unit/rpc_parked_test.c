#include "rpc/parked.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct rpc_parked_entry entry_for(const char *key, unsigned *connection_count)
{
    return (struct rpc_parked_entry){.key = key, .connection_count = connection_count};
}

static void test_parked_wakes_all_of_a_key_in_order(void **state)
{
    struct rpc_parked *parked = rpc_parked_new(100, 100, 100);
    struct forge_error error = {0};
    unsigned connection = 0;
    struct rpc_parked_entry entries[6];
    for (int i = 0; i < 6; i++) {
        entries[i] = entry_for(i % 2 ? "odd" : "even", &connection);
        assert_int_equal(rpc_parked_enter(parked, &entries[i], &error), FORGE_OK);
        assert_true(rpc_parked_settle(parked, &entries[i]));
    }
    assert_int_equal(rpc_parked_count(parked), 6);
    struct rpc_parked_entry *taken = rpc_parked_take(parked, "even");
    for (int i = 0; i < 6; i += 2, taken = taken->next)
        assert_ptr_equal(taken, &entries[i]);
    assert_null(taken);
    assert_null(rpc_parked_take(parked, "even"));
    assert_int_equal(connection, 3);
    assert_ptr_equal(rpc_parked_take_all(parked, ""), &entries[1]);
    assert_int_equal(rpc_parked_count(parked), 0);
    assert_int_equal(connection, 0);
    rpc_parked_free(parked);
}

/* An event between enter and settle is not lost: the handler's look at the database may have been before it. */
static void test_parked_event_before_settle(void **state)
{
    struct rpc_parked *parked = rpc_parked_new(100, 100, 100);
    struct forge_error error = {0};
    unsigned connection = 0;
    struct rpc_parked_entry entry = entry_for("key", &connection);
    assert_int_equal(rpc_parked_enter(parked, &entry, &error), FORGE_OK);
    assert_null(rpc_parked_take(parked, "key")); /* still its handler's */
    assert_false(rpc_parked_settle(parked, &entry));
    assert_int_equal(rpc_parked_count(parked), 0);
    assert_int_equal(rpc_parked_enter(parked, &entry, &error), FORGE_OK); /* and it can wait again */
    assert_true(rpc_parked_settle(parked, &entry));
    assert_true(rpc_parked_remove(parked, &entry));
    assert_false(rpc_parked_remove(parked, &entry));
    rpc_parked_free(parked);
}

static void test_parked_leave(void **state)
{
    struct rpc_parked *parked = rpc_parked_new(100, 100, 100);
    struct forge_error error = {0};
    unsigned connection = 0;
    struct rpc_parked_entry entry = entry_for("key", &connection);
    rpc_parked_leave(parked, &entry);
    assert_int_equal(rpc_parked_enter(parked, &entry, &error), FORGE_OK);
    assert_false(rpc_parked_remove(parked, &entry)); /* not settled: nobody may take it */
    rpc_parked_leave(parked, &entry);
    rpc_parked_leave(parked, &entry);
    assert_int_equal(rpc_parked_count(parked), 0);
    rpc_parked_free(parked);
}

static void test_parked_caps(void **state)
{
    struct rpc_parked *parked = rpc_parked_new(5, 2, 3);
    struct forge_error error = {0};
    unsigned connections[4] = {0};
    struct rpc_parked_entry entries[8];
    struct forge_uuid principal_id;
    forge_uuid_v7(&principal_id);
    for (int i = 0; i < 8; i++)
        entries[i] = entry_for("key", &connections[i / 2]);
    for (int i = 0; i < 4; i++)
        entries[i].principal_id = principal_id;
    for (int i = 0; i < 3; i++)
        assert_int_equal(rpc_parked_enter(parked, &entries[i], &error), FORGE_OK);
    assert_int_equal(rpc_parked_enter(parked, &entries[3], &error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(error.message, "the credential has 3 waiting calls, at most 3");
    struct rpc_parked_entry third = entry_for("key", &connections[0]);
    assert_int_equal(rpc_parked_enter(parked, &third, &error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(error.message, "the connection has 2 waiting calls, at most 2");
    assert_int_equal(rpc_parked_enter(parked, &entries[4], &error), FORGE_OK);
    assert_int_equal(rpc_parked_enter(parked, &entries[5], &error), FORGE_OK);
    assert_int_equal(rpc_parked_enter(parked, &entries[6], &error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(error.message, "the server has 5 waiting calls, at most 5");
    rpc_parked_leave(parked, &entries[0]);
    assert_int_equal(rpc_parked_enter(parked, &entries[3], &error), FORGE_OK); /* room for the principal again */
    for (int i = 1; i < 6; i++)
        rpc_parked_leave(parked, &entries[i]);
    assert_int_equal(connections[0] + connections[1] + connections[2], 0);
    rpc_parked_free(parked);
}

enum { WAITERS = 4, ROUNDS = 5000 };
static struct rpc_parked *shared;
static atomic_uint woken, removed;
static atomic_bool waiters_done;

static void *wait_and_give_up(void *argument)
{
    unsigned connection = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct rpc_parked_entry entry = entry_for("shared", &connection);
        struct forge_error error = {0};
        assert_int_equal(rpc_parked_enter(shared, &entry, &error), FORGE_OK);
        if (!rpc_parked_settle(shared, &entry)) {
            atomic_fetch_add(&woken, 1);
            continue;
        }
        if (rpc_parked_remove(shared, &entry)) {
            atomic_fetch_add(&removed, 1);
            continue;
        }
        /* The waker has it: it says so when it is done with it, by clearing the key. */
        while (__atomic_load_n(&entry.call, __ATOMIC_ACQUIRE) == NULL)
            sched_yield();
    }
    return NULL;
}

static void *wake(void *argument)
{
    while (!atomic_load(&waiters_done)) {
        struct rpc_parked_entry *entry = rpc_parked_take(shared, "shared");
        while (entry) {
            struct rpc_parked_entry *next = entry->next;
            atomic_fetch_add(&woken, 1);
            __atomic_store_n(&entry->call, (struct rpc_active *)entry, __ATOMIC_RELEASE);
            entry = next;
        }
    }
    return NULL;
}

/* Every wait ends exactly once: woken before or after it settled, or taken back by its owner. */
static void test_parked_races(void **state)
{
    pthread_t waiters[WAITERS], waker;
    shared = rpc_parked_new(100, 100, 100);
    assert_int_equal(pthread_create(&waker, NULL, wake, NULL), 0);
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(pthread_create(&waiters[i], NULL, wait_and_give_up, NULL), 0);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(waiters[i], NULL);
    atomic_store(&waiters_done, true);
    pthread_join(waker, NULL);
    assert_int_equal(atomic_load(&woken) + atomic_load(&removed), WAITERS * ROUNDS);
    assert_int_equal(rpc_parked_count(shared), 0);
    rpc_parked_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parked_wakes_all_of_a_key_in_order),
        cmocka_unit_test(test_parked_event_before_settle),
        cmocka_unit_test(test_parked_leave),
        cmocka_unit_test(test_parked_caps),
        cmocka_unit_test(test_parked_races),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
