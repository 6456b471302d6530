/* PromptService: what people and programs say of their use of a prompt, one by one and added up. */
#include "rpc/page.h"
#include "rpc/usage.h"
#include "rpc/write.h"
#include "service/prompt/prompt.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTES_CHARACTERS_MAX = 16384, BATCH_MAX = 1000, RATING_MAX = 5, AHEAD_MINUTES_MAX = 10 };

/* --- recording --------------------------------------------------------------------------------------- */

/* A request with its defaults filled in. */
struct execution {
    struct forge_uuid prompt_id;
    int64_t executed_us;
    bool success;
};

static void execution_check(struct rpc_call *call, const Forge__V1__RecordExecutionRequest *in, struct execution *out)
{
    *out = (struct execution){.executed_us = call->now_us, .success = in->success == NULL || in->success->value};
    validate_uuid(call, "prompt_id", in->prompt_id, &out->prompt_id);
    if (in->version < 0)
        rpc_call_violation(call, "version", "must be 0 or more");
    if (in->rating < 0 || in->rating > RATING_MAX)
        rpc_call_violation(call, "rating", "must be 1 to %d, or 0 for none", RATING_MAX);
    validate_text(call, "notes", in->notes, NOTES_CHARACTERS_MAX);
    if (in->execute_time == NULL || !validate_time(call, "execute_time", in->execute_time, &out->executed_us))
        return;
    if (out->executed_us > call->now_us + AHEAD_MINUTES_MAX * INT64_C(60000000))
        rpc_call_violation(call, "execute_time", "must be at most %d minutes ahead", AHEAD_MINUTES_MAX);
}

static void count_recorded(struct rpc_call *call, const struct db_row *row)
{
    struct forge_uuid project_id;
    db_row_uuid(row, "project_id", &project_id);
    rpc_usage_add(call, FORGE__V1__USAGE_METRIC__USAGE_METRIC_EXECUTIONS, &project_id, 1);
}

static struct db_stmt *record_statement(struct rpc_call *call, const Forge__V1__RecordExecutionRequest *in,
                                        const struct execution *execution)
{
    struct db_stmt *q = db_stmt(call->db, SQL_EXECUTION_RECORD);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &execution->prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    if (in->version > 0)
        db_bind_int32(q, in->version);
    else
        db_bind_null(q);
    if (in->rating > 0)
        db_bind_int32(q, in->rating);
    else
        db_bind_null(q);
    db_bind_bool(q, execution->success);
    db_bind_text(q, in->notes[0] != '\0' ? in->notes : NULL);
    db_bind_time_us(q, execution->executed_us);
    return q;
}

forge_code prompt_record_execution(struct rpc_call *call, const Forge__V1__RecordExecutionRequest *in, Forge__V1__Execution *out)
{
    struct execution execution;
    execution_check(call, in, &execution);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_row row;
    forge_code rc = reply_run_found(call, record_statement(call, in, &execution), "prompt", in->prompt_id, &row);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "executions_prompt_id_fkey"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", in->prompt_id); /* deleted at the same moment */
    if (rc != FORGE_OK)
        return rc;
    if (db_row_is_null(&row, "id"))
        return rpc_call_fail(call, FORGE_NOT_FOUND, "version %d of this prompt not found", in->version);
    out->id = db_row_int64(&row, "id");
    out->prompt_id = db_row_uuid_text(&row, "prompt_id");
    out->version = db_row_int32(&row, "version");
    out->rating = in->rating;
    out->success = execution.success;
    out->notes = in->notes;
    out->execute_time = reply_time_us(call, execution.executed_us);
    count_recorded(call, &row);
    return FORGE_OK;
}

/* --- batches ----------------------------------------------------------------------------------------- */

/* The items that are well formed, as columns; index: which item of the request each is. */
struct batch {
    size_t count, *index;
    struct forge_uuid *prompt_ids;
    const char **versions, **ratings, **successes, **notes, **times;
};

static bool batch_new(struct rpc_call *call, size_t room, struct batch *out)
{
    const char **texts = forge_arena_calloc(call->arena, 5 * room, sizeof *texts);
    *out = (struct batch){.index = forge_arena_calloc(call->arena, room, sizeof *out->index),
                          .prompt_ids = forge_arena_calloc(call->arena, room, sizeof *out->prompt_ids)};
    if (texts == NULL || out->index == NULL || out->prompt_ids == NULL)
        return false;
    out->versions = texts;
    out->ratings = texts + room;
    out->successes = texts + 2 * room;
    out->notes = texts + 3 * room;
    out->times = texts + 4 * room;
    return true;
}

static void batch_add(struct rpc_call *call, struct batch *batch, size_t index, const Forge__V1__RecordExecutionRequest *in,
                      const struct execution *execution)
{
    size_t i = batch->count++;
    batch->index[i] = index;
    batch->prompt_ids[i] = execution->prompt_id;
    batch->versions[i] = forge_arena_printf(call->arena, "%d", in->version);
    batch->ratings[i] = forge_arena_printf(call->arena, "%d", in->rating);
    batch->successes[i] = execution->success ? "true" : "false";
    batch->notes[i] = in->notes;
    batch->times[i] = forge_arena_printf(call->arena, "%" PRId64, execution->executed_us);
}

static Forge__V1__RecordExecutionsResult *result_add(struct rpc_call *call, Forge__V1__RecordExecutionsResponse *out)
{
    Forge__V1__RecordExecutionsResult *result = reply_message(call, &forge__v1__record_executions_result__descriptor);
    if (result != NULL)
        result->verdict = reply_message(call, &forge__v1__item_verdict__descriptor);
    if (result == NULL || result->verdict == NULL)
        return NULL;
    out->results[out->n_results++] = result;
    return result;
}

/* Checks every item: the good ones go into the batch, the others have their verdict. */
static forge_code batch_fill(struct rpc_call *call, const Forge__V1__RecordExecutionsRequest *in, struct batch *batch,
                             Forge__V1__RecordExecutionsResponse *out)
{
    out->results = forge_arena_calloc(call->arena, in->n_requests, sizeof out->results[0]);
    bool has_room = batch_new(call, in->n_requests, batch) && out->results != NULL;
    for (size_t i = 0; has_room && i < in->n_requests; i++) {
        struct execution execution;
        Forge__V1__RecordExecutionsResult *result = result_add(call, out);
        if (result == NULL)
            break;
        execution_check(call, in->requests[i], &execution);
        if (rpc_call_has_violations(call))
            reply_reject_invalid(call, result->verdict);
        else
            batch_add(call, batch, i, in->requests[i], &execution);
    }
    if (forge_arena_has_overflowed(call->arena))
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "the batch needs too much memory");
    return FORGE_OK;
}

static struct db_stmt *batch_statement(struct rpc_call *call, const struct batch *batch)
{
    struct db_stmt *lock = db_stmt(call->db, SQL_EXECUTION_LOCK_PROMPTS);
    db_bind_uuid(lock, &call->principal.organization_id);
    db_bind_uuid_array(lock, batch->prompt_ids, batch->count);
    db_queue(lock);
    struct db_stmt *q = db_stmt(call->db, SQL_EXECUTION_RECORD_MANY);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid_array(q, batch->prompt_ids, batch->count);
    db_bind_text_array(q, batch->versions, batch->count);
    db_bind_text_array(q, batch->ratings, batch->count);
    db_bind_text_array(q, batch->successes, batch->count);
    db_bind_text_array(q, batch->notes, batch->count);
    db_bind_text_array(q, batch->times, batch->count);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    return q;
}

forge_code prompt_record_executions(struct rpc_call *call, const Forge__V1__RecordExecutionsRequest *in,
                                    Forge__V1__RecordExecutionsResponse *out)
{
    struct batch batch;
    if (in->n_requests < 1 || in->n_requests > BATCH_MAX) {
        rpc_call_violation(call, "requests", "must be 1 to %d", BATCH_MAX);
        return rpc_call_invalid(call);
    }
    forge_code rc = batch_fill(call, in, &batch, out);
    if (rc != FORGE_OK)
        return rc;
    struct db_rows rows;
    rc = db_run_many(batch_statement(call, &batch), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        const Forge__V1__RecordExecutionRequest *item = in->requests[batch.index[i]];
        Forge__V1__RecordExecutionsResult *result = out->results[batch.index[i]];
        result->execution_id = db_row_int64(&row, "id");
        if (result->execution_id > 0) {
            result->verdict->outcome = FORGE__V1__ITEM_OUTCOME__ITEM_OUTCOME_ACCEPTED;
            count_recorded(call, &row);
        } else if (db_row_is_null(&row, "prompt_id"))
            reply_reject(result->verdict, FORGE_NOT_FOUND, forge_arena_printf(call->arena, "prompt %s not found", item->prompt_id));
        else
            reply_reject(result->verdict, FORGE_NOT_FOUND,
                         forge_arena_printf(call->arena, "version %d of this prompt not found", item->version));
    }
    return FORGE_OK;
}

/* --- reading ----------------------------------------------------------------------------------------- */

static struct db_stmt *list_statement(struct rpc_call *call, const Forge__V1__ListExecutionsRequest *in, const struct forge_uuid *prompt_id,
                                      int64_t start_us, int64_t end_us, const struct rpc_page *page)
{
    struct db_stmt *q = db_stmt(call->db, SQL_EXECUTION_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_time_us(q, start_us);
    db_bind_time_us(q, page->has_key ? page->last_number : end_us);
    db_bind_int64(q, page->has_key ? strtoll(page->last_name, NULL, 10) : 0); /* ids begin with 1 */
    db_bind_int32(q, in->version > 0 ? in->version : 1);
    db_bind_int32(q, in->version > 0 ? in->version : INT32_MAX);
    if (in->success != NULL)
        db_bind_bool(q, in->success->value);
    else
        db_bind_null(q);
    if (in->rating > 0)
        db_bind_int32(q, in->rating);
    else
        db_bind_null(q);
    db_bind_int32(q, page->size + 1);
    db_bind_int64(q, PROMPT_REPLY_CONTENT_BYTES_MAX);
    return q;
}

static void listed_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__Execution *execution = message;
    execution->id = db_row_int64(row, "id");
    execution->prompt_id = db_row_uuid_text(row, "prompt_id");
    execution->version = db_row_int32(row, "version");
    execution->rating = db_row_int32(row, "rating");
    execution->success = db_row_bool(row, "success");
    execution->notes = db_row_text_or_empty(row, "notes");
    execution->execute_time = reply_time(call, row, "executed_at");
}

/* The page after this row: behind its time and id. */
static char *list_next(struct rpc_call *call, const char *filter, const struct db_rows *rows, int last)
{
    struct db_row row = db_rows_at(rows, last);
    char id[24];
    snprintf(id, sizeof id, "%" PRId64, db_row_int64(&row, "id"));
    return rpc_page_next(call, filter, filter != NULL ? strlen(filter) : 0, id, db_row_time_us(&row, "executed_at"),
                         &(struct forge_uuid){0});
}

forge_code prompt_list_executions(struct rpc_call *call, const Forge__V1__ListExecutionsRequest *in, Forge__V1__ListExecutionsResponse *out)
{
    struct forge_uuid prompt_id;
    struct rpc_page page;
    int64_t start_us, end_us;
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    validate_time_range(call, in->start_time, in->end_time, &start_us, &end_us);
    const char *filter = forge_arena_printf(call->arena, "%s|%d|%d|%d|%" PRId64 "|%" PRId64, in->prompt_id, in->version,
                                            in->success == NULL ? -1 : in->success->value, in->rating, start_us, end_us);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter != NULL ? strlen(filter) : 0, &page);
    if (in->version < 0)
        rpc_call_violation(call, "version", "must be 0 or more");
    if (in->rating < 0 || in->rating > RATING_MAX)
        rpc_call_violation(call, "rating", "must be 1 to %d, or 0 for all", RATING_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_rows rows;
    forge_code rc = db_run_many(list_statement(call, in, &prompt_id, start_us, end_us, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", in->prompt_id);
    struct db_row first = db_rows_at(&rows, 0);
    if (db_row_is_null(&first, "id"))
        return FORGE_OK;
    int count = rows.count < page.size ? rows.count : page.size;
    out->executions = reply_list(call, &rows, count, &forge__v1__execution__descriptor, listed_from_row, &out->n_executions);
    if (db_row_int64(&first, "found") > count)
        out->next_page_token = list_next(call, filter, &rows, count - 1);
    return FORGE_OK;
}

static Forge__V1__PromptVersionStats *stats_from_row(struct rpc_call *call, const struct db_row *row)
{
    static const char *const columns[RATING_MAX] = {"rated_1", "rated_2", "rated_3", "rated_4", "rated_5"};
    Forge__V1__PromptVersionStats *stats = reply_message(call, &forge__v1__prompt_version_stats__descriptor);
    int64_t sum = 0;
    if (stats == NULL)
        return NULL;
    stats->version = db_row_int32(row, "version");
    stats->execution_count = db_row_int64(row, "execution_count");
    stats->success_count = db_row_int64(row, "success_count");
    stats->rating_counts = forge_arena_calloc(call->arena, RATING_MAX, sizeof stats->rating_counts[0]);
    for (size_t i = 0; stats->rating_counts != NULL && i < RATING_MAX; i++) {
        stats->rating_counts[i] = db_row_int64(row, columns[i]);
        stats->n_rating_counts++;
        stats->rated_count += stats->rating_counts[i];
        sum += stats->rating_counts[i] * (int64_t)(i + 1);
    }
    if (stats->execution_count > 0)
        stats->success_rate = (double)stats->success_count / (double)stats->execution_count;
    if (stats->rated_count > 0)
        stats->average_rating = (double)sum / (double)stats->rated_count;
    stats->first_execute_time = reply_time(call, row, "first_executed_at");
    stats->last_execute_time = reply_time(call, row, "last_executed_at");
    stats->archived_left_out_count = db_row_int64(row, "archived_left_out_count");
    return stats;
}

forge_code prompt_get_stats(struct rpc_call *call, const Forge__V1__GetPromptStatsRequest *in, Forge__V1__PromptStats *out)
{
    struct forge_uuid prompt_id;
    int64_t start_us, end_us;
    validate_uuid(call, "prompt_id", in->prompt_id, &prompt_id);
    validate_time_range(call, in->start_time, in->end_time, &start_us, &end_us);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_EXECUTION_STATS);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &prompt_id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_time_us(q, start_us);
    db_bind_time_us(q, end_us);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "prompt %s not found", in->prompt_id);
    struct db_row first = db_rows_at(&rows, 0);
    out->prompt_id = db_row_uuid_text(&first, "prompt_id");
    out->total = stats_from_row(call, &first);
    out->versions = forge_arena_calloc(call->arena, (size_t)rows.count, sizeof out->versions[0]);
    for (int i = 1; out->versions != NULL && i < rows.count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        Forge__V1__PromptVersionStats *stats = stats_from_row(call, &row);
        if (stats == NULL)
            break; /* rpc sees the overflow */
        out->versions[out->n_versions++] = stats;
    }
    return FORGE_OK;
}
