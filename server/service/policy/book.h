/* A book: the published policies of one organization as they stood in the database at one moment, compiled. Private to the policy service.
 *
 * It never changes, so any number of threads may read it; who holds a reference keeps it. */
#ifndef SERVER_SERVICE_POLICY_BOOK_H
#define SERVER_SERVICE_POLICY_BOOK_H

#include "policy/policy.h"
#include "rpc/call.h"

#include <stdatomic.h>

enum policy_target { POLICY_TARGET_ORGANIZATION, POLICY_TARGET_PROJECT, POLICY_TARGET_LABEL, POLICY_TARGET_MODEL };

struct policy_attachment {
    enum policy_target target;
    struct forge_uuid id; /* project or model */
    const char *label;
};

/* What of a rule about rates counting needs: the pure rules leave them out. */
struct policy_rate_rule {
    const char *name, *message; /* message: for its findings */
    Forge__V1__PolicyAction action;
    Forge__V1__Severity severity;
    Forge__V1__RateLimitKey key;
    int64_t window_s, calls_max, tokens_max;
};

struct policy_in_book {
    struct forge_uuid id, project_id; /* nil: of the organization */
    char id_text[FORGE_UUID_TEXT_SIZE];
    const char *name;
    int32_t version;
    Forge__V1__PolicyMode mode;
    const struct policy_attachment *attachments; /* none: in force everywhere in its project or organization */
    size_t attachment_count;
    const struct policy_rate_rule *rates; /* by name */
    size_t rate_count;
    bool asks_model, asks_cost, asks_tags;
};

struct policy_book {
    atomic_uint references;
    char digest[65]; /* of what was read: the same one, the same book */
    struct policy_in_book *policies;
    size_t policy_count;
    struct policy_set *set; /* NULL: they do not compile, failure says why */
    struct forge_error failure;
    uint64_t prepare_ns;
    struct forge_arena arena;
    bool is_handed_over, is_retired; /* these three are the engine's, under its lock */
    struct policy_book *next;
};

/* Reads the organization's policies on call->db (rpc_call_connect) and compiles them; known may be NULL. *out_book: a new one with one
 * reference, or known with one more where nothing has changed since it was read. Policies that do not compile make a book too, so that it
 * is not tried again for every call. */
forge_code policy_book_load(struct rpc_call *call, struct policy_book *known, struct policy_book **out_book) FORGE_MUST_CHECK;
struct policy_book *policy_book_ref(struct policy_book *book); /* returns it */
void policy_book_unref(struct policy_book *book);              /* accepts NULL */

#endif
