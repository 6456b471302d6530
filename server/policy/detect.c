#include "policy/detect.h"

#include <string.h>
#include <strings.h>

static size_t letters_before(const char *text, size_t at, size_t lowest)
{
    size_t begin = at;
    while (begin > lowest && (policy_is_letter(text[begin - 1]) || (unsigned char)text[begin - 1] >= 0x80))
        begin--;
    return begin;
}

static bool is_one_of(const char *word, size_t size, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strlen(*words) == size && strncasecmp(word, *words, size) == 0)
            return true;
    return false;
}

bool policy_word_before(const char *text, size_t at, size_t before, const char *const *words)
{
    size_t lowest = at > before ? at - before : 0;
    for (size_t end = at; end > lowest;) {
        size_t begin = letters_before(text, end, lowest);
        if (begin == end) {
            if (text[end - 1] == '\n')
                return false;
            end--;
            continue;
        }
        bool is_whole = begin == 0 || !policy_is_letter(text[begin - 1]);
        if (is_whole && is_one_of(text + begin, end - begin, words))
            return true;
        end = begin;
    }
    return false;
}

void policy_keep_best(struct policy_ranges *ranges, int (*rank)(const struct policy_place *place))
{
    size_t kept = 0;
    policy_ranges_sort(ranges);
    for (size_t i = 0; i < ranges->count; i++) {
        struct policy_place place = ranges->places[i];
        bool stays = true;
        while (kept > 0 && stays && ranges->places[kept - 1].end > place.begin) {
            stays = rank(&place) < rank(&ranges->places[kept - 1]);
            kept -= stays;
        }
        if (stays)
            ranges->places[kept++] = place;
    }
    ranges->count = kept;
}
