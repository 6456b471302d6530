/* A change of the key-encryption key, as `forged rewrap --help` describes it: what was written under the old key stays readable, replies of
 * the last days are the same, and nothing needs the old key afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/secret.h"
#include "support/world.h"
#include "wire/uuid.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char provider_id[] = "00000000-0000-7000-8000-0000000000d1", other_id[] = "00000000-0000-7000-8000-0000000000d2";
static const uint8_t secret[] = "sk-the-credential";
enum { SEALED_SIZE = sizeof secret + FORGE_SEAL_OVERHEAD, LINE_SIZE = 128 };
static const char new_line[] = "2 ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

static struct world world;
static char key_path[4096], old_line[LINE_SIZE];

static int open_world(void **state)
{
    char line[LINE_SIZE];
    world_open(&world, NULL);
    snprintf(key_path, sizeof key_path, "%s/forge.key", forged_world_folder(world.files));
    FILE *file = fopen(key_path, "re");
    while (fgets(line, sizeof line, file))
        if (line[0] != '#')
            snprintf(old_line, sizeof old_line, "%.*s", (int)strcspn(line, "\n"), line);
    fclose(file);
    return 0;
}

static int close_world(void **state)
{
    world_close(&world);
    return 0;
}

static void write_key_file(const char *first, const char *second)
{
    FILE *file = fopen(key_path, "we");
    assert_non_null(file);
    fprintf(file, "%s\n%s\n", first, second);
    assert_int_equal(fclose(file), 0);
}

static void load_keys(struct auth_keys *out)
{
    struct forge_error error = {0};
    if (auth_key_file_load(key_path, out, &error) != FORGE_OK)
        fail_msg("%s", error.message);
}

static void hex(const uint8_t *bytes, size_t size, char *out)
{
    for (size_t i = 0; i < size; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* A provider whose credential is sealed under the key in use; row_id is what it is sealed for. */
static void insert_provider(const char *id, const char *row_id)
{
    struct auth_keys keys;
    struct forge_uuid organization, row;
    uint8_t sealed[SEALED_SIZE];
    char text[2 * SEALED_SIZE + 1];
    load_keys(&keys);
    assert_true(forge_uuid_parse(world.home.organization_id, &organization) && forge_uuid_parse(row_id, &row));
    auth_secret_seal(&keys.current, &organization, &row, secret, sizeof secret, sealed);
    hex(sealed, sizeof sealed, text);
    world_execute(&world,
                  "INSERT INTO model_providers (organization_id, id, name, provider_key, credential, credential_key_id)"
                  " VALUES ('%s', '%s', 'provider %s', 'provider-%s', '\\x%s', %d)",
                  world.home.organization_id, id, id, id, text, (int)keys.current.id);
    auth_keys_done(&keys);
}

/* Does the credential of the provider with this key open with the key in use? */
static bool provider_opens(const char *provider_key)
{
    struct auth_keys keys;
    struct forge_uuid organization, row;
    uint8_t sealed[SEALED_SIZE], plain[sizeof secret];
    char sql[256], id[WORLD_ID_SIZE];
    unsigned byte;
    load_keys(&keys);
    snprintf(sql, sizeof sql, "SELECT id || encode(credential, 'hex') FROM model_providers WHERE provider_key = '%s'", provider_key);
    const char *text = pg_cluster_query(world.cluster, "postgres", world.database, sql);
    snprintf(id, sizeof id, "%s", text);
    text += strlen(id);
    size_t size = strlen(text) / 2;
    assert_in_range(size, FORGE_SEAL_OVERHEAD + 1, SEALED_SIZE);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
        sealed[i] = (uint8_t)byte;
    }
    assert_true(forge_uuid_parse(world.home.organization_id, &organization) && forge_uuid_parse(id, &row));
    bool opens = auth_secret_unseal(&keys.current, &organization, &row, sealed, size, plain) &&
                 memcmp(plain, secret, size - FORGE_SEAL_OVERHEAD) == 0;
    auth_keys_done(&keys);
    return opens;
}

/* CreateModelProvider and UpdateModelProvider with the credential, as callers store it. */
static void store_credential(const char *name, const char *update_id, char out_id[WORLD_ID_SIZE])
{
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    Forge__V1__CreateModelProviderRequest request = FORGE__V1__CREATE_MODEL_PROVIDER_REQUEST__INIT;
    Forge__V1__UpdateModelProviderRequest update = FORGE__V1__UPDATE_MODEL_PROVIDER_REQUEST__INIT;
    Forge__V1__ModelProvider *provider;
    struct forge_error error;
    request.name = (char *)(uintptr_t)name;
    update.id = (char *)(uintptr_t)update_id;
    request.credential = update.credential = (char *)(uintptr_t)secret;
    forge_code rc = update_id ? forge_organization_update_model_provider(channel, NULL, &update, &provider, &error)
                              : forge_organization_create_model_provider(channel, NULL, &request, &provider, &error);
    world_check(&world, "a provider", rc, &error);
    snprintf(out_id, WORLD_ID_SIZE, "%s", provider->id);
    forge__v1__model_provider__free_unpacked(provider, NULL);
    forge_channel_close(channel);
}

static void expect_rewrap(int exit_code, const char *out, const char *err)
{
    struct child_output output;
    child_run("forged", (const char *[]){"rewrap", "--key-file", "forge.key", NULL}, NULL, forged_world_folder(world.files), &output);
    if (output.exit_code != exit_code || !strstr(output.out, out) || !strstr(output.err, err))
        fail_msg("exit code %d\n%s\n%s", output.exit_code, output.out, output.err);
    child_output_done(&output);
}

/* CreateApiKey with this request_id: its reply is stored sealed. The token it answers. */
static void create_key(const char *request_id, bool replayed, char out_token[WORLD_TOKEN_SIZE])
{
    struct forge_channel *channel = world_channel(&world, 0, world.home.session_token);
    Forge__V1__CreateApiKeyRequest request = FORGE__V1__CREATE_API_KEY_REQUEST__INIT;
    Forge__V1__Scope scopes[] = {FORGE__V1__SCOPE__SCOPE_READ};
    const struct forge_call_options options = {.request_id = request_id};
    struct forge_reply_info info;
    struct forge_error error;
    ProtobufCMessage *reply;
    request.name = (char *)(uintptr_t) "before the change";
    request.n_scopes = 1;
    request.scopes = scopes;
    const struct forge_method *method = forge_method_find("forge.v1.OrganizationService/CreateApiKey");
    world_check(&world, "CreateApiKey", forge_channel_call_with_info(channel, method, &options, &request.base, &reply, &info, &error),
                &error);
    assert_int_equal(info.replayed, replayed);
    snprintf(out_token, WORLD_TOKEN_SIZE, "%s", ((Forge__V1__ApiKey *)reply)->token);
    protobuf_c_message_free_unpacked(reply, NULL);
    forge_channel_close(channel);
}

static void test_the_key_is_changed_without_losing_anything(void **state)
{
    char request_id[WORLD_ID_SIZE], early[WORLD_ID_SIZE], late[WORLD_ID_SIZE], token[WORLD_TOKEN_SIZE], again[WORLD_TOKEN_SIZE];
    struct forge_uuid id;
    forge_uuid_v7(&id);
    forge_uuid_format(&id, request_id);
    create_key(request_id, false, token);
    insert_provider(provider_id, provider_id);
    store_credential("early", NULL, early);
    assert_true(provider_opens("early"));

    write_key_file(old_line, new_line); /* step 1 */
    world_server_stop(&world, 0);
    world_server_start(&world, 0, true);
    create_key(request_id, true, again);
    assert_string_equal(again, token);
    write_key_file(new_line, old_line); /* step 2 */
    world_server_stop(&world, 0);
    world_server_start(&world, 0, true);
    create_key(request_id, true, again);
    assert_string_equal(again, token);
    assert_false(provider_opens("provider-00000000-0000-7000-8000-0000000000d1"));
    assert_false(provider_opens("early"));
    store_credential("late", NULL, late); /* under the new key already */
    assert_true(provider_opens("late"));
    expect_rewrap(0, "Sealed 2 secrets anew under key 2\nKeep the other key until ", ""); /* step 3 */
    assert_true(provider_opens("provider-00000000-0000-7000-8000-0000000000d1"));
    assert_true(provider_opens("early"));
    assert_int_equal(world_number(&world, "SELECT credential_key_id FROM model_providers WHERE id = '%s'", provider_id), 2);
    assert_int_equal(world_number(&world, "SELECT row_version FROM model_providers WHERE id = '%s'", provider_id), 1);
    assert_int_equal(world_number(&world, "SELECT row_version FROM model_providers WHERE id = '%s'", early), 1);
    expect_rewrap(0, "Sealed 0 secrets anew under key 2", "");
    store_credential(NULL, early, early);
    assert_true(provider_opens("early"));
    expect_rewrap(0, "Sealed 0 secrets anew under key 2", "");
    create_key(request_id, true, again);
    assert_string_equal(again, token);
    world_execute(&world, "UPDATE idempotency SET key_id = 2"); /* 48 h later */
    expect_rewrap(0, "No other key is needed any more", "");
}

static void test_a_key_that_no_server_has_used_is_refused(void **state)
{
    write_key_file("3 00000000000000000000000000000000000000000000000000000000000000aa", new_line);
    expect_rewrap(1, "", "no server has used key 3 yet: give the key file to every server first");
    write_key_file("1 00000000000000000000000000000000000000000000000000000000000000aa", new_line);
    expect_rewrap(1, "", "key 1 is not the key 1 this database was written with");
    write_key_file(new_line, old_line);
}

/* A secret that does not open is named and left; the others are done. */
static void test_what_does_not_open_is_named(void **state)
{
    write_key_file(old_line, new_line);
    insert_provider(other_id, provider_id); /* sealed for another row */
    write_key_file(new_line, old_line);
    expect_rewrap(1, "", "the secret of 00000000-0000-7000-8000-0000000000d2 does not open with key 1");
    world_execute(&world, "UPDATE model_providers SET credential_key_id = 9 WHERE id = '%s'", other_id);
    expect_rewrap(1, "", "is sealed under key 9, which the key file does not hold");
    assert_true(provider_opens("provider-00000000-0000-7000-8000-0000000000d1"));
    world_execute(&world, "DELETE FROM model_providers WHERE id = '%s'", other_id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_key_is_changed_without_losing_anything),
        cmocka_unit_test(test_a_key_that_no_server_has_used_is_refused),
        cmocka_unit_test(test_what_does_not_open_is_named),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
