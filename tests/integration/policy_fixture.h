/* Published policies, put into the database as PublishPolicy leaves them, so that tests of what is in force need nothing else. Strings of
 * JSON have ' for ". */
#ifndef TESTS_INTEGRATION_POLICY_FIXTURE_H
#define TESTS_INTEGRATION_POLICY_FIXTURE_H

#include <stddef.h>

/* Runs statements as superuser. */
typedef void policy_execute(const char *sql);

struct policy_put {
    const char *organization_id, *project_id; /* project NULL: of the organization */
    const char *name, *mode;                  /* mode NULL: enforce */
    const char *rules;                        /* "[{'name': 'r', 'action': 'POLICY_ACTION_FLAG', 'keyword': {'keywords': ['x']}}]" */
    const char *attachments;                  /* rows of position, target_kind, project_id, label, model_id, as in VALUES; NULL: none */
};
/* A new policy with version 1, and the change that servers hear of. */
void policy_fixture_put(policy_execute *execute, const struct policy_put *policy, char out_id[37]);
/* The next version of a policy. */
void policy_fixture_publish(policy_execute *execute, const char *organization_id, const char *id, int version, const char *mode,
                            const char *rules);
/* Tells servers that something about the policy has changed. */
void policy_fixture_tell(policy_execute *execute, const char *organization_id, const char *id);

#endif
