#include "support/world.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void world_sleep_ms(unsigned ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

_Noreturn void world_fail(const struct world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("world: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    for (unsigned i = 0; i < world->server_count; i++) {
        char *log = world->servers[i].child ? forged_child_log(world->servers[i].child) : NULL;
        fprintf(stderr, "\n--- log of server %u\n%s\n", i, log ? log : "(not running)");
        free(log);
    }
    exit(1); /* servers die with this process, the cluster's keeper removes the cluster */
}

void world_check(const struct world *world, const char *what, forge_code code, const struct forge_error *error)
{
    if (code != FORGE_OK)
        world_fail(world, "%s: %s: %s", what, forge_code_name(code), error ? error->message : "");
}

/* ---- servers ---- */

void world_server_start(struct world *world, unsigned index, bool wait_ready)
{
    struct world_server *server = &world->servers[index];
    char port[16], http_port[16];
    const char *flags[WORLD_FLAGS_MAX + 5] = {"--listen-port", port, "--http-port", http_port};
    snprintf(port, sizeof port, "%u", server->port);
    snprintf(http_port, sizeof http_port, "%u", server->http_port);
    memcpy(flags + 4, world->flags, sizeof world->flags);
    server->child = wait_ready ? forged_world_serve(world->files, flags) : forged_world_listen(world->files, flags);
    server->port = forged_child_port(server->child);
    server->http_port = forged_child_http_port(server->child);
}

void world_server_kill(struct world *world, unsigned index)
{
    forged_child_kill(world->servers[index].child);
    world->servers[index].child = NULL;
}

void world_server_stop(struct world *world, unsigned index)
{
    forged_child_stop(world->servers[index].child);
    world->servers[index].child = NULL;
}

void world_server_pause(struct world *world, unsigned index)
{
    forged_child_signal(world->servers[index].child, SIGSTOP);
}

void world_server_resume(struct world *world, unsigned index)
{
    forged_child_signal(world->servers[index].child, SIGCONT);
}

/* ---- setting up ---- */

static void add_flag(struct world *world, const char *flag)
{
    unsigned count = 0;
    while (count < WORLD_FLAGS_MAX && world->flags[count])
        count++;
    if (count >= WORLD_FLAGS_MAX - 1)
        world_fail(world, "more than %d flags", WORLD_FLAGS_MAX - 1);
    world->flags[count] = flag;
}

static void make_database(struct world *world, const struct world_options *options)
{
    const struct pg_cluster_options cluster = {
        .durable = options->checksums, .checksums = options->checksums, .settings = options->postgresql_settings};
    world->cluster = pg_cluster_new(&cluster);
    world->files = forged_world_new(world->cluster);
    world->database = forged_world_database(world->files);
    world->superuser_url = pg_cluster_url(world->cluster, "postgres", world->database);
    snprintf(world->operator_token, sizeof world->operator_token, "%s", forged_world_operator_token(world->files));
    if (!options->database_proxy)
        return;
    world->database_proxy = fault_proxy_new(pg_cluster_port(world->cluster), true);
    if (!world->database_proxy)
        world_fail(world, "no proxy before PostgreSQL");
    add_flag(world, "--database-url");
    add_flag(world, pg_cluster_tcp_url(world->cluster, "forge_app", world->database, fault_proxy_port(world->database_proxy)));
}

static void create_organization(struct world *world, struct world_tenant *tenant, const char *name)
{
    Forge__V1__CreateOrganizationRequest request = FORGE__V1__CREATE_ORGANIZATION_REQUEST__INIT;
    Forge__V1__Organization *organization;
    Forge__V1__LoginRequest login = FORGE__V1__LOGIN_REQUEST__INIT;
    Forge__V1__LoginResponse *session;
    struct forge_error error = {0};
    char title[64];
    snprintf(title, sizeof title, "Organization %s", name);
    snprintf(tenant->email, sizeof tenant->email, "admin@%s.example", name);
    snprintf(tenant->password, sizeof tenant->password, "correct horse %s", name);
    request.name = title;
    request.admin_email = login.email = tenant->email;
    request.admin_password = login.password = tenant->password;
    struct forge_channel *channel = world_channel(world, 0, world->operator_token);
    world_check(world, "CreateOrganization", forge_organization_create(channel, NULL, &request, &organization, &error), &error);
    snprintf(tenant->organization_id, sizeof tenant->organization_id, "%s", organization->id);
    world_check(world, "Login", forge_organization_login(channel, NULL, &login, &session, &error), &error);
    snprintf(tenant->session_token, sizeof tenant->session_token, "%s", session->token);
    forge__v1__organization__free_unpacked(organization, NULL);
    forge__v1__login_response__free_unpacked(session, NULL);
    forge_channel_close(channel);
}

static void create_key(const struct world *world, struct forge_channel *channel, Forge__V1__Scope scope, char out_token[WORLD_TOKEN_SIZE])
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__ApiKey *key;
    struct forge_error error = {0};
    char name[] = "key of the tests";
    request.name = name;
    request.scopes = &scope;
    request.n_scopes = 1;
    world_check(world, "CreateApiKey", forge_organization_create_api_key(channel, NULL, &request, &key, &error), &error);
    snprintf(out_token, WORLD_TOKEN_SIZE, "%s", key->token);
    forge__v1__api_key__free_unpacked(key, NULL);
}

static void create_tenant(struct world *world, struct world_tenant *tenant, const char *name)
{
    Forge__V1__CreateProjectRequest request = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Project *project;
    struct forge_error error = {0};
    char title[] = "Support";
    create_organization(world, tenant, name);
    struct forge_channel *channel = world_channel(world, 0, tenant->session_token);
    create_key(world, channel, FORGE__V1__SCOPE__SCOPE_READ, tenant->read_key);
    create_key(world, channel, FORGE__V1__SCOPE__SCOPE_WRITE, tenant->write_key);
    create_key(world, channel, FORGE__V1__SCOPE__SCOPE_ADMIN, tenant->admin_key);
    create_key(world, channel, FORGE__V1__SCOPE__SCOPE_INGEST, tenant->ingest_key);
    request.name = title;
    world_check(world, "CreateProject", forge_project_create(channel, NULL, &request, &project, &error), &error);
    snprintf(tenant->project_id, sizeof tenant->project_id, "%s", project->id);
    forge__v1__project__free_unpacked(project, NULL);
    world_create_prompt(world, channel, tenant, "greeting", "Hello {{name}}!", tenant->prompt_id);
    forge_channel_close(channel);
}

void world_open(struct world *world, const struct world_options *options)
{
    const struct world_options defaults = {0};
    *world = (struct world){0};
    if (!options)
        options = &defaults;
    make_database(world, options);
    add_flag(world, "--log-level");
    add_flag(world, "warning");
    for (size_t i = 0; options->flags && options->flags[i]; i++)
        add_flag(world, options->flags[i]);
    unsigned servers = options->servers ? options->servers : 1;
    for (; world->server_count < servers; world->server_count++)
        world_server_start(world, world->server_count, true);
    create_tenant(world, &world->home, "home");
    create_tenant(world, &world->foreign, "foreign");
}

void world_close(struct world *world)
{
    for (unsigned i = 0; i < world->server_count; i++)
        world_server_stop(world, i);
    fault_proxy_free(world->database_proxy);
    forged_world_free(world->files);
    pg_cluster_free(world->cluster);
}
