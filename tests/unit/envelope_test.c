/* Envelope and message check: what is refused and with which words, and that everything accepted can be unpacked. */
#include "wire/envelope.h"

#include "forge/v1/common.pb-c.h"
#include "sample.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SAMPLE (&forge__test__sample__descriptor)
#define NODE (&forge__test__node__descriptor)

static const struct forge_message_limits wide = {.decoded_max = 32 << 20, .depth_max = 16, .unknown_max = 4096};

struct fixture {
    struct forge_arena arena;
    struct forge_error error;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    forge_arena_init(&fixture->arena, 32 << 20, NULL);
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

/* --- envelope --- */

static void assert_parse_fails(const void *body, size_t len, const char *message)
{
    struct forge_error error = {0};
    struct forge_envelope out = {.payload_len = 77};
    assert_int_equal(forge_envelope_parse(body, len, 100, &out, &error), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.message, message);
    assert_int_equal(out.payload_len, 77);
}

static void test_envelope_refuses(void **state)
{
    assert_parse_fails("", 0, "envelope: 0 bytes, shorter than its 8 byte prefix");
    assert_parse_fails("FRG1\0\0\0", 7, "envelope: 7 bytes, shorter than its 8 byte prefix");
    assert_parse_fails("FRG2\0\0\0\0", 8, "envelope: does not begin with FRG1");
    assert_parse_fails("FRG1\0\0\0\x65", 8, "envelope: header of 101 bytes, at most 100");
    assert_parse_fails("FRG1\xff\xff\xff\xff", 8, "envelope: header of 4294967295 bytes, at most 100");
    assert_parse_fails("FRG1\0\0\0\x04xyz", 11, "envelope: header of 4 bytes is cut off after 3");
}

static void test_envelope_roundtrip(void **state)
{
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    char method[] = "forge.v1.PromptService/GetPrompt";
    header.method = method;
    uint8_t *body = malloc(forge_envelope_size(&header.base, 5));
    uint8_t *payload = forge_envelope_pack_header(&header.base, body);
    memcpy(payload, "hello", 5);
    assert_int_equal(payload + 5 - body, forge_envelope_size(&header.base, 5));
    struct forge_error error = {0};
    struct forge_envelope envelope;
    assert_int_equal(forge_envelope_parse(body, (size_t)(payload + 5 - body), 100, &envelope, &error), FORGE_OK);
    assert_int_equal(envelope.header_len, strlen(method) + 2);
    assert_int_equal(envelope.payload_len, 5);
    assert_memory_equal(envelope.payload, "hello", 5);
    free(body);
}

static void test_envelope_of_nothing(void **state)
{
    struct forge_envelope envelope;
    struct forge_error error = {0};
    assert_int_equal(forge_envelope_parse((const uint8_t *)"FRG1\0\0\0\0", 8, 0, &envelope, &error), FORGE_OK);
    assert_int_equal(envelope.header_len, 0);
    assert_int_equal(envelope.payload_len, 0);
}

/* --- UTF-8 --- */

static bool utf8(const char *text, size_t length)
{
    /* At each offset of a word, so that the fast path and the slow one are both taken, in a block that ends with the text. */
    bool first = false;
    for (size_t offset = 0; offset < 16; offset++) {
        uint8_t *copy = malloc(offset + length + 1);
        memset(copy, 'a', offset);
        memcpy(copy + offset, text, length);
        bool valid = forge_utf8_is_valid(copy, offset + length);
        free(copy);
        if (offset == 0)
            first = valid;
        assert_int_equal(valid, first);
    }
    return first;
}

static void test_utf8_accepts(void **state)
{
    static const char *const good[] = {"",
                                       "plain text that is longer than two words",
                                       "\x7f",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF",
                                       "abcdefg\xC3\xA9hijklmnop"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(utf8(good[i], strlen(good[i])));
}

static void test_utf8_refuses(void **state)
{
    static const struct {
        const char *text;
        size_t length;
    } bad[] = {
        {"\0", 1},
        {"abcdefgh\0ijklmnop", 17},
        {"\x80", 1},
        {"\xBF", 1},
        {"\xC0\x80", 2},
        {"\xC1\xBF", 2}, /* overlong */
        {"\xC2", 1},
        {"\xC2\x41", 2}, /* cut off */
        {"\xE0\x9F\xBF", 3},
        {"\xE2\x82", 2},
        {"\xE2\x82\x41", 3}, /* overlong, cut off */
        {"\xED\xA0\x80", 3},
        {"\xED\xBF\xBF", 3}, /* surrogates */
        {"\xF0\x8F\xBF\xBF", 4},
        {"\xF0\x9F\x98", 3},
        {"\xF0\x9F\x98\x41", 4},
        {"\xF4\x90\x80\x80", 4},
        {"\xF5\x80\x80\x80", 4},
        {"\xFF", 1}, /* beyond U+10FFFF */
        {"abcdefghijklmno\xC3", 16},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(utf8(bad[i].text, bad[i].length));
}

/* --- message check --- */

#define BYTES(literal) (const uint8_t *)(literal), sizeof(literal) - 1

static void assert_check(struct fixture *fixture, const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len, forge_code code,
                         const char *message)
{
    /* A block that ends with the data: AddressSanitizer sees a read behind it. */
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    memset(&fixture->error, 0, sizeof fixture->error);
    forge_arena_reset(&fixture->arena);
    assert_int_equal(forge_message_check(type, copy, len, &wide, &fixture->arena, &fixture->error), code);
    assert_string_equal(fixture->error.message, message);
    if (code == FORGE_OK)
        assert_int_equal(fixture->error.code, FORGE_OK);
    free(copy);
}

static void test_check_malformed(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        const char *message;
    } cases[] = {
        {"\x80", 1, "message is malformed: a field key is cut off"},
        {"\xff\xff\xff\xff\xff\xff", 6, "message is malformed: a field key is cut off"},
        {"\x00\x00", 2, "message is malformed: a field number is out of range"},
        {"\x80\x80\x80\x80\x10\x01", 6, "message is malformed: a field number is out of range"},
        {"\x13", 1, "message is malformed: groups are not supported"},
        {"\x14", 1, "message is malformed: groups are not supported"},
        {"\x16", 1, "message is malformed: unknown wire type"},
        {"\x17", 1, "message is malformed: unknown wire type"},
        {"\x10", 1, "message is malformed: i32: cut off"},
        {"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "message is malformed: i32: cut off"},
        {"\x12\x01x", 3, "message is malformed: i32: wrong wire type"},
        {"\x2d\x01\x02\x03", 4, "message is malformed: f32: cut off"},
        {"\x51\x01\x02\x03\x04\x05\x06\x07", 8, "message is malformed: f64: cut off"},
        {"\x72\x05"
         "abcd",
         6, "message is malformed: text: cut off"},
        {"\x72\xff\xff\xff\xff\x0f", 6, "message is malformed: text: cut off"},
        {"\x72\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "message is malformed: text: cut off"},
        {"\x8a\x01\x02\x0a\x05", 5, "message is malformed: leaf.name: cut off"},
        {"\x80\x01\x80", 3, "message is malformed: color: cut off"},
        {"\xaa\x01\x01\xff", 4, "message is malformed: i32s[0]: packed values are cut off"},
        {"\xaa\x01\x03\x01\x02\xff", 6, "message is malformed: i32s[2]: packed values are cut off"},
        {"\xba\x01\x03\x01\x02\x03", 6, "message is malformed: f32s[0]: packed values are cut off"},
        {"\xa2\x01\x02\x01\x02", 5, "message is malformed: flags[1]: not a boolean"},
        {"\xa2\x01\x02\x81\x00", 5, "message is malformed: flags[0]: packed values are cut off"},
        {"\xe2\x01\x00\xe2\x01\x02\x0a\x09", 8, "message is malformed: leaves[1].name: cut off"},
        {"\xc2\x3e\x05"
         "abcd",
         7, "message is malformed: field 1000: cut off"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_check(*state, SAMPLE, (const uint8_t *)cases[i].data, cases[i].len, FORGE_INVALID_ARGUMENT, cases[i].message);
}

/* protobuf-c would merge the two, and reads outside its tables when both leave a oneof unset. */
static void test_check_refuses_a_second_message(void **state)
{
    assert_check(*state, SAMPLE, BYTES("\x8a\x01\x00\x8a\x01\x00"), FORGE_INVALID_ARGUMENT, "message is malformed: leaf: given twice");
    assert_check(*state, SAMPLE, BYTES("\x82\x02\x00\x82\x02\x00"), FORGE_INVALID_ARGUMENT,
                 "message is malformed: choice_leaf: given twice");
    assert_check(*state, NODE, BYTES("\x12\x04\x12\x00\x12\x00"), FORGE_INVALID_ARGUMENT, "message is malformed: child.child: given twice");
    assert_check(*state, NODE, BYTES("\x1a\x02\x12\x00\x1a\x02\x12\x00"), FORGE_OK, "");   /* in two messages, once each */
    assert_check(*state, SAMPLE, BYTES("\x10\x01\x10\x02\x72\x00\x72\x00"), FORGE_OK, ""); /* of other fields the last one counts */
}

static void test_check_accepts(void **state)
{
    assert_check(*state, SAMPLE, BYTES(""), FORGE_OK, "");
    assert_check(*state, SAMPLE, BYTES("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), FORGE_OK, "");     /* -1 */
    assert_check(*state, SAMPLE, BYTES("\x80\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), FORGE_OK, ""); /* COLOR_NEGATIVE */
    assert_check(*state, SAMPLE, BYTES("\xa8\x01\x05\xaa\x01\x02\x06\x07\xa8\x01\x08"), FORGE_OK, "");     /* packed and not, mixed */
    assert_check(*state, SAMPLE, BYTES("\xea\x01\x02\x06\x07"), FORGE_OK, "");                             /* packed where declared loose */
    assert_check(*state, SAMPLE, BYTES("\x72\x00\x7a\x00\x8a\x01\x00"), FORGE_OK, "");                     /* empty values */
}

static void test_check_text_and_enum_violations(void **state)
{
    struct fixture *fixture = *state;
    /* text = "a\0b"; color = 3; leaf.name = "\xff"; texts = "ok", "\xc0"; colors = packed 1, 9; leaves[1].name = "\x80" */
    assert_check(fixture, SAMPLE,
                 BYTES("\x72\x03"
                       "a\0b"
                       "\x80\x01\x03"
                       "\x8a\x01\x03\x0a\x01\xff"
                       "\xca\x01\x02ok\xca\x01\x01\xc0"
                       "\xda\x01\x02\x01\x09"
                       "\xe2\x01\x00\xe2\x01\x03\x0a\x01\x80"),
                 FORGE_INVALID_ARGUMENT, "text: must not contain a NUL character");
    static const char *const expected[][2] = {
        {"text", "must not contain a NUL character"}, {"color", "3 is not a value of Color"},     {"leaf.name", "must be valid UTF-8"},
        {"texts[1]", "must be valid UTF-8"},          {"colors[1]", "9 is not a value of Color"}, {"leaves[1].name", "must be valid UTF-8"},
    };
    const struct forge_violation *violation = fixture->error.violations;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++, violation = violation->next) {
        assert_non_null(violation);
        assert_string_equal(violation->field, expected[i][0]);
        assert_string_equal(violation->description, expected[i][1]);
    }
    assert_null(violation);
    assert_int_equal(fixture->error.violation_count, 6);
}

/* The index counts elements of the same field before, whatever lies between them and however they were packed. */
static void test_check_index_of_scattered_elements(void **state)
{
    struct fixture *fixture = *state;
    assert_check(fixture, SAMPLE,
                 BYTES("\xd8\x01\x01"
                       "\x10\x07"
                       "\xda\x01\x03\x01\x05\x01"
                       "\x10\x07"
                       "\xd8\x01\x06"),
                 FORGE_INVALID_ARGUMENT, "colors[4]: 6 is not a value of Color");
}

static void test_check_many_violations_are_capped(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t color_99[] = {0xd8, 0x01, 0x63};
    uint8_t data[3000];
    for (size_t i = 0; i < sizeof data; i += 3)
        memcpy(data + i, color_99, sizeof color_99);
    assert_check(fixture, SAMPLE, data, sizeof data, FORGE_INVALID_ARGUMENT, "colors[0]: 99 is not a value of Color");
    assert_int_equal(fixture->error.violation_count, 1000);
}

/* level messages in each other, written from the inside out. */
static size_t nested(uint8_t *buffer, size_t size, unsigned levels)
{
    size_t used = 0;
    for (unsigned i = 0; i < levels; i++) {
        uint8_t length[5];
        size_t digits = 0, value = used;
        do
            length[digits++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        while (value >>= 7);
        assert_true(used + 1 + digits <= size);
        memmove(buffer + 1 + digits, buffer, used);
        buffer[0] = 0x12;
        memcpy(buffer + 1, length, digits);
        used += 1 + digits;
    }
    return used;
}

static void test_check_depth(void **state)
{
    struct fixture *fixture = *state;
    uint8_t data[64 << 10];
    size_t len = nested(data, sizeof data, wide.depth_max);
    assert_check(fixture, NODE, data, len, FORGE_OK, "");
    len = nested(data, sizeof data, wide.depth_max + 1);
    assert_int_equal(forge_message_check(NODE, data, len, &wide, &fixture->arena, &fixture->error), FORGE_INVALID_ARGUMENT);
    assert_non_null(strstr(fixture->error.message, "child.child: messages are nested too deeply"));
    len = nested(data, sizeof data, 10000);
    assert_int_equal(forge_message_check(NODE, data, len, &wide, &fixture->arena, &fixture->error), FORGE_INVALID_ARGUMENT);
}

static void test_check_unknown_bytes(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t unknown[] = {0xc0, 0x3e, 0x01}; /* field 1000, varint */
    uint8_t data[4098];
    for (size_t i = 0; i < sizeof data; i += 3)
        memcpy(data + i, unknown, sizeof unknown);
    assert_check(fixture, SAMPLE, data, 4095, FORGE_OK, "");
    assert_check(fixture, SAMPLE, data, 4098, FORGE_INVALID_ARGUMENT, "message has more than 4096 bytes of unknown fields");
}

static void fill_sample(Forge__Test__Sample *sample, size_t count)
{
    static Forge__Test__Leaf leaf = FORGE__TEST__LEAF__INIT;
    static char text[] = "some text";
    leaf.name = text;
    sample->text = text;
    sample->leaf = &leaf;
    sample->data = (ProtobufCBinaryData){.data = (uint8_t *)text, .len = 3};
    sample->n_i32s = sample->n_texts = sample->n_leaves = sample->n_reals = sample->n_flags = sample->n_datas = sample->n_loose = count;
    sample->i32s = calloc(count, sizeof *sample->i32s);
    sample->loose = calloc(count, sizeof *sample->loose);
    sample->reals = calloc(count, sizeof *sample->reals);
    sample->flags = calloc(count, sizeof *sample->flags);
    sample->texts = calloc(count, sizeof *sample->texts);
    sample->datas = calloc(count, sizeof *sample->datas);
    sample->leaves = calloc(count, sizeof(void *));
    for (size_t i = 0; i < count; i++) {
        sample->texts[i] = text;
        sample->datas[i] = sample->data;
        sample->leaves[i] = &leaf;
    }
}

static void free_sample(Forge__Test__Sample *sample)
{
    free(sample->i32s);
    free(sample->loose);
    free(sample->reals);
    free(sample->flags);
    free(sample->texts);
    free(sample->datas);
    free(sample->leaves);
}

/* The estimate must not be below what unpacking takes (the cap would not hold) nor far above (good requests would be refused). */
static void test_check_estimate_is_close_to_use(void **state)
{
    struct fixture *fixture = *state;
    for (size_t count = 1; count < 600; count = count * 2 + 1) {
        Forge__Test__Sample sample = FORGE__TEST__SAMPLE__INIT;
        fill_sample(&sample, count);
        size_t len = protobuf_c_message_get_packed_size(&sample.base);
        uint8_t *data = malloc(len);
        protobuf_c_message_pack(&sample.base, data);
        forge_arena_reset(&fixture->arena);
        ProtobufCMessage *message;
        assert_int_equal(forge_message_unpack(SAMPLE, data, len, &wide, &fixture->arena, &message, &fixture->error), FORGE_OK);
        size_t used = fixture->arena.used;
        struct forge_message_limits tight = wide;
        tight.decoded_max = used - 1;
        assert_int_equal(forge_message_check(SAMPLE, data, len, &tight, &fixture->arena, &fixture->error), FORGE_RESOURCE_EXHAUSTED);
        tight.decoded_max = used + 256;
        assert_int_equal(forge_message_check(SAMPLE, data, len, &tight, &fixture->arena, &fixture->error), FORGE_OK);
        free(data);
        free_sample(&sample);
    }
}

/* Two bytes on the wire become a struct and a pointer: refused from the estimate, before anything is allocated. */
static void test_check_amplification(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t empty_child[] = {0x1a, 0x00}; /* Node.children */
    size_t len = 300000;
    uint8_t *data = malloc(len);
    for (size_t i = 0; i < len; i += 2)
        memcpy(data + i, empty_child, sizeof empty_child);
    struct forge_message_limits limits = wide;
    limits.decoded_max = 1 << 20;
    ProtobufCMessage *message = NULL;
    assert_int_equal(forge_message_unpack(NODE, data, len, &limits, &fixture->arena, &message, &fixture->error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(fixture->error.message, "message needs more than 1048576 bytes when decoded");
    assert_int_equal(fixture->arena.used, 0);
    assert_null(message);
    free(data);
}

static void test_unpack_without_memory(void **state)
{
    struct fixture *fixture = *state;
    struct forge_arena small;
    forge_arena_init(&small, 64, NULL);
    ProtobufCMessage *message = NULL;
    assert_int_equal(forge_message_unpack(SAMPLE, BYTES("\x10\x01"), &wide, &small, &message, &fixture->error), FORGE_RESOURCE_EXHAUSTED);
    assert_string_equal(fixture->error.message, "no memory to decode a message of 2 bytes");
    assert_null(message);
    forge_arena_done(&small);
}

static void test_unpack(void **state)
{
    struct fixture *fixture = *state;
    Forge__V1__RequestHeader header = FORGE__V1__REQUEST_HEADER__INIT;
    char method[] = "forge.v1.ControlService/Ping";
    uint8_t data[100];
    header.method = method;
    header.timeout_us = 5000000;
    size_t len = protobuf_c_message_pack(&header.base, data);
    ProtobufCMessage *message;
    assert_int_equal(forge_message_unpack(header.base.descriptor, data, len, &wide, &fixture->arena, &message, &fixture->error), FORGE_OK);
    const Forge__V1__RequestHeader *decoded = (const Forge__V1__RequestHeader *)message;
    assert_string_equal(decoded->method, method);
    assert_int_equal(decoded->timeout_us, 5000000);
}

/* What the check accepts, protobuf-c unpacks: over random damage of a good message. */
static void test_accepted_means_unpackable(void **state)
{
    struct fixture *fixture = *state;
    Forge__Test__Sample sample = FORGE__TEST__SAMPLE__INIT;
    fill_sample(&sample, 3);
    uint8_t good[1024], damaged[1024];
    size_t len = protobuf_c_message_pack(&sample.base, good);
    uint32_t random = 12345;
    unsigned accepted = 0;
    for (int round = 0; round < 20000; round++) {
        memcpy(damaged, good, len);
        for (int i = 0; i <= round % 4; i++) {
            random = random * 1664525u + 1013904223u;
            damaged[(random >> 8) % len] = (uint8_t)(random >> 24);
        }
        forge_arena_reset(&fixture->arena);
        memset(&fixture->error, 0, sizeof fixture->error);
        if (forge_message_check(SAMPLE, damaged, len, &wide, &fixture->arena, &fixture->error) != FORGE_OK)
            continue;
        accepted++;
        assert_non_null(protobuf_c_message_unpack(SAMPLE, forge_arena_allocator(&fixture->arena), len, damaged));
    }
    assert_in_range(accepted, 1000, 19999);
    free_sample(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope_refuses),
        cmocka_unit_test(test_envelope_roundtrip),
        cmocka_unit_test(test_envelope_of_nothing),
        cmocka_unit_test(test_utf8_accepts),
        cmocka_unit_test(test_utf8_refuses),
        cmocka_unit_test_setup_teardown(test_check_malformed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_refuses_a_second_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_accepts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_text_and_enum_violations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_index_of_scattered_elements, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_many_violations_are_capped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_depth, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_unknown_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_estimate_is_close_to_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_amplification, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unpack_without_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unpack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_accepted_means_unpackable, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
