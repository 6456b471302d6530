#include "channel_private.h"

#include <string.h>
#include <time.h>

enum { NS_PER_S = 1000000000 };

void forge__call_prepare_wait(struct forge__call *call, ProtobufCMessage **out_reply, struct forge_reply_info *info,
                              struct forge_error *error)
{
    struct forge__call_waiter *waiter = &call->waiter;
    call->is_sync = true;
    waiter->is_done = waiter->is_abandoned = false;
    waiter->out_reply = out_reply;
    waiter->info = info;
    waiter->error = error;
}

void forge__call_deliver(struct forge__call *call, forge_code code, ProtobufCMessage *reply, struct forge_error *error,
                         const struct forge_reply_info *info)
{
    struct forge__call_waiter *waiter = &call->waiter;
    pthread_mutex_lock(&waiter->mutex);
    bool is_abandoned = waiter->is_abandoned;
    if (!is_abandoned) {
        waiter->code = code;
        *waiter->info = *info;
        if (code != FORGE_OK) {
            *waiter->error = *error;
            error->violations = NULL;
            error->facts = NULL;
        }
        if (code == FORGE_OK && waiter->out_reply) {
            *waiter->out_reply = reply;
            reply = NULL;
        }
        waiter->is_done = true;
        pthread_cond_signal(&waiter->answered);
    }
    pthread_mutex_unlock(&waiter->mutex);
    if (reply)
        protobuf_c_message_free_unpacked(reply, NULL);
    if (is_abandoned)
        forge__call_release(call);
}

forge_code forge__call_deadline_error(struct forge__call *call, struct forge_error *error)
{
    char failure[FORGE__FAILURE_TEXT_MAX];
    forge__channel_get_failure(call->channel, failure);
    if (atomic_load(&call->was_sent))
        return forge_error_set(error, FORGE_DEADLINE_EXCEEDED, "no answer within %u ms", forge__call_timeout_ms(call));
    return forge_error_set(error, FORGE_DEADLINE_EXCEEDED, "no connection within %u ms%s%s", forge__call_timeout_ms(call),
                           failure[0] ? "; last failure: " : "", failure);
}

static forge_code give_up(struct forge__call *call)
{
    struct forge__call_waiter *waiter = &call->waiter;
    bool was_sent = atomic_load(&call->was_sent); /* after the deadline: see try_send */
    forge__call_deadline_error(call, waiter->error);
    waiter->error->outcome_unknown = was_sent;
    waiter->error->not_executed = !was_sent;
    memset(waiter->info, 0, sizeof *waiter->info);
    forge_uuid_format(&call->request_id, waiter->info->request_id);
    waiter->is_abandoned = true;
    return FORGE_DEADLINE_EXCEEDED;
}

forge_code forge__call_wait(struct forge__call *call)
{
    struct forge__call_waiter *waiter = &call->waiter;
    const struct timespec until = {.tv_sec = (time_t)(call->deadline_ns / NS_PER_S), .tv_nsec = (long)(call->deadline_ns % NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&waiter->mutex);
    while (!waiter->is_done && !rc)
        rc = pthread_cond_clockwait(&waiter->answered, &waiter->mutex, CLOCK_MONOTONIC, &until);
    bool is_done = waiter->is_done;
    forge_code code = is_done ? waiter->code : give_up(call);
    pthread_mutex_unlock(&waiter->mutex);
    if (is_done)
        forge__call_release(call); /* else deliver does: the object may be gone already */
    return code;
}
