/* EvaluationService/AddResults: one result by itself, from its checks to its score. */
#include "service/evaluation/result.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include <stdio.h>
#include <string.h>

enum { OUTPUT_BYTES_MAX = 1 << 20, ERROR_CHARACTERS_MAX = 4096, FIELD_SIZE = 64, TOKEN_KINDS = 5 };

bool result_is_rejected(const struct result *result)
{
    return result->verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED;
}

static void reject_if_noted(struct rpc_call *call, struct result *result)
{
    if (rpc_call_has_violations(call))
        reply_reject_invalid(call, result->verdict);
}

/* --- checks --- */

static void count_check(struct rpc_call *call, const char *field, int64_t count)
{
    if (count < 0)
        rpc_call_violation(call, field, "must be 0 or more");
}

static void usage_check(struct rpc_call *call, const Forge__V1__TokenUsage *usage)
{
    count_check(call, "usage.input_tokens", usage->input_tokens);
    count_check(call, "usage.cache_read_tokens", usage->cache_read_tokens);
    count_check(call, "usage.cache_write_tokens", usage->cache_write_tokens);
    count_check(call, "usage.output_tokens", usage->output_tokens);
    count_check(call, "usage.reasoning_tokens", usage->reasoning_tokens);
}

static void scores_check(struct rpc_call *call, const Forge__V1__EvaluationResult *in)
{
    if (in->n_evaluator_scores > EVALUATE_EVALUATORS_MAX) {
        rpc_call_violation(call, "evaluator_scores", "must be at most %d", EVALUATE_EVALUATORS_MAX);
        return;
    }
    if (in->n_evaluator_scores > 0 && in->error[0] != '\0')
        rpc_call_violation(call, "evaluator_scores", "must be empty: with an error nothing is judged");
    for (size_t i = 0; i < in->n_evaluator_scores; i++) {
        const Forge__V1__EvaluatorScore *score = in->evaluator_scores[i];
        char field[FIELD_SIZE];
        snprintf(field, sizeof field, "evaluator_scores[%zu].score", i);
        if (!(score->score >= 0 && score->score <= 1)) /* also not a number */
            rpc_call_violation(call, field, "must be 0 to 1");
        snprintf(field, sizeof field, "evaluator_scores[%zu].explanation", i);
        validate_text(call, field, score->explanation, EVALUATE_EXPLANATION_CHARACTERS_MAX);
    }
}

void result_check(struct rpc_call *call, struct result *result)
{
    const Forge__V1__EvaluationResult *in = result->in;
    result->repetition = in->repetition == 0 ? 1 : in->repetition;
    if (in->item_id[0] != '\0')
        validate_uuid(call, "item_id", in->item_id, &result->item_id);
    else
        validate_name(call, "item_key", in->item_key);
    count_check(call, "repetition", in->repetition);
    validate_bytes(call, "output", in->output, OUTPUT_BYTES_MAX);
    validate_text(call, "error", in->error, ERROR_CHARACTERS_MAX);
    if (in->latency_us != NULL)
        count_check(call, "latency_us", in->latency_us->value);
    if (in->usage != NULL)
        usage_check(call, in->usage);
    if (in->cost_micros != NULL)
        count_check(call, "cost_micros", in->cost_micros->value);
    validate_hex_digits(call, "trace_id", in->trace_id, EVALUATION_TRACE_ID_DIGITS);
    validate_hex_digits(call, "span_id", in->span_id, EVALUATION_SPAN_ID_DIGITS);
    scores_check(call, in);
    reject_if_noted(call, result);
}

static const Forge__V1__EvaluatorScore *given_score(const struct result *result, const char *evaluator)
{
    for (size_t i = 0; i < result->in->n_evaluator_scores; i++)
        if (strcmp(result->in->evaluator_scores[i]->evaluator, evaluator) == 0)
            return result->in->evaluator_scores[i];
    return NULL;
}

static bool is_external(const struct result_rules *rules, const char *evaluator)
{
    for (size_t i = 0; i < evaluate_count(rules->set); i++)
        if (strcmp(evaluate_name(rules->set, i), evaluator) == 0)
            return evaluate_is_external(rules->set, i);
    return false;
}

static void external_check(struct rpc_call *call, const struct result_rules *rules, const struct result *result)
{
    const Forge__V1__EvaluationResult *in = result->in;
    for (size_t i = 0; i < in->n_evaluator_scores; i++) {
        const char *name = in->evaluator_scores[i]->evaluator;
        char field[FIELD_SIZE];
        snprintf(field, sizeof field, "evaluator_scores[%zu].evaluator", i);
        if (!is_external(rules, name))
            rpc_call_violation(call, field, "is no external evaluator of this evaluation");
        else if (given_score(result, name) != in->evaluator_scores[i])
            rpc_call_violation(call, field, "is given twice");
    }
    for (size_t i = 0; i < evaluate_count(rules->set); i++)
        if (evaluate_is_external(rules->set, i) && given_score(result, evaluate_name(rules->set, i)) == NULL)
            rpc_call_violation(call, "evaluator_scores", "the score of \"%s\" is required", evaluate_name(rules->set, i));
}

void result_check_rules(struct rpc_call *call, const struct result_rules *rules, struct result *result)
{
    const Forge__V1__EvaluationResult *in = result->in;
    if (result->item == NULL) {
        reply_reject(
            result->verdict, FORGE_NOT_FOUND,
            forge_arena_printf(call->arena, "the dataset version has no item %s", in->item_id[0] != '\0' ? in->item_id : in->item_key));
        return;
    }
    if (in->item_id[0] != '\0' && in->item_key[0] != '\0' && strcmp(in->item_key, result->item->key) != 0)
        rpc_call_violation(call, "item_key", "is not the key of item_id");
    if (result->repetition > rules->repetitions)
        rpc_call_violation(call, "repetition", "must be at most %d", rules->repetitions);
    if (in->error[0] == '\0')
        external_check(call, rules, result);
    reject_if_noted(call, result);
}

/* --- identity --- */

static void hash_text(struct forge_sha256_state *state, const char *text)
{
    forge_sha256_piece(state, text, strlen(text));
}

/* One that is not given is not 0. */
static void hash_number(struct forge_sha256_state *state, bool is_given, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    hash_text(state, is_given ? text : "");
}

static void hash_usage(struct forge_sha256_state *state, const Forge__V1__TokenUsage *usage)
{
    const Forge__V1__TokenUsage none = FORGE__V1__TOKEN_USAGE__INIT, *u = usage != NULL ? usage : &none;
    const int64_t counts[TOKEN_KINDS] = {u->input_tokens, u->cache_read_tokens, u->cache_write_tokens, u->output_tokens,
                                         u->reasoning_tokens};
    for (int i = 0; i < TOKEN_KINDS; i++)
        hash_number(state, usage != NULL, counts[i]);
}

void result_hash(struct rpc_call *call, const struct result_rules *rules, struct result *result)
{
    const Forge__V1__EvaluationResult *in = result->in;
    struct forge_sha256_state *state = forge_sha256_new();
    hash_text(state, in->output);
    hash_text(state, in->error);
    hash_number(state, in->latency_us != NULL, in->latency_us != NULL ? in->latency_us->value : 0);
    hash_usage(state, in->usage);
    hash_number(state, in->cost_micros != NULL, in->cost_micros != NULL ? in->cost_micros->value : 0);
    hash_text(state, evaluation_lower_case(call, in->trace_id));
    hash_text(state, evaluation_lower_case(call, in->span_id));
    for (size_t i = 0; i < evaluate_count(rules->set); i++) {
        const Forge__V1__EvaluatorScore *given = given_score(result, evaluate_name(rules->set, i));
        char score[32];
        if (given == NULL)
            continue;
        snprintf(score, sizeof score, "%.17g", given->score + 0.0); /* -0 is 0 */
        hash_text(state, given->evaluator);
        hash_text(state, score);
        hash_text(state, given->explanation);
    }
    forge_sha256_final(state, result->hash);
}

/* --- judging --- */

static void cost_set(const struct result_rules *rules, struct result *result)
{
    const Forge__V1__EvaluationResult *in = result->in;
    result->is_cost_computed = in->cost_micros == NULL && in->usage != NULL && !forge_uuid_is_nil(&rules->price.id);
    result->has_cost = in->cost_micros != NULL || result->is_cost_computed;
    if (in->cost_micros != NULL)
        result->cost_micros = in->cost_micros->value;
    else if (result->is_cost_computed)
        result->cost_micros = cost_of_usage(&rules->price, in->usage);
}

static forge_code judge_one(struct rpc_call *call, const struct result_rules *rules, const struct result *result, size_t index,
                            struct evaluate_score *out)
{
    const Forge__V1__EvaluationResult *in = result->in;
    if (evaluate_is_external(rules->set, index)) {
        const Forge__V1__EvaluatorScore *given = given_score(result, evaluate_name(rules->set, index));
        *out = (struct evaluate_score){
            .score = given->score, .passed = evaluate_external_passes(rules->set, index, given->score), .explanation = given->explanation};
        return FORGE_OK;
    }
    const struct evaluate_subject subject = {.output = in->output,
                                             .expected = result->item->expected,
                                             .has_latency = in->latency_us != NULL,
                                             .latency_us = in->latency_us != NULL ? in->latency_us->value : 0,
                                             .has_cost = result->has_cost,
                                             .cost_micros = result->cost_micros};
    return evaluate_output(rules->set, index, &subject, call->arena, out);
}

/* As they are stored: with every member, since SQL computes with them. */
static const char *scores_write(struct rpc_call *call, const struct result_rules *rules, const struct evaluate_score *scores, size_t count)
{
    const struct forge_json_options options = {.with_defaults = true};
    Forge__V1__EvaluationResult list = FORGE__V1__EVALUATION_RESULT__INIT;
    Forge__V1__EvaluatorScore entries[EVALUATE_EVALUATORS_MAX], *pointers[EVALUATE_EVALUATORS_MAX];
    for (size_t i = 0; i < count; i++) {
        forge__v1__evaluator_score__init(&entries[i]);
        entries[i].evaluator = (char *)(uintptr_t)evaluate_name(rules->set, i); /* only read */
        entries[i].score = scores[i].score;
        entries[i].passed = scores[i].passed;
        entries[i].explanation = (char *)(uintptr_t)scores[i].explanation;
        pointers[i] = &entries[i];
    }
    list.n_evaluator_scores = count;
    list.evaluator_scores = pointers;
    return forge_json_from_message(&list.base, &options, call->arena);
}

static void reject_work(struct rpc_call *call, struct result *result)
{
    reply_reject(result->verdict, FORGE_RESOURCE_EXHAUSTED,
                 forge_arena_strdup(call->arena, "judging this result takes too much work: shorten the output, or use fewer evaluators"));
}

forge_code result_judge(struct rpc_call *call, const struct result_rules *rules, struct result *result, uint64_t *work)
{
    struct evaluate_score scores[EVALUATE_EVALUATORS_MAX];
    size_t count = result->in->error[0] == '\0' ? evaluate_count(rules->set) : 0;
    uint64_t spent = 0;
    cost_set(rules, result);
    for (size_t i = 0; i < count && spent <= RESULT_WORK_MAX; i++) {
        forge_code rc = judge_one(call, rules, result, i, &scores[i]);
        if (rc != FORGE_OK)
            return rpc_call_fail(call, rc, "judging the results needs too much memory");
        spent += scores[i].work;
    }
    *work += spent;
    if (spent > RESULT_WORK_MAX) {
        reject_work(call, result);
        return FORGE_OK;
    }
    if (count > 0) {
        struct evaluate_total total = evaluate_total(rules->set, scores, rules->pass_threshold);
        result->score = total.score;
        result->passed = total.passed;
    }
    result->scores_json = scores_write(call, rules, scores, count);
    if (result->scores_json == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the results need too much memory");
    return FORGE_OK;
}
