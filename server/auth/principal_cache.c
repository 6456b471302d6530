#include "auth/principal_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 16, GENERATIONS = 256 };

struct entry {
    uint8_t hash[FORGE_SHA256_SIZE];
    struct auth_principal principal;
    uint32_t chain;        /* next entry of the bucket, 0 = none */
    uint32_t newer, older; /* recency list, 0 = end; free entries are chained by chain */
};
/* Entries are numbered from 1; 0 means none. Number 0 is the head of the recency list: .older is the newest, .newer the oldest. */
struct shard {
    pthread_mutex_t lock;
    struct entry *entries;
    uint32_t *buckets;
    uint32_t bucket_mask, free_first, count;
};
struct auth_principal_cache {
    struct shard shards[SHARDS];
    atomic_uint_fast64_t generations[GENERATIONS]; /* by organization; two may share one, which only costs a fill */
};

static struct shard *shard_of(struct auth_principal_cache *cache, const uint8_t *hash)
{
    return &cache->shards[hash[0] % SHARDS];
}

/* The key is a SHA-256 already: any of its bytes serve as a hash. */
static uint32_t *bucket_of(struct shard *shard, const uint8_t *hash)
{
    uint32_t value;
    memcpy(&value, hash + 1, sizeof value);
    return &shard->buckets[value & shard->bucket_mask];
}

static void list_remove(struct shard *shard, uint32_t index)
{
    struct entry *entry = &shard->entries[index];
    shard->entries[entry->newer].older = entry->older;
    shard->entries[entry->older].newer = entry->newer;
}

static void list_push(struct shard *shard, uint32_t index)
{
    struct entry *entry = &shard->entries[index], *head = &shard->entries[0];
    entry->newer = 0;
    entry->older = head->older;
    shard->entries[head->older].newer = index;
    head->older = index;
}

static uint32_t find(struct shard *shard, const uint8_t *hash)
{
    uint32_t index = *bucket_of(shard, hash);
    while (index != 0 && memcmp(shard->entries[index].hash, hash, FORGE_SHA256_SIZE) != 0)
        index = shard->entries[index].chain;
    return index;
}

static void drop(struct shard *shard, uint32_t index)
{
    struct entry *entry = &shard->entries[index];
    uint32_t *link = bucket_of(shard, entry->hash);
    while (*link != index)
        link = &shard->entries[*link].chain;
    *link = entry->chain;
    list_remove(shard, index);
    forge_cleanse(entry, sizeof *entry);
    entry->chain = shard->free_first;
    shard->free_first = index;
    shard->count--;
}

static bool shard_init(struct shard *shard, uint32_t entries_max)
{
    uint32_t buckets = 16;
    while (buckets < entries_max)
        buckets *= 2;
    pthread_mutex_init(&shard->lock, NULL);
    shard->entries = calloc((size_t)entries_max + 1, sizeof *shard->entries);
    shard->buckets = calloc(buckets, sizeof *shard->buckets);
    shard->bucket_mask = buckets - 1;
    if (!shard->entries || !shard->buckets)
        return false;
    for (uint32_t index = entries_max; index >= 1; index--) {
        shard->entries[index].chain = shard->free_first;
        shard->free_first = index;
    }
    return true;
}

forge_code auth_principal_cache_new(unsigned entries_max, struct auth_principal_cache **out, struct forge_error *error)
{
    struct auth_principal_cache *cache = calloc(1, sizeof *cache);
    bool made = cache != NULL;
    for (unsigned i = 0; made && i < SHARDS; i++)
        made = shard_init(&cache->shards[i], entries_max / SHARDS > 0 ? entries_max / SHARDS : 1);
    if (!made) {
        auth_principal_cache_free(cache);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for a cache of %u credentials", entries_max);
    }
    *out = cache;
    return FORGE_OK;
}

void auth_principal_cache_free(struct auth_principal_cache *cache)
{
    if (!cache)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        free(cache->shards[i].entries);
        free(cache->shards[i].buckets);
        pthread_mutex_destroy(&cache->shards[i].lock);
    }
    free(cache);
}

bool auth_principal_cache_get(struct auth_principal_cache *cache, const uint8_t token_hash[FORGE_SHA256_SIZE], int64_t now_us,
                              struct auth_principal *out)
{
    struct shard *shard = shard_of(cache, token_hash);
    pthread_mutex_lock(&shard->lock);
    uint32_t index = find(shard, token_hash);
    if (index != 0 && shard->entries[index].principal.expires_us != 0 && shard->entries[index].principal.expires_us <= now_us) {
        drop(shard, index);
        index = 0;
    }
    if (index != 0) {
        *out = shard->entries[index].principal;
        if (shard->entries[0].older != index) {
            list_remove(shard, index);
            list_push(shard, index);
        }
    }
    pthread_mutex_unlock(&shard->lock);
    return index != 0;
}

static atomic_uint_fast64_t *generation_of(struct auth_principal_cache *cache, const struct forge_uuid *organization_id)
{
    /* The end of a version 7 UUID is random. */
    return &cache->generations[organization_id->bytes[15] % GENERATIONS];
}

uint64_t auth_principal_cache_generation(struct auth_principal_cache *cache, const struct forge_uuid *organization_id)
{
    return atomic_load(generation_of(cache, organization_id));
}

void auth_principal_cache_put(struct auth_principal_cache *cache, const uint8_t token_hash[FORGE_SHA256_SIZE],
                              const struct auth_principal *principal, uint64_t generation)
{
    if (principal->kind == AUTH_OPERATOR || principal->kind == AUTH_NOBODY)
        return;
    struct shard *shard = shard_of(cache, token_hash);
    pthread_mutex_lock(&shard->lock);
    /* Under the lock that changed() takes after it has moved the generation: either we see the move or it sees our entry. */
    if (atomic_load(generation_of(cache, &principal->organization_id)) == generation) {
        uint32_t index = find(shard, token_hash);
        if (index != 0)
            drop(shard, index);
        else if (shard->free_first == 0)
            drop(shard, shard->entries[0].newer);
        index = shard->free_first;
        struct entry *entry = &shard->entries[index];
        uint32_t *bucket = bucket_of(shard, token_hash);
        shard->free_first = entry->chain;
        memcpy(entry->hash, token_hash, FORGE_SHA256_SIZE);
        entry->principal = *principal;
        entry->chain = *bucket;
        *bucket = index;
        list_push(shard, index);
        shard->count++;
    }
    pthread_mutex_unlock(&shard->lock);
}

/* Which id of a principal a kind of change is about; NULL: none, the change does not concern credentials. */
static const struct forge_uuid *concerned(const struct auth_principal *principal, const char *kind)
{
    if (strcmp(kind, "api_key") == 0)
        return &principal->id;
    if (strcmp(kind, "service_account") == 0)
        return &principal->service_account_id;
    if (strcmp(kind, "session") == 0)
        return &principal->session_id;
    if (strcmp(kind, "user") == 0)
        return &principal->user_id;
    if (strcmp(kind, "project") == 0)
        return &principal->project_id;
    return strcmp(kind, "organization") == 0 ? &principal->organization_id : NULL;
}

static bool is_hit(const struct db_change *change, const struct auth_principal *principal)
{
    if (!forge_uuid_equal(&principal->organization_id, &change->organization_id))
        return false;
    const struct forge_uuid *id = concerned(principal, change->kind);
    bool whole = strcmp(change->kind, "organization") == 0 || forge_uuid_is_nil(&change->object_id);
    return whole || forge_uuid_equal(id, &change->object_id);
}

void auth_principal_cache_changed(const struct db_change *change, void *user)
{
    static const struct auth_principal nobody;
    struct auth_principal_cache *cache = user;
    if (!concerned(&nobody, change->kind))
        return;
    atomic_fetch_add(generation_of(cache, &change->organization_id), 1);
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->lock);
        for (uint32_t index = shard->entries[0].older; index != 0;) {
            uint32_t older = shard->entries[index].older;
            if (is_hit(change, &shard->entries[index].principal))
                drop(shard, index);
            index = older;
        }
        pthread_mutex_unlock(&shard->lock);
    }
}

void auth_principal_cache_reset(void *user)
{
    struct auth_principal_cache *cache = user;
    for (unsigned i = 0; i < GENERATIONS; i++)
        atomic_fetch_add(&cache->generations[i], 1);
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->lock);
        while (shard->entries[0].older != 0)
            drop(shard, shard->entries[0].older);
        pthread_mutex_unlock(&shard->lock);
    }
}

unsigned auth_principal_cache_count(struct auth_principal_cache *cache)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&cache->shards[i].lock);
        count += cache->shards[i].count;
        pthread_mutex_unlock(&cache->shards[i].lock);
    }
    return count;
}
