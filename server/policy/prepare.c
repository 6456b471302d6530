/* Checks and prepares the rules of policies. */
#include "policy/policy_private.h"

#include "evaluate/json_schema.h"
#include "evaluate/pattern.h"
#include "evaluate/text.h"
#include "wire/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROMPT = 1U << STAGE_PROMPT,
    INPUT = 1U << STAGE_INPUT,
    OUTPUT = 1U << STAGE_OUTPUT,
    PII_KINDS = FORGE__V1__PII_KIND__PII_KIND_IP_ADDRESS,
    ENTROPY_BITS_DEFAULT = 4
};

/* One rule on its way in. */
struct preparation {
    struct policy_set *set;
    struct forge_arena *arena;
    struct forge_error *error;
    size_t policy, index, policies;
    struct policy_rule *rule;
    bool is_wrong, no_memory;
};

/* field: within the rule. */
__attribute__((format(printf, 3, 4))) static void refuse(struct preparation *preparation, const char *field, const char *format, ...)
{
    char path[128], policy[32] = "", said[512];
    va_list arguments;
    va_start(arguments, format);
    forge_utf8_vprint(said, sizeof said, format, arguments);
    va_end(arguments);
    if (preparation->policies > 1)
        snprintf(policy, sizeof policy, "policies[%zu].", preparation->policy);
    snprintf(path, sizeof path, "%srules[%zu]%s%s", policy, preparation->index, field[0] != '\0' ? "." : "", field);
    forge_error_add_violation(preparation->error, preparation->arena, path, "%s", said);
    preparation->is_wrong = true;
}

/* What a compiler that gave nothing has said; "" stands for no memory. */
static void refuse_or_no_memory(struct preparation *preparation, const char *field, const char *said)
{
    if (said[0] == '\0')
        preparation->no_memory = true;
    else
        refuse(preparation, field, "%s", said);
}

/* Nothing more is compiled then. */
static bool is_too_large(const struct policy_set *set)
{
    return set->compiled_bytes > POLICY_SET_COMPILED_BYTES_MAX;
}

static void count_compiled(struct preparation *preparation, const char *field, size_t bytes)
{
    preparation->set->compiled_bytes += bytes;
    if (is_too_large(preparation->set))
        refuse(preparation, field, "the patterns up to this one take more than %d bytes compiled", POLICY_SET_COMPILED_BYTES_MAX);
}

static char *copy(struct preparation *preparation, const char *text)
{
    char *copied = strdup(text);
    preparation->no_memory |= copied == NULL;
    return copied;
}

/* --- kinds --- */

static void prepare_pattern(struct preparation *preparation, const Forge__V1__PatternRule *message)
{
    struct policy_set *set = preparation->set;
    preparation->rule->first_pattern = set->pattern_count;
    if (message->n_patterns < 1 || message->n_patterns > POLICY_RULE_PATTERNS_MAX) {
        refuse(preparation, "pattern.patterns", "must be 1 to %d", POLICY_RULE_PATTERNS_MAX);
        return;
    }
    for (size_t i = 0; i < message->n_patterns && !preparation->no_memory && !is_too_large(set); i++) {
        char field[48], said[256];
        size_t size = strlen(message->patterns[i]);
        snprintf(field, sizeof field, "pattern.patterns[%zu]", i);
        if (size < 1 || size > EVALUATE_PATTERN_BYTES_MAX) {
            refuse(preparation, field, "must be 1 to %d bytes", EVALUATE_PATTERN_BYTES_MAX);
            continue;
        }
        struct policy_pattern *pattern = &set->patterns[set->pattern_count];
        unsigned options = message->ignore_case ? EVALUATE_PATTERN_IGNORE_CASE : 0;
        pattern->compiled = evaluate_pattern_compile(message->patterns[i], options, said, sizeof said);
        if (pattern->compiled == NULL) {
            refuse_or_no_memory(preparation, field, said);
            continue;
        }
        pattern->text = copy(preparation, message->patterns[i]);
        pattern->ignore_case = message->ignore_case;
        set->pattern_count++;
        preparation->rule->pattern_count++;
        count_compiled(preparation, field, evaluate_pattern_bytes(pattern->compiled));
    }
}

static void prepare_keyword(struct preparation *preparation, const Forge__V1__KeywordRule *message)
{
    struct policy_set *set = preparation->set;
    preparation->rule->keyword_list = set->keyword_list_count++;
    if (message->n_keywords < 1 || message->n_keywords > POLICY_RULE_KEYWORDS_MAX) {
        refuse(preparation, "keyword.keywords", "must be 1 to %d", POLICY_RULE_KEYWORDS_MAX);
        return;
    }
    for (size_t i = 0; i < message->n_keywords && !preparation->no_memory; i++) {
        char field[48];
        const char *text = message->keywords[i];
        size_t characters = evaluate_characters(text, strlen(text));
        snprintf(field, sizeof field, "keyword.keywords[%zu]", i);
        if (characters < 1 || characters > POLICY_KEYWORD_CHARACTERS_MAX) {
            refuse(preparation, field, "must be 1 to %d characters", POLICY_KEYWORD_CHARACTERS_MAX);
            continue;
        }
        set->keyword_texts[set->keyword_count++] = (struct policy_keyword){.text = copy(preparation, text),
                                                                           .size = strlen(text),
                                                                           .list = preparation->rule->keyword_list,
                                                                           .match_case = message->match_case,
                                                                           .inside_words = message->inside_words};
    }
}

static void prepare_pii(struct preparation *preparation, const Forge__V1__PiiRule *message)
{
    for (size_t i = 0; i < message->n_kinds; i++) {
        char field[32];
        int kind = (int)message->kinds[i];
        snprintf(field, sizeof field, "pii.kinds[%zu]", i);
        if (kind < 1 || kind > PII_KINDS)
            refuse(preparation, field, "must be a kind of personal data");
        else if (preparation->rule->pii_kinds & 1U << kind)
            refuse(preparation, field, "is there twice");
        else
            preparation->rule->pii_kinds |= 1U << kind;
    }
    if (message->n_kinds == 0)
        preparation->rule->pii_kinds = ~0U;
}

static void prepare_secret(struct preparation *preparation, const Forge__V1__SecretRule *message)
{
    double bits = message->entropy_bits_min == 0 ? ENTROPY_BITS_DEFAULT : message->entropy_bits_min;
    if (!(bits >= 2 && bits <= 6)) /* written so that NaN is refused */
        refuse(preparation, "secret.entropy_bits_min", "must be 2.0 to 6.0, or 0 for 4.0");
    preparation->rule->entropy_bits_min = message->formats_only ? INFINITY : bits;
}

static void prepare_names(struct preparation *preparation, const char *field, char *const *names, size_t count, int most)
{
    struct policy_rule *rule = preparation->rule;
    if (count < 1 || count > (size_t)most) {
        refuse(preparation, field, "must be 1 to %d", most);
        return;
    }
    rule->names = calloc(count, sizeof rule->names[0]);
    preparation->no_memory |= rule->names == NULL;
    for (size_t i = 0; i < count && !preparation->no_memory; i++) {
        if (names[i][0] == '\0') {
            char path[64];
            snprintf(path, sizeof path, "%s[%zu]", field, i);
            refuse(preparation, path, "must not be empty");
        }
        rule->names[rule->name_count++] = copy(preparation, names[i]);
    }
}

/* first is what a limit may at least be. */
static int64_t take_limit(struct preparation *preparation, const char *field, int64_t limit, int64_t first)
{
    if (limit < first)
        refuse(preparation, field, "must be %lld or more", (long long)first);
    return limit;
}

static void prepare_token_limit(struct preparation *preparation, const Forge__V1__TokenLimitRule *message)
{
    int64_t *limits = preparation->rule->limits;
    limits[0] = take_limit(preparation, "token_limit.input_tokens_max", message->input_tokens_max, 0);
    limits[1] = take_limit(preparation, "token_limit.output_tokens_max", message->output_tokens_max, 0);
    limits[2] = take_limit(preparation, "token_limit.total_tokens_max", message->total_tokens_max, 0);
    if (limits[0] == 0 && limits[1] == 0 && limits[2] == 0)
        refuse(preparation, "token_limit", "needs a limit");
}

/* Only its form: counting calls needs the database. */
static void check_rate_limit(struct preparation *preparation, const Forge__V1__RateLimitRule *message)
{
    if ((int)message->key < 0 || (int)message->key > FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_MODEL)
        refuse(preparation, "rate_limit.key", "must be one of the keys");
    if (message->window_s < 0 || message->window_s > POLICY_RATE_WINDOW_S_MAX)
        refuse(preparation, "rate_limit.window_s", "must be 1 to %d, or 0 for 60", POLICY_RATE_WINDOW_S_MAX);
    int64_t calls = take_limit(preparation, "rate_limit.calls_max", message->calls_max, 0);
    int64_t tokens = take_limit(preparation, "rate_limit.tokens_max", message->tokens_max, 0);
    if (calls == 0 && tokens == 0)
        refuse(preparation, "rate_limit", "needs calls_max or tokens_max");
}

static void prepare_schema(struct preparation *preparation, const Forge__V1__OutputSchemaRule *message)
{
    char said[480];
    if (is_too_large(preparation->set))
        return;
    preparation->rule->schema = json_schema_prepare(message->schema, strlen(message->schema), said, sizeof said);
    if (preparation->rule->schema == NULL)
        refuse_or_no_memory(preparation, "output_schema.schema", said);
    else
        count_compiled(preparation, "output_schema.schema", json_schema_compiled_bytes(preparation->rule->schema));
}

/* The stages that suit the kind. */
static unsigned prepare_kind(struct preparation *preparation, const Forge__V1__PolicyRule *message)
{
    switch (message->kind_case) {
    case FORGE__V1__POLICY_RULE__KIND_PATTERN:
        prepare_pattern(preparation, message->pattern);
        return PROMPT | INPUT | OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_KEYWORD:
        prepare_keyword(preparation, message->keyword);
        return PROMPT | INPUT | OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_PII:
        prepare_pii(preparation, message->pii);
        return PROMPT | INPUT | OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_SECRET:
        prepare_secret(preparation, message->secret);
        return PROMPT | INPUT | OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_ALLOWED_MODELS:
        prepare_names(preparation, "allowed_models.model_ids", message->allowed_models->model_ids, message->allowed_models->n_model_ids,
                      POLICY_RULE_MODELS_MAX);
        return PROMPT | INPUT;
    case FORGE__V1__POLICY_RULE__KIND_TOKEN_LIMIT:
        prepare_token_limit(preparation, message->token_limit);
        return INPUT | OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_COST_LIMIT:
        preparation->rule->limits[0] = take_limit(preparation, "cost_limit.cost_max_micros", message->cost_limit->cost_max_micros, 0);
        return OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_LATENCY_LIMIT:
        preparation->rule->limits[0] = take_limit(preparation, "latency_limit.latency_max_ms", message->latency_limit->latency_max_ms, 1);
        return OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND_RATE_LIMIT:
        check_rate_limit(preparation, message->rate_limit);
        return INPUT;
    case FORGE__V1__POLICY_RULE__KIND_REQUIRED_TAGS:
        prepare_names(preparation, "required_tags.tags", message->required_tags->tags, message->required_tags->n_tags,
                      POLICY_RULE_TAGS_MAX);
        return PROMPT;
    case FORGE__V1__POLICY_RULE__KIND_OUTPUT_SCHEMA:
        prepare_schema(preparation, message->output_schema);
        return OUTPUT;
    case FORGE__V1__POLICY_RULE__KIND__NOT_SET:
    case _FORGE__V1__POLICY_RULE__KIND__CASE_IS_INT_SIZE:
    default:
        refuse(preparation, "", "needs a kind, such as pattern");
        return PROMPT | INPUT | OUTPUT;
    }
}

/* --- what all have --- */

static void prepare_name(struct preparation *preparation, const Forge__V1__PolicyRule *message, const Forge__V1__PolicyRule *const *rules)
{
    size_t length = strlen(message->name);
    if (length < 1 || length > POLICY_NAME_BYTES_MAX || strspn(message->name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != length) {
        refuse(preparation, "name", "must be 1 to %d of a-z, 0-9, _, . and -", POLICY_NAME_BYTES_MAX);
        return;
    }
    memcpy(preparation->rule->name, message->name, length + 1);
    for (size_t i = 0; i < preparation->index; i++)
        if (strcmp(rules[i]->name, message->name) == 0) {
            refuse(preparation, "name", "\"%s\" is the name of rules[%zu] too", message->name, i);
            return;
        }
}

static bool masks_texts(Forge__V1__PolicyRule__KindCase kind)
{
    return kind == FORGE__V1__POLICY_RULE__KIND_PATTERN || kind == FORGE__V1__POLICY_RULE__KIND_KEYWORD ||
           kind == FORGE__V1__POLICY_RULE__KIND_PII || kind == FORGE__V1__POLICY_RULE__KIND_SECRET;
}

static void prepare_action(struct preparation *preparation, const Forge__V1__PolicyRule *message)
{
    struct policy_rule *rule = preparation->rule;
    rule->action = message->action;
    rule->severity =
        message->severity == FORGE__V1__SEVERITY__SEVERITY_UNSPECIFIED ? FORGE__V1__SEVERITY__SEVERITY_MEDIUM : message->severity;
    if ((int)message->action < FORGE__V1__POLICY_ACTION__POLICY_ACTION_FLAG ||
        (int)message->action > FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK)
        refuse(preparation, "action", "must be flag, mask or block");
    else if (message->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK && !masks_texts(message->kind_case))
        refuse(preparation, "action", "mask is for pattern, keyword, pii and secret rules only");
    if ((int)rule->severity < FORGE__V1__SEVERITY__SEVERITY_LOW || (int)rule->severity > FORGE__V1__SEVERITY__SEVERITY_CRITICAL)
        refuse(preparation, "severity", "must be low, medium, high or critical");
    if (evaluate_characters(message->description, strlen(message->description)) > POLICY_DESCRIPTION_CHARACTERS_MAX)
        refuse(preparation, "description", "must be at most %d characters", POLICY_DESCRIPTION_CHARACTERS_MAX);
    rule->description = copy(preparation, message->description);
}

static void prepare_stages(struct preparation *preparation, const Forge__V1__PolicyRule *message, unsigned suitable)
{
    struct policy_rule *rule = preparation->rule;
    for (size_t i = 0; i < message->n_stages; i++) {
        char field[32];
        int stage = (int)message->stages[i];
        snprintf(field, sizeof field, "stages[%zu]", i);
        if (stage < STAGE_PROMPT || stage > STAGE_OUTPUT || !(suitable & 1U << stage))
            refuse(preparation, field, "does not suit the kind of rule");
        else if (rule->stages & 1U << stage)
            refuse(preparation, field, "is there twice");
        else
            rule->stages |= 1U << stage;
    }
    if (message->n_stages == 0)
        rule->stages = suitable;
}

/* --- sets --- */

static void count_rule(struct policy_set *set, const Forge__V1__PolicyRule *message)
{
    if (message->kind_case == FORGE__V1__POLICY_RULE__KIND_PATTERN) {
        set->pattern_count += message->pattern->n_patterns;
        for (size_t i = 0; i < message->pattern->n_patterns; i++)
            set->pattern_bytes += strlen(message->pattern->patterns[i]);
    } else if (message->kind_case == FORGE__V1__POLICY_RULE__KIND_KEYWORD) {
        set->keyword_count += message->keyword->n_keywords;
        for (size_t i = 0; i < message->keyword->n_keywords; i++)
            set->keyword_bytes += strlen(message->keyword->keywords[i]);
    } else if (message->kind_case == FORGE__V1__POLICY_RULE__KIND_OUTPUT_SCHEMA) {
        set->schema_bytes += strlen(message->output_schema->schema);
    }
}

static void refuse_size(struct preparation *preparation, size_t size, size_t most, const char *what)
{
    if (size <= most)
        return;
    forge_error_add_violation(preparation->error, preparation->arena, preparation->policies > 1 ? "policies" : "rules",
                              "hold %zu %s together, at most %zu can be in force at once", size, what, most);
    preparation->is_wrong = true;
}

/* Before anything is compiled. Leaves the counts at 0, for what is prepared. */
static void check_sizes(struct preparation *preparation, const struct policy_source *policies)
{
    struct policy_set *set = preparation->set;
    for (size_t i = 0; i < preparation->policies; i++) {
        preparation->policy = i;
        if (policies[i].rule_count > POLICY_RULES_MAX) {
            forge_error_add_violation(preparation->error, preparation->arena, "rules", "must be at most %d", POLICY_RULES_MAX);
            preparation->is_wrong = true;
        }
        set->rule_count += policies[i].rule_count;
        for (size_t j = 0; j < policies[i].rule_count; j++)
            count_rule(set, policies[i].rules[j]);
    }
    refuse_size(preparation, set->pattern_count, POLICY_SET_PATTERNS_MAX, "patterns");
    refuse_size(preparation, set->pattern_bytes, POLICY_SET_PATTERN_BYTES_MAX, "bytes of patterns");
    refuse_size(preparation, set->keyword_bytes, POLICY_SET_KEYWORD_BYTES_MAX, "bytes of keywords");
    refuse_size(preparation, set->schema_bytes, POLICY_SET_SCHEMA_BYTES_MAX, "bytes of schemas");
    if (preparation->is_wrong) {
        set->rule_count = set->pattern_count = set->keyword_count = 0;
        return;
    }
    set->policies = calloc(preparation->policies + 1, sizeof set->policies[0]);
    set->rules = calloc(set->rule_count + 1, sizeof set->rules[0]);
    set->patterns = calloc(set->pattern_count + 1, sizeof set->patterns[0]);
    set->keyword_texts = calloc(set->keyword_count + 1, sizeof set->keyword_texts[0]);
    preparation->no_memory = set->policies == NULL || set->rules == NULL || set->patterns == NULL || set->keyword_texts == NULL;
    set->rule_count = set->pattern_count = set->keyword_count = 0;
}

static void prepare_policy(struct preparation *preparation, const struct policy_source *policy)
{
    struct policy_set *set = preparation->set;
    struct policy_info *info = &set->policies[set->policy_count++];
    *info = (struct policy_info){.id = copy(preparation, policy->id), .version = policy->version, .mode = policy->mode};
    if (policy->mode == FORGE__V1__POLICY_MODE__POLICY_MODE_UNSPECIFIED)
        info->mode = FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE;
    for (size_t i = 0; i < policy->rule_count && !preparation->no_memory; i++) {
        preparation->index = i;
        preparation->rule = &set->rules[set->rule_count++];
        preparation->rule->policy = preparation->policy;
        preparation->rule->kind = policy->rules[i]->kind_case;
        prepare_name(preparation, policy->rules[i], policy->rules);
        prepare_action(preparation, policy->rules[i]);
        prepare_stages(preparation, policy->rules[i], prepare_kind(preparation, policy->rules[i]));
    }
}

static int compare_rules(const void *left, const void *right, void *policies)
{
    const struct policy_rule *a = left, *b = right;
    const struct policy_info *infos = policies;
    int order = strcmp(infos[a->policy].id, infos[b->policy].id);
    return order != 0 ? order : strcmp(a->name, b->name);
}

forge_code policy_set_prepare(const struct policy_source *policies, size_t count, struct forge_arena *arena, struct forge_error *error,
                              struct policy_set **out)
{
    *out = NULL;
    struct policy_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return FORGE_RESOURCE_EXHAUSTED;
    struct preparation preparation = {.set = set, .arena = arena, .error = error, .policies = count};
    check_sizes(&preparation, policies);
    for (size_t i = 0; i < count && set->policies != NULL && !preparation.no_memory; i++) {
        preparation.policy = i;
        prepare_policy(&preparation, &policies[i]);
    }
    if (!preparation.is_wrong && !preparation.no_memory) {
        qsort_r(set->rules, set->rule_count, sizeof set->rules[0], compare_rules, set->policies);
        set->keywords = policy_keywords_build(set->keyword_texts, set->keyword_count);
        preparation.no_memory = set->keywords == NULL;
    }
    if (!preparation.is_wrong && !preparation.no_memory) {
        *out = set;
        return FORGE_OK;
    }
    policy_set_free(set);
    return preparation.no_memory ? FORGE_RESOURCE_EXHAUSTED : FORGE_INVALID_ARGUMENT;
}

size_t policy_set_compiled_bytes(const struct policy_set *set)
{
    return set->compiled_bytes;
}

static void rule_done(struct policy_rule *rule)
{
    for (size_t i = 0; i < rule->name_count; i++)
        free(rule->names[i]);
    free(rule->names);
    free(rule->description);
    json_schema_free(rule->schema);
}

void policy_set_free(struct policy_set *set)
{
    if (set == NULL)
        return;
    policy_accelerator_free(atomic_load_explicit(&set->accelerator, memory_order_acquire));
    for (size_t i = 0; i < set->rule_count; i++)
        rule_done(&set->rules[i]);
    for (size_t i = 0; i < set->pattern_count; i++) {
        evaluate_pattern_free(set->patterns[i].compiled);
        free(set->patterns[i].text);
    }
    for (size_t i = 0; i < set->keyword_count; i++)
        free((char *)(uintptr_t)set->keyword_texts[i].text);
    for (size_t i = 0; i < set->policy_count; i++)
        free(set->policies[i].id);
    policy_keywords_free(set->keywords);
    free(set->rules);
    free(set->patterns);
    free(set->keyword_texts);
    free(set->policies);
    free(set);
}
