/* Two scratch databases: what schema.sql wants, and what the chain of migrations makes. Private to server/db. */
#ifndef SERVER_DB_MIGRATE_SCRATCH_H
#define SERVER_DB_MIGRATE_SCRATCH_H

#include "db/migrate_core.h"

struct db_scratch {
    PGconn *admin; /* where they are made from; holds the lock that keeps two users of them apart */
    const char *wanted_name, *chain_name;
    PGconn *wanted, *chain;
};

/* Makes them beside the database of url, named after it, and loads them. Leftovers of one that was killed are replaced. m has read the
 * files. FAILED_PRECONDITION: schema.sql is missing or does not run, the role may not create databases. Done after a failure too. */
forge_code db_scratch_open(struct db_scratch *scratch, struct db_migrator *m, const char *url, const char *folder,
                           struct forge_error *error) FORGE_MUST_CHECK;
/* Drops them. Accepts a zeroed one. */
void db_scratch_done(struct db_scratch *scratch);

#endif
