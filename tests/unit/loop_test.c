#include "support/link_peer.h"
#include "wire/clock.h"
#include "wire/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WAIT_MS = 10000 };

/* A task that notes its place in the order of running. */
struct noted {
    struct forge_loop_task task;
    int *order, *next, number;
    struct forge_loop *ran_on;
};

static void note_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct noted *noted = (struct noted *)(void *)task;
    link_lock();
    noted->ran_on = loop;
    noted->order[(*noted->next)++] = noted->number;
    link_announce();
    link_unlock();
}

static void test_loop_posts_run_in_order_on_its_thread(void **state)
{
    (void)state;
    enum { TASKS = 1000 };
    static struct noted noted[TASKS];
    static int order[TASKS];
    int next = 0;
    struct forge_loops *loops = link_loops(2);
    struct forge_loop *loop = forge_loops_at(loops, 1);
    assert_int_equal(forge_loops_count(loops), 2);
    assert_int_equal(forge_loop_index(loop), 1);
    assert_null(forge_loop_current());
    for (int i = 0; i < TASKS; i++) {
        noted[i] = (struct noted){.task.run = note_run, .order = order, .next = &next, .number = i};
        forge_loop_post(loop, &noted[i].task);
    }
    assert_true(LINK_WAIT(next == TASKS, WAIT_MS));
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(order[i], i);
        assert_ptr_equal(noted[i].ran_on, loop);
    }
    forge_loops_free(loops);
}

/* Many threads, and tasks that post the next one from the loop itself. */
struct chain {
    struct forge_loop_task task;
    int left;
};
static atomic_int chain_runs;

static void chain_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct chain *chain = (struct chain *)(void *)task;
    atomic_fetch_add(&chain_runs, forge_loop_current() == loop ? 1 : 1000000);
    if (--chain->left > 0) {
        forge_loop_post(loop, task);
        return;
    }
    free(chain);
    link_lock();
    link_announce();
    link_unlock();
}

static void *chain_poster(void *argument)
{
    for (int i = 0; i < 200; i++) {
        struct chain *chain = calloc(1, sizeof *chain);
        chain->task.run = chain_run;
        chain->left = 5;
        forge_loop_post(forge_loops_at(argument, i % 2), &chain->task);
    }
    return NULL;
}

static void test_loop_posts_from_many_threads_all_run(void **state)
{
    (void)state;
    struct forge_loops *loops = link_loops(2);
    pthread_t threads[4];
    atomic_store(&chain_runs, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, chain_poster, loops), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(LINK_WAIT(atomic_load(&chain_runs) == 4 * 200 * 5, WAIT_MS));
    forge_loops_free(loops);
}

static void test_loop_tasks_posted_before_free_run_during_free(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        struct forge_loops *loops = link_loops(3);
        atomic_store(&chain_runs, 0);
        chain_poster(loops);
        forge_loops_free(loops);
        assert_int_equal(atomic_load(&chain_runs), 200 * 5);
    }
}

/* ---- timers ---- */

struct ticking {
    struct forge_loop_task start;
    struct forge_timer timer;
    struct forge_timer *other; /* disarmed when this one fires */
    struct ticking *next;      /* armed behind this one, in the same turn */
    uint64_t delay_ms, armed_at_ms, fired_at_ms;
    int fired, again; /* again: times to arm it anew */
};

static void tick(struct forge_loop *loop, struct forge_timer *timer)
{
    struct ticking *ticking = (struct ticking *)(void *)((char *)timer - offsetof(struct ticking, timer));
    bool was_armed = timer->armed;
    if (ticking->other)
        forge_timer_disarm(loop, ticking->other);
    link_lock();
    ticking->fired += was_armed ? 1000000 : 1;
    ticking->fired_at_ms = forge_clock_monotonic_ms();
    if (ticking->again-- > 0)
        forge_timer_arm(loop, timer, forge_loop_now_ms(loop));
    link_announce();
    link_unlock();
}

static void ticking_start(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct ticking *ticking = (struct ticking *)(void *)task;
    ticking->timer.fire = tick;
    ticking->armed_at_ms = forge_clock_monotonic_ms();
    forge_timer_arm(loop, &ticking->timer, forge_loop_now_ms(loop) + ticking->delay_ms + 1000);
    forge_timer_arm(loop, &ticking->timer, forge_loop_now_ms(loop) + ticking->delay_ms); /* moves it */
    if (ticking->next)
        ticking_start(loop, &ticking->next->start);
}

static void test_timer_fires_after_its_time_and_again_when_armed_again(void **state)
{
    (void)state;
    struct forge_loops *loops = link_loops(1);
    struct ticking once = {.start.run = ticking_start, .delay_ms = 60}, often = {.start.run = ticking_start, .again = 3};
    forge_loop_post(forge_loops_at(loops, 0), &once.start);
    forge_loop_post(forge_loops_at(loops, 0), &often.start);
    assert_true(LINK_WAIT(once.fired == 1 && often.fired == 4, WAIT_MS));
    assert_true(once.fired_at_ms - once.armed_at_ms >= 60 - 1); /* the loop's clock is read once a turn */
    assert_true(often.fired_at_ms - often.armed_at_ms >= 3 * FORGE_SWEEP_MS - 1);
    forge_loops_free(loops);
}

static void test_timer_disarmed_by_another_that_fires_first_stays_silent(void **state)
{
    (void)state;
    struct forge_loops *loops = link_loops(1);
    struct ticking victim = {.start.run = ticking_start, .delay_ms = 25};
    struct ticking killer = {.start.run = ticking_start, .delay_ms = 0, .other = &victim.timer, .next = &victim};
    struct ticking late = {.start.run = ticking_start, .delay_ms = 120};
    forge_loop_post(forge_loops_at(loops, 0), &killer.start);
    forge_loop_post(forge_loops_at(loops, 0), &late.start);
    assert_true(LINK_WAIT(late.fired, WAIT_MS));
    assert_int_equal(LINK_READ(killer.fired), 1);
    assert_int_equal(LINK_READ(victim.fired), 0);
    forge_loops_free(loops);
}

/* ---- set-up and idling ---- */

static void test_loops_new_refuses_bad_counts(void **state)
{
    (void)state;
    static const int counts[] = {-1, 0, FORGE_LOOPS_MAX + 1};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct forge_loops *loops = NULL;
        struct forge_error error = {0};
        assert_int_equal(forge_loops_new(counts[i], &loops, &error), FORGE_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, "between 1 and 64"));
        assert_null(loops);
    }
    forge_loops_free(NULL);
}

/* The limit under which exactly room more descriptors can be opened. */
static rlim_t limit_for(int room)
{
    int taken[16], count = 0;
    while (count <= room)
        taken[count++] = dup(STDIN_FILENO);
    rlim_t limit = (rlim_t)taken[room];
    while (count > 0)
        close(taken[--count]);
    return limit;
}

static void test_loops_new_without_descriptors_leaves_nothing(void **state)
{
    (void)state;
    forge_loops_free(link_loops(1)); /* what libc makes once */
    int fds = link_count_fds(), threads = link_count_threads();
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int room = 0; room < 8; room++) { /* four loops want eight */
        low = before;
        low.rlim_cur = limit_for(room);
        struct forge_loops *loops = NULL;
        struct forge_error error = {0};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        forge_code code = forge_loops_new(4, &loops, &error);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(code, FORGE_RESOURCE_EXHAUSTED);
        assert_non_null(strstr(error.message, strerror(EMFILE)));
        assert_null(loops);
        assert_int_equal(link_count_fds(), fds);
        assert_int_equal(link_count_threads(), threads);
    }
}

/* Value of a line of /proc/self/task/TID/status. */
static unsigned long long thread_status(int tid, const char *name, int base)
{
    char path[64], line[256];
    unsigned long long value = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name), NULL, base);
    if (file)
        fclose(file);
    return value;
}

static int loop_tid;

static void tell_tid(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)loop, (void)task;
    link_lock();
    loop_tid = gettid();
    link_announce();
    link_unlock();
}

static void test_loop_thread_blocks_signals_and_idles_without_waking(void **state)
{
    (void)state;
    struct forge_loops *loops = link_loops(1);
    struct forge_loop_task ask = {.run = tell_tid};
    loop_tid = 0;
    forge_loop_post(forge_loops_at(loops, 0), &ask);
    assert_true(LINK_WAIT(loop_tid, WAIT_MS));
    unsigned long long blocked = thread_status(loop_tid, "SigBlk:", 16);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1, SIGCHLD};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        assert_true(blocked >> (signals[i] - 1) & 1);
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);

    struct timespec settle = {.tv_nsec = 20000000}, rest = {.tv_nsec = 300000000};
    nanosleep(&settle, NULL); /* it goes to sleep after the task */
    unsigned long long before = thread_status(loop_tid, "voluntary_ctxt_switches:", 10);
    nanosleep(&rest, NULL); /* what is measured: nothing happens in this time */
    assert_int_equal(thread_status(loop_tid, "voluntary_ctxt_switches:", 10), before);
    forge_loops_free(loops);
}

static int64_t fixed_wall(void)
{
    return 1234567;
}

static void test_clock_wall_source_can_be_replaced(void **state)
{
    (void)state;
    int64_t real = forge_clock_wall_us();
    assert_true(real > 1700000000000000);
    forge_clock_set_wall_source(fixed_wall);
    assert_int_equal(forge_clock_wall_us(), 1234567);
    forge_clock_set_wall_source(NULL);
    assert_true(forge_clock_wall_us() >= real);
    uint64_t a = forge_clock_monotonic_ns(), b = forge_clock_monotonic_ns();
    assert_true(b >= a && forge_clock_monotonic_ms() >= b / 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop_posts_run_in_order_on_its_thread),
        cmocka_unit_test(test_loop_posts_from_many_threads_all_run),
        cmocka_unit_test(test_loop_tasks_posted_before_free_run_during_free),
        cmocka_unit_test(test_timer_fires_after_its_time_and_again_when_armed_again),
        cmocka_unit_test(test_timer_disarmed_by_another_that_fires_first_stays_silent),
        cmocka_unit_test(test_loops_new_refuses_bad_counts),
        cmocka_unit_test(test_loops_new_without_descriptors_leaves_nothing),
        cmocka_unit_test(test_loop_thread_blocks_signals_and_idles_without_waking),
        cmocka_unit_test(test_clock_wall_source_can_be_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
