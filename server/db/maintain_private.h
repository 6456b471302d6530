/* What the parts of a maintenance pass share. Private to db/maintain*.c. */
#ifndef SERVER_DB_MAINTAIN_PRIVATE_H
#define SERVER_DB_MAINTAIN_PRIVATE_H

#include "db/admin_connection.h"
#include "db/maintain.h"

struct db_maintainer {
    PGconn *conn; /* as forge_owner */
    const struct db_maintain_config *config;
    struct db_maintain_report *report;
};

enum { DB_MAINTAIN_PARAMETERS_MAX = 3 };
/* A DELETE that takes at most some thousand rows at a time. Its parameters are text: the organization first where it has one. */
struct db_maintain_batch {
    const char *what; /* for the error: "deleting sessions" */
    const char *sql;
    const char *parameters[DB_MAINTAIN_PARAMETERS_MAX];
    int parameter_count;
};

bool db_maintain_is_stopped(const struct db_maintainer *maintainer);
/* Runs the DELETE again and again, each time in a transaction bound to the organization (NULL = none), until nothing is left of it, and
 * adds to *total what it deleted. OK too when the pass is asked to stop: look at db_maintain_is_stopped(). */
forge_code db_maintain_delete(struct db_maintainer *maintainer, const char *organization_id, const struct db_maintain_batch *batch,
                              int64_t *total, struct forge_error *error) FORGE_MUST_CHECK;
/* Rows of a query in a transaction bound to the organization. *out_rows is the caller's to clear. */
forge_code db_maintain_query(struct db_maintainer *maintainer, const char *organization_id, const char *sql, const char *what,
                             PGresult **out_rows, struct forge_error *error) FORGE_MUST_CHECK;

/* maintain_partitions.c: makes the partitions of idempotency for the days to come and drops those that are over. */
forge_code db_maintain_partitions(struct db_maintainer *maintainer, struct forge_error *error) FORGE_MUST_CHECK;
/* maintain_remove.c: the projects of a living organization that are marked deleted; a whole organization that is. */
forge_code db_maintain_remove_projects(struct db_maintainer *maintainer, const char *organization_id,
                                       struct forge_error *error) FORGE_MUST_CHECK;
forge_code db_maintain_remove_organization(struct db_maintainer *maintainer, const char *organization_id,
                                           struct forge_error *error) FORGE_MUST_CHECK;

#endif
