/* Watches of the prompt cache: what they tell makes answers invalid. A version by number is not touched by a change, only by the end of its
 * prompt, and by a listing, which stands for whatever nobody told. */
#include "channel_private.h"
#include "prompt_cache_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The caller of forge_prompt_cache_watch may write the project's id in capitals. */
static bool is_of(const struct forge__prompt_entry *entry, const char *project_id, const char *prompt_id)
{
    const Forge__V1__Prompt *prompt = entry->value->message;
    return prompt_id ? strcmp(prompt->id, prompt_id) == 0 : strcasecmp(prompt->project_id, project_id) == 0;
}

/* prompt_id NULL: all of the project may have changed. A call in flight may have been answered before the change, whatever it asks for. */
static void invalidate(struct forge_prompt_cache *cache, const char *project_id, const char *prompt_id)
{
    pthread_mutex_lock(&cache->mutex);
    for (struct forge__prompt_entry *entry = cache->table.oldest; entry; entry = entry->newer) {
        if (entry->is_fixed && prompt_id)
            continue;
        entry->is_overtaken = entry->is_asked;
        if (!entry->value || entry->is_invalid || !is_of(entry, project_id, prompt_id))
            continue;
        entry->is_invalid = true;
        cache->stats.invalidated++;
    }
    pthread_mutex_unlock(&cache->mutex);
}

static void drop(struct forge_prompt_cache *cache, const char *project_id, const char *prompt_id)
{
    struct forge__prompt_entry *newer;
    pthread_mutex_lock(&cache->mutex);
    for (struct forge__prompt_entry *entry = cache->table.oldest; entry; entry = newer) {
        newer = entry->newer;
        entry->is_overtaken = entry->is_asked;
        if (!entry->value || !is_of(entry, project_id, prompt_id))
            continue;
        forge__prompt_table_drop(&cache->table, entry);
        cache->stats.invalidated++;
    }
    forge__prompt_cache_touch(cache);
    pthread_mutex_unlock(&cache->mutex);
}

/* The watch was refused: what it watched over is not to be told any more, as with a get that is refused. */
static void take_refusal(struct forge_prompt_cache *cache, const char *project_id, forge_code code)
{
    if (code == FORGE_NOT_FOUND || code == FORGE_PERMISSION_DENIED || code == FORGE_UNAUTHENTICATED)
        drop(cache, project_id, NULL);
}

static void on_event(void *user, const struct forge_prompt_event *event)
{
    struct forge__prompt_watched *watched = user;
    switch (event->kind) {
    case FORGE_PROMPT_LISTING:
        watched->is_listing = true;
        invalidate(watched->cache, watched->project_id, NULL); /* once for all that the listing names, and what it does not name */
        break;
    case FORGE_PROMPT_LISTED:
        watched->is_listing = false;
        break;
    case FORGE_PROMPT_CHANGED:
        if (!watched->is_listing)
            invalidate(watched->cache, watched->project_id, event->prompt_id);
        break;
    case FORGE_PROMPT_DELETED:
        drop(watched->cache, watched->project_id, event->prompt_id);
        break;
    case FORGE_PROMPT_WATCH_FAILED:
        take_refusal(watched->cache, watched->project_id, event->error->code);
        break;
    }
}

static bool is_watched(struct forge_prompt_cache *cache, const char *project_id)
{
    for (const struct forge__prompt_watched *watched = cache->watched; watched; watched = watched->next)
        if (strcasecmp(watched->project_id, project_id) == 0)
            return true;
    return false;
}

static void watched_free(struct forge__prompt_watched *watched)
{
    forge_prompt_watch_close(watched->watch);
    free(watched->project_id);
    free(watched);
}

forge_code forge_prompt_cache_watch(struct forge_prompt_cache *cache, const char *project_id, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    if (!cache || !project_id)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "cache or project_id is NULL");
    if (cache->channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the cache was opened before fork(): a child must open its own");
    pthread_mutex_lock(&cache->mutex);
    bool was_watched = is_watched(cache, project_id);
    pthread_mutex_unlock(&cache->mutex);
    if (was_watched)
        return FORGE_OK; /* without a thread, a call and a listing that would make all of the project invalid */
    struct forge__prompt_watched *watched = calloc(1, sizeof *watched);
    if (!watched)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the watch");
    watched->cache = cache;
    watched->project_id = strdup(project_id);
    forge_code code = watched->project_id ? forge_prompt_watch_open(cache->channel, project_id, on_event, watched, &watched->watch, error)
                                          : forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the watch");
    pthread_mutex_lock(&cache->mutex);
    if (code == FORGE_OK && cache->is_closed) /* nobody would end it */
        code = forge_error_set(error, FORGE_CANCELLED, "the prompt cache is closed");
    bool is_kept = code == FORGE_OK && !is_watched(cache, project_id); /* by another thread meanwhile */
    if (is_kept) {
        watched->next = cache->watched;
        cache->watched = watched;
    }
    pthread_mutex_unlock(&cache->mutex);
    if (!is_kept)
        watched_free(watched);
    return code;
}

void forge__prompt_cache_watch_end(struct forge_prompt_cache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    struct forge__prompt_watched *next, *watched = cache->watched;
    cache->watched = NULL;
    pthread_mutex_unlock(&cache->mutex);
    for (; watched; watched = next) {
        next = watched->next;
        watched_free(watched);
    }
}
