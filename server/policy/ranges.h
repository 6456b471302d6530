/* Places in a text, kept in order. */
#ifndef SERVER_POLICY_RANGES_H
#define SERVER_POLICY_RANGES_H

#include "forge/v1/policy.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

struct policy_place {
    size_t begin, end;
    Forge__V1__PiiKind pii_kind;
    size_t rule;    /* of the set; for masks */
    double entropy; /* of secrets: bits per character of random text, infinite for known formats */
};
struct policy_ranges {
    struct policy_place *places;
    size_t count, capacity;
};

/* Both: false when there is no memory. */
bool policy_ranges_add(struct policy_ranges *ranges, const struct policy_place *place);
/* As one with those it overlaps at the end; so a list that got all places by ascending ends has none that overlap. */
bool policy_ranges_add_merged(struct policy_ranges *ranges, size_t begin, size_t end);
/* By begin, then the longest first, then rule and kind. */
void policy_ranges_sort(struct policy_ranges *ranges);
/* Of a sorted list: makes one of those that overlap and, where touching is set, of those that touch. The first gives its rule. */
void policy_ranges_merge(struct policy_ranges *ranges, bool touching);
void policy_ranges_free(struct policy_ranges *ranges);

#endif
