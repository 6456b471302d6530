/* What the handlers of policies share. Private to the policy service. */
#ifndef SERVER_SERVICE_POLICY_POLICY_H
#define SERVER_SERVICE_POLICY_POLICY_H

#include "db/row.h"
#include "rpc/call.h"
#include "wire/crypto.h"

#include "forge/v1/policy.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    POLICIES_MAX = 1000, /* of an organization and its projects */
    POLICY_ATTACHMENTS_MAX = 256,
    POLICY_MESSAGE_CHARACTERS_MAX = 1024,
    POLICY_RULES_BYTES_MAX = 1 << 20, /* of a draft, packed: draft and published version fit one reply */
    /* Of all policies of an organization that are in force, beside what policy/policy.h sets for a set. */
    POLICY_IN_FORCE_RULES_MAX = 4096,
    POLICY_IN_FORCE_BYTES_MAX = 8 << 20, /* as they are stored */
    /* Less than a set may have: no server with another processor refuses what this one let be published. */
    POLICY_IN_FORCE_COMPILED_BYTES_MAX = 64 << 20
};

/* Columns of policy_get. */
forge_code policy_from_row(struct rpc_call *call, const struct db_row *row, Forge__V1__Policy *out) FORGE_MUST_CHECK;
/* Reads a policy as it is in this transaction; version 0 = the one in force. */
forge_code policy_read(struct rpc_call *call, const struct forge_uuid *id, const char *id_text, int32_t version,
                       Forge__V1__Policy *out) FORGE_MUST_CHECK;

/* Queues the lock that everything that changes policies takes first. */
void policy_queue_lock(struct rpc_call *call);
/* A key that is bound to a project may read the organization's policies, not change them. has_project: of the policy. */
forge_code policy_refuse_bound(struct rpc_call *call, bool has_project) FORGE_MUST_CHECK;
/* RESOURCE_EXHAUSTED when more is in force in the organization now than a set may hold, or it would not compile. Behind the lock and the
 * change. */
forge_code policy_refuse_in_force(struct rpc_call *call) FORGE_MUST_CHECK;

/* The checks of requests note violations. Rules: also compiles them and fills in what they leave out; fails where memory does. */
forge_code policy_rules_check(struct rpc_call *call, Forge__V1__PolicyRule *const *rules, size_t count) FORGE_MUST_CHECK;
void policy_attachments_check(struct rpc_call *call, Forge__V1__PolicyAttachment *const *attachments, size_t count);
/* For a policy of this project, "" = of the organization. */
void policy_attachments_check_place(struct rpc_call *call, Forge__V1__PolicyAttachment *const *attachments, size_t count,
                                    const char *project_id);

/* Replaces the attachments. NOT_FOUND names the first target that does not exist. */
forge_code policy_attach(struct rpc_call *call, const struct forge_uuid *id, Forge__V1__PolicyAttachment *const *attachments,
                         size_t count) FORGE_MUST_CHECK;

/* Announces what was done: a change, and the audit row with the policy before and after, NULL = there is none. Rules are told by hash. */
void policy_announce(struct rpc_call *call, const char *action, const struct forge_uuid *id, const Forge__V1__Policy *before,
                     const Forge__V1__Policy *after);

#endif
