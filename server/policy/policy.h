/* Rules of policies (proto/forge/v1/policy.proto) as pure functions: texts and facts are checked against the published versions that are in
 * force, and the answer says what to do. Nothing here waits or has state. Deterministic: rate limits, which are not, are checked for their
 * form only and are the service's.
 *
 * A pattern that meets its limits is a finding (it fails closed): its range is the text that was not searched, and masking replaces all of
 * it. So is a schema that meets them. Vectorscan narrows down which patterns PCRE2 has to look at. It never changes an answer: what PCRE2
 * gives up on, vectorscan is asked about in any case. */
#ifndef SERVER_POLICY_POLICY_H
#define SERVER_POLICY_POLICY_H

#include "wire/arena.h"
#include "wire/status.h"

#include "forge/v1/policy.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    POLICY_RULES_MAX = 256,
    POLICY_NAME_BYTES_MAX = 64,
    POLICY_DESCRIPTION_CHARACTERS_MAX = 1024,
    POLICY_RULE_PATTERNS_MAX = 100,
    POLICY_RULE_KEYWORDS_MAX = 1000,
    POLICY_KEYWORD_CHARACTERS_MAX = 255,
    POLICY_RULE_MODELS_MAX = 256,
    POLICY_RULE_TAGS_MAX = 64,
    POLICY_RATE_WINDOW_S_MAX = 86400,
    /* Of all policies of a set together, so that preparing it and looking through it have a bound. */
    POLICY_SET_PATTERNS_MAX = 4096,
    POLICY_SET_PATTERN_BYTES_MAX = 512 * 1024,
    POLICY_SET_KEYWORD_BYTES_MAX = 1024 * 1024,
    POLICY_SET_SCHEMA_BYTES_MAX = 1024 * 1024,
    POLICY_SET_COMPILED_BYTES_MAX = 80 << 20, /* of its patterns and those of its schemas: a few seconds */
    /* Of an answer. */
    POLICY_FINDINGS_MAX = 1000,
    POLICY_RANGES_MAX = 100,
    POLICY_MASKED_GROWTH_MAX = 1024 * 1024 /* a text that masks make longer by more is replaced from its first range to its last */
};

/* One published version, or a draft to be checked. Texts are terminated, well-formed UTF-8. */
struct policy_source {
    const char *id;
    int32_t version;
    Forge__V1__PolicyMode mode;
    const Forge__V1__PolicyRule *const *rules;
    size_t rule_count;
};

/* Policies with what they need (compiled patterns, keywords, schemas). Any thread, many at once. */
struct policy_set;

/* Checks the rules and prepares them; the messages and ids are not needed afterwards. INVALID_ARGUMENT: each fault is added to *error as a
 * violation in the arena, with a path such as "rules[3].pattern.patterns[0]", before it "policies[2]." where there are several; code and
 * message of *error stay as they are. A set above the limits of a set is INVALID_ARGUMENT with the path "rules" (or "policies").
 * RESOURCE_EXHAUSTED: no memory. The caller frees *out, which is NULL after a failure. Takes up to some milliseconds for each pattern and
 * schema. No policies at all are a set too. */
forge_code policy_set_prepare(const struct policy_source *policies, size_t count, struct forge_arena *arena, struct forge_error *error,
                              struct policy_set **out) FORGE_MUST_CHECK;
/* What its patterns and those of its schemas take compiled; a little more or less on another processor. */
size_t policy_set_compiled_bytes(const struct policy_set *set);
/* Accepts NULL. Nobody checks any more, and policy_set_accelerate() has returned. */
void policy_set_free(struct policy_set *set);

/* Prepares vectorscan for the set's patterns, which takes up to seconds: for a background thread, once for a set, while others check
 * already. False when there is no memory or vectorscan refuses (said is why): the set stays as it is. Patterns it cannot take stay with
 * PCRE2 alone; true also when no pattern is left for it. */
bool policy_set_accelerate(struct policy_set *set, char *said, size_t said_size);
/* How many patterns vectorscan looks at; 0 before policy_set_accelerate(). */
size_t policy_set_accelerated(const struct policy_set *set);

struct policy_text {
    Forge__V1__PolicyStage stage;
    const char *bytes; /* well-formed UTF-8 */
    size_t size;
};
/* What is checked. Rules whose facts are not given are not evaluated. */
struct policy_subject {
    const struct policy_text *texts;
    size_t text_count;
    const bool *in_force;                 /* by policy, in the order they were prepared; NULL: all */
    Forge__V1__PolicyStage model_stage;   /* PROMPT for a prompt version, INPUT for a call; unspecified: no model is given */
    const char *model_id;                 /* NULL or "": a model that is in no list */
    const Forge__V1__TokenUsage *usage;   /* NULL: not known */
    bool has_cost, has_latency, has_tags; /* has_tags: there is a prompt, perhaps without tags */
    int64_t cost_micros, latency_ms;
    const char *const *tags; /* names */
    size_t tag_count;
    uint64_t deadline_ns; /* of forge_clock_monotonic_ns(); 0: none */
};

struct policy_range {
    size_t text; /* which of the subject's */
    size_t begin, end;
    Forge__V1__PiiKind pii_kind;
};
/* A rule that was met at a stage. Texts and ids live in the set or the arena. */
struct policy_finding {
    size_t policy; /* in the order they were prepared */
    const char *policy_id;
    int32_t policy_version;
    const char *rule;
    Forge__V1__PolicyAction action;
    Forge__V1__Severity severity;
    Forge__V1__PolicyMode mode;
    Forge__V1__PolicyStage stage;
    const char *message;               /* never holds the matched text */
    const struct policy_range *ranges; /* ascending, not overlapping but for personal data; at most POLICY_RANGES_MAX */
    size_t range_count;
};
struct policy_decision {
    Forge__V1__PolicyAction action;               /* the strictest of policies that enforce */
    const Forge__V1__PolicyAction *policy_action; /* by policy: the strictest of its findings, dry run or not; for statistics */
    const struct policy_finding *findings;        /* by policy id, rule and stage; at most POLICY_FINDINGS_MAX */
    size_t finding_count;
    bool findings_truncated;
    /* By text: with all ranges to mask replaced by "[<rule>]", terminated; NULL where nothing is to be masked. Ranges that overlap or touch
     * are replaced as one, by the rule whose range begins first, of these the longest, of these the first by policy id and rule. */
    const char *const *masked;
};

/* Everything in *out lives in the arena or the set. RESOURCE_EXHAUSTED: no memory. DEADLINE_EXCEEDED: it passed, which is looked at between
 * any two rules and patterns; each of them is bounded. INVALID_ARGUMENT: a text is no UTF-8. *out is untouched then. */
forge_code policy_set_check(const struct policy_set *set, const struct policy_subject *subject, struct forge_arena *arena,
                            struct policy_decision *out) FORGE_MUST_CHECK;

#endif
