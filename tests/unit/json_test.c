/* proto3 JSON: every kind of field both ways, and what is refused with which words. */
#include "wire/json.h"

#include "wire/envelope.h"

#include "sample.pb-c.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SAMPLE (&forge__test__sample__descriptor)

struct fixture {
    struct forge_arena arena;
    struct forge_error error;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    forge_arena_init(&fixture->arena, 16 << 20, NULL);
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

static Forge__Test__Sample *read_sample(struct fixture *fixture, const char *json)
{
    ProtobufCMessage *message = NULL;
    memset(&fixture->error, 0, sizeof fixture->error);
    forge_code code = forge_json_to_message(json, strlen(json), SAMPLE, &fixture->arena, &message, &fixture->error);
    if (code != FORGE_OK)
        print_error("%s: %s\n", json, fixture->error.message);
    assert_int_equal(code, FORGE_OK);
    return (Forge__Test__Sample *)message;
}

static void assert_roundtrip(struct fixture *fixture, const char *json, const char *expected)
{
    static const struct forge_json_options compact = {0};
    Forge__Test__Sample *sample = read_sample(fixture, json);
    assert_string_equal(forge_json_from_message(&sample->base, &compact, &fixture->arena), expected);
    /* The message is sound enough to be packed, checked and unpacked again. */
    static const struct forge_message_limits limits = {.decoded_max = 1 << 20, .depth_max = 16, .unknown_max = 0};
    uint8_t packed[4096];
    assert_true(protobuf_c_message_get_packed_size(&sample->base) <= sizeof packed);
    size_t size = protobuf_c_message_pack(&sample->base, packed);
    ProtobufCMessage *again;
    assert_int_equal(forge_message_unpack(SAMPLE, packed, size, &limits, &fixture->arena, &again, &fixture->error), FORGE_OK);
    assert_string_equal(forge_json_from_message(again, &compact, &fixture->arena), expected);
}

static void assert_same(struct fixture *fixture, const char *json)
{
    assert_roundtrip(fixture, json, json);
}

static void assert_refused(struct fixture *fixture, const char *json, const char *message)
{
    ProtobufCMessage *out = NULL;
    memset(&fixture->error, 0, sizeof fixture->error);
    assert_int_equal(forge_json_to_message(json, strlen(json), SAMPLE, &fixture->arena, &out, &fixture->error), FORGE_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.message, message);
    assert_null(out);
}

static void test_scalars(void **state)
{
    assert_same(*state, "{}");
    assert_same(*state, "{\"flag\":true,\"i32\":-2147483648,\"s32\":2147483647,\"u32\":4294967295,\"f32\":1,\"sf32\":-1}");
    assert_same(*state, "{\"i64\":\"-9223372036854775808\",\"s64\":\"9223372036854775807\",\"u64\":\"18446744073709551615\",\"f64\":\"7\","
                        "\"sf64\":\"-7\"}");
    assert_roundtrip(*state, "{\"i64\": 12, \"u64\": 13, \"i32\": 1e2, \"u32\": \"7\", \"s32\": -5.0}",
                     "{\"i32\":100,\"s32\":-5,\"u32\":7,\"i64\":\"12\",\"u64\":\"13\"}");
    assert_roundtrip(*state, "{\"flag\": false, \"i32\": 0, \"text\": \"\", \"data\": \"\", \"color\": 0, \"leaf\": null, \"i32s\": []}",
                     "{}");
}

static void test_reals(void **state)
{
    struct fixture *fixture = *state;
    assert_same(fixture, "{\"single\":0.1,\"real\":0.1}");
    assert_same(fixture, "{\"single\":3.4028235e+38,\"real\":1.7976931348623157e+308}");
    assert_same(fixture, "{\"real\":4.94065645841247e-324}");
    assert_same(fixture, "{\"single\":\"NaN\",\"real\":\"-Infinity\"}");
    assert_roundtrip(fixture, "{\"single\": \"1.5\", \"real\": 2}", "{\"single\":1.5,\"real\":2}");
    assert_true(isnan(read_sample(fixture, "{\"real\": \"NaN\"}")->real));
}

static void test_negative_zero_is_kept(void **state)
{
    struct fixture *fixture = *state;
    static const struct forge_json_options compact = {0};
    Forge__Test__Sample *sample = read_sample(fixture, "{\"real\": -0.0}");
    assert_string_equal(forge_json_from_message(&sample->base, &compact, &fixture->arena), "{\"real\":-0.0}");
}

static void test_text(void **state)
{
    struct fixture *fixture = *state;
    assert_same(fixture, "{\"text\":\"quote \\\" backslash \\\\ tab \\t line \\n \\u0001\\u007f slash / \xE2\x82\xAC\"}");
    Forge__Test__Sample *sample = read_sample(fixture, "{\"text\": \"\\ud83d\\ude00 \\u20ac \\u00e9\"}"); /* a surrogate pair */
    assert_string_equal(sample->text, "\xF0\x9F\x98\x80 \xE2\x82\xAC \xC3\xA9");
}

static void test_bytes(void **state)
{
    struct fixture *fixture = *state;
    /* RFC 4648, section 10 */
    static const char *const vectors[][2] = {{"Zg==", "f"},        {"Zm8=", "fo"},        {"Zm9v", "foo"},
                                             {"Zm9vYg==", "foob"}, {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char json[64];
        snprintf(json, sizeof json, "{\"data\":\"%s\"}", vectors[i][0]);
        assert_same(fixture, json);
        Forge__Test__Sample *sample = read_sample(fixture, json);
        assert_int_equal(sample->data.len, strlen(vectors[i][1]));
        assert_memory_equal(sample->data.data, vectors[i][1], sample->data.len);
    }
    assert_roundtrip(fixture, "{\"data\": \"-_-_\"}", "{\"data\":\"+/+/\"}");
    assert_roundtrip(fixture, "{\"data\": \"Zg\"}", "{\"data\":\"Zg==\"}");
    assert_same(fixture, "{\"datas\":[\"AAEC\",\"\",\"/w==\"]}");
    char digits[4001], large[5000];
    memset(digits, 'A', sizeof digits - 1);
    digits[sizeof digits - 1] = '\0';
    snprintf(large, sizeof large, "{\"data\":\"%s\"}", digits);
    ProtobufCMessage *message;
    assert_int_equal(forge_json_to_message(large, strlen(large), SAMPLE, &fixture->arena, &message, &fixture->error), FORGE_OK);
    assert_int_equal(((Forge__Test__Sample *)message)->data.len, 3000);
    static const struct forge_json_options compact = {0};
    assert_string_equal(forge_json_from_message(message, &compact, &fixture->arena), large);
}

static void test_enums(void **state)
{
    assert_same(*state, "{\"color\":\"COLOR_BLUE\",\"colors\":[\"COLOR_RED\",\"COLOR_UNSPECIFIED\",\"COLOR_NEGATIVE\"]}");
    assert_roundtrip(*state, "{\"color\": 5, \"colors\": [-2]}", "{\"color\":\"COLOR_BLUE\",\"colors\":[\"COLOR_NEGATIVE\"]}");
}

static void test_unknown_enum_is_written_as_number(void **state)
{
    struct fixture *fixture = *state;
    static const struct forge_json_options compact = {0};
    Forge__Test__Sample sample = FORGE__TEST__SAMPLE__INIT;
    sample.color = (Forge__Test__Color)77;
    assert_string_equal(forge_json_from_message(&sample.base, &compact, &fixture->arena), "{\"color\":77}");
}

static void test_messages_and_arrays(void **state)
{
    assert_same(*state, "{\"leaf\":{\"name\":\"x\",\"number\":3}}");
    assert_same(*state, "{\"leaf\":{}}"); /* present and empty is not absent */
    assert_same(*state, "{\"flags\":[true,false],\"i32s\":[1,-1],\"s64s\":[\"1\",\"-1\"],\"f32s\":[7],\"reals\":[0.5,\"NaN\"],"
                        "\"texts\":[\"a\",\"\"],\"leaves\":[{\"name\":\"a\"},{}],\"loose\":[1,2]}");
}

static void test_oneof(void **state)
{
    assert_same(*state, "{\"choice_text\":\"x\"}");
    assert_same(*state, "{\"choice_text\":\"\"}"); /* chosen, though it holds the default */
    assert_same(*state, "{\"choice_number\":\"0\"}");
    assert_same(*state, "{\"choice_leaf\":{\"number\":1}}");
    assert_same(*state, "{\"choice_flag\":false}");
    assert_same(*state, "{\"choice_data\":\"AA==\"}");
    assert_roundtrip(*state, "{\"choice_text\": null, \"choiceNumber\": 4}", "{\"choice_number\":\"4\"}");
    assert_refused(*state, "{\"choice_text\": \"x\", \"choice_flag\": true}", "choice_flag: cannot be given together with choice_text");
}

static void test_timestamps(void **state)
{
    struct fixture *fixture = *state;
    assert_same(fixture, "{\"at_time\":\"1970-01-01T00:00:00Z\"}");
    assert_same(fixture, "{\"at_time\":\"2026-03-01T12:34:56.250Z\"}");
    assert_same(fixture, "{\"at_time\":\"2024-02-29T23:59:59.000001Z\"}");
    assert_same(fixture, "{\"at_time\":\"1969-12-31T23:59:59.999999999Z\"}");
    assert_same(fixture, "{\"at_time\":\"0001-01-01T00:00:00Z\",\"times\":[\"9999-12-31T23:59:59Z\",\"1600-02-29T00:00:00Z\"]}");
    assert_roundtrip(fixture, "{\"at_time\": \"2026-03-01T12:00:00.5+01:30\"}", "{\"at_time\":\"2026-03-01T10:30:00.500Z\"}");
    assert_roundtrip(fixture, "{\"at_time\": \"2026-03-01t12:00:00-00:30\"}", "{\"at_time\":\"2026-03-01T12:30:00Z\"}");
    assert_int_equal(read_sample(fixture, "{\"at_time\": \"2001-09-09T01:46:40Z\"}")->at_time->seconds, 1000000000);
    static const char *const wrong[] = {
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-03-01 12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:60:00Z",
        "2026-03-01T12:00:60Z",
        "2026-03-01T12:00:00.Z",
        "0000-01-01T00:00:00Z",
        "2026-03-01T12:00:00Z ",
        "2026-03-01T12:00:00.1234567890Z",
        "2026-03-00T12:00:00Z",
        "",
        "2026-03-01T12:00:00+24:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "-026-03-01T12:00:00Z",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char json[100];
        snprintf(json, sizeof json, "{\"at_time\": \"%s\"}", wrong[i]);
        assert_refused(fixture, json, "at_time: must be a time such as \"2026-03-01T12:00:00.250Z\" (RFC 3339)");
    }
}

/* Every day from 1890 to 2110: the text of the day before always sorts before, and reading it gives the day back. */
static void test_timestamp_calendar(void **state)
{
    struct fixture *fixture = *state;
    static const struct forge_json_options compact = {0};
    char previous[64] = "";
    Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    for (int64_t day = -29220; day < 51500; day++) {
        time.seconds = day * 86400 + 86399;
        char *json = forge_json_from_message(&time.base, &compact, &fixture->arena);
        assert_true(strcmp(previous, json) < 0);
        snprintf(previous, sizeof previous, "%s", json);
        ProtobufCMessage *again;
        assert_int_equal(
            forge_json_to_message(json, strlen(json), &google__protobuf__timestamp__descriptor, &fixture->arena, &again, &fixture->error),
            FORGE_OK);
        assert_int_equal(((Google__Protobuf__Timestamp *)again)->seconds, time.seconds);
        forge_arena_reset(&fixture->arena);
    }
    time.seconds = INT64_MAX;
    assert_string_equal(forge_json_from_message(&time.base, &compact, &fixture->arena), "null");
}

static void test_field_mask_empty_and_wrappers(void **state)
{
    assert_same(*state, "{\"mask\":\"name,userDescription,a.bC\",\"empty\":{}}");
    assert_roundtrip(*state, "{\"mask\": \"user_description\"}", "{\"mask\":\"userDescription\"}");
    assert_same(*state, "{\"mask\":\"\"}");
    assert_string_equal(read_sample(*state, "{\"mask\": \"userDescription\"}")->mask->paths[0], "user_description");
    assert_same(*state,
                "{\"text_value\":\"\",\"flag_value\":false,\"i32_value\":-1,\"i64_value\":\"-1\",\"u32_value\":1,\"u64_value\":\"1\","
                "\"float_value\":0.5,\"double_value\":0.25,\"bytes_value\":\"AA==\"}");
    assert_roundtrip(*state, "{\"text_value\": null, \"i32_value\": 0}", "{\"i32_value\":0}");
    assert_same(*state, "{\"mask\":\"*\"}");
    const char *not_a_path = "mask: a path is not of field names joined by dots, at most 64 characters";
    assert_refused(*state, "{\"mask\": \"a,,b\"}", not_a_path);
    assert_refused(*state, "{\"mask\": \"a,_\"}", not_a_path);
    assert_refused(*state, "{\"mask\": \"a b\"}", not_a_path);
    assert_refused(*state, "{\"mask\": \"a,\"}", not_a_path);
    assert_refused(*state, "{\"mask\": [\"a\"]}", "mask: must be a string of field names separated by commas");
    assert_refused(*state, "{\"empty\": {\"x\": 1}}", "empty.x: Empty has no such field");
    assert_refused(*state, "{\"i32_value\": {\"value\": 1}}", "i32_value: must be a whole number");
}

static void test_names(void **state)
{
    assert_roundtrip(*state, "{\"choiceText\": \"x\", \"atTime\": \"1970-01-01T00:00:00Z\"}",
                     "{\"choice_text\":\"x\",\"at_time\":\"1970-01-01T00:00:00Z\"}");
    assert_refused(*state, "{\"AtTime\": null}", "AtTime: Sample has no such field");
    assert_refused(*state, "{\"at_Time\": null}", "at_Time: Sample has no such field");
    assert_refused(*state, "{\"nothing\": 1}", "nothing: Sample has no such field");
    assert_refused(*state, "{\"leaves\": [{}, {\"title\": 1}]}", "leaves[1].title: Leaf has no such field");
    assert_refused(*state, "{\"at_time\": null, \"atTime\": null}", "at_time: given twice, by both of its names");
}

/* The rest of each message is the JSON library's. */
static void test_syntax_errors(void **state)
{
    static const char *const cases[][2] = {
        {"", "JSON: line 1, column 0: "},
        {"{", "JSON: line 1, column 1: "},
        {"{\"i32\": 1,}", "JSON: line 1, column 11: "},
        {"{\n  \"i32\" 1}", "JSON: line 2, column 9: "},
        {"{} x", "JSON: line 1, column 4: end of file expected"},
        {"{\"text\": \"\\ud83d\"}", "JSON: line 1, column 17: invalid Unicode"}, /* half a surrogate pair */
        {"{\"text\": \"\\ude00\"}", "JSON: line 1, column 17: invalid Unicode"},
        {"{\"text\": \"\\ud83dx\"}", "JSON: line 1, column 18: invalid Unicode"},
        {"{\"text\": \"a\\u0000b\"}", "JSON: line 1, column 19: \\u0000 is not allowed"},
        {"{\"text\": \"\xC0\x80\"}", "JSON: line 1, column "}, /* overlong */
        {"{\"text\": \"\xED\xA0\x80\"}", "JSON: line 1, column "},
        {"{\"text\": \"a\nb\"}", "JSON: line 1, column 11: unexpected newline"},
        {"{\"real\": NaN}", "JSON: line 1, column 12: invalid token"},
        {"{\"i32\": 1, \"i32\": 2}", "JSON: line 1, column 16: duplicate object key"},
        {"{\"i64\": 9223372036854775808}", "JSON: line 1, column 27: too big integer"},
        {"{\"real\": 1e999}", "JSON: line 1, column 14: real number overflow"},
        {"{\"i32\": 01}", "JSON: line 1, column 9: "},
        {"{'i32': 1}", "JSON: line 1, column 2: "},
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ProtobufCMessage *out = NULL;
        assert_int_equal(forge_json_to_message(cases[i][0], strlen(cases[i][0]), SAMPLE, &fixture->arena, &out, &fixture->error),
                         FORGE_INVALID_ARGUMENT);
        assert_memory_equal(fixture->error.message, cases[i][1], strlen(cases[i][1]));
        assert_null(out);
    }
}

static void test_wrong_values(void **state)
{
    static const char *const cases[][2] = {
        {"{\"i32\": 2147483648}", "i32: must be from -2147483648 to 2147483647"},
        {"{\"i32\": 1.5}", "i32: must be a whole number"},
        {"{\"i32\": \"\"}", "i32: must be a whole number"},
        {"{\"i32\": \" 1\"}", "i32: must be a whole number"},
        {"{\"i32\": \"1x\"}", "i32: must be a whole number"},
        {"{\"i32\": true}", "i32: must be a whole number"},
        {"{\"u32\": -1}", "u32: must be from 0 to 4294967295"},
        {"{\"u64\": -1}", "u64: must be from 0 to 9223372036854775807"},
        {"{\"u64\": \"-1\"}", "u64: must be a whole number of 0 or more"},
        {"{\"u64\": \"18446744073709551616\"}", "u64: must be from 0 to 18446744073709551615"},
        {"{\"i64\": \"9223372036854775808\"}", "i64: must be from -9223372036854775808 to 9223372036854775807"},
        {"{\"i64\": 1e19}", "i64: must be from -9223372036854775808 to 9223372036854775807"},
        {"{\"real\": \"nan\"}", "real: must be a number, \"NaN\", \"Infinity\" or \"-Infinity\""},
        {"{\"real\": \"0x10\"}", "real: must be a number, \"NaN\", \"Infinity\" or \"-Infinity\""},
        {"{\"real\": \"\"}", "real: must be a number, \"NaN\", \"Infinity\" or \"-Infinity\""},
        {"{\"real\": \"1e999\"}", "real: must be a number, \"NaN\", \"Infinity\" or \"-Infinity\""},
        {"{\"single\": 1e39}", "single: is out of the range of a 32-bit number"},
        {"{\"flag\": 1}", "flag: must be true or false"},
        {"{\"flag\": \"true\"}", "flag: must be true or false"},
        {"{\"text\": 7}", "text: must be a string"},
        {"{\"data\": \"A\"}", "data: must be a string in base64"},
        {"{\"data\": \"AB==\"}", "data: must be a string in base64"},
        {"{\"data\": \"AAAA=\"}", "data: must be a string in base64"},
        {"{\"data\": \"A A=\"}", "data: must be a string in base64"},
        {"{\"data\": 5}", "data: must be a string in base64"},
        {"{\"color\": \"GREEN\"}", "color: \"GREEN\" is not a value of Color"},
        {"{\"color\": 3}", "color: 3 is not a value of Color"},
        {"{\"color\": 1.5}", "color: must be the name of a value of Color"},
        {"{\"leaf\": []}", "leaf: must be an object (Leaf)"},
        {"{\"i32s\": 1}", "i32s: must be an array"},
        {"{\"i32s\": [1, null]}", "i32s[1]: must be a whole number"},
        {"{\"texts\": [\"a\", 1]}", "texts[1]: must be a string"},
        {"[]", "must be an object (Sample)"},
        {"7", "must be an object (Sample)"},
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(fixture, cases[i][0], cases[i][1]);
    assert_refused(fixture, "{\"leaves\": [{\"number\": \"x\"}]}", "leaves[0].number: must be a whole number");
    assert_int_equal(fixture->error.violation_count, 1);
    assert_string_equal(fixture->error.violations->field, "leaves[0].number");
    assert_string_equal(fixture->error.violations->description, "must be a whole number");
}

/* Reads levels nodes in each other. */
static forge_code read_nested(struct fixture *fixture, size_t levels)
{
    static const char open[] = "{\"child\":";
    char *json = malloc(levels * (sizeof open + 1) + 3), *end = json;
    for (size_t i = 1; i < levels; i++)
        end = stpcpy(end, open);
    end = stpcpy(end, "{}");
    for (size_t i = 1; i < levels; i++)
        *end++ = '}';
    ProtobufCMessage *message;
    memset(&fixture->error, 0, sizeof fixture->error);
    forge_code code =
        forge_json_to_message(json, (size_t)(end - json), &forge__test__node__descriptor, &fixture->arena, &message, &fixture->error);
    free(json);
    return code;
}

static void test_depth(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(read_nested(fixture, 64), FORGE_OK);
    assert_int_equal(read_nested(fixture, 65), FORGE_INVALID_ARGUMENT);
    assert_non_null(strstr(fixture->error.message, "nested deeper than 64 levels"));
    assert_int_equal(read_nested(fixture, 100000), FORGE_INVALID_ARGUMENT);
    assert_non_null(strstr(fixture->error.message, "maximum parsing depth reached"));
}

static void test_memory_runs_out(void **state)
{
    struct fixture *fixture = *state;
    struct forge_arena small;
    ProtobufCMessage *out = NULL;
    static const char json[] = "{\"texts\": [\"a\", \"b\", \"c\"]}";
    static const struct forge_json_options compact = {0};
    for (size_t size = 0; size < 900; size += 16) {
        forge_arena_init(&small, size, NULL);
        forge_code code = forge_json_to_message(json, sizeof json - 1, SAMPLE, &small, &out, &fixture->error);
        if (code != FORGE_OK)
            assert_int_equal(code, FORGE_RESOURCE_EXHAUSTED);
        assert_int_equal(code == FORGE_OK, out != NULL);
        forge_arena_done(&small);
        out = NULL;
    }
    Forge__Test__Sample sample = FORGE__TEST__SAMPLE__INIT;
    forge_arena_init(&small, 0, NULL);
    assert_null(forge_json_from_message(&sample.base, &compact, &small));
    assert_true(forge_arena_has_overflowed(&small));
    forge_arena_done(&small);
}

static void test_pretty(void **state)
{
    struct fixture *fixture = *state;
    static const struct forge_json_options pretty = {.pretty = true};
    Forge__Test__Sample *sample = read_sample(fixture, "{\"i32s\": [1, 2], \"leaf\": {\"name\": \"x\"}, \"leaves\": [{}], \"empty\": {}}");
    assert_string_equal(forge_json_from_message(&sample->base, &pretty, &fixture->arena), "{\n"
                                                                                          "  \"leaf\": {\n"
                                                                                          "    \"name\": \"x\"\n"
                                                                                          "  },\n"
                                                                                          "  \"i32s\": [\n"
                                                                                          "    1,\n"
                                                                                          "    2\n"
                                                                                          "  ],\n"
                                                                                          "  \"leaves\": [\n"
                                                                                          "    {}\n"
                                                                                          "  ],\n"
                                                                                          "  \"empty\": {}\n"
                                                                                          "}");
}

static void test_with_defaults(void **state)
{
    struct fixture *fixture = *state;
    static const struct forge_json_options options = {.with_defaults = true};
    Forge__Test__Leaf leaf = FORGE__TEST__LEAF__INIT;
    assert_string_equal(forge_json_from_message(&leaf.base, &options, &fixture->arena), "{\"name\":\"\",\"number\":0}");
    Forge__Test__Node node = FORGE__TEST__NODE__INIT; /* an absent message stays out */
    assert_string_equal(forge_json_from_message(&node.base, &options, &fixture->arena), "{\"name\":\"\",\"children\":[]}");
}

/* A process with decimal commas must not change what is on the wire. */
static void test_locale_has_no_influence(void **state)
{
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8"};
    for (size_t i = 0; i < sizeof locales / sizeof locales[0]; i++)
        if (setlocale(LC_NUMERIC, locales[i]))
            break;
    assert_same(*state, "{\"single\":0.5,\"real\":1234.5}");
    assert_roundtrip(*state, "{\"real\": \"1.5\"}", "{\"real\":1.5}");
    setlocale(LC_NUMERIC, "C");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_scalars),
        TEST(test_reals),
        TEST(test_negative_zero_is_kept),
        TEST(test_text),
        TEST(test_bytes),
        TEST(test_enums),
        TEST(test_unknown_enum_is_written_as_number),
        TEST(test_messages_and_arrays),
        TEST(test_oneof),
        TEST(test_timestamps),
        TEST(test_timestamp_calendar),
        TEST(test_field_mask_empty_and_wrappers),
        TEST(test_names),
        TEST(test_syntax_errors),
        TEST(test_wrong_values),
        TEST(test_depth),
        TEST(test_memory_runs_out),
        TEST(test_pretty),
        TEST(test_with_defaults),
        TEST(test_locale_has_no_influence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
