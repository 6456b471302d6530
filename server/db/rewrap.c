#include "db/rewrap.h"

#include "db/admin_connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_PER_TRANSACTION = 100, NUMBER_SIZE = 16 };

struct rewrapper {
    PGconn *conn; /* as forge_owner */
    const struct db_rewrap_config *config;
    struct db_rewrap_report *report;
    char key_id[NUMBER_SIZE];
};

/* The key in use must be one that servers have written with: only then do all of them have it. */
static forge_code check_key(struct rewrapper *rewrapper, struct forge_error *error)
{
    const struct db_rewrap_config *config = rewrapper->config;
    const char *parameters[] = {rewrapper->key_id};
    PGresult *rows;
    forge_code rc = db_admin_query(rewrapper->conn, "SELECT check_value FROM encryption_keys WHERE key_id = $1::integer", 1, parameters,
                                   "reading the known keys", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    if (PQntuples(rows) == 0) {
        rc = forge_error_set(error, FORGE_FAILED_PRECONDITION, "no server has used key %s yet: give the key file to every server first",
                             rewrapper->key_id);
    } else {
        size_t size = 0;
        unsigned char *value = PQunescapeBytea((const unsigned char *)PQgetvalue(rows, 0, 0), &size);
        if (value == NULL || size != config->key_check_size || memcmp(value, config->key_check, size) != 0)
            rc = forge_error_set(error, FORGE_FAILED_PRECONDITION, "key %s is not the key %s this database was written with",
                                 rewrapper->key_id, rewrapper->key_id);
        PQfreemem(value);
    }
    PQclear(rows);
    return rc;
}

static forge_code store(struct rewrapper *rewrapper, const char *organization_id, const char *row_id, const uint8_t *sealed, size_t size,
                        struct forge_error *error)
{
    size_t escaped_size;
    PGresult *result = NULL;
    unsigned char *escaped = PQescapeByteaConn(rewrapper->conn, sealed, size, &escaped_size);
    if (escaped == NULL)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a secret");
    /* Not a change of the provider: updated_at and row_version stay. */
    const char *parameters[] = {organization_id, row_id, (const char *)escaped, rewrapper->key_id};
    forge_code rc = db_admin_query(
        rewrapper->conn,
        "UPDATE model_providers SET credential = $3::bytea, credential_key_id = $4::integer WHERE organization_id = $1 AND id = $2", 4,
        parameters, "storing a secret", &result, error);
    PQclear(result);
    PQfreemem(escaped);
    return rc;
}

/* A row of id, key id, sealed secret. */
static forge_code rewrap_row(struct rewrapper *rewrapper, const char *organization_id, const PGresult *rows, int row,
                             struct forge_error *error)
{
    struct forge_uuid organization, id;
    size_t size = 0;
    unsigned char *sealed = PQunescapeBytea((const unsigned char *)PQgetvalue(rows, row, 2), &size);
    uint8_t *fresh = malloc(size + 1);
    forge_code rc = FORGE_OK;
    if (sealed == NULL || fresh == NULL || !forge_uuid_parse(organization_id, &organization) ||
        !forge_uuid_parse(PQgetvalue(rows, row, 0), &id))
        rc = forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a secret");
    if (rc == FORGE_OK)
        rc = rewrapper->config->reseal(rewrapper->config->user, (int32_t)strtol(PQgetvalue(rows, row, 1), NULL, 10), &organization, &id,
                                       sealed, size, fresh, error);
    if (rc == FORGE_OK)
        rc = store(rewrapper, organization_id, PQgetvalue(rows, row, 0), fresh, size, error);
    free(fresh);
    PQfreemem(sealed);
    return rc;
}

/* The rows behind *last_id, one transaction. *out_more: there may be others behind them. What cannot be opened is noted in *first and left.
 */
static forge_code rewrap_rows(struct rewrapper *rewrapper, const char *organization_id, char last_id[FORGE_UUID_TEXT_SIZE], bool *out_more,
                              struct forge_error *first, struct forge_error *error)
{
    const char *parameters[] = {organization_id, last_id, rewrapper->key_id};
    PGresult *rows = NULL;
    int64_t done = 0;
    forge_code rc = db_admin_begin(rewrapper->conn, organization_id, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(rewrapper->conn,
                            "SELECT id, credential_key_id, credential FROM model_providers WHERE organization_id = $1 AND id > $2::uuid"
                            " AND credential_key_id <> $3::integer ORDER BY id LIMIT 100 FOR UPDATE",
                            3, parameters, "reading secrets", &rows, error);
    int count = rc == FORGE_OK ? PQntuples(rows) : 0;
    for (int i = 0; i < count && rc == FORGE_OK; i++) {
        struct forge_error failure = {0};
        rc = rewrap_row(rewrapper, organization_id, rows, i, &failure);
        done += rc == FORGE_OK;
        bool unopened = rc == FORGE_NOT_FOUND || rc == FORGE_DATA_LOSS;
        if (rc != FORGE_OK && !unopened)
            *error = failure;
        else if (rc != FORGE_OK && first->code == FORGE_OK)
            *first = failure;
        rc = unopened ? FORGE_OK : rc;
    }
    if (count > 0)
        snprintf(last_id, FORGE_UUID_TEXT_SIZE, "%s", PQgetvalue(rows, count - 1, 0));
    *out_more = count == ROWS_PER_TRANSACTION;
    PQclear(rows);
    rc = db_admin_end(rewrapper->conn, rc, error);
    if (rc == FORGE_OK)
        rewrapper->report->secrets += done;
    return rc;
}

/* Replies of the last 48 hours: their requests are compared under the key they came under, so they cannot be rewritten. */
static forge_code count_replies(struct rewrapper *rewrapper, const char *organization_id, struct forge_error *error)
{
    const char *parameters[] = {organization_id, rewrapper->key_id};
    PGresult *rows = NULL;
    forge_code rc = db_admin_begin(rewrapper->conn, organization_id, error);
    if (rc == FORGE_OK)
        rc = db_admin_query(rewrapper->conn,
                            "SELECT count(*), COALESCE(extract(epoch FROM max(created_at) + '48 h'::interval)::bigint, 0) FROM idempotency"
                            " WHERE organization_id = $1 AND key_id <> $2::integer",
                            2, parameters, "counting stored replies", &rows, error);
    if (rc == FORGE_OK) {
        int64_t until_us = strtoll(PQgetvalue(rows, 0, 1), NULL, 10) * 1000000;
        rewrapper->report->stored_replies_left += strtoll(PQgetvalue(rows, 0, 0), NULL, 10);
        if (until_us > rewrapper->report->left_until_us)
            rewrapper->report->left_until_us = until_us;
    }
    PQclear(rows);
    return db_admin_end(rewrapper->conn, rc, error);
}

static forge_code rewrap_organization(struct rewrapper *rewrapper, const char *organization_id, struct forge_error *first,
                                      struct forge_error *error)
{
    char last_id[FORGE_UUID_TEXT_SIZE] = "00000000-0000-0000-0000-000000000000";
    bool more = true;
    forge_code rc = FORGE_OK;
    while (rc == FORGE_OK && more)
        rc = rewrap_rows(rewrapper, organization_id, last_id, &more, first, error);
    return rc == FORGE_OK ? count_replies(rewrapper, organization_id, error) : rc;
}

static forge_code rewrap_organizations(struct rewrapper *rewrapper, struct forge_error *error)
{
    PGresult *rows;
    struct forge_error first = {0};
    forge_code rc =
        db_admin_query(rewrapper->conn, "SELECT organization_id FROM organization_names", 0, NULL, "listing organizations", &rows, error);
    if (rc != FORGE_OK)
        return rc;
    for (int i = 0; i < PQntuples(rows) && rc == FORGE_OK; i++)
        rc = rewrap_organization(rewrapper, PQgetvalue(rows, i, 0), &first, error);
    PQclear(rows);
    if (rc == FORGE_OK && first.code != FORGE_OK) {
        *error = first;
        rc = first.code;
    }
    return rc;
}

forge_code db_rewrap(const struct db_rewrap_config *config, struct db_rewrap_report *out, struct forge_error *error)
{
    struct rewrapper rewrapper = {.config = config, .report = out};
    *out = (struct db_rewrap_report){0};
    snprintf(rewrapper.key_id, sizeof rewrapper.key_id, "%d", (int)config->key_id);
    forge_code rc = db_admin_open(config->url, NULL, &rewrapper.conn, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_admin_become_owner(rewrapper.conn, error);
    if (rc == FORGE_OK)
        rc = check_key(&rewrapper, error);
    if (rc == FORGE_OK)
        rc = rewrap_organizations(&rewrapper, error);
    PQfinish(rewrapper.conn);
    return rc;
}
