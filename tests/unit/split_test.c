/* Splits: the numbers of subjects, the versions they fall on, and the shares that come of it. */
#include "wire/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SUBJECTS = 100000, ONE_POINT = SUBJECTS / 100 };

static const char prompt_id[] = "018f3b1c-7a2e-7c4d-9b1a-2f6e5d4c3b2a";

/* Made with Python's hashlib, which is not ours. The first one stands in proto/README.md. */
static void test_numbers_of_subjects(void **state)
{
    static const struct {
        const char *label, *subject;
        uint64_t number;
    } vectors[] = {
        {"production", "user-42", UINT64_C(0x8104f3a061692599)},
        {"production", "user-1", UINT64_C(0xbc6f4b8d48e812b4)},
        {"production", "", UINT64_C(0x8bffbb0aa8edb976)},
        {"beta.2",
         "Gr\xc3\xbc\xc3\x9f"
         "e",
         UINT64_C(0xc618c7f54ba4c27a)},
        {"a", "|", UINT64_C(0xc494308c231036ab)},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        assert_true(forge_split_number(prompt_id, vectors[i].label, vectors[i].subject) == vectors[i].number);
}

static int32_t at(uint64_t number, int32_t first_weight, int32_t second_weight)
{
    const struct forge_split_target targets[] = {{7, first_weight}, {8, second_weight}};
    return forge_split_version(number, targets, 2);
}

static void test_versions_of_numbers(void **state)
{
    uint64_t documented = forge_split_number(prompt_id, "production", "user-42");
    assert_int_equal(documented % 100, 53);
    assert_int_equal(at(documented, 90, 10), 7);
    assert_int_equal(at(documented, 50, 50), 8);
    assert_int_equal(at(89, 90, 10), 7);
    assert_int_equal(at(90, 90, 10), 8);
    assert_int_equal(at(99, 90, 10), 8);
    assert_int_equal(at(100, 90, 10), 7);
    assert_int_equal(at(UINT64_MAX, 1, 1), 8); /* an odd number, and no sign */
    assert_int_equal(at(1999999, 1000000, 1000000), 8);
    const struct forge_split_target one = {3, 1000000};
    assert_int_equal(forge_split_version(UINT64_MAX, &one, 1), 3);
}

static void test_the_most_targets(void **state)
{
    struct forge_split_target targets[16];
    for (int32_t i = 0; i < 16; i++)
        targets[i] = (struct forge_split_target){i + 1, 1000000};
    for (uint64_t i = 0; i < 16; i++) {
        assert_int_equal(forge_split_version(i * 1000000, targets, 16), i + 1);
        assert_int_equal(forge_split_version(i * 1000000 + 999999, targets, 16), i + 1);
    }
    assert_int_equal(forge_split_version(16000000, targets, 16), 1);
}

/* Numbered subjects, as callers have them; each label draws anew. */
static void test_shares_are_within_a_point(void **state)
{
    static const char *const labels[] = {"production", "beta"};
    const struct forge_split_target targets[] = {{1, 70}, {4, 25}, {9, 5}};
    for (size_t label = 0; label < 2; label++) {
        int counts[10] = {0};
        for (int i = 0; i < SUBJECTS; i++) {
            char subject[32];
            snprintf(subject, sizeof subject, "user-%d", i);
            counts[forge_split_version(forge_split_number(prompt_id, labels[label], subject), targets, 3)]++;
        }
        for (size_t i = 0; i < 3; i++)
            if (abs(counts[targets[i].version] - SUBJECTS / 100 * targets[i].weight) > ONE_POINT)
                fail_msg("version %d has %d of %d subjects at weight %d", (int)targets[i].version, counts[targets[i].version], SUBJECTS,
                         (int)targets[i].weight);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_of_subjects),
        cmocka_unit_test(test_versions_of_numbers),
        cmocka_unit_test(test_the_most_targets),
        cmocka_unit_test(test_shares_are_within_a_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
