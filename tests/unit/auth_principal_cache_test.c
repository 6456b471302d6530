#include "auth/principal_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ENTRIES = 256 };

static struct auth_principal_cache *cache_new(void)
{
    struct auth_principal_cache *cache = NULL;
    struct forge_error error = {0};
    assert_int_equal(auth_principal_cache_new(ENTRIES, &cache, &error), FORGE_OK);
    return cache;
}

static struct auth_principal principal_new(enum auth_kind kind)
{
    struct auth_principal principal = {.kind = kind, .role = AUTH_ROLE_VIEWER};
    forge_uuid_v7(&principal.organization_id);
    forge_uuid_v7(&principal.id);
    forge_uuid_v7(&principal.user_id);
    forge_uuid_v7(&principal.service_account_id);
    forge_uuid_v7(&principal.session_id);
    forge_uuid_v7(&principal.project_id);
    return principal;
}

static void hash_of(unsigned number, uint8_t out[FORGE_SHA256_SIZE])
{
    forge_sha256(&number, sizeof number, out);
}

static void put(struct auth_principal_cache *cache, unsigned number, const struct auth_principal *principal)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    hash_of(number, hash);
    auth_principal_cache_put(cache, hash, principal, auth_principal_cache_generation(cache, &principal->organization_id));
}

static bool has(struct auth_principal_cache *cache, unsigned number)
{
    uint8_t hash[FORGE_SHA256_SIZE];
    struct auth_principal out;
    hash_of(number, hash);
    return auth_principal_cache_get(cache, hash, 1000, &out);
}

static struct db_change change_of(const struct auth_principal *principal, const char *kind, const struct forge_uuid *object_id)
{
    struct db_change change = {.organization_id = principal->organization_id, .object_id = *object_id};
    snprintf(change.kind, sizeof change.kind, "%s", kind);
    return change;
}

static void test_cache_gives_what_was_put(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = principal_new(AUTH_API_KEY), out;
    uint8_t hash[FORGE_SHA256_SIZE];
    hash_of(1, hash);
    assert_false(auth_principal_cache_get(cache, hash, 0, &out));
    put(cache, 1, &principal);
    assert_true(auth_principal_cache_get(cache, hash, 0, &out));
    assert_memory_equal(&out, &principal, sizeof out);
    principal.role = AUTH_ROLE_ADMIN;
    put(cache, 1, &principal);
    assert_true(auth_principal_cache_get(cache, hash, 0, &out));
    assert_int_equal(out.role, AUTH_ROLE_ADMIN);
    assert_int_equal(auth_principal_cache_count(cache), 1);
    auth_principal_cache_free(cache);
}

static void test_cache_entries_expire_with_the_credential(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = principal_new(AUTH_USER), out;
    uint8_t hash[FORGE_SHA256_SIZE];
    hash_of(1, hash);
    principal.expires_us = 5000;
    put(cache, 1, &principal);
    assert_true(auth_principal_cache_get(cache, hash, 4999, &out));
    assert_false(auth_principal_cache_get(cache, hash, 5000, &out));
    assert_int_equal(auth_principal_cache_count(cache), 0);
    auth_principal_cache_free(cache);
}

static void test_cache_never_keeps_operators(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = {.kind = AUTH_OPERATOR, .expires_us = INT64_MAX};
    put(cache, 1, &principal);
    assert_false(has(cache, 1));
    auth_principal_cache_free(cache);
}

static void test_cache_is_bounded_and_drops_the_oldest(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = principal_new(AUTH_USER);
    put(cache, 0, &principal);
    for (unsigned i = 1; i < 20 * ENTRIES; i++) {
        put(cache, i, &principal);
        assert_true(has(cache, i));
        assert_true(has(cache, 0)); /* asked for all the time: never the least recently used */
    }
    assert_true(auth_principal_cache_count(cache) <= ENTRIES);
    assert_false(has(cache, 1));
    auth_principal_cache_free(cache);
}

static void test_cache_changes_drop_what_they_concern(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = principal_new(AUTH_API_KEY), other = principal_new(AUTH_API_KEY);
    const struct {
        const char *kind;
        const struct forge_uuid *id;
    } kinds[] = {{"api_key", &principal.id},
                 {"session", &principal.session_id},
                 {"user", &principal.user_id},
                 {"project", &principal.project_id},
                 {"service_account", &principal.service_account_id},
                 {"organization", &principal.organization_id}};
    put(cache, 2, &other);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        put(cache, 1, &principal);
        struct db_change change = change_of(&principal, kinds[i].kind, &other.id);
        if (strcmp(kinds[i].kind, "organization") != 0) {
            auth_principal_cache_changed(&change, cache);
            assert_true(has(cache, 1)); /* another object of the same kind */
        }
        change.object_id = *kinds[i].id;
        auth_principal_cache_changed(&change, cache);
        assert_false(has(cache, 1));
        assert_true(has(cache, 2));
    }
    auth_principal_cache_free(cache);
}

static void test_cache_ignores_foreign_and_other_changes(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = principal_new(AUTH_API_KEY), foreign = principal_new(AUTH_API_KEY);
    put(cache, 1, &principal);
    struct db_change change = change_of(&foreign, "api_key", &principal.id);
    auth_principal_cache_changed(&change, cache);
    assert_true(has(cache, 1));
    change = change_of(&principal, "prompt", &principal.id);
    uint64_t generation = auth_principal_cache_generation(cache, &principal.organization_id);
    auth_principal_cache_changed(&change, cache);
    assert_true(has(cache, 1));
    assert_int_equal(auth_principal_cache_generation(cache, &principal.organization_id), generation);
    auth_principal_cache_free(cache);
}

/* A change that comes while the credential is being read: what was read may be what was before it. */
static void test_cache_refuses_a_fill_from_before_a_change(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    struct auth_principal principal = principal_new(AUTH_API_KEY);
    uint8_t hash[FORGE_SHA256_SIZE];
    hash_of(1, hash);
    uint64_t generation = auth_principal_cache_generation(cache, &principal.organization_id);
    struct db_change change = change_of(&principal, "api_key", &principal.id);
    auth_principal_cache_changed(&change, cache);
    auth_principal_cache_put(cache, hash, &principal, generation);
    assert_false(has(cache, 1));
    generation = auth_principal_cache_generation(cache, &principal.organization_id);
    auth_principal_cache_reset(cache);
    auth_principal_cache_put(cache, hash, &principal, generation);
    assert_false(has(cache, 1));
    put(cache, 1, &principal);
    assert_true(has(cache, 1));
    auth_principal_cache_reset(cache);
    assert_false(has(cache, 1));
    assert_int_equal(auth_principal_cache_count(cache), 0);
    auth_principal_cache_free(cache);
}

static struct auth_principal shared;

static void *fill_and_look(void *argument)
{
    struct auth_principal_cache *cache = argument;
    for (unsigned i = 0; i < 20000; i++) {
        put(cache, i % 300, &shared);
        has(cache, (i * 7) % 300);
    }
    return NULL;
}

static void *revoke(void *argument)
{
    struct db_change change = change_of(&shared, "api_key", &shared.id);
    for (unsigned i = 0; i < 300; i++)
        auth_principal_cache_changed(&change, argument);
    return NULL;
}

/* For the thread sanitizer; and after the last change nothing that was read before it is left. */
static void test_cache_used_by_many_threads(void **state)
{
    struct auth_principal_cache *cache = cache_new();
    pthread_t threads[4];
    shared = principal_new(AUTH_API_KEY);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < 3 ? fill_and_look : revoke, cache), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    revoke(cache);
    assert_int_equal(auth_principal_cache_count(cache), 0);
    auth_principal_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_gives_what_was_put),
        cmocka_unit_test(test_cache_entries_expire_with_the_credential),
        cmocka_unit_test(test_cache_never_keeps_operators),
        cmocka_unit_test(test_cache_is_bounded_and_drops_the_oldest),
        cmocka_unit_test(test_cache_changes_drop_what_they_concern),
        cmocka_unit_test(test_cache_ignores_foreign_and_other_changes),
        cmocka_unit_test(test_cache_refuses_a_fill_from_before_a_change),
        cmocka_unit_test(test_cache_used_by_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
