#include "rpc/usage_private.h"

#include "db/tx.h"
#include "wire/arena.h"

#include <inttypes.h>

enum { ARENA_BYTES_MAX = 4 << 20 };

/* Some of the entries as the columns of a statement. */
struct columns {
    size_t count;
    struct forge_uuid *ids;
    const char **days, **metrics, **values;
};

static bool is_metric(int32_t kind)
{
    return kind >= 0;
}

/* Those of this kind; 0 stands for all metrics. */
static bool columns_fill(struct forge_arena *arena, struct rpc_usage_entry *const *entries, size_t count, int32_t kind, struct columns *out)
{
    const char **texts = forge_arena_calloc(arena, 3 * count, sizeof *texts);
    *out = (struct columns){.ids = forge_arena_calloc(arena, count, sizeof *out->ids)};
    if (texts == NULL || out->ids == NULL)
        return false;
    out->days = texts;
    out->metrics = texts + count;
    out->values = texts + 2 * count;
    for (size_t i = 0; i < count; i++) {
        const struct rpc_usage_key *key = &entries[i]->key;
        if (kind == 0 ? !is_metric(key->kind) : key->kind != kind)
            continue;
        out->ids[out->count] = key->subject_id;
        out->days[out->count] = forge_arena_printf(arena, "%" PRId32, key->day);
        out->metrics[out->count] = is_metric(key->kind) ? rpc_usage_metric_name((Forge__V1__UsageMetric)key->kind) : NULL;
        out->values[out->count++] = forge_arena_printf(arena, "%" PRId64, entries[i]->value);
    }
    return !forge_arena_has_overflowed(arena);
}

static void queue_amounts(struct db_session *session, const struct forge_uuid *organization_id, const struct columns *columns)
{
    if (columns->count == 0)
        return;
    struct db_stmt *q = db_stmt(session, SQL_USAGE_ADD);
    db_bind_uuid(q, organization_id);
    db_bind_text_array(q, columns->days, columns->count);
    db_bind_uuid_array(q, columns->ids, columns->count);
    db_bind_text_array(q, columns->metrics, columns->count);
    db_bind_text_array(q, columns->values, columns->count);
    db_queue(q);
}

static void queue_uses(struct db_session *session, enum sql_id statement, const struct forge_uuid *organization_id,
                       const struct columns *columns)
{
    if (columns->count == 0)
        return;
    struct db_stmt *q = db_stmt(session, statement);
    db_bind_uuid(q, organization_id);
    db_bind_uuid_array(q, columns->ids, columns->count);
    db_bind_text_array(q, columns->values, columns->count);
    db_queue(q);
}

static forge_code write_in(struct db_session *session, struct forge_arena *arena, struct rpc_usage_entry *const *entries, size_t count,
                           bool *out_unknown, struct forge_error *error)
{
    const struct forge_uuid *organization_id = &entries[0]->key.organization_id;
    struct columns amounts, keys, accounts;
    if (!columns_fill(arena, entries, count, 0, &amounts) || !columns_fill(arena, entries, count, RPC_USAGE_KEY_USE, &keys) ||
        !columns_fill(arena, entries, count, RPC_USAGE_ACCOUNT_USE, &accounts))
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for %zu numbers", count);
    db_session_bind_tenant(session, organization_id);
    db_tx_begin(session);
    queue_amounts(session, organization_id, &amounts);
    queue_uses(session, SQL_USAGE_NOTE_KEYS, organization_id, &keys);
    queue_uses(session, SQL_USAGE_NOTE_ACCOUNTS, organization_id, &accounts);
    return db_tx_commit(session, out_unknown, error);
}

forge_code rpc_usage_write(const struct rpc_usage_config *config, struct rpc_usage_entry *const *entries, size_t count, uint64_t until_ns,
                           bool *out_unknown, struct forge_error *error)
{
    struct forge_arena arena;
    struct db_session *session = NULL;
    *out_unknown = false;
    forge_arena_init(&arena, ARENA_BYTES_MAX, config->budget);
    forge_code code = db_pool_lease(config->pool, &arena, until_ns, &session, error);
    if (code == FORGE_OK)
        code = write_in(session, &arena, entries, count, out_unknown, error);
    db_pool_release(session);
    forge_arena_done(&arena);
    return code;
}
