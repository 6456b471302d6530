/* Maintenance passes (db/maintain.h): the command `forged maintain`, and the thread of a server. */
#ifndef SERVER_APP_MAINTAIN_H
#define SERVER_APP_MAINTAIN_H

#include "app/settings.h"
#include "base/metrics.h"
#include "wire/status.h"

/* `forged maintain`: takes the words and flags after the command's name and returns the exit code. */
int app_maintain(int argument_count, char *const arguments[]);

struct app_maintainer;
/* Starts a thread that makes a pass at once and then every maintenance_interval. Of several servers one makes it, the others find it made.
 * The texts of config must outlive the thread. RESOURCE_EXHAUSTED without memory or thread. */
forge_code app_maintainer_start(const struct app_config *config, struct base_metrics *metrics, struct app_maintainer **out,
                                struct forge_error *error) FORGE_MUST_CHECK;
/* Ends the pass that is running after its present statement (10 s at most; a file of spans leaves its table in a second or so) and joins.
 * Accepts NULL. */
void app_maintainer_stop(struct app_maintainer *maintainer);

#endif
