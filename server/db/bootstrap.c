#include "db/bootstrap.h"

#include "db/admin_connection.h"
#include "db/env_file.h"
#include "db/url.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PASSWORD_RANDOM_BYTES = 24, BOOTSTRAP_BYTES_MAX = 32 << 20 };

struct role {
    const char *name;
    const char *variable; /* of the .env file */
    const char *attributes;
};
static const struct role roles[] = {
    /* CREATEDB: `migrate check` compares two scratch databases. */
    {"forge_owner", "DATABASE_OWNER_URL", "LOGIN NOSUPERUSER CREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION"},
    {"forge_app", "DATABASE_URL", "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION"},
    {"forge_maint", "DATABASE_MAINT_URL", "LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION"},
    {"forge_backup", "DATABASE_BACKUP_URL", "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE BYPASSRLS NOREPLICATION"},
};
enum { ROLE_COUNT = sizeof roles / sizeof roles[0] };

struct bootstrap {
    const struct db_bootstrap_roles *config;
    struct forge_arena arena;
    PGconn *conn;
    char *env; /* text of the .env file as it will be written */
    db_bootstrap_progress progress;
    void *user;
};

static void tell(const struct bootstrap *b, const char *format, ...) FORGE_PRINTF(2, 3);
static void tell(const struct bootstrap *b, const char *format, ...)
{
    char line[FORGE_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (b->progress != NULL)
        b->progress(line, b->user);
}

static forge_code no_memory(struct forge_error *error)
{
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the bootstrap");
}

/* True where the query's only value is true. */
static forge_code ask(PGconn *conn, const char *sql, const char *parameter, bool *out, struct forge_error *error)
{
    const char *values[] = {parameter};
    PGresult *result;
    forge_code rc = db_admin_query(conn, sql, parameter != NULL ? 1 : 0, values, "looking at the cluster", &result, error);
    if (rc != FORGE_OK)
        return rc;
    *out = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return FORGE_OK;
}

static forge_code superuser_check(PGconn *conn, struct forge_error *error)
{
    bool superuser;
    forge_code rc = ask(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", NULL, &superuser, error);
    if (rc == FORGE_OK && !superuser)
        rc = forge_error_set(error, FORGE_PERMISSION_DENIED, "role %s is no superuser: bootstrap roles needs a superuser's URL",
                             PQuser(conn));
    return rc;
}

/* The password that the .env file has for this role, or a new one. */
static char *role_password(struct bootstrap *b, const struct role *role)
{
    const char *url = db_env_file_get(b->env, role->variable, &b->arena);
    char *password = NULL;
    PQconninfoOption *options = url != NULL ? PQconninfoParse(url, NULL) : NULL;
    bool same_role = false;
    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "user") == 0 && option->val != NULL)
            same_role = strcmp(option->val, role->name) == 0;
        if (strcmp(option->keyword, "password") == 0 && option->val != NULL)
            password = forge_arena_strdup(&b->arena, option->val);
    }
    PQconninfoFree(options);
    if (same_role && password != NULL && strspn(password, "0123456789abcdef") == strlen(password))
        return password;
    uint8_t random[PASSWORD_RANDOM_BYTES];
    forge_random(random, sizeof random);
    password = forge_arena_alloc(&b->arena, 2 * sizeof random + 1);
    for (size_t i = 0; password != NULL && i < sizeof random; i++)
        snprintf(password + 2 * i, 3, "%02x", random[i]);
    forge_cleanse(random, sizeof random);
    return password;
}

/* The server gets the SCRAM verifier only, so the password is in no log of it. */
static forge_code role_set_password(struct bootstrap *b, const struct role *role, const char *password, struct forge_error *error)
{
    char *verifier = PQencryptPasswordConn(b->conn, password, role->name, "scram-sha-256");
    char *sql = verifier != NULL ? forge_arena_printf(&b->arena, "ALTER ROLE %s PASSWORD '%s'", role->name, verifier) : NULL;
    PQfreemem(verifier);
    if (sql == NULL)
        return no_memory(error);
    return db_admin_exec(b->conn, sql, "setting a password", error);
}

static const char *option_of(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (strcmp(option->keyword, keyword) == 0 && option->val != NULL && option->val[0] != '\0')
            return option->val;
    return NULL;
}

/* URL of a role to the database, by the way the superuser came. */
static char *role_url(struct bootstrap *b, const struct role *role, const char *password)
{
    const char *host = PQhost(b->conn), *port = PQport(b->conn);
    char *account = forge_arena_printf(&b->arena, "%s%s%s", role->name, password != NULL ? ":" : "", password != NULL ? password : "");
    if (host[0] == '/')
        return forge_arena_printf(&b->arena, "postgresql://%s@/%s?host=%s&port=%s", account, b->config->database,
                                  db_url_encode(&b->arena, host), port);
    PQconninfoOption *options = PQconninfo(b->conn);
    if (options == NULL)
        return NULL;
    const char *sslmode = option_of(options, "sslmode"), *root = option_of(options, "sslrootcert");
    bool ipv6 = strchr(host, ':') != NULL;
    char *url = forge_arena_printf(&b->arena, "postgresql://%s@%s%s%s:%s/%s?sslmode=%s%s%s", account, ipv6 ? "[" : "", host,
                                   ipv6 ? "]" : "", port, b->config->database, sslmode != NULL ? sslmode : "prefer",
                                   root != NULL ? "&sslrootcert=" : "", root != NULL ? db_url_encode(&b->arena, root) : "");
    PQconninfoFree(options);
    return url;
}

static forge_code role_make(struct bootstrap *b, const struct role *role, struct forge_error *error)
{
    bool exists;
    forge_code rc = ask(b->conn, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role->name, &exists, error);
    char *create = forge_arena_printf(&b->arena, "CREATE ROLE %s", role->name);
    char *alter = forge_arena_printf(&b->arena, "ALTER ROLE %s %s", role->name, role->attributes);
    if (create == NULL || alter == NULL)
        return no_memory(error);
    if (rc == FORGE_OK && !exists) {
        rc = db_admin_exec(b->conn, create, create, error);
        if (rc != FORGE_OK && (strcmp(error->sqlstate, "42710") == 0 || strcmp(error->sqlstate, "23505") == 0)) {
            *error = (struct forge_error){0}; /* another bootstrap was faster */
            rc = FORGE_OK;
        }
    }
    if (rc == FORGE_OK)
        rc = db_admin_exec(b->conn, alter, alter, error);
    char *password = rc == FORGE_OK && b->config->passwords ? role_password(b, role) : NULL;
    if (rc == FORGE_OK && b->config->passwords)
        rc = password != NULL ? role_set_password(b, role, password, error) : no_memory(error);
    char *url = rc == FORGE_OK ? role_url(b, role, password) : NULL;
    if (rc != FORGE_OK)
        return rc;
    b->env = url != NULL ? db_env_file_set(b->env, role->variable, url, &b->arena) : NULL;
    tell(b, "Role %s %s", role->name, exists ? "is there" : "made");
    return b->env != NULL ? FORGE_OK : no_memory(error);
}

static forge_code roles_make(struct bootstrap *b, struct forge_error *error)
{
    forge_code rc = FORGE_OK;
    for (int i = 0; rc == FORGE_OK && i < ROLE_COUNT; i++)
        rc = role_make(b, &roles[i], error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(b->conn, "GRANT forge_owner TO forge_maint; GRANT pg_read_all_data TO forge_backup", "granting roles", error);
    return rc;
}

/* On PostgreSQL 15 the owner of a database, and nobody else, may create in its public schema; GRANT ALL ON DATABASE does not give that. */
static forge_code database_make(struct bootstrap *b, struct forge_error *error)
{
    const char *name = b->config->database;
    bool exists;
    forge_code rc = ask(b->conn, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name, &exists, error);
    char *create = forge_arena_printf(
        &b->arena, "CREATE DATABASE %s OWNER forge_owner TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'", name);
    char *grant = forge_arena_printf(&b->arena,
                                     "ALTER DATABASE %s OWNER TO forge_owner; REVOKE ALL ON DATABASE %s FROM PUBLIC;"
                                     "GRANT CONNECT ON DATABASE %s TO forge_app, forge_maint, forge_backup",
                                     name, name, name);
    if (create == NULL || grant == NULL)
        return no_memory(error);
    if (rc == FORGE_OK && !exists)
        rc = db_admin_exec(b->conn, create, "creating the database", error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(b->conn, grant, "giving the database to forge_owner", error);
    PGconn *inside = NULL;
    if (rc == FORGE_OK)
        rc = db_admin_open(b->config->superuser_url, name, &inside, error);
    if (rc == FORGE_OK)
        rc = db_admin_exec(inside, "REVOKE ALL ON SCHEMA public FROM PUBLIC", "closing the public schema", error);
    PQfinish(inside);
    if (rc == FORGE_OK)
        tell(b, "Database %s %s, owned by forge_owner", name, exists ? "is there" : "made");
    return rc;
}

static forge_code key_make(struct bootstrap *b, struct forge_error *error)
{
    const char *path = db_env_file_get(b->env, b->config->key_variable, &b->arena);
    if (path == NULL || path[0] == '\0')
        path = b->config->key_path;
    b->env = db_env_file_set(b->env, b->config->key_variable, path, &b->arena);
    if (b->env == NULL)
        return no_memory(error);
    if (access(path, F_OK) == 0) {
        tell(b, "Key-encryption key file %s is there", path);
        return FORGE_OK;
    }
    forge_code rc = b->config->key_create(path, error);
    if (rc == FORGE_OK)
        tell(b, "Key-encryption key file %s made: without it sealed secrets cannot be read, keep a copy apart from the dumps", path);
    return rc;
}

static forge_code database_name_check(const char *name, struct forge_error *error)
{
    size_t length = strlen(name);
    if (length < 1 || length > 63 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != length || (name[0] >= '0' && name[0] <= '9'))
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "database name \"%.80s\": 1 to 63 of a-z, 0-9 and _, no digit first", name);
    return FORGE_OK;
}

forge_code db_bootstrap_roles(const struct db_bootstrap_roles *config, db_bootstrap_progress progress, void *user,
                              struct forge_error *error)
{
    struct bootstrap b = {.config = config, .progress = progress, .user = user};
    forge_arena_init(&b.arena, BOOTSTRAP_BYTES_MAX, NULL);
    forge_code rc = database_name_check(config->database, error);
    if (rc == FORGE_OK)
        rc = db_env_file_read(config->env_path, &b.arena, &b.env, error);
    if (rc == FORGE_OK)
        rc = db_admin_open(config->superuser_url, NULL, &b.conn, error);
    if (rc == FORGE_OK)
        rc = superuser_check(b.conn, error);
    if (rc == FORGE_OK)
        rc = roles_make(&b, error);
    if (rc == FORGE_OK)
        rc = database_make(&b, error);
    if (rc == FORGE_OK)
        rc = key_make(&b, error);
    if (rc == FORGE_OK)
        rc = db_env_file_write(config->env_path, b.env, &b.arena, error);
    if (rc == FORGE_OK)
        tell(&b, "Settings written to %s", config->env_path);
    PQfinish(b.conn);
    forge_arena_done(&b.arena);
    return rc;
}

static forge_code token_error(forge_code rc, struct forge_error *error)
{
    if (strcmp(error->sqlstate, "42P01") == 0)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the schema is not migrated: run `forged migrate upgrade head` first");
    if (strcmp(error->sqlstate, "42501") == 0)
        return forge_error_set(error, FORGE_FAILED_PRECONDITION,
                               "this role may not write operator_tokens: bootstrap token connects by DATABASE_OWNER_URL");
    return rc;
}

forge_code db_bootstrap_token(const char *owner_url, const struct forge_uuid *id, const uint8_t token_hash[FORGE_SHA256_SIZE],
                              int64_t created_us, int64_t expires_us, struct forge_error *error)
{
    char id_text[FORGE_UUID_TEXT_SIZE];
    char hash_text[2 + 2 * FORGE_SHA256_SIZE + 1] = "\\x";
    char created_text[24], expires_text[24];
    forge_uuid_format(id, id_text);
    for (int i = 0; i < FORGE_SHA256_SIZE; i++)
        snprintf(hash_text + 2 + 2 * i, 3, "%02x", token_hash[i]);
    snprintf(created_text, sizeof created_text, "%" PRId64, created_us);
    snprintf(expires_text, sizeof expires_text, "%" PRId64, expires_us);
    const char *values[] = {id_text, hash_text, created_text, expires_text};
    PGconn *conn;
    PGresult *result;
    forge_code rc = db_admin_open(owner_url, NULL, &conn, error);
    if (rc != FORGE_OK)
        return rc;
    rc = db_admin_query(conn,
                        "INSERT INTO public.operator_tokens (id, token_hash, created_at, expires_at) VALUES ($1, $2,"
                        " 'epoch'::timestamptz + $3::bigint * interval '1 microsecond',"
                        " 'epoch'::timestamptz + $4::bigint * interval '1 microsecond')",
                        4, values, "storing the token", &result, error);
    if (rc == FORGE_OK)
        PQclear(result);
    else
        rc = token_error(rc, error);
    PQfinish(conn);
    return rc;
}
