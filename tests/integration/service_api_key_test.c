/* OrganizationService over TLS: CreateApiKey and RevokeApiKey. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct service_tenant alpha, beta;
static const char *const nobody_has = "01890000-0000-7000-8000-000000000000";
static Forge__V1__Scope read_scope[] = {FORGE__V1__SCOPE__SCOPE_READ};

static int start(void **state)
{
    service_start(state);
    service_tenant_make("alpha", &alpha);
    service_tenant_make("beta", &beta);
    return 0;
}

static Forge__V1__CreateApiKeyRequest new_key(const char *name)
{
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    request.name = TEXT(name);
    request.scopes = read_scope;
    request.n_scopes = 1;
    return request;
}

static forge_code create(struct forge_channel *channel, const Forge__V1__CreateApiKeyRequest *request, Forge__V1__ApiKey **out)
{
    return forge_organization_create_api_key(channel, NULL, request, out, &service_error);
}

static forge_code revoke(struct forge_channel *channel, const char *id, Forge__V1__ApiKey **out)
{
    Forge__V1__RevokeApiKeyRequest request = FORGE__V1__REVOKE_API_KEY_REQUEST__INIT;
    request.id = TEXT(id);
    return forge_organization_revoke_api_key(channel, NULL, &request, out, &service_error);
}

static void test_a_key_is_made_and_works(void **state)
{
    (void)state;
    Forge__V1__ApiKey *key;
    Forge__V1__Scope scopes[] = {FORGE__V1__SCOPE__SCOPE_INGEST, FORGE__V1__SCOPE__SCOPE_READ};
    Google__Protobuf__Timestamp expires = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__CreateApiKeyRequest request = new_key("billing \"service\"");
    char sql[512];
    expires.seconds = time(NULL) + 3600;
    expires.nanos = 123456789;
    request.scopes = scopes;
    request.n_scopes = 2;
    request.project_id = alpha.project_id;
    request.expire_time = &expires;
    service_ok(create(alpha.admin, &request, &key));
    assert_true(strncmp(key->token, "pfk_", 4) == 0);
    assert_true(strncmp(key->token, key->token_prefix, strlen(key->token_prefix)) == 0);
    assert_in_range(strlen(key->token_prefix), 28, 32);
    assert_string_equal(key->name, "billing \"service\"");
    assert_int_equal(key->n_scopes, 2);
    assert_int_equal(key->scopes[0], FORGE__V1__SCOPE__SCOPE_READ);
    assert_int_equal(key->scopes[1], FORGE__V1__SCOPE__SCOPE_INGEST);
    assert_string_equal(key->project_id, alpha.project_id);
    assert_int_equal(key->expire_time->seconds, expires.seconds);
    assert_int_equal(key->expire_time->nanos, 123456000);
    assert_int_equal(strlen(key->creator_user_id), 36);
    assert_null(key->revoke_time);
    service_ok(service_ask(service_channel(key->token)));
    snprintf(sql, sizeof sql,
             "SELECT (details->>'name') || '|' || (details ? 'token') || '|' || action || '|' || principal_kind FROM audit_log WHERE "
             "target_id = '%s'",
             key->id);
    assert_string_equal(service_query(sql), "billing \"service\"|false|api_key.create|user");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM changes WHERE kind = 'api_key' AND object_id = '%s'", key->id);
    assert_string_equal(service_query(sql), "1");
    forge__v1__api_key__free_unpacked(key, NULL);
}

static void test_a_repeat_gets_the_same_token_and_the_store_does_not_show_it(void **state)
{
    (void)state;
    Forge__V1__ApiKey *first, *second;
    Forge__V1__CreateApiKeyRequest request = new_key("repeated");
    char request_id[37], sql[512];
    strcpy(request_id, service_request_id());
    const struct forge_call_options options = {.request_id = request_id};
    service_ok(forge_organization_create_api_key(alpha.admin, &options, &request, &first, &service_error));
    service_ok(forge_organization_create_api_key(alpha.admin, &options, &request, &second, &service_error));
    assert_string_equal(first->token, second->token);
    assert_string_equal(first->id, second->id);
    snprintf(sql, sizeof sql,
             "SELECT response_sealed || ' ' || (position('pfk_'::bytea in response) = 0) FROM idempotency WHERE request_id = '%s'",
             request_id);
    assert_string_equal(service_query(sql), "true true");
    forge__v1__api_key__free_unpacked(first, NULL);
    forge__v1__api_key__free_unpacked(second, NULL);
}

static void test_every_wrong_field_is_named(void **state)
{
    (void)state;
    Forge__V1__ApiKey *key;
    Google__Protobuf__Timestamp expires = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__CreateApiKeyRequest request = new_key("");
    expires.seconds = 1000000000;
    request.n_scopes = 0;
    request.project_id = TEXT("x");
    request.service_account_id = TEXT("y");
    request.expire_time = &expires;
    service_violates(create(alpha.admin, &request, &key), "name", "1 to 255", "scopes", "at least one is required", "project_id",
                     "must be a UUID", "service_account_id", "must be a UUID", "expire_time", "must be in the future");
    Forge__V1__Scope twice[] = {FORGE__V1__SCOPE__SCOPE_READ, FORGE__V1__SCOPE__SCOPE_READ};
    request = new_key("scopes");
    request.scopes = twice;
    request.n_scopes = 2;
    service_violates(create(alpha.admin, &request, &key), "scopes", "each at most once");
    twice[0] = FORGE__V1__SCOPE__SCOPE_UNSPECIFIED;
    service_violates(create(alpha.admin, &request, &key), "scopes", "must be SCOPE_READ, SCOPE_WRITE, SCOPE_ADMIN or SCOPE_INGEST");
    request = new_key("time");
    expires.seconds = INT64_MAX;
    request.expire_time = &expires;
    service_violates(create(alpha.admin, &request, &key), "expire_time", "must be a time of the years 1 to 9999");
    expires.seconds = time(NULL) + 100;
    expires.nanos = -1;
    service_violates(create(alpha.admin, &request, &key), "expire_time", "must be a time");
}

static void test_projects_and_service_accounts_must_exist(void **state)
{
    (void)state;
    Forge__V1__ApiKey *key;
    Forge__V1__CreateApiKeyRequest request = new_key("project");
    request.project_id = beta.project_id;
    service_fails(create(alpha.admin, &request, &key), FORGE_NOT_FOUND, "project");
    request.project_id = TEXT(nobody_has);
    service_fails(create(alpha.admin, &request, &key), FORGE_NOT_FOUND, "project 01890000-0000-7000-8000-000000000000 not found");
    request = new_key("account");
    request.service_account_id = TEXT(nobody_has);
    service_fails(create(alpha.admin, &request, &key), FORGE_NOT_FOUND, "service account 01890000-0000-7000-8000-000000000000 not found");
}

static void test_only_admins_who_are_users_make_keys(void **state)
{
    (void)state;
    Forge__V1__ApiKey *key;
    Forge__V1__CreateApiKeyRequest request = new_key("by key");
    service_fails(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_WRITE, NULL), &request, &key), FORGE_PERMISSION_DENIED,
                  "admin");
    service_fails(create(service_key_channel(&alpha, FORGE__V1__SCOPE__SCOPE_ADMIN, NULL), &request, &key), FORGE_PERMISSION_DENIED,
                  "only a user with a session creates keys");
    service_fails(create(service_channel(NULL), &request, &key), FORGE_UNAUTHENTICATED, "");
    service_fails(create(service_operator(), &request, &key), FORGE_PERMISSION_DENIED, "");
}

static void test_a_revoked_key_is_refused_at_once(void **state)
{
    (void)state;
    Forge__V1__ApiKey *key, *revoked;
    Forge__V1__CreateApiKeyRequest request = new_key("to be revoked");
    char sql[512];
    service_ok(create(alpha.admin, &request, &key));
    struct forge_channel *channel = service_channel(key->token);
    service_ok(service_ask(channel));
    service_fails(revoke(beta.admin, key->id, &revoked), FORGE_NOT_FOUND, "not found");
    service_ok(service_ask(channel));
    service_ok(revoke(alpha.admin, key->id, &revoked));
    assert_non_null(revoked->revoke_time);
    assert_string_equal(revoked->token, "");
    service_fails(service_ask(channel), FORGE_UNAUTHENTICATED, "");
    int64_t seconds = revoked->revoke_time->seconds;
    int32_t nanos = revoked->revoke_time->nanos;
    forge__v1__api_key__free_unpacked(revoked, NULL);
    service_ok(revoke(alpha.admin, key->id, &revoked)); /* stays as it is */
    assert_int_equal(revoked->revoke_time->seconds, seconds);
    assert_int_equal(revoked->revoke_time->nanos, nanos);
    forge__v1__api_key__free_unpacked(revoked, NULL);
    snprintf(sql, sizeof sql, "SELECT string_agg(action, ',' ORDER BY sequence) FROM audit_log WHERE target_id = '%s'", key->id);
    assert_string_equal(service_query(sql), "api_key.create,api_key.revoke");
    forge__v1__api_key__free_unpacked(key, NULL);
    service_violates(revoke(alpha.admin, "x", &revoked), "id", "must be a UUID");
    service_violates(revoke(alpha.admin, "", &revoked), "id", "is required");
    service_fails(revoke(alpha.admin, nobody_has, &revoked), FORGE_NOT_FOUND, "API key 01890000-0000-7000-8000-000000000000 not found");
}

static void test_an_expired_key_is_refused(void **state)
{
    (void)state;
    Forge__V1__ApiKey *key;
    Google__Protobuf__Timestamp expires = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Forge__V1__CreateApiKeyRequest request = new_key("to expire");
    expires.seconds = time(NULL) + 3600;
    request.expire_time = &expires;
    service_ok(create(alpha.admin, &request, &key));
    service_execute("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE name = 'to expire'");
    service_fails(service_ask(service_channel(key->token)), FORGE_UNAUTHENTICATED, "the credential has expired");
    forge__v1__api_key__free_unpacked(key, NULL);
}

static void test_the_audit_chain_holds(void **state)
{
    (void)state;
    assert_string_equal(
        service_query("SELECT bool_and(hash = sha256(previous || canonical) AND gapless) FROM (SELECT hash, canonical,"
                      " lag(hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS previous, sequence = row_number() OVER w AS gapless"
                      " FROM audit_log WINDOW w AS (PARTITION BY organization_id ORDER BY sequence)) chain"),
        "t");
    assert_string_equal(
        service_query("SELECT bool_and(h.sequence = (SELECT max(sequence) FROM audit_log l WHERE l.organization_id = h.organization_id)"
                      ") FROM audit_heads h"),
        "t");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_made_and_works),
        cmocka_unit_test(test_a_repeat_gets_the_same_token_and_the_store_does_not_show_it),
        cmocka_unit_test(test_every_wrong_field_is_named),
        cmocka_unit_test(test_projects_and_service_accounts_must_exist),
        cmocka_unit_test(test_only_admins_who_are_users_make_keys),
        cmocka_unit_test(test_a_revoked_key_is_refused_at_once),
        cmocka_unit_test(test_an_expired_key_is_refused),
        cmocka_unit_test(test_the_audit_chain_holds),
    };
    return cmocka_run_group_tests(tests, start, service_end);
}
