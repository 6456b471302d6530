/* EvaluationService: evaluations as callers see them. Their results: result.c; two of them side by side:
 * compare.c. */
#include "service/evaluation/evaluation.h"

#include "evaluate/evaluate.h"
#include "rpc/page.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { REPETITIONS_MAX = 100, METADATA_MAX = 64, METADATA_BYTES_MAX = 8 << 10, METADATA_KEY_BYTES_MAX = 128, FIELD_SIZE = 64 };
enum { LIST_BYTES_MAX = 3 << 19 /* of what callers wrote: the figures of 1,000 evaluations have room in the 4 MiB of a reply too */ };

/* --- rows ------------------------------------------------------------------------------------------------------------ */

static Forge__V1__EvaluationState state_find(const char *name)
{
    return strcmp(name, "running") == 0     ? FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_RUNNING
           : strcmp(name, "completed") == 0 ? FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_COMPLETED
           : strcmp(name, "cancelled") == 0 ? FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_CANCELLED
                                            : FORGE__V1__EVALUATION_STATE__EVALUATION_STATE_UNSPECIFIED;
}

forge_code evaluation_read_lists(struct rpc_call *call, const struct db_row *row, Forge__V1__Evaluation *out)
{
    const char *evaluators = db_row_text(row, "evaluators"), *metadata = db_row_text(row, "metadata");
    ProtobufCMessage *message;
    struct forge_error error = {0};
    char *json = forge_arena_printf(call->arena, "{\"evaluators\":%s,\"metadata\":%s}", evaluators != NULL ? evaluators : "[]",
                                    metadata != NULL ? metadata : "[]");
    forge_code rc = json == NULL
                        ? FORGE_RESOURCE_EXHAUSTED
                        : forge_json_to_message(json, strlen(json), &forge__v1__evaluation__descriptor, call->arena, &message, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the evaluation needs too much memory");
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored evaluators of this evaluation cannot be read");
    const Forge__V1__Evaluation *lists = (const Forge__V1__Evaluation *)message;
    out->n_evaluators = lists->n_evaluators;
    out->evaluators = lists->evaluators;
    out->n_metadata = lists->n_metadata;
    out->metadata = lists->metadata;
    return FORGE_OK;
}

static char *hash_text(struct rpc_call *call, const struct db_row *row, const char *column)
{
    size_t size = 0;
    const uint8_t *hash = db_row_bytes(row, column, &size);
    return reply_hex(call, hash, size);
}

forge_code evaluation_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Evaluation *out)
{
    out->id = db_row_uuid_text(row, "id");
    out->project_id = db_row_uuid_text(row, "project_id");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->state = state_find(db_row_text_or_empty(row, "state"));
    out->prompt_id = db_row_uuid_text(row, "prompt_id");
    out->prompt_version = db_row_int32(row, "prompt_version");
    out->prompt_content_hash = hash_text(call, row, "prompt_content_hash");
    out->dataset_id = db_row_uuid_text(row, "dataset_id");
    out->dataset_version = db_row_int32(row, "dataset_version");
    out->dataset_content_hash = hash_text(call, row, "dataset_content_hash");
    out->repetitions = db_row_int32(row, "repetitions");
    out->pass_threshold = db_row_double(row, "pass_threshold");
    out->model_id = db_row_uuid_text(row, "model_id");
    out->creator_id = db_row_uuid_text(row, "created_by");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->end_time = reply_time(call, row, "ended_at");
    out->etag = reply_etag(call, row);
    out->summary = reply_message(call, &forge__v1__evaluation_summary__descriptor);
    if (out->summary != NULL)
        out->summary->expected_result_count = db_row_int64(row, "expected_result_count");
    return evaluation_read_lists(call, row, out);
}

/* --- CreateEvaluation ------------------------------------------------------------------------------------------------ */

struct creation {
    struct forge_uuid id, project_id, prompt_id, dataset_id, model_id;
    double pass_threshold;
    int32_t repetitions;
    const char *evaluators_json, *metadata_json;
};

static bool key_is_given_before(const Forge__V1__CreateEvaluationRequest *in, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(in->metadata[i]->key, in->metadata[index]->key) == 0)
            return true;
    return false;
}

static void metadata_check(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in)
{
    size_t bytes = 0;
    if (in->n_metadata > METADATA_MAX)
        rpc_call_violation(call, "metadata", "must be at most %d pairs", METADATA_MAX);
    for (size_t i = 0; i < in->n_metadata && i < METADATA_MAX; i++) {
        char field[FIELD_SIZE];
        size_t key_size = strlen(in->metadata[i]->key);
        snprintf(field, sizeof field, "metadata[%zu].key", i);
        if (key_size < 1 || key_size > METADATA_KEY_BYTES_MAX)
            rpc_call_violation(call, field, "must be 1 to %d bytes", METADATA_KEY_BYTES_MAX);
        else if (key_is_given_before(in, i))
            rpc_call_violation(call, field, "is given twice");
        bytes += key_size + strlen(in->metadata[i]->value);
    }
    if (bytes > METADATA_BYTES_MAX)
        rpc_call_violation(call, "metadata", "must be at most %d bytes together", METADATA_BYTES_MAX);
}

/* Compiles the evaluators, which notes what is wrong with them, and fills in the defaults, as they are told from now on. */
static forge_code evaluators_check(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in)
{
    struct evaluate_set *set = NULL;
    forge_code rc =
        evaluate_prepare((const Forge__V1__Evaluator *const *)in->evaluators, in->n_evaluators, call->arena, &call->error, &set);
    if (rc == FORGE_INVALID_ARGUMENT)
        return FORGE_OK; /* its violations are noted */
    if (rc != FORGE_OK)
        return rpc_call_fail(call, rc, "the evaluators need too much memory");
    for (size_t i = 0; i < in->n_evaluators; i++) {
        Forge__V1__Evaluator *evaluator = in->evaluators[i];
        char *name = forge_arena_strdup(call->arena, evaluate_name(set, i));
        evaluator->name = name != NULL ? name : evaluator->name; /* rpc sees the overflow */
        evaluator->weight = evaluator->weight > 0 ? evaluator->weight : 1;
        evaluator->threshold = evaluator->threshold > 0 ? evaluator->threshold : 1;
    }
    evaluate_set_free(set);
    return FORGE_OK;
}

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in, struct creation *creation)
{
    validate_uuid(call, "project_id", in->project_id, &creation->project_id);
    validate_name(call, "name", in->name);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    validate_uuid(call, "prompt_id", in->prompt_id, &creation->prompt_id);
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must be 0 or more");
    validate_uuid(call, "dataset_id", in->dataset_id, &creation->dataset_id);
    if (in->dataset_version < 0)
        rpc_call_violation(call, "dataset_version", "must be 0 or more");
    if (in->repetitions < 0 || in->repetitions > REPETITIONS_MAX)
        rpc_call_violation(call, "repetitions", "must be 0 to %d", REPETITIONS_MAX);
    creation->repetitions = in->repetitions > 0 ? in->repetitions : 1;
    creation->pass_threshold = in->pass_threshold != NULL ? in->pass_threshold->value : 1;
    if (!(creation->pass_threshold >= 0 && creation->pass_threshold <= 1)) /* also not a number */
        rpc_call_violation(call, "pass_threshold", "must be 0 to 1");
    if (in->model_id[0] != '\0')
        validate_uuid(call, "model_id", in->model_id, &creation->model_id);
    metadata_check(call, in);
    forge_code rc = evaluators_check(call, in);
    return rc == FORGE_OK ? validate_end_in_project(call, &creation->project_id) : rc;
}

/* The two lists as they are stored. */
static void lists_write(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in, struct creation *creation)
{
    const struct forge_json_options options = {0};
    Forge__V1__Evaluation lists = FORGE__V1__EVALUATION__INIT;
    lists.n_evaluators = in->n_evaluators;
    lists.evaluators = in->evaluators;
    creation->evaluators_json = forge_json_from_message(&lists.base, &options, call->arena);
    lists.n_evaluators = 0;
    lists.n_metadata = in->n_metadata;
    lists.metadata = in->metadata;
    creation->metadata_json = in->n_metadata > 0 ? forge_json_from_message(&lists.base, &options, call->arena) : NULL;
}

static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in,
                                        const struct creation *creation)
{
    evaluation_queue_by_id(call, SQL_EVALUATION_LOCK_DATASET, &creation->dataset_id);
    evaluation_queue_by_id(call, SQL_EVALUATION_LOCK_PROMPT, &creation->prompt_id);
    struct db_stmt *q = db_stmt(call->db, SQL_EVALUATION_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &creation->project_id);
    db_bind_uuid(q, &creation->prompt_id);
    db_bind_int32(q, in->prompt_version);
    db_bind_uuid(q, &creation->dataset_id);
    db_bind_int32(q, in->dataset_version);
    db_bind_uuid(q, &creation->id);
    db_bind_text(q, in->name);
    db_bind_text(q, creation->evaluators_json);
    db_bind_int32(q, creation->repetitions);
    db_bind_double(q, creation->pass_threshold);
    db_bind_text(q, creation->metadata_json);
    db_bind_uuid(q, in->model_id[0] != '\0' ? &creation->model_id : NULL);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_uuid(q, &call->principal.id);
    db_bind_time_us(q, call->now_us);
    return q;
}

/* Why there is no evaluation. */
static forge_code create_refuse(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in, const struct db_row *row)
{
    if (!db_row_bool(row, "project_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    if (!db_row_bool(row, "prompt_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found in this project", in->prompt_id);
    if (!db_row_bool(row, "version_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the prompt has no version %d", in->prompt_version);
    if (!db_row_bool(row, "dataset_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "dataset %s not found in this project", in->dataset_id);
    if (!db_row_bool(row, "dataset_version_found") && in->dataset_version > 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the dataset has no version %d", in->dataset_version);
    if (!db_row_bool(row, "model_found"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "model %s not found", in->model_id);
    return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "this version of the dataset has no items");
}

forge_code evaluation_create(struct rpc_call *call, const Forge__V1__CreateEvaluationRequest *in, Forge__V1__Evaluation *out)
{
    struct creation creation = {0};
    struct db_row row;
    forge_code rc = create_check(call, in, &creation);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&creation.id);
    lists_write(call, in, &creation);
    if (creation.evaluators_json == NULL || forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the evaluation needs too much memory");
    rc = db_run_one(create_statement(call, in, &creation), &row, &call->error);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "evaluations_model_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the model was deleted at the same moment");
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "id"))
        return create_refuse(call, in, &row);
    rc = evaluation_from_row(call, &row, out);
    if (rc == FORGE_OK)
        evaluation_begin_figures(call, out);
    return rc;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

const char *evaluation_lower_case(struct rpc_call *call, const char *text)
{
    char *copy = forge_arena_strdup(call->arena, text);
    for (size_t i = 0; copy != NULL && copy[i] != '\0'; i++)
        copy[i] = (char)tolower((unsigned char)copy[i]);
    return copy != NULL ? copy : "";
}

void evaluation_queue_by_id(struct rpc_call *call, enum sql_id statement, const struct forge_uuid *id)
{
    struct db_stmt *q = db_stmt(call->db, statement);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_queue(q);
}

forge_code evaluation_get(struct rpc_call *call, const Forge__V1__GetEvaluationRequest *in, Forge__V1__Evaluation *out)
{
    struct forge_uuid id;
    struct db_row row;
    if (!validate_uuid(call, "id", in->id, &id))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_EVALUATION_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    forge_code rc = reply_run_found(call, q, "evaluation", in->id, &row);
    if (rc == FORGE_OK)
        rc = evaluation_from_row(call, &row, out);
    return rc == FORGE_OK ? evaluation_read_figures(call, 1, &out) : rc;
}

/* What ListEvaluations filters by, checked; NULL and nil in it are any. */
struct filter {
    struct forge_uuid project_id, prompt_id, dataset_id;
    const char *state, *text;
};

static void filter_check(struct rpc_call *call, const Forge__V1__ListEvaluationsRequest *in, struct filter *filter)
{
    static const char *const states[] = {NULL, "running", "completed", "cancelled"};
    validate_uuid(call, "project_id", in->project_id, &filter->project_id);
    if ((unsigned)in->state >= sizeof states / sizeof states[0])
        rpc_call_violation(call, "state", "must be running, completed or cancelled");
    else
        filter->state = states[in->state];
    if (in->prompt_id[0] != '\0')
        validate_uuid(call, "prompt_id", in->prompt_id, &filter->prompt_id);
    if (in->prompt_version < 0)
        rpc_call_violation(call, "prompt_version", "must be 0 or more");
    else if (in->prompt_version > 0 && in->prompt_id[0] == '\0')
        rpc_call_violation(call, "prompt_version", "needs prompt_id");
    if (in->dataset_id[0] != '\0')
        validate_uuid(call, "dataset_id", in->dataset_id, &filter->dataset_id);
    filter->text = forge_arena_printf(call->arena, "%s|%d|%s|%d|%s", in->project_id, (int)in->state, in->prompt_id, in->prompt_version,
                                      in->dataset_id);
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListEvaluationsRequest *in, const struct filter *filter,
                           const struct rpc_page *page, struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, SQL_EVALUATION_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &filter->project_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_uuid(q, page->has_key ? &page->last_id : NULL);
    db_bind_text(q, filter->state);
    db_bind_uuid(q, in->prompt_id[0] != '\0' ? &filter->prompt_id : NULL);
    db_bind_int32(q, in->prompt_version);
    db_bind_uuid(q, in->dataset_id[0] != '\0' ? &filter->dataset_id : NULL);
    db_bind_int32(q, page->size + 1);
    db_bind_int32(q, LIST_BYTES_MAX);
    return db_run_many(q, rows, &call->error);
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListEvaluationsResponse *out)
{
    out->evaluations = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->evaluations[0]);
    for (int i = 0; out->evaluations != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Evaluation *evaluation = reply_message(call, &forge__v1__evaluation__descriptor);
        if (evaluation == NULL || db_row_is_null(&row, "id"))
            return FORGE_OK; /* rpc sees an overflow; or the one row of a project without evaluations */
        forge_code rc = evaluation_from_row(call, &row, evaluation);
        if (rc != FORGE_OK)
            return rc;
        out->evaluations[out->n_evaluations++] = evaluation;
    }
    return evaluation_read_figures(call, out->n_evaluations, out->evaluations);
}

forge_code evaluation_list(struct rpc_call *call, const Forge__V1__ListEvaluationsRequest *in, Forge__V1__ListEvaluationsResponse *out)
{
    struct filter filter = {0};
    struct rpc_page page;
    struct db_rows rows;
    struct forge_uuid last;
    filter_check(call, in, &filter);
    size_t filter_size = filter.text != NULL ? strlen(filter.text) : 0;
    rpc_page_read(call, in->page_size, in->page_token, filter.text, filter_size, &page);
    forge_code rc = validate_end_in_project(call, &filter.project_id);
    if (rc == FORGE_OK)
        rc = list_run(call, in, &filter, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    rc = list_fill(call, &rows, rows.count < page.size ? rows.count : page.size, out);
    struct db_row first = db_rows_at(&rows, 0);
    if (rc == FORGE_OK && out->n_evaluations > 0 && db_row_int64(&first, "found") > (int64_t)out->n_evaluations &&
        forge_uuid_parse(out->evaluations[out->n_evaluations - 1]->id, &last))
        out->next_page_token = rpc_page_next(call, filter.text, filter_size, NULL, 0, &last);
    return rc;
}

/* --- ending and deleting --------------------------------------------------------------------------------------------- */

static forge_code end_check(struct rpc_call *call, const char *id_text, const char *etag, struct forge_uuid *id)
{
    validate_uuid(call, "id", id_text, id);
    validate_etag(call, "etag", etag);
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

/* allow_incomplete: of no interest to one that is cancelled. */
static forge_code end(struct rpc_call *call, const char *id_text, const char *etag, const char *state, bool allow_incomplete,
                      Forge__V1__Evaluation *out)
{
    struct forge_uuid id;
    struct db_row row;
    forge_code rc = end_check(call, id_text, etag, &id);
    if (rc != FORGE_OK)
        return rc;
    evaluation_queue_by_id(call, SQL_EVALUATION_LOCK, &id);
    struct db_stmt *q = db_stmt(call->db, SQL_EVALUATION_END);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, state);
    db_bind_time_us(q, call->now_us);
    rc = reply_run_found(call, q, "evaluation", id_text, &row);
    if (rc != FORGE_OK)
        return rc;
    const char *old_state = db_row_text_or_empty(&row, "old_state");
    if (!reply_etag_matches(etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the evaluation has changed since this etag was read");
    if (old_state == NULL || strcmp(old_state, "running") != 0)
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "the evaluation is %s already", old_state != NULL ? old_state : "over");
    int64_t missing = db_row_int64(&row, "expected_result_count") - db_row_int64(&row, "result_count");
    if (missing > 0 && !allow_incomplete)
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "%lld results are missing; allow_incomplete completes it without them",
                             (long long)missing);
    rc = evaluation_from_row(call, &row, out);
    return rc == FORGE_OK ? evaluation_read_figures(call, 1, &out) : rc;
}

forge_code evaluation_complete(struct rpc_call *call, const Forge__V1__CompleteEvaluationRequest *in, Forge__V1__Evaluation *out)
{
    return end(call, in->id, in->etag, "completed", in->allow_incomplete, out);
}

forge_code evaluation_cancel(struct rpc_call *call, const Forge__V1__CancelEvaluationRequest *in, Forge__V1__Evaluation *out)
{
    return end(call, in->id, in->etag, "cancelled", true, out);
}

forge_code evaluation_delete(struct rpc_call *call, const Forge__V1__DeleteEvaluationRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid id;
    struct db_row row;
    forge_code rc = end_check(call, in->id, in->etag, &id);
    if (rc != FORGE_OK)
        return rc;
    evaluation_queue_by_id(call, SQL_EVALUATION_LOCK, &id);
    struct db_stmt *q = db_stmt(call->db, SQL_EVALUATION_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    rc = reply_run_found(call, q, "evaluation", in->id, &row);
    if (rc == FORGE_OK && !reply_etag_matches(in->etag, db_row_int64(&row, "row_version")))
        return rpc_call_fail(call, FORGE_ABORTED, "the evaluation has changed since this etag was read");
    return rc;
}
