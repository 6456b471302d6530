#include "app/admin.h"

#include "app/config.h"
#include "app/owner.h"
#include "app/settings.h"
#include "app/usage.h"
#include "auth/key_file.h"
#include "auth/token.h"
#include "db/bootstrap.h"
#include "wire/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char BOOTSTRAP_HELP[] =
    "Usage: forged bootstrap roles | token\n"
    "\n"
    "  roles   makes the roles forge_owner, forge_app, forge_maint and forge_backup, the database and the key-encryption key, and writes\n"
    "          their URLs to the env file. May be repeated.\n"
    "  token   prints an operator token, which may create organizations. Needs a migrated schema.\n"
    "\n"
    "Example: forged bootstrap roles --database-superuser-url postgresql://postgres@localhost/postgres\n"
    "         forged bootstrap token --ttl 15m\n";

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
    return db_bootstrap_roles(&roles, app_tell, NULL, error);
}

static forge_code bootstrap_token(const struct app_config *config, struct forge_error *error)
{
    const struct forge_uuid operators = {0};
    struct forge_uuid id;
    char token[AUTH_TOKEN_SIZE];
    uint8_t hash[FORGE_SHA256_SIZE];
    int64_t now_us = forge_clock_wall_us();
    forge_code rc = app_require_owner_url(config, error);
    if (rc != FORGE_OK)
        return rc;
    forge_uuid_v7(&id);
    auth_token_make(AUTH_TOKEN_OPERATOR, &operators, token);
    auth_token_hash(token, hash);
    rc = db_bootstrap_token(app_owner_url(config), &id, hash, now_us, now_us + (int64_t)config->ttl_ms * 1000, error);
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
