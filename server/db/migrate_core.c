#include "db/migrate_core.h"

#include "db/migrate_statement.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    LOCK_ATTEMPTS = 10,       /* tries of one revision against locks that others hold, 900 ms each */
    LOCK_PAUSE_MS = 100,      /* times the number of the attempt: readers queued behind us go first */
    MIGRATOR_WAIT_MS = 60000, /* for another migrator */
    MIGRATOR_POLL_MS = 100,   /* polled: waiting inside pg_advisory_lock() would hold a snapshot open */
    FILES_BYTES_MAX = 64 << 20
};

/* Also undoes what a migration has set for its session. PostgreSQL ends the statement of a killed migrator, and with it the lock, instead
 * of finding out when it has a result. */
static const char SESSION[] = "RESET ALL; SET search_path = public; SET client_min_messages = warning;"
                              " SET client_connection_check_interval = '1s'";

void db_migrator_tell(const struct db_migrator *m, const char *format, ...)
{
    char *line = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&line, format, arguments);
    va_end(arguments);
    if (length >= 0 && m->progress != NULL)
        m->progress(line, m->user);
    if (length >= 0)
        free(line);
}

static void pause_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

void db_migrator_close(struct db_migrator *m)
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

static forge_code migrator_lock(struct db_migrator *m, struct forge_error *error)
{
    bool told = false;
    forge_code set = db_admin_exec(m->conn, SESSION, "preparing", error);
    if (set != FORGE_OK)
        return set;
    for (unsigned waited_ms = 0; waited_ms <= MIGRATOR_WAIT_MS; waited_ms += MIGRATOR_POLL_MS) {
        PGresult *result;
        forge_code rc = db_admin_query(m->conn, "SELECT pg_try_advisory_lock(" DB_MIGRATOR_LOCK ")", 0, NULL, "locking", &result, error);
        if (rc != FORGE_OK)
            return rc;
        bool locked = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
        PQclear(result);
        if (locked)
            return FORGE_OK;
        if (!told)
            db_migrator_tell(m, "Another migration is running, waiting for it");
        told = true;
        pause_ms(MIGRATOR_POLL_MS);
    }
    return forge_error_set(error, FORGE_UNAVAILABLE, "another migration is still running after %d s", MIGRATOR_WAIT_MS / 1000);
}

void db_migration_sha256_text(const struct db_migration *item, char out[DB_SHA256_TEXT_SIZE])
{
    for (int i = 0; i < FORGE_SHA256_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", item->sha256[i]);
}

static bool sha256_is(const struct db_migration *item, const char *hex)
{
    char text[DB_SHA256_TEXT_SIZE];
    db_migration_sha256_text(item, text);
    return strcmp(text, hex) == 0;
}

forge_code db_migrator_read_applied(struct db_migrator *m, bool changed_allowed, struct forge_error *error)
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

forge_code db_migrator_read_files(struct db_migrator *m, const char *folder, struct forge_error *error)
{
    forge_arena_init(&m->arena, FILES_BYTES_MAX, NULL);
    return db_migration_chain_read(folder, &m->arena, &m->chain, error);
}

forge_code db_migrator_open(struct db_migrator *m, const char *url, const char *database, struct forge_error *error)
{
    forge_code rc = db_admin_open(url, database, &m->conn, error);
    if (rc == FORGE_OK)
        rc = owner_check(m->conn, error);
    if (rc == FORGE_OK)
        rc = migrator_lock(m, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(m->conn, DB_SCHEMA_REVISIONS_SQL, "creating schema_revisions", error);
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

static bool succeeded(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY;
}

/* Error of a statement of a file. first_line: of the text that was sent, in the file. */
static forge_code file_failed(PGconn *conn, PGresult *result, const char *name, const char *sql, unsigned first_line,
                              struct forge_error *error)
{
    const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    char what[300];
    if (position != NULL)
        snprintf(what, sizeof what, "%s line %u", name, first_line - 1 + line_of(sql, (int)strtol(position, NULL, 10)));
    else
        snprintf(what, sizeof what, "%s", name);
    forge_code rc = db_admin_failed(conn, result, what, error);
    size_t length = strlen(error->message);
    if (strcmp(error->sqlstate, "25001") == 0)
        snprintf(error->message + length, sizeof error->message - length, ": mark the file with `-- transaction: none`");
    return rc;
}

forge_code db_migrator_run_file(PGconn *conn, const char *name, const char *sql, struct forge_error *error)
{
    PGresult *result = PQexec(conn, sql);
    if (!succeeded(result))
        return file_failed(conn, result, name, sql, 1, error);
    PQclear(result);
    if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "%s ended the migrator's transaction", name);
    return FORGE_OK;
}

/* A statement that works CONCURRENTLY waits for older transactions to end, and nobody waits for it. */
static bool may_wait(const char *statement)
{
    return strcasestr(statement, "CONCURRENTLY") != NULL;
}

/* A file marked `-- transaction: none`: several statements in one message would be one transaction, so each goes alone. */
static forge_code statements_run(struct db_migrator *m, const char *name, const char *sql, struct forge_error *error)
{
    unsigned line = 1;
    for (const char *rest = sql; *rest != '\0';) {
        const char *end = db_statement_end(rest);
        char *statement = forge_arena_strndup(&m->arena, rest, (size_t)(end - rest));
        if (statement == NULL)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the statements of %s", name);
        forge_code rc =
            db_admin_exec(m->conn, may_wait(statement) ? "SET lock_timeout = 0" : "SET lock_timeout = '900ms'", "preparing", error);
        if (rc != FORGE_OK)
            return rc;
        PGresult *result = PQexec(m->conn, statement);
        if (!succeeded(result))
            return file_failed(m->conn, result, name, statement, line, error);
        PQclear(result);
        for (; rest < end; rest++)
            line += *rest == '\n';
    }
    return FORGE_OK;
}

forge_code db_migrator_write_row(struct db_migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    char position[12];
    snprintf(position, sizeof position, "%zu", index + 1);
    char hash[2 + DB_SHA256_TEXT_SIZE] = "\\x";
    db_migration_sha256_text(item, hash + 2);
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
static forge_code transaction_try(struct db_migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    bool up = direction == DB_MIGRATION_UP;
    forge_code rc = db_admin_exec(m->conn, "BEGIN; SET LOCAL lock_timeout = '900ms'; SET LOCAL statement_timeout = 0", "beginning", error);
    if (rc == FORGE_OK)
        rc = db_migrator_run_file(m->conn, up ? item->up_name : item->down_name, up ? item->up_sql : item->down_sql, error);
    if (rc == FORGE_OK)
        rc = db_migrator_write_row(m, index, direction, error);
    if (rc == FORGE_OK)
        return db_admin_exec(m->conn, "COMMIT", "committing", error);
    PQclear(PQexec(m->conn, "ROLLBACK"));
    return rc;
}

/* One revision without a transaction: its row comes last, so a file that was cut off runs again from its start. */
static forge_code alone_try(struct db_migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    bool up = direction == DB_MIGRATION_UP;
    forge_code rc = db_admin_exec(m->conn, "SET statement_timeout = 0", "preparing", error);
    if (rc == FORGE_OK)
        rc = statements_run(m, up ? item->up_name : item->down_name, up ? item->up_sql : item->down_sql, error);
    return rc == FORGE_OK ? db_migrator_write_row(m, index, direction, error) : rc;
}

static forge_code revision_try(struct db_migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    bool alone = direction == DB_MIGRATION_UP ? item->up_is_alone : item->down_is_alone;
    forge_code rc = db_admin_exec(m->conn, SESSION, "preparing", error);
    if (rc != FORGE_OK)
        return rc;
    return alone ? alone_try(m, index, direction, error) : transaction_try(m, index, direction, error);
}

forge_code db_migrator_run(struct db_migrator *m, size_t index, enum db_migration_direction direction, struct forge_error *error)
{
    const struct db_migration *item = &m->chain.items[index];
    const char *from = direction == DB_MIGRATION_UP ? item->revises : item->revision;
    const char *to = direction == DB_MIGRATION_UP ? item->revision : item->revises;
    db_migrator_tell(m, "Running %s %s -> %s, %s", direction == DB_MIGRATION_UP ? "upgrade" : "downgrade", from, to, item->message);
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
        db_migrator_tell(m, "Waiting for a lock, attempt %u of %d failed: %s", attempt, LOCK_ATTEMPTS, failed.message);
        pause_ms(attempt * LOCK_PAUSE_MS);
    }
}
