#include "span_scores.h"

#include <pthread.h>

enum { IN_FLIGHT_MAX = 64, SCORES_MAX = 1000 /* of a span */ };

/* Shared with the channel's thread, on which answers arrive; under lock. */
struct listing {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    unsigned in_flight;
    forge_code code; /* of the first call that failed */
    char message[FORGE_ERROR_MESSAGE_MAX];
};

struct slot {
    struct listing *listing;
    ProtobufCMessage **reply;
};

static void note_failure(struct listing *listing, forge_code code, const struct forge_error *error)
{
    if (listing->code != FORGE_OK)
        return;
    listing->code = code;
    snprintf(listing->message, sizeof listing->message, "%s", error->message);
}

static void take_answer(void *user, forge_code code, ProtobufCMessage *reply, const struct forge_error *error,
                        const struct forge_reply_info *info)
{
    struct slot *slot = user;
    struct listing *listing = slot->listing;
    (void)info;
    pthread_mutex_lock(&listing->lock);
    *slot->reply = reply;
    if (code != FORGE_OK)
        note_failure(listing, code, error);
    listing->in_flight--;
    pthread_cond_signal(&listing->answered);
    pthread_mutex_unlock(&listing->lock);
}

/* With the lock held: waits until fewer than so many calls are in flight. */
static void wait_below(struct listing *listing, unsigned count)
{
    while (listing->in_flight >= count)
        pthread_cond_wait(&listing->answered, &listing->lock);
}

static void start(struct cli *cli, struct listing *listing, struct slot *slot, const ProtobufCMessage *request)
{
    const struct forge_call_options options = {.timeout_ms = cli->timeout_ms, .fail_fast = true};
    struct forge_error error;
    pthread_mutex_lock(&listing->lock);
    wait_below(listing, IN_FLIGHT_MAX);
    bool goes_on = listing->code == FORGE_OK;
    listing->in_flight += goes_on;
    pthread_mutex_unlock(&listing->lock);
    if (!goes_on)
        return;
    forge_code code = forge_channel_call_async(cli->channel, &forge_methods[FORGE_METHOD_TRACE_LIST_SCORES], &options, request, take_answer,
                                               slot, &error);
    if (code == FORGE_OK)
        return;
    pthread_mutex_lock(&listing->lock);
    note_failure(listing, code, &error);
    listing->in_flight--;
    pthread_mutex_unlock(&listing->lock);
    forge_error_free(&error);
}

static void start_all(struct cli *cli, struct listing *listing, struct slot *slots, const char *project_id,
                      const Forge__V1__GetTraceResponse *page, ProtobufCMessage **out_replies)
{
    Forge__V1__ListScoresRequest request = FORGE__V1__LIST_SCORES_REQUEST__INIT;
    Forge__V1__SpanReference span = FORGE__V1__SPAN_REFERENCE__INIT;
    request.project_id = (char *)(uintptr_t)project_id;
    request.page_size = SCORES_MAX;
    request.target_case = FORGE__V1__LIST_SCORES_REQUEST__TARGET_SPAN;
    request.span = &span;
    for (size_t i = 0; i < page->n_spans; i++) {
        span.trace_id = page->spans[i]->span->trace_id;
        span.span_id = page->spans[i]->span->span_id;
        slots[i] = (struct slot){listing, &out_replies[i]};
        start(cli, listing, &slots[i], &request.base);
    }
}

int span_scores_list(struct cli *cli, const char *project_id, const Forge__V1__GetTraceResponse *page, ProtobufCMessage **out_replies)
{
    struct listing listing = {.lock = PTHREAD_MUTEX_INITIALIZER, .answered = PTHREAD_COND_INITIALIZER};
    struct slot *slots = forge_arena_calloc(&cli->arena, page->n_spans + 1, sizeof(*slots));
    if (!slots)
        return cli_fail(CLI_FAILED, "no memory");
    start_all(cli, &listing, slots, project_id, page, out_replies);
    pthread_mutex_lock(&listing.lock);
    wait_below(&listing, 1);
    pthread_mutex_unlock(&listing.lock);
    if (listing.code == FORGE_OK)
        return CLI_OK;
    return cli_fail(CLI_STATUS + (int)listing.code, "%s: %s", forge_code_name(listing.code), listing.message);
}
