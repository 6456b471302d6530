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
    bool is_ahead;              /* the partitions of the days to come are there, whatever failed later */
    int64_t changes;            /* older than 1 h: no change feed reads further back */
    int64_t stored_replies;     /* older than 48 h, in the default partition: their request ids are refused long since */
    int64_t sessions;           /* expired */
    int64_t operator_tokens;    /* expired */
    int64_t login_failures;     /* forgotten: unlocked and a day old */
    int64_t partitions_made;    /* of stored replies and spans, for days to come */
    int64_t partitions_dropped; /* of stored replies, 48 h after their day; of spans beyond the server's limit */
    int64_t spans_archived;     /* of such partitions */
    int64_t archive_files;      /* that hold them */
    int64_t traces_deleted;     /* beyond the days of their project or the server */
    int64_t spans_deleted;      /* of projects with fewer days than the server */
    int64_t rate_windows;       /* older than 2 days: no limit counts further back */
    int64_t rows_removed;       /* of organizations and projects that were marked deleted */
    int64_t projects_removed;   /* for good */
    int64_t organizations_removed;
};

struct db_maintain_config {
    const char *url;            /* of forge_maint, which becomes forge_owner for it */
    int64_t now_us;             /* wall clock */
    int64_t span_age_max_us;    /* how old spans may be that are ingested: days back to there get partitions, at least yesterday */
    unsigned trace_days;        /* the server's limit; partitions of spans that are wholly older go. 0: none */
    const char *archive_folder; /* where their spans go first; NULL: they go for good */
    unsigned spans_per_file;    /* 0: 100,000 */
    unsigned detach_wait_ms;    /* for those who use a partition, then it is left to the next pass; 0: 10 minutes */
    const atomic_bool *stop;    /* looked at between batches; may be NULL */
    void (*tell)(const char *line, void *user); /* progress with old partitions; may be NULL */
    void *user;
};

/* One pass. Two at once are kept apart by an advisory lock. *out counts what was done, also when a later step failed; what fails for
 * one organization does not keep the others from their turn. A lock that is not given within half a second is left to the next pass;
 * only the detaching of a partition waits longer, in nobody's way, for those who still use it. Blocks;
 * FAILED_PRECONDITION when the role may not become forge_owner (the message names DATABASE_MAINT_URL), or with the system's reason where
 * an archive cannot be written. */
forge_code db_maintain(const struct db_maintain_config *config, struct db_maintain_report *out, struct forge_error *error) FORGE_MUST_CHECK;

#endif
