#include "wire/clock.h"

#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

typedef int64_t (*wall_source)(void);
static _Atomic(wall_source) replaced_wall;

int64_t forge_clock_wall_us(void)
{
    wall_source source = atomic_load_explicit(&replaced_wall, memory_order_acquire);
    if (source)
        return source();
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

uint64_t forge_clock_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t forge_clock_monotonic_ms(void)
{
    return forge_clock_monotonic_ns() / 1000000u;
}

void forge_clock_set_wall_source(int64_t (*source_us)(void))
{
    atomic_store_explicit(&replaced_wall, source_us, memory_order_release);
}
