#include "auth/lockout.h"

#include <stdio.h>
#include <string.h>

enum { FIRST_LOCK_SECONDS = 1, FORGOTTEN_AFTER_SECONDS = 3600, TEXT_MAX = 512 };

/* The kind of name is part of the input, so an account can never have the key of a source. */
static void hash_name(const struct auth_keys *keys, const char *kind, const char *name, uint8_t out[FORGE_SHA256_SIZE])
{
    char text[TEXT_MAX];
    snprintf(text, sizeof text, "%s:%s", kind, name);
    forge_hmac_sha256(keys->current.login_failures, text, strlen(text), out);
}

void auth_lockout_init(struct auth_lockout *lockout, const struct auth_keys *keys, const char *email, const char *source_address)
{
    hash_name(keys, "account", email, lockout->account);
    hash_name(keys, "source", source_address, lockout->source);
}

forge_code auth_lockout_check(const struct auth_lockout *lockout, struct db_session *session, int64_t now_us, struct forge_error *error)
{
    struct db_stmt *statement = db_stmt(session, SQL_AUTH_LOCKOUT_UNTIL);
    db_bind_bytes(statement, lockout->account, sizeof lockout->account);
    db_bind_bytes(statement, lockout->source, sizeof lockout->source);
    db_bind_time_us(statement, now_us);
    struct db_row row;
    forge_code code = db_run_one(statement, &row, error);
    if (code != FORGE_OK || db_row_is_null(&row, "locked_until"))
        return code;
    int64_t left_ms = (db_row_time_us(&row, "locked_until") - now_us + 999) / 1000;
    error->retry_after_ms = (uint32_t)left_ms;
    return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "too many failed logins; try again in %lld s",
                           (long long)((left_ms + 999) / 1000));
}

static void queue_count(struct db_session *session, const uint8_t key[FORGE_SHA256_SIZE], int32_t free_failures, int64_t now_us)
{
    struct db_stmt *statement = db_stmt(session, SQL_AUTH_LOCKOUT_COUNT);
    db_bind_bytes(statement, key, FORGE_SHA256_SIZE);
    db_bind_time_us(statement, now_us);
    db_bind_time_us(statement, now_us - (int64_t)FORGOTTEN_AFTER_SECONDS * 1000000);
    db_bind_int32(statement, free_failures);
    db_bind_int32(statement, FIRST_LOCK_SECONDS);
    db_bind_int32(statement, AUTH_LOCKOUT_SECONDS_MAX);
    db_queue(statement);
}

void auth_lockout_queue_failure(const struct auth_lockout *lockout, struct db_session *session, int64_t now_us)
{
    queue_count(session, lockout->account, AUTH_LOCKOUT_ACCOUNT_FREE, now_us);
    queue_count(session, lockout->source, AUTH_LOCKOUT_SOURCE_FREE, now_us);
}

void auth_lockout_queue_success(const struct auth_lockout *lockout, struct db_session *session)
{
    struct db_stmt *statement = db_stmt(session, SQL_AUTH_LOCKOUT_CLEAR);
    db_bind_bytes(statement, lockout->account, sizeof lockout->account);
    db_queue(statement);
}
