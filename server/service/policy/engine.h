/* What a server keeps for policies: the books of the organizations that asked lately, and what was counted since the last second. One per
 * server; app makes it and tells it of changes.
 *
 * A book is made by the first call that needs it and dropped when the change feed tells of a change; a call never gets one that is older
 * than a second (db/change_feed.h). Vectorscan is prepared by a thread of its own, while calls use the book already. */
#ifndef SERVER_SERVICE_POLICY_ENGINE_H
#define SERVER_SERVICE_POLICY_ENGINE_H

#include "base/metrics.h"
#include "db/change_feed.h"
#include "db/pool.h"
#include "rpc/call.h"

#include "forge/v1/policy.pb-c.h"

struct policy_book;
struct policy_counts;
struct policy_engine;

struct policy_engine_config {
    struct db_pool *pool;                      /* for what is counted: one connection */
    struct forge_byte_budget *budget;          /* of the process; may be NULL */
    struct base_metrics *metrics;              /* outlives the engine */
    unsigned organizations_max;                /* whose books are kept, at least 1; the one used longest ago makes room */
    uint64_t (*feed_last_poll_ms)(void *user); /* db_change_feed_last_poll_ms */
    void *user;
};
/* Starts two threads. RESOURCE_EXHAUSTED without memory or threads. */
forge_code policy_engine_new(const struct policy_engine_config *config, struct policy_engine **out,
                             struct forge_error *error) FORGE_MUST_CHECK;
/* No call and no listener uses it any more. Writes what was counted, for at most 2 s. Accepts NULL. */
void policy_engine_free(struct policy_engine *engine);

/* A change of kind "policy" makes the next call read the organization's policies again, one of kind "project" forgets its projects, others
 * are ignored. Have the signatures of struct db_change_listener, user = the engine. */
void policy_engine_changed(const struct db_change *change, void *engine);
void policy_engine_reset(void *engine);

/* The book of the call's organization, with a reference (policy_book_unref). UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED:
 * call->error says why. */
forge_code policy_engine_book(struct policy_engine *engine, struct rpc_call *call, struct policy_book **out) FORGE_MUST_CHECK;
/* Is the project known to exist? If not, the caller reads it and notes what it found; changes: of before the read, so that what was deleted
 * meanwhile is not noted. After policy_engine_book(). */
bool policy_engine_knows_project(struct policy_engine *engine, const struct forge_uuid *organization_id,
                                 const struct forge_uuid *project_id, uint64_t *out_changes);
void policy_engine_note_project(struct policy_engine *engine, const struct forge_uuid *organization_id, const struct forge_uuid *project_id,
                                uint64_t changes);
struct policy_counts *policy_engine_counts(struct policy_engine *engine);
/* For the metrics: what CheckPolicies answered. */
void policy_engine_note_check(struct policy_engine *engine, Forge__V1__PolicyAction action);

#endif
