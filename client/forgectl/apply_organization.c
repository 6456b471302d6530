/* The organization of a manifest: found and created with the operator's token; everything else happens as its admin. */
#include "apply.h"
#include "apply_fields.h"

#include <string.h>

static const char *operator_token(const struct apply *apply)
{
    return cli_setting(apply->cli, NULL, "FORGE_OPERATOR_TOKEN", NULL);
}

static Forge__V1__CreateOrganizationRequest *request_of(const struct apply_object *object)
{
    return (Forge__V1__CreateOrganizationRequest *)object->manifest->request;
}

/* Is it there? With the operator's token only. */
static int look_for_it(struct apply *apply, struct apply_object *object, bool *out_exists)
{
    Forge__V1__ListOrganizationsRequest request = FORGE__V1__LIST_ORGANIZATIONS_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.page_size = 1;
    request.slug_prefix = request_of(object)->slug;
    int code = cli_connect_as(apply->cli, operator_token(apply));
    if (code == CLI_OK)
        code = apply_call(apply, object->kind->lookup, &request.base, &reply);
    if (code != CLI_OK)
        return code;
    size_t count;
    ProtobufCMessage *const *items = field_list(reply, NULL, &count);
    *out_exists = count && !strcmp(field_text(items[0], "slug"), request.slug_prefix);
    return CLI_OK;
}

static int log_in(struct apply *apply, const struct apply_object *object)
{
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.email = request_of(object)->admin_email;
    request.password = request_of(object)->admin_password;
    int code = cli_connect_as(apply->cli, NULL);
    if (code == CLI_OK)
        code = apply_call(apply, FORGE_METHOD_ORGANIZATION_LOGIN, &request.base, &reply);
    if (code == CLI_STATUS + FORGE_UNAUTHENTICATED && !operator_token(apply))
        fprintf(stderr,
                "  %s is the admin of organization \"%s\" in the manifest. To create it, set FORGE_OPERATOR_TOKEN (forged bootstrap "
                "token makes one).\n",
                request.email, object->name);
    if (code != CLI_OK)
        return code;
    apply->session = field_text(reply, "token");
    return cli_connect_as(apply->cli, apply->session);
}

static int compare(struct apply *apply, struct apply_object *object)
{
    Forge__V1__GetOrganizationRequest request = FORGE__V1__GET_ORGANIZATION_REQUEST__INIT;
    int code = apply_call(apply, FORGE_METHOD_ORGANIZATION_GET, &request.base, &object->found);
    if (code != CLI_OK)
        return code;
    object->id = field_text(object->found, "id");
    if (strcmp(field_text(object->found, "slug"), object->name) != 0) {
        manifest_add_problem(&apply->manifest, &object->manifest->position, "%s belongs to organization \"%s\"",
                             request_of(object)->admin_email, field_text(object->found, "slug"));
        return CLI_OK;
    }
    if (apply->is_create_only)
        return CLI_OK;
    object->update = field_message_new(&apply->cli->arena, forge_methods[object->kind->update].input);
    const char *details = NULL;
    if (object->update)
        details = field_difference(&apply->cli->arena, object->update, object->manifest->request, object->found);
    if (!details)
        return cli_fail(CLI_FAILED, "no memory");
    field_set_text(object->update, "etag", field_text(object->found, "etag"));
    object->details = details;
    object->action = *details ? APPLY_UPDATE : APPLY_UNCHANGED;
    return CLI_OK;
}

int apply_plan_organization(struct apply *apply, struct apply_object *object)
{
    bool exists = true;
    if (!*request_of(object)->admin_email || !*request_of(object)->admin_password) {
        manifest_add_problem(&apply->manifest, &object->manifest->position,
                             "admin_email and admin_password are needed: all else is done as this admin");
        apply->is_new_organization = true; /* nobody to ask as */
        return CLI_OK;
    }
    int code = operator_token(apply) ? look_for_it(apply, object, &exists) : CLI_OK;
    if (code != CLI_OK)
        return code;
    if (!exists) {
        object->action = APPLY_CREATE;
        apply->is_new_organization = true;
        return CLI_OK;
    }
    code = log_in(apply, object);
    return code == CLI_OK ? compare(apply, object) : code;
}

int apply_run_organization(struct apply *apply, struct apply_object *object)
{
    ProtobufCMessage *reply;
    if (object->action == APPLY_UPDATE)
        return apply_call(apply, object->kind->update, object->update, &reply);
    int code = cli_connect_as(apply->cli, operator_token(apply));
    if (code == CLI_OK)
        code = apply_call(apply, object->kind->create, object->manifest->request, &reply);
    if (code != CLI_OK)
        return code;
    object->id = field_text(reply, "id");
    return log_in(apply, object);
}

void apply_end_session(struct apply *apply)
{
    Forge__V1__LogoutRequest request = FORGE__V1__LOGOUT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    struct forge_error error;
    struct forge_reply_info info;
    if (!apply->session || !apply->cli->channel)
        return;
    /* It ends by itself later where this fails. */
    if (cli_try_call(apply->cli, &forge_methods[FORGE_METHOD_ORGANIZATION_LOGOUT], &request.base, 0, &reply, &error, &info) == FORGE_OK)
        cli_free(reply);
    else
        forge_error_free(&error);
    apply->session = NULL;
}
