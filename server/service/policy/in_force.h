/* The policies in force, for every handler that has something checked: CheckPolicies, new prompt versions, ingested spans.
 *
 *     struct policy_review review;
 *     rc = policy_review_begin(call, &project_id, &review);
 *     for each thing to check, while rc == FORGE_OK:
 *         if (policy_review_select(&review, label, &model_id)) {
 *             rc = policy_review_check(&review, &subject, &decision);
 *             ...
 *         }
 *     policy_review_end(&review);
 *
 * What was published, attached, disabled or deleted more than a second before the call began is taken into account, on every server. The
 * first call of an organization, and the first after a change of its policies, reads the database and compiles them; whoever comes
 * meanwhile waits for it. All others cost one look-up in memory. */
#ifndef SERVER_SERVICE_POLICY_IN_FORCE_H
#define SERVER_SERVICE_POLICY_IN_FORCE_H

#include "policy/policy.h"
#include "rpc/call.h"

/* The published policies of one organization, compiled; shared by calls. Private to the policy service. */
struct policy_book;

/* The part of one call that is checked against the policies of its organization, in one project. Its members are to be read only. */
struct policy_review {
    struct rpc_call *call;
    struct policy_book *book; /* a reference */
    struct forge_uuid project_id;
    size_t policy_count; /* of the organization: those indexes that findings name. 0 where no policy can be in force in the project */
    bool *in_project;    /* by policy: can be in force here, with some label and model */
    bool *in_force;      /* by policy: what policy_review_select() found */
    /* What policies that can be in force here ask for: who does not have it at hand need not read it where nobody asks. */
    bool asks_model; /* the model's id: they are attached to a model or have a list of allowed ones */
    bool asks_cost, asks_tags;
    struct policy_tally *tally; /* by policy */
};

/* Needs nothing but the call: its principal, its database session, which is used for the first load only (where call->db is NULL one is
 * leased then, rpc_call_connect), its deadline. Every review that was begun is ended, also one that failed to begin or was zeroed.
 * FAILED_PRECONDITION: the organization's policies do not compile, so nothing can be said to pass them. UNAVAILABLE, DEADLINE_EXCEEDED:
 * they could not be read in time. */
forge_code policy_review_begin(struct rpc_call *call, const struct forge_uuid *project_id, struct policy_review *out) FORGE_MUST_CHECK;
/* Counts what was checked for GetPolicyStats, and gives back the reference. */
void policy_review_end(struct policy_review *review);

/* Which policies are in force for a thing with this label and model; "" or NULL: it has none. False: not one, it need not be checked. */
bool policy_review_select(struct policy_review *review, const char *label, const struct forge_uuid *model_id);
/* The policies that are attached to this label, whatever else they are attached to: for versions that it is moved to. False: not one. */
bool policy_review_select_label(struct policy_review *review, const char *label);
/* Checks against what policy_review_select() found (subject->in_force and deadline_ns are not looked at) and counts the answer: each
 * policy in force was evaluated once. The decision lives in the call's arena, also after policy_review_end(). On failure call->error says
 * why, and nothing is counted; the codes are those of policy_set_check(). */
forge_code policy_review_check(struct policy_review *review, const struct policy_subject *subject,
                               struct policy_decision *out) FORGE_MUST_CHECK;

/* The same in two steps, for checks that count only once what was checked is stored. The second one counts for each policy that is selected
 * then that it was evaluated; action: the decision's policy_action. */
forge_code policy_review_decide(const struct policy_review *review, const struct policy_subject *subject,
                                struct policy_decision *out) FORGE_MUST_CHECK;
void policy_review_count(struct policy_review *review, const Forge__V1__PolicyAction *action);

/* A policy by its index (policy_finding.policy), before policy_review_end(). Texts are in the call's arena, NULL when that has overflowed.
 */
struct policy_reference {
    struct forge_uuid id;
    const char *id_text, *name;
    int32_t version;
};
void policy_review_reference(const struct policy_review *review, size_t policy, struct policy_reference *out);

#endif
