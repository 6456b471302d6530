/* Who may call what: every method of the contract, called with every role and key scope, by a credential that the server has not seen and
 * by one it knows. The oracle is the table of methods in proto/README.md, which is what callers read. Requests are empty: what is allowed
 * is then refused for another reason, or harmless. */
#include "support/world.h"
#include "wire/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LINE_SIZE = 256, METHODS_MAX = 200, CALLS = 3 };

/* Ordered as in the table: a credential of a level may do what the lower ones may. */
enum level { NOTHING, VIEWER, DEVELOPER, ADMIN };

struct caller {
    const char *name;
    enum level level;
    bool is_session, is_ingest, is_operator;
    char token[WORLD_TOKEN_SIZE];
};
enum { ADMIN_SESSION, DEVELOPER_SESSION, VIEWER_SESSION, READ_KEY, WRITE_KEY, ADMIN_KEY, INGEST_KEY, OPERATOR, CALLERS };
static struct caller callers[CALLERS] = {
    [ADMIN_SESSION] = {"an admin's session", ADMIN, true, false, false, ""},
    [DEVELOPER_SESSION] = {"a developer's session", DEVELOPER, true, false, false, ""},
    [VIEWER_SESSION] = {"a viewer's session", VIEWER, true, false, false, ""},
    [READ_KEY] = {"a key with scope read", VIEWER, false, false, false, ""},
    [WRITE_KEY] = {"a key with scope write", DEVELOPER, false, false, false, ""},
    [ADMIN_KEY] = {"a key with scope admin", ADMIN, false, false, false, ""},
    [INGEST_KEY] = {"a key with scope ingest", NOTHING, false, true, false, ""},
    [OPERATOR] = {"an operator token", NOTHING, false, false, true, ""},
};

/* A row of the table. */
struct method_row {
    char name[128], role, credential[32];
};
static struct method_row methods[METHODS_MAX];
static int method_count;

static struct world world;
static struct forge_arena arena;

static void read_methods(void)
{
    char path[4096], line[LINE_SIZE];
    snprintf(path, sizeof path, "%s/proto/README.md", getenv("FORGE_SOURCE_DIR"));
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        struct method_row *row = &methods[method_count];
        if (sscanf(line, "| `forge.v1.%100[^`]` | %c | %31[^|]|", row->name, &row->role, row->credential) != 3)
            continue;
        assert_true(++method_count < METHODS_MAX);
    }
    fclose(file);
    int known = 0;
    while (forge_method_at((size_t)known))
        known++;
    assert_int_equal(method_count, known);
}

static bool is_allowed(const struct method_row *row, const struct caller *caller)
{
    if (row->role == '-' || strstr(row->credential, "any"))
        return true;
    if (row->role == 'B')
        return caller->is_operator;
    if (strstr(row->credential, "session"))
        return caller->is_session;
    if (caller->is_ingest)
        return strstr(row->credential, "ingest") != NULL;
    enum level needed = row->role == 'A' ? ADMIN : row->role == 'D' ? DEVELOPER : VIEWER;
    return caller->level >= needed;
}

/* ---- credentials ---- */

/* A user of this role who has the admin's password. */
static void make_user(const char *role)
{
    world_execute(&world,
                  "WITH u AS (INSERT INTO users (organization_id, id, email, name, role, password_hash) SELECT organization_id,"
                  " gen_random_uuid(), '%s@roles.example', '%s', '%s', password_hash FROM users WHERE email = '%s'"
                  " RETURNING email, organization_id, id) INSERT INTO login_names (email, organization_id, user_id)"
                  " SELECT email, organization_id, id FROM u",
                  role, role, role, world.home.email);
}

static void log_in(const char *email, char out_token[WORLD_TOKEN_SIZE])
{
    Forge__V1__LoginRequest request = FORGE__V1__LOGIN_REQUEST__INIT;
    Forge__V1__LoginResponse *session;
    struct forge_error error = {0};
    struct forge_channel *channel = world_channel(&world, 0, NULL);
    char copy[64];
    snprintf(copy, sizeof copy, "%s", email);
    request.email = copy;
    request.password = world.home.password;
    world_check(&world, "Login", forge_organization_login(channel, NULL, &request, &session, &error), &error);
    snprintf(out_token, WORLD_TOKEN_SIZE, "%s", session->token);
    forge__v1__login_response__free_unpacked(session, NULL);
    forge_channel_close(channel);
}

static void new_key(Forge__V1__Scope scope, char out_token[WORLD_TOKEN_SIZE])
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__ApiKey *key;
    struct forge_error error = {0};
    struct forge_channel *admin = world_channel(&world, 0, world.home.session_token);
    char name[] = "roles";
    request.name = name;
    request.scopes = &scope;
    request.n_scopes = 1;
    world_check(&world, "CreateApiKey", forge_organization_create_api_key(admin, NULL, &request, &key, &error), &error);
    snprintf(out_token, WORLD_TOKEN_SIZE, "%s", key->token);
    forge__v1__api_key__free_unpacked(key, NULL);
    forge_channel_close(admin);
}

/* One that the server has not seen. */
static void fresh_credential(int caller)
{
    static const char *const emails[] = {[DEVELOPER_SESSION] = "developer@roles.example", [VIEWER_SESSION] = "viewer@roles.example"};
    static const Forge__V1__Scope scopes[] = {[READ_KEY] = FORGE__V1__SCOPE__SCOPE_READ,
                                              [WRITE_KEY] = FORGE__V1__SCOPE__SCOPE_WRITE,
                                              [ADMIN_KEY] = FORGE__V1__SCOPE__SCOPE_ADMIN,
                                              [INGEST_KEY] = FORGE__V1__SCOPE__SCOPE_INGEST};
    char *token = callers[caller].token;
    if (caller == OPERATOR)
        snprintf(token, WORLD_TOKEN_SIZE, "%s", world.operator_token);
    else if (caller >= READ_KEY)
        new_key(scopes[caller], token);
    else
        log_in(caller == ADMIN_SESSION ? world.home.email : emails[caller], token);
}

static int open_world(void **state)
{
    world_open(&world, NULL);
    forge_arena_init(&arena, 1 << 20, NULL);
    make_user("developer");
    make_user("viewer");
    read_methods();
    return 0;
}

static int close_world(void **state)
{
    forge_arena_done(&arena);
    world_close(&world);
    return 0;
}

/* ---- the matrix ---- */

static void expect_access(struct forge_channel *channel, const struct method_row *row, const struct caller *caller, bool known)
{
    const struct forge_call_options options = {.timeout_ms = 1500}; /* of watches too */
    struct forge_error error = {0};
    ProtobufCMessage *request, *reply = NULL;
    char name[sizeof row->name + 16];
    snprintf(name, sizeof name, "forge.v1.%s", row->name);
    const struct forge_method *method = forge_method_find(name);
    assert_non_null(method);
    world_check(&world, name, forge_json_to_message("{}", 2, method->input, &arena, &request, &error), &error);
    forge_code code = forge_channel_call(channel, method, &options, request, &reply, &error);
    bool refused = code == FORGE_PERMISSION_DENIED || (code == FORGE_UNAUTHENTICATED && row->role != '-');
    if (code == FORGE_UNIMPLEMENTED || refused == is_allowed(row, caller))
        fail_msg("%s by %s, %s: %s \"%s\"", row->name, caller->name, known ? "known" : "new", forge_code_name(code), error.message);
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    forge_error_free(&error);
    forge_arena_reset(&arena);
}

static void test_every_method_by_every_role_and_scope(void **state)
{
    for (int caller = 0; caller < CALLERS; caller++) {
        fresh_credential(caller);
        struct forge_channel *channel = world_channel(&world, 0, callers[caller].token);
        for (int i = 0; i < method_count; i++) {
            bool ends = strcmp(methods[i].name, "OrganizationService/Logout") == 0;
            for (int call = 0; call < (ends ? 1 : CALLS); call++)
                expect_access(channel, &methods[i], &callers[caller], call > 0);
            if (!ends || !callers[caller].is_session)
                continue;
            forge_channel_close(channel);
            fresh_credential(caller);
            channel = world_channel(&world, 0, callers[caller].token);
        }
        forge_channel_close(channel);
    }
}

/* The first call of a credential is looked up in the database, the later ones in the cache: both know the rule. */
static void test_new_credentials_are_judged_like_known_ones(void **state)
{
    static const char *const samples[] = {"OrganizationService/ListApiKeys", "ProjectService/CreateProject", "ProjectService/ListProjects",
                                          "PromptService/GetPrompt", "OrganizationService/WhoAmI"};
    for (int caller = 0; caller < CALLERS; caller++)
        for (size_t sample = 0; sample < sizeof samples / sizeof samples[0]; sample++)
            for (int i = 0; i < method_count; i++) {
                if (strcmp(methods[i].name, samples[sample]) != 0)
                    continue;
                fresh_credential(caller);
                struct forge_channel *channel = world_channel(&world, 0, callers[caller].token);
                expect_access(channel, &methods[i], &callers[caller], false);
                forge_channel_close(channel);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method_by_every_role_and_scope),
        cmocka_unit_test(test_new_credentials_are_judged_like_known_ones),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
