/* Upkeep of the database: partitions are made ahead, what nobody can ask for any more is deleted, and what was marked deleted is removed.
 *
 * A pass walks organization_names and binds one organization at a time, like any tenant. Everything is deleted in batches, each a
 * transaction of its own, so that no lock is held for long and a killed pass is simply continued by the next one. */
#ifndef SERVER_DB_MAINTAIN_H
#define SERVER_DB_MAINTAIN_H

#include "wire/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct db_maintain_report {
    bool is_leader;             /* false: another pass is running, nothing was done */
    int64_t changes;            /* older than 1 h: no change feed reads further back */
    int64_t stored_replies;     /* older than 48 h, in the default partition: their request ids are refused long since */
    int64_t sessions;           /* expired */
    int64_t operator_tokens;    /* expired */
    int64_t login_failures;     /* forgotten: unlocked and a day old */
    int64_t partitions_made;    /* of stored replies and spans, for days to come */
    int64_t partitions_dropped; /* of stored replies, 48 h after their day */
    int64_t rows_removed;       /* of organizations and projects that were marked deleted */
    int64_t projects_removed;   /* for good */
    int64_t organizations_removed;
};

struct db_maintain_config {
    const char *url;         /* of forge_maint, which becomes forge_owner for it */
    int64_t now_us;          /* wall clock */
    const atomic_bool *stop; /* looked at between batches; may be NULL */
};

/* One pass. Two at once are kept apart by an advisory lock. *out counts what was done, also when a later step failed; what fails for
 * one organization does not keep the others from their turn. A lock that is not given within half a second is left to the next pass.
 * Blocks; FAILED_PRECONDITION when the role may not become forge_owner (the message names DATABASE_MAINT_URL). */
forge_code db_maintain(const struct db_maintain_config *config, struct db_maintain_report *out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
