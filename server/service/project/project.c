/* ProjectService: projects divide an organization's prompts, evaluations, traces and policies. */
#include "db/stmt.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

static void project_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Project *out)
{
    out->id = db_row_uuid_text(row, "id");
    out->organization_id = db_row_uuid_text(row, "organization_id");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
}

forge_code project_create(struct rpc_call *call, const Forge__V1__CreateProjectRequest *in, Forge__V1__Project *out)
{
    if (auth_principal_bound_project(&call->principal) != NULL)
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to one project and cannot create another");
    validate_name(call, "name", in->name);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);

    struct forge_uuid id;
    forge_uuid_v7(&id);
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_CREATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_text(q, in->name);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    struct db_row row;
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_projects_name"))
        return rpc_call_fail(call, rc, "a project named \"%s\" exists already", in->name);
    if (rc != FORGE_OK)
        return rc;
    rpc_write_change(call, "project", &id, NULL);
    project_from_row(call, &row, out);
    return FORGE_OK;
}

static forge_code get_by_id(struct rpc_call *call, const char *id_text, struct db_row *out_row)
{
    struct forge_uuid id;
    if (!validate_uuid(call, "id", id_text, &id))
        return rpc_call_invalid(call);
    if (!auth_principal_may_use_project(&call->principal, &id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to another project");
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    forge_code rc = db_run_one(q, out_row, &call->error);
    return rc == FORGE_NOT_FOUND ? rpc_call_fail(call, rc, "project %s not found", id_text) : rc;
}

/* Permission comes before existence: a key bound to a project learns nothing about the other names. */
static forge_code get_by_name(struct rpc_call *call, const char *name, struct db_row *out_row)
{
    if (!validate_name(call, "name", name))
        return rpc_call_invalid(call);
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_GET_BY_NAME);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, name);
    struct db_row row;
    bool found;
    forge_code rc = db_run_optional(q, &row, &found, &call->error);
    if (rc != FORGE_OK)
        return rc;
    struct forge_uuid id = {0};
    if (found)
        db_row_uuid(&row, "id", &id);
    if (!auth_principal_may_use_project(&call->principal, &id))
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to another project");
    if (!found)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "project \"%s\" not found", name);
    *out_row = row;
    return FORGE_OK;
}

forge_code project_get(struct rpc_call *call, const Forge__V1__GetProjectRequest *in, Forge__V1__Project *out)
{
    bool by_id = in->id[0] != '\0', by_name = in->name[0] != '\0';
    if (by_id == by_name) {
        rpc_call_violation(call, "id", "either id or name is required, not both");
        return rpc_call_invalid(call);
    }
    struct db_row row;
    forge_code rc = by_id ? get_by_id(call, in->id, &row) : get_by_name(call, in->name, &row);
    if (rc == FORGE_OK)
        project_from_row(call, &row, out);
    return rc;
}

forge_code project_list(struct rpc_call *call, const Forge__V1__ListProjectsRequest *in, Forge__V1__ListProjectsResponse *out)
{
    struct rpc_page page;
    size_t prefix_size = strlen(in->name_prefix);
    rpc_page_read(call, in->page_size, in->page_token, in->name_prefix, prefix_size, &page);
    validate_name_or_empty(call, "name_prefix", in->name_prefix);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);

    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_LIST);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_text(q, in->name_prefix);
    db_bind_text(q, validate_prefix_end(in->name_prefix, call->arena));
    db_bind_text(q, page.has_key ? page.last_name : "");
    db_bind_uuid(q, auth_principal_bound_project(&call->principal));
    db_bind_int32(q, page.size + 1);
    struct db_rows rows;
    forge_code rc = db_run_many(q, &rows, &call->error);
    if (rc != FORGE_OK)
        return rc;
    int count = rows.count < page.size ? rows.count : page.size;
    out->projects = forge_arena_calloc(call->arena, (size_t)count + 1, sizeof *out->projects);
    for (int i = 0; out->projects != NULL && i < count; i++) {
        struct db_row row = db_rows_at(&rows, i);
        Forge__V1__Project *project = reply_message(call, &forge__v1__project__descriptor);
        if (project == NULL)
            break;
        project_from_row(call, &row, project);
        out->projects[out->n_projects++] = project;
    }
    if (rows.count > page.size && out->n_projects > 0)
        out->next_page_token =
            rpc_page_next(call, in->name_prefix, prefix_size, out->projects[out->n_projects - 1]->name, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}
