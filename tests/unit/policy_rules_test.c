/* What each kind of rule finds and says, what is masked, and what is refused and where. */
#include "policy_test_support.h"

#include "wire/clock.h"

/* --- patterns and keywords --- */

static void test_pattern(void **state)
{
    Forge__V1__PatternRule config = PATTERNS(TEXT("secret-\\d+"), TEXT("\\bfoo(bar)?\\b"), TEXT("bar baz"));
    Forge__V1__PolicyRule rule = RULE("r", MASK, PATTERN, pattern, &config);
    assert_string_equal(masked_by(&rule, "a secret-12 b foobar baz c"), "a [r] b [r] c"); /* overlapping ones are one */
    assert_string_equal(masked_by(&rule, "foo foobar"), "[r] [r]");
    assert_string_equal(masked_by(&rule, "secret-1secret-2"), "[r]"); /* touching ones too */
    assert_null(masked_by(&rule, "SECRET-12 food"));
    config.ignore_case = true;
    assert_string_equal(masked_by(&rule, "x SECRET-12"), "x [r]");
    Forge__V1__PatternRule umlauts = PATTERNS(TEXT("straße|\\w+ö"));
    rule.pattern = &umlauts;
    assert_string_equal(masked_by(&rule, "\u20AC straße, hallö\u20AC"), "\u20AC [r], [r]\u20AC");
}

/* A match of nothing is a match: that is how a rule demands a text. */
static void test_pattern_of_nothing(void **state)
{
    struct policy_fixture fixture;
    Forge__V1__PatternRule config = PATTERNS(TEXT("\\A(?!.*disclaimer)"), TEXT("x*"));
    Forge__V1__PolicyRule rule = RULE("needs_disclaimer", BLOCK, PATTERN, pattern, &config), *rules = &rule;
    config.n_patterns = 1;
    fixture_open(&fixture, (const Forge__V1__PolicyRule *const *)&rules, 1);
    fixture_check_text(&fixture, OUTPUT, "with a disclaimer");
    assert_int_equal(fixture.decision.finding_count, 0);
    fixture_check_text(&fixture, OUTPUT, "without");
    assert_int_equal(fixture.decision.action, BLOCK);
    assert_int_equal(fixture.decision.findings[0].range_count, 1);
    assert_int_equal(fixture.decision.findings[0].ranges[0].end, 0);
    fixture_close(&fixture);
    rule.action = MASK;
    config.n_patterns = 2; /* an empty match replaces nothing, and the search for the next one moves on */
    assert_string_equal(masked_by(&rule, "aaxxb disclaimer"), "aa[needs_disclaimer]b disclaimer");
}

static void test_pattern_limit(void **state)
{
    struct policy_fixture fixture;
    Forge__V1__PatternRule config = PATTERNS(TEXT("(a+)+\\1$"), TEXT("mail"));
    Forge__V1__PolicyRule rule = RULE("bomb", MASK, PATTERN, pattern, &config), *rules = &rule;
    char text[200] = "mail ";
    memset(text + 5, 'a', 60);
    strcpy(text + 65, "b \u20AC");
    fixture_open(&fixture, (const Forge__V1__PolicyRule *const *)&rules, 1);
    fixture_check_text(&fixture, INPUT, text);
    assert_int_equal(fixture.decision.finding_count, 1);
    assert_string_equal(fixture.decision.findings[0].message, "A pattern met its limits.");
    assert_int_equal(fixture.decision.findings[0].ranges[0].begin, 0); /* nothing was searched to the end */
    assert_int_equal(fixture.decision.findings[0].ranges[0].end, strlen(text));
    assert_string_equal(fixture.decision.masked[0], "[bomb]");
    fixture_check_text(&fixture, INPUT, "aaaa b mail");
    assert_string_equal(fixture.decision.masked[0], "aaaa b [bomb]");
    fixture_close(&fixture);
}

static void test_keywords(void **state)
{
    Forge__V1__KeywordRule config =
        KEYWORDS(TEXT("Project X"), TEXT("straße"), TEXT("C++"), TEXT("he"), TEXT("she"), TEXT("hers"), TEXT("\u0130x"));
    Forge__V1__PolicyRule rule = RULE("k", MASK, KEYWORD, keyword, &config);
    assert_string_equal(masked_by(&rule, "the PROJECT x is in STRAßE 5"), "the [k] is in [k] 5");
    assert_null(masked_by(&rule, "projects x, Project Xy, strassE, straßen, her, sheh, _he, he\u0301, \u00E9he"));
    assert_string_equal(masked_by(&rule, "C++17 and c++, (he) -she- hers"), "[k]17 and [k], ([k]) -[k]- [k]");
    assert_string_equal(masked_by(&rule, "STRA\u1E9EE"), "[k]"); /* the capital sharp s folds to the small one */
    config.inside_words = true;
    assert_string_equal(masked_by(&rule, "ushers"), "u[k]"); /* she, he and hers overlap */
    assert_string_equal(masked_by(&rule, "\u00E9hehe\u20AC"), "\u00E9[k]\u20AC");
    config.match_case = true;
    config.inside_words = false;
    assert_null(masked_by(&rule, "PROJECT X, He"));
    assert_string_equal(masked_by(&rule, "Project X, he"), "[k], [k]");
}

/* Against the plain definition, on many short texts of few letters. */
static void test_keywords_by_definition(void **state)
{
    Forge__V1__KeywordRule config =
        KEYWORDS(TEXT("a"), TEXT("ab"), TEXT("bab"), TEXT("bc"), TEXT("bca"), TEXT("c"), TEXT("caa"), TEXT("Bb"));
    Forge__V1__PolicyRule rule = RULE("r", FLAG, KEYWORD, keyword, &config), *rules = &rule;
    struct policy_fixture fixture;
    config.inside_words = true;
    config.match_case = true;
    fixture_open(&fixture, (const Forge__V1__PolicyRule *const *)&rules, 1);
    unsigned random = 1;
    for (int round = 0; round < 5000; round++) {
        char text[13];
        bool is_in[12] = {false}, expected[12] = {false};
        size_t size = 1 + round % 12;
        for (size_t i = 0; i < size; i++)
            text[i] = "abcB"[(random = random * 1103515245 + 12345) >> 16 & 3];
        text[size] = '\0';
        for (size_t k = 0; k < config.n_keywords; k++)
            for (char *at = text; (at = strstr(at, config.keywords[k])) != NULL; at++)
                memset(expected + (at - text), true, strlen(config.keywords[k]));
        fixture_check_text(&fixture, PROMPT, text);
        if (fixture.decision.finding_count > 0)
            for (size_t i = 0; i < fixture.decision.findings[0].range_count; i++) {
                const struct policy_range *range = &fixture.decision.findings[0].ranges[i];
                memset(is_in + range->begin, true, range->end - range->begin);
            }
        assert_memory_equal(is_in, expected, sizeof is_in);
    }
    fixture_close(&fixture);
}

/* --- facts --- */

static bool meets(const Forge__V1__PolicyRule *rule, const struct policy_subject *subject, Forge__V1__PolicyStage stage)
{
    struct policy_fixture fixture;
    fixture_open(&fixture, &rule, 1);
    fixture_check(&fixture, subject);
    bool met = fixture.decision.finding_count > 0;
    if (met) {
        assert_int_equal(fixture.decision.findings[0].stage, stage);
        assert_int_equal(fixture.decision.findings[0].range_count, 0);
        assert_int_equal(fixture.decision.action, rule->action);
    }
    fixture_close(&fixture);
    return met;
}

static void test_allowed_models(void **state)
{
    Forge__V1__AllowedModelsRule config = FORGE__V1__ALLOWED_MODELS_RULE__INIT;
    config.model_ids = (char *[]){TEXT("m1"), TEXT("m2")};
    config.n_model_ids = 2;
    Forge__V1__PolicyRule rule = RULE("models", BLOCK, ALLOWED_MODELS, allowed_models, &config);
    assert_false(meets(&rule, &(struct policy_subject){0}, INPUT));
    assert_false(meets(&rule, &(struct policy_subject){.model_stage = INPUT, .model_id = "m2"}, INPUT));
    assert_true(meets(&rule, &(struct policy_subject){.model_stage = INPUT, .model_id = "m3"}, INPUT));
    assert_true(meets(&rule, &(struct policy_subject){.model_stage = INPUT}, INPUT)); /* a name that no model has */
    assert_true(meets(&rule, &(struct policy_subject){.model_stage = PROMPT, .model_id = "m"}, PROMPT));
    rule.stages = (Forge__V1__PolicyStage[]){PROMPT};
    rule.n_stages = 1;
    assert_false(meets(&rule, &(struct policy_subject){.model_stage = INPUT, .model_id = "m3"}, INPUT));
}

static void test_limits(void **state)
{
    Forge__V1__TokenUsage usage = FORGE__V1__TOKEN_USAGE__INIT;
    usage.input_tokens = 10;
    usage.cache_read_tokens = 20;
    usage.cache_write_tokens = 30;
    usage.output_tokens = 5;
    usage.reasoning_tokens = 6;
    const struct policy_subject call = {.usage = &usage, .has_cost = true, .cost_micros = 100, .has_latency = true, .latency_ms = 50};
    Forge__V1__TokenLimitRule tokens = FORGE__V1__TOKEN_LIMIT_RULE__INIT;
    Forge__V1__PolicyRule rule = RULE("tokens", FLAG, TOKEN_LIMIT, token_limit, &tokens);
    tokens.input_tokens_max = 60;
    tokens.output_tokens_max = 11;
    tokens.total_tokens_max = 71;
    assert_false(meets(&rule, &call, INPUT));
    tokens.input_tokens_max = 59;
    assert_true(meets(&rule, &call, INPUT));
    assert_false(meets(&rule, &(struct policy_subject){0}, INPUT));
    tokens.input_tokens_max = 0;
    tokens.output_tokens_max = 10;
    assert_true(meets(&rule, &call, OUTPUT));
    tokens.output_tokens_max = 0;
    tokens.total_tokens_max = 70;
    assert_true(meets(&rule, &call, OUTPUT));
    rule.stages = (Forge__V1__PolicyStage[]){INPUT};
    rule.n_stages = 1;
    assert_true(meets(&rule, &call, INPUT));
    usage.input_tokens = usage.output_tokens = INT64_MAX; /* no overflow */
    assert_true(meets(&rule, &call, INPUT));

    Forge__V1__CostLimitRule cost = FORGE__V1__COST_LIMIT_RULE__INIT;
    Forge__V1__PolicyRule cost_rule = RULE("cost", BLOCK, COST_LIMIT, cost_limit, &cost);
    cost.cost_max_micros = 100;
    assert_false(meets(&cost_rule, &call, OUTPUT));
    cost.cost_max_micros = 99;
    assert_true(meets(&cost_rule, &call, OUTPUT));
    assert_false(meets(&cost_rule, &(struct policy_subject){.cost_micros = 100}, OUTPUT));

    Forge__V1__LatencyLimitRule latency = FORGE__V1__LATENCY_LIMIT_RULE__INIT;
    Forge__V1__PolicyRule latency_rule = RULE("slow", FLAG, LATENCY_LIMIT, latency_limit, &latency);
    latency.latency_max_ms = 50;
    assert_false(meets(&latency_rule, &call, OUTPUT));
    latency.latency_max_ms = 49;
    assert_true(meets(&latency_rule, &call, OUTPUT));
}

static void test_required_tags(void **state)
{
    Forge__V1__RequiredTagsRule config = FORGE__V1__REQUIRED_TAGS_RULE__INIT;
    const char *const both[] = {"reviewed", "owner"}, *const one[] = {"owner"};
    config.tags = (char *[]){TEXT("owner"), TEXT("reviewed")};
    config.n_tags = 2;
    Forge__V1__PolicyRule rule = RULE("tags", BLOCK, REQUIRED_TAGS, required_tags, &config);
    assert_false(meets(&rule, &(struct policy_subject){0}, PROMPT));
    assert_false(meets(&rule, &(struct policy_subject){.has_tags = true, .tags = both, .tag_count = 2}, PROMPT));
    assert_true(meets(&rule, &(struct policy_subject){.has_tags = true, .tags = one, .tag_count = 1}, PROMPT));
    assert_true(meets(&rule, &(struct policy_subject){.has_tags = true}, PROMPT));
}

static void test_output_schema(void **state)
{
    struct policy_fixture fixture;
    Forge__V1__OutputSchemaRule config = FORGE__V1__OUTPUT_SCHEMA_RULE__INIT;
    config.schema = TEXT("{\"type\":\"object\",\"required\":[\"a\"]}");
    Forge__V1__PolicyRule rule = RULE("schema", FLAG, OUTPUT_SCHEMA, output_schema, &config), *rules = &rule;
    rule.description = TEXT("Answers are objects.");
    fixture_open(&fixture, (const Forge__V1__PolicyRule *const *)&rules, 1);
    fixture_check_text(&fixture, OUTPUT, "{\"a\":1}");
    assert_int_equal(fixture.decision.finding_count, 0);
    fixture_check_text(&fixture, INPUT, "no JSON");
    assert_int_equal(fixture.decision.finding_count, 0);
    fixture_check_text(&fixture, OUTPUT, "no JSON");
    assert_string_equal(fixture.decision.findings[0].message, "The output is not JSON. Answers are objects.");
    fixture_check_text(&fixture, OUTPUT, "{\"private\":1}");
    assert_string_equal(fixture.decision.findings[0].message, "The output does not fit the schema. Answers are objects.");
    assert_null(fixture.decision.masked[0]);
    fixture_close(&fixture);
}

/* --- decisions --- */

static void test_decision(void **state)
{
    Forge__V1__KeywordRule word = KEYWORDS(TEXT("alpha")), phrase = KEYWORDS(TEXT("alpha beta"));
    Forge__V1__PolicyRule flag = RULE("z-flag", FLAG, KEYWORD, keyword, &word), mask = RULE("mask", MASK, KEYWORD, keyword, &phrase);
    Forge__V1__PolicyRule block = RULE("block", BLOCK, KEYWORD, keyword, &word), mask_word = RULE("a-mask", MASK, KEYWORD, keyword, &word);
    const Forge__V1__PolicyRule *first[] = {&flag, &mask, &mask_word}, *dry[] = {&block, &mask_word};
    const struct policy_source policies[] = {{"p2", 7, ENFORCE, first, 3}, {"p1", 1, DRY_RUN, dry, 2}};
    struct policy_fixture fixture;
    block.severity = FORGE__V1__SEVERITY__SEVERITY_CRITICAL;
    fixture_open_many(&fixture, policies, 2);
    const struct policy_text texts[] = {
        {INPUT, "alpha beta", 10}, {OUTPUT, "beta", 4}, {INPUT, "gamma", 5}, {INPUT, "x alpha", 7}, {OUTPUT, "alpha", 5}};
    fixture_check(&fixture, &(struct policy_subject){.texts = texts, .text_count = 5});
    const struct policy_decision *decision = &fixture.decision;
    assert_int_equal(decision->action, MASK); /* the dry run does not count */
    assert_int_equal(decision->policy_action[0], MASK);
    assert_int_equal(decision->policy_action[1], BLOCK);
    static const struct {
        const char *policy, *rule;
        Forge__V1__PolicyStage stage;
        size_t ranges;
    } expected[] = {{"p1", "a-mask", INPUT, 2}, {"p1", "a-mask", OUTPUT, 1}, {"p1", "block", INPUT, 2},
                    {"p1", "block", OUTPUT, 1}, {"p2", "a-mask", INPUT, 2},  {"p2", "a-mask", OUTPUT, 1},
                    {"p2", "mask", INPUT, 1},   {"p2", "z-flag", INPUT, 2},  {"p2", "z-flag", OUTPUT, 1}};
    assert_int_equal(decision->finding_count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < decision->finding_count; i++) {
        assert_string_equal(decision->findings[i].policy_id, expected[i].policy);
        assert_string_equal(decision->findings[i].rule, expected[i].rule);
        assert_int_equal(decision->findings[i].stage, expected[i].stage);
        assert_int_equal(decision->findings[i].range_count, expected[i].ranges);
    }
    assert_int_equal(decision->findings[2].severity, FORGE__V1__SEVERITY__SEVERITY_CRITICAL);
    assert_int_equal(decision->findings[4].severity, FORGE__V1__SEVERITY__SEVERITY_MEDIUM);
    assert_int_equal(decision->findings[4].policy_version, 7);
    assert_int_equal(decision->findings[4].ranges[1].text, 3);
    assert_int_equal(decision->findings[4].ranges[1].begin, 2);
    assert_string_equal(decision->masked[0], "[mask]"); /* the longer of two that begin there */
    assert_null(decision->masked[1]);
    assert_null(decision->masked[2]);
    assert_string_equal(decision->masked[3], "x [a-mask]");

    const bool in_force[] = {false, true};
    fixture_check(&fixture, &(struct policy_subject){.texts = texts, .text_count = 5, .in_force = in_force});
    assert_int_equal(decision->action, 0);
    assert_int_equal(decision->finding_count, 4);
    assert_null(decision->masked[0]);
    fixture_close(&fixture);
}

/* The answer stays small: 100 ranges, 1,000 findings, a masked text that grows by no more than a mebibyte. */
static void test_bounds(void **state)
{
    enum { SIZE = 100000, POLICIES = 5 };
    char *text = malloc(SIZE + 1);
    struct policy_fixture fixture;
    Forge__V1__KeywordRule config = KEYWORDS(TEXT("a"));
    Forge__V1__PolicyRule *rules = calloc(POLICY_RULES_MAX, sizeof rules[0]);
    const Forge__V1__PolicyRule *list[POLICY_RULES_MAX];
    struct policy_source policies[POLICIES];
    char names[POLICY_RULES_MAX][POLICY_NAME_BYTES_MAX + 1];
    assert_true(text != NULL && rules != NULL);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = "a "[i % 2];
    text[SIZE] = '\0';
    for (size_t i = 0; i < POLICY_RULES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "rule-with-a-long-name-so-that-masks-grow-%zu", i);
        rules[i] = (Forge__V1__PolicyRule)RULE(names[i], MASK, KEYWORD, keyword, &config);
        list[i] = &rules[i];
    }
    for (size_t i = 0; i < POLICIES; i++)
        policies[i] = (struct policy_source){"policy", 1, ENFORCE, list, i == 0 ? 1 : POLICY_RULES_MAX};
    fixture_open_many(&fixture, policies, 1);
    fixture_check_text(&fixture, INPUT, text);
    assert_int_equal(fixture.decision.findings[0].range_count, POLICY_RANGES_MAX);
    assert_string_equal(fixture.decision.masked[0], "[rule-with-a-long-name-so-that-masks-grow-0] ");
    fixture_close(&fixture);
    text[20] = '\0';
    fixture_open_many(&fixture, policies, POLICIES);
    fixture_check_text(&fixture, INPUT, text);
    assert_int_equal(fixture.decision.finding_count, POLICY_FINDINGS_MAX);
    assert_true(fixture.decision.findings_truncated);
    fixture_close(&fixture);
    free(rules);
    free(text);
}

static void test_failures(void **state)
{
    struct policy_fixture fixture;
    struct policy_decision untouched = {.finding_count = 77};
    Forge__V1__KeywordRule config = KEYWORDS(TEXT("a"));
    Forge__V1__PolicyRule rule = RULE("r", MASK, KEYWORD, keyword, &config), *rules = &rule;
    fixture_open(&fixture, (const Forge__V1__PolicyRule *const *)&rules, 1);
    struct policy_text texts[] = {{INPUT, "a\xFF", 2}};
    struct policy_subject subject = {.texts = texts, .text_count = 1};
    assert_int_equal(policy_set_check(fixture.set, &subject, &fixture.arena, &untouched), FORGE_INVALID_ARGUMENT);
    texts[0].size = 1;
    subject.deadline_ns = forge_clock_monotonic_ns() - 1;
    assert_int_equal(policy_set_check(fixture.set, &subject, &fixture.arena, &untouched), FORGE_DEADLINE_EXCEEDED);
    subject.deadline_ns = 0;
    struct forge_arena small;
    forge_arena_init(&small, 1024, NULL);
    assert_int_equal(policy_set_check(fixture.set, &subject, &small, &untouched), FORGE_RESOURCE_EXHAUSTED);
    forge_arena_done(&small);
    assert_int_equal(untouched.finding_count, 77);
    fixture_close(&fixture);
    policy_set_free(NULL);
    fixture_open_many(&fixture, NULL, 0);
    fixture_check(&fixture, &(struct policy_subject){0});
    assert_int_equal(fixture.decision.action, 0);
    fixture_close(&fixture);
}

/* --- what is refused --- */

/* The only violation of a rule: "field: description". */
static const char *refusal(const Forge__V1__PolicyRule *rule)
{
    static char said[1024];
    struct forge_arena arena;
    struct forge_error error = {0};
    struct policy_set *set;
    const struct policy_source policy = {"p", 0, ENFORCE, &rule, 1};
    forge_arena_init(&arena, POLICY_ARENA_BYTES, NULL);
    assert_int_equal(policy_set_prepare(&policy, 1, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_null(set);
    assert_int_equal(error.violation_count, 1);
    snprintf(said, sizeof said, "%s: %s", error.violations->field, error.violations->description);
    forge_arena_done(&arena);
    return said;
}

static void test_refused_in_common(void **state)
{
    Forge__V1__PiiRule pii = FORGE__V1__PII_RULE__INIT;
    Forge__V1__PolicyRule rule = RULE("", BLOCK, PII, pii, &pii);
    assert_string_equal(refusal(&rule), "rules[0].name: must be 1 to 64 of a-z, 0-9, _, . and -");
    rule.name = TEXT("ok");
    rule.action = 0;
    assert_string_equal(refusal(&rule), "rules[0].action: must be flag, mask or block");
    rule.action = BLOCK;
    rule.severity = (Forge__V1__Severity)9;
    assert_string_equal(refusal(&rule), "rules[0].severity: must be low, medium, high or critical");
    rule.severity = 0;
    rule.stages = (Forge__V1__PolicyStage[]){INPUT, INPUT};
    rule.n_stages = 2;
    assert_string_equal(refusal(&rule), "rules[0].stages[1]: is there twice");
    rule.n_stages = 0;
    pii.kinds = (Forge__V1__PiiKind[]){FORGE__V1__PII_KIND__PII_KIND_CARD, FORGE__V1__PII_KIND__PII_KIND_UNSPECIFIED};
    pii.n_kinds = 2;
    assert_string_equal(refusal(&rule), "rules[0].pii.kinds[1]: must be a kind of personal data");
    rule.kind_case = FORGE__V1__POLICY_RULE__KIND__NOT_SET;
    assert_string_equal(refusal(&rule), "rules[0]: needs a kind, such as pattern");
    char description[1026];
    memset(description, 'x', 1025);
    description[1025] = '\0';
    pii.n_kinds = 0;
    rule = (Forge__V1__PolicyRule)RULE("ok", BLOCK, PII, pii, &pii);
    rule.description = description;
    assert_string_equal(refusal(&rule), "rules[0].description: must be at most 1024 characters");
}

static void test_refused_by_kind(void **state)
{
    Forge__V1__PatternRule pattern = PATTERNS(TEXT("a"), TEXT("b("));
    Forge__V1__PolicyRule rule = RULE("r", FLAG, PATTERN, pattern, &pattern);
    assert_string_equal(refusal(&rule), "rules[0].pattern.patterns[1]: missing closing parenthesis (at byte 2)");
    pattern.n_patterns = 0;
    assert_string_equal(refusal(&rule), "rules[0].pattern.patterns: must be 1 to 100");
    Forge__V1__KeywordRule keyword = KEYWORDS(TEXT("a"), TEXT(""));
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, KEYWORD, keyword, &keyword);
    assert_string_equal(refusal(&rule), "rules[0].keyword.keywords[1]: must be 1 to 255 characters");
    Forge__V1__SecretRule secret = FORGE__V1__SECRET_RULE__INIT;
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, SECRET, secret, &secret);
    secret.entropy_bits_min = 1.5;
    assert_string_equal(refusal(&rule), "rules[0].secret.entropy_bits_min: must be 2.0 to 6.0, or 0 for 4.0");
    Forge__V1__TokenLimitRule tokens = FORGE__V1__TOKEN_LIMIT_RULE__INIT;
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, TOKEN_LIMIT, token_limit, &tokens);
    assert_string_equal(refusal(&rule), "rules[0].token_limit: needs a limit");
    rule.action = MASK;
    tokens.input_tokens_max = 1;
    assert_string_equal(refusal(&rule), "rules[0].action: mask is for pattern, keyword, pii and secret rules only");
    rule.action = FLAG;
    rule.stages = (Forge__V1__PolicyStage[]){PROMPT};
    rule.n_stages = 1;
    assert_string_equal(refusal(&rule), "rules[0].stages[0]: does not suit the kind of rule");
    Forge__V1__RateLimitRule rate = FORGE__V1__RATE_LIMIT_RULE__INIT;
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, RATE_LIMIT, rate_limit, &rate);
    assert_string_equal(refusal(&rule), "rules[0].rate_limit: needs calls_max or tokens_max");
    rate.calls_max = 1;
    rate.window_s = 86401;
    assert_string_equal(refusal(&rule), "rules[0].rate_limit.window_s: must be 1 to 86400, or 0 for 60");
    Forge__V1__OutputSchemaRule schema = FORGE__V1__OUTPUT_SCHEMA_RULE__INIT;
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, OUTPUT_SCHEMA, output_schema, &schema);
    assert_string_equal(refusal(&rule), "rules[0].output_schema.schema: is required");
    Forge__V1__LatencyLimitRule latency = FORGE__V1__LATENCY_LIMIT_RULE__INIT;
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, LATENCY_LIMIT, latency_limit, &latency);
    assert_string_equal(refusal(&rule), "rules[0].latency_limit.latency_max_ms: must be 1 or more");
    Forge__V1__AllowedModelsRule models = FORGE__V1__ALLOWED_MODELS_RULE__INIT;
    rule = (Forge__V1__PolicyRule)RULE("r", FLAG, ALLOWED_MODELS, allowed_models, &models);
    assert_string_equal(refusal(&rule), "rules[0].allowed_models.model_ids: must be 1 to 256");
}

/* Faults of several policies name theirs; a set that is too large is refused before it is compiled. */
static void test_refused_sets(void **state)
{
    enum { MANY = 100 };
    struct forge_arena arena;
    struct forge_error error = {0};
    struct policy_set *set;
    Forge__V1__PatternRule config = PATTERNS(TEXT("a"));
    char *patterns[MANY];
    Forge__V1__PolicyRule good = RULE("r", FLAG, PATTERN, pattern, &config), twice = good;
    const Forge__V1__PolicyRule *rules[] = {&good, &twice}, *many[POLICY_RULES_MAX + 1];
    const struct policy_source policies[] = {{"a", 1, ENFORCE, rules, 1}, {"b", 1, ENFORCE, rules, 2}};
    forge_arena_init(&arena, POLICY_ARENA_BYTES, NULL);
    assert_int_equal(policy_set_prepare(policies, 2, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.violations->field, "policies[1].rules[1].name");
    assert_string_equal(error.violations->description, "\"r\" is the name of rules[0] too");

    for (size_t i = 0; i < POLICY_RULES_MAX + 1; i++)
        many[i] = &good;
    for (size_t i = 0; i < MANY; i++)
        patterns[i] = TEXT("a");
    error = (struct forge_error){0};
    struct policy_source large = {"a", 1, ENFORCE, many, POLICY_RULES_MAX + 1};
    assert_int_equal(policy_set_prepare(&large, 1, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_string_equal(error.violations->field, "rules");
    assert_string_equal(error.violations->description, "must be at most 256");
    error = (struct forge_error){0};
    large.rule_count = 41;
    config.patterns = patterns;
    config.n_patterns = MANY;
    assert_int_equal(policy_set_prepare(&large, 1, &arena, &error, &set), FORGE_INVALID_ARGUMENT);
    assert_null(set);
    assert_string_equal(error.violations->field, "rules");
    assert_string_equal(error.violations->description, "hold 4100 patterns together, at most 4096 can be in force at once");
    forge_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pattern),
        cmocka_unit_test(test_pattern_of_nothing),
        cmocka_unit_test(test_pattern_limit),
        cmocka_unit_test(test_keywords),
        cmocka_unit_test(test_keywords_by_definition),
        cmocka_unit_test(test_allowed_models),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_required_tags),
        cmocka_unit_test(test_output_schema),
        cmocka_unit_test(test_decision),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_refused_in_common),
        cmocka_unit_test(test_refused_by_kind),
        cmocka_unit_test(test_refused_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
