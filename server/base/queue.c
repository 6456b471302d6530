#include "base/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

struct lane {
    struct base_queue_node *head, *tail;
    unsigned length, capacity;
};

/* A consumer that waits; lives on its stack and is linked while it waits. */
struct waiter {
    struct waiter *next, *previous;
    pthread_cond_t wake;
    unsigned lane_mask;
    bool woken;
};

struct base_queue {
    pthread_mutex_t lock;
    struct waiter *waiters; /* the newest first */
    unsigned waiting, lane_count, next_lane;
    bool closed;
    struct lane lanes[BASE_QUEUE_LANES_MAX];
};

struct base_queue *base_queue_new(unsigned lanes, const unsigned *capacities)
{
    assert(lanes >= 1 && lanes <= BASE_QUEUE_LANES_MAX);
    struct base_queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return NULL;
    pthread_mutex_init(&queue->lock, NULL);
    queue->lane_count = lanes;
    for (unsigned i = 0; i < lanes; i++) {
        assert(capacities[i] >= 1);
        queue->lanes[i].capacity = capacities[i];
    }
    return queue;
}

void base_queue_free(struct base_queue *queue)
{
    if (queue == NULL)
        return;
    assert(queue->waiters == NULL);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

static void waiter_link(struct base_queue *queue, struct waiter *waiter)
{
    waiter->previous = NULL;
    waiter->next = queue->waiters;
    if (queue->waiters != NULL)
        queue->waiters->previous = waiter;
    queue->waiters = waiter;
    queue->waiting++;
}

static void waiter_unlink(struct base_queue *queue, struct waiter *waiter)
{
    if (waiter->previous != NULL)
        waiter->previous->next = waiter->next;
    else
        queue->waiters = waiter->next;
    if (waiter->next != NULL)
        waiter->next->previous = waiter->previous;
    queue->waiting--;
}

/* The newest waiter that serves the lane; it is unlinked here, so that the next item wakes somebody else. */
static void wake_one(struct base_queue *queue, unsigned lane)
{
    for (struct waiter *waiter = queue->waiters; waiter != NULL; waiter = waiter->next) {
        if ((waiter->lane_mask & (1u << lane)) == 0)
            continue;
        waiter_unlink(queue, waiter);
        waiter->woken = true;
        pthread_cond_signal(&waiter->wake);
        return;
    }
}

static void lane_append(struct lane *lane, struct base_queue_node *node)
{
    node->next = NULL;
    node->previous = lane->tail;
    if (lane->tail != NULL)
        lane->tail->next = node;
    else
        lane->head = node;
    lane->tail = node;
    node->queued = true;
    lane->length++;
}

static void lane_take_out(struct lane *lane, struct base_queue_node *node)
{
    if (node->previous != NULL)
        node->previous->next = node->next;
    else
        lane->head = node->next;
    if (node->next != NULL)
        node->next->previous = node->previous;
    else
        lane->tail = node->previous;
    node->next = node->previous = NULL;
    node->queued = false;
    lane->length--;
}

bool base_queue_put(struct base_queue *queue, unsigned lane_index, struct base_queue_node *node)
{
    assert(lane_index < queue->lane_count);
    struct lane *lane = &queue->lanes[lane_index];
    pthread_mutex_lock(&queue->lock);
    bool taken = !queue->closed && lane->length < lane->capacity;
    if (taken) {
        lane_append(lane, node);
        wake_one(queue, lane_index);
    }
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

/* The next non-empty lane of the mask, going round from the one after the last that was served. */
static struct base_queue_node *take_next(struct base_queue *queue, unsigned lane_mask)
{
    for (unsigned i = 0; i < queue->lane_count; i++) {
        unsigned index = (queue->next_lane + i) % queue->lane_count;
        struct lane *lane = &queue->lanes[index];
        if ((lane_mask & (1u << index)) == 0 || lane->head == NULL)
            continue;
        struct base_queue_node *node = lane->head;
        lane_take_out(lane, node);
        queue->next_lane = (index + 1) % queue->lane_count;
        return node;
    }
    return NULL;
}

struct base_queue_node *base_queue_take(struct base_queue *queue, unsigned lane_mask)
{
    struct waiter self = {.lane_mask = lane_mask};
    pthread_cond_init(&self.wake, NULL);
    pthread_mutex_lock(&queue->lock);
    struct base_queue_node *node;
    while ((node = take_next(queue, lane_mask)) == NULL && !queue->closed) {
        self.woken = false;
        waiter_link(queue, &self);
        while (!self.woken)
            pthread_cond_wait(&self.wake, &queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    pthread_cond_destroy(&self.wake);
    return node;
}

bool base_queue_remove(struct base_queue *queue, unsigned lane, struct base_queue_node *node)
{
    assert(lane < queue->lane_count);
    pthread_mutex_lock(&queue->lock);
    bool queued = node->queued;
    if (queued)
        lane_take_out(&queue->lanes[lane], node);
    pthread_mutex_unlock(&queue->lock);
    return queued;
}

void base_queue_close(struct base_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    while (queue->waiters != NULL) {
        struct waiter *waiter = queue->waiters;
        waiter_unlink(queue, waiter);
        waiter->woken = true;
        pthread_cond_signal(&waiter->wake);
    }
    pthread_mutex_unlock(&queue->lock);
}

unsigned base_queue_length(struct base_queue *queue, unsigned lane)
{
    assert(lane < queue->lane_count);
    pthread_mutex_lock(&queue->lock);
    unsigned length = queue->lanes[lane].length;
    pthread_mutex_unlock(&queue->lock);
    return length;
}

unsigned base_queue_waiting(struct base_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    unsigned waiting = queue->waiting;
    pthread_mutex_unlock(&queue->lock);
    return waiting;
}
