#include "db/serving.h"

#include "db/session.h"
#include "schema_revision.h" /* generated from migrations/: schema_revision_chain[], SCHEMA_REVISION_NEWEST */

#include <stdio.h>
#include <string.h>

enum { CHECK_BYTES_MAX = 1 << 20, POSTGRES_VERSION_MIN = 150000 };

static forge_code refuse_role(const struct db_row *row, struct forge_error *error)
{
    const char *role = db_row_text_or_empty(row, "role");
    const char *what = NULL;
    if (db_row_bool(row, "is_superuser"))
        what = "is a superuser";
    else if (db_row_bool(row, "bypasses_row_security"))
        what = "bypasses row-level security";
    else if (db_row_bool(row, "owns_tables"))
        what = "owns the tables (its URL belongs into DATABASE_OWNER_URL)";
    if (what != NULL)
        return forge_error_set(
            error, FORGE_FAILED_PRECONDITION,
            "role \"%s\" %s: DATABASE_URL must name a role that only serves, such as forge_app; `forged bootstrap roles` "
            "makes it",
            role, what);
    if (!db_row_bool(row, "uses_schema"))
        return forge_error_set(error, FORGE_FAILED_PRECONDITION,
                               "role \"%s\" lacks USAGE ON SCHEMA public: as the owner run GRANT USAGE ON SCHEMA public TO %s", role, role);
    return FORGE_OK;
}

static forge_code refuse_grants(const struct db_rows *rows, const char *role, struct forge_error *error)
{
    if (rows->count == 0)
        return FORGE_OK;
    char list[FORGE_ERROR_MESSAGE_MAX - 192] = "";
    size_t length = 0;
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        char item[128];
        snprintf(item, sizeof(item), "%s%s", i > 0 ? ", " : "", db_row_text_or_empty(&row, "missing"));
        size_t size = strlen(item);
        if (length + size + sizeof(", ...") > sizeof(list)) {
            memcpy(list + length, ", ...", sizeof(", ..."));
            break;
        }
        memcpy(list + length, item, size + 1);
        length += size;
    }
    return forge_error_set(error, FORGE_FAILED_PRECONDITION, "role \"%s\" lacks grants: %s; as the owner run GRANT ... TO %s", role, list,
                           role);
}

static bool revision_is_known(const char *revision)
{
    for (size_t i = 0; i < SCHEMA_REVISION_COUNT; i++)
        if (strcmp(revision, schema_revision_chain[i]) == 0)
            return true;
    return false;
}

/* Our newest revision must be applied; a newer one must say that it serves ours or an earlier one. */
static forge_code refuse_revisions(const struct db_rows *rows, struct forge_error *error)
{
    bool has_newest = false;
    const char *current = "no revision";
    for (int i = 0; i < rows->count; i++) {
        struct db_row row = db_rows_at(rows, i);
        const char *revision = db_row_text_or_empty(&row, "revision");
        const char *serves = db_row_text(&row, "serves");
        current = revision;
        has_newest = has_newest || strcmp(revision, SCHEMA_REVISION_NEWEST) == 0;
        if (!revision_is_known(revision) && (serves == NULL || !revision_is_known(serves)))
            return forge_error_set(error, FORGE_FAILED_PRECONDITION,
                                   "the schema is ahead of this server: it has revision %s, the server knows up to %s; install the newer "
                                   "forged",
                                   revision, SCHEMA_REVISION_NEWEST);
    }
    if (!has_newest)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION,
                               "the schema is behind this server: it is at %s, the server needs %s; run `forged migrate upgrade head`",
                               current, SCHEMA_REVISION_NEWEST);
    return FORGE_OK;
}

static struct db_rows rows_of(const struct db_stmt *stmt)
{
    return (struct db_rows){.result = &stmt->result, .count = stmt->result.pg == NULL ? 0 : PQntuples(stmt->result.pg)};
}

static forge_code check(struct db_session *session, struct forge_error *error)
{
    struct db_stmt *role = db_stmt(session, SQL_DB_SERVING_ROLE);
    struct db_stmt *grants = db_stmt(session, SQL_DB_SERVING_MISSING_GRANTS);
    struct db_stmt *revisions = db_stmt(session, SQL_DB_SERVING_REVISIONS);
    role->keeps_result = grants->keeps_result = revisions->keeps_result = true;
    db_queue(role);
    db_queue(grants);
    forge_code rc = db_session_fly(session, revisions, error);
    bool schema_is_missing = rc != FORGE_OK && strcmp(error->sqlstate, "42P01") == 0;
    bool schema_is_denied = rc != FORGE_OK && strcmp(error->sqlstate, "42501") == 0;
    if (rc != FORGE_OK && !schema_is_missing && !schema_is_denied)
        return rc;
    struct db_rows role_rows = rows_of(role), grant_rows = rows_of(grants), revision_rows = rows_of(revisions);
    if (role_rows.count != 1)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the database does not show the role of DATABASE_URL");
    struct db_row role_row = db_rows_at(&role_rows, 0);
    rc = refuse_role(&role_row, error);
    if (rc == FORGE_OK && schema_is_missing)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the database has no schema yet: run `forged migrate upgrade head`");
    if (rc == FORGE_OK)
        rc = refuse_grants(&grant_rows, db_row_text_or_empty(&role_row, "role"), error);
    if (rc == FORGE_OK)
        rc = refuse_revisions(&revision_rows, error);
    return rc;
}

forge_code db_serving_check(struct db_conn *conn, uint64_t deadline_ns, struct forge_error *error)
{
    if (PQserverVersion(conn->pg) < POSTGRES_VERSION_MIN)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "PostgreSQL %d is too old: 15 or newer is needed",
                               PQserverVersion(conn->pg) / 10000);
    struct forge_arena arena;
    forge_arena_init(&arena, CHECK_BYTES_MAX, NULL);
    struct db_session session;
    db_session_init(&session, conn, &arena, deadline_ns);
    forge_code rc = check(&session, error);
    db_session_done(&session);
    forge_arena_done(&arena);
    return rc;
}
