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

/* maintain_partitions.c: makes the partitions of spans and idempotency for the days to come and drops those of idempotency that are over.
 */
forge_code db_maintain_partitions(struct db_maintainer *maintainer, struct forge_error *error) FORGE_MUST_CHECK;
/* The day of a partition of spans, in seconds, by its name. */
int64_t db_maintain_span_day(const char *table);
/* As a bound of a partition of spans, "2026-01-02 00:00:00+00". */
enum { DB_MAINTAIN_BOUND_SIZE = 40 };
void db_maintain_time_bound(int64_t seconds, char out[DB_MAINTAIN_BOUND_SIZE]);
/* Where the first day begins that the server's limit keeps, in seconds; before all of them without a limit. */
int64_t db_maintain_spans_from(const struct db_maintain_config *config);
/* maintain_retention.c: the server's limit for spans. May take long, as long as other programs hold on to an old partition. */
forge_code db_maintain_retention(struct db_maintainer *maintainer, struct forge_error *error) FORGE_MUST_CHECK;
/* maintain_traces.c: what projects keep for a shorter time; the rows of traces that ended before, whose spans are gone. */
forge_code db_maintain_traces_of_projects(struct db_maintainer *maintainer, const char *organization_id,
                                          struct forge_error *error) FORGE_MUST_CHECK;
forge_code db_maintain_traces_before(struct db_maintainer *maintainer, const char *organization_id, int64_t before_s,
                                     struct forge_error *error) FORGE_MUST_CHECK;
/* maintain_remove.c: the projects of a living organization that are marked deleted; a whole organization that is. */
forge_code db_maintain_remove_projects(struct db_maintainer *maintainer, const char *organization_id,
                                       struct forge_error *error) FORGE_MUST_CHECK;
forge_code db_maintain_remove_organization(struct db_maintainer *maintainer, const char *organization_id,
                                           struct forge_error *error) FORGE_MUST_CHECK;

#endif
