#include "service/policy/in_force.h"

#include "service/policy/book.h"
#include "service/policy/count.h"
#include "service/policy/engine.h"

#include <string.h>

/* --- where policies are in force ------------------------------------------------------------------------------------- */

/* With some label and some model? */
static bool may_be_in_force(const struct policy_in_book *policy, const struct forge_uuid *project_id)
{
    if (!forge_uuid_is_nil(&policy->project_id) && !forge_uuid_equal(&policy->project_id, project_id))
        return false;
    for (size_t i = 0; i < policy->attachment_count; i++) {
        const struct policy_attachment *attachment = &policy->attachments[i];
        if (attachment->target != POLICY_TARGET_PROJECT || forge_uuid_equal(&attachment->id, project_id))
            return true;
    }
    return policy->attachment_count == 0;
}

/* Of one that may be in force in the project. */
static bool is_in_force(const struct policy_in_book *policy, const struct forge_uuid *project_id, const char *label,
                        const struct forge_uuid *model_id)
{
    for (size_t i = 0; i < policy->attachment_count; i++) {
        const struct policy_attachment *attachment = &policy->attachments[i];
        bool fits = false;
        switch (attachment->target) {
        case POLICY_TARGET_ORGANIZATION:
            fits = true;
            break;
        case POLICY_TARGET_PROJECT:
            fits = forge_uuid_equal(&attachment->id, project_id);
            break;
        case POLICY_TARGET_LABEL:
            fits = label != NULL && strcmp(attachment->label, label) == 0;
            break;
        case POLICY_TARGET_MODEL:
            fits = model_id != NULL && forge_uuid_equal(&attachment->id, model_id);
            break;
        }
        if (fits)
            return true;
    }
    return policy->attachment_count == 0;
}

static bool has_label(const struct policy_in_book *policy, const char *label)
{
    for (size_t i = 0; i < policy->attachment_count; i++)
        if (policy->attachments[i].target == POLICY_TARGET_LABEL && strcmp(policy->attachments[i].label, label) == 0)
            return true;
    return false;
}

/* --- reviews --------------------------------------------------------------------------------------------------------- */

static bool has_policy_in_project(const struct policy_book *book, const struct forge_uuid *project_id)
{
    for (size_t i = 0; i < book->policy_count; i++)
        if (may_be_in_force(&book->policies[i], project_id))
            return true;
    return false;
}

static forge_code choose(struct policy_review *review)
{
    struct rpc_call *call = review->call;
    const struct policy_book *book = review->book;
    review->policy_count = book->policy_count;
    review->in_project = forge_arena_calloc(call->arena, book->policy_count, sizeof *review->in_project);
    review->in_force = forge_arena_calloc(call->arena, book->policy_count, sizeof *review->in_force);
    review->tally = forge_arena_calloc(call->arena, book->policy_count, sizeof *review->tally);
    if (review->in_project == NULL || review->in_force == NULL || review->tally == NULL)
        return rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for %zu policies", book->policy_count);
    for (size_t i = 0; i < book->policy_count; i++) {
        const struct policy_in_book *policy = &book->policies[i];
        review->in_project[i] = may_be_in_force(policy, &review->project_id);
        if (!review->in_project[i])
            continue;
        review->asks_model |= policy->asks_model;
        review->asks_cost |= policy->asks_cost;
        review->asks_tags |= policy->asks_tags;
    }
    return FORGE_OK;
}

forge_code policy_review_begin(struct rpc_call *call, const struct forge_uuid *project_id, struct policy_review *out)
{
    *out = (struct policy_review){.call = call, .project_id = *project_id};
    forge_code code = policy_engine_book(rpc_server_settings(call->server)->policies, call, &out->book);
    if (code != FORGE_OK)
        return code;
    if (out->book->failure.code != FORGE_OK)
        return rpc_call_fail(call, out->book->failure.code, "the organization's policies do not compile, so nothing passes them: %s",
                             out->book->failure.message);
    return has_policy_in_project(out->book, project_id) ? choose(out) : FORGE_OK;
}

void policy_review_end(struct policy_review *review)
{
    if (review->tally != NULL)
        policy_counts_add(policy_engine_counts(rpc_server_settings(review->call->server)->policies), review);
    policy_book_unref(review->book);
    *review = (struct policy_review){0};
}

bool policy_review_select(struct policy_review *review, const char *label, const struct forge_uuid *model_id)
{
    bool any = false;
    for (size_t i = 0; i < review->policy_count; i++) {
        review->in_force[i] = review->in_project[i] && is_in_force(&review->book->policies[i], &review->project_id, label, model_id);
        any |= review->in_force[i];
    }
    return any;
}

bool policy_review_select_label(struct policy_review *review, const char *label)
{
    bool any = false;
    for (size_t i = 0; i < review->policy_count; i++) {
        review->in_force[i] = review->in_project[i] && has_label(&review->book->policies[i], label);
        any |= review->in_force[i];
    }
    return any;
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

/* What lives in the book must outlive it. */
static forge_code copy_texts(struct rpc_call *call, struct policy_decision *decision)
{
    struct policy_finding *findings = forge_arena_memdup(call->arena, decision->findings, decision->finding_count * sizeof *findings);
    for (size_t i = 0; findings != NULL && i < decision->finding_count; i++) {
        findings[i].policy_id = forge_arena_strdup(call->arena, findings[i].policy_id);
        findings[i].rule = forge_arena_strdup(call->arena, findings[i].rule);
        findings[i].message = forge_arena_strdup(call->arena, findings[i].message);
    }
    decision->findings = findings;
    return forge_arena_has_overflowed(call->arena) ? rpc_call_fail(call, FORGE_RESOURCE_EXHAUSTED, "no memory for what was found")
                                                   : FORGE_OK;
}

static forge_code say_why(struct rpc_call *call, forge_code code)
{
    if (code == FORGE_DEADLINE_EXCEEDED)
        return rpc_call_fail(call, code, "the policies were not checked before the deadline");
    if (code == FORGE_INVALID_ARGUMENT)
        return rpc_call_fail(call, code, "a text to check is not well-formed UTF-8");
    return rpc_call_fail(call, code, "no memory to check the policies");
}

forge_code policy_review_decide(const struct policy_review *review, const struct policy_subject *subject, struct policy_decision *out)
{
    struct rpc_call *call = review->call;
    struct policy_subject checked = *subject;
    checked.in_force = review->in_force;
    checked.deadline_ns = call->deadline_ns;
    forge_code code = policy_set_check(review->book->set, &checked, call->arena, out);
    if (code != FORGE_OK)
        return say_why(call, code);
    return out->finding_count > 0 ? copy_texts(call, out) : FORGE_OK;
}

void policy_review_count(struct policy_review *review, const Forge__V1__PolicyAction *action)
{
    for (size_t i = 0; i < review->policy_count; i++)
        review->tally[i].by_action[action[i]] += review->in_force[i];
}

forge_code policy_review_check(struct policy_review *review, const struct policy_subject *subject, struct policy_decision *out)
{
    forge_code code = policy_review_decide(review, subject, out);
    if (code == FORGE_OK)
        policy_review_count(review, out->policy_action);
    return code;
}

void policy_review_reference(const struct policy_review *review, size_t policy, struct policy_reference *out)
{
    const struct policy_in_book *found = &review->book->policies[policy];
    out->id = found->id;
    out->id_text = forge_arena_strdup(review->call->arena, found->id_text);
    out->name = forge_arena_strdup(review->call->arena, found->name);
    out->version = found->version;
}
