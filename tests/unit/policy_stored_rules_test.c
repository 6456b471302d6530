/* Rules of policies as the database holds them, and the hash of a version. */
#include "policy_test_support.h"

#include "service/policy/rules.h"

static struct forge_arena arena;

static int open_arena(void **state)
{
    forge_arena_init(&arena, POLICY_ARENA_BYTES, NULL);
    return 0;
}

static int close_arena(void **state)
{
    forge_arena_done(&arena);
    return 0;
}

static size_t pack(const Forge__V1__PolicyRule *rule, uint8_t **out)
{
    *out = forge_arena_alloc(&arena, forge__v1__policy_rule__get_packed_size(rule));
    assert_non_null(*out);
    return forge__v1__policy_rule__pack(rule, *out);
}

/* What is written and read again is the same message. */
static void assert_survives(Forge__V1__PolicyRule **rules, size_t count)
{
    Forge__V1__PolicyRule **read;
    size_t read_count;
    const char *json = policy_rules_write(&arena, rules, count);
    assert_non_null(json);
    assert_int_equal(policy_rules_read(&arena, json, &read, &read_count), FORGE_OK);
    assert_int_equal(read_count, count);
    for (size_t i = 0; i < count; i++) {
        uint8_t *before, *after;
        size_t size = pack(rules[i], &before);
        assert_int_equal(pack(read[i], &after), size);
        assert_memory_equal(before, after, size);
    }
}

static void test_every_kind(void **state)
{
    Forge__V1__PatternRule pattern = PATTERNS(TEXT("a\\d+\"\n\t\x01"), TEXT("\u20AC{2}]}"));
    Forge__V1__KeywordRule keyword = KEYWORDS(TEXT("straße"), TEXT("}]"));
    Forge__V1__PiiRule pii = FORGE__V1__PII_RULE__INIT, all_pii = FORGE__V1__PII_RULE__INIT;
    Forge__V1__SecretRule secret = FORGE__V1__SECRET_RULE__INIT;
    Forge__V1__AllowedModelsRule models = FORGE__V1__ALLOWED_MODELS_RULE__INIT;
    Forge__V1__TokenLimitRule tokens = FORGE__V1__TOKEN_LIMIT_RULE__INIT;
    Forge__V1__CostLimitRule cost = FORGE__V1__COST_LIMIT_RULE__INIT;
    Forge__V1__LatencyLimitRule latency = FORGE__V1__LATENCY_LIMIT_RULE__INIT;
    Forge__V1__RateLimitRule rate = FORGE__V1__RATE_LIMIT_RULE__INIT;
    Forge__V1__RequiredTagsRule tags = FORGE__V1__REQUIRED_TAGS_RULE__INIT;
    Forge__V1__OutputSchemaRule schema = FORGE__V1__OUTPUT_SCHEMA_RULE__INIT;
    Forge__V1__PiiKind kinds[] = {FORGE__V1__PII_KIND__PII_KIND_IBAN, FORGE__V1__PII_KIND__PII_KIND_EMAIL};
    char *names[] = {TEXT("first"), TEXT("second")};
    pattern.ignore_case = keyword.inside_words = secret.formats_only = true;
    pii.n_kinds = 2;
    pii.kinds = kinds;
    secret.entropy_bits_min = 3.1000000000000001;
    models.n_model_ids = tags.n_tags = 2;
    models.model_ids = tags.tags = names;
    tokens.total_tokens_max = INT64_MAX;
    latency.latency_max_ms = 1;
    rate.key = FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_SUBJECT;
    rate.calls_max = 9007199254740993; /* no double holds it */
    schema.schema = TEXT("{\"type\": \"object\"}");
    Forge__V1__PolicyRule rules[] = {RULE("pattern", MASK, PATTERN, pattern, &pattern),
                                     RULE("keyword", FLAG, KEYWORD, keyword, &keyword),
                                     RULE("pii", BLOCK, PII, pii, &pii),
                                     RULE("all_pii", BLOCK, PII, pii, &all_pii),
                                     RULE("secret", FLAG, SECRET, secret, &secret),
                                     RULE("models", FLAG, ALLOWED_MODELS, allowed_models, &models),
                                     RULE("tokens", FLAG, TOKEN_LIMIT, token_limit, &tokens),
                                     RULE("cost", FLAG, COST_LIMIT, cost_limit, &cost),
                                     RULE("latency", FLAG, LATENCY_LIMIT, latency_limit, &latency),
                                     RULE("rate", FLAG, RATE_LIMIT, rate_limit, &rate),
                                     RULE("tags", FLAG, REQUIRED_TAGS, required_tags, &tags),
                                     RULE("schema", FLAG, OUTPUT_SCHEMA, output_schema, &schema)};
    enum { COUNT = sizeof rules / sizeof rules[0] };
    Forge__V1__PolicyStage stages[] = {OUTPUT, PROMPT};
    Forge__V1__PolicyRule *list[COUNT];
    rules[0].description = TEXT("what \"it\" is");
    rules[0].severity = FORGE__V1__SEVERITY__SEVERITY_CRITICAL;
    rules[0].n_stages = 2;
    rules[0].stages = stages;
    for (size_t i = 0; i < COUNT; i++)
        list[i] = &rules[i];
    assert_survives(list, COUNT);
    assert_survives(list, 1);
    assert_string_equal(policy_rules_write(&arena, list, 0), "[]");
    assert_survives(list, 0);
}

static void test_damaged(void **state)
{
    Forge__V1__PolicyRule **rules;
    size_t count;
    static const char *const texts[] = {"", "{}", "[1]", "[{\"nonsense\": 1}]", "[{\"action\": \"POLICY_ACTION_NONE\"}]", "[{}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(policy_rules_read(&arena, texts[i], &rules, &count), FORGE_DATA_LOSS);
}

static void test_no_memory(void **state)
{
    struct forge_arena small;
    char pattern[2000];
    Forge__V1__PolicyRule **read;
    size_t count;
    uint8_t hash[FORGE_SHA256_SIZE];
    memset(pattern, 'a', sizeof pattern - 1);
    pattern[sizeof pattern - 1] = '\0';
    Forge__V1__PatternRule config = PATTERNS(pattern);
    Forge__V1__PolicyRule rule = RULE("r", FLAG, PATTERN, pattern, &config), *rules = &rule;
    const char *json = policy_rules_write(&arena, &rules, 1);
    assert_non_null(json);
    forge_arena_init(&small, 1000, NULL);
    assert_null(policy_rules_write(&small, &rules, 1));
    forge_arena_reset(&small);
    assert_int_equal(policy_rules_read(&small, json, &read, &count), FORGE_RESOURCE_EXHAUSTED);
    forge_arena_reset(&small);
    assert_int_equal(policy_rules_hash(&small, ENFORCE, &rules, 1, hash), FORGE_RESOURCE_EXHAUSTED);
    forge_arena_done(&small);
}

static void test_fill_in(void **state)
{
    Forge__V1__RateLimitRule rate = FORGE__V1__RATE_LIMIT_RULE__INIT, given = FORGE__V1__RATE_LIMIT_RULE__INIT;
    given.key = FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_MODEL;
    given.window_s = 5;
    Forge__V1__PolicyRule left_out = RULE("a", BLOCK, RATE_LIMIT, rate_limit, &rate),
                          full = RULE("b", BLOCK, RATE_LIMIT, rate_limit, &given);
    Forge__V1__PolicyRule *rules[] = {&left_out, &full};
    full.severity = FORGE__V1__SEVERITY__SEVERITY_LOW;
    policy_rules_fill_in(rules, 2);
    assert_int_equal(left_out.severity, FORGE__V1__SEVERITY__SEVERITY_MEDIUM);
    assert_int_equal(rate.key, FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_PROJECT);
    assert_int_equal(rate.window_s, 60);
    assert_int_equal(full.severity, FORGE__V1__SEVERITY__SEVERITY_LOW);
    assert_int_equal(given.key, FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_MODEL);
    assert_int_equal(given.window_s, 5);
}

/* What was read again has the same hash; mode, rules and their order count. */
static void test_hash(void **state)
{
    Forge__V1__PatternRule config = PATTERNS(TEXT("a"));
    Forge__V1__PolicyRule first = RULE("first", MASK, PATTERN, pattern, &config), second = RULE("second", FLAG, PATTERN, pattern, &config);
    Forge__V1__PolicyRule *rules[] = {&first, &second}, *turned[] = {&second, &first}, **read;
    size_t count;
    uint8_t hash[FORGE_SHA256_SIZE], other[FORGE_SHA256_SIZE];
    assert_int_equal(policy_rules_hash(&arena, ENFORCE, rules, 2, hash), FORGE_OK);
    assert_int_equal(policy_rules_read(&arena, policy_rules_write(&arena, rules, 2), &read, &count), FORGE_OK);
    assert_int_equal(policy_rules_hash(&arena, ENFORCE, read, count, other), FORGE_OK);
    assert_memory_equal(hash, other, sizeof hash);
    assert_int_equal(policy_rules_hash(&arena, FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED, rules, 2, other), FORGE_OK);
    assert_memory_equal(hash, other, sizeof hash);
    assert_int_equal(policy_rules_hash(&arena, DRY_RUN, rules, 2, other), FORGE_OK);
    assert_memory_not_equal(hash, other, sizeof hash);
    assert_int_equal(policy_rules_hash(&arena, ENFORCE, turned, 2, other), FORGE_OK);
    assert_memory_not_equal(hash, other, sizeof hash);
    assert_int_equal(policy_rules_hash(&arena, ENFORCE, rules, 1, other), FORGE_OK);
    assert_memory_not_equal(hash, other, sizeof hash);
}

static void test_modes(void **state)
{
    assert_string_equal(policy_mode_name(FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED), "enforce");
    assert_int_equal(policy_mode_find(policy_mode_name(ENFORCE)), ENFORCE);
    assert_int_equal(policy_mode_find(policy_mode_name(DRY_RUN)), DRY_RUN);
    assert_int_equal(policy_mode_find("off"), FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_kind, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(test_damaged, open_arena, close_arena),
        cmocka_unit_test_setup_teardown(test_no_memory, open_arena, close_arena),
        cmocka_unit_test(test_fill_in),
        cmocka_unit_test_setup_teardown(test_hash, open_arena, close_arena),
        cmocka_unit_test(test_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
