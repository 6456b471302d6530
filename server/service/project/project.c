/* ProjectService: projects divide an organization's prompts, evaluations, traces and policies. */
#include "db/stmt.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

static void project_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__Project *out = message;
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
    validate_uuid(call, "id", id_text, &id);
    forge_code rc = validate_end_in_project(call, &id);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    rc = db_run_one(q, out_row, &call->error);
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
    out->projects = reply_list(call, &rows, page.size, &forge__v1__project__descriptor, project_from_row, &out->n_projects);
    if (rows.count > page.size && out->n_projects > 0)
        out->next_page_token =
            rpc_page_next(call, in->name_prefix, prefix_size, out->projects[out->n_projects - 1]->name, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}

/* A write of one project that the etag was read of: its row as it is now, one row_version further. */
static forge_code run_change(struct rpc_call *call, struct db_stmt *q, const char *id_text, const char *etag, struct db_row *out_row)
{
    struct db_row row;
    forge_code rc = reply_run_found(call, q, "project", id_text, &row);
    if (rc != FORGE_OK)
        return rc;
    if (!reply_etag_matches(etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the project has changed since this etag was read");
    *out_row = row;
    return FORGE_OK;
}

enum { UPDATES_NAME = 1, UPDATES_DESCRIPTION = 2 };

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdateProjectRequest *in, unsigned *fields, struct forge_uuid *id)
{
    static const char *const paths[] = {"name", "description"};
    validate_uuid(call, "id", in->id, id);
    unsigned given = (in->name[0] != '\0' ? UPDATES_NAME : 0u) | (in->description[0] != '\0' ? UPDATES_DESCRIPTION : 0u);
    *fields = validate_update_mask(call, in->update_mask, paths, 2, given);
    if ((*fields & UPDATES_NAME) != 0)
        validate_name(call, "name", in->name);
    if ((*fields & UPDATES_DESCRIPTION) != 0)
        validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    validate_etag(call, "etag", in->etag);
    return validate_end_in_project(call, id);
}

forge_code project_update(struct rpc_call *call, const Forge__V1__UpdateProjectRequest *in, Forge__V1__Project *out)
{
    struct forge_uuid id;
    unsigned fields;
    forge_code rc = update_check(call, in, &fields, &id);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_bool(q, (fields & UPDATES_NAME) != 0);
    db_bind_text(q, in->name);
    db_bind_bool(q, (fields & UPDATES_DESCRIPTION) != 0);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    struct db_row row;
    rc = run_change(call, q, in->id, in->etag, &row);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_projects_name"))
        return rpc_call_fail(call, rc, "a project named \"%s\" exists already", in->name);
    if (rc != FORGE_OK)
        return rc;
    rpc_write_change(call, "project", &id, NULL);
    project_from_row(call, &row, out);
    return FORGE_OK;
}

forge_code project_delete(struct rpc_call *call, const Forge__V1__DeleteProjectRequest *in, Google__Protobuf__Empty *out)
{
    struct forge_uuid id;
    validate_uuid(call, "id", in->id, &id);
    if (in->confirm_name[0] == '\0')
        rpc_call_violation(call, "confirm_name", "is required");
    validate_etag(call, "etag", in->etag);
    forge_code rc = validate_end_in_project(call, &id);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_PROJECT_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &id);
    db_bind_time_us(q, call->now_us);
    struct db_row row;
    rc = run_change(call, q, in->id, in->etag, &row);
    if (rc != FORGE_OK)
        return rc;
    const char *name = db_row_text(&row, "name");
    if (name != NULL && strcmp(name, in->confirm_name) != 0)
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "confirm_name is not the name of this project");
    rpc_write_change(call, "project", &id, NULL);
    rpc_write_audit(call, "project.delete", "project", &id, NULL);
    return FORGE_OK;
}
