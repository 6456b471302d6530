#include "db/conn.h"

#include "db/url.h"

#include "wire/crypto.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Set at the server's end: a stopped or vanished forged must not hold locks and claims (schema.md, Exactly once). No JIT compiler: it
 * starts by estimates, and compiling takes longer than our longest statements take without it (ARCHITECTURE.md). */
#define SERVER_OPTIONS                                                                                                                     \
    "-c idle_in_transaction_session_timeout=10000 -c TimeZone=UTC -c DateStyle=ISO -c jit=off -c tcp_keepalives_idle=10 "                  \
    "-c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=15000"

enum { PARAMETERS_MAX = 64 };

struct parameters {
    const char *keywords[PARAMETERS_MAX + 1];
    const char *values[PARAMETERS_MAX + 1];
    int count;
    char connect_timeout_s[16];
    char options[1024];
};

void db_bug(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bug in server/db: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

void db_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

forge_code db_pool_config_copy(const struct db_pool_config *config, struct db_pool_config *out, struct forge_error *error)
{
    PQconninfoOption *options = NULL;
    forge_code rc = db_url_parse(config->url, &options, error);
    PQconninfoFree(options);
    if (rc != FORGE_OK)
        return rc;
    struct db_pool_config copy = *config;
    copy.url = strdup(config->url);
    copy.application_name = strdup(config->application_name);
    if (copy.url == NULL || copy.application_name == NULL) {
        db_pool_config_done(&copy);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the settings of a connection");
    }
    *out = copy;
    return FORGE_OK;
}

void db_pool_config_done(struct db_pool_config *config)
{
    char *url = (char *)(uintptr_t)config->url;
    if (url != NULL)
        forge_cleanse(url, strlen(url)); /* may hold a password */
    free(url);
    free((char *)(uintptr_t)config->application_name);
    config->url = config->application_name = NULL;
}

static void notice_ignore(void *user, const char *message) {}

static void parameter_set(struct parameters *parameters, const char *keyword, const char *value, bool overrides)
{
    for (int i = 0; i < parameters->count; i++)
        if (strcmp(parameters->keywords[i], keyword) == 0) {
            if (overrides)
                parameters->values[i] = value;
            return;
        }
    if (parameters->count == PARAMETERS_MAX)
        db_bug("libpq has more than %d connection parameters", PARAMETERS_MAX);
    parameters->keywords[parameters->count] = keyword;
    parameters->values[parameters->count++] = value;
}

/* The URL's own parameters win where they tune something, ours where the server relies on them. */
static forge_code parameters_make(const struct db_pool_config *config, const PQconninfoOption *options, struct parameters *out,
                                  struct forge_error *error)
{
    const char *url_options = "";
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val == NULL)
            continue;
        parameter_set(out, option->keyword, option->val, true);
        if (strcmp(option->keyword, "options") == 0)
            url_options = option->val;
    }
    int length = snprintf(out->options, sizeof(out->options), "%s %s", url_options, SERVER_OPTIONS);
    if (length >= (int)sizeof(out->options))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "the database URL's parameter options is longer than %zu bytes",
                               sizeof(out->options) - sizeof(SERVER_OPTIONS));
    snprintf(out->connect_timeout_s, sizeof(out->connect_timeout_s), "%u", (config->connect_timeout_ms + 999) / 1000);
    parameter_set(out, "options", out->options, true);
    parameter_set(out, "client_encoding", "UTF8", true);
    parameter_set(out, "connect_timeout", out->connect_timeout_s, true);
    parameter_set(out, "application_name", config->application_name, false);
    parameter_set(out, "keepalives", "1", false);
    parameter_set(out, "keepalives_idle", "10", false);
    parameter_set(out, "keepalives_interval", "5", false);
    parameter_set(out, "keepalives_count", "3", false);
    parameter_set(out, "tcp_user_timeout", "15000", false);
    return FORGE_OK;
}

/* libpq's reason in one line. */
static forge_code connect_failed(PGconn *pg, struct forge_error *error)
{
    char reason[FORGE_ERROR_MESSAGE_MAX - 64];
    snprintf(reason, sizeof(reason), "%s", pg == NULL ? "out of memory" : PQerrorMessage(pg));
    size_t length = strlen(reason);
    while (length > 0 && reason[length - 1] == '\n')
        reason[--length] = '\0';
    for (char *at = reason; *at != '\0'; at++)
        if (*at == '\n' || *at == '\t')
            *at = ' ';
    PQfinish(pg);
    return forge_error_set(error, FORGE_UNAVAILABLE, "no connection to PostgreSQL: %s", reason);
}

static forge_code connection_make(const struct parameters *parameters, struct db_conn **out, struct forge_error *error)
{
    PGconn *pg = PQconnectdbParams(parameters->keywords, parameters->values, 0);
    if (pg == NULL || PQstatus(pg) != CONNECTION_OK)
        return connect_failed(pg, error);
    PQsetNoticeProcessor(pg, notice_ignore, NULL);
    struct db_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL || PQsetnonblocking(pg, 1) != 0 || PQenterPipelineMode(pg) != 1) {
        free(conn);
        PQfinish(pg);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a connection to PostgreSQL");
    }
    conn->pg = pg;
    *out = conn;
    return FORGE_OK;
}

forge_code db_conn_open(const struct db_pool_config *config, struct db_conn **out, struct forge_error *error)
{
    PQconninfoOption *options;
    forge_code rc = db_url_parse(config->url, &options, error);
    if (rc != FORGE_OK)
        return rc;
    struct parameters parameters = {0};
    rc = parameters_make(config, options, &parameters, error);
    if (rc == FORGE_OK)
        rc = connection_make(&parameters, out, error);
    PQconninfoFree(options);
    return rc;
}

void db_conn_close(struct db_conn *conn)
{
    if (conn == NULL)
        return;
    PQfinish(conn->pg);
    free(conn);
}

bool db_conn_is_alive(struct db_conn *conn)
{
    /* To an idle connection a server tells its end, and in passing changed settings: either way a new one is better. */
    struct pollfd ready = {.fd = PQsocket(conn->pg), .events = POLLIN};
    conn->broken = conn->broken || poll(&ready, 1, 0) != 0;
    return !conn->broken;
}
