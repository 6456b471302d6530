#include "db/migrate.h"

#include "db/admin_connection.h"
#include "db/migration_files.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LOCK_ATTEMPTS = 10,       /* tries of one revision against locks that others hold, 1 s each */
    LOCK_PAUSE_MS = 100,      /* times the number of the attempt: readers queued behind us go first */
    MIGRATOR_WAIT_MS = 60000, /* for another migrator */
    MIGRATOR_POLL_MS = 100,   /* polled: waiting inside pg_advisory_lock() would hold a snapshot open */
    FILES_BYTES_MAX = 64 << 20
};
/* "forgemig" as a number: the key of the advisory lock that keeps migrators apart. */
#define MIGRATOR_LOCK "7381244102692399463"

struct migrator {
    PGconn *conn;
    struct forge_arena arena;
    struct db_migration_chain chain;
    size_t applied; /* revisions of the chain that the database has */
    db_migrate_progress progress;
    void *user;
};

static void tell(const struct migrator *m, const char *format, ...) FORGE_PRINTF(2, 3);
static void tell(const struct migrator *m, const char *format, ...)
{
    char line[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (m->progress != NULL)
        m->progress(line, m->user);
}

static void pause_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static void migrator_close(struct migrator *m)
{
    PQfinish(m->conn);
    forge_arena_done(&m->arena);
}

static forge_code owner_check(PGconn *conn, struct forge_error *error)
{
    PGresult *result;
    forge_code rc = db_admin_query(conn,
                                   "SELECT current_user, pg_get_userbyid(datdba), datname, current_user = pg_get_userbyid(datdba),"
                                   " EXISTS (SELECT FROM pg_roles WHERE rolname = 'forge_app')"
                                   " FROM pg_database WHERE datname = current_database()",
                                   0, NULL, "looking up the owner", &result, error);
    if (rc != FORGE_OK)
        return rc;
    if (strcmp(PQgetvalue(result, 0, 3), "t") != 0)
        rc = forge_error_set(error, FORGE_FAILED_PRECONDITION,
                             "role %s does not own database %s, %s does: migrate by DATABASE_OWNER_URL, not by DATABASE_URL",
                             PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 2), PQgetvalue(result, 0, 1));
    else if (strcmp(PQgetvalue(result, 0, 4), "t") != 0)
        rc = forge_error_set(error, FORGE_FAILED_PRECONDITION, "role forge_app does not exist: run `forged bootstrap roles` first");
    PQclear(result);
    return rc;
}

static forge_code migrator_lock(struct migrator *m, struct forge_error *error)
{
    bool told = false;
    /* PostgreSQL ends the statement of a killed migrator, and with it the lock, instead of finding out when it has a result. */
    forge_code set = db_admin_exec(m->conn, "SET client_connection_check_interval = '1s'", "preparing", error);
    if (set != FORGE_OK)
        return set;
    for (unsigned waited_ms = 0; waited_ms <= MIGRATOR_WAIT_MS; waited_ms += MIGRATOR_POLL_MS) {
        PGresult *result;
        forge_code rc = db_admin_query(m->conn, "SELECT pg_try_advisory_lock(" MIGRATOR_LOCK ")", 0, NULL, "locking", &result, error);
        if (rc != FORGE_OK)
            return rc;
        bool locked = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
        PQclear(result);
        if (locked)
            return FORGE_OK;
        if (!told)
            tell(m, "Another migration is running, waiting for it");
        told = true;
        pause_ms(MIGRATOR_POLL_MS);
    }
    return forge_error_set(error, FORGE_UNAVAILABLE, "another migration is still running after %d s", MIGRATOR_WAIT_MS / 1000);
}

static forge_code table_create(PGconn *conn, struct forge_error *error)
{
    return db_admin_exec(conn,
                         "SET search_path = public; SET client_min_messages = warning;"
                         "CREATE TABLE IF NOT EXISTS schema_revisions ("
                         " revision varchar(12) COLLATE \"C\" NOT NULL,"
                         " position integer NOT NULL,"
                         " sha256 bytea NOT NULL,"
                         " serves varchar(12) COLLATE \"C\","
                         " applied_at timestamptz NOT NULL DEFAULT now(),"
                         " CONSTRAINT schema_revisions_pkey PRIMARY KEY (revision));"
                         "CREATE UNIQUE INDEX IF NOT EXISTS ix_schema_revisions_position ON schema_revisions (position);"
                         "GRANT SELECT ON schema_revisions TO forge_app",
                         "creating schema_revisions", error);
}

static bool sha256_is(const struct db_migration *item, const char *hex)
{
    char text[2 * FORGE_SHA256_SIZE + 1];
    for (int i = 0; i < FORGE_SHA256_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", item->sha256[i]);
    return strcmp(text, hex) == 0;
}

/* How far along the chain the database is. */
static forge_code applied_read(struct migrator *m, bool changed_allowed, struct forge_error *error)
{
    PGresult *result;
    forge_code rc = db_admin_query(m->conn, "SELECT revision, encode(sha256, 'hex') FROM public.schema_revisions ORDER BY position", 0,
                                   NULL, "reading schema_revisions", &result, error);
    if (rc != FORGE_OK)
        return rc;
    int count = PQntuples(result);
    for (int i = 0; rc == FORGE_OK && i < count; i++) {
        const char *revision = PQgetvalue(result, i, 0);
        if ((size_t)i >= m->chain.count || strcmp(m->chain.items[i].revision, revision) != 0)
            rc = forge_error_set(error, FORGE_FAILED_PRECONDITION,
                                 "the database has revision %s, which this migrations folder does not have at that place", revision);
        else if (!changed_allowed && !sha256_is(&m->chain.items[i], PQgetvalue(result, i, 1)))
            rc = forge_error_set(error, FORGE_FAILED_PRECONDITION,
                                 "%s was changed after it was applied: reset this development database"
                                 " (forged migrate downgrade base, forged migrate upgrade head; deletes all data)",
                                 m->chain.items[i].up_name);
    }
    PQclear(result);
    if (rc == FORGE_OK)
        m->applied = (size_t)count;
    return rc;
}

static forge_code files_read(struct migrator *m, const char *folder, struct forge_error *error)
{
    forge_arena_init(&m->arena, FILES_BYTES_MAX, NULL);
    return db_migration_chain_read(folder, &m->arena, &m->chain, error);
}

/* Files read, connected as the owner, alone, and knowing where the database stands. */
static forge_code migrator_open(struct migrator *m, const char *url, const char *folder, bool changed_allowed, struct forge_error *error)
{
    forge_code rc = files_read(m, folder, error);
    if (rc == FORGE_OK)
        rc = db_admin_open(url, NULL, &m->conn, error);
    if (rc == FORGE_OK)
        rc = owner_check(m->conn, error);
    if (rc == FORGE_OK)
        rc = migrator_lock(m, error);
    if (rc == FORGE_OK)
        rc = table_create(m->conn, error);
    if (rc == FORGE_OK)
        rc = applied_read(m, changed_allowed, error);
    return rc;
}

/* Line of a file at a character position as PostgreSQL counts (from 1, characters and not bytes). */
static unsigned line_of(const char *text, int position)
{
    unsigned line = 1;
    for (int character = 1; *text != '\0' && character < position; text++) {
        if (((unsigned char)*text & 0xC0) != 0x80)
            character++;
        if (*text == '\n')
            line++;
    }
    return line;
}

static forge_code file_run(PGconn *conn, const char *name, const char *sql, struct forge_error *error)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) {
        PQclear(result);
        if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
            return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s ended the migrator's transaction", name);
        return FORGE_OK;
    }
    const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    char what[300];
    if (position != NULL)
        snprintf(what, sizeof what, "%s line %u", name, line_of(sql, (int)strtol(position, NULL, 10)));
    else
        snprintf(what, sizeof what, "%s", name);
    return db_admin_failed(conn, result, what, error);
}

static forge_code row_write(struct migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    char position[12];
    snprintf(position, sizeof position, "%zu", index + 1);
    char hash[2 + 2 * FORGE_SHA256_SIZE + 1] = "\\x";
    for (int i = 0; i < FORGE_SHA256_SIZE; i++)
        snprintf(hash + 2 + 2 * i, 3, "%02x", item->sha256[i]);
    const char *values[] = {item->revision, position, hash, item->serves[0] != '\0' ? item->serves : NULL};
    PGresult *result;
    forge_code rc;
    if (direction == DB_MIGRATION_UP)
        rc = db_admin_query(m->conn, "INSERT INTO public.schema_revisions (revision, position, sha256, serves) VALUES ($1, $2, $3, $4)", 4,
                            values, "writing schema_revisions", &result, error);
    else
        rc = db_admin_query(m->conn, "DELETE FROM public.schema_revisions WHERE revision = $1", 1, values, "writing schema_revisions",
                            &result, error);
    if (rc == FORGE_OK)
        PQclear(result);
    return rc;
}

/* One revision in one transaction, once. */
static forge_code revision_try(struct migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    bool up = direction == DB_MIGRATION_UP;
    forge_code rc = db_admin_exec(m->conn, "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = 0", "beginning", error);
    if (rc == FORGE_OK)
        rc = file_run(m->conn, up ? item->up_name : item->down_name, up ? item->up_sql : item->down_sql, error);
    if (rc == FORGE_OK)
        rc = row_write(m, index, direction, error);
    if (rc == FORGE_OK)
        return db_admin_exec(m->conn, "COMMIT", "committing", error);
    PQclear(PQexec(m->conn, "ROLLBACK"));
    return rc;
}

static forge_code revision_run(struct migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    const char *from = direction == DB_MIGRATION_UP ? item->revises : item->revision;
    const char *to = direction == DB_MIGRATION_UP ? item->revision : item->revises;
    tell(m, "Running %s %s -> %s, %s", direction == DB_MIGRATION_UP ? "upgrade" : "downgrade", from, to, item->message);
    for (unsigned attempt = 1;; attempt++) {
        struct forge_error failed = {0};
        forge_code rc = revision_try(m, index, direction, &failed);
        bool blocked = strcmp(failed.sqlstate, "55P03") == 0 || strcmp(failed.sqlstate, "40P01") == 0;
        if (rc == FORGE_OK)
            return rc;
        if (!blocked || attempt == LOCK_ATTEMPTS) {
            *error = failed;
            return rc;
        }
        tell(m, "Waiting for a lock, attempt %u of %d failed: %s", attempt, LOCK_ATTEMPTS, failed.message);
        pause_ms(attempt * LOCK_PAUSE_MS);
    }
}

/* A positive number behind a sign, as in "+2". False for anything else. */
static bool steps_parse(const char *target, char sign, size_t *out)
{
    size_t digits = target[0] == sign ? strspn(target + 1, "0123456789") : 0;
    if (digits == 0 || digits > 4 || target[1 + digits] != '\0')
        return false;
    *out = strtoul(target + 1, NULL, 10);
    return *out > 0;
}

/* Place of the revision that target names by all or its first digits, counted from 1. */
static forge_code revision_find(const struct migrator *m, const char *target, size_t *out, struct forge_error *error)
{
    size_t length = strlen(target);
    size_t found = 0;
    if (length < 4 || length >= DB_REVISION_SIZE || strspn(target, "0123456789abcdef") != length)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "target \"%.40s\": not head, base, +N, -N or a revision", target);
    for (size_t i = 0; i < m->chain.count; i++) {
        if (strncmp(m->chain.items[i].revision, target, length) != 0)
            continue;
        if (found != 0)
            return forge_error_set(error, FORGE_INVALID_ARGUMENT, "target %s: %s and %s begin with it", target,
                                   m->chain.items[found - 1].revision, m->chain.items[i].revision);
        found = i + 1;
    }
    if (found == 0)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "no revision %s in the migrations folder", target);
    *out = found;
    return FORGE_OK;
}

static forge_code upgrade_target(const struct migrator *m, const char *target, size_t *out, struct forge_error *error)
{
    size_t steps;
    if (strcmp(target, "head") == 0) {
        *out = m->chain.count;
        return FORGE_OK;
    }
    if (!steps_parse(target, '+', &steps))
        return revision_find(m, target, out, error);
    if (steps > m->chain.count - m->applied)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "target %s: only %zu revisions are left to apply", target,
                               m->chain.count - m->applied);
    *out = m->applied + steps;
    return FORGE_OK;
}

static forge_code downgrade_target(const struct migrator *m, const char *target, size_t *out, struct forge_error *error)
{
    size_t steps;
    if (strcmp(target, "base") == 0) {
        *out = 0;
        return FORGE_OK;
    }
    if (!steps_parse(target, '-', &steps)) {
        size_t place;
        forge_code rc = revision_find(m, target, &place, error);
        if (rc == FORGE_OK && place > m->applied)
            rc = forge_error_set(error, FORGE_INVALID_ARGUMENT, "target %s: that revision is not applied", target);
        if (rc == FORGE_OK)
            *out = place;
        return rc;
    }
    if (steps > m->applied)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "target %s: only %zu revisions are applied", target, m->applied);
    *out = m->applied - steps;
    return FORGE_OK;
}

forge_code db_migrate_upgrade(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                              struct forge_error *error)
{
    struct migrator m = {.progress = progress, .user = user};
    size_t wanted = 0;
    forge_code rc = migrator_open(&m, url, folder, false, error);
    if (rc == FORGE_OK)
        rc = upgrade_target(&m, target, &wanted, error);
    if (rc == FORGE_OK && wanted <= m.applied)
        tell(&m, "Nothing to do: revision %s is applied", m.chain.items[m.applied - 1].revision);
    for (size_t i = m.applied; rc == FORGE_OK && i < wanted; i++)
        rc = revision_run(&m, i, DB_MIGRATION_UP, error);
    migrator_close(&m);
    return rc;
}

forge_code db_migrate_downgrade(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                                struct forge_error *error)
{
    struct migrator m = {.progress = progress, .user = user};
    size_t wanted = 0;
    forge_code rc = migrator_open(&m, url, folder, true, error);
    if (rc == FORGE_OK)
        rc = downgrade_target(&m, target, &wanted, error);
    if (rc == FORGE_OK && wanted == m.applied)
        tell(&m, "Nothing to do");
    for (size_t i = m.applied; rc == FORGE_OK && i > wanted; i--)
        rc = revision_run(&m, i - 1, DB_MIGRATION_DOWN, error);
    migrator_close(&m);
    return rc;
}

static void current_tell(const struct migrator *m, bool verbose)
{
    if (verbose)
        tell(m, "Current revision for %s on %s:%s", PQdb(m->conn), PQhost(m->conn), PQport(m->conn));
    if (m->applied == 0)
        return;
    const struct db_migration *item = &m->chain.items[m->applied - 1];
    const char *head = m->applied == m->chain.count ? " (head)" : "";
    if (!verbose) {
        tell(m, "%s%s", item->revision, head);
        return;
    }
    tell(m, "Rev: %s%s", item->revision, head);
    tell(m, "Parent: %s", item->revises[0] != '\0' ? item->revises : "<base>");
    tell(m, "Path: %s", item->up_name);
    tell(m, "Created: %s", item->created);
    tell(m, "Message: %s", item->message);
}

forge_code db_migrate_current(const char *url, const char *folder, bool verbose, db_migrate_progress progress, void *user,
                              struct forge_error *error)
{
    struct migrator m = {.progress = progress, .user = user};
    PGresult *result = NULL;
    forge_code rc = files_read(&m, folder, error);
    if (rc == FORGE_OK)
        rc = db_admin_open(url, NULL, &m.conn, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(m.conn, "SELECT to_regclass('public.schema_revisions') IS NOT NULL", 0, NULL, "looking for schema_revisions",
                            &result, error);
    if (rc == FORGE_OK && strcmp(PQgetvalue(result, 0, 0), "t") == 0)
        rc = applied_read(&m, true, error);
    PQclear(result);
    if (rc == FORGE_OK)
        current_tell(&m, verbose);
    migrator_close(&m);
    return rc;
}
