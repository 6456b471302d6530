/* OrganizationService: organizations and who the caller is. What changes them: organization_change.c; logins: login.c; users: user.c; API
 * keys: api_key.c. */
#include "service/organization/organization.h"

#include "auth/password.h"
#include "rpc/write.h"
#include "service/organization/user.h"
#include "service/reply.h"
#include "service/validate.h"
#include "wire/json.h"

#include "rpc_table.h"

#include <ctype.h>
#include <string.h>

void organization_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Organization *out)
{
    out->id = db_row_uuid_text(row, "organization_id");
    out->slug = db_row_text(row, "slug");
    out->name = db_row_text(row, "name");
    out->description = db_row_text_or_empty(row, "description");
    out->create_time = reply_time(call, row, "created_at");
    out->update_time = reply_time(call, row, "updated_at");
    out->etag = reply_etag(call, row);
}

bool organization_slug_check(struct rpc_call *call, const char *slug)
{
    size_t length = strlen(slug);
    bool valid = length >= 1 && length <= ORGANIZATION_SLUG_MAX && strspn(slug, ORGANIZATION_SLUG_CHARACTERS) == length && slug[0] != '-' &&
                 slug[length - 1] != '-';
    if (!valid)
        rpc_call_violation(call, "slug", "must be 1 to %d of a-z, 0-9 and -, no - first or last", ORGANIZATION_SLUG_MAX);
    return valid;
}

void organization_id_check(struct rpc_call *call, const char *text, struct forge_uuid *out)
{
    *out = call->principal.organization_id;
    if (text[0] != '\0')
        validate_uuid(call, "id", text, out);
}

forge_code organization_check_own(struct rpc_call *call, const struct forge_uuid *id)
{
    char text[FORGE_UUID_TEXT_SIZE];
    if (forge_uuid_equal(id, &call->principal.organization_id))
        return FORGE_OK;
    forge_uuid_format(id, text);
    return rpc_call_fail(call, FORGE_NOT_FOUND, "organization %s not found", text);
}

forge_code organization_check_end(struct rpc_call *call)
{
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    if (auth_principal_bound_project(&call->principal) != NULL)
        return rpc_call_fail(call, FORGE_PERMISSION_DENIED, "this key is bound to one project; this concerns the whole organization");
    return FORGE_OK;
}

void organization_audit(struct rpc_call *call, const char *action, const char *kind, const struct forge_uuid *id,
                        const ProtobufCMessage *made)
{
    const struct forge_json_options options = {0};
    rpc_write_audit(call, action, kind, id, forge_json_from_message(made, &options, call->arena));
}

void organization_audit_change(struct rpc_call *call, const char *action, const char *kind, const struct forge_uuid *id,
                               const ProtobufCMessage *before, const ProtobufCMessage *after)
{
    const struct forge_json_options options = {0};
    const char *old_json = forge_json_from_message(before, &options, call->arena);
    const char *new_json = forge_json_from_message(after, &options, call->arena);
    if (old_json != NULL && new_json != NULL)
        rpc_write_audit(call, action, kind, id, forge_arena_printf(call->arena, "{\"old\": %s, \"new\": %s}", old_json, new_json));
}

void organization_short_name_make(const char *name, const char *also, char *out, size_t size)
{
    size_t length = 0;
    for (; *name != '\0' && length + 1 < size; name++) {
        unsigned char c = (unsigned char)*name;
        if (c < 0x80 && (isalnum(c) || strchr(also, c) != NULL))
            out[length++] = (char)tolower(c);
        else if (length > 0 && out[length - 1] != '-')
            out[length++] = '-';
    }
    while (length > 0 && out[length - 1] == '-')
        length--;
    out[length] = '\0';
}

/* What CreateOrganization stores, checked. */
struct creation {
    struct forge_uuid user_id;
    char made_slug[ORGANIZATION_SLUG_MAX + 1];
    const char *slug, *email, *admin_name;
    char password_hash[AUTH_PASSWORD_HASH_SIZE];
};

static void slug_check(struct rpc_call *call, const Forge__V1__CreateOrganizationRequest *in, struct creation *creation)
{
    creation->slug = in->slug;
    if (in->slug[0] == '\0') {
        organization_short_name_make(in->name, "", creation->made_slug, sizeof creation->made_slug);
        creation->slug = creation->made_slug;
    }
    if (in->slug[0] != '\0')
        organization_slug_check(call, in->slug);
    else if (creation->slug[0] == '\0')
        rpc_call_violation(call, "slug", "is required: none can be made from this name");
}

static forge_code create_check(struct rpc_call *call, const Forge__V1__CreateOrganizationRequest *in, struct creation *creation)
{
    validate_name(call, "name", in->name);
    slug_check(call, in, creation);
    validate_text(call, "description", in->description, VALIDATE_DESCRIPTION_CHARACTERS_MAX);
    creation->email = validate_email(call, "admin_email", in->admin_email);
    user_password_check(call, "admin_password", in->admin_password);
    validate_name_or_empty(call, "admin_display_name", in->admin_display_name);
    creation->admin_name = in->admin_display_name[0] != '\0' ? in->admin_display_name : creation->email;
    return rpc_call_has_violations(call) ? rpc_call_invalid(call) : FORGE_OK;
}

static struct db_stmt *create_statement(struct rpc_call *call, const Forge__V1__CreateOrganizationRequest *in,
                                        const struct creation *creation)
{
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_CREATE);
    db_bind_uuid(q, &call->request_id);
    db_bind_text(q, creation->slug);
    db_bind_text(q, in->name);
    db_bind_text(q, in->description[0] != '\0' ? in->description : NULL);
    db_bind_time_us(q, call->now_us);
    db_bind_uuid(q, &creation->user_id);
    db_bind_text(q, creation->email);
    db_bind_text(q, creation->admin_name);
    db_bind_text(q, creation->password_hash);
    return q;
}

static forge_code create_conflict(struct rpc_call *call, forge_code rc, const struct creation *creation)
{
    if (reply_violates(call, "ix_organization_names_slug"))
        return rpc_call_fail(call, rc, "an organization with slug \"%s\" exists already", creation->slug);
    if (reply_violates(call, "login_names_pkey"))
        return rpc_call_fail(call, rc, "a user with e-mail %s exists already", creation->email);
    if (reply_violates(call, "organizations_pkey") || reply_violates(call, "organization_names_pkey"))
        return rpc_call_fail(call, rc, "the request_id is the id of an organization already");
    return rc; /* the claim: rpc/write answers what is stored */
}

forge_code organization_create(struct rpc_call *call, const Forge__V1__CreateOrganizationRequest *in, Forge__V1__Organization *out)
{
    struct creation creation = {0};
    forge_code rc = create_check(call, in, &creation);
    if (rc == FORGE_OK)
        rc = auth_password_hash(in->admin_password, creation.password_hash, &call->error);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&creation.user_id);
    rpc_write_set_organization(call, &call->request_id);
    struct db_row row;
    rc = db_run_one(create_statement(call, in, &creation), &row, &call->error);
    if (rc == FORGE_ALREADY_EXISTS)
        return create_conflict(call, rc, &creation);
    if (rc != FORGE_OK)
        return rc;
    organization_from_row(call, &row, out);
    organization_audit(call, "organization.create", "organization", &call->request_id, &out->base);
    rpc_write_change(call, "organization", &call->request_id, NULL);
    return FORGE_OK;
}

forge_code organization_get(struct rpc_call *call, const Forge__V1__GetOrganizationRequest *in, Forge__V1__Organization *out)
{
    struct forge_uuid id;
    organization_id_check(call, in->id, &id);
    if (rpc_call_has_violations(call))
        return rpc_call_invalid(call);
    forge_code rc = organization_check_own(call, &id);
    if (rc != FORGE_OK)
        return rc;
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_GET);
    db_bind_uuid(q, &call->principal.organization_id);
    struct db_row row;
    rc = db_run_one(q, &row, &call->error);
    if (rc == FORGE_NOT_FOUND)
        return rpc_call_fail(call, rc, "the organization was deleted");
    if (rc == FORGE_OK)
        organization_from_row(call, &row, out);
    return rc;
}

static Forge__V1__PrincipalKind principal_kind(enum auth_kind kind)
{
    switch (kind) {
    case AUTH_USER:
        return FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_USER;
    case AUTH_API_KEY:
        return FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_API_KEY;
    case AUTH_SERVICE_ACCOUNT:
        return FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_SERVICE_ACCOUNT;
    case AUTH_OPERATOR:
        return FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_OPERATOR;
    case AUTH_NOBODY:
        break;
    }
    return FORGE__V1__PRINCIPAL_KIND__PRINCIPAL_KIND_UNSPECIFIED;
}

static char *uuid_or_empty(struct rpc_call *call, const struct forge_uuid *id)
{
    return forge_uuid_is_nil(id) ? NULL : reply_uuid(call, id);
}

static void who_am_i_fill(struct rpc_call *call, Forge__V1__WhoAmIResponse *out)
{
    const struct auth_principal *principal = &call->principal;
    const struct rpc_settings *settings = rpc_server_settings(call->server);
    out->kind = principal_kind(principal->kind);
    out->id = reply_uuid(call, &principal->id);
    out->role = (Forge__V1__Role)principal->role; /* same numbers */
    reply_scopes(call, principal->scopes, &out->n_scopes, &out->scopes);
    out->organization_id = uuid_or_empty(call, &principal->organization_id);
    out->project_id = uuid_or_empty(call, &principal->project_id);
    out->user_id = uuid_or_empty(call, &principal->user_id);
    out->expire_time = principal->expires_us != 0 ? reply_time_us(call, principal->expires_us) : NULL;
    out->message_bytes_max = (int64_t)settings->message_max;
    out->reply_bytes_max = (int64_t)settings->reply_max;
    out->calls_in_flight_max = (int32_t)call->calls_in_flight_max;
    out->server_version = forge_arena_strdup(call->arena, FORGE_VERSION_TEXT);
}

forge_code organization_who_am_i(struct rpc_call *call, const Forge__V1__WhoAmIRequest *in, Forge__V1__WhoAmIResponse *out)
{
    (void)in;
    who_am_i_fill(call, out);
    if (call->principal.kind == AUTH_OPERATOR) {
        out->name = forge_arena_strdup(call->arena, "operator");
        return FORGE_OK;
    }
    struct db_stmt *q = db_stmt(call->db, SQL_ORGANIZATION_WHO_AM_I);
    db_bind_uuid(q, &call->principal.organization_id);
    db_bind_uuid(q, &call->principal.id);
    struct db_row row;
    forge_code rc = db_run_one(q, &row, &call->error);
    if (rc != FORGE_OK)
        return rc;
    out->name = db_row_text_or_empty(&row, "principal_name");
    out->organization_name = db_row_text(&row, "organization_name");
    return FORGE_OK;
}
