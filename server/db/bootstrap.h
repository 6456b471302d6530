/* What must exist before the first migration: roles, database, key-encryption key; and operator tokens after it.
 * `forged bootstrap roles | token`. Every function opens a connection of its own and blocks. */
#ifndef SERVER_DB_BOOTSTRAP_H
#define SERVER_DB_BOOTSTRAP_H

#include "wire/crypto.h"
#include "wire/status.h"
#include "wire/uuid.h"

#include <stdbool.h>
#include <stdint.h>

typedef void (*db_bootstrap_progress)(const char *line, void *user);

struct db_bootstrap_roles {
    const char *superuser_url; /* any database of the cluster, as a superuser */
    const char *database;      /* made, owned by forge_owner, when it does not exist: a-z, 0-9 and _, at most 63 */
    bool passwords;            /* true: each role gets a password; false: URLs without one (peer or certificate authentication) */
    const char *env_path;      /* .env file the settings go to (mode 0600; other lines are kept) */
    const char *key_variable;  /* setting that names the key-encryption key file, e.g. "FORGE_KEY_FILE" */
    const char *key_path;      /* where it is made when env_path names none */
    /* Writes a new key-encryption key file, mode 0600; fails when the file exists. Not called when it does. */
    forge_code (*key_create)(const char *path, struct forge_error *error);
};

/* Repeatable. Makes forge_owner (owns and migrates), forge_app (serves; no BYPASSRLS), forge_maint (may SET ROLE forge_owner) and
 * forge_backup (BYPASSRLS, pg_read_all_data), takes CONNECT and the public schema from PUBLIC and writes DATABASE_URL,
 * DATABASE_OWNER_URL, DATABASE_MAINT_URL and DATABASE_BACKUP_URL into env_path. A password that is in env_path already is
 * kept and set again; without one a new password is set, which ends what another .env of the same cluster says. PERMISSION_DENIED when
 * superuser_url is none. */
forge_code db_bootstrap_roles(const struct db_bootstrap_roles *config, db_bootstrap_progress progress, void *user,
                              struct forge_error *error) FORGE_MUST_CHECK;

/* Stores an operator token by its SHA-256 (made by auth/token.h). owner_url: the role that owns the database.
 * FAILED_PRECONDITION when the schema is not migrated or the role may not write operator_tokens. */
forge_code db_bootstrap_token(const char *owner_url, const struct forge_uuid *id, const uint8_t token_hash[FORGE_SHA256_SIZE],
                              int64_t created_us, int64_t expires_us, struct forge_error *error) FORGE_MUST_CHECK;

#endif
