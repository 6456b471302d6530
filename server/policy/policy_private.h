/* What preparing (prepare.c), checking (check.c, facts.c, mask.c) and vectorscan (accelerate.c) share. */
#ifndef SERVER_POLICY_POLICY_PRIVATE_H
#define SERVER_POLICY_POLICY_PRIVATE_H

#include "policy/keyword.h"
#include "policy/policy.h"
#include "policy/ranges.h"

#include <stdatomic.h>

enum {
    STAGE_PROMPT = FORGE__V1__POLICY_STAGE__POLICY_STAGE_PROMPT,
    STAGE_INPUT = FORGE__V1__POLICY_STAGE__POLICY_STAGE_INPUT,
    STAGE_OUTPUT = FORGE__V1__POLICY_STAGE__POLICY_STAGE_OUTPUT,
    STAGES = STAGE_OUTPUT + 1
};

struct evaluate_pattern;
struct json_schema;
struct policy_accelerator;

struct policy_pattern {
    char *text;
    struct evaluate_pattern *compiled;
    bool ignore_case;
};
struct policy_rule {
    size_t policy; /* as prepared */
    char name[POLICY_NAME_BYTES_MAX + 1];
    char *description;
    Forge__V1__PolicyAction action;
    Forge__V1__Severity severity;
    unsigned stages; /* bit 1 << stage */
    Forge__V1__PolicyRule__KindCase kind;
    size_t first_pattern, pattern_count; /* of the set's */
    size_t keyword_list;
    unsigned pii_kinds; /* bit 1 << kind */
    double entropy_bits_min;
    bool formats_only;
    char **names; /* model ids or tags */
    size_t name_count;
    int64_t limits[3];
    struct json_schema *schema;
};
struct policy_info {
    char *id;
    int32_t version;
    Forge__V1__PolicyMode mode;
};
struct policy_set {
    struct policy_info *policies;
    size_t policy_count;
    struct policy_rule *rules; /* by policy id, then name */
    size_t rule_count;
    struct policy_pattern *patterns;
    size_t pattern_count, pattern_bytes;
    struct policy_keyword *keyword_texts;
    size_t keyword_count, keyword_bytes, keyword_list_count;
    size_t schema_bytes, compiled_bytes;
    struct policy_keywords *keywords;
    _Atomic(struct policy_accelerator *) accelerator; /* NULL until it is ready */
};

/* What is known of one text, found out when the first rule asks for it. */
struct policy_text_scan {
    bool has_pii, has_secrets, has_json;
    struct policy_ranges pii, secrets;
    struct policy_ranges *keyword_lists; /* NULL until they are looked for */
    bool *may_match;                     /* by pattern: what vectorscan said; NULL until it was asked */
    bool is_accelerated;
    struct json_t *json; /* NULL: it is not JSON */
    struct policy_ranges masks;
};

/* Findings as they are made. */
struct policy_check {
    const struct policy_set *set;
    const struct policy_subject *subject;
    struct forge_arena *arena;
    struct policy_text_scan *scans; /* by text */
    struct policy_finding *findings;
    size_t finding_count, finding_capacity;
    bool truncated, no_memory, deadline_passed;
    Forge__V1__PolicyAction action, *policy_action;
};
/* Notes that a rule was met. sentence: static; ranges: of the arena. */
void policy_check_add(struct policy_check *check, const struct policy_rule *rule, int stage, const char *sentence,
                      const struct policy_range *ranges, size_t range_count);
/* Rules about the call and not its texts. */
void policy_check_facts(struct policy_check *check, const struct policy_rule *rule);

/* A text with its places replaced; sorts and merges them. In the arena; NULL: no memory. */
const char *policy_mask(const struct policy_set *set, const struct policy_text *text, struct policy_ranges *places,
                        struct forge_arena *arena);

/* --- vectorscan (accelerate.c) --- */

/* Sets may_match, one per pattern of the set, to whether it may match the text; false when nothing is known: all may. */
bool policy_accelerator_scan(struct policy_accelerator *accelerator, const char *text, size_t size, bool *may_match);
/* Asked where PCRE2 gave up and there is no accelerator yet, so that both ways have one answer: whether it would have said that the pattern
 * has no match. Compiles the pattern, in some milliseconds. */
bool policy_pattern_is_excluded(const struct policy_pattern *pattern, const char *text, size_t size);
/* Accepts NULL. */
void policy_accelerator_free(struct policy_accelerator *accelerator);

#endif
