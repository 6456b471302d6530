/* The prompt cache on disk: read when it is opened, written by a thread of its own, because fsync takes its time. */
#include "prompt_cache_private.h"

#include "channel_private.h"
#include "prompt_snapshot.h"
#include "thread.h"
#include "wire/clock.h"

#include <stdlib.h>

enum { US_PER_MS = 1000 };

static void snapshot_key(const uint8_t credential[FORGE_KEY_SIZE], uint8_t out[FORGE_KEY_SIZE])
{
    forge_hkdf_sha256(credential, "forge prompt snapshot", out, FORGE_KEY_SIZE);
}

/* ---- reading ---- */

/* Confirmed at that wall time; a clock that was put back makes an answer old, never fresh. */
static int64_t confirmed_ms(const struct forge_prompt_cache *cache, bool is_fixed, int64_t confirmed_us)
{
    const struct forge_prompt_cache_options *options = &cache->options;
    int64_t now_ms = (int64_t)cache->now_ms(), now_us = forge_clock_wall_us();
    if (confirmed_us <= now_us && confirmed_us >= 0)
        return now_ms - (now_us - confirmed_us) / US_PER_MS;
    return now_ms - (is_fixed ? (int64_t)options->check_ms : (int64_t)options->ttl_ms + options->stale_ms);
}

static void take_record(void *user, Forge__V1__GetPromptRequest *request, Forge__V1__Prompt *prompt, int64_t confirmed_us)
{
    struct forge_prompt_cache *cache = user;
    uint8_t key[FORGE_SHA256_SIZE];
    struct forge__prompt_entry *entry = NULL;
    struct forge__prompt_value *value = forge__prompt_value_new(prompt);
    if (value && forge__prompt_key(cache->credential_key, request, key) && !forge__prompt_table_find(&cache->table, key))
        entry = forge__prompt_table_add(&cache->table, key, request);
    if (entry) {
        forge__prompt_table_set(&cache->table, entry, value);
        entry->confirmed_ms = confirmed_ms(cache, entry->is_fixed, confirmed_us);
        forge__prompt_table_use(&cache->table, entry);
    } else {
        forge__prompt_value_unref(value);
    }
    forge__v1__get_prompt_request__free_unpacked(request, NULL);
}

void forge__prompt_cache_load(struct forge_prompt_cache *cache)
{
    uint8_t key[FORGE_KEY_SIZE];
    size_t bytes_max = cache->options.bytes_max, size_max = bytes_max > SIZE_MAX / 4 ? SIZE_MAX : 2 * bytes_max + (1 << 20);
    snapshot_key(cache->credential_key, key);
    enum forge__snapshot_end end = forge__snapshot_read(cache->snapshot_file, key, size_max, take_record, cache);
    forge_cleanse(key, sizeof key);
    if (end == FORGE__SNAPSHOT_REFUSED) {
        while (cache->table.oldest)
            forge__prompt_table_remove(&cache->table, cache->table.oldest);
        cache->stats.snapshots_refused = 1;
    }
    forge__prompt_table_shrink(&cache->table, cache->options.bytes_max);
    cache->stats.snapshot_entries = cache->table.count;
}

/* ---- writing ---- */

struct kept {
    struct forge__prompt_asked *asked;
    struct forge__prompt_value *value;
    int64_t confirmed_us;
};

/* What is there, oldest first, so that it is read in the order of use. Referenced and not copied: the mutex is held for a moment only. */
static struct kept *collect(struct forge_prompt_cache *cache, size_t *out_count)
{
    int64_t now_ms = (int64_t)cache->now_ms(), now_us = forge_clock_wall_us();
    struct kept *kept = calloc(cache->table.count + 1, sizeof *kept);
    *out_count = 0;
    for (struct forge__prompt_entry *entry = cache->table.oldest; kept && entry; entry = entry->newer)
        if (entry->value)
            kept[(*out_count)++] = (struct kept){forge__prompt_asked_ref(entry->asked), forge__prompt_value_ref(entry->value),
                                                 now_us - (now_ms - entry->confirmed_ms) * US_PER_MS};
    return kept;
}

/* The mutex is held, but not while the file is written. */
static void write_snapshot(struct forge_prompt_cache *cache)
{
    uint8_t key[FORGE_KEY_SIZE];
    struct forge__snapshot_bytes bytes = {.size = 0};
    size_t count;
    struct kept *kept = collect(cache, &count);
    cache->is_dirty = false;
    snapshot_key(cache->credential_key, key);
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < count; i++) {
        forge__snapshot_add(&bytes, kept[i].asked->request, kept[i].value->message, kept[i].confirmed_us);
        forge__prompt_asked_unref(kept[i].asked);
        forge__prompt_value_unref(kept[i].value);
    }
    bool ok = kept && forge__snapshot_write(cache->snapshot_file, key, &bytes);
    free(kept);
    forge__snapshot_free(&bytes);
    forge_cleanse(key, sizeof key);
    pthread_mutex_lock(&cache->mutex);
    cache->stats.snapshots_written += ok;
    cache->stats.snapshots_failed += !ok;
    cache->is_dirty |= !ok; /* the file may hold what is not to be told any more */
}

/* Until the interval is over or the cache is closed. */
static void pause_between(struct forge_prompt_cache *cache)
{
    uint64_t until_ms = forge_clock_monotonic_ms() + cache->options.snapshot_interval_ms;
    while (!cache->is_closed && forge__wait_until(&cache->changed, &cache->mutex, until_ms))
        continue;
}

static void *snapshot_main(void *argument)
{
    struct forge_prompt_cache *cache = argument;
    pthread_mutex_lock(&cache->mutex);
    while (!cache->is_closed) {
        while (!cache->is_dirty && !cache->is_closed)
            pthread_cond_wait(&cache->changed, &cache->mutex);
        if (cache->is_closed)
            break;
        write_snapshot(cache);
        pause_between(cache);
    }
    if (cache->is_dirty)
        write_snapshot(cache);
    pthread_mutex_unlock(&cache->mutex);
    return NULL;
}

bool forge__prompt_cache_keep(struct forge_prompt_cache *cache)
{
    cache->has_snapshot_thread = !forge__thread_start(&cache->snapshot_thread, snapshot_main, cache);
    return cache->has_snapshot_thread;
}

void forge__prompt_cache_keep_end(struct forge_prompt_cache *cache)
{
    if (cache->has_snapshot_thread)
        pthread_join(cache->snapshot_thread, NULL);
}
