#include "support/db_fixture.h"

#include "wire/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const tables =
    "CREATE TABLE items (organization_id uuid NOT NULL, id uuid NOT NULL, name varchar(20) COLLATE \"C\" NOT NULL, position smallint NOT "
    "NULL,"
    " CONSTRAINT items_pkey PRIMARY KEY (organization_id, id), CONSTRAINT valid_position CHECK (position >= 0));"
    "CREATE UNIQUE INDEX ix_items_name ON items (organization_id, name);"
    "ALTER TABLE items ENABLE ROW LEVEL SECURITY; ALTER TABLE items FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY tenant ON items USING (organization_id = current_setting('forge.organization_id')::uuid);"
    "CREATE FUNCTION raise_state(state text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = state; END $$;"
    "CREATE TABLE changes (change_id uuid NOT NULL PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), organization_id uuid NOT "
    "NULL,"
    " kind varchar(32) COLLATE \"C\" NOT NULL, object_id uuid, parent_id uuid, created_at timestamptz NOT NULL DEFAULT now());"
    "CREATE INDEX ix_changes_xid ON changes (xid);"
    "GRANT SELECT, INSERT, UPDATE, DELETE ON items TO forge_app; GRANT SELECT, INSERT, DELETE ON changes TO forge_app";

void db_fixture_init(struct db_fixture *fixture, struct pg_cluster *cluster)
{
    *fixture = (struct db_fixture){.cluster = cluster};
    fixture->database = pg_cluster_create_database(cluster, "forge_owner");
    pg_cluster_execute(cluster, "forge_owner", fixture->database, tables);
    fixture->url = pg_cluster_url(cluster, "forge_app", fixture->database);
    forge_uuid_v7(&fixture->organization_id);
    forge_arena_init(&fixture->arena, 64 << 20, NULL);
}

void db_fixture_pool(struct db_fixture *fixture, unsigned kept_max, unsigned extra_max)
{
    struct db_pool_config config = {.url = fixture->url,
                                    .application_name = "db test",
                                    .kept_max = kept_max,
                                    .extra_max = extra_max,
                                    .idle_ms = 60000,
                                    .connect_timeout_ms = 5000};
    assert_int_equal(db_pool_new(&config, &fixture->pool, &fixture->error), FORGE_OK);
}

void db_fixture_done(struct db_fixture *fixture)
{
    struct db_pool_status status = {0};
    if (fixture->pool != NULL)
        db_pool_get_status(fixture->pool, &status);
    if (status.leased + status.waiting > 0) /* the test failed with sessions open: let cmocka say where */
        return;
    db_pool_free(fixture->pool);
    forge_arena_done(&fixture->arena);
}

int db_fixture_cluster_start(void **state)
{
    struct pg_cluster *cluster = pg_cluster_new(NULL);
    pg_cluster_create_roles(cluster);
    *state = cluster;
    return 0;
}

int db_fixture_cluster_stop(void **state)
{
    pg_cluster_free(*state);
    return 0;
}

int db_fixture_start(void **state)
{
    struct db_fixture *fixture = calloc(1, sizeof *fixture);
    db_fixture_init(fixture, *state);
    *state = fixture;
    return 0;
}

int db_fixture_start_with_pool(void **state)
{
    db_fixture_start(state);
    db_fixture_pool(*state, 1, 1);
    return 0;
}

int db_fixture_stop(void **state)
{
    db_fixture_done(*state);
    free(*state);
    return 0;
}

uint64_t db_fixture_deadline(unsigned ms)
{
    return forge_clock_monotonic_ns() + (uint64_t)ms * 1000000;
}

struct db_session *db_fixture_lease(struct db_fixture *fixture, unsigned ms)
{
    struct db_session *session = NULL;
    forge_code rc = db_pool_lease(fixture->pool, &fixture->arena, db_fixture_deadline(ms), &session, &fixture->error);
    if (rc != FORGE_OK)
        fail_msg("lease: %s: %s", forge_code_name(rc), fixture->error.message);
    db_session_bind_tenant(session, &fixture->organization_id);
    return session;
}

struct db_stmt *db_fixture_insert(struct db_session *session, const struct db_fixture *fixture, const struct forge_uuid *id,
                                  const char *name, int position)
{
    struct db_stmt *insert = db_stmt(session, SQL_TEST_INSERT);
    db_bind_uuid(insert, &fixture->organization_id);
    db_bind_uuid(insert, id);
    db_bind_text(insert, name);
    db_bind_int32(insert, position);
    return insert;
}

int db_fixture_items(struct db_fixture *fixture)
{
    return atoi(pg_cluster_query(fixture->cluster, "postgres", fixture->database, "SELECT count(*) FROM items"));
}
