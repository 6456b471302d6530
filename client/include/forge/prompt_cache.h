/* A cache of prompts in the process: what GetPrompt answers, without a call where nothing can have changed. From any number of threads.
 *
 * What is kept for how long:
 *   - a version that is asked for by number never changes: it stays until the space is needed. What is told beside it (name, description,
 *     tags, which version is current) is that of the last answer. Every check_ms, and when a watch begins with a listing, it is asked in
 *     the background whether the prompt is there and the credential good;
 *   - the current version and labels are answered for ttl_ms; for stale_ms more they are answered at once and asked for again in the
 *     background; after that the caller waits. A watch (forge_prompt_cache_watch) tells of changes within a second instead;
 *   - of a label the weights are kept and never a choice: each subject gets the version that the server would give it;
 *   - what the server has already said is not sent again (GetPromptRequest.known_etag), and of many who ask for the same only one calls.
 *
 * When the server cannot be asked (UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL ...), the last good answer is given, marked
 * as stale: versions without limit, labels and current for away_ms since the server last confirmed them. After a failure nobody who has an
 * answer waits again before a pause is over (1 s, up to 30 s).
 * When the server says no, it counts at once: NOT_FOUND drops the answer, PERMISSION_DENIED all of the project, UNAUTHENTICATED everything.
 * A service that makes no calls learns of it by the next refresh, by a check of a version (check_ms), or with a watch within 30 s.
 * Failures are not kept; those who waited for the same call share its failure.
 *
 * Answers belong to the channel's credential: forge_channel_set_token empties the cache. On disk (snapshot_file) they are encrypted and
 * authenticated under a key made of the credential, which itself is not stored: with another one, another list of addresses, or damaged,
 * the file is ignored. */
#ifndef FORGE_PROMPT_CACHE_H
#define FORGE_PROMPT_CACHE_H

#include "forge/api.h"
#include "forge/channel.h"
#include "forge/v1/prompt.pb-c.h"
#include "wire/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; from forge_prompt_cache_open to forge_prompt_cache_close. */
struct forge_prompt_cache;

/* Zero it, then set what differs from the default given in parentheses. */
struct forge_prompt_cache_options {
    size_t bytes_max;              /* of all answers as they are sent; beyond it what was not used for longest goes (64 MiB) */
    uint32_t ttl_ms;               /* of labels and current (60,000) */
    uint32_t stale_ms;             /* after ttl_ms: still answered at once (300,000) */
    uint32_t away_ms;              /* labels and current: how old an answer may become while the server is away (86,400,000: a day) */
    uint32_t check_ms;             /* of versions (600,000) */
    const char *snapshot_file;     /* where the answers are kept for the next start; NULL = nowhere. One file per process. Copied. */
    uint32_t snapshot_interval_ms; /* it is written in the background, not more often than this (60,000), and at the end */
};

/* Reads the snapshot, if there is one: a missing, damaged or foreign one is no error (forge_prompt_cache_stats). Waits for no server. The
 * channel must stay open as long as the cache. INVALID_ARGUMENT, FAILED_PRECONDITION (after fork), RESOURCE_EXHAUSTED. */
FORGE_API forge_code forge_prompt_cache_open(struct forge_channel *channel, const struct forge_prompt_cache_options *options,
                                             struct forge_prompt_cache **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Whoever waits gets CANCELLED; writes the snapshot. Answers that were given out stay until they are released. To be called before
 * forge_channel_close. Does nothing on a thread of the channel and in a child of fork(). Accepts NULL. */
FORGE_API void forge_prompt_cache_close(struct forge_prompt_cache *cache);

/* An answer. It never changes, and lives until it is released. */
struct forge_cached_prompt {
    const Forge__V1__Prompt *prompt; /* as GetPrompt tells it; shared: not to be changed or freed */
    bool is_stale;                   /* older than ttl_ms (check_ms) or told of by a watch, and not confirmed since */
    uint64_t age_ms;                 /* since the server last confirmed it */
    void *reference;                 /* of the library */
};

/* The prompt that request (id, or project_id and name; selector; subject) selects. Returns at once with what is there, else calls and
 * waits, at most timeout_ms (0 = the channel's default). as_of and known_etag must not be set. Inside a callback only what is there is
 * given: FAILED_PRECONDITION where it would have to wait. error may be NULL; it comes without violations and facts. Release *out with
 * forge_cached_prompt_release; untouched on failure. Codes: those of GetPrompt, INVALID_ARGUMENT, CANCELLED. */
FORGE_API forge_code forge_prompt_cache_get(struct forge_prompt_cache *cache, uint32_t timeout_ms,
                                            const Forge__V1__GetPromptRequest *request, struct forge_cached_prompt *out,
                                            struct forge_error *error) FORGE_MUST_CHECK;
/* Runs once: before forge_prompt_cache_get_async returns where the answer is there or no call can be made, else on a thread of the channel,
 * where it must not block, or of who closes the cache. It must not close the cache. prompt is NULL on failure; else *prompt may be copied
 * out and is to be released. */
typedef void (*forge_prompt_cache_done)(void *user, forge_code code, struct forge_cached_prompt *prompt, const struct forge_error *error);
/* The same without waiting; with the channel's default timeout. When this returns an error, done is never called. */
FORGE_API forge_code forge_prompt_cache_get_async(struct forge_prompt_cache *cache, const Forge__V1__GetPromptRequest *request,
                                                  forge_prompt_cache_done done, void *user, struct forge_error *error) FORGE_MUST_CHECK;
/* Any thread, also after the cache has been closed. Zeroes it; accepts a zeroed one. */
FORGE_API void forge_cached_prompt_release(struct forge_cached_prompt *prompt);

/* Watches a project, so that no changed label or current version of it is answered more than a second after the change. A project that is
 * watched already is OK. Ends with the cache. Errors as of forge_prompt_watch_open, and CANCELLED while the cache closes. */
FORGE_API forge_code forge_prompt_cache_watch(struct forge_prompt_cache *cache, const char *project_id,
                                              struct forge_error *error) FORGE_MUST_CHECK;

/* Since the cache was opened, but for entries and bytes: now. */
struct forge_prompt_cache_stats {
    uint64_t hits;         /* answered without waiting, stale ones included */
    uint64_t stale;        /* answers that were marked as stale */
    uint64_t misses;       /* had to wait for a call */
    uint64_t joined;       /* of these: for one that another had started */
    uint64_t calls;        /* made to the server */
    uint64_t not_modified; /* of these: answered without content */
    uint64_t failures;     /* of these: failed */
    uint64_t invalidated;  /* answers that a watch made invalid, had checked or dropped */
    uint64_t evicted;      /* answers that went for want of space */
    uint64_t entries, bytes;
    uint64_t snapshot_entries;  /* read from the snapshot */
    uint64_t snapshots_refused; /* 1: there was one, which was damaged, foreign or of another version */
    uint64_t snapshots_written;
    uint64_t snapshots_failed; /* could not be written */
};
/* Zeros in a child of fork(). */
FORGE_API void forge_prompt_cache_get_stats(struct forge_prompt_cache *cache, struct forge_prompt_cache_stats *out);

#ifdef __cplusplus
}
#endif

#endif
