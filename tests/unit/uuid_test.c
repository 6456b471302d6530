/* UUIDs: text form, version 7, order, uniqueness over threads and forks. */
#include "wire/uuid.h"

#include "wire/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_parse_and_format(void **state)
{
    struct forge_uuid uuid;
    char text[FORGE_UUID_TEXT_SIZE];
    assert_true(forge_uuid_parse("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", &uuid));
    forge_uuid_format(&uuid, text);
    assert_string_equal(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    assert_int_equal(uuid.bytes[0], 0x01);
    assert_int_equal(uuid.bytes[15], 0x8F);
    /* The example of RFC 9562, appendix A.6. */
    assert_true(forge_uuid_is_v7(&uuid));
    assert_int_equal(forge_uuid_v7_ms(&uuid), 0x017F22E279B0);
}

static void test_parse_refuses(void **state)
{
    static const char *const wrong[] = {
        "",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",    /* short */
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",  /* long */
        "017f22e279b07cc398c4dc0c0c07398f",       /* without dashes */
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}", /* braces */
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",   /* not hexadecimal */
        "017f22e2-79b0-7cc3-98c4_dc0c0c07398f",   /* wrong separator */
        "-17f22e2-79b0-7cc3-98c4-dc0c0c07398f",   /* sign */
        " 17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
    };
    struct forge_uuid before, uuid;
    memset(&before, 0x5A, sizeof before);
    uuid = before;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(forge_uuid_parse(wrong[i], &uuid));
    assert_false(forge_uuid_parse(NULL, &uuid));
    assert_true(forge_uuid_equal(&uuid, &before));
}

static void test_nil(void **state)
{
    struct forge_uuid uuid;
    assert_true(forge_uuid_parse("00000000-0000-0000-0000-000000000000", &uuid));
    assert_true(forge_uuid_is_nil(&uuid));
    assert_false(forge_uuid_is_v7(&uuid));
    forge_uuid_v7(&uuid);
    assert_false(forge_uuid_is_nil(&uuid));
}

static void test_v7_carries_the_time(void **state)
{
    int64_t before_ms = forge_clock_wall_us() / 1000;
    struct forge_uuid uuid;
    forge_uuid_v7(&uuid);
    int64_t after_ms = forge_clock_wall_us() / 1000;
    assert_true(forge_uuid_is_v7(&uuid));
    assert_in_range(forge_uuid_v7_ms(&uuid), before_ms, after_ms + 1);
}

static void test_v7_is_ordered(void **state)
{
    struct forge_uuid previous, next;
    forge_uuid_v7(&previous);
    for (int i = 0; i < 100000; i++) {
        forge_uuid_v7(&next);
        assert_true(memcmp(previous.bytes, next.bytes, sizeof next.bytes) < 0);
        previous = next;
    }
}

static int64_t fixed_us;
static int64_t fixed_clock(void)
{
    return fixed_us;
}

static void test_v7_is_ordered_when_the_clock_goes_back(void **state)
{
    struct forge_uuid first, second, third;
    fixed_us = forge_clock_wall_us() + 1000000;
    forge_clock_set_wall_source(fixed_clock);
    forge_uuid_v7(&first);
    forge_uuid_v7(&second); /* the clock stands */
    fixed_us -= 500000;
    forge_uuid_v7(&third);
    forge_clock_set_wall_source(NULL);
    assert_true(memcmp(first.bytes, second.bytes, 16) < 0);
    assert_true(memcmp(second.bytes, third.bytes, 16) < 0);
}

enum { THREADS = 4, IDS = 20000 };
static struct forge_uuid made[THREADS][IDS];

static void *make_ids(void *argument)
{
    struct forge_uuid *ids = argument;
    for (int i = 0; i < IDS; i++)
        forge_uuid_v7(&ids[i]);
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct forge_uuid));
}

static void test_v7_is_unique_over_threads(void **state)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_ids, made[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct forge_uuid *all = made[0];
    qsort(all, (size_t)THREADS * IDS, sizeof *all, compare_ids);
    for (size_t i = 1; i < (size_t)THREADS * IDS; i++) /* the time parts alone must differ: that is the order */
        assert_int_not_equal(memcmp(all[i - 1].bytes, all[i].bytes, 8), 0);
}

/* A child inherits the random bytes its parent has in store; it must not use the same ones. */
static void test_v7_random_part_differs_after_fork(void **state)
{
    struct forge_uuid parents, childs;
    int ends[2];
    forge_uuid_v7(&parents); /* fills the store */
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        forge_uuid_v7(&childs);
        _exit(write(ends[1], &childs, sizeof childs) == sizeof childs ? 0 : 1);
    }
    forge_uuid_v7(&parents);
    assert_int_equal(read(ends[0], &childs, sizeof childs), sizeof childs);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ends[0]);
    close(ends[1]);
    assert_int_not_equal(memcmp(parents.bytes + 8, childs.bytes + 8, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_and_format),
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_nil),
        cmocka_unit_test(test_v7_carries_the_time),
        cmocka_unit_test(test_v7_is_ordered),
        cmocka_unit_test(test_v7_is_unique_over_threads),
        cmocka_unit_test(test_v7_random_part_differs_after_fork),
        cmocka_unit_test(test_v7_is_ordered_when_the_clock_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
