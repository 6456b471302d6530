#include "rpc/workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* 50 ms, doubled as long as the queue stays full, at most 1 s. */
static void test_retry_after_doubles(void **state)
{
    static const struct {
        uint64_t full_for_ms;
        uint32_t wait_ms;
    } cases[] = {{0, 50},    {49, 50},   {50, 100},   {149, 100},   {150, 200},     {349, 200},        {350, 400},
                 {749, 400}, {750, 800}, {1549, 800}, {1550, 1000}, {100000, 1000}, {UINT64_MAX, 1000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(rpc_workers_retry_after_ms(cases[i].full_for_ms), cases[i].wait_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_retry_after_doubles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
