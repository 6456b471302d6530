/* The order of a trace's spans: trees, orphans, cycles, and what is as deep or as wide as a trace may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/trace/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPANS_MAX = 100000, ROUNDS = 300, TEXT_SIZE = 1024 };

static struct forge_arena arena;
static uint8_t keys[SPANS_MAX * TRACE_KEY_BYTES];

static int setup(void **state)
{
    (void)state;
    forge_arena_init(&arena, 64 << 20, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    forge_arena_done(&arena);
    return 0;
}

static void put(uint8_t *at, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        at[i] = (uint8_t)value;
}

static uint64_t get(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

/* Key i is of span id; it starts with its number, so keys are in order. */
static void key_set(size_t i, uint64_t id, uint64_t parent)
{
    put(keys + i * TRACE_KEY_BYTES, id);
    put(keys + i * TRACE_KEY_BYTES + 8, parent);
    put(keys + i * TRACE_KEY_BYTES + 16, i);
}

/* "id parent, ..." in the order of their starts; parent 0: none. Gives "id placement depth/children" of each, in tree order. */
static const char *shown(const char *spans)
{
    static char text[TEXT_SIZE];
    size_t count = 0, length = 0;
    for (const char *at = spans; at != NULL && *at != '\0'; at = strchr(at, ',') != NULL ? strchr(at, ',') + 1 : NULL) {
        char *end;
        unsigned long id = strtoul(at, &end, 10), parent = strtoul(end, NULL, 10);
        key_set(count++, id, parent);
    }
    forge_arena_reset(&arena);
    const struct trace_node *nodes = trace_tree(&arena, keys, count);
    assert_non_null(nodes);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, "%s%llu%c%d/%d", i == 0 ? "" : " ",
                             (unsigned long long)get(nodes[i].span_id), "?RCOY"[nodes[i].placement], nodes[i].depth, nodes[i].child_count);
    return text;
}

static void test_trees(void **state)
{
    (void)state;
    assert_string_equal(shown(""), "");
    assert_string_equal(shown("1 0"), "1R0/0");
    assert_string_equal(shown("1 0, 2 1, 3 2, 4 1"), "1R0/2 2C1/1 3C2/0 4C1/0");
    assert_string_equal(shown("5 1, 4 5, 1 0, 2 4"), "1R0/1 5C1/1 4C2/1 2C3/0"); /* parents that start later */
    assert_string_equal(shown("7 0, 3 0, 9 7, 8 3"), "7R0/1 9C1/0 3R0/1 8C1/0");
}

static void test_orphans(void **state)
{
    (void)state;
    assert_string_equal(shown("2 9, 1 0, 3 1, 4 2"), "1R0/2 2O1/1 4C2/0 3C1/0");
    assert_string_equal(shown("2 9, 3 2, 4 8"), "2O0/1 3C1/0 4O0/0"); /* no root has arrived */
    assert_string_equal(shown("1 0, 2 0, 3 9"), "1R0/1 3O1/0 2R0/0"); /* under the first root */
}

static void test_cycles(void **state)
{
    (void)state;
    assert_string_equal(shown("1 1"), "1Y0/0");
    assert_string_equal(shown("1 0, 2 2, 3 2"), "1R0/1 2Y1/1 3C2/0");
    assert_string_equal(shown("1 0, 2 3, 3 2, 4 3, 5 4"), "1R0/2 2Y1/0 3Y1/1 4C2/1 5C3/0"); /* a tail is no part of the cycle */
    assert_string_equal(shown("5 4, 4 3, 3 2, 2 3"), "3Y0/1 4C1/1 5C2/0 2Y0/0");            /* met from its tail, and no root */
    assert_string_equal(shown("1 0, 2 4, 3 2, 4 3, 5 6, 6 5"), "1R0/5 2Y1/0 3Y1/0 4Y1/0 5Y1/0 6Y1/0");
    assert_string_equal(shown("1 0, 2 1, 3 3, 4 9"), "1R0/3 2C1/0 3Y1/0 4O1/0");
}

/* A chain from the last to the first and from the first to the last, and a cycle of all. */
static void test_as_many_as_a_trace_may_have(void **state)
{
    (void)state;
    for (int shape = 0; shape < 3; shape++) {
        for (uint64_t i = 0; i < SPANS_MAX; i++) {
            uint64_t before = i == 0 ? (shape == 2 ? SPANS_MAX : 0) : i;
            uint64_t after = i == SPANS_MAX - 1 ? 0 : i + 2;
            key_set(i, i + 1, shape == 1 ? after : before);
        }
        forge_arena_reset(&arena);
        const struct trace_node *nodes = trace_tree(&arena, keys, SPANS_MAX);
        assert_non_null(nodes);
        for (size_t i = 0; i < SPANS_MAX; i++) {
            uint64_t id = shape == 1 ? SPANS_MAX - i : i + 1;
            if (get(nodes[i].span_id) != id || nodes[i].depth != (shape == 2 ? 0 : (int)i))
                fail_msg("shape %d: %llu at %zu has depth %d", shape, (unsigned long long)get(nodes[i].span_id), i, nodes[i].depth);
        }
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    struct forge_arena small;
    forge_arena_init(&small, 1 << 10, NULL);
    for (uint64_t i = 0; i < 1000; i++)
        key_set(i, i + 1, 0);
    assert_null(trace_tree(&small, keys, 1000));
    forge_arena_done(&small);
}

/* ---- against the definition ---- */

static size_t find(size_t count, uint64_t id)
{
    size_t i = 0;
    while (i < count && get(keys + i * TRACE_KEY_BYTES) != id)
        i++;
    return i;
}

/* Follows parents, one by one, at most once around. */
static Forge__V1__SpanPlacement placement_of(size_t count, size_t span)
{
    size_t at = span;
    for (size_t steps = 0; steps < count; steps++) {
        uint64_t parent = get(keys + at * TRACE_KEY_BYTES + 8);
        size_t next = find(count, parent);
        if (steps == 0 && parent == 0)
            return FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ROOT;
        if (steps == 0 && next == count)
            return FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_ORPHAN;
        if (parent == 0 || next == count)
            return FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CHILD;
        if (next == span)
            return FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CYCLE;
        at = next;
    }
    return FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CHILD;
}

/* Small random graphs: each span once, placed as it must be, below the one that stands above it, siblings in order. */
static void test_random_graphs(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < ROUNDS; round++) {
        size_t count = 1 + (size_t)rand() % 30;
        uint64_t above[64]; /* by depth */
        for (size_t i = 0; i < count; i++)
            key_set(i, i * 7 % 31 + 1, (uint64_t)rand() % (count + 4) * 7 % 31 + (rand() % 8 > 0));
        forge_arena_reset(&arena);
        const struct trace_node *nodes = trace_tree(&arena, keys, count);
        assert_non_null(nodes);
        bool seen[64] = {false};
        int64_t last[64];
        int depth_before = -1;
        for (size_t i = 0; i < count; i++) {
            uint64_t id = get(nodes[i].span_id);
            size_t span = find(count, id);
            int depth = nodes[i].depth;
            assert_false(seen[id]);
            seen[id] = true;
            assert_int_equal(nodes[i].placement, placement_of(count, span));
            assert_true(depth <= depth_before + 1);
            if (nodes[i].placement == FORGE__V1__SPAN_PLACEMENT__SPAN_PLACEMENT_CHILD)
                assert_int_equal(above[depth - 1], get(keys + span * TRACE_KEY_BYTES + 8));
            if (depth <= depth_before)
                assert_true(nodes[i].start_ns > last[depth]);
            above[depth] = id;
            last[depth] = nodes[i].start_ns;
            depth_before = depth;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),     cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_cycles),    cmocka_unit_test(test_as_many_as_a_trace_may_have),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_random_graphs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
