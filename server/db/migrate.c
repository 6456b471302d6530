#include "db/migrate.h"

#include "db/migrate_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
static forge_code revision_find(const struct db_migrator *m, const char *target, size_t *out, struct forge_error *error)
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

static forge_code upgrade_target(const struct db_migrator *m, const char *target, size_t *out, struct forge_error *error)
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

static forge_code downgrade_target(const struct db_migrator *m, const char *target, size_t *out, struct forge_error *error)
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

/* Files read, connected as the owner, alone, and knowing where the database stands. */
static forge_code open_at(struct db_migrator *m, const char *url, const char *folder, bool changed_allowed, struct forge_error *error)
{
    forge_code rc = db_migrator_read_files(m, folder, error);
    if (rc == FORGE_OK)
        rc = db_migrator_open(m, url, NULL, error);
    if (rc == FORGE_OK)
        rc = db_migrator_read_applied(m, changed_allowed, error);
    return rc;
}

forge_code db_migrate_upgrade(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                              struct forge_error *error)
{
    struct db_migrator m = {.progress = progress, .user = user};
    size_t wanted = 0;
    forge_code rc = open_at(&m, url, folder, false, error);
    if (rc == FORGE_OK)
        rc = upgrade_target(&m, target, &wanted, error);
    if (rc == FORGE_OK && wanted <= m.applied)
        db_migrator_tell(&m, "Nothing to do: revision %s is applied", m.chain.items[m.applied - 1].revision);
    for (size_t i = m.applied; rc == FORGE_OK && i < wanted; i++)
        rc = db_migrator_run(&m, i, DB_MIGRATION_UP, error);
    db_migrator_close(&m);
    return rc;
}

forge_code db_migrate_downgrade(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                                struct forge_error *error)
{
    struct db_migrator m = {.progress = progress, .user = user};
    size_t wanted = 0;
    forge_code rc = open_at(&m, url, folder, true, error);
    if (rc == FORGE_OK)
        rc = downgrade_target(&m, target, &wanted, error);
    if (rc == FORGE_OK && wanted == m.applied)
        db_migrator_tell(&m, "Nothing to do");
    for (size_t i = m.applied; rc == FORGE_OK && i > wanted; i--)
        rc = db_migrator_run(&m, i - 1, DB_MIGRATION_DOWN, error);
    db_migrator_close(&m);
    return rc;
}

/* What --verbose tells of a revision. */
static void revision_tell(const struct db_migrator *m, size_t index)
{
    const struct db_migration *item = &m->chain.items[index];
    db_migrator_tell(m, "Rev: %s%s", item->revision, index + 1 == m->chain.count ? " (head)" : "");
    db_migrator_tell(m, "Parent: %s", item->revises[0] != '\0' ? item->revises : "<base>");
    db_migrator_tell(m, "Path: %s", item->up_name);
    db_migrator_tell(m, "Created: %s", item->created);
    db_migrator_tell(m, "Message: %s", item->message);
    if (item->serves[0] != '\0')
        db_migrator_tell(m, "Serves: %s", item->serves);
    if (item->up_is_alone || item->down_is_alone)
        db_migrator_tell(m, "Without a transaction: %s",
                         item->up_is_alone && item->down_is_alone ? "both files"
                         : item->up_is_alone                      ? item->up_name
                                                                  : item->down_name);
}

static void current_tell(const struct db_migrator *m, bool verbose)
{
    if (verbose)
        db_migrator_tell(m, "Current revision for %s on %s:%s", PQdb(m->conn), PQhost(m->conn), PQport(m->conn));
    if (m->applied == 0)
        return;
    if (verbose)
        revision_tell(m, m->applied - 1);
    else
        db_migrator_tell(m, "%s%s", m->chain.items[m->applied - 1].revision, m->applied == m->chain.count ? " (head)" : "");
}

forge_code db_migrate_current(const char *url, const char *folder, bool verbose, db_migrate_progress progress, void *user,
                              struct forge_error *error)
{
    struct db_migrator m = {.progress = progress, .user = user};
    PGresult *result = NULL;
    forge_code rc = db_migrator_read_files(&m, folder, error);
    if (rc == FORGE_OK)
        rc = db_admin_open(url, NULL, &m.conn, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(m.conn, "SELECT to_regclass('public.schema_revisions') IS NOT NULL", 0, NULL, "looking for schema_revisions",
                            &result, error);
    if (rc == FORGE_OK && strcmp(PQgetvalue(result, 0, 0), "t") == 0)
        rc = db_migrator_read_applied(&m, true, error);
    PQclear(result);
    if (rc == FORGE_OK)
        current_tell(&m, verbose);
    db_migrator_close(&m);
    return rc;
}

forge_code db_migrate_history(const char *folder, bool verbose, db_migrate_progress progress, void *user, struct forge_error *error)
{
    struct db_migrator m = {.progress = progress, .user = user};
    forge_code rc = db_migrator_read_files(&m, folder, error);
    for (size_t i = rc == FORGE_OK ? m.chain.count : 0; i > 0; i--) {
        const struct db_migration *item = &m.chain.items[i - 1];
        if (verbose && i < m.chain.count)
            db_migrator_tell(&m, "%s", "");
        if (verbose)
            revision_tell(&m, i - 1);
        else
            db_migrator_tell(&m, "%s -> %s%s, %s", item->revises[0] != '\0' ? item->revises : "<base>", item->revision,
                             i == m.chain.count ? " (head)" : "", item->message);
    }
    db_migrator_close(&m);
    return rc;
}

/* Rows for the first `count` revisions, whatever was there. */
static forge_code rows_stamp(struct db_migrator *m, size_t count, struct forge_error *error)
{
    forge_code rc = db_admin_exec(m->conn, "BEGIN; DELETE FROM public.schema_revisions", "stamping", error);
    for (size_t i = 0; rc == FORGE_OK && i < count; i++)
        rc = db_migrator_write_row(m, i, DB_MIGRATION_UP, error);
    if (rc == FORGE_OK)
        return db_admin_exec(m->conn, "COMMIT", "stamping", error);
    PQclear(PQexec(m->conn, "ROLLBACK"));
    return rc;
}

forge_code db_migrate_stamp(const char *url, const char *folder, const char *target, db_migrate_progress progress, void *user,
                            struct forge_error *error)
{
    struct db_migrator m = {.progress = progress, .user = user};
    size_t wanted = 0;
    forge_code rc = db_migrator_read_files(&m, folder, error);
    if (rc == FORGE_OK && strcmp(target, "head") == 0)
        wanted = m.chain.count;
    else if (rc == FORGE_OK && strcmp(target, "base") != 0)
        rc = revision_find(&m, target, &wanted, error);
    if (rc == FORGE_OK)
        rc = db_migrator_open(&m, url, NULL, error);
    if (rc == FORGE_OK)
        rc = rows_stamp(&m, wanted, error);
    if (rc == FORGE_OK)
        db_migrator_tell(&m, "Running stamp_revision  -> %s", wanted > 0 ? m.chain.items[wanted - 1].revision : "");
    db_migrator_close(&m);
    return rc;
}

/* "<from>:<to>", or "<to>" from the base. Takes the target apart and leaves m as a database at <from> would. */
static forge_code range_parse(struct db_migrator *m, const char *target, size_t *out_to, struct forge_error *error)
{
    const char *colon = strchr(target, ':');
    forge_code rc = FORGE_OK;
    if (colon != NULL) {
        char *from = forge_arena_strndup(&m->arena, target, (size_t)(colon - target));
        if (from == NULL)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the target");
        if (strcmp(from, "base") != 0)
            rc = revision_find(m, from, &m->applied, error);
        target = colon + 1;
    }
    if (rc == FORGE_OK)
        rc = upgrade_target(m, target, out_to, error);
    if (rc == FORGE_OK && *out_to < m->applied)
        rc = forge_error_set(error, FORGE_INVALID_ARGUMENT, "target %s: it comes before the revision that the script begins at", target);
    return rc;
}

forge_code db_migrate_upgrade_script(const char *folder, const char *target, FILE *out, struct forge_error *error)
{
    struct db_migrator m = {0};
    size_t wanted = 0;
    forge_code rc = db_migrator_read_files(&m, folder, error);
    if (rc == FORGE_OK)
        rc = range_parse(&m, target, &wanted, error);
    if (rc == FORGE_OK)
        db_migrate_script_begin(out);
    for (size_t i = m.applied; rc == FORGE_OK && i < wanted; i++)
        db_migrate_script_revision(&m.chain, i, out);
    if (rc == FORGE_OK && (fflush(out) != 0 || ferror(out)))
        rc = forge_error_set(error, FORGE_UNAVAILABLE, "the script cannot be written");
    db_migrator_close(&m);
    return rc;
}
