#include "service/trace/tree.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t none = UINT32_MAX;

/* Spans by their number in the order of the keys. parent: as sent, later where it is shown; children are a list in the order of the keys.
 */
struct link {
    uint32_t parent, first_child, next, child_count;
    Forge__V1__SpanPlacement placement;
    bool is_visited, is_on_walk;
};

struct tree {
    const uint8_t *keys;
    struct link *links;
    const uint8_t **by_id; /* keys, sorted by span_id */
    uint32_t count, first; /* first: of those that stand at the top */
};

static const uint8_t *key_of(const struct tree *tree, uint32_t span)
{
    return tree->keys + (size_t)span * TRACE_KEY_BYTES;
}

/* --- parents --------------------------------------------------------------------------------------------------------- */

static int compare_id(const void *a, const void *b)
{
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, TRACE_SPAN_ID_BYTES);
}

static void find_parents(struct tree *tree)
{
    static const uint8_t no_parent[TRACE_SPAN_ID_BYTES];
    for (uint32_t i = 0; i < tree->count; i++)
        tree->by_id[i] = key_of(tree, i);
    qsort(tree->by_id, tree->count, sizeof tree->by_id[0], compare_id);
    for (uint32_t i = 0; i < tree->count; i++) {
        struct link *link = &tree->links[i];
        const uint8_t *parent_id = key_of(tree, i) + TRACE_SPAN_ID_BYTES;
        link->parent = link->first_child = link->next = none;
        link->placement = FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ROOT;
        if (memcmp(parent_id, no_parent, sizeof no_parent) == 0)
            continue;
        const uint8_t *const *parent = bsearch(&parent_id, tree->by_id, tree->count, sizeof tree->by_id[0], compare_id);
        link->placement =
            parent != NULL ? FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CHILD : FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ORPHAN;
        if (parent != NULL)
            link->parent = (uint32_t)((size_t)(*parent - tree->keys) / TRACE_KEY_BYTES);
    }
}

/* From each span upwards until one that was visited: where that is on the same walk, it and all from it on are a cycle. Each span has one
 * parent, so it is walked over twice at most. */
static void mark_cycles(struct tree *tree)
{
    struct link *links = tree->links;
    for (uint32_t start = 0; start < tree->count; start++) {
        uint32_t end = start;
        for (; end != none && !links[end].is_visited; end = links[end].parent)
            links[end].is_visited = links[end].is_on_walk = true;
        if (end != none && links[end].is_on_walk)
            for (uint32_t i = end; links[i].placement != FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CYCLE; i = links[i].parent)
                links[i].placement = FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CYCLE;
        for (uint32_t i = start; i != none && links[i].is_on_walk; i = links[i].parent)
            links[i].is_on_walk = false;
    }
}

/* --- order ----------------------------------------------------------------------------------------------------------- */

static uint32_t first_root(const struct tree *tree)
{
    for (uint32_t i = 0; i < tree->count; i++)
        if (tree->links[i].placement == FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ROOT)
            return i;
    return none;
}

/* From the last to the first, each put before those that are there. */
static void link_children(struct tree *tree)
{
    uint32_t root = first_root(tree);
    tree->first = none;
    for (uint32_t i = tree->count; i-- > 0;) {
        struct link *link = &tree->links[i];
        if (link->placement == FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ORPHAN ||
            link->placement == FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CYCLE)
            link->parent = root;
        uint32_t *first = link->parent != none ? &tree->links[link->parent].first_child : &tree->first;
        link->next = *first;
        *first = i;
        if (link->parent != none)
            tree->links[link->parent].child_count++;
    }
}

static int64_t start_of(const uint8_t *key)
{
    uint64_t start = 0;
    for (size_t i = 2 * TRACE_SPAN_ID_BYTES; i < TRACE_KEY_BYTES; i++)
        start = start << 8 | key[i];
    return (int64_t)start;
}

static void write_nodes(const struct tree *tree, struct trace_node *out)
{
    int32_t depth = 0;
    for (uint32_t span = tree->first; span != none;) {
        const struct link *link = &tree->links[span];
        const uint8_t *key = key_of(tree, span);
        *out++ = (struct trace_node){.span_id = key,
                                     .start_ns = start_of(key),
                                     .depth = depth,
                                     .child_count = (int32_t)link->child_count,
                                     .placement = link->placement};
        if (link->first_child != none) {
            span = link->first_child;
            depth++;
            continue;
        }
        while (link->next == none && link->parent != none) {
            link = &tree->links[link->parent];
            depth--;
        }
        span = link->next;
    }
}

struct trace_node *trace_tree(struct forge_arena *arena, const uint8_t *keys, size_t count)
{
    struct tree tree = {.keys = keys,
                        .links = forge_arena_calloc(arena, count, sizeof *tree.links),
                        .by_id = forge_arena_calloc(arena, count, sizeof *tree.by_id),
                        .count = (uint32_t)count};
    struct trace_node *nodes = forge_arena_calloc(arena, count, sizeof *nodes);
    if (tree.links == NULL || tree.by_id == NULL || nodes == NULL)
        return NULL;
    find_parents(&tree);
    mark_cycles(&tree);
    link_children(&tree);
    write_nodes(&tree, nodes);
    return nodes;
}
