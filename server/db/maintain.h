/* One pass of upkeep: deletes what nobody can ask for any more. `forged maintain`, from cron or a systemd timer, as often as you like. */
#ifndef SERVER_DB_MAINTAIN_H
#define SERVER_DB_MAINTAIN_H

#include "wire/status.h"

#include <stdint.h>

struct db_maintain_report {
    int64_t changes;         /* older than 1 h: no change feed reads further back */
    int64_t idempotency;     /* stored replies older than 48 h: their request ids are refused long since */
    int64_t sessions;        /* expired */
    int64_t operator_tokens; /* expired */
};

/* url: of forge_maint, which becomes forge_owner for it. now_us: the wall clock. Each organization is a transaction of its own, bound like
 * any tenant's. *out counts what was deleted, also when a later step failed. Blocks. Two passes at once are harmless. FAILED_PRECONDITION
 * when the role may not become forge_owner; the message names DATABASE_MAINT_URL. */
forge_code db_maintain(const char *url, int64_t now_us, struct db_maintain_report *out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
