/* Patterns and JSON Schemas of strangers on outputs of strangers: whatever they are, they end, and always the same way. Input: a first byte
 * that chooses, then the pattern or schema, NUL, and the output. */
#include "fuzz.h"

#include "evaluate/json_schema.h"
#include "evaluate/pattern.h"

#include <stdlib.h>
#include <string.h>

static char *text_of(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    FUZZ_REQUIRE(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

static void match(const char *pattern_text, unsigned options, const char *output, size_t size)
{
    char said[256];
    struct evaluate_pattern *pattern = evaluate_pattern_compile(pattern_text, options, said, sizeof said);
    FUZZ_REQUIRE((pattern == NULL) == (said[0] != '\0'));
    if (pattern != NULL) {
        const char *limit = NULL;
        uint64_t work[2] = {EVALUATE_PATTERN_WORK, EVALUATE_PATTERN_WORK};
        enum evaluate_match first = evaluate_pattern_match(pattern, output, size, &work[0], &limit);
        FUZZ_REQUIRE((first == EVALUATE_MATCH_LIMIT) == (limit != NULL));
        FUZZ_REQUIRE(evaluate_pattern_match(pattern, output, size, &work[1], &limit) == first && work[0] == work[1]);
    }
    evaluate_pattern_free(pattern);
}

static void apply(const char *schema_text, const char *output, size_t size)
{
    char said[480];
    struct json_schema *schema = json_schema_prepare(schema_text, strlen(schema_text), said, sizeof said);
    FUZZ_REQUIRE((schema == NULL) == (said[0] != '\0'));
    if (schema != NULL) {
        enum json_schema_result first = json_schema_apply(schema, output, size, said, sizeof said, NULL);
        FUZZ_REQUIRE((first == JSON_SCHEMA_FITS) == (said[0] == '\0'));
        FUZZ_REQUIRE(json_schema_apply(schema, output, size, said, sizeof said, NULL) == first);
    }
    json_schema_free(schema);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 1 ? memchr(data + 1, '\0', size - 1) : NULL;
    if (end == NULL || end - data > EVALUATE_PATTERN_BYTES_MAX)
        return 0;
    size_t output_size = size - (size_t)(end + 1 - data);
    char *text = text_of(data + 1, (size_t)(end - data - 1)), *output = text_of(end + 1, output_size);
    if (data[0] & 8)
        match(text, data[0] & 7, output, output_size);
    else
        apply(text, output, output_size);
    free(text);
    free(output);
    return 0;
}
