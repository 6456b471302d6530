#include "rpc/dispatch.h"
#include "rpc/write_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024, RETRY_MS = 50, KEY_TEXT_SIZE = 3 * FORGE_UUID_TEXT_SIZE + 8 };

struct rpc_duplicates {
    pthread_mutex_t lock;
    struct rpc_write *buckets[BUCKETS];
};

struct rpc_duplicates *rpc_duplicates_new(void)
{
    struct rpc_duplicates *duplicates = calloc(1, sizeof *duplicates);
    if (duplicates)
        pthread_mutex_init(&duplicates->lock, NULL);
    return duplicates;
}

void rpc_duplicates_free(struct rpc_duplicates *duplicates)
{
    if (!duplicates)
        return;
    pthread_mutex_destroy(&duplicates->lock);
    free(duplicates);
}

static bool is_same_write(const struct rpc_active *a, const struct rpc_active *b)
{
    return forge_uuid_equal(&a->call.request_id, &b->call.request_id) && forge_uuid_equal(&a->call.principal.id, &b->call.principal.id) &&
           forge_uuid_equal(&a->call.principal.organization_id, &b->call.principal.organization_id);
}

/* Under the lock. The end of a version 7 UUID is random, though the caller's to choose: a bad choice makes its own chain long. */
static struct rpc_write **find(struct rpc_duplicates *duplicates, const struct rpc_active *active)
{
    const uint8_t *id = active->call.request_id.bytes;
    struct rpc_write **link = &duplicates->buckets[(id[14] << 8 | id[15]) % BUCKETS];
    while (*link && !is_same_write((*link)->owner, active))
        link = &(*link)->next;
    return link;
}

static bool is_same_request(const struct rpc_active *a, const struct rpc_active *b)
{
    return a->method == b->method && forge_equal_secret(a->write->request_hash, b->write->request_hash, FORGE_SHA256_SIZE);
}

/* OK: entered; ALREADY_EXISTS: in progress with the same body; INVALID_ARGUMENT: with another one. */
static forge_code insert(struct rpc_duplicates *duplicates, struct rpc_active *active)
{
    forge_code code = FORGE_OK;
    pthread_mutex_lock(&duplicates->lock);
    struct rpc_write **link = find(duplicates, active);
    if (!*link) {
        active->write->owner = active;
        active->write->next = NULL;
        *link = active->write;
    } else {
        code = is_same_request(active, (*link)->owner) ? FORGE_ALREADY_EXISTS : FORGE_INVALID_ARGUMENT;
    }
    pthread_mutex_unlock(&duplicates->lock);
    return code;
}

static bool is_in_progress(struct rpc_duplicates *duplicates, const struct rpc_active *active)
{
    pthread_mutex_lock(&duplicates->lock);
    bool found = *find(duplicates, active) != NULL;
    pthread_mutex_unlock(&duplicates->lock);
    return found;
}

static void key_write(const struct rpc_active *active, char out[KEY_TEXT_SIZE])
{
    const struct forge_uuid *parts[] = {&active->call.principal.organization_id, &active->call.principal.id, &active->call.request_id};
    memcpy(out, "write", 5);
    out += 5;
    for (int i = 0; i < 3; i++) {
        *out++ = '/';
        forge_uuid_format(parts[i], out);
        out += FORGE_UUID_TEXT_SIZE - 1;
    }
}

forge_code rpc_duplicates_refuse(struct rpc_active *active)
{
    struct forge_error *error = &active->call.error;
    error->retry_after_ms = RETRY_MS;
    error->not_executed = true;
    snprintf(error->reason, sizeof error->reason, "CALL_IN_PROGRESS");
    return rpc_active_refuse(active, FORGE_UNAVAILABLE, "an earlier attempt with this request_id is in progress");
}

static forge_code park(struct rpc_active *active)
{
    char key[KEY_TEXT_SIZE];
    key_write(active, key);
    if (rpc_active_park(active, key, active->call.deadline_ns / 1000000) == FORGE_OK) {
        active->is_duplicate = true;
        return FORGE_PARKED;
    }
    return rpc_duplicates_refuse(active);
}

forge_code rpc_duplicates_enter(struct rpc_active *active)
{
    struct rpc_duplicates *duplicates = rpc_active_server(active)->duplicates;
    for (;;) {
        forge_code code = insert(duplicates, active);
        if (code == FORGE_OK)
            return FORGE_OK;
        if (code == FORGE_INVALID_ARGUMENT)
            return rpc_active_refuse(active, code, "request_id was used before with another request");
        code = park(active);
        /* In the table before the second look: if the owner has gone in between, it has not seen us. */
        if (code != FORGE_PARKED || is_in_progress(duplicates, active))
            return code;
        rpc_call_unpark(&active->call);
    }
}

/* Would the same request get the same answer? Not when the owner never got to one. */
static bool is_answer(const struct rpc_active *owner, forge_code code)
{
    switch (code) {
    case FORGE_OK:
        return true;
    case FORGE_INVALID_ARGUMENT:
    case FORGE_NOT_FOUND:
    case FORGE_ALREADY_EXISTS:
    case FORGE_PERMISSION_DENIED:
    case FORGE_FAILED_PRECONDITION:
    case FORGE_ABORTED:
    case FORGE_OUT_OF_RANGE:
    case FORGE_DATA_LOSS:
    case FORGE_INTERNAL:
    case FORGE_UNKNOWN:
    case FORGE_UNIMPLEMENTED:
    case FORGE_UNAUTHENTICATED:
        return owner->handler_ran;
    case FORGE_RESOURCE_EXHAUSTED:
    case FORGE_CANCELLED:
    case FORGE_DEADLINE_EXCEEDED:
    case FORGE_UNAVAILABLE:
    case FORGE_PARKED:
        return false;
    }
    return false;
}

static void copy_error(struct rpc_active *to, const struct rpc_active *from)
{
    struct forge_error *error = &to->call.error;
    *error = from->call.error;
    error->violations = NULL;
    error->violation_count = 0;
    for (const struct forge_violation *violation = from->call.error.violations; violation; violation = violation->next)
        forge_error_add_violation(error, &to->arena, violation->field, "%s", violation->description);
    error->facts = NULL;
    for (const struct forge_fact *fact = from->call.error.facts; fact; fact = fact->next)
        forge_error_add_fact(error, &to->arena, fact->key, "%s", fact->value);
}

/* The waiting call belongs to us: it was taken out of the table. */
static void answer(struct rpc_active *waiting, const struct rpc_active *owner, forge_code code)
{
    waiting->code = code;
    if (code != FORGE_OK) {
        copy_error(waiting, owner);
    } else if (owner->reply_len > waiting->reply_max) {
        waiting->code = rpc_active_refuse(waiting, FORGE_RESOURCE_EXHAUSTED, "the reply has %zu bytes, at most %zu are allowed",
                                          owner->reply_len, waiting->reply_max);
    } else {
        waiting->reply_bytes = forge_arena_memdup(&waiting->arena, owner->reply_bytes, owner->reply_len);
        waiting->reply_len = owner->reply_len;
        waiting->replayed = true;
        if (!waiting->reply_bytes)
            waiting->code = rpc_active_refuse(waiting, FORGE_RESOURCE_EXHAUSTED, "no memory for the reply");
    }
    rpc_active_hand_back(waiting, RPC_STEP_FINISH);
}

void rpc_duplicates_leave(struct rpc_active *active, forge_code code)
{
    struct rpc_server *server = rpc_active_server(active);
    char key[KEY_TEXT_SIZE];
    pthread_mutex_lock(&server->duplicates->lock);
    struct rpc_write **link = find(server->duplicates, active);
    *link = active->write->next;
    pthread_mutex_unlock(&server->duplicates->lock);
    key_write(active, key);
    struct rpc_parked_entry *entry = rpc_parked_take(server->parked, key);
    while (entry) {
        struct rpc_parked_entry *next = entry->next;
        struct rpc_active *waiting = entry->call;
        /* It was compared with the owner of then, which may be an earlier one than we are. */
        if (is_answer(active, code) && is_same_request(waiting, active)) {
            answer(waiting, active, code);
        } else {
            waiting->call.woken = true;
            rpc_active_hand_back(waiting, RPC_STEP_RESUME);
        }
        entry = next;
    }
}
