#include "auth/rules.h"

#include "rpc_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_rules_and_methods_are_the_same(void **state)
{
    assert_int_equal(auth_rules_count, RPC_METHOD_COUNT);
    for (int i = 0; i < RPC_METHOD_COUNT; i++)
        if (!auth_rule_find(rpc_methods[i].name))
            fail_msg("%s has no rule", rpc_methods[i].name);
    for (size_t i = 0; i < auth_rules_count; i++) {
        assert_true(rpc_method_find(auth_rules[i].method, strlen(auth_rules[i].method)) >= 0);
        assert_ptr_equal(auth_rule_find(auth_rules[i].method), &auth_rules[i]); /* once */
    }
    assert_null(auth_rule_find("forge.v1.PromptService/Nothing"));
}

/* What must hold for every row, whoever adds it. */
static void test_rules_make_sense(void **state)
{
    for (size_t i = 0; i < auth_rules_count; i++) {
        const struct auth_rule *rule = &auth_rules[i];
        bool control = strncmp(rule->method, "forge.v1.ControlService/", 24) == 0;
        assert_int_equal(rule->while_draining, control);
        assert_false(rule->way == AUTH_WAY_INLINE && (rule->write != AUTH_READ || rule->slow));
        assert_in_range(rule->timeout_ms, 1000, 60000);
        assert_in_range(rule->request_max, 1024, 4 << 20);
        assert_true(rule->write != AUTH_WRITE_ONCE || rule->queue_class == AUTH_CLASS_WRITE || rule->queue_class == AUTH_CLASS_INGEST);
        if (rule->access == AUTH_ACCESS_PUBLIC && rule->write != AUTH_READ)
            assert_string_equal(rule->method, "forge.v1.OrganizationService/Login");
    }
}

static struct auth_principal user(enum auth_role role)
{
    struct auth_principal principal = {.kind = AUTH_USER, .role = role};
    forge_uuid_v7(&principal.session_id);
    return principal;
}

static forge_code check(const char *method, const struct auth_principal *principal, const char *message)
{
    struct forge_error error = {0};
    forge_code code = auth_rule_check(auth_rule_find(method), principal, &error);
    if (message)
        assert_string_equal(error.message, message);
    return code;
}

static void test_rules_roles(void **state)
{
    static const struct {
        const char *method;
        enum auth_role least;
    } cases[] = {{"forge.v1.PromptService/GetPrompt", AUTH_ROLE_VIEWER},
                 {"forge.v1.PromptService/CreatePrompt", AUTH_ROLE_DEVELOPER},
                 {"forge.v1.OrganizationService/CreateApiKey", AUTH_ROLE_ADMIN}};
    for (size_t i = 0; i < 3; i++) {
        for (enum auth_role role = AUTH_ROLE_NONE; role <= AUTH_ROLE_ADMIN; role++) {
            struct auth_principal principal = user(role);
            assert_int_equal(check(cases[i].method, &principal, NULL), role >= cases[i].least ? FORGE_OK : FORGE_PERMISSION_DENIED);
        }
    }
    struct auth_principal viewer = user(AUTH_ROLE_VIEWER);
    check("forge.v1.PromptService/CreatePrompt", &viewer, "this method needs the role developer; the credential has the role viewer");
}

static void test_rules_kinds_of_credentials(void **state)
{
    const struct auth_principal nobody = {0}, operator= {.kind = AUTH_OPERATOR};
    struct auth_principal admin = user(AUTH_ROLE_ADMIN), ingest = {.kind = AUTH_API_KEY, .scopes = AUTH_SCOPE_INGEST},
                          key = {.kind = AUTH_API_KEY, .role = AUTH_ROLE_ADMIN, .scopes = AUTH_SCOPE_ADMIN};
    assert_int_equal(check("forge.v1.ControlService/Ping", &nobody, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.PromptService/GetPrompt", &nobody, "this method needs a credential"), FORGE_UNAUTHENTICATED);
    assert_int_equal(check("forge.v1.OrganizationService/CreateOrganization", &operator, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.OrganizationService/CreateOrganization", &admin, "this method needs an operator token"),
                     FORGE_PERMISSION_DENIED);
    assert_int_equal(check("forge.v1.PromptService/GetPrompt", &operator, "operator tokens may not call this method"),
                     FORGE_PERMISSION_DENIED);
    assert_int_equal(check("forge.v1.OrganizationService/WhoAmI", &operator, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.OrganizationService/WhoAmI", &ingest, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.TraceService/IngestSpans", &ingest, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.TraceService/RecordScores", &ingest, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.TraceService/GetTrace", &ingest, NULL), FORGE_PERMISSION_DENIED);
    assert_int_equal(check("forge.v1.OrganizationService/Logout", &admin, NULL), FORGE_OK);
    assert_int_equal(check("forge.v1.OrganizationService/Logout", &key, "this method needs the session of a user"),
                     FORGE_PERMISSION_DENIED);
}

static void test_principal_bound_to_a_project(void **state)
{
    struct auth_principal principal = user(AUTH_ROLE_VIEWER);
    struct forge_uuid project_id, other_id;
    forge_uuid_v7(&project_id);
    forge_uuid_v7(&other_id);
    assert_true(auth_principal_may_use_project(&principal, &other_id));
    principal.project_id = project_id;
    assert_true(auth_principal_may_use_project(&principal, &project_id));
    assert_false(auth_principal_may_use_project(&principal, &other_id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_and_methods_are_the_same),
        cmocka_unit_test(test_rules_make_sense),
        cmocka_unit_test(test_rules_roles),
        cmocka_unit_test(test_rules_kinds_of_credentials),
        cmocka_unit_test(test_principal_bound_to_a_project),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
