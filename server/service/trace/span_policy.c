/* TraceService: policies on ingested spans. They are checked on the worker, before the spans of several calls meet in one transaction:
 * checks take time, and are about one span each. What they found is written when the span is, so a repeat, which is no new span, adds
 * nothing. */
#include "service/trace/span.h"
#include "service/trace/store.h"

#include <string.h>

enum { MILLISECOND_NS = 1000000, TEXTS = 2 };

/* --- facts ----------------------------------------------------------------------------------------------------------- */

/* Models and cost are read only where a policy asks for them. */
static forge_code facts_read(struct rpc_call *call, struct trace_batch *batch)
{
    if (!batch->review.asks_model && !batch->review.asks_cost)
        return FORGE_OK;
    struct trace_span **spans = forge_arena_calloc(call->arena, batch->count, sizeof(struct trace_span *));
    for (size_t i = 0; spans != NULL && i < batch->count; i++)
        spans[i] = &batch->spans[i];
    if (spans == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    return trace_price(call->db, call->arena, &call->principal.organization_id, spans, batch->count, &call->error);
}

/* Where a span's texts come from in TextRange.field. */
static const char *const fields[TEXTS] = {"input", "output"};

static size_t texts_fill(const struct trace_span *span, struct policy_text texts[TEXTS], const char *out_fields[TEXTS])
{
    size_t count = 0;
    if (span->input != NULL) {
        out_fields[count] = fields[0];
        texts[count++] = (struct policy_text){FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT, span->input, strlen(span->input)};
    }
    if (span->output != NULL) {
        out_fields[count] = fields[1];
        texts[count++] = (struct policy_text){FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT, span->output, strlen(span->output)};
    }
    return count;
}

static forge_code decide(const struct policy_review *review, const struct trace_span *span, const struct policy_text *texts, size_t count,
                         struct policy_decision *out)
{
    char model_id[FORGE_UUID_TEXT_SIZE] = "";
    const Forge__V1__TokenUsage usage = {.base = PROTOBUF_C_MESSAGE_INIT(&forge__v1__token_usage__descriptor),
                                         .input_tokens = span->input_tokens,
                                         .cache_read_tokens = span->cache_read_tokens,
                                         .cache_write_tokens = span->cache_write_tokens,
                                         .output_tokens = span->output_tokens,
                                         .reasoning_tokens = span->reasoning_tokens};
    const struct policy_subject subject = {
        .texts = texts,
        .text_count = count,
        .model_stage =
            span->model != NULL ? FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT : FORGE__V1__POLICY_STAGE__POLICY_STAGE_UNSPECIFIED,
        .model_id = model_id,
        .usage = span->has_usage ? &usage : NULL,
        .has_cost = span->cost_micros != TRACE_NO_COST,
        .cost_micros = span->cost_micros,
        .has_latency = true,
        .latency_ms = (span->end_ns - span->start_ns + MILLISECOND_NS - 1) / MILLISECOND_NS,
    };
    if (!forge_uuid_is_nil(&span->model_id))
        forge_uuid_format(&span->model_id, model_id);
    return policy_review_decide(review, &subject, out);
}

/* --- what is made of it ---------------------------------------------------------------------------------------------- */

/* The identity that spans are stored under. */
static struct db_bytes identity_of(struct rpc_call *call, const struct trace_span *span)
{
    enum { SIZE = sizeof span->project_id.bytes + TRACE_ID_BYTES + TRACE_SPAN_ID_BYTES + sizeof span->started_us };
    uint8_t *bytes = forge_arena_alloc(call->arena, SIZE), *to = bytes;
    if (bytes == NULL)
        return (struct db_bytes){0};
    to = mempcpy(to, span->project_id.bytes, sizeof span->project_id.bytes);
    to = mempcpy(to, span->trace_id.data, TRACE_ID_BYTES);
    to = mempcpy(to, span->span_id.data, TRACE_SPAN_ID_BYTES);
    for (size_t i = 0; i < sizeof span->started_us; i++)
        to[i] = (uint8_t)((uint64_t)span->started_us >> (56 - 8 * i));
    return (struct db_bytes){bytes, SIZE};
}

static forge_code violations_note(struct policy_review *review, const struct policy_decision *decision, const char *const *text_fields,
                                  struct trace_span *span)
{
    const struct policy_checked checked = {.identity = identity_of(review->call, span),
                                           .fields = text_fields,
                                           .prompt_id = span->prompt_id,
                                           .prompt_version = span->prompt_version,
                                           .trace_id = span->trace_id,
                                           .span_id = span->span_id,
                                           .label = span->prompt_label,
                                           .model = span->model};
    return policy_violations_make(review, decision, &checked, &span->violations);
}

static forge_code act(struct trace_batch *batch, const struct policy_decision *decision, const Forge__V1__Span *in, struct trace_span *span)
{
    const struct policy_review *review = &batch->review;
    span->policy_action = (int32_t)decision->action;
    if (decision->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_BLOCK)
        return trace_span_remove_content(review, in, &batch->defaults, span);
    if (decision->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK)
        return trace_span_mask_content(review, in, &batch->defaults, span);
    return FORGE_OK;
}

static forge_code check(struct trace_batch *batch, const Forge__V1__Span *in, struct trace_span *span)
{
    struct policy_text texts[TEXTS];
    const char *text_fields[TEXTS];
    struct policy_decision decision;
    size_t count = texts_fill(span, texts, text_fields);
    forge_code rc = decide(&batch->review, span, texts, count, &decision);
    if (rc != FORGE_OK)
        return rc;
    span->policy_verdict = decision.policy_action;
    span->policy_model_id = span->model_id;
    if (decision.finding_count == 0)
        return FORGE_OK;
    rc = violations_note(&batch->review, &decision, text_fields, span);
    return rc == FORGE_OK ? act(batch, &decision, in, span) : rc;
}

forge_code trace_policy_check(struct rpc_call *call, struct trace_batch *batch)
{
    forge_code rc = policy_review_begin(call, &batch->defaults.project_id, &batch->review);
    if (rc != FORGE_OK || batch->review.policy_count == 0)
        return rc;
    rc = facts_read(call, batch);
    for (size_t i = 0; rc == FORGE_OK && i < batch->count; i++) {
        struct trace_span *span = &batch->spans[i];
        if (policy_review_select(&batch->review, span->prompt_label, &span->model_id))
            rc = check(batch, batch->in[batch->index[i]], span);
    }
    if (rc == FORGE_OK && forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    return rc;
}

void trace_policy_count(struct trace_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct trace_span *span = &batch->spans[i];
        if (span->outcome == TRACE_ACCEPTED && span->policy_verdict != NULL &&
            policy_review_select(&batch->review, span->prompt_label, &span->policy_model_id))
            policy_review_count(&batch->review, span->policy_verdict);
    }
}
