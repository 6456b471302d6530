/* Rules of strangers on texts of strangers: whatever they are, checking ends, always the same way, with ranges inside the text and masks
 * that are UTF-8. Input: a first byte that chooses, then a pattern or keyword, NUL, and the text. */
#include "fuzz.h"

#include "policy/policy.h"
#include "wire/envelope.h"

#include <string.h>

enum { ARENA_BYTES = 64 << 20 };

static char *text_of(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    FUZZ_REQUIRE(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

static void require_sound(const struct policy_decision *decision, size_t size)
{
    for (size_t i = 0; i < decision->finding_count; i++)
        for (size_t j = 0; j < decision->findings[i].range_count; j++) {
            const struct policy_range *range = &decision->findings[i].ranges[j];
            FUZZ_REQUIRE(range->begin <= range->end && range->end <= size);
            FUZZ_REQUIRE(j == 0 || range->begin >= decision->findings[i].ranges[j - 1].end);
        }
    const char *masked = decision->masked[0];
    FUZZ_REQUIRE(masked == NULL || forge_utf8_is_valid((const uint8_t *)masked, strlen(masked)));
}

static void check(struct policy_set *set, char *text, size_t size, struct forge_arena *arena)
{
    struct policy_decision first = {0}, second = {0};
    const struct policy_text texts[] = {{FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT, text, size}};
    const struct policy_subject subject = {.texts = texts, .text_count = 1};
    forge_code code = policy_set_check(set, &subject, arena, &first);
    FUZZ_REQUIRE((code == FORGE_INVALID_ARGUMENT) == !forge_utf8_is_valid((const uint8_t *)text, size));
    if (code != FORGE_OK)
        return;
    require_sound(&first, size);
    FUZZ_REQUIRE(policy_set_check(set, &subject, arena, &second) == FORGE_OK);
    FUZZ_REQUIRE(first.action == second.action && first.finding_count == second.finding_count);
    FUZZ_REQUIRE((first.masked[0] == NULL) == (second.masked[0] == NULL));
    FUZZ_REQUIRE(first.masked[0] == NULL || strcmp(first.masked[0], second.masked[0]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 1 ? memchr(data + 1, '\0', size - 1) : NULL;
    if (end == NULL)
        return 0;
    char *word = text_of(data + 1, (size_t)(end - data - 1)), *text = text_of(end + 1, size - (size_t)(end + 1 - data));
    Forge__V1__PatternRule pattern = FORGE__V1__PATTERN_RULE__INIT;
    Forge__V1__KeywordRule keyword = FORGE__V1__KEYWORD_RULE__INIT;
    Forge__V1__PiiRule pii = FORGE__V1__PII_RULE__INIT;
    Forge__V1__SecretRule secret = FORGE__V1__SECRET_RULE__INIT;
    Forge__V1__PolicyRule rules[3] = {FORGE__V1__POLICY_RULE__INIT, FORGE__V1__POLICY_RULE__INIT, FORGE__V1__POLICY_RULE__INIT};
    static char names[3][2] = {"a", "b", "c"};
    const Forge__V1__PolicyRule *list[3];
    pattern.patterns = keyword.keywords = &word;
    pattern.n_patterns = keyword.n_keywords = 1;
    pattern.ignore_case = keyword.match_case = data[0] & 2;
    keyword.inside_words = data[0] & 4;
    secret.entropy_bits_min = 2;
    for (size_t i = 0; i < 3; i++) {
        rules[i].name = names[i];
        rules[i].action = FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK;
        list[i] = &rules[i];
    }
    rules[0].kind_case = data[0] & 1 ? FORGE__V1__POLICY_RULE__KIND_PATTERN : FORGE__V1__POLICY_RULE__KIND_KEYWORD;
    if (data[0] & 1)
        rules[0].pattern = &pattern;
    else
        rules[0].keyword = &keyword;
    rules[1].kind_case = FORGE__V1__POLICY_RULE__KIND_PII;
    rules[1].pii = &pii;
    rules[2].kind_case = FORGE__V1__POLICY_RULE__KIND_SECRET;
    rules[2].secret = &secret;

    const struct policy_source policy = {"p", 1, FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE, list, 3};
    struct policy_set *set;
    struct forge_arena arena;
    struct forge_error error = {0};
    forge_arena_init(&arena, ARENA_BYTES, NULL);
    if (policy_set_prepare(&policy, 1, &arena, &error, &set) == FORGE_OK)
        check(set, text, size - (size_t)(end + 1 - data), &arena);
    else
        FUZZ_REQUIRE(set == NULL && error.violation_count > 0);
    policy_set_free(set);
    forge_arena_done(&arena);
    free(word);
    free(text);
    return 0;
}
