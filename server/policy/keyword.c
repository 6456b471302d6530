#include "policy/keyword.h"

#include "evaluate/text.h"
#include "wire/clock.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROOT = 0,
    NONE = UINT32_MAX,
    ASCII = 128,
    LATEST = 256, /* characters behind us whose place is known: more than a keyword has, and a power of two */
    DEADLINE_EVERY = 1 << 16
};

struct entry {
    struct policy_keyword keyword;
    uint32_t *points; /* folded; only while the automaton is built */
    size_t count;
    bool word_begins, word_ends; /* with a character of words */
};
/* While it is built, children are a list; then they lie next to each other, ascending. */
struct node {
    uint32_t point;
    uint32_t children, child_count;
    uint32_t fail;
    uint32_t output; /* the next node on the way of fails that ends a keyword; NONE */
    uint32_t entry, entry_count;
};
struct policy_keywords {
    struct entry *entries; /* sorted by their folded text */
    size_t entry_count;
    struct node *nodes;
    size_t node_count;
    uint32_t first[ASCII]; /* the node behind the root, by unfolded character; ROOT where there is none */
};

/* --- building --- */

static int compare_entries(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (a->points[i] != b->points[i])
            return a->points[i] < b->points[i] ? -1 : 1;
    return (a->count > b->count) - (a->count < b->count);
}

static bool entries_prepare(struct policy_keywords *keywords, const struct policy_keyword *list, size_t count, size_t *out_points)
{
    keywords->entries = calloc(count + 1, sizeof keywords->entries[0]);
    *out_points = 0;
    for (size_t i = 0; keywords->entries != NULL && i < count; i++) {
        struct entry *entry = &keywords->entries[i];
        keywords->entry_count = i + 1;
        entry->keyword = list[i];
        entry->points = evaluate_code_points(list[i].text, list[i].size, true, &entry->count);
        if (entry->points == NULL)
            return false;
        entry->word_begins = evaluate_is_word(entry->points[0]);
        entry->word_ends = evaluate_is_word(entry->points[entry->count - 1]);
        *out_points += entry->count;
    }
    if (keywords->entries != NULL)
        qsort(keywords->entries, count, sizeof keywords->entries[0], compare_entries);
    return keywords->entries != NULL;
}

/* The nodes in the order of breadth-first search, which puts children next to each other: level by level, the entries, which are sorted,
 * fall into groups with the same first `depth` characters, and each group is a node. node_of[i]: the node of entry i at this depth. */
static void add_level(struct policy_keywords *keywords, size_t depth, uint32_t *node_of)
{
    uint32_t parent = NONE;
    for (size_t i = 0; i < keywords->entry_count; i++) {
        const struct entry *entry = &keywords->entries[i];
        if (entry->count < depth) {
            parent = NONE;
            continue;
        }
        uint32_t point = entry->points[depth - 1];
        if (node_of[i] != parent || keywords->nodes[keywords->node_count - 1].point != point) {
            parent = node_of[i];
            if (keywords->nodes[parent].child_count++ == 0)
                keywords->nodes[parent].children = (uint32_t)keywords->node_count;
            keywords->nodes[keywords->node_count++] = (struct node){.point = point, .output = NONE};
        }
        node_of[i] = (uint32_t)keywords->node_count - 1;
        struct node *node = &keywords->nodes[node_of[i]];
        if (entry->count == depth && node->entry_count++ == 0)
            node->entry = (uint32_t)i;
    }
}

static bool nodes_prepare(struct policy_keywords *keywords, size_t points)
{
    uint32_t *node_of = calloc(keywords->entry_count + 1, sizeof node_of[0]);
    keywords->nodes = calloc(points + 1, sizeof keywords->nodes[0]);
    if (node_of != NULL && keywords->nodes != NULL) {
        keywords->nodes[ROOT].output = NONE;
        keywords->node_count = 1;
        size_t before = 0;
        for (size_t depth = 1; keywords->node_count > before; depth++) {
            before = keywords->node_count;
            add_level(keywords, depth, node_of);
        }
    }
    bool prepared = node_of != NULL && keywords->nodes != NULL;
    free(node_of);
    return prepared;
}

static uint32_t child_of(const struct policy_keywords *keywords, uint32_t parent, uint32_t point)
{
    uint32_t low = keywords->nodes[parent].children, high = low + keywords->nodes[parent].child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (keywords->nodes[middle].point < point)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < keywords->nodes[parent].children + keywords->nodes[parent].child_count && keywords->nodes[low].point == point;
    return found ? low : NONE;
}

static uint32_t next_state(const struct policy_keywords *keywords, uint32_t state, uint32_t point)
{
    for (;;) {
        uint32_t child = child_of(keywords, state, point);
        if (child != NONE)
            return child;
        if (state == ROOT)
            return ROOT;
        state = keywords->nodes[state].fail;
    }
}

/* Parents stand before their children, so the fail of a parent is known. */
static void fails_prepare(struct policy_keywords *keywords)
{
    for (size_t parent = 0; parent < keywords->node_count; parent++) {
        uint32_t from = keywords->nodes[parent].children, count = keywords->nodes[parent].child_count;
        for (uint32_t child = from; child < from + count; child++) {
            struct node *node = &keywords->nodes[child];
            node->fail = parent == ROOT ? ROOT : next_state(keywords, keywords->nodes[parent].fail, node->point);
            const struct node *fail = &keywords->nodes[node->fail];
            node->output = fail->entry_count > 0 ? node->fail : fail->output;
        }
    }
    for (uint32_t c = 0; c < ASCII; c++) {
        uint32_t child = child_of(keywords, ROOT, evaluate_fold_code_point(c));
        keywords->first[c] = child != NONE ? child : ROOT;
    }
}

struct policy_keywords *policy_keywords_build(const struct policy_keyword *list, size_t count)
{
    size_t points;
    struct policy_keywords *keywords = calloc(1, sizeof *keywords);
    if (keywords == NULL)
        return NULL;
    bool built = entries_prepare(keywords, list, count, &points) && nodes_prepare(keywords, points);
    for (size_t i = 0; i < keywords->entry_count; i++) {
        free(keywords->entries[i].points);
        keywords->entries[i].points = NULL;
    }
    if (!built) {
        policy_keywords_free(keywords);
        return NULL;
    }
    fails_prepare(keywords);
    return keywords;
}

void policy_keywords_free(struct policy_keywords *keywords)
{
    if (keywords == NULL)
        return;
    free(keywords->entries);
    free(keywords->nodes);
    free(keywords);
}

/* --- finding --- */

struct finder {
    const struct policy_keywords *keywords;
    const char *text;
    size_t size;
    struct policy_ranges *lists;
    size_t at, character; /* behind the newest character; its number */
    size_t begins[LATEST];
    bool is_word[LATEST];
    bool no_memory;
};

static bool is_whole_word(const struct finder *finder, const struct entry *entry, size_t first)
{
    if (entry->word_begins && first > 0 && finder->is_word[(first - 1) % LATEST])
        return false;
    size_t after = finder->at;
    return !entry->word_ends || after == finder->size || !evaluate_is_word(evaluate_code_point(finder->text, finder->size, &after));
}

static void add_entry(struct finder *finder, const struct entry *entry)
{
    size_t first = finder->character + 1 - entry->count, begin = finder->begins[first % LATEST];
    const struct policy_keyword *keyword = &entry->keyword;
    if (keyword->match_case && (finder->at - begin != keyword->size || memcmp(finder->text + begin, keyword->text, keyword->size) != 0))
        return;
    if (!keyword->inside_words && !is_whole_word(finder, entry, first))
        return;
    finder->no_memory |= !policy_ranges_add_merged(&finder->lists[keyword->list], begin, finder->at);
}

static size_t add_outputs(struct finder *finder, uint32_t state)
{
    size_t added = 0;
    for (uint32_t at = state; at != NONE; at = finder->keywords->nodes[at].output) {
        const struct node *node = &finder->keywords->nodes[at];
        for (uint32_t i = 0; i < node->entry_count; i++)
            add_entry(finder, &finder->keywords->entries[node->entry + i]);
        added += node->entry_count;
    }
    return added;
}

static uint32_t step(struct finder *finder, uint32_t state)
{
    size_t newest = finder->character % LATEST;
    unsigned char byte = (unsigned char)finder->text[finder->at];
    finder->begins[newest] = finder->at;
    if (state == ROOT && byte < ASCII) {
        finder->at++;
        finder->is_word[newest] = evaluate_is_word(byte);
        return finder->keywords->first[byte];
    }
    uint32_t point = evaluate_code_point(finder->text, finder->size, &finder->at);
    finder->is_word[newest] = evaluate_is_word(point);
    return next_state(finder->keywords, state, evaluate_fold_code_point(point));
}

enum policy_keyword_result policy_keywords_find(const struct policy_keywords *keywords, const char *text, size_t size, uint64_t deadline_ns,
                                                struct policy_ranges *lists)
{
    struct finder finder = {.keywords = keywords, .text = text, .size = size, .lists = lists};
    uint32_t state = ROOT;
    size_t work = 0;
    for (; finder.at < size && !finder.no_memory; finder.character++) {
        state = step(&finder, state);
        work += 1 + add_outputs(&finder, state);
        if (work >= DEADLINE_EVERY) {
            work = 0;
            if (deadline_ns != 0 && forge_clock_monotonic_ns() > deadline_ns)
                return POLICY_KEYWORD_DEADLINE;
        }
    }
    return finder.no_memory ? POLICY_KEYWORD_NO_MEMORY : POLICY_KEYWORD_OK;
}
