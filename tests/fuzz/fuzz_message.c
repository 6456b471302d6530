/* A payload as a peer sends it, of any type of the contract: checked, decoded inside its cap, written and read again. */
#include "fuzz_types.h"

#include "wire/envelope.h"
#include "wire/json.h"

#include <string.h>

static void use_message(const ProtobufCMessage *message, const struct forge_message_limits *limits, struct forge_arena *arena)
{
    static const struct forge_json_options options = {.with_defaults = true};
    struct forge_error error = {0};
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(size ? size : 1);
    FUZZ_REQUIRE(protobuf_c_message_pack(message, packed) == size);
    FUZZ_REQUIRE(forge_message_check(message->descriptor, packed, size, limits, arena, &error) != FORGE_INVALID_ARGUMENT);
    free(packed);
    forge_json_from_message(message, &options, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const ProtobufCMessageDescriptor *type = fuzz_choose_type(data);
    size_t len = size - 2;
    /* The server's own limits (wire.md): 16 times the wire size and 64 KiB. */
    const struct forge_message_limits limits = {.decoded_max = 16 * len + (64 << 10), .depth_max = 16, .unknown_max = 16 << 10};
    struct forge_arena arena;
    struct forge_error error = {0};
    ProtobufCMessage *message = NULL;
    forge_arena_init(&arena, limits.decoded_max, NULL);
    forge_code code = forge_message_unpack(type, data + 2, len, &limits, &arena, &message, &error);
    FUZZ_REQUIRE((code == FORGE_OK) == (message != NULL));
    FUZZ_REQUIRE(code == FORGE_OK || error.message[0]);
    FUZZ_REQUIRE(code == FORGE_OK || code == FORGE_INVALID_ARGUMENT || code == FORGE_RESOURCE_EXHAUSTED);
    FUZZ_REQUIRE(arena.used <= limits.decoded_max);
    if (code == FORGE_OK)
        use_message(message, &limits, &arena);
    /* What the check lets pass, protobuf-c can decode: "message is malformed" alone would be its refusal and not ours. */
    FUZZ_REQUIRE(strcmp(error.message, "message is malformed") != 0);
    forge_arena_done(&arena);
    return 0;
}
