/* The records of a prompt cache's snapshot, as they are behind the seal: any bytes are refused or are records, which are written again as
 * what is read again. */
#include "fuzz.h"

#include "prompt_snapshot.h"

#include <string.h>

struct taken {
    unsigned count;
    struct forge__snapshot_bytes bytes;
};

static void take(void *user, Forge__V1__GetPromptRequest *request, Forge__V1__Prompt *prompt, int64_t confirmed_us)
{
    struct taken *taken = user;
    taken->count++;
    forge__snapshot_add(&taken->bytes, request, prompt, confirmed_us);
    forge__v1__get_prompt_request__free_unpacked(request, NULL);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct taken first = {.count = 0}, second = {.count = 0};
    bool is_whole = forge__snapshot_parse(data, size, take, &first);
    FUZZ_REQUIRE(!is_whole || size == 0 || first.count > 0);
    FUZZ_REQUIRE(forge__snapshot_parse(first.bytes.data, first.bytes.size, take, &second));
    FUZZ_REQUIRE(second.count == first.count && second.bytes.size == first.bytes.size);
    FUZZ_REQUIRE(first.bytes.size == 0 || memcmp(first.bytes.data, second.bytes.data, first.bytes.size) == 0);
    forge__snapshot_free(&first.bytes);
    forge__snapshot_free(&second.bytes);
    return 0;
}
