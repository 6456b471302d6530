/* EvaluationService: the figures of evaluations, over their results as they are now. */
#include "service/evaluation/evaluation.h"
#include "service/reply.h"

#include <string.h>

static Forge__V1__EvaluationSummary *summary_of(const struct db_row *row, size_t count, Forge__V1__Evaluation *const *evaluations)
{
    const char *id = db_row_uuid_text(row, "evaluation_id");
    for (size_t i = 0; id != NULL && i < count; i++)
        if (evaluations[i]->id != NULL && strcmp(evaluations[i]->id, id) == 0)
            return evaluations[i]->summary;
    return NULL;
}

static void figures_set(struct rpc_call *call, const struct db_row *row, Forge__V1__EvaluationSummary *out)
{
    out->result_count = db_row_int64(row, "result_count");
    out->passed_count = db_row_int64(row, "passed_count");
    out->failed_count = out->result_count - out->passed_count;
    out->error_count = db_row_int64(row, "error_count");
    out->pass_rate = out->result_count > 0 ? (double)out->passed_count / (double)out->result_count : 0;
    out->average_score = db_row_double(row, "average_score");
    out->latency_p50_us = db_row_int64(row, "latency_p50_us");
    out->latency_p95_us = db_row_int64(row, "latency_p95_us");
    out->cost_micros = db_row_int64(row, "cost_micros");
    out->usage = reply_usage(call, row);
}

void evaluation_begin_figures(struct rpc_call *call, const Forge__V1__Evaluation *evaluation)
{
    Forge__V1__EvaluationSummary *summary = evaluation->summary;
    if (summary == NULL)
        return; /* rpc sees the overflow */
    summary->evaluators = forge_arena_calloc(call->arena, evaluation->n_evaluators + 1, sizeof summary->evaluators[0]);
    for (size_t i = 0; summary->evaluators != NULL && i < evaluation->n_evaluators; i++) {
        Forge__V1__EvaluatorSummary *entry = reply_message(call, &forge__v1__evaluator_summary__descriptor);
        if (entry == NULL)
            return;
        entry->name = evaluation->evaluators[i]->name;
        summary->evaluators[summary->n_evaluators++] = entry;
    }
}

static void evaluator_set(const struct db_row *row, const Forge__V1__EvaluationSummary *summary)
{
    const char *name = db_row_text_or_empty(row, "name");
    for (size_t i = 0; name != NULL && i < summary->n_evaluators; i++) {
        Forge__V1__EvaluatorSummary *entry = summary->evaluators[i];
        if (strcmp(entry->name, name) != 0)
            continue;
        entry->passed_count = db_row_int64(row, "passed_count");
        entry->failed_count = db_row_int64(row, "judged_count") - entry->passed_count;
        entry->average_score = db_row_double(row, "average_score");
    }
}

static struct db_stmt *figures_statement(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *ids, size_t count)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid_array(q, ids, count);
    return q;
}

forge_code evaluation_read_figures(struct rpc_call *call, size_t count, Forge__V1__Evaluation *const *evaluations)
{
    struct forge_uuid *ids = forge_arena_calloc(call->arena, count + 1, sizeof *ids);
    struct db_rows rows;
    if (ids == NULL || count == 0)
        return FORGE_OK; /* rpc sees an overflow */
    for (size_t i = 0; i < count; i++) {
        if (evaluations[i]->id == NULL || !forge_uuid_parse(evaluations[i]->id, &ids[i]))
            return FORGE_OK;
        evaluation_begin_figures(call, evaluations[i]);
    }
    forge_code rc = db_run_many(figures_statement(call, SQL_EVALUATION_FIGURES, ids, count), &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        Forge__V1__EvaluationSummary *summary = summary_of(&row, count, evaluations);
        if (summary != NULL)
            figures_set(call, &row, summary);
    }
    if (rc == FORGE_OK)
        rc = db_run_many(figures_statement(call, SQL_EVALUATION_EVALUATOR_FIGURES, ids, count), &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        const Forge__V1__EvaluationSummary *summary = summary_of(&row, count, evaluations);
        if (summary != NULL)
            evaluator_set(&row, summary);
    }
    return rc;
}
