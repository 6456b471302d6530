/* EvaluationService/AddResults. Items and evaluators never change, so results are judged before any row is locked; then the evaluation is
 * locked and its state looked at again, and what was judged is stored. What is stored already is not judged again. */
#include "rpc/usage.h"
#include "service/evaluation/result.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS_MAX = 1000, EXPECTED_BYTES_MAX = 16 << 20 };

/* A call on its way. */
struct batch {
    struct forge_uuid evaluation_id, project_id, dataset_id;
    int32_t dataset_version;
    struct result_rules rules;
    size_t count;
    struct result *results;
    struct result_item *items; /* by key */
    size_t item_count;
    struct result **sorted; /* the firsts, by item and repetition */
    size_t sorted_count;
};

/* --- what the request says --- */

static forge_code batch_begin(struct rpc_call *call, const Forge__V1__AddResultsRequest *in, struct batch *batch,
                              Forge__V1__AddResultsResponse *out)
{
    validate_uuid(call, "evaluation_id", in->evaluation_id, &batch->evaluation_id);
    if (in->n_results < 1 || in->n_results > RESULTS_MAX)
        rpc_call_violation(call, "results", "must be 1 to %d", RESULTS_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    batch->results = forge_arena_calloc(call->arena, in->n_results, sizeof *batch->results);
    batch->sorted = forge_arena_calloc(call->arena, in->n_results, sizeof *batch->sorted);
    out->verdicts = forge_arena_calloc(call->arena, in->n_results, sizeof *out->verdicts);
    bool has_room = batch->results != NULL && batch->sorted != NULL && out->verdicts != NULL;
    for (size_t i = 0; has_room && i < in->n_results; i++) {
        Forge__V1__AddResultsVerdict *verdict = reply_message(call, &forge__v1__add_results_verdict__descriptor);
        if (verdict != NULL)
            verdict->verdict = reply_message(call, &forge__v1__item_verdict__descriptor);
        if (verdict == NULL || verdict->verdict == NULL)
            break;
        out->verdicts[out->n_verdicts++] = verdict;
        batch->results[i] = (struct result){.in = in->results[i], .verdict = verdict->verdict};
        result_check(call, &batch->results[i]);
    }
    batch->count = in->n_results;
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the results need too much memory");
    return FORGE_OK;
}

/* --- what they are judged by --- */

static forge_code refuse_ended(struct rpc_call *call, const char *state)
{
    return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the evaluation is %s: it takes no more results", state);
}

static forge_code rules_prepare(struct rpc_call *call, const struct db_row *row, struct result_rules *rules)
{
    Forge__V1__Evaluation lists = FORGE__V1__EVALUATION__INIT;
    forge_code rc = evaluation_read_lists(call, row, &lists);
    if (rc != FORGE_OK)
        return rc;
    rc =
        evaluate_prepare((const Forge__V1__Evaluator *const *)lists.evaluators, lists.n_evaluators, call->arena, &call->error, &rules->set);
    if (rc == FORGE_INVALID_ARGUMENT) {
        call->error = (struct forge_error){0};
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored evaluators of this evaluation cannot be used");
    }
    return rc == FORGE_OK ? rc : rpc_call_fail(call, rc, "the evaluators need too much memory");
}

static forge_code rules_read(struct rpc_call *call, const char *id_text, struct batch *batch)
{
    struct db_row row;
    struct db_stmt *q = db_stmt(call->db, SQL_RESULT_EVALUATION);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &batch->evaluation_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_time_us(q, call->now_us);
    forge_code rc = reply_run_found(call, q, "evaluation", id_text, &row);
    if (rc != FORGE_OK)
        return rc;
    const char *state = db_row_text_or_empty(&row, "state");
    if (state != NULL && strcmp(state, "running") != 0)
        return refuse_ended(call, state);
    db_row_uuid(&row, "project_id", &batch->project_id);
    db_row_uuid(&row, "dataset_id", &batch->dataset_id);
    batch->dataset_version = db_row_int32(&row, "dataset_version");
    batch->rules.repetitions = db_row_int32(&row, "repetitions");
    batch->rules.pass_threshold = db_row_double(&row, "pass_threshold");
    cost_price_from_row(&row, &batch->rules.price);
    return rules_prepare(call, &row, &batch->rules);
}

/* --- items --- */

static struct db_stmt *items_statement(struct rpc_call *call, const struct batch *batch)
{
    const char **keys = forge_arena_calloc(call->arena, batch->count, sizeof *keys);
    struct forge_uuid *ids = forge_arena_calloc(call->arena, batch->count, sizeof *ids);
    size_t key_count = 0, id_count = 0;
    for (size_t i = 0; keys != NULL && ids != NULL && i < batch->count; i++) {
        const struct result *result = &batch->results[i];
        if (result_is_rejected(result))
            continue;
        if (forge_uuid_is_nil(&result->item_id))
            keys[key_count++] = result->in->item_key;
        else
            ids[id_count++] = result->item_id;
    }
    struct db_stmt *q = db_stmt(call->db, SQL_RESULT_ITEMS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &batch->dataset_id);
    db_bind_int32(q, batch->dataset_version);
    db_bind_text_array(q, keys, key_count);
    db_bind_uuid_array(q, ids, id_count);
    return q;
}

static int compare_item_keys(const void *a, const void *b)
{
    return strcmp(((const struct result_item *)a)->key, ((const struct result_item *)b)->key);
}

static struct result_item *item_by_id(const struct batch *batch, const struct forge_uuid *id)
{
    for (size_t i = 0; i < batch->item_count; i++)
        if (forge_uuid_equal(&batch->items[i].id, id))
            return &batch->items[i];
    return NULL;
}

static struct result_item *item_by_key(const struct batch *batch, const char *key)
{
    const struct result_item wanted = {.key = key};
    return bsearch(&wanted, batch->items, batch->item_count, sizeof wanted, compare_item_keys);
}

static forge_code items_read(struct rpc_call *call, struct batch *batch)
{
    struct db_rows rows;
    forge_code rc = db_run_many(items_statement(call, batch), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    batch->items = forge_arena_calloc(call->arena, (size_t)rows.count + 1, sizeof *batch->items);
    for (int i = 0; batch->items != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        struct result_item *item = &batch->items[batch->item_count++];
        db_row_uuid(&row, "id", &item->id);
        item->key = db_row_text_or_empty(&row, "key");
    }
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the items need too much memory");
    return FORGE_OK;
}

/* --- one result for each item and repetition --- */

static int compare_results(const void *a, const void *b)
{
    const struct result *x = *(struct result *const *)a, *y = *(struct result *const *)b;
    int order = strcmp(x->item->key, y->item->key);
    if (order == 0)
        order = (x->repetition > y->repetition) - (x->repetition < y->repetition);
    return order != 0 ? order : (x > y) - (x < y); /* in the order of the request */
}

static bool is_same_place(const struct result *a, const struct result *b)
{
    return a->repetition == b->repetition && strcmp(a->item->key, b->item->key) == 0;
}

static void results_sort(struct rpc_call *call, struct batch *batch)
{
    size_t count = 0, firsts = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct result *result = &batch->results[i];
        if (result_is_rejected(result))
            continue;
        result->item = forge_uuid_is_nil(&result->item_id) ? item_by_key(batch, result->in->item_key) : item_by_id(batch, &result->item_id);
        result_check_rules(call, &batch->rules, result);
        if (result_is_rejected(result))
            continue;
        result_hash(call, &batch->rules, result);
        batch->sorted[count++] = result;
    }
    qsort(batch->sorted, count, sizeof *batch->sorted, compare_results);
    for (size_t i = 0; i < count; i++) {
        struct result *result = batch->sorted[i];
        bool is_first = firsts == 0 || !is_same_place(batch->sorted[firsts - 1], result);
        if (is_first)
            batch->sorted[firsts++] = result;
        result->first = batch->sorted[firsts - 1];
    }
    batch->sorted_count = firsts;
}

static struct result *result_find(const struct batch *batch, const char *key, int32_t repetition)
{
    size_t low = 0, high = batch->sorted_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct result *result = batch->sorted[middle];
        int order = strcmp(key, result->item->key);
        if (order == 0)
            order = (repetition > result->repetition) - (repetition < result->repetition);
        if (order == 0)
            return result;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* The one of the batch that a row is about, which is there. */
static struct result *result_of_row(const struct batch *batch, const struct db_row *row)
{
    const char *key = db_row_text_or_empty(row, "item_key");
    return key != NULL ? result_find(batch, key, db_row_int32(row, "repetition")) : NULL;
}

static bool is_open(const struct result *result)
{
    return !result->is_stored && !result_is_rejected(result);
}

/* Finds out which of those that are still open are stored. */
static forge_code stored_read(struct rpc_call *call, const struct batch *batch)
{
    const char **keys = forge_arena_calloc(call->arena, batch->sorted_count + 1, sizeof *keys);
    const char **repetitions = forge_arena_calloc(call->arena, batch->sorted_count + 1, sizeof *repetitions);
    size_t count = 0;
    for (size_t i = 0; keys != NULL && repetitions != NULL && i < batch->sorted_count; i++) {
        if (!is_open(batch->sorted[i]))
            continue;
        keys[count] = batch->sorted[i]->item->key;
        repetitions[count] = forge_arena_printf(call->arena, "%d", batch->sorted[i]->repetition);
        count += repetitions[count] != NULL;
    }
    if (count == 0)
        return FORGE_OK; /* rpc sees an overflow */
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_RESULT_STORED);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &batch->evaluation_id);
    db_bind_text_array(q, keys, count);
    db_bind_text_array(q, repetitions, count);
    forge_code rc = db_run_many(q, &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        struct result *result = result_of_row(batch, &row);
        size_t size = 0;
        const uint8_t *hash = db_row_bytes(&row, "content_hash", &size);
        if (result == NULL || hash == NULL || size != sizeof result->stored_hash)
            continue; /* rpc sees the overflow */
        memcpy(result->stored_hash, hash, size);
        result->is_stored = true;
        result->score = db_row_double(&row, "score");
        result->passed = db_row_bool(&row, "passed");
    }
    return rc;
}

/* --- judging and storing --- */

/* Is it open, and judged: with an error it is not. */
static bool needs_expected(const struct result *result)
{
    return is_open(result) && result->in->error[0] == '\0';
}

/* Reads what is expected of the items of those that need it, as far as one call takes it. */
static forge_code expected_read(struct rpc_call *call, const struct batch *batch)
{
    struct forge_uuid *ids = forge_arena_calloc(call->arena, batch->sorted_count + 1, sizeof *ids);
    size_t count = 0;
    for (size_t i = 0; ids != NULL && i < batch->sorted_count; i++)
        if (needs_expected(batch->sorted[i]))
            ids[count++] = batch->sorted[i]->item->id;
    if (count == 0)
        return FORGE_OK; /* rpc sees an overflow */
    struct db_rows rows;
    struct db_stmt *q = db_stmt(call->db, SQL_RESULT_EXPECTED);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid_array(q, ids, count);
    db_bind_int32(q, EXPECTED_BYTES_MAX);
    forge_code rc = db_run_many(q, &rows, &call->error);
    for (int i = 0; rc == FORGE_OK && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        const char *key = db_row_text(&row, "key");
        struct result_item *item = key != NULL ? item_by_key(batch, key) : NULL;
        if (item != NULL) /* else rpc sees the overflow */
            item->expected = db_row_text(&row, "expected_output");
    }
    return rc;
}

static void reject_for_now(struct rpc_call *call, struct result *result, const char *why)
{
    reply_reject(result->verdict, FORGE_RESOURCE_EXHAUSTED,
                 forge_arena_printf(call->arena, "%s: send this one again in a call of its own or with fewer others", why));
    result->verdict->retryable = true;
}

static forge_code results_judge(struct rpc_call *call, const struct batch *batch)
{
    uint64_t work = 0;
    forge_code rc = FORGE_OK;
    for (size_t i = 0; rc == FORGE_OK && i < batch->sorted_count; i++) {
        struct result *result = batch->sorted[i];
        if (!is_open(result))
            continue;
        if (needs_expected(result) && result->item->expected == NULL)
            reject_for_now(call, result, "the expected outputs of this call are too much");
        else if (work > RESULT_CALL_WORK_MAX)
            reject_for_now(call, result, "judging the results of this call is too much work");
        else
            rc = result_judge(call, &batch->rules, result, &work);
    }
    return rc;
}

/* Results as columns, in the order of the parameters of result_add. */
enum column {
    ITEM_KEY,
    REPETITION,
    OUTPUT,
    ERROR_TEXT,
    LATENCY,
    INPUT_TOKENS,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    COST,
    PRICE_ID,
    TRACE_ID,
    SPAN_ID,
    SCORES,
    SCORE,
    PASSED,
    HASH,
    BYTES,
    COLUMNS
};

static const char *number_text(struct rpc_call *call, bool is_given, int64_t number)
{
    return is_given ? forge_arena_printf(call->arena, "%" PRId64, number) : "";
}

static void usage_columns_set(struct rpc_call *call, const char **columns[COLUMNS], size_t i, const Forge__V1__TokenUsage *usage)
{
    bool is_given = usage != NULL;
    columns[INPUT_TOKENS][i] = number_text(call, is_given, is_given ? usage->input_tokens : 0);
    columns[CACHE_READ_TOKENS][i] = number_text(call, is_given, is_given ? usage->cache_read_tokens : 0);
    columns[CACHE_WRITE_TOKENS][i] = number_text(call, is_given, is_given ? usage->cache_write_tokens : 0);
    columns[OUTPUT_TOKENS][i] = number_text(call, is_given, is_given ? usage->output_tokens : 0);
    columns[REASONING_TOKENS][i] = number_text(call, is_given, is_given ? usage->reasoning_tokens : 0);
}

static void columns_set(struct rpc_call *call, const struct batch *batch, const char **columns[COLUMNS], size_t i,
                        const struct result *result)
{
    const Forge__V1__EvaluationResult *in = result->in;
    columns[ITEM_KEY][i] = result->item->key;
    columns[REPETITION][i] = number_text(call, true, result->repetition);
    columns[OUTPUT][i] = in->output;
    columns[ERROR_TEXT][i] = in->error;
    columns[LATENCY][i] = number_text(call, in->latency_us != NULL, in->latency_us != NULL ? in->latency_us->value : 0);
    usage_columns_set(call, columns, i, in->usage);
    columns[COST][i] = number_text(call, result->has_cost, result->cost_micros);
    columns[PRICE_ID][i] = result->is_cost_computed ? reply_uuid(call, &batch->rules.price.id) : "";
    columns[TRACE_ID][i] = in->trace_id;
    columns[SPAN_ID][i] = in->span_id;
    columns[SCORES][i] = result->scores_json;
    columns[SCORE][i] = forge_arena_printf(call->arena, "%.17g", result->score);
    columns[PASSED][i] = result->passed ? "true" : "false";
    columns[HASH][i] = reply_hex(call, result->hash, sizeof result->hash);
    columns[BYTES][i] = number_text(call, true, (int64_t)(strlen(in->output) + strlen(in->error) + strlen(result->scores_json)));
}

/* NULL when nothing is left to store, or no memory. */
static struct db_stmt *add_statement(struct rpc_call *call, const struct batch *batch)
{
    size_t count = 0;
    const char **texts = forge_arena_calloc(call->arena, COLUMNS * batch->sorted_count + 1, sizeof *texts), **columns[COLUMNS];
    struct forge_uuid *item_ids = forge_arena_calloc(call->arena, batch->sorted_count + 1, sizeof *item_ids);
    if (texts == NULL || item_ids == NULL)
        return NULL;
    for (size_t c = 0; c < COLUMNS; c++)
        columns[c] = texts + c * batch->sorted_count;
    for (size_t i = 0; i < batch->sorted_count; i++) {
        if (!is_open(batch->sorted[i]))
            continue;
        item_ids[count] = batch->sorted[i]->item->id;
        columns_set(call, batch, columns, count++, batch->sorted[i]);
    }
    if (count == 0 || forge_arena_has_overflowed(call->arena))
        return NULL;
    evaluation_queue_by_id(call, SQL_RESULT_LOCK_EVALUATION, &batch->evaluation_id);
    struct db_stmt *q = db_stmt(call->db, SQL_RESULT_ADD);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &batch->evaluation_id);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid_array(q, item_ids, count);
    for (size_t c = 0; c < COLUMNS; c++)
        db_bind_text_array(q, columns[c], count);
    return q;
}

static void mark_added(const struct batch *batch, const struct db_rows *rows)
{
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        struct result *result = db_row_is_null(&row, "item_key") ? NULL : result_of_row(batch, &row);
        if (result == NULL)
            continue;
        result->is_added = result->is_stored = true;
        memcpy(result->stored_hash, result->hash, sizeof result->stored_hash);
    }
}

/* Results of others that came while these were judged are read once more. */
static forge_code results_store(struct rpc_call *call, const char *id_text, const struct batch *batch)
{
    struct db_rows rows;
    struct db_stmt *q = add_statement(call, batch);
    if (q == NULL)
        return FORGE_OK; /* rpc sees an overflow */
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "evaluation %s not found", id_text); /* deleted at the same moment */
    struct db_row first = db_rows_at(&rows, 0);
    const char *state = db_row_text_or_empty(&first, "state");
    if (state != NULL && strcmp(state, "running") != 0)
        return refuse_ended(call, state);
    mark_added(batch, &rows);
    return stored_read(call, batch);
}

/* --- verdicts --- */

static void verdict_set(struct rpc_call *call, const struct result *result, Forge__V1__AddResultsVerdict *out)
{
    const struct result *first = result->first;
    Forge__V1__ItemVerdict *verdict = result->verdict;
    if (result_is_rejected(result))
        return;
    if (!first->is_stored) { /* a copy shares the lot of the first */
        reply_reject(verdict, (forge_code)first->verdict->code, first->verdict->message);
        verdict->retryable = first->verdict->retryable;
        return;
    }
    if (memcmp(result->hash, first->stored_hash, sizeof result->hash) != 0) {
        reply_reject(verdict, FORGE_ALREADY_EXISTS,
                     forge_arena_printf(call->arena, "repetition %d of this item has another result already", result->repetition));
        return;
    }
    bool is_new = first->is_added && result == first;
    verdict->outcome = is_new ? FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED : FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_DUPLICATE;
    out->score = first->score;
    out->passed = first->passed;
}

static void verdicts_set(struct rpc_call *call, const struct batch *batch, Forge__V1__AddResultsResponse *out)
{
    int64_t added = 0;
    for (size_t i = 0; i < batch->count; i++) {
        verdict_set(call, &batch->results[i], out->verdicts[i]);
        added += out->verdicts[i]->verdict->outcome == FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
    }
    if (added > 0)
        rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_EVALUATION_RESULTS, &batch->project_id, added);
}

static forge_code results_process(struct rpc_call *call, const char *id_text, struct batch *batch)
{
    forge_code rc = items_read(call, batch);
    if (rc != FORGE_OK)
        return rc;
    results_sort(call, batch);
    rc = stored_read(call, batch);
    if (rc == FORGE_OK)
        rc = expected_read(call, batch);
    if (rc == FORGE_OK)
        rc = results_judge(call, batch);
    return rc == FORGE_OK ? results_store(call, id_text, batch) : rc;
}

forge_code evaluation_add_results(struct rpc_call *call, const Forge__V1__AddResultsRequest *in, Forge__V1__AddResultsResponse *out)
{
    struct batch batch = {0};
    forge_code rc = batch_begin(call, in, &batch, out);
    if (rc == FORGE_OK)
        rc = rules_read(call, in->evaluation_id, &batch);
    if (rc == FORGE_OK)
        rc = results_process(call, in->evaluation_id, &batch);
    evaluate_set_free(batch.rules.set);
    if (rc == FORGE_OK && !forge_arena_has_overflowed(call->arena))
        verdicts_set(call, &batch, out);
    return rc;
}
