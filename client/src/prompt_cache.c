#include "forge/prompt_cache.h"

#include "channel_private.h"
#include "forge/calls.h"
#include "forge/split.h"
#include "prompt_cache_private.h"
#include "retry.h"
#include "wire/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    BYTES_DEFAULT = 64 << 20,
    TTL_DEFAULT_MS = 60000,
    STALE_DEFAULT_MS = 300000,
    AWAY_DEFAULT_MS = 86400000,
    CHECK_DEFAULT_MS = 600000,
    SNAPSHOT_INTERVAL_DEFAULT_MS = 60000
};

/* A get on its way: the first step finds what the request selects; where that is a split which gives the subject another version than the
 * answer tells, the second one finds that version. It waits in an entry, and is then owned by the call of that entry. */
struct forge__prompt_waiter {
    struct forge__prompt_waiter *next;
    struct forge__prompt_entry *entry; /* where it waits; NULL when nobody but its owner knows it; under the cache's mutex, as is next */
    struct forge_prompt_cache *cache;
    const Forge__V1__GetPromptRequest *request;
    struct forge__prompt_asked *asked; /* owns what request points to, once it waits; as subject_copy */
    char *subject_copy;
    const char *subject;
    uint32_t timeout_ms;
    bool takes_any;                      /* the last good answer, however old it may be (within away_ms) */
    bool needs_newer;                    /* came after something was told that the call it waits for may not have seen */
    struct forge_cached_prompt by_label; /* of the first step; zeroed before */
    char id[64];                         /* of the second step */
    forge_prompt_cache_done done;
    void *user;
};

/* A call in flight. */
struct flight {
    struct forge_prompt_cache *cache;
    struct forge__prompt_entry *entry;
    struct forge__prompt_value *known; /* NULL = none */
    unsigned credential_epoch;
    int64_t began_ms;
    uint32_t timeout_ms;
    bool fail_fast; /* who has an answer does not wait for a server that is not there */
};

enum found { FOUND, WAITS, WOULD_WAIT, REFUSED };

/* ---- the cache itself ---- */

static void cache_unref_locked(struct forge_prompt_cache *cache)
{
    bool is_last = --cache->refs == 0;
    pthread_mutex_unlock(&cache->mutex);
    if (!is_last)
        return;
    while (cache->table.oldest)
        forge__prompt_table_remove(&cache->table, cache->table.oldest);
    forge_cleanse(cache->credential_key, sizeof cache->credential_key);
    pthread_cond_destroy(&cache->changed);
    pthread_mutex_destroy(&cache->mutex);
    free(cache->snapshot_file);
    free(cache);
}

static void cache_unref(struct forge_prompt_cache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    cache_unref_locked(cache);
}

void forge__prompt_cache_touch(struct forge_prompt_cache *cache)
{
    cache->is_dirty = true;
    pthread_cond_broadcast(&cache->changed);
}

/* An entry without an answer is of the project that it asks for; by id alone it may be of any. Callers may write ids in capitals. */
static bool may_be_of(const struct forge__prompt_entry *entry, const char *project_id)
{
    const char *own = entry->value ? entry->value->message->project_id : entry->asked->request->project_id;
    return *own == '\0' || strcasecmp(own, project_id) == 0;
}

/* project_id NULL: everything. */
static void drop_where(struct forge_prompt_cache *cache, const char *project_id)
{
    struct forge__prompt_entry *newer;
    for (struct forge__prompt_entry *entry = cache->table.oldest; entry; entry = newer) {
        newer = entry->newer;
        if (!project_id || may_be_of(entry, project_id))
            forge__prompt_table_drop(&cache->table, entry);
    }
    forge__prompt_cache_touch(cache);
}

/* What the table holds of another credential than the one that calls are made with goes. */
static void follow_credential(struct forge_prompt_cache *cache)
{
    unsigned epoch = forge__channel_credential_epoch(cache->channel);
    if (epoch == cache->credential_epoch || epoch % 2)
        return;
    drop_where(cache, NULL);
    forge__channel_credential_key(cache->channel, cache->credential_key);
    cache->credential_epoch = epoch;
}

/* ---- how good an answer is; under the mutex ---- */

static uint32_t fresh_ms(const struct forge_prompt_cache *cache, const struct forge__prompt_entry *entry)
{
    return entry->is_fixed ? cache->options.check_ms : cache->options.ttl_ms;
}

static int64_t age_ms(const struct forge_prompt_cache *cache, const struct forge__prompt_entry *entry)
{
    int64_t age = (int64_t)cache->now_ms() - entry->confirmed_ms;
    return age > 0 ? age : 0;
}

static bool is_fresh(const struct forge_prompt_cache *cache, const struct forge__prompt_entry *entry)
{
    return entry->value && !entry->is_invalid && age_ms(cache, entry) < (int64_t)fresh_ms(cache, entry);
}

/* Good enough to be told at once. */
static bool is_servable(const struct forge_prompt_cache *cache, const struct forge__prompt_entry *entry)
{
    return entry->value &&
           (entry->is_fixed || (!entry->is_invalid && age_ms(cache, entry) < (int64_t)cache->options.ttl_ms + cache->options.stale_ms));
}

/* Good enough where nobody can be asked. */
static bool is_last_good(const struct forge_prompt_cache *cache, const struct forge__prompt_entry *entry)
{
    return entry->value && (entry->is_fixed || age_ms(cache, entry) < (int64_t)cache->options.away_ms);
}

/* Is it too soon after a failure to ask again? */
static bool is_paused(const struct forge_prompt_cache *cache, const struct forge__prompt_entry *entry)
{
    uint64_t now_ms = cache->now_ms();
    return now_ms < cache->away_until_ms || now_ms < entry->pause_until_ms;
}

static void take_answer(struct forge_prompt_cache *cache, struct forge__prompt_entry *entry, struct forge_cached_prompt *out)
{
    struct forge__prompt_value *value = forge__prompt_value_ref(entry->value);
    *out = (struct forge_cached_prompt){forge__prompt_value_message(value), !is_fresh(cache, entry), (uint64_t)age_ms(cache, entry), value};
}

/* ---- calls ---- */

static void on_reply(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                     const struct forge_reply_info *info);

/* Under the mutex: marks the entry as asked; the caller starts the call without it. NULL without memory. */
static struct flight *flight_new(struct forge_prompt_cache *cache, struct forge__prompt_entry *entry, uint32_t timeout_ms)
{
    struct flight *flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    *flight = (struct flight){.cache = cache,
                              .entry = entry,
                              .known = entry->value ? forge__prompt_value_ref(entry->value) : NULL,
                              .credential_epoch = cache->credential_epoch,
                              .began_ms = (int64_t)cache->now_ms(),
                              .timeout_ms = timeout_ms,
                              .fail_fast = is_last_good(cache, entry)};
    entry->is_asked = true;
    entry->is_overtaken = false;
    cache->refs++;
    cache->stats.calls++;
    return flight;
}

static void flight_start(struct flight *flight)
{
    const struct forge_call_options options = {.timeout_ms = flight->timeout_ms, .fail_fast = flight->fail_fast};
    Forge__V1__GetPromptRequest request = *flight->entry->asked->request; /* an entry that is asked stays */
    struct forge_error error;
    if (flight->known)
        request.known_etag = flight->known->message->reply_etag;
    if (forge_channel_call_async(flight->cache->channel, &forge_methods[FORGE_METHOD_PROMPT_GET], &options, &request.base, on_reply, flight,
                                 &error) != FORGE_OK)
        on_reply(flight, error.code, NULL, &error, NULL);
}

/* ---- one look at the table ---- */

static enum found refuse(struct forge_error *error, forge_code code, const char *text)
{
    forge_error_set(error, code, "%s", text);
    return REFUSED;
}

/* Under the mutex. Lets the waiter wait for the entry's call, and begins one where there is none. */
static enum found join(struct forge__prompt_waiter *waiter, struct forge__prompt_entry *entry, struct flight **out_flight,
                       struct forge_error *error)
{
    struct forge_prompt_cache *cache = waiter->cache;
    bool was_asked = entry->is_asked;
    if (!was_asked && !(*out_flight = flight_new(cache, entry, waiter->timeout_ms))) {
        if (!entry->value)
            forge__prompt_table_remove(&cache->table, entry);
        return refuse(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the call");
    }
    cache->stats.joined += was_asked;
    waiter->needs_newer = was_asked && entry->is_overtaken;
    waiter->entry = entry;
    waiter->next = entry->waiters;
    entry->waiters = waiter;
    return WAITS;
}

/* Under the mutex. From here on they are the caller's. */
static struct forge__prompt_waiter *take_waiters(struct forge__prompt_entry *entry)
{
    struct forge__prompt_waiter *waiters = entry->waiters;
    entry->waiters = NULL;
    for (struct forge__prompt_waiter *waiter = waiters; waiter; waiter = waiter->next)
        waiter->entry = NULL;
    return waiters;
}

/* Takes a waiter from where it waits. False when its answer is on the way. */
static bool leave(struct forge__prompt_waiter *waiter)
{
    pthread_mutex_lock(&waiter->cache->mutex);
    bool waits = waiter->entry != NULL;
    if (waits) {
        struct forge__prompt_waiter **at = &waiter->entry->waiters;
        while (*at != waiter)
            at = &(*at)->next;
        *at = waiter->next;
    }
    pthread_mutex_unlock(&waiter->cache->mutex);
    return waits;
}

/* Under the mutex. */
static enum found look_locked(struct forge__prompt_waiter *waiter, const Forge__V1__GetPromptRequest *request, bool may_wait,
                              struct forge_cached_prompt *out, struct flight **out_flight, struct forge_error *error)
{
    struct forge_prompt_cache *cache = waiter->cache;
    uint8_t key[FORGE_SHA256_SIZE];
    if (cache->is_closed)
        return refuse(error, FORGE_CANCELLED, "the prompt cache is closed");
    follow_credential(cache);
    if (!forge__prompt_key(cache->credential_key, request, key))
        return refuse(error, FORGE_INVALID_ARGUMENT, "id, project_id, name or label is too long");
    struct forge__prompt_entry *entry = forge__prompt_table_find(&cache->table, key);
    bool last_good_will_do = entry && is_last_good(cache, entry) && (is_paused(cache, entry) || waiter->takes_any);
    if (entry && (is_servable(cache, entry) || last_good_will_do)) {
        take_answer(cache, entry, out);
        forge__prompt_table_use(&cache->table, entry);
        if (out->is_stale && !entry->is_asked && !is_paused(cache, entry))
            *out_flight = flight_new(cache, entry, 0); /* without memory the next one does */
        return FOUND;
    }
    if (!may_wait)
        return WOULD_WAIT;
    if (!entry)
        entry = forge__prompt_table_add(&cache->table, key, request);
    return entry ? join(waiter, entry, out_flight, error) : refuse(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the prompt");
}

static enum found look(struct forge__prompt_waiter *waiter, const Forge__V1__GetPromptRequest *request, bool may_wait,
                       struct forge_cached_prompt *out, struct forge_error *error)
{
    struct flight *flight = NULL;
    pthread_mutex_lock(&waiter->cache->mutex);
    enum found found = look_locked(waiter, request, may_wait, out, &flight, error);
    pthread_mutex_unlock(&waiter->cache->mutex);
    if (flight)
        flight_start(flight); /* the waiter may be gone now */
    return found;
}

/* ---- the two steps ---- */

static bool is_second_step(const struct forge__prompt_waiter *waiter)
{
    return waiter->by_label.reference != NULL;
}

static Forge__V1__GetPromptRequest second_request(struct forge__prompt_waiter *waiter)
{
    Forge__V1__GetPromptRequest request = FORGE__V1__GET_PROMPT_REQUEST__INIT;
    request.id = waiter->id;
    request.selector_case = FORGE__V1__GET_PROMPT_REQUEST__SELECTOR_VERSION;
    request.version = forge_prompt_version_for(waiter->by_label.prompt, waiter->subject);
    return request;
}

/* Both steps have their answer. How old it is says that of the label: a version only gets its text from the other one. */
static enum found blend(struct forge__prompt_waiter *waiter, struct forge_cached_prompt *out, struct forge_error *error)
{
    struct forge__prompt_value *value = forge__prompt_value_blend(waiter->by_label.reference, out->reference);
    bool is_stale = waiter->by_label.is_stale || out->is_stale;
    uint64_t age = waiter->by_label.age_ms;
    forge_cached_prompt_release(&waiter->by_label);
    forge_cached_prompt_release(out);
    if (!value)
        return refuse(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the prompt");
    *out = (struct forge_cached_prompt){forge__prompt_value_message(value), is_stale, age, value};
    return FOUND;
}

/* From the answer of a step, *out, on. FOUND with *out the answer of the get. WOULD_WAIT: the second step is to be looked for. */
static enum found take_step(struct forge__prompt_waiter *waiter, struct forge_cached_prompt *out, struct forge_error *error)
{
    if (is_second_step(waiter))
        return blend(waiter, out, error);
    if (forge_prompt_version_for(out->prompt, waiter->subject) == out->prompt->version)
        return FOUND;
    snprintf(waiter->id, sizeof waiter->id, "%s", out->prompt->id);
    waiter->by_label = *out;
    return WOULD_WAIT;
}

static enum found run(struct forge__prompt_waiter *waiter, bool may_wait, struct forge_cached_prompt *out, struct forge_error *error)
{
    for (;;) {
        Forge__V1__GetPromptRequest second;
        if (is_second_step(waiter))
            second = second_request(waiter);
        enum found found = look(waiter, is_second_step(waiter) ? &second : waiter->request, may_wait, out, error);
        if (found == FOUND)
            found = take_step(waiter, out, error);
        else
            return found;
        if (found != WOULD_WAIT)
            return found;
    }
}

static void waiter_free(struct forge__prompt_waiter *waiter)
{
    forge_cached_prompt_release(&waiter->by_label);
    forge__prompt_asked_unref(waiter->asked);
    free(waiter->subject_copy);
    free(waiter);
}

static void finish(struct forge__prompt_waiter *waiter, forge_code code, struct forge_cached_prompt *prompt,
                   const struct forge_error *error)
{
    waiter->done(waiter->user, code, code == FORGE_OK ? prompt : NULL, error);
    waiter_free(waiter);
}

/* Goes on as far as it can without waiting again, or waits for the next call. */
static void go_on(struct forge__prompt_waiter *waiter)
{
    struct forge_cached_prompt prompt;
    struct forge_error error = {.code = FORGE_OK};
    enum found found = run(waiter, true, &prompt, &error);
    if (found == FOUND)
        finish(waiter, FORGE_OK, &prompt, &error);
    else if (found == REFUSED)
        finish(waiter, error.code, NULL, &error);
}

/* ---- replies ---- */

/* The server did not say no: it was not there, or had trouble of its own. */
static bool is_trouble(forge_code code)
{
    return code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED || code == FORGE_RESOURCE_EXHAUSTED || code == FORGE_INTERNAL ||
           code == FORGE_UNKNOWN || code == FORGE_ABORTED || code == FORGE_CANCELLED;
}

/* Where no server answers, none of the entries is asked for; with other trouble it is this entry's. */
static void note_trouble(struct forge_prompt_cache *cache, struct forge__prompt_entry *entry, forge_code code)
{
    uint32_t random;
    uint64_t now_ms = cache->now_ms();
    forge_random(&random, sizeof random);
    entry->pause_until_ms = now_ms + forge__dial_delay_ms(1, random);
    bool is_another = now_ms < cache->away_until_ms; /* of the same moment */
    if ((code == FORGE_UNAVAILABLE || code == FORGE_DEADLINE_EXCEEDED) && !is_another)
        cache->away_until_ms = now_ms + forge__dial_delay_ms(++cache->failures, random);
}

/* The server said no: what was answered before is not told any more. */
static void take_refusal(struct forge_prompt_cache *cache, struct forge__prompt_entry *entry, forge_code code)
{
    const char *project_id = entry->asked->request->project_id;
    char of_value[64];
    if (*project_id == '\0' && entry->value) {
        snprintf(of_value, sizeof of_value, "%s", entry->value->message->project_id);
        project_id = of_value;
    }
    forge__prompt_table_set(&cache->table, entry, NULL);
    if (code == FORGE_UNAUTHENTICATED)
        drop_where(cache, NULL);
    else if (code == FORGE_PERMISSION_DENIED && *project_id)
        drop_where(cache, project_id);
    forge__prompt_cache_touch(cache);
}

/* The answer of a call, whether it is kept or not. NULL: *error says why. */
static struct forge__prompt_value *value_of(struct flight *flight, Forge__V1__Prompt *reply, struct forge_error *error)
{
    struct forge__prompt_value *value = NULL;
    if (!reply->not_modified) {
        value = forge__prompt_value_new(reply);
        if (!value)
            forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the prompt");
        return value;
    }
    forge__v1__prompt__free_unpacked(reply, NULL);
    if (flight->known)
        value = forge__prompt_value_ref(flight->known);
    else
        forge_error_set(error, FORGE_INTERNAL, "the server says that what nobody knew has not changed");
    return value;
}

/* Under the mutex: into the entry, if it is still the credential's. */
static void keep(struct flight *flight, struct forge__prompt_value *value)
{
    struct forge_prompt_cache *cache = flight->cache;
    struct forge__prompt_entry *entry = flight->entry;
    cache->failures = 0;
    cache->away_until_ms = 0;
    cache->stats.not_modified += value == flight->known;
    if (flight->credential_epoch != forge__channel_credential_epoch(cache->channel) || cache->is_closed)
        return;
    entry->pause_until_ms = 0;
    if (entry->is_overtaken && !entry->value)
        return; /* dropped meanwhile, or it was nothing yet when all was dropped: the next one is to ask */
    if (value != entry->value)
        forge__prompt_table_set(&cache->table, entry, forge__prompt_value_ref(value));
    entry->confirmed_ms = flight->began_ms;
    entry->is_invalid = entry->is_overtaken;
    forge__prompt_cache_touch(cache);
}

/* Under the mutex. The answer that waiters of this entry get although the call failed, if there is one. */
static bool take_failure(struct flight *flight, struct forge_error *error, struct forge_cached_prompt *out)
{
    struct forge_prompt_cache *cache = flight->cache;
    struct forge__prompt_entry *entry = flight->entry;
    cache->stats.failures++;
    if (flight->credential_epoch != forge__channel_credential_epoch(cache->channel))
        return false;
    if (!is_trouble(error->code)) {
        cache->failures = 0;
        cache->away_until_ms = 0;
        take_refusal(cache, entry, error->code);
        return false;
    }
    note_trouble(cache, entry, error->code);
    if (!is_last_good(cache, entry))
        return false;
    take_answer(cache, entry, out);
    return true;
}

static void end_flight(struct flight *flight)
{
    struct forge_prompt_cache *cache = flight->cache;
    struct forge__prompt_entry *entry = flight->entry;
    entry->is_asked = false;
    if (!entry->value)
        forge__prompt_table_remove(&cache->table, entry);
    cache->stats.evicted += forge__prompt_table_shrink(&cache->table, cache->options.bytes_max);
}

/* Hands what came to those who wait. *prompt: reference NULL = error. */
static void answer_waiters(struct forge__prompt_waiter *waiters, const struct forge_cached_prompt *prompt, struct forge_error *error)
{
    struct forge__prompt_waiter *next;
    for (struct forge__prompt_waiter *waiter = waiters; waiter; waiter = next) {
        next = waiter->next;
        if (!prompt->reference) {
            finish(waiter, error->code, NULL, error);
            continue;
        }
        if (waiter->needs_newer && !prompt->is_stale) {
            go_on(waiter);
            continue;
        }
        struct forge_cached_prompt own = *prompt;
        forge__prompt_value_ref(own.reference);
        enum found found = take_step(waiter, &own, error);
        if (found == FOUND)
            finish(waiter, FORGE_OK, &own, error);
        else if (found == REFUSED)
            finish(waiter, error->code, NULL, error);
        else
            go_on(waiter);
    }
}

static void on_reply(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                     const struct forge_reply_info *info)
{
    struct flight *flight = user;
    struct forge_prompt_cache *cache = flight->cache;
    struct forge_cached_prompt prompt = {.reference = NULL};
    struct forge_error own = *error;
    own.violations = NULL; /* they end with this callback */
    own.violation_count = 0;
    own.facts = NULL;
    struct forge__prompt_value *value = code == FORGE_OK ? value_of(flight, (Forge__V1__Prompt *)reply, &own) : NULL;
    pthread_mutex_lock(&cache->mutex);
    struct forge__prompt_waiter *waiters = take_waiters(flight->entry);
    if (value) {
        keep(flight, value);
        prompt = (struct forge_cached_prompt){forge__prompt_value_message(value), false,
                                              (uint64_t)((int64_t)cache->now_ms() - flight->began_ms), value};
    } else {
        take_failure(flight, &own, &prompt);
    }
    end_flight(flight);
    cache->running++;
    pthread_mutex_unlock(&cache->mutex);
    answer_waiters(waiters, &prompt, &own);
    forge__prompt_value_unref(prompt.reference);
    forge__prompt_value_unref(flight->known);
    free(flight);
    pthread_mutex_lock(&cache->mutex);
    cache->running--;
    pthread_cond_broadcast(&cache->changed);
    cache_unref_locked(cache);
}

/* ---- get ---- */

static forge_code check_get(const struct forge_prompt_cache *cache, const Forge__V1__GetPromptRequest *request, const void *out,
                            struct forge_error *error)
{
    memset(error, 0, sizeof *error);
    if (!cache || !request || !out)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "cache, request, out or done is NULL");
    if (cache->channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the cache was opened before fork(): a child must open its own");
    if (request->as_of || *request->known_etag)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "as_of and known_etag are for GetPrompt itself");
    return FORGE_OK;
}

/* A waiter that lives longer than its caller's request. */
static struct forge__prompt_waiter *waiter_new(const struct forge__prompt_waiter *tried, forge_prompt_cache_done done, void *user)
{
    struct forge__prompt_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        return NULL;
    waiter->cache = tried->cache;
    waiter->timeout_ms = tried->timeout_ms;
    waiter->done = done;
    waiter->user = user;
    waiter->asked = forge__prompt_asked_new(tried->request);
    waiter->subject_copy = strdup(tried->subject);
    if (!waiter->asked || !waiter->subject_copy) {
        waiter_free(waiter);
        return NULL;
    }
    waiter->request = waiter->asked->request;
    waiter->subject = waiter->subject_copy;
    return waiter;
}

static void count(struct forge_prompt_cache *cache, bool is_hit, bool is_stale)
{
    pthread_mutex_lock(&cache->mutex);
    cache->stats.hits += is_hit;
    cache->stats.misses += !is_hit;
    cache->stats.stale += is_stale;
    pthread_mutex_unlock(&cache->mutex);
}

/* What is there without waiting. */
static enum found try_get(struct forge__prompt_waiter *waiter, struct forge_cached_prompt *out, struct forge_error *error)
{
    struct forge_cached_prompt prompt;
    enum found found = run(waiter, false, &prompt, error);
    forge_cached_prompt_release(&waiter->by_label);
    if (found == FOUND) {
        count(waiter->cache, true, prompt.is_stale);
        *out = prompt;
    }
    return found;
}

forge_code forge_prompt_cache_get_async(struct forge_prompt_cache *cache, const Forge__V1__GetPromptRequest *request,
                                        forge_prompt_cache_done done, void *user, struct forge_error *error)
{
    struct forge_error unused;
    struct forge_cached_prompt prompt;
    error = error ? error : &unused;
    forge_code code = check_get(cache, request, (const void *)(uintptr_t)done, error);
    if (code != FORGE_OK)
        return code;
    struct forge__prompt_waiter tried = {.cache = cache, .request = request, .subject = request->subject};
    enum found found = try_get(&tried, &prompt, error);
    if (found == REFUSED)
        return error->code;
    if (found == FOUND) {
        done(user, FORGE_OK, &prompt, error);
        return FORGE_OK;
    }
    struct forge__prompt_waiter *waiter = waiter_new(&tried, done, user);
    if (!waiter)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the call");
    count(cache, false, false);
    go_on(waiter);
    return FORGE_OK;
}

/* ---- waiting for it ---- */

struct sync_get {
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    bool is_done;
    bool is_abandoned; /* the caller has left at its deadline */
    forge_code code;
    struct forge_cached_prompt prompt;
    struct forge_error error;
};

static void sync_free(struct sync_get *get)
{
    pthread_cond_destroy(&get->answered);
    pthread_mutex_destroy(&get->mutex);
    free(get);
}

static void sync_done(void *user, forge_code code, struct forge_cached_prompt *prompt, const struct forge_error *error)
{
    struct sync_get *get = user;
    pthread_mutex_lock(&get->mutex);
    get->code = code;
    get->error = *error;
    if (prompt)
        get->prompt = *prompt;
    get->is_done = true;
    bool is_abandoned = get->is_abandoned;
    pthread_cond_signal(&get->answered);
    pthread_mutex_unlock(&get->mutex);
    if (!is_abandoned)
        return;
    forge_cached_prompt_release(&get->prompt);
    sync_free(get);
}

/* False: the deadline came first. The waiter leaves with its caller: who comes again and again while a server is slow would else pile them
 * up. Where its answer is on the way already, the get is sync_done's to free. Until is_done is seen the waiter is there. */
static bool sync_wait(struct sync_get *get, struct forge__prompt_waiter *waiter, uint32_t timeout_ms)
{
    uint64_t until_ns = forge_clock_monotonic_ns() + timeout_ms * UINT64_C(1000000);
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    int rc = 0;
    pthread_mutex_lock(&get->mutex);
    while (!get->is_done && !rc)
        rc = pthread_cond_clockwait(&get->answered, &get->mutex, CLOCK_MONOTONIC, &until);
    bool is_done = get->is_done, has_left = !is_done && leave(waiter);
    get->is_abandoned = !is_done;
    pthread_mutex_unlock(&get->mutex);
    if (has_left) {
        waiter_free(waiter);
        sync_free(get);
    }
    return is_done;
}

/* The deadline is over: the last good answer, or none. */
static forge_code last_good(struct forge__prompt_waiter *tried, uint32_t timeout_ms, struct forge_cached_prompt *out,
                            struct forge_error *error)
{
    tried->takes_any = true;
    struct forge_cached_prompt prompt;
    enum found found = run(tried, false, &prompt, error);
    forge_cached_prompt_release(&tried->by_label);
    if (found == REFUSED)
        return error->code;
    if (found != FOUND)
        return forge_error_set(error, FORGE_DEADLINE_EXCEEDED, "no answer within %u ms", timeout_ms);
    *out = prompt;
    return FORGE_OK;
}

/* Like a call, it holds the cache until it returns, also when that is closed meanwhile. */
static forge_code wait_for(struct forge__prompt_waiter *tried, uint32_t timeout_ms, struct forge_cached_prompt *out,
                           struct forge_error *error)
{
    struct sync_get *get = calloc(1, sizeof *get);
    struct forge__prompt_waiter *waiter = get ? waiter_new(tried, sync_done, get) : NULL;
    if (!waiter) {
        free(get);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the call");
    }
    pthread_mutex_init(&get->mutex, NULL);
    pthread_cond_init(&get->answered, NULL);
    go_on(waiter);
    if (!sync_wait(get, waiter, timeout_ms))
        return last_good(tried, timeout_ms, out, error);
    forge_code code = get->code;
    if (code == FORGE_OK)
        *out = get->prompt;
    else
        *error = get->error;
    sync_free(get);
    return code;
}

forge_code forge_prompt_cache_get(struct forge_prompt_cache *cache, uint32_t timeout_ms, const Forge__V1__GetPromptRequest *request,
                                  struct forge_cached_prompt *out, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    forge_code code = check_get(cache, request, out, error);
    if (code != FORGE_OK)
        return code;
    if (timeout_ms > FORGE__TIMEOUT_MS_MAX)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "timeout_ms is %u, the limit is %d", timeout_ms, FORGE__TIMEOUT_MS_MAX);
    uint32_t default_ms = cache->channel->default_timeout_ms, wait_ms = timeout_ms ? timeout_ms : default_ms;
    struct forge__prompt_waiter tried = {.cache = cache,
                                         .request = request,
                                         .subject = request->subject,
                                         .timeout_ms = wait_ms > default_ms ? wait_ms : default_ms}; /* others may wait for it too */
    enum found found = try_get(&tried, out, error);
    if (found != WOULD_WAIT)
        return found == FOUND ? FORGE_OK : error->code;
    if (forge_loop_current())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "waiting inside a callback would wait for itself");
    pthread_mutex_lock(&cache->mutex);
    cache->refs++;
    pthread_mutex_unlock(&cache->mutex);
    count(cache, false, false);
    code = wait_for(&tried, wait_ms, out, error);
    if (code == FORGE_OK && out->is_stale) {
        pthread_mutex_lock(&cache->mutex);
        cache->stats.stale++;
        pthread_mutex_unlock(&cache->mutex);
    }
    cache_unref(cache);
    return code;
}

void forge_cached_prompt_release(struct forge_cached_prompt *prompt)
{
    if (!prompt)
        return;
    forge__prompt_value_unref(prompt->reference);
    *prompt = (struct forge_cached_prompt){.prompt = NULL};
}

/* ---- open, close, statistics ---- */

static void take_options(struct forge_prompt_cache *cache, const struct forge_prompt_cache_options *options)
{
    struct forge_prompt_cache_options *own = &cache->options;
    if (options)
        *own = *options;
    own->snapshot_file = NULL;
    own->bytes_max = own->bytes_max ? own->bytes_max : BYTES_DEFAULT;
    own->ttl_ms = own->ttl_ms ? own->ttl_ms : TTL_DEFAULT_MS;
    own->stale_ms = own->stale_ms ? own->stale_ms : STALE_DEFAULT_MS;
    own->away_ms = own->away_ms ? own->away_ms : AWAY_DEFAULT_MS;
    own->check_ms = own->check_ms ? own->check_ms : CHECK_DEFAULT_MS;
    own->snapshot_interval_ms = own->snapshot_interval_ms ? own->snapshot_interval_ms : SNAPSHOT_INTERVAL_DEFAULT_MS;
}

static forge_code open_snapshot(struct forge_prompt_cache *cache, const char *file, struct forge_error *error)
{
    cache->snapshot_file = strdup(file);
    if (!cache->snapshot_file)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the prompt cache");
    forge__prompt_cache_load(cache);
    if (!forge__prompt_cache_keep(cache))
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no thread for the snapshot");
    return FORGE_OK;
}

forge_code forge_prompt_cache_open(struct forge_channel *channel, const struct forge_prompt_cache_options *options,
                                   struct forge_prompt_cache **out, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    if (!channel || !out)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "channel or out is NULL");
    if (channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the channel was opened before fork(): a child must open its own");
    struct forge_prompt_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the prompt cache");
    cache->channel = channel;
    cache->now_ms = forge_clock_monotonic_ms;
    cache->refs = 1;
    pthread_mutex_init(&cache->mutex, NULL);
    pthread_cond_init(&cache->changed, NULL);
    take_options(cache, options);
    do { /* both or neither: a token that is being set now empties the cache at the first get */
        cache->credential_epoch = forge__channel_credential_epoch(channel);
        forge__channel_credential_key(channel, cache->credential_key);
    } while (cache->credential_epoch != forge__channel_credential_epoch(channel));
    forge_code code = options && options->snapshot_file ? open_snapshot(cache, options->snapshot_file, error) : FORGE_OK;
    if (code != FORGE_OK) {
        cache_unref(cache);
        return code;
    }
    *out = cache;
    return FORGE_OK;
}

/* Under the mutex: everybody who waits for a call. The calls themselves end later. */
static struct forge__prompt_waiter *all_waiters(struct forge_prompt_cache *cache)
{
    struct forge__prompt_waiter *all = NULL, *next;
    for (struct forge__prompt_entry *entry = cache->table.oldest; entry; entry = entry->newer) {
        for (struct forge__prompt_waiter *waiter = take_waiters(entry); waiter; waiter = next) {
            next = waiter->next;
            waiter->next = all;
            all = waiter;
        }
    }
    return all;
}

void forge_prompt_cache_close(struct forge_prompt_cache *cache)
{
    if (!cache || cache->channel->fork_generation != forge__fork_generation() || forge__channel_current_shard(cache->channel))
        return;
    const struct forge_cached_prompt none = {.reference = NULL};
    struct forge_error error = {.code = FORGE_OK};
    pthread_mutex_lock(&cache->mutex);
    cache->is_closed = true;
    pthread_cond_broadcast(&cache->changed);
    struct forge__prompt_waiter *waiters = all_waiters(cache);
    pthread_mutex_unlock(&cache->mutex);
    forge__prompt_cache_watch_end(cache);
    forge_error_set(&error, FORGE_CANCELLED, "the prompt cache is closed");
    answer_waiters(waiters, &none, &error);
    forge__prompt_cache_keep_end(cache);
    pthread_mutex_lock(&cache->mutex);
    while (cache->running)
        pthread_cond_wait(&cache->changed, &cache->mutex);
    cache_unref_locked(cache);
}

void forge_prompt_cache_get_stats(struct forge_prompt_cache *cache, struct forge_prompt_cache_stats *out)
{
    *out = (struct forge_prompt_cache_stats){.hits = 0};
    if (cache->channel->fork_generation != forge__fork_generation())
        return;
    pthread_mutex_lock(&cache->mutex);
    *out = cache->stats;
    out->entries = cache->table.count;
    out->bytes = cache->table.bytes;
    pthread_mutex_unlock(&cache->mutex);
}
