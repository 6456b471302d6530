/* Texts with ranges replaced by the name of a rule. */
#include "policy/policy_private.h"

#include <string.h>

static size_t masked_size(const struct policy_set *set, const struct policy_text *text, const struct policy_ranges *places)
{
    size_t size = text->size;
    for (size_t i = 0; i < places->count; i++)
        size += strlen(set->rules[places->places[i].rule].name) + 2 - (places->places[i].end - places->places[i].begin);
    return size;
}

/* One place for all: nothing that a rule would hide is shown, and the answer stays small. */
static void make_one(struct policy_ranges *places)
{
    places->places[0].end = places->places[places->count - 1].end;
    places->count = 1;
}

const char *policy_mask(const struct policy_set *set, const struct policy_text *text, struct policy_ranges *places,
                        struct forge_arena *arena)
{
    policy_ranges_sort(places);
    policy_ranges_merge(places, true);
    if (masked_size(set, text, places) > text->size + POLICY_MASKED_GROWTH_MAX)
        make_one(places);
    char *masked = forge_arena_alloc(arena, masked_size(set, text, places) + 1), *to = masked;
    size_t from = 0;
    if (masked == NULL)
        return NULL;
    for (size_t i = 0; i < places->count; i++) {
        const struct policy_place *place = &places->places[i];
        const char *name = set->rules[place->rule].name;
        to = mempcpy(to, text->bytes + from, place->begin - from);
        *to++ = '[';
        to = mempcpy(to, name, strlen(name));
        *to++ = ']';
        from = place->end;
    }
    to = mempcpy(to, text->bytes + from, text->size - from);
    *to = '\0';
    return masked;
}
