#include "support/rpc_fixture.h"

#include "wire/clock.h"
#include "wire/envelope.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SQL_MAX = 4096, WAIT_S = 30, CALL_TIMEOUT_US = 20 * 1000 * 1000 };

/* --- database -------------------------------------------------------------------------------------------------------- */

void rpc_fixture_execute(struct rpc_fixture *fixture, const char *format, ...)
{
    char sql[SQL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    pg_cluster_execute(fixture->cluster, "postgres", fixture->database, sql);
}

int rpc_fixture_number(struct rpc_fixture *fixture, const char *format, ...)
{
    char sql[SQL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    return atoi(pg_cluster_query(fixture->cluster, "postgres", fixture->database, sql));
}

static const char *uuid_text(const struct forge_uuid *id)
{
    static _Thread_local char texts[8][FORGE_UUID_TEXT_SIZE];
    static _Thread_local unsigned next;
    char *text = texts[next++ % 8];
    forge_uuid_format(id, text);
    return text;
}

static void hash_hex(const char *token, char out[2 * FORGE_SHA256_SIZE + 1])
{
    uint8_t hash[FORGE_SHA256_SIZE];
    auth_token_hash(token, hash);
    for (int i = 0; i < FORGE_SHA256_SIZE; i++)
        sprintf(out + 2 * i, "%02x", hash[i]);
}

static void add_user(struct rpc_fixture *fixture, const char *role, struct forge_uuid *out_id, struct forge_uuid *out_session_id,
                     char out_token[AUTH_TOKEN_SIZE])
{
    char hash[2 * FORGE_SHA256_SIZE + 1];
    forge_uuid_v7(out_id);
    forge_uuid_v7(out_session_id);
    auth_token_make(AUTH_TOKEN_SESSION, &fixture->organization_id, out_token);
    hash_hex(out_token, hash);
    rpc_fixture_execute(fixture,
                        "INSERT INTO users (organization_id, id, email, name, role, password_hash) VALUES ('%s', '%s', '%s@example.com', "
                        "'%s', '%s', 'none');"
                        "INSERT INTO sessions (organization_id, id, user_id, token_hash, expires_at) VALUES ('%s', '%s', '%s', '\\x%s', "
                        "now() + interval '1 hour')",
                        uuid_text(&fixture->organization_id), uuid_text(out_id), role, role, role, uuid_text(&fixture->organization_id),
                        uuid_text(out_session_id), uuid_text(out_id), hash);
}

void rpc_fixture_add_api_key(struct rpc_fixture *fixture, const struct forge_uuid *id, const struct forge_uuid *user_id, unsigned scopes,
                             const char *more_columns, const char *more_values, char out_token[AUTH_TOKEN_SIZE])
{
    char hash[2 * FORGE_SHA256_SIZE + 1];
    auth_token_make(AUTH_TOKEN_API_KEY, &fixture->organization_id, out_token);
    hash_hex(out_token, hash);
    rpc_fixture_execute(fixture,
                        "INSERT INTO api_keys (organization_id, id, name, created_by, user_id, scopes, token_prefix, token_hash%s) "
                        "VALUES ('%s', '%s', 'key', '%s', '%s', %u, 'pfk_', '\\x%s'%s)",
                        more_columns, uuid_text(&fixture->organization_id), uuid_text(id), uuid_text(user_id), uuid_text(user_id), scopes,
                        hash, more_values);
}

static void add_operator_token(struct rpc_fixture *fixture)
{
    static const struct forge_uuid nil;
    char hash[2 * FORGE_SHA256_SIZE + 1];
    auth_token_make(AUTH_TOKEN_OPERATOR, &nil, fixture->operator_token);
    hash_hex(fixture->operator_token, hash);
    rpc_fixture_execute(fixture,
                        "INSERT INTO operator_tokens (id, token_hash, expires_at) VALUES (gen_random_uuid(), '\\x%s', now() + "
                        "interval '1 hour')",
                        hash);
}

static void add_organization(struct rpc_fixture *fixture)
{
    struct forge_uuid session_id, key_id;
    forge_uuid_v7(&fixture->organization_id);
    forge_uuid_v7(&fixture->project_id);
    rpc_fixture_execute(fixture,
                        "INSERT INTO organizations (organization_id, name, slug) VALUES ('%s', 'Test', 'test');"
                        "INSERT INTO projects (organization_id, id, name) VALUES ('%s', '%s', 'first')",
                        uuid_text(&fixture->organization_id), uuid_text(&fixture->organization_id), uuid_text(&fixture->project_id));
    add_user(fixture, "admin", &fixture->admin_id, &fixture->session_id, fixture->admin);
    add_user(fixture, "developer", &fixture->developer_id, &session_id, fixture->developer);
    add_user(fixture, "viewer", &fixture->viewer_id, &session_id, fixture->viewer);
    forge_uuid_v7(&fixture->api_key_id);
    rpc_fixture_add_api_key(fixture, &fixture->api_key_id, &fixture->admin_id, AUTH_SCOPE_READ, "", "", fixture->read_key);
    forge_uuid_v7(&key_id);
    rpc_fixture_add_api_key(fixture, &key_id, &fixture->admin_id, AUTH_SCOPE_WRITE, "", "", fixture->write_key);
    forge_uuid_v7(&key_id);
    rpc_fixture_add_api_key(fixture, &key_id, &fixture->admin_id, AUTH_SCOPE_INGEST, "", "", fixture->ingest_key);
    add_operator_token(fixture);
}

void rpc_fixture_open(struct rpc_fixture *fixture)
{
    static const char key_text[] = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    struct forge_error error = {0};
    char path[1024];
    memset(fixture, 0, sizeof *fixture);
    fixture->cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(fixture->cluster);
    fixture->database = pg_cluster_create_database(fixture->cluster, "forge_owner");
    snprintf(path, sizeof path, "%s/migrations/3f6b1c9d2a70_initial_schema.up.sql", getenv("FORGE_SOURCE_DIR"));
    pg_cluster_execute_file(fixture->cluster, "forge_owner", fixture->database, path);
    fixture->url = pg_cluster_url(fixture->cluster, "forge_app", fixture->database);
    add_organization(fixture);
    if (auth_key_file_parse("test", key_text, strlen(key_text), &fixture->keys, &error) != FORGE_OK ||
        auth_principal_cache_new(1000, &fixture->principals, &error) != FORGE_OK) {
        fprintf(stderr, "rpc_fixture_open: %s\n", error.message);
        exit(1);
    }
    atomic_store(&fixture->feed_is_fresh, true);
}

void rpc_fixture_close(struct rpc_fixture *fixture)
{
    auth_principal_cache_free(fixture->principals);
    pg_cluster_free(fixture->cluster);
}

/* --- server ---------------------------------------------------------------------------------------------------------- */

static uint64_t feed_last_poll_ms(void *user)
{
    struct rpc_fixture *fixture = user;
    return atomic_load(&fixture->feed_is_fresh) ? forge_clock_monotonic_ms() : 0;
}

static void changed(void *user, const struct forge_uuid *organization_id, const char *kind, const struct forge_uuid *object_id,
                    const struct forge_uuid *parent_id)
{
    struct rpc_fixture *fixture = user;
    struct db_change change = {.organization_id = *organization_id, .object_id = *object_id, .parent_id = *parent_id};
    snprintf(change.kind, sizeof change.kind, "%s", kind);
    auth_principal_cache_changed(&change, fixture->principals);
    atomic_fetch_add(&fixture->changes, 1);
}

void rpc_fixture_config(struct rpc_server_config *config)
{
    rpc_server_config_init(config);
    config->loops = 2;
    config->workers = 6;
    config->workers_interactive = 2;
    config->auth_threads = 1;
    config->instance = "test-instance";
    config->development = true;
}

void rpc_fixture_start(struct rpc_fixture *fixture, const struct rpc_server_config *config, const char *url, struct rpc_fixture_server *out)
{
    struct rpc_server_config own = *config;
    const struct db_pool_config pool = {.url = url ? url : fixture->url,
                                        .application_name = "rpc test",
                                        .kept_max = 4,
                                        .extra_max = 8,
                                        .idle_ms = 60000,
                                        .connect_timeout_ms = 5000};
    struct db_pool_status status;
    struct forge_error error = {0};
    *out = (struct rpc_fixture_server){.fixture = fixture, .metrics = base_metrics_new()};
    if (db_pool_new(&pool, &out->pool, &error) != FORGE_OK)
        fail_msg("%s", error.message);
    db_pool_wait_first(out->pool, 10000, &status);
    own.pool = out->pool;
    own.keys = &fixture->keys;
    own.principals = fixture->principals;
    own.metrics = out->metrics;
    own.changed = changed;
    own.feed_last_poll_ms = feed_last_poll_ms;
    own.user = fixture;
    if (rpc_server_new(&own, &out->server, &error) != FORGE_OK)
        fail_msg("%s", error.message);
}

void rpc_fixture_stop(struct rpc_fixture_server *server)
{
    rpc_server_free(server->server);
    db_pool_free(server->pool);
    base_metrics_free(server->metrics);
}

/* --- connections and calls ------------------------------------------------------------------------------------------- */

struct rpc_pending {
    struct rpc_pending *next;
    struct rpc_caller *caller;
    struct forge_loop_task task;
    uint8_t *body, *reply;
    size_t body_len, reply_len;
    bool truncated, answered, dropped;
    struct rpc_answer answer;
};
struct rpc_caller {
    struct rpc_fixture_server *server;
    struct forge_loop *loop;
    struct forge_loop_task task;
    struct rpc_connection *connection;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool step_done, verified;
    unsigned left, dropped;
    struct rpc_pending *calls;
};

static forge_code reply_begin(void *user, struct rpc_reply_room *room)
{
    struct rpc_pending *pending = room->tag;
    pending->reply = malloc(room->body_len);
    pending->reply_len = room->body_len;
    room->body = pending->reply;
    return FORGE_OK;
}

static void end(struct rpc_caller *caller, struct rpc_pending *pending, bool dropped)
{
    pthread_mutex_lock(&caller->lock);
    pending->answered = true;
    pending->dropped = dropped;
    caller->dropped += dropped;
    caller->left--;
    pthread_cond_broadcast(&caller->moved);
    pthread_mutex_unlock(&caller->lock);
}

static void reply_commit(void *user, struct rpc_reply_room *room)
{
    end(user, room->tag, false);
}

static void dropped(void *user, void *tag)
{
    end(user, tag, true);
}

static void verified(void *user)
{
    struct rpc_caller *caller = user;
    pthread_mutex_lock(&caller->lock);
    caller->verified = true;
    pthread_mutex_unlock(&caller->lock);
}

static const struct rpc_source_functions functions = {
    .reply_begin = reply_begin, .reply_commit = reply_commit, .dropped = dropped, .verified = verified};

static struct timespec wait_until(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    return until;
}

/* Under the lock: waits for *condition. */
static void wait_for(struct rpc_caller *caller, const bool *condition, const char *what)
{
    const struct timespec until = wait_until();
    while (!*condition)
        if (pthread_cond_timedwait(&caller->moved, &caller->lock, &until) == ETIMEDOUT)
            fail_msg("%s took longer than %d s", what, WAIT_S);
}

static void on_loop(struct rpc_caller *caller, void (*run)(struct forge_loop *loop, struct forge_loop_task *task))
{
    caller->step_done = false;
    caller->task.run = run;
    forge_loop_post(caller->loop, &caller->task);
    pthread_mutex_lock(&caller->lock);
    wait_for(caller, &caller->step_done, "a step on the loop");
    pthread_mutex_unlock(&caller->lock);
}

static void step_done(struct rpc_caller *caller)
{
    pthread_mutex_lock(&caller->lock);
    caller->step_done = true;
    pthread_cond_broadcast(&caller->moved);
    pthread_mutex_unlock(&caller->lock);
}

static void open_on_loop(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct rpc_caller *caller = (struct rpc_caller *)(void *)((char *)task - offsetof(struct rpc_caller, task));
    const struct rpc_source source = {.functions = &functions, .user = caller, .peer_address = "192.0.2.7"};
    caller->connection = rpc_source_open(caller->server->server, loop, &source);
    step_done(caller);
}

struct rpc_caller *rpc_caller_open(struct rpc_fixture_server *server, int loop)
{
    struct rpc_caller *caller = calloc(1, sizeof *caller);
    caller->server = server;
    caller->loop = forge_loops_at(rpc_server_loops(server->server), loop);
    pthread_mutex_init(&caller->lock, NULL);
    pthread_cond_init(&caller->moved, NULL);
    on_loop(caller, open_on_loop);
    if (caller->connection)
        return caller;
    free(caller);
    return NULL;
}

static void close_on_loop(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct rpc_caller *caller = (struct rpc_caller *)(void *)((char *)task - offsetof(struct rpc_caller, task));
    rpc_source_close(caller->connection);
    step_done(caller);
}

void rpc_caller_close(struct rpc_caller *caller)
{
    const struct timespec until = wait_until();
    on_loop(caller, close_on_loop);
    pthread_mutex_lock(&caller->lock);
    while (caller->left > 0)
        if (pthread_cond_timedwait(&caller->moved, &caller->lock, &until) == ETIMEDOUT)
            fail_msg("%u calls did not end within %d s", caller->left, WAIT_S);
    pthread_mutex_unlock(&caller->lock);
    for (struct rpc_pending *pending = caller->calls, *next; pending; pending = next) {
        next = pending->next;
        if (pending->answer.header)
            protobuf_c_message_free_unpacked((ProtobufCMessage *)(uintptr_t)pending->answer.header, NULL);
        free(pending->body);
        free(pending->reply);
        free(pending);
    }
    pthread_mutex_destroy(&caller->lock);
    pthread_cond_destroy(&caller->moved);
    free(caller);
}

bool rpc_caller_is_verified(struct rpc_caller *caller)
{
    pthread_mutex_lock(&caller->lock);
    bool is = caller->verified;
    pthread_mutex_unlock(&caller->lock);
    return is;
}

unsigned rpc_caller_dropped(struct rpc_caller *caller)
{
    pthread_mutex_lock(&caller->lock);
    unsigned count = caller->dropped;
    pthread_mutex_unlock(&caller->lock);
    return count;
}

static void submit_on_loop(struct forge_loop *loop, struct forge_loop_task *task)
{
    struct rpc_pending *pending = (struct rpc_pending *)(void *)((char *)task - offsetof(struct rpc_pending, task));
    const struct rpc_message message = {
        .body = pending->body, .body_len = pending->body_len, .truncated = pending->truncated, .tag = pending};
    rpc_source_submit(pending->caller->connection, &message);
}

static struct rpc_pending *send_body(struct rpc_caller *caller, uint8_t *body, size_t size, bool truncated)
{
    struct rpc_pending *pending = calloc(1, sizeof *pending);
    *pending = (struct rpc_pending){.caller = caller, .body = body, .body_len = size, .truncated = truncated};
    pthread_mutex_lock(&caller->lock);
    pending->next = caller->calls;
    caller->calls = pending;
    caller->left++;
    pthread_mutex_unlock(&caller->lock);
    pending->task.run = submit_on_loop;
    forge_loop_post(caller->loop, &pending->task);
    return pending;
}

struct rpc_pending *rpc_caller_send_raw(struct rpc_caller *caller, const void *body, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, body, size);
    return send_body(caller, copy, size, false);
}

struct rpc_pending *rpc_caller_send(struct rpc_caller *caller, const struct rpc_request *request)
{
    Forge__V1__RequestHeader own = FORGE__V1__REQUEST_HEADER__INIT;
    const Forge__V1__RequestHeader *header = request->header ? request->header : &own;
    char method[256];
    snprintf(method, sizeof method, "forge.v1.%s", request->method ? request->method : "");
    own.method = method;
    own.timeout_us = request->timeout_us ? request->timeout_us : CALL_TIMEOUT_US;
    own.max_reply_bytes = request->max_reply_bytes;
    if (request->token)
        own.authorization = (char *)(uintptr_t)request->token;
    if (request->request_id) {
        own.request_id.data = (uint8_t *)(uintptr_t)request->request_id->bytes;
        own.request_id.len = sizeof request->request_id->bytes;
    }
    size_t payload_len = request->message ? protobuf_c_message_get_packed_size(request->message) : 0;
    size_t size = forge_envelope_size(&header->base, payload_len);
    uint8_t *body = malloc(size);
    uint8_t *payload = forge_envelope_pack_header(&header->base, body);
    if (request->message)
        protobuf_c_message_pack(request->message, payload);
    return send_body(caller, body, size, request->truncated);
}

bool rpc_pending_is_answered(struct rpc_pending *pending)
{
    pthread_mutex_lock(&pending->caller->lock);
    bool is = pending->answered;
    pthread_mutex_unlock(&pending->caller->lock);
    return is;
}

const struct rpc_answer *rpc_pending_wait(struct rpc_pending *pending)
{
    struct forge_envelope envelope;
    struct forge_error error = {0};
    pthread_mutex_lock(&pending->caller->lock);
    wait_for(pending->caller, &pending->answered, "an answer");
    pthread_mutex_unlock(&pending->caller->lock);
    if (pending->dropped)
        return NULL;
    if (!pending->answer.header) {
        assert_int_equal(forge_envelope_parse(pending->reply, pending->reply_len, FORGE_ENVELOPE_HEADER_MAX, &envelope, &error), FORGE_OK);
        pending->answer.header = forge__v1__reply_header__unpack(NULL, envelope.header_len, envelope.header);
        assert_non_null(pending->answer.header);
        pending->answer.payload = envelope.payload;
        pending->answer.payload_len = envelope.payload_len;
    }
    return &pending->answer;
}

const struct rpc_answer *rpc_caller_call(struct rpc_caller *caller, const struct rpc_request *request)
{
    return rpc_pending_wait(rpc_caller_send(caller, request));
}

void rpc_answer_expect_reason(const struct rpc_answer *answer, forge_code code, const char *reason, const char *text)
{
    assert_non_null(answer);
    const Forge__V1__ReplyHeader *header = answer->header;
    if (header->code != (Forge__V1__Code)code || (text && !strstr(header->message, text)))
        fail_msg("%s \"%s\", not %s \"%s\"", forge_code_name((forge_code)header->code), header->message, forge_code_name(code),
                 text ? text : "");
    assert_string_equal(header->server_instance, "test-instance");
    assert_true((code == FORGE_OK) == (header->n_details == 0));
    if (code == FORGE_OK)
        return;
    assert_int_equal(answer->payload_len, 0);
    assert_int_equal(header->details[0]->detail_case, FORGE__V1__ERROR_DETAIL__DETAIL_ERROR_INFO);
    assert_string_equal(header->details[0]->error_info->reason, reason);
    assert_string_equal(header->details[0]->error_info->domain, "promptforge");
}

void rpc_answer_expect(const struct rpc_answer *answer, forge_code code, const char *text)
{
    rpc_answer_expect_reason(answer, code, forge_code_name(code), text);
}

ProtobufCMessage *rpc_answer_unpack(const struct rpc_answer *answer, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(type, NULL, answer->payload_len, answer->payload);
    assert_non_null(message);
    return message;
}

/* --- gates ----------------------------------------------------------------------------------------------------------- */

void rpc_gate_pass(struct rpc_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->inside++;
    pthread_cond_broadcast(&gate->moved);
    while (!gate->open)
        pthread_cond_wait(&gate->moved, &gate->lock);
    gate->inside--;
    pthread_cond_broadcast(&gate->moved);
    pthread_mutex_unlock(&gate->lock);
}

void rpc_gate_wait_inside(struct rpc_gate *gate, unsigned handlers)
{
    const struct timespec until = wait_until();
    pthread_mutex_lock(&gate->lock);
    while (gate->inside != handlers)
        if (pthread_cond_timedwait(&gate->moved, &gate->lock, &until) == ETIMEDOUT) {
            unsigned inside = gate->inside;
            pthread_mutex_unlock(&gate->lock);
            fail_msg("%u handlers at the gate, not %u", inside, handlers);
        }
    pthread_mutex_unlock(&gate->lock);
}

static void gate_set(struct rpc_gate *gate, bool open)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = open;
    pthread_cond_broadcast(&gate->moved);
    pthread_mutex_unlock(&gate->lock);
}

void rpc_gate_open(struct rpc_gate *gate)
{
    gate_set(gate, true);
}
void rpc_gate_close(struct rpc_gate *gate)
{
    gate_set(gate, false);
}
