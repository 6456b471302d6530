/* Spans between the wire and the database. Checking, mapping and packing are pure: they look at the request and the call's arena only.
 * Private to the trace service. */
#ifndef SERVER_SERVICE_TRACE_SPAN_H
#define SERVER_SERVICE_TRACE_SPAN_H

#include "db/column.h"
#include "rpc/call.h"
#include "service/policy/violation_write.h"
#include "wire/crypto.h"

#include "forge/v1/trace.pb-c.h"

enum { TRACE_ID_BYTES = 16, TRACE_SPAN_ID_BYTES = 8, TRACE_NAME_CHARACTERS_MAX = 255, TRACE_NO_COST = -1 };

/* What became of a span that was to be stored. */
enum trace_outcome {
    TRACE_ACCEPTED,
    TRACE_DUPLICATE, /* the same content is stored under its identity */
    TRACE_CONFLICT,  /* other content is */
    TRACE_FULL,      /* its trace takes no more spans */
    TRACE_NO_DAY,    /* there is no partition for its day */
    TRACE_GONE,      /* what stood in its way was deleted at the same moment */
    TRACE_NO_PROJECT /* its project does not exist (any more) */
};

/* A span as columns. Texts are NULL and ids nil where there is none. */
struct trace_span {
    struct forge_uuid project_id;
    struct db_bytes trace_id, span_id, parent_span_id; /* the last without data: a root */
    int64_t start_ns, end_ns, started_us;
    const char *name, *status_message;
    int32_t kind, status;
    const char *provider, *model, *parameters;
    int64_t input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens;
    bool has_usage;
    int64_t cost_micros; /* TRACE_NO_COST = not known */
    bool cost_is_given;
    int64_t time_to_first_token_us;
    struct forge_uuid model_id, price_id, prompt_id;
    int32_t prompt_version;
    const char *prompt_label, *session_id, *user_id, *input, *output;
    struct db_bytes details; /* all that no column holds, as a packed Span */
    struct db_bytes content_hash;
    size_t packed_bytes;
    int32_t policy_action;                         /* Forge__V1__PolicyAction */
    struct policy_violations violations;           /* written when it is accepted */
    const Forge__V1__PolicyAction *policy_verdict; /* by policy, for statistics; NULL: none was in force */
    struct forge_uuid policy_model_id;             /* that they were selected by */
    enum trace_outcome outcome;
    size_t order;                   /* among the spans that are stored with it */
    const struct trace_span *first; /* of these, the one with the same identity that comes before it; NULL = none */
};

/* What a request says of all its spans that say nothing themselves, checked. */
struct trace_defaults {
    struct forge_uuid project_id;
    const Forge__V1__Resource *resource;
    const Forge__V1__InstrumentationScope *scope;
};
/* Violations are of the request: "resource.attributes[3].key". */
void trace_defaults_check(struct rpc_call *call, const Forge__V1__IngestSpansRequest *in, struct trace_defaults *out);

/* span_check.c: notes what the contract does not allow, with paths inside the span; and what does not fit its column, wherever it is from.
 */
void trace_span_check(struct rpc_call *call, const Forge__V1__Span *in);
void trace_columns_check(struct rpc_call *call, const struct trace_span *span);
/* A required trace_id or span_id. prefix: of its path, "" or with a dot at its end. */
void trace_id_check(struct rpc_call *call, const char *prefix, const char *text);
void trace_span_id_check(struct rpc_call *call, const char *prefix, const char *text);
/* span_map.c: fills the columns of a span that trace_span_check() found nothing against, from its fields and, where those are at their
 * defaults, from its attributes. Notes a prompt_id that is none. */
void trace_span_map(struct rpc_call *call, const Forge__V1__Span *in, struct trace_span *out);
/* The bytes of an id that was checked; without data for no digits. */
struct db_bytes trace_id_bytes(struct rpc_call *call, const char *digits);
/* span_pack.c: details and content_hash; the hash is of what was sent, whatever a later server makes columns of: of the ids in lower case,
 * the attributes of each list once and in the order of their keys, resource and scope filled in from the defaults. */
void trace_span_pack(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults, struct trace_span *out);
/* Makes the details anew from a span that policies have changed; the hash stays that of what was sent. */
void trace_details_pack(struct rpc_call *call, const Forge__V1__Span *in, const struct trace_defaults *defaults, struct trace_span *out);

/* What a request says and what was made of it. */
struct trace_batch {
    struct trace_defaults defaults;
    Forge__V1__Span *const *in; /* of the request */
    struct trace_span *spans;   /* that can be stored */
    size_t count, *index;       /* which one of the request each is */
    struct policy_review review;
};
/* span_policy.c: begins the review of the batch, which the caller ends. Checks each span against the policies in force, takes from its
 * columns and details what they do not let pass, and notes the violations, of which nothing is counted or written yet. Blocks. */
forge_code trace_policy_check(struct rpc_call *call, struct trace_batch *batch) FORGE_MUST_CHECK;
/* Counts what was checked of the spans that were accepted. */
void trace_policy_count(struct trace_batch *batch);

/* span_redact.c, for a span that the policies of the review are selected for. Blocked: neither column nor detail keeps a text that may be
 * of the input or output. */
forge_code trace_span_remove_content(const struct policy_review *review, const Forge__V1__Span *in, const struct trace_defaults *defaults,
                                     struct trace_span *span) FORGE_MUST_CHECK;
/* Masked: what the review's policies mask is masked in input, output and the rest of the span, also where JSON has escaped it. */
forge_code trace_span_mask_content(const struct policy_review *review, const Forge__V1__Span *in, const struct trace_defaults *defaults,
                                   struct trace_span *span) FORGE_MUST_CHECK;

#endif
