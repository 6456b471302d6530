/* An RPC body as a peer sends it: split, header checked and decoded; whatever is accepted can be written and read again. */
#include "fuzz.h"

#include "forge/v1/common.pb-c.h"
#include "wire/envelope.h"

#include <string.h>

static void decode_header(const ProtobufCMessageDescriptor *type, const struct forge_envelope *envelope)
{
    static const struct forge_message_limits limits = {.decoded_max = 512 << 10, .depth_max = 4, .unknown_max = 1024};
    struct forge_arena arena;
    struct forge_error error = {0};
    ProtobufCMessage *header = NULL;
    forge_arena_init(&arena, limits.decoded_max, NULL);
    forge_code code = forge_message_unpack(type, envelope->header, envelope->header_len, &limits, &arena, &header, &error);
    FUZZ_REQUIRE((code == FORGE_OK) == (header != NULL));
    FUZZ_REQUIRE((code == FORGE_OK) == (error.message[0] == '\0'));
    FUZZ_REQUIRE(code == FORGE_OK || code == FORGE_INVALID_ARGUMENT || code == FORGE_RESOURCE_EXHAUSTED);
    if (code == FORGE_OK) {
        size_t size = forge_envelope_size(header, envelope->payload_len);
        uint8_t *body = malloc(size);
        struct forge_envelope again;
        uint8_t *payload = forge_envelope_pack_header(header, body);
        FUZZ_REQUIRE((size_t)(payload - body) + envelope->payload_len == size);
        memcpy(payload, envelope->payload, envelope->payload_len);
        FUZZ_REQUIRE(forge_envelope_parse(body, size, size, &again, &error) == FORGE_OK);
        FUZZ_REQUIRE(again.payload_len == envelope->payload_len && again.payload == payload);
        FUZZ_REQUIRE(forge_message_check(type, again.header, again.header_len, &limits, &arena, &error) != FORGE_INVALID_ARGUMENT);
        free(body);
    }
    forge_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forge_envelope envelope;
    struct forge_error error = {0};
    forge_code code = forge_envelope_parse(data, size, FORGE_ENVELOPE_HEADER_MAX, &envelope, &error);
    FUZZ_REQUIRE(code == FORGE_OK || (code == FORGE_INVALID_ARGUMENT && error.message[0]));
    if (code != FORGE_OK)
        return 0;
    FUZZ_REQUIRE(FORGE_ENVELOPE_PREFIX + envelope.header_len + envelope.payload_len == size);
    FUZZ_REQUIRE(envelope.header_len <= FORGE_ENVELOPE_HEADER_MAX);
    decode_header(&forge__v1__request_header__descriptor, &envelope);
    decode_header(&forge__v1__reply_header__descriptor, &envelope);
    return 0;
}
