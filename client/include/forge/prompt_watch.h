/* Watches the prompts of a project: a thread that keeps one long poll going, goes on behind what it has been told on any server, begins
 * with a listing again where it must, and comes back with backoff when the server was away. For services that keep something of prompts
 * themselves; forge/prompt_cache.h watches by itself where it is asked to. */
#ifndef FORGE_PROMPT_WATCH_H
#define FORGE_PROMPT_WATCH_H

#include "forge/api.h"
#include "forge/channel.h"
#include "wire/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque; from forge_prompt_watch_open to forge_prompt_watch_close. */
struct forge_prompt_watch;

enum forge_prompt_event_kind {
    FORGE_PROMPT_LISTING =
        1,                /* a listing begins: what is not named as changed until FORGE_PROMPT_LISTED is gone, what is may have changed */
    FORGE_PROMPT_LISTED,  /* the listing has ended: from here on each change is told within a second */
    FORGE_PROMPT_CHANGED, /* prompt_id is new or changed, a label of it included; while listing: it exists */
    FORGE_PROMPT_DELETED, /* prompt_id is gone */
    FORGE_PROMPT_WATCH_FAILED /* a call failed with error; the next one comes by itself, with backoff */
};
struct forge_prompt_event {
    enum forge_prompt_event_kind kind;
    const char *prompt_id;           /* "" but for CHANGED and DELETED; as is error, it lives until the callback returns */
    const struct forge_error *error; /* NULL but for WATCH_FAILED */
};
/* Runs on the thread of the watch, one at a time; it may block and call, but not close the watch. A change is told at least once. */
typedef void (*forge_prompt_watch_event)(void *user, const struct forge_prompt_event *event);

/* Begins to watch; does not wait for a server. INVALID_ARGUMENT (a NULL), FAILED_PRECONDITION (after fork), RESOURCE_EXHAUSTED (memory, a
 * thread). What the server refuses (NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED) is told as an event, and asked again. */
FORGE_API forge_code forge_prompt_watch_open(struct forge_channel *channel, const char *project_id, forge_prompt_watch_event on_event,
                                             void *user, struct forge_prompt_watch **out, struct forge_error *error) FORGE_MUST_CHECK;
/* Ends it and waits for the callback that runs; the server forgets the call that waits there within 30 s. To be called before
 * forge_channel_close. Does nothing in a child of fork(). Accepts NULL. */
FORGE_API void forge_prompt_watch_close(struct forge_prompt_watch *watch);

#ifdef __cplusplus
}
#endif

#endif
