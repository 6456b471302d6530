/* Wall and monotonic time. Tests replace the wall clock; nothing else does. */
#ifndef FORGE_WIRE_CLOCK_H
#define FORGE_WIRE_CLOCK_H

#include <stdint.h>

/* Microseconds since the Unix epoch: what is stored and shown. May jump. */
int64_t forge_clock_wall_us(void);
/* Nanoseconds of CLOCK_MONOTONIC: deadlines and durations. Never jumps. */
uint64_t forge_clock_monotonic_ns(void);
uint64_t forge_clock_monotonic_ms(void);
/* Tests only: later wall readings come from source; NULL restores the system clock. */
void forge_clock_set_wall_source(int64_t (*source_us)(void));

#endif
