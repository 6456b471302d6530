#include "policy/ranges.h"

#include <stdlib.h>

bool policy_ranges_add(struct policy_ranges *ranges, const struct policy_place *place)
{
    if (ranges->count == ranges->capacity) {
        size_t capacity = ranges->capacity == 0 ? 16 : 2 * ranges->capacity;
        struct policy_place *places = reallocarray(ranges->places, capacity, sizeof places[0]);
        if (places == NULL)
            return false;
        ranges->places = places;
        ranges->capacity = capacity;
    }
    ranges->places[ranges->count++] = *place;
    return true;
}

bool policy_ranges_add_merged(struct policy_ranges *ranges, size_t begin, size_t end)
{
    while (ranges->count > 0 && ranges->places[ranges->count - 1].end > begin) {
        const struct policy_place *last = &ranges->places[--ranges->count];
        begin = last->begin < begin ? last->begin : begin;
        end = last->end > end ? last->end : end;
    }
    return policy_ranges_add(ranges, &(struct policy_place){.begin = begin, .end = end});
}

static int compare_places(const void *left, const void *right)
{
    const struct policy_place *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end > b->end ? -1 : 1;
    if (a->rule != b->rule)
        return a->rule < b->rule ? -1 : 1;
    return (a->pii_kind > b->pii_kind) - (a->pii_kind < b->pii_kind);
}

void policy_ranges_sort(struct policy_ranges *ranges)
{
    if (ranges->count > 1)
        qsort(ranges->places, ranges->count, sizeof ranges->places[0], compare_places);
}

void policy_ranges_merge(struct policy_ranges *ranges, bool touching)
{
    size_t kept = 0;
    for (size_t i = 0; i < ranges->count; i++) {
        struct policy_place place = ranges->places[i], *last = kept > 0 ? &ranges->places[kept - 1] : NULL;
        bool is_same = last != NULL && place.begin == last->begin && place.end == last->end;
        if (last != NULL && (is_same || place.begin < last->end || (touching && place.begin == last->end)))
            last->end = place.end > last->end ? place.end : last->end;
        else
            ranges->places[kept++] = place;
    }
    ranges->count = kept;
}

void policy_ranges_free(struct policy_ranges *ranges)
{
    free(ranges->places);
    *ranges = (struct policy_ranges){0};
}
