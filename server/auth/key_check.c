#include "auth/key_check.h"

#include "wire/clock.h"

#include <string.h>

/* Compares with what the database holds; *out_known: it holds a key by this id. */
static forge_code compare(struct db_session *session, const struct auth_key *key, const char *source, bool *out_known,
                          struct forge_error *error)
{
    struct db_stmt *statement = db_stmt(session, SQL_AUTH_KEY_CHECK_VALUE);
    db_bind_int32(statement, key->id);
    struct db_row row;
    bool known = false;
    forge_code code = db_run_optional(statement, &row, &known, error);
    if (code != FORGE_OK)
        return code;
    if (known) {
        size_t size = 0;
        const uint8_t *value = db_row_bytes(&row, "check_value", &size);
        if (size != sizeof key->check || memcmp(value, key->check, sizeof key->check) != 0)
            return forge_error_set(
                error, FORGE_FAILED_PRECONDITION,
                "key file %s: key %d is not the key %d this database was written with; restore the right file (see README)", source,
                (int)key->id, (int)key->id);
    }
    *out_known = known;
    return FORGE_OK;
}

/* Another server may record the id at the same time: the first one counts, and both compare with it. */
static forge_code record(struct db_session *session, const struct auth_key *key, const char *source, struct forge_error *error)
{
    struct db_stmt *statement = db_stmt(session, SQL_AUTH_KEY_CHECK_RECORD);
    bool known;
    db_bind_int32(statement, key->id);
    db_bind_bytes(statement, key->check, sizeof key->check);
    db_bind_time_us(statement, forge_clock_wall_us());
    db_queue(statement);
    return compare(session, key, source, &known, error);
}

forge_code auth_key_check(struct db_session *session, const struct auth_keys *keys, const char *source, struct forge_error *error)
{
    bool current_known = false, previous_known = true;
    forge_code code = compare(session, &keys->current, source, &current_known, error);
    if (code == FORGE_OK && keys->has_previous)
        code = compare(session, &keys->previous, source, &previous_known, error);
    if (code == FORGE_OK && !previous_known)
        code = record(session, &keys->previous, source, error);
    if (code == FORGE_OK && !current_known)
        code = record(session, &keys->current, source, error);
    return code;
}
