#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/queue.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { ITEMS = 20000, PRODUCERS = 3, CONSUMERS = 3 };

struct item {
    struct base_queue_node node;
    unsigned lane;
    atomic_uint taken;
};

static void test_queue_lane_is_first_in_first_out_and_bounded(void **state)
{
    struct base_queue *queue = base_queue_new(1, (const unsigned[]){2});
    struct base_queue_node nodes[3] = {0};
    assert_true(base_queue_put(queue, 0, &nodes[0]));
    assert_true(base_queue_put(queue, 0, &nodes[1]));
    assert_false(base_queue_put(queue, 0, &nodes[2]));
    assert_int_equal(base_queue_length(queue, 0), 2);
    assert_ptr_equal(base_queue_take(queue, 1), &nodes[0]);
    assert_ptr_equal(base_queue_take(queue, 1), &nodes[1]);
    base_queue_free(queue);
}

static void test_queue_lanes_are_served_in_turn(void **state)
{
    struct base_queue *queue = base_queue_new(2, (const unsigned[]){4, 4});
    struct base_queue_node nodes[4] = {0};
    for (unsigned i = 0; i < 4; i++)
        assert_true(base_queue_put(queue, i / 2, &nodes[i]));
    assert_ptr_equal(base_queue_take(queue, 3), &nodes[0]);
    assert_ptr_equal(base_queue_take(queue, 3), &nodes[2]);
    assert_ptr_equal(base_queue_take(queue, 3), &nodes[1]);
    assert_ptr_equal(base_queue_take(queue, 3), &nodes[3]);
    base_queue_free(queue);
}

static void test_queue_mask_leaves_other_lanes_alone(void **state)
{
    struct base_queue *queue = base_queue_new(2, (const unsigned[]){4, 4});
    struct base_queue_node first = {0}, second = {0};
    assert_true(base_queue_put(queue, 0, &first));
    assert_true(base_queue_put(queue, 1, &second));
    assert_ptr_equal(base_queue_take(queue, 2), &second);
    base_queue_close(queue);
    assert_null(base_queue_take(queue, 2));
    assert_ptr_equal(base_queue_take(queue, 3), &first);
    assert_null(base_queue_take(queue, 3));
    base_queue_free(queue);
}

static void test_queue_remove_takes_out_only_what_is_queued(void **state)
{
    struct base_queue *queue = base_queue_new(1, (const unsigned[]){4});
    struct base_queue_node nodes[3] = {0};
    for (unsigned i = 0; i < 3; i++)
        assert_true(base_queue_put(queue, 0, &nodes[i]));
    assert_true(base_queue_remove(queue, 0, &nodes[1]));
    assert_false(base_queue_remove(queue, 0, &nodes[1]));
    assert_ptr_equal(base_queue_take(queue, 1), &nodes[0]);
    assert_false(base_queue_remove(queue, 0, &nodes[0]));
    assert_ptr_equal(base_queue_take(queue, 1), &nodes[2]);
    assert_int_equal(base_queue_length(queue, 0), 0);
    base_queue_free(queue);
}

static void test_queue_close_refuses_later_items(void **state)
{
    struct base_queue *queue = base_queue_new(1, (const unsigned[]){4});
    struct base_queue_node node = {0};
    base_queue_close(queue);
    assert_false(base_queue_put(queue, 0, &node));
    base_queue_free(queue);
}

struct stress {
    struct base_queue *queue;
    struct item *items;
    atomic_uint next;
    atomic_uint wrong_lane;
};

static void *produce(void *argument)
{
    struct stress *stress = argument;
    for (unsigned i; (i = atomic_fetch_add(&stress->next, 1)) < ITEMS;) {
        stress->items[i].lane = i % 3;
        while (!base_queue_put(stress->queue, i % 3, &stress->items[i].node))
            sched_yield();
    }
    return NULL;
}

/* Each consumer serves two lanes of three, so that wake-ups for the wrong mask would show as a hang. */
static void *consume(void *argument)
{
    struct stress *stress = argument;
    static atomic_uint consumers;
    unsigned mask = 7u & ~(1u << atomic_fetch_add(&consumers, 1) % 3);
    for (struct base_queue_node *node; (node = base_queue_take(stress->queue, mask)) != NULL;) {
        struct item *item = (struct item *)node;
        if ((mask & (1u << item->lane)) == 0)
            atomic_fetch_add(&stress->wrong_lane, 1);
        atomic_fetch_add(&item->taken, 1);
    }
    return NULL;
}

static void test_queue_many_threads_take_each_item_once(void **state)
{
    static struct item items[ITEMS];
    struct stress stress = {.queue = base_queue_new(3, (const unsigned[]){16, 16, 16}), .items = items};
    pthread_t producers[PRODUCERS], consumers[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, &stress), 0);
    for (int i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &stress), 0);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    base_queue_close(stress.queue);
    for (int i = 0; i < CONSUMERS; i++)
        pthread_join(consumers[i], NULL);
    for (int i = 0; i < ITEMS; i++)
        assert_int_equal(atomic_load(&items[i].taken), 1);
    assert_int_equal(atomic_load(&stress.wrong_lane), 0);
    base_queue_free(stress.queue);
}

static void *take_one(void *argument)
{
    return base_queue_take(argument, 1);
}

static void test_queue_close_wakes_every_waiting_consumer(void **state)
{
    struct base_queue *queue = base_queue_new(1, (const unsigned[]){1});
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_one, queue), 0);
    while (base_queue_waiting(queue) < 3)
        sched_yield();
    base_queue_close(queue);
    for (int i = 0; i < 3; i++) {
        void *node = queue;
        pthread_join(threads[i], &node);
        assert_null(node);
    }
    base_queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue_lane_is_first_in_first_out_and_bounded),
        cmocka_unit_test(test_queue_lanes_are_served_in_turn),
        cmocka_unit_test(test_queue_mask_leaves_other_lanes_alone),
        cmocka_unit_test(test_queue_remove_takes_out_only_what_is_queued),
        cmocka_unit_test(test_queue_close_refuses_later_items),
        cmocka_unit_test(test_queue_many_threads_take_each_item_once),
        cmocka_unit_test(test_queue_close_wakes_every_waiting_consumer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
