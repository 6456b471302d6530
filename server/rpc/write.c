#include "rpc/reply.h"
#include "rpc/run.h"
#include "rpc/write_private.h"

#include "auth/secret.h"
#include "db/pool.h"
#include "db/tx.h"
#include "wire/clock.h"

#include <assert.h>
#include <string.h>

enum {
    ATTEMPTS_MAX = 3, /* of a write whose COMMIT was lost and proven not to have happened */
    LOCK_RETRY_MS = 50,
    CHANGES_MANY = 4 /* from so many changes on they go in one statement */
};
static const char claim_taken[] = "23505", lock_not_available[] = "55P03", query_canceled[] = "57014";

/* --- what handlers announce ------------------------------------------------------------------------------------------ */

/* Announcing anything outside a write is our bug: rules.c says which methods write. */
static struct rpc_write *write_of(struct rpc_call *call)
{
    struct rpc_write *write = rpc_active_of(call)->write;
    assert(write);
    return write;
}

void rpc_write_change(struct rpc_call *call, const char *kind, const struct forge_uuid *object_id, const struct forge_uuid *parent_id)
{
    struct rpc_write *write = write_of(call);
    struct rpc_write_change *change = forge_arena_alloc(call->arena, sizeof *change);
    if (!change)
        return; /* sticky: seen before the commit */
    forge_uuid_v7(&change->id);
    change->kind = forge_arena_strdup(call->arena, kind);
    if (object_id)
        change->object_id = *object_id;
    if (parent_id)
        change->parent_id = *parent_id;
    *write->changes_end = change;
    write->changes_end = &change->next;
}

void rpc_write_audit(struct rpc_call *call, const char *action, const char *target_kind, const struct forge_uuid *target_id,
                     const char *details_json)
{
    struct rpc_write *write = write_of(call);
    assert(!write->has_audit);
    write->has_audit = true;
    write->audit.action = forge_arena_strdup(call->arena, action);
    write->audit.target_kind = forge_arena_strdup(call->arena, target_kind);
    write->audit.details_json = forge_arena_strdup(call->arena, details_json ? details_json : "{}");
    if (target_id)
        write->audit.target_id = *target_id;
}

void rpc_write_seal_reply(struct rpc_call *call)
{
    write_of(call)->seals_reply = true;
}

void rpc_write_when_ended(struct rpc_call *call, void (*ended)(void *user, bool committed), void *user)
{
    struct rpc_write *write = write_of(call);
    assert(!write->ended);
    write->ended = ended;
    write->ended_user = user;
}

static void begin(struct rpc_active *active);

void rpc_write_set_organization(struct rpc_call *call, const struct forge_uuid *organization_id)
{
    struct rpc_write *write = write_of(call);
    assert(!db_tx_was_sent(call->db));
    db_tx_rollback(call->db); /* only queued so far: the claim is for another tenant now */
    write->organization_id = *organization_id;
    begin(rpc_active_of(call));
}

/* --- the transaction ------------------------------------------------------------------------------------------------- */

static bool is_once(const struct rpc_active *active)
{
    return active->rule->write == AUTH_WRITE_ONCE;
}

static struct db_stmt *claim_statement(struct rpc_active *active)
{
    const struct rpc_call *call = &active->call;
    const struct auth_key *key = &rpc_active_server(active)->config.keys->current;
    struct db_stmt *claim = db_stmt(call->db, SQL_WRITE_CLAIM);
    db_bind_uuid(claim, &active->write->organization_id);
    db_bind_uuid(claim, &call->principal.id);
    db_bind_uuid(claim, &call->request_id);
    db_bind_text(claim, rpc_methods[active->method].name);
    db_bind_int32(claim, key->id);
    db_bind_bytes(claim, active->write->request_hash, sizeof active->write->request_hash);
    db_bind_time_us(claim, call->now_us);
    return claim;
}

/* Queues BEGIN and the claim in front of the handler's first statements. */
static void begin(struct rpc_active *active)
{
    struct db_session *session = active->call.db;
    db_session_bind_tenant(session, &active->write->organization_id);
    db_tx_begin(session);
    if (is_once(active))
        db_queue(claim_statement(active));
}

/* The method is part of what is hashed: the same bytes may be a request of two methods. */
static void hash_request(const struct rpc_active *active, const struct auth_key *key, uint8_t out[FORGE_SHA256_SIZE])
{
    uint8_t digests[2 * FORGE_SHA256_SIZE];
    const char *name = rpc_methods[active->method].name;
    forge_sha256(name, strlen(name), digests);
    forge_hmac_sha256(key->request_hash, active->payload, active->payload_len, digests + FORGE_SHA256_SIZE);
    forge_hmac_sha256(key->request_hash, digests, sizeof digests, out);
}

static void queue_change(struct rpc_active *active, const struct rpc_write_change *change)
{
    struct db_stmt *statement = db_stmt(active->call.db, SQL_WRITE_CHANGE);
    db_bind_uuid(statement, &active->write->organization_id);
    db_bind_uuid(statement, &change->id);
    db_bind_text(statement, change->kind);
    if (forge_uuid_is_nil(&change->object_id))
        db_bind_null(statement);
    else
        db_bind_uuid(statement, &change->object_id);
    if (forge_uuid_is_nil(&change->parent_id))
        db_bind_null(statement);
    else
        db_bind_uuid(statement, &change->parent_id);
    db_bind_time_us(statement, active->call.now_us);
    db_queue(statement);
}

/* One statement for all of them: a tag may be taken off many prompts. */
static void queue_many_changes(struct rpc_active *active, size_t count)
{
    struct forge_arena *arena = &active->arena;
    struct forge_uuid *ids = forge_arena_calloc(arena, count, sizeof *ids), *objects = forge_arena_calloc(arena, count, sizeof *objects);
    struct forge_uuid *parents = forge_arena_calloc(arena, count, sizeof *parents);
    const char **kinds = forge_arena_calloc(arena, count, sizeof *kinds);
    if (!ids || !objects || !parents || !kinds)
        return; /* sticky: seen before the commit */
    size_t i = 0;
    for (const struct rpc_write_change *change = active->write->changes; change; change = change->next, i++) {
        ids[i] = change->id;
        kinds[i] = change->kind;
        objects[i] = change->object_id;
        parents[i] = change->parent_id;
    }
    struct db_stmt *statement = db_stmt(active->call.db, SQL_WRITE_CHANGES);
    db_bind_uuid(statement, &active->write->organization_id);
    db_bind_uuid_array(statement, ids, count);
    db_bind_text_array(statement, kinds, count);
    db_bind_uuid_array(statement, objects, count);
    db_bind_uuid_array(statement, parents, count);
    db_bind_time_us(statement, active->call.now_us);
    db_queue(statement);
}

static void queue_changes(struct rpc_active *active)
{
    size_t count = 0;
    if (forge_arena_has_overflowed(&active->arena))
        return;
    for (const struct rpc_write_change *change = active->write->changes; change; change = change->next)
        count++;
    if (count >= CHANGES_MANY) {
        queue_many_changes(active, count);
        return;
    }
    for (const struct rpc_write_change *change = active->write->changes; change; change = change->next)
        queue_change(active, change);
}

static void queue_reply(struct rpc_active *active)
{
    struct rpc_call *call = &active->call;
    const uint8_t *stored = active->reply_bytes;
    size_t size = active->reply_len;
    if (active->write->seals_reply) {
        uint8_t *sealed = forge_arena_alloc(call->arena, size + FORGE_SEAL_OVERHEAD);
        if (!sealed)
            return;
        auth_secret_seal(&rpc_active_server(active)->config.keys->current, &active->write->organization_id, &call->request_id, stored, size,
                         sealed);
        stored = sealed;
        size += FORGE_SEAL_OVERHEAD;
    }
    struct db_stmt *statement = db_stmt(call->db, SQL_WRITE_STORE_REPLY);
    db_bind_uuid(statement, &active->write->organization_id);
    db_bind_uuid(statement, &call->principal.id);
    db_bind_uuid(statement, &call->request_id);
    db_bind_bytes(statement, stored, size);
    db_bind_bool(statement, active->write->seals_reply);
    db_queue(statement);
}

static forge_code commit(struct rpc_active *active, bool *out_unknown)
{
    struct rpc_write *write = active->write;
    *out_unknown = false;
    queue_changes(active);
    if (is_once(active))
        queue_reply(active);
    if (write->has_audit)
        rpc_write_queue_audit(active); /* last: the head is locked for one trip */
    if (forge_arena_has_overflowed(&active->arena))
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the call needs more than %zu bytes", active->arena.bytes_max);
    return db_tx_commit(active->call.db, out_unknown, &active->call.error);
}

/* --- replies of earlier attempts ------------------------------------------------------------------------------------- */

static forge_code read_reply(struct rpc_active *active, const struct db_row *row, const struct auth_key *key)
{
    size_t size = 0;
    uint8_t *bytes = db_row_bytes(row, "response", &size);
    if (db_row_bool(row, "response_sealed")) {
        uint8_t *plain = size >= FORGE_SEAL_OVERHEAD ? forge_arena_alloc(&active->arena, size - FORGE_SEAL_OVERHEAD) : NULL;
        if (!plain || !auth_secret_unseal(key, &active->write->organization_id, &active->call.request_id, bytes, size, plain))
            return rpc_active_refuse(active, FORGE_DATA_LOSS, "the stored reply cannot be unsealed");
        bytes = plain;
        size -= FORGE_SEAL_OVERHEAD;
    }
    if (size > active->reply_max)
        return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "the reply has %zu bytes, at most %zu are allowed", size,
                                 active->reply_max);
    active->reply_bytes = bytes ? bytes : (const uint8_t *)"";
    active->reply_len = size;
    active->replayed = true;
    return FORGE_OK;
}

/* An earlier attempt committed: its reply, if this is the same request. */
static forge_code answer_stored(struct rpc_active *active)
{
    struct rpc_call *call = &active->call;
    uint8_t hash[FORGE_SHA256_SIZE];
    struct db_row row;
    bool found;
    call->error = (struct forge_error){0};
    struct db_stmt *statement = db_stmt(call->db, SQL_WRITE_STORED_REPLY);
    db_bind_uuid(statement, &active->write->organization_id);
    db_bind_uuid(statement, &call->principal.id);
    db_bind_uuid(statement, &call->request_id);
    forge_code code = db_run_optional(statement, &row, &found, &call->error);
    if (code != FORGE_OK)
        return code;
    if (!found) {
        call->error.retry_after_ms = LOCK_RETRY_MS;
        return rpc_active_refuse(active, FORGE_UNAVAILABLE, "the stored reply of this request_id was just removed");
    }
    const struct auth_key *key = auth_keys_find(rpc_active_server(active)->config.keys, db_row_int32(&row, "key_id"));
    if (!key)
        return rpc_active_refuse(active, FORGE_INTERNAL, "a request was stored under key %d, which the key file does not hold",
                                 (int)db_row_int32(&row, "key_id"));
    size_t stored_size = 0;
    const uint8_t *stored_hash = db_row_bytes(&row, "request_hash", &stored_size);
    hash_request(active, key, hash);
    if (strcmp(db_row_text_or_empty(&row, "method"), rpc_methods[active->method].name) != 0 || stored_size != sizeof hash ||
        !forge_equal_secret(stored_hash, hash, sizeof hash))
        return rpc_active_refuse(active, FORGE_INVALID_ARGUMENT, "request_id was used before with another request");
    return read_reply(active, &row, key);
}

/* --- one attempt ----------------------------------------------------------------------------------------------------- */

static bool claim_failed(const struct rpc_active *active)
{
    return is_once(active) && db_session_failed_statement(active->call.db) == SQL_WRITE_CLAIM;
}

static bool is_lock_wait(const struct forge_error *error)
{
    return strcmp(error->sqlstate, lock_not_available) == 0 || strcmp(error->sqlstate, query_canceled) == 0;
}

/* The transaction failed with this code and is over: what does the caller get? */
static forge_code settle_failure(struct rpc_active *active, forge_code code)
{
    struct forge_error *error = &active->call.error;
    if (claim_failed(active)) {
        if (strcmp(error->sqlstate, claim_taken) == 0)
            return answer_stored(active);
        if (is_lock_wait(error))
            return rpc_duplicates_refuse(active);
    }
    if (code == FORGE_UNAVAILABLE && strcmp(error->sqlstate, lock_not_available) == 0)
        error->retry_after_ms = LOCK_RETRY_MS;
    return code;
}

/* Runs the claim alone on a new connection; it waits for the transaction whose COMMIT was lost. *out_again: that never committed. */
static forge_code probe_claim(struct rpc_active *active, bool *out_again, bool *out_waits)
{
    struct rpc_call *call = &active->call;
    *out_again = *out_waits = false;
    db_session_bind_tenant(call->db, &active->write->organization_id);
    db_tx_begin(call->db);
    forge_code code = db_run_command(claim_statement(active), NULL, &call->error);
    bool taken = code != FORGE_OK && claim_failed(active) && strcmp(call->error.sqlstate, claim_taken) == 0;
    *out_again = code == FORGE_OK;
    *out_waits = code != FORGE_OK && claim_failed(active) && is_lock_wait(&call->error);
    db_tx_rollback(call->db);
    return taken ? answer_stored(active) : code;
}

/* The connection was lost with COMMIT on its way: find out on a new one. FORGE_OK with *out_again: run the handler anew. */
static forge_code settle_unknown(struct rpc_active *active, bool *out_again)
{
    struct rpc_call *call = &active->call;
    bool waits = false;
    forge_code code;
    *out_again = false;
    if (!is_once(active))
        return active->code;
    do {
        call->error = (struct forge_error){0};
        code = waits ? FORGE_OK : db_session_reconnect(call->db, &call->error);
        waits = false;
        if (code == FORGE_OK)
            code = probe_claim(active, out_again, &waits);
    } while (waits && rpc_active_left_ns(active) > 0);
    if (code != FORGE_OK && !active->replayed && (waits || code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED)) {
        call->error.not_executed = false;
        return rpc_active_refuse(active, waits ? FORGE_DEADLINE_EXCEEDED : code,
                                 "the database was lost while committing; repeat the call with the same request_id to learn the outcome");
    }
    return code;
}

static void tell_own_caches(const struct rpc_active *active)
{
    const struct rpc_server_config *config = &rpc_active_server(active)->config;
    const struct forge_uuid *organization_id = &active->write->organization_id;
    for (const struct rpc_write_change *change = active->write->changes; config->changed && change; change = change->next)
        config->changed(config->user, organization_id, change->kind, &change->object_id, &change->parent_id);
}

static void forget_attempt(struct rpc_active *active)
{
    struct rpc_write *write = active->write;
    write->changes = NULL;
    write->changes_end = &write->changes;
    write->has_audit = write->seals_reply = false;
    write->audit = (struct rpc_write_audit){0};
    active->call.error = (struct forge_error){0};
    active->reply_bytes = NULL;
}

static void tell_ended(struct rpc_active *active, bool committed)
{
    struct rpc_write *write = active->write;
    if (write->ended)
        write->ended(write->ended_user, committed);
    write->ended = NULL;
}

static forge_code attempt(struct rpc_active *active, bool *out_again)
{
    bool unknown = false;
    *out_again = false;
    forget_attempt(active);
    begin(active);
    forge_code code = rpc_run_handler(active);
    if (code == FORGE_OK)
        code = rpc_reply_pack(active);
    if (code == FORGE_OK)
        code = commit(active, &unknown);
    tell_ended(active, code == FORGE_OK);
    if (code == FORGE_OK) {
        tell_own_caches(active);
        return FORGE_OK;
    }
    if (unknown) {
        active->code = code;
        return settle_unknown(active, out_again);
    }
    db_tx_rollback(active->call.db);
    return settle_failure(active, code);
}

static forge_code run_attempts(struct rpc_active *active)
{
    bool again = false;
    forge_code code;
    int attempts = 0;
    do {
        code = attempt(active, &again);
    } while (again && ++attempts < ATTEMPTS_MAX);
    if (!again)
        return code;
    active->call.error.retry_after_ms = LOCK_RETRY_MS;
    return rpc_active_refuse(active, FORGE_UNAVAILABLE, "the database was lost %d times while committing; nothing was written", attempts);
}

forge_code rpc_write_run(struct rpc_active *active)
{
    struct rpc_write *write = active->write;
    if (!write) {
        write = forge_arena_alloc(&active->arena, sizeof *write);
        if (!write)
            return rpc_active_refuse(active, FORGE_RESOURCE_EXHAUSTED, "no memory for a write");
        active->write = write;
        hash_request(active, &rpc_active_server(active)->config.keys->current, write->request_hash);
    }
    write->organization_id = active->call.principal.organization_id;
    if (!is_once(active))
        return run_attempts(active);
    forge_code code = rpc_duplicates_enter(active);
    if (code != FORGE_OK)
        return code;
    active->is_duplicate = false;
    code = run_attempts(active);
    rpc_duplicates_leave(active, code);
    return code;
}
