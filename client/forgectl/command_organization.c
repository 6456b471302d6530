/* organization, project and key. */
#include "resolve.h"

#include <string.h>
#include <time.h>

/* ---- organization ---- */

static const struct output_column organization_columns[] = {{"Id", "id"},
                                                            {"Slug", "slug"},
                                                            {"Name", "name"},
                                                            {"Description", "description"},
                                                            {"Created", "create_time"},
                                                            {"Updated", "update_time"},
                                                            {NULL, NULL}};

static char *text_option(struct cli *cli, const char *name)
{
    const char *value = cli_option(cli, name);
    return forge_arena_strdup(&cli->arena, value ? value : "");
}

static char *admin_password(struct cli *cli)
{
    if (!cli_option(cli, "password-stdin"))
        return cli_read_password(cli, "Password of the first admin");
    size_t size;
    char *password = cli_read_file(cli, "-", &size);
    if (password && size && password[size - 1] == '\n')
        password[size - 1] = '\0';
    return password;
}

int command_organization_create(struct cli *cli)
{
    Forge__V1__CreateOrganizationRequest request = FORGE__V1__CREATE_ORGANIZATION_REQUEST__INIT;
    const char *token = cli_setting(cli, "token", "FORGE_OPERATOR_TOKEN", NULL);
    if (!token)
        return cli_fail(CLI_USAGE, "an operator token is needed: FORGE_OPERATOR_TOKEN or --token (forged bootstrap token makes one)");
    request.name = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    request.slug = text_option(cli, "slug");
    request.description = text_option(cli, "description");
    request.admin_email = text_option(cli, "admin-email");
    request.admin_display_name = text_option(cli, "admin-name");
    request.admin_password = admin_password(cli);
    if (!request.admin_password)
        return CLI_FAILED;
    ProtobufCMessage *reply;
    int code = cli_connect_as(cli, token);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_CREATE], &request.base, &reply);
    explicit_bzero(request.admin_password, strlen(request.admin_password));
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, organization_columns, "id");
    cli_free(reply);
    return code;
}

int command_organization_get(struct cli *cli)
{
    Forge__V1__GetOrganizationRequest request = FORGE__V1__GET_ORGANIZATION_REQUEST__INIT;
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_GET], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, organization_columns, "id");
    cli_free(reply);
    return code;
}

/* ---- project ---- */

static const struct output_column project_columns[] = {
    {"Id", "id"},     {"Name", "name"}, {"Description", "description"}, {"Created", "create_time"}, {"Updated", "update_time"},
    {"Etag", "etag"}, {NULL, NULL}};
static const struct output_column project_list_columns[] = {
    {"NAME", "name"}, {"ID", "id"}, {"CREATED", "create_time"}, {"DESCRIPTION", "description"}, {NULL, NULL}};

int command_project_create(struct cli *cli)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.name = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    request.description = text_option(cli, "description");
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_PROJECT_CREATE], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, project_columns, "id");
    cli_free(reply);
    return code;
}

int command_project_get(struct cli *cli)
{
    ProtobufCMessage *reply;
    int code = resolve_project(cli, cli->positionals[0], &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, project_columns, "id");
    cli_free(reply);
    return code;
}

int command_project_list(struct cli *cli)
{
    Forge__V1__ListProjectsRequest request = FORGE__V1__LIST_PROJECTS_REQUEST__INIT;
    long page_size;
    if (!cli_option_number(cli, "page-size", 1, 1000, 0, &page_size))
        return CLI_USAGE;
    request.page_size = (int32_t)page_size;
    request.page_token = text_option(cli, "page-token");
    request.name_prefix = text_option(cli, "prefix");
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_PROJECT_LIST], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_list(cli, reply, "projects", project_list_columns, "name");
    resolve_next_page(cli, ((const Forge__V1__ListProjectsResponse *)reply)->next_page_token);
    cli_free(reply);
    return code;
}

/* ---- key ---- */

static const struct output_column key_columns[] = {{"Id", "id"},
                                                   {"Name", "name"},
                                                   {"Scopes", "scopes"},
                                                   {"Project", "project_id"},
                                                   {"Token", "token"},
                                                   {"Token prefix", "token_prefix"},
                                                   {"Created", "create_time"},
                                                   {"Expires", "expire_time"},
                                                   {"Revoked", "revoke_time"},
                                                   {NULL, NULL}};

static int take_scopes(const struct cli *cli, Forge__V1__Scope scopes[], size_t *out_count)
{
    static const char *const names[] = {"read", "write", "admin", "ingest"};
    static const Forge__V1__Scope values[] = {FORGE__V1__SCOPE__SCOPE_READ, FORGE__V1__SCOPE__SCOPE_WRITE, FORGE__V1__SCOPE__SCOPE_ADMIN,
                                              FORGE__V1__SCOPE__SCOPE_INGEST};
    const char *given;
    size_t count = 0;
    for (size_t i = 0; (given = cli_option_at(cli, "scope", i)); i++) {
        size_t n = 0;
        while (n < 4 && strcmp(given, names[n]) != 0)
            n++;
        if (n == 4 || count == 4)
            return cli_fail(CLI_USAGE, "--scope must be read, write, admin or ingest, each at most once, not \"%s\"", given);
        scopes[count++] = values[n];
    }
    if (!count)
        scopes[count++] = FORGE__V1__SCOPE__SCOPE_READ;
    *out_count = count;
    return CLI_OK;
}

static int take_expiry(struct cli *cli, Google__Protobuf__Timestamp *timestamp, Google__Protobuf__Timestamp **out)
{
    long days;
    if (!cli_option_number(cli, "expires-days", 1, 36500, 0, &days))
        return CLI_USAGE;
    google__protobuf__timestamp__init(timestamp);
    timestamp->seconds = (int64_t)time(NULL) + (int64_t)days * 86400;
    *out = days ? timestamp : NULL;
    return CLI_OK;
}

int command_key_create(struct cli *cli)
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Google__Protobuf__Timestamp expiry;
    Forge__V1__Scope scopes[4];
    ProtobufCMessage *reply;
    request.name = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    request.scopes = scopes;
    int code = take_scopes(cli, scopes, &request.n_scopes);
    if (code == CLI_OK)
        code = take_expiry(cli, &expiry, &request.expire_time);
    if (code == CLI_OK && cli_option(cli, "project"))
        code = resolve_project_id(cli, &request.project_id);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_CREATE_API_KEY], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, key_columns, "token");
    if (cli->format == CLI_FORMAT_TABLE)
        fprintf(stderr, "The token is shown only this once.\n");
    cli_free(reply);
    return code;
}

int command_key_revoke(struct cli *cli)
{
    Forge__V1__RevokeApiKeyRequest request = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.id = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_REVOKE_API_KEY], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, key_columns, "id");
    cli_free(reply);
    return code;
}
