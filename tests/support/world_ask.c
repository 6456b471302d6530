/* What tests ask a running product: over HTTP, in SQL, through libforge. */
#include "support/world.h"

#include "wire/clock.h"

#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 20, ADDRESSES = 8 };

/* ---- HTTP ---- */

double world_metric(const struct world *world, unsigned server, const char *name)
{
    char *body = NULL;
    size_t length = strlen(name);
    double value = -1;
    if (forged_child_http(world->servers[server].child, "/metrics", &body) == 200) {
        for (char *rest = body, *line; (line = strsep(&rest, "\n"));) {
            if (strncmp(line, name, length) == 0 && line[length] == ' ')
                value = strtod(line + length, NULL);
        }
    }
    free(body);
    return value;
}

bool world_wait_ready(const struct world *world, unsigned server, unsigned timeout_ms)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + timeout_ms;
    while (forged_child_http(world->servers[server].child, "/readyz", NULL) != 200) {
        if (forge_clock_monotonic_ms() >= until_ms)
            return false;
        world_sleep_ms(LOOK_MS);
    }
    return true;
}

/* Waits until the metric has this value. */
static bool wait_metric(const struct world *world, unsigned server, const char *name, double value, unsigned timeout_ms)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + timeout_ms;
    for (;;) {
        double found = world_metric(world, server, name);
        if (found >= value && found <= value)
            return true;
        if (forge_clock_monotonic_ms() >= until_ms) {
            fprintf(stderr, "%s is %g, not %g\n", name, found, value);
            return false;
        }
        world_sleep_ms(LOOK_MS);
    }
}

bool world_is_at_rest(const struct world *world, unsigned server, unsigned timeout_ms)
{
    static const char *const GAUGES[] = {"forged_calls_in_flight", "forged_parked_calls", "forged_database_connections{state=\"leased\"}",
                                         "forged_database_connections{state=\"waiting\"}"};
    uint64_t until_ms = forge_clock_monotonic_ms() + timeout_ms;
    bool at_rest = true;
    for (size_t i = 0; i < sizeof GAUGES / sizeof GAUGES[0]; i++) {
        uint64_t now_ms = forge_clock_monotonic_ms();
        at_rest &= wait_metric(world, server, GAUGES[i], 0, until_ms > now_ms ? (unsigned)(until_ms - now_ms) : 0);
    }
    return at_rest;
}

/* ---- SQL ---- */

static char *ask(const struct world *world, const char *format, va_list arguments)
{
    char *sql, *value = NULL;
    if (vasprintf(&sql, format, arguments) < 0)
        world_fail(world, "no memory for a statement");
    PGconn *conn = PQconnectdb(world->superuser_url);
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        world_fail(world, "%s: %s", sql, PQerrorMessage(conn));
    if (PQntuples(result) > 0)
        value = strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(conn);
    free(sql);
    return value ? value : strdup("");
}

int64_t world_number(const struct world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = ask(world, format, arguments);
    va_end(arguments);
    int64_t number = strtoll(text, NULL, 10);
    free(text);
    return number;
}

void world_execute(const struct world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    free(ask(world, format, arguments));
    va_end(arguments);
}

/* ---- calls ---- */

const char *world_address(const struct world *world, unsigned server)
{
    static _Thread_local char texts[ADDRESSES][32];
    static _Thread_local unsigned next;
    char *text = texts[next++ % ADDRESSES];
    snprintf(text, sizeof texts[0], "localhost:%u", world->servers[server].port);
    return text;
}

struct forge_channel *world_channel_to(const struct world *world, const char *addresses, const char *token)
{
    const struct forge_channel_options options = {.addresses = addresses,
                                                  .token = token,
                                                  .ca_file = tls_files_path(forged_world_tls(world->files), "ca.pem"),
                                                  .client_info = "tests"};
    struct forge_channel *channel = NULL;
    struct forge_error error = {0};
    world_check(world, "a channel", forge_channel_open(&options, &channel, &error), &error);
    return channel;
}

struct forge_channel *world_channel(const struct world *world, unsigned server, const char *token)
{
    return world_channel_to(world, world_address(world, server), token);
}

void world_create_prompt(const struct world *world, struct forge_channel *channel, const struct world_tenant *tenant, const char *name,
                         const char *content, char out_id[WORLD_ID_SIZE])
{
    Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    struct forge_error error = {0};
    char project_id[WORLD_ID_SIZE], *name_copy = strdup(name), *content_copy = strdup(content);
    memcpy(project_id, tenant->project_id, sizeof project_id);
    request.project_id = project_id;
    request.name = name_copy;
    request.content = content_copy;
    world_check(world, "CreatePrompt", forge_prompt_create(channel, NULL, &request, &prompt, &error), &error);
    snprintf(out_id, WORLD_ID_SIZE, "%s", prompt->id);
    forge__v1__prompt__free_unpacked(prompt, NULL);
    free(name_copy);
    free(content_copy);
}
