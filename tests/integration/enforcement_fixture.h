/* Policies that are in force, and what they left behind: for the tests of prompt versions and spans. JSON has ' for ". */
#ifndef TESTS_INTEGRATION_ENFORCEMENT_FIXTURE_H
#define TESTS_INTEGRATION_ENFORCEMENT_FIXTURE_H

#include "policy_fixture.h"
#include "service_fixture.h"

#define FLAG "'action': 'POLICY_ACTION_FLAG'"
#define MASK "'action': 'POLICY_ACTION_MASK'"
#define BLOCK "'action': 'POLICY_ACTION_BLOCK'"

/* A project of its own, so that no other test's policies are in force in it. */
void enforcement_project_make(const struct service_tenant *tenant, const char *name, char out_id[37]);
/* Publishes a policy of a project, and returns once it is in force. mode NULL: enforce; attachments as in struct policy_put; where: fields
 * of a check that the policy is in force for, such as "'label': 'live'", "" for any. */
void enforcement_begin(const struct service_tenant *tenant, const char *project_id, const char *name, const char *mode,
                       const char *attachments, const char *where, const char *rules, char out_id[37]);
/* Takes it out of force, and returns once it is. */
void enforcement_end(const struct service_tenant *tenant, const char *project_id, const char *policy_id, const char *where);
/* Violations of a policy, one after the other in the order of their rules: an expression over their columns. */
const char *enforcement_violations(const char *policy_id, const char *expression);
/* An expression for it: "field start-end, ..." */
extern const char enforcement_ranges[];
/* "evaluated passed flagged masked blocked" of a policy, once so many were evaluated; the checks of this fixture count too, and are left
 * out. */
const char *enforcement_counts(const char *policy_id, long evaluated);

#endif
