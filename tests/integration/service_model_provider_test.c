/* OrganizationService over TLS: model providers and their credentials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/secret.h"
#include "service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATE "OrganizationService/CreateModelProvider"
#define GET "OrganizationService/GetModelProvider"
#define LIST "OrganizationService/ListModelProviders"
#define UPDATE "OrganizationService/UpdateModelProvider"
#define DELETE "OrganizationService/DeleteModelProvider"

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static void make(const char *name, const char *credential, char out_id[37])
{
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'name': '%s', 'credential': '%s'}", name, credential));
    service_reply_text("id", out_id, 37);
}

static const char *query(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *query(const char *format, ...)
{
    char sql[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    return service_query(sql);
}

/* What the row's credential opens to. */
static void opened(const char *id, char *out, size_t size)
{
    struct auth_keys keys;
    struct forge_uuid organization, row;
    char path[4096];
    uint8_t sealed[512], plain[512] = {0};
    struct forge_error error = {0};
    snprintf(path, sizeof path, "%s/forge.key", forged_world_folder(service_world()));
    assert_int_equal(auth_key_file_load(path, &keys, &error), FORGE_OK);
    const char *text = query("SELECT encode(credential, 'hex') FROM model_providers WHERE id = '%s'", id);
    size_t length = strlen(text) / 2;
    assert_in_range(length, FORGE_SEAL_OVERHEAD + 1, sizeof sealed);
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
        sealed[i] = (uint8_t)byte;
    }
    assert_true(forge_uuid_parse(alpha.organization_id, &organization) && forge_uuid_parse(id, &row));
    assert_true(auth_secret_unseal(&keys.current, &organization, &row, sealed, length, plain));
    snprintf(out, size, "%s", (const char *)plain);
    auth_keys_done(&keys);
}

static void test_a_provider_is_made_and_its_credential_is_sealed(void **state)
{
    (void)state;
    char id[37], credential[64];
    service_ok(service_call(alpha.admin, CREATE, NULL,
                            "{'name': 'Open  AI, Inc.', 'base_url': 'https://api.openai.com/v1', 'description': 'chat',"
                            " 'credential': 'sk-0123456789abcd'}"));
    service_shows("'name':'Open  AI, Inc.','provider_key':'open-ai-inc.','base_url':'https://api.openai.com/v1','description':'chat',"
                  "'has_credential':true,'credential_suffix':'abcd','create_time':",
                  "'etag':'1'}");
    service_reply_text("id", id, sizeof id);
    opened(id, credential, sizeof credential);
    assert_string_equal(credential, "sk-0123456789abcd");
    assert_string_equal(query("SELECT credential_key_id FROM model_providers WHERE id = '%s'", id), "1");
    assert_string_equal(query("SELECT action || '|' || (details->>'name') || '|' || (details->>'credential_suffix') || '|' ||"
                              " (position('sk-01'::bytea in canonical) > 0) FROM audit_log WHERE target_id = '%s'",
                              id),
                        "model_provider.create|Open  AI, Inc.|abcd|false");
    assert_string_equal(query("SELECT count(*) FROM changes WHERE kind = 'model_provider' AND object_id = '%s'", id), "1");
    assert_string_equal(query("SELECT count(*) FROM idempotency WHERE position('sk-01'::bytea in response) > 0"), "0");
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    assert_null(strstr(service_reply(), "sk-"));
    char *log = forged_child_log(service_child());
    assert_null(strstr(log, "sk-01"));
    free(log);
}

static void test_a_short_credential_shows_nothing(void **state)
{
    (void)state;
    char id[37];
    make("Short", "elevenbytes", id);
    service_shows("'has_credential':true,'create_time'");
    make("Wide", "0123456789äöü€", id);
    service_shows("'credential_suffix':'äöü€'");
    make("None", "", id);
    service_shows("'provider_key':'none','create_time'");
    assert_string_equal(query("SELECT credential IS NULL AND credential_key_id IS NULL FROM model_providers WHERE id = '%s'", id), "t");
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    static const char *const urls[] = {"http://api.example",
                                       "https://",
                                       "https://:443",
                                       "https://a b",
                                       "https://key@api.example/",
                                       "https://a.example:",
                                       "https://a:0",
                                       "https://a:65536",
                                       "https://a:4x",
                                       "https://[::1",
                                       "https://[]:1",
                                       "ftp://a",
                                       "https://u:p@a.example/v1",
                                       "api.example",
                                       "https://a/\\\\",
                                       "https://a/{x}",
                                       "https://b\xc3\xbc.example",
                                       "https:///v1",
                                       "https://a:1:2"};
    service_violates(
        service_call(alpha.admin, CREATE, NULL,
                     "{'name': '', 'provider_key': 'Open AI', 'base_url': 'https://a/%s', 'description': '%s', 'credential': '%s'}",
                     service_repeat("x", 2039), service_repeat("x", 4097), service_repeat("x", 4097)),
        "name", "1 to 255", "provider_key", "1 to 64 of a-z", "base_url", "at most 2048 bytes", "description", "4096", "credential",
        "at most 4096 bytes");
    service_violates(service_call(alpha.admin, CREATE, NULL, "{'name': '日本'}"), "provider_key", "none can be made from this name");
    service_violates(service_call(alpha.admin, CREATE, NULL, "{'name': 'x', 'provider_key': '%s'}", service_repeat("x", 65)),
                     "provider_key", "1 to 64");
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        service_violates(service_call(alpha.admin, CREATE, NULL, "{'name': 'x', 'base_url': '%s'}", urls[i]), "base_url",
                         "must be an https URL");
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'name': 'six', 'base_url': 'https://[2001:db8::1]:8443/v1?x=%%20#y'}"));
    service_ok(service_call(alpha.admin, CREATE, NULL, "{'name': 'port', 'base_url': 'https://models.internal:65535'}"));
    service_violates(service_call(alpha.admin, GET, NULL, "{}"), "id", "either id or name");
    service_violates(service_call(alpha.admin, GET, NULL, "{'id': '%s', 'name': 'x'}", nobody_has), "id", "not both");
    service_violates(service_call(alpha.admin, GET, NULL, "{'id': 'x'}"), "id", "must be a UUID");
    service_violates(service_call(alpha.admin, LIST, NULL, "{'page_size': -1, 'name_prefix': '%s'}", service_repeat("x", 256)), "page_size",
                     "", "name_prefix", "255");
    service_violates(service_call(alpha.admin, DELETE, NULL, "{'etag': '%s'}", service_repeat("x", 65)), "id", "is required", "etag", "64");
}

static void test_names_and_keys_are_taken_in_the_organization(void **state)
{
    (void)state;
    char id[37];
    make("Taken", "", id);
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'name': 'Taken', 'provider_key': 'other'}"), FORGE_ALREADY_EXISTS,
                  "a provider named \"Taken\" exists already");
    service_fails(service_call(alpha.admin, CREATE, NULL, "{'name': 'taken'}"), FORGE_ALREADY_EXISTS,
                  "a provider with provider_key \"taken\" exists already");
    service_ok(service_call(beta.admin, CREATE, NULL, "{'name': 'Taken'}"));
    make("Other", "", id);
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'Taken'}", id), FORGE_ALREADY_EXISTS, "named \"Taken\"");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'provider_key': 'taken'}", id), FORGE_ALREADY_EXISTS,
                  "provider_key \"taken\"");
}

static void test_a_repeat_gets_the_first_reply(void **state)
{
    (void)state;
    char request_id[37], id[37], first[1024];
    strcpy(request_id, service_request_id());
    service_ok(service_call(alpha.admin, CREATE, request_id, "{'name': 'Repeated', 'credential': 'sk-repeated-secret'}"));
    assert_false(service_reply_is_stored());
    snprintf(first, sizeof first, "%s", service_reply());
    service_reply_text("id", id, sizeof id);
    service_ok(service_call(alpha.admin, CREATE, request_id, "{'name': 'Repeated', 'credential': 'sk-repeated-secret'}"));
    assert_true(service_reply_is_stored());
    assert_string_equal(service_reply(), first);
    service_fails(service_call(alpha.admin, CREATE, request_id, "{'name': 'Repeated', 'credential': 'sk-another-secret'}"),
                  FORGE_INVALID_ARGUMENT, "request_id");
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++) {
        service_ok(service_call(alpha.admin, UPDATE, request_id, "{'id': '%s', 'description': 'once', 'etag': '1'}", id));
        assert_int_equal(service_reply_is_stored(), i);
    }
    strcpy(request_id, service_request_id());
    for (int i = 0; i < 2; i++)
        service_ok(service_call(alpha.admin, DELETE, request_id, "{'id': '%s', 'etag': '2'}", id));
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "not found");
}

static void test_providers_are_read_by_id_name_and_prefix(void **state)
{
    (void)state;
    char ids[3][37], token[1024];
    struct forge_channel *viewer = service_user_make(&alpha, "viewer@alpha.example", FORGE__V1__ROLE__ROLE_VIEWER, NULL);
    struct forge_channel *bound = service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_READ, alpha.project_id);
    make("list c", "", ids[2]);
    make("list a", "", ids[0]);
    make("list b", "", ids[1]);
    service_ok(service_call(viewer, GET, NULL, "{'id': '%s'}", ids[0]));
    service_ok(service_call(bound, GET, NULL, "{'name': 'list b'}"));
    service_shows(ids[1]);
    service_fails(service_call(viewer, GET, NULL, "{'name': 'list d'}"), FORGE_NOT_FOUND, "provider list d not found");
    service_fails(service_call(beta.admin, GET, NULL, "{'id': '%s'}", ids[0]), FORGE_NOT_FOUND, "not found");
    service_fails(service_call(beta.admin, GET, NULL, "{'name': 'list a'}"), FORGE_NOT_FOUND, "not found");
    service_ok(service_call(viewer, LIST, NULL, "{'name_prefix': 'list ', 'page_size': 2}"));
    service_shows("'list a'", "'list b'", "next_page_token");
    assert_null(strstr(service_reply(), "list c"));
    service_reply_text("next_page_token", token, sizeof token);
    service_ok(service_call(viewer, LIST, NULL, "{'name_prefix': 'list ', 'page_size': 2, 'page_token': '%s'}", token));
    service_shows("'list c'");
    assert_null(strstr(service_reply(), "next_page_token"));
    service_violates(service_call(viewer, LIST, NULL, "{'page_token': '%s'}", token), "page_token", "belongs to another query");
    service_ok(service_call(beta.admin, LIST, NULL, "{'name_prefix': 'list '}"));
    assert_string_equal(service_reply(), "{}");
}

static void test_an_update_changes_what_is_named(void **state)
{
    (void)state;
    char id[37], credential[64];
    make("Changing", "sk-the-first-key", id);
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'base_url': 'https://a.example', 'etag': '1'}", id));
    service_shows("'name':'Changing','provider_key':'changing','base_url':'https://a.example','has_credential':true,'credential_suffix':"
                  "'-key'",
                  "'update_time'", "'etag':'2'");
    opened(id, credential, sizeof credential);
    assert_string_equal(credential, "sk-the-first-key");
    service_ok(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'credential': 'sk-the-other-key'}", id));
    opened(id, credential, sizeof credential);
    assert_string_equal(credential, "sk-the-other-key");
    assert_string_equal(query("SELECT (details->'old'->>'credential_suffix') || '|' || (details->'new'->>'credential_suffix') || '|' ||"
                              " (details->>'credential_set') || '|' || (position('sk-the'::bytea in canonical) > 0) FROM audit_log"
                              " WHERE target_id = '%s' ORDER BY sequence DESC LIMIT 1",
                              id),
                        "-key|-key|true|false");
    service_ok(service_call(alpha.admin, UPDATE, NULL,
                            "{'id': '%s', 'name': 'Changed', 'provider_key': 'ch_1.x', 'description': 'new', 'update_mask': '*'}", id));
    service_shows("'name':'Changed','provider_key':'ch_1.x','description':'new','create_time'", "'etag':'4'");
    assert_string_equal(query("SELECT credential IS NULL AND credential_key_id IS NULL AND credential_suffix IS NULL AND base_url IS NULL"
                              " FROM model_providers WHERE id = '%s'",
                              id),
                        "t");
    assert_string_equal(query("SELECT count(*) FROM changes WHERE kind = 'model_provider' AND object_id = '%s'", id), "4");
}

static void test_wrong_updates_are_named_and_change_nothing(void **state)
{
    (void)state;
    char id[37];
    make("Steady", "sk-steady-secret", id);
    service_violates(service_call(alpha.admin, UPDATE, NULL,
                                  "{'id': 'x', 'base_url': 'http://x', 'description': '%s', 'credential': '%s', 'etag': '%s',"
                                  " 'update_mask': 'name,provider_key,id,base_url,description,credential'}",
                                  service_repeat("x", 4097), service_repeat("x", 4097), service_repeat("1", 65)),
                     "id", "must be a UUID", "update_mask", "\"id\" is not a field", "name", "1 to 255", "provider_key", "1 to 64",
                     "base_url", "https", "description", "4096", "credential", "4096", "etag", "64");
    service_violates(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s'}", id), "update_mask", "names nothing");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x', 'etag': '7'}", id), FORGE_ABORTED,
                  "the provider has changed since this etag was read");
    service_fails(service_call(beta.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_NOT_FOUND, "not found");
    service_fails(service_call(alpha.admin, UPDATE, NULL, "{'id': '%s', 'name': 'x'}", nobody_has), FORGE_NOT_FOUND, nobody_has);
    service_ok(service_call(alpha.admin, GET, NULL, "{'id': '%s'}", id));
    service_shows("'name':'Steady'", "'etag':'1'");
}

static void test_only_admins_of_the_whole_organization_change_providers(void **state)
{
    (void)state;
    char id[37];
    make("Guarded", "", id);
    struct forge_channel *refused[] = {service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL),
                                       service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, alpha.project_id)};
    static const char *const why[] = {"admin", "bound to one project"};
    for (size_t i = 0; i < 2; i++) {
        service_fails(service_call(refused[i], CREATE, NULL, "{'name': 'Refused'}"), FORGE_PERMISSION_DENIED, why[i]);
        service_fails(service_call(refused[i], UPDATE, NULL, "{'id': '%s', 'name': 'x'}", id), FORGE_PERMISSION_DENIED, why[i]);
        service_fails(service_call(refused[i], DELETE, NULL, "{'id': '%s'}", id), FORGE_PERMISSION_DENIED, why[i]);
    }
    service_fails(service_call(service_channel(NULL), LIST, NULL, "{}"), FORGE_UNAUTHENTICATED, "");
}

static void test_a_deleted_provider_takes_its_models_along(void **state)
{
    (void)state;
    char id[37];
    make("Doomed", "sk-doomed-secret", id);
    service_ok(
        service_call(alpha.admin, "OrganizationService/CreateAiModel", NULL, "{'provider_id': '%s', 'name': 'm', 'aliases': ['n']}", id));
    service_fails(service_call(alpha.admin, DELETE, NULL, "{'id': '%s', 'etag': '2'}", id), FORGE_ABORTED, "etag");
    service_fails(service_call(beta.admin, DELETE, NULL, "{'id': '%s'}", id), FORGE_NOT_FOUND, "not found");
    service_ok(service_call(alpha.admin, DELETE, NULL, "{'id': '%s', 'etag': '1'}", id));
    assert_string_equal(query("SELECT (SELECT count(*) FROM ai_models WHERE provider_id = '%s') + (SELECT count(*) FROM ai_model_names"
                              " WHERE provider_id = '%s')",
                              id, id),
                        "0");
    assert_string_equal(query("SELECT details->>'name' FROM audit_log WHERE action = 'model_provider.delete' AND target_id = '%s'", id),
                        "Doomed");
    make("Doomed", "", id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_provider_is_made_and_its_credential_is_sealed),
        cmocka_unit_test(test_a_short_credential_shows_nothing),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_names_and_keys_are_taken_in_the_organization),
        cmocka_unit_test(test_a_repeat_gets_the_first_reply),
        cmocka_unit_test(test_providers_are_read_by_id_name_and_prefix),
        cmocka_unit_test(test_an_update_changes_what_is_named),
        cmocka_unit_test(test_wrong_updates_are_named_and_change_nothing),
        cmocka_unit_test(test_only_admins_of_the_whole_organization_change_providers),
        cmocka_unit_test(test_a_deleted_provider_takes_its_models_along),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
