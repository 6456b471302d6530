#include "app/rewrap.h"

#include "app/config.h"
#include "app/settings.h"
#include "app/usage.h"
#include "auth/secret.h"
#include "db/rewrap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char HELP[] = "Usage: forged rewrap\n"
                           "\n"
                           "Seals every stored secret under the first key of the key file that is not sealed under it yet, and says how "
                           "long the other key is still\n"
                           "needed. The whole way of changing the key, without a failed call:\n"
                           "\n"
                           "  1. Add the new key as the second line of the key file on every server, with an id that was never used:\n"
                           "       printf '2 %s\\n' \"$(openssl rand -hex 32)\" >> forge.key\n"
                           "     and restart the servers one after the other: all of them can read it now.\n"
                           "  2. Make it the first line on every server and restart them again: they write with it now.\n"
                           "  3. forged rewrap\n"
                           "  4. When the time that it names is over, remove the old line and restart the servers.\n"
                           "\n"
                           "It may be repeated, and runs beside running servers.\n"
                           "\n"
                           "Example: forged rewrap --env-file /etc/promptforge/.env --key-file /etc/promptforge/forge.key\n";

static forge_code reseal(void *user, int32_t old_key_id, const struct forge_uuid *organization_id, const struct forge_uuid *row_id,
                         const uint8_t *sealed, size_t size, uint8_t *out, struct forge_error *error)
{
    const struct auth_keys *keys = user;
    char row[FORGE_UUID_TEXT_SIZE];
    forge_uuid_format(row_id, row);
    const struct auth_key *old_key = auth_keys_find(keys, old_key_id);
    if (old_key == NULL)
        return forge_error_set(error, FORGE_NOT_FOUND, "the secret of %s is sealed under key %d, which the key file does not hold", row,
                               (int)old_key_id);
    size_t plain_size = size >= FORGE_SEAL_OVERHEAD ? size - FORGE_SEAL_OVERHEAD : 0;
    uint8_t *plain = malloc(plain_size + 1);
    if (plain == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a secret");
    forge_code rc = FORGE_OK;
    if (auth_secret_unseal(old_key, organization_id, row_id, sealed, size, plain))
        auth_secret_seal(&keys->current, organization_id, row_id, plain, plain_size, out);
    else
        rc = forge_error_set(error, FORGE_DATA_LOSS, "the secret of %s does not open with key %d", row, (int)old_key_id);
    forge_cleanse(plain, plain_size);
    free(plain);
    return rc;
}

static void print_report(const struct auth_keys *keys, const struct db_rewrap_report *report)
{
    printf("Sealed %" PRId64 " secrets anew under key %d\n", report->secrets, (int)keys->current.id);
    if (report->stored_replies_left == 0) {
        printf("No other key is needed any more\n");
        return;
    }
    char text[64];
    struct tm until;
    time_t seconds = (time_t)(report->left_until_us / 1000000);
    gmtime_r(&seconds, &until);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &until);
    printf("Keep the other key until %s: %" PRId64 " stored replies were made under it\n", text, report->stored_replies_left);
}

static forge_code run(const struct app_config *config, struct auth_keys *keys, struct forge_error *error)
{
    const struct db_rewrap_config rewrap = {.url = config->database_maint_url,
                                            .key_id = keys->current.id,
                                            .key_check = keys->current.check,
                                            .key_check_size = sizeof keys->current.check,
                                            .reseal = reseal,
                                            .user = keys};
    struct db_rewrap_report report;
    forge_code rc = db_rewrap(&rewrap, &report, error);
    if (rc == FORGE_OK || report.secrets > 0)
        print_report(keys, &report);
    return rc;
}

int app_rewrap(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct app_words words;
    struct auth_keys keys;
    struct forge_error error = {0};
    if (app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_REWRAP, HELP);
    forge_code rc = app_config_load(APP_REWRAP, argument_count, arguments, &config, &words, &error);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    if (words.count > 0)
        rc = forge_error_set(&error, FORGE_INVALID_ARGUMENT, "unexpected word \"%.64s\"", words.words[0]);
    else
        rc = auth_key_file_load(config.key_file, &keys, &error);
    if (rc == FORGE_OK) {
        rc = run(&config, &keys, &error);
        auth_keys_done(&keys);
    }
    app_config_done(&config);
    return rc == FORGE_OK ? APP_EXIT_OK : app_usage_fail(&error);
}
