/* A bounded queue with lanes for many producers and many consumers; items are linked through a node the caller embeds.
 *
 * A lane is first in, first out and has a capacity of its own. Consumers say which lanes they serve, and take from those that hold
 * something in turn, so no lane starves another. One waiting consumer is woken per item (the one that began to wait last: its caches are
 * warm). Every function is thread safe; only base_queue_take blocks. */
#ifndef SERVER_BASE_QUEUE_H
#define SERVER_BASE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

enum { BASE_QUEUE_LANES_MAX = 8 };

/* Zero it before its first use. */
struct base_queue_node {
    struct base_queue_node *next, *previous;
    bool queued; /* private: under the queue's lock */
};
struct base_queue;

/* lanes: 1 to BASE_QUEUE_LANES_MAX; capacities[lane] >= 1. NULL without memory. */
struct base_queue *base_queue_new(unsigned lanes, const unsigned *capacities);
/* No consumer may be inside; what is still queued is forgotten. Accepts NULL. */
void base_queue_free(struct base_queue *queue);

/* False when the lane is full or the queue closed: the node is still the caller's. */
bool base_queue_put(struct base_queue *queue, unsigned lane, struct base_queue_node *node) __attribute__((warn_unused_result));
/* Waits for an item of a lane in lane_mask (bit 0 is lane 0). NULL: the queue is closed and these lanes are empty. */
struct base_queue_node *base_queue_take(struct base_queue *queue, unsigned lane_mask);
/* Takes this very item out. False when a consumer already has it (or it was never queued): it is not the caller's then. */
bool base_queue_remove(struct base_queue *queue, unsigned lane, struct base_queue_node *node) __attribute__((warn_unused_result));
/* Later puts fail; consumers get what is queued, then NULL. */
void base_queue_close(struct base_queue *queue);

unsigned base_queue_length(struct base_queue *queue, unsigned lane);
unsigned base_queue_waiting(struct base_queue *queue); /* consumers inside base_queue_take that wait */

#endif
