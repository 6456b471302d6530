/* The plan, carried out. */
#include "apply.h"
#include "apply_fields.h"

#include <string.h>

ProtobufCMessage *apply_create_request(struct apply *apply, const struct apply_object *object)
{
    ProtobufCMessage *request = field_message_new(&apply->cli->arena, object->kind->shape.type);
    if (!request)
        return NULL;
    memcpy(request, object->manifest->request, object->kind->shape.type->sizeof_message);
    for (size_t i = 0; object->kind->references[i].field; i++)
        if (object->references[i])
            field_set_text(request, object->kind->references[i].id_field, object->references[i]->id);
    return request;
}

static int run_resource(struct apply *apply, struct apply_object *object)
{
    ProtobufCMessage *reply;
    if (object->action == APPLY_UPDATE)
        return object->update ? apply_call(apply, object->kind->update, object->update, &reply) : CLI_OK;
    ProtobufCMessage *request = apply_create_request(apply, object);
    if (!request)
        return cli_fail(CLI_FAILED, "no memory");
    int code = apply_call(apply, object->kind->create, request, &reply);
    if (code == CLI_OK)
        object->id = field_text(reply, "id");
    return code;
}

static int run_object(struct apply *apply, struct apply_object *object)
{
    switch (object->kind->style) {
    case MANIFEST_ORGANIZATION:
        return apply_run_organization(apply, object);
    case MANIFEST_MODEL: {
        int code = run_resource(apply, object);
        return code == CLI_OK ? apply_run_prices(apply, object) : code;
    }
    case MANIFEST_PROMPT:
        return apply_run_prompt(apply, object);
    case MANIFEST_EXECUTION:
        return apply_run_executions(apply, object);
    case MANIFEST_LABEL:
        return apply_run_label(apply, object);
    case MANIFEST_PROTECTION:
        return apply_run_protection(apply, object);
    case MANIFEST_DATASET: {
        int code = run_resource(apply, object);
        return code == CLI_OK ? apply_run_items(apply, object) : code;
    }
    case MANIFEST_EVALUATION:
        return apply_run_evaluation(apply, object);
    case MANIFEST_POLICY:
        return apply_run_policy(apply, object);
    case MANIFEST_TRACE:
        return apply_run_trace(apply, object);
    case MANIFEST_SCORE:
        return apply_run_score(apply, object);
    case MANIFEST_RESOURCE:
        break;
    }
    return run_resource(apply, object);
}

/* When the policies of the manifest have to be in force. */
struct policies {
    bool have_changed; /* by this run */
    bool are_in_force; /* as far as they have been carried out */
};

/* Traces are judged by the policies of their manifest, also by those that an interrupted run has only just published. */
static int await_before(struct apply *apply, const struct apply_object *object, struct policies *policies)
{
    if (object->kind->style != MANIFEST_TRACE || policies->are_in_force)
        return CLI_OK;
    policies->are_in_force = true;
    return apply_await_policies(apply);
}

static int fail(int code, const struct apply_object *object, size_t done, size_t total)
{
    const struct manifest_position *at = &object->manifest->position;
    fprintf(stderr, "  That was %s \"%s\", %s:%lu:%lu. %zu of %zu steps are done and stay; apply again to go on.\n", object->kind->name,
            object->name, at->file, at->line, at->column, done, total);
    return code;
}

int apply_run(struct apply *apply)
{
    struct policies policies = {false, false};
    size_t total = 0, done = 0;
    for (const struct apply_object *object = apply->objects; object; object = object->next)
        total += object->action != APPLY_UNCHANGED;
    for (struct apply_object *object = apply->objects; object; object = object->next) {
        if (object->action == APPLY_UNCHANGED)
            continue;
        int code = await_before(apply, object, &policies);
        if (code == CLI_OK)
            code = run_object(apply, object);
        if (code != CLI_OK)
            return fail(code, object, done, total);
        policies.have_changed |= object->kind->style == MANIFEST_POLICY;
        fprintf(stderr, "[%zu/%zu] %s %s %s%s%s%s\n", ++done, total, object->action == APPLY_CREATE ? "created" : "updated",
                object->kind->name, object->name, *object->details ? " (" : "", object->details, *object->details ? ")" : "");
    }
    return policies.have_changed && !policies.are_in_force ? apply_await_policies(apply) : CLI_OK;
}
