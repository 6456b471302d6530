/* OrganizationService: changes and deletion of the caller's organization, and the operator's list of all. */
#include "db/stmt.h"
#include "rpc/page.h"
#include "rpc/write.h"
#include "service/organization/organization.h"
#include "service/reply.h"
#include "service/validate.h"

#include "rpc_table.h"

#include <string.h>

void organization_lock(struct rpc_call *call)
{
    struct db_stmt *lock = db_stmt(call->db, SQL_ORGANIZATION_LOCK);
    db_bind_uuid(lock, &call->principal.organization_id);
    db_queue(lock);
}

/* A write of the organization that the etag was read of: its row as it is now, one row_version further. */
static forge_code run_change(struct rpc_call *call, struct db_stmt *q, const char *etag, struct db_row *out_row)
{
    struct db_row row;
    bool found;
    forge_code rc = db_run_optional(q, &row, &found, &call->error);
    if (rc != FORGE_OK)
        return rc;
    if (!found)
        return rpc_call_fail(call, FORGE_NOT_FOUND, "the organization was deleted");
    if (!reply_etag_matches(etag, db_row_int64(&row, "row_version") - 1))
        return rpc_call_fail(call, FORGE_ABORTED, "the organization has changed since this etag was read");
    *out_row = row;
    return FORGE_OK;
}

/* --- UpdateOrganization --- */

enum { UPDATES_NAME = 1, UPDATES_SLUG = 2, UPDATES_DESCRIPTION = 4 };

static forge_code update_check(struct rpc_call *call, const Forge__V1__UpdateOrganizationRequest *in, unsigned *fields)
{
    static const char *const paths[] = {"name", "slug", "description"};
    struct forge_uuid id;
    organization_id_check(call, in->id, &id);
    unsigned given = (in->name[0] != '\0' ? UPDATES_NAME : 0u) | (in->slug[0] != '\0' ? UPDATES_SLUG : 0u) |
                     (in->description[0] != '\0' ? UPDATES_DESCRIPTION : 0u);
    *fields = validate_update_mask(call, in->update_mask, paths, 3, given);
    if ((*fields & UPDATES_NAME) != 0)
        validate_name(call, "name", in->name);
    if ((*fields & UPDATES_SLUG) != 0)
        organization_slug_check(call, in->slug);
    if ((*fields & UPDATES_DESCRIPTION) != 0)
        validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    validate_etag(call, "etag", in->etag);
    forge_code rc = organization_check_end(call);
    return rc == FORGE_OK ? organization_check_own(call, &id) : rc;
}

static struct db_stmt *update_statement(struct rpc_call *call, const Forge__V1__UpdateOrganizationRequest *in, unsigned fields)
{
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_UPDATE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_bool(q, (fields & UPDATES_NAME) != 0);
    db_bind_text(q, in->name);
    db_bind_bool(q, (fields & UPDATES_SLUG) != 0);
    db_bind_text(q, in->slug);
    db_bind_bool(q, (fields & UPDATES_DESCRIPTION) != 0);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    return q;
}

forge_code organization_update(struct rpc_call *call, const Forge__V1__UpdateOrganizationRequest *in, Forge__V1__Organization *out)
{
    unsigned fields;
    struct db_row row;
    forge_code rc = update_check(call, in, &fields);
    if (rc != FORGE_OK)
        return rc;
    organization_lock(call);
    rc = run_change(call, update_statement(call, in, fields), in->etag, &row);
    if (rc == FORGE_ALREADY_EXISTS && reply_violates(call, "ix_organization_names_slug"))
        return rpc_call_fail(call, rc, "an organization with slug \"%s\" exists already", in->slug);
    if (rc != FORGE_OK)
        return rc;
    organization_from_row(call, &row, out);
    Forge__V1__Organization before = FORGE__V1__ORGANIZATION__INIT;
    before.slug = db_row_text_or_empty(&row, "old_slug");
    before.name = db_row_text_or_empty(&row, "old_name");
    before.description = db_row_text_or_empty(&row, "old_description");
    organization_audit_change(call, "organization.update", "organization", &call->principal.organization_id, &before.base, &out->base);
    rpc_write_change(call, "organization", &call->principal.organization_id, NULL);
    return FORGE_OK;
}

/* --- DeleteOrganization --- */

forge_code organization_delete(struct rpc_call *call, const Forge__V1__DeleteOrganizationRequest *in, Google__Protobuf__Empty *out)
{
    (void)out;
    struct forge_uuid id;
    organization_id_check(call, in->id, &id);
    if (in->confirm_name[0] == '\0')
        rpc_call_violation(call, "confirm_name", "is required");
    validate_etag(call, "etag", in->etag);
    forge_code rc = organization_check_end(call);
    if (rc == FORGE_OK)
        rc = organization_check_own(call, &id);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_DELETE);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_time_us(q, call->now_us);
    struct db_row row;
    organization_lock(call);
    rc = run_change(call, q, in->etag, &row);
    if (rc != FORGE_OK)
        return rc;
    Forge__V1__Organization deleted = FORGE__V1__ORGANIZATION__INIT;
    organization_from_row(call, &row, &deleted);
    if (deleted.name != NULL && strcmp(deleted.name, in->confirm_name) != 0)
        return rpc_call_fail(call, FORGE_FAILED_PRECONDITION, "confirm_name is not the name of this organization");
    organization_audit(call, "organization.delete", "organization", &id, &deleted.base);
    rpc_write_change(call, "organization", &id, NULL);
    return FORGE_OK;
}

/* --- ListOrganizations --- */

/* Operators see what the lookup table holds; all else belongs to the tenant. */
static void listed_from_row(struct rpc_call *call, const struct db_row *row, void *message)
{
    Forge__V1__Organization *organization = message;
    organization->id = db_row_uuid_text(row, "organization_id");
    organization->slug = db_row_text(row, "slug");
    organization->name = db_row_text(row, "name");
    organization->create_time = reply_time(call, row, "created_at");
    organization->delete_time = reply_time(call, row, "deleted_at");
}

static forge_code list_run(struct rpc_call *call, const Forge__V1__ListOrganizationsRequest *in, const struct rpc_page *page,
                           struct db_rows *rows)
{
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_LIST);
    db_bind_text(q, in->slug_prefix);
    db_bind_text(q, validate_prefix_end(in->slug_prefix, call->arena));
    db_bind_text(q, page->has_key ? page->last_name : "");
    db_bind_bool(q, in->show_deleted);
    db_bind_int32(q, page->size + 1);
    return db_run_many(q, rows, &call->error);
}

forge_code organization_list(struct rpc_call *call, const Forge__V1__ListOrganizationsRequest *in,
                             Forge__V1__ListOrganizationsResponse *out)
{
    const char *filter = forge_arena_printf(call->arena, "%d|%s", in->show_deleted != 0, in->slug_prefix);
    size_t filter_size = filter != NULL ? strlen(filter) : 0, prefix_size = strlen(in->slug_prefix);
    struct rpc_page page;
    struct db_rows rows;
    rpc_page_read(call, in->page_size, in->page_token, filter, filter_size, &page);
    if (prefix_size > ORGANIZATION_SLUG_MAX || strspn(in->slug_prefix, ORGANIZATION_SLUG_CHARACTERS) != prefix_size)
        rpc_call_violation(call, "slug_prefix", "must be at most %d of a-z, 0-9 and -", ORGANIZATION_SLUG_MAX);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = list_run(call, in, &page, &rows);
    if (rc != FORGE_OK)
        return rc;
    out->organizations = reply_list(call, &rows, page.size, &forge__v1__organization__descriptor, listed_from_row, &out->n_organizations);
    if (rows.count > page.size && out->n_organizations > 0)
        out->next_page_token =
            rpc_page_next(call, filter, filter_size, out->organizations[out->n_organizations - 1]->slug, 0, &(struct forge_uuid){0});
    return FORGE_OK;
}
