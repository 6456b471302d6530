/* What the commands that work as the owner of the database share. */
#ifndef SERVER_APP_OWNER_H
#define SERVER_APP_OWNER_H

#include "app/settings.h"
#include "wire/status.h"

/* DATABASE_OWNER_URL, or DATABASE_URL when that is not set; NULL without either. */
const char *app_owner_url(const struct app_config *config);
/* INVALID_ARGUMENT that says where to set it. */
forge_code app_require_owner_url(const struct app_config *config, struct forge_error *error) FORGE_MUST_CHECK;
/* Progress of such a command: a line on standard output. */
void app_tell(const char *line, void *user);

#endif
