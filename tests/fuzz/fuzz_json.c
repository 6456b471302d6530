/* JSON text for any type of the contract: what is accepted is written and read again, with the same text at the end. */
#include "fuzz_types.h"

#include "wire/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct forge_json_options options = {.pretty = true};
    if (size < 2)
        return 0;
    const ProtobufCMessageDescriptor *type = fuzz_choose_type(data);
    struct forge_arena arena;
    struct forge_error error = {0};
    ProtobufCMessage *message = NULL;
    forge_arena_init(&arena, 4 << 20, NULL);
    forge_code code = forge_json_to_message((const char *)data + 2, size - 2, type, &arena, &message, &error);
    FUZZ_REQUIRE((code == FORGE_OK) == (message != NULL));
    FUZZ_REQUIRE(code == FORGE_OK || error.message[0]);
    FUZZ_REQUIRE(code == FORGE_OK || code == FORGE_INVALID_ARGUMENT || code == FORGE_RESOURCE_EXHAUSTED);
    const char *text = message ? forge_json_from_message(message, &options, &arena) : NULL;
    if (text) {
        code = forge_json_to_message(text, strlen(text), type, &arena, &message, &error);
        FUZZ_REQUIRE(code == FORGE_OK || code == FORGE_RESOURCE_EXHAUSTED);
        const char *again = code == FORGE_OK ? forge_json_from_message(message, &options, &arena) : NULL;
        FUZZ_REQUIRE(!again || strcmp(text, again) == 0);
    }
    forge_arena_done(&arena);
    return 0;
}
