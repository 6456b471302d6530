/* Arenas: alignment, zeroing, caps, the shared budget; and the violations that live in them. */
#include "wire/arena.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool is_zero(const unsigned char *memory, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (memory[i])
            return false;
    return true;
}

static void test_alloc_is_aligned_and_zeroed_after_reset(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 3000; size += 7) {
            unsigned char *memory = forge_arena_alloc(&arena, size);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
            assert_true(is_zero(memory, size));
            memset(memory, 0xA5, size);
        }
        forge_arena_reset(&arena);
        assert_int_equal(arena.used, 0);
    }
    forge_arena_done(&arena);
}

static void test_alloc_zero_bytes_is_unique(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1024, NULL);
    void *first = forge_arena_alloc(&arena, 0), *second = forge_arena_alloc(&arena, 0);
    assert_non_null(first);
    assert_non_null(second);
    assert_ptr_not_equal(first, second);
    forge_arena_done(&arena);
}

static void test_overflow_is_sticky_until_reset(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 100, NULL);
    assert_non_null(forge_arena_alloc(&arena, 64));
    assert_false(forge_arena_has_overflowed(&arena));
    assert_null(forge_arena_alloc(&arena, 64));
    assert_true(forge_arena_has_overflowed(&arena));
    assert_null(forge_arena_alloc(&arena, 1));
    forge_arena_reset(&arena);
    assert_false(forge_arena_has_overflowed(&arena));
    assert_non_null(forge_arena_alloc(&arena, 96));
    forge_arena_done(&arena);
}

static void test_alloc_of_huge_sizes_fails(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    assert_null(forge_arena_alloc(&arena, SIZE_MAX));
    forge_arena_reset(&arena);
    assert_null(forge_arena_alloc(&arena, SIZE_MAX - 7));
    forge_arena_reset(&arena);
    assert_null(forge_arena_calloc(&arena, SIZE_MAX / 2, 3));
    assert_true(forge_arena_has_overflowed(&arena));
    forge_arena_reset(&arena);
    assert_non_null(forge_arena_calloc(&arena, 100, 8));
    forge_arena_done(&arena);
    forge_arena_init(&arena, SIZE_MAX, NULL);
    assert_null(forge_arena_alloc(&arena, SIZE_MAX));
    forge_arena_done(&arena);
}

static void test_budget_is_charged_and_given_back(void **state)
{
    struct forge_byte_budget budget = {.bytes_max = 10000};
    struct forge_arena first, second;
    forge_arena_init(&first, 1 << 20, &budget);
    forge_arena_init(&second, 1 << 20, &budget);
    assert_int_equal(atomic_load(&budget.used), 0);
    assert_non_null(forge_arena_alloc(&first, 6000));
    assert_true(first.charged >= 6000);
    assert_int_equal(atomic_load(&budget.used), first.charged);
    assert_null(forge_arena_alloc(&second, 6000));
    assert_true(forge_arena_has_overflowed(&second));
    forge_arena_done(&first);
    forge_arena_reset(&second);
    assert_non_null(forge_arena_alloc(&second, 6000));
    forge_arena_done(&second);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void test_reset_keeps_one_small_chunk(void **state)
{
    struct forge_byte_budget budget = {.bytes_max = SIZE_MAX};
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, &budget);
    assert_non_null(forge_arena_alloc(&arena, 100));
    size_t small = atomic_load(&budget.used);
    assert_non_null(forge_arena_alloc(&arena, 100000));
    assert_true(atomic_load(&budget.used) > 100000);
    forge_arena_reset(&arena);
    assert_int_equal(atomic_load(&budget.used), small);
    assert_in_range(small, 1024, 4096);
    forge_arena_done(&arena);

    forge_arena_init(&arena, 1 << 20, &budget);
    assert_non_null(forge_arena_alloc(&arena, 100000));
    forge_arena_reset(&arena); /* the only chunk is a large one: it is not kept */
    assert_int_equal(atomic_load(&budget.used), 0);
    forge_arena_done(&arena);
}

enum { BUDGET_THREADS = 4, BUDGET_ROUNDS = 20000 };

static void *take_and_give(void *argument)
{
    struct forge_byte_budget *budget = argument;
    for (int i = 0; i < BUDGET_ROUNDS; i++) {
        if (!forge_byte_budget_take(budget, 40))
            continue;
        if (atomic_load(&budget->used) > budget->bytes_max)
            return budget; /* a fault */
        forge_byte_budget_give(budget, 40);
    }
    return NULL;
}

static void test_budget_is_never_exceeded_by_threads(void **state)
{
    struct forge_byte_budget budget = {.bytes_max = 100}; /* room for two of four threads */
    pthread_t threads[BUDGET_THREADS];
    for (int i = 0; i < BUDGET_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &budget), 0);
    for (int i = 0; i < BUDGET_THREADS; i++) {
        void *fault;
        pthread_join(threads[i], &fault);
        assert_null(fault);
    }
    assert_int_equal(atomic_load(&budget.used), 0);
    assert_false(forge_byte_budget_take(&budget, 101));
    assert_false(forge_byte_budget_take(&budget, SIZE_MAX));
    assert_true(forge_byte_budget_take(&budget, 100));
    assert_true(forge_byte_budget_take(NULL, SIZE_MAX));
}

static void test_texts(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    assert_string_equal(forge_arena_strdup(&arena, "prompt"), "prompt");
    assert_string_equal(forge_arena_strndup(&arena, "prompt", 4), "prom");
    assert_string_equal(forge_arena_strndup(&arena, "prompt", 40), "prompt");
    assert_memory_equal(forge_arena_memdup(&arena, "a\0b", 3), "a\0b", 3);
    assert_string_equal(forge_arena_printf(&arena, "%s-%d", "v", 7), "v-7");
    char *wide = forge_arena_printf(&arena, "%1000d", 5);
    assert_int_equal(strlen(wide), 1000);
    assert_int_equal(wide[999], '5');
    forge_arena_done(&arena);
    forge_arena_init(&arena, 64, NULL);
    assert_null(forge_arena_printf(&arena, "%1000d", 5));
    assert_true(forge_arena_has_overflowed(&arena));
    forge_arena_done(&arena);
}

static void test_allocator_survives_a_moved_arena(void **state)
{
    struct forge_arena original, moved;
    forge_arena_init(&original, 4096, NULL);
    moved = original;
    ProtobufCAllocator *allocator = forge_arena_allocator(&moved);
    void *memory = allocator->alloc(allocator->allocator_data, 100);
    assert_non_null(memory);
    assert_true(moved.used >= 100);
    allocator->free(allocator->allocator_data, memory);
    assert_int_equal(original.used, 0);
    forge_arena_done(&moved);
}

static void test_done_accepts_zeroed(void **state)
{
    struct forge_arena arena = {0};
    forge_arena_done(&arena);
    assert_null(forge_arena_alloc(&arena, 1)); /* a cap of 0 */
}

static void test_violations_are_kept_in_order_and_capped(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 1 << 20, NULL);
    struct forge_error error = {0};
    char field[32];
    for (int i = 0; i < FORGE_VIOLATIONS_MAX + 10; i++) {
        snprintf(field, sizeof field, "items[%d]", i);
        forge_error_add_violation(&error, &arena, field, "must not be %d", i);
    }
    memset(field, 'x', sizeof field); /* the arena has its own copy */
    assert_int_equal(error.violation_count, FORGE_VIOLATIONS_MAX + 10);
    int kept = 0;
    for (const struct forge_violation *v = error.violations; v; v = v->next, kept++) {
        char expected[32];
        snprintf(expected, sizeof expected, "items[%d]", kept);
        assert_string_equal(v->field, expected);
        snprintf(expected, sizeof expected, "must not be %d", kept);
        assert_string_equal(v->description, expected);
    }
    assert_int_equal(kept, FORGE_VIOLATIONS_MAX);
    forge_arena_done(&arena);
}

static void test_violation_without_memory_is_counted(void **state)
{
    struct forge_arena arena;
    forge_arena_init(&arena, 16, NULL);
    struct forge_error error = {0};
    forge_error_add_violation(&error, &arena, "name", "too long");
    assert_int_equal(error.violation_count, 1);
    assert_null(error.violations);
    assert_true(forge_arena_has_overflowed(&arena));
    forge_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_is_aligned_and_zeroed_after_reset), cmocka_unit_test(test_alloc_zero_bytes_is_unique),
        cmocka_unit_test(test_overflow_is_sticky_until_reset),          cmocka_unit_test(test_alloc_of_huge_sizes_fails),
        cmocka_unit_test(test_budget_is_charged_and_given_back),        cmocka_unit_test(test_reset_keeps_one_small_chunk),
        cmocka_unit_test(test_budget_is_never_exceeded_by_threads),     cmocka_unit_test(test_texts),
        cmocka_unit_test(test_allocator_survives_a_moved_arena),        cmocka_unit_test(test_done_accepts_zeroed),
        cmocka_unit_test(test_violations_are_kept_in_order_and_capped), cmocka_unit_test(test_violation_without_memory_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
