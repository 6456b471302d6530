/* Evaluators json_valid and json_schema: the JSON Schema Test Suite (package json-schema-test-suite, draft 7), what is refused, and schemas
 * that were made to take for ever. */
#include "evaluator_test_support.h"

#include "evaluate/json_schema.h"
#include "wire/envelope.h"

#include <jansson.h>
#include <stdlib.h>

#define SUITE "/usr/share/json-schema-test-suite/tests/draft7"

static double json_valid(const char *output)
{
    Forge__V1__JsonValidEvaluator config = FORGE__V1__JSON_VALID_EVALUATOR__INIT;
    const Forge__V1__Evaluator evaluator = EVALUATOR(JSON_VALID, json_valid, &config);
    return judge(&evaluator, output, NULL);
}

static void test_json_valid(void **state)
{
    static const char *const valid[] = {
        "{}",
        "[]",
        "0",
        "-1.5e-3",
        "\"text\"",
        "null",
        " true\n",
        "{\"a\":[1,{\"b\":null}]}",
        "{\"a\":1,\"a\":2}",
        "\"\\u0000\"",
        "123456789012345678901234567890",
        "\"\\ud83d\\ude00\"",
        "1e-999",
    };
    static const char *const invalid[] = {
        "",
        " ",
        "{",
        "{}{}",
        "1 2",
        "[1,]",
        "{'a':1}",
        "01",
        "+1",
        "NaN",
        "True",
        "\"a",
        "// c\n1",
        "```json\n{}\n```",
        "\"\\ud83d\"",
        "1e999",
        "{\"\\u0000\":1}",
        "\xEF\xBB\xBF{}",
    };
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++)
        if (json_valid(valid[i]) != 1)
            fail_msg("%s: %s", valid[i], explanation);
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        if (json_valid(invalid[i]) != 0)
            fail_msg("%s is taken as JSON", invalid[i]);
        assert_memory_equal(explanation, "not JSON: line ", 15);
    }
    char deep[2 * 4000 + 1];
    memset(deep, '[', 4000);
    memset(deep + 4000, ']', 4000);
    deep[8000] = '\0';
    assert_true(json_valid(deep) == 0);
    deep[4000 + 2000] = '\0';
    assert_true(json_valid(deep + 2000) == 1);
}

static Forge__V1__JsonSchemaEvaluator config_of(const char *schema)
{
    Forge__V1__JsonSchemaEvaluator config = FORGE__V1__JSON_SCHEMA_EVALUATOR__INIT;
    config.schema = (char *)(uintptr_t)schema;
    return config;
}

static double fits(const char *schema, const char *output)
{
    Forge__V1__JsonSchemaEvaluator config = config_of(schema);
    const Forge__V1__Evaluator evaluator = EVALUATOR(JSON_SCHEMA, json_schema, &config);
    return judge(&evaluator, output, NULL);
}

/* --- the suite --- */

/* Groups that are not run as they are, and why. */
static const char remote[] = "refers to another document, which is refused", annotation[] = "formats and encodings are annotations";
static const struct {
    const char *file, *group, *reason;
} skips[] = {
    {"definitions", "valid definition", remote},
    {"definitions", "invalid definition", remote},
    {"ref", "remote ref, containing refs itself", remote},
    {"refRemote", NULL, remote},
    {"optional/content", NULL, annotation},
    {"optional/ecmascript-regex", "ECMA 262 regex non-compliance", annotation},
};

static const char *skip_reason(const char *file, const char *group)
{
    for (size_t i = 0; i < sizeof skips / sizeof skips[0]; i++)
        if (strcmp(skips[i].file, file) == 0 && (skips[i].group == NULL || strcmp(skips[i].group, group) == 0))
            return skips[i].reason;
    return NULL;
}

struct counts {
    unsigned passed, failed, skipped;
};

static void run_group(const char *file, const json_t *group, struct counts *counts)
{
    const char *description = json_string_value(json_object_get(group, "description"));
    const json_t *tests = json_object_get(group, "tests");
    const char *reason = skip_reason(file, description);
    char *text = json_dumps(json_object_get(group, "schema"), JSON_ENCODE_ANY), said[480];
    struct json_schema *schema = json_schema_prepare(text, strlen(text), said, sizeof said);
    if (reason != NULL) {
        print_message("skipped: %s, %s: %s\n", file, description, reason);
        if (reason == remote)
            assert_non_null(strstr(said, "references to other documents are refused"));
        counts->skipped += (unsigned)json_array_size(tests);
    } else if (schema == NULL) {
        print_error("%s, %s: %s\n", file, description, said);
        counts->failed += (unsigned)json_array_size(tests);
    }
    for (size_t i = 0; reason == NULL && schema != NULL && i < json_array_size(tests); i++) {
        const json_t *test = json_array_get(tests, i);
        char *data = json_dumps(json_object_get(test, "data"), JSON_ENCODE_ANY);
        enum json_schema_result result = json_schema_apply(schema, data, strlen(data), said, sizeof said, NULL);
        bool as_told = result == (json_is_true(json_object_get(test, "valid")) ? JSON_SCHEMA_FITS : JSON_SCHEMA_DIFFERS);
        *(as_told ? &counts->passed : &counts->failed) += 1;
        assert_int_equal(said[0] == '\0', result == JSON_SCHEMA_FITS);
        if (!as_told)
            print_error("%s, %s, %s: %s\n", file, description, json_string_value(json_object_get(test, "description")), said);
        free(data);
    }
    json_schema_free(schema);
    free(text);
}

static void test_suite(void **state)
{
    static const char *const names[] = {
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "boolean_schema",
        "const",
        "contains",
        "default",
        "definitions",
        "dependencies",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "if-then-else",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "patternProperties",
        "properties",
        "propertyNames",
        "ref",
        "refRemote",
        "required",
        "type",
        "uniqueItems",
        "optional/bignum",
        "optional/content",
        "optional/ecmascript-regex",
        "optional/zeroTerminatedFloats",
    };
    struct counts counts = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[160];
        json_error_t error;
        snprintf(path, sizeof path, SUITE "/%s.json", names[i]);
        json_t *groups = json_load_file(path, JSON_DECODE_INT_AS_REAL * (strcmp(names[i], "optional/bignum") == 0), &error);
        if (groups == NULL)
            fail_msg("%s: %s", path, error.text);
        for (size_t j = 0; j < json_array_size(groups); j++)
            run_group(names[i], json_array_get(groups, j), &counts);
        json_decref(groups);
    }
    print_message("JSON Schema Test Suite, draft 7: %u as told, %u not, %u skipped\n", counts.passed, counts.failed, counts.skipped);
    assert_int_equal(counts.failed, 0);
    assert_true(counts.passed > 400);
}

/* --- what it says --- */

static void test_explanations(void **state)
{
    static const char *const schema =
        "{\"type\":\"object\",\"required\":[\"name\"],\"additionalProperties\":false,\"properties\":{\"name\":{\"type\":\"string\","
        "\"minLength\":2},"
        "\"a/b\":{\"items\":{\"properties\":{\"price\":{\"maximum\":10,\"multipleOf\":0.5}}}},\"kind\":{\"enum\":[\"x\",1]},"
        "\"list\":{\"uniqueItems\":true,\"anyOf\":[{\"maxItems\":3},{\"type\":\"null\"}]}}}";
    static const struct {
        const char *output, *said;
    } cases[] = {
        {"{\"name\":\"\u00E9\u00E9\"}", ""},
        {"oops", "not JSON: line 1: invalid token near 'oops'"},
        {"[]", "the root: must be of type object"},
        {"{}", "the root: must have the member \"name\""},
        {"{\"name\":\"\u00E9\"}", "/name: must have at least 2 characters"},
        {"{\"name\":\"ab\",\"a/b\":[{},{\"price\":11}]}", "/a~1b/1/price: must be at most 10"},
        {"{\"name\":\"ab\",\"a/b\":[{\"price\":9.75}]}", "/a~1b/0/price: must be a multiple of 0.5"},
        {"{\"name\":\"ab\",\"other\":1}", "/other: is not allowed"},
        {"{\"name\":\"ab\",\"kind\":2}", "/kind: must be one of the 2 values of enum"},
        {"{\"name\":\"ab\",\"kind\":1.0}", ""},
        {"{\"name\":\"ab\",\"list\":[1,2,1.0]}", "/list: items 0 and 2 must not be equal"},
        {"{\"name\":\"ab\",\"list\":[1,2,3,4]}", "/list: must fit one of the schemas of anyOf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double score = fits(schema, cases[i].output);
        assert_string_equal(explanation, cases[i].said);
        assert_true(score == (cases[i].said[0] == '\0'));
    }
}

/* Letters of three bytes, moved by 0 to 2 bytes: wherever a text is cut off, it is within a letter once. */
static void test_explanations_end_between_characters(void **state)
{
    static const struct {
        const char *before, *after; /* a name */
    } schemas[] = {
        {"{\"properties\":{\"a\":{\"pattern\":\"", "\"}}}"},
        {"{\"required\":[\"", "\"]}"},
        {"{\"dependencies\":{\"a\":[\"", "\"]}}"},
        {"{\"propertyNames\":{\"enum\":[\"", "\"]}}"},
        {"{\"additionalProperties\":{\"pattern\":\"x", "\"}}"},
    };
    char letters[301] = "";
    for (int i = 0; i < 100; i++)
        strcat(letters, "\u4e00");
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        for (int offset = 0; offset < 3; offset++) {
            char schema[512], output[512];
            snprintf(schema, sizeof schema, "%s%.*s%s%s", schemas[i].before, offset, "xx", letters, schemas[i].after);
            snprintf(output, sizeof output, "{\"a\":\"a\",\"%.*s%.240s\":\"a\"}", offset, "xx", letters);
            assert_true(fits(schema, output) < 1);
            if (!forge_utf8_is_valid((const uint8_t *)explanation, strlen(explanation)))
                fail_msg("%s", explanation);
        }
}

static void test_numbers_are_exact(void **state)
{
    assert_true(fits("{\"const\":9007199254740993}", "9007199254740993") == 1);
    assert_true(fits("{\"const\":9007199254740993}", "9007199254740992") == 0);
    assert_true(fits("{\"maximum\":9223372036854775806}", "9223372036854775807") == 0);
    assert_true(fits("{\"type\":\"integer\"}", "123456789012345678901234567890") == 1);
    assert_true(fits("{\"multipleOf\":0.5}", "1e308") == 1);
    assert_true(fits("{\"multipleOf\":2}", "9007199254740993") == 0);
    assert_true(fits("{\"multipleOf\":9223372036854775807}", "-9223372036854775808") == 0);
}

/* --- what is refused --- */

/* A schema of few bytes whose patterns take far more to compile. */
static void test_patterns_have_a_limit_together(void **state)
{
    enum { PATTERNS = 100 };
    static const char pattern[] = "{\"pattern\":\"(?:(?<!ab)c?){0,500}\"}";
    char schema[(sizeof pattern + 1) * PATTERNS + 16] = "{\"allOf\":[";
    (void)state;
    for (int i = 0; i < PATTERNS; i++) {
        strcat(schema, i > 0 ? "," : "");
        strcat(schema, pattern);
    }
    strcat(schema, "]}");
    Forge__V1__JsonSchemaEvaluator config = config_of(schema);
    const Forge__V1__Evaluator evaluator = EVALUATOR(JSON_SCHEMA, json_schema, &config);
    assert_non_null(strstr(refusal(&evaluator), "/pattern: the patterns up to this one take more than 16777216 bytes compiled"));
}

static void test_refusals(void **state)
{
    static const struct {
        const char *schema, *said;
    } cases[] = {
        {"", "is required"},
        {"{", "line 1: string or '}' expected near end of file"},
        {"[]", "at the root: must be a schema, which is an object, true or false"},
        {"{\"type\":\"text\"}", "at /type: must be null, boolean, object, array, number, string or integer, or an array of them"},
        {"{\"properties\":{\"a\":{\"minLength\":-1}}}", "at /properties/a/minLength: must be an integer of 0 or more"},
        {"{\"items\":[true],\"additionalItems\":{\"maximum\":\"1\"}}", "at /additionalItems/maximum: must be a number"},
        {"{\"pattern\":\"a(b\"}", "at /pattern: is no pattern: missing closing parenthesis (at byte 3)"},
        {"{\"patternProperties\":{\"[\":{}}}",
         "at /patternProperties/[: is no pattern: missing terminating ] for character class (at byte 1)"},
        {"{\"multipleOf\":0}", "at /multipleOf: must be a number over 0"},
        {"{\"anyOf\":[]}", "at /anyOf: must be an array of at least one schema"},
        {"{\"required\":[1]}", "at /required: must be an array of strings"},
        {"{\"$ref\":\"http://json-schema.org/draft-07/schema#\"}",
         "at http://json-schema.org/draft-07/schema#: references to other documents are refused: nothing in this one has that $id"},
        {"{\"$id\":\"http://a/b/c\",\"items\":{\"$ref\":\"d\"}}",
         "at d: references to other documents are refused: nothing in this one has that $id"},
        {"{\"items\":{\"$ref\":\"#/definitions/x\"}}", "at #/definitions/x: there is nothing at this JSON Pointer"},
        {"{\"items\":{\"$ref\":\"#/x\"},\"x\":{\"type\":1}}",
         "at #/x/type: must be null, boolean, object, array, number, string or integer, or an array of them"},
        {"{\"$ref\":1}", "at the root: $ref and $id must be strings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Forge__V1__JsonSchemaEvaluator config = config_of(cases[i].schema);
        const Forge__V1__Evaluator evaluator = EVALUATOR(JSON_SCHEMA, json_schema, &config);
        static const char field[] = "evaluators[0].json_schema.schema: ";
        const char *said = refusal(&evaluator);
        assert_memory_equal(said, field, sizeof field - 1);
        assert_string_equal(said + sizeof field - 1, cases[i].said);
    }
    char *large = malloc(JSON_SCHEMA_BYTES_MAX + 2);
    assert_non_null(large);
    memset(large, ' ', JSON_SCHEMA_BYTES_MAX + 1);
    large[JSON_SCHEMA_BYTES_MAX + 1] = '\0';
    memcpy(large, "{}", 2);
    Forge__V1__JsonSchemaEvaluator config = config_of(large);
    const Forge__V1__Evaluator evaluator = EVALUATOR(JSON_SCHEMA, json_schema, &config);
    assert_string_equal(refusal(&evaluator), "evaluators[0].json_schema.schema: must be at most 65536 bytes");
    large[JSON_SCHEMA_BYTES_MAX] = '\0';
    assert_true(judge(&evaluator, "1", NULL) == 1);
    free(large);
}

/* --- what would take for ever, or the stack --- */

static char *repeated(const char *begin, const char *piece, size_t count, const char *end)
{
    size_t size = strlen(piece), at = strlen(begin);
    char *text = malloc(at + size * count + strlen(end) + 1);
    assert_non_null(text);
    memcpy(text, begin, at);
    for (size_t i = 0; i < count; i++, at += size)
        memcpy(text + at, piece, size);
    memcpy(text + at, end, strlen(end) + 1);
    return text;
}

static void expect_bound(const char *schema, const char *output, double score, const char *said)
{
    double before = thread_seconds();
    assert_true(fits(schema, output) == score);
    double took = thread_seconds() - before;
    print_message("%-60.60s %5.0f ms  %s\n", schema, 1000 * took, explanation);
    if (said != NULL)
        assert_string_equal(explanation, said);
    assert_true(took < 20); /* sanitizers are slow */
}

static void test_bounds(void **state)
{
    static const char *const depth = "checking it met the limit of 1,000 schemas within schemas",
                             *const steps = "checking it met the limit of 10,000,000 steps";
    expect_bound("{\"$ref\":\"#\"}", "1", 0, depth);
    expect_bound("{\"allOf\":[{\"$ref\":\"#\"}]}", "1", 0, depth);
    expect_bound("{\"not\":{\"$ref\":\"#\"}}", "1", 0, depth);
    char *nested = repeated("", "[", 900, ""), *closed = repeated(nested, "]", 900, "");
    expect_bound("{\"items\":{\"$ref\":\"#\"}}", closed, 0, depth);
    expect_bound("{\"items\":{\"allOf\":[{\"items\":{\"$ref\":\"#\"}},{\"items\":{\"$ref\":\"#\"}}]}}", closed, 0, NULL);
    expect_bound("{\"allOf\":[{\"items\":{\"$ref\":\"#\"}},{\"items\":{\"$ref\":\"#\"}}]}",
                 "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", 0, steps);
    free(nested);
    free(closed);
    char *ones = repeated("[0", ",1", 500000, "]"), *objects = repeated("[{\"z\":0}", ",{\"a\":1}", 100000, "]");
    expect_bound("{\"uniqueItems\":true}", ones, 0, "the root: items 1 and 2 must not be equal");
    expect_bound("{\"items\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1}}", ones, 1, "");
    expect_bound("{\"items\":{\"enum\":[5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,1,0]}}", ones, 0, steps);
    expect_bound("{\"uniqueItems\":true}", objects, 0, "the root: items 1 and 2 must not be equal");
    free(ones);
    free(objects);
    char *distinct = malloc(1 << 20);
    assert_non_null(distinct);
    size_t size = 0;
    for (unsigned i = 0; i < 140000; i++)
        size += (size_t)sprintf(distinct + size, "%c%u", i == 0 ? '[' : ',', i);
    snprintf(distinct + size, 2, "]");
    expect_bound("{\"uniqueItems\":true}", distinct, 1, "");
    free(distinct);
    char *string = repeated("\"", "a", (1 << 20) - 3, "!\"");
    expect_bound("{\"pattern\":\"^.*$\"}", string, 1, "");
    expect_bound("{\"pattern\":\"^(a+)+$\"}", string, 0, "checking it met the limit of bytes walked");
    free(string);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_valid),
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_explanations),
        cmocka_unit_test(test_explanations_end_between_characters),
        cmocka_unit_test(test_numbers_are_exact),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_patterns_have_a_limit_together),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
