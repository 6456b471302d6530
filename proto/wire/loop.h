/* Event loops: one thread each, on epoll. loop.c is the only file that knows the kernel's interface for readiness.
 *
 * Everything that belongs to a loop (links, watches, timers) is touched by its thread alone and needs no lock. Other
 * threads reach a loop through its inbox: one mutex held for a few instructions, and one eventfd write when the loop
 * sleeps. A process with nothing to do does not wake up. */
#ifndef FORGE_WIRE_LOOP_H
#define FORGE_WIRE_LOOP_H

#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct forge_loop;  /* one thread */
struct forge_loops; /* the loops of a process or of a channel */

enum { FORGE_LOOPS_MAX = 64, FORGE_INLINE_BUDGET_US = 200 };

/* Starts count threads (1 to FORGE_LOOPS_MAX), all signals blocked in them. RESOURCE_EXHAUSTED when descriptors, memory or
 * threads are missing: nothing is left behind then. */
forge_code forge_loops_new(int count, struct forge_loops **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Closes every link and every listener still open (freeing it), runs their last callbacks, joins the threads. Not from a loop thread.
 * Accepts NULL. In a forked child, where the threads are not, it does nothing. */
void forge_loops_free(struct forge_loops *loops);
int forge_loops_count(const struct forge_loops *loops);
struct forge_loop *forge_loops_at(struct forge_loops *loops, int index);
int forge_loop_index(const struct forge_loop *loop);

/* The loop that runs on the calling thread, or NULL. */
struct forge_loop *forge_loop_current(void);
/* Monotonic milliseconds read once per turn. Loop thread only. */
uint64_t forge_loop_now_ms(const struct forge_loop *loop);

/* Work from another thread. The caller embeds the task in its own struct; run() is called once on the loop's thread, in
 * posting order, and may free the task. Never fails, never blocks. A task posted while the loops are being freed runs
 * during forge_loops_free at the latest. */
struct forge_loop_task {
    struct forge_loop_task *next;
    void (*run)(struct forge_loop *loop, struct forge_loop_task *task);
};
void forge_loop_post(struct forge_loop *loop, struct forge_loop_task *task);

/* A timer, swept with FORGE_SWEEP_MS granularity: good for time limits, not for pacing. The caller embeds and zeroes it and sets
 * fire. Loop thread only. fire() may arm it again or free what holds it. */
struct forge_timer {
    struct forge_timer *next, *previous;
    uint64_t at_ms; /* monotonic */
    bool armed;
    void (*fire)(struct forge_loop *loop, struct forge_timer *timer);
};
enum { FORGE_SWEEP_MS = 20 };
void forge_timer_arm(struct forge_loop *loop, struct forge_timer *timer, uint64_t at_ms); /* moves an armed one */
void forge_timer_disarm(struct forge_loop *loop, struct forge_timer *timer);              /* harmless when not armed */

#endif
