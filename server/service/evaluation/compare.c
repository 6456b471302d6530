/* EvaluationService/CompareEvaluations: figures and ranks over all items are computed in SQL, the tests of significance from them here. */
#include "evaluate/significance.h"
#include "rpc/page.h"
#include "service/evaluation/evaluation.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <stdlib.h>
#include <string.h>

enum { CHANGES = FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_ONLY_CANDIDATE };

/* By ITEM_CHANGE_*, as compare_items has them. */
static const char *const change_names[CHANGES + 1] = {
    NULL, "fixed", "broken", "still_passing", "still_failing", "only_baseline", "only_candidate",
};

/* A request, checked. */
struct comparison {
    struct forge_uuid baseline_id, candidate_id;
    const char *changes[CHANGES], *filter;
    size_t change_count;
    struct rpc_page page;
};

/* --- the request --- */

static void changes_check(struct rpc_call *call, const Forge__V1__CompareEvaluationsRequest *in, struct comparison *comparison)
{
    bool is_wanted[CHANGES + 1] = {false};
    for (size_t i = 0; i < in->n_changes; i++) {
        if (in->changes[i] < FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_FIXED || (int)in->changes[i] > CHANGES)
            rpc_call_violation(call, forge_arena_printf(call->arena, "changes[%zu]", i), "must be a change, such as ITEM_CHANGE_FIXED");
        else
            is_wanted[in->changes[i]] = true;
    }
    comparison->filter = forge_arena_printf(call->arena, "%s|%s|", in->baseline_id, in->candidate_id);
    for (int change = 1; change <= CHANGES; change++) {
        if (!is_wanted[change])
            continue;
        comparison->changes[comparison->change_count++] = change_names[change];
        comparison->filter = forge_arena_printf(call->arena, "%s%d,", comparison->filter != NULL ? comparison->filter : "", change);
    }
}

static forge_code request_check(struct rpc_call *call, const Forge__V1__CompareEvaluationsRequest *in, struct comparison *comparison)
{
    validate_uuid(call, "baseline_id", in->baseline_id, &comparison->baseline_id);
    validate_uuid(call, "candidate_id", in->candidate_id, &comparison->candidate_id);
    changes_check(call, in, comparison);
    rpc_page_read(call, in->page_size, in->page_token, comparison->filter, comparison->filter != NULL ? strlen(comparison->filter) : 0,
                  &comparison->page);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

/* --- the evaluations --- */

static forge_code state_check(struct rpc_call *call, const struct db_rows *rows, const struct forge_uuid *id, const char *id_text,
                              const char *which)
{
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        struct forge_uuid found;
        db_row_uuid(&row, "id", &found);
        if (!forge_uuid_equal(&found, id))
            continue;
        if (db_row_bool(&row, "is_running"))
            return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the %s is still running", which);
        return FORGE_OK;
    }
    return rpc_call_fail(call, FORGE_NOT_FOUND, "evaluation %s not found", id_text);
}

static forge_code states_check(struct rpc_call *call, const Forge__V1__CompareEvaluationsRequest *in, const struct comparison *comparison)
{
    const struct forge_uuid ids[] = {comparison->baseline_id, comparison->candidate_id};
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_COMPARE_FIND);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid_array(q, ids, 2);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc == FORGE_OK)
        rc = state_check(call, &rows, &ids[0], in->baseline_id, "baseline");
    return rc == FORGE_OK ? state_check(call, &rows, &ids[1], in->candidate_id, "candidate") : rc;
}

/* --- figures --- */

static void mcnemar_set(struct rpc_call *call, Forge__V1__CompareEvaluationsResponse *out)
{
    out->mcnemar = reply_message(call, &forge__v1__mc_nemar_test__descriptor);
    if (out->mcnemar == NULL)
        return; /* rpc sees the overflow */
    out->mcnemar->baseline_only_count = out->broken_count;
    out->mcnemar->candidate_only_count = out->fixed_count;
    out->mcnemar->p_value = evaluate_mcnemar_p(out->broken_count, out->fixed_count);
    if (out->broken_count + out->fixed_count > 0)
        out->mcnemar->method = FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT;
}

static double wilcoxon_exact(const struct db_row *row, double rank_sum)
{
    double ranks[EVALUATE_WILCOXON_EXACT_MAX];
    size_t count = 0;
    char **texts = db_row_text_array(row, "ranks", &count);
    for (size_t i = 0; texts != NULL && i < count; i++)
        ranks[i] = strtod(texts[i], NULL);
    return evaluate_wilcoxon_exact_p(ranks, count, rank_sum);
}

static void wilcoxon_set(struct rpc_call *call, const struct db_row *row, Forge__V1__CompareEvaluationsResponse *out)
{
    Forge__V1__WilcoxonTest *test = out->wilcoxon = reply_message(call, &forge__v1__wilcoxon_test__descriptor);
    if (test == NULL)
        return; /* rpc sees the overflow */
    test->sample_size = db_row_int64(row, "sample_size");
    test->rank_sum_positive = db_row_double(row, "rank_sum_positive");
    test->rank_sum_negative = db_row_double(row, "rank_sum_negative");
    if (test->sample_size <= EVALUATE_WILCOXON_EXACT_MAX)
        test->p_value = wilcoxon_exact(row, test->rank_sum_positive);
    else
        test->p_value = evaluate_wilcoxon_normal_p(test->sample_size, test->rank_sum_positive, db_row_double(row, "tie_sum"));
    if (test->sample_size > 0)
        test->method = test->sample_size <= EVALUATE_WILCOXON_EXACT_MAX ? FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_EXACT
                                                                        : FORGE__V1__PVALUE_METHOD__P_VALUE_METHOD_NORMAL_APPROXIMATION;
}

static forge_code figures_read(struct rpc_call *call, const struct comparison *comparison, Forge__V1__CompareEvaluationsResponse *out)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_COMPARE_FIGURES);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &comparison->baseline_id);
    db_bind_uuid(q, &comparison->candidate_id);
    db_bind_int32(q, EVALUATE_WILCOXON_EXACT_MAX);
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (db_row_int64(&row, "matched_count") == 0)
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the two evaluations have no item in common");
    out->fixed_count = db_row_int64(&row, "fixed_count");
    out->broken_count = db_row_int64(&row, "broken_count");
    out->still_passing_count = db_row_int64(&row, "still_passing_count");
    out->still_failing_count = db_row_int64(&row, "still_failing_count");
    out->only_baseline_count = db_row_int64(&row, "only_baseline_count");
    out->only_candidate_count = db_row_int64(&row, "only_candidate_count");
    out->mean_score_difference = db_row_double(&row, "mean_difference");
    out->dataset_differs = db_row_bool(&row, "dataset_differs");
    mcnemar_set(call, out);
    wilcoxon_set(call, &row, out);
    return FORGE_OK;
}

/* --- items --- */

static Forge__V1__ItemChange change_find(const char *name)
{
    for (int change = 1; name != NULL && change <= CHANGES; change++)
        if (strcmp(change_names[change], name) == 0)
            return (Forge__V1__ItemChange)change;
    return FORGE__V1__ITEM_CHANGE__ITEM_CHANGE_UNSPECIFIED;
}

static void item_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__ItemComparison *item = message;
    item->item_key = db_row_text(row, "item_key");
    item->change = change_find(db_row_text(row, "change"));
    item->baseline_score = db_row_double(row, "baseline_score");
    item->candidate_score = db_row_double(row, "candidate_score");
    item->baseline_passed = db_row_bool(row, "baseline_passed");
    item->candidate_passed = db_row_bool(row, "candidate_passed");
}

static forge_code items_read(struct rpc_call *call, const struct comparison *comparison, Forge__V1__CompareEvaluationsResponse *out)
{
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_COMPARE_ITEMS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &comparison->baseline_id);
    db_bind_uuid(q, &comparison->candidate_id);
    db_bind_text(q, comparison->page.has_key ? comparison->page.last_name : "");
    if (comparison->change_count > 0)
        db_bind_text_array(q, comparison->changes, comparison->change_count);
    else
        db_bind_null(q);
    db_bind_int32(q, comparison->page.size + 1);
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->items = reply_list(call, &rows, comparison->page.size, &forge__v1__item_comparison__descriptor, item_from_row, &out->n_items);
    if (rows.count > comparison->page.size && out->n_items > 0)
        out->next_page_token = rpc_page_next(call, comparison->filter, comparison->filter != NULL ? strlen(comparison->filter) : 0,
                                             out->items[out->n_items - 1]->item_key, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}

forge_code evaluation_compare(struct rpc_call *call, const Forge__V1__CompareEvaluationsRequest *in,
                              Forge__V1__CompareEvaluationsResponse *out)
{
    struct comparison comparison = {0};
    forge_code rc = request_check(call, in, &comparison);
    if (rc == FORGE_OK)
        rc = states_check(call, in, &comparison);
    if (rc == FORGE_OK)
        rc = figures_read(call, &comparison, out);
    return rc == FORGE_OK ? items_read(call, &comparison, out) : rc;
}
