#include "forge/prompt_watch.h"

#include "channel_private.h"
#include "forge/calls.h"
#include "retry.h"
#include "thread.h"
#include "wire/clock.h"
#include "wire/crypto.h"

#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 30000, CALL_TIMEOUT_MS = WAIT_MS + 10000 };

struct forge_prompt_watch {
    struct forge_channel *channel;
    forge_prompt_watch_event on_event;
    void *user;
    pthread_t thread;
    char *project_id;
    char *token;           /* of the thread, as are the next two */
    bool is_listing;       /* in the middle of one */
    unsigned failures;     /* since the last answer */
    pthread_mutex_t mutex; /* guards the fields below */
    pthread_cond_t changed;
    unsigned refs; /* the owner, and the call in flight */
    bool is_closed;
    bool is_answered;
    Forge__V1__WatchPromptsResponse *reply; /* NULL: error */
    struct forge_error error;               /* without violations and metadata */
};

static void watch_unref(struct forge_prompt_watch *watch)
{
    pthread_mutex_lock(&watch->mutex);
    bool is_last = --watch->refs == 0;
    pthread_mutex_unlock(&watch->mutex);
    if (!is_last)
        return;
    if (watch->reply)
        forge__v1__watch_prompts_response__free_unpacked(watch->reply, NULL);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->mutex);
    free(watch->project_id);
    free(watch->token);
    free(watch);
}

static void tell(struct forge_prompt_watch *watch, enum forge_prompt_event_kind kind, const char *prompt_id,
                 const struct forge_error *error)
{
    const struct forge_prompt_event event = {kind, prompt_id, error};
    watch->on_event(watch->user, &event);
}

/* ---- one call ---- */

static void on_reply(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                     const struct forge_reply_info *info)
{
    struct forge_prompt_watch *watch = user;
    pthread_mutex_lock(&watch->mutex);
    watch->reply = (Forge__V1__WatchPromptsResponse *)reply;
    watch->error = *error;
    watch->error.violations = NULL;
    watch->error.violation_count = 0;
    watch->error.facts = NULL;
    watch->is_answered = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    watch_unref(watch);
}

static void start_call(struct forge_prompt_watch *watch)
{
    const struct forge_call_options options = {.timeout_ms = CALL_TIMEOUT_MS};
    Forge__V1__WatchPromptsRequest request = FORGE__V1__WATCH_PROMPTS_REQUEST__INIT;
    struct forge_error error;
    request.project_id = watch->project_id;
    if (watch->token)
        request.resume_token = watch->token;
    request.wait_ms = WAIT_MS;
    pthread_mutex_lock(&watch->mutex);
    watch->refs++;
    watch->is_answered = false;
    pthread_mutex_unlock(&watch->mutex);
    if (forge_channel_call_async(watch->channel, &forge_methods[FORGE_METHOD_PROMPT_WATCH], &options, &request.base, on_reply, watch,
                                 &error) != FORGE_OK)
        on_reply(watch, error.code, NULL, &error, NULL);
}

/* False: closed. The reply is the caller's, NULL: error. */
static bool wait_for_answer(struct forge_prompt_watch *watch, Forge__V1__WatchPromptsResponse **out_reply, struct forge_error *error)
{
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_answered && !watch->is_closed)
        pthread_cond_wait(&watch->changed, &watch->mutex);
    bool goes_on = !watch->is_closed;
    if (goes_on) {
        *out_reply = watch->reply;
        *error = watch->error;
        watch->reply = NULL;
    }
    pthread_mutex_unlock(&watch->mutex);
    return goes_on;
}

/* ---- what it says ---- */

static void tell_reply(struct forge_prompt_watch *watch, const Forge__V1__WatchPromptsResponse *reply)
{
    if (reply->listing && !watch->is_listing)
        tell(watch, FORGE_PROMPT_LISTING, "", NULL);
    for (size_t i = 0; i < reply->n_changes; i++) {
        const Forge__V1__PromptChange *change = reply->changes[i];
        bool is_deleted = change->kind == FORGE__V1__PROMPT_CHANGE_KIND__PROMPT_CHANGE_KIND_DELETED;
        tell(watch, is_deleted ? FORGE_PROMPT_DELETED : FORGE_PROMPT_CHANGED, change->prompt_id, NULL);
    }
    watch->is_listing = reply->listing && reply->more;
    if (reply->listing && !reply->more)
        tell(watch, FORGE_PROMPT_LISTED, "", NULL);
}

/* The new token is in force when what came with it has been told. */
static void take_reply(struct forge_prompt_watch *watch, Forge__V1__WatchPromptsResponse *reply)
{
    tell_reply(watch, reply);
    char *token = strdup(reply->resume_token);
    if (token) { /* else it is told again */
        free(watch->token);
        watch->token = token;
    }
    watch->failures = 0;
    forge__v1__watch_prompts_response__free_unpacked(reply, NULL);
}

/* False: closed meanwhile. */
static bool back_off(struct forge_prompt_watch *watch)
{
    uint32_t random;
    forge_random(&random, sizeof random);
    uint64_t until_ms = forge_clock_monotonic_ms() + forge__dial_delay_ms(++watch->failures, random);
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_closed && forge__wait_until(&watch->changed, &watch->mutex, until_ms))
        continue;
    bool goes_on = !watch->is_closed;
    pthread_mutex_unlock(&watch->mutex);
    return goes_on;
}

static void *watch_main(void *argument)
{
    struct forge_prompt_watch *watch = argument;
    Forge__V1__WatchPromptsResponse *reply;
    struct forge_error error;
    for (;;) {
        start_call(watch);
        if (!wait_for_answer(watch, &reply, &error))
            return NULL;
        if (reply) {
            take_reply(watch, reply);
            continue;
        }
        if (error.code == FORGE_INVALID_ARGUMENT && watch->token) { /* a token that this server does not know begins anew */
            free(watch->token);
            watch->token = NULL;
            watch->is_listing = false;
        }
        tell(watch, FORGE_PROMPT_WATCH_FAILED, "", &error);
        if (!back_off(watch))
            return NULL;
    }
}

/* ---- open and close ---- */

forge_code forge_prompt_watch_open(struct forge_channel *channel, const char *project_id, forge_prompt_watch_event on_event, void *user,
                                   struct forge_prompt_watch **out, struct forge_error *error)
{
    struct forge_error unused;
    error = error ? error : &unused;
    memset(error, 0, sizeof *error);
    if (!channel || !project_id || !on_event || !out)
        return forge_error_set(error, FORGE_INVALID_ARGUMENT, "channel, project_id, on_event or out is NULL");
    if (channel->fork_generation != forge__fork_generation())
        return forge_error_set(error, FORGE_FAILED_PRECONDITION, "the channel was opened before fork(): a child must open its own");
    struct forge_prompt_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory for the watch");
    watch->channel = channel;
    watch->on_event = on_event;
    watch->user = user;
    watch->refs = 1;
    pthread_mutex_init(&watch->mutex, NULL);
    pthread_cond_init(&watch->changed, NULL);
    watch->project_id = strdup(project_id);
    if (!watch->project_id || forge__thread_start(&watch->thread, watch_main, watch)) {
        watch_unref(watch);
        return forge_error_set(error, FORGE_RESOURCE_EXHAUSTED, "no memory or no thread for the watch");
    }
    *out = watch;
    return FORGE_OK;
}

void forge_prompt_watch_close(struct forge_prompt_watch *watch)
{
    if (!watch || watch->channel->fork_generation != forge__fork_generation())
        return;
    pthread_mutex_lock(&watch->mutex);
    watch->is_closed = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    pthread_join(watch->thread, NULL);
    watch_unref(watch);
}
