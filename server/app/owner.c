#include "app/owner.h"

#include <stdio.h>

const char *app_owner_url(const struct app_config *config)
{
    return config->database_owner_url != NULL ? config->database_owner_url : config->database_url;
}

forge_code app_require_owner_url(const struct app_config *config, struct forge_error *error)
{
    if (app_owner_url(config) != NULL)
        return FORGE_OK;
    return forge_error_set(
        error, FORGE_INVALID_ARGUMENT,
        "database_owner_url is not set: give --database-owner-url, or DATABASE_OWNER_URL in the environment or in the env file");
}

void app_tell(const char *line, void *user)
{
    (void)user;
    puts(line);
}
