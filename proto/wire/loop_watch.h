/* Private part of loop.h, for link*.c alone: descriptors on a loop, and work at fixed points of its turn.
 *
 * A turn: wait for readiness; what an earlier turn left over (AGAIN); ready descriptors; the inbox; timers; then FLUSH and END
 * until both are empty. Memory behind a watch is given back in END only: an event for it may still wait in the batch of its turn.
 * Everything here is for the loop's own thread unless it says otherwise. */
#ifndef FORGE_WIRE_LOOP_WATCH_H
#define FORGE_WIRE_LOOP_WATCH_H

#include "wire/loop.h"

enum { FORGE_WATCH_READ = 1, FORGE_WATCH_WRITE = 2 };

/* Something that lives on a loop until the loop ends, with a descriptor that may come later. Embedded, zeroed by its owner,
 * who then sets fd (-1 for none), ready and stop. */
struct forge_watch {
    struct forge_watch *next, *previous;
    int fd;
    unsigned interest;                                                                  /* what epoll was told */
    bool added;                                                                         /* epoll knows fd */
    bool open;                                                                          /* on the loop's list */
    void (*ready)(struct forge_loop *loop, struct forge_watch *watch, unsigned events); /* hang-up and error count as READ */
    void (*stop)(struct forge_loop *loop, struct forge_watch *watch); /* the loop ends: close soon; may be called again each turn */
};

void forge_watch_open(struct forge_loop *loop, struct forge_watch *watch);
/* RESOURCE_EXHAUSTED when the kernel cannot watch one more descriptor. No system call when nothing changes. */
forge_code forge_watch_set(struct forge_loop *loop, struct forge_watch *watch, unsigned interest) FORGE_MUST_CHECK;
/* Takes the descriptor out of epoll (close alone does not when the process has forked) and closes it; the watch stays. */
void forge_watch_close_fd(struct forge_loop *loop, struct forge_watch *watch);
/* The same, and takes the watch off the loop. In END only. */
void forge_watch_close(struct forge_loop *loop, struct forge_watch *watch);
/* Every watch of the loop; follow next. */
struct forge_watch *forge_loop_watches(const struct forge_loop *loop);

enum forge_loop_phase { FORGE_PHASE_AGAIN, FORGE_PHASE_FLUSH, FORGE_PHASE_END };
enum { FORGE_PHASE_COUNT = 3 };
/* Runs the task once at that point of this turn (AGAIN: the next turn, which then does not wait). A task is on one list at most. */
void forge_loop_at_phase(struct forge_loop *loop, enum forge_loop_phase phase, struct forge_loop_task *task);

/* Time spent in frame callbacks of this turn; above FORGE_INLINE_BUDGET_US the rest waits for the next turn. */
void forge_loop_spend(struct forge_loop *loop, uint64_t nanoseconds);
bool forge_loop_has_spent_budget(const struct forge_loop *loop);

/* Buffers that all links of the loop use in turn: received bytes, and what they decrypt to. */
enum { FORGE_LOOP_RECEIVED_SIZE = 64 << 10, FORGE_LOOP_PLAIN_SIZE = 96 << 10 };
uint8_t *forge_loop_received(struct forge_loop *loop);
uint8_t *forge_loop_plain(struct forge_loop *loop);

/* Links per loop, counted by link.c. Any thread. */
void forge_loop_add_links(struct forge_loop *loop, int delta);
size_t forge_loop_links(const struct forge_loop *loop);
/* The loop with the fewest links, counting one more on it. Any thread. */
struct forge_loop *forge_loops_take_emptiest(struct forge_loops *loops);
/* forge_loops_free has begun: new links are refused. Any thread. */
bool forge_loops_are_stopping(const struct forge_loops *loops);
struct forge_loops *forge_loop_group(const struct forge_loop *loop);

#endif
