/* When each call of an open-loop test is due, decided before any answer is seen: a slow server cannot slow the questions down. */
#ifndef TESTS_LOAD_PLAN_H
#define TESTS_LOAD_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum plan_arrival { PLAN_CONSTANT, PLAN_POISSON };

struct plan {
    enum plan_arrival arrival;
    double rate;       /* calls a second */
    uint64_t index;    /* of the next call */
    double at_seconds; /* its time since the start */
    uint64_t random;   /* state of the generator; never 0 */
};

/* seed 0 is taken as 1. The same seed gives the same plan. */
void plan_init(struct plan *plan, enum plan_arrival arrival, double rate, uint64_t seed);
/* Nanoseconds after the start at which the next call is due; each call moves on by one. Never decreases. */
uint64_t plan_next_ns(struct plan *plan);

#endif
