/* Executions: they have no name, so equal ones are counted. */
#include "apply.h"
#include "apply_fields.h"

#include <string.h>

enum { BATCH = 1000 };

typedef Forge__V1__RecordExecutionRequest execution_request;

static const execution_request *request_of(const struct manifest_object *member)
{
    return (const execution_request *)member->request;
}

/* How many of version and execute_time the manifest gives. Those with more of them choose first among what the server has. */
static unsigned precision(const struct manifest_object *member)
{
    const execution_request *wanted = request_of(member);
    return (wanted->version != 0) + (wanted->execute_time != NULL);
}

/* The server keeps times to the microsecond. */
static bool is_same_time(const Google__Protobuf__Timestamp *a, const Google__Protobuf__Timestamp *b)
{
    return b && a->seconds == b->seconds && a->nanos / 1000 == b->nanos / 1000;
}

static bool is_same_execution(const execution_request *wanted, const Forge__V1__Execution *found)
{
    bool success = !wanted->success || wanted->success->value;
    return (!wanted->version || wanted->version == found->version) && wanted->rating == found->rating && success == (bool)found->success &&
           !strcmp(wanted->notes, found->notes) && (!wanted->execute_time || is_same_time(wanted->execute_time, found->execute_time));
}

/* Takes one that is the same out of what the server has. */
static bool take(const execution_request *wanted, ProtobufCMessage **found, size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        if (!is_same_execution(wanted, (const Forge__V1__Execution *)found[i]))
            continue;
        found[i] = found[--*count];
        return true;
    }
    return false;
}

/* Puts the members that the server does not have first, in the order of the manifest. */
static bool find_missing(struct apply *apply, struct apply_object *object, ProtobufCMessage **found, size_t count)
{
    bool *is_there = forge_arena_calloc(&apply->cli->arena, object->member_count, sizeof(*is_there));
    if (!is_there)
        return false;
    for (unsigned given = 3; given-- > 0;)
        for (size_t i = 0; i < object->member_count; i++)
            if (precision(object->members[i]) == given)
                is_there[i] = take(request_of(object->members[i]), found, &count);
    for (size_t i = 0; i < object->member_count; i++)
        if (!is_there[i])
            object->members[object->missing_count++] = object->members[i];
    return true;
}

static const struct apply_object *find_same_prompt(const struct apply *apply, const struct apply_object *object)
{
    const struct apply_object *other = apply->objects;
    while (other != object && (other->kind != object->kind || other->references[1] != object->references[1]))
        other = other->next;
    return other;
}

int apply_plan_executions(struct apply *apply, struct apply_object *object)
{
    const struct apply_object *prompt = object->references[1];
    Forge__V1__ListExecutionsRequest request = FORGE__V1__LIST_EXECUTIONS_REQUEST__INIT;
    ProtobufCMessage **found = NULL;
    size_t count = 0;
    if (find_same_prompt(apply, object) != object) {
        manifest_add_problem(&apply->manifest, &object->manifest->position,
                             "executions of prompt \"%.255s\" stand with and without its project", object->name);
        return CLI_OK;
    }
    field_set_text(&request.base, "prompt_id", prompt->id);
    int code = prompt->id ? apply_list(apply, object->kind->lookup, &request.base, &found, &count) : CLI_OK;
    if (code != CLI_OK)
        return code;
    object->found_count = count;
    if (!find_missing(apply, object, found, count))
        return cli_fail(CLI_FAILED, "no memory");
    object->action = object->missing_count ? APPLY_CREATE : APPLY_UNCHANGED;
    size_t told = object->missing_count ? object->missing_count : object->member_count;
    object->details = forge_arena_printf(&apply->cli->arena, "%zu", told);
    return object->details ? CLI_OK : cli_fail(CLI_FAILED, "no memory");
}

static int check_verdicts(const struct apply_object *object, const Forge__V1__RecordExecutionsResponse *reply, size_t first)
{
    int code = CLI_OK;
    for (size_t i = 0; i < reply->n_results; i++) {
        int rejection = apply_check_verdict(&object->members[first + i]->position, "", reply->results[i]->verdict);
        code = rejection != CLI_OK ? rejection : code;
    }
    return code;
}

static int record(struct apply *apply, const struct apply_object *object, size_t first, size_t count)
{
    Forge__V1__RecordExecutionsRequest request = FORGE__V1__RECORD_EXECUTIONS_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.requests = forge_arena_calloc(&apply->cli->arena, count, sizeof(*request.requests));
    for (; request.requests && request.n_requests < count; request.n_requests++) {
        ProtobufCMessage *one = field_message_copy(&apply->cli->arena, object->members[first + request.n_requests]->request);
        if (!one)
            return cli_fail(CLI_FAILED, "no memory");
        field_set_text(one, "prompt_id", object->references[1]->id);
        request.requests[request.n_requests] = (execution_request *)one;
    }
    int code = apply_call_once(apply, object->kind->create, &request.base, object->found_count, &reply);
    return code == CLI_OK ? check_verdicts(object, (const Forge__V1__RecordExecutionsResponse *)reply, first) : code;
}

int apply_run_executions(struct apply *apply, struct apply_object *object)
{
    int code = CLI_OK;
    for (size_t first = 0; code == CLI_OK && first < object->missing_count; first += BATCH) {
        size_t left = object->missing_count - first;
        code = record(apply, object, first, left < BATCH ? left : BATCH);
    }
    return code;
}
