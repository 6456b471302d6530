/* EvaluationService: datasets. What is in them: dataset_item.c. */
#include "db/stmt.h"
#include "rpc/page.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

static void dataset_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Dataset *out)
{
    out->id = db_row_uuid_text(row, "id");
    out->project_id = db_row_uuid_text(row, "project_id");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->latest_version = db_row_int32(row, "latest_version");
    out->item_count = db_row_int32(row, "item_count");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
}

forge_code evaluation_create_dataset(struct rpc_call *call, const Forge__V1__CreateDatasetRequest *in, Forge__V1__Dataset *out)
{
    struct forge_uuid project_id, id;
    validate_uuid(call, "project_id", in->project_id, &project_id);
    validate_name(call, "name", in->name);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    forge_code rc = validate_end_in_project(call, &project_id);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&id);
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &project_id);
    db_bind_uuid(q, &id);
    db_bind_text(q, in->name);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    struct db_row row;
    rc = reply_run_found(call, q, "project", in->project_id, &row);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_datasets_name"))
        return rpc_call_fail(call, rc, "a dataset named \"%s\" exists already in this project", in->name);
    if (rc == FORGE_OK)
        dataset_from_row(call, &row, out);
    return rc;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static forge_code get_by_id(struct rpc_call *call, const char *id_text, struct db_row *out_row)
{
    struct forge_uuid id;
    if (!validate_uuid(call, "id", id_text, &id))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    return reply_run_found(call, q, "dataset", id_text, out_row);
}

static forge_code get_by_name(struct rpc_call *call, const Forge__V1__GetDatasetRequest *in, struct db_row *out_row)
{
    struct forge_uuid project_id;
    validate_uuid(call, "project_id", in->project_id, &project_id);
    validate_name(call, "name", in->name);
    forge_code rc = validate_end_in_project(call, &project_id);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_GET_BY_NAME);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &project_id);
    db_bind_text(q, in->name);
    bool found;
    rc = db_run_optional(q, out_row, &found, &call->error);
    return rc == FORGE_OK && !found ? rpc_call_fail(call, FORGE_NOT_FOUND, "dataset \"%s\" not found", in->name) : rc;
}

forge_code evaluation_get_dataset(struct rpc_call *call, const Forge__V1__GetDatasetRequest *in, Forge__V1__Dataset *out)
{
    bool by_id = in->id[0] != '\0', by_name = in->name[0] != '\0' || in->project_id[0] != '\0';
    if (by_id == by_name) {
        rpc_call_violation(call, "id", "either id, or project_id and name, is required");
        return rpc_call_invalid(call);
    }
    struct db_row row;
    forge_code rc = by_id ? get_by_id(call, in->id, &row) : get_by_name(call, in, &row);
    if (rc == FORGE_OK)
        dataset_from_row(call, &row, out);
    return rc;
}

static struct db_stmt *list_statement(struct rpc_call *call, const Forge__V1__ListDatasetsRequest *in, const struct forge_uuid *project_id,
                                      const struct rpc_page *page)
{
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, project_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page->has_key ? page->last_name : "");
    db_bind_int32(q, page->size + 1);
    return q;
}

static void list_fill(struct rpc_call *call, const struct db_rows *rows, int count, Forge__V1__ListDatasetsResponse *out)
{
    out->datasets = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof out->datasets[0]);
    for (int i = 0; out->datasets != NULL && i < count; i++) {
        struct db_row row = db_rows_at(rows, i);
        Forge__V1__Dataset *dataset = reply_message(call, &forge__v1__dataset__descriptor);
        if (dataset == NULL || db_row_is_null(&row, "id"))
            return; /* rpc sees an overflow; or the one row of a project without datasets */
        dataset_from_row(call, &row, dataset);
        out->datasets[out->n_datasets++] = dataset;
    }
}

forge_code evaluation_list_datasets(struct rpc_call *call, const Forge__V1__ListDatasetsRequest *in, Forge__V1__ListDatasetsResponse *out)
{
    struct forge_uuid project_id;
    struct rpc_page page;
    const char *filter = forge_arena_printf(call->arena, "%s|%s", in->project_id, in->name_prefix);
    size_t filter_size = filter != NULL ? strlen(filter) : 0;
    validate_uuid(call, "project_id", in->project_id, &project_id);
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    forge_code rc = validate_end_in_project(call, &project_id);
    if (rc != FORGE_OK)
        return rc;
    struct db_rows rows;
    rc = db_run_many(list_statement(call, in, &project_id, &page), &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (rows.count == 0)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project %s not found", in->project_id);
    list_fill(call, &rows, rows.count < page.size ? rows.count : page.size, out);
    if (rows.count > page.size && out->n_datasets > 0)
        out->next_page_token =
            rpc_page_next(call, filter, filter_size, out->datasets[out->n_datasets - 1]->name, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}

/* --- deleting -------------------------------------------------------------------------------------------------------- */

forge_code evaluation_delete_dataset(struct rpc_call *call, const Forge__V1__DeleteDatasetRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid id;
    struct db_row row;
    validate_uuid(call, "id", in->id, &id);
    validate_etag(call, "etag", in->etag);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    struct db_stmt *lock = db_stmt(call->db, SQL_DATASET_LOCK);
    db_bind_uuid(lock, &call->principal.organization_id);
    db_bind_uuid(lock, &id);
    db_queue(lock);
    struct db_stmt *q = db_stmt(call->db, SQL_DATASET_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    forge_code rc = reply_run_found(call, q, "dataset", in->id, &row);
    if (rc == FORGE_FAILED_PRECONDITION && reply_violates(call, "label_gates_dataset_id_fkey"))
        return rpc_call_fail_reason(call, rc, "IN_USE", "a promotion gate names this dataset");
    if (rc != FORGE_OK)
        return rc;
    if (!reply_etag_matches(in->etag, db_row_int64(&row, "row_version")))
        return rpc_call_fail(call, FORGE_ABORTED, "the dataset has changed since this etag was read");
    if (db_row_bool(&row, "is_in_use"))
        return rpc_call_fail_reason(call, FORGE_FAILED_PRECONDITION, "IN_USE", "a running evaluation uses this dataset");
    return FORGE_OK;
}
