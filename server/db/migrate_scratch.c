#include "db/migrate_scratch.h"

#include <stdio.h>
#include <string.h>

/* "forgescr" as a number. */
#define SCRATCH_LOCK "7381244102692795250"
enum { NAME_BYTES_MAX = 40 }; /* of the database they are named after; PostgreSQL cuts names off at 63 bytes */

static forge_code no_memory(struct forge_error *error)
{
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the scratch databases");
}

/* Statement and name of a database, such as "DROP DATABASE IF EXISTS " and "a", and what follows the name. */
static forge_code database_exec(struct db_migrator *m, struct db_scratch *scratch, const char *before, const char *name, const char *behind,
                                struct forge_error *error)
{
    char *quoted = PQescapeIdentifier(scratch->admin, name, strlen(name));
    char *sql = quoted != NULL ? forge_arena_printf(&m->arena, "%s %s %s", before, quoted, behind) : NULL;
    PQfreemem(quoted);
    if (sql == NULL)
        return no_memory(error);
    return db_admin_exec(scratch->admin, sql, name, error);
}

static forge_code database_make(struct db_migrator *m, struct db_scratch *scratch, const char *url, const char *name, PGconn **out,
                                struct forge_error *error)
{
    forge_code rc = database_exec(m, scratch, "DROP DATABASE IF EXISTS", name, "WITH (FORCE)", error);
    if (rc == FORGE_OK)
        rc = database_exec(m, scratch, "CREATE DATABASE", name, "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'", error);
    if (strcmp(error->sqlstate, "42501") == 0)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION,
                               "role %s may not create the scratch databases: `forged bootstrap roles`, or name a role that may by"
                               " DATABASE_SCRATCH_URL",
                               PQuser(scratch->admin));
    return rc == FORGE_OK ? db_admin_open(url, name, out, error) : rc;
}

static forge_code wanted_load(struct db_migrator *m, struct db_scratch *scratch, const char *folder, struct forge_error *error)
{
    char *text = NULL;
    size_t size;
    forge_code rc = db_migration_file_read(folder, "schema.sql", &m->arena, &text, &size, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(scratch->wanted, "SET search_path = public; SET client_min_messages = warning", "preparing", error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(scratch->wanted, DB_SCHEMA_REVISIONS_SQL, "creating schema_revisions", error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(scratch->wanted, "BEGIN", "beginning", error);
    if (rc == FORGE_OK)
        rc = db_migrator_run_file(scratch->wanted, "schema.sql", text, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(scratch->wanted, "COMMIT", "committing", error);
    return rc;
}

static forge_code chain_load(struct db_migrator *m, const char *url, const char *name, struct forge_error *error)
{
    struct db_migrator builder = {.chain = m->chain};
    forge_arena_init(&builder.arena, m->arena.bytes_max, NULL);
    forge_code rc = db_migrator_open(&builder, url, name, error);
    for (size_t i = 0; rc == FORGE_OK && i < builder.chain.count; i++)
        rc = db_migrator_run(&builder, i, DB_MIGRATION_UP, error);
    db_migrator_close(&builder);
    return rc;
}

forge_code db_scratch_open(struct db_scratch *scratch, struct db_migrator *m, const char *url, const char *folder,
                           struct forge_error *error)
{
    *scratch = (struct db_scratch){0};
    forge_code rc = db_admin_open(url, NULL, &scratch->admin, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(scratch->admin, "SET client_min_messages = warning; SELECT pg_advisory_lock(" SCRATCH_LOCK ")",
                           "waiting for another check", error);
    if (rc != FORGE_OK)
        return rc;
    const char *wanted = forge_arena_printf(&m->arena, "%.*s_forged_scratch_wanted", NAME_BYTES_MAX, PQdb(scratch->admin));
    const char *chain = forge_arena_printf(&m->arena, "%.*s_forged_scratch_chain", NAME_BYTES_MAX, PQdb(scratch->admin));
    if (wanted == NULL || chain == NULL)
        return no_memory(error);
    scratch->wanted_name = wanted;
    scratch->chain_name = chain;
    rc = database_make(m, scratch, url, wanted, &scratch->wanted, error);
    if (rc == FORGE_OK)
        rc = database_make(m, scratch, url, chain, &scratch->chain, error);
    if (rc == FORGE_OK)
        rc = wanted_load(m, scratch, folder, error);
    if (rc == FORGE_OK)
        rc = chain_load(m, url, chain, error);
    return rc;
}

static void database_drop(PGconn *admin, PGconn *conn, const char *name)
{
    char sql[256];
    PQfinish(conn);
    if (name == NULL)
        return;
    char *quoted = PQescapeIdentifier(admin, name, strlen(name));
    if (quoted != NULL) {
        snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", quoted);
        PQclear(PQexec(admin, sql));
    }
    PQfreemem(quoted);
}

void db_scratch_done(struct db_scratch *scratch)
{
    database_drop(scratch->admin, scratch->wanted, scratch->wanted_name);
    database_drop(scratch->admin, scratch->chain, scratch->chain_name);
    PQfinish(scratch->admin);
    *scratch = (struct db_scratch){0};
}
