#include "load/plan.h"

#include <math.h>

/* xorshift64* (Vigna 2016, "An experimental exploration of Marsaglia's xorshift generators, scrambled"): arrivals need no secret. */
static double uniform(struct plan *plan)
{
    plan->random ^= plan->random >> 12;
    plan->random ^= plan->random << 25;
    plan->random ^= plan->random >> 27;
    uint64_t mixed = plan->random * UINT64_C(0x2545F4914F6CDD1D);
    return ((double)(mixed >> 11) + 0.5) * 0x1.0p-53; /* inside (0, 1): its logarithm is finite */
}

void plan_init(struct plan *plan, enum plan_arrival arrival, double rate, uint64_t seed)
{
    *plan = (struct plan){.arrival = arrival, .rate = rate, .random = seed ? seed : 1};
}

uint64_t plan_next_ns(struct plan *plan)
{
    switch (plan->arrival) {
    case PLAN_CONSTANT: /* from the index, so that rounding never adds up */
        plan->at_seconds = (double)plan->index / plan->rate;
        break;
    case PLAN_POISSON: /* gaps of a Poisson process are exponential */
        plan->at_seconds -= log(uniform(plan)) / plan->rate;
        break;
    }
    plan->index++;
    return (uint64_t)(plan->at_seconds * 1e9);
}
