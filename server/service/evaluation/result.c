/* EvaluationService/ListResults. */
#include "rpc/page.h"
#include "service/evaluation/evaluation.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <string.h>

enum { PAGE_BYTES_MAX = 3 << 20 /* of contents, so that a page stays below the reply limit of 4 MiB */ };

static Google__Protobuf__Int64Value *number_of(struct rpc_call *call, const struct db_row *row, const char *column)
{
    Google__Protobuf__Int64Value *number = NULL;
    if (!db_row_is_null(row, column))
        number = reply_message(call, &google__protobuf__int64_value__descriptor);
    if (number != NULL)
        number->value = db_row_int64(row, column);
    return number;
}

static forge_code scores_read(struct rpc_call *call, const struct db_row *row, Forge__V1__EvaluationResult *out)
{
    ProtobufCMessage *message;
    struct forge_error error = {0};
    char *json = forge_arena_printf(call->arena, "{\"evaluator_scores\":%s}", db_row_text_or_empty(row, "evaluator_scores"));
    forge_code rc =
        json == NULL ? FORGE_RESOURCE_EXHAUSTED
                     : forge_json_to_message(json, strlen(json), &forge__v1__evaluation_result__descriptor, call->arena, &message, &error);
    if (rc == FORGE_RESOURCE_EXHAUSTED)
        return rpc_call_fail(call, rc, "the results need too much memory");
    if (rc != FORGE_OK)
        return rpc_call_fail(call, FORGE_DATA_LOSS, "the stored scores of a result cannot be read");
    const Forge__V1__EvaluationResult *scores = (const Forge__V1__EvaluationResult *)message;
    out->n_evaluator_scores = scores->n_evaluator_scores;
    out->evaluator_scores = scores->evaluator_scores;
    return FORGE_OK;
}

static forge_code result_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__EvaluationResult *out)
{
    out->item_key = db_row_text(row, "item_key");
    out->item_id = db_row_uuid_text(row, "item_id");
    out->repetition = db_row_int32(row, "repetition");
    out->output = db_row_text(row, "output");
    out->error = db_row_text_or_empty(row, "error");
    out->latency_us = number_of(call, row, "latency_us");
    out->usage = db_row_is_null(row, "input_tokens") ? NULL : reply_usage(call, row);
    out->cost_micros = number_of(call, row, "cost_micros");
    out->trace_id = db_row_text_or_empty(row, "trace_id");
    out->span_id = db_row_text_or_empty(row, "span_id");
    out->score = db_row_double(row, "score");
    out->passed = db_row_bool(row, "passed");
    out->create_time = reply_time(call, row, "created_at");
    return scores_read(call, row, out);
}

static struct db_stmt *list_statement(struct rpc_call *call, const Forge__V1__ListResultsRequest *in, const struct forge_uuid *id,
                                      const struct rpc_page *page)
{
    struct db_stmt *q = db_stmt(call->db, SQL_RESULT_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_text(q, page->has_key ? page->last_name : in->item_key);
    db_bind_int32(q, page->has_key ? (int32_t)page->last_number : 0);
    if (in->passed != NULL)
        db_bind_bool(q, in->passed->value);
    else
        db_bind_null(q);
    db_bind_text(q, in->item_key[0] != '\0' ? in->item_key : validate_prefix_end("", call->arena));
    db_bind_int32(q, page->size + 1);
    db_bind_int32(q, PAGE_BYTES_MAX);
    return q;
}

static forge_code list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListResultsResponse *out)
{
    out->results = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->results[0]);
    for (int i = 0; out->results != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__EvaluationResult *result = reply_message(call, &forge__v1__evaluation_result__descriptor);
        if (result == NULL || db_row_is_null(&row, "item_key"))
            return FORGE_OK; /* rpc sees an overflow; or the one row of an evaluation without results */
        forge_code rc = result_from_row(call, &row, result);
        if (rc != FORGE_OK)
            return rc;
        out->results[out->n_results++] = result;
    }
    return FORGE_OK;
}

forge_code evaluation_list_results(struct rpc_call *call, const Forge__V1__ListResultsRequest *in, Forge__V1__ListResultsResponse *out)
{
    struct forge_uuid id;
    struct rpc_page page;
    struct db_rows rows;
    int passed = in->passed == NULL ? -1 : in->passed->value;
    const char *filter = forge_arena_printf(call->arena, "%s|%d|%s", in->evaluation_id, passed, in->item_key);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    validate_uuid(call, "evaluation_id", in->evaluation_id, &id);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    validate_name_or_empty(call, "item_key", in->item_key);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = db_run_many(list_statement(call, in, &id, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "evaluation %s not found", in->evaluation_id);
    rc = list_fill(call, &rows, rows.count < page.size ? rows.count : page.size, out);
    struct db_row first = db_rows_at(&rows, 0);
    if (rc == FORGE_OK && out->n_results > 0 && db_row_int64(&first, "found") > (int64_t)out->n_results) {
        const Forge__V1__EvaluationResult *last = out->results[out->n_results - 1];
        out->next_page_token = rpc_page_next(call, filter, filter_size, last->item_key, last->repetition, &(struct forge_uuid){0});
    }
    return rc;
}
