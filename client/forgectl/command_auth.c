/* login, logout, whoami. */
#include "output.h"

#include <string.h>

static const struct output_column whoami_columns[] = {{"Kind", "kind"},
                                                      {"Name", "name"},
                                                      {"Id", "id"},
                                                      {"Role", "role"},
                                                      {"Scopes", "scopes"},
                                                      {"Organization", "organization_name"},
                                                      {"Organization id", "organization_id"},
                                                      {"Project", "project_id"},
                                                      {"Expires", "expire_time"},
                                                      {"Server version", "server_version"},
                                                      {NULL, NULL}};

int command_whoami(struct cli *cli)
{
    Forge__V1__WhoAmIRequest request = FORGE__V1__WHO_AM_IREQUEST__INIT;
    ProtobufCMessage *reply;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_WHO_AM_I], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    code = output_resource(cli, reply, whoami_columns, "name");
    cli_free(reply);
    return code;
}

/* What the session belongs to is kept with it, so that later commands need no flags. */
static int keep_session(struct cli *cli, const char *email, const char *token)
{
    const char *name = cli_option(cli, "context");
    if (!name)
        name = cli->contexts.current[0] ? cli->contexts.current : "default";
    const char *server = cli_setting(cli, "server", "FORGE_SERVER", cli_context(cli)->server);
    const char *ca = cli_setting(cli, "ca", "FORGE_CA", cli_context(cli)->ca);
    struct context *context = context_file_add(&cli->contexts, name);
    if (!context)
        return cli_fail(CLI_USAGE, "context \"%s\": a name is 1 to 63 of [A-Za-z0-9._-], and there are at most %d", name, CONTEXTS_MAX);
    if (!context_set_ca(context, ca))
        return CLI_FAILED;
    snprintf(context->server, sizeof context->server, "%s", server ? server : "localhost:7443");
    snprintf(context->token, sizeof context->token, "%s", token);
    snprintf(context->user, sizeof context->user, "%s", email);
    memcpy(cli->contexts.current, context->name, sizeof context->name);
    if (!context_file_save(&cli->contexts))
        return CLI_FAILED;
    fprintf(stderr, "Logged in as %s on %s (context %s).\n", email, context->server, context->name);
    return CLI_OK;
}

int command_login(struct cli *cli)
{
    char *email = forge_arena_strdup(&cli->arena, cli->positionals[0]);
    char *password = cli_option(cli, "password-stdin") ? NULL : cli_read_password(cli, "Password");
    if (cli_option(cli, "password-stdin")) {
        size_t size;
        password = cli_read_file(cli, "-", &size);
        if (password && size && password[size - 1] == '\n')
            password[size - 1] = '\0';
    }
    if (!email || !password)
        return CLI_FAILED;
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    request.email = email;
    request.password = password;
    ProtobufCMessage *reply;
    int code = cli_connect_as(cli, NULL);
    if (code == CLI_OK)
        code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_LOGIN], &request.base, &reply);
    explicit_bzero(password, strlen(password));
    if (code != CLI_OK)
        return code;
    const Forge__V1__LoginResponse *session = (const Forge__V1__LoginResponse *)reply;
    code = keep_session(cli, session->user ? session->user->email : email, session->token);
    explicit_bzero(session->token, strlen(session->token));
    cli_free(reply);
    return code;
}

int command_logout(struct cli *cli)
{
    Forge__V1__LogoutRequest request = FORGE__V1__LOGOUT_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.all_sessions = cli_option(cli, "all") != NULL;
    const char *name = cli_context(cli)->name;
    int code = cli_call(cli, &forge_methods[FORGE_METHOD_ORGANIZATION_LOGOUT], &request.base, &reply);
    if (code != CLI_OK)
        return code;
    cli_free(reply);
    struct context *context = context_file_find(&cli->contexts, name);
    if (!context || cli_option(cli, "token"))
        return CLI_OK;
    explicit_bzero(context->token, sizeof context->token);
    context->user[0] = '\0';
    return context_file_save(&cli->contexts) ? CLI_OK : CLI_FAILED;
}
