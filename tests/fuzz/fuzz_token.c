/* Tokens arrive before anybody is known: any text must be refused or be exactly what make would write for what parse read. */
#include "fuzz.h"

#include "auth/token.h"

#include <string.h>

enum { TEXT_MAX = 300 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX + 1];
    size_t length = size < TEXT_MAX ? size : TEXT_MAX;
    enum auth_token_kind kind;
    struct forge_uuid organization_id;
    memcpy(text, data, length);
    text[length] = '\0';
    if (!auth_token_parse(text, &kind, &organization_id))
        return 0;
    FUZZ_REQUIRE(strlen(text) == AUTH_TOKEN_LENGTH);
    FUZZ_REQUIRE(forge_uuid_is_nil(&organization_id) == (kind == AUTH_TOKEN_OPERATOR));
    char fresh[AUTH_TOKEN_SIZE];
    auth_token_make(kind, &organization_id, fresh);
    FUZZ_REQUIRE(memcmp(fresh, text, 4 + 22) == 0); /* prefix and organization; the secret is another one */
    return 0;
}
