/* TraceService: IngestSpans. */
#include "rpc/usage.h"
#include "service/reply.h"
#include "service/trace/store.h"
#include "service/validate.h"
#include "wire/clock.h"

#include "rpc_table.h"

enum { SPANS_PER_CALL_MAX = 1000, MILLISECOND_US = 1000, MINUTE_MS = 60000 };

static Forge__V1__SpanVerdict *verdict_add(struct rpc_call *call, Forge__V1__IngestSpansResponse *out)
{
    Forge__V1__SpanVerdict *verdict = reply_message(call, &forge__v1__span_verdict__descriptor);
    if (verdict != NULL)
        verdict->verdict = reply_message(call, &forge__v1__item_verdict__descriptor);
    if (verdict == NULL || verdict->verdict == NULL)
        return NULL;
    out->verdicts[out->n_verdicts++] = verdict;
    return verdict;
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

static bool is_in_window(struct rpc_call *call, const struct trace_span *span, Forge__V1__ItemVerdict *verdict)
{
    const struct rpc_settings *settings = rpc_server_settings(call->server);
    int64_t age_us = call->now_us - span->started_us;
    bool is_old = age_us > (int64_t)settings->span_age_max_ms * MILLISECOND_US,
         is_ahead = -age_us > (int64_t)settings->span_ahead_max_ms * MILLISECOND_US;
    if (is_old)
        reply_reject(verdict, FORGE_OUT_OF_RANGE,
                     forge_arena_printf(call->arena, "start_ns: must be at most %u minutes ago", settings->span_age_max_ms / MINUTE_MS));
    if (is_ahead)
        reply_reject(
            verdict, FORGE_OUT_OF_RANGE,
            forge_arena_printf(call->arena, "start_ns: must be at most %u minutes ahead", settings->span_ahead_max_ms / MINUTE_MS));
    return !is_old && !is_ahead;
}

/* Makes columns of a span; false where it is refused, and its verdict then says why. */
static bool span_read(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults, struct trace_span *out,
                      Forge__V1__ItemVerdict *verdict)
{
    *out = (struct trace_span){.project_id = defaults->project_id};
    trace_span_check(call, in);
    if (!rpc_call_has_violations(call)) {
        trace_span_map(call, in, out);
        trace_columns_check(call, out);
        trace_span_pack(call, in, defaults, out);
    }
    if (rpc_call_has_violations(call)) {
        reply_reject_invalid(call, verdict);
        return false;
    }
    return is_in_window(call, out, verdict);
}

static forge_code batch_fill(struct rpc_call *call, const Forge__V1__IngestSpansRequest *in, struct trace_batch *batch,
                             Forge__V1__IngestSpansResponse *out)
{
    out->verdicts = forge_arena_calloc(call->arena, in->n_spans, sizeof out->verdicts[0]);
    batch->in = in->spans;
    batch->spans = forge_arena_calloc(call->arena, in->n_spans, sizeof *batch->spans);
    batch->index = forge_arena_calloc(call->arena, in->n_spans, sizeof *batch->index);
    for (size_t i = 0; i < in->n_spans && !forge_arena_has_overflowed(call->arena); i++) {
        Forge__V1__SpanVerdict *verdict = verdict_add(call, out);
        struct trace_span *span = &batch->spans[batch->count];
        if (verdict == NULL || !span_read(call, in->spans[i], &batch->defaults, span, verdict->verdict))
            continue;
        batch->index[batch->count++] = i;
    }
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    return FORGE_OK;
}

/* --- verdicts -------------------------------------------------------------------------------------------------------- */

static void verdict_set(struct rpc_call *call, const struct trace_span *span, Forge__V1__SpanVerdict *out)
{
    Forge__V1__ItemVerdict *verdict = out->verdict;
    switch (span->outcome) {
    case TRACE_ACCEPTED:
        verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
        out->policy_action = (Forge__V1__PolicyAction)span->policy_action;
        return;
    case TRACE_DUPLICATE:
        verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
        return;
    case TRACE_CONFLICT:
        reply_reject(verdict, FORGE_ALREADY_EXISTS,
                     forge_arena_strdup(call->arena, "a span with these ids and this start but other content is stored"));
        return;
    case TRACE_FULL:
        reply_reject(verdict, FORGE_RESOURCE_EXHAUSTED, forge_arena_printf(call->arena, "the trace holds %d spans", TRACE_SPANS_MAX));
        return;
    case TRACE_NO_DAY:
        reply_reject(verdict, FORGE_FAILED_PRECONDITION,
                     forge_arena_strdup(call->arena, "no storage is prepared for the day the span starts in (forged maintain does that)"));
        verdict->retryable = true;
        return;
    case TRACE_GONE:
    case TRACE_NO_PROJECT: /* the whole call is refused for it */
        reply_reject(verdict, FORGE_ABORTED,
                     forge_arena_strdup(call->arena, "what was stored under its ids was deleted at the same moment"));
        verdict->retryable = true;
        return;
    }
}

static void add_saturated(int64_t *sum, int64_t amount)
{
    if (__builtin_add_overflow(*sum, amount, sum))
        *sum = INT64_MAX;
}

static void count_used(struct rpc_call *call, const struct trace_batch *batch)
{
    const struct forge_uuid *project_id = &batch->defaults.project_id;
    int64_t spans = 0, bytes = 0, tokens = 0, cost_micros = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct trace_span *span = &batch->spans[i];
        if (span->outcome != TRACE_ACCEPTED)
            continue;
        spans++;
        bytes += (int64_t)span->packed_bytes;
        tokens += span->input_tokens + span->cache_read_tokens + span->cache_write_tokens + span->output_tokens + span->reasoning_tokens;
        add_saturated(&cost_micros, span->cost_micros != TRACE_NO_COST ? span->cost_micros : 0);
    }
    if (spans == 0)
        return;
    rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_SPANS, project_id, spans);
    rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_SPAN_BYTES, project_id, bytes);
    if (tokens > 0)
        rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_TOKENS, project_id, tokens);
    if (cost_micros > 0)
        rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_COST_MICROS, project_id, cost_micros);
}

static void count_verdicts(Forge__V1__IngestSpansResponse *out)
{
    for (size_t i = 0; i < out->n_verdicts; i++) {
        Forge__V1__ItemOutcome outcome = out->verdicts[i]->verdict->outcome;
        out->accepted_count += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
        out->duplicate_count += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
        out->rejected_count += outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_REJECTED;
    }
}

/* --- the call -------------------------------------------------------------------------------------------------------- */

static forge_code request_check(struct rpc_call *call, const Forge__V1__IngestSpansRequest *in, struct trace_defaults *out)
{
    if (in->n_spans < 1 || in->n_spans > SPANS_PER_CALL_MAX)
        rpc_call_violation(call, "spans", "must be 1 to %d", SPANS_PER_CALL_MAX);
    trace_defaults_check(call, in, out);
    return validate_end_in_project(call, &out->project_id);
}

/* The spans of all calls in one transaction. */
static forge_code store_all(struct db_session *db, struct forge_arena *arena, const struct forge_uuid *organization_id, void *const *works,
                            size_t count, struct forge_error *error)
{
    size_t span_count = 0;
    for (size_t i = 0; i < count; i++)
        span_count += ((const struct trace_batch *)works[i])->count;
    struct trace_span **spans = forge_arena_calloc(arena, span_count, sizeof(struct trace_span *));
    if (spans == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    span_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct trace_batch *batch = works[i];
        for (size_t j = 0; j < batch->count; j++)
            spans[span_count++] = &batch->spans[j];
    }
    return trace_store(db, arena, organization_id, forge_clock_wall_us(), spans, span_count, error);
}

static forge_code ingest_finish(struct rpc_call *call, void *work, ProtobufCMessage *reply)
{
    struct trace_batch *batch = work;
    Forge__V1__IngestSpansResponse *out = (Forge__V1__IngestSpansResponse *)reply;
    if (batch->count > 0 && batch->spans[0].outcome == TRACE_NO_PROJECT) /* of one, of all */
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", reply_uuid(call, &batch->defaults.project_id));
    for (size_t i = 0; i < batch->count; i++)
        verdict_set(call, &batch->spans[i], out->verdicts[batch->index[i]]);
    count_verdicts(out);
    count_used(call, batch);
    trace_policy_count(batch);
    return FORGE_OK;
}

static void ingest_end(struct rpc_call *call, void *work)
{
    struct trace_batch *batch = work;
    policy_review_end(&batch->review);
}

static const struct rpc_group_kind together = {
    .weight_max = SPANS_PER_CALL_MAX, .run = store_all, .finish = ingest_finish, .end = ingest_end};

forge_code trace_ingest_spans(struct rpc_call *call, const Forge__V1__IngestSpansRequest *in, Forge__V1__IngestSpansResponse *out)
{
    struct trace_batch *batch = forge_arena_calloc(call->arena, 1, sizeof *batch);
    if (batch == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the spans need too much memory");
    forge_code rc = request_check(call, in, &batch->defaults);
    if (rc == FORGE_OK)
        rc = batch_fill(call, in, batch, out);
    if (rc != FORGE_OK)
        return rc;
    if (batch->count == 0)
        return ingest_finish(call, batch, &out->base);
    rc = trace_policy_check(call, batch);
    if (rc == FORGE_OK)
        return rpc_call_join(call, &together, batch, batch->count);
    policy_review_end(&batch->review);
    return rc;
}
