/* Violations on their way into the database: what a check found on a prompt version or a span, for the handlers of other services. */
#ifndef SERVER_SERVICE_POLICY_VIOLATION_WRITE_H
#define SERVER_SERVICE_POLICY_VIOLATION_WRITE_H

#include "db/column.h"
#include "service/policy/in_force.h"

/* A row of policy_violations. Texts are NULL, ids nil and bytes without data where there is none. */
struct policy_violation {
    struct forge_uuid id, project_id, policy_id;
    int32_t policy_version;
    const char *policy_name, *rule, *action;
    int32_t severity;
    const char *mode, *stage, *message, *ranges;
    struct forge_uuid prompt_id;
    int32_t prompt_version; /* 0 = none */
    struct db_bytes content_hash, trace_id, span_id;
    const char *label, *model;
    struct forge_uuid actor_id;
    struct db_bytes finding_hash;
};

/* What was checked. */
struct policy_checked {
    /* What makes a finding of the same rule of the same policy version the same finding: the span, or the request that made a version. */
    struct db_bytes identity;
    const char *const *fields; /* by text of the subject: its path in what was checked */
    struct forge_uuid prompt_id;
    int32_t prompt_version;
    struct db_bytes content_hash, trace_id, span_id;
    const char *label, *model;
};

struct policy_violations {
    struct policy_violation *list;
    size_t count;
};

/* One for each rule that was found, at whichever stages. Lives in the arena of the review's call. RESOURCE_EXHAUSTED: no memory. */
forge_code policy_violations_make(const struct policy_review *review, const struct policy_decision *decision,
                                  const struct policy_checked *checked, struct policy_violations *out) FORGE_MUST_CHECK;
/* Queues the statement that writes them into the transaction of the session; those that were written before stay as they are. Puts them
 * into the order of their keys, so that transactions that write the same ones wait for each other in one direction only. */
void policy_violations_queue(struct db_session *db, const struct forge_uuid *organization_id, int64_t now_us,
                             const struct policy_violation **violations, size_t count);

#endif
