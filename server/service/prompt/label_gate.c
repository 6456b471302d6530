/* PromptService: promotion gates, what a version must have before a label may point at it. */
#include "service/prompt/label.h"
#include "service/reply.h"
#include "service/validate.h"

#include <math.h>

static double rounded(double score)
{
    return round(score * 1e9) / 1e9; /* as label_gate has it */
}

void prompt_gate_check(struct rpc_call *call, const Forge__V1__PromotionGate *gate, struct forge_uuid *out_dataset_id)
{
    if (gate == NULL)
        return;
    if (!(gate->min_score >= 0 && gate->min_score <= 1)) /* also not a number */
        rpc_call_violation(call, "gate.min_score", "must be 0 to 1");
    else if (gate->min_score > 0 && !gate->require_evaluation)
        rpc_call_violation(call, "gate.min_score", "needs require_evaluation");
    if (gate->dataset_id[0] != '\0' && validate_uuid(call, "gate.dataset_id", gate->dataset_id, out_dataset_id) &&
        !gate->require_evaluation)
        rpc_call_violation(call, "gate.dataset_id", "needs require_evaluation");
    if (gate->min_result_count < 0)
        rpc_call_violation(call, "gate.min_result_count", "must be 0 or more");
    else if (gate->min_result_count > 0 && !gate->require_evaluation)
        rpc_call_violation(call, "gate.min_result_count", "needs require_evaluation");
}

void prompt_gate_bind(struct db_stmt *stmt, const Forge__V1__PromotionGate *gate, const struct forge_uuid *dataset_id)
{
    static const Forge__V1__PromotionGate none = FORGE__V1__PROMOTION_GATE__INIT;
    if (gate == NULL)
        gate = &none;
    db_bind_bool(stmt, gate->require_evaluation);
    if (gate->min_score > 0)
        db_bind_double(stmt, gate->min_score);
    else
        db_bind_null(stmt);
    db_bind_uuid(stmt, gate->dataset_id[0] != '\0' ? dataset_id : NULL);
    db_bind_int32(stmt, gate->min_result_count);
    db_bind_bool(stmt, gate->require_no_open_blocking_violations);
}

Forge__V1__PromotionGate *prompt_gate_from_row(struct rpc_call *call, const struct db_row *row)
{
    bool needs_evaluation = db_row_bool(row, "require_evaluation"),
         needs_no_violation = db_row_bool(row, "require_no_open_blocking_violations");
    Forge__V1__PromotionGate *gate =
        needs_evaluation || needs_no_violation ? reply_message(call, &forge__v1__promotion_gate__descriptor) : NULL;
    if (gate == NULL)
        return NULL;
    gate->require_evaluation = needs_evaluation;
    gate->min_score = db_row_double(row, "min_score");
    if (!db_row_is_null(row, "dataset_id"))
        gate->dataset_id = db_row_uuid_text(row, "dataset_id");
    gate->min_result_count = db_row_int32(row, "min_result_count");
    gate->require_no_open_blocking_violations = needs_no_violation;
    return gate;
}

/* A fact for programs, and a piece of the sentence for people behind those that are there. */
static void lacks(struct rpc_call *call, const char **said, const char *key, const char *value, const char *piece)
{
    rpc_call_fact(call, key, "%s", value);
    const char *longer = forge_arena_printf(call->arena, "%s%s%s", *said, (*said)[0] != '\0' ? ", " : "", piece);
    *said = longer != NULL ? longer : *said;
}

static const char *decimal(struct rpc_call *call, double score)
{
    char *text = forge_arena_printf(call->arena, "%.9g", score);
    return text != NULL ? text : "";
}

/* What one version lacks, "" for nothing. row: of label_gate. */
static const char *missing(struct rpc_call *call, const Forge__V1__PromotionGate *gate, const struct db_row *row)
{
    const char *said = "", *dataset = gate->dataset_id;
    if (gate->require_evaluation && db_row_is_null(row, "evaluation_id")) {
        lacks(call, &said, "evaluation", dataset[0] != '\0' ? dataset : "any",
              dataset[0] != '\0' ? "no completed evaluation on the gate's dataset" : "no completed evaluation");
    } else if (gate->require_evaluation) {
        double score = db_row_double(row, "average_score");
        const char *has = decimal(call, score), *wants = decimal(call, gate->min_score);
        int64_t count = db_row_int64(row, "result_count");
        if (rounded(score) < rounded(gate->min_score))
            lacks(call, &said, "score", has, forge_arena_printf(call->arena, "a score of %s, not %s", has, wants));
        if (count < gate->min_result_count)
            lacks(call, &said, "item_count", forge_arena_printf(call->arena, "%lld", (long long)count),
                  forge_arena_printf(call->arena, "%lld results, not %d", (long long)count, gate->min_result_count));
    }
    if (gate->require_no_open_blocking_violations && !db_row_is_null(row, "violation_id"))
        lacks(call, &said, "violation", db_row_uuid_text(row, "violation_id"), "an open blocking violation");
    return said;
}

forge_code prompt_gate_refuse(struct rpc_call *call, const struct forge_uuid *prompt_id, const char *label, const struct db_row *row)
{
    const Forge__V1__PromotionGate *gate = prompt_gate_from_row(call, row);
    struct forge_uuid dataset_id;
    struct db_rows rows;
    if (gate == NULL)
        return FORGE_OK; /* rpc sees an overflow */
    struct db_stmt *q = db_stmt(call->db, SQL_LABEL_GATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_text(q, db_row_text(row, "targets"));
    db_row_uuid(row, "dataset_id", &dataset_id);
    db_bind_uuid(q, db_row_is_null(row, "dataset_id") ? NULL : &dataset_id);
    forge_code rc = db_run_many(q, &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row version = db_rows_at(&rows, i);
        const char *said = missing(call, gate, &version);
        if (said[0] == '\0')
            continue;
        int32_t number = db_row_int32(&version, "version");
        rpc_call_fact(call, "version", "%d", number);
        rc = rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "PROMOTION_GATE",
                                  "the gate of label \"%s\" refuses version %d: it has %s", label, number, said);
    }
    return rc;
}
