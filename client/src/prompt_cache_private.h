/* What the files of the prompt cache share: answers, the table of entries, and the cache itself. */
#ifndef FORGE_CLIENT_PROMPT_CACHE_PRIVATE_H
#define FORGE_CLIENT_PROMPT_CACHE_PRIVATE_H

#include "forge/prompt_cache.h"
#include "forge/prompt_watch.h"
#include "wire/crypto.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- answers: immutable and counted; any thread ---- */

struct forge__prompt_value {
    atomic_uint refs;
    Forge__V1__Prompt *message; /* owned; NULL of a blend */
    Forge__V1__Prompt blend;    /* another version told by a label: points into the two below */
    struct forge__prompt_value *by_label, *by_version;
};
/* Takes the message, also on failure: NULL without memory. */
struct forge__prompt_value *forge__prompt_value_new(Forge__V1__Prompt *message);
/* The version's content with what the label's answer says beside it, as the server would tell it. NULL without memory. */
struct forge__prompt_value *forge__prompt_value_blend(struct forge__prompt_value *by_label, struct forge__prompt_value *by_version);
struct forge__prompt_value *forge__prompt_value_ref(struct forge__prompt_value *value);
void forge__prompt_value_unref(struct forge__prompt_value *value); /* accepts NULL */
const Forge__V1__Prompt *forge__prompt_value_message(const struct forge__prompt_value *value);

/* What an entry asks for: immutable and counted, because the snapshot is written without the mutex. */
struct forge__prompt_asked {
    atomic_uint refs;
    Forge__V1__GetPromptRequest *request; /* without subject: it decides nothing where weights are kept */
};
/* A copy of that request; NULL without memory. */
struct forge__prompt_asked *forge__prompt_asked_new(const Forge__V1__GetPromptRequest *whole);
struct forge__prompt_asked *forge__prompt_asked_ref(struct forge__prompt_asked *asked);
void forge__prompt_asked_unref(struct forge__prompt_asked *asked); /* accepts NULL */

/* ---- entries: what is known of one request; under the cache's mutex ---- */

struct forge__prompt_waiter;

struct forge__prompt_entry {
    uint8_t key[FORGE_SHA256_SIZE];            /* first: what the tree compares */
    struct forge__prompt_entry *newer, *older; /* by last use */
    struct forge__prompt_asked *asked;
    bool is_fixed;                        /* a version by number */
    struct forge__prompt_value *value;    /* NULL before the first answer */
    size_t bytes;                         /* what the value counts for; 0 without one */
    int64_t confirmed_ms;                 /* the cache's clock, when the call began that confirmed the value */
    bool is_invalid;                      /* something was told since; a version is only to be checked then */
    bool is_asked;                        /* a call is in flight: the entry stays where it is */
    bool is_overtaken;                    /* something was told since that call began */
    uint64_t pause_until_ms;              /* after a failure: not asked again before, if there is a value */
    struct forge__prompt_waiter *waiters; /* for that call */
};

struct forge__prompt_table {
    void *tree; /* of search.h */
    struct forge__prompt_entry *newest, *oldest;
    size_t count, bytes;
};
/* What identifies a request under a credential; the subject does not. False for a text that no server takes. */
bool forge__prompt_key(const uint8_t credential[FORGE_KEY_SIZE], const Forge__V1__GetPromptRequest *request,
                       uint8_t out[FORGE_SHA256_SIZE]) FORGE_MUST_CHECK;
struct forge__prompt_entry *forge__prompt_table_find(const struct forge__prompt_table *table, const uint8_t key[FORGE_SHA256_SIZE]);
/* A fresh entry with a copy of the request; NULL without memory. */
struct forge__prompt_entry *forge__prompt_table_add(struct forge__prompt_table *table, const uint8_t key[FORGE_SHA256_SIZE],
                                                    const Forge__V1__GetPromptRequest *request);
void forge__prompt_table_use(struct forge__prompt_table *table, struct forge__prompt_entry *entry);
/* value (a reference of the entry's, NULL = none) in place of the present one. */
void forge__prompt_table_set(struct forge__prompt_table *table, struct forge__prompt_entry *entry, struct forge__prompt_value *value);
/* Not while it is asked. */
void forge__prompt_table_remove(struct forge__prompt_table *table, struct forge__prompt_entry *entry);
/* Takes the value away, and the entry where no call holds it. */
void forge__prompt_table_drop(struct forge__prompt_table *table, struct forge__prompt_entry *entry);
/* Removes what was used longest ago until the rest fits; returns how many. */
size_t forge__prompt_table_shrink(struct forge__prompt_table *table, size_t bytes_max);

/* ---- the cache ---- */

struct forge__prompt_watched {
    struct forge__prompt_watched *next;
    struct forge_prompt_cache *cache;
    char *project_id;
    bool is_listing; /* of its thread */
    struct forge_prompt_watch *watch;
};

struct forge_prompt_cache {
    struct forge_channel *channel;
    struct forge_prompt_cache_options options; /* with the defaults filled in */
    char *snapshot_file;
    uint64_t (*now_ms)(void); /* monotonic; tests have their own, set before the first get */
    pthread_mutex_t mutex;    /* guards the rest; while it is held nothing is locked but the channel's */
    pthread_cond_t changed;   /* no callback runs any more; the snapshot is to be written, or its thread to end */
    unsigned refs;            /* the owner, calls in flight, waiting callers */
    bool is_closed;
    unsigned running; /* threads that call back */
    struct forge__prompt_table table;
    unsigned credential_epoch;
    uint8_t credential_key[FORGE_KEY_SIZE];
    unsigned failures;      /* of calls that found no server, since the last one that did */
    uint64_t away_until_ms; /* who has an answer does not call before */
    struct forge__prompt_watched *watched;
    pthread_t snapshot_thread;
    bool has_snapshot_thread;
    bool is_dirty; /* the snapshot is older than the table */
    struct forge_prompt_cache_stats stats;
};

/* Something in the table is new. Under the mutex. */
void forge__prompt_cache_touch(struct forge_prompt_cache *cache);

/* Reads the file into the table. Before other threads see the cache. */
void forge__prompt_cache_load(struct forge_prompt_cache *cache);
/* Starts the thread that writes it. False when there is none. */
bool forge__prompt_cache_keep(struct forge_prompt_cache *cache) FORGE_MUST_CHECK;
/* Joins that thread, which writes what is not written yet. The cache is closed. */
void forge__prompt_cache_keep_end(struct forge_prompt_cache *cache);
/* Ends the watches. */
void forge__prompt_cache_watch_end(struct forge_prompt_cache *cache);

#endif
