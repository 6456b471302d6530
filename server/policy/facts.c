/* Rules about models, tokens, money, time and tags. A finding is of the side of the call that brings the fact: the model belongs to the
 * prompt or the input, cost and latency are known with the output. */
#include "policy/policy_private.h"

#include <string.h>

static bool is_one_of(const struct policy_rule *rule, const char *name)
{
    for (size_t i = 0; i < rule->name_count; i++)
        if (strcmp(rule->names[i], name) == 0)
            return true;
    return false;
}

static void check_model(struct policy_check *check, const struct policy_rule *rule)
{
    const struct policy_subject *subject = check->subject;
    int stage = (int)subject->model_stage;
    if (stage != FORGE__V1__POLICY_STAGE__POLICY_STAGE_UNSPECIFIED && !is_one_of(rule, subject->model_id != NULL ? subject->model_id : ""))
        policy_check_add(check, rule, stage, "The model is not one of those that are allowed.", NULL, 0);
}

static int64_t sum(int64_t a, int64_t b)
{
    int64_t total;
    return __builtin_add_overflow(a, b, &total) ? INT64_MAX : total;
}

static bool exceeds(int64_t value, int64_t most)
{
    return most > 0 && value > most;
}

static void check_tokens(struct policy_check *check, const struct policy_rule *rule)
{
    const Forge__V1__TokenUsage *usage = check->subject->usage;
    if (usage == NULL)
        return;
    int64_t input = sum(sum(usage->input_tokens, usage->cache_read_tokens), usage->cache_write_tokens);
    int64_t output = sum(usage->output_tokens, usage->reasoning_tokens);
    bool sees_output = rule->stages & 1U << STAGE_OUTPUT;
    bool total = exceeds(sum(input, output), rule->limits[2]);
    if (exceeds(input, rule->limits[0]) || (total && !sees_output))
        policy_check_add(check, rule, STAGE_INPUT, "The call has more tokens than are allowed.", NULL, 0);
    if (exceeds(output, rule->limits[1]) || (total && sees_output))
        policy_check_add(check, rule, STAGE_OUTPUT, "The call has more tokens than are allowed.", NULL, 0);
}

static void check_tags(struct policy_check *check, const struct policy_rule *rule)
{
    const struct policy_subject *subject = check->subject;
    for (size_t i = 0; subject->has_tags && i < rule->name_count; i++) {
        bool has = false;
        for (size_t j = 0; j < subject->tag_count && !has; j++)
            has = strcmp(subject->tags[j], rule->names[i]) == 0;
        if (!has) {
            policy_check_add(check, rule, STAGE_PROMPT, "The prompt lacks a tag that is required.", NULL, 0);
            return;
        }
    }
}

void policy_check_facts(struct policy_check *check, const struct policy_rule *rule)
{
    const struct policy_subject *subject = check->subject;
    if (rule->kind == FORGE__V1__POLICY_RULE__KIND_ALLOWED_MODELS)
        check_model(check, rule);
    else if (rule->kind == FORGE__V1__POLICY_RULE__KIND_TOKEN_LIMIT)
        check_tokens(check, rule);
    else if (rule->kind == FORGE__V1__POLICY_RULE__KIND_REQUIRED_TAGS)
        check_tags(check, rule);
    else if (rule->kind == FORGE__V1__POLICY_RULE__KIND_COST_LIMIT && subject->has_cost && subject->cost_micros > rule->limits[0])
        policy_check_add(check, rule, STAGE_OUTPUT, "The call costs more than is allowed.", NULL, 0);
    else if (rule->kind == FORGE__V1__POLICY_RULE__KIND_LATENCY_LIMIT && subject->has_latency && subject->latency_ms > rule->limits[0])
        policy_check_add(check, rule, STAGE_OUTPUT, "The call took longer than is allowed.", NULL, 0);
}
