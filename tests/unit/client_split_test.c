/* What libforge chooses for subjects from the reply of GetPrompt. */
#include "forge/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TEXT(text) ((char *)(uintptr_t)(text))

/* The example of proto/README.md. */
static int32_t chosen(int32_t first_weight, int32_t second_weight, size_t count, const char *subject)
{
    Forge__V1__LabelTarget targets[2] = {FORGE__V1__LABEL_TARGET__INIT, FORGE__V1__LABEL_TARGET__INIT};
    Forge__V1__LabelTarget *list[20] = {&targets[0], &targets[1]};
    Forge__V1__Prompt prompt = FORGE__V1__PROMPT__INIT;
    for (size_t i = 2; i < count; i++)
        list[i] = &targets[1];
    targets[0].version = 7;
    targets[0].weight = first_weight;
    targets[1].version = 8;
    targets[1].weight = second_weight;
    prompt.id = TEXT("018f3b1c-7a2e-7c4d-9b1a-2f6e5d4c3b2a");
    prompt.label = TEXT("production");
    prompt.version = 3;
    prompt.n_label_targets = count;
    prompt.label_targets = list;
    return forge_prompt_version_for(&prompt, subject);
}

static void test_subjects_get_what_the_server_gives(void **state)
{
    (void)state;
    assert_int_equal(chosen(90, 10, 2, "user-42"), 7);
    assert_int_equal(chosen(50, 50, 2, "user-42"), 8);
    assert_int_equal(chosen(1, 10, 1, "user-42"), 7);
    assert_int_equal(chosen(50, 50, 2, NULL), chosen(50, 50, 2, ""));
}

static void test_without_a_usable_split_it_is_the_version_told(void **state)
{
    (void)state;
    assert_int_equal(chosen(90, 10, 0, "user-42"), 3);
    assert_int_equal(chosen(0, 0, 2, "user-42"), 3);
    assert_int_equal(chosen(10, -1, 2, "user-42"), 3);
    assert_int_equal(chosen(10, 1, 17, "user-42"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subjects_get_what_the_server_gives),
        cmocka_unit_test(test_without_a_usable_split_it_is_the_version_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
