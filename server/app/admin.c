#include "app/admin.h"

#include "app/config.h"
#include "app/settings.h"
#include "app/usage.h"
#include "auth/key_file.h"
#include "auth/token.h"
#include "db/bootstrap.h"
#include "db/migrate.h"
#include "wire/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char MIGRATE_HELP[] = "Usage: forged migrate upgrade <target> | downgrade <target> | current [verbose]\n"
                                   "\n"
                                   "  upgrade head       every revision that is not applied yet\n"
                                   "  upgrade +1         the next one; upgrade 3f6b up to that revision (its first digits will do)\n"
                                   "  downgrade -1       the last one back; deletes its data\n"
                                   "  downgrade base     everything back\n"
                                   "  current            the applied revision\n"
                                   "\n"
                                   "Example: forged migrate upgrade head --migrations-folder migrations\n";

static const char BOOTSTRAP_HELP[] =
    "Usage: forged bootstrap roles | token\n"
    "\n"
    "  roles   makes the roles forge_owner, forge_app, forge_maint and forge_backup, the database and the key-encryption key, and writes\n"
    "          their URLs to the env file. May be repeated.\n"
    "  token   prints an operator token, which may create organizations. Needs a migrated schema.\n"
    "\n"
    "Example: forged bootstrap roles --database-superuser-url postgresql://postgres@localhost/postgres\n"
    "         forged bootstrap token --ttl 15m\n";

static void tell(const char *line, void *user)
{
    puts(line);
}

static const char *owner_url(const struct app_config *config)
{
    return config->database_owner_url != NULL ? config->database_owner_url : config->database_url;
}

static forge_code require_owner_url(const struct app_config *config, struct forge_error *error)
{
    if (owner_url(config) != NULL)
        return FORGE_OK;
    return forge_error_set(
        error, FORGE_INVALID_ARGUMENT,
        "database_owner_url is not set: give --database-owner-url, or DATABASE_OWNER_URL in the environment or in the env file");
}

static forge_code migrate_run(const struct app_config *config, const char *verb, const char *target, struct forge_error *error)
{
    const char *folder = config->migrations_folder;
    if (strcmp(verb, "upgrade") == 0)
        return db_migrate_upgrade(owner_url(config), folder, target, tell, NULL, error);
    if (strcmp(verb, "downgrade") == 0)
        return db_migrate_downgrade(owner_url(config), folder, target, tell, NULL, error);
    return db_migrate_current(owner_url(config), folder, target != NULL, tell, NULL, error);
}

/* "upgrade X", "downgrade X", "current", "current verbose". */
static bool migrate_words_are_valid(const char *const words[], int count)
{
    if (count >= 1 && strcmp(words[0], "current") == 0)
        return count == 1 || (count == 2 && strcmp(words[1], "verbose") == 0);
    return count == 2 && (strcmp(words[0], "upgrade") == 0 || strcmp(words[0], "downgrade") == 0);
}

int app_migrate(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct forge_error error = {0};
    if (argument_count == 0 || app_usage_is_asked(argument_count, arguments))
        return app_usage_print(APP_MIGRATE, MIGRATE_HELP);
    struct app_words words;
    forge_code rc = app_config_load(APP_MIGRATE, argument_count, arguments, &config, &words, &error);
    if (rc != FORGE_OK)
        return app_usage_fail(&error);
    if (!migrate_words_are_valid(words.words, words.count)) {
        fputs(MIGRATE_HELP, stderr);
        app_config_done(&config);
        return APP_EXIT_USAGE;
    }
    rc = require_owner_url(&config, &error);
    if (rc == FORGE_OK)
        rc = migrate_run(&config, words.words[0], words.count == 2 ? words.words[1] : NULL, &error);
    app_config_done(&config);
    return rc == FORGE_OK ? APP_EXIT_OK : app_usage_fail(&error);
}

static forge_code bootstrap_roles(const struct app_config *config, struct forge_error *error)
{
    struct db_bootstrap_roles roles = {
        .superuser_url = config->database_superuser_url,
        .database = config->database_name,
        .passwords = config->database_passwords,
        .env_path = config->env_file != NULL ? config->env_file : ".env",
        .key_variable = "FORGE_KEY_FILE",
        .key_path = config->key_file != NULL ? config->key_file : "forge.key",
        .key_create = auth_key_file_create,
    };
    return db_bootstrap_roles(&roles, tell, NULL, error);
}

static forge_code bootstrap_token(const struct app_config *config, struct forge_error *error)
{
    const struct forge_uuid operators = {0};
    struct forge_uuid id;
    char token[AUTH_TOKEN_SIZE];
    uint8_t hash[FORGE_SHA256_SIZE];
    int64_t now_us = forge_clock_wall_us();
    forge_code rc = require_owner_url(config, error);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&id);
    auth_token_make(AUTH_TOKEN_OPERATOR, &operators, token);
    auth_token_hash(token, hash);
    rc = db_bootstrap_token(owner_url(config), &id, hash, now_us, now_us + (int64_t)config->ttl_ms * 1000, error);
    if (rc == FORGE_OK)
        puts(token);
    forge_cleanse(token, sizeof token);
    return rc;
}

int app_bootstrap(int argument_count, char *const arguments[])
{
    struct app_config config;
    struct forge_error error = {0};
    bool is_roles = argument_count > 0 && strcmp(arguments[0], "roles") == 0;
    bool is_token = argument_count > 0 && strcmp(arguments[0], "token") == 0;
    enum app_command command = is_roles ? APP_BOOTSTRAP_ROLES : APP_BOOTSTRAP_TOKEN;
    if (argument_count > 1 && (is_roles || is_token) && app_usage_is_asked(argument_count - 1, arguments + 1))
        return app_usage_print(command, BOOTSTRAP_HELP);
    if (!is_roles && !is_token) {
        bool asked = argument_count == 0 || app_usage_is_asked(argument_count, arguments);
        fputs(BOOTSTRAP_HELP, asked ? stdout : stderr);
        return asked ? APP_EXIT_OK : APP_EXIT_USAGE;
    }
    struct app_words words;
    forge_code rc = app_config_load(command, argument_count - 1, arguments + 1, &config, &words, &error);
    if (rc == FORGE_OK && words.count > 0)
        rc = forge_error_set(&error, FORGE_INVALID_ARGUMENT, "unexpected word \"%.64s\"", words.words[0]);
    else if (rc == FORGE_OK)
        rc = is_roles ? bootstrap_roles(&config, &error) : bootstrap_token(&config, &error);
    else
        return app_usage_fail(&error);
    app_config_done(&config);
    return rc == FORGE_OK ? APP_EXIT_OK : app_usage_fail(&error);
}
