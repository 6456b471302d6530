/* How long, as people write it. */
#ifndef FORGECTL_DURATION_H
#define FORGECTL_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers with units (d, h, m, s, ms, us, ns), the longest first or not, such as "1h30m" or "4.2s"; with a - before them a negative one.
 * False for anything else, and beyond what nanoseconds in 64 bits can tell. */
bool duration_parse(const char *text, int64_t *out_ns);

#endif
