#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"
#include "wire/json.h"
#include "wire/uuid.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHANNELS_MAX = 128, TEXTS_MAX = 256 };

static struct pg_cluster *cluster;
static struct forged_world *world;
static struct forged_child *child;
static struct forge_channel *channels[CHANNELS_MAX], *operator_channel;
static unsigned channel_count, text_count;
static char *texts[TEXTS_MAX];
static struct forge_arena call_arena; /* of the last service_call */
static const char *reply_json = "";
static bool reply_is_stored;
struct forge_error service_error;

int service_start(void **state)
{
    (void)state;
    static const char *const flags[] = {"--usage-flush-interval", "100ms", NULL};
    cluster = pg_cluster_new(NULL);
    world = forged_world_new(cluster);
    child = forged_world_serve(world, flags);
    operator_channel = service_channel(forged_world_operator_token(world));
    return 0;
}

int service_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < channel_count; i++)
        forge_channel_close(channels[i]);
    for (unsigned i = 0; i < text_count; i++)
        free(texts[i]);
    forge_error_free(&service_error);
    forge_arena_done(&call_arena);
    forged_child_stop(child);
    forged_world_free(world);
    pg_cluster_free(cluster);
    return 0;
}

struct forged_child *service_child(void)
{
    return child;
}

struct forged_world *service_world(void)
{
    return world;
}

struct pg_cluster *service_cluster(void)
{
    return cluster;
}

const char *service_query(const char *sql)
{
    return pg_cluster_query(cluster, "postgres", forged_world_database(world), sql);
}

void service_execute(const char *sql)
{
    pg_cluster_execute(cluster, "postgres", forged_world_database(world), sql);
}

struct service_lock {
    PGconn *holder, *observer;
};

struct service_lock *service_lock_take(const char *sql)
{
    const char *url = pg_cluster_url(cluster, "postgres", forged_world_database(world));
    struct service_lock *lock = malloc(sizeof *lock);
    assert_non_null(lock);
    *lock = (struct service_lock){PQconnectdb(url), PQconnectdb(url)};
    PQclear(PQexec(lock->holder, "BEGIN"));
    PQclear(PQexec(lock->holder, sql));
    assert_int_equal(PQtransactionStatus(lock->holder), PQTRANS_INTRANS);
    return lock;
}

void service_lock_wait(struct service_lock *lock, int count)
{
    time_t latest = time(NULL) + 30;
    int waiting;
    do {
        PGresult *result = PQexec(lock->observer, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
        assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
        waiting = atoi(PQgetvalue(result, 0, 0));
        PQclear(result);
        assert_true(time(NULL) < latest);
    } while (waiting < count);
}

void service_lock_release(struct service_lock *lock)
{
    PQclear(PQexec(lock->holder, "COMMIT"));
    PQfinish(lock->holder);
    PQfinish(lock->observer);
    free(lock);
}

struct forge_channel *service_channel(const char *token)
{
    const struct forge_channel_options options = {.addresses = forged_child_address(child),
                                                  .token = token,
                                                  .ca_file = tls_files_path(forged_world_tls(world), "ca.pem"),
                                                  .client_info = "service-test/1",
                                                  .default_timeout_ms = 30000};
    assert_in_range(channel_count, 0, CHANNELS_MAX - 1);
    service_ok(forge_channel_open(&options, &channels[channel_count], &service_error));
    return channels[channel_count++];
}

struct forge_channel *service_operator(void)
{
    return operator_channel;
}

forge_code service_login(const char *email, const char *password, char out_token[128])
{
    static struct forge_channel *nobody;
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    Forge__V1__LoginResponse *reply;
    if (nobody == NULL)
        nobody = service_channel(NULL);
    request.email = TEXT(email);
    request.password = TEXT(password);
    forge_code rc = forge_organization_login(nobody, NULL, &request, &reply, &service_error);
    if (rc != FORGE_OK)
        return rc;
    snprintf(out_token, 128, "%s", reply->token);
    forge__v1__login_response__free_unpacked(reply, NULL);
    return FORGE_OK;
}

struct forge_channel *service_user_make(const struct service_tenant *tenant, const char *email, Forge__V1__Role role, char out_id[37])
{
    Forge__V1__CreateUserRequest request = FORGE__V1__CREATE_USER_REQUEST__INIT;
    Forge__V1__User *user;
    char token[128];
    request.email = TEXT(email);
    request.role = role;
    request.password = TEXT("user1234");
    service_ok(forge_organization_create_user(tenant->admin, NULL, &request, &user, &service_error));
    if (out_id != NULL)
        snprintf(out_id, 37, "%s", user->id);
    forge__v1__user__free_unpacked(user, NULL);
    service_ok(service_login(email, "user1234", token));
    return service_channel(token);
}

forge_code service_ask(struct forge_channel *channel)
{
    Forge__V1__GetOrganizationRequest request = FORGE__V1__GET_ORGANIZATION_REQUEST__INIT;
    Forge__V1__Organization *reply;
    forge_code rc = forge_organization_get(channel, NULL, &request, &reply, &service_error);
    if (rc == FORGE_OK)
        forge__v1__organization__free_unpacked(reply, NULL);
    return rc;
}

void service_tenant_make(const char *name, struct service_tenant *out)
{
    Forge__V1__CreateOrganizationRequest organization = FORGE__V1__CREATE_ORGANIZATION_REQUEST__INIT;
    Forge__V1__CreateProjectRequest project = FORGE__V1__CREATE_PROJECT_REQUEST__INIT;
    Forge__V1__Organization *made;
    Forge__V1__Project *made_project;
    snprintf(out->email, sizeof out->email, "admin@%s.example", name);
    organization.name = TEXT(name);
    organization.admin_email = out->email;
    organization.admin_password = TEXT("admin123");
    service_ok(forge_organization_create(operator_channel, NULL, &organization, &made, &service_error));
    snprintf(out->organization_id, sizeof out->organization_id, "%s", made->id);
    forge__v1__organization__free_unpacked(made, NULL);
    service_ok(service_login(out->email, "admin123", out->token));
    out->admin = service_channel(out->token);
    project.name = TEXT("main");
    service_ok(forge_project_create(out->admin, NULL, &project, &made_project, &service_error));
    snprintf(out->project_id, sizeof out->project_id, "%s", made_project->id);
    forge__v1__project__free_unpacked(made_project, NULL);
}

struct forge_channel *service_key_channel(const struct service_tenant *tenant, Forge__V1__Scope scope, const char *project_id)
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__ApiKey *key;
    request.name = TEXT("test");
    request.n_scopes = 1;
    request.scopes = &scope;
    request.project_id = TEXT(project_id != NULL ? project_id : "");
    service_ok(forge_organization_create_api_key(tenant->admin, NULL, &request, &key, &service_error));
    struct forge_channel *channel = service_channel(key->token);
    forge__v1__api_key__free_unpacked(key, NULL);
    return channel;
}

void service_prompt_make(struct forge_channel *channel, const char *project_id, const char *name, const char *content, char out_id[37])
{
    Forge__V1__CreatePromptRequest request = FORGE__V1__CREATE_PROMPT_REQUEST__INIT;
    Forge__V1__Prompt *prompt;
    request.project_id = TEXT(project_id);
    request.name = TEXT(name);
    request.content = TEXT(content);
    service_ok(forge_prompt_create(channel, NULL, &request, &prompt, &service_error));
    snprintf(out_id, 37, "%s", prompt->id);
    forge__v1__prompt__free_unpacked(prompt, NULL);
}

static char *with_quotes(const char *format, va_list arguments)
{
    static char text[1 << 16];
    assert_in_range(vsnprintf(text, sizeof text, format, arguments), 0, sizeof text - 1);
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    return text;
}

forge_code service_call(struct forge_channel *channel, const char *method_name, const char *request_id, const char *format, ...)
{
    static const struct forge_json_options plain = {0};
    const struct forge_call_options options = {.request_id = request_id};
    struct forge_reply_info info;
    ProtobufCMessage *request, *reply;
    char name[128];
    va_list arguments;
    forge_arena_done(&call_arena);
    forge_arena_init(&call_arena, 16 << 20, NULL);
    snprintf(name, sizeof name, "forge.v1.%s", method_name);
    const struct forge_method *method = forge_method_find(name);
    assert_non_null(method);
    va_start(arguments, format);
    const char *json = with_quotes(format, arguments);
    va_end(arguments);
    service_ok(forge_json_to_message(json, strlen(json), method->input, &call_arena, &request, &service_error));
    forge_code rc = forge_channel_call_with_info(channel, method, &options, request, &reply, &info, &service_error);
    reply_json = "";
    reply_is_stored = rc == FORGE_OK && info.replayed;
    if (rc != FORGE_OK)
        return rc;
    reply_json = forge_json_from_message(reply, &plain, &call_arena);
    assert_non_null(reply_json);
    protobuf_c_message_free_unpacked(reply, NULL);
    return rc;
}

const char *service_reply(void)
{
    return reply_json;
}

bool service_reply_is_stored(void)
{
    return reply_is_stored;
}

void service_reply_text(const char *field, char *out, size_t size)
{
    char head[64];
    snprintf(head, sizeof head, "\"%s\":\"", field);
    const char *value = strstr(reply_json, head);
    value = value != NULL ? value + strlen(head) : "";
    snprintf(out, size, "%.*s", (int)strcspn(value, "\""), value);
}

void service_shows_at(const char *file, int line, ...)
{
    const char *at = reply_json, *part;
    va_list parts;
    va_start(parts, line);
    while ((part = va_arg(parts, const char *)) != NULL) {
        char wanted[1024];
        snprintf(wanted, sizeof wanted, "%s", part);
        for (char *c = wanted; *c != '\0'; c++)
            *c = *c == '\'' ? '"' : *c;
        at = strstr(at, wanted);
        if (at == NULL) {
            print_error("expected %s in its place in\n%s\n", wanted, reply_json);
            _fail(file, line);
        }
        at += strlen(wanted);
    }
    va_end(parts);
}

/* The end of the server's log, for whoever reads the failure. */
static void print_log(void)
{
    enum { TAIL = 2000 };
    char *log = forged_child_log(child);
    size_t length = log != NULL ? strlen(log) : 0;
    fputs(length > TAIL ? log + length - TAIL : length > 0 ? log : "", stderr); /* print_error cuts */
    free(log);
}

void service_ok_at(forge_code rc, const char *file, int line)
{
    if (rc == FORGE_OK)
        return;
    print_error("%s: %s\n", forge_code_name(rc), service_error.message);
    for (const struct forge_violation *violation = service_error.violations; violation != NULL; violation = violation->next)
        print_error("  %s: %s\n", violation->field, violation->description);
    print_log();
    _fail(file, line);
}

void service_fails_at(forge_code rc, forge_code code, const char *part, const char *file, int line)
{
    if (rc != code || strstr(service_error.message, part) == NULL || service_error.code != code) {
        print_error("got %s: %s\nexpected %s: ..%s..\n", forge_code_name(rc), service_error.message, forge_code_name(code), part);
        print_log();
        _fail(file, line);
    }
    forge_error_free(&service_error);
}

void service_violates_at(const char *file, int line, forge_code rc, ...)
{
    va_list arguments;
    bool fits = rc == FORGE_INVALID_ARGUMENT;
    const struct forge_violation *violation = service_error.violations;
    va_start(arguments, rc);
    for (const char *field; fits && (field = va_arg(arguments, const char *)) != NULL;) {
        const char *part = va_arg(arguments, const char *);
        fits = violation != NULL && strcmp(violation->field, field) == 0 && strstr(violation->description, part) != NULL;
        if (!fits)
            print_error("expected %s: ..%s..\n", field, part);
        else
            violation = violation->next;
    }
    va_end(arguments);
    if (!fits || violation != NULL) {
        print_error("got %s: %s\n", forge_code_name(rc), service_error.message);
        for (violation = service_error.violations; violation != NULL; violation = violation->next)
            print_error("  %s: %s\n", violation->field, violation->description);
        _fail(file, line);
    }
    forge_error_free(&service_error);
}

char *service_repeat(const char *text, size_t n)
{
    size_t length = strlen(text);
    char *joined = malloc(length * n + 1);
    assert_non_null(joined);
    assert_in_range(text_count, 0, TEXTS_MAX - 1);
    for (size_t i = 0; i < n; i++)
        memcpy(joined + i * length, text, length);
    joined[length * n] = '\0';
    texts[text_count++] = joined;
    return joined;
}

const char *service_request_id(void)
{
    static _Thread_local char text[FORGE_UUID_TEXT_SIZE];
    struct forge_uuid id;
    forge_uuid_v7(&id);
    forge_uuid_format(&id, text);
    return text;
}
