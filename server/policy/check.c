/* Checks texts and facts against a set. */
#include "policy/detect.h"
#include "policy/policy_private.h"

#include "evaluate/json_schema.h"
#include "evaluate/json_value.h"
#include "evaluate/pattern.h"
#include "wire/clock.h"
#include "wire/envelope.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Bytes walked (pattern.h) by a pattern in a text: some milliseconds at most, and more for long texts. For each pattern by itself: what
     * one takes is nothing to the next, whose answer so never depends on whether vectorscan was there. */
    PATTERN_WORK = 1000 * 1000,
    PATTERN_WORK_PER_BYTE = 64
};

/* What a rule found in the texts of a stage. */
struct stage_found {
    struct policy_range *ranges; /* of the arena */
    size_t count, total;
    bool is_met;
    const char *sentence;
};

static bool deadline_has_passed(struct policy_check *check)
{
    uint64_t deadline = check->subject->deadline_ns;
    check->deadline_passed |= deadline != 0 && forge_clock_monotonic_ns() > deadline;
    return check->deadline_passed;
}

/* --- findings --- */

static const char *message_of(const struct policy_check *check, const struct policy_rule *rule, const char *sentence)
{
    return rule->description[0] == '\0' ? sentence : forge_arena_printf(check->arena, "%s %s", sentence, rule->description);
}

static void note_action(struct policy_check *check, const struct policy_rule *rule)
{
    if (rule->action > check->policy_action[rule->policy])
        check->policy_action[rule->policy] = rule->action;
    if (check->set->policies[rule->policy].mode == FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE && rule->action > check->action)
        check->action = rule->action;
}

static bool make_room(struct policy_check *check)
{
    size_t capacity = check->finding_capacity == 0 ? 16 : 2 * check->finding_capacity;
    struct policy_finding *findings = reallocarray(check->findings, capacity, sizeof findings[0]);
    if (findings == NULL)
        return false;
    check->findings = findings;
    check->finding_capacity = capacity;
    return true;
}

void policy_check_add(struct policy_check *check, const struct policy_rule *rule, int stage, const char *sentence,
                      const struct policy_range *ranges, size_t range_count)
{
    if (!(rule->stages & 1U << stage))
        return;
    note_action(check, rule);
    if (check->finding_count == POLICY_FINDINGS_MAX) {
        check->truncated = true;
        return;
    }
    if (check->finding_count == check->finding_capacity && !make_room(check)) {
        check->no_memory = true;
        return;
    }
    const struct policy_info *policy = &check->set->policies[rule->policy];
    const char *message = message_of(check, rule, sentence);
    check->no_memory |= message == NULL;
    check->findings[check->finding_count++] = (struct policy_finding){.policy = rule->policy,
                                                                      .policy_id = policy->id,
                                                                      .policy_version = policy->version,
                                                                      .rule = rule->name,
                                                                      .action = rule->action,
                                                                      .severity = rule->severity,
                                                                      .mode = policy->mode,
                                                                      .stage = (Forge__V1__PolicyStage)stage,
                                                                      .message = message,
                                                                      .ranges = ranges,
                                                                      .range_count = range_count};
}

static bool is_masking(const struct policy_check *check, const struct policy_rule *rule)
{
    return rule->action == FORGE__V1__POLICY_ACTION__POLICY_ACTION_MASK &&
           check->set->policies[rule->policy].mode == FORGE__V1__POLICY_MODE__POLICY_MODE_ENFORCE;
}

/* Takes a place over into the finding and, for masks, into the text's. */
static void take_place(struct policy_check *check, const struct policy_rule *rule, size_t text, const struct policy_place *place,
                       struct stage_found *found)
{
    found->is_met = true;
    if (found->ranges == NULL)
        found->ranges = forge_arena_calloc(check->arena, POLICY_RANGES_MAX, sizeof found->ranges[0]);
    if (found->ranges == NULL)
        check->no_memory = true;
    else if (found->count < POLICY_RANGES_MAX)
        found->ranges[found->count++] =
            (struct policy_range){.text = text, .begin = place->begin, .end = place->end, .pii_kind = place->pii_kind};
    struct policy_place masked = *place;
    masked.rule = (size_t)(rule - check->set->rules);
    if (is_masking(check, rule) && place->end > place->begin)
        check->no_memory |= !policy_ranges_add(&check->scans[text].masks, &masked);
}

/* --- patterns --- */

static void ask_vectorscan(struct policy_check *check, size_t text)
{
    struct policy_text_scan *scan = &check->scans[text];
    const struct policy_text *of = &check->subject->texts[text];
    struct policy_accelerator *accelerator = atomic_load_explicit(&check->set->accelerator, memory_order_acquire);
    if (scan->may_match != NULL)
        return;
    scan->may_match = malloc(check->set->pattern_count + 1);
    if (scan->may_match == NULL) {
        check->no_memory = true;
        return;
    }
    memset(scan->may_match, true, check->set->pattern_count);
    scan->is_accelerated = accelerator != NULL && policy_accelerator_scan(accelerator, of->bytes, of->size, scan->may_match);
}

/* True when the pattern met its limits; the text that was not searched is the last place then. */
static bool find_pattern(struct policy_check *check, size_t text, size_t pattern_index, struct policy_ranges *places)
{
    const struct policy_text *of = &check->subject->texts[text];
    const struct policy_pattern *pattern = &check->set->patterns[pattern_index];
    uint64_t work = PATTERN_WORK + (uint64_t)PATTERN_WORK_PER_BYTE * of->size;
    struct evaluate_search *search = evaluate_search_begin(pattern->compiled, of->bytes, of->size, &work);
    enum evaluate_match result = EVALUATE_MATCH_NO_MEMORY;
    struct policy_place place = {0};
    const char *limit;
    while (search != NULL && !check->no_memory &&
           (result = evaluate_search_next(search, &place.begin, &place.end, &limit)) == EVALUATE_MATCH_YES)
        check->no_memory |= !policy_ranges_add(places, &place);
    evaluate_search_end(search);
    check->no_memory |= result == EVALUATE_MATCH_NO_MEMORY;
    if (result != EVALUATE_MATCH_LIMIT)
        return false;
    if (!check->scans[text].is_accelerated && policy_pattern_is_excluded(pattern, of->bytes, of->size))
        return false;
    check->no_memory |= !policy_ranges_add(places, &place);
    return true;
}

static void find_patterns(struct policy_check *check, const struct policy_rule *rule, size_t text, struct stage_found *found)
{
    struct policy_ranges places = {0};
    bool met_limit = false;
    ask_vectorscan(check, text);
    for (size_t i = rule->first_pattern; i < rule->first_pattern + rule->pattern_count && !check->no_memory; i++)
        if (check->scans[text].may_match[i] && !deadline_has_passed(check))
            met_limit |= find_pattern(check, text, i, &places);
    policy_ranges_sort(&places);
    policy_ranges_merge(&places, false);
    for (size_t i = 0; i < places.count; i++)
        take_place(check, rule, text, &places.places[i], found);
    policy_ranges_free(&places);
    if (met_limit)
        found->sentence = "A pattern met its limits.";
    else if (found->sentence == NULL)
        found->sentence = "A pattern matches.";
}

/* --- keywords, personal data, secrets --- */

static void find_keywords(struct policy_check *check, const struct policy_rule *rule, size_t text, struct stage_found *found)
{
    struct policy_text_scan *scan = &check->scans[text];
    const struct policy_text *of = &check->subject->texts[text];
    found->sentence = "A keyword occurs.";
    if (scan->keyword_lists == NULL) {
        scan->keyword_lists = calloc(check->set->keyword_list_count, sizeof scan->keyword_lists[0]);
        enum policy_keyword_result result = POLICY_KEYWORD_NO_MEMORY;
        if (scan->keyword_lists != NULL)
            result = policy_keywords_find(check->set->keywords, of->bytes, of->size, check->subject->deadline_ns, scan->keyword_lists);
        check->no_memory |= result == POLICY_KEYWORD_NO_MEMORY;
        check->deadline_passed |= result == POLICY_KEYWORD_DEADLINE;
    }
    if (check->no_memory || check->deadline_passed)
        return;
    const struct policy_ranges *places = &scan->keyword_lists[rule->keyword_list];
    for (size_t i = 0; i < places->count; i++)
        take_place(check, rule, text, &places->places[i], found);
}

static void find_pii(struct policy_check *check, const struct policy_rule *rule, size_t text, struct stage_found *found)
{
    struct policy_text_scan *scan = &check->scans[text];
    const struct policy_text *of = &check->subject->texts[text];
    found->sentence = "There is personal data.";
    if (!scan->has_pii)
        check->no_memory |= !policy_find_pii(of->bytes, of->size, &scan->pii);
    scan->has_pii = true;
    for (size_t i = 0; i < scan->pii.count; i++)
        if (rule->pii_kinds & 1U << scan->pii.places[i].pii_kind)
            take_place(check, rule, text, &scan->pii.places[i], found);
}

static void find_secrets(struct policy_check *check, const struct policy_rule *rule, size_t text, struct stage_found *found)
{
    struct policy_text_scan *scan = &check->scans[text];
    const struct policy_text *of = &check->subject->texts[text];
    found->sentence = "There is a credential.";
    if (!scan->has_secrets)
        check->no_memory |= !policy_find_secrets(of->bytes, of->size, &scan->secrets);
    scan->has_secrets = true;
    for (size_t i = 0; i < scan->secrets.count; i++)
        if (scan->secrets.places[i].entropy >= rule->entropy_bits_min)
            take_place(check, rule, text, &scan->secrets.places[i], found);
}

/* --- JSON Schema --- */

static void check_schema(struct policy_check *check, const struct policy_rule *rule, size_t text, struct stage_found *found)
{
    struct policy_text_scan *scan = &check->scans[text];
    const struct policy_text *of = &check->subject->texts[text];
    char said[256];
    if (!scan->has_json)
        check->no_memory |= evaluate_json_read(of->bytes, of->size, &scan->json, said, sizeof said) == EVALUATE_JSON_NO_MEMORY;
    scan->has_json = true;
    enum json_schema_result result = JSON_SCHEMA_NOT_JSON;
    if (scan->json != NULL)
        result = json_schema_apply_value(rule->schema, scan->json, said, sizeof said, NULL);
    check->no_memory |= result == JSON_SCHEMA_NO_MEMORY;
    if (result == JSON_SCHEMA_FITS || found->is_met)
        return;
    found->is_met = true;
    if (result == JSON_SCHEMA_NOT_JSON)
        found->sentence = "The output is not JSON.";
    else
        found->sentence =
            result == JSON_SCHEMA_LIMIT ? "Checking the output against the schema met its limits." : "The output does not fit the schema.";
}

/* --- all --- */

typedef void find_in_text(struct policy_check *check, const struct policy_rule *rule, size_t text, struct stage_found *found);

/* NULL for rules that are not about texts. */
static find_in_text *finder_of(Forge__V1__PolicyRule__KindCase kind)
{
    static find_in_text *const finders[] = {
        [FORGE__V1__POLICY_RULE__KIND_PATTERN] = find_patterns,
        [FORGE__V1__POLICY_RULE__KIND_KEYWORD] = find_keywords,
        [FORGE__V1__POLICY_RULE__KIND_PII] = find_pii,
        [FORGE__V1__POLICY_RULE__KIND_SECRET] = find_secrets,
        [FORGE__V1__POLICY_RULE__KIND_OUTPUT_SCHEMA] = check_schema,
    };
    return (size_t)kind < sizeof finders / sizeof finders[0] ? finders[kind] : NULL;
}

static void check_rule(struct policy_check *check, const struct policy_rule *rule)
{
    find_in_text *find = finder_of(rule->kind);
    if (find == NULL) {
        policy_check_facts(check, rule);
        return;
    }
    for (int stage = STAGE_PROMPT; stage < STAGES; stage++) {
        struct stage_found found = {0};
        for (size_t text = 0; text < check->subject->text_count && !check->no_memory && !check->deadline_passed; text++)
            if ((int)check->subject->texts[text].stage == stage && (rule->stages & 1U << stage))
                find(check, rule, text, &found);
        if (found.is_met)
            policy_check_add(check, rule, stage, found.sentence, found.ranges, found.count);
    }
}

static void check_rules(struct policy_check *check)
{
    const struct policy_set *set = check->set;
    for (size_t i = 0; i < set->rule_count && !check->no_memory; i++) {
        const struct policy_rule *rule = &set->rules[i];
        bool in_force = check->subject->in_force == NULL || check->subject->in_force[rule->policy];
        if (in_force && !deadline_has_passed(check))
            check_rule(check, rule);
    }
}

static const char *const *masks_make(struct policy_check *check)
{
    size_t count = check->subject->text_count;
    const char **masked = forge_arena_calloc(check->arena, count + 1, sizeof masked[0]);
    check->no_memory |= masked == NULL;
    for (size_t i = 0; i < count && !check->no_memory; i++)
        if (check->scans[i].masks.count > 0) {
            masked[i] = policy_mask(check->set, &check->subject->texts[i], &check->scans[i].masks, check->arena);
            check->no_memory |= masked[i] == NULL;
        }
    return masked;
}

static void decision_make(struct policy_check *check, struct policy_decision *out)
{
    const struct policy_finding *findings =
        forge_arena_memdup(check->arena, check->findings, check->finding_count * sizeof check->findings[0]);
    check->no_memory |= findings == NULL;
    *out = (struct policy_decision){.action = check->action,
                                    .policy_action = check->policy_action,
                                    .findings = findings,
                                    .finding_count = check->finding_count,
                                    .findings_truncated = check->truncated,
                                    .masked = masks_make(check)};
}

static void scan_done(struct policy_text_scan *scan, size_t keyword_lists)
{
    for (size_t i = 0; scan->keyword_lists != NULL && i < keyword_lists; i++)
        policy_ranges_free(&scan->keyword_lists[i]);
    free(scan->keyword_lists);
    free(scan->may_match);
    policy_ranges_free(&scan->pii);
    policy_ranges_free(&scan->secrets);
    policy_ranges_free(&scan->masks);
    json_decref(scan->json);
}

forge_code policy_set_check(const struct policy_set *set, const struct policy_subject *subject, struct forge_arena *arena,
                            struct policy_decision *out)
{
    for (size_t i = 0; i < subject->text_count; i++)
        if (!forge_utf8_is_valid((const uint8_t *)subject->texts[i].bytes, subject->texts[i].size))
            return FORGE_INVALID_ARGUMENT;
    struct policy_check check = {.set = set, .subject = subject, .arena = arena};
    struct policy_decision decision = {0};
    check.scans = calloc(subject->text_count + 1, sizeof check.scans[0]);
    check.policy_action = forge_arena_calloc(arena, set->policy_count + 1, sizeof check.policy_action[0]);
    check.no_memory = check.scans == NULL || check.policy_action == NULL;
    check_rules(&check);
    if (!check.no_memory && !check.deadline_passed)
        decision_make(&check, &decision);
    for (size_t i = 0; check.scans != NULL && i < subject->text_count; i++)
        scan_done(&check.scans[i], set->keyword_list_count);
    free(check.scans);
    free(check.findings);
    if (check.no_memory || check.deadline_passed)
        return check.no_memory ? FORGE_RESOURCE_EXHAUSTED : FORGE_DEADLINE_EXCEEDED;
    *out = decision;
    return FORGE_OK;
}
