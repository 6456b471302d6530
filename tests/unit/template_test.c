/* Templates: the syntax at its edges, and that values are text and nothing else. */
#include "wire/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct forge_arena arena;
    struct forge_error error;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    forge_arena_init(&fixture->arena, 64 << 20, NULL);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    forge_arena_done(&fixture->arena);
    free(fixture);
    return 0;
}

static const struct forge_template_variable variables[] = {
    {"name", "Ada"}, {"a.b-c_1", "dotted"}, {"_x", "{{name}}"}, {"empty", ""}, {"none", NULL}, {"unused", "?"},
};
static const struct forge_template_variable references[] = {
    {"greeting", "Hello {{name}}{{> greeting}}"}, {"greeting@3", "three"}, {"the house rules@production", ""}, {"none", NULL}};
static const struct forge_template_values values = {variables, references, sizeof variables / sizeof variables[0],
                                                    sizeof references / sizeof references[0]};

static forge_code render(struct fixture *fixture, const char *text, size_t result_max, char **out)
{
    *out = NULL;
    memset(&fixture->error, 0, sizeof fixture->error);
    return forge_template_render(text, &values, result_max, &fixture->arena, out, &fixture->error);
}

static void assert_renders(struct fixture *fixture, const char *text, const char *expected)
{
    char *out;
    assert_int_equal(render(fixture, text, 1000, &out), FORGE_OK);
    assert_string_equal(out, expected);
}

static void assert_malformed(struct fixture *fixture, const char *text, const char *message)
{
    struct forge_template_names names = {.count = 99};
    char *out;
    memset(&fixture->error, 0, sizeof fixture->error);
    assert_int_equal(forge_template_scan(text, &fixture->arena, &names, &fixture->error), FORGE_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.message, message);
    assert_int_equal(names.count, 99);
    assert_int_equal(render(fixture, text, 1000, &out), FORGE_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.message, message);
    assert_null(out);
}

static void test_render(void **state)
{
    assert_renders(*state, "", "");
    assert_renders(*state, "Hello {{name}}!", "Hello Ada!");
    assert_renders(*state, "{{name}}{{  name  }}", "AdaAda");
    assert_renders(*state, "[{{empty}}] {{a.b-c_1}}", "[] dotted");
    assert_renders(*state, "a { b } }} c {d} \\ \\{ {", "a { b } }} c {d} \\ \\{ {");
    assert_renders(*state, "{\"k\": {\"v\": \"{{name}}\"}}", "{\"k\": {\"v\": \"Ada\"}}");
    assert_renders(*state, "\xE2\x82\xAC{{name}}\xE2\x82\xAC",
                   "\xE2\x82\xAC"
                   "Ada\xE2\x82\xAC");
}

static void test_escape(void **state)
{
    assert_renders(*state, "\\{{name}}", "{{name}}");
    assert_renders(*state, "\\\\{{name}}", "\\{{name}}");
    assert_renders(*state, "\\{{{{name}}", "{{Ada");
    assert_renders(*state, "\\{{", "{{");
}

static void test_values_are_not_scanned(void **state)
{
    assert_renders(*state, "{{_x}}", "{{name}}");
}

static void test_malformed(void **state)
{
    assert_malformed(*state, "{{", "template: line 1, column 1: {{ is not closed by }}");
    assert_malformed(*state, "ab\ncd {{name", "template: line 2, column 4: {{ is not closed by }}");
    assert_malformed(*state, "\xE2\x82\xAC {{name}",
                     "template: line 1, column 3: the name may hold letters, digits, _ . - and must be followed by }}");
    assert_malformed(*state, "{{na me}}",
                     "template: line 1, column 1: the name may hold letters, digits, _ . - and must be followed by }}");
    assert_malformed(*state, "{{name\n}}",
                     "template: line 1, column 1: the name may hold letters, digits, _ . - and must be followed by }}");
    const char *no_name =
        "template: line 1, column 2: {{ must be followed by a name that begins with a letter or _ (\\{{ stands for the text {{)";
    assert_malformed(*state, "x{{}}", no_name);
    assert_malformed(*state, "x{{1}}", no_name);
    assert_malformed(*state, "x{{{name}}}", no_name);
    assert_malformed(*state, "x{{.name}}", no_name);
}

static void test_name_length(void **state)
{
    struct fixture *fixture = *state;
    char text[80];
    struct forge_template_names names;
    snprintf(text, sizeof text, "{{%064d}}", 0);
    text[2] = 'n';
    assert_int_equal(forge_template_scan(text, &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(strlen(names.names[0]), 64);
    snprintf(text, sizeof text, "{{%065d}}", 0);
    text[2] = 'n';
    assert_malformed(fixture, text, "template: line 1, column 1: the name is longer than 64 characters");
}

static void test_scan_lists_each_name_once_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct forge_template_names names;
    assert_int_equal(forge_template_scan("{{b}} {{a}} {{b}} \\{{c}} {{ab}} {{a}}", &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(names.count, 3);
    assert_string_equal(names.names[0], "b");
    assert_string_equal(names.names[1], "a");
    assert_string_equal(names.names[2], "ab");
    assert_int_equal(forge_template_scan("no names", &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(names.count, 0);
}

static void test_missing_values_are_all_named(void **state)
{
    struct fixture *fixture = *state;
    char *out;
    assert_int_equal(render(fixture, "{{x}} {{name}} {{none}} {{x}} {{> none}}", 1000, &out), FORGE_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.message, "variables.x: the template needs a value for it");
    assert_int_equal(fixture->error.violation_count, 2);
    assert_string_equal(fixture->error.violations->field, "variables.x");
    assert_string_equal(fixture->error.violations->next->field, "variables.none");
    assert_null(out);
}

static void test_result_limit(void **state)
{
    struct fixture *fixture = *state;
    char *out;
    assert_int_equal(render(fixture, "{{name}}{{name}}", 6, &out), FORGE_OK);
    assert_string_equal(out, "AdaAda");
    assert_int_equal(render(fixture, "{{> greeting@3}}{{> greeting@3}}", 9, &out), FORGE_RESOURCE_EXHAUSTED);
    assert_null(out);
    assert_int_equal(render(fixture, "{{name}}{{name}}", 5, &out), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(fixture->error.message, "the rendered text would be longer than 5 bytes");
    assert_null(out);
}

static void test_small_arena(void **state)
{
    struct fixture *fixture = *state;
    struct forge_arena small;
    char *out = NULL;
    forge_arena_init(&small, 48, NULL);
    assert_int_equal(forge_template_render("{{name}} {{name}} and some more text", &values, 1000, &small, &out, &fixture->error),
                     FORGE_RESOURCE_EXHAUSTED);
    assert_null(out);
    forge_arena_done(&small);
}

static void test_number_of_names(void **state)
{
    struct fixture *fixture = *state;
    enum { PLACEHOLDERS = 20 * FORGE_TEMPLATE_NAMES_MAX, EACH = 12 };
    char *text = malloc(PLACEHOLDERS * EACH + 1);
    for (int i = 0; i < PLACEHOLDERS; i++)
        sprintf(text + i * EACH, "{{n%07d}}", i % FORGE_TEMPLATE_NAMES_MAX);
    struct forge_template_names names;
    assert_int_equal(forge_template_scan(text, &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(names.count, FORGE_TEMPLATE_NAMES_MAX);
    assert_string_equal(names.names[FORGE_TEMPLATE_NAMES_MAX - 1], "n0000999");
    text[(PLACEHOLDERS - 1) * EACH + 2] = 'x';
    assert_malformed(fixture, text, "template: more than 1000 different names");
    free(text);
}

/* --- references --- */

static void test_references_render(void **state)
{
    assert_renders(*state, "{{> greeting}}", "Hello {{name}}{{> greeting}}"); /* what stands for them is text and nothing else */
    assert_renders(*state, "[{{>greeting@3}}{{  >   greeting@3  }}]", "[threethree]");
    assert_renders(*state, "[{{> the house rules@production}}] {{name}}", "[] Ada");
    assert_renders(*state, "\\{{> greeting}}", "{{> greeting}}");
}

static void test_a_reference_needs_its_text(void **state)
{
    char *out;
    assert_int_equal(render(*state, "{{name}} {{> none}}", 1000, &out), FORGE_INVALID_ARGUMENT);
    assert_string_equal(((struct fixture *)*state)->error.message, "template: nothing stands for {{> none}}");
    assert_int_equal(render(*state, "{{> greeting@4}}", 1000, &out), FORGE_INVALID_ARGUMENT);
}

static void assert_reference(const struct forge_template_reference *reference, const char *text, const char *name, int version,
                             const char *label)
{
    assert_string_equal(reference->text, text);
    assert_string_equal(reference->name, name);
    assert_int_equal(reference->version, version);
    assert_string_equal(reference->label ? reference->label : "", label ? label : "");
    assert_int_equal(reference->label == NULL, label == NULL);
}

static void test_scan_takes_references_apart(void **state)
{
    struct fixture *fixture = *state;
    struct forge_template_names names;
    const char *text = "{{> a}} {{b}} {{> a@2147483647}} {{> two words@x.y-1}} {{>  a  }} {{> me@home@current}} {{> a@07a}} {{> c}}}";
    assert_int_equal(forge_template_scan(text, &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(names.count, 1);
    assert_int_equal(names.reference_count, 6);
    assert_reference(&names.references[0], "a", "a", 0, NULL);
    assert_reference(&names.references[1], "a@2147483647", "a", INT32_MAX, NULL);
    assert_reference(&names.references[2], "two words@x.y-1", "two words", 0, "x.y-1");
    assert_reference(&names.references[3], "me@home@current", "me@home", 0, NULL);
    assert_reference(&names.references[4], "a@07a", "a", 0, "07a");
    assert_reference(&names.references[5], "c", "c", 0, NULL);
}

static void test_malformed_references(void **state)
{
    static const char *const selectors[] = {"a@",     "a@0",        "a@03", "a@2147483648", "a@99999999999999999999",
                                            "a@Prod", "a@pro duct", "a @3", "a@ 3",         "a@b@"};
    assert_malformed(*state, "a\n {{> b", "template: line 2, column 2: {{> is not closed by }}");
    assert_malformed(*state, "{{> b}", "template: line 1, column 1: {{> is not closed by }}");
    assert_malformed(*state, "{{>}}", "template: line 1, column 1: {{> must be followed by the name of a prompt");
    assert_malformed(*state, "{{>  @3}}", "template: line 1, column 1: {{> must be followed by the name of a prompt");
    assert_malformed(*state, "{{> b\n}}",
                     "template: line 1, column 1: the name of a prompt has no line breaks and other control characters");
    for (size_t i = 0; i < sizeof selectors / sizeof selectors[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "{{> %s}}", selectors[i]);
        assert_malformed(
            *state, text,
            "template: line 1, column 1: @ must stand between the name of a prompt and a version from 1 on, a label or \"current\"");
    }
}

static void test_length_of_a_reference(void **state)
{
    struct fixture *fixture = *state;
    struct forge_template_names names;
    enum { CHARACTERS = 255 };
    char text[4 * CHARACTERS] = "{{> ";
    for (int i = 0; i < CHARACTERS; i++)
        strcat(text, "\xE2\x82\xAC");
    size_t length = strlen(text);
    snprintf(text + length, sizeof text - length, "@%064d}}", 0);
    text[length + 1] = 'x';
    assert_int_equal(forge_template_scan(text, &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(strlen(names.references[0].name), 3 * CHARACTERS);
    assert_int_equal(strlen(names.references[0].label), 64);
    snprintf(text + length, sizeof text - length, "@%065d}}", 0);
    text[length + 1] = 'x';
    assert_malformed(
        fixture, text,
        "template: line 1, column 1: @ must stand between the name of a prompt and a version from 1 on, a label or \"current\"");
    snprintf(text + length, sizeof text - length, "y}}");
    assert_malformed(fixture, text, "template: line 1, column 1: the name of a prompt has at most 255 characters");
}

static void test_number_of_references(void **state)
{
    struct fixture *fixture = *state;
    enum { EACH = 13 };
    char *text = malloc((FORGE_TEMPLATE_REFERENCES_MAX + 1) * EACH + 1);
    for (int i = 0; i <= FORGE_TEMPLATE_REFERENCES_MAX; i++)
        sprintf(text + i * EACH, "{{> n%06d}}", i % FORGE_TEMPLATE_REFERENCES_MAX);
    struct forge_template_names names;
    assert_int_equal(forge_template_scan(text, &fixture->arena, &names, &fixture->error), FORGE_OK);
    assert_int_equal(names.reference_count, FORGE_TEMPLATE_REFERENCES_MAX);
    text[FORGE_TEMPLATE_REFERENCES_MAX * EACH + 4] = 'x';
    assert_malformed(fixture, text, "template: more than 1000 different references");
    free(text);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_render),
        TEST(test_escape),
        TEST(test_values_are_not_scanned),
        TEST(test_malformed),
        TEST(test_name_length),
        TEST(test_scan_lists_each_name_once_in_order),
        TEST(test_missing_values_are_all_named),
        TEST(test_result_limit),
        TEST(test_small_arena),
        TEST(test_number_of_names),
        TEST(test_references_render),
        TEST(test_a_reference_needs_its_text),
        TEST(test_scan_takes_references_apart),
        TEST(test_malformed_references),
        TEST(test_length_of_a_reference),
        TEST(test_number_of_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
