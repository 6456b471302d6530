#include "wire/loop_watch.h"

#include "wire/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS_PER_TURN = 64 };

struct task_list {
    struct forge_loop_task *head, **tail;
};

struct forge_loop {
    struct forge_loops *group;
    int index, epoll_fd;
    pthread_t thread;
    bool has_thread;
    bool stopping; /* loop thread: forge_loops_free told us */
    struct forge_watch wake;
    struct forge_watch *watches;
    struct task_list phases[FORGE_PHASE_COUNT];
    struct forge_timer timers; /* head of a ring */
    uint64_t now_ms, sweep_at_ms, swept_at_ms;
    uint64_t inline_ns;
    uint8_t *received, *plain;
    struct forge_loop_task stop_task;
    atomic_int links;

    pthread_mutex_t mutex; /* guards the two below, held for a few instructions */
    struct task_list inbox;
    bool asleep; /* waits in epoll: whoever posts next wakes it */
};

struct forge_loops {
    int count;
    pid_t owner;
    atomic_bool stopping;
    atomic_uint next;
    struct forge_loop *at[FORGE_LOOPS_MAX];
};

static __thread struct forge_loop *this_loop;

/* ---- lists of tasks ---- */

static void list_init(struct task_list *list)
{
    list->head = NULL;
    list->tail = &list->head;
}

static void list_append(struct task_list *list, struct forge_loop_task *task)
{
    task->next = NULL;
    *list->tail = task;
    list->tail = &task->next;
}

static struct forge_loop_task *list_pop(struct task_list *list)
{
    struct forge_loop_task *task = list->head;
    if (task && !(list->head = task->next))
        list->tail = &list->head;
    return task;
}

void forge_loop_post(struct forge_loop *loop, struct forge_loop_task *task)
{
    pthread_mutex_lock(&loop->mutex);
    list_append(&loop->inbox, task);
    /* Edge-triggered, so nobody reads it; the counter would need 2^64 writes to be full. Under the lock: once the task has run, the
     * loops may be freed at any time. */
    if (loop->asleep && eventfd_write(loop->wake.fd, 1))
        abort();
    loop->asleep = false;
    pthread_mutex_unlock(&loop->mutex);
}

void forge_loop_at_phase(struct forge_loop *loop, enum forge_loop_phase phase, struct forge_loop_task *task)
{
    list_append(&loop->phases[phase], task);
}

/* ---- watches ---- */

void forge_watch_open(struct forge_loop *loop, struct forge_watch *watch)
{
    watch->previous = NULL;
    watch->next = loop->watches;
    if (watch->next)
        watch->next->previous = watch;
    loop->watches = watch;
    watch->open = true;
}

forge_code forge_watch_set(struct forge_loop *loop, struct forge_watch *watch, unsigned interest)
{
    if (watch->added && watch->interest == interest)
        return FORGE_OK;
    struct epoll_event event = {.data.ptr = watch};
    event.events = (interest & FORGE_WATCH_READ ? (uint32_t)EPOLLIN : 0) | (interest & FORGE_WATCH_WRITE ? (uint32_t)EPOLLOUT : 0);
    if (epoll_ctl(loop->epoll_fd, watch->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watch->fd, &event))
        return FORGE_RESOURCE_EXHAUSTED;
    watch->added = true;
    watch->interest = interest;
    return FORGE_OK;
}

void forge_watch_close_fd(struct forge_loop *loop, struct forge_watch *watch)
{
    if (watch->added)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    if (watch->fd >= 0)
        close(watch->fd);
    watch->fd = -1;
    watch->added = false;
}

void forge_watch_close(struct forge_loop *loop, struct forge_watch *watch)
{
    forge_watch_close_fd(loop, watch);
    if (watch->previous)
        watch->previous->next = watch->next;
    else
        loop->watches = watch->next;
    if (watch->next)
        watch->next->previous = watch->previous;
    watch->open = false;
}

struct forge_watch *forge_loop_watches(const struct forge_loop *loop)
{
    return loop->watches;
}

/* ---- timers: a ring that is swept when the earliest is due, at most every FORGE_SWEEP_MS ---- */

static void sweep_by(struct forge_loop *loop, uint64_t at_ms)
{
    uint64_t soonest = loop->swept_at_ms + FORGE_SWEEP_MS;
    if (at_ms < soonest)
        at_ms = soonest;
    if (at_ms < loop->sweep_at_ms)
        loop->sweep_at_ms = at_ms;
}

static void ring_insert(struct forge_timer *ring, struct forge_timer *timer)
{
    timer->next = ring;
    timer->previous = ring->previous;
    ring->previous->next = timer;
    ring->previous = timer;
}

static void ring_remove(struct forge_timer *timer)
{
    timer->previous->next = timer->next;
    timer->next->previous = timer->previous;
}

void forge_timer_arm(struct forge_loop *loop, struct forge_timer *timer, uint64_t at_ms)
{
    timer->at_ms = at_ms;
    if (!timer->armed)
        ring_insert(&loop->timers, timer);
    timer->armed = true;
    sweep_by(loop, at_ms);
}

void forge_timer_disarm(struct forge_loop *loop, struct forge_timer *timer)
{
    (void)loop;
    if (timer->armed)
        ring_remove(timer);
    timer->armed = false;
}

/* fire() may arm and disarm any timer and free its own, so the ones to look at are moved to a ring of their own first. */
static void sweep_timers(struct forge_loop *loop)
{
    struct forge_timer due = {.next = &due, .previous = &due};
    if (loop->timers.next != &loop->timers) {
        due = loop->timers;
        due.next->previous = due.previous->next = &due;
        loop->timers.next = loop->timers.previous = &loop->timers;
    }
    loop->sweep_at_ms = UINT64_MAX;
    loop->swept_at_ms = loop->now_ms;
    while (due.next != &due) {
        struct forge_timer *timer = due.next;
        ring_remove(timer);
        if (timer->at_ms > loop->now_ms) {
            ring_insert(&loop->timers, timer);
            sweep_by(loop, timer->at_ms);
        } else {
            timer->armed = false;
            timer->fire(loop, timer);
        }
    }
}

/* ---- the turn ---- */

static void run_inbox(struct forge_loop *loop)
{
    struct task_list taken;
    list_init(&taken);
    pthread_mutex_lock(&loop->mutex);
    if (loop->inbox.head) {
        taken = loop->inbox;
        list_init(&loop->inbox);
    }
    loop->asleep = false;
    pthread_mutex_unlock(&loop->mutex);
    for (struct forge_loop_task *task = taken.head, *next; task; task = next) {
        next = task->next; /* run() may free the task */
        task->run(loop, task);
    }
}

static void run_phase(struct forge_loop *loop, enum forge_loop_phase phase)
{
    struct forge_loop_task *task;
    while ((task = list_pop(&loop->phases[phase])))
        task->run(loop, task);
}

static void run_again(struct forge_loop *loop)
{
    struct forge_loop_task *task;
    while (!forge_loop_has_spent_budget(loop) && (task = list_pop(&loop->phases[FORGE_PHASE_AGAIN])))
        task->run(loop, task);
}

static void run_events(struct forge_loop *loop, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        struct forge_watch *watch = events[i].data.ptr;
        uint32_t got = events[i].events;
        unsigned ready = (got & ~(uint32_t)EPOLLOUT ? FORGE_WATCH_READ : 0) | (got & EPOLLOUT ? FORGE_WATCH_WRITE : 0);
        if (watch != &loop->wake)
            watch->ready(loop, watch, ready);
    }
}

static void end_turn(struct forge_loop *loop)
{
    if (loop->stopping)
        for (struct forge_watch *watch = loop->watches; watch; watch = watch->next)
            watch->stop(loop, watch);
    while (loop->phases[FORGE_PHASE_FLUSH].head || loop->phases[FORGE_PHASE_END].head) {
        run_phase(loop, FORGE_PHASE_FLUSH);
        run_phase(loop, FORGE_PHASE_END);
    }
}

/* How long epoll may wait; tells posters when they have to wake us. */
static int go_to_sleep(struct forge_loop *loop)
{
    if (loop->phases[FORGE_PHASE_AGAIN].head || (loop->stopping && !loop->watches))
        return 0;
    int timeout_ms = -1;
    if (loop->sweep_at_ms != UINT64_MAX) {
        uint64_t left = loop->sweep_at_ms > loop->now_ms ? loop->sweep_at_ms - loop->now_ms : 0;
        timeout_ms = left < 3600000 ? (int)left : 3600000;
    }
    pthread_mutex_lock(&loop->mutex);
    if (loop->inbox.head)
        timeout_ms = 0;
    else
        loop->asleep = timeout_ms != 0;
    pthread_mutex_unlock(&loop->mutex);
    return timeout_ms;
}

static void turn(struct forge_loop *loop, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);
    loop->now_ms = forge_clock_monotonic_ms();
    loop->inline_ns = 0;
    run_again(loop);
    run_events(loop, events, count); /* -1 (EINTR) is no event */
    run_inbox(loop);
    if (loop->now_ms >= loop->sweep_at_ms)
        sweep_timers(loop);
    end_turn(loop);
}

static void *loop_main(void *argument)
{
    struct forge_loop *loop = this_loop = argument;
    while (!loop->stopping || loop->watches)
        turn(loop, go_to_sleep(loop));
    return NULL;
}

/* ---- set up and down ---- */

static void stop_run(struct forge_loop *loop, struct forge_loop_task *task)
{
    (void)task;
    loop->stopping = true;
}

static void loop_free(struct forge_loop *loop)
{
    if (!loop)
        return;
    if (loop->wake.fd >= 0)
        close(loop->wake.fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    free(loop->received);
    free(loop->plain);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}

static int thread_start(struct forge_loop *loop)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited: signals are the program's business, never ours */
    int failed = pthread_create(&loop->thread, NULL, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return failed;
    loop->has_thread = true;
    char name[16];
    snprintf(name, sizeof name, "forge-loop-%d", loop->index);
    pthread_setname_np(loop->thread, name);
    return 0;
}

static int loop_open(struct forge_loop *loop)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return errno;
    loop->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->wake.fd < 0)
        return errno;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &loop->wake};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake.fd, &event))
        return errno;
    loop->received = malloc(FORGE_LOOP_RECEIVED_SIZE);
    loop->plain = malloc(FORGE_LOOP_PLAIN_SIZE);
    return loop->received && loop->plain ? thread_start(loop) : ENOMEM;
}

static int loop_new(struct forge_loops *loops, int index)
{
    struct forge_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return ENOMEM;
    loops->at[index] = loop;
    loop->group = loops;
    loop->index = index;
    loop->epoll_fd = loop->wake.fd = -1;
    pthread_mutex_init(&loop->mutex, NULL);
    list_init(&loop->inbox);
    for (int i = 0; i < FORGE_PHASE_COUNT; i++)
        list_init(&loop->phases[i]);
    loop->timers.next = loop->timers.previous = &loop->timers;
    loop->sweep_at_ms = UINT64_MAX;
    loop->now_ms = forge_clock_monotonic_ms();
    return loop_open(loop);
}

forge_code forge_loops_new(int count, struct forge_loops **out, struct forge_error *error)
{
    if (count < 1 || count > FORGE_LOOPS_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "event loops: %d is not between 1 and %d", count, FORGE_LOOPS_MAX);
    struct forge_loops *loops = calloc(1, sizeof *loops);
    if (!loops)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "event loops: out of memory");
    loops->count = count;
    loops->owner = getpid();
    for (int i = 0; i < count; i++) {
        int failed = loop_new(loops, i);
        if (failed) {
            forge_loops_free(loops);
            /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): only a forked child keeps them, and this is their owner */
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "event loop %d: %s", i, strerror(failed));
        }
    }
    *out = loops;
    return FORGE_OK;
}

/* The threads are gone; a last callback on one loop may have posted to another. */
static bool drain(struct forge_loop *loop)
{
    bool busy = loop->inbox.head || loop->watches || loop->phases[FORGE_PHASE_AGAIN].head;
    this_loop = loop;
    loop->inline_ns = 0;
    run_inbox(loop);
    run_again(loop);
    end_turn(loop);
    this_loop = NULL;
    return busy;
}

void forge_loops_free(struct forge_loops *loops)
{
    if (!loops || loops->owner != getpid()) /* the threads of a forked child's parent are not here: nothing could be ended */
        return;
    atomic_store(&loops->stopping, true);
    for (int i = 0; i < loops->count && loops->at[i]; i++) {
        loops->at[i]->stop_task.run = stop_run;
        forge_loop_post(loops->at[i], &loops->at[i]->stop_task);
    }
    for (int i = 0; i < loops->count && loops->at[i]; i++)
        if (loops->at[i]->has_thread)
            pthread_join(loops->at[i]->thread, NULL);
    for (bool busy = true; busy;) {
        busy = false;
        for (int i = 0; i < loops->count && loops->at[i] && loops->at[i]->has_thread; i++)
            busy |= drain(loops->at[i]);
    }
    for (int i = 0; i < loops->count; i++)
        loop_free(loops->at[i]);
    free(loops);
}

/* ---- small accessors ---- */

int forge_loops_count(const struct forge_loops *loops)
{
    return loops->count;
}

struct forge_loop *forge_loops_at(struct forge_loops *loops, int index)
{
    assert(index >= 0 && index < loops->count);
    return loops->at[index];
}

int forge_loop_index(const struct forge_loop *loop)
{
    return loop->index;
}

struct forge_loop *forge_loop_current(void)
{
    return this_loop;
}

uint64_t forge_loop_now_ms(const struct forge_loop *loop)
{
    return loop->now_ms;
}

void forge_loop_spend(struct forge_loop *loop, uint64_t nanoseconds)
{
    loop->inline_ns += nanoseconds;
}

bool forge_loop_has_spent_budget(const struct forge_loop *loop)
{
    return loop->inline_ns >= (uint64_t)FORGE_INLINE_BUDGET_US * 1000;
}

uint8_t *forge_loop_received(struct forge_loop *loop)
{
    return loop->received;
}

uint8_t *forge_loop_plain(struct forge_loop *loop)
{
    return loop->plain;
}

void forge_loop_add_links(struct forge_loop *loop, int delta)
{
    atomic_fetch_add_explicit(&loop->links, delta, memory_order_relaxed);
}

size_t forge_loop_links(const struct forge_loop *loop)
{
    return (size_t)atomic_load_explicit(&loop->links, memory_order_relaxed);
}

struct forge_loop *forge_loops_take_emptiest(struct forge_loops *loops)
{
    unsigned first = atomic_fetch_add_explicit(&loops->next, 1, memory_order_relaxed); /* equally empty ones take turns */
    struct forge_loop *best = loops->at[first % (unsigned)loops->count];
    for (int i = 0; i < loops->count; i++)
        if (forge_loop_links(loops->at[i]) < forge_loop_links(best))
            best = loops->at[i];
    forge_loop_add_links(best, 1);
    return best;
}

bool forge_loops_are_stopping(const struct forge_loops *loops)
{
    return atomic_load(&loops->stopping);
}

struct forge_loops *forge_loop_group(const struct forge_loop *loop)
{
    return loop->group;
}
