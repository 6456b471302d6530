/* PolicyService/CheckPolicies: runs without a database connection unless a fact that a rule asks for stands there only. */
#include "rpc/usage.h"
#include "service/cost.h"
#include "service/policy/book.h"
#include "service/policy/count.h"
#include "service/policy/engine.h"
#include "service/policy/in_force.h"
#include "service/policy/rate.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/crypto.h"

#include "rpc_table.h"

#include <string.h>

enum { TEXT_BYTES_MAX = 1024 * 1024, LABEL_CHARACTERS_MAX = 64, SUBJECT_BYTES_MAX = 255 };
/* Messages of protobuf-c have char * members, which nobody writes through. */
#define TEXT(text) ((char *)(uintptr_t)(text))

/* A request on its way: what it says, checked, and what was found out. */
struct checking {
    const Forge__V1__CheckPoliciesRequest *in;
    struct forge_uuid project_id, model_id, prompt_id;
    bool has_model, has_prompt; /* they are named */
    const char *model_id_text;  /* NULL: none that we know */
    struct policy_text texts[2];
    size_t text_count, input, output; /* their places among the texts; text_count where they are empty */
    struct policy_subject subject;
    struct policy_review review;
    struct policy_decision decision;
    int64_t retry_after_ms;
};

/* --- the request ----------------------------------------------------------------------------------------------------- */

static void tokens_check(struct rpc_call *call, const char *field, int64_t tokens)
{
    if (tokens < 0)
        rpc_call_violation(call, field, "must not be negative");
}

static void numbers_check(struct rpc_call *call, const Forge__V1__CheckPoliciesRequest *in)
{
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must not be negative");
    if (in->usage != NULL) {
        tokens_check(call, "usage.input_tokens", in->usage->input_tokens);
        tokens_check(call, "usage.cache_read_tokens", in->usage->cache_read_tokens);
        tokens_check(call, "usage.cache_write_tokens", in->usage->cache_write_tokens);
        tokens_check(call, "usage.output_tokens", in->usage->output_tokens);
        tokens_check(call, "usage.reasoning_tokens", in->usage->reasoning_tokens);
    }
    if (in->cost_micros < 0)
        rpc_call_violation(call, "cost_micros", "must not be negative");
    if (in->latency_ms < 0)
        rpc_call_violation(call, "latency_ms", "must not be negative");
}

static size_t text_add(struct checking *checking, Forge__V1__PolicyStage stage, const char *text)
{
    checking->texts[checking->text_count] = (struct policy_text){.stage = stage, .bytes = text, .size = strlen(text)};
    return checking->text_count++;
}

static forge_code request_check(struct rpc_call *call, const Forge__V1__CheckPoliciesRequest *in, struct checking *out)
{
    *out =
        (struct checking){.in = in, .has_model = in->model_id[0] != '\0' || in->model[0] != '\0', .has_prompt = in->prompt_id[0] != '\0'};
    validate_uuid(call, "project_id", in->project_id, &out->project_id);
    if (in->model_id[0] != '\0')
        validate_uuid(call, "model_id", in->model_id, &out->model_id);
    validate_name_or_empty(call, "model", in->model);
    validate_text(call, "label", in->label, LABEL_CHARACTERS_MAX);
    if (out->has_prompt)
        validate_uuid(call, "prompt_id", in->prompt_id, &out->prompt_id);
    validate_bytes(call, "subject", in->subject, SUBJECT_BYTES_MAX);
    numbers_check(call, in);
    forge_code code = validate_end_in_project(call, &out->project_id);
    if (code != FORGE_OK)
        return code;
    size_t input_size = strlen(in->input), output_size = strlen(in->output);
    if (input_size + output_size > TEXT_BYTES_MAX)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "input and output have %zu bytes together, at most %d",
                             input_size + output_size, TEXT_BYTES_MAX);
    out->input = out->output = 2;
    if (input_size > 0)
        out->input = text_add(out, FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT, in->input);
    if (output_size > 0)
        out->output = text_add(out, FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, in->output);
    return FORGE_OK;
}

/* --- facts ----------------------------------------------------------------------------------------------------------- */

static void facts_given(struct rpc_call *call, struct checking *checking)
{
    const Forge__V1__CheckPoliciesRequest *in = checking->in;
    struct policy_subject *subject = &checking->subject;
    *subject = (struct policy_subject){.texts = checking->texts,
                                       .text_count = checking->text_count,
                                       .usage = in->usage,
                                       .has_cost = in->cost_micros > 0,
                                       .cost_micros = in->cost_micros,
                                       .has_latency = in->latency_ms > 0,
                                       .latency_ms = in->latency_ms};
    if (checking->has_model)
        subject->model_stage = FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT;
    if (in->model_id[0] != '\0')
        checking->model_id_text = reply_uuid(call, &checking->model_id);
}

static void facts_from_row(struct rpc_call *call, const struct db_row *row, struct checking *checking)
{
    struct policy_subject *subject = &checking->subject;
    struct cost_price price;
    if (!db_row_is_null(row, "model_id")) {
        db_row_uuid(row, "model_id", &checking->model_id);
        checking->model_id_text = reply_uuid(call, &checking->model_id);
    }
    if (!subject->has_cost && subject->usage != NULL && !db_row_is_null(row, "price_id")) {
        cost_price_from_row(row, &price);
        subject->has_cost = true;
        subject->cost_micros = cost_of_usage(&price, subject->usage);
    }
    if (checking->has_prompt) {
        subject->has_tags = true; /* a prompt that is not there has none */
        subject->tags = (const char *const *)db_row_text_array(row, "tags", &subject->tag_count);
    }
}

static forge_code facts_read(struct rpc_call *call, struct checking *checking, uint64_t project_changes)
{
    const Forge__V1__CheckPoliciesRequest *in = checking->in;
    struct db_row row;
    forge_code code = rpc_call_connect(call);
    if (code != FORGE_OK)
        return code;
    struct db_stmt *q = db_stmt(call->db, SQL_POLICY_CHECK_FACTS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &checking->project_id);
    db_bind_uuid(q, in->model_id[0] != '\0' ? &checking->model_id : NULL);
    db_bind_text(q, in->model[0] != '\0' ? in->model : NULL);
    db_bind_uuid(q, checking->has_prompt ? &checking->prompt_id : NULL);
    db_bind_time_us(q, call->now_us);
    code = db_run_one(q, &row, &call->error);
    if (code != FORGE_OK)
        return code;
    if (!db_row_bool(&row, "project_exists"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    facts_from_row(call, &row, checking);
    policy_engine_note_project(rpc_server_settings(call->server)->policies, &call->principal.organization_id, &checking->project_id,
                               project_changes);
    return FORGE_OK;
}

/* Asks the database for what nobody has told and some policy that can be in force here wants to know. */
static forge_code facts_find(struct rpc_call *call, struct checking *checking)
{
    const Forge__V1__CheckPoliciesRequest *in = checking->in;
    const struct policy_review *review = &checking->review;
    uint64_t changes;
    facts_given(call, checking);
    bool knows_project = policy_engine_knows_project(rpc_server_settings(call->server)->policies, &call->principal.organization_id,
                                                     &checking->project_id, &changes);
    bool wants_model = review->asks_model && checking->has_model && in->model_id[0] == '\0';
    bool wants_cost = review->asks_cost && checking->has_model && in->cost_micros == 0 && in->usage != NULL;
    bool wants_tags = review->asks_tags && checking->has_prompt;
    forge_code code = FORGE_OK;
    if (!knows_project || wants_model || wants_cost || wants_tags)
        code = facts_read(call, checking, changes);
    checking->subject.model_id = checking->model_id_text;
    return code;
}

/* --- rates ----------------------------------------------------------------------------------------------------------- */

static int64_t tokens_of(const Forge__V1__TokenUsage *usage)
{
    const int64_t kinds[] = {usage->input_tokens, usage->cache_read_tokens, usage->cache_write_tokens, usage->output_tokens,
                             usage->reasoning_tokens};
    int64_t sum = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (__builtin_add_overflow(sum, kinds[i], &sum))
            return INT64_MAX;
    return sum;
}

/* A name may be longer than a key, so its hash stands for it. */
static const char *unknown_model_key(struct rpc_call *call, const char *name)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    forge_sha256(name, strlen(name), hash);
    return forge_arena_printf(call->arena, "unknown model:%s", reply_hex(call, hash, sizeof hash));
}

/* Whose calls are counted together; NULL: the request does not say who that is, so the rule is not evaluated. */
static const char *rate_key(struct rpc_call *call, const struct checking *checking, Forge__V1__RateLimitKey key)
{
    const Forge__V1__CheckPoliciesRequest *in = checking->in;
    if (key == FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_ORGANIZATION)
        return "organization";
    if (key == FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_PRINCIPAL)
        return forge_arena_printf(call->arena, "principal:%s", reply_uuid(call, &call->principal.id));
    if (key == FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_SUBJECT)
        return in->subject[0] != '\0' ? forge_arena_printf(call->arena, "subject:%s", in->subject) : NULL;
    if (key != FORGE__V1__RATE_LIMIT_KEY__RATE_LIMIT_KEY_MODEL)
        return forge_arena_printf(call->arena, "project:%s", reply_uuid(call, &checking->project_id));
    if (checking->model_id_text != NULL)
        return forge_arena_printf(call->arena, "model:%s", checking->model_id_text);
    return in->model[0] != '\0' ? unknown_model_key(call, in->model) : NULL;
}

/* Findings of rates, before they stand among the others. */
struct exceeded {
    struct policy_finding *findings;
    size_t count;
    Forge__V1__PolicyAction *action; /* by policy: the strictest, theirs included */
};

static void exceeded_add(struct checking *checking, size_t policy, const struct policy_rate_rule *rule, int64_t retry_after_ms,
                         struct exceeded *exceeded)
{
    const struct policy_in_book *found = &checking->review.book->policies[policy];
    struct policy_decision *decision = &checking->decision;
    struct forge_arena *arena = checking->review.call->arena;
    bool enforces = found->mode == FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE;
    exceeded->findings[exceeded->count++] = (struct policy_finding){.policy = policy,
                                                                    .policy_id = forge_arena_strdup(arena, found->id_text),
                                                                    .policy_version = found->version,
                                                                    .rule = forge_arena_strdup(arena, rule->name),
                                                                    .action = rule->action,
                                                                    .severity = rule->severity,
                                                                    .mode = found->mode,
                                                                    .stage = FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT,
                                                                    .message = forge_arena_strdup(arena, rule->message)};
    if (rule->action > exceeded->action[policy])
        exceeded->action[policy] = rule->action;
    if (enforces && rule->action > decision->action)
        decision->action = rule->action;
    if (enforces && rule->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK && retry_after_ms > checking->retry_after_ms)
        checking->retry_after_ms = retry_after_ms;
}

static forge_code rates_take(struct rpc_call *call, struct checking *checking, size_t policy, int64_t tokens, struct exceeded *exceeded)
{
    struct policy_rates *rates = policy_counts_rates(policy_engine_counts(rpc_server_settings(call->server)->policies));
    const struct policy_in_book *found = &checking->review.book->policies[policy];
    for (size_t i = 0; i < found->rate_count; i++) {
        const struct policy_rate_rule *rule = &found->rates[i];
        const char *key = rate_key(call, checking, rule->key);
        int64_t retry_after_ms;
        if (key == NULL)
            continue; /* or the arena has overflowed, which rpc sees */
        forge_code code = policy_rate_take(rates, call, &found->id, rule, key, tokens, &retry_after_ms);
        if (code != FORGE_OK)
            return code;
        if (retry_after_ms > 0)
            exceeded_add(checking, policy, rule, retry_after_ms, exceeded);
    }
    return FORGE_OK;
}

static bool comes_before(const struct policy_finding *a, const struct policy_finding *b)
{
    if (a->policy != b->policy)
        return a->policy < b->policy;
    int order = a->rule != NULL && b->rule != NULL ? strcmp(a->rule, b->rule) : 0;
    return order != 0 ? order < 0 : a->stage < b->stage;
}

/* Rules that are no rates and those that are, in one order, as many as an answer tells. */
static void findings_merge(struct rpc_call *call, const struct exceeded *exceeded, struct policy_decision *decision)
{
    size_t total = decision->finding_count + exceeded->count, other = 0, rate = 0;
    struct policy_finding *merged = forge_arena_calloc(call->arena, total, sizeof *merged);
    if (merged == NULL)
        return; /* rpc sees the overflow */
    for (size_t i = 0; i < total; i++) {
        bool takes_rate = other == decision->finding_count ||
                          (rate < exceeded->count && comes_before(&exceeded->findings[rate], &decision->findings[other]));
        merged[i] = takes_rate ? exceeded->findings[rate++] : decision->findings[other++];
    }
    decision->findings = merged;
    decision->finding_count = total < POLICY_FINDINGS_MAX ? total : POLICY_FINDINGS_MAX;
    decision->findings_truncated |= total > POLICY_FINDINGS_MAX;
}

/* Every policy that is in force counts the call, also where another one refuses it. */
static forge_code rates_check(struct rpc_call *call, struct checking *checking)
{
    const struct policy_review *review = &checking->review;
    const struct policy_book *book = review->book;
    struct policy_decision *decision = &checking->decision;
    size_t rules = 0;
    for (size_t i = 0; i < review->policy_count; i++)
        rules += review->in_force[i] ? book->policies[i].rate_count : 0;
    if (rules == 0)
        return FORGE_OK;
    struct exceeded exceeded = {
        .findings = forge_arena_calloc(call->arena, rules, sizeof *exceeded.findings),
        .action = forge_arena_memdup(call->arena, decision->policy_action, review->policy_count * sizeof *exceeded.action)};
    if (exceeded.findings == NULL || exceeded.action == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for what was found");
    int64_t tokens = checking->in->usage != NULL ? tokens_of(checking->in->usage) : 0;
    forge_code code = FORGE_OK;
    for (size_t i = 0; code == FORGE_OK && i < review->policy_count; i++)
        if (review->in_force[i])
            code = rates_take(call, checking, i, tokens, &exceeded);
    decision->policy_action = exceeded.action;
    if (exceeded.count > 0)
        findings_merge(call, &exceeded, decision);
    return code;
}

/* --- the reply ------------------------------------------------------------------------------------------------------- */

static void ranges_tell(struct rpc_call *call, const struct policy_finding *finding, Forge__V1__PolicyFinding *out)
{
    out->ranges = forge_arena_calloc(call->arena, finding->range_count, sizeof out->ranges[0]);
    for (size_t i = 0; out->ranges != NULL && i < finding->range_count; i++) {
        Forge__V1__TextRange *range = reply_message(call, &forge__v1__text_range__descriptor);
        if (range == NULL)
            return;
        range->start_byte = (int64_t)finding->ranges[i].begin;
        range->end_byte = (int64_t)finding->ranges[i].end;
        range->pii_kind = finding->ranges[i].pii_kind;
        out->ranges[out->n_ranges++] = range;
    }
}

static void findings_tell(struct rpc_call *call, const struct policy_decision *decision, Forge__V1__CheckPoliciesResponse *out)
{
    out->findings = forge_arena_calloc(call->arena, decision->finding_count, sizeof out->findings[0]);
    for (size_t i = 0; out->findings != NULL && i < decision->finding_count; i++) {
        const struct policy_finding *finding = &decision->findings[i];
        Forge__V1__PolicyFinding *told = reply_message(call, &forge__v1__policy_finding__descriptor);
        if (told == NULL)
            return;
        told->policy_id = TEXT(finding->policy_id);
        told->policy_version = finding->policy_version;
        told->rule = TEXT(finding->rule);
        told->action = finding->action;
        told->severity = finding->severity;
        told->mode = finding->mode;
        told->stage = finding->stage;
        told->message = TEXT(finding->message);
        ranges_tell(call, finding, told);
        out->findings[out->n_findings++] = told;
    }
    out->findings_truncated = decision->findings_truncated;
}

static void policies_tell(struct rpc_call *call, const struct policy_review *review, Forge__V1__CheckPoliciesResponse *out)
{
    out->policies = forge_arena_calloc(call->arena, review->policy_count, sizeof out->policies[0]);
    for (size_t i = 0; out->policies != NULL && i < review->policy_count; i++) {
        struct policy_reference reference;
        if (!review->in_force[i])
            continue;
        Forge__V1__PolicyReference *told = reply_message(call, &forge__v1__policy_reference__descriptor);
        if (told == NULL)
            return;
        policy_review_reference(review, i, &reference);
        told->policy_id = TEXT(reference.id_text);
        told->policy_name = TEXT(reference.name);
        told->version = reference.version;
        out->policies[out->n_policies++] = told;
    }
}

static void masked_tell(const struct checking *checking, size_t text, char **out)
{
    if (text < checking->text_count && checking->decision.masked[text] != NULL)
        *out = TEXT(checking->decision.masked[text]);
}

static void reply_fill_in(struct rpc_call *call, const struct checking *checking, Forge__V1__CheckPoliciesResponse *out)
{
    struct forge_uuid id;
    forge_uuid_v7(&id);
    out->decision_id = reply_uuid(call, &id);
    out->action = checking->decision.action;
    out->allowed = out->action != FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK;
    out->retry_after_ms = checking->retry_after_ms;
    findings_tell(call, &checking->decision, out);
    policies_tell(call, &checking->review, out);
}

static forge_code check(struct rpc_call *call, struct checking *checking, Forge__V1__CheckPoliciesResponse *out)
{
    forge_code code = facts_find(call, checking);
    if (code != FORGE_OK)
        return code;
    struct policy_review *review = &checking->review;
    if (policy_review_select(review, checking->in->label, checking->model_id_text != NULL ? &checking->model_id : NULL)) {
        code = policy_review_decide(review, &checking->subject, &checking->decision);
        if (code == FORGE_OK)
            code = rates_check(call, checking);
        if (code != FORGE_OK)
            return code;
        policy_review_count(review, checking->decision.policy_action);
        masked_tell(checking, checking->input, &out->masked_input);
        masked_tell(checking, checking->output, &out->masked_output);
    }
    reply_fill_in(call, checking, out);
    rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_POLICY_CHECKS, &checking->project_id, 1);
    policy_engine_note_check(rpc_server_settings(call->server)->policies, out->action);
    return FORGE_OK;
}

forge_code policy_check(struct rpc_call *call, const Forge__V1__CheckPoliciesRequest *in, Forge__V1__CheckPoliciesResponse *out)
{
    struct checking checking;
    forge_code code = request_check(call, in, &checking);
    if (code != FORGE_OK)
        return code;
    code = policy_review_begin(call, &checking.project_id, &checking.review);
    if (code == FORGE_OK)
        code = check(call, &checking, out);
    policy_review_end(&checking.review);
    return code;
}
