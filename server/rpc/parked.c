#include "rpc/parked.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

/* How many entries a principal has; there as long as it has one. */
struct principal {
    struct principal *next;
    struct forge_uuid id;
    unsigned count;
};
struct rpc_parked {
    pthread_mutex_t lock;
    unsigned total_max, connection_max, principal_max, count;
    unsigned waiting; /* of them, settled */
    struct rpc_parked_entry *first[BUCKETS], *last[BUCKETS];
    struct principal *principals[BUCKETS];
};

struct rpc_parked *rpc_parked_new(unsigned total_max, unsigned connection_max, unsigned principal_max)
{
    struct rpc_parked *parked = calloc(1, sizeof *parked);
    if (!parked)
        return NULL;
    pthread_mutex_init(&parked->lock, NULL);
    parked->total_max = total_max;
    parked->connection_max = connection_max;
    parked->principal_max = principal_max;
    return parked;
}

void rpc_parked_free(struct rpc_parked *parked)
{
    if (!parked)
        return;
    assert(parked->count == 0);
    pthread_mutex_destroy(&parked->lock);
    free(parked);
}

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ : keys are ours, not the callers' to choose. */
static uint64_t hash_of(const void *data, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001B3;
    return hash;
}

static struct principal **principal_find(struct rpc_parked *parked, const struct forge_uuid *id)
{
    struct principal **link = &parked->principals[hash_of(id->bytes, sizeof id->bytes) % BUCKETS];
    while (*link && !forge_uuid_equal(&(*link)->id, id))
        link = &(*link)->next;
    return link;
}

static forge_code principal_count_up(struct rpc_parked *parked, const struct forge_uuid *id, struct forge_error *error)
{
    struct principal **link = principal_find(parked, id);
    if (*link && (*link)->count >= parked->principal_max)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the credential has %u waiting calls, at most %u", (*link)->count,
                               parked->principal_max);
    if (!*link) {
        struct principal *made = calloc(1, sizeof *made);
        if (!made)
            return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a waiting call");
        made->id = *id;
        *link = made;
    }
    (*link)->count++;
    return FORGE_OK;
}

static void principal_count_down(struct rpc_parked *parked, const struct forge_uuid *id)
{
    struct principal **link = principal_find(parked, id), *found = *link;
    assert(found && found->count > 0);
    if (--found->count > 0)
        return;
    *link = found->next;
    free(found);
}

static forge_code check_room(const struct rpc_parked *parked, const struct rpc_parked_entry *entry, struct forge_error *error)
{
    if (*entry->connection_count >= parked->connection_max)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the connection has %u waiting calls, at most %u", *entry->connection_count,
                               parked->connection_max);
    if (parked->count >= parked->total_max)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "the server has %u waiting calls, at most %u", parked->count,
                               parked->total_max);
    return FORGE_OK;
}

static void bucket_push(struct rpc_parked *parked, struct rpc_parked_entry *entry)
{
    unsigned bucket = entry->key_hash % BUCKETS;
    entry->next = NULL;
    entry->previous = parked->last[bucket];
    if (entry->previous)
        entry->previous->next = entry;
    else
        parked->first[bucket] = entry;
    parked->last[bucket] = entry;
}

/* Under the lock. */
static void take_out(struct rpc_parked *parked, struct rpc_parked_entry *entry)
{
    parked->waiting -= entry->state == RPC_PARKED_WAITING;
    unsigned bucket = entry->key_hash % BUCKETS;
    if (entry->previous)
        entry->previous->next = entry->next;
    else
        parked->first[bucket] = entry->next;
    if (entry->next)
        entry->next->previous = entry->previous;
    else
        parked->last[bucket] = entry->previous;
    entry->previous = entry->next = NULL;
    entry->state = RPC_PARKED_OUT;
    parked->count--;
    --*entry->connection_count;
    if (!forge_uuid_is_nil(&entry->principal_id))
        principal_count_down(parked, &entry->principal_id);
}

forge_code rpc_parked_enter(struct rpc_parked *parked, struct rpc_parked_entry *entry, struct forge_error *error)
{
    assert(entry->state == RPC_PARKED_OUT);
    entry->key_hash = hash_of(entry->key, strlen(entry->key));
    pthread_mutex_lock(&parked->lock);
    forge_code code = check_room(parked, entry, error);
    if (code == FORGE_OK && !forge_uuid_is_nil(&entry->principal_id))
        code = principal_count_up(parked, &entry->principal_id, error);
    if (code == FORGE_OK) {
        bucket_push(parked, entry);
        entry->state = RPC_PARKED_ENTERED;
        parked->count++;
        ++*entry->connection_count;
    }
    pthread_mutex_unlock(&parked->lock);
    return code;
}

void rpc_parked_leave(struct rpc_parked *parked, struct rpc_parked_entry *entry)
{
    pthread_mutex_lock(&parked->lock);
    if (entry->state != RPC_PARKED_OUT)
        take_out(parked, entry);
    pthread_mutex_unlock(&parked->lock);
}

bool rpc_parked_settle(struct rpc_parked *parked, struct rpc_parked_entry *entry)
{
    pthread_mutex_lock(&parked->lock);
    bool waits = entry->state == RPC_PARKED_ENTERED;
    if (waits) {
        entry->state = RPC_PARKED_WAITING;
        parked->waiting++;
    } else {
        take_out(parked, entry);
    }
    pthread_mutex_unlock(&parked->lock);
    return waits;
}

bool rpc_parked_remove(struct rpc_parked *parked, struct rpc_parked_entry *entry)
{
    pthread_mutex_lock(&parked->lock);
    bool waits = entry->state == RPC_PARKED_WAITING;
    if (waits)
        take_out(parked, entry);
    pthread_mutex_unlock(&parked->lock);
    return waits;
}

/* Takes what waits for a key that begins with these bytes out of one bucket and appends it to *tail; returns the new tail. */
static struct rpc_parked_entry **take_bucket(struct rpc_parked *parked, unsigned bucket, const char *begin, size_t size,
                                             struct rpc_parked_entry **tail)
{
    struct rpc_parked_entry *following;
    for (struct rpc_parked_entry *entry = parked->first[bucket]; entry; entry = following) {
        following = entry->next;
        if (strncmp(entry->key, begin, size) != 0)
            continue;
        if (entry->state == RPC_PARKED_WAITING) {
            take_out(parked, entry);
            *tail = entry;
            tail = &entry->next;
        } else {
            entry->state = RPC_PARKED_WOKEN;
        }
    }
    return tail;
}

struct rpc_parked_entry *rpc_parked_take(struct rpc_parked *parked, const char *key)
{
    struct rpc_parked_entry *taken = NULL;
    size_t length = strlen(key);
    pthread_mutex_lock(&parked->lock);
    take_bucket(parked, hash_of(key, length) % BUCKETS, key, length + 1, &taken); /* with the NUL: the whole key */
    pthread_mutex_unlock(&parked->lock);
    return taken;
}

struct rpc_parked_entry *rpc_parked_take_all(struct rpc_parked *parked, const char *prefix)
{
    struct rpc_parked_entry *taken = NULL, **tail = &taken;
    size_t length = strlen(prefix);
    pthread_mutex_lock(&parked->lock);
    for (unsigned bucket = 0; bucket < BUCKETS && parked->count > 0; bucket++)
        tail = take_bucket(parked, bucket, prefix, length, tail);
    pthread_mutex_unlock(&parked->lock);
    return taken;
}

unsigned rpc_parked_count(struct rpc_parked *parked)
{
    pthread_mutex_lock(&parked->lock);
    unsigned count = parked->waiting;
    pthread_mutex_unlock(&parked->lock);
    return count;
}
