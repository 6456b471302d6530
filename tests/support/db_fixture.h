/* A pool on a fresh database with one small table, and shorthands that end the test when something fails. For tests of server/db. */
#ifndef TESTS_SUPPORT_DB_FIXTURE_H
#define TESTS_SUPPORT_DB_FIXTURE_H

#include "db/pool.h"
#include "db/stmt.h"
#include "support/pg_cluster.h"

struct db_fixture {
    struct pg_cluster *cluster;
    const char *database;
    const char *url; /* of forge_app */
    struct db_pool *pool;
    struct forge_arena arena;
    struct forge_uuid organization_id;
    struct forge_error error; /* of the last failed step */
};

/* Makes database and table items (organization_id, id, name, position), row-level security forced, for role forge_app. No pool yet. */
void db_fixture_init(struct db_fixture *fixture, struct pg_cluster *cluster);
/* A pool that does not check the schema: kept connections, up to extra more, connect timeout 5 s. */
void db_fixture_pool(struct db_fixture *fixture, unsigned kept_max, unsigned extra_max);
void db_fixture_done(struct db_fixture *fixture);

/* ---- set-up and teardown of cmocka ---- */

/* Of the group: a cluster with roles. */
int db_fixture_cluster_start(void **state);
int db_fixture_cluster_stop(void **state);
/* Of a test in such a group: *state is a struct db_fixture without a pool, or with one of a kept and an extra connection. */
int db_fixture_start(void **state);
int db_fixture_start_with_pool(void **state);
int db_fixture_stop(void **state);

/* ---- shorthands ---- */

uint64_t db_fixture_deadline(unsigned ms);
/* A session of the fixture's organization with `ms` to live. */
struct db_session *db_fixture_lease(struct db_fixture *fixture, unsigned ms);
struct db_stmt *db_fixture_insert(struct db_session *session, const struct db_fixture *fixture, const struct forge_uuid *id,
                                  const char *name, int position);
/* Rows in items, counted by the superuser. */
int db_fixture_items(struct db_fixture *fixture);

#endif
