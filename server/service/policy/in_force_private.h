/* What CheckPolicies needs of a review beyond in_force.h: it adds findings about rates before an answer is counted. */
#ifndef SERVER_SERVICE_POLICY_IN_FORCE_PRIVATE_H
#define SERVER_SERVICE_POLICY_IN_FORCE_PRIVATE_H

#include "service/policy/book.h"
#include "service/policy/in_force.h"

/* As policy_review_check(), counting nothing. */
forge_code policy_review_decide(const struct policy_review *review, const struct policy_subject *subject,
                                struct policy_decision *out) FORGE_MUST_CHECK;
/* Counts one answer: each policy in force was evaluated, action: the strictest of its findings, by policy. */
void policy_review_count(struct policy_review *review, const Forge__V1__PolicyAction *action);

#endif
